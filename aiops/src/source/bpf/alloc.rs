//! The programs of `aiops trace alloc`, loaded, attached and read.
//!
//! Nothing here looks at /proc: samples come out as they are, with a copy of the user stack, for
//! `source::unwind` to make frames of.

use std::mem::offset_of;

use aiops_common::Loss;
use aiops_common::NO_VALUE;
use aiops_common::Stack;
use aiops_common::Task;
use aiops_common::alloc as wire;
use aya::Ebpf;
use aya::EbpfLoader;
use aya::Pod;
use aya::maps::HashMap;
use aya::maps::MapData;
use aya::maps::PerCpuArray;
use aya::maps::PerCpuHashMap;
use aya::maps::RingBuf;
use aya::maps::StackTraceMap;
use aya::programs::RawTracePoint;
use aya::programs::TracePoint;

use super::StartError;
use super::decode::Bytes;
use super::decode::DecodeError;
use super::load;
use super::offsets;
use super::tracefs;
use super::tracefs::Tracefs;
use crate::model::AllocKind;
use crate::model::HookState;
use crate::model::LossCount;
use crate::model::Losses;
use crate::model::Nanos;
use crate::model::RawText;
use crate::source::unwind::Registers;

/// The committed object; `cargo xtask bpf` builds it from `aiops-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../aiops-ebpf/object/alloc.bpf.o"
));

/// Processes counted at once by [`Mode::exact`].
const MOST_COUNTS: u32 = 16_384;
/// Different places of [`Mode::Whole`].
const MOST_WHOLE: u32 = 65_536;
/// Stacks of [`Mode::Whole`], 1 kB each.
const MOST_STACKS: u32 = 32_768;
/// Sampled pages that are followed at once, 80 bytes each: at 512 KiB, 64 GiB of memory.
const MOST_HELD: u32 = 131_072;
/// Room for samples that nobody has read yet.
const RING_BYTES: u32 = 16 << 20;

/// Which allocations are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One in so many bytes, with stacks.
    Sample {
        /// Mean distance, bytes.
        mean_bytes: u64,
    },
    /// All of them, with stacks by frame pointers, added up in the kernel.
    Whole,
    /// All of them, without stacks.
    Exact,
}

/// Whose allocations; an empty list wants all.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Process ids.
    pub pids: Vec<u32>,
    /// Names as the kernel keeps them.
    pub comms: Vec<Vec<u8>>,
    /// Inodes of cgroups, those below a wanted one too.
    pub cgroups: Option<Vec<u64>>,
    /// Users.
    pub uids: Vec<u32>,
}

/// How to trace.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which allocations.
    pub mode: Mode,
    /// Also kmalloc and slab caches.
    pub kernel: bool,
    /// Follow sampled pages until they are given back.
    pub held: bool,
    /// Whose.
    pub wanted: Wanted,
}

/// One sampled allocation.
#[derive(Debug)]
pub struct Sample<'a> {
    /// When.
    pub ts_ns: Nanos,
    /// Process id.
    pub pid: u32,
    /// Name of the thread.
    pub comm: RawText,
    /// Start of the process, ns since boot.
    pub start_ns: Option<u64>,
    /// Tells address spaces of one process apart; 0: a kernel thread.
    pub generation: u64,
    /// What was allocated.
    pub kind: AllocKind,
    /// Its size.
    pub bytes: u64,
    /// Names the pages while they are followed; 0: they are not.
    pub page: u64,
    /// Kernel stack, innermost first.
    pub kernel: Vec<u64>,
    /// User stack by frame pointers.
    pub chain: Vec<u64>,
    /// User registers.
    pub registers: Registers,
    /// The user stack from the stack pointer on.
    pub copy: &'a [u8],
}

/// Pages of a sample were given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freed {
    /// When.
    pub ts_ns: Nanos,
    /// [`Sample::page`].
    pub page: u64,
    /// [`Sample::ts_ns`].
    pub since_ns: Nanos,
}

/// What comes out of the ring.
#[derive(Debug)]
pub enum Record<'a> {
    /// Memory was taken.
    Taken(Sample<'a>),
    /// It was given back.
    Freed(Freed),
}

/// What a process has taken since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Process id.
    pub pid: u32,
    /// Start of the process, ns since boot.
    pub start_ns: Option<u64>,
    /// Name of the thread that came first.
    pub comm: RawText,
    /// Allocations.
    pub allocations: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Allocations of one place since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Process id.
    pub pid: u32,
    /// Size of each.
    pub bytes: u64,
    /// How many.
    pub allocations: u64,
    /// Kernel stack.
    pub kernel: Vec<u64>,
    /// User stack, by frame pointers.
    pub user: Vec<u64>,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct ConfigGlobal(wire::Config);
// SAFETY: a `repr(C)` structure of integers without padding: any bits are valid.
unsafe impl Pod for ConfigGlobal {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct CountValue(wire::Count);
// SAFETY: as above; the name is bytes.
unsafe impl Pod for CountValue {}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
struct WholeKey {
    pid: u32,
    order: u32,
    kernel: i32,
    user: i32,
}
const _: () = assert!(size_of::<WholeKey>() == size_of::<wire::Whole>());
// SAFETY: as above.
unsafe impl Pod for WholeKey {}

/// The running programs.
pub struct AllocTracer {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    losses: PerCpuArray<MapData, u64>,
    hooks: Vec<HookState>,
    notes: Vec<String>,
    btf: bool,
    page_size: u64,
    undecodable: u64,
    stacks_missing: u64,
}

impl std::fmt::Debug for AllocTracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AllocTracer")
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

/// A program, how it is attached, and what it is called in reports.
type Row = (&'static str, &'static str, bool);

const PAGE_SAMPLE: Row = ("page_sample", "mm_page_alloc", true);
const PAGE_WHOLE: Row = ("page_whole", "mm_page_alloc", true);
const PAGE_COUNT: Row = ("page_count", "mm_page_alloc", true);
const PAGE_FREE: Row = ("page_free", "mm_page_free", true);
const KERNEL: [Row; 2] = [
    ("kmalloc_sample", "kmalloc", false),
    ("cache_sample", "kmem_cache_alloc", false),
];

impl AllocTracer {
    /// Loads and attaches.
    ///
    /// # Errors
    /// See [`StartError`]: without its hook on `mm_page_alloc` there is nothing to see.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        load::lift_memlock();
        let started = tracefs::with_tracefs(|tracefs| start(tracefs, options));
        started.map_err(StartError::from_tracefs)?
    }

    /// Every hook and whether it runs.
    #[must_use]
    pub fn hooks(&self) -> Vec<HookState> {
        self.hooks.clone()
    }

    /// What the search for offsets has to tell.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether BTF gave the offsets.
    #[must_use]
    pub fn btf(&self) -> bool {
        self.btf
    }

    /// Takes the samples that are in the ring; at most `most`. Whether there may be more.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(Record<'_>)) -> bool {
        for _ in 0..most {
            let Some(record) = self.ring.next() else {
                return false;
            };
            match decode(&record) {
                Ok(record) => each(record),
                Err(_) => self.undecodable += 1,
            }
        }
        true
    }

    /// What every process has taken since the start ([`Mode::Exact`]).
    #[must_use]
    pub fn counts(&self) -> Vec<Count> {
        let Some(map) = self.ebpf.map("COUNTS") else {
            return Vec::new();
        };
        let Ok(map) = PerCpuHashMap::<_, u32, CountValue>::try_from(map) else {
            return Vec::new();
        };
        let rows = map.iter().filter_map(Result::ok);
        rows.map(|(pid, values)| {
            let all = || values.iter().map(|value| &value.0);
            // The CPUs that have not seen it have zeros.
            let first = all().find(|value| value.allocations > 0);
            Count {
                pid,
                start_ns: first
                    .map(|value| value.start_ns)
                    .filter(|start| *start != NO_VALUE && *start != 0),
                comm: RawText::new(first.map_or(&[][..], |value| name(&value.comm))),
                allocations: all().map(|value| value.allocations).sum(),
                bytes: all().map(|value| value.bytes).sum(),
            }
        })
        .collect()
    }

    /// Every place that has allocated since the start ([`Mode::Whole`]).
    pub fn places(&mut self) -> Vec<Place> {
        let mut found = Vec::new();
        let mut missing = 0;
        let maps = (self.ebpf.map("WHOLE"), self.ebpf.map("STACKS"));
        if let (Some(whole), Some(stacks)) = maps
            && let Ok(whole) = PerCpuHashMap::<_, WholeKey, u64>::try_from(whole)
            && let Ok(stacks) = StackTraceMap::try_from(stacks)
        {
            for (key, values) in whole.iter().filter_map(Result::ok) {
                let allocations: u64 = values.iter().sum();
                let mut frames = |id: i32| {
                    let id = u32::try_from(id).ok();
                    let trace = id.and_then(|id| stacks.get(&id, 0).ok());
                    if trace.is_none() {
                        missing += allocations;
                    }
                    let trace = trace
                        .as_ref()
                        .map(aya::maps::stack_trace::StackTrace::frames);
                    let ips = trace.unwrap_or_default().iter().map(|frame| frame.ip);
                    ips.collect::<Vec<u64>>()
                };
                found.push(Place {
                    pid: key.pid,
                    bytes: self.page_size << (key.order & 31),
                    allocations,
                    kernel: frames(key.kernel),
                    user: frames(key.user),
                });
            }
        }
        self.stacks_missing = missing;
        found
    }

    /// Lets other cgroups count: those below a wanted one come and go.
    pub fn set_cgroups(&mut self, wanted: &[u64]) -> bool {
        fill(&mut self.ebpf, "CGROUPS", wanted).is_ok()
    }

    /// What was seen and what was lost since the start.
    #[must_use]
    pub fn losses(&self, ts_ns: Nanos) -> Losses {
        let sum = |index: u32| {
            let values = self.losses.get(&index, 0);
            values.map_or(0, |values| values.iter().sum::<u64>())
        };
        let row = |name: &str, count: u64| LossCount {
            name: name.to_owned(),
            count,
        };
        Losses {
            ts_ns,
            seen: vec![
                row("alloc_sample", sum(wire::SEEN_SAMPLES)),
                row("alloc_filtered", sum(wire::SEEN_FILTERED)),
                row("alloc_freed", sum(wire::SEEN_FREED)),
            ],
            lost: vec![
                row("alloc_ring", sum(wire::LOST_RING)),
                row("freed_ring", sum(wire::LOST_FREED)),
                row("alloc_held", sum(wire::LOST_HELD)),
                row("alloc_counts", sum(wire::LOST_COUNTS)),
                row("alloc_places", sum(wire::LOST_WHOLE)),
                row("stack_missing", self.stacks_missing),
                row("stack_copy", sum(wire::LOST_COPY)),
                row("stack_truncated", sum(Loss::StackTruncated as u32)),
                row("stack_failed", sum(Loss::StackFailed as u32)),
                row("undecodable", self.undecodable),
            ],
        }
    }
}

fn start(tracefs: &Tracefs, options: &Options) -> Result<AllocTracer, StartError> {
    let use_btf = std::env::var_os(load::NO_BTF_VARIABLE).is_none_or(|value| value != "1");
    let found = offsets::discover(tracefs, use_btf);
    let page_size = if found.layout.page_size == u32::MAX {
        4096
    } else {
        found.layout.page_size
    };
    let field = |event: &str, field: &str| {
        let format = tracefs.format("kmem", event);
        let found = format.and_then(|format| format.field(field).map(|field| field.offset));
        found.unwrap_or(u32::MAX)
    };
    let config = wire::Config {
        mean_bytes: match options.mode {
            Mode::Sample { mean_bytes } => mean_bytes.max(1),
            Mode::Whole | Mode::Exact => u64::from(u32::MAX),
        },
        page_size,
        filters: filters(&options.wanted),
        own_pid: std::process::id(),
        kmalloc_bytes: field("kmalloc", "bytes_alloc"),
        kmalloc_gfp: field("kmalloc", "gfp_flags"),
        cache_bytes: field("kmem_cache_alloc", "bytes_alloc"),
        cache_gfp: field("kmem_cache_alloc", "gfp_flags"),
        held: u32::from(options.held),
    };
    let layout = load::LayoutGlobal(found.layout);
    let config = ConfigGlobal(config);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("LAYOUT", &layout, true)
        .override_global("CONFIG", &config, true);
    match options.mode {
        Mode::Sample { .. } => {
            loader.map_max_entries("SAMPLES", RING_BYTES);
        }
        Mode::Whole => {
            loader
                .map_max_entries("WHOLE", MOST_WHOLE)
                .map_max_entries("STACKS", MOST_STACKS);
        }
        Mode::Exact => {
            loader.map_max_entries("COUNTS", MOST_COUNTS);
        }
    }
    if options.held {
        loader.map_max_entries("HELD", MOST_HELD);
    }
    if !matches!(options.mode, Mode::Sample { .. }) && !options.kernel {
        loader.map_max_entries("SAMPLES", 4096);
    }
    let mut ebpf = loader
        .load(OBJECT)
        .map_err(|error| StartError::from_load(&error))?;
    let wanted = &options.wanted;
    let filled = fill(&mut ebpf, "PIDS", &wanted.pids)
        .and_then(|()| fill(&mut ebpf, "UIDS", &wanted.uids))
        .and_then(|()| {
            fill(
                &mut ebpf,
                "CGROUPS",
                wanted.cgroups.as_deref().unwrap_or(&[]),
            )
        })
        .and_then(|()| fill(&mut ebpf, "COMMS", &comms(&wanted.comms)));
    filled.map_err(StartError::Load)?;
    let ring = super::take_ring(&mut ebpf, "SAMPLES")?;
    let losses = super::take_map(&mut ebpf, "LOSSES")?;
    let losses =
        PerCpuArray::try_from(losses).map_err(|error| StartError::Load(load::brief(&error)))?;
    let mut hooks = Vec::new();
    let first = match options.mode {
        Mode::Sample { .. } => PAGE_SAMPLE,
        Mode::Whole => PAGE_WHOLE,
        Mode::Exact => PAGE_COUNT,
    };
    let more = if options.kernel { &KERNEL[..] } else { &[] };
    // What is given back is seen before what is taken.
    let free = options.held.then_some(PAGE_FREE);
    for row in free.iter().chain(more).chain([&first]) {
        let attached = attach(&mut ebpf, *row);
        if let (Err(error), true) = (&attached, row.2) {
            return Err(StartError::Hook(row.1, error.clone()));
        }
        hooks.push(HookState {
            name: row.0.to_owned(),
            attached: attached.is_ok(),
            error: attached.err(),
        });
    }
    Ok(AllocTracer {
        ebpf,
        ring,
        losses,
        hooks,
        notes: Vec::new(),
        btf: found.btf,
        page_size: u64::from(page_size),
        undecodable: 0,
        stacks_missing: 0,
    })
}

fn filters(wanted: &Wanted) -> u32 {
    let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
    bit(!wanted.pids.is_empty(), wire::FILTER_PID)
        | bit(!wanted.comms.is_empty(), wire::FILTER_COMM)
        | bit(wanted.cgroups.is_some(), wire::FILTER_CGROUP)
        | bit(!wanted.uids.is_empty(), wire::FILTER_UID)
}

/// Names as the kernel has them: 16 bytes, the rest NUL.
fn comms(names: &[Vec<u8>]) -> Vec<[u8; 16]> {
    let padded = |name: &Vec<u8>| {
        let mut bytes = [0; 16];
        let len = name.len().min(15);
        bytes[..len].copy_from_slice(&name[..len]);
        bytes
    };
    names.iter().map(padded).collect()
}

/// Puts keys into a set; those that are no longer wanted are taken out.
fn fill<K: Pod + PartialEq>(ebpf: &mut Ebpf, name: &str, wanted: &[K]) -> Result<(), String> {
    let map = ebpf
        .map_mut(name)
        .ok_or_else(|| format!("the object has no map {name}"))?;
    let mut set: HashMap<_, K, u8> = HashMap::try_from(map).map_err(|error| load::brief(&error))?;
    let known: Vec<K> = set.keys().filter_map(Result::ok).collect();
    for key in known.iter().filter(|key| !wanted.contains(key)) {
        set.remove(key).map_err(|error| load::brief(&error))?;
    }
    for key in wanted.iter().filter(|key| !known.contains(key)) {
        set.insert(key, 1, 0).map_err(|error| load::brief(&error))?;
    }
    Ok(())
}

fn attach(ebpf: &mut Ebpf, (program, event, raw): Row) -> Result<(), String> {
    let program = ebpf
        .program_mut(program)
        .ok_or_else(|| format!("the object has no program {program}"))?;
    if raw {
        let program: &mut RawTracePoint =
            program.try_into().map_err(|error| load::brief(&error))?;
        program.load().map_err(|error| load::brief(&error))?;
        program.attach(event).map_err(|error| load::brief(&error))?;
    } else {
        let program: &mut TracePoint = program.try_into().map_err(|error| load::brief(&error))?;
        program.load().map_err(|error| load::brief(&error))?;
        program
            .attach("kmem", event)
            .map_err(|error| load::brief(&error))?;
    }
    Ok(())
}

/// A name up to its NUL.
fn name(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

fn decode(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let all = Bytes(bytes);
    let kind = u16::from_ne_bytes(all.array(offset_of!(aiops_common::Header, kind))?);
    if kind == wire::KIND_FREED {
        return Ok(Record::Freed(Freed {
            ts_ns: all.u64(offset_of!(aiops_common::Header, ts_ns))?,
            page: all.u64(offset_of!(wire::Freed, page))?,
            since_ns: all.u64(offset_of!(wire::Freed, since_ns))?,
        }));
    }
    if kind != wire::KIND_SAMPLE {
        return Err(DecodeError::Kind(kind));
    }
    if bytes.len() < size_of::<wire::Sample>() {
        return Err(DecodeError::Short(bytes.len()));
    }
    let word = |at: usize| all.u64(at);
    let task = offset_of!(wire::Sample, task);
    let comm: [u8; 16] = all.array(task + offset_of!(Task, comm))?;
    let what = all.u32(offset_of!(wire::Sample, what))?;
    let copied = all.u32(offset_of!(wire::Sample, copied))? as usize;
    let from = offset_of!(wire::Sample, copy);
    let start = word(offset_of!(wire::Sample, process_start_ns))?;
    Ok(Record::Taken(Sample {
        ts_ns: word(offset_of!(aiops_common::Header, ts_ns))?,
        pid: all.u32(task + offset_of!(Task, pid))?,
        comm: RawText::new(name(&comm)),
        start_ns: Some(start).filter(|start| *start != NO_VALUE),
        generation: word(offset_of!(wire::Sample, mm))?,
        kind: match what {
            wire::WHAT_PAGES => AllocKind::Pages,
            wire::WHAT_KMALLOC => AllocKind::Kmalloc,
            wire::WHAT_CACHE => AllocKind::Cache,
            other => return Err(DecodeError::Number(other)),
        },
        bytes: word(offset_of!(wire::Sample, bytes))?,
        page: word(offset_of!(wire::Sample, page))?,
        kernel: frames(all, offset_of!(wire::Sample, kernel))?,
        chain: frames(all, offset_of!(wire::Sample, chain))?,
        registers: Registers {
            ip: word(offset_of!(wire::Sample, ip))?,
            sp: word(offset_of!(wire::Sample, sp))?,
            fp: word(offset_of!(wire::Sample, fp))?,
            lr: word(offset_of!(wire::Sample, lr))?,
        },
        copy: bytes
            .get(from..from.saturating_add(copied))
            .ok_or(DecodeError::Short(bytes.len()))?,
    }))
}

fn frames(all: Bytes<'_>, at: usize) -> Result<Vec<u64>, DecodeError> {
    let len = all.i32(at + offset_of!(Stack, len))?;
    let len = usize::try_from(len).unwrap_or(0);
    let first = at + offset_of!(Stack, frames);
    let len = len.min(aiops_common::MAX_FRAMES);
    (0..len).map(|index| all.u64(first + 8 * index)).collect()
}
