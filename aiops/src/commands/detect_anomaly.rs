//! `aiops detect anomaly`: what was out of the ordinary in the history of a host, and what moved with it.

use std::path::PathBuf;
use std::time::Duration;

use super::anomaly_sources;
use super::anomaly_sources::Taken;
use super::options::FilterArgs;
use crate::analysis::anomaly;
use crate::analysis::anomaly::host;
use crate::analysis::anomaly::host::Scope;
use crate::analysis::anomaly_report;
use crate::analysis::history::stamp;
use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;
use crate::model::Range;
use crate::report::Report;
use crate::time;

/// Name and version of the report.
const SCHEMA: &str = "aiops.detect-anomaly/1";
/// How far back, unless asked for.
const HISTORY: Duration = Duration::from_secs(24 * 3600);

/// Options of `detect anomaly`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is found:
  growth-point     the level of a size rises between one hour and the next, beyond its daily course
  change-point     it falls, or goes slowly to another level (PELT)
  residual         it is far above trend and season for a moment (STL)
  swap-surge, swap-sustained, swap-thrash
  outlier-process  a process is unlike the others in size, swap, growth or faults

Of a cgroup two sizes are looked at: what its processes hold (anonymous memory and swap), and its whole usage.
In a short window the hour shrinks to a tenth of it; the report says what the window can decide.

Examples:
  aiops detect anomaly
      the last 24 hours of the host and its processes, the rarest first
  aiops detect anomaly --system --history 7d --end yesterday
      growth points and swap of the host in the week before today
  aiops detect anomaly --pid 4711 --exit-code -o json
      for scripts: 10 for a warning, 20 for thrashing
  aiops detect anomaly --cgroup /system.slice/mysql.service
      a service: its memory cgroup, those below it, and its processes
  aiops detect anomaly --recording trace.aiops
      what `aiops collect memory --duration 30m --output trace.aiops` recorded, on any host")]
pub struct Args {
    /// Only the host: its memory and swap.
    #[arg(long, conflicts_with = "all")]
    system: bool,
    /// The host and its processes: what is looked at unless something else is asked for.
    #[arg(long)]
    all: bool,
    /// So far back in the history of the store [default: 24h].
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    history: Option<Duration>,
    /// End of the history [default: now].
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    end: Option<String>,
    /// What a recording holds.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["history", "end"])]
    recording: Option<PathBuf>,
    /// Rows of the text report; JSON has all rows. 0: all.
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
/// There is no store or no such recording, or it cannot be read.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let now = time::now_ns();
    let end = args.end.as_deref().unwrap_or("now");
    let end_ms = match time::moment(end, now, true) {
        Ok(ns) => ns.div_euclid(1_000_000).saturating_add(1),
        Err(why) => return Ok(super::usage(&format!("--end: {why}"))),
    };
    let history_ms = args.history.unwrap_or(HISTORY).as_millis();
    let history_ms = i64::try_from(history_ms).unwrap_or(i64::MAX);
    if history_ms == 0 {
        return Ok(super::usage("--history must be more than 0"));
    }
    let filter = args.filter.filter();
    let scope = match (args.system, filter.is_empty()) {
        (true, true) => Scope::System,
        (false, true) => Scope::All,
        (false, false) if !args.all => Scope::Chosen,
        _ => {
            return Ok(super::usage(
                "--system is the host alone, --all everything: leave them out, or the filters",
            ));
        }
    };
    let taken = match &args.recording {
        Some(file) => anomaly_sources::recorded(file, &filter)?,
        None => {
            let window = Range {
                start_ms: end_ms.saturating_sub(history_ms),
                end_ms,
            };
            anomaly_sources::stored(window, &filter, context)?
        }
    };
    let Taken { input, times, .. } = &taken;
    let found = host::find(input, scope);
    let interval_s = anomaly::interval_s(times);
    let mut data = anomaly_report::data(input, scope, found, interval_s);
    data.source = taken.source;
    data.top = args.top;
    let mut findings = anomaly_report::findings(&data);
    if times.is_empty() {
        findings.push(super::query_memory::empty_range(taken.known));
    } else if scope == Scope::Chosen {
        findings.extend(anomaly_report::unseen(input, &filter));
    }
    let report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: stamp(now / 1_000_000),
        host: taken.host,
        accounting: taken.accounting,
        data,
        findings,
    };
    super::print(&report, context, args.exit_code)
}
