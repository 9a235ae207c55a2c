//! `aiops health memory`: one score for the memory of the host, and what lowers it.

use std::time::Duration;

use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;

/// Options of `health memory`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops health memory --score
      0 to 100, the level, and the factors behind it
  aiops health memory --interval 5s --exit-code -o json
      for a monitoring script")]
pub struct Args {
    /// Only the score, its level and the factors, without processes.
    #[arg(long)]
    score: bool,
    /// Between the two readings that rates are made from; 0 reads once and knows no rates.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = cli::duration)]
    interval: Duration,
    /// Rows of the text report; JSON is whole.
    #[arg(long, value_name = "N", default_value_t = 5)]
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
    anyhow::bail!("health memory: not built yet")
}
