//! The /proc plane: everything that /proc and /sys tell, read when it is asked for.
//!
//! What the commands without hooks stand on. A [`Plane`] reads below one root; on a captured tree (plain
//! files, [`super::live`]) the clocks are those of the moment of capture, so that ages come out right.

use std::collections::HashMap;
use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::model::CgroupSample;
use crate::model::ClockPair;
use crate::model::Detail;
use crate::model::Filter;
use crate::model::Identity;
use crate::model::Nanos;
use crate::model::ProcessMappings;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::Sample;
use crate::model::Session;

use super::cgroup::Controller;
use super::clock;
use super::files;
use super::host;
use super::identity::Users;
use super::identity::identify_open;
use super::procdir::ProcDir;
use super::procfs;
use super::procfs::Failure;
use super::procfs::ProcessReader;
use super::procfs::Scope;
use super::procfs::Wanted;

/// How much of smaps_rollup is read: the kernel walks the page tables of a process for each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Rollup {
    /// None: no PSS and no USS.
    #[default]
    None,
    /// Every process in every sample.
    All,
    /// As many as fit into this share of one CPU since the last sample, the stalest first; the others keep
    /// their last figures with their age.
    Budget(f64),
}

/// What a sample of the plane holds.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    /// Only these processes; `None`: all.
    pub pids: Option<Vec<u32>>,
    /// smaps_rollup.
    pub rollup: Rollup,
    /// Every memory cgroup, not only those with a limit.
    pub cgroups: bool,
    /// oom_score and disk transfers of each process as well.
    pub all: bool,
}

/// Every process' identity is looked at again once in so many samples.
const TURN: u32 = 30;

/// Most cgroups that are read in turns; the top of the tree goes first.
const MOST_IN_TURNS: usize = 512;

/// How long a process that refused its smaps_rollup is not asked again: it may become another user's.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// What is not read whole where /proc hides processes, as [`Session::unread`] names it.
pub const HIDDEN: &str = "/proc (hidepid)";

/// Metrics that come from smaps_rollup, by the prefix of their source.
const ROLLUP: &str = "smaps_rollup:";

/// A process' last smaps_rollup.
#[derive(Debug)]
struct Last {
    at: Instant,
    metrics: ProcessMetrics,
}

/// A cgroup that is read in turns, and when that was.
type InTurns = HashMap<RawText, (Instant, CgroupSample)>;

/// Reads /proc and /sys below one root.
#[derive(Debug)]
pub struct Plane {
    root: PathBuf,
    reader: ProcessReader,
    controller: Option<Controller>,
    users: Users,
    live: bool,
    captured: Option<ClockPair>,
    told: HashMap<(u32, u64), Identity>,
    /// Samples taken.
    samples: u32,
    /// Read with the last samples, and not told yet.
    fresh: Vec<Identity>,
    rollups: HashMap<(u32, u64), Last>,
    /// Whose smaps_rollup was refused, and when.
    refused: HashMap<(u32, u64), Instant>,
    sampled: Option<Instant>,
    /// In which time each cgroup without a limit is read once.
    cgroup_turn: Option<Duration>,
    in_turns: InTurns,
}

impl Plane {
    /// Opens the plane below `root`.
    ///
    /// # Errors
    /// `root`/proc cannot be opened.
    pub fn open(root: &Path) -> io::Result<Self> {
        let live = super::live(root);
        Ok(Self {
            reader: ProcessReader::open(root)?,
            controller: Controller::detect(root),
            users: Users::read(root),
            captured: (!live).then(|| captured(root)),
            live,
            root: root.to_path_buf(),
            told: HashMap::new(),
            samples: 0,
            fresh: Vec::new(),
            rollups: HashMap::new(),
            refused: HashMap::new(),
            sampled: None,
            cgroup_turn: None,
            in_turns: HashMap::new(),
        })
    }

    /// Whether a kernel runs behind it: rates need two readings of one.
    #[must_use]
    pub fn live(&self) -> bool {
        self.live
    }

    /// The first item of an observation by `command`.
    #[must_use]
    pub fn session(&self, command: &str, filter: Filter) -> Session {
        let mut notes = Vec::new();
        if !self.live {
            notes.push(format!(
                "{} is a captured tree: figures are those of its moment, and rates are unknown",
                self.root.display()
            ));
        }
        let mut unread = Vec::new();
        if self.live && procfs::hides(&self.root) {
            unread.push(HIDDEN.to_owned());
            notes.push(
                "/proc is mounted with hidepid: processes of other users are not seen, and not counted; run as root or in the group of its gid= option"
                    .to_owned(),
            );
        }
        Session {
            command: command.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ns: self.clock().mono_ns,
            host: host::read(&self.root),
            filter,
            notes,
            unread,
            ..Session::default()
        }
    }

    /// Now, or the moment of the capture.
    #[must_use]
    pub fn clock(&self) -> ClockPair {
        self.captured.unwrap_or_else(clock::now)
    }

    fn now_ns(&self) -> Nanos {
        self.captured
            .map_or_else(clock::mono_ns, |captured| captured.mono_ns)
    }

    /// From now on samples that do not want every cgroup hold those without a limit too: in turns, each is read once
    /// in this time, and between two turns its last figures stand.
    pub fn take_turns(&mut self, turn: Duration) {
        self.cgroup_turn = Some(turn);
    }

    /// Figures of this moment.
    pub fn sample(&mut self, wants: &Wants) -> Sample {
        let ts_ns = self.now_ns();
        let system = Some(procfs::read_system(&self.root, Scope::All));
        let wanted = if wants.all {
            Wanted::All
        } else {
            Wanted::Sizes
        };
        self.samples = self.samples.wrapping_add(1);
        let (told, fresh, users) = (&self.told, &mut self.fresh, &self.users);
        let samples = self.samples;
        let mut identify = |dir: BorrowedFd<'_>, process: &ProcessSample| {
            let known = told.get(&(process.pid, process.start_ticks));
            // Its cgroup, or its arguments, may have changed without a sign: looked at in turn.
            let turn = process.pid.wrapping_add(samples).is_multiple_of(TURN);
            if known.is_none_or(|known| turn || !alike(known, process))
                && let Ok(dir) = ProcDir::of(dir)
            {
                fresh.push(identify_open(&dir, process, users));
            }
        };
        let pids = wants.pids.as_deref();
        let (mut processes, mut skipped) = self.reader.each(pids, wanted, &mut identify);
        skipped.denied_smaps = self.rollup(&mut processes, wants.rollup);
        let (cgroups, left_out) = match self.cgroup_turn {
            Some(turn) if !wants.cgroups => self.cgroups_in_turns(turn, Instant::now()),
            _ => self.cgroups(wants.cgroups),
        };
        skipped.cgroups = left_out;
        Sample {
            ts_ns,
            system,
            cgroups,
            processes,
            all_processes: wants.pids.is_none(),
            skipped,
        }
    }

    /// The cgroups, and how many were left out.
    fn cgroups(&self, all: bool) -> (Vec<CgroupSample>, u32) {
        let Some(controller) = &self.controller else {
            return (Vec::new(), 0);
        };
        controller.refresh();
        let paths = if all {
            controller.all()
        } else {
            controller.limited()
        };
        let samples = paths.iter().filter_map(|path| controller.sample(path));
        (samples.collect(), controller.left_out(all))
    }

    /// Those with a limit now, and the others as of their last turn; how many were left out. The others are spread
    /// over the time, so that no sample takes much longer than the next one.
    fn cgroups_in_turns(&mut self, turn: Duration, now: Instant) -> (Vec<CgroupSample>, u32) {
        let Some(controller) = &self.controller else {
            return (Vec::new(), 0);
        };
        controller.refresh();
        let limited = controller.limited();
        let mut samples: Vec<CgroupSample> = limited
            .iter()
            .filter_map(|path| controller.sample(path))
            .collect();
        let limited: HashSet<RawText> = limited.into_iter().collect();
        let mut others = controller.all();
        others.retain(|path| !limited.contains(path));
        let depth = |path: &RawText| path.as_bytes().iter().filter(|byte| **byte == b'/').count();
        others.sort_by_key(depth);
        let left = others.len().saturating_sub(MOST_IN_TURNS);
        others.truncate(MOST_IN_TURNS);
        let age = |at: &Instant| now.saturating_duration_since(*at);
        let known = std::mem::take(&mut self.in_turns);
        // As many as fall due since the last ones.
        let since = known.values().map(|(at, _)| age(at)).min();
        let since = since.map_or(turn, |since| since.min(turn)).as_millis();
        let quota = (others.len() as u128 * since).div_ceil(turn.as_millis().max(1));
        let quota = usize::try_from(quota).unwrap_or(usize::MAX);
        let mut order: Vec<(Option<Instant>, RawText)> = others
            .into_iter()
            .map(|path| (known.get(&path).map(|(at, _)| *at), path))
            .collect();
        // New ones first, then the stalest.
        order.sort_by_key(|(at, _)| *at);
        let fresh = order.iter().filter(|(at, _)| at.is_none()).count();
        for (index, (_, path)) in order.into_iter().enumerate() {
            let kept = known.get(&path).filter(|_| index >= quota.max(fresh));
            let read = || Some((now, controller.sample(&path)?));
            if let Some(entry) = kept.cloned().or_else(read) {
                self.in_turns.insert(path, entry);
            }
        }
        let held = self.in_turns.values().map(|(_, sample)| sample.clone());
        samples.extend(held);
        // An order that stays: the store tells only what changes.
        samples.sort_by(|a, b| a.path.cmp(&b.path));
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        (samples, controller.left_out(false).saturating_add(left))
    }

    /// Reads smaps_rollup of as many processes as may be, the stalest and then the largest first. How many
    /// refuse it: these are not asked again for a while, or they would take the time of those that do not.
    fn rollup(&mut self, processes: &mut [ProcessSample], rollup: Rollup) -> u32 {
        let now = Instant::now();
        let budget = match rollup {
            Rollup::None => return 0,
            Rollup::All => None,
            Rollup::Budget(share) => {
                let since = self
                    .sampled
                    .map_or(Duration::from_secs(1), |last| now - last);
                Some(since.mul_f64(share.clamp(0.0, 1.0)))
            }
        };
        self.sampled = Some(now);
        let key = |process: &ProcessSample| (process.pid, process.start_ticks);
        let mut order: Vec<usize> = (0..processes.len())
            .filter(|index| {
                let refused = self.refused.get(&key(&processes[*index]));
                refused.is_none_or(|at| now.saturating_duration_since(*at) >= REFUSED_FOR)
            })
            .collect();
        order.sort_by_key(|index| {
            let process = &processes[*index];
            let last = self.rollups.get(&key(process)).map(|last| last.at);
            (last, std::cmp::Reverse(process.metrics.rss_kb))
        });
        let mut spent = Duration::ZERO;
        for index in order {
            let process = &mut processes[index];
            if budget.is_some_and(|budget| spent >= budget) {
                if let Some(last) = self.rollups.get(&key(process)) {
                    keep(&mut process.metrics, last, now);
                }
                continue;
            }
            let begin = Instant::now();
            match self.reader.rollup(process) {
                Ok(()) => {
                    let last = Last {
                        at: begin,
                        metrics: process.metrics.clone(),
                    };
                    self.refused.remove(&key(process));
                    self.rollups.insert(key(process), last);
                }
                Err(Failure::Denied) => {
                    self.refused.insert(key(process), begin);
                }
                Err(Failure::Vanished | Failure::Failed) => {}
            }
            spent += begin.elapsed();
        }
        let alive: HashSet<(u32, u64)> = processes.iter().map(key).collect();
        self.rollups.retain(|known, _| alive.contains(known));
        self.refused.retain(|known, _| alive.contains(known));
        u32::try_from(self.refused.len()).unwrap_or(u32::MAX)
    }

    /// Whether the smaps_rollup of a process was refused when it was asked for last.
    #[must_use]
    pub fn refused(&self, key: (u32, u64)) -> bool {
        self.refused.contains_key(&key)
    }

    /// Slab, zones, nodes, swap devices, settings; free blocks by migration type when they are wanted: the
    /// kernel counts them with interrupts off, some 18 ms on a host of 24 GiB.
    #[must_use]
    pub fn detail(&self, page_types: bool) -> Detail {
        let mut detail = procfs::read_detail(&self.root, page_types);
        detail.ts_ns = self.now_ns();
        detail
    }

    /// Who the processes of the last samples are: each told once, and again when that has changed.
    pub fn identities(&mut self, processes: &[ProcessSample]) -> Vec<Identity> {
        let alive: HashSet<(u32, u64)> = processes
            .iter()
            .map(|process| (process.pid, process.start_ticks))
            .collect();
        self.told.retain(|known, _| alive.contains(known));
        // Who comes and goes leaves marks in the table that count as room.
        if self.told.capacity() > 2 * self.told.len() + 64 {
            self.told.shrink_to_fit();
        }
        let mut found = std::mem::take(&mut self.fresh);
        let now = self.now_ns();
        found.retain_mut(|identity| {
            identity.ts_ns = now;
            let key = (identity.pid, identity.start_ticks.unwrap_or(0));
            let news = self.told.get(&key).is_none_or(|told| news(told, identity));
            if news {
                self.told.insert(key, identity.clone());
            }
            news
        });
        found
    }

    /// Who a process is, when that was told.
    #[must_use]
    pub fn identity(&self, key: (u32, u64)) -> Option<&Identity> {
        self.told.get(&key)
    }

    /// Every mapping of a process.
    ///
    /// # Errors
    /// It is gone, or its mappings may not be read.
    pub fn mappings(&self, pid: u32) -> io::Result<ProcessMappings> {
        let mut mappings = procfs::read_mappings(&self.root, pid)?;
        mappings.ts_ns = self.now_ns();
        Ok(mappings)
    }
}

/// Whether a sample's process is still as it was told.
fn alike(told: &Identity, process: &ProcessSample) -> bool {
    told.comm == process.comm && told.uid == process.uid
}

/// Whether an identity tells something new. A process that ends loses its program and arguments first: that
/// is no news.
fn news(told: &Identity, now: &Identity) -> bool {
    let same = told.comm == now.comm && told.uid == now.uid;
    let ending = now.exe.is_none() && told.exe.is_some()
        || now.cmdline.is_empty() && !told.cmdline.is_empty();
    let as_told = Identity {
        ts_ns: told.ts_ns,
        ..now.clone()
    };
    as_told != *told && !(same && ending)
}

/// Copies what the last smaps_rollup told, with its age.
fn keep(metrics: &mut ProcessMetrics, last: &Last, now: Instant) {
    for metric in ProcessMetrics::METRICS {
        if metric.source.starts_with(ROLLUP) {
            (metric.set)(metrics, (metric.get)(&last.metrics));
        }
    }
    let age = now.saturating_duration_since(last.at).as_millis();
    metrics.rollup_age_ms = u64::try_from(age).ok();
}

/// When a tree was captured: its uptime, and the time at which its meminfo was written.
fn captured(root: &Path) -> ClockPair {
    let uptime = files::read(&root.join("proc/uptime")).unwrap_or_default();
    let uptime = String::from_utf8_lossy(&uptime);
    let seconds: Option<f64> = uptime
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    let boot_ns = seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .and_then(|uptime| u64::try_from(uptime.as_nanos()).ok())
        .unwrap_or(0);
    let written = std::fs::metadata(root.join("proc/meminfo")).and_then(|meta| meta.modified());
    let real_ns = written
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_nanos()).ok());
    ClockPair {
        mono_ns: boot_ns,
        boot_ns,
        real_ns: real_ns.unwrap_or_else(|| clock::now().real_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_without_a_limit_take_turns_and_their_figures_stand_between() {
        let root = std::env::temp_dir().join(format!("aiops-turns-{}", std::process::id()));
        let mount = root.join("sys/fs/cgroup");
        let write = |name: &str, file: &str, text: &str| {
            let folder = mount.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(file), text).unwrap();
        };
        std::fs::create_dir_all(root.join("proc")).unwrap();
        write("", "cgroup.controllers", "memory\n");
        let grow = |pages: u64| {
            for name in ["limited", "a", "b", "c"] {
                write(name, "memory.current", &format!("{}\n", pages * 4096));
            }
        };
        write("limited", "memory.max", "1048576\n");
        grow(1);
        let mut plane = Plane::open(&root).unwrap();
        let turn = Duration::from_secs(60);
        let begin = Instant::now();
        let mut at = |seconds: u64| -> Vec<(String, Option<u64>)> {
            let now = begin + Duration::from_secs(seconds);
            let (samples, left) = plane.cgroups_in_turns(turn, now);
            assert_eq!(left, 0);
            let samples = samples.into_iter();
            let shown = samples.map(|one| (one.path.lossy().into_owned(), one.metrics.usage_kb));
            shown.filter(|(path, _)| path != "/").collect()
        };
        let first = at(0);
        let paths: Vec<&str> = first.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/a", "/b", "/c", "/limited"]);
        assert!(first.iter().all(|(_, kb)| *kb == Some(4)), "{first:?}");
        grow(2);
        let soon = at(20);
        let read =
            |list: &[(String, Option<u64>)]| list.iter().filter(|(_, kb)| *kb == Some(8)).count();
        assert_eq!(soon[3].1, Some(8), "one with a limit is read each time");
        assert!(
            (2..4).contains(&read(&soon)),
            "a third of the others: {soon:?}"
        );
        at(40);
        assert_eq!(read(&at(60)), 4, "all had their turn");
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn this_host_has_a_plane() {
        let mut plane = Plane::open(Path::new("/")).unwrap();
        assert!(plane.live());
        let wants = Wants {
            rollup: Rollup::All,
            cgroups: true,
            ..Wants::default()
        };
        let sample = plane.sample(&wants);
        let own = sample
            .processes
            .iter()
            .find(|process| process.pid == std::process::id())
            .unwrap();
        assert!(own.metrics.pss_kb > Some(0) && own.metrics.uss_kb <= own.metrics.pss_kb);
        assert_eq!(own.metrics.rollup_age_ms, Some(0));
        let first = plane.identities(&sample.processes);
        assert!(!first.is_empty());
        let again = plane.identities(&sample.processes);
        assert!(again.len() < first.len(), "each is told once");
    }

    #[test]
    fn a_budget_of_nothing_reads_nothing_and_keeps_nothing() {
        let mut plane = Plane::open(Path::new("/")).unwrap();
        let wants = Wants {
            pids: Some(vec![std::process::id()]),
            rollup: Rollup::Budget(0.0),
            ..Wants::default()
        };
        let sample = plane.sample(&wants);
        assert_eq!(sample.processes[0].metrics.pss_kb, None);
        let all = Wants {
            rollup: Rollup::All,
            ..wants.clone()
        };
        assert!(plane.sample(&all).processes[0].metrics.pss_kb.is_some());
        let kept = plane.sample(&wants);
        assert!(kept.processes[0].metrics.pss_kb.is_some());
        assert!(kept.processes[0].metrics.rollup_age_ms.is_some());
    }
}
