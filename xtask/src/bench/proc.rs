//! `cargo xtask bench proc [--quick] [--markdown]`: CPU time of one full look at 1,000 processes, beside
//! `ps aux`, `smem`, `atop` and `below` for the same content in the same run.
//!
//! The idle processes are `cat`s that read one pipe of ours: when this chore ends, however it ends, they
//! end too. A peer that is not installed is "not run", and says why; a command of ours that fails, fails the
//! chore. No time does.

use std::fs::{self, File};
use std::io::PipeWriter;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{Bench, Table, recorder};
use crate::util::{self, Tally};

/// Idle processes that are looked at.
const PROCESSES: usize = 1000;
/// What one sample of them without smaps may cost.
const BUDGET_MS: f64 = 40.0;
/// How long `below` records, once a second.
const BELOW: Duration = Duration::from_secs(5);

/// A command that is measured.
struct Subject {
    name: &'static str,
    /// Without a program it is ours.
    program: Option<&'static str>,
    args: &'static [&'static str],
}

/// Sizes, faults and CPU time of every process.
const SIZES: &[Subject] = &[
    Subject {
        name: "aiops collect memory --duration 0",
        program: None,
        args: &["collect", "memory", "--duration", "0", "-o", "json"],
    },
    Subject {
        name: "ps aux",
        program: Some("ps"),
        args: &["aux"],
    },
    Subject {
        name: "atop -P PRG,PRM 1 1",
        program: Some("atop"),
        args: &["-P", "PRG,PRM", "1", "1"],
    },
];

/// PSS and USS of every process as well.
const SHARES: &[Subject] = &[
    Subject {
        name: "aiops inspect processes --sort pss --budget 100%",
        program: None,
        args: &[
            "inspect",
            "processes",
            "--sort",
            "pss",
            "--budget",
            "100%",
            "-o",
            "json",
        ],
    },
    Subject {
        name: "smem",
        program: Some("smem"),
        args: &["-c", "pid user pss uss rss swap name"],
    },
    Subject {
        name: "atop -R -P PRG,PRM 1 1",
        program: Some("atop"),
        args: &["-R", "-P", "PRG,PRM", "1", "1"],
    },
];

/// Every region of every process: no peer tells that of all processes.
const REGIONS: &[Subject] = &[Subject {
    name: "aiops collect memory --duration 0 --smaps --budget 100%",
    program: None,
    args: &[
        "collect",
        "memory",
        "--duration",
        "0",
        "--smaps",
        "--budget",
        "100%",
        "-o",
        "json",
    ],
}];

/// One sample among others of a run: what stays when the start of the program is paid for.
const SERIES: Subject = Subject {
    name: "aiops collect memory --duration 3s --interval 100ms",
    program: None,
    args: &[
        "collect",
        "memory",
        "--duration",
        "3s",
        "--interval",
        "100ms",
        "-o",
        "json",
    ],
};

/// The chore.
pub(super) fn run(bench: &Bench) -> anyhow::Result<Tally> {
    let rounds = bench.choose(3, 9);
    bench.say(&format!("{PROCESSES} idle processes"));
    let crowd = match Crowd::start(PROCESSES) {
        Ok(crowd) => crowd,
        // A limit on processes is this machine's, not ours.
        Err(error) => {
            println!("SKIPPED: bench proc: {PROCESSES} processes: {error:#}");
            return Ok(Tally::SKIPPED);
        }
    };
    let mut table = Table::default();
    for (what, subjects, budget) in [
        ("sizes", SIZES, Some(BUDGET_MS)),
        ("with PSS and USS", SHARES, None),
        ("with every region", REGIONS, None),
    ] {
        bench.say(what);
        compare(bench, &mut table, what, subjects, rounds, budget);
    }
    bench.say("a sample among others");
    series(bench, &mut table, bench.choose(1, 3));
    let below = if bench.quick {
        "not measured (--quick)".to_owned()
    } else {
        below(bench).map_or_else(
            |error| format!("not run: {error:#}"),
            |ms| format!("{ms:.1} ms a sample"),
        )
    };
    table.figure("below record, a sample a second (sizes)", below);
    drop(crowd);
    print!("{table}");
    Ok(table.tally())
}

/// Runs the subjects in turn, so that each meets the same moments of the machine.
fn compare(
    bench: &Bench,
    table: &mut Table,
    what: &str,
    subjects: &[Subject],
    rounds: usize,
    budget: Option<f64>,
) {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    let mut failures: Vec<Option<String>> = vec![None; subjects.len()];
    for _ in 0..rounds {
        for (at, subject) in subjects.iter().enumerate() {
            if failures[at].is_some() {
                continue;
            }
            match cpu_ms(bench, subject, Stdio::null()) {
                Ok(ms) => times[at].push(ms),
                Err(error) => failures[at] = Some(format!("not run: {error:#}")),
            }
        }
    }
    let ours = median(&mut times[0]);
    for (at, subject) in subjects.iter().enumerate() {
        let name = format!("{what}: {}", subject.name);
        if let Some(why) = failures[at].take() {
            match subject.program {
                // Ours must run; a peer may be missing.
                None => table.promise(&name, why, "runs", false),
                Some(_) => table.figure(&name, why),
            }
            continue;
        }
        let Some(mid) = median(&mut times[at]) else {
            continue;
        };
        let (least, most) = (times[at][0], times[at][times[at].len() - 1]);
        let mut figure = format!("{mid:.1} ms CPU ({least:.1} to {most:.1})");
        if let Some(ours) = ours.filter(|_| at > 0) {
            figure.push_str(&format!(", {:.1} times ours", mid / ours));
        }
        match budget.filter(|_| at == 0) {
            Some(budget) => table.budget(&name, figure, &format!("<{budget:.0} ms"), mid < budget),
            None => table.figure(&name, figure),
        }
    }
}

/// CPU of a series less that of a single sample, by the samples that it has more.
fn series(bench: &Bench, table: &mut Table, rounds: usize) {
    let what = "sizes: one more sample of a series";
    let mut times = Vec::new();
    for _ in 0..rounds {
        match marginal(bench) {
            Ok(ms) => times.push(ms),
            Err(error) => {
                table.promise(what, format!("{error:#}"), "runs", false);
                return;
            }
        }
    }
    if let Some(mid) = median(&mut times) {
        let figure = format!("{mid:.1} ms CPU");
        let budget = format!("<{BUDGET_MS:.0} ms");
        table.budget(what, figure, &budget, mid < BUDGET_MS);
    }
}

fn marginal(bench: &Bench) -> anyhow::Result<f64> {
    let report = bench.path("series.json");
    let one = cpu_ms(bench, &SIZES[0], Stdio::null())?;
    let all = cpu_ms(bench, &SERIES, File::create(&report)?.into())?;
    let report: Value = serde_json::from_slice(&fs::read(&report)?)?;
    let samples = report["data"]["window"]["samples"].as_f64();
    let more = samples.context("the report counts no samples")? - 1.0;
    // A machine that is too busy may take fewer, but not one.
    ensure!(more > 0.0, "the series has a single sample");
    Ok((all - one).max(0.0) / more)
}

/// The middle one; sorts them.
pub(super) fn median(times: &mut [f64]) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// User and system time of one run, ms.
fn cpu_ms(bench: &Bench, subject: &Subject, out: Stdio) -> anyhow::Result<f64> {
    let mut command = match subject.program {
        None => Command::new(&bench.aiops),
        Some(program) => Command::new(installed(program)?),
    };
    let said = bench.path("said");
    let child = command
        .args(subject.args)
        .env("LC_ALL", "C.UTF-8")
        .env_remove("AIOPS_LANG")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(File::create(&said)?)
        .spawn()
        .context("cannot be started")?;
    let Cost { status, cpu_ms, .. } = wait(child)?;
    if status != 0 {
        let said = fs::read_to_string(&said).unwrap_or_default();
        bail!(
            "ended with status {status:#x}: {}",
            said.lines().next().unwrap_or_default()
        );
    }
    Ok(cpu_ms)
}

fn installed(program: &str) -> anyhow::Result<std::path::PathBuf> {
    util::tool(program).context("not installed")
}

/// What a child process cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Its wait status: 0 is success.
    pub(super) status: i32,
    /// User and system time.
    pub(super) cpu_ms: f64,
    /// Most resident memory that it had.
    pub(super) rss_kb: u64,
    /// Bytes that it had written to a device.
    pub(super) written: u64,
}

/// Waits for a child, and says what it cost.
#[expect(clippy::needless_pass_by_value, reason = "it is gone afterwards")]
pub(super) fn wait(child: Child) -> anyhow::Result<Cost> {
    let pid = i32::try_from(child.id())?;
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both places are ours, and as large as the kernel writes.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    ensure!(waited == pid, "wait4: {}", std::io::Error::last_os_error());
    // SAFETY: zeroed before, and every bit pattern is a number.
    let usage = unsafe { usage.assume_init() };
    // Small enough to be exact in f64.
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok(Cost {
        status,
        cpu_ms: ms(usage.ru_utime) + ms(usage.ru_stime),
        rss_kb: u64::try_from(usage.ru_maxrss)?,
        // In units of 512 bytes (getrusage(2)).
        written: u64::try_from(usage.ru_oublock)? * 512,
    })
}

/// CPU of a sample of `below`, which records in the background only.
fn below(bench: &Bench) -> anyhow::Result<f64> {
    let program = recorder::below()?;
    let folder = bench.path("below");
    fs::create_dir_all(&folder)?;
    let config = recorder::below_config(&folder)?;
    let mut child = Command::new(program)
        .args([Path::new("--config"), &config])
        .args(["record", "--disable-exitstats", "--interval-s", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(BELOW);
    if let Some(status) = child.try_wait()? {
        bail!("ended with {status}");
    }
    child.kill()?;
    Ok(wait(child)?.cpu_ms / BELOW.as_secs_f64())
}

/// The idle processes. They read a pipe that only we can write: without us they end.
struct Crowd {
    children: Vec<Child>,
    pipe: Option<PipeWriter>,
}

impl Crowd {
    /// So many of them.
    fn start(count: usize) -> anyhow::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        let mut crowd = Self {
            children: Vec::with_capacity(count),
            pipe: Some(writer),
        };
        for _ in 0..count {
            let child = Command::new("cat")
                .stdin(reader.try_clone()?)
                .stdout(Stdio::null())
                .spawn()
                .context("an idle process")?;
            crowd.children.push(child);
        }
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.pipe.take());
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_what_was_measured() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn a_child_costs_what_it_used() {
        let child = Command::new("true").spawn().expect("true");
        let cost = wait(child).expect("waited");
        assert_eq!(cost.status, 0);
        assert!((0.0..60_000.0).contains(&cost.cpu_ms));
        assert!(cost.rss_kb > 0);
    }
}
