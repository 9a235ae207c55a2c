//! What the figures of `inspect processes` mean: each finding with its proof and the next command.

use std::collections::BTreeMap;

use crate::analysis::memory;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::processes::CgroupRow;
use crate::report::processes::ProcessRow;
use crate::report::processes::ProcessesData;
use crate::report::size_kb as size;

use super::super::readings::Readings;

/// Below this much no finding is worth a reader's time.
const WORTH_KB: u64 = 256 << 10;
/// Most pieces of evidence of one finding.
const MOST: usize = 5;

/// Every finding, worst first.
pub(super) fn all(readings: &Readings, data: &ProcessesData) -> Vec<Finding> {
    // With a filter nothing is told that is not about the wanted processes.
    let host = |finding: Option<Finding>| finding.filter(|_| !data.view.filtered);
    let mut found: Vec<Finding> = [
        memory::no_process_matches(readings),
        memory::near_wanted_limit(readings),
        oom_kills(data),
        limit_hit(data),
        throttled(data),
        host(unaccounted(data)),
        host(slab(data)),
        host(huge_pages(readings, data)),
        dominant(data),
        copies(data),
        swapped(data),
        host(nodes(data)),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// Whether kills and hits of this cgroup are those of wanted processes: with a filter, cgroups above theirs
/// count what happened to others.
fn own(data: &ProcessesData, row: &CgroupRow) -> bool {
    !data.view.filtered || row.processes > 0
}

fn cgroups(count: usize) -> String {
    match count {
        1 => "1 memory cgroup".to_owned(),
        _ => format!("{count} memory cgroups"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn of(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Kills: a warning when they go on, else for the record. Version 2 counts those of children too, so that
/// only the deepest cgroup of a line is told.
fn oom_kills(data: &ProcessesData) -> Option<Finding> {
    let kills = |row: &CgroupRow| row.metrics.oom_kill.filter(|kills| *kills > 0);
    let rows: Vec<(&CgroupRow, u64)> = data
        .cgroups
        .iter()
        .filter(|row| own(data, row))
        .filter_map(|row| Some((row, kills(row)?)))
        .filter(|(row, _)| {
            let below = |other: &CgroupRow| {
                let rest = other.path.strip_prefix(row.path.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
            };
            !data
                .cgroups
                .iter()
                .any(|other| below(other) && kills(other).is_some())
        })
        .collect();
    let (first, _) = rows.first()?;
    let now = rows.iter().any(|(row, _)| row.oom_kill_change > Some(0));
    let (count, path) = (rows.len(), &first.path);
    let cgroups = cgroups(count);
    Some(Finding {
        id: "cgroup-oom-kills",
        severity: if now {
            Severity::Warning
        } else {
            Severity::Info
        },
        title: msg!(
            "OOM kills in {cgroups} since they were made",
            "{count} 个内存 cgroup 自创建以来发生过 OOM"
        ),
        evidence: rows
            .iter()
            .take(MOST)
            .map(|(row, kills)| {
                let path = &row.path;
                msg!("{path}: {kills} killed", "{path}：被杀 {kills} 次")
            })
            .collect(),
        advice: vec![msg!(
            "catch the next one with its cause: `aiops trace oom --cgroup {path}`",
            "捕获下一次及其原因：`aiops trace oom --cgroup {path}`"
        )],
    })
}

/// The limit was met while we looked, without any kill: reclaim works for it.
fn limit_hit(data: &ProcessesData) -> Option<Finding> {
    let hits = |row: &CgroupRow| row.failcnt_change.filter(|hits| *hits > 0);
    let rows: Vec<(&CgroupRow, u64)> = data
        .cgroups
        .iter()
        .filter(|row| own(data, row))
        .filter_map(|row| Some((row, hits(row)?)))
        .collect();
    let (first, _) = rows.first()?;
    let (count, path) = (rows.len(), &first.path);
    let cgroups = cgroups(count);
    Some(Finding {
        id: "cgroup-limit-hit",
        severity: Severity::Warning,
        title: msg!(
            "Limit met right now, with reclaim to stay below it: {cgroups}",
            "{count} 个内存 cgroup 正在触及上限并不断回收"
        ),
        evidence: rows
            .iter()
            .take(MOST)
            .map(|(row, hits)| {
                let path = &row.path;
                msg!(
                    "{path}: {hits} times in the interval",
                    "{path}：间隔内 {hits} 次"
                )
            })
            .collect(),
        advice: vec![msg!(
            "see what fills it: `aiops inspect processes --cgroup {path}`",
            "查看占用者：`aiops inspect processes --cgroup {path}`"
        )],
    })
}

/// Above memory.high (v2): its tasks are slowed down.
fn throttled(data: &ProcessesData) -> Option<Finding> {
    let above = |row: &&CgroupRow| {
        let metrics = &row.metrics;
        metrics.high_kb.is_some() && metrics.usage_kb >= metrics.high_kb
    };
    let rows: Vec<&CgroupRow> = data.cgroups.iter().filter(above).collect();
    let path = &rows.first()?.path;
    let count = rows.len();
    let cgroups = cgroups(count);
    Some(Finding {
        id: "cgroup-throttled",
        severity: Severity::Warning,
        title: msg!(
            "{cgroups} at memory.high: allocations are slowed down",
            "{count} 个内存 cgroup 达到 memory.high：分配被限速"
        ),
        evidence: rows
            .iter()
            .take(MOST)
            .map(|row| {
                let path = &row.path;
                let usage = size(row.metrics.usage_kb.unwrap_or(0));
                let high = size(row.metrics.high_kb.unwrap_or(0));
                msg!(
                    "{path}: {usage}, memory.high {high}",
                    "{path}：已用 {usage}，memory.high 为 {high}"
                )
            })
            .collect(),
        advice: vec![msg!(
            "see what fills it: `aiops inspect processes --cgroup {path}`; raise memory.high when this is its normal need",
            "查看占用者：`aiops inspect processes --cgroup {path}`；若属正常需求则提高 memory.high"
        )],
    })
}

/// Memory that neither processes nor the kernel's own counters explain.
fn unaccounted(data: &ProcessesData) -> Option<Finding> {
    let totals = &data.totals;
    let (lost, total) = (totals.unaccounted_kb?, totals.mem_total_kb?);
    let share = of(lost, total);
    if share < 0.10 || lost < 2 * WORTH_KB {
        return None;
    }
    let (lost, total, share) = (size(lost), size(total), percent(share));
    Some(Finding {
        id: "memory-unaccounted",
        severity: Severity::Warning,
        title: msg!(
            "{lost} ({share}) is in use, but no counter says by whom",
            "{lost}（{share}）已被占用，但没有任何计数能说明去向"
        ),
        evidence: vec![msg!(
            "MemTotal {total} − free, page cache, anonymous, shared, slab, stacks, page tables, per-CPU, vmalloc, huge pages, zswap and zram = {lost}",
            "MemTotal {total} 减去空闲、页缓存、匿名、共享、slab、内核栈、页表、per-CPU、vmalloc、大页、zswap、zram，剩 {lost}"
        )],
        advice: vec![
            msg!(
                "such pages are taken straight from the page allocator: a balloon of the hypervisor, GPU or network drivers; ask the hypervisor for the balloon's size, compare before and after unloading the driver",
                "这类页直接取自页分配器：虚拟机气球、GPU 或网卡驱动；先向虚拟化平台确认气球大小，再对比卸载驱动前后"
            ),
            msg!(
                "whether it grows: compare two snapshots of `aiops collect memory --duration 0 --output F` with `aiops diff memory`",
                "是否增长：用 `aiops collect memory --duration 0 --output F` 取两次快照，再用 `aiops diff memory` 比较"
            ),
        ],
    })
}

fn slab(data: &ProcessesData) -> Option<Finding> {
    let totals = &data.totals;
    let (slab, total) = (totals.slab_unreclaimable_kb?, totals.mem_total_kb?);
    let share = of(slab, total);
    if share < 0.10 || slab < WORTH_KB {
        return None;
    }
    let (slab, share) = (size(slab), percent(share));
    Some(Finding {
        id: "slab-unreclaimable-large",
        severity: Severity::Warning,
        title: msg!(
            "The kernel holds {slab} ({share}) of slab that it cannot give back",
            "内核占用 {slab}（{share}）不可回收的 slab"
        ),
        evidence: vec![msg!("SUnreclaim {slab}", "SUnreclaim 为 {slab}")],
        advice: vec![msg!(
            "see which slab caches, and which grow: `aiops inspect cache`",
            "查看是哪些 slab 缓存、哪些在增长：`aiops inspect cache`"
        )],
    })
}

/// Huge pages that nobody uses are lost to everybody.
fn huge_pages(readings: &Readings, data: &ProcessesData) -> Option<Finding> {
    let system = readings.newest()?.system.as_ref()?;
    let free = system
        .huge_pages_free?
        .saturating_sub(system.huge_pages_rsvd.unwrap_or(0));
    let free_kb = free.saturating_mul(system.huge_page_size_kb?);
    let total = data.totals.mem_total_kb?;
    let share = of(free_kb, total);
    if share < 0.05 || free_kb < WORTH_KB {
        return None;
    }
    let (size, share) = (size(free_kb), percent(share));
    let all = system.huge_pages_total?;
    Some(Finding {
        id: "hugetlb-unused",
        severity: if free_kb > total / 4 {
            Severity::Warning
        } else {
            Severity::Info
        },
        title: msg!(
            "{size} ({share}) lies in huge pages that nobody uses",
            "{size}（{share}）被预留为大页，但无人使用"
        ),
        evidence: vec![msg!(
            "{free} of {all} huge pages are free and not promised",
            "{all} 个大页中有 {free} 个空闲且未被预订"
        )],
        advice: vec![msg!(
            "lower vm.nr_hugepages, unless a program that needs them is about to start",
            "若没有程序即将使用，调低 vm.nr_hugepages"
        )],
    })
}

fn called(row: &ProcessRow) -> (String, u32) {
    let name = row.who.comm.clone().unwrap_or_default();
    (name, row.who.pid.unwrap_or(0))
}

/// One process has most of the memory.
fn dominant(data: &ProcessesData) -> Option<Finding> {
    let largest = data.processes.iter().max_by_key(|row| row.metrics.rss_kb)?;
    let (rss, share) = (largest.metrics.rss_kb?, largest.rss_share?);
    if share < 0.4 {
        return None;
    }
    let totals = &data.totals;
    let tight = totals
        .mem_available_kb
        .zip(totals.mem_total_kb)
        .is_some_and(|(available, total)| of(available, total) < 0.15);
    let ((name, pid), rss, share) = (called(largest), size(rss), percent(share));
    let mut evidence = vec![msg!(
        "{name} ({pid}): RSS {rss}",
        "{name}（{pid}）：RSS {rss}"
    )];
    if let Some(anon) = largest.makeup.anon_kb.map(size) {
        evidence.push(msg!("of it anonymous: {anon}", "其中匿名内存 {anon}"));
    }
    if let Some(available) = totals.mem_available_kb.map(size) {
        evidence.push(msg!(
            "available on the host: {available}",
            "主机可用内存 {available}"
        ));
    }
    Some(Finding {
        id: "process-dominates",
        severity: if tight {
            Severity::Warning
        } else {
            Severity::Info
        },
        title: msg!(
            "One process has {share} of the memory: {name} ({pid})",
            "单个进程占用 {share} 的内存：{name}（{pid}）"
        ),
        evidence,
        advice: vec![msg!(
            "see what it is made of: `aiops inspect memory --pid {pid}`",
            "查看其构成：`aiops inspect memory --pid {pid}`"
        )],
    })
}

/// Many copies of one program together.
fn copies(data: &ProcessesData) -> Option<Finding> {
    let total = data.totals.mem_total_kb?;
    let mut by_name: BTreeMap<&str, Vec<&ProcessRow>> = BTreeMap::new();
    for row in &data.processes {
        by_name
            .entry(row.who.comm.as_deref()?)
            .or_default()
            .push(row);
    }
    // PSS does not count what they share twice; resident memory would.
    let weight = |rows: &[&ProcessRow]| -> Option<(u64, bool)> {
        let sum = |get: fn(&ProcessRow) -> Option<u64>| -> Option<u64> {
            let all: Option<Vec<u64>> = rows.iter().map(|row| get(row)).collect();
            Some(all?.into_iter().fold(0, u64::saturating_add))
        };
        let pss = sum(|row| row.metrics.pss_kb).map(|kb| (kb, true));
        // What is anonymous is hardly shared.
        pss.or_else(|| sum(|row| row.makeup.anon_kb).map(|kb| (kb, false)))
    };
    let (name, rows, kb, pss) = by_name
        .into_iter()
        .filter(|(_, rows)| rows.len() >= 8)
        .filter_map(|(name, rows)| {
            let (kb, pss) = weight(&rows)?;
            Some((name, rows, kb, pss))
        })
        .max_by_key(|(_, _, kb, _)| *kb)?;
    let share = of(kb, total);
    if share < 0.2 || kb < WORTH_KB {
        return None;
    }
    let (count, kb, each, share) = (
        rows.len(),
        size(kb),
        size(kb / rows.len() as u64),
        percent(share),
    );
    let measure: Msg = if pss {
        msg!(
            "PSS {kb} together, {each} each",
            "PSS 合计 {kb}，平均每个 {each}"
        )
    } else {
        msg!(
            "anonymous memory {kb} together, {each} each",
            "匿名内存合计 {kb}，平均每个 {each}"
        )
    };
    Some(Finding {
        id: "many-copies",
        severity: Severity::Info,
        title: msg!(
            "{count} processes named {name} have {share} of the memory together",
            "{count} 个名为 {name} 的进程合计占用 {share} 的内存"
        ),
        evidence: vec![measure],
        advice: vec![msg!(
            "run fewer of them (workers, pool size), when less is enough: `aiops inspect processes --by comm` counts them",
            "若不需要这么多，减少其数量（worker 数、连接池）：`aiops inspect processes --by comm` 可统计"
        )],
    })
}

/// A program with much of its memory in swap.
fn swapped(data: &ProcessesData) -> Option<Finding> {
    let mut by_name: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for row in &data.processes {
        let sums = by_name
            .entry(row.who.comm.as_deref().unwrap_or("?"))
            .or_default();
        sums.0 = sums.0.saturating_add(row.makeup.swap_kb.unwrap_or(0));
        sums.1 = sums.1.saturating_add(row.metrics.rss_kb.unwrap_or(0));
        sums.2 += 1;
    }
    let (name, (swap, rss, count)) = by_name.into_iter().max_by_key(|(_, sums)| sums.0)?;
    let share = of(swap, swap.saturating_add(rss));
    if swap < WORTH_KB || share < 0.25 {
        return None;
    }
    let (swap, rss, share) = (size(swap), size(rss), percent(share));
    let processes = match count {
        1 => "1 process".to_owned(),
        _ => format!("{count} processes"),
    };
    Some(Finding {
        id: "group-swapped",
        severity: Severity::Info,
        title: msg!(
            "{name}: {share} of its memory is in swap",
            "{name}：{share} 的内存在 Swap 中"
        ),
        evidence: vec![msg!(
            "{processes}: {swap} in swap, {rss} resident",
            "{count} 个进程：Swap {swap}，常驻 {rss}"
        )],
        advice: vec![msg!(
            "whether it is needed back (rates, pressure): `aiops analyze swap`",
            "是否正被换回（速率、压力）：`aiops analyze swap`"
        )],
    })
}

/// One node is full while another has room.
fn nodes(data: &ProcessesData) -> Option<Finding> {
    let free = data.nodes.iter().filter_map(|node| {
        let total = node.mem_total_kb.filter(|total| *total > 0)?;
        Some((of(node.mem_free_kb?, total), node))
    });
    let (least, full) = free.clone().min_by(|a, b| a.0.total_cmp(&b.0))?;
    let (most, roomy) = free.max_by(|a, b| a.0.total_cmp(&b.0))?;
    if least > 0.05 || most < 0.25 {
        return None;
    }
    let missing = full.numa_foreign_per_s.filter(|rate| *rate >= 1.0);
    let mut evidence = Vec::new();
    for (share, node) in [(least, full), (most, roomy)] {
        let (id, share) = (node.id, percent(share));
        let free = size(node.mem_free_kb.unwrap_or(0));
        evidence.push(msg!(
            "node {id}: {free} free ({share})",
            "节点 {id}：空闲 {free}（{share}）"
        ));
    }
    if let Some(rate) = missing {
        let id = full.id;
        evidence.push(msg!(
            "{rate:.0} pages/s that wanted node {id} came from another",
            "每秒 {rate:.0} 页本应来自节点 {id}，实际来自其他节点"
        ));
    }
    let (full, roomy) = (full.id, roomy.id);
    Some(Finding {
        id: "numa-imbalance",
        severity: if missing.is_some() {
            Severity::Warning
        } else {
            Severity::Info
        },
        title: msg!(
            "NUMA node {full} is full while node {roomy} has room",
            "NUMA 节点 {full} 已满，而节点 {roomy} 仍有空闲"
        ),
        evidence,
        advice: vec![msg!(
            "interleave the largest process over the nodes (numactl --interleave=all) or bind fewer of them to node {full}",
            "让最大的进程跨节点交错分配（numactl --interleave=all），或减少绑定到节点 {full} 的进程"
        )],
    })
}
