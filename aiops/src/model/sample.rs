//! Figures of one moment: the system, memory cgroups, processes.
//!
//! A metric is one line below: its name (with the unit), where it comes from, and since when. Parsers,
//! recordings and reports go through [`Metric`] tables made from these lines, so a new metric is that
//! one line and its reader.

use serde::Deserialize;
use serde::Serialize;

use super::Nanos;
use super::RawText;

/// One number of a set `T`: its name and how to reach it.
pub struct Metric<T> {
    /// Name with its unit: the column of a recording and the key in JSON.
    pub name: &'static str,
    /// What it is, one line of English: its documentation.
    pub what: &'static str,
    /// Key in the file it comes from.
    pub source: &'static str,
    /// Reads it.
    pub get: fn(&T) -> Option<u64>,
    /// Sets it.
    pub set: fn(&mut T, Option<u64>),
}

impl<T> std::fmt::Debug for Metric<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.source)
    }
}

macro_rules! metrics {
    ($(#[$outer:meta])* $name:ident { $(#[doc = $doc:literal] $field:ident: $source:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $(#[doc = $doc] #[serde(default)] pub $field: Option<u64>,)*
        }

        impl $name {
            /// Every metric of this set, in order.
            pub const METRICS: &'static [$crate::model::Metric<Self>] = &[
                $($crate::model::Metric {
                    name: stringify!($field),
                    what: $doc,
                    source: $source,
                    get: |set| set.$field,
                    set: |set, value| set.$field = value,
                },)*
            ];
        }
    };
}

pub(super) use metrics;

metrics! {
    /// The whole host. `meminfo:` keys are /proc/meminfo's (KiB); `vmstat:` ones /proc/vmstat's,
    /// counted since boot; `psi:` ones /proc/pressure/memory's (since Linux 4.20), `psi_io:` and `psi_cpu:`
    /// its neighbours'; `loadavg`, /proc/loadavg; `stat:` ones /proc/stat's; `diskstats:` sums over whole
    /// disks of /proc/diskstats; `net:` sums over /proc/net/dev.
    SystemMetrics {
        /// Usable memory.
        mem_total_kb: "meminfo:MemTotal",
        /// Free pages.
        mem_free_kb: "meminfo:MemFree",
        /// What a new program can have without swapping (since 3.14).
        mem_available_kb: "meminfo:MemAvailable",
        /// Block-device cache.
        buffers_kb: "meminfo:Buffers",
        /// Page cache with shared memory, without swap cache.
        cached_kb: "meminfo:Cached",
        /// Swap cache.
        swap_cached_kb: "meminfo:SwapCached",
        /// Recently used.
        active_kb: "meminfo:Active",
        /// Not recently used.
        inactive_kb: "meminfo:Inactive",
        /// Recently used anonymous pages (since 2.6.28).
        active_anon_kb: "meminfo:Active(anon)",
        /// Not recently used anonymous pages.
        inactive_anon_kb: "meminfo:Inactive(anon)",
        /// Recently used file pages.
        active_file_kb: "meminfo:Active(file)",
        /// Not recently used file pages.
        inactive_file_kb: "meminfo:Inactive(file)",
        /// Unevictable pages.
        unevictable_kb: "meminfo:Unevictable",
        /// Locked pages.
        mlocked_kb: "meminfo:Mlocked",
        /// Swap space.
        swap_total_kb: "meminfo:SwapTotal",
        /// Unused swap space.
        swap_free_kb: "meminfo:SwapFree",
        /// Compressed swap cache (since 5.19).
        zswap_kb: "meminfo:Zswap",
        /// Pages that zswap holds, uncompressed size.
        zswapped_kb: "meminfo:Zswapped",
        /// Waiting to be written back.
        dirty_kb: "meminfo:Dirty",
        /// Being written back.
        writeback_kb: "meminfo:Writeback",
        /// Anonymous pages mapped.
        anon_pages_kb: "meminfo:AnonPages",
        /// File pages mapped.
        mapped_kb: "meminfo:Mapped",
        /// tmpfs and shared memory.
        shmem_kb: "meminfo:Shmem",
        /// Kernel memory that could be reclaimed (since 4.20).
        kreclaimable_kb: "meminfo:KReclaimable",
        /// Slab in all.
        slab_kb: "meminfo:Slab",
        /// Slab that could be reclaimed.
        sreclaimable_kb: "meminfo:SReclaimable",
        /// Slab that could not.
        sunreclaim_kb: "meminfo:SUnreclaim",
        /// Kernel stacks.
        kernel_stack_kb: "meminfo:KernelStack",
        /// Page tables.
        page_tables_kb: "meminfo:PageTables",
        /// Most that may be committed under strict overcommit.
        commit_limit_kb: "meminfo:CommitLimit",
        /// Committed address space.
        committed_as_kb: "meminfo:Committed_AS",
        /// vmalloc area in use.
        vmalloc_used_kb: "meminfo:VmallocUsed",
        /// Per-CPU allocator.
        percpu_kb: "meminfo:Percpu",
        /// Huge pages reserved in the pool, KiB in all sizes (since 4.16).
        hugetlb_kb: "meminfo:Hugetlb",
        /// Anonymous transparent huge pages.
        anon_huge_pages_kb: "meminfo:AnonHugePages",
        /// Shared memory in transparent huge pages.
        shmem_huge_pages_kb: "meminfo:ShmemHugePages",
        /// Page cache in transparent huge pages (since 5.4).
        file_huge_pages_kb: "meminfo:FileHugePages",
        /// Contiguous area.
        cma_total_kb: "meminfo:CmaTotal",
        /// Contiguous area, unused.
        cma_free_kb: "meminfo:CmaFree",
        /// Pages that hardware damaged.
        hardware_corrupted_kb: "meminfo:HardwareCorrupted",
        /// Huge pages of the default size in the pool, pages.
        huge_pages_total: "meminfo:HugePages_Total",
        /// Of them unused, pages.
        huge_pages_free: "meminfo:HugePages_Free",
        /// Of them promised, not yet used, pages.
        huge_pages_rsvd: "meminfo:HugePages_Rsvd",
        /// Default size of a huge page.
        huge_page_size_kb: "meminfo:Hugepagesize",
        /// OOM kills since boot (since 4.13).
        oom_kill: "vmstat:oom_kill",
        /// Pages swapped in since boot.
        pswpin: "vmstat:pswpin",
        /// Pages swapped out since boot.
        pswpout: "vmstat:pswpout",
        /// KiB read from disks since boot.
        pgpgin_kb: "vmstat:pgpgin",
        /// KiB written to disks since boot.
        pgpgout_kb: "vmstat:pgpgout",
        /// Page faults.
        pgfault: "vmstat:pgfault",
        /// Page faults that needed a disk.
        pgmajfault: "vmstat:pgmajfault",
        /// Pages scanned by kswapd (all zones).
        pgscan_kswapd: "vmstat:pgscan_kswapd*",
        /// Pages scanned by direct reclaim (all zones).
        pgscan_direct: "vmstat:pgscan_direct*",
        /// Pages reclaimed by kswapd (all zones).
        pgsteal_kswapd: "vmstat:pgsteal_kswapd*",
        /// Pages reclaimed by direct reclaim (all zones).
        pgsteal_direct: "vmstat:pgsteal_direct*",
        /// Allocations that stalled in direct reclaim (all zones).
        allocstall: "vmstat:allocstall*",
        /// Allocations that stalled in compaction.
        compact_stall: "vmstat:compact_stall",
        /// File pages that came back after they had been reclaimed (all node kinds).
        workingset_refault: "vmstat:workingset_refault*",
        /// Anonymous pages that came back from swap after reclaim (since 5.9).
        workingset_refault_anon: "vmstat:workingset_refault_anon",
        /// File pages that came back after reclaim (since 5.9; before that `workingset_refault` counts them).
        workingset_refault_file: "vmstat:workingset_refault_file",
        /// Refaulted file pages that were active at once (since 5.9).
        workingset_activate_file: "vmstat:workingset_activate_file",
        /// Refaulted file pages that had been active before (since 5.9).
        workingset_restore_file: "vmstat:workingset_restore_file",
        /// Anonymous pages scanned by reclaim (since 5.8).
        pgscan_anon: "vmstat:pgscan_anon",
        /// File pages scanned by reclaim (since 5.8).
        pgscan_file: "vmstat:pgscan_file",
        /// Anonymous pages reclaimed (since 5.8).
        pgsteal_anon: "vmstat:pgsteal_anon",
        /// File pages reclaimed (since 5.8).
        pgsteal_file: "vmstat:pgsteal_file",
        /// Pages made active since boot.
        pgactivate: "vmstat:pgactivate",
        /// Pages made inactive since boot.
        pgdeactivate: "vmstat:pgdeactivate",
        /// Slab objects looked at by shrinkers since boot.
        slabs_scanned: "vmstat:slabs_scanned",
        /// Page cache freed because direct reclaim freed its inode.
        pginodesteal: "vmstat:pginodesteal",
        /// Page cache freed because kswapd freed its inode.
        kswapd_inodesteal: "vmstat:kswapd_inodesteal",
        /// Writes to drop_caches that dropped the page cache.
        drop_pagecache: "vmstat:drop_pagecache",
        /// Writes to drop_caches that dropped slab.
        drop_slab: "vmstat:drop_slab",
        /// Pages made dirty since boot.
        nr_dirtied: "vmstat:nr_dirtied",
        /// Dirty pages written back since boot.
        nr_written: "vmstat:nr_written",
        /// Dirty pages from which writers are throttled (`dirty_ratio`).
        nr_dirty_threshold: "vmstat:nr_dirty_threshold",
        /// Dirty pages from which flushers work (`dirty_background_ratio`).
        nr_dirty_background_threshold: "vmstat:nr_dirty_background_threshold",
        /// Pages that reclaim itself had to write.
        nr_vmscan_write: "vmstat:nr_vmscan_write",
        /// Compactions that failed.
        compact_fail: "vmstat:compact_fail",
        /// Compactions that made a free block.
        compact_success: "vmstat:compact_success",
        /// Transparent huge pages given to faults.
        thp_fault_alloc: "vmstat:thp_fault_alloc",
        /// Faults that wanted one and got small pages.
        thp_fault_fallback: "vmstat:thp_fault_fallback",
        /// Pages that readahead took out of swap.
        swap_ra: "vmstat:swap_ra",
        /// Of them used.
        swap_ra_hit: "vmstat:swap_ra_hit",
        /// Pages loaded from zswap.
        zswpin: "vmstat:zswpin",
        /// Pages stored into zswap.
        zswpout: "vmstat:zswpout",
        /// Pages that zswap wrote to the swap device (since 6.8).
        zswpwb: "vmstat:zswpwb",
        /// Allocations on the wanted NUMA node.
        numa_hit: "vmstat:numa_hit",
        /// Allocations on another node than wanted.
        numa_miss: "vmstat:numa_miss",
        /// Some task waited for memory: 10 s average, hundredths of a percent.
        psi_some_avg10: "psi:some avg10",
        /// Some task waited for memory: since boot, µs.
        psi_some_total_us: "psi:some total",
        /// All tasks waited for memory: 10 s average, hundredths of a percent.
        psi_full_avg10: "psi:full avg10",
        /// All tasks waited for memory: since boot, µs.
        psi_full_total_us: "psi:full total",
        /// Some task waited for memory: 60 s average, hundredths of a percent.
        psi_some_avg60: "psi:some avg60",
        /// Some task waited for memory: 300 s average, hundredths of a percent.
        psi_some_avg300: "psi:some avg300",
        /// All tasks waited for memory: 60 s average, hundredths of a percent.
        psi_full_avg60: "psi:full avg60",
        /// All tasks waited for memory: 300 s average, hundredths of a percent.
        psi_full_avg300: "psi:full avg300",
        /// Some task waited for a disk: 10 s average, hundredths of a percent.
        psi_io_some_avg10: "psi_io:some avg10",
        /// All tasks waited for a disk: 10 s average, hundredths of a percent.
        psi_io_full_avg10: "psi_io:full avg10",
        /// Some task waited for a CPU: 10 s average, hundredths of a percent.
        psi_cpu_some_avg10: "psi_cpu:some avg10",
        /// Run queue average over one minute, hundredths.
        load1: "loadavg:1",
        /// CPU time of programs since boot (user and nice), clock ticks of all CPUs.
        cpu_user_ticks: "stat:user",
        /// CPU time of the kernel since boot (system, irq, softirq), clock ticks.
        cpu_system_ticks: "stat:system",
        /// Idle CPU time since boot, clock ticks.
        cpu_idle_ticks: "stat:idle",
        /// Idle CPU time while a disk was waited for, clock ticks.
        cpu_iowait_ticks: "stat:iowait",
        /// CPU time that the hypervisor gave to others, clock ticks.
        cpu_steal_ticks: "stat:steal",
        /// Processes and threads made since boot.
        forks: "stat:processes",
        /// Threads that can run.
        procs_running: "stat:procs_running",
        /// Threads that wait for a disk.
        procs_blocked: "stat:procs_blocked",
        /// Bytes read from whole disks since boot, KiB.
        disk_read_kb: "diskstats:read",
        /// Bytes written to whole disks since boot, KiB.
        disk_written_kb: "diskstats:written",
        /// Time that whole disks were busy since boot, ms, summed over disks.
        disk_busy_ms: "diskstats:busy",
        /// Bytes received since boot, all interfaces but lo.
        net_rx_bytes: "net:rx",
        /// Bytes sent since boot, all interfaces but lo.
        net_tx_bytes: "net:tx",
    }
}

metrics! {
    /// A memory cgroup. `v1:` keys are files of memory.* of cgroup v1, `v2:` of cgroup v2, `stat:` keys
    /// of its memory.stat; a limit that is not set is absent.
    CgroupMetrics {
        /// Memory in use.
        usage_kb: "v2:memory.current v1:memory.usage_in_bytes",
        /// Hard limit.
        limit_kb: "v2:memory.max v1:memory.limit_in_bytes",
        /// Throttling limit.
        high_kb: "v2:memory.high",
        /// Highest use since creation.
        peak_kb: "v2:memory.peak v1:memory.max_usage_in_bytes",
        /// Swap in use.
        swap_kb: "v2:memory.swap.current v1:memory.memsw.usage_in_bytes-memory.usage_in_bytes",
        /// Limit of swap (v1: of memory and swap together).
        swap_limit_kb: "v2:memory.swap.max v1:memory.memsw.limit_in_bytes",
        /// Anonymous memory.
        anon_kb: "stat:anon stat:total_rss",
        /// Page cache.
        file_kb: "stat:file stat:total_cache",
        /// tmpfs and shared memory.
        shmem_kb: "stat:shmem stat:total_shmem",
        /// Kernel memory.
        kernel_kb: "stat:kernel v1:memory.kmem.usage_in_bytes",
        /// Slab that could not be reclaimed.
        slab_unreclaimable_kb: "stat:slab_unreclaimable",
        /// Slab that could be reclaimed.
        slab_reclaimable_kb: "stat:slab_reclaimable",
        /// Recently used file pages.
        active_file_kb: "stat:active_file stat:total_active_file",
        /// Not recently used file pages.
        inactive_file_kb: "stat:inactive_file stat:total_inactive_file",
        /// File pages mapped.
        mapped_kb: "stat:file_mapped stat:total_mapped_file",
        /// Waiting to be written back.
        dirty_kb: "stat:file_dirty stat:total_dirty",
        /// Being written back.
        writeback_kb: "stat:file_writeback stat:total_writeback",
        /// Page tables (since 5.19).
        pagetables_kb: "stat:pagetables",
        /// Buffers of sockets.
        sock_kb: "stat:sock",
        /// Compressed pages in zswap.
        zswap_kb: "stat:zswap",
        /// Protected from reclaim unless nothing else is left.
        min_kb: "v2:memory.min",
        /// Protected from reclaim while others can be reclaimed.
        low_kb: "v2:memory.low v1:memory.soft_limit_in_bytes",
        /// Page faults that needed a disk.
        pgmajfault: "stat:pgmajfault stat:total_pgmajfault",
        /// File pages that came back after reclaim.
        workingset_refault_file: "stat:workingset_refault_file",
        /// Anonymous pages that came back after reclaim.
        workingset_refault_anon: "stat:workingset_refault_anon",
        /// Pages scanned by reclaim.
        pgscan: "stat:pgscan",
        /// Pages reclaimed.
        pgsteal: "stat:pgsteal",
        /// Times that its use went beyond memory.high and was throttled (before 5.2 with everything below it).
        high_events: "v2:memory.events.local.high v2:memory.events.high",
        /// Times that swap could not be had because of its limit.
        swap_fail_events: "v2:memory.swap.events.fail",
        /// Some task waited for memory since creation, µs.
        psi_some_total_us: "v2:memory.pressure some total",
        /// All tasks waited for memory since creation, µs.
        psi_full_total_us: "v2:memory.pressure full total",
        /// Times that its limit was hit (v2 before 5.2: or the limit of one below it).
        failcnt: "v2:memory.events.local.max v2:memory.events.max v1:memory.failcnt",
        /// OOM kills of members since creation.
        oom_kill: "v2:memory.events.oom_kill v1:memory.oom_control.oom_kill",
        /// Some task waited for memory: 10 s average, hundredths of a percent.
        psi_some_avg10: "v2:memory.pressure some avg10",
        /// All tasks waited for memory: 10 s average, hundredths of a percent.
        psi_full_avg10: "v2:memory.pressure full avg10",
    }
}

metrics! {
    /// A process. `status:` keys are /proc/PID/status', `stat:` ones positions of /proc/PID/stat,
    /// `statm:` ones of statm, `io:` keys of io, `smaps_rollup:` ones its keys (since Linux 4.14).
    ProcessMetrics {
        /// Address space.
        vm_size_kb: "status:VmSize",
        /// Resident memory.
        rss_kb: "status:VmRSS",
        /// Highest resident memory.
        rss_peak_kb: "status:VmHWM",
        /// Resident anonymous memory (since 4.5).
        anon_kb: "status:RssAnon",
        /// Resident file memory (since 4.5).
        file_kb: "status:RssFile",
        /// Resident shared memory (since 4.5).
        shmem_kb: "status:RssShmem",
        /// Swapped out.
        swap_kb: "status:VmSwap",
        /// Page tables.
        pgtables_kb: "status:VmPTE",
        /// Threads.
        threads: "status:Threads",
        /// Minor faults since start.
        minflt: "stat:minflt",
        /// Major faults since start.
        majflt: "stat:majflt",
        /// CPU time since start, clock ticks.
        cpu_ticks: "stat:utime+stime",
        /// The kernel's badness, 0 to 2000 (0 to 1000 before 5.8).
        oom_score: "oom_score",
        /// Heap and other private writable memory, address space.
        data_kb: "status:VmData",
        /// Stack of the first thread, address space.
        stack_kb: "status:VmStk",
        /// Code of the program, address space.
        exe_kb: "status:VmExe",
        /// Code of libraries, address space.
        lib_kb: "status:VmLib",
        /// Locked.
        locked_kb: "status:VmLck",
        /// Huge pages of the pool that it uses (since 4.4).
        hugetlb_kb: "status:HugetlbPages",
        /// Resident file and shared memory: what old kernels tell instead of file and shmem.
        shared_kb: "statm:shared",
        /// Read from disks since start (needs privilege).
        read_bytes: "io:read_bytes",
        /// Written to disks since start (needs privilege).
        write_bytes: "io:write_bytes",
        /// Proportional share of resident memory.
        pss_kb: "smaps_rollup:Pss",
        /// Memory that only this process has.
        uss_kb: "smaps_rollup:Private_Clean+Private_Dirty",
        /// Resident memory by a walk of the page tables: exact, where `rss_kb` is off by some pages a CPU.
        rollup_rss_kb: "smaps_rollup:Rss",
        /// Proportional share of its anonymous memory (since 5.9).
        pss_anon_kb: "smaps_rollup:Pss_Anon",
        /// Proportional share of its file memory (since 5.9).
        pss_file_kb: "smaps_rollup:Pss_File",
        /// Proportional share of its shared memory (since 5.9).
        pss_shmem_kb: "smaps_rollup:Pss_Shmem",
        /// Proportional share of what it has in swap (since 4.14).
        swap_pss_kb: "smaps_rollup:SwapPss",
        /// Anonymous memory in transparent huge pages.
        anon_huge_kb: "smaps_rollup:AnonHugePages",
        /// How old the smaps_rollup figures were when this sample was taken: a budget reads them in turn.
        rollup_age_ms: "smaps_rollup:age",
    }
}

/// A process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot: with the pid, the identity.
    pub start_ticks: u64,
    /// Parent's process id.
    pub ppid: u32,
    /// Name.
    pub comm: RawText,
    /// Kernel's letter: R, S, D, Z, …
    pub state: Option<char>,
    /// Real user id.
    pub uid: Option<u32>,
    /// −1000 (never) to 1000.
    pub oom_score_adj: Option<i32>,
    /// The figures.
    pub metrics: ProcessMetrics,
}

/// Limits that a process has of its own (getrlimit(2)), bytes; `None`: no limit, or not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rlimits {
    /// `RLIMIT_AS`: address space.
    pub address_space: Option<u64>,
    /// `RLIMIT_DATA`: private writable memory, address space (since 4.7).
    pub data: Option<u64>,
}

/// A memory cgroup at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CgroupSample {
    /// Path in the memory controller's hierarchy, as the kernel prints it.
    pub path: RawText,
    /// Inode of its folder.
    pub id: u64,
    /// memory.oom.group (v2).
    pub oom_group: Option<bool>,
    /// The figures.
    pub metrics: CgroupMetrics,
}

/// What a sample could not have: processes by reason, figures of processes, cgroups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Gone between listing and reading.
    pub vanished: u32,
    /// No permission.
    pub denied: u32,
    /// Unreadable or not understood.
    pub failed: u32,
    /// Kernel threads: they have no memory of their own.
    #[serde(default)]
    pub kernel_threads: u32,
    /// Ended, but not yet waited for: they have no memory any more.
    #[serde(default)]
    pub zombies: u32,
    /// Processes of the sample whose smaps or smaps_rollup were asked for and refused: their shares are
    /// unknown.
    #[serde(default)]
    pub denied_smaps: u32,
    /// Memory cgroups that were not looked at because there are too many: at least so many.
    #[serde(default)]
    pub cgroups: u32,
}

/// Figures of one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When reading began.
    pub ts_ns: Nanos,
    /// The host, when it was read.
    pub system: Option<SystemMetrics>,
    /// Memory cgroups that were read.
    pub cgroups: Vec<CgroupSample>,
    /// Processes that were read, in the order of their pids.
    pub processes: Vec<ProcessSample>,
    /// Whether every process was asked for (else only the largest ones).
    pub all_processes: bool,
    /// What could not be had.
    pub skipped: Skipped,
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
