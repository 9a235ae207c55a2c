//! Whose allocations: names of users and paths of cgroups as the kernel side wants them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::diag;
use crate::model::Filter;
use crate::model::RawText;
use crate::source::cgroup::Controller;
use crate::source::container;
use crate::source::identity::Users;

/// Numbers of the users that are wanted.
pub(super) fn uids(filter: &Filter, root: &Path) -> anyhow::Result<Vec<u32>> {
    let users = Users::read(root);
    let number = |name: &String| {
        let id = name.parse().ok().or_else(|| users.id(name));
        id.ok_or_else(|| {
            diag::hint(
                anyhow::anyhow!("no user {name}"),
                "give the number of the user",
            )
        })
    };
    filter.users.iter().map(number).collect()
}

/// Cgroups that are wanted, and how to find those below them.
pub(super) struct Cgroups {
    controller: Controller,
    paths: Vec<String>,
    containers: Vec<String>,
}

impl Cgroups {
    pub(super) fn of(filter: &Filter, root: &Path) -> anyhow::Result<Option<Self>> {
        if filter.cgroups.is_empty() && filter.containers.is_empty() {
            return Ok(None);
        }
        let Some(controller) = Controller::detect(root) else {
            return Err(diag::hint(
                anyhow::anyhow!("no memory cgroup controller here"),
                "filter by --pid or --comm",
            ));
        };
        let found = Self {
            controller,
            paths: filter.cgroups.clone(),
            containers: filter.containers.clone(),
        };
        if found.ids().is_empty() {
            return Err(diag::hint(
                anyhow::anyhow!(
                    "no such cgroup or container: {}",
                    [&found.paths[..], &found.containers[..]]
                        .concat()
                        .join(", ")
                ),
                "`cat /proc/PID/cgroup` shows the path of a process, in the memory controller's line",
            ));
        }
        Ok(Some(found))
    }

    /// Inodes of the wanted cgroups and of all below them.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.controller.refresh();
        let all = self.controller.all();
        let below = |path: &str, wanted: &str| {
            wanted == "/" || path == wanted || path.starts_with(&format!("{wanted}/"))
        };
        let wanted = |path: &&RawText| {
            let text = path.lossy();
            let by_path = self.paths.iter().any(|one| below(&text, one));
            let container = container::from_cgroup(path.as_bytes());
            by_path
                || container.is_some_and(|it| {
                    self.containers
                        .iter()
                        .any(|one| it.id.starts_with(one.as_str()))
                })
        };
        let folders = all.iter().filter(wanted);
        folders
            .filter_map(|path| self.controller.folder(path))
            .filter_map(|folder| std::fs::metadata(folder).ok())
            .map(|meta| meta.ino())
            .collect()
    }
}
