//! What `detect oom-risk` stands on: every series of the host judged, beside the limits at one moment.

use std::collections::HashMap;
use std::collections::HashSet;
use std::num::NonZero;

use crate::analysis::leak;
use crate::analysis::leak::Class;
use crate::analysis::leak::Series;
use crate::analysis::limits::chain;
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
/// And as long as no more than this share of it is held by young processes: work that is under way is no leak.
const BUSY: f64 = 0.5;
/// Young is who lived for less than this share of the time that is judged. Of processes that pile up evenly, so
/// many are young.
const YOUNG: f64 = 0.25;
/// Either way when this share of it is shared memory and tmpfs, which do not go with processes.
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
        let decided = together(here, &path, subject, &series);
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
        decided: lasting(here, "/", &series),
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
fn together(here: &Here, path: &str, subject: &Subject, series: &Series) -> bool {
    let shared = |figures: &Figures| figures.shmem_kb.unwrap_or(0) as f64 * 1024.0;
    let files = subject
        .ends()
        .map_or(0.0, |(first, last)| shared(last) - shared(first));
    let grown = grown(series);
    lasting(here, path, series) || (grown > 0.0 && files >= FILES * grown)
}

/// Growth since the lowest sample.
fn grown(series: &Series) -> f64 {
    let least = series.bytes.iter().copied().fold(f64::INFINITY, f64::min);
    series.bytes.last().map_or(0.0, |last| last - least)
}

/// Whether what a cgroup grew by was seen for long enough, and is not held by work that is under way.
fn lasting(here: &Here, path: &str, series: &Series) -> bool {
    let span = span(series);
    let inside = |process: &&ProcessSample| {
        let cgroup = here.cgroup(key(process));
        cgroup.is_some_and(|cgroup| chain(&cgroup).any(|one| one == path))
    };
    let processes = here.sample.processes.iter();
    // Whose age is not known may be young.
    let young = processes.filter(|process| here.age_s(process) < Some(YOUNG * span));
    let held = young.filter(inside).map(|process| {
        let metrics = &process.metrics;
        let kb = [metrics.anon_kb.or(metrics.rss_kb), metrics.swap_kb];
        kb.into_iter().flatten().sum::<u64>() as f64 * 1024.0
    });
    span >= TOGETHER_S && held.sum::<f64>() <= BUSY * grown(series)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::readings::Readings;
    use crate::model::ClockPair;
    use crate::model::Host;
    use crate::model::Identity;
    use crate::model::Item;
    use crate::model::ProcessMetrics;
    use crate::model::Sample;
    use crate::model::Session;

    /// 10,000 s after boot, with one process of this age that holds 80 MiB in /build/job.
    fn here(age_s: u64) -> Here {
        let start_ticks = (10_000 - age_s) * 100;
        let mut readings = Readings::default();
        readings.push(Item::Session(Session {
            host: Host {
                ticks_per_s: Some(100),
                ..Host::default()
            },
            ..Session::default()
        }));
        readings.push(Item::Clock(ClockPair {
            boot_ns: 10_000_000_000_000,
            ..ClockPair::default()
        }));
        readings.push(Item::Identity(Identity {
            pid: 10,
            start_ticks: Some(start_ticks),
            cgroup: Some("/build/job".into()),
            ..Identity::default()
        }));
        readings.push(Item::Sample(Sample {
            processes: vec![ProcessSample {
                pid: 10,
                start_ticks,
                oom_score_adj: Some(5),
                metrics: ProcessMetrics {
                    rss_kb: Some(90 << 10),
                    anon_kb: Some(80 << 10),
                    swap_kb: Some(1 << 10),
                    ..ProcessMetrics::default()
                },
                ..ProcessSample::default()
            }],
            ..Sample::default()
        }));
        Here::left_by(&readings)
    }

    /// Grows by 100 MiB in this time.
    fn series(span_s: u32) -> Series {
        let step = |i: u32| f64::from(i) / 100.0;
        Series {
            time_s: (0..=100)
                .map(|i| 1e9 + step(i) * f64::from(span_s))
                .collect(),
            bytes: (0..=100).map(|i| (1.0 + step(i)) * 104_857_600.0).collect(),
            ..Series::default()
        }
    }

    #[test]
    fn work_that_is_under_way_is_no_leak_of_its_cgroup() {
        // A compiler that has run for two minutes of an hour, or a worker that stayed.
        assert!(!lasting(&here(120), "/build", &series(3600)));
        assert!(lasting(&here(3000), "/build", &series(3600)));
        // It is none of this one's.
        assert!(lasting(&here(120), "/other", &series(3600)));
        assert!(!lasting(&here(120), "/", &series(3600)));
        assert!(!lasting(&here(3000), "/build", &series(60)));
    }

    #[test]
    fn a_scene_has_who_may_be_killed() {
        let here = here(120);
        let scene = scene(&here);
        let member = &scene.members[0];
        assert_eq!((member.pid, member.oom_score_adj), (10, Some(5)));
        assert_eq!(member.bytes, 91 << 20);
        assert_eq!(member.cgroup.as_deref(), Some("/build/job"));
        assert!(member.own.is_empty() && scene.growers.is_empty());
        assert_eq!(here.age_s(&here.sample.processes[0]), Some(120.0));
    }
}
