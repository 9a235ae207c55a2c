//! `cargo xtask interop`: other engines read what we write, and give the answers that we give.
//!
//! Two hosts' stores are exported into one lake. The SQL of docs/fleet.md is run as it stands there, and what
//! DuckDB and pyarrow say of the lake, of segments and of files of text is compared with what `aiops query
//! memory` answers, process by process; `--all` adds ClickHouse (chdb) and Spark. Python packages go below
//! target/interop.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;

use crate::util;
use crate::util::Tally;

/// Engines that every run asks, and their versions.
const LIGHT: &[&str] = &["duckdb==2.0.0", "pyarrow==26.0.1"];
/// Engines that are large: about 1 GB.
const HEAVY: &[&str] = &["chdb==4.4.0", "pyspark==4.3.0"];
/// The document whose queries are run.
const FLEET: &str = "docs/fleet.md";
/// The folder that its queries name.
const PLACE: &str = "lake/";
/// A range that holds everything that the example writes.
const ALL: [&str; 2] = ["2026-11-18", "2026-11-21"];
/// What asks the engines: reads its questions from a file.
const ASK: &str = include_str!("interop/ask.py");

/// The chore.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let all = match args {
        [] => false,
        [only] if only == "--all" => true,
        _ => bail!("interop: the only option is --all"),
    };
    let python = match python(all) {
        Ok(python) => python,
        Err(error) => {
            println!("SKIPPED: no engines to ask: {error:#}");
            return Ok(Tally::SKIPPED);
        }
    };
    let work = Work::new()?;
    let aiops = util::build("aiops", "ci")?;
    let filler = util::example("lake")?;
    for (host, seed) in [("web-1", "1"), ("web-2", "2")] {
        work.store(&filler, &aiops, host, seed)?;
    }
    let mut tally = Tally::default();
    let engines: &[&str] = if all {
        &["duckdb", "pyarrow", "clickhouse", "spark"]
    } else {
        &["duckdb", "pyarrow"]
    };
    let truth = work.truth(&aiops)?;
    std::fs::write(work.0.join("truth.json"), serde_json::to_vec(&truth)?)?;
    let blocks = queries(&util::root()?)?;
    std::fs::write(work.0.join("queries.json"), serde_json::to_vec(&blocks)?)?;
    std::fs::write(work.0.join("ask.py"), ASK)?;
    for engine in engines {
        if *engine == "spark" && util::tool("java").is_none() {
            println!("SKIPPED: spark needs Java (default-jre-headless): not run");
            tally.add(Tally::SKIPPED);
            continue;
        }
        let done = Command::new(&python)
            .arg(work.0.join("ask.py"))
            .arg(engine)
            .arg(&work.0)
            .status()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let passed = done.success();
        println!("{engine}: {}", if passed { "equal" } else { "DIFFERENT" });
        tally.add(if passed { Tally::PASSED } else { Tally::FAILED });
    }
    Ok(tally)
}

/// A Python that has the engines.
fn python(all: bool) -> Result<PathBuf> {
    let folder = util::root()?.join("target/interop");
    let python = folder.join("bin/python");
    if !python.is_file() {
        util::output(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    let wanted: Vec<&str> = LIGHT
        .iter()
        .chain(if all { HEAVY } else { &[] })
        .copied()
        .collect();
    let there = util::output(Command::new(&python).args(["-m", "pip", "freeze"]))?;
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|one| !there.lines().any(|line| line == *one))
        .collect();
    if !missing.is_empty() {
        eprintln!("installing {}", missing.join(" "));
        let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"];
        util::output(Command::new(&python).args(pip).args(missing))?;
    }
    Ok(python)
}

/// A folder of its own, removed at the end.
struct Work(PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Work {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("aiops-interop-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(folder))
    }

    /// A host's store, and its part of the lake.
    fn store(&self, filler: &Path, aiops: &Path, host: &str, seed: &str) -> Result<()> {
        let store = self.0.join(host);
        util::output(Command::new(filler).arg(&store).args([host, seed]))?;
        util::output(
            Command::new(aiops)
                .args(["export", "--to", "parquet", "--store"])
                .arg(&store)
                .arg("--out")
                .arg(self.0.join("lake")),
        )?;
        Ok(())
    }

    /// What `aiops query` answers about each host, and about the oldest and the newest segment of one.
    fn truth(&self, aiops: &Path) -> Result<Value> {
        let mut hosts = serde_json::Map::new();
        for host in ["web-1", "web-2"] {
            hosts.insert(host.to_owned(), self.query(aiops, host, ALL)?);
        }
        let folder = self.0.join("web-1/segments");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        // The oldest one is merged of several, the newest one is an hour's.
        let ends = [names.first(), names.last()].into_iter().flatten();
        let mut segments = serde_json::Map::new();
        for name in ends {
            let mut times = name.split('-').map(str::parse::<i64>);
            let (Some(Ok(from)), Some(Ok(to))) = (times.next(), times.next()) else {
                bail!("{name}: no segment's name");
            };
            let range = [moment(from)?, moment(to + 1)?];
            let range = [range[0].as_str(), range[1].as_str()];
            segments.insert(name.clone(), self.query(aiops, "web-1", range)?);
        }
        ensure!(
            segments.len() == 2,
            "{}: too few segments",
            folder.display()
        );
        for format in ["csv", "jsonl"] {
            util::output(
                Command::new(aiops)
                    .args(["export", "--to", format, "--table", "process", "--store"])
                    .arg(self.0.join("web-1"))
                    .arg("--out")
                    .arg(self.0.join("texts")),
            )?;
        }
        Ok(serde_json::json!({ "hosts": hosts, "segments": segments }))
    }

    /// Samples, average and most of each process's rss in a range, by pid and start.
    fn query(&self, aiops: &Path, host: &str, [start, end]: [&str; 2]) -> Result<Value> {
        let text = util::output(
            Command::new(aiops)
                .args(["query", "memory", "--start", start, "--end", end])
                .args(["-o", "json", "--strict", "--store"])
                .arg(self.0.join(host)),
        )?;
        let report: Value = serde_json::from_str(&text)?;
        let rows = report["data"]["rows"].as_array().context("rows")?;
        ensure!(!rows.is_empty(), "{host}: no rows");
        let mut found = serde_json::Map::new();
        for row in rows {
            let figures = ["samples", "avg_kb", "max_kb"].map(|name| row[name].clone());
            let twice = found.insert(
                format!("{} {}", row["pid"], row["start"]),
                figures.to_vec().into(),
            );
            ensure!(twice.is_none(), "{host}: a process has two rows: {row}");
        }
        Ok(found.into())
    }
}

/// A moment, ms since 1970 UTC, as options take it.
fn moment(ms: i64) -> Result<String> {
    let at = format!("@{}.{:03}", ms / 1000, ms % 1000);
    let text =
        util::output(Command::new("date").args(["-u", "-d", &at, "+%Y-%m-%dT%H:%M:%S.%3NZ"]))?;
    Ok(text.trim().to_owned())
}

/// Fenced blocks of the document by the engine that their first line names.
fn queries(root: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(root.join(FLEET)).context(FLEET)?;
    let mut found: std::collections::BTreeMap<&str, Vec<String>> = Default::default();
    for (engine, name) in [
        ("duckdb", "DuckDB"),
        ("clickhouse", "ClickHouse"),
        ("spark", "Spark"),
    ] {
        let fence = format!("```sql\n-- {name}");
        for block in text.split(&fence).skip(1) {
            let body = block.split("```").next().unwrap_or_default();
            let (_, query) = body.split_once('\n').context("a query has lines")?;
            ensure!(
                query.contains(PLACE),
                "{FLEET}: a query of {name} names no {PLACE}"
            );
            found.entry(engine).or_default().push(query.to_owned());
        }
        ensure!(found.contains_key(engine), "{FLEET}: no query of {name}");
    }
    Ok(serde_json::to_value(found)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_queries_of_every_engine() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let queries = queries(&root).unwrap();
        for engine in ["duckdb", "clickhouse", "spark"] {
            let all = queries[engine].as_array().unwrap();
            assert!(all.len() >= 2, "{engine}");
        }
    }
}
