//! What changed between two moments: the data of `diff memory`.

use serde::Serialize;

use crate::model::RegionKind;

/// What the text view shows; JSON is whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiffView {
    /// Rows of a list.
    pub top: usize,
}

/// Data of `aiops.diff-memory/1`. Changes are of the second snapshot against the first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DiffData {
    /// Mappings were taken in one of the two only.
    pub regions_in_one: bool,
    /// The two moments.
    pub snapshots: Pair,
    /// From the first to the second; below 0 when they are in the other order, `null` when clocks do not tell.
    pub elapsed_s: Option<f64>,
    /// boottime (same boot: exact) or realtime (the calendar, which may have been set).
    pub elapsed_by: Option<&'static str>,
    /// Whether both are of one boot of one host: then pids mean the same.
    pub same_boot: bool,
    /// Whether both are of one host.
    pub same_host: bool,
    /// Whether both hold every process: else a process may be new or gone for not having been read.
    pub all_processes: bool,
    /// Figures of the host: what is derived first, then every metric that either knows.
    pub system: Vec<Metric>,
    /// Growth of the processes that grew, resident and swapped, together.
    pub growth_kb: u64,
    /// Every process of either.
    pub processes: Vec<ProcessChange>,
    /// Processes by status.
    pub counts: StatusCounts,
    /// Mappings by kind, over all processes whose mappings both took (`--smaps`); `null`: not taken in both.
    pub regions: Option<Vec<RegionChange>>,
    /// The regions of each such process that changed, most first; `null`: not taken in both.
    pub process_regions: Option<Vec<RegionChange>>,
    /// Memory cgroups of either.
    pub cgroups: Vec<CgroupChange>,
    /// Slab caches of either; `null`: not read in both (root only).
    pub slab: Option<Vec<SlabChange>>,
    /// Swap devices of either; `null`: not read in both.
    pub swap_devices: Option<Vec<SwapChange>>,
    /// Settings of the memory manager that are not the same.
    pub settings: Vec<SettingChange>,
    /// For the text.
    #[serde(skip)]
    pub view: DiffView,
}

/// The two moments.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pair {
    /// `--snapshot1`.
    pub first: Snapshot,
    /// `--snapshot2`.
    pub second: Snapshot,
}

/// One moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// Its file, as it was named.
    pub file: String,
    /// Host name.
    pub host: Option<String>,
    /// Kernel.
    pub kernel: Option<String>,
    /// Identifies the boot.
    pub boot: Option<String>,
    /// The command that recorded it.
    pub command: Option<String>,
    /// Moment of its last sample, RFC 3339.
    pub at: Option<String>,
    /// Samples; the last one counts.
    pub samples: u64,
    /// Processes in that sample.
    pub processes: u64,
}

/// A figure at both moments. A process or cgroup that was not there had 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// At the first.
    pub from: Option<u64>,
    /// At the second.
    pub to: Option<u64>,
    /// `to` − `from`.
    pub delta: Option<i64>,
}

impl Change {
    /// From two figures.
    #[must_use]
    pub fn new(from: Option<u64>, to: Option<u64>) -> Self {
        let delta = from
            .zip(to)
            .and_then(|(from, to)| i64::try_from(i128::from(to) - i128::from(from)).ok());
        Self { from, to, delta }
    }
}

/// A figure of the host.
#[derive(Clone, Debug, Serialize)]
pub struct Metric {
    /// Name with its unit, as in recordings.
    pub id: &'static str,
    /// gauge, or counter (since boot: compared within one boot only).
    pub kind: &'static str,
    /// At both moments.
    #[serde(flatten)]
    pub change: Change,
    /// Per hour, in the figure's unit.
    pub rate_per_hour: Option<f64>,
}

/// How a process stands in the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The same process.
    #[default]
    Same,
    /// Another process with the same name, cgroup and (where it decides) arguments.
    Restarted,
    /// Only in the second.
    New,
    /// Only in the first.
    Gone,
}

/// Processes by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatusCounts {
    /// The same process.
    pub same: u64,
    /// Matched by name.
    pub restarted: u64,
    /// Only in the second.
    pub new: u64,
    /// Only in the first.
    pub gone: u64,
}

/// A process of either.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessChange {
    /// Process id; of a process that is gone, in the first.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start: u64,
    /// Of a restarted one, the process id in the first.
    pub from_pid: Option<u32>,
    /// Of a restarted one, the start in the first.
    pub from_start: Option<u64>,
    /// Name.
    pub comm: String,
    /// Arguments.
    pub cmdline: Option<String>,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// `runtime:id` of the container.
    pub container: Option<String>,
    /// How it stands.
    pub status: Status,
    /// Resident.
    pub rss_kb: Change,
    /// Resident anonymous memory.
    pub anon_kb: Change,
    /// Resident file memory.
    pub file_kb: Change,
    /// Resident shared memory.
    pub shmem_kb: Change,
    /// Swapped out.
    pub swap_kb: Change,
    /// Proportional share.
    pub pss_kb: Change,
    /// Memory of its own.
    pub uss_kb: Change,
    /// Address space.
    pub vm_size_kb: Change,
    /// Threads.
    pub threads: Change,
    /// Resident and swapped together: what it holds, wherever it lies.
    pub growth_kb: Option<i64>,
    /// Of `growth_kb` of the report, percent; `null` when it did not grow.
    pub share_pct: Option<f64>,
    /// `growth_kb` per hour; `null` when clocks do not tell, and for one that is not the same process.
    pub rate_kb_per_hour: Option<f64>,
}

/// Mappings of one kind (and of one process and file) together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RegionChange {
    /// Process id; `null`: over all processes.
    pub pid: Option<u32>,
    /// Start in clock ticks since boot.
    pub start: Option<u64>,
    /// Name.
    pub comm: Option<String>,
    /// What they are.
    pub kind: RegionKind,
    /// File or name.
    pub path: Option<String>,
    /// How many.
    pub mappings: Change,
    /// Address space.
    pub size_kb: Change,
    /// Resident.
    pub rss_kb: Change,
    /// Proportional share.
    pub pss_kb: Change,
    /// In swap.
    pub swap_kb: Change,
}

/// A memory cgroup of either.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CgroupChange {
    /// Path.
    pub path: String,
    /// How it stands; restarted: made again under the same path; `null`: the other snapshot did not take
    /// every cgroup, so that new or gone is not known.
    pub status: Option<Status>,
    /// Memory in use.
    pub usage_kb: Change,
    /// Anonymous memory.
    pub anon_kb: Change,
    /// Page cache.
    pub file_kb: Change,
    /// Swap in use.
    pub swap_kb: Change,
    /// Hard limit.
    pub limit_kb: Change,
    /// Times that the limit was met.
    pub failcnt: Change,
    /// OOM kills of members.
    pub oom_kill: Change,
    /// `usage_kb` per hour.
    pub rate_kb_per_hour: Option<f64>,
}

/// A slab cache of either.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SlabChange {
    /// Name.
    pub name: String,
    /// Memory that it takes.
    pub size_kb: Change,
    /// Objects in use.
    pub active_objects: Change,
    /// Whether it counts as reclaimable.
    pub reclaimable: Option<bool>,
    /// `size_kb` per hour.
    pub rate_kb_per_hour: Option<f64>,
}

/// A swap device of either.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SwapChange {
    /// Path.
    pub path: String,
    /// Size.
    pub size_kb: Change,
    /// In use.
    pub used_kb: Change,
}

/// A setting that is not the same.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SettingChange {
    /// `vm.swappiness`.
    pub name: String,
    /// At the first.
    pub from: Option<String>,
    /// At the second.
    pub to: Option<String>,
}
