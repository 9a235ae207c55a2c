//! PSI totals over an interval.

use crate::model::SystemMetrics;

use super::readings::Readings;

/// The kernel counts PSI totals every two seconds: a shorter interval may hold two seconds' worth.
const PERIOD_S: f64 = 2.0;

/// Share of the interval in which tasks waited, percent, from a total of µs.
#[must_use]
pub fn stalled(readings: &Readings, total: fn(&SystemMetrics) -> Option<u64>) -> Option<f64> {
    let (first, last, seconds) = readings.span()?;
    let (from, to) = (
        total(first.system.as_ref()?)?,
        total(last.system.as_ref()?)?,
    );
    let waited_s = to.checked_sub(from)? as f64 / 1e6;
    Some((waited_s * 100.0 / seconds.max(PERIOD_S)).min(100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Item;
    use crate::model::Sample;

    #[test]
    fn two_seconds_worth_in_half_a_second_is_no_more_than_it_was() {
        let mut readings = Readings::default();
        for (ts_ns, total) in [(0, 0), (500_000_000, 1_000_000)] {
            readings.push(Item::Sample(Sample {
                ts_ns,
                system: Some(SystemMetrics {
                    psi_full_total_us: Some(total),
                    ..SystemMetrics::default()
                }),
                ..Sample::default()
            }));
        }
        let found = stalled(&readings, |system| system.psi_full_total_us);
        assert_eq!(found, Some(50.0));
        assert_eq!(stalled(&readings, |system| system.psi_some_total_us), None);
    }
}
