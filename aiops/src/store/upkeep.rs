//! Upkeep: segments of finished logs, days of hours, and the end of what is old.
//!
//! Every step publishes the new before it removes the old, and what is published names what it was made
//! from: wherever a run is killed, the old or the new counts, never both, and the next run goes on. A
//! removal is a rename first, so no half a segment is ever read.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use super::Damage;
use super::Entry;
use super::Event;
use super::Segment;
use super::Store;
use super::StoreError;
use super::error::io_error;
use super::inventory::bytes_below;
use super::logs::OpenLog;
use super::logs::entries_of_hosts;
use super::logs::id_of;
use super::logs::tail;
use super::merge;
use super::repair::ASIDE;
use super::rows::HOUR_MS;
use super::rows::Rows;
use super::segments;

/// Most bytes of logs that were put aside; the oldest goes first.
const MOST_ASIDE: u64 = 64 << 20;
/// Milliseconds of a day.
const DAY_MS: i64 = 24 * HOUR_MS;

/// What became of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// Ticks that are in a segment now.
    pub(super) ticks: u64,
    /// Events of it that are there too.
    pub(super) events: u64,
    /// What was lost.
    pub(super) damage: Option<Damage>,
    /// Where a damaged log is kept.
    pub(super) kept: Option<PathBuf>,
}

impl Saved {
    /// Nothing of the log could be read, and nothing of it is in a segment.
    pub(super) fn is_unread(&self) -> bool {
        let damage = self.damage.as_ref();
        damage.is_some_and(|damage| damage.error.is_some())
    }
}

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
    /// log that is being written is left alone, and so is one that nothing can be read of; a damaged one is put aside,
    /// and its segment says so.
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
        let _lock = self.upkeep(false)?;
        let folder = self.segments_folder();
        segments::sweep(&folder)?;
        let mut damages = self.compact_logs()?;
        for span_ms in [HOUR_MS, DAY_MS] {
            damages.extend(self.merge(now_ms, span_ms)?);
        }
        self.sweep_tails()?;
        Ok(damages)
    }

    fn compact_logs(&self) -> Result<Vec<Damage>, StoreError> {
        let tails = self.tails();
        let (_, made) = segments::list(&self.segments_folder())?;
        let (mut damages, mut removed) = (Vec::new(), false);
        for log in self.logs()? {
            let file = OpenLog::open(log.clone(), tails.as_deref())?;
            if !file.lock() {
                continue;
            }
            if !made.contains(&id_of(&log)) {
                let saved = match self.save(&log, tails.as_deref()) {
                    Err(error) if error.is_of_log() || error.is_of_segment() => {
                        // It stays, and keeps no other log from its segment.
                        damages.push(untaken(&error));
                        continue;
                    }
                    saved => saved?,
                };
                let unread = saved.is_unread();
                damages.extend(saved.damage);
                if unread {
                    continue;
                }
            }
            remove_log(&log, tails.as_deref())?;
            removed = true;
        }
        if removed {
            // A merge removes the segment that says which log it holds: the log must not come back then.
            segments::sync(&self.wals())?;
        }
        self.trim_aside(MOST_ASIDE);
        Ok(damages)
    }

    /// Makes a segment of what can be read of a log, its damage among the events; of one that cannot be read, none. A
    /// damaged one stands aside before its segment is there: whoever finds that segment may remove the log.
    pub(super) fn save(&self, log: &Path, tails: Option<&Path>) -> Result<Saved, StoreError> {
        let (mut rows, mut saved) = (Rows::default(), Saved::default());
        let mut last = None;
        saved.damage = entries_of_hosts(log, tails, &mut |host, entry| {
            rows.of(host);
            match entry {
                Entry::Tick(tick) => {
                    saved.ticks += 1;
                    last = Some(tick.clock.real_ns.div_euclid(1_000_000));
                    rows.push(&tick);
                }
                Entry::Event(event) => {
                    saved.events += 1;
                    rows.event(event);
                }
            }
        })?;
        if saved.is_unread() {
            return Ok(saved);
        }
        if let Some(damage) = &saved.damage {
            saved.kept = Some(self.keep_log(log, tails)?);
            rows.event(told(damage, last.or_else(|| began(log)).unwrap_or(0)));
        }
        let id = id_of(log);
        let sources = std::slice::from_ref(&id);
        segments::publish(&self.segments_folder(), &format!("of-{id}"), sources, rows)?;
        Ok(saved)
    }

    /// Removes logs that were put aside the longest ago, until the others have no more than `most` bytes. What no
    /// segment was made of stays, nothing else has what it holds; and so does the log that came last.
    pub(super) fn trim_aside(&self, most: u64) {
        let Ok((_, made)) = segments::list(&self.segments_folder()) else {
            return;
        };
        let entries = fs::read_dir(self.folder().join(ASIDE));
        let entries = entries.into_iter().flatten().flatten();
        let mut logs: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name();
                let (id, _) = name.to_str()?.split_once(".wal")?;
                let id = made.get(id)?;
                let meta = entry.metadata().ok()?;
                // A rename counts as a change, and not as a modification.
                let moved = (meta.ctime(), meta.ctime_nsec());
                meta.is_file()
                    .then(|| (moved, entry.path(), id, meta.len()))
            })
            .collect();
        logs.sort();
        let last = logs.last().map(|(_, _, id, _)| *id);
        let mut all: u64 = logs.iter().map(|(.., bytes)| bytes).sum();
        for (_, path, id, bytes) in logs {
            if all > most && Some(id) != last && fs::remove_file(&path).is_ok() {
                all -= bytes;
            }
        }
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
                    Err(error) if error.is_of_segment() => {
                        open.insert(chain[0].from_ms.div_euclid(span_ms));
                        damages.push(untaken(&error));
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

    /// Removes segments that end before a moment, and then the oldest ones until the store, logs and all but what was
    /// put aside, is no larger than `most_bytes`. Segments go whole, and those of the newest day stay.
    ///
    /// # Errors
    /// Another one compacts, or a segment cannot be removed.
    pub fn retain(&self, since_ms: i64, most_bytes: u64) -> Result<Removed, StoreError> {
        let _lock = self.upkeep(false)?;
        // Segments that others were made of would count again once those are gone.
        segments::sweep(&self.segments_folder())?;
        let segments = self.segments()?;
        let newest = segments
            .iter()
            .map(|one| one.to_ms.div_euclid(DAY_MS))
            .max();
        // What was put aside has a limit of its own, and no segment goes for it.
        let aside = bytes_below(&self.folder().join(ASIDE));
        let mut left = self.bytes()?.saturating_sub(aside);
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

/// Removes a log that a segment was made of, and its tail.
pub(super) fn remove_log(log: &Path, tails: Option<&Path>) -> Result<(), StoreError> {
    fs::remove_file(log).map_err(io_error(log, "remove"))?;
    if let Some(tails) = tails {
        let _ = fs::remove_file(tail(tails, &id_of(log)));
    }
    Ok(())
}

/// What could not be used and stays as it is; the remedy is told where `repair` is none.
fn untaken(error: &StoreError) -> Damage {
    let why = match error {
        StoreError::Segment { source, .. } => super::error::told(&**source),
        other => match other.remedy() {
            Some(remedy) => format!("{}: {remedy}", other.reason()),
            None => other.reason(),
        },
    };
    Damage {
        path: error.path().to_path_buf(),
        lost_bytes: 0,
        lost_ticks: 0,
        lost_events: 0,
        error: Some(why),
    }
}

/// When a log began, ms since 1970 UTC, as its name says.
fn began(log: &Path) -> Option<i64> {
    let id = id_of(log);
    let (ms, _) = id.split_once('-')?;
    ms.parse().ok()
}

/// The event that says what was lost of a log.
fn told(damage: &Damage, ts_ms: i64) -> Event {
    let Damage {
        lost_bytes,
        lost_ticks,
        lost_events,
        ..
    } = damage;
    let name = id_of(&damage.path);
    let body = serde_json::json!({
        "log": name,
        "lost_bytes": lost_bytes,
        "lost_ticks": lost_ticks,
        "lost_events": lost_events,
    });
    Event {
        ts_ms,
        kind: "finding".to_owned(),
        id: "store-damaged".to_owned(),
        severity: "warning".to_owned(),
        title: format!(
            "the log {name} was damaged: {lost_bytes} bytes, {lost_ticks} samples and {lost_events} events of it are lost"
        ),
        body: body.to_string(),
        ..Event::default()
    }
}
