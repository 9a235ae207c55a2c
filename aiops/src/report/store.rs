//! The history itself: what it holds, what is damaged, what upkeep did.

use serde::Serialize;

/// Data of `store info`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InfoData {
    /// The folder.
    pub path: String,
    /// Version of its layout; `null`: it does not say.
    pub layout: Option<u32>,
    /// The host that writes it.
    pub hostname: Option<String>,
    /// That host's /etc/machine-id.
    pub machine_id: Option<String>,
    /// Where frames stand that are not durable yet.
    pub tails: Option<String>,
    /// Somebody writes it now.
    pub written_now: bool,
    /// First sample, RFC 3339.
    pub from: Option<String>,
    /// Last sample.
    pub to: Option<String>,
    /// Whole segments.
    pub segments: Part,
    /// Logs that are in no segment yet.
    pub logs: Part,
    /// Samples of the host.
    pub ticks: u64,
    /// Samples of processes.
    pub process_samples: u64,
    /// Events.
    pub events: u64,
    /// Bytes of segments for each sample of a process in them.
    pub bytes_per_process_sample: Option<f64>,
    /// Bytes by kind: files of one name, of all segments; `wal`; `damaged`; the rest.
    pub kinds: Vec<Kind>,
    /// Bytes of the whole folder.
    pub bytes: u64,
}

/// Files of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Part {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Bytes of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// Name of the table, `wal`, `damaged`, `other`.
    pub name: String,
    /// Files.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows of a table.
    pub rows: Option<u64>,
}

/// Data of `store verify`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyData {
    /// The folder.
    pub path: String,
    /// Segments that were read in full.
    pub segments: u64,
    /// Logs that were read in full.
    pub logs: u64,
    /// Rows that were read.
    pub rows: u64,
    /// Frames of logs that were read.
    pub frames: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong.
    pub damages: Vec<DamageRow>,
}

/// Something that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DamageRow {
    /// segment, sums, log, meta.
    pub what: &'static str,
    /// The file or folder.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Bytes of a log that made no sense.
    pub lost_bytes: Option<u64>,
    /// Samples of a log that cannot be read.
    pub lost_ticks: Option<u64>,
    /// Events of a log that cannot be read.
    pub lost_events: Option<u64>,
    /// First sample that it concerns, RFC 3339.
    pub from: Option<String>,
    /// Last sample.
    pub to: Option<String>,
}

/// Data of `store compact`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CompactData {
    /// The folder.
    pub path: String,
    /// Before.
    pub before: Whole,
    /// After.
    pub after: Whole,
    /// Segments that retention removed, the oldest ones.
    pub removed_segments: u64,
    /// What could not be read of finished logs.
    pub damages: Vec<DamageRow>,
}

/// Segments and logs of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Whole {
    /// Segments.
    pub segments: Part,
    /// Logs.
    pub logs: Part,
}

/// Data of `store repair`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RepairData {
    /// The folder.
    pub path: String,
    /// What was done, one for each damaged part.
    pub repairs: Vec<RepairRow>,
}

/// What was done about a damaged part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RepairRow {
    /// segment, sums, log, meta.
    pub what: &'static str,
    /// The part.
    pub path: String,
    /// Why.
    pub reason: String,
    /// Where it stands now; `null`: it was not moved.
    pub moved_to: Option<String>,
    /// Samples of it that were saved.
    pub saved_ticks: Option<u64>,
    /// Events of it that were saved.
    pub saved_events: Option<u64>,
}
