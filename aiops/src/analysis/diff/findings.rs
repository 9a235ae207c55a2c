//! What the changes mean. Growth between two moments is no leak: each finding says what to look at next.

use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::diff::Change;
use crate::report::diff::DiffData;
use crate::report::diff::Metric;
use crate::report::diff::ProcessChange;
use crate::report::diff::Status;
use crate::report::plural;
use crate::report::size_kb;

/// Growth below this is not worth a finding.
const NOTED_KB: i64 = 64 << 10;
/// Growth of one process beyond this share of the memory asks for action.
const MUCH_PCT: f64 = 5.0;
/// Slab caches that are named.
const CACHES: usize = 3;
/// Least time from which a rate per hour is told to people.
const TELLING_SECONDS: f64 = 60.0;

/// Findings of a report.
pub(super) fn findings(data: &DiffData) -> Vec<Finding> {
    let mut found: Vec<Finding> = [comparable(data), order(data), partial(data)]
        .into_iter()
        .flatten()
        .collect();
    found.extend(kills(data));
    found.extend(growers(data));
    found.extend(newcomers(data));
    found.extend(swap(data));
    found.extend(slab(data));
    found
}

fn metric<'a>(data: &'a DiffData, id: &str) -> Option<&'a Metric> {
    data.system.iter().find(|metric| metric.id == id)
}

fn change(data: &DiffData, id: &str) -> Option<Change> {
    metric(data, id).map(|metric| metric.change)
}

/// Different hosts or boots.
fn comparable(data: &DiffData) -> Option<Finding> {
    if data.same_boot {
        return None;
    }
    let (first, second) = (&data.snapshots.first, &data.snapshots.second);
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
    let hosts = (text(&first.host), text(&second.host));
    let boots = (text(&first.boot), text(&second.boot));
    let (id, title) = if data.same_host {
        (
            "diff-different-boot",
            msg!(
                "the host was booted between the snapshots",
                "两个快照之间主机重启过"
            ),
        )
    } else {
        (
            "diff-different-host",
            msg!(
                "the snapshots are of different hosts",
                "两个快照来自不同主机"
            ),
        )
    };
    Some(Finding {
        id,
        severity: Severity::Warning,
        title,
        evidence: vec![
            msg!("hosts: {} and {}", "主机：{} 与 {}", hosts.0, hosts.1),
            msg!("boots: {} and {}", "启动标识：{} 与 {}", boots.0, boots.1),
        ],
        advice: vec![msg!(
            "read processes as services: they are matched by name, cgroup and arguments, for pids mean nothing here; counters since boot are not compared",
            "请把进程当作服务来看：这里 pid 无意义，按名称、cgroup 和参数匹配；开机以来的计数不做比较"
        )],
    })
}

/// The other way round, or too near.
fn order(data: &DiffData) -> Option<Finding> {
    let seconds = data.elapsed_s?;
    let (id, title, advice) = if seconds < 0.0 {
        (
            "diff-order",
            msg!(
                "the first snapshot is the later one: growth shows as a decrease",
                "第一个快照更晚：增长会显示为减少"
            ),
            msg!(
                "give them the other way round: --snapshot1 is the earlier one",
                "请调换顺序：--snapshot1 应为较早的快照"
            ),
        )
    } else if seconds < super::LEAST_SECONDS {
        (
            "diff-too-near",
            msg!(
                "the snapshots are less than a second apart: no rates",
                "两个快照相隔不足一秒：不计算速率"
            ),
            msg!(
                "take the second one later, or record for a time: `aiops collect memory --duration 10m --output F`",
                "稍后再取第二个快照，或持续记录：`aiops collect memory --duration 10m --output F`"
            ),
        )
    } else {
        return None;
    };
    Some(Finding {
        id,
        severity: Severity::Info,
        title,
        evidence: vec![msg!(
            "second − first = {seconds:.3} s",
            "第二个 − 第一个 = {seconds:.3} 秒"
        )],
        advice: vec![advice],
    })
}

/// Not every process was read.
fn partial(data: &DiffData) -> Option<Finding> {
    (!data.all_processes).then(|| Finding {
        id: "diff-partial",
        severity: Severity::Info,
        title: msg!(
            "a snapshot does not hold every process: new and gone ones may be ones that were not read",
            "有快照未包含全部进程：“新增”和“消失”可能只是没有被读取"
        ),
        evidence: vec![msg!(
            "processes: {} and {}",
            "进程数：{} 与 {}",
            data.snapshots.first.processes,
            data.snapshots.second.processes
        )],
        advice: vec![msg!(
            "take snapshots without filters: `aiops collect memory --duration 0 --output F`",
            "不加过滤条件取快照：`aiops collect memory --duration 0 --output F`"
        )],
    })
}

fn kills(data: &DiffData) -> Option<Finding> {
    let kills = change(data, "oom_kill")?.delta.filter(|kills| *kills > 0)?;
    let cgroups = data
        .cgroups
        .iter()
        .filter_map(|cgroup| Some((cgroup, cgroup.oom_kill.delta.filter(|kills| *kills > 0)?)));
    let mut evidence = vec![msg!(
        "oom_kill of /proc/vmstat: +{kills}",
        "/proc/vmstat 的 oom_kill：+{kills}"
    )];
    evidence.extend(cgroups.map(|(cgroup, kills)| {
        let path = &cgroup.path;
        msg!("cgroup {path}: +{kills}", "cgroup {path}：+{kills}")
    }));
    let s = plural(kills.unsigned_abs());
    Some(Finding {
        id: "diff-oom-kills",
        severity: Severity::Warning,
        title: msg!(
            "{kills} OOM kill{s} between the snapshots",
            "两个快照之间发生 {kills} 次 OOM kill"
        ),
        evidence,
        advice: vec![msg!(
            "catch the next one with its cause: `aiops trace oom --record oom.aiops`",
            "捕获下一次及其原因：`aiops trace oom --record oom.aiops`"
        )],
    })
}

/// Those that grew among those that were there before; advice is for the largest.
fn growers(data: &DiffData) -> Option<Finding> {
    let total = change(data, "mem_total_kb").and_then(|change| change.to);
    let mut rows: Vec<&ProcessChange> = data
        .processes
        .iter()
        .filter(|one| matches!(one.status, Status::Same | Status::Restarted))
        .filter(|one| one.growth_kb >= Some(NOTED_KB))
        .collect();
    rows.sort_by_key(|one| (std::cmp::Reverse(one.growth_kb), one.pid));
    let first = rows.first()?;
    let grown = first.growth_kb.unwrap_or(0).unsigned_abs();
    let much = total.is_some_and(|total| grown as f64 * 100.0 >= total as f64 * MUCH_PCT);
    let (name, pid, more) = (&first.comm, first.pid, rows.len() - 1);
    let size = size_kb(grown);
    let others = if more > 0 {
        msg!(
            "; {more} more grew by 64 MiB or more",
            "；另有 {more} 个进程增长不少于 64 MiB"
        )
    } else {
        msg!("", "")
    };
    let mut advice: Vec<Msg> = vec![
        msg!(
            "two moments do not tell a leak from load: watch whether it goes on: `aiops collect memory --pid {pid} --duration 10m --interval 10s --output grow.db`",
            "两个时刻无法区分泄漏与负载：先看是否持续增长：`aiops collect memory --pid {pid} --duration 10m --interval 10s --output grow.db`"
        ),
        msg!(
            "see which kind of memory it is: `aiops inspect memory --pid {pid} --maps`",
            "查看是哪一类内存：`aiops inspect memory --pid {pid} --maps`"
        ),
    ];
    if data.regions.is_none() {
        advice.push(msg!(
            "take the snapshots with --smaps to compare its regions: `aiops collect memory --smaps --duration 0 --output F`",
            "取快照时加 --smaps 即可对比其内存区域：`aiops collect memory --smaps --duration 0 --output F`"
        ));
    }
    let mut title = msg!(
        "{name} (pid {pid}) holds {size} more",
        "{name}（pid {pid}）多占 {size}"
    );
    title.en.push_str(&others.en);
    title.zh.push_str(&others.zh);
    Some(Finding {
        id: "diff-process-growth",
        severity: if much {
            Severity::Warning
        } else {
            Severity::Info
        },
        title,
        evidence: rows.iter().map(|one| grower(data, one)).collect(),
        advice,
    })
}

/// One line about a process that grew.
fn grower(data: &DiffData, one: &ProcessChange) -> Msg {
    let (name, pid) = (&one.comm, one.pid);
    let (from, to) = (
        size_kb(one.rss_kb.from.unwrap_or(0)),
        size_kb(one.rss_kb.to.unwrap_or(0)),
    );
    let mut line = msg!(
        "{name} (pid {pid}): RSS {from} → {to}",
        "{name}（pid {pid}）：RSS {from} → {to}"
    );
    let mut add = |more: Msg| {
        line.en.push_str(&more.en);
        line.zh.push_str(&more.zh);
    };
    if let Some(swapped) = one.swap_kb.delta.filter(|kb| *kb != 0) {
        let sign = if swapped < 0 { "−" } else { "+" };
        let size = size_kb(swapped.unsigned_abs());
        add(msg!(", swap {sign}{size}", "，Swap {sign}{size}"));
    }
    if let Some(share) = one.share_pct {
        add(msg!(
            ", {share:.1}% of the growth of all processes",
            "，占全部进程增长的 {share:.1}%"
        ));
    }
    // A moment of growth says nothing about an hour.
    let long = data.elapsed_s >= Some(TELLING_SECONDS);
    if let Some(rate) = one.rate_kb_per_hour.filter(|_| long) {
        let rate = rate / 1024.0;
        add(msg!(
            ", {rate:.1} MiB per hour if it went on like this",
            "，若照此持续为每小时 {rate:.1} MiB"
        ));
    }
    if let Some(old) = one.from_pid {
        add(msg!(
            "; restarted (was pid {old}): two lives are compared",
            "；重启过（原 pid {old}）：比较的是两次运行"
        ));
    }
    line
}

/// Large processes that were not there.
fn newcomers(data: &DiffData) -> Option<Finding> {
    let mut rows: Vec<_> = data
        .processes
        .iter()
        .filter(|one| one.status == Status::New && one.growth_kb >= Some(NOTED_KB))
        .collect();
    rows.sort_by_key(|one| (std::cmp::Reverse(one.growth_kb), one.pid));
    let first = rows.first()?;
    let (count, pid) = (rows.len(), first.pid);
    let evidence = rows.iter().map(|one| {
        let (name, pid) = (&one.comm, one.pid);
        let size = size_kb(one.growth_kb.unwrap_or(0).unsigned_abs());
        msg!("{name} (pid {pid}): {size}", "{name}（pid {pid}）：{size}")
    });
    Some(Finding {
        id: "diff-new-large-process",
        severity: Severity::Info,
        title: msg!(
            "large processes that are new: {count}",
            "新增 {count} 个大内存进程"
        ),
        evidence: evidence.collect(),
        advice: vec![msg!(
            "see what the largest is made of: `aiops inspect memory --pid {pid}`",
            "查看其中最大者的构成：`aiops inspect memory --pid {pid}`"
        )],
    })
}

fn swap(data: &DiffData) -> Option<Finding> {
    let used = change(data, "swap_used_kb")?;
    let grown = used.delta.filter(|grown| *grown >= NOTED_KB)?;
    let (from, to) = (size_kb(used.from?), size_kb(used.to?));
    Some(Finding {
        id: "diff-swap-growth",
        severity: Severity::Info,
        title: msg!(
            "{} more are in swap",
            "Swap 使用增加 {}",
            size_kb(grown.unsigned_abs())
        ),
        evidence: vec![msg!("swap in use {from} → {to}", "Swap 使用 {from} → {to}")],
        advice: vec![msg!(
            "see whose it is and whether pages still move: `aiops analyze swap --processes --interval 5s`",
            "查看属于谁、是否仍在换入换出：`aiops analyze swap --processes --interval 5s`"
        )],
    })
}

fn slab(data: &DiffData) -> Option<Finding> {
    let slab = change(data, "sunreclaim_kb")?;
    let grown = slab.delta.filter(|grown| *grown >= NOTED_KB)?;
    let (from, to) = (size_kb(slab.from?), size_kb(slab.to?));
    let mut evidence = vec![msg!("SUnreclaim {from} → {to}", "SUnreclaim {from} → {to}")];
    let caches = data.slab.iter().flatten();
    let grew = caches
        .filter(|cache| cache.size_kb.delta > Some(1024))
        .take(CACHES);
    evidence.extend(grew.map(|cache| {
        let name = &cache.name;
        let grown = size_kb(cache.size_kb.delta.unwrap_or(0).unsigned_abs());
        msg!("slab cache {name}: +{grown}", "slab 缓存 {name}：+{grown}")
    }));
    Some(Finding {
        id: "diff-slab-growth",
        severity: Severity::Info,
        title: msg!(
            "kernel memory that cannot be reclaimed grew by {}",
            "不可回收的内核内存增加 {}",
            size_kb(grown.unsigned_abs())
        ),
        evidence,
        advice: vec![msg!(
            "see whether it goes on and which cache it is: `aiops analyze cache`",
            "查看是否持续以及是哪个缓存：`aiops analyze cache`"
        )],
    })
}
