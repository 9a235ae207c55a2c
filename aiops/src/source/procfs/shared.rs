//! Shared memory that belongs to no single process: mounts of tmpfs, System V segments.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::model::RawText;
use crate::model::ShmSegment;
use crate::model::Tmpfs;
use crate::source::mounts;

use super::detail::Look;

/// Every mounted tmpfs once, and what it holds; sizes only where the file system itself can be asked.
pub(super) fn tmpfs(look: &mut Look<'_>) -> Option<Vec<Tmpfs>> {
    let table = mounts::parse(&look.read("proc/self/mountinfo")?);
    let tree = mounts::Tree::new(&table);
    // A captured tree has folders of those names, on another file system.
    let live = crate::source::live(look.root);
    // The kernel's inner mount and bind mounts show the same file system more than once.
    let mut places: HashMap<(u32, u32), usize> = HashMap::new();
    let mut found: Vec<Tmpfs> = Vec::new();
    for mount in &table {
        if !matches!(mount.fs_type.as_slice(), b"tmpfs" | b"devtmpfs" | b"ramfs") {
            continue;
        }
        let known = places.get(&mount.device).copied();
        if known.is_some_and(|at| found.get(at).is_some_and(|one| one.size_kb.is_some())) {
            continue;
        }
        let inside = mount.point.strip_prefix(b"/").unwrap_or(&mount.point);
        let place = look.root.join(OsStr::from_bytes(inside));
        // Under a mount of a dead server even stat would wait for ever.
        let sizes = (live && tree.is_open(mount))
            .then(|| sizes(&place, mount.device))
            .flatten();
        let tmpfs = Tmpfs {
            path: RawText::new(mount.point.as_slice()),
            size_kb: sizes.map(|(size, _)| size),
            used_kb: sizes.map(|(_, used)| used),
        };
        match known.and_then(|at| found.get_mut(at)) {
            Some(one) if sizes.is_some() => *one = tmpfs,
            Some(_) => {}
            None => {
                places.insert(mount.device, found.len());
                found.push(tmpfs);
            }
        }
    }
    Some(found)
}

/// Size and use of the file system that is mounted at a place, KiB; `None` when another one was mounted
/// over it, or when it has no size (ramfs, a tmpfs without a limit): then its use is not told either.
fn sizes(place: &Path, device: (u32, u32)) -> Option<(u64, u64)> {
    let found = rustix::fs::stat(place).ok()?.st_dev;
    if device != (rustix::fs::major(found), rustix::fs::minor(found)) {
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
