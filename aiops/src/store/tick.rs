//! One moment as bytes: what changed since the moment before, as differences.
//!
//! A frame holds the clocks, the host's figures, cgroups and processes. Each process has a slot from its
//! first frame on; a later frame names only slots whose figures changed, with a mask of the changed
//! fields and one small number each. A key frame stands alone: it forgets everything before it, so that
//! a reader can begin there. The layout is docs/store.md's.

mod decode;

pub use decode::Decoder;

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::LazyLock;

use bytes::BufMut as _;
use bytes::BytesMut;

use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::ClockPair;
use crate::model::Container;
use crate::model::Identity;
use crate::model::Metric;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::Sample;
use crate::model::SystemMetrics;
use crate::record::wire::Cursor;
use crate::record::wire::Malformed;
use crate::record::wire::put_counted;
use crate::record::wire::put_varint;
use crate::record::wire::unzigzag;
use crate::record::wire::zigzag;

/// The figures of a process that history keeps: names in [`ProcessMetrics::METRICS`], in the order of the
/// format. New ones go to the end.
pub const PROCESS_FIELDS: [&str; 14] = [
    "rss_kb",
    "anon_kb",
    "file_kb",
    "shmem_kb",
    "swap_kb",
    "vm_size_kb",
    "pss_kb",
    "uss_kb",
    "threads",
    "minflt",
    "majflt",
    "cpu_ticks",
    "pgtables_kb",
    "hugetlb_kb",
];

/// Fields of one mask.
const MASK: usize = 63;
/// Rows of a frame: more is damage.
const MOST_ROWS: usize = 1 << 20;
/// Bytes of texts that are remembered.
const MOST_TEXT: usize = 512 << 10;

/// A frame whose checksum is right and that makes no sense all the same.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of history makes no sense: {0}")]
pub struct BadFrame(&'static str);

/// One moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tick {
    /// The moment on every clock.
    pub clock: ClockPair,
    /// Figures.
    pub sample: Sample,
    /// Who the processes are that this moment saw first.
    pub identities: Vec<Identity>,
}

type Key = (u32, u64);
type Values = Vec<Option<u64>>;

/// How to reach [`PROCESS_FIELDS`], in their order: looked up once, since every process is asked at every tick.
static KEPT: LazyLock<Vec<&'static Metric<ProcessMetrics>>> = LazyLock::new(|| {
    let find = |name: &&str| ProcessMetrics::METRICS.iter().find(|one| one.name == *name);
    PROCESS_FIELDS.iter().filter_map(find).collect()
});

/// The kept figures of a process, in the order of [`PROCESS_FIELDS`].
pub(super) fn kept(set: &ProcessMetrics) -> Values {
    KEPT.iter().map(|metric| (metric.get)(set)).collect()
}

fn values<'a, T: 'static>(metrics: impl Iterator<Item = &'a Metric<T>>, set: &T) -> Values {
    metrics.map(|metric| (metric.get)(set)).collect()
}

/// Masks of what changed from `old` to `new`, and a number for each: 0 it is unknown now, else one more
/// than the difference.
fn put_changes(old: &Values, new: &Values, out: &mut BytesMut) {
    for (old, new) in old.chunks(MASK).zip(new.chunks(MASK)) {
        let pairs = || old.iter().zip(new);
        let mask = pairs()
            .enumerate()
            .filter(|(_, (old, new))| old != new)
            .fold(0_u64, |mask, (at, _)| mask | 1 << at);
        put_varint(out, mask);
        for (old, new) in pairs().filter(|(old, new)| old != new) {
            match new {
                None => put_varint(out, 0),
                Some(new) => {
                    let difference = zigzag(new.wrapping_sub(old.unwrap_or(0)).cast_signed());
                    // A difference of the whole range has no successor: said as a value of its own.
                    put_varint(out, difference.saturating_add(1));
                    if difference == u64::MAX {
                        put_varint(out, *new);
                    }
                }
            }
        }
    }
}

fn take_changes(values: &mut Values, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    for chunk in values.chunks_mut(MASK) {
        let mask = cursor.varint()?;
        if mask >> chunk.len() != 0 {
            return Err(Malformed("a change of a field that is not there"));
        }
        for (at, value) in chunk.iter_mut().enumerate() {
            if mask & (1 << at) == 0 {
                continue;
            }
            *value = match cursor.varint()? {
                0 => None,
                u64::MAX => Some(cursor.varint()?),
                more => {
                    let difference = unzigzag(more - 1).cast_unsigned();
                    Some(value.unwrap_or(0).wrapping_add(difference))
                }
            };
        }
    }
    Ok(())
}

/// Texts that a file has had since its last key frame.
#[derive(Clone, Debug, Default)]
struct Texts {
    /// Of who writes: numbers by text.
    ids: HashMap<Vec<u8>, u64>,
    /// Bytes of those.
    bytes: usize,
    /// Of who reads: texts by number.
    list: Vec<Vec<u8>>,
}

impl Texts {
    /// 0 is no text, 1 a new one behind it, n + 2 the n-th known one.
    fn put(&mut self, text: Option<&[u8]>, out: &mut BytesMut) {
        let Some(text) = text else {
            return put_varint(out, 0);
        };
        if let Some(id) = self.ids.get(text) {
            return put_varint(out, id + 2);
        }
        put_varint(out, 1);
        put_counted(out, text);
        self.ids.insert(text.to_vec(), self.ids.len() as u64);
        self.bytes += text.len();
    }

    fn take(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Vec<u8>>, Malformed> {
        match cursor.varint()? {
            0 => Ok(None),
            1 => {
                let text = cursor.counted()?.to_vec();
                self.list.push(text.clone());
                Ok(Some(text))
            }
            known => {
                let at = usize::try_from(known - 2).ok();
                let text = at.and_then(|at| self.list.get(at)).cloned();
                text.map(Some).ok_or(Malformed("a text that is not there"))
            }
        }
    }
}

/// A process as the file last said.
#[derive(Clone, Debug)]
struct Slot {
    key: Key,
    values: Values,
    /// ppid, comm, state, uid, `oom_score_adj`: told again when they change.
    head: Head,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Head {
    ppid: u32,
    comm: RawText,
    uid: Option<u32>,
    oom_score_adj: Option<i32>,
}

impl Head {
    fn of(process: &ProcessSample) -> Self {
        Self {
            ppid: process.ppid,
            comm: process.comm.clone(),
            uid: process.uid,
            oom_score_adj: process.oom_score_adj,
        }
    }

    fn put(&self, texts: &mut Texts, out: &mut BytesMut) {
        put_varint(out, u64::from(self.ppid));
        texts.put(Some(self.comm.as_bytes()), out);
        put_varint(out, self.uid.map_or(0, |uid| u64::from(uid) + 1));
        let adj = self.oom_score_adj.map(|adj| zigzag(i64::from(adj)) + 1);
        put_varint(out, adj.unwrap_or(0));
    }

    fn take(texts: &mut Texts, cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        const RANGE: Malformed = Malformed("a number out of range");
        let ppid = cursor.varint()?.try_into().map_err(|_| RANGE)?;
        let comm = RawText::new(texts.take(cursor)?.unwrap_or_default());
        let uid = match cursor.varint()? {
            0 => None,
            more => Some((more - 1).try_into().map_err(|_| RANGE)?),
        };
        let oom_score_adj = match cursor.varint()? {
            0 => None,
            more => Some(unzigzag(more - 1).try_into().map_err(|_| RANGE)?),
        };
        Ok(Self {
            ppid,
            comm,
            uid,
            oom_score_adj,
        })
    }
}

/// What both sides know after a frame.
#[derive(Clone, Debug)]
struct State {
    mono_ms: u64,
    boot_ms: u64,
    real_ms: i64,
    system: Values,
    cgroups: Vec<(RawText, u64, Values)>,
    slots: Vec<Option<Slot>>,
    texts: Texts,
}

impl Default for State {
    fn default() -> Self {
        Self {
            mono_ms: 0,
            boot_ms: 0,
            real_ms: 0,
            system: vec![None; SystemMetrics::METRICS.len()],
            cgroups: Vec::new(),
            slots: Vec::new(),
            texts: Texts::default(),
        }
    }
}

/// Which fields a file has, by name: a later version's file is read with what both know.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Layout {
    pub(super) system: Vec<String>,
    pub(super) cgroup: Vec<String>,
    pub(super) process: Vec<String>,
}

impl Layout {
    /// What this version writes.
    pub(super) fn own() -> Self {
        let names =
            |metrics: &[&'static str]| metrics.iter().map(|name| (*name).to_owned()).collect();
        let system: Vec<&str> = SystemMetrics::METRICS.iter().map(|one| one.name).collect();
        let cgroup: Vec<&str> = CgroupMetrics::METRICS.iter().map(|one| one.name).collect();
        Self {
            system: names(&system),
            cgroup: names(&cgroup),
            process: names(&PROCESS_FIELDS),
        }
    }
}

/// A file's figures, in its order; `None`: this version does not know it.
type Known<T> = Vec<Option<&'static Metric<T>>>;

/// Looks a file's names up: once for each file.
fn known<T>(names: &[String], metrics: &'static [Metric<T>]) -> Known<T> {
    let find = |name: &String| metrics.iter().find(|metric| metric.name == name);
    names.iter().map(find).collect()
}

/// Sets the figures that a file and this version have in common.
fn fill<T>(known: &Known<T>, from: &Values, set: &mut T) {
    for (metric, value) in known.iter().zip(from) {
        if let Some(metric) = metric {
            (metric.set)(set, *value);
        }
    }
}

/// Makes frames of ticks.
#[derive(Debug, Default)]
pub struct Encoder {
    state: State,
    live: HashMap<Key, usize>,
    free: Vec<usize>,
    started: bool,
}

impl Encoder {
    /// Whether the texts since the last key frame, arguments of processes above all, take more memory than a key
    /// frame is worth.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        self.state.texts.bytes > MOST_TEXT
    }

    /// Appends the frame of a tick: whole for `key` and for the first one.
    pub fn encode(&mut self, tick: &Tick, key: bool, out: &mut BytesMut) {
        let key = key || !self.started;
        if key {
            *self = Self {
                started: true,
                ..Self::default()
            };
        }
        out.put_u8(u8::from(key));
        self.clocks(&tick.clock, out);
        self.system(tick.sample.system.as_ref(), out);
        self.cgroups(&tick.sample.cgroups, out);
        self.processes(tick, out);
        let skipped = &tick.sample.skipped;
        for count in [skipped.vanished, skipped.denied, skipped.failed] {
            put_varint(out, u64::from(count));
        }
    }

    fn clocks(&mut self, clock: &ClockPair, out: &mut BytesMut) {
        let (mono, boot) = (clock.mono_ns / 1_000_000, clock.boot_ns / 1_000_000);
        let real = clock.real_ns.div_euclid(1_000_000);
        let since = mono.wrapping_sub(self.state.mono_ms).cast_signed();
        put_varint(out, zigzag(since));
        // The other clocks run like the first one, but for suspend and for settings of the calendar.
        let boot_since = boot.wrapping_sub(self.state.boot_ms).cast_signed();
        put_varint(out, zigzag(boot_since.wrapping_sub(since)));
        let real_since = real.wrapping_sub(self.state.real_ms);
        put_varint(out, zigzag(real_since.wrapping_sub(since)));
        (self.state.mono_ms, self.state.boot_ms, self.state.real_ms) = (mono, boot, real);
    }

    fn system(&mut self, system: Option<&SystemMetrics>, out: &mut BytesMut) {
        let unknown = SystemMetrics::default();
        let new = values(SystemMetrics::METRICS.iter(), system.unwrap_or(&unknown));
        put_changes(&self.state.system, &new, out);
        self.state.system = new;
    }

    /// Cgroups keep their order while none comes or goes; else all are told again.
    fn cgroups(&mut self, cgroups: &[CgroupSample], out: &mut BytesMut) {
        let known = &self.state.cgroups;
        let same = known.len() == cgroups.len()
            && known
                .iter()
                .zip(cgroups)
                .all(|((path, id, _), cgroup)| *path == cgroup.path && *id == cgroup.id);
        put_varint(out, if same { 0 } else { cgroups.len() as u64 + 1 });
        if !same {
            let blank = vec![None; CgroupMetrics::METRICS.len()];
            let mut list = Vec::with_capacity(cgroups.len());
            for cgroup in cgroups {
                self.state.texts.put(Some(cgroup.path.as_bytes()), out);
                put_varint(out, cgroup.id);
                list.push((cgroup.path.clone(), cgroup.id, blank.clone()));
            }
            self.state.cgroups = list;
        }
        for (cgroup, (_, _, old)) in cgroups.iter().zip(&mut self.state.cgroups) {
            let new = values(CgroupMetrics::METRICS.iter(), &cgroup.metrics);
            put_changes(old, &new, out);
            *old = new;
        }
    }

    /// Ended slots, new processes, then changed ones.
    fn processes(&mut self, tick: &Tick, out: &mut BytesMut) {
        let key = |process: &ProcessSample| (process.pid, process.start_ticks);
        let now: HashSet<Key> = tick.sample.processes.iter().map(key).collect();
        let mut ended: Vec<usize> = Vec::new();
        for (at, slot) in self.state.slots.iter().enumerate() {
            if slot.as_ref().is_some_and(|slot| !now.contains(&slot.key)) {
                ended.push(at);
            }
        }
        put_varint(out, ended.len() as u64);
        let mut before = 0;
        for at in ended {
            put_varint(out, (at - before) as u64);
            before = at;
            if let Some(slot) = self.state.slots[at].take() {
                self.live.remove(&slot.key);
            }
            self.free.push(at);
        }
        // The reader fills the lowest free slots as well.
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        let new = tick.sample.processes.iter();
        let new: Vec<&ProcessSample> = new
            .filter(|process| !self.live.contains_key(&key(process)))
            .collect();
        put_varint(out, new.len() as u64);
        let who: HashMap<Key, &Identity> = tick
            .identities
            .iter()
            .map(|one| ((one.pid, one.start_ticks.unwrap_or(0)), one))
            .collect();
        for process in new {
            self.new_process(process, who.get(&key(process)).copied(), out);
        }
        self.changed(&tick.sample.processes, out);
    }

    fn new_process(&mut self, process: &ProcessSample, who: Option<&Identity>, out: &mut BytesMut) {
        let slot = Slot {
            key: (process.pid, process.start_ticks),
            values: vec![None; PROCESS_FIELDS.len()],
            head: Head::of(process),
        };
        put_varint(out, u64::from(process.pid));
        put_varint(out, process.start_ticks);
        let texts = &mut self.state.texts;
        slot.head.put(texts, out);
        let text = |text: &Option<RawText>| text.as_ref().map(|text| text.as_bytes().to_vec());
        let joined = who.filter(|who| !who.cmdline.is_empty()).map(|who| {
            let arguments: Vec<&[u8]> = who.cmdline.iter().map(RawText::as_bytes).collect();
            arguments.join(&0)
        });
        let container = who.and_then(|who| who.container.as_ref());
        let parts = [
            joined,
            who.and_then(|who| text(&who.exe)),
            who.and_then(|who| text(&who.cgroup)),
            who.and_then(|who| who.user.clone()).map(String::into_bytes),
            who.and_then(|who| who.unit.clone()).map(String::into_bytes),
            container.map(|one| one.runtime.clone().into_bytes()),
            container.map(|one| one.id.clone().into_bytes()),
            container
                .and_then(|one| one.pod.clone())
                .map(String::into_bytes),
        ];
        for part in parts {
            texts.put(part.as_deref(), out);
        }
        let at = self.free.pop().unwrap_or(self.state.slots.len());
        self.live.insert(slot.key, at);
        match self.state.slots.get_mut(at) {
            Some(free) => *free = Some(slot),
            None => self.state.slots.push(Some(slot)),
        }
    }

    fn changed(&mut self, processes: &[ProcessSample], out: &mut BytesMut) {
        let mut rows: Vec<(usize, &ProcessSample, Values)> = Vec::new();
        for process in processes {
            let Some(at) = self.live.get(&(process.pid, process.start_ticks)).copied() else {
                continue;
            };
            let new = kept(&process.metrics);
            let slot = self.state.slots[at].as_ref();
            let same =
                slot.is_some_and(|slot| slot.values == new && slot.head == Head::of(process));
            if !same {
                rows.push((at, process, new));
            }
        }
        rows.sort_by_key(|(at, ..)| *at);
        put_varint(out, rows.len() as u64);
        let mut before = 0;
        for (at, process, new) in rows {
            let Some(slot) = self.state.slots[at].as_mut() else {
                continue;
            };
            let head = Head::of(process);
            let renamed = slot.head != head;
            put_varint(out, ((at - before) as u64) << 1 | u64::from(renamed));
            before = at;
            if renamed {
                head.put(&mut self.state.texts, out);
                slot.head = head;
            }
            put_changes(&slot.values, &new, out);
            slot.values = new;
        }
    }
}

#[cfg(test)]
#[path = "tick_tests.rs"]
mod tests;
