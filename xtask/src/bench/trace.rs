//! `cargo xtask bench trace [--quick] [--markdown]`: what a storm of page faults costs below `aiops trace alloc`
//! and `trace leak`, and below other tools that take the same stacks.
//!
//! Rounds are interleaved: each runs the storm alone and below every tracer, and a ratio compares CPU time of
//! the storm within one round. What the tracer itself uses is a figure of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::Bench;
use super::proc::{Cost, median, wait};
use super::table::Table;
use crate::util::{self, Tally};

/// Rounds of the storm's own, of 128 MiB each: 196,608 faults.
const STORM: [&str; 2] = ["6", "32"];
/// How long a tracer that does not say when it is ready is given.
const SETTLE: Duration = Duration::from_secs(2);

/// How a tracer says that it is ready.
enum Ready {
    /// A line on stderr begins so.
    Says(&'static str),
    /// It is given time.
    Wait,
}

/// One tracer.
struct Subject {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    ready: Ready,
    /// Most that the storm may take, as a multiple of what it takes alone.
    budget: Option<f64>,
}

fn subjects(bench: &Bench) -> Vec<Subject> {
    let ours = |name: &'static str, budget| Subject {
        name,
        program: bench.aiops.clone(),
        arguments: name
            .split(' ')
            .skip(1)
            .chain(["-o", "json"])
            .map(str::to_owned)
            .collect(),
        ready: Ready::Says("tracing"),
        budget,
    };
    let mut all = vec![
        ours("aiops trace alloc", Some(1.05)),
        ours("aiops trace leak --min-age 0", Some(1.15)),
        ours("aiops trace alloc --sample off", Some(2.1)),
        ours("aiops trace alloc --exact", None),
    ];
    let out = bench.path("perf.data");
    let found = |name: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    };
    if let Some(program) = found("perf") {
        let out = out.display().to_string();
        let words = [
            "record",
            "-q",
            "-a",
            "-g",
            "-e",
            "kmem:mm_page_alloc",
            "-o",
            &out,
        ];
        all.push(Subject {
            name: "perf record -g",
            program,
            arguments: words.map(str::to_owned).to_vec(),
            ready: Ready::Wait,
            budget: None,
        });
    }
    if let Some(program) = found("bpftrace") {
        let script = "tracepoint:kmem:mm_page_alloc { @[kstack, ustack, comm] = count(); }";
        all.push(Subject {
            name: "bpftrace @[kstack, ustack, comm] = count()",
            program,
            arguments: vec!["-e".to_owned(), script.to_owned()],
            ready: Ready::Wait,
            budget: None,
        });
    }
    all
}

/// The part.
pub(super) fn run(bench: &Bench) -> anyhow::Result<Tally> {
    let storm = build(bench)?;
    let subjects = subjects(bench);
    let rounds = bench.choose(3, 9);
    let mut alone = Vec::new();
    let mut ratios: Vec<Vec<f64>> = subjects.iter().map(|_| Vec::new()).collect();
    let mut own: Vec<Vec<f64>> = subjects.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        bench.say(&format!("round {} of {rounds}", round + 1));
        let base = storm_ms(&storm)?;
        alone.push(base);
        for (at, subject) in subjects.iter().enumerate() {
            let (traced, cost) = below(bench, subject, &storm)?;
            ratios[at].push(traced / base);
            own[at].push(cost.cpu_ms);
        }
    }
    let mut table = Table::default();
    let middle = median(&mut alone).context("no round")?;
    table.figure(
        &format!("196,608 page faults alone, CPU time, median of {rounds} interleaved rounds"),
        format!("{middle:.0} ms"),
    );
    for ((subject, ratios), own) in subjects.iter().zip(&mut ratios).zip(&mut own) {
        let (ratio, cost) = (
            median(ratios).context("no round")?,
            median(own).context("no round")?,
        );
        let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
        let figure = format!("{ratio:.2} [{least:.2}-{most:.2}]; own CPU {cost:.0} ms");
        let what = format!("the same below `{}`, ratio", subject.name);
        match subject.budget {
            Some(budget) => table.budget(&what, figure, &format!("≤ {budget:.2}"), ratio <= budget),
            None => table.figure(&what, figure),
        }
    }
    print!("{table}");
    let tally = table.tally();
    bench.say(&tally.to_string());
    Ok(tally)
}

/// The storm is the program that the tests of the command trace.
fn build(bench: &Bench) -> anyhow::Result<PathBuf> {
    let source = util::root()?.join("tests/it/programs/shares.c");
    let program = bench.path("storm");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-fno-omit-frame-pointer", "-o"])
        .arg(&program)
        .arg(&source);
    let done = gcc.status().context("gcc")?;
    ensure!(done.success(), "gcc cannot build {}", source.display());
    Ok(program)
}

/// CPU time of one storm.
fn storm_ms(program: &PathBuf) -> anyhow::Result<f64> {
    let mut child = Command::new(program)
        .args(STORM)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    child
        .stdin
        .take()
        .context("its input")?
        .write_all(b"\n\n")?;
    let cost = wait(child)?;
    ensure!(cost.status == 0, "the storm ended with {}", cost.status);
    Ok(cost.cpu_ms)
}

/// The storm below a tracer: its CPU time, and what the tracer cost.
fn below(bench: &Bench, subject: &Subject, storm: &PathBuf) -> anyhow::Result<(f64, Cost)> {
    let said = bench.path("said");
    let mut command = Command::new(&subject.program);
    command.args(&subject.arguments).stdin(Stdio::null());
    command
        .stdout(fs::File::create(&said)?)
        .stderr(Stdio::piped());
    let mut tracer = command.spawn().with_context(|| subject.name.to_owned())?;
    let drained = ready(subject, &mut tracer)?;
    let traced = storm_ms(storm);
    let pid = Pid::from_raw(i32::try_from(tracer.id())?).context("a pid")?;
    kill_process(pid, Signal::INT)?;
    let cost = wait(tracer)?;
    // Its last words; a panic there would be ours.
    drop(drained.join());
    Ok((traced?, cost))
}

fn ready(subject: &Subject, tracer: &mut Child) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let mut lines = BufReader::new(tracer.stderr.take().context("its stderr")?);
    if let Ready::Says(word) = subject.ready {
        let mut line = String::new();
        while !line.starts_with(word) {
            line.clear();
            let read = lines.read_line(&mut line)?;
            ensure!(read > 0, "{} ended before it was ready", subject.name);
        }
    } else {
        std::thread::sleep(SETTLE);
        ensure!(
            tracer.try_wait()?.is_none(),
            "{} ended at once",
            subject.name
        );
    }
    Ok(std::thread::spawn(move || {
        let mut rest = Vec::new();
        // Nobody is interested, but a full pipe would stop it.
        let _ = lines.read_to_end(&mut rest);
    }))
}
