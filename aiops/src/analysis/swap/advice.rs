//! What the figures mean and what to do: each piece of advice with its evidence and a command.

use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::swap::ProcessSwap;
use crate::report::swap::SwapData;

/// Traffic below this is noise, KiB/s in and out together.
const MOVES_KB: f64 = 1024.0;
/// All tasks wait for memory more than this share of time: percent.
const FULL: f64 = 1.0;
/// Swap in use of this share is nearly all.
const NEARLY_FULL: f64 = 0.9;
/// A host with less than this share of its memory available is tight.
const TIGHT: f64 = 0.1;
/// One process with this share of the swap in use is the culprit.
const MOST: f64 = 0.5;
/// Swap of a process below this is not worth a word, KiB.
const LARGE_KB: u64 = 64 * 1024;

/// Findings, the gravest first.
pub(super) fn findings(data: &SwapData) -> Vec<Finding> {
    let all = [
        no_swap(data),
        thrash(data),
        nearly_full(data),
        cgroup_limit(data),
        leak(data),
        swappiness(data),
        compress(data),
        switch_off(data),
        idle(data),
    ];
    let mut found: Vec<Finding> = all.into_iter().flatten().collect();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// MiB or GiB of KiB.
fn size(kb: u64) -> String {
    let mib = kb as f64 / 1024.0;
    if mib >= 1024.0 {
        format!("{:.1} GiB", mib / 1024.0)
    } else {
        format!("{mib:.1} MiB")
    }
}

/// In and out together, KiB/s.
pub(super) fn traffic(data: &SwapData) -> Option<f64> {
    let rates = &data.rates;
    Some(rates.swap_in_kb_per_s? + rates.swap_out_kb_per_s?)
}

fn moves(data: &SwapData) -> bool {
    traffic(data).is_some_and(|kb| kb > MOVES_KB)
}

fn full(data: &SwapData) -> Option<f64> {
    let pressure = &data.pressure;
    let known = [pressure.full_interval, pressure.full_avg10];
    known.into_iter().flatten().reduce(f64::max)
}

/// Reads from swap, out and in both, while tasks wait or pages come right back.
fn thrashes(data: &SwapData) -> bool {
    let rates = &data.rates;
    let inward = rates.swap_in_kb_per_s.is_some_and(|kb| kb > MOVES_KB / 2.0);
    let back = rates.refault_anon_per_s.is_none_or(|pages| pages > 0.0);
    let both = rates
        .swap_out_kb_per_s
        .is_some_and(|kb| kb > MOVES_KB / 2.0);
    let waits = full(data).map_or(both, |percent| percent > FULL);
    inward && moves(data) && back && waits
}

fn tight(data: &SwapData) -> bool {
    let (total, available) = (data.totals.mem_total_kb, data.totals.mem_available_kb);
    available
        .zip(total)
        .is_some_and(|(available, total)| (available as f64) < total as f64 * TIGHT)
}

/// The process with the most swap: rows are in that order here.
fn culprit(data: &SwapData) -> Option<&ProcessSwap> {
    data.processes
        .iter()
        .max_by_key(|row| row.swap_kb)
        .filter(|row| row.swap_kb > Some(0))
}

fn traffic_evidence(data: &SwapData) -> Option<Msg> {
    let rates = &data.rates;
    let (inward, outward) = (rates.swap_in_kb_per_s?, rates.swap_out_kb_per_s?);
    let (inward, outward) = (inward / 1024.0, outward / 1024.0);
    let seconds = rates.interval_s?;
    Some(msg!(
        "swap in {inward:.1} MiB/s, out {outward:.1} MiB/s over {seconds:.1} s",
        "{seconds:.1} 秒内换入 {inward:.1} MiB/s，换出 {outward:.1} MiB/s"
    ))
}

fn available_evidence(data: &SwapData) -> Option<Msg> {
    let (available, total) = (
        size(data.totals.mem_available_kb?),
        size(data.totals.mem_total_kb?),
    );
    Some(msg!(
        "MemAvailable {available} of {total}",
        "可用内存 {available}，共 {total}"
    ))
}

fn used_evidence(data: &SwapData) -> Option<Msg> {
    let (used, total) = (
        size(data.totals.swap_used_kb?),
        size(data.totals.swap_total_kb?),
    );
    Some(msg!(
        "{used} of {total} swap in use",
        "交换空间已用 {used}，共 {total}"
    ))
}

fn culprit_evidence(data: &SwapData) -> Option<Msg> {
    let row = culprit(data)?;
    let (comm, pid, swap) = (&row.comm, row.pid, size(row.swap_kb?));
    let share = row.share? * 100.0;
    Some(msg!(
        "{comm} (pid {pid}) has {swap} in swap, {share:.0}% of what is in use",
        "{comm} (pid {pid}) 换出 {swap}，占已用交换空间的 {share:.0}%"
    ))
}

fn no_swap(data: &SwapData) -> Option<Finding> {
    if data.totals.swap_total_kb? > 0 {
        return None;
    }
    let tight = tight(data);
    let advice = if tight {
        vec![msg!(
            "Memory is tight: give anonymous memory a way out, fallocate -l 2G /swapfile && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile, or add memory",
            "内存紧张：为匿名内存提供出路，fallocate -l 2G /swapfile && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile，或增加内存"
        )]
    } else {
        Vec::new()
    };
    Some(Finding {
        id: "swap-none",
        severity: if tight {
            Severity::Warning
        } else {
            Severity::Info
        },
        title: msg!("no swap is configured", "未配置交换空间"),
        evidence: [
            Some(msg!("SwapTotal is 0", "SwapTotal 为 0")),
            available_evidence(data),
        ]
        .into_iter()
        .flatten()
        .collect(),
        advice,
    })
}

fn thrash(data: &SwapData) -> Option<Finding> {
    if !thrashes(data) {
        return None;
    }
    let mut evidence: Vec<Msg> = traffic_evidence(data).into_iter().collect();
    if let Some(full) = full(data) {
        evidence.push(msg!(
            "all tasks waited for memory {full:.1}% of the time (PSI full)",
            "全部任务等待内存的时间占 {full:.1}% (PSI full)"
        ));
    }
    if let Some(back) = data.rates.refault_anon_per_s {
        evidence.push(msg!(
            "{back:.0} swapped pages a second were needed again (refault)",
            "每秒 {back:.0} 个换出页又被使用 (refault)"
        ));
    }
    evidence.extend(culprit_evidence(data));
    let mut advice = Vec::new();
    if let Some(row) = culprit(data) {
        let pid = row.pid;
        advice.push(msg!(
            "Find out what the largest one keeps: `aiops inspect memory --pid {pid}`",
            "查看占用最多的进程保留了什么：`aiops inspect memory --pid {pid}`"
        ));
    }
    advice.extend(limit_advice(data));
    advice.push(msg!(
        "The working set is larger than the memory it may use: add memory, raise the limit of the cgroup, or run less at once",
        "工作集大于可用内存：增加内存、提高 cgroup 限额，或减少并发负载"
    ));
    Some(Finding {
        id: "swap-thrash",
        severity: Severity::Critical,
        title: msg!(
            "the host is thrashing in swap",
            "系统正在交换抖动 (thrashing)"
        ),
        evidence,
        advice,
    })
}

/// A limit for the cgroup that the swap belongs to, when it holds most of it.
fn limit_advice(data: &SwapData) -> Option<Msg> {
    let used = data.totals.swap_used_kb?;
    // The deepest cgroup that still has most of the swap in use; never the root.
    let row = data
        .cgroups
        .iter()
        .filter(|row| !row.limits.path.trim_matches('/').is_empty())
        .filter(|row| row.limits.swap_kb.unwrap_or(0) as f64 >= used as f64 * MOST)
        .max_by_key(|row| row.limits.path.len())?;
    let path = row.limits.path.trim_end_matches('/');
    let swap_kb = row.limits.swap_kb?;
    let swap = size(swap_kb);
    // cgroup v1 has no limit of swap alone, and no memory.high.
    if data.v1() {
        let usage = row.limits.usage_kb?;
        let most = usage.saturating_add(swap_kb).saturating_mul(1024);
        Some(msg!(
            "Keep cgroup {path} ({swap} in swap) from taking more: echo {most} > /sys/fs/cgroup/memory{path}/memory.memsw.limit_in_bytes",
            "限制 cgroup {path} (已换出 {swap}) 继续增长：echo {most} > /sys/fs/cgroup/memory{path}/memory.memsw.limit_in_bytes"
        ))
    } else {
        let most = swap_kb.saturating_mul(1024);
        Some(msg!(
            "Keep cgroup {path} ({swap} in swap) from taking more: echo {most} > /sys/fs/cgroup{path}/memory.swap.max, and slow its growth by memory.high",
            "限制 cgroup {path} (已换出 {swap}) 继续增长：echo {most} > /sys/fs/cgroup{path}/memory.swap.max，并用 memory.high 减缓其增长"
        ))
    }
}

fn nearly_full(data: &SwapData) -> Option<Finding> {
    let (used, total) = (data.totals.swap_used_kb?, data.totals.swap_total_kb?);
    if total == 0 || (used as f64) < total as f64 * NEARLY_FULL {
        return None;
    }
    let mut advice: Vec<Msg> = limit_advice(data).into_iter().collect();
    advice.push(msg!(
        "When it is full the next step is an OOM kill: watch for it with `aiops trace oom`, add swap or memory",
        "交换空间用尽后将发生 OOM：用 `aiops trace oom` 观察，并增加交换空间或内存"
    ));
    Some(Finding {
        id: "swap-nearly-full",
        severity: Severity::Warning,
        title: msg!("swap is nearly full", "交换空间即将用尽"),
        evidence: [
            used_evidence(data),
            culprit_evidence(data),
            available_evidence(data),
        ]
        .into_iter()
        .flatten()
        .collect(),
        advice,
    })
}

/// A cgroup at its own limit swaps although the host has memory.
fn cgroup_limit(data: &SwapData) -> Option<Finding> {
    if tight(data) {
        return None;
    }
    let row = data.cgroups.iter().find(|row| {
        let limits = &row.limits;
        let most = limits.limit_kb.into_iter().chain(limits.high_kb).min();
        limits.swap_kb >= Some(LARGE_KB)
            && limits
                .usage_kb
                .zip(most)
                .is_some_and(|(usage, most)| usage as f64 >= most as f64 * NEARLY_FULL)
    })?;
    let limits = &row.limits;
    let path = limits.path.trim_end_matches('/');
    let most = limits.limit_kb.into_iter().chain(limits.high_kb).min()?;
    let need = limits.swap_kb?.saturating_add(most);
    let (swap, usage, limit) = (size(limits.swap_kb?), size(limits.usage_kb?), size(most));
    let bytes = need.saturating_mul(1024);
    let file = match (data.v1(), limits.high_kb == Some(most)) {
        (true, _) => format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
        (false, true) => format!("/sys/fs/cgroup{path}/memory.high"),
        (false, false) => format!("/sys/fs/cgroup{path}/memory.max"),
    };
    let fits = data.totals.mem_available_kb > limits.swap_kb;
    let advice = if fits {
        msg!(
            "The host has room: raise the limit so that the swapped memory fits: echo {bytes} > {file}",
            "主机仍有可用内存：提高限额以容纳换出的内存：echo {bytes} > {file}"
        )
    } else {
        msg!(
            "The host has no room for what it swapped out: make the program smaller or add memory",
            "主机没有空间容纳其换出的内存：缩减程序内存或增加内存"
        )
    };
    Some(Finding {
        id: "swap-cgroup-limit",
        severity: if moves(data) {
            Severity::Warning
        } else {
            Severity::Info
        },
        title: msg!(
            "cgroup {path} swaps because of its own limit, not because the host is short of memory",
            "cgroup {path} 因自身限额而换出，并非主机内存不足"
        ),
        evidence: [
            Some(msg!(
                "{usage} in use of its limit {limit}, {swap} in swap",
                "用量 {usage}，限额 {limit}，换出 {swap}"
            )),
            available_evidence(data),
        ]
        .into_iter()
        .flatten()
        .collect(),
        advice: vec![advice],
    })
}

/// One process has most of the swap and grows.
fn leak(data: &SwapData) -> Option<Finding> {
    let row = culprit(data)?;
    let grows = row.swap_change_kb.is_some_and(|kb| kb >= 1024);
    let most = row.share? >= MOST && row.swap_kb? >= LARGE_KB;
    let host = data.totals.mem_total_kb?;
    let large = row.swap_kb?.saturating_add(row.rss_kb?) >= host / 4;
    let regions = row.regions.as_deref().unwrap_or_default();
    use crate::model::RegionKind as Kind;
    let anon = |kind: Kind| {
        matches!(
            kind,
            Kind::Heap | Kind::Anon | Kind::Arena | Kind::NamedAnon
        )
    };
    let heap: u64 = regions
        .iter()
        .filter(|region| anon(region.kind))
        .fold(0, |sum, region| sum.saturating_add(region.swap_kb));
    let private = row.regions.is_none() || heap.saturating_mul(2) >= row.swap_kb?;
    if !(most && private && (grows || large)) {
        return None;
    }
    let pid = row.pid;
    let mut evidence: Vec<Msg> = culprit_evidence(data).into_iter().collect();
    if heap > 0 {
        let heap = size(heap);
        evidence.push(msg!(
            "{heap} of it is heap and other anonymous memory",
            "其中 {heap} 为堆与其他匿名内存"
        ));
    }
    if grows {
        let kb = size(row.swap_change_kb?.unsigned_abs());
        evidence.push(msg!(
            "its swap grew by {kb} in the interval",
            "采样期间其换出量增加 {kb}"
        ));
    }
    Some(Finding {
        id: "swap-leak-suspect",
        severity: Severity::Warning,
        title: msg!(
            "{} (pid {pid}) may leak: memory that it never touches again goes to swap",
            "{} (pid {pid}) 疑似泄漏：不再访问的内存被换出",
            row.comm
        ),
        evidence,
        advice: vec![
            msg!(
                "Watch whether it grows: `aiops collect memory --pid {pid} --duration 10m`",
                "观察是否持续增长：`aiops collect memory --pid {pid} --duration 10m`"
            ),
            msg!(
                "See what it is made of: `aiops inspect memory --pid {pid}`",
                "查看其内存组成：`aiops inspect memory --pid {pid}`"
            ),
        ],
    })
}

/// Swappiness that works against this load.
fn swappiness(data: &SwapData) -> Option<Finding> {
    let value = data.settings.swappiness?;
    let used = data.totals.swap_used_kb?;
    let memory = data.totals.mem_total_kb?;
    let available = data.totals.mem_available_kb?;
    let in_memory = data.only_compressed();
    let evidence = |data: &SwapData| -> Vec<Msg> {
        let own = Some(msg!("vm.swappiness is {value}", "vm.swappiness 为 {value}"));
        [own, traffic_evidence(data), available_evidence(data)]
            .into_iter()
            .flatten()
            .collect()
    };
    // Half of the memory is available and yet pages go out and come back: file pages are preferred too much.
    if value > 60 && !in_memory && moves(data) && available > memory / 2 {
        return Some(Finding {
            id: "swap-swappiness-high",
            severity: Severity::Warning,
            title: msg!(
                "anonymous memory is swapped although much memory is available",
                "可用内存充足，但匿名内存仍在换出"
            ),
            evidence: evidence(data),
            advice: vec![msg!(
                "Prefer to drop file pages: sysctl vm.swappiness=10",
                "优先回收文件页：sysctl vm.swappiness=10"
            )],
        });
    }
    if in_memory && value < 60 && tight(data) && used > 0 {
        return Some(Finding {
            id: "swap-swappiness-low",
            severity: Severity::Info,
            title: msg!(
                "swap is compressed memory: it may be used more",
                "交换空间为压缩内存，可更积极使用"
            ),
            evidence: evidence(data),
            advice: vec![msg!(
                "Swapping to zram is cheaper than reading files again: sysctl vm.swappiness=100",
                "换出到 zram 比重新读文件代价更低：sysctl vm.swappiness=100"
            )],
        });
    }
    None
}

/// Compression before a disk, when pages go to a disk.
fn compress(data: &SwapData) -> Option<Finding> {
    let devices = data.devices.as_deref()?;
    let off = data.zswap.as_ref().and_then(|zswap| zswap.enabled) == Some(false);
    if !moves(data) || !off || data.only_compressed() || devices.is_empty() {
        return None;
    }
    let rotating = devices.iter().any(|device| device.rotating == Some(true));
    let mut evidence: Vec<Msg> = traffic_evidence(data).into_iter().collect();
    evidence.push(if rotating {
        msg!(
            "the swap device rotates; zswap is off",
            "交换设备为机械盘；zswap 未启用"
        )
    } else {
        msg!(
            "pages go to a disk uncompressed; zswap is off",
            "换出页未经压缩直接写盘；zswap 未启用"
        )
    });
    Some(Finding {
        id: "swap-compress",
        severity: if rotating {
            Severity::Warning
        } else {
            Severity::Info
        },
        title: msg!(
            "a compressed cache in front of the swap device would take some of the traffic",
            "在交换设备前启用压缩缓存可减少部分读写"
        ),
        evidence,
        advice: vec![msg!(
            "Try it: echo 1 > /sys/module/zswap/parameters/enabled; it helps where pages compress, look at the ratio here afterwards",
            "可尝试：echo 1 > /sys/module/zswap/parameters/enabled；仅当页可压缩时有效，启用后在此查看压缩比"
        )],
    })
}

/// Swap could be emptied: everything fits into memory, and nothing moves.
fn switch_off(data: &SwapData) -> Option<Finding> {
    let used = data.totals.swap_used_kb?;
    let available = data.totals.mem_available_kb?;
    let memory = data.totals.mem_total_kb?;
    // A fifth of the memory must stay available afterwards.
    if used < LARGE_KB || traffic(data)? > 0.0 || available < used.saturating_add(memory / 5) {
        return None;
    }
    Some(Finding {
        id: "swap-could-be-emptied",
        severity: Severity::Info,
        title: msg!(
            "what is in swap fits into the available memory",
            "换出的内容可以放回可用内存"
        ),
        evidence: [
            used_evidence(data),
            available_evidence(data),
            traffic_evidence(data),
        ]
        .into_iter()
        .flatten()
        .collect(),
        advice: vec![msg!(
            "Only if latency matters more than room: swapoff -a && swapon -a brings it back (reads all of it, may take minutes). Cgroups at their limit cannot take their pages back: look at the list of cgroups first",
            "仅当延迟比空间更重要时：swapoff -a && swapon -a 可全部读回（可能需数分钟）。已达限额的 cgroup 无法收回其页：请先查看 cgroup 列表"
        )],
    })
}

/// Occupied but idle swap is normal.
fn idle(data: &SwapData) -> Option<Finding> {
    let used = data.totals.swap_used_kb?;
    if used == 0 || traffic(data)? > 0.0 || tight(data) {
        return None;
    }
    Some(Finding {
        id: "swap-idle",
        severity: Severity::Info,
        title: msg!(
            "swap is occupied but idle: that is normal",
            "交换空间被占用但没有读写：属正常现象"
        ),
        evidence: [used_evidence(data), traffic_evidence(data)]
            .into_iter()
            .flatten()
            .collect(),
        advice: Vec::new(),
    })
}
