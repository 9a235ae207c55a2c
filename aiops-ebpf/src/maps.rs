//! Every map and every global, with its size and the reason for it.

use aiops_common::COUNTERS;
use aiops_common::Stack;
use aiops_common::Task;
use aiops_common::layout::Layout;
use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::maps::RingBuf;

/// Where the kernel's fields are; set by user space before loading.
#[unsafe(no_mangle)]
pub static LAYOUT: Global<Layout> = Global::new(Layout::UNKNOWN);

/// 1 when `signal_generate` is attached: a mark without its record means "was already exiting".
#[unsafe(no_mangle)]
pub static HAVE_SIGNAL: Global<u32> = Global::new(0);

/// Size of [`OOM`]: room for 250 marks that nobody has read yet.
pub const OOM_BYTES: u32 = 512 * 1024;

/// Everything about OOM kills and reclaim; wakes its reader.
#[map]
pub static OOM: RingBuf = RingBuf::with_byte_size(OOM_BYTES, 0);

/// Processes that come and go: 3,200 between two looks of its reader, which is not woken.
#[map]
pub static LIFE: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// Losses by cause, then records handed over by kind (`aiops_common::Loss`, `seen_index`).
#[map]
pub static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// What `signal_generate` read about a task; `mark_victim` follows within microseconds.
#[repr(C)]
pub struct Pending {
    pub victim: Task,
    /// Thread that sent the signal: only its own mark may use this.
    pub sender: u32,
    pub uid: u32,
    pub signal_ns: u64,
    pub total_vm_kb: u64,
    pub anon_rss_kb: u64,
    pub file_rss_kb: u64,
    pub shmem_rss_kb: u64,
    pub swap_kb: u64,
    pub pgtables_kb: u64,
    pub oom_score_adj: i32,
    pub flags: u32,
    pub kernel: Stack,
}

/// By the victim's thread id. A mark takes its entry away at once; what other SIGKILLs of the kernel
/// leave behind (a PID namespace that ends) is evicted as the oldest. 180 kB.
#[map]
pub static PENDING: LruHashMap<u32, Pending> = LruHashMap::with_max_entries(256, 0);

/// Too large for the 512 bytes of a program's stack.
#[map]
pub static SCRATCH: PerCpuArray<Pending> = PerCpuArray::with_max_entries(1, 0);

/// Processes that the kernel has sent SIGKILL to, by process id, until they have exited.
#[map]
pub static VICTIMS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(4096, 0);

/// Processes of [`VICTIMS`] of which a thread has taken the signal: an insert tells the first one.
#[map]
pub static DELIVERED: LruHashMap<u32, u32> = LruHashMap::with_max_entries(4096, 0);

/// A task's last reclaim.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LastReclaim {
    pub ts_ns: u64,
    /// When its last record was emitted.
    pub emitted_ns: u64,
    pub gfp_mask: u32,
    pub order: i32,
}

/// By thread id. 4,096 tasks may reclaim at once before the oldest is forgotten.
#[map]
pub static LAST_RECLAIM: LruHashMap<u32, LastReclaim> = LruHashMap::with_max_entries(4096, 0);

/// `BPF_RB_AVAIL_DATA`: bytes that nobody has read yet.
const UNREAD: u64 = 0;

/// Whether half of the OOM ring is unread: the rest is for marks.
#[inline(always)]
pub fn crowded() -> bool {
    OOM.query(UNREAD) > u64::from(OOM_BYTES / 2)
}
