//! `trace swap` for people.

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
use crate::report::swapping::SwapTraceData;

impl TextReport for SwapTraceData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        let at = data.start.as_ref().unwrap_or(&report.generated_at);
        let title = lang.pick("Swap by owner", "按归属统计的换入换出");
        out.title(title, &super::text::clock(at));
        let host = format!("{}, Linux {}", report.host.hostname, report.host.kernel);
        out.pair(0, Word::Host.text(lang), &host);
        if let Some(seconds) = data.duration_s {
            let label = lang.pick("Traced", "跟踪时长");
            out.pair(0, label, &units::span(seconds));
        }
        totals(report, out);
        out.rule();
        processes(report, out);
        findings::write(&report.findings, out);
        for note in &data.notes {
            out.hang(0, 2, Paint::Dim, note);
        }
        out.rule();
        super::account::write(&report.accounting, out);
    }
}

fn pages(count: u64, page_size: Option<u64>) -> String {
    units::size_pages(count, page_size).unwrap_or_else(|| count.to_string())
}

fn totals(report: &Report<SwapTraceData>, out: &mut Out) {
    let lang = out.lang();
    let totals = &report.data.totals;
    let size = report.host.page_size;
    let line = |ours: u64, kernel: Option<u64>, counter: &str, off: Option<f64>| {
        let off = off.map_or_else(String::new, |off| format!(", {:+.2}%", off * 100.0));
        let kernel = kernel.map_or_else(|| lang.unknown().to_owned(), |n| n.to_string());
        match lang {
            Lang::En => format!(
                "{ours} pages ({}); the kernel counts {counter} +{kernel}{off}",
                pages(ours, size)
            ),
            Lang::Zh => format!(
                "{ours} 页（{}）；内核计数 {counter} +{kernel}{off}",
                pages(ours, size)
            ),
        }
    };
    let text = line(
        totals.swap_out_pages,
        totals.pswpout,
        "pswpout",
        totals.out_difference,
    );
    out.pair(0, lang.pick("Out", "换出"), &text);
    let text = line(
        totals.swap_in_pages,
        totals.pswpin,
        "pswpin",
        totals.in_difference,
    );
    out.pair(0, lang.pick("In", "换入"), &text);
    let stored = totals.zswpout.unwrap_or(0) + totals.zswpin.unwrap_or(0);
    if stored > 0 {
        let (to, from) = (totals.zswpout.unwrap_or(0), totals.zswpin.unwrap_or(0));
        let text = match lang {
            Lang::En => format!("{to} pages in, {from} out"),
            Lang::Zh => format!("存入 {to} 页，取出 {from} 页"),
        };
        out.pair(0, "zswap", &text);
    }
}

fn processes(report: &Report<SwapTraceData>, out: &mut Out) {
    let lang = out.lang();
    let data = &report.data;
    if data.processes.is_empty() {
        let text = lang.pick(
            "No process had pages swapped.",
            "没有进程的页面被换入或换出。",
        );
        out.line(0, Paint::Good, text);
        return;
    }
    out.heading("📋", lang.pick("Whose pages", "页面归属"));
    let speed =
        |kb: Option<f64>| kb.map_or_else(String::new, |kb| format!("{:.1} MiB/s", kb / 1024.0));
    let top = if data.top == 0 {
        data.processes.len()
    } else {
        data.top
    };
    let rows = data.processes.iter().take(top).map(|row| {
        let share = row
            .share
            .map_or_else(String::new, |share| format!("{:.1}%", share * 100.0));
        let cells = vec![
            row.pid.to_string(),
            row.comm.clone(),
            row.swap_out_pages.to_string(),
            row.swap_in_pages.to_string(),
            share,
            speed(row.swap_out_kb_per_s),
            speed(row.swap_in_kb_per_s),
            row.cgroup.clone().unwrap_or_default(),
        ];
        (Paint::Plain, cells)
    });
    let table = Table {
        columns: vec![
            Column::figures("PID", 0),
            Column::text(lang.pick("Name", "名称"), 8, 0),
            Column::figures(lang.pick("Pages out", "换出页"), 0),
            Column::figures(lang.pick("Pages in", "换入页"), 0),
            Column::figures(lang.pick("Share", "占比"), 2),
            Column::figures(lang.pick("Out", "换出速率"), 3),
            Column::figures(lang.pick("In", "换入速率"), 3),
            Column::text("Cgroup", 8, 4),
        ],
        rows: rows.collect(),
    };
    out.table(&table);
    for row in data.processes.iter().take(top) {
        let regions = row.regions.iter().take(3).map(|region| {
            let path = region.path.as_deref().unwrap_or_default();
            let size = units::size_kb(region.change_kb.unsigned_abs());
            let sign = if region.change_kb < 0 { '-' } else { '+' };
            format!("{} {path} {sign}{size}", region.kind).replace("  ", " ")
        });
        let regions: Vec<String> = regions.collect();
        if !regions.is_empty() {
            let what = lang.pick("change of swap by region", "各区域 swap 变化");
            let text = format!("{} ({}) {what}: {}", row.comm, row.pid, regions.join(", "));
            out.hang(2, 4, Paint::Dim, &text);
        }
    }
    let left = data.processes.len().saturating_sub(top);
    if left > 0 {
        let text = match lang {
            Lang::En => format!("and {left} more (--top)"),
            Lang::Zh => format!("另有 {left} 个 (--top)"),
        };
        out.line(2, Paint::Dim, &text);
    }
}
