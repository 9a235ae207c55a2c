//! Why the processes' sum is not the swap in use: named parts with their figures.

use crate::model::SystemMetrics;
use crate::msg;
use crate::report::Msg;
use crate::report::swap::CgroupSwap;
use crate::report::swap::Part;
use crate::report::swap::Totals;

use super::super::readings::Readings;
use super::signed;

/// Slots that a CPU may hold in reserve, to give and to give back: 64 each (`SWAP_SLOTS_CACHE_SIZE`).
const SLOTS_PER_CPU: u64 = 128;

/// Compares the sum of the processes with the swap in use.
pub(super) fn totals(
    readings: &Readings,
    system: &SystemMetrics,
    cgroups: &[CgroupSwap],
) -> Totals {
    let processes = readings
        .newest()
        .map_or(&[][..], |sample| &sample.processes);
    let known: Vec<u64> = processes
        .iter()
        .filter_map(|process| process.metrics.swap_kb)
        .collect();
    let sum =
        (!known.is_empty()).then(|| known.iter().fold(0u64, |sum, kb| sum.saturating_add(*kb)));
    let used = system
        .swap_total_kb
        .zip(system.swap_free_kb)
        .map(|(total, free)| total.saturating_sub(free));
    let skipped = readings.skipped;
    // Ended between listing and reading, or a kernel that does not tell.
    let silent = if known.is_empty() {
        0
    } else {
        processes.len().saturating_sub(known.len()) as u64
    };
    let swapped = processes
        .iter()
        .filter(|process| process.metrics.swap_kb > Some(0));
    let shares = swapped
        .clone()
        .filter(|process| process.metrics.swap_pss_kb.is_some());
    let mut totals = Totals {
        swap_total_kb: system.swap_total_kb,
        swap_used_kb: used,
        swap_free_kb: system.swap_free_kb,
        swap_cached_kb: system.swap_cached_kb,
        mem_total_kb: system.mem_total_kb,
        mem_available_kb: system.mem_available_kb,
        processes_swap_kb: sum,
        processes_known: known.len() as u64,
        processes_unread: u64::from(skipped.denied)
            .saturating_add(skipped.failed.into())
            .saturating_add(silent),
        processes_in_swap: swapped.clone().count() as u64,
        processes_swap_pss_known: shares.count() as u64,
        ..Totals::default()
    };
    let Some(difference) = used.zip(sum).map(|(used, sum)| signed(used, sum)) else {
        return totals;
    };
    totals.difference_kb = Some(difference);
    let mut parts = Parts {
        read: (totals.processes_swap_pss_known, totals.processes_in_swap),
        rest: difference,
        list: Vec::new(),
    };
    parts.shared_slots(readings);
    let charged = charged(cgroups, system, totals_v1(readings));
    let (least, most) = shmem(readings, system);
    // What is charged to cgroups beyond their processes is shared memory, of which tmpfs and System V hold
    // at least `least` and at most `most`.
    let shmem = match (least, most, charged) {
        (Some(least), Some(most), Some(charged)) => Some(charged.clamp(least.min(most), most)),
        (least, _, _) => least,
    };
    let before = parts.rest;
    parts.measured("shmem", shmem, most, msg!(
        "tmpfs files and System V segments in swap, by what they hold, what is resident, and what cgroups are charged",
        "换出的 tmpfs 文件与 System V 共享内存段：由其内容、驻留量与 cgroup 计费推算"
    ));
    let taken = u64::try_from(before.saturating_sub(parts.rest)).unwrap_or(0);
    let rest = charged.map(|charged| charged.saturating_sub(taken));
    parts.measured("cgroup_shared", rest, rest, msg!(
        "shared memory, or files in memory without an owner: charged to cgroups beyond the shares of their processes (memfd, shared anonymous memory, tmpfs not visible from here)",
        "共享内存或无归属的内存文件：计入 cgroup 但超出其进程份额之和（memfd、共享匿名内存、此处不可见的 tmpfs）"
    ));
    parts.within(
        "swap_cached",
        system.swap_cached_kb,
        msg!(
            "SwapCached: pages that are back in memory and keep their slot",
            "SwapCached：已读回内存、但仍保留交换槽的页"
        ),
    );
    parts.within(
        "slot_caches",
        slot_caches(readings),
        msg!(
            "slots that CPUs hold in reserve (until Linux 6.14)",
            "各 CPU 预留的交换槽 (Linux 6.14 及以前)"
        ),
    );
    if totals.processes_unread > 0 {
        let unread = totals.processes_unread;
        parts.list.push(Part {
            part: "unread_processes",
            kb: None,
            at_most_kb: None,
            note: msg!(
                "{unread} processes could not be read: run as root to have them",
                "{unread} 个进程无法读取：以 root 运行可获得"
            ),
        });
    }
    totals.explained = parts.list;
    totals.unexplained_kb = Some(parts.rest);
    totals.unexplained_share = match used {
        Some(used) if used > 0 => Some(parts.rest.unsigned_abs() as f64 / used as f64),
        _ => None,
    };
    totals
}

struct Parts {
    /// Processes whose SwapPss was read, of those in swap.
    read: (u64, u64),
    rest: i64,
    list: Vec<Part>,
}

impl Parts {
    /// What the sum counts more than once: exact, where it could be read.
    fn shared_slots(&mut self, readings: &Readings) {
        let processes = readings
            .newest()
            .map_or(&[][..], |sample| &sample.processes);
        let known = processes.iter().filter_map(|process| {
            let metrics = &process.metrics;
            let swap = metrics.swap_kb.filter(|kb| *kb > 0)?;
            Some(swap.saturating_sub(metrics.swap_pss_kb?))
        });
        let Some(twice) = known.fold(None, |sum: Option<u64>, kb| {
            Some(sum.unwrap_or(0).saturating_add(kb))
        }) else {
            return;
        };
        let kb = signed(0, twice);
        let (read, swapped) = (self.read.0, self.read.1);
        self.rest = self.rest.saturating_sub(kb);
        self.list.push(Part {
            part: "shared_slots",
            kb: Some(kb),
            at_most_kb: None,
            note: msg!(
                "slots that several processes share after fork, counted once for each (Swap less SwapPss); read of {read} of {swapped} processes in swap",
                "fork 后多个进程共享、被重复计数的交换槽 (Swap 减 SwapPss)；已读取 {read}/{swapped} 个有换出的进程"
            ),
        });
    }

    /// What accounts for up to `most` of the rest.
    fn within(&mut self, part: &'static str, most: Option<u64>, note: Msg) {
        self.measured(part, most, most, note);
    }

    /// What accounts for `kb` of the rest, or for all of it; never for more than `most`.
    fn measured(&mut self, part: &'static str, kb: Option<u64>, most: Option<u64>, note: Msg) {
        let kb = kb.map(|kb| {
            let kb = i64::try_from(kb).unwrap_or(i64::MAX);
            self.rest.clamp(0, kb)
        });
        self.rest = self.rest.saturating_sub(kb.unwrap_or(0));
        self.list.push(Part {
            part,
            kb,
            at_most_kb: most,
            note,
        });
    }
}

/// Shared memory in swap, at least and at most. System V segments say it themselves. Of tmpfs it is at most
/// what the mounts hold, at least that less all resident shared memory that could be theirs: memfds and
/// shared anonymous memory are resident Shmem as well.
fn shmem(readings: &Readings, system: &SystemMetrics) -> (Option<u64>, Option<u64>) {
    let Some(detail) = readings.detail() else {
        return (None, None);
    };
    let kb = |bytes: Option<u64>| bytes.unwrap_or(0) / 1024;
    let segments = detail.shm.as_ref();
    let (resident, swapped) = segments
        .into_iter()
        .flatten()
        .fold((0u64, 0u64), |sum, one| {
            (
                sum.0.saturating_add(kb(one.rss_bytes)),
                sum.1.saturating_add(kb(one.swap_bytes)),
            )
        });
    let held = detail.tmpfs.as_ref().and_then(|mounts| {
        mounts
            .iter()
            .filter_map(|mount| mount.used_kb)
            .fold(None, |sum: Option<u64>, kb| {
                Some(sum.unwrap_or(0).saturating_add(kb))
            })
    });
    let least = held
        .zip(system.shmem_kb)
        .map(|(held, shmem)| held.saturating_sub(shmem.saturating_sub(resident)));
    if held.is_none() && segments.is_none() {
        return (None, None);
    }
    (
        Some(least.unwrap_or(0).saturating_add(swapped)),
        held.map(|held| held.saturating_add(swapped)),
    )
}

/// Swap charged to cgroups of the first level beyond the shares of their processes.
fn charged(cgroups: &[CgroupSwap], system: &SystemMetrics, v1: bool) -> Option<u64> {
    let first_level = cgroups.iter().filter(|row| {
        let path = row.limits.path.trim_matches('/');
        !path.is_empty() && !path.contains('/')
    });
    let sum = first_level
        .filter_map(|row| row.other_swap_kb)
        .fold(None, |sum: Option<u64>, kb| {
            Some(sum.unwrap_or(0).saturating_add(kb))
        })?;
    // Version 2 charges a slot until it is free, also while its page is back in memory.
    let back = if v1 {
        0
    } else {
        system.swap_cached_kb.unwrap_or(0)
    };
    Some(sum.saturating_sub(back))
}

fn totals_v1(readings: &Readings) -> bool {
    let session = readings.session.as_ref();
    session.and_then(|session| session.host.memory_cgroup) == Some(1)
}

fn slot_caches(readings: &Readings) -> Option<u64> {
    let host = &readings.session.as_ref()?.host;
    let kernel = host.kernel.lossy();
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit());
    let version: (u32, u32) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    if version >= (6, 15) {
        return Some(0);
    }
    let slots = u64::from(host.cpus?).saturating_mul(SLOTS_PER_CPU);
    Some(slots.saturating_mul(readings.page_kb()))
}
