//! What can go wrong with a recording, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::format;

/// Why a recording could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Something is there already and was not to be replaced.
    #[error("{}: exists already", path.display())]
    Exists {
        /// The recording.
        path: PathBuf,
    },
    /// The place is taken by something that is never written to or read: a symlink, a folder, a device.
    #[error("{}: is {what}, not a regular file", path.display())]
    NotRegular {
        /// The recording.
        path: PathBuf,
        /// What is there.
        what: &'static str,
        /// It was to be read, not written.
        reading: bool,
    },
    /// What is there is no recording: it is not ours to replace.
    #[error("{}: exists already and is not an aiops recording", path.display())]
    NotReplaced {
        /// The file.
        path: PathBuf,
    },
    /// `-`: a recording is written at more places than its end.
    #[error("a recording cannot be written to stdout")]
    Stdout,
    /// The system refused.
    #[error("{}: cannot {what}", path.display())]
    Io {
        /// The recording.
        path: PathBuf,
        /// What was tried: `create`, `write`, `open`, `read`.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{}: not an aiops recording{}", path.display(), if *empty { " (the file is empty)" } else { "" })]
    NotARecording {
        /// The file.
        path: PathBuf,
        /// Whether there is nothing in it.
        empty: bool,
    },
    /// Written by a later aiops in a format that this one cannot know.
    #[error("{}: format version {found}, this aiops reads up to {}", path.display(), format::VERSION)]
    TooNew {
        /// The recording.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
}

impl RecordError {
    /// What the user can do, where there is something.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Exists { .. } => Some("choose another file, or replace it with --force"),
            Self::NotRegular { reading: true, .. } => Some(WRITTEN_BY),
            Self::NotRegular { .. } => {
                Some("name a regular file: a recording is never written through a symlink")
            }
            Self::NotReplaced { .. } => Some(
                "--force replaces recordings only: remove the file yourself, or choose another name",
            ),
            Self::Stdout => {
                Some("name a file; `-o jsonl` streams the same figures to stdout as they come")
            }
            Self::Io { what, source, .. } => io_remedy(what, source.kind()),
            Self::NotARecording { .. } => Some(WRITTEN_BY),
            Self::TooNew { .. } => Some("use the aiops that wrote it, or a later one"),
        }
    }
}

/// What can be read.
const WRITTEN_BY: &str = "give a file that `aiops trace oom --record FILE` or `aiops collect memory --output FILE` has written";

fn io_remedy(what: &str, kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::PermissionDenied if matches!(what, "create" | "replace") => Some(
            "this user may not create files in that folder: choose another one, or run as root",
        ),
        io::ErrorKind::PermissionDenied => {
            Some("recordings have mode 0600: run as their owner or as root")
        }
        io::ErrorKind::NotFound if what == "create" => {
            Some("check the path: its folder must exist")
        }
        io::ErrorKind::NotFound => Some("check the path: there is no such file"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room on that file system; what was written before stays readable")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("choose a file system that can be written"),
        _ => None,
    }
}
