//! The limits of a host, its cgroups and its processes, read now.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use crate::analysis::limits::Bound;
use crate::analysis::limits::Surroundings;
use crate::analysis::readings::ProcessKey;
use crate::analysis::readings::key;
use crate::model::Identity;
use crate::model::Sample;
use crate::model::Session;
use crate::source::plane::Wants;
use crate::source::procfs::read_rlimits;
use crate::source::procfs::strict_overcommit;

use super::plane;

/// What stands now.
#[derive(Debug)]
pub struct Here {
    root: PathBuf,
    /// The host, for the report.
    pub session: Session,
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
        let rlimits = read_rlimits(&self.root, process.pid);
        Some(
            self.surroundings
                .of_process(cgroup.as_deref(), &process.metrics, rlimits),
        )
    }

    /// The memory cgroup of a process.
    #[must_use]
    pub fn cgroup(&self, who: ProcessKey) -> Option<String> {
        let cgroup = self.identities.get(&who)?.cgroup.as_ref()?;
        Some(cgroup.lossy().into_owned())
    }
}

/// Reads what stands below `root` now.
///
/// # Errors
/// There is no /proc.
pub fn now(root: &Path) -> anyhow::Result<Here> {
    let mut plane = plane::open(root)?;
    let session = plane.session("limits", crate::model::Filter::default());
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
        session.host.memory_cgroup,
        strict_overcommit(root),
    );
    Ok(Here {
        root: root.to_path_buf(),
        session,
        sample,
        identities,
        surroundings,
    })
}
