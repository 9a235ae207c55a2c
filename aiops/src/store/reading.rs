//! Rows of one segment, or of the ticks of a log, cut to a range and with their texts as numbers.

use std::collections::HashMap;
use std::collections::HashSet;
use std::rc::Rc;

use super::Ask;
use super::Coverage;
use super::Entry;
use super::Event;
use super::Tick;
use super::logs::OpenLog;
use super::rows::HOUR_MS;
use super::rows::short_boot;
use super::rows::text_of;
use super::series::Opened;
use super::series::fill;
use super::series::time;
use super::table::NO_NAME;
use super::table::Table;
use super::table::UNKNOWN;
use crate::model::CgroupRun;
use crate::model::Host;
use crate::model::Hour;
use crate::model::Identity;
use crate::model::Metric;
use crate::model::Name;
use crate::model::Owner;
use crate::model::Piece;
use crate::model::ProcessMetrics;
use crate::model::Run;
use crate::model::Sums;

/// Texts with their numbers.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<Rc<str>, u32>,
    list: Vec<Rc<str>>,
}

impl Names {
    pub(super) fn learn(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = u32::try_from(self.list.len()).unwrap_or(NO_NAME);
        let text: Rc<str> = text.into();
        self.list.push(Rc::clone(&text));
        self.ids.insert(text, id);
        id
    }

    pub(super) fn name(&self, id: u32) -> Option<Name<'_>> {
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
    exe: u32,
    cmdline: u32,
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
            exe: names.name(self.exe),
            cmdline: names.name(self.cmdline),
        }
    }
}

/// A reading under way.
pub(super) struct Reading<'a> {
    ask: &'a Ask<'a>,
    pids: HashSet<u32>,
    pub(super) names: Names,
    pub(super) part: u64,
    pub(super) coverage: Coverage,
    /// Ticks of tables without a row: see [`Self::ticks`].
    bare: Vec<i64>,
    /// There was a row in the range's files.
    pub(super) rows: bool,
    values: Vec<Option<i64>>,
    /// Who the processes of ticks are, by boot, pid and start.
    who: HashMap<(u32, u32, u64), Labels>,
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
pub(super) type Broken = Box<dyn std::error::Error + Send + Sync>;

impl<'a> Reading<'a> {
    pub(super) fn new(ask: &'a Ask<'a>, coverage: Coverage) -> Self {
        Self {
            ask,
            pids: ask.pids.iter().copied().collect(),
            names: Names::default(),
            part: 0,
            coverage,
            bare: Vec::new(),
            rows: false,
            values: Vec::new(),
            who: HashMap::new(),
        }
    }

    pub(super) fn done(mut self) -> Coverage {
        if !self.rows {
            self.coverage.times.append(&mut self.bare);
        }
        self.coverage.times.sort_unstable();
        self.coverage
    }

    /// Notes that there was a tick.
    pub(super) fn saw(&mut self, ts: i64) {
        self.coverage.knows(ts, ts);
        if self.ask.range.holds(ts) {
            self.coverage.times.push(ts);
        }
    }

    /// Times of a segment's ticks.
    fn times(&mut self, opened: &Opened) -> Result<Times, Broken> {
        let system = opened.system()?.ok_or("it has no system.parquet")?;
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
        self.part += 1;
        Ok(times)
    }

    /// Notes ticks as seen, once their rows were read: who is missing at one counts as 0 there. A table without a row
    /// tells nothing, as a repair leaves it; its ticks count where no other table has rows either.
    fn ticks(&mut self, times: &Times, rows: bool, wanted: impl Fn(i64) -> bool) {
        self.rows |= rows;
        let seen = times.inside().iter().copied().filter(|ts| wanted(*ts));
        if rows {
            self.coverage.times.extend(seen);
        } else {
            self.bare.extend(seen);
        }
    }

    /// The hours of a segment, where they are wanted and say everything that is asked. Where they are damaged, the
    /// rows that they were made of are read.
    fn summed(&mut self, opened: &Opened) -> Option<Table> {
        match opened.hours() {
            // Not every figure is summed up.
            Ok(summed) => summed.filter(|summed| {
                let mut fields = self.ask.fields.iter();
                summed.rows() > 0 && fields.all(|field| summed.has(&format!("{field}_n")))
            }),
            Err(error) => {
                self.coverage.broken(&opened.segment.path, &error);
                None
            }
        }
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

    pub(super) fn processes(
        &mut self,
        opened: &Opened,
        hours: bool,
        take: &mut dyn FnMut(&Piece<'_>),
    ) -> Result<(), Broken> {
        let mut times = self.times(opened)?;
        let mut raw: Option<HashSet<i64>> = None;
        if hours && let Some(summed) = self.summed(opened) {
            let edges = self.hours(&summed, &times, take)?;
            self.ticks(&times, true, |ts| !edges.contains(&hour_of(ts)));
            if edges.is_empty() {
                return Ok(());
            }
            raw = Some(edges);
        }
        let Some(table) = opened.table()? else {
            return Ok(());
        };
        for group in 0..table.groups() {
            if self.may_hold(&table, group) {
                self.group(&table, group, &mut times, raw.as_ref(), take)?;
            }
        }
        self.ticks(&times, table.rows() > 0, |ts| {
            raw.as_ref()
                .is_none_or(|hours| hours.contains(&hour_of(ts)))
        });
        Ok(())
    }

    /// Names of a group's rows.
    fn labels(&mut self, table: &Table, group: usize) -> Result<Vec<Labels>, Broken> {
        let mut column = |name: &str| table.names(group, name, &mut |text| self.names.learn(text));
        let (boot, comm) = (column("boot_id")?, column("comm")?);
        let (cgroup, container, user) = (column("cgroup")?, column("container")?, column("user")?);
        let (exe, cmdline) = if self.ask.programs {
            (column("exe")?, column("cmdline")?)
        } else {
            (Vec::new(), Vec::new())
        };
        let uid = table.numbers(group, "uid")?;
        let row = |at: usize| Labels {
            boot: boot[at],
            comm: comm[at],
            cgroup: cgroup[at],
            container: container[at],
            user: user[at],
            exe: exe.get(at).copied().unwrap_or(NO_NAME),
            cmdline: cmdline.get(at).copied().unwrap_or(NO_NAME),
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
            hour.max(*first) >= range.start_ms
                && hour.saturating_add(HOUR_MS - 1).min(*last) < range.end_ms
        };
        let outside =
            |hour: i64| hour.saturating_add(HOUR_MS) <= range.start_ms || hour >= range.end_ms;
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

    pub(super) fn hosts(
        &mut self,
        opened: &Opened,
        take: &mut dyn FnMut(i64, &[Option<i64>]),
    ) -> Result<(), Broken> {
        let table = opened.table()?.ok_or("it has no system.parquet")?;
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

    pub(super) fn cgroups(
        &mut self,
        opened: &Opened,
        take: &mut dyn FnMut(&CgroupRun<'_>),
    ) -> Result<(), Broken> {
        let mut times = self.times(opened)?;
        let Some(table) = opened.table()? else {
            return Ok(());
        };
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
        self.ticks(&times, table.rows() > 0, |_| true);
        Ok(())
    }

    pub(super) fn events(
        &mut self,
        opened: &Opened,
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let times = self.times(opened)?;
        let Some(table) = opened.table()? else {
            return Ok(());
        };
        // That nothing happened is known of a table without a row, too.
        self.ticks(&times, true, |_| true);
        for group in 0..table.groups() {
            let times = table.numbers(group, "ts")?;
            if !times.iter().any(|ts| self.ask.range.holds(*ts)) {
                continue;
            }
            let found = Event::read(&table, group)?.into_iter();
            events.extend(found.filter(|event| self.ask.range.holds(event.ts_ms)));
        }
        Ok(())
    }

    /// Hands over what a log holds; it is open, so that it may have been removed meanwhile.
    pub(super) fn log(&mut self, log: &OpenLog, take: &mut dyn FnMut(&Host, Entry, &mut Self)) {
        let damage = log.entries(&mut |host, entry| take(host, entry, self));
        self.coverage.damages.extend(damage);
    }

    /// Hands over the processes of a tick that is in no segment yet.
    pub(super) fn tick(
        &mut self,
        host: &Host,
        tick: &Tick,
        metrics: &[Option<&'static Metric<ProcessMetrics>>],
        take: &mut dyn FnMut(&Piece<'_>),
    ) {
        let boot = host.boot_id.as_deref();
        // As segments have it: a process that is in one and in a log is the same one.
        let boot = boot.map_or(NO_NAME, |boot| self.names.learn(&short_boot(boot)));
        for identity in &tick.identities {
            let key = (boot, identity.pid, identity.start_ticks.unwrap_or(0));
            let labels = self.identity(identity);
            let known = self.who.entry(key).or_insert(labels);
            // A key frame tells a process again, at times with less than is known of it.
            for (old, new) in [
                (&mut known.cgroup, labels.cgroup),
                (&mut known.container, labels.container),
                (&mut known.user, labels.user),
                (&mut known.exe, labels.exe),
                (&mut known.cmdline, labels.cmdline),
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
        self.rows |= !tick.sample.processes.is_empty();
        let mut values = std::mem::take(&mut self.values);
        for process in &tick.sample.processes {
            if !self.wants(process.pid) {
                continue;
            }
            let key = (boot, process.pid, process.start_ticks);
            let mut labels = self.who.get(&key).copied().unwrap_or(Labels {
                boot: NO_NAME,
                comm: NO_NAME,
                cgroup: NO_NAME,
                container: NO_NAME,
                user: NO_NAME,
                exe: NO_NAME,
                cmdline: NO_NAME,
                uid: UNKNOWN,
            });
            labels.boot = boot;
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
        let programs = self.ask.programs;
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
            exe: learn(
                text_of::lossy(&identity.exe)
                    .as_deref()
                    .filter(|_| programs),
            ),
            cmdline: learn(text_of::cmdline(identity).as_deref().filter(|_| programs)),
            uid: identity.uid.map_or(UNKNOWN, i64::from),
        }
    }
}

fn hour_of(ts: i64) -> i64 {
    // A damaged time may be any number.
    ts.div_euclid(HOUR_MS).saturating_mul(HOUR_MS)
}

fn known(value: i64) -> Option<i64> {
    (value != UNKNOWN).then_some(value)
}
