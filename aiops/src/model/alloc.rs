//! Allocations, by where they were made: sampled ones with stacks, exact ones without.

use serde::Deserialize;
use serde::Serialize;

use super::Nanos;
use super::RawText;

/// What was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllocKind {
    /// Pages (`kmem/mm_page_alloc`): for processes, the page cache and the kernel itself.
    Pages,
    /// Memory of the kernel (`kmem/kmalloc`).
    Kmalloc,
    /// Objects of the kernel's slab caches (`kmem/kmem_cache_alloc`).
    Cache,
}

/// Where a user stack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StackEnd {
    /// There is none: a kernel thread.
    None,
    /// At its root: it is whole.
    Root,
    /// Where the copy of the stack ended: there may be more frames.
    Copy,
    /// At the most frames that are kept.
    Depth,
    /// In code without unwind tables and without frame pointers.
    Lost,
    /// The process was gone before its mappings were read.
    Gone,
    /// It was walked by frame pointers alone.
    FramePointers,
}

/// Allocations of one size at one place of one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AllocStack {
    /// Process id; 0: the kernel's idle task.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start_ticks: Option<u64>,
    /// Name of the thread.
    pub comm: RawText,
    /// What was allocated.
    pub kind: AllocKind,
    /// Size of each.
    pub bytes: u64,
    /// Kernel stack, innermost first.
    pub kernel: Vec<u64>,
    /// User stack, innermost first, each address inside of the instruction that it is about.
    pub user: Vec<u64>,
    /// Where the user stack ended.
    pub end: StackEnd,
}

/// What a process has taken, counted one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocCount {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start_ticks: Option<u64>,
    /// Name of the thread that came first.
    pub comm: RawText,
    /// Allocations since the start.
    pub allocations: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Allocations of some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocs {
    /// Its end.
    pub ts_ns: Nanos,
    /// Its length.
    pub span_ns: Nanos,
    /// Places and how many allocations were seen there: sampled ones, or all.
    pub stacks: Vec<(AllocStack, u64)>,
    /// Sampled pages that are followed: a number, when they were taken, where.
    #[serde(default)]
    pub taken: Vec<(u64, Nanos, AllocStack)>,
    /// Which of them were given back, and when.
    #[serde(default)]
    pub freed: Vec<(u64, Nanos)>,
    /// Exact counts since the observation began; they replace those before.
    pub counts: Vec<AllocCount>,
}
