//! `aiops trace reclaim`: who waits while the kernel looks for memory.

use std::collections::BTreeMap;
use std::path::Path;

use crate::analysis::stalls::Stalls;
use crate::cli::Context;
use crate::diag::Exit;
use crate::model::Item;
use crate::report::Damage;
use crate::report::HostInfo;
use crate::report::Report;
use crate::session::trace;
use crate::session::trace::Analysis;
use crate::source::bpf;
use crate::source::bpf::hooks::Family;
use crate::time;

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
    let mut live = Live(Stalls::default());
    let damage = trace::replay(file, COMMAND, &mut live)?;
    let report = report(live.0, top, damage);
    super::print(&report, context, exit_code)
}

fn report(
    stalls: Stalls,
    top: usize,
    damage: Option<Damage>,
) -> Report<crate::report::stalls::ReclaimData> {
    let outcome = stalls.finish();
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
