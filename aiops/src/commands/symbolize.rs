//! The hidden child of a session that resolves addresses: requests on stdin, replies on stdout.
//!
//! It is a process of its own so that debug information costs the tracer no memory.

use anyhow::Context as _;

use crate::source::symbols;

/// Answers until stdin ends.
///
/// # Errors
/// When stdin cannot be read or stdout cannot be written.
pub fn run() -> anyhow::Result<()> {
    symbols::yield_to_others();
    let stdin = std::io::stdin().lock();
    symbols::serve(stdin, std::io::stdout().lock()).context("resolving addresses")
}
