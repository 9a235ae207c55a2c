//! Frames over the history: totals of groups by any keys, two ranges beside each other, wide tables.
//!
//! The only home of polars. It knows nothing of the store: what it gets are [`Runs`], what it gives are rows.
//! Answers are exact: totals are summed as integers, and every tick of the range counts once.
//!
//! - `runs`: what is asked about, and what makes no sense;
//! - `sweep`: the total of each group at each tick (polars);
//! - `group`: figures of those totals;
//! - `diff`: two ranges;
//! - `table`: a column for each step of time.

mod diff;
mod group;
#[cfg(test)]
mod naive;
mod runs;
mod sweep;
mod table;

pub use diff::DiffRow;
pub use diff::diff;
pub use group::GroupRow;
pub use group::Groups;
pub use runs::FrameError;
pub use runs::Key;
pub use runs::Runs;
pub use table::Table;
