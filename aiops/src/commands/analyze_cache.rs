//! `aiops analyze cache`: how well the page cache and the slab caches serve.

use std::path::Path;
use std::time::Duration;

use crate::analysis::cache;
use crate::analysis::readings::Readings;
use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;
use crate::report::cache::View;
use crate::session::plane;
use crate::session::plane::Observe;
use crate::source::plane::Wants;

const SCHEMA: &str = "aiops.analyze-cache/1";
/// What the cache reports read of the memory manager's inner state.
pub(super) const NEEDS: [&str; 3] = ["/proc/slabinfo", "/proc/zoneinfo", "/proc/buddyinfo"];

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
    /// Rows of the text report, 0 for all; JSON is whole.
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
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let readings = observe("analyze cache", args.interval, false, context)?;
    let (mut data, findings) = cache::analyze(&readings);
    data.view = View {
        contents: false,
        efficiency: args.efficiency,
        top: rows(args.top),
    };
    let report = plane::report(SCHEMA, &readings, &NEEDS, data, findings, None);
    super::print(&report, context, args.exit_code)
}

/// Rows of a table: 0 asks for all.
pub(super) fn rows(top: usize) -> usize {
    if top == 0 { usize::MAX } else { top }
}

/// Two readings of everything that the cache reports are made from; one with an interval of 0.
pub(super) fn observe(
    command: &str,
    interval: Duration,
    page_types: bool,
    context: &Context,
) -> anyhow::Result<Readings> {
    plane::readings(&Observe {
        command: command.to_owned(),
        root: context.root.clone(),
        wants: Wants {
            // Caches belong to the host and to cgroups: no process is read.
            pids: Some(Vec::new()),
            cgroups: true,
            ..Wants::default()
        },
        detail: true,
        page_types,
        interval,
        duration: interval,
        ..Observe::default()
    })
}

/// The same report from a recording.
///
/// # Errors
/// The file is no recording, or nothing in it can be read.
pub(super) fn replay(
    file: &Path,
    top: usize,
    exit_code: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    let (readings, damage) = plane::replay(file)?;
    let (mut data, findings) = cache::analyze(&readings);
    data.view = View {
        contents: false,
        efficiency: true,
        top: rows(top),
    };
    let report = plane::report(SCHEMA, &readings, &NEEDS, data, findings, damage);
    super::print(&report, context, exit_code)
}
