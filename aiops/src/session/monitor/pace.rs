//! How often samples are taken: at the interval, and every second while memory is short.
//!
//! | sign | fast from | slow again below |
//! |---|---|---|
//! | PSI memory `some avg10` | 10 % | 5 % |
//! | MemAvailable of MemTotal | less than 5 % | more than 8 % |
//! | pages swapped in, per second | 256 | 64 |
//!
//! Two thresholds and a calm minute keep it from changing its mind all the time.

use std::time::Duration;

use crate::model::Nanos;
use crate::model::SystemMetrics;

/// Between samples under pressure.
pub(super) const FAST: Duration = Duration::from_secs(1);
/// How long every sign must be gone.
const CALM_NS: Nanos = 60_000_000_000;

/// PSI some avg10, hundredths of a percent.
const PSI: (u64, u64) = (1000, 500);
/// MemAvailable, percent of MemTotal.
const AVAILABLE: (u64, u64) = (5, 8);
/// Pages swapped in, per second.
const SWAP_IN: (u64, u64) = (256, 64);

/// What the samples say about pressure.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The sign that was seen last, while it counts.
    pressed: Option<&'static str>,
    /// Since when no sign is seen.
    calm_since: Option<Nanos>,
    /// Pages swapped in, and when that was read.
    swapped: Option<(Nanos, u64)>,
}

impl Pace {
    /// Takes the next figures; whether it begins or ends to be fast with them.
    pub(super) fn push(&mut self, ts: Nanos, system: &SystemMetrics) -> bool {
        let before = self.pressed.is_some();
        let rate = self.swap_in(ts, system.pswpin);
        if let Some(sign) = sign(system, rate, before) {
            self.pressed = Some(sign);
            self.calm_since = None;
        } else if before {
            let since = *self.calm_since.get_or_insert(ts);
            if ts.saturating_sub(since) >= CALM_NS {
                self.pressed = None;
                self.calm_since = None;
            }
        }
        self.pressed.is_some() != before
    }

    /// Pages per second since the last figures.
    fn swap_in(&mut self, ts: Nanos, pages: Option<u64>) -> Option<u64> {
        let now = pages?;
        let (at, before) = self.swapped.replace((ts, now))?;
        let ms = ts.checked_sub(at)? / 1_000_000;
        (now.checked_sub(before)?.saturating_mul(1000)).checked_div(ms)
    }

    /// The sign of pressure, while it counts.
    pub(super) fn pressed(&self) -> Option<&'static str> {
        self.pressed
    }

    /// Between samples.
    pub(super) fn interval(&self, ordinary: Duration) -> Duration {
        match self.pressed {
            Some(_) => ordinary.min(FAST),
            None => ordinary,
        }
    }
}

/// The first sign that is there; `stays`: it was fast before, and the lower thresholds count.
fn sign(system: &SystemMetrics, swap_in: Option<u64>, stays: bool) -> Option<&'static str> {
    let pick = |pair: (u64, u64)| if stays { pair.1 } else { pair.0 };
    let share = system
        .mem_available_kb
        .zip(system.mem_total_kb)
        .and_then(|(available, total)| available.saturating_mul(100).checked_div(total));
    if system.psi_some_avg10 >= Some(pick(PSI)) {
        return Some("psi");
    }
    if share.is_some_and(|share| share < pick(AVAILABLE)) {
        return Some("available");
    }
    (swap_in >= Some(pick(SWAP_IN))).then_some("swap-in")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn host(psi: u64, available: u64, pswpin: u64) -> SystemMetrics {
        SystemMetrics {
            mem_total_kb: Some(1000),
            mem_available_kb: Some(available),
            psi_some_avg10: Some(psi),
            pswpin: Some(pswpin),
            ..SystemMetrics::default()
        }
    }

    #[test]
    fn each_sign_makes_it_fast() {
        for (one, name) in [
            (host(1000, 500, 0), "psi"),
            (host(0, 49, 0), "available"),
            (host(0, 500, 1280), "swap-in"),
        ] {
            let mut pace = Pace::default();
            assert!(!pace.push(0, &host(0, 500, 0)));
            assert!(pace.push(5 * SECOND, &one), "{name}");
            assert_eq!(pace.pressed(), Some(name));
            assert_eq!(pace.interval(Duration::from_secs(5)), FAST);
            let quick = Duration::from_millis(200);
            assert_eq!(pace.interval(quick), quick, "never slower than asked for");
        }
    }

    #[test]
    fn a_calm_minute_ends_it_and_less_does_not() {
        let mut pace = Pace::default();
        assert!(pace.push(0, &host(1000, 500, 0)));
        // Between the thresholds it is not calm.
        assert!(!pace.push(SECOND, &host(600, 500, 0)));
        for second in 2..62 {
            assert!(!pace.push(second * SECOND, &host(400, 500, 0)), "{second}");
        }
        assert!(pace.push(62 * SECOND, &host(400, 500, 0)));
        assert_eq!(pace.pressed(), None);
        assert!(!pace.push(63 * SECOND, &host(999, 500, 0)));
    }

    #[test]
    fn unknown_figures_and_a_count_that_went_back_are_no_pressure() {
        let mut pace = Pace::default();
        assert!(!pace.push(0, &SystemMetrics::default()));
        assert!(!pace.push(SECOND, &host(0, 500, 9000)));
        assert!(!pace.push(2 * SECOND, &host(0, 500, 10)));
    }
}
