//! `cargo xtask bench oom [--quick] [--markdown]`: what `aiops trace oom` costs and keeps up with.
//! `cargo xtask bench proc …`: what a look at all processes costs ([`proc`]).
//! `cargo xtask bench daemon …`: what the daemon costs ([`daemon`]).
//! `cargo xtask bench query …`: what a question to a month of history costs ([`query`]).
//! `cargo xtask bench leak …`: what the verdict on one series costs ([`leak`]).
//! `cargo xtask bench trace …`: what a storm of page faults costs below a tracer ([`trace`]).
//!
//! The first runs on this machine: kills happen in memory cgroups made for it, of 16 MB each. Every figure is
//! printed beside its budget. A budget that is a promise (all kills captured, none lost, recordings
//! that survive) fails the chore; one that depends on the machine (latency, CPU, memory) is only marked.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore talks to its user"
)]

mod crowd;
mod daemon;
mod faults;
pub(crate) mod interrupt;
mod leak;
mod load;
mod peers;
mod proc;
mod query;
mod recorder;
mod table;
mod trace;
mod tracer;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::oomlab::{self, Group};
use crate::util::{self, Tally};
pub(crate) use crowd::{STIR, stir};
pub(crate) use recorder::remove_tails;
use table::Table;

/// What all parts of the benchmark share.
struct Bench {
    aiops: PathBuf,
    /// Holds recordings and reports; removed at the end.
    folder: PathBuf,
    quick: bool,
    /// How long the daemon is looked at, if that was asked for.
    span: Option<Duration>,
    /// Progress goes to stderr; a table for a document wants none.
    chatty: bool,
}

impl Bench {
    fn say(&self, what: &str) {
        if self.chatty {
            eprintln!("bench: {what}");
        }
    }

    /// A file or folder of this run.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn choose<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const USAGE: &str =
    "bench oom|proc|daemon|query|leak|trace [--quick] [--markdown], daemon: [--minutes N] [--hour]";

/// An hour and a bit, so that the daemon's own hour ends in it.
const HOUR: Duration = Duration::from_secs(3660);

/// The chore.
pub(crate) fn run(args: &[String]) -> anyhow::Result<Tally> {
    let mut quick = false;
    let mut markdown = false;
    let mut span = None;
    let mut other: Option<fn(&Bench) -> anyhow::Result<Tally>> = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "oom" => other = None,
            "proc" => other = Some(proc::run),
            "query" => other = Some(query::run),
            "leak" => other = Some(leak::run),
            "daemon" => other = Some(daemon::run),
            "trace" => other = Some(trace::run),
            "--quick" => quick = true,
            "--markdown" => markdown = true,
            "--hour" => span = Some(HOUR),
            "--minutes" => {
                let minutes = args.next().and_then(|number| number.parse::<u64>().ok());
                let minutes = minutes.context("--minutes: a number is missing")?;
                span = Some(Duration::from_secs(60 * minutes));
            }
            unknown => {
                bail!("unknown argument {unknown}: {USAGE}")
            }
        }
    }
    if let Some(other) = other {
        interrupt::install();
        let bench = Bench {
            aiops: if quick { oomlab::aiops()? } else { shipped()? },
            folder: scratch()?,
            quick,
            span,
            chatty: !markdown,
        };
        return other(&bench);
    }
    if let Err(error) = Group::new("probe", 16 << 20) {
        if std::env::var_os("AIOPS_REQUIRE_BPF").is_some() {
            return Err(error);
        }
        eprintln!("SKIPPED: bench oom: {error:#}");
        return Ok(Tally::SKIPPED);
    }
    let bench = Bench {
        aiops: oomlab::aiops()?,
        folder: scratch()?,
        quick,
        span,
        chatty: !markdown,
    };
    let mut table = Table::default();
    type Part = fn(&Bench, &mut Table) -> anyhow::Result<()>;
    let parts: &[(&str, Part)] = &[
        ("storm", load::storm),
        ("latency", load::latency),
        ("idle", load::idle),
        ("two tracers", faults::two_tracers),
        ("kill -9", faults::killed),
        ("full disk", faults::full_disk),
        ("peers", peers::peers),
    ];
    for (name, part) in parts {
        bench.say(name);
        // One part that cannot run does not hide the others' figures.
        if let Err(error) = part(&bench, &mut table) {
            table.promise(name, format!("{error:#}"), "runs", false);
        }
    }
    print!("{table}");
    let tally = table.tally();
    bench.say(&tally.to_string());
    Ok(tally)
}

/// The program as it is installed: `AIOPS_BIN`, or this tree's, built when it is not up to date.
fn shipped() -> anyhow::Result<PathBuf> {
    match std::env::var_os("AIOPS_BIN") {
        Some(_) => oomlab::aiops(),
        None => {
            eprintln!(
                "bench: the program is built as `cargo xtask dist` does (AIOPS_BIN names another)"
            );
            util::build("aiops", "dist")
        }
    }
}

fn scratch() -> anyhow::Result<PathBuf> {
    let folder = util::target_dir()?.join(format!("bench-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Size of a file, 0 when it is not there.
fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Bytes of all files below a folder. What goes meanwhile does not count.
fn folder_size(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(meta) = entry.metadata() else {
            continue;
        };
        sum += if meta.is_dir() {
            folder_size(&entry.path())?
        } else {
            meta.len()
        };
    }
    Ok(sum)
}
