//! The kernel's own counts of OOM kills, for the reconciliation.

use std::path::Path;

use crate::model::CgroupCount;
use crate::model::Counters;
use crate::model::CountersAt;
use crate::model::RawText;

use super::cgroup::Controller;
use super::clock;
use super::procfs;

/// Reads /proc/vmstat and the counts of these cgroups. A cgroup that is gone is left out.
#[must_use]
pub fn read(
    root: &Path,
    controller: Option<&Controller>,
    cgroups: &[RawText],
    at: CountersAt,
) -> Counters {
    let count = |controller: &Controller, path: &RawText| {
        let sample = controller.sample(path)?;
        Some(CgroupCount {
            id: sample.id,
            path: path.clone(),
            oom_kill: sample.metrics.oom_kill?,
        })
    };
    // The stamp is of the host's count, by which kills are told to be inside or outside of it.
    let oom_kill = procfs::read_system(root, procfs::Scope::Memory).oom_kill;
    let ts_ns = clock::mono_ns();
    let cgroups = controller.map_or_else(Vec::new, |controller| {
        cgroups
            .iter()
            .filter_map(|path| count(controller, path))
            .collect()
    });
    Counters {
        ts_ns,
        at,
        oom_kill,
        cgroups,
    }
}
