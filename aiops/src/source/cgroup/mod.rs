//! Memory cgroups of version 1 and 2: where they are, their figures, which have a limit.
//!
//! A path is what the kernel prints: from the root of the memory controller's hierarchy. On hybrid hosts
//! the hierarchy that holds the memory controller counts.

mod figures;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use crate::model::CgroupSample;
use crate::model::RawText;

use super::files;
use super::mounts;
use super::mounts::Mount;
use super::procfs::number;

/// Most folders that one walk looks at.
const MOST_FOLDERS: usize = 4096;
/// Most limited cgroups that are watched; the walk goes from the top, so deep ones give way.
const MOST_LIMITED: usize = 512;
/// How long the result of a walk is good.
const WALK_EVERY: Duration = Duration::from_secs(10);
/// A walk out of turn rests this many times as long as it took.
const WALK_REST: u32 = 50;

/// The memory controller of this host.
#[derive(Debug)]
pub struct Controller {
    mount: PathBuf,
    hierarchy: u8,
    /// /proc/cgroups.
    table: Option<PathBuf>,
    walked: Mutex<Walked>,
}

#[derive(Debug, Default)]
struct Walked {
    at: Option<Instant>,
    /// How long it took.
    took: Duration,
    /// What [`Controller::count`] told before it.
    count: Option<u64>,
    limited: Vec<RawText>,
    by_id: HashMap<u64, RawText>,
    /// Folders that were found and not looked at: what is below them is not known.
    left_folders: u32,
    /// Cgroups with a limit beyond those that are watched.
    left_limited: u32,
}

impl Controller {
    /// Finds the memory controller below `root`; `None` where there is none.
    #[must_use]
    pub fn detect(root: &Path) -> Option<Self> {
        let (mount, hierarchy) = mounted(root)?;
        Some(Self {
            mount,
            hierarchy,
            table: Some(root.join("proc/cgroups")),
            walked: Mutex::default(),
        })
    }

    /// Version of its hierarchy: 1 or 2.
    #[must_use]
    pub fn hierarchy(&self) -> u8 {
        self.hierarchy
    }

    /// The folder of a path; `None` for a path that would leave the mount (`/../x` of another namespace).
    #[must_use]
    pub fn folder(&self, path: &RawText) -> Option<PathBuf> {
        let relative = Path::new(OsStr::from_bytes(path.as_bytes()));
        let inside = relative
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        inside.then(|| {
            self.mount
                .join(relative.strip_prefix("/").unwrap_or(relative))
        })
    }

    /// Its figures now; `None` when it is gone.
    #[must_use]
    pub fn sample(&self, path: &RawText) -> Option<CgroupSample> {
        let folder = self.folder(path)?;
        let id = std::fs::metadata(&folder).ok()?.ino();
        let (metrics, oom_group) = figures::read(&folder, self.hierarchy);
        Some(CgroupSample {
            path: path.clone(),
            id,
            oom_group,
            metrics,
        })
    }

    /// Every cgroup with a limit, found by a walk at most every ten seconds.
    #[must_use]
    pub fn limited(&self) -> Vec<RawText> {
        self.walked(|walked| walked.limited.clone())
    }

    /// Every cgroup, as of the last walk, by path.
    #[must_use]
    pub fn all(&self) -> Vec<RawText> {
        let mut paths: Vec<RawText> =
            self.walked(|walked| walked.by_id.values().cloned().collect());
        paths.sort();
        paths
    }

    /// How many cgroups the last walk left out, at least: of `all` of them, or of those with a limit.
    #[must_use]
    pub fn left_out(&self, all: bool) -> u32 {
        self.walked(|walked| {
            let limited = if all { 0 } else { walked.left_limited };
            walked.left_folders.saturating_add(limited)
        })
    }

    /// The path of the cgroup with this inode, as of the last walk.
    #[must_use]
    pub fn by_id(&self, id: u64) -> Option<RawText> {
        self.walked(|walked| walked.by_id.get(&id).cloned())
    }

    /// Lets the next question walk again.
    pub fn forget(&self) {
        if let Ok(mut walked) = self.walked.lock() {
            walked.at = None;
        }
    }

    /// Lets the next question walk again if cgroups were made or removed since the last walk: one small file
    /// tells. On hosts that make them all the time, walks take at most a fiftieth of the time.
    pub fn refresh(&self) {
        let count = self.count();
        if let Ok(mut walked) = self.walked.lock()
            && walked.count != count
            && walked
                .at
                .is_some_and(|at| at.elapsed() >= walked.took * WALK_REST)
        {
            walked.at = None;
        }
    }

    /// How many cgroups there are: `nr_descendants` of version 2 (since 4.14), /proc/cgroups for version 1.
    /// Nothing but that it changes is made use of.
    fn count(&self) -> Option<u64> {
        if self.hierarchy == 2 {
            let stat = files::read(&self.mount.join("cgroup.stat")).ok()?;
            let mut lines = stat.split(|byte| *byte == b'\n');
            return lines.find_map(|line| number(line.strip_prefix(b"nr_descendants ")?));
        }
        // subsys_name, hierarchy, num_cgroups, enabled
        let table = files::read(self.table.as_ref()?).ok()?;
        let mut lines = table.split(|byte| *byte == b'\n');
        let line = lines.find_map(|line| line.strip_prefix(b"memory\t"))?;
        number(line.split(|byte| *byte == b'\t').nth(1)?)
    }

    fn walked<T: Default>(&self, ask: impl FnOnce(&Walked) -> T) -> T {
        let Ok(mut walked) = self.walked.lock() else {
            return T::default();
        };
        if walked.at.is_none_or(|at| at.elapsed() >= WALK_EVERY) {
            *walked = self.walk();
        }
        ask(&walked)
    }

    /// Breadth first, so that a bound on the number of folders keeps the top of the tree.
    fn walk(&self) -> Walked {
        let begin = Instant::now();
        let mut found = Walked {
            count: self.count(),
            ..Walked::default()
        };
        let mut queue = std::collections::VecDeque::from([PathBuf::from("/")]);
        while let Some(path) = queue.pop_front() {
            let text = RawText::new(path.as_os_str().as_bytes());
            let Some(folder) = self.folder(&text) else {
                continue;
            };
            if let Ok(meta) = std::fs::metadata(&folder) {
                found.by_id.insert(meta.ino(), text.clone());
            }
            if figures::has_limit(&folder, self.hierarchy) {
                if found.limited.len() < MOST_LIMITED {
                    found.limited.push(text);
                } else {
                    found.left_limited = found.left_limited.saturating_add(1);
                }
            }
            let entries = std::fs::read_dir(&folder)
                .into_iter()
                .flatten()
                .filter_map(Result::ok);
            let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            for entry in folders {
                if found.by_id.len() + queue.len() < MOST_FOLDERS {
                    queue.push_back(path.join(entry.file_name()));
                } else {
                    found.left_folders = found.left_folders.saturating_add(1);
                }
            }
        }
        found.at = Some(begin);
        found.took = begin.elapsed();
        found
    }
}

/// Where the memory controller is mounted below `root`, and its version.
///
/// A captured tree has no mount table of its own that could be believed, so the usual places are looked at
/// when the table has nothing.
fn mounted(root: &Path) -> Option<(PathBuf, u8)> {
    let table = mounts::own(root);
    let inside = |mount: &Path| root.join(mount.strip_prefix("/").unwrap_or(mount));
    let mut places: Vec<(PathBuf, u8)> = table.into_iter().filter_map(memory_mount).collect();
    for usual in [
        ("/sys/fs/cgroup/memory", 1),
        ("/sys/fs/cgroup", 2),
        ("/sys/fs/cgroup/unified", 2),
    ] {
        places.push((PathBuf::from(usual.0), usual.1));
    }
    // Version 1 first: where it has the memory controller, version 2 cannot.
    places.sort_by_key(|(_, hierarchy)| *hierarchy);
    let mut places = places
        .into_iter()
        .map(|(mount, hierarchy)| (inside(&mount), hierarchy));
    places.find(|(mount, hierarchy)| match hierarchy {
        1 => mount.join("memory.usage_in_bytes").exists(),
        _ => {
            let list = files::read(&mount.join("cgroup.controllers")).unwrap_or_default();
            list.split(u8::is_ascii_whitespace)
                .any(|word| word == b"memory")
        }
    })
}

/// A mount of the memory controller, and its version.
fn memory_mount(mount: Mount) -> Option<(PathBuf, u8)> {
    let version = match mount.fs_type.as_slice() {
        b"cgroup2" => 2,
        b"cgroup" if mount.has("memory") => 1,
        _ => return None,
    };
    Some((PathBuf::from(OsString::from_vec(mount.point)), version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_memory_controller() {
        let mount = |line: &str| memory_mount(mounts::parse(line.as_bytes()).remove(0));
        let v1 = mount("36 35 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory");
        assert_eq!(v1, Some((PathBuf::from("/sys/fs/cgroup/memory"), 1)));
        let v2 = mount("36 35 0:30 / /sys/fs/cgroup rw shared:1 - cgroup2 cgroup2 rw,nsdelegate");
        assert_eq!(v2, Some((PathBuf::from("/sys/fs/cgroup"), 2)));
        let cpu = mount("36 35 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu");
        assert_eq!(cpu, None);
    }

    #[test]
    fn folders_stay_inside_the_mount() {
        let controller = Controller {
            mount: PathBuf::from("/m"),
            hierarchy: 2,
            table: None,
            walked: Mutex::default(),
        };
        assert_eq!(
            controller.folder(&RawText::from("/a/b")),
            Some(PathBuf::from("/m/a/b"))
        );
        assert_eq!(
            controller.folder(&RawText::from("/")),
            Some(PathBuf::from("/m/"))
        );
        assert_eq!(controller.folder(&RawText::from("/../a")), None);
    }

    #[test]
    fn a_tree_of_version_2() {
        let root = std::env::temp_dir().join(format!("aiops-cg-{}", std::process::id()));
        let leaf = root.join("sys/fs/cgroup/a/b");
        std::fs::create_dir_all(&leaf).unwrap();
        std::fs::write(
            root.join("sys/fs/cgroup/cgroup.controllers"),
            "cpu memory\n",
        )
        .unwrap();
        std::fs::write(leaf.join("memory.max"), "33554432\n").unwrap();
        std::fs::write(leaf.join("memory.current"), "4096\n").unwrap();
        std::fs::write(
            leaf.join("memory.events"),
            "low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\n",
        )
        .unwrap();
        std::fs::write(leaf.join("memory.oom.group"), "1\n").unwrap();
        let controller = Controller::detect(&root);
        let sample = controller
            .as_ref()
            .and_then(|controller| controller.sample(&RawText::from("/a/b")));
        let limited = controller.as_ref().map(Controller::limited);
        std::fs::remove_dir_all(&root).unwrap();
        let sample = sample.unwrap();
        assert_eq!(
            (sample.metrics.limit_kb, sample.metrics.usage_kb),
            (Some(32_768), Some(4))
        );
        assert_eq!(
            (
                sample.metrics.oom_kill,
                sample.metrics.failcnt,
                sample.oom_group
            ),
            (Some(2), Some(7), Some(true))
        );
        assert_eq!(sample.metrics.high_kb, None);
        assert_eq!(limited.unwrap(), [RawText::from("/a/b")]);
        assert_eq!(
            controller.unwrap().by_id(sample.id),
            Some(RawText::from("/a/b"))
        );
    }

    #[test]
    fn what_is_beyond_the_bounds_is_counted() {
        let root = std::env::temp_dir().join(format!("aiops-cgs-{}", std::process::id()));
        let mount = root.join("sys/fs/cgroup");
        std::fs::create_dir_all(&mount).unwrap();
        std::fs::write(mount.join("cgroup.controllers"), "memory\n").unwrap();
        for at in 0..MOST_FOLDERS + 6 {
            let folder = mount.join(format!("c{at}"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("memory.high"), "4096\n").unwrap();
        }
        let controller = Controller::detect(&root).unwrap();
        let found = (controller.all().len(), controller.limited().len());
        let left = (controller.left_out(true), controller.left_out(false));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, (MOST_FOLDERS, MOST_LIMITED));
        // The mount's own folder takes a place too.
        let limited = u32::try_from(MOST_FOLDERS - 1 - MOST_LIMITED).unwrap();
        assert_eq!(left, (7, 7 + limited));
    }

    #[test]
    fn no_controller_is_none() {
        assert!(Controller::detect(Path::new("/nonexistent")).is_none());
    }
}
