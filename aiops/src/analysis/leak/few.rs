//! A collected heap with few cycles: its floors are too few to compare shapes with, so a line through them is
//! judged against the height of the teeth.

use super::Class;
use super::posterior::Candidate;
use super::posterior::Posterior;
use super::prepare::Grid;
use super::shapes::Kind;

/// With more floors shapes can be told apart.
const MANY: usize = 14;
/// Floors that are needed.
const FEWEST: usize = 3;

/// Weights for a grid of few floors; `None`: there are more, or they say nothing clear.
#[must_use]
pub fn posterior(grid: &Grid) -> Option<Posterior> {
    let height = grid.collections?;
    let m = grid.t.len();
    if !(FEWEST..MANY).contains(&m) || grid.span <= 0.0 || grid.by_age {
        return None;
    }
    let whole = line(&grid.t, &grid.y)?;
    let late = line(&grid.t[m / 2..], &grid.y[m / 2..]);
    let mean = grid.y.iter().sum::<f64>() / m as f64;
    // A floor is known to no more than a part of what a collection leaves behind.
    let least = 0.03 * height;
    let freedom = m.saturating_sub(2).max(1) as f64;
    let sigma = (whole.rss / freedom).sqrt().max(least);
    let error = sigma / whole.square.sqrt();
    let growth = whole.slope * grid.span;
    let t = whole.slope / error;
    let rises = grid.y.windows(2).filter(|pair| pair[1] > pair[0]).count();
    let goes_on = m < 6 || late.is_some_and(|late| late.slope > 0.35 * whole.slope);
    let large = growth > (0.15 * height).max(0.006 * grid.level).max(131_072.0);
    let steady = rises + 1 + m / 5 >= m - 1;
    let class = if large && goes_on && steady && (t > 5.0 || m > 4 && t > 4.0) {
        Class::Leak
    } else if growth < 0.1 * height || t < 1.5 && growth < 0.3 * height {
        Class::NoLeak
    } else {
        return None;
    };
    let leak = match class {
        Class::Leak => 1.0 - (0.5 / (t - 3.0).max(1.0).powi(2)).min(0.15),
        _ => 0.1,
    };
    let total: f64 = grid.y.iter().map(|y| (y - mean) * (y - mean)).sum();
    let n = m as f64;
    let bic = |rss: f64, parameters: f64| {
        n * ((rss / n).max(least * least) / (height * height)).ln() + parameters * n.ln()
    };
    let straight = Candidate {
        kind: Kind::Line,
        class: Class::Leak,
        bic: bic(whole.rss, 3.0),
        phi: 0.0,
        rate: whole.slope,
        rate_error: error,
        fitted: grid.t.iter().map(|t| whole.at + whole.slope * t).collect(),
        acceleration: 0.0,
        season: false,
        cycle_s: None,
    };
    let level = Candidate {
        kind: Kind::Constant,
        class: Class::NoLeak,
        bic: bic(total, 2.0),
        rate: 0.0,
        fitted: vec![mean; m],
        ..straight.clone()
    };
    Some(Posterior {
        leak,
        ambiguous: 0.0,
        best: if class == Class::Leak {
            straight.clone()
        } else {
            level.clone()
        },
        rate: straight.rate,
        rate_error: error,
        best_leak: Some(straight),
        best_other: Some(level),
        load_explains: None,
        steps: Vec::new(),
        rivals: Vec::new(),
    })
}

/// A straight line: slope, value at time 0, what is left, and the squares of the times.
struct Line {
    slope: f64,
    at: f64,
    rss: f64,
    square: f64,
}

fn line(t: &[f64], y: &[f64]) -> Option<Line> {
    let n = t.len() as f64;
    let (mean_t, mean_y) = (t.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let square: f64 = t.iter().map(|t| (t - mean_t) * (t - mean_t)).sum();
    let along = t.iter().zip(y).map(|(t, y)| (t - mean_t) * (y - mean_y));
    if t.len() < 2 || square <= 0.0 {
        return None;
    }
    let slope = along.sum::<f64>() / square;
    let at = mean_y - slope * mean_t;
    let rest = t.iter().zip(y).map(|(t, y)| (y - at - slope * t).powi(2));
    Some(Line {
        slope,
        at,
        rss: rest.sum(),
        square,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floors(y: &[f64]) -> Grid {
        Grid {
            t: (0..y.len()).map(|i| i as f64 * 600.0).collect(),
            part: vec![0; y.len()],
            span: y.len() as f64 * 600.0,
            level: y[0],
            collections: Some(20e6),
            y: y.to_vec(),
            ..Grid::default()
        }
    }

    #[test]
    fn few_floors_are_judged_by_the_height_of_the_teeth() {
        let flat = floors(&[100e6, 100.4e6, 99.8e6, 100.1e6, 100e6]);
        assert!(posterior(&flat).is_some_and(|found| found.leak < 0.3));
        let rising = floors(&[100e6, 104e6, 108.5e6, 112e6, 116e6, 120.2e6]);
        let found = posterior(&rising).expect("clear");
        assert!(found.leak > 0.8, "{found:?}");
        assert!((found.rate - 4e6 / 600.0).abs() < 300.0, "{found:?}");
    }
}
