//! The BPF programs of `aiops trace alloc`: who takes pages from the kernel.
//!
//! | file | what |
//! |---|---|
//! | `sample` | one in so many bytes, with the stacks of its task |
//! | `count` | everything, without stacks (`--exact`), or with stacks by frame pointers (`--sample off`) |
//!
//! `maps` holds every map with its size, `filter` says who is wanted, `emit` counts. The kernel's
//! structures are read as by the programs of OOM kills.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the atomic addition of `emit`")]

mod count;
mod emit;
mod filter;
#[allow(dead_code, reason = "shared with the programs of OOM kills")]
#[path = "../../kernel.rs"]
mod kernel;
mod maps;
mod sample;

/// The helpers for stacks and ring buffers want a licence compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a loop without end: a panic that the compiler left in is found at load.
    loop {}
}
