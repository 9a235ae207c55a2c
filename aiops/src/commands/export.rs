//! `aiops export`: a range of the history in another format, or in another place.

use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use super::export_text::Texts;
use super::query_memory::empty_range;
use crate::analysis::history::stamp;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::report;
use crate::report::Accounting;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::export::ExportData;
use crate::report::export::ExportFile;
use crate::report::export::ExportRange;
use crate::session;
use crate::session::store_error;
use crate::store::Ask;
use crate::store::Damage;
use crate::store::Lake;
use crate::store::Part;
use crate::store::Range;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::TABLES;
use crate::time;

/// Name and version of the report.
const SCHEMA: &str = "aiops.export/1";
/// Milliseconds of a day of UTC.
const DAY_MS: i64 = 86_400_000;

/// Options of `export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops export --to parquet --out lake --start yesterday --end yesterday
      one day for an object store: lake/mem/date=…/host=…/part-….parquet, and the other tables beside mem
  aiops export --to csv --out . --table process --start -2h
      process.csv, a row for each run of samples that are alike (n of them)
  aiops export --to jsonl --out incident --start '2026-11-23 14:00' --end '2026-11-23 14:30' -o json

Days are days of UTC. The same range makes files of the same names and rows; a wider one replaces those that it covers.")]
pub struct Args {
    /// Form of the files.
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: To,
    /// Folder to write into; it is made when it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// First moment: RFC 3339, 2024-01-01, '2024-01-01 10:00', yesterday, -2h. Default: the oldest.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    start: Option<String>,
    /// First moment that is not wanted any more; a day is meant whole. Default: now.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    end: Option<String>,
    /// Only these tables.
    #[arg(long, value_enum, value_name = "TABLE,TABLE", value_delimiter = ',')]
    table: Vec<TableArg>,
    /// Replace files that are there, or parts of a day that overlap.
    #[arg(long)]
    force: bool,
}

/// Forms of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// Columns, compressed: for engines.
    Parquet,
    /// Rows with a header (RFC 4180).
    Csv,
    /// One JSON object for each row.
    Jsonl,
}

impl To {
    fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}

/// Tables of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TableArg {
    /// Runs of samples of each process.
    Process,
    /// The host's figures at every sample.
    System,
    /// Runs of samples of each memory cgroup.
    Cgroup,
    /// OOM kills and findings.
    Event,
}

impl TableArg {
    fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::System => "system",
            Self::Cgroup => "cgroup",
            Self::Event => "event",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The range or the folder is no good, or the store cannot be read; each with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let now = time::now_ns();
    let store = super::store_at(context);
    let range = match range(args, now) {
        Ok(range) => range,
        Err(text) => return Ok(super::usage(&text)),
    };
    let hostname = match store.meta().map_err(store_error)? {
        Some(meta) => meta.hostname,
        None => {
            let error =
                anyhow::anyhow!("{}: nothing was ever stored here", store.folder().display());
            let remedy =
                "`aiops monitor memory` fills it; --store DIR or AIOPS_STORE name another one";
            return Err(diag::hint(error, remedy));
        }
    };
    let tables: Vec<&'static str> = TABLES
        .into_iter()
        .filter(|name| args.table.is_empty() || args.table.iter().any(|one| one.name() == *name))
        .collect();
    let mut findings = Vec::new();
    let (parts, damages) = match store.extent(range).map_err(store_error)? {
        Some(extent) => {
            folder(&args.out)?;
            let stop = session::stop_flag()?;
            let job = Job {
                store: &store,
                range,
                extent,
                tables: &tables,
                stop: &stop,
            };
            let done = match args.to {
                To::Parquet => job.lake(Lake::new(&args.out, &hostname, args.force)),
                To::Csv => job.texts(Texts::csv(&args.out, args.force)),
                To::Jsonl => job.texts(Texts::jsonl(&args.out, args.force)),
            };
            diag::progress("");
            done?
        }
        None => Default::default(),
    };
    if parts.is_empty() {
        let ask = Ask {
            range,
            fields: &[],
            pids: &[],
            programs: false,
        };
        let there = store.system(&ask, &mut |_, _| {}).map_err(store_error)?;
        if there.times.is_empty() {
            findings.push(empty_range(there.known));
        }
    }
    for damage in &damages {
        diag::warn(&said(damage));
    }
    let side = |ms: i64| time::rfc3339(ms.saturating_mul(1_000_000), 0);
    let data = ExportData {
        to: args.to.name(),
        out: args.out.display().to_string(),
        range: ExportRange {
            start: (range.start_ms != i64::MIN)
                .then(|| side(range.start_ms))
                .flatten(),
            end: side(range.end_ms),
        },
        rows: parts.iter().map(|part| part.rows).sum(),
        bytes: parts.iter().map(|part| part.bytes).sum(),
        files: parts
            .iter()
            .map(|part| ExportFile {
                path: part.path.display().to_string(),
                table: part.table,
                rows: part.rows,
                bytes: part.bytes,
            })
            .collect(),
    };
    let report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: HostInfo {
            hostname,
            ..HostInfo::default()
        },
        accounting: accounting(&parts, &damages),
        data,
        findings,
    };
    super::print(&report, context, false)
}

/// The wanted range.
fn range(args: &Args, now: i64) -> Result<Range, String> {
    let read = |option: &str, text: &str, end: bool| {
        time::moment(text, now, end)
            .map(|ns| ns.div_euclid(1_000_000))
            .map_err(|why| format!("{option}: {why}\nhint: aiops export --help shows examples"))
    };
    let start_ms = match &args.start {
        Some(text) => read("--start", text, false)?,
        None => i64::MIN,
    };
    let end_ms = match &args.end {
        Some(text) => read("--end", text, true)?,
        None => now.div_euclid(1_000_000) + 1,
    };
    if start_ms >= end_ms {
        return Err(format!(
            "--start {} is not before --end {}\nhint: swap them; without --end the range goes on until now",
            stamp(start_ms),
            stamp(end_ms)
        ));
    }
    Ok(Range { start_ms, end_ms })
}

/// Makes the folder, or checks that it is one.
fn folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| {
        let what = format!("{}: cannot make this folder", path.display());
        diag::hint(
            anyhow::Error::new(error).context(what),
            "--out names a folder that you can write to",
        )
    })
}

/// What is not the store's fault.
fn unwritten(error: StoreError) -> anyhow::Error {
    match &error {
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            diag::hint(
                error,
                "choose another range or --out, or replace it: --force",
            )
        }
        StoreError::Io { .. } => diag::hint(
            error,
            "--out names a folder with room that you can write to",
        ),
        _ => error.into(),
    }
}

fn said(damage: &Damage) -> String {
    let path = damage.path.display();
    match &damage.error {
        Some(error) => format!("{path}: left out: {error}"),
        None => format!(
            "{path}: damaged: {} bytes, {} samples and {} events are lost",
            damage.lost_bytes, damage.lost_ticks, damage.lost_events
        ),
    }
}

fn accounting(parts: &[Part], damages: &[Damage]) -> Accounting {
    let mut accounting = Accounting {
        complete: damages.is_empty(),
        ..Accounting::default()
    };
    for part in parts {
        *accounting.seen.entry(part.table.to_owned()).or_default() += part.rows;
    }
    if !damages.is_empty() {
        accounting.damage = Some(report::Damage {
            places: damages.len() as u64,
            lost_bytes: damages.iter().map(|damage| damage.lost_bytes).sum(),
            ..report::Damage::default()
        });
    }
    accounting
}

/// What is to be written.
struct Job<'a> {
    store: &'a Store,
    range: Range,
    /// The part of it in which there is anything.
    extent: Range,
    tables: &'a [&'static str],
    stop: &'a AtomicBool,
}

impl Job<'_> {
    fn lake(&self, mut lake: Lake) -> anyhow::Result<(Vec<Part>, Vec<Damage>)> {
        for (_, day) in self.days() {
            lake.check(self.tables, day).map_err(unwritten)?;
        }
        let mut parts = Vec::new();
        let damages = self.walk(&mut |batch| {
            match batch {
                Some(batch) => lake.write(batch),
                None => lake.publish().map(|done| parts.extend(done)),
            }
            .map_err(unwritten)
        })?;
        Ok((parts, damages))
    }

    fn texts(&self, mut texts: Texts) -> anyhow::Result<(Vec<Part>, Vec<Damage>)> {
        texts.check(self.tables)?;
        let damages = self.walk(&mut |batch| match batch {
            Some(batch) => texts.write(batch),
            None => Ok(()),
        })?;
        Ok((texts.publish()?, damages))
    }

    /// Number and range of each day.
    fn days(&self) -> impl Iterator<Item = (i64, Range)> {
        let first = self.extent.start_ms.div_euclid(DAY_MS);
        let last = (self.extent.end_ms - 1).div_euclid(DAY_MS);
        let range = self.range;
        (first..=last).map(move |day| {
            let clipped = Range {
                start_ms: range.start_ms.max(day * DAY_MS),
                end_ms: range.end_ms.min((day + 1) * DAY_MS),
            };
            (day - first + 1, clipped)
        })
    }

    /// Reads everything, says how far it is, and ends when it is told to.
    fn walk(
        &self,
        take: &mut dyn FnMut(Option<&crate::store::Batch>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Damage>> {
        let days = self.days().count();
        let (mut day, mut rows) = (1, 0);
        self.store
            .rows(self.range, self.tables, &mut |batch| -> Result<(), Ended> {
                if self.stop.load(Ordering::Relaxed) {
                    let error = anyhow::anyhow!("interrupted: the export is not complete");
                    let remedy = "the files that are there are whole; run it again for the rest";
                    return Err(Ended(diag::hint(error, remedy)));
                }
                match batch {
                    Some(batch) => rows += batch.rows(),
                    None => day += 1,
                }
                diag::progress(&format!(
                    "exporting: day {} of {days}, {rows} rows",
                    day.min(days)
                ));
                take(batch).map_err(Ended)
            })
            .map_err(|Ended(error)| error)
    }
}

/// Why it ended early.
struct Ended(anyhow::Error);

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self(store_error(error))
    }
}
