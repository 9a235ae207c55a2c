//! Reading a range of time: every row of a table once, in order of time, with little memory.
//!
//! Segments come first, one group of rows at a time, and then what is in no segment yet. All files are
//! opened before the first one is read, so that a writer that compacts and removes meanwhile takes nothing
//! away. Damage does not end a reading: the rest is handed over, and [`Coverage`] says what was lost.

use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::Damage;
use super::Entry;
use super::Event;
use super::Store;
use super::StoreError;
use super::Tick;
use super::history::id_of;
use super::reading::Reading;
use super::rows::int;
use super::segments;
use super::segments::Segment;
use super::wal::io_error;
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

    fn broken(&mut self, path: &Path, error: &dyn std::fmt::Display) {
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
    pub(super) system: Option<File>,
    pub(super) table: Option<File>,
    pub(super) hours: Option<File>,
}

/// Everything that holds the range, opened.
struct Plan {
    segments: Vec<Opened>,
    logs: Vec<(PathBuf, File)>,
    tails: Option<PathBuf>,
    coverage: Coverage,
}

/// A file of a segment; one that it does not have (older versions, no such rows) is no error.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Store {
    /// Opens what holds a range. A writer may publish and remove at any moment: logs are listed before the
    /// segments that may be made of them, and what vanished before it was opened makes us look again.
    fn plan(&self, range: Range, table: &str) -> Result<Plan, StoreError> {
        const TRIES: usize = 5;
        self.meta()?;
        let mut tries = 1;
        loop {
            match self.try_plan(range, table) {
                Err(StoreError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < TRIES =>
                {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn try_plan(&self, range: Range, table: &str) -> Result<Plan, StoreError> {
        let mut coverage = Coverage::default();
        let logs = self.logs()?;
        let mut opened_logs = Vec::new();
        for log in &logs {
            let file = File::open(log).map_err(io_error(log, "open"))?;
            opened_logs.push((log.clone(), file));
        }
        let (all, made) = segments::list(&self.segments_folder())?;
        opened_logs.retain(|(log, _)| !made.contains(&id_of(log)));
        let mut opened = Vec::new();
        for segment in all {
            coverage.knows(segment.from_ms, segment.to_ms);
            if segment.to_ms < range.start_ms || segment.from_ms >= range.end_ms {
                continue;
            }
            let file = |name: &str| {
                let path = segment.path.join(format!("{name}.parquet"));
                open(&path).map_err(io_error(&path, "open"))
            };
            let found = Opened {
                system: file("system")?,
                table: file(table)?,
                hours: file("rollup")?,
                segment,
            };
            if found.system.is_none() && !found.segment.path.exists() {
                // Removed since it was listed: by a merge, which is there now, or by its age.
                return Err(io_error(&found.segment.path, "open")(
                    io::ErrorKind::NotFound.into(),
                ));
            }
            opened.push(found);
        }
        Ok(Plan {
            segments: opened,
            logs: opened_logs,
            tails: self.tails(),
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
        let plan = self.plan(ask.range, "process")?;
        let mut reading = Reading::new(ask, plan.coverage);
        for opened in plan.segments {
            let path = opened.segment.path.clone();
            if let Err(error) = reading.processes(opened, hours, take) {
                reading.coverage.broken(&path, &error);
            }
        }
        let metrics = metrics(ProcessMetrics::METRICS, ask.fields);
        fresh(
            &plan.logs,
            plan.tails.as_deref(),
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
        let plan = self.plan(ask.range, "system")?;
        let mut reading = Reading::new(ask, plan.coverage);
        for opened in plan.segments {
            let path = opened.segment.path.clone();
            if let Err(error) = reading.hosts(opened, take) {
                reading.coverage.broken(&path, &error);
            }
        }
        let metrics = metrics(SystemMetrics::METRICS, ask.fields);
        let mut values = Vec::new();
        fresh(
            &plan.logs,
            plan.tails.as_deref(),
            ask.range,
            &mut reading,
            &mut |_, tick, _| {
                let unknown = SystemMetrics::default();
                let system = tick.sample.system.as_ref().unwrap_or(&unknown);
                fill(&metrics, system, &mut values);
                take(time(tick), &values);
            },
        );
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
        let plan = self.plan(ask.range, "cgroup")?;
        let mut reading = Reading::new(ask, plan.coverage);
        for opened in plan.segments {
            let path = opened.segment.path.clone();
            if let Err(error) = reading.cgroups(opened, take) {
                reading.coverage.broken(&path, &error);
            }
        }
        let metrics = metrics(CgroupMetrics::METRICS, ask.fields);
        let mut values = Vec::new();
        fresh(
            &plan.logs,
            plan.tails.as_deref(),
            ask.range,
            &mut reading,
            &mut |_, tick, reading| {
                reading.part += 1;
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
        let plan = self.plan(range, "event")?;
        let ask = Ask {
            range,
            fields: &[],
            pids: &[],
        };
        let mut reading = Reading::new(&ask, plan.coverage);
        let mut events = Vec::new();
        for opened in plan.segments {
            let path = opened.segment.path.clone();
            if let Err(error) = reading.events(opened, &mut events) {
                reading.coverage.broken(&path, &error);
            }
        }
        for (log, file) in &plan.logs {
            reading.log(
                log,
                file,
                plan.tails.as_deref(),
                &mut |_, entry, reading| match entry {
                    Entry::Tick(tick) => reading.saw(time(&tick)),
                    Entry::Event(event) if range.holds(event.ts_ms) => events.push(event),
                    Entry::Event(_) => {}
                },
            );
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
    logs: &[(PathBuf, File)],
    tails: Option<&Path>,
    range: Range,
    reading: &mut Reading<'a>,
    take: &mut dyn FnMut(&Host, &Tick, &mut Reading<'a>),
) {
    for (log, file) in logs {
        reading.log(log, file, tails, &mut |host, entry, reading| {
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
