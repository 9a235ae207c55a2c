//! Weighs the shapes against each other: BIC under AR(1) noise, with a prior that makes a leak prove itself.

use super::Class;
use super::gls::Fit;
use super::gls::PHIS;
use super::gls::Whitened;
use super::gls::Whitenings;
use super::meaning;
use super::prepare::Grid;
use super::robust::median;
use super::shapes;
use super::shapes::Catalog;
use super::shapes::Kind;

/// Noise below this share of the level is not believed.
const LEAST_NOISE: f64 = 1.5e-4;
/// Stretches that growth is compared over.
const STRETCHES: usize = 16;
/// Less growth than this share of the level is no leak.
const LEAST_GROWTH: f64 = 0.006;
/// Less growth than this is none either: 32 pages. More than that is some, however large the process is: 8 MiB.
const LEAST_BYTES: f64 = 131_072.0;
const ENOUGH_BYTES: f64 = 8_388_608.0;
/// A shape that leaks must explain that no more than this share of its growth is seen at the end.
const STALLED: f64 = 0.33;
/// Prior odds of a shape that leaks, and of one that cannot be told, as BIC: 1:3 and 1:9.
const LEAK_PRIOR: f64 = 2.197_224_577_336_219_6;
const AMBIGUOUS_PRIOR: f64 = 4.394_449_154_672_439;

/// Each so many-th model is fitted first; a season whose best one is worse by so much BIC is not looked at further.
const SAMPLE: usize = 7;
const HOPELESS: f64 = 60.0;

/// A fitted shape with its weight.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The shape.
    pub kind: Kind,
    /// What it means.
    pub class: Class,
    /// BIC with the prior.
    pub bic: f64,
    /// Autocorrelation that fits best.
    pub phi: f64,
    /// Bytes for each second, now.
    pub rate: f64,
    /// Its standard error.
    pub rate_error: f64,
    /// Fitted bytes of the grid.
    pub fitted: Vec<f64>,
    /// Growth of `rate`, bytes for each second squared.
    pub acceleration: f64,
    /// A season stands beside it.
    pub season: bool,
    /// Length of the longest cycle of that season, seconds, where it is not the day.
    pub cycle_s: Option<f64>,
}

/// What the shapes say together.
#[derive(Clone, Debug)]
pub struct Posterior {
    /// Probability of a leak.
    pub leak: f64,
    /// Probability of what cannot be told.
    pub ambiguous: f64,
    /// The best shape.
    pub best: Candidate,
    /// The best one that leaks.
    pub best_leak: Option<Candidate>,
    /// The best one that does not.
    pub best_other: Option<Candidate>,
    /// Mean of the rates of the shapes that leak, by weight; bytes a second.
    pub rate: f64,
    /// Standard error of `rate`.
    pub rate_error: f64,
    /// The load explains the growth: R² of the load alone.
    pub load_explains: Option<f64>,
    /// Times of the steps of the best step shape, seconds.
    pub steps: Vec<f64>,
    /// The best of each kind and class.
    pub rivals: Vec<Rival>,
}

/// How well a kind of shape did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rival {
    /// The shape.
    pub kind: Kind,
    /// What it means.
    pub class: Class,
    /// BIC with the prior.
    pub bic: f64,
}

struct Scored {
    bic: f64,
    phi: usize,
    fit: Fit,
    class: Class,
    slope: f64,
}

/// Fits everything to the grid. `None`: fewer than six points.
#[must_use]
pub fn posterior(grid: &Grid) -> Option<Posterior> {
    if grid.t.len() < 6 || grid.span <= 0.0 {
        return None;
    }
    let catalog = shapes::catalog(grid);
    let mut whitened = Whitenings::new(&catalog.design);
    let relative = catalog.scale / grid.level.max(1.0);
    let load_r2 = load_alone(&catalog, &mut whitened);
    let mut scored = score(&catalog, &mut whitened, LEAST_NOISE / relative);
    let rise = rise(&catalog.design.y);
    let unit = catalog.scale / grid.span;
    let late = late(grid);
    let (mut recovered, mut flushed) = (Vec::new(), Vec::new());
    for (model, one) in catalog.models.iter().zip(&mut scored) {
        if one.bic == f64::MAX {
            one.bic = f64::INFINITY;
            continue;
        }
        // Under strong autocorrelation, steps up may be fitted that the series takes back slowly.
        let meaning = meaning::meaning(model.kind, &one.fit.coefficients, &catalog, relative);
        let drawn = !matches!(model.kind, Kind::Steps { .. })
            || one.fit.coefficients.iter().sum::<f64>() < 2.0 * rise.max(0.1);
        let Some((class, slope)) = meaning.filter(|_| drawn) else {
            one.bic = f64::INFINITY;
            continue;
        };
        (one.class, one.slope) = (class, slope);
        if class == Class::Leak {
            let since = match model.kind {
                Kind::Hinge { from }
                | Kind::StepHinge { from }
                | Kind::StepsHinge { from, .. }
                | Kind::LateSaturationLine { from }
                | Kind::Polyline { at: from, .. }
                | Kind::Broken { at: from } => (1.0 - from).max(0.05),
                _ => 1.0,
            };
            let growth = slope * catalog.scale * since;
            let per_load = matches!(model.kind, Kind::PerLoad { .. });
            if growth < least_growth(grid)
                || (load_r2.is_some() && !per_load)
                || since < 1.0
                    && model.base == catalog.plain_base
                    && once(&mut recovered, 1.0 - since, |from| recovers(grid, from))
            {
                one.class = Class::NoLeak;
            }
            if one.class == Class::Leak
                && since < 1.0
                && once(&mut flushed, 1.0 - since, |from| gave_back(grid, from))
            {
                one.class = Class::Ambiguous;
            }
            let season = model.base > catalog.plain_base;
            let steps = matches!(model.kind, Kind::Steps { .. });
            if one.class == Class::Leak && !season && !steps && stalled(late, slope * unit) {
                one.class = Class::Ambiguous;
            }
        }
        if load_r2.is_some() && one.class == Class::Ambiguous {
            one.class = Class::NoLeak;
        }
        one.bic += match one.class {
            Class::Leak => LEAK_PRIOR,
            Class::Ambiguous => AMBIGUOUS_PRIOR,
            Class::NoLeak => 0.0,
        };
    }
    let best = lowest(&scored, |_| true)?;
    let least = scored[best].bic;
    let weight = |one: &Scored| (-0.5 * (one.bic - least)).exp();
    // Of each kind and class the best counts, else a fine grid of knots would outvote a line.
    let mut families: Vec<(Class, std::mem::Discriminant<Kind>, f64)> = Vec::new();
    for (model, one) in catalog.models.iter().zip(&scored) {
        let kind = std::mem::discriminant(&model.kind);
        let known = families
            .iter_mut()
            .find(|family| family.0 == one.class && family.1 == kind);
        match known {
            Some(family) => family.2 = family.2.max(weight(one)),
            None => families.push((one.class, kind, weight(one))),
        }
    }
    let sum = |class: Option<Class>| -> f64 {
        let of = families.iter().filter(|f| class.is_none_or(|c| c == f.0));
        of.map(|family| family.2).sum()
    };
    let total = sum(None);
    let candidate = |index: usize, whitened: &mut Whitenings<'_>| {
        candidate(grid, &catalog, &scored[index], index, whitened)
    };
    let leaks = lowest(&scored, |one| one.class == Class::Leak);
    let others = lowest(&scored, |one| one.class == Class::NoLeak);
    let best_leak = leaks.map(|index| candidate(index, &mut whitened));
    let (rate, rate_error) = best_leak.as_ref().map_or((0.0, 0.0), |best| {
        let all = || scored.iter().filter(|one| one.class == Class::Leak);
        let top = leaks.map_or(0.0, |index| scored[index].bic);
        let weight = |one: &Scored| (-0.5 * (one.bic - top)).exp();
        let weights: f64 = all().map(weight).sum();
        let rate = all().map(|one| weight(one) * one.slope).sum::<f64>() / weights * unit;
        let spread = all().map(|one| weight(one) * (one.slope * unit - rate).powi(2));
        let spread = spread.sum::<f64>() / weights;
        (rate, (spread + best.rate_error.powi(2)).sqrt())
    });
    let bend = best_leak.as_ref().and_then(|best| match best.kind {
        Kind::Broken { at } | Kind::Polyline { at, .. } if !best.season => Some(at),
        _ => None,
    });
    let whole = bend.and_then(|at| uneven(grid, at * grid.span));
    let slower = bend.filter(|_| whole.is_none());
    let slower = slower.and_then(|at| slowed(grid, at * grid.span, rate));
    let (rate, rate_error) = whole.or(slower).unwrap_or((rate, rate_error));
    let steps = scored
        .iter()
        .zip(&catalog.models)
        .filter_map(|(one, model)| match model.kind {
            Kind::Steps { count } => Some((one.bic, count)),
            _ => None,
        })
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, count)| catalog.steps[..count].iter().map(|&i| grid.t[i]).collect())
        .unwrap_or_default();
    Some(Posterior {
        leak: sum(Some(Class::Leak)) / total,
        ambiguous: sum(Some(Class::Ambiguous)) / total,
        best: candidate(best, &mut whitened),
        best_leak,
        best_other: others.map(|index| candidate(index, &mut whitened)),
        rate,
        rate_error,
        load_explains: load_r2,
        steps,
        rivals: rivals(&catalog, &scored),
    })
}

/// Growth that would be one, bytes.
#[must_use]
pub fn least_growth(grid: &Grid) -> f64 {
    (LEAST_GROWTH * grid.level).clamp(LEAST_BYTES, ENOUGH_BYTES)
}

fn rivals(catalog: &Catalog, scored: &[Scored]) -> Vec<Rival> {
    let mut out: Vec<Rival> = Vec::new();
    for (model, one) in catalog.models.iter().zip(scored) {
        if !one.bic.is_finite() {
            continue;
        }
        let kind = std::mem::discriminant(&model.kind);
        let same = |rival: &&mut Rival| {
            rival.class == one.class && std::mem::discriminant(&rival.kind) == kind
        };
        let rival = Rival {
            kind: model.kind,
            class: one.class,
            bic: one.bic,
        };
        match out.iter_mut().find(same) {
            Some(known) if known.bic > one.bic => *known = rival,
            Some(_) => {}
            None => out.push(rival),
        }
    }
    out
}

fn lowest(scored: &[Scored], of: impl Fn(&Scored) -> bool) -> Option<usize> {
    (0..scored.len())
        .filter(|&i| of(&scored[i]))
        .min_by(|&a, &b| scored[a].bic.total_cmp(&scored[b].bic))
}

/// Growth of equal stretches of time: begin, bytes a second.
fn stretches(grid: &Grid) -> Vec<(f64, f64)> {
    let length = grid.span / STRETCHES as f64;
    let mut growth: Vec<(f64, f64)> = Vec::new();
    let mut from = 0;
    for k in 1..=STRETCHES {
        let to = grid.t.partition_point(|t| *t < length * k as f64);
        let to = to.min(grid.t.len() - 1);
        let passed = grid.t[to] - grid.t[from];
        if passed > 0.5 * length {
            growth.push((grid.t[from], (grid.y[to] - grid.y[from]) / passed));
            from = to;
        }
    }
    growth
}

/// A leak that has slowed down lately, not to a stop, is as likely to be held up as to be slower: half way back to
/// the rate of the second half of the window. `None`: it has not, or long ago.
fn slowed(grid: &Grid, bend: f64, rate: f64) -> Option<(f64, f64)> {
    if bend < 0.65 * grid.span || grid.load.is_some() || grid.part.last() != Some(&0) {
        return None;
    }
    let growth = stretches(grid);
    let mean = |of: &dyn Fn(f64) -> bool| -> Option<f64> {
        let of: Vec<f64> = growth
            .iter()
            .filter(|one| of(one.0))
            .map(|one| one.1)
            .collect();
        (of.len() >= 2).then(|| of.iter().sum::<f64>() / of.len() as f64)
    };
    let before = mean(&|t| t < bend && t >= bend - 0.4 * grid.span)?;
    let half = mean(&|t| t >= 0.5 * grid.span)?;
    let middle = f64::midpoint(rate, half);
    (rate > 0.3 * before && rate < 0.85 * before && half > rate)
        .then(|| (middle, (half - rate) / 2.0))
}

/// A leak that comes in fits and starts bends by chance: when the growth of equal stretches after the bend is
/// within what stretches differ by, the rate is that of them all, with its error. `None`: the bend is real.
fn uneven(grid: &Grid, bend: f64) -> Option<(f64, f64)> {
    let growth = stretches(grid);
    let moments = |of: &[f64]| {
        let n = of.len() as f64;
        let mean = of.iter().sum::<f64>() / n;
        let square: f64 = of.iter().map(|v| (v - mean) * (v - mean)).sum();
        (mean, square / (n - 1.0) / n)
    };
    let side = |late: bool| -> Vec<f64> {
        let of = growth.iter().filter(|one| (one.0 >= bend) == late);
        of.map(|one| one.1).collect()
    };
    let (before, after) = (side(false), side(true));
    if before.len() < 3 || after.len() < 3 || grid.load.is_some() || grid.part.last() != Some(&0) {
        return None;
    }
    let ((mean_before, error_before), (mean_after, error_after)) =
        (moments(&before), moments(&after));
    let far = (mean_after - mean_before).abs() > 2.5 * (error_before + error_after).sqrt();
    let all: Vec<f64> = growth.iter().map(|one| one.1).collect();
    let (mean, error) = moments(&all);
    let both = mean_before > 0.25 * mean_after && mean_after > 0.25 * mean_before;
    // What is steady since the bend speaks for itself.
    let steady = after.len() >= 6 && error_after.sqrt() < 0.06 * mean_after;
    (!far && both && !steady && mean > 0.0).then(|| (mean, error.sqrt()))
}

/// Whether what grows since `from`, a share of the span, only comes back to the level that was held before it fell,
/// and that had not grown.
fn recovers(grid: &Grid, from: f64) -> bool {
    let y = &grid.y;
    let n = y.len();
    let begin = grid.t.partition_point(|t| *t < from * grid.span).min(n - 1);
    if grid.by_age || grid.load.is_some() || begin < 10 || n < 40 {
        return false;
    }
    let few = (n / 20).max(3);
    let end = median(&y[n - few..]);
    // The fall is the lowest point around the begin of the growth.
    let low = (begin / 2..(begin + n / 8).min(n)).min_by(|&a, &b| y[a].total_cmp(&y[b]));
    let Some(low) = low.filter(|low| *low >= 10) else {
        return false;
    };
    let before = &y[..low];
    let third = (before.len() / 3).max(3);
    let (first, usual) = (median(&before[..third]), median(before));
    let top = super::robust::quantile(before, 0.9);
    let came_back = end - y[low];
    came_back > 0.0
        && end <= top + 0.1 * came_back
        && usual - y[low] > 0.6 * came_back
        && median(&before[third..]) - first < 0.2 * came_back
}

/// Whether at `from`, a share of the span, memory gave back most of what it had climbed before, and has not been
/// higher since: it may climb and give back for ever.
fn gave_back(grid: &Grid, from: f64) -> bool {
    let y = &grid.y;
    let n = y.len();
    let few = (n / 40).max(3);
    let begin = grid.t.partition_point(|t| *t < from * grid.span).min(n - 1);
    let near = n / 20 + 1;
    if grid.by_age || grid.load.is_some() || begin < 2 * few || n - begin < 2 * few {
        return false;
    }
    let highest = |of: &[f64]| of.iter().copied().fold(f64::MIN, f64::max);
    let high = highest(&y[begin.saturating_sub(near)..=begin]);
    let low = -highest(
        &y[begin..(begin + near).min(n)]
            .iter()
            .map(|y| -y)
            .collect::<Vec<_>>(),
    );
    let (fall, climb) = (high - low, high - median(&y[..few]));
    let end = median(&y[n - few..]);
    fall > 0.6 * climb && climb > 0.5 * fall && end < high + 0.1 * fall
}

/// What is true for this place, asked for once.
fn once(known: &mut Vec<(f64, bool)>, place: f64, ask: impl FnOnce(f64) -> bool) -> bool {
    if let Some((_, answer)) = known.iter().find(|(other, _)| *other == place) {
        return *answer;
    }
    let answer = ask(place);
    known.push((place, answer));
    answer
}

/// Whether the last third of a series (or what is behind its last sudden change of level) hardly rises, where a shape
/// has it rise by `rate`, bytes a second: noise that remembers lets a line go on through a level end. A leak would have
/// to have stopped. `late`: see there.
fn stalled(late: Option<(f64, f64)>, rate: f64) -> bool {
    late.is_some_and(|(passed, risen)| risen < STALLED * rate * passed)
}

/// Seconds and bytes from the begin of that last part to its end; `None`: it is too short to say.
fn late(grid: &Grid) -> Option<(f64, f64)> {
    let n = grid.t.len();
    let third = grid
        .t
        .partition_point(|t| *t < grid.t[n - 1] - grid.span / 3.0);
    let part = grid.part.partition_point(|part| *part < grid.part[n - 1]);
    let from = third.max(part);
    let few = (n - from) / 4;
    if few < 3 || grid.load.is_some() || grid.t[n - 1] - grid.t[from] < 0.15 * grid.span {
        return None;
    }
    let passed = median(&grid.t[n - few..]) - median(&grid.t[from..from + few]);
    let risen = median(&grid.y[n - few..]) - median(&grid.y[from..from + few]);
    Some((passed, risen))
}

/// From the first samples to the last tenth.
fn rise(y: &[f64]) -> f64 {
    let (few, tenth) = ((y.len() / 50).max(3), (y.len() / 10).max(1));
    median(&y[y.len() - tenth..]) - median(&y[..few.min(y.len())])
}

/// The best autocorrelation of every model. Seasons that a sample of the shapes does not want are left out.
fn score(catalog: &Catalog, whitened: &mut Whitenings<'_>, least_noise: f64) -> Vec<Scored> {
    let mut scorer = Scorer {
        catalog,
        whitened,
        least_noise,
        last: None,
    };
    let count = catalog.models.len();
    let mut out: Vec<Option<Scored>> = (0..count).map(|_| None).collect();
    let mut bases: Vec<(usize, f64)> = Vec::new();
    for (index, model) in catalog.models.iter().enumerate().step_by(SAMPLE) {
        let one = scorer.best(index);
        match bases.iter_mut().find(|base| base.0 == model.base) {
            Some(base) => base.1 = base.1.min(one.bic),
            None => bases.push((model.base, one.bic)),
        }
        out[index] = Some(one);
    }
    let least = bases
        .iter()
        .map(|base| base.1)
        .fold(f64::INFINITY, f64::min);
    let hopeless = |base: usize| bases.iter().any(|b| b.0 == base && b.1 > least + HOPELESS);
    let mut all = Vec::with_capacity(count);
    for (index, known) in out.into_iter().enumerate() {
        all.push(match known {
            Some(one) => one,
            None if hopeless(catalog.models[index].base) => Scored {
                bic: f64::MAX,
                phi: 0,
                fit: Fit {
                    coefficients: vec![0.0; catalog.models[index].terms.len()],
                    rss: f64::MAX,
                },
                class: Class::NoLeak,
                slope: 0.0,
            },
            None => scorer.best(index),
        });
    }
    all
}

/// Finds the autocorrelation that fits best.
struct Scorer<'a, 'b> {
    catalog: &'a Catalog,
    whitened: &'a mut Whitenings<'b>,
    least_noise: f64,
    /// Kind and base of the last model, and its best autocorrelation.
    last: Option<(std::mem::Discriminant<Kind>, usize, usize)>,
}

impl Scorer<'_, '_> {
    fn penalty(&self, index: usize) -> f64 {
        let model = &self.catalog.models[index];
        let n = self.catalog.x.len() as f64;
        let parameters = (1 + model.base + model.terms.len() + model.searched) as f64;
        let mut penalty = parameters * n.ln();
        if n < 60.0 {
            penalty += if n - parameters >= 3.0 {
                2.0 * parameters * (parameters + 1.0) / (n - parameters - 2.0).max(1.0)
            } else {
                1000.0
            };
        }
        penalty
    }

    /// BIC over the autocorrelation has one valley, seldom two: down from the lowest of a few points, or from
    /// where the last shape of the same kind had it.
    fn best(&mut self, index: usize) -> Scored {
        let model = &self.catalog.models[index];
        let kind = std::mem::discriminant(&model.kind);
        let near = self
            .last
            .filter(|last| (last.0, last.1) == (kind, model.base));
        let penalty = self.penalty(index);
        let n = self.catalog.x.len() as f64;
        let mut known = [f64::NAN; PHIS.len()];
        let mut at = |phi: usize| {
            if known[phi].is_nan() {
                let white = self.whitened.at(phi);
                let rss = white.rss(&model.terms, model.base);
                let floor = self.least_noise * self.least_noise * white.mean_inverse * 0.3;
                let variance = rss.max(1e-12 * n) / n + floor;
                known[phi] = n * variance.ln() + white.log_det + penalty;
            }
            (known[phi], phi)
        };
        let mut best = match near {
            Some((_, _, phi)) => at(phi),
            None => {
                let [a, b, c] = [0, 3, 6].map(&mut at);
                let lower = if b.0 < a.0 { b } else { a };
                if c.0 < lower.0 { c } else { lower }
            }
        };
        for up in [true, false] {
            loop {
                let next = if up {
                    Some(best.1 + 1).filter(|next| *next < PHIS.len())
                } else {
                    best.1.checked_sub(1)
                };
                match next.map(&mut at) {
                    Some(other) if other.0 < best.0 => best = other,
                    _ => break,
                }
            }
        }
        let (bic, phi) = best;
        self.last = Some((kind, model.base, phi));
        Scored {
            bic,
            phi,
            fit: self.whitened.at(phi).fit(&model.terms, model.base),
            class: Class::NoLeak,
            slope: 0.0,
        }
    }
}

fn candidate(
    grid: &Grid,
    catalog: &Catalog,
    scored: &Scored,
    index: usize,
    whitened: &mut Whitenings<'_>,
) -> Candidate {
    let model = &catalog.models[index];
    let white = whitened.at(scored.phi);
    let n = catalog.x.len();
    let mut fitted = vec![0.0; n];
    let base = white.base_coefficients(&model.terms, &scored.fit, model.base);
    let columns = &catalog.design.columns;
    for (column, coefficient) in columns.iter().zip(&base) {
        for (fitted, value) in fitted.iter_mut().zip(column) {
            *fitted += coefficient * value;
        }
    }
    for (term, coefficient) in model.terms.iter().zip(&scored.fit.coefficients) {
        for i in 0..n {
            let minus = term.minus.map_or(0.0, |minus| columns[minus][i]);
            fitted[i] += coefficient * (columns[term.plus][i] - minus);
        }
    }
    for value in &mut fitted {
        *value = *value * catalog.scale + catalog.offset;
    }
    let unit = catalog.scale / grid.span;
    let weights = model.kind.slope_weights(model.terms.len());
    let error = if weights.len() == model.terms.len() && !weights.is_empty() {
        let freedom = (n as f64 - (model.base + model.terms.len()) as f64).max(1.0);
        let variance = white.variance(&model.terms, model.base, &weights);
        (variance * scored.fit.rss / freedom).sqrt() * unit
    } else {
        let ups = model.terms.len().max(1) as f64;
        scored.slope.abs() * unit / ups.sqrt()
    };
    Candidate {
        kind: model.kind,
        class: scored.class,
        bic: scored.bic,
        phi: PHIS[scored.phi],
        rate: scored.slope * unit,
        rate_error: error,
        fitted,
        acceleration: match model.kind {
            Kind::Quadratic => 2.0 * scored.fit.coefficients[1] * unit / grid.span,
            _ => 0.0,
        },
        season: model.base > catalog.plain_base,
        cycle_s: (catalog.cycle_s).filter(|_| model.base == catalog.design.base),
    }
}

/// Whether load (and season) alone explain the series: R² above 0.9, and hardly a trend in the rest.
fn load_alone(catalog: &Catalog, whitened: &mut Whitenings<'_>) -> Option<f64> {
    let (from, to) = catalog.load;
    if from == to {
        return None;
    }
    let white: &mut Whitened = whitened.at(0);
    let base = catalog.design.base;
    let fit = white.fit(&[], base);
    let y = &catalog.design.y;
    let total: f64 = y.iter().map(|y| y * y).sum();
    let r2 = 1.0 - fit.rss / total.max(1e-12);
    let coefficients = white.base_coefficients(&[], &fit, base);
    let columns = &catalog.design.columns;
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    let n = y.len();
    let mean_x = catalog.x.iter().sum::<f64>() / n as f64;
    let (mut along, mut square) = (0.0, 0.0);
    for i in 0..n {
        let value = |range: std::ops::Range<usize>| -> f64 {
            range.map(|k| coefficients[k] * columns[k][i]).sum()
        };
        let load = value(from..to);
        low = low.min(load);
        high = high.max(load);
        let dx = catalog.x[i] - mean_x;
        along += dx * (y[i] - value(0..base));
        square += dx * dx;
    }
    let slope = along / square.max(1e-12);
    (r2 > 0.9 && slope.abs() < 0.06 * (high - low)).then_some(r2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grid of 300 s that rises by 2 bytes a second until `end`.
    fn risen_until(end: f64) -> Grid {
        let t: Vec<f64> = (0..300).map(f64::from).collect();
        Grid {
            y: t.iter().map(|t| 2.0 * t.min(end)).collect(),
            part: vec![0; t.len()],
            span: 299.0,
            t,
            ..Grid::default()
        }
    }

    #[test]
    fn what_stopped_before_the_last_third_has_stalled() {
        assert!(stalled(late(&risen_until(200.0)), 2.0));
        assert!(!stalled(late(&risen_until(300.0)), 2.0));
        // A slower leak than that is seen growing.
        assert!(!stalled(late(&risen_until(300.0)), 5.0));
        assert!(stalled(late(&risen_until(300.0)), 7.0));
    }

    #[test]
    fn a_jump_within_the_last_third_is_not_growth() {
        let mut grid = risen_until(150.0);
        for i in 240..300 {
            grid.y[i] += 1000.0;
            grid.part[i] = 1;
        }
        assert!(stalled(late(&grid), 2.0));
        for i in 280..300 {
            grid.part[i] = 2;
        }
        // Too short to say.
        assert!(!stalled(late(&grid), 2.0));
    }
}
