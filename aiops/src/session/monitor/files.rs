//! Files beside the newest frames: who writes the store, and how it is doing. `monitor status` reads them.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::own;
use crate::report::monitor::MonitorState;
use crate::report::monitor::StoreState;
use crate::store::Store;
use crate::store::StoreError;
use crate::time;

/// Who writes: its process id.
const PID: &str = "monitor.pid";
/// How it is doing, as JSON.
const STATE: &str = "status.json";

/// Writes a file, 0600, whole or not at all.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let tmp = folder.join(format!("tmp-{name}"));
    let _ = fs::remove_file(&tmp);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&tmp)?;
    file.write_all(bytes)?;
    fs::rename(&tmp, folder.join(name))
}

/// Says who writes.
///
/// # Errors
/// The folder takes no file.
pub(super) fn write_pid(folder: &Path) -> io::Result<()> {
    write(folder, PID, format!("{}\n", std::process::id()).as_bytes())
}

/// Says how it is doing.
///
/// # Errors
/// The folder takes no file.
pub(super) fn write_state(folder: &Path, state: &MonitorState) -> io::Result<()> {
    write(folder, STATE, &serde_json::to_vec_pretty(state)?)
}

/// Removes both: nobody writes any more.
pub(super) fn remove(folder: &Path) {
    for name in [PID, STATE] {
        let _ = fs::remove_file(folder.join(name));
    }
}

/// The process that the folder names as the writer, whether it lives or not.
pub(super) fn pid(folder: &Path) -> Option<u32> {
    let text = fs::read_to_string(folder.join(PID)).ok()?;
    text.trim().parse().ok()
}

/// How the writer of a store was doing when it last said so, and whether it is alive.
///
/// # Errors
/// The store cannot be looked at.
pub fn state(store: &Store) -> Result<Option<(MonitorState, bool)>, StoreError> {
    let Some(meta) = store.meta()? else {
        return Ok(None);
    };
    let Ok(bytes) = fs::read(meta.tails.join(STATE)) else {
        return Ok(None);
    };
    let Ok(state) = serde_json::from_slice::<MonitorState>(&bytes) else {
        return Ok(None);
    };
    let here = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let same_boot = here.as_deref().map(str::trim) == state.boot_id.as_deref();
    let started = own::start_ticks(state.own.pid);
    let alive = same_boot && started.is_some() && started == state.start_ticks;
    Ok(Some((state, alive)))
}

/// What a store holds: its segments, its logs, their bytes and range.
///
/// # Errors
/// It cannot be read.
pub fn store_state(store: &Store) -> Result<StoreState, StoreError> {
    let segments = store.segments()?;
    let mut from = segments.iter().map(|segment| segment.from_ms).min();
    let to = segments.iter().map(|segment| segment.to_ms).max();
    let mut bytes: u64 = segments.iter().map(crate::store::Segment::bytes).sum();
    let mut logs = 0;
    let entries = fs::read_dir(store.folder().join("wal"));
    for entry in entries.into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        logs += 1;
        bytes += meta.len();
        // A log's name begins with its first moment.
        let name = entry.file_name();
        let begin = name
            .to_str()
            .and_then(|name| name.split('-').next()?.parse().ok());
        from = from.into_iter().chain(begin).min();
    }
    Ok(StoreState {
        folder: store.folder().display().to_string(),
        from: from.and_then(text),
        to: to.and_then(text),
        bytes,
        segments: segments.len() as u64,
        logs,
    })
}

fn text(ms: i64) -> Option<String> {
    let ns = ms.checked_mul(1_000_000)?;
    time::rfc3339(ns, time::local_offset_s(ns))
}
