//! Place of `cargo xtask bpf`, which the branch `bpf` fills.

/// Fails until it is filled.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    anyhow::bail!("bpf (check: {check}) is not in this tree")
}
