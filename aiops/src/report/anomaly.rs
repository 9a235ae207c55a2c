//! What was out of the ordinary: the data of `detect anomaly`.

use serde::Serialize;

use super::Msg;

/// Data of `aiops.detect-anomaly/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AnomalyData {
    /// What was looked at: all, system, chosen.
    pub scope: &'static str,
    /// Where the samples are from: history, recording.
    pub source: &'static str,
    /// The samples.
    pub window: AnomalyWindow,
    /// The rarest first.
    pub anomalies: Vec<Anomaly>,
    /// What was looked at where something was found: for a drawing.
    pub series: Vec<AnomalySeries>,
    /// What to know about the history.
    pub notes: Vec<Msg>,
    /// Rows of the text; 0: all.
    #[serde(skip)]
    pub top: usize,
}

/// The samples.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AnomalyWindow {
    /// First sample in which anomalies are told, RFC 3339.
    pub start: Option<String>,
    /// Last sample.
    pub end: Option<String>,
    /// Samples of the host in it.
    pub samples: usize,
    /// Usual distance of two samples (median).
    pub interval_s: Option<f64>,
    /// How much history of the host says what is usual: it may begin before the window.
    pub baseline_s: f64,
    /// What comes again every day was taken out of the host's memory; `null`: there is not enough of it.
    pub seasonal: Option<bool>,
    /// A change of the host's level must last so long to be seen; `null`: there are too few samples for any.
    pub level_s: Option<f64>,
    /// Lives of processes that were looked at.
    pub processes: usize,
}

/// Something out of the ordinary.
#[derive(Clone, Debug, Serialize)]
pub struct Anomaly {
    /// growth-point, residual, swap-surge, swap-sustained, swap-thrash, outlier-process, change-point.
    pub kind: &'static str,
    /// Whose.
    pub subject: Subject,
    /// When it began, RFC 3339.
    pub at: String,
    /// When it was over; `null`: it was not, or it has no end.
    pub until: Option<String>,
    /// How large, in `unit`.
    pub value: f64,
    /// kb, kb_per_s, kb_per_h, per_s.
    pub unit: &'static str,
    /// How much more than usual, in standard deviations; `null`: judged otherwise.
    pub size_sigmas: Option<f64>,
    /// How rare.
    pub rarity: Rarity,
    /// The named reason: level, residual, traffic, growth, refault, rss, swap, faults.
    pub reason: &'static str,
    /// The same in a sentence.
    pub why: Msg,
    /// STL residual at a growth point, in standard deviations.
    pub residual_sigmas: Option<f64>,
    /// Rank by the isolation forest, 0 to 1, of an outlier.
    pub score: Option<f64>,
    /// What else moved at that time, the most first.
    pub also_moved: Vec<Moved>,
}

/// Whose memory it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// system-used, system-swap, process, cgroup.
    pub what: &'static str,
    /// Process id.
    pub pid: Option<u32>,
    /// Its start, clock ticks since boot.
    pub start: Option<u64>,
    /// Its name.
    pub comm: Option<String>,
    /// Path of a cgroup.
    pub cgroup: Option<String>,
    /// Of a cgroup: anon+swap (what its processes hold), usage (with page cache).
    pub measure: Option<&'static str>,
}

/// A series in which something was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnomalySeries {
    /// Whose.
    pub subject: Subject,
    /// kb, or kb_per_s: swap traffic.
    pub unit: &'static str,
    /// In order of time, the highest value of each stretch; stretches without a sample have none.
    pub points: Vec<AnomalyPoint>,
}

/// A point of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AnomalyPoint {
    /// Seconds since 1970: beginning of the stretch.
    pub ts: f64,
    /// In the unit of the series.
    pub value: f64,
}

/// How rare something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rarity {
    /// How often a day the like is seen where nothing is the matter.
    pub expected_per_day: Option<f64>,
    /// Probability that it is nothing.
    pub p: Option<f64>,
}

/// What else moved.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// Whose.
    pub subject: Subject,
    /// How much, from the window before to the window after.
    pub change_kb: f64,
    /// The same in its own standard deviations; `null`: not known.
    pub size_sigmas: Option<f64>,
    /// moved, started, ended.
    pub status: &'static str,
}
