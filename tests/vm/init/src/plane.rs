//! The scenarios without a kill: commands that only read /proc and /sys.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::capture;
use crate::frames::Frames;
use crate::scenario::{bytes, cgroup2, order, write};
use crate::setup::{self, CGROUPS};
use crate::subject::Subject;

const AIOPS: &str = "/bin/aiops";
/// Where the subject's memory is counted.
const GROUP: &str = "/captured";

/// Runs one of them.
pub(crate) fn run(name: &str, frames: &mut Frames) -> anyhow::Result<()> {
    fs::create_dir_all("/dev/shm").context("/dev/shm")?;
    setup::cgroup2()?;
    match name {
        "numa" => commands(frames, &[("processes", &["inspect", "processes"])])?,
        "pressure" => pressure(frames)?,
        "plane" => plane(frames)?,
        "risk" => return crate::risk::run(frames),
        "stalls" => stalls(frames)?,
        _ => {
            let (subject, _plain) = subjects()?;
            let pids = chosen(&subject, _plain.child.id());
            frames.send("tree", &capture::pack(&capture::take(&pids, &[GROUP])))?;
        }
    }
    frames.send("facts", b"ran\n")
}

/// The process with one of everything, in a group with limits, and a plain one outside.
fn subjects() -> anyhow::Result<(Subject, Subject)> {
    let procs = cgroup2(GROUP.trim_start_matches('/'), 64)?;
    write(&format!("{CGROUPS}{GROUP}/memory.high"), &bytes(48))?;
    for name in ["subject", "plain"] {
        std::os::unix::fs::symlink("/init", format!("/{name}"))?;
    }
    let subject = Subject::start("/subject", Some(&procs))?;
    Ok((subject, Subject::start("/plain", None)?))
}

/// Both, the zombie of the first, process 1, and two kernel threads.
fn chosen(subject: &Subject, plain: u32) -> Vec<u32> {
    let mut pids = vec![1, 2, subject.child.id(), subject.zombie, plain];
    pids.extend(kernel_thread("kswapd0"));
    pids
}

fn kernel_thread(name: &str) -> Option<u32> {
    let pids = fs::read_dir("/proc").ok()?;
    let mut pids = pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.find(|pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

/// Runs commands; each one's JSON and exit code are frames of its name.
pub(crate) fn commands(frames: &mut Frames, list: &[(&str, &[&str])]) -> anyhow::Result<()> {
    for (name, words) in list {
        let done = Command::new(AIOPS)
            .args(*words)
            .args(["-o", "json"])
            .stdin(Stdio::null())
            .output()
            .context("cannot start aiops")?;
        frames.send(name, &done.stdout)?;
        let said = format!("{}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
        frames.send(&format!("{name}-stderr"), said.as_bytes())?;
    }
    Ok(())
}

/// A process that grows into its cgroup's limit until it is killed: what it waited for is traced, recorded and
/// replayed; and the hook of swap is attached.
fn stalls(frames: &mut Frames) -> anyhow::Result<()> {
    const RECORDING: &str = "/tmp/stalls.aiops";
    setup::tracefs()?;
    let procs = cgroup2("stalls", 48)?;
    let mut tracer = Command::new(AIOPS)
        .args(["trace", "reclaim", "--duration", "20s"])
        .args(["--record", RECORDING, "-o", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create("/tmp/stalls.stderr")?)
        .spawn()
        .context("cannot start aiops")?;
    let end = Instant::now() + Duration::from_secs(60);
    let attached = || {
        let talk = fs::read_to_string("/tmp/stalls.stderr").unwrap_or_default();
        talk.lines().any(|line| line.starts_with("tracing"))
    };
    while !attached() && tracer.try_wait()?.is_none() {
        if Instant::now() > end {
            bail!("aiops trace reclaim was not attached");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut grower = order("grower", Some(&procs), 0, 0).start()?;
    let killed = grower.wait_killed(Duration::from_secs(40));
    let done = tracer.wait_with_output()?;
    frames.send("live", &done.stdout)?;
    let talk = fs::read_to_string("/tmp/stalls.stderr")?;
    let said = format!("{}\n{talk}", done.status);
    frames.send("live-stderr", said.as_bytes())?;
    killed?;
    frames.send("subject", grower.child.id().to_string().as_bytes())?;
    commands(
        frames,
        &[
            ("replay", &["replay", RECORDING]),
            ("swap", &["trace", "swap", "--duration", "1s"]),
        ],
    )
}

/// Every command once; beside it the files that it read, of a process that no longer moves.
fn plane(frames: &mut Frames) -> anyhow::Result<()> {
    let (subject, _plain) = subjects()?;
    let pid = subject.child.id();
    stop(pid)?;
    let word = pid.to_string();
    let snapshots = ["/tmp/a.db", "/tmp/b.db"];
    commands(
        frames,
        &[
            (
                "collect",
                &[
                    "collect",
                    "memory",
                    "--duration",
                    "0",
                    "--output",
                    snapshots[0],
                ],
            ),
            ("processes", &["inspect", "processes"]),
            ("memory", &["inspect", "memory", "--pid", &word, "--maps"]),
            ("inspect-cache", &["inspect", "cache", "--interval", "0"]),
            ("swap", &["analyze", "swap", "--processes"]),
            ("cache", &["analyze", "cache"]),
            ("health", &["health", "memory"]),
            (
                "collect-2",
                &[
                    "collect",
                    "memory",
                    "--duration",
                    "0",
                    "--output",
                    snapshots[1],
                ],
            ),
            (
                "diff",
                &[
                    "diff",
                    "memory",
                    "--snapshot1",
                    snapshots[0],
                    "--snapshot2",
                    snapshots[1],
                ],
            ),
        ],
    )?;
    frames.send("subject", word.as_bytes())?;
    for (name, path) in [
        ("meminfo", "/proc/meminfo".to_owned()),
        ("status", format!("/proc/{pid}/status")),
        ("rollup", format!("/proc/{pid}/smaps_rollup")),
    ] {
        frames.send(name, &fs::read(&path).with_context(|| path)?)?;
    }
    Ok(())
}

/// Stops it, and waits until it stands.
fn stop(pid: u32) -> anyhow::Result<()> {
    let id = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    rustix::process::kill_process(id, rustix::process::Signal::STOP)?;
    for _ in 0..500 {
        if fs::read_to_string(format!("/proc/{pid}/stat"))?.contains(") T ") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("{pid} does not stop")
}

/// Calm, three steps of more readers that need the same too few pages, and calm again.
fn pressure(frames: &mut Frames) -> anyhow::Result<()> {
    let group = cgroup2("thrash", 192)?;
    let health: &[&str] = &["health", "memory", "--interval", "4s"];
    commands(frames, &[("step0", health)])?;
    std::os::unix::fs::symlink("/init", "/thrash")?;
    for (name, share) in [("step1", "6"), ("step2", "20"), ("step3", "85")] {
        let mut child = Command::new("/thrash")
            .args(["thrash", &group, share])
            .spawn()?;
        // Long enough for the averages of ten seconds.
        std::thread::sleep(Duration::from_secs(14));
        let done = commands(frames, &[(name, health)]);
        let psi = fs::read("/proc/pressure/memory").unwrap_or_default();
        child.kill()?;
        child.wait()?;
        done?;
        frames.send(&format!("{name}-psi"), &psi)?;
    }
    // The averages of ten seconds forget in thirty.
    std::thread::sleep(Duration::from_secs(30));
    commands(frames, &[("step4", health)])
}

/// Bytes that go beyond the limit.
const BEYOND: usize = 256 << 10;
/// Bytes that are held below it.
const HELD: usize = 8 << 20;

/// `thrash CGROUP.PROCS PERCENT`: enters the group, puts memory.high a little above what it holds, and goes
/// beyond it again and again, so that it waits for memory in that share of the time.
pub(crate) fn thrash(args: &[String]) -> anyhow::Result<()> {
    let [procs, percent] = args else {
        bail!("expected: CGROUP.PROCS PERCENT");
    };
    let percent: u32 = percent.parse()?;
    let folder = procs.strip_suffix("/cgroup.procs").context("a cgroup")?;
    write(&format!("{folder}/memory.high"), "max")?;
    write(procs, &std::process::id().to_string())?;
    let mut held = vec![0_u8; HELD];
    touch(&mut held);
    loop {
        let usage = fs::read_to_string(format!("{folder}/memory.current"))?;
        let usage: usize = usage.trim().parse()?;
        write(
            &format!("{folder}/memory.high"),
            &(usage + (32 << 10)).to_string(),
        )?;
        let begin = Instant::now();
        // A mapping of its own each time: above the limit each of its pages is paid for by a wait.
        let mut beyond = Pages::new(BEYOND)?;
        touch(beyond.bytes());
        drop(beyond);
        let waited = begin.elapsed();
        std::thread::sleep(waited * (100 - percent.min(99)) / percent.max(1));
    }
}

fn touch(bytes: &mut [u8]) {
    for at in (0..bytes.len()).step_by(4096) {
        bytes[at] = 1;
    }
    std::hint::black_box(bytes);
}

/// Anonymous memory that the allocator does not keep.
struct Pages(*mut libc::c_void, usize);

impl Pages {
    fn new(len: usize) -> anyhow::Result<Self> {
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, wherever the kernel puts it.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), len, rw, flags, -1, 0) };
        if place == libc::MAP_FAILED {
            bail!("mmap: {}", std::io::Error::last_os_error());
        }
        Ok(Self(place, len))
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is this long, zeroed, and nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.0.cast(), self.1) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and used by nobody any more.
        let _ = unsafe { libc::munmap(self.0, self.1) };
    }
}
