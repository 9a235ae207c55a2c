//! What is told of one series: where its level rises, falls or goes slowly to another one, and peaks of what STL
//! leaves.

use super::JUMP_SIGMAS;
use super::PEAK_SIGMAS;
use super::host::Bare;
use super::host::Watched;
use super::host::kb;
use super::host::per_day;
use super::host::stamp;
use super::jump::Jump;
use super::jump::Slow;
use super::median;
use crate::msg;
use crate::report::Msg;
use crate::report::anomaly::Anomaly;

/// A jump of a smaller share of a slow change is a part of it.
const PART: f64 = 0.7;
/// Windows of a life before a jump.
const SETTLED: f64 = 3.0;

/// How often a day a series without anything does this, from the labelled ones (docs/accuracy.md): it falls
/// slowly, for what is large is mostly a change of habits and no noise. Below the last figure nobody looked.
fn jumps_a_day(sigmas: f64, window_s: f64) -> f64 {
    let expected = (JUMPS_A_DAY * JUMP_SIGMAS / sigmas.abs().max(1.0)).max(RAREST_A_DAY);
    // They had windows of an hour: a day has more of the shorter ones.
    expected * (3600.0 / window_s.max(1.0)).max(1.0)
}

/// False growth points a day at the threshold.
const JUMPS_A_DAY: f64 = 0.003;
/// The labelled series are no longer than what this is once in.
const RAREST_A_DAY: f64 = 0.001;
/// False peaks of the residual a day at theirs.
const PEAKS_A_DAY: f64 = 0.4;

/// Growth points, change points and residuals of one series.
pub(super) fn anomalies(one: &Watched) -> Vec<Bare> {
    let course = &one.course;
    let window_s = course.window as f64 * course.even.step_s;
    // A life begins with a rise.
    let settled = |jump: &Jump| {
        let first = if one.grown { 0.0 } else { SETTLED };
        jump.at as f64 >= first * course.window as f64
    };
    let mut jumps = course.jumps(JUMP_SIGMAS, one.least);
    jumps.retain(settled);
    let changes = course.change_points(JUMP_SIGMAS, one.least);
    // A part of a slow change is no jump of its own.
    jumps.retain(|jump| {
        !changes
            .iter()
            .any(|slow| is_part(jump, slow, course.window))
    });
    let peaks = course.peaks(PEAK_SIGMAS, one.least);
    let near = |at: usize, jump: &Jump| jump.at.abs_diff(at) <= 2 * course.window;
    let bare = |kind, jump: &Jump, reason, why: Msg| Bare {
        at_s: course.even.time(jump.at),
        around_s: course.even.time(jump.at),
        window_s,
        anomaly: Anomaly {
            kind,
            subject: one.subject.clone(),
            at: stamp(course.even.time(jump.at)),
            until: jump.until.map(|until| stamp(course.even.time(until))),
            value: jump.size,
            unit: "kb",
            size_sigmas: Some(jump.sigmas),
            rarity: per_day(jumps_a_day(jump.sigmas, window_s)),
            reason,
            why,
            residual_sigmas: None,
            score: None,
            also_moved: Vec::new(),
        },
    };
    let level = |jump: &Jump| {
        let at = jump.at.min(course.plain.len());
        let from = at.saturating_sub(course.window);
        // With its season: what a graph shows.
        median(&course.even.values[from..at])
    };
    let mut all = Vec::new();
    for jump in &jumps {
        let (before, size) = (level(jump), kb(jump.size));
        let (from, to) = (kb(before), kb((before + jump.size).max(0.0)));
        let (kind, why) = if jump.size > 0.0 {
            let why = msg!(
                "the level rose by {size} ({from} to {to})",
                "水平上升 {size}（{from} 至 {to}）"
            );
            ("growth-point", why)
        } else {
            let why = msg!(
                "the level fell by {size} ({from} to {to})",
                "水平下降 {size}（{from} 至 {to}）"
            );
            ("change-point", why)
        };
        // Growth that is given back is told once.
        let end = |other: &Jump| {
            other
                .until
                .is_some_and(|until| until.abs_diff(jump.at) <= course.window)
        };
        if jump.size < 0.0 && jumps.iter().any(end) {
            continue;
        }
        let mut found = bare(kind, jump, "level", why);
        let peak = peaks.iter().filter(|peak| near(peak.at, jump));
        found.anomaly.residual_sigmas = peak.map(|peak| peak.sigmas).reduce(f64::max);
        all.push(found);
    }
    for slow in &changes {
        let change = Jump {
            at: slow.from,
            until: None,
            size: slow.size,
            sigmas: slow.sigmas,
        };
        let around = slow.from.saturating_sub(2 * course.window)..=slow.to + 2 * course.window;
        let known = |jump: &Jump| {
            around.contains(&jump.at) || jump.until.is_some_and(|until| around.contains(&until))
        };
        if jumps.iter().any(known) || !settled(&change) {
            continue;
        }
        let size = kb(change.size);
        let why = if change.size > 0.0 {
            msg!(
                "a slow rise to a level {size} higher",
                "缓慢上升至高出 {size} 的水平"
            )
        } else {
            msg!(
                "a slow fall to a level {size} lower",
                "缓慢下降至低 {size} 的水平"
            )
        };
        all.push(bare("change-point", &change, "level", why));
    }
    for peak in peaks {
        let touches = |jump: &Jump| {
            (peak.from.saturating_sub(2 * course.window)..=peak.to + 2 * course.window)
                .contains(&jump.at)
        };
        if jumps.iter().any(touches) {
            continue;
        }
        let jump = Jump {
            at: peak.from,
            until: Some(peak.to),
            size: peak.size,
            sigmas: peak.sigmas,
        };
        let size = kb(peak.size);
        let why = msg!(
            "{size} above trend and season (STL residual); the level stayed",
            "高出趋势与季节 {size}（STL 残差），水平未变"
        );
        let mut found = bare("residual", &jump, "residual", why);
        found.anomaly.rarity = per_day(PEAKS_A_DAY * PEAK_SIGMAS / peak.sigmas);
        all.push(found);
    }
    all
}

/// Whether a jump is but the steepest part of a slow change.
fn is_part(jump: &Jump, slow: &Slow, window: usize) -> bool {
    let inside = slow.from.saturating_sub(window)..=slow.to + window;
    slow.to - slow.from > window
        && inside.contains(&jump.at)
        && jump.size * slow.size > 0.0
        && jump.size.abs() < PART * slow.size.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_windows_come_more_often() {
        assert!(jumps_a_day(20.0, 3600.0) < jumps_a_day(8.0, 3600.0));
        assert!(jumps_a_day(8.0, 60.0) > 50.0 * jumps_a_day(8.0, 3600.0));
        assert_eq!(jumps_a_day(1e9, 3600.0), RAREST_A_DAY);
    }
}
