//! From the rows of a store to series: the host at every tick, and each life of a process.

use std::collections::HashMap;

use super::even::Even;
use super::even::Gather;
use super::outlier::Figures;
use super::swap::Moment;
use crate::model::CgroupRun;
use crate::model::Run;

/// Figures of the host, in the order that [`moment`] wants.
pub const SYSTEM_FIELDS: [&str; 8] = [
    "mem_total_kb",
    "mem_available_kb",
    "swap_total_kb",
    "swap_free_kb",
    "pswpin",
    "pswpout",
    "workingset_refault_anon",
    "psi_full_total_us",
];

/// Figures of processes, in the order that [`Processes::take`] wants.
pub const PROCESS_FIELDS: [&str; 3] = ["rss_kb", "swap_kb", "majflt"];

/// Figures of memory cgroups, in the order that [`Cgroups::take`] wants.
pub const CGROUP_FIELDS: [&str; 3] = ["usage_kb", "anon_kb", "swap_kb"];

/// A moment of the host from the figures of [`SYSTEM_FIELDS`].
#[must_use]
pub fn moment(ts_ms: i64, values: &[Option<i64>]) -> Moment {
    let value = |at: usize| values.get(at).copied().flatten().map(|value| value as f64);
    let less = |whole: usize, part: usize| Some(value(whole)? - value(part)?);
    Moment {
        time_s: ts_ms as f64 / 1000.0,
        total_kb: value(0),
        used_kb: less(0, 1),
        swap_kb: less(2, 3),
        swapped_in: value(4),
        swapped_out: value(5),
        refaults: value(6),
        full_us: value(7),
    }
}

/// A life of a process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start, clock ticks since boot.
    pub start: u64,
    /// Its newest name.
    pub comm: String,
    /// Its memory cgroup, where that is known.
    pub cgroup: Option<String>,
    /// It is one of those that are asked for.
    pub wanted: bool,
    /// Resident memory, KiB.
    pub rss: Even,
    /// First and last sample, seconds since 1970.
    pub span_s: (f64, f64),
    /// What it is compared with others by.
    pub figures: Figures,
}

/// What is known of a counter or a size at two moments.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    first: Option<(f64, f64)>,
    last: Option<(f64, f64)>,
}

impl Ends {
    fn add(&mut self, from_s: f64, to_s: f64, value: Option<i64>) {
        if let Some(value) = value.map(|value| value as f64) {
            self.first.get_or_insert((from_s, value));
            self.last = Some((to_s, value));
        }
    }

    /// Change a second; `None`: less than `least_s` passed.
    fn rate(&self, least_s: f64) -> Option<f64> {
        let ((from, first), (to, last)) = (self.first?, self.last?);
        (to - from >= least_s).then(|| (last - first) / (to - from))
    }
}

#[derive(Debug)]
struct Track {
    comm: String,
    cgroup: Option<String>,
    wanted: bool,
    rss: Gather,
    span_s: (f64, f64),
    ends: [Ends; 3],
}

/// Growth over less than this says nothing, seconds: a program that starts fills its caches.
const GROWTH_S: f64 = 1800.0;
/// And so do major faults: such a program has them.
const FAULTS_S: f64 = 60.0;

/// Processes in the making.
#[derive(Debug)]
pub struct Processes {
    step_s: f64,
    tracks: HashMap<(u32, u32, u64), Track>,
}

impl Processes {
    /// Nothing yet; sizes are kept at steps of `step_s`.
    #[must_use]
    pub fn new(step_s: f64) -> Self {
        Self {
            step_s,
            tracks: HashMap::new(),
        }
    }

    /// Adds samples that are alike: the figures of [`PROCESS_FIELDS`]. `wanted`: the process is asked for.
    pub fn take(&mut self, run: &Run<'_>, wanted: bool) {
        let who = &run.who;
        let (first, last) = run.span();
        let (first, last) = (first as f64 / 1000.0, last as f64 / 1000.0);
        let boot = who.boot.map_or(0, |boot| boot.id + 1);
        let begin = (first / self.step_s).floor() * self.step_s;
        let track = self
            .tracks
            .entry((boot, who.pid, who.start))
            .or_insert_with(|| Track {
                comm: String::new(),
                cgroup: None,
                wanted: false,
                rss: Gather::new(begin, self.step_s),
                span_s: (first, last),
                ends: [Ends::default(); 3],
            });
        if let Some(comm) = who.comm.filter(|comm| comm.text != track.comm) {
            comm.text.clone_into(&mut track.comm);
        }
        if let Some(cgroup) = who.cgroup
            && track.cgroup.as_deref() != Some(cgroup.text)
        {
            track.cgroup = Some(cgroup.text.to_owned());
        }
        track.wanted |= wanted;
        track.span_s.0 = track.span_s.0.min(first);
        track.span_s.1 = track.span_s.1.max(last);
        let value = |at: usize| run.values.get(at).copied().flatten();
        for (at, ends) in track.ends.iter_mut().enumerate() {
            ends.add(first, last, value(at));
        }
        if let Some(rss) = value(0) {
            for ts in run.samples() {
                track.rss.add(*ts as f64 / 1000.0, rss as f64);
            }
        }
    }

    /// The lives that have sizes, in order of pid and start.
    #[must_use]
    pub fn lives(self) -> Vec<Process> {
        let life = |((_, pid, start), track): ((u32, u32, u64), Track)| {
            let [rss, swap, faults] = track.ends;
            let last = |ends: Ends| ends.last.map_or(0.0, |(_, value)| value);
            Some(Process {
                pid,
                start,
                comm: track.comm,
                cgroup: track.cgroup,
                wanted: track.wanted,
                rss: track.rss.even()?,
                span_s: track.span_s,
                figures: [
                    last(rss),
                    last(swap),
                    rss.rate(GROWTH_S).unwrap_or(0.0) * 3600.0,
                    faults.rate(FAULTS_S).unwrap_or(0.0).max(0.0),
                ],
            })
        };
        let mut lives: Vec<Process> = self.tracks.into_iter().filter_map(life).collect();
        lives.sort_by(|a, b| {
            let key = |one: &Process| (one.pid, one.start);
            key(a).cmp(&key(b)).then(a.span_s.0.total_cmp(&b.span_s.0))
        });
        lives
    }
}

/// A measure of a memory cgroup over time.
#[derive(Clone, Debug)]
pub struct Cgroup {
    /// Its path.
    pub path: String,
    /// `anon+swap`: what its processes hold; `usage`: with the page cache that is charged to it.
    pub measure: &'static str,
    /// KiB.
    pub sizes: Even,
    /// First and last sample, seconds since 1970.
    pub span_s: (f64, f64),
}

#[derive(Debug)]
struct Group {
    held: Gather,
    usage: Gather,
    span_s: (f64, f64),
}

/// Memory cgroups in the making: one that is made anew is another one.
#[derive(Debug)]
pub struct Cgroups {
    step_s: f64,
    groups: HashMap<(String, u64), Group>,
}

impl Cgroups {
    /// Nothing yet; sizes are kept at steps of `step_s`.
    #[must_use]
    pub fn new(step_s: f64) -> Self {
        Self {
            step_s,
            groups: HashMap::new(),
        }
    }

    /// Adds samples that are alike: the figures of [`CGROUP_FIELDS`].
    pub fn take(&mut self, run: &CgroupRun<'_>) {
        let times = run.times.get(run.first..run.first + run.n);
        let times = times.unwrap_or_default();
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            return;
        };
        let (first, last) = (*first as f64 / 1000.0, *last as f64 / 1000.0);
        let begin = (first / self.step_s).floor() * self.step_s;
        let key = (run.path.text.to_owned(), run.id);
        let group = self.groups.entry(key).or_insert_with(|| Group {
            held: Gather::new(begin, self.step_s),
            usage: Gather::new(begin, self.step_s),
            span_s: (first, last),
        });
        group.span_s = (group.span_s.0.min(first), group.span_s.1.max(last));
        let value = |at: usize| run.values.get(at).copied().flatten();
        let held = value(1).map(|anon| anon.saturating_add(value(2).unwrap_or(0)));
        for (gather, value) in [(&mut group.held, held), (&mut group.usage, value(0))] {
            let Some(value) = value else { continue };
            for ts in times {
                gather.add(*ts as f64 / 1000.0, value as f64);
            }
        }
    }

    /// What is known of each, in order of path: what its processes hold before its whole usage.
    #[must_use]
    pub fn series(self) -> Vec<Cgroup> {
        let mut groups: Vec<((String, u64), Group)> = self.groups.into_iter().collect();
        groups.sort_by(|a, b| {
            let by_time = a.1.span_s.0.total_cmp(&b.1.span_s.0);
            a.0.0.cmp(&b.0.0).then(by_time).then(a.0.1.cmp(&b.0.1))
        });
        let mut all = Vec::new();
        for ((path, _), group) in groups {
            for (measure, gather) in [("anon+swap", group.held), ("usage", group.usage)] {
                all.extend(gather.even().map(|sizes| Cgroup {
                    path: path.clone(),
                    measure,
                    sizes,
                    span_s: group.span_s,
                }));
            }
        }
        all
    }
}
