//! Rows of a range, as they are: what `aiops export` writes elsewhere.
//!
//! One UTC day after the other: what was compacted comes group of rows by group of rows, then what is still in
//! logs. Runs are cut to the range exactly to the sample. Every row gets the columns `host` and `boot_id`.

use std::collections::BTreeSet;
use std::path::Path;

use super::Damage;
use super::Entry;
use super::Range;
use super::Store;
use super::StoreError;
use super::logs::id_of;
use super::reading::Broken;
use super::rows::HOUR_MS;
use super::rows::Rows;
use super::series::Opened;
use super::series::Plan;
use super::series::slack;
use super::table::Column;
use super::table::ParquetError;
use super::table::Values;

/// The tables of a store that can be exported.
pub const TABLES: [&str; 4] = ["process", "system", "cgroup", "event"];
/// Milliseconds of a day (UTC has no other ones: no calendar of Unix knows leap seconds).
pub(super) const DAY_MS: i64 = 24 * HOUR_MS;

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

/// What the taker says no to.
enum Ended<E> {
    /// The taker ends it.
    Taker(E),
    /// A segment cannot be read.
    Broken(Broken),
}

impl<E> From<Broken> for Ended<E> {
    fn from(error: Broken) -> Self {
        Self::Broken(error)
    }
}

impl<E> From<ParquetError> for Ended<E> {
    fn from(error: ParquetError) -> Self {
        Self::Broken(error.into())
    }
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
        let Plan {
            segments,
            logs,
            mut coverage,
        } = self.plan(day, wanted)?;
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
        for opened in &segments {
            match segment(opened, day, wanted, &mut give) {
                Ok(()) => {}
                Err(Ended::Taker(error)) => return Err(error),
                Err(Ended::Broken(error)) => coverage.broken(&opened.segment.path, &error),
            }
        }
        let slack = slack(wanted);
        let elsewhere = |(from, to): (i64, i64)| {
            to.saturating_add(slack) < day.start_ms || from.saturating_sub(slack) >= day.end_ms
        };
        for log in logs {
            if span(&log.path).is_some_and(elsewhere) {
                continue;
            }
            let mut rows = Rows::default();
            coverage.damages.extend(log.entries(&mut |host, entry| {
                rows.of(host);
                match entry {
                    Entry::Tick(tick) => rows.push(&tick),
                    Entry::Event(event) => rows.event(event),
                }
            }));
            let mut tables = Vec::new();
            rows.tables(|name, columns| -> Result<(), StoreError> {
                tables.push((name, columns));
                Ok(())
            })?;
            let times = times(&tables);
            for name in wanted {
                if let Some(at) = tables.iter().position(|(table, _)| table == name) {
                    give(name, clip(tables.swap_remove(at).1, &times, day))?;
                }
            }
        }
        Ok(coverage.damages)
    }
}

/// Hands over the rows of a segment.
fn segment<E>(
    opened: &Opened,
    day: Range,
    wanted: &[&'static str],
    give: &mut dyn FnMut(&'static str, Vec<Column>) -> Result<(), E>,
) -> Result<(), Ended<E>> {
    let system = opened.system()?;
    let system = system.ok_or_else(|| Broken::from("it has no system.parquet"))?;
    let mut times = Vec::new();
    for group in 0..system.groups() {
        times.extend(system.numbers(group, "ts")?);
    }
    let mut broken = None;
    for name in wanted {
        // A table that is damaged takes no other one with it.
        let table = match opened.table_of(name) {
            Ok(Some(table)) => table,
            Ok(None) => continue,
            Err(error) => {
                broken.get_or_insert(error);
                continue;
            }
        };
        for group in 0..table.groups() {
            let outside =
                |(least, most): (i64, i64)| least >= day.end_ms || most < day.start_ms - HOUR_MS;
            if table.range(group, "ts").is_some_and(outside) {
                continue;
            }
            let columns = match table.group(group) {
                Ok(columns) => columns,
                Err(error) => {
                    broken.get_or_insert(error.into());
                    break;
                }
            };
            give(name, clip(columns, &times, day)).map_err(Ended::Taker)?;
        }
    }
    broken.map_or(Ok(()), |error| Err(error.into()))
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
