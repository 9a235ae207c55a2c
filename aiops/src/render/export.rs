//! `export` for people: how much went where.

use super::TextReport;
use super::text::Out;
use super::text::Paint;
use super::units;
use crate::report::Report;
use crate::report::export::ExportData;
use crate::report::plural;

impl TextReport for ExportData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let (data, lang) = (&report.data, out.lang());
        out.title(
            lang.pick("Exported history", "历史导出"),
            &super::text::clock(&report.generated_at),
        );
        out.pair(0, lang.pick("Folder", "目录"), &data.out);
        let side = |time: &Option<String>| {
            time.as_deref().map_or_else(
                || lang.pick("oldest", "最早").to_owned(),
                super::text::clock,
            )
        };
        let range = format!("{} … {}", side(&data.range.start), side(&data.range.end));
        out.pair(0, lang.pick("Range", "时间范围"), &range);
        out.rule();
        let mut tables: Vec<&str> = Vec::new();
        for file in &data.files {
            if !tables.contains(&file.table) {
                tables.push(file.table);
            }
        }
        for table in tables {
            let files: Vec<_> = (data.files.iter())
                .filter(|file| file.table == table)
                .collect();
            let rows: u64 = files.iter().map(|file| file.rows).sum();
            let bytes: u64 = files.iter().map(|file| file.bytes).sum();
            let count = files.len() as u64;
            let size = units::size_kb(bytes.div_ceil(1024));
            let (s, es) = (plural(rows), plural(count));
            let text = match lang {
                super::Lang::En => format!("{rows} row{s} in {count} file{es}, {size}"),
                super::Lang::Zh => format!("{count} 个文件，{rows} 行，{size}"),
            };
            out.pair(0, table, &text);
        }
        if data.files.is_empty() {
            let none = lang.pick("no rows in this range", "该时间范围内没有数据");
            out.line(0, Paint::Warn, none);
        }
        out.rule();
        super::findings::write(&report.findings, out);
        super::account::write(&report.accounting, out);
    }
}
