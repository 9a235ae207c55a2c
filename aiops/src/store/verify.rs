//! Whether a store is whole.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use super::Damage;
use super::Segment;
use super::Store;
use super::StoreError;
use super::error::damaged;
use super::error::told;
use super::history::is_vanished;
use super::logs;
use super::place::META;
use super::place::Meta;
use super::segments;
use super::sums;
use super::sums::Said;
use super::table::ParquetError;
use super::table::Table;

/// Why a store without store.json is damaged.
pub(super) const NO_META: &str = "it is not there: whose history this is is not known";

/// Which part of a store is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// store.json.
    Meta,
    /// A log, with what was lost of it.
    Log(Damage),
    /// A segment.
    Segment(Segment),
    /// The checksums of a segment; its tables can be read.
    Sums(Segment),
}

/// A damaged part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenPart {
    /// Which.
    pub part: Broken,
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// What was read, and what was damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segments.
    pub segments: u64,
    /// Rows of their tables.
    pub rows: u64,
    /// Logs.
    pub logs: u64,
    /// Ticks and events of logs.
    pub frames: u64,
    /// Bytes.
    pub bytes: u64,
    /// What is wrong.
    pub broken: Vec<BrokenPart>,
}

/// What is wrong with a segment: the file, and why it cannot be used.
type Fault = (PathBuf, StoreError);

/// A table of a segment that makes no sense.
fn fault(path: &Path, why: &str) -> Fault {
    let source = why.to_owned().into();
    let path = path.to_path_buf();
    (path.clone(), StoreError::Segment { path, source })
}

fn broken(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    (path.to_path_buf(), damaged(path, error))
}

/// Why, in one line.
fn why(error: &StoreError) -> String {
    match error {
        StoreError::Segment { source, .. } => told(&**source),
        other => other.reason(),
    }
}

/// Reads tables of a segment in full.
struct Check {
    rows: u64,
    bytes: u64,
}

impl Check {
    fn segment(&mut self, segment: &Segment) -> Result<(), Fault> {
        for name in segments::TABLES {
            let path = segment.file(name);
            if path.symlink_metadata().is_err() {
                return Err(fault(&path, "it is not there"));
            }
            self.bytes += sums::check(&path).map_err(|error| broken(&path, error))?;
            self.rows += readable(&path).map_err(|error| broken(&path, error))?;
        }
        order(segment)
    }
}

/// Reads a table in full, whatever its checksum is; returns its rows.
pub(super) fn readable(path: &Path) -> Result<u64, ParquetError> {
    Table::open(path)?.read_fully()
}

/// Times of a segment's ticks.
pub(super) fn times(system: &Table) -> Result<Vec<i64>, ParquetError> {
    let mut times = Vec::new();
    for group in 0..system.groups() {
        times.extend(system.ints(group, "ts")?.into_iter().flatten());
    }
    Ok(times)
}

/// Whether events are at an end of a segment where no tick is: of a log that only events are left of, its name says
/// their times.
fn only_events(segment: &Segment, times: &[i64]) -> bool {
    let Ok(events) = segment.table("event") else {
        return false;
    };
    let groups = (0..events.groups()).filter_map(|group| events.ints(group, "ts").ok());
    let events: Vec<i64> = groups.flatten().flatten().collect();
    let (from, to) = (segment.from_ms, segment.to_ms);
    let is_there = |ts| times.contains(&ts) || events.contains(&ts);
    is_there(from) && is_there(to) && times.iter().all(|ts| (from..=to).contains(ts))
}

/// Whether rows are in order, and runs of processes are of samples that the host has.
pub(super) fn order(segment: &Segment) -> Result<(), Fault> {
    let open = |name: &str| {
        let path = segment.file(name);
        match Table::open(&path) {
            Ok(table) => Ok((path, table)),
            Err(error) => Err(broken(&path, error)),
        }
    };
    let (path, system) = open("system")?;
    let times = times(&system).map_err(|error| broken(&path, error))?;
    if !times.is_sorted() {
        return Err(fault(&path, "its rows are not in the order of time"));
    }
    let (from, to) = (segment.from_ms, segment.to_ms);
    if (times.first(), times.last()) != (Some(&from), Some(&to)) && !only_events(segment, &times) {
        return Err(fault(&path, "its times are not those of the folder's name"));
    }
    let (path, process) = open("process")?;
    let mut before = None;
    for group in 0..process.groups() {
        let ints = |name: &str| {
            let found = process.ints(group, name);
            found.map_err(|error| broken(&path, error))
        };
        let (pid, start, ts, n) = (ints("pid")?, ints("start")?, ints("ts")?, ints("n")?);
        for row in 0..pid.len() {
            let key = (pid[row], start[row], ts[row]);
            if before > Some(key) {
                let why = "its rows are not in the order of pid, start and time";
                return Err(fault(&path, why));
            }
            before = Some(key);
            let (Some(ts), Some(n)) = (ts[row], n[row].and_then(|n| usize::try_from(n).ok()))
            else {
                return Err(fault(&path, "a row without a time or a count"));
            };
            let begin = times.partition_point(|time| *time < ts);
            let known = times.get(begin) == Some(&ts);
            if !known || n == 0 || begin.saturating_add(n) > times.len() {
                let why = "a row counts samples that the host does not have";
                return Err(fault(&path, why));
            }
        }
    }
    Ok(())
}

/// What is wrong with the checksums of a segment whose tables are whole.
fn sums_of(segment: &Segment) -> Option<(PathBuf, &'static str)> {
    let said = Said::of(&segment.path);
    (!said.is_ok_and(|said| said.is_there())).then(|| {
        let path = segment.path.join(sums::SUMS);
        let reason = if path.symlink_metadata().is_ok() {
            "it is damaged: a damaged table would not be noticed"
        } else {
            "it is not there: a damaged table would not be noticed"
        };
        (path, reason)
    })
}

impl Store {
    /// Reads everything, and says what is damaged.
    ///
    /// # Errors
    /// The store itself cannot be read, others could have written it, it is none, or of a later aiops.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        self.trusted()?;
        let mut verified = Verified::default();
        let wrong = |reason| BrokenPart {
            part: Broken::Meta,
            path: self.folder().join(META),
            reason,
        };
        match Meta::read(self.folder()) {
            Ok(Some(_)) => {}
            Ok(None) => {
                self.is_one()?;
                verified.broken.push(wrong(NO_META.to_owned()));
            }
            Err(error @ StoreError::Io { .. }) if !error.is_refused() => {
                verified.broken.push(wrong(error.reason()));
            }
            Err(error) => return Err(error),
        }
        let (listed, made) = segments::list(&self.segments_folder())?;
        let mut check = Check { rows: 0, bytes: 0 };
        for segment in listed {
            verified.segments += 1;
            let found = match check.segment(&segment) {
                // It may have been replaced while it was read.
                _ if !segment.path.exists() => continue,
                Err((_, error)) if error.is_refused() => return Err(error),
                Err((path, error)) => Some((path, why(&error), Broken::Segment(segment))),
                Ok(()) => sums_of(&segment)
                    .map(|(path, reason)| (path, reason.to_owned(), Broken::Sums(segment))),
            };
            let found = found.map(|(path, reason, part)| BrokenPart { part, path, reason });
            verified.broken.extend(found);
        }
        (verified.rows, verified.bytes) = (check.rows, check.bytes);
        let tails = self.tails();
        for log in self.logs()? {
            if made.contains(&logs::id_of(&log)) {
                continue;
            }
            verified.logs += 1;
            verified.bytes += fs::metadata(&log).map_or(0, |meta| meta.len());
            let found = logs::entries_of_hosts(&log, tails.as_deref(), &mut |_, _| {
                verified.frames += 1;
            });
            let damage = match found {
                Err(error) if is_vanished(&error) => continue,
                found => found?,
            };
            if let Some(damage) = damage.filter(|_| log.symlink_metadata().is_ok()) {
                let parts = "parts of it make no sense".to_owned();
                verified.broken.push(BrokenPart {
                    reason: damage.error.clone().unwrap_or(parts),
                    part: Broken::Log(damage),
                    path: log,
                });
            }
        }
        Ok(verified)
    }
}
