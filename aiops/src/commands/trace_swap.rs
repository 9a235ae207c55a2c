//! `aiops trace swap`: whose pages go to swap and come back.

use std::collections::BTreeMap;
use std::path::Path;

use crate::analysis::swapping::Swapping;
use crate::cli::Context;
use crate::diag::Exit;
use crate::model::Item;
use crate::session::trace;
use crate::session::trace::Analysis;
use crate::source::bpf::hooks::Family;

use super::options::TraceArgs;

const SCHEMA: &str = "aiops.trace-swap/1";
/// As recordings have it.
pub(super) const COMMAND: &str = "trace swap";

/// Options of `trace swap`. Its filters choose rows of the report: a page's owner is not who reclaims it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops trace swap --duration 60s
      a minute: whose pages went to swap and came back, beside the kernel's own counts
  aiops trace swap --interval 5s --record swap.aiops
      until Ctrl-C, with a line every five seconds, and a recording for `aiops replay`")]
pub struct Args {
    #[command(flatten)]
    trace: TraceArgs,
}

struct Live(Swapping);

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
    let options = args
        .trace
        .options(Family::Swap, COMMAND, BTreeMap::new(), context);
    let mut live = Live(Swapping::default());
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
    let mut live = Live(Swapping::default());
    let damage = trace::replay(file, COMMAND, &mut live)?;
    let mut traced = live.0.finish();
    traced.data.top = top;
    let report = trace::report(SCHEMA, traced, damage);
    super::print(&report, context, exit_code)
}
