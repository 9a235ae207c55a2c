//! Kernel hooks: the BPF programs of `aiops-ebpf`, loaded, attached, read and decoded.
//!
//! [`Tracer::start`] brings everything up; from then on events go into the session's [`Sink`] and
//! process lives to the table of identities. One hook that this kernel does not have costs what the
//! table of hooks says, by name; only `oom/mark_victim` is needed.

pub mod alloc;
pub mod btf;
pub mod decode;
mod family;
mod gfp;
pub mod hooks;
mod load;
pub mod offsets;
mod ring;
pub mod tracefs;

#[cfg(test)]
mod live_tests;

pub use family::FamilyOptions;
pub use family::FamilyTracer;
pub use gfp::names as gfp_names;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use aiops_common::COUNTERS;
use aiops_common::EventKind;
use aiops_common::Loss;
use aiops_common::seen_index;
use aya::Ebpf;
use aya::EbpfError;
use aya::maps::MapData;
use aya::maps::PerCpuArray;
use aya::maps::RingBuf;
use aya_log::EbpfLogger;

use super::Life;
use super::Sink;
use crate::model::HookState;
use crate::model::LossCount;
use crate::model::Losses;
use crate::model::Nanos;

/// How to trace.
#[derive(Clone, Debug)]
pub struct Options {
    /// Let the programs tell what they do, through the `log` crate (level debug).
    pub verbose: bool,
    /// Use BTF where the kernel has it. `AIOPS_NO_BTF=1` turns it off as well.
    pub btf: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            verbose: false,
            btf: true,
        }
    }
}

/// Why tracing could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process may not use BPF.
    #[error("not permitted to load BPF programs: {0}")]
    Permission(String),
    /// It has the privilege, yet the system call is refused.
    #[error("the bpf system call is blocked: {0}")]
    Blocked(String),
    /// RLIMIT_MEMLOCK is too small (before Linux 5.11).
    #[error("not enough locked memory for BPF maps: {0}")]
    Memlock(String),
    /// No trace events.
    #[error("tracefs is not available")]
    Tracefs(#[source] io::Error),
    /// The kernel cannot tell of OOM kills.
    #[error("this kernel has no tracepoint oom/mark_victim")]
    NoMarkVictim,
    /// A hook that is needed.
    #[error("hook {0} cannot be attached: {1}")]
    Hook(&'static str, String),
    /// `AIOPS_BPF_OBJECT` cannot be read.
    #[error("cannot read the BPF object {0}")]
    Object(String, #[source] io::Error),
    /// The object was refused.
    #[error("the kernel does not take the BPF object: {0}")]
    Load(String),
    /// A reader of the rings could not be started.
    #[error("cannot start a reader of events")]
    Reader(#[source] io::Error),
}

impl StartError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Permission(_) => {
                "run as root (sudo), or with CAP_BPF and CAP_PERFMON (before Linux 5.8: CAP_SYS_ADMIN)"
            }
            Self::Blocked(_) => {
                "a container's seccomp profile or kernel lockdown forbids it: run on the host, or with --privileged"
            }
            Self::Memlock(_) => "raise the limit: `ulimit -l unlimited`",
            Self::Tracefs(_) => {
                "run as root on the host: `mount -t tracefs tracefs /sys/kernel/tracing`"
            }
            Self::NoMarkVictim => {
                "a kernel of 4.14 or later with CONFIG_TRACEPOINTS is needed; until then, read the kernel log (`dmesg`)"
            }
            Self::Hook(..) | Self::Load(_) => "`aiops doctor` shows what works on this kernel",
            Self::Object(..) => "unset AIOPS_BPF_OBJECT to use the built-in object",
            Self::Reader(_) => "check the limits on threads and open files (`ulimit -u -n`)",
        }
    }

    /// Nobody without privilege may mount tracefs.
    fn from_tracefs(error: io::Error) -> Self {
        if !may_use_bpf() {
            return Self::Permission(format!("tracefs: {error}"));
        }
        Self::Tracefs(error)
    }

    /// Tells apart why the kernel refused maps or BTF.
    fn from_load(error: &EbpfError) -> Self {
        let text = load::brief(error);
        match load::os_error(error) {
            Some(libc::EPERM | libc::EACCES) if may_use_bpf() => memlock_or_blocked(text),
            Some(libc::EPERM | libc::EACCES) => Self::Permission(text),
            Some(libc::ENOSYS) => Self::Blocked(text),
            _ => Self::Load(text),
        }
    }
}

/// Before Linux 5.11 the limit on locked memory also shows as EPERM.
fn memlock_or_blocked(text: String) -> StartError {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    if limit.current.is_some_and(|bytes| bytes < 4 << 20) {
        StartError::Memlock(text)
    } else {
        StartError::Blocked(text)
    }
}

/// Whether the process has CAP_SYS_ADMIN, or both CAP_BPF and CAP_PERFMON (capability(7)).
fn may_use_bpf() -> bool {
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    has(SYS_ADMIN) || (has(BPF) && has(PERFMON))
}

/// The running programs and their readers.
pub struct Tracer {
    /// Its programs and links: dropping it detaches.
    ebpf: Ebpf,
    hooks: Vec<HookState>,
    btf: bool,
    notes: Vec<String>,
    losses: PerCpuArray<MapData, u64>,
    counts: Arc<ring::Counts>,
    oom: ring::OomReader,
    life: ring::LifeReader,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("hooks", &self.hooks)
            .field("btf", &self.btf)
            .finish_non_exhaustive()
    }
}

impl Tracer {
    /// Loads and attaches the programs and starts both readers. When it returns, no OOM kill is missed.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        options: &Options,
        sink: Sink,
        lives: mpsc::Sender<Life>,
    ) -> Result<Self, StartError> {
        let mut loaded = load::load(options)?;
        let oom = take_ring(&mut loaded.ebpf, "OOM")?;
        let life = take_ring(&mut loaded.ebpf, "LIFE")?;
        let losses = take_map(&mut loaded.ebpf, "LOSSES")?;
        let losses =
            PerCpuArray::try_from(losses).map_err(|error| StartError::Load(load::brief(&error)))?;
        let messages = options
            .verbose
            .then(|| EbpfLogger::init(&mut loaded.ebpf).ok())
            .flatten();
        let counts = Arc::new(ring::Counts::default());
        let oom = ring::start_oom(oom, sink, Arc::clone(&counts)).map_err(StartError::Reader)?;
        let life = ring::start_life(life, messages, lives, Arc::clone(&counts))
            .map_err(StartError::Reader)?;
        Ok(Self {
            ebpf: loaded.ebpf,
            hooks: loaded.hooks,
            btf: loaded.btf,
            notes: loaded.notes,
            losses,
            counts,
            oom,
            life,
        })
    }

    /// Every hook of the table and whether it runs.
    #[must_use]
    pub fn hooks(&self) -> Vec<HookState> {
        self.hooks.clone()
    }

    /// Whether BTF gave the offsets.
    #[must_use]
    pub fn btf(&self) -> bool {
        self.btf
    }

    /// What the search for offsets has to tell.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Waits until everything that is in the rings now has been sent on. Whether both readers answered.
    pub fn flush(&self) -> bool {
        let oom = self.oom.flush();
        self.life.flush() && oom
    }

    /// What was seen and what was lost since the start, at `ts_ns`.
    #[must_use]
    pub fn losses(&self, ts_ns: Nanos) -> Losses {
        count_losses(&self.losses, &self.counts, ts_ns)
    }

    /// Detaches, sends on what is still in the rings, and gives the final account.
    pub fn stop(self) -> Losses {
        let Self {
            ebpf,
            losses,
            counts,
            oom,
            life,
            ..
        } = self;
        drop(ebpf);
        // A reader that panicked has said so on stderr; the counts show what it did not send.
        let _ = (oom.stop(), life.stop());
        count_losses(&losses, &counts, ring::monotonic_ns())
    }
}

/// Tries every hook of every family once and lets go again: for `doctor`. A family whose object is refused, or
/// whose needed hook is missing, has none.
///
/// # Errors
/// See [`StartError`]; of `trace oom`, which is the first.
pub fn probe() -> Result<Vec<HookState>, StartError> {
    let mut hooks = load::load(&Options::default()).map(|loaded| loaded.hooks)?;
    for (family, table) in hooks::FAMILIES.iter().skip(1) {
        let states = family::probe(*family).unwrap_or_else(|error| {
            let missing = |hook: &hooks::Hook| HookState {
                name: hook.name.to_owned(),
                attached: false,
                error: Some(error.to_string()),
            };
            table.iter().map(missing).collect()
        });
        hooks.extend(states);
    }
    Ok(hooks)
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, StartError> {
    ebpf.take_map(name)
        .ok_or_else(|| StartError::Load(format!("the object has no map {name}")))
}

fn take_ring(ebpf: &mut Ebpf, name: &str) -> Result<RingBuf<MapData>, StartError> {
    let map = take_map(ebpf, name)?;
    RingBuf::try_from(map).map_err(|error| StartError::Load(load::brief(&error)))
}

/// Name of a kind in `seen`.
fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::OomMark => "oom_mark",
        EventKind::OomDelivered => "oom_delivered",
        EventKind::OomStep => "oom_step",
        EventKind::ReclaimBegin => "reclaim_begin",
        EventKind::Life => "life",
        EventKind::Stall => "stall",
    }
}

/// What the object of `trace oom` counts.
const OOM_KINDS: &[EventKind] = &[
    EventKind::OomMark,
    EventKind::OomDelivered,
    EventKind::OomStep,
    EventKind::ReclaimBegin,
    EventKind::Life,
];
const OOM_CAUSES: &[Loss] = &[
    Loss::OomRingFull,
    Loss::LifeRingFull,
    Loss::PendingFull,
    Loss::StackTruncated,
    Loss::StackFailed,
];

fn count_losses(map: &PerCpuArray<MapData, u64>, counts: &ring::Counts, ts_ns: Nanos) -> Losses {
    count_some(map, counts, ts_ns, (OOM_KINDS, OOM_CAUSES))
}

/// The counts of these kinds and causes: an object does not know those of others.
fn count_some(
    map: &PerCpuArray<MapData, u64>,
    counts: &ring::Counts,
    ts_ns: Nanos,
    (kinds, causes): (&[EventKind], &[Loss]),
) -> Losses {
    let mut sums = [0_u64; COUNTERS as usize];
    for (index, sum) in (0..COUNTERS).zip(&mut sums) {
        // The array has this index: reading it fails only when the map's descriptor is gone.
        let values = map.get(&index, 0);
        *sum = values.map_or(0, |values| values.iter().sum());
    }
    let row = |name: &str, count: u64| LossCount {
        name: name.to_owned(),
        count,
    };
    let seen = EventKind::ALL
        .iter()
        .filter(|kind| kinds.contains(kind))
        .map(|kind| row(kind_name(*kind), sums[seen_index(*kind) as usize]))
        .collect();
    let mut lost: Vec<LossCount> = Loss::ALL
        .iter()
        .filter(|(cause, _)| causes.contains(cause))
        .map(|(cause, name)| row(name, sums[*cause as usize]))
        .collect();
    lost.push(row(
        "undecodable",
        counts.undecodable.load(Ordering::Relaxed),
    ));
    Losses { ts_ns, seen, lost }
}
