//! The one way out: reserve, fill, submit, and count what found no room.

use core::intrinsics::AtomicOrdering;
use core::intrinsics::atomic_xadd;

use aiops_common::ABI_VERSION;
use aiops_common::EventKind;
use aiops_common::Header;
use aiops_common::Loss;
use aiops_common::seen_index;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::maps::RingBuf;
use aya_ebpf::maps::ring_buf::RingBufEntry;

use crate::maps::LOSSES;

/// Wake the reader when it had read everything before this record.
pub const WAKE_IF_IDLE: u64 = 0;
/// `BPF_RB_NO_WAKEUP`.
pub const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`.
pub const WAKE: u64 = 2;

/// Adds one to a counter of this CPU. Atomic, for a program may interrupt another.
#[inline(always)]
fn add_one(index: u32) {
    if let Some(count) = LOSSES.get_ptr_mut(index) {
        // `core::sync::atomic` has no addition for this target; without its result this is one
        // instruction, which Linux has had since the beginning of eBPF.
        // SAFETY: the map gave an aligned u64 that lives as long as the program runs.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, 1) };
    }
}

/// Counts a loss.
#[inline(always)]
pub fn lost(cause: Loss) {
    add_one(cause as u32);
}

/// Room for a record of type `T`, or counts that there is none.
#[inline(always)]
pub fn reserve<T: 'static>(ring: &RingBuf, full: Loss) -> Option<RingBufEntry<T>> {
    let entry = ring.reserve::<T>(0);
    if entry.is_none() {
        lost(full);
    }
    entry
}

/// Hands a record over and counts it.
#[inline(always)]
pub fn submit<T>(entry: RingBufEntry<T>, kind: EventKind, wake: u64) {
    add_one(seen_index(kind));
    entry.submit(wake);
}

/// The beginning of a record of type `T`.
#[inline(always)]
pub fn header<T>(kind: EventKind, ts_ns: u64) -> Header {
    Header {
        kind: kind as u16,
        version: ABI_VERSION,
        len: size_of::<T>() as u32,
        ts_ns,
        // SAFETY: no precondition.
        cpu: unsafe { bpf_get_smp_processor_id() } as u32,
        reserved: 0,
    }
}
