//! Files that processes hold open or mapped: /proc/PID/fd and /proc/PID/maps.

use std::collections::HashMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::FileKey;
use super::FileResidency;
use super::Holder;
use super::MAX_HOLDERS;
use super::Worker;
use super::facts;
use super::pin;
use crate::model::RawText;
use crate::source::maps::path_bytes;
use crate::source::procdir::ProcDir;

/// Mapping lines of one process that are looked at.
const MAX_LINES: usize = 200_000;

/// How a file can be reached: a magic link below /proc, which needs no path.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    link: String,
    path: Vec<u8>,
    key: FileKey,
    size: u64,
    links: u64,
}

/// Lists the files that processes hold, and remembers who does.
pub(super) fn list(worker: &mut Worker, end: Option<Instant>) -> Vec<Candidate> {
    let mut listing = Listing::default();
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let own = std::process::id();
    for (index, pid) in pids.iter().enumerate() {
        if worker.over_at(end) {
            let left = pids.len().saturating_sub(index) as u64;
            worker.shared.count(|counts| counts.not_listed += left);
            break;
        }
        if *pid == own {
            continue;
        }
        worker.mounts.learn(&pid.to_string());
        // Any other error: it is gone, and holds nothing any more.
        if let Err(Errno::ACCESS | Errno::PERM) = listing.process(worker, *pid) {
            worker.shared.count(|counts| counts.denied_processes += 1);
        }
    }
    let mut found = listing.found;
    // The largest first: should the time not suffice, what counts most was looked at.
    found.sort_by_key(|candidate| std::cmp::Reverse(candidate.size));
    worker
        .shared
        .count(|counts| counts.found = found.len() as u64);
    found
}

/// Looks at the listed files.
pub(super) fn look(worker: &mut Worker, listed: Vec<Candidate>) {
    let all = listed.len();
    for (index, candidate) in listed.into_iter().enumerate() {
        if worker.over() {
            let left = all.saturating_sub(index) as u64;
            worker.shared.count(|counts| counts.not_reached += left);
            return;
        }
        let pinned = pin(rustix::fs::CWD, candidate.link.as_bytes(), true);
        let same = pinned.and_then(|pinned| {
            // The descriptor may have become another file.
            let now = facts(&pinned, b"", true)?;
            if now.key == candidate.key && now.kind == FileType::RegularFile {
                Ok((pinned, now))
            } else {
                Err(Errno::NOENT)
            }
        });
        match same {
            Ok((pinned, now)) => {
                let gone = candidate.links == 0;
                let deleted = gone && !never_named(&candidate.path);
                let path = if gone {
                    candidate
                        .path
                        .strip_suffix(b" (deleted)")
                        .map(<[u8]>::to_vec)
                } else {
                    None
                };
                let file = FileResidency {
                    path: RawText::new(path.unwrap_or(candidate.path)),
                    key: candidate.key,
                    size_bytes: now.size,
                    deleted,
                    ..FileResidency::default()
                };
                worker.look(&pinned, file, false);
            }
            Err(error) => worker.missed(error),
        }
    }
}

/// Memory that the kernel names like a deleted file, though it never had a name: shared anonymous memory,
/// System V segments, memfds, rings of asynchronous I/O.
fn never_named(path: &[u8]) -> bool {
    let names: [&[u8]; 5] = [
        b"/dev/zero (",
        b"/SYSV",
        b"/memfd:",
        b"/[aio]",
        b"/anon_hugepage",
    ];
    names.iter().any(|name| path.starts_with(name))
}

/// `PF_KTHREAD` (include/linux/sched.h) in the flags of /proc/PID/stat: it holds no files.
fn kernel_thread(stat: &[u8]) -> bool {
    const KTHREAD: u64 = 0x0020_0000;
    let Some(end) = stat.iter().rposition(|byte| *byte == b')') else {
        return false;
    };
    let rest = String::from_utf8_lossy(stat.get(end + 1..).unwrap_or_default()).into_owned();
    let flags = rest.split_whitespace().nth(6);
    flags
        .and_then(|flags| flags.parse::<u64>().ok())
        .is_some_and(|flags| flags & KTHREAD != 0)
}

#[derive(Default)]
struct Listing {
    found: Vec<Candidate>,
    /// Mapped files by the device and inode of maps, to what stat says: some file systems differ.
    mapped: HashMap<(u32, u32, u64), Option<FileKey>>,
}

impl Listing {
    fn process(&mut self, worker: &mut Worker, pid: u32) -> Result<(), Errno> {
        let dir = ProcDir::open(Path::new("/"), pid)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::SRCH))?;
        let comm = dir.read("comm", 64).unwrap_or_default();
        let holder = Holder {
            pid,
            comm: RawText::new(comm.strip_suffix(b"\n").unwrap_or(&comm)),
        };
        if kernel_thread(&dir.read("stat", 4096).unwrap_or_default()) {
            return Ok(());
        }
        let base = format!("/proc/{pid}");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fds = rustix::fs::open(format!("{base}/fd"), flags, Mode::empty())?;
        self.descriptors(worker, &dir, &base, &fds, &holder)?;
        self.mappings(worker, &dir, &base, &holder);
        Ok(())
    }

    fn descriptors(
        &mut self,
        worker: &mut Worker,
        dir: &ProcDir,
        base: &str,
        fds: &OwnedFd,
        holder: &Holder,
    ) -> Result<(), Errno> {
        for entry in Dir::read_from(fds)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let Some(number) = std::str::from_utf8(name)
                .ok()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let Ok(target) = rustix::fs::readlinkat(fds, name, Vec::new()) else {
                continue;
            };
            let path = target.into_bytes();
            // Pipes, sockets and the like have no path.
            if !path.starts_with(b"/") || path.starts_with(b"/proc/") {
                continue;
            }
            if mount_id(dir, number).is_some_and(|id| worker.mounts.avoids_id(id)) {
                worker.shared.count(|counts| counts.network += 1);
                continue;
            }
            let link = format!("{base}/fd/{number}");
            self.add(worker, link, path, holder);
        }
        Ok(())
    }

    fn mappings(&mut self, worker: &mut Worker, dir: &ProcDir, base: &str, holder: &Holder) {
        let Ok(file) = dir.file(b"maps") else { return };
        let mut last = None;
        for line in BufReader::new(file).split(b'\n').take(MAX_LINES) {
            let Ok(line) = line else { return };
            let Some(mapping) = mapping(&line) else {
                continue;
            };
            // A library has several mappings, one after the other.
            if last == Some(mapping.id) {
                continue;
            }
            last = Some(mapping.id);
            let known = self.mapped.get(&mapping.id).copied();
            if let Some(known) = known {
                if let Some(key) = known {
                    hold(worker, key, holder);
                }
                continue;
            }
            if worker.mounts.avoids_device(mapping.id.0, mapping.id.1) {
                worker.shared.count(|counts| counts.network += 1);
                self.mapped.insert(mapping.id, None);
                continue;
            }
            let link = format!("{base}/map_files/{}", mapping.range);
            let key = self.add(worker, link, mapping.path, holder);
            self.mapped.insert(mapping.id, key);
        }
    }

    /// Takes a file; its key when it is a regular one.
    fn add(
        &mut self,
        worker: &mut Worker,
        link: String,
        path: Vec<u8>,
        holder: &Holder,
    ) -> Option<FileKey> {
        let found = match facts(rustix::fs::CWD, link.as_bytes(), true) {
            Ok(found) => found,
            Err(error) => {
                worker.missed(error);
                return None;
            }
        };
        if found.kind != FileType::RegularFile {
            if found.kind != FileType::Directory {
                worker.shared.count(|counts| counts.not_regular += 1);
            }
            return None;
        }
        hold(worker, found.key, holder);
        if worker.seen.insert(found.key) {
            self.found.push(Candidate {
                link,
                path,
                key: found.key,
                size: found.size,
                links: found.links,
            });
        }
        Some(found.key)
    }
}

/// Remembers a holder, once.
fn hold(worker: &mut Worker, key: FileKey, holder: &Holder) {
    let (holders, count) = worker.holders.entry(key).or_default();
    // Processes come one after the other: who holds it twice is the last.
    if holders.last().is_some_and(|last| last.pid == holder.pid) {
        return;
    }
    *count += 1;
    if holders.len() < MAX_HOLDERS {
        holders.push(holder.clone());
    }
}

/// `mnt_id:` of /proc/PID/fdinfo/N (since Linux 3.15).
fn mount_id(dir: &ProcDir, number: u32) -> Option<u64> {
    let text = dir.read(&format!("fdinfo/{number}"), 4096).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    line.trim().parse().ok()
}

struct Mapping {
    /// As map_files names it.
    range: String,
    id: (u32, u32, u64),
    path: Vec<u8>,
}

/// `7f00-7f10 r-xp 00001000 fe:00 7   /path`; `None` for what is no file.
fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (range, _, _, device, inode) = (text()?, text()?, text()?, text()?, text()?);
    let inode: u64 = inode.parse().ok().filter(|inode| *inode > 0)?;
    let (major, minor) = device.split_once(':')?;
    let (start, end) = range.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let hex32 = |text: &str| u32::from_str_radix(text, 16).ok();
    let path = path_bytes(fields.next().unwrap_or_default().trim_ascii_start());
    Some(Mapping {
        // map_files has no leading zeros.
        range: format!("{:x}-{:x}", hex(start)?, hex(end)?),
        id: (hex32(major)?, hex32(minor)?, inode),
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_threads_and_memory_without_a_name() {
        assert!(kernel_thread(b"2 (a) b) S 0 0 0 0 -1 2129984 0 0"));
        assert!(!kernel_thread(b"1 (init) S 0 1 1 0 -1 4194560 0 0"));
        assert!(!kernel_thread(b"") && !kernel_thread(b"1 (x)"));
        assert!(never_named(b"/memfd:x (deleted)") && never_named(b"/dev/zero (deleted)"));
        assert!(!never_named(b"/tmp/SYSV (deleted)") && !never_named(b"/dev/zeroes (deleted)"));
    }

    #[test]
    fn mapping_lines() {
        let found =
            mapping(b"08048000-08056000 r-xp 00001000 fe:10 7     /a b\\012c (deleted)").unwrap();
        assert_eq!(found.range, "8048000-8056000");
        assert_eq!(found.id, (0xfe, 0x10, 7));
        assert_eq!(found.path, b"/a b\nc (deleted)");
        for bad in [
            &b""[..],
            b"1-2 r 0 0:0 0",
            b"zz-1 r 0 0:0 5 /x",
            b"1-2 r 0 00 5",
        ] {
            assert!(mapping(bad).is_none());
        }
    }
}
