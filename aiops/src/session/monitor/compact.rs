//! Segments are made by a child: what Parquet needs for a moment never counts as the daemon's memory.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// The child, one at a time.
#[derive(Debug, Default)]
pub(super) struct Compactor {
    running: Option<Child>,
    /// It is to run again: something was finished while it ran.
    again: bool,
}

impl Compactor {
    /// Asks for a run; one that is going is followed by another.
    pub(super) fn ask(&mut self) {
        self.again = true;
    }

    /// Looks after the child and starts the one that was asked for; what went wrong, in one line.
    ///
    /// # Errors
    /// The child cannot be started, or failed.
    pub(super) fn poll(
        &mut self,
        store: &Path,
        keep: &str,
        most: Option<&str>,
    ) -> Result<(), String> {
        let mut outcome = Ok(());
        if let Some(child) = &mut self.running {
            match child.try_wait() {
                Ok(None) => return Ok(()),
                Ok(Some(status)) if status.success() => {}
                Ok(Some(status)) => {
                    let signal = status.signal().map(|signal| format!("signal {signal}"));
                    let why = signal.unwrap_or_else(|| status.to_string());
                    outcome = Err(format!("`aiops store compact` failed ({why})"));
                }
                Err(error) => outcome = Err(format!("`aiops store compact` was lost: {error}")),
            }
            self.running = None;
        }
        if std::mem::take(&mut self.again) {
            match spawn(store, keep, most) {
                Ok(child) => self.running = Some(child),
                Err(error) => outcome = Err(format!("cannot start `aiops store compact`: {error}")),
            }
        }
        outcome
    }

    /// Whether a child is running.
    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
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

fn spawn(store: &Path, keep: &str, most: Option<&str>) -> std::io::Result<Child> {
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
