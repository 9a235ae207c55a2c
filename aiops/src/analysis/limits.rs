//! What bounds the memory of a process or a cgroup: every limit with its use and the bytes that are left.
//!
//! A cgroup is out of memory when what reclaim cannot take meets its limit: page cache and reclaimable slab do
//! not count, tmpfs and shared memory do. What may be swapped out moves the limit away by the swap that is
//! free. The same holds for the host: MemAvailable and free swap are left.

use std::collections::HashMap;

use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::ProcessMetrics;
use crate::model::Rlimits;
use crate::model::SystemMetrics;

use super::memory;

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// A cgroup's.
    Cgroup {
        /// Path as the kernel prints it.
        path: String,
        /// The file that holds it, `memory.max`.
        file: &'static str,
    },
    /// RAM and swap of the host.
    Host,
    /// `RLIMIT_AS`.
    AddressSpace,
    /// `RLIMIT_DATA`.
    Data,
    /// `CommitLimit` under strict overcommit.
    Commit,
}

impl Limit {
    /// cgroup, host, rlimit, commit: `limit_source` of reports.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self {
            Self::Cgroup { .. } => "cgroup",
            Self::Host => "host",
            Self::AddressSpace | Self::Data => "rlimit",
            Self::Commit => "commit",
        }
    }

    /// The cgroup's path, when it is one's.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Cgroup { path, .. } => Some(path),
            _ => None,
        }
    }

    /// What holds the limit: a file of the cgroup, `RLIMIT_AS`, a line of /proc/meminfo.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cgroup { file, .. } => file,
            Self::Host => "MemTotal + SwapTotal",
            Self::AddressSpace => "RLIMIT_AS",
            Self::Data => "RLIMIT_DATA",
            Self::Commit => "CommitLimit",
        }
    }

    /// What happens when it is met.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Cgroup { file: HIGH, .. } => Effect::Throttle,
            Self::Cgroup { .. } | Self::Host => Effect::Kill,
            Self::AddressSpace | Self::Data | Self::Commit => Effect::Fail,
        }
    }
}

/// What happens at a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The kernel kills a process.
    Kill,
    /// Allocations are slowed down: an early warning.
    Throttle,
    /// Allocations fail (ENOMEM); most programs end then.
    Fail,
}

/// A limit, and how near its use is.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// The limit.
    pub limit: Limit,
    /// Its size.
    pub limit_bytes: u64,
    /// What counts towards it and cannot be reclaimed.
    pub used_bytes: u64,
    /// What is left, free swap included where it may be used.
    pub left_bytes: u64,
    /// What the kernel measures oom_score_adj by: the limit with the swap that may be used.
    pub scale_bytes: u64,
}

impl Bound {
    /// Use as a share of what there is room for, 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        let all = self.used_bytes.saturating_add(self.left_bytes);
        if all == 0 {
            return 1.0;
        }
        self.used_bytes as f64 / all as f64
    }
}

/// memory.high of version 2.
const HIGH: &str = "memory.high";

/// Limits of a host and its cgroups at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    host: Option<Bound>,
    commit: Option<Bound>,
    /// Of each cgroup.
    groups: HashMap<String, Vec<Bound>>,
}

impl Surroundings {
    /// From a sample. `hierarchy`: 1 or 2, the version of the memory controller; `strict`:
    /// vm.overcommit_memory is 2.
    #[must_use]
    pub fn new(
        system: Option<&SystemMetrics>,
        cgroups: &[CgroupSample],
        hierarchy: Option<u8>,
        strict: bool,
    ) -> Self {
        let swap =
            |get: fn(&SystemMetrics) -> Option<u64>| system.and_then(get).unwrap_or(0) * 1024;
        let swap = Swap {
            total: swap(|system| system.swap_total_kb),
            free: swap(|system| system.swap_free_kb),
        };
        let groups = cgroups.iter().map(|cgroup| {
            let path = cgroup.path.lossy().into_owned();
            let bounds = group_bounds(&path, &cgroup.metrics, hierarchy, &swap);
            (path, bounds)
        });
        Self {
            host: system.and_then(host_bound),
            commit: system.filter(|_| strict).and_then(commit_bound),
            groups: groups.collect(),
        }
    }

    /// RAM and swap of the host; `None`: not known.
    #[must_use]
    pub fn host(&self) -> Option<&Bound> {
        self.host.as_ref()
    }

    /// A cgroup's own limits.
    #[must_use]
    pub fn own(&self, path: &str) -> &[Bound] {
        self.groups.get(path).map_or(&[], Vec::as_slice)
    }

    /// Everything that bounds a cgroup: its own limits, those above it and the host's, least left first.
    #[must_use]
    pub fn of_cgroup(&self, path: &str) -> Vec<Bound> {
        let own = chain(path).flat_map(|path| self.own(path)).cloned();
        let mut bounds: Vec<Bound> = own.chain(self.host.clone()).collect();
        sort(&mut bounds);
        bounds
    }

    /// Everything that bounds a process, least left first. What others in its cgroups use is gone for it.
    #[must_use]
    pub fn of_process(
        &self,
        cgroup: Option<&str>,
        metrics: &ProcessMetrics,
        rlimits: Rlimits,
    ) -> Vec<Bound> {
        let mut bounds = cgroup.map_or_else(
            || self.host.clone().into_iter().collect(),
            |path| self.of_cgroup(path),
        );
        bounds.extend(self.of_itself(metrics, rlimits));
        sort(&mut bounds);
        bounds
    }

    /// What bounds a process besides cgroups and the host: its rlimits, and strict overcommit.
    #[must_use]
    pub fn of_itself(&self, metrics: &ProcessMetrics, rlimits: Rlimits) -> Vec<Bound> {
        let mut bounds: Vec<Bound> = self.commit.clone().into_iter().collect();
        let own = [
            (
                Limit::AddressSpace,
                rlimits.address_space,
                metrics.vm_size_kb,
            ),
            (Limit::Data, rlimits.data, metrics.data_kb),
        ];
        for (limit, most, used_kb) in own {
            if let (Some(most), Some(used_kb)) = (most, used_kb) {
                bounds.push(bound(limit, most, used_kb * 1024, 0));
            }
        }
        bounds
    }
}

/// The limit that ends growth first, of bounds in the order of [`Surroundings::of_process`]: one at which a
/// process is killed or an allocation fails.
#[must_use]
pub fn nearest(bounds: &[Bound]) -> Option<&Bound> {
    bounds
        .iter()
        .find(|bound| bound.limit.effect() != Effect::Throttle)
}

/// A cgroup and those above it, deepest first.
pub fn chain(path: &str) -> impl Iterator<Item = &str> {
    let path = if path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        path
    };
    std::iter::successors(Some(path), |path| {
        if *path == "/" || path.is_empty() {
            return None;
        }
        let end = path.rfind('/')?;
        Some(if end == 0 { "/" } else { &path[..end] })
    })
}

fn sort(bounds: &mut [Bound]) {
    bounds.sort_by_key(|bound| bound.left_bytes);
}

fn bound(limit: Limit, most: u64, used: u64, swap: u64) -> Bound {
    Bound {
        limit,
        limit_bytes: most,
        used_bytes: used,
        left_bytes: most.saturating_sub(used).saturating_add(swap),
        scale_bytes: most,
    }
}

/// Swap of the host, bytes.
struct Swap {
    total: u64,
    free: u64,
}

fn host_bound(system: &SystemMetrics) -> Option<Bound> {
    let total = system.mem_total_kb? * 1024;
    let used = memory::used(system).0? * 1024;
    let swap = system.swap_total_kb.unwrap_or(0) * 1024;
    let swap_used = memory::swap_used(system).unwrap_or(0) * 1024;
    Some(bound(Limit::Host, total + swap, used + swap_used, 0))
}

fn commit_bound(system: &SystemMetrics) -> Option<Bound> {
    let (most, used) = (system.commit_limit_kb?, system.committed_as_kb?);
    Some(bound(Limit::Commit, most * 1024, used * 1024, 0))
}

/// What reclaim cannot take out of a cgroup, bytes; swap is not in it.
#[must_use]
pub fn held(metrics: &CgroupMetrics) -> Option<u64> {
    let given_back = [
        metrics.active_file_kb,
        metrics.inactive_file_kb,
        metrics.slab_reclaimable_kb,
    ];
    let given_back = given_back.into_iter().flatten().sum();
    Some(metrics.usage_kb?.saturating_sub(given_back) * 1024)
}

fn group_bounds(
    path: &str,
    metrics: &CgroupMetrics,
    hierarchy: Option<u8>,
    swap: &Swap,
) -> Vec<Bound> {
    let Some(used) = held(metrics) else {
        return Vec::new();
    };
    let bytes = |kb: Option<u64>| kb.map(|kb| kb.saturating_mul(1024));
    let swapped = bytes(metrics.swap_kb).unwrap_or(0);
    let (most, swap_limit) = (bytes(metrics.limit_kb), bytes(metrics.swap_limit_kb));
    let limit = |file| Limit::Cgroup {
        path: path.to_owned(),
        file,
    };
    let mut bounds = Vec::new();
    if hierarchy == Some(1) {
        // Version 1 has one limit of memory and swap together.
        let memory = most.unwrap_or(0);
        let swap_part = swap_limit.map_or(swap.total, |both| both.saturating_sub(memory));
        let scale = memory.saturating_add(swap_part.min(swap.total));
        let own = most.map(|most| bound(limit("memory.limit_in_bytes"), most, used, swap.free));
        let both = swap_limit.map(|both| {
            bound(
                limit("memory.memsw.limit_in_bytes"),
                both,
                used + swapped,
                0,
            )
        });
        for mut bound in own.into_iter().chain(both) {
            bound.scale_bytes = scale;
            bounds.push(bound);
        }
    } else if let Some(most) = most {
        let free = swap_limit.map_or(swap.free, |limit| {
            limit.saturating_sub(swapped).min(swap.free)
        });
        let mut bound = bound(limit("memory.max"), most, used, free);
        let swap_part = swap_limit.unwrap_or(swap.total).min(swap.total);
        bound.scale_bytes = most.saturating_add(swap_part);
        bounds.push(bound);
    }
    // Throttling begins at memory itself, however much swap is free.
    if let Some(high) = bytes(metrics.high_kb) {
        bounds.push(bound(limit(HIGH), high, used, 0));
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 20;

    fn host(available: u64, swap: u64, swap_free: u64) -> SystemMetrics {
        SystemMetrics {
            mem_total_kb: Some(8 * GIB),
            mem_available_kb: Some(available),
            swap_total_kb: Some(swap),
            swap_free_kb: Some(swap_free),
            commit_limit_kb: Some(6 * GIB),
            committed_as_kb: Some(5 * GIB),
            ..SystemMetrics::default()
        }
    }

    fn cgroup(path: &str, set: impl Fn(&mut CgroupMetrics)) -> CgroupSample {
        let mut cgroup = CgroupSample {
            path: path.into(),
            ..CgroupSample::default()
        };
        set(&mut cgroup.metrics);
        cgroup
    }

    /// Name, path and KiB left of each.
    fn left(bounds: &[Bound]) -> Vec<(&'static str, Option<&str>, u64)> {
        let mut rows = Vec::new();
        for bound in bounds {
            let limit = &bound.limit;
            rows.push((limit.name(), limit.path(), bound.left_bytes >> 10));
        }
        rows
    }

    #[test]
    fn a_chain_ends_at_the_root() {
        let paths: Vec<&str> = chain("/a/b.slice/c").collect();
        assert_eq!(paths, ["/a/b.slice/c", "/a/b.slice", "/a", "/"]);
        assert_eq!(chain("/").collect::<Vec<_>>(), ["/"]);
    }

    #[test]
    fn version_2_counts_what_reclaim_cannot_take_and_the_swap_it_may_use() {
        let system = host(3 * GIB, 2 * GIB, GIB);
        let cgroups = [
            cgroup("/pod", |m| {
                m.usage_kb = Some(3 * GIB);
                m.limit_kb = Some(4 * GIB);
                m.swap_limit_kb = Some(0);
                m.active_file_kb = Some(GIB);
            }),
            cgroup("/pod/app", |m| {
                m.usage_kb = Some(2 * GIB);
                m.inactive_file_kb = Some(GIB);
                m.limit_kb = Some(2 * GIB);
                m.high_kb = Some(GIB + GIB / 2);
                m.swap_kb = Some(GIB / 4);
                m.swap_limit_kb = Some(GIB / 2);
            }),
        ];
        let here = Surroundings::new(Some(&system), &cgroups, Some(2), false);
        let metrics = ProcessMetrics {
            vm_size_kb: Some(2 * GIB),
            data_kb: Some(GIB),
            ..ProcessMetrics::default()
        };
        let rlimits = Rlimits {
            address_space: Some(5 << 30),
            data: None,
        };
        let bounds = here.of_process(Some("/pod/app"), &metrics, rlimits);
        assert_eq!(
            left(&bounds),
            [
                ("memory.high", Some("/pod/app"), GIB / 2),
                ("memory.max", Some("/pod/app"), GIB + GIB / 4),
                ("memory.max", Some("/pod"), 2 * GIB),
                ("RLIMIT_AS", None, 3 * GIB),
                ("MemTotal + SwapTotal", None, 4 * GIB),
            ]
        );
        let first = nearest(&bounds).unwrap();
        assert_eq!(
            (first.limit.name(), first.used_bytes >> 10),
            ("memory.max", GIB)
        );
        assert!((first.share() - 1.0 / 2.25).abs() < 1e-12);
        assert_eq!(here.host().unwrap().limit_bytes >> 10, 10 * GIB);
        assert_eq!(here.of_cgroup("/elsewhere").len(), 1);
    }

    #[test]
    fn version_1_has_a_limit_of_memory_and_swap_together() {
        let system = host(3 * GIB, 2 * GIB, 2 * GIB);
        let cgroups = [cgroup("/a", |m| {
            m.usage_kb = Some(GIB);
            m.limit_kb = Some(2 * GIB);
            m.swap_kb = Some(GIB / 2);
            m.swap_limit_kb = Some(2 * GIB);
        })];
        let here = Surroundings::new(Some(&system), &cgroups, Some(1), false);
        assert_eq!(
            left(&here.of_cgroup("/a/b")),
            [
                ("memory.memsw.limit_in_bytes", Some("/a"), GIB / 2),
                ("memory.limit_in_bytes", Some("/a"), 3 * GIB),
                ("MemTotal + SwapTotal", None, 5 * GIB),
            ]
        );
    }

    #[test]
    fn strict_overcommit_is_a_limit_of_everybody() {
        let system = host(7 * GIB, 0, 0);
        let here = Surroundings::new(Some(&system), &[], None, true);
        let bounds = here.of_process(None, &ProcessMetrics::default(), Rlimits::default());
        assert_eq!(
            left(&bounds),
            [
                ("CommitLimit", None, GIB),
                ("MemTotal + SwapTotal", None, 7 * GIB)
            ]
        );
        assert_eq!(nearest(&bounds).unwrap().limit.effect(), Effect::Fail);
        let nothing = Surroundings::new(None, &[], None, true);
        assert!(
            nothing
                .of_process(None, &ProcessMetrics::default(), Rlimits::default())
                .is_empty()
        );
    }
}
