//! Leaks of a window held against what the store knows of the time before it.

use super::leak_sources::Taken;
use crate::analysis::leak_past;
use crate::analysis::leak_past::Growth;
use crate::model::Range;
use crate::report::leak::LeakData;
use crate::session::subjects;
use crate::session::subjects::Look;
use crate::session::subjects::Subject;
use crate::store::Store;

/// Windows before the one that is judged.
const WINDOWS: i64 = 30;
/// As far back as a store goes at all.
const MOST_MS: i64 = 30 * 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// From this length on hours are fine enough for most, which a store has summed up.
const BY_HOURS_MS: i64 = 4 * HOUR_MS;
/// From this length on nothing else is read: it would be much.
const BY_HOURS_ALONE_MS: i64 = 8 * HOUR_MS;
/// What is read sample by sample is not looked at for longer.
const MOST_BY_SAMPLES_MS: i64 = 48 * HOUR_MS;
/// Steps of a shorter window.
const STEPS: i64 = 24;
/// Nothing is sampled more often than that on a host that remembers: a step holds a few samples.
const LEAST_STEP_MS: i64 = 60_000;

/// A verdict with what its past is found by.
pub(super) struct Held<'a> {
    pub(super) data: &'a mut LeakData,
    /// `None`: it is no leak.
    pub(super) growth: Option<Growth>,
    pub(super) subject: &'a Subject,
    pub(super) earlier: &'a [&'a Subject],
}

/// Lets the past of those that leak speak. A store that cannot be read leaves the verdicts as they are.
pub(super) fn revise<'a>(taken: &Taken, held: impl Iterator<Item = Held<'a>>) {
    let Some((store, range)) = &taken.store else {
        return;
    };
    let mut leaks: Vec<(Held<'a>, Growth)> = held
        .filter(|one| one.subject.who.pid > 0)
        .filter_map(|one| {
            let growth = one.growth?;
            Some((one, growth))
        })
        .collect();
    if leaks.is_empty() {
        return;
    }
    let length = range.end_ms.saturating_sub(range.start_ms);
    if length >= BY_HOURS_MS {
        let back = length.saturating_mul(WINDOWS).min(MOST_MS);
        compare(store, *range, (HOUR_MS, back), &mut leaks);
    }
    if length < BY_HOURS_ALONE_MS && !leaks.is_empty() {
        let back = length.saturating_mul(WINDOWS).min(MOST_BY_SAMPLES_MS);
        let step_ms = (length / STEPS).max(LEAST_STEP_MS);
        compare(store, *range, (step_ms, back), &mut leaks);
    }
}

/// Compares those that can be compared in steps of this length, so far back, ms; the others stay in the list.
fn compare(
    store: &Store,
    range: Range,
    (step_ms, back): (i64, i64),
    leaks: &mut Vec<(Held<'_>, Growth)>,
) {
    // Earlier lives in the window belong to the past of the last one.
    let asked = Range {
        start_ms: range.start_ms.saturating_sub(back),
        end_ms: range.end_ms,
    };
    let looks: Vec<Look<'_>> = (leaks.iter())
        .map(|(one, _)| Look {
            subject: one.subject,
            earlier: one.earlier,
        })
        .collect();
    let Ok(courses) = subjects::past(store, asked, step_ms, &looks) else {
        return;
    };
    let (step_s, start_s) = (step_ms as f64 / 1000.0, range.start_ms as f64 / 1000.0);
    let mut courses = courses.into_iter();
    leaks.retain_mut(|(one, growth)| {
        let courses = courses.next().unwrap_or_default();
        // Lives of the window alone have had their say.
        let mut firsts = courses.iter().filter_map(|course| course.points.first());
        if !firsts.any(|(time, _)| *time < start_s) {
            return true;
        }
        let Some(past) = leak_past::past(growth, &courses, step_s) else {
            return true;
        };
        leak_past::revise(one.data, growth, past);
        false
    });
}
