//! What several chores need: the repository's root, commands, tools, and counting.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The only target: the program is linked statically for it.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How many checks ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Tally {
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    pub(crate) const SKIPPED: Self = Self {
        passed: 0,
        failed: 0,
        skipped: 1,
    };

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// An error when anything failed.
    pub(crate) fn verdict(self) -> Result<()> {
        if self.failed > 0 {
            Err(Counted.into())
        } else {
            Ok(())
        }
    }
}

/// Something failed, and the counts that were printed last say so: nothing is to be added.
#[derive(Debug)]
pub(crate) struct Counted;

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not everything passed")
    }
}

impl std::error::Error for Counted {}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The root of the repository: the folder above xtask's manifest, which cargo names at run time.
pub(crate) fn root() -> Result<PathBuf> {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("CARGO_MANIFEST_DIR is not set: start this as `cargo xtask`")?;
    let root = Path::new(&xtask)
        .parent()
        .context("xtask's folder has no parent")?;
    Ok(root.to_owned())
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let root = root()?;
    Ok(match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root.join(dir),
        None => root.join("target"),
    })
}

/// Cargo at the root of the repository, with the environment as it is.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// Cargo building the static program. Every chore uses the same flags, so that all share one build.
pub(crate) fn static_cargo() -> Result<Command> {
    let mut command = cargo()?;
    command
        .env("CARGO_BUILD_TARGET", TARGET)
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-Ctarget-feature=+crt-static",
        )
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    Ok(command)
}

/// Builds a static program and says where it is. Only what is installed has all features.
pub(crate) fn build(package: &str, profile: &str) -> Result<PathBuf> {
    let mut build = static_cargo()?;
    build.args(["build", "--locked", "--quiet", "--profile", profile]);
    if profile != "dist" {
        build.arg("--no-default-features");
    }
    build.args(["--package", package, "--bin", package]);
    run(&mut build)?;
    Ok(target_dir()?.join(TARGET).join(profile).join(package))
}

/// What is compiled once for everything but frames: packages and features as cargo is told.
pub(crate) const LEAN: &[&str] = &[
    "--workspace",
    "--exclude",
    "aiops-frames",
    "--no-default-features",
    "--locked",
    "--profile",
    "ci",
];

/// Builds an example program of aiops, of what the tests have compiled already, and says where it is.
pub(crate) fn example(name: &str) -> Result<PathBuf> {
    run(static_cargo()?
        .args(["build", "--quiet"])
        .args(LEAN)
        .args(["--example", name]))?;
    Ok(target_dir()?.join(TARGET).join("ci/examples").join(name))
}

/// Runs a command to its end with our own input and output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// The output of a command that must succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command
        .output()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!(
            "{} ended with {}: {}",
            line(command),
            done.status,
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// A command as one would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// A program on PATH, or among those that cargo has installed.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    std::env::split_paths(&path)
        .chain(installed.map(|home| home.join("bin")))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a service for continuous integration runs this.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI")
        .is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// For chores that have no options.
pub(crate) fn no_args(args: &[String]) -> Result<()> {
    ensure!(
        args.is_empty(),
        "this chore takes no arguments, not {args:?}"
    );
    Ok(())
}
