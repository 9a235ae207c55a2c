//! What a store could not do, and what the user can do about it.

use std::error::Error;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::wal::VERSION;

/// What is tried with a log.
pub(super) const READ_LOG: &str = "read the log";

/// Why the store could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{}: cannot {what}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Another process writes it.
    #[error("{}: another aiops writes this store", path.display())]
    Busy {
        /// The store.
        path: PathBuf,
    },
    /// Another process replaces parts of it.
    #[error("{}: another aiops compacts or repairs this store", path.display())]
    Upkeep {
        /// The store.
        path: PathBuf,
    },
    /// Others may write there.
    #[error("{}: {why}", path.display())]
    Unsafe {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What makes it right.
        remedy: String,
    },
    /// Nothing in the folder is of a store.
    #[error("{}: not a store: it has no store.json, no logs and no segments", path.display())]
    NoStore {
        /// The folder.
        path: PathBuf,
    },
    /// Another host writes it.
    #[error("{}: the store of another host, {hostname}", path.display())]
    OtherHost {
        /// The store.
        path: PathBuf,
        /// That host.
        hostname: String,
    },
    /// A segment is damaged.
    #[error("{}: the segment cannot be used", path.display())]
    Segment {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file is something else, or its beginning is damaged.
    #[error("{}: not an aiops log, or its first block is damaged", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later aiops.
    #[error("{}: format version {found}, this aiops reads up to {VERSION}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
}

impl StoreError {
    /// What the user can do, where there is something.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let text = match self {
            Self::Io { path, source, .. } => return of_system(path, source),
            Self::Busy { path } => {
                let lock = shell(&path.join("lock"));
                return Some(format!("one daemon is enough; see who it is: fuser {lock}"));
            }
            Self::Upkeep { path } => {
                let lock = shell(&path.join("upkeep.lock"));
                return Some(format!(
                    "try again when it is done; see who it is: fuser {lock}"
                ));
            }
            Self::Unsafe { remedy, .. } => remedy,
            Self::NoStore { .. } => {
                "`aiops monitor memory` makes one; --store DIR or AIOPS_STORE name another folder"
            }
            Self::OtherHost { .. } => {
                "read it as it is (query, export); to write, name another one with --store DIR, or move this one away"
            }
            Self::Segment { .. } | Self::NotALog { .. } => {
                "`aiops store repair` puts it aside; the rest is not touched"
            }
            Self::TooNew { .. } => "read it with the aiops that wrote it, or a later one",
        };
        Some(text.to_owned())
    }

    /// Why, without the path: where that is told anyway.
    #[must_use]
    pub fn reason(&self) -> String {
        let path = self.path();
        let text = told(self);
        let path = format!("{}: ", path.display());
        text.strip_prefix(&path).unwrap_or(&text).to_owned()
    }

    /// What it is about.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Busy { path }
            | Self::Upkeep { path }
            | Self::Unsafe { path, .. }
            | Self::NoStore { path }
            | Self::OtherHost { path, .. }
            | Self::Segment { path, .. }
            | Self::NotALog { path }
            | Self::TooNew { path, .. } => path,
        }
    }

    /// Whether a log cannot be read and that says nothing against it: the system cannot, or this aiops is too old.
    pub(super) fn is_of_log(&self) -> bool {
        match self {
            Self::TooNew { .. } => true,
            Self::Io { what, source, .. } => {
                *what == READ_LOG && source.kind() != io::ErrorKind::InvalidData
            }
            _ => false,
        }
    }

    /// Whether a segment is damaged.
    pub(super) fn is_of_segment(&self) -> bool {
        matches!(self, Self::Segment { .. })
    }

    /// Whether it is the thing itself that is too large: no other try takes it.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::FileTooLarge)
    }

    /// Whether the system keeps us from looking, so that nothing is known of the thing itself.
    pub(super) fn is_refused(&self) -> bool {
        system(self).is_some_and(refuses)
    }
}

/// What to do when the system refuses.
fn of_system(path: &Path, source: &io::Error) -> Option<String> {
    use io::ErrorKind as Kind;
    let text = match source.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => {
            "free some space, or keep less: `aiops store compact --max-size SIZE`; history goes on as soon as there is room"
        }
        Kind::PermissionDenied => "run as the owner of the store, usually root",
        Kind::ReadOnlyFilesystem => {
            "its file system is mounted read-only: mount it writable, or name another store: --store DIR"
        }
        Kind::NotFound => {
            "`aiops monitor memory` makes it; --store DIR or AIOPS_STORE name another one"
        }
        Kind::NotADirectory => {
            "a folder belongs there: move the file away, or name another store: --store DIR or AIOPS_STORE"
        }
        Kind::InvalidData => "`aiops store repair` puts it aside and writes it anew",
        // What is opened to be written is ours to make.
        Kind::InvalidInput if not_regular(source) => {
            return Some(format!(
                "something else stands there; remove it, and aiops makes it anew: rm {}",
                shell(path)
            ));
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// What [`super::place::open`] and its like say of a link, a pipe, a device.
pub(super) const NOT_REGULAR: &str = "not a regular file";

fn not_regular(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.to_string() == NOT_REGULAR)
}

/// A path as a shell takes it.
pub(super) fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:@".contains(letter);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The whole chain of an error in one line.
pub(super) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Some say what their cause says.
        if !text.ends_with(&inner_text) {
            text.push_str(&format!(": {inner_text}"));
        }
        cause = inner.source();
    }
    text
}

/// The system's error in a chain: libraries wrap it.
fn system<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<io::Error>() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

pub(super) fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Io { path, what, source }
}

/// Whether an error says something of the system, and nothing of the file.
fn refuses(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let kinds = [
        Kind::StorageFull,
        Kind::QuotaExceeded,
        Kind::PermissionDenied,
        Kind::ReadOnlyFilesystem,
        Kind::OutOfMemory,
    ];
    let files = [Some(libc::EMFILE), Some(libc::ENFILE)];
    kinds.contains(&error.kind()) || files.contains(&error.raw_os_error())
}

/// What is wrong with a file of a segment: damage, unless it is the system that refuses.
pub(super) fn damaged(path: &Path, error: impl Error + Send + Sync + 'static) -> StoreError {
    let refused = system(&error).filter(|error| refuses(error));
    match refused.map(|found| (found.kind(), found.raw_os_error())) {
        Some((_, Some(code))) => {
            io_error(path, "use the segment")(io::Error::from_raw_os_error(code))
        }
        Some((kind, None)) => io_error(path, "use the segment")(kind.into()),
        None => StoreError::Segment {
            path: path.to_path_buf(),
            source: Box::new(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::ParquetError;
    use super::*;

    #[test]
    fn what_the_system_refuses_is_no_damage() {
        let path = Path::new("/store/segments/1-2-a/process.parquet");
        let of = |code: i32| {
            let source = io::Error::from_raw_os_error(code);
            damaged(path, ParquetError::External(Box::new(source)))
        };
        let full = of(libc::ENOSPC);
        assert!(matches!(full, StoreError::Io { .. }), "{full}");
        let remedy = full.remedy().unwrap();
        assert!(
            remedy.contains("space") && remedy.contains("--max-size"),
            "{remedy}"
        );
        assert!(of(libc::EACCES).is_refused());
        let gone = of(libc::ENOENT);
        assert!(matches!(gone, StoreError::Segment { .. }), "{gone}");
        let broken = damaged(path, ParquetError::EOF("short".to_owned()));
        assert!(matches!(broken, StoreError::Segment { .. }), "{broken}");
        assert_eq!(broken.reason(), "the segment cannot be used: EOF: short");
        let odd = io::Error::new(io::ErrorKind::InvalidData, NOT_REGULAR);
        let odd = damaged(path, odd);
        assert!(matches!(odd, StoreError::Segment { .. }), "{odd}");
    }

    #[test]
    fn a_path_is_fit_for_a_shell() {
        assert_eq!(shell(Path::new("/var/lib/aiops-1")), "/var/lib/aiops-1");
        assert_eq!(shell(Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
