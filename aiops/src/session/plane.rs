//! A session on the /proc plane: samples at an interval, to the analysis and beside it to a recording.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::analysis::readings::Readings;
use crate::diag;
use crate::model::End;
use crate::model::EndReason;
use crate::model::Filter;
use crate::model::Item;
use crate::model::Nanos;
use crate::model::ProcessSample;
use crate::model::Regions;
use crate::model::Sample;
use crate::record::Reader;
use crate::record::RecordError;
use crate::record::Writer;
use crate::report;
use crate::report::Finding;
use crate::report::HostInfo;
use crate::report::Report;
use crate::source::plane::Plane;
use crate::source::plane::Wants;
use crate::time;

use super::Record;
use super::record_error;
use super::wait;
use super::wait::Signals;

/// What to read, and how often.
#[derive(Clone, Debug, Default)]
pub struct Observe {
    /// The command, for the recording: `collect memory`.
    pub command: String,
    /// Where `proc` and `sys` stand.
    pub root: PathBuf,
    /// Which processes are kept.
    pub filter: Filter,
    /// What a sample holds.
    pub wants: Wants,
    /// Slab, zones, swap devices, settings and every memory cgroup at the beginning and at the end.
    pub detail: bool,
    /// With the last of them, free blocks by migration type: the kernel counts them with interrupts off.
    pub page_types: bool,
    /// The mappings of every kept process, summed, with the last sample.
    pub regions: bool,
    /// Between samples.
    pub interval: Duration,
    /// How long; zero takes one sample.
    pub duration: Duration,
    /// Where to record.
    pub record: Option<Record>,
    /// Options that the report depends on: a replay reads them from the recording.
    pub options: BTreeMap<String, String>,
}

/// What an observation came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Items that the recording lacks because it could not be written; `None`: it is whole, or there is none.
    pub lacks: Option<u64>,
}

/// Takes every item; an error (a closed pipe) ends the session in good order.
pub type Take<'a> = &'a mut dyn FnMut(&Item) -> std::io::Result<()>;

/// Opens the plane below `root`.
///
/// # Errors
/// There is no /proc, with what to do about it.
pub fn open(root: &Path) -> anyhow::Result<Plane> {
    Plane::open(root).map_err(|error| {
        let proc = root.join("proc");
        let error = anyhow::Error::new(error).context(format!("cannot read {}", proc.display()));
        let remedy = if root == Path::new("/") {
            "mount it: mount -t proc proc /proc"
        } else {
            "--root wants a directory that holds `proc` and `sys`: a host's root as mounted in a container, or a captured tree"
        };
        diag::hint(error, remedy)
    })
}

/// Observes until the duration or a signal ends it. A signal is a normal end.
///
/// # Errors
/// There is no /proc, the recording cannot be made, or the reader of the items has gone away.
pub fn observe(options: &Observe, take: Take<'_>) -> anyhow::Result<Observed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(options, take))
}

/// The readings of an observation: for analyses that need no more than its first and last figures.
///
/// # Errors
/// As [`observe`].
pub fn readings(options: &Observe) -> anyhow::Result<Readings> {
    let mut readings = Readings::default();
    observe(options, &mut |item| {
        readings.push(item.clone());
        Ok(())
    })?;
    Ok(readings)
}

async fn run(options: &Observe, take: Take<'_>) -> anyhow::Result<Observed> {
    let mut signals = Signals::listen()?;
    let plane = open(&options.root)?;
    let writer = options
        .record
        .as_ref()
        .map(|record| Writer::create(&record.path, record.force));
    let mut nobody = |_: &Item| Ok(());
    let mut rounds = Rounds {
        options,
        plane,
        writer: writer.transpose().map_err(record_error)?,
        failed: false,
        take,
    };
    let mut session = rounds
        .plane
        .session(&options.command, options.filter.clone());
    session.options.clone_from(&options.options);
    let watched = match rounds.keep(&Item::Session(session)) {
        Ok(()) => rounds.watch(&mut signals).await,
        Err(error) => Err(error),
    };
    match watched {
        Ok(reason) => rounds.close(reason),
        Err(error) => {
            // Whoever reads the items has gone away; the recording is closed all the same.
            rounds.take = &mut nobody;
            let closed = rounds.close(EndReason::Failure);
            closed.and(Err(error))
        }
    }
}

struct Rounds<'a> {
    options: &'a Observe,
    plane: Plane,
    writer: Option<Writer>,
    /// The recording misses something; that was said.
    failed: bool,
    take: Take<'a>,
}

impl Rounds<'_> {
    async fn watch(&mut self, signals: &mut Signals) -> anyhow::Result<EndReason> {
        let begin = Instant::now();
        let mut next = begin;
        let end = begin.checked_add(self.options.duration);
        let alone = self.options.duration.is_zero() || !self.plane.live();
        loop {
            // The last sample is taken at the end of the duration, not an interval before it.
            let last = alone || end.is_some_and(|end| next >= end);
            self.round(next == begin, last)?;
            if last {
                return Ok(EndReason::Duration);
            }
            next = next
                .checked_add(self.options.interval)
                .map_or(next, |next| end.map_or(next, |end| next.min(end)));
            // A sample that took longer than the interval is not made up for.
            next = next.max(Instant::now());
            // A timer that is over at once would never let a signal through.
            tokio::task::yield_now().await;
            tokio::select! {
                biased;
                () = signals.next() => {
                    self.round(false, true)?;
                    return Ok(EndReason::Signal);
                }
                () = wait::until(Some(next)) => {}
            }
        }
    }

    /// One sample, and what belongs to the first and the last one.
    fn round(&mut self, first: bool, last: bool) -> anyhow::Result<()> {
        let clock = self.plane.clock();
        self.keep(&Item::Clock(clock))?;
        let mut wants = self.options.wants.clone();
        wants.cgroups |= self.options.detail && (first || last);
        let mut sample = self.plane.sample(&wants);
        let identities = self.plane.identities(&sample.processes);
        self.filter(&mut sample);
        let key = |process: &ProcessSample| (process.pid, process.start_ticks);
        let kept: HashSet<(u32, u64)> = sample.processes.iter().map(key).collect();
        for identity in identities {
            if kept.contains(&(identity.pid, identity.start_ticks.unwrap_or(0))) {
                self.keep(&Item::Identity(identity))?;
            }
        }
        if last && self.options.regions {
            self.regions(&mut sample)?;
        }
        self.keep(&Item::Sample(sample))?;
        if self.options.detail && (first || last) {
            let detail = self.plane.detail(self.options.page_types && last);
            self.keep(&Item::Detail(Box::new(detail)))?;
        }
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.tick()
        {
            self.incomplete(error);
        }
        Ok(())
    }

    fn filter(&self, sample: &mut Sample) {
        let filter = &self.options.filter;
        if !filter.is_empty() {
            let plane = &self.plane;
            sample.processes.retain(|process| {
                let key = (process.pid, process.start_ticks);
                filter.wants(process, plane.identity(key))
            });
            // Of those that are kept; nothing else is missed.
            if sample.skipped.denied_smaps > 0 {
                let kept = sample.processes.iter();
                let refused = kept.filter(|one| plane.refused((one.pid, one.start_ticks)));
                sample.skipped.denied_smaps = u32::try_from(refused.count()).unwrap_or(u32::MAX);
            }
        }
    }

    fn regions(&mut self, sample: &mut Sample) -> anyhow::Result<()> {
        let mut refused: u32 = 0;
        for process in &sample.processes {
            match self.plane.mappings(process.pid) {
                Ok(mappings) if mappings.process.start_ticks != process.start_ticks => {}
                Ok(mappings) if mappings.maps_only => refused += u32::from(self.plane.live()),
                Ok(mappings) => self.keep(&Item::Regions(Regions::of(&mappings)))?,
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => refused += 1,
                // It is gone: it has no regions.
                Err(_) => {}
            }
        }
        let skipped = &mut sample.skipped;
        skipped.denied_smaps = skipped.denied_smaps.max(refused);
        Ok(())
    }

    fn keep(&mut self, item: &Item) -> anyhow::Result<()> {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.push(item)
        {
            self.incomplete(error);
        }
        (self.take)(item)?;
        Ok(())
    }

    fn incomplete(&mut self, error: RecordError) {
        if !std::mem::replace(&mut self.failed, true) {
            let error = anyhow::Error::new(error);
            diag::warn(&format!(
                "{error:#}; what was written before is valid, the rest is not recorded"
            ));
        }
    }

    fn close(mut self, reason: EndReason) -> anyhow::Result<Observed> {
        let ts_ns: Nanos = self.plane.clock().mono_ns;
        self.keep(&Item::End(End { ts_ns, reason }))?;
        let mut dropped = 0;
        if let Some(mut writer) = self.writer.take() {
            if let Err(error) = writer.close() {
                self.incomplete(error);
            }
            dropped = writer.dropped();
        }
        Ok(Observed {
            lacks: (self.failed || dropped > 0).then_some(dropped),
        })
    }
}

/// Every item of a recording, in order; says what was damaged.
///
/// # Errors
/// The file is no recording, or no sample in it can be read.
pub fn read(path: &Path, take: Take<'_>) -> anyhow::Result<Option<report::Damage>> {
    let mut reader = Reader::open(path).map_err(record_error)?;
    let (mut begun, mut ended, mut sampled) = (false, false, false);
    for item in &mut reader {
        begun |= matches!(item, Item::Session(_));
        ended |= matches!(item, Item::End(_));
        sampled |= matches!(item, Item::Sample(_));
        take(&item)?;
    }
    let damage = super::damage_of(path, &reader, begun, ended)?;
    if sampled {
        return Ok(damage);
    }
    let error = anyhow::anyhow!("{}: no sample in this recording", path.display());
    let remedy = "what was recorded first was cut off, or it is no recording of samples: take one with `aiops collect memory --output FILE`";
    Err(diag::hint(error, remedy))
}

/// The first and last figures of a recording, and what was damaged: for reports that need no more.
///
/// # Errors
/// As [`read`].
pub fn replay(path: &Path) -> anyhow::Result<(Readings, Option<report::Damage>)> {
    let mut readings = Readings::default();
    let damage = read(path, &mut |item| {
        readings.push(item.clone());
        Ok(())
    })?;
    Ok((readings, damage))
}

/// The command that made a recording; `None` when its beginning is damaged.
///
/// # Errors
/// The file is no recording.
pub fn command(path: &Path) -> anyhow::Result<Option<String>> {
    let mut reader = Reader::open(path).map_err(record_error)?;
    Ok(match reader.next() {
        Some(Item::Session(session)) => Some(session.command),
        _ => None,
    })
}

/// A report on readings: host, accounting and findings as every report has them. `needs` are the files of
/// the inner state that it is made from ([`Readings::accounting`]).
#[must_use]
pub fn report<D>(
    schema: &str,
    readings: &Readings,
    needs: &[&str],
    data: D,
    findings: Vec<Finding>,
    damage: Option<report::Damage>,
) -> Report<D> {
    let mut accounting = readings.accounting(needs);
    accounting.complete &= damage.is_none();
    accounting.damage = damage;
    let host = readings.session.as_ref().map(|session| &session.host);
    let now = time::now_ns();
    Report {
        schema: schema.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: host.map(HostInfo::from).unwrap_or_default(),
        data,
        findings,
        accounting,
    }
}
