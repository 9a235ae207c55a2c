//! Chores of the aiops repository: `cargo xtask CHORE`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore talks to the person who started it"
)]

mod accuracy;
mod bench;
mod bpf;
mod capture;
mod deb;
mod demo;
mod dist;
mod interop;
mod kernels;
mod layers;
mod leaklab;
mod leaks;
mod oomlab;
mod setup;
mod test;
mod util;
mod vm;

use std::process::ExitCode;

use anyhow::{Result, ensure};

use util::Tally;

/// A chore: its name, what it does, and the function that takes the rest of the command line.
type Chore = (&'static str, &'static str, fn(&[String]) -> Result<()>);

#[rustfmt::skip] // one chore, one line
const CHORES: &[Chore] = &[
    ("demo", "an OOM kill, captured live, recorded and replayed (root)", demo::run),
    ("test", "all that must pass before a change is merged [--full]", test::run),
    ("setup", "install what the other chores need, or name it", setup::run),
    ("bpf", "build the kernel side [--check: and compare it]", bpf_chore),
    ("layers", "check who uses whom, homes, lengths, paths", layers::run),
    ("leaklab", "labelled memory series --seed S --out DIR [--per-family N] [--families A,B]", leaklab::run),
    ("accuracy", "how often leak verdicts are right [--seeds A,B] [--per-family N] [--data DIR] [--latency]", accuracy::run),
    ("vm", "test on other kernels [6.1] [6.12] [SCENARIO]", |args| finish(vm::run(args)?)),
    ("kernels", "fetch Debian's kernels for vm [5.10] [6.1] [6.12]", |args| finish(kernels::run(args)?)),
    ("bench", "measure [oom] [proc] [query] [leak] [daemon] [--quick] [--minutes N] [--hour]", |args| finish(bench::run(args)?)),
    ("interop", "other engines read our files [--all: ClickHouse and Spark too]", |args| finish(interop::run(args)?)),
    ("leaks", "real programs that leak or do not, judged [--minutes N] [--keep DIR]", |args| finish(leaks::run(args)?)),
    ("capture", "a tree for --root: DIR [--pid P,P] [--vm 6.1] [--as-3.10 TREE]", capture::run),
    ("deb", "the Debian package [--profile dist|ci] [--check]", |args| finish(deb::run(args)?)),
    ("dist", "the static program to install: target/dist/aiops", dist::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) = args
        .split_first()
        .map_or(("", &args[..]), |(name, rest)| (name, rest));
    let chore = CHORES.iter().find(|chore| chore.0 == name);
    let result = match chore {
        Some((_, _, run)) => run(rest),
        // The process that the demo wants killed.
        None if name == "grow" => demo::grow(rest),
        None if name == oomlab::GROW => oomlab::grow(rest),
        None if name == leaks::CHILD => leaks::child(rest),
        None if name == bench::STIR => bench::stir(rest),
        None => return usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is::<util::Counted>() {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: cargo xtask CHORE\n");
    for (name, what, _) in CHORES {
        eprintln!("  {name:8}{what}");
    }
    ExitCode::from(2)
}

fn bpf_chore(args: &[String]) -> Result<()> {
    ensure!(
        args.iter().all(|arg| arg == "--check"),
        "bpf: the only option is --check"
    );
    bpf::run(!args.is_empty())
}

fn finish(tally: Tally) -> Result<()> {
    println!("{tally}");
    tally.verdict()
}
