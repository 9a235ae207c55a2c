//! A live observation of allocations, and its replay.
//!
//! Samples are read on a timer, their stacks unwound at once while the process is there, added up by
//! place, and handed on as items: to the recording and to the analysis. Names of functions come last, from
//! a child process.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

mod gather;
mod wanted;

use self::gather::Gather;
use self::wanted::Cgroups;
use self::wanted::uids;
use super::Record;
use super::damage_of;
use super::record_error;
use crate::analysis::alloc::Allocations;
use crate::analysis::alloc::Analysis;
use crate::analysis::alloc::MEAN;
use crate::analysis::alloc::MODE;
use crate::analysis::alloc::held::Holdings;
use crate::analysis::alloc::held::MIN_AGE;
use crate::diag;
use crate::model::End;
use crate::model::EndReason;
use crate::model::Filter;
use crate::model::Item;
use crate::model::LossCount;
use crate::model::Session;
use crate::record::Reader;
use crate::record::Writer;
use crate::report;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::alloc::AllocData;
use crate::report::alloc::HeldData;
use crate::source::bpf::alloc as bpf;
use crate::source::bpf::alloc::AllocTracer;
use crate::source::bpf::alloc::Mode;
use crate::source::clock;
use crate::source::host;
use crate::time;

/// Schema of the report.
const SCHEMA: &str = "aiops.trace-alloc/1";
/// The command, as recordings name it.
pub const COMMAND: &str = "trace alloc";
/// The same of what is held.
pub const LEAK_COMMAND: &str = "trace leak";
/// Schema of that report.
const LEAK_SCHEMA: &str = "aiops.trace-leak/1";
/// How often the ring is looked at.
const PERIOD: Duration = Duration::from_millis(50);
/// Samples read before anything else is looked at.
const BATCH: usize = 4096;

/// What to observe, and until when.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which allocations.
    pub mode: Mode,
    /// Also the kernel's own allocators.
    pub kernel: bool,
    /// Whose.
    pub filter: Filter,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Where to record.
    pub record: Option<Record>,
    /// Record every sample with its time.
    pub full: bool,
    /// Follow what is taken until it is given back; what is younger than this is left out.
    pub min_age: Option<Duration>,
    /// Rows of the text.
    pub top: usize,
}

/// Watches until a signal or the duration ends it.
///
/// # Errors
/// The tracer cannot run here, or the recording cannot be made; each with its remedy.
pub fn trace(options: &Options) -> anyhow::Result<Report<AllocData>> {
    Ok(report(&observe::<Allocations>(options)?, None, options.top))
}

/// Watches what is taken and not given back until a signal or the duration ends it.
///
/// # Errors
/// As [`trace`].
pub fn trace_leak(options: &Options) -> anyhow::Result<Report<HeldData>> {
    Ok(held_report(
        &observe::<Holdings>(options)?,
        None,
        options.top,
    ))
}

/// Runs the hooks; everything that they saw is in the analysis then.
fn observe<A: Analysis>(options: &Options) -> anyhow::Result<A> {
    let stop = super::stop_flag()?;
    let root = Path::new("/");
    let cgroups = Cgroups::of(&options.filter, root)?;
    let wanted = bpf::Wanted {
        pids: options.filter.pids.clone(),
        comms: options
            .filter
            .comms
            .iter()
            .map(|name| name.clone().into_bytes())
            .collect(),
        cgroups: cgroups.as_ref().map(Cgroups::ids),
        uids: uids(&options.filter, root)?,
    };
    let mut tracer = AllocTracer::start(&bpf::Options {
        mode: options.mode,
        kernel: options.kernel,
        held: options.min_age.is_some(),
        wanted,
    })
    .map_err(|error| {
        let remedy = error.remedy();
        diag::hint(
            anyhow::Error::new(error).context("cannot trace allocations"),
            remedy,
        )
    })?;
    // Only now: a tracer that cannot start leaves no empty recording and replaces no good one.
    let writer = options
        .record
        .as_ref()
        .map(|record| Writer::create(&record.path, record.force));
    let mut desk = Desk {
        writer: writer.transpose().map_err(record_error)?,
        analysis: A::default(),
    };
    let session = session(options, &tracer);
    let started_ns = session.started_ns;
    desk.keep(&Item::Session(session));
    desk.keep(&Item::Clock(clock::now()));
    let hooks = tracer.hooks();
    let attached = hooks.iter().filter(|hook| hook.attached).count();
    diag::note(&format!(
        "tracing allocations with {attached} of {} hooks; Ctrl-C ends it with the report",
        hooks.len()
    ));
    let mut gather = Gather::new(options.full, options.min_age.is_some(), started_ns);
    let end = options.duration.map(|duration| Instant::now() + duration);
    let mut refreshed = Instant::now();
    let reason = loop {
        let more = tracer.drain(BATCH, |record| gather.take(record));
        gather.hand_on(&mut |item| desk.keep(item), false);
        if stop.load(Ordering::Relaxed) {
            break EndReason::Signal;
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            break EndReason::Duration;
        }
        if let Some(cgroups) = &cgroups
            && refreshed.elapsed() >= Duration::from_secs(1)
        {
            refreshed = Instant::now();
            tracer.set_cgroups(&cgroups.ids());
        }
        if !more {
            let left = end.map_or(PERIOD, |end| end.saturating_duration_since(Instant::now()));
            std::thread::sleep(left.min(PERIOD));
        }
        desk.tick();
    };
    Ok(close(tracer, gather, desk, reason))
}

fn close<A: Analysis>(
    mut tracer: AllocTracer,
    mut gather: Gather,
    mut desk: Desk<A>,
    reason: EndReason,
) -> A {
    let ended_ns = clock::mono_ns();
    while tracer.drain(BATCH, |record| gather.take(record)) {}
    for place in tracer.places() {
        gather.place(place);
    }
    let counts = tracer.counts();
    let mut losses = tracer.losses(ended_ns);
    drop(tracer);
    gather.counts(counts, ended_ns);
    gather.hand_on(&mut |item| desk.keep(item), true);
    gather.names(&mut |item| desk.keep(item));
    for (name, count) in [
        ("alloc_spaces", gather.spaces_lost),
        ("alloc_table", gather.places_lost),
    ] {
        losses.lost.push(LossCount {
            name: name.to_owned(),
            count,
        });
    }
    desk.keep(&Item::Losses(losses));
    desk.keep(&Item::Clock(clock::now()));
    desk.keep(&Item::End(End {
        ts_ns: ended_ns,
        reason,
    }));
    if let Some(writer) = desk.writer.take()
        && let Err(error) = writer.finish()
    {
        diag::warn(&format!("{:#}", anyhow::Error::new(error)));
    }
    desk.analysis
}

/// Makes the report of a recording.
///
/// # Errors
/// The file is no recording, or nothing in it can be read.
pub fn replay(path: &Path, top: usize) -> anyhow::Result<Report<AllocData>> {
    let (analysis, damage) = read::<Allocations>(path, COMMAND)?;
    Ok(report(&analysis, damage, top))
}

/// Makes the report of a recording of `trace leak`.
///
/// # Errors
/// As [`replay`].
pub fn replay_leak(path: &Path, top: usize) -> anyhow::Result<Report<HeldData>> {
    let (analysis, damage) = read::<Holdings>(path, LEAK_COMMAND)?;
    Ok(held_report(&analysis, damage, top))
}

fn read<A: Analysis>(path: &Path, command: &str) -> anyhow::Result<(A, Option<report::Damage>)> {
    let mut reader = Reader::open(path).map_err(record_error)?;
    let mut analysis = A::default();
    let (mut begun, mut ended) = (false, false);
    for item in &mut reader {
        begun |= matches!(item, Item::Session(_));
        ended |= matches!(item, Item::End(_));
        if let Item::Session(session) = &item
            && session.command != command
        {
            let error = anyhow::anyhow!(
                "{}: recorded by `{}`, not by `{command}`",
                path.display(),
                session.command
            );
            return Err(diag::hint(
                error,
                "leave --as out: the report of the command that recorded",
            ));
        }
        analysis.push(&item);
    }
    let damage = damage_of(path, &reader, begun, ended)?;
    Ok((analysis, damage))
}

fn report(analysis: &Allocations, damage: Option<report::Damage>, top: usize) -> Report<AllocData> {
    let (mut data, findings, accounting) = analysis.finish();
    data.top = top;
    let parts = (findings, accounting, damage);
    framed(SCHEMA, HostInfo::from(analysis.host()), data, parts)
}

fn held_report(
    analysis: &Holdings,
    damage: Option<report::Damage>,
    top: usize,
) -> Report<HeldData> {
    let (mut data, findings, accounting) = analysis.finish();
    data.top = top;
    let parts = (findings, accounting, damage);
    framed(LEAK_SCHEMA, HostInfo::from(analysis.host()), data, parts)
}

fn framed<D>(
    schema: &str,
    host: HostInfo,
    data: D,
    (findings, mut accounting, damage): (Vec<Finding>, Accounting, Option<report::Damage>),
) -> Report<D> {
    accounting.complete &= damage.is_none();
    accounting.damage = damage;
    let now = time::now_ns();
    Report {
        schema: schema.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host,
        data,
        findings,
        accounting,
    }
}

fn session(options: &Options, tracer: &AllocTracer) -> Session {
    let (mode, mean) = match options.mode {
        Mode::Sample { mean_bytes } => ("sample", Some(mean_bytes)),
        Mode::Whole => ("whole", None),
        Mode::Exact => ("exact", None),
    };
    let mut said = std::collections::BTreeMap::new();
    said.insert(MODE.to_owned(), mode.to_owned());
    if let Some(mean) = mean {
        said.insert(MEAN.to_owned(), mean.to_string());
    }
    if let Some(age) = options.min_age {
        said.insert(MIN_AGE.to_owned(), age.as_secs().to_string());
    }
    let command = if options.min_age.is_some() {
        LEAK_COMMAND
    } else {
        COMMAND
    };
    Session {
        command: command.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ns: clock::mono_ns(),
        host: host::read(Path::new("/")),
        filter: options.filter.clone(),
        hooks: tracer.hooks(),
        btf: Some(tracer.btf()),
        notes: tracer.notes().to_vec(),
        options: said,
        ..Session::default()
    }
}

/// Where items come together.
struct Desk<A> {
    writer: Option<Writer>,
    analysis: A,
}

impl<A: Analysis> Desk<A> {
    fn keep(&mut self, item: &Item) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.push(item)
        {
            incomplete(error);
        }
        self.analysis.push(item);
    }

    fn tick(&mut self) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.tick()
        {
            incomplete(error);
        }
    }
}

fn incomplete(error: crate::record::RecordError) {
    let error = anyhow::Error::new(error);
    diag::warn(&format!(
        "{error:#}; what was written before is valid, the rest is not recorded"
    ));
}
