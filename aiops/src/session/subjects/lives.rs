//! Which subjects are the same program: its earlier lives, and the processes that run it at the same time.

use super::Subject;
use super::program;
use crate::analysis::leak::Series;

/// Share of the shorter life for which two lives may overlap: a service that is replaced starts its successor first.
const OVERLAP: f64 = 0.1;
/// Most earlier lives that are compared.
const MOST_LIVES: usize = 50;

/// Whether two run the same program: name, and path, arguments, cgroup, user, as far as both are known.
#[must_use]
pub fn alike(one: &Subject, other: &Subject) -> bool {
    fn same<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
        one.zip(other).is_none_or(|(one, other)| one == other)
    }
    let (one, other) = (&one.who, &other.who);
    one.comm.is_some()
        && one.comm == other.comm
        && same(one.exe.as_ref(), other.exe.as_ref())
        && same(one.cmdline.as_ref(), other.cmdline.as_ref())
        && same(one.cgroup.as_ref(), other.cgroup.as_ref())
        && same(one.uid.as_ref(), other.uid.as_ref())
}

/// How long two were there together, seconds.
fn together(one: &Subject, other: &Subject) -> f64 {
    one.last_s.min(other.last_s) - one.first_s.max(other.first_s)
}

fn follows(later: &Subject, before: &Subject) -> bool {
    let shorter = (later.last_s - later.first_s).min(before.last_s - before.first_s);
    before.first_s < later.first_s && together(later, before) <= OVERLAP * shorter
}

/// Earlier lives of the same program, oldest first. None where several ran at a time: no one of them is the
/// successor of another.
#[must_use]
pub fn earlier<'a>(all: &[&'a Subject], one: &Subject) -> Vec<&'a Subject> {
    let mut lives: Vec<&Subject> = all
        .iter()
        .copied()
        .filter(|other| other.first_s < one.first_s && alike(one, other))
        .collect();
    lives.sort_by(|a, b| a.first_s.total_cmp(&b.first_s));
    let next = lives.iter().skip(1).copied().chain(std::iter::once(one));
    let in_turn = lives
        .iter()
        .zip(next)
        .all(|(before, later)| follows(later, before));
    if !in_turn {
        return Vec::new();
    }
    let surplus = lives.len().saturating_sub(MOST_LIVES);
    lives.split_off(surplus)
}

/// Others that run the same program and were there for at least half of its time.
#[must_use]
pub fn siblings<'a>(all: &[&'a Subject], one: &Subject) -> Vec<&'a Subject> {
    let half = (one.last_s - one.first_s) / 2.0;
    let alike_beside = |other: &&Subject| {
        !std::ptr::eq::<Subject>(*other, one)
            && (other.who.pid, other.who.start_ticks) != (one.who.pid, one.who.start_ticks)
            && program::same(&one.who, &other.who)
            && together(one, other) > half
    };
    all.iter().copied().filter(alike_beside).collect()
}

/// One series of several lives, in the order given, and the last one: `start` parts them.
#[must_use]
pub fn joined(earlier: &[&Subject], last: &Subject) -> Series {
    let mut out = Series::default();
    let mut starts = Vec::new();
    for life in earlier.iter().copied().chain(std::iter::once(last)) {
        let series = life.series();
        out.time_s.extend(series.time_s);
        out.bytes.extend(series.bytes);
        starts.extend(series.start_s.unwrap_or_default());
    }
    out.start_s = Some(starts);
    out
}
