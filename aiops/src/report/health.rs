//! How well the host's memory does: the data of `health memory`.

use serde::Serialize;

use super::Msg;
use super::processes::Limits;

/// What the text view shows; JSON is whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct HealthView {
    /// Only score, level and factors.
    pub brief: bool,
    /// Rows of a list.
    pub top: usize,
}

/// Data of `aiops.health-memory/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HealthData {
    /// 0 (worst) to 100, one decimal; `null` when neither usage nor pressure is known, or less than half of
    /// the weight of what there is on this host.
    pub score: Option<f64>,
    /// excellent, good, fair, poor, critical; `unknown` without a score.
    pub level: &'static str,
    /// Before caps.
    pub uncapped_score: Option<f64>,
    /// The moment, RFC 3339.
    pub at: Option<String>,
    /// Between the two readings that rates were made from; `null`: one reading, no rates.
    pub interval_s: Option<f64>,
    /// What the score is made of, what lowers it most first.
    pub factors: Vec<Factor>,
    /// Ids of the factors that lower the score, most first.
    pub top_factors: Vec<&'static str>,
    /// Upper bounds that a single figure sets.
    pub caps: Vec<Cap>,
    /// Who is behind the factors that lower the score, most first.
    pub causes: Vec<Cause>,
    /// Every process, largest resident memory first.
    pub processes: Vec<HealthProcess>,
    /// Memory cgroups with a limit or with pressure of their own, nearest to the limit first.
    pub cgroups: Vec<HealthCgroup>,
    /// What to know about how the score came about.
    pub notes: Vec<Msg>,
    /// For the text.
    #[serde(skip)]
    pub view: HealthView,
}

/// One part of the score.
#[derive(Clone, Debug, Serialize)]
pub struct Factor {
    /// psi, usage, swap, cache, fragmentation.
    pub id: &'static str,
    /// 0 to 100; `null` when nothing of it is known.
    pub score: Option<f64>,
    /// Its weight when every part is known.
    pub weight: f64,
    /// Its weight now; 0 when it is missing.
    pub effective_weight: f64,
    /// Points that it takes from the score before caps.
    pub lost_points: f64,
    /// The figure that decides its score: one of `inputs`.
    pub value: Option<f64>,
    /// Unit of `value`.
    pub unit: Option<&'static str>,
    /// Which of `inputs` decides.
    pub decided_by: Option<&'static str>,
    /// The figures that it is made from.
    pub inputs: Vec<Input>,
    /// Scores at some values of the deciding figure.
    pub thresholds: Msg,
    /// Files that the figures come from.
    pub source: &'static str,
    /// What it tells.
    pub explanation: Msg,
    /// Why it is missing; `null` when it is there.
    pub missing: Option<Msg>,
}

/// A figure that a factor is made from.
#[derive(Clone, Debug, Serialize)]
pub struct Input {
    /// Its name.
    pub id: &'static str,
    /// The figure.
    pub value: Option<f64>,
    /// percent, MiB/s, pages/s, events/s.
    pub unit: &'static str,
    /// 0 to 100, by this figure alone.
    pub score: Option<f64>,
    /// Scores at some values.
    pub thresholds: Msg,
    /// File and key.
    pub source: &'static str,
    /// It is an estimate, for the kernel does not tell it.
    pub estimated: bool,
}

/// An upper bound of the score.
#[derive(Clone, Debug, Serialize)]
pub struct Cap {
    /// psi-full, mem-available, thrash.
    pub id: &'static str,
    /// The score is not above this.
    pub at_most: f64,
    /// Whether it lowered the score.
    pub applied: bool,
    /// The figure that set it.
    pub value: f64,
    /// Unit of the figure.
    pub unit: &'static str,
    /// Why.
    pub reason: Msg,
}

/// Somebody behind a factor.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// The factor.
    pub factor: &'static str,
    /// process or cgroup.
    pub kind: &'static str,
    /// Name of the process, or path of the cgroup.
    pub name: String,
    /// Process id.
    pub pid: Option<u32>,
    /// Start in clock ticks since boot.
    pub start: Option<u64>,
    /// What of: `rss_kb`, `rss_change_kb`, `swap_kb`, `swap_change_kb`, `majflt_per_s`, `psi_some_avg10_pct`,
    /// `limit_hits_per_s`, `refaults_per_s`.
    pub measure: &'static str,
    /// How much.
    pub value: f64,
    /// Of `share_of`, percent; `null` where figures do not add up.
    pub share_pct: Option<f64>,
    /// What `share_pct` is of: `mem_total`, `swap_used` (SwapTotal − SwapFree), `processes` (the sum of the
    /// same figure over all processes).
    pub share_of: Option<&'static str>,
}

/// A process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HealthProcess {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start: u64,
    /// Name.
    pub comm: String,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// `runtime:id` of the container.
    pub container: Option<String>,
    /// Resident.
    pub rss_kb: Option<u64>,
    /// Of MemTotal, percent.
    pub rss_share_pct: Option<f64>,
    /// Grown over the interval.
    pub rss_change_kb: Option<i64>,
    /// Swapped out.
    pub swap_kb: Option<u64>,
    /// Grown over the interval.
    pub swap_change_kb: Option<i64>,
    /// Faults that needed a disk, over the interval.
    pub majflt_per_s: Option<f64>,
}

/// A memory cgroup.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HealthCgroup {
    /// Limits and use.
    pub limits: Limits,
    /// Use without the file pages that reclaim takes first.
    pub working_set_kb: Option<u64>,
    /// `working_set_kb` of the limit, percent.
    pub working_set_pct: Option<f64>,
    /// Some task of it waited for memory: 10 s average, percent (cgroup v2).
    pub psi_some_avg10_pct: Option<f64>,
    /// All of its tasks waited: 10 s average, percent (cgroup v2).
    pub psi_full_avg10_pct: Option<f64>,
    /// Times that its limit was met, over the interval.
    pub limit_hits_per_s: Option<f64>,
}
