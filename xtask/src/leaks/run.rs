//! Building the programs, and starting them and the daemon that samples them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::truth::{Language, PROGRAMS, Program};
use crate::bench::{interrupt, remove_tails};
use crate::util;

/// Hidden chore that every child is at first: `leaks-child PROGRAM [ARGUMENT]…`.
pub(crate) const CHILD: &str = "leaks-child";

/// For the daemon's first sample, and for its end in good order.
const PATIENCE: Duration = Duration::from_secs(30);

/// A small JVM that gives back what a collection freed: young objects have 6 MiB, the rest grows and shrinks.
const JAVA: &[&str] = &[
    "-XX:+UseSerialGC",
    "-Xms10m",
    "-Xmx64m",
    "-Xmn6m",
    "-XX:MinHeapFreeRatio=10",
    "-XX:MaxHeapFreeRatio=20",
    "-XX:-ShrinkHeapInSteps",
    "-XX:TieredStopAtLevel=1",
];

/// The hidden chore: becomes the program, and dies when the chore that started it ends, whatever the reason.
pub(crate) fn child(args: &[String]) -> anyhow::Result<()> {
    let (program, args) = args
        .split_first()
        .context("it is started by `cargo xtask leaks`")?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot start {program}"))
}

/// A folder of this run, removed at the end.
pub(super) struct Work(PathBuf);

impl Work {
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder = util::target_dir()?.join(format!("leaks-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }

    pub(super) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// Builds all programs, and says how each is started.
    pub(super) fn build(&self) -> anyhow::Result<Vec<Vec<PathBuf>>> {
        let sources = util::root()?.join("tests/leaks");
        let compiler = |name: &str| util::tool(name).with_context(|| format!("{name} is missing"));
        let (cc, rustc, javac) = (compiler("cc")?, compiler("rustc")?, compiler("javac")?);
        // Not what may stand before it on PATH and only starts it.
        let which = ["-c", "import sys; print(sys.executable)"];
        let python = util::output(Command::new(compiler("python3")?).args(which))?;
        let mut java_sources = vec![sources.join("java/Pace.java")];
        let mut commands = Vec::new();
        for one in PROGRAMS {
            let (folder, ending) = one.language.folder();
            let source = sources.join(folder).join(one.name).with_extension(ending);
            let built = self.0.join(one.name);
            commands.push(match one.language {
                Language::C => {
                    let flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-o"];
                    let mut command = Command::new(&cc);
                    util::run(command.args(flags).arg(&built).arg(&source).arg("-lm"))?;
                    vec![built]
                }
                Language::Rust => {
                    let flags = ["--edition", "2024", "-O", "-D", "warnings", "-o"];
                    let mut command = Command::new(&rustc);
                    util::run(command.args(flags).arg(&built).arg(&source))?;
                    vec![built]
                }
                Language::Python => vec![python.trim().into(), "-B".into(), source],
                Language::Java => {
                    java_sources.push(source);
                    let mut command = vec![compiler("java")?];
                    command.extend(JAVA.iter().map(PathBuf::from));
                    command.extend(["-cp".into(), self.0.clone(), one.name.into()]);
                    command
                }
            });
        }
        let mut java = Command::new(javac);
        java.args(["-Xlint:all", "-d"]).arg(&self.0);
        util::run(java.args(java_sources))?;
        Ok(commands)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        remove_tails(&self.store());
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a process of ours says goes to a file; it is ours to end.
pub(super) struct Running {
    name: &'static str,
    child: Child,
    said: PathBuf,
}

impl Running {
    fn start(work: &Work, name: &'static str, command: &mut Command) -> anyhow::Result<Self> {
        let said = work.0.join(format!("{name}.said"));
        let file = File::create(&said).with_context(|| said.display().to_string())?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command.spawn().with_context(|| name.to_owned())?;
        Ok(Self { name, child, said })
    }

    /// One of the programs, with its clock stretched.
    pub(super) fn program(
        work: &Work,
        one: &Program,
        start: &[PathBuf],
        scale: f64,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(CHILD).args(start);
        command.env("LEAKS_SCALE", scale.to_string());
        Self::start(work, one.name, &mut command)
    }

    /// The daemon; it samples when this returns.
    pub(super) fn daemon(work: &Work, aiops: &Path, interval: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(CHILD).arg(aiops).arg("--store");
        command.arg(work.store()).args(["monitor", "memory"]);
        command.args(["--interval", interval, "--no-bpf", "--config", "/dev/null"]);
        let mut daemon = Self::start(work, "aiops", &mut command)?;
        let begun = Instant::now();
        while !fs::read_to_string(&daemon.said)?.contains("monitoring every") {
            daemon.must_run()?;
            ensure!(begun.elapsed() < PATIENCE, "the daemon does not begin");
            interrupt::sleep(Duration::from_millis(100))?;
        }
        Ok(daemon)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn must_run(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let said = fs::read_to_string(&self.said).unwrap_or_default();
            bail!("{} ended with {status}: {}", self.name, said.trim());
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            let _ = self.child.wait();
        }
    }
}
