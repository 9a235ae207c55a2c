//! Rows over a range of history: processes, or the totals of groups of them.
//!
//! Everything is exact: an average weighs each run by its samples, the figures of a group are those of
//! the total of its members at each sample (a sweep over the beginnings and ends of runs), a percentile
//! counts samples. Summed-up hours are taken where nothing finer is asked for.

mod counts;
mod course;
mod host;
mod rows;

use std::collections::HashMap;
use std::collections::HashSet;

use crate::model::Filter;
use crate::model::Name;
use crate::model::Owner;
use crate::model::Piece;
use crate::model::Range;
use crate::model::Run;
use crate::model::Sums;
use crate::report::query::Covered;
use crate::report::query::Figures;
use crate::report::query::Gap;
use crate::time;

use counts::Counts;
use course::Course;
pub use host::CGROUP_FIELDS;
pub use host::Cgroups;
pub use host::Host;
pub use host::SYSTEM_FIELDS;
pub use rows::Rows;

/// Milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;
/// Steps of a course for people.
const TREND: i64 = 24;

/// What processes are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Each alone.
    #[default]
    Process,
    /// Name.
    Comm,
    /// Memory cgroup.
    Cgroup,
    /// Container.
    Container,
    /// User.
    User,
}

impl By {
    /// Its name in reports.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Comm => "comm",
            Self::Cgroup => "cgroup",
            Self::Container => "container",
            Self::User => "user",
        }
    }
}

/// A figure of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Agg {
    /// The most.
    #[default]
    Max,
    /// The average.
    Avg,
    /// 95 % of samples have no more.
    P95,
    /// The last.
    Last,
    /// From the first to the last.
    Growth,
    /// The least.
    Min,
    /// The first.
    First,
    /// Samples.
    Samples,
    /// Name, in alphabetical order.
    Name,
    /// Process id, the least first.
    Pid,
}

impl Agg {
    /// Its name in reports.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Avg => "avg",
            Self::P95 => "p95",
            Self::Last => "last",
            Self::Growth => "growth",
            Self::Min => "min",
            Self::First => "first",
            Self::Samples => "samples",
            Self::Name => "name",
            Self::Pid => "pid",
        }
    }

    /// The figure by which rows are in order, the largest first.
    pub(crate) fn of(self, figures: &Figures, samples: u64) -> f64 {
        let int = |value: Option<i64>| value.map_or(f64::NEG_INFINITY, |value| value as f64);
        match self {
            Self::Max => int(figures.max),
            Self::Avg => figures.avg.unwrap_or(f64::NEG_INFINITY),
            Self::P95 => int(figures.p95),
            Self::Last => int(figures.last),
            Self::Growth => int(figures.growth),
            Self::Min => int(figures.min),
            Self::First => int(figures.first),
            Self::Samples => samples as f64,
            Self::Name | Self::Pid => 0.0,
        }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// When.
    pub range: Range,
    /// What processes are put together by.
    pub by: By,
    /// Which ones.
    pub filter: Filter,
    /// The figure of a step.
    pub agg: Agg,
    /// Order.
    pub sort: Agg,
    /// Length of the steps of exact series.
    pub step_ms: Option<i64>,
    /// Make courses for people.
    pub trend: bool,
}

impl Options {
    /// Whether hours that are summed up say enough.
    #[must_use]
    pub fn hours_do(&self) -> bool {
        let whole = |ms: i64| ms % HOUR_MS == 0;
        let steps = self.step_ms;
        self.by == By::Process
            && !self.counts()
            && steps.is_none_or(|step| whole(step) && whole(self.range.start_ms))
    }

    fn counts(&self) -> bool {
        self.agg == Agg::P95 || self.sort == Agg::P95
    }

    /// Length of a step of what is kept by time; 0: nothing is.
    pub(crate) fn step(&self) -> i64 {
        let length = self.range.end_ms.saturating_sub(self.range.start_ms);
        match self.step_ms {
            Some(step) => step.max(1),
            None if self.trend => (length / TREND).max(1),
            None => 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    boot: u32,
    pid: u32,
    start: u64,
}

/// Numbers of who it is: boot, pid, start, and the names.
type Ids = (u32, u32, u64, [u32; 4]);

/// Stands for a text that is not there.
const NONE: u32 = u32::MAX;
/// Marks the number of a user without a name.
const UID: u32 = 1 << 31;

/// What is kept of a row beside its sums, where it is asked for.
#[derive(Debug)]
struct Detail {
    counts: Counts,
    course: Course,
}

/// There may be hundreds of thousands of them: no more than is needed.
#[derive(Debug)]
struct Found {
    /// The process, or the group's name.
    key: Result<Key, u32>,
    comm: u32,
    user: u32,
    cgroup: u32,
    container: u32,
    members: u32,
    /// Samples; of a group: ticks with a member.
    n: u64,
    from: i64,
    to: i64,
    sums: Sums,
    detail: Option<Box<Detail>>,
}

/// A change of a group's total.
#[derive(Clone, Copy, Debug)]
struct Edge {
    row: u32,
    at: u32,
    value: i64,
    members: i32,
    known: i32,
}

/// Rows in the making.
#[derive(Debug)]
pub struct History {
    options: Options,
    names: HashMap<u32, Box<str>>,
    rows: Vec<Found>,
    processes: HashMap<Key, usize>,
    groups: HashMap<u32, usize>,
    members: HashSet<(u32, Key)>,
    before: Option<(Ids, Option<usize>)>,
    part: u64,
    times: Vec<i64>,
    edges: Vec<Edge>,
    only: Option<HashSet<Option<String>>>,
}

impl History {
    /// Nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            names: HashMap::new(),
            rows: Vec::new(),
            processes: HashMap::new(),
            groups: HashMap::new(),
            members: HashSet::new(),
            before: None,
            part: 0,
            times: Vec::new(),
            edges: Vec::new(),
            only: None,
        }
    }

    /// What is asked.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Of groups, only those of these names.
    #[must_use]
    pub fn only(mut self, names: HashSet<Option<String>>) -> Self {
        self.only = Some(names);
        self
    }

    /// Adds what one process did. Its first figure is the one that rows are about.
    pub fn take(&mut self, piece: &Piece<'_>) {
        let who = match piece {
            Piece::Run(run) => &run.who,
            Piece::Hour(hour) => &hour.who,
        };
        if !self.options.filter.is_empty() && !self.options.filter.wants_owner(who) {
            return;
        }
        match piece {
            Piece::Run(run) if self.options.by == By::Process => self.run(run),
            Piece::Run(run) => self.member(run),
            Piece::Hour(hour) => {
                let at = self.process(&hour.who, hour.from_ms, hour.to_ms, hour.n);
                if let (Some(row), Some(sums)) = (self.rows.get_mut(at), hour.sums.first()) {
                    row.sums.join(sums);
                    if let Some(detail) = &mut row.detail {
                        detail.course.join(hour.ts, sums);
                    }
                }
            }
        }
    }

    fn learn(&mut self, name: Option<Name<'_>>) -> u32 {
        let Some(name) = name else {
            return NONE;
        };
        self.names
            .entry(name.id)
            .or_insert_with(|| name.text.into());
        name.id
    }

    fn key(&mut self, who: &Owner<'_>) -> Key {
        Key {
            boot: self.learn(who.boot),
            pid: who.pid,
            start: who.start,
        }
    }

    /// The row of a process, with its time and its samples.
    fn process(&mut self, who: &Owner<'_>, from: i64, to: i64, n: u64) -> usize {
        let ids = ids(who);
        let at = match self.before {
            // Runs of one process stand together.
            Some((before, Some(at))) if before == ids => at,
            _ => {
                let key = self.key(who);
                let at = match self.processes.get(&key) {
                    Some(at) => *at,
                    None => {
                        let at = self.row(Ok(key), from, to);
                        self.processes.insert(key, at);
                        at
                    }
                };
                // Names as of its last sample.
                if self
                    .rows
                    .get(at)
                    .is_some_and(|row| row.n == 0 || to >= row.to)
                {
                    let (comm, user) = (self.learn(who.comm), self.user(who));
                    let (cgroup, container) = (self.learn(who.cgroup), self.learn(who.container));
                    if let Some(row) = self.rows.get_mut(at) {
                        (row.comm, row.user) = (comm, user);
                        (row.cgroup, row.container) = (cgroup, container);
                    }
                }
                self.before = Some((ids, Some(at)));
                at
            }
        };
        if let Some(row) = self.rows.get_mut(at) {
            row.n += n;
            row.from = row.from.min(from);
            row.to = row.to.max(to);
        }
        at
    }

    fn user(&mut self, who: &Owner<'_>) -> u32 {
        match (who.user, who.uid) {
            (None, Some(uid)) => {
                let id = UID | uid;
                let text = || uid.to_string().into_boxed_str();
                self.names.entry(id).or_insert_with(text);
                id
            }
            (name, _) => self.learn(name),
        }
    }

    fn row(&mut self, key: Result<Key, u32>, from: i64, to: i64) -> usize {
        let wanted = self.options.counts() || self.options.step() > 0;
        let detail = || Detail {
            counts: Counts::default(),
            course: Course::new(&self.options),
        };
        let detail = wanted.then(|| Box::new(detail()));
        self.rows.push(Found {
            key,
            comm: NONE,
            user: NONE,
            cgroup: NONE,
            container: NONE,
            members: u32::from(key.is_ok()),
            n: 0,
            from,
            to,
            sums: Sums::default(),
            detail,
        });
        self.rows.len() - 1
    }

    fn run(&mut self, run: &Run<'_>) {
        let (from, to) = run.span();
        let at = self.process(&run.who, from, to, run.n as u64);
        let counts = self.options.counts();
        if let (Some(row), Some(Some(value))) = (self.rows.get_mut(at), run.values.first()) {
            row.add(Some(*value), run.samples(), counts);
        }
    }

    /// Notes that a member of a group began and ended to have this much.
    fn member(&mut self, run: &Run<'_>) {
        if run.part != self.part {
            self.sweep();
            self.part = run.part;
            self.times.clear();
            self.times.extend_from_slice(run.times);
        }
        let who = &run.who;
        let ids = ids(who);
        let at = match self.before {
            Some((before, at)) if before == ids => at,
            _ => {
                let at = self.group(run);
                self.before = Some((ids, at));
                at
            }
        };
        let (Some(value), Some(Ok(row))) = (run.values.first(), at.map(u32::try_from)) else {
            return;
        };
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let (known, value) = (i32::from(value.is_some()), value.unwrap_or(0));
        for (at, value, members, known) in [
            (run.first, value, 1, known),
            (run.first + run.n, value.saturating_neg(), -1, -known),
        ] {
            self.edges.push(Edge {
                row,
                at: place(at),
                value,
                members,
                known,
            });
        }
    }

    /// The row of a group, of which this is a member; `None`: the group is not wanted.
    fn group(&mut self, run: &Run<'_>) -> Option<usize> {
        let who = &run.who;
        let group = match self.options.by {
            By::Process | By::Comm => self.learn(who.comm),
            By::Cgroup => self.learn(who.cgroup),
            By::Container => self.learn(who.container),
            By::User => self.user(who),
        };
        if let Some(only) = &self.only {
            let name = self.names.get(&group).map(ToString::to_string);
            if !only.contains(&name) {
                return None;
            }
        }
        let (from, to) = run.span();
        let at = match self.groups.get(&group) {
            Some(at) => *at,
            None => {
                let at = self.row(Err(group), from, to);
                self.groups.insert(group, at);
                at
            }
        };
        let key = self.key(who);
        let new = self.members.insert((group, key));
        if let Some(row) = self.rows.get_mut(at) {
            row.members += u32::from(new);
        }
        Some(at)
    }

    /// Adds up what members had at each moment of a part.
    fn sweep(&mut self) {
        let mut edges = std::mem::take(&mut self.edges);
        edges.sort_unstable_by_key(|edge| (u64::from(edge.row) << 32) | u64::from(edge.at));
        let counts = self.options.counts();
        let (mut total, mut members, mut known) = (0_i64, 0_i64, 0_i64);
        for (index, edge) in edges.iter().enumerate() {
            total = total.saturating_add(edge.value);
            members += i64::from(edge.members);
            known += i64::from(edge.known);
            let next = edges.get(index + 1).filter(|next| next.row == edge.row);
            let Some(next) = next.filter(|next| next.at > edge.at && members > 0) else {
                continue;
            };
            let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
            let Some(times) = self.times.get(place(edge.at)..place(next.at)) else {
                continue;
            };
            let Some(row) = self.rows.get_mut(place(edge.row)) else {
                continue;
            };
            let (Some(from), Some(to)) = (times.first(), times.last()) else {
                continue;
            };
            row.n += times.len() as u64;
            row.from = row.from.min(*from);
            row.to = row.to.max(*to);
            row.add((known > 0).then_some(total), times, counts);
        }
        edges.clear();
        self.edges = edges;
    }

    /// The rows in their order; `times` are those of all ticks of the range, `unit` is what keys end with.
    #[must_use]
    pub fn rows(mut self, unit: &'static str, times: &[i64]) -> Rows {
        self.sweep();
        // What was needed to find them.
        (self.processes, self.groups) = (HashMap::new(), HashMap::new());
        (self.members, self.edges) = (HashSet::new(), Vec::new());
        for row in self.rows.iter_mut().filter(|row| row.key.is_err()) {
            row.fill(times);
        }
        let ends = times.first().copied().zip(times.last().copied());
        Rows::new(self.options, self.names, self.rows, ends, unit)
    }
}

impl Found {
    /// Adds equal samples at these times.
    fn add(&mut self, value: Option<i64>, times: &[i64], counts: bool) {
        let (Some(from), Some(to)) = (times.first(), times.last()) else {
            return;
        };
        let n = times.len() as u64;
        if let Some(value) = value {
            self.sums.add(value, n, *from, *to);
        }
        let Some(detail) = &mut self.detail else {
            return;
        };
        detail.course.add(value, times);
        if let Some(value) = value.filter(|_| counts) {
            detail.counts.add(value, n);
        }
    }

    /// The total of a group is 0 at every tick at which it had no member.
    fn fill(&mut self, times: &[i64]) {
        let absent = (times.len() as u64).saturating_sub(self.n);
        if self.sums.n == 0 {
            return;
        }
        if absent > 0 {
            // Its ends are looked at in figures().
            let (first, last) = (self.sums.first, self.sums.last);
            self.sums.add(0, absent, first.0, last.0);
            (self.sums.first, self.sums.last) = (first, last);
        }
        if let Some(detail) = &mut self.detail {
            detail.course.fill(times);
            if absent > 0 {
                detail.counts.add(0, absent);
            }
        }
    }
}

fn ids(who: &Owner<'_>) -> Ids {
    let id = |name: Option<Name<'_>>| name.map_or(NONE, |name| name.id);
    let user = match (who.user, who.uid) {
        (None, Some(uid)) => UID | uid,
        (name, _) => id(name),
    };
    let names = [id(who.comm), user, id(who.cgroup), id(who.container)];
    (id(who.boot), who.pid, who.start, names)
}

/// A moment in the local zone, RFC 3339.
#[must_use]
pub fn stamp(ms: i64) -> String {
    let ns = ms.saturating_mul(1_000_000);
    time::rfc3339(ns, time::local_offset_s(ns)).unwrap_or_default()
}

pub(crate) fn figures(sums: &Sums, p95: Option<i64>) -> Figures {
    let some = |value: i64| (sums.n > 0).then_some(value);
    let growth = sums.last.1.saturating_sub(sums.first.1);
    let hours = (sums.last.0 - sums.first.0) as f64 / HOUR_MS as f64;
    Figures {
        first: some(sums.first.1),
        last: some(sums.last.1),
        min: some(sums.min),
        max: some(sums.max),
        avg: sums.avg(),
        p95,
        growth: some(growth),
        growth_per_hour: (sums.n > 0 && hours > 0.0).then(|| growth as f64 / hours),
    }
}

/// How well a range is covered: `times` are those of its ticks, in order; `known` of the whole store.
#[must_use]
pub fn covered(range: Range, times: &[i64], known: Option<(i64, i64)>) -> Covered {
    let mut steps: Vec<i64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    let middle = steps.len() / 2;
    let interval = (!steps.is_empty()).then(|| *steps.select_nth_unstable(middle).1);
    let gap = |from: i64, to: i64| Gap {
        from: stamp(from),
        to: stamp(to),
        seconds: (to - from) as f64 / 1000.0,
    };
    let most = interval.map_or(i64::MAX, |interval| interval.saturating_mul(3));
    let edges = [range.start_ms].into_iter().chain(times.iter().copied());
    let ends = times.iter().copied().chain([range.end_ms]);
    let gaps = edges.zip(ends).filter(|(from, to)| to - from > most);
    let gaps = gaps.map(|(from, to)| gap(from, to)).collect();
    Covered {
        start: stamp(range.start_ms),
        end: stamp(range.end_ms),
        ticks: times.len() as u64,
        interval_ms: interval,
        first: times.first().copied().map(stamp),
        last: times.last().copied().map(stamp),
        gaps,
        store_first: known.map(|(first, _)| stamp(first)),
        store_last: known.map(|(_, last)| stamp(last)),
    }
}
