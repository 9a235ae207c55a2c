//! What happened, beside the figures: OOM incidents, findings, what the writer itself did.

use serde::Deserialize;
use serde::Serialize;

/// One thing that happened. Its body is the report's own JSON: the store does not look into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, ms since 1970 UTC.
    pub ts_ms: i64,
    /// `oom` (body: an incident of docs/json.md), `finding` (body: a finding), `monitor` (start, stop, gap of the
    /// writer).
    pub kind: String,
    /// Id of the incident or the finding.
    pub id: String,
    /// info, warning, critical.
    pub severity: String,
    /// One line of English.
    pub title: String,
    /// Whom it is about, where that is one process.
    pub pid: Option<u32>,
    /// Memory cgroup that it is about.
    pub cgroup: Option<String>,
    /// JSON, whole.
    pub body: String,
}
