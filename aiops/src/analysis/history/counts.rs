//! Percentiles of samples that come in runs.

/// Distinct values that are kept exactly; beyond that, values are rounded to 1 in 2,048.
const EXACT: usize = 4096;
/// Bits of a rounded value.
const BITS: u32 = 11;

/// Values with how often they were seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    list: Vec<(i64, u64)>,
    /// The beginning that is sorted and holds each value once.
    sorted: usize,
    rounded: bool,
}

impl Counts {
    pub(super) fn add(&mut self, value: i64, n: u64) {
        match self.list.last_mut() {
            Some(last) if last.0 == value => last.1 += n,
            _ => self.list.push((value, n)),
        }
        if self.list.len() > 2 * self.sorted + 64 {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.list.sort_unstable();
        self.merge();
        if self.rounded || self.list.len() > EXACT {
            self.rounded = true;
            for (value, _) in &mut self.list {
                *value = round(*value);
            }
            self.merge();
        }
        self.sorted = self.list.len();
    }

    fn merge(&mut self) {
        self.list.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0 };
            same
        });
    }

    /// The least value that this share of the samples does not exceed.
    pub(super) fn share(&mut self, share: f64) -> Option<i64> {
        self.settle();
        let all: u64 = self.list.iter().map(|(_, n)| n).sum();
        let rank = (share * all as f64).ceil();
        let mut seen = 0;
        let found = self.list.iter().find(|(_, n)| {
            seen += n;
            seen as f64 >= rank
        });
        found.map(|(value, _)| *value)
    }
}

fn round(value: i64) -> i64 {
    let size = i64::BITS - value.unsigned_abs().leading_zeros().min(i64::BITS);
    let shift = size.saturating_sub(BITS).min(i64::BITS - 1);
    value >> shift << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_count_samples() {
        let mut counts = Counts::default();
        assert_eq!(counts.share(0.95), None);
        counts.add(10, 94);
        counts.add(20, 1);
        counts.add(30, 5);
        assert_eq!(counts.share(0.95), Some(20));
        assert_eq!(counts.share(0.96), Some(30));
        counts.add(5, 1000);
        assert_eq!(counts.share(0.5), Some(5));
    }

    #[test]
    fn many_values_are_near_enough() {
        let mut counts = Counts::default();
        for value in 0..100_000_i64 {
            counts.add((value * 7919) % 100_000, 1);
        }
        assert!(counts.list.len() < 3 * EXACT + 64, "{}", counts.list.len());
        let p95 = counts.share(0.95).unwrap();
        assert!((94_900..=95_000).contains(&p95), "{p95}");
    }
}
