//! The reclaim family: the early sign that an OOM kill may follow.

use crate::{Header, Task};

/// `vmscan/mm_vmscan_direct_reclaim_begin`: the host is short of memory.
pub const RECLAIM_DIRECT: u32 = 1;
/// `vmscan/mm_vmscan_memcg_reclaim_begin`: a memory cgroup is at its limit.
pub const RECLAIM_MEMCG: u32 = 2;

/// A task begins to reclaim; at most one record per task and 20 ms.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Begin {
    /// The beginning of every record.
    pub header: Header,
    /// The task that reclaims.
    pub task: Task,
    /// `RECLAIM_*`.
    pub reclaim: u32,
    /// Allocation flags, or `NO_VALUE_32`.
    pub gfp_mask: u32,
    /// Allocation order; `i32::MIN` when it was not read.
    pub order: i32,
    /// Always 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Begin>() == 24 + 40 + 16);
