//! From the verdict on a series to the data, the words and the findings of `detect memory-leak`.

use super::leak::Assessment;
use super::leak::Class;
use super::leak::Reason;
use super::leak::Series;
use super::leak::posterior::Candidate;
use super::leak::prepare;
use super::leak::robust::median;
use super::leak::shapes::Kind;
use super::leak_changes::changes;
use super::leak_words::fitted_words;
use super::leak_words::length;
use super::runtime;
use super::runtime::Runtime;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::leak::Alternative;
use crate::report::leak::Change;
use crate::report::leak::LeakData;
use crate::report::leak::LeakProcess;
use crate::report::leak::LeakWindow;
use crate::report::leak::LoadRelation;
use crate::report::leak::Oom;
use crate::report::leak::Point;
use crate::time;

pub(super) const MIB: f64 = 1_048_576.0;
pub(super) const HOUR: f64 = 3600.0;
/// Beyond this no date is given.
pub(super) const TEN_YEARS_S: f64 = 10.0 * 365.25 * 86_400.0;
/// Points of the series in a report.
const POINTS: usize = 240;
/// An OOM that is nearer than this is critical.
const SOON_H: f64 = 24.0;
/// From here on a difference of BIC is strong evidence (Kass and Raftery 1995).
const STRONG: f64 = 6.0;

/// Name of a verdict in reports.
fn verdict(class: Class) -> &'static str {
    match class {
        Class::Leak => "leak",
        Class::NoLeak => "no-leak",
        Class::Ambiguous => "inconclusive",
    }
}

/// A moment of a series; `None`: no calendar knows it.
pub(super) fn stamp(seconds: f64) -> Option<String> {
    let ns = seconds * 1e9;
    if !ns.is_finite() || ns.abs() > 9e18 {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is within the range of nanoseconds"
    )]
    let ns = ns as i64;
    time::rfc3339(ns, time::local_offset_s(ns))
}

/// A whole number of KiB.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are not below 0, and a size is far below the largest integer"
)]
pub(super) fn kb(bytes: f64) -> u64 {
    (bytes / 1024.0).round() as u64
}

/// The data of a report. `limit` is what the process dies at, bytes, and who says so.
#[must_use]
pub fn data(series: &Series, found: &Assessment, limit: Option<(u64, &'static str)>) -> LeakData {
    let first = series.bytes.first().copied().unwrap_or(0.0);
    let last = series.bytes.last().copied().unwrap_or(0.0);
    let steps: Vec<f64> = series
        .time_s
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .filter(|step| *step > 0.0)
        .collect();
    let per_hour = |rate: f64| rate * HOUR / MIB;
    let end = series.time_s.last().copied().unwrap_or(0.0);
    let explained = match found.reason {
        Reason::FollowsLoad { r2 } => Some(r2),
        _ => None,
    };
    LeakData {
        window: LeakWindow {
            source: None,
            start: series.time_s.first().copied().and_then(stamp),
            end: series.time_s.last().copied().and_then(stamp),
            samples: series.bytes.len(),
            missing: 0,
            interval_s: median(&steps),
            clock_steps: found.clock_steps,
            last_life_samples: found.samples,
            last_life_s: found.span_s,
        },
        algorithm: "bic-shapes-ar1",
        rss: Change {
            first_kb: kb(first),
            last_kb: kb(last),
            change_pct: (first > 0.0).then(|| (last - first) / first * 100.0),
        },
        verdict: verdict(found.class),
        leak_probability: found.probability,
        confidence: found.confidence,
        shape: found.shape.as_ref().map(|shape| shape.kind.name()),
        reason: reason(found),
        alternatives: alternatives(series, found),
        rate_mib_per_hour: found.rate.map(per_hour),
        rate_interval: found
            .rate_interval
            .map(|(low, high)| [per_hour(low), per_hour(high)]),
        onset: found.onset_s.and_then(stamp),
        r2: found.r2,
        linear_r2: linear_r2(series, found.samples),
        trend_p: found.trend_p,
        change_points: changes(found).into_iter().filter_map(stamp).collect(),
        load: LoadRelation {
            known: series.load.is_some(),
            explains: series.load.is_some().then_some(explained.is_some()),
            r2: explained,
        },
        detection_limit_mib_per_hour: found.detection_limit.map(per_hour),
        oom: found.hit.zip(limit).map(|(hit, (bytes, source))| Oom {
            at: (hit.after_s < TEN_YEARS_S)
                .then(|| stamp(end + hit.after_s))
                .flatten(),
            hours: hit.after_s / HOUR,
            interval: (
                hit.interval_s.0 / HOUR,
                hit.interval_s.1.map(|latest| latest / HOUR),
            ),
            limit_bytes: bytes,
            limit_source: source,
            limit_cgroup: None,
            total_rate_mib_per_hour: None,
            competing: Vec::new(),
        }),
        collections_kb: found.collections.map(|bytes| bytes / 1024.0),
        lives: found.lives,
        from_all_lives: found.from_all_lives,
        series: points(&series.time_s, &series.bytes),
        fitted: fitted(found),
        notes: notes(found),
        process: LeakProcess::default(),
        vms: None,
        available_kb: None,
        components: None,
        measure: None,
        judged: None,
        evidence: None,
    }
}

/// Means of equally many samples.
fn points(times: &[f64], bytes: &[f64]) -> Vec<Point> {
    let each = bytes.len().div_ceil(POINTS).max(1);
    let rows = times.chunks(each).zip(bytes.chunks(each));
    rows.map(|(times, bytes)| {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        Point {
            ts: mean(times),
            kb: mean(bytes) / 1024.0,
        }
    })
    .collect()
}

fn fitted(found: &Assessment) -> Vec<Point> {
    let each = found.fitted.len().div_ceil(POINTS).max(1);
    let shown = found.fitted.iter().step_by(each).chain(
        found
            .fitted
            .last()
            .filter(|_| !(found.fitted.len().saturating_sub(1)).is_multiple_of(each)),
    );
    let points = shown.map(|(ts, bytes)| Point {
        ts: *ts,
        kb: bytes / 1024.0,
    });
    points.take(POINTS).collect()
}

/// Square of the correlation of two columns: what a straight line of one explains of the other. `None`: one of
/// them does not change.
fn straight(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len().min(y.len());
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += dx * dx;
        xy += dx * dy;
        yy += dy * dy;
    }
    let r2 = xy / xx * (xy / yy);
    (n > 2 && r2.is_finite()).then(|| r2.clamp(0.0, 1.0))
}

/// R² of a straight line through the last life, which has this many samples.
fn linear_r2(series: &Series, samples: usize) -> Option<f64> {
    let from = series.bytes.len().saturating_sub(samples);
    let (times, _) = prepare::steady_times(&series.time_s[from..]);
    straight(&times, &series.bytes[from..])
}

/// What people call shapes of this kind: id and words.
fn family(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::Constant => ("level", "level memory", "平稳不变"),
        Kind::Saturation { .. }
        | Kind::TwoSaturations { .. }
        | Kind::SaturationRamp { .. }
        | Kind::SaturationSteps
        | Kind::LateSaturation { .. }
        | Kind::Log { .. }
        | Kind::Root
        | Kind::Ramp { .. }
        | Kind::Rise { .. }
        | Kind::FlatEnd { .. } => ("warm-up", "a warm-up that ends", "会结束的预热"),
        Kind::Steps { .. } => ("step", "steps alone", "仅有阶跃"),
        Kind::HalfDay => ("daily-cycle", "half of a daily cycle", "日周期的一半"),
        _ => ("growth", "growth that goes on", "持续增长"),
    }
}

/// What else it could be, with the figure that speaks for or against it.
fn alternatives(series: &Series, found: &Assessment) -> Vec<Alternative> {
    let Some(shape) = &found.shape else {
        return Vec::new();
    };
    let mut out: Vec<Alternative> = Vec::new();
    let mut rivals: Vec<_> = (found.rivals.iter())
        .filter(|rival| found.class == Class::Ambiguous || rival.class != found.class)
        .map(|rival| (family(rival.kind), rival.bic - shape.bic))
        .filter(|(of, margin)| margin.is_finite() && *of != family(shape.kind))
        // Growth that ended or is too small to count is not what a leak is held against.
        .filter(|(of, _)| found.class != Class::Leak || of.0 != "growth")
        .collect();
    rivals.sort_by(|a, b| a.1.total_cmp(&b.1));
    for ((id, en, zh), margin) in rivals {
        if out.iter().any(|one| one.id == id) {
            continue;
        }
        let ruled_out = margin >= STRONG;
        let text = match margin {
            m if m >= 0.0 => msg!("{en}: fits {m:.0} BIC worse", "{zh}：拟合差 {m:.0} BIC"),
            m => msg!(
                "{en}: fits {:.0} BIC better, but the weight of the others decides",
                "{zh}：拟合好 {:.0} BIC，但其余模型合计权重更大",
                -m
            ),
        };
        out.push(Alternative {
            id,
            ruled_out: Some(ruled_out),
            bic_margin: Some(margin),
            r2: None,
            text,
        });
    }
    out.push(load(series, found));
    out.push(collector(found));
    out
}

fn load(series: &Series, found: &Assessment) -> Alternative {
    let from = series.bytes.len().saturating_sub(found.samples);
    let explained = match found.reason {
        Reason::FollowsLoad { r2 } => Some(r2),
        _ => None,
    };
    let alone = series.load.as_ref();
    let alone = alone.and_then(|load| straight(&load[from..], &series.bytes[from..]));
    let r2 = explained.or(alone);
    let text = match (r2, explained.is_some()) {
        (Some(r2), true) => {
            let percent = r2 * 100.0;
            msg!(
                "load: explains {percent:.0} % of the size",
                "负载：可解释 {percent:.0} % 的变化"
            )
        }
        (Some(r2), false) => {
            let percent = r2 * 100.0;
            msg!(
                "load: explains {percent:.0} % of the size, too little",
                "负载：只能解释 {percent:.0} % 的变化"
            )
        }
        (None, _) if series.load.is_some() => msg!("load: it did not change", "负载：没有变化"),
        _ => msg!("load: not known", "负载：未知"),
    };
    Alternative {
        id: "load",
        ruled_out: series.load.is_some().then_some(explained.is_none()),
        bic_margin: None,
        r2,
        text,
    }
}

fn collector(found: &Assessment) -> Alternative {
    let (ruled_out, text) = match (found.collections, found.class) {
        (Some(bytes), Class::Leak) => {
            let mib = bytes / MIB;
            (
                true,
                msg!(
                    "nothing but garbage collection: what each leaves still grows, though it gives back {mib:.1} MiB",
                    "仅为垃圾回收：每次释放 {mib:.1} MiB，但回收后的低点仍在升高"
                ),
            )
        }
        (Some(bytes), _) => {
            let mib = bytes / MIB;
            (
                false,
                msg!(
                    "garbage collection: gives back {mib:.1} MiB each time",
                    "垃圾回收：每次释放 {mib:.1} MiB"
                ),
            )
        }
        (None, _) => (
            true,
            msg!(
                "garbage collection: no sawtooth in the samples",
                "垃圾回收：样本中没有锯齿形回落"
            ),
        ),
    };
    Alternative {
        id: "gc",
        ruled_out: Some(ruled_out),
        bic_margin: None,
        r2: None,
        text,
    }
}

fn notes(found: &Assessment) -> Vec<Msg> {
    let mut notes = Vec::new();
    let steps = found.clock_steps;
    if steps > 0 {
        notes.push(msg!(
            "the clock was set back {steps} times: the usual interval is taken to have passed",
            "时钟回拨 {steps} 次：按通常的采样间隔计"
        ));
    }
    let restarts = found.lives.saturating_sub(1);
    if found.from_all_lives {
        notes.push(msg!(
            "{restarts} restarts: the last life is too young, so all lives are compared at the same age",
            "重启 {restarts} 次：当前进程运行时间过短，按相同运行时长比较各次运行"
        ));
    } else if restarts > 0 {
        notes.push(msg!(
            "{restarts} restarts: the verdict is about the last life",
            "重启 {restarts} 次：结论针对最近一次运行"
        ));
    }
    if let Some(bytes) = found.collections {
        let mib = bytes / MIB;
        notes.push(msg!(
            "garbage collections give back {mib:.1} MiB each: the floors between them are judged",
            "垃圾回收每次释放 {mib:.1} MiB：以回收后的低点判断"
        ));
    }
    notes
}

/// Growth of shared memory inside mappings of a fixed size: whether it goes on is a matter of their size.
pub fn undecide(data: &mut LeakData) {
    let rate = data.rate_mib_per_hour.unwrap_or(0.0);
    data.verdict = "inconclusive";
    (data.leak_probability, data.confidence) = (0.5, 0.5);
    data.oom = None;
    data.reason = msg!(
        "shared memory grows by {rate:.2} MiB/h inside mappings of a fixed size, anonymous memory does not leak: it ends when they are full",
        "共享内存在固定大小的映射内以 {rate:.2} MiB/h 增长，匿名内存未泄漏：映射填满后即停止"
    );
}

/// The verdict's reason in one sentence.
fn reason(found: &Assessment) -> Msg {
    match &found.reason {
        Reason::TooFew => {
            let samples = found.samples;
            msg!(
                "{samples} samples of this life are too few to tell",
                "本次运行只有 {samples} 个样本，不足以判断"
            )
        }
        Reason::Constant => msg!("every sample is the same", "所有样本相同"),
        Reason::FollowsLoad { r2 } => msg!(
            "growth follows load: load alone explains {:.0} % of it",
            "增长随负载变化：负载可解释 {:.0} %",
            r2 * 100.0
        ),
        Reason::Shape { margin } => {
            let Some(shape) = &found.shape else {
                return msg!("no shape fits", "没有合适的形状");
            };
            let words = fitted_words(shape, found);
            let (en, zh) = (words.en, words.zh);
            if *margin < 0.0 && found.class == Class::Leak {
                return Msg::new(
                    format!("{en}; lows, middle and tops grow alike in every part of the window"),
                    format!("{zh}；窗口各段的低点、中位与高点同步升高"),
                );
            }
            if margin.is_finite() {
                let than = if found.class == Class::Leak {
                    msg!("without a leak", "非泄漏")
                } else {
                    msg!("with a leak", "泄漏")
                };
                Msg::new(
                    format!(
                        "{en}; {margin:.0} BIC better than the best shape {}",
                        than.en
                    ),
                    format!("{zh}；比最佳{}模型好 {margin:.0} BIC", than.zh),
                )
            } else {
                Msg::new(en, zh)
            }
        }
        Reason::Undecided => {
            let words = |shape: &Option<Candidate>| Some(fitted_words(shape.as_ref()?, found));
            match (words(&found.shape), words(&found.rival)) {
                (Some(one), Some(other)) if one == other => Msg::new(
                    format!("{}; whether that goes on cannot be told", one.en),
                    format!("{}；是否会继续无法判断", one.zh),
                ),
                (Some(one), Some(other)) => Msg::new(
                    format!("two readings fit: {}, or {}", one.en, other.en),
                    format!("两种解释都成立：{}，或{}", one.zh, other.zh),
                ),
                (Some(one), None) => one,
                _ => msg!("nothing fits well enough", "没有足够吻合的解释"),
            }
        }
    }
}

/// The runtime of a process, from what the report knows of it.
fn runtime(data: &LeakData) -> Option<Runtime> {
    let process = &data.process;
    let told = process.runtime.and_then(Runtime::named);
    told.or_else(|| runtime::runtime_of(process.comm.as_deref(), None, &[]))
}

/// Name of the runtime of a process: see [`runtime::runtime_of`].
#[must_use]
pub fn runtime_name(
    comm: Option<&str>,
    exe: Option<&str>,
    mapped: &[&str],
) -> Option<&'static str> {
    runtime::runtime_of(comm, exe, mapped).map(Runtime::name)
}

/// What to ask next about one of many.
#[must_use]
pub fn next(process: &LeakProcess) -> Vec<Msg> {
    let Some(pid) = process.pid.filter(|pid| *pid > 0) else {
        return Vec::new();
    };
    vec![
        msg!(
            "the whole report, with what else it could be and how to find the code: `aiops detect memory-leak --pid {pid}`",
            "完整报告（含其他可能与定位方法）：`aiops detect memory-leak --pid {pid}`"
        ),
        msg!(
            "which mappings it is in: `aiops inspect memory --pid {pid} --maps`",
            "查看位于哪些映射：`aiops inspect memory --pid {pid} --maps`"
        ),
    ]
}

/// How to find what leaks, and what to do meanwhile.
fn advice(data: &LeakData) -> Vec<Msg> {
    let pid = data.process.pid.filter(|pid| *pid > 0);
    let mut lines = Vec::new();
    if let Some(pid) = pid {
        lines.push(msg!(
            "which code takes it and does not give it back: `aiops trace leak --pid {pid} --duration 5m`",
            "查看哪些代码申请后未释放：`aiops trace leak --pid {pid} --duration 5m`"
        ));
        lines.push(msg!(
            "which mappings it is in: `aiops inspect memory --pid {pid} --maps`",
            "查看位于哪些映射：`aiops inspect memory --pid {pid} --maps`"
        ));
    }
    lines.extend(runtime::advice(runtime(data), pid));
    lines.push(msg!(
        "until it is mended: restart the process before the limit is met",
        "修复前：在到达上限之前重启进程（临时缓解）"
    ));
    lines
}

/// What decides it, and what may be looked at meanwhile.
fn undecided_advice(data: &LeakData) -> Vec<Msg> {
    let Some(pid) = data.process.pid.filter(|pid| *pid > 0) else {
        return vec![msg!(
            "watch it for longer, or give a load column: `load`",
            "延长观测时间，或提供负载列 `load`"
        )];
    };
    let mut lines = vec![msg!(
        "watch it for longer: `aiops monitor memory` keeps history, then \
         `aiops detect memory-leak --pid {pid} --history 24h`",
        "延长观测时间：`aiops monitor memory` 保存历史，之后执行 \
         `aiops detect memory-leak --pid {pid} --history 24h`"
    )];
    lines.extend(runtime::advice(runtime(data), Some(pid)).into_iter().next());
    lines
}

/// What to do about it.
#[must_use]
pub fn findings(data: &LeakData) -> Vec<Finding> {
    let rate = data.rate_mib_per_hour.unwrap_or(0.0);
    match data.verdict {
        "leak" => {
            let soon = data.oom.as_ref().is_some_and(|oom| oom.hours < SOON_H);
            let mut evidence = vec![data.reason.clone()];
            if let Some(oom) = &data.oom {
                let hours = length(oom.hours * HOUR);
                let of = oom.limit_cgroup.as_deref();
                let of = of.map_or(String::new(), |path| format!(" ({path})"));
                evidence.push(msg!(
                    "the limit{of} is met in about {hours} at this rate",
                    "按此速率约 {hours}后到达上限{of}"
                ));
            }
            vec![Finding {
                id: "memory-leak",
                severity: if soon {
                    Severity::Critical
                } else {
                    Severity::Warning
                },
                title: msg!(
                    "memory leaks by {rate:.2} MiB/h",
                    "内存以 {rate:.2} MiB/h 泄漏"
                ),
                evidence,
                advice: advice(data),
            }]
        }
        "inconclusive" => vec![Finding {
            id: "memory-leak-undecided",
            severity: Severity::Info,
            title: msg!(
                "a leak can be neither shown nor ruled out",
                "既不能确认也不能排除内存泄漏"
            ),
            evidence: vec![data.reason.clone()],
            advice: undecided_advice(data),
        }],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
