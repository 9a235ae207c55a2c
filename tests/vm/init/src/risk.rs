//! The scenario `risk`: a process that grows slowly below two limits, what `detect oom-risk` foretells of it, and when
//! the kernel kills.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::frames::Frames;
use crate::plane::commands;
use crate::scenario::{cgroup2, write};
use crate::setup::CGROUPS;

/// Of the outer group, which is met first.
const OUTER_MIB: u64 = 160;
const INNER_MIB: u64 = 300;
/// A MiB each time: 3 MiB/s.
const PACE: Duration = Duration::from_millis(333);
/// For the kill, emulated on a busy machine.
const KILL: Duration = Duration::from_secs(180);

/// Ended with the scenario.
struct Own(Child);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(name: &str, role: &str, procs: &str) -> anyhow::Result<Own> {
    std::os::unix::fs::symlink("/init", format!("/{name}"))?;
    let child = Command::new(format!("/{name}"))
        .args([role, procs])
        .spawn()
        .with_context(|| name.to_owned())?;
    Ok(Own(child))
}

/// Samples, asks, and waits for what was foretold.
pub(crate) fn run(frames: &mut Frames) -> anyhow::Result<()> {
    cgroup2("outer", OUTER_MIB)?;
    write(&format!("{CGROUPS}/outer/memory.oom.group"), "1")?;
    write(
        &format!("{CGROUPS}/outer/cgroup.subtree_control"),
        "+memory",
    )?;
    let procs = cgroup2("outer/inner", INNER_MIB)?;
    let mut keeper = start("keeper", "hold", &procs)?;
    let mut leaker = start("leaker", "leak", &procs)?;
    let kept = Command::new("/bin/aiops")
        .args(["--store", "/tmp/store", "monitor", "memory", "--no-bpf"])
        .args(["--interval", "200ms", "--duration", "15s"])
        .stdin(Stdio::null())
        .output()
        .context("cannot start aiops")?;
    let sampled = Instant::now();
    let said = String::from_utf8_lossy(&kept.stderr);
    ensure!(kept.status.success(), "monitor memory: {said}");
    let ask = [
        "--store",
        "/tmp/store",
        "detect",
        "oom-risk",
        "--history",
        "1h",
    ];
    commands(frames, &[("risk", &ask)])?;
    let pids = format!("{} {}", leaker.0.id(), keeper.0.id());
    frames.send("pids", pids.as_bytes())?;
    let status = loop {
        if let Some(status) = leaker.0.try_wait()? {
            break status;
        }
        if sampled.elapsed() > KILL {
            bail!("the leaker was not killed within {KILL:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let real = sampled.elapsed().as_secs_f64();
    ensure!(status.signal() == Some(libc::SIGKILL), "leaker: {status}");
    // Killed with it, or it sleeps for an hour.
    std::thread::sleep(Duration::from_secs(2));
    let together = keeper.0.try_wait()?.and_then(|status| status.signal());
    let together = together == Some(libc::SIGKILL);
    frames.send("real", format!("{real:.3} {together}").as_bytes())?;
    frames.send("facts", b"ran\n")
}

/// The children's side: `leak CGROUP.PROCS` or `hold CGROUP.PROCS`.
pub(crate) fn child(leaks: bool, procs: Option<&String>) -> anyhow::Result<()> {
    let procs = procs.context("expected: CGROUP.PROCS")?;
    fs::write(procs, std::process::id().to_string())?;
    let mut held = vec![vec![1_u8; 1 << 20]];
    if leaks {
        grow(&mut held);
    }
    std::thread::sleep(Duration::from_secs(3600));
    std::hint::black_box(&held);
    Ok(())
}

/// Until it is killed.
fn grow(held: &mut Vec<Vec<u8>>) -> ! {
    let mut next = Instant::now();
    loop {
        held.push(vec![1_u8; 1 << 20]);
        next += PACE;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
