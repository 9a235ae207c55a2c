//! The daemon: figures at an interval into the store, OOM kills as they happen, its own cost.
//!
//! ```text
//! plane ─ sample ─┬─► store::Recorder ─► tail, log (`compact`: a child makes segments)
//!                 ├─► catcher (the desk of `trace oom`) ─ incidents ─► events
//!                 └─► latest ─► metrics port
//! ```
//!
//! Cgroups with a limit are read for each sample. Every other one (of the 512 nearest to the root) is read once a
//! minute, in turns, and its figures stand in the samples between: a hundred take 4 ms of CPU (version 1 of
//! the controller), so 512 at once would be 0.4 % of one at 5 s, and in turns they are 0.03 %.
//!
//! One loop on one thread ([`run`]); what blocks for long is a child. The loop never ends for want of disk: it
//! says so once, goes on, and says when it works again.

mod catcher;
mod compact;
mod config;
mod daemon;
mod detach;
mod events;
mod files;
mod holder;
mod latest;
mod metrics;
mod own;
mod pace;
mod signals;
mod summary;

use std::path::PathBuf;
use std::time::Duration;

pub use config::CONFIG;
pub use config::Config;
pub use config::bad;
pub use daemon::Reload;
pub use daemon::run;
pub use detach::is_child;
pub use detach::start as detach;
pub use files::state;
pub use files::store_state;
pub use metrics::address;

/// What may be changed while it runs (SIGHUP).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Between samples, without pressure.
    pub interval: Duration,
    /// Most of one CPU that reading PSS may take.
    pub smaps_budget: f64,
    /// Whether hooks capture OOM kills; a change counts from the next start.
    pub bpf: bool,
    /// Where metrics are served; a change counts from the next start.
    pub metrics: Option<String>,
    /// Whether other hosts may read them.
    pub metrics_public: bool,
    /// Processes that metrics name; a change counts from the next start.
    pub top: usize,
    /// How long history is kept, as `store compact --keep` takes it.
    pub keep: String,
    /// Most bytes of it, as `store compact --max-size` takes it.
    pub max_size: Option<String>,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where `proc` and `sys` stand.
    pub root: PathBuf,
    /// The store.
    pub store: PathBuf,
    /// File of settings that was read, to be told.
    pub config: Option<PathBuf>,
    /// End after this time.
    pub duration: Option<Duration>,
    /// What may be changed.
    pub settings: Settings,
}
