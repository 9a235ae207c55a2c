//! Where a store is, whose it is, and where its newest frames stand.
//!
//! `STORE/store.json` says which host writes it and where that keeps the frames that are not yet durable: a
//! folder on a tmpfs, so that they survive a kill of the writer and cost the disk nothing.

use std::fs;
use std::fs::DirBuilder;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use super::StoreError;
use super::wal::io_error;
use crate::model::Host;

/// Version of a store's layout.
pub(super) const SCHEMA: u32 = 1;
/// The file.
const META: &str = "store.json";

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
}

impl Meta {
    /// A new store of a host.
    pub(super) fn new(host: &Host, tails: PathBuf) -> Self {
        Self {
            schema: SCHEMA,
            hostname: host.hostname.lossy().into_owned(),
            machine_id: machine_id(),
            tails,
        }
    }

    /// Reads that of a store; `None`: it has none yet.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or is of a later aiops.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = folder.join(META);
        let bytes = match fs::read(&path) {
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
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
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
    if !meta.is_dir() && !meta.is_symlink() {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(io_error(folder, "read the store")(error));
    }
    let own = meta.uid() == rustix::process::geteuid().as_raw();
    if !meta.is_dir() || !own || meta.mode() & 0o022 != 0 {
        return Err(StoreError::Unsafe {
            path: folder.to_path_buf(),
        });
    }
    Ok(())
}

/// Opens a file that only we may read, and makes it where it is not there; a link is not followed.
///
/// # Errors
/// The system refuses.
pub(super) fn private_file(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

/// Where a store's newest frames go: a folder of its own on a tmpfs, else one beside its logs.
pub(super) fn tails_for(store: &Path) -> PathBuf {
    let whole = fs::canonicalize(store).unwrap_or_else(|_| store.to_path_buf());
    let name = format!(
        "{:08x}",
        crc32c::crc32c(whole.as_os_str().as_encoded_bytes())
    );
    let user = rustix::process::geteuid().as_raw();
    let homes = [
        PathBuf::from("/run/aiops"),
        PathBuf::from(format!("/run/user/{user}/aiops")),
        PathBuf::from(format!("/dev/shm/aiops-{user}")),
    ];
    tails_in(&homes, &name).unwrap_or_else(|| store.join("tails"))
}

/// The folder `name` in the first home on a tmpfs that nobody else can write to: who can rename in the home decides
/// what stands in the folder.
fn tails_in(homes: &[PathBuf], name: &str) -> Option<PathBuf> {
    let on_tmpfs = |folder: &Path| {
        let tmpfs = 0x0102_1994;
        rustix::fs::statfs(folder).is_ok_and(|kind| kind.f_type == tmpfs)
    };
    let homes = homes.iter().filter(|home| own_folder(home).is_ok());
    homes
        .map(|home| home.join(name))
        .find(|folder| own_folder(folder).is_ok() && on_tmpfs(folder))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
}
