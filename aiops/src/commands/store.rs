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
use crate::msg;
use crate::render::Format;
use crate::render::TextReport;
use crate::report;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::Severity;
use crate::report::store::CompactData;
use crate::report::store::DamageRow;
use crate::report::store::InfoData;
use crate::report::store::Kind;
use crate::report::store::Part;
use crate::report::store::RepairData;
use crate::report::store::RepairRow;
use crate::report::store::VerifyData;
use crate::report::store::Whole;
use crate::session::store_error;
use crate::source::host;
use crate::source::priority;
use crate::store::Broken;
use crate::store::BrokenPart;
use crate::store::Damage;
use crate::store::Inventory;
use crate::store::StoreError;
use crate::time;

/// What to do with the history.
#[derive(Debug, clap::Subcommand)]
pub enum Store {
    /// Say whose history it is, what it holds and what it takes.
    Info(InfoArgs),
    /// Read everything, and say what is damaged.
    Verify(VerifyArgs),
    /// Make segments of finished logs, and remove what is too old or too much.
    Compact(CompactArgs),
    /// Put damaged parts aside, and save what can be read of them.
    Repair(RepairArgs),
}

/// Options of `store info`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops store info
      host, range of time, segments, logs, bytes for each sample
  aiops store info --store /mnt/host7/aiops -o json | jq .data.bytes")]
pub struct InfoArgs {}

/// Options of `store verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every frame of each log, every page of each segment, checksums, order of rows, counts of samples. It changes nothing, and
a daemon may go on writing.

Examples:
  aiops store verify
  aiops store verify --exit-code || aiops store repair
      20: something is damaged")]
pub struct VerifyArgs {
    /// Exit with 20 when something is damaged.
    #[arg(long)]
    exit_code: bool,
}

/// Options of `store repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is deleted: what is damaged stands in STORE/damaged/ afterwards; of logs, `compact` keeps the newest 64 MiB
there. What can be read of a damaged log becomes a segment. It refuses while a daemon writes.

Examples:
  aiops store repair
  systemctl stop aiops && aiops store repair && systemctl start aiops")]
pub struct RepairArgs {}

/// Options of `store compact`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The daemon runs this every hour. It steps back behind everybody else: nice 19, idle disk class. A damaged log is put
aside in STORE/damaged/; the segment of what can be read of it says what was lost.

Examples:
  aiops store compact
      finished logs become segments; nothing is removed
  aiops store compact --keep 30d --max-size 2GiB
      and whole segments go that ended 30 days ago, or that are beyond 2 GiB, the oldest first;
      the newest day always stays")]
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
        Store::Info(_) => info(context),
        Store::Verify(args) => verify(args, context),
        Store::Compact(args) => compact(args, context),
        Store::Repair(_) => repair(context),
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

fn info(context: &Context) -> anyhow::Result<Exit> {
    let store = super::store_at(context);
    let meta = store.meta().map_err(store_error)?;
    let summary = store.summary().map_err(store_error)?;
    let parts = whole(&summary.inventory);
    let (from, to) = summary.range.unzip();
    let in_segments = summary.samples_in_segments;
    let data = InfoData {
        path: shown(&context.store),
        layout: meta.as_ref().map(|meta| meta.schema),
        hostname: meta.as_ref().map(|meta| meta.hostname.clone()),
        machine_id: meta.as_ref().and_then(|meta| meta.machine_id.clone()),
        tails: store.tails().as_deref().map(shown),
        written_now: summary.inventory.logs.iter().any(|log| log.written_now),
        from: from.and_then(at),
        to: to.and_then(at),
        segments: parts.segments,
        logs: parts.logs,
        ticks: summary.ticks,
        process_samples: summary.samples,
        events: summary.events,
        bytes_per_process_sample: (in_segments > 0)
            .then(|| parts.segments.bytes as f64 / in_segments as f64),
        kinds: summary
            .kinds
            .iter()
            .map(|(name, count, bytes, rows)| Kind {
                name: name.clone(),
                count: *count,
                bytes: *bytes,
                rows: *rows,
            })
            .collect(),
        bytes: summary.inventory.bytes,
    };
    let mut damages: Vec<DamageRow> = summary.damages.iter().map(damaged_log).collect();
    damages.extend(summary.unread.iter().map(|(path, reason)| DamageRow {
        what: "segment",
        path: shown(path),
        reason: reason.clone(),
        ..DamageRow::default()
    }));
    damages.extend(summary.unsummed.iter().map(|path| DamageRow {
        what: "sums",
        path: shown(&path.join("_sums")),
        reason: "it is not there, or damaged".to_owned(),
        ..DamageRow::default()
    }));
    if meta.is_none() {
        store.is_one().map_err(store_error)?;
        damages.push(DamageRow {
            what: "meta",
            path: shown(&context.store.join("store.json")),
            reason: "it is not there".to_owned(),
            ..DamageRow::default()
        });
    }
    let findings = damages.iter().map(damage_finding).collect();
    let accounting = accounting(&damages);
    print("info", data, findings, accounting, context, false)
}

fn damage_finding(row: &DamageRow) -> Finding {
    let (path, reason) = (&row.path, &row.reason);
    let title = match row.what {
        "segment" => msg!(
            "{path} is damaged: its samples are missing from every answer",
            "{path} 已损坏：查询结果将缺少其中的样本"
        ),
        "log" => msg!(
            "{path} is damaged: a part of its samples is lost",
            "{path} 已损坏：其中部分样本丢失"
        ),
        "sums" => msg!(
            "{path} is missing: damage of this segment would not be noticed",
            "{path} 缺失：该分段若损坏将无法发现"
        ),
        _ => msg!(
            "{path} is damaged: it is not known whose history this is",
            "{path} 已损坏：无法确认存储所属主机"
        ),
    };
    let mut evidence = vec![msg!("{reason}", "{reason}")];
    if let (Some(bytes), Some(ticks), Some(events)) =
        (row.lost_bytes, row.lost_ticks, row.lost_events)
    {
        evidence.push(msg!(
            "lost: {bytes} bytes, {ticks} samples, {events} events",
            "丢失：{bytes} 字节，{ticks} 个样本，{events} 个事件"
        ));
    }
    if let (Some(from), Some(to)) = (&row.from, &row.to) {
        evidence.push(msg!(
            "samples from {from} to {to}",
            "样本时间 {from} 至 {to}"
        ));
    }
    Finding {
        id: "store-damaged",
        severity: Severity::Critical,
        title,
        evidence,
        advice: vec![
            msg!(
                "Put it aside and save what can be read: `aiops store repair` (the rest is not touched)",
                "将其移开并救回可读部分：`aiops store repair`（其余部分不受影响）"
            ),
            msg!(
                "Look at the disk: dmesg, smartctl -a",
                "检查磁盘：dmesg、smartctl -a"
            ),
        ],
    }
}

fn broken(part: &BrokenPart) -> DamageRow {
    let row = match &part.part {
        Broken::Meta => DamageRow {
            what: "meta",
            ..DamageRow::default()
        },
        Broken::Log(damage) => damaged_log(damage),
        Broken::Sums(_) => DamageRow {
            what: "sums",
            ..DamageRow::default()
        },
        Broken::Segment(segment) => DamageRow {
            what: "segment",
            from: at(segment.from_ms),
            to: at(segment.to_ms),
            ..DamageRow::default()
        },
    };
    DamageRow {
        path: shown(&part.path),
        reason: part.reason.clone(),
        ..row
    }
}

fn verify(args: &VerifyArgs, context: &Context) -> anyhow::Result<Exit> {
    let store = super::store_at(context);
    let verified = store.verify().map_err(store_error)?;
    let damages: Vec<DamageRow> = verified.broken.iter().map(broken).collect();
    let findings = damages.iter().map(damage_finding).collect();
    let mut accounting = accounting(&damages);
    let seen = [
        ("frames".to_owned(), verified.frames),
        ("rows".to_owned(), verified.rows),
    ];
    accounting.seen.extend(seen);
    let data = VerifyData {
        path: shown(&context.store),
        segments: verified.segments,
        logs: verified.logs,
        rows: verified.rows,
        frames: verified.frames,
        bytes: verified.bytes,
        damages,
    };
    print(
        "verify",
        data,
        findings,
        accounting,
        context,
        args.exit_code,
    )
}

fn repair(context: &Context) -> anyhow::Result<Exit> {
    let store = super::store_at(context);
    let host = this_host(context);
    match store.own(&host) {
        // A store.json that cannot be understood is what is repaired.
        Err(error @ StoreError::Io { .. }) if !is_damage(&error) => return Err(store_error(error)),
        Err(StoreError::Io { .. }) | Ok(()) => {}
        Err(error) => return Err(store_error(error)),
    }
    let _alone = store.upkeep(true).map_err(store_error)?;
    let repaired = store.repair(&host).map_err(store_error)?;
    let rows = repaired.iter().map(|one| {
        let row = broken(&one.part);
        RepairRow {
            what: row.what,
            path: row.path,
            reason: row.reason,
            moved_to: one.moved_to.as_deref().map(shown),
            saved_ticks: one.saved.map(|(ticks, _)| ticks),
            saved_events: one.saved.map(|(_, events)| events),
        }
    });
    let data = RepairData {
        path: shown(&context.store),
        repairs: rows.collect(),
    };
    let accounting = accounting(&[]);
    print("repair", data, Vec::new(), accounting, context, false)
}

/// Whether a file was read and makes no sense.
fn is_damage(error: &StoreError) -> bool {
    let invalid = std::io::ErrorKind::InvalidData;
    matches!(error, StoreError::Io { source, .. } if source.kind() == invalid)
}

fn compact(args: &CompactArgs, context: &Context) -> anyhow::Result<Exit> {
    priority::step_back();
    let store = super::store_at(context);
    store.own(&this_host(context)).map_err(store_error)?;
    let before = whole(&store.inventory().map_err(store_error)?);
    // What is old goes even where no segment can be made: on a full disk that is what makes room.
    let mut compacted = store.compact();
    let mut removed = 0;
    if args.keep.is_some() || args.max_size.is_some() {
        let keep_ms = |keep: Duration| i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let now_ms = time::now_ns() / 1_000_000;
        let since = (args.keep).map_or(i64::MIN, |keep| now_ms.saturating_sub(keep_ms(keep)));
        let most = args.max_size.unwrap_or(u64::MAX);
        let gone = store.retain(since, most).map_err(store_error)?;
        removed = gone.segments.len() as u64;
    }
    if removed > 0 && compacted.is_err() {
        compacted = store.compact();
    }
    let damages = compacted.map_err(store_error)?;
    let after = whole(&store.inventory().map_err(store_error)?);
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
