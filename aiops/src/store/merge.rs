//! One segment of many: a finished day's, of its hours'; an hour's, of its logs'.
//!
//! Rows keep what they say and are put in one order; a column that an older segment does not have is unknown
//! there. Memory is that of a group of rows, whatever the day has: the order of rows is worked out
//! first, a number for each, and columns are read and written by it, one at a time.
//!
//! Only segments that follow each other in time are merged. After a clock was set back two of them overlap:
//! then a run's consecutive ticks would no longer be consecutive among all ticks, so one of them is left as it is.

use std::ops::Range;
use std::path::Path;

use super::StoreError;
use super::error::damaged;
use super::segments;
use super::segments::Segment;
use super::table;
use super::table::ByteArray;
use super::table::Kind;
use super::table::ParquetError;
use super::table::Sink;
use super::table::Table;

/// The tables, with the columns that their rows are sorted by.
const TABLES: [(&str, &[&str]); 5] = [
    ("process", &["pid", "start", "ts"]),
    ("rollup", &["pid", "start", "ts"]),
    ("cgroup", &["path", "ts"]),
    ("event", &["ts", "id"]),
    ("system", &["ts"]),
];
/// Rows of a source that are looked at together when the order is worked out.
const BATCH: usize = 4 << 10;

/// Most segments that are merged at once: each is an open file.
const MOST: usize = 128;

/// Segments that can be one, for each span of time (an hour, a day) that has more than one. Segments come by
/// time, and so do the answers.
pub(super) fn chains(segments: &[Segment], span_ms: i64) -> Vec<Vec<Segment>> {
    let mut chains: Vec<Vec<Segment>> = Vec::new();
    for segment in segments {
        let span = segment.from_ms.div_euclid(span_ms);
        if segment.to_ms.div_euclid(span_ms) != span {
            continue;
        }
        match chains.last_mut() {
            Some(same) if same[0].from_ms.div_euclid(span_ms) == span => {
                if same.last().is_some_and(|last| last.to_ms < segment.from_ms) {
                    same.push(segment.clone());
                }
            }
            _ => chains.push(vec![segment.clone()]),
        }
    }
    let parts = chains.iter().flat_map(|chain| chain.chunks(MOST));
    parts
        .filter(|part| part.len() > 1)
        .map(<[_]>::to_vec)
        .collect()
}

/// Publishes one segment that says what some say that follow each other in time; those no longer count.
///
/// # Errors
/// One of them is damaged, or the system refuses; nothing is published then.
pub(super) fn publish(folder: &Path, chain: &[Segment]) -> Result<Option<Segment>, StoreError> {
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
        return Ok(None);
    };
    // What they were made from may come back when a power cut undoes its removal.
    let mut sources: Vec<String> = chain.iter().flat_map(Segment::sources).collect();
    sources.extend(chain.iter().map(|segment| segment.id.clone()));
    let notes = segments::notes(&sources);
    // Its id is of what it is made from: no other segment has it, on whatever day.
    let (from, to, count) = (first.from_ms, last.to_ms, sources.len());
    let sum = crc32c::crc32c(sources.join(" ").as_bytes());
    let name = format!("{from}-{to}-many-{count}-{sum:08x}");
    segments::publish_with(folder, &name, &sources, |tmp| {
        for (name, keys) in TABLES {
            let merge = Merge::open(chain, name)?;
            let path = tmp.join(format!("{name}.parquet"));
            let written = merge.order(keys).and_then(|order| {
                let columns = merge.columns();
                table::write_parts(&path, &columns, order.len(), &notes, |at, part, sink| {
                    let (name, kind) = &columns[at];
                    merge.fill(name, *kind, &order, part, sink)
                })
            });
            written.map_err(|error| damaged(&path, error))?;
        }
        Ok(())
    })
}

/// A table of several segments.
struct Merge {
    sources: Vec<Table>,
}

/// A value that rows are sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Int(Option<i64>),
    Text(Option<Vec<u8>>),
}

/// The sort keys of a source, a batch at a time.
struct Keys<'a> {
    table: &'a Table,
    names: &'a [&'a str],
    kinds: Vec<Kind>,
    rows: usize,
    next: usize,
    batch: std::vec::IntoIter<Vec<Key>>,
    head: Option<Vec<Key>>,
}

impl<'a> Keys<'a> {
    fn new(
        table: &'a Table,
        names: &'a [&'a str],
        columns: &[(String, Kind)],
    ) -> Result<Self, ParquetError> {
        let kind = |name: &&str| {
            let found = columns.iter().find(|(known, _)| known == name);
            found.map_or(Kind::Int, |(_, kind)| *kind)
        };
        let mut keys = Self {
            table,
            names,
            kinds: names.iter().map(kind).collect(),
            rows: usize::try_from(table.rows()).unwrap_or(0),
            next: 0,
            batch: Vec::new().into_iter(),
            head: None,
        };
        keys.step()?;
        Ok(keys)
    }

    fn step(&mut self) -> Result<(), ParquetError> {
        if self.batch.len() == 0 && self.next < self.rows {
            let part = self.next..(self.next + BATCH).min(self.rows);
            self.next = part.end;
            let mut batch = vec![Vec::with_capacity(self.names.len()); part.len()];
            for (name, kind) in self.names.iter().zip(&self.kinds) {
                if *kind == Kind::Text {
                    let texts = self.table.bytes_at(name, part.clone())?;
                    for (row, text) in batch.iter_mut().zip(texts) {
                        row.push(Key::Text(text.map(|text| text.data().to_vec())));
                    }
                } else {
                    let values = self.table.ints_at(name, part.clone())?;
                    for (row, value) in batch.iter_mut().zip(values) {
                        row.push(Key::Int(value));
                    }
                }
            }
            self.batch = batch.into_iter();
        }
        self.head = self.batch.next();
        Ok(())
    }
}

impl Merge {
    fn open(chain: &[Segment], name: &str) -> Result<Self, StoreError> {
        let sources: Result<_, _> = chain.iter().map(|segment| segment.table(name)).collect();
        Ok(Self { sources: sources? })
    }

    /// Every column that a source has, as the newest has it.
    fn columns(&self) -> Vec<(String, Kind)> {
        let mut columns: Vec<(String, Kind)> = Vec::new();
        for source in self.sources.iter().rev() {
            for (name, kind) in source.columns() {
                if columns.iter().all(|(known, _)| *known != name) {
                    columns.push((name, kind));
                }
            }
        }
        columns
    }

    /// The source of each row, in the order of the sort keys; of equal rows the earlier source's comes first.
    fn order(&self, names: &[&str]) -> Result<Vec<u16>, ParquetError> {
        let columns = self.columns();
        let mut heads: Vec<Keys<'_>> = self
            .sources
            .iter()
            .map(|source| Keys::new(source, names, &columns))
            .collect::<Result<_, _>>()?;
        let mut order = Vec::new();
        loop {
            let least = heads
                .iter()
                .enumerate()
                .filter_map(|(at, keys)| Some((keys.head.as_ref()?, at)))
                .min();
            let Some((_, at)) = least else {
                return Ok(order);
            };
            let number = u16::try_from(at);
            order.push(number.map_err(|_| ParquetError::General("too many sources".to_owned()))?);
            heads[at].step()?;
        }
    }

    /// Hands over some rows of a column.
    fn fill(
        &self,
        name: &str,
        kind: Kind,
        order: &[u16],
        part: Range<usize>,
        mut sink: Sink<'_, '_>,
    ) -> Result<(), ParquetError> {
        match kind {
            Kind::Int => {
                sink.ints(&self.rows(order, part, |source, rows| source.ints_at(name, rows))?)
            }
            Kind::Time => {
                let times = self.rows(order, part, |source, rows| source.ints_at(name, rows))?;
                let known: Option<Vec<i64>> = times.into_iter().collect();
                let unknown = || ParquetError::General(format!("{name} is not known throughout"));
                sink.times(&known.ok_or_else(unknown)?)
            }
            Kind::Text => {
                let texts = self.rows(order, part, |source, rows| source.bytes_at(name, rows))?;
                let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
                let known: Vec<ByteArray> = texts.into_iter().flatten().collect();
                sink.bytes(&levels, &known)
            }
        }
    }

    /// Some rows of a column, each from its source.
    fn rows<T>(
        &self,
        order: &[u16],
        part: Range<usize>,
        read: impl Fn(&Table, Range<usize>) -> Result<Vec<Option<T>>, ParquetError>,
    ) -> Result<Vec<Option<T>>, ParquetError> {
        let count = |order: &[u16]| {
            let mut counts = vec![0_usize; self.sources.len()];
            for source in order {
                counts[usize::from(*source)] += 1;
            }
            counts
        };
        let before = count(&order[..part.start]);
        let here = count(&order[part.clone()]);
        let mut values = Vec::with_capacity(self.sources.len());
        for ((source, before), here) in self.sources.iter().zip(before).zip(here) {
            let rows = before..before + here;
            let found = if rows.is_empty() {
                Vec::new()
            } else {
                read(source, rows)?
            };
            values.push(found.into_iter());
        }
        let rows = order[part].iter();
        Ok(rows
            .map(|source| values[usize::from(*source)].next().flatten())
            .collect())
    }
}
