//! Files below directories: each opened relative to its folder, links not followed.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;

use super::FileResidency;
use super::Shared;
use super::Worker;
use super::facts;
use super::mounts::Mounts;
use super::pin;
use crate::model::RawText;

/// Where a walk begins: the named path without links, and what it is.
pub(super) struct Root {
    pinned: OwnedFd,
    path: Vec<u8>,
}

/// Opens a path that the user named; `None` when it is on a file system that is left alone (counted).
///
/// # Errors
/// There is no such path, or it may not be used.
pub(super) fn root(path: &Path, mounts: &Mounts, shared: &Shared) -> io::Result<Option<Root>> {
    let told =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let absolute = std::path::absolute(path).map_err(told)?;
    // Before it is touched, and again once its links are known.
    if mounts.avoids_path(absolute.as_os_str().as_bytes()) {
        shared.count(|counts| counts.network += 1);
        return Ok(None);
    }
    let real = std::fs::canonicalize(&absolute).map_err(told)?;
    let real = real.as_os_str().as_bytes();
    if mounts.avoids_path(real) {
        shared.count(|counts| counts.network += 1);
        return Ok(None);
    }
    let pinned = pin(rustix::fs::CWD, real, false).map_err(|error| told(error.into()))?;
    let found = facts(&pinned, b"", false).map_err(|error| told(error.into()))?;
    if !matches!(found.kind, FileType::Directory | FileType::RegularFile) {
        let kind = match found.kind {
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            _ => "something else",
        };
        let text = format!(
            "it is {kind}, neither a file nor a directory: nothing of it is in the page cache by this name"
        );
        return Err(told(io::Error::new(io::ErrorKind::InvalidInput, text)));
    }
    Ok(Some(Root {
        pinned,
        path: real.to_vec(),
    }))
}

/// Most directories that wait to be entered: beyond that they are counted as not listed.
const MAX_WAITING: usize = 100_000;

/// Looks at every file below.
pub(super) fn below(worker: &mut Worker, roots: Vec<Root>) {
    let mut waiting: Vec<Vec<u8>> = Vec::new();
    for root in roots {
        match facts(&root.pinned, b"", false) {
            Ok(found) if found.kind == FileType::Directory => {
                waiting.push(root.path);
            }
            Ok(found) => file(worker, &root.pinned, root.path, found, true),
            Err(error) => worker.missed(error),
        }
    }
    while let Some(path) = waiting.pop() {
        if worker.over() {
            let left = waiting.len() as u64 + 1;
            worker.shared.count(|counts| counts.not_listed += left);
            return;
        }
        if let Err(error) = folder(worker, &path, &mut waiting) {
            worker.missed(error);
        }
    }
}

fn folder(worker: &mut Worker, path: &[u8], waiting: &mut Vec<Vec<u8>>) -> Result<(), Errno> {
    // NOFOLLOW and RDONLY|DIRECTORY: a folder that became a link meanwhile is not entered.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = enter(path, flags)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    // In the order of names: neighbours stand together, and a run is repeatable.
    names.sort_by(|a: &(Vec<u8>, FileType), b| a.0.cmp(&b.0));
    for (index, (name, kind)) in names.iter().enumerate() {
        if worker.over() {
            for (_, kind) in names.iter().skip(index) {
                worker.shared.count(|counts| match kind {
                    FileType::Directory => counts.not_listed += 1,
                    FileType::RegularFile => {
                        counts.found += 1;
                        counts.not_reached += 1;
                    }
                    _ => {}
                });
            }
            return Ok(());
        }
        let mut child = path.to_vec();
        if !child.ends_with(b"/") {
            child.push(b'/');
        }
        child.extend_from_slice(name);
        match kind {
            FileType::Symlink => worker.shared.count(|counts| counts.symlinks += 1),
            FileType::Directory if worker.mounts.avoids_path(&child) => {
                worker.shared.count(|counts| counts.network += 1);
            }
            FileType::Directory if waiting.len() >= MAX_WAITING => {
                worker.shared.count(|counts| counts.not_listed += 1);
            }
            FileType::Directory => waiting.push(child),
            // Old file systems do not say what an entry is.
            FileType::RegularFile | FileType::Unknown => {
                entry(worker, &folder, name, child, waiting);
            }
            _ => worker.shared.count(|counts| counts.not_regular += 1),
        }
    }
    Ok(())
}

/// Opens a folder by its path, in which no part may have become a link (before Linux 5.6: the last part).
fn enter(path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let no_links = ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), no_links) {
        Err(Errno::NOSYS) => rustix::fs::open(path, flags, Mode::empty()),
        other => other,
    }
}

fn entry(
    worker: &mut Worker,
    folder: &OwnedFd,
    name: &[u8],
    path: Vec<u8>,
    waiting: &mut Vec<Vec<u8>>,
) {
    // A file may be a mount point as well.
    if worker.mounts.avoids_path(&path) {
        worker.shared.count(|counts| counts.network += 1);
        return;
    }
    let found = pin(folder, name, false)
        .and_then(|pinned| facts(&pinned, b"", false).map(|found| (pinned, found)));
    match found {
        Ok((_, found)) if found.kind == FileType::Directory => waiting.push(path),
        Ok((pinned, found)) => file(worker, &pinned, path, found, false),
        Err(error) => worker.missed(error),
    }
}

fn file(worker: &mut Worker, pinned: &OwnedFd, path: Vec<u8>, found: super::Facts, named: bool) {
    match found.kind {
        FileType::RegularFile => {}
        FileType::Symlink => return worker.shared.count(|counts| counts.symlinks += 1),
        _ => return worker.shared.count(|counts| counts.not_regular += 1),
    }
    // Another name of a file that was looked at.
    if found.links > 1 || named {
        if !worker.seen.insert(found.key) {
            return;
        }
    } else if worker.seen.contains(&found.key) {
        return;
    }
    worker.shared.count(|counts| counts.found += 1);
    let file = FileResidency {
        path: RawText::new(path),
        key: found.key,
        size_bytes: found.size,
        ..FileResidency::default()
    };
    // What was asked for by name is told also when nothing of it is in memory.
    worker.look(pinned, file, true);
}
