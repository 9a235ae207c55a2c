//! A cycle of any length that memory goes through again and again: a job every six hours, a tide of traffic. Days
//! and weeks are known beforehand and tried on every series; any other cycle must show itself.

use super::prepare::Grid;

const DAY: f64 = 86_400.0;
/// Fewest and most cycles within the window.
const FEWEST: f64 = 3.0;
const MOST: f64 = 33.0;
/// Fewest points for one cycle.
const POINTS: f64 = 8.0;
/// Share of what a parabola leaves that one wave must explain.
const CLEAR: f64 = 0.6;
/// Points that the first look takes.
const COARSE: usize = 150;
/// Cycles that are known already are not found again.
const SAME: f64 = 0.08;

/// The cycle's length, seconds; `None`: there is none, or it is one of `known`.
#[must_use]
pub fn period(grid: &Grid, known: &[f64]) -> Option<f64> {
    let n = grid.t.len();
    if n < 60 || grid.by_age || grid.collections.is_some() || grid.load.is_some() {
        return None;
    }
    let x: Vec<f64> = grid.t.iter().map(|t| t / grid.span).collect();
    let rest = without_parabola(&x, &grid.y);
    let total: f64 = rest.iter().map(|r| r * r).sum();
    if total <= 0.0 {
        return None;
    }
    let stride = n.div_ceil(COARSE);
    let few: Vec<(f64, f64)> = pairs(&x, &rest).step_by(stride).collect();
    let most = MOST.min(few.len() as f64 / POINTS);
    let mut best = (0.0, 0.0);
    let mut cycles = FEWEST;
    while cycles <= most {
        best = larger(best, (power(&few, cycles), cycles));
        cycles += 0.25;
    }
    let all: Vec<(f64, f64)> = pairs(&x, &rest).collect();
    let around = best.1;
    let mut best = (0.0, around);
    for step in -12..=12 {
        let cycles = around + 0.02 * f64::from(step);
        best = larger(best, (power(&all, cycles), cycles));
    }
    let found = grid.span / best.1;
    let again = known.iter().any(|known| (found / known - 1.0).abs() < SAME);
    (best.0 >= CLEAR * total && best.1 >= FEWEST - 0.1 && !again).then_some(found)
}

/// Days, half days and weeks, as far as the window shows them.
#[must_use]
pub fn calendar(days: bool, weeks: bool) -> Vec<f64> {
    let mut known = Vec::new();
    if days {
        known.extend([DAY, DAY / 2.0, DAY / 3.0]);
    }
    if weeks {
        known.push(7.0 * DAY);
    }
    known
}

fn pairs<'a>(x: &'a [f64], y: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    x.iter().copied().zip(y.iter().copied())
}

fn larger(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    if b.0 > a.0 { b } else { a }
}

/// Sum of squares that a wave with so many cycles explains.
fn power(points: &[(f64, f64)], cycles: f64) -> f64 {
    let angle = std::f64::consts::TAU * cycles;
    let (mut sine, mut cosine) = (0.0, 0.0);
    let (mut ss, mut cc, mut sc) = (0.0, 0.0, 0.0);
    for (x, y) in points {
        let (s, c) = (angle * x).sin_cos();
        sine += s * y;
        cosine += c * y;
        ss += s * s;
        cc += c * c;
        sc += s * c;
    }
    let determinant = ss * cc - sc * sc;
    if determinant < 1e-9 * ss * cc {
        return 0.0;
    }
    (cc * sine * sine - 2.0 * sc * sine * cosine + ss * cosine * cosine) / determinant
}

/// What a parabola leaves.
fn without_parabola(x: &[f64], y: &[f64]) -> Vec<f64> {
    let mut rest = y.to_vec();
    let mut done: Vec<Vec<f64>> = Vec::new();
    for power in 0..3 {
        let mut column: Vec<f64> = x.iter().map(|x| x.powi(power)).collect();
        for other in &done {
            let along = dot(&column, other) / dot(other, other);
            column
                .iter_mut()
                .zip(other)
                .for_each(|(c, o)| *c -= along * o);
        }
        let along = dot(&rest, &column) / dot(&column, &column).max(1e-300);
        rest.iter_mut()
            .zip(&column)
            .for_each(|(r, c)| *r -= along * c);
        done.push(column);
    }
    rest
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(y: impl Fn(f64) -> f64) -> Grid {
        let t: Vec<f64> = (0..300).map(|i| f64::from(i) * 60.0).collect();
        Grid {
            y: t.iter().map(|t| y(t / (299.0 * 60.0))).collect(),
            span: 299.0 * 60.0,
            t,
            ..Grid::default()
        }
    }

    #[test]
    fn a_tide_on_a_leak_is_found() {
        let wave = |x: f64| 100.0 * x + 30.0 * (std::f64::consts::TAU * 5.3 * x).sin();
        let found = period(&grid(wave), &[]).expect("a cycle");
        assert!((found / (299.0 * 60.0 / 5.3) - 1.0).abs() < 0.01, "{found}");
        assert_eq!(period(&grid(wave), &[found]), None);
    }

    #[test]
    fn steps_warm_ups_and_noise_are_no_cycle() {
        assert_eq!(period(&grid(|x| f64::from(u8::from(x > 0.4))), &[]), None);
        assert_eq!(period(&grid(|x| 1.0 - (-x / 0.1).exp()), &[]), None);
        let noise = |x: f64| (x * 299.0 * 7919.0) % 13.0;
        assert_eq!(period(&grid(noise), &[]), None);
        assert_eq!(period(&grid(|_| 1.0), &[]), None);
    }
}
