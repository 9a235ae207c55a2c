//! The OOM family: who was chosen, with which memory, at whose request, and what became of it.

use crate::{Header, Stack, Task};

/// The task had a fresh `signal_generate` record: every field that the layout allows was read.
pub const MARK_FILLED: u32 = 1;
/// `mark_victim` came without a SIGKILL: the task was already exiting (kernel: `task_will_free_mem`).
pub const MARK_NO_SIGNAL: u32 = 2;
/// The RSS counters are per-CPU counters read without their per-CPU part (Linux 6.2 and later).
pub const MARK_RSS_APPROX: u32 = 4;
/// `gfp_mask` and `order` are those of the trigger's last reclaim.
pub const MARK_GFP_FROM_RECLAIM: u32 = 8;

/// One victim. Emitted at `oom/mark_victim`; all sizes are kibibytes unless named otherwise.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Mark {
    /// The beginning of every record; `ts_ns` is the moment of `mark_victim`.
    pub header: Header,
    /// The task whose allocation failed: the one that ran the OOM killer.
    pub trigger: Task,
    /// The task that was chosen. `tid` is the one that `mark_victim` names.
    pub victim: Task,
    /// When `signal_generate` filled this record, ns, or `NO_VALUE`.
    pub signal_ns: u64,
    /// When the trigger's last reclaim began, ns, or `NO_VALUE`.
    pub reclaim_ns: u64,
    /// `mm.total_vm`.
    pub total_vm_kb: u64,
    /// `MM_ANONPAGES`.
    pub anon_rss_kb: u64,
    /// `MM_FILEPAGES`.
    pub file_rss_kb: u64,
    /// `MM_SHMEMPAGES`.
    pub shmem_rss_kb: u64,
    /// `MM_SWAPENTS`.
    pub swap_kb: u64,
    /// `mm.pgtables_bytes`.
    pub pgtables_kb: u64,
    /// The tracepoint's own `total_vm` (kB), where the kernel has it.
    pub tp_total_vm_kb: u64,
    /// The tracepoint's own `anon_rss` (kB).
    pub tp_anon_rss_kb: u64,
    /// The tracepoint's own `file_rss` (kB).
    pub tp_file_rss_kb: u64,
    /// The tracepoint's own `shmem_rss` (kB).
    pub tp_shmem_rss_kb: u64,
    /// The tracepoint's own `pgtables` (kB).
    pub tp_pgtables_kb: u64,
    /// `signal.oom_score_adj`, −1000 to 1000; `i32::MIN` when it was not read.
    pub oom_score_adj: i32,
    /// Real user id of the victim, or `NO_VALUE_32`.
    pub uid: u32,
    /// gfp mask of the trigger's last reclaim, or `NO_VALUE_32`.
    pub gfp_mask: u32,
    /// Order of the trigger's last reclaim; `i32::MIN` when there was none.
    pub order: i32,
    /// `signal.oom_score_adj` of the trigger; `i32::MIN` when it was not read.
    pub trigger_oom_score_adj: i32,
    /// `MARK_*`.
    pub flags: u32,
    /// The trigger's kernel stack: tells the memory-cgroup path from the global one.
    pub trigger_kernel: Stack,
    /// The trigger's user stack.
    pub trigger_user: Stack,
    /// The victim's kernel stack, when it is another task and not already running on another CPU.
    pub victim_kernel: Stack,
}

/// SIGKILL delivered: written in the victim's own context.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Delivered {
    /// The beginning of every record.
    pub header: Header,
    /// The thread that took the signal.
    pub victim: Task,
    /// Its user stack at that moment.
    pub user: Stack,
}

/// A victim's process has exited (`sched/sched_process_exit` of its last thread).
pub const STEP_EXIT: u32 = 1;
/// `oom/wake_reaper`.
pub const STEP_WAKE_REAPER: u32 = 2;
/// `oom/start_task_reaping`.
pub const STEP_START_REAPING: u32 = 3;
/// `oom/finish_task_reaping`.
pub const STEP_FINISH_REAPING: u32 = 4;
/// `oom/skip_task_reaping`.
pub const STEP_SKIP_REAPING: u32 = 5;

/// A step of a victim's end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Step {
    /// The beginning of every record.
    pub header: Header,
    /// `STEP_*`.
    pub step: u32,
    /// The victim's process id where it is known (`STEP_EXIT`), else 0.
    pub pid: u32,
    /// The thread that the tracepoint names.
    pub tid: u32,
    /// Always 0.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<Mark>() == 24 + 2 * 40 + 13 * 8 + 6 * 4 + 3 * size_of::<Stack>());
    assert!(size_of::<Mark>().is_multiple_of(8));
    assert!(size_of::<Delivered>() == 24 + 40 + size_of::<Stack>());
    assert!(size_of::<Step>() == 40);
};
