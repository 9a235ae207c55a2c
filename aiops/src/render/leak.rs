//! `detect memory-leak` for people: the verdict and why, the trend with a drawn curve, when the limit is met.

use super::TextReport;
use super::account;
use super::findings;
use super::lang::Lang;
use super::text::Out;
use super::text::Paint;
use super::units;
use crate::msg;
use crate::report::Report;
use crate::report::leak::Change;
use crate::report::leak::LeakData;
use crate::report::leak::Oom;
use crate::report::leak::Point;

/// Lines of the curve.
const ROWS: usize = 6;
/// Most columns of it.
const COLUMNS: usize = 64;

impl TextReport for LeakData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        out.title(
            lang.pick("Memory leak report", "内存泄漏检测报告"),
            &super::text::clock(&report.generated_at),
        );
        about(data, out);
        out.rule();
        verdict(data, out);
        out.rule();
        trend(data, out);
        if let Some(oom) = &data.oom {
            limit(oom, out);
        }
        for note in &data.notes {
            out.hang(0, 2, Paint::Dim, &format!("- {}", lang.of(note)));
        }
        findings::write(&report.findings, out);
        out.rule();
        account::write(&report.accounting, out);
    }
}

fn about(data: &LeakData, out: &mut Out) {
    let lang = out.lang();
    let process = &data.process;
    if let Some(comm) = &process.comm {
        let pid = process
            .pid
            .map_or(String::new(), |pid| format!(" (PID: {pid})"));
        out.pair(0, lang.pick("Process", "进程"), &format!("{comm}{pid}"));
    }
    if let Some(input) = &process.input {
        out.pair(0, lang.pick("Input", "输入"), input);
    }
    let window = &data.window;
    if let (Some(start), Some(end)) = (&window.start, &window.end) {
        let (start, end) = (super::text::clock(start), super::text::clock(end));
        let (samples, every) = (window.samples, units::span(window.interval_s));
        let text = match lang {
            Lang::En => format!("{start} – {end}, {samples} samples, every {every}"),
            Lang::Zh => format!("{start} – {end}，{samples} 个样本，间隔 {every}"),
        };
        out.pair(0, lang.pick("Window", "检测时间范围"), &text);
    }
    out.pair(
        0,
        lang.pick("Method", "检测算法"),
        lang.pick(
            "comparison of trend shapes under autocorrelated noise (BIC), change points",
            "自相关噪声下的趋势形状比较（BIC）+ 变化点检测",
        ),
    );
}

fn verdict(data: &LeakData, out: &mut Out) {
    let lang = out.lang();
    let (mark, paint, words) = match data.verdict {
        "leak" => ("🔴", Paint::Bad, lang.pick("Memory leak", "检测到内存泄漏")),
        "no-leak" => (
            "🟢",
            Paint::Good,
            lang.pick("No memory leak", "未检测到内存泄漏"),
        ),
        _ => (
            "🟡",
            Paint::Warn,
            lang.pick("Cannot be told yet", "尚不能判断"),
        ),
    };
    let mark = if out.unicode() { mark } else { "*" };
    let sure = data.confidence * 100.0;
    let text = match (lang, data.verdict) {
        (_, "inconclusive") => format!("{mark} {words}"),
        (Lang::En, _) => format!("{mark} {words} (confidence {sure:.1}%)"),
        (Lang::Zh, _) => format!("{mark} {words}（置信度：{sure:.1}%）"),
    };
    out.hang(0, 3, paint, &text);
    out.hang(0, 3, Paint::Plain, &format!("   {}", lang.of(&data.reason)));
}

fn trend(data: &LeakData, out: &mut Out) {
    let lang = out.lang();
    out.heading(
        "📊",
        lang.pick(
            "Trend (MiB = 2^20 bytes)",
            "内存增长趋势（MiB = 2^20 字节）",
        ),
    );
    for line in chart(
        &data.series,
        out.inner().saturating_sub(4).min(COLUMNS),
        out.unicode(),
    ) {
        out.line(2, Paint::Plain, &line);
    }
    let sizes = |size: &Change| {
        let change = size.change_pct;
        let change = change.map_or(String::new(), |change| format!(" ({change:+.1}%)"));
        let (first, last) = (units::size_kb(size.first_kb), units::size_kb(size.last_kb));
        format!("{first} → {last}{change}")
    };
    match (&data.judged, data.measure) {
        (Some(judged), Some(measure)) => {
            let name = format!("{} ({measure})", lang.pick("Memory", "内存"));
            out.pair(2, &name, &sizes(judged));
            out.pair(2, "RSS", &sizes(&data.rss));
        }
        _ => out.pair(2, lang.pick("Memory", "内存"), &sizes(&data.rss)),
    }
    if let Some(rate) = data.rate_mib_per_hour {
        let interval = data.rate_interval.map_or(String::new(), |[low, high]| {
            let range = format!("{low:.2} – {high:.2}");
            match lang {
                Lang::En => format!(" (95% interval {range})"),
                Lang::Zh => format!("（95% 区间 {range}）"),
            }
        });
        let text = format!("{rate:.2} MiB/h{interval}");
        out.pair(2, lang.pick("Growth", "增长速率"), &text);
    }
    if let Some(r2) = data.r2 {
        let shape = data.shape.unwrap_or_default();
        let text = format!("{shape}, R² = {r2:.3}");
        out.pair(2, lang.pick("Shape", "拟合形状"), &text);
    }
    if let Some(onset) = &data.onset {
        out.pair(
            2,
            lang.pick("Since", "起始时间"),
            &super::text::clock(onset),
        );
    }
    if let Some(least) = data.detection_limit_mib_per_hour {
        let text = match lang {
            Lang::En => format!("leaks below {least:.2} MiB/h would not be seen"),
            Lang::Zh => format!("低于 {least:.2} MiB/h 的泄漏无法发现"),
        };
        out.pair(2, lang.pick("Detection limit", "检出下限"), &text);
    }
}

fn limit(oom: &Oom, out: &mut Out) {
    let lang = out.lang();
    out.heading("⏱️", lang.pick("Out of memory", "OOM 预测"));
    let size = units::size_kb(oom.limit_bytes / 1024);
    out.pair(2, lang.pick("Limit", "上限"), &size);
    let latest = oom.interval.1.map_or_else(
        || lang.pick("never", "永不").to_owned(),
        |latest| units::span(latest * 3600.0),
    );
    let (about, soonest) = (
        units::span(oom.hours * 3600.0),
        units::span(oom.interval.0 * 3600.0),
    );
    let text = match lang {
        Lang::En => format!("in about {about} ({soonest} to {latest})"),
        Lang::Zh => format!("约 {about} 后（{soonest} 至 {latest}）"),
    };
    out.pair(2, lang.pick("At this rate", "按当前增长速率"), &text);
    let at = oom.at.as_deref().map(super::text::clock);
    let none = msg!("not within 10 years", "10 年内不会");
    let at = at.unwrap_or_else(|| lang.of(&none).to_owned());
    out.pair(2, lang.pick("Estimated time", "OOM 时间估算"), &at);
}

/// A curve of points in time order: braille dots, 2 × 4 to a character, between the lowest and the highest
/// size, which stand at the left. Nothing below two points.
fn chart(points: &[Point], columns: usize, unicode: bool) -> Vec<String> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Vec::new();
    };
    let span = last.ts - first.ts;
    let low = points.iter().map(|p| p.kb).fold(f64::MAX, f64::min);
    let high = points.iter().map(|p| p.kb).fold(f64::MIN, f64::max);
    let labels = [units::size_kb(whole(high)), units::size_kb(whole(low))];
    let left = labels.iter().map(String::len).max().unwrap_or(0) + 1;
    let columns = columns.saturating_sub(left);
    if points.len() < 2 || span <= 0.0 || columns < 8 {
        return Vec::new();
    }
    let (per_column, per_row) = if unicode { (2, 4) } else { (1, 1) };
    let (wide, tall) = (columns * per_column, ROWS * per_row);
    let mut dots = vec![vec![false; wide]; tall];
    for point in points {
        let x = (point.ts - first.ts) / span * (wide - 1) as f64;
        let y = (high - point.kb) / (high - low).max(1.0) * (tall - 1) as f64;
        let (x, y) = (usize_of(x), usize_of(y));
        dots[y.min(tall - 1)][x.min(wide - 1)] = true;
    }
    let mut lines = Vec::new();
    for row in 0..ROWS {
        let label = match row {
            0 => labels[0].as_str(),
            _ if row == ROWS - 1 => labels[1].as_str(),
            _ => "",
        };
        let mut line = format!("{label:>width$} ", width = left - 1);
        for column in 0..columns {
            line.push(if unicode {
                braille(&dots, row * 4, column * 2)
            } else if dots[row][column] {
                '*'
            } else {
                ' '
            });
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

fn whole(kb: f64) -> u64 {
    u64::try_from(usize_of(kb)).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that is negative or not a number becomes 0, a large one the largest"
)]
fn usize_of(value: f64) -> usize {
    value.round() as usize
}

/// The braille character of a cell of 4 rows and 2 columns.
fn braille(dots: &[Vec<bool>], row: usize, column: usize) -> char {
    const BITS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
    let mut bits = 0;
    for (dy, pair) in BITS.iter().enumerate() {
        for (dx, bit) in pair.iter().enumerate() {
            if dots[row + dy][column + dx] {
                bits |= bit;
            }
        }
    }
    char::from_u32(0x2800 + bits).unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rising_line_is_drawn_from_bottom_left_to_top_right() {
        let points: Vec<Point> = (0..100)
            .map(|i| Point {
                ts: f64::from(i),
                kb: f64::from(i) * 1024.0,
            })
            .collect();
        let lines = chart(&points, 40, false);
        assert_eq!(lines.len(), ROWS);
        assert!(
            lines[0].ends_with('*') && lines[0].contains("99 MiB"),
            "{lines:?}"
        );
        let bottom = lines[ROWS - 1].find('*').expect("a dot");
        assert!(bottom < lines[0].find('*').expect("a dot"), "{lines:?}");
        assert!(chart(&points[..1], 40, true).is_empty());
        assert!(chart(&points, 40, true)[0].chars().any(|c| c > '\u{2800}'));
    }
}
