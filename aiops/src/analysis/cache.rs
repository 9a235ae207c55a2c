//! Page cache, slab, dirty pages and fragmentation: what the figures are and what they mean.

mod findings;
mod judge;
mod slab;

use crate::model::CgroupMetrics;
use crate::model::PageType;
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
use crate::report::cache::PageTypeRow;
use crate::report::cache::Pressure;
use crate::report::cache::Rates;
use crate::report::cache::Reclaim;
use crate::report::cache::ZoneRow;
use crate::time;

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
        at: readings
            .moment()
            .and_then(|(real_ns, offset_s)| time::rfc3339(real_ns, offset_s)),
        page_cache: page_cache(system),
        rates: rates(readings),
        reclaim: reclaim(readings, system),
        dirty: dirty(readings, system, page_kb),
        slab,
        slab_totals,
        fragmentation: zones.map(|zones| {
            let types = detail.and_then(|detail| detail.page_types.as_deref());
            fragmentation(zones, types, page_kb)
        }),
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
    data.cgroup_version = readings
        .session
        .as_ref()
        .and_then(|session| session.host.memory_cgroup);
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

/// Reclaimed by kswapd and by programs for the host; what cgroups at their limits reclaim is not in it
/// (mm/vmscan.c counts it by kind of page only).
fn host_steal(system: &SystemMetrics) -> Option<u64> {
    sum(&[system.pgsteal_kswapd, system.pgsteal_direct])
}

/// Scanned for the host, as [`host_steal`].
fn host_scan(system: &SystemMetrics) -> Option<u64> {
    sum(&[system.pgscan_kswapd, system.pgscan_direct])
}

/// Reclaimed in all, cgroups at their limits included (since 5.8).
fn all_steal(system: &SystemMetrics) -> Option<u64> {
    system.pgsteal_anon?.checked_add(system.pgsteal_file?)
}

/// Scanned in all (since 5.8).
fn all_scan(system: &SystemMetrics) -> Option<u64> {
    system.pgscan_anon?.checked_add(system.pgscan_file?)
}

/// File pages that came back, where reclaimed file pages are counted alike: else no ratio is one.
fn comparable_refaults(system: &SystemMetrics) -> Option<u64> {
    system
        .workingset_refault_file
        .filter(|_| system.pgsteal_file.is_some())
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
    let grown = |get: Get| growth(readings, get);
    let host = (grown(host_steal), grown(host_scan));
    let all = (grown(all_steal), grown(all_scan));
    let (stolen, scanned) = if all.1 >= host.1 { all } else { host };
    let boot = match (all_scan(now), host_scan(now)) {
        (all, host) if all >= host => (all_steal(now), all),
        (_, host) => (host_steal(now), host),
    };
    Reclaim {
        efficiency: over(stolen, scanned),
        efficiency_since_boot: over(boot.0, boot.1),
        refaults_per_steal: over(
            grown(comparable_refaults),
            grown(|system| system.pgsteal_file),
        ),
        // A host that was resumed from a snapshot may have refaults of pages that it did not reclaim.
        refaults_per_steal_since_boot: over(comparable_refaults(now), now.pgsteal_file)
            .filter(|ratio| *ratio <= 1.0),
        direct_share: over(grown(|system| system.pgscan_direct), host.1),
        stolen_pages: stolen,
        scanned_pages: scanned,
        host_scanned_pages: host.1,
        scanned_pages_since_boot: boot.1,
    }
}

fn dirty(readings: &Readings, system: &SystemMetrics, page_kb: u64) -> Dirty {
    let pages = |pages: Option<u64>| pages.map(|pages| pages.saturating_mul(page_kb));
    let threshold = pages(system.nr_dirty_threshold);
    let background = pages(system.nr_dirty_background_threshold);
    let kb_per_s = |get: Get| readings.rate(get).map(|rate| rate * page_kb as f64);
    let dirtied = kb_per_s(|system| system.nr_dirtied);
    // nr_written counts pages that go to swap as well: they were never dirty file pages.
    let written = kb_per_s(|system| {
        let swapped = system.pswpout.unwrap_or(0);
        Some(system.nr_written?.saturating_sub(swapped))
    });
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
        Some(busy_ms / 1000.0 / seconds)
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

/// Pages of the free blocks of an order.
fn block_pages((order, blocks): (usize, &u64)) -> u128 {
    let size = u32::try_from(order)
        .ok()
        .and_then(|order| 1u128.checked_shl(order));
    u128::from(*blocks).saturating_mul(size.unwrap_or(0))
}

/// Gorman's unusable free space index (mm/vmstat.c, `unusable_free_index`): the share of free pages that
/// stand in blocks smaller than 2^order; `None` when nothing is free, or nothing is known.
#[must_use]
pub fn unusable_index(free_blocks: &[u64], order: usize) -> Option<f64> {
    let sum = |from: usize| {
        let blocks = free_blocks.iter().enumerate().skip(from);
        blocks.map(block_pages).fold(0, u128::saturating_add)
    };
    let (free, usable) = (sum(0), sum(order));
    (free > 0).then(|| free.saturating_sub(usable) as f64 / free as f64)
}

/// Free blocks by order, all zones together.
#[must_use]
pub fn all_free_blocks(zones: &[Zone]) -> Vec<u64> {
    let mut all: Vec<u64> = Vec::new();
    for zone in zones {
        if all.len() < zone.free_blocks.len() {
            all.resize(zone.free_blocks.len(), 0);
        }
        for (sum, blocks) in all.iter_mut().zip(&zone.free_blocks) {
            *sum = sum.saturating_add(*blocks);
        }
    }
    all
}

fn free_kb(free_blocks: &[u64], page_kb: u64) -> u64 {
    let pages = free_blocks.iter().enumerate().map(block_pages);
    let pages = pages.fold(0, u128::saturating_add);
    u64::try_from(pages).map_or(u64::MAX, |pages| pages.saturating_mul(page_kb))
}

fn fragmentation(zones: &[Zone], types: Option<&[PageType]>, page_kb: u64) -> Fragmentation {
    let rows = zones.iter().map(|zone| {
        let largest = zone.free_blocks.iter().rposition(|blocks| *blocks > 0);
        ZoneRow {
            node: zone.node,
            zone: zone.name.clone(),
            free_kb: free_kb(&zone.free_blocks, page_kb),
            free_by_order: zone.free_blocks.clone(),
            unusable_index_order_3: unusable_index(&zone.free_blocks, 3),
            unusable_index_order_9: unusable_index(&zone.free_blocks, 9),
            largest_order: largest.map(|order| order as u64),
        }
    });
    let all = all_free_blocks(zones);
    let types = types.map(|types| {
        let rows = types.iter().map(|one| PageTypeRow {
            node: one.node,
            zone: one.zone.clone(),
            migrate_type: one.name.clone(),
            free_kb: free_kb(&one.free_blocks, page_kb),
            free_by_order: one.free_blocks.clone(),
        });
        rows.collect()
    });
    Fragmentation {
        zones: rows.collect(),
        types,
        unusable_index_order_3: unusable_index(&all, 3),
        unusable_index_order_9: unusable_index(&all, 9),
        free_by_order: all,
    }
}

/// Cgroups below this file cache are left out unless they are at their limit, KiB.
const SMALL_KB: u64 = 1024;

fn cgroups(readings: &Readings, system: &SystemMetrics) -> Vec<CgroupCache> {
    let Some(newest) = readings.newest() else {
        return Vec::new();
    };
    let metrics = |sample: &Sample, id: u64| {
        let found = sample.cgroups.iter().find(|cgroup| cgroup.id == id)?;
        Some(found.metrics.clone())
    };
    // Cached leaves out block devices and the swap cache, which cgroups count as cache.
    let host_kb = system.cached_kb.map(|cached| {
        let more = [system.buffers_kb, system.swap_cached_kb];
        more.into_iter().flatten().fold(cached, u64::saturating_add)
    });
    let rows = newest.cgroups.iter().filter_map(|cgroup| {
        let now = &cgroup.metrics;
        let rate = |get: fn(&CgroupMetrics) -> Option<u64>| {
            let (first, last, seconds) = readings.span()?;
            let (from, to) = (
                get(&metrics(first, cgroup.id)?)?,
                get(&metrics(last, cgroup.id)?)?,
            );
            Some(to.checked_sub(from)? as f64 / seconds)
        };
        let hits = rate(|metrics| metrics.failcnt);
        let high = rate(|metrics| metrics.high_events);
        let met = hits > Some(0.0) || high > Some(0.0);
        if !met && now.file_kb? < SMALL_KB {
            return None;
        }
        let file_kb = now.file_kb.unwrap_or(0);
        Some(CgroupCache {
            path: cgroup.path.lossy().into_owned(),
            file_kb,
            share: host_kb.and_then(|host| ratio(file_kb as f64, host as f64)),
            inactive_file_kb: now.inactive_file_kb,
            active_file_kb: now.active_file_kb,
            dirty_kb: now.dirty_kb,
            refault_file_per_s: rate(|metrics| metrics.workingset_refault_file),
            limit_hits_per_s: hits,
            high_events_per_s: high,
            usage_kb: now.usage_kb,
            high_kb: now.high_kb,
            limit_kb: now.limit_kb,
        })
    });
    let mut rows: Vec<CgroupCache> = rows.collect();
    rows.sort_by(|a, b| b.file_kb.cmp(&a.file_kb).then_with(|| a.path.cmp(&b.path)));
    rows
}

#[cfg(test)]
mod tests;
