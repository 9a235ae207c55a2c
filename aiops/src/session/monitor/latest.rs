//! What the daemon knows at this moment: written by its loop once a tick, read by its metrics port.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use crate::model::ClockPair;
use crate::model::Host;
use crate::model::Identity;
use crate::model::Sample;
use crate::report::monitor::OwnCost;

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
}

/// How the loop and the port share it. The lock is held for a copy, never over I/O.
pub(super) type Shared = Arc<Mutex<Latest>>;
