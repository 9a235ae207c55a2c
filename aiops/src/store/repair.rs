//! What is done about a damaged store: what is damaged is put aside, what is left is saved.
//!
//! Of a segment only the damaged tables go: those that are made of others are made again, the others are empty from
//! then on, and an event says so. Without its host table (`system.parquet`) the times of its samples are gone: the
//! segment goes as a whole, and its events are saved into another one. Nothing is deleted, and a run that is killed is
//! finished by the next one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use super::Broken;
use super::BrokenPart;
use super::Event;
use super::Segment;
use super::Store;
use super::StoreError;
use super::error::damaged;
use super::error::io_error;
use super::history;
use super::logs;
use super::place;
use super::place::Meta;
use super::read_wal;
use super::rollup;
use super::rows::Rows;
use super::rows::short_boot;
use super::segments;
use super::sums;
use super::sums::Said;
use super::table;
use super::table::Column;
use super::table::ParquetError;
use super::table::Table;
use super::upkeep;
use super::verify;
use crate::model::Host;

/// Where damaged parts are put aside.
pub(super) const ASIDE: &str = "damaged";

/// What was done about a damaged part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The part.
    pub part: BrokenPart,
    /// Where what was damaged stands now; `None`: nothing was there.
    pub moved_to: Option<PathBuf>,
    /// Ticks and events of it that are in a segment now.
    pub saved: Option<(u64, u64)>,
}

/// Where what was damaged stands now; ticks and events that are left.
type Outcome = (Option<PathBuf>, Option<(u64, u64)>);

/// What is left of a segment.
struct Left {
    /// Its tables that are as they were written.
    whole: Vec<&'static str>,
    /// Its ticks say when everything was: without them only events are left.
    ticks: bool,
}

impl Left {
    fn of(segment: &Segment) -> Result<Self, StoreError> {
        let said = Said::of(&segment.path).ok();
        let mut whole = Vec::new();
        for name in segments::TABLES {
            let path = segment.file(name);
            // A flipped bit may be in the checksums.
            let summed = match (said.as_ref(), sums::check(&path)) {
                (_, Ok(_)) | (None, _) => true,
                (Some(said), Err(_)) => said.nearly(&path),
            };
            match verify::readable(&path).map_err(|error| damaged(&path, error)) {
                Ok(_) if summed => whole.push(name),
                Err(error) if error.is_refused() => return Err(error),
                _ => {}
            }
        }
        let has = |name| whole.contains(&name);
        let ticks = has("system") && (!has("process") || verify::order(segment).is_ok());
        Ok(Self { whole, ticks })
    }

    /// Tables whose rows are not kept.
    fn lost(&self) -> Vec<&'static str> {
        // Events have times of their own: they are saved without the others.
        let kept = |name: &&str| self.whole.contains(name) && (self.ticks || *name == "event");
        let tables = segments::TABLES.into_iter();
        tables.filter(|name| !kept(name)).collect()
    }
}

/// Host and boot of the first rows that tell them.
fn of_rows(segment: &Segment, tables: &[&str]) -> (Option<String>, Option<String>) {
    let first = |column: &str| {
        tables.iter().find_map(|name| {
            let table = Table::open(&segment.file(name)).ok()?;
            let texts =
                (0..table.groups().min(1)).filter_map(|group| table.texts(group, column).ok());
            texts.flatten().flatten().next()
        })
    };
    (first("host"), first("boot_id"))
}

fn events_of(path: &Path) -> Result<Vec<Event>, ParquetError> {
    let table = Table::open(path)?;
    let mut events = Vec::new();
    for group in 0..table.groups() {
        events.extend(Event::read(&table, group)?);
    }
    Ok(events)
}

/// A table of no rows.
fn empty(name: &str) -> Vec<Column> {
    let mut found = Vec::new();
    let done: Result<(), std::convert::Infallible> = Rows::default().tables(|table, columns| {
        if table == name {
            found = columns;
        }
        Ok(())
    });
    match done {
        Ok(()) => found,
    }
}

/// The event that says what was lost of a segment.
fn told(segment: &Segment, lost: &[&str], rebuilt: bool, ts_ms: i64) -> Event {
    let name = name_of(&segment.path);
    let made_again = |table: &&&str| rebuilt && **table == "rollup";
    let gone: Vec<&str> = lost
        .iter()
        .filter(|name| !made_again(name))
        .copied()
        .collect();
    let body = serde_json::json!({
        "segment": name,
        "damaged_tables": lost,
        "lost_tables": gone,
        "from_ms": segment.from_ms,
        "to_ms": segment.to_ms,
    });
    let what = if gone.is_empty() {
        "its sums of hours were made again, nothing is lost".to_owned()
    } else {
        format!("its rows of {} are lost", gone.join(", "))
    };
    Event {
        ts_ms,
        kind: "finding".to_owned(),
        id: "store-damaged".to_owned(),
        severity: "warning".to_owned(),
        title: format!("the segment {name} was damaged: {what}"),
        body: body.to_string(),
        ..Event::default()
    }
}

impl Store {
    /// Puts damaged parts aside, saves what can be read of the others, and says again whose the store is.
    ///
    /// Nothing is deleted. The caller holds [`Store::upkeep`] alone.
    ///
    /// # Errors
    /// The system refuses, or it is another host's; what was done stays, and the next run goes on.
    pub fn repair(&self, host: &Host) -> Result<Vec<Repaired>, StoreError> {
        let mut repaired = Vec::new();
        for mut part in self.verify()?.broken {
            // What store.json says of tails is needed for the logs: it comes first.
            let tails = self.tails();
            let (moved_to, saved) = match &part.part {
                Broken::Meta => {
                    if !self.check_owner(host)? {
                        let unknown = "; no part of it says whose it was: it is this host's now";
                        part.reason.push_str(unknown);
                    }
                    let there = part.path.symlink_metadata().is_ok();
                    let to = there.then(|| self.aside(&part.path)).transpose()?;
                    Meta::new(host, self.folder(), self.next_tails()).write(self.folder())?;
                    (to, None)
                }
                Broken::Sums(segment) => {
                    // Every table was read to its end by `verify`.
                    let folder = &segment.path;
                    sums::write(folder).map_err(io_error(folder, "write checksums"))?;
                    segments::sync(folder)?;
                    (None, None)
                }
                Broken::Segment(segment) => self.repair_segment(segment)?,
                Broken::Log(damage) if damage.error.is_some() => {
                    (Some(self.aside_log(&part.path, tails.as_deref())?), None)
                }
                Broken::Log(_) => {
                    let found = self.save(&part.path, tails.as_deref())?;
                    if found.is_unread() {
                        // It got worse since it was verified: no segment has what it holds.
                        (Some(self.aside_log(&part.path, tails.as_deref())?), None)
                    } else {
                        upkeep::remove_log(&part.path, tails.as_deref())?;
                        (found.kept, Some((found.ticks, found.events)))
                    }
                }
            };
            repaired.push(Repaired {
                part,
                moved_to,
                saved,
            });
        }
        Ok(repaired)
    }

    /// Whether what it holds says that it is a host's, by its name or by the boot that runs; `false`: it says nothing.
    ///
    /// # Errors
    /// It is another host's, or a folder cannot be read.
    pub(super) fn check_owner(&self, host: &Host) -> Result<bool, StoreError> {
        let segments = self.segments()?;
        let mut newest = segments.iter().rev();
        let mut of_rows = || {
            newest.find_map(|segment| {
                let (name, boot) = of_rows(segment, &segments::TABLES);
                Some((name?, boot))
            })
        };
        let logs = self.logs()?;
        // Logs are newer than segments.
        let of_log = logs.iter().rev().find_map(|log| {
            let host = read_wal(log, None).ok()?.host;
            let name = host.hostname.lossy().into_owned();
            (!name.is_empty()).then(|| (name, host.boot_id.as_deref().map(short_boot)))
        });
        let Some((hostname, boot)) = of_log.or_else(&mut of_rows) else {
            return Ok(false);
        };
        // Names change, and no other host has this boot.
        let our_boot = host.boot_id.as_deref().map(short_boot);
        if hostname == host.hostname.lossy() || (boot.is_some() && boot == our_boot) {
            return Ok(true);
        }
        Err(StoreError::OtherHost {
            path: self.folder().to_path_buf(),
            hostname,
        })
    }

    /// Puts what is damaged of a segment aside; returns where, and how many ticks and events are left.
    fn repair_segment(&self, segment: &Segment) -> Result<Outcome, StoreError> {
        let left = Left::of(segment)?;
        let lost = left.lost();
        let mut events = Vec::new();
        if left.whole.contains(&"event") {
            let path = segment.file("event");
            events = events_of(&path).map_err(|error| damaged(&path, error))?;
        }
        let saved_events = events.len() as u64;
        let mut moved_to = None;
        if lost.is_empty() {
            // All tables are right: the checksums are what is damaged.
            let file = segment.path.join(sums::SUMS);
            moved_to = Some(self.keep(&file, &aside_name(segment, sums::SUMS))?);
        } else {
            let rebuilt = left.ticks && left.whole.contains(&"process");
            let mut rows = Rows::default();
            let (host, boot) = of_rows(segment, &left.whole);
            rows.of_rows(host, boot);
            if !left.ticks {
                events.into_iter().for_each(|event| rows.event(event));
            }
            rows.event(told(
                segment,
                &lost,
                rebuilt,
                segment.to_ms.saturating_add(1),
            ));
            let id = format!("repair-{}-{}", lost.join("."), segment.id);
            segments::publish(&self.segments_folder(), &id, &[], rows)?;
        }
        if !left.ticks {
            return Ok((Some(self.aside(&segment.path)?), Some((0, saved_events))));
        }
        for name in &lost {
            let path = segment.file(name);
            if path.symlink_metadata().is_ok() {
                let name = aside_name(segment, &format!("{name}.parquet"));
                moved_to = Some(self.keep(&path, &name)?);
            }
        }
        write_tables(segment, &lost, &left)?;
        let path = segment.file("system");
        let ticks = Table::open(&path).map_err(|error| damaged(&path, error))?;
        Ok((moved_to, Some((ticks.rows(), saved_events))))
    }

    /// Moves a log below [`ASIDE`], and what stands in its tail.
    fn aside_log(&self, log: &Path, tails: Option<&Path>) -> Result<PathBuf, StoreError> {
        let to = self.aside(log)?;
        let Some(tail) = tails.map(|tails| logs::tail(tails, &logs::id_of(log))) else {
            return Ok(to);
        };
        if fs::symlink_metadata(&tail).is_ok_and(|meta| meta.len() > 0) {
            history::move_tail(&tail, &with_tail(&to))?;
        } else {
            let _ = fs::remove_file(&tail);
        }
        Ok(to)
    }

    /// Keeps a log below [`ASIDE`], and what stands in its tail; both stay where they are, too.
    pub(super) fn keep_log(&self, log: &Path, tails: Option<&Path>) -> Result<PathBuf, StoreError> {
        let to = self.keep(log, &name_of(log))?;
        let tail = tails.map(|tails| logs::tail(tails, &logs::id_of(log)));
        if let Some(tail) = tail
            && fs::symlink_metadata(&tail).is_ok_and(|meta| meta.len() > 0)
        {
            history::copy(&tail, &with_tail(&to)).map_err(io_error(&tail, "put aside"))?;
        }
        Ok(to)
    }

    /// A free name below [`ASIDE`]; `true`: that file is there already.
    fn aside_place(&self, path: &Path, name: &str) -> Result<(PathBuf, bool), StoreError> {
        let folder = self.folder().join(ASIDE);
        place::own_folder(&folder)?;
        let known = |path: &Path| {
            let meta = path.symlink_metadata().ok()?;
            Some((meta.dev(), meta.ino()))
        };
        let ours = known(path);
        let (mut to, mut number) = (folder.join(name), 1);
        while let Some(there) = known(&to) {
            if Some(there) == ours {
                return Ok((to, true));
            }
            number += 1;
            to = folder.join(format!("{name}.{number}"));
        }
        Ok((to, false))
    }

    /// Gives a file a second name below [`ASIDE`], so that it is there when the first one goes.
    fn keep(&self, path: &Path, name: &str) -> Result<PathBuf, StoreError> {
        let (to, there) = self.aside_place(path, name)?;
        if there {
            return Ok(to);
        }
        // A folder has no second name, and some file systems have none at all.
        let kept = if path.is_dir() {
            fs::rename(path, &to)
        } else {
            fs::hard_link(path, &to).or_else(|_| history::copy(path, &to))
        };
        kept.map_err(io_error(path, "put aside"))?;
        segments::sync(&self.folder().join(ASIDE))?;
        Ok(to)
    }

    /// Moves a part below [`ASIDE`]; another of that name stays.
    fn aside(&self, path: &Path) -> Result<PathBuf, StoreError> {
        let (to, _) = self.aside_place(path, &name_of(path))?;
        let moved = || -> io::Result<()> {
            fs::rename(path, &to)?;
            fs::File::open(self.folder().join(ASIDE))?.sync_all()?;
            match path.parent() {
                Some(parent) => fs::File::open(parent)?.sync_all(),
                None => Ok(()),
            }
        };
        moved().map_err(io_error(path, "put aside"))?;
        Ok(to)
    }
}

/// Writes tables of a segment anew, and its checksums: each file whole or not at all.
fn write_tables(segment: &Segment, lost: &[&str], left: &Left) -> Result<(), StoreError> {
    let notes = segments::notes(&segment.sources());
    for name in lost {
        let path = segment.file(name);
        let new = path.with_extension("new");
        let make = || -> Result<(), ParquetError> {
            let columns = if *name == "rollup" && left.whole.contains(&"process") {
                let times = verify::times(&Table::open(&segment.file("system"))?)?;
                rollup::rebuilt(&Table::open(&segment.file("process"))?, &times)?
            } else {
                empty(name)
            };
            let _ = fs::remove_file(&new);
            table::write(&new, &columns, &notes)
        };
        make().map_err(|error| damaged(&path, error))?;
        fs::rename(&new, &path).map_err(io_error(&path, "write"))?;
    }
    let folder = &segment.path;
    sums::write(folder).map_err(io_error(folder, "write checksums"))?;
    segments::sync(folder)
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Name of a segment's file that stands aside.
fn aside_name(segment: &Segment, file: &str) -> String {
    format!("{}-{file}", name_of(&segment.path))
}

/// Name of the tail of a log that stands aside.
fn with_tail(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".tail");
    PathBuf::from(name)
}
