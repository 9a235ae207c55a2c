//! A live trace of one family of hooks, and its replay: every item goes to the recording and to the analysis,
//! so that both give the same report.
//!
//! One thread, no locks. The kernel's own counts are sampled right after the hooks are attached and right before
//! they are let go: what was seen in between can be compared with them.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;

use crate::analysis::traced::Traced;
use crate::diag;
use crate::model::End;
use crate::model::EndReason;
use crate::model::EventKind;
use crate::model::Filter;
use crate::model::Item;
use crate::model::LossCount;
use crate::model::RawText;
use crate::model::Regions;
use crate::model::Sample;
use crate::model::Session;
use crate::model::SwapRow;
use crate::model::SwapWays;
use crate::model::Swaps;
use crate::model::TaskRef;
use crate::record::Reader;
use crate::record::Writer;
use crate::report;
use crate::report::HostInfo;
use crate::report::Report;
use crate::source::Sink;
use crate::source::bpf;
use crate::source::bpf::FamilyOptions;
use crate::source::bpf::FamilyTracer;
use crate::source::bpf::hooks::Family;
use crate::source::cgroup::Controller;
use crate::source::clock;
use crate::source::guard;
use crate::source::host;
use crate::source::identity::IdentityTable;
use crate::source::identity::Users;
use crate::source::procfs::Scope;
use crate::source::procfs::read_mappings;
use crate::source::procfs::read_system;
use crate::source::sampler::Sampler;
use crate::source::sampler::SamplerOptions;
use crate::source::symbols::Resolver;
use crate::time;

use super::Record;
use super::desk::TICK;
use super::desk::incomplete;
use super::record_error;
use super::wait;
use super::wait::Signals;

/// What to trace, and until when.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which hooks.
    pub family: Family,
    /// The command, for the recording: `trace reclaim`.
    pub command: String,
    /// Where `proc` and `sys` stand: `/`.
    pub root: PathBuf,
    /// Which tasks; decided in the kernel.
    pub filter: Filter,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Between lines that say how it goes.
    pub interval: Option<Duration>,
    /// Where to record.
    pub record: Option<Record>,
    /// Most memory of rings and tables, bytes.
    pub max_memory: u64,
    /// Options that the report depends on.
    pub options: BTreeMap<String, String>,
}

/// An analysis that takes every item.
pub trait Analysis {
    /// Takes the next item.
    fn push(&mut self, item: &Item);

    /// How it goes, in one line.
    fn now(&self) -> String;
}

/// How long names of addresses and processes may take at the end.
const LAST_WAIT: Duration = Duration::from_millis(2500);
/// Between two looks into the kernel's tables.
const DRAIN: Duration = Duration::from_secs(1);
/// Processes, cgroups and addresses that are asked for once; then all of them are forgotten.
const MOST_ASKED: usize = 16_384;

/// Processes whose regions are read: the first ones that swap.
const MOST_LOOKED: usize = 32;

/// Traces until a signal or the duration ends it.
///
/// # Errors
/// The tracer cannot run here, a filter names nothing, or the recording cannot be made; each with its remedy.
pub fn trace(options: &Options, analysis: &mut dyn Analysis) -> anyhow::Result<()> {
    if options.root != Path::new("/") {
        let (command, root) = (&options.command, options.root.display());
        let error = anyhow::anyhow!("{command}: --root {root} is no running kernel");
        return Err(diag::hint(
            error,
            "trace on the host itself, and use `aiops replay` for recordings",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(options, analysis))
}

/// Hands every item of a recording of `command` over; what was lost of it.
///
/// # Errors
/// The file is no recording, or one of another command.
pub fn replay(
    path: &Path,
    command: &str,
    analysis: &mut dyn Analysis,
) -> anyhow::Result<Option<report::Damage>> {
    let mut reader = Reader::open(path).map_err(record_error)?;
    let (mut begun, mut ended) = (false, false);
    for item in &mut reader {
        begun |= matches!(item, Item::Session(_));
        ended |= matches!(item, Item::End(_));
        if let Item::Session(session) = &item
            && !session.command.is_empty()
            && session.command != command
        {
            let (path, by) = (path.display(), &session.command);
            let error = anyhow::anyhow!("{path}: recorded by `{by}`, not by `{command}`");
            return Err(diag::hint(error, "leave --as out"));
        }
        analysis.push(&item);
    }
    super::damage_of(path, &reader, begun, ended)
}

/// Everything that runs.
struct Sources {
    root: PathBuf,
    controller: Option<Arc<Controller>>,
    tracer: FamilyTracer,
    identities: IdentityTable,
    resolver: Resolver,
    sampler: Sampler,
}

async fn run(options: &Options, analysis: &mut dyn Analysis) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let (sink, mut items) = unbounded_channel();
    let (sources, session) = start(options, &sink)?;
    // Only now: a tracer that cannot start leaves no empty recording and replaces no good one.
    let writer = options
        .record
        .as_ref()
        .map(|record| Writer::create(&record.path, record.force));
    let writer = writer.transpose().map_err(record_error)?;
    drop(sink);
    let mut desk = Desk {
        writer,
        family: options.family,
        analysis,
        asked: HashSet::new(),
        swaps: BTreeMap::new(),
        looked: Vec::new(),
    };
    let hooks = session.hooks.iter().filter(|hook| hook.attached).count();
    let all = session.hooks.len();
    desk.keep(&Item::Session(session));
    desk.keep(&Item::Clock(clock::now()));
    desk.keep(&Item::Sample(sample(
        &sources.root,
        sources.controller.as_deref(),
    )));
    let what = options.family.name();
    diag::note(&format!(
        "tracing {what} with {hooks} of {all} hooks; Ctrl-C ends it with the report"
    ));
    let reason = desk
        .watch(options, &sources, &mut items, &mut signals)
        .await;
    desk.settle(&sources, &mut items, &mut signals).await;
    desk.close(sources, &mut items, reason);
    Ok(())
}

fn start(options: &Options, sink: &Sink) -> anyhow::Result<(Sources, Session)> {
    let root = options.root.clone();
    let mut notes = guard::protect();
    let controller = Controller::detect(&root).map(Arc::new);
    let wanted = FamilyOptions {
        family: options.family,
        tracer: bpf::Options {
            verbose: false,
            btf: true,
        },
        pids: options.filter.pids.clone(),
        comms: (options.filter.comms.iter())
            .map(|name| RawText::from(name.as_str()))
            .collect(),
        users: users(&root, &options.filter.users)?,
        cgroups: cgroups(controller.as_deref(), &options.filter.cgroups)?,
        max_memory: options.max_memory,
    };
    let tracer = FamilyTracer::start(&wanted, sink.clone()).map_err(|error| {
        let remedy = error.remedy();
        let what = format!("cannot trace {}", options.family.name());
        diag::hint(anyhow::Error::new(error).context(what), remedy)
    })?;
    if controller.is_none() {
        notes.push("no memory cgroup controller: limits and cgroups are unknown".to_owned());
    }
    notes.extend_from_slice(tracer.notes());
    // No hooks of process lives here: who is seen is read at once, who is not is not asked for.
    let (_, lives) = std::sync::mpsc::channel();
    let identities = IdentityTable::spawn(root.clone(), lives, sink.clone());
    let resolver = Resolver::spawn(sink.clone());
    let sampler = SamplerOptions {
        top: 0,
        full: Duration::from_secs(60),
        ..SamplerOptions::new(root.clone())
    };
    let sampler = Sampler::spawn(sampler, sink.clone(), controller.clone());
    notes.extend(guard::settle());
    let users = wanted.users.iter().map(ToString::to_string);
    let session = Session {
        command: options.command.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ns: clock::mono_ns(),
        host: host::read(&root),
        // By number: a replay on another host knows other names.
        filter: Filter {
            users: users.collect(),
            ..options.filter.clone()
        },
        hooks: tracer.hooks(),
        btf: Some(tracer.btf()),
        notes,
        options: options.options.clone(),
        ..Session::default()
    };
    let sources = Sources {
        root,
        controller,
        tracer,
        identities,
        resolver,
        sampler,
    };
    Ok((sources, session))
}

/// The report of a trace, live or replayed.
#[must_use]
pub fn report<D>(schema: &str, traced: Traced<D>, damage: Option<report::Damage>) -> Report<D> {
    let mut accounting = traced.accounting;
    accounting.complete &= damage.is_none();
    accounting.damage = damage;
    let now = time::now_ns();
    Report {
        schema: schema.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: HostInfo::from(&traced.session.host),
        data: traced.data,
        findings: traced.findings,
        accounting,
    }
}

/// Ids of users by name or number.
fn users(root: &Path, names: &[String]) -> anyhow::Result<Vec<u32>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let known = Users::read(root);
    let id = |name: &String| {
        let found = name.parse().ok().or_else(|| known.id(name));
        found.ok_or_else(|| {
            let error = anyhow::anyhow!("--user {name}: no such user");
            diag::hint(error, "name a user of /etc/passwd, or give the number")
        })
    };
    names.iter().map(id).collect()
}

/// Inodes of memory cgroups by path.
fn cgroups(controller: Option<&Controller>, paths: &[String]) -> anyhow::Result<Vec<u64>> {
    let id = |path: &String| {
        let folder = RawText::from(path.as_str());
        let sample = controller.and_then(|controller| controller.sample(&folder));
        sample.map(|sample| sample.id).ok_or_else(|| {
            let error = anyhow::anyhow!("--cgroup {path}: no such memory cgroup");
            diag::hint(
                error,
                "write it as in /proc/PID/cgroup, in the memory controller's hierarchy",
            )
        })
    };
    paths.iter().map(id).collect()
}

/// The host's counts and those of limited cgroups now.
fn sample(root: &Path, controller: Option<&Controller>) -> Sample {
    let cgroups = controller.map(|controller| {
        let paths = controller.limited();
        let samples = paths.iter().filter_map(|path| controller.sample(path));
        samples.collect()
    });
    let system = read_system(root, Scope::Memory);
    Sample {
        ts_ns: clock::mono_ns(),
        system: Some(system),
        cgroups: cgroups.unwrap_or_default(),
        ..Sample::default()
    }
}

/// Where items come together.
struct Desk<'a> {
    writer: Option<Writer>,
    family: Family,
    analysis: &'a mut dyn Analysis,
    asked: HashSet<(u8, u64)>,
    swaps: BTreeMap<u32, SwapWays>,
    /// Processes whose regions were read.
    looked: Vec<u32>,
}

impl Desk<'_> {
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
        let mut drained = Instant::now();
        let mut told = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = signals.next() => return EndReason::Signal,
                item = items.recv() => match item {
                    Some(item) => self.take(&item, sources),
                    None => return EndReason::Failure,
                },
                _ = ticks.tick() => self.tick(),
                () = wait::until(end) => return EndReason::Duration,
            }
            // A flood of items must not keep the clock from being looked at.
            if end.is_some_and(|end| Instant::now() >= end) {
                return EndReason::Duration;
            }
            if drained.elapsed() >= DRAIN {
                drained = Instant::now();
                self.drain(sources);
            }
            if options
                .interval
                .is_some_and(|every| told.elapsed() >= every)
            {
                told = Instant::now();
                diag::note(&self.analysis.now());
            }
        }
    }

    /// Waits, bounded, for names. A second signal ends the waiting.
    async fn settle(
        &mut self,
        sources: &Sources,
        items: &mut UnboundedReceiver<Item>,
        signals: &mut Signals,
    ) {
        let last = Instant::now() + LAST_WAIT;
        let mut ticks = tokio::time::interval(TICK);
        while sources.resolver.pending() > 0 && Instant::now() < last {
            tokio::select! {
                biased;
                () = signals.next() => return,
                Some(item) = items.recv() => self.take(&item, sources),
                _ = ticks.tick() => self.tick(),
                () = wait::until(Some(last)) => return,
            }
        }
    }

    /// Ends the session: the ring first, then the kernel's counts while the hooks still see everything.
    fn close(mut self, sources: Sources, items: &mut UnboundedReceiver<Item>, reason: EndReason) {
        sources.sampler.stop();
        while let Ok(item) = items.try_recv() {
            self.keep(&item);
        }
        let last = sample(&sources.root, sources.controller.as_deref());
        if self.family == Family::Swap {
            self.swaps(sources.tracer.swaps(last.ts_ns));
            for pid in std::mem::take(&mut self.looked) {
                self.look(pid, &sources.root);
            }
        }
        let open = sources.tracer.open();
        let mut losses = sources.tracer.stop();
        sources.identities.stop();
        sources.resolver.stop();
        while let Ok(item) = items.try_recv() {
            self.keep(&item);
        }
        self.keep(&Item::Sample(last));
        if self.family == Family::Reclaim {
            losses.seen.push(LossCount {
                name: "unfinished".to_owned(),
                count: open,
            });
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
    }

    fn tick(&mut self) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.tick()
        {
            incomplete(error);
        }
    }

    /// Reads the tables that the kernel counts in, and keeps what changed.
    fn drain(&mut self, sources: &Sources) {
        if self.family != Family::Swap {
            return;
        }
        let swaps = sources.tracer.swaps(clock::mono_ns());
        for row in &swaps.rows {
            if self.swaps.get(&row.task.pid) != Some(&row.ways) {
                self.ask(&row.task, sources);
            }
        }
        let fresh = swaps.rows.iter().map(|row| row.task.pid);
        let fresh = fresh.filter(|pid| !self.looked.contains(pid));
        let left = MOST_LOOKED.saturating_sub(self.looked.len());
        for pid in fresh.take(left).collect::<Vec<u32>>() {
            self.looked.push(pid);
            self.look(pid, &sources.root);
        }
        self.swaps(swaps);
    }

    /// What a process has in swap, by region: once when it is first seen, and at the end.
    fn look(&mut self, pid: u32, root: &Path) {
        // One that is gone has no regions, and one that may not be read is not told.
        if let Ok(mappings) = read_mappings(root, pid)
            && !mappings.maps_only
        {
            self.keep(&Item::Regions(Regions::of(&mappings)));
        }
    }

    fn swaps(&mut self, swaps: Swaps) {
        let known = &mut self.swaps;
        let rows: Vec<SwapRow> = (swaps.rows.into_iter())
            .filter(|row| known.insert(row.task.pid, row.ways) != Some(row.ways))
            .collect();
        if !rows.is_empty() {
            self.keep(&Item::Swaps(Swaps { rows, ..swaps }));
        }
    }

    /// Lets an item wake the sources that it concerns, and keeps it.
    fn take(&mut self, item: &Item, sources: &Sources) {
        if let Item::Event(event) = item
            && let EventKind::Stall(stall) = &event.kind
        {
            self.ask(&stall.task, sources);
            let unknown = |ip: &u64| self.asked.insert((2, *ip));
            let ips: Vec<u64> = stall.stack.iter().copied().filter(unknown).collect();
            sources.resolver.kernel(ips);
        }
        self.keep(item);
    }

    /// Asks once who a task is, and which cgroup it is in.
    fn ask(&mut self, task: &TaskRef, sources: &Sources) {
        if self.asked.len() > MOST_ASKED {
            self.asked.clear();
        }
        if self.asked.insert((0, u64::from(task.pid))) {
            sources.identities.request(task.pid, task.start_ns);
        }
        if let Some(id) = task.memcg_id
            && self.asked.insert((1, id))
        {
            sources.sampler.cgroup(id);
        }
    }

    /// Writes an item and analyses it.
    fn keep(&mut self, item: &Item) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.push(item)
        {
            incomplete(error);
        }
        self.analysis.push(item);
    }
}
