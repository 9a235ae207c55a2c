//! The file behind a recorded mapping, if it is still the recorded one.
//!
//! A process lives in its own mount namespace, replaces its libraries while it runs, and may be dead: a
//! file counts only when the kernel itself says that it is mapped there, or its build id is the recorded.

use std::fs::File;

use super::buildid;
use super::procdir::ProcDir;
use crate::model::Mapping;

/// Opens it: through the process' own mappings (also of a removed file), its root, or the host's.
#[must_use]
pub fn open(dir: Option<&ProcDir>, mapping: &Mapping) -> Option<File> {
    let path = mapping.path.as_bytes();
    if !path.starts_with(b"/") {
        return None;
    }
    let recorded = mapping.build_id.as_ref();
    let is_file = |file: &File| file.metadata().is_ok_and(|meta| meta.is_file());
    let is_same = |file: &File| {
        is_file(file) && recorded.is_some_and(|id| buildid::read(file).as_ref() == Some(id))
    };
    let exact = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
    let live = dir.and_then(|dir| dir.file(exact.as_bytes()).ok());
    let rooted = || dir.and_then(|dir| dir.file(&[b"root", path].concat()).ok());
    // What was removed while it ran is still there when it is the program itself.
    let program = || dir.and_then(|dir| dir.file(b"exe").ok());
    let plain = || ProcDir::host_file(path).ok();
    live.filter(|file| {
        if recorded.is_none() {
            is_file(file)
        } else {
            is_same(file)
        }
    })
    .or_else(|| rooted().filter(is_same))
    .or_else(|| program().filter(is_same))
    .or_else(|| plain().filter(is_same))
}
