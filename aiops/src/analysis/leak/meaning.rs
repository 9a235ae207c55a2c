//! What a fitted shape would mean: memory that still rises, that has stopped, or that cannot be told.

use super::Class;
use super::robust::median;
use super::shapes::Catalog;
use super::shapes::Kind;
use super::steps;

/// A saturation has settled after this many time constants, and cannot be told from a line before the other.
const SETTLED: f64 = 2.5;
const UNSEEN: f64 = 0.83;
/// A step down by so much of the climb before it gives that back.
const GIVEN_BACK: f64 = 0.6;
/// This many steps have a trend of their own.
const MANY: usize = 6;

impl Catalog {
    /// Slope of a straight line through the values since `from`.
    fn trend(&self, from: f64) -> f64 {
        let since = self.x.partition_point(|x| *x < from);
        let (x, y) = (&self.x[since..], &self.design.y[since..]);
        let n = x.len().max(1) as f64;
        let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
        let along: f64 = x
            .iter()
            .zip(y)
            .map(|(x, y)| (x - mean_x) * (y - mean_y))
            .sum();
        let square: f64 = x.iter().map(|x| (x - mean_x) * (x - mean_x)).sum();
        along / square.max(1e-12)
    }
}

/// What a shape means with these coefficients, and its slope now for each unit of x.
/// `relative` is the scale over the level of the memory. `None`: such a fit says nothing.
#[must_use]
pub fn meaning(
    kind: Kind,
    coefficients: &[f64],
    catalog: &Catalog,
    relative: f64,
) -> Option<(Class, f64)> {
    let last = coefficients.last().copied().unwrap_or(0.0);
    let weights = kind.slope_weights(coefficients.len());
    let slope: f64 = weights.iter().zip(coefficients).map(|(w, c)| w * c).sum();
    let rising = |class| if last > 0.0 { class } else { Class::NoLeak };
    let class = match kind {
        Kind::Constant
        | Kind::Ramp { .. }
        | Kind::SaturationRamp { .. }
        | Kind::SaturationSteps => Class::NoLeak,
        Kind::Line | Kind::Hinge { .. } | Kind::StepHinge { .. } | Kind::StepsHinge { .. } => {
            rising(Class::Leak)
        }
        Kind::SaturationLine { .. } | Kind::LateSaturationLine { .. } => {
            if creeps(last, coefficients[coefficients.len() - 2], last * relative) {
                Class::NoLeak
            } else {
                rising(Class::Leak)
            }
        }
        Kind::Quadratic => {
            let mean = coefficients[0] + coefficients[1];
            if slope <= 0.15 * mean || mean <= 0.0 {
                Class::NoLeak
            } else if slope < 0.35 * mean {
                Class::Ambiguous
            } else {
                Class::Leak
            }
        }
        Kind::FlatEnd { at } => {
            if paused_before(coefficients, catalog, 1.0 - at) {
                Class::Ambiguous
            } else {
                Class::NoLeak
            }
        }
        Kind::StepsLine { count } if count >= 3 && coefficients.iter().all(|c| *c > 0.0) => {
            // So many steps, none of them back, are how it leaks.
            return Some((Class::Leak, catalog.trend(0.0)));
        }
        // What it climbed was given back: it may climb and give back for ever.
        Kind::StepsLine { count } if given_back(&coefficients[..count], last, catalog) => {
            rising(Class::Ambiguous)
        }
        Kind::StepsLine { .. } => rising(Class::Leak),
        Kind::Polyline { at, .. } => {
            let (mut running, mut up, mut down) = (0.0, 0.0, 0.0);
            let mut from = 0.0;
            let ends = catalog.bends.iter().map(|&i| catalog.x[i]);
            for (coefficient, to) in coefficients.iter().zip(ends.chain([1.0])) {
                running += coefficient;
                let way: f64 = running * (to - from);
                (up, down) = (up + way.max(0.0), down - way.min(0.0));
                from = to;
            }
            let rise = up - down;
            if down > 0.1 * up {
                return None;
            } else if slope <= 0.0 || creeps(slope, rise, slope * (1.0 - at) * relative) {
                Class::NoLeak
            } else if slope < 0.3 * rise && at > 0.4 {
                Class::Ambiguous
            } else {
                Class::Leak
            }
        }
        Kind::Broken { at } => {
            let after = slope * (1.0 - at) * relative;
            if slope <= 0.0 {
                if at > 0.81 && coefficients[0] > 0.0 {
                    // So short a pause may be one.
                    return None;
                }
                Class::NoLeak
            } else if coefficients[0] > 0.0 && slope < 0.05 * coefficients[0] {
                if after < 0.02 {
                    Class::NoLeak
                } else if at <= 0.4 {
                    Class::Leak
                } else {
                    Class::Ambiguous
                }
            } else if coefficients[0] > 0.0 && slope < 0.3 * coefficients[0] && at > 0.5 {
                Class::Ambiguous
            } else {
                Class::Leak
            }
        }
        Kind::Saturation { tau } => rising(settling(1.0 / tau)),
        Kind::LateSaturation { from, tau } => rising(match settling((1.0 - from) / tau) {
            Class::Leak => Class::Ambiguous,
            class => class,
        }),
        Kind::TwoSaturations { tau } => {
            let left = last * (-1.0 / tau).exp() * relative;
            if tau > 0.24 && left > 0.004 {
                rising(Class::Ambiguous)
            } else {
                Class::NoLeak
            }
        }
        Kind::Rise { from, to } => {
            if 1.0 - to >= (0.6 * (to - from)).max(0.12) {
                Class::NoLeak
            } else {
                rising(Class::Ambiguous)
            }
        }
        Kind::Log { tau, cap } => {
            if cap < 0.95 || tau <= 0.05 {
                Class::NoLeak
            } else {
                rising(Class::Ambiguous)
            }
        }
        Kind::Root => rising(Class::Ambiguous),
        Kind::HalfDay => Class::Ambiguous,
        Kind::OneDay => Class::NoLeak,
        // Two days are seldom alike.
        Kind::OneDayLine => rising(Class::Ambiguous),
        Kind::Steps { count } => {
            let at: Vec<f64> = catalog.steps[..count]
                .iter()
                .map(|&i| catalog.x[i])
                .collect();
            let near = (2.6 / catalog.x.len() as f64).max(0.02);
            let stairs = steps::judge(&at, coefficients, near)?;
            let slope = if stairs.ups >= MANY {
                catalog.trend(stairs.begin)
            } else {
                stairs.slope
            };
            return Some((stairs.class, slope));
        }
        Kind::PerLoad { .. } | Kind::PerLoadLine { .. } => {
            if coefficients.iter().sum::<f64>() > 0.0 && slope > 0.0 {
                Class::Leak
            } else {
                Class::NoLeak
            }
        }
    };
    Some((class, slope))
}

/// Whether a step down takes back most of what the line had climbed until then, and it is not higher since.
fn given_back(steps: &[f64], slope: f64, catalog: &Catalog) -> bool {
    let y = &catalog.design.y;
    let few = (y.len() / 40).max(3);
    let last = median(&y[y.len() - few..]);
    let given = |step: f64, i: usize| {
        let top = median(&y[i.saturating_sub(few)..i.max(1)]);
        -step > GIVEN_BACK * slope * catalog.x[i] && last < top - 0.1 * step
    };
    let mut all = steps.iter().zip(&catalog.steps);
    all.any(|(step, &i)| *step < 0.0 && given(*step, i))
}

/// Whether a series that is flat now has been flat for as long before, and has risen again.
fn paused_before(coefficients: &[f64], catalog: &Catalog, flat: f64) -> bool {
    let mut running: f64 = coefficients.iter().sum();
    let rise: f64 = coefficients
        .iter()
        .zip(&catalog.bends)
        .map(|(coefficient, &i)| coefficient * catalog.x[i])
        .sum();
    let mut from = 0.0;
    let mut risen = false;
    let mut paused = false;
    for (coefficient, &i) in coefficients.iter().zip(&catalog.bends) {
        let to = catalog.x[i];
        if running < 0.15 * rise {
            paused |= risen && running > -0.15 * rise && to - from > 0.6 * flat;
        } else {
            // A last little that comes late is no new rise.
            if paused && running * (to - from) > 0.05 * rise {
                return true;
            }
            risen = true;
        }
        running -= coefficient;
        from = to;
    }
    false
}

/// What still grows after a rise is a small part of it, and of the level.
fn creeps(slope: f64, rise: f64, growth: f64) -> bool {
    slope < 0.05 * rise && growth < 0.02
}

/// A saturation after this many of its time constants.
fn settling(constants: f64) -> Class {
    if constants >= SETTLED {
        Class::NoLeak
    } else if constants > UNSEEN {
        Class::Ambiguous
    } else {
        Class::Leak
    }
}
