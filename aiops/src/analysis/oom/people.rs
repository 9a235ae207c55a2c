//! Who the processes of an incident are, and what stands at the addresses of their stacks.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use crate::model::Frame;
use crate::model::Host;
use crate::model::Identity;
use crate::model::RawText;
use crate::model::SymbolSet;
use crate::model::SymbolSpace;
use crate::model::TaskRef;
use crate::report::oom::ContainerInfo;
use crate::report::oom::FrameInfo;

/// Most identities kept; the oldest go first.
const IDENTITIES_MAX: usize = 8192;
/// Most processes whose symbols are kept: a victim's are needed until its incident closes.
const SPACES_MAX: usize = 64;

type Names = BTreeMap<u64, Vec<Frame>>;

/// Identities and symbols, as far as they have come.
#[derive(Debug, Default)]
pub(super) struct People {
    identities: BTreeMap<u32, VecDeque<Identity>>,
    count: usize,
    kernel: Names,
    spaces: VecDeque<(u32, Option<u64>, Names)>,
    ticks_per_s: Option<u64>,
}

impl People {
    pub(super) fn host(&mut self, host: &Host) {
        self.ticks_per_s = host.ticks_per_s;
    }

    /// Keeps the two newest identities of a pid: an old process and the one that has its number now.
    pub(super) fn identity(&mut self, identity: &Identity) {
        let mut identity = identity.clone();
        identity.mappings = Vec::new();
        let known = self.identities.entry(identity.pid).or_default();
        let same = known
            .iter()
            .position(|old| old.start_ticks == identity.start_ticks);
        if let Some(at) = same {
            known.remove(at);
            self.count -= 1;
        }
        known.push_back(identity);
        self.count += 1;
        if known.len() > 2 {
            known.pop_front();
            self.count -= 1;
        }
        if self.count > IDENTITIES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .identities
            .iter()
            .min_by_key(|(_, known)| known.back().map_or(0, |identity| identity.ts_ns))
            .map(|(pid, _)| *pid);
        if let Some(gone) = oldest.and_then(|pid| self.identities.remove(&pid)) {
            self.count -= gone.len();
        }
    }

    pub(super) fn symbols(&mut self, set: &SymbolSet) {
        let names = match &set.space {
            SymbolSpace::Kernel => &mut self.kernel,
            SymbolSpace::Process { pid, start_ticks } => {
                let same =
                    |space: &(u32, Option<u64>, Names)| space.0 == *pid && space.1 == *start_ticks;
                if !self.spaces.iter().any(same) {
                    self.spaces.push_back((*pid, *start_ticks, Names::new()));
                    if self.spaces.len() > SPACES_MAX {
                        self.spaces.pop_front();
                    }
                }
                match self.spaces.iter_mut().find(|space| same(space)) {
                    Some(space) => &mut space.2,
                    None => return,
                }
            }
        };
        for symbol in &set.symbols {
            names.insert(symbol.ip, symbol.frames.clone());
        }
    }

    fn ticks(&self, start_ns: Option<u64>) -> Option<u64> {
        let ticks = u128::from(start_ns?) * u128::from(self.ticks_per_s?) / 1_000_000_000;
        u64::try_from(ticks).ok()
    }

    /// The process of a thread. A thread's start tells the process only when it leads it.
    pub(super) fn of(&self, task: &TaskRef) -> Option<&Identity> {
        let known = self.identities.get(&task.pid)?;
        let start = (task.pid == task.tid)
            .then(|| self.ticks(task.start_ns))
            .flatten();
        match start {
            // A tick either way: the two clocks are not read at the same instant.
            Some(start) => known
                .iter()
                .rev()
                .find(|one| one.start_ticks.is_none_or(|t| t.abs_diff(start) <= 1)),
            None => known.back(),
        }
    }

    /// The newest process with this id.
    pub(super) fn pid(&self, pid: u32) -> Option<&Identity> {
        self.identities.get(&pid)?.back()
    }

    fn names(&self, task: &TaskRef) -> Option<&Names> {
        let start = self
            .of(task)
            .and_then(|identity| identity.start_ticks)
            .or_else(|| self.ticks(task.start_ns));
        let mut mine = self.spaces.iter().rev().filter(|space| space.0 == task.pid);
        let fallback = mine.clone().next();
        mine.find(|space| space.1 == start)
            .or(fallback)
            .map(|space| &space.2)
    }

    /// Whether every address has an entry (which may say that there is no name).
    pub(super) fn resolved(&self, task: Option<&TaskRef>, stack: &[u64]) -> bool {
        let names = match task {
            None => Some(&self.kernel),
            Some(task) => self.names(task),
        };
        stack
            .iter()
            .all(|ip| names.is_some_and(|names| names.contains_key(ip)))
    }

    /// A stack as it is shown: `task` is none for the kernel's.
    pub(super) fn stack(&self, task: Option<&TaskRef>, stack: &[u64]) -> Vec<FrameInfo> {
        let names = match task {
            None => Some(&self.kernel),
            Some(task) => self.names(task),
        };
        let mut out = Vec::with_capacity(stack.len());
        for ip in stack {
            match names.and_then(|names| names.get(ip)) {
                Some(frames) if !frames.is_empty() => {
                    out.extend(frames.iter().map(|frame| FrameInfo::of(*ip, frame)));
                }
                _ => out.push(FrameInfo {
                    ip: format!("{ip:#x}"),
                    ..FrameInfo::default()
                }),
            }
        }
        out
    }
}

/// Text of the kernel or of a program, for a report.
pub(super) fn text(raw: &RawText) -> String {
    raw.lossy().into_owned()
}

/// Bytes of a log line, for a report.
pub(super) fn bytes(raw: &[u8]) -> String {
    RawText::new(raw).lossy().into_owned()
}

/// Arguments with a blank between; none for kernel threads.
pub(super) fn cmdline(identity: &Identity) -> Option<String> {
    let words: Vec<_> = identity.cmdline.iter().map(RawText::lossy).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The container that an identity tells.
pub(super) fn container(identity: &Identity) -> Option<ContainerInfo> {
    identity.container.as_ref().map(|container| ContainerInfo {
        runtime: container.runtime.clone(),
        id: container.id.clone(),
        pod: container.pod.clone(),
    })
}

/// Whether `path` is `root` or stands below it.
pub(super) fn below(path: &str, root: &str) -> bool {
    let root = root.trim_end_matches('/');
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
