//! What the daemon knows at this moment: written by its loop once a tick, read by its metrics port.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use crate::model::ClockPair;
use crate::model::Host;
use crate::model::Identity;
use crate::model::Sample;
use crate::report::monitor::OwnCost;
use crate::store::Tick;

/// The newest figures.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest {
    /// Who is observed.
    pub(super) host: Host,
    /// When the sample was taken.
    pub(super) clock: ClockPair,
    /// How often samples are taken without pressure.
    pub(super) interval: Duration,
    /// The figures; `None`: none was taken yet.
    pub(super) sample: Option<Sample>,
    /// Who the processes are.
    pub(super) identities: HashMap<(u32, u64), Identity>,
    /// OOM kills that were captured since the start, by whether their cgroup or the host was short: `memcg`,
    /// `global`, `cpuset`.
    pub(super) oom_kills: HashMap<String, u64>,
    /// Bytes of the store.
    pub(super) store_bytes: Option<u64>,
    /// What the daemon costs.
    pub(super) own: OwnCost,
    /// These figures as text, once somebody asked for it: in the older format, and in OpenMetrics.
    pub(super) pages: [Option<Arc<str>>; 2],
}

impl Latest {
    /// Takes over a sample; identities of processes that are gone are forgotten.
    pub(super) fn take(&mut self, tick: Tick) {
        for identity in tick.identities {
            let key = (identity.pid, identity.start_ticks.unwrap_or(0));
            self.identities.insert(key, identity);
        }
        let processes = tick.sample.processes.iter();
        let alive: HashSet<(u32, u64)> = processes.map(|one| (one.pid, one.start_ticks)).collect();
        self.identities.retain(|key, _| alive.contains(key));
        self.clock = tick.clock;
        self.sample = Some(tick.sample);
    }

    /// Forgets the text of older figures.
    pub(super) fn changed(&mut self) {
        self.pages = [None, None];
    }

    /// Takes over the kills so far. Where they are captured, none is a count, too: the first kill is an increase.
    pub(super) fn count<'a>(
        &mut self,
        kills: impl IntoIterator<Item = (&'a String, &'a u64)>,
        captured: bool,
    ) {
        let known = kills
            .into_iter()
            .map(|(scope, count)| (scope.clone(), *count));
        self.oom_kills = known.collect();
        if captured {
            for scope in ["global", "memcg", "cpuset"] {
                self.oom_kills.entry(scope.to_owned()).or_default();
            }
        }
    }
}

/// How the loop and the port share it. The lock is held while figures are copied or written as text, never over I/O.
pub(super) type Shared = Arc<Mutex<Latest>>;
