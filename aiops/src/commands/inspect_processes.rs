//! `aiops inspect processes`: the largest processes, and what their memory is made of.

use super::options::ByArg;
use super::options::FilterArgs;
use super::options::share;
use crate::cli::Context;
use crate::diag::Exit;

/// Options of `inspect processes`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops inspect processes --sort pss
      the largest processes: anonymous, file, shared, swapped
  aiops inspect processes --by container
      containers with their limits and use")]
pub struct Args {
    /// Order of rows.
    #[arg(long, value_enum, default_value = "rss")]
    sort: SortArg,
    /// Most of one CPU that reading PSS may take in its second; 0 reads none.
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    budget: f64,
    /// Put processes together.
    #[arg(long, alias = "group-by", value_enum, default_value = "process")]
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
    /// Resident memory.
    Rss,
    /// Proportional share.
    Pss,
    /// Memory of its own.
    Uss,
    /// Anonymous memory.
    Anon,
    /// File memory.
    File,
    /// Shared memory.
    Shmem,
    /// Swapped out.
    Swap,
}

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(_args: &Args, _context: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("inspect processes: not built yet")
}
