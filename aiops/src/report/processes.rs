//! Who a row is about, in every report that lists processes, and the data of `inspect processes`.

use serde::Serialize;

/// A process, or some processes together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Who {
    /// Name of the group; the name (comm) of a process alone; `None`: those that belong to no group.
    pub name: Option<String>,
    /// Process id; `None` for a group.
    pub pid: Option<u32>,
    /// Start in clock ticks since boot: with the pid, the identity.
    pub start: Option<u64>,
    /// Parent's process id.
    pub ppid: Option<u32>,
    /// How many processes.
    pub processes: u64,
    /// Name of the process, or of all processes of the group when they share it.
    pub comm: Option<String>,
    /// Arguments of a process.
    pub cmdline: Option<String>,
    /// Real user: name, else id; of a group, when they share it.
    pub user: Option<String>,
    /// Memory cgroup, when they share it.
    pub cgroup: Option<String>,
    /// `runtime:id` of the container, when they share it.
    pub container: Option<String>,
    /// Systemd unit, when they share it.
    pub unit: Option<String>,
    /// Limits and use of the cgroup that all of them are in.
    pub limits: Option<Limits>,
}

/// Limits and use of a memory cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Path of the cgroup whose figures these are.
    pub path: String,
    /// Memory in use.
    pub usage_kb: Option<u64>,
    /// Hard limit; `null`: none.
    pub limit_kb: Option<u64>,
    /// Throttling limit (v2).
    pub high_kb: Option<u64>,
    /// Swap in use.
    pub swap_kb: Option<u64>,
    /// Limit of swap (v1: of memory and swap together).
    pub swap_limit_kb: Option<u64>,
    /// Times that the hard limit was met.
    pub failcnt: Option<u64>,
    /// Times that use was above the throttling limit (v2).
    pub high_events: Option<u64>,
    /// OOM kills of members.
    pub oom_kill: Option<u64>,
}
