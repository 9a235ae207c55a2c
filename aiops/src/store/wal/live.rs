//! Reading a log that is being written: its file and its tail, of one moment.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::fs::flock;

use super::super::error::READ_LOG;
use super::BLOCK;
use super::Recovered;
use super::StoreError;
use super::assemble;
use super::io_error;

/// As [`read_wal`], of files that are open. A writer may sync between the two, and write while we read: what
/// does not fit together is read again.
pub(in crate::store) fn read_open(
    path: &Path,
    log: &File,
    tail: Option<&File>,
) -> Result<Recovered, StoreError> {
    let tail = || {
        tail.and_then(|tail| bytes_of(tail).ok())
            .unwrap_or_default()
    };
    let log_now = || bytes_of(log).map_err(io_error(path, READ_LOG));
    settle(path, log_now, tail, || held(log))
}

/// Reads until a log and its tail are of one moment, or a writer is too quick for us.
pub(super) fn settle(
    path: &Path,
    mut log: impl FnMut() -> Result<Vec<u8>, StoreError>,
    mut tail: impl FnMut() -> Vec<u8>,
    held: impl Fn() -> bool,
) -> Result<Recovered, StoreError> {
    const TRIES: u32 = 5;
    let place = |tail: &[u8]| tail.first_chunk::<8>().copied();
    let mut before = tail();
    let mut tries = 1;
    loop {
        let bytes = log()?;
        let after = tail();
        let moved = place(&before) != place(&after) || after.len() < before.len();
        let found = assemble(path, &bytes, &after);
        let torn = match &found {
            Ok(found) => found.torn && held(),
            // Its header is not written yet.
            Err(_) => bytes.iter().take(BLOCK).all(|byte| *byte == 0),
        };
        if tries >= TRIES || !(moved || torn) {
            return found;
        }
        if torn {
            std::thread::sleep(Duration::from_millis(1 << tries));
        }
        before = after;
        tries += 1;
    }
}

/// All bytes of a file, wherever its other readers stand.
fn bytes_of(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX)];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Whether a writer holds a log.
pub(super) fn held(log: &File) -> bool {
    match flock(log, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = flock(log, FlockOperation::Unlock);
            false
        }
        Err(_) => true,
    }
}
