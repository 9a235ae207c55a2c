//! `aiops store`: what the history holds, whether it is whole, its upkeep.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::options;
use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::model::Host;
use crate::render::Format;
use crate::render::TextReport;
use crate::report;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::store::CompactData;
use crate::report::store::DamageRow;
use crate::report::store::Part;
use crate::report::store::Whole;
use crate::source::host;
use crate::source::priority;
use crate::store;
use crate::store::Damage;
use crate::store::Inventory;
use crate::store::StoreError;
use crate::time;

/// What to do with the history.
#[derive(Debug, clap::Subcommand)]
pub enum Store {
    /// Make segments of finished logs, and remove what is too old or too much.
    Compact(CompactArgs),
}

/// Options of `store compact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The daemon runs this every hour. It steps back behind everybody else: nice 19, idle disk class.

Examples:
  aiops store compact
      finished logs become segments; nothing is removed
  aiops store compact --keep 30d --max-size 2G
      and whole segments go that ended 30 days ago, or that are beyond 2 GiB, the oldest first")]
pub struct CompactArgs {
    /// Remove segments that ended longer ago.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    keep: Option<Duration>,
    /// Remove the oldest segments until the others are no larger together.
    #[arg(long, value_name = "SIZE", value_parser = options::bytes)]
    max_size: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// There is no store, it may not be read or changed, or the system refuses; each with its remedy.
pub(super) fn run(command: &Store, context: &Context) -> anyhow::Result<Exit> {
    match command {
        Store::Compact(args) => compact(args, context),
    }
}

/// An error of the store with what to do about it.
pub(super) fn explained(error: StoreError) -> anyhow::Error {
    match error.remedy() {
        Some(remedy) => diag::hint(error, remedy),
        None => error.into(),
    }
}

/// Who we are.
fn this_host(context: &Context) -> Host {
    host::read(&context.root)
}

fn at(ms: i64) -> Option<String> {
    let ns = ms.checked_mul(1_000_000)?;
    time::rfc3339(ns, time::local_offset_s(ns))
}

fn print<D: Serialize + TextReport>(
    name: &str,
    data: D,
    findings: Vec<Finding>,
    accounting: Accounting,
    context: &Context,
    exit_code: bool,
) -> anyhow::Result<Exit> {
    let now = time::now_ns();
    let report = Report {
        schema: format!("aiops.store-{name}/1"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: HostInfo::from(&this_host(context)),
        data,
        findings,
        accounting,
    };
    super::print(&report, context, exit_code)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A damaged log as a row.
fn damaged_log(damage: &Damage) -> DamageRow {
    let said = damage.error.clone();
    DamageRow {
        what: "log",
        path: shown(&damage.path),
        reason: said.unwrap_or_else(|| "parts of it are damaged".to_owned()),
        lost_bytes: Some(damage.lost_bytes),
        lost_ticks: Some(damage.lost_ticks),
        lost_events: Some(damage.lost_events),
        ..DamageRow::default()
    }
}

/// What was lost, for the accounting.
fn accounting(damages: &[DamageRow]) -> Accounting {
    let sum = |of: fn(&DamageRow) -> Option<u64>| damages.iter().filter_map(of).sum::<u64>();
    let lost_bytes = sum(|row| row.lost_bytes);
    let lost = [
        ("ticks", sum(|row| row.lost_ticks)),
        ("events", sum(|row| row.lost_events)),
    ];
    let lost = lost.into_iter().filter(|(_, count)| *count > 0);
    Accounting {
        lost: lost.map(|(name, count)| (name.to_owned(), count)).collect(),
        damage: (!damages.is_empty()).then(|| report::Damage {
            places: damages.len() as u64,
            lost_bytes,
            ..report::Damage::default()
        }),
        complete: damages.is_empty(),
        ..Accounting::default()
    }
}

fn whole(inventory: &Inventory) -> Whole {
    Whole {
        segments: Part {
            count: inventory.segments.len() as u64,
            bytes: inventory.segments.iter().map(|(_, bytes)| bytes).sum(),
        },
        logs: Part {
            count: inventory.logs.len() as u64,
            bytes: inventory.logs.iter().map(|log| log.bytes).sum(),
        },
    }
}

fn compact(args: &CompactArgs, context: &Context) -> anyhow::Result<Exit> {
    priority::step_back();
    let store = store::Store::at(&context.store);
    store.own(&this_host(context)).map_err(explained)?;
    let _alone = store.upkeep(false).map_err(explained)?;
    let before = whole(&store.inventory().map_err(explained)?);
    let damages = store.compact().map_err(explained)?;
    let mut removed = 0;
    if args.keep.is_some() || args.max_size.is_some() {
        let keep_ms = |keep: Duration| i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let now_ms = time::now_ns() / 1_000_000;
        let since = (args.keep).map_or(i64::MIN, |keep| now_ms.saturating_sub(keep_ms(keep)));
        let most = args.max_size.unwrap_or(u64::MAX);
        removed = store.retain(since, most).map_err(explained)? as u64;
    }
    let after = whole(&store.inventory().map_err(explained)?);
    let damages: Vec<DamageRow> = damages.iter().map(damaged_log).collect();
    for row in &damages {
        diag::warn(&format!("{}: {}", row.path, row.reason));
    }
    // The daemon wants to hear of trouble only.
    if diag::is_quiet() && context.format == Format::Text {
        return Ok(Exit::Done);
    }
    let accounting = accounting(&damages);
    let data = CompactData {
        path: shown(&context.store),
        before,
        after,
        removed_segments: removed,
        damages,
    };
    print("compact", data, Vec::new(), accounting, context, false)
}
