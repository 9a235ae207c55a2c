//! /proc/PID as one open folder: every file read through it belongs to the same process, for once the
//! process is gone its files fail with ESRCH even when the pid is used again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;

/// Flags of every open: never a terminal, never wait for a FIFO's other end.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY)
    .union(OFlags::NONBLOCK);

/// The open folder of a process.
#[derive(Debug)]
pub struct ProcDir {
    dir: OwnedFd,
}

impl ProcDir {
    /// Opens ROOT/proc/PID.
    ///
    /// # Errors
    /// As open(2): `NotFound` when the process is gone.
    pub fn open(root: &Path, pid: u32) -> io::Result<Self> {
        let path = root.join("proc").join(pid.to_string());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { dir })
    }

    /// The folder of another thread than the first, when there is one.
    #[must_use]
    pub fn thread(&self, pid: u32) -> Option<Self> {
        let dir = super::procfs::live_thread(self.dir.as_fd(), pid)?;
        Some(Self { dir })
    }

    /// The folder of a process that is open already.
    ///
    /// # Errors
    /// As dup(2): no descriptor is left.
    pub fn of(dir: BorrowedFd<'_>) -> io::Result<Self> {
        let dir = dir.try_clone_to_owned()?;
        Ok(Self { dir })
    }

    /// The first `limit` bytes of a file of the process.
    ///
    /// # Errors
    /// As openat(2) and read(2).
    pub fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let file = rustix::fs::openat(&self.dir, name, READ, Mode::empty())?;
        // Most files of /proc are smaller than this: one read for them and one for their end.
        let mut bytes = Vec::with_capacity(limit.min(4096));
        while bytes.len() < limit {
            bytes.reserve(1024);
            if rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes))? == 0 {
                break;
            }
        }
        bytes.truncate(limit);
        Ok(bytes)
    }

    /// Opens a file below the folder, `map_files/…` or `root/…`, without waiting.
    ///
    /// # Errors
    /// As openat(2).
    pub fn file(&self, name: &[u8]) -> io::Result<File> {
        Ok(rustix::fs::openat(&self.dir, name, READ, Mode::empty())?.into())
    }

    /// Opens a file of the host by its absolute path, without waiting.
    ///
    /// # Errors
    /// As open(2).
    pub fn host_file(path: &[u8]) -> io::Result<File> {
        Ok(rustix::fs::open(path, READ, Mode::empty())?.into())
    }

    /// Where a link such as `exe` points.
    ///
    /// # Errors
    /// As readlinkat(2).
    pub fn link(&self, name: &str) -> io::Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(&self.dir, name, Vec::new())?;
        Ok(target.into_bytes())
    }

    /// The facts of /proc/PID/stat.
    ///
    /// # Errors
    /// As reading it; `InvalidData` when it is not understood.
    pub fn stat(&self) -> io::Result<Stat> {
        Stat::parse(&self.read("stat", 4096)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// What identity needs of /proc/PID/stat (fs/proc/array.c, `do_task_stat`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Name, as it is.
    pub comm: Vec<u8>,
    /// Parent's process id.
    pub ppid: u32,
    /// Whether it is ending (`PF_EXITING`) or a zombie: its files say less from then on.
    pub exiting: bool,
    /// Start, clock ticks since boot.
    pub start_ticks: u64,
}

impl Stat {
    /// Reads `PID (COMM) STATE PPID …`; the name may hold blanks and parentheses.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        const PF_EXITING: u64 = 4;
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let comm = text.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(&text[close + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let state = fields.first()?;
        let flags: u64 = fields.get(6)?.parse().ok()?;
        Some(Self {
            comm,
            ppid: fields.get(1)?.parse().ok()?,
            exiting: matches!(*state, "Z" | "X") || flags & PF_EXITING != 0,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let dir = ProcDir::open(Path::new("/"), std::process::id()).unwrap();
        let stat = dir.stat().unwrap();
        assert!(!stat.exiting && stat.start_ticks > 0);
        assert_eq!(stat.ppid, std::os::unix::process::parent_id());
        let exe = dir.link("exe").unwrap();
        assert_eq!(
            exe,
            std::env::current_exe()
                .unwrap()
                .as_os_str()
                .as_encoded_bytes()
        );
        assert_eq!(dir.read("stat", 3).unwrap().len(), 3);
    }

    #[test]
    fn names_may_hold_anything() {
        let tail = " Z 7 1 1 0 -1 4194308 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let stat = Stat::parse(format!("5 (a) (b) S){tail}").as_bytes()).unwrap();
        assert_eq!(stat.comm, b"a) (b) S");
        assert_eq!((stat.ppid, stat.start_ticks, stat.exiting), (7, 4242, true));
        for bad in ["", "5", ")(", "5 (a", "5 (a) S 1"] {
            assert_eq!(Stat::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
