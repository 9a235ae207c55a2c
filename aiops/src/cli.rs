//! Global options and the dispatch to commands.

use crate::diag::Exit;

/// Runs the program.
#[must_use]
pub fn main() -> Exit {
    Exit::Done
}
