//! What a store consists of: logs, segments, and who may change them.

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::fs::flock;

use super::Segment;
use super::Store;
use super::StoreError;
use super::place;
use super::place::Meta;
use super::wal::io_error;
use crate::model::Host;

/// A log of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// A writer holds it.
    pub written_now: bool,
}

/// What a store consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Logs, oldest first.
    pub logs: Vec<LogFile>,
    /// Segments that count, oldest first, with their sizes.
    pub segments: Vec<(Segment, u64)>,
    /// Bytes of everything in its folder, segments that are replaced and what was put aside too.
    pub bytes: u64,
}

/// Held while the parts of a store are replaced: two at once would do the work twice.
#[derive(Debug)]
pub struct Upkeep {
    _lock: File,
    /// Held too where no writer may be there.
    _writer: Option<File>,
}

impl Store {
    /// Its parts.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn inventory(&self) -> Result<Inventory, StoreError> {
        let locked = locked_files();
        let mut logs = Vec::new();
        for path in self.logs()? {
            // A log that is compacted meanwhile is no log any more.
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            logs.push(LogFile {
                bytes: meta.len(),
                written_now: locked.contains(&meta.ino()),
                path,
            });
        }
        let segments = self.segments()?;
        let sized = segments.into_iter().map(|segment| {
            let bytes = segment.bytes();
            (segment, bytes)
        });
        Ok(Inventory {
            logs,
            segments: sized.collect(),
            bytes: bytes_below(self.folder()),
        })
    }

    /// Checks that this user and this host may change it.
    ///
    /// # Errors
    /// It is not there, somebody else's, open to others, of another host or of a later aiops.
    pub fn own(&self, host: &Host) -> Result<(), StoreError> {
        place::check_folder(self.folder())?;
        match Meta::read(self.folder())? {
            Some(meta) if !meta.is_of(host) => Err(StoreError::OtherHost {
                path: self.folder().to_path_buf(),
                hostname: meta.hostname,
            }),
            _ => Ok(()),
        }
    }

    /// Takes the lock of those who replace parts of it; with `alone`, the writer's too.
    ///
    /// # Errors
    /// Another one has it, or the system refuses.
    pub fn upkeep(&self, alone: bool) -> Result<Upkeep, StoreError> {
        let lock = |name: &str| -> Result<File, StoreError> {
            let path = self.folder().join(name);
            let file = place::private_file(&path).map_err(io_error(&path, "open the lock"))?;
            flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
                StoreError::Busy {
                    path: self.folder().to_path_buf(),
                }
            })?;
            Ok(file)
        };
        Ok(Upkeep {
            _lock: lock("upkeep.lock")?,
            _writer: alone.then(|| lock("lock")).transpose()?,
        })
    }
}

/// Inodes of files that somebody holds a lock on. Trying the lock would be in the way of a writer that starts.
fn locked_files() -> HashSet<u64> {
    let text = fs::read_to_string("/proc/locks").unwrap_or_default();
    // `1: FLOCK ADVISORY WRITE 4711 08:01:131 0 EOF`
    let lines = text.lines().filter(|line| line.contains(" FLOCK "));
    let inode = |line: &str| {
        let place = line.split_whitespace().nth(5)?;
        place.rsplit(':').next()?.parse().ok()
    };
    lines.filter_map(inode).collect()
}

/// Bytes of the files below a folder; what cannot be read counts nothing.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() {
            bytes_below(&entry.path())
        } else {
            meta.len()
        })
    });
    sizes.sum()
}
