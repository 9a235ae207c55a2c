//! Roll-ups: a row for each process and UTC hour, made of its runs.
//!
//! A range that covers a whole hour needs nothing else; only its edges are read from the runs. Whatever can
//! be added up is here as such: `{field}_n` samples that knew the field, their `{field}_sum`, `_min`, `_max`, and
//! the `_first` and `_last` that was known. A process has more than one row of an hour when the hour has
//! more than one log: readers add them up.

use std::borrow::Cow;
use std::collections::HashMap;

use super::rows::HOUR_MS;
use super::rows::Head;
use super::rows::Key;
use super::rows::Run;
use super::rows::int;
use super::rows::labelled;
use super::rows::text_of;
use super::table::Column;
use super::table::ParquetError;
use super::table::Table;
use super::table::Values;
use super::tick::PROCESS_FIELDS;
use crate::model::Container;
use crate::model::Identity;

/// The figures that have roll-ups.
pub(super) const FIELDS: [&str; 9] = [
    "rss_kb",
    "anon_kb",
    "file_kb",
    "shmem_kb",
    "swap_kb",
    "pss_kb",
    "uss_kb",
    "vm_size_kb",
    "threads",
];

/// A figure over an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    n: i64,
    sum: i64,
    min: i64,
    max: i64,
    first: i64,
    last: i64,
}

impl Part {
    fn add(part: &mut Option<Self>, value: i64, n: i64) {
        let sum = value.saturating_mul(n);
        match part {
            None => {
                *part = Some(Self {
                    n,
                    sum,
                    min: value,
                    max: value,
                    first: value,
                    last: value,
                });
            }
            Some(part) => {
                part.n += n;
                part.sum = part.sum.saturating_add(sum);
                part.min = part.min.min(value);
                part.max = part.max.max(value);
                part.last = value;
            }
        }
    }
}

/// A process over an hour.
#[derive(Debug)]
struct Row<'a> {
    key: Key,
    hour: i64,
    n: i64,
    from: i64,
    to: i64,
    comm: Cow<'a, str>,
    parts: [Option<Part>; FIELDS.len()],
}

/// Adds up runs that are sorted by process and time; `times` are those of the ticks.
fn rows<'a>(runs: &'a [(Key, Run<Head>)], times: &[i64]) -> Vec<Row<'a>> {
    let places: Vec<Option<usize>> = FIELDS
        .iter()
        .map(|name| PROCESS_FIELDS.iter().position(|field| field == name))
        .collect();
    let mut rows: Vec<Row<'a>> = Vec::new();
    for (key, run) in runs {
        let hour = run.ts.div_euclid(HOUR_MS) * HOUR_MS;
        let to = times.get(run.last).copied().unwrap_or(run.ts);
        let goes_on = (rows.last()).is_some_and(|row| row.key == *key && row.hour == hour);
        if !goes_on {
            rows.push(Row {
                key: *key,
                hour,
                n: 0,
                from: run.ts,
                to,
                comm: Cow::Borrowed(""),
                parts: [None; FIELDS.len()],
            });
        }
        let Some(row) = rows.last_mut() else {
            continue;
        };
        row.n += run.n;
        row.to = to;
        row.comm = run.head.comm.lossy();
        for (part, place) in row.parts.iter_mut().zip(&places) {
            if let Some(value) = place.and_then(|place| run.figures[place]) {
                Part::add(part, int(value), run.n);
            }
        }
    }
    rows
}

/// The table.
pub(super) fn columns(
    runs: &[(Key, Run<Head>)],
    times: &[i64],
    who: &HashMap<Key, Identity>,
) -> Vec<Column> {
    let rows = rows(runs, times);
    let ints = |get: &dyn Fn(&Row<'_>) -> i64| {
        Values::Int(rows.iter().map(|row| Some(get(row))).collect())
    };
    let texts = |get: &dyn Fn(&Identity) -> Option<String>| {
        Values::Text(rows.iter().map(|row| get(who.get(&row.key)?)).collect())
    };
    let comm = rows.iter().map(|row| Some(row.comm.to_string()));
    let mut columns = vec![
        Column::new("pid", ints(&|row| i64::from(row.key.0))),
        Column::new("start", ints(&|row| int(row.key.1))),
        Column::new(
            "ts",
            Values::Time(rows.iter().map(|row| row.hour).collect()),
        ),
        Column::new("n", ints(&|row| row.n)),
        Column::new("from_ms", ints(&|row| row.from)),
        Column::new("to_ms", ints(&|row| row.to)),
        Column::new("comm", Values::Text(comm.collect())),
        Column::new("cgroup", texts(&text_of::cgroup)),
        Column::new("container", texts(&text_of::container)),
        Column::new("user", texts(&text_of::user)),
    ];
    for (at, name) in FIELDS.iter().enumerate() {
        let part = |get: fn(&Part) -> i64| {
            Values::Int(
                rows.iter()
                    .map(|row| row.parts[at].as_ref().map(get))
                    .collect(),
            )
        };
        columns.extend([
            Column::new(
                format!("{name}_n"),
                ints(&|row| row.parts[at].map_or(0, |part| part.n)),
            ),
            Column::new(format!("{name}_sum"), part(|part| part.sum)),
            Column::new(format!("{name}_min"), part(|part| part.min)),
            Column::new(format!("{name}_max"), part(|part| part.max)),
            Column::new(format!("{name}_first"), part(|part| part.first)),
            Column::new(format!("{name}_last"), part(|part| part.last)),
        ]);
    }
    columns
}

/// The table once more, of a segment's rows of processes; `times` are those of its ticks.
///
/// # Errors
/// The rows cannot be read.
pub(super) fn rebuilt(process: &Table, times: &[i64]) -> Result<Vec<Column>, ParquetError> {
    let mut all = labelled(columns(&[], times, &HashMap::new()), &(None, None));
    for group in 0..process.groups() {
        let ints = |name: &str| process.numbers(group, name);
        let texts = |name: &str| process.texts(group, name);
        let (pid, start) = (ints("pid")?, ints("start")?);
        let (ts, n) = (ints("ts")?, ints("n")?);
        let (host, boot, comm) = (texts("host")?, texts("boot_id")?, texts("comm")?);
        let (cgroup, container, user) = (texts("cgroup")?, texts("container")?, texts("user")?);
        let fields: Vec<Vec<i64>> = (PROCESS_FIELDS.iter())
            .map(|name| ints(name))
            .collect::<Result<_, _>>()?;
        // Rows that follow each other and are of one boot; those of others stand between them.
        let mut runs: Vec<(Key, Run<Head>)> = Vec::new();
        let mut who = HashMap::new();
        for row in 0..pid.len() {
            let key = (
                u32::try_from(pid[row]).unwrap_or(0),
                u64::try_from(start[row]).unwrap_or(0),
            );
            let begin = times.partition_point(|time| *time < ts[row]);
            let count = usize::try_from(n[row]).unwrap_or(0);
            runs.push((
                key,
                Run {
                    ts: ts[row],
                    n: n[row],
                    last: (begin + count).saturating_sub(1),
                    head: Head::named(comm[row].as_deref().unwrap_or_default()),
                    figures: (fields.iter())
                        .map(|field| u64::try_from(field[row]).ok())
                        .collect(),
                },
            ));
            let container = container[row].as_deref().and_then(|text| {
                let (runtime, id) = text.split_once(':')?;
                Some(Container {
                    runtime: runtime.to_owned(),
                    id: id.to_owned(),
                    pod: None,
                })
            });
            who.insert(
                key,
                Identity {
                    cgroup: cgroup[row].as_deref().map(Into::into),
                    container,
                    user: user[row].clone(),
                    ..Identity::default()
                },
            );
            let of = (host[row].clone(), boot[row].clone());
            let next = host.get(row + 1).zip(boot.get(row + 1));
            if next != Some((&of.0, &of.1)) {
                let part = labelled(columns(&runs, times, &who), &of);
                all.iter_mut()
                    .zip(part)
                    .for_each(|(all, part)| all.append(part));
                runs.clear();
                who.clear();
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::Tick;
    use super::super::rows::Rows;
    use super::*;
    use crate::model::ClockPair;
    use crate::model::ProcessMetrics;
    use crate::model::ProcessSample;
    use crate::model::RawText;
    use crate::model::Sample;

    /// What each process has, tick for tick: two figures.
    type Level = Vec<Option<(Option<u64>, Option<u64>)>>;

    fn tick(ts: i64, level: &Level) -> Tick {
        let processes = level.iter().enumerate().filter_map(|(pid, figures)| {
            let (rss_kb, pss_kb) = (*figures)?;
            Some(ProcessSample {
                pid: u32::try_from(pid).ok()?,
                start_ticks: 3,
                comm: RawText::from(if rss_kb == Some(0) { "zero" } else { "some" }),
                metrics: ProcessMetrics {
                    rss_kb,
                    pss_kb,
                    ..ProcessMetrics::default()
                },
                ..ProcessSample::default()
            })
        });
        Tick {
            clock: ClockPair {
                real_ns: ts * 1_000_000,
                ..ClockPair::default()
            },
            sample: Sample {
                processes: processes.collect(),
                ..Sample::default()
            },
            identities: Vec::new(),
        }
    }

    /// n, from, to, comm, and (n, sum, min, max, first, last) of both figures.
    type Expected = (i64, i64, i64, String, [Option<Part>; 2]);

    fn ints(columns: &[Column], name: &str) -> Vec<Option<i64>> {
        let column = columns.iter().find(|column| column.name == name);
        match &column.expect(name).values {
            Values::Int(values) => values.clone(),
            Values::Time(values) => values.iter().map(|value| Some(*value)).collect(),
            Values::Text(_) => panic!("{name} holds texts"),
        }
    }

    fn found(columns: &[Column]) -> BTreeMap<(i64, i64), Expected> {
        let get = |name: &str, row: usize| ints(columns, name)[row];
        let comm = columns.iter().find(|column| column.name == "comm").unwrap();
        let Values::Text(comm) = &comm.values else {
            panic!("comm holds no texts");
        };
        let rows = 0..ints(columns, "pid").len();
        let row = |row| {
            let known = |name: &str| get(name, row).unwrap();
            let part = |field: &str| {
                let n = known(&format!("{field}_n"));
                let get = |end: &str| get(&format!("{field}_{end}"), row);
                (n > 0 || get("sum").is_some()).then(|| Part {
                    n,
                    sum: get("sum").unwrap(),
                    min: get("min").unwrap(),
                    max: get("max").unwrap(),
                    first: get("first").unwrap(),
                    last: get("last").unwrap(),
                })
            };
            let parts = [part("rss_kb"), part("pss_kb")];
            let (from, to) = (known("from_ms"), known("to_ms"));
            let comm = comm[row].clone().unwrap();
            (
                (known("pid"), known("ts")),
                (known("n"), from, to, comm, parts),
            )
        };
        rows.map(row).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Roll-ups say what the samples say, added up one by one.
        #[test]
        fn an_hour_says_what_its_samples_say(
            levels in proptest::collection::vec(
                proptest::collection::vec(
                    proptest::option::of((proptest::option::of(0..3_u64), proptest::option::of(0..3_u64))),
                    1..4,
                ),
                1..60,
            ),
            step in 1..600_i64,
        ) {
            let mut rows = Rows::default();
            let mut expected: BTreeMap<(i64, i64), Expected> = BTreeMap::new();
            for (index, level) in levels.iter().enumerate() {
                let ts = 1_000_000 + i64::try_from(index).unwrap() * step * 1000;
                let tick = tick(ts, level);
                rows.push(&tick);
                for process in &tick.sample.processes {
                    let key = (i64::from(process.pid), ts / HOUR_MS * HOUR_MS);
                    let row = expected.entry(key).or_insert((0, ts, ts, String::new(), [None; 2]));
                    row.0 += 1;
                    row.2 = ts;
                    row.3 = process.comm.lossy().into_owned();
                    let figures = [process.metrics.rss_kb, process.metrics.pss_kb];
                    for (part, value) in row.4.iter_mut().zip(figures) {
                        if let Some(value) = value {
                            Part::add(part, int(value), 1);
                        }
                    }
                }
            }
            let tables = rows.all_tables();
            let (_, columns) = tables.iter().find(|(name, _)| *name == "rollup").unwrap();
            prop_assert_eq!(found(columns), expected);
            // In the order of the runs: by process, then by time.
            let order: Vec<_> = ints(columns, "pid").into_iter().zip(ints(columns, "ts")).collect();
            prop_assert!(order.is_sorted());
            // Each figure that is kept has its six columns; host and boot come last.
            prop_assert_eq!(columns.len(), 12 + 6 * FIELDS.len());
        }
    }
}
