//! Data of `trace swap`: whose pages went to swap and came back.

use serde::Serialize;

/// The data; processes with the most pages moved first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SwapTraceData {
    /// When tracing began, RFC 3339.
    pub start: Option<String>,
    /// How long.
    pub duration_s: Option<f64>,
    /// All processes.
    pub totals: SwapTotals,
    /// By process: the owner of the pages, not who reclaimed them.
    pub processes: Vec<SwapProcess>,
    /// By memory cgroup.
    pub cgroups: Vec<SwapCgroup>,
    /// What a reader has to know.
    pub notes: Vec<String>,
    /// Rows of the text report; 0: all.
    #[serde(skip)]
    pub top: usize,
}

/// Sums, and the kernel's beside them. Pages of shared memory and of tmpfs belong to no process: the kernel's
/// counts have them, ours do not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SwapTotals {
    /// Pages that left processes for swap.
    pub swap_out_pages: u64,
    /// Pages that came back by faults.
    pub swap_in_pages: u64,
    /// `pswpout` of /proc/vmstat over the same time; `null` under a filter.
    pub pswpout: Option<u64>,
    /// `pswpin`: with readahead, which brings pages that nobody has asked for yet.
    pub pswpin: Option<u64>,
    /// `swap_ra`: pages that readahead brought.
    pub swap_ra: Option<u64>,
    /// Ours of the kernel's, less 1: −0.01 is one percent less.
    pub out_difference: Option<f64>,
    /// The same of pages that came back.
    pub in_difference: Option<f64>,
    /// Pages whose direction could not be told.
    pub other: u64,
    /// Pages that swapoff brought back.
    pub swapoff_pages: u64,
    /// Pages stored into zswap instead of the device, of `pswpout` and these together.
    pub zswpout: Option<u64>,
    /// Pages loaded from zswap.
    pub zswpin: Option<u64>,
    /// Anonymous pages that came back soon after they had been reclaimed.
    pub refaults_anon: Option<u64>,
    /// Major faults.
    pub major_faults: Option<u64>,
}

/// One process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SwapProcess {
    /// Process id.
    pub pid: u32,
    /// Start, clock ticks since boot.
    pub start: Option<u64>,
    /// Name.
    pub comm: String,
    /// Arguments.
    pub cmdline: Option<String>,
    /// Its memory cgroup.
    pub cgroup: Option<String>,
    /// Its container.
    pub container: Option<String>,
    /// Pages to swap.
    pub swap_out_pages: u64,
    /// Pages back by faults.
    pub swap_in_pages: u64,
    /// Rate out.
    pub swap_out_kb_per_s: Option<f64>,
    /// Rate in.
    pub swap_in_kb_per_s: Option<f64>,
    /// Of all pages that moved.
    pub share: Option<f64>,
    /// What it has in swap by region, most change first; empty: not read.
    pub regions: Vec<SwapRegion>,
}

/// Swap of one region of a process, from smaps: when its first page was seen to move, and at the end. It is the
/// change of what lies in swap, not what went out and came back in between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SwapRegion {
    /// heap, stack, anon, …
    pub kind: &'static str,
    /// File or name; `null`: memory without one.
    pub path: Option<String>,
    /// At first.
    pub first_kb: u64,
    /// At the end.
    pub last_kb: u64,
    /// Change.
    pub change_kb: i64,
}

/// One cgroup.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SwapCgroup {
    /// Its path; `null`: not found.
    pub cgroup: Option<String>,
    /// Its inode.
    pub id: u64,
    /// Processes.
    pub processes: u64,
    /// Pages to swap.
    pub swap_out_pages: u64,
    /// Pages back by faults.
    pub swap_in_pages: u64,
}
