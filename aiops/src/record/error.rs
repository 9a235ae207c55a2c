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
    /// The place is taken by something that is never written to: a symlink, a folder, a device.
    #[error("{}: is {what}, not a regular file", path.display())]
    NotRegular {
        /// The recording.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
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
            Self::NotRegular { .. } => {
                Some("name a regular file: a recording is never written through a symlink")
            }
            Self::Io { source, .. } => io_remedy(source.kind()),
            Self::NotARecording { .. } => {
                Some("give a file that `aiops trace oom --record FILE` has written")
            }
            Self::TooNew { .. } => Some("use the aiops that wrote it, or a later one"),
        }
    }
}

fn io_remedy(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::PermissionDenied => {
            Some("recordings have mode 0600: run as their owner or as root")
        }
        io::ErrorKind::NotFound => Some("check the path; its folder must exist"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room on that file system; what was written before stays readable")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("choose a file system that can be written"),
        _ => None,
    }
}
