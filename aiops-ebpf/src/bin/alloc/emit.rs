//! Counting what happened and what was lost.

use core::intrinsics::AtomicOrdering;
use core::intrinsics::atomic_xadd;

use aiops_common::Loss;

use crate::maps::LOSSES;

/// Adds to a counter of this CPU. Atomic, for a program may interrupt another.
#[inline(always)]
pub fn add(index: u32, more: u64) {
    if let Some(count) = LOSSES.get_ptr_mut(index) {
        // SAFETY: the map gave an aligned u64 that lives as long as the program runs.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, more) };
    }
}

/// Counts a loss of the common kinds.
#[inline(always)]
pub fn lost(cause: Loss) {
    add(cause as u32, 1);
}
