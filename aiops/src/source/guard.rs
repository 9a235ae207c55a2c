//! The tracer's own survival: it must outlive the OOM that it records.

use std::fs;

use rustix::mm::MlockAllFlags;

/// Most protected first. A container without CAP_SYS_RESOURCE may raise the value but not lower it.
const ADJUSTMENTS: [&str; 3] = ["-1000", "-999", "-500"];

/// Protects this process from the OOM killer and its memory from reclaim; says what could not be had.
#[must_use]
pub fn protect() -> Vec<String> {
    let mut notes = Vec::new();
    let set = ADJUSTMENTS
        .iter()
        .any(|value| fs::write("/proc/self/oom_score_adj", value).is_ok());
    if !set {
        notes.push(
            "oom_score_adj cannot be lowered (CAP_SYS_RESOURCE): the tracer may be killed too"
                .to_owned(),
        );
    }
    // ONFAULT locks what is used, not the whole binary.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if rustix::mm::mlockall(flags).is_err() {
        notes.push(
            "memory cannot be locked (RLIMIT_MEMLOCK): reading events may stall under pressure"
                .to_owned(),
        );
    }
    notes
}
