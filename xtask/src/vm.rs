//! Place of `cargo xtask vm`, which the branch `vm` fills.

use crate::util::Tally;

/// Fails until it is filled.
pub(crate) fn run(args: &[String]) -> anyhow::Result<Tally> {
    anyhow::bail!("vm {args:?} is not in this tree")
}
