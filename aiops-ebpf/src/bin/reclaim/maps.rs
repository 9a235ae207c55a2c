//! Every map and every global of this object, with its size and the reason for it.

use aiops_common::COUNTERS;
use aiops_common::Task;
use aiops_common::layout::Layout;
use aiops_common::stall::CODES;
use aiops_common::stall::Code;
use aiops_common::stall::FIELDS_LEN;
use aiops_common::stall::SwapCounts;
use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_ebpf::maps::HashMap;
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::maps::PerCpuHashMap;
use aya_ebpf::maps::RingBuf;

/// Where the kernel's fields are; set by user space before loading.
#[unsafe(no_mangle)]
pub static LAYOUT: Global<Layout> = Global::new(Layout::UNKNOWN);

/// Offsets of tracepoints' fields, as `aiops_common::stall::FIELDS` names them.
#[unsafe(no_mangle)]
pub static FIELDS: Global<[u32; FIELDS_LEN]> = Global::new([u32::MAX; FIELDS_LEN]);

/// Offset of `mm_struct.owner`.
#[unsafe(no_mangle)]
pub static MM_OWNER: Global<u32> = Global::new(u32::MAX);

/// Finished stalls, 13,000 of them; its reader looks every 50 ms and is not woken. User space may size it.
#[map]
pub static BULK: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Losses by cause, then records handed over by kind (`aiops_common::Loss`, `seen_index`).
#[map]
pub static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// What has begun and not ended.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Open {
    pub begin_ns: u64,
    /// Pages scanned and reclaimed since.
    pub scanned: u64,
    pub reclaimed: u64,
    pub stall: u32,
    pub gfp_mask: u32,
    pub order: i32,
    pub node: u32,
}

/// Reclaim by thread id: a thread does one at a time. 1 MB at most.
#[map]
pub static RECLAIMS: HashMap<u32, Open> = HashMap::with_max_entries(16384, 0);

/// Compaction by thread id.
#[map]
pub static COMPACTIONS: HashMap<u32, Open> = HashMap::with_max_entries(4096, 0);

/// What a thread last asked compaction for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Asked {
    pub gfp_mask: u32,
    pub order: i32,
}

/// By thread id; the oldest give way, and then order and mask are unknown.
#[map]
pub static ASKED: LruHashMap<u32, Asked> = LruHashMap::with_max_entries(4096, 0);

/// Ranges of kernel code by which a change of swap entries is told apart.
#[map]
pub static CODE: Array<[Code; CODES]> = Array::with_max_entries(1, 0);

/// Changes of swap entries by process id. 8,192 processes, 48 bytes for each and each CPU.
#[map]
pub static SWAPS: PerCpuHashMap<u32, SwapCounts> = PerCpuHashMap::with_max_entries(8192, 0);

/// Who the processes of [`SWAPS`] are.
#[map]
pub static OWNERS: HashMap<u32, Task> = HashMap::with_max_entries(8192, 0);

/// Pages by way, whoever owns them.
#[map]
pub static SWAP_TOTAL: PerCpuArray<SwapCounts> = PerCpuArray::with_max_entries(1, 0);

/// Frames of a stack on their way, too many for a program's own.
#[map]
pub static FRAMES: PerCpuArray<[u64; 16]> = PerCpuArray::with_max_entries(1, 0);
