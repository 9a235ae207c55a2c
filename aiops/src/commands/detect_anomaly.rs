//! `aiops detect anomaly`: what was out of the ordinary in the history of a host, and what moved with it.

use std::time::Duration;

use crate::analysis::anomaly;
use crate::analysis::anomaly::gather;
use crate::analysis::anomaly::host;
use crate::analysis::anomaly::host::Scope;
use crate::analysis::anomaly_report;
use crate::analysis::history::stamp;
use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::model::Range;
use crate::report::Accounting;
use crate::report::HostInfo;
use crate::report::Report;
use crate::session::store_error;
use crate::source;
use crate::store::Ask;
use crate::store::Coverage;
use crate::time;

/// Name and version of the report.
const SCHEMA: &str = "aiops.detect-anomaly/1";
/// History of the host that is read at least, so that a week of days says what is usual.
const BASELINE_MS: i64 = 8 * 86_400_000;
/// KiB of a page where the host does not say it.
const PAGE_KB: f64 = 4.0;

/// Options of `detect anomaly`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is found:
  growth-point     the level of a size rises between one hour and the next, beyond its daily course
  change-point     it falls, or rises slowly to another level
  residual         it is far above trend and season for a moment (STL)
  swap-surge, swap-sustained, swap-thrash
  outlier-process  a process is unlike the others in size, swap, growth or faults

Examples:
  aiops detect anomaly
      the last 24 hours of the host and its processes, the rarest first
  aiops detect anomaly --system --history 7d --end yesterday
      growth points and swap of the host in the week before today
  aiops detect anomaly --pid 4711 --exit-code -o json
      for scripts: 10 for a warning, 20 for thrashing")]
pub struct Args {
    /// Only these processes.
    #[arg(long, value_name = "PID,PID", value_delimiter = ',', conflicts_with_all = ["system", "all"])]
    pid: Vec<u32>,
    /// Only the host: its memory and swap.
    #[arg(long, conflicts_with = "all")]
    system: bool,
    /// The host and its processes: what is looked at unless something else is asked for.
    #[arg(long)]
    all: bool,
    /// How long before --end.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = cli::duration)]
    history: Duration,
    /// End [default: now].
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    end: Option<String>,
    /// Rows of the text report; JSON has all rows. 0: all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
///
/// # Errors
/// There is no store, or it cannot be read.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let now = time::now_ns();
    let end = args.end.as_deref().unwrap_or("now");
    let end_ms = match time::moment(end, now, true) {
        Ok(ns) => ns.div_euclid(1_000_000).saturating_add(1),
        Err(why) => return Ok(super::usage(&format!("--end: {why}"))),
    };
    let history_ms = i64::try_from(args.history.as_millis()).unwrap_or(i64::MAX);
    if history_ms == 0 {
        return Ok(super::usage("--history must be more than 0"));
    }
    let window = Range {
        start_ms: end_ms.saturating_sub(history_ms),
        end_ms,
    };
    let store = super::store_at(context);
    let meta = store.meta().map_err(store_error)?;
    let baseline = Range {
        start_ms: end_ms.saturating_sub(history_ms.max(BASELINE_MS)),
        end_ms,
    };
    let mut input = host::Input {
        start_s: window.start_ms as f64 / 1000.0,
        page_kb: PAGE_KB,
        ..host::Input::default()
    };
    let here = HostInfo::from(&source::host::read(&context.root));
    let own = meta
        .as_ref()
        .is_none_or(|meta| meta.hostname == here.hostname);
    if let Some(bytes) = here.page_size.filter(|_| own) {
        input.page_kb = bytes as f64 / 1024.0;
    }
    let ask = Ask {
        range: baseline,
        fields: &gather::SYSTEM_FIELDS,
        pids: &[],
        programs: false,
    };
    let coverage = store
        .system(&ask, &mut |ts, values| {
            input.moments.push(gather::moment(ts, values));
        })
        .map_err(store_error)?;
    if meta.is_none() && coverage.known.is_none() {
        let error = anyhow::anyhow!("{}: no history there", context.store.display());
        let remedy =
            "`aiops monitor memory` writes it; --store DIR or AIOPS_STORE name another one";
        return Err(diag::hint(error, remedy));
    }
    // A clock that was set back makes no series.
    input.moments.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
    let scope = match (args.system, args.pid.as_slice()) {
        (true, _) => Scope::System,
        (false, []) => Scope::All,
        (false, pids) => Scope::Pids(pids.to_vec()),
    };
    let times: Vec<i64> = (coverage.times.iter().copied())
        .filter(|ts| window.holds(*ts))
        .collect();
    let interval_s = anomaly::interval_s(&times);
    let span_s = match (times.first(), times.last()) {
        (Some(first), Some(last)) => (last - first) as f64 / 1000.0,
        _ => 0.0,
    };
    input.interval_s = interval_s.unwrap_or(0.0);
    // Other processes are read in any case: what else moved is told.
    let step_s = host::process_step_s(span_s, interval_s.unwrap_or(0.0));
    let mut processes = gather::Processes::new(step_s);
    let ask = Ask {
        range: window,
        fields: &gather::PROCESS_FIELDS,
        pids: &[],
        programs: false,
    };
    let of_processes = store
        .runs(&ask, &mut |run| processes.take(run))
        .map_err(store_error)?;
    input.processes = processes.lives();
    let found = host::find(&input, &scope);
    let mut data = anomaly_report::data(&input, &scope, found, interval_s);
    data.top = args.top;
    let mut findings = anomaly_report::findings(&data);
    if times.is_empty() {
        findings.push(super::query_memory::empty_range(coverage.known));
    } else if let Scope::Pids(pids) = &scope {
        let seen = |pid: &u32| input.processes.iter().any(|one| one.pid == *pid);
        let missing: Vec<u32> = pids.iter().filter(|pid| !seen(pid)).copied().collect();
        findings.extend(anomaly_report::unseen(&missing));
    }
    let host = match meta {
        Some(meta) if !own => HostInfo {
            hostname: meta.hostname,
            ..HostInfo::default()
        },
        _ => here,
    };
    let report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: stamp(now / 1_000_000),
        host,
        accounting: accounting(&times, &[&coverage, &of_processes]),
        data,
        findings,
    };
    super::print(&report, context, args.exit_code)
}

fn accounting(times: &[i64], readings: &[&Coverage]) -> Accounting {
    let mut damages: Vec<_> = readings.iter().flat_map(|one| &one.damages).collect();
    damages.dedup_by(|a, b| a.path == b.path);
    let unread = damages.iter().map(|damage| {
        let why = damage.error.as_deref().unwrap_or("damaged");
        format!("{} ({why})", damage.path.display())
    });
    let lost: u64 = damages.iter().map(|damage| damage.lost_ticks).sum();
    let mut accounting = Accounting {
        seen: [("ticks".to_owned(), times.len() as u64)].into(),
        unread: unread.collect(),
        complete: damages.is_empty(),
        ..Accounting::default()
    };
    if lost > 0 {
        accounting.lost.insert("ticks".to_owned(), lost);
    }
    accounting
}
