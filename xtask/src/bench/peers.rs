//! The same kills seen by others' tools, where they run at all.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::load::{group, kill_one};
use super::{Bench, Table, tracer};

/// A tool that prints a line per kill.
struct Peer {
    name: &'static str,
    program: &'static str,
    args: &'static [&'static str],
}

/// bpftrace's own oomkill.bt, its one probe; bcc's oomkill under Debian's name.
const PEERS: &[Peer] = &[
    Peer {
        name: "bpftrace (oomkill.bt's probe)",
        program: "bpftrace",
        args: &[
            "-e",
            "kprobe:oom_kill_process { printf(\"Triggered by PID %d\\n\", pid); }",
        ],
    },
    Peer {
        name: "bcc oomkill",
        program: "oomkill-bpfcc",
        args: &[],
    },
];

const KILLS: usize = 20;
/// bcc compiles its program first.
const START: Duration = Duration::from_secs(10);

/// Kills caught and memory used by each peer; why not, where it cannot run.
pub(super) fn peers(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    for peer in PEERS {
        let figure = match one(bench, peer) {
            Ok(figure) => figure,
            Err(error) => format!("not run: {error:#}"),
        };
        table.figure(peer.name, figure);
    }
    Ok(())
}

fn one(bench: &Bench, peer: &Peer) -> anyhow::Result<String> {
    let out = bench.path("peer.out");
    let talk = bench.path("peer.err");
    let child = Command::new(peer.program)
        .args(peer.args)
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&talk)?)
        .spawn()
        .map_err(|error| anyhow::anyhow!("{}: {error}", peer.program))?;
    let mut running = Running(child);
    std::thread::sleep(START);
    if let Some(status) = running.0.try_wait()? {
        let talk = fs::read_to_string(&talk).unwrap_or_default();
        let last = talk.lines().last().unwrap_or_default();
        anyhow::bail!("{} ended with {status}: {last}", peer.program);
    }
    let group = group("peer")?;
    for _ in 0..KILLS {
        kill_one(&group)?;
    }
    std::thread::sleep(Duration::from_secs(1));
    let rss = tracer::rss_kb(running.0.id()).unwrap_or(0);
    running.stop();
    let text = fs::read_to_string(&out).unwrap_or_default();
    let caught = text.matches("Triggered by").count();
    Ok(format!("{caught} of {KILLS} kills, RSS {rss} kB"))
}

/// A peer that does not outlive its measurement.
struct Running(Child);

impl Running {
    /// Ctrl-C, so that it prints what it holds back.
    fn stop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok();
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
