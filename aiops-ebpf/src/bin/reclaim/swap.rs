//! Swap entries that come and go, by the process that owns them (not by who reclaims).

use aiops_common::Loss;
use aiops_common::NO_VALUE;
use aiops_common::Task;
use aiops_common::stall::CODES;
use aiops_common::stall::SWAP_OTHER;
use aiops_common::stall::SWAP_WAYS;
use aiops_common::stall::SwapCounts;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_stack;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::emit::lost;
use crate::kernel::Address;
use crate::kernel::fill_task;
use crate::kernel::offset;
use crate::kernel::read;
use crate::maps::CODE;
use crate::maps::FRAMES;
use crate::maps::MM_OWNER;
use crate::maps::OWNERS;
use crate::maps::SWAP_TOTAL;
use crate::maps::SWAPS;

/// `kmem:rss_stat(struct mm_struct *mm, int member)`.
#[raw_tracepoint(tracepoint = "rss_stat")]
pub fn swap_entries(ctx: RawTracePointContext) -> i32 {
    let member = ctx.arg::<u64>(1) as u32;
    if member != offset!(mm_swap) {
        return 0;
    }
    let mm: Address = ctx.arg(0);
    let way = way(&ctx);
    if let Some(total) = SWAP_TOTAL.get_ptr_mut(0) {
        // SAFETY: an entry of this CPU.
        unsafe { add(total, way) };
    }
    // SAFETY: a global of this object; volatile keeps the compiler from the built value.
    let owner_at = unsafe { core::ptr::read_volatile((&raw const MM_OWNER).cast::<u32>()) };
    let Some(owner) = read::<Address>(mm, owner_at) else {
        return 0;
    };
    // A dying mm has no owner any more: its entries are freed, and in the total.
    let Some(pid) = read::<u32>(owner, offset!(task_tgid)) else {
        return 0;
    };
    if let Some(counts) = SWAPS.get_ptr_mut(pid) {
        // SAFETY: an entry of this CPU.
        unsafe { add(counts, way) };
        return 0;
    }
    let mut counts = SwapCounts {
        ways: [0; SWAP_WAYS],
    };
    // SAFETY: it is ours.
    unsafe { add(&raw mut counts, way) };
    if SWAPS.insert(pid, counts, 0).is_err() {
        lost(Loss::TableFull);
        return 0;
    }
    let mut task = Task {
        tid: 0,
        pid: 0,
        comm: [0; 16],
        start_ns: NO_VALUE,
        memcg_id: NO_VALUE,
    };
    // SAFETY: it is ours.
    unsafe { fill_task(&raw mut task, owner) };
    let _ = OWNERS.insert(pid, task, 0);
    0
}

/// Adds one change. A program may interrupt another on this CPU only between instructions of the same task.
#[inline(always)]
unsafe fn add(counts: *mut SwapCounts, way: u32) {
    const { assert!(SWAP_WAYS.is_power_of_two()) };
    // A mask, not a comparison: the verifier sees the bound on the very register that is used.
    let index = (way & (SWAP_WAYS as u32 - 1)) as usize;
    // SAFETY: the caller's, and the index is in bounds.
    unsafe {
        let slot = (&raw mut (*counts).ways).cast::<u64>().add(index);
        *slot = (*slot).wrapping_add(1);
    }
}

/// Frames that are looked at: the hook's own and those of the counter come first.
const DEPTH: u32 = 10;

/// The way that the innermost known function on the stack tells.
#[inline(always)]
fn way(ctx: &RawTracePointContext) -> u32 {
    let Some(frames) = FRAMES.get_ptr_mut(0) else {
        return SWAP_OTHER;
    };
    // SAFETY: an entry of this CPU, with room for what the helper is allowed to write.
    let bytes = unsafe { bpf_get_stack(ctx.as_ptr(), frames.cast(), 16 * 8, 0) };
    let Some(codes) = CODE.get(0) else {
        return SWAP_OTHER;
    };
    let count = if bytes > 0 { (bytes / 8) as u32 } else { 0 };
    let mut index = 0_u32;
    while index < DEPTH {
        if index >= count {
            break;
        }
        // SAFETY: below 16.
        let ip = unsafe { *(frames.cast::<u64>().add(index as usize)) };
        let mut number = 0;
        while number < CODES {
            let code = &codes[number];
            // A range that is not used holds no address.
            if ip.wrapping_sub(code.begin) < code.len {
                return code.way as u32;
            }
            number += 1;
        }
        index += 1;
    }
    SWAP_OTHER
}
