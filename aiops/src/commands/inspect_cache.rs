//! `aiops inspect cache`: what the page cache and the slab hold, and which files.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;

/// Options of `inspect cache`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops inspect cache
      page cache, slab caches, fragmentation
  aiops inspect cache --detail --path /var/lib/mysql
      how much of each file there is in memory")]
pub struct Args {
    /// Residency of files: those that processes hold open or mapped, or those below --path.
    #[arg(long)]
    detail: bool,
    /// Files below this directory, or this file.
    #[arg(long, value_name = "DIR")]
    path: Vec<PathBuf>,
    /// Most time that looking at files may take.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = cli::duration)]
    limit: Duration,
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
    anyhow::bail!("inspect cache: not built yet")
}
