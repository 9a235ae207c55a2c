//! `aiops analyze swap`: who is in swap, how fast pages go in and out, and what to do.

use std::time::Duration;

use super::options::ByArg;
use super::options::FilterArgs;
use super::options::share;
use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;

/// Options of `analyze swap`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops analyze swap --processes --threshold 10%
      the processes that have a tenth or more of the swap in use
  aiops analyze swap --interval 5s --by cgroup -o json")]
pub struct Args {
    /// List the processes.
    #[arg(long)]
    processes: bool,
    /// Least share of the swap in use that a listed process has.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    threshold: f64,
    /// Order of processes.
    #[arg(long, value_enum, default_value = "swap")]
    sort: SortArg,
    /// Between the two readings that rates are made from; 0 reads once and knows no rates.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = cli::duration)]
    interval: Duration,
    /// Put processes together.
    #[arg(long, value_enum, default_value = "process")]
    by: ByArg,
    /// Rows of the text report; JSON is whole.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Orders of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SortArg {
    /// Swapped out.
    Swap,
    /// Resident memory.
    Rss,
    /// Share of the process that is swapped out.
    Share,
    /// Major faults in the interval.
    Majflt,
    /// Process id.
    Pid,
}

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(_args: &Args, _context: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("analyze swap: not built yet")
}
