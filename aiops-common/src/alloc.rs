//! The allocation family: who takes pages from the kernel, sampled by bytes.

use crate::{Header, Stack, Task};

/// `Header::kind` of a [`Sample`].
pub const KIND_SAMPLE: u16 = 32;
/// `Header::kind` of a [`Freed`].
pub const KIND_FREED: u16 = 33;

/// Most bytes of a user stack that are copied.
pub const COPY: usize = 8192;

/// What was allocated: pages (`mm_page_alloc`).
pub const WHAT_PAGES: u32 = 1;
/// `kmem/kmalloc`.
pub const WHAT_KMALLOC: u32 = 2;
/// `kmem/kmem_cache_alloc`.
pub const WHAT_CACHE: u32 = 3;

/// One allocation that was chosen.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Sample {
    /// The beginning of every record.
    pub header: Header,
    /// Who allocated.
    pub task: Task,
    /// Size of the allocation.
    pub bytes: u64,
    /// `task_struct.mm`: tells address spaces of one process apart. It leaves no process that may not
    /// read it anyway, and no recording holds it. 0: a kernel thread.
    pub mm: u64,
    /// `struct page`, for the [`Freed`] that may follow; 0: not pages. No recording holds it.
    pub page: u64,
    /// Start of the process, as `Task::start_ns` says of the thread, or `NO_VALUE`.
    pub process_start_ns: u64,
    /// User registers; all 0 for a kernel thread.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub fp: u64,
    /// Link register, where the machine has one.
    pub lr: u64,
    /// `WHAT_*`.
    pub what: u32,
    /// Order of a page allocation.
    pub order: u32,
    /// Allocation flags.
    pub gfp_mask: u32,
    /// Bytes of `copy` that are valid.
    pub copied: u32,
    /// Kernel stack.
    pub kernel: Stack,
    /// User stack by frame pointers.
    pub chain: Stack,
    /// The user stack from `sp` on.
    pub copy: [u8; COPY],
}

/// Pages of a [`Sample`] were given back.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Freed {
    /// The beginning of every record.
    pub header: Header,
    /// `Sample::page`.
    pub page: u64,
    /// `Header::ts_ns` of that sample: a page is taken many times.
    pub since_ns: u64,
}

/// What a process has taken, counted one by one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Count {
    /// Allocations.
    pub allocations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Start of the process, or `NO_VALUE`.
    pub start_ns: u64,
    /// Name of the thread that came first.
    pub comm: [u8; crate::COMM_LEN],
}

/// A process, an order and two stacks of the map of stacks (negative: errno).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct Whole {
    /// Process id.
    pub pid: u32,
    /// Order of the pages.
    pub order: u32,
    /// Kernel stack.
    pub kernel: i32,
    /// User stack, by frame pointers.
    pub user: i32,
}

/// What the programs shall do; set before loading.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Config {
    /// Mean distance of samples.
    pub mean_bytes: u64,
    /// Size of a page.
    pub page_size: u32,
    /// `FILTER_*` that apply.
    pub filters: u32,
    /// Process id of the tracer, which is left out.
    pub own_pid: u32,
    /// Offset of `bytes_alloc` in `kmem/kmalloc`, or `layout::ABSENT`.
    pub kmalloc_bytes: u32,
    /// Offset of `gfp_flags` there.
    pub kmalloc_gfp: u32,
    /// Offset of `bytes_alloc` in `kmem/kmem_cache_alloc`.
    pub cache_bytes: u32,
    /// Offset of `gfp_flags` there.
    pub cache_gfp: u32,
    /// 1: sampled pages are followed until they are given back.
    pub held: u32,
}

/// Only processes in the map `PIDS`.
pub const FILTER_PID: u32 = 1;
/// Only names in `COMMS`.
pub const FILTER_COMM: u32 = 2;
/// Only cgroups in `CGROUPS`.
pub const FILTER_CGROUP: u32 = 4;
/// Only users in `UIDS`.
pub const FILTER_UID: u32 = 8;

/// Index into `LOSSES`, after those of `Loss`: no room in the ring.
pub const LOST_RING: u32 = 5;
/// No room in the table of counts.
pub const LOST_COUNTS: u32 = 6;
/// No room in the table of whole stacks, or in the map of stacks.
pub const LOST_WHOLE: u32 = 7;
/// Samples handed over.
pub const SEEN_SAMPLES: u32 = 8;
/// Samples that a filter refused.
pub const SEEN_FILTERED: u32 = 9;
/// Samples whose user stack could not be copied.
pub const LOST_COPY: u32 = 12;
/// Sampled pages that could not be followed: no room.
pub const LOST_HELD: u32 = 13;
/// Sampled pages that were given back.
pub const SEEN_FREED: u32 = 14;
/// The same, but nobody could be told: no room in the ring.
pub const LOST_FREED: u32 = 15;
/// Length of the array of counts.
pub const COUNTS: u32 = 16;

const _: () = {
    assert!(size_of::<Sample>() == 24 + 40 + 8 * 8 + 16 + 2 * size_of::<Stack>() + COPY);
    assert!(size_of::<Sample>().is_multiple_of(8) && size_of::<Freed>() == 40);
    assert!(size_of::<Count>() == 40 && size_of::<Whole>() == 16 && size_of::<Config>() == 40);
};
