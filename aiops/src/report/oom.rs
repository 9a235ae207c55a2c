//! OOM incidents: the data of `trace oom`, its replay, and later `analyze oom`.
//!
//! Unknown is `None` (`null`). One incident is one decision of a killer; a group kill is one incident
//! with several kills.

use serde::Serialize;

use super::Msg;
use crate::model::Frame;
use crate::model::RawText;

/// Data of `aiops.trace-oom/1`.
#[derive(Clone, Debug, Serialize)]
pub struct OomData {
    /// Beginning, RFC 3339.
    pub started_at: Option<String>,
    /// End, RFC 3339.
    pub ended_at: Option<String>,
    /// Length of the observation, s.
    pub duration_s: Option<f64>,
    /// Incidents whose victims match the filter, oldest first.
    pub incidents: Vec<Incident>,
    /// Are all kills accounted for?
    pub reconciliation: Reconciliation,
    /// What a reader has to know about how it was observed (no BTF, missing hooks).
    pub notes: Vec<String>,
}

/// One decision.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Incident {
    /// `<boot id's first 8>-<ms since boot>-<pid>`: stable over replays.
    pub id: String,
    /// Who killed: `kernel` here.
    pub killer: &'static str,
    /// Time as the observed host wrote it, local: `2026-11-23 10:00:00.123`.
    pub time: Option<String>,
    /// RFC 3339 with the offset.
    pub at: Option<String>,
    /// How `at` is known: `clock` (recorded clock pair).
    pub at_source: Option<&'static str>,
    /// Task that ran the OOM killer.
    pub trigger: Trigger,
    /// Word after `CONSTRAINT_`, lower case: none, memcg, cpuset, memory_policy.
    pub constraint: Option<String>,
    /// global, memcg, cpuset.
    pub scope: Option<String>,
    /// How `constraint` and `scope` are known: kmsg (the kernel's own line) or stack (inferred).
    pub constraint_source: Option<&'static str>,
    /// Cgroup whose limit was met.
    pub oom_memcg: Option<String>,
    /// Cgroup of the victim.
    pub task_memcg: Option<String>,
    /// That limit.
    pub memcg_limit_kb: Option<u64>,
    /// Use of that cgroup at the kill.
    pub memcg_usage_kb: Option<u64>,
    /// Host.
    pub mem_total_kb: Option<u64>,
    /// Host, from the last sample before the kill.
    pub mem_free_kb: Option<u64>,
    /// Host, from the last sample before the kill.
    pub mem_available_kb: Option<u64>,
    /// Host, from the last sample before the kill.
    pub cached_kb: Option<u64>,
    /// Host.
    pub swap_total_kb: Option<u64>,
    /// Host, from the last sample before the kill.
    pub swap_free_kb: Option<u64>,
    /// Age of that sample at the kill.
    pub sample_age_ms: Option<f64>,
    /// Rows of the kernel's task table.
    pub task_rows: Option<u64>,
    /// Who was killed.
    pub kills: Vec<Kill>,
    /// The whole cgroup was killed (memory.oom.group).
    pub group_kill: Option<bool>,
    /// For killers that name only a cgroup.
    pub killed_cgroup: Option<String>,
    /// killed, already-exiting, no-killable-process, panic, unknown.
    pub outcome: &'static str,
    /// Why memory ran out.
    pub cause: Cause,
    /// Why this process.
    pub why: Why,
    /// Stacks.
    pub stacks: Stacks,
    /// The minutes before, oldest first.
    pub before: Vec<Before>,
    /// How the victim grew.
    pub growth: Option<Growth>,
    /// First reclaim → mark → SIGKILL → exit → reaped, in ms from the mark.
    pub timeline: Vec<TimelineEntry>,
    /// Delay from the hook to user space, µs.
    pub capture_latency_us: Option<f64>,
    /// Who saw it.
    pub sources: Sources,
    /// Parts that were not in when the incident closed: kmsg, exit, reaped, identity, …
    pub missing: Vec<&'static str>,
    /// The kernel's own lines of this incident.
    pub kernel_text: Vec<String>,
}

/// The task that ran the OOM killer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trigger {
    /// Name.
    pub comm: Option<String>,
    /// Thread id that the kernel prints as its pid.
    pub pid: Option<u32>,
    /// Process id.
    pub tgid: Option<u32>,
    /// `0xcc0`.
    pub gfp_mask: Option<String>,
    /// `GFP_KERNEL|__GFP_ZERO`.
    pub gfp_flags: Option<String>,
    /// kmsg (the allocation's own) or reclaim (the last reclaim's, which may lack bits).
    pub gfp_source: Option<&'static str>,
    /// Pages asked for: 2^order.
    pub order: Option<i32>,
    /// −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Whether it is the victim itself.
    pub is_victim: Option<bool>,
    /// Its cgroup.
    pub cgroup: Option<String>,
    /// Its command line.
    pub cmdline: Option<String>,
    /// Its container.
    pub container: Option<ContainerInfo>,
}

/// A victim.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kill {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// Real user id.
    pub uid: Option<u32>,
    /// Address space.
    pub total_vm_kb: Option<u64>,
    /// Resident anonymous memory.
    pub anon_rss_kb: Option<u64>,
    /// Resident file memory.
    pub file_rss_kb: Option<u64>,
    /// Resident shared memory.
    pub shmem_rss_kb: Option<u64>,
    /// Swapped out.
    pub swap_kb: Option<u64>,
    /// Page tables.
    pub pgtables_kb: Option<u64>,
    /// −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Badness per mille of the memory that counted, `oom_score_adj` included.
    pub score: Option<i64>,
    /// Arguments, blank between.
    pub cmdline: Option<String>,
    /// Program's path.
    pub exe: Option<String>,
    /// Parent's process id.
    pub ppid: Option<u32>,
    /// Cgroup at the kill.
    pub cgroup: Option<String>,
    /// Container that the cgroup's name tells.
    pub container: Option<ContainerInfo>,
    /// The kernel's own figures where they differ from those above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelFigures>,
    /// Figures come from per-CPU counters: up to 64 pages per CPU off.
    pub rss_approximate: bool,
    /// signal, tracepoint, kmsg.
    pub figures_from: &'static str,
}

/// What the kernel's "Killed process" line says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelFigures {
    /// total-vm.
    pub total_vm_kb: Option<u64>,
    /// anon-rss.
    pub anon_rss_kb: Option<u64>,
    /// file-rss.
    pub file_rss_kb: Option<u64>,
    /// shmem-rss.
    pub shmem_rss_kb: Option<u64>,
    /// pgtables.
    pub pgtables_kb: Option<u64>,
    /// oom_score_adj.
    pub oom_score_adj: Option<i32>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContainerInfo {
    /// docker, containerd, cri-o, podman, kubernetes, lxc, nspawn.
    pub runtime: String,
    /// Whole id.
    pub id: String,
    /// Kubernetes pod uid.
    pub pod: Option<String>,
}

/// Why memory ran out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cause {
    /// cgroup-limit, global-exhaustion, fragmentation, cpuset-policy, swap-full, unknown, …
    pub class: &'static str,
    /// The figures that prove it.
    pub evidence: Vec<Msg>,
}

/// The kernel's choice recomputed (mm/oom_kill.c `oom_badness`), from figures stamped at or before the kill.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Why {
    /// Memory that counts: the limit of the cgroup, or RAM and swap, pages.
    pub total_pages: Option<u64>,
    /// Highest badness first; the victim is always among them.
    pub candidates: Vec<Candidate>,
    /// What decided, in words.
    pub summary: Vec<Msg>,
    /// What would have changed it.
    pub would_change: Vec<Msg>,
}

/// A process that could have been chosen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Candidate {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// Resident memory.
    pub rss_kb: Option<u64>,
    /// Swapped out.
    pub swap_kb: Option<u64>,
    /// Page tables.
    pub pgtables_kb: Option<u64>,
    /// −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// rss + swap + page tables + oom_score_adj × total / 1000, pages; null when it cannot be killed.
    pub badness_pages: Option<i64>,
    /// Per mille of `total_pages`.
    pub score: Option<i64>,
    /// It was chosen.
    pub victim: bool,
    /// It could not be killed, and why: adj-minus-1000, kernel-thread, init.
    pub unkillable: Option<&'static str>,
    /// Where the figures are from: mark, kmsg, sample.
    pub from: &'static str,
    /// Age of the figures at the kill.
    pub age_ms: Option<f64>,
}

/// Stacks of an incident, innermost frame first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stacks {
    /// Names the path that ran out of memory.
    pub trigger_kernel: Vec<FrameInfo>,
    /// The code that asked for memory.
    pub trigger_user: Vec<FrameInfo>,
    /// What the victim was doing.
    pub victim_user: Vec<FrameInfo>,
    /// What the victim was doing in the kernel, when it is not the trigger.
    pub victim_kernel: Vec<FrameInfo>,
}

/// A frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FrameInfo {
    /// `0x7f…`.
    pub ip: String,
    /// Demangled name.
    pub function: Option<String>,
    /// Bytes into the function.
    pub offset: Option<u64>,
    /// File or `[kernel]`.
    pub module: Option<String>,
    /// Bytes into the file.
    pub module_offset: Option<u64>,
    /// Build id of the file.
    pub build_id: Option<String>,
    /// Source file.
    pub file: Option<String>,
    /// Source line.
    pub line: Option<u32>,
    /// Inlined into the next frame.
    pub inlined: bool,
}

impl FrameInfo {
    /// A resolved frame of this address.
    #[must_use]
    pub fn of(ip: u64, frame: &Frame) -> Self {
        let text = |raw: &RawText| raw.lossy().into_owned();
        Self {
            ip: format!("{ip:#x}"),
            function: frame.function.as_ref().map(text),
            offset: frame.offset,
            module: frame.module.as_ref().map(text),
            module_offset: frame.module_offset,
            build_id: frame.build_id.clone(),
            file: frame.file.as_ref().map(text),
            line: frame.line,
            inlined: frame.inlined,
        }
    }
}

/// The host, the cgroup and the victim at one moment before the kill.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Before {
    /// Milliseconds from the mark: negative.
    pub t_ms: f64,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<BeforeSystem>,
    /// The cgroup whose limit was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<BeforeCgroup>,
    /// The first victim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub victim: Option<BeforeProcess>,
    /// The largest processes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<BeforeProcess>,
}

/// The host at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BeforeSystem {
    /// MemFree.
    pub mem_free_kb: Option<u64>,
    /// MemAvailable.
    pub mem_available_kb: Option<u64>,
    /// Cached.
    pub cached_kb: Option<u64>,
    /// SwapFree.
    pub swap_free_kb: Option<u64>,
    /// PSI memory some avg10, percent.
    pub psi_some_avg10: Option<f64>,
    /// PSI memory full avg10, percent.
    pub psi_full_avg10: Option<f64>,
    /// Since boot.
    pub pswpin: Option<u64>,
    /// Since boot.
    pub pswpout: Option<u64>,
    /// Since boot.
    pub pgmajfault: Option<u64>,
}

/// A cgroup at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BeforeCgroup {
    /// Path.
    pub path: String,
    /// In use.
    pub usage_kb: Option<u64>,
    /// Limit.
    pub limit_kb: Option<u64>,
    /// Anonymous memory.
    pub anon_kb: Option<u64>,
    /// Page cache.
    pub file_kb: Option<u64>,
    /// Swap.
    pub swap_kb: Option<u64>,
}

/// A process at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BeforeProcess {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// Resident memory.
    pub rss_kb: Option<u64>,
    /// Swapped out.
    pub swap_kb: Option<u64>,
}

/// How the victim grew before the kill.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Growth {
    /// Samples of the victim.
    pub samples: u64,
    /// Seconds that they cover.
    pub span_s: f64,
    /// First RSS.
    pub first_rss_kb: u64,
    /// Last RSS, at the mark when it is known.
    pub last_rss_kb: u64,
    /// Slope over the span, KiB per second.
    pub rate_kb_per_s: Option<f64>,
    /// growing, steady, shrinking, stairs, burst.
    pub shape: &'static str,
}

/// A step of the incident.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TimelineEntry {
    /// Milliseconds from the first mark.
    pub t_ms: f64,
    /// reclaim, signal, mark, sigkill-delivered, exit, wake-reaper, reaping, reaped, kernel-text, …
    pub step: &'static str,
    /// Process it is about.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Option<String>,
}

/// Who saw the incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sources {
    /// The BPF hooks.
    pub bpf: bool,
    /// The kernel's log.
    pub kmsg: bool,
    /// /proc/vmstat oom_kill rose; null when it cannot be told for this incident alone.
    pub vmstat: Option<bool>,
    /// The cgroup's own count rose; null likewise.
    pub memory_events: Option<bool>,
}

/// Are all kills accounted for?
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reconciliation {
    /// /proc/vmstat oom_kill, last minus first.
    pub counted: Option<u64>,
    /// "Killed process" lines of the kernel's log, repeated ones left out.
    pub logged: Option<u64>,
    /// Lines that the kernel printed twice for one victim (first victim of a group kill).
    pub repeated: u64,
    /// Kills that BPF captured, filtered ones included.
    pub captured: u64,
    /// Captured kills that the filter left out.
    pub filtered: u64,
    /// Marks of tasks that were exiting anyway: no kills.
    pub already_exiting: u64,
    /// Kills that the kernel counted or logged and BPF did not see.
    pub missed: u64,
    /// Those of them that the log names.
    pub not_captured: Vec<LoggedKill>,
    /// Cgroups' own counts, last minus first.
    pub cgroups: Vec<CgroupKills>,
    /// Every count that could be had agrees.
    pub agrees: bool,
    /// Why not, or what could not be compared.
    pub notes: Vec<Msg>,
}

/// A kill that only the log names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoggedKill {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub comm: String,
    /// RFC 3339.
    pub at: Option<String>,
}

/// Kills in a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CgroupKills {
    /// Path.
    pub path: String,
    /// Its own count, last minus first.
    pub counted: u64,
    /// Captured victims in it.
    pub captured: u64,
}
