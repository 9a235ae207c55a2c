//! `aiops trace swap`: whose pages go to swap and come back.

use std::collections::BTreeMap;
use std::path::Path;

use crate::analysis::swapping::Swapping;
use crate::cli::Context;
use crate::diag::Exit;
use crate::model::Item;
use crate::report::Damage;
use crate::report::HostInfo;
use crate::report::Report;
use crate::session::trace;
use crate::session::trace::Analysis;
use crate::source::bpf::hooks::Family;
use crate::time;

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
    let report = report(live.0, args.trace.top, None);
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
    let report = report(live.0, top, damage);
    super::print(&report, context, exit_code)
}

fn report(
    swapping: Swapping,
    top: usize,
    damage: Option<Damage>,
) -> Report<crate::report::swapping::SwapTraceData> {
    let outcome = swapping.finish();
    let mut data = outcome.data;
    data.top = top;
    let mut accounting = outcome.accounting;
    accounting.complete &= damage.is_none();
    accounting.damage = damage;
    let now = time::now_ns();
    Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: HostInfo::from(&outcome.session.host),
        data,
        findings: outcome.findings,
        accounting,
    }
}
