//! Reading a range of time: every row of a table once, in order of time, with little memory.
//!
//! Segments come first, one group of rows at a time, and then what is in no segment yet. All files are
//! opened before the first one is read, so that a writer that compacts and removes meanwhile takes nothing
//! away. Damage does not end a reading: the rest is handed over, and [`Coverage`] says what was lost.

use std::fs::File;
use std::io;
use std::path::Path;

use super::Damage;
use super::Entry;
use super::Event;
use super::Store;
use super::StoreError;
use super::Tick;
use super::error::io_error;
use super::history::again;
use super::history::is_vanished;
use super::history::vanished;
use super::logs::OpenLog;
use super::place;
use super::reading::Broken;
use super::reading::Reading;
use super::rows::HOUR_MS;
use super::rows::int;
use super::segments::Segment;
use super::sums::Said;
use super::table::Table;
use crate::model::CgroupMetrics;
use crate::model::CgroupRun;
use crate::model::Host;
use crate::model::Metric;
use crate::model::Piece;
use crate::model::ProcessMetrics;
use crate::model::Range;
use crate::model::Run;
use crate::model::SystemMetrics;

/// What is asked of a store.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// When.
    pub range: Range,
    /// Figures, by their names in the tables of metrics; a name that a file does not have is unknown.
    pub fields: &'a [&'a str],
    /// Only these processes; empty: all.
    pub pids: &'a [u32],
    /// Paths and arguments of processes as well: they take time to read.
    pub programs: bool,
}

/// What a reading found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Times of all ticks in the range, in order.
    pub times: Vec<i64>,
    /// First and last time of which the store knows anything, in the range or not.
    pub known: Option<(i64, i64)>,
    /// What could not be read.
    pub damages: Vec<Damage>,
}

impl Coverage {
    pub(super) fn knows(&mut self, from: i64, to: i64) {
        let (first, last) = self.known.unwrap_or((from, to));
        self.known = Some((first.min(from), last.max(to)));
    }

    pub(super) fn broken(&mut self, path: &Path, error: &dyn std::fmt::Display) {
        self.damages.push(Damage {
            path: path.to_path_buf(),
            lost_bytes: 0,
            lost_ticks: 0,
            lost_events: 0,
            error: Some(error.to_string()),
        });
    }
}

/// A segment whose files are open.
pub(super) struct Opened {
    pub(super) segment: Segment,
    sums: Said,
    /// Names and files of the tables that are wanted: the first one is what a reading is about.
    tables: Vec<(&'static str, Option<File>)>,
    system: Option<File>,
    /// What cannot be opened is missed only by who asks for it.
    hours: io::Result<Option<File>>,
}

impl Opened {
    fn open(segment: Segment, tables: &[&'static str]) -> Result<Self, StoreError> {
        let file = |name: &str| {
            let path = segment.path.join(format!("{name}.parquet"));
            open(&path).map_err(io_error(&path, "open"))
        };
        let opened = Self {
            sums: Said::of(&segment.path).map_err(io_error(&segment.path, "read checksums"))?,
            system: file("system")?,
            tables: (tables.iter())
                .map(|name| Ok((*name, file(name)?)))
                .collect::<Result<_, StoreError>>()?,
            hours: if tables.contains(&"process") {
                open(&segment.path.join("rollup.parquet"))
            } else {
                Ok(None)
            },
            segment,
        };
        if opened.segment.path.exists() {
            Ok(opened)
        } else {
            // Removed since it was listed, by a merge, which is there now, or by its age: a file that was not
            // found may be one of those.
            Err(vanished(&opened.segment.path))
        }
    }

    /// A table that is used is compared with its checksum, once.
    fn checked(&self, name: &str, file: Option<&File>) -> Result<Option<Table>, Broken> {
        let Some(file) = file else {
            return Ok(None);
        };
        let name = format!("{name}.parquet");
        let wrong = |error: io::Error| format!("{name}: {error}");
        self.sums.check(&name, file).map_err(wrong)?;
        Ok(Some(Table::of(file.try_clone()?)?))
    }

    /// Its ticks.
    pub(super) fn system(&self) -> Result<Option<Table>, Broken> {
        self.checked("system", self.system.as_ref())
    }

    /// The table that is wanted; `None`: the segment has none.
    pub(super) fn table(&self) -> Result<Option<Table>, Broken> {
        match self.tables.first() {
            Some((name, _)) => self.table_of(name),
            None => Ok(None),
        }
    }

    /// One of several that are wanted; `None`: it is not among them.
    pub(super) fn table_of(&self, name: &str) -> Result<Option<Table>, Broken> {
        match self.tables.iter().find(|(table, _)| *table == name) {
            Some((_, None)) => Err(format!("it has no {name}.parquet").into()),
            Some((_, file)) => self.checked(name, file.as_ref()),
            None => Ok(None),
        }
    }

    /// Its hours, summed up.
    pub(super) fn hours(&self) -> Result<Option<Table>, Broken> {
        match &self.hours {
            Ok(file) => self.checked("rollup", file.as_ref()),
            Err(error) => Err(format!("rollup.parquet: {error}").into()),
        }
    }
}

/// Everything that holds the range, opened.
pub(super) struct Plan {
    pub(super) segments: Vec<Opened>,
    pub(super) logs: Vec<OpenLog>,
    pub(super) coverage: Coverage,
}

/// Names of segments and logs are of their ticks. An event stands with the tick before it.
pub(super) fn slack(tables: &[&str]) -> i64 {
    if tables.contains(&"event") {
        HOUR_MS
    } else {
        0
    }
}

/// A file of a segment; one that it does not have is no error yet.
fn open(path: &Path) -> io::Result<Option<File>> {
    match place::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Store {
    /// Opens what holds a range. A writer may publish and remove at any moment: what vanished before it was
    /// opened makes us look again.
    pub(super) fn plan(&self, range: Range, tables: &[&'static str]) -> Result<Plan, StoreError> {
        self.meta()?;
        again(|| self.try_plan(range, tables))
    }

    fn try_plan(&self, range: Range, tables: &[&'static str]) -> Result<Plan, StoreError> {
        let mut coverage = Coverage::default();
        let (logs, all) = self.fresh_logs()?;
        let slack = slack(tables);
        let mut opened = Vec::new();
        for segment in all {
            coverage.knows(segment.from_ms, segment.to_ms);
            if segment.to_ms.saturating_add(slack) < range.start_ms
                || segment.from_ms.saturating_sub(slack) >= range.end_ms
            {
                continue;
            }
            let path = segment.path.clone();
            match Opened::open(segment, tables) {
                Ok(segment) => opened.push(segment),
                Err(error) if is_vanished(&error) || error.is_refused() => return Err(error),
                Err(error) => coverage.broken(&path, &error.reason()),
            }
        }
        Ok(Plan {
            segments: opened,
            logs,
            coverage,
        })
    }

    /// Hands over every run of every process in a range, whoever it was; ends are exact to the sample.
    ///
    /// # Errors
    /// The store is not there, or may not be read.
    pub fn runs(
        &self,
        ask: &Ask<'_>,
        take: &mut dyn FnMut(&Run<'_>),
    ) -> Result<Coverage, StoreError> {
        self.pieces(ask, false, &mut |piece| {
            if let Piece::Run(run) = piece {
                take(run);
            }
        })
    }

    /// The same; `hours`: hours that are wholly in the range may come summed up, where the store has them so.
    ///
    /// # Errors
    /// As [`Self::runs`].
    pub fn pieces(
        &self,
        ask: &Ask<'_>,
        hours: bool,
        take: &mut dyn FnMut(&Piece<'_>),
    ) -> Result<Coverage, StoreError> {
        let plan = self.plan(ask.range, &["process"])?;
        let mut reading = Reading::new(ask, plan.coverage);
        for opened in &plan.segments {
            let path = &opened.segment.path;
            if let Err(error) = reading.processes(opened, hours, take) {
                reading.coverage.broken(path, &error);
            }
        }
        let metrics = metrics(ProcessMetrics::METRICS, ask.fields);
        fresh(
            &plan.logs,
            ask.range,
            &mut reading,
            &mut |host, tick, reading| {
                reading.tick(host, tick, &metrics, take);
            },
        );
        Ok(reading.done())
    }

    /// Hands over the figures of the host at every tick of a range.
    ///
    /// # Errors
    /// As [`Self::runs`].
    pub fn system(
        &self,
        ask: &Ask<'_>,
        take: &mut dyn FnMut(i64, &[Option<i64>]),
    ) -> Result<Coverage, StoreError> {
        let plan = self.plan(ask.range, &["system"])?;
        let mut reading = Reading::new(ask, plan.coverage);
        for opened in &plan.segments {
            let path = &opened.segment.path;
            if let Err(error) = reading.hosts(opened, take) {
                reading.coverage.broken(path, &error);
            }
        }
        let metrics = metrics(SystemMetrics::METRICS, ask.fields);
        let mut values = Vec::new();
        fresh(&plan.logs, ask.range, &mut reading, &mut |_, tick, _| {
            if !ask.range.holds(time(tick)) {
                return;
            }
            let unknown = SystemMetrics::default();
            let system = tick.sample.system.as_ref().unwrap_or(&unknown);
            fill(&metrics, system, &mut values);
            take(time(tick), &values);
        });
        Ok(reading.done())
    }

    /// Hands over every run of every memory cgroup in a range.
    ///
    /// # Errors
    /// As [`Self::runs`].
    pub fn cgroup_runs(
        &self,
        ask: &Ask<'_>,
        take: &mut dyn FnMut(&CgroupRun<'_>),
    ) -> Result<Coverage, StoreError> {
        let plan = self.plan(ask.range, &["cgroup"])?;
        let mut reading = Reading::new(ask, plan.coverage);
        for opened in &plan.segments {
            let path = &opened.segment.path;
            if let Err(error) = reading.cgroups(opened, take) {
                reading.coverage.broken(path, &error);
            }
        }
        let metrics = metrics(CgroupMetrics::METRICS, ask.fields);
        let mut values = Vec::new();
        fresh(
            &plan.logs,
            ask.range,
            &mut reading,
            &mut |_, tick, reading| {
                if !ask.range.holds(time(tick)) {
                    return;
                }
                reading.part += 1;
                reading.rows |= !tick.sample.cgroups.is_empty();
                for cgroup in &tick.sample.cgroups {
                    let id = reading.names.learn(&cgroup.path.lossy());
                    let Some(path) = reading.names.name(id) else {
                        continue;
                    };
                    fill(&metrics, &cgroup.metrics, &mut values);
                    take(&CgroupRun {
                        path,
                        id: cgroup.id,
                        part: reading.part,
                        times: &[time(tick)],
                        first: 0,
                        n: 1,
                        values: &values,
                    });
                }
            },
        );
        Ok(reading.done())
    }

    /// What happened in a range, in order of time.
    ///
    /// # Errors
    /// As [`Self::runs`].
    pub fn events(&self, range: Range) -> Result<(Vec<Event>, Coverage), StoreError> {
        let plan = self.plan(range, &["event"])?;
        let ask = Ask {
            range,
            fields: &[],
            pids: &[],
            programs: false,
        };
        let mut reading = Reading::new(&ask, plan.coverage);
        let mut events = Vec::new();
        for opened in &plan.segments {
            let path = &opened.segment.path;
            if let Err(error) = reading.events(opened, &mut events) {
                reading.coverage.broken(path, &error);
            }
        }
        for log in &plan.logs {
            reading.log(log, &mut |_, entry, reading| match entry {
                Entry::Tick(tick) => reading.saw(time(&tick)),
                Entry::Event(event) if range.holds(event.ts_ms) => events.push(event),
                Entry::Event(_) => {}
            });
        }
        events.sort_by(|a, b| a.ts_ms.cmp(&b.ts_ms).then_with(|| a.id.cmp(&b.id)));
        Ok((events, reading.done()))
    }
}

/// Time of a tick, ms since 1970 UTC.
pub(super) fn time(tick: &Tick) -> i64 {
    tick.clock.real_ns.div_euclid(1_000_000)
}

/// How to reach the wanted figures, in their order.
fn metrics<T>(all: &'static [Metric<T>], fields: &[&str]) -> Vec<Option<&'static Metric<T>>> {
    let find = |name: &&str| all.iter().find(|metric| metric.name == *name);
    fields.iter().map(find).collect()
}

pub(super) fn fill<T>(
    metrics: &[Option<&'static Metric<T>>],
    set: &T,
    values: &mut Vec<Option<i64>>,
) {
    values.clear();
    values.extend(
        metrics
            .iter()
            .map(|metric| (metric.as_ref()?.get)(set).map(int)),
    );
}

/// Hands over the ticks of a range that are in no segment.
fn fresh<'a>(
    logs: &[OpenLog],
    range: Range,
    reading: &mut Reading<'a>,
    take: &mut dyn FnMut(&Host, &Tick, &mut Reading<'a>),
) {
    for log in logs {
        reading.log(log, &mut |host, entry, reading| {
            if let Entry::Tick(tick) = entry {
                reading.saw(time(&tick));
                // The others tell who the processes are.
                if range.holds(time(&tick)) || !tick.identities.is_empty() {
                    take(host, &tick, reading);
                }
            }
        });
    }
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
