//! From the runs of the store to frames, and from their rows to reports.

use std::collections::HashMap;

use aiops_frames::Groups;
use aiops_frames::Key;
use aiops_frames::Runs;
use aiops_frames::Table;

use super::By;
use super::Question;
use super::Sort;
use crate::commands::query_memory::empty_range;
use crate::diag;
use crate::model::Name;
use crate::model::Owner;
use crate::model::Run;
use crate::report;
use crate::report::Accounting;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::frames::CompareData;
use crate::report::frames::CompareRow;
use crate::report::frames::FramesView;
use crate::report::frames::GroupName;
use crate::report::frames::GroupRow;
use crate::report::frames::GroupsData;
use crate::report::frames::Span;
use crate::report::frames::Totals;
use crate::session::store_error;
use crate::store::Ask;
use crate::store::Coverage;
use crate::store::Range;
use crate::store::Store;
use crate::time;

/// Name and version of the report of groups.
const GROUPS: &str = "aiops.query-memory-groups/1";
/// Name and version of the report of two ranges.
const COMPARE: &str = "aiops.query-memory-compare/1";
/// Runs that go to frames at once, unless one segment has more.
const MOST_RUNS: usize = 64 << 10;
/// Most steps of a curve.
const MOST_STEPS: i64 = 10_000;

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Comm => "comm",
            Self::Cgroup => "cgroup",
            Self::Container => "container",
            Self::User => "user",
        }
    }

    /// Its value for a process, as a number that is the same for equal values.
    fn value(self, who: &Owner<'_>) -> Value {
        let name =
            |name: Option<Name<'_>>| name.map_or(Value::Unknown, |name| Value::Name(name.id));
        match self {
            Self::Pid => Value::Number(who.pid),
            Self::Comm => name(who.comm),
            Self::Cgroup => name(who.cgroup),
            Self::Container => name(who.container),
            Self::User if who.user.is_none() => who.uid.map_or(Value::Unknown, Value::Number),
            Self::User => name(who.user),
        }
    }

    /// The same as a text.
    fn text(self, who: &Owner<'_>) -> Option<String> {
        let name = match self {
            Self::Pid => return Some(who.pid.to_string()),
            Self::Comm => who.comm,
            Self::Cgroup => who.cgroup,
            Self::Container => who.container,
            Self::User => who.user,
        };
        let uid = || who.uid.filter(|_| self == Self::User);
        let number = || uid().map(|uid| uid.to_string());
        name.map(|name| name.text.to_owned()).or_else(number)
    }
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::Max => "max",
            Self::P95 => "p95",
            Self::Last => "last",
            Self::Growth => "growth",
        }
    }

    fn of(self, row: &aiops_frames::GroupRow) -> Option<f64> {
        let whole = match self {
            Self::Avg => return row.avg,
            Self::Max => row.max,
            Self::P95 => row.p95,
            Self::Last => row.last,
            Self::Growth => row.growth(),
        };
        whole.map(|value| value as f64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Value {
    Unknown,
    Name(u32),
    Number(u32),
}

/// The values of a key in a piece.
#[derive(Debug, Default)]
struct Labels {
    codes: HashMap<Value, u32>,
    texts: HashMap<Option<String>, u32>,
}

impl Labels {
    /// The code of a process; a user without a name and one whose name is that number are one.
    fn code(&mut self, by: By, who: &Owner<'_>, labels: &mut Vec<Option<String>>) -> u32 {
        *self.codes.entry(by.value(who)).or_insert_with(|| {
            let text = by.text(who);
            let next = u32::try_from(labels.len()).unwrap_or(u32::MAX);
            *self.texts.entry(text.clone()).or_insert_with(|| {
                labels.push(text);
                next
            })
        })
    }
}

/// Cuts the runs of a store into pieces for frames.
struct Pieces<'a> {
    by: &'a [By],
    keep: &'a dyn Fn(&Owner<'_>) -> bool,
    part: Option<u64>,
    /// Times of all ticks so far, in the order of the store; `base` of them are of parts before this one.
    times: Vec<i64>,
    base: u32,
    piece: Runs,
    labels: Vec<Labels>,
    /// Processes by the boot, as the store counts texts, the id and the start: ids begin again with every boot.
    processes: HashMap<(Option<u32>, u32, u64), u32>,
    done: &'a mut dyn FnMut(&Runs) -> anyhow::Result<()>,
    failed: Option<anyhow::Error>,
}

impl Pieces<'_> {
    fn take(&mut self, run: &Run<'_>) {
        if self.failed.is_some() {
            return;
        }
        if self.part != Some(run.part) {
            if self.piece.len() >= MOST_RUNS {
                self.flush();
            }
            self.part = Some(run.part);
            self.base = count(self.times.len());
            self.times.extend_from_slice(run.times);
            self.piece.ticks.end = count(self.times.len());
        }
        if !(self.keep)(&run.who) {
            return;
        }
        let next = count(self.processes.len());
        let boot = run.who.boot.map(|boot| boot.id);
        let process = (boot, run.who.pid, run.who.start);
        let process = *self.processes.entry(process).or_insert(next);
        let piece = &mut self.piece;
        piece.process.push(process);
        piece
            .first_tick
            .push(self.base.saturating_add(count(run.first)));
        piece.n.push(count(run.n));
        piece.values.push(run.values.first().copied().flatten());
        let keys = self.by.iter().zip(&mut piece.keys).zip(&mut self.labels);
        for ((by, key), labels) in keys {
            let code = labels.code(*by, &run.who, &mut key.labels);
            key.codes.push(code);
        }
    }

    /// Hands a piece over and begins the next one.
    fn flush(&mut self) {
        let end = self.piece.ticks.end;
        let piece = std::mem::replace(&mut self.piece, empty(self.by, end));
        self.labels = self.by.iter().map(|_| Labels::default()).collect();
        if let Err(error) = (self.done)(&piece) {
            self.failed.get_or_insert(error);
        }
    }
}

fn empty(by: &[By], tick: u32) -> Runs {
    let key = |by: &By| Key {
        name: by.name().to_owned(),
        ..Key::default()
    };
    Runs {
        ticks: tick..tick,
        keys: by.iter().map(key).collect(),
        ..Runs::default()
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What was read.
struct Reading {
    coverage: Coverage,
    /// Times of the ticks, as the pieces count them.
    times: Vec<i64>,
}

/// Reads a range in pieces.
fn read(
    store: &Store,
    question: &Question<'_>,
    range: Range,
    done: &mut dyn FnMut(&Runs) -> anyhow::Result<()>,
) -> anyhow::Result<Reading> {
    let mut pieces = Pieces {
        by: question.by,
        keep: question.keep,
        part: None,
        times: Vec::new(),
        base: 0,
        piece: empty(question.by, 0),
        labels: question.by.iter().map(|_| Labels::default()).collect(),
        processes: HashMap::new(),
        done,
        failed: None,
    };
    let ask = Ask {
        range,
        fields: &[question.field],
        pids: &[],
        programs: false,
    };
    let coverage = store
        .runs(&ask, &mut |run| pieces.take(run))
        .map_err(store_error)?;
    pieces.flush();
    match pieces.failed {
        Some(error) => Err(error),
        None => Ok(Reading {
            coverage,
            times: pieces.times,
        }),
    }
}

/// The groups of a range.
fn range_groups(
    store: &Store,
    question: &Question<'_>,
    range: Range,
) -> anyhow::Result<(Vec<aiops_frames::GroupRow>, Reading)> {
    let mut groups = Groups::new();
    let reading = read(store, question, range, &mut |runs| Ok(groups.add(runs)?))?;
    let all = reading.coverage.times.len();
    // Ticks of which the store has no process at all.
    let (seen, times) = (&reading.times, &reading.coverage.times);
    let first = seen.iter().min() > times.iter().min();
    let last = seen.iter().max() < times.iter().max();
    groups.nobody(all.saturating_sub(seen.len()) as u64, first, last);
    Ok((groups.rows(), reading))
}

fn nothing(range: Range, coverage: &Coverage) -> anyhow::Error {
    let text = |ms: i64| moment(ms).unwrap_or_else(|| format!("{ms} ms"));
    let error = anyhow::anyhow!(
        "no history from {} to {}",
        text(range.start_ms),
        text(range.end_ms)
    );
    let remedy = match coverage.known {
        Some((from, to)) => format!("the store knows {} to {}", text(from), text(to)),
        None => "start the recorder first: aiops monitor memory --daemon".to_owned(),
    };
    diag::hint(error, remedy)
}

/// The report of groups.
pub(super) fn groups(store: &Store, question: &Question<'_>) -> anyhow::Result<Report<GroupsData>> {
    let (mut rows, reading) = range_groups(store, question, question.range)?;
    rows.sort_by(|a, b| {
        let order = |row| question.sort.of(row).unwrap_or(f64::NEG_INFINITY);
        order(b).total_cmp(&order(a))
    });
    let mut data = GroupsData {
        range: span(question.range, &reading.coverage),
        by: names(question.by),
        field: question.field.to_owned(),
        sort: question.sort.name(),
        steps: Vec::new(),
        rows: rows.iter().map(|row| group_row(question.by, row)).collect(),
        view: FramesView { top: question.top },
    };
    if let Some(step_ms) = question.step_ms {
        steps(store, question, step_ms, &rows, &reading, &mut data)?;
    }
    Ok(report(store, GROUPS, data, &[&reading.coverage]))
}

/// Fills in the curves of the rows that are shown.
fn steps(
    store: &Store,
    question: &Question<'_>,
    step_ms: i64,
    rows: &[aiops_frames::GroupRow],
    reading: &Reading,
    data: &mut GroupsData,
) -> anyhow::Result<()> {
    let all = &reading.coverage.times;
    let (Some(first), Some(last)) = (all.iter().min(), all.iter().max()) else {
        return Ok(());
    };
    // Whole steps since 1970, so that the same question an hour later has the same ones.
    let begin = first.div_euclid(step_ms) * step_ms;
    let count_of = (last - begin) / step_ms + 1;
    if count_of > MOST_STEPS {
        let error = anyhow::anyhow!("{count_of} steps are too many for one row");
        return Err(diag::hint(error, "use a longer --step, or a shorter range"));
    }
    let begins: Vec<i64> = (0..count_of).map(|at| begin + at * step_ms).collect();
    // Where the calendar was set back, a step ends with the first tick that is behind it.
    let mut latest = i64::MIN;
    let reached: Vec<i64> = (reading.times.iter())
        .map(|time| {
            latest = latest.max(*time);
            latest
        })
        .collect();
    let tick = |begin: &i64| count(reached.partition_point(|time| time < begin));
    let most = if question.top == 0 {
        rows.len()
    } else {
        question.top.min(rows.len())
    };
    let mut table = Table::new(&rows[..most], begins.iter().map(tick).collect());
    read(store, question, question.range, &mut |runs| {
        Ok(table.add(runs)?)
    })?;
    for (at, begin) in begins.iter().enumerate() {
        let step = *begin..begin.saturating_add(step_ms);
        let inside = |times: &[i64]| times.iter().filter(|time| step.contains(time)).count();
        table.nobody(
            at,
            inside(all).saturating_sub(inside(&reading.times)) as u64,
        );
    }
    data.steps = begins.iter().map(|ms| moment(*ms)).collect();
    for (row, shown) in rows.iter().zip(&mut data.rows).take(most) {
        shown.steps = table.row(&row.keys).unwrap_or_default();
    }
    Ok(())
}

/// The report of two ranges.
pub(super) fn compare(
    store: &Store,
    question: &Question<'_>,
    earlier_ms: i64,
) -> anyhow::Result<Report<CompareData>> {
    let after = question.range;
    let before = Range {
        start_ms: after.start_ms.saturating_sub(earlier_ms),
        end_ms: after.end_ms.saturating_sub(earlier_ms),
    };
    let both = |range: Range| {
        let (rows, reading) = range_groups(store, question, range)?;
        // What is not there grew by nothing that anybody knows.
        if reading.coverage.times.is_empty() {
            return Err(nothing(range, &reading.coverage));
        }
        Ok((rows, reading))
    };
    let (old, old_reading) = both(before)?;
    let (new, new_reading) = both(after)?;
    let row = |row: aiops_frames::DiffRow| CompareRow {
        group: group(question.by, &row.keys),
        before: row.before.as_ref().map(totals),
        after: row.after.as_ref().map(totals),
        growth: row.growth,
        share_pct: row.share.map(|share| share * 100.0),
    };
    let rows = aiops_frames::diff(old, new).into_iter().map(row);
    let data = CompareData {
        before: span(before, &old_reading.coverage),
        after: span(after, &new_reading.coverage),
        by: names(question.by),
        field: question.field.to_owned(),
        rows: rows.collect(),
        view: FramesView { top: question.top },
    };
    let read = [&old_reading.coverage, &new_reading.coverage];
    Ok(report(store, COMPARE, data, &read))
}

fn names(by: &[By]) -> Vec<String> {
    by.iter().map(|by| by.name().to_owned()).collect()
}

fn group(by: &[By], keys: &[Option<String>]) -> GroupName {
    let names = by.iter().map(|by| by.name().to_owned());
    GroupName(names.zip(keys.iter().cloned()).collect())
}

fn group_row(by: &[By], row: &aiops_frames::GroupRow) -> GroupRow {
    GroupRow {
        group: group(by, &row.keys),
        totals: totals(row),
        steps: Vec::new(),
    }
}

fn totals(row: &aiops_frames::GroupRow) -> Totals {
    Totals {
        processes: row.members,
        samples: row.samples,
        unknown_samples: row.unknown,
        avg: row.avg,
        max: row.max,
        p95: row.p95,
        first: row.first,
        last: row.last,
        growth: row.growth(),
    }
}

fn moment(ms: i64) -> Option<String> {
    let ns = ms.checked_mul(1_000_000)?;
    time::rfc3339(ns, time::local_offset_s(ns))
}

fn span(range: Range, coverage: &Coverage) -> Span {
    let edge = |time: Option<&i64>| time.and_then(|ms| moment(*ms));
    Span {
        start: moment(range.start_ms),
        end: moment(range.end_ms),
        ticks: coverage.times.len() as u64,
        first: edge(coverage.times.first()),
        last: edge(coverage.times.last()),
    }
}

fn report<D>(store: &Store, schema: &str, data: D, read: &[&Coverage]) -> Report<D> {
    let damages = || read.iter().flat_map(|coverage| &coverage.damages);
    for damage in damages() {
        let why = damage.error.as_deref().unwrap_or("damaged");
        diag::warn(&format!("{}: {why}", damage.path.display()));
    }
    let places = damages().count() as u64;
    let damage = report::Damage {
        places,
        lost_bytes: damages().map(|damage| damage.lost_bytes).sum(),
        ..report::Damage::default()
    };
    let empty = read.iter().find(|coverage| coverage.times.is_empty());
    let meta = store.meta().ok().flatten();
    let now = time::now_ns();
    Report {
        schema: schema.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: HostInfo {
            hostname: meta.map(|meta| meta.hostname).unwrap_or_default(),
            ..HostInfo::default()
        },
        data,
        findings: (empty.iter())
            .map(|coverage| empty_range(coverage.known))
            .collect(),
        accounting: Accounting {
            damage: (places > 0).then_some(damage),
            complete: places == 0,
            ..Accounting::default()
        },
    }
}

#[cfg(test)]
mod tests;
