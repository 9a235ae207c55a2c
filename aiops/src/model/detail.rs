//! What is too much for every sample, or changes slowly: slab caches, zones, NUMA nodes, swap devices,
//! settings of the memory manager.

use serde::Deserialize;
use serde::Serialize;

use super::Nanos;
use super::RawText;

/// The memory manager's inner state at one moment. A list that could not be read is `None` and named in
/// `unread`; an empty list was read and holds nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// When reading began.
    pub ts_ns: Nanos,
    /// /proc/slabinfo (root only).
    #[serde(default)]
    pub slabs: Option<Vec<Slab>>,
    /// /proc/zoneinfo and /proc/buddyinfo.
    #[serde(default)]
    pub zones: Option<Vec<Zone>>,
    /// /proc/pagetypeinfo (root only): free blocks by migration type.
    #[serde(default)]
    pub page_types: Option<Vec<PageType>>,
    /// /sys/devices/system/node.
    #[serde(default)]
    pub nodes: Option<Vec<Node>>,
    /// /proc/swaps.
    #[serde(default)]
    pub swaps: Option<Vec<SwapDevice>>,
    /// /sys/block/zramN.
    #[serde(default)]
    pub zrams: Option<Vec<Zram>>,
    /// /sys/module/zswap/parameters and /sys/kernel/debug/zswap.
    #[serde(default)]
    pub zswap: Option<Zswap>,
    /// Mounts of tmpfs with what they hold.
    #[serde(default)]
    pub tmpfs: Option<Vec<Tmpfs>>,
    /// /proc/sysvipc/shm.
    #[serde(default)]
    pub shm: Option<Vec<ShmSegment>>,
    /// /proc/sys/vm and /sys/kernel/mm, by name: `vm.swappiness`, `thp.enabled`.
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// What could not be read.
    #[serde(default)]
    pub unread: Vec<Unread>,
}

impl Detail {
    /// A setting as a number.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<i64> {
        self.setting_text(name)?.trim().parse().ok()
    }

    /// A setting as it is.
    #[must_use]
    pub fn setting_text(&self, name: &str) -> Option<&str> {
        let found = self.settings.iter().find(|setting| setting.name == name);
        found.map(|setting| setting.value.as_str())
    }
}

/// A source that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Its file, `/proc/slabinfo`.
    pub source: String,
    /// Why.
    pub reason: UnreadReason,
}

/// Why a source could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnreadReason {
    /// This kernel or host does not have it.
    #[default]
    Absent,
    /// No permission.
    Denied,
    /// Not understood.
    Malformed,
}

/// A slab cache (/proc/slabinfo 2.1, mm/slab_common.c).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slab {
    /// Name.
    pub name: RawText,
    /// Objects in use.
    pub active_objects: u64,
    /// Objects in all.
    pub objects: u64,
    /// Bytes of an object.
    pub object_bytes: u64,
    /// Objects of a slab.
    pub objects_per_slab: u64,
    /// Pages of a slab.
    pub pages_per_slab: u64,
    /// Slabs in use.
    pub active_slabs: u64,
    /// Slabs in all.
    pub slabs: u64,
    /// Whether it counts as reclaimable (/sys/kernel/slab/NAME/reclaim_account), where that can be read.
    #[serde(default)]
    pub reclaimable: Option<bool>,
}

/// A zone of a node. Counts are pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// NUMA node.
    pub node: u32,
    /// DMA, DMA32, Normal, HighMem, Movable.
    pub name: String,
    /// Free pages.
    pub free: Option<u64>,
    /// Watermark below which direct reclaim begins.
    pub min: Option<u64>,
    /// Watermark below which kswapd wakes.
    pub low: Option<u64>,
    /// Watermark at which kswapd sleeps.
    pub high: Option<u64>,
    /// Pages that the buddy allocator has.
    pub managed: Option<u64>,
    /// Free blocks of order 0, 1, 2, … (/proc/buddyinfo).
    pub free_blocks: Vec<u64>,
}

/// Free blocks of one migration type of a zone (/proc/pagetypeinfo).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageType {
    /// NUMA node.
    pub node: u32,
    /// Zone.
    pub zone: String,
    /// Unmovable, Movable, Reclaimable, HighAtomic, CMA, Isolate.
    pub name: String,
    /// Free blocks by order; a count that the kernel cut (`>100000`) is that number.
    pub free_blocks: Vec<u64>,
}

/// A NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Number.
    pub id: u32,
    /// meminfo of the node, KiB, by the kernel's keys: MemTotal, MemFree, FilePages, AnonPages, Shmem, Slab, …
    pub meminfo: Vec<(String, u64)>,
    /// numastat, allocations since boot: `numa_hit`, `numa_miss`, `numa_foreign`, `interleave_hit`, `local_node`, `other_node`.
    pub numastat: Vec<(String, u64)>,
    /// CPUs of the node as the kernel lists them, `0-3,8`.
    pub cpus: Option<String>,
    /// Distances to nodes 0, 1, …
    pub distances: Vec<u32>,
}

impl Node {
    /// A figure of the node's meminfo, KiB.
    #[must_use]
    pub fn kb(&self, key: &str) -> Option<u64> {
        let found = self.meminfo.iter().find(|(name, _)| name == key);
        found.map(|(_, kb)| *kb)
    }

    /// A count of its numastat.
    #[must_use]
    pub fn count(&self, key: &str) -> Option<u64> {
        let found = self.numastat.iter().find(|(name, _)| name == key);
        found.map(|(_, count)| *count)
    }
}

/// A swap device or file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapDevice {
    /// Path.
    pub path: RawText,
    /// partition or file.
    pub kind: String,
    /// Size.
    pub size_kb: u64,
    /// In use.
    pub used_kb: u64,
    /// Priority: higher ones fill first.
    pub priority: i32,
    /// Whether the disk below rotates (/sys/block/…/queue/rotational), where it is known.
    #[serde(default)]
    pub rotational: Option<bool>,
}

/// A zram device (/sys/block/zramN/{disksize,`mm_stat`,`comp_algorithm`,`bd_stat`}).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zram {
    /// `zram0`.
    pub name: String,
    /// Size of the device.
    pub disk_size_bytes: Option<u64>,
    /// Uncompressed data stored.
    pub original_bytes: Option<u64>,
    /// Compressed data.
    pub compressed_bytes: Option<u64>,
    /// Memory taken in all.
    pub used_bytes: Option<u64>,
    /// Most memory it may take; `None`: no limit.
    pub limit_bytes: Option<u64>,
    /// Pages filled with one value: they take no memory.
    pub same_pages: Option<u64>,
    /// Pages that did not compress.
    pub huge_pages: Option<u64>,
    /// The chosen algorithm.
    pub algorithm: Option<String>,
    /// Written to a backing device.
    pub backing_bytes: Option<u64>,
}

/// zswap, the compressed cache in front of a swap device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zswap {
    /// Whether it is on.
    pub enabled: Option<bool>,
    /// Compressor.
    pub compressor: Option<String>,
    /// Most of the memory that it may take, percent.
    pub max_pool_percent: Option<u64>,
    /// Memory taken (debugfs, or meminfo's Zswap).
    pub pool_bytes: Option<u64>,
    /// Pages stored.
    pub stored_pages: Option<u64>,
    /// Times that the pool was full.
    pub pool_limit_hit: Option<u64>,
    /// Pages written to the device.
    pub written_back_pages: Option<u64>,
}

/// A mounted tmpfs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where it is mounted.
    pub path: RawText,
    /// Most it may hold.
    pub size_kb: Option<u64>,
    /// What it holds, in memory and in swap together.
    pub used_kb: Option<u64>,
}

/// A System V shared memory segment (/proc/sysvipc/shm).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShmSegment {
    /// Key.
    pub key: i32,
    /// Id.
    pub id: u64,
    /// Size.
    pub size_bytes: u64,
    /// Process that made it.
    pub creator_pid: u32,
    /// Processes that have it mapped.
    pub attached: u64,
    /// Resident.
    pub rss_bytes: Option<u64>,
    /// In swap.
    pub swap_bytes: Option<u64>,
    /// Owner's user id.
    pub uid: u32,
}

/// A setting of the memory manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// `vm.swappiness`, `thp.enabled`.
    pub name: String,
    /// As the file says; of a choice (`always [madvise] never`) the chosen word.
    pub value: String,
}
