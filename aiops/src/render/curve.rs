//! A drawn curve with axes: sizes on the left, times below; braille dots, or plain characters.

use super::units;
use super::width;
use crate::report::leak::Point;
use crate::time;

const DAY: f64 = 86_400.0;
/// Fewest columns of the drawing itself.
const LEAST: usize = 16;

/// Draws points in time order into at most `columns`, with `rows` lines for the curve and two for the times.
/// Nothing below two points, where no time passes, and where it is too narrow.
#[must_use]
pub(super) fn chart(points: &[Point], columns: usize, rows: usize, unicode: bool) -> Vec<String> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Vec::new();
    };
    let span = last.ts - first.ts;
    let low = points.iter().map(|p| p.kb).fold(f64::MAX, f64::min);
    let high = points.iter().map(|p| p.kb).fold(f64::MIN, f64::max);
    let labels = sizes(low, high);
    let left = labels.iter().map(|label| width::width(label)).max();
    let left = left.unwrap_or(0);
    let columns = columns.saturating_sub(left + 2);
    if points.len() < 2 || span <= 0.0 || columns < LEAST || rows < 3 {
        return Vec::new();
    }
    let (per_column, per_row) = if unicode { (2, 4) } else { (1, 1) };
    let (wide, tall) = (columns * per_column, rows * per_row);
    let mut dots = vec![vec![false; wide]; tall];
    // A level series is drawn in the middle.
    let (top, height) = if high > low {
        (high, high - low)
    } else {
        (high + 0.5, 1.0)
    };
    let gap = 4.0 * span / points.len() as f64;
    let mut before: Option<(f64, f64, f64)> = None;
    for point in points {
        let x = (point.ts - first.ts) / span * (wide - 1) as f64;
        let y = (top - point.kb) / height * (tall - 1) as f64;
        // Neighbours are joined, but not over a gap in the samples.
        let joined = before.filter(|(_, _, ts)| point.ts - ts <= gap);
        let (x0, y0, _) = joined.unwrap_or((x, y, point.ts));
        let steps = (x - x0)
            .abs()
            .max((y - y0).abs())
            .ceil()
            .clamp(1.0, (wide + tall) as f64);
        for step in 0..=units::whole_usize(steps) {
            let part = step as f64 / steps;
            let (x, y) = (x0 + (x - x0) * part, y0 + (y - y0) * part);
            let (x, y) = (units::whole_usize(x), units::whole_usize(y));
            dots[y.min(tall - 1)][x.min(wide - 1)] = true;
        }
        before = Some((x, y, point.ts));
    }
    let mut lines = Vec::new();
    for row in 0..rows {
        let label = match row {
            0 => Some(&labels[0]),
            _ if row == rows / 2 => Some(&labels[1]),
            _ if row == rows - 1 => Some(&labels[2]),
            _ => None,
        };
        let axis = match (unicode, label.is_some_and(|label| !label.is_empty())) {
            (true, true) => '┤',
            (true, false) => '│',
            (false, true) => '+',
            (false, false) => '|',
        };
        let label = label.map_or("", String::as_str);
        let mut line = format!("{} {axis}", width::pad(label, left, true));
        for column in 0..columns {
            line.push(if unicode {
                braille(&dots, row * 4, column * 2)
            } else if dots[row][column] {
                '*'
            } else {
                ' '
            });
        }
        lines.push(line.trim_end_matches([' ', '\u{2800}']).to_owned());
    }
    lines.extend(times(first.ts, last.ts, left + 1, columns, unicode));
    lines
}

/// The axis below and its times: begin, middle where there is room, end.
fn times(first: f64, last: f64, left: usize, columns: usize, unicode: bool) -> [String; 2] {
    let (corner, line, tick) = if unicode {
        ('└', '─', '┴')
    } else {
        ('+', '-', '+')
    };
    let span = last - first;
    let labels = [
        moment(first, span),
        moment(first + span / 2.0, span),
        moment(last, span),
    ];
    let middle = columns / 2;
    let mut axis = format!("{}{corner}", " ".repeat(left));
    let mut text = " ".repeat(left + 1);
    let wide = labels.each_ref().map(|label| width::width(label));
    let roomy = wide[0] + wide[1] + wide[2] + 4 <= columns;
    for column in 0..columns {
        let marked = column == columns - 1 || column == 0 || (roomy && column == middle);
        axis.push(if marked { tick } else { line });
    }
    text.push_str(&labels[0]);
    if roomy {
        let at = (left + 1 + middle).saturating_sub(wide[1] / 2);
        text.push_str(&" ".repeat(at.saturating_sub(width::width(&text))));
        text.push_str(&labels[1]);
    }
    let at = (left + 1 + columns).saturating_sub(wide[2]);
    let gap = at.saturating_sub(width::width(&text)).max(1);
    text.push_str(&" ".repeat(gap));
    text.push_str(&labels[2]);
    [axis, text]
}

/// A moment of an axis that is `span` seconds long, as short as tells it.
pub(super) fn moment(seconds: f64, span: f64) -> String {
    let ns = units::whole_i64(seconds * 1e9);
    let Some(text) = time::rfc3339(ns, time::local_offset_s(ns)) else {
        return format!("{seconds:.0}");
    };
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    if span < 600.0 {
        part(11, 19).to_owned()
    } else if span < 0.9 * DAY {
        part(11, 16).to_owned()
    } else if span < 60.0 * DAY {
        format!("{} {}", part(5, 10), part(11, 16))
    } else {
        part(0, 10).to_owned()
    }
}

/// The unit for sizes up to `high`, in KiB.
fn unit(high: f64) -> (f64, &'static str) {
    let units = [
        (1_073_741_824.0, "TiB"),
        (1_048_576.0, "GiB"),
        (1024.0, "MiB"),
    ];
    let unit = units.into_iter().find(|unit| high >= unit.0);
    unit.unwrap_or((1.0, "KiB"))
}

/// A size in the unit for sizes up to `high`.
pub(super) fn size(kb: f64, high: f64, digits: usize) -> String {
    let (one, name) = unit(high);
    format!("{:.digits$} {name}", kb / one)
}

/// The highest size, the middle and the lowest, in one unit, with the digits that tell them apart; the same size
/// stands once.
pub(super) fn sizes(low: f64, high: f64) -> [String; 3] {
    let (one, _) = unit(high);
    let text = |kb: f64, digits: usize| size(kb, high, digits);
    if high <= low {
        return [String::new(), text(high, 1), String::new()];
    }
    let step = (high - low) / 2.0 / one;
    let mut digits = 0;
    let mut scale = 1.0;
    while digits < 5 && step * scale < 2.0 {
        digits += 1;
        scale *= 10.0;
    }
    [
        text(high, digits),
        text(f64::midpoint(low, high), digits),
        text(low, digits),
    ]
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

    fn line(n: u32, kb: impl Fn(f64) -> f64) -> Vec<Point> {
        (0..n)
            .map(|i| Point {
                ts: 1.7e9 + f64::from(i) * 60.0,
                kb: kb(f64::from(i)),
            })
            .collect()
    }

    #[test]
    fn a_rising_line_is_drawn_from_bottom_left_to_top_right() {
        let points = line(100, |i| i * 1024.0);
        let lines = chart(&points, 60, 8, false);
        assert_eq!(lines.len(), 10);
        assert!(lines[0].ends_with('*'), "{lines:?}");
        assert!(lines[0].starts_with("99 MiB +"), "{lines:?}");
        let bottom = lines[7].find('*').expect("a dot");
        assert!(bottom < lines[0].find('*').expect("a dot"), "{lines:?}");
        assert!(chart(&points[..1], 60, 8, true).is_empty());
        assert!(chart(&points, 12, 8, true).is_empty());
        assert!(
            chart(&points, 60, 8, true)[0]
                .chars()
                .any(|c| c > '\u{2800}')
        );
    }

    #[test]
    fn axes_have_sizes_and_times_and_fit() {
        let points = line(1440, |i| 1_000_000.0 + i);
        for unicode in [true, false] {
            for columns in [40, 60, 76] {
                let lines = chart(&points, columns, 8, unicode);
                for line in &lines {
                    assert!(width::width(line) <= columns, "{line:?}");
                }
                let times: Vec<&str> = lines[9].split_whitespace().collect();
                assert!(times.len() == 4 || times.len() == 6, "{lines:?}");
                let sizes: Vec<&str> = lines[..8]
                    .iter()
                    .filter_map(|line| line.split_once(" MiB").map(|parts| parts.0.trim()))
                    .collect();
                assert_eq!(sizes, ["978.0", "977.3", "976.6"], "{lines:?}");
            }
        }
    }

    #[test]
    fn a_level_series_is_a_line_in_the_middle_with_one_label() {
        let lines = chart(&line(50, |_| 2048.0), 60, 8, false);
        let labelled = lines.iter().filter(|line| line.contains("MiB")).count();
        assert_eq!(labelled, 1, "{lines:?}");
        assert!(
            lines[3].contains('*') || lines[4].contains('*'),
            "{lines:?}"
        );
    }
}
