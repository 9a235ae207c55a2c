//! How much of a file is in memory: cachestat(2) (Linux 6.5), else mincore(2) on a mapping that nobody touches.
//!
//! Nothing is read, so that looking changes nothing. Only regular files are opened, after their type is
//! known; file systems that wait for another host or program are left alone; all of it happens on a thread
//! of its own, so that a system call that hangs costs no more than the time limit.

mod held;
mod mounts;
mod walk;

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::StatxFlags;
use rustix::io::Errno;

use crate::model::RawText;

/// Device and inode: one file, whatever its names.
pub type FileKey = (u64, u64);

/// A process that has a file open or mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: RawText,
}

/// Processes named for each file; the others are counted.
pub const MAX_HOLDERS: usize = 16;
/// Files kept with their figures: beyond that they are counted only.
pub const MAX_FILES: usize = 200_000;

/// A file and what of it is in memory.
#[derive(Clone, Debug, Default)]
pub struct FileResidency {
    /// One of its names.
    pub path: RawText,
    /// Device and inode.
    pub key: FileKey,
    /// Its length.
    pub size_bytes: u64,
    /// In the page cache.
    pub resident_bytes: u64,
    /// Waiting to be written (cachestat only).
    pub dirty_bytes: Option<u64>,
    /// Being written (cachestat only).
    pub writeback_bytes: Option<u64>,
    /// Reclaimed not long ago (cachestat only).
    pub recently_evicted_bytes: Option<u64>,
    /// It has no name any more.
    pub deleted: bool,
    /// Who has it open or mapped: the first [`MAX_HOLDERS`].
    pub holders: Vec<Holder>,
    /// How many have.
    pub holder_count: u64,
}

/// What was looked at, and what was not.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Regular files found, each once.
    pub found: u64,
    /// Of them looked at.
    pub looked: u64,
    /// Nothing of them is in memory (empty ones too).
    pub not_cached: u64,
    /// Found, but the time was over.
    pub not_reached: u64,
    /// Directories (or processes) that the time did not suffice for: their files are not known.
    pub not_listed: u64,
    /// Not regular: FIFOs, devices, sockets.
    pub not_regular: u64,
    /// On a file system that waits for another host or program, or that is no storage.
    pub network: u64,
    /// Symbolic links, which are not followed.
    pub symlinks: u64,
    /// No permission.
    pub denied: u64,
    /// Processes whose open files may not be listed.
    pub denied_processes: u64,
    /// Gone between listing and looking.
    pub vanished: u64,
    /// The file system cannot tell (hugetlbfs, for one), or another error.
    pub failed: u64,
    /// Looked at and cached, but beyond [`MAX_FILES`].
    pub not_kept: u64,
    /// It was ended from outside.
    pub stopped: bool,
    /// A system call did not come back in time.
    pub stalled: bool,
    /// Seconds that it took.
    pub elapsed_s: f64,
    /// `cachestat` or `mincore`; `None` when no file was looked at.
    pub method: Option<&'static str>,
}

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Directories and files; empty: what processes hold open or mapped.
    pub paths: Vec<PathBuf>,
    /// Most time.
    pub limit: Duration,
    /// Set from outside: what was seen so far is the answer.
    pub stop: Arc<AtomicBool>,
}

/// Shared by the thread that looks and the one that waits.
#[derive(Debug, Default)]
struct State {
    files: Vec<FileResidency>,
    counts: Counts,
    done: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().counts);
    }
}

/// A hanging call has this much more time before it is given up.
const GRACE: Duration = Duration::from_millis(500);
/// Between looks at whether it shall stop.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Between words about how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// Looks at files for at most the limit; `progress` is told about once a second. Sorted by resident bytes.
///
/// # Errors
/// A path of the request cannot be opened, or no thread can be made.
pub fn look(
    request: &Request,
    mut progress: impl FnMut(&Counts),
) -> io::Result<(Vec<FileResidency>, Counts)> {
    let begin = Instant::now();
    let end = begin.checked_add(request.limit);
    let shared = Arc::new(Shared::default());
    let mut mounts = mounts::Mounts::default();
    mounts.learn("self");
    // Before the thread: what the user named and got wrong is an error, not a count.
    let mut roots = Vec::new();
    for path in &request.paths {
        roots.extend(walk::root(path, &mounts, &shared)?);
    }
    let mut worker = Worker {
        shared: Arc::clone(&shared),
        end,
        mounts,
        seen: HashSet::new(),
        holders: HashMap::new(),
        mincore_only: false,
        stop: Arc::clone(&request.stop),
    };
    let named = !request.paths.is_empty();
    let limit = request.limit;
    std::thread::Builder::new()
        .name("residency".to_owned())
        .spawn(move || {
            if named {
                // Who holds them is worth a part of the time, not all of it.
                let part = begin.checked_add(limit / 3);
                let before = worker.shared.lock().counts.clone();
                let _ = held::list(&mut worker, part);
                worker.seen.clear();
                worker.shared.count(|counts| {
                    let denied_processes = counts.denied_processes;
                    *counts = Counts {
                        denied_processes,
                        ..before
                    };
                });
                walk::below(&mut worker, roots);
            } else {
                let listed = held::list(&mut worker, end);
                held::look(&mut worker, listed);
            }
            worker.shared.lock().done = true;
            worker.shared.changed.notify_all();
        })?;
    let mut last = end.and_then(|end| end.checked_add(GRACE));
    let mut told = begin;
    let mut state = shared.lock();
    while !state.done {
        let now = Instant::now();
        if request.stop.load(Ordering::Relaxed) && !state.counts.stopped {
            state.counts.stopped = true;
            let soon = now.checked_add(GRACE);
            last = soon.into_iter().chain(last).min();
        }
        if last.is_some_and(|last| now >= last) {
            // Whoever ended it does not want to know what hangs.
            state.counts.stalled = !state.counts.stopped;
            break;
        }
        let wait = last.map_or(LOOK_UP, |last| {
            last.saturating_duration_since(now).min(LOOK_UP)
        });
        let (guard, _) = shared
            .changed
            .wait_timeout(state, wait)
            .unwrap_or_else(PoisonError::into_inner);
        state = guard;
        if !state.done && told.elapsed() >= PROGRESS {
            told = Instant::now();
            progress(&state.counts);
        }
    }
    state.counts.stopped |= request.stop.load(Ordering::Relaxed);
    let (mut files, mut counts) = (std::mem::take(&mut state.files), state.counts.clone());
    drop(state);
    counts.elapsed_s = begin.elapsed().as_secs_f64();
    files.sort_by(|a, b| {
        let order = b.resident_bytes.cmp(&a.resident_bytes);
        order.then_with(|| a.path.cmp(&b.path))
    });
    Ok((files, counts))
}

/// The thread that looks.
struct Worker {
    shared: Arc<Shared>,
    end: Option<Instant>,
    mounts: mounts::Mounts,
    /// Files that were counted.
    seen: HashSet<FileKey>,
    holders: HashMap<FileKey, (Vec<Holder>, u64)>,
    /// This kernel has no cachestat.
    mincore_only: bool,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn over(&self) -> bool {
        self.over_at(self.end)
    }

    /// Whether it was ended from outside, or this moment has come.
    fn over_at(&self, end: Option<Instant>) -> bool {
        self.stop.load(Ordering::Relaxed) || end.is_some_and(|end| Instant::now() >= end)
    }

    /// Counts why a file could not be looked at.
    fn missed(&self, error: Errno) {
        self.shared.count(|counts| match error {
            Errno::ACCESS | Errno::PERM => counts.denied += 1,
            Errno::NOENT | Errno::SRCH => counts.vanished += 1,
            Errno::TIMEDOUT => counts.not_reached += 1,
            _ => counts.failed += 1,
        });
    }

    /// Looks at a file that is known to be regular; `always`: keep it even when nothing is in memory.
    fn look(&mut self, pinned: &OwnedFd, file: FileResidency, always: bool) {
        match self.pages(pinned, file.size_bytes) {
            Ok((found, method)) => self.keep(file, &found, method, always),
            Err(error) => self.missed(error),
        }
    }

    fn pages(&mut self, pinned: &OwnedFd, size: u64) -> Result<(Pages, &'static str), Errno> {
        if size == 0 {
            return Ok((Pages::default(), self.method()));
        }
        let file = reopen(pinned)?;
        if !self.mincore_only {
            match cachestat(&file, size, self.end) {
                // A filter of system calls that is older than this call refuses it; the kernel itself does so
                // for files of others (since 6.13), which mincore is not asked about either.
                Err(Errno::NOSYS | Errno::PERM) => {}
                other => return other.map(|pages| (pages, "cachestat")),
            }
        }
        // To those who could not write the file mincore says that everything is resident (Linux 5.0).
        if !may_know(&file) {
            return Err(Errno::ACCESS);
        }
        let pages = mincore(&file, size, self.end)?;
        self.mincore_only = true;
        Ok((pages, "mincore"))
    }

    fn method(&self) -> &'static str {
        if self.mincore_only {
            "mincore"
        } else {
            "cachestat"
        }
    }

    fn keep(&mut self, mut file: FileResidency, found: &Pages, method: &'static str, always: bool) {
        if let Some((holders, count)) = self.holders.get(&file.key) {
            file.holders.clone_from(holders);
            file.holder_count = *count;
        }
        // The last page ends with the file, for every figure alike.
        let size = file.size_bytes;
        let whole = |pages: u64| pages.saturating_mul(page_size());
        let bytes = |pages: u64| whole(pages).min(size);
        file.resident_bytes = whole(found.cached).min(size);
        file.dirty_bytes = found.dirty.map(bytes);
        file.writeback_bytes = found.writeback.map(bytes);
        file.recently_evicted_bytes = found.recently_evicted.map(bytes);
        let mut state = self.shared.lock();
        state.counts.looked += 1;
        state.counts.method = Some(method);
        if found.cached == 0 {
            state.counts.not_cached += 1;
        }
        if found.cached == 0 && !always {
            return;
        }
        if state.files.len() < MAX_FILES {
            state.files.push(file);
        } else {
            state.counts.not_kept += 1;
        }
    }
}

/// Pages of a file by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pages {
    cached: u64,
    dirty: Option<u64>,
    writeback: Option<u64>,
    recently_evicted: Option<u64>,
}

fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// Bytes that are asked about at once, so that the time limit holds for files of any size.
const CHUNK: u64 = 16 << 30;

/// Linux: include/uapi/linux/mman.h, `struct cachestat_range`.
#[repr(C)]
struct CachestatRange {
    off: u64,
    len: u64,
}

/// Linux: include/uapi/linux/mman.h, `struct cachestat`.
#[repr(C)]
#[derive(Default)]
struct Cachestat {
    nr_cache: u64,
    nr_dirty: u64,
    nr_writeback: u64,
    nr_evicted: u64,
    nr_recently_evicted: u64,
}

/// The number of cachestat(2) on every architecture but alpha.
const SYS_CACHESTAT: libc::c_long = 451;

fn cachestat(file: &File, size: u64, end: Option<Instant>) -> Result<Pages, Errno> {
    let mut sum = Cachestat::default();
    let mut off = 0;
    while off < size {
        if off > 0 && end.is_some_and(|end| Instant::now() >= end) {
            return Err(Errno::TIMEDOUT);
        }
        let range = CachestatRange {
            off,
            len: (size - off).min(CHUNK),
        };
        let mut part = Cachestat::default();
        // SAFETY: both structures have the kernel's layout and live until the call returns; it writes `part` alone.
        let result = unsafe {
            libc::syscall(
                SYS_CACHESTAT,
                file.as_raw_fd(),
                &raw const range,
                &raw mut part,
                0u32,
            )
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        sum.nr_cache = sum.nr_cache.saturating_add(part.nr_cache);
        sum.nr_dirty = sum.nr_dirty.saturating_add(part.nr_dirty);
        sum.nr_writeback = sum.nr_writeback.saturating_add(part.nr_writeback);
        sum.nr_recently_evicted = sum
            .nr_recently_evicted
            .saturating_add(part.nr_recently_evicted);
        off += range.len;
    }
    Ok(Pages {
        cached: sum.nr_cache,
        dirty: Some(sum.nr_dirty),
        writeback: Some(sum.nr_writeback),
        recently_evicted: Some(sum.nr_recently_evicted),
    })
}

/// Bytes mapped at once for mincore: a vector of 64 KiB.
const WINDOW: u64 = 256 << 20;

fn mincore(file: &File, size: u64, end: Option<Instant>) -> Result<Pages, Errno> {
    let page = page_size();
    let mut cached: u64 = 0;
    let mut off = 0;
    while off < size {
        if off > 0 && end.is_some_and(|end| Instant::now() >= end) {
            return Err(Errno::TIMEDOUT);
        }
        let length = usize::try_from((size - off).min(WINDOW)).map_err(|_| Errno::OVERFLOW)?;
        let mut states = vec![0u8; length.div_ceil(usize::try_from(page).unwrap_or(4096))];
        let flags = rustix::mm::MapFlags::SHARED;
        let none = rustix::mm::ProtFlags::empty();
        // SAFETY: a new mapping, without access rights: nobody can touch it, also when the file is cut.
        let address =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, none, flags, file, off) }?;
        // SAFETY: the range is the mapping above; `states` has a byte for each of its pages.
        let result = unsafe { libc::mincore(address, length, states.as_mut_ptr()) };
        let error = io::Error::last_os_error();
        // SAFETY: the mapping above, of which no reference exists.
        unsafe { rustix::mm::munmap(address, length) }?;
        if result != 0 {
            return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        cached += states.iter().filter(|state| **state & 1 == 1).count() as u64;
        off += length as u64;
    }
    Ok(Pages {
        cached,
        ..Pages::default()
    })
}

/// Whether mincore tells us the truth about a file: its owner, root, or who may write it.
fn may_know(file: &File) -> bool {
    let uid = rustix::process::geteuid();
    let own = rustix::fs::fstat(file).is_ok_and(|stat| stat.st_uid == uid.as_raw());
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    uid.is_root() || own || rustix::fs::access(name, rustix::fs::Access::WRITE_OK).is_ok()
}

/// What stat tells without asking a server.
#[derive(Clone, Copy, Debug)]
struct Facts {
    kind: FileType,
    key: FileKey,
    size: u64,
    links: u64,
}

fn facts(dir: impl AsFd, name: &[u8], follow: bool) -> Result<Facts, Errno> {
    let mut flags = AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
    if !follow {
        flags |= AtFlags::SYMLINK_NOFOLLOW;
    }
    let asked = flags | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE | StatxFlags::NLINK;
    match rustix::fs::statx(dir.as_fd(), name, asked, wanted) {
        Ok(stat) => Ok(Facts {
            kind: FileType::from_raw_mode(u32::from(stat.stx_mode)),
            key: (
                rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                stat.stx_ino,
            ),
            size: stat.stx_size,
            links: stat.stx_nlink.into(),
        }),
        // Before Linux 4.11.
        Err(Errno::NOSYS) => {
            let stat = rustix::fs::statat(dir, name, flags)?;
            Ok(Facts {
                kind: FileType::from_raw_mode(stat.st_mode),
                key: (stat.st_dev, stat.st_ino),
                size: u64::try_from(stat.st_size).unwrap_or(0),
                links: stat.st_nlink,
            })
        }
        Err(error) => Err(error),
    }
}

/// Opens a path without opening what it names: no FIFO waits, no device wakes.
fn pin(dir: impl AsFd, name: &[u8], follow: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Opens a pinned regular file, without a new time of access where that may be asked for.
fn reopen(pinned: &OwnedFd) -> Result<File, Errno> {
    let name = format!("/proc/self/fd/{}", pinned.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    match rustix::fs::open(&name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::open(&name, flags, Mode::empty()).map(File::from),
        other => other.map(File::from),
    }
}

#[cfg(test)]
mod tests;
