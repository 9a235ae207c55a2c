//! Order statistics: quantiles, MAD, Theil-Sen, grey opening. All ignore nothing and expect finite values.

/// Standard deviations of a normal distribution in one median absolute deviation.
const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;

/// The whole part of a number that is not below 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that is negative or not a number becomes 0, a large one the largest"
)]
pub(in crate::analysis) fn whole(value: f64) -> usize {
    value as usize
}

/// An integer in the order of [`f64::total_cmp`]: integers are compared faster. Its own inverse.
fn ordered(bits: i64) -> i64 {
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

fn key(value: f64) -> i64 {
    ordered(value.to_bits().cast_signed())
}

fn value(key: i64) -> f64 {
    f64::from_bits(ordered(key).cast_unsigned())
}

/// Linear interpolation between the order statistics, as numpy does it; 0 of nothing.
#[must_use]
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut keys: Vec<i64> = values.iter().map(|value| key(*value)).collect();
    quantile_of(&mut keys, share)
}

fn quantile_of(keys: &mut [i64], share: f64) -> f64 {
    let Some(last) = keys.len().checked_sub(1) else {
        return 0.0;
    };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let low = whole(place);
    let (_, &mut below, above) = keys.select_nth_unstable(low);
    let below = value(below);
    let part = place - low as f64;
    if part == 0.0 {
        return below;
    }
    let next = above.iter().copied().min().map_or(f64::INFINITY, value);
    below + part * (next - below)
}

/// The middle of what comes.
pub(super) fn median_of(values: impl Iterator<Item = f64>) -> f64 {
    let mut keys: Vec<i64> = values.map(key).collect();
    quantile_of(&mut keys, 0.5)
}

/// The middle value; of an even number the mean of the two in the middle; 0 of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Median absolute deviation, scaled to a standard deviation of normal data.
#[must_use]
pub fn mad(values: &[f64]) -> f64 {
    let middle = median(values);
    median_of(values.iter().map(|value| (value - middle).abs())) * MAD_TO_SIGMA
}

/// Standard deviation of the noise of a series, from its differences: steps and trends do not widen it.
#[must_use]
pub fn noise(values: &[f64]) -> f64 {
    mad(&differences(values)) / std::f64::consts::SQRT_2
}

/// Each value less the one before.
pub(super) fn differences(values: &[f64]) -> Vec<f64> {
    values.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// A slope with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slope {
    /// Median of the slopes of all pairs.
    pub slope: f64,
    /// Through the medians of both.
    pub intercept: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Theil-Sen with the interval of Sen 1968, ties in both taken into account; `None`: no two times differ.
/// All pairs are looked at: give it a few hundred points.
#[must_use]
pub fn theil_sen(x: &[f64], y: &[f64]) -> Option<Slope> {
    let n = x.len().min(y.len());
    let mut slopes = Vec::with_capacity(n * n.saturating_sub(1) / 2);
    for i in 0..n {
        for j in 0..i {
            let (dx, dy) = (x[i] - x[j], y[i] - y[j]);
            if dx != 0.0 {
                slopes.push(dy / dx);
            }
        }
    }
    if slopes.is_empty() {
        return None;
    }
    slopes.sort_unstable_by(f64::total_cmp);
    let count = slopes.len();
    let slope = f64::midpoint(slopes[(count - 1) / 2], slopes[count / 2]);
    let pairs = n as f64;
    let ties = |values: &[f64]| -> f64 {
        let each = tie_groups(values).into_iter().map(|group| {
            let group = group as f64;
            group * (group - 1.0) * (2.0 * group + 5.0)
        });
        each.sum()
    };
    let variance =
        (pairs * (pairs - 1.0) * (2.0 * pairs + 5.0) - ties(&x[..n]) - ties(&y[..n])) / 18.0;
    let wide = Z_975 * variance.max(0.0).sqrt();
    let at = |place: f64| slopes[whole(place.max(0.0)).min(count - 1)];
    Some(Slope {
        slope,
        intercept: median(&y[..n]) - slope * median(&x[..n]),
        low: at(((count as f64 - wide) / 2.0).round_ties_even() - 1.0),
        high: at(((count as f64 + wide) / 2.0).round_ties_even()),
    })
}

/// The point of the standard normal distribution with 97.5 % below.
const Z_975: f64 = 1.959_963_984_540_054;

/// Sizes of the groups of equal values, those of 2 and more.
pub(super) fn tie_groups(values: &[f64]) -> Vec<usize> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let groups = values.chunk_by(|a, b| a == b).map(<[f64]>::len);
    groups.filter(|&len| len > 1).collect()
}

/// Grey opening with a flat window: narrow peaks go, steps and ramps stay. The ends are mirrored, as scipy does.
#[must_use]
pub fn opening(values: &[f64], window: usize) -> Vec<f64> {
    // scipy centres an even window one further right, and mirrors that for the dilation.
    let left = window / 2;
    let right = window.saturating_sub(left + 1);
    let low = sliding(values, left, right, f64::min);
    sliding(&low, right, left, f64::max)
}

/// The extreme of each window of `left` values before to `right` values after: in blocks as long as the window, a
/// window is the end of one and the begin of the next.
fn sliding(
    values: &[f64],
    left: usize,
    right: usize,
    better: impl Fn(f64, f64) -> f64 + Copy,
) -> Vec<f64> {
    let n = values.len();
    if n == 0 {
        return Vec::new();
    }
    let mirrored = |place: usize| {
        // `place` counts from `left` before the first value.
        let period = 2 * n;
        let at = (place + period * left.div_ceil(period) - left) % period;
        values[if at < n { at } else { period - 1 - at }]
    };
    let mut wide: Vec<f64> = (0..left).map(mirrored).collect();
    wide.extend(values);
    wide.extend((left + n..left + n + right).map(mirrored));
    let window = left + right + 1;
    let mut begins = wide.clone();
    for block in begins.chunks_mut(window) {
        for k in 1..block.len() {
            block[k] = better(block[k - 1], block[k]);
        }
    }
    let mut ends = wide;
    for block in ends.chunks_mut(window) {
        for k in (1..block.len()).rev() {
            block[k - 1] = better(block[k], block[k - 1]);
        }
    }
    let pairs = ends.iter().zip(&begins[window - 1..]);
    pairs.map(|(end, begin)| better(*end, *begin)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[0.0, 10.0], 0.25), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_slope_is_not_moved_by_one_outlier() {
        let x: Vec<f64> = (0..20).map(f64::from).collect();
        let mut y: Vec<f64> = x.iter().map(|x| 3.0 * x + 1.0).collect();
        y[7] = 1e6;
        let slope = theil_sen(&x, &y).expect("times differ");
        assert!((slope.slope - 3.0).abs() < 1e-9, "{slope:?}");
        assert!(theil_sen(&[1.0, 1.0], &[1.0, 2.0]).is_none());
    }

    #[test]
    fn an_opening_takes_peaks_and_leaves_ramps() {
        let mut values: Vec<f64> = (0..50).map(f64::from).collect();
        let ramp = values.clone();
        values[20] += 100.0;
        let opened = opening(&values, 5);
        assert!(opened.iter().all(|value| *value < 60.0), "{opened:?}");
        assert_eq!(opening(&ramp, 5)[5..45], ramp[5..45]);
    }
}
