//! Rows of a range, as they are: what `aiops export` writes elsewhere.
//!
//! One UTC day after the other: what was compacted comes group of rows by group of rows, then what is still in
//! logs. Runs are cut to the range exactly to the sample. Every row gets the columns `host` and `boot_id`.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::Damage;
use super::Entry;
use super::Range;
use super::Segment;
use super::Store;
use super::StoreError;
use super::error::damaged;
use super::history::entries_of_hosts;
use super::history::id_of;
use super::rows::HOUR_MS;
use super::rows::Rows;
use super::segments;
use super::table::Column;
use super::table::Table;
use super::table::Values;

/// The tables of a store that can be exported.
pub const TABLES: [&str; 4] = ["process", "system", "cgroup", "event"];
/// Milliseconds of a day (UTC has no other ones: no calendar of Unix knows leap seconds).
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;
/// How often a day is begun again when files go away under us.
const TRIES: usize = 5;

/// Rows of a table, all of one UTC day.
#[derive(Debug)]
pub struct Batch {
    /// Whose rows: one of [`TABLES`].
    pub table: &'static str,
    /// The part of the wanted range that is in this day.
    pub day: Range,
    pub(super) columns: Vec<Column>,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Not known.
    Unknown,
    /// A number.
    Int(i64),
    /// Milliseconds since 1970 UTC.
    Time(i64),
    /// A text.
    Text(&'a str),
}

impl Batch {
    /// Names of its columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_ref())
    }

    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        let first = self.columns.first();
        first.map_or(0, |column| column.values.len())
    }

    /// Values of a row, in the order of [`Self::names`].
    pub fn row(&self, row: usize) -> impl Iterator<Item = Cell<'_>> {
        self.columns.iter().map(move |column| match &column.values {
            Values::Int(values) => values[row].map_or(Cell::Unknown, Cell::Int),
            Values::Time(values) => Cell::Time(values[row]),
            Values::Text(values) => values[row].as_deref().map_or(Cell::Unknown, Cell::Text),
        })
    }
}

/// Tables of a log that is in no segment yet, with the times of its ticks.
type Fresh = (Vec<i64>, Vec<(&'static str, Vec<Column>)>);

/// What holds a day: segments whose files are open, so that nobody takes them away, and decoded logs.
struct Day {
    segments: Vec<Opened>,
    logs: Vec<Fresh>,
    damages: Vec<Damage>,
}

struct Opened {
    segment: Segment,
    system: Table,
    tables: Vec<(&'static str, Table)>,
}

impl Store {
    /// The part of a range in which there is anything; `None`: nothing at all.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn extent(&self, range: Range) -> Result<Option<Range>, StoreError> {
        self.extent_about(range, 0)
    }

    /// As [`Self::extent`], each file so much longer on both sides.
    fn extent_about(&self, range: Range, slack: i64) -> Result<Option<Range>, StoreError> {
        let mut ends: Option<(i64, i64)> = None;
        let mut see = |from: i64, to: i64| {
            let (from, to) = (from.saturating_sub(slack), to.saturating_add(slack));
            let (least, most) = ends.unwrap_or((from, to));
            ends = Some((least.min(from), most.max(to)));
        };
        for segment in self.segments()? {
            see(segment.from_ms, segment.to_ms);
        }
        for log in self.logs()? {
            if let Some((from, to)) = span(&log) {
                see(from, to);
            }
        }
        Ok(ends.and_then(|(from, to)| {
            let start_ms = range.start_ms.max(from);
            let end_ms = range.end_ms.min(to.saturating_add(1));
            (start_ms < end_ms).then_some(Range { start_ms, end_ms })
        }))
    }

    /// Hands over the rows of some tables in a range, day by day; says what was damaged. `day_done` is called
    /// behind each day's last rows.
    ///
    /// # Errors
    /// The store cannot be read, or the taker ends it.
    pub fn rows<E: From<StoreError>>(
        &self,
        range: Range,
        tables: &[&'static str],
        take: &mut dyn FnMut(Option<&Batch>) -> Result<(), E>,
    ) -> Result<Vec<Damage>, E> {
        let host = self.meta()?.map(|meta| meta.hostname);
        let mut damages = Vec::new();
        let Some(extent) = self.extent_about(range, slack(tables))? else {
            return Ok(damages);
        };
        let mut start_ms = extent.start_ms.div_euclid(DAY_MS) * DAY_MS;
        while start_ms < extent.end_ms {
            let day = Range {
                start_ms: start_ms.max(range.start_ms),
                end_ms: (start_ms + DAY_MS).min(range.end_ms),
            };
            damages.extend(self.day(day, host.as_deref(), tables, take)?);
            take(None)?;
            start_ms += DAY_MS;
        }
        damages.dedup();
        Ok(damages)
    }

    fn day<E: From<StoreError>>(
        &self,
        day: Range,
        host: Option<&str>,
        wanted: &[&'static str],
        take: &mut dyn FnMut(Option<&Batch>) -> Result<(), E>,
    ) -> Result<Vec<Damage>, E> {
        let mut opened = self.open_day(day, wanted)?;
        let mut damages = std::mem::take(&mut opened.damages);
        let mut give = |table, columns| -> Result<(), E> {
            let batch = Batch {
                table,
                day,
                columns: labelled(columns, host),
            };
            if batch.rows() > 0 {
                take(Some(&batch))
            } else {
                Ok(())
            }
        };
        for Opened {
            segment,
            system,
            tables,
        } in opened.segments
        {
            let mut times = Vec::new();
            let read = (0..system.groups())
                .try_for_each(|group| system.ints(group, "ts").map(|ts| times.extend(ts)));
            if let Err(error) = read {
                damages.push(broken(&segment.path, &damaged(&segment.path, error)));
                continue;
            }
            let times: Vec<i64> = times.into_iter().flatten().collect();
            for (name, table) in tables {
                for group in 0..table.groups() {
                    let outside = |(least, most): (i64, i64)| {
                        least >= day.end_ms || most < day.start_ms - HOUR_MS
                    };
                    if table.range(group, "ts").is_some_and(outside) {
                        continue;
                    }
                    match table.group(group) {
                        Ok(columns) => give(name, clip(columns, &times, day))?,
                        Err(error) => {
                            damages.push(broken(&segment.path, &damaged(&segment.path, error)));
                        }
                    }
                }
            }
        }
        for (times, tables) in opened.logs {
            for name in wanted {
                let same = tables.iter().filter(|(table, _)| table == name);
                for (_, columns) in same {
                    give(name, clip(columns.clone(), &times, day))?;
                }
            }
        }
        Ok(damages)
    }

    /// Opens what holds a day. Logs are listed before the segments that may be made of them meanwhile, and what
    /// goes away before it is opened makes us look again.
    fn open_day(&self, day: Range, wanted: &[&'static str]) -> Result<Day, StoreError> {
        let mut tries = 1;
        loop {
            match self.try_day(day, wanted) {
                Err(StoreError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < TRIES =>
                {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn try_day(&self, day: Range, wanted: &[&'static str]) -> Result<Day, StoreError> {
        let mut damages = Vec::new();
        let logs = self.logs()?;
        let (all, made) = segments::list(&self.segments_folder())?;
        let slack = slack(wanted);
        let elsewhere = |(from, to): (i64, i64)| {
            to.saturating_add(slack) < day.start_ms || from.saturating_sub(slack) >= day.end_ms
        };
        let mut opened = Vec::new();
        for segment in all {
            if elsewhere((segment.from_ms, segment.to_ms)) {
                continue;
            }
            let open = || -> Result<_, StoreError> {
                let mut tables = Vec::new();
                for name in wanted {
                    // Older versions and hosts without cgroups have no such file.
                    if segment.path.join(format!("{name}.parquet")).exists() {
                        tables.push((*name, segment.table(name)?));
                    }
                }
                Ok((segment.table("system")?, tables))
            };
            match open() {
                Ok((system, tables)) => opened.push(Opened {
                    system,
                    tables,
                    segment,
                }),
                Err(_) if !segment.path.exists() => {
                    let gone = io::ErrorKind::NotFound.into();
                    return Err(super::error::io_error(&segment.path, "open")(gone));
                }
                Err(error) => damages.push(broken(&segment.path, &error)),
            }
        }
        let tails = self.tails();
        let mut fresh = Vec::new();
        for log in logs {
            if made.contains(&id_of(&log)) || span(&log).is_some_and(elsewhere) {
                continue;
            }
            let mut rows = Rows::default();
            let damage = entries_of_hosts(&log, tails.as_deref(), &mut |host, entry| {
                rows.of(host);
                match entry {
                    Entry::Tick(tick) => rows.push(&tick),
                    Entry::Event(event) => rows.event(event),
                }
            })?;
            if damage.is_some() && !log.exists() {
                return Err(super::error::io_error(&log, "open")(
                    io::ErrorKind::NotFound.into(),
                ));
            }
            damages.extend(damage);
            let mut tables = Vec::new();
            rows.tables(|name, columns| -> Result<(), StoreError> {
                tables.push((name, columns));
                Ok(())
            })?;
            fresh.push((times(&tables), tables));
        }
        Ok(Day {
            segments: opened,
            logs: fresh,
            damages,
        })
    }
}

/// Names of segments and logs are of their ticks. An event stands with the tick before it.
fn slack(tables: &[&str]) -> i64 {
    if tables.contains(&"event") {
        HOUR_MS
    } else {
        0
    }
}

fn broken(path: &Path, error: &StoreError) -> Damage {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text.push_str(&format!(": {source}"));
    }
    Damage {
        path: path.to_path_buf(),
        lost_bytes: 0,
        lost_ticks: 0,
        lost_events: 0,
        error: Some(text),
    }
}

/// First and last moment that a log may hold: it ends with its hour. `None`: its name does not say.
fn span(log: &Path) -> Option<(i64, i64)> {
    let id = id_of(log);
    let from: i64 = id.split('-').next()?.parse().ok()?;
    Some((from, (from.div_euclid(HOUR_MS) + 1) * HOUR_MS - 1))
}

/// Times of all ticks: the host has a row for each.
fn times(tables: &[(&'static str, Vec<Column>)]) -> Vec<i64> {
    let system = tables.iter().find(|(name, _)| *name == "system");
    let column = system.and_then(|(_, columns)| columns.iter().find(|one| one.name == "ts"));
    match column.map(|column| &column.values) {
        Some(Values::Time(times)) => times.clone(),
        _ => Vec::new(),
    }
}

/// The part of the rows that is in a range. Rows with `n` are runs: their first samples may lie before it.
fn clip(mut columns: Vec<Column>, times: &[i64], range: Range) -> Vec<Column> {
    let place = |name: &str| columns.iter().position(|column| column.name == name);
    let (ts_at, n_at) = (place("ts"), place("n"));
    let Some(Values::Time(ts)) = ts_at.map(|at| &columns[at].values) else {
        return Vec::new();
    };
    let ns = match n_at.map(|at| &columns[at].values) {
        Some(Values::Int(ns)) => Some(ns),
        _ => None,
    };
    let mut kept: Vec<(usize, i64, Option<i64>)> = Vec::new();
    for (row, ts) in ts.iter().enumerate() {
        match ns.and_then(|ns| ns[row]) {
            Some(n) => {
                let begin = times.partition_point(|time| time < ts);
                let end = begin.saturating_add(usize::try_from(n).unwrap_or(0));
                let run = times.get(begin..end.min(times.len())).unwrap_or_default();
                let from = run.partition_point(|time| *time < range.start_ms);
                let to = run.partition_point(|time| *time < range.end_ms);
                if let Some(first) = run.get(from..to).and_then(<[i64]>::first) {
                    let count = i64::try_from(to - from).unwrap_or(i64::MAX);
                    kept.push((row, *first, Some(count)));
                }
            }
            None if (range.start_ms..range.end_ms).contains(ts) => kept.push((row, *ts, None)),
            None => {}
        }
    }
    for (at, column) in columns.iter_mut().enumerate() {
        match &mut column.values {
            Values::Time(values) if Some(at) == ts_at => {
                *values = kept.iter().map(|(_, ts, _)| *ts).collect();
            }
            Values::Time(values) => *values = kept.iter().map(|(row, ..)| values[*row]).collect(),
            Values::Int(values) if Some(at) == n_at => {
                *values = kept.iter().map(|(.., n)| *n).collect();
            }
            Values::Int(values) => *values = kept.iter().map(|(row, ..)| values[*row]).collect(),
            Values::Text(values) => {
                *values = kept.iter().map(|(row, ..)| values[*row].take()).collect();
            }
        }
    }
    columns
}

/// The columns with whose rows they are at their end, unless they say so themselves.
fn labelled(mut columns: Vec<Column>, host: Option<&str>) -> Vec<Column> {
    let rows = columns.first().map_or(0, |column| column.values.len());
    for (name, value) in [("host", host), ("boot_id", None)] {
        let at = columns.iter().position(|column| column.name == name);
        let column = match at {
            Some(at) => columns.remove(at),
            None => Column::new(name, Values::Text(vec![value.map(str::to_owned); rows])),
        };
        columns.push(column);
    }
    columns
}

/// The boots of which a batch has rows.
pub(super) fn boots(batch: &Batch) -> BTreeSet<Option<&str>> {
    match batch.columns.iter().find(|column| column.name == "boot_id") {
        Some(Column {
            values: Values::Text(boots),
            ..
        }) => boots.iter().map(Option::as_deref).collect(),
        _ => BTreeSet::from([None]),
    }
}

/// The rows of one boot.
pub(super) fn of_boot(batch: &Batch, boot: Option<&str>) -> Vec<Column> {
    let Some(Column {
        values: Values::Text(boots),
        ..
    }) = batch.columns.iter().find(|column| column.name == "boot_id")
    else {
        return batch.columns.clone();
    };
    let rows = || {
        let all = boots.iter().enumerate();
        all.filter(|(_, one)| one.as_deref() == boot)
            .map(|(row, _)| row)
    };
    let pick = |column: &Column| {
        let values = match &column.values {
            Values::Int(values) => Values::Int(rows().map(|row| values[row]).collect()),
            Values::Time(values) => Values::Time(rows().map(|row| values[row]).collect()),
            Values::Text(values) => Values::Text(rows().map(|row| values[row].clone()).collect()),
        };
        Column::new(column.name.clone(), values)
    };
    batch.columns.iter().map(pick).collect()
}
