//! The kernel side's user-space half.

pub mod btf;
pub mod hooks;
pub mod offsets;
pub mod tracefs;
