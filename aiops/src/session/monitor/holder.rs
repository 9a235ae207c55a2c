//! Opening the store where another daemon has it: one that is ending is waited for, one that lives is named.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::pin::pin;
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

/// Opens a store for writing; `end` ends the waiting.
///
/// # Errors
/// Another daemon has it, it is another host's, it is not safe, or the system refuses; each with its remedy.
pub(super) async fn open(
    store: &Store,
    host: &Host,
    end: impl Future<Output = ()>,
) -> anyhow::Result<Recorder> {
    open_within(store, host, PATIENCE, end).await
}

async fn open_within(
    store: &Store,
    host: &Host,
    patience: Duration,
    end: impl Future<Output = ()>,
) -> anyhow::Result<Recorder> {
    let until = Instant::now() + patience;
    let mut end = pin!(end);
    let mut ended = false;
    loop {
        match Recorder::open(store.clone(), host.clone()) {
            Err(StoreError::Busy { .. }) if !ended && Instant::now() < until && !lives(store) => {
                tokio::select! {
                    () = &mut end => ended = true,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
            opened => return opened.map_err(|error| taken(store, error)),
        }
    }
}

/// The process that says it writes the store, and does.
fn writer(store: &Store) -> Option<u32> {
    let pid = files::pid(&store.meta().ok()??.tails)?;
    holds(store, pid).then_some(pid)
}

/// Whether a process has the store's lock open: after a crash its number may be another one's. Where the system does
/// not let us look, it is believed.
fn holds(store: &Store, pid: u32) -> bool {
    let Ok(lock) = fs::metadata(store.lock()) else {
        return false;
    };
    match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries.flatten().any(|entry| {
            let file = fs::metadata(entry.path());
            file.is_ok_and(|file| (file.dev(), file.ino()) == (lock.dev(), lock.ino()))
        }),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
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
    use crate::testing::Folder;

    #[test]
    fn only_who_has_the_lock_is_named_and_a_signal_ends_the_waiting() {
        let folder = Folder::new("holder");
        let tails = folder.file("tails");
        let store = Store::at(&folder.file("store")).with_tails(&tails);
        let _recorder = Recorder::open(store.clone(), Host::default()).unwrap();
        files::write_pid(&tails).unwrap();
        assert_eq!(writer(&store), Some(std::process::id()));
        let mut other = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        fs::write(tails.join("monitor.pid"), other.id().to_string()).unwrap();
        let named = writer(&store);
        // Without its end this would wait for an hour.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let hour = Duration::from_secs(3600);
        let end = std::future::ready(());
        let opened = runtime.block_on(open_within(&store, &Host::default(), hour, end));
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(named, None);
        let error = opened.err().unwrap();
        assert!(!format!("{error:#}").contains("process"), "{error:#}");
    }

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
