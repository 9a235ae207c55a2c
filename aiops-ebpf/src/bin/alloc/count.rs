//! Everything is counted, nothing is chosen.

use aiops_common::NO_VALUE;
use aiops_common::alloc;
use aiops_common::alloc::Count;
use aiops_common::alloc::Whole;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::BPF_F_USER_STACK;
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::bpf_get_stackid;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::emit::add;
use crate::filter::wanted;
use crate::kernel::Address;
use crate::kernel::current;
use crate::kernel::current_ids;
use crate::kernel::offset;
use crate::kernel::read;
use crate::maps::CONFIG;
use crate::maps::COUNTS;
use crate::maps::STACKS;
use crate::maps::WHOLE;

/// `BPF_NOEXIST`.
const NEW_ONLY: u64 = 1;

/// `mm_page_alloc`, by process.
#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub fn page_count(ctx: RawTracePointContext) -> i32 {
    let config = CONFIG.load();
    if ctx.arg::<u64>(0) == 0 {
        return 0;
    }
    let order = ctx.arg::<u64>(1) as u32 & 31;
    let bytes = u64::from(config.page_size) << order;
    let (pid, _) = current_ids();
    if !wanted(&config, pid) {
        return 0;
    }
    if let Some(count) = COUNTS.get_ptr_mut(pid) {
        // SAFETY: this CPU's own entry.
        unsafe {
            (*count).allocations += 1;
            (*count).bytes += bytes;
        }
        return 0;
    }
    let start = read::<Address>(current(), offset!(task_leader))
        .and_then(|leader| read::<u64>(leader, offset!(task_start)));
    let first = Count {
        allocations: 1,
        bytes,
        start_ns: start.unwrap_or(NO_VALUE),
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    if COUNTS.insert(pid, &first, NEW_ONLY).is_err() {
        add(alloc::LOST_COUNTS, 1);
    }
    0
}

/// The number of a stack in [`STACKS`], or a negative errno.
#[inline(always)]
fn stack(ctx: &RawTracePointContext, flags: u64) -> i32 {
    // SAFETY: the context is the program's own, and the map lives as long as it.
    unsafe { bpf_get_stackid(ctx.as_ptr(), (&raw const STACKS).cast_mut().cast(), flags) as i32 }
}

/// `mm_page_alloc`, by process and stacks.
#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub fn page_whole(ctx: RawTracePointContext) -> i32 {
    let config = CONFIG.load();
    if ctx.arg::<u64>(0) == 0 {
        return 0;
    }
    let (pid, _) = current_ids();
    if !wanted(&config, pid) {
        return 0;
    }
    let key = Whole {
        pid,
        order: ctx.arg::<u64>(1) as u32 & 31,
        kernel: stack(&ctx, 0),
        user: stack(&ctx, u64::from(BPF_F_USER_STACK)),
    };
    if let Some(count) = WHOLE.get_ptr_mut(key) {
        // SAFETY: this CPU's own entry.
        unsafe { *count += 1 };
    } else if WHOLE.insert(key, 1, NEW_ONLY).is_err() {
        add(alloc::LOST_WHOLE, 1);
    }
    0
}
