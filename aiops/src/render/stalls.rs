//! `trace reclaim` for people: what waited, who, for whose limit, the longest.

use super::Lang;
use super::TextReport;
use super::findings;
use super::lang::Word;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::units;
use crate::report::Report;
use crate::report::stalls::Latency;
use crate::report::stalls::ReclaimData;

/// Functions of a stack that are shown.
const FRAMES: usize = 8;
/// Long stalls that are shown.
const LONG: usize = 5;

impl TextReport for ReclaimData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        let at = data.start.as_ref().unwrap_or(&report.generated_at);
        let title = lang.pick("Waiting for memory", "内存回收停顿");
        out.title(title, &super::text::clock(at));
        let host = format!("{}, Linux {}", report.host.hostname, report.host.kernel);
        out.pair(0, Word::Host.text(lang), &host);
        if let Some(seconds) = data.duration_s {
            let label = lang.pick("Traced", "跟踪时长");
            out.pair(0, label, &units::span(seconds));
        }
        out.rule();
        kinds(data, out);
        processes(data, out);
        cgroups(data, out);
        longest(data, out);
        compared(data, out);
        findings::write(&report.findings, out);
        for note in &data.notes {
            out.hang(0, 2, Paint::Dim, note);
        }
        out.rule();
        super::account::write(&report.accounting, out);
    }
}

fn kind(kind: &str, background: bool, lang: Lang) -> String {
    let name = match kind {
        "direct" => lang.pick("direct reclaim", "直接回收"),
        "memcg" => lang.pick("cgroup limit", "cgroup 上限"),
        "node" => lang.pick("node reclaim", "节点回收"),
        "kswapd" => "kswapd",
        "compaction" => lang.pick("compaction", "内存规整"),
        "throttled" => lang.pick("throttled", "限速睡眠"),
        other => other,
    };
    if background && kind != "kswapd" {
        format!("{name} {}", lang.pick("(background)", "（后台）"))
    } else {
        name.to_owned()
    }
}

/// A latency with the digits that count.
fn micros(us: Option<f64>) -> String {
    us.map_or_else(String::new, |us| {
        if us < 1000.0 {
            format!("{us:.0} µs")
        } else if us < 1e6 {
            format!("{:.1} ms", us / 1e3)
        } else {
            units::span(us / 1e6)
        }
    })
}

fn latency_columns(lang: Lang) -> Vec<Column> {
    vec![
        Column::figures(lang.pick("Waits", "次数"), 0),
        Column::figures(lang.pick("Total", "总时长"), 0),
        Column::figures("p50", 3),
        Column::figures("p90", 5),
        Column::figures("p99", 1),
        Column::figures(lang.pick("Longest", "最长"), 2),
    ]
}

fn latency(row: &Latency) -> Vec<String> {
    vec![
        row.count.to_string(),
        units::span(row.total_ms / 1e3),
        micros(row.p50_us),
        micros(row.p90_us),
        micros(row.p99_us),
        micros(row.max_us),
    ]
}

fn count(value: Option<u64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(String::new, |share| format!("{:.1}%", share * 100.0))
}

fn kinds(data: &ReclaimData, out: &mut Out) {
    let lang = out.lang();
    if data.kinds.is_empty() {
        let text = lang.pick("Nothing waited for memory.", "没有任务等待内存。");
        out.line(0, Paint::Good, text);
        return;
    }
    let mut columns = vec![Column::text(lang.pick("Kind", "类型"), 10, 0)];
    columns.extend(latency_columns(lang));
    columns.push(Column::figures(lang.pick("Scanned", "扫描页"), 6));
    columns.push(Column::figures(lang.pick("Reclaimed", "回收页"), 4));
    columns.push(Column::figures(lang.pick("Yield", "效率"), 4));
    let rows = data.kinds.iter().map(|row| {
        let mut cells = vec![kind(row.kind, row.background, lang)];
        cells.extend(latency(&row.latency));
        cells.push(count(row.pages.scanned_pages));
        cells.push(count(row.pages.reclaimed_pages));
        cells.push(percent(row.pages.efficiency));
        (Paint::Plain, cells)
    });
    let rows = rows.collect();
    out.table(&Table { columns, rows });
    if data.unfinished > 0 {
        let n = data.unfinished;
        let text = match lang {
            Lang::En => format!("{n} had not ended when tracing ended, and are not in the figures"),
            Lang::Zh => format!("跟踪结束时仍有 {n} 次未完成，未计入"),
        };
        out.hang(2, 2, Paint::Dim, &text);
    }
}

fn shown(top: usize, rows: usize) -> usize {
    if top == 0 { rows } else { top }
}

fn processes(data: &ReclaimData, out: &mut Out) {
    let lang = out.lang();
    if data.processes.is_empty() {
        return;
    }
    out.heading("📋", lang.pick("Who waited", "等待内存的进程"));
    let mut columns = vec![
        Column::figures("PID", 0),
        Column::text(lang.pick("Name", "名称"), 8, 0),
    ];
    columns.extend(latency_columns(lang));
    columns.push(Column::figures(lang.pick("of time", "时间占比"), 1));
    columns.push(Column::text(lang.pick("Limit of", "受限于"), 8, 4));
    let top = shown(data.top, data.processes.len());
    let rows = data.processes.iter().take(top).map(|row| {
        let mut cells = vec![row.pid.to_string(), row.comm.clone()];
        cells.extend(latency(&row.latency));
        cells.push(percent(row.stalled_share));
        cells.push(row.limited_by.join(", "));
        (Paint::Plain, cells)
    });
    let rows = rows.collect();
    out.table(&Table { columns, rows });
    more(data.processes.len().saturating_sub(top), out);
}

fn more(left: usize, out: &mut Out) {
    if left == 0 {
        return;
    }
    let text = match out.lang() {
        Lang::En => format!("and {left} more (--top)"),
        Lang::Zh => format!("另有 {left} 个 (--top)"),
    };
    out.line(2, Paint::Dim, &text);
}

fn cgroups(data: &ReclaimData, out: &mut Out) {
    let lang = out.lang();
    if !data.cgroups.iter().any(|row| row.memcg_ms > 0.0) {
        return;
    }
    out.heading("📦", lang.pick("Cgroups", "Cgroup"));
    let mut columns = vec![Column::text("Cgroup", 10, 0)];
    columns.extend(latency_columns(lang));
    columns.push(Column::text(lang.pick("Limit of", "受限于"), 8, 1));
    columns.push(Column::figures(lang.pick("Limit", "上限"), 4));
    columns.push(Column::figures(lang.pick("Hits", "触顶次数"), 4));
    let top = shown(data.top, data.cgroups.len());
    let rows = data.cgroups.iter().take(top).map(|row| {
        let unknown = || format!("#{}", row.id);
        let mut cells = vec![row.cgroup.clone().unwrap_or_else(unknown)];
        cells.extend(latency(&row.latency));
        cells.push(row.limited_by.clone().unwrap_or_default());
        cells.push(row.limit_kb.map_or_else(String::new, units::size_kb));
        cells.push(count(row.limit_hits));
        (Paint::Plain, cells)
    });
    let rows = rows.collect();
    out.table(&Table { columns, rows });
    more(data.cgroups.len().saturating_sub(top), out);
}

fn longest(data: &ReclaimData, out: &mut Out) {
    let lang = out.lang();
    if data.longest.is_empty() {
        return;
    }
    out.heading("⏱", lang.pick("Longest waits", "最长的等待"));
    for row in data.longest.iter().take(LONG) {
        let order = row.order.map_or_else(String::new, |order| {
            format!(", {} {order}", lang.pick("order", "阶"))
        });
        let flags = row
            .gfp_flags
            .as_ref()
            .map_or_else(String::new, |flags| format!(", {flags}"));
        let text = format!(
            "{}  {} (pid {})  {}{order}{flags}",
            micros(Some(row.ms * 1e3)),
            row.comm,
            row.pid,
            kind(row.kind, false, lang)
        );
        out.hang(2, 4, Paint::Plain, &text);
        if !row.stack.is_empty() {
            let stack: Vec<&str> = row.stack.iter().take(FRAMES).map(String::as_str).collect();
            out.hang(4, 6, Paint::Dim, &stack.join(" < "));
        }
    }
}

fn compared(data: &ReclaimData, out: &mut Out) {
    let lang = out.lang();
    let parts = data.kernel.iter().filter_map(|row| {
        let (counter, kernel, seen) = (row.counter, row.kernel?, row.seen);
        Some(match lang {
            Lang::En => format!("{counter} +{kernel} (seen {seen})"),
            Lang::Zh => format!("{counter} +{kernel}（看到 {seen}）"),
        })
    });
    let parts: Vec<String> = parts.collect();
    if !parts.is_empty() {
        let label = lang.pick("Kernel's own counts", "内核自身计数");
        out.pair(0, label, &parts.join(lang.pick("; ", "；")));
    }
}
