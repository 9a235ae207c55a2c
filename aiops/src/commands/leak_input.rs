//! A series from a CSV file, whatever is wrong with it.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

use crate::analysis::leak::Series;
use crate::diag;
use crate::msg;
use crate::render::escape;
use crate::render::width;
use crate::report::Msg;
use crate::time;

/// More rows than this are thinned out to at least half of it.
const MOST_ROWS: usize = 400_000;
/// Times beyond this are milliseconds.
const MILLISECONDS: f64 = 1e11;
/// No line needs more bytes than this: the rest of a longer one is skipped.
const LONGEST: usize = 1 << 16;
/// Columns of a bad line that are shown.
const SHOWN: usize = 60;
const COLUMNS: &str = "the first line names the columns, with commas between: ts, one of bytes, kb, mb, and perhaps load and start";
const ROWS: &str = "a row is a time (seconds since 1970, or RFC 3339) and a size of 0 or more: `1700000000,52428800`";
const FILE: &str = "--input names a CSV file, or - for standard input";

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
    let names: Vec<String> = cells(line)
        .iter()
        .map(|name| name.to_ascii_lowercase())
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
    let cells = cells(text);
    let cell = |column: usize| cells.get(column).map(AsRef::as_ref).unwrap_or_default();
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

/// Cells of a line as RFC 4180 has them: one in quotes may hold commas, and doubled quotes stand for one.
fn cells(text: &str) -> Vec<Cow<'_, str>> {
    if !text.contains('"') {
        return text.split(',').map(|cell| cell.trim().into()).collect();
    }
    let mut all = Vec::new();
    let (mut cell, mut quoted) = (String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    all.push(cell);
    let trimmed = |cell: String| Cow::Owned(cell.trim().to_owned());
    all.into_iter().map(trimmed).collect()
}

/// The next line, without its end where it is too long. `false`: there is none.
fn next(reader: &mut dyn BufRead, text: &mut Vec<u8>) -> io::Result<bool> {
    text.clear();
    let longest = LONGEST as u64;
    if reader.take(longest).read_until(b'\n', text)? == 0 {
        return Ok(false);
    }
    let mut ended = text.last() == Some(&b'\n') || text.len() < LONGEST;
    while !ended {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        ended = end.is_some() || buffer.is_empty();
        let used = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(used);
    }
    Ok(true)
}

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// It cannot be read, has no such columns, or not one sample.
pub(super) fn read(path: &Path) -> anyhow::Result<Input> {
    if path == Path::new("-") {
        return parse(&mut io::stdin().lock(), "standard input");
    }
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}"));
    let file = file.map_err(|error| diag::hint(error, FILE))?;
    if file.metadata().is_ok_and(|file| file.is_dir()) {
        let error = anyhow::anyhow!("{name}: a folder, not a file");
        return Err(diag::hint(error, FILE));
    }
    parse(
        &mut BufReader::with_capacity(1 << 16, file),
        &name.to_string(),
    )
}

fn parse(reader: &mut dyn BufRead, name: &str) -> anyhow::Result<Input> {
    let cannot_read = || format!("cannot read {name}");
    let mut text = Vec::new();
    if !next(reader, &mut text).with_context(cannot_read)? {
        let error = anyhow::anyhow!("{name}: empty");
        return Err(diag::hint(error, COLUMNS));
    }
    let Some(header) = header(&String::from_utf8_lossy(&text)) else {
        let first = shown(&text);
        let error = anyhow::anyhow!("{name}: no columns ts and bytes: the first line is `{first}`");
        return Err(diag::hint(error, COLUMNS));
    };
    let mut input = Input::default();
    let mut rows: Vec<Row> = Vec::new();
    let (mut stride, mut seen) = (1_usize, 0_usize);
    let mut number = 1_u64;
    let mut odd = None;
    while next(reader, &mut text).with_context(cannot_read)? {
        number += 1;
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
            Line::NotUnderstood => {
                input.not_understood += 1;
                odd.get_or_insert_with(|| (number, shown(&text)));
            }
        }
    }
    if rows.is_empty() {
        let error = match odd {
            Some((number, text)) => {
                anyhow::anyhow!("{name}: not one sample: line {number} is `{text}`")
            }
            None => anyhow::anyhow!("{name}: not one sample"),
        };
        return Err(diag::hint(error, ROWS));
    }
    if let Some((number, text)) = odd {
        let count = input.not_understood;
        input.notes.push(msg!(
            "{count} rows are no samples; the first is line {number}: `{text}`",
            "{count} 行不是样本；第一处在第 {number} 行：`{text}`"
        ));
    }
    if stride > 1 {
        input.notes.push(msg!(
            "{seen} rows: every {stride}th one is judged",
            "共 {seen} 行：每 {stride} 行取一行"
        ));
    }
    input.notes.extend(order(&mut rows));
    input.series = series(&rows);
    let known = rows.iter().filter(|row| row.load.is_finite()).count();
    if known > 0 && input.series.load.is_none() {
        let all = rows.len();
        input.notes.push(msg!(
            "the load is known in {known} of {all} rows, too few: it is not used",
            "{all} 行中仅 {known} 行有负载，过少：未使用"
        ));
    }
    Ok(input)
}

/// The beginning of a line, harmless.
fn shown(text: &[u8]) -> String {
    let start = &text[..text.len().min(4 * SHOWN)];
    let text = String::from_utf8_lossy(start);
    let text = escape::plain(text.trim()).into_owned();
    width::truncate(&text, SHOWN, "…")
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
    fn quotes_line_ends_and_long_lines() {
        let of =
            |text: &str| -> Vec<String> { cells(text).iter().map(ToString::to_string).collect() };
        assert_eq!(of("a, b ,,c\r\n"), ["a", "b", "", "c"]);
        assert_eq!(of("\"a,b\",\"say \"\"x\"\"\",3"), ["a,b", "say \"x\"", "3"]);
        assert_eq!(of("\"open,1"), ["open,1"]);

        let mut text = b"\xef\xbb\xbf\"ts\",\"name\",\"MB\"\r\n10,\"a,b\",\"5\"\r\n".to_vec();
        text.extend(vec![b'7'; 3 * LONGEST]);
        text.extend(b"\n11,x,6\r\n\r\n12,x,\n13,x,-1");
        let input = parse(&mut text.as_slice(), "it").expect("samples");
        assert_eq!(input.series.time_s, [10.0, 11.0]);
        assert_eq!(input.series.bytes, [5.0 * 1_048_576.0, 6.0 * 1_048_576.0]);
        assert_eq!((input.missing, input.not_understood), (1, 2));
        let note = &input.notes[0].en;
        assert!(note.contains("line 3") && note.len() < 200, "{note}");
    }

    #[test]
    fn many_rows_take_bounded_memory() {
        struct Rows(u64, Vec<u8>, usize);
        impl io::Read for Rows {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.2 == self.1.len() {
                    if self.0 == 1_000_000 {
                        return Ok(0);
                    }
                    self.1 = format!("{},{}\n", 1_700_000_000 + self.0, 5000 + self.0).into_bytes();
                    (self.0, self.2) = (self.0 + 1, 0);
                }
                let n = buffer.len().min(self.1.len() - self.2);
                buffer[..n].copy_from_slice(&self.1[self.2..self.2 + n]);
                self.2 += n;
                Ok(n)
            }
        }
        let rows = Rows(0, b"ts,bytes\n".to_vec(), 0);
        let input = parse(&mut BufReader::new(rows), "it").expect("samples");
        let kept = input.series.bytes.len();
        assert!((MOST_ROWS / 2..MOST_ROWS).contains(&kept), "{kept}");
        // Equally far apart, and to the end.
        let step = input.series.time_s[1] - input.series.time_s[0];
        let even = input
            .series
            .time_s
            .windows(2)
            .all(|two| two[1] - two[0] == step);
        assert!(even && step >= 4.0, "{step}");
        let last = input.series.time_s.last().expect("rows");
        assert!(*last > 1_700_999_999.0 - step - 1.0, "{last}");
        assert!(
            input.notes[0].en.contains("1000000 rows"),
            "{:?}",
            input.notes
        );
    }

    /// Numbers that are the same in every run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % sides
        }

        fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
            let sides = u64::try_from(all.len()).expect("few");
            all[usize::try_from(self.roll(sides)).expect("few")]
        }
    }

    /// What is wrong with files, thrown together.
    fn odd_file(dice: &mut Dice) -> Vec<u8> {
        let mut text = dice
            .of(&[
                "ts,bytes\n",
                "ts,kb,load\r\n",
                "\u{feff}TS,mb,load,start\n",
                "start,bytes,ts\n",
            ])
            .as_bytes()
            .to_vec();
        let rows = dice.of(&["0", "1", "2", "5", "19", "20", "21", "60", "120"]);
        let rows: u64 = rows.parse().expect("a number");
        let kind = dice.roll(6);
        for i in 0..rows {
            let wild = dice.roll(12) == 0 && kind != 0;
            let odd = [
                "",
                "NaN",
                "inf",
                "-inf",
                "1e308",
                "-1e308",
                "-1",
                "0",
                "1e17",
                "x",
                "\"",
                "1e-300",
                "999999999999999999999",
                "null",
            ];
            let cell = |dice: &mut Dice, usual: u64| {
                if wild && dice.roll(2) == 0 {
                    dice.of(&odd).to_owned()
                } else {
                    usual.to_string()
                }
            };
            let time = match kind {
                1 => 7,
                2 => dice.roll(1 << 40),
                3 => 1_700_000_000 - i * 60,
                _ => 1_700_000_000 + i * 60 + dice.roll(2),
            };
            let size = match kind {
                0 => 0,
                4 => dice.roll(1 << 60),
                5 => 1 << (i % 60),
                _ => 100_000_000 + i * 100_000 + dice.roll(1 << 20),
            };
            let (a, b) = (cell(dice, time), cell(dice, size));
            let (c, d) = (cell(dice, dice.0 % 100), cell(dice, time - time % 1000));
            text.extend(format!("{a},{b},{c},{d}\n").into_bytes());
            if dice.roll(40) == 0 {
                text.extend((0..dice.roll(30)).map(|i| u8::try_from(i * 8 % 256).unwrap_or(0)));
            }
        }
        text
    }

    /// Every number of the report is one, in every form.
    fn sane(input: &Input, limit: Option<u64>) {
        let found = crate::analysis::leak::assess(&input.series, limit.map(|bytes| bytes as f64));
        let data =
            crate::analysis::leak_report::data(&input.series, &found, limit.map(|l| (l, "option")));
        for number in [
            data.confidence,
            data.leak_probability,
            data.window.interval_s,
            data.window.last_life_s,
        ] {
            assert!(number.is_finite(), "{data:?}");
        }
        let points = data.series.iter().chain(&data.fitted);
        assert!(
            points
                .clone()
                .all(|point| point.ts.is_finite() && point.kb.is_finite()),
            "{data:?}"
        );
        let options = [
            data.rate_mib_per_hour,
            data.r2,
            data.linear_r2,
            data.detection_limit_mib_per_hour,
            data.rss.change_pct,
        ];
        assert!(
            options.iter().flatten().all(|number| number.is_finite()),
            "{data:?}"
        );
        assert!(
            data.rate_interval
                .iter()
                .flatten()
                .all(|number| number.is_finite()),
            "{data:?}"
        );
        assert!(
            data.oom
                .iter()
                .all(|oom| oom.hours.is_finite() && oom.interval.0.is_finite()),
            "{data:?}"
        );
        let report = crate::report::Report {
            schema: String::new(),
            version: String::new(),
            generated_at: String::new(),
            host: crate::report::HostInfo::default(),
            findings: crate::analysis::leak_report::findings(&data),
            data,
            accounting: crate::report::Accounting::default(),
        };
        for lang in [crate::render::Lang::En, crate::render::Lang::Zh] {
            let style = crate::render::Style {
                lang,
                color: false,
                width: 80,
                unicode: true,
            };
            let text = crate::render::report(&report, crate::render::Format::Text, &style)
                .expect("a text");
            let html = crate::render::plot::html(&report, lang).expect("a page");
            for (what, text) in [("text", &text), ("html", &html)] {
                for word in ["NaN", "inf ", "inf%", "inf\""] {
                    assert!(!text.contains(word), "{what} {word}: {text}");
                }
            }
        }
    }

    #[test]
    fn odd_files_give_a_report_of_numbers_or_an_error() {
        let mut dice = Dice(20_261_123);
        let (mut reports, mut errors) = (0, 0);
        for _ in 0..150 {
            let text = odd_file(&mut dice);
            let limit = [None, Some(0), Some(1 << 30), Some(u64::MAX)];
            let limit = limit[usize::try_from(dice.roll(4)).expect("few")];
            match parse(&mut text.as_slice(), "it") {
                Ok(input) => {
                    reports += 1;
                    sane(&input, limit);
                }
                Err(_) => errors += 1,
            }
        }
        assert!(reports > 50 && errors > 5, "{reports} {errors}");
    }

    #[test]
    fn garbage_is_an_error_or_samples_and_never_a_panic() {
        let mut dice = Dice(7);
        for round in 0..400 {
            let mut text = if round % 2 == 0 {
                b"ts,bytes\n".to_vec()
            } else {
                Vec::new()
            };
            let length = dice.roll(300);
            text.extend((0..length).map(|_| u8::try_from(dice.roll(256)).unwrap_or(0)));
            if let Ok(input) = parse(&mut text.as_slice(), "it") {
                assert!(input.series.bytes.iter().all(|bytes| bytes.is_finite()));
            }
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
