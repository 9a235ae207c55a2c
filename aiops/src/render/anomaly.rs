//! `detect anomaly` for people: a table of what was found, the rarest first, what moved with each, and the series
//! with the places marked.

use std::collections::BTreeMap;

use super::TextReport;
use super::account;
use super::curve;
use super::findings;
use super::lang::Lang;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::text::clock;
use super::units;
use super::width;
use crate::report::Report;
use crate::report::anomaly::Anomaly;
use crate::report::anomaly::AnomalyData;
use crate::report::anomaly::AnomalySeries;
use crate::report::anomaly::Moved;
use crate::report::anomaly::Subject;
use crate::report::shown;
use crate::time;

/// Names of kinds in both languages.
const KINDS: [(&str, &str, &str); 7] = [
    ("growth-point", "growth", "突增"),
    ("residual", "residual", "残差"),
    ("swap-surge", "swap surge", "swap 突增"),
    ("swap-sustained", "swap growth", "swap 增长"),
    ("swap-thrash", "thrashing", "内存颠簸"),
    ("outlier-process", "outlier", "离群进程"),
    ("change-point", "new level", "水平变化"),
];

fn kind(id: &'static str, lang: Lang) -> &'static str {
    let found = KINDS.iter().find(|one| one.0 == id);
    found.map_or(id, |(_, en, zh)| lang.pick(en, zh))
}

fn subject(subject: &Subject, lang: Lang) -> String {
    match (subject.what, subject.pid) {
        ("system-used", _) => lang.pick("used memory", "已用内存").to_owned(),
        ("system-swap", _) => "swap".to_owned(),
        ("cgroup", _) => {
            let path = subject.cgroup.clone().unwrap_or_default();
            match subject.measure {
                Some("usage") => format!("{path} {}", lang.pick("(with cache)", "（含缓存）")),
                _ => path,
            }
        }
        (_, pid) => {
            let comm = subject.comm.as_deref().unwrap_or_default();
            let pid = pid.map_or(String::new(), |pid| format!("({pid})"));
            format!("{comm}{pid}")
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a size is far below the largest integer"
)]
fn size(kb: f64) -> String {
    units::size_kb(kb.abs().round() as u64)
}

fn signed(kb: f64) -> String {
    let sign = if kb < 0.0 { "−" } else { "+" };
    format!("{sign}{}", size(kb))
}

fn value(one: &Anomaly) -> String {
    match (one.unit, one.kind) {
        ("kb", "outlier-process") => size(one.value),
        ("kb", _) => signed(one.value),
        ("kb_per_s", _) => format!("{}/s", size(one.value)),
        ("kb_per_h", _) => format!("{}/h", signed(one.value)),
        _ => format!("{:.1}/s", one.value),
    }
}

/// A moment to the minute.
fn minute(time: &str) -> String {
    clock(time).chars().take(16).collect()
}

/// How rare in words: how many in how long, or a probability.
fn rarity(one: &Anomaly, lang: Lang) -> String {
    let rarity = &one.rarity;
    match (rarity.expected_per_day, rarity.p) {
        (Some(a_day), _) if a_day > 0.0 => {
            let seconds = 86_400.0 / a_day;
            if seconds > 2.0 * 86_400.0 {
                let days = (seconds / 86_400.0).round();
                lang.pick("1 in %d days", "%d 天一次")
                    .replace("%d", &days.to_string())
            } else {
                let every = units::span(seconds);
                lang.pick("1 in %s", "%s一次").replace("%s", &every)
            }
        }
        (_, Some(p)) if p < 0.0001 => "p < 0.0001".to_owned(),
        (_, Some(p)) => format!("p = {p:.4}"),
        _ => lang.unknown().to_owned(),
    }
}

fn moved(one: &Moved, lang: Lang) -> String {
    let how = match one.status {
        "started" => lang.pick(" started", " 新启动"),
        "ended" => lang.pick(" ended", " 已结束"),
        _ => "",
    };
    format!(
        "{}{how} {}",
        subject(&one.subject, lang),
        signed(one.change_kb)
    )
}

fn paint(kind: &str) -> Paint {
    match kind {
        "swap-thrash" => Paint::Bad,
        "residual" | "change-point" => Paint::Plain,
        _ => Paint::Warn,
    }
}

/// Most curves that are drawn, and their columns.
const CURVES: usize = 6;
const COLUMNS: usize = 72;

/// Seconds since 1970.
fn seconds(time: &str) -> Option<f64> {
    Some(time::from_rfc3339(time)? as f64 / 1e9)
}

/// The series in which the rows of the table were found, all over the same time, with the rows' numbers below.
fn curves(data: &AnomalyData, out: &mut Out) {
    let lang = out.lang();
    let rows = &data.anomalies[..shown(data.top, data.anomalies.len())];
    let marked = |series: &AnomalySeries| -> Vec<(f64, usize)> {
        let own = rows.iter().enumerate().filter(|(_, one)| {
            one.subject == series.subject
                && one.kind != "outlier-process"
                && (one.unit == "kb_per_s") == (series.unit == "kb_per_s")
        });
        own.filter_map(|(nth, one)| Some((seconds(&one.at)?, nth + 1)))
            .collect()
    };
    let mut drawn: Vec<(&AnomalySeries, Vec<(f64, usize)>)> = data
        .series
        .iter()
        .map(|series| (series, marked(series)))
        .filter(|(series, marks)| !marks.is_empty() && series.points.len() > 1)
        .collect();
    // Those of the first rows.
    drawn.sort_by_key(|(_, marks)| marks.iter().map(|mark| mark.1).min());
    drawn.truncate(CURVES);
    let ends = drawn.iter().filter_map(|(series, _)| {
        let (first, last) = (series.points.first()?, series.points.last()?);
        Some((first.ts, last.ts))
    });
    let range = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    let Some((start, end)) = range.filter(|(start, end)| end > start) else {
        return;
    };
    out.blank();
    let (from, to) = (
        curve::moment(start, end - start),
        curve::moment(end, end - start),
    );
    let heading = lang.pick("Course", "变化曲线");
    out.heading("📈", &format!("{heading} ({from} – {to})"));
    let columns = out.inner().saturating_sub(4).min(COLUMNS);
    for (series, marks) in drawn {
        let values = || series.points.iter().map(|point| point.value);
        let (low, high) = (
            values().fold(f64::MAX, f64::min),
            values().fold(f64::MIN, f64::max),
        );
        let (what, unit) = match series.unit {
            "kb_per_s" => (lang.pick(" traffic", " 流量"), "/s"),
            _ => ("", ""),
        };
        let who = subject(&series.subject, lang);
        out.pair(
            2,
            &format!("{who}{what}"),
            &format!("{} – {}{unit}", size(low), size(high)),
        );
        let points: Vec<(f64, u64)> = (series.points.iter())
            .map(|point| (point.ts, units::whole(point.value - low)))
            .collect();
        let line = units::axis_curve(&points, (start, end), columns, out.unicode());
        out.line(4, Paint::Plain, &line.unwrap_or_default());
        let place =
            |ts: f64| units::whole_usize(((ts - start) / (end - start) * columns as f64).floor());
        let marks: Vec<(usize, usize)> = marks.iter().map(|(ts, nth)| (place(*ts), *nth)).collect();
        out.line(4, Paint::Dim, &pointers(&marks, columns, out.unicode()));
    }
}

/// A line with an arrow and the numbers below each place.
fn pointers(marks: &[(usize, usize)], columns: usize, unicode: bool) -> String {
    let mut places: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (place, nth) in marks {
        let numbers = places
            .entry((*place).min(columns.saturating_sub(1)))
            .or_default();
        numbers.push(nth.to_string());
    }
    let mut line = String::new();
    for (place, numbers) in places {
        let numbers = numbers.join(",");
        let used = width::width(&line);
        let place = place.min(columns.saturating_sub(1 + numbers.len()));
        // Beside what is there already, where it is too close.
        line.push_str(&" ".repeat(place.saturating_sub(used)));
        line.push(if unicode { '▲' } else { '^' });
        line.push_str(&numbers);
    }
    line
}

impl TextReport for AnomalyData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        out.title(
            lang.pick("Memory anomalies", "内存异常检测"),
            &clock(&report.generated_at),
        );
        about(data, out);
        out.rule();
        if data.anomalies.is_empty() {
            out.line(
                0,
                Paint::Good,
                lang.pick("Nothing out of the ordinary.", "未发现异常。"),
            );
        } else {
            table(data, out);
            curves(data, out);
        }
        for note in &data.notes {
            out.hang(0, 2, Paint::Dim, &format!("- {}", lang.of(note)));
        }
        findings::write(&report.findings, out);
        out.rule();
        account::write(&report.accounting, out);
    }
}

fn about(data: &AnomalyData, out: &mut Out) {
    let lang = out.lang();
    let window = &data.window;
    if let (Some(start), Some(end)) = (&window.start, &window.end) {
        let every = window
            .interval_s
            .map_or_else(|| lang.unknown().to_owned(), units::span);
        let (start, end, samples) = (clock(start), clock(end), window.samples);
        let text = match lang {
            Lang::En => format!("{start} – {end}, {samples} samples, every {every}"),
            Lang::Zh => format!("{start} – {end}，{samples} 个样本，间隔 {every}"),
        };
        out.pair(0, lang.pick("Window", "检测时间范围"), &text);
    }
    let known = units::span(window.baseline_s);
    let season = match window.seasonal {
        Some(true) => lang.pick(
            ", its daily course taken out (STL)",
            "，已去除每日规律（STL）",
        ),
        Some(false) => lang.pick(", no daily course in it", "，无每日规律"),
        None => "",
    };
    let text = match lang {
        Lang::En => format!(
            "{known} of the host{season}; {} processes",
            window.processes
        ),
        Lang::Zh => format!("主机 {known}{season}；{} 个进程", window.processes),
    };
    out.pair(0, lang.pick("Compared with", "比较基准"), &text);
}

fn table(data: &AnomalyData, out: &mut Out) {
    let lang = out.lang();
    let most = shown(data.top, data.anomalies.len());
    let shown = &data.anomalies[..most];
    out.table(&Table {
        columns: vec![
            Column::text(lang.pick("AT", "时间"), 16, 0),
            Column::text(lang.pick("WHAT", "类型"), 9, 0),
            Column::text(lang.pick("WHOSE", "对象"), 10, 0),
            Column::figures(lang.pick("SIZE", "大小"), 0),
            Column::figures(lang.pick("SIGMAS", "σ 倍数"), 2),
            Column::text(lang.pick("RARITY", "稀有度"), 10, 1),
        ],
        rows: shown
            .iter()
            .map(|one| {
                let sigmas = one.size_sigmas.map_or_else(
                    || lang.unknown().to_owned(),
                    |sigmas| format!("{sigmas:.1}"),
                );
                let cells = vec![
                    minute(&one.at),
                    kind(one.kind, lang).to_owned(),
                    subject(&one.subject, lang),
                    value(one),
                    sigmas,
                    rarity(one, lang),
                ];
                (paint(one.kind), cells)
            })
            .collect(),
    });
    let more = data.anomalies.len() - most;
    if more > 0 {
        let text = match lang {
            Lang::En => format!("… and {more} more (--top 0, -o json)"),
            Lang::Zh => format!("……另有 {more} 条（--top 0，-o json）"),
        };
        out.line(2, Paint::Dim, &text);
    }
    out.blank();
    for (nth, one) in shown.iter().enumerate() {
        let at = minute(&one.at);
        let who = subject(&one.subject, lang);
        let why = lang.of(&one.why);
        let until = one.until.as_deref().map(minute);
        let until = match (lang, until, one.kind) {
            (_, None, _) | (_, _, "residual") => String::new(),
            (Lang::En, Some(until), _) => format!(", until {until}"),
            (Lang::Zh, Some(until), _) => format!("，至 {until}"),
        };
        let text = format!("{}. {at} {who}{}{why}{until}", nth + 1, out.colon());
        out.hang(2, 5, Paint::Plain, &text);
        if !one.also_moved.is_empty() {
            let all: Vec<String> = one.also_moved.iter().map(|one| moved(one, lang)).collect();
            let label = lang.pick("also moved", "同时变化");
            out.pair(5, label, &all.join(lang.pick(", ", "，")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_stand_below_their_places() {
        assert_eq!(pointers(&[(3, 1), (10, 2)], 20, true), "   ▲1     ▲2");
        // Too close: beside each other; at the same place: one.
        assert_eq!(
            pointers(&[(4, 12), (3, 1), (4, 3)], 20, false),
            "   ^1^12,3"
        );
        assert_eq!(pointers(&[(900, 7)], 5, false), "   ^7");
        assert_eq!(pointers(&[], 5, false), "");
    }
}
