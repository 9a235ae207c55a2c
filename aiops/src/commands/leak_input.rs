//! A series from a CSV file, whatever is wrong with it.

use std::fs::File;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context as _;

use crate::analysis::leak::Series;
use crate::diag;
use crate::msg;
use crate::report::Msg;
use crate::time;

/// More rows than this are thinned out to at least half of it.
const MOST_ROWS: usize = 400_000;
/// Times beyond this are milliseconds.
const MILLISECONDS: f64 = 1e11;
const COLUMNS: &str =
    "the first line names the columns: ts, one of bytes, kb, mb, and perhaps load and start";

/// A series and what was met on the way.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) series: Series,
    /// Rows without a size.
    pub(super) missing: usize,
    /// Rows that are no samples.
    pub(super) not_understood: u64,
    pub(super) notes: Vec<Msg>,
}

/// One row; what is not known is NaN.
#[derive(Clone, Copy)]
struct Row {
    ts: f64,
    bytes: f64,
    load: f64,
    start: f64,
}

/// Where the columns are.
struct Header {
    ts: usize,
    size: usize,
    scale: f64,
    load: Option<usize>,
    start: Option<usize>,
}

fn header(line: &str) -> Option<Header> {
    let line = line.trim_start_matches('\u{feff}');
    let names: Vec<String> = line
        .split(',')
        .map(|name| name.trim().trim_matches('"').to_ascii_lowercase())
        .collect();
    let find = |name: &str| names.iter().position(|other| other == name);
    let sizes = [("bytes", 1.0), ("kb", 1024.0), ("mb", 1_048_576.0)];
    let (size, scale) = sizes
        .iter()
        .find_map(|(name, scale)| Some((find(name)?, *scale)))?;
    Some(Header {
        ts: find("ts")?,
        size,
        scale,
        load: find("load"),
        start: find("start"),
    })
}

/// A time in seconds; `None`: it is none.
fn moment(text: &str) -> Option<f64> {
    let seconds = match text.parse::<f64>() {
        Ok(number) if number.abs() > MILLISECONDS => number / 1000.0,
        Ok(number) => number,
        Err(_) => time::from_rfc3339(text)? as f64 / 1e9,
    };
    (seconds.abs() < MILLISECONDS).then_some(seconds)
}

/// What a line is.
enum Line {
    Sample(Row),
    /// There is a time, but no size.
    Missing,
    NotUnderstood,
}

fn line(text: &str, header: &Header) -> Line {
    let cells: Vec<&str> = text
        .split(',')
        .map(|c| c.trim().trim_matches('"'))
        .collect();
    let cell = |column: usize| cells.get(column).copied().unwrap_or_default();
    let Some(ts) = moment(cell(header.ts)) else {
        return Line::NotUnderstood;
    };
    let size = cell(header.size);
    let empty = ["", "nan", "null", "none", "na"].contains(&size.to_ascii_lowercase().as_str());
    if empty {
        return Line::Missing;
    }
    let bytes = match size.parse::<f64>() {
        Ok(size) if size.is_finite() && (0.0..1e18).contains(&(size * header.scale)) => {
            size * header.scale
        }
        _ => return Line::NotUnderstood,
    };
    let known = |number: Option<f64>| number.filter(|n| n.is_finite()).unwrap_or(f64::NAN);
    Line::Sample(Row {
        ts,
        bytes,
        load: known(header.load.and_then(|column| cell(column).parse().ok())),
        start: known(header.start.and_then(|column| moment(cell(column)))),
    })
}

/// Reads a file.
///
/// # Errors
/// It cannot be read, has no such columns, or not one sample.
pub(super) fn read(path: &Path) -> anyhow::Result<Input> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let mut reader = BufReader::new(file);
    let mut text = Vec::new();
    let cannot_read = || format!("cannot read {name}");
    reader
        .read_until(b'\n', &mut text)
        .with_context(cannot_read)?;
    let Some(header) = header(&String::from_utf8_lossy(&text)) else {
        let error = anyhow::anyhow!("no columns ts and bytes in {name}");
        return Err(diag::hint(error, COLUMNS));
    };
    let mut input = Input::default();
    let mut rows: Vec<Row> = Vec::new();
    let (mut stride, mut seen) = (1_usize, 0_usize);
    loop {
        text.clear();
        if reader
            .read_until(b'\n', &mut text)
            .with_context(cannot_read)?
            == 0
        {
            break;
        }
        let row = String::from_utf8_lossy(&text);
        if row.trim().is_empty() {
            continue;
        }
        match line(&row, &header) {
            Line::Sample(row) => {
                if seen.is_multiple_of(stride) {
                    rows.push(row);
                }
                seen += 1;
                if rows.len() >= MOST_ROWS {
                    let mut keep = false;
                    rows.retain(|_| {
                        keep = !keep;
                        keep
                    });
                    stride *= 2;
                }
            }
            Line::Missing => input.missing += 1,
            Line::NotUnderstood => input.not_understood += 1,
        }
    }
    if rows.is_empty() {
        let error = anyhow::anyhow!("not one sample in {name}");
        return Err(diag::hint(error, COLUMNS));
    }
    if stride > 1 {
        input.notes.push(msg!(
            "{seen} rows: every {stride}th one is judged",
            "共 {seen} 行：每 {stride} 行取一行"
        ));
    }
    input.notes.extend(order(&mut rows));
    input.series = series(&rows);
    Ok(input)
}

/// A clock is set back now and then; rows whose times jump all the time are in no order, and are sorted.
fn order(rows: &mut [Row]) -> Option<Msg> {
    let back = rows
        .windows(2)
        .filter(|pair| pair[1].ts < pair[0].ts)
        .count();
    if back <= 3 || back * 50 < rows.len() {
        return None;
    }
    rows.sort_by(|a, b| a.ts.total_cmp(&b.ts));
    Some(msg!(
        "the rows were in no order of time: they are sorted",
        "各行时间无序：已按时间排序"
    ))
}

fn series(rows: &[Row]) -> Series {
    let known = |pick: fn(&Row) -> f64| -> Option<Vec<f64>> {
        // A value holds until the next one; before the first one, that one.
        let first = rows.iter().map(pick).find(|value| value.is_finite())?;
        let all = rows.iter().filter(|row| pick(row).is_finite()).count();
        let mut last = first;
        let filled = rows.iter().map(|row| {
            let value = pick(row);
            last = if value.is_finite() { value } else { last };
            last
        });
        (all * 2 > rows.len()).then(|| filled.collect())
    };
    Series {
        time_s: rows.iter().map(|row| row.ts).collect(),
        bytes: rows.iter().map(|row| row.bytes).collect(),
        load: known(|row| row.load),
        start_s: known(|row| row.start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_the_unit() {
        let at = |text: &str| header(text).map(|h| (h.ts, h.size, h.scale));
        assert_eq!(at("ts,bytes,load,start\n"), Some((0, 1, 1.0)));
        assert_eq!(at("\u{feff}TS, KB"), Some((0, 1, 1024.0)));
        assert_eq!(at("name,mb,ts"), Some((2, 1, 1_048_576.0)));
        assert_eq!(at("time,size"), None);
    }

    #[test]
    fn rows_are_samples_gaps_or_garbage() {
        let header = header("ts,bytes,load,start").expect("a header");
        let kind = |text: &str| match line(text, &header) {
            Line::Sample(row) => Some((row.ts, row.bytes)),
            Line::Missing => Some((0.0, -1.0)),
            Line::NotUnderstood => None,
        };
        assert_eq!(kind("10,5,,"), Some((10.0, 5.0)));
        assert_eq!(kind("1700000000000,5"), Some((1.7e9, 5.0)));
        assert_eq!(kind("2023-11-14T22:13:20Z,5"), Some((1.7e9, 5.0)));
        assert_eq!(kind("10,NaN,1,1"), Some((0.0, -1.0)));
        for bad in ["x,5", "10,x", "10,-5", "10,inf", "inf,5", "NaN,5"] {
            assert_eq!(kind(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_clock_step_stays_and_a_shuffle_is_sorted() {
        let row = |ts: f64| Row {
            ts,
            bytes: 1.0,
            load: f64::NAN,
            start: f64::NAN,
        };
        let mut step: Vec<Row> = (0..40).map(|i| row(f64::from(i % 20))).collect();
        assert!(order(&mut step).is_none());
        let mut shuffled: Vec<Row> = (0..40).map(|i| row(f64::from(i * 7 % 40))).collect();
        assert!(order(&mut shuffled).is_some());
        assert!(shuffled.windows(2).all(|pair| pair[0].ts <= pair[1].ts));
    }
}
