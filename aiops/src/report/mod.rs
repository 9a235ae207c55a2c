//! What aiops says, as data: no layout, no language chosen.
//!
//! A [`Report`] is the one JSON object of docs/json.md: `schema`, `version`, `generated_at`, `host`,
//! `data`, `findings`, `accounting`. Keys are English snake_case with the unit in the name; unknown is
//! `null`. Texts for people are [`Msg`]s, which carry both languages until a renderer chooses.

pub mod alloc;
pub mod anomaly;
pub mod cache;
pub mod collect;
pub mod diff;
pub mod doctor;
pub mod export;
pub mod frames;
pub mod health;
pub mod inspect;
pub mod leak;
pub mod monitor;
pub mod oom;
pub mod processes;
pub mod query;
pub mod risk;
mod size;
pub mod stalls;
pub mod store;
pub mod swap;
pub mod swapping;

pub use size::note;
pub use size::plural;
pub use size::shown;
pub use size::size_kb;

use serde::Serialize;

use crate::model::RawText;

/// A text in both languages. Hostile names inside are escaped when it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Msg {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

/// Key under which a serialised [`Msg`] keeps English; `render::json` replaces the pair by one language.
pub const MSG_EN: &str = "$en";
/// Key under which a serialised [`Msg`] keeps Chinese.
pub const MSG_ZH: &str = "$zh";

impl Msg {
    /// A text in both languages.
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self {
            en: en.into(),
            zh: zh.into(),
        }
    }
}

impl Serialize for Msg {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(MSG_EN, &self.en)?;
        map.serialize_entry(MSG_ZH, &self.zh)?;
        map.end()
    }
}

/// Formats the same values into both languages: `msg!("{n} kills", "{n} 次")`.
#[macro_export]
macro_rules! msg {
    ($en:literal, $zh:literal $(, $($arg:tt)*)?) => {
        $crate::report::Msg { en: format!($en $(, $($arg)*)?), zh: format!($zh $(, $($arg)*)?) }
    };
}

/// One report. `D` is the data of one command.
#[derive(Clone, Debug, Serialize)]
pub struct Report<D> {
    /// `aiops.<command>/<major version>`.
    pub schema: String,
    /// Version of aiops that made the report.
    pub version: String,
    /// RFC 3339: the only value that differs between a live report and its replay.
    pub generated_at: String,
    /// The observed host.
    pub host: HostInfo,
    /// The command's own data.
    pub data: D,
    /// What it means and what to do.
    pub findings: Vec<Finding>,
    /// What was seen, and what was lost.
    pub accounting: Accounting,
}

/// The observed host, as in every report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HostInfo {
    /// `uname -n`.
    pub hostname: String,
    /// `uname -r`.
    pub kernel: String,
    /// Identifies the boot.
    pub boot_id: Option<String>,
    /// MemTotal.
    pub mem_total_kb: Option<u64>,
    /// Bytes.
    pub page_size: Option<u64>,
}

impl From<&crate::model::Host> for HostInfo {
    fn from(host: &crate::model::Host) -> Self {
        let text = |raw: &RawText| raw.lossy().into_owned();
        Self {
            hostname: text(&host.hostname),
            kernel: text(&host.kernel),
            boot_id: host.boot_id.clone(),
            mem_total_kb: host.mem_total_kb,
            page_size: host.page_size,
        }
    }
}

/// How much a finding matters; `--exit-code` turns warning into 10 and critical into 20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Act soon.
    Warning,
    /// Act now.
    Critical,
}

/// What was seen, why it matters, what to do next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Stable name, `oom-cgroup-limit`.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence.
    pub title: Msg,
    /// The figures that prove it.
    pub evidence: Vec<Msg>,
    /// What to do, first things first.
    pub advice: Vec<Msg>,
}

/// How complete the observation was.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Accounting {
    /// Records seen, by kind.
    pub seen: Counts,
    /// Records lost, by ring or cause; empty when nothing was lost.
    pub lost: Counts,
    /// Insertions into full kernel tables.
    pub map_full: u64,
    /// Stacks with more frames than are kept.
    pub stack_truncated: u64,
    /// Stacks that could not be taken.
    pub stack_failed: u64,
    /// Stacks that were overwritten by another with the same hash; 0 where stacks are carried in the records.
    pub stack_collisions: u64,
    /// Frames without a function name.
    pub unresolved_frames: u64,
    /// How events were chosen; OOM records are never sampled.
    pub sampling: Option<Sampling>,
    /// Records that were not understood.
    pub decode_errors: u64,
    /// Processes that could not be read.
    pub skipped_processes: SkippedProcesses,
    /// Hooks that did not run, by name.
    pub missing_hooks: Vec<String>,
    /// Files that could not be read for want of permission, or that were not understood.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
    /// Damage of the recording: lost bytes and blocks; absent for a whole file and for a live report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// Nothing was lost, not understood, or missing.
    pub complete: bool,
}

/// Counts by name.
pub type Counts = std::collections::BTreeMap<String, u64>;

/// How events were chosen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sampling {
    /// none, poisson-bytes.
    pub mode: String,
    /// Mean distance of samples.
    pub mean_bytes: Option<u64>,
    /// Factor that scales counts back.
    pub scale: f64,
}

/// Processes that could not be read.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SkippedProcesses {
    /// Gone between listing and reading.
    pub vanished: u64,
    /// No permission.
    pub denied: u64,
    /// Not understood.
    pub failed: u64,
    /// Kernel threads, which have no memory of their own.
    #[serde(skip_serializing_if = "is_zero")]
    pub kernel_threads: u64,
    /// Ended, but not yet waited for.
    #[serde(skip_serializing_if = "is_zero")]
    pub zombies: u64,
    /// Read, but for their shares: smaps was asked for and refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub denied_smaps: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference over"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a damaged recording lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Blocks that were recovered whole.
    pub blocks_read: u64,
    /// Damaged places.
    pub places: u64,
    /// Bytes that could not be used.
    pub lost_bytes: u64,
    /// The file ends before its index: it was cut off, or is still being written.
    pub truncated: bool,
}
