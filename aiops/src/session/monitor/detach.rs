//! `--daemon`: the same program again, in a session of its own, with a log in place of a terminal.
//!
//! The parent waits until its child can do its work: until then what the child says goes to the parent's
//! stderr, and an error of the child is the parent's. Then the child's stderr becomes STORE/monitor.log.

use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use rustix::fs::OFlags;

use crate::diag;

/// Set for the child.
const CHILD: &str = "AIOPS_DETACHED";
/// What the child writes to its parent when it works.
const READY: &[u8] = b"ready\n";
/// The log is begun anew when it is larger.
const LOG_MOST: u64 = 1 << 20;

/// Whether this process is the child of one that detached it.
#[must_use]
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Starts the program again with these arguments, detached, and waits until it works; its process id, or
/// `None` when it has ended with an error that it told.
///
/// # Errors
/// It cannot be started.
pub fn start(args: &[OsString]) -> anyhow::Result<Option<u32>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(args)
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut word = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout
            .by_ref()
            .take(READY.len() as u64)
            .read_to_end(&mut word)?;
    }
    let ready = word == READY;
    if let Some(stderr) = child.stderr.take() {
        if ready {
            // Helpers of the child may still hold the pipe: what is in it now is all that counts.
            rustix::fs::fcntl_setfl(&stderr, OFlags::NONBLOCK)?;
        }
        let lines = BufReader::new(stderr).split(b'\n');
        for said in lines.map_while(Result::ok) {
            diag::forward(&String::from_utf8_lossy(&said));
        }
    }
    if ready {
        return Ok(Some(child.id()));
    }
    child.wait()?;
    Ok(None)
}

/// The child's side: where it logs.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
}

impl Log {
    /// Leaves the session and the folder of whoever started it.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn leave() -> io::Result<()> {
        rustix::process::setsid()?;
        rustix::process::chdir("/")?;
        Ok(())
    }

    /// Tells the parent that it may go, and logs from now on.
    ///
    /// # Errors
    /// The log cannot be opened.
    pub(super) fn begin(store: &Path) -> io::Result<Self> {
        let log = Self {
            path: store.join("monitor.log"),
        };
        log.open()?;
        let mut parent = io::stdout().lock();
        // A parent that is gone waits for nothing.
        let _ = parent.write_all(READY).and_then(|()| parent.flush());
        drop(parent);
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        Ok(log)
    }

    fn open(&self) -> io::Result<()> {
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            // A pipe would wait for its reader.
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
            .open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        rustix::stdio::dup2_stderr(&file)?;
        Ok(())
    }

    /// Puts a log that has grown too large aside, in the place of the one before.
    pub(super) fn rotate(&self) {
        if fs::metadata(&self.path).is_ok_and(|meta| meta.len() > LOG_MOST) {
            let old = self.path.with_extension("log.1");
            // Where it cannot be moved it grows on: it is still a log.
            let _ = fs::rename(&self.path, old).and_then(|()| self.open());
        }
    }
}

/// Tells systemd, where it started us and waits for a word (sd_notify(3)).
pub(super) fn notify(state: &str) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match place.as_bytes() {
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(name)
        }
        _ => SocketAddr::from_pathname(&place),
    };
    // Who does not listen is not told.
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}
