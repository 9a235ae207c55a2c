//! The last minutes of samples, kept small: what an incident's `before`, growth and candidates are made of.

use std::collections::BTreeMap;
use std::collections::VecDeque;

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

/// A process is its id and its start (ticks).
pub(super) type Key = (u32, u64);

/// A process's memory at one moment, KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) ts: Nanos,
    pub(super) rss_kb: Option<u64>,
    swap_kb: Option<u64>,
}

/// What badness is made of, at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// When they were had.
    pub(super) ts: Nanos,
    pub(super) rss_kb: Option<u64>,
    pub(super) swap_kb: Option<u64>,
    pub(super) pgtables_kb: Option<u64>,
    pub(super) oom_score_adj: Option<i32>,
}

/// A process in the window.
#[derive(Debug)]
pub(super) struct Process {
    /// Its last figures.
    pub(super) last: ProcessSample,
    /// When they were had.
    ts: Nanos,
    /// The figures of the last seconds and the ones before, oldest first: an incident closes after its mark.
    recent: VecDeque<Figures>,
    /// It has ended: seen to exit, or a whole scan did not find it.
    gone: Option<Nanos>,
    series: VecDeque<Point>,
}

impl Process {
    fn recent(&mut self, ts: Nanos, one: &ProcessSample) {
        self.recent.push_back(Figures {
            ts,
            rss_kb: one.metrics.rss_kb,
            swap_kb: one.metrics.swap_kb,
            pgtables_kb: one.metrics.pgtables_kb,
            oom_score_adj: one.oom_score_adj,
        });
        let from = ts.saturating_sub(RECENT_NS);
        // The newest one from before that time stays.
        while self.recent.get(1).is_some_and(|next| next.ts <= from) {
            self.recent.pop_front();
        }
    }

    /// Whether it runs another program now: a child has its parent's name and memory until its exec, and that
    /// is no part of its own growth.
    fn runs_another(&self, now: &ProcessSample) -> bool {
        let less = self.last.metrics.rss_kb.map(|before| before / 2) > now.metrics.rss_kb;
        less && self.last.comm != now.comm
    }

    /// Its newest figures at or before a moment.
    fn figures(&self, at: Nanos) -> Option<&Figures> {
        self.recent.iter().rev().find(|one| one.ts <= at)
    }
}

#[derive(Debug)]
struct Row {
    ts: Nanos,
    system: Option<BeforeSystem>,
    top: Vec<Key>,
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
        let mut keys: Vec<(u64, Key)> = Vec::new();
        for one in &sample.processes {
            let key = (one.pid, one.start_ticks);
            keys.push((one.metrics.rss_kb.unwrap_or(0), key));
            let point = Point {
                ts,
                rss_kb: one.metrics.rss_kb,
                swap_kb: one.metrics.swap_kb,
            };
            let process = self.processes.entry(key).or_insert_with(|| Process {
                last: one.clone(),
                ts,
                recent: VecDeque::new(),
                gone: None,
                series: VecDeque::new(),
            });
            if process.runs_another(one) {
                process.series.clear();
            }
            process.recent(ts, one);
            process.last.clone_from(one);
            process.ts = ts;
            process.gone = None;
            process.series.push_back(point);
        }
        if sample.all_processes {
            for process in self.processes.values_mut().filter(|one| one.ts != ts) {
                process.gone.get_or_insert(ts);
            }
        }
        keys.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        keys.truncate(TOP);
        self.rows.push_back(Row {
            ts,
            system: sample.system.as_ref().map(before_system),
            top: keys.into_iter().map(|(_, key)| key).collect(),
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
        }
        for process in self.processes.values_mut() {
            while process.series.front().is_some_and(|point| point.ts < from) {
                process.series.pop_front();
            }
        }
        self.processes
            .retain(|_, process| !process.series.is_empty());
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
        let mut found: Option<&Process> = None;
        for (key, process) in self.processes.range((pid, 0)..=(pid, u64::MAX)) {
            let fits = start.is_none_or(|start| key.1.abs_diff(start) <= 1);
            if fits && process.series.front().is_some_and(|point| point.ts <= at) {
                found = Some(process);
            }
        }
        let series = found.into_iter().flat_map(|process| &process.series);
        series.filter(|point| point.ts <= at).copied().collect()
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
        let make = |row: &&Row| self.row(row, at, victim, cgroup);
        thinned.iter().map(make).collect()
    }

    fn row(
        &self,
        row: &Row,
        at: Nanos,
        victim: (u32, &str, &[Point]),
        cgroup: Option<&Cgroup>,
    ) -> Before {
        let (pid, comm, points) = victim;
        let mine = points.iter().find(|point| point.ts == row.ts);
        let top = row.top.iter().filter_map(|key| {
            let process = self.processes.get(key)?;
            let at = process
                .series
                .binary_search_by_key(&row.ts, |point| point.ts);
            let point = process.series.get(at.ok()?)?;
            Some(before_process(key.0, &text(&process.last.comm), point))
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
            victim: mine.map(|point| before_process(pid, comm, point)),
            top: top.collect(),
        }
    }
}

fn before_process(pid: u32, comm: &str, point: &Point) -> BeforeProcess {
    BeforeProcess {
        pid,
        comm: comm.to_owned(),
        rss_kb: point.rss_kb,
        swap_kb: point.swap_kb,
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
}
