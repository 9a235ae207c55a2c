//! When a limit is met. What memory did beside its growth, jobs, peaks, teeth, days, is played again from moments that
//! were like now, on top of the growth: the first time that the sum meets the limit is one future, and the futures
//! together give the time and its interval.

use super::Assessment;
use super::DAY;
use super::Hit;
use super::Life;
use super::posterior::Posterior;
use super::prepare;
use super::prepare::Grid;
use super::robust;
use super::robust::median;
use super::robust::quantile;
use super::robust::whole;
use super::shapes::Kind;

/// Points of what is played again.
const POINTS: usize = 400;
/// Least share of a life that is played again, and the usual one.
const LEAST: f64 = 0.1;
const USUAL: f64 = 0.5;
/// How far back, in points, now is compared with other moments.
const BACK: [usize; 7] = [0, 1, 2, 4, 8, 16, 32];
/// Moments that are most like now: this share of all, and no fewer than these.
const ALIKE: f64 = 0.125;
const FEWEST: usize = 8;
/// Quantiles of a standard normal that stand for the error of the rate.
const ERRORS: [f64; 9] = [-1.96, -1.28, -0.84, -0.4, 0.0, 0.4, 0.84, 1.28, 1.96];
/// A rate is known no better than this share of it.
const RATE_KNOWN: f64 = 0.09;

/// What is played again: seconds since its begin and the level that it would be now, bytes.
struct Past {
    t: Vec<f64>,
    y: Vec<f64>,
    /// Seconds after which it begins anew.
    span: f64,
}

/// Growth from now on.
#[derive(Clone, Copy)]
struct Growth {
    rate: f64,
    /// Growth of the rate, bytes for each second squared.
    bend: f64,
}

impl Growth {
    fn after(self, seconds: f64) -> f64 {
        self.rate * seconds + 0.5 * self.bend * seconds * seconds
    }

    /// Seconds until it has grown by so much.
    fn time(self, bytes: f64) -> f64 {
        if bytes <= 0.0 {
            0.0
        } else if self.bend > 0.0 {
            (-self.rate + (self.rate * self.rate + 2.0 * self.bend * bytes).sqrt()) / self.bend
        } else {
            bytes / self.rate
        }
    }
}

/// When the memory meets the limit.
pub(super) fn hit(
    out: &Assessment,
    posterior: &Posterior,
    life: &Life,
    grid: &Grid,
    limit: f64,
) -> Option<Hit> {
    if posterior.rate <= 0.0 {
        return None;
    }
    let rate = match tops(grid, posterior) {
        Some(rate) if !out.from_all_lives => rate,
        _ => posterior.rate,
    };
    let bend = posterior.best_leak.as_ref().map_or(0.0, |l| l.acceleration);
    let growth = Growth { rate, bend };
    let moves = grid.collections.is_some() || grid.peaks;
    let past = past(out, life, growth, moves)?;
    let starts = past.alike();
    let futures: Vec<f64> = starts
        .iter()
        .map(|start| past.meets(*start, growth, limit))
        .collect();
    let after_s = median(&futures);
    let chance = past.wanders() / after_s.max(past.span / POINTS as f64);
    let error = posterior.rate_error.max(RATE_KNOWN * rate);
    let error = (error * error + chance).sqrt();
    let mut all = Vec::with_capacity(futures.len() * ERRORS.len());
    for error in ERRORS.map(|quantile| quantile * error) {
        let rate = rate + error;
        for start in &starts {
            all.push(if rate > 0.0 {
                past.meets(*start, Growth { rate, bend }, limit)
            } else {
                f64::MAX
            });
        }
    }
    let latest = quantile(&all, 0.975);
    Some(Hit {
        after_s,
        interval_s: (
            quantile(&all, 0.025),
            (latest < 0.5 * f64::MAX).then_some(latest),
        ),
    })
}

/// How fast the tops of the teeth rise: a collector that starts at a multiple of what lives makes the teeth grow
/// with the floors. `None`: no teeth, too few, or they grow as their floors do.
fn tops(grid: &Grid, posterior: &Posterior) -> Option<f64> {
    let n = grid.tops.len();
    let from = n.saturating_sub(24);
    let (t, y): (Vec<f64>, Vec<f64>) = grid.tops[from..].iter().copied().unzip();
    if n < 4 {
        return None;
    }
    let found = robust::theil_sen(&t, &y)?;
    let sure = found.low > posterior.rate || n < 8 && found.slope > 1.3 * posterior.rate;
    sure.then_some(found.slope)
}

/// The part of a life since it grows as it does now, without its growth. `moves`: it has teeth or peaks, which may be
/// short; else what is short is noise.
fn past(out: &Assessment, life: &Life, growth: Growth, moves: bool) -> Option<Past> {
    let n = life.t.len();
    let end = *life.t.last()?;
    let shape = out.shape.as_ref();
    let since = match shape.map(|shape| shape.kind) {
        Some(
            Kind::Hinge { from }
            | Kind::StepHinge { from }
            | Kind::StepsHinge { from, .. }
            | Kind::LateSaturationLine { from }
            | Kind::Broken { at: from }
            | Kind::Polyline { at: from, .. },
        ) if !out.from_all_lives => from,
        _ => 0.0,
    };
    let season = shape.is_some_and(|shape| shape.season);
    let share = (1.0 - since).clamp(LEAST, USUAL);
    let cycle = shape.and_then(|shape| shape.cycle_s).unwrap_or(DAY);
    let cycles = (share * end / cycle).floor();
    let wanted = if season && end >= cycle {
        cycles.max(1.0) * cycle
    } else {
        share * end
    };
    let from = life
        .t
        .partition_point(|t| *t < end - wanted)
        .min(n.saturating_sub(5));
    // A single sample that is far off is no level, unless there are many of that size.
    let (quiet, ..) = prepare::without_outliers(&life.bytes);
    let brief = brief_jobs(&life.bytes, &quiet);
    let bytes = if brief {
        &life.bytes[from..]
    } else {
        &quiet[from..]
    };
    let t = &life.t[from..];
    let near = if moves || brief { 0 } else { 2 };
    let level = |i: usize| {
        let few = &bytes[i.saturating_sub(near)..(i + near + 1).min(bytes.len())];
        let ago = end - t[i];
        median(few) + growth.rate * ago - 0.5 * growth.bend * ago * ago
    };
    let begin = *t.first()?;
    let width = ((end - begin) / POINTS as f64).max(1e-9);
    let mut past = Past {
        t: Vec::new(),
        y: Vec::new(),
        span: 0.0,
    };
    let mut last = usize::MAX;
    for (i, at) in t.iter().enumerate() {
        let (place, y) = (whole((at - begin) / width).min(POINTS - 1), level(i));
        if place == last {
            // What meets a limit is the highest.
            let k = past.y.len() - 1;
            past.y[k] = past.y[k].max(y);
        } else {
            past.t.push(at - begin);
            past.y.push(y);
        }
        last = place;
    }
    let gone = past.fallen();
    past.y.drain(..gone);
    past.t.drain(..gone);
    let begin = *past.t.first()?;
    past.t.iter_mut().for_each(|t| *t -= begin);
    let seen = past.t.last()? + 1e-9;
    let usual = seen / (past.t.len() - 1).max(1) as f64;
    past.span = if season && gone == 0 {
        wanted.max(seen)
    } else {
        seen + usual
    };
    (past.t.len() >= 2 && past.span > 0.0).then_some(past)
}

/// Whether what stands out for one sample are jobs: five or more are half as high as the highest. Of single errors
/// few are large.
fn brief_jobs(bytes: &[f64], quiet: &[f64]) -> bool {
    let heights: Vec<f64> = bytes
        .iter()
        .zip(quiet)
        .map(|(seen, quiet)| seen - quiet)
        .collect();
    let highest = heights.iter().copied().fold(0.0, f64::max);
    highest > 0.0
        && heights
            .iter()
            .filter(|height| **height > 0.5 * highest)
            .count()
            >= 5
}

impl Past {
    /// Points before a fall to a level that is lower than all that was before: pages that were swapped out, memory that
    /// was given back for good.
    fn fallen(&self) -> usize {
        const BEHIND: usize = 20;
        let y = &self.y;
        let fall = (1..y.len()).min_by(|&a, &b| (y[a] - y[a - 1]).total_cmp(&(y[b] - y[b - 1])));
        fall.filter(|fall| {
            let (before, behind) = y.split_at(*fall);
            behind.len() >= BEHIND && quantile(before, 0.1) > quantile(behind, 0.9)
        })
        .unwrap_or(0)
    }

    /// How far the level wanders beside its growth: variance for each second, of a walk without direction. Levels four
    /// stretches apart are compared, over which what comes and goes has gone.
    fn wanders(&self) -> f64 {
        const STRETCHES: usize = 16;
        const APART: usize = 4;
        let length = self.span / STRETCHES as f64;
        let mut levels = Vec::with_capacity(STRETCHES);
        let mut from = 0;
        for k in 1..=STRETCHES {
            let to = self.t.partition_point(|t| *t < length * k as f64);
            if to > from {
                levels.push(median(&self.y[from..to]));
            }
            from = to;
        }
        let apart: Vec<f64> = (APART..levels.len())
            .map(|k| levels[k] - levels[k - APART])
            .collect();
        let n = apart.len() as f64;
        if apart.len() < 3 {
            return 0.0;
        }
        apart.iter().map(|one| one * one).sum::<f64>() / n / (APART as f64 * length)
    }

    /// The moments that are most like now, by what was before them.
    fn alike(&self) -> Vec<usize> {
        let n = self.y.len();
        let now = n - 1;
        let back = BACK.iter().filter(|back| **back * 4 < n);
        let back: Vec<usize> = back.copied().collect();
        let most = back.last().copied().unwrap_or(0);
        let apart = |start: usize| -> f64 {
            let apart = back
                .iter()
                .map(|back| (self.y[start - back] - self.y[now - back]).abs());
            apart.sum()
        };
        let mut starts: Vec<(f64, usize)> = (most..n - n / 20)
            .map(|start| (apart(start), start))
            .collect();
        starts.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let keep = whole(ALIKE * n as f64).max(FEWEST).min(starts.len());
        starts.truncate(keep);
        starts.into_iter().map(|start| start.1).collect()
    }

    /// Seconds until the past, played again from `start` on top of the growth, meets the limit.
    fn meets(&self, start: usize, growth: Growth, limit: f64) -> f64 {
        let n = self.y.len();
        let high = self.y.iter().copied().fold(f64::MIN, f64::max);
        // Not before the highest level would.
        let soonest = growth.time(limit - high);
        let mut cycle = (soonest / self.span).floor();
        loop {
            for step in 1..=n {
                let place = (start + step) % n;
                let wrapped = if start + step >= n { self.span } else { 0.0 };
                let at = cycle * self.span + self.t[place] + wrapped - self.t[start];
                if at >= soonest && self.y[place] + growth.after(at) >= limit {
                    return at;
                }
            }
            cycle += 1.0;
            if !cycle.is_finite() || cycle * self.span > soonest + 3.0 * self.span {
                return soonest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::leak::Series;
    use crate::analysis::leak::assess;

    /// A leak of 1 MiB a minute under jobs of 60 MiB, which last two minutes of every twenty.
    fn jobs() -> Series {
        let minutes = 0..400_u32;
        Series {
            time_s: minutes.clone().map(|i| 1e9 + f64::from(i) * 60.0).collect(),
            bytes: minutes
                .map(|i| {
                    let job = if i % 20 < 2 { 60.0 } else { 0.0 };
                    (500.0 + f64::from(i) + job) * 1_048_576.0 + f64::from(i * 31 % 17) * 4096.0
                })
                .collect(),
            ..Series::default()
        }
    }

    #[test]
    fn a_job_meets_the_limit_before_what_is_below_it() {
        // Jobs end at 559 MiB above the start now; the floor would be there an hour later.
        let found = assess(&jobs(), Some(1060.0 * 1_048_576.0));
        let hit = found.hit.expect("it leaks");
        let minutes = hit.after_s / 60.0;
        assert!((100.0..=122.0).contains(&minutes), "{minutes}");
        let (soonest, latest) = hit.interval_s;
        assert!(soonest <= hit.after_s && latest.is_some_and(|latest| latest >= hit.after_s));
        // A limit that is met already.
        let found = assess(&jobs(), Some(900.0 * 1_048_576.0));
        assert!(
            found.hit.is_some_and(|hit| hit.after_s <= 1260.0),
            "{:?}",
            found.hit
        );
    }

    #[test]
    fn what_fell_for_good_is_not_played_again() {
        let y: Vec<f64> = (0..60)
            .map(|i| if i < 20 { 10.0 } else { 5.0 + f64::from(i % 3) })
            .collect();
        let t: Vec<f64> = (0..60).map(f64::from).collect();
        let past = Past { t, y, span: 60.0 };
        assert_eq!(past.fallen(), 20);
    }
}
