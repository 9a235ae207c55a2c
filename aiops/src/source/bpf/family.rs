//! The programs of one family other than `trace oom`: loaded with their filter and sizes, read by one thread
//! that looks every 50 ms, and drained of what their maps have counted.

use std::fmt;
use std::sync::Arc;

use aiops_common::COMM_LEN;
use aiops_common::COUNTERS;
use aiops_common::EventKind;
use aiops_common::Loss;
use aiops_common::filter::Wanted;
use aiops_common::layout::ABSENT;
use aiops_common::stall;
use aya::Ebpf;
use aya::Pod;
use aya::maps::Array;
use aya::maps::HashMap;
use aya::maps::MapData;
use aya::maps::PerCpuArray;
use aya::maps::PerCpuHashMap;

use super::Options;
use super::StartError;
use super::count_some;
use super::hooks::Family;
use super::hooks::Object;
use super::load;
use super::load::Wishes;
use super::offsets::tracepoint_fields;
use super::ring;
use super::take_map;
use super::take_ring;
use crate::model::HookState;
use crate::model::Losses;
use crate::model::Nanos;
use crate::model::RawText;
use crate::model::SwapRow;
use crate::model::SwapWays;
use crate::model::Swaps;
use crate::model::TaskRef;
use crate::source::Sink;
use crate::source::symbols::kernel_ranges;

/// What to load, and how much memory it may take.
#[derive(Clone, Debug)]
pub struct FamilyOptions {
    /// Which programs.
    pub family: Family,
    /// BTF and messages.
    pub tracer: Options,
    /// Wanted process ids; empty: all.
    pub pids: Vec<u32>,
    /// Wanted names of threads, as the kernel has them.
    pub comms: Vec<RawText>,
    /// Wanted real user ids.
    pub users: Vec<u32>,
    /// Wanted memory cgroups by inode, with everything below them.
    pub cgroups: Vec<u64>,
    /// Most bytes of the ring and of the tables of processes together.
    pub max_memory: u64,
}

/// Least and most bytes of the ring.
const RING: (u64, u64) = (64 << 10, 4 << 20);
/// Least and most processes in a table of the kernel.
const PROCESSES: (u64, u64) = (256, 8192);
/// Bytes of a process in the tables of swap, with what a hash adds, for each CPU.
const PROCESS_BYTES: u64 = 128;

impl FamilyOptions {
    /// Bytes of the ring: a quarter of the memory, as a power of two.
    fn ring_bytes(&self) -> u32 {
        let most = (self.max_memory / 4).clamp(RING.0, RING.1);
        let power = 1_u64 << most.ilog2();
        u32::try_from(power).unwrap_or(u32::MAX)
    }

    /// Entries of tables by process: half of the memory.
    fn processes(&self) -> u32 {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let most = self.max_memory / 2 / (PROCESS_BYTES * cpus);
        u32::try_from(most.clamp(PROCESSES.0, PROCESSES.1)).unwrap_or(u32::MAX)
    }
}

/// Ranges of kernel code as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Codes([stall::Code; stall::CODES]);

// SAFETY: a `repr(C)` structure of u64 alone: no padding, any bits are valid.
unsafe impl Pod for Codes {}

/// `aiops_common::stall::SwapCounts` as a map's value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Counts(stall::SwapCounts);

// SAFETY: as of `Codes`.
unsafe impl Pod for Counts {}

/// `aiops_common::Task` as a map's value: two u32, 16 bytes, two u64.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Task(aiops_common::Task);

// SAFETY: a `repr(C)` structure without padding whose bits are all valid.
unsafe impl Pod for Task {}

/// Running programs of a family.
pub struct FamilyTracer {
    ebpf: Ebpf,
    family: Family,
    hooks: Vec<HookState>,
    btf: bool,
    notes: Vec<String>,
    losses: PerCpuArray<MapData, u64>,
    counts: Arc<ring::Counts>,
    bulk: ring::LifeReader,
}

impl fmt::Debug for FamilyTracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FamilyTracer")
            .field("family", &self.family)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

/// What each object counts.
fn counted(object: Object) -> (&'static [EventKind], &'static [Loss]) {
    match object {
        Object::Oom => (super::OOM_KINDS, super::OOM_CAUSES),
        Object::Reclaim => (
            &[EventKind::Stall],
            &[
                Loss::BulkRingFull,
                Loss::OpenFull,
                Loss::TableFull,
                Loss::StackFailed,
            ],
        ),
    }
}

impl FamilyTracer {
    /// Loads, fills the filter, attaches and starts the reader. When it returns, nothing is missed.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(options: &FamilyOptions, sink: Sink) -> Result<Self, StartError> {
        let mut notes = Vec::new();
        let mut loaded = load_with(options, &mut notes)?;
        let bulk = take_ring(&mut loaded.ebpf, "BULK")?;
        let losses = take_map(&mut loaded.ebpf, "LOSSES")?;
        let losses = PerCpuArray::try_from(losses).map_err(|error| refused(&error))?;
        let counts = Arc::new(ring::Counts::default());
        let bulk = ring::start_bulk(bulk, sink, Arc::clone(&counts)).map_err(StartError::Reader)?;
        Ok(Self {
            ebpf: loaded.ebpf,
            family: options.family,
            hooks: loaded.hooks,
            btf: loaded.btf,
            notes,
            losses,
            counts,
            bulk,
        })
    }

    /// Every hook of the family and whether it runs.
    #[must_use]
    pub fn hooks(&self) -> Vec<HookState> {
        self.hooks.clone()
    }

    /// Whether BTF gave the offsets.
    #[must_use]
    pub fn btf(&self) -> bool {
        self.btf
    }

    /// What a reader of the report has to know about how it was traced.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Waits until everything that is in the ring now has been sent on. Whether the reader answered.
    #[must_use]
    pub fn flush(&self) -> bool {
        self.bulk.flush()
    }

    /// What was seen and what was lost since the start, at `ts_ns`.
    #[must_use]
    pub fn losses(&self, ts_ns: Nanos) -> Losses {
        let object = self.family.object();
        count_some(&self.losses, &self.counts, ts_ns, counted(object))
    }

    /// Stalls that have begun and not ended.
    #[must_use]
    pub fn open(&self) -> u64 {
        let count = |name: &str| {
            let map = self.ebpf.map(name)?;
            let map: HashMap<_, u32, [u8; 40]> = HashMap::try_from(map).ok()?;
            Some(map.keys().filter(Result::is_ok).count() as u64)
        };
        let of = |name| count(name).unwrap_or(0);
        of("RECLAIMS") + of("COMPACTIONS")
    }

    /// What every process had to do with swap since the start, at `ts_ns`.
    #[must_use]
    pub fn swaps(&self, ts_ns: Nanos) -> Swaps {
        Swaps {
            ts_ns,
            rows: self.swap_rows().unwrap_or_default(),
            total: self.swap_total().unwrap_or_default(),
        }
    }

    fn swap_rows(&self) -> Option<Vec<SwapRow>> {
        let counts: PerCpuHashMap<_, u32, Counts> =
            PerCpuHashMap::try_from(self.ebpf.map("SWAPS")?).ok()?;
        let owners: HashMap<_, u32, Task> = HashMap::try_from(self.ebpf.map("OWNERS")?).ok()?;
        let rows = counts.iter().filter_map(Result::ok).map(|(pid, cpus)| {
            let task = owners.get(&pid, 0).ok().map(|task| task_of(&task.0));
            SwapRow {
                task: task.unwrap_or_else(|| TaskRef {
                    pid,
                    ..TaskRef::default()
                }),
                ways: sum(cpus.iter()),
            }
        });
        let mut rows: Vec<SwapRow> = rows.collect();
        rows.sort_by_key(|row| row.task.pid);
        Some(rows)
    }

    fn swap_total(&self) -> Option<SwapWays> {
        let total: PerCpuArray<_, Counts> =
            PerCpuArray::try_from(self.ebpf.map("SWAP_TOTAL")?).ok()?;
        Some(sum(total.get(&0, 0).ok()?.iter()))
    }

    /// Detaches, sends on what is still in the ring, and gives the final account.
    #[must_use]
    pub fn stop(self) -> Losses {
        let Self {
            ebpf,
            family,
            losses,
            counts,
            bulk,
            ..
        } = self;
        drop(ebpf);
        // A reader that panicked has said so on stderr; the counts show what it did not send.
        let _ = bulk.stop();
        let counted = counted(family.object());
        count_some(&losses, &counts, ring::monotonic_ns(), counted)
    }
}

fn task_of(task: &aiops_common::Task) -> TaskRef {
    let known = |value: u64| Some(value).filter(|value| *value != aiops_common::NO_VALUE);
    TaskRef {
        pid: task.pid,
        tid: task.tid,
        comm: RawText::from_c(&task.comm),
        start_ns: known(task.start_ns),
        memcg_id: known(task.memcg_id),
    }
}

fn sum<'a>(cpus: impl Iterator<Item = &'a Counts>) -> SwapWays {
    let mut ways = [0_u64; stall::SWAP_WAYS];
    for counts in cpus {
        for (sum, count) in ways.iter_mut().zip(counts.0.ways) {
            *sum += count;
        }
    }
    let of = |way: u32| ways[way as usize];
    SwapWays {
        swap_out: of(stall::SWAP_OUT),
        swap_in: of(stall::SWAP_IN),
        freed: of(stall::SWAP_FREED),
        forked: of(stall::SWAP_FORKED),
        swapoff: of(stall::SWAP_OFF),
        other: of(stall::SWAP_OTHER),
    }
}

fn refused(error: &aya::maps::MapError) -> StartError {
    StartError::Load(load::brief(error))
}

/// Loads and attaches the hooks of a family for a moment.
pub(super) fn probe(family: Family) -> Result<Vec<HookState>, StartError> {
    let options = FamilyOptions {
        family,
        tracer: Options::default(),
        pids: Vec::new(),
        comms: Vec::new(),
        users: Vec::new(),
        cgroups: Vec::new(),
        max_memory: RING.0,
    };
    load_with(&options, &mut Vec::new()).map(|loaded| loaded.hooks)
}

fn load_with(options: &FamilyOptions, notes: &mut Vec<String>) -> Result<load::Loaded, StartError> {
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let mut wanted = Wanted {
        pids: count(options.pids.len()),
        comms: count(options.comms.len()),
        users: count(options.users.len()),
        cgroups: count(options.cgroups.len()),
        css_parent: ABSENT,
    };
    let (ring, processes) = (options.ring_bytes(), options.processes());
    let ranges = if options.family == Family::Swap {
        code_ranges(notes)
    } else {
        Vec::new()
    };
    load::load_family(
        options.family,
        &options.tracer,
        |tracefs, found| {
            wanted.css_parent = found.css_parent;
            let mut fields = tracepoint_fields(tracefs, &stall::FIELDS);
            fields.resize(stall::FIELDS_LEN, ABSENT);
            let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            Wishes {
                globals: vec![
                    ("FIELDS", bytes(&fields)),
                    ("WANTED", bytes(&wanted.words())),
                    ("MM_OWNER", bytes(&[found.mm_owner])),
                ],
                sizes: vec![("BULK", ring), ("SWAPS", processes), ("OWNERS", processes)],
            }
        },
        |ebpf| {
            fill(ebpf, "PIDS", options.pids.iter().copied())?;
            fill(ebpf, "USERS", options.users.iter().copied())?;
            fill(ebpf, "CGROUPS", options.cgroups.iter().copied())?;
            fill(ebpf, "COMMS", options.comms.iter().map(padded))?;
            let Some(map) = ebpf.map_mut("CODE") else {
                return Ok(());
            };
            let mut map: Array<_, Codes> = Array::try_from(map).map_err(|error| refused(&error))?;
            let mut codes = [stall::Code::default(); stall::CODES];
            for (slot, code) in codes.iter_mut().zip(&ranges) {
                *slot = *code;
            }
            map.set(0, Codes(codes), 0)
                .map_err(|error| refused(&error))?;
            Ok(())
        },
    )
}

/// Puts keys into a list of the filter.
fn fill<K: Pod>(
    ebpf: &mut Ebpf,
    name: &str,
    keys: impl Iterator<Item = K>,
) -> Result<(), StartError> {
    let map = ebpf
        .map_mut(name)
        .ok_or_else(|| StartError::Load(format!("the object has no map {name}")))?;
    let mut map: HashMap<_, K, u32> = HashMap::try_from(map).map_err(|error| refused(&error))?;
    for key in keys {
        map.insert(key, 1, 0).map_err(|error| refused(&error))?;
    }
    Ok(())
}

/// A name as the kernel keeps it: cut, and padded with NUL.
fn padded(name: &RawText) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    for (to, from) in comm.iter_mut().take(COMM_LEN - 1).zip(name.as_bytes()) {
        *to = *from;
    }
    comm
}

/// Functions by which a change of swap entries is told: the innermost on the stack counts.
const WAYS: &[(&str, u32)] = &[
    ("do_swap_page", stall::SWAP_IN),
    ("try_to_unmap_one", stall::SWAP_OUT),
    ("shrink_folio_list", stall::SWAP_OUT),
    ("shrink_page_list", stall::SWAP_OUT),
    ("zap_pte_range", stall::SWAP_FREED),
    ("unmap_page_range", stall::SWAP_FREED),
    ("exit_mmap", stall::SWAP_FREED),
    ("copy_pte_range", stall::SWAP_FORKED),
    ("copy_page_range", stall::SWAP_FORKED),
    ("unuse_pte_range", stall::SWAP_OFF),
    ("try_to_unuse", stall::SWAP_OFF),
];

/// Where these functions are, the first [`stall::CODES`] of them.
fn code_ranges(notes: &mut Vec<String>) -> Vec<stall::Code> {
    let names: Vec<&str> = WAYS.iter().map(|(name, _)| *name).collect();
    let ranges = kernel_ranges(&names);
    let way = |name: &str| WAYS.iter().find(|(known, _)| *known == name);
    let codes = ranges.iter().filter_map(|(name, begin, end)| {
        let (_, way) = way(name)?;
        Some(stall::Code {
            begin: *begin,
            len: end.saturating_sub(*begin),
            way: u64::from(*way),
        })
    });
    let codes: Vec<stall::Code> = codes.take(stall::CODES).collect();
    if codes.is_empty() {
        notes.push(
            "/proc/kallsyms hides addresses (kernel.kptr_restrict): swap-in and swap-out cannot be told apart"
                .to_owned(),
        );
    }
    codes
}

const _: () = assert!(COUNTERS as usize > EventKind::ALL.len());

#[cfg(test)]
mod tests {
    use super::super::hooks::FAMILIES;
    use super::super::offsets::skip_or_fail;
    use super::*;

    #[test]
    fn every_family_loads_and_names_what_is_missing() {
        for (family, table) in FAMILIES.iter().skip(1) {
            match probe(*family) {
                Ok(states) => {
                    assert_eq!(states.len(), table.len());
                    for state in states {
                        // A kernel without the event says so; a program that the verifier refuses is a defect.
                        let error = state.error.unwrap_or_default();
                        assert_eq!(state.attached, error.is_empty(), "{}: {error}", state.name);
                        assert!(!error.contains("processed"), "{}: {error}", state.name);
                        println!("{}: attached {} {error}", state.name, state.attached);
                    }
                }
                Err(error) => skip_or_fail(&error.to_string()),
            }
        }
    }

    #[test]
    fn sizes_follow_the_memory() {
        let of = |max_memory| FamilyOptions {
            family: Family::Reclaim,
            tracer: Options::default(),
            pids: Vec::new(),
            comms: Vec::new(),
            users: Vec::new(),
            cgroups: Vec::new(),
            max_memory,
        };
        assert_eq!(of(0).ring_bytes(), 64 << 10);
        assert_eq!(of(3 << 20).ring_bytes(), 512 << 10);
        assert_eq!(of(1 << 40).ring_bytes(), 4 << 20);
        assert_eq!(of(0).processes(), 256);
        assert_eq!(of(1 << 40).processes(), 8192);
    }

    #[test]
    fn names_are_padded_as_the_kernel_does() {
        let comm = padded(&RawText::from("a-name-that-is-too-long"));
        assert_eq!(&comm, b"a-name-that-is-\0");
    }
}
