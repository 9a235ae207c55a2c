//! `detect oom-risk` for people: a table of who meets which limit when, then what each of the first ones rests on.

use super::TextReport;
use super::account;
use super::findings;
use super::lang::Lang;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::text::clock;
use super::units;
use crate::msg;
use crate::report::Msg;
use crate::report::Report;
use crate::report::plural;
use crate::report::risk::Risk;
use crate::report::risk::RiskData;
use crate::report::shown;

/// Rows that are told in full below the table.
const DETAILS: usize = 3;
/// Of the others that eat the same memory, how many are named.
const COMPETITORS: usize = 3;
/// Nearer than this is painted, hours.
const SOON_H: f64 = 24.0;

impl TextReport for RiskData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        out.title(
            lang.pick("OOM risk", "OOM 风险"),
            &clock(&report.generated_at),
        );
        about(data, out);
        out.rule();
        if data.risks.is_empty() {
            out.line(
                0,
                Paint::Good,
                lang.pick(
                    "Nothing leaks towards a limit, and nothing stands near one.",
                    "没有发现趋向上限的泄漏，也没有接近上限的进程或 cgroup。",
                ),
            );
        } else {
            table(data, out);
            for risk in told(data) {
                out.rule();
                detail(risk, out);
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

/// The first row of each of the first limits.
fn told(data: &RiskData) -> Vec<&Risk> {
    let mut rows: Vec<&Risk> = Vec::new();
    for risk in data.risks.iter().filter(|risk| risk.reason == "growth") {
        let same = |other: &&Risk| {
            (other.limit_source, &other.limit_cgroup) == (risk.limit_source, &risk.limit_cgroup)
                && (risk.limit_source != Some("rlimit") || other.pid == risk.pid)
        };
        if rows.len() < DETAILS && !rows.iter().any(same) {
            rows.push(risk);
        }
    }
    rows
}

/// A rate with the digits that count.
fn mib(rate: f64) -> String {
    if rate.abs() < 100.0 {
        format!("{rate:.2}")
    } else {
        format!("{rate:.0}")
    }
}

fn bytes(bytes: u64) -> String {
    units::size_kb(bytes / 1024)
}

fn about(data: &RiskData, out: &mut Out) {
    let lang = out.lang();
    let window = &data.window;
    if let (Some(start), Some(end)) = (&window.start, &window.end) {
        let text = format!("{} – {}", clock(start), clock(end));
        out.pair(0, lang.pick("Window", "检测时间范围"), &text);
    }
    let (processes, cgroups) = (window.processes, window.cgroups);
    let (leaks, undecided) = (window.leaks, window.undecided);
    let judged = msg!(
        "{processes} processes, {cgroups} cgroups: {leaks} leak, {undecided} cannot be told",
        "{processes} 个进程、{cgroups} 个 cgroup：{leaks} 个泄漏，{undecided} 个无法判断"
    );
    out.pair(0, lang.pick("Judged", "判断对象"), lang.of(&judged));
    let host = &data.host;
    if let (Some(limit), Some(left)) = (host.limit_bytes, host.left_bytes) {
        let (limit, left) = (bytes(limit), bytes(left));
        let text = msg!(
            "{limit} RAM and swap, {left} left",
            "内存与交换空间共 {limit}，剩余 {left}"
        );
        out.pair(0, lang.pick("Host", "主机"), lang.of(&text));
    }
}

/// Who the row is about.
fn who(risk: &Risk, lang: Lang) -> String {
    match (risk.kind, &risk.comm, risk.pid, &risk.cgroup) {
        ("process", Some(comm), Some(pid), _) => format!("{comm} ({pid})"),
        ("cgroup", _, _, Some(path)) => path.clone(),
        _ => lang.pick("host", "主机").to_owned(),
    }
}

/// The limit that is met first, in few columns.
fn limit(risk: &Risk, lang: Lang) -> String {
    let size = risk.limit_bytes.map(bytes).unwrap_or_default();
    let what = match (risk.limit_source, risk.limit_name) {
        (Some("cgroup"), Some(name)) => match (&risk.limit_cgroup, risk.kind) {
            (Some(path), "process") => path.clone(),
            (Some(path), _) if risk.cgroup.as_ref() != Some(path) => path.clone(),
            _ => name.to_owned(),
        },
        (Some("host"), _) => lang.pick("host", "主机").to_owned(),
        (_, Some(name)) => name.to_owned(),
        _ => String::new(),
    };
    format!("{size} {what}")
}

fn span(hours: f64) -> String {
    units::span(hours * 3600.0)
}

fn table(data: &RiskData, out: &mut Out) {
    let lang = out.lang();
    let mut table = Table {
        columns: vec![
            Column::text(lang.pick("Who", "对象"), 12, 0),
            Column::figures("MiB/h", 0),
            Column::figures(lang.pick("In", "剩余时间"), 0),
            Column::figures(lang.pick("Soonest", "最早"), 2),
            Column::figures(lang.pick("Used", "已用"), 1),
            Column::text(lang.pick("Limit", "上限"), 12, 0),
        ],
        rows: Vec::new(),
    };
    let rows = shown(data.top, data.risks.len());
    for risk in data.risks.iter().take(rows) {
        let paint = match risk.hours {
            Some(hours) if hours < SOON_H && risk.reason == "growth" => Paint::Bad,
            Some(_) if risk.reason == "growth" => Paint::Warn,
            _ => Paint::Plain,
        };
        let rate = risk.rate_mib_per_hour;
        let doubt = if risk.reason == "undecided" { "?" } else { "" };
        let soonest = risk.interval.map(|interval| span(interval.0));
        let share = risk
            .used_share
            .map(|share| format!("{:.0}%", share * 100.0));
        let none = || "-".to_owned();
        table.rows.push((
            paint,
            vec![
                who(risk, lang),
                rate.map_or_else(none, |rate| format!("{}{doubt}", mib(rate))),
                risk.hours
                    .map_or_else(none, |hours| format!("{}{doubt}", span(hours))),
                soonest.unwrap_or_else(none),
                share.unwrap_or_default(),
                limit(risk, lang),
            ],
        ));
    }
    out.table(&table);
    let hidden = data.risks.len() - rows;
    if hidden > 0 {
        let text = msg!(
            "… and {hidden} more (--top 0)",
            "……另有 {hidden} 行（--top 0）"
        );
        out.line(2, Paint::Dim, lang.of(&text));
    }
    if data.risks.iter().any(|risk| risk.reason == "undecided") {
        out.line(
            2,
            Paint::Dim,
            lang.pick("?: grows, and may level off", "?：正在增长，也可能趋于平稳"),
        );
    }
    if data.risks.iter().any(|risk| risk.hours.is_none()) {
        out.line(
            2,
            Paint::Dim,
            lang.pick(
                "-: near its limit without growth, so there is no time",
                "-：接近上限但没有增长，因此没有时间",
            ),
        );
    }
}

/// What a row rests on.
fn detail(risk: &Risk, out: &mut Out) {
    let lang = out.lang();
    out.heading("⏱️", &who(risk, lang));
    if let (Some(rate), Some([low, high])) = (risk.rate_mib_per_hour, risk.rate_interval) {
        let (rate, low, high) = (mib(rate), mib(low), mib(high));
        let text = msg!(
            "{rate} MiB/h (95% interval {low} – {high})",
            "{rate} MiB/h（95% 区间 {low} – {high}）"
        );
        out.pair(2, lang.pick("Growth", "增长速率"), lang.of(&text));
    }
    if let Some(probability) = risk.leak_probability {
        let percent = format!("{:.0}%", probability * 100.0);
        out.pair(2, lang.pick("A leak", "泄漏概率"), &percent);
    }
    out.pair(2, lang.pick("Limit", "上限"), lang.of(&limit_line(risk)));
    if let Some(hours) = risk.hours {
        out.pair(
            2,
            lang.pick("Met in about", "预计到达"),
            lang.of(&when(risk, hours)),
        );
    }
    if let Some(warning) = &risk.early_warning {
        let (high, when) = (bytes(warning.limit_bytes), span(warning.hours));
        let text = msg!(
            "memory.high {high} in about {when}: slowed down from then on",
            "约 {when} 后达到 memory.high {high}，此后分配变慢"
        );
        out.pair(2, lang.pick("Before that", "在此之前"), lang.of(&text));
    }
    if !risk.competing.is_empty() {
        out.pair(
            2,
            lang.pick("Beside it", "共同消耗"),
            lang.of(&competing(risk)),
        );
    }
    let text = match &risk.victim {
        Some(victim) => {
            let (comm, pid, size) = (&victim.comm, victim.pid, bytes(victim.bytes));
            let score = victim.score;
            let adj = victim.oom_score_adj.unwrap_or(0);
            let mut text = msg!(
                "{comm} ({pid}), {size} then, badness {score}‰, oom_score_adj {adj}",
                "{comm}（{pid}），届时 {size}，badness {score}‰，oom_score_adj {adj}"
            );
            if victim.with > 0 {
                let n = victim.with;
                let s = plural(u64::try_from(n).unwrap_or(0));
                text.en.push_str(&format!(
                    ", and {n} other{s} of its cgroup (memory.oom.group)"
                ));
                text.zh.push_str(&format!(
                    "，以及同一 cgroup 的 {n} 个进程（memory.oom.group）"
                ));
            }
            text
        }
        None if risk.outcome == Some("allocation-fails") => msg!(
            "nobody: its allocations fail (ENOMEM)",
            "不会终止进程：内存分配失败（ENOMEM）"
        ),
        None => msg!("not known", "未知"),
    };
    out.pair(2, lang.pick("Likely victim", "可能被终止"), lang.of(&text));
}

fn limit_line(risk: &Risk) -> Msg {
    let name = risk.limit_name.unwrap_or_default();
    let size = risk.limit_bytes.map(bytes).unwrap_or_default();
    let used = risk.used_bytes.map(bytes).unwrap_or_default();
    let left = risk.left_bytes.map(bytes).unwrap_or_default();
    let of = risk.limit_cgroup.as_deref().unwrap_or_default();
    let blank = if of.is_empty() { "" } else { " " };
    msg!(
        "{size}, {name}{blank}{of}; {used} used, {left} left",
        "{size}，{name}{blank}{of}；已用 {used}，剩余 {left}"
    )
}

fn when(risk: &Risk, hours: f64) -> Msg {
    let about = span(hours);
    let mut text = msg!("{about}", "约 {about} 后");
    if let Some((soonest, latest)) = risk.interval {
        let soonest = span(soonest);
        let latest = latest.map(span);
        let (en, zh) = latest.map_or(("never".to_owned(), "永不".to_owned()), |latest| {
            (latest.clone(), latest)
        });
        text.en.push_str(&format!(" ({soonest} to {en})"));
        text.zh.push_str(&format!("（{soonest} 至 {zh}）"));
    }
    let at = risk.at.as_deref().map(clock);
    let none = msg!("not within 10 years", "10 年内不会");
    text.en
        .push_str(&format!(", {}", at.as_ref().unwrap_or(&none.en)));
    text.zh
        .push_str(&format!("，{}", at.as_ref().unwrap_or(&none.zh)));
    text
}

fn competing(risk: &Risk) -> Msg {
    let names = risk.competing.iter().take(COMPETITORS).map(|one| {
        let rate = mib(one.rate_mib_per_hour);
        let who = match (&one.comm, one.pid, &one.cgroup) {
            (Some(comm), Some(pid), _) => format!("{comm} ({pid})"),
            (_, _, Some(path)) => path.clone(),
            _ => "host".to_owned(),
        };
        format!("{who} {rate} MiB/h")
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let more = risk.competing.len().saturating_sub(COMPETITORS);
    let total = mib(risk.total_rate_mib_per_hour.unwrap_or(0.0));
    let rest = if more > 0 {
        msg!(" and {more} more", " 等另外 {more} 个")
    } else {
        msg!("", "")
    };
    Msg {
        en: format!("{names}{}; {total} MiB/h together", rest.en),
        zh: format!("{names}{}；合计 {total} MiB/h", rest.zh),
    }
}
