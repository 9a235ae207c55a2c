//! `cargo xtask bench leak [--quick] [--markdown]`: what it costs to judge one series of 10,000 samples.
//!
//! The series are those of `cargo xtask leaklab --samples 10000`, of every family, over windows of ten minutes to two
//! weeks; some have gaps, late samples, several lives. `aiops/examples/leaktime` times the call alone, on one core, the least of some rounds;
//! the whole program, over all files in one call, has the reading and its own start in it. Beside it, in the same
//! run and over the same series, the Python prototype of the detector (numpy), where `AIOPS_SHARED` names the folder
//! that has it. Times depend on the machine; that the program judges every series is a promise.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::{Bench, Table, interrupt, query};
use crate::leaklab;
use crate::util::{self, Tally};

/// Times the prototype.
const PEER: &str = include_str!("leak.py");
const NUMPY: &str = "numpy==2.4.6";
const SCIPY: &str = "scipy==1.17.1";
const SEED: u64 = 7001;
const SAMPLES: usize = 10_000;
/// What one series may take.
const BUDGET_MS: f64 = 10.0;
/// The prototype takes a tenth of a second a series.
const PEER_ROUNDS: &str = "2";

/// The chore.
pub(super) fn run(bench: &Bench) -> anyhow::Result<Tally> {
    let folder = std::path::absolute(bench.path("series"))?;
    bench.say(&format!("series of {SAMPLES} samples are made"));
    let labels = leaklab::write(SEED, bench.choose(1, 3), &folder, Some(SAMPLES))?;
    let names: Vec<String> = labels.keys().map(|id| format!("{id}.csv")).collect();
    let mut table = Table::default();
    let samples = labels.values().map(|label| label.samples);
    table.figure(
        &format!("{} series", names.len()),
        format!(
            "of {SAMPLES} samples, of which {} to {} were not missed",
            samples.clone().min().unwrap_or(0),
            samples.max().unwrap_or(0)
        ),
    );
    interrupt::check()?;
    bench.say("one call for each series");
    let ours = ours(&folder, &names, bench.choose("5", "15"))?;
    let figure = spread(&ours);
    let most = ours.values().copied().fold(0.0, f64::max);
    let budget = format!("<{BUDGET_MS:.0} ms each");
    table.budget("judging one series", figure, &budget, most < BUDGET_MS);
    let slowest = ours.iter().max_by(|a, b| a.1.total_cmp(b.1));
    let slowest = slowest.and_then(|(name, _)| labels.get(name.trim_end_matches(".csv")));
    if let Some(label) = slowest {
        let days = label.duration_s / 86_400.0;
        table.figure("the slowest", format!("{}, {days:.2} days", label.family));
    }
    interrupt::check()?;
    bench.say("the whole program");
    program(bench, &mut table, &folder, &names)?;
    interrupt::check()?;
    bench.say("the Python prototype");
    match peer(bench, &folder, &names) {
        Ok(theirs) => {
            table.figure("Python prototype (numpy)", spread(&theirs));
            let mut ratios: Vec<f64> = (theirs.iter())
                .filter_map(|(name, ms)| Some(ms / ours.get(name)?))
                .collect();
            ratios.sort_unstable_by(f64::total_cmp);
            let at = |share: usize| ratios.get(share * (ratios.len() - 1) / 100).copied();
            if let Some(((least, middle), most)) = at(0).zip(at(50)).zip(at(100)) {
                let figure = format!("{middle:.1} ({least:.1} to {most:.1})");
                table.figure("its time over ours, middle", figure);
            }
        }
        Err(error) => table.figure("Python prototype (numpy)", format!("not run: {error:#}")),
    }
    print!("{table}");
    Ok(table.tally())
}

/// Milliseconds of one call for each series.
fn ours(folder: &Path, names: &[String], rounds: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let program = std::path::absolute(util::example("leaktime")?)?;
    let mut run = Command::new(program);
    run.current_dir(folder).arg(rounds).args(names);
    let found = times(&util::output(&mut run)?)?;
    ensure!(found.len() == names.len(), "not every series was judged");
    Ok(found)
}

/// Lines that begin with a name and end with milliseconds.
fn times(said: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(',')?;
        Some((name.to_owned(), rest.rsplit(',').next()?.parse().ok()?))
    };
    let found = said.lines().map(line).collect::<Option<_>>();
    found.with_context(|| format!("no times: {said}"))
}

/// Middle, ninety-ninth of a hundred, most.
fn spread(times: &BTreeMap<String, f64>) -> String {
    let mut times: Vec<f64> = times.values().copied().collect();
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| times[share * (times.len() - 1) / 100];
    format!(
        "median {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        at(50),
        at(99),
        at(100)
    )
}

/// All files in one call: reading, judging, JSON.
fn program(
    bench: &Bench,
    table: &mut Table,
    folder: &Path,
    names: &[String],
) -> anyhow::Result<()> {
    let mut command = Command::new(std::path::absolute(&bench.aiops)?);
    command
        .current_dir(folder)
        .args(["detect", "memory-leak", "-o", "json", "--input"])
        .args(names);
    let report = bench.path("leak.json");
    let began = Instant::now();
    let cost = query::run_to(command, bench, std::fs::File::create(&report)?.into())?;
    let wall_ms = began.elapsed().as_secs_f64() * 1e3;
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report)?)?;
    let judged = report["data"]["processes"].as_array().map_or(0, Vec::len);
    let count = names.len();
    table.promise(
        "the program, all files in one call",
        format!("{judged} of {count} judged"),
        "all",
        judged == count,
    );
    table.figure(
        "the program, for each file, reading included",
        format!(
            "{:.2} ms, {:.2} ms of CPU",
            wall_ms / count as f64,
            cost.cpu_ms / count as f64
        ),
    );
    Ok(())
}

/// Milliseconds of the prototype for each series.
fn peer(bench: &Bench, folder: &Path, names: &[String]) -> anyhow::Result<BTreeMap<String, f64>> {
    let shared = std::env::var_os("AIOPS_SHARED").context("AIOPS_SHARED names no folder")?;
    let prototype = PathBuf::from(shared).join("leaklab/prototype");
    ensure!(
        prototype.join("det2.py").is_file(),
        "no leaklab/prototype/det2.py below AIOPS_SHARED"
    );
    query::python(bench, "numpy", NUMPY)?;
    let installed = query::python(bench, "scipy", SCIPY)?;
    let script = bench.path("leak.py");
    std::fs::write(&script, PEER)?;
    let path = std::env::join_paths([prototype, std::path::absolute(installed)?])?;
    let mut run = Command::new("python3");
    run.arg(script)
        .arg(folder)
        .arg(PEER_ROUNDS)
        .env("PYTHONPATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // One core, as ours.
        .env("OPENBLAS_NUM_THREADS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = run.spawn().context("python3 cannot be started")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(names.join("\n").as_bytes())?;
    }
    let done = child.wait_with_output()?;
    ensure!(done.status.success(), "python3 ended with {}", done.status);
    times(&String::from_utf8(done.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_spread() {
        let read = times("a.csv,100,Leak,4.5\nb.csv,99,NoLeak,1.5\nc.csv,2\n").expect("times");
        assert_eq!(read["a.csv"], 4.5);
        assert_eq!(spread(&read), "median 2.00 ms, p99 2.00 ms, most 4.50 ms");
        assert!(times("a.csv\n").is_err());
    }
}
