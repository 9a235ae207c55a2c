//! `aiops replay`: the same reports from a recording.

use std::path::PathBuf;

use crate::cli::Context;
use crate::diag::Exit;
use crate::render::Format;
use crate::report::oom::Incident;
use crate::session;

/// Options of `replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops replay oom.aiops
      the report of the live command, in your language
  aiops replay oom.aiops -o json | jq '.data.incidents[].kills[]'")]
pub struct Args {
    /// The recording.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Which report to make; by default that of the command that recorded.
    #[arg(long = "as", value_enum)]
    report: Option<ReportArg>,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Reports that a recording can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ReportArg {
    /// OOM kills, as `trace oom` reports them.
    Oom,
}

/// Runs the command.
///
/// # Errors
/// The file is no recording, or nothing in it can be read.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let mut show = |incident: &Incident| match context.format {
        Format::Jsonl => super::out_incident(incident, context),
        Format::Text | Format::Json => Ok(()),
    };
    match args.report.unwrap_or(ReportArg::Oom) {
        ReportArg::Oom => {
            let report = session::replay_oom(&args.file, &mut show)?;
            super::print(&report, context, args.exit_code)
        }
    }
}
