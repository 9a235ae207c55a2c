//! Where a store is, whose it is, and where its newest frames stand.
//!
//! `STORE/store.json` says which host writes it and where that keeps the frames that are not yet durable: a
//! folder on a tmpfs, so that they survive a kill of the writer and cost the disk nothing.

use std::ffi::OsString;
use std::fs;
use std::fs::DirBuilder;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::StoreError;
use super::error::NOT_REGULAR;
use super::error::io_error;
use super::error::shell;
use crate::model::Host;

/// Version of a store's layout.
pub(super) const SCHEMA: u32 = 1;
/// The file.
pub(super) const META: &str = "store.json";

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of its layout.
    pub schema: u32,
    /// Name of the host that writes it.
    pub hostname: String,
    /// That host's machine id (/etc/machine-id), where it has one: names change.
    pub machine_id: Option<String>,
    /// Where frames stand that are not durable yet.
    pub tails: PathBuf,
    /// Device and inode of the folder that it was written for: a copy of a store has no part in the tails of the
    /// original.
    #[serde(default)]
    folder: Option<String>,
}

impl Meta {
    /// A new store of a host, in a folder that is there.
    pub(super) fn new(host: &Host, folder: &Path, tails: PathBuf) -> Self {
        Self {
            schema: SCHEMA,
            hostname: host.hostname.lossy().into_owned(),
            machine_id: machine_id(),
            tails,
            folder: key(folder),
        }
    }

    /// Where the newest frames of the store in a folder stand. A copy has what was copied with it at the most.
    pub(super) fn tails_of(&self, folder: &Path) -> PathBuf {
        if self.folder.is_none() || self.folder == key(folder) {
            self.tails.clone()
        } else {
            folder.join(TAILS)
        }
    }

    /// Reads that of a store; `None`: it has none yet.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or is of a later aiops.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = folder.join(META);
        let bytes = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path, "read")(error)),
        };
        let meta: Self = serde_json::from_slice(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            .map_err(io_error(&path, "read"))?;
        if meta.schema > SCHEMA {
            return Err(StoreError::TooNew {
                path,
                found: u16::try_from(meta.schema).unwrap_or(u16::MAX),
            });
        }
        Ok(Some(meta))
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn write(&self, folder: &Path) -> Result<(), StoreError> {
        let (path, tmp) = (folder.join(META), folder.join("tmp-store.json"));
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| io_error(&path, "write")(error.into()))?;
        let write = || -> io::Result<()> {
            let _ = fs::remove_file(&tmp);
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&tmp)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&tmp, &path)?;
            fs::File::open(folder)?.sync_all()
        };
        write().map_err(io_error(&path, "write"))
    }

    /// Whether this host writes it.
    pub(super) fn is_of(&self, host: &Host) -> bool {
        match (&self.machine_id, machine_id()) {
            (Some(theirs), Some(ours)) => *theirs == ours,
            _ => self.hostname == host.hostname.lossy(),
        }
    }
}

fn machine_id() -> Option<String> {
    let id = fs::read_to_string("/etc/machine-id").ok()?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// Makes a folder that only we may enter, or checks that it is one.
///
/// # Errors
/// It belongs to somebody else, others may write to it, it is no folder, or the system refuses.
pub(super) fn own_folder(folder: &Path) -> Result<(), StoreError> {
    let new = folder.ancestors().take_while(|path| !path.exists());
    let new: Vec<&Path> = new.collect();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| match fs::symlink_metadata(folder) {
        Ok(meta) if !meta.is_dir() => io::ErrorKind::NotADirectory.into(),
        _ => error,
    })
    .map_err(io_error(folder, "create"))?;
    check_folder(folder)?;
    new.into_iter().for_each(keep_name);
    Ok(())
}

/// Makes the name of a new folder durable: without it a power cut takes all that is in it. Where the folder above may
/// not be read, the file system has to do so itself, as most do.
fn keep_name(folder: &Path) {
    let above = match folder.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => return,
    };
    let _ = fs::File::open(above).and_then(|above| above.sync_all());
}

/// Checks that a folder is there and that only its owner, who we are, can write to it.
///
/// # Errors
/// As [`own_folder`], or it is not there.
pub(super) fn check_folder(folder: &Path) -> Result<(), StoreError> {
    let meta = fs::symlink_metadata(folder).map_err(io_error(folder, "read the store"))?;
    if meta.is_symlink() {
        let leads = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
        return Err(StoreError::Unsafe {
            path: folder.to_path_buf(),
            why: "a symbolic link: whoever can change it decides what is written".to_owned(),
            remedy: if folder
                .parent()
                .is_some_and(|above| above.join(META).exists())
            {
                let (link, leads) = (shell(folder), shell(&leads));
                format!("put the folder itself in its place: rm {link} && mv {leads} {link}")
            } else {
                format!(
                    "name the folder that it leads to: --store {}",
                    shell(&leads)
                )
            },
        });
    }
    let us = rustix::process::geteuid().as_raw();
    check(folder, &meta, &[us])
}

/// Checks that what is in a folder was written by us or by root: nobody else may write there, or own it. A link is
/// followed.
///
/// # Errors
/// As [`check_folder`].
pub(super) fn check_trust(folder: &Path) -> Result<(), StoreError> {
    let meta = fs::metadata(folder).map_err(io_error(folder, "read the store"))?;
    let us = rustix::process::geteuid().as_raw();
    check(folder, &meta, &[us, 0])
}

fn check(folder: &Path, meta: &fs::Metadata, owners: &[u32]) -> Result<(), StoreError> {
    if !meta.is_dir() {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(io_error(folder, "read the store")(error));
    }
    let wrong = |why, remedy| {
        Err(StoreError::Unsafe {
            path: folder.to_path_buf(),
            why,
            remedy,
        })
    };
    let (owner, mode, name) = (meta.uid(), meta.mode() & 0o7777, shell(folder));
    if !owners.contains(&owner) {
        let remedy = match owners {
            [us, ..] if *us != 0 => format!("run aiops as its owner, user {owner}"),
            _ => format!("if you trust what is in it: chown -R root {name} && chmod 0700 {name}"),
        };
        return wrong(
            format!("its owner is user {owner}, not the one who runs aiops"),
            remedy,
        );
    }
    if mode & 0o022 != 0 {
        return wrong(
            format!("not only its owner can write to it (mode {mode:04o})"),
            format!("if you trust what is in it: chmod 0700 {name}"),
        );
    }
    Ok(())
}

/// Takes from others what they may do in a folder of ours.
///
/// # Errors
/// The system refuses.
pub(super) fn close_folder(folder: &Path) -> Result<(), StoreError> {
    let close = || -> io::Result<()> {
        let meta = fs::symlink_metadata(folder)?;
        if meta.mode() & 0o077 == 0 {
            return Ok(());
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
    };
    close().map_err(io_error(folder, "make private"))
}

/// What keeps a folder from being private, and the remedy: others can read what is in it.
pub(super) fn exposed(folder: &Path) -> Option<String> {
    if check_trust(folder).is_err() || !folder.join(META).exists() {
        return None;
    }
    let mode = fs::metadata(folder).ok()?.mode() & 0o7777;
    (mode & 0o055 != 0).then(|| {
        format!(
            "{}: others can read this store (mode {mode:04o}); it holds command lines: chmod 0700 {}",
            folder.display(),
            shell(folder)
        )
    })
}

fn no_regular(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, NOT_REGULAR)
}

/// A link that is not followed, and a socket.
fn is_odd(error: &io::Error) -> bool {
    [Some(libc::ELOOP), Some(libc::ENXIO)].contains(&error.raw_os_error())
}

/// Opens a file of a store for reading: every reader does so here. A link is not followed, and what is no regular file
/// (a pipe would wait for ever) is refused with `InvalidData`: it is damage.
///
/// # Errors
/// The system refuses, or it is no regular file.
pub(super) fn open(path: &Path) -> io::Result<fs::File> {
    let odd = || no_regular(io::ErrorKind::InvalidData);
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
        .map_err(|error| if is_odd(&error) { odd() } else { error })?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(odd())
    }
}

/// Reads a small file of a store, or beside its tails, as [`open`] does.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file that only we may read, and makes it where it is not there; a link is not followed.
///
/// # Errors
/// The system refuses, or it is no regular file (`InvalidInput`).
pub(super) fn private_file(path: &Path) -> io::Result<fs::File> {
    let odd = || no_regular(io::ErrorKind::InvalidInput);
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path);
    match file {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Err(error) if !is_odd(&error) && error.raw_os_error() != Some(libc::EISDIR) => Err(error),
        Ok(_) | Err(_) => Err(odd()),
    }
}

/// Which folder it is, whatever its name: a copy is another one.
fn key(folder: &Path) -> Option<String> {
    let meta = fs::metadata(folder).ok()?;
    Some(format!("{:x}-{:x}", meta.dev(), meta.ino()))
}

/// Folder of a store, beside its logs, where there is no better place for its newest frames.
const TAILS: &str = "tails";
/// In a folder of tails: whose they are.
const OF: &str = "store";
/// What a killed writer left goes after this, unless its store is there.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// A folder that changed since then may be of a writer that starts: its store says so a moment later.
const SETTLED: Duration = Duration::from_secs(3600);

/// Where a store's newest frames go: a folder of its own on a tmpfs, else one beside its logs. What stands there for
/// stores that are gone is removed.
pub(super) fn tails_for(store: &Path) -> PathBuf {
    let user = rustix::process::geteuid().as_raw();
    let homes = [
        PathBuf::from("/run/aiops"),
        PathBuf::from(format!("/run/user/{user}/aiops")),
        PathBuf::from(format!("/dev/shm/aiops-{user}")),
    ];
    for home in &homes {
        sweep_home(home);
    }
    let name = key(store);
    let found = name.and_then(|name| tails_in(&homes, &name));
    if let Some(folder) = &found {
        let whole = fs::canonicalize(store).unwrap_or_else(|_| store.to_path_buf());
        let _ = private_file(&folder.join(OF)).and_then(|mut file| {
            file.set_len(0)?;
            file.write_all(whole.as_os_str().as_bytes())
        });
    }
    found.unwrap_or_else(|| store.join(TAILS))
}

/// Removes folders of tails whose stores are gone, or keep them elsewhere. Frames that no log has yet stay for a day.
fn sweep_home(home: &Path) {
    if check_folder(home).is_err() {
        return;
    }
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let folder = entry.path();
        let Ok(store) = read(&folder.join(OF)) else {
            continue;
        };
        let store = PathBuf::from(OsString::from_vec(store));
        let used = match Meta::read(&store) {
            Ok(Some(meta)) => meta.tails_of(&store) == folder,
            Ok(None) => false,
            // Not to be looked at is not gone.
            Err(_) => true,
        };
        let waits = |entry: fs::DirEntry| {
            let meta = entry.metadata().ok()?;
            let is_tail = entry.path().extension().is_some_and(|end| end == "tail");
            let age = meta.modified().ok()?.elapsed().unwrap_or_default();
            (is_tail && meta.len() > 0 && age < STALE).then_some(())
        };
        let changed = entry.metadata().and_then(|meta| meta.modified());
        let age = changed.map(|at| at.elapsed().unwrap_or_default());
        let settled = age.is_ok_and(|age| age >= SETTLED);
        let mut entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        if settled && !used && entries.find_map(waits).is_none() {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Removes a folder of tails that holds nothing any more.
pub(super) fn leave(tails: &Path) {
    let entries = fs::read_dir(tails).into_iter().flatten().flatten();
    let mut others = entries.filter(|entry| entry.file_name() != OF);
    if others.next().is_none() {
        let _ = fs::remove_file(tails.join(OF));
        let _ = fs::remove_dir(tails);
    }
}

/// The folder `name` in the first home on a tmpfs that nobody else can write to: who can rename in the home decides
/// what stands in the folder.
fn tails_in(homes: &[PathBuf], name: &str) -> Option<PathBuf> {
    let on_tmpfs = |folder: &Path| {
        let tmpfs = 0x0102_1994;
        rustix::fs::statfs(folder).is_ok_and(|kind| kind.f_type == tmpfs)
    };
    // Nothing is made where it could not stay.
    let would_be = |home: &&PathBuf| {
        let there = home.ancestors().find(|folder| folder.exists());
        there.is_some_and(on_tmpfs)
    };
    let homes = homes.iter().filter(would_be);
    let homes = homes.filter(|home| own_folder(home).is_ok());
    homes
        .map(|home| home.join(name))
        .find(|folder| own_folder(folder).is_ok() && on_tmpfs(folder))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_home_that_others_can_write_to_is_passed_over() {
        let place = PathBuf::from(format!("/dev/shm/aiops-place-{}", std::process::id()));
        if fs::create_dir(&place).is_err() {
            println!("SKIPPED: no /dev/shm to write to");
            return;
        }
        let homes = ["open", "link", "own"].map(|name| place.join(name));
        let open = fs::Permissions::from_mode(0o777);
        let made = fs::create_dir(&homes[0])
            .and_then(|()| fs::set_permissions(&homes[0], open))
            .and_then(|()| std::os::unix::fs::symlink(&homes[0], &homes[1]));
        let found = tails_in(&homes, "leaf");
        let none = tails_in(&homes[..2], "leaf");
        let left = fs::read_dir(&homes[0]).map(Iterator::count);
        let _ = fs::remove_dir_all(&place);
        made.unwrap();
        assert_eq!((found, none), (Some(homes[2].join("leaf")), None));
        assert_eq!(left.unwrap(), 0, "nothing is made there");
    }

    #[test]
    fn nothing_is_made_in_a_home_that_is_on_a_disk() {
        let home = PathBuf::from(format!("/sys/aiops-place-{}", std::process::id()));
        let place = std::env::temp_dir().join(format!("aiops-disk-{}", std::process::id()));
        let found = tails_in(&[home, place.clone()], "leaf");
        let left = place.exists();
        let _ = fs::remove_dir_all(&place);
        assert_eq!(left, found.is_some());
    }

    #[test]
    fn tails_of_stores_that_are_gone_are_removed() {
        let place = std::env::temp_dir().join(format!("aiops-home-{}", std::process::id()));
        let (home, store) = (place.join("home"), place.join("store"));
        let folders = ["gone", "waits", "used", "other"].map(|name| home.join(name));
        let made = || -> Result<(), StoreError> {
            own_folder(&store)?;
            Meta::new(&Host::default(), &store, folders[2].clone()).write(&store)?;
            for (folder, of) in folders.iter().zip(["none", "none", "store", "store"]) {
                own_folder(folder)?;
                let of = place.join(of);
                let write = || fs::write(folder.join(OF), of.as_os_str().as_bytes());
                write().map_err(io_error(folder, "write"))?;
            }
            let tail = folders[1].join("1.tail");
            fs::write(&tail, b"frames").map_err(io_error(&tail, "write"))?;
            sweep_home(&home);
            assert!(
                folders.iter().all(|folder| folder.exists()),
                "one may be starting"
            );
            let before = SystemTime::now() - 2 * SETTLED;
            for folder in &folders {
                let age = || fs::File::open(folder)?.set_modified(before);
                age().map_err(io_error(folder, "age"))?;
            }
            Ok(())
        };
        let made = made();
        sweep_home(&home);
        let left = folders.each_ref().map(|folder| folder.exists());
        leave(&folders[1]);
        leave(&folders[2]);
        let then = folders.each_ref().map(|folder| folder.exists());
        let _ = fs::remove_dir_all(&place);
        made.unwrap();
        assert_eq!(left, [false, true, true, false]);
        assert_eq!(then, [false, true, false, false]);
    }
}
