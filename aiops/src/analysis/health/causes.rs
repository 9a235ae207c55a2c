//! Who is behind the factors: processes by size, swap and major faults; cgroups by pressure and limit.

use std::collections::HashMap;

use crate::analysis::grouping::limits;
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
/// A cgroup with this much pressure of its own is a cause, percent.
const CGROUP_PSI: f64 = 1.0;

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
    (value * 10.0).round() / 10.0
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
        if limit.is_none() && psi.unwrap_or(0.0) < CGROUP_PSI {
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

/// Who is behind each factor that is not well; `factors` are in the order of what they cost.
pub(super) fn causes(
    factors: &[Factor],
    processes: &[HealthProcess],
    cgroups: &[HealthCgroup],
) -> Vec<Cause> {
    let mut causes = Vec::new();
    for factor in factors {
        if factor.score.is_none_or(|score| score >= ASKS_BELOW) {
            continue;
        }
        let mut by = |measure, value: &dyn Fn(&HealthProcess) -> Option<f64>| {
            largest(factor.id, measure, processes, value, &mut causes);
        };
        let kb = |kb: Option<u64>| kb.map(|kb| kb as f64);
        let grown = |kb: Option<i64>| kb.map(|kb| kb as f64);
        match factor.id {
            "usage" => {
                by("rss_kb", &|process| kb(process.rss_kb));
                by("rss_change_kb", &|process| grown(process.rss_change_kb));
            }
            "swap" => {
                by("swap_kb", &|process| kb(process.swap_kb));
                by("swap_change_kb", &|process| grown(process.swap_change_kb));
                by("majflt_per_s", &|process| process.majflt_per_s);
            }
            "psi" => {
                by("majflt_per_s", &|process| process.majflt_per_s);
                pressed(factor.id, cgroups, &mut causes);
            }
            "cache" => by("majflt_per_s", &|process| process.majflt_per_s),
            _ => {}
        }
    }
    causes
}

fn largest(
    factor: &'static str,
    measure: &'static str,
    processes: &[HealthProcess],
    value: &dyn Fn(&HealthProcess) -> Option<f64>,
    causes: &mut Vec<Cause>,
) {
    let known = processes
        .iter()
        .filter_map(|process| Some((process, value(process).filter(|value| *value > 0.0)?)));
    let mut rows: Vec<(&HealthProcess, f64)> = known.collect();
    let sum: f64 = rows.iter().map(|(_, value)| value).sum();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.pid.cmp(&b.0.pid)));
    for (process, value) in rows.into_iter().take(MOST) {
        let share = tenth(value * 100.0 / sum);
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
        });
    }
}

fn pressed(factor: &'static str, cgroups: &[HealthCgroup], causes: &mut Vec<Cause>) {
    // The root's pressure is the host's own.
    let rows = cgroups.iter().filter(|cgroup| cgroup.limits.path != "/");
    let mut rows: Vec<(&HealthCgroup, &'static str, f64)> = rows
        .filter_map(|cgroup| {
            let psi = cgroup.psi_some_avg10_pct.filter(|psi| *psi >= CGROUP_PSI);
            let hits = cgroup.limit_hits_per_s.filter(|hits| *hits > 0.0);
            match (psi, hits) {
                (Some(psi), _) => Some((cgroup, "psi_some_avg10_pct", psi)),
                (None, Some(hits)) => Some((cgroup, "limit_hits_per_s", hits)),
                (None, None) => None,
            }
        })
        .collect();
    rows.sort_by(|a, b| {
        b.2.total_cmp(&a.2)
            .then(a.0.limits.path.cmp(&b.0.limits.path))
    });
    for (cgroup, measure, value) in rows.into_iter().take(MOST) {
        causes.push(Cause {
            factor,
            kind: "cgroup",
            name: cgroup.limits.path.clone(),
            pid: None,
            start: None,
            measure,
            value,
            share_pct: None,
        });
    }
}
