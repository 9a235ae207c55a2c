//! The last minutes of samples, kept small: what an incident's `before`, growth and candidates are made of.
//!
//! A process is a few dozen bytes for as long as its figures stay the same ([`Run`]), and is dropped soon after its
//! end: the window of a session that never ends grows with what changes, not with what is there.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::CgroupMetrics;
use crate::model::Nanos;
use crate::model::ProcessSample;
use crate::model::Sample;
use crate::model::SystemMetrics;
use crate::report::oom::Before;
use crate::report::oom::BeforeCgroup;
use crate::report::oom::BeforeProcess;
use crate::report::oom::BeforeSystem;

use super::people::text;

/// Processes of a row of `before`.
const TOP: usize = 5;
/// Most rows of `before`.
const ROWS_MAX: usize = 120;
/// The end of the window that is kept whole.
const WHOLE_NS: u64 = 10_000_000_000;

/// Figures of processes are kept for this long: longer than an incident waits.
const RECENT_NS: u64 = 3_000_000_000;
/// A process that ended is kept for this long: its incident is closed by then.
const GONE_NS: u64 = 30_000_000_000;

/// A process is its id and its start (ticks).
pub(super) type Key = (u32, u64);

/// A process's memory at one moment, KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) ts: Nanos,
    pub(super) rss_kb: Option<u64>,
    swap_kb: Option<u64>,
}

/// A figure in four bytes, KiB: no process of this kernel has 4 TiB. Four hundred thousand of them are kept under
/// pressure on a busy host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kb(u32);

impl Kb {
    const UNKNOWN: u32 = u32::MAX;

    fn new(kb: Option<u64>) -> Self {
        let most = u64::from(Self::UNKNOWN - 1);
        let small = kb.and_then(|kb| u32::try_from(kb.min(most)).ok());
        Self(small.unwrap_or(Self::UNKNOWN))
    }

    fn get(self) -> Option<u64> {
        (self.0 != Self::UNKNOWN).then_some(u64::from(self.0))
    }
}

/// Samples that follow each other, all of which have a process with the same figures.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Number of the first sample: ten a second for thirteen years are as many as fit.
    first: u32,
    /// How many.
    samples: u32,
    rss: Kb,
    swap: Kb,
}

impl Run {
    /// Number of the sample behind the last.
    fn end(&self) -> u32 {
        self.first + self.samples
    }

    fn holds(&self, number: u32) -> bool {
        (self.first..self.end()).contains(&number)
    }
}

/// What badness is made of, at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// When they were had.
    pub(super) ts: Nanos,
    rss: Kb,
    swap: Kb,
    pgtables: Kb,
    pub(super) oom_score_adj: Option<i32>,
}

impl Figures {
    pub(super) fn rss_kb(&self) -> Option<u64> {
        self.rss.get()
    }

    pub(super) fn swap_kb(&self) -> Option<u64> {
        self.swap.get()
    }

    pub(super) fn pgtables_kb(&self) -> Option<u64> {
        self.pgtables.get()
    }
}

/// A process in the window.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) comm: Arc<str>,
    /// When its last figures were had.
    ts: Nanos,
    /// The figures of the last seconds and the ones before, oldest first: an incident closes after its mark.
    recent: Vec<Figures>,
    /// It has ended: seen to exit, or a whole scan did not find it.
    gone: Option<Nanos>,
    series: VecDeque<Run>,
}

impl Process {
    fn new(one: &ProcessSample) -> Self {
        Self {
            pid: one.pid,
            comm: text(&one.comm).into(),
            ts: 0,
            recent: Vec::new(),
            gone: None,
            series: VecDeque::new(),
        }
    }

    /// Takes the figures of a sample.
    fn push(&mut self, ts: Nanos, number: u32, one: &ProcessSample) {
        let (rss, swap) = (Kb::new(one.metrics.rss_kb), Kb::new(one.metrics.swap_kb));
        if *self.comm != *one.comm.lossy() {
            if self.runs_another(rss) {
                self.series.clear();
            }
            self.comm = text(&one.comm).into();
        }
        self.recent.push(Figures {
            ts,
            rss,
            swap,
            pgtables: Kb::new(one.metrics.pgtables_kb),
            oom_score_adj: one.oom_score_adj,
        });
        let from = ts.saturating_sub(RECENT_NS);
        // The newest one from before that time stays.
        let old = self.recent.partition_point(|one| one.ts <= from);
        self.recent.drain(..old.saturating_sub(1));
        self.ts = ts;
        self.gone = None;
        match self.series.back_mut() {
            Some(run) if run.end() == number && run.rss == rss && run.swap == swap => {
                run.samples += 1;
            }
            _ => self.series.push_back(Run {
                first: number,
                samples: 1,
                rss,
                swap,
            }),
        }
    }

    /// Whether it runs another program now, with another name: a child has its parent's name and memory until its
    /// exec, and that is no part of its own growth.
    fn runs_another(&self, now: Kb) -> bool {
        let before = self.recent.last().and_then(|one| one.rss.get());
        before.map(|before| before / 2) > now.get()
    }

    /// Its newest figures at or before a moment.
    fn figures(&self, at: Nanos) -> Option<&Figures> {
        self.recent.iter().rev().find(|one| one.ts <= at)
    }

    /// Drops what is older than a sample.
    fn trim(&mut self, first: u32) {
        while self.series.front().is_some_and(|run| run.end() <= first) {
            self.series.pop_front();
        }
        // A busy minute leaves room for hundreds.
        if self.series.capacity() > 16 && self.series.capacity() / 4 > self.series.len() {
            self.series.shrink_to(self.series.len() * 2);
        }
    }
}

/// One of the largest processes of a sample.
#[derive(Debug)]
struct Large {
    pid: u32,
    comm: Arc<str>,
    rss: Kb,
    swap: Kb,
}

#[derive(Debug)]
struct Row {
    ts: Nanos,
    system: Option<BeforeSystem>,
    top: Vec<Large>,
}

#[derive(Debug)]
struct Cgroup {
    path: String,
    oom_group: Option<bool>,
    last: CgroupMetrics,
    series: VecDeque<(Nanos, [Option<u64>; 5])>,
}

/// The window.
#[derive(Debug, Default)]
pub(super) struct Window {
    span_ns: u64,
    rows: VecDeque<Row>,
    /// Number of the first of them.
    first: u32,
    processes: BTreeMap<Key, Process>,
    cgroups: BTreeMap<u64, Cgroup>,
    system: VecDeque<(Nanos, SystemMetrics)>,
}

impl Window {
    pub(super) fn span(&mut self, seconds: u64) {
        self.span_ns = seconds.saturating_mul(1_000_000_000);
    }

    pub(super) fn push(&mut self, sample: &Sample) {
        let ts = sample.ts_ns;
        let number = self.number(self.rows.len());
        for one in &sample.processes {
            let key = (one.pid, one.start_ticks);
            let process = self.processes.entry(key);
            let process = process.or_insert_with(|| Process::new(one));
            process.push(ts, number, one);
        }
        if sample.all_processes {
            for process in self.processes.values_mut().filter(|one| one.ts != ts) {
                process.gone.get_or_insert(ts);
            }
        }
        self.rows.push_back(Row {
            ts,
            system: sample.system.as_ref().map(before_system),
            top: self.largest(sample),
        });
        if let Some(system) = &sample.system {
            self.system.push_back((ts, system.clone()));
            // The last before a kill is enough; a few more, for a kill is heard of after it happened.
            if self.system.len() > 32 {
                self.system.pop_front();
            }
        }
        self.push_cgroups(sample);
        self.trim(ts);
    }

    /// Number of the sample at a place.
    fn number(&self, at: usize) -> u32 {
        self.first + u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn largest(&self, sample: &Sample) -> Vec<Large> {
        let size = |one: &ProcessSample| one.metrics.rss_kb.unwrap_or(0);
        let mut all: Vec<&ProcessSample> = sample.processes.iter().collect();
        let order = |a: &&ProcessSample, b: &&ProcessSample| {
            let key = |one: &ProcessSample| (one.pid, one.start_ticks);
            size(b).cmp(&size(a)).then(key(a).cmp(&key(b)))
        };
        if all.len() > TOP {
            all.select_nth_unstable_by(TOP, order);
            all.truncate(TOP);
        }
        all.sort_unstable_by(order);
        let all = all.into_iter();
        let large = all.filter_map(|one| {
            let process = self.processes.get(&(one.pid, one.start_ticks))?;
            let run = process.series.back()?;
            Some(Large {
                pid: one.pid,
                comm: Arc::clone(&process.comm),
                rss: run.rss,
                swap: run.swap,
            })
        });
        large.collect()
    }

    fn push_cgroups(&mut self, sample: &Sample) {
        for one in &sample.cgroups {
            let cgroup = self.cgroups.entry(one.id).or_insert_with(|| Cgroup {
                path: text(&one.path),
                oom_group: None,
                last: CgroupMetrics::default(),
                series: VecDeque::new(),
            });
            let m = &one.metrics;
            cgroup.oom_group = one.oom_group;
            cgroup.last.clone_from(m);
            let figures = [m.usage_kb, m.limit_kb, m.anon_kb, m.file_kb, m.swap_kb];
            cgroup.series.push_back((sample.ts_ns, figures));
        }
    }

    fn trim(&mut self, now: Nanos) {
        let from = now.saturating_sub(self.span_ns);
        while self.rows.front().is_some_and(|row| row.ts < from) {
            self.rows.pop_front();
            self.first += 1;
        }
        let (first, gone) = (self.first, now.saturating_sub(GONE_NS.min(self.span_ns)));
        self.processes.retain(|_, process| {
            process.trim(first);
            !process.series.is_empty() && process.gone.is_none_or(|at| at >= gone)
        });
        for cgroup in self.cgroups.values_mut() {
            while cgroup.series.front().is_some_and(|point| point.0 < from) {
                cgroup.series.pop_front();
            }
        }
        self.cgroups.retain(|_, cgroup| !cgroup.series.is_empty());
    }

    /// A process has ended.
    pub(super) fn exited(&mut self, pid: u32, ts: Nanos) {
        let all = self.processes.range_mut((pid, 0)..=(pid, u64::MAX));
        for (_, process) in all.filter(|(_, process)| process.ts <= ts) {
            process.gone.get_or_insert(ts);
        }
    }

    /// The host's last figures at or before a moment, and when they were had.
    pub(super) fn system(&self, at: Nanos) -> Option<(Nanos, &SystemMetrics)> {
        let mut known = self.system.iter().rev();
        known
            .find(|(ts, _)| *ts <= at)
            .map(|(ts, system)| (*ts, system))
    }

    /// Path of the cgroup whose folder has this inode.
    pub(super) fn cgroup_path(&self, id: u64) -> Option<&str> {
        self.cgroups.get(&id).map(|cgroup| cgroup.path.as_str())
    }

    /// Whether a cgroup, or one above it, is killed as a whole; unknown when no sample says so.
    pub(super) fn oom_group(&self, path: &str) -> Option<bool> {
        let above = self
            .cgroups
            .values()
            .filter(|cgroup| super::people::below(path, &cgroup.path))
            .filter_map(|cgroup| cgroup.oom_group);
        above.reduce(|a, b| a || b)
    }

    fn cgroup(&self, path: &str) -> Option<&Cgroup> {
        self.cgroups.values().find(|cgroup| cgroup.path == path)
    }

    /// Last figures of a cgroup.
    pub(super) fn cgroup_metrics(&self, path: &str) -> Option<&CgroupMetrics> {
        self.cgroup(path).map(|cgroup| &cgroup.last)
    }

    /// Processes that lived at a moment, with their newest figures from before it.
    pub(super) fn alive(&self, at: Nanos) -> impl Iterator<Item = (&Process, &Figures)> {
        let lived = move |one: &&Process| one.gone.is_none_or(|gone| gone > at);
        let known = self.processes.values().filter(lived);
        known.filter_map(move |one| Some((one, one.figures(at)?)))
    }

    /// Usage and limit of a cgroup at or before a moment.
    pub(super) fn use_of(&self, path: &str, at: Nanos) -> Option<(Option<u64>, Option<u64>)> {
        let mut series = self.cgroup(path)?.series.iter().rev();
        let [usage, limit, ..] = series.find(|one| one.0 <= at)?.1;
        Some((usage, limit))
    }

    /// A process's points up to a moment; `start` picks one of several that had its number.
    pub(super) fn points(&self, pid: u32, start: Option<u64>, at: Nanos) -> Vec<Point> {
        let mut found = Vec::new();
        for (key, process) in self.processes.range((pid, 0)..=(pid, u64::MAX)) {
            if start.is_none_or(|start| key.1.abs_diff(start) <= 1) {
                let points = self.points_of(process, at);
                if !points.is_empty() {
                    found = points;
                }
            }
        }
        found
    }

    fn points_of(&self, process: &Process, at: Nanos) -> Vec<Point> {
        let mut runs = process.series.iter().peekable();
        let mut points = Vec::new();
        for (place, row) in self.rows.iter().enumerate() {
            let number = self.number(place);
            while runs.next_if(|run| run.end() <= number).is_some() {}
            let Some(run) = runs.peek() else { break };
            if run.holds(number) && row.ts <= at {
                points.push(Point {
                    ts: row.ts,
                    rss_kb: run.rss.get(),
                    swap_kb: run.swap.get(),
                });
            }
        }
        points
    }

    /// Rows before a mark, oldest first: the last ten seconds whole, the rest thinned to `most` in all.
    pub(super) fn before(
        &self,
        at: Nanos,
        victim: (u32, &str, &[Point]),
        cgroup: Option<&str>,
        most: usize,
    ) -> Vec<Before> {
        let from = at.saturating_sub(self.span_ns);
        let rows: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| row.ts <= at && row.ts >= from)
            .collect();
        let cgroup = cgroup.and_then(|path| self.cgroup(path));
        let thinned = thin(&rows, at, most.min(ROWS_MAX));
        let make = |row: &&Row| one_row(row, at, victim, cgroup);
        thinned.iter().map(make).collect()
    }
}

fn one_row(row: &Row, at: Nanos, victim: (u32, &str, &[Point]), cgroup: Option<&Cgroup>) -> Before {
    let (pid, comm, points) = victim;
    let mine = points.iter().find(|point| point.ts == row.ts);
    let top = row.top.iter().map(|one| BeforeProcess {
        pid: one.pid,
        comm: one.comm.to_string(),
        rss_kb: one.rss.get(),
        swap_kb: one.swap.get(),
    });
    let cgroup = cgroup.and_then(|cgroup| {
        let at = cgroup.series.binary_search_by_key(&row.ts, |point| point.0);
        let [usage_kb, limit_kb, anon_kb, file_kb, swap_kb] = cgroup.series.get(at.ok()?)?.1;
        let path = cgroup.path.clone();
        Some(BeforeCgroup {
            path,
            usage_kb,
            limit_kb,
            anon_kb,
            file_kb,
            swap_kb,
        })
    });
    Before {
        t_ms: -super::ms(at - row.ts),
        system: row.system.clone(),
        cgroup,
        victim: mine.map(|point| BeforeProcess {
            pid,
            comm: comm.to_owned(),
            rss_kb: point.rss_kb,
            swap_kb: point.swap_kb,
        }),
        top: top.collect(),
    }
}

fn before_system(m: &SystemMetrics) -> BeforeSystem {
    BeforeSystem {
        mem_free_kb: m.mem_free_kb,
        mem_available_kb: m.mem_available_kb,
        cached_kb: m.cached_kb,
        swap_free_kb: m.swap_free_kb,
        psi_some_avg10: m.psi_some_avg10.map(hundredths),
        psi_full_avg10: m.psi_full_avg10.map(hundredths),
        pswpin: m.pswpin,
        pswpout: m.pswpout,
        pgmajfault: m.pgmajfault,
    }
}

fn hundredths(value: u64) -> f64 {
    u32::try_from(value).map_or(f64::INFINITY, f64::from) / 100.0
}

/// Keeps the first row and the newest ones of the last seconds, and spreads the rest evenly.
fn thin<'a>(rows: &[&'a Row], at: Nanos, most: usize) -> Vec<&'a Row> {
    if rows.len() <= most {
        return rows.to_vec();
    }
    let split = rows.partition_point(|row| at - row.ts > WHOLE_NS);
    // A quarter of the rows is for the minutes before, also when the last seconds were sampled often.
    let late = (rows.len() - split).min(most - most / 4);
    let early = &rows[..rows.len() - late];
    let room = most - late;
    let step = |index: usize| early[index * early.len() / room.max(1)];
    let mut out: Vec<&Row> = (0..room.min(early.len())).map(step).collect();
    out.extend_from_slice(&rows[rows.len() - late..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProcessMetrics;
    use crate::model::RawText;

    fn sample(second: u64, comm: &str, rss_kb: u64) -> Sample {
        Sample {
            ts_ns: second * 1_000_000_000,
            processes: vec![ProcessSample {
                pid: 7,
                start_ticks: 70,
                comm: RawText::from(comm),
                metrics: ProcessMetrics {
                    rss_kb: Some(rss_kb),
                    ..ProcessMetrics::default()
                },
                ..ProcessSample::default()
            }],
            ..Sample::default()
        }
    }

    #[test]
    fn a_childs_growth_begins_with_its_program() {
        let mut window = Window::default();
        window.span(300);
        window.push(&sample(1, "parent", 900_000));
        window.push(&sample(2, "child", 4000));
        window.push(&sample(3, "child", 5000));
        // A process that only calls itself otherwise is still the same.
        window.push(&sample(4, "worker", 6000));
        let points = window.points(7, Some(70), 5_000_000_000);
        let rss: Vec<_> = points.iter().filter_map(|point| point.rss_kb).collect();
        assert_eq!(rss, [4000, 5000, 6000]);
    }

    fn points(window: &Window, pid: u32, at: u64) -> Vec<(u64, Option<u64>)> {
        let points = window.points(pid, None, at * 1_000_000_000).into_iter();
        points
            .map(|one| (one.ts / 1_000_000_000, one.rss_kb))
            .collect()
    }

    #[test]
    fn figures_that_stay_the_same_cost_nothing_and_are_all_there() {
        let mut window = Window::default();
        window.span(60);
        for second in 1..=600 {
            window.push(&sample(
                second,
                "still",
                if second < 590 { 100 } else { 200 },
            ));
        }
        let process = &window.processes[&(7, 70)];
        assert_eq!(process.series.len(), 2);
        assert!(process.recent.len() <= 5);
        let found = points(&window, 7, 600);
        assert_eq!(
            (found.len(), found[0], found[60]),
            (61, (540, Some(100)), (600, Some(200)))
        );
        assert_eq!(points(&window, 7, 545).len(), 6);
    }

    #[test]
    fn a_sample_without_a_process_has_no_point_of_it() {
        let mut window = Window::default();
        window.span(60);
        for second in [1, 2, 3, 4, 5] {
            let mut one = sample(second, "x", 100);
            if second == 3 {
                one.processes.clear();
            }
            window.push(&one);
        }
        let seconds: Vec<u64> = points(&window, 7, 9).iter().map(|one| one.0).collect();
        assert_eq!(seconds, [1, 2, 4, 5]);
    }

    #[test]
    fn who_ended_is_forgotten_but_not_the_rows_that_name_it() {
        let mut window = Window::default();
        window.span(300);
        // Fifty processes a second that live for one sample, and one that stays.
        for second in 1..=200u64 {
            let mut one = sample(second, "stays", 10);
            one.all_processes = true;
            for young in 0..50 {
                let pid = 1000 + u32::try_from(second).unwrap() * 50 + young;
                let mut process = sample(second, "young", 20).processes.remove(0);
                (process.pid, process.start_ticks) = (pid, u64::from(pid));
                one.processes.push(process);
            }
            window.push(&one);
        }
        assert!(
            window.processes.len() <= 1 + 50 * 32,
            "{}",
            window.processes.len()
        );
        let before = window.before(150_000_000_000, (7, "stays", &[]), None, 120);
        assert!(
            before
                .iter()
                .all(|row| row.top.len() == TOP && row.top[0].comm == "young")
        );
    }

    #[test]
    fn sizes_are_small() {
        assert_eq!(size_of::<Run>(), 16);
        assert!(size_of::<Figures>() <= 32);
        assert_eq!(Kb::new(Some(u64::MAX)).get(), Some(u64::from(u32::MAX) - 1));
        assert_eq!(Kb::new(None).get(), None);
    }
}
