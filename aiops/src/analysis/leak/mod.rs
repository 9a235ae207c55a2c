//! Is it a leak? One series of memory sizes, its load and its restarts, judged by comparing the shapes that
//! memory takes over time.
//!
//! The way: repair the clock and part the lives ([`prepare`]), take collections and peaks out, fit every shape
//! under AR(1) noise ([`shapes`], [`gls`]), weigh them by BIC ([`posterior`]), and decide here. A leak must
//! still be rising now; what rose and stopped is none; what both a leak and a long warm-up would look like is
//! inconclusive. Pure and deterministic: times come from the series.

pub mod cycle;
pub mod drift;
pub mod few;
pub mod gls;
mod hit;
pub mod meaning;
#[cfg(test)]
pub(super) mod oracle_tests;
pub mod pelt;
pub mod posterior;
pub mod prepare;
pub mod robust;
pub mod shapes;
pub mod steps;
pub mod trend;

use posterior::Candidate;
use posterior::Posterior;
use prepare::FEWEST;
use prepare::GRID;
use prepare::Grid;
use robust::median;
use shapes::Kind;

/// Least probability of the verdict leak.
const SURE: f64 = 0.75;
/// Most probability of the verdict no-leak.
const UNLIKELY: f64 = 0.3;
/// Probability of a leak that only its steadiness shows.
const STEADY: f64 = 0.95;
/// A shape that is better by so much BIC describes what there is.
const FAR_BETTER: f64 = 30.0;
/// A life with this share of the longest earlier one speaks for itself.
const OLD_ENOUGH: f64 = 0.5;
/// Fewest samples of an earlier life that is looked at.
const SHORT_LIFE: usize = 8;
const DAY: f64 = 86_400.0;
/// A process is young when its age is less than so many windows, and a verdict on it is not more sure than this.
const YOUNG: f64 = 2.0;
const SURE_OF_YOUNG: f64 = 0.8;
/// Error of a rate that no fit tells, as a share of it: no shape is quite that of the memory. Without it, intervals
/// of 95 % held the true rate in 70 % of the cases (docs/accuracy.md).
const UNTOLD: f64 = 0.05;
/// Steps that grow by less than this share of the detection limit tell nothing.
const STEPS_LEAST: f64 = 0.75;
/// However short the window is: ten minutes of age, seconds.
const STARTED_S: f64 = 600.0;
/// Growth by this share of the level must be seen where there is one, if samples rose by the other share.
const BLIND: f64 = 1.0;
const RISEN: f64 = 0.3;

/// What a shape, or a series, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Memory grows, and nothing says that it will stop.
    Leak,
    /// It does not, or it has stopped.
    NoLeak,
    /// Both would look like this.
    Ambiguous,
}

/// Samples in the order in which they were taken; all columns are equally long and finite.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Seconds since 1970; a step back is a clock step.
    pub time_s: Vec<f64>,
    /// Memory, bytes.
    pub bytes: Vec<f64>,
    /// Load, in any unit.
    pub load: Option<Vec<f64>>,
    /// Start of the process, seconds since 1970: changes at a restart.
    pub start_s: Option<Vec<f64>>,
}

/// Why the verdict is what it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Too few samples, or no time passes.
    TooFew,
    /// Every sample is the same.
    Constant,
    /// A shape fits better than the best one with another meaning, by this much BIC.
    Shape {
        /// BIC of the other less BIC of this one.
        margin: f64,
    },
    /// The load explains the growth: R² of the load alone.
    FollowsLoad {
        /// Share of the variance.
        r2: f64,
    },
    /// A shape that a leak and a harmless process share, or two shapes that fit equally.
    Undecided,
}

/// When a limit will be met.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// From the last sample, seconds.
    pub after_s: f64,
    /// Soonest and latest; `None`: perhaps never.
    pub interval_s: (f64, Option<f64>),
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// The verdict.
    pub class: Class,
    /// Probability of a leak.
    pub probability: f64,
    /// Probability that the verdict is right.
    pub confidence: f64,
    /// Why.
    pub reason: Reason,
    /// The best shape.
    pub shape: Option<Candidate>,
    /// The best shape with the other meaning.
    pub rival: Option<Candidate>,
    /// How well each kind of shape did.
    pub rivals: Vec<posterior::Rival>,
    /// The best shape over time: seconds since 1970, bytes. Empty where lives are compared by age.
    pub fitted: Vec<(f64, f64)>,
    /// Growth now, bytes a second; `None`: nothing to say.
    pub rate: Option<f64>,
    /// 95 % interval of `rate`.
    pub rate_interval: Option<(f64, f64)>,
    /// Since when it leaks, seconds since 1970.
    pub onset_s: Option<f64>,
    /// Share of the variance that the best shape explains.
    pub r2: Option<f64>,
    /// Share that a straight line explains. Evidence beside the verdict, as the next one: a warm-up has a trend.
    pub linear_r2: Option<f64>,
    /// Probability of as much of a trend, up or down, by chance: exact Kendall for few points, else Mann-Kendall
    /// with the correction of Hamed and Rao for autocorrelation.
    pub trend_p: Option<f64>,
    /// Times of steps and bends, seconds since 1970.
    pub change_points_s: Vec<f64>,
    /// The smallest rate that would be seen, bytes a second.
    pub detection_limit: Option<f64>,
    /// When the limit is met.
    pub hit: Option<Hit>,
    /// Collections were found: how much each gives back, bytes.
    pub collections: Option<f64>,
    /// Lives of the process in the window, the last one included.
    pub lives: usize,
    /// The verdict comes from all lives together.
    pub from_all_lives: bool,
    /// Steps back of the clock.
    pub clock_steps: usize,
    /// Seconds of the last life.
    pub span_s: f64,
    /// Samples of the last life.
    pub samples: usize,
    /// Seconds that x = 1 of a shape stands for.
    pub grid_span_s: f64,
}

/// One life, with times from its first row.
struct Life {
    t: Vec<f64>,
    bytes: Vec<f64>,
    load: Option<Vec<f64>>,
    /// Age at the first row.
    age: f64,
}

fn split(series: &Series, times: &[f64]) -> Vec<Life> {
    prepare::lives(series)
        .into_iter()
        .map(|rows| {
            let begin = times.get(rows.start).copied().unwrap_or(0.0);
            let age = series.start_s.as_ref().map_or(0.0, |start| {
                (series.time_s[rows.start] - start[rows.start]).max(0.0)
            });
            Life {
                t: times[rows.clone()].iter().map(|t| t - begin).collect(),
                bytes: series.bytes[rows.clone()].to_vec(),
                load: series.load.as_ref().map(|load| load[rows].to_vec()),
                age,
            }
        })
        .collect()
}

/// All lives over their age. `None`: fewer than two of them can be compared.
fn joint(lives: &[Life]) -> Option<Grid> {
    let usable: Vec<&Life> = lives
        .iter()
        .filter(|life| {
            let span = life.t.last().copied().unwrap_or(0.0);
            life.t.len() >= SHORT_LIFE && life.age <= span
        })
        .collect();
    if usable.len() < 2 {
        return None;
    }
    let each = (GRID / usable.len()).max(30);
    let mut all = Grid::default();
    let mut levels = Vec::new();
    for (number, life) in usable.iter().enumerate() {
        let grid = prepare::grid(&life.t, &life.bytes, None, each);
        levels.push(grid.level);
        all.t.extend(grid.t.iter().map(|t| t + life.age));
        all.part.extend(grid.t.iter().map(|_| number));
        all.y.extend(grid.y);
        all.span = all.span.max(grid.span + life.age);
        all.collections = all.collections.or(grid.collections);
    }
    all.level = median(&levels);
    all.by_age = true;
    Some(all)
}

/// Of what cannot be told, half.
fn probability(posterior: &Posterior) -> f64 {
    (posterior.leak + 0.5 * posterior.ambiguous).clamp(0.001, 0.999)
}

fn decided(posterior: &Posterior) -> Class {
    let leak = probability(posterior);
    if leak >= SURE {
        Class::Leak
    } else if leak <= UNLIKELY {
        Class::NoLeak
    } else {
        Class::Ambiguous
    }
}

/// Judges a series. `limit`: bytes at which the process dies.
#[must_use]
pub fn assess(series: &Series, limit: Option<f64>) -> Assessment {
    let (times, clock_steps) = prepare::steady_times(&series.time_s);
    let lives = split(series, &times);
    let mut out = Assessment {
        class: Class::Ambiguous,
        probability: 0.5,
        confidence: 0.5,
        reason: Reason::TooFew,
        shape: None,
        rival: None,
        rivals: Vec::new(),
        fitted: Vec::new(),
        rate: None,
        rate_interval: None,
        onset_s: None,
        r2: None,
        linear_r2: None,
        trend_p: None,
        change_points_s: Vec::new(),
        detection_limit: None,
        hit: None,
        collections: None,
        lives: lives.len(),
        from_all_lives: false,
        clock_steps,
        span_s: 0.0,
        samples: 0,
        grid_span_s: 0.0,
    };
    let (Some(current), Some(&end)) = (lives.last(), series.time_s.last()) else {
        return out;
    };
    out.samples = current.t.len();
    out.span_s = current.t.last().copied().unwrap_or(0.0);
    let all = joint(&lives);
    if out.samples >= FEWEST && out.span_s > 0.0 && flat(&current.bytes) && all.is_none() {
        out.class = Class::NoLeak;
        (out.probability, out.confidence) = (0.01, 0.99);
        if young(series, end, 0.0) {
            out.confidence = SURE_OF_YOUNG;
        }
        out.reason = Reason::Constant;
        out.rate = Some(0.0);
        return out;
    }
    let own = (out.samples >= FEWEST)
        .then(|| prepare::grid(&current.t, &current.bytes, current.load.as_deref(), GRID));
    let weigh = |grid: Grid| {
        let weights = few::posterior(&grid).or_else(|| posterior::posterior(&grid))?;
        Some((weights, grid))
    };
    let own = own.and_then(weigh).map(|(weights, grid)| {
        let weights = steadily(weights, &grid, current);
        (weights, grid)
    });
    let earlier = lives[..lives.len() - 1].iter();
    let longest = earlier
        .filter_map(|life| life.t.last().copied())
        .fold(0.0, f64::max);
    let speaks = own.as_ref().is_some_and(|(posterior, _)| {
        decided(posterior) != Class::Ambiguous && out.span_s >= OLD_ENOUGH * longest
    });
    let common = all.clone().filter(|_| speaks && lives.len() > 2);
    let joint = if speaks { None } else { all };
    let mut joint = joint.and_then(weigh);
    if own.is_none() && joint.is_none() {
        // The last life is too young, and one earlier life says what to expect.
        let oldest = lives.iter().max_by_key(|life| life.t.len());
        let oldest = oldest.filter(|life| life.t.len() >= FEWEST);
        let grid =
            oldest.map(|life| prepare::grid(&life.t, &life.bytes, life.load.as_deref(), GRID));
        joint = grid.and_then(weigh);
    }
    out.from_all_lives = joint.is_some();
    let Some((mut posterior, grid)) = joint.or(own) else {
        return out;
    };
    conclude(&mut out, &posterior, &grid, end);
    if let (Class::Leak, Some(both)) =
        (out.class, common.and_then(|all| together(&posterior, &all)))
    {
        posterior.rate = both.0;
        posterior.rate_error = both.1;
        conclude(&mut out, &posterior, &grid, end);
    }
    if young(series, end, longest) {
        out.confidence = out.confidence.min(SURE_OF_YOUNG);
    }
    if let (Class::Leak, Some(limit)) = (out.class, limit) {
        out.hit = hit::hit(&out, &posterior, current, &grid, limit);
    }
    out
}

/// A life that grows steadily leaks, also when its steps and peaks are nearer to another shape.
fn steadily(mut weights: Posterior, grid: &Grid, life: &Life) -> Posterior {
    let leak = decided(&weights) == Class::Leak;
    let known = leak || weights.load_explains.is_some() || settles(&weights);
    let (t, bytes) = match grid.collections {
        Some(_) => (&grid.t, &grid.y),
        None => (&life.t, &life.bytes),
    };
    if let Some(found) = drift::steady(t, bytes).filter(|_| !known)
        && found.rate * grid.span > posterior::least_growth(grid)
        && let Some(shape) = &mut weights.best_leak
    {
        shape.acceleration = 0.0;
        weights.leak = STEADY;
        weights.ambiguous = 0.0;
        weights.rate = found.rate;
        weights.rate_error = found.error;
    }
    weights
}

/// Whether a warm-up describes it far better than any growth that goes on.
fn settles(weights: &Posterior) -> bool {
    let warms = matches!(
        weights.best.kind,
        Kind::Saturation { .. } | Kind::LateSaturation { .. } | Kind::TwoSaturations { .. }
    );
    let leak = weights.best_leak.as_ref().map(|leak| leak.bic);
    warms && leak.is_none_or(|leak| leak > weights.best.bic + FAR_BETTER)
}

/// The rate of all lives and its error, when they leak as the last one does: each of them tells of it.
fn together(last: &Posterior, all: &Grid) -> Option<(f64, f64)> {
    let all = posterior::posterior(all)?;
    let alike = all.rate > 0.5 * last.rate && all.rate < 2.0 * last.rate;
    if decided(&all) != Class::Leak || !alike {
        return None;
    }
    let weigh = |posterior: &Posterior| posterior.rate_error.max(0.02 * posterior.rate).powi(-2);
    let (one, both) = (weigh(last), weigh(&all));
    let rate = (one * last.rate + both * all.rate) / (one + both);
    Some((rate, (one + both).powf(-0.5)))
}

/// Probability of such a trend by chance.
fn trend_p(grid: &Grid) -> Option<f64> {
    const FEW: usize = 20;
    if grid.y.len() < FEW {
        return trend::kendall(&grid.t, &grid.y).map(|found| found.p);
    }
    (!flat(&grid.y)).then(|| trend::hamed_rao(&grid.y).p)
}

fn flat(bytes: &[f64]) -> bool {
    bytes.windows(2).all(|pair| pair[0] == pair[1])
}

/// Probability that a verdict is right, from the probability of a leak: fitted to generated series of known
/// truth (`cargo xtask accuracy --calibrate`, docs/accuracy.md).
fn confidence(class: Class, leak: f64) -> f64 {
    const FAR: f64 = 6.0;
    let (a, b) = match class {
        Class::Leak => (1.195, 1.007),
        Class::NoLeak => (1.127, 0.570),
        Class::Ambiguous => return 0.5,
    };
    let odds = (leak / (1.0 - leak)).ln().abs().min(FAR);
    1.0 / (1.0 + (-(a + b * odds)).exp())
}

/// Whether the process is hardly older than what is seen of it, or has only just started, and no earlier life of
/// that age tells what to expect.
fn young(series: &Series, end: f64, longest: f64) -> bool {
    let (Some(&begin), Some(start)) = (series.time_s.first(), series.start_s.as_ref()) else {
        return false;
    };
    let age = end - start.last().copied().unwrap_or(begin);
    longest < age && age < (YOUNG * (end - begin)).max(STARTED_S)
}

/// Turns the weights into a verdict with its figures.
fn conclude(out: &mut Assessment, posterior: &Posterior, grid: &Grid, end: f64) {
    out.class = decided(posterior);
    out.probability = probability(posterior);
    out.confidence = confidence(out.class, out.probability);
    out.collections = grid.collections;
    out.linear_r2 = trend::ols(&grid.t, &grid.y).map(|line| line.r2);
    out.trend_p = trend_p(grid);
    out.grid_span_s = grid.span;
    out.rivals.clone_from(&posterior.rivals);
    let (shape, rival) = match out.class {
        Class::Leak => (posterior.best_leak.as_ref(), posterior.best_other.as_ref()),
        Class::NoLeak => (posterior.best_other.as_ref(), posterior.best_leak.as_ref()),
        Class::Ambiguous => {
            let leak = posterior.best_leak.as_ref();
            let rival = leak.filter(|leak| leak.kind != posterior.best.kind);
            (
                Some(&posterior.best),
                rival.or(posterior.best_other.as_ref()),
            )
        }
    };
    let Some(shape) = shape else { return };
    let margin = rival.map_or(f64::INFINITY, |rival| rival.bic - shape.bic);
    out.reason = match (out.class, posterior.load_explains) {
        (Class::NoLeak, Some(r2)) => Reason::FollowsLoad { r2 },
        (Class::Ambiguous, _) => Reason::Undecided,
        _ => Reason::Shape { margin },
    };
    let residuals: Vec<f64> = grid
        .y
        .iter()
        .zip(&shape.fitted)
        .map(|(y, f)| y - f)
        .collect();
    let n = grid.y.len() as f64;
    let mean = grid.y.iter().sum::<f64>() / n;
    let total: f64 = grid.y.iter().map(|y| (y - mean) * (y - mean)).sum();
    let left: f64 = residuals.iter().map(|r| r * r).sum();
    out.r2 = (total > 0.0).then(|| (1.0 - left / total).clamp(0.0, 1.0));
    let begin = end - grid.span;
    if !grid.by_age {
        let points = grid.t.iter().zip(&shape.fitted);
        out.fitted = points.map(|(t, bytes)| (begin + t, *bytes)).collect();
    }
    out.change_points_s = posterior.steps.iter().map(|t| begin + t).collect();
    out.change_points_s.sort_unstable_by(f64::total_cmp);
    let sigma = (left / n).sqrt();
    let effective = (n * (1.0 - shape.phi) / (1.0 + shape.phi)).max(2.0);
    // Measured on series without and with weak leaks: 9 standard errors of white noise, half that at 0.9.
    let errors = 9.0 - 5.0 * shape.phi;
    let by_noise = errors * sigma * (12.0 / effective).sqrt();
    out.detection_limit = Some(by_noise.max(posterior::least_growth(grid)) / grid.span);
    // What has risen, where memory could have doubled unseen, is not told to stay.
    let unseen = by_noise > BLIND * grid.level && grid.risen > RISEN * grid.level;
    if out.class == Class::NoLeak && unseen && posterior.load_explains.is_none() {
        (out.class, out.reason) = (Class::Ambiguous, Reason::Undecided);
        out.probability = out.probability.max(UNLIKELY + 0.01);
        out.confidence = confidence(out.class, out.probability);
    }
    let steps = matches!(shape.kind, Kind::Steps { .. });
    let least = STEPS_LEAST * out.detection_limit.unwrap_or(0.0);
    if out.class == Class::Leak && steps && posterior.rate < least {
        // Blocks that come and go make steps, too.
        (out.class, out.reason) = (Class::Ambiguous, Reason::Undecided);
        out.probability = out.probability.min(SURE - 0.01);
        out.confidence = confidence(out.class, out.probability);
    }
    match out.class {
        Class::Leak => {
            out.rate = Some(posterior.rate);
            // What was seen can be seen.
            out.detection_limit = out.detection_limit.map(|limit| limit.min(posterior.rate));
            let wide = 1.96 * posterior.rate_error.hypot(UNTOLD * posterior.rate);
            out.rate_interval = Some((posterior.rate - wide, posterior.rate + wide));
            out.onset_s = Some(begin + onset(shape) * grid.span);
        }
        // Too little to count is not nothing.
        Class::NoLeak => {
            let line = matches!(shape.kind, Kind::Line);
            out.rate = Some(if line { shape.rate } else { 0.0 });
        }
        Class::Ambiguous => {
            out.rate = posterior.best_leak.as_ref().map(|leak| leak.rate);
        }
    }
    out.shape = Some(shape.clone());
    out.rival = rival.cloned();
}

/// Share of the span after which the growth of a shape began.
fn onset(shape: &Candidate) -> f64 {
    match shape.kind {
        Kind::Hinge { from }
        | Kind::StepHinge { from }
        | Kind::StepsHinge { from, .. }
        | Kind::LateSaturationLine { from } => from,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leak of 1 KiB a second that is seen from this age on.
    fn leak(age: f64) -> Series {
        let time_s: Vec<f64> = (0..200).map(|i| 1e9 + f64::from(i) * 10.0).collect();
        Series {
            bytes: (0..200)
                .map(|i| {
                    5e7 + f64::from(i) * 10_240.0 + f64::from((i * i * 31 + 17 * i) % 211) * 200.0
                })
                .collect(),
            start_s: Some(vec![1e9 - age; 200]),
            time_s,
            load: None,
        }
    }

    #[test]
    fn a_young_process_is_judged_with_care() {
        let (young, old) = (assess(&leak(0.0), None), assess(&leak(10_000.0), None));
        assert_eq!((young.class, old.class), (Class::Leak, Class::Leak));
        assert_eq!(young.probability, old.probability);
        assert!(young.confidence <= SURE_OF_YOUNG && old.confidence > 0.9);
        assert!(old.trend_p.is_some_and(|p| p < 0.01));
        assert!(old.linear_r2.is_some_and(|r2| r2 > 0.9));
    }

    #[test]
    fn confidence_grows_with_the_odds() {
        assert!(confidence(Class::Leak, 0.9) < confidence(Class::Leak, 0.99));
        assert!(confidence(Class::NoLeak, 0.2) < confidence(Class::NoLeak, 0.01));
        assert!(confidence(Class::NoLeak, 1e-9) < 0.99);
    }
}
