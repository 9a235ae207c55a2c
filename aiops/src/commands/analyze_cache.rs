//! `aiops analyze cache`: how well the page cache and the slab caches serve.

use std::time::Duration;

use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;

/// Options of `analyze cache`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops analyze cache --efficiency --interval 5s
      refaults, reclaim, dirty pages and slab over five seconds, with advice
  aiops analyze cache -o json | jq .data.dirty")]
pub struct Args {
    /// Rates of refault, reclaim and write-back, and what they mean.
    #[arg(long)]
    efficiency: bool,
    /// Between the two readings that rates are made from; 0 reads once and knows no rates.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = cli::duration)]
    interval: Duration,
    /// Rows of the text report; JSON is whole.
    #[arg(long, value_name = "N", default_value_t = 15)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(_args: &Args, _context: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("analyze cache: not built yet")
}
