//! `query memory` for people, and as CSV.

use serde::Serialize;

use super::TextReport;
use super::findings;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::text::clock;
use super::units;
use super::units::sparkline;
use crate::msg;
use crate::report::Report;
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
            system(steps, out);
        }
        if let Some(list) = &data.cgroups {
            out.rule();
            cgroups(list, data.top, out);
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

    fn csv(report: &Report<Self>) -> Option<String> {
        let data = &report.data;
        let mut text = String::new();
        if data.processes {
            row_lines(&data.field, &data.rows, &mut text);
        } else if let Some(steps) = &data.system {
            system_lines(steps, &mut text);
        } else if let Some(list) = &data.cgroups {
            cgroup_lines(list, &mut text);
        } else if let Some(list) = &data.incidents {
            line(
                [
                    "time", "kind", "id", "severity", "title", "pid", "cgroup", "body",
                ],
                &mut text,
            );
            for one in list {
                let body = serde_json::to_string(&one.body).unwrap_or_default();
                let cells = [
                    one.time.clone(),
                    one.kind.clone(),
                    one.id.clone(),
                    one.severity.clone(),
                    one.title.clone(),
                    cell(one.pid),
                    cell(one.cgroup.clone()),
                    body,
                ];
                line(cells, &mut text);
            }
        }
        Some(text)
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

fn trend(points: &[(f64, u64)], out: &Out) -> String {
    sparkline(points, TREND, out.unicode()).unwrap_or_default()
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
    let row = |row: &Row| {
        let none = lang.pick("(none)", "（无）");
        let name = row.name.clone().unwrap_or_else(|| none.to_owned());
        let count = row.pid.map_or(row.processes, u64::from);
        let mut cells = vec![name, count.to_string()];
        cells.extend(figure_cells(&row.figures, row.unit, p95, out));
        cells.push(trend(&row.trend, out));
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
            steps(row, out);
        }
    }
}

/// The series of a row, step by step.
fn steps(row: &Row, out: &mut Out) {
    let Some(series) = &row.series else {
        return;
    };
    let values = |point: &Point| (point.ts_ms as f64, unsigned(point.value));
    let points: Vec<(f64, u64)> = series.iter().map(values).collect();
    let room = out.inner().saturating_sub(4).min(72);
    let Some(curve) = sparkline(&points, room, out.unicode()) else {
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

fn system(steps: &[SystemStep], out: &mut Out) {
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
        let values = steps.iter().zip(0_u32..);
        values
            .filter_map(|(step, at)| Some((f64::from(at), unsigned(get(step)?))))
            .collect()
    };
    let room = out.inner().saturating_sub(20).min(72);
    for (name, get) in [
        (
            lang.pick("Used", "已用"),
            (|step| step.mem_used_kb) as fn(&SystemStep) -> Option<f64>,
        ),
        ("Swap", |step| step.swap_used_kb),
    ] {
        if let Some(curve) = sparkline(&course(get), room, out.unicode()) {
            out.pair(2, name, &curve);
        }
    }
}

fn cgroups(list: &[CgroupRow], top: usize, out: &mut Out) {
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
        cells.push(trend(&row.trend, out));
        (Paint::Plain, cells)
    };
    let rows = list.iter().take(shown(top, total)).map(row).collect();
    out.table(&Table { columns, rows });
    more(total, top, out);
}

pub(super) fn cell<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// A line of CSV (RFC 4180, but that lines end as the host's do).
pub(super) fn line<T: AsRef<str>>(cells: impl IntoIterator<Item = T>, text: &mut String) {
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        let cell = cell.as_ref();
        if cell.contains([',', '"', '\n', '\r']) {
            text.push('"');
            text.push_str(&cell.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(cell);
        }
    }
    text.push('\n');
}

fn figure_names(unit: &str) -> Vec<String> {
    let names = ["first", "last", "min", "max", "avg", "p95", "growth"];
    let mut all: Vec<String> = names.iter().map(|name| format!("{name}{unit}")).collect();
    all.push(format!("growth{unit}_per_hour"));
    all
}

fn figure_values(figures: &Figures) -> [String; 8] {
    [
        cell(figures.first),
        cell(figures.last),
        cell(figures.min),
        cell(figures.max),
        cell(figures.avg),
        cell(figures.p95),
        cell(figures.growth),
        cell(figures.growth_per_hour),
    ]
}

/// One line for each row; with steps, one for each step of each row.
fn row_lines(field: &str, rows: &[Row], text: &mut String) {
    let head = [
        "name",
        "pid",
        "start",
        "boot_id",
        "user",
        "cgroup",
        "container",
        "processes",
    ];
    let own = |row: &Row| {
        [
            cell(row.name.clone()),
            cell(row.pid),
            cell(row.start),
            cell(row.boot_id.clone()),
            cell(row.user.clone()),
            cell(row.cgroup.clone()),
            cell(row.container.clone()),
            row.processes.to_string(),
        ]
    };
    let mut names: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    if rows.iter().any(|row| row.series.is_some()) {
        names.extend(["ts_ms", "samples", "value", "min", "max"].map(str::to_owned));
        line(&names, text);
        for row in rows {
            for point in row.series.iter().flatten() {
                let point = [
                    point.ts_ms.to_string(),
                    point.samples.to_string(),
                    point.value.to_string(),
                    point.min.to_string(),
                    point.max.to_string(),
                ];
                line(own(row).iter().chain(&point), text);
            }
        }
        return;
    }
    let unit = if field.ends_with("_kb") { "_kb" } else { "" };
    names.extend(["from", "to", "samples"].map(str::to_owned));
    names.extend(figure_names(unit));
    line(&names, text);
    for row in rows {
        let span = [row.from.clone(), row.to.clone(), row.samples.to_string()];
        let figures = figure_values(&row.figures);
        line(own(row).iter().chain(&span).chain(&figures), text);
    }
}

fn cgroup_lines(list: &[CgroupRow], text: &mut String) {
    let mut names = ["path", "from", "to", "samples"]
        .map(str::to_owned)
        .to_vec();
    names.extend(figure_names("_kb"));
    let ends = [
        "limit_kb",
        "high_kb",
        "limit_used_max_percent",
        "swap_max_kb",
        "oom_kills",
    ];
    names.extend(ends.map(str::to_owned));
    line(&names, text);
    for row in list {
        let own = [
            row.path.clone(),
            row.from.clone(),
            row.to.clone(),
            row.samples.to_string(),
        ];
        let ends = [
            cell(row.limit_kb),
            cell(row.high_kb),
            cell(row.limit_used_max_percent),
            cell(row.swap_max_kb),
            cell(row.oom_kills),
        ];
        let figures = figure_values(&row.figures);
        line(own.iter().chain(&figures).chain(&ends), text);
    }
}

fn system_lines(steps: &[SystemStep], text: &mut String) {
    // The keys of JSON are the columns.
    for (at, step) in steps.iter().enumerate() {
        let Ok(serde_json::Value::Object(members)) = serde_json::to_value(step) else {
            continue;
        };
        if at == 0 {
            line(members.keys(), text);
        }
        let cells = members.values().map(|value| match value {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        line(cells, text);
    }
}
