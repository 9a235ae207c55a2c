//! /proc/PID/{stat,status,oom_score,oom_score_adj,io,smaps_rollup} of many processes, cheaply.
//!
//! Own parsers: the `procfs` crate allocates every field of a file, and has no figure at all of a file with
//! one line that it does not know. Here one buffer serves all files, and a file is one read. Every file of a
//! process is opened below its open folder, so that none of them can belong to a later process of the same
//! pid. `stat` names pid, state and start in one read and tells kernel threads apart, which have no memory
//! of their own and are left out.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::LazyLock;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::path::DecInt;

use crate::model::Metric;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::Skipped;
use crate::source::files;
use crate::source::mounts;

use super::smaps::rollup_figures;
use super::system::number;

/// Kernel: include/linux/sched.h, `PF_KTHREAD`.
const PF_KTHREAD: u64 = 0x0020_0000;
/// Most that is read of a file: the kernel's have some KiB, a damaged tree may hold anything.
const MOST_BYTES: usize = 1 << 20;

/// How much is read of each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Sizes, faults, CPU time.
    Sizes,
    /// The kernel's own oom_score as well: it takes a lock on every thread's memory; and disk transfers.
    All,
}

/// A process in the middle of being read.
enum One {
    Process(Box<ProcessSample>),
    KernelThread,
    Zombie,
}

/// Reads processes below one root.
#[derive(Debug)]
pub struct ProcessReader {
    proc: OwnedFd,
    buffer: Vec<u8>,
    /// `None`: a captured tree that does not tell it.
    page_kb: Option<u64>,
}

/// Why a process or a file of it could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is gone, or the kernel has no such file.
    Vanished,
    /// No permission.
    Denied,
    /// Not understood.
    Failed,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::SRCH => Self::Vanished,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            _ => Self::Failed,
        }
    }
}

impl ProcessReader {
    /// Opens `root`/proc.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open(root.join("proc"), flags, Mode::empty())?;
        Ok(Self {
            proc,
            buffer: Vec::with_capacity(16 << 10),
            page_kb: super::smaps::page_kb(root),
        })
    }

    /// Every process that has memory, in the order of pids, and what could not be read.
    pub fn scan(&mut self, wanted: Wanted) -> (Vec<ProcessSample>, Skipped) {
        let pids = pids(&self.proc);
        self.read(&pids, wanted)
    }

    /// These processes. Kernel threads and zombies have no memory: they are only counted.
    pub fn read(&mut self, pids: &[u32], wanted: Wanted) -> (Vec<ProcessSample>, Skipped) {
        self.read_each(pids, wanted, &mut |_, _| {})
    }

    /// As [`Self::scan`] and [`Self::read`] (`None`: all), and shows each process with its open folder: what is
    /// read through that belongs to the same process.
    pub fn each(
        &mut self,
        wanted_pids: Option<&[u32]>,
        wanted: Wanted,
        show: &mut dyn FnMut(BorrowedFd<'_>, &ProcessSample),
    ) -> (Vec<ProcessSample>, Skipped) {
        match wanted_pids {
            Some(pids) => self.read_each(pids, wanted, show),
            None => {
                let pids = pids(&self.proc);
                self.read_each(&pids, wanted, show)
            }
        }
    }

    fn read_each(
        &mut self,
        pids: &[u32],
        wanted: Wanted,
        show: &mut dyn FnMut(BorrowedFd<'_>, &ProcessSample),
    ) -> (Vec<ProcessSample>, Skipped) {
        let mut skipped = Skipped::default();
        let mut samples = Vec::with_capacity(pids.len());
        for pid in pids {
            match self.one(*pid, wanted, show) {
                Ok(One::Process(sample)) => samples.push(*sample),
                Ok(One::KernelThread) => skipped.kernel_threads += 1,
                Ok(One::Zombie) => skipped.zombies += 1,
                Err(Failure::Vanished) => skipped.vanished += 1,
                Err(Failure::Denied) => skipped.denied += 1,
                Err(Failure::Failed) => skipped.failed += 1,
            }
        }
        (samples, skipped)
    }

    fn one(
        &mut self,
        pid: u32,
        wanted: Wanted,
        show: &mut dyn FnMut(BorrowedFd<'_>, &ProcessSample),
    ) -> Result<One, Failure> {
        let mut dir = folder(&self.proc, DecInt::new(pid))?;
        self.load(&dir, c"stat")?;
        let Some((mut sample, flags)) = parse_stat(&self.buffer, self.page_kb) else {
            return Err(Failure::Failed);
        };
        // The folder says which process this is; a damaged stat may say anything.
        sample.pid = pid;
        if flags & PF_KTHREAD != 0 {
            return Ok(One::KernelThread);
        }
        if ended(&sample) {
            // The first thread of a process may have ended before the others: the memory is still there,
            // but only they can tell.
            let Some(thread) = other_thread(&dir, &sample) else {
                return Ok(One::Zombie);
            };
            dir = thread;
            (sample.metrics.rss_kb, sample.metrics.vm_size_kb) = (None, None);
        }
        self.load(&dir, c"status")?;
        let sizes = parse_status(&self.buffer, &mut sample);
        if !sizes && sample.metrics.vm_size_kb.is_none_or(|kb| kb == 0) {
            // It is ending, and has given its memory back already.
            return Err(Failure::Vanished);
        }
        // Before 4.5 only statm tells resident file memory apart, with shared memory in it.
        if sample.metrics.file_kb.is_none() && self.load(&dir, c"statm").is_ok() {
            let mut pages = self.buffer.split(u8::is_ascii_whitespace);
            let pages = pages.nth(2).and_then(number);
            sample.metrics.shared_kb = pages
                .zip(self.page_kb)
                .map(|(pages, kb)| pages.saturating_mul(kb));
        }
        if self.load(&dir, c"oom_score_adj").is_ok() {
            sample.oom_score_adj = std::str::from_utf8(self.buffer.trim_ascii())
                .ok()
                .and_then(|text| text.parse().ok());
        }
        if wanted == Wanted::All {
            if self.load(&dir, c"oom_score").is_ok() {
                sample.metrics.oom_score = number(self.buffer.trim_ascii());
            }
            if self.load(&dir, c"io").is_ok() {
                sample.metrics.read_bytes = keyed(&self.buffer, b"read_bytes: ");
                sample.metrics.write_bytes = keyed(&self.buffer, b"write_bytes: ");
            }
        }
        show(dir.as_fd(), &sample);
        Ok(One::Process(Box::new(sample)))
    }

    /// Reads smaps_rollup of a process into its sample.
    ///
    /// # Errors
    /// It cannot be had; `Vanished` also when another process has its pid by now.
    pub fn rollup(&mut self, sample: &mut ProcessSample) -> Result<(), Failure> {
        let text = self.rollup_text(sample)?;
        let rollup = rollup_figures(text).ok_or(Failure::Failed)?;
        let metrics = &mut sample.metrics;
        metrics.uss_kb = rollup.private_kb();
        metrics.pss_kb = rollup.pss_kb;
        metrics.rollup_rss_kb = rollup.rss_kb;
        metrics.swap_pss_kb = rollup.swap_pss_kb;
        metrics.anon_huge_kb = rollup.anon_huge_kb;
        metrics.pss_anon_kb = keyed_kb(text, b"Pss_Anon:");
        metrics.pss_file_kb = keyed_kb(text, b"Pss_File:");
        metrics.pss_shmem_kb = keyed_kb(text, b"Pss_Shmem:");
        metrics.rollup_age_ms = Some(0);
        Ok(())
    }

    fn rollup_text(&mut self, sample: &ProcessSample) -> Result<&[u8], Failure> {
        let dir = folder(&self.proc, DecInt::new(sample.pid))?;
        self.load(&dir, c"stat")?;
        let (now, _) = parse_stat(&self.buffer, self.page_kb).ok_or(Failure::Failed)?;
        if now.start_ticks != sample.start_ticks {
            return Err(Failure::Vanished);
        }
        if ended(&now) {
            let thread = other_thread(&dir, &now).ok_or(Failure::Vanished)?;
            self.load(&thread, c"smaps_rollup")?;
        } else {
            self.load(&dir, c"smaps_rollup")?;
        }
        Ok(&self.buffer)
    }

    /// Reads a whole file into the buffer.
    fn load(&mut self, dir: &OwnedFd, name: &CStr) -> Result<(), Failure> {
        // Never wait for the other end of a FIFO, which a damaged tree may have.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        self.buffer.clear();
        while self.buffer.len() < MOST_BYTES {
            self.buffer.reserve(4096);
            let room = self.buffer.capacity() - self.buffer.len();
            let read = rustix::io::read(&file, rustix::buffer::spare_capacity(&mut self.buffer))?;
            // These files are one record each, so a read that does not fill the buffer was the last.
            if read < room {
                break;
            }
        }
        Ok(())
    }
}

/// Whether /proc is mounted so that we do not even see the processes of other users (`hidepid=2` and 4).
#[must_use]
pub fn hides(root: &Path) -> bool {
    // Linux: include/uapi/linux/capability.h, `CAP_SYS_PTRACE`.
    const SEES_ALL: u64 = 1 << 19;
    let Ok(place) = root.join("proc").canonicalize() else {
        return false;
    };
    let table = mounts::own(root);
    let point = place.as_os_str().as_bytes();
    // A later mount covers an earlier one.
    let mut proc = table.iter().rev().filter(|mount| mount.point == point);
    let Some(proc) = proc.next() else {
        return false;
    };
    let member = || {
        let group = proc.option("gid").and_then(number)?;
        let own = rustix::process::getegid();
        let others = rustix::process::getgroups().unwrap_or_default();
        let mut groups = others.into_iter().chain([own]);
        groups.find(|one| u64::from(one.as_raw()) == group)
    };
    let hidden = match proc.option("hidepid") {
        Some(b"2" | b"invisible") => member().is_none(),
        Some(b"4" | b"ptraceable") => true,
        _ => false,
    };
    let may = || {
        let status = files::read(&root.join("proc/self/status")).unwrap_or_default();
        let mut lines = status.split(|byte| *byte == b'\n');
        let mask = lines.find_map(|line| line.strip_prefix(b"CapEff:"))?;
        u64::from_str_radix(std::str::from_utf8(mask.trim_ascii()).ok()?, 16).ok()
    };
    hidden && may().is_none_or(|mask| mask & SEES_ALL == 0)
}

/// Opens a folder of /proc to open others through it.
fn folder(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// The numbers among the names of a folder, in order.
fn pids(folder: impl AsFd) -> Vec<u32> {
    let Ok(entries) = rustix::fs::Dir::read_from(folder) else {
        return Vec::new();
    };
    let names = entries.filter_map(Result::ok);
    let mut pids: Vec<u32> = names
        .filter_map(|entry| number(entry.file_name().to_bytes())?.try_into().ok())
        .collect();
    pids.sort_unstable();
    pids
}

fn ended(sample: &ProcessSample) -> bool {
    matches!(sample.state, Some('Z' | 'X' | 'x'))
}

/// The folder of a thread that still has the memory of a process whose first thread has ended.
fn other_thread(dir: &OwnedFd, sample: &ProcessSample) -> Option<OwnedFd> {
    if sample.metrics.threads.unwrap_or(1) < 2 {
        return None;
    }
    live_thread(dir.as_fd(), sample.pid)
}

/// The folder of another thread than the first.
pub(in crate::source) fn live_thread(dir: BorrowedFd<'_>, pid: u32) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let tasks = rustix::fs::openat(dir, c"task", flags, Mode::empty()).ok()?;
    let mut threads = pids(&tasks).into_iter().filter(|thread| *thread != pid);
    threads.find_map(|thread| folder(&tasks, DecInt::new(thread)).ok())
}

/// `pid (comm) S ppid …`: the comm may hold anything, so it ends at the last parenthesis.
///
/// Fields by their numbers in proc(5): 3 state, 4 ppid, 9 flags, 10 minflt, 12 majflt, 14 utime, 15 stime,
/// 20 threads, 22 starttime, 23 vsize, 24 rss.
fn parse_stat(text: &[u8], page_kb: Option<u64>) -> Option<(ProcessSample, u64)> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let comm = text.get(open + 1..close)?;
    // No allocation: this is read of every process in every sample.
    let mut fields: [&[u8]; 22] = [&[]; 22];
    let words = text
        .get(close + 2..)?
        .trim_ascii()
        .split(|byte| *byte == b' ');
    for (field, word) in fields.iter_mut().zip(words) {
        *field = word;
    }
    let field = |index: usize| fields.get(index - 3).copied().and_then(number);
    let sample = ProcessSample {
        pid: number(text[..open].trim_ascii())?.try_into().ok()?,
        start_ticks: field(22)?,
        ppid: field(4)?.try_into().ok()?,
        comm: RawText::new(comm),
        state: fields.first()?.first().map(|byte| char::from(*byte)),
        metrics: ProcessMetrics {
            vm_size_kb: field(23).map(|bytes| bytes / 1024),
            rss_kb: field(24)
                .zip(page_kb)
                .map(|(pages, kb)| pages.saturating_mul(kb)),
            threads: field(20),
            minflt: field(10),
            majflt: field(12),
            cpu_ticks: field(14)
                .zip(field(15))
                .map(|(user, system)| user.saturating_add(system)),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    };
    Some((sample, field(9).unwrap_or(0)))
}

/// The number behind `head` at the beginning of a line.
fn keyed(text: &[u8], head: &[u8]) -> Option<u64> {
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.find_map(|line| number(line.strip_prefix(head)?))
}

/// The KiB behind `head`.
fn keyed_kb(text: &[u8], head: &[u8]) -> Option<u64> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let rest = lines.find_map(|line| line.strip_prefix(head))?;
    let mut words = rest.split(u8::is_ascii_whitespace);
    number(words.find(|word| !word.is_empty())?)
}

/// The metrics of status, by its keys.
static STATUS: LazyLock<Vec<(&[u8], &Metric<ProcessMetrics>)>> = LazyLock::new(|| {
    let metrics = ProcessMetrics::METRICS.iter();
    let keys = metrics.filter_map(|metric| {
        let key = metric.source.strip_prefix("status:")?;
        Some((key.as_bytes(), metric))
    });
    keys.collect()
});

/// `Key:\t  123 kB` lines, by the `status:` keys of [`ProcessMetrics::METRICS`], and the real uid. Whether
/// it tells sizes: a process without memory has none.
fn parse_status(text: &[u8], sample: &mut ProcessSample) -> bool {
    let known = &*STATUS;
    let mut sizes = false;
    for line in text.split(|byte| *byte == b'\n') {
        // The keys begin with U, V, R, T or H: most lines need no look.
        if !matches!(line.first(), Some(b'U' | b'V' | b'R' | b'T' | b'H')) {
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (key, rest) = line.split_at(colon);
        let value = || {
            let mut words = rest[1..].trim_ascii().split(u8::is_ascii_whitespace);
            words.next().and_then(number)
        };
        if key == b"Uid" {
            sample.uid = value().and_then(|uid| uid.try_into().ok());
        } else if let Some((_, metric)) = known.iter().find(|(name, _)| *name == key)
            && let Some(value) = value()
        {
            sizes |= key == b"VmSize";
            (metric.set)(&mut sample.metrics, Some(value));
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const STAT: &[u8] = b"42 (a) (b\n) S 1 42 42 0 -1 4194304 100 0 5 0 30 12 0 0 20 0 3 0 777 104857600 2560 18446744073709551615 1 1 0";

    #[test]
    fn a_name_with_parentheses_and_a_newline() {
        let (sample, flags) = parse_stat(STAT, Some(4)).unwrap();
        assert_eq!(
            (sample.pid, sample.ppid, sample.state, sample.start_ticks),
            (42, 1, Some('S'), 777)
        );
        assert_eq!(sample.comm.as_bytes(), b"a) (b\n");
        let metrics = sample.metrics;
        assert_eq!(
            (metrics.rss_kb, metrics.vm_size_kb, metrics.threads),
            (Some(10_240), Some(102_400), Some(3))
        );
        assert_eq!(
            (metrics.minflt, metrics.majflt, metrics.cpu_ticks),
            (Some(100), Some(5), Some(42))
        );
        assert_eq!(flags & PF_KTHREAD, 0);
    }

    #[test]
    fn an_old_status_leaves_gaps() {
        let (mut sample, _) = parse_stat(STAT, Some(4)).unwrap();
        parse_status(b"Name:\ta\nUid:\t1000\t0\t0\t0\nVmRSS:\t    2048 kB\nVmSwap:\t  64 kB\nRssAnonymous:\t1 kB\n", &mut sample);
        assert_eq!(
            (sample.uid, sample.metrics.rss_kb, sample.metrics.swap_kb),
            (Some(1000), Some(2048), Some(64))
        );
        assert_eq!(
            (sample.metrics.anon_kb, sample.metrics.shmem_kb),
            (None, None)
        );
    }

    #[test]
    fn every_process_of_this_host_and_what_it_costs() {
        let mut reader = ProcessReader::open(Path::new("/")).unwrap();
        let begin = Instant::now();
        let (samples, skipped) = reader.scan(Wanted::Sizes);
        println!(
            "full scan: {} processes, {} µs, {skipped:?}",
            samples.len(),
            begin.elapsed().as_micros()
        );
        let own = samples
            .iter()
            .find(|sample| sample.pid == std::process::id())
            .unwrap();
        assert!(own.metrics.rss_kb > Some(0) && own.metrics.anon_kb > Some(0));
        assert!(samples.is_sorted_by_key(|sample| sample.pid));
        assert_eq!(skipped.failed, 0);
    }

    #[test]
    fn who_is_gone_is_counted() {
        let mut reader = ProcessReader::open(Path::new("/")).unwrap();
        let (samples, skipped) = reader.read(&[u32::MAX - 1], Wanted::All);
        assert!(samples.is_empty());
        assert_eq!(
            skipped,
            Skipped {
                vanished: 1,
                ..Skipped::default()
            }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..130_usize) {
            let _ = parse_stat(&text, Some(4));
            let _ = parse_stat(&STAT[..cut.min(STAT.len())], Some(4));
            let _ = parse_status(&text, &mut ProcessSample::default());
        }
    }
}
