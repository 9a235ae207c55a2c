//! The data of `analyze swap`.

use serde::Serialize;

use super::Msg;
use super::processes::Limits;
use super::processes::Who;

use crate::model::RegionKind;

/// Swap: how much, whose, how fast, and what the figures do not tell apart.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SwapData {
    /// When the figures were read: of a captured tree, when it was captured.
    pub at: Option<String>,
    /// Swap in use against the processes' sum.
    pub totals: Totals,
    /// What moved between the two readings.
    pub rates: Rates,
    /// Swap devices; `null`: /proc/swaps could not be read.
    pub devices: Option<Vec<Device>>,
    /// Compressed swap devices in memory.
    pub zram: Vec<ZramUse>,
    /// The compressed cache in front of swap devices.
    pub zswap: Option<ZswapUse>,
    /// How long tasks waited for memory, percent of time.
    pub pressure: Pressure,
    /// Every wanted process, in the order asked for.
    pub processes: Vec<ProcessSwap>,
    /// Processes put together, with `--by`.
    pub groups: Option<Vec<GroupSwap>>,
    /// Memory cgroups that have swap in use, largest first.
    pub cgroups: Vec<CgroupSwap>,
    /// Settings that steer swapping.
    pub settings: Settings,
    /// Hierarchy of the memory controller: 1 or 2.
    pub cgroup_version: Option<u8>,
    /// Options of the text view.
    #[serde(skip)]
    pub view: View,
}

impl SwapData {
    /// Whether memory cgroups are of version 1: their files have other names.
    #[must_use]
    pub fn v1(&self) -> bool {
        self.cgroup_version == Some(1)
    }

    /// Whether all swap is compressed memory (zram).
    #[must_use]
    pub fn only_compressed(&self) -> bool {
        let devices = self.devices.as_deref().unwrap_or_default();
        let zram = |device: &Device| device.path.starts_with("/dev/zram");
        !devices.is_empty() && devices.iter().all(zram)
    }
}

/// What the text shows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The whole list of processes.
    pub processes: bool,
    /// Rows of a list.
    pub top: usize,
    /// Least share of the swap in use of a listed process.
    pub threshold: f64,
    /// What processes are put together by.
    pub by: &'static str,
    /// What rows are sorted by.
    pub sort: &'static str,
    /// Only some processes were asked for.
    pub filtered: bool,
}

/// Swap in use and who has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Swap space.
    pub swap_total_kb: Option<u64>,
    /// In use: SwapTotal − SwapFree.
    pub swap_used_kb: Option<u64>,
    /// Free.
    pub swap_free_kb: Option<u64>,
    /// In swap and in memory at once.
    pub swap_cached_kb: Option<u64>,
    /// Memory of the host.
    pub mem_total_kb: Option<u64>,
    /// Memory that programs can still get.
    pub mem_available_kb: Option<u64>,
    /// Sum of `VmSwap` over all processes, whatever the filter.
    pub processes_swap_kb: Option<u64>,
    /// Processes whose `VmSwap` is known.
    pub processes_known: u64,
    /// Processes that could not be read, and those whose `VmSwap` is not known.
    pub processes_unread: u64,
    /// Processes in swap.
    pub processes_in_swap: u64,
    /// Of them those whose proportional share (SwapPss) could be read.
    pub processes_swap_pss_known: u64,
    /// Swap in use that the sum does not show; negative: the sum counts more than is in use.
    pub difference_kb: Option<i64>,
    /// What the difference is made of.
    pub explained: Vec<Part>,
    /// What no part explains.
    pub unexplained_kb: Option<i64>,
    /// The same as a share of the swap in use.
    pub unexplained_share: Option<f64>,
}

/// A part of the difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// `shmem`, `shared_slots`, `swap_cached`, `slot_caches`, `cgroup_shared`, `unread_processes`.
    pub part: &'static str,
    /// Swap in use that this part accounts for; negative for what the sum counts several times; `null`:
    /// it cannot be measured here.
    pub kb: Option<i64>,
    /// Most that it can account for; `null`: not known.
    pub at_most_kb: Option<u64>,
    /// Where the figure comes from.
    pub note: Msg,
}

/// What moved between the two readings; `null`: unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Between the readings.
    pub interval_s: Option<f64>,
    /// Pages read from swap.
    pub pswpin_per_s: Option<f64>,
    /// Pages written to swap.
    pub pswpout_per_s: Option<f64>,
    /// The same in KiB.
    pub swap_in_kb_per_s: Option<f64>,
    /// The same in KiB.
    pub swap_out_kb_per_s: Option<f64>,
    /// Pages read in the interval.
    pub pswpin: Option<u64>,
    /// Pages written in the interval.
    pub pswpout: Option<u64>,
    /// Faults that needed a disk.
    pub major_faults_per_s: Option<f64>,
    /// Anonymous pages that came back after reclaim (since 5.9).
    pub refault_anon_per_s: Option<f64>,
    /// Pages loaded from zswap.
    pub zswpin_per_s: Option<f64>,
    /// Pages stored into zswap.
    pub zswpout_per_s: Option<f64>,
    /// Pages that readahead took out of swap in the interval.
    pub readahead: Option<u64>,
    /// Share of them that was used.
    pub readahead_hit_ratio: Option<f64>,
    /// The same since boot.
    pub readahead_hit_ratio_since_boot: Option<f64>,
    /// Pages read from swap since boot.
    pub pswpin_since_boot: Option<u64>,
    /// Pages written to swap since boot.
    pub pswpout_since_boot: Option<u64>,
}

/// A swap device or file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Device {
    /// Path.
    pub path: String,
    /// partition or file.
    pub kind: String,
    /// Size.
    pub size_kb: u64,
    /// In use.
    pub used_kb: u64,
    /// Higher ones fill first.
    pub priority: i32,
    /// Whether the disk below rotates; `null`: unknown.
    pub rotating: Option<bool>,
}

/// A zram device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ZramUse {
    /// `zram0`.
    pub name: String,
    /// Size of the device.
    pub disk_size_kb: Option<u64>,
    /// Data stored, before compression.
    pub stored_kb: Option<u64>,
    /// Data stored, compressed.
    pub compressed_kb: Option<u64>,
    /// Memory taken in all.
    pub pool_kb: Option<u64>,
    /// Stored data for each byte of memory.
    pub ratio: Option<f64>,
    /// Algorithm.
    pub algorithm: Option<String>,
}

/// zswap.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ZswapUse {
    /// Whether it is on.
    pub enabled: Option<bool>,
    /// Compressor.
    pub compressor: Option<String>,
    /// Most of the memory that it may take.
    pub max_pool_percent: Option<u64>,
    /// Memory taken.
    pub pool_kb: Option<u64>,
    /// Data stored, before compression.
    pub stored_kb: Option<u64>,
    /// Stored data for each byte of memory.
    pub ratio: Option<f64>,
    /// Pages written on to the device.
    pub written_back_pages: Option<u64>,
}

/// Pressure, percent of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Some task waited, 10 s average.
    pub some_avg10: Option<f64>,
    /// All tasks waited, 10 s average.
    pub full_avg10: Option<f64>,
    /// Some task waited, 60 s average.
    pub some_avg60: Option<f64>,
    /// All tasks waited, 60 s average.
    pub full_avg60: Option<f64>,
    /// Some task waited, in the interval.
    pub some_interval: Option<f64>,
    /// All tasks waited, in the interval.
    pub full_interval: Option<f64>,
}

/// A process and its swap.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessSwap {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start: u64,
    /// Name.
    pub comm: String,
    /// Arguments.
    pub cmdline: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// Container, `runtime:id`.
    pub container: Option<String>,
    /// Systemd unit.
    pub unit: Option<String>,
    /// `VmSwap`.
    pub swap_kb: Option<u64>,
    /// Proportional share of its swap, where it could be read.
    pub swap_pss_kb: Option<u64>,
    /// Resident.
    pub rss_kb: Option<u64>,
    /// Share of the swap in use, by the proportional share where it is known.
    pub share: Option<f64>,
    /// Share of the process that is swapped out: swap / (swap + resident).
    pub swapped_share: Option<f64>,
    /// Growth of its swap in the interval; negative: it came back.
    pub swap_change_kb: Option<i64>,
    /// Major faults in the interval.
    pub major_faults: Option<u64>,
    /// Whether it has the share that was asked for.
    pub listed: bool,
    /// What is swapped out, largest first; `null`: not looked at (only the top ones are).
    pub regions: Option<Vec<Region>>,
    /// Its mappings may not be looked into: no permission.
    pub regions_denied: bool,
}

/// A kind of memory that is swapped out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// `heap`, `anon`, `stack`, `library`, …
    pub kind: RegionKind,
    /// File or name; `null`: memory without a name.
    pub path: Option<String>,
    /// How many mappings.
    pub mappings: u64,
    /// In swap.
    pub swap_kb: u64,
    /// Resident.
    pub rss_kb: Option<u64>,
}

/// Processes together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupSwap {
    /// Who they are.
    #[serde(flatten)]
    pub who: Who,
    /// Sum of `VmSwap`: slots shared after fork count once for each process.
    pub swap_kb: Option<u64>,
    /// Sum of proportional shares, of `VmSwap` where they are not known.
    pub swap_share_kb: Option<u64>,
    /// Sum of resident memory.
    pub rss_kb: Option<u64>,
    /// Share of the swap in use, of `swap_share_kb`.
    pub share: Option<f64>,
    /// Share that is swapped out: swap / (swap + resident).
    pub swapped_share: Option<f64>,
    /// Major faults in the interval.
    pub major_faults: Option<u64>,
}

/// A cgroup and its swap.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CgroupSwap {
    /// Limits and use.
    #[serde(flatten)]
    pub limits: Limits,
    /// Sum of `VmSwap` of the processes in it and below.
    pub processes_swap_kb: Option<u64>,
    /// Swap charged to it beyond its processes' proportional shares: tmpfs, System V, memfd.
    pub other_swap_kb: Option<u64>,
    /// Times in the interval that it met its limits.
    pub limit_hits: Option<u64>,
    /// Times that swap could not be had because of its limit (v2).
    pub swap_fail_events: Option<u64>,
}

/// Settings that steer swapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// vm.swappiness.
    pub swappiness: Option<i64>,
    /// vm.page-cluster: readahead of 2^n pages.
    pub page_cluster: Option<i64>,
    /// vm.overcommit_memory.
    pub overcommit_memory: Option<i64>,
}
