//! Limits of cgroups: which one makes it swap, and how to change it.

use crate::analysis::shell;
use crate::msg;
use crate::report::Msg;
use crate::report::swap::CgroupSwap;
use crate::report::swap::SwapData;

use super::advice::LARGE_KB;
use super::advice::MOST;
use super::advice::NEARLY_FULL;
use super::advice::moves;
use super::advice::percent;
use super::advice::size;
use super::advice::tight;

/// The cgroup that swaps because of its own limit although the host has memory: it stands at its limit, and
/// while pages move it met it in the interval (where that is counted).
pub(super) fn own_limit(data: &SwapData) -> Option<&CgroupSwap> {
    if tight(data) {
        return None;
    }
    let stands = |row: &&CgroupSwap| {
        let limits = &row.limits;
        !limits.path.trim_matches('/').is_empty()
            && limits.swap_kb >= Some(LARGE_KB)
            && limits
                .usage_kb
                .zip(binding(row))
                .is_some_and(|(usage, most)| usage as f64 >= most as f64 * NEARLY_FULL)
    };
    let moves = moves(data);
    data.cgroups
        .iter()
        .filter(stands)
        .filter(|row| !moves || row.limit_hits.is_none_or(|hits| hits > 0))
        // The one that meets its limit most; of nested ones the one whose limit it is.
        .max_by_key(|row| (row.limit_hits, row.limits.path.len()))
}

/// The limit that is met first.
fn binding(row: &CgroupSwap) -> Option<u64> {
    let limits = &row.limits;
    limits.limit_kb.into_iter().chain(limits.high_kb).min()
}

pub(super) fn limit_evidence(row: &CgroupSwap) -> Option<Msg> {
    let most = binding(row)?;
    let (usage_kb, swap_kb) = (row.limits.usage_kb?, row.limits.swap_kb?);
    let part = percent(usage_kb, most);
    let (swap, usage, limit) = (size(swap_kb), size(usage_kb), size(most));
    Some(msg!(
        "{usage} in use of its limit {limit} ({part}), {swap} in swap",
        "用量 {usage}，限额 {limit}（{part}），换出 {swap}"
    ))
}

/// Writes to limits, in the order in which the kernel takes them.
fn writes(list: &[(u64, String)]) -> String {
    let one = |(kb, file): &(u64, String)| {
        let bytes = kb.saturating_mul(1024);
        format!("echo {bytes} > {}", shell::quote(file))
    };
    list.iter().map(one).collect::<Vec<_>>().join(" && ")
}

/// A limit that its swapped memory fits into, when the host has room for it.
pub(super) fn raise(data: &SwapData, row: &CgroupSwap) -> Option<Msg> {
    let limits = &row.limits;
    let path = limits.path.trim_end_matches('/');
    let most = binding(row)?;
    let need = limits.swap_kb?.saturating_add(most);
    if data.totals.mem_available_kb <= limits.swap_kb {
        return Some(msg!(
            "The host has no room for what it swapped out: make the program smaller or add memory",
            "主机没有空间容纳其换出的内存：缩减程序内存或增加内存"
        ));
    }
    let mut list = Vec::new();
    if data.v1() {
        let folder = format!("/sys/fs/cgroup/memory{path}");
        // Memory and swap together may never be below memory alone: that one first.
        if limits.swap_limit_kb.is_some_and(|both| both < need) {
            list.push((need, format!("{folder}/memory.memsw.limit_in_bytes")));
        }
        list.push((need, format!("{folder}/memory.limit_in_bytes")));
    } else {
        let folder = format!("/sys/fs/cgroup{path}");
        if limits.limit_kb.is_some_and(|limit| limit < need) {
            list.push((need, format!("{folder}/memory.max")));
        }
        if limits.high_kb.is_some_and(|limit| limit < need) {
            list.push((need, format!("{folder}/memory.high")));
        }
    }
    let commands = writes(&list);
    Some(msg!(
        "The host has room: raise the limit so that the swapped memory fits: {commands}",
        "主机仍有可用内存：提高限额以容纳换出的内存：{commands}"
    ))
}

/// An end for the cgroup that the swap belongs to, when it holds most of it.
pub(super) fn cap(data: &SwapData) -> Option<Msg> {
    let used = data.totals.swap_used_kb?;
    // The deepest cgroup that still has most of the swap in use; never the root.
    let row = data
        .cgroups
        .iter()
        .filter(|row| !row.limits.path.trim_matches('/').is_empty())
        .filter(|row| row.limits.swap_kb.unwrap_or(0) as f64 >= used as f64 * MOST)
        .max_by_key(|row| row.limits.path.len())?;
    let limits = &row.limits;
    let path = limits.path.trim_end_matches('/');
    let swap_kb = limits.swap_kb?;
    let swap = size(swap_kb);
    let list = if data.v1() {
        // Version 1 has no limit of swap alone: the one of both takes effect only above that of memory.
        let most = limits.usage_kb?.saturating_add(swap_kb);
        let folder = format!("/sys/fs/cgroup/memory{path}");
        let mut list = Vec::new();
        if limits.limit_kb.is_none_or(|limit| limit > most) {
            list.push((most, format!("{folder}/memory.limit_in_bytes")));
        }
        list.push((most, format!("{folder}/memory.memsw.limit_in_bytes")));
        list
    } else {
        vec![(swap_kb, format!("/sys/fs/cgroup{path}/memory.swap.max"))]
    };
    let commands = writes(&list);
    Some(msg!(
        "If the host matters more than cgroup {path} ({swap} in swap), keep it from taking more; it may then be OOM-killed: {commands}",
        "若主机比 cgroup {path}（已换出 {swap}）更重要，可限制其继续增长，但其进程可能因此被 OOM 终止：{commands}"
    ))
}
