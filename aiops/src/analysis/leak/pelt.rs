//! Change points of the mean: PELT with the squared error as cost, usually linear in time. Exact where
//! a stretch may be of one value; with a least length, pruning may miss the best set by little, as in other programs.

/// Ends of the stretches with one mean, the length of the series last; empty for a series that is shorter than
/// `least`. Each change costs `penalty`; no stretch is shorter than `least`.
#[must_use]
pub fn pelt(values: &[f64], penalty: f64, least: usize) -> Vec<usize> {
    let (n, least) = (values.len(), least.max(1));
    if n < least {
        return Vec::new();
    }
    let mut sums = vec![(0.0, 0.0)];
    for (i, value) in values.iter().enumerate() {
        let (plain, square) = sums[i];
        sums.push((plain + value, square + value * value));
    }
    let cost = |from: usize, to: usize| {
        let plain = sums[to].0 - sums[from].0;
        sums[to].1 - sums[from].1 - plain * plain / (to - from) as f64
    };
    let mut best = vec![f64::INFINITY; n + 1];
    best[0] = -penalty;
    let mut last = vec![0; n + 1];
    let mut starts = vec![0];
    for end in least..=n {
        // A stretch may begin where one could have ended.
        let newest = end - least;
        if newest >= least {
            starts.push(newest);
        }
        let with = |start: usize, best: &[f64]| best[start] + cost(start, end);
        for &start in &starts {
            let total = with(start, &best) + penalty;
            if total < best[end] {
                best[end] = total;
                last[end] = start;
            }
        }
        // What is worse now by more than a change costs never becomes the best.
        let bound = best[end];
        starts.retain(|&start| with(start, &best) <= bound);
    }
    let mut ends = Vec::new();
    let mut end = n;
    while end > 0 {
        ends.push(end);
        end = last[end];
    }
    ends.reverse();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_parted_where_they_change() {
        let values: Vec<f64> = (0..90)
            .map(|i| f64::from(i / 30) * 5.0 + f64::from(i % 3) * 0.1)
            .collect();
        assert_eq!(pelt(&values, 1.0, 2), [30, 60, 90]);
        assert_eq!(pelt(&[1.0; 10], 1.0, 2), [10]);
        assert!(pelt(&[1.0], 1.0, 2).is_empty());
    }
}
