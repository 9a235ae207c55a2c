//! `cargo xtask bench query [--quick] [--markdown]`: a month of history, asked by process, beside DuckDB and SQLite on
//! the same rows in the same run.
//!
//! The history is made by `aiops/examples/month` and kept below target/bench for the next run; a new layout of
//! the store makes it anew when the folder is removed. Ours is a whole process, from its start to its end; the
//! peers are asked in a warm process, without its start. Every sum, most and count of every process must be
//! the same as theirs: that is a promise. Times are budgets.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::proc::{Cost, median, wait};
use super::{Bench, Table, interrupt};
use crate::util::{self, Tally};

/// What peers are asked, and how their answers are compared.
const PEERS: &str = include_str!("query.py");
/// The version that the figures of docs/benchmarks.md are of.
const DUCKDB: &str = "duckdb==2.0.0";
/// A full hour: every run of equal samples ends there, so that the peers need no times of single samples.
const END: &str = "2026-11-01T00:00:00Z";
const END_MS: i64 = 1_793_491_200_000;
const DAY_MS: i64 = 86_400_000;
const PROCESSES: &str = "300";
const INTERVAL: &str = "10";
const SEED: &str = "1";
const ROUNDS: usize = 9;
/// SQLite takes minutes to load more.
const SQLITE_MOST_DAYS: i64 = 7;

/// A range, and what it may take.
#[derive(Clone, Copy)]
struct Span {
    days: i64,
    start: &'static str,
    budget_ms: f64,
    /// Of peak memory; that of a month is a figure only.
    budget_kb: Option<u64>,
}

const SPANS: &[Span] = &[
    Span {
        days: 1,
        start: "2026-10-31T00:00:00Z",
        budget_ms: 300.0,
        budget_kb: Some(64 << 10),
    },
    Span {
        days: 7,
        start: "2026-10-25T00:00:00Z",
        budget_ms: 300.0,
        budget_kb: Some(64 << 10),
    },
    Span {
        days: 30,
        start: "2026-10-02T00:00:00Z",
        budget_ms: 1000.0,
        budget_kb: None,
    },
];

/// All that a quick run makes.
const QUICK: Span = Span {
    days: 3,
    start: "2026-10-29T00:00:00Z",
    budget_ms: 300.0,
    budget_kb: Some(64 << 10),
};

/// The chore.
pub(super) fn run(bench: &Bench) -> anyhow::Result<Tally> {
    let days = bench.choose(3, 30);
    let store = history(bench, days)?;
    let python = python(bench, "duckdb", DUCKDB);
    if let Err(error) = &python {
        bench.say(&format!("no peers: {error:#}"));
    }
    let mut table = Table::default();
    let size = super::folder_size(&store)?;
    table.figure(
        &format!("{days} days of {PROCESSES} processes every {INTERVAL} s, on disk"),
        format!("{:.1} MB, {:.2} MB/day", mb(size), mb(size) / days as f64),
    );
    let spans = SPANS.iter().filter(|span| span.days <= days);
    for span in spans.chain(bench.quick.then_some(&QUICK)) {
        interrupt::check()?;
        bench.say(&format!("{} days", span.days));
        one(bench, &mut table, &store, span, python.as_deref().ok());
    }
    leaks(bench, &mut table, &store);
    print!("{table}");
    Ok(table.tally())
}

/// What a day of every process takes to be judged, its reading included.
const LEAKS_MS: f64 = 3000.0;
const LEAK_ROUNDS: usize = 3;

/// `detect memory-leak --all` on the last day.
fn leaks(bench: &Bench, table: &mut Table, store: &Path) {
    let what = "detect memory-leak --all, 1 day";
    let (mut times, mut cpu, mut rss_kb) = (Vec::new(), Vec::new(), 0);
    for _ in 0..LEAK_ROUNDS {
        let mut command = Command::new(&bench.aiops);
        command
            .args([
                "detect",
                "memory-leak",
                "--all",
                "--history",
                "24h",
                "--store",
            ])
            .arg(store)
            .args(["--end", END])
            .env("LC_ALL", "C.UTF-8")
            .env_remove("AIOPS_LANG")
            .stdin(Stdio::null());
        let began = Instant::now();
        match run_to(command, bench, Stdio::null()) {
            Ok(cost) => {
                times.push(began.elapsed().as_secs_f64() * 1e3);
                cpu.push(cost.cpu_ms);
                rss_kb = rss_kb.max(cost.rss_kb);
            }
            Err(error) => {
                table.promise(what, format!("{error:#}"), "runs", false);
                return;
            }
        }
    }
    if let Some((ms, cpu_ms)) = median(&mut times).zip(median(&mut cpu)) {
        let peak = mb(rss_kb << 10);
        let figure = format!("{ms:.0} ms, {cpu_ms:.0} ms of CPU, {peak:.0} MB");
        table.budget(what, figure, &format!("<{LEAKS_MS:.0} ms"), ms < LEAKS_MS);
    }
}

/// The store, made when it is not there.
fn history(bench: &Bench, days: i64) -> anyhow::Result<PathBuf> {
    let folder = util::target_dir()?.join("bench");
    let store = folder.join(format!(
        "history-{days}d-{PROCESSES}p-{INTERVAL}s-seed{SEED}"
    ));
    let store = std::path::absolute(store)?;
    if store.is_dir() {
        return Ok(store);
    }
    bench.say(&format!("{days} days of history are made once"));
    let program = util::example("month")?;
    let making = folder.join(format!("making-{}", std::process::id()));
    let mut month = Command::new(program);
    month
        .args(["--days", &days.to_string(), "--processes", PROCESSES])
        .args([
            "--interval",
            INTERVAL,
            "--seed",
            SEED,
            "--end",
            END,
            "--out",
        ])
        .arg(&making);
    let made = util::output(&mut month);
    match made {
        Ok(said) => said.lines().for_each(|line| bench.say(line)),
        Err(error) => {
            let _ = fs::remove_dir_all(&making);
            return Err(error);
        }
    }
    fs::rename(&making, &store).with_context(|| store.display().to_string())?;
    Ok(store)
}

/// A folder with a module for Python, installed below target when the network gives it.
pub(super) fn python(bench: &Bench, module: &str, package: &str) -> anyhow::Result<PathBuf> {
    let python = util::tool("python3").context("python3 is not installed")?;
    let folder = util::target_dir()?.join("bench/python");
    if !folder.join(module).is_dir() {
        bench.say(&format!("{package} is installed below target/bench"));
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(&folder)
            .arg(package);
        util::output(&mut pip)?;
    }
    Ok(folder)
}

/// One range: ours, then the peers.
fn one(bench: &Bench, table: &mut Table, store: &Path, span: &Span, python: Option<&Path>) {
    let what = format!("{} days, by process, sorted", span.days);
    let (ms, cpu_ms, rss_kb) = match ours(bench, store, span) {
        Ok(cost) => cost,
        Err(error) => {
            table.promise(&what, format!("{error:#}"), "runs", false);
            return;
        }
    };
    let budget = format!("<{:.0} ms", span.budget_ms);
    // CPU time beside it tells what a busy machine added.
    let figure = format!("{ms:.0} ms, {cpu_ms:.0} ms of CPU");
    table.budget(&what, figure, &budget, ms < span.budget_ms);
    let name = format!("{what}: peak RSS");
    let figure = format!("{:.1} MB", mb(rss_kb << 10));
    match span.budget_kb {
        Some(most) => table.budget(&name, figure, &format!("<{} MB", most >> 10), rss_kb < most),
        None => table.figure(&name, figure),
    }
    for engine in ["duckdb", "sqlite"] {
        let name = format!("{what}: {engine}");
        match peer(bench, store, span, engine, python) {
            Ok(said) => compared(table, &name, &said, ms),
            Err(error) => table.figure(&name, format!("not run: {error:#}")),
        }
    }
}

fn compared(table: &mut Table, name: &str, said: &Value, ours_ms: f64) {
    let mut times: Vec<f64> = said["ms"]
        .as_array()
        .map(|times| times.iter().filter_map(Value::as_f64).collect())
        .unwrap_or_default();
    let (Some(ms), Some(rss_kb)) = (median(&mut times), said["rss_kb"].as_u64()) else {
        table.promise(name, said.to_string(), "says its times", false);
        return;
    };
    let rss = mb(rss_kb << 10);
    table.figure(
        name,
        format!(
            "{ms:.0} ms warm, {rss:.0} MB, {:.2} times ours",
            ms / ours_ms
        ),
    );
    let (processes, different) = (&said["processes"], &said["different"]);
    let mut figure = format!("{processes} processes, {different} differ");
    if let Some(example) = said["example"].as_str() {
        figure.push_str(&format!(", first: {example}"));
    }
    let same = different.as_u64() == Some(0) && processes.as_u64().is_some_and(|count| count > 0);
    table.promise(
        &format!("{name}: sums, counts, most"),
        figure,
        "the same",
        same,
    );
}

/// The command, as anyone would type it.
fn command(bench: &Bench, store: &Path, span: &Span, format: &str) -> Command {
    let mut command = Command::new(&bench.aiops);
    command
        .args(["query", "memory", "--store"])
        .arg(store)
        .args(["--start", span.start, "--end", END, "--processes"])
        .args([
            "--group-by",
            "pid",
            "--field",
            "rss",
            "--agg",
            "avg",
            "--top",
            "20",
        ])
        .args(["-o", format])
        .env("LC_ALL", "C.UTF-8")
        .env_remove("AIOPS_LANG")
        .stdin(Stdio::null());
    command
}

/// Medians of wall and CPU time, ms, and the most memory of all rounds. Text shows the first twenty, which is what
/// the peers are asked for; JSON holds all.
fn ours(bench: &Bench, store: &Path, span: &Span) -> anyhow::Result<(f64, f64, u64)> {
    let (mut times, mut cpu) = (Vec::new(), Vec::new());
    let mut most = 0;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let cost = run_to(command(bench, store, span, "text"), bench, Stdio::null())?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        cpu.push(cost.cpu_ms);
        most = most.max(cost.rss_kb);
    }
    let middle = median(&mut times).zip(median(&mut cpu));
    let (ms, cpu_ms) = middle.context("no rounds")?;
    Ok((ms, cpu_ms, most))
}

pub(super) fn run_to(mut command: Command, bench: &Bench, out: Stdio) -> anyhow::Result<Cost> {
    interrupt::check()?;
    let said = bench.path("said");
    let child = command
        .stdout(out)
        .stderr(File::create(&said)?)
        .spawn()
        .context("cannot be started")?;
    let cost = wait(child)?;
    if cost.status != 0 {
        let said = fs::read_to_string(&said).unwrap_or_default();
        bail!("ended with status {:#x}: {}", cost.status, said.trim());
    }
    Ok(cost)
}

fn peer(
    bench: &Bench,
    store: &Path,
    span: &Span,
    engine: &str,
    python: Option<&Path>,
) -> anyhow::Result<Value> {
    let python = python.context("DuckDB for Python cannot be had")?;
    let days = span.days;
    ensure!(
        engine != "sqlite" || days <= SQLITE_MOST_DAYS,
        "more than {SQLITE_MOST_DAYS} days take too long to load"
    );
    let report = bench.path("ours.json");
    run_to(
        command(bench, store, span, "json"),
        bench,
        File::create(&report)?.into(),
    )?;
    let rows = bench.path("rows.json");
    fs::write(&rows, answers(&report)?.to_string())?;
    let script = bench.path("query.py");
    fs::write(&script, PEERS)?;
    let mut run = Command::new("python3");
    run.arg(script)
        .arg(engine)
        .arg(store)
        .args([END_MS - days * DAY_MS, END_MS].map(|ms| ms.to_string()))
        .arg(ROUNDS.to_string())
        .arg(rows)
        .arg(bench.path(&format!("{days}.sqlite")))
        .env("PYTHONPATH", std::path::absolute(python)?);
    Ok(serde_json::from_str(&util::output(&mut run)?)?)
}

/// Of our report: `[[pid, start], [samples, most, sum]]` for every process.
fn answers(report: &Path) -> anyhow::Result<Value> {
    let report: Value = serde_json::from_slice(&fs::read(report)?)?;
    let rows = report["data"]["rows"].as_array();
    let rows = rows.context("the report has no rows")?.iter().map(|row| {
        let samples = row["samples"].as_u64().context("samples")?;
        let average = row["avg_kb"].as_f64().context("avg_kb")?;
        // Below 2^53, so that the product says the sum to the unit.
        let sum = (average * samples as f64).round();
        Ok(serde_json::json!([
            [row["pid"], row["start"]],
            [samples, row["max_kb"], sum as i64]
        ]))
    });
    Ok(Value::Array(rows.collect::<anyhow::Result<_>>()?))
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
