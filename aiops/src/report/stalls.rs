//! Data of `trace reclaim`: who waited while the kernel looked for memory, how long, and what it brought.

use serde::Serialize;

use super::Msg;

/// The data. Lists are whole and sorted by the time that was lost, most first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReclaimData {
    /// When tracing began, RFC 3339.
    pub start: Option<String>,
    /// How long.
    pub duration_s: Option<f64>,
    /// Stalls by kind.
    pub kinds: Vec<KindRow>,
    /// By process.
    pub processes: Vec<ProcessRow>,
    /// By the cgroup of who waited.
    pub cgroups: Vec<CgroupRow>,
    /// By allocation order and kind.
    pub orders: Vec<OrderRow>,
    /// By allocation flags.
    pub gfp: Vec<GfpRow>,
    /// The longest, longest first.
    pub longest: Vec<LongRow>,
    /// Latencies of each kind.
    pub histograms: Vec<Histogram>,
    /// What the kernel itself counted meanwhile.
    pub kernel: Vec<Compared>,
    /// Stalls that had begun and not ended when tracing ended.
    pub unfinished: u64,
    /// What a reader has to know.
    pub notes: Vec<String>,
    /// Rows of the text report; 0: all.
    #[serde(skip)]
    pub top: usize,
}

/// How long stalls took. Percentiles are exact to two digits.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latency {
    /// Stalls.
    pub count: u64,
    /// All together.
    pub total_ms: f64,
    /// Median.
    pub p50_us: Option<f64>,
    /// 90 %.
    pub p90_us: Option<f64>,
    /// 99 %.
    pub p99_us: Option<f64>,
    /// The longest, exact.
    pub max_us: Option<f64>,
}

/// What stalls scanned and brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pages {
    /// Scanned; `null` without its hook.
    pub scanned_pages: Option<u64>,
    /// Reclaimed.
    pub reclaimed_pages: Option<u64>,
    /// Reclaimed of scanned, 0 to 1.
    pub efficiency: Option<f64>,
}

/// One kind of stall.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KindRow {
    /// direct, memcg, node, kswapd, compaction, throttled.
    pub kind: &'static str,
    /// Work of a kernel thread, for which nobody waits.
    pub background: bool,
    /// How long.
    #[serde(flatten)]
    pub latency: Latency,
    /// What it brought.
    #[serde(flatten)]
    pub pages: Pages,
    /// Compactions that made no free block.
    pub failed: Option<u64>,
}

/// One process that waited.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessRow {
    /// Process id.
    pub pid: u32,
    /// Start, clock ticks since boot; `null`: it was gone before it was read.
    pub start: Option<u64>,
    /// Name of the thread that waited first.
    pub comm: String,
    /// Arguments.
    pub cmdline: Option<String>,
    /// Its memory cgroup.
    pub cgroup: Option<String>,
    /// Its container.
    pub container: Option<String>,
    /// How long, all kinds but `throttled`, which is part of others.
    #[serde(flatten)]
    pub latency: Latency,
    /// Of the time of the trace; with several threads it may exceed 1.
    pub stalled_share: Option<f64>,
    /// What it brought.
    #[serde(flatten)]
    pub pages: Pages,
    /// Time by kind, ms.
    pub by_kind_ms: std::collections::BTreeMap<&'static str, f64>,
    /// The cgroups whose limit made it wait, the nearest ones with hits of their limit; empty: not known.
    pub limited_by: Vec<String>,
}

/// One cgroup whose tasks waited.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CgroupRow {
    /// Its path; `null`: gone before it was found.
    pub cgroup: Option<String>,
    /// Its inode.
    pub id: u64,
    /// How long its tasks waited.
    #[serde(flatten)]
    pub latency: Latency,
    /// What it brought.
    #[serde(flatten)]
    pub pages: Pages,
    /// Processes that waited.
    pub processes: u64,
    /// Time in reclaim for a cgroup's limit.
    pub memcg_ms: f64,
    /// The cgroup with the limit: itself or the nearest one above whose limit was hit.
    pub limited_by: Option<String>,
    /// That limit.
    pub limit_kb: Option<u64>,
    /// Hits of that limit during the trace.
    pub limit_hits: Option<u64>,
}

/// One order.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OrderRow {
    /// Kind of stall.
    pub kind: &'static str,
    /// Order: 2 to the power of it pages in a row.
    pub order: i32,
    /// How long.
    #[serde(flatten)]
    pub latency: Latency,
    /// Compactions that failed.
    pub failed: Option<u64>,
}

/// One set of allocation flags.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GfpRow {
    /// As the kernel had it.
    pub gfp_mask: String,
    /// By name, joined by `|`; `null`: this kernel does not name them.
    pub gfp_flags: Option<String>,
    /// Stalls.
    pub count: u64,
    /// All together.
    pub total_ms: f64,
}

/// One long stall.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LongRow {
    /// When it began, RFC 3339.
    pub at: Option<String>,
    /// How long.
    pub ms: f64,
    /// Kind.
    pub kind: &'static str,
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Name of the thread.
    pub comm: String,
    /// Order.
    pub order: Option<i32>,
    /// Flags by name.
    pub gfp_flags: Option<String>,
    /// Pages that it brought.
    pub reclaimed_pages: Option<u64>,
    /// Kernel functions, innermost first; an address where no name is known.
    pub stack: Vec<String>,
}

/// How often a kind took how long.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Histogram {
    /// Kind.
    pub kind: &'static str,
    /// Buckets with a count, by powers of two.
    pub buckets: Vec<Bucket>,
}

/// One bucket.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Bucket {
    /// From here, µs.
    pub from_us: u64,
    /// To below here, µs.
    pub to_us: u64,
    /// Stalls.
    pub count: u64,
}

/// A count of the kernel beside ours, over the same time.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Counter of /proc/vmstat.
    pub counter: &'static str,
    /// The kernel's.
    pub kernel: Option<u64>,
    /// Ours.
    pub seen: u64,
    /// Why they may differ.
    pub about: Msg,
}
