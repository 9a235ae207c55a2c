//! `aiops trace oom`: catch every OOM kill live.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::model::Filter;
use crate::render;
use crate::render::Format;
use crate::report::oom::Incident;
use crate::session;
use crate::session::Record;

use super::options::kernel_name;
use super::options::kernel_path;

/// Options of `trace oom`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops trace oom
      until Ctrl-C, then the report
  aiops trace oom --count 1 --record oom.aiops -o json
      the next incident as JSON, and a recording that `aiops replay oom.aiops` explains anywhere
  aiops trace oom --cgroup /kubepods.slice --duration 24h --exit-code")]
pub struct Args {
    /// Stop after this time: 90s, 5m, 24h; 0 looks once. Without it, until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    duration: Option<Duration>,
    /// Stop after this many incidents; a group kill is one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Write everything that is seen to a recording.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Replace an existing recording.
    #[arg(long, requires = "record")]
    force: bool,
    /// Only victims with these process ids.
    #[arg(long, value_name = "PID,PID", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Only victims in this memory cgroup or below it, as the kernel prints its path.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    cgroup: Vec<String>,
    /// Only victims with this name.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    comm: Vec<String>,
    /// How far back the minutes before a kill are kept.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = cli::duration)]
    history_window: Duration,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
///
/// # Errors
/// The tracer cannot run here, or the recording cannot be written.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let options = session::Options {
        root: context.root.clone(),
        filter: Filter {
            pids: args.pid.clone(),
            comms: args.comm.iter().map(|name| kernel_name(name)).collect(),
            cgroups: args.cgroup.iter().map(|path| kernel_path(path)).collect(),
            ..Filter::default()
        },
        count: args.count,
        duration: args.duration,
        history_window: args.history_window,
        record: args.record.clone().map(|path| Record {
            path,
            force: args.force,
        }),
    };
    let mut show = |incident: &Incident| match context.format {
        Format::Jsonl => super::out_incident(incident, context),
        Format::Text | Format::Json | Format::Csv => {
            let text = render::incident_live(incident, &context.style);
            text.lines().for_each(diag::note);
            Ok(())
        }
    };
    let report = session::trace_oom(&options, &mut show)?;
    super::print(&report, context, args.exit_code)
}
