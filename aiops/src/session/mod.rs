//! A live observation, and its replay: sources, recording, analysis, and when to stop.
//!
//! Live and replay end in the same place: every item goes through [`Assembler`], and [`report`] makes
//! the report from what it says. A live session writes each item to the recording before it is analysed,
//! so the recording holds everything that the report was made from.

pub mod alloc;
mod desk;
pub mod limits;
pub mod monitor;
pub mod plane;
pub mod risk;
mod sources;
mod stacks;
pub mod subjects;
pub mod trace;
mod wait;

pub use wait::stop_flag;

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::analysis::oom::Assembler;
use crate::analysis::oom::Outcome;
use crate::diag;
use crate::model::Filter;
use crate::model::Item;
use crate::record;
use crate::record::Reader;
use crate::report;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::oom::Incident;
use crate::report::oom::OomData;
use crate::store::StoreError;
use crate::time;

/// Schema of the OOM report.
const OOM_SCHEMA: &str = "aiops.trace-oom/1";
/// The command whose recordings hold kills.
const OOM_COMMAND: &str = "trace oom";

/// What to observe, and until when.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where `proc` and `sys` stand: `/` for a live session.
    pub root: PathBuf,
    /// Which victims.
    pub filter: Filter,
    /// Stop after so many incidents.
    pub count: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// How far back samples are kept.
    pub history_window: Duration,
    /// Where to record.
    pub record: Option<Record>,
}

/// Where to record.
#[derive(Clone, Debug)]
pub struct Record {
    /// The file.
    pub path: PathBuf,
    /// Replace an existing one.
    pub force: bool,
}

/// Shows an incident when it is closed. An error (a closed pipe) ends the session in good order.
pub type Show<'a> = &'a mut dyn FnMut(&Incident) -> std::io::Result<()>;

/// Catches OOM kills until a signal, the duration or the count ends it.
///
/// # Errors
/// The tracer cannot run here, or the recording cannot be made; each with its remedy.
pub fn trace_oom(options: &Options, show: Show<'_>) -> anyhow::Result<Report<OomData>> {
    if options.root != Path::new("/") {
        let error = anyhow::anyhow!(
            "trace oom: --root {} is no running kernel",
            options.root.display()
        );
        return Err(diag::hint(
            error,
            "trace on the host itself, and use `aiops replay` for recordings",
        ));
    }
    Ok(report(desk::observe(options, show)?, None))
}

/// Makes the report of a recording.
///
/// # Errors
/// The file is no recording, or nothing in it can be read.
pub fn replay_oom(path: &Path, show: Show<'_>) -> anyhow::Result<Report<OomData>> {
    let mut reader = Reader::open(path).map_err(record_error)?;
    let mut assembler = Assembler::new();
    let (mut begun, mut ended) = (false, false);
    for item in &mut reader {
        begun |= matches!(item, Item::Session(_));
        ended |= matches!(item, Item::End(_));
        if let Item::Session(session) = &item {
            holds_kills(path, &session.command)?;
        }
        for incident in assembler.push(&item) {
            show(&incident)?;
        }
    }
    let damage = damage_of(path, &reader, begun, ended)?;
    Ok(report(assembler.finish(), damage))
}

/// Refuses a recording of another command: it would look like one without a kill.
fn holds_kills(path: &Path, command: &str) -> anyhow::Result<()> {
    if command.is_empty() || command == OOM_COMMAND {
        return Ok(());
    }
    let error = anyhow::anyhow!(
        "{}: recorded by `{command}`, which has no OOM events",
        path.display()
    );
    Err(diag::hint(
        error,
        "leave --as out, or take collect, processes, swap, cache or health; `aiops trace oom --record FILE` records kills",
    ))
}

/// What was lost of a recording, and says it; `begun` and `ended` tell whether its first and last items
/// were read.
fn damage_of(
    path: &Path,
    reader: &Reader,
    begun: bool,
    ended: bool,
) -> anyhow::Result<Option<report::Damage>> {
    let damage = reader.damage();
    if !begun && damage.blocks_read == 0 {
        let error = anyhow::anyhow!("{}: nothing in this recording can be read", path.display());
        return Err(diag::hint(
            error,
            "the file was cut off in its first block; copy it again from its host",
        ));
    }
    let damage = (!damage.is_none() || !ended).then_some(report::Damage {
        blocks_read: damage.blocks_read,
        places: damage.places,
        lost_bytes: damage.lost_bytes,
        // A recorder that ran out of disk closes its file, but says nothing of the end.
        truncated: damage.truncated || !ended,
    });
    if let Some(damage) = &damage {
        diag::warn(&damage_text(path, damage));
    }
    Ok(damage)
}

fn damage_text(path: &Path, damage: &report::Damage) -> String {
    let cut = if damage.truncated {
        ", cut off at its end"
    } else {
        ""
    };
    format!(
        "{}: damaged{cut}: {} blocks read, {} damaged places, {} bytes lost; the report shows what is left",
        path.display(),
        damage.blocks_read,
        damage.places,
        damage.lost_bytes
    )
}

/// Makes an error of the recording one with its remedy.
fn record_error(error: record::RecordError) -> anyhow::Error {
    match error.remedy().map(str::to_owned) {
        Some(remedy) => diag::hint(error, remedy),
        None => error.into(),
    }
}

/// What a store could not do, with its remedy.
pub fn store_error(error: StoreError) -> anyhow::Error {
    match error.remedy() {
        Some(remedy) => diag::hint(error, remedy),
        None => error.into(),
    }
}

fn report(outcome: Outcome, damage: Option<report::Damage>) -> Report<OomData> {
    let mut accounting = outcome.accounting;
    accounting.complete &= damage.is_none();
    accounting.damage = damage;
    let now = time::now_ns();
    let offset = time::local_offset_s(now);
    Report {
        schema: OOM_SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, offset).unwrap_or_default(),
        host: HostInfo::from(&outcome.host),
        data: outcome.data,
        findings: outcome.findings,
        accounting,
    }
}
