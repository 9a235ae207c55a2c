//! The shadow table: what is known of every process, also for a while after its end.
//!
//! Bounded: paths and arguments are shared between processes that have the same, arguments are cut at
//! [`MAX_CMDLINE`], and at most [`MAX_DEAD`] dead processes are kept for [`KEEP_DEAD_NS`].

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;

use super::read::Facts;
use crate::model::Identity;
use crate::model::Mapping;
use crate::model::Nanos;
use crate::model::RawText;
use crate::source::container;

/// Bytes of arguments kept.
pub(super) const MAX_CMDLINE: u64 = 4096;
/// Dead processes kept.
pub(super) const MAX_DEAD: usize = 4096;
/// How long a dead process is kept.
pub(super) const KEEP_DEAD_NS: Nanos = 120_000_000_000;
/// Processes whose mappings are kept: the ones asked for last.
const MAX_MAPPED: usize = 32;

/// Bytes that many processes share.
type Shared = Arc<[u8]>;

/// What is known of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) pid: u32,
    pub(super) start_ticks: Option<u64>,
    pub(super) ppid: Option<u32>,
    pub(super) comm: Box<[u8]>,
    /// Arguments, each with its NUL.
    cmdline: Option<Shared>,
    exe: Option<Shared>,
    uid: Option<u32>,
    cgroup: Option<Shared>,
    mappings: Option<Arc<[Mapping]>>,
    died_ns: Nanos,
}

impl Entry {
    /// Whether it may be the process that had a thread which started at `ticks`.
    fn owns(&self, ticks: Option<u64>) -> bool {
        match (self.start_ticks, ticks) {
            (Some(start), Some(thread)) => start <= thread,
            _ => true,
        }
    }

    /// Whether this is the process that started then, and its end was told.
    pub(super) fn has_ended(&self, start_ticks: u64) -> bool {
        self.died_ns > 0 && self.start_ticks == Some(start_ticks)
    }

    /// As a fact of the recording.
    pub(super) fn identity(&self, ts_ns: Nanos) -> Identity {
        let text = |shared: &Option<Shared>| shared.as_ref().map(|it| RawText::new(&**it));
        let cmdline = self.cmdline.as_deref().unwrap_or_default();
        let cmdline = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
        let arguments = cmdline.split(|byte| *byte == 0).map(RawText::new);
        Identity {
            ts_ns,
            pid: self.pid,
            start_ticks: self.start_ticks,
            ppid: self.ppid,
            comm: RawText::new(&*self.comm),
            cmdline: arguments.filter(|_| !cmdline.is_empty()).collect(),
            exe: text(&self.exe),
            uid: self.uid,
            user: None,
            unit: self.cgroup.as_deref().and_then(super::read::unit_of),
            cgroup: text(&self.cgroup),
            container: self.cgroup.as_deref().and_then(container::from_cgroup),
            mappings: self.mappings.as_deref().unwrap_or_default().to_vec(),
        }
    }
}

/// Every process known.
#[derive(Debug, Default)]
pub(super) struct Table {
    live: HashMap<u32, Entry>,
    dead: VecDeque<Entry>,
    strings: HashSet<Shared>,
    mapped: VecDeque<u32>,
}

impl Table {
    fn share(&mut self, bytes: &[u8]) -> Shared {
        if let Some(known) = self.strings.get(bytes) {
            return Arc::clone(known);
        }
        let new: Shared = bytes.into();
        self.strings.insert(Arc::clone(&new));
        new
    }

    /// A child is its parent until it runs another program.
    pub(super) fn fork(
        &mut self,
        pid: u32,
        parent: u32,
        ticks: Option<u64>,
        comm: &[u8],
        now: Nanos,
    ) {
        self.end(pid, now);
        let mut child = self.live.get(&parent).cloned().unwrap_or_default();
        child.pid = pid;
        child.ppid = Some(parent);
        child.start_ticks = ticks;
        child.comm = comm.into();
        child.mappings = None;
        self.live.insert(pid, child);
    }

    /// Another program: what belonged to the old one is forgotten.
    pub(super) fn exec(&mut self, pid: u32, ticks: Option<u64>, comm: &[u8]) {
        let entry = self.live.entry(pid).or_default();
        entry.pid = pid;
        entry.start_ticks = ticks.or(entry.start_ticks);
        entry.comm = comm.into();
        entry.cmdline = None;
        entry.exe = None;
        entry.mappings = None;
    }

    /// The process has ended.
    pub(super) fn end(&mut self, pid: u32, now: Nanos) {
        if let Some(mut entry) = self.live.remove(&pid) {
            entry.died_ns = now;
            self.dead.push_back(entry);
        }
        while self.dead.len() > MAX_DEAD {
            self.dead.pop_front();
        }
    }

    /// Takes what /proc says. Of an ending process /proc says less than was known: that is kept.
    pub(super) fn learn(&mut self, pid: u32, facts: Facts, now: Nanos) {
        let start_ticks = Some(facts.start_ticks);
        let known = self.live.get(&pid);
        if known.is_some_and(|old| old.start_ticks.is_some() && old.start_ticks != start_ticks) {
            self.end(pid, now);
        }
        let old = self.live.remove(&pid).unwrap_or_default();
        let mut share = |new: Option<Vec<u8>>, old: Option<Shared>| match (new, old) {
            (Some(_), Some(old)) if facts.exiting => Some(old),
            (Some(new), Some(old)) if *new == *old => Some(old),
            (Some(new), _) => Some(self.share(&new)),
            (None, old) => old,
        };
        let entry = Entry {
            pid,
            start_ticks,
            ppid: Some(facts.ppid),
            comm: facts.comm.into(),
            cmdline: share(facts.cmdline, old.cmdline),
            exe: share(facts.exe, old.exe),
            uid: facts.uid.or(old.uid),
            cgroup: share(facts.cgroup, old.cgroup),
            // A process that ends has no memory any more, and is not yet exiting by its state.
            mappings: (facts.mappings.filter(|list| !list.is_empty()))
                .map(Arc::from)
                .or(old.mappings),
            died_ns: 0,
        };
        if entry.mappings.is_some() {
            self.note_mapped(pid);
        }
        self.live.insert(pid, entry);
    }

    /// Mappings are large: only the processes asked for last keep theirs.
    fn note_mapped(&mut self, pid: u32) {
        self.mapped.retain(|known| *known != pid);
        self.mapped.push_back(pid);
        if self.mapped.len() <= MAX_MAPPED {
            return;
        }
        let Some(oldest) = self.mapped.pop_front() else {
            return;
        };
        let dead = self.dead.iter_mut().filter(|entry| entry.pid == oldest);
        for entry in self.live.get_mut(&oldest).into_iter().chain(dead) {
            entry.mappings = None;
        }
    }

    /// The process with this pid that had a thread which started at `ticks`; the newest when unsaid.
    pub(super) fn find(&self, pid: u32, ticks: Option<u64>) -> Option<&Entry> {
        let dead = self.dead.iter().rev().filter(|entry| entry.pid == pid);
        let mut all = self.live.get(&pid).into_iter().chain(dead);
        all.find(|entry| entry.owns(ticks))
    }

    /// Whether it is in the table and alive.
    pub(super) fn knows(&self, pid: u32) -> bool {
        self.live.contains_key(&pid)
    }

    /// Forgets what is too old, and ends what is not in `alive` (when that is known).
    pub(super) fn sweep(&mut self, now: Nanos, alive: Option<&HashSet<u32>>) {
        if let Some(alive) = alive {
            let known = self.live.keys().copied();
            let gone: Vec<u32> = known.filter(|pid| !alive.contains(pid)).collect();
            for pid in gone {
                self.end(pid, now);
            }
        }
        self.dead
            .retain(|entry| now.saturating_sub(entry.died_ns) < KEEP_DEAD_NS);
        self.strings.retain(|shared| Arc::strong_count(shared) > 1);
        if self.live.capacity() > 4 * self.live.len() + 64 {
            self.live.shrink_to_fit();
        }
    }

    /// Processes known: alive, dead.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.live.len(), self.dead.len())
    }
}
