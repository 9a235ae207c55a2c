//! What a window of time held: the data of `collect memory`.

use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap as _;

use super::processes::Limits;
use super::processes::Who;
use crate::model::MappingMetrics;
use crate::model::Metric;
use crate::model::ProcessMetrics;
use crate::model::SystemMetrics;

/// Data of `aiops.collect-memory/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CollectData {
    /// When, and how often.
    pub window: Window,
    /// The host in the last sample; `null`: it was not read.
    pub system: Option<SystemRow>,
    /// Least, mean and most over the window.
    pub summary: Summary,
    /// Every process of the last sample, largest resident memory first.
    pub processes: Vec<ProcessRow>,
    /// What `groups` are put together by: `process` has none.
    pub by: &'static str,
    /// Groups of the last sample, largest first; absent without `--by`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupRow>>,
    /// Memory cgroups of the last sample, fullest first: those with a limit, or all with `--by cgroup`.
    pub cgroups: Vec<Limits>,
    /// Mappings of all processes by kind, largest first; absent without `--smaps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<RegionRow>>,
    /// Processes whose mappings could be read; absent without `--smaps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions_processes: Option<u64>,
    /// Seconds from the last sample until all mappings were read, once and outside of `--budget`; absent
    /// without `--smaps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions_s: Option<f64>,
    /// Course of the system, down-sampled to at most 240 points.
    pub series: Vec<Point>,
    /// Process ids of the filter that were never there.
    pub missing_pids: Vec<u32>,
    /// What else a reader has to know.
    pub notes: Vec<String>,
    /// What of it the text shows.
    #[serde(skip)]
    pub view: View,
}

/// Options of the text view.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Rows of a table; 0: all.
    pub top: usize,
}

impl View {
    /// Rows of a table, of so many.
    #[must_use]
    pub fn rows(self, all: usize) -> usize {
        super::shown(self.top, all)
    }
}

impl Default for View {
    fn default() -> Self {
        Self { top: 20 }
    }
}

/// When, and how often.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Window {
    /// First sample, RFC 3339 in the host's zone.
    pub started_at: Option<String>,
    /// Last sample.
    pub ended_at: Option<String>,
    /// Between them, seconds.
    pub seconds: f64,
    /// How many samples.
    pub samples: u64,
    /// What was asked for between samples, seconds; `null`: the recording does not say.
    pub interval_s: Option<f64>,
}

/// The host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SystemRow {
    /// In use, as `used_formula` says.
    pub mem_used_kb: Option<u64>,
    /// `total-available` (procps 4), or `total-free-buffers-cache` where the kernel tells no MemAvailable.
    pub used_formula: Option<&'static str>,
    /// Buffers, page cache and reclaimable slab, as `free` sums them.
    pub buff_cache_kb: Option<u64>,
    /// Swap in use.
    pub swap_used_kb: Option<u64>,
    /// Everything that was read; averages of PSI as percent, `load1` as a plain number.
    #[serde(flatten, serialize_with = "system_metrics")]
    pub metrics: SystemMetrics,
}

fn system_metrics<S: Serializer>(metrics: &SystemMetrics, to: S) -> Result<S::Ok, S::Error> {
    plain(metrics, SystemMetrics::METRICS, to)
}

/// Metrics as people read them: what is kept in hundredths (averages of PSI, load) as a plain number.
pub(super) fn plain<M, S: Serializer>(
    metrics: &M,
    all: &[Metric<M>],
    to: S,
) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(all.len()))?;
    for metric in all {
        let value = (metric.get)(metrics);
        let average = metric.name.starts_with("psi_") && metric.name.contains("_avg");
        if average || metric.name == "load1" {
            map.serialize_entry(metric.name, &value.map(hundredths))?;
        } else {
            map.serialize_entry(metric.name, &value)?;
        }
    }
    map.end()
}

/// From hundredths.
#[must_use]
pub fn hundredths(value: u64) -> f64 {
    value as f64 / 100.0
}

#[expect(clippy::ref_option, reason = "serde hands a reference over")]
fn percent<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    value.map(hundredths).serialize(to)
}

/// A percentage over the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percent {
    /// In the first sample that had it.
    pub first: f64,
    /// Least.
    pub min: f64,
    /// Mean of the samples.
    pub mean: f64,
    /// Most.
    pub max: f64,
    /// In the last sample that had it.
    pub last: f64,
}

impl From<Stat> for Percent {
    /// From hundredths of a percent.
    fn from(stat: Stat) -> Self {
        Self {
            first: hundredths(stat.first),
            min: hundredths(stat.min),
            mean: stat.mean / 100.0,
            max: hundredths(stat.max),
            last: hundredths(stat.last),
        }
    }
}

/// A figure over the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stat {
    /// In the first sample that had it.
    pub first: u64,
    /// Least.
    pub min: u64,
    /// Mean of the samples.
    pub mean: f64,
    /// Most.
    pub max: u64,
    /// In the last sample that had it.
    pub last: u64,
}

/// The window in figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Figures of the host; one that no sample had is `null`.
    pub system: SystemSummary,
    /// Rates over the window; `null` with a single sample.
    pub rates: Rates,
    /// Processes: all that live, and the largest of those that ended.
    pub processes: Vec<ProcessSummary>,
    /// Processes that began within the window.
    pub appeared: u64,
    /// Processes that ended within the window.
    pub ended: u64,
    /// Of those that ended, how many are not in `processes`: only the largest are kept.
    pub ended_left_out: u64,
}

/// Figures of the host over the window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SystemSummary {
    /// In use.
    pub mem_used_kb: Option<Stat>,
    /// Free.
    pub mem_free_kb: Option<Stat>,
    /// Available to new programs.
    pub mem_available_kb: Option<Stat>,
    /// Buffers, page cache and reclaimable slab.
    pub buff_cache_kb: Option<Stat>,
    /// Swap in use.
    pub swap_used_kb: Option<Stat>,
    /// Anonymous memory.
    pub anon_pages_kb: Option<Stat>,
    /// tmpfs and shared memory.
    pub shmem_kb: Option<Stat>,
    /// Kernel objects.
    pub slab_kb: Option<Stat>,
    /// Waiting to be written back.
    pub dirty_kb: Option<Stat>,
    /// Some task waited for memory, 10 s average, percent.
    pub psi_some_avg10: Option<Percent>,
    /// All tasks waited for memory, 10 s average, percent.
    pub psi_full_avg10: Option<Percent>,
}

/// Rates between the first and the last sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Swapped in.
    pub swap_in_kb_per_s: Option<f64>,
    /// Swapped out.
    pub swap_out_kb_per_s: Option<f64>,
    /// Page faults that needed a disk.
    pub major_faults_per_s: Option<f64>,
    /// Pages scanned by reclaim.
    pub reclaim_scanned_pages_per_s: Option<f64>,
    /// Share of the window in which some task waited for memory, percent.
    pub psi_some_pct: Option<f64>,
    /// Share of the window in which all tasks waited for memory, percent.
    pub psi_full_pct: Option<f64>,
    /// OOM kills within the window.
    pub oom_kills: Option<u64>,
}

/// A process in the last sample.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessRow {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot: with the pid, the identity.
    pub start: u64,
    /// Parent.
    pub ppid: u32,
    /// Name.
    pub comm: String,
    /// Arguments.
    pub cmdline: Option<String>,
    /// Real user: name, else id.
    pub user: Option<String>,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// `runtime:id`.
    pub container: Option<String>,
    /// Systemd unit.
    pub unit: Option<String>,
    /// The kernel's letter.
    pub state: Option<char>,
    /// −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Everything that was read.
    #[serde(flatten)]
    pub metrics: ProcessMetrics,
}

/// A process over the window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessSummary {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start: u64,
    /// Name.
    pub comm: String,
    /// It began within the window.
    pub appeared: bool,
    /// It was gone in the last sample.
    pub ended: bool,
    /// In how many samples.
    pub samples: u64,
    /// Between the first and the last of them, seconds.
    pub seconds: f64,
    /// Resident memory.
    pub rss_kb: Option<Stat>,
    /// Swapped out.
    pub swap_kb: Option<Stat>,
    /// Proportional share, where it was read.
    pub pss_kb: Option<Stat>,
    /// Growth of resident and swapped memory together, first to last.
    pub growth_kb: Option<i64>,
    /// The same per hour; `null` below ten minutes: a short window says nothing about an hour.
    pub growth_kb_per_hour: Option<f64>,
    /// How well a straight line describes the course, 0 to 1; `null` below ten samples or without change.
    pub linearity: Option<f64>,
}

/// A group in the last sample, and over the window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupRow {
    /// Who.
    #[serde(flatten)]
    pub who: Who,
    /// Sums of its processes.
    #[serde(flatten)]
    pub metrics: ProcessMetrics,
    /// Sum of resident memory over the window.
    pub rss_summary: Option<Stat>,
    /// Growth of resident and swapped memory together, first to last.
    pub growth_kb: Option<i64>,
}

/// Mappings of one kind, of all processes.
#[derive(Clone, Debug, Serialize)]
pub struct RegionRow {
    /// What they are: heap, stack, thread_stack, arena, executable, library, anon, named_anon, shared_anon,
    /// file, shm, memfd, hugetlb, vdso, device.
    pub kind: &'static str,
    /// How many.
    pub mappings: u64,
    /// How many processes have them.
    pub processes: u64,
    /// Sums.
    #[serde(flatten)]
    pub metrics: MappingMetrics,
}

/// A point of the course. Of several samples the worst figure stands: most used, least available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Since the first sample.
    pub at_s: f64,
    /// In use, most.
    pub mem_used_kb: Option<u64>,
    /// Available, least.
    pub mem_available_kb: Option<u64>,
    /// Swap in use, most.
    pub swap_used_kb: Option<u64>,
    /// Some task waited for memory, 10 s average, most; kept in hundredths of a percent, written as percent.
    #[serde(serialize_with = "percent")]
    pub psi_some_avg10: Option<u64>,
}

/// A sample, streamed by `-o jsonl` as `{"type":"sample",…}`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SampleRow {
    /// When, RFC 3339 in the host's zone.
    pub at: Option<String>,
    /// The host.
    pub system: Option<SystemRow>,
    /// Its processes.
    pub processes: Vec<SampleProcess>,
}

/// A process of a streamed sample.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SampleProcess {
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start: u64,
    /// Name.
    pub comm: String,
    /// Resident memory.
    pub rss_kb: Option<u64>,
    /// Resident anonymous memory.
    pub anon_kb: Option<u64>,
    /// Resident file memory.
    pub file_kb: Option<u64>,
    /// Resident shared memory.
    pub shmem_kb: Option<u64>,
    /// Swapped out.
    pub swap_kb: Option<u64>,
    /// Proportional share.
    pub pss_kb: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_written_as_people_read_them() {
        let row = SystemRow {
            metrics: SystemMetrics {
                mem_total_kb: Some(100),
                psi_some_avg10: Some(615),
                load1: Some(222),
                ..SystemMetrics::default()
            },
            ..SystemRow::default()
        };
        let value = serde_json::to_value(&row).unwrap();
        assert_eq!(value["psi_some_avg10"], 6.15);
        assert_eq!(value["load1"], 2.22);
        assert_eq!(value["mem_total_kb"], 100);
        assert!(value["psi_full_avg10"].is_null() && value["swap_used_kb"].is_null());
        let all = value.as_object().unwrap().len();
        assert_eq!(all, SystemMetrics::METRICS.len() + 4);
        let point = Point {
            psi_some_avg10: Some(1),
            ..Point::default()
        };
        let value = serde_json::to_value(point).unwrap();
        assert_eq!(value["psi_some_avg10"], 0.01);
    }
}
