//! The BPF programs of aiops: what the kernel does when memory runs out, as records of `aiops-common`.
//!
//! | file | hooks |
//! |---|---|
//! | `oom` | `signal_generate` fills, `oom/mark_victim` emits, `signal/signal_deliver`, the OOM reaper |
//! | `life` | fork, exec and exit of processes |
//! | `reclaim` | `vmscan/mm_vmscan_direct_reclaim_begin` and the memory cgroup's |
//!
//! `maps` holds every map with its size, `emit` is the one way out, `kernel` reads the kernel's
//! structures at the offsets that user space found. A program never fails: what cannot be read is
//! "no value", what cannot be sent is counted.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the atomic addition of `emit`")]

mod emit;
mod kernel;
mod life;
mod maps;
mod oom;
mod reclaim;

/// The helpers for stacks and ring buffers want a licence compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a loop without end: a panic that the compiler left in is found at load.
    loop {}
}
