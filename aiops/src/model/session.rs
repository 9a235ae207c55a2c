//! The observation itself: host, clocks, counters, losses, beginning and end.

use serde::Deserialize;
use serde::Serialize;

use super::Nanos;
use super::RawText;

/// Who observes what, where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The command that observed, `trace oom`.
    pub command: String,
    /// Version of aiops.
    pub version: String,
    /// Beginning.
    pub started_ns: Nanos,
    /// The observed host.
    pub host: Host,
    /// Which victims are wanted.
    pub filter: Filter,
    /// Stop after this many incidents.
    #[serde(default)]
    pub count: Option<u64>,
    /// How far back samples are kept for an incident, seconds.
    pub history_window_s: u64,
    /// What was attached, and what was not.
    #[serde(default)]
    pub hooks: Vec<HookState>,
    /// Whether BTF was there.
    #[serde(default)]
    pub btf: Option<bool>,
    /// What else a reader of the report has to know about how it was observed.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What could not be read whole through all of it: `/proc (hidepid)`.
    #[serde(default)]
    pub unread: Vec<String>,
    /// Options of the command that its report depends on, so that a replay needs none: `interval`, `by`.
    #[serde(default)]
    pub options: std::collections::BTreeMap<String, String>,
}

/// The observed host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `uname -n`.
    pub hostname: RawText,
    /// `uname -r`.
    pub kernel: RawText,
    /// `uname -m`.
    pub arch: String,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: Option<String>,
    /// MemTotal.
    pub mem_total_kb: Option<u64>,
    /// Bytes.
    pub page_size: Option<u64>,
    /// Clock ticks per second, the unit of `start_ticks`.
    pub ticks_per_s: Option<u64>,
    /// Online CPUs.
    pub cpus: Option<u32>,
    /// Hierarchy of the memory controller: 1 or 2.
    pub memory_cgroup: Option<u8>,
    /// Seconds east of UTC when the observation began.
    #[serde(default)]
    pub utc_offset_s: Option<i32>,
}

/// Which victims or processes are wanted; an empty list wants all. Conditions of different kinds must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Process ids.
    pub pids: Vec<u32>,
    /// Names (comm), exact.
    pub comms: Vec<String>,
    /// Cgroup paths: the cgroup itself and everything below it.
    pub cgroups: Vec<String>,
    /// Containers: the whole id, its beginning (12 characters or more), or the pod's uid.
    #[serde(default)]
    pub containers: Vec<String>,
    /// Names or ids of users.
    #[serde(default)]
    pub users: Vec<String>,
}

impl Filter {
    /// Whether everything is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty()
            && self.comms.is_empty()
            && self.cgroups.is_empty()
            && self.containers.is_empty()
            && self.users.is_empty()
    }
}

impl Filter {
    /// Whether a process is wanted; without its identity, only ids and names can be.
    #[must_use]
    pub fn wants(
        &self,
        process: &super::ProcessSample,
        identity: Option<&super::Identity>,
    ) -> bool {
        let any = |list: &[String], is: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|one| is(one))
        };
        let cgroup = identity.and_then(|identity| identity.cgroup.as_ref());
        let container = identity.and_then(|identity| identity.container.as_ref());
        let user = identity.and_then(|identity| identity.user.as_deref());
        let below = |path: &str| {
            cgroup.is_some_and(|cgroup| {
                let path = path.trim_end_matches('/');
                let rest = cgroup.as_bytes().strip_prefix(path.as_bytes());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            })
        };
        let inside = |name: &str| {
            container.is_some_and(|container| {
                let begins = name.len() >= SHORT_ID && container.id.starts_with(name);
                let whole = name.strip_prefix(container.runtime.as_str());
                begins
                    || container.id == name
                    || container.pod.as_deref() == Some(name)
                    || whole.and_then(|rest| rest.strip_prefix(':')) == Some(container.id.as_str())
            })
        };
        let owned = |name: &str| {
            user == Some(name) || name.parse().is_ok_and(|uid: u32| process.uid == Some(uid))
        };
        (self.pids.is_empty() || self.pids.contains(&process.pid))
            && any(&self.comms, &|comm| {
                process.comm.as_bytes() == comm.as_bytes()
            })
            && any(&self.cgroups, &below)
            && any(&self.containers, &inside)
            && any(&self.users, &owned)
    }
}

/// Fewest characters of a container's id that stand for it: what our tables show.
pub(crate) const SHORT_ID: usize = 7;

/// A kernel hook of this session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookState {
    /// Its name in the table of hooks, `oom/mark_victim`.
    pub name: String,
    /// Whether it runs.
    pub attached: bool,
    /// Why not.
    pub error: Option<String>,
}

/// The same moment on three clocks, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPair {
    /// CLOCK_MONOTONIC.
    pub mono_ns: Nanos,
    /// CLOCK_BOOTTIME: with suspend; `start_ticks` counts on it.
    pub boot_ns: u64,
    /// CLOCK_REALTIME, since 1970 UTC.
    pub real_ns: i64,
}

/// A line of the kernel's log (/dev/kmsg).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KmsgLine {
    /// The record's own time stamp (µs since boot of the scheduler's clock), as CLOCK_MONOTONIC ns.
    pub ts_ns: Nanos,
    /// Sequence number of the record.
    pub seq: u64,
    /// Syslog facility and level: `facility * 8 + level`. Facility 0 is the kernel; others are user space.
    pub priority: u8,
    /// Thread or CPU that printed it (`CONFIG_PRINTK_CALLER`), `T123` or `C1`.
    pub caller: Option<String>,
    /// The text, without the record's dictionary.
    pub text: RawText,
}

/// When the kernel's own counts were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountersAt {
    /// Every hook is attached; the observation begins.
    Start,
    /// In between.
    Tick,
    /// The observation ends; hooks are still attached.
    End,
}

/// The kernel's own counts of OOM kills.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// When.
    pub ts_ns: Nanos,
    /// At which end of the observation.
    pub at: CountersAt,
    /// /proc/vmstat oom_kill (since 4.13).
    pub oom_kill: Option<u64>,
    /// memory.events or memory.oom_control of cgroups, where they were read.
    pub cgroups: Vec<CgroupCount>,
}

/// A cgroup's own count of OOM kills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupCount {
    /// Inode of its folder.
    pub id: u64,
    /// Path in the memory controller's hierarchy.
    pub path: RawText,
    /// Kills of its members (v2: also below it).
    pub oom_kill: u64,
}

/// What was lost on the way, counted since the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// When.
    pub ts_ns: Nanos,
    /// Records handed over by the kernel side, by kind.
    pub seen: Vec<LossCount>,
    /// Records and readings lost, by cause.
    pub lost: Vec<LossCount>,
}

/// A cause and its count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossCount {
    /// Name as in `accounting`.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// Why an observation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Ctrl-C or SIGTERM.
    Signal,
    /// `--duration` is over.
    Duration,
    /// `--count` is reached.
    Count,
    /// A source failed.
    Failure,
}

/// The observation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub ts_ns: Nanos,
    /// Why.
    pub reason: EndReason,
}
