//! The limits of a host, its cgroups and its processes: read now, or as a recording left them.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use crate::analysis::limits::Bound;
use crate::analysis::limits::Limit;
use crate::analysis::limits::Surroundings;
use crate::analysis::limits::nearest;
use crate::analysis::readings::ProcessKey;
use crate::analysis::readings::Readings;
use crate::analysis::readings::key;
use crate::model::ClockPair;
use crate::model::Filter;
use crate::model::Host;
use crate::model::Identity;
use crate::model::ProcessSample;
use crate::model::Rlimits;
use crate::model::Sample;
use crate::source::plane::Wants;
use crate::source::procfs::read_rlimits;
use crate::source::procfs::strict_overcommit;
use crate::time;

use super::plane;

/// What stands at one moment.
#[derive(Debug, Default)]
pub struct Here {
    /// Where /proc stands; `None`: the moment is past, and limits of single processes are not known.
    root: Option<PathBuf>,
    /// The moment: ns since 1970, and the offset of the host's zone in seconds.
    pub moment: (i64, i32),
    /// Time since boot at that moment, seconds.
    boot_s: Option<f64>,
    /// The host.
    pub host: Host,
    /// Every process and every memory cgroup.
    pub sample: Sample,
    /// Who the processes are.
    pub identities: HashMap<ProcessKey, Identity>,
    /// Limits of the host and of cgroups.
    pub surroundings: Surroundings,
}

impl Here {
    /// Everything that bounds a process, least left first; `None`: there is no such process (any more).
    #[must_use]
    pub fn bounds(&self, who: ProcessKey) -> Option<Vec<Bound>> {
        let process = self.sample.processes.iter().find(|one| key(one) == who)?;
        let cgroup = self.cgroup(who);
        let rlimits = self.rlimits(process.pid);
        Some(
            self.surroundings
                .of_process(cgroup.as_deref(), &process.metrics, rlimits),
        )
    }

    /// What a process that holds so many bytes dies at, and which limit that is: others in its cgroups and on the
    /// host keep what they have. `None`: it is gone, or nothing is known to bound it.
    #[must_use]
    pub fn dies_at(&self, who: ProcessKey, held: u64) -> Option<(u64, Limit)> {
        room(&self.bounds(who)?, held)
    }

    /// The same of a cgroup.
    #[must_use]
    pub fn cgroup_dies_at(&self, path: &str, held: u64) -> Option<(u64, Limit)> {
        room(&self.surroundings.of_cgroup(path), held)
    }

    /// What bounds this process beside its cgroups and the host.
    #[must_use]
    pub fn own(&self, process: &ProcessSample) -> Vec<Bound> {
        let rlimits = self.rlimits(process.pid);
        self.surroundings.of_itself(&process.metrics, rlimits)
    }

    /// Seconds since a process started.
    #[must_use]
    pub fn age_s(&self, process: &ProcessSample) -> Option<f64> {
        let per_second = self.host.ticks_per_s.filter(|ticks| *ticks > 0)?;
        Some(self.boot_s? - process.start_ticks as f64 / per_second as f64)
    }

    fn rlimits(&self, pid: u32) -> Rlimits {
        let root = self.root.as_deref();
        root.map(|root| read_rlimits(root, pid)).unwrap_or_default()
    }

    /// The memory cgroup of a process.
    #[must_use]
    pub fn cgroup(&self, who: ProcessKey) -> Option<String> {
        let cgroup = self.identities.get(&who)?.cgroup.as_ref()?;
        Some(cgroup.lossy().into_owned())
    }

    /// As the last sample of an observation left it.
    #[must_use]
    pub fn left_by(readings: &Readings) -> Self {
        let session = readings.session.as_ref();
        let host = session.map(|session| session.host.clone());
        let host = host.unwrap_or_default();
        let sample = readings.newest().cloned().unwrap_or_default();
        let overcommit = readings
            .detail()
            .and_then(|detail| detail.setting("vm.overcommit_memory"));
        Self {
            root: None,
            moment: readings.moment().unwrap_or_default(),
            boot_s: readings.clocks.map(|(_, pair)| boot_s(&pair)),
            surroundings: Surroundings::new(
                sample.system.as_ref(),
                &sample.cgroups,
                host.memory_cgroup,
                overcommit == Some(2),
            ),
            identities: readings.identities.clone(),
            host,
            sample,
        }
    }
}

fn boot_s(clock: &ClockPair) -> f64 {
    clock.boot_ns as f64 / 1e9
}

fn room(bounds: &[Bound], held: u64) -> Option<(u64, Limit)> {
    let first = nearest(bounds)?;
    Some((held.saturating_add(first.left_bytes), first.limit.clone()))
}

/// Reads what stands below `root` now.
///
/// # Errors
/// There is no /proc.
pub fn now(root: &Path) -> anyhow::Result<Here> {
    let mut plane = plane::open(root)?;
    let host = plane.session("limits", Filter::default()).host;
    let clock = plane.clock();
    let real_ns = clock.real_ns;
    let sample = plane.sample(&Wants {
        cgroups: true,
        ..Wants::default()
    });
    let told = plane.identities(&sample.processes);
    let identities = told
        .into_iter()
        .map(|one| ((one.pid, one.start_ticks.unwrap_or(0)), one))
        .collect();
    let surroundings = Surroundings::new(
        sample.system.as_ref(),
        &sample.cgroups,
        host.memory_cgroup,
        strict_overcommit(root),
    );
    Ok(Here {
        root: Some(root.to_path_buf()),
        moment: (real_ns, time::local_offset_s(real_ns)),
        boot_s: Some(boot_s(&clock)),
        host,
        sample,
        identities,
        surroundings,
    })
}
