//! The one integration binary: it drives the real program, on the real kernel.
//!
//! What needs root and BPF says `SKIPPED` where it cannot run; `AIOPS_REQUIRE_BPF=1` makes that a failure.

mod cli;
mod oom_live;
mod replay;
mod support;
