//! What kernel hooks saw, after decoding: the same on every kernel and in every recording.

use serde::Deserialize;
use serde::Serialize;

use super::Nanos;
use super::RawText;

/// One record of a kernel hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When the hook ran.
    pub ts_ns: Nanos,
    /// When the record was in user space: the capture latency is `received_ns - ts_ns`.
    #[serde(default)]
    pub received_ns: Option<Nanos>,
    /// CPU that ran the hook.
    pub cpu: u32,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A task was marked as an OOM victim.
    Mark(Box<Mark>),
    /// SIGKILL reached a victim.
    Delivery(Box<Delivery>),
    /// A victim exits or is reaped.
    Step(Step),
    /// A task begins to reclaim memory.
    Reclaim(Reclaim),
    /// A task waited while the kernel looked for memory; the event's time is the end.
    Stall(Box<Stall>),
}

/// A thread at the moment of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRef {
    /// Process id (kernel: `tgid`).
    pub pid: u32,
    /// Thread id (kernel: `pid`).
    pub tid: u32,
    /// Name of the thread.
    pub comm: RawText,
    /// Start of the thread, ns since boot (kernel: `start_boottime`).
    pub start_ns: Option<u64>,
    /// Inode of its cgroup in the memory controller's hierarchy.
    pub memcg_id: Option<u64>,
}

/// Memory of a process as the OOM killer counts it, KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Mapped address space (`mm.total_vm`).
    pub total_vm_kb: Option<u64>,
    /// Resident anonymous pages.
    pub anon_rss_kb: Option<u64>,
    /// Resident file pages.
    pub file_rss_kb: Option<u64>,
    /// Resident shared memory.
    pub shmem_rss_kb: Option<u64>,
    /// Swap entries.
    pub swap_kb: Option<u64>,
    /// Page tables.
    pub pgtables_kb: Option<u64>,
}

impl Memory {
    /// Resident memory in all, when every part is known.
    #[must_use]
    pub fn rss_kb(&self) -> Option<u64> {
        Some(self.anon_rss_kb? + self.file_rss_kb? + self.shmem_rss_kb?)
    }
}

/// How a [`Mark`] came to its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkSource {
    /// `signal_generate` filled the record in the same task, just before `mark_victim`.
    Signal,
    /// The task was already exiting: no SIGKILL was generated, so nobody was killed.
    AlreadyExiting,
    /// Only the tracepoint's own fields (no BTF, or `signal_generate` could not be attached).
    Tracepoint,
}

/// The kernel's choice (`oom/mark_victim`, mm/oom_kill.c).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The task whose allocation ran the OOM killer.
    pub trigger: TaskRef,
    /// The task that was chosen.
    pub victim: TaskRef,
    /// How the figures below were had.
    pub source: MarkSource,
    /// When the record was filled, just before the mark.
    pub signal_ns: Option<Nanos>,
    /// When the trigger's last reclaim began.
    pub reclaim_ns: Option<Nanos>,
    /// The victim's memory, read from its `mm`.
    pub memory: Memory,
    /// The victim's memory as the tracepoint itself says (Linux 6.8 and stable backports).
    pub tracepoint: Memory,
    /// RSS lacks the per-CPU part of its counters: up to 64 pages per CPU (Linux 6.2 and later).
    pub rss_approximate: bool,
    /// The victim's `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// The victim's real user id.
    pub uid: Option<u32>,
    /// Flags of the trigger's last reclaim: reclaim's mask, which may lack bits of the allocation's.
    pub gfp_mask: Option<u32>,
    /// Order of the trigger's last reclaim.
    pub order: Option<i32>,
    /// The trigger's `oom_score_adj`.
    pub trigger_oom_score_adj: Option<i32>,
    /// Kernel stack of the trigger, innermost first.
    pub trigger_kernel: Vec<u64>,
    /// User stack of the trigger.
    pub trigger_user: Vec<u64>,
    /// Kernel stack of the victim, when it is another task.
    pub victim_kernel: Vec<u64>,
}

/// SIGKILL delivered in the victim's context (`signal/signal_deliver`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The thread that took it.
    pub victim: TaskRef,
    /// Its user stack, innermost first.
    pub user: Vec<u64>,
}

/// A step of a victim's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which.
    pub step: StepKind,
    /// Process id, where the hook knows it.
    pub pid: Option<u32>,
    /// Thread id that the hook names.
    pub tid: u32,
}

/// Kinds of [`Step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// The process has exited (`sched/sched_process_exit`).
    Exit,
    /// `oom/wake_reaper`.
    WakeReaper,
    /// `oom/start_task_reaping`.
    StartReaping,
    /// `oom/finish_task_reaping`.
    FinishReaping,
    /// `oom/skip_task_reaping`.
    SkipReaping,
}

/// A task begins to reclaim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reclaim {
    /// Who.
    pub task: TaskRef,
    /// For the host or for a memory cgroup.
    pub kind: ReclaimKind,
    /// Allocation flags.
    pub gfp_mask: Option<u32>,
    /// Allocation order.
    pub order: Option<i32>,
}

/// Where memory was short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReclaimKind {
    /// `vmscan/mm_vmscan_direct_reclaim_begin`.
    Direct,
    /// `vmscan/mm_vmscan_memcg_reclaim_begin`.
    Memcg,
}

/// A task waited while the kernel looked for memory, or a thread of the kernel looked for it in the background.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// Who.
    pub task: TaskRef,
    /// For what.
    pub kind: StallKind,
    /// When it began.
    pub begin_ns: Nanos,
    /// Pages reclaimed.
    pub reclaimed: Option<u64>,
    /// Pages scanned.
    pub scanned: Option<u64>,
    /// Allocation flags.
    pub gfp_mask: Option<u32>,
    /// Allocation order.
    pub order: Option<i32>,
    /// Result of a compaction (`enum compact_result`), reasons of a throttling (a bit mask).
    pub status: Option<i32>,
    /// NUMA node.
    pub node: Option<u32>,
    /// Kernel stack at its end, innermost first; none for a short one.
    pub stack: Vec<u64>,
}

/// What a task waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StallKind {
    /// Direct reclaim: the host is short of memory.
    Direct,
    /// Reclaim of a memory cgroup at its limit.
    Memcg,
    /// Reclaim of one NUMA node.
    Node,
    /// kswapd works.
    Kswapd,
    /// A zone is compacted.
    Compaction,
    /// Reclaim sleeps for want of progress.
    Throttled,
}

impl StallKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Direct,
        Self::Memcg,
        Self::Node,
        Self::Kswapd,
        Self::Compaction,
        Self::Throttled,
    ];

    /// Its name in recordings and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Memcg => "memcg",
            Self::Node => "node",
            Self::Kswapd => "kswapd",
            Self::Compaction => "compaction",
            Self::Throttled => "throttled",
        }
    }
}
