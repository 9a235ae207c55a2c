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
    /// Which memory is judged: anon+swap, rss+swap, rss; absent for files, which do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure: Option<&'static str>,
    /// That memory at both ends of the last life; absent for files, where `rss` is it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judged: Option<Change>,
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
    /// Probability of as much of a trend by chance (Mann-Kendall, corrected for autocorrelation).
    pub trend_p: Option<f64>,
    /// When the course of the shape that fits best changes, by a step or a bend, RFC 3339.
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
    /// What else speaks for the verdict or against it; absent for files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// Data of `aiops.detect-memory-leak/1` where several are judged.
#[derive(Clone, Debug, Serialize)]
pub struct LeaksData {
    /// history, recording, live, files.
    pub source: &'static str,
    /// First sample of all, RFC 3339.
    pub start: Option<String>,
    /// Last one.
    pub end: Option<String>,
    /// Samples of the host.
    pub ticks: usize,
    /// Verdicts on processes and files.
    pub verdicts: Verdicts,
    /// Processes that ended before they had 100 samples, or are younger than a minute: they are not listed.
    pub too_brief: usize,
    /// Processes and files: leaks first, the fastest first. Only those that may leak have their `series`.
    pub processes: Vec<LeakData>,
    /// Memory cgroups, in the same order.
    pub cgroups: Vec<LeakData>,
    /// What to know about the samples.
    pub notes: Vec<Msg>,
    /// Rows of the text, 0: all.
    #[serde(skip)]
    pub top: usize,
}

/// How many of each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// Leaks.
    pub leak: usize,
    /// None.
    pub no_leak: usize,
    /// Not to be told.
    pub inconclusive: usize,
}

/// What else speaks for a verdict or against it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Evidence {
    /// Earlier lives of the same program, oldest first.
    pub earlier_lives: Vec<LifeSummary>,
    /// What earlier lives held at the age that this one has now; `null`: none was as old.
    pub same_age: Option<SameAge>,
    /// Others that run the same program at the same time; `null`: none.
    pub siblings: Option<Siblings>,
    /// The kind of memory that grew most: heap, anon (beside the heap, where that is known), file, shmem, swap; `null`: none grew.
    pub main_component: Option<&'static str>,
    /// What the program did before the window; `null`: not known, or the verdict did not ask.
    pub past: Option<Past>,
    /// Threads; `null`: not known.
    pub threads: Option<CountGrowth>,
    /// Open files; `null`: not known, as of all history.
    pub fds: Option<CountGrowth>,
    /// Connections: sockets among the open files; `null`: not known, as of all history.
    pub sockets: Option<CountGrowth>,
    /// What is open now; `null`: not asked, or it does not run here any more.
    pub open_now: Option<OpenNow>,
    /// CPU time per second, as a measure of load; `null`: not known.
    pub cpu: Option<CpuRelation>,
    /// Resident memory fell while swap grew: it is being pushed out, and grows where RSS does not show it.
    pub rss_falls_into_swap: bool,
    /// The same in words.
    pub lines: Vec<Msg>,
}

/// A life of the same program that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LifeSummary {
    /// Process id.
    pub pid: u32,
    /// When it began, RFC 3339.
    pub start: Option<String>,
    /// Its age at its last sample.
    pub age_s: f64,
    /// Where it ended: median of its last quarter.
    pub end_kb: u64,
    /// The most that it held.
    pub max_kb: u64,
    /// It had levelled off: its last quarter grew by less than 3 % (and 1 MiB).
    pub level: bool,
}

/// Whether a program rose as much before, and gave it back.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Past {
    /// Since when it is known, RFC 3339.
    pub start: Option<String>,
    /// Time of which its size is known, all lives together.
    pub seen_s: f64,
    /// Lives in that time, the earlier course of this one among them.
    pub lives: usize,
    /// The growth that is compared.
    pub rise_kb: u64,
    /// The time that it took.
    pub over_s: f64,
    /// Earlier windows of that length, one for each step.
    pub windows: usize,
    /// Of them those that rose at half the rate or faster.
    pub rising: usize,
    /// Rises of three quarters of that size or more, within that time.
    pub rises: usize,
    /// Of them given back while the process ran: most of it lost again.
    pub given_back: usize,
    /// Of them not given back for twice the time; the others ended with the process.
    pub kept: usize,
    /// The last one that was given back.
    pub last_given_back: Option<PastRise>,
    /// The most that it held.
    pub max_kb: u64,
    /// Nearly all earlier windows rose as this one.
    pub steady: bool,
    /// The verdict on the window alone, where the past changed it.
    pub verdict_alone: Option<&'static str>,
}

/// A rise that was given back.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PastRise {
    /// When it began, RFC 3339.
    pub start: Option<String>,
    /// When it was highest.
    pub top: Option<String>,
    /// When most of it was lost again.
    pub back: Option<String>,
    /// How much it rose.
    pub rise_kb: u64,
}

/// Sizes at the same age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SameAge {
    /// The age.
    pub age_s: f64,
    /// This life.
    pub now_kb: u64,
    /// Median of the earlier lives that were as old.
    pub earlier_kb: u64,
    /// How many those are.
    pub lives: usize,
}

/// Others that run the same program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Siblings {
    /// How many.
    pub count: usize,
    /// Of them leaking.
    pub leaking: usize,
    /// Of them not leaking.
    pub not_leaking: usize,
}

/// A count at both ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CountGrowth {
    /// At the beginning.
    pub first: u64,
    /// At the end.
    pub last: u64,
    /// Growth of memory for each one more; `null`: there are no more.
    pub kb_each: Option<f64>,
    /// How many more an hour; `null`: no time passed.
    pub per_hour: Option<f64>,
    /// Share of the variance of the memory that a straight line of the count explains; `null`: one of them does not move.
    pub r2: Option<f64>,
}

/// What a process has open at the moment of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OpenNow {
    /// File descriptors.
    pub fds: Option<u64>,
    /// Of them sockets.
    pub sockets: Option<u64>,
    /// Resident memory of the heap (brk).
    pub heap_kb: Option<u64>,
}

/// What CPU time has to do with memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CpuRelation {
    /// Correlation of memory with CPU time per second, −1 to 1.
    pub correlation: f64,
    /// CPU time per second alone explains the growth.
    pub explains: bool,
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
    /// When it started, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// How old it was at its last sample, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<f64>,
    /// Whether it was there at the last sample of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alive: Option<bool>,
    /// The program's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Arguments, with blanks between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// User.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Memory cgroup; without a pid the verdict is about all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// `runtime:id` of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// The samples.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LeakWindow {
    /// history, recording, live; absent for files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
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
    /// Of the heap (brk), a part of `anon_kb`.
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
    /// Path of the cgroup that has the limit: its own or one above; `null`: it is no cgroup's.
    pub limit_cgroup: Option<String>,
    /// All leaks towards this limit together, where others leak as well: `hours` are theirs.
    pub total_rate_mib_per_hour: Option<f64>,
    /// The others, the fastest first.
    pub competing: Vec<Competitor>,
}

/// Someone else who leaks towards the same limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Competitor {
    /// Process id; `null`: a cgroup.
    pub pid: Option<u32>,
    /// Name.
    pub comm: Option<String>,
    /// How fast it grows.
    pub rate_mib_per_hour: f64,
}

/// A size at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Seconds since 1970.
    pub ts: f64,
    /// Mean size.
    pub kb: f64,
}
