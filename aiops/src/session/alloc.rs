//! A live observation of allocations, and its replay.
//!
//! Samples are read on a timer, their stacks unwound at once while the process is there, added up by
//! place, and handed on as items: to the recording and to the analysis. Names of functions come last, from
//! a child process.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::unbounded_channel;

use super::Record;
use super::damage_of;
use super::record_error;
use crate::analysis::alloc::Allocations;
use crate::analysis::alloc::MEAN;
use crate::analysis::alloc::MODE;
use crate::diag;
use crate::model::AllocCount;
use crate::model::AllocStack;
use crate::model::Allocs;
use crate::model::End;
use crate::model::EndReason;
use crate::model::Filter;
use crate::model::Identity;
use crate::model::Item;
use crate::model::LossCount;
use crate::model::Mapping;
use crate::model::Nanos;
use crate::model::RawText;
use crate::model::Session;
use crate::model::StackEnd;
use crate::record::Reader;
use crate::record::Writer;
use crate::report;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::alloc::AllocData;
use crate::source::Sink;
use crate::source::bpf::alloc as bpf;
use crate::source::bpf::alloc::AllocTracer;
use crate::source::bpf::alloc::Mode;
use crate::source::buildid;
use crate::source::cgroup::Controller;
use crate::source::clock;
use crate::source::container;
use crate::source::host;
use crate::source::identity;
use crate::source::identity::Users;
use crate::source::mapped;
use crate::source::procdir::ProcDir;
use crate::source::symbols::Resolver;
use crate::source::unwind::Copied;
use crate::source::unwind::End as Unwound;
use crate::source::unwind::Space;
use crate::source::unwind::Unwinder;
use crate::time;

/// Schema of the report.
const SCHEMA: &str = "aiops.trace-alloc/1";
/// The command, as recordings name it.
pub const COMMAND: &str = "trace alloc";
/// How often the ring is looked at.
const PERIOD: Duration = Duration::from_millis(50);
/// Places of so much time are one item of the recording.
const WINDOW: Duration = Duration::from_secs(10);
/// Samples read before anything else is looked at.
const BATCH: usize = 4096;
/// How soon the mappings of a process may be read again.
const AGAIN: Duration = Duration::from_millis(500);
/// Address spaces looked at.
const MAX_SPACES: usize = 8192;
/// Places of one window.
const MAX_PLACES: usize = 131_072;
/// How long names may take in the end.
const NAMES: Duration = Duration::from_secs(30);

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
    /// Rows of the text.
    pub top: usize,
}

/// Watches until a signal or the duration ends it.
///
/// # Errors
/// The tracer cannot run here, or the recording cannot be made; each with its remedy.
pub fn trace(options: &Options) -> anyhow::Result<Report<AllocData>> {
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
        analysis: Allocations::default(),
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
    let mut gather = Gather::new(options.full, started_ns);
    let end = options.duration.map(|duration| Instant::now() + duration);
    let mut refreshed = Instant::now();
    let reason = loop {
        let more = tracer.drain(BATCH, |sample| gather.sample(&sample));
        gather.hand_on(&mut desk, false);
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
    Ok(close(tracer, gather, desk, reason, options.top))
}

fn close(
    mut tracer: AllocTracer,
    mut gather: Gather,
    mut desk: Desk,
    reason: EndReason,
    top: usize,
) -> Report<AllocData> {
    let ended_ns = clock::mono_ns();
    while tracer.drain(BATCH, |sample| gather.sample(&sample)) {}
    for place in tracer.places() {
        gather.place(place);
    }
    let counts = tracer.counts();
    let mut losses = tracer.losses(ended_ns);
    drop(tracer);
    gather.counts(counts, ended_ns);
    gather.hand_on(&mut desk, true);
    gather.names(&mut desk);
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
    report(&desk.analysis, None, top)
}

/// Makes the report of a recording.
///
/// # Errors
/// The file is no recording, or nothing in it can be read.
pub fn replay(path: &Path, top: usize) -> anyhow::Result<Report<AllocData>> {
    let mut reader = Reader::open(path).map_err(record_error)?;
    let mut analysis = Allocations::default();
    let (mut begun, mut ended) = (false, false);
    for item in &mut reader {
        begun |= matches!(item, Item::Session(_));
        ended |= matches!(item, Item::End(_));
        if let Item::Session(session) = &item
            && session.command != COMMAND
        {
            let error = anyhow::anyhow!(
                "{}: recorded by `{}`, which saw no allocations",
                path.display(),
                session.command
            );
            return Err(diag::hint(
                error,
                "leave --as out; `aiops trace alloc --record FILE` records allocations",
            ));
        }
        analysis.push(&item);
    }
    let damage = damage_of(path, &reader, begun, ended)?;
    Ok(report(&analysis, damage, top))
}

fn report(analysis: &Allocations, damage: Option<report::Damage>, top: usize) -> Report<AllocData> {
    let (mut data, findings, mut accounting) = analysis.finish();
    data.top = top;
    accounting.complete &= damage.is_none();
    accounting.damage = damage;
    let now = time::now_ns();
    Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: HostInfo::from(analysis.host()),
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
    Session {
        command: COMMAND.to_owned(),
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

/// Numbers of the users that are wanted.
fn uids(filter: &Filter, root: &Path) -> anyhow::Result<Vec<u32>> {
    let users = Users::read(root);
    let number = |name: &String| {
        let id = name.parse().ok().or_else(|| users.id(name));
        id.ok_or_else(|| {
            diag::hint(
                anyhow::anyhow!("no user {name}"),
                "give the number of the user",
            )
        })
    };
    filter.users.iter().map(number).collect()
}

/// Cgroups that are wanted, and how to find those below them.
struct Cgroups {
    controller: Controller,
    paths: Vec<String>,
    containers: Vec<String>,
}

impl Cgroups {
    fn of(filter: &Filter, root: &Path) -> anyhow::Result<Option<Self>> {
        if filter.cgroups.is_empty() && filter.containers.is_empty() {
            return Ok(None);
        }
        let Some(controller) = Controller::detect(root) else {
            return Err(diag::hint(
                anyhow::anyhow!("no memory cgroup controller here"),
                "filter by --pid or --comm",
            ));
        };
        let found = Self {
            controller,
            paths: filter.cgroups.clone(),
            containers: filter.containers.clone(),
        };
        if found.ids().is_empty() {
            return Err(diag::hint(
                anyhow::anyhow!(
                    "no such cgroup or container: {}",
                    [&found.paths[..], &found.containers[..]]
                        .concat()
                        .join(", ")
                ),
                "`cat /proc/PID/cgroup` shows the path of a process, in the memory controller's line",
            ));
        }
        Ok(Some(found))
    }

    /// Inodes of the wanted cgroups and of all below them.
    fn ids(&self) -> Vec<u64> {
        use std::os::unix::fs::MetadataExt as _;
        self.controller.refresh();
        let all = self.controller.all();
        let below = |path: &str, wanted: &str| {
            wanted == "/" || path == wanted || path.starts_with(&format!("{wanted}/"))
        };
        let wanted = |path: &&RawText| {
            let text = path.lossy();
            let by_path = self.paths.iter().any(|one| below(&text, one));
            let container = container::from_cgroup(path.as_bytes());
            by_path
                || container.is_some_and(|it| {
                    self.containers
                        .iter()
                        .any(|one| it.id.starts_with(one.as_str()))
                })
        };
        let folders = all.iter().filter(wanted);
        folders
            .filter_map(|path| self.controller.folder(path))
            .filter_map(|folder| std::fs::metadata(folder).ok())
            .map(|meta| meta.ino())
            .collect()
    }
}

/// Where items come together.
struct Desk {
    writer: Option<Writer>,
    analysis: Allocations,
}

impl Desk {
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

/// An address space that has allocated.
struct Known {
    start_ticks: Option<u64>,
    mappings: Vec<Mapping>,
    read: Instant,
    /// Addresses that need names.
    ips: HashSet<u64>,
    samples: u64,
}

/// Samples on their way to items.
struct Gather {
    unwinder: Unwinder,
    spaces: HashMap<Space, Known>,
    users: Users,
    build_ids: buildid::Cache,
    identities: Vec<Identity>,
    places: HashMap<AllocStack, u64>,
    kernel: HashSet<u64>,
    singles: Vec<Item>,
    full: bool,
    from_ns: Nanos,
    since: Instant,
    spaces_lost: u64,
    places_lost: u64,
}

impl Gather {
    fn new(full: bool, from_ns: Nanos) -> Self {
        Self {
            unwinder: Unwinder::default(),
            spaces: HashMap::new(),
            users: Users::read(Path::new("/")),
            build_ids: buildid::Cache::default(),
            identities: Vec::new(),
            places: HashMap::new(),
            kernel: HashSet::new(),
            singles: Vec::new(),
            full,
            from_ns,
            since: Instant::now(),
            spaces_lost: 0,
            places_lost: 0,
        }
    }

    fn sample(&mut self, sample: &bpf::Sample<'_>) {
        let start_ticks = sample.start_ns.map(identity::start_ticks);
        let (user, end) = if sample.generation == 0 {
            (Vec::new(), StackEnd::None)
        } else {
            self.user(sample, start_ticks)
        };
        let stack = AllocStack {
            pid: sample.pid,
            start_ticks,
            comm: sample.comm.clone(),
            kind: sample.kind,
            bytes: sample.bytes,
            kernel: sample.kernel.clone(),
            user,
            end,
        };
        self.kernel.extend(&stack.kernel);
        if self.full {
            self.singles.push(Item::Allocs(Box::new(Allocs {
                ts_ns: sample.ts_ns,
                stacks: vec![(stack, 1)],
                ..Allocs::default()
            })));
        } else {
            self.add(stack, 1);
        }
    }

    fn add(&mut self, stack: AllocStack, n: u64) {
        if self.places.len() >= MAX_PLACES && !self.places.contains_key(&stack) {
            self.places_lost += n;
            return;
        }
        *self.places.entry(stack).or_insert(0) += n;
    }

    /// The frames of a sample's user stack.
    fn user(&mut self, sample: &bpf::Sample<'_>, start_ticks: Option<u64>) -> (Vec<u64>, StackEnd) {
        let space = Space {
            pid: sample.pid,
            generation: sample.generation,
        };
        if !self.know(space, start_ticks, sample.registers.ip) {
            return (Vec::new(), StackEnd::Gone);
        }
        let stack = self.unwinder.unwind(
            space,
            &Copied {
                registers: sample.registers,
                bytes: sample.copy,
                chain: &sample.chain,
            },
        );
        let known = self.spaces.get_mut(&space);
        let gone = known.as_ref().is_none_or(|known| known.mappings.is_empty());
        if let Some(known) = known {
            known.ips.extend(&stack.ips);
            known.samples += 1;
        }
        let end = match stack.end {
            _ if gone => StackEnd::Gone,
            Unwound::Root => StackEnd::Root,
            Unwound::Copy => StackEnd::Copy,
            Unwound::Depth => StackEnd::Depth,
            Unwound::Lost => StackEnd::Lost,
        };
        (stack.ips, end)
    }

    /// Reads a process when it is new, or when it runs code that was not there before.
    fn know(&mut self, space: Space, start_ticks: Option<u64>, ip: u64) -> bool {
        let known = self.spaces.get(&space);
        let fresh = known.is_some_and(|known| {
            let again = known.read.elapsed() >= AGAIN;
            (self.unwinder.knows(space) && self.unwinder.covers(space, ip)) || !again
        });
        if fresh {
            return true;
        }
        if known.is_none() && self.spaces.len() >= MAX_SPACES {
            self.spaces_lost += 1;
            return false;
        }
        let facts =
            identity::identify_mapped(Path::new("/"), space.pid, &self.users, &mut self.build_ids);
        // Another process with the same number tells nothing.
        let facts = facts
            .ok()
            .filter(|it| start_ticks.is_none() || it.start_ticks == start_ticks);
        let old = self.spaces.remove(&space);
        let is_new = old.is_none();
        let mut known = old.unwrap_or_else(|| Known {
            start_ticks,
            mappings: Vec::new(),
            read: Instant::now(),
            ips: HashSet::new(),
            samples: 0,
        });
        known.read = Instant::now();
        if let Some(facts) = facts {
            if !facts.mappings.is_empty() {
                known.mappings.clone_from(&facts.mappings);
            }
            if is_new {
                self.identities.push(facts);
            }
        }
        let dir = ProcDir::open(Path::new("/"), space.pid).ok();
        let dir = dir.filter(|dir| {
            start_ticks.is_none() || dir.stat().ok().map(|stat| stat.start_ticks) == start_ticks
        });
        self.unwinder.learn(space, &known.mappings, &|mapping| {
            mapped::open(dir.as_ref(), mapping)
        });
        self.spaces.insert(space, known);
        true
    }

    /// A place that was counted in the kernel.
    fn place(&mut self, place: bpf::Place) {
        let space = Space {
            pid: place.pid,
            generation: 0,
        };
        // The stacks were walked in the kernel: addresses behind calls, but for the first.
        let inside = |(at, ip): (usize, &u64)| if at == 0 { *ip } else { ip.saturating_sub(1) };
        let user: Vec<u64> = place.user.iter().enumerate().map(inside).collect();
        let mut start_ticks = None;
        let mut comm = RawText::from("");
        if place.pid != 0 && self.know(space, None, user.first().copied().unwrap_or(0)) {
            let identity = self
                .identities
                .iter()
                .rev()
                .find(|one| one.pid == place.pid);
            if let Some(identity) = identity {
                start_ticks = identity.start_ticks;
                comm = identity.comm.clone();
            }
            if let Some(known) = self.spaces.get_mut(&space) {
                known.start_ticks = start_ticks;
                known.ips.extend(&user);
                known.samples += place.allocations;
            }
        }
        self.kernel.extend(&place.kernel);
        let end = if user.is_empty() {
            StackEnd::None
        } else {
            StackEnd::FramePointers
        };
        let stack = AllocStack {
            pid: place.pid,
            start_ticks,
            comm,
            kind: crate::model::AllocKind::Pages,
            bytes: place.bytes,
            kernel: place.kernel,
            user,
            end,
        };
        self.add(stack, place.allocations);
    }

    /// Exact counts of processes.
    fn counts(&mut self, counts: Vec<bpf::Count>, ts_ns: Nanos) {
        if counts.is_empty() {
            return;
        }
        for count in &counts {
            let users = &self.users;
            if let Ok(identity) = identity::identify(Path::new("/"), count.pid, users)
                && count.start_ns.map(identity::start_ticks) == identity.start_ticks
            {
                self.identities.push(identity);
            }
        }
        let row = |count: bpf::Count| AllocCount {
            pid: count.pid,
            start_ticks: count.start_ns.map(identity::start_ticks),
            comm: count.comm,
            allocations: count.allocations,
            bytes: count.bytes,
        };
        self.singles.push(Item::Allocs(Box::new(Allocs {
            ts_ns,
            span_ns: ts_ns.saturating_sub(self.from_ns),
            stacks: Vec::new(),
            counts: counts.into_iter().map(row).collect(),
        })));
    }

    /// Hands on what is complete: samples at once, sums when their window is over, or all at the end.
    fn hand_on(&mut self, desk: &mut Desk, last: bool) {
        for identity in self.identities.drain(..) {
            desk.keep(&Item::Identity(identity));
        }
        for item in self.singles.drain(..) {
            desk.keep(&item);
        }
        if self.places.is_empty() || (!last && self.since.elapsed() < WINDOW) {
            return;
        }
        let now = clock::mono_ns();
        let mut stacks: Vec<(AllocStack, u64)> = self.places.drain().collect();
        stacks.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        desk.keep(&Item::Allocs(Box::new(Allocs {
            ts_ns: now,
            span_ns: now.saturating_sub(self.from_ns),
            stacks,
            counts: Vec::new(),
        })));
        self.from_ns = now;
        self.since = Instant::now();
    }

    /// Asks for the names of everything that was seen, the busiest process first.
    fn names(&mut self, desk: &mut Desk) {
        let (sink, mut items): (Sink, UnboundedReceiver<Item>) = unbounded_channel();
        let resolver = Resolver::spawn(sink);
        let mut kernel: Vec<u64> = self.kernel.drain().collect();
        kernel.sort_unstable();
        if !kernel.is_empty() {
            resolver.kernel(kernel);
        }
        let mut spaces: Vec<(Space, Known)> = self.spaces.drain().collect();
        spaces.sort_by_key(|(space, known)| (std::cmp::Reverse(known.samples), space.pid));
        for (space, known) in spaces {
            let mut ips: Vec<u64> = known.ips.into_iter().collect();
            ips.sort_unstable();
            resolver.process(space.pid, known.start_ticks, known.mappings, ips);
        }
        let last = Instant::now() + NAMES;
        while resolver.pending() > 0 && Instant::now() < last {
            match items.try_recv() {
                Ok(item) => desk.keep(&item),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        resolver.stop();
        while let Ok(item) = items.try_recv() {
            desk.keep(&item);
        }
    }
}
