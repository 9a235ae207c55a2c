//! /proc: the host's figures and every process'.
//!
//! Own parsers, for two reasons: the sampler reads hundreds of files a second within half a percent of a
//! core, and what is missing on an old kernel must be `None`, one figure at a time.

mod detail;
mod kinds;
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

pub use detail::read_detail;

pub use numa::Placement;
pub use numa::read_placement;
pub use process::ProcessReader;
pub use process::Wanted;
pub use smaps::read_mappings;
pub use system::Scope;
pub(crate) use system::number;
pub(crate) use system::pressure;
pub use system::read_system;
