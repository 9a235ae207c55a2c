//! The total of each group at each tick.
//!
//! A run adds its value at its first tick and takes it off behind its last one. Summed by group and tick, and
//! added up in the order of time, these changes are the totals. Long pieces go through in windows of time, so
//! that a frame is never longer than [`MOST_ROWS`] by much.

use std::ops::Range;

use polars::prelude::*;

use crate::FrameError;
use crate::Runs;

/// Runs of a frame.
pub(crate) const MOST_ROWS: usize = 400_000;
/// Threads of the engine: these commands must not take a large host.
const THREADS: usize = 2;

/// A stretch of ticks on which the total of a group stays what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// First tick, and one behind the last.
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// `None`: processes are there, but the figure is known of none of them.
    pub(crate) total: Option<i64>,
}

/// What a process of a group has in a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) process: u32,
    pub(crate) samples: u64,
    pub(crate) unknown: u64,
}

/// What is found, told by the codes of the group. Stretches of a group come in the order of time; ticks
/// that are in none of them have a total of 0: no process of the group was there.
pub(crate) trait Visit {
    fn stretch(&mut self, codes: &[u32], stretch: Stretch);
    fn member(&mut self, codes: &[u32], member: Member);
}

/// Goes over a piece, in windows of about `most_rows` runs.
pub(crate) fn sweep(
    runs: &Runs,
    most_rows: usize,
    visit: &mut dyn Visit,
) -> Result<(), FrameError> {
    runs.check()?;
    let windows = u32::try_from(runs.len().div_ceil(most_rows.max(1))).unwrap_or(u32::MAX);
    let width = (runs.ticks.end.saturating_sub(runs.ticks.start))
        .div_ceil(windows.max(1))
        .max(1);
    let mut from = runs.ticks.start;
    while from < runs.ticks.end {
        let to = from.saturating_add(width).min(runs.ticks.end);
        window(runs, from..to, visit)?;
        from = to;
    }
    Ok(())
}

fn window(runs: &Runs, ticks: Range<u32>, visit: &mut dyn Visit) -> Result<(), FrameError> {
    let frame = clip(runs, ticks)?;
    if frame.height() == 0 {
        return Ok(());
    }
    let keys: Vec<String> = (0..runs.keys.len()).map(|at| format!("key{at}")).collect();
    let (changes, members) = engine(|| Ok((changes(&frame, &keys)?, members(&frame, &keys)?)))?;
    tell_stretches(&changes, &keys, visit)?;
    tell_members(&members, &keys, visit)
}

/// The part of the runs that is in a window, as a frame.
fn clip(runs: &Runs, ticks: Range<u32>) -> Result<DataFrame, FrameError> {
    let mut rows = Vec::new();
    let (mut from, mut to) = (Vec::new(), Vec::new());
    let mut most = 0_i128;
    for row in 0..runs.len() {
        let first = runs.first_tick[row];
        let (start, end) = (first.max(ticks.start), (first + runs.n[row]).min(ticks.end));
        if start < end {
            rows.push(row);
            from.push(start);
            to.push(end);
            most += i128::from(runs.values[row].unwrap_or(0)).abs();
        }
    }
    // No sum of some of them can be larger than the sum of all.
    if most > i128::from(i64::MAX) {
        return Err(FrameError::TooLarge);
    }
    let of = |column: &[u32]| -> Vec<u32> { rows.iter().map(|row| column[*row]).collect() };
    let values: Int64Chunked = rows.iter().map(|row| runs.values[*row]).collect();
    let mut columns = vec![
        Column::new("process".into(), of(&runs.process)),
        Column::new("from".into(), from),
        Column::new("to".into(), to),
        values.with_name("value".into()).into_column(),
    ];
    for (at, key) in runs.keys.iter().enumerate() {
        columns.push(Column::new(format!("key{at}").into(), of(&key.codes)));
    }
    Ok(DataFrame::new(rows.len(), columns)?)
}

/// By group and tick: what changes there of the total, of the processes that are known, and of the others.
fn changes(frame: &DataFrame, keys: &[String]) -> PolarsResult<DataFrame> {
    let with = |tick: &str, sign: i64| {
        let mut columns: Vec<Expr> = keys.iter().map(|key| col(key.as_str())).collect();
        let known = col("value").is_not_null().cast(DataType::Int64);
        let unknown = col("value").is_null().cast(DataType::Int64);
        columns.extend([
            col(tick).alias("tick"),
            (col("value").fill_null(lit(0_i64)) * lit(sign)).alias("total"),
            (known * lit(sign)).alias("known"),
            (unknown * lit(sign)).alias("unknown"),
        ]);
        frame.clone().lazy().select(columns)
    };
    let mut order: Vec<Expr> = keys.iter().map(|key| col(key.as_str())).collect();
    order.push(col("tick"));
    concat([with("from", 1), with("to", -1)], UnionArgs::default())?
        .group_by(&order)
        .agg([col("total").sum(), col("known").sum(), col("unknown").sum()])
        .sort_by_exprs(&order, SortMultipleOptions::default())
        .collect()
}

/// By group and process: its samples, and of how many the figure is not known.
fn members(frame: &DataFrame, keys: &[String]) -> PolarsResult<DataFrame> {
    let mut by: Vec<Expr> = keys.iter().map(|key| col(key.as_str())).collect();
    by.push(col("process"));
    let samples = (col("to") - col("from")).cast(DataType::UInt64);
    let unknown = samples.clone() * col("value").is_null().cast(DataType::UInt64);
    frame
        .clone()
        .lazy()
        .group_by(by)
        .agg([
            samples.sum().alias("samples"),
            unknown.sum().alias("unknown"),
        ])
        .collect()
}

fn tell_stretches(
    frame: &DataFrame,
    keys: &[String],
    visit: &mut dyn Visit,
) -> Result<(), FrameError> {
    let keys = codes(frame, keys)?;
    let ticks = frame.column("tick")?.u32()?;
    let column = |name: &str| -> PolarsResult<Vec<i64>> {
        Ok(frame.column(name)?.i64()?.into_no_null_iter().collect())
    };
    let ticks: Vec<u32> = ticks.into_no_null_iter().collect();
    let (totals, known, unknown) = (column("total")?, column("known")?, column("unknown")?);
    let mut group = Vec::new();
    let mut now = (0, 0, 0);
    for row in 0..ticks.len() {
        now.0 += totals[row];
        now.1 += known[row];
        now.2 += unknown[row];
        let same = |key: &Vec<u32>| key.get(row + 1) == key.get(row);
        // Behind the last change of a group nobody of it is there.
        if row + 1 == ticks.len() || !keys.iter().all(same) {
            now = (0, 0, 0);
            continue;
        }
        group.clear();
        group.extend(keys.iter().map(|key| key[row]));
        let all_unknown = now.1 == 0 && now.2 > 0;
        let stretch = Stretch {
            from: ticks[row],
            to: ticks[row + 1],
            total: (!all_unknown).then_some(now.0),
        };
        visit.stretch(&group, stretch);
    }
    Ok(())
}

fn tell_members(
    frame: &DataFrame,
    keys: &[String],
    visit: &mut dyn Visit,
) -> Result<(), FrameError> {
    let keys = codes(frame, keys)?;
    let process = frame.column("process")?.u32()?.into_no_null_iter();
    let samples = frame.column("samples")?.u64()?.into_no_null_iter();
    let unknown = frame.column("unknown")?.u64()?.into_no_null_iter();
    for (row, ((process, samples), unknown)) in process.zip(samples).zip(unknown).enumerate() {
        let group: Vec<u32> = keys.iter().map(|key| key[row]).collect();
        let member = Member {
            process,
            samples,
            unknown,
        };
        visit.member(&group, member);
    }
    Ok(())
}

fn codes(frame: &DataFrame, keys: &[String]) -> PolarsResult<Vec<Vec<u32>>> {
    let columns = keys.iter().map(|key| frame.column(key)?.u32());
    columns
        .map(|column| Ok(column?.into_no_null_iter().collect()))
        .collect()
}

/// Runs the engine on a few processors.
///
/// It starts as many threads as the thread that first calls it may run on, and offers no setting for that
/// but the environment, which a program with threads cannot change safely.
fn engine<T: Send>(work: impl FnOnce() -> PolarsResult<T> + Send) -> PolarsResult<T> {
    let done = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            few_processors();
            work()
        });
        thread.join()
    });
    match done {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Keeps this thread on [`THREADS`] of its processors; where the system refuses, it stays as it is.
fn few_processors() {
    use rustix::thread::CpuSet;
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else {
        return;
    };
    let mut few = CpuSet::new();
    let processors = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
    processors
        .take(THREADS)
        .for_each(|processor| few.set(processor));
    let _ = rustix::thread::sched_setaffinity(None, &few);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_runs_on_few_processors() {
        let threads = engine(|| {
            Ok(std::thread::available_parallelism().map_or(usize::MAX, std::num::NonZero::get))
        });
        assert!(threads.is_ok_and(|threads| threads <= THREADS));
    }
}
