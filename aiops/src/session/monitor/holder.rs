//! Opening the store where another daemon has it: one that is ending is waited for, one that lives is named.

use std::fs;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use super::files;
use crate::diag;
use crate::model::Host;
use crate::session::store_error;
use crate::store::Recorder;
use crate::store::Store;
use crate::store::StoreError;

/// How long a process that is ending may take: the kernel detaches its hooks before it lets go of its lock.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(50);
/// The process is in its exit (`PF_EXITING` of the flags in /proc/PID/stat).
const EXITING: u64 = 0x4;

/// Opens a store for writing.
///
/// # Errors
/// Another daemon has it, it is another host's, it is not safe, or the system refuses; each with its remedy.
pub(super) fn open(store: &Store, host: &Host) -> anyhow::Result<Recorder> {
    let until = Instant::now() + PATIENCE;
    loop {
        match Recorder::open(store.clone(), host.clone()) {
            Err(StoreError::Busy { .. }) if Instant::now() < until && !lives(store) => {
                thread::sleep(AGAIN);
            }
            opened => return opened.map_err(|error| taken(store, error)),
        }
    }
}

/// The process that says it writes the store.
fn writer(store: &Store) -> Option<u32> {
    files::pid(&store.meta().ok()??.tails)
}

/// Whether who has the store goes on. One that ends in good order takes its name away before its lock.
fn lives(store: &Store) -> bool {
    writer(store).is_some_and(|pid| {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}"));
        let text = |name| read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        match (text("stat"), text("status")) {
            (Ok(stat), Ok(status)) => !is_ending(&stat, &status),
            _ => false,
        }
    })
}

/// Whether a process with these files is ending: a zombie, in its exit, or killed and not there yet.
fn is_ending(stat: &str, status: &str) -> bool {
    let mut fields = stat
        .rsplit_once(") ")
        .map_or("", |(_, rest)| rest)
        .split(' ');
    // Fields 3 and 9.
    let dead = matches!(fields.next(), Some("Z" | "X" | "") | None);
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    let pending = status.lines().any(|line| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0)
    });
    dead || pending || flags.is_some_and(|flags| flags & EXITING != 0)
}

/// An error of the store with its remedy, naming who writes it.
pub(super) fn taken(store: &Store, error: StoreError) -> anyhow::Error {
    if matches!(error, StoreError::Busy { .. })
        && let Some(pid) = writer(store)
    {
        let error = anyhow::Error::new(error).context(format!(
            "{}: process {pid} writes this store already",
            store.folder().display()
        ));
        return diag::hint(
            error,
            "one daemon is enough: `aiops monitor status` shows it; --store DIR names another store",
        );
    }
    store_error(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_ending_is_told_from_who_lives() {
        let stat = |state: &str, flags: &str| format!("7 (a) b) {state} 1 7 7 0 -1 {flags} 0 0");
        let calm = "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n";
        let killed = "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n";
        assert!(!is_ending(&stat("S", "4194560"), calm));
        assert!(is_ending(&stat("S", "4194560"), killed));
        assert!(is_ending(&stat("D", "4194564"), calm), "in its exit");
        assert!(is_ending(&stat("Z", "4194560"), calm));
        assert!(is_ending("", calm));
    }
}
