//! From what was found to the data and the findings of `detect anomaly`.

use super::anomaly::host::Found;
use super::anomaly::host::Input;
use super::anomaly::host::Scope;
use super::history::stamp;
use crate::model::Filter;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::anomaly::Anomaly;
use crate::report::anomaly::AnomalyData;
use crate::report::anomaly::AnomalyWindow;

/// Two days: below that nothing comes again.
const SEASON_S: f64 = 2.0 * 86_400.0;
/// Fewest samples that say what is usual.
const FEW: usize = 60;

/// Processes that are too young, of those that are named.
const MOST: usize = 5;

/// A length in words that both languages know.
fn length(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0}s"),
        ..7200.0 => format!("{:.0}min", seconds / 60.0),
        ..172_800.0 => format!("{:.0}h", seconds / 3600.0),
        _ => format!("{:.0}d", seconds / 86_400.0),
    }
}

/// What a window of this length can decide.
fn decides(samples: usize, span_s: f64, level_s: Option<f64>, interval_s: Option<f64>) -> Msg {
    let whole = length(span_s);
    if let Some(level_s) = level_s {
        let level = length(level_s);
        return msg!(
            "a change of the host's level is seen here if it comes within {level} and lasts that long; a slower one if both levels do",
            "可发现在 {level} 内发生且持续同样时间的水平变化；更慢的变化需前后水平均持续这么久"
        );
    }
    let need = interval_s.map_or_else(|| format!("{FEW}"), |one| length(one * FEW as f64));
    msg!(
        "only {samples} samples of the host in {whole}: too few for levels, which need {FEW} ({need}); bursts of swap of 3 samples or more and processes unlike the others are told all the same",
        "主机在 {whole} 内仅有 {samples} 个样本：判断水平至少需要 {FEW} 个（{need}）；不少于 3 个样本的 swap 突增和离群进程仍会报告"
    )
}

/// Milliseconds since 1970.
#[expect(
    clippy::cast_possible_truncation,
    reason = "times of a store are milliseconds"
)]
fn ms(time_s: f64) -> i64 {
    (time_s * 1000.0).round() as i64
}

/// The data of a report.
#[must_use]
pub fn data(input: &Input, scope: Scope, found: Found, interval_s: Option<f64>) -> AnomalyData {
    let inside = || {
        let moments = input.moments.iter().map(|one| one.time_s);
        moments.filter(|time| *time >= input.start_s)
    };
    let samples = inside().count();
    let (first, last) = (input.moments.first(), input.moments.last());
    let baseline_s = first
        .zip(last)
        .map_or(0.0, |(first, last)| last.time_s - first.time_s);
    let span_s = {
        let mut times = inside();
        let first = times.next();
        first.map_or(0.0, |first| times.next_back().unwrap_or(first) - first)
    };
    let mut notes = Vec::new();
    if samples > 0 {
        notes.push(decides(samples, span_s, found.level_s, interval_s));
    }
    if found.level_s.is_some() && baseline_s < SEASON_S {
        notes.push(msg!(
            "less than two days of history: what comes every day cannot be told from what is new",
            "历史不足两天：无法区分每日规律与新变化"
        ));
    }
    if scope == Scope::Chosen {
        let asked = input.processes.iter().filter(|one| one.wanted);
        let young: Vec<_> = asked.filter(|one| !input.is_settled(one)).collect();
        for one in young.iter().take(MOST) {
            let (pid, minutes) = (one.pid, (one.span_s.1 - one.span_s.0) / 60.0);
            notes.push(msg!(
                "process {pid} was seen for {minutes:.0} minutes: too short to say what is usual for it",
                "进程 {pid} 仅观测到 {minutes:.0} 分钟：不足以判断何为常态"
            ));
        }
        if let Some(more @ 1..) = young.len().checked_sub(MOST) {
            notes.push(msg!(
                "and {more} more processes that are too young",
                "另有 {more} 个进程观测时间过短"
            ));
        }
    }
    AnomalyData {
        scope: match scope {
            Scope::All => "all",
            Scope::System => "system",
            Scope::Chosen => "chosen",
        },
        window: AnomalyWindow {
            start: inside().next().map(|time| stamp(ms(time))),
            end: inside().next_back().map(|time| stamp(ms(time))),
            samples,
            interval_s,
            baseline_s,
            seasonal: found.seasonal.filter(|_| baseline_s >= SEASON_S),
            level_s: found.level_s,
            processes: input.processes.len(),
        },
        source: "history",
        series: found.series,
        anomalies: found.anomalies,
        notes,
        top: 0,
    }
}

/// What a kind of anomaly is worth, and what to do about it.
struct Meaning {
    kind: &'static str,
    id: &'static str,
    severity: Severity,
    title: fn(usize) -> Msg,
    advice: fn(&Anomaly) -> Vec<Msg>,
}

fn of_process(one: &Anomaly) -> Option<u32> {
    let moved = one.also_moved.iter().find(|moved| moved.change_kb > 0.0);
    one.subject.pid.or_else(|| moved?.subject.pid)
}

fn look(one: &Anomaly) -> Vec<Msg> {
    match of_process(one) {
        Some(pid) => vec![msg!(
            "`aiops detect memory-leak --pid {pid}` tells whether it goes on",
            "`aiops detect memory-leak --pid {pid}` 判断其是否仍在增长"
        )],
        None => vec![msg!(
            "`aiops query memory --sort growth` names who grew",
            "`aiops query memory --sort growth` 列出增长最多的进程"
        )],
    }
}

fn swapping(_: &Anomaly) -> Vec<Msg> {
    vec![
        msg!(
            "`aiops analyze swap --processes` names who is in swap",
            "`aiops analyze swap --processes` 列出占用 swap 的进程"
        ),
        msg!(
            "give the host more memory, or its largest users less: a limit for them (memory.high) keeps the others out of swap",
            "增加内存或减少最大用户的内存：为其设置上限（memory.high）可使其他进程免于换出"
        ),
    ]
}

fn compare(one: &Anomaly) -> Vec<Msg> {
    let pid = one.subject.pid.unwrap_or_default();
    vec![msg!(
        "`aiops inspect memory --pid {pid}` shows what its memory is made of",
        "`aiops inspect memory --pid {pid}` 显示其内存构成"
    )]
}

const MEANINGS: [Meaning; 7] = [
    Meaning {
        kind: "swap-thrash",
        id: "anomaly-swap-thrash",
        severity: Severity::Critical,
        title: |n| msg!("The host thrashed ({n})", "主机发生内存颠簸（{n} 次）"),
        advice: swapping,
    },
    Meaning {
        kind: "growth-point",
        id: "anomaly-growth-point",
        severity: Severity::Warning,
        title: |n| msg!("Memory grew abruptly ({n})", "内存突增（{n} 处）"),
        advice: look,
    },
    Meaning {
        kind: "swap-surge",
        id: "anomaly-swap-surge",
        severity: Severity::Warning,
        title: |n| msg!("Swap traffic surged ({n})", "swap 流量突增（{n} 次）"),
        advice: swapping,
    },
    Meaning {
        kind: "swap-sustained",
        id: "anomaly-swap-sustained",
        severity: Severity::Warning,
        title: |n| msg!("Swap keeps growing ({n})", "swap 占用持续增长（{n} 处）"),
        advice: swapping,
    },
    Meaning {
        kind: "outlier-process",
        id: "anomaly-outlier-process",
        severity: Severity::Warning,
        title: |n| {
            msg!(
                "Processes unlike the others ({n})",
                "与众不同的进程（{n} 个）"
            )
        },
        advice: compare,
    },
    Meaning {
        kind: "change-point",
        id: "anomaly-change-point",
        severity: Severity::Info,
        title: |n| {
            msg!(
                "Memory went to another level ({n})",
                "内存水平改变（{n} 处）"
            )
        },
        advice: look,
    },
    Meaning {
        kind: "residual",
        id: "anomaly-residual",
        severity: Severity::Info,
        title: |n| {
            msg!(
                "Short peaks above trend and season ({n})",
                "短时高于趋势与季节（{n} 处）"
            )
        },
        advice: |_| Vec::new(),
    },
];

fn evidence(one: &Anomaly) -> Msg {
    let subject = &one.subject;
    let (who_en, who_zh) = match (subject.what, &subject.comm, subject.pid) {
        ("process", comm, Some(pid)) => {
            let comm = comm.as_deref().unwrap_or_default();
            let who = format!("{comm}({pid})");
            (who.clone(), who)
        }
        ("cgroup", ..) => {
            let path = subject.cgroup.clone().unwrap_or_default();
            (path.clone(), path)
        }
        ("system-swap", ..) => ("swap".to_owned(), "swap".to_owned()),
        _ => ("used memory".to_owned(), "已用内存".to_owned()),
    };
    // The reasons stand with the anomalies.
    let at = one.at.get(..16).unwrap_or(&one.at).replace('T', " ");
    let sigmas = one
        .size_sigmas
        .map_or(String::new(), |sigmas| format!(", {sigmas:+.1} σ"));
    msg!("{at} {who_en}{sigmas}", "{at} {who_zh}{sigmas}")
}

/// One finding for each kind, the worst first.
#[must_use]
pub fn findings(data: &AnomalyData) -> Vec<Finding> {
    let of = |meaning: &Meaning| {
        let all: Vec<&Anomaly> = (data.anomalies.iter())
            .filter(|one| one.kind == meaning.kind)
            .collect();
        let first = all.first()?;
        Some(Finding {
            id: meaning.id,
            severity: meaning.severity,
            title: (meaning.title)(all.len()),
            evidence: all.iter().map(|one| evidence(one)).collect(),
            advice: (meaning.advice)(first),
        })
    };
    MEANINGS.iter().filter_map(of).collect()
}

/// What was asked for and was not there.
#[must_use]
pub fn unseen(input: &Input, filter: &Filter) -> Option<Finding> {
    let wanted = || input.processes.iter().filter(|one| one.wanted);
    let pids = filter.pids.iter();
    let missing = pids.filter(|pid| wanted().all(|one| one.pid != **pid));
    let mut list: Vec<String> = missing.map(ToString::to_string).collect();
    if list.is_empty() && wanted().next().is_none() && input.cgroups.is_empty() {
        let names = [
            &filter.comms,
            &filter.cgroups,
            &filter.containers,
            &filter.users,
        ];
        list = names.into_iter().flatten().cloned().collect();
    }
    if list.is_empty() {
        return None;
    }
    let list = list.join(", ");
    Some(Finding {
        id: "history-nobody",
        severity: Severity::Info,
        title: msg!(
            "No sample of these in the window: {list}",
            "该时段内没有以下对象的采样：{list}"
        ),
        evidence: Vec::new(),
        advice: vec![msg!(
            "a longer --history or another --end may have them",
            "可尝试更长的 --history 或其他 --end"
        )],
    })
}
