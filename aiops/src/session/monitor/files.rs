//! Files beside the newest frames: who writes the store, and how it is doing. `monitor status` reads them.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use super::own;
use crate::report::monitor::MonitorState;
use crate::report::monitor::StoreState;
use crate::store;
use crate::store::Entry;
use crate::store::Store;
use crate::store::StoreError;
use crate::time;

/// Who writes: its process id.
const PID: &str = "monitor.pid";
/// How it is doing, as JSON.
const STATE: &str = "status.json";
/// Between two times that the files of the store are counted: a month of it is hundreds of them.
const COUNT_EVERY: Duration = Duration::from_secs(60);

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
    let bytes = store::read(&folder.join(PID)).ok()?;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
}

/// How the writer of a store was doing when it last said so, and whether it is alive.
///
/// # Errors
/// The store cannot be looked at, or what the daemon said is unreadable: that is not "no daemon".
pub fn state(store: &Store) -> Result<Option<(MonitorState, bool)>, StoreError> {
    if store.meta()?.is_none() {
        return Ok(None);
    }
    let Some(path) = store.tails().map(|tails| tails.join(STATE)) else {
        return Ok(None);
    };
    let bytes = match store::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let what = "read how the daemon is doing";
            return Err(StoreError::Io { path, what, source });
        }
    };
    let state: MonitorState =
        serde_json::from_slice(&bytes).map_err(|error| StoreError::Unsafe {
            remedy: format!(
                "a daemon that runs writes it again within a minute; else remove it: rm {}",
                path.display()
            ),
            why: format!("damaged, or of another version: {error}"),
            path,
        })?;
    let here = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let same_boot = here.as_deref().map(str::trim) == state.boot_id.as_deref();
    let started = own::start_ticks(state.own.pid);
    let alive = same_boot && started.is_some() && started == state.start_ticks;
    Ok(Some((state, alive)))
}

/// Bytes of a store as of the last minute. Only sizes of files are asked for: nothing is opened.
#[derive(Debug, Default)]
pub(super) struct StoreBytes {
    counted: Option<Instant>,
    bytes: Option<u64>,
}

impl StoreBytes {
    /// Counts again when a minute is over; `None`: it cannot be read.
    pub(super) fn at(&mut self, store: &Store, now: Instant) -> Option<u64> {
        let due = self
            .counted
            .is_none_or(|at| now.saturating_duration_since(at) >= COUNT_EVERY);
        if due {
            self.counted = Some(now);
            self.bytes = store.bytes().ok();
        }
        self.bytes
    }
}

/// What a store holds: its segments, its logs, its bytes and range. The daemon that writes it, if one does, knows
/// the last moment; else the logs are read for it.
///
/// # Errors
/// It cannot be read.
pub fn store_state(store: &Store, writer: Option<&MonitorState>) -> Result<StoreState, StoreError> {
    let inventory = store.inventory()?;
    let segments = inventory.segments.iter().map(|(segment, _)| segment);
    let (from, mut to) = segments.fold((None::<i64>, None::<i64>), |(from, to), segment| {
        (
            from.into_iter().chain([segment.from_ms]).min(),
            to.max(Some(segment.to_ms)),
        )
    });
    // A log's name begins with its first moment.
    let begins = inventory.logs.iter().filter_map(|log| {
        let name = log.path.file_name()?.to_str()?;
        name.split('-').next()?.parse::<i64>().ok()
    });
    let from = from.into_iter().chain(begins).min();
    let last = writer.and_then(|state| state.last_tick_at.clone());
    if last.is_none() {
        store.fresh(|entry| {
            if let Entry::Tick(tick) = entry {
                to = to.max(Some(tick.clock.real_ns.div_euclid(1_000_000)));
            }
        })?;
    }
    Ok(StoreState {
        folder: store.folder().display().to_string(),
        from: from.and_then(text),
        to: last.or_else(|| to.and_then(text)),
        bytes: inventory.bytes,
        segments: inventory.segments.len() as u64,
        logs: inventory.logs.len() as u64,
    })
}

fn text(ms: i64) -> Option<String> {
    let ns = ms.checked_mul(1_000_000)?;
    time::rfc3339(ns, time::local_offset_s(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_once_a_minute_and_nothing_is_opened() {
        let folder = std::env::temp_dir().join(format!("aiops-bytes-{}", std::process::id()));
        let segment = folder.join("segments/0-1-x");
        fs::create_dir_all(&segment).unwrap();
        // Whoever opened this would wait for a writer.
        let pipe = segment.join("system.parquet");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        fs::write(segment.join("process.parquet"), [0; 100]).unwrap();
        let store = Store::at(&folder);
        let mut bytes = StoreBytes::default();
        let begin = Instant::now();
        let first = bytes.at(&store, begin);
        fs::write(folder.join("more"), [0; 11]).unwrap();
        let soon = bytes.at(&store, begin + COUNT_EVERY / 2);
        let later = bytes.at(&store, begin + COUNT_EVERY);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((first, soon, later), (Some(100), Some(100), Some(111)),);
    }
}
