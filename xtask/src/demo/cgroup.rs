//! A memory cgroup of our own, in whichever hierarchy has the memory controller; removed at the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The group; its folder is removed when this is dropped.
pub(crate) struct MemoryGroup {
    folder: PathBuf,
}

/// Where the memory controller is.
#[derive(Debug, PartialEq, Eq)]
enum Hierarchy {
    V1(PathBuf),
    V2(PathBuf),
}

impl MemoryGroup {
    /// Makes a group below the hierarchy's root, limited to `limit` bytes of memory and no swap.
    ///
    /// # Errors
    /// There is no memory controller, or it cannot be used here.
    pub(crate) fn create(limit: u64) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
        let Some(hierarchy) = find(&mounts, v2_has_memory) else {
            bail!("no memory controller is mounted, neither of cgroup v1 nor of v2");
        };
        let name = format!("aiops-demo-{}", std::process::id());
        match hierarchy {
            Hierarchy::V1(root) => {
                let group = Self::make(&root.join(name))?;
                group.set("memory.limit_in_bytes", limit)?;
                // Memory and swap together; kernels without swap accounting have no such file.
                if group.folder.join("memory.memsw.limit_in_bytes").exists() {
                    group.set("memory.memsw.limit_in_bytes", limit)?;
                }
                Ok(group)
            }
            Hierarchy::V2(root) => {
                write(&root.join("cgroup.subtree_control"), "+memory").context(
                    "the memory controller cannot be used in this container: try on the host",
                )?;
                let group = Self::make(&root.join(name))?;
                group.set("memory.max", limit)?;
                if group.folder.join("memory.swap.max").exists() {
                    group.set("memory.swap.max", 0)?;
                }
                Ok(group)
            }
        }
    }

    /// The file into which a process writes its id to enter.
    pub(crate) fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    fn make(folder: &Path) -> Result<Self> {
        std::fs::create_dir(folder).with_context(|| folder.display().to_string())?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn set(&self, file: &str, value: u64) -> Result<()> {
        write(&self.folder.join(file), &value.to_string())
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A process that was killed leaves a moment later.
        for _ in 0..100 {
            match std::fs::remove_dir(&self.folder) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => {
                    eprintln!("warning: {} stays: {error}", self.folder.display());
                    return;
                }
                Ok(()) => return,
            }
        }
        eprintln!(
            "warning: {} stays: it is still in use",
            self.folder.display()
        );
    }
}

/// Finds the memory controller in the text of `/proc/self/mounts`, e.g.
///
/// ```text
/// cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
/// cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
/// ```
fn find(mounts: &str, has_memory: impl Fn(&Path) -> bool) -> Option<Hierarchy> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind, options) = (words.next()?, words.next()?, words.next()?);
        let place = PathBuf::from(place);
        match kind {
            "cgroup" if options.split(',').any(|option| option == "memory") => {
                Some(Hierarchy::V1(place))
            }
            "cgroup2" if has_memory(&place) => Some(Hierarchy::V2(place)),
            _ => None,
        }
    })
}

fn v2_has_memory(root: &Path) -> bool {
    std::fs::read_to_string(root.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_with_the_memory_controller_is_found() {
        let v1 = "cgroup /c/cpu cgroup rw,cpu 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n\
                  cgroup /c/memory cgroup rw,relatime,memory 0 0\n";
        assert_eq!(find(v1, |_| false), Some(Hierarchy::V1("/c/memory".into())));
        assert_eq!(find(v1, |_| true), Some(Hierarchy::V2("/c/unified".into())));
        assert_eq!(find("proc /proc proc rw 0 0\n", |_| true), None);
    }
}
