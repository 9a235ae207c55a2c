//! `store info`, `verify`, `compact`, `repair` for people.

use super::TextReport;
use super::account;
use super::findings;
use super::lang::Lang;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::units::size_kb;
use crate::report::Report;
use crate::report::plural;
use crate::report::store::CompactData;
use crate::report::store::DamageRow;
use crate::report::store::InfoData;
use crate::report::store::Part;
use crate::report::store::RepairData;
use crate::report::store::VerifyData;

fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    size_kb(bytes.div_ceil(1024))
}

fn head<D>(report: &Report<D>, title: &str, path: &str, out: &mut Out) {
    out.title(title, &super::text::clock(&report.generated_at));
    out.pair(0, out.lang().pick("Store", "历史存储"), path);
}

fn tail<D>(report: &Report<D>, out: &mut Out) {
    findings::write(&report.findings, out);
    account::write(&report.accounting, out);
}

fn part(part: Part, (en, zh): (&str, &str), lang: Lang) -> String {
    let (count, size) = (part.count, size(part.bytes));
    match lang {
        Lang::En => format!("{count} {en}{} ({size})", plural(count)),
        Lang::Zh => format!("{count} {zh}（{size}）"),
    }
}

const SEGMENTS: (&str, &str) = ("segment", "个段");
const LOGS: (&str, &str) = ("log", "个日志");

impl TextReport for InfoData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        head(
            report,
            lang.pick("History store", "历史存储信息"),
            &data.path,
            out,
        );
        let unknown = || lang.unknown().to_owned();
        let text = |value: &Option<String>| value.clone().unwrap_or_else(unknown);
        out.pair(0, lang.pick("Host", "主机"), &text(&data.hostname));
        out.pair(
            0,
            lang.pick("Layout version", "布局版本"),
            &data
                .layout
                .map_or_else(unknown, |layout| layout.to_string()),
        );
        let range = match (&data.from, &data.to) {
            (Some(from), Some(to)) => {
                format!("{} … {}", super::text::clock(from), super::text::clock(to))
            }
            _ => lang.pick("nothing yet", "暂无数据").to_owned(),
        };
        out.pair(0, lang.pick("Samples from, to", "数据时间范围"), &range);
        let writer = if data.written_now {
            lang.pick("a writer is there", "正在写入")
        } else {
            lang.pick("nobody writes it now", "当前无写入者")
        };
        out.pair(0, lang.pick("Writer", "写入状态"), writer);
        let parts = [
            part(data.segments, SEGMENTS, lang),
            part(data.logs, LOGS, lang),
        ];
        out.pair(
            0,
            lang.pick("Parts", "组成"),
            &parts.join(lang.pick(", ", "，")),
        );
        let (ticks, samples, events) = (data.ticks, data.process_samples, data.events);
        let counts = match lang {
            Lang::En => format!("{ticks} of the host, {samples} of processes; {events} events"),
            Lang::Zh => format!("主机样本 {ticks}，进程样本 {samples}；事件 {events}"),
        };
        out.pair(0, lang.pick("Samples", "样本"), &counts);
        let each = data
            .bytes_per_process_sample
            .map_or_else(unknown, |bytes| format!("{bytes:.2} B"));
        out.pair(
            0,
            lang.pick("Per sample of a process", "每个进程样本"),
            &each,
        );
        out.rule();
        out.table(&Table {
            columns: vec![
                Column::text(lang.pick("Kind", "类别"), 8, 0),
                Column::figures(lang.pick("Files", "文件数"), 2),
                Column::figures(lang.pick("Rows", "行数"), 1),
                Column::figures(lang.pick("Size", "大小"), 0),
            ],
            rows: data
                .kinds
                .iter()
                .map(|kind| {
                    let rows = kind.rows.map_or_else(String::new, |rows| rows.to_string());
                    (
                        Paint::Plain,
                        vec![
                            kind.name.clone(),
                            kind.count.to_string(),
                            rows,
                            size(kind.bytes),
                        ],
                    )
                })
                .collect(),
        });
        tail(report, out);
    }
}

fn damage(row: &DamageRow, out: &mut Out) {
    let lang = out.lang();
    let text = format!("{}{}{}", row.path, out.colon(), row.reason);
    out.hang(0, 2, Paint::Bad, &text);
    let mut parts = Vec::new();
    if let Some(bytes) = row.lost_bytes.filter(|bytes| *bytes > 0) {
        parts.push(match lang {
            Lang::En => format!("{bytes} byte{} make no sense", plural(bytes)),
            Lang::Zh => format!("{bytes} 字节无法识别"),
        });
    }
    if let Some(ticks) = row.lost_ticks.filter(|ticks| *ticks > 0) {
        parts.push(match lang {
            Lang::En => format!("{ticks} sample{} lost", plural(ticks)),
            Lang::Zh => format!("丢失 {ticks} 个样本"),
        });
    }
    if let Some(events) = row.lost_events.filter(|events| *events > 0) {
        parts.push(match lang {
            Lang::En => format!("{events} event{} lost", plural(events)),
            Lang::Zh => format!("丢失 {events} 个事件"),
        });
    }
    if let (Some(from), Some(to)) = (&row.from, &row.to) {
        parts.push(format!(
            "{} … {}",
            super::text::clock(from),
            super::text::clock(to)
        ));
    }
    if !parts.is_empty() {
        out.hang(2, 4, Paint::Dim, &parts.join(lang.pick("; ", "；")));
    }
}

impl TextReport for VerifyData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        head(
            report,
            lang.pick("History verified", "历史存储校验"),
            &data.path,
            out,
        );
        let (segments, logs, size) = (data.segments, data.logs, size(data.bytes));
        let (rows, frames) = (data.rows, data.frames);
        let read = match lang {
            Lang::En => format!(
                "{segments} segment{} ({rows} rows), {logs} log{} ({frames} frames), {size}",
                plural(segments),
                plural(logs)
            ),
            Lang::Zh => {
                format!("{segments} 个段（{rows} 行），{logs} 个日志（{frames} 帧），共 {size}")
            }
        };
        out.pair(0, lang.pick("Read in full", "已完整读取"), &read);
        out.rule();
        if data.damages.is_empty() {
            let text = lang.pick("Nothing is damaged.", "未发现损坏。");
            out.line(0, Paint::Good, text);
        }
        for row in &data.damages {
            damage(row, out);
        }
        tail(report, out);
    }
}

impl TextReport for CompactData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        head(
            report,
            lang.pick("History compacted", "历史存储压缩"),
            &data.path,
            out,
        );
        for (label, whole) in [
            (lang.pick("Before", "之前"), data.before),
            (lang.pick("After", "之后"), data.after),
        ] {
            let parts = [
                part(whole.segments, SEGMENTS, lang),
                part(whole.logs, LOGS, lang),
            ];
            out.pair(0, label, &parts.join(lang.pick(", ", "，")));
        }
        if data.removed_segments > 0 {
            let text = part_removed(data.removed_segments, lang);
            out.pair(0, lang.pick("Retention", "保留策略"), &text);
        }
        for row in &data.damages {
            damage(row, out);
        }
        tail(report, out);
    }
}

fn part_removed(count: u64, lang: Lang) -> String {
    match lang {
        Lang::En => format!("{count} oldest segment{} removed", plural(count)),
        Lang::Zh => format!("已删除最旧的 {count} 个段"),
    }
}

impl TextReport for RepairData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        head(
            report,
            lang.pick("History repaired", "历史存储修复"),
            &data.path,
            out,
        );
        out.rule();
        if data.repairs.is_empty() {
            let text = lang.pick(
                "Nothing is damaged: nothing was changed.",
                "未发现损坏：未作任何改动。",
            );
            out.line(0, Paint::Good, text);
        }
        for row in &data.repairs {
            let text = format!("{}{}{}", row.path, out.colon(), row.reason);
            out.hang(0, 2, Paint::Warn, &text);
            if let Some(to) = &row.moved_to {
                out.pair(2, lang.pick("Put aside as", "已移至"), to);
            }
            if let (Some(ticks), Some(events)) = (row.saved_ticks, row.saved_events) {
                let text = match lang {
                    Lang::En => format!(
                        "{ticks} sample{}, {events} event{}",
                        plural(ticks),
                        plural(events)
                    ),
                    Lang::Zh => format!("{ticks} 个样本，{events} 个事件"),
                };
                out.pair(
                    2,
                    lang.pick("Saved into a new segment", "已救回到新段"),
                    &text,
                );
            }
        }
        tail(report, out);
    }
}
