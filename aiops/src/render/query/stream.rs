//! `query memory` for programs: rows are written as they are made, since there may be very many.

use std::io;
use std::io::Write;

use serde::Serialize;

use crate::render::Format;
use crate::render::Lang;
use crate::render::Result;
use crate::render::csv::line;
use crate::render::csv::maybe;
use crate::render::csv::number;
use crate::render::csv::text;
use crate::render::json;
use crate::report::Report;
use crate::report::query::CgroupRow;
use crate::report::query::Figures;
use crate::report::query::Incident;
use crate::report::query::Point;
use crate::report::query::QueryData;
use crate::report::query::Row;
use crate::report::query::SystemStep;

/// Writes the report with these rows: JSON, JSON lines, CSV.
///
/// # Errors
/// It cannot be written.
pub fn history<B: Serialize>(
    mut report: Report<QueryData<B>>,
    rows: &mut dyn Iterator<Item = Row>,
    format: Format,
    lang: Lang,
    out: &mut dyn Write,
) -> io::Result<()> {
    let data = &mut report.data;
    if format == Format::Csv {
        return table(data, rows, out);
    }
    let system = data.system.as_mut().map(std::mem::take);
    let cgroups = data.cgroups.as_mut().map(std::mem::take);
    let incidents = data.incidents.as_mut().map(std::mem::take);
    if format == Format::Jsonl {
        each("row", rows, lang, out)?;
        each("system", system.into_iter().flatten(), lang, out)?;
        each("cgroup", cgroups.into_iter().flatten(), lang, out)?;
        each("incident", incidents.into_iter().flatten(), lang, out)?;
        // What was written already is not written again.
        let last = json::line("report", &report, lang).map_err(io::Error::other)?;
        return out.write_all(last.as_bytes());
    }
    let whole = json::value(&report, lang).map_err(io::Error::other)?;
    let lists: Vec<json::List<'_>> = vec![
        ("rows", Box::new(rows.map(|row| json::value(&row, lang)))),
        ("system", Box::new(values(system, lang))),
        ("cgroups", Box::new(values(cgroups, lang))),
        ("incidents", Box::new(values(incidents, lang))),
    ];
    json::streamed(&whole, lists, out)
}

fn values<T: Serialize>(
    list: Option<Vec<T>>,
    lang: Lang,
) -> impl Iterator<Item = Result<serde_json::Value>> {
    let list = list.into_iter().flatten();
    list.map(move |one| json::value(&one, lang))
}

fn each<T: Serialize>(
    kind: &str,
    rows: impl Iterator<Item = T>,
    lang: Lang,
    out: &mut dyn Write,
) -> io::Result<()> {
    for row in rows {
        let line = json::line(kind, &row, lang).map_err(io::Error::other)?;
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// The one table that was asked for.
fn table<B: Serialize>(
    data: &QueryData<B>,
    rows: &mut dyn Iterator<Item = Row>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let steps = data.step_s.is_some();
    if data.processes {
        let unit = if data.field.ends_with("_kb") {
            "_kb"
        } else {
            ""
        };
        row_lines(unit, steps, rows, out)
    } else if let Some(list) = &data.system {
        system_lines(list, out)
    } else if let Some(list) = &data.cgroups {
        cgroup_lines(steps, list, out)
    } else {
        incident_lines(data.incidents.as_deref().unwrap_or_default(), out)
    }
}

/// Writes one line.
fn put<T: AsRef<str>>(cells: impl IntoIterator<Item = T>, out: &mut dyn Write) -> io::Result<()> {
    let mut all = String::with_capacity(256);
    line(cells, &mut all);
    out.write_all(all.as_bytes())
}

const POINT: [&str; 5] = ["ts_ms", "samples", "value", "min", "max"];

fn point(point: &Point) -> [String; 5] {
    [
        point.ts_ms.to_string(),
        point.samples.to_string(),
        point.value.to_string(),
        point.min.to_string(),
        point.max.to_string(),
    ]
}

fn figure_names(unit: &str) -> Vec<String> {
    let names = ["first", "last", "min", "max", "avg", "p95", "growth"];
    let mut all: Vec<String> = names.iter().map(|name| format!("{name}{unit}")).collect();
    all.push(format!("growth{unit}_per_hour"));
    all
}

fn figure_values(figures: &Figures) -> [String; 8] {
    [
        number(figures.first),
        number(figures.last),
        number(figures.min),
        number(figures.max),
        number(figures.avg),
        number(figures.p95),
        number(figures.growth),
        number(figures.growth_per_hour),
    ]
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// One line for each row; with steps, one for each step of each row that has them.
fn row_lines(
    unit: &str,
    steps: bool,
    rows: &mut dyn Iterator<Item = Row>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut names = owned(&[
        "name",
        "pid",
        "start",
        "boot_id",
        "user",
        "cgroup",
        "container",
        "processes",
    ]);
    if steps {
        names.extend(owned(&POINT));
    } else {
        names.extend(owned(&["from", "to", "samples"]));
        names.extend(figure_names(unit));
    }
    put(&names, out)?;
    for row in rows {
        let own = [
            maybe(row.name.as_deref()),
            number(row.pid),
            number(row.start),
            maybe(row.boot_id.as_deref()),
            maybe(row.user.as_deref()),
            maybe(row.cgroup.as_deref()),
            maybe(row.container.as_deref()),
            row.processes.to_string(),
        ];
        if steps {
            for one in row.series.iter().flatten() {
                put(own.iter().chain(&point(one)), out)?;
            }
            continue;
        }
        let span = [row.from, row.to, row.samples.to_string()];
        let figures = figure_values(&row.figures);
        put(own.iter().chain(&span).chain(&figures), out)?;
    }
    Ok(())
}

/// The same of memory cgroups.
fn cgroup_lines(steps: bool, list: &[CgroupRow], out: &mut dyn Write) -> io::Result<()> {
    let mut names = vec!["path".to_owned()];
    if steps {
        names.extend(owned(&POINT));
    } else {
        names.extend(owned(&["from", "to", "samples"]));
        names.extend(figure_names("_kb"));
        names.extend(owned(&[
            "limit_kb",
            "high_kb",
            "limit_used_max_percent",
            "swap_max_kb",
            "oom_kills",
        ]));
    }
    put(&names, out)?;
    for row in list {
        let path = [text(&row.path).into_owned()];
        if steps {
            for one in row.series.iter().flatten() {
                put(path.iter().chain(&point(one)), out)?;
            }
            continue;
        }
        let span = [row.from.clone(), row.to.clone(), row.samples.to_string()];
        let ends = [
            number(row.limit_kb),
            number(row.high_kb),
            number(row.limit_used_max_percent),
            number(row.swap_max_kb),
            number(row.oom_kills),
        ];
        let figures = figure_values(&row.figures);
        let cells = path.iter().chain(&span).chain(&figures).chain(&ends);
        put(cells, out)?;
    }
    Ok(())
}

fn incident_lines<B: Serialize>(list: &[Incident<B>], out: &mut dyn Write) -> io::Result<()> {
    let names = [
        "time", "kind", "id", "severity", "title", "pid", "cgroup", "body",
    ];
    put(names, out)?;
    for one in list {
        let body = serde_json::to_string(&one.body).unwrap_or_default();
        let cells = [
            one.time.clone(),
            text(&one.kind).into_owned(),
            text(&one.id).into_owned(),
            text(&one.severity).into_owned(),
            text(&one.title).into_owned(),
            number(one.pid),
            maybe(one.cgroup.as_deref()),
            text(&body).into_owned(),
        ];
        put(cells, out)?;
    }
    Ok(())
}

fn system_lines(steps: &[SystemStep], out: &mut dyn Write) -> io::Result<()> {
    // The keys of JSON are the columns.
    for (at, step) in steps.iter().enumerate() {
        let Ok(serde_json::Value::Object(members)) = serde_json::to_value(step) else {
            continue;
        };
        if at == 0 {
            put(members.keys(), out)?;
        }
        let cells = members.values().map(|value| match value {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        put(cells, out)?;
    }
    Ok(())
}
