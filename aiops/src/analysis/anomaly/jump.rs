//! Where a series jumps: the median of the next hour against that of the last one, with what comes again every
//! day taken out before. The residual of STL alone, the textbook way, finds peaks: a new level it soon takes
//! for trend.

use super::super::leak::robust::quantile;
use super::even::Even;
use super::mad;
use super::median;
use super::ramps::ramps;
use super::season;
use super::season::Work;
use super::whole;

const DAY_S: f64 = 86_400.0;
/// Length of a window, where the history is long enough.
const WINDOW_S: f64 = 3600.0;
/// Fewest steps of a window.
const LEAST: usize = 6;
/// Windows in a history, at least.
const WINDOWS: usize = 10;
/// Periods that the seasonal smoother looks at: seasons change slowly.
const SMOOTHER: usize = 15;
/// A season must narrow the contrasts to this share, or it is left out.
const WORTH: f64 = 0.8;
/// A week, of which there are few in a history, to this share of what the day leaves.
const WEEK_WORTH: f64 = 0.6;
/// Windows to each side that say what is usual at a place.
const AROUND: usize = 4;
/// Share of a season's own change that may come or not come.
const SWING: f64 = 0.7;
/// Jumps above this are taken out before the season is looked for again.
const FIRM: f64 = 8.0;
/// Longest series that change points are looked for in.
const BLOCKS: usize = 600;
/// Windows between the edges of one slow change, at most.
const LONGEST: usize = 8;

/// A place where the level changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jump {
    /// The first step with the new level.
    pub at: usize,
    /// The step where more than half of it was gone again; `None`: it was not.
    pub until: Option<usize>,
    /// Level after less level before.
    pub size: f64,
    /// How much more than usual that is, in standard deviations (MAD).
    pub sigmas: f64,
}

/// A change of the level that takes its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slow {
    /// The first step behind the old level.
    pub from: usize,
    /// The first step on the new level.
    pub to: usize,
    /// Level after less level before.
    pub size: f64,
    /// In standard deviations of what the level usually does (MAD).
    pub sigmas: f64,
}

/// A stretch where the residual is high.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// First step.
    pub from: usize,
    /// Last step.
    pub to: usize,
    /// The highest one.
    pub at: usize,
    /// Residual there.
    pub size: f64,
    /// In standard deviations (MAD).
    pub sigmas: f64,
}

/// A series without its seasons, and how it usually moves.
#[derive(Clone, Debug)]
pub struct Course {
    /// The series.
    pub even: Even,
    /// The same without seasons.
    pub plain: Vec<f64>,
    /// What STL leaves; `None`: the history is shorter than two days.
    pub residual: Option<Vec<f64>>,
    /// Seasons were taken out.
    pub seasonal: bool,
    /// The series without its daily course, where jumps are told better with it: a smooth wave makes none, but it
    /// makes levels.
    calm: Option<Vec<f64>>,
    /// Steps of a window.
    pub window: usize,
    /// Median of the window from each step on, less that of the window before it; `None`: too few samples.
    contrasts: Vec<Option<f64>>,
    /// The same of the season.
    swings: Vec<Option<f64>>,
    sigma: f64,
}

/// For each place the median after less the median before.
fn contrasts(values: &[f64], known: &[bool], window: usize) -> Vec<Option<f64>> {
    let middle = |range: std::ops::Range<usize>| {
        let inside = range.filter(|&at| known[at]).map(|at| values[at]);
        let inside: Vec<f64> = inside.collect();
        (inside.len() * 2 >= window).then(|| median(&inside))
    };
    // The median of the window that begins at each place is used twice.
    let n = values.len();
    let windows: Vec<Option<f64>> = (0..n)
        .map(|at| {
            (at + window <= n)
                .then(|| middle(at..at + window))
                .flatten()
        })
        .collect();
    (0..n)
        .map(|at| Some(windows[at]? - windows[at.checked_sub(window)?]?))
        .collect()
}

/// What is left of contrasts that change slowly, as a daily wave makes them: each less the median of those
/// around it.
fn sharp(contrasts: &[Option<f64>], window: usize) -> Vec<Option<f64>> {
    let n = contrasts.len();
    let (hop, reach) = ((window / 4).max(1), AROUND * window);
    let middle = |at: usize| {
        let near = &contrasts[at.saturating_sub(reach)..(at + reach + 1).min(n)];
        median(&near.iter().copied().flatten().collect::<Vec<_>>())
    };
    let knots: Vec<f64> = (0..n / hop + 2)
        .map(|knot| middle((knot * hop).min(n)))
        .collect();
    let usual = |at: usize| {
        let (knot, part) = (at / hop, (at % hop) as f64 / hop as f64);
        knots[knot] + (knots[knot + 1] - knots[knot]) * part
    };
    (0..n).map(|at| Some(contrasts[at]? - usual(at))).collect()
}

/// How far contrasts go where they go far: seasons that are ramps move few of them.
fn reach(contrasts: &[Option<f64>]) -> f64 {
    let sizes = contrasts.iter().flatten().map(|contrast| contrast.abs());
    quantile(&sizes.collect::<Vec<_>>(), 0.95)
}

impl Course {
    /// Looks at a series. `least`: changes below this size are of no interest. `None`: it is too short.
    #[must_use]
    pub fn of(even: Even, least: f64) -> Option<Self> {
        let n = even.values.len();
        let window = whole((WINDOW_S / even.step_s).round()).min(n / WINDOWS);
        if window < LEAST {
            return None;
        }
        let mut course = Self::without(even, None, window, least);
        for weekly in [false, true] {
            // A week comes only a few times: jumps that the day has shown are taken out before.
            let calm = if weekly && course.seasonal {
                course.without_jumps(least)
            } else {
                course.even.values.clone()
            };
            let Some(first) = parts(&course.even, &calm, weekly) else {
                continue;
            };
            let found = Self::without(course.even.clone(), Some(first), window, least);
            // Jumps are no season, and once more without them the season is free of their echoes.
            let calm = found.without_jumps(least);
            let Some(mut parts) = parts(&found.even, &calm, weekly) else {
                continue;
            };
            let rest = parts
                .residual
                .iter_mut()
                .zip(found.even.values.iter().zip(&calm));
            for (residual, (value, calm)) in rest {
                *residual += value - calm;
            }
            let found = Self::without(found.even, Some(parts), window, least);
            let worth = if weekly { WEEK_WORTH } else { WORTH };
            if reach(&found.contrasts) < reach(&course.contrasts) * worth {
                course = found;
            } else if course.residual.is_none() {
                course.residual = found.residual;
                course.calm = Some(found.plain);
            }
        }
        Some(course)
    }

    fn without(even: Even, parts: Option<season::Parts>, window: usize, least: f64) -> Self {
        let of = |values: &[f64]| contrasts(values, &even.known, window);
        let (plain, swings) = match &parts {
            Some(parts) => {
                let pairs = even.values.iter().zip(&parts.seasonal);
                (
                    pairs.map(|(value, seasonal)| value - seasonal).collect(),
                    of(&parts.daily),
                )
            }
            None => (even.values.clone(), Vec::new()),
        };
        let sharp = sharp(&of(&plain), window);
        let all: Vec<f64> = sharp.iter().copied().flatten().collect();
        Self {
            // A series that never moves has no spread: what is too small to matter stands for it.
            sigma: mad(&all).max(least / 10.0).max(f64::MIN_POSITIVE),
            seasonal: parts.is_some(),
            calm: None,
            residual: parts.map(|parts| parts.residual),
            contrasts: sharp,
            swings,
            plain,
            window,
            even,
        }
    }

    /// The series as it would be without its jumps.
    fn without_jumps(&self, least: f64) -> Vec<f64> {
        let mut gone = 0.0;
        let mut calm = self.even.values.clone();
        let jumps = self.jumps(FIRM, least);
        for (nth, jump) in jumps.iter().enumerate() {
            gone += jump.size;
            let end = jumps.get(nth + 1).map_or(calm.len(), |next| next.at);
            for value in &mut calm[jump.at..end] {
                *value -= gone;
            }
        }
        calm
    }

    /// How much the level changes at a step, and in sigmas; `None`: too few samples around it. Where a season
    /// itself changes the level, a day on which it does so more or less is not unusual.
    #[must_use]
    pub fn change(&self, at: usize) -> Option<(f64, f64)> {
        let contrast = self.contrasts.get(at).copied().flatten()?;
        let swing = self.swings.get(at).copied().flatten().unwrap_or(0.0);
        let beyond = (contrast.abs() - SWING * swing.abs()).max(0.0);
        Some((contrast, beyond.copysign(contrast) / self.sigma))
    }

    /// Places where the level changes by more than `sigmas` and `least`, up or down, in order of time.
    #[must_use]
    pub fn jumps(&self, sigmas: f64, least: f64) -> Vec<Jump> {
        let mut open: Vec<(usize, f64)> = (0..self.contrasts.len())
            .filter_map(|at| {
                let (size, z) = self.change(at)?;
                (z.abs() > sigmas && size.abs() >= least).then_some((at, z))
            })
            .collect();
        // The largest first; what is within a window of it is the same jump.
        open.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        let mut found: Vec<Jump> = Vec::new();
        for (at, z) in open {
            if found.iter().all(|jump| jump.at.abs_diff(at) > self.window) {
                found.extend(self.jump(at, z));
            }
        }
        found.sort_by_key(|jump| jump.at);
        found.dedup_by(|b, a| {
            let same = b.at.abs_diff(a.at) <= self.window && (a.size > 0.0) == (b.size > 0.0);
            if same && b.sigmas.abs() > a.sigmas.abs() {
                *a = *b;
            }
            same
        });
        found
    }

    fn jump(&self, at: usize, sigmas: f64) -> Option<Jump> {
        let (size, _) = self.change(at)?;
        let at = self.edge(at, size);
        let before = median(&self.plain[at.saturating_sub(self.window)..at]);
        let half = (self.window / 4).max(2);
        let gone = |&from: &usize| {
            let here = &self.plain[from..(from + half).min(self.plain.len())];
            let left = median(here) - before;
            left / size < 0.5
        };
        let until = (at + self.window / 2..self.plain.len().saturating_sub(half)).find(gone);
        Some(Jump {
            at,
            until,
            size,
            sigmas,
        })
    }

    /// The step that parts the two levels best, within half a window: the contrast of medians is flat there.
    fn edge(&self, at: usize, size: f64) -> usize {
        let half = self.window / 2;
        let from = at.saturating_sub(half).max(1);
        let to = (at + half).min(self.plain.len() - 1);
        let low = at.saturating_sub(self.window);
        let high = (at + self.window).min(self.plain.len());
        let before = median(&self.plain[low..from]);
        let after = before + size;
        let cost = |edge: usize| -> f64 {
            let left = self.plain[low..edge].iter().map(|v| (v - before).abs());
            let right = self.plain[edge..high].iter().map(|v| (v - after).abs());
            left.sum::<f64>() + right.sum::<f64>()
        };
        let best = (from..=to).min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        best.unwrap_or(at)
    }

    /// Stretches where the residual of STL is more than `sigmas` and `least` above 0.
    #[must_use]
    pub fn peaks(&self, sigmas: f64, least: f64) -> Vec<Peak> {
        let Some(residual) = &self.residual else {
            return Vec::new();
        };
        let sigma = mad(residual).max(least / 10.0);
        let mut peaks: Vec<Peak> = Vec::new();
        for (at, &size) in residual.iter().enumerate() {
            if size <= sigmas * sigma || size < least || !self.even.known[at] {
                continue;
            }
            let new = Peak {
                from: at,
                to: at,
                at,
                size,
                sigmas: size / sigma,
            };
            match peaks.last_mut() {
                Some(last) if at - last.to <= self.window => {
                    let from = last.from;
                    if size > last.size {
                        *last = new;
                    }
                    (last.from, last.to) = (from, at);
                }
                _ => peaks.push(new),
            }
        }
        peaks
    }

    /// Changes of the level of at least `least` and `sigmas`, however long they take: PELT, and ramps between
    /// levels ([`ramps()`]).
    #[must_use]
    pub fn change_points(&self, sigmas: f64, least: f64) -> Vec<Slow> {
        let wide = (self.window / 3).max(self.plain.len() / BLOCKS).max(1);
        let calm = self.calm.as_ref().filter(|calm| {
            let half = whole((DAY_S / 2.0 / self.even.step_s).round());
            apart(calm, half) < WORTH * apart(&self.plain, half)
        });
        let levels = calm.unwrap_or(&self.plain);
        let blocks: Vec<f64> = levels.chunks(wide).map(median).collect();
        let longest = (LONGEST * self.window / wide).max(1);
        let found = ramps(&blocks, least, longest).into_iter();
        found
            .map(|ramp| Slow {
                from: ramp.from * wide,
                to: ramp.to * wide,
                size: ramp.size,
                sigmas: ramp.size / self.sigma,
            })
            .filter(|one| one.size.abs() >= least && one.sigmas.abs() > sigmas)
            .collect()
    }
}

/// How much values differ that are so many steps apart.
pub(super) fn apart(values: &[f64], steps: usize) -> f64 {
    let pairs = values.iter().zip(values.iter().skip(steps));
    mad(&pairs
        .map(|(before, after)| after - before)
        .collect::<Vec<_>>())
}

/// Seasons by STL with a day, or by MSTL with a day and a week; `None`: the history holds less than two.
///
/// The robust weights of STL need many periods: with a few days a peak has all the weight of its time of day.
/// So what no other day has at that time is cut off before, and the plain STL does the rest.
fn parts(even: &Even, values: &[f64], weekly: bool) -> Option<season::Parts> {
    let day = whole((DAY_S / even.step_s).round());
    let longest = if weekly { 7 * day } else { day };
    if day < 4 || values.len() < 2 * longest {
        return None;
    }
    let cut = cut(values, day, if weekly { 6.0 } else { 3.0 });
    let mut parts = if weekly {
        season::mstl(&cut, &[day, longest], false, Work::Few)?
    } else {
        season::stl(&cut, day, SMOOTHER, false, Work::Few)?
    };
    // What was cut off belongs to the residual.
    for (residual, (value, cut)) in parts.residual.iter_mut().zip(values.iter().zip(&cut)) {
        *residual += value - cut;
    }
    Some(parts)
}

/// The series with what is further than `sigmas` from its usual daily course cut off.
fn cut(values: &[f64], day: usize, sigmas: f64) -> Vec<f64> {
    let level = levels(values, day);
    let away: Vec<f64> = values
        .iter()
        .zip(&level)
        .map(|(v, level)| v - level)
        .collect();
    let usual: Vec<f64> = (0..day)
        .map(|slot| {
            median(
                &away
                    .iter()
                    .skip(slot)
                    .step_by(day)
                    .copied()
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    let rest: Vec<f64> = (0..away.len())
        .map(|at| away[at] - usual[at % day])
        .collect();
    let most = sigmas * mad(&rest);
    (0..values.len())
        .map(|at| level[at] + usual[at % day] + rest[at].clamp(-most, most))
        .collect()
}

/// Median of the day around each step, from every hour's and on lines in between.
fn levels(values: &[f64], day: usize) -> Vec<f64> {
    let n = values.len();
    let hop = (day / 24).max(1);
    let middle = |at: usize| {
        // Whole days, so that the time of day plays no part.
        let from = at.saturating_sub(day / 2).min(n.saturating_sub(day));
        median(&values[from..(from + day).min(n)])
    };
    let knots: Vec<f64> = (0..n.div_ceil(hop) + 1)
        .map(|knot| middle((knot * hop).min(n - 1)))
        .collect();
    let level = |at: usize| {
        let (knot, part) = (at / hop, (at % hop) as f64 / hop as f64);
        knots[knot] + (knots[knot + 1] - knots[knot]) * part
    };
    (0..n).map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    /// Days of 5-minute steps around 1000: a daily wave, and noise of 2.
    fn days(count: usize, change: impl Fn(usize) -> f64) -> Even {
        let mut random = Random::new(5);
        let value = |at: usize| {
            let wave = (at as f64 * std::f64::consts::TAU / 288.0).sin() * 100.0;
            1000.0 + wave + 2.0 * (random.unit() + random.unit() - 1.0) + change(at)
        };
        let values: Vec<f64> = (0..count * 288).map(value).collect();
        Even {
            begin_s: 0.0,
            step_s: 300.0,
            known: vec![true; values.len()],
            values,
        }
    }

    #[test]
    fn a_jump_stands_out_of_a_daily_wave() {
        let even = days(5, |at| if (700..800).contains(&at) { 40.0 } else { 0.0 });
        let course = Course::of(even, 1.0).expect("long enough");
        assert!(course.seasonal);
        let jumps = course.jumps(7.0, 1.0);
        let up: Vec<&Jump> = jumps.iter().filter(|jump| jump.size > 0.0).collect();
        assert_eq!(up.len(), 1, "{jumps:?}");
        assert!(up[0].at.abs_diff(700) <= 1, "{jumps:?}");
        assert!(
            up[0].until.is_some_and(|until| until.abs_diff(800) <= 3),
            "{jumps:?}"
        );
        assert!((up[0].size - 40.0).abs() < 10.0, "{jumps:?}");
        let calm = Course::of(days(5, |_| 0.0), 1.0).expect("long enough");
        assert_eq!(calm.jumps(7.0, 1.0), []);
        assert_eq!(calm.peaks(7.0, 10.0), []);
        assert_eq!(calm.change_points(7.0, 10.0), []);
    }

    #[test]
    fn one_peak_is_a_residual_and_no_jump() {
        let even = days(4, |at| if at == 600 { 300.0 } else { 0.0 });
        let course = Course::of(even, 1.0).expect("long enough");
        assert_eq!(course.jumps(7.0, 1.0), []);
        let peaks = course.peaks(7.0, 10.0);
        assert_eq!(peaks.len(), 1, "{peaks:?}");
        assert_eq!(peaks[0].at, 600);
    }

    #[test]
    fn short_histories_do_without_seasons() {
        let wave = |at: usize| (at as f64 * std::f64::consts::TAU / 288.0).sin() * 100.0;
        let mut even = days(1, |at| if at >= 200 { 300.0 } else { 0.0 } - wave(at));
        even.step_s = 5.0; // 24 minutes
        let course = Course::of(even.clone(), 1.0).expect("long enough");
        assert!(!course.seasonal && course.residual.is_none());
        let jumps = course.jumps(7.0, 1.0);
        assert!(
            jumps.len() == 1 && jumps[0].at.abs_diff(200) <= 1,
            "{jumps:?}"
        );
        let constant = Even {
            values: vec![5.0; 288],
            ..even
        };
        let course = Course::of(constant, 1.0).expect("long enough");
        assert_eq!(course.jumps(7.0, 1.0), []);
        assert_eq!(course.change_points(7.0, 1.0), []);
    }

    #[test]
    fn a_slow_change_of_level_is_a_change_point() {
        let even = days(6, |at| (at.clamp(800, 920) - 800) as f64);
        let course = Course::of(even, 1.0).expect("long enough");
        let found = course.change_points(7.0, 20.0);
        assert!(
            !found.is_empty() && found.iter().all(|one| one.size > 0.0),
            "{found:?}"
        );
        assert!(
            found.len() == 1
                && found[0].from.abs_diff(800) <= 20
                && found[0].to.abs_diff(920) <= 20,
            "{found:?}"
        );
    }
}
