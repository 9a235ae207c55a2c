//! Which limit is met first, when, and who dies then: the data of `detect oom-risk`. MiB is 2^20 bytes.

use serde::Serialize;

use super::Msg;

/// Data of `aiops.detect-oom-risk/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RiskData {
    /// The samples that the rates come from.
    pub window: RiskWindow,
    /// The host's own limit: RAM and swap.
    pub host: HostRoom,
    /// Soonest first; then those without a time, nearest to their limit first.
    pub risks: Vec<Risk>,
    /// What to know about the figures.
    pub notes: Vec<Msg>,
    /// How the text shows them.
    #[serde(skip)]
    pub top: usize,
}

/// The samples that the rates come from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RiskWindow {
    /// store, live, recording.
    pub source: &'static str,
    /// First sample, RFC 3339.
    pub start: Option<String>,
    /// Last sample.
    pub end: Option<String>,
    /// When the limits were read, RFC 3339: times are counted from here.
    pub now: Option<String>,
    /// Processes that were judged.
    pub processes: usize,
    /// Memory cgroups that were judged.
    pub cgroups: usize,
    /// Of both, those that leak.
    pub leaks: usize,
    /// Of both, those that cannot be decided.
    pub undecided: usize,
}

/// The host's own limit.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HostRoom {
    /// MemTotal and SwapTotal.
    pub limit_bytes: Option<u64>,
    /// MemTotal − MemAvailable, and swap in use.
    pub used_bytes: Option<u64>,
    /// MemAvailable and free swap.
    pub left_bytes: Option<u64>,
    /// What all leaks together take.
    pub rate_mib_per_hour: f64,
    /// 95 % interval of it.
    pub rate_interval: [f64; 2],
    /// Some task waited for memory: 10 s average, percent.
    pub psi_some_avg10_pct: Option<f64>,
    /// All tasks waited for memory: 10 s average, percent.
    pub psi_full_avg10_pct: Option<f64>,
}

/// One process, cgroup or host on its way to a limit.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Risk {
    /// process, cgroup, host.
    pub kind: &'static str,
    /// growth: it leaks; undecided: it grows, and may level off; near-limit: it does not leak, but stands near.
    pub reason: &'static str,
    /// Process id.
    pub pid: Option<u32>,
    /// Start, clock ticks since boot.
    pub start: Option<u64>,
    /// Name.
    pub comm: Option<String>,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// Size of the process, swap included; of a cgroup what reclaim cannot take.
    pub own_bytes: Option<u64>,
    /// Growth now; `null`: it does not leak.
    pub rate_mib_per_hour: Option<f64>,
    /// 95 % interval of it.
    pub rate_interval: Option<[f64; 2]>,
    /// Probability that it leaks; of several that one of them does.
    pub leak_probability: Option<f64>,
    /// For how long its growth was seen, hours; `null`: of several.
    pub seen_hours: Option<f64>,
    /// Since when it leaks, RFC 3339.
    pub onset: Option<String>,
    /// cgroup, host, rlimit, commit: the limit that is met first.
    pub limit_source: Option<&'static str>,
    /// Path of the cgroup whose limit it is.
    pub limit_cgroup: Option<String>,
    /// What holds it: `memory.max`, `RLIMIT_AS`.
    pub limit_name: Option<&'static str>,
    /// oom-kill, allocation-fails, throttled.
    pub outcome: Option<&'static str>,
    /// The limit.
    pub limit_bytes: Option<u64>,
    /// What counts towards it now, of everybody, without what reclaim can take.
    pub used_bytes: Option<u64>,
    /// What is left, with the swap that may be used.
    pub left_bytes: Option<u64>,
    /// Use of what there is room for, 0 to 1.
    pub used_share: Option<f64>,
    /// When it is met, RFC 3339; `null` without growth, and beyond 10 years.
    pub at: Option<String>,
    /// From now; `null`: nothing grows towards it.
    pub hours: Option<f64>,
    /// Soonest and latest (95 %), hours; `null` at the end: perhaps never.
    pub interval: Option<(f64, Option<f64>)>,
    /// What all that grows towards the limit takes together.
    pub total_rate_mib_per_hour: Option<f64>,
    /// Who else eats the same memory, most first.
    pub competing: Vec<Competitor>,
    /// Who the kernel would most likely kill; `null`: nobody, or not known.
    pub victim: Option<RiskVictim>,
    /// memory.high on the way there, from which on it is slowed down.
    pub early_warning: Option<EarlyWarning>,
    /// Some task of it waited for memory: 10 s average, percent.
    pub psi_some_avg10_pct: Option<f64>,
}

/// Who else eats the same memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Competitor {
    /// process, cgroup (besides its leaking processes), host (besides all others).
    pub kind: &'static str,
    /// Process id.
    pub pid: Option<u32>,
    /// Name.
    pub comm: Option<String>,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// Growth now.
    pub rate_mib_per_hour: f64,
    /// Of the growth towards this limit, 0 to 1.
    pub share: f64,
}

/// Who the kernel would most likely kill.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RiskVictim {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Its size at that time, swap included.
    pub bytes: u64,
    /// Resident, swap and page tables in pages, and oom_score_adj × total / 1000, at that time.
    pub badness_pages: i64,
    /// Badness in thousandths of the memory that counts.
    pub score: i64,
    /// It is one of those that leak.
    pub leaks: bool,
    /// Processes that die with it (memory.oom.group).
    pub with: usize,
}

/// memory.high on the way to a limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EarlyWarning {
    /// Path of the cgroup.
    pub cgroup: Option<String>,
    /// memory.high.
    pub limit_bytes: u64,
    /// When it is met, RFC 3339.
    pub at: Option<String>,
    /// From now.
    pub hours: f64,
}
