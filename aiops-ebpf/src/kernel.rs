//! Reads the kernel's structures at the offsets in `LAYOUT`, and takes stacks.

use aiops_common::COMM_LEN;
use aiops_common::Loss;
use aiops_common::MAX_FRAMES;
use aiops_common::NO_VALUE;
use aiops_common::Stack;
use aiops_common::Task;
use aiops_common::layout::ABSENT;
use aiops_common::layout::Layout;
use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_F_USER_STACK;
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::bpf_get_current_task;
use aya_ebpf::helpers::bpf_get_stack;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::programs::TracePointContext;

use crate::emit::lost;
use crate::maps::LAYOUT;

/// An address in the kernel.
pub type Address = *const u8;

/// One offset of `LAYOUT`, as user space has set it.
macro_rules! offset {
    ($field:ident) => {
        $crate::kernel::offset_at(core::mem::offset_of!(aiops_common::layout::Layout, $field))
    };
}
pub(crate) use offset;

/// The word of `LAYOUT` at `at` bytes. The map is frozen: the verifier knows the value.
#[inline(always)]
pub fn offset_at(at: usize) -> u32 {
    const { assert!(size_of::<Layout>().is_multiple_of(4)) };
    // SAFETY: `at` is the offset of a u32 field of the layout, and volatile keeps the compiler from
    // taking the value that it was built with.
    unsafe { core::ptr::read_volatile((&raw const LAYOUT).cast::<u8>().add(at).cast::<u32>()) }
}

/// Reads a `T` at `base + offset`; `None` when the kernel has no such field or no such page.
#[inline(always)]
pub fn read<T>(base: Address, offset: u32) -> Option<T> {
    if offset == ABSENT || base.is_null() {
        return None;
    }
    // SAFETY: the helper checks the address and fails without a fault.
    unsafe { bpf_probe_read_kernel(base.add(offset as usize).cast::<T>()) }.ok()
}

/// Reads a field of a tracepoint's record.
#[inline(always)]
pub fn field<T>(ctx: &TracePointContext, offset: u32) -> Option<T> {
    if offset == ABSENT {
        return None;
    }
    // SAFETY: the helper checks the address and fails without a fault.
    unsafe { ctx.read_at(offset as usize) }.ok()
}

/// The running task, as an address.
#[inline(always)]
pub fn current() -> Address {
    // SAFETY: no precondition.
    unsafe { bpf_get_current_task() as Address }
}

/// Process id and thread id of the running task.
#[inline(always)]
pub fn current_ids() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}

/// `kernfs_node.id` of the task's cgroup in the memory controller's hierarchy.
#[inline(always)]
pub fn memcg_id(task: Address) -> u64 {
    known_memcg_id(task).unwrap_or(NO_VALUE)
}

// No closure: one that is not inlined has a name that depends on where the crate is built.
#[inline(always)]
fn known_memcg_id(task: Address) -> Option<u64> {
    let css_set = read::<Address>(task, offset!(task_cgroups))?;
    let css = read::<Address>(css_set, offset!(css_set_memory))?;
    let cgroup = read::<Address>(css, offset!(css_cgroup))?;
    let node = read::<Address>(cgroup, offset!(cgroup_kn))?;
    read::<u64>(node, offset!(kn_id))
}

/// Fills `out` for the running task.
///
/// # Safety
/// `out` is valid for writing.
#[inline(always)]
pub unsafe fn fill_current(out: *mut Task) {
    let task = current();
    let (pid, tid) = current_ids();
    // SAFETY: the caller's.
    unsafe {
        (*out).tid = tid;
        (*out).pid = pid;
        (*out).comm = bpf_get_current_comm().unwrap_or([0; COMM_LEN]);
        (*out).start_ns = read(task, offset!(task_start)).unwrap_or(NO_VALUE);
        (*out).memcg_id = memcg_id(task);
    }
}

/// Fills `out` for any task.
///
/// # Safety
/// `out` is valid for writing.
#[inline(always)]
pub unsafe fn fill_task(out: *mut Task, task: Address) {
    // SAFETY: the caller's.
    unsafe {
        (*out).tid = read(task, offset!(task_pid)).unwrap_or(0);
        (*out).pid = read(task, offset!(task_tgid)).unwrap_or(0);
        (*out).comm = read(task, offset!(task_comm)).unwrap_or([0; COMM_LEN]);
        (*out).start_ns = read(task, offset!(task_start)).unwrap_or(NO_VALUE);
        (*out).memcg_id = memcg_id(task);
    }
}

/// `signal.oom_score_adj` of a task, or `i32::MIN`.
#[inline(always)]
pub fn oom_score_adj(task: Address) -> i32 {
    read::<Address>(task, offset!(task_signal))
        .and_then(|signal| read::<i16>(signal, offset!(signal_adj)))
        .map_or(i32::MIN, i32::from)
}

/// Turns a stack helper's answer in bytes into frames, and counts what went wrong.
#[inline(always)]
pub fn frames(bytes: i64, count: bool) -> i32 {
    if bytes < 0 {
        if count {
            lost(Loss::StackFailed);
        }
        return bytes as i32;
    }
    let frames = (bytes / 8) as i32;
    if frames >= MAX_FRAMES as i32 {
        lost(Loss::StackTruncated);
    }
    frames
}

/// The running task's kernel stack.
///
/// # Safety
/// `out` is valid for writing.
#[inline(always)]
pub unsafe fn kernel_stack(ctx: &impl EbpfContext, out: *mut Stack) {
    // SAFETY: the caller's; the helper writes at most the size of `frames` and clears the rest.
    unsafe {
        let buffer = (&raw mut (*out).frames).cast();
        let bytes = bpf_get_stack(ctx.as_ptr(), buffer, (MAX_FRAMES * 8) as u32, 0);
        (*out).len = frames(bytes, true);
        (*out).reserved = 0;
    }
}

/// The running task's user stack; empty for a kernel thread.
///
/// # Safety
/// `out` is valid for writing.
#[inline(always)]
pub unsafe fn user_stack(ctx: &impl EbpfContext, out: *mut Stack) {
    let kernel_thread = read::<u64>(current(), offset!(task_mm)) == Some(0);
    // SAFETY: as in `kernel_stack`.
    unsafe {
        let buffer = (&raw mut (*out).frames).cast();
        let flags = u64::from(BPF_F_USER_STACK);
        let bytes = bpf_get_stack(ctx.as_ptr(), buffer, (MAX_FRAMES * 8) as u32, flags);
        (*out).len = if kernel_thread {
            0
        } else {
            frames(bytes, true)
        };
        (*out).reserved = 0;
    }
}
