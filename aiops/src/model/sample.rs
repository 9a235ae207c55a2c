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
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $source:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            $($(#[$doc])* #[serde(default)] pub $field: Option<u64>,)*
        }

        impl $name {
            /// Every metric of this set, in order.
            pub const METRICS: &'static [Metric<Self>] = &[
                $(Metric {
                    name: stringify!($field),
                    source: $source,
                    get: |set| set.$field,
                    set: |set, value| set.$field = value,
                },)*
            ];
        }
    };
}

metrics! {
    /// The whole host. `meminfo:` keys are /proc/meminfo's (KiB); `vmstat:` ones /proc/vmstat's,
    /// counted since boot; `psi:` ones /proc/pressure/memory's (since Linux 4.20); `loadavg`, /proc/loadavg.
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
        /// Contiguous area, unused.
        cma_free_kb: "meminfo:CmaFree",
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
        /// Some task waited for memory: 10 s average, hundredths of a percent.
        psi_some_avg10: "psi:some avg10",
        /// Some task waited for memory: since boot, µs.
        psi_some_total_us: "psi:some total",
        /// All tasks waited for memory: 10 s average, hundredths of a percent.
        psi_full_avg10: "psi:full avg10",
        /// All tasks waited for memory: since boot, µs.
        psi_full_total_us: "psi:full total",
        /// Run queue average over one minute, hundredths.
        load1: "loadavg:1",
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
        /// Times that the limit was hit.
        failcnt: "v2:memory.events.max v1:memory.failcnt",
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
    /// `smaps_rollup:` ones its keys (since Linux 4.14).
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
        /// Proportional share of resident memory.
        pss_kb: "smaps_rollup:Pss",
        /// Memory that only this process has.
        uss_kb: "smaps_rollup:Private_Clean+Private_Dirty",
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

/// Processes that a sample could not have, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Gone between listing and reading.
    pub vanished: u32,
    /// No permission.
    pub denied: u32,
    /// Unreadable or not understood.
    pub failed: u32,
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
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn check<T: Default>(metrics: &[Metric<T>]) {
        let mut names = HashSet::new();
        for metric in metrics {
            assert!(names.insert(metric.name), "{metric:?}");
            assert!(!metric.source.is_empty());
            let mut set = T::default();
            assert_eq!((metric.get)(&set), None);
            (metric.set)(&mut set, Some(7));
            let hits = metrics.iter().filter(|other| (other.get)(&set).is_some());
            assert_eq!(hits.count(), 1, "{metric:?}");
        }
    }

    #[test]
    fn each_metric_has_its_own_field_and_name() {
        check(SystemMetrics::METRICS);
        check(CgroupMetrics::METRICS);
        check(ProcessMetrics::METRICS);
    }
}
