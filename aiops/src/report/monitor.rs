//! What the daemon says of itself: the data of `monitor status` and of its metrics.

use serde::Deserialize;
use serde::Serialize;

/// What the daemon costs, measured by itself. Unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnCost {
    /// Its process id.
    pub pid: u32,
    /// Since when it runs, RFC 3339.
    pub started_at: Option<String>,
    /// For how long, s.
    pub uptime_s: f64,
    /// CPU time since the start (user and system, with children that ended), s.
    pub cpu_s: f64,
    /// Share of one CPU since the start, percent.
    pub cpu_percent: Option<f64>,
    /// Share of one CPU over the last ten minutes, percent.
    pub cpu_percent_10m: Option<f64>,
    /// Resident memory (/proc/self/status VmRSS).
    pub rss_kb: Option<u64>,
    /// Highest resident memory (VmHWM).
    pub rss_peak_kb: Option<u64>,
    /// Bytes that it had written to a device (/proc/self/io `write_bytes`).
    pub written_bytes: Option<u64>,
    /// Samples taken.
    pub ticks: u64,
    /// How long the last sample took, ms.
    pub tick_ms: Option<f64>,
    /// How long the longest took, ms.
    pub tick_ms_max: Option<f64>,
    /// Moments at which a sample was due and none was taken.
    pub missed_ticks: u64,
    /// Samples that could not be written.
    pub lost_ticks: u64,
    /// Why the store cannot be written now.
    pub store_error: Option<String>,
}
