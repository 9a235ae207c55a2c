//! What the figures mean and what to do: each piece of advice with its evidence and a command.

use crate::analysis::shell;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
pub(super) use crate::report::size_kb as size;
use crate::report::swap::ProcessSwap;
use crate::report::swap::SwapData;

use super::limits::cap;
use super::limits::limit_evidence;
use super::limits::own_limit;
use super::limits::raise;

/// Traffic below this is noise, KiB/s in and out together.
const MOVES_KB: f64 = 1024.0;
/// All tasks wait for memory more than this share of time: percent.
const FULL: f64 = 1.0;
/// Swap in use of this share is nearly all.
pub(super) const NEARLY_FULL: f64 = 0.9;
/// A host with less than this share of its memory available is tight.
const TIGHT: f64 = 0.1;
/// One process with this share of the swap in use is the culprit.
pub(super) const MOST: f64 = 0.5;
/// A rest of the sum above both of these is worth a word: share of the swap in use, KiB.
const UNEXPLAINED: f64 = 0.05;
/// As above.
const UNEXPLAINED_KB: u64 = 16 * 1024;
/// Swap of a process below this is not worth a word, KiB.
pub(super) const LARGE_KB: u64 = 64 * 1024;

/// Findings, the gravest first.
pub(super) fn findings(data: &SwapData) -> Vec<Finding> {
    let all = [
        no_swap(data),
        thrash(data),
        nearly_full(data),
        cgroup_limit(data),
        unexplained(data),
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

pub(super) fn percent(part: u64, whole: u64) -> String {
    format!("{:.1}%", part as f64 * 100.0 / whole.max(1) as f64)
}

/// In and out together, KiB/s.
pub(super) fn traffic(data: &SwapData) -> Option<f64> {
    let rates = &data.rates;
    Some(rates.swap_in_kb_per_s? + rates.swap_out_kb_per_s?)
}

pub(super) fn moves(data: &SwapData) -> bool {
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

pub(super) fn tight(data: &SwapData) -> bool {
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
    let part = percent(data.totals.mem_available_kb?, data.totals.mem_total_kb?);
    Some(msg!(
        "MemAvailable {available} of {total} ({part})",
        "可用内存 {available}，共 {total}（{part}）"
    ))
}

fn used_evidence(data: &SwapData) -> Option<Msg> {
    let (used, total) = (
        size(data.totals.swap_used_kb?),
        size(data.totals.swap_total_kb?),
    );
    let part = percent(data.totals.swap_used_kb?, data.totals.swap_total_kb?);
    Some(msg!(
        "{used} of {total} swap in use ({part})",
        "交换空间已用 {used}，共 {total}（{part}）"
    ))
}

fn culprit_evidence(data: &SwapData) -> Option<Msg> {
    let row = culprit(data)?;
    let (comm, pid, swap) = (&row.comm, row.pid, size(row.swap_kb?));
    let share = row.share? * 100.0;
    Some(msg!(
        "{comm} (pid {pid}) has {swap} in swap, {share:.0}% of the swap in use",
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
    if let Some(row) = own_limit(data) {
        evidence.extend(limit_evidence(row));
        evidence.extend(available_evidence(data));
        advice.extend(raise(data, row));
        let path = row.limits.path.trim_end_matches('/');
        return Some(Finding {
            id: "swap-thrash",
            severity: Severity::Warning,
            title: msg!(
                "cgroup {path} is thrashing in swap at its own limit; the host has memory",
                "cgroup {path} 因自身限额正在交换抖动 (thrashing)；主机内存充足"
            ),
            evidence,
            advice,
        });
    }
    evidence.extend(available_evidence(data));
    let short = tight(data);
    if short {
        advice.extend(cap(data));
        advice.push(msg!(
            "The working set is larger than the memory: add memory, or run less at once",
            "工作集大于可用内存：增加内存，或减少并发负载"
        ));
    } else {
        advice.push(msg!(
            "The host has memory: look for a limit that makes it swap (list of cgroups below) before adding any",
            "主机内存充足：在增加内存之前，先查找导致换出的限额（见 cgroup 列表）"
        ));
    }
    Some(Finding {
        id: "swap-thrash",
        severity: if short {
            Severity::Critical
        } else {
            Severity::Warning
        },
        title: if short {
            msg!(
                "the host is thrashing in swap",
                "系统正在交换抖动 (thrashing)"
            )
        } else {
            msg!(
                "pages go to swap and come right back while tasks wait (thrashing)",
                "页面换出后立即被读回，任务在等待 (thrashing)"
            )
        },
        evidence,
        advice,
    })
}

fn nearly_full(data: &SwapData) -> Option<Finding> {
    let (used, total) = (data.totals.swap_used_kb?, data.totals.swap_total_kb?);
    if total == 0 || (used as f64) < total as f64 * NEARLY_FULL {
        return None;
    }
    // A cgroup at its own limit gets the advice of that finding: not two that contradict each other.
    let mut advice: Vec<Msg> = if own_limit(data).is_some() {
        Vec::new()
    } else {
        cap(data).into_iter().collect()
    };
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

/// A cgroup at its own limit swaps although the host has memory; while it thrashes that finding says so.
fn cgroup_limit(data: &SwapData) -> Option<Finding> {
    let row = own_limit(data).filter(|_| !thrashes(data))?;
    let path = row.limits.path.trim_end_matches('/');
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
        evidence: [limit_evidence(row), available_evidence(data)]
            .into_iter()
            .flatten()
            .collect(),
        advice: raise(data, row).into_iter().collect(),
    })
}

/// The sum does not come out: what is known of the rest.
fn unexplained(data: &SwapData) -> Option<Finding> {
    let totals = &data.totals;
    let rest = totals.unexplained_kb?;
    let part = totals
        .unexplained_share
        .filter(|part| *part > UNEXPLAINED)?;
    if rest.unsigned_abs() <= UNEXPLAINED_KB {
        return None;
    }
    let (kb, part) = (size(rest.unsigned_abs()), part * 100.0);
    let unread = totals.processes_unread;
    let (read, swapped) = (totals.processes_swap_pss_known, totals.processes_in_swap);
    let mut evidence = vec![if rest > 0 {
        msg!(
            "{kb} of the swap in use ({part:.1}%) belong to no process and no shared memory that is known",
            "已用交换空间中有 {kb}（{part:.1}%）不属于任何已知进程或共享内存"
        )
    } else {
        msg!(
            "the processes' figures are {kb} ({part:.1}%) above the swap in use",
            "各进程之和比已用交换空间多 {kb}（{part:.1}%）"
        )
    }];
    let mut advice = Vec::new();
    if unread > 0 {
        evidence.push(msg!(
            "{unread} processes could not be read",
            "{unread} 个进程无法读取"
        ));
    }
    if read < swapped {
        evidence.push(msg!(
            "shares of slots (SwapPss) known of {read} of {swapped} processes in swap",
            "{swapped} 个有换出的进程中，仅 {read} 个可得知共享份额 (SwapPss)"
        ));
    }
    if unread > 0 || read < swapped {
        advice.push(msg!(
            "Run as root, on the host and not in a container: then every process is read",
            "在主机上（而非容器内）以 root 运行，即可读取全部进程"
        ));
    }
    if rest > 0 {
        let known = totals.explained.iter().find(|part| part.part == "shmem");
        if let Some(most) = known.and_then(|part| part.at_most_kb).filter(|kb| *kb > 0) {
            let most = size(most);
            evidence.push(msg!(
                "tmpfs and System V segments hold {most} in all: how much of it is in swap the kernel does not tell",
                "tmpfs 与 System V 共享内存共 {most}：内核未给出其中换出多少"
            ));
        }
        advice.push(msg!(
            "Look for shared memory without an owner: df -t tmpfs, ipcs -mu, memfds in /proc/PID/fd, tmpfs of other mount namespaces",
            "检查无归属的共享内存：df -t tmpfs、ipcs -mu、/proc/PID/fd 中的 memfd、其他挂载命名空间的 tmpfs"
        ));
    }
    Some(Finding {
        id: "swap-unexplained",
        severity: if rest > 0 && unread == 0 {
            Severity::Warning
        } else {
            Severity::Info
        },
        title: msg!(
            "part of the swap in use is not explained",
            "部分已用交换空间无法解释"
        ),
        evidence,
        advice,
    })
}

/// One process has most of the swap, grows, and hardly reads any of it back.
fn leak(data: &SwapData) -> Option<Finding> {
    let row = culprit(data)?;
    let grows = row.swap_change_kb.is_some_and(|kb| kb >= 1024);
    let most = row.share? >= MOST && row.swap_kb? >= LARGE_KB;
    let (inward, outward) = (data.rates.swap_in_kb_per_s?, data.rates.swap_out_kb_per_s?);
    let untouched = inward <= outward / 10.0;
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
    if !(most && private && grows && untouched) || thrashes(data) {
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
    let kb = size(row.swap_change_kb?.unsigned_abs());
    evidence.push(msg!(
        "its swap grew by {kb} in the interval",
        "采样期间其换出量增加 {kb}"
    ));
    evidence.extend(traffic_evidence(data));
    Some(Finding {
        id: "swap-leak-suspect",
        severity: Severity::Warning,
        title: msg!(
            "{} (pid {pid}) keeps growing into swap and reads hardly any of it back: it may leak",
            "{} (pid {pid}) 换出量持续增长且几乎不读回：疑似泄漏",
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
    // A cgroup's own limit is not cured by a setting of the host.
    if own_limit(data).is_some() {
        return None;
    }
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
    let devices = data.devices.iter().flatten();
    let devices = devices.filter(|device| device.used_kb > 0).map(|device| {
        let path = shell::quote(&device.path);
        // A negative priority is the kernel's own choice and cannot be asked for.
        match device.priority {
            0.. => format!("swapoff {path} && swapon -p {} {path}", device.priority),
            _ => format!("swapoff {path} && swapon {path}"),
        }
    });
    let commands = devices.collect::<Vec<_>>().join("; ");
    if commands.is_empty() {
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
            "Only if latency matters more than room: {commands} (reads all of it, may take minutes). Cgroups at their limit cannot take their pages back: look at the list of cgroups first",
            "仅当延迟比空间更重要时：{commands}（全部读回，可能需数分钟）。已达限额的 cgroup 无法收回其页：请先查看 cgroup 列表"
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
