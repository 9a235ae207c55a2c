//! A series as a drawing: SVG, or a page of HTML with the report below it. Nothing in it is loaded from elsewhere,
//! and every text is escaped.

use std::fmt::Write as _;

use super::Format;
use super::Lang;
use super::Style;
use super::curve;
use super::escape;
use super::units;
use crate::report::Report;
use crate::report::leak::LeakData;
use crate::report::leak::Oom;
use crate::report::leak::Point;
use crate::time;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 540.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 116.0;
const BOTTOM: f64 = 84.0;
/// A forecast is drawn for at most this many times the window.
const AHEAD: f64 = 2.0;
const LINES: u32 = 5;
/// Columns of the title and of each line of the reason.
const TITLE: usize = 84;
const REASON: usize = 124;
/// Columns of the report below a drawing: so many that it breaks no line, and a command can be copied whole.
const COLUMNS: usize = 400;

/// With those that have Chinese on each system.
const FONTS: &str =
    "system-ui, 'Noto Sans CJK SC', 'Noto Sans SC', 'PingFang SC', 'Microsoft YaHei', sans-serif";

const SERIES: &str = "#1f6feb";
const FITTED: &str = "#e36209";
const CHANGE: &str = "#6e7781";
const FORECAST: &str = "#cf222e";

/// Harmless in XML and HTML, in texts and in quoted values.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in escape::plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn seconds(moment: &str) -> Option<f64> {
    time::from_rfc3339(moment).map(|ns| ns as f64 / 1e9)
}

/// Where things stand.
struct Place {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
}

impl Place {
    fn x(&self, ts: f64) -> f64 {
        LEFT + (ts - self.from) / (self.to - self.from) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, kb: f64) -> f64 {
        HEIGHT - BOTTOM - (kb - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)
    }

    fn path(&self, points: &[Point]) -> String {
        let mut path = String::new();
        for point in points {
            let (x, y) = (self.x(point.ts), self.y(point.kb));
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        path.trim_end().to_owned()
    }
}

/// The growth that is foreseen: from the last point, with the slowest and the fastest, KiB at the right edge.
struct Forecast {
    from: Point,
    to: Point,
    range: Option<(f64, f64)>,
}

fn forecast(data: &LeakData, last: Point, span: f64) -> Option<Forecast> {
    let rate = data.rate_mib_per_hour.filter(|rate| *rate > 0.0);
    let rate = rate.filter(|_| data.verdict == "leak")?;
    let met = data.oom.as_ref();
    let near = |oom: &&Oom| {
        oom.hours * 3600.0 <= span * AHEAD && oom.limit_bytes as f64 / 1024.0 > last.kb
    };
    let met = met.filter(near);
    let ahead = met.map_or(span * AHEAD, |oom| oom.hours * 3600.0);
    let ahead = ahead.max(span * 0.02);
    let at = |rate: f64| last.kb + rate * 1024.0 * ahead / 3600.0;
    Some(Forecast {
        from: last,
        to: Point {
            ts: last.ts + ahead,
            kb: met.map_or_else(|| at(rate), |oom| oom.limit_bytes as f64 / 1024.0),
        },
        range: data.rate_interval.map(|[low, high]| (at(low), at(high))),
    })
}

/// What an end of the axis of sizes may be, above `kb`.
fn padded(low: f64, high: f64) -> (f64, f64) {
    let room = ((high - low) * 0.06).max(high.abs() * 0.002).max(1.0);
    ((low - room).max(0.0), high + room)
}

/// The drawing. Without two points over some time it says that there is nothing to draw.
#[must_use]
pub fn svg(report: &Report<LeakData>, lang: Lang) -> String {
    let data = &report.data;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"{FONTS}\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    heading(data, lang, &mut out);
    let (first, last) = (data.series.first(), data.series.last());
    match (first, last) {
        (Some(first), Some(last)) if last.ts > first.ts => {
            drawing(data, *first, *last, lang, &mut out);
        }
        _ => text(
            &mut out,
            (WIDTH / 2.0, HEIGHT / 2.0),
            "middle",
            CHANGE,
            lang.pick("too few samples to draw", "样本过少，无法绘图"),
        ),
    }
    out.push_str("</svg>\n");
    out
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, fill: &str, text: &str) {
    let text = safe(text);
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{text}</text>"
    );
}

fn heading(data: &LeakData, lang: Lang, out: &mut String) {
    let process = &data.process;
    let pid = process
        .pid
        .map_or(String::new(), |pid| format!(" (PID {pid})"));
    let named = process.comm.clone().or_else(|| process.input.clone());
    let named = named.or_else(|| process.cgroup.clone()).unwrap_or_default();
    let (verdict, fill) = match data.verdict {
        "leak" => (lang.pick("Memory leak", "检测到内存泄漏"), FORECAST),
        "no-leak" => (lang.pick("No memory leak", "未检测到内存泄漏"), "#1a7f37"),
        _ => (lang.pick("Cannot be told yet", "尚不能判断"), "#9a6700"),
    };
    let sure = data.confidence * 100.0;
    let sure = match (lang, data.verdict) {
        (_, "inconclusive") => String::new(),
        (Lang::En, _) => format!(" (confidence {sure:.1}%)"),
        (Lang::Zh, _) => format!("（置信度 {sure:.1}%）"),
    };
    let title = safe(&super::width::middle(&format!("{named}{pid}"), TITLE, "…"));
    let verdict = safe(&format!("{verdict}{sure}"));
    let _ = writeln!(
        out,
        "<text x=\"24\" y=\"32\" font-size=\"18\" font-weight=\"600\" fill=\"#1f2328\">{title}</text>\n\
         <text x=\"24\" y=\"56\" font-size=\"14\" font-weight=\"600\" fill=\"{fill}\">{verdict}</text>"
    );
    let reason = escape::plain(lang.of(&data.reason));
    for (line, y) in super::width::wrap(&reason, REASON, REASON)
        .into_iter()
        .zip([78.0, 96.0])
    {
        text(out, (24.0, y), "start", "#1f2328", &line);
    }
}

fn drawing(data: &LeakData, first: Point, last: Point, lang: Lang, out: &mut String) {
    let span = last.ts - first.ts;
    let ahead = forecast(data, last, span);
    let limit = (data.oom.as_ref()).map(|oom| oom.limit_bytes as f64 / 1024.0);
    let all = data.series.iter().chain(&data.fitted);
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    for point in all.chain(ahead.as_ref().map(|ahead| &ahead.to)) {
        low = low.min(point.kb);
        high = high.max(point.kb);
    }
    // The limit is shown where the forecast comes near it.
    let limit = limit.filter(|limit| *limit <= high + 0.3 * (high - low).max(1.0) && *limit >= low);
    high = high.max(limit.unwrap_or(high));
    (low, high) = padded(low, high);
    let to = ahead.as_ref().map_or(last.ts, |ahead| ahead.to.ts);
    let place = Place {
        from: first.ts,
        to,
        low,
        high,
    };
    axes(&place, lang, out);
    for at in data.change_points.iter().filter_map(|at| seconds(at)) {
        if (first.ts..=last.ts).contains(&at) {
            let (x, bottom) = (place.x(at), HEIGHT - BOTTOM);
            let _ = writeln!(
                out,
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"{CHANGE}\" stroke-dasharray=\"2 4\"/>"
            );
        }
    }
    if data.fitted.len() > 1 {
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{FITTED}\" stroke-width=\"3.5\" stroke-opacity=\"0.7\"/>",
            place.path(&data.fitted)
        );
    }
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{SERIES}\" stroke-width=\"1.5\"/>",
        place.path(&data.series)
    );
    if let Some(ahead) = &ahead {
        beyond(ahead, &place, out);
    }
    if let Some(limit) = limit {
        let y = place.y(limit);
        let right = WIDTH - RIGHT;
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"{FORECAST}\" stroke-width=\"1.5\"/>"
        );
        let size = units::size_kb(units::whole(limit));
        let words = format!("{} {size}", lang.pick("limit", "上限"));
        text(out, (LEFT + 8.0, y - 6.0), "start", FORECAST, &words);
    }
    legend(data, ahead.is_some(), lang, out);
}

fn beyond(ahead: &Forecast, place: &Place, out: &mut String) {
    let (x1, y1) = (place.x(ahead.from.ts), place.y(ahead.from.kb));
    let (x2, y2) = (place.x(ahead.to.ts), place.y(ahead.to.kb));
    if let Some((low, high)) = ahead.range {
        let within = |kb: f64| place.y(kb.clamp(place.low, place.high));
        let (low, high) = (within(low), within(high));
        let _ = writeln!(
            out,
            "<polygon points=\"{x1:.1},{y1:.1} {x2:.1},{high:.1} {x2:.1},{low:.1}\" fill=\"{FORECAST}\" fill-opacity=\"0.15\"/>"
        );
    }
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{FORECAST}\" stroke-width=\"2\" stroke-dasharray=\"7 5\"/>"
    );
}

fn axes(place: &Place, lang: Lang, out: &mut String) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let span = place.to - place.from;
    let step = |from: f64, to: f64, i: u32| from + (to - from) * f64::from(i) / f64::from(LINES);
    let [_, _, lowest] = curve::sizes(place.low, place.high);
    let digits = lowest.split_once('.').map_or(0, |(_, rest)| {
        rest.chars().take_while(char::is_ascii_digit).count()
    });
    for i in 0..=LINES {
        let kb = step(place.low, place.high, i);
        let y = place.y(kb);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#d8dee4\"/>"
        );
        let label = curve::size(kb, place.high, digits);
        text(out, (LEFT - 8.0, y + 4.0), "end", "#57606a", &label);
        let ts = step(place.from, place.to, i);
        let x = place.x(ts);
        let tick = bottom + 5.0;
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{tick}\" stroke=\"#57606a\"/>"
        );
        let anchor = match i {
            0 => "start",
            LINES => "end",
            _ => "middle",
        };
        let at = (x, bottom + 20.0);
        text(out, at, anchor, "#57606a", &curve::moment(ts, span));
    }
    let _ = writeln!(
        out,
        "<line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\" stroke=\"#57606a\"/>"
    );
    let unit = lang.pick("MiB = 2^20 bytes", "MiB = 2^20 字节");
    text(out, (right, TOP - 8.0), "end", "#57606a", unit);
}

/// What the lines are, with the figures.
fn legend(data: &LeakData, ahead: bool, lang: Lang, out: &mut String) {
    let mut items = vec![(SERIES, "", lang.pick("memory", "内存").to_owned())];
    if data.fitted.len() > 1 {
        let r2 = data
            .r2
            .map_or(String::new(), |r2| format!(", R² = {r2:.3}"));
        let words = lang.pick("best shape", "最佳形状");
        items.push((FITTED, "", format!("{words}{r2}")));
    }
    if !data.change_points.is_empty() {
        items.push((
            CHANGE,
            "2 4",
            lang.pick("change points", "变化点").to_owned(),
        ));
    }
    if let Some(rate) = data.rate_mib_per_hour.filter(|_| ahead) {
        let until = data.oom.as_ref().map_or(String::new(), |oom| {
            let (span, size) = (
                units::span(oom.hours * 3600.0),
                units::size_kb(oom.limit_bytes / 1024),
            );
            match lang {
                Lang::En => format!(": {size} in {span}"),
                Lang::Zh => format!("：{span} 后到达 {size}"),
            }
        });
        let words = lang.pick("forecast", "预测");
        items.push((FORECAST, "7 5", format!("{words} {rate:+.2} MiB/h{until}")));
    }
    let mut x = LEFT;
    let y = HEIGHT - 24.0;
    for (stroke, dashes, words) in items {
        let (to, at) = (x + 28.0, y - 4.0);
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{at:.1}\" x2=\"{to:.1}\" y2=\"{at:.1}\" stroke=\"{stroke}\" stroke-width=\"2.5\" stroke-dasharray=\"{dashes}\"/>"
        );
        text(out, (x + 34.0, y), "start", "#1f2328", &words);
        x += 34.0 + 7.6 * super::width::width(&words) as f64 + 22.0;
    }
}

/// A page with the drawing and the report as text.
///
/// # Errors
/// As [`super::report`].
pub fn html(report: &Report<LeakData>, lang: Lang) -> super::Result<String> {
    let style = Style {
        lang,
        color: false,
        width: COLUMNS,
        unicode: true,
    };
    let title = lang.pick("Memory leak report", "内存泄漏检测报告");
    let tag = match lang {
        Lang::En => "en",
        Lang::Zh => "zh-CN",
    };
    // The drawing stands above. A browser takes braille, pictograms and CJK from other fonts than the rest, of other
    // widths: so nothing that must stand below each other, also no frame.
    let mut told = report.clone();
    told.data.series.clear();
    let page = super::report(&told, Format::Text, &style)?;
    let page: String = page.lines().map(unframed).collect();
    let drawing = svg(report, lang);
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"{tag}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light\">\n\
         <title>{title}</title>\n\
         <style>body{{margin:24px;font-family:{FONTS};color:#1f2328;background:#fff}}\
         svg{{max-width:100%;height:auto}}pre{{margin:0;font:inherit;font-size:14px;line-height:1.45;white-space:pre-wrap}}\
         hr{{border:0;border-top:1px solid #d8dee4;margin:8px 0}}</style>\n\
         </head>\n<body>\n{drawing}{page}</body>\n</html>\n"
    ))
}

/// A line of the report without its frame.
fn unframed(line: &str) -> String {
    let inner = line.strip_prefix(['│', '┃']);
    let inner = inner.and_then(|line| line.strip_suffix(['│', '┃']));
    match inner {
        // The title, with the time at the right end.
        Some(inner) if line.starts_with('┃') => {
            let parts = inner.split("  ").map(str::trim);
            let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
            format!("<pre>{}</pre>\n", safe(&parts.join(" · ")))
        }
        Some(inner) => {
            let inner = inner.strip_prefix(' ').unwrap_or(inner).trim_end();
            format!("<pre>{}</pre>\n", safe(inner))
        }
        None if line.starts_with(['┏', '┡', '├', '└', '┗']) => "<hr/>\n".to_owned(),
        None => format!("<pre>{}</pre>\n", safe(line)),
    }
}
