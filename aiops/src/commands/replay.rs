//! `aiops replay`: the same reports from a recording.

use std::path::PathBuf;

use crate::cli::Context;
use crate::diag::Exit;
use crate::render::Format;
use crate::report::oom::Incident;
use crate::session;
use crate::session::alloc;
use crate::session::plane;

use super::analyze_cache;
use super::analyze_swap;
use super::collect_memory;
use super::health_memory;
use super::inspect_processes;
use super::options::ByArg;
use super::trace_reclaim;
use super::trace_swap;

/// Options of `replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops replay oom.aiops
      the report of the live command, in your language
  aiops replay oom.aiops -o json | jq '.data.incidents[].kills[]'
  aiops replay mem_snap1.db --by comm
      what `collect memory --output mem_snap1.db` saw, by name
  aiops replay mem_snap1.db --as swap
      what the recording knows of swap: who is in it at its last sample, and
      rates between its first and its last one")]
pub struct Args {
    /// The recording.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Which report to make; by default that of the command that recorded.
    #[arg(long = "as", value_enum)]
    report: Option<ReportArg>,
    /// Put processes together, instead of as the recording command did.
    #[arg(long, value_enum)]
    by: Option<ByArg>,
    /// Rows of the text report, 0: all; JSON is whole.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Reports that a recording can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ReportArg {
    /// OOM kills, as `trace oom` reports them.
    Oom,
    /// Who allocated, as `trace alloc` reports it.
    Alloc,
    /// What was taken and not given back, as `trace leak` reports it.
    Leak,
    /// Least, mean, most and last, as `collect memory` reports them.
    Collect,
    /// The largest processes at the end, as `inspect processes` reports them.
    Processes,
    /// Who is in swap: what the recording knows of what `analyze swap` reports.
    Swap,
    /// Page cache and slab: what the recording knows of what `analyze cache` reports.
    Cache,
    /// Waits for memory, as `trace reclaim` reports them.
    Reclaim,
    /// Whose pages were swapped, as `trace swap` reports them.
    Swapping,
    /// The score, as `health memory` gives it from the first and the last sample.
    Health,
}

impl ReportArg {
    /// The report of the command that recorded.
    fn of(command: &str) -> Option<Self> {
        match command {
            "trace oom" => Some(Self::Oom),
            alloc::COMMAND => Some(Self::Alloc),
            alloc::LEAK_COMMAND => Some(Self::Leak),
            "collect memory" => Some(Self::Collect),
            trace_reclaim::COMMAND => Some(Self::Reclaim),
            trace_swap::COMMAND => Some(Self::Swapping),
            _ => None,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The file is no recording, or nothing in it can be read.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let report = match args.report {
        Some(report) => report,
        // A recording whose beginning is damaged does not say who made it.
        None => plane::command(&args.file)?
            .and_then(|command| ReportArg::of(&command))
            .unwrap_or(ReportArg::Oom),
    };
    match report {
        ReportArg::Oom => {
            let mut show = |incident: &Incident| match context.format {
                Format::Jsonl => super::out_incident(incident, context),
                Format::Text | Format::Json | Format::Csv => Ok(()),
            };
            let report = session::replay_oom(&args.file, &mut show)?;
            super::print(&report, context, args.exit_code)
        }
        ReportArg::Alloc => {
            let report = alloc::replay(&args.file, args.top)?;
            super::print(&report, context, args.exit_code)
        }
        ReportArg::Leak => {
            let report = alloc::replay_leak(&args.file, args.top)?;
            super::print(&report, context, args.exit_code)
        }
        ReportArg::Collect => {
            let by = args.by.map(Into::into);
            collect_memory::replay(&args.file, by, args.top, args.exit_code, context)
        }
        ReportArg::Processes => {
            let by = args.by.map(Into::into);
            inspect_processes::replay(&args.file, by, args.top, args.exit_code, context)
        }
        ReportArg::Swap => {
            let by = args.by.map(Into::into);
            analyze_swap::replay(&args.file, by, args.top, args.exit_code, context)
        }
        ReportArg::Cache => analyze_cache::replay(&args.file, args.top, args.exit_code, context),
        ReportArg::Reclaim => trace_reclaim::replay(&args.file, args.top, args.exit_code, context),
        ReportArg::Swapping => trace_swap::replay(&args.file, args.top, args.exit_code, context),
        ReportArg::Health => health_memory::replay(&args.file, args.top, args.exit_code, context),
    }
}
