//! What the score means and what to do: severities follow the level, so that `--exit-code` does too.

use crate::analysis::memory;
use crate::analysis::memory::CgroupUse;
use crate::analysis::readings::Readings;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::health::Cause;
use crate::report::health::HealthData;
use crate::report::plural;

use super::curve;

/// A factor below this gets advice.
const ADVISED_BELOW: f64 = 75.0;

/// Findings of a report.
pub(super) fn findings(
    data: &HealthData,
    readings: &Readings,
    cgroups: &[CgroupUse],
    missing: &[&str],
) -> Vec<Finding> {
    // Cgroups at their limit are their own trouble, not the host's: the score leaves them out.
    let found = [
        unknown(data, missing),
        level(data),
        kills(readings),
        memory::limit_thrash(cgroups),
        memory::near_limit(cgroups),
    ];
    found.into_iter().flatten().collect()
}

/// Too little is known for a score.
fn unknown(data: &HealthData, missing: &[&str]) -> Option<Finding> {
    if data.score.is_some() {
        return None;
    }
    let without = data.factors.iter().filter_map(|factor| {
        let (id, why) = (factor.id, factor.missing.as_ref()?);
        let (en, zh) = (&why.en, &why.zh);
        Some(msg!("{id}: {en}", "{id}：{zh}"))
    });
    let mut evidence: Vec<Msg> = without.collect();
    if !missing.is_empty() {
        let (en, zh) = (missing.join(", "), missing.join("、"));
        evidence.insert(
            0,
            msg!("told nothing: {en}", "没有任何可用数据的文件：{zh}"),
        );
    }
    Some(Finding {
        id: "health-memory-unknown",
        severity: Severity::Warning,
        title: msg!(
            "too little could be read for a score: it needs usage or pressure, and half of the weight",
            "可读数据不足，无法评分：至少需要使用率或压力数据，且已知权重不少于一半"
        ),
        evidence,
        advice: vec![msg!(
            "see that the files above are readable where this runs; under --root, that the tree is whole",
            "请确认上述文件在运行环境中可读；使用 --root 时请确认目录树完整"
        )],
    })
}

/// The level, where it is not good.
fn level(data: &HealthData) -> Option<Finding> {
    let (score, level) = (data.score?, data.level);
    let (id, severity, word) = match level {
        "critical" => ("health-memory-critical", Severity::Critical, "危险"),
        "poor" => ("health-memory-poor", Severity::Warning, "较差"),
        "fair" => ("health-memory-fair", Severity::Info, "一般"),
        _ => return None,
    };
    let lowers = data
        .factors
        .iter()
        .filter(|factor| factor.lost_points >= 1.0);
    let mut evidence: Vec<Msg> = data
        .caps
        .iter()
        .filter(|cap| cap.applied)
        .map(|cap| cap.reason.clone())
        .collect();
    for factor in lowers {
        let (id, lost) = (factor.id, factor.lost_points);
        let points = factor.score.unwrap_or(0.0);
        let (unit, zh) = match factor.unit.unwrap_or("") {
            "percent" => ("%".to_owned(), "%".to_owned()),
            unit => (format!(" {unit}"), format!(" {}", curve::unit_zh(unit))),
        };
        let value = factor.value.unwrap_or(0.0);
        let name = factor.decided_by.unwrap_or(id);
        evidence.push(msg!(
            "{id} scores {points:.0} and costs {lost:.1} points: {name} = {value}{unit}",
            "{id} 得分 {points:.0}，扣 {lost:.1} 分：{name} = {value}{zh}"
        ));
    }
    Some(Finding {
        id,
        severity,
        title: msg!(
            "memory health is {level}: {score} of 100",
            "内存健康度{word}：{score}/100"
        ),
        evidence,
        advice: advice(data),
    })
}

/// What to do about the factors that are low, in their order.
fn advice(data: &HealthData) -> Vec<Msg> {
    let mut advice = Vec::new();
    for factor in &data.factors {
        if factor.score.is_none_or(|score| score >= ADVISED_BELOW) {
            continue;
        }
        let first = |measure: &str| {
            let matches = |cause: &&Cause| {
                cause.factor == factor.id && cause.measure == measure && cause.pid.is_some()
            };
            data.causes.iter().find(matches)
        };
        match factor.id {
            "usage" => match first("rss_kb") {
                Some(cause) => {
                    let (name, pid) = (&cause.name, cause.pid.unwrap_or(0));
                    advice.push(msg!(
                        "look into the largest process, {name}: `aiops inspect memory --pid {pid}`; all of them: `aiops inspect processes`",
                        "查看最大的进程 {name}：`aiops inspect memory --pid {pid}`；全部进程：`aiops inspect processes`"
                    ));
                }
                None => advice.push(msg!(
                    "see who has the memory: `aiops inspect processes`",
                    "查看内存被谁占用：`aiops inspect processes`"
                )),
            },
            "swap" => advice.push(msg!(
                "see who is in swap and how fast pages move: `aiops analyze swap --processes --interval 5s`",
                "查看谁在使用 Swap 及换入换出速率：`aiops analyze swap --processes --interval 5s`"
            )),
            "cache" => advice.push(msg!(
                "see which cache is short and what reclaim does: `aiops analyze cache --efficiency`",
                "查看缓存不足之处与回收情况：`aiops analyze cache --efficiency`"
            )),
            "psi" => {
                advice.push(msg!(
                    "stop or limit what waits and grows; before it is killed, record it: `aiops trace oom --record oom.aiops`",
                    "停止或限制正在等待且增长的程序；在其被杀之前开始记录：`aiops trace oom --record oom.aiops`"
                ));
                advice.push(msg!(
                    "keep what goes on for later: `aiops collect memory --duration 60s --output pressure.db`",
                    "留存现场供事后分析：`aiops collect memory --duration 60s --output pressure.db`"
                ));
            }
            "fragmentation" => advice.push(msg!(
                "where huge pages are needed, compact once in a quiet hour: echo 1 > /proc/sys/vm/compact_memory; watch `aiops analyze cache`",
                "若需要大页，可在空闲时规整一次：echo 1 > /proc/sys/vm/compact_memory；并观察 `aiops analyze cache`"
            )),
            _ => {}
        }
    }
    advice
}

/// Somebody was killed while we watched.
fn kills(readings: &Readings) -> Option<Finding> {
    let (first, last, seconds) = readings.span()?;
    let count = |sample: &crate::model::Sample| sample.system.as_ref()?.oom_kill;
    let kills = count(last)?.checked_sub(count(first)?)?;
    (kills > 0).then(|| Finding {
        id: "health-oom-kill",
        severity: Severity::Info,
        title: {
            let s = plural(kills);
            msg!(
                "{kills} OOM kill{s} during the {seconds:.1} s of this reading",
                "本次读数的 {seconds:.1} 秒内发生 {kills} 次 OOM kill"
            )
        },
        evidence: vec![msg!(
            "oom_kill of /proc/vmstat grew by {kills}",
            "/proc/vmstat 的 oom_kill 增加 {kills}"
        )],
        advice: vec![msg!(
            "catch the next one with its cause: `aiops trace oom`",
            "捕获下一次及其原因：`aiops trace oom`"
        )],
    })
}
