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
