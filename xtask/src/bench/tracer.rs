//! A running `aiops trace oom`, and what its report says.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Bench;

const ATTACH: Duration = Duration::from_secs(60);
/// A storm's report is large, and its symbols are resolved after the fact.
const FINISH: Duration = Duration::from_secs(120);

/// The tracer; killed when dropped.
#[derive(Debug)]
pub(super) struct Tracer {
    child: Child,
    out: PathBuf,
    talk: PathBuf,
    /// The recording that it writes.
    pub recording: PathBuf,
}

impl Tracer {
    /// Starts it and waits until its hooks are attached.
    pub(super) fn start(bench: &Bench, name: &str) -> anyhow::Result<Self> {
        Self::start_recording(bench, name, bench.path(&format!("{name}.aiops")))
    }

    /// The same, with its recording elsewhere.
    pub(super) fn start_recording(
        bench: &Bench,
        name: &str,
        recording: PathBuf,
    ) -> anyhow::Result<Self> {
        let out = bench.path(&format!("{name}.json"));
        let talk = bench.path(&format!("{name}.stderr"));
        let child = Command::new(&bench.aiops)
            .args(["trace", "oom", "-o", "json", "--record"])
            .arg(&recording)
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&talk)?)
            .spawn()
            .with_context(|| format!("cannot start {}", bench.aiops.display()))?;
        let mut tracer = Self {
            child,
            out,
            talk,
            recording,
        };
        tracer.wait_attached()?;
        Ok(tracer)
    }

    fn wait_attached(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + ATTACH;
        while Instant::now() < end {
            if self.talk().lines().any(|line| line.starts_with("tracing")) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "aiops trace oom ended with {status}: {}",
                    self.talk().trim()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("aiops trace oom was not attached after {ATTACH:?}")
    }

    fn talk(&self) -> String {
        fs::read_to_string(&self.talk).unwrap_or_default()
    }

    /// Resident memory, KiB.
    pub(super) fn rss_kb(&self) -> Option<u64> {
        rss_kb(self.child.id())
    }

    /// CPU time so far, in clock ticks.
    pub(super) fn cpu_ticks(&self) -> anyhow::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name may hold blanks: the fields after it are counted from its closing bracket.
        let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let tick = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u64>().ok())
        };
        // utime and stime: fields 14 and 15 of proc_pid_stat(5).
        Ok(tick(11).context("no utime")? + tick(12).context("no stime")?)
    }

    /// Asks it to end, and reads its report.
    pub(super) fn finish(mut self) -> anyhow::Result<Value> {
        let status = self.end(rustix::process::Signal::INT)?;
        if !status.success() {
            bail!(
                "aiops trace oom ended with {status}: {}",
                self.talk().trim()
            );
        }
        read_json(&self.out)
    }

    /// The same, when it may have something to complain about: its report counts, not its exit code.
    pub(super) fn finish_complaining(mut self) -> anyhow::Result<Value> {
        self.end(rustix::process::Signal::INT)?;
        read_json(&self.out).with_context(|| self.talk().trim().to_owned())
    }

    /// Sends a signal and waits for the end.
    pub(super) fn end(&mut self, signal: rustix::process::Signal) -> anyhow::Result<ExitStatus> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id())?);
        rustix::process::kill_process(pid.context("no process id")?, signal)?;
        let end = Instant::now() + FINISH;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("aiops trace oom did not end within {FINISH:?}")
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of a process, KiB.
pub(super) fn rss_kb(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    let bytes = fs::read(path)?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON", path.display()))
}

/// The report of a recording.
pub(super) fn replay(bench: &Bench, recording: &Path) -> anyhow::Result<Value> {
    let output = Command::new(&bench.aiops)
        .arg("replay")
        .arg(recording)
        .args(["-o", "json"])
        .output()?;
    if !output.status.success() {
        let talk = String::from_utf8_lossy(&output.stderr);
        bail!("aiops replay ended with {}: {}", output.status, talk.trim());
    }
    serde_json::from_slice(&output.stdout).context("the replay is no JSON")
}

/// Process ids of all captured kills.
pub(super) fn captured(report: &Value) -> BTreeSet<u32> {
    incidents(report)
        .filter_map(|incident| incident["kills"].as_array())
        .flatten()
        .filter_map(|kill| u32::try_from(kill["pid"].as_u64()?).ok())
        .collect()
}

/// Incidents of a report.
pub(super) fn incidents(report: &Value) -> impl Iterator<Item = &Value> {
    report["data"]["incidents"].as_array().into_iter().flatten()
}

/// Records lost, over all rings and causes.
pub(super) fn lost(report: &Value) -> anyhow::Result<u64> {
    let lost = report["accounting"]["lost"]
        .as_object()
        .context("no accounting.lost")?;
    Ok(lost.values().filter_map(Value::as_u64).sum())
}
