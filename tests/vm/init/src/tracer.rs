//! `aiops trace oom` and `aiops replay`, as a user would start them.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::frames::Frames;

const AIOPS: &str = "/bin/aiops";
const RECORDING: &str = "/tmp/x.aiops";
const LIVE: &str = "/tmp/live.json";
const TALK: &str = "/tmp/live.stderr";
const REPLAYED: &str = "/tmp/replay.json";
const REPLAY_TALK: &str = "/tmp/replay.stderr";
/// Emulated and on a busy machine, attaching takes seconds: this is far beyond.
const ATTACH: Duration = Duration::from_secs(60);
const FINISH: Duration = Duration::from_secs(30);
/// Its own end of the observation, in case no kill is seen: it still prints what it knows.
const DURATION: &str = "60s";

/// A running `aiops trace oom`.
#[derive(Debug)]
pub(crate) struct Tracer {
    child: Child,
    vm_hwm_kb: Option<u64>,
}

impl Tracer {
    /// Starts it for one incident and waits until its hooks are attached.
    pub(crate) fn start(environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        let child = Command::new(AIOPS)
            .args(["trace", "oom", "--count", "1", "--duration", DURATION])
            .args(["--record", RECORDING, "-o", "json"])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(LIVE)?)
            .stderr(File::create(TALK)?)
            .spawn()
            .context("cannot start aiops")?;
        let mut tracer = Self {
            child,
            vm_hwm_kb: None,
        };
        tracer.wait_attached()?;
        Ok(tracer)
    }

    fn wait_attached(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + ATTACH;
        while Instant::now() < end {
            let talk = fs::read_to_string(TALK).unwrap_or_default();
            if talk.lines().any(|line| line.starts_with("tracing")) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("aiops trace oom ended with {status} before it was attached: {talk}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("aiops trace oom was not attached after {ATTACH:?}")
    }

    /// Waits for its report, replays the recording, and sends both.
    pub(crate) fn finish(mut self, frames: &mut Frames) -> anyhow::Result<()> {
        let live = self.wait()?;
        send_file(frames, "live", LIVE)?;
        send_file(frames, "live-stderr", TALK)?;
        let replay = Command::new(AIOPS)
            .args(["replay", RECORDING, "-o", "json"])
            .stdin(Stdio::null())
            .stdout(File::create(REPLAYED)?)
            .stderr(File::create(REPLAY_TALK)?)
            .status()
            .context("cannot start aiops replay")?;
        send_file(frames, "replay", REPLAYED)?;
        send_file(frames, "replay-stderr", REPLAY_TALK)?;
        let size = fs::metadata(RECORDING).map_or(0, |meta| meta.len());
        let hwm = self
            .vm_hwm_kb
            .map_or_else(|| "unknown".to_owned(), |kb| kb.to_string());
        let facts = format!(
            "live_exit {live}\nreplay_exit {replay}\nvm_hwm_kb {hwm}\nrecording_bytes {size}\n"
        );
        frames.send("facts", facts.as_bytes())
    }

    /// It ends by itself after one incident; one that does not is asked, then made, to.
    fn wait(&mut self) -> anyhow::Result<String> {
        let end = Instant::now() + FINISH;
        let mut asked = false;
        while Instant::now() < end + FINISH {
            self.vm_hwm_kb = hwm_kb(self.child.id()).or(self.vm_hwm_kb);
            if let Some(status) = self.child.try_wait()? {
                let note = if asked { " only after SIGINT" } else { "" };
                return Ok(format!("{status}{note}"));
            }
            if !asked && Instant::now() > end {
                asked = true;
                if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.child.id())?) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
                }
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        let _ = self.child.kill();
        Ok("did not end, even when asked".to_owned())
    }
}

/// Peak resident memory of a process.
fn hwm_kb(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn send_file(frames: &mut Frames, name: &str, path: &str) -> anyhow::Result<()> {
    frames.send(name, &fs::read(path).unwrap_or_default())
}
