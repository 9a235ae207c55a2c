//! Every map and every global, with its size and the reason for it.

use aiops_common::COMM_LEN;
use aiops_common::alloc::COUNTS as COUNTERS;
use aiops_common::alloc::Config;
use aiops_common::alloc::Count;
use aiops_common::alloc::Whole;
use aiops_common::layout::Layout;
use aya_ebpf::Global;
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::maps::PerCpuHashMap;
use aya_ebpf::maps::RingBuf;
use aya_ebpf::maps::StackTrace;

/// Where the kernel's fields are; set by user space before loading.
#[unsafe(no_mangle)]
pub static LAYOUT: Global<Layout> = Global::new(Layout::UNKNOWN);

/// What to do; set by user space before loading.
#[unsafe(no_mangle)]
pub static CONFIG: Global<Config> = Global::new(Config {
    mean_bytes: 0,
    page_size: 4096,
    filters: 0,
    own_pid: 0,
    kmalloc_bytes: u32::MAX,
    kmalloc_gfp: u32::MAX,
    cache_bytes: u32::MAX,
    cache_gfp: u32::MAX,
    held: 0,
});

/// Samples with their stacks, 9.4 kB each; its reader looks on a timer. User space sets the size.
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Losses and counts, by index.
#[map]
pub static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Bytes until the next sample, of pages, kmalloc and caches; 0: not drawn yet.
#[map]
pub static LEFT: PerCpuArray<u64> = PerCpuArray::with_max_entries(4, 0);

/// By process id. User space sets the size where it is used.
#[map]
pub static COUNTS: PerCpuHashMap<u32, Count> = PerCpuHashMap::with_max_entries(1, 0);

/// Allocations by process, order and stacks. User space sets the size where it is used.
#[map]
pub static WHOLE: PerCpuHashMap<Whole, u64> = PerCpuHashMap::with_max_entries(1, 0);

/// Stacks of [`WHOLE`]. User space sets the size where it is used.
#[map]
pub static STACKS: StackTrace = StackTrace::with_max_entries(1, 0);

/// When each sampled page that is still held was taken, by its `struct page` (`trace leak`). User space sets the
/// size where it is used; an entry is 80 bytes.
#[map]
pub static HELD: HashMap<u64, u64> = HashMap::with_max_entries(1, 0);

/// Processes that are wanted.
#[map]
pub static PIDS: HashMap<u32, u8> = HashMap::with_max_entries(1024, 0);

/// Names that are wanted.
#[map]
pub static COMMS: HashMap<[u8; COMM_LEN], u8> = HashMap::with_max_entries(64, 0);

/// Cgroups that are wanted, each of them: user space lists those below a wanted one.
#[map]
pub static CGROUPS: HashMap<u64, u8> = HashMap::with_max_entries(8192, 0);

/// Users that are wanted.
#[map]
pub static UIDS: HashMap<u32, u8> = HashMap::with_max_entries(64, 0);
