//! Pairs of begin and end: who waited, how long, for what, and what it brought.

use aiops_common::EventKind;
use aiops_common::Loss;
use aiops_common::NO_VALUE;
use aiops_common::NO_VALUE_32;
use aiops_common::stall;
use aiops_common::stall::FIELDS_LEN;
use aiops_common::stall::STACK_FROM_NS;
use aiops_common::stall::STALL_COMPACTION;
use aiops_common::stall::STALL_DIRECT;
use aiops_common::stall::STALL_FRAMES;
use aiops_common::stall::STALL_KSWAPD;
use aiops_common::stall::STALL_MEMCG;
use aiops_common::stall::STALL_NODE;
use aiops_common::stall::STALL_THROTTLED;
use aiops_common::stall::Stall;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_stack;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::TracePointContext;

use crate::emit::NO_WAKEUP;
use crate::emit::header;
use crate::emit::lost;
use crate::emit::reserve;
use crate::emit::submit;
use crate::filter::wants_current;
use crate::kernel::current_ids;
use crate::kernel::field;
use crate::kernel::fill_current;
use crate::maps::ASKED;
use crate::maps::Asked;
use crate::maps::BULK;
use crate::maps::COMPACTIONS;
use crate::maps::FIELDS;
use crate::maps::Open;
use crate::maps::RECLAIMS;

/// Offset of a field of `aiops_common::stall::FIELDS`. The map is frozen: the verifier knows the value.
#[inline(always)]
fn at(index: u32) -> u32 {
    const { assert!(stall::FIELDS.len() <= FIELDS_LEN) };
    // SAFETY: the indices are those of `FIELDS`; volatile keeps the compiler from the built value.
    unsafe { core::ptr::read_volatile((&raw const FIELDS).cast::<u32>().add(index as usize)) }
}

/// Notes a beginning, if its task is wanted.
#[inline(always)]
fn begin(map: &HashMap<u32, Open>, stall: u32, gfp: Option<u32>, order: Option<i32>, node: u32) {
    if !wants_current() {
        return;
    }
    let (_, tid) = current_ids();
    let open = Open {
        // SAFETY: no precondition.
        begin_ns: unsafe { bpf_ktime_get_ns() },
        scanned: 0,
        reclaimed: 0,
        stall,
        gfp_mask: gfp.unwrap_or(NO_VALUE_32),
        order: order.unwrap_or(i32::MIN),
        node,
    };
    if map.insert(tid, open, 0).is_err() {
        lost(Loss::OpenFull);
    }
}

/// Ends what this thread began, and hands it over.
#[inline(always)]
fn end(
    ctx: &TracePointContext,
    map: &HashMap<u32, Open>,
    stall: u32,
    reclaimed: Option<u64>,
    status: i32,
) {
    let (_, tid) = current_ids();
    // SAFETY: only this thread writes and removes its entry.
    let Some(open) = (unsafe { map.get(tid) }).copied() else {
        return;
    };
    let _ = map.remove(tid);
    if open.stall != stall {
        return;
    }
    // SAFETY: no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    emit(ctx, &open, now, reclaimed.unwrap_or(open.reclaimed), status);
}

#[inline(always)]
fn emit(ctx: &TracePointContext, open: &Open, now: u64, reclaimed: u64, status: i32) {
    let Some(mut entry) = reserve::<Stall>(&BULK, Loss::BulkRingFull) else {
        return;
    };
    let out = entry.as_mut_ptr();
    // SAFETY: the ring gave room for one record; all of it is written here.
    unsafe {
        (*out).header = header::<Stall>(EventKind::Stall, now);
        fill_current(&raw mut (*out).task);
        (*out).begin_ns = open.begin_ns;
        (*out).reclaimed = reclaimed;
        (*out).scanned = open.scanned;
        (*out).stall = open.stall;
        (*out).gfp_mask = open.gfp_mask;
        (*out).order = open.order;
        (*out).status = status;
        (*out).node = open.node;
        let long = now.wrapping_sub(open.begin_ns) >= STACK_FROM_NS;
        let buffer = (&raw mut (*out).frames).cast();
        let size = if long { (STALL_FRAMES * 8) as u32 } else { 0 };
        let bytes = if long {
            bpf_get_stack(ctx.as_ptr(), buffer, size, 0)
        } else {
            0
        };
        (*out).frames_len = if bytes < 0 {
            lost(Loss::StackFailed);
            bytes as i32
        } else {
            (bytes / 8) as i32
        };
    }
    submit(entry, EventKind::Stall, NO_WAKEUP);
}

/// `vmscan/mm_vmscan_direct_reclaim_begin`.
#[tracepoint(category = "vmscan", name = "mm_vmscan_direct_reclaim_begin")]
pub fn direct_begin(ctx: TracePointContext) -> u32 {
    let gfp = field(&ctx, at(stall::DIRECT_GFP));
    let order = field(&ctx, at(stall::DIRECT_ORDER));
    begin(&RECLAIMS, STALL_DIRECT, gfp, order, NO_VALUE_32);
    0
}

/// `vmscan/mm_vmscan_direct_reclaim_end`.
#[tracepoint(category = "vmscan", name = "mm_vmscan_direct_reclaim_end")]
pub fn direct_end(ctx: TracePointContext) -> u32 {
    let reclaimed = field(&ctx, at(stall::DIRECT_RECLAIMED));
    end(&ctx, &RECLAIMS, STALL_DIRECT, reclaimed, i32::MIN);
    0
}

/// `vmscan/mm_vmscan_memcg_reclaim_begin`.
#[tracepoint(category = "vmscan", name = "mm_vmscan_memcg_reclaim_begin")]
pub fn memcg_begin(ctx: TracePointContext) -> u32 {
    let gfp = field(&ctx, at(stall::MEMCG_GFP));
    let order = field(&ctx, at(stall::MEMCG_ORDER));
    begin(&RECLAIMS, STALL_MEMCG, gfp, order, NO_VALUE_32);
    0
}

/// `vmscan/mm_vmscan_memcg_reclaim_end`.
#[tracepoint(category = "vmscan", name = "mm_vmscan_memcg_reclaim_end")]
pub fn memcg_end(ctx: TracePointContext) -> u32 {
    let reclaimed = field(&ctx, at(stall::MEMCG_RECLAIMED));
    end(&ctx, &RECLAIMS, STALL_MEMCG, reclaimed, i32::MIN);
    0
}

/// `vmscan/mm_vmscan_node_reclaim_begin`.
#[tracepoint(category = "vmscan", name = "mm_vmscan_node_reclaim_begin")]
pub fn node_begin(ctx: TracePointContext) -> u32 {
    let gfp = field(&ctx, at(stall::NODE_GFP));
    let order = field(&ctx, at(stall::NODE_ORDER));
    let node = field(&ctx, at(stall::NODE_NID)).unwrap_or(NO_VALUE_32);
    begin(&RECLAIMS, STALL_NODE, gfp, order, node);
    0
}

/// `vmscan/mm_vmscan_node_reclaim_end`.
#[tracepoint(category = "vmscan", name = "mm_vmscan_node_reclaim_end")]
pub fn node_end(ctx: TracePointContext) -> u32 {
    let reclaimed = field(&ctx, at(stall::NODE_RECLAIMED));
    end(&ctx, &RECLAIMS, STALL_NODE, reclaimed, i32::MIN);
    0
}

/// `vmscan/mm_vmscan_kswapd_wake`: comes again for each round of a busy time; the first one counts.
#[tracepoint(category = "vmscan", name = "mm_vmscan_kswapd_wake")]
pub fn kswapd_wake(ctx: TracePointContext) -> u32 {
    let (_, tid) = current_ids();
    // SAFETY: only this thread writes its entry.
    if unsafe { RECLAIMS.get(tid) }.is_none() {
        let order = field(&ctx, at(stall::KSWAPD_ORDER));
        let node = field(&ctx, at(stall::KSWAPD_NID)).unwrap_or(NO_VALUE_32);
        begin(&RECLAIMS, STALL_KSWAPD, None, order, node);
    }
    0
}

/// `vmscan/mm_vmscan_kswapd_sleep`.
#[tracepoint(category = "vmscan", name = "mm_vmscan_kswapd_sleep")]
pub fn kswapd_sleep(ctx: TracePointContext) -> u32 {
    end(&ctx, &RECLAIMS, STALL_KSWAPD, None, i32::MIN);
    0
}

/// `vmscan/mm_vmscan_lru_shrink_inactive`: one step of whatever this thread reclaims for.
#[tracepoint(category = "vmscan", name = "mm_vmscan_lru_shrink_inactive")]
pub fn shrink_inactive(ctx: TracePointContext) -> u32 {
    let (_, tid) = current_ids();
    if let Some(open) = RECLAIMS.get_ptr_mut(tid) {
        let scanned = field::<u64>(&ctx, at(stall::SHRINK_SCANNED)).unwrap_or(0);
        let reclaimed = field::<u64>(&ctx, at(stall::SHRINK_RECLAIMED)).unwrap_or(0);
        // SAFETY: only this thread writes its entry.
        unsafe {
            (*open).scanned = (*open).scanned.wrapping_add(scanned);
            (*open).reclaimed = (*open).reclaimed.wrapping_add(reclaimed);
        }
    }
    0
}

/// `vmscan/mm_vmscan_throttled`: one event, at the end of the sleep.
#[tracepoint(category = "vmscan", name = "mm_vmscan_throttled")]
pub fn throttled(ctx: TracePointContext) -> u32 {
    if !wants_current() {
        return 0;
    }
    let slept = field::<u32>(&ctx, at(stall::THROTTLED_DELAYED)).unwrap_or(0);
    // SAFETY: no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    let open = Open {
        begin_ns: now.wrapping_sub(u64::from(slept) * 1000),
        scanned: NO_VALUE,
        reclaimed: NO_VALUE,
        stall: STALL_THROTTLED,
        gfp_mask: NO_VALUE_32,
        order: i32::MIN,
        node: field(&ctx, at(stall::THROTTLED_NID)).unwrap_or(NO_VALUE_32),
    };
    let reason = field(&ctx, at(stall::THROTTLED_REASON)).unwrap_or(i32::MIN);
    emit(&ctx, &open, now, NO_VALUE, reason);
    0
}

/// `compaction/mm_compaction_try_to_compact_pages`: what the zones that follow are compacted for.
#[tracepoint(category = "compaction", name = "mm_compaction_try_to_compact_pages")]
pub fn compaction_asked(ctx: TracePointContext) -> u32 {
    let gfp = field(&ctx, at(stall::COMPACT_GFP));
    let order = field(&ctx, at(stall::COMPACT_ORDER));
    asked(gfp, order);
    0
}

/// `compaction/mm_compaction_kcompactd_wake`.
#[tracepoint(category = "compaction", name = "mm_compaction_kcompactd_wake")]
pub fn kcompactd_wake(ctx: TracePointContext) -> u32 {
    asked(None, field(&ctx, at(stall::KCOMPACTD_ORDER)));
    0
}

#[inline(always)]
fn asked(gfp: Option<u32>, order: Option<i32>) {
    let (_, tid) = current_ids();
    let asked = Asked {
        gfp_mask: gfp.unwrap_or(NO_VALUE_32),
        order: order.unwrap_or(i32::MIN),
    };
    // Without an entry the compaction's order is unknown, not lost.
    let _ = ASKED.insert(tid, asked, 0);
}

/// `compaction/mm_compaction_begin`: one zone.
#[tracepoint(category = "compaction", name = "mm_compaction_begin")]
pub fn compaction_begin(_ctx: TracePointContext) -> u32 {
    let (_, tid) = current_ids();
    // SAFETY: only this thread writes its entry.
    let asked = unsafe { ASKED.get(tid) };
    let gfp = asked.map(|asked| asked.gfp_mask);
    let order = asked.map(|asked| asked.order);
    begin(&COMPACTIONS, STALL_COMPACTION, gfp, order, NO_VALUE_32);
    0
}

/// `compaction/mm_compaction_end`.
#[tracepoint(category = "compaction", name = "mm_compaction_end")]
pub fn compaction_end(ctx: TracePointContext) -> u32 {
    let status = field(&ctx, at(stall::COMPACT_STATUS)).unwrap_or(i32::MIN);
    end(&ctx, &COMPACTIONS, STALL_COMPACTION, Some(NO_VALUE), status);
    0
}
