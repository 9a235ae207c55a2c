//! What works on this host: the data of `doctor`.

use serde::Serialize;

use super::Msg;

/// Data of `aiops.doctor/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DoctorData {
    /// Every check, in order of importance.
    pub checks: Vec<Check>,
    /// The commands that work here, and how well.
    pub commands: Vec<CommandState>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Works.
    Ok,
    /// Something is lost without it; `fallback` says what stands in.
    Degraded,
    /// Does not work.
    Failed,
    /// Not there on this kernel or host, and not needed.
    Absent,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Stable name: `btf`, `hook:oom/mark_victim`.
    pub id: String,
    /// How it came out.
    pub state: CheckState,
    /// What it is for.
    pub what: Msg,
    /// What was seen: a figure, a path, an error.
    pub detail: Option<String>,
    /// What stands in for it.
    pub fallback: Option<Msg>,
    /// What is lost without it.
    pub lost: Option<Msg>,
    /// What to do.
    pub remedy: Option<Msg>,
    /// Privilege that it needs.
    pub privilege: Option<&'static str>,
    /// Oldest kernel on which it was seen.
    pub since: Option<&'static str>,
}

/// A command on this host.
#[derive(Clone, Debug, Serialize)]
pub struct CommandState {
    /// `trace oom`.
    pub command: &'static str,
    /// How well it works.
    pub state: CheckState,
    /// Why not wholly.
    pub reason: Option<Msg>,
}
