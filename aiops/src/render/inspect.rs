//! `inspect memory` for people and for programs.
//!
//! JSON is written mapping by mapping: a process may have 65,530 of them, and all of them as one tree of
//! JSON values would take some hundred MiB.

mod tables;

use super::findings;
use super::lang::Group;
use super::lang::term;
use super::units::size;
use std::io;

use super::Format;
use super::Style;
use super::TextReport;
use super::json;
use super::lang::Lang;
use super::text::Out;
use super::text::Paint;
use super::units;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Report;
use crate::report::Severity;
use crate::report::inspect::Change;
use crate::report::inspect::FailReason;
use crate::report::inspect::Figures;
use crate::report::inspect::InspectData;
use crate::report::inspect::ProcessInfo;
use crate::report::inspect::Reading;

/// Kinds that the answer names at most.
const NAMED: usize = 4;

impl TextReport for InspectData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let (data, lang) = (&report.data, out.lang());
        let what = match &data.process {
            Some(process) => {
                let name = process.who.comm.clone().unwrap_or_default();
                let pid = process.who.pid.unwrap_or(0);
                lang.of(&msg!("Memory of {name} ({pid})", "{name}（{pid}）的内存"))
                    .to_owned()
            }
            None => {
                let count = data.processes.len();
                lang.of(&msg!("Memory of {count} processes", "{count} 个进程的内存"))
                    .to_owned()
            }
        };
        let at = data.at.as_ref().unwrap_or(&report.generated_at);
        out.title(&what, &super::text::clock(at));
        for note in &data.notes {
            out.hang(0, 2, Paint::Warn, note);
        }
        if let Some(process) = &data.process {
            about(process, out);
        }
        answer(data, &report.findings, out);
        if data.processes.len() > 1 {
            out.rule();
            tables::processes(data, out);
        }
        out.rule();
        tables::kinds(data, out);
        if let Some(nodes) = data.node_kb.as_ref().filter(|nodes| nodes.len() > 1) {
            let nodes = nodes.iter().enumerate();
            let nodes: Vec<String> = nodes
                .map(|(node, kb)| format!("N{node} {}", units::size_kb(*kb)))
                .collect();
            out.pair(2, lang.pick("NUMA nodes", "NUMA 节点"), &nodes.join(", "));
        }
        if !data.modules.is_empty() {
            out.rule();
            tables::modules(data, out);
        }
        if data.view.maps || data.view.detail {
            out.rule();
            tables::mappings(data, out);
        }
        if let Some(reading) = &data.watch {
            out.rule();
            let quiet = reading.since_start.as_ref();
            let quiet = quiet.is_some_and(Change::is_none);
            tables::watch(reading, quiet, data.view.top, out);
        }
        findings::write(&report.findings, out);
        out.rule();
        super::account::write(&report.accounting, out);
    }
}

/// Who it is.
fn about(process: &ProcessInfo, out: &mut Out) {
    let lang = out.lang();
    let who = &process.who;
    let user = who
        .user
        .as_ref()
        .map(|user| msg!("user {user}", "用户 {user}"));
    let state = process
        .state
        .map(|state| msg!("state {state}", "状态 {state}"));
    let threads = process
        .threads
        .map(|count| msg!("threads {count}", "线程 {count}"));
    let age = process.age_s.map(units::span);
    let age = age.map(|age| msg!("running for {age}", "已运行 {age}"));
    let score = process.oom_score.zip(process.oom_score_adj);
    let score = score.map(|(score, adj)| {
        msg!(
            "oom_score {score} (adj {adj})",
            "oom_score {score}（adj {adj}）"
        )
    });
    let facts: Vec<String> = [user, state, threads, age, score]
        .iter()
        .flatten()
        .map(|fact| lang.of(fact).to_owned())
        .collect();
    if !facts.is_empty() {
        out.line(0, Paint::Plain, &facts.join(" · "));
    }
    if let Some(cmdline) = &who.cmdline {
        let text = format!("{}{}{cmdline}", lang.pick("Command", "命令"), out.colon());
        out.limited(0, 4, Paint::Plain, &text, 2);
    }
    let place = who.container.as_ref().or(who.unit.as_ref());
    if let Some(cgroup) = &who.cgroup {
        let place = place.map_or_else(String::new, |place| format!(" ({place})"));
        out.pair(0, "cgroup", &format!("{cgroup}{place}"));
    }
    if let Some(limits) = &who.limits
        && let (Some(usage), Some(limit)) = (limits.usage_kb, limits.limit_kb)
    {
        let share = units::share(usage, limit).unwrap_or_default();
        let text = msg!(
            "{} of {} used ({share})",
            "已用 {}，上限 {}（{share}）",
            units::size_kb(usage),
            units::size_kb(limit)
        );
        out.pair(0, lang.pick("Cgroup limit", "cgroup 上限"), lang.of(&text));
    }
}

/// So many mappings.
fn mappings(count: u64, lang: Lang) -> String {
    let text = match count {
        1 => msg!("1 mapping", "1 个映射"),
        _ => msg!("{count} mappings", "{count} 个映射"),
    };
    lang.of(&text).to_owned()
}

/// What it is made of, and what is wrong with it.
fn answer(data: &InspectData, findings: &[Finding], out: &mut Out) {
    let lang = out.lang();
    let totals = &data.totals.metrics;
    let text = msg!(
        "RSS {} · PSS {} · USS {} · swap {} · {} of {}",
        "RSS {} · PSS {} · USS {} · swap {} · {}，地址空间 {}",
        size(totals.rss_kb, lang),
        size(totals.pss_kb, lang),
        size(data.totals.uss_kb, lang),
        size(totals.swap_kb, lang),
        mappings(data.mappings.len() as u64, lang),
        size(totals.size_kb, lang)
    );
    out.line(0, Paint::Bold, lang.of(&text));
    let whole = totals.pss_kb.or(totals.rss_kb).unwrap_or(0);
    let parts = data.by_kind.iter().filter_map(|row| {
        let metrics = &row.figures.metrics;
        let part = metrics.pss_kb.or(metrics.rss_kb)?;
        let share = units::share(part, whole).filter(|_| part > 0)?;
        Some(format!(
            "{} {share}",
            term(Group::Region, row.kind.id(), lang)
        ))
    });
    let parts: Vec<String> = parts.take(NAMED).collect();
    if !parts.is_empty() {
        let parts = parts.join(lang.pick(", ", "，"));
        out.pair(0, lang.pick("Made of", "构成"), &parts);
    }
    if data.processes.len() > 1
        && let (Some(rss), Some(pss)) = (totals.rss_kb, totals.pss_kb)
    {
        let more = units::size_kb(rss.saturating_sub(pss));
        out.line(
            0,
            Paint::Dim,
            lang.of(&msg!(
                "RSS counts shared pages once for each process; PSS divides them among all that map them: {more} of the RSS sum is counted again or belongs to others. USS is what ends with the processes for sure.",
                "RSS 对共享页按进程重复计数；PSS 由所有映射者均摊：RSS 之和中有 {more} 属重复计数或归其他进程。USS 是进程退出后一定释放的部分。"
            )),
        );
    }
    if data.maps_only {
        out.line(
            0,
            Paint::Warn,
            lang.pick(
                "smaps could not be read: only the mappings are known, their memory is not. Run as root or with CAP_SYS_PTRACE.",
                "无法读取 smaps：只知道映射，不知道其占用。请以 root 或具备 CAP_SYS_PTRACE 运行。",
            ),
        );
    }
    check(data, out);
    for failed in &data.failed {
        let why = lang.of(&reason(failed.reason)).to_owned();
        out.line(0, Paint::Warn, &format!("{}: {why}", failed.pid));
    }
    for finding in findings {
        let mark = if out.unicode() { "⚠ " } else { "! " };
        let text = format!("{mark}{}", lang.of(&finding.title));
        out.hang(0, 2, paint(finding.severity), &text);
    }
}

/// Whether the sums are the kernel's own.
fn check(data: &InspectData, out: &mut Out) {
    let lang = out.lang();
    let (text, paint) = match data.totals_equal_rollup {
        None => return,
        Some(true) => (
            msg!(
                "The sums equal the kernel's own (smaps_rollup)",
                "合计与内核自身统计（smaps_rollup）一致"
            ),
            Paint::Dim,
        ),
        Some(false) => {
            let wrong = data.differences.iter().filter(|one| !one.rounding);
            let names: Vec<String> = wrong
                .map(|one| format!("{} {}/{}", one.figure, one.sum_kb, one.rollup_kb))
                .take(NAMED)
                .collect();
            let names = names.join(", ");
            (
                msg!(
                    "It changed while it was read: sums and smaps_rollup differ ({names})",
                    "读取期间进程内存有变化：合计与 smaps_rollup 不同（{names}）"
                ),
                Paint::Dim,
            )
        }
    };
    out.line(0, paint, lang.of(&text));
}

/// Why a process could not be read.
pub fn reason(reason: FailReason) -> Msg {
    match reason {
        FailReason::Gone => msg!("no such process", "进程不存在"),
        FailReason::Denied => msg!("permission denied", "权限不足"),
        FailReason::KernelThread => msg!(
            "a kernel thread, which has no memory of its own",
            "内核线程，没有自己的内存"
        ),
        FailReason::Zombie => msg!(
            "a zombie: it has ended and has no memory any more",
            "僵尸进程：已结束，不再占有内存"
        ),
        FailReason::Failed => msg!("its files could not be understood", "无法解析其文件"),
    }
}

fn paint(severity: Severity) -> Paint {
    match severity {
        Severity::Info => Paint::Plain,
        Severity::Warning => Paint::Warn,
        Severity::Critical => Paint::Bad,
    }
}

/// One reading of `--watch`, without a frame.
#[must_use]
pub fn reading(reading: &Reading, top: usize, style: &Style) -> String {
    let mut out = Out::bare(style);
    tables::watch(reading, reading.unchanged(), top, &mut out);
    out.finish()
}

/// One reading as a line of JSON, `{"type":"reading",…}`, with its newline.
///
/// # Errors
/// Not for these data.
pub fn reading_line(reading: &Reading, lang: Lang) -> super::Result<String> {
    json::line("reading", reading, lang)
}

/// The report as JSON, piece by piece.
///
/// # Errors
/// What `write` says.
pub fn write_json(
    mut report: Report<InspectData>,
    format: Format,
    style: &Style,
    write: &mut dyn FnMut(&str) -> io::Result<()>,
) -> io::Result<()> {
    let rows = std::mem::take(&mut report.data.mappings);
    let text = super::report(&report, format, style).map_err(io::Error::other)?;
    // Quotes inside of texts are escaped, so that this stands only where the list is.
    let (empty, between) = match format {
        Format::Jsonl => ("\"mappings\":[]", ""),
        Format::Text | Format::Json | Format::Csv => ("\"mappings\": []", "\n      "),
    };
    let Some((head, tail)) = text.split_once(empty).filter(|_| !rows.is_empty()) else {
        return write(&text);
    };
    write(head)?;
    write(&empty[..empty.len() - 1])?;
    let mut line = String::new();
    for (at, row) in rows.iter().enumerate() {
        line.clear();
        if at > 0 {
            line.push(',');
        }
        line.push_str(between);
        let value = json::value(row, style.lang).map_err(io::Error::other)?;
        let gap = if between.is_empty() { "" } else { " " };
        json::compact(&value, gap, &mut line);
        write(&line)?;
    }
    write(if between.is_empty() { "]" } else { "\n    ]" })?;
    write(tail)
}

/// `12.5 MiB` with a sign.
fn signed(kb: i64) -> String {
    let size = units::size_kb(kb.unsigned_abs());
    match kb.signum() {
        0 => size,
        1 => format!("+{size}"),
        _ => format!("-{size}"),
    }
}

/// Sum of figures for a watch line.
fn sums(figures: &Figures, lang: Lang) -> String {
    let metrics = &figures.metrics;
    format!(
        "RSS {} · PSS {} · swap {}",
        size(metrics.rss_kb, lang),
        size(metrics.pss_kb, lang),
        size(metrics.swap_kb, lang)
    )
}

#[cfg(test)]
mod tests;
