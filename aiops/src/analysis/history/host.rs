//! The host and its memory cgroups over a range.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;

use super::Options;
use super::course::Course;
use super::figures;
use super::stamp;
use crate::model::CgroupRun;
use crate::model::Filter;
use crate::model::Sums;
use crate::report::query::CgroupRow;
use crate::report::query::SystemStep;

/// The figures of the host that steps are made from, in the order that [`Host::take`] wants.
pub const SYSTEM_FIELDS: [&str; 18] = [
    "mem_total_kb",
    "mem_available_kb",
    "swap_total_kb",
    "swap_free_kb",
    "psi_some_total_us",
    "psi_full_total_us",
    "disk_read_kb",
    "disk_written_kb",
    "net_rx_bytes",
    "net_tx_bytes",
    "pswpin",
    "pswpout",
    "oom_kill",
    "cpu_user_ticks",
    "cpu_system_ticks",
    "cpu_steal_ticks",
    "cpu_idle_ticks",
    "cpu_iowait_ticks",
];
/// Where counters begin and end in [`SYSTEM_FIELDS`].
const COUNTERS: std::ops::Range<usize> = 4..18;

/// How far a counter went, and in what time.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    count: i64,
    ms: i64,
}

#[derive(Clone, Debug, Default)]
struct Step {
    samples: u64,
    available: Sums,
    used: Sums,
    swap: Sums,
    ways: [Way; COUNTERS.end - COUNTERS.start],
}

/// The host, by steps.
#[derive(Debug)]
pub struct Host {
    start: i64,
    step: i64,
    steps: BTreeMap<i64, Step>,
    before: Option<(i64, Vec<Option<i64>>)>,
}

impl Host {
    /// Nothing yet; `step_ms` is the length of a step.
    #[must_use]
    pub fn new(start_ms: i64, step_ms: i64) -> Self {
        Self {
            start: start_ms,
            step: step_ms.max(1),
            steps: BTreeMap::new(),
            before: None,
        }
    }

    /// Adds a moment: the figures of [`SYSTEM_FIELDS`].
    pub fn take(&mut self, ts: i64, values: &[Option<i64>]) {
        let at = (ts - self.start).div_euclid(self.step);
        let step = self.steps.entry(at).or_default();
        step.samples += 1;
        let value = |at: usize| values.get(at).copied().flatten();
        let less = |whole: usize, part: usize| Some(value(whole)?.saturating_sub(value(part)?));
        for (sums, value) in [
            (&mut step.available, value(1)),
            (&mut step.used, less(0, 1)),
            (&mut step.swap, less(2, 3)),
        ] {
            if let Some(value) = value {
                sums.add(value, 1, ts, ts);
            }
        }
        if let Some((before, old)) = self.before.take() {
            let ms = ts - before;
            for (way, at) in step.ways.iter_mut().zip(COUNTERS) {
                let (Some(new), Some(Some(old))) = (value(at), old.get(at)) else {
                    continue;
                };
                // A counter that went back is a reboot's.
                if ms > 0 && new >= *old {
                    way.count = way.count.saturating_add(new - old);
                    way.ms += ms;
                }
            }
        }
        self.before = Some((ts, values.to_vec()));
    }

    /// The steps that have samples, in order.
    #[must_use]
    pub fn steps(self) -> Vec<SystemStep> {
        let (start, length) = (self.start, self.step);
        let steps = self.steps.into_iter();
        steps
            .map(|(at, step)| row(start + at * length, &step))
            .collect()
    }
}

fn row(ts: i64, step: &Step) -> SystemStep {
    let way = |name: &str| {
        let at = SYSTEM_FIELDS.iter().position(|field| *field == name)?;
        let way = step.ways.get(at.checked_sub(COUNTERS.start)?)?;
        (way.ms > 0).then_some(*way)
    };
    let rate = |name: &str| way(name).map(|way| way.count as f64 * 1000.0 / way.ms as f64);
    let waited = |name: &str| rate(name).map(|us_per_s| (us_per_s / 10_000.0).min(100.0));
    let ticks = |name: &str| way(name).map(|way| way.count);
    let cpu = || {
        let busy = ticks("cpu_user_ticks")? + ticks("cpu_system_ticks")?;
        let busy = busy + ticks("cpu_steal_ticks").unwrap_or(0);
        let idle = ticks("cpu_idle_ticks")? + ticks("cpu_iowait_ticks").unwrap_or(0);
        (busy + idle > 0).then(|| 100.0 * busy as f64 / (busy + idle) as f64)
    };
    let some = |sums: &Sums, value: i64| (sums.n > 0).then_some(value);
    SystemStep {
        ts_ms: ts,
        time: stamp(ts),
        samples: step.samples,
        mem_available_kb: step.available.avg(),
        mem_available_min_kb: some(&step.available, step.available.min),
        mem_used_kb: step.used.avg(),
        mem_used_max_kb: some(&step.used, step.used.max),
        swap_used_kb: step.swap.avg(),
        swap_used_max_kb: some(&step.swap, step.swap.max),
        psi_some_percent: waited("psi_some_total_us"),
        psi_full_percent: waited("psi_full_total_us"),
        cpu_percent: cpu(),
        disk_read_kb_per_s: rate("disk_read_kb"),
        disk_written_kb_per_s: rate("disk_written_kb"),
        net_rx_bytes_per_s: rate("net_rx_bytes"),
        net_tx_bytes_per_s: rate("net_tx_bytes"),
        swap_in_pages_per_s: rate("pswpin"),
        swap_out_pages_per_s: rate("pswpout"),
        oom_kills: way("oom_kill").and_then(|way| u64::try_from(way.count).ok()),
    }
}

/// The figures of cgroups that rows are made from, in the order that [`Cgroups::take`] wants.
pub const CGROUP_FIELDS: [&str; 5] = ["usage_kb", "limit_kb", "high_kb", "swap_kb", "oom_kill"];

#[derive(Debug)]
struct Found {
    path: Box<str>,
    n: u64,
    from: i64,
    to: i64,
    usage: Sums,
    /// Limit, high: time and the last value.
    limit: (i64, Option<i64>),
    high: Option<i64>,
    used: Option<f64>,
    swap: Sums,
    kills: Sums,
    course: Course,
}

/// Memory cgroups in the making.
#[derive(Debug)]
pub struct Cgroups {
    options: Options,
    only: Option<HashSet<String>>,
    rows: HashMap<u32, Found>,
}

impl Cgroups {
    /// Nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            only: None,
            rows: HashMap::new(),
        }
    }

    /// Only those of these paths.
    #[must_use]
    pub fn only(mut self, paths: HashSet<String>) -> Self {
        self.only = Some(paths);
        self
    }

    fn wants(filter: &Filter, path: &str) -> bool {
        let below = |wanted: &String| {
            let rest = path.strip_prefix(wanted.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        filter.cgroups.is_empty() || filter.cgroups.iter().any(below)
    }

    /// Adds what one cgroup did: the figures of [`CGROUP_FIELDS`].
    pub fn take(&mut self, run: &CgroupRun<'_>) {
        let only = self.only.as_ref();
        if !Self::wants(&self.options.filter, run.path.text)
            || only.is_some_and(|only| !only.contains(run.path.text))
        {
            return;
        }
        let times = run
            .times
            .get(run.first..run.first + run.n)
            .unwrap_or_default();
        let (Some(from), Some(to)) = (times.first(), times.last()) else {
            return;
        };
        let options = &self.options;
        let row = self.rows.entry(run.path.id).or_insert_with(|| Found {
            path: run.path.text.into(),
            n: 0,
            from: *from,
            to: *to,
            usage: Sums::default(),
            limit: (i64::MIN, None),
            high: None,
            used: None,
            swap: Sums::default(),
            kills: Sums::default(),
            course: Course::new(options),
        });
        let n = run.n as u64;
        row.n += n;
        row.from = row.from.min(*from);
        row.to = row.to.max(*to);
        let value = |at: usize| run.values.get(at).copied().flatten();
        if let Some(usage) = value(0) {
            row.usage.add(usage, n, *from, *to);
            row.course.add(Some(usage), times);
            if let Some(limit) = value(1).filter(|limit| *limit > 0) {
                let used = 100.0 * usage as f64 / limit as f64;
                row.used = Some(row.used.map_or(used, |most| most.max(used)));
            }
        }
        if *to >= row.limit.0 {
            row.limit = (*to, value(1));
            row.high = value(2);
        }
        for (sums, at) in [(&mut row.swap, 3), (&mut row.kills, 4)] {
            if let Some(value) = value(at) {
                sums.add(value, n, *from, *to);
            }
        }
    }

    /// The rows in their order.
    #[must_use]
    pub fn rows(self) -> Vec<CgroupRow> {
        let sort = self.options.sort;
        let row = |found: Found| CgroupRow {
            path: found.path.into(),
            from: stamp(found.from),
            to: stamp(found.to),
            samples: found.n,
            figures: figures(&found.usage, None),
            limit_kb: found.limit.1,
            high_kb: found.high,
            limit_used_max_percent: found.used,
            swap_max_kb: (found.swap.n > 0).then_some(found.swap.max),
            oom_kills: (found.kills.n > 0).then(|| {
                found
                    .kills
                    .last
                    .1
                    .saturating_sub(found.kills.first.1)
                    .max(0)
            }),
            series: (self.options.step_ms).map(|_| found.course.series(self.options.agg)),
            trend: found.course.trend(),
        };
        let mut rows: Vec<CgroupRow> = self.rows.into_values().map(row).collect();
        rows.sort_by(|a, b| {
            let (x, y) = (
                sort.of(&a.figures, a.samples),
                sort.of(&b.figures, b.samples),
            );
            y.total_cmp(&x).then_with(|| a.path.cmp(&b.path))
        });
        rows
    }
}
