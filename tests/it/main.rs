//! The one integration binary: it drives the real program, on the real kernel.
//!
//! What needs root and BPF says `SKIPPED` where it cannot run; `AIOPS_REQUIRE_BPF=1` makes that a failure.

#![expect(clippy::print_stdout, reason = "a skipped part is said aloud")]

mod alloc;
mod anomaly;
mod cache;
mod cli;
mod collect;
mod diff;
mod disk;
mod export;
mod frames;
mod health;
mod inspect;
mod leak;
mod leak_history;
mod leak_live;
mod leak_past;
mod metrics;
mod monitor;
mod oom_live;
mod package;
mod pages;
mod peers;
mod power;
mod processes;
mod query;
mod reclaim;
mod replay;
mod risk;
mod store;
mod support;
mod swap;
mod swap_trace;
mod trees;
