//! What a store consists of: logs, segments, and who may change them.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::fs::flock;

use super::Damage;
use super::Entry;
use super::Segment;
use super::Store;
use super::StoreError;
use super::error::damaged;
use super::error::io_error;
use super::history::is_vanished;
use super::place;
use super::place::META;
use super::place::Meta;
use super::repair::ASIDE;
use super::sums::Said;
use super::verify::NO_META;
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

/// Files of one kind: name, how many, bytes, rows.
pub(super) type Kind = (String, u64, u64, Option<u64>);

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Its parts.
    pub inventory: Inventory,
    /// Times of the first and the last tick, ms since 1970 UTC.
    pub range: Option<(i64, i64)>,
    /// Samples of the host.
    pub ticks: u64,
    /// Samples of processes.
    pub samples: u64,
    /// Those of them that are in segments.
    pub samples_in_segments: u64,
    /// Events.
    pub events: u64,
    /// Bytes by kind of file.
    pub kinds: Vec<Kind>,
    /// What was lost of logs.
    pub damages: Vec<Damage>,
    /// Segments that cannot be read, and why.
    pub unread: Vec<(PathBuf, String)>,
    /// Segments that have no checksums.
    pub unsummed: Vec<PathBuf>,
}

/// Held while the parts of a store are replaced, by compact, retain and repair: two at once would do the work twice.
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

    /// What it holds.
    ///
    /// # Errors
    /// A folder cannot be read. A damaged part is said, not an error.
    pub fn summary(&self) -> Result<Summary, StoreError> {
        let inventory = self.inventory()?;
        let mut summary = Summary::default();
        let mut kinds: BTreeMap<String, (u64, u64, Option<u64>)> = BTreeMap::new();
        for (segment, _) in &inventory.segments {
            summary.widen(segment.from_ms, segment.to_ms);
            if let Err(error) = summary.segment(segment, &mut kinds) {
                if error.is_refused() {
                    return Err(error);
                }
                summary.unread.push((segment.path.clone(), error.reason()));
            }
        }
        summary.samples_in_segments = summary.samples;
        summary.damages = self.fresh(|entry| match entry {
            Entry::Tick(tick) => {
                let ts = tick.clock.real_ns.div_euclid(1_000_000);
                summary.widen(ts, ts);
                summary.ticks += 1;
                summary.samples += tick.sample.processes.len() as u64;
            }
            Entry::Event(_) => summary.events += 1,
        })?;
        let logs = inventory.logs.iter();
        let wal = logs.fold((0, 0), |(count, bytes), log| (count + 1, bytes + log.bytes));
        kinds.insert("wal".to_owned(), (wal.0, wal.1, None));
        let aside = bytes_below(&self.folder().join(ASIDE));
        if aside > 0 {
            let count = fs::read_dir(self.folder().join(ASIDE));
            let count = count.map_or(0, |entries| entries.count() as u64);
            kinds.insert(ASIDE.to_owned(), (count, aside, None));
        }
        let kinds = kinds.into_iter();
        summary.kinds = kinds
            .map(|(name, (count, bytes, rows))| (name, count, bytes, rows))
            .collect();
        summary
            .kinds
            .sort_by_key(|(_, _, bytes, _)| std::cmp::Reverse(*bytes));
        summary.inventory = inventory;
        Ok(summary)
    }

    /// Checks that this user and this host may change it.
    ///
    /// # Errors
    /// It is not there, no store, damaged, somebody else's, open to others, of another host or of a later aiops.
    pub fn own(&self, host: &Host) -> Result<(), StoreError> {
        for folder in [
            self.folder().to_path_buf(),
            self.wals(),
            self.segments_folder(),
        ] {
            match place::check_folder(&folder) {
                Err(error) if folder != self.folder() && is_vanished(&error) => {}
                other => other?,
            }
        }
        match Meta::read(self.folder())? {
            Some(meta) if !meta.is_of(host) => Err(StoreError::OtherHost {
                path: self.folder().to_path_buf(),
                hostname: meta.hostname,
            }),
            Some(_) => Ok(()),
            None => {
                self.is_one()?;
                let gone = io::Error::new(io::ErrorKind::InvalidData, NO_META);
                Err(io_error(&self.folder().join(META), "read")(gone))
            }
        }
    }

    /// Checks that there is something of a store, where store.json is not.
    ///
    /// # Errors
    /// There is nothing, or a folder cannot be read.
    pub fn is_one(&self) -> Result<(), StoreError> {
        if self.logs()?.is_empty() && self.segments()?.is_empty() {
            return Err(StoreError::NoStore {
                path: self.folder().to_path_buf(),
            });
        }
        Ok(())
    }

    /// Takes the lock of those who replace parts of it; with `alone`, the writer's too.
    ///
    /// # Errors
    /// Another one has it, or the system refuses.
    pub fn upkeep(&self, alone: bool) -> Result<Upkeep, StoreError> {
        let lock = |name: &str, busy: fn(PathBuf) -> StoreError| -> Result<File, StoreError> {
            let path = self.folder().join(name);
            let file = place::private_file(&path).map_err(io_error(&path, "open the lock"))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(file),
                Err(_) => Err(busy(self.folder().to_path_buf())),
            }
        };
        let writer = || lock("lock", |path| StoreError::Busy { path });
        Ok(Upkeep {
            _lock: lock("upkeep.lock", |path| StoreError::Upkeep { path })?,
            _writer: alone.then(writer).transpose()?,
        })
    }
}

impl Summary {
    fn widen(&mut self, from: i64, to: i64) {
        let (first, last) = self.range.unwrap_or((from, to));
        self.range = Some((first.min(from), last.max(to)));
    }

    /// Adds a segment: its counts come from the column `n`, so nothing else of it is decoded.
    fn segment(
        &mut self,
        segment: &Segment,
        kinds: &mut BTreeMap<String, (u64, u64, Option<u64>)>,
    ) -> Result<(), StoreError> {
        segment.complete()?;
        if !Said::of(&segment.path).is_ok_and(|said| said.is_there()) {
            self.unsummed.push(segment.path.clone());
        }
        let entries = fs::read_dir(&segment.path).map_err(io_error(&segment.path, "read"))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
            let mut rows = None;
            if path.extension().is_some_and(|end| end == "parquet") {
                let table = segment.table(&name)?;
                rows = Some(table.rows());
                match &*name {
                    "system" => self.ticks += table.rows(),
                    "event" => self.events += table.rows(),
                    "process" => {
                        for group in 0..table.groups() {
                            let counts = table
                                .ints(group, "n")
                                .map_err(|error| damaged(&path, error))?;
                            let counts = counts.into_iter().flatten();
                            self.samples +=
                                counts.filter_map(|n| u64::try_from(n).ok()).sum::<u64>();
                        }
                    }
                    _ => {}
                }
            }
            let kind = kinds.entry(name.into_owned()).or_default();
            kind.0 += 1;
            kind.1 += bytes;
            kind.2 = match (kind.2, rows) {
                (Some(all), Some(rows)) => Some(all + rows),
                (all, rows) => all.or(rows),
            };
        }
        Ok(())
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
pub(super) fn bytes_below(folder: &Path) -> u64 {
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
