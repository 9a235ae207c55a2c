//! What the window's figures mean. Each finding follows from figures that it shows.

use crate::analysis::memory;
use crate::analysis::readings::Readings;
use crate::msg;
use crate::report::Finding;
use crate::report::Severity;
use crate::report::collect::CollectData;
use crate::report::collect::ProcessSummary;

/// Available memory below these shares of the total: warning, critical.
const AVAILABLE: (f64, f64) = (0.10, 0.05);
/// Swapped in and out, together: warning, critical; KiB/s.
const SWAPPING: (f64, f64) = (1024.0, 20.0 * 1024.0);
/// Share of time in which some task (warning) or all tasks (critical) waited for memory, percent.
const STALLED: (f64, f64) = (10.0, 10.0);
/// Least growth worth a word.
const GROWTH_KB: i64 = 16 * 1024;
/// Least linearity of a steady growth.
const STEADY: f64 = 0.9;
/// Shortest window for a growth, seconds.
const GROWTH_S: f64 = 30.0;
/// Most processes that are named as growing.
const GROWING: usize = 5;

/// The recording beside the report could not be written whole.
#[must_use]
pub fn lacks(items: u64) -> Finding {
    Finding {
        id: "recording-incomplete",
        severity: Severity::Warning,
        title: msg!(
            "The recording is not whole: this report is, a replay will not be",
            "录制文件不完整：本报告完整，但回放会缺失数据"
        ),
        evidence: vec![match items {
            0 => msg!("its end could not be written", "文件结尾未能写入"),
            1 => msg!("the recording lacks 1 item", "录制文件缺少 1 条数据"),
            _ => msg!(
                "the recording lacks {items} items",
                "录制文件缺少 {items} 条数据"
            ),
        }],
        advice: vec![msg!(
            "make room on its file system and collect again; what was written before can be read",
            "在其文件系统上腾出空间后重新采集；已写入的部分仍可读取"
        )],
    }
}

/// Everything that the figures say.
pub(super) fn findings(data: &CollectData, readings: &Readings) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(nobody(data, readings));
    found.extend(kills(data));
    found.extend(nearly_used_up(data));
    found.extend(swapping(data));
    found.extend(pressure(data));
    found.extend(memory::near_wanted_limit(readings));
    found.extend(growing(data));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

fn nobody(data: &CollectData, readings: &Readings) -> Option<Finding> {
    let filter = &readings.session.as_ref()?.filter;
    let none = data.processes.is_empty() && data.summary.processes.is_empty();
    let all_there = !none && data.missing_pids.is_empty();
    if filter.is_empty() || all_there {
        return None;
    }
    let pids: Vec<String> = data.missing_pids.iter().map(u32::to_string).collect();
    let mut evidence = Vec::new();
    if none {
        evidence.push(msg!(
            "no process of any sample passed the filter",
            "所有采样中都没有进程符合过滤条件"
        ));
    }
    if !pids.is_empty() {
        let pids = pids.join(", ");
        evidence.push(msg!(
            "process ids that were never there: {pids}",
            "从未出现的进程号：{pids}"
        ));
    }
    let (id, severity, title) = if none {
        (
            "no-process-matches",
            Severity::Info,
            msg!("No process matches the filter", "没有符合过滤条件的进程"),
        )
    } else {
        (
            "no-such-process",
            Severity::Warning,
            msg!("Some of the processes do not exist", "部分指定的进程不存在"),
        )
    };
    Some(Finding {
        id,
        severity,
        title,
        evidence,
        advice: vec![msg!(
            "look the process up: `aiops inspect processes`",
            "先查找进程：`aiops inspect processes`"
        )],
    })
}

fn kills(data: &CollectData) -> Option<Finding> {
    let kills = data.summary.rates.oom_kills.filter(|kills| *kills > 0)?;
    Some(Finding {
        id: "oom-kills",
        severity: Severity::Critical,
        title: msg!(
            "The kernel killed for want of memory within the window",
            "采集期间内核因内存不足杀死了进程"
        ),
        evidence: vec![msg!(
            "/proc/vmstat oom_kill grew by {kills}",
            "/proc/vmstat 的 oom_kill 增加了 {kills}"
        )],
        advice: vec![msg!(
            "catch the next one with who, why and which code: `aiops trace oom`",
            "捕获下一次（谁、为何、哪段代码）：`aiops trace oom`"
        )],
    })
}

fn nearly_used_up(data: &CollectData) -> Option<Finding> {
    let system = data.system.as_ref()?;
    let (total, available) = (
        system.metrics.mem_total_kb.filter(|total| *total > 0)?,
        system.metrics.mem_available_kb?,
    );
    let share = available as f64 / total as f64;
    let severity = level(AVAILABLE.0 - share, AVAILABLE.0 - AVAILABLE.1)?;
    let percent = share * 100.0;
    let least = data
        .summary
        .system
        .mem_available_kb
        .map_or(available, |stat| stat.min);
    Some(Finding {
        id: "memory-nearly-used-up",
        severity,
        title: msg!("Memory is nearly used up", "内存即将耗尽"),
        evidence: vec![msg!(
            "available {available} of {total} KiB ({percent:.1}%), least in the window {least} KiB",
            "可用 {available} KiB，共 {total} KiB（{percent:.1}%），期间最低 {least} KiB"
        )],
        advice: vec![
            msg!(
                "see who holds it: `aiops inspect processes`",
                "查看谁占用内存：`aiops inspect processes`"
            ),
            msg!(
                "have the tracer ready for a kill: `aiops trace oom`",
                "提前启动跟踪以捕获 OOM：`aiops trace oom`"
            ),
        ],
    })
}

fn swapping(data: &CollectData) -> Option<Finding> {
    let rates = &data.summary.rates;
    let (into, out) = (rates.swap_in_kb_per_s?, rates.swap_out_kb_per_s?);
    let severity = level(into + out - SWAPPING.0, SWAPPING.1 - SWAPPING.0)?;
    let seconds = data.window.seconds;
    Some(Finding {
        id: "heavy-swapping",
        severity,
        title: msg!("Pages went through swap", "内存页频繁换入换出"),
        evidence: vec![msg!(
            "in {into:.0} KiB/s, out {out:.0} KiB/s over {seconds:.0} s",
            "{seconds:.0} 秒内平均换入 {into:.0} KiB/s，换出 {out:.0} KiB/s"
        )],
        advice: vec![msg!(
            "see whose pages they are: `aiops analyze swap --processes`",
            "查看属于哪些进程：`aiops analyze swap --processes`"
        )],
    })
}

fn pressure(data: &CollectData) -> Option<Finding> {
    let rates = &data.summary.rates;
    let newest = data.system.as_ref().map(|system| &system.metrics);
    let average = |hundredths: Option<u64>| hundredths.map(|value| value as f64 / 100.0);
    // With one sample there is no window: the kernel's own average over 10 s stands in.
    let (some, full, over) = match (rates.psi_some_pct, rates.psi_full_pct) {
        (Some(some), full) => {
            let seconds = data.window.seconds;
            (
                some,
                full.unwrap_or(0.0),
                msg!("over {seconds:.1} s", "{seconds:.1} 秒内"),
            )
        }
        (None, _) => (
            average(newest?.psi_some_avg10)?,
            average(newest?.psi_full_avg10).unwrap_or(0.0),
            msg!("over the last 10 s", "最近 10 秒内"),
        ),
    };
    let severity = match (some >= STALLED.0, full >= STALLED.1) {
        (_, true) => Severity::Critical,
        (true, false) => Severity::Warning,
        (false, false) => return None,
    };
    let (en, zh) = (over.en, over.zh);
    Some(Finding {
        id: "memory-pressure",
        severity,
        title: msg!("Tasks waited for memory", "任务因等待内存而停顿"),
        evidence: vec![crate::report::Msg::new(
            format!("some task {some:.1}% of the time, all tasks {full:.1}%, {en} (PSI)"),
            format!("{zh}有任务停顿的时间占 {some:.1}%，全部停顿占 {full:.1}%（PSI）"),
        )],
        advice: vec![
            msg!(
                "see whether it is swap or page cache: `aiops analyze swap`, `aiops analyze cache`",
                "判断是 Swap 还是页缓存：`aiops analyze swap`、`aiops analyze cache`"
            ),
            msg!(
                "weigh everything together: `aiops health memory`",
                "综合评估：`aiops health memory`"
            ),
        ],
    })
}

fn growing(data: &CollectData) -> Vec<Finding> {
    let mut growing: Vec<(&ProcessSummary, i64, f64)> = data
        .summary
        .processes
        .iter()
        .filter_map(|process| {
            let (growth, line) = (process.growth_kb?, process.linearity?);
            let large = growth >= GROWTH_KB && process.seconds >= GROWTH_S;
            (large && line >= STEADY && !process.ended).then_some((process, growth, line))
        })
        .collect();
    growing.sort_by_key(|(_, growth, _)| std::cmp::Reverse(*growth));
    growing.truncate(GROWING);
    let findings = growing.into_iter().map(|(process, growth, line)| {
        let (comm, pid, seconds) = (&process.comm, process.pid, process.seconds);
        Finding {
            id: "process-growing",
            severity: Severity::Info,
            title: msg!(
                "{comm} ({pid}) grew steadily: a leak, a cache that fills, or a start; this window cannot tell",
                "{comm}（{pid}）持续增长：可能是泄漏、缓存填充或启动阶段，此窗口无法区分"
            ),
            evidence: vec![msg!(
                "resident and swapped memory grew by {growth} KiB in {seconds:.0} s, {line:.2} linear",
                "{seconds:.0} 秒内常驻与换出内存共增长 {growth} KiB，线性度 {line:.2}"
            )],
            advice: vec![
                msg!(
                    "see which memory it is: `aiops inspect memory --pid {pid}`",
                    "查看是哪类内存：`aiops inspect memory --pid {pid}`"
                ),
                msg!(
                    "watch it for longer: `aiops collect memory --pid {pid} --duration 30m --interval 10s`",
                    "延长观察：`aiops collect memory --pid {pid} --duration 30m --interval 10s`"
                ),
            ],
        }
    });
    findings.collect()
}

/// How bad it is to be this far beyond the first threshold; the second one lies `critical` behind it.
fn level(beyond: f64, critical: f64) -> Option<Severity> {
    if beyond >= critical {
        Some(Severity::Critical)
    } else if beyond >= 0.0 {
        Some(Severity::Warning)
    } else {
        None
    }
}
