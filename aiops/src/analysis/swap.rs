//! Swap: who has it, how fast it moves, and why the processes' sum is not the swap in use.
//!
//! `VmSwap` counts the page table entries of a process that point into swap. The host's figure counts
//! slots. They differ by shared memory (slots without such an entry), by slots that several processes
//! share after fork (entries without a slot of their own), by pages that were read back but keep their
//! slot (SwapCached), and by slots that CPUs hold in reserve (until Linux 6.14).

mod advice;
mod explain;
mod limits;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::HashSet;

use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::Detail;
use crate::model::Filter;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::SystemMetrics;
use crate::report::Finding;
use crate::report::swap::CgroupSwap;
use crate::report::swap::Device;
use crate::report::swap::GroupSwap;
use crate::report::swap::Pressure;
use crate::report::swap::ProcessSwap;
use crate::report::swap::Rates;
use crate::report::swap::Region;
use crate::report::swap::Settings;
use crate::report::swap::SwapData;
use crate::report::swap::View;
use crate::report::swap::ZramUse;
use crate::report::swap::ZswapUse;
use crate::time;

use super::grouping;
use super::grouping::By;
use super::pressure::stalled;
use super::readings::ProcessKey;
use super::readings::Readings;
use super::readings::key;

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which processes are listed; the sums are over all.
    pub filter: Filter,
    /// What processes are put together by.
    pub by: By,
    /// Order of processes.
    pub sort: Sort,
    /// Least share of the swap in use of a listed process, as a fraction.
    pub threshold: f64,
    /// Processes whose mappings may not be looked into.
    pub denied_regions: HashSet<ProcessKey>,
}

/// Orders of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Swapped out, largest first.
    #[default]
    Swap,
    /// Resident, largest first.
    Rss,
    /// Share of the process that is swapped out, largest first.
    Share,
    /// Major faults in the interval, most first.
    MajorFaults,
    /// Process id.
    Pid,
}

impl Sort {
    /// As on the command line.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Swap => "swap",
            Self::Rss => "rss",
            Self::Share => "share",
            Self::MajorFaults => "majflt",
            Self::Pid => "pid",
        }
    }
}

/// Analyses an observation.
#[must_use]
pub fn analyze(readings: &Readings, options: &Options) -> (SwapData, Vec<Finding>) {
    let unknown = SystemMetrics::default();
    let system = readings
        .newest()
        .and_then(|sample| sample.system.as_ref())
        .unwrap_or(&unknown);
    let cgroups = cgroups(readings);
    let totals = explain::totals(readings, system, &cgroups);
    let used = totals.swap_used_kb;
    let detail = readings.detail();
    let mut data = SwapData {
        at: readings
            .moment()
            .and_then(|(real_ns, offset_s)| time::rfc3339(real_ns, offset_s)),
        rates: rates(readings, system),
        devices: detail.and_then(devices),
        zram: detail.map(zram).unwrap_or_default(),
        zswap: detail.and_then(|detail| zswap(detail, system, readings.page_kb())),
        pressure: pressure(readings, system),
        processes: processes(readings, options, used),
        groups: (options.by != By::Process).then(|| groups(readings, options, used)),
        cgroups,
        settings: Settings {
            swappiness: detail.and_then(|detail| detail.setting("vm.swappiness")),
            page_cluster: detail.and_then(|detail| detail.setting("vm.page-cluster")),
            overcommit_memory: detail.and_then(|detail| detail.setting("vm.overcommit_memory")),
        },
        cgroup_version: readings
            .session
            .as_ref()
            .and_then(|session| session.host.memory_cgroup),
        totals,
        view: View::default(),
    };
    let findings = advice::findings(&data);
    sort(&mut data.processes, options.sort);
    (data, findings)
}

fn text(raw: &RawText) -> String {
    raw.lossy().into_owned()
}

/// A process' share of the swap in use: a slot that several share after fork counts once in all, where
/// SwapPss is known.
fn own_swap(metrics: &ProcessMetrics) -> Option<u64> {
    let swap = metrics.swap_kb?;
    Some(metrics.swap_pss_kb.map_or(swap, |share| share.min(swap)))
}

fn part_of(part: Option<u64>, whole: Option<u64>) -> Option<f64> {
    let whole = whole.filter(|whole| *whole > 0)?;
    Some(part? as f64 / whole as f64)
}

/// The difference of two figures with its sign.
fn signed(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(i64::MAX)
}

fn rates(readings: &Readings, system: &SystemMetrics) -> Rates {
    let page_kb = readings.page_kb() as f64;
    let kb = |pages: Option<f64>| pages.map(|pages| pages * page_kb);
    let (pswpin, pswpout) = (
        readings.rate(|system| system.pswpin),
        readings.rate(|system| system.pswpout),
    );
    let grown = |get: fn(&SystemMetrics) -> Option<u64>| {
        let (first, last, _) = readings.span()?;
        get(last.system.as_ref()?)?.checked_sub(get(first.system.as_ref()?)?)
    };
    let readahead = grown(|system| system.swap_ra);
    Rates {
        interval_s: readings.span().map(|(_, _, seconds)| seconds),
        pswpin_per_s: pswpin,
        pswpout_per_s: pswpout,
        swap_in_kb_per_s: kb(pswpin),
        swap_out_kb_per_s: kb(pswpout),
        pswpin: grown(|system| system.pswpin),
        pswpout: grown(|system| system.pswpout),
        major_faults_per_s: readings.rate(|system| system.pgmajfault),
        refault_anon_per_s: readings.rate(|system| system.workingset_refault_anon),
        zswpin_per_s: readings.rate(|system| system.zswpin),
        zswpout_per_s: readings.rate(|system| system.zswpout),
        readahead,
        readahead_hit_ratio: part_of(grown(|system| system.swap_ra_hit), readahead),
        readahead_hit_ratio_since_boot: part_of(system.swap_ra_hit, system.swap_ra),
        pswpin_since_boot: system.pswpin,
        pswpout_since_boot: system.pswpout,
    }
}

fn pressure(readings: &Readings, system: &SystemMetrics) -> Pressure {
    let percent = |hundredths: Option<u64>| hundredths.map(|value| value as f64 / 100.0);
    Pressure {
        some_avg10: percent(system.psi_some_avg10),
        full_avg10: percent(system.psi_full_avg10),
        some_avg60: percent(system.psi_some_avg60),
        full_avg60: percent(system.psi_full_avg60),
        some_interval: stalled(readings, |system| system.psi_some_total_us),
        full_interval: stalled(readings, |system| system.psi_full_total_us),
    }
}

fn devices(detail: &Detail) -> Option<Vec<Device>> {
    let devices = detail.swaps.as_ref()?.iter().map(|device| Device {
        path: text(&device.path),
        kind: device.kind.clone(),
        size_kb: device.size_kb,
        used_kb: device.used_kb,
        priority: device.priority,
        rotating: device.rotational,
    });
    Some(devices.collect())
}

fn zram(detail: &Detail) -> Vec<ZramUse> {
    let kb = |bytes: Option<u64>| bytes.map(|bytes| bytes / 1024);
    let all = detail.zrams.iter().flatten().map(|zram| ZramUse {
        name: zram.name.clone(),
        disk_size_kb: kb(zram.disk_size_bytes),
        stored_kb: kb(zram.original_bytes),
        compressed_kb: kb(zram.compressed_bytes),
        pool_kb: kb(zram.used_bytes),
        ratio: part_of(zram.original_bytes, zram.used_bytes),
        algorithm: zram.algorithm.clone(),
    });
    all.collect()
}

fn zswap(detail: &Detail, system: &SystemMetrics, page_kb: u64) -> Option<ZswapUse> {
    let zswap = detail.zswap.as_ref()?;
    let pool_kb = system
        .zswap_kb
        .or(zswap.pool_bytes.map(|bytes| bytes / 1024));
    let stored_kb = system.zswapped_kb.or(zswap
        .stored_pages
        .map(|pages| pages.saturating_mul(page_kb)));
    Some(ZswapUse {
        enabled: zswap.enabled,
        compressor: zswap.compressor.clone(),
        max_pool_percent: zswap.max_pool_percent,
        pool_kb,
        stored_kb,
        ratio: part_of(stored_kb, pool_kb),
        written_back_pages: zswap.written_back_pages,
    })
}

fn processes(readings: &Readings, options: &Options, used: Option<u64>) -> Vec<ProcessSwap> {
    let Some(newest) = readings.newest() else {
        return Vec::new();
    };
    let before: HashMap<ProcessKey, &ProcessSample> = readings
        .span()
        .map(|(first, ..)| first.processes.iter().map(|one| (key(one), one)).collect())
        .unwrap_or_default();
    let wanted = newest.processes.iter().filter(|process| {
        options
            .filter
            .wants(process, readings.identity(key(process)))
    });
    let rows = wanted.map(|process| {
        let before = before.get(&key(process)).map(|before| &before.metrics);
        row(readings, process, before, used, options)
    });
    let mut rows: Vec<ProcessSwap> = rows.collect();
    sort(&mut rows, Sort::Swap);
    rows
}

fn row(
    readings: &Readings,
    process: &ProcessSample,
    before: Option<&ProcessMetrics>,
    used: Option<u64>,
    options: &Options,
) -> ProcessSwap {
    let metrics = &process.metrics;
    let identity = readings.identity(key(process));
    let name = |by: By| grouping::name(readings, process, by);
    let cmdline = identity
        .filter(|identity| !identity.cmdline.is_empty())
        .map(|identity| {
            let words: Vec<_> = identity.cmdline.iter().map(RawText::lossy).collect();
            words.join(" ")
        });
    let share = part_of(own_swap(metrics), used);
    let whole = metrics
        .swap_kb
        .zip(metrics.rss_kb)
        .map(|(swap, rss)| swap.saturating_add(rss));
    ProcessSwap {
        pid: process.pid,
        start: process.start_ticks,
        comm: text(&process.comm),
        cmdline,
        user: name(By::User),
        cgroup: name(By::Cgroup),
        container: name(By::Container),
        unit: name(By::Unit),
        swap_kb: metrics.swap_kb,
        swap_pss_kb: metrics.swap_pss_kb,
        rss_kb: metrics.rss_kb,
        share,
        swapped_share: part_of(metrics.swap_kb, whole),
        swap_change_kb: metrics
            .swap_kb
            .zip(before.and_then(|before| before.swap_kb))
            .map(|(now, then)| signed(now, then)),
        major_faults: before.and_then(|before| metrics.majflt?.checked_sub(before.majflt?)),
        listed: metrics.swap_kb > Some(0) && share.unwrap_or(0.0) >= options.threshold,
        regions: readings.regions.get(&key(process)).map(regions),
        regions_denied: options.denied_regions.contains(&key(process)),
    }
}

fn regions(regions: &crate::model::Regions) -> Vec<Region> {
    let swapped = regions.regions.iter().filter_map(|sum| {
        let swap_kb = sum.metrics.swap_kb.filter(|kb| *kb > 0)?;
        Some(Region {
            kind: sum.kind,
            path: sum.path.as_ref().map(text),
            mappings: sum.mappings,
            swap_kb,
            rss_kb: sum.metrics.rss_kb,
        })
    });
    let mut swapped: Vec<Region> = swapped.collect();
    swapped.sort_by_key(|region| Reverse(region.swap_kb));
    swapped
}

fn sort(rows: &mut [ProcessSwap], by: Sort) {
    rows.sort_by(|a, b| {
        let swap = b.swap_kb.cmp(&a.swap_kb).then(a.pid.cmp(&b.pid));
        match by {
            Sort::Swap => swap,
            Sort::Rss => b.rss_kb.cmp(&a.rss_kb).then(swap),
            Sort::Share => {
                let share = |row: &ProcessSwap| row.swapped_share.unwrap_or(-1.0);
                share(b).total_cmp(&share(a)).then(swap)
            }
            Sort::MajorFaults => b.major_faults.cmp(&a.major_faults).then(swap),
            Sort::Pid => a.pid.cmp(&b.pid),
        }
    });
}

fn groups(readings: &Readings, options: &Options, used: Option<u64>) -> Vec<GroupSwap> {
    let mut kept = readings.clone();
    if let Some(sample) = kept.last.as_mut().or(kept.first.as_mut()) {
        sample.processes.retain(|process| {
            options
                .filter
                .wants(process, readings.identity(key(process)))
        });
    }
    let before: HashMap<ProcessKey, &ProcessSample> = readings
        .span()
        .map(|(first, ..)| first.processes.iter().map(|one| (key(one), one)).collect())
        .unwrap_or_default();
    let sum = |sum: Option<u64>, one: u64| Some(sum.unwrap_or(0).saturating_add(one));
    let groups = grouping::group(&kept, options.by);
    let rows = groups.iter().map(|group| {
        let own = group.processes.iter();
        let own = own.filter_map(|process| own_swap(&process.metrics));
        let own = own.fold(None, sum);
        let faults = group.processes.iter().filter_map(|process| {
            let before = before.get(&key(process))?.metrics.majflt?;
            process.metrics.majflt?.checked_sub(before)
        });
        let whole = group
            .metrics
            .swap_kb
            .zip(group.metrics.rss_kb)
            .map(|(swap, rss)| swap.saturating_add(rss));
        GroupSwap {
            who: grouping::who(&kept, group, options.by),
            swap_kb: group.metrics.swap_kb,
            swap_share_kb: own,
            rss_kb: group.metrics.rss_kb,
            share: part_of(own, used),
            swapped_share: part_of(group.metrics.swap_kb, whole),
            major_faults: faults.fold(None, sum),
        }
    });
    let mut rows: Vec<GroupSwap> = rows.collect();
    rows.sort_by(|a, b| {
        let swap = b.swap_share_kb.cmp(&a.swap_share_kb);
        let swap = swap.then_with(|| a.who.name.cmp(&b.who.name));
        match options.sort {
            Sort::Swap | Sort::Pid => swap,
            Sort::Rss => b.rss_kb.cmp(&a.rss_kb).then(swap),
            Sort::Share => {
                let share = |row: &GroupSwap| row.swapped_share.unwrap_or(-1.0);
                share(b).total_cmp(&share(a)).then(swap)
            }
            Sort::MajorFaults => b.major_faults.cmp(&a.major_faults).then(swap),
        }
    });
    rows
}

/// Times in the interval that a cgroup met its limits.
fn hits(readings: &Readings, cgroup: &CgroupSample) -> Option<u64> {
    let (first, ..) = readings.span()?;
    let old = first.cgroups.iter().find(|one| one.path == cgroup.path)?;
    let grown = |get: fn(&CgroupMetrics) -> Option<u64>| {
        get(&cgroup.metrics)?.checked_sub(get(&old.metrics)?)
    };
    let parts = [
        grown(|metrics| metrics.failcnt),
        grown(|metrics| metrics.high_events),
    ];
    parts.into_iter().flatten().reduce(u64::saturating_add)
}

fn cgroups(readings: &Readings) -> Vec<CgroupSwap> {
    let Some(newest) = readings.newest() else {
        return Vec::new();
    };
    // Slots that processes share count once, where it is known: what is left then is no process' own.
    let members: Vec<(&[u8], u64, u64)> = newest
        .processes
        .iter()
        .filter_map(|process| {
            let path = readings.identity(key(process))?.cgroup.as_ref()?.as_bytes();
            Some((path, process.metrics.swap_kb?, own_swap(&process.metrics)?))
        })
        .collect();
    let of = |cgroup: &CgroupSample| {
        let mine = members
            .iter()
            .filter(|(path, ..)| grouping::holds(cgroup.path.as_bytes(), path));
        let (sum, own) = mine.fold((0u64, 0u64), |sums, (_, kb, own)| {
            (sums.0.saturating_add(*kb), sums.1.saturating_add(*own))
        });
        CgroupSwap {
            limits: grouping::limits(cgroup),
            processes_swap_kb: Some(sum),
            other_swap_kb: cgroup.metrics.swap_kb.map(|kb| kb.saturating_sub(own)),
            limit_hits: hits(readings, cgroup),
            swap_fail_events: cgroup.metrics.swap_fail_events,
        }
    };
    let swapped = newest.cgroups.iter().filter(|cgroup| {
        cgroup.metrics.swap_kb > Some(0) || cgroup.metrics.swap_fail_events > Some(0)
    });
    let mut rows: Vec<CgroupSwap> = swapped.map(of).collect();
    rows.sort_by_key(|row| Reverse(row.limits.swap_kb));
    rows
}
