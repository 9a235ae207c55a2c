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

/// What the memory of a process, or of some together, is made of. `anon + file + shmem = rss`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Makeup {
    /// Where it comes from; `None`: it could not be had.
    pub source: Option<MakeupSource>,
    /// Anonymous: heap, stacks, private changes.
    pub anon_kb: Option<u64>,
    /// Mapped files. With `statm`: files and shared memory together.
    pub file_kb: Option<u64>,
    /// Shared memory, tmpfs. `None` with `statm`.
    pub shmem_kb: Option<u64>,
    /// Swapped out; beside resident memory, not part of it.
    pub swap_kb: Option<u64>,
}

/// Where a make-up comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MakeupSource {
    /// RssAnon, RssFile and RssShmem of /proc/PID/status (since 4.5).
    Status,
    /// The shared pages of /proc/PID/statm: files and shared memory cannot be told apart.
    Statm,
    /// Some processes of a group by one, some by the other.
    Mixed,
}

/// The data of `inspect processes`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessesData {
    /// What processes are put together by.
    pub by: &'static str,
    /// Order of rows.
    pub sort: &'static str,
    /// Every process that was read and wanted, in that order.
    pub processes: Vec<ProcessRow>,
    /// Groups in that order; empty by `process`.
    pub groups: Vec<GroupRow>,
    /// Memory cgroups, by path; with filters those that hold wanted processes.
    pub cgroups: Vec<CgroupRow>,
    /// NUMA nodes; empty where the kernel has no NUMA support.
    pub nodes: Vec<NodeRow>,
    /// Where the memory went.
    pub totals: Totals,
    /// The moment of the figures, RFC 3339 in the zone of the host.
    pub at: Option<String>,
    /// What else a reader has to know.
    pub notes: Vec<String>,
    /// How the text shows it.
    #[serde(skip)]
    pub view: View,
}

/// How the text shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// Rows of a table; 0: all.
    pub top: usize,
    /// Whether only some processes were asked for.
    pub filtered: bool,
}

/// One process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessRow {
    /// Who.
    #[serde(flatten)]
    pub who: Who,
    /// Kernel's letter: R, S, D, …
    pub state: Option<char>,
    /// Real user id.
    pub uid: Option<u32>,
    /// −1000 (never) to 1000.
    pub oom_score_adj: Option<i32>,
    /// Kubernetes pod uid.
    pub pod: Option<String>,
    /// Seconds since its start.
    pub age_s: Option<f64>,
    /// Figures of its sample.
    #[serde(flatten)]
    pub metrics: crate::model::ProcessMetrics,
    /// What its memory is made of.
    pub makeup: Makeup,
    /// Resident memory as a share of MemTotal, 0 to 1.
    pub rss_share: Option<f64>,
    /// Change of resident memory over the interval.
    pub rss_change_kb: Option<i64>,
    /// Its memory by NUMA node, node 0 first; `None`: not read (one node, not among the 20
    /// largest, no permission).
    pub node_kb: Option<Vec<u64>>,
    /// Its home: the nodes whose memory is near to it.
    pub home_nodes: Option<Vec<u32>>,
    /// What told its home: `cpus` (it is bound to CPUs of some nodes) or `majority` (it may run anywhere; the node
    /// that holds most of it).
    pub home_source: Option<&'static str>,
    /// Share of its memory on other nodes than its home, 0 to 1.
    pub remote_share: Option<f64>,
}

/// Some processes together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupRow {
    /// Who, with limits and use of the cgroup that all of them are in.
    #[serde(flatten)]
    pub who: Who,
    /// Kubernetes pod uid, when they share it.
    pub pod: Option<String>,
    /// Sums over those processes that have the figure.
    #[serde(flatten)]
    pub metrics: crate::model::ProcessMetrics,
    /// Of how many processes PSS and USS are known.
    pub pss_processes: u64,
    /// What their memory is made of.
    pub makeup: Makeup,
    /// Resident memory as a share of MemTotal, 0 to 1.
    pub rss_share: Option<f64>,
    /// The cgroup at or above theirs whose limit is nearest to its use.
    pub bound_by: Option<Limits>,
}

/// One memory cgroup.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CgroupRow {
    /// As the kernel prints it.
    pub path: String,
    /// Inode of its folder.
    pub id: u64,
    /// Wanted processes in it, without those below.
    pub processes: u64,
    /// Wanted processes in it and below.
    pub processes_below: u64,
    /// Use without inactive file pages, which reclaim takes first.
    pub working_set_kb: Option<u64>,
    /// Use as a share of the hard limit, 0 to 1.
    pub limit_share: Option<f64>,
    /// Kills since the first sample.
    pub oom_kill_change: Option<u64>,
    /// Hits of the limit since the first sample.
    pub failcnt_change: Option<u64>,
    /// Its figures; `null` limits: none. Averages of PSI as percent.
    #[serde(flatten, serialize_with = "cgroup_metrics")]
    pub metrics: crate::model::CgroupMetrics,
}

fn cgroup_metrics<S: serde::Serializer>(
    metrics: &crate::model::CgroupMetrics,
    to: S,
) -> Result<S::Ok, S::Error> {
    super::collect::plain(metrics, crate::model::CgroupMetrics::METRICS, to)
}

/// One NUMA node. Counts are allocations (pages) since boot; rates are over the interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeRow {
    /// Number.
    pub id: u32,
    /// Its memory.
    pub mem_total_kb: Option<u64>,
    /// Free.
    pub mem_free_kb: Option<u64>,
    /// In use, page cache included.
    pub mem_used_kb: Option<u64>,
    /// Page cache with shared memory.
    pub file_kb: Option<u64>,
    /// Anonymous.
    pub anon_kb: Option<u64>,
    /// Shared memory.
    pub shmem_kb: Option<u64>,
    /// Slab.
    pub slab_kb: Option<u64>,
    /// Kernel stacks.
    pub kernel_stack_kb: Option<u64>,
    /// Page tables.
    pub page_tables_kb: Option<u64>,
    /// Pool of huge pages of the default size, pages.
    pub huge_pages_total: Option<u64>,
    /// Allocations that wanted this node and got it.
    pub numa_hit: Option<u64>,
    /// Allocations that got this node though they wanted another.
    pub numa_miss: Option<u64>,
    /// Allocations that wanted this node and got another.
    pub numa_foreign: Option<u64>,
    /// Allocations on this node by its own CPUs.
    pub local_node: Option<u64>,
    /// Allocations on this node by CPUs of others.
    pub other_node: Option<u64>,
    /// Rate of `numa_hit`.
    pub numa_hit_per_s: Option<f64>,
    /// Rate of `numa_miss`.
    pub numa_miss_per_s: Option<f64>,
    /// Rate of `numa_foreign`.
    pub numa_foreign_per_s: Option<f64>,
    /// Rate of `other_node`.
    pub other_node_per_s: Option<f64>,
    /// Its CPUs as the kernel lists them, `0-3,8`; `None`: memory alone.
    pub cpus: Option<String>,
    /// Distances to nodes 0, 1, …
    pub distances: Vec<u32>,
}

/// Where the memory went. MemTotal is the sum of `mem_free_kb`, the parts from `file_cache_kb` to `zram_kb` and
/// `unaccounted_kb`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// MemTotal.
    pub mem_total_kb: Option<u64>,
    /// MemTotal − MemAvailable.
    pub mem_used_kb: Option<u64>,
    /// MemAvailable.
    pub mem_available_kb: Option<u64>,
    /// Free.
    pub mem_free_kb: Option<u64>,
    /// Page cache without shared memory (Buffers + Cached − Shmem).
    pub file_cache_kb: Option<u64>,
    /// Anonymous memory that is mapped.
    pub anon_kb: Option<u64>,
    /// tmpfs and shared memory.
    pub shmem_kb: Option<u64>,
    /// Swap cache that is not mapped (what is mapped counts as anonymous).
    pub swap_cache_kb: Option<u64>,
    /// Slab that can be reclaimed.
    pub slab_reclaimable_kb: Option<u64>,
    /// Slab that cannot.
    pub slab_unreclaimable_kb: Option<u64>,
    /// Other kernel memory that can be reclaimed (KReclaimable − SReclaimable).
    pub other_reclaimable_kb: Option<u64>,
    /// Kernel stacks.
    pub kernel_stack_kb: Option<u64>,
    /// Page tables.
    pub page_tables_kb: Option<u64>,
    /// Per-CPU allocator.
    pub percpu_kb: Option<u64>,
    /// vmalloc without kernel stacks, which are in it; `null` where VmallocUsed is address space (before 5.3).
    pub vmalloc_kb: Option<u64>,
    /// Pools of huge pages, used or not.
    pub hugetlb_kb: Option<u64>,
    /// Compressed pages in zswap.
    pub zswap_kb: Option<u64>,
    /// Compressed pages in zram.
    pub zram_kb: Option<u64>,
    /// What nothing above explains: pages that drivers, balloons or network buffers took straight.
    pub unaccounted_kb: Option<u64>,
    /// By how much the parts are more than MemTotal; they are read one after the other and may overlap.
    pub overcounted_kb: Option<u64>,
    /// Processes of the rows.
    pub processes: u64,
    /// Sum of their resident memory: shared pages once per process.
    pub processes_rss_kb: Option<u64>,
    /// Sum of their proportional shares: shared pages once in all.
    pub processes_pss_kb: Option<u64>,
    /// Of how many of them PSS is known.
    pub processes_pss_read: u64,
    /// Age of the oldest of these PSS.
    pub pss_oldest_ms: Option<u64>,
    /// Sum of memory of their own.
    pub processes_uss_kb: Option<u64>,
    /// Sum of their anonymous memory.
    pub processes_anon_kb: Option<u64>,
    /// Sum of what they have in swap.
    pub processes_swap_kb: Option<u64>,
    /// SwapTotal − SwapFree.
    pub swap_used_kb: Option<u64>,
}

impl Totals {
    /// The parts of MemTotal: name and size, in the order of the fields.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, Option<u64>); 15] {
        [
            ("free", self.mem_free_kb),
            ("file_cache", self.file_cache_kb),
            ("anon", self.anon_kb),
            ("shmem", self.shmem_kb),
            ("swap_cache", self.swap_cache_kb),
            ("slab_reclaimable", self.slab_reclaimable_kb),
            ("slab_unreclaimable", self.slab_unreclaimable_kb),
            ("other_reclaimable", self.other_reclaimable_kb),
            ("kernel_stack", self.kernel_stack_kb),
            ("page_tables", self.page_tables_kb),
            ("percpu", self.percpu_kb),
            ("vmalloc", self.vmalloc_kb),
            ("hugetlb", self.hugetlb_kb),
            ("zswap", self.zswap_kb),
            ("zram", self.zram_kb),
        ]
    }
}
