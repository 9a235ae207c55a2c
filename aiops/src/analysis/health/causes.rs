//! Who is behind the factors: processes by size, swap and major faults; cgroups by pressure and limit.

use std::collections::HashMap;

use crate::analysis::grouping::limits;
use crate::analysis::memory;
use crate::analysis::memory::CgroupUse;
use crate::analysis::readings::ProcessKey;
use crate::analysis::readings::Readings;
use crate::analysis::readings::key;
use crate::model::CgroupMetrics;
use crate::model::ProcessSample;
use crate::report::health::Cause;
use crate::report::health::Factor;
use crate::report::health::HealthCgroup;
use crate::report::health::HealthProcess;

/// A factor below this asks who did it.
const ASKS_BELOW: f64 = 90.0;
/// Most of each measure.
const MOST: usize = 5;
/// Least share of a measure, percent.
const LEAST_PCT: f64 = 2.0;
/// A cgroup with so many reclaimed pages that come back is a cause, per second.
const REFAULTS_PER_S: f64 = 10.0;

/// Every process of the newest sample, largest first.
pub(super) fn processes(readings: &Readings) -> Vec<HealthProcess> {
    let Some(sample) = readings.newest() else {
        return Vec::new();
    };
    let span = readings.span();
    let before: HashMap<ProcessKey, &ProcessSample> = span
        .iter()
        .flat_map(|(first, _, _)| &first.processes)
        .map(|process| (key(process), process))
        .collect();
    let total = sample
        .system
        .as_ref()
        .and_then(|system| system.mem_total_kb);
    let row = |process: &ProcessSample| {
        let old = before.get(&key(process)).map(|old| &old.metrics);
        let new = &process.metrics;
        let identity = readings.identity(key(process));
        let container = identity.and_then(|identity| identity.container.as_ref());
        HealthProcess {
            pid: process.pid,
            start: process.start_ticks,
            comm: process.comm.lossy().into_owned(),
            cgroup: identity
                .and_then(|identity| identity.cgroup.as_ref())
                .map(|path| path.lossy().into_owned()),
            container: container.map(|one| format!("{}:{}", one.runtime, one.id)),
            rss_kb: new.rss_kb,
            rss_share_pct: new
                .rss_kb
                .zip(total.filter(|total| *total > 0))
                .map(|(rss, total)| tenth(rss as f64 * 100.0 / total as f64)),
            rss_change_kb: old.and_then(|old| change(old.rss_kb, new.rss_kb)),
            swap_kb: new.swap_kb,
            swap_change_kb: old.and_then(|old| change(old.swap_kb, new.swap_kb)),
            majflt_per_s: old.zip(span).and_then(|(old, (_, _, seconds))| {
                let faults = new.majflt?.checked_sub(old.majflt?)?;
                Some(tenth(faults as f64 / seconds))
            }),
        }
    };
    let mut rows: Vec<HealthProcess> = sample.processes.iter().map(row).collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.rss_kb), row.pid));
    rows
}

fn change(from: Option<u64>, to: Option<u64>) -> Option<i64> {
    i64::try_from(i128::from(to?) - i128::from(from?)).ok()
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0 + 0.0
}

/// Memory cgroups that have a limit, or pressure of their own, nearest to the limit first.
pub(super) fn cgroups(readings: &Readings) -> Vec<HealthCgroup> {
    let Some(sample) = readings.newest() else {
        return Vec::new();
    };
    let before: HashMap<&[u8], &CgroupMetrics> = readings
        .span()
        .iter()
        .flat_map(|(first, _, _)| &first.cgroups)
        .map(|cgroup| (cgroup.path.as_bytes(), &cgroup.metrics))
        .collect();
    let percent = |hundredths: Option<u64>| hundredths.map(|value| value as f64 / 100.0);
    let mut rows: Vec<HealthCgroup> = Vec::new();
    for cgroup in &sample.cgroups {
        let metrics = &cgroup.metrics;
        let psi = percent(metrics.psi_some_avg10);
        let limit = metrics.limit_kb.or(metrics.high_kb);
        if limit.is_none() && psi.unwrap_or(0.0) < memory::PRESSURE_PCT {
            continue;
        }
        let working = metrics
            .usage_kb
            .map(|usage| usage.saturating_sub(metrics.inactive_file_kb.unwrap_or(0)));
        let old = before.get(cgroup.path.as_bytes());
        rows.push(HealthCgroup {
            limits: limits(cgroup),
            working_set_kb: working,
            working_set_pct: working
                .zip(limit.filter(|limit| *limit > 0))
                .map(|(used, limit)| tenth(used as f64 * 100.0 / limit as f64)),
            psi_some_avg10_pct: psi,
            psi_full_avg10_pct: percent(metrics.psi_full_avg10),
            limit_hits_per_s: old.zip(readings.span()).and_then(|(old, (_, _, seconds))| {
                let hits = metrics.failcnt?.checked_sub(old.failcnt?)?;
                Some(tenth(hits as f64 / seconds))
            }),
        });
    }
    let rank = |row: &HealthCgroup| row.working_set_pct.unwrap_or(0.0);
    rows.sort_by(|a, b| {
        let by_use = rank(b).total_cmp(&rank(a));
        by_use.then_with(|| a.limits.path.cmp(&b.limits.path))
    });
    rows
}

/// Whole that shares are of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wholes {
    /// MemTotal.
    pub(super) mem_total_kb: Option<u64>,
    /// SwapTotal − SwapFree.
    pub(super) swap_used_kb: Option<u64>,
}

/// Who is behind each factor that is not well; `factors` are in the order of what they cost.
pub(super) fn causes(
    factors: &[Factor],
    processes: &[HealthProcess],
    cgroups: &[CgroupUse],
    wholes: Wholes,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    let of = |kb: Option<u64>, name| kb.filter(|kb| *kb > 0).map(|kb| (kb as f64, name));
    let memory = of(wholes.mem_total_kb, "mem_total");
    let swap = of(wholes.swap_used_kb, "swap_used");
    for factor in factors {
        if factor.score.is_none_or(|score| score >= ASKS_BELOW) {
            continue;
        }
        let mut by = |measure, whole, value: &dyn Fn(&HealthProcess) -> Option<f64>| {
            largest(factor.id, measure, whole, processes, value, &mut causes);
        };
        let kb = |kb: Option<u64>| kb.map(|kb| kb as f64);
        let grown = |kb: Option<i64>| kb.map(|kb| kb as f64);
        match factor.id {
            "usage" => {
                by("rss_kb", memory, &|process| kb(process.rss_kb));
                by("rss_change_kb", None, &|process| {
                    grown(process.rss_change_kb)
                });
            }
            "swap" => {
                by("swap_kb", swap, &|process| kb(process.swap_kb));
                by("swap_change_kb", None, &|process| {
                    grown(process.swap_change_kb)
                });
                by("majflt_per_s", None, &|process| process.majflt_per_s);
            }
            "psi" => {
                by("majflt_per_s", None, &|process| process.majflt_per_s);
                pressed(factor.id, cgroups, &mut causes);
                limited(factor.id, cgroups, &mut causes);
            }
            "cache" => {
                by("majflt_per_s", None, &|process| process.majflt_per_s);
                limited(factor.id, cgroups, &mut causes);
                refaulting(factor.id, cgroups, &mut causes);
            }
            _ => {}
        }
    }
    causes
}

/// The largest of a measure; shares are of `whole`, or of the sum over all processes.
fn largest(
    factor: &'static str,
    measure: &'static str,
    whole: Option<(f64, &'static str)>,
    processes: &[HealthProcess],
    value: &dyn Fn(&HealthProcess) -> Option<f64>,
    causes: &mut Vec<Cause>,
) {
    let known = processes
        .iter()
        .filter_map(|process| Some((process, value(process).filter(|value| *value > 0.0)?)));
    let mut rows: Vec<(&HealthProcess, f64)> = known.collect();
    let sum: f64 = rows.iter().map(|(_, value)| value).sum();
    let (whole, of) = whole.unwrap_or((sum, "processes"));
    rows.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.pid.cmp(&b.0.pid)));
    for (process, value) in rows.into_iter().take(MOST) {
        let share = tenth(value * 100.0 / whole);
        if share < LEAST_PCT {
            return;
        }
        causes.push(Cause {
            factor,
            kind: "process",
            name: process.comm.clone(),
            pid: Some(process.pid),
            start: Some(process.start),
            measure,
            value,
            share_pct: Some(share),
            share_of: Some(of),
        });
    }
}

fn cgroup(factor: &'static str, one: &CgroupUse, measure: &'static str, value: f64) -> Cause {
    Cause {
        factor,
        kind: "cgroup",
        name: one.path.clone(),
        pid: None,
        start: None,
        measure,
        value: tenth(value),
        share_pct: None,
        share_of: None,
    }
}

/// Cgroups whose tasks wait: pressure of a cgroup counts for those above it, so the deepest is named.
fn pressed(factor: &'static str, cgroups: &[CgroupUse], causes: &mut Vec<Cause>) {
    let psi = |one: &CgroupUse| one.psi_some_avg10_pct.unwrap_or(0.0);
    let rows = memory::deepest(cgroups, &|one| psi(one), memory::PRESSURE_PCT);
    let rows = rows.into_iter().take(MOST);
    causes.extend(rows.map(|one| cgroup(factor, one, "psi_some_avg10_pct", psi(one))));
}

/// Cgroups that meet a limit of their own.
fn limited(factor: &'static str, cgroups: &[CgroupUse], causes: &mut Vec<Cause>) {
    let rows = memory::hitting(cgroups).into_iter().take(MOST);
    causes.extend(rows.map(|one| {
        let hits = one.hits_per_s.unwrap_or(0.0);
        cgroup(factor, one, "limit_hits_per_s", hits)
    }));
}

/// Cgroups whose reclaimed pages come back.
fn refaulting(factor: &'static str, cgroups: &[CgroupUse], causes: &mut Vec<Cause>) {
    let back = |one: &CgroupUse| one.refaults_per_s.unwrap_or(0.0);
    let rows = memory::deepest(cgroups, &|one| back(one), REFAULTS_PER_S);
    let rows = rows.into_iter().take(MOST);
    causes.extend(rows.map(|one| cgroup(factor, one, "refaults_per_s", back(one))));
}
