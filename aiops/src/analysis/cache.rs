//! Page cache, slab, dirty pages and fragmentation: what the figures are and what they mean.

mod findings;
mod judge;
mod slab;

use crate::model::Sample;
use crate::model::SystemMetrics;
use crate::model::Zone;
use crate::msg;
use crate::report::Finding;
use crate::report::cache::CacheData;
use crate::report::cache::CgroupCache;
use crate::report::cache::Dirty;
use crate::report::cache::Fragmentation;
use crate::report::cache::PageCache;
use crate::report::cache::Pressure;
use crate::report::cache::Rates;
use crate::report::cache::Reclaim;
use crate::report::cache::ZoneRow;

use super::readings::Readings;

type Get = fn(&SystemMetrics) -> Option<u64>;

/// The figures of an observation and what follows from them.
#[must_use]
pub fn analyze(readings: &Readings) -> (CacheData, Vec<Finding>) {
    let none = SystemMetrics::default();
    let system = readings.newest().and_then(|sample| sample.system.as_ref());
    let system = system.unwrap_or(&none);
    let page_kb = readings.page_kb();
    let (slab, slab_totals) = slab::read(readings, system, page_kb);
    let detail = readings.detail();
    let zones = detail.and_then(|detail| detail.zones.as_deref());
    let settings = detail.into_iter().flat_map(|detail| &detail.settings);
    let governs = |name: &str| {
        name.starts_with("vm.dirty")
            || [
                "vm.vfs_cache_pressure",
                "vm.min_free_kbytes",
                "vm.swappiness",
                "thp.enabled",
            ]
            .contains(&name)
            || name == "vm.watermark_scale_factor"
    };
    let mut data = CacheData {
        page_cache: page_cache(system),
        rates: rates(readings),
        reclaim: reclaim(readings, system),
        dirty: dirty(readings, system, page_kb),
        slab,
        slab_totals,
        fragmentation: zones.map(|zones| fragmentation(zones, page_kb)),
        cgroups: cgroups(readings, system),
        pressure: Pressure {
            some_avg10: system.psi_some_avg10.map(percent),
            full_avg10: system.psi_full_avg10.map(percent),
            io_some_avg10: system.psi_io_some_avg10.map(percent),
        },
        settings: settings
            .filter(|setting| governs(&setting.name))
            .map(|setting| (setting.name.clone(), setting.value.clone()))
            .collect(),
        hit_ratio: None,
        hit_ratio_note: Some(msg!(
            "needs event tracing, this command does not measure it; refaults and major faults say whether the cache is too small",
            "需要事件跟踪，本命令不测量；缓存是否过小请看 refault 与主缺页"
        )),
        ..CacheData::default()
    };
    if data.slab.is_none() {
        data.notes.push(msg!(
            "slab caches cannot be listed: /proc/slabinfo is for root; run as root",
            "无法列出 slab 缓存：/proc/slabinfo 仅 root 可读，请以 root 运行"
        ));
    }
    if data.rates.interval_s.is_none() {
        data.notes.push(msg!(
            "rates are unknown: they need two readings of a running kernel (--interval above 0)",
            "速率未知：需要对运行中的内核读取两次（--interval 大于 0）"
        ));
    }
    data.judgements = judge::judge(&data, page_kb);
    let findings = findings::find(&data, page_kb);
    (data, findings)
}

fn percent(hundredths: u64) -> f64 {
    hundredths as f64 / 100.0
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// The sum of those that are known; `None` when none is.
fn sum<T: std::iter::Sum<T> + Copy>(parts: &[Option<T>]) -> Option<T> {
    let known = parts.iter().flatten();
    (known.clone().count() > 0).then(|| known.copied().sum())
}

fn page_cache(system: &SystemMetrics) -> PageCache {
    PageCache {
        mem_total_kb: system.mem_total_kb,
        mem_available_kb: system.mem_available_kb,
        cached_kb: system.cached_kb,
        buffers_kb: system.buffers_kb,
        file_kb: system
            .cached_kb
            .and_then(|cached| cached.checked_sub(system.shmem_kb?)),
        active_file_kb: system.active_file_kb,
        inactive_file_kb: system.inactive_file_kb,
        mapped_kb: system.mapped_kb,
        shmem_kb: system.shmem_kb,
        dirty_kb: system.dirty_kb,
        writeback_kb: system.writeback_kb,
        file_huge_pages_kb: system.file_huge_pages_kb,
        shmem_huge_pages_kb: system.shmem_huge_pages_kb,
        swap_cached_kb: system.swap_cached_kb,
        unevictable_kb: system.unevictable_kb,
        dropped_pagecache: system.drop_pagecache,
        dropped_slab: system.drop_slab,
    }
}

/// File refaults: `workingset_refault` alone counted them before Linux 5.9.
fn refault_file(system: &SystemMetrics) -> Option<u64> {
    system.workingset_refault_file.or(system.workingset_refault)
}

/// File pages reclaimed; all pages before Linux 5.8.
fn steal_file(system: &SystemMetrics) -> Option<u64> {
    system.pgsteal_file.or_else(|| steal(system))
}

fn steal(system: &SystemMetrics) -> Option<u64> {
    sum(&[system.pgsteal_kswapd, system.pgsteal_direct])
}

fn scan(system: &SystemMetrics) -> Option<u64> {
    sum(&[system.pgscan_kswapd, system.pgscan_direct])
}

fn rates(readings: &Readings) -> Rates {
    let rate = |get: Get| readings.rate(get);
    Rates {
        interval_s: readings.span().map(|(_, _, seconds)| seconds),
        refault_file_per_s: rate(refault_file),
        refault_anon_per_s: rate(|system| system.workingset_refault_anon),
        activate_file_per_s: rate(|system| system.workingset_activate_file),
        restore_file_per_s: rate(|system| system.workingset_restore_file),
        pgactivate_per_s: rate(|system| system.pgactivate),
        pgdeactivate_per_s: rate(|system| system.pgdeactivate),
        scan_kswapd_per_s: rate(|system| system.pgscan_kswapd),
        scan_direct_per_s: rate(|system| system.pgscan_direct),
        steal_kswapd_per_s: rate(|system| system.pgsteal_kswapd),
        steal_direct_per_s: rate(|system| system.pgsteal_direct),
        scan_file_per_s: rate(|system| system.pgscan_file),
        scan_anon_per_s: rate(|system| system.pgscan_anon),
        steal_file_per_s: rate(|system| system.pgsteal_file),
        steal_anon_per_s: rate(|system| system.pgsteal_anon),
        major_faults_per_s: rate(|system| system.pgmajfault),
        faults_per_s: rate(|system| system.pgfault),
        allocstall_per_s: rate(|system| system.allocstall),
        inodesteal_per_s: rate(|system| sum(&[system.pginodesteal, system.kswapd_inodesteal])),
        slabs_scanned_per_s: rate(|system| system.slabs_scanned),
        compact_stall_per_s: rate(|system| system.compact_stall),
        compact_fail_per_s: rate(|system| system.compact_fail),
        thp_fault_fallback_per_s: rate(|system| system.thp_fault_fallback),
        vmscan_write_per_s: rate(|system| system.nr_vmscan_write),
        disk_read_kb_per_s: rate(|system| system.disk_read_kb),
        disk_written_kb_per_s: rate(|system| system.disk_written_kb),
    }
}

/// Growth of a counter between the readings.
fn growth(readings: &Readings, get: Get) -> Option<u64> {
    let (first, last, _) = readings.span()?;
    get(last.system.as_ref()?)?.checked_sub(get(first.system.as_ref()?)?)
}

fn reclaim(readings: &Readings, now: &SystemMetrics) -> Reclaim {
    let over = |part: Option<u64>, whole: Option<u64>| ratio(part? as f64, whole? as f64);
    let (stolen, scanned) = (growth(readings, steal), growth(readings, scan));
    let direct = growth(readings, |system| system.pgscan_direct);
    Reclaim {
        efficiency: over(stolen, scanned),
        efficiency_since_boot: over(steal(now), scan(now)),
        refaults_per_steal: over(growth(readings, refault_file), growth(readings, steal_file)),
        refaults_per_steal_since_boot: over(refault_file(now), steal_file(now)),
        direct_share: over(direct, scanned),
        stolen_pages: stolen,
        scanned_pages: scanned,
    }
}

fn dirty(readings: &Readings, system: &SystemMetrics, page_kb: u64) -> Dirty {
    let pages = |pages: Option<u64>| pages.map(|pages| pages.saturating_mul(page_kb));
    let threshold = pages(system.nr_dirty_threshold);
    let background = pages(system.nr_dirty_background_threshold);
    let kb_per_s = |get: Get| readings.rate(get).map(|rate| rate * page_kb as f64);
    let dirtied = kb_per_s(|system| system.nr_dirtied);
    let written = kb_per_s(|system| system.nr_written);
    let held = system
        .dirty_kb
        .map(|dirty| dirty.saturating_add(system.writeback_kb.unwrap_or(0)));
    let to_threshold = || {
        let room = threshold?.saturating_sub(held?) as f64;
        ratio(room, dirtied? - written?)
    };
    let busy = || {
        let (_, _, seconds) = readings.span()?;
        let busy_ms = growth(readings, |system| system.disk_busy_ms)? as f64;
        // Summed over disks: one that is busy all the time is enough.
        Some((busy_ms / 1000.0 / seconds).min(1.0))
    };
    Dirty {
        dirty_kb: system.dirty_kb,
        writeback_kb: system.writeback_kb,
        threshold_kb: threshold,
        background_threshold_kb: background,
        throttled_from_kb: threshold
            .and_then(|threshold| Some(threshold.saturating_add(background?) / 2)),
        share_of_threshold: held.and_then(|held| ratio(held as f64, threshold? as f64)),
        dirtied_kb_per_s: dirtied,
        written_kb_per_s: written,
        // While flushers rest the rate says nothing about how fast they are.
        time_to_write_back_s: held
            .filter(|held| {
                background.is_some_and(|from| *held >= from) || system.writeback_kb > Some(0)
            })
            .and_then(|held| ratio(held as f64, written?)),
        time_to_threshold_s: to_threshold(),
        disk_busy: busy(),
    }
}

/// Gorman's unusable free space index (mm/vmstat.c, `unusable_free_index`): the share of free pages that
/// stand in blocks smaller than 2^order. No free memory counts as all unusable; `None` without figures.
#[must_use]
pub fn unusable_index(free_blocks: &[u64], order: usize) -> Option<f64> {
    if free_blocks.is_empty() {
        return None;
    }
    let pages = |(order, blocks): (usize, &u64)| {
        let size = u32::try_from(order)
            .ok()
            .and_then(|order| 1u128.checked_shl(order));
        u128::from(*blocks).saturating_mul(size.unwrap_or(0))
    };
    let free: u128 = free_blocks.iter().enumerate().map(pages).sum();
    if free == 0 {
        return Some(1.0);
    }
    let usable: u128 = free_blocks.iter().enumerate().skip(order).map(pages).sum();
    Some((free - usable) as f64 / free as f64)
}

fn fragmentation(zones: &[Zone], page_kb: u64) -> Fragmentation {
    let mut all: Vec<u64> = Vec::new();
    let mut rows = Vec::new();
    for zone in zones {
        if all.len() < zone.free_blocks.len() {
            all.resize(zone.free_blocks.len(), 0);
        }
        let mut free: u64 = 0;
        for (order, (blocks, sum)) in zone.free_blocks.iter().zip(&mut all).enumerate() {
            *sum = sum.saturating_add(*blocks);
            let size = u32::try_from(order)
                .ok()
                .and_then(|order| 1u64.checked_shl(order));
            free = free.saturating_add(blocks.saturating_mul(size.unwrap_or(0)));
        }
        let largest = zone.free_blocks.iter().rposition(|blocks| *blocks > 0);
        rows.push(ZoneRow {
            node: zone.node,
            zone: zone.name.clone(),
            free_kb: free.saturating_mul(page_kb),
            free_by_order: zone.free_blocks.clone(),
            unusable_index_order_3: unusable_index(&zone.free_blocks, 3),
            unusable_index_order_9: unusable_index(&zone.free_blocks, 9),
            largest_order: largest.map(|order| order as u64),
        });
    }
    Fragmentation {
        zones: rows,
        unusable_index_order_3: unusable_index(&all, 3),
        unusable_index_order_9: unusable_index(&all, 9),
        free_by_order: all,
    }
}

/// Cgroups below this file cache are left out, KiB.
const SMALL_KB: u64 = 1024;

fn cgroups(readings: &Readings, system: &SystemMetrics) -> Vec<CgroupCache> {
    let Some(newest) = readings.newest() else {
        return Vec::new();
    };
    let refault = |sample: &Sample, id: u64| {
        let found = sample.cgroups.iter().find(|cgroup| cgroup.id == id)?;
        found.metrics.workingset_refault_file
    };
    let rows = newest.cgroups.iter().filter_map(|cgroup| {
        let metrics = &cgroup.metrics;
        let file_kb = metrics.file_kb.filter(|kb| *kb >= SMALL_KB)?;
        let rate = || {
            let (first, last, seconds) = readings.span()?;
            let grown = refault(last, cgroup.id)?.checked_sub(refault(first, cgroup.id)?)?;
            Some(grown as f64 / seconds)
        };
        Some(CgroupCache {
            path: cgroup.path.lossy().into_owned(),
            file_kb,
            share: ratio(file_kb as f64, system.cached_kb? as f64),
            inactive_file_kb: metrics.inactive_file_kb,
            active_file_kb: metrics.active_file_kb,
            dirty_kb: metrics.dirty_kb,
            refault_file_per_s: rate(),
            usage_kb: metrics.usage_kb,
            high_kb: metrics.high_kb,
            limit_kb: metrics.limit_kb,
        })
    });
    let mut rows: Vec<CgroupCache> = rows.collect();
    rows.sort_by(|a, b| b.file_kb.cmp(&a.file_kb).then_with(|| a.path.cmp(&b.path)));
    rows
}

#[cfg(test)]
mod tests;
