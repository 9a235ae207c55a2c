//! Upkeep: segments of finished logs, days of hours, and the end of what is old.
//!
//! Every step publishes the new before it removes the old, and what is published names what it was made
//! from: wherever a run is killed, the old or the new counts, never both, and the next run goes on. A
//! removal is a rename first, so no half a segment is ever read.

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::FlockOperation;
use rustix::fs::flock;

use super::Damage;
use super::Entry;
use super::Segment;
use super::Store;
use super::StoreError;
use super::history::entries_of_hosts;
use super::history::id_of;
use super::history::tail;
use super::merge;
use super::rows::HOUR_MS;
use super::rows::Rows;
use super::segments;
use super::wal::io_error;

/// Held by who changes segments: a second one has nothing to do.
const LOCK: &str = "compact.lock";
/// Milliseconds of a day.
const DAY_MS: i64 = 24 * HOUR_MS;

/// What retention removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Segments, oldest first; they are gone.
    pub segments: Vec<Segment>,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Makes segments of finished logs, and one segment of those of a finished hour or day; removes what those hold. A
    /// log that is being written is left alone, and so is one that nothing can be read of.
    ///
    /// # Errors
    /// Another one compacts, or the system refuses; what was published stays, and the next run goes on.
    pub fn compact(&self) -> Result<Vec<Damage>, StoreError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX));
        self.compact_at(now_ms)
    }

    /// [`Self::compact`] at a moment: hours and days that ended before it are finished.
    pub(super) fn compact_at(&self, now_ms: i64) -> Result<Vec<Damage>, StoreError> {
        let _lock = self.lock_segments()?;
        let folder = self.segments_folder();
        segments::sweep(&folder)?;
        let mut damages = self.compact_logs()?;
        for span_ms in [HOUR_MS, DAY_MS] {
            damages.extend(self.merge(now_ms, span_ms)?);
        }
        self.sweep_tails()?;
        Ok(damages)
    }

    fn lock_segments(&self) -> Result<File, StoreError> {
        let path = self.folder().join(LOCK);
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(io_error(&path, "open the lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(lock),
            Err(_) => Err(StoreError::Busy { path }),
        }
    }

    fn compact_logs(&self) -> Result<Vec<Damage>, StoreError> {
        let folder = self.segments_folder();
        let tails = self.tails();
        let (_, made) = segments::list(&folder)?;
        let mut damages = Vec::new();
        for log in self.logs()? {
            let id = id_of(&log);
            let file = File::open(&log).map_err(io_error(&log, "open"))?;
            // The writer holds a lock on what it writes.
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            if !made.contains(&id) {
                let mut rows = Rows::default();
                let damage =
                    entries_of_hosts(&log, tails.as_deref(), &mut |host, entry| match entry {
                        Entry::Tick(tick) => {
                            rows.of(host);
                            rows.push(&tick);
                        }
                        Entry::Event(event) => rows.event(event),
                    });
                let unread = damage.as_ref().is_some_and(|damage| damage.error.is_some());
                damages.extend(damage);
                if unread {
                    continue;
                }
                let sources = std::slice::from_ref(&id);
                segments::publish(&folder, &format!("of-{id}"), sources, rows)?;
            }
            fs::remove_file(&log).map_err(io_error(&log, "remove"))?;
            if let Some(tails) = &tails {
                let _ = fs::remove_file(tail(tails, &id));
            }
        }
        Ok(damages)
    }

    /// Makes one segment of each finished hour's or day's. One whose log is still written is not finished;
    /// one with a damaged segment stays as it is.
    fn merge(&self, now_ms: i64, span_ms: i64) -> Result<Vec<Damage>, StoreError> {
        let folder = self.segments_folder();
        let mut open: HashSet<i64> = HashSet::new();
        for log in self.logs()? {
            open.extend(began(&log).map(|ms| ms.div_euclid(span_ms)));
        }
        let mut damages = Vec::new();
        // Very many segments become one in several steps.
        loop {
            let mut chains = merge::chains(&self.segments()?, span_ms);
            chains.retain(|chain| {
                let span = chain[0].from_ms.div_euclid(span_ms);
                span < now_ms.div_euclid(span_ms) && !open.contains(&span)
            });
            if chains.is_empty() {
                return Ok(damages);
            }
            for chain in chains {
                match merge::publish(&folder, &chain) {
                    Ok(_) => segments::sweep(&folder)?,
                    Err(StoreError::Segment { path, source }) => {
                        open.insert(chain[0].from_ms.div_euclid(span_ms));
                        damages.push(Damage {
                            path,
                            lost_bytes: 0,
                            lost_ticks: 0,
                            lost_events: 0,
                            error: Some(source.to_string()),
                        });
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Removes what stands for logs that are gone.
    fn sweep_tails(&self) -> Result<(), StoreError> {
        let Some(tails) = self.tails() else {
            return Ok(());
        };
        // The writer makes a log before its tail: one without a log was left behind.
        for entry in fs::read_dir(tails).into_iter().flatten().flatten() {
            let path = entry.path();
            let log = self.wals().join(format!("{}.wal", id_of(&path)));
            let is_tail = path.extension().is_some_and(|end| end == "tail");
            if is_tail && !log.exists() {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    /// Bytes of everything in it: logs, segments and what is being written.
    ///
    /// # Errors
    /// Its folder cannot be read.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        fs::read_dir(self.folder()).map_err(io_error(self.folder(), "read the store"))?;
        Ok(bytes_below(self.folder()))
    }

    /// Removes segments that end before a moment, and then the oldest ones until the store, logs and all,
    /// is no larger than `most_bytes`. Segments go whole, and those of the newest day stay.
    ///
    /// # Errors
    /// Another one compacts, or a segment cannot be removed.
    pub fn retain(&self, since_ms: i64, most_bytes: u64) -> Result<Removed, StoreError> {
        let _lock = self.lock_segments()?;
        // Segments that others were made of would count again once those are gone.
        segments::sweep(&self.segments_folder())?;
        let segments = self.segments()?;
        let newest = segments
            .iter()
            .map(|one| one.to_ms.div_euclid(DAY_MS))
            .max();
        let mut left = self.bytes()?;
        let mut removed = Removed::default();
        for segment in segments {
            let old = segment.to_ms < since_ms;
            let last_day = Some(segment.to_ms.div_euclid(DAY_MS)) == newest;
            // Neither a limit that is too small nor a calendar that is far ahead costs everything.
            if last_day || !(old || left > most_bytes) {
                continue;
            }
            let bytes = segment.bytes();
            segments::remove(&segment.path)?;
            left = left.saturating_sub(bytes);
            removed.bytes += bytes;
            removed.segments.push(segment);
        }
        Ok(removed)
    }
}

/// When a log began, ms since 1970 UTC, as its name says.
fn began(log: &Path) -> Option<i64> {
    let id = id_of(log);
    let (ms, _) = id.split_once('-')?;
    ms.parse().ok()
}

/// Bytes of the files below a folder; what vanishes meanwhile counts nothing.
fn bytes_below(folder: &Path) -> u64 {
    let size = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() {
            bytes_below(&entry.path())
        } else {
            meta.len()
        })
    };
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(size).sum()
}
