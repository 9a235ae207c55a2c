//! History by several keys, and two ranges beside each other, for people.

use super::Lang;
use super::TextReport;
use super::account;
use super::csv::line;
use super::csv::maybe;
use super::csv::number as cell;
use super::findings;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::text::clock;
use super::units;
use crate::msg;
use crate::report::Report;
use crate::report::frames::CompareData;
use crate::report::frames::FramesView;
use crate::report::frames::GroupName;
use crate::report::frames::GroupsData;
use crate::report::frames::Span;
use crate::report::frames::Totals;

/// Most columns of a curve.
const CURVE: usize = 16;

impl TextReport for GroupsData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        let title = lang.pick("Memory history by group", "内存历史（分组）");
        out.title(title, &clock(&report.generated_at));
        out.pair(0, lang.pick("Range", "时间范围"), &span(&data.range, lang));
        asked(&data.by, &data.field, out);
        out.rule();
        let mut columns = names(&data.by, lang);
        columns.extend([
            Column::figures(lang.pick("Procs", "进程"), 3),
            Column::figures(lang.pick("Avg", "平均"), 0),
            Column::figures("P95", 2),
            Column::figures(lang.pick("Max", "最大"), 0),
            Column::figures(lang.pick("Last", "最后"), 1),
            Column::figures(lang.pick("Growth", "增长"), 1),
        ]);
        let curves = !data.steps.is_empty();
        if curves {
            columns.push(Column::text(lang.pick("Curve", "走势"), CURVE, 4));
        }
        let shown = few(data.view, data.rows.len());
        let rows = data.rows.iter().take(shown).map(|row| {
            let mut cells = name(&row.group, lang);
            let totals = &row.totals;
            let value = |value: Option<i64>| figure(value.map(|value| value as f64), data, lang);
            cells.extend([
                totals.processes.to_string(),
                figure(totals.avg, data, lang),
                value(totals.p95),
                value(totals.max),
                value(totals.last),
                signed(totals.growth.map(|growth| growth as f64), &data.field, lang),
            ]);
            if curves {
                cells.push(curve(&row.steps, out.unicode()));
            }
            (Paint::Plain, cells)
        });
        let rows = rows.collect();
        body(columns, rows, data.rows.len(), out);
        unknown(data.rows.iter().map(|row| &row.totals), out);
        findings::write(&report.findings, out);
        out.rule();
        account::write(&report.accounting, out);
    }

    /// A wide table: a row for each group, a column for each step.
    fn csv(report: &Report<Self>) -> Option<String> {
        let data = &report.data;
        let mut text = String::new();
        let mut names = data.by.clone();
        names.extend(totals_names(""));
        names.extend(
            data.steps
                .iter()
                .map(|step| step.clone().unwrap_or_default()),
        );
        line(names, &mut text);
        for row in &data.rows {
            let mut cells = values(&row.group);
            cells.extend(totals_cells(Some(&row.totals)));
            cells.extend(row.steps.iter().map(|step| cell(*step)));
            // Rows beyond --top have no steps.
            cells.resize(
                cells.len() + data.steps.len() - row.steps.len(),
                String::new(),
            );
            line(cells, &mut text);
        }
        Some(text)
    }
}

impl TextReport for CompareData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        let title = lang.pick("Memory of two ranges", "两个时段的内存对比");
        out.title(title, &clock(&report.generated_at));
        out.pair(0, lang.pick("Before", "之前"), &span(&data.before, lang));
        out.pair(0, lang.pick("After", "之后"), &span(&data.after, lang));
        asked(&data.by, &data.field, out);
        out.rule();
        let mut columns = names(&data.by, lang);
        columns.extend([
            Column::figures(lang.pick("Avg before", "之前平均"), 1),
            Column::figures(lang.pick("Avg after", "之后平均"), 0),
            Column::figures(lang.pick("Growth", "增长"), 0),
            Column::figures(lang.pick("Share", "占比"), 2),
            Column::figures(lang.pick("Max before", "之前最大"), 4),
            Column::figures(lang.pick("Max after", "之后最大"), 3),
        ]);
        let shown = few(data.view, data.rows.len());
        let rows = data.rows.iter().take(shown).map(|row| {
            let mut cells = name(&row.group, lang);
            let of = |totals: &Option<Totals>, get: &dyn Fn(&Totals) -> Option<f64>| {
                let absent = lang.pick("not there", "不存在").to_owned();
                let value = |totals| size(get(totals), &data.field, lang);
                totals.as_ref().map_or(absent, value)
            };
            let max = |totals: &Totals| totals.max.map(|max| max as f64);
            let share = row.share_pct.map(|share| format!("{share:.1}%"));
            cells.extend([
                of(&row.before, &|totals| totals.avg),
                of(&row.after, &|totals| totals.avg),
                signed(row.growth, &data.field, lang),
                share.unwrap_or_default(),
                of(&row.before, &max),
                of(&row.after, &max),
            ]);
            (Paint::Plain, cells)
        });
        let rows = rows.collect();
        body(columns, rows, data.rows.len(), out);
        let both = data.rows.iter().flat_map(|row| [&row.before, &row.after]);
        unknown(both.flatten(), out);
        findings::write(&report.findings, out);
        out.rule();
        account::write(&report.accounting, out);
    }

    fn csv(report: &Report<Self>) -> Option<String> {
        let data = &report.data;
        let mut text = String::new();
        let mut names = data.by.clone();
        names.extend(totals_names("before_"));
        names.extend(totals_names("after_"));
        names.extend(["growth", "share_pct"].map(str::to_owned));
        line(names, &mut text);
        for row in &data.rows {
            let mut cells = values(&row.group);
            cells.extend(totals_cells(row.before.as_ref()));
            cells.extend(totals_cells(row.after.as_ref()));
            cells.extend([cell(row.growth), cell(row.share_pct)]);
            line(cells, &mut text);
        }
        Some(text)
    }
}

/// Columns of a total.
fn totals_names(prefix: &str) -> Vec<String> {
    let names = [
        "processes",
        "samples",
        "unknown_samples",
        "avg",
        "max",
        "p95",
        "first",
        "last",
        "growth",
    ];
    names.map(|name| format!("{prefix}{name}")).to_vec()
}

fn totals_cells(totals: Option<&Totals>) -> Vec<String> {
    let Some(totals) = totals else {
        return vec![String::new(); totals_names("").len()];
    };
    vec![
        totals.processes.to_string(),
        totals.samples.to_string(),
        totals.unknown_samples.to_string(),
        cell(totals.avg),
        cell(totals.max),
        cell(totals.p95),
        cell(totals.first),
        cell(totals.last),
        cell(totals.growth),
    ]
}

fn values(group: &GroupName) -> Vec<String> {
    let values = group.0.iter().map(|(_, value)| value);
    values.map(|value| maybe(value.as_deref())).collect()
}

/// How many rows are shown.
fn few(view: FramesView, all: usize) -> usize {
    if view.top == 0 { all } else { view.top }
}

fn body(columns: Vec<Column>, rows: Vec<(Paint, Vec<String>)>, all: usize, out: &mut Out) {
    let lang = out.lang();
    if all == 0 {
        let text = lang.pick("No process in this range", "该时段没有符合条件的进程");
        out.line(0, Paint::Warn, text);
        return;
    }
    let hidden = all.saturating_sub(rows.len());
    out.table(&Table { columns, rows });
    if hidden > 0 {
        let text = msg!("{hidden} more groups: --top 0", "另有 {hidden} 组：--top 0");
        out.line(0, Paint::Dim, lang.of(&text));
    }
}

fn asked(by: &[String], field: &str, out: &mut Out) {
    let lang = out.lang();
    out.pair(0, lang.pick("Grouped by", "分组依据"), &by.join(" × "));
    out.pair(0, lang.pick("Figure", "指标"), field);
}

fn span(span: &Span, lang: Lang) -> String {
    let text = |moment: &Option<String>| {
        let unknown = || lang.unknown().to_owned();
        moment.as_deref().map_or_else(unknown, clock)
    };
    let (start, end, ticks) = (text(&span.start), text(&span.end), span.ticks);
    let text = msg!(
        "{start} – {end}, {ticks} samples",
        "{start} – {end}，{ticks} 次采样"
    );
    lang.of(&text).to_owned()
}

fn names(by: &[String], lang: Lang) -> Vec<Column> {
    let title = |key: &String| match key.as_str() {
        "pid" => "PID",
        "comm" => lang.pick("Name", "进程名"),
        "cgroup" => "Cgroup",
        "container" => lang.pick("Container", "容器"),
        "user" => lang.pick("User", "用户"),
        _ => lang.pick("Group", "分组"),
    };
    by.iter()
        .map(|key| Column::text(title(key), 6, 0))
        .collect()
}

fn name(group: &GroupName, lang: Lang) -> Vec<String> {
    let value = |(_, value): &(String, Option<String>)| {
        value.clone().unwrap_or_else(|| lang.unknown().to_owned())
    };
    group.0.iter().map(value).collect()
}

/// A figure in its unit: sizes as sizes.
fn size(value: Option<f64>, field: &str, lang: Lang) -> String {
    let Some(value) = value else {
        return lang.unknown().to_owned();
    };
    if !field.ends_with("_kb") {
        return format!("{value:.1}").trim_end_matches(".0").to_owned();
    }
    units::size_kb(units::whole(value))
}

fn figure(value: Option<f64>, data: &GroupsData, lang: Lang) -> String {
    size(value, &data.field, lang)
}

fn signed(value: Option<f64>, field: &str, lang: Lang) -> String {
    let shown = size(value.map(f64::abs), field, lang);
    match value {
        Some(value) if value > 0.0 => format!("+{shown}"),
        Some(value) if value < 0.0 => format!("−{shown}"),
        _ => shown,
    }
}

fn curve(steps: &[Option<f64>], unicode: bool) -> String {
    let points: Vec<(f64, u64)> = (0_u32..)
        .zip(steps)
        .filter_map(|(at, value)| Some((f64::from(at), units::whole((*value)?))))
        .collect();
    units::sparkline(&points, CURVE, unicode).unwrap_or_default()
}

/// Says that figures are of less than all samples.
fn unknown<'a>(rows: impl Iterator<Item = &'a Totals>, out: &mut Out) {
    let (unknown, all) = rows.fold((0_u64, 0_u64), |(unknown, all), row| {
        (unknown + row.unknown_samples, all + row.samples)
    });
    if unknown > 0 {
        let lang = out.lang();
        let text = msg!(
            "{unknown} of {all} samples do not know this figure: totals are of the others",
            "{all} 个样本中有 {unknown} 个没有该指标：合计只包含其余样本"
        );
        out.hang(0, 2, Paint::Warn, lang.of(&text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::testing::text_of;
    use crate::report::frames::CompareRow;
    use crate::report::frames::GroupRow;

    fn group() -> GroupName {
        GroupName(vec![
            ("comm".to_owned(), Some("java".to_owned())),
            ("user".to_owned(), None),
        ])
    }

    fn totals(avg: f64) -> Totals {
        Totals {
            processes: 2,
            samples: 10,
            unknown_samples: 1,
            avg: Some(avg),
            max: Some(4096),
            p95: Some(2048),
            first: Some(2048),
            last: Some(1024),
            growth: Some(-1024),
        }
    }

    #[test]
    fn groups_are_a_table_with_curves_and_every_line_fits() {
        let data = || GroupsData {
            by: vec!["comm".to_owned(), "user".to_owned()],
            field: "rss_kb".to_owned(),
            steps: vec![None; 3],
            rows: vec![GroupRow {
                group: group(),
                totals: totals(1536.0),
                steps: vec![Some(1.0), None, Some(8.0)],
            }],
            ..GroupsData::default()
        };
        for width in [40, 80, 120] {
            text_of(data(), Lang::En, width);
            text_of(data(), Lang::Zh, width);
        }
        let text = text_of(data(), Lang::En, 120);
        for part in ["java", "1.50 MiB", "−1 MiB", "▁█", "1 of 10 samples"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let none = GroupsData {
            rows: Vec::new(),
            ..data()
        };
        assert!(text_of(none, Lang::En, 80).contains("No process in this range"));
    }

    #[test]
    fn two_ranges_stand_beside_each_other() {
        let row = CompareRow {
            group: group(),
            before: None,
            after: Some(totals(2048.0)),
            growth: Some(2048.0),
            share_pct: Some(100.0),
        };
        let data = || CompareData {
            by: vec!["comm".to_owned(), "user".to_owned()],
            field: "rss_kb".to_owned(),
            rows: vec![row.clone(), row.clone()],
            view: FramesView { top: 1 },
            ..CompareData::default()
        };
        for width in [40, 80, 120] {
            text_of(data(), Lang::En, width);
            text_of(data(), Lang::Zh, width);
        }
        let text = text_of(data(), Lang::En, 120);
        for part in ["not there", "+2 MiB", "100.0%", "1 more groups"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
