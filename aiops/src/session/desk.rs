//! The desk: every item passes here once, to the recording, to the sources that it wakes, to the analysis.
//!
//! One thread, no locks, and nothing of /proc is read here. While an incident is open a clock pair is
//! taken every tick: incidents close by the time of items, so the recording closes them at the same one.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

use crate::analysis::oom::Assembler;
use crate::analysis::oom::Outcome;
use crate::diag;
use crate::model::CountersAt;
use crate::model::End;
use crate::model::EndReason;
use crate::model::Event;
use crate::model::EventKind;
use crate::model::Item;
use crate::model::Nanos;
use crate::record::RecordError;
use crate::record::Writer;
use crate::report::oom::Incident;
use crate::source::clock;
use crate::source::sampler::SamplerOptions;

use super::Options;
use super::Show;
use super::record_error;
use super::sources::Sources;
use super::stacks::Stacks;
use super::wait;
use super::wait::Signals;

/// How often the recording and open incidents are looked after; blocks are written within 250 ms.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How long open incidents and names may take when the session ends. The assembler gives up after 2 s.
const LAST_WAIT: Duration = Duration::from_millis(2500);

/// Runs a live session.
pub(super) fn observe(options: &Options, show: Show<'_>) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(options, show))
}

async fn run(options: &Options, show: Show<'_>) -> anyhow::Result<Outcome> {
    let mut signals = Signals::listen()?;
    let (sink, mut items) = unbounded_channel();
    let (sources, session) =
        Sources::start(options, SamplerOptions::new(options.root.clone()), &sink)?;
    // Only now: a tracer that cannot start leaves no empty recording and replaces no good one.
    let writer = options
        .record
        .as_ref()
        .map(|record| Writer::create(&record.path, record.force));
    let writer = writer.transpose().map_err(record_error)?;
    drop(sink);
    let mut desk = Desk::new(writer, Box::new(show));
    let hooks = session.hooks.iter().filter(|hook| hook.attached).count();
    let all = session.hooks.len();
    desk.take(&Item::Session(session), &sources);
    desk.take(&Item::Clock(clock::now()), &sources);
    desk.take(
        &Item::Counters(sources.counters(CountersAt::Start)),
        &sources,
    );
    diag::note(&format!(
        "tracing OOM kills with {hooks} of {all} hooks; Ctrl-C ends it with the report"
    ));
    let reason = desk
        .watch(options, &sources, &mut items, &mut signals)
        .await;
    desk.settle(&sources, &mut items, &mut signals).await;
    Ok(desk.close(sources, &mut items, reason))
}

/// What an incident is handed to.
pub(super) type Hand<'a> = Box<dyn FnMut(&Incident) -> std::io::Result<()> + 'a>;

/// Where items come together.
pub(super) struct Desk<'a> {
    writer: Option<Writer>,
    assembler: Assembler,
    stacks: Stacks,
    refreshes: Refreshes,
    show: Hand<'a>,
    /// The reader of stdout has gone away.
    gone: bool,
}

impl<'a> Desk<'a> {
    /// An empty one.
    pub(super) fn new(writer: Option<Writer>, show: Hand<'a>) -> Self {
        Self {
            writer,
            assembler: Assembler::new(),
            stacks: Stacks::default(),
            refreshes: Refreshes::default(),
            show,
            gone: false,
        }
    }

    /// Whether an incident waits for something: then the clock matters.
    pub(super) fn waits(&self) -> bool {
        self.assembler.open() > 0
    }

    /// Drops what only a report at the end would need: for a session without an end.
    pub(super) fn forget(&mut self) {
        self.assembler.forget();
        if !self.waits() {
            self.stacks.forget();
        }
    }

    /// Takes items until something ends the session.
    async fn watch(
        &mut self,
        options: &Options,
        sources: &Sources,
        items: &mut UnboundedReceiver<Item>,
        signals: &mut Signals,
    ) -> EndReason {
        let end = wait::after(options.duration);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = signals.next() => return EndReason::Signal,
                item = items.recv() => match item {
                    Some(item) => self.take(&item, sources),
                    None => return EndReason::Failure,
                },
                _ = ticks.tick() => self.tick(sources),
                () = wait::until(end) => return EndReason::Duration,
            }
            if options
                .count
                .is_some_and(|count| self.assembler.closed() >= count)
            {
                return EndReason::Count;
            }
            if self.gone {
                return EndReason::Failure;
            }
            // A flood of items must not keep the clock from being looked at.
            if end.is_some_and(|end| Instant::now() >= end) {
                return EndReason::Duration;
            }
        }
    }

    /// Waits, bounded, for what belongs to open incidents. A second signal ends the waiting.
    pub(super) async fn settle(
        &mut self,
        sources: &Sources,
        items: &mut UnboundedReceiver<Item>,
        signals: &mut Signals,
    ) {
        let last = Instant::now() + LAST_WAIT;
        let end = Some(last);
        let mut ticks = tokio::time::interval(TICK);
        while (self.assembler.open() > 0 || sources.resolver.pending() > 0) && Instant::now() < last
        {
            tokio::select! {
                biased;
                () = signals.next() => return,
                Some(item) = items.recv() => self.take(&item, sources),
                _ = ticks.tick() => self.tick(sources),
                () = wait::until(end) => return,
            }
        }
    }

    /// Ends the session: counts first, while the hooks still see every kill, then what is in flight.
    pub(super) fn close(
        mut self,
        sources: Sources,
        items: &mut UnboundedReceiver<Item>,
        reason: EndReason,
    ) -> Outcome {
        let counters = sources.counters(CountersAt::End);
        self.take(&Item::Counters(counters), &sources);
        self.stacks.give_up(&sources.resolver);
        let losses = sources.stop();
        while let Ok(item) = items.try_recv() {
            self.keep(&item);
        }
        self.keep(&Item::Losses(losses));
        self.keep(&Item::Clock(clock::now()));
        self.keep(&Item::End(End {
            ts_ns: clock::mono_ns(),
            reason,
        }));
        if let Some(writer) = self.writer.take()
            && let Err(error) = writer.finish()
        {
            incomplete(error);
        }
        self.assembler.finish()
    }

    pub(super) fn tick(&mut self, sources: &Sources) {
        if self.assembler.open() > 0 {
            self.take(&Item::Clock(clock::now()), sources);
        }
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.tick()
        {
            incomplete(error);
        }
    }

    /// Lets an item wake the sources that it concerns, and keeps it.
    pub(super) fn take(&mut self, item: &Item, sources: &Sources) {
        match item {
            Item::Event(event) => self.event(event, sources),
            Item::Identity(identity) => self.stacks.identity(identity, &sources.resolver),
            _ => {}
        }
        self.keep(item);
    }

    fn event(&mut self, event: &Event, sources: &Sources) {
        match &event.kind {
            EventKind::Mark(mark) => {
                for task in [&mark.victim, &mark.trigger] {
                    sources.identities.request(task.pid, process_start(task));
                    if let Some(id) = task.memcg_id {
                        sources.sampler.cgroup(id);
                    }
                }
                sources.sampler.hurry();
            }
            // The early trigger: who reclaims may soon be dead, so it is looked at now.
            EventKind::Reclaim(reclaim) => {
                if self.refreshes.allows(reclaim.task.pid, event.ts_ns) {
                    let start = process_start(&reclaim.task);
                    sources.identities.refresh(reclaim.task.pid, start);
                }
                sources.sampler.hurry();
            }
            EventKind::Delivery(_) | EventKind::Step(_) | EventKind::Stall(_) => {}
        }
        self.stacks.event(event, &sources.resolver);
    }

    /// Writes an item and analyses it.
    fn keep(&mut self, item: &Item) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.push(item)
        {
            incomplete(error);
        }
        for incident in self.assembler.push(item) {
            if !self.gone {
                self.gone = (self.show)(&incident).is_err();
            }
        }
    }
}

/// Says that the recording misses something; tracing goes on.
pub(super) fn incomplete(error: RecordError) {
    let error = anyhow::Error::new(error);
    diag::warn(&format!(
        "{error:#}; what was written before is valid, the rest is not recorded"
    ));
}

/// Which processes were looked at lately: a cgroup full of page cache reclaims all day, and must not make
/// the tracer read /proc all day.
#[derive(Default)]
struct Refreshes {
    second: Nanos,
    pids: HashSet<u32>,
}

impl Refreshes {
    /// Most processes that are looked at in one second.
    const MOST: usize = 50;

    fn allows(&mut self, pid: u32, now: Nanos) -> bool {
        let second = now / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.pids.clear();
        }
        self.pids.len() < Self::MOST && self.pids.insert(pid)
    }
}

/// The start of the process, where the thread that is known is its first one.
fn process_start(task: &crate::model::TaskRef) -> Option<u64> {
    task.start_ns.filter(|_| task.pid == task.tid)
}
