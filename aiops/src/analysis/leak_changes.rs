//! Where the shape that won changes its course: its steps and bends. Steps that only another shape would have, as one
//! of steps laid over a straight line, are none.

use super::leak::Assessment;
use super::leak::shapes::Kind;

/// A step is this many times as high as what the shape does beside it.
const STANDS_OUT: f64 = 3.0;
/// And this share of all that the shape does.
const COUNTS: f64 = 0.01;
/// How far beside it that is looked at, points.
const BESIDE: usize = 3;

/// Times of steps and bends of the best shape, seconds since 1970, in order. Where lives are compared by age there
/// are none.
pub(super) fn changes(found: &Assessment) -> Vec<f64> {
    let (Some(shape), Some((begin, _))) = (&found.shape, found.fitted.first()) else {
        return Vec::new();
    };
    let bends = bends(shape.kind);
    let mut times: Vec<f64> = bends
        .into_iter()
        .flatten()
        .map(|share| begin + share * found.grid_span_s)
        .collect();
    let steps = found.change_points_s.iter().copied();
    times.extend(steps.filter(|at| is_step(&found.fitted, *at)));
    times.sort_unstable_by(f64::total_cmp);
    // A step at a bend is one change.
    times.dedup_by(|next, at| *next - *at < 0.01 * found.grid_span_s);
    times
}

/// Where a shape bends, shares of its span.
fn bends(kind: Kind) -> [Option<f64>; 2] {
    match kind {
        Kind::Rise { from, to } => [Some(from), Some(to)],
        Kind::Ramp { to: at }
        | Kind::SaturationRamp { to: at }
        | Kind::Hinge { from: at }
        | Kind::StepHinge { from: at }
        | Kind::StepsHinge { from: at, .. }
        | Kind::LateSaturation { from: at, .. }
        | Kind::LateSaturationLine { from: at }
        | Kind::Broken { at }
        | Kind::Polyline { at, .. }
        | Kind::FlatEnd { at } => [Some(at), None],
        _ => [None, None],
    }
}

/// Whether the drawn shape jumps there.
fn is_step(fitted: &[(f64, f64)], at: f64) -> bool {
    let next = fitted.partition_point(|(time, _)| *time < at);
    let change = |i: usize| match (i.checked_sub(1).and_then(|i| fitted.get(i)), fitted.get(i)) {
        (Some(before), Some(after)) => (after.1 - before.1).abs(),
        _ => 0.0,
    };
    let sizes = fitted.iter().map(|(_, bytes)| *bytes);
    let (low, high) = sizes.fold((f64::MAX, f64::MIN), |(low, high), size| {
        (low.min(size), high.max(size))
    });
    // The time is that of the last point before it or of the first one after it.
    [next, next + 1].into_iter().any(|i| {
        let beside = change(i.saturating_sub(BESIDE)).max(change(i + BESIDE));
        change(i) > STANDS_OUT * beside + COUNTS * (high - low)
    })
}

#[cfg(test)]
mod tests {
    use super::super::leak::Series;
    use super::super::leak::assess;
    use super::*;

    const MIB: f64 = 1_048_576.0;

    /// Changes, in minutes after the begin, of a size in MiB by the minute.
    fn of(mib: impl Fn(f64) -> f64) -> Vec<f64> {
        let wobble = |i: f64| i * 7919.0 % 13.0 * 4096.0;
        let minutes = || (0..600).map(f64::from);
        let series = Series {
            time_s: minutes().map(|i| 1.7e9 + i * 60.0).collect(),
            bytes: minutes().map(|i| mib(i) * MIB + wobble(i)).collect(),
            ..Series::default()
        };
        let found = assess(&series, None);
        let changes = changes(&found).into_iter();
        changes.map(|at| (at - 1.7e9) / 60.0).collect()
    }

    #[test]
    fn a_smooth_course_has_no_changes() {
        assert_eq!(of(|i| 100.0 + i * 0.2), [0.0; 0]);
        assert_eq!(of(|i| 200.0 - 100.0 * (-i / 90.0).exp()), [0.0; 0]);
        assert_eq!(of(|_| 100.0), [0.0; 0]);
    }

    #[test]
    fn steps_and_bends_are_where_they_are() {
        let near = |found: Vec<f64>, at: f64| {
            assert!(
                found.len() == 1 && (found[0] - at).abs() < 15.0,
                "{at}: {found:?}"
            );
        };
        near(of(|i| if i < 250.0 { 100.0 } else { 160.0 }), 250.0);
        near(of(|i| 100.0 + 0.3 * (i - 300.0).max(0.0)), 300.0);
    }
}
