//! Data of `analyze cache` and `inspect cache`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Msg;

/// Page cache, slab, dirty pages, fragmentation. Unknown is `null`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CacheData {
    /// When the figures were read: of a captured tree, when it was captured.
    pub at: Option<String>,
    /// Size and make-up of the page cache.
    pub page_cache: PageCache,
    /// Events per second between two readings.
    pub rates: Rates,
    /// How much of the scanning pays, and what comes back.
    pub reclaim: Reclaim,
    /// Dirty pages against their limits.
    pub dirty: Dirty,
    /// Slab caches, the largest first; `null` where /proc/slabinfo cannot be read (root only).
    pub slab: Option<Vec<SlabRow>>,
    /// Slab in all.
    pub slab_totals: SlabTotals,
    /// Free memory by order of its blocks.
    pub fragmentation: Option<Fragmentation>,
    /// Memory cgroups with the largest file cache, those above 1 MiB or at their limit.
    pub cgroups: Vec<CgroupCache>,
    /// Hierarchy of the memory controller: 1 or 2.
    pub cgroup_version: Option<u8>,
    /// PSI of memory, 10 s average, percent.
    pub pressure: Pressure,
    /// Settings that govern the caches, as the files say.
    pub settings: BTreeMap<String, String>,
    /// Share of lookups that the page cache served: always `null` here, for it needs event tracing.
    pub hit_ratio: Option<f64>,
    /// Why, and what stands in.
    pub hit_ratio_note: Option<Msg>,
    /// One sentence for each part.
    pub judgements: Vec<Judgement>,
    /// Files by resident bytes (`inspect cache --detail`); with `--path` also those of which nothing is in memory.
    pub files: Option<Vec<FileRow>>,
    /// What was looked at and what was not.
    pub files_accounting: Option<FilesAccounting>,
    /// What could not be had and why.
    pub notes: Vec<Msg>,
    /// How the text is written.
    #[serde(skip)]
    pub view: View,
}

/// How the text is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// `inspect`: the contents; else the judgement.
    pub contents: bool,
    /// Rates and a sentence for each part.
    pub efficiency: bool,
    /// Rows of a table.
    pub top: usize,
}

/// Size and make-up of the page cache (/proc/meminfo), KiB.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PageCache {
    /// MemTotal.
    pub mem_total_kb: Option<u64>,
    /// MemAvailable.
    pub mem_available_kb: Option<u64>,
    /// Cached: files with shared memory.
    pub cached_kb: Option<u64>,
    /// Buffers: block devices.
    pub buffers_kb: Option<u64>,
    /// Cached without shared memory: what can be read again from a disk.
    pub file_kb: Option<u64>,
    /// Active(file).
    pub active_file_kb: Option<u64>,
    /// Inactive(file).
    pub inactive_file_kb: Option<u64>,
    /// Mapped.
    pub mapped_kb: Option<u64>,
    /// Shmem: tmpfs and shared memory, only to be freed through swap.
    pub shmem_kb: Option<u64>,
    /// Dirty.
    pub dirty_kb: Option<u64>,
    /// Writeback.
    pub writeback_kb: Option<u64>,
    /// FileHugePages.
    pub file_huge_pages_kb: Option<u64>,
    /// ShmemHugePages.
    pub shmem_huge_pages_kb: Option<u64>,
    /// SwapCached.
    pub swap_cached_kb: Option<u64>,
    /// Unevictable.
    pub unevictable_kb: Option<u64>,
    /// Times since boot that somebody dropped the page cache.
    pub dropped_pagecache: Option<u64>,
    /// Times since boot that somebody dropped the slab caches.
    pub dropped_slab: Option<u64>,
}

/// Events per second (/proc/vmstat); `null` when unknown.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the names are those of /proc/vmstat")]
pub struct Rates {
    /// Between the two readings.
    pub interval_s: Option<f64>,
    pub refault_file_per_s: Option<f64>,
    pub refault_anon_per_s: Option<f64>,
    pub activate_file_per_s: Option<f64>,
    pub restore_file_per_s: Option<f64>,
    pub pgactivate_per_s: Option<f64>,
    pub pgdeactivate_per_s: Option<f64>,
    pub scan_kswapd_per_s: Option<f64>,
    pub scan_direct_per_s: Option<f64>,
    pub steal_kswapd_per_s: Option<f64>,
    pub steal_direct_per_s: Option<f64>,
    pub scan_file_per_s: Option<f64>,
    pub scan_anon_per_s: Option<f64>,
    pub steal_file_per_s: Option<f64>,
    pub steal_anon_per_s: Option<f64>,
    pub major_faults_per_s: Option<f64>,
    pub faults_per_s: Option<f64>,
    pub allocstall_per_s: Option<f64>,
    pub inodesteal_per_s: Option<f64>,
    pub slabs_scanned_per_s: Option<f64>,
    pub compact_stall_per_s: Option<f64>,
    pub compact_fail_per_s: Option<f64>,
    pub thp_fault_fallback_per_s: Option<f64>,
    pub vmscan_write_per_s: Option<f64>,
    pub disk_read_kb_per_s: Option<f64>,
    pub disk_written_kb_per_s: Option<f64>,
}

/// How much of the scanning pays, and what comes back. Ratios are `null` when nothing was scanned.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reclaim {
    /// Reclaimed of scanned pages in the interval, cgroups at their limits included (since Linux 5.8).
    pub efficiency: Option<f64>,
    /// The same since boot.
    pub efficiency_since_boot: Option<f64>,
    /// File pages that came back for each file page reclaimed, in the interval.
    pub refaults_per_steal: Option<f64>,
    /// The same since boot; `null` where both are not counted alike.
    pub refaults_per_steal_since_boot: Option<f64>,
    /// Share of the host's scanning that programs did themselves, waiting.
    pub direct_share: Option<f64>,
    /// Pages reclaimed in the interval.
    pub stolen_pages: Option<u64>,
    /// Pages scanned in the interval, cgroups at their limits included (since Linux 5.8).
    pub scanned_pages: Option<u64>,
    /// Of them for the host: by kswapd and by programs, not for a cgroup's limit.
    pub host_scanned_pages: Option<u64>,
    /// Pages scanned since boot.
    pub scanned_pages_since_boot: Option<u64>,
}

/// Dirty pages against their limits.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Dirty {
    /// Waiting to be written.
    pub dirty_kb: Option<u64>,
    /// Being written.
    pub writeback_kb: Option<u64>,
    /// `nr_dirty_threshold`: no writer gets beyond it.
    pub threshold_kb: Option<u64>,
    /// `nr_dirty_background_threshold`: flushers work from here.
    pub background_threshold_kb: Option<u64>,
    /// Half way between both: writers are slowed down from here (mm/page-writeback.c, `dirty_freerun_ceiling`).
    pub throttled_from_kb: Option<u64>,
    /// Dirty and in write-back, of the threshold.
    pub share_of_threshold: Option<f64>,
    /// Made dirty per second.
    pub dirtied_kb_per_s: Option<f64>,
    /// Written back per second, without what goes to swap.
    pub written_kb_per_s: Option<f64>,
    /// Time that writing all of it back takes at this rate.
    pub time_to_write_back_s: Option<f64>,
    /// Time until the threshold at these rates; `null` when it does not grow.
    pub time_to_threshold_s: Option<f64>,
    /// Busy time of all disks together for each second: two disks that are always busy make 2.
    pub disk_busy: Option<f64>,
}

/// A slab cache (/proc/slabinfo).
#[derive(Clone, Debug, Default, Serialize)]
pub struct SlabRow {
    /// Name.
    pub name: String,
    /// Objects in use.
    pub active_objects: u64,
    /// Objects in all.
    pub objects: u64,
    /// Bytes of an object.
    pub object_bytes: u64,
    /// Slabs.
    pub slabs: u64,
    /// Objects in use of all; `null` for an empty cache.
    pub active_share: Option<f64>,
    /// Pages of its slabs.
    pub size_kb: u64,
    /// Objects that are not in use.
    pub waste_kb: u64,
    /// Growth in the interval.
    pub growth_kb: Option<i64>,
    /// Growth per second.
    pub growth_kb_per_s: Option<f64>,
    /// Whether the kernel counts it as reclaimable.
    pub reclaimable: Option<bool>,
    /// What it is and what fills it, for the well-known ones.
    pub what: Option<Msg>,
}

/// Slab in all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SlabTotals {
    /// Slab.
    pub slab_kb: Option<u64>,
    /// SReclaimable.
    pub reclaimable_kb: Option<u64>,
    /// SUnreclaim.
    pub unreclaimable_kb: Option<u64>,
    /// Growth of Slab in the interval.
    pub growth_kb: Option<i64>,
    /// Growth of SUnreclaim in the interval.
    pub unreclaimable_growth_kb: Option<i64>,
    /// Caches listed.
    pub caches: Option<u64>,
    /// Sum of their sizes.
    pub listed_kb: Option<u64>,
    /// Sum of their unused objects.
    pub waste_kb: Option<u64>,
    /// Entries of directories.
    pub dentry_kb: Option<u64>,
    /// Inodes of all file systems.
    pub inode_kb: Option<u64>,
}

/// Free memory by order of its blocks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Fragmentation {
    /// Each zone.
    pub zones: Vec<ZoneRow>,
    /// Free memory by migration type; `null`: not read (root only).
    pub types: Option<Vec<PageTypeRow>>,
    /// All zones together: free blocks by order.
    pub free_by_order: Vec<u64>,
    /// Unusable-free index of all zones together, blocks of 8 pages.
    pub unusable_index_order_3: Option<f64>,
    /// The same, blocks of 512 pages (a huge page on x86).
    pub unusable_index_order_9: Option<f64>,
}

/// A zone (/proc/buddyinfo, /proc/zoneinfo).
#[derive(Clone, Debug, Default, Serialize)]
pub struct ZoneRow {
    /// NUMA node.
    pub node: u32,
    /// Name.
    pub zone: String,
    /// Free in blocks.
    pub free_kb: u64,
    /// Free blocks of order 0, 1, 2, …
    pub free_by_order: Vec<u64>,
    /// Share of free memory that is of no use to a request of 8 pages (Gorman's unusable free space index).
    pub unusable_index_order_3: Option<f64>,
    /// The same for 512 pages.
    pub unusable_index_order_9: Option<f64>,
    /// Largest order with a free block.
    pub largest_order: Option<u64>,
}

/// Free memory of a zone by migration type (/proc/pagetypeinfo).
#[derive(Clone, Debug, Default, Serialize)]
pub struct PageTypeRow {
    /// NUMA node.
    pub node: u32,
    /// Zone.
    pub zone: String,
    /// Unmovable, Movable, Reclaimable, `HighAtomic`, CMA, Isolate.
    pub migrate_type: String,
    /// Free in blocks.
    pub free_kb: u64,
    /// Free blocks of order 0, 1, 2, …
    pub free_by_order: Vec<u64>,
}

/// File cache of a memory cgroup.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CgroupCache {
    /// Path.
    pub path: String,
    /// Page cache, shared memory included.
    pub file_kb: u64,
    /// Of the host's page cache, block devices and swap cache.
    pub share: Option<f64>,
    /// Inactive file pages.
    pub inactive_file_kb: Option<u64>,
    /// Active file pages.
    pub active_file_kb: Option<u64>,
    /// Dirty.
    pub dirty_kb: Option<u64>,
    /// File pages that came back, per second (cgroup v2).
    pub refault_file_per_s: Option<f64>,
    /// Times a second that its hard limit was met.
    pub limit_hits_per_s: Option<f64>,
    /// Times a second that it was above memory.high (cgroup v2).
    pub high_events_per_s: Option<f64>,
    /// In use.
    pub usage_kb: Option<u64>,
    /// memory.high.
    pub high_kb: Option<u64>,
    /// memory.max.
    pub limit_kb: Option<u64>,
}

/// PSI of memory, 10 s average, percent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pressure {
    /// Some task waited.
    pub some_avg10: Option<f64>,
    /// All tasks waited.
    pub full_avg10: Option<f64>,
    /// Some task waited for a disk.
    pub io_some_avg10: Option<f64>,
}

/// One part, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// `page-cache`, `reclaim`, `write-back`, `slab`, `fragmentation`.
    pub part: &'static str,
    /// How it stands.
    pub state: State,
    /// One sentence.
    pub text: Msg,
}

/// How a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing to do.
    Good,
    /// Not as it should be.
    Bad,
    /// Figures are missing.
    Unknown,
}

/// What of a file is in memory.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FileRow {
    /// One of its names.
    pub path: String,
    /// Device number.
    pub dev: u64,
    /// Inode.
    pub inode: u64,
    /// Length.
    pub size_bytes: u64,
    /// In the page cache.
    pub resident_bytes: u64,
    /// In the page cache, of its length; `null` for an empty file.
    pub resident_share: Option<f64>,
    /// Dirty (`null` with mincore).
    pub dirty_bytes: Option<u64>,
    /// In write-back (`null` with mincore).
    pub writeback_bytes: Option<u64>,
    /// Reclaimed not long ago (`null` with mincore).
    pub recently_evicted_bytes: Option<u64>,
    /// It has no name any more.
    pub deleted: bool,
    /// Who has it open or mapped: at most 16.
    pub holders: Vec<FileHolder>,
    /// How many have.
    pub holder_count: u64,
}

/// Who has a file open or mapped.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FileHolder {
    /// Process id.
    pub pid: u32,
    /// Name.
    pub comm: String,
}

/// What was looked at and what was not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FilesAccounting {
    /// `cachestat` or `mincore`.
    pub method: Option<&'static str>,
    /// `processes` or `paths`.
    pub scope: &'static str,
    /// Time that it took.
    pub elapsed_s: f64,
    /// Most that it might take.
    pub limit_s: f64,
    /// Regular files found.
    pub found: u64,
    /// Looked at.
    pub looked: u64,
    /// Nothing in memory.
    pub not_cached: u64,
    /// Found but not reached within the time.
    pub not_reached: u64,
    /// Directories or processes not listed within the time.
    pub not_listed: u64,
    /// FIFOs, devices, sockets.
    pub not_regular: u64,
    /// On file systems that may hang, or that are no storage.
    pub network: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// No permission.
    pub denied: u64,
    /// Processes that may not be looked into.
    pub denied_processes: u64,
    /// Gone meanwhile.
    pub vanished: u64,
    /// Other errors.
    pub failed: u64,
    /// Cached, but more than are kept.
    pub not_kept: u64,
    /// A signal ended it.
    pub interrupted: bool,
    /// A system call did not come back.
    pub stalled: bool,
    /// Sum of `resident_bytes`.
    pub resident_bytes: u64,
    /// Everything that was asked for was looked at.
    pub complete: bool,
}
