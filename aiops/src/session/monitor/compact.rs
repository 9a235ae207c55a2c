//! Segments are made by a child: what Parquet needs for a moment never counts as the daemon's memory.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// After a run that failed: somebody else's `store compact` may hold the lock, or the disk be full.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(300);

/// The child, one at a time.
#[derive(Debug, Default)]
pub(super) struct Compactor {
    running: Option<Child>,
    /// It is to run again: something was finished while it ran.
    again: bool,
    /// The last run failed, and this is when the next one is tried.
    retry: Option<Instant>,
}

impl Compactor {
    /// Asks for a run; one that is going is followed by another.
    pub(super) fn ask(&mut self) {
        self.again = true;
    }

    /// Looks after the child, and starts the one that was asked for or that is tried again. How a run ended, when
    /// one did; what went wrong in one line.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        start: impl FnOnce() -> io::Result<Child>,
    ) -> Option<Result<(), String>> {
        let mut news = None;
        if let Some(child) = &mut self.running {
            news = Some(match child.try_wait() {
                Ok(None) => return None,
                Ok(Some(status)) if status.success() => Ok(()),
                Ok(Some(status)) => {
                    let signal = status.signal().map(|signal| format!("signal {signal}"));
                    let why = signal.unwrap_or_else(|| status.to_string());
                    Err(format!("`aiops store compact` failed ({why})"))
                }
                Err(error) => Err(format!("`aiops store compact` was lost: {error}")),
            });
            self.running = None;
        }
        let failed = matches!(news, Some(Err(_)));
        if failed {
            self.retry = Some(now + RETRY_AFTER);
        }
        let due = self.retry.is_some_and(|at| now >= at);
        if due || (self.again && !failed) {
            (self.again, self.retry) = (false, None);
            match start() {
                Ok(child) => self.running = Some(child),
                Err(error) => {
                    self.retry = Some(now + RETRY_AFTER);
                    news = Some(Err(format!("cannot start `aiops store compact`: {error}")));
                }
            }
        }
        news
    }

    /// Ends a child that is running: what it published stays, and the next start goes on.
    pub(super) fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let pid = i32::try_from(child.id()).ok();
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                // One that has just ended needs no signal.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let _ = child.wait();
        }
    }
}

/// Starts it.
///
/// # Errors
/// The system refuses.
pub(super) fn spawn(store: &Path, keep: &str, most: Option<&str>) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["-q", "--store"]).arg(store);
    command.args(["store", "compact", "--keep", keep]);
    if let Some(most) = most {
        command.args(["--max-size", most]);
    }
    let child = command
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    // The daemon must outlive an OOM; its child may go first. Where this is refused it is as safe as we are.
    let _ = fs::write(format!("/proc/{}/oom_score_adj", child.id()), "500");
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(compactor: &mut Compactor, now: Instant) -> Result<(), String> {
        loop {
            if let Some(news) = compactor.poll(now, || unreachable!("none is due")) {
                return news;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_failed_run_is_tried_again_and_only_success_is_good_news() {
        let mut compactor = Compactor::default();
        let begin = Instant::now();
        assert_eq!(
            compactor.poll(begin, || unreachable!()),
            None,
            "none was asked for"
        );
        compactor.ask();
        assert_eq!(
            compactor.poll(begin, || Command::new("false").spawn()),
            None
        );
        let error = ended(&mut compactor, begin).unwrap_err();
        assert!(error.contains("exit status: 1"), "{error}");
        let soon = begin + RETRY_AFTER / 2;
        assert_eq!(
            compactor.poll(soon, || unreachable!()),
            None,
            "nothing is news"
        );
        let later = begin + RETRY_AFTER;
        assert_eq!(compactor.poll(later, || Command::new("true").spawn()), None);
        assert_eq!(ended(&mut compactor, later), Ok(()));
        let idle = later + RETRY_AFTER;
        assert_eq!(
            compactor.poll(idle, || unreachable!()),
            None,
            "none is left to do"
        );
        compactor.ask();
        let refused = compactor.poll(idle, || Err(io::ErrorKind::OutOfMemory.into()));
        assert!(refused.is_some_and(|news| news.is_err()));
        let again = idle + RETRY_AFTER;
        assert_eq!(compactor.poll(again, || Command::new("true").spawn()), None);
        assert_eq!(ended(&mut compactor, again), Ok(()));
    }
}
