//! The shapes that memory takes over time: which are tried. What each would mean is told in `meaning`.
//!
//! `x` is time over the span of the grid: 0 is the begin, 1 is now.

use super::cycle;
use super::gls::Design;
use super::gls::Term;
use super::gls::gaps;
use super::prepare::Grid;
use super::prepare::smooth;
use super::steps;

const DAY: f64 = 86_400.0;
/// Steps that are looked for.
const MOST_STEPS: usize = 16;
/// Bends that are looked for.
const MOST_BENDS: usize = 6;
/// Capped logarithms: time constants and caps.
const LOG_TAUS: [f64; 5] = [0.003, 0.01, 0.03, 0.1, 0.3];
const LOG_CAPS: [f64; 6] = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// Time constants of a saturation that begins later, as shares of the time since.
const LATE_TAUS: [f64; 11] = [
    0.01, 0.014, 0.02, 0.028, 0.04, 0.056, 0.08, 0.11, 0.16, 0.23, 0.32,
];
/// The shortest time constant.
const SHORTEST_TAU: f64 = 0.01;
/// Quotient of two neighbours of the time constants: 18 from 0.01 to 0.32.
const NEXT_TAU: f64 = 1.226_134_843_259_930_8;
/// Time constants that have not settled in the window.
const SLOW_TAUS: [f64; 5] = [0.4, 0.55, 0.8, 1.5, 3.0];

/// A shape, with what was searched for, in units of x: where it begins (`from`), bends (`at`) or ends (`to`),
/// its time constant, how many steps or bends it has.
#[expect(missing_docs, reason = "the fields are named in the comment above")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Flat.
    Constant,
    /// Straight up or down.
    Line,
    /// A parabola.
    Quadratic,
    /// The square root of time: a random walk's envelope, fragmentation.
    Root,
    /// Straight until then, flat since.
    Ramp { to: f64 },
    /// Flat, straight between the two, flat since.
    Rise { from: f64, to: f64 },
    /// Flat, then straight.
    Hinge { from: f64 },
    /// A step, then straight.
    StepHinge { from: f64 },
    /// A straight line that bends.
    Broken { at: f64 },
    /// 1 − exp(−x/τ).
    Saturation { tau: f64 },
    /// The same, and a line.
    SaturationLine { tau: f64 },
    /// Two of them; the slower time constant.
    TwoSaturations { tau: f64 },
    /// One, and a ramp that ends.
    SaturationRamp { to: f64 },
    /// One, and steps.
    SaturationSteps,
    /// A saturation that begins later.
    LateSaturation { from: f64, tau: f64 },
    /// The same, and a line that begins with it.
    LateSaturationLine { from: f64 },
    /// Straight pieces; the last one is flat.
    FlatEnd { at: f64 },
    /// Straight pieces, the last one from there.
    Polyline { count: usize, at: f64 },
    /// log(1 + min(x, cap)/τ).
    Log { tau: f64, cap: f64 },
    /// Jumps, flat between.
    Steps { count: usize },
    /// Jumps on a line.
    StepsLine { count: usize },
    /// Jumps, and a line that begins at one of them.
    StepsHinge { count: usize, from: f64 },
    /// Grows with each request: the integral of the load.
    PerLoad { share: f64 },
    /// The same, and a line.
    PerLoadLine { share: f64 },
    /// Half a daily cycle.
    HalfDay,
    /// A daily cycle that is seen going up and down.
    OneDay,
    /// The same, and a line.
    OneDayLine,
}

impl Kind {
    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Line => "linear",
            Self::Quadratic => "quadratic",
            Self::Root => "square-root",
            Self::Ramp { .. } => "ramp-then-flat",
            Self::Rise { .. } => "one-rise",
            Self::Hinge { .. } => "flat-then-linear",
            Self::StepHinge { .. } => "step-then-linear",
            Self::Broken { .. } => "broken-line",
            Self::Saturation { .. } => "warm-up",
            Self::SaturationLine { .. } => "warm-up-then-linear",
            Self::TwoSaturations { .. } => "two-stage-warm-up",
            Self::SaturationRamp { .. } => "warm-up-and-ramp",
            Self::SaturationSteps => "warm-up-and-steps",
            Self::LateSaturation { .. } => "late-warm-up",
            Self::LateSaturationLine { .. } => "late-warm-up-then-linear",
            Self::FlatEnd { .. } => "rises-then-flat",
            Self::Polyline { .. } => "straight-pieces",
            Self::Log { .. } => "logarithmic",
            Self::Steps { .. } => "steps",
            Self::StepsLine { .. } => "steps-and-linear",
            Self::StepsHinge { .. } => "steps-then-linear",
            Self::PerLoad { .. } => "per-request",
            Self::PerLoadLine { .. } => "per-request-and-linear",
            Self::HalfDay => "half-a-daily-cycle",
            Self::OneDay => "daily-cycle",
            Self::OneDayLine => "daily-cycle-and-linear",
        }
    }

    /// Weights of its `terms` coefficients that give the slope now, for each unit of x.
    #[must_use]
    pub fn slope_weights(self, terms: usize) -> Vec<f64> {
        let last = |n: usize| {
            let mut weights = vec![0.0; n];
            weights.extend([1.0]);
            weights
        };
        match self {
            Self::Line | Self::Hinge { .. } => vec![1.0],
            Self::Quadratic => vec![1.0, 2.0],
            Self::StepHinge { .. }
            | Self::SaturationLine { .. }
            | Self::LateSaturationLine { .. }
            | Self::OneDayLine => last(terms - 1),
            Self::LateSaturation { from, tau } => {
                let mut weights = last(terms - 1);
                weights[terms - 1] = (-(1.0 - from) / tau).exp() / tau;
                weights
            }
            Self::Broken { .. } => vec![1.0, 1.0],
            Self::Saturation { tau } => vec![(-1.0 / tau).exp() / tau],
            Self::TwoSaturations { tau } => vec![0.0, (-1.0 / tau).exp() / tau],
            Self::Polyline { count, .. } => vec![1.0; count + 1],
            Self::Root => vec![0.5],
            Self::Log { tau, cap } if cap >= 1.0 => vec![1.0 / (1.0 + tau)],
            Self::StepsLine { count } | Self::StepsHinge { count, .. } => last(count),
            Self::PerLoad { share } => vec![share],
            Self::PerLoadLine { share } => vec![share, 1.0],
            _ => Vec::new(),
        }
    }
}

/// A model: a shape over a set of regressors.
#[derive(Clone, Debug)]
pub struct Model {
    /// The shape.
    pub kind: Kind,
    /// Its columns.
    pub terms: Vec<Term>,
    /// Leading columns of the design that it takes.
    pub base: usize,
    /// Parameters that were searched for: knots and time constants.
    pub searched: usize,
}

/// Everything that is fitted to one grid.
#[derive(Debug)]
pub struct Catalog {
    /// Columns and scaled values.
    pub design: Design,
    /// The models.
    pub models: Vec<Model>,
    /// Values are (bytes − offset) / scale.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
    /// Time over span.
    pub x: Vec<f64>,
    /// Places of the steps, best first.
    pub steps: Vec<usize>,
    /// Places of the bends, in order.
    pub bends: Vec<usize>,
    /// Columns of the load: from, to.
    pub load: (usize, usize),
    /// Leading columns without season.
    pub plain_base: usize,
    /// Length of a cycle beside days and weeks, seconds, whose columns are the last leading ones.
    pub cycle_s: Option<f64>,
}

fn one(column: usize) -> Term {
    Term {
        plus: column,
        minus: None,
    }
}

fn standard(column: &[f64]) -> Vec<f64> {
    let n = column.len().max(1) as f64;
    let mean = column.iter().sum::<f64>() / n;
    let square: f64 = column.iter().map(|v| (v - mean) * (v - mean)).sum();
    let deviation = (square / n).sqrt() + 1e-9;
    column.iter().map(|v| (v - mean) / deviation).collect()
}

/// Columns of a design, as they are added.
struct Columns(Vec<Vec<f64>>);

impl Columns {
    fn add(&mut self, column: Vec<f64>) -> usize {
        self.0.push(column);
        self.0.len() - 1
    }

    fn wave(&mut self, t: &[f64], cycles_per_day: f64) {
        let angle = std::f64::consts::TAU * cycles_per_day / DAY;
        self.add(t.iter().map(|t| (angle * t).sin()).collect());
        self.add(t.iter().map(|t| (angle * t).cos()).collect());
    }
}

/// Everything to try on this grid.
#[must_use]
pub fn catalog(grid: &Grid) -> Catalog {
    let n = grid.t.len();
    let span = grid.span.max(1e-9);
    let parts = grid.part.last().map_or(1, |last| last + 1);
    let x: Vec<f64> = grid.t.iter().map(|t| t / span).collect();
    let low = grid.y.iter().copied().fold(f64::MAX, f64::min);
    let scale = grid.y.iter().copied().fold(f64::MIN, f64::max) - low + 1e-9;
    let offset = grid.y.iter().sum::<f64>() / n.max(1) as f64;
    let y: Vec<f64> = grid.y.iter().map(|y| (y - offset) / scale).collect();
    let first: Vec<bool> = (0..n)
        .map(|i| i == 0 || grid.part[i] != grid.part[i - 1])
        .collect();

    let mut columns = Columns(Vec::new());
    for number in 0..parts {
        let own = grid
            .part
            .iter()
            .map(|&part| f64::from(u8::from(part == number)));
        columns.add(own.collect());
    }
    let load_from = columns.0.len();
    if let Some((level, _)) = &grid.load {
        if grid.collections.is_some() || grid.by_age {
            columns.add(standard(level));
        } else {
            columns.add(standard(&smooth(level, (n / 60).max(2))));
            if n > 60 {
                columns.add(standard(&smooth(level, (n / 20).max(4))));
            }
        }
    }
    let mut bases = vec![columns.0.len()];
    let load = (load_from, columns.0.len());
    let (days, mut weeks) = (!grid.by_age && span >= 1.9 * DAY && n >= 40, false);
    if days {
        let per_day = n as f64 / (span / DAY);
        let harmonics = if per_day >= 9.0 {
            3
        } else {
            usize::from(per_day >= 4.0)
        };
        for harmonic in 1..=harmonics {
            columns.wave(&grid.t, harmonic as f64);
        }
        if harmonics > 0 {
            bases.push(columns.0.len());
            weeks = span >= 13.9 * DAY && n >= 100;
            if weeks {
                for sevenths in [1.0, 2.0, 3.0, 5.0, 6.0, 8.0, 9.0] {
                    columns.wave(&grid.t, sevenths / 7.0);
                }
                bases.push(columns.0.len());
            }
        }
    }
    let cycle = cycle::period(grid, &cycle::calendar(days, weeks));
    if let Some(period) = cycle {
        for harmonic in [1.0, 2.0] {
            columns.wave(&grid.t, harmonic * DAY / period);
        }
        bases.push(columns.0.len());
    }
    let base = columns.0.len();
    let places = if n >= 14 && !grid.by_age {
        steps::find(&y, &columns.0, MOST_STEPS)
    } else {
        Vec::new()
    };
    let bends = if n >= 24 && !grid.by_age {
        steps::bends(&y, &x, &columns.0, MOST_BENDS)
    } else {
        Vec::new()
    };
    let starts: Vec<usize> = (1..n).filter(|&i| first[i] && !grid.by_age).collect();
    let shapes = own_shapes(grid, (&x, &y), &[&places, &bends, &starts], &mut columns);
    let models = bases
        .iter()
        .flat_map(|&base| {
            shapes.iter().map(move |(kind, terms, searched)| Model {
                kind: *kind,
                terms: terms.clone(),
                base,
                searched: *searched,
            })
        })
        .collect();
    Catalog {
        design: Design {
            columns: columns.0,
            base,
            gaps: gaps(&grid.t, &first),
            y,
        },
        models,
        scale,
        offset,
        x,
        steps: places,
        bends,
        load,
        plain_base: bases[0],
        cycle_s: cycle,
    }
}

/// Whether a series falls by most of its range and rises by most of it, in any order.
fn there_and_back(y: &[f64]) -> bool {
    let level = smooth(y, (y.len() / 40).max(2));
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    let (mut rise, mut fall) = (0.0_f64, 0.0_f64);
    for value in level {
        low = low.min(value);
        high = high.max(value);
        rise = rise.max(value - low);
        fall = fall.max(high - value);
    }
    rise.min(fall) > 0.5 * (high - low)
}

type Shape = (Kind, Vec<Term>, usize);

/// Shapes that begin, bend or end at rows that the series itself shows.
fn late_shapes(
    x: &[f64],
    [places, bends, starts]: &[&[usize]; 3],
    jumps: &[Term],
    (line, days): (usize, f64),
    columns: &mut Columns,
) -> Vec<Shape> {
    let n = x.len();
    let few = (n / 12).max(6);
    // A daily cycle needs more than a day to be seen flat.
    let settled = if days >= 1.9 {
        (1.0 - 1.5 / days).min(0.86)
    } else {
        0.86
    };
    let mut shapes: Vec<Shape> = Vec::new();
    let mut ramps = Vec::new();
    let mut bent = vec![one(line)];
    for (k, &place) in bends.iter().enumerate() {
        let hinge = columns.add(steps::hinge(x, place));
        ramps.push(Term {
            plus: line,
            minus: Some(hinge),
        });
        bent.push(one(hinge));
        let (count, at) = (k + 1, x[place]);
        if at <= settled {
            shapes.push((Kind::FlatEnd { at }, ramps.clone(), count));
        }
        if n - place >= few && count <= 3 {
            shapes.push((Kind::Polyline { count, at }, bent.clone(), count));
        }
    }
    let first = places.iter().take(4);
    let mut onsets: Vec<usize> = first.chain(*bends).chain(*starts).copied().collect();
    onsets.sort_unstable();
    onsets.dedup();
    for place in onsets {
        let from = x[place];
        if from > 0.9 || n - place < few {
            continue;
        }
        let hinge = one(columns.add(steps::hinge(x, place)));
        let jump = match places.iter().position(|&other| other == place) {
            Some(k) => jumps[k],
            None => one(columns.add(steps::step(n, place))),
        };
        let own = places.iter().take(4).position(|&other| other == place);
        if let Some(k) = own {
            for count in k + 1..=places.len().min(4) {
                let mut terms = jumps[..count].to_vec();
                terms.push(hinge);
                shapes.push((Kind::StepsHinge { count, from }, terms, count));
            }
        } else {
            shapes.push((Kind::Hinge { from }, vec![hinge], 1));
            shapes.push((Kind::StepHinge { from }, vec![jump, hinge], 1));
        }
        for part in LATE_TAUS {
            let tau = part * (1.0 - from);
            let late = |x: &f64| 1.0 - (-(x - from).max(0.0) / tau).exp();
            let late = one(columns.add(x.iter().map(late).collect()));
            let kind = Kind::LateSaturation { from, tau };
            shapes.push((kind, vec![late], 2));
            shapes.push((kind, vec![jump, late], 2));
            if part <= 0.16 {
                let kind = Kind::LateSaturationLine { from };
                shapes.push((kind, vec![late, hinge], 2));
                shapes.push((kind, vec![jump, late, hinge], 2));
            }
        }
    }
    shapes
}

/// The time constant that fits best, beside a line or alone: the grid is coarse where noise is small.
fn finest(x: &[f64], y: &[f64], taus: &[f64], line: bool) -> Option<f64> {
    let n = x.len() as f64;
    let centred = |values: &[f64]| -> Vec<f64> {
        let mean = values.iter().sum::<f64>() / n;
        values.iter().map(|value| value - mean).collect()
    };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let (along, y) = (centred(x), centred(y));
    let (square, slope) = (dot(&along, &along).max(1e-12), dot(&along, &y));
    let explained = |tau: f64| {
        let column: Vec<f64> = x.iter().map(|x| 1.0 - (-x / tau).exp()).collect();
        let column = centred(&column);
        let (mut own, mut with) = (dot(&column, &column), dot(&column, &y));
        if line {
            let both = dot(&column, &along);
            own -= both * both / square;
            with -= both * slope / square;
        }
        (with * with / own.max(1e-12), tau)
    };
    let better = |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0);
    let mut best = taus.iter().map(|tau| explained(*tau)).max_by(better)?;
    let mut part = 0.5;
    while part > 0.004 {
        let near = [-part, part].map(|part| explained(best.1 * NEXT_TAU.powf(part)));
        match near.into_iter().max_by(better) {
            Some(other) if other.0 > best.0 => best = other,
            _ => part /= 2.0,
        }
    }
    Some(best.1.max(SHORTEST_TAU))
}

/// The shapes beside the leading columns; adds the columns that they need. `places` of steps, `bends` and
/// `starts` of parts are rows.
fn own_shapes(
    grid: &Grid,
    (x, y): (&[f64], &[f64]),
    [places, bends, starts]: &[&[usize]; 3],
    columns: &mut Columns,
) -> Vec<Shape> {
    let n = x.len();
    let small = n < 14;
    let map = |f: &dyn Fn(f64) -> f64| -> Vec<f64> { x.iter().map(|x| f(*x)).collect() };
    let mut shapes: Vec<Shape> = vec![(Kind::Constant, Vec::new(), 0)];
    let line = columns.add(x.to_vec());
    shapes.push((Kind::Line, vec![one(line)], 0));
    let root = columns.add(map(&|x| x.max(0.0).sqrt()));
    shapes.push((Kind::Root, vec![one(root)], 0));
    if !small {
        let square = columns.add(map(&|x| x * x));
        shapes.push((Kind::Quadratic, vec![one(line), one(square)], 0));
    }

    // Knots.
    let knots: Vec<f64> = (2..=38)
        .map(|k| f64::from(k) * 0.025)
        .filter(|k| !small || (k * 8.0).fract() < 1e-9)
        .collect();
    let mut hinges = Vec::new();
    for &knot in &knots {
        let hinge = columns.add(map(&|x| (x - knot).max(0.0)));
        hinges.push(hinge);
        let ramp = Term {
            plus: line,
            minus: Some(hinge),
        };
        if knot <= 0.81 {
            shapes.push((Kind::Ramp { to: knot }, vec![ramp], 1));
        }
        let after = x.iter().filter(|x| **x > knot).count();
        if small || after < (n / 10).max(6) {
            continue;
        }
        if knot > 0.07 && knot < 0.9 {
            shapes.push((Kind::Hinge { from: knot }, vec![one(hinge)], 1));
        }
        if knot < 0.9 {
            let bent = vec![one(line), one(hinge)];
            shapes.push((Kind::Broken { at: knot }, bent, 1));
        }
        if knot > 0.09 && knot < 0.86 {
            let jump = columns.add(map(&|x| f64::from(u8::from(x >= knot))));
            let terms = vec![one(jump), one(hinge)];
            shapes.push((Kind::StepHinge { from: knot }, terms, 1));
        }
    }
    if !small {
        for i in (1..knots.len()).step_by(2) {
            for j in (i + 1..knots.len()).step_by(2) {
                if knots[j] <= 0.86 {
                    let term = Term {
                        plus: hinges[i],
                        minus: Some(hinges[j]),
                    };
                    let kind = Kind::Rise {
                        from: knots[i],
                        to: knots[j],
                    };
                    shapes.push((kind, vec![term], 2));
                }
            }
        }
    }

    // Saturations.
    let taus: Vec<f64> = (0..18)
        .filter(|k| !small || k % 3 == 2 && *k >= 8)
        .map(|k| SHORTEST_TAU * NEXT_TAU.powi(k))
        .collect();
    let mut saturations = Vec::new();
    let mut own = Vec::new();
    if !small {
        let grid: Vec<f64> = taus.iter().chain(&SLOW_TAUS).copied().collect();
        own.extend(finest(x, y, &grid, false));
        own.extend(finest(x, y, &taus, true));
    }
    for &tau in taus.iter().chain(&SLOW_TAUS).chain(&own) {
        let column = columns.add(map(&|x| 1.0 - (-x / tau).exp()));
        saturations.push(column);
        shapes.push((Kind::Saturation { tau }, vec![one(column)], 1));
        if tau <= 0.16 {
            let terms = vec![one(column), one(line)];
            shapes.push((Kind::SaturationLine { tau }, terms, 1));
        }
    }
    if !small {
        for i in 0..taus.len() {
            for j in i + 2..taus.len() {
                let terms = vec![one(saturations[i]), one(saturations[j])];
                shapes.push((Kind::TwoSaturations { tau: taus[j] }, terms, 2));
            }
        }
        for &saturation in saturations[..8].iter().step_by(2) {
            for (knot, &hinge) in knots.iter().zip(&hinges).step_by(4).filter(|k| *k.0 < 0.81) {
                let ramp = Term {
                    plus: line,
                    minus: Some(hinge),
                };
                let kind = Kind::SaturationRamp { to: *knot };
                shapes.push((kind, vec![one(saturation), ramp], 2));
            }
        }
        for tau in LOG_TAUS {
            for cap in LOG_CAPS {
                let column = columns.add(map(&|x| (x.min(cap) / tau).ln_1p()));
                let searched = if cap < 1.0 { 2 } else { 1 };
                shapes.push((Kind::Log { tau, cap }, vec![one(column)], searched));
            }
        }
    }

    // Steps.
    let mut jumps = Vec::new();
    for (k, &place) in places.iter().enumerate() {
        jumps.push(one(
            columns.add((0..n).map(|i| f64::from(u8::from(i >= place))).collect())
        ));
        let count = k + 1;
        shapes.push((Kind::Steps { count }, jumps.clone(), count));
        if count <= 4 {
            let mut terms = jumps.clone();
            terms.push(one(line));
            shapes.push((Kind::StepsLine { count }, terms, count));
        }
        if count <= 2 {
            for &saturation in saturations[..taus.len()].iter().step_by(2) {
                let mut terms = jumps.clone();
                terms.push(one(saturation));
                shapes.push((Kind::SaturationSteps, terms, count + 1));
            }
        }
    }
    if !small {
        shapes.extend(late_shapes(
            x,
            &[places, bends, starts],
            &jumps,
            (line, grid.span / DAY),
            columns,
        ));
    }

    if let Some((_, integral)) = &grid.load {
        let most = integral.last().copied().unwrap_or(0.0).abs() + 1e-9;
        let per: Vec<f64> = integral.iter().map(|sum| sum / most).collect();
        // How fast the integral grows lately, for each unit of x: over whole days, at most a week.
        let lately = if grid.span >= 2.0 * DAY {
            (grid.span / DAY).floor().min(7.0) * DAY / grid.span
        } else {
            1.0 / 3.0
        };
        let from = x.partition_point(|at| *at < x[n - 1] - lately);
        let share = (per[n - 1] - per[from]) / (x[n - 1] - x[from]).max(1e-9);
        let column = columns.add(per);
        shapes.push((Kind::PerLoad { share }, vec![one(column)], 0));
        let terms = vec![one(column), one(line)];
        shapes.push((Kind::PerLoadLine { share }, terms, 0));
    } else if grid.span > 7200.0 && grid.span < 1.9 * DAY && !grid.by_age {
        let from = columns.0.len();
        columns.wave(&grid.t, 1.0);
        let mut wave = vec![one(from), one(from + 1)];
        if grid.span > 0.9 * DAY && there_and_back(&grid.y) {
            columns.wave(&grid.t, 2.0);
            shapes.push((Kind::OneDay, wave.clone(), 0));
            wave.extend([one(from + 2), one(from + 3)]);
            shapes.push((Kind::OneDay, wave.clone(), 0));
            if grid.span > 1.2 * DAY {
                wave.push(one(line));
                shapes.push((Kind::OneDayLine, wave, 1));
            }
        } else {
            shapes.push((Kind::HalfDay, wave, 2));
        }
    }
    shapes
}
