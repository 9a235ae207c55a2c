//! `cargo xtask setup`: what the other chores need, installed where we may, named where we may not.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::util;

/// The linker of BPF programs, built against Debian's LLVM.
const BPF_LINKER: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Programs that tests and measurements compare with or look through, and their packages of Debian. Without them a
/// comparison is skipped; the tests of power cuts and of a small disk fail where BPF is required.
const PEERS: &[(&str, &str)] = &[
    ("ps", "procps"),
    ("numastat", "numactl"),
    ("smem", "smem"),
    ("atop", "atop"),
    ("promtool", "prometheus"),
    ("prometheus", "prometheus"),
    ("systemd-analyze", "systemd"),
    ("strace", "strace"),
    ("mkfs.ext4", "e2fsprogs"),
];

/// How a [`Need`] is met.
enum Kind {
    /// A package of Debian.
    Package,
    /// A program that a package of Debian brings, but that may have come another way.
    Program(&'static str),
    /// A part of the Rust toolchain that rustup can add; the name of its program.
    Component(&'static str),
    /// Built by `cargo install`.
    Linker,
}

/// One thing that steps of `cargo xtask test` need.
struct Need {
    name: &'static str,
    kind: Kind,
    /// Names of the steps that are skipped without it.
    steps: &'static [&'static str],
}

const fn need(name: &'static str, kind: Kind, steps: &'static [&'static str]) -> Need {
    Need { name, kind, steps }
}

const NEEDS: &[Need] = &[
    need(
        "gcc",
        Kind::Program("cc"),
        &["clippy", "compile", "tests", "frames", "leaks"],
    ),
    need("rustfmt", Kind::Component("cargo-fmt"), &["fmt"]),
    need("clippy", Kind::Component("cargo-clippy"), &["clippy"]),
    need("rustc-web", Kind::Package, &["bpf"]),
    need("rust-web-src", Kind::Package, &["bpf"]),
    need("cargo-web", Kind::Package, &["bpf"]),
    need("llvm-22-dev", Kind::Package, &["bpf"]),
    need("libpolly-22-dev", Kind::Package, &["bpf"]),
    need("libzstd-dev", Kind::Package, &["bpf"]),
    need("bpf-linker", Kind::Linker, &["bpf"]),
    need(
        "python3-venv",
        Kind::Program("python3"),
        &["interop", "leaks"],
    ),
    need("default-jdk-headless", Kind::Program("javac"), &["leaks"]),
    need(
        "qemu-system-x86",
        Kind::Program("qemu-system-x86_64"),
        &["kernels"],
    ),
];

/// The chore: installs, then says what is there.
pub(crate) fn run(args: &[String]) -> Result<()> {
    util::no_args(args)?;
    let installed = install();
    for need in missing() {
        println!(
            "missing: {} (skipped without it: {})",
            need.name,
            need.steps.join(", ")
        );
    }
    install_peers();
    installed?;
    let left = missing();
    if left.is_empty() {
        println!("everything is there");
    } else if !may_install() {
        println!("only root on Debian can have it installed here");
    }
    Ok(())
}

/// What `step` needs and is not there.
pub(crate) fn missing_for(step: &str) -> Vec<&'static str> {
    let needed = NEEDS.iter().filter(|need| need.steps.contains(&step));
    needed
        .filter(|need| !is_there(need))
        .map(|need| need.name)
        .collect()
}

/// Whether this chore installs by itself: as root on Debian.
pub(crate) fn may_install() -> bool {
    util::is_root() && is_debian()
}

/// Installs what is missing, if it may. Does nothing and is quick when all is there.
///
/// # Errors
/// Something that it tried to install could not be.
pub(crate) fn install() -> Result<()> {
    if missing().is_empty() {
        return Ok(());
    }
    // rustup belongs to whoever runs this, root or not.
    if util::tool("rustup").is_some() {
        for need in missing()
            .iter()
            .filter(|need| matches!(need.kind, Kind::Component(_)))
        {
            util::run(Command::new("rustup").args(["component", "add", need.name]))?;
        }
    }
    if !may_install() {
        return Ok(());
    }
    let packages: Vec<_> = missing()
        .into_iter()
        .filter(|need| matches!(need.kind, Kind::Package | Kind::Program(_)))
        .map(|need| need.name)
        .collect();
    if !packages.is_empty() {
        apt_install(&packages)?;
    }
    if missing()
        .iter()
        .any(|need| matches!(need.kind, Kind::Linker))
    {
        install_linker()?;
    }
    let left: Vec<_> = missing().iter().map(|need| need.name).collect();
    if !left.is_empty() {
        bail!("still missing after the installation: {}", left.join(", "));
    }
    Ok(())
}

/// Installs packages of Debian, waiting for others who use apt.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    eprintln!("installing {}", packages.join(" "));
    // `update` does not wait for its own lock, so we do. A list that cannot be fetched at all need
    // not matter: what is installed may be known already.
    for attempt in 1..=6 {
        match util::run(apt().args(["-qq", "update"])) {
            Ok(()) => break,
            Err(error) => eprintln!("{error:#} (attempt {attempt} of 6)"),
        }
        std::thread::sleep(Duration::from_secs(10));
    }
    util::run(
        apt()
            .args(["-qq", "-y", "--no-install-recommends", "install"])
            .args(packages),
    )
    .context("the packages could not be installed")
}

/// Installs what is only compared with, as far as it can be had. Never fails: a network that does not answer
/// costs a few minutes at most. What is fetched is bounded in time, what is installed is not, for half an
/// installation would be in the way of the next one.
pub(crate) fn install_peers() {
    let absent = || PEERS.iter().filter(|peer| util::tool(peer.0).is_none());
    if absent().next().is_none() || !may_install() {
        return;
    }
    let lists = bounded(&["update"]);
    for (_, package) in absent() {
        let fetched = lists
            && bounded(&[
                "-y",
                "--no-install-recommends",
                "--download-only",
                "install",
                package,
            ]);
        let mut install = apt();
        install.args([
            "-qq",
            "-y",
            "--no-install-recommends",
            "--no-download",
            "install",
            package,
        ]);
        if !fetched || util::run(&mut install).is_err() {
            println!("without {package}: comparisons with it are skipped");
        }
    }
}

/// An apt-get that may take two minutes; whether it worked.
fn bounded(args: &[&str]) -> bool {
    let mut command = Command::new("timeout");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["120", "apt-get", "-qq"])
        .args(["-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::Retries=1"])
        .args(args);
    util::run(&mut command).is_ok()
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", "DPkg::Lock::Timeout=600"]);
    command
}

fn install_linker() -> Result<()> {
    eprintln!("building bpf-linker {BPF_LINKER}");
    let mut command = util::cargo()?;
    command
        .args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER,
            "--locked",
            "--force",
        ])
        .args(["--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM_PREFIX);
    // It is a program of this machine and links LLVM dynamically: none of our flags apply.
    for name in [
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
    ] {
        command.env_remove(name);
    }
    util::run(&mut command).context("bpf-linker could not be built")
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !is_there(need)).collect()
}

fn is_there(need: &Need) -> bool {
    match need.kind {
        Kind::Package => is_installed(need.name),
        // rustup's own proxies exist without the part, so the program is asked.
        Kind::Component(program) => answers(program).is_some(),
        Kind::Program(program) => util::tool(program).is_some(),
        Kind::Linker => answers("bpf-linker")
            .is_some_and(|version| version.split_whitespace().any(|word| word == BPF_LINKER)),
    }
}

/// What the program says about its version, if it can be run.
fn answers(program: &str) -> Option<String> {
    let mut command = Command::new(util::tool(program)?);
    util::output(command.arg("--version")).ok()
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${Status}", package]);
    util::output(&mut query).is_ok_and(|status| status.ends_with(" ok installed"))
}

fn is_debian() -> bool {
    std::fs::read_to_string("/etc/os-release")
        .is_ok_and(|text| text.lines().any(|line| line == "ID=debian"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_serves_a_step_that_exists() {
        for need in NEEDS {
            assert!(!need.steps.is_empty(), "{}", need.name);
            for step in need.steps {
                assert!(
                    crate::test::is_step(step),
                    "{} names the step {step}",
                    need.name
                );
            }
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_missing() {
        assert!(!is_there(&need(
            "x",
            Kind::Program("no-such-program"),
            &["bpf"]
        )));
        assert!(!is_there(&need("no-such-package", Kind::Package, &["bpf"])));
        assert!(is_there(&need("sh", Kind::Program("sh"), &["bpf"])));
    }
}
