//! `query memory` for people; for programs, see `stream`.

mod stream;

pub use stream::history;

use serde::Serialize;

use super::TextReport;
use super::findings;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::text::clock;
use super::units;
use super::units::axis_curve;
use crate::msg;
use crate::report::Report;
use crate::report::query::Axis;
use crate::report::query::CgroupRow;
use crate::report::query::Covered;
use crate::report::query::Figures;
use crate::report::query::Point;
use crate::report::query::QueryData;
use crate::report::query::Row;
use crate::report::query::SystemStep;
use crate::report::shown;
use crate::report::size_kb;

/// Columns of a course.
const TREND: usize = 16;
/// Gaps that are named; JSON has all.
const GAPS: usize = 3;

impl<B: Serialize> TextReport for QueryData<B> {
    fn text(report: &Report<Self>, out: &mut Out) {
        let data = &report.data;
        let lang = out.lang();
        let title = lang.pick("Memory history", "内存历史查询");
        let span = format!("{} … {}", clock(&data.range.start), clock(&data.range.end));
        out.title(title, &span);
        coverage(&data.range, out);
        findings::write(&report.findings, out);
        if data.processes {
            out.rule();
            rows(data, out);
        }
        if let Some(steps) = &data.system {
            out.rule();
            system(steps, data.axis, out);
        }
        if let Some(list) = &data.cgroups {
            out.rule();
            cgroups(list, data.axis, data.top, out);
        }
        if let Some(list) = &data.incidents {
            out.rule();
            out.heading("🚨", lang.pick("Incidents and findings", "事件与发现"));
            if list.is_empty() {
                out.line(
                    2,
                    Paint::Dim,
                    lang.pick("none in this range", "该时段内没有"),
                );
            }
            for one in list.iter().take(shown(data.top, list.len())) {
                let paint = match one.severity.as_str() {
                    "critical" => Paint::Bad,
                    "warning" => Paint::Warn,
                    _ => Paint::Plain,
                };
                let pid = one.pid.map(|pid| format!(" PID {pid}")).unwrap_or_default();
                let text = format!("{} [{}]{pid} {}", clock(&one.time), one.kind, one.title);
                out.hang(2, 4, paint, &text);
            }
            more(list.len(), data.top, out);
        }
        out.rule();
        super::account::write(&report.accounting, out);
    }
}

fn coverage(range: &Covered, out: &mut Out) {
    let lang = out.lang();
    let ticks = range.ticks;
    let interval = range.interval_ms.map_or_else(
        || lang.unknown().to_owned(),
        |ms| units::span(ms as f64 / 1000.0),
    );
    let text = msg!(
        "{ticks} samples of the host, one every {interval}",
        "共 {ticks} 次采样，间隔 {interval}"
    );
    out.hang(0, 2, Paint::Bold, lang.of(&text));
    for gap in range.gaps.iter().take(GAPS) {
        let (from, to) = (clock(&gap.from), clock(&gap.to));
        let long = units::span(gap.seconds);
        let text = msg!(
            "no samples for {long}: {from} to {to}",
            "{from} 至 {to} 无采样（{long}）"
        );
        out.hang(2, 4, Paint::Warn, lang.of(&text));
    }
    let rest = range.gaps.len().saturating_sub(GAPS);
    if rest > 0 {
        let text = msg!(
            "… and {rest} more gaps (-o json)",
            "……另有 {rest} 处缺口（-o json）"
        );
        out.line(2, Paint::Dim, lang.of(&text));
    }
}

fn more(len: usize, top: usize, out: &mut Out) {
    let rest = len - shown(top, len);
    if rest > 0 {
        let text = msg!("… and {rest} more (--top 0)", "……另有 {rest} 行（--top 0）");
        out.line(2, Paint::Dim, out.lang().of(&text));
    }
}

/// A value of a field: a size, or a plain number.
fn value(value: Option<i64>, unit: &str, out: &Out) -> String {
    let Some(value) = value else {
        return out.lang().unknown().to_owned();
    };
    if unit.is_empty() {
        return value.to_string();
    }
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", size_kb(value.unsigned_abs()))
}

fn whole(value: f64) -> Option<i64> {
    format!("{value:.0}").parse().ok()
}

fn signed(change: Option<i64>, unit: &str, out: &Out) -> String {
    let text = value(change, unit, out);
    if change.is_some_and(|change| change > 0) {
        format!("+{text}")
    } else {
        text
    }
}

fn figure_columns(out: &Out, p95: bool) -> Vec<Column> {
    let lang = out.lang();
    let mut columns = vec![
        Column::figures(lang.pick("Last", "最后"), 0),
        Column::figures(lang.pick("Avg", "平均"), 3),
        Column::figures(lang.pick("Min", "最小"), 6),
        Column::figures(lang.pick("Max", "最大"), 0),
    ];
    if p95 {
        columns.push(Column::figures("p95", 0));
    }
    columns.push(Column::figures(lang.pick("Growth", "增长"), 2));
    columns.push(Column::figures(lang.pick("per hour", "每小时"), 5));
    columns
}

fn figure_cells(figures: &Figures, unit: &str, p95: bool, out: &Out) -> Vec<String> {
    let mut cells = vec![
        value(figures.last, unit, out),
        value(figures.avg.and_then(whole), unit, out),
        value(figures.min, unit, out),
        value(figures.max, unit, out),
    ];
    if p95 {
        cells.push(value(figures.p95, unit, out));
    }
    cells.push(signed(figures.growth, unit, out));
    cells.push(signed(figures.growth_per_hour.and_then(whole), unit, out));
    cells
}

/// A course on the axis of the range.
fn trend(points: &[(f64, u64)], axis: Axis, columns: usize, out: &Out) -> Option<String> {
    let columns = columns.min(axis.steps).max(1);
    axis_curve(points, (axis.start_ms, axis.end_ms), columns, out.unicode())
}

fn rows<B>(data: &QueryData<B>, out: &mut Out) {
    let lang = out.lang();
    let (total, field) = (data.rows_total, &data.field);
    let text = if data.group_by == "process" {
        msg!("{total} processes, {field}", "{total} 个进程，{field}")
    } else {
        let by = data.group_by;
        msg!(
            "{total} groups by {by}: {field} of all members together",
            "按 {by} 分为 {total} 组：全部成员的 {field} 合计"
        )
    };
    out.heading("📈", lang.of(&text));
    if data.rows.is_empty() {
        return;
    }
    let p95 = data.rows.iter().any(|row| row.figures.p95.is_some());
    let single = data.group_by == "process";
    let mut columns = vec![Column::text(lang.pick("Name", "名称"), 10, 0)];
    columns.push(Column::figures(
        if single {
            "PID"
        } else {
            lang.pick("Members", "进程数")
        },
        1,
    ));
    columns.extend(figure_columns(out, p95));
    columns.push(Column::text(lang.pick("Course", "走势"), TREND, 4));
    let axis = data.axis;
    let row = |row: &Row| {
        let none = lang.pick("(none)", "（无）");
        let name = row.name.clone().unwrap_or_else(|| none.to_owned());
        let count = row.pid.map_or(row.processes, u64::from);
        let mut cells = vec![name, count.to_string()];
        cells.extend(figure_cells(&row.figures, row.unit, p95, out));
        cells.push(trend(&row.trend, axis, TREND, out).unwrap_or_default());
        (Paint::Plain, cells)
    };
    let table = Table {
        columns,
        rows: data.rows.iter().map(row).collect(),
    };
    out.table(&table);
    let rest = total.saturating_sub(data.rows.len() as u64);
    if rest > 0 {
        let text = msg!("… and {rest} more (--top 0)", "……另有 {rest} 行（--top 0）");
        out.line(2, Paint::Dim, lang.of(&text));
    }
    if data.step_s.is_some() {
        for row in &data.rows {
            steps(row, data.axis, out);
        }
    }
}

/// The series of a row, step by step.
fn steps(row: &Row, axis: Axis, out: &mut Out) {
    let Some(series) = &row.series else {
        return;
    };
    let values = |point: &Point| (point.ts_ms as f64, unsigned(point.value));
    let points: Vec<(f64, u64)> = series.iter().map(values).collect();
    let room = out.inner().saturating_sub(4).min(72);
    let Some(curve) = trend(&points, axis, room, out) else {
        return;
    };
    let name = row.name.as_deref().unwrap_or("-");
    let pid = row.pid.map(|pid| format!(" ({pid})")).unwrap_or_default();
    let all = series.iter();
    let least = all.clone().map(|point| point.value).reduce(f64::min);
    let most = all.map(|point| point.value).reduce(f64::max);
    let range = format!(
        "{} … {}",
        value(least.and_then(whole), row.unit, out),
        value(most.and_then(whole), row.unit, out)
    );
    out.line(2, Paint::Bold, &format!("{name}{pid}  {range}"));
    out.line(4, Paint::Plain, &curve);
}

fn unsigned(value: f64) -> u64 {
    whole(value)
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(0)
}

fn system(steps: &[SystemStep], axis: Axis, out: &mut Out) {
    let lang = out.lang();
    out.heading("🖥", lang.pick("The host by steps", "主机（按时间步）"));
    let kb = |value: Option<f64>| {
        value.map_or_else(|| lang.unknown().to_owned(), |kb| size_kb(unsigned(kb)))
    };
    let int = |value: Option<i64>| kb(value.map(|value| value as f64));
    let percent = |value: Option<f64>| {
        value.map_or_else(|| lang.unknown().to_owned(), |value| format!("{value:.1}%"))
    };
    let per_s = |value: Option<f64>, scale: f64| {
        value.map_or_else(
            || lang.unknown().to_owned(),
            |value| format!("{:.1}", value / scale),
        )
    };
    let both = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a + b).or(a).or(b);
    let columns = vec![
        Column::text(lang.pick("Time", "时间"), 19, 0),
        Column::figures(lang.pick("Available", "可用"), 0),
        Column::figures(lang.pick("least", "最低"), 3),
        Column::figures(lang.pick("Used", "已用"), 2),
        Column::figures("Swap", 1),
        Column::figures(lang.pick("PSI some", "PSI some"), 0),
        Column::figures("CPU", 1),
        Column::figures(lang.pick("Disk MB/s", "磁盘 MB/s"), 4),
        Column::figures(lang.pick("Net MB/s", "网络 MB/s"), 5),
        Column::figures(lang.pick("OOM kills", "OOM 次数"), 2),
    ];
    let row = |step: &SystemStep| {
        let disk = both(step.disk_read_kb_per_s, step.disk_written_kb_per_s);
        let net = both(step.net_rx_bytes_per_s, step.net_tx_bytes_per_s);
        let kills = step.oom_kills.unwrap_or(0);
        let cells = vec![
            clock(&step.time),
            kb(step.mem_available_kb),
            int(step.mem_available_min_kb),
            kb(step.mem_used_kb),
            kb(step.swap_used_kb),
            percent(step.psi_some_percent),
            percent(step.cpu_percent),
            per_s(disk, 1e6 / 1024.0),
            per_s(net, 1e6),
            step.oom_kills
                .map_or_else(|| lang.unknown().to_owned(), |kills| kills.to_string()),
        ];
        (if kills > 0 { Paint::Bad } else { Paint::Plain }, cells)
    };
    out.table(&Table {
        columns,
        rows: steps.iter().map(row).collect(),
    });
    let course = |get: fn(&SystemStep) -> Option<f64>| -> Vec<(f64, u64)> {
        let value = |step: &SystemStep| Some((step.ts_ms as f64, unsigned(get(step)?)));
        steps.iter().filter_map(value).collect()
    };
    let room = out.inner().saturating_sub(20).min(72);
    for (name, get) in [
        (
            lang.pick("Used", "已用"),
            (|step| step.mem_used_kb) as fn(&SystemStep) -> Option<f64>,
        ),
        ("Swap", |step| step.swap_used_kb),
    ] {
        if let Some(curve) = trend(&course(get), axis, room, out) {
            out.pair(2, name, &curve);
        }
    }
}

fn cgroups(list: &[CgroupRow], axis: Axis, top: usize, out: &mut Out) {
    let lang = out.lang();
    let total = list.len();
    let text = msg!(
        "{total} memory cgroups: usage",
        "{total} 个内存 cgroup：用量"
    );
    out.heading("📦", lang.of(&text));
    if list.is_empty() {
        return;
    }
    let mut columns = vec![Column::text("Cgroup", 16, 0)];
    columns.extend(figure_columns(out, false));
    columns.push(Column::figures(lang.pick("Limit", "限额"), 1));
    columns.push(Column::figures(lang.pick("used", "占限额"), 2));
    columns.push(Column::figures("OOM", 3));
    columns.push(Column::text(lang.pick("Course", "走势"), TREND, 4));
    let row = |row: &CgroupRow| {
        let mut cells = vec![row.path.clone()];
        cells.extend(figure_cells(&row.figures, "_kb", false, out));
        let none = lang.pick("none", "无");
        cells.push(
            row.limit_kb
                .map_or_else(|| none.to_owned(), |_| value(row.limit_kb, "_kb", out)),
        );
        let used = row.limit_used_max_percent.map(|used| format!("{used:.0}%"));
        cells.push(used.unwrap_or_default());
        cells.push(
            row.oom_kills
                .map_or_else(String::new, |kills| kills.to_string()),
        );
        cells.push(trend(&row.trend, axis, TREND, out).unwrap_or_default());
        (Paint::Plain, cells)
    };
    let rows = list.iter().take(shown(top, total)).map(row).collect();
    out.table(&Table { columns, rows });
    more(total, top, out);
}
