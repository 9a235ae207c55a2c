//! The memory manager's inner state, [`Detail`]: one reader a source, each in a file of its own.
//!
//! The `procfs` crate has no reader for these files, or one that gives up at the first line that it does
//! not know (System V shared memory of user ids beyond 65,535).

use std::io;
use std::path::Path;

use crate::model::Detail;
use crate::model::Unread;
use crate::model::UnreadReason;
use crate::source::clock;
use crate::source::files;

use super::nodes;
use super::settings;
use super::shared;
use super::slab;
use super::swaps;
use super::zones;

/// Files below one root, with a note of what could not be read.
pub(super) struct Look<'a> {
    pub(super) root: &'a Path,
    unread: Vec<Unread>,
}

impl Look<'_> {
    /// A whole file; `None` is noted.
    pub(super) fn read(&mut self, name: &str) -> Option<Vec<u8>> {
        match files::read(&self.root.join(name)) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::PermissionDenied => UnreadReason::Denied,
                    // A damaged tree: no file, or one that no kernel writes.
                    io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => {
                        UnreadReason::Malformed
                    }
                    _ => UnreadReason::Absent,
                };
                self.note(name, reason);
                None
            }
        }
    }

    /// A file that not every host has: nothing is noted.
    pub(super) fn maybe(&self, name: &str) -> Option<String> {
        let bytes = files::read(&self.root.join(name)).ok()?;
        Some(String::from_utf8_lossy(bytes.trim_ascii()).into_owned())
    }

    /// A small file with one number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.maybe(name)?.parse().ok()
    }

    /// Notes that a source could not be used.
    pub(super) fn note(&mut self, name: &str, reason: UnreadReason) {
        self.unread.push(Unread {
            source: format!("/{name}"),
            reason,
        });
    }
}

/// Reads everything of [`Detail`] below `root`; free blocks by migration type only when they are asked for:
/// the kernel walks every free list with interrupts off for them.
#[must_use]
pub fn read_detail(root: &Path, page_types: bool) -> Detail {
    let ts_ns = clock::mono_ns();
    let mut look = Look {
        root,
        unread: Vec::new(),
    };
    let mut detail = Detail {
        ts_ns,
        slabs: slab::read(&mut look),
        zones: zones::read(&mut look),
        page_types: page_types.then(|| zones::page_types(&mut look)).flatten(),
        nodes: nodes::read(&mut look),
        swaps: swaps::devices(&mut look),
        zrams: swaps::zrams(&look),
        zswap: swaps::zswap(&look),
        tmpfs: shared::tmpfs(&mut look),
        shm: shared::segments(&mut look),
        settings: settings::read(&look),
        unread: Vec::new(),
    };
    detail.unread = look.unread;
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host() {
        let detail = read_detail(Path::new("/"), true);
        let zones = detail.zones.as_ref().unwrap();
        assert!(zones.iter().any(|zone| zone.free > Some(0)));
        assert!(zones.iter().any(|zone| zone.free_blocks.len() >= 10));
        assert!(detail.setting("vm.swappiness").is_some());
        assert!(!detail.nodes.as_ref().unwrap().is_empty());
        assert!(detail.swaps.is_some());
        if rustix::process::getuid().is_root() {
            let slabs = detail.slabs.as_ref().unwrap();
            assert!(slabs.iter().any(|slab| slab.name.as_bytes() == b"dentry"));
            assert!(detail.page_types.is_some());
        }
    }

    #[test]
    fn nothing_there_is_nothing_known() {
        let named = |detail: &Detail| {
            let mut unread = detail.unread.iter();
            unread.any(|one| one.source == "/proc/pagetypeinfo")
        };
        let whole = read_detail(Path::new("/nonexistent"), true);
        let detail = read_detail(Path::new("/nonexistent"), false);
        assert!(
            named(&whole) && !named(&detail),
            "what nobody asked for is not missed"
        );
        assert!(detail.slabs.is_none() && detail.zones.is_none() && detail.swaps.is_none());
        assert!(detail.nodes.is_none() && detail.shm.is_none() && detail.settings.is_empty());
        let absent = |source: &str| Unread {
            source: source.to_owned(),
            reason: UnreadReason::Absent,
        };
        assert!(detail.unread.contains(&absent("/proc/slabinfo")));
    }
}
