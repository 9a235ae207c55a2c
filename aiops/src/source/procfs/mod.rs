//! /proc: the host's figures and every process'.
//!
//! Own parsers for what is read often or may be damaged, for two reasons: the sampler reads thousands of
//! files a second within half a percent of a core, and what is missing on an old kernel must be `None`, one
//! figure at a time. CPU, disks and network come through the `procfs` crate.

mod detail;
mod handles;
mod kinds;
mod libraries;
mod limits;
mod linked;
mod load;
mod nodes;
mod numa;
mod process;
mod settings;
mod shared;
mod slab;
mod smaps;
mod swaps;
mod system;
mod zones;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod live_tests;

pub use detail::read_detail;

pub use handles::Handles;
pub use handles::read_handles;
pub use libraries::read_libraries;
pub use limits::read_rlimits;
pub use limits::strict_overcommit;
pub use numa::Placement;
pub use numa::read_placement;
pub use process::Failure;
pub use process::ProcessReader;
pub use process::Wanted;
pub use process::hides;
pub(super) use process::live_thread;
pub use smaps::read_mappings;
pub use system::Scope;
pub(crate) use system::number;
pub(crate) use system::pressure;
pub use system::read_system;
