//! What happened, beside the figures: OOM incidents, findings, what the writer itself did.

use serde::Deserialize;
use serde::Serialize;

use super::table::ParquetError;
use super::table::Table;

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

impl Event {
    /// Those of a group of rows.
    pub(super) fn read(table: &Table, group: usize) -> Result<Vec<Self>, ParquetError> {
        let (times, pid) = (table.numbers(group, "ts")?, table.numbers(group, "pid")?);
        let texts = |name: &str| table.texts(group, name);
        let (kind, id, severity) = (texts("kind")?, texts("id")?, texts("severity")?);
        let (title, cgroup, body) = (texts("title")?, texts("cgroup")?, texts("body")?);
        let text = |column: &[Option<String>], row: usize| column[row].clone().unwrap_or_default();
        let event = |(row, ts_ms): (usize, i64)| Self {
            ts_ms,
            kind: text(&kind, row),
            id: text(&id, row),
            severity: text(&severity, row),
            title: text(&title, row),
            pid: u32::try_from(pid[row]).ok(),
            cgroup: cgroup[row].clone(),
            body: text(&body, row),
        };
        Ok(times.into_iter().enumerate().map(event).collect())
    }
}
