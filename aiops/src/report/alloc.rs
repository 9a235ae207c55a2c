//! Who allocates, and which code: the data of `trace alloc` and its replay.

use serde::Serialize;

use super::Msg;
use super::oom::FrameInfo;

/// Data of `aiops.trace-alloc/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AllocData {
    /// Beginning, RFC 3339.
    pub started_at: Option<String>,
    /// Length of the observation.
    pub duration_s: Option<f64>,
    /// sample, whole, exact.
    pub mode: &'static str,
    /// Pages of all processes that were looked at.
    pub total: Amount,
    /// Processes, the largest first.
    pub processes: Vec<ProcessAllocs>,
    /// Pages by place, the largest first.
    pub stacks: Vec<StackAllocs>,
    /// Memory of the kernel's own allocators by place (`--kernel`): part of the pages above, not beside them.
    pub kernel: Vec<StackAllocs>,
    /// What to know about it.
    pub notes: Vec<Msg>,
    /// Rows of the text; 0: all.
    #[serde(skip)]
    pub top: usize,
}

/// How much.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Amount {
    /// Bytes allocated: estimated where samples were taken, else counted.
    pub bytes: f64,
    /// Standard error of `bytes`; 0: it was counted.
    pub bytes_se: f64,
    /// Bytes in a second.
    pub bytes_per_s: Option<f64>,
    /// Allocations, estimated or counted.
    pub allocations: f64,
    /// Part of the pages of all.
    pub share: Option<f64>,
    /// Allocations that were looked at.
    pub samples: u64,
}

/// A process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessAllocs {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start_ticks: Option<u64>,
    /// Name.
    pub comm: String,
    /// Arguments.
    pub cmdline: Option<String>,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// Its pages.
    #[serde(flatten)]
    pub amount: Amount,
}

/// A place: stacks of the same functions together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StackAllocs {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start_ticks: Option<u64>,
    /// Name of the thread.
    pub comm: String,
    /// pages, kmalloc, cache.
    pub kind: &'static str,
    /// What the kernel took it for: anonymous, page-cache, shared-memory, page-table, slab, kernel-stack,
    /// swap-in, network, pipe, vmalloc, interrupt; `null`: its stack does not tell.
    pub purpose: Option<&'static str>,
    /// How much.
    #[serde(flatten)]
    pub amount: Amount,
    /// User stack, innermost first; empty for the kernel's own threads and in interrupts.
    pub user: Vec<FrameInfo>,
    /// Where the user stack ended: root, copy, depth, lost, gone, frame_pointers, none.
    pub user_end: &'static str,
    /// Kernel stack, innermost first.
    pub kernel: Vec<FrameInfo>,
}

/// Data of `aiops.trace-leak/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HeldData {
    /// Beginning, RFC 3339.
    pub started_at: Option<String>,
    /// Length of the observation.
    pub duration_s: Option<f64>,
    /// Memory younger than this is left out.
    pub min_age_s: u64,
    /// Bytes taken since the beginning, older than that, and not given back: an estimate.
    pub bytes: f64,
    /// Standard error of `bytes`.
    pub bytes_se: f64,
    /// By place, the largest first.
    pub stacks: Vec<StackHeld>,
    /// What to know about it.
    pub notes: Vec<Msg>,
    /// Rows of the text; 0: all.
    #[serde(skip)]
    pub top: usize,
}

/// What a place holds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StackHeld {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start_ticks: Option<u64>,
    /// Name of the thread.
    pub comm: String,
    /// As in [`StackAllocs`].
    pub purpose: Option<&'static str>,
    /// Held at the end.
    #[serde(flatten)]
    pub held: Amount,
    /// Taken since the beginning, given back or not.
    pub taken_bytes: f64,
    /// Age of the oldest of it.
    pub oldest_s: Option<f64>,
    /// Half of it is older.
    pub median_age_s: Option<f64>,
    /// leak, no-leak, inconclusive; `null`: too little to say, or a cache of the kernel.
    pub verdict: Option<&'static str>,
    /// How it was judged.
    pub growth: Option<Rate>,
    /// User stack, innermost first.
    pub user: Vec<FrameInfo>,
    /// As in [`StackAllocs`].
    pub user_end: &'static str,
    /// Kernel stack, innermost first.
    pub kernel: Vec<FrameInfo>,
}

/// How what is held grows.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rate {
    /// As in [`StackHeld`].
    #[serde(skip)]
    pub verdict: &'static str,
    /// Probability of a leak.
    pub leak_probability: f64,
    /// MiB an hour; `null`: nothing to say.
    pub rate_mib_per_hour: Option<f64>,
    /// Its interval of 95 %, with the error of sampling.
    pub rate_interval: Option<(f64, f64)>,
}
