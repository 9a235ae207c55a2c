//! What is out of the ordinary: growth points and change points of series, swap that surges, grows or
//! thrashes, processes unlike the others.
//!
//! [`host::find`] puts it together: [`gather`] makes series on even steps ([`even`]) of the rows of a store,
//! [`season`] takes out what comes again, [`jump`] and [`ramps`] find where the rest changes its level, [`swap`] looks at the
//! traffic, [`outlier`] compares processes by [`dbscan`] with the [`iforest`] for their order. Pure and
//! deterministic; docs/accuracy.md says how often each is right.

pub mod dbscan;
pub mod even;
pub mod gather;
pub mod host;
pub mod iforest;
pub mod jump;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod lab_levels;
#[cfg(test)]
mod lab_swap;
#[cfg(test)]
mod lab_tests;
mod levels;
mod moved;
#[cfg(test)]
mod odd_tests;
#[cfg(test)]
mod oracle_tests;
pub mod outlier;
pub mod ramps;
pub mod random;
pub mod season;
pub mod swap;

use super::leak::robust::mad;
use super::leak::robust::median;
use super::leak::robust::whole;

/// Steps of the host's series, at most.
pub const SYSTEM_STEPS: usize = 6500;
/// Steps of a process, at most.
pub const PROCESS_STEPS: usize = 1500;
/// A jump is more than so many standard deviations of what the level usually does.
pub const JUMP_SIGMAS: f64 = 7.0;
/// A residual of STL is a peak above this.
pub const PEAK_SIGMAS: f64 = 6.0;
/// A process stands out above this.
pub const OUTLIER_SIGMAS: f64 = 4.0;

/// Changes of the host's memory below this are of no interest, KiB: 1 % of it.
#[must_use]
pub fn system_least(total_kb: f64) -> f64 {
    total_kb / 100.0
}

/// Usual distance of two samples, seconds (median); `None`: there are no two.
#[must_use]
pub fn interval_s(times_ms: &[i64]) -> Option<f64> {
    let ways = times_ms
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64 / 1000.0);
    let ways: Vec<f64> = ways.filter(|way| *way > 0.0).collect();
    (!ways.is_empty()).then(|| median(&ways))
}
