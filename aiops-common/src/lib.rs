//! The ABI between the BPF programs (`aiops-ebpf`) and user space (`aiops`).
//!
//! Rules, asserted at compile time where they can be:
//! - every record is `#[repr(C)]`, a multiple of 8 bytes, without implicit padding, and begins with
//!   a [`Header`]; one file per event family;
//! - flags are integers, never `bool`; what was not read is [`NO_VALUE`], never 0;
//! - no offset of a kernel structure is written down here: [`layout::Layout`] carries them from
//!   user space, which takes them from tracefs and BTF at start;
//! - a change of any record raises [`ABI_VERSION`].
#![no_std]

pub mod alloc;
pub mod filter;
pub mod layout;
pub mod life;
pub mod oom;
pub mod reclaim;
pub mod stall;

/// Version of every structure of this crate; part of each [`Header`].
pub const ABI_VERSION: u16 = 1;

/// Marks a 64-bit field that the kernel side could not read.
pub const NO_VALUE: u64 = u64::MAX;

/// Marks a 32-bit field that the kernel side could not read.
pub const NO_VALUE_32: u32 = u32::MAX;

/// Length of a task's `comm` (kernel: `TASK_COMM_LEN`), NUL included.
pub const COMM_LEN: usize = 16;

/// Most frames of one stack. The kernel's own limit is 127 (`PERF_MAX_STACK_DEPTH`); 64 keep the
/// largest record below 2 kB.
pub const MAX_FRAMES: usize = 64;

/// What a record is. One row per event; the numbers are part of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum EventKind {
    /// [`oom::Mark`]: `oom/mark_victim`, with what `signal_generate` had read.
    OomMark = 1,
    /// [`oom::Delivered`]: SIGKILL reaches a victim, in the victim's own context.
    OomDelivered = 2,
    /// [`oom::Step`]: a victim exits, or the OOM reaper works on it.
    OomStep = 3,
    /// [`reclaim::Begin`]: direct or memory-cgroup reclaim begins (rate-limited).
    ReclaimBegin = 4,
    /// [`life::Life`]: fork, exec or exit of a process.
    Life = 5,
    /// [`stall::Stall`]: a task waited while the kernel looked for memory.
    Stall = 6,
}

impl EventKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 6] = [
        Self::OomMark,
        Self::OomDelivered,
        Self::OomStep,
        Self::ReclaimBegin,
        Self::Life,
        Self::Stall,
    ];

    /// The kind with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// The beginning of every record.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Header {
    /// `EventKind` as a number.
    pub kind: u16,
    /// [`ABI_VERSION`] of the writer.
    pub version: u16,
    /// Length of the whole record, bytes.
    pub len: u32,
    /// `bpf_ktime_get_ns()`: CLOCK_MONOTONIC, ns.
    pub ts_ns: u64,
    /// CPU that ran the program.
    pub cpu: u32,
    /// Always 0.
    pub reserved: u32,
}

/// A thread, as the kernel names it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Task {
    /// Thread id (kernel: `pid`).
    pub tid: u32,
    /// Process id (kernel: `tgid`).
    pub pid: u32,
    /// `task_struct.comm`, NUL-terminated.
    pub comm: [u8; COMM_LEN],
    /// `task_struct.start_boottime` of the *thread* (ns since boot), or [`NO_VALUE`].
    pub start_ns: u64,
    /// Inode of its cgroup in the memory controller's hierarchy (`kernfs_node.id`), or [`NO_VALUE`].
    pub memcg_id: u64,
}

/// A stack: the first `len` of `frames` are instruction pointers, innermost first.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Stack {
    /// Frames that are valid, or a negative errno of the helper.
    pub len: i32,
    /// Always 0.
    pub reserved: u32,
    /// Instruction pointers.
    pub frames: [u64; MAX_FRAMES],
}

/// Why a record was lost or a reading failed: an index into the `LOSSES` per-CPU array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Loss {
    /// No room in the OOM ring.
    OomRingFull = 0,
    /// No room in the ring of process lives.
    LifeRingFull = 1,
    /// No room in the table of victims between `signal_generate` and `mark_victim`.
    PendingFull = 2,
    /// A stack filled all [`MAX_FRAMES`] frames: it had that many or more.
    StackTruncated = 3,
    /// A stack helper failed.
    StackFailed = 4,
    /// No room in the ring of bulk events.
    BulkRingFull = 5,
    /// No room in the table of what has begun and not ended.
    OpenFull = 6,
    /// No room in the table of processes.
    TableFull = 7,
}

impl Loss {
    /// Every cause with its name in `accounting`, in the order of its index.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::OomRingFull, "oom_ring"),
        (Self::LifeRingFull, "life_ring"),
        (Self::PendingFull, "pending_map"),
        (Self::StackTruncated, "stack_truncated"),
        (Self::StackFailed, "stack_failed"),
        (Self::BulkRingFull, "bulk_ring"),
        (Self::OpenFull, "open_map"),
        (Self::TableFull, "process_map"),
    ];
}

/// An array index that counts records handed over: one per [`EventKind`], after the losses.
pub const COUNTERS: u32 = 32;

/// Where the count of records of `kind` stands in the per-CPU array.
#[must_use]
pub const fn seen_index(kind: EventKind) -> u32 {
    16 + kind as u32 - 1
}

const _: () = {
    assert!(size_of::<Header>() == 24);
    assert!(size_of::<Task>() == 40);
    assert!(size_of::<Stack>() == 8 + 8 * MAX_FRAMES);
    assert!(Loss::ALL.len() <= 16 && seen_index(EventKind::Stall) < COUNTERS);
};
