//! Processes put together by what they belong to: `--by process|comm|cgroup|container|user|unit`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::model::CgroupSample;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::report::processes::Limits;
use crate::report::processes::Who;

use super::readings::Readings;
use super::readings::key;

/// What processes are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Each process alone.
    #[default]
    Process,
    /// The name.
    Comm,
    /// The memory cgroup.
    Cgroup,
    /// The container; processes outside of any are one group.
    Container,
    /// The real user.
    User,
    /// The systemd unit.
    Unit,
}

impl By {
    /// As on the command line and in JSON.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Comm => "comm",
            Self::Cgroup => "cgroup",
            Self::Container => "container",
            Self::User => "user",
            Self::Unit => "unit",
        }
    }

    /// From [`Self::id`].
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        const ALL: [By; 6] = [
            By::Process,
            By::Comm,
            By::Cgroup,
            By::Container,
            By::User,
            By::Unit,
        ];
        ALL.into_iter().find(|by| by.id() == id)
    }
}

/// Some processes together.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// Name of the group: `PID` for a process alone; `None`: those that belong to none.
    pub name: Option<String>,
    /// Its processes, largest first.
    pub processes: Vec<&'a ProcessSample>,
    /// Sums of their figures. A figure that only some processes have is the sum over those; `rss_kb` counts
    /// shared pages once per process, `pss_kb` once in all.
    pub metrics: ProcessMetrics,
    /// The cgroup that it is, or that all its processes are in: limits and use stand beside it.
    pub cgroup: Option<&'a CgroupSample>,
}

/// Puts the processes of the newest sample together, largest resident memory first.
#[must_use]
pub fn group(readings: &Readings, by: By) -> Vec<Group<'_>> {
    let Some(sample) = readings.newest() else {
        return Vec::new();
    };
    let mut groups: BTreeMap<Option<String>, Vec<&ProcessSample>> = BTreeMap::new();
    for process in &sample.processes {
        groups
            .entry(name(readings, process, by))
            .or_default()
            .push(process);
    }
    let mut groups: Vec<Group<'_>> = groups
        .into_iter()
        .map(|(name, mut processes)| {
            processes.sort_by_key(|process| std::cmp::Reverse(process.metrics.rss_kb));
            Group {
                metrics: sum(&processes),
                // Those that belong to no container or unit have nothing in common.
                cgroup: name.as_ref().and_then(|_| cgroup(readings, &processes)),
                name,
                processes,
            }
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.metrics.rss_kb));
    groups
}

/// The name of the group that a process belongs to.
#[must_use]
pub fn name(readings: &Readings, process: &ProcessSample, by: By) -> Option<String> {
    let identity = readings.identity(key(process));
    match by {
        By::Process => Some(process.pid.to_string()),
        By::Comm => Some(process.comm.lossy().into_owned()),
        By::Cgroup => Some(identity?.cgroup.as_ref()?.lossy().into_owned()),
        By::Container => {
            let container = identity?.container.as_ref()?;
            Some(format!("{}:{}", container.runtime, container.id))
        }
        By::User => identity
            .and_then(|identity| identity.user.clone())
            .or_else(|| Some(user(readings, process.uid?))),
        By::Unit => identity?.unit.clone(),
    }
}

/// A user by name, when any process of theirs told it (this one may have ended before it could be asked).
fn user(readings: &Readings, uid: u32) -> String {
    let mut known = readings.identities.values();
    known
        .find_map(|identity| identity.user.clone().filter(|_| identity.uid == Some(uid)))
        .unwrap_or_else(|| uid.to_string())
}

/// Who a group is, for a report.
#[must_use]
pub fn who(readings: &Readings, group: &Group<'_>, by: By) -> Who {
    let alone = match (by, &group.processes[..]) {
        (By::Process, [process]) => Some(*process),
        _ => None,
    };
    let common = |by: By| {
        let mut names = group
            .processes
            .iter()
            .map(|process| name(readings, process, by));
        let first = names.next()??;
        names
            .all(|name| name.as_ref() == Some(&first))
            .then_some(first)
    };
    let comm = common(By::Comm);
    let identity = alone.and_then(|process| readings.identity(key(process)));
    let cmdline = identity
        .filter(|identity| !identity.cmdline.is_empty())
        .map(|identity| {
            let arguments: Vec<_> = identity.cmdline.iter().map(RawText::lossy).collect();
            arguments.join(" ")
        });
    Who {
        name: if alone.is_some() {
            comm.clone()
        } else {
            group.name.clone()
        },
        pid: alone.map(|process| process.pid),
        start: alone.map(|process| process.start_ticks),
        ppid: alone.map(|process| process.ppid),
        processes: group.processes.len() as u64,
        comm,
        cmdline,
        user: common(By::User),
        cgroup: common(By::Cgroup),
        container: common(By::Container),
        unit: common(By::Unit),
        limits: group.cgroup.map(limits),
    }
}

/// Limits and use of a cgroup, for a report.
#[must_use]
pub fn limits(cgroup: &CgroupSample) -> Limits {
    let metrics = &cgroup.metrics;
    Limits {
        path: cgroup.path.lossy().into_owned(),
        usage_kb: metrics.usage_kb,
        limit_kb: metrics.limit_kb,
        high_kb: metrics.high_kb,
        swap_kb: metrics.swap_kb,
        swap_limit_kb: metrics.swap_limit_kb,
        failcnt: metrics.failcnt,
        high_events: metrics.high_events,
        oom_kill: metrics.oom_kill,
    }
}

fn sum(processes: &[&ProcessSample]) -> ProcessMetrics {
    let mut sums = ProcessMetrics::default();
    for metric in ProcessMetrics::METRICS {
        let known = processes
            .iter()
            .filter_map(|process| (metric.get)(&process.metrics));
        let value = match metric.name {
            // An age and a score do not add up.
            "rollup_age_ms" | "oom_score" => known.max(),
            _ => known.fold(None, |sum, one| {
                Some(u64::saturating_add(sum.unwrap_or(0), one))
            }),
        };
        (metric.set)(&mut sums, value);
    }
    sums
}

/// Cgroups of the newest sample; with a filter those that hold a process that passed it.
#[must_use]
pub fn wanted_cgroups(readings: &Readings) -> Vec<&CgroupSample> {
    let Some(sample) = readings.newest() else {
        return Vec::new();
    };
    let session = readings.session.as_ref();
    let all = session.is_none_or(|session| session.filter.is_empty());
    let inside: BTreeSet<&[u8]> = sample
        .processes
        .iter()
        .filter_map(|process| Some(readings.identity(key(process))?.cgroup.as_ref()?.as_bytes()))
        .collect();
    let wanted = |cgroup: &&CgroupSample| {
        let path = cgroup.path.as_bytes();
        all || inside.iter().any(|one| holds(path, one))
    };
    sample.cgroups.iter().filter(wanted).collect()
}

/// The sampled cgroup that all of them are in: the deepest sampled one on their common path.
fn cgroup<'a>(readings: &'a Readings, processes: &[&ProcessSample]) -> Option<&'a CgroupSample> {
    let sample = readings.newest()?;
    let mut common: Option<&[u8]> = None;
    for process in processes {
        let path = readings.identity(key(process))?.cgroup.as_ref()?.as_bytes();
        common = Some(match common {
            None => path,
            Some(known) => shared(known, path),
        });
    }
    let common = common?;
    sample
        .cgroups
        .iter()
        .filter(|cgroup| holds(cgroup.path.as_bytes(), common))
        // The root's figures are the host's; where it has a limit, it is the root of a container.
        .filter(|cgroup| cgroup.path.as_bytes() != b"/" || cgroup.metrics.limit_kb.is_some())
        .max_by_key(|cgroup| cgroup.path.as_bytes().len())
}

/// Whether a cgroup is another one or above it. A path with `..` is outside of what is mounted here
/// (cgroup_namespaces(7)): nothing that can be seen holds it.
pub(super) fn holds(above: &[u8], path: &[u8]) -> bool {
    if path.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return false;
    }
    let above = above.strip_suffix(b"/").unwrap_or(above);
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The cgroup at or above the group's whose limit is nearest to its use: that one decides when memory ends.
#[must_use]
pub fn bound_by<'a>(readings: &'a Readings, group: &Group<'_>) -> Option<&'a CgroupSample> {
    let path = group.cgroup?.path.as_bytes();
    let cgroups = readings.newest()?.cgroups.iter();
    let room = |cgroup: &CgroupSample| {
        let metrics = &cgroup.metrics;
        Some(metrics.limit_kb?.saturating_sub(metrics.usage_kb?))
    };
    cgroups
        .filter(|cgroup| holds(cgroup.path.as_bytes(), path))
        .filter_map(|cgroup| Some((room(cgroup)?, cgroup)))
        .min_by_key(|(room, cgroup)| (*room, std::cmp::Reverse(cgroup.path.as_bytes().len())))
        .map(|(_, cgroup)| cgroup)
}

/// The path that two have in common, by whole names.
fn shared<'a>(a: &'a [u8], b: &[u8]) -> &'a [u8] {
    let parts = |path: &'a [u8]| path.split(|byte| *byte == b'/');
    let other: Vec<&[u8]> = b.split(|byte| *byte == b'/').collect();
    let mut end = 0;
    for (mine, its) in parts(a).zip(other) {
        if mine != its {
            break;
        }
        end += mine.len() + 1;
    }
    &a[..end.saturating_sub(1).min(a.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Identity;
    use crate::model::Item;
    use crate::model::Sample;

    fn readings() -> Readings {
        let mut readings = Readings::default();
        let process = |pid: u32, comm: &str, rss_kb, pss_kb| ProcessSample {
            pid,
            start_ticks: 7,
            comm: RawText::from(comm),
            uid: Some(5),
            metrics: ProcessMetrics {
                rss_kb: Some(rss_kb),
                pss_kb,
                ..ProcessMetrics::default()
            },
            ..ProcessSample::default()
        };
        for (pid, path) in [(1, "/a/b/c"), (2, "/a/b/d"), (3, "/x")] {
            readings.push(Item::Identity(Identity {
                pid,
                start_ticks: Some(7),
                cgroup: Some(RawText::from(path)),
                unit: Some(format!("u{}.service", pid / 3)),
                ..Identity::default()
            }));
        }
        let cgroup = |path: &str| CgroupSample {
            path: RawText::from(path),
            ..CgroupSample::default()
        };
        readings.push(Item::Sample(Sample {
            processes: vec![
                process(1, "web", 10, Some(4)),
                process(2, "web", 20, None),
                process(3, "db", 25, Some(20)),
            ],
            cgroups: vec![cgroup("/"), cgroup("/a/b"), cgroup("/a/b/c")],
            ..Sample::default()
        }));
        readings
    }

    #[test]
    fn groups_sum_what_is_known() {
        let readings = readings();
        let by_comm = group(&readings, By::Comm);
        assert_eq!(by_comm.len(), 2);
        assert_eq!(by_comm[0].name.as_deref(), Some("web"));
        assert_eq!(
            (by_comm[0].metrics.rss_kb, by_comm[0].metrics.pss_kb),
            (Some(30), Some(4))
        );
        assert_eq!(by_comm[0].cgroup.unwrap().path.lossy(), "/a/b");
        assert_eq!(by_comm[0].metrics.swap_kb, None);
        let by_cgroup = group(&readings, By::Cgroup);
        let first = by_cgroup
            .iter()
            .find(|one| one.name.as_deref() == Some("/a/b/c"));
        assert_eq!(first.unwrap().cgroup.unwrap().path.lossy(), "/a/b/c");
        assert_eq!(group(&readings, By::Container)[0].name, None);
        assert_eq!(group(&readings, By::User)[0].name.as_deref(), Some("5"));
        assert_eq!(group(&readings, By::Unit).len(), 2);
    }

    #[test]
    fn those_without_a_group_have_no_limits_and_none_has_those_of_the_host() {
        let mut readings = readings();
        readings.first.as_mut().unwrap().cgroups[1].metrics.limit_kb = Some(9);
        let none = &group(&readings, By::Container)[0];
        assert_eq!((none.name.as_deref(), none.cgroup), (None, None));
        assert_eq!(bound_by(&readings, none), None);
        let alone = group(&readings, By::Process);
        let db = alone.iter().find(|one| one.name.as_deref() == Some("3"));
        assert_eq!(db.unwrap().cgroup, None, "only the root holds it");
        let session = crate::model::Session {
            filter: crate::model::Filter {
                pids: vec![3],
                ..crate::model::Filter::default()
            },
            ..crate::model::Session::default()
        };
        readings.push(Item::Session(session));
        readings.first.as_mut().unwrap().processes.drain(..2);
        let wanted = wanted_cgroups(&readings);
        let wanted: Vec<_> = wanted.iter().map(|one| one.path.lossy()).collect();
        assert_eq!(wanted, ["/"], "cgroups of others are left out");
    }

    #[test]
    fn what_is_outside_the_mount_is_held_by_nothing() {
        assert!(holds(b"/", b"/") && holds(b"/", b"/a") && holds(b"/a", b"/a/b"));
        assert!(!holds(b"/a", b"/ab") && !holds(b"/a/b", b"/a"));
        assert!(!holds(b"/", b"/../x") && !holds(b"/..", b"/../x"));
        let mut readings = readings();
        for (pid, path) in [(1, "/../x"), (2, "/../x")] {
            readings.push(Item::Identity(Identity {
                pid,
                start_ticks: Some(7),
                cgroup: Some(RawText::from(path)),
                ..Identity::default()
            }));
        }
        let by_comm = group(&readings, By::Comm);
        assert!(by_comm[0].cgroup.is_none());
        assert_eq!(bound_by(&readings, &by_comm[0]), None);
    }

    #[test]
    fn the_limit_that_is_met_first_binds() {
        let mut readings = readings();
        let sample = readings.first.as_mut().unwrap();
        for (cgroup, usage, limit) in [(0, 90, None), (1, 80, Some(100)), (2, 10, Some(50))] {
            sample.cgroups[cgroup].metrics.usage_kb = Some(usage);
            sample.cgroups[cgroup].metrics.limit_kb = limit;
        }
        let groups = group(&readings, By::Cgroup);
        let inner = groups
            .iter()
            .find(|one| one.name.as_deref() == Some("/a/b/c"));
        let inner = inner.unwrap();
        assert_eq!(inner.cgroup.unwrap().path.lossy(), "/a/b/c");
        assert_eq!(bound_by(&readings, inner).unwrap().path.lossy(), "/a/b");
        let outer = groups.iter().find(|one| one.name.as_deref() == Some("/x"));
        assert_eq!(
            bound_by(&readings, outer.unwrap()),
            None,
            "the root has no limit"
        );
    }

    #[test]
    fn common_paths_end_at_names() {
        assert_eq!(shared(b"/ab/c", b"/ab/d"), b"/ab");
        assert_eq!(shared(b"/abc", b"/abd"), b"");
        assert_eq!(shared(b"/a", b"/a"), b"/a");
    }
}
