//! `inspect processes`: the make-up of processes and groups, cgroups beside them, and where the memory went.

mod findings;

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::model::CgroupSample;
use crate::model::Detail;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::Sample;
use crate::model::SystemMetrics;
use crate::report::Finding;
use crate::report::processes::CgroupRow;
use crate::report::processes::GroupRow;
use crate::report::processes::Makeup;
use crate::report::processes::MakeupSource;
use crate::report::processes::ProcessRow;
use crate::report::processes::ProcessesData;
use crate::report::processes::Totals;
use crate::report::processes::View;

use super::grouping;
use super::grouping::By;
use super::grouping::Group;
use super::memory;
use super::numa;
use super::readings::ProcessKey;
use super::readings::Readings;
use super::readings::key;

/// Order of rows, largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Resident memory.
    #[default]
    Rss,
    /// Proportional share.
    Pss,
    /// Memory of its own.
    Uss,
    /// Anonymous memory.
    Anon,
    /// File memory.
    File,
    /// Shared memory.
    Shmem,
    /// Swapped out.
    Swap,
}

impl Sort {
    /// As on the command line and in JSON.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Rss => "rss",
            Self::Pss => "pss",
            Self::Uss => "uss",
            Self::Anon => "anon",
            Self::File => "file",
            Self::Shmem => "shmem",
            Self::Swap => "swap",
        }
    }

    /// Unknown figures come last; the resident memory decides between equal ones.
    fn of(self, metrics: &ProcessMetrics, makeup: &Makeup) -> Reverse<(Option<u64>, Option<u64>)> {
        let first = match self {
            Self::Rss => metrics.rss_kb,
            Self::Pss => metrics.pss_kb,
            Self::Uss => metrics.uss_kb,
            Self::Anon => makeup.anon_kb,
            Self::File => makeup.file_kb,
            Self::Shmem => makeup.shmem_kb,
            Self::Swap => makeup.swap_kb,
        };
        Reverse((first, metrics.rss_kb))
    }
}

/// What is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What processes are put together by.
    pub by: By,
    /// Order of rows.
    pub sort: Sort,
    /// How the text shows it.
    pub view: View,
}

/// The data without placements on NUMA nodes ([`place`] adds them).
#[must_use]
pub fn analyze(readings: &Readings, options: &Options) -> ProcessesData {
    let total = readings
        .newest()
        .and_then(|sample| sample.system.as_ref()?.mem_total_kb);
    let mut processes: Vec<ProcessRow> = grouping::group(readings, By::Process)
        .iter()
        .filter_map(|group| process(readings, group, total))
        .collect();
    processes.sort_by_key(|row| options.sort.of(&row.metrics, &row.makeup));
    let mut groups = Vec::new();
    if options.by != By::Process {
        let found = grouping::group(readings, options.by);
        groups.extend(
            found
                .iter()
                .map(|one| group(readings, one, options.by, total)),
        );
        groups.sort_by_key(|row| options.sort.of(&row.metrics, &row.makeup));
    }
    ProcessesData {
        by: options.by.id(),
        sort: options.sort.id(),
        processes,
        groups,
        cgroups: cgroups(readings, options.view.filtered),
        nodes: numa::nodes(readings),
        totals: totals(readings),
        at: readings
            .moment()
            .and_then(|(ns, offset)| crate::time::rfc3339(ns, offset)),
        notes: readings
            .session
            .as_ref()
            .map_or_else(Vec::new, |session| session.notes.clone()),
        view: options.view,
    }
}

/// Puts in where a process' memory lies: KiB by node, and the CPUs that it may run on.
pub fn place(data: &mut ProcessesData, process: ProcessKey, node_kb: Vec<u64>, cpus: Option<&str>) {
    let mut rows = data.processes.iter_mut();
    let Some(row) =
        rows.find(|row| row.who.pid == Some(process.0) && row.who.start == Some(process.1))
    else {
        return;
    };
    if let Some(home) = numa::home(&node_kb, cpus, &data.nodes) {
        row.home_nodes = Some(home.nodes);
        row.home_source = Some(home.source);
        row.remote_share = Some(home.remote_share);
    }
    row.node_kb = Some(node_kb);
}

/// What it means and what to do.
#[must_use]
pub fn findings(readings: &Readings, data: &ProcessesData) -> Vec<Finding> {
    findings::all(readings, data)
}

/// What a process' memory is made of, as well as its kernel tells.
#[must_use]
pub fn makeup(metrics: &ProcessMetrics) -> Makeup {
    let swap_kb = metrics.swap_kb;
    if let (Some(anon), Some(file)) = (metrics.anon_kb, metrics.file_kb) {
        return Makeup {
            source: Some(MakeupSource::Status),
            anon_kb: Some(anon),
            file_kb: Some(file),
            shmem_kb: metrics.shmem_kb,
            swap_kb,
        };
    }
    match (metrics.rss_kb, metrics.shared_kb) {
        (Some(rss), Some(shared)) => Makeup {
            source: Some(MakeupSource::Statm),
            anon_kb: Some(rss.saturating_sub(shared)),
            file_kb: Some(shared),
            shmem_kb: None,
            swap_kb,
        },
        _ => Makeup {
            swap_kb,
            ..Makeup::default()
        },
    }
}

/// The make-up of some processes together.
fn sum(processes: &[&ProcessSample]) -> Makeup {
    let mut all = Makeup::default();
    let add = |sum: &mut Option<u64>, more: Option<u64>| {
        if let Some(more) = more {
            *sum = Some(sum.unwrap_or(0).saturating_add(more));
        }
    };
    for process in processes {
        let one = makeup(&process.metrics);
        all.source = match (all.source, one.source) {
            (known, None) => known,
            (None, known) => known,
            (Some(a), Some(b)) if a == b => Some(a),
            _ => Some(MakeupSource::Mixed),
        };
        add(&mut all.anon_kb, one.anon_kb);
        add(&mut all.file_kb, one.file_kb);
        add(&mut all.shmem_kb, one.shmem_kb);
        add(&mut all.swap_kb, one.swap_kb);
    }
    all
}

fn share(part: Option<u64>, whole: Option<u64>) -> Option<f64> {
    let whole = whole.filter(|whole| *whole > 0)?;
    Some(part? as f64 / whole as f64)
}

fn process(readings: &Readings, group: &Group<'_>, total: Option<u64>) -> Option<ProcessRow> {
    let [process] = &group.processes[..] else {
        return None;
    };
    let key = key(process);
    let before = readings.span().and_then(|(first, ..)| {
        let same = |one: &&ProcessSample| super::readings::key(one) == key;
        first.processes.iter().find(same)?.metrics.rss_kb
    });
    let now = process.metrics.rss_kb;
    Some(ProcessRow {
        who: grouping::who(readings, group, By::Process),
        state: process.state,
        uid: process.uid,
        oom_score_adj: process.oom_score_adj,
        pod: pod(readings, group),
        age_s: readings.age_s(key),
        makeup: makeup(&process.metrics),
        rss_share: share(now, total),
        rss_change_kb: before
            .zip(now)
            .and_then(|(before, now)| i64::try_from(i128::from(now) - i128::from(before)).ok()),
        metrics: process.metrics.clone(),
        ..ProcessRow::default()
    })
}

fn group(readings: &Readings, group: &Group<'_>, by: By, total: Option<u64>) -> GroupRow {
    let known = |process: &&&ProcessSample| process.metrics.pss_kb.is_some();
    GroupRow {
        who: grouping::who(readings, group, by),
        pod: pod(readings, group),
        metrics: group.metrics.clone(),
        pss_processes: group.processes.iter().filter(known).count() as u64,
        makeup: sum(&group.processes),
        rss_share: share(group.metrics.rss_kb, total),
        bound_by: grouping::bound_by(readings, group).map(grouping::limits),
    }
}

/// The pod that all of them are in.
fn pod(readings: &Readings, group: &Group<'_>) -> Option<String> {
    let of = |process: &&ProcessSample| {
        let identity = readings.identity(key(process))?;
        identity.container.as_ref()?.pod.clone()
    };
    let mut pods = group.processes.iter().map(of);
    let first = pods.next()??;
    pods.all(|pod| pod.as_ref() == Some(&first))
        .then_some(first)
}

fn cgroups(readings: &Readings, filtered: bool) -> Vec<CgroupRow> {
    let Some(sample) = readings.newest() else {
        return Vec::new();
    };
    let mut inside: HashMap<&[u8], u64> = HashMap::new();
    for process in &sample.processes {
        let identity = readings.identity(key(process));
        if let Some(path) = identity.and_then(|identity| identity.cgroup.as_ref()) {
            *inside.entry(path.as_bytes()).or_default() += 1;
        }
    }
    let first = readings.span().map(|(first, ..)| first);
    let rows = sample
        .cgroups
        .iter()
        .map(|cgroup| cgroup_row(cgroup, &inside, first));
    rows.filter(|row| !filtered || row.processes_below > 0)
        .collect()
}

fn cgroup_row(
    cgroup: &CgroupSample,
    inside: &HashMap<&[u8], u64>,
    first: Option<&Sample>,
) -> CgroupRow {
    let metrics = &cgroup.metrics;
    let path = cgroup.path.as_bytes();
    let below = inside
        .iter()
        .filter(|(one, _)| grouping::holds(path, one))
        .map(|(_, count)| count)
        .sum();
    let before = first.and_then(|first| {
        let mut cgroups = first.cgroups.iter();
        cgroups.find(|one| one.id == cgroup.id && one.path == cgroup.path)
    });
    let change = |get: fn(&CgroupSample) -> Option<u64>| get(cgroup)?.checked_sub(get(before?)?);
    let working_set_kb = metrics
        .usage_kb
        .zip(metrics.inactive_file_kb)
        .map(|(usage, inactive)| usage.saturating_sub(inactive));
    CgroupRow {
        path: cgroup.path.lossy().into_owned(),
        id: cgroup.id,
        processes: inside.get(path).copied().unwrap_or(0),
        processes_below: below,
        working_set_kb,
        limit_share: share(metrics.usage_kb, metrics.limit_kb),
        oom_kill_change: change(|one| one.metrics.oom_kill),
        failcnt_change: change(|one| one.metrics.failcnt),
        metrics: metrics.clone(),
    }
}

fn totals(readings: &Readings) -> Totals {
    let Some(sample) = readings.newest() else {
        return Totals::default();
    };
    let mut totals = sample
        .system
        .as_ref()
        .map(|system| account(system, readings.detail()))
        .unwrap_or_default();
    let all = |get: fn(&ProcessSample) -> Option<u64>| {
        let known = sample.processes.iter().filter_map(get);
        known.fold(None, |sum, one| {
            Some(u64::saturating_add(sum.unwrap_or(0), one))
        })
    };
    let with_pss = sample
        .processes
        .iter()
        .filter(|process| process.metrics.pss_kb.is_some());
    totals.processes = sample.processes.len() as u64;
    totals.processes_pss_read = with_pss.clone().count() as u64;
    totals.pss_oldest_ms = with_pss.filter_map(|one| one.metrics.rollup_age_ms).max();
    totals.processes_rss_kb = all(|one| one.metrics.rss_kb);
    totals.processes_pss_kb = all(|one| one.metrics.pss_kb);
    totals.processes_uss_kb = all(|one| one.metrics.uss_kb);
    totals.processes_anon_kb = all(|one| makeup(&one.metrics).anon_kb);
    totals.processes_swap_kb = all(|one| one.metrics.swap_kb);
    totals
}

/// Where MemTotal went. Parts that overlap are told apart here, so that each page counts once.
fn account(system: &SystemMetrics, detail: Option<&Detail>) -> Totals {
    let minus = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_sub(b?));
    let cache = system
        .cached_kb
        .map(|cached| cached.saturating_add(system.buffers_kb.unwrap_or(0)));
    // Every page of the lists is anonymous, of a file, or in the swap cache without being mapped.
    let lists = system
        .active_kb
        .zip(system.inactive_kb)
        .map(|(active, inactive)| {
            let unevictable = system.unevictable_kb.unwrap_or(0);
            active.saturating_add(inactive).saturating_add(unevictable)
        });
    let on_lists = minus(minus(lists, cache), system.anon_pages_kb);
    let swap_cache = system
        .swap_cached_kb
        .zip(on_lists)
        .map(|(cached, rest)| cached.min(rest));
    // VmallocUsed counts pages since 5.3 (0 for years before), and address space until 4.4; Percpu came in between.
    let vmalloc = system.percpu_kb.and(system.vmalloc_used_kb);
    let vmalloc = minus(vmalloc, Some(system.kernel_stack_kb.unwrap_or(0)));
    let pool = system.huge_pages_total.zip(system.huge_page_size_kb);
    let zrams = detail.and_then(|detail| detail.zrams.as_ref());
    let mut totals = Totals {
        mem_total_kb: system.mem_total_kb,
        mem_used_kb: memory::used(system).0,
        mem_available_kb: system.mem_available_kb,
        mem_free_kb: system.mem_free_kb,
        file_cache_kb: minus(cache, Some(system.shmem_kb.unwrap_or(0))),
        anon_kb: system.anon_pages_kb,
        shmem_kb: system.shmem_kb,
        swap_cache_kb: swap_cache,
        slab_reclaimable_kb: system.sreclaimable_kb,
        slab_unreclaimable_kb: system
            .sunreclaim_kb
            .or_else(|| minus(system.slab_kb, system.sreclaimable_kb)),
        other_reclaimable_kb: minus(system.kreclaimable_kb, system.sreclaimable_kb),
        kernel_stack_kb: system.kernel_stack_kb,
        page_tables_kb: system.page_tables_kb,
        percpu_kb: system.percpu_kb,
        vmalloc_kb: vmalloc,
        hugetlb_kb: system
            .hugetlb_kb
            .or_else(|| pool.map(|(pages, size)| pages.saturating_mul(size))),
        zswap_kb: system.zswap_kb,
        zram_kb: zrams.map(|zrams| {
            let used = zrams.iter().filter_map(|zram| zram.used_bytes);
            used.fold(0, u64::saturating_add) / 1024
        }),
        swap_used_kb: minus(system.swap_total_kb, system.swap_free_kb),
        ..Totals::default()
    };
    // Without one of these the rest would be no rest.
    if let (Some(total), Some(_), Some(_), Some(_)) = (
        totals.mem_total_kb,
        totals.mem_free_kb,
        totals.file_cache_kb,
        totals.anon_kb,
    ) {
        let parts = totals.parts();
        let known = parts.iter().filter_map(|(_, kb)| *kb);
        let known = known.fold(0, u64::saturating_add);
        totals.unaccounted_kb = Some(total.saturating_sub(known));
        totals.overcounted_kb = Some(known.saturating_sub(total));
    }
    totals
}

#[cfg(test)]
mod tests;
