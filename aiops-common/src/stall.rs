//! The stall family: a task waits while the kernel looks for memory, from its beginning to its end; and
//! pages of processes that go to swap and come back.

use crate::{Header, Task};

/// `vmscan/mm_vmscan_direct_reclaim_*`: the host is short of memory.
pub const STALL_DIRECT: u32 = 1;
/// `vmscan/mm_vmscan_memcg_reclaim_*`: a memory cgroup is at its limit.
pub const STALL_MEMCG: u32 = 2;
/// `vmscan/mm_vmscan_node_reclaim_*`: a NUMA node is short (`zone_reclaim_mode`).
pub const STALL_NODE: u32 = 3;
/// `vmscan/mm_vmscan_kswapd_wake` to `_sleep`: the background reclaimer works.
pub const STALL_KSWAPD: u32 = 4;
/// `compaction/mm_compaction_begin` to `_end`: one zone is compacted.
pub const STALL_COMPACTION: u32 = 5;
/// `vmscan/mm_vmscan_throttled`: reclaim sleeps, for writeback or for want of progress.
pub const STALL_THROTTLED: u32 = 6;

/// Frames of a stall's kernel stack.
pub const STALL_FRAMES: usize = 24;

/// Stalls shorter than this carry no stack, ns.
pub const STACK_FROM_NS: u64 = 1_000_000;

/// One stall, emitted at its end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Stall {
    /// The beginning of every record; `ts_ns` is the end of the stall.
    pub header: Header,
    /// Who stalled; a kernel thread for work in the background.
    pub task: Task,
    /// When it began, ns.
    pub begin_ns: u64,
    /// Pages that the kernel's end of the pair says were reclaimed, or `NO_VALUE`.
    pub reclaimed: u64,
    /// Pages that `mm_vmscan_lru_shrink_inactive` scanned meanwhile in this task, or `NO_VALUE`.
    pub scanned: u64,
    /// `STALL_*`.
    pub stall: u32,
    /// Allocation flags, or `NO_VALUE_32`.
    pub gfp_mask: u32,
    /// Allocation order; `i32::MIN` when it was not read.
    pub order: i32,
    /// Result of a compaction, reason of a throttling; `i32::MIN` when there is none.
    pub status: i32,
    /// NUMA node, or `NO_VALUE_32`.
    pub node: u32,
    /// Valid frames, or a negative errno; 0 for a short stall.
    pub frames_len: i32,
    /// The kernel stack at its end, innermost first.
    pub frames: [u64; STALL_FRAMES],
}

const _: () = assert!(size_of::<Stall>() == 24 + 40 + 3 * 8 + 6 * 4 + 8 * STALL_FRAMES);

/// A field of a classic tracepoint: category, event, field, sizes that the programs can read.
pub type TracepointField = (&'static str, &'static str, &'static str, &'static [u32]);

macro_rules! fields {
    ($($(#[doc = $doc:literal])* $name:ident = $category:literal, $event:literal, $field:literal, $sizes:expr;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "names of the indices below")]
        #[repr(u32)]
        enum Index { $($name,)* Count }
        $($(#[doc = $doc])* pub const $name: u32 = Index::$name as u32;)*
        /// The fields whose offsets the global `FIELDS` holds, in its order.
        pub const FIELDS: [TracepointField; Index::Count as usize] =
            [$(($category, $event, $field, $sizes),)*];
    };
}

fields! {
    /// Mask of a direct reclaim; its low half is read (an `unsigned long` since Linux 5.19).
    DIRECT_GFP = "vmscan", "mm_vmscan_direct_reclaim_begin", "gfp_flags", &[4, 8];
    /// Order of a direct reclaim.
    DIRECT_ORDER = "vmscan", "mm_vmscan_direct_reclaim_begin", "order", &[4];
    /// Pages that a direct reclaim brought.
    DIRECT_RECLAIMED = "vmscan", "mm_vmscan_direct_reclaim_end", "nr_reclaimed", &[8];
    /// Mask of a memory cgroup's reclaim.
    MEMCG_GFP = "vmscan", "mm_vmscan_memcg_reclaim_begin", "gfp_flags", &[4, 8];
    /// Order of a memory cgroup's reclaim.
    MEMCG_ORDER = "vmscan", "mm_vmscan_memcg_reclaim_begin", "order", &[4];
    /// Pages that a memory cgroup's reclaim brought.
    MEMCG_RECLAIMED = "vmscan", "mm_vmscan_memcg_reclaim_end", "nr_reclaimed", &[8];
    /// Mask of a node's reclaim.
    NODE_GFP = "vmscan", "mm_vmscan_node_reclaim_begin", "gfp_flags", &[4, 8];
    /// Order of a node's reclaim.
    NODE_ORDER = "vmscan", "mm_vmscan_node_reclaim_begin", "order", &[4];
    /// Its node.
    NODE_NID = "vmscan", "mm_vmscan_node_reclaim_begin", "nid", &[4];
    /// Pages that a node's reclaim brought.
    NODE_RECLAIMED = "vmscan", "mm_vmscan_node_reclaim_end", "nr_reclaimed", &[8];
    /// Pages scanned in one step.
    SHRINK_SCANNED = "vmscan", "mm_vmscan_lru_shrink_inactive", "nr_scanned", &[8];
    /// Pages reclaimed in one step.
    SHRINK_RECLAIMED = "vmscan", "mm_vmscan_lru_shrink_inactive", "nr_reclaimed", &[8];
    /// The node whose kswapd wakes.
    KSWAPD_NID = "vmscan", "mm_vmscan_kswapd_wake", "nid", &[4];
    /// For which order.
    KSWAPD_ORDER = "vmscan", "mm_vmscan_kswapd_wake", "order", &[4];
    /// How long a throttled task slept, µs.
    THROTTLED_DELAYED = "vmscan", "mm_vmscan_throttled", "usec_delayed", &[4];
    /// Why, as a bit mask of reasons.
    THROTTLED_REASON = "vmscan", "mm_vmscan_throttled", "reason", &[4];
    /// On which node.
    THROTTLED_NID = "vmscan", "mm_vmscan_throttled", "nid", &[4];
    /// Order that a direct compaction is for.
    COMPACT_ORDER = "compaction", "mm_compaction_try_to_compact_pages", "order", &[4];
    /// Mask that a direct compaction is for.
    COMPACT_GFP = "compaction", "mm_compaction_try_to_compact_pages", "gfp_mask", &[4, 8];
    /// Result of the compaction of a zone (`enum compact_result`).
    COMPACT_STATUS = "compaction", "mm_compaction_end", "status", &[4];
    /// Order that the background compaction is for.
    KCOMPACTD_ORDER = "compaction", "mm_compaction_kcompactd_wake", "order", &[4];
}

/// Length of the global `FIELDS`: fixed, so that a new field does not move what comes after it.
pub const FIELDS_LEN: usize = 32;

const _: () = assert!(FIELDS.len() <= FIELDS_LEN);

/// Pages that reclaim moved to swap (`try_to_unmap_one`).
pub const SWAP_OUT: u32 = 0;
/// Pages that a fault brought back (`do_swap_page`).
pub const SWAP_IN: u32 = 1;
/// Entries that were given up: the process ended or unmapped them.
pub const SWAP_FREED: u32 = 2;
/// Entries that a child took over from its parent.
pub const SWAP_FORKED: u32 = 3;
/// Entries that swapoff brought back.
pub const SWAP_OFF: u32 = 4;
/// By a way that is not known.
pub const SWAP_OTHER: u32 = 5;
/// Counters of a process: a power of two, so that a mask keeps an index inside. Two are not used.
pub const SWAP_WAYS: usize = 8;

/// A range of kernel code by which a way is told: first address, length, `SWAP_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Code {
    /// First address.
    pub begin: u64,
    /// Bytes; 0: no range.
    pub len: u64,
    /// `SWAP_*`.
    pub way: u64,
}

/// Ranges in the one entry of the map `CODE`.
pub const CODES: usize = 16;

/// What a process had to do with swap since tracing began; one per CPU, to be summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SwapCounts {
    /// Changes of the counter, by `SWAP_*`. A change is a page where folios are single pages.
    pub ways: [u64; SWAP_WAYS],
}
