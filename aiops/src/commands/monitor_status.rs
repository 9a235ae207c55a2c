//! `aiops monitor status`: whether the daemon runs, what it costs, what its store holds.

use std::path::Path;

use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::report::Accounting;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::monitor::MonitorData;
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
    let state = known.map(|(state, _)| state);
    let writer = state.as_ref().filter(|_| running);
    let now = time::now_ns();
    let age_ns = writer.map(|state| {
        let last = state.last_tick_mono_ns;
        clock::mono_ns().saturating_sub(last)
    });
    let stored = monitor::store_state(&store, writer).ok();
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
        findings: Vec::new(),
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
