//! Poisson sampling by bytes: whoever allocates twice as much is seen twice as often.
//!
//! The distance to the next sample is exponential, so it does not matter where it is measured from: it is
//! drawn anew behind each sampled allocation, and an allocation of b bytes is sampled with probability
//! 1 − exp(−b / mean), which user space divides by.

use aiops_common::ABI_VERSION;
use aiops_common::Header;
use aiops_common::NO_VALUE;
use aiops_common::alloc;
use aiops_common::alloc::Config;
use aiops_common::alloc::Freed;
use aiops_common::alloc::Sample;
use aiops_common::layout::ABSENT;
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::bpf_probe_read_user_buf;
use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::helpers::generated::bpf_task_pt_regs;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use aya_ebpf::programs::TracePointContext;

use crate::emit::add;
use crate::filter::wanted;
use crate::kernel::Address;
use crate::kernel::current;
use crate::kernel::current_ids;
use crate::kernel::field;
use crate::kernel::fill_current;
use crate::kernel::kernel_stack;
use crate::kernel::offset;
use crate::kernel::read;
use crate::kernel::user_stack;
use crate::maps::CONFIG;
use crate::maps::HELD;
use crate::maps::LEFT;
use crate::maps::SAMPLES;

/// ln 2 in units of 2^-16.
const LN_2: u64 = 45426;

/// ln(1 + (i + 1/2) / 256) in units of 2^-16. Its plain name keeps the object the same wherever it is built.
#[unsafe(no_mangle)]
static LOG: [u32; 256] = [
    128, 383, 637, 890, 1142, 1393, 1643, 1892, 2141, 2388, 2634, 2880, 3124, 3368, 3611, 3853,
    4093, 4334, 4573, 4811, 5048, 5285, 5521, 5756, 5990, 6223, 6455, 6687, 6918, 7148, 7377, 7605,
    7833, 8059, 8285, 8511, 8735, 8959, 9182, 9404, 9625, 9846, 10066, 10285, 10503, 10721, 10938,
    11155, 11370, 11585, 11799, 12013, 12225, 12437, 12649, 12860, 13070, 13279, 13488, 13696,
    13903, 14110, 14316, 14521, 14726, 14930, 15134, 15337, 15539, 15741, 15942, 16142, 16342,
    16541, 16740, 16938, 17135, 17332, 17528, 17724, 17919, 18113, 18307, 18501, 18693, 18886,
    19077, 19268, 19459, 19649, 19838, 20027, 20215, 20403, 20590, 20777, 20963, 21149, 21334,
    21519, 21703, 21886, 22069, 22252, 22434, 22615, 22797, 22977, 23157, 23337, 23516, 23694,
    23872, 24050, 24227, 24404, 24580, 24756, 24931, 25106, 25280, 25454, 25627, 25800, 25972,
    26144, 26316, 26487, 26658, 26828, 26998, 27167, 27336, 27505, 27673, 27840, 28007, 28174,
    28340, 28506, 28672, 28837, 29002, 29166, 29330, 29493, 29656, 29819, 29981, 30143, 30304,
    30465, 30626, 30786, 30946, 31105, 31265, 31423, 31582, 31739, 31897, 32054, 32211, 32367,
    32523, 32679, 32834, 32989, 33144, 33298, 33452, 33605, 33758, 33911, 34064, 34216, 34367,
    34519, 34670, 34820, 34971, 35121, 35270, 35420, 35569, 35717, 35865, 36013, 36161, 36308,
    36455, 36602, 36748, 36894, 37040, 37185, 37330, 37475, 37619, 37763, 37907, 38050, 38193,
    38336, 38479, 38621, 38763, 38904, 39045, 39186, 39327, 39467, 39607, 39747, 39886, 40026,
    40164, 40303, 40441, 40579, 40717, 40854, 40991, 41128, 41265, 41401, 41537, 41673, 41808,
    41943, 42078, 42213, 42347, 42481, 42615, 42748, 42881, 43014, 43147, 43279, 43411, 43543,
    43675, 43806, 43937, 44068, 44199, 44329, 44459, 44589, 44718, 44848, 44977, 45105, 45234,
    45362,
];

/// An exponential distance with this mean: −ln(u) · mean, u uniform in (0, 1].
#[inline(always)]
fn distance(mean: u64) -> u64 {
    // SAFETY: no precondition.
    let random = unsafe { bpf_get_prandom_u32() } | 1;
    let zeros = random.leading_zeros();
    let mantissa = random.wrapping_shl(zeros);
    let index = (mantissa >> 23) as usize & 255;
    // SAFETY: the index is below 256; volatile keeps the table in its map.
    let log = unsafe { core::ptr::read_volatile(LOG.as_ptr().add(index)) };
    let minus_log = (u64::from(zeros) + 1) * LN_2 - u64::from(log);
    ((mean * minus_log) >> 16) + 1
}

/// Whether an allocation of so many bytes is sampled.
#[inline(always)]
fn due(counter: u32, bytes: u64, mean: u64) -> bool {
    let Some(left) = LEFT.get_ptr_mut(counter) else {
        return false;
    };
    // SAFETY: this CPU's own number; an interrupt in between makes one distance wrong, at random.
    unsafe {
        let mut now = *left;
        if now == 0 {
            now = distance(mean);
        }
        if now > bytes {
            *left = now - bytes;
            return false;
        }
        *left = distance(mean);
    }
    true
}

/// `mm_page_alloc(struct page *page, unsigned int order, gfp_t gfp_flags, int migratetype)`.
#[raw_tracepoint(tracepoint = "mm_page_alloc")]
pub fn page_sample(ctx: RawTracePointContext) -> i32 {
    let config = CONFIG.load();
    let order = ctx.arg::<u64>(1) as u32 & 31;
    let bytes = u64::from(config.page_size) << order;
    let page = ctx.arg::<u64>(0);
    // Without a page nothing was allocated.
    if page != 0 && due(0, bytes, config.mean_bytes) {
        let gfp = ctx.arg::<u64>(2) as u32;
        emit(&ctx, &config, (alloc::WHAT_PAGES, bytes, order, gfp), page);
    }
    0
}

/// `mm_page_free(struct page *page, unsigned int order)`: a sampled page is given back.
#[raw_tracepoint(tracepoint = "mm_page_free")]
pub fn page_free(ctx: RawTracePointContext) -> i32 {
    let page = ctx.arg::<u64>(0);
    let Some(since) = HELD.get_ptr(page) else {
        return 0;
    };
    // SAFETY: entries stay mapped while a program runs.
    let since_ns = unsafe { *since };
    let _ = HELD.remove(page);
    let Some(mut entry) = SAMPLES.reserve::<Freed>(0) else {
        add(alloc::LOST_FREED, 1);
        return 0;
    };
    // SAFETY: the ring gave room for one record, and the helpers have no precondition.
    unsafe {
        entry.as_mut_ptr().write(Freed {
            header: Header {
                kind: alloc::KIND_FREED,
                version: ABI_VERSION,
                len: size_of::<Freed>() as u32,
                ts_ns: bpf_ktime_get_ns(),
                cpu: bpf_get_smp_processor_id() as u32,
                reserved: 0,
            },
            page,
            since_ns,
        });
    }
    add(alloc::SEEN_FREED, 1);
    entry.submit(1);
    0
}

#[inline(always)]
fn object(ctx: &TracePointContext, what: u32, at: (u32, u32)) {
    let config = CONFIG.load();
    let Some(bytes) = field::<u64>(ctx, at.0) else {
        return;
    };
    if due(what - 1, bytes, config.mean_bytes) {
        let gfp = field::<u32>(ctx, at.1).unwrap_or(0);
        emit(ctx, &config, (what, bytes, 0, gfp), 0);
    }
}

/// `kmem/kmalloc`.
#[tracepoint(category = "kmem", name = "kmalloc")]
pub fn kmalloc_sample(ctx: TracePointContext) -> u32 {
    let config = CONFIG.load();
    object(
        &ctx,
        alloc::WHAT_KMALLOC,
        (config.kmalloc_bytes, config.kmalloc_gfp),
    );
    0
}

/// `kmem/kmem_cache_alloc`.
#[tracepoint(category = "kmem", name = "kmem_cache_alloc")]
pub fn cache_sample(ctx: TracePointContext) -> u32 {
    let config = CONFIG.load();
    object(
        &ctx,
        alloc::WHAT_CACHE,
        (config.cache_bytes, config.cache_gfp),
    );
    0
}

/// Hands a sample over with its stacks.
#[inline(always)]
fn emit(
    ctx: &impl EbpfContext,
    config: &Config,
    (what, bytes, order, gfp): (u32, u64, u32, u32),
    page: u64,
) {
    let (pid, _) = current_ids();
    if !wanted(config, pid) {
        add(alloc::SEEN_FILTERED, 1);
        return;
    }
    let Some(mut entry) = SAMPLES.reserve::<Sample>(0) else {
        add(alloc::LOST_RING, 1);
        return;
    };
    let out = entry.as_mut_ptr();
    let task = current();
    let mm = read::<u64>(task, offset!(task_mm)).unwrap_or(0);
    // SAFETY: the ring gave room for one record; all of it that is read is written below.
    unsafe {
        (*out).header = Header {
            kind: alloc::KIND_SAMPLE,
            version: ABI_VERSION,
            len: size_of::<Sample>() as u32,
            ts_ns: bpf_ktime_get_ns(),
            cpu: bpf_get_smp_processor_id() as u32,
            reserved: 0,
        };
        fill_current(&raw mut (*out).task);
        (*out).process_start_ns = read::<Address>(task, offset!(task_leader))
            .and_then(|leader| read::<u64>(leader, offset!(task_start)))
            .unwrap_or(NO_VALUE);
        (*out).bytes = bytes;
        (*out).page = page;
        (*out).mm = mm;
        (*out).what = what;
        (*out).order = order;
        (*out).gfp_mask = gfp;
        kernel_stack(ctx, &raw mut (*out).kernel);
        user_stack(ctx, &raw mut (*out).chain);
        (*out).copied = 0;
        if mm == 0 {
            no_registers(out);
        } else {
            registers(out);
            copy(out);
        }
    }
    if config.held != 0 && what == alloc::WHAT_PAGES {
        // SAFETY: the record is still ours.
        let since = unsafe { (*out).header.ts_ns };
        // `BPF_ANY`: a page that was freed unseen is taken anew.
        if HELD.insert(page, since, 0).is_err() {
            add(alloc::LOST_HELD, 1);
        }
    }
    add(alloc::SEEN_SAMPLES, 1);
    // BPF_RB_NO_WAKEUP.
    entry.submit(1);
}

/// # Safety
/// `out` is valid for writing.
#[inline(always)]
unsafe fn no_registers(out: *mut Sample) {
    // SAFETY: the caller's.
    unsafe {
        (*out).ip = 0;
        (*out).sp = 0;
        (*out).fp = 0;
        (*out).lr = 0;
    }
}

/// Offsets in `struct pt_regs`, which is part of the machine's ABI: ip, sp, fp, lr.
#[cfg(bpf_target_arch = "aarch64")]
const REGISTERS: [u32; 4] = [256, 248, 232, 240];
#[cfg(not(bpf_target_arch = "aarch64"))]
const REGISTERS: [u32; 4] = [128, 152, 32, ABSENT];

/// The registers with which the task entered the kernel.
///
/// # Safety
/// `out` is valid for writing.
#[inline(always)]
unsafe fn registers(out: *mut Sample) {
    // SAFETY: the helpers have no other precondition; the caller's for the rest.
    unsafe {
        let entered = bpf_task_pt_regs(bpf_get_current_task_btf()) as Address;
        let word = |at: u32| {
            if at == ABSENT {
                return 0;
            }
            bpf_probe_read_kernel(entered.add(at as usize).cast::<u64>()).unwrap_or(0)
        };
        (*out).ip = word(REGISTERS[0]);
        (*out).sp = word(REGISTERS[1]);
        (*out).fp = word(REGISTERS[2]);
        (*out).lr = word(REGISTERS[3]);
    }
}

/// Copies the top of the user stack: a read past its end fails whole, so smaller ones are tried.
///
/// # Safety
/// `out` is valid for writing.
#[inline(always)]
unsafe fn copy(out: *mut Sample) {
    macro_rules! sizes {
        ($($size:literal)*) => {$(
            // SAFETY: the buffer lies in the record, which has room for the largest of them.
            unsafe {
                let buffer = (&raw mut (*out).copy).cast::<[u8; $size]>();
                if bpf_probe_read_user_buf((*out).sp as *const u8, &mut *buffer).is_ok() {
                    (*out).copied = $size;
                    return;
                }
            }
        )*};
    }
    sizes!(8192 4096 2048 1024 512);
    add(alloc::LOST_COPY, 1);
}
