//! What the memory of a process, or of some together, is made of.

mod changes;
mod findings;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;

use crate::model::MappingMetrics;
use crate::model::MappingSample;
use crate::model::Metric;
use crate::model::ProcessMappings;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::RegionKind;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::SkippedProcesses;
use crate::report::inspect::Difference;
use crate::report::inspect::FailReason;
use crate::report::inspect::FailedProcess;
use crate::report::inspect::Figures;
use crate::report::inspect::InspectData;
use crate::report::inspect::KindRow;
use crate::report::inspect::MappingRow;
use crate::report::inspect::ModuleRow;
use crate::report::inspect::ProcessInfo;
use crate::report::inspect::ProcessRow;
use crate::report::inspect::name;

use super::grouping;
use super::grouping::By;
use super::readings::Readings;

pub use changes::Changes;

/// Orders of mappings and modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Address; modules by name.
    Address,
    /// Address space.
    Size,
    /// Resident memory.
    Rss,
    /// Proportional share.
    #[default]
    Pss,
    /// Swapped out.
    Swap,
    /// Dirty memory.
    Dirty,
}

impl Sort {
    /// What is sorted by; larger is first. Where a figure is unknown (no smaps), the address space.
    fn figure(self, metrics: &MappingMetrics) -> (Option<u64>, Option<u64>) {
        let first = match self {
            Self::Address => None,
            Self::Size => metrics.size_kb,
            Self::Rss => metrics.rss_kb,
            Self::Pss => metrics.pss_kb,
            Self::Swap => metrics.swap_kb,
            Self::Dirty => metrics.dirty_kb(),
        };
        (first, metrics.rss_kb.or(metrics.size_kb))
    }
}

/// What was read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Processes that were asked for: their mappings.
    pub processes: Vec<ProcessMappings>,
    /// Those that could not be read.
    pub failed: Vec<FailedProcess>,
}

/// Those of `all` that were asked for by id or name, and their descendants when those are wanted too.
/// `wanted` are the other conditions: a process has to meet them as well, and without ids and names they alone
/// choose.
#[must_use]
pub fn select(
    all: &[ProcessSample],
    pids: &[u32],
    comms: &[String],
    children: bool,
    wanted: &dyn Fn(&ProcessSample) -> bool,
) -> Vec<u32> {
    let mut chosen: BTreeSet<u32> = pids.iter().copied().collect();
    for process in all {
        let is = |comm: &String| process.comm.as_bytes() == comm.as_bytes();
        let anyone = pids.is_empty() && comms.is_empty();
        let named = anyone || comms.iter().any(is) || chosen.contains(&process.pid);
        if named && wanted(process) {
            chosen.insert(process.pid);
        } else {
            chosen.remove(&process.pid);
        }
    }
    let mut open: Vec<u32> = if children {
        chosen.iter().copied().collect()
    } else {
        Vec::new()
    };
    let mut below: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in all {
        below.entry(process.ppid).or_default().push(process.pid);
    }
    while let Some(pid) = open.pop() {
        for child in below.get(&pid).into_iter().flatten() {
            if chosen.insert(*child) {
                open.push(*child);
            }
        }
    }
    chosen.into_iter().collect()
}

/// Puts a moment together. `readings` tells who the processes are and what limits they have.
#[must_use]
pub fn inspect(
    readings: &Readings,
    taken: Taken,
    sort: Sort,
    max_map_count: Option<u64>,
) -> (InspectData, Vec<Finding>) {
    let mut infos = infos(readings, &taken);
    // The limit that is met first, not the nearest one above.
    let limits: HashMap<u32, u64> = grouping::group(readings, By::Process)
        .iter()
        .filter_map(|group| {
            let limit = grouping::bound_by(readings, group)?.metrics.limit_kb?;
            Some((group.processes.first()?.pid, limit))
        })
        .collect();
    let total_kb = readings
        .session
        .as_ref()
        .and_then(|session| session.host.mem_total_kb);
    let mut found = Vec::new();
    let mut data = InspectData {
        maps_only: taken.processes.iter().any(|process| process.maps_only),
        failed: taken.failed,
        max_map_count,
        at: readings
            .moment()
            .and_then(|(ns, offset)| crate::time::rfc3339(ns, offset)),
        notes: readings
            .session
            .as_ref()
            .map_or_else(Vec::new, |session| session.notes.clone()),
        ..InspectData::default()
    };
    let mut sums = Sums::default();
    let mut rollup = Some(MappingMetrics::default());
    let several = taken.processes.len() > 1;
    for process in tree(taken.processes) {
        let (depth, process) = process;
        let info = infos.remove(&process.process.pid).unwrap_or_default();
        found.extend(findings::of(
            &process,
            &findings::Around {
                who: several.then_some(&info.who),
                limit_kb: limits.get(&process.process.pid).copied(),
                total_kb,
                max_map_count,
            },
        ));
        let row = row(&process, info, depth, &mut data.differences);
        match (&mut rollup, &process.rollup) {
            (Some(sum), Some(one)) => sum.add(one),
            _ => rollup = None,
        }
        add_nodes(&mut data.node_kb, process.node_kb.as_deref());
        data.processes.push(row);
        let pid = process.process.pid;
        for mapping in process.mappings {
            sums.add(pid, &mapping);
            data.mappings.push(MappingRow {
                pid,
                sample: mapping,
            });
        }
    }
    if let ([row], false) = (&data.processes[..], several) {
        data.process = Some(row.info.clone());
    }
    data.totals = Figures::from(sums.totals);
    data.rollup = rollup.filter(|_| !data.processes.is_empty());
    data.totals_equal_rollup = data.rollup.as_ref().map(|_| {
        let mut rows = data.processes.iter();
        rows.all(|row| row.totals_equal_rollup == Some(true))
    });
    data.by_kind = sums.kinds.into_values().map(Sum::kind).collect();
    data.by_kind
        .sort_by_key(|row| std::cmp::Reverse(weight(&row.figures.metrics)));
    data.modules = sums.modules.into_values().map(Sum::module).collect();
    if sort != Sort::Address {
        data.modules
            .sort_by_key(|row| std::cmp::Reverse(sort.figure(&row.figures.metrics)));
        data.mappings
            .sort_by_key(|row| std::cmp::Reverse(sort.figure(&row.sample.metrics)));
    }
    (data, findings::together(found))
}

/// What a kind counts: its share with what is swapped out, then huge pages and address space.
fn weight(metrics: &MappingMetrics) -> (u64, u64) {
    let huge = [metrics.private_hugetlb_kb, metrics.shared_hugetlb_kb];
    let known = [metrics.pss_kb.or(metrics.rss_kb), metrics.swap_kb];
    let sum = known.into_iter().chain(huge).flatten();
    (
        sum.fold(0, u64::saturating_add),
        metrics.size_kb.unwrap_or(0),
    )
}

fn add_nodes(sum: &mut Option<Vec<u64>>, more: Option<&[u64]>) {
    let Some(more) = more else { return };
    let sum = sum.get_or_insert_default();
    if sum.len() < more.len() {
        sum.resize(more.len(), 0);
    }
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}

/// Who the processes are, by pid.
fn infos(readings: &Readings, taken: &Taken) -> HashMap<u32, ProcessInfo> {
    let groups = grouping::group(readings, By::Process);
    let by_pid: HashMap<u32, &grouping::Group<'_>> = groups
        .iter()
        .filter_map(|group| Some((group.processes.first()?.pid, group)))
        .collect();
    let info = |mappings: &ProcessMappings| {
        let process = &mappings.process;
        let key = super::readings::key(process);
        let known = by_pid.get(&process.pid).filter(|group| {
            let same = |one: &&ProcessSample| one.start_ticks == process.start_ticks;
            group.processes.first().is_some_and(same)
        });
        let mut info = ProcessInfo {
            who: known.map_or_else(Default::default, |group| {
                grouping::who(readings, group, By::Process)
            }),
            exe: readings
                .identity(key)
                .and_then(|one| Some(one.exe.as_ref()?.lossy().into_owned())),
            uid: process.uid,
            threads: process.metrics.threads,
            state: process.state,
            oom_score: process.metrics.oom_score,
            oom_score_adj: process.oom_score_adj,
            age_s: readings.age_s(key),
        };
        // The mappings' own sample is of the same moment as the mappings.
        info.who.pid = Some(process.pid);
        info.who.start = Some(process.start_ticks);
        info.who.ppid = Some(process.ppid);
        info.who.processes = 1;
        info.who.comm = Some(process.comm.lossy().into_owned());
        info.who.name.clone_from(&info.who.comm);
        (process.pid, info)
    };
    taken.processes.iter().map(info).collect()
}

/// Children behind their parents, with their depth; else in the order of pids.
fn tree(mut processes: Vec<ProcessMappings>) -> Vec<(u64, ProcessMappings)> {
    processes.sort_by_key(|process| process.process.pid);
    let pids: HashSet<u32> = processes.iter().map(|one| one.process.pid).collect();
    let mut below: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut open: Vec<(u64, u32)> = Vec::new();
    for one in &processes {
        let (pid, parent) = (one.process.pid, one.process.ppid);
        if pids.contains(&parent) && parent != pid {
            below.entry(parent).or_default().push(pid);
        } else {
            open.push((0, pid));
        }
    }
    open.reverse();
    let mut by_pid: BTreeMap<u32, ProcessMappings> = processes
        .into_iter()
        .map(|one| (one.process.pid, one))
        .collect();
    let mut rows = Vec::with_capacity(by_pid.len());
    while let Some((depth, pid)) = open.pop() {
        if let Some(one) = by_pid.remove(&pid) {
            rows.push((depth, one));
        }
        let children = below.remove(&pid).unwrap_or_default();
        open.extend(children.into_iter().rev().map(|pid| (depth + 1, pid)));
    }
    // Parents in a circle: only a captured tree can say so.
    rows.extend(by_pid.into_values().map(|one| (0, one)));
    rows
}

fn row(
    process: &ProcessMappings,
    info: ProcessInfo,
    depth: u64,
    differences: &mut Vec<Difference>,
) -> ProcessRow {
    let mut totals = MappingMetrics::default();
    for mapping in &process.mappings {
        totals.add(&mapping.metrics);
    }
    let equal = process.rollup.as_ref().filter(|_| !process.maps_only);
    let equal = equal.map(|rollup| {
        let from = differences.len();
        let pid = process.process.pid;
        differences.extend(compare(pid, &totals, rollup, process.mappings.len() as u64));
        differences[from..].iter().all(|one| one.rounding)
    });
    ProcessRow {
        depth,
        mappings: process.mappings.len() as u64,
        maps_only: process.maps_only,
        totals: Figures::from(totals),
        rollup: process.rollup.clone(),
        totals_equal_rollup: equal,
        info,
    }
}

/// Figures that the kernel keeps in fractions of a page and cuts to KiB: for each mapping in smaps, once
/// in smaps_rollup (fs/proc/task_mmu.c, `PSS_SHIFT`).
const PROPORTIONAL: [&str; 4] = ["pss_kb", "pss_dirty_kb", "swap_pss_kb", "locked_kb"];

fn compare(
    pid: u32,
    sums: &MappingMetrics,
    rollup: &MappingMetrics,
    mappings: u64,
) -> Vec<Difference> {
    let differ = |metric: &Metric<MappingMetrics>| {
        let (sum_kb, rollup_kb) = ((metric.get)(sums)?, (metric.get)(rollup)?);
        let rounding = rollup_kb.checked_sub(sum_kb);
        (sum_kb != rollup_kb).then(|| Difference {
            pid,
            figure: metric.name,
            sum_kb,
            rollup_kb,
            rounding: PROPORTIONAL.contains(&metric.name)
                && rounding.is_some_and(|less| less <= mappings),
        })
    };
    MappingMetrics::METRICS.iter().filter_map(differ).collect()
}

/// Mappings summed.
#[derive(Debug, Default)]
struct Sums {
    totals: MappingMetrics,
    kinds: BTreeMap<RegionKind, Sum>,
    modules: BTreeMap<RawText, Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    first: MappingSample,
    mappings: u64,
    pids: BTreeSet<u32>,
    metrics: MappingMetrics,
    text_kb: Option<u64>,
    data_kb: Option<u64>,
    rodata_kb: Option<u64>,
}

impl Sums {
    fn add(&mut self, pid: u32, mapping: &MappingSample) {
        self.totals.add(&mapping.metrics);
        self.kinds
            .entry(mapping.kind)
            .or_insert_with(|| Sum::new(mapping))
            .add(pid, mapping);
        if !mapping.path.is_empty() {
            // Most names are known: they are copied only once.
            if !self.modules.contains_key(&mapping.path) {
                self.modules.insert(mapping.path.clone(), Sum::new(mapping));
            }
            if let Some(sum) = self.modules.get_mut(&mapping.path) {
                sum.add(pid, mapping);
            }
        }
    }
}

impl Sum {
    fn new(first: &MappingSample) -> Self {
        Self {
            first: first.clone(),
            ..Self::default()
        }
    }

    fn add(&mut self, pid: u32, mapping: &MappingSample) {
        self.mappings += 1;
        self.pids.insert(pid);
        self.metrics.add(&mapping.metrics);
        let perms = mapping.perms.as_bytes();
        let part = match (perms.get(1), perms.get(2)) {
            (_, Some(b'x')) => &mut self.text_kb,
            (Some(b'w'), _) => &mut self.data_kb,
            _ => &mut self.rodata_kb,
        };
        if let Some(rss) = mapping.metrics.rss_kb {
            *part = Some(part.unwrap_or(0).saturating_add(rss));
        }
    }

    fn kind(self) -> KindRow {
        KindRow {
            kind: self.first.kind,
            mappings: self.mappings,
            figures: Figures::from(self.metrics),
        }
    }

    fn module(self) -> ModuleRow {
        let (path, deleted) = name(&self.first);
        // A module without code has 0 KiB of it; only where nothing is known, nothing is said.
        let part = |part: Option<u64>| part.or_else(|| self.metrics.rss_kb.map(|_| 0));
        ModuleRow {
            path,
            deleted,
            kind: self.first.kind,
            mappings: self.mappings,
            processes: self.pids.len() as u64,
            text_kb: part(self.text_kb),
            data_kb: part(self.data_kb),
            rodata_kb: part(self.rodata_kb),
            figures: Figures::from(self.metrics),
        }
    }
}

/// What was read and what could not be.
#[must_use]
pub fn accounting(data: &InspectData, readings: u64) -> Accounting {
    let count = |reason: FailReason| {
        let mut failed = data.failed.iter();
        let count = failed.by_ref().filter(|one| one.reason == reason).count();
        count as u64
    };
    let seen = [
        ("readings", readings),
        ("processes", data.processes.len() as u64),
        ("mappings", data.mappings.len() as u64),
    ];
    let refused = data.processes.iter().filter(|row| row.maps_only);
    let unread: Vec<String> = refused
        .filter_map(|row| Some(format!("proc/{}/smaps", row.info.who.pid?)))
        .collect();
    Accounting {
        seen: seen
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect(),
        skipped_processes: SkippedProcesses {
            vanished: count(FailReason::Gone),
            denied: count(FailReason::Denied),
            failed: count(FailReason::Failed),
            kernel_threads: count(FailReason::KernelThread),
            zombies: count(FailReason::Zombie),
            denied_smaps: 0,
        },
        complete: unread.is_empty() && data.failed.is_empty() && !data.processes.is_empty(),
        unread,
        ..Accounting::default()
    }
}

#[cfg(test)]
mod tests;
