//! What the daemon says of itself: the data of `monitor status` and of its metrics.

use std::collections::BTreeMap;

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

/// How the daemon is doing: what it writes of itself with its samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorState {
    /// Version of aiops that runs.
    pub version: String,
    /// Identifies the boot; with the start, who the process is.
    pub boot_id: Option<String>,
    /// When it started, clock ticks since boot.
    pub start_ticks: Option<u64>,
    /// File of settings, where one was read.
    pub config: Option<String>,
    /// Between samples, without pressure, s.
    pub interval_s: f64,
    /// Between samples, now, s.
    pub interval_now_s: f64,
    /// Why it samples faster now: psi, available, swap-in.
    pub pressure: Option<String>,
    /// Most of one CPU that reading PSS may take, percent.
    pub smaps_budget_percent: f64,
    /// How long history is kept.
    pub keep: String,
    /// Most bytes of it; `None`: no bound.
    pub max_size: Option<String>,
    /// Where metrics are served.
    pub metrics: Option<String>,
    /// Time of the last sample, RFC 3339.
    pub last_tick_at: Option<String>,
    /// The same, ns since boot without suspend.
    pub last_tick_mono_ns: u64,
    /// Processes in it.
    pub processes: u64,
    /// Memory cgroups in it.
    pub cgroups: u64,
    /// Hooks that are attached; 0: OOM kills are counted only.
    pub hooks_attached: u64,
    /// Hooks that there are.
    pub hooks: u64,
    /// Why hooks do not run.
    pub hooks_error: Option<String>,
    /// OOM kills since the start, by what was short: memcg, global, cpuset; unknown: counted only.
    pub oom_kills: BTreeMap<String, u64>,
    /// Why the last compaction failed.
    pub compaction_error: Option<String>,
    /// Its cost.
    pub own: OwnCost,
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoreState {
    /// Where it is.
    pub folder: String,
    /// First moment, RFC 3339.
    pub from: Option<String>,
    /// Last moment, RFC 3339; that of the last sample while a daemon writes it.
    pub to: Option<String>,
    /// Bytes of everything in its folder.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Logs: an hour each, until they are a segment.
    pub logs: u64,
}

/// Data of `aiops.monitor-status/1`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MonitorData {
    /// Whether a daemon writes this store now.
    pub running: bool,
    /// Age of its last sample, s.
    pub last_tick_age_s: Option<f64>,
    /// How it is doing, or was when it was killed; `None`: it has ended, or there never was one.
    pub state: Option<MonitorState>,
    /// The store; `None`: it cannot be read.
    pub store: Option<StoreState>,
}
