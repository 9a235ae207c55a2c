//! `detect memory-leak` where many are judged: how many of each verdict, and a row for each.

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
use crate::report::Report;
use crate::report::leak::LeakData;
use crate::report::leak::LeaksData;
use crate::report::shown;

impl TextReport for LeaksData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        out.title(
            lang.pick("Memory leaks", "内存泄漏检测"),
            &clock(&report.generated_at),
        );
        if let (Some(start), Some(end)) = (&data.start, &data.end) {
            let (start, end, ticks) = (clock(start), clock(end), data.ticks);
            let text = match lang {
                Lang::En => format!("{start} – {end}, {ticks} samples"),
                Lang::Zh => format!("{start} – {end}，{ticks} 次采样"),
            };
            out.pair(0, lang.pick("Window", "检测时间范围"), &text);
        }
        let verdicts = &data.verdicts;
        let text = match lang {
            Lang::En => format!(
                "{} leak, {} cannot be told yet, {} do not",
                verdicts.leak, verdicts.inconclusive, verdicts.no_leak
            ),
            Lang::Zh => format!(
                "泄漏 {}，尚不能判断 {}，无泄漏 {}",
                verdicts.leak, verdicts.inconclusive, verdicts.no_leak
            ),
        };
        out.pair(0, lang.pick("Processes", "进程"), &text);
        out.rule();
        list(
            &data.processes,
            data.top,
            lang.pick("Processes, leaks first", "进程（泄漏在前）"),
            out,
        );
        if !data.cgroups.is_empty() {
            list(
                &data.cgroups,
                data.top,
                lang.pick(
                    "Memory cgroups by their anonymous and shared memory",
                    "内存 cgroup（按匿名与共享内存）",
                ),
                out,
            );
        }
        if data.too_brief > 0 {
            let n = data.too_brief;
            let text = match lang {
                Lang::En => format!(
                    "- {n} processes not judged: they ended too soon, or are younger than a minute"
                ),
                Lang::Zh => format!("- {n} 个进程过早结束或启动不足一分钟，未作判断"),
            };
            out.hang(0, 2, Paint::Dim, &text);
        }
        for note in &data.notes {
            out.hang(0, 2, Paint::Dim, &format!("- {}", lang.of(note)));
        }
        findings::write(&report.findings, out);
        out.rule();
        account::write(&report.accounting, out);
    }
}

/// Rows of processes, cgroups or files.
fn list(all: &[LeakData], top: usize, title: &str, out: &mut Out) {
    let lang = out.lang();
    let shown = shown(top, all.len());
    out.heading("📊", title);
    let mut table = Table {
        columns: vec![
            Column::text(lang.pick("verdict", "结论"), 8, 0),
            Column::figures(lang.pick("P(leak)", "泄漏概率"), 2),
            Column::figures(lang.pick("MiB/h", "MiB/h"), 0),
            Column::figures(lang.pick("limit in", "到达上限"), 3),
            Column::figures(lang.pick("memory", "内存"), 1),
            Column::figures("PID", 1),
            Column::text(lang.pick("who", "名称"), 12, 0),
        ],
        rows: Vec::new(),
    };
    for data in all.iter().take(shown) {
        table.rows.push(row(data, lang));
    }
    out.table(&table);
    let rest = all.len() - shown;
    if rest > 0 {
        let text = match lang {
            Lang::En => format!("… and {rest} more: --top 0, or -o json"),
            Lang::Zh => format!("…… 另有 {rest} 个：--top 0 或 -o json"),
        };
        out.line(2, Paint::Dim, &text);
    }
}

fn row(data: &LeakData, lang: Lang) -> (Paint, Vec<String>) {
    let (paint, verdict) = match data.verdict {
        "leak" => (Paint::Bad, lang.pick("leak", "泄漏")),
        "no-leak" => (Paint::Plain, lang.pick("no leak", "无泄漏")),
        _ => (Paint::Warn, lang.pick("unsure", "待定")),
    };
    let process = &data.process;
    let mut who = (process.comm.clone())
        .or_else(|| process.input.clone())
        .or_else(|| process.cgroup.clone())
        .unwrap_or_default();
    if process.alive == Some(false) {
        who.push_str(lang.pick(" (ended)", "（已结束）"));
    }
    let unknown = || "-".to_owned();
    let cells = vec![
        verdict.to_owned(),
        format!("{:.2}", data.leak_probability),
        data.rate_mib_per_hour
            .filter(|_| data.verdict != "no-leak")
            .map_or_else(unknown, |rate| format!("{rate:+.2}")),
        (data.oom.as_ref()).map_or_else(unknown, |oom| units::span(oom.hours * 3600.0)),
        units::size_kb(
            data.judged
                .map_or(data.rss.last_kb, |judged| judged.last_kb),
        ),
        process.pid.map_or_else(String::new, |pid| pid.to_string()),
        who,
    ];
    (paint, cells)
}
