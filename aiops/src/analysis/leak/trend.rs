//! Classic trend tests, as evidence beside the verdict: least squares with R², Kendall's tau, and Mann-Kendall with
//! the correction of Hamed and Rao for autocorrelation. They see any trend, also one of a warm-up: the verdict does
//! not rest on them.

use std::f64::consts::PI;
use std::f64::consts::SQRT_2;

use super::robust::median;
use super::robust::tie_groups;

/// A least-squares line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ols {
    /// Slope.
    pub slope: f64,
    /// Value at 0.
    pub intercept: f64,
    /// Share of the variance that the line explains.
    pub r2: f64,
    /// Standard error of the slope.
    pub stderr: f64,
    /// Two-sided p of a slope of 0, for independent normal errors.
    pub p: f64,
}

/// A rank correlation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kendall {
    /// Tau-b.
    pub tau: f64,
    /// Two-sided p of no correlation.
    pub p: f64,
}

/// A Mann-Kendall test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannKendall {
    /// Rises less falls among all pairs.
    pub s: f64,
    /// Variance of `s` without a trend.
    pub variance: f64,
    /// Score, with the correction for continuity.
    pub z: f64,
    /// Two-sided p.
    pub p: f64,
}

/// Least squares; `None`: fewer than three values, or no two times differ.
#[must_use]
pub fn ols(x: &[f64], y: &[f64]) -> Option<Ols> {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        let pairs = x.iter().zip(y);
        pairs.map(|(x, y)| of(x - mean_x, y - mean_y)).sum()
    };
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    if x.len() < 3 || xx <= 0.0 {
        return None;
    }
    let slope = xy / xx;
    let r2 = if yy > 0.0 {
        (xy * xy / (xx * yy)).min(1.0)
    } else {
        0.0
    };
    let freedom = n - 2.0;
    let stderr = ((1.0 - r2) * yy / xx / freedom).sqrt();
    Some(Ols {
        slope,
        intercept: mean_y - slope * mean_x,
        r2,
        stderr,
        // I of (1 - r²), which is freedom over (freedom + t²).
        p: beta_share(1.0 - r2, freedom / 2.0, 0.5),
    })
}

/// Kendall's tau-b: the exact p for up to 33 values without ties, else that of the normal approximation.
/// `None`: one side does not vary.
#[must_use]
pub fn kendall(x: &[f64], y: &[f64]) -> Option<Kendall> {
    let n = x.len();
    let pairs = (n * n.saturating_sub(1) / 2) as f64;
    let (mut s, mut falls) = (0.0, 0_usize);
    for i in 0..n {
        for j in 0..i {
            let (dx, dy) = (sign(x[i] - x[j]), sign(y[i] - y[j]));
            s += dx * dy;
            falls += usize::from(dx * dy < 0.0);
        }
    }
    let ties = |values: &[f64]| {
        let groups = tie_groups(values);
        let sum = |of: &dyn Fn(f64) -> f64| -> f64 { groups.iter().map(|g| of(*g as f64)).sum() };
        (
            sum(&|g| g * (g - 1.0) / 2.0),
            sum(&|g| g * (g - 1.0) * (g - 2.0)),
            sum(&|g| g * (g - 1.0) * (2.0 * g + 5.0)),
        )
    };
    let ((x_ties, x0, x1), (y_ties, y0, y1)) = (ties(x), ties(y));
    let varied = (pairs - x_ties) * (pairs - y_ties);
    if n < 2 || varied <= 0.0 {
        return None;
    }
    let tau = (s / varied.sqrt()).clamp(-1.0, 1.0);
    let p = if x_ties + y_ties == 0.0 && n <= EXACT {
        exact(n, falls.min(n * (n - 1) / 2 - falls))
    } else {
        let (n, m) = (n as f64, 2.0 * pairs);
        let variance = (m * (2.0 * n + 5.0) - x1 - y1) / 18.0
            + 2.0 * x_ties * y_ties / m
            + x0 * y0 / (9.0 * m * (n - 2.0));
        two_sided(s / variance.sqrt())
    };
    Some(Kendall { tau, p })
}

/// Most values of an exact test.
const EXACT: usize = 33;

fn sign(value: f64) -> f64 {
    f64::from(i8::from(value > 0.0) - i8::from(value < 0.0))
}

/// Probability of at most so many inversions, or of at least as many as that leaves, of `n` values in random order.
fn exact(n: usize, inversions: usize) -> f64 {
    if 4 * inversions == n * (n - 1) {
        return 1.0;
    }
    // Share of the orders of the first values that have so many inversions.
    let mut share = vec![0.0; inversions + 1];
    share[0] = 1.0;
    for count in 2..=n {
        let mut next = vec![0.0; inversions + 1];
        let mut sum = 0.0;
        for k in 0..=inversions {
            sum += share[k];
            if k >= count {
                sum -= share[k - count];
            }
            next[k] = sum / count as f64;
        }
        share = next;
    }
    (2.0 * share.iter().sum::<f64>()).min(1.0)
}

/// Mann-Kendall of values at equal distances.
#[must_use]
pub fn mann_kendall(y: &[f64]) -> MannKendall {
    let n = y.len() as f64;
    let pairs = (1..y.len()).flat_map(|lag| y[lag..].iter().zip(y));
    let signs = pairs.map(|(late, early)| i64::from(late > early) - i64::from(late < early));
    let s = signs.sum::<i64>() as f64;
    let groups = tie_groups(y).into_iter().map(|group| {
        let group = group as f64;
        group * (group - 1.0) * (2.0 * group + 5.0)
    });
    let variance = (n * (n - 1.0) * (2.0 * n + 5.0) - groups.sum::<f64>()) / 18.0;
    scored(s, variance)
}

fn scored(s: f64, variance: f64) -> MannKendall {
    let z = if s == 0.0 || variance <= 0.0 {
        0.0
    } else {
        (s - sign(s)) / variance.sqrt()
    };
    MannKendall {
        s,
        variance,
        z,
        p: two_sided(z),
    }
}

/// The same with the variance that autocorrelation gives it: Hamed and Rao 1998, significant lags only.
#[must_use]
pub fn hamed_rao(y: &[f64]) -> MannKendall {
    let plain = mann_kendall(y);
    let n = y.len();
    let count = n as f64;
    if n < 4 {
        return plain;
    }
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    for lag in 1..n {
        let distance = lag as f64;
        let pairs = y[lag..].iter().zip(y);
        slopes.extend(pairs.map(|(late, early)| (late - early) / distance));
    }
    let slope = median(&slopes);
    let flat: Vec<f64> = (0..n).map(|i| y[i] - (i + 1) as f64 * slope).collect();
    let mut ranks = ranks(&flat);
    let mean = ranks.iter().sum::<f64>() / count;
    ranks.iter_mut().for_each(|rank| *rank -= mean);
    let along = along_itself(&ranks);
    let all = along[0];
    if all <= 0.0 {
        return plain;
    }
    let bound = 1.959_963_984_540_054 / count.sqrt();
    let lags = (1..n).map(|lag| (lag as f64, along[lag] / all));
    let extra = lags
        .filter(|(_, r)| r.abs() > bound)
        .map(|(lag, r)| (count - lag) * (count - lag - 1.0) * (count - lag - 2.0) * r);
    let wider = 1.0 + 2.0 / (count * (count - 1.0) * (count - 2.0)) * extra.sum::<f64>();
    scored(plain.s, plain.variance * wider)
}

/// Sums of the products of values with those so many places later, for each distance.
fn along_itself(values: &[f64]) -> Vec<f64> {
    const TOGETHER: usize = 4;
    let n = values.len();
    let mut out = Vec::with_capacity(n + TOGETHER);
    while out.len() < n {
        // Some distances at once: additions of one do not wait for those of another.
        let lag = out.len();
        let all = n.saturating_sub(lag + TOGETHER - 1);
        let mut sums = [0.0; TOGETHER];
        for (value, later) in values.iter().zip(values[lag..].windows(TOGETHER)).take(all) {
            for (sum, later) in sums.iter_mut().zip(later) {
                *sum += value * later;
            }
        }
        for (k, sum) in sums.iter_mut().enumerate() {
            for i in all..n.saturating_sub(lag + k) {
                *sum += values[i] * values[i + lag + k];
            }
        }
        out.extend(sums);
    }
    out.truncate(n);
    out
}

/// Ranks from 1; equal values share their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut out = vec![0.0; values.len()];
    let mut from = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = from as f64 + (group.len() + 1) as f64 / 2.0;
        for &place in group {
            out[place] = rank;
        }
        from += group.len();
    }
    out
}

/// Two-sided p of a standard normal score.
fn two_sided(z: f64) -> f64 {
    let x = z.abs() / SQRT_2;
    if x > 26.0 {
        return 0.0;
    }
    let factor = (-x * x).exp() / PI.sqrt();
    if x < 2.5 {
        // 1 - erf: a sum of positive terms.
        let (mut term, mut sum, mut k) = (2.0 * x, 2.0 * x, 0.0);
        while term > 1e-17 * sum {
            k += 1.0;
            term *= 2.0 * x * x / (2.0 * k + 1.0);
            sum += term;
        }
        return (1.0 - factor * sum).clamp(0.0, 1.0);
    }
    // A continued fraction, from far inside.
    let inner = (1..=80)
        .rev()
        .fold(x, |rest, k| x + f64::from(k) / 2.0 / rest);
    factor / inner
}

/// The regularised incomplete beta function.
fn beta_share(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_share(1.0 - x, b, a);
    }
    let front = (log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * x.ln() + b * (1.0 - x).ln())
        .exp()
        / a;
    // Lentz's continued fraction.
    let (mut c, mut d) = (1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0)));
    let mut out = d;
    for m in 1..300 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for step in [even, odd] {
            d = 1.0 / (1.0 + step * d);
            c = 1.0 + step / c;
            out *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-16 {
            break;
        }
    }
    (front * out).clamp(0.0, 1.0)
}

/// Lanczos's approximation, for positive values.
fn log_gamma(x: f64) -> f64 {
    const PARTS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let later = PARTS.iter().enumerate().skip(1);
    let sum: f64 = PARTS[0] + later.map(|(k, part)| part / (x + k as f64)).sum::<f64>();
    let t = x + 7.5;
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_tails() {
        assert!((two_sided(1.959_963_984_540_054) - 0.05).abs() < 1e-14);
        assert!((two_sided(6.0) / 1.973_175_290_075_396e-9 - 1.0).abs() < 1e-9);
        assert!((beta_share(0.3, 2.0, 3.0) - 0.3483).abs() < 1e-12);
        assert!((log_gamma(5.0) - 24.0_f64.ln()).abs() < 1e-13);
    }

    #[test]
    fn a_line_is_a_trend_and_a_saw_is_none() {
        let x: Vec<f64> = (0..40).map(f64::from).collect();
        let line = ols(&x, &x).expect("times differ");
        assert!(line.r2 > 0.999 && line.p < 1e-12, "{line:?}");
        let saw: Vec<f64> = (0..40).map(|i| f64::from(i % 4)).collect();
        assert!(hamed_rao(&saw).p > 0.1);
        assert!(mann_kendall(&x).p < 1e-9);
        assert!(kendall(&x[..10], &x[..10]).is_some_and(|found| found.p < 1e-5));
        assert!(kendall(&[1.0, 1.0], &[1.0, 2.0]).is_none());
    }
}
