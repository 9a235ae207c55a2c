//! `aiops collect memory`: sample the system and its processes, and sum up what was seen.

use std::path::PathBuf;
use std::time::Duration;

use super::options::ByArg;
use super::options::FilterArgs;
use super::options::share;
use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;

/// Options of `collect memory`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops collect memory --duration 60s --interval 1s
      what the system and the largest processes used: least, mean, most, last
  aiops collect memory --duration 0 --smaps --output mem_snap1.db
      a snapshot, for `aiops diff memory`")]
pub struct Args {
    /// How long; 0 takes one sample. Ctrl-C ends it earlier, with the report.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = cli::duration)]
    duration: Duration,
    /// Between samples.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = cli::duration)]
    interval: Duration,
    /// Write every sample to a recording, for `aiops replay` and `aiops diff memory`.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing recording.
    #[arg(long, requires = "output")]
    force: bool,
    /// Read smaps as well: PSS and USS within the budget, and regions of every process with the last sample.
    #[arg(long)]
    smaps: bool,
    /// Most of one CPU that reading PSS may take; processes take turns.
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    budget: f64,
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

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(_args: &Args, _context: &Context) -> anyhow::Result<Exit> {
    anyhow::bail!("collect memory: not built yet")
}
