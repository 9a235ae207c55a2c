//! What changed between two observations: their last samples are compared.
//!
//! [`pairs`] owns who is who in both, [`findings`] what it means.

mod findings;
mod pairs;
mod parts;
#[cfg(test)]
mod tests;

use crate::model::SystemMetrics;
use crate::report::Finding;
use crate::report::diff::Change;
use crate::report::diff::DiffData;
use crate::report::diff::DiffView;
use crate::report::diff::Metric;
use crate::report::diff::Pair;
use crate::report::diff::ProcessChange;
use crate::report::diff::Snapshot;
use crate::report::diff::Status;
use crate::report::diff::StatusCounts;
use crate::time;

use super::memory;
use super::readings::Readings;

/// Below this, a rate per hour would be made of noise.
const LEAST_SECONDS: f64 = 1.0;
/// What happened in less than this says nothing of an hour.
const RATE_SECONDS: f64 = 60.0;

/// Orders of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Growth of resident memory and swap, up or down.
    #[default]
    Delta,
    /// Resident memory in the later snapshot.
    Rss,
    /// Proportional share in the later snapshot.
    Pss,
    /// Swapped out in the later snapshot.
    Swap,
}

/// Time between the two moments, and what it was told by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Elapsed {
    seconds: Option<f64>,
    by: Option<&'static str>,
}

impl Elapsed {
    /// A change per hour; `None` when the time is too short, not known, or runs backwards.
    fn per_hour(self, delta: Option<i64>) -> Option<f64> {
        let seconds = self.seconds.filter(|seconds| *seconds >= RATE_SECONDS)?;
        Some((delta? as f64 * 3600.0 / seconds * 10.0).round() / 10.0)
    }
}

/// Compares two observations.
#[must_use]
pub fn diff(first: &Readings, second: &Readings, sort: Sort) -> (DiffData, Vec<Finding>) {
    let same_host = host(first).zip(host(second)).is_none_or(|(a, b)| a == b);
    let same_boot = same_host && one_boot(first, second);
    let elapsed = elapsed(first, second, same_boot);
    let all_processes = whole(first) && whole(second);
    let matched = pairs::pairs(first, second, same_boot);
    let mut processes: Vec<ProcessChange> = matched
        .iter()
        .map(|pair| pairs::change(pair, first, second, all_processes, elapsed))
        .collect();
    let growth_kb = shares(&mut processes);
    order(&mut processes, sort);
    let (regions, process_regions) = parts::regions(first, second, &matched).unzip();
    let data = DiffData {
        snapshots: Pair {
            first: snapshot(first),
            second: snapshot(second),
        },
        elapsed_s: elapsed.seconds,
        elapsed_by: elapsed.by,
        same_boot,
        same_host,
        all_processes,
        system: system(first, second, same_boot, elapsed),
        growth_kb,
        counts: counts(&processes),
        processes,
        regions,
        process_regions,
        regions_in_one: first.regions.is_empty() != second.regions.is_empty(),
        cgroups: parts::cgroups(first, second, same_boot, elapsed),
        slab: parts::slab(first, second, elapsed),
        swap_devices: parts::swap_devices(first, second),
        settings: parts::settings(first, second),
        view: DiffView::default(),
    };
    let mut findings = findings::findings(&data);
    findings.extend(
        [first, second]
            .into_iter()
            .find_map(memory::no_process_matches),
    );
    (data, findings)
}

fn host(readings: &Readings) -> Option<&[u8]> {
    let session = readings.session.as_ref()?;
    let name = session.host.hostname.as_bytes();
    (!name.is_empty()).then_some(name)
}

fn boot(readings: &Readings) -> Option<&str> {
    readings.session.as_ref()?.host.boot_id.as_deref()
}

/// Whether pids of the two mean the same. Without boot ids, the same name has to do.
fn one_boot(first: &Readings, second: &Readings) -> bool {
    match (boot(first), boot(second)) {
        (Some(a), Some(b)) => a == b,
        _ => host(first).is_some() && host(first) == host(second),
    }
}

/// Whether every process was read.
fn whole(readings: &Readings) -> bool {
    let filtered = readings
        .session
        .as_ref()
        .is_some_and(|session| !session.filter.is_empty());
    let all = readings.newest().is_some_and(|sample| sample.all_processes);
    all && !filtered
}

/// CLOCK_BOOTTIME of the last sample, ns.
fn boot_ns(readings: &Readings) -> Option<i128> {
    let (_, pair) = readings.clocks?;
    let ts_ns = readings.newest()?.ts_ns;
    Some(i128::from(pair.boot_ns) + i128::from(ts_ns) - i128::from(pair.mono_ns))
}

fn elapsed(first: &Readings, second: &Readings, same_boot: bool) -> Elapsed {
    let between = |from: i128, to: i128, by| Elapsed {
        seconds: Some((to - from) as f64 / 1e9),
        by: Some(by),
    };
    if same_boot && let Some((from, to)) = boot_ns(first).zip(boot_ns(second)) {
        return between(from, to, "boottime");
    }
    match first.moment().zip(second.moment()) {
        Some(((from, _), (to, _))) => between(from.into(), to.into(), "realtime"),
        None => Elapsed::default(),
    }
}

fn snapshot(readings: &Readings) -> Snapshot {
    let session = readings.session.as_ref();
    let text = |raw: &crate::model::RawText| raw.lossy().into_owned();
    let at = readings
        .moment()
        .and_then(|(real_ns, offset_s)| time::rfc3339(real_ns, offset_s));
    Snapshot {
        file: String::new(),
        host: session.map(|session| text(&session.host.hostname)),
        kernel: session.map(|session| text(&session.host.kernel)),
        boot: boot(readings).map(str::to_owned),
        command: session.map(|session| session.command.clone()),
        at,
        samples: readings.samples,
        processes: readings
            .newest()
            .map_or(0, |sample| sample.processes.len() as u64),
    }
}

/// Whether a metric counts since boot.
fn counts_up(name: &str, source: &str) -> bool {
    let level = source.starts_with("meminfo:")
        || source.starts_with("loadavg:")
        || name.contains("_avg")
        || name.starts_with("procs_")
        || name.ends_with("_threshold");
    !level
}

fn system(first: &Readings, second: &Readings, same_boot: bool, elapsed: Elapsed) -> Vec<Metric> {
    let of = |readings: &Readings| {
        let sample = readings.newest();
        sample
            .and_then(|sample| sample.system.clone())
            .unwrap_or_default()
    };
    let (a, b) = (of(first), of(second));
    let mut rows = Vec::new();
    let mut add = |id, kind, from: Option<u64>, to: Option<u64>| {
        if from.is_some() || to.is_some() {
            let mut change = Change::new(from, to);
            if kind == "counter" && !same_boot {
                change.delta = None;
            }
            rows.push(Metric {
                id,
                kind,
                rate_per_hour: elapsed.per_hour(change.delta),
                change,
            });
        }
    };
    for (id, get) in DERIVED {
        add(id, "gauge", get(&a), get(&b));
    }
    for metric in SystemMetrics::METRICS {
        let kind = if counts_up(metric.name, metric.source) {
            "counter"
        } else {
            "gauge"
        };
        add(metric.name, kind, (metric.get)(&a), (metric.get)(&b));
    }
    rows
}

type Derive = fn(&SystemMetrics) -> Option<u64>;

/// What `free` prints and the kernel does not.
const DERIVED: [(&str, Derive); 3] = [
    ("mem_used_kb", |system| memory::used(system).0),
    ("buff_cache_kb", memory::buff_cache),
    ("swap_used_kb", memory::swap_used),
];

/// Fills in each grower's share; returns the growth of all of them.
fn shares(processes: &mut [ProcessChange]) -> u64 {
    let grown = |process: &ProcessChange| {
        let growth = process.growth_kb.unwrap_or(0);
        u64::try_from(growth).unwrap_or(0)
    };
    let sum = processes.iter().map(grown).fold(0, u64::saturating_add);
    for process in processes {
        let mine = grown(process);
        if mine > 0 {
            let share = mine as f64 * 1000.0 / sum as f64;
            process.share_pct = Some(share.round() / 10.0);
        }
    }
    sum
}

fn order(processes: &mut [ProcessChange], sort: Sort) {
    use std::cmp::Reverse;
    let key = |process: &ProcessChange| match sort {
        Sort::Delta => process.growth_kb.map(i64::unsigned_abs),
        Sort::Rss => process.rss_kb.to,
        Sort::Pss => process.pss_kb.to,
        Sort::Swap => process.swap_kb.to,
    };
    processes.sort_by_key(|process| {
        let growth = process.growth_kb.unwrap_or(0);
        (Reverse(key(process)), Reverse(growth), process.pid)
    });
}

fn counts(processes: &[ProcessChange]) -> StatusCounts {
    let of = |status| processes.iter().filter(|one| one.status == status).count() as u64;
    StatusCounts {
        same: of(Status::Same),
        restarted: of(Status::Restarted),
        new: of(Status::New),
        gone: of(Status::Gone),
    }
}
