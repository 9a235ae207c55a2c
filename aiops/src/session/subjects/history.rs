//! Subjects from history and from recordings.

use std::collections::HashMap;
use std::path::Path;

use super::Builder;
use super::FIELDS;
use super::Figures;
use super::Subject;
use super::TICKS_PER_S;
use super::Who;
use super::figures_of;
use super::figures_sampled;
use super::index;
use super::is_sane;
use super::short_boot;
use crate::model::ClockPair;
use crate::model::Filter;
use crate::model::Host;
use crate::model::Identity;
use crate::model::Item;
use crate::model::Name;
use crate::model::Owner;
use crate::model::Range;
use crate::model::RawText;
use crate::model::Sample;
use crate::report;
use crate::session::plane;
use crate::source;
use crate::source::clock;
use crate::source::procfs::Handles;
use crate::store::Ask;
use crate::store::Coverage;
use crate::store::Store;
use crate::store::StoreError;

/// Figures of cgroups, in the order of [`FIELDS`] as far as they have them.
const CGROUP_FIELDS: [&str; 5] = ["usage_kb", "anon_kb", "file_kb", "shmem_kb", "swap_kb"];
const NS: f64 = 1e9;

/// What was read of a recording, or taken now.
#[derive(Debug, Default)]
pub struct Read {
    /// Processes, by their first sample.
    pub processes: Vec<Subject>,
    /// Memory cgroups: a subject with pid 0, whose `rss_kb` is the use of the whole cgroup. Empty where none were
    /// read.
    pub cgroups: Vec<Subject>,
    /// Samples of the host.
    pub ticks: usize,
    /// MemAvailable at the end.
    pub available_kb: Option<u64>,
    /// The observed host.
    pub host: Host,
    /// What a recording lost.
    pub damage: Option<report::Damage>,
}

fn owned(name: Option<Name<'_>>) -> Option<String> {
    name.map(|name| name.text.to_owned())
}

/// The number of a text, one more than a reading gives it; 0: there is none.
fn id(name: Option<Name<'_>>) -> u32 {
    name.map_or(0, |name| name.id + 1)
}

fn who(owner: &Owner<'_>) -> Who {
    Who {
        pid: owner.pid,
        start_ticks: owner.start,
        boot: owned(owner.boot),
        comm: owned(owner.comm),
        exe: owned(owner.exe),
        cmdline: owned(owner.cmdline),
        uid: owner.uid,
        user: owned(owner.user),
        cgroup: owned(owner.cgroup),
        container: owned(owner.container),
    }
}

/// When a boot began, seconds since 1970: known of the one that runs below `root`.
fn epoch_below(root: &Path) -> impl Fn(Option<&str>) -> Option<f64> {
    let now = short_boot(&source::host::read(root)).filter(|_| root == Path::new("/"));
    let epoch = epoch(&clock::now());
    move |boot| (boot.is_some() && boot == now.as_deref()).then_some(epoch)
}

fn epoch(clock: &ClockPair) -> f64 {
    clock.real_ns as f64 / NS - clock.boot_ns as f64 / NS
}

/// Times of the ticks of a store, as its parts come.
#[derive(Default)]
struct Parts {
    part: Option<u64>,
    base: u32,
}

impl Parts {
    fn base(&mut self, builder: &mut Builder, part: u64, times: &[i64]) -> u32 {
        if self.part != Some(part) {
            self.part = Some(part);
            self.base = builder.ticks(times.iter().map(|ms| *ms as f64 / 1000.0));
        }
        self.base
    }
}

/// Processes in a range of a store: those with one of these ids (none: all) that `keep` wants. No more than `most`
/// sizes are kept of each. `root` tells when this boot began.
///
/// # Errors
/// The store is not there, or may not be read.
pub fn from_store(
    store: &Store,
    range: Range,
    pids: &[u32],
    keep: &dyn Fn(&Owner<'_>) -> bool,
    most: usize,
    root: &Path,
) -> Result<(Vec<Subject>, Coverage), StoreError> {
    let ask = Ask {
        range,
        fields: &FIELDS,
        pids,
        programs: true,
    };
    let mut builder = Builder::new(most);
    let mut parts = Parts::default();
    // No process is seen before its start, so a boot began no later than the newest ones tell.
    let mut began: HashMap<u32, (Option<String>, f64)> = HashMap::new();
    let mut last = None;
    // Names and cgroups of a process change seldom.
    let mut comms: HashMap<(u32, u32, u64), (u32, u32)> = HashMap::new();
    let coverage = store.runs(&ask, &mut |run| {
        // Ticks count whoever is kept.
        let base = parts.base(&mut builder, run.part, run.times);
        let owner = &run.who;
        let first = run.samples().first().copied().unwrap_or_default();
        let key = (id(owner.boot), owner.pid, owner.start);
        if last != Some(key) && is_sane(owner.start) {
            let boot = first as f64 / 1000.0 - owner.start as f64 / TICKS_PER_S;
            let known = began.entry(id(owner.boot));
            let (_, least) = known.or_insert_with(|| (owned(owner.boot), boot));
            *least = least.min(boot);
        }
        last = Some(key);
        if !keep(owner) {
            return;
        }
        let values = figures_of(first as f64 / 1000.0, run.values);
        let tick = base + index(run.first);
        let known = builder.samples(key, tick, index(run.n), &values, || who(owner));
        let (comm, cgroup) = (id(owner.comm), id(owner.cgroup));
        let before = comms.insert(key, (comm, cgroup));
        if before.is_some_and(|before| before.1 != cgroup) {
            known.cgroup = owned(owner.cgroup);
        }
        if before.map(|before| before.0) != Some(comm) {
            // It became another program.
            let (exe, cmdline) = (known.exe.take(), known.cmdline.take());
            *known = who(owner);
            known.exe = known.exe.take().or(exe);
            known.cmdline = known.cmdline.take().or(cmdline);
        }
    })?;
    let now = epoch_below(root);
    let began: HashMap<Option<String>, f64> = began.into_values().collect();
    let epoch = |boot: Option<&str>| {
        let least = began.get(&boot.map(str::to_owned)).copied();
        now(boot).or(least)
    };
    Ok((builder.finish(&epoch), coverage))
}

/// Memory cgroups in a range of a store: see [`Read::cgroups`].
///
/// # Errors
/// As [`from_store`].
pub fn cgroups_from_store(
    store: &Store,
    range: Range,
    keep: &dyn Fn(&str) -> bool,
    most: usize,
) -> Result<Vec<Subject>, StoreError> {
    let ask = Ask {
        range,
        fields: &CGROUP_FIELDS,
        pids: &[],
        programs: false,
    };
    let mut builder = Builder::new(most);
    let mut parts = Parts::default();
    store.cgroup_runs(&ask, &mut |run| {
        let base = parts.base(&mut builder, run.part, run.times);
        if !keep(run.path.text) {
            return;
        }
        let first = run.times.get(run.first).copied().unwrap_or_default();
        let values = figures_of(first as f64 / 1000.0, run.values);
        let key = (run.path.id, 0, run.id);
        let tick = base + index(run.first);
        builder.samples(key, tick, index(run.n), &values, || Who {
            cgroup: Some(run.path.text.to_owned()),
            ..Who::default()
        });
    })?;
    Ok(builder.finish(&|_| None))
}

/// Puts the items of an observation together.
pub(super) struct Collector {
    processes: Builder,
    cgroups: Builder,
    filter: Filter,
    clock: Option<ClockPair>,
    who: HashMap<(u32, u64), Identity>,
    paths: HashMap<RawText, u32>,
    /// What the processes of the next sample have open, where that was read.
    pub(super) handles: HashMap<(u32, u64), Handles>,
    read: Read,
}

impl Collector {
    pub(super) fn new(filter: Filter, most: usize) -> Self {
        Self {
            processes: Builder::new(most),
            cgroups: Builder::new(most),
            filter,
            clock: None,
            who: HashMap::new(),
            paths: HashMap::new(),
            handles: HashMap::new(),
            read: Read::default(),
        }
    }

    pub(super) fn push(&mut self, item: &Item) {
        match item {
            Item::Session(session) => self.read.host = session.host.clone(),
            Item::Clock(clock) => self.clock = Some(*clock),
            Item::Identity(identity) => {
                let key = (identity.pid, identity.start_ticks.unwrap_or(0));
                self.who.insert(key, identity.clone());
            }
            Item::Sample(sample) => self.sample(sample),
            _ => {}
        }
    }

    fn sample(&mut self, sample: &Sample) {
        let clock = self.clock.unwrap_or_default();
        let since = sample.ts_ns as f64 / NS - clock.mono_ns as f64 / NS;
        let time_s = clock.real_ns as f64 / NS + since;
        self.read.ticks += 1;
        if let Some(system) = &sample.system {
            self.read.available_kb = system.mem_available_kb;
        }
        let tick = self.processes.ticks(std::iter::once(time_s));
        for process in &sample.processes {
            let key = (process.pid, process.start_ticks);
            let identity = self.who.get(&key);
            if !self.filter.wants(process, identity) {
                continue;
            }
            let open = self.handles.get(&key).copied().unwrap_or_default();
            let values = Figures {
                heap_kb: open.heap_kb,
                fds: open.fds,
                sockets: open.sockets,
                ..figures_sampled(time_s, &process.metrics)
            };
            let host = &self.read.host;
            let key = (0, process.pid, process.start_ticks);
            let known = (self.processes).samples(key, tick, 1, &values, || Who {
                pid: process.pid,
                start_ticks: process.start_ticks,
                boot: short_boot(host),
                uid: process.uid,
                ..Who::default()
            });
            known.comm = Some(process.comm.lossy().into_owned());
        }
        if sample.cgroups.is_empty() {
            return;
        }
        let tick = self.cgroups.ticks(std::iter::once(time_s));
        for cgroup in &sample.cgroups {
            let next = index(self.paths.len());
            let path = *self.paths.entry(cgroup.path.clone()).or_insert(next);
            let metrics = &cgroup.metrics;
            let values = Figures {
                time_s,
                rss_kb: metrics.usage_kb,
                anon_kb: metrics.anon_kb,
                file_kb: metrics.file_kb,
                shmem_kb: metrics.shmem_kb,
                swap_kb: metrics.swap_kb,
                ..Figures::default()
            };
            (self.cgroups).samples((path, 0, cgroup.id), tick, 1, &values, || Who {
                cgroup: Some(cgroup.path.lossy().into_owned()),
                ..Who::default()
            });
        }
    }

    pub(super) fn finish(self) -> Read {
        let began = self.clock.map(|clock| epoch(&clock));
        let mut read = self.read;
        read.processes = self.processes.finish(&|_| began);
        read.cgroups = self.cgroups.finish(&|_| began);
        for subject in &mut read.processes {
            let key = (subject.who.pid, subject.who.start_ticks);
            if let Some(identity) = self.who.get(&key) {
                learn(&mut subject.who, identity);
            }
        }
        read
    }
}

/// What an identity tells of a process.
pub(super) fn learn(who: &mut Who, identity: &Identity) {
    let text = |text: &Option<RawText>| text.as_ref().map(|text| text.lossy().into_owned());
    let arguments: Vec<_> = identity.cmdline.iter().map(RawText::lossy).collect();
    let container = identity.container.as_ref();
    who.exe = text(&identity.exe);
    who.cmdline = (!arguments.is_empty()).then(|| arguments.join(" "));
    who.user.clone_from(&identity.user);
    who.cgroup = text(&identity.cgroup);
    who.container = container.map(|one| format!("{}:{}", one.runtime, one.id));
}

/// The processes and cgroups of a recording.
///
/// # Errors
/// The file is no recording, or no sample in it can be read.
pub fn from_recording(path: &Path, filter: Filter, most: usize) -> anyhow::Result<Read> {
    let mut collector = Collector::new(filter, most);
    let damage = plane::read(path, &mut |item| {
        collector.push(item);
        Ok(())
    })?;
    let mut read = collector.finish();
    read.damage = damage;
    Ok(read)
}
