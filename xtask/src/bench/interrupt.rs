//! Ctrl-C and SIGTERM during a measurement: children are ended and folders removed first.
//!
//! The signal only sets a mark. Loops that wait ask [`check`], fail, and what they hold cleans up as it is dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

static TOLD: AtomicBool = AtomicBool::new(false);

extern "C" fn told(_signal: libc::c_int) {
    TOLD.store(true, Ordering::Relaxed);
}

/// From now on these signals only set the mark.
pub(crate) fn install() {
    let handler: extern "C" fn(libc::c_int) = told;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler stores into an atomic and does nothing else.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    }
}

/// Fails once the chore was told to end.
pub(crate) fn check() -> anyhow::Result<()> {
    ensure!(!TOLD.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

/// Sleeps, unless the chore is told to end.
pub(crate) fn sleep(span: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + span;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(200)));
    }
}
