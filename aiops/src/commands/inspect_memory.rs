//! `aiops inspect memory`: one process by region kind and mapping.

use std::time::Duration;

use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;

/// Options of `inspect memory`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops inspect memory --pid 4711 --maps --detail
      every mapping with its figures and flags
  aiops inspect memory --comm nginx --children --sort pss --top 30
      all processes of that name and their children, merged")]
pub struct Args {
    /// Process ids.
    #[arg(
        long,
        value_name = "PID,PID",
        value_delimiter = ',',
        required_unless_present = "comm"
    )]
    pid: Vec<u32>,
    /// Processes with this name.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    comm: Vec<String>,
    /// Children of those, and theirs, as well.
    #[arg(long)]
    children: bool,
    /// List the mappings.
    #[arg(long)]
    maps: bool,
    /// All figures and flags of each mapping.
    #[arg(long)]
    detail: bool,
    /// Order of mappings and modules.
    #[arg(long, value_enum, default_value = "pss")]
    sort: SortArg,
    /// Rows of each list in the text report; JSON is whole. 0: all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Read again and again, until Ctrl-C, and show what changed.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    watch: Option<Duration>,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Orders of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SortArg {
    /// Address.
    Address,
    /// Address space.
    Size,
    /// Resident memory.
    Rss,
    /// Proportional share.
    Pss,
    /// Swapped out.
    Swap,
    /// Dirty memory.
    Dirty,
}

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(_args: &Args, _context: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("inspect memory: not built yet")
}
