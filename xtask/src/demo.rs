//! `cargo xtask demo`: the main job in one command. A process grows in a memory cgroup of its own until
//! the kernel kills it; `aiops trace oom` captures that live and records it; the recording is replayed,
//! and both reports must be the same.

mod compare;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::oomlab::Group;
use crate::util;
use compare::compare;

/// What the group may use, MiB.
const LIMIT_MIB: u64 = 64;
/// One step of growth, MiB, and the pause behind it: about 20 s to the limit.
const STEP_MIB: u64 = 2;
const PAUSE: Duration = Duration::from_millis(640);
/// Where growth ends by itself, should no limit hold.
const MOST_MIB: u64 = 2 * LIMIT_MIB;
/// Longest wait for the hooks, for the kill and for the report behind it.
const HOOKS: Duration = Duration::from_secs(60);
const KILL: Duration = Duration::from_secs(120);
const REPORT: Duration = Duration::from_secs(30);

/// Set by Ctrl-C and by SIGTERM, so that the group is removed before we end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The chore.
pub(crate) fn run(args: &[String]) -> Result<()> {
    util::no_args(args)?;
    if !util::is_root() {
        bail!(
            "the demo makes a memory cgroup and loads BPF programs, so it needs root: \
             sudo -E env PATH=\"$PATH\" cargo xtask demo"
        );
    }
    catch_signals();
    eprintln!("1/5 building aiops");
    let aiops = util::build("aiops", "ci")?;
    let folder = util::target_dir()?.join("demo");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let recording = folder.join("demo.aiops");
    remove_file(&recording)?;

    eprintln!("2/5 making a memory cgroup with a limit of {LIMIT_MIB} MiB");
    let group = Group::new("demo", LIMIT_MIB << 20)?;
    eprintln!("3/5 tracing, recording to {}", shown(&recording));
    let mut tracer = Tracer::start(&aiops, &recording)?;
    eprintln!(
        "4/5 growing by {STEP_MIB} MiB every {} ms until the kernel kills",
        PAUSE.as_millis()
    );
    grow_until_killed(&group, &mut tracer)?;
    let live = tracer.report()?;
    drop(group);

    eprintln!("5/5 replaying {}\n", shown(&recording));
    util::run(Command::new(&aiops).arg("replay").arg(&recording))?;
    let mut replay = Command::new(&aiops);
    let replayed = util::output(replay.arg("replay").arg(&recording).args(["-o", "json"]))?;
    keep(&folder.join("live.json"), &live)?;
    keep(&folder.join("replay.json"), &replayed)?;
    let same = compare(&live, &replayed)?;
    println!("\nlive report == replay: identical ({same} bytes)");
    Ok(())
}

/// `xtask grow STEP_MIB PAUSE_MS MOST_MIB CGROUP_PROCS`: enters a cgroup by writing into its list of
/// processes, then allocates and touches memory step by step. Ends by itself only when it is not killed.
pub(crate) fn grow(args: &[String]) -> Result<()> {
    let [step, pause, most, procs] = args else {
        bail!("grow is started by the demo");
    };
    let (step, most): (u64, u64) = (step.parse()?, most.parse()?);
    let pause = Duration::from_millis(pause.parse()?);
    // Should the demo end first, whatever the reason, so do we.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    std::fs::write(procs, std::process::id().to_string()).with_context(|| procs.clone())?;
    let mut held: Vec<Vec<u8>> = Vec::new();
    let len = usize::try_from(step << 20)?;
    while (held.len() as u64) < most / step {
        // Not zeroes: those need not be backed by memory before they are written.
        held.push(std::hint::black_box(vec![1_u8; len]));
        std::thread::sleep(pause);
    }
    bail!("grew to {most} MiB without being killed");
}

/// Starts the growing process and waits until it is killed.
fn grow_until_killed(group: &Group, tracer: &mut Tracer) -> Result<()> {
    let this = std::env::current_exe().context("our own program")?;
    let mut command = Command::new(this);
    command
        .arg("grow")
        .args([STEP_MIB, u64::try_from(PAUSE.as_millis())?, MOST_MIB].map(|n| n.to_string()))
        .arg(group.procs());
    let child = command
        .spawn()
        .context("cannot start the growing process")?;
    let mut grower = Ended(child);
    let since = Instant::now();
    loop {
        if let Some(status) = grower.0.try_wait()? {
            use std::os::unix::process::ExitStatusExt as _;
            ensure!(
                status.signal() == Some(9),
                "the growing process ended with {status}"
            );
            eprintln!("    killed after {:.1} s", since.elapsed().as_secs_f64());
            return Ok(());
        }
        ensure!(since.elapsed() < KILL, "nothing was killed within {KILL:?}");
        tracer.must_run()?;
        pause()?;
    }
}

/// `aiops trace oom` and the threads that read what it says.
struct Tracer {
    child: Ended,
    /// One message when it says that every hook is attached.
    attached: mpsc::Receiver<()>,
    stdout: Option<JoinHandle<std::io::Result<String>>>,
}

impl Tracer {
    /// Starts it and waits until it traces.
    fn start(aiops: &Path, recording: &Path) -> Result<Self> {
        let mut command = Command::new(aiops);
        command
            .args(["trace", "oom", "--count", "1", "--record"])
            .arg(recording)
            .args(["-o", "json"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start aiops trace oom")?;
        let stderr = child.stderr.take().context("its stderr is a pipe")?;
        let mut stdout = child.stdout.take().context("its stdout is a pipe")?;
        let (send, attached) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("    {line}");
                if line.starts_with("tracing") {
                    // Nobody may wait for it any more; what follows is still shown.
                    send.send(()).ok();
                }
            }
        });
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let mut tracer = Self {
            child: Ended(child),
            attached,
            stdout: Some(stdout),
        };
        let since = Instant::now();
        while tracer.attached.try_recv().is_err() {
            tracer.must_run()?;
            ensure!(
                since.elapsed() < HOOKS,
                "aiops trace oom was not ready within {HOOKS:?}"
            );
            pause()?;
        }
        Ok(tracer)
    }

    fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.child.0.try_wait()? {
            // It may end as soon as the kill is complete, before we have noticed the kill.
            ensure!(status.success(), "aiops trace oom ended with {status}");
        }
        Ok(())
    }

    /// Waits for its end and gives its report.
    fn report(mut self) -> Result<String> {
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.0.try_wait()? {
                break status;
            }
            ensure!(
                since.elapsed() < REPORT,
                "no report within {REPORT:?} after the kill"
            );
            pause()?;
        };
        ensure!(status.success(), "aiops trace oom ended with {status}");
        let reader = self.stdout.take().context("the report was read before")?;
        let Ok(text) = reader.join() else {
            bail!("the reader of the report panicked")
        };
        Ok(text?)
    }
}

/// A child that does not outlive us: killed and waited for when it is still there.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) && self.0.kill().is_ok() {
            self.0.wait().ok();
        }
    }
}

/// A short sleep; an error when Ctrl-C was pressed.
fn pause() -> Result<()> {
    std::thread::sleep(Duration::from_millis(50));
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

extern "C" fn note_signal(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

fn catch_signals() {
    let handler: extern "C" fn(libc::c_int) = note_signal;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is allowed in any signal handler, and it
        // has the type that `signal` calls.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    }
}

fn keep(path: &PathBuf, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}

fn shown(path: &Path) -> String {
    let root = util::root().unwrap_or_default();
    path.strip_prefix(root)
        .unwrap_or(path)
        .display()
        .to_string()
}
