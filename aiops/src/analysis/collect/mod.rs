//! What a window of time held: least, mean, most and last of every figure, and who grew.
//!
//! Memory is bounded by the number of processes that live at once, never by the length of the window:
//! figures are accumulated ([`accumulate`]), the course is down-sampled, and of the processes and groups
//! that ended only the largest are kept; the others are counted.

mod accumulate;
mod findings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

use accumulate::Course;
use accumulate::Figure;
use accumulate::Track;
pub use findings::lacks;

use super::grouping;
use super::grouping::By;
use super::readings::ProcessKey;
use super::readings::Readings;
use super::readings::key;
use crate::analysis::memory;
use crate::model::Item;
use crate::model::MappingMetrics;
use crate::model::Nanos;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::RegionKind;
use crate::model::Sample;
use crate::model::SystemMetrics;
use crate::report::Finding;
use crate::report::collect::CollectData;
use crate::report::collect::GroupRow;
use crate::report::collect::ProcessRow;
use crate::report::collect::ProcessSummary;
use crate::report::collect::Rates;
use crate::report::collect::RegionRow;
use crate::report::collect::SampleProcess;
use crate::report::collect::SampleRow;
use crate::report::collect::Summary;
use crate::report::collect::SystemRow;
use crate::report::collect::SystemSummary;
use crate::report::collect::View;
use crate::report::collect::Window;
use crate::time;

/// Option of the session: the time between samples, seconds.
pub const OPTION_INTERVAL: &str = "interval_s";
/// Option of the session: what processes are put together by.
pub const OPTION_BY: &str = "by";
/// Option of the session: `true` when mappings were read.
pub const OPTION_SMAPS: &str = "smaps";

/// Processes that ended, of which figures are kept: the largest.
const ENDED: usize = 256;
/// Groups without a process that are kept.
const EMPTY_GROUPS: usize = 1024;

/// Takes the items of a window.
#[derive(Debug, Default)]
pub struct Collector {
    readings: Readings,
    /// Overrides what the session says.
    by: Option<By>,
    view: View,
    system: SystemFigures,
    course: Course,
    tracks: HashMap<ProcessKey, Track>,
    ended: HashMap<ProcessKey, Track>,
    ended_left_out: u64,
    appeared: u64,
    groups: HashMap<Option<String>, Track>,
    /// Process ids of the filter that were there.
    found: BTreeSet<u32>,
}

#[derive(Debug, Default)]
struct SystemFigures {
    used: Figure,
    free: Figure,
    available: Figure,
    cache: Figure,
    swap: Figure,
    anon: Figure,
    shmem: Figure,
    slab: Figure,
    dirty: Figure,
    some: Figure,
    full: Figure,
}

impl Collector {
    /// Begins; `by` overrides what the session says.
    #[must_use]
    pub fn new(by: Option<By>, top: usize) -> Self {
        Self {
            by,
            view: View { top },
            ..Self::default()
        }
    }

    /// First and last figures so far.
    #[must_use]
    pub fn readings(&self) -> &Readings {
        &self.readings
    }

    /// Takes the next item.
    pub fn push(&mut self, item: &Item) {
        self.readings.push(item.clone());
        if let Item::Sample(sample) = item {
            self.sample(sample);
        }
    }

    /// Seconds since the first sample.
    fn at_s(&self, ts_ns: Nanos) -> f64 {
        let first = self.readings.first.as_ref().map_or(ts_ns, |one| one.ts_ns);
        ts_ns.saturating_sub(first) as f64 / 1e9
    }

    fn sample(&mut self, sample: &Sample) {
        let at_s = self.at_s(sample.ts_ns);
        if let Some(metrics) = &sample.system {
            self.host(metrics, at_s);
        }
        let first = self.readings.samples == 1;
        let mut here = HashSet::with_capacity(sample.processes.len());
        for process in &sample.processes {
            let key = key(process);
            here.insert(key);
            if !self.tracks.contains_key(&key) {
                let back = self.ended.remove(&key);
                let track = back.unwrap_or_else(|| {
                    self.appeared += u64::from(!first);
                    Track::new(!first)
                });
                self.tracks.insert(key, track);
            }
            if let Some(track) = self.tracks.get_mut(&key) {
                track.comm.clone_from(&process.comm);
                track.push(at_s, &process.metrics);
            }
            let wanted = self.readings.session.as_ref().map(|one| &one.filter.pids);
            if wanted.is_some_and(|pids| pids.contains(&process.pid)) {
                self.found.insert(process.pid);
            }
        }
        let gone = self.tracks.extract_if(|key, _| !here.contains(key));
        self.ended.extend(gone);
        self.trim();
        self.group(sample, at_s);
    }

    /// Keeps the largest of those that ended.
    fn trim(&mut self) {
        if self.ended.len() <= ENDED * 2 {
            return;
        }
        let mut sizes: Vec<(u64, ProcessKey)> = self
            .ended
            .iter()
            .map(|(key, track)| (track.rss.most(), *key))
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        for (_, key) in sizes.drain(ENDED..) {
            self.ended.remove(&key);
            self.ended_left_out += 1;
        }
    }

    fn group(&mut self, sample: &Sample, at_s: f64) {
        let by = self.by();
        if by == By::Process {
            return;
        }
        let mut sums: BTreeMap<Option<String>, crate::model::ProcessMetrics> = BTreeMap::new();
        for process in &sample.processes {
            let name = grouping::name(&self.readings, process, by);
            let sum = sums.entry(name).or_default();
            let metrics = &process.metrics;
            for (sum, one) in [
                (&mut sum.rss_kb, metrics.rss_kb),
                (&mut sum.swap_kb, metrics.swap_kb),
            ] {
                if let Some(one) = one {
                    *sum = Some(sum.unwrap_or(0).saturating_add(one));
                }
            }
        }
        if self.groups.len() > sums.len() + EMPTY_GROUPS {
            self.groups.retain(|name, _| sums.contains_key(name));
        }
        for (name, sum) in sums {
            let group = self.groups.entry(name).or_default();
            group.push(at_s, &sum);
        }
    }

    fn host(&mut self, metrics: &SystemMetrics, at_s: f64) {
        let row = system_row(metrics);
        let figures = &mut self.system;
        for (figure, value) in [
            (&mut figures.used, row.mem_used_kb),
            (&mut figures.free, metrics.mem_free_kb),
            (&mut figures.available, metrics.mem_available_kb),
            (&mut figures.cache, row.buff_cache_kb),
            (&mut figures.swap, row.swap_used_kb),
            (&mut figures.anon, metrics.anon_pages_kb),
            (&mut figures.shmem, metrics.shmem_kb),
            (&mut figures.slab, metrics.slab_kb),
            (&mut figures.dirty, metrics.dirty_kb),
            (&mut figures.some, metrics.psi_some_avg10),
            (&mut figures.full, metrics.psi_full_avg10),
        ] {
            figure.push(value);
        }
        self.course.push(at_s, &row);
    }

    /// What processes are put together by.
    fn by(&self) -> By {
        self.by.unwrap_or_else(|| {
            let session = self.readings.session.as_ref();
            let id = session.and_then(|session| session.options.get(OPTION_BY));
            id.and_then(|id| By::from_id(id)).unwrap_or_default()
        })
    }

    /// The report's data and what it means.
    #[must_use]
    pub fn finish(&self) -> (CollectData, Vec<Finding>) {
        let readings = &self.readings;
        let session = readings.session.as_ref();
        let filter = session.map(|session| &session.filter);
        let newest = readings.newest();
        let by = self.by();
        let data = CollectData {
            window: self.window(),
            system: newest
                .and_then(|sample| sample.system.as_ref())
                .map(system_row),
            summary: self.summary(),
            processes: processes(readings),
            by: by.id(),
            groups: (by != By::Process).then(|| self.groups(by)),
            cgroups: cgroups(readings),
            regions: self.smaps().then(|| regions(readings)),
            regions_processes: self.smaps().then_some(readings.regions.len() as u64),
            regions_s: self.smaps().then(|| regions_s(readings)).flatten(),
            series: self.course.points(),
            missing_pids: filter.map_or_else(Vec::new, |filter| {
                let pids: BTreeSet<u32> = filter.pids.iter().copied().collect();
                pids.difference(&self.found).copied().collect()
            }),
            notes: session.map_or_else(Vec::new, |session| session.notes.clone()),
            view: self.view,
        };
        let findings = findings::findings(&data, readings);
        (data, findings)
    }

    fn smaps(&self) -> bool {
        let session = self.readings.session.as_ref();
        session.is_some_and(|session| session.options.contains_key(OPTION_SMAPS))
    }

    fn window(&self) -> Window {
        let readings = &self.readings;
        let (first, last) = (readings.first.as_ref(), readings.newest());
        let session = readings.session.as_ref();
        Window {
            started_at: first.and_then(|sample| at(readings, sample.ts_ns)),
            ended_at: last.and_then(|sample| at(readings, sample.ts_ns)),
            seconds: last.map_or(0.0, |sample| self.at_s(sample.ts_ns)),
            samples: readings.samples,
            interval_s: session
                .and_then(|session| session.options.get(OPTION_INTERVAL))
                .and_then(|seconds| seconds.parse().ok()),
        }
    }

    fn summary(&self) -> Summary {
        let figures = &self.system;
        let mut processes: Vec<ProcessSummary> = self
            .tracks
            .iter()
            .map(|(key, track)| track.summary(*key, false))
            .chain(
                self.ended
                    .iter()
                    .map(|(key, track)| track.summary(*key, true)),
            )
            .collect();
        processes.sort_by_key(|one| {
            let most = one.rss_kb.map_or(0, |rss| rss.max);
            (std::cmp::Reverse(most), one.pid, one.start)
        });
        Summary {
            system: SystemSummary {
                mem_used_kb: figures.used.stat(),
                mem_free_kb: figures.free.stat(),
                mem_available_kb: figures.available.stat(),
                buff_cache_kb: figures.cache.stat(),
                swap_used_kb: figures.swap.stat(),
                anon_pages_kb: figures.anon.stat(),
                shmem_kb: figures.shmem.stat(),
                slab_kb: figures.slab.stat(),
                dirty_kb: figures.dirty.stat(),
                psi_some_avg10: figures.some.stat().map(Into::into),
                psi_full_avg10: figures.full.stat().map(Into::into),
            },
            rates: rates(&self.readings),
            processes,
            appeared: self.appeared,
            ended: self.ended.len() as u64 + self.ended_left_out,
            ended_left_out: self.ended_left_out,
        }
    }

    fn groups(&self, by: By) -> Vec<GroupRow> {
        let groups = grouping::group(&self.readings, by);
        let rows = groups.iter().map(|group| {
            let track = self.groups.get(&group.name);
            GroupRow {
                who: grouping::who(&self.readings, group, by),
                metrics: group.metrics.clone(),
                rss_summary: track.and_then(|track| track.rss.stat()),
                growth_kb: track.and_then(Track::growth_kb),
            }
        });
        rows.collect()
    }
}

/// A sample as it is streamed.
#[must_use]
pub fn sample_row(readings: &Readings, sample: &Sample) -> SampleRow {
    let process = |process: &ProcessSample| SampleProcess {
        pid: process.pid,
        start: process.start_ticks,
        comm: process.comm.lossy().into_owned(),
        rss_kb: process.metrics.rss_kb,
        anon_kb: process.metrics.anon_kb,
        file_kb: process.metrics.file_kb,
        shmem_kb: process.metrics.shmem_kb,
        swap_kb: process.metrics.swap_kb,
        pss_kb: process.metrics.pss_kb,
    };
    SampleRow {
        at: at(readings, sample.ts_ns),
        system: sample.system.as_ref().map(system_row),
        processes: sample.processes.iter().map(process).collect(),
    }
}

/// The figures that people know, from the kernel's: as `free` of procps 4 has them.
#[must_use]
pub fn system_row(metrics: &SystemMetrics) -> SystemRow {
    let (mem_used_kb, used_formula) = memory::used(metrics);
    SystemRow {
        mem_used_kb,
        used_formula,
        buff_cache_kb: memory::buff_cache(metrics),
        swap_used_kb: memory::swap_used(metrics),
        metrics: metrics.clone(),
    }
}

/// A moment of the observation, RFC 3339 in the zone of the host.
fn at(readings: &Readings, ts_ns: Nanos) -> Option<String> {
    let (_, pair) = readings.clocks?;
    let since = i64::try_from(i128::from(ts_ns) - i128::from(pair.mono_ns)).ok()?;
    let session = readings.session.as_ref();
    let offset = session.and_then(|session| session.host.utc_offset_s);
    time::rfc3339(pair.real_ns.checked_add(since)?, offset.unwrap_or(0))
}

fn rates(readings: &Readings) -> Rates {
    let page_kb = readings.page_kb() as f64;
    let stalled = |get: fn(&SystemMetrics) -> Option<u64>| {
        // µs per second, as percent.
        readings.rate(get).map(|us| (us / 1e4).min(100.0))
    };
    let scanned = [
        readings.rate(|system| system.pgscan_kswapd),
        readings.rate(|system| system.pgscan_direct),
    ];
    let kills = || {
        let (first, last, _) = readings.span()?;
        let (from, to) = (first.system.as_ref()?.oom_kill?, last.system.as_ref()?);
        to.oom_kill?.checked_sub(from)
    };
    Rates {
        swap_in_kb_per_s: readings.rate(|system| system.pswpin).map(|n| n * page_kb),
        swap_out_kb_per_s: readings.rate(|system| system.pswpout).map(|n| n * page_kb),
        major_faults_per_s: readings.rate(|system| system.pgmajfault),
        reclaim_scanned_pages_per_s: match scanned {
            [None, None] => None,
            [kswapd, direct] => Some(kswapd.unwrap_or(0.0) + direct.unwrap_or(0.0)),
        },
        psi_some_pct: stalled(|system| system.psi_some_total_us),
        psi_full_pct: stalled(|system| system.psi_full_total_us),
        oom_kills: kills(),
    }
}

fn processes(readings: &Readings) -> Vec<ProcessRow> {
    let newest = readings.newest();
    let samples = newest.into_iter().flat_map(|sample| &sample.processes);
    let mut rows: Vec<ProcessRow> = samples.map(|process| row(readings, process)).collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.metrics.rss_kb), row.pid));
    rows
}

fn row(readings: &Readings, process: &ProcessSample) -> ProcessRow {
    let identity = readings.identity(key(process));
    let name = |by| grouping::name(readings, process, by);
    let cmdline = identity
        .map(|identity| &identity.cmdline)
        .filter(|arguments| !arguments.is_empty());
    ProcessRow {
        pid: process.pid,
        start: process.start_ticks,
        ppid: process.ppid,
        comm: process.comm.lossy().into_owned(),
        cmdline: cmdline.map(|arguments| {
            let arguments: Vec<_> = arguments.iter().map(RawText::lossy).collect();
            arguments.join(" ")
        }),
        user: name(By::User),
        cgroup: name(By::Cgroup),
        container: name(By::Container),
        unit: name(By::Unit),
        state: process.state,
        oom_score_adj: process.oom_score_adj,
        metrics: process.metrics.clone(),
    }
}

/// Cgroups of the last sample, the fullest first; those without a limit by use, behind.
fn cgroups(readings: &Readings) -> Vec<crate::report::processes::Limits> {
    let wanted = grouping::wanted_cgroups(readings).into_iter();
    let mut rows: Vec<_> = wanted.map(grouping::limits).collect();
    rows.sort_by(|a, b| {
        let share = |row: &crate::report::processes::Limits| {
            let limit = row.limit_kb.filter(|limit| *limit > 0)?;
            Some(row.usage_kb? as f64 / limit as f64)
        };
        let (a_share, b_share) = (share(a).unwrap_or(-1.0), share(b).unwrap_or(-1.0));
        b_share
            .total_cmp(&a_share)
            .then(b.usage_kb.cmp(&a.usage_kb))
            .then(a.path.cmp(&b.path))
    });
    rows
}

/// From the last sample until the last mappings were read, seconds.
fn regions_s(readings: &Readings) -> Option<f64> {
    let end = readings.regions.values().map(|one| one.ts_ns).max()?;
    let since = end.checked_sub(readings.newest()?.ts_ns)?;
    Some(since as f64 / 1e9)
}

fn regions(readings: &Readings) -> Vec<RegionRow> {
    let mut sums: BTreeMap<RegionKind, RegionRow> = BTreeMap::new();
    for process in readings.regions.values() {
        let mut kinds = BTreeSet::new();
        for region in &process.regions {
            let sum = sums.entry(region.kind).or_insert_with(|| RegionRow {
                kind: region.kind.id(),
                mappings: 0,
                processes: 0,
                metrics: MappingMetrics::default(),
            });
            sum.mappings += region.mappings;
            sum.processes += u64::from(kinds.insert(region.kind));
            sum.metrics.add(&region.metrics);
        }
    }
    let mut rows: Vec<RegionRow> = sums.into_values().collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.metrics.pss_kb, row.metrics.rss_kb)));
    rows
}
