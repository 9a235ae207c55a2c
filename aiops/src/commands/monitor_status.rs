//! `aiops monitor status`: whether the daemon runs, what it costs, what its store holds.

use std::path::Path;

use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::msg;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::Severity;
use crate::report::monitor::MonitorData;
use crate::report::monitor::MonitorState;
use crate::session::monitor;
use crate::session::store_error;
use crate::source::clock;
use crate::source::host;
use crate::time;

const SCHEMA: &str = "aiops.monitor-status/1";

/// Options of `monitor status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops monitor status
      what the daemon costs, and what its store holds; exit code 1 when it does not run
  aiops monitor status -o json | jq '.data.state.own.rss_kb'")]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// The store is not there or cannot be read, or the report cannot be printed; each with its remedy.
pub(super) fn run(_: &Args, context: &Context) -> anyhow::Result<Exit> {
    let store = super::store_at(context);
    let known = monitor::state(&store).map_err(store_error)?;
    let running = known.as_ref().is_some_and(|(_, alive)| *alive);
    let mut state = known.map(|(state, _)| state);
    let writer = state.as_ref().filter(|_| running);
    let now = time::now_ns();
    let age_ns = writer.map(|state| {
        let last = state.last_tick_mono_ns;
        clock::mono_ns().saturating_sub(last)
    });
    let stored = monitor::store_state(&store, writer).ok();
    let findings = writer
        .zip(age_ns)
        .and_then(|(state, age_ns)| stalled(state, age_ns as f64 / 1e9));
    // It wrote how long it runs with its last sample.
    if let (Some(state), Some(age_ns)) = (&mut state, age_ns) {
        state.own.uptime_s += age_ns as f64 / 1e9;
    }
    let data = MonitorData {
        running,
        last_tick_age_s: age_ns.map(|ns| ns as f64 / 1e9),
        state,
        store: stored,
    };
    let report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: HostInfo::from(&host::read(Path::new("/"))),
        data,
        findings: findings.into_iter().collect(),
        accounting: Accounting {
            complete: true,
            ..Accounting::default()
        },
    };
    let printed = super::print(&report, context, false)?;
    if running {
        return Ok(printed);
    }
    let error = anyhow::anyhow!("{}: no daemon writes this store", context.store.display());
    Err(diag::hint(
        error,
        "start one: `aiops monitor memory --daemon`, or `systemctl start aiops`",
    ))
}

/// Samples that do not come any more, of a daemon that is there.
fn stalled(state: &MonitorState, age_s: f64) -> Option<Finding> {
    /// So many samples in a row may be late on a busy host.
    const LATE: f64 = 3.0;
    /// And for so long, however short the interval is.
    const LEAST_S: f64 = 10.0;
    if age_s < LEAST_S.max(state.interval_s * LATE) {
        return None;
    }
    let pid = state.own.pid;
    Some(Finding {
        id: "daemon-stalled",
        severity: Severity::Warning,
        title: msg!(
            "The daemon runs, and takes no samples",
            "守护进程在运行，但没有采样"
        ),
        evidence: vec![msg!(
            "the last sample is {age_s:.0} s old; one every {:.0} s is asked for",
            "最近一次采样在 {age_s:.0} 秒前；设定为每 {:.0} 秒一次",
            state.interval_s
        )],
        advice: vec![msg!(
            "see what it waits for: cat /proc/{pid}/wchan /proc/{pid}/status; restart it: systemctl restart aiops",
            "查看其等待原因：cat /proc/{pid}/wchan /proc/{pid}/status；重启：systemctl restart aiops"
        )],
    })
}
