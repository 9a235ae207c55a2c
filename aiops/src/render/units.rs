//! Figures for people: sizes, shares, spans of time, small curves. Three digits count; an exact figure
//! has no decimals (`64 MiB`), a rounded one shows that it is (`64.0 MiB`).

pub use crate::report::size_kb;

/// A size that may be unknown.
pub(super) fn size(kb: Option<u64>, lang: super::Lang) -> String {
    kb.map_or_else(|| lang.unknown().to_owned(), size_kb)
}

/// Pages of 4 KiB or another size, as a size; pages alone when the page size is unknown.
#[must_use]
pub fn size_pages(pages: u64, page_size: Option<u64>) -> Option<String> {
    let bytes = u128::from(pages) * u128::from(page_size?);
    u64::try_from(bytes / 1024).ok().map(size_kb)
}

/// `part` of `whole` as `63.8%`; `None` when the whole is 0.
#[must_use]
pub fn share(part: u64, whole: u64) -> Option<String> {
    if whole == 0 {
        return None;
    }
    let percent = part as f64 * 100.0 / whole as f64;
    Some(match part {
        0 => "0%".to_owned(),
        _ if part == whole => "100%".to_owned(),
        _ if percent < 0.005 => "<0.01%".to_owned(),
        _ if percent < 1.0 => format!("{percent:.2}%"),
        _ => format!("{percent:.1}%"),
    })
}

/// Change from `first` to `last` as `+216%`; `None` from 0.
#[must_use]
pub fn change(first: u64, last: u64) -> Option<String> {
    if first == 0 {
        return None;
    }
    let percent = (last as f64 - first as f64) * 100.0 / first as f64;
    Some(if percent.abs() < 10.0 {
        format!("{percent:+.1}%")
    } else {
        format!("{percent:+.0}%")
    })
}

/// A span of seconds as `850 ms`, `12.5 s`, `5m 12s`, `3h 07m`, `2d 04h`.
#[must_use]
pub fn span(seconds: f64) -> String {
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1000.0);
    }
    if seconds < 59.95 {
        let text = format!("{seconds:.1}");
        return format!("{} s", text.strip_suffix(".0").unwrap_or(&text));
    }
    let whole = std::time::Duration::try_from_secs_f64(seconds.round())
        .map_or(0, |duration| duration.as_secs());
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m {:02}s", whole % 60),
        (0, _) => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

/// Milliseconds with the digits that count: `-12.3`, `0.042`, `1532`.
#[must_use]
pub fn millis(ms: f64) -> String {
    match ms.abs() {
        v if v < 0.0005 => "0".to_owned(),
        v if v < 9.9995 => format!("{ms:+.3}"),
        v if v < 999.95 => format!("{ms:+.1}"),
        _ => format!("{ms:+.0}"),
    }
}

/// The nearest whole number; below 0 and no number: 0, beyond the largest: that.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "such values saturate, and no number becomes 0"
)]
#[must_use]
pub fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// [`whole`] for places in a drawing.
#[must_use]
pub fn whole_usize(value: f64) -> usize {
    usize::try_from(whole(value)).unwrap_or(usize::MAX)
}

/// The nearest whole number of either sign; no number: 0, beyond the ends: those.
#[expect(
    clippy::cast_possible_truncation,
    reason = "such values saturate, and no number becomes 0"
)]
#[must_use]
pub fn whole_i64(value: f64) -> i64 {
    value.round() as i64
}

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const STEPS: [char; 8] = ['_', '.', '-', ':', '=', '+', '*', '#'];

/// A curve of at most `columns` characters from (time, value) points in order of time. The scale begins
/// at 0, so that a level is read as a level; each column shows the largest value of its share of the
/// time, and one without a point repeats the last known. `None` below two points.
#[must_use]
pub fn sparkline(points: &[(f64, u64)], columns: usize, unicode: bool) -> Option<String> {
    let (start, end) = (points.first()?.0, points.last()?.0);
    let columns = columns.min(points.len());
    if columns < 2 || end <= start {
        return None;
    }
    let max = points.iter().map(|(_, value)| *value).max()?.max(1);
    let marks = if unicode { BLOCKS } else { STEPS };
    let step = (end - start) / columns as f64;
    let mut rest = points.iter().peekable();
    let mut shown = points.first()?.1;
    let mut out = String::new();
    for column in 1..=columns {
        let until = if column == columns {
            f64::INFINITY
        } else {
            start + step * column as f64
        };
        let mut largest = None;
        while let Some((_, value)) = rest.next_if(|(time, _)| *time < until) {
            largest = largest.max(Some(*value));
        }
        shown = largest.unwrap_or(shown);
        let level = u128::from(shown) * 7 / u128::from(max);
        out.push(
            usize::try_from(level)
                .ok()
                .and_then(|level| marks.get(level))
                .copied()
                .unwrap_or(' '),
        );
    }
    Some(out)
}

/// A curve over the time from `start` to `end` in exactly `columns` characters, so that curves of one range stand
/// beside each other: a column shows the largest value of its share of the time, and one without a point is
/// a gap (`·`, or a space where there is no Unicode). The scale begins at 0. `None`: no points.
#[must_use]
pub fn axis_curve(
    points: &[(f64, u64)],
    (start, end): (f64, f64),
    columns: usize,
    unicode: bool,
) -> Option<String> {
    let max = points.iter().map(|(_, value)| *value).max()?.max(1);
    let marks = if unicode { BLOCKS } else { STEPS };
    let step = (end - start) / columns as f64;
    let mut rest = points.iter().peekable();
    let column = |column: usize| {
        // Half a thousandth of a column: times of steps are whole milliseconds.
        let until = start + step * (column as f64 - 0.0005);
        let mut largest = None;
        while let Some((_, value)) = rest.next_if(|(time, _)| *time < until || column == columns) {
            largest = largest.max(Some(*value));
        }
        let level = largest.map(|value| u128::from(value) * 7 / u128::from(max));
        let level = level.and_then(|level| usize::try_from(level).ok());
        let gap = if unicode { '·' } else { ' ' };
        level
            .and_then(|level| marks.get(level))
            .copied()
            .unwrap_or(gap)
    };
    Some((1..=columns).map(column).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        assert_eq!(size_kb(0), "0 KiB");
        assert_eq!(size_kb(1023), "1023 KiB");
        assert_eq!(size_kb(65_536), "64 MiB");
        assert_eq!(size_kb(65_540), "64.0 MiB");
        assert_eq!(size_kb(4_404_019), "4.20 GiB");
        assert_eq!(size_kb(8 << 20), "8 GiB");
        assert_eq!(size_kb(u64::MAX), "17179869184 TiB");
        assert_eq!(size_pages(3, Some(4096)).unwrap(), "12 KiB");
        assert_eq!(size_pages(3, None), None);
    }

    #[test]
    fn shares_and_changes() {
        assert_eq!(share(52, 8192).unwrap(), "0.63%");
        assert_eq!(share(0, 10).unwrap(), "0%");
        assert_eq!(share(10, 10).unwrap(), "100%");
        assert_eq!(share(1, 10_000_000).unwrap(), "<0.01%");
        assert_eq!(share(1, 0), None);
        assert_eq!(change(100, 316).unwrap(), "+216%");
        assert_eq!(change(100, 97).unwrap(), "-3.0%");
        assert_eq!(change(0, 97), None);
    }

    #[test]
    fn times() {
        assert_eq!(span(0.85), "850 ms");
        assert_eq!(span(60.0), "1m 00s");
        assert_eq!(span(12.46), "12.5 s");
        assert_eq!(span(5.0), "5 s");
        assert_eq!(span(11_220.0), "3h 07m");
        assert_eq!(span(187_200.0), "2d 04h");
        assert_eq!(millis(-12.345), "-12.3");
        assert_eq!(millis(0.0), "0");
        assert_eq!(millis(0.0421), "+0.042");
    }

    #[test]
    fn curves_begin_at_zero() {
        let points: Vec<_> = (0..8u32)
            .map(|i| (f64::from(i), u64::from(i) * 10))
            .collect();
        assert_eq!(sparkline(&points, 20, true).unwrap(), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&points, 4, true).unwrap(), "▂▄▆█");
        assert_eq!(sparkline(&points, 4, false).unwrap(), ".:+#");
        let gap = [(0.0, 5), (1.0, 5), (9.0, 10), (10.0, 10)];
        assert_eq!(sparkline(&gap, 4, true).unwrap(), "▄▄▄█");
        assert_eq!(sparkline(&[(0.0, 1)], 9, true), None);
        // Beside others of the same time, what is not known is a gap.
        let late = [(50.0, 4), (60.0, 8), (90.0, 8)];
        assert_eq!(
            axis_curve(&late, (0.0, 100.0), 10, true).unwrap(),
            "·····▄█··█"
        );
        assert_eq!(
            axis_curve(&late, (0.0, 100.0), 10, false).unwrap(),
            "     :#  #"
        );
        assert_eq!(axis_curve(&[], (0.0, 1.0), 9, true), None);
        assert_eq!(sparkline(&[(0.0, 0), (1.0, 0)], 9, true).unwrap(), "▁▁");
    }
}
