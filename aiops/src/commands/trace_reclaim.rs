//! `aiops trace reclaim`: who waits while the kernel looks for memory.

use std::collections::BTreeMap;
use std::path::Path;

use crate::analysis::stalls::Stalls;
use crate::cli::Context;
use crate::diag::Exit;
use crate::model::Item;
use crate::session::trace;
use crate::session::trace::Analysis;
use crate::source::bpf;
use crate::source::bpf::hooks::Family;

use super::options::TraceArgs;

const SCHEMA: &str = "aiops.trace-reclaim/1";
/// As recordings have it.
pub(super) const COMMAND: &str = "trace reclaim";

/// Options of `trace reclaim`. Its filters are decided in the kernel.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops trace reclaim --duration 60s
      a minute: which processes and cgroups waited for memory, and how long
  aiops trace reclaim --cgroup /kubepods.slice --interval 5s
      until Ctrl-C, with a line every five seconds
  aiops trace reclaim --record stalls.aiops -o json
      the report as JSON, and a recording that `aiops replay stalls.aiops` explains anywhere")]
pub struct Args {
    #[command(flatten)]
    trace: TraceArgs,
}

struct Live(Stalls);

impl Analysis for Live {
    fn push(&mut self, item: &Item) {
        self.0.push(item);
    }

    fn now(&self) -> String {
        self.0.now()
    }
}

/// Runs the command.
///
/// # Errors
/// The tracer cannot run here, or the recording cannot be written.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let noted = BTreeMap::from([("gfp".to_owned(), bpf::gfp_names())]);
    let options = args.trace.options(Family::Reclaim, COMMAND, noted, context);
    let mut live = Live(Stalls::default());
    trace::trace(&options, &mut live)?;
    let mut traced = live.0.finish();
    traced.data.top = args.trace.top;
    let report = trace::report(SCHEMA, traced, None);
    super::print(&report, context, args.trace.exit_code)
}

/// The same report from a recording.
///
/// # Errors
/// The file is no recording of this command, or nothing in it can be read.
pub(super) fn replay(
    file: &Path,
    top: usize,
    exit_code: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    let mut live = Live(Stalls::default());
    let damage = trace::replay(file, COMMAND, &mut live)?;
    let mut traced = live.0.finish();
    traced.data.top = top;
    let report = trace::report(SCHEMA, traced, damage);
    super::print(&report, context, exit_code)
}
