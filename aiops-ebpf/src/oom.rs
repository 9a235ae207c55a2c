//! OOM kills: chosen, killed, reaped.
//!
//! The kernel sends SIGKILL to the chosen task and marks it at once, in the same task
//! (mm/oom_kill.c, `__oom_kill_process`). `signal_generate` has the victim's `task_struct` on every
//! kernel, `mark_victim` says that it is an OOM kill: the first fills, the second emits. Killing
//! for other reasons looks alike to the first, which therefore does no more than a few reads.

use aiops_common::EventKind;
use aiops_common::Loss;
use aiops_common::MAX_FRAMES;
use aiops_common::NO_VALUE;
use aiops_common::NO_VALUE_32;
use aiops_common::Stack;
use aiops_common::Task;
use aiops_common::layout::ABSENT;
use aiops_common::layout::RSS_PERCPU;
use aiops_common::oom;
use aiops_common::oom::Delivered;
use aiops_common::oom::Mark;
use aiops_common::oom::Step;
use aya_ebpf::helpers::bpf_get_task_stack;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::bpf_probe_read_kernel_buf;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_ebpf::programs::TracePointContext;
use aya_log_ebpf::debug;

use crate::emit::WAKE;
use crate::emit::WAKE_IF_IDLE;
use crate::emit::header;
use crate::emit::lost;
use crate::emit::reserve;
use crate::emit::submit;
use crate::kernel::Address;
use crate::kernel::current;
use crate::kernel::current_ids;
use crate::kernel::field;
use crate::kernel::fill_current;
use crate::kernel::fill_task;
use crate::kernel::frames;
use crate::kernel::kernel_stack;
use crate::kernel::offset;
use crate::kernel::oom_score_adj;
use crate::kernel::read;
use crate::kernel::user_stack;
use crate::maps::DELIVERED;
use crate::maps::HAVE_SIGNAL;
use crate::maps::LAST_RECLAIM;
use crate::maps::OOM;
use crate::maps::PENDING;
use crate::maps::Pending;
use crate::maps::SCRATCH;
use crate::maps::VICTIMS;
use crate::maps::crowded;

const SIGKILL: i32 = 9;
/// `SEND_SIG_PRIV` (include/linux/sched/signal.h): sent by the kernel itself.
const SEND_SIG_PRIV: u64 = 1;
/// A record older than this is not this mark's: nothing but the task's own lock lies between both.
const PENDING_LIFE_NS: u64 = 5_000_000_000;
/// `BPF_ANY`.
const ANY: u64 = 0;
/// `BPF_NOEXIST`.
const NEW_ONLY: u64 = 1;

/// `signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`.
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    if ctx.arg::<i32>(0) == SIGKILL && ctx.arg::<u64>(1) == SEND_SIG_PRIV {
        remember(&ctx);
    }
    0
}

#[inline(always)]
fn remember(ctx: &BtfTracePointContext) {
    let task: Address = ctx.arg(2);
    let Some(pending) = SCRATCH.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's scratch; the same program does not interrupt itself.
    unsafe {
        fill_task(&raw mut (*pending).victim, task);
        fill_memory(pending, task);
        let (_, sender) = current_ids();
        (*pending).sender = sender;
        (*pending).signal_ns = bpf_ktime_get_ns();
        (*pending).oom_score_adj = oom_score_adj(task);
        (*pending).uid = read::<Address>(task, offset!(task_cred))
            .and_then(|cred| read(cred, offset!(cred_uid)))
            .unwrap_or(NO_VALUE_32);
        (*pending).kernel.len = 0;
        (*pending).kernel.reserved = 0;
        let (pid, tid) = ((*pending).victim.pid, (*pending).victim.tid);
        if tid != sender {
            // A task that runs in user mode has no kernel frames: that is no loss.
            let buffer = (&raw mut (*pending).kernel.frames).cast();
            let bytes =
                bpf_get_task_stack(task.cast_mut().cast(), buffer, (MAX_FRAMES * 8) as u32, 0);
            (*pending).kernel.len = frames(bytes, false);
        }
        // The signal may reach the victim on another CPU before the mark is set here.
        let known = VICTIMS.insert(pid, 0, ANY);
        if known.is_err() || PENDING.insert(tid, &*pending, ANY).is_err() {
            lost(Loss::PendingFull);
        }
        debug!(ctx, "SIGKILL from the kernel for {} (task {})", pid, tid);
    }
}

/// Sizes of the task's `mm`, kB.
///
/// # Safety
/// `out` is valid for writing.
#[inline(always)]
unsafe fn fill_memory(out: *mut Pending, task: Address) {
    let mm = read::<Address>(task, offset!(task_mm)).unwrap_or(core::ptr::null());
    let total = read::<u64>(mm, offset!(mm_total_vm)).map_or(NO_VALUE, pages_to_kb);
    let tables = read::<u64>(mm, offset!(mm_pgtables)).map_or(NO_VALUE, |bytes| bytes >> 10);
    let approximate = offset!(mm_rss_kind) == RSS_PERCPU;
    // SAFETY: the caller's.
    unsafe {
        (*out).total_vm_kb = total;
        (*out).pgtables_kb = tables;
        (*out).anon_rss_kb = rss_kb(mm, offset!(mm_anon));
        (*out).file_rss_kb = rss_kb(mm, offset!(mm_file));
        (*out).shmem_rss_kb = rss_kb(mm, offset!(mm_shmem));
        (*out).swap_kb = rss_kb(mm, offset!(mm_swap));
        (*out).flags = oom::MARK_FILLED | if approximate { oom::MARK_RSS_APPROX } else { 0 };
    }
}

/// One counter of `mm_struct.rss_stat`, which may be a little below zero for a moment.
#[inline(always)]
fn rss_kb(mm: Address, index: u32) -> u64 {
    let (first, stride) = (offset!(mm_rss), offset!(mm_rss_stride));
    if first == ABSENT || stride == ABSENT || index == ABSENT || offset!(mm_rss_kind) == ABSENT {
        return NO_VALUE;
    }
    match read::<i64>(mm, first + index * stride) {
        Some(pages) if pages < 0 => 0,
        Some(pages) => pages_to_kb(pages as u64),
        None => NO_VALUE,
    }
}

#[inline(always)]
fn pages_to_kb(pages: u64) -> u64 {
    let size = offset!(page_size);
    if size == ABSENT {
        return NO_VALUE;
    }
    pages * u64::from(size >> 10)
}

/// `oom/mark_victim`.
#[tracepoint(category = "oom", name = "mark_victim")]
pub fn mark_victim(ctx: TracePointContext) -> u32 {
    mark(&ctx);
    0
}

#[inline(always)]
fn mark(ctx: &TracePointContext) {
    // SAFETY: no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    let tid = field::<u32>(ctx, offset!(tp_mark_pid)).unwrap_or(0);
    let (trigger_pid, trigger_tid) = current_ids();
    let pending = PENDING.get_ptr(tid).filter(|pending| {
        // SAFETY: entries stay mapped while a program runs.
        let (sender, since) = unsafe { ((**pending).sender, (**pending).signal_ns) };
        sender == trigger_tid && now.wrapping_sub(since) < PENDING_LIFE_NS
    });
    let Some(mut entry) = reserve::<Mark>(&OOM, Loss::OomRingFull) else {
        return;
    };
    let out = entry.as_mut_ptr();
    // SAFETY: the ring gave room for one record; all of it is written below.
    unsafe {
        (*out).header = header::<Mark>(EventKind::OomMark, now);
        fill_current(&raw mut (*out).trigger);
        (*out).trigger_oom_score_adj = oom_score_adj(current());
        match pending {
            Some(pending) => copy_pending(out, pending),
            None => no_pending(out, tid, if tid == trigger_tid { trigger_pid } else { 0 }),
        }
        fill_tracepoint(ctx, out, pending.is_some());
        fill_reclaim(out, trigger_tid);
        kernel_stack(ctx, &raw mut (*out).trigger_kernel);
        user_stack(ctx, &raw mut (*out).trigger_user);
        // Without BTF the process is not known: the marked task is nearly always its leader.
        let victim = if (*out).victim.pid != 0 {
            (*out).victim.pid
        } else {
            tid
        };
        let _ = VICTIMS.insert(victim, 1, ANY);
        debug!(ctx, "marked {} (task {})", victim, tid);
    }
    submit(entry, EventKind::OomMark, WAKE);
    if pending.is_some() {
        let _ = PENDING.remove(tid);
    }
}

/// # Safety
/// `out` is valid for writing, `from` for reading.
#[inline(always)]
unsafe fn copy_pending(out: *mut Mark, from: *const Pending) {
    // SAFETY: the caller's.
    unsafe {
        (*out).victim = (*from).victim;
        (*out).signal_ns = (*from).signal_ns;
        (*out).total_vm_kb = (*from).total_vm_kb;
        (*out).anon_rss_kb = (*from).anon_rss_kb;
        (*out).file_rss_kb = (*from).file_rss_kb;
        (*out).shmem_rss_kb = (*from).shmem_rss_kb;
        (*out).swap_kb = (*from).swap_kb;
        (*out).pgtables_kb = (*from).pgtables_kb;
        (*out).oom_score_adj = (*from).oom_score_adj;
        (*out).uid = (*from).uid;
        (*out).flags = (*from).flags;
        let stack = (&raw mut (*out).victim_kernel).cast::<[u8; size_of::<Stack>()]>();
        // One helper call instead of 65 loads and stores.
        if bpf_probe_read_kernel_buf((&raw const (*from).kernel).cast(), &mut *stack).is_err() {
            (*out).victim_kernel.len = 0;
        }
    }
}

/// Nothing but the tracepoint knows this victim.
///
/// # Safety
/// `out` is valid for writing.
#[inline(always)]
unsafe fn no_pending(out: *mut Mark, tid: u32, pid: u32) {
    // SAFETY: the caller's.
    unsafe {
        (*out).victim = if pid != 0 {
            (*out).trigger
        } else {
            Task {
                tid,
                pid: 0,
                comm: [0; aiops_common::COMM_LEN],
                start_ns: NO_VALUE,
                memcg_id: NO_VALUE,
            }
        };
        (*out).signal_ns = NO_VALUE;
        (*out).total_vm_kb = NO_VALUE;
        (*out).anon_rss_kb = NO_VALUE;
        (*out).file_rss_kb = NO_VALUE;
        (*out).shmem_rss_kb = NO_VALUE;
        (*out).swap_kb = NO_VALUE;
        (*out).pgtables_kb = NO_VALUE;
        (*out).oom_score_adj = i32::MIN;
        (*out).uid = NO_VALUE_32;
        (*out).flags = if HAVE_SIGNAL.load() == 0 {
            0
        } else {
            oom::MARK_NO_SIGNAL
        };
        (*out).victim_kernel.len = 0;
        (*out).victim_kernel.reserved = 0;
    }
}

/// The tracepoint's own fields (since Linux 6.8 and stable backports), kB.
///
/// # Safety
/// `out` is valid for writing.
#[inline(always)]
unsafe fn fill_tracepoint(ctx: &TracePointContext, out: *mut Mark, filled: bool) {
    // SAFETY: the caller's.
    unsafe {
        (*out).tp_total_vm_kb = field(ctx, offset!(tp_mark_total_vm)).unwrap_or(NO_VALUE);
        (*out).tp_anon_rss_kb = field(ctx, offset!(tp_mark_anon_rss)).unwrap_or(NO_VALUE);
        (*out).tp_file_rss_kb = field(ctx, offset!(tp_mark_file_rss)).unwrap_or(NO_VALUE);
        (*out).tp_shmem_rss_kb = field(ctx, offset!(tp_mark_shmem_rss)).unwrap_or(NO_VALUE);
        (*out).tp_pgtables_kb = field(ctx, offset!(tp_mark_pgtables)).unwrap_or(NO_VALUE);
        if !filled {
            (*out).uid = field(ctx, offset!(tp_mark_uid)).unwrap_or(NO_VALUE_32);
            let adj = field::<i16>(ctx, offset!(tp_mark_adj));
            (*out).oom_score_adj = adj.map_or(i32::MIN, i32::from);
        }
    }
}

/// What the trigger was allocating: its last reclaim, which precedes every OOM kill but sysrq's.
///
/// # Safety
/// `out` is valid for writing.
#[inline(always)]
unsafe fn fill_reclaim(out: *mut Mark, tid: u32) {
    // SAFETY: the caller's; entries stay mapped while a program runs.
    unsafe {
        if let Some(last) = LAST_RECLAIM.get(tid) {
            (*out).reclaim_ns = last.ts_ns;
            (*out).gfp_mask = last.gfp_mask;
            (*out).order = last.order;
            (*out).flags |= oom::MARK_GFP_FROM_RECLAIM;
        } else {
            (*out).reclaim_ns = NO_VALUE;
            (*out).gfp_mask = NO_VALUE_32;
            (*out).order = i32::MIN;
        }
    }
}

/// `signal/signal_deliver`, in the context of the task that takes the signal.
#[tracepoint(category = "signal", name = "signal_deliver")]
pub fn signal_deliver(ctx: TracePointContext) -> u32 {
    if field::<i32>(&ctx, offset!(tp_deliver_sig)) == Some(SIGKILL) {
        deliver(&ctx);
    }
    0
}

#[inline(always)]
fn deliver(ctx: &TracePointContext) {
    let (pid, _) = current_ids();
    if VICTIMS.get_ptr(pid).is_none() || DELIVERED.insert(pid, 1, NEW_ONLY).is_err() {
        return;
    }
    // Any SIGKILL that the kernel itself sends comes here, as at the end of a PID namespace: thousands of
    // stacks must leave room for marks.
    if crowded() {
        lost(Loss::OomRingFull);
        return;
    }
    let Some(mut entry) = reserve::<Delivered>(&OOM, Loss::OomRingFull) else {
        return;
    };
    let out = entry.as_mut_ptr();
    // SAFETY: the ring gave room for one record; all of it is written below.
    unsafe {
        (*out).header = header::<Delivered>(EventKind::OomDelivered, bpf_ktime_get_ns());
        fill_current(&raw mut (*out).victim);
        user_stack(ctx, &raw mut (*out).user);
    }
    submit(entry, EventKind::OomDelivered, WAKE_IF_IDLE);
}

/// Emits a step of a victim's end.
#[inline(always)]
pub fn step(step: u32, pid: u32, tid: u32) {
    let Some(mut entry) = reserve::<Step>(&OOM, Loss::OomRingFull) else {
        return;
    };
    let out = entry.as_mut_ptr();
    // SAFETY: the ring gave room for one record, and the helper has no precondition.
    unsafe {
        let header = header::<Step>(EventKind::OomStep, bpf_ktime_get_ns());
        out.write(Step {
            header,
            step,
            pid,
            tid,
            reserved: 0,
        });
    }
    submit(entry, EventKind::OomStep, WAKE_IF_IDLE);
}

#[inline(always)]
fn reaper(ctx: &TracePointContext, what: u32) -> u32 {
    if let Some(tid) = field::<u32>(ctx, offset!(tp_reap_pid)) {
        step(what, 0, tid);
    }
    0
}

/// `oom/wake_reaper`.
#[tracepoint(category = "oom", name = "wake_reaper")]
pub fn wake_reaper(ctx: TracePointContext) -> u32 {
    reaper(&ctx, oom::STEP_WAKE_REAPER)
}

/// `oom/start_task_reaping`.
#[tracepoint(category = "oom", name = "start_task_reaping")]
pub fn start_task_reaping(ctx: TracePointContext) -> u32 {
    reaper(&ctx, oom::STEP_START_REAPING)
}

/// `oom/finish_task_reaping`.
#[tracepoint(category = "oom", name = "finish_task_reaping")]
pub fn finish_task_reaping(ctx: TracePointContext) -> u32 {
    reaper(&ctx, oom::STEP_FINISH_REAPING)
}

/// `oom/skip_task_reaping`.
#[tracepoint(category = "oom", name = "skip_task_reaping")]
pub fn skip_task_reaping(ctx: TracePointContext) -> u32 {
    reaper(&ctx, oom::STEP_SKIP_REAPING)
}
