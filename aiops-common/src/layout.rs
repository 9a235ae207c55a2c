//! What user space tells the BPF programs before they are loaded: where the kernel's fields are.
//!
//! `aiops::source::bpf::offsets` fills a [`Layout`] from BTF and from tracefs `format` files of the
//! running kernel; the object holds one as the global `LAYOUT`. A field that this kernel does not
//! have is [`ABSENT`], and the reading that needs it gives "no value".

/// The field does not exist on this kernel, or nobody could say where it is.
pub const ABSENT: u32 = u32::MAX;

/// `mm_struct.rss_stat` is an array of `long` (before Linux 6.2).
pub const RSS_LONGS: u32 = 1;
/// `mm_struct.rss_stat` is an array of `percpu_counter`; only `count` is read.
pub const RSS_PERCPU: u32 = 2;

/// Offsets in bytes from the start of the named structure or of the tracepoint's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Layout {
    /// `task_struct.pid`.
    pub task_pid: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.comm`.
    pub task_comm: u32,
    /// `task_struct.start_boottime` (older: `real_start_time`).
    pub task_start: u32,
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `task_struct.group_leader`.
    pub task_leader: u32,
    /// `task_struct.cred`.
    pub task_cred: u32,
    /// `task_struct.cgroups`.
    pub task_cgroups: u32,
    /// `signal_struct.oom_score_adj` (a `short`).
    pub signal_adj: u32,
    /// `signal_struct.live` (an `atomic_t`).
    pub signal_live: u32,
    /// `cred.uid`.
    pub cred_uid: u32,
    /// `css_set.subsys[memory_cgrp_id]`: array offset plus index times pointer size.
    pub css_set_memory: u32,
    /// `cgroup_subsys_state.cgroup`.
    pub css_cgroup: u32,
    /// `cgroup.kn`.
    pub cgroup_kn: u32,
    /// `kernfs_node.id` (its low 32 bits are the inode on 64-bit machines' cgroup file systems).
    pub kn_id: u32,
    /// `mm_struct.total_vm`, pages.
    pub mm_total_vm: u32,
    /// `mm_struct.rss_stat`: first counter's value.
    pub mm_rss: u32,
    /// Bytes from one counter of `rss_stat` to the next.
    pub mm_rss_stride: u32,
    /// `RSS_LONGS`, `RSS_PERCPU` or [`ABSENT`].
    pub mm_rss_kind: u32,
    /// Index of `MM_FILEPAGES`.
    pub mm_file: u32,
    /// Index of `MM_ANONPAGES`.
    pub mm_anon: u32,
    /// Index of `MM_SWAPENTS`.
    pub mm_swap: u32,
    /// Index of `MM_SHMEMPAGES`.
    pub mm_shmem: u32,
    /// `mm_struct.pgtables_bytes`.
    pub mm_pgtables: u32,
    /// `pt_regs`-free: size of a page in bytes, not an offset.
    pub page_size: u32,
    /// `oom/mark_victim`: `pid`.
    pub tp_mark_pid: u32,
    /// `oom/mark_victim`: `total_vm`.
    pub tp_mark_total_vm: u32,
    /// `oom/mark_victim`: `anon_rss`.
    pub tp_mark_anon_rss: u32,
    /// `oom/mark_victim`: `file_rss`.
    pub tp_mark_file_rss: u32,
    /// `oom/mark_victim`: `shmem_rss`.
    pub tp_mark_shmem_rss: u32,
    /// `oom/mark_victim`: `uid`.
    pub tp_mark_uid: u32,
    /// `oom/mark_victim`: `pgtables`.
    pub tp_mark_pgtables: u32,
    /// `oom/mark_victim`: `oom_score_adj` (a `short`).
    pub tp_mark_adj: u32,
    /// `oom/*_reaper`, `oom/*_task_reaping`: `pid`.
    pub tp_reap_pid: u32,
    /// `signal/signal_deliver`: `sig`.
    pub tp_deliver_sig: u32,
    /// `vmscan/mm_vmscan_direct_reclaim_begin`: `gfp_flags`.
    pub tp_direct_gfp: u32,
    /// `vmscan/mm_vmscan_direct_reclaim_begin`: `order`.
    pub tp_direct_order: u32,
    /// `vmscan/mm_vmscan_memcg_reclaim_begin`: `gfp_flags`.
    pub tp_memcg_gfp: u32,
    /// `vmscan/mm_vmscan_memcg_reclaim_begin`: `order`.
    pub tp_memcg_order: u32,
    /// `sched/sched_process_fork`: `child_pid`.
    pub tp_fork_child: u32,
    /// `sched/sched_process_fork`: `parent_pid`.
    pub tp_fork_parent: u32,
}

impl Layout {
    /// A layout that knows nothing.
    pub const UNKNOWN: Self = Self {
        task_pid: ABSENT,
        task_tgid: ABSENT,
        task_comm: ABSENT,
        task_start: ABSENT,
        task_mm: ABSENT,
        task_signal: ABSENT,
        task_leader: ABSENT,
        task_cred: ABSENT,
        task_cgroups: ABSENT,
        signal_adj: ABSENT,
        signal_live: ABSENT,
        cred_uid: ABSENT,
        css_set_memory: ABSENT,
        css_cgroup: ABSENT,
        cgroup_kn: ABSENT,
        kn_id: ABSENT,
        mm_total_vm: ABSENT,
        mm_rss: ABSENT,
        mm_rss_stride: ABSENT,
        mm_rss_kind: ABSENT,
        mm_file: ABSENT,
        mm_anon: ABSENT,
        mm_swap: ABSENT,
        mm_shmem: ABSENT,
        mm_pgtables: ABSENT,
        page_size: ABSENT,
        tp_mark_pid: ABSENT,
        tp_mark_total_vm: ABSENT,
        tp_mark_anon_rss: ABSENT,
        tp_mark_file_rss: ABSENT,
        tp_mark_shmem_rss: ABSENT,
        tp_mark_uid: ABSENT,
        tp_mark_pgtables: ABSENT,
        tp_mark_adj: ABSENT,
        tp_reap_pid: ABSENT,
        tp_deliver_sig: ABSENT,
        tp_direct_gfp: ABSENT,
        tp_direct_order: ABSENT,
        tp_memcg_gfp: ABSENT,
        tp_memcg_order: ABSENT,
        tp_fork_child: ABSENT,
        tp_fork_parent: ABSENT,
    };
}

const _: () = assert!(size_of::<Layout>().is_multiple_of(4));
