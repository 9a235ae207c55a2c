//! Shared memory that belongs to no single process: mounts of tmpfs, System V segments.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ::procfs::FromRead as _;
use ::procfs::process::MountInfos;

use crate::model::RawText;
use crate::model::ShmSegment;
use crate::model::Tmpfs;

use super::detail::Look;

/// Every mounted tmpfs once, and what it holds; sizes only where the file system itself can be asked.
pub(super) fn tmpfs(look: &mut Look<'_>) -> Option<Vec<Tmpfs>> {
    let table = MountInfos::from_file(look.root.join("proc/self/mountinfo")).ok()?;
    // The kernel's inner mount and bind mounts show the same file system more than once.
    let mut seen = std::collections::HashSet::new();
    let mut mounts = Vec::new();
    for mount in table.0 {
        let tmpfs = matches!(mount.fs_type.as_str(), "tmpfs" | "devtmpfs" | "ramfs");
        if !tmpfs || !seen.insert(mount.majmin.clone()) {
            continue;
        }
        let inside = mount.mount_point.strip_prefix("/");
        let place = look.root.join(inside.unwrap_or(&mount.mount_point));
        // A captured tree has folders of those names, on another file system.
        let sizes = crate::source::live(look.root)
            .then(|| sizes(&place, &mount.majmin))
            .flatten();
        mounts.push(Tmpfs {
            path: RawText::new(mount.mount_point.as_os_str().as_bytes()),
            size_kb: sizes.map(|(size, _)| size),
            used_kb: sizes.map(|(_, used)| used),
        });
    }
    Some(mounts)
}

/// Size and use of the file system that is mounted at a place, KiB; `None` when another one was mounted
/// over it, or when it has no size (ramfs, a tmpfs without a limit): then its use is not told either.
fn sizes(place: &Path, device: &str) -> Option<(u64, u64)> {
    let found = rustix::fs::stat(place).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(found), rustix::fs::minor(found));
    if device != format!("{major}:{minor}") {
        return None;
    }
    let sizes = rustix::fs::statvfs(place).ok()?;
    let kb = |blocks: u64| blocks.saturating_mul(sizes.f_frsize) / 1024;
    let used = sizes.f_blocks.saturating_sub(sizes.f_bfree);
    (sizes.f_blocks > 0).then(|| (kb(sizes.f_blocks), kb(used)))
}

/// `key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap` (ipc/shm.c,
/// `sysvipc_shm_proc_show`); rss and swap since 2.6.36.
pub(super) fn segments(look: &mut Look<'_>) -> Option<Vec<ShmSegment>> {
    let text = look.read("proc/sysvipc/shm")?;
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let figure = |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok());
        Some(ShmSegment {
            key: words.first()?.parse().ok()?,
            id: figure(1)?,
            size_bytes: figure(3)?,
            creator_pid: figure(4)?.try_into().ok()?,
            attached: figure(6)?,
            rss_bytes: figure(14),
            swap_bytes: figure(15),
            uid: figure(7)?.try_into().ok()?,
        })
    };
    let text = String::from_utf8_lossy(&text);
    Some(text.lines().skip(1).filter_map(line).collect())
}
