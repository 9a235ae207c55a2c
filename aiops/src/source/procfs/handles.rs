//! What one process has open, and its heap: read of the few that are judged, never of every process of a host.
//!
//! `/proc/PID/fd` is counted by its entries; its links tell sockets. The heap is the mapping `[heap]` (what brk(2)
//! gave), which stands behind those of the program's file: smaps is read no further.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;

use rustix::fs::Dir;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use super::number;
use crate::source::procdir::ProcDir;

/// With more open files than this, sockets are not told.
const MOST_LINKS: u64 = 20_000;
/// The heap is among the first mappings, or there is none.
const MOST_MAPPINGS: usize = 64;
/// Lines of them, at about 25 each.
const MOST_LINES: usize = 40 * MOST_MAPPINGS;

/// What was read; `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handles {
    /// Open file descriptors.
    pub fds: Option<u64>,
    /// Of them sockets: connections, and listening ones.
    pub sockets: Option<u64>,
    /// Resident memory of the heap; also `None` where there is no such mapping.
    pub heap_kb: Option<u64>,
}

/// Reads it of the process that started at this tick.
///
/// # Errors
/// It is gone, or another process has its id.
pub fn read_handles(root: &Path, pid: u32, start_ticks: u64) -> io::Result<Handles> {
    let dir = ProcDir::open(root, pid)?;
    if dir.stat()?.start_ticks != start_ticks {
        return Err(io::ErrorKind::NotFound.into());
    }
    let fds = descriptors(root, pid).ok();
    let heap_kb = dir
        .file(b"smaps")
        .ok()
        .and_then(|file| heap(&mut BufReader::with_capacity(4096, file)));
    // What was listed may be of another one that has the id by now; this file is not.
    dir.stat()?;
    Ok(Handles {
        fds: fds.map(|(fds, _)| fds),
        sockets: fds.and_then(|(_, sockets)| sockets),
        heap_kb,
    })
}

/// Open descriptors, and the sockets among them.
fn descriptors(root: &Path, pid: u32) -> io::Result<(u64, Option<u64>)> {
    let path = root.join(format!("proc/{pid}/fd"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty())?;
    let (mut fds, mut sockets) = (0, 0);
    let mut buffer = [0_u8; 64];
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        fds += 1;
        if fds > MOST_LINKS {
            continue;
        }
        if let Ok(n) = rustix::fs::readlinkat_raw(&folder, name, &mut buffer) {
            sockets += u64::from(buffer[..n].starts_with(b"socket:"));
        }
    }
    Ok((fds, (fds <= MOST_LINKS).then_some(sockets)))
}

/// Resident memory of `[heap]` in smaps.
fn heap(text: &mut dyn BufRead) -> Option<u64> {
    let (mut mappings, mut inside) = (0, false);
    for line in text.split(b'\n').take(MOST_LINES) {
        let line = line.ok()?;
        // A heading begins with an address, whose digits are lower case; keys begin with a capital.
        if line.first().is_some_and(u8::is_ascii_uppercase) {
            if let (true, Some(kb)) = (inside, line.strip_prefix(b"Rss:")) {
                return number(kb.strip_suffix(b"kB").unwrap_or(kb).trim_ascii());
            }
            continue;
        }
        mappings += 1;
        inside = line.ends_with(b" [heap]");
        if mappings > MOST_MAPPINGS {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_heap_is_found_among_the_first_mappings() {
        let mapping = |name: &str, rss: u32| {
            format!(
                "55d0a000-55d0b000 rw-p 00000000 00:00 0    {name}\nSize: 900 kB\nRss:    {rss} kB\nPss: 1 kB\n"
            )
        };
        let text = [mapping("/bin/a", 5), mapping("[heap]", 77)].concat();
        assert_eq!(heap(&mut text.as_bytes()), Some(77));
        assert_eq!(heap(&mut mapping("/bin/a", 5).as_bytes()), None);
        let far = [
            mapping("/bin/a", 5).repeat(MOST_MAPPINGS),
            mapping("[heap]", 7),
        ]
        .concat();
        assert_eq!(heap(&mut far.as_bytes()), None);
        assert_eq!(heap(&mut &b"55-56 [heap]\nRss: x kB\n"[..]), None);
    }

    #[test]
    fn open_files_and_sockets_of_this_process_are_counted() {
        let itself = std::process::id();
        let start = ProcDir::open(Path::new("/"), itself)
            .and_then(|dir| dir.stat())
            .expect("itself")
            .start_ticks;
        let kept: Vec<_> = (0..500)
            .map(|_| UnixStream::pair().expect("sockets"))
            .collect();
        let found = read_handles(Path::new("/"), itself, start).expect("itself");
        let (fds, sockets) = (found.fds.expect("files"), found.sockets.expect("sockets"));
        assert!(sockets >= 1000 && fds >= sockets + 3, "{found:?}");
        drop(kept);
        assert!(read_handles(Path::new("/"), itself, start + 1).is_err());
    }
}
