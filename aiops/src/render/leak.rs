//! `detect memory-leak` for people: the verdict and why, the trend with a drawn curve, when the limit is met.

use super::TextReport;
use super::account;
use super::curve;
use super::findings;
use super::lang::Lang;
use super::text::Out;
use super::text::Paint;
use super::units;
use crate::msg;
use crate::report::Report;
use crate::report::leak::Change;
use crate::report::leak::LeakData;

/// Lines of the curve.
const ROWS: usize = 8;
/// Most columns of it, with its labels.
const COLUMNS: usize = 76;
/// Most change points that are listed.
const CHANGES: usize = 3;

impl TextReport for LeakData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        out.title(
            lang.pick("Memory leak report", "内存泄漏检测报告"),
            &super::text::clock(&report.generated_at),
        );
        about(data, out);
        out.rule();
        verdict(data, out);
        out.rule();
        trend(data, out);
        limit(data, out);
        kinds(data, out);
        ruled_out(data, out);
        if report.findings.is_empty() {
            let lines = data.evidence.iter().flat_map(|evidence| &evidence.lines);
            for line in lines {
                out.hang(0, 2, Paint::Plain, &format!("- {}", lang.of(line)));
            }
        }
        for note in &data.notes {
            out.hang(0, 2, Paint::Dim, &format!("- {}", lang.of(note)));
        }
        findings::write(&report.findings, out);
        out.rule();
        account::write(&report.accounting, out);
    }
}

fn about(data: &LeakData, out: &mut Out) {
    let lang = out.lang();
    let process = &data.process;
    if let Some(comm) = &process.comm {
        let pid = process
            .pid
            .map_or(String::new(), |pid| format!(" (PID: {pid})"));
        let runtime = process.runtime.map(runtime);
        let runtime = runtime.map_or(String::new(), |runtime| format!(", {runtime}"));
        let text = format!("{comm}{pid}{runtime}");
        out.pair(0, lang.pick("Process", "进程"), &text);
    }
    if let Some(input) = &process.input {
        out.pair(0, lang.pick("Input", "输入"), input);
    }
    let window = &data.window;
    if let (Some(start), Some(end)) = (&window.start, &window.end) {
        let (start, end) = (super::text::clock(start), super::text::clock(end));
        let (samples, every) = (window.samples, units::span(window.interval_s));
        let text = match lang {
            Lang::En => format!("{start} – {end}, {samples} samples, every {every}"),
            Lang::Zh => format!("{start} – {end}，{samples} 个样本，间隔 {every}"),
        };
        out.pair(0, lang.pick("Window", "检测时间范围"), &text);
    }
    out.pair(
        0,
        lang.pick("Method", "检测算法"),
        lang.pick(
            "comparison of trend shapes under autocorrelated noise (BIC), change points",
            "自相关噪声下的趋势形状比较（BIC）+ 变化点检测",
        ),
    );
}

/// A runtime as people call it.
fn runtime(id: &'static str) -> &'static str {
    match id {
        "jvm" => "JVM",
        "python" => "Python",
        "go" => "Go",
        "node" => "Node.js",
        "glibc" => "glibc malloc",
        id => id,
    }
}

fn verdict(data: &LeakData, out: &mut Out) {
    let lang = out.lang();
    let (mark, paint, words) = match data.verdict {
        "leak" => ("🔴", Paint::Bad, lang.pick("Memory leak", "检测到内存泄漏")),
        "no-leak" => (
            "🟢",
            Paint::Good,
            lang.pick("No memory leak", "未检测到内存泄漏"),
        ),
        _ => (
            "🟡",
            Paint::Warn,
            lang.pick("Cannot be told yet", "尚不能判断"),
        ),
    };
    let mark = if out.unicode() { mark } else { "*" };
    let sure = data.confidence * 100.0;
    let text = match (lang, data.verdict) {
        (_, "inconclusive") => format!("{mark} {words}"),
        (Lang::En, _) => format!("{mark} {words} (confidence {sure:.1}%)"),
        (Lang::Zh, _) => format!("{mark} {words}（置信度：{sure:.1}%）"),
    };
    out.hang(0, 3, paint, &text);
    out.hang(0, 3, Paint::Plain, &format!("   {}", lang.of(&data.reason)));
}

fn trend(data: &LeakData, out: &mut Out) {
    let lang = out.lang();
    out.heading(
        "📊",
        lang.pick(
            "Trend (MiB = 2^20 bytes)",
            "内存增长趋势（MiB = 2^20 字节）",
        ),
    );
    let room = out.inner().saturating_sub(2).min(COLUMNS);
    for line in curve::chart(&data.series, room, ROWS, out.unicode()) {
        out.line(2, Paint::Plain, &line);
    }
    let sizes = |size: &Change| {
        let change = size.change_pct;
        let change = change.map_or(String::new(), |change| format!(" ({change:+.1}%)"));
        let (first, last) = (units::size_kb(size.first_kb), units::size_kb(size.last_kb));
        format!("{first} → {last}{change}")
    };
    match (&data.judged, data.measure) {
        (Some(judged), Some(measure)) => {
            let name = format!("{} ({measure})", lang.pick("Memory", "内存"));
            out.pair(2, &name, &sizes(judged));
            out.pair(2, "RSS", &sizes(&data.rss));
        }
        _ => out.pair(2, lang.pick("Memory", "内存"), &sizes(&data.rss)),
    }
    if let Some(vms) = &data.vms {
        out.pair(2, lang.pick("Virtual memory", "虚拟内存"), &sizes(vms));
    }
    if let Some(rate) = data.rate_mib_per_hour {
        let interval = data.rate_interval.map_or(String::new(), |[low, high]| {
            let range = format!("{low:.2} – {high:.2}");
            match lang {
                Lang::En => format!(" (95% interval {range})"),
                Lang::Zh => format!("（95% 区间 {range}）"),
            }
        });
        let text = format!("{rate:.2} MiB/h{interval}");
        out.pair(2, lang.pick("Growth", "增长速率"), &text);
    }
    if let Some(r2) = data.linear_r2 {
        let label = lang.pick("Straight line", "线性拟合");
        let chance = data.trend_p.map_or(String::new(), |p| chance(p, lang));
        out.pair(2, label, &format!("R² = {r2:.2}{chance}"));
    }
    if let (Some(r2), Some(shape)) = (data.r2, data.shape) {
        let text = format!("{}, R² = {r2:.3}", shape_name(shape, lang));
        out.pair(2, lang.pick("Best shape", "最佳形状"), &text);
    }
    if let Some(onset) = &data.onset {
        out.pair(
            2,
            lang.pick("Since", "起始时间"),
            &super::text::clock(onset),
        );
    }
    if !data.change_points.is_empty() {
        let times: Vec<String> = data
            .change_points
            .iter()
            .take(CHANGES)
            .map(|at| super::text::clock(at))
            .collect();
        let more = data.change_points.len().saturating_sub(CHANGES);
        let more = match more {
            0 => String::new(),
            more => format!(" (+{more})"),
        };
        let text = times.join(lang.pick(", ", "、")) + &more;
        out.pair(2, lang.pick("Change points", "变化点"), &text);
    }
    if let Some(least) = data.detection_limit_mib_per_hour {
        let text = match lang {
            Lang::En => format!("leaks below {least:.2} MiB/h would not be seen"),
            Lang::Zh => format!("低于 {least:.2} MiB/h 的泄漏无法发现"),
        };
        out.pair(2, lang.pick("Detection limit", "检出下限"), &text);
    }
}

/// How likely a trend like this one is by chance.
fn chance(p: f64, lang: Lang) -> String {
    let p = if p < 0.001 {
        "p < 0.001".to_owned()
    } else {
        format!("p = {p:.3}")
    };
    match lang {
        Lang::En => format!(", a trend by chance: {p} (Mann-Kendall)"),
        Lang::Zh => format!("，Mann-Kendall 趋势检验 {p}"),
    }
}

/// A shape as people call it; an unknown one by its id.
fn shape_name(id: &'static str, lang: Lang) -> &'static str {
    let (en, zh) = match id {
        "constant" => ("level", "水平线"),
        "linear" => ("straight line", "直线"),
        "quadratic" => ("parabola", "抛物线"),
        "square-root" => ("square root", "平方根"),
        "ramp-then-flat" => ("ramp, then level", "先升后平"),
        "one-rise" => ("one rise", "一次上升"),
        "flat-then-linear" => ("level, then straight line", "先平后直线上升"),
        "step-then-linear" => ("step, then straight line", "阶跃后直线上升"),
        "broken-line" => ("straight line with a bend", "折线"),
        "warm-up" => ("warm-up", "预热"),
        "warm-up-then-linear" => ("warm-up, then straight line", "预热后直线上升"),
        "two-stage-warm-up" => ("warm-up in two stages", "两段预热"),
        "warm-up-and-ramp" => ("warm-up and ramp", "预热加斜坡"),
        "warm-up-and-steps" => ("warm-up and steps", "预热加阶跃"),
        "late-warm-up" => ("late warm-up", "较晚的预热"),
        "late-warm-up-then-linear" => ("late warm-up, then straight line", "较晚的预热后直线上升"),
        "rises-then-flat" => ("rises, then level", "多段上升后持平"),
        "straight-pieces" => ("straight pieces", "分段直线"),
        "logarithmic" => ("logarithm", "对数"),
        "steps" => ("steps", "阶梯"),
        "steps-and-linear" => ("steps on a straight line", "直线加阶跃"),
        "steps-then-linear" => ("steps, then straight line", "阶跃后直线上升"),
        "per-request" => ("grows with each request", "随请求累计"),
        "per-request-and-linear" => ("with each request, and a line", "随请求累计加直线"),
        "half-a-daily-cycle" => ("half of a daily cycle", "半个日周期"),
        id => (id, id),
    };
    lang.pick(en, zh)
}

fn limit(data: &LeakData, out: &mut Out) {
    let lang = out.lang();
    if data.oom.is_none() && data.verdict != "leak" {
        return;
    }
    out.heading("⏱️", lang.pick("Out of memory", "OOM 预测"));
    if let Some(kb) = data.available_kb {
        let label = lang.pick("Available on the host", "系统可用内存");
        out.pair(2, label, &units::size_kb(kb));
    }
    let Some(oom) = &data.oom else {
        let text = lang.pick(
            "no limit is known: name one with --memory-limit SIZE",
            "上限未知：用 --memory-limit SIZE 指定",
        );
        out.line(2, Paint::Plain, text);
        return;
    };
    let source = match oom.limit_source {
        "option" => "--memory-limit",
        "cgroup" => lang.pick("of cgroup", "cgroup 限额"),
        "host" => lang.pick("of the host", "主机内存"),
        "rlimit" => lang.pick("ulimit of the process", "进程 ulimit"),
        other => other,
    };
    let source = match &oom.limit_cgroup {
        Some(path) => format!("{source} {path}"),
        None => source.to_owned(),
    };
    let size = units::size_kb(oom.limit_bytes / 1024);
    let text = match lang {
        Lang::En => format!("{size} ({source})"),
        Lang::Zh => format!("{size}（{source}）"),
    };
    out.pair(2, lang.pick("Limit", "最先到达的上限"), &text);
    if let Some(total) = oom.total_rate_mib_per_hour {
        let first: Vec<String> = oom
            .competing
            .iter()
            .take(3)
            .map(|one| {
                let pid = one.pid.map_or(String::new(), |pid| format!(" ({pid})"));
                format!("{}{pid}", one.comm.as_deref().unwrap_or("?"))
            })
            .collect();
        let names = first.join(lang.pick(", ", "、"));
        let more = match oom.competing.len().saturating_sub(first.len()) {
            0 => String::new(),
            more => format!(" +{more}"),
        };
        let text = match lang {
            Lang::En => format!("{names}{more}: together {total:.1} MiB/h"),
            Lang::Zh => format!("{names}{more}：合计 {total:.1} MiB/h"),
        };
        let label = lang.pick("Others that leak towards it", "同一上限下的其他泄漏");
        out.pair(2, label, &text);
    }
    let latest = oom.interval.1.map_or_else(
        || lang.pick("never", "永不").to_owned(),
        |latest| units::span(latest * 3600.0),
    );
    let (about, soonest) = (
        units::span(oom.hours * 3600.0),
        units::span(oom.interval.0 * 3600.0),
    );
    let text = match lang {
        Lang::En => format!("out of memory in about {about} (95% interval {soonest} to {latest})"),
        Lang::Zh => format!("预计 {about} 后 OOM（95% 区间 {soonest} 至 {latest}）"),
    };
    out.pair(2, lang.pick("At this rate", "按当前增长速率"), &text);
    let at = oom.at.as_deref().map(super::text::clock);
    let none = msg!("not within 10 years", "10 年内不会");
    let at = at.unwrap_or_else(|| lang.of(&none).to_owned());
    out.pair(2, lang.pick("Estimated time", "OOM 时间估算"), &at);
}

/// Growth by kind of memory; what is not known has no line.
fn kinds(data: &LeakData, out: &mut Out) {
    let Some(parts) = &data.components else {
        return;
    };
    let lang = out.lang();
    let anon = if parts.heap_kb.is_some() {
        "Anonymous mmap"
    } else {
        lang.pick("Anonymous memory (heap, mmap)", "匿名内存（Heap 与 mmap）")
    };
    let heap = parts.heap_kb.unwrap_or(0);
    let beside = parts.anon_kb.map(|anon| anon - heap);
    let rows = [
        (lang.pick("Heap", "Heap 内存"), parts.heap_kb),
        (anon, beside),
        (lang.pick("Files", "文件映射"), parts.file_kb),
        (
            lang.pick("Shared memory", "Shared memory（共享内存）"),
            parts.shmem_kb,
        ),
        (lang.pick("Swap", "Swap（换出）"), parts.swap_kb),
    ];
    let most = rows.iter().filter_map(|row| row.1).max();
    let known = rows.iter().filter_map(|row| Some((row.0, row.1?)));
    let mut headed = false;
    let mut marked = false;
    for (name, kb) in known {
        if !std::mem::replace(&mut headed, true) {
            out.heading("🔍", lang.pick("Growth by kind", "泄漏类型分析"));
        }
        let sign = match kb {
            kb if kb < 0 => "−",
            0 => "",
            _ => "+",
        };
        let size = units::size_kb(kb.unsigned_abs());
        let main = kb > 0 && most == Some(kb) && !std::mem::replace(&mut marked, true);
        let mark = if main {
            lang.pick(" (main contributor)", "（主要贡献）")
        } else {
            ""
        };
        out.hang(2, 4, Paint::Plain, &format!("- {name}: {sign}{size}{mark}"));
    }
}

/// What else it could be.
fn ruled_out(data: &LeakData, out: &mut Out) {
    if data.alternatives.is_empty() {
        return;
    }
    let lang = out.lang();
    out.heading("🔎", lang.pick("What else it could be", "其他可能"));
    for one in &data.alternatives {
        let word = match one.ruled_out {
            Some(true) => lang.pick("ruled out", "已排除"),
            Some(false) => lang.pick("not ruled out", "未排除"),
            None => lang.pick("unknown", "未知"),
        };
        let text = match lang {
            Lang::En => format!("- [{word}] {}", one.text.en),
            Lang::Zh => format!("- [{word}] {}", one.text.zh),
        };
        out.hang(2, 4, Paint::Plain, &text);
    }
}
