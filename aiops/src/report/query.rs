//! The data of `query memory`: what history says of a range of time.

use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap as _;

/// The data of `query memory`. `B` is the body of what happened, as JSON.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QueryData<B> {
    /// The range, and how well it is covered.
    pub range: Covered,
    /// The figure that `rows` are about, with its unit.
    pub field: String,
    /// What `rows` are: process, comm, cgroup, container, user.
    pub group_by: &'static str,
    /// Which figure of a step `series` shows, and the default order.
    pub agg: &'static str,
    /// Order of `rows` and `cgroups`.
    pub sort: &'static str,
    /// Length of a step, s; `null`: no series were asked for.
    pub step_s: Option<f64>,
    /// How many of the first rows and cgroups have a series; `null`: no series were asked for.
    pub series_rows: Option<u64>,
    /// Processes or groups, in that order; empty when they were not asked for.
    pub rows: Vec<Row>,
    /// How many there are.
    pub rows_total: u64,
    /// The host by steps; `null`: not asked for.
    pub system: Option<Vec<SystemStep>>,
    /// Memory cgroups; `null`: not asked for.
    pub cgroups: Option<Vec<CgroupRow>>,
    /// What happened; `null`: not asked for.
    pub incidents: Option<Vec<Incident<B>>>,
    /// Whether processes or groups were asked for.
    #[serde(skip)]
    pub processes: bool,
    /// Rows that the text report shows; 0: all.
    #[serde(skip)]
    pub top: usize,
    /// Of courses.
    #[serde(skip)]
    pub axis: Axis,
}

/// The axis of all courses of a report, ms since 1970 UTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Axis {
    /// Beginning of the range.
    pub start_ms: f64,
    /// Its end.
    pub end_ms: f64,
    /// Steps in it.
    pub steps: usize,
}

/// A range of time and what there is of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Covered {
    /// First moment, RFC 3339.
    pub start: String,
    /// First moment behind it.
    pub end: String,
    /// Samples of the host that were taken in it.
    pub ticks: u64,
    /// Usual distance of two samples (median).
    pub interval_ms: Option<i64>,
    /// Time of the first one.
    pub first: Option<String>,
    /// Time of the last one.
    pub last: Option<String>,
    /// Stretches longer than three intervals without a sample, at the ends too.
    pub gaps: Vec<Gap>,
    /// First time that the store knows anything of.
    pub store_first: Option<String>,
    /// Last time that the store knows anything of.
    pub store_last: Option<String>,
}

/// A stretch without samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gap {
    /// The sample before it, or the beginning of the range.
    pub from: String,
    /// The sample behind it, or the end of the range.
    pub to: String,
    /// Its length, s.
    pub seconds: f64,
}

/// A figure over the range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// The first that is known.
    pub first: Option<i64>,
    /// The last that is known.
    pub last: Option<i64>,
    /// The least.
    pub min: Option<i64>,
    /// The most.
    pub max: Option<i64>,
    /// The average of all samples that knew it.
    pub avg: Option<f64>,
    /// 95 % of the samples have no more; only with `--agg p95`.
    pub p95: Option<i64>,
    /// From the first to the last.
    pub growth: Option<i64>,
    /// The same, for an hour.
    pub growth_per_hour: Option<f64>,
}

/// A moment of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Beginning of its step, ms since 1970 UTC.
    pub ts_ms: i64,
    /// Samples in it.
    pub samples: u64,
    /// The figure that `agg` asks for: of p95 and growth, the average.
    pub value: f64,
    /// The least in it.
    pub min: i64,
    /// The most in it.
    pub max: i64,
}

/// A process, or a group: of that, the figures are of the total of its members at each sample.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The unit that keys end with: `_kb`, or nothing.
    pub unit: &'static str,
    /// Name of the process or the group; `None`: members that belong to no such group.
    pub name: Option<String>,
    /// Process id; `None` for a group.
    pub pid: Option<u32>,
    /// Start in clock ticks since boot.
    pub start: Option<u64>,
    /// The boot.
    pub boot_id: Option<String>,
    /// User, where it is one process.
    pub user: Option<String>,
    /// Memory cgroup, where it is one process.
    pub cgroup: Option<String>,
    /// `runtime:id` of the container, where it is one process.
    pub container: Option<String>,
    /// How many processes.
    pub processes: u64,
    /// Time of its first sample.
    pub from: String,
    /// Time of its last sample.
    pub to: String,
    /// Samples.
    pub samples: u64,
    /// The figure.
    pub figures: Figures,
    /// By steps; only with `--step`, and of the first rows.
    pub series: Option<Vec<Point>>,
    /// For people: the course of it, (ms, value).
    pub trend: Vec<(f64, u64)>,
}

impl Figures {
    fn entries<M: serde::ser::SerializeMap>(
        &self,
        map: &mut M,
        unit: &str,
    ) -> Result<(), M::Error> {
        map.serialize_entry(&format!("first{unit}"), &self.first)?;
        map.serialize_entry(&format!("last{unit}"), &self.last)?;
        map.serialize_entry(&format!("min{unit}"), &self.min)?;
        map.serialize_entry(&format!("max{unit}"), &self.max)?;
        map.serialize_entry(&format!("avg{unit}"), &self.avg)?;
        map.serialize_entry(&format!("p95{unit}"), &self.p95)?;
        map.serialize_entry(&format!("growth{unit}"), &self.growth)?;
        map.serialize_entry(&format!("growth{unit}_per_hour"), &self.growth_per_hour)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("pid", &self.pid)?;
        map.serialize_entry("start", &self.start)?;
        map.serialize_entry("boot_id", &self.boot_id)?;
        map.serialize_entry("user", &self.user)?;
        map.serialize_entry("cgroup", &self.cgroup)?;
        map.serialize_entry("container", &self.container)?;
        map.serialize_entry("processes", &self.processes)?;
        map.serialize_entry("from", &self.from)?;
        map.serialize_entry("to", &self.to)?;
        map.serialize_entry("samples", &self.samples)?;
        self.figures.entries(&mut map, self.unit)?;
        if let Some(series) = &self.series {
            map.serialize_entry("series", series)?;
        }
        map.end()
    }
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("ts_ms", &self.ts_ms)?;
        map.serialize_entry("samples", &self.samples)?;
        map.serialize_entry("value", &self.value)?;
        map.serialize_entry("min", &self.min)?;
        map.serialize_entry("max", &self.max)?;
        map.end()
    }
}

/// The host over one step. Averages are over its samples; rates are over the time between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SystemStep {
    /// Beginning of the step, ms since 1970 UTC.
    #[serde(skip)]
    pub ts_ms: i64,
    /// Beginning of the step, RFC 3339.
    pub time: String,
    /// Samples in it.
    pub samples: u64,
    /// MemAvailable, average.
    pub mem_available_kb: Option<f64>,
    /// MemAvailable, the least.
    pub mem_available_min_kb: Option<i64>,
    /// MemTotal less MemAvailable, average.
    pub mem_used_kb: Option<f64>,
    /// The most of it.
    pub mem_used_max_kb: Option<i64>,
    /// Swap in use, average.
    pub swap_used_kb: Option<f64>,
    /// The most of it.
    pub swap_used_max_kb: Option<i64>,
    /// Share of the time in which some task waited for memory (PSI), percent.
    pub psi_some_percent: Option<f64>,
    /// Share of the time in which all waited.
    pub psi_full_percent: Option<f64>,
    /// CPUs not idle, percent of all CPUs.
    pub cpu_percent: Option<f64>,
    /// Read from disks.
    pub disk_read_kb_per_s: Option<f64>,
    /// Written to disks.
    pub disk_written_kb_per_s: Option<f64>,
    /// Received from the network.
    pub net_rx_bytes_per_s: Option<f64>,
    /// Sent to it.
    pub net_tx_bytes_per_s: Option<f64>,
    /// Pages swapped in.
    pub swap_in_pages_per_s: Option<f64>,
    /// Pages swapped out.
    pub swap_out_pages_per_s: Option<f64>,
    /// OOM kills in the step.
    pub oom_kills: Option<u64>,
}

/// A memory cgroup over the range: figures are of its usage.
#[derive(Clone, Debug, Default)]
pub struct CgroupRow {
    /// Its path.
    pub path: String,
    /// Time of its first sample.
    pub from: String,
    /// Time of its last sample.
    pub to: String,
    /// Samples.
    pub samples: u64,
    /// Of its usage.
    pub figures: Figures,
    /// Its hard limit at the end; `None`: none is known.
    pub limit_kb: Option<i64>,
    /// Its throttling limit at the end.
    pub high_kb: Option<i64>,
    /// Most of the limit that it used, percent.
    pub limit_used_max_percent: Option<f64>,
    /// Most swap that it used.
    pub swap_max_kb: Option<i64>,
    /// OOM kills in the range.
    pub oom_kills: Option<i64>,
    /// By steps; only with `--step`, and of the first rows.
    pub series: Option<Vec<Point>>,
    /// For people: the course of it.
    pub trend: Vec<(f64, u64)>,
}

impl Serialize for CgroupRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &self.path)?;
        map.serialize_entry("from", &self.from)?;
        map.serialize_entry("to", &self.to)?;
        map.serialize_entry("samples", &self.samples)?;
        self.figures.entries(&mut map, "_kb")?;
        map.serialize_entry("limit_kb", &self.limit_kb)?;
        map.serialize_entry("high_kb", &self.high_kb)?;
        map.serialize_entry("limit_used_max_percent", &self.limit_used_max_percent)?;
        map.serialize_entry("swap_max_kb", &self.swap_max_kb)?;
        map.serialize_entry("oom_kills", &self.oom_kills)?;
        if let Some(series) = &self.series {
            map.serialize_entry("series", series)?;
        }
        map.end()
    }
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Incident<B> {
    /// When, RFC 3339.
    pub time: String,
    /// oom, finding.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// info, warning, critical.
    pub severity: String,
    /// One line.
    pub title: String,
    /// Whom it is about, where that is one process.
    pub pid: Option<u32>,
    /// Memory cgroup that it is about.
    pub cgroup: Option<String>,
    /// The incident or the finding, whole; a text where it is no JSON.
    pub body: B,
}
