//! `cargo xtask leaks [--minutes N] [--keep DIR]`: programs that leak or do not, sampled by the daemon and judged by
//! `aiops detect memory-leak --all`.
//!
//! The programs stand in `tests/leaks`, the truth about each in [`truth`]. All run at the same time, paced by the
//! clock, for at least 2.5 of their time constants. `--minutes` stretches their clock, so that the same happens slowly,
//! as in a service, and the daemon samples at its own default interval.

mod run;
mod truth;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::bench::interrupt;
use crate::oomlab;
use crate::util::{self, Tally};
pub(crate) use run::{CHILD, child};
use run::{Running, Work};
use truth::{PROGRAMS, Program};

/// How long the programs are looked at, in seconds of their own clock.
const SPAN_S: f64 = 70.0;
/// How often the daemon samples them at the most and at the least, ms: its shortest interval, and its default.
const INTERVAL_MS: (f64, f64) = (200.0, 5000.0);
/// The reports look back a day.
const MOST_MINUTES: f64 = 1440.0;
/// A rate that is further from the truth is wrong.
const RATE_WITHIN: f64 = 0.2;

/// The chore.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let mut scale = 1.0;
    let mut kept = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next()) {
            ("--minutes", Some(minutes)) => {
                scale = scale_of(minutes)?;
            }
            ("--keep", Some(folder)) => kept = Some(PathBuf::from(folder)),
            _ => bail!("leaks: the options are --minutes N and --keep DIR"),
        }
    }
    interrupt::install();
    let aiops = oomlab::aiops()?;
    let work = Work::new()?;
    let commands = work.build()?;
    let interval = &interval(scale);
    let mut daemon = Running::daemon(&work, &aiops, interval)?;
    let mut programs = Vec::new();
    for (one, command) in PROGRAMS.iter().zip(&commands) {
        programs.push(Running::program(&work, one, command, scale)?);
    }
    interrupt::sleep(Duration::from_secs_f64(SPAN_S * scale))?;
    // What ended early was not looked at for as long as it must be.
    daemon.must_run()?;
    for program in &mut programs {
        program.must_run()?;
    }
    let pids: Vec<u32> = programs.iter().map(Running::pid).collect();
    let ask = Ask {
        aiops: &aiops,
        store: work.store(),
        interval,
        scale,
    };
    let report = ask.all()?;
    if let Some(folder) = &kept {
        ask.keep(folder, &pids, &report)?;
    }
    println!("{}", header());
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    for (one, &pid) in PROGRAMS.iter().zip(&pids) {
        let found = Found::read(&report, pid);
        let outcome = judge(one, scale, found.as_ref());
        println!("{}", row(one, scale, found.as_ref(), &outcome));
        match outcome {
            Outcome::Right => tally.add(Tally::PASSED),
            Outcome::Undecided(_) => tally.add(Tally::SKIPPED),
            Outcome::Wrong(_) => {
                tally.add(Tally::FAILED);
                wrong.push(pid);
            }
        }
    }
    for pid in wrong {
        println!("{}", ask.one(pid)?);
    }
    println!("leaks: {tally}");
    Ok(tally)
}

/// How far the clock of the programs is stretched, so that all of it takes this many minutes.
fn scale_of(minutes: &str) -> Result<f64> {
    let minutes: f64 = minutes.parse().context("--minutes: no number")?;
    ensure!(minutes > 0.0, "--minutes: nothing is seen in no time");
    ensure!(minutes <= MOST_MINUTES, "--minutes: a day is the most");
    Ok(60.0 * minutes / SPAN_S)
}

/// As many samples as without a stretched clock, until the daemon's default interval is enough for that.
fn interval(scale: f64) -> String {
    let (shortest, usual) = INTERVAL_MS;
    format!("{:.0}ms", (shortest * scale).clamp(shortest, usual))
}

/// Questions to the program under test.
struct Ask<'a> {
    aiops: &'a Path,
    store: PathBuf,
    interval: &'a str,
    scale: f64,
}

impl Ask<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(self.aiops);
        command.arg("--store").arg(&self.store);
        command.args(["--lang", "en", "--color", "never"]);
        command
    }

    fn all(&self) -> Result<Value> {
        let mut command = self.command();
        command.args(["detect", "memory-leak", "--all", "-o", "json"]);
        serde_json::from_str(&util::output(&mut command)?).context("the report is no JSON")
    }

    /// The report for a person, with its chart: why a verdict is wrong.
    fn one(&self, pid: u32) -> Result<String> {
        let mut command = self.command();
        command.args(["detect", "memory-leak", "--history", "1d", "--pid"]);
        util::output(command.arg(pid.to_string()))
    }

    /// Keeps the series of all programs as `detect memory-leak --input` reads them, and the report.
    fn keep(&self, folder: &Path, pids: &[u32], report: &Value) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        fs::write(folder.join("report.json"), report.to_string())?;
        for (one, pid) in PROGRAMS.iter().zip(pids) {
            let mut command = self.command();
            command.args(["query", "memory", "--pid", &pid.to_string()]);
            // A minute more, for what came before and after.
            let minutes = (SPAN_S * self.scale / 60.0).ceil() + 1.0;
            command.args(["--start", &format!("-{minutes}m"), "--step", self.interval]);
            command.args(["--top", "0", "-o", "csv"]);
            let table = util::output(&mut command)?;
            fs::write(folder.join(one.name).with_extension("csv"), series(&table)?)?;
        }
        Ok(())
    }
}

/// Times and sizes of a table of `query memory`.
fn series(table: &str) -> Result<String> {
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        let place = names.iter().position(|one| *one == name);
        place.with_context(|| format!("query memory has no column {name}"))
    };
    let (time, size) = (column("ts_ms")?, column("value")?);
    let mut text = "ts,kb\n".to_owned();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let (Some(time), Some(size)) = (cells.get(time), cells.get(size)) else {
            bail!("a row is cut: {line}");
        };
        text += &format!("{time},{size}\n");
    }
    Ok(text)
}

/// What was said about a process.
#[derive(Debug)]
struct Found {
    verdict: String,
    confidence: f64,
    rate: Option<f64>,
}

impl Found {
    fn read(report: &Value, pid: u32) -> Option<Self> {
        let rows = report["data"]["processes"].as_array()?;
        let row = rows.iter().find(|row| row["process"]["pid"] == pid)?;
        Some(Self {
            verdict: row["verdict"].as_str()?.to_owned(),
            confidence: row["confidence"].as_f64()?,
            rate: row["rate_mib_per_hour"].as_f64(),
        })
    }
}

/// How a verdict compares with the truth.
#[derive(Debug, PartialEq)]
enum Outcome {
    Right,
    /// Allowed, for this reason.
    Undecided(&'static str),
    /// Why.
    Wrong(&'static str),
}

fn judge(one: &Program, scale: f64, found: Option<&Found>) -> Outcome {
    let Some(found) = found else {
        return Outcome::Wrong("not among the processes");
    };
    match (found.verdict.as_str(), one.leak) {
        ("no-leak", None) => Outcome::Right,
        ("leak", Some(leak)) => {
            let truth = rate_per_hour(leak, scale);
            let near = found
                .rate
                .is_some_and(|rate| (rate / truth - 1.0).abs() <= RATE_WITHIN);
            if near {
                Outcome::Right
            } else {
                Outcome::Wrong("rate")
            }
        }
        ("inconclusive", _) => one
            .may_be_inconclusive
            .map_or(Outcome::Wrong("undecided"), Outcome::Undecided),
        _ => Outcome::Wrong("verdict"),
    }
}

/// MiB/h of a rate in MiB for each second of a program's clock.
fn rate_per_hour(leak: f64, scale: f64) -> f64 {
    leak * 3600.0 / scale
}

fn header() -> String {
    let names = [
        "program",
        "in",
        "what it does",
        "time constants",
        "truth",
        "verdict",
        "confidence",
        "MiB/h",
        "found",
        "",
    ];
    format!(
        "{}\n|---|---|---|---|---|---|---|---|---|---|",
        cells(&names)
    )
}

fn row(one: &Program, scale: f64, found: Option<&Found>, outcome: &Outcome) -> String {
    let rate = |rate: Option<f64>| rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.1}"));
    let truth = if one.leak.is_some() {
        "leak"
    } else {
        "no-leak"
    };
    cells(&[
        one.name,
        one.language.name(),
        one.what,
        &one.constants(SPAN_S)
            .map_or_else(|| "–".to_owned(), |count| format!("{count:.1}")),
        truth,
        found.map_or("–", |found| &found.verdict),
        &found.map_or_else(
            || "–".to_owned(),
            |found| format!("{:.3}", found.confidence),
        ),
        &rate(one.leak.map(|leak| rate_per_hour(leak, scale))),
        &rate(found.and_then(|found| found.rate)),
        &match outcome {
            Outcome::Right => "right".to_owned(),
            Outcome::Undecided(reason) => format!("may be undecided: {reason}"),
            Outcome::Wrong(why) => format!("WRONG: {why}"),
        },
    ])
}

/// A line of a table, readable and Markdown.
fn cells(cells: &[&str]) -> String {
    const WIDTHS: [usize; 10] = [17, 6, 30, 14, 7, 12, 10, 7, 7, 5];
    let mut line = "|".to_owned();
    for (cell, width) in cells.iter().zip(WIDTHS) {
        line += &format!(" {cell:width$} |");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(verdict: &str, rate: Option<f64>) -> Found {
        Found {
            verdict: verdict.to_owned(),
            confidence: 0.9,
            rate,
        }
    }

    #[test]
    fn a_verdict_is_right_with_its_rate_only() {
        let leak = PROGRAMS[0];
        let truth = rate_per_hour(0.4, 2.0);
        assert_eq!(leak.leak, Some(0.4));
        assert!((truth - 720.0).abs() < 1e-9);
        let judged = |verdict, rate| judge(&leak, 2.0, Some(&found(verdict, rate)));
        assert_eq!(judged("leak", Some(truth * 1.19)), Outcome::Right);
        assert_eq!(judged("leak", Some(truth * 1.21)), Outcome::Wrong("rate"));
        assert_eq!(judged("leak", None), Outcome::Wrong("rate"));
        assert_eq!(judged("no-leak", None), Outcome::Wrong("verdict"));
        assert_eq!(judged("inconclusive", None), Outcome::Wrong("undecided"));
        assert!(matches!(judge(&leak, 2.0, None), Outcome::Wrong(_)));
    }

    #[test]
    fn only_what_is_listed_may_be_undecided() {
        let mut healthy = *PROGRAMS.iter().find(|one| one.leak.is_none()).expect("one");
        let judged = |one: &Program, verdict| judge(one, 1.0, Some(&found(verdict, None)));
        assert_eq!(judged(&healthy, "no-leak"), Outcome::Right);
        assert_eq!(judged(&healthy, "leak"), Outcome::Wrong("verdict"));
        healthy.may_be_inconclusive = None;
        assert_eq!(
            judged(&healthy, "inconclusive"),
            Outcome::Wrong("undecided")
        );
        healthy.may_be_inconclusive = Some("why");
        assert_eq!(judged(&healthy, "inconclusive"), Outcome::Undecided("why"));
        assert_eq!(judged(&healthy, "leak"), Outcome::Wrong("verdict"));
    }

    #[test]
    fn minutes_stretch_the_clock_and_the_interval_but_not_the_count_of_samples() {
        let scaled = |minutes: &str| scale_of(minutes).expect("minutes");
        assert!((scaled("7") - 6.0).abs() < 1e-9);
        assert!((scaled("0.5") - 30.0 / 70.0).abs() < 1e-9);
        for wrong in ["0", "-1", "NaN", "inf", "1e9", "7m", ""] {
            assert!(scale_of(wrong).is_err(), "{wrong}");
        }
        for (minutes, every) in [("0.5", "200ms"), ("7", "1200ms"), ("60", "5000ms")] {
            assert_eq!(interval(scaled(minutes)), every, "{minutes}");
        }
        assert_eq!(interval(1.0), "200ms");
        // A rate by the wall clock falls as time is stretched.
        let leak = 0.4;
        let slow = rate_per_hour(leak, scaled("7"));
        assert!((slow - rate_per_hour(leak, 1.0) / 6.0).abs() < 1e-9);
    }

    #[test]
    fn a_table_of_samples_becomes_a_series() {
        let table = "name,ts_ms,samples,value\na,1000,1,512\na,1200,1,513\n";
        assert_eq!(series(table).expect("rows"), "ts,kb\n1000,512\n1200,513\n");
        assert!(series("name,value\n").is_err());
    }
}
