//! Memory cgroups in which processes may be killed, and the processes that get killed.
//!
//! An OOM is provoked only in a group made here. A [`Group`] removes itself, and what runs in it, also
//! when a chore fails half-way.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::util;

/// Hidden chore that [`Group::grower`] starts: `grow-fast CGROUP.PROCS`.
pub(crate) const GROW: &str = "grow-fast";

/// The static `aiops` to test: `AIOPS_BIN`, or this tree's, built when it is not up to date.
pub(crate) fn aiops() -> anyhow::Result<PathBuf> {
    match std::env::var_os("AIOPS_BIN") {
        Some(path) => std::path::absolute(path).context("AIOPS_BIN"),
        None => util::build("aiops", "ci"),
    }
}

/// Which hierarchy has the memory controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A memory cgroup with a limit, removed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes a group under a name that is unique to this process. Fails without root or without a
    /// memory controller, naming what is missing.
    pub(crate) fn new(name: &str, limit_bytes: u64) -> anyhow::Result<Self> {
        let (hierarchy, version) = hierarchy()?;
        let path = hierarchy.join(format!("aiops-{}-{name}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        // From here on the drop removes it, also when a limit cannot be set.
        let group = Self { path };
        let limit = limit_bytes.to_string();
        match version {
            Version::V1 => {
                group.write("memory.limit_in_bytes", &limit)?;
                // Absent without swap accounting: then swap is not limited, and the host has none or some.
                let _ = group.write("memory.memsw.limit_in_bytes", &limit);
            }
            Version::V2 => {
                group.write("memory.max", &limit)?;
                let _ = group.write("memory.swap.max", "0");
            }
        }
        Ok(group)
    }

    fn write(&self, file: &str, value: &str) -> anyhow::Result<()> {
        let path = self.path.join(file);
        fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The file into which a process writes its id to enter.
    pub(crate) fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Starts a process in the group that grows until it is killed.
    pub(crate) fn grower(&self) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("own path unknown")?;
        Command::new(program)
            .arg(GROW)
            .arg(self.procs())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a growing process")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.path).is_err() && Instant::now() < end {
            let members = fs::read_to_string(self.procs()).unwrap_or_default();
            for pid in members.lines().filter_map(|line| line.parse().ok()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The hierarchy that has the memory controller, ready for groups with limits.
fn hierarchy() -> anyhow::Result<(PathBuf, Version)> {
    if !rustix::process::geteuid().is_root() {
        bail!("making memory cgroups needs root");
    }
    let mounts =
        fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    if let Some(path) = memory_mount(&mounts, "cgroup") {
        return Ok((path, Version::V1));
    }
    let path = memory_mount(&mounts, "cgroup2").context("no cgroup hierarchy is mounted")?;
    let controllers = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    if !controllers.split_whitespace().any(|name| name == "memory") {
        bail!("no memory controller in {}", path.display());
    }
    let _ = fs::write(path.join("cgroup.subtree_control"), "+memory");
    Ok((path, Version::V2))
}

/// Mount point of the v1 memory hierarchy (`cgroup`) or of the unified one (`cgroup2`).
fn memory_mount(mounts: &str, kind: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (place, found, options) = (words.next()?, words.next()?, words.next()?);
        let has_memory = kind == "cgroup2" || options.split(',').any(|option| option == "memory");
        (found == kind && has_memory).then(|| PathBuf::from(place))
    })
}

/// The hidden chore: enters a group and grows until it is killed.
pub(crate) fn grow(args: &[String]) -> anyhow::Result<()> {
    let [procs] = args else {
        bail!("expected: {GROW} CGROUP.PROCS");
    };
    fs::write(procs, std::process::id().to_string())
        .with_context(|| format!("cannot enter {procs}"))?;
    let mut held = Vec::new();
    // A bound, so that a group whose limit does not hold cannot take the machine.
    for _ in 0..256 {
        held.push(vec![1_u8; 1 << 20]);
    }
    std::hint::black_box(&held);
    bail!("not killed after {} MiB", held.len())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_memory_hierarchy_is_found() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let v1 = memory_mount(mounts, "cgroup");
        assert_eq!(v1.as_deref(), Some(Path::new("/sys/fs/cgroup/memory")));
        let v2 = memory_mount(mounts, "cgroup2");
        assert_eq!(v2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(memory_mount("proc /proc proc rw 0 0\n", "cgroup"), None);
    }
}
