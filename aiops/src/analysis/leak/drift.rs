//! Growth that no shape describes: steps of any size, some of them taken back, beside peaks. The lows of equal
//! stretches are compared: their growth from one to the next must be far from 0 by what it differs, as a
//! t statistic. Under a level that only wanders that growth is without direction, however long the wandering lasts, so
//! this null is the wide one.

use super::robust::median;
use super::robust::quantile;
use super::trend;

/// A series in stretches: how many, and which quantile of each is compared.
type View = (usize, f64);
/// The lows alone, when they are clear: jobs and peaks above them do not count.
const LOWS: [View; 2] = [(8, 0.1), (12, 0.1)];
/// The lows and the middle, when they agree; the tops may be clear for them.
const AGREE: [View; 3] = [(8, 0.1), (8, 0.5), (6, 0.3)];
const TOPS: View = (8, 0.9);
/// Samples that a stretch needs.
const FEWEST: usize = 3;

/// What a rule asks of its views.
struct Rule {
    /// Least t statistic of one view, and of each.
    clear: f64,
    seen: f64,
    /// Least growth of the last third, and least and most of the second half, as shares of the mean: what warms up
    /// slows down, and one late rise is no steady growth.
    third: f64,
    half: (f64, f64),
    /// Least Kendall's tau of the stretches.
    order: f64,
}

const BY_LOWS: Rule = Rule {
    clear: 5.0,
    seen: 3.0,
    third: 0.55,
    half: (0.65, 1.6),
    order: 0.0,
};
const BY_ALL: Rule = Rule {
    clear: 3.5,
    seen: 2.0,
    third: 0.45,
    half: (0.5, 1.5),
    order: 0.85,
};
/// A series that falls once or twice may go on growing: this share of it must be behind the last fall.
const BEHIND: f64 = 0.5;

/// Steady growth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Bytes a second.
    pub rate: f64,
    /// Its standard error.
    pub error: f64,
    /// Share of the series before it, 0 but for a series that fell.
    pub from: f64,
}

/// The steady growth of a series, or of what is behind its last fall when that is most of it and ends higher than
/// anything before. `None`: it has none.
#[must_use]
pub fn steady(t: &[f64], y: &[f64]) -> Option<Drift> {
    let n = t.len().min(y.len());
    if n < LOWS[0].0 * FEWEST {
        return None;
    }
    grows(t, y).or_else(|| {
        let fall = (1..n).min_by(|&a, &b| (y[a] - y[a - 1]).total_cmp(&(y[b] - y[b - 1])))?;
        let span = t[n - 1] - t[0];
        let (before, behind) = y.split_at(fall);
        let from = (t[fall] - t[0]) / span;
        let last = median(&behind[behind.len() - (behind.len() / 20).max(1)..]);
        let higher = last > quantile(before, 0.98);
        let drift =
            grows(&t[fall..n], &behind[..n - fall]).filter(|_| higher && 1.0 - from > BEHIND);
        drift.map(|drift| Drift { from, ..drift })
    })
}

fn grows(t: &[f64], y: &[f64]) -> Option<Drift> {
    let seen = |views: &[View]| -> Option<Vec<Seen>> {
        views.iter().map(|view| divided(t, y, *view)).collect()
    };
    let lows = seen(&LOWS)?;
    if BY_LOWS.holds(&lows, 0.0) {
        return lows.last().map(|one| one.drift);
    }
    let all = seen(&AGREE)?;
    let tops = divided(t, y, TOPS)?;
    let holds = BY_ALL.holds(&all, tops.t());
    all.get(1).filter(|_| holds).map(|one| one.drift)
}

/// One view of a series.
struct Seen {
    drift: Drift,
    /// Growth of the last third and of the second half over the mean growth.
    third: f64,
    half: f64,
    /// Kendall's tau of the stretches.
    order: f64,
}

impl Seen {
    fn t(&self) -> f64 {
        self.drift.rate / self.drift.error
    }
}

impl Rule {
    /// `other`: the t statistic of a view that may be clear, and need not.
    fn holds(&self, views: &[Seen], other: f64) -> bool {
        let most = views.iter().map(Seen::t).fold(other, f64::max);
        most > self.clear
            && views.iter().all(|one| {
                one.t() > self.seen
                    && one.third > self.third
                    && one.half > self.half.0
                    && one.half < self.half.1
                    && one.order > self.order
            })
    }
}

/// `None`: rows are missing.
fn divided(t: &[f64], y: &[f64], (count, low): View) -> Option<Seen> {
    let (begin, end) = (*t.first()?, *t.last()?);
    let length = (end - begin) / count as f64;
    let mut levels = Vec::with_capacity(count);
    let mut from = 0;
    for k in 1..=count {
        let to = t.partition_point(|at| *at < begin + length * k as f64);
        if to >= from + FEWEST {
            levels.push(quantile(&y[from..to], low));
        }
        from = to;
    }
    // A gap may take a stretch out, no more.
    if levels.len() + 1 < count || length <= 0.0 {
        return None;
    }
    let growth: Vec<f64> = levels.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let m = growth.len();
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let all = mean(&growth);
    let square: f64 = growth.iter().map(|one| (one - all) * (one - all)).sum();
    let error = (square / (m - 1) as f64 / m as f64)
        .sqrt()
        .max(1e-6 * all.abs());
    let places: Vec<f64> = (0..levels.len()).map(|k| k as f64).collect();
    let passed = length * (count - 1) as f64 / m as f64;
    (all.abs() > 0.0).then(|| Seen {
        drift: Drift {
            rate: all / passed,
            error: error / passed,
            from: 0.0,
        },
        third: mean(&growth[m - m / 3..]) / all,
        half: mean(&growth[m / 2..]) / all,
        order: trend::kendall(&places, &levels).map_or(0.0, |found| found.tau),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values at seconds 0, 1, ...
    fn steadily(y: &[f64]) -> Option<Drift> {
        let t: Vec<f64> = (0..y.len()).map(|i| i as f64).collect();
        steady(&t, y)
    }

    #[test]
    fn a_staircase_with_peaks_grows_and_what_saturates_does_not() {
        let stairs: Vec<f64> = (0..400)
            .map(|i| f64::from(i / 13 * 30) + if i % 7 < 3 { 200.0 } else { 0.0 })
            .collect();
        let drift = steadily(&stairs).expect("it grows");
        assert!((drift.rate - 30.0 / 13.0).abs() < 0.1, "{drift:?}");
        let warm: Vec<f64> = (0..400)
            .map(|i| 1000.0 * (1.0 - (-f64::from(i) / 100.0).exp()))
            .collect();
        assert_eq!(steadily(&warm), None);
        let once: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i > 200))).collect();
        assert_eq!(steadily(&once), None);
    }

    #[test]
    fn growth_behind_a_fall_counts_when_it_ends_higher() {
        let fallen = |fall: f64| -> Vec<f64> {
            (0..400)
                .map(|i| f64::from(i) - if i >= 100 { fall } else { 0.0 })
                .collect()
        };
        let drift = steadily(&fallen(150.0)).expect("it grows");
        assert!((drift.from - 0.25).abs() < 0.01, "{drift:?}");
        assert!((drift.rate - 1.0).abs() < 0.02, "{drift:?}");
        assert_eq!(steadily(&fallen(350.0)), None);
    }

    #[test]
    fn a_level_that_wanders_does_not_grow() {
        // A walk with steps from a linear congruential generator.
        let found = (0..200).filter(|seed| {
            let mut state = 12_345 + 7919 * seed;
            let mut at = 0.0;
            let walk: Vec<f64> = (0..300)
                .map(|_| {
                    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648_u64;
                    at += state as f64 / 2_147_483_648.0 - 0.5;
                    at
                })
                .collect();
            steadily(&walk).is_some()
        });
        let found = found.count();
        // One walk in forty goes as steadily by chance.
        assert!(found <= 8, "{found} of 200");
    }
}
