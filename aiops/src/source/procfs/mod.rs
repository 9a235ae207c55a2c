//! /proc: the host's figures and every process'.
//!
//! Own parsers, for two reasons: the sampler reads hundreds of files a second within half a percent of a
//! core, and what is missing on an old kernel must be `None`, one figure at a time.

mod process;
mod system;

pub use process::ProcessReader;
pub use process::Wanted;
pub(crate) use system::pressure;
pub use system::read_system;
