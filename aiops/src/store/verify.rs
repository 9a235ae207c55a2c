//! Whether a store is whole, and what to do about what is not.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::Damage;
use super::Segment;
use super::Store;
use super::StoreError;
use super::history;
use super::place::Meta;
use super::segments;
use super::sums;
use super::table::Table;
use super::wal::io_error;
use crate::model::Host;

/// Where damaged parts are put aside.
pub(super) const ASIDE: &str = "damaged";

/// Which part of a store is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// store.json.
    Meta,
    /// A log, with what was lost of it.
    Log(Damage),
    /// A segment.
    Segment(Segment),
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

/// What was done about a damaged part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The part.
    pub part: BrokenPart,
    /// Where it stands now.
    pub moved_to: Option<PathBuf>,
    /// Ticks and events of a log that are in a segment now.
    pub saved: Option<(u64, u64)>,
}

/// The whole chain of an error in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// Reads tables of a segment in full.
struct Check {
    rows: u64,
    bytes: u64,
}

impl Check {
    fn segment(&mut self, segment: &Segment) -> Result<(), (PathBuf, String)> {
        let at = |path: &Path, error: &dyn std::error::Error| (path.to_path_buf(), told(error));
        let folder = &segment.path;
        let entries = fs::read_dir(folder).map_err(|error| at(folder, &error))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut tables: Vec<PathBuf> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "parquet"))
            .collect();
        tables.sort();
        for name in ["system", "process"] {
            let path = folder.join(format!("{name}.parquet"));
            if !tables.contains(&path) {
                return Err((path, "it is not there".to_owned()));
            }
        }
        for path in &tables {
            self.bytes += sums::check(path).map_err(|error| at(path, &error))?;
            let table = Table::open(path).map_err(|error| at(path, &error))?;
            self.rows += table.read_fully().map_err(|error| at(path, &error))?;
        }
        order(segment)
    }
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
fn order(segment: &Segment) -> Result<(), (PathBuf, String)> {
    let open = |name: &str| {
        let path = segment.path.join(format!("{name}.parquet"));
        match Table::open(&path) {
            Ok(table) => Ok((path, table)),
            Err(error) => Err((path, told(&error))),
        }
    };
    let (path, system) = open("system")?;
    let mut times = Vec::new();
    for group in 0..system.groups() {
        let found = system.ints(group, "ts");
        times.extend(found.map_err(|error| (path.clone(), told(&error)))?);
    }
    let times: Vec<i64> = times.into_iter().flatten().collect();
    if !times.is_sorted() {
        return Err((path, "its rows are not in the order of time".to_owned()));
    }
    let (from, to) = (segment.from_ms, segment.to_ms);
    if (times.first(), times.last()) != (Some(&from), Some(&to)) && !only_events(segment, &times) {
        let reason = "its times are not those of the folder's name";
        return Err((path, reason.to_owned()));
    }
    let (path, process) = open("process")?;
    let mut before = None;
    for group in 0..process.groups() {
        let ints = |name: &str| {
            let found = process.ints(group, name);
            found.map_err(|error| (path.clone(), told(&error)))
        };
        let (pid, start, ts, n) = (ints("pid")?, ints("start")?, ints("ts")?, ints("n")?);
        for row in 0..pid.len() {
            let key = (pid[row], start[row], ts[row]);
            if before > Some(key) {
                let reason = "its rows are not in the order of pid, start and time";
                return Err((path, reason.to_owned()));
            }
            before = Some(key);
            let (Some(ts), Some(n)) = (ts[row], n[row].and_then(|n| usize::try_from(n).ok()))
            else {
                return Err((path, "a row without a time or a count".to_owned()));
            };
            let begin = times.partition_point(|time| *time < ts);
            let known = times.get(begin) == Some(&ts);
            if !known || n == 0 || begin.saturating_add(n) > times.len() {
                let reason = "a row counts samples that the host does not have";
                return Err((path, reason.to_owned()));
            }
        }
    }
    Ok(())
}

impl Store {
    /// Reads everything, and says what is damaged.
    ///
    /// # Errors
    /// The store itself cannot be read, or is of a later aiops.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        fs::read_dir(self.folder()).map_err(io_error(self.folder(), "read the store"))?;
        let mut verified = Verified::default();
        match Meta::read(self.folder()) {
            Ok(_) => {}
            Err(error @ StoreError::Io { .. }) => verified.broken.push(BrokenPart {
                part: Broken::Meta,
                path: self.folder().join("store.json"),
                reason: told(&error),
            }),
            Err(error) => return Err(error),
        }
        let (listed, made) = segments::list(&self.segments_folder())?;
        let mut check = Check { rows: 0, bytes: 0 };
        for segment in listed {
            verified.segments += 1;
            if let Err((path, reason)) = check.segment(&segment) {
                // It may have been replaced while it was read.
                if segment.path.exists() {
                    verified.broken.push(BrokenPart {
                        part: Broken::Segment(segment),
                        path,
                        reason,
                    });
                }
            }
        }
        (verified.rows, verified.bytes) = (check.rows, check.bytes);
        let tails = self.tails();
        for log in self.logs()? {
            if made.contains(&history::id_of(&log)) {
                continue;
            }
            verified.logs += 1;
            verified.bytes += fs::metadata(&log).map_or(0, |meta| meta.len());
            let damage = history::entries(&log, tails.as_deref(), &mut |_| verified.frames += 1);
            if let Some(damage) = damage.filter(|_| log.exists()) {
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

    /// Puts damaged parts aside, saves what can be read of logs, and says again whose the store is.
    ///
    /// Nothing is deleted. The caller holds [`Store::upkeep`] alone.
    ///
    /// # Errors
    /// The system refuses; what was done stays, and the next run goes on.
    pub fn repair(&self, host: &Host) -> Result<Vec<Repaired>, StoreError> {
        let mut repaired = Vec::new();
        // What it says of tails is needed for the logs.
        let verified = self.verify()?;
        let tails = self.tails();
        for part in verified.broken {
            let mut saved = None;
            let moved_to = match &part.part {
                Broken::Meta => {
                    let to = self.aside(&part.path)?;
                    let tails = super::place::tails_for(self.folder());
                    Meta::new(host, tails).write(self.folder())?;
                    to
                }
                Broken::Segment(segment) => self.aside(&segment.path)?,
                Broken::Log(damage) => {
                    let log = &part.path;
                    if damage.error.is_none() {
                        let found = self.save(log, tails.as_deref())?;
                        saved = Some((found.ticks, found.events));
                    }
                    self.aside_log(log, tails.as_deref())?
                }
            };
            repaired.push(Repaired {
                part,
                moved_to: Some(moved_to),
                saved,
            });
        }
        Ok(repaired)
    }

    /// Moves a log below [`ASIDE`], and what stands in its tail.
    pub(super) fn aside_log(
        &self,
        log: &Path,
        tails: Option<&Path>,
    ) -> Result<PathBuf, StoreError> {
        let to = self.aside(log)?;
        let Some(tail) = tails.map(|tails| history::tail(tails, &history::id_of(log))) else {
            return Ok(to);
        };
        if fs::symlink_metadata(&tail).is_ok_and(|meta| meta.len() > 0) {
            let mut name = to.clone().into_os_string();
            name.push(".tail");
            history::move_tail(&tail, Path::new(&name))?;
        } else {
            let _ = fs::remove_file(&tail);
        }
        Ok(to)
    }

    /// Moves a part below [`ASIDE`]; another of that name stays.
    fn aside(&self, path: &Path) -> Result<PathBuf, StoreError> {
        let folder = self.folder().join(ASIDE);
        super::place::own_folder(&folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut to = folder.join(&*name);
        let mut number = 1;
        while to.symlink_metadata().is_ok() {
            number += 1;
            to = folder.join(format!("{name}.{number}"));
        }
        let moved = || -> io::Result<()> {
            fs::rename(path, &to)?;
            fs::File::open(&folder)?.sync_all()?;
            match path.parent() {
                Some(parent) => fs::File::open(parent)?.sync_all(),
                None => Ok(()),
            }
        };
        moved().map_err(io_error(path, "put aside"))?;
        Ok(to)
    }
}
