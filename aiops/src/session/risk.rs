//! What `detect oom-risk` stands on: every series of the host judged, beside the limits at one moment.

use std::collections::HashMap;
use std::collections::HashSet;
use std::num::NonZero;

use crate::analysis::leak;
use crate::analysis::leak::Class;
use crate::analysis::leak::Series;
use crate::analysis::readings::key;
use crate::analysis::risk::Member;
use crate::analysis::risk::Scene;
use crate::analysis::risk_report::Judged;
use crate::analysis::risk_report::Named;
use crate::analysis::risk_report::limit_for;
use crate::model::ProcessSample;
use crate::model::Range;
use crate::store::Ask;
use crate::store::Store;
use crate::store::StoreError;

use super::limits::Here;
use super::subjects::Figures;
use super::subjects::Subject;
use super::subjects::earlier;
use super::subjects::joined;

/// What changes by less is no leak, KiB: 16 pages of 4 KiB.
const LEAST_KB: u64 = 64;
/// Figures of the host that make its use.
const HOST_FIELDS: [&str; 4] = [
    "mem_total_kb",
    "mem_available_kb",
    "swap_total_kb",
    "swap_free_kb",
];

/// Growth of many processes together is judged from this time on, seconds: before, some that come and go look
/// like a leak of their cgroup.
const TOGETHER_S: f64 = 600.0;
/// Unless this share of it is shared memory and tmpfs, which do not go with processes.
const FILES: f64 = 0.5;

/// A series that waits for its verdict.
struct Task {
    who: Named,
    series: Series,
    /// It may be called a leak.
    decided: bool,
}

/// Processes and victims of a moment.
#[must_use]
pub fn scene(here: &Here) -> Scene {
    let member = |process: &ProcessSample| {
        let metrics = &process.metrics;
        // Kernel threads have no memory of their own.
        let rss_kb = metrics.rss_kb?;
        let kb = |value: Option<u64>| value.unwrap_or(0).saturating_mul(1024);
        Some(Member {
            pid: process.pid,
            start_ticks: process.start_ticks,
            comm: process.comm.lossy().into_owned(),
            cgroup: here.cgroup(key(process)),
            bytes: rss_kb.saturating_mul(1024) + kb(metrics.swap_kb),
            pgtables_bytes: kb(metrics.pgtables_kb),
            oom_score_adj: process.oom_score_adj,
            own: here.own(process),
        })
    };
    let groups = here.sample.cgroups.iter();
    let together = groups.filter(|one| one.oom_group == Some(true));
    Scene {
        surroundings: here.surroundings.clone(),
        members: here.sample.processes.iter().filter_map(member).collect(),
        growers: Vec::new(),
        together: together.map(|one| one.path.lossy().into_owned()).collect(),
        page_bytes: here.host.page_size.unwrap_or(4096),
    }
}

/// Verdicts on the processes and cgroups that are there, and on the host when its series is known.
#[must_use]
pub fn judge(
    here: &Here,
    processes: &[Subject],
    cgroups: &[Subject],
    host: Option<Series>,
) -> Vec<Judged> {
    let boot = here.host.boot_id.as_deref();
    let alive: HashSet<(u32, u64)> = here.sample.processes.iter().map(key).collect();
    let mut programs: HashMap<Option<&str>, Vec<&Subject>> = HashMap::new();
    for subject in processes {
        let comm = subject.who.comm.as_deref();
        programs.entry(comm).or_default().push(subject);
    }
    let mut tasks: Vec<Task> = Vec::new();
    for subject in processes {
        let who = &subject.who;
        let this_boot = who.boot.as_deref().zip(boot);
        let this_boot = this_boot.is_none_or(|(one, now)| now.starts_with(one));
        // What it samples grows with the samples.
        let own = who.pid == std::process::id();
        if own || !this_boot || !alive.contains(&(who.pid, who.start_ticks)) || !moves(subject) {
            continue;
        }
        let alike = programs.get(&who.comm.as_deref());
        let alike = alike.map_or(&[][..], Vec::as_slice);
        tasks.push(Task {
            who: Named::Process {
                pid: who.pid,
                start_ticks: who.start_ticks,
            },
            series: joined(&earlier(alike, subject), subject),
            decided: true,
        });
    }
    let there = here.sample.cgroups.iter();
    let there: HashSet<String> = there.map(|one| one.path.lossy().into_owned()).collect();
    let known = host.is_some();
    for subject in cgroups {
        let Some(path) = subject.who.cgroup.clone() else {
            continue;
        };
        let series = cgroup_series(subject);
        let decided = together(subject, &series);
        if path == "/" {
            // Everything that is charged stands for the host, where that itself is not known.
            if !known {
                tasks.push(Task {
                    who: Named::Host,
                    series,
                    decided,
                });
            }
        } else if subject.at_end && there.contains(&path) {
            tasks.push(Task {
                who: Named::Cgroup(path),
                series,
                decided,
            });
        }
    }
    tasks.extend(host.map(|series| Task {
        who: Named::Host,
        decided: span(&series) >= TOGETHER_S,
        series,
    }));
    tasks.retain(|task| spread(&task.series) >= LEAST_KB as f64 * 1024.0);
    verdicts(&tasks)
}

/// Whether its size changes enough to be judged.
fn moves(subject: &Subject) -> bool {
    subject
        .range_kb()
        .is_some_and(|(least, most)| most - least >= LEAST_KB)
}

fn span(series: &Series) -> f64 {
    let ends = series.time_s.first().zip(series.time_s.last());
    ends.map_or(0.0, |(first, last)| last - first)
}

/// Whether the growth of a cgroup may be called a leak.
fn together(subject: &Subject, series: &Series) -> bool {
    let shared = |figures: &Figures| figures.shmem_kb.unwrap_or(0) as f64 * 1024.0;
    let files = subject
        .ends()
        .map_or(0.0, |(first, last)| shared(last) - shared(first));
    let ends = series.bytes.first().zip(series.bytes.last());
    let grown = ends.map_or(0.0, |(first, last)| last - first);
    span(series) >= TOGETHER_S || (grown > 0.0 && files >= FILES * grown)
}

fn spread(series: &Series) -> f64 {
    let low = series.bytes.iter().copied().fold(f64::INFINITY, f64::min);
    let high = series.bytes.iter().copied().fold(0.0, f64::max);
    high - low
}

/// What of a cgroup neither reclaim nor the end of a read gives back: anonymous memory, tmpfs and shared memory, swap.
fn cgroup_series(subject: &Subject) -> Series {
    let mut series = Series::default();
    for figures in &subject.figures {
        let Some(anon) = figures.anon_kb else {
            continue;
        };
        let others = [figures.shmem_kb, figures.swap_kb];
        let kb = others.into_iter().flatten().fold(anon, u64::saturating_add);
        series.time_s.push(figures.time_s);
        series.bytes.push(kb as f64 * 1024.0);
    }
    series
}

/// The host's use over a range of a store: MemTotal − MemAvailable, and swap in use.
///
/// # Errors
/// The store is not there, or may not be read.
pub fn host_series(store: &Store, range: Range) -> Result<Series, StoreError> {
    let ask = Ask {
        range,
        fields: &HOST_FIELDS,
        pids: &[],
        programs: false,
    };
    let mut series = Series::default();
    store.system(&ask, &mut |ts, values| {
        let value = |at: usize| values.get(at).copied().flatten();
        if let (Some(total), Some(available)) = (value(0), value(1)) {
            let swap = value(2).unwrap_or(0) - value(3).unwrap_or(0);
            series.time_s.push(ts as f64 / 1000.0);
            series
                .bytes
                .push((total - available + swap) as f64 * 1024.0);
        }
    })?;
    Ok(series)
}

/// Judges every series, on as many CPUs as there are.
fn verdicts(tasks: &[Task]) -> Vec<Judged> {
    let judge = |task: &Task| {
        let last = task.series.bytes.last().copied().unwrap_or(0.0);
        let mut found = leak::assess(&task.series, Some(limit_for(last)));
        if !task.decided && found.class == Class::Leak {
            found.class = Class::Ambiguous;
        }
        Judged {
            who: task.who.clone(),
            found,
            last,
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let each = tasks.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = tasks
            .chunks(each)
            .map(|part| scope.spawn(move || part.iter().map(judge).collect::<Vec<_>>()))
            .collect();
        let done = parts.into_iter().map(std::thread::ScopedJoinHandle::join);
        done.flat_map(Result::unwrap_or_default).collect()
    })
}
