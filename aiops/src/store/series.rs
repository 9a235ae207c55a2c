//! Reading a range of time: every row of a table once, in order of time, with little memory.
//!
//! Segments come first, one group of rows at a time, and then what is in no segment yet. All files are
//! opened before the first one is read, so that a writer that compacts and removes meanwhile takes nothing
//! away. Damage does not end a reading: the rest is handed over, and [`Coverage`] says what was lost.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;

use super::Damage;
use super::Entry;
use super::Event;
use super::Store;
use super::StoreError;
use super::Tick;
use super::history::entries;
use super::history::id_of;
use super::rows::HOUR_MS;
use super::rows::int;
use super::segments;
use super::segments::Segment;
use super::table::NO_NAME;
use super::table::Table;
use super::table::UNKNOWN;
use super::wal::io_error;
use crate::model::CgroupMetrics;
use crate::model::CgroupRun;
use crate::model::Hour;
use crate::model::Identity;
use crate::model::Metric;
use crate::model::Name;
use crate::model::Owner;
use crate::model::ProcessMetrics;
use crate::model::Range;
use crate::model::Run;
use crate::model::Sums;
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
    fn knows(&mut self, from: i64, to: i64) {
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

/// A piece of what processes did.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Samples that are alike.
    Run(Run<'a>),
    /// A whole hour, summed up.
    Hour(Hour<'a>),
}

/// Texts with their numbers.
#[derive(Debug, Default)]
struct Names {
    ids: HashMap<Rc<str>, u32>,
    list: Vec<Rc<str>>,
}

impl Names {
    fn learn(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = u32::try_from(self.list.len()).unwrap_or(NO_NAME);
        let text: Rc<str> = text.into();
        self.list.push(Rc::clone(&text));
        self.ids.insert(text, id);
        id
    }

    fn name(&self, id: u32) -> Option<Name<'_>> {
        let text = self.list.get(usize::try_from(id).ok()?)?;
        Some(Name { id, text })
    }
}

/// Names of a process, as numbers.
#[derive(Clone, Copy, Debug)]
struct Labels {
    boot: u32,
    comm: u32,
    cgroup: u32,
    container: u32,
    user: u32,
    uid: i64,
}

impl Labels {
    fn owner<'a>(&self, pid: u32, start: u64, names: &'a Names) -> Owner<'a> {
        Owner {
            boot: names.name(self.boot),
            pid,
            start,
            comm: names.name(self.comm),
            uid: u32::try_from(self.uid).ok(),
            user: names.name(self.user),
            cgroup: names.name(self.cgroup),
            container: names.name(self.container),
        }
    }
}

/// A segment whose files are open.
struct Opened {
    segment: Segment,
    system: Option<File>,
    table: Option<File>,
    hours: Option<File>,
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
        let mut who: HashMap<(u32, u64), Labels> = HashMap::new();
        let metrics = metrics(ProcessMetrics::METRICS, ask.fields);
        fresh(
            &plan.logs,
            plan.tails.as_deref(),
            ask.range,
            &mut reading,
            &mut |tick, reading| {
                reading.tick(tick, &metrics, &mut who, take);
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
            &mut |tick, _| {
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
            &mut |tick, reading| {
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
                &mut |entry, reading| match entry {
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
fn time(tick: &Tick) -> i64 {
    tick.clock.real_ns.div_euclid(1_000_000)
}

/// How to reach the wanted figures, in their order.
fn metrics<T>(all: &'static [Metric<T>], fields: &[&str]) -> Vec<Option<&'static Metric<T>>> {
    let find = |name: &&str| all.iter().find(|metric| metric.name == *name);
    fields.iter().map(find).collect()
}

fn fill<T>(metrics: &[Option<&'static Metric<T>>], set: &T, values: &mut Vec<Option<i64>>) {
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
    take: &mut dyn FnMut(&Tick, &mut Reading<'a>),
) {
    for (log, file) in logs {
        reading.log(log, file, tails, &mut |entry, reading| {
            if let Entry::Tick(tick) = entry {
                reading.saw(time(&tick));
                // The others tell who the processes are.
                if range.holds(time(&tick)) || !tick.identities.is_empty() {
                    take(&tick, reading);
                }
            }
        });
    }
}

/// A reading under way.
struct Reading<'a> {
    ask: &'a Ask<'a>,
    pids: HashSet<u32>,
    names: Names,
    part: u64,
    coverage: Coverage,
    values: Vec<Option<i64>>,
}

/// Times of a segment's ticks, and which of them are in the range.
struct Times {
    all: Vec<i64>,
    from: usize,
    to: usize,
    /// Where the run before ended: the next one mostly begins there.
    hint: usize,
}

impl Times {
    fn inside(&self) -> &[i64] {
        self.all.get(self.from..self.to).unwrap_or_default()
    }

    /// The part of a run that is in the range: place in [`Self::inside`], and how many.
    fn clip(&mut self, ts: i64, n: i64) -> Option<(usize, usize)> {
        let begin = match self.all.get(self.hint) {
            Some(time) if *time == ts => self.hint,
            _ => self.all.partition_point(|time| *time < ts),
        };
        let end = begin.saturating_add(usize::try_from(n).ok()?);
        self.hint = end.min(self.all.len());
        let (begin, end) = (begin.max(self.from), end.min(self.to));
        (begin < end).then(|| (begin - self.from, end - begin))
    }
}

/// What is wrong with a segment.
type Broken = Box<dyn std::error::Error + Send + Sync>;

impl<'a> Reading<'a> {
    fn new(ask: &'a Ask<'a>, coverage: Coverage) -> Self {
        Self {
            ask,
            pids: ask.pids.iter().copied().collect(),
            names: Names::default(),
            part: 0,
            coverage,
            values: Vec::new(),
        }
    }

    fn done(mut self) -> Coverage {
        self.coverage.times.sort_unstable();
        self.coverage
    }

    /// Notes that there was a tick.
    fn saw(&mut self, ts: i64) {
        self.coverage.knows(ts, ts);
        if self.ask.range.holds(ts) {
            self.coverage.times.push(ts);
        }
    }

    /// Times of a segment, noted as seen.
    fn times(&mut self, system: Option<File>) -> Result<Times, Broken> {
        let system = Table::of(system.ok_or("it has no system.parquet")?)?;
        let mut all = Vec::new();
        for group in 0..system.groups() {
            all.extend(system.numbers(group, "ts")?);
        }
        let range = self.ask.range;
        let from = all.partition_point(|time| *time < range.start_ms);
        let to = all.partition_point(|time| *time < range.end_ms).max(from);
        let times = Times {
            all,
            from,
            to,
            hint: 0,
        };
        self.coverage.times.extend_from_slice(times.inside());
        self.part += 1;
        Ok(times)
    }

    /// Whether rows of a group may be of wanted processes.
    fn may_hold(&self, table: &Table, group: usize) -> bool {
        let range = table.range(group, "pid");
        self.pids.is_empty()
            || range.is_none_or(|(least, most)| {
                (self.pids.iter()).any(|pid| (least..=most).contains(&i64::from(*pid)))
            })
    }

    fn wants(&self, pid: u32) -> bool {
        self.pids.is_empty() || self.pids.contains(&pid)
    }

    fn processes(
        &mut self,
        opened: Opened,
        hours: bool,
        take: &mut dyn FnMut(&Piece<'_>),
    ) -> Result<(), Broken> {
        let mut times = self.times(opened.system)?;
        let Some(table) = opened.table else {
            return Ok(());
        };
        let mut raw: Option<HashSet<i64>> = None;
        if let Some(file) = opened.hours.filter(|_| hours) {
            let edges = self.hours(&Table::of(file)?, &times, take)?;
            if edges.is_empty() {
                return Ok(());
            }
            raw = Some(edges);
        }
        let table = Table::of(table)?;
        for group in 0..table.groups() {
            if self.may_hold(&table, group) {
                self.group(&table, group, &mut times, raw.as_ref(), take)?;
            }
        }
        Ok(())
    }

    /// Names of a group's rows.
    fn labels(&mut self, table: &Table, group: usize) -> Result<Vec<Labels>, Broken> {
        let mut column = |name: &str| table.names(group, name, &mut |text| self.names.learn(text));
        let (boot, comm) = (column("boot_id")?, column("comm")?);
        let (cgroup, container, user) = (column("cgroup")?, column("container")?, column("user")?);
        let uid = table.numbers(group, "uid")?;
        let row = |at: usize| Labels {
            boot: boot[at],
            comm: comm[at],
            cgroup: cgroup[at],
            container: container[at],
            user: user[at],
            uid: uid[at],
        };
        Ok((0..uid.len()).map(row).collect())
    }

    fn group(
        &mut self,
        table: &Table,
        group: usize,
        times: &mut Times,
        raw: Option<&HashSet<i64>>,
        take: &mut dyn FnMut(&Piece<'_>),
    ) -> Result<(), Broken> {
        let (pid, start) = (table.numbers(group, "pid")?, table.numbers(group, "start")?);
        let (ts, n) = (table.numbers(group, "ts")?, table.numbers(group, "n")?);
        let fields = self.ask.fields.iter();
        let columns: Vec<Vec<i64>> = fields
            .map(|name| table.numbers(group, name))
            .collect::<Result<_, _>>()?;
        let labels = self.labels(table, group)?;
        let mut values = std::mem::take(&mut self.values);
        for row in 0..pid.len() {
            if raw.is_some_and(|hours| !hours.contains(&hour_of(ts[row]))) {
                continue;
            }
            let (Ok(pid), Ok(start)) = (u32::try_from(pid[row]), u64::try_from(start[row])) else {
                continue;
            };
            if !self.wants(pid) {
                continue;
            }
            let Some((first, n)) = times.clip(ts[row], n[row]) else {
                continue;
            };
            values.clear();
            values.extend(columns.iter().map(|column| known(column[row])));
            take(&Piece::Run(Run {
                who: labels[row].owner(pid, start, &self.names),
                part: self.part,
                times: times.inside(),
                first,
                n,
                values: &values,
            }));
        }
        self.values = values;
        Ok(())
    }

    /// Hands over the hours of a segment that are wholly in the range; returns those that are cut.
    fn hours(
        &mut self,
        table: &Table,
        times: &Times,
        take: &mut dyn FnMut(&Piece<'_>),
    ) -> Result<HashSet<i64>, Broken> {
        const PARTS: [&str; 6] = ["n", "sum", "min", "max", "first", "last"];
        let range = self.ask.range;
        let (Some(first), Some(last)) = (times.all.first(), times.all.last()) else {
            return Ok(HashSet::new());
        };
        let whole = |hour: i64| {
            hour.max(*first) >= range.start_ms && (hour + HOUR_MS - 1).min(*last) < range.end_ms
        };
        let outside = |hour: i64| hour + HOUR_MS <= range.start_ms || hour >= range.end_ms;
        let mut cut = HashSet::new();
        let mut sums = Vec::new();
        for group in 0..table.groups() {
            if !self.may_hold(table, group) {
                continue;
            }
            let numbers = |name: &str| table.numbers(group, name);
            let (pid, start) = (numbers("pid")?, numbers("start")?);
            let (ts, n) = (numbers("ts")?, numbers("n")?);
            let (from, to) = (numbers("from_ms")?, numbers("to_ms")?);
            let labels = self.labels(table, group)?;
            let mut fields: Vec<Vec<Vec<i64>>> = Vec::new();
            for field in self.ask.fields {
                let columns = PARTS.iter().map(|part| numbers(&format!("{field}_{part}")));
                fields.push(columns.collect::<Result<_, _>>()?);
            }
            for row in 0..pid.len() {
                let hour = hour_of(ts[row]);
                if outside(hour) {
                    continue;
                }
                if !whole(hour) {
                    cut.insert(hour);
                    continue;
                }
                let ids = (u32::try_from(pid[row]), u64::try_from(start[row]));
                let (Ok(pid), Ok(start)) = ids else {
                    continue;
                };
                if !self.wants(pid) {
                    continue;
                }
                sums.clear();
                for columns in &fields {
                    let part = |at: usize| columns[at][row];
                    sums.push(Sums {
                        n: u64::try_from(part(0)).unwrap_or(0),
                        sum: i128::from(part(1)),
                        min: part(2),
                        max: part(3),
                        first: (from[row], part(4)),
                        last: (to[row], part(5)),
                    });
                }
                take(&Piece::Hour(Hour {
                    who: labels[row].owner(pid, start, &self.names),
                    ts: hour,
                    n: u64::try_from(n[row]).unwrap_or(0),
                    from_ms: from[row],
                    to_ms: to[row],
                    sums: &sums,
                }));
            }
        }
        Ok(cut)
    }

    fn hosts(
        &mut self,
        opened: Opened,
        take: &mut dyn FnMut(i64, &[Option<i64>]),
    ) -> Result<(), Broken> {
        let table = Table::of(opened.table.ok_or("it has no system.parquet")?)?;
        let mut values = Vec::new();
        for group in 0..table.groups() {
            let times = table.numbers(group, "ts")?;
            let (Some(first), Some(last)) = (times.first(), times.last()) else {
                continue;
            };
            if *last < self.ask.range.start_ms || *first >= self.ask.range.end_ms {
                continue;
            }
            let fields = self.ask.fields.iter();
            let columns: Vec<Vec<i64>> = fields
                .map(|name| table.numbers(group, name))
                .collect::<Result<_, _>>()?;
            for (row, ts) in times.iter().enumerate() {
                if self.ask.range.holds(*ts) {
                    self.coverage.times.push(*ts);
                    values.clear();
                    values.extend(columns.iter().map(|column| known(column[row])));
                    take(*ts, &values);
                }
            }
        }
        Ok(())
    }

    fn cgroups(
        &mut self,
        opened: Opened,
        take: &mut dyn FnMut(&CgroupRun<'_>),
    ) -> Result<(), Broken> {
        let mut times = self.times(opened.system)?;
        let Some(file) = opened.table else {
            return Ok(());
        };
        let table = Table::of(file)?;
        let mut values = Vec::new();
        for group in 0..table.groups() {
            let (ts, n) = (table.numbers(group, "ts")?, table.numbers(group, "n")?);
            let id = table.numbers(group, "id")?;
            let path = table.names(group, "path", &mut |text| self.names.learn(text))?;
            let fields = self.ask.fields.iter();
            let columns: Vec<Vec<i64>> = fields
                .map(|name| table.numbers(group, name))
                .collect::<Result<_, _>>()?;
            for row in 0..ts.len() {
                let (Some((first, n)), Some(path)) =
                    (times.clip(ts[row], n[row]), self.names.name(path[row]))
                else {
                    continue;
                };
                values.clear();
                values.extend(columns.iter().map(|column| known(column[row])));
                take(&CgroupRun {
                    path,
                    id: u64::try_from(id[row]).unwrap_or(0),
                    part: self.part,
                    times: times.inside(),
                    first,
                    n,
                    values: &values,
                });
            }
        }
        Ok(())
    }

    fn events(&mut self, opened: Opened, events: &mut Vec<Event>) -> Result<(), Broken> {
        self.times(opened.system)?;
        let Some(file) = opened.table else {
            return Ok(());
        };
        let table = Table::of(file)?;
        for group in 0..table.groups() {
            let times = table.numbers(group, "ts")?;
            if !times.iter().any(|ts| self.ask.range.holds(*ts)) {
                continue;
            }
            let pid = table.numbers(group, "pid")?;
            let texts = |name: &str| table.texts(group, name);
            let (kind, id, severity) = (texts("kind")?, texts("id")?, texts("severity")?);
            let (title, cgroup, body) = (texts("title")?, texts("cgroup")?, texts("body")?);
            for (row, ts_ms) in times.into_iter().enumerate() {
                let text = |column: &[Option<String>]| column[row].clone().unwrap_or_default();
                if self.ask.range.holds(ts_ms) {
                    events.push(Event {
                        ts_ms,
                        kind: text(&kind),
                        id: text(&id),
                        severity: text(&severity),
                        title: text(&title),
                        pid: u32::try_from(pid[row]).ok(),
                        cgroup: cgroup[row].clone(),
                        body: text(&body),
                    });
                }
            }
        }
        Ok(())
    }

    /// Hands over what a log holds; its file is open, so that it may have been removed meanwhile.
    fn log(
        &mut self,
        log: &Path,
        file: &File,
        tails: Option<&Path>,
        take: &mut dyn FnMut(Entry, &mut Self),
    ) {
        let held = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let path = if log.exists() || !held.exists() {
            log
        } else {
            &held
        };
        let damage = entries(path, tails, &mut |entry| take(entry, self));
        if let Some(damage) = damage {
            self.coverage.damages.push(Damage {
                path: log.to_path_buf(),
                ..damage
            });
        }
    }

    /// Hands over the processes of a tick that is in no segment yet.
    fn tick(
        &mut self,
        tick: &Tick,
        metrics: &[Option<&'static Metric<ProcessMetrics>>],
        who: &mut HashMap<(u32, u64), Labels>,
        take: &mut dyn FnMut(&Piece<'_>),
    ) {
        for identity in &tick.identities {
            let key = (identity.pid, identity.start_ticks.unwrap_or(0));
            let labels = self.identity(identity);
            let known = who.entry(key).or_insert(labels);
            // A key frame tells a process again, at times with less than is known of it.
            for (old, new) in [
                (&mut known.cgroup, labels.cgroup),
                (&mut known.container, labels.container),
                (&mut known.user, labels.user),
            ] {
                if new != NO_NAME {
                    *old = new;
                }
            }
        }
        let ts = time(tick);
        if !self.ask.range.holds(ts) {
            return;
        }
        self.part += 1;
        let mut values = std::mem::take(&mut self.values);
        for process in &tick.sample.processes {
            if !self.wants(process.pid) {
                continue;
            }
            let key = (process.pid, process.start_ticks);
            let mut labels = who.get(&key).copied().unwrap_or(Labels {
                boot: NO_NAME,
                comm: NO_NAME,
                cgroup: NO_NAME,
                container: NO_NAME,
                user: NO_NAME,
                uid: UNKNOWN,
            });
            labels.comm = self.names.learn(&process.comm.lossy());
            labels.uid = process.uid.map_or(UNKNOWN, i64::from);
            fill(metrics, &process.metrics, &mut values);
            take(&Piece::Run(Run {
                who: labels.owner(process.pid, process.start_ticks, &self.names),
                part: self.part,
                times: &[ts],
                first: 0,
                n: 1,
                values: &values,
            }));
        }
        self.values = values;
    }

    fn identity(&mut self, identity: &Identity) -> Labels {
        let mut learn = |text: Option<&str>| text.map_or(NO_NAME, |text| self.names.learn(text));
        let cgroup = identity.cgroup.as_ref().map(|path| path.lossy());
        let container = identity.container.as_ref();
        let container = container.map(|one| format!("{}:{}", one.runtime, one.id));
        Labels {
            boot: NO_NAME,
            comm: learn(Some(&identity.comm.lossy())),
            cgroup: learn(cgroup.as_deref()),
            container: learn(container.as_deref()),
            user: learn(identity.user.as_deref()),
            uid: identity.uid.map_or(UNKNOWN, i64::from),
        }
    }
}

fn hour_of(ts: i64) -> i64 {
    ts.div_euclid(HOUR_MS) * HOUR_MS
}

fn known(value: i64) -> Option<i64> {
    (value != UNKNOWN).then_some(value)
}
