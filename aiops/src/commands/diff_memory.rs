//! `aiops diff memory`: what changed between two snapshots.

use std::path::PathBuf;

use crate::cli::Context;
use crate::diag::Exit;

/// Options of `diff memory`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops diff memory --snapshot1 mem_snap1.db --snapshot2 mem_snap2.db
      growth of the system, of processes, cgroups and slab caches
  aiops diff memory --snapshot1 a.db --snapshot2 b.db --sort delta --top 50 -o json")]
pub struct Args {
    /// The earlier one, from `aiops collect memory --output`.
    #[arg(long, value_name = "FILE")]
    snapshot1: PathBuf,
    /// The later one.
    #[arg(long, value_name = "FILE")]
    snapshot2: PathBuf,
    /// Order of processes.
    #[arg(long, value_enum, default_value = "delta")]
    sort: SortArg,
    /// Rows of the text report; JSON is whole.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Orders of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SortArg {
    /// Growth of resident memory and swap, up or down.
    Delta,
    /// Resident memory in the later snapshot.
    Rss,
    /// Proportional share in the later snapshot.
    Pss,
    /// Swapped out in the later snapshot.
    Swap,
}

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(_args: &Args, _context: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("diff memory: not built yet")
}
