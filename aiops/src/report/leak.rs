//! Whether a process leaks: the data of `detect memory-leak`. MiB is 2^20 bytes.

use serde::Serialize;

use super::Msg;

/// Data of `aiops.detect-memory-leak/1`.
#[derive(Clone, Debug, Serialize)]
pub struct LeakData {
    /// Whose memory it is.
    pub process: LeakProcess,
    /// The samples.
    pub window: LeakWindow,
    /// How it was judged.
    pub algorithm: &'static str,
    /// Resident memory at both ends.
    pub rss: Change,
    /// Virtual memory at both ends; `null`: not known.
    pub vms: Option<Change>,
    /// MemAvailable of the host at the end.
    pub available_kb: Option<u64>,
    /// leak, no-leak, inconclusive.
    pub verdict: &'static str,
    /// 0 to 1: decides the verdict.
    pub leak_probability: f64,
    /// Probability that the verdict is right.
    pub confidence: f64,
    /// Name of the shape that fits best.
    pub shape: Option<&'static str>,
    /// Why, in one sentence.
    pub reason: Msg,
    /// What else it could be, and whether that is ruled out.
    pub alternatives: Vec<Alternative>,
    /// Growth now; `null`: nothing to say.
    pub rate_mib_per_hour: Option<f64>,
    /// 95 % interval of it.
    pub rate_interval: Option<[f64; 2]>,
    /// Since when it leaks, RFC 3339.
    pub onset: Option<String>,
    /// Share of the variance that the shape explains.
    pub r2: Option<f64>,
    /// Share of the variance of the last life that a straight line explains.
    pub linear_r2: Option<f64>,
    /// When its course changed, RFC 3339.
    pub change_points: Vec<String>,
    /// Growth by kind of memory; `null`: not known.
    pub components: Option<Components>,
    /// What load has to do with it.
    pub load: LoadRelation,
    /// A slower leak would not be seen.
    pub detection_limit_mib_per_hour: Option<f64>,
    /// When the limit is met; `null`: no leak, or no limit is known.
    pub oom: Option<Oom>,
    /// Garbage collections were found, which give back this much each; `null`: none.
    pub collections_kb: Option<f64>,
    /// Lives of the process in the window: restarts + 1.
    pub lives: usize,
    /// The verdict comes from all lives over their age, for the last one is too young.
    pub from_all_lives: bool,
    /// Mean size by time, at most 240 points.
    pub series: Vec<Point>,
    /// The shape that fits best, at most 240 points; empty where lives are compared by age.
    pub fitted: Vec<Point>,
    /// What to know about the samples.
    pub notes: Vec<Msg>,
}

/// Something else that growth could be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    /// level, warm-up, step, daily-cycle, growth, load, gc.
    pub id: &'static str,
    /// The figure speaks against it; `null`: not known.
    pub ruled_out: Option<bool>,
    /// BIC of its best shape less BIC of the verdict's; `null`: not told by BIC.
    pub bic_margin: Option<f64>,
    /// Share of the variance that it explains alone; `null`: not told by that.
    pub r2: Option<f64>,
    /// The same in words.
    pub text: Msg,
}

/// Whose memory it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LeakProcess {
    /// Process id.
    pub pid: Option<u32>,
    /// Name.
    pub comm: Option<String>,
    /// jvm, python, go, node, jemalloc, tcmalloc, glibc; `null`: not known.
    pub runtime: Option<&'static str>,
    /// The file, for a series from a file.
    pub input: Option<String>,
}

/// The samples.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LeakWindow {
    /// First sample, RFC 3339.
    pub start: Option<String>,
    /// Last sample.
    pub end: Option<String>,
    /// How many.
    pub samples: usize,
    /// Rows without a size.
    pub missing: usize,
    /// Usual distance of two samples (median).
    pub interval_s: f64,
    /// Steps back of the clock.
    pub clock_steps: usize,
    /// Samples of the last life of the process.
    pub last_life_samples: usize,
    /// Length of the last life in the window.
    pub last_life_s: f64,
}

/// A size at both ends of the window.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Change {
    /// At the first sample.
    pub first_kb: u64,
    /// At the last one.
    pub last_kb: u64,
    /// From first to last; `null`: the first is 0.
    pub change_pct: Option<f64>,
}

/// Growth by kind of memory.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Components {
    /// Of the heap.
    pub heap_kb: Option<i64>,
    /// Anonymous.
    pub anon_kb: Option<i64>,
    /// Of files.
    pub file_kb: Option<i64>,
    /// Shared.
    pub shmem_kb: Option<i64>,
    /// Swapped out.
    pub swap_kb: Option<i64>,
}

/// What load has to do with the memory.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LoadRelation {
    /// A load was given.
    pub known: bool,
    /// Load alone explains the growth; `null`: not known.
    pub explains: Option<bool>,
    /// R² of load alone, where it explains the growth.
    pub r2: Option<f64>,
}

/// When a limit is met.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Oom {
    /// RFC 3339; `null` beyond 10 years.
    pub at: Option<String>,
    /// From the last sample.
    pub hours: f64,
    /// Soonest and latest, hours; `null`: perhaps never.
    pub interval: (f64, Option<f64>),
    /// The limit.
    pub limit_bytes: u64,
    /// option, cgroup, host, rlimit.
    pub limit_source: &'static str,
}

/// A size at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Seconds since 1970.
    pub ts: f64,
    /// Mean size.
    pub kb: f64,
}
