//! Latencies in an HDR histogram: two digits of precision from a microsecond to an hour.

use hdrhistogram::Histogram;

use crate::report::stalls::Bucket;
use crate::report::stalls::Latency;

/// An hour: longer ones count as one.
const MOST_US: u64 = 3_600_000_000;

/// How long things took.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Option<Histogram<u32>>,
    count: u64,
    total_ns: u64,
    max_ns: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            // It fails for impossible bounds only, and takes as much memory as its largest value wants.
            histogram: Histogram::new(2).ok(),
            count: 0,
            total_ns: 0,
            max_ns: 0,
        }
    }
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, ns: u64) {
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
        if let Some(histogram) = &mut self.histogram {
            // A histogram made without bounds grows: nothing is beyond its range.
            let _ = histogram.record((ns / 1000).clamp(1, MOST_US));
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All together, ns.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.total_ns
    }

    /// Its figures.
    #[must_use]
    pub fn figures(&self) -> Latency {
        let at = |quantile: f64| {
            let histogram = self.histogram.as_ref().filter(|_| self.count > 0)?;
            Some(histogram.value_at_quantile(quantile) as f64)
        };
        Latency {
            count: self.count,
            total_ms: self.total_ns as f64 / 1e6,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            max_us: (self.count > 0).then_some(self.max_ns as f64 / 1e3),
        }
    }

    /// Counts by powers of two of microseconds, empty ones left out.
    #[must_use]
    pub fn buckets(&self) -> Vec<Bucket> {
        let Some(histogram) = &self.histogram else {
            return Vec::new();
        };
        let bounds = (0..32_u32).map(|power| (1_u64 << power, 1_u64 << (power + 1)));
        let buckets = bounds.map(|(from_us, to_us)| Bucket {
            from_us,
            to_us,
            count: histogram.count_between(from_us, to_us - 1),
        });
        buckets.filter(|bucket| bucket.count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.figures().p50_us, None);
        for us in 1..=10_000_u64 {
            latencies.add(us * 1000);
        }
        let figures = latencies.figures();
        assert_eq!(figures.count, 10_000);
        assert_eq!(figures.max_us, Some(10_000.0));
        for (value, wanted) in [
            (figures.p50_us, 5_000.0),
            (figures.p90_us, 9_000.0),
            (figures.p99_us, 9_900.0),
        ] {
            let value = value.expect("there are values");
            assert!((value / wanted - 1.0_f64).abs() < 0.01, "{value} {wanted}");
        }
        let sum: u64 = latencies.buckets().iter().map(|bucket| bucket.count).sum();
        // A bucket of the histogram may straddle a power of two only above its precision.
        assert_eq!(sum, 10_000);
    }

    #[test]
    fn hours_do_not_overflow() {
        let mut latencies = Latencies::default();
        latencies.add(u64::MAX / 2);
        latencies.add(0);
        assert_eq!(latencies.count(), 2);
        assert_eq!(
            latencies.figures().max_us,
            Some((u64::MAX / 2) as f64 / 1e3)
        );
    }
}
