//! A laboratory: the program, memory cgroups of our own, and processes that grow in them.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

/// The program, in English whatever the environment says.
pub(crate) fn aiops(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aiops"));
    command
        .args(args)
        .env("LC_ALL", "C.UTF-8")
        .env_remove("AIOPS_LANG")
        .stdin(Stdio::null());
    command
}

/// A copy of the program for another user. Made by another process: one that this process writes cannot be started
/// while a child of another test, not yet at its own program, still has it open for writing.
pub(crate) fn copy_program(to: &str) {
    let done = Command::new("cp")
        .args([env!("CARGO_BIN_EXE_aiops"), to])
        .status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "a copy of the program"
    );
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    aiops(args).output().expect("the program starts")
}

/// Standard output of a run that must succeed.
pub(crate) fn stdout(args: &[&str]) -> String {
    let output = run(args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("stdout is UTF-8")
}

/// Whether live tracing can run here. Says so loudly when not.
pub(crate) fn can_trace() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let why = "live tracing needs root";
        assert!(std::env::var_os("AIOPS_REQUIRE_BPF").is_none(), "{why}");
        println!("SKIPPED: {why}");
    }
    root
}

/// Swap belongs to the whole host: who switches it on writes, whose figures it could move reads.
static SWAP: RwLock<()> = RwLock::new(());

/// While this is held, no test of ours switches swap on.
pub(crate) fn no_swap() -> RwLockReadGuard<'static, ()> {
    SWAP.read().unwrap_or_else(PoisonError::into_inner)
}

/// While this is held, no test runs whose figures swap could move.
pub(crate) fn swapping() -> RwLockWriteGuard<'static, ()> {
    SWAP.write().unwrap_or_else(PoisonError::into_inner)
}

/// Tries again and again what other processes of the host may disturb, at least 40 times and for at least half a
/// minute; fails with the last reason. What is really wrong is wrong each time.
pub(crate) fn settle<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    for number in 1_u32.. {
        match attempt() {
            Ok(done) => return done,
            Err(why) if number >= 40 && begun.elapsed() > Duration::from_secs(30) => {
                panic!("{what}, {number} attempts: {why}")
            }
            // Others come and go at their own pace: not always in step with us.
            Err(_) => thread::sleep(Duration::from_millis(u64::from(50 + number % 7 * 70))),
        }
    }
    unreachable!("it ends")
}

/// `Err` with the reason unless a condition holds, for [`settle`].
macro_rules! want {
    ($condition:expr, $($why:tt)+) => {
        if $condition {
        } else {
            return Err(format!($($why)+));
        }
    };
}
pub(crate) use want;

/// `Err` with both unless they are equal, for [`settle`].
macro_rules! same {
    ($left:expr, $right:expr, $($what:tt)+) => {
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err(format!("{}: {left:?} is not {right:?}", format_args!($($what)+)));
        }
    };
}
pub(crate) use same;

/// Waits for what must come, however busy the machine is.
pub(crate) fn until(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !there() {
        assert!(Instant::now() < end, "it never came: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// State letter of a process, `None` when it is gone.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// `KEY: N kB` or `KEY N` of a file of /proc.
pub(crate) fn field(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| {
        let name = line.split_whitespace().next();
        name.is_some_and(|name| name.trim_end_matches(':') == key)
    })?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Standard output of another program; `None`, said aloud, where it is not installed.
pub(crate) fn peer(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        other => {
            let why = other.map_or_else(|error| error.to_string(), |done| done.status.to_string());
            println!("SKIPPED: no comparison with {program}: {why}");
            None
        }
    }
}

/// A temporary directory of its own, removed at the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn unique(what: &str) -> String {
    format!(
        "aiops-{what}-{}-{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    )
}

/// Folders of ours of this kind (`aiops-KIND-PID-NUMBER`) whose process is gone.
pub(crate) fn leftovers(base: &Path, kind: &str) -> Vec<PathBuf> {
    let prefix = format!("aiops-{kind}-");
    let entries = fs::read_dir(base).into_iter().flatten();
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let rest = name.and_then(|name| name.strip_prefix(&prefix));
            let pid = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
            pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        })
        .collect()
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::at(&std::env::temp_dir(), "it").expect("a temporary directory")
    }

    /// In another place than the usual one.
    pub(crate) fn at(base: &Path, kind: &str) -> std::io::Result<Self> {
        let path = base.join(unique(kind));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A memory cgroup of the test's own, removed at the end.
pub(crate) struct Cgroup {
    folder: PathBuf,
    /// As the kernel prints it.
    pub(crate) path: String,
    v2: bool,
}

impl Cgroup {
    /// Makes one with a limit and without swap; `None` (said aloud) where there is no memory controller.
    pub(crate) fn new(limit_bytes: u64) -> Option<Self> {
        let cgroup = Self::named(&unique("test"), limit_bytes)?;
        cgroup.swap(false);
        Some(cgroup)
    }

    /// One that may swap, whatever the one above it says.
    pub(crate) fn with_swap(limit_bytes: u64) -> Option<Self> {
        let cgroup = Self::named(&unique("swap"), limit_bytes)?;
        cgroup.swap(true);
        Some(cgroup)
    }

    /// Not every kernel has the file; without it, there is no swap to switch.
    fn swap(&self, on: bool) {
        let (file, value) = match (self.v2, on) {
            (false, false) => ("memory.swappiness", "0"),
            (false, true) => ("memory.swappiness", "60"),
            (true, false) => ("memory.swap.max", "0"),
            (true, true) => ("memory.swap.max", "max"),
        };
        let _ = fs::write(self.folder.join(file), value);
    }

    /// Removes what an earlier test of ours left that was killed: cgroups that swap.
    pub(crate) fn remove_leftovers() {
        for base in ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"] {
            for folder in leftovers(Path::new(base), "swap") {
                let path = String::new();
                drop(Self {
                    folder,
                    path,
                    v2: false,
                });
            }
        }
    }

    fn named(name: &str, limit_bytes: u64) -> Option<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
        let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|list| list.contains("memory"));
        if !v1 && !v2 {
            assert!(
                std::env::var_os("AIOPS_REQUIRE_BPF").is_none(),
                "no memory controller"
            );
            println!("SKIPPED: no memory controller of cgroups");
            return None;
        }
        let base = if v1 {
            "/sys/fs/cgroup/memory"
        } else {
            "/sys/fs/cgroup"
        };
        if !v1 {
            let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
        }
        let folder = Path::new(base).join(name);
        fs::create_dir(&folder).expect("a memory cgroup");
        let cgroup = Self {
            folder,
            path: format!("/{name}"),
            v2: !v1,
        };
        let limit = if v1 {
            "memory.limit_in_bytes"
        } else {
            "memory.max"
        };
        fs::write(cgroup.folder.join(limit), limit_bytes.to_string()).expect("a limit");
        Some(cgroup)
    }

    /// Starts a process in it that grows to `most` MiB, one step of `step` KiB every `pause`.
    pub(crate) fn grow(&self, most: u64, step: u64, pause: Duration) -> Child {
        let exe = std::env::current_exe().expect("the test binary");
        Command::new(exe)
            .args(["--exact", "support::grow_child", "--nocapture"])
            .env(
                "AIOPS_TEST_GROW",
                format!("{most} {step} {}", pause.as_millis()),
            )
            .env("AIOPS_TEST_CGROUP", self.folder.join("cgroup.procs"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child")
    }

    /// The file that processes write their id into to join.
    pub(crate) fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Writes one of its files.
    pub(crate) fn set(&self, file: &str, value: &str) {
        fs::write(self.folder.join(file), value).expect("a setting");
    }

    /// Whether it is of cgroup v2.
    pub(crate) fn is_v2(&self) -> bool {
        self.v2
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Ok(pids) = fs::read_to_string(self.folder.join("cgroup.procs")) {
            for pid in pids
                .lines()
                .filter_map(|pid| pid.parse().ok())
                .filter_map(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Not a test: the process that grows, when this binary is started by [`Cgroup::grow`].
#[test]
fn grow_child() {
    let Ok(plan) = std::env::var("AIOPS_TEST_GROW") else {
        return;
    };
    let numbers: Vec<u64> = plan
        .split(' ')
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [most, step, pause] = numbers[..] else {
        panic!("{plan}")
    };
    let procs = std::env::var("AIOPS_TEST_CGROUP").expect("a cgroup");
    fs::write(procs, std::process::id().to_string()).expect("joining the cgroup");
    let mut kept = Vec::new();
    let mut next = Instant::now();
    let bytes = usize::try_from(step * 1024).expect("a size");
    while (kept.len() as u64) * step < most * 1024 {
        // Random-looking bytes: every page is touched and none is the shared zero page.
        kept.push(
            (0..bytes)
                .map(|at| (at % 251) as u8 + 1)
                .collect::<Vec<u8>>(),
        );
        // By the clock: on a busy machine a late step does not delay the ones after it.
        next += Duration::from_millis(pause);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    std::hint::black_box(&kept);
}

/// A running `aiops trace …`.
pub(crate) struct Tracer {
    child: Child,
    errors: Option<thread::JoinHandle<String>>,
    output: Option<thread::JoinHandle<Vec<u8>>>,
}

impl Tracer {
    /// Starts it and waits until every hook is attached.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = aiops(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr"));
        let mut stdout = child.stdout.take().expect("stdout");
        let output = thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout
                .read_to_end(&mut bytes)
                .map(|_| bytes)
                .expect("stdout")
        });
        let mut said = String::new();
        loop {
            let from = said.len();
            let read = lines.read_line(&mut said).expect("stderr");
            assert!(read > 0, "the tracer ended: {said}");
            if said[from..].starts_with("tracing") {
                break;
            }
        }
        let errors = thread::spawn(move || {
            let mut rest = said;
            let _ = lines.read_to_string(&mut rest);
            rest
        });
        Self {
            child,
            errors: Some(errors),
            output: Some(output),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).expect("a pid"))
            .expect("a pid");
        rustix::process::kill_process(pid, signal).expect("the tracer runs");
    }

    /// Waits for its end: exit code (or the signal, negative), stdout, stderr.
    pub(crate) fn finish(mut self) -> (i32, String, String) {
        let end = Instant::now() + Duration::from_secs(120);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waiting") {
                break status;
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                panic!("the tracer did not end");
            }
            thread::sleep(Duration::from_millis(20));
        };
        let output = self.output.take().expect("once").join().expect("stdout");
        let errors = self.errors.take().expect("once").join().expect("stderr");
        let code = status
            .code()
            .unwrap_or_else(|| -status.signal().unwrap_or(0));
        (code, String::from_utf8(output).expect("UTF-8"), errors)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One JSON report.
pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A report without the only value that differs between live and replay.
pub(crate) fn timeless(mut report: Value) -> Value {
    report["generated_at"] = Value::Null;
    report
}
