//! Samples on their way to items: stacks are unwound while the process is there, equal places added up.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::unbounded_channel;

use crate::model::AllocCount;
use crate::model::AllocKind;
use crate::model::AllocStack;
use crate::model::Allocs;
use crate::model::Identity;
use crate::model::Item;
use crate::model::Mapping;
use crate::model::Nanos;
use crate::model::RawText;
use crate::model::StackEnd;
use crate::source::Sink;
use crate::source::bpf::alloc as bpf;
use crate::source::buildid;
use crate::source::clock;
use crate::source::identity;
use crate::source::identity::Users;
use crate::source::mapped;
use crate::source::procdir::ProcDir;
use crate::source::symbols::Resolver;
use crate::source::unwind::Copied;
use crate::source::unwind::End as Unwound;
use crate::source::unwind::Space;
use crate::source::unwind::Unwinder;

/// Places of so much time are one item of the recording.
const WINDOW: Duration = Duration::from_secs(10);
/// How soon the mappings of a process may be read again.
const AGAIN: Duration = Duration::from_millis(500);
/// Address spaces looked at.
const MAX_SPACES: usize = 8192;
/// Places of one window.
const MAX_PLACES: usize = 131_072;
/// Sampled pages that are followed in all; an hour at 280 a second.
const MAX_TAKEN: u64 = 1_000_000;
/// How long names may take in the end.
const NAMES: Duration = Duration::from_secs(30);

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
pub(super) struct Gather {
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
    held: Option<Held>,
    pub(super) spaces_lost: u64,
    pub(super) places_lost: u64,
}

/// Sampled pages that are followed: their numbers in the recording, by page and time.
#[derive(Default)]
struct Held {
    numbers: HashMap<(u64, Nanos), u64>,
    next: u64,
    news: Allocs,
}

impl Gather {
    pub(super) fn new(full: bool, held: bool, from_ns: Nanos) -> Self {
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
            held: held.then(Held::default),
            spaces_lost: 0,
            places_lost: 0,
        }
    }

    /// Takes what came out of the ring.
    pub(super) fn take(&mut self, record: bpf::Record<'_>) {
        match record {
            bpf::Record::Taken(sample) => self.sample(&sample),
            bpf::Record::Freed(freed) => self.freed(freed),
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
        if let Some(held) = self.held.as_mut().filter(|_| sample.page != 0) {
            if held.next >= MAX_TAKEN {
                self.places_lost += 1;
                return;
            }
            held.next += 1;
            held.numbers.insert((sample.page, sample.ts_ns), held.next);
            held.news.taken.push((held.next, sample.ts_ns, stack));
        } else if self.full {
            self.singles.push(Item::Allocs(Box::new(Allocs {
                ts_ns: sample.ts_ns,
                stacks: vec![(stack, 1)],
                ..Allocs::default()
            })));
        } else {
            self.add(stack, 1);
        }
    }

    /// Memory was given back.
    fn freed(&mut self, freed: bpf::Freed) {
        let Some(held) = &mut self.held else { return };
        if let Some(number) = held.numbers.remove(&(freed.page, freed.since_ns)) {
            held.news.freed.push((number, freed.ts_ns));
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
        let copied = Copied {
            registers: sample.registers,
            bytes: sample.copy,
            chain: &sample.chain,
        };
        let mut stack = self.unwinder.unwind(space, &copied);
        // A library that was loaded meanwhile stands somewhere in the middle.
        let strange = stack
            .ips
            .iter()
            .find(|ip| !self.unwinder.covers(space, **ip));
        if let Some(ip) = strange.copied()
            && stack.end != Unwound::Root
            && self.is_old(space)
        {
            self.know(space, start_ticks, ip);
            stack = self.unwinder.unwind(space, &copied);
        }
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

    /// Whether its mappings may be read again.
    fn is_old(&self, space: Space) -> bool {
        let known = self.spaces.get(&space);
        known.is_some_and(|known| known.read.elapsed() >= AGAIN)
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
    pub(super) fn place(&mut self, place: bpf::Place) {
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
            kind: AllocKind::Pages,
            bytes: place.bytes,
            kernel: place.kernel,
            user,
            end,
        };
        self.add(stack, place.allocations);
    }

    /// Exact counts of processes.
    pub(super) fn counts(&mut self, counts: Vec<bpf::Count>, ts_ns: Nanos) {
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
            counts: counts.into_iter().map(row).collect(),
            ..Allocs::default()
        })));
    }

    /// Hands on what is complete: samples at once, sums when their window is over, or all at the end.
    pub(super) fn hand_on(&mut self, keep: &mut dyn FnMut(&Item), last: bool) {
        for identity in self.identities.drain(..) {
            keep(&Item::Identity(identity));
        }
        for item in self.singles.drain(..) {
            keep(&item);
        }
        if let Some(held) = &mut self.held
            && !(held.news.taken.is_empty() && held.news.freed.is_empty())
        {
            let ts_ns = clock::mono_ns();
            let news = std::mem::take(&mut held.news);
            keep(&Item::Allocs(Box::new(Allocs { ts_ns, ..news })));
        }
        if self.places.is_empty() || (!last && self.since.elapsed() < WINDOW) {
            return;
        }
        let now = clock::mono_ns();
        let mut stacks: Vec<(AllocStack, u64)> = self.places.drain().collect();
        stacks.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        keep(&Item::Allocs(Box::new(Allocs {
            ts_ns: now,
            span_ns: now.saturating_sub(self.from_ns),
            stacks,
            ..Allocs::default()
        })));
        self.from_ns = now;
        self.since = Instant::now();
    }

    /// Asks for the names of everything that was seen, the busiest process first.
    pub(super) fn names(&mut self, keep: &mut dyn FnMut(&Item)) {
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
                Ok(item) => keep(&item),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        resolver.stop();
        while let Ok(item) = items.try_recv() {
            keep(&item);
        }
    }
}
