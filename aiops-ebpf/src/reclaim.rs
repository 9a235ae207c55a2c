//! Reclaim begins: what the task was allocating, and the early sign of an OOM kill.

use aiops_common::EventKind;
use aiops_common::Loss;
use aiops_common::NO_VALUE_32;
use aiops_common::reclaim::Begin;
use aiops_common::reclaim::RECLAIM_DIRECT;
use aiops_common::reclaim::RECLAIM_MEMCG;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;

use crate::emit::WAKE_IF_IDLE;
use crate::emit::header;
use crate::emit::reserve;
use crate::emit::submit;
use crate::kernel::current_ids;
use crate::kernel::field;
use crate::kernel::fill_current;
use crate::kernel::offset;
use crate::maps::LAST_RECLAIM;
use crate::maps::LastReclaim;
use crate::maps::OOM;
use crate::maps::crowded;

/// One record per task and this time.
const QUIET_NS: u64 = 20_000_000;

/// `vmscan/mm_vmscan_direct_reclaim_begin`.
#[tracepoint(category = "vmscan", name = "mm_vmscan_direct_reclaim_begin")]
pub fn direct_reclaim_begin(ctx: TracePointContext) -> u32 {
    let gfp = field(&ctx, offset!(tp_direct_gfp));
    let order = field(&ctx, offset!(tp_direct_order));
    begin(RECLAIM_DIRECT, gfp, order);
    0
}

/// `vmscan/mm_vmscan_memcg_reclaim_begin`.
#[tracepoint(category = "vmscan", name = "mm_vmscan_memcg_reclaim_begin")]
pub fn memcg_reclaim_begin(ctx: TracePointContext) -> u32 {
    let gfp = field(&ctx, offset!(tp_memcg_gfp));
    let order = field(&ctx, offset!(tp_memcg_order));
    begin(RECLAIM_MEMCG, gfp, order);
    0
}

#[inline(always)]
fn begin(reclaim: u32, gfp: Option<u32>, order: Option<i32>) {
    let (_, tid) = current_ids();
    // SAFETY: no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    let (gfp_mask, order) = (gfp.unwrap_or(NO_VALUE_32), order.unwrap_or(i32::MIN));
    // SAFETY: entries stay mapped while a program runs; only this task writes its own.
    let emitted = unsafe { LAST_RECLAIM.get(tid).map(|last| last.emitted_ns) };
    let quiet = emitted.is_some_and(|emitted| now.wrapping_sub(emitted) < QUIET_NS);
    // A storm of reclaim must leave room for the kills that follow it.
    let emit = !quiet && !crowded();
    let emitted_ns = if emit { now } else { emitted.unwrap_or(0) };
    let last = LastReclaim {
        ts_ns: now,
        emitted_ns,
        gfp_mask,
        order,
    };
    // Without an entry the mark has no gfp mask: "unknown", not lost.
    let _ = LAST_RECLAIM.insert(tid, last, 0);
    if !emit {
        return;
    }
    let Some(mut entry) = reserve::<Begin>(&OOM, Loss::OomRingFull) else {
        return;
    };
    let out = entry.as_mut_ptr();
    // SAFETY: the ring gave room for one record; all of it is written here.
    unsafe {
        (*out).header = header::<Begin>(EventKind::ReclaimBegin, now);
        fill_current(&raw mut (*out).task);
        (*out).reclaim = reclaim;
        (*out).gfp_mask = gfp_mask;
        (*out).order = order;
        (*out).reserved = 0;
    }
    submit(entry, EventKind::ReclaimBegin, WAKE_IF_IDLE);
}
