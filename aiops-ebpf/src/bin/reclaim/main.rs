//! The BPF programs of `trace reclaim` and `trace swap`: an object of its own, so that tracing OOM kills
//! pays nothing for its maps.
//!
//! | file | hooks |
//! |---|---|
//! | `stall` | begin and end of reclaim, compaction and throttling, matched in the kernel |
//! | `swap` | `kmem:rss_stat`: pages that go to swap and come back, by the process that owns them |
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the atomic addition of `emit`")]

#[path = "../../emit.rs"]
#[allow(dead_code, reason = "shared: not every object wakes its readers")]
mod emit;
#[path = "../../filter.rs"]
mod filter;
#[path = "../../kernel.rs"]
#[allow(dead_code, reason = "shared: not every object reads everything")]
mod kernel;
mod maps;
mod stall;
mod swap;

/// The helpers for stacks and ring buffers want a licence compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a loop without end: a panic that the compiler left in is found at load.
    loop {}
}
