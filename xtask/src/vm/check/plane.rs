//! The scenarios without a kill: what the commands of the /proc plane said against the machine's files.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Frames, json, text};

/// Judges one.
pub(super) fn check(scenario: &str, frames: &Frames) -> anyhow::Result<String> {
    ensure!(
        !frames.contains_key("error"),
        "inside the machine: {}",
        text(frames, "error")
    );
    match scenario {
        "numa" => numa(frames),
        "pressure" => pressure(frames),
        "risk" => risk(frames),
        "stalls" => stalls(frames),
        _ => plane(frames),
    }
}

/// The data of one command, which must have ended well.
fn data(frames: &Frames, name: &str) -> anyhow::Result<Value> {
    let said = text(frames, &format!("{name}-stderr"));
    ensure!(
        said.starts_with("exit status: 0\n"),
        "{name}: {}",
        said.trim()
    );
    Ok(json(frames, name)?["data"].take())
}

fn numa(frames: &Frames) -> anyhow::Result<String> {
    let data = data(frames, "processes")?;
    let nodes = data["nodes"].as_array().context("no data.nodes")?;
    ensure!(nodes.len() == 2, "{} nodes instead of two", nodes.len());
    for node in nodes {
        ensure!(
            node["mem_total_kb"].as_u64() > Some(0),
            "a node without memory: {node}"
        );
    }
    let processes = data["processes"].as_array().context("no data.processes")?;
    let placed = processes.iter().filter(|row| {
        row["node_kb"]
            .as_array()
            .is_some_and(|nodes| nodes.len() == 2)
    });
    let placed = placed.count();
    ensure!(placed > 0, "no process has node_kb of both nodes");
    Ok(format!(", {placed} processes placed"))
}

fn pressure(frames: &Frames) -> anyhow::Result<String> {
    let mut scores = Vec::new();
    for step in 0..5 {
        let name = format!("step{step}");
        let data = data(frames, &name)?;
        scores.push(
            data["score"]
                .as_f64()
                .with_context(|| format!("{name}: no score"))?,
        );
    }
    let falls = scores.windows(2).take(3).all(|pair| pair[1] < pair[0]);
    ensure!(falls, "the score does not fall at each step: {scores:?}");
    ensure!(
        scores[4] > scores[3],
        "the score does not recover: {scores:?}"
    );
    Ok(format!(", scores {scores:?}"))
}

/// The outer of two limits is named, with those who die together, and the time is about that of the kill.
fn risk(frames: &Frames) -> anyhow::Result<String> {
    let data = data(frames, "risk")?;
    let pids = text(frames, "pids");
    let leaker: u64 = pids.split(' ').next().unwrap_or_default().parse()?;
    let rows = data["risks"].as_array().context("no data.risks")?;
    let row = rows.iter().find(|row| row["pid"].as_u64() == Some(leaker));
    let row = row.with_context(|| format!("no row of the leaker {leaker}: {rows:?}"))?;
    for (name, wanted) in [
        ("reason", Value::from("growth")),
        ("limit_source", Value::from("cgroup")),
        ("limit_cgroup", Value::from("/outer")),
        ("limit_bytes", Value::from(160_u64 << 20)),
        ("outcome", Value::from("oom-kill")),
    ] {
        ensure!(
            row[name] == wanted,
            "{name} is {} instead of {wanted}",
            row[name]
        );
    }
    let victim = &row["victim"];
    ensure!(
        victim["with"].as_u64() == Some(1),
        "one other dies with it by memory.oom.group: {victim}"
    );
    let real = text(frames, "real");
    let (real, together) = real.split_once(' ').context("no time of the kill")?;
    ensure!(together == "true", "the group was not killed together");
    let real: f64 = real.parse()?;
    let foretold = row["hours"].as_f64().context("no hours")? * 3600.0;
    let ratio = foretold / real;
    ensure!(
        (0.5..2.0).contains(&ratio),
        "foretold in {foretold:.1} s, met after {real:.1} s"
    );
    Ok(format!(
        ", foretold in {foretold:.1} s, met after {real:.1} s"
    ))
}

/// The process waited at its cgroup's limit, every hook that the kernel has ran, and the replay is the report.
fn stalls(frames: &Frames) -> anyhow::Result<String> {
    let pid: u64 = text(frames, "subject").trim().parse().context("the pid")?;
    let live = data(frames, "live")?;
    let rows = live["processes"].as_array().context("no processes")?;
    let row = rows.iter().find(|row| row["pid"].as_u64() == Some(pid));
    let row = row.with_context(|| format!("the subject is not there: {live}"))?;
    ensure!(row["count"].as_u64() > Some(0), "no waits: {row}");
    ensure!(
        row["by_kind_ms"]["memcg"].is_number(),
        "not for its cgroup: {row}"
    );
    let mut report = json(frames, "live")?;
    let accounting = &report["accounting"];
    ensure!(accounting["complete"] == true, "not complete: {accounting}");
    let mut replayed = json(frames, "replay")?;
    for one in [&mut report, &mut replayed] {
        one["generated_at"].take();
    }
    ensure!(report == replayed, "the replay is another report");
    let swap = json(frames, "swap")?;
    data(frames, "swap")?;
    let (missing, other) = (&swap["accounting"]["missing_hooks"], &swap["data"]["notes"]);
    ensure!(
        missing.as_array().is_some_and(Vec::is_empty),
        "swap: {missing}"
    );
    let hidden = other.to_string().contains("kallsyms");
    ensure!(!hidden, "swap: {other}");
    Ok(format!(", {} waits", row["count"]))
}

/// `Key:   123 kB` in a file of /proc.
fn kb(file: &str, key: &str) -> Option<u64> {
    let mut lines = file.lines();
    let rest = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn plane(frames: &Frames) -> anyhow::Result<String> {
    let pid: u64 = text(frames, "subject")
        .trim()
        .parse()
        .context("the subject's pid")?;
    let (meminfo, status) = (text(frames, "meminfo"), text(frames, "status"));
    let collect = data(frames, "collect")?;
    let total = kb(&meminfo, "MemTotal").context("MemTotal")?;
    ensure!(
        collect["system"]["mem_total_kb"].as_u64() == Some(total),
        "mem_total_kb is not MemTotal {total}"
    );
    let rss = kb(&status, "VmRSS").context("VmRSS")?;
    for name in ["collect", "processes"] {
        let data = data(frames, name)?;
        let rows = data["processes"]
            .as_array()
            .with_context(|| format!("{name}: no processes"))?;
        let row = rows.iter().find(|row| row["pid"].as_u64() == Some(pid));
        let row = row.with_context(|| format!("{name}: the subject is not there"))?;
        // A stopped process does not change; yet before 6.2 status is made of cached counters too.
        let found = row["rss_kb"].as_u64();
        ensure!(
            found == Some(rss),
            "{name}: rss_kb is {found:?}, VmRSS {rss}"
        );
    }
    let rollup = text(frames, "rollup");
    let memory = data(frames, "memory")?;
    for (key, theirs) in [("rss_kb", "Rss"), ("pss_kb", "Pss"), ("swap_kb", "Swap")] {
        // smaps cuts the share of each mapping to whole KiB, smaps_rollup that of all together.
        let part = if key == "pss_kb" { "rollup" } else { "totals" };
        let (ours, theirs) = (memory[part][key].as_u64(), kb(&rollup, theirs));
        // Others map the program as well, and come and go: their shares change this one's.
        let apart = if key == "pss_kb" { 16 } else { 0 };
        let near = ours
            .zip(theirs)
            .is_some_and(|(ours, theirs)| ours.abs_diff(theirs) <= apart);
        ensure!(
            near,
            "{part}.{key} is {ours:?}, smaps_rollup says {theirs:?}"
        );
    }
    ensure!(
        memory["totals_equal_rollup"] == true,
        "{}",
        memory["differences"]
    );
    ensure!(
        memory["mappings"]
            .as_array()
            .is_some_and(|rows| rows.len() > 10),
        "the subject has no mappings"
    );
    limits(&data(frames, "processes")?, pid)?;
    ensure!(
        data(frames, "swap")?["totals"].is_object(),
        "analyze swap: no totals"
    );
    for name in ["inspect-cache", "cache"] {
        ensure!(
            data(frames, name)?["page_cache"].is_object(),
            "{name}: no page_cache"
        );
    }
    let score = data(frames, "health")?["score"]
        .as_f64()
        .context("no score")?;
    ensure!((0.0..=100.0).contains(&score), "score {score}");
    data(frames, "collect-2")?;
    ensure!(
        data(frames, "diff")?["processes"].is_array(),
        "diff: no processes"
    );
    Ok(format!(", score {score}"))
}

/// The group's limits stand beside the process: 64 MiB hard, 48 MiB high.
fn limits(data: &Value, pid: u64) -> anyhow::Result<()> {
    let rows = data["processes"].as_array().context("no processes")?;
    let row = rows.iter().find(|row| row["pid"].as_u64() == Some(pid));
    let limits = &row.context("no subject")?["limits"];
    for (key, wanted) in [("limit_kb", 64 << 10), ("high_kb", 48 << 10)] {
        let found = limits[key].as_u64();
        ensure!(
            found == Some(wanted),
            "limits.{key} is {found:?} instead of {wanted}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(scores: [u32; 5]) -> Frames {
        let mut frames = Frames::new();
        for (step, score) in scores.iter().enumerate() {
            let report = format!("{{\"data\":{{\"score\":{score}}}}}");
            frames.insert(format!("step{step}"), report.into_bytes());
            frames.insert(format!("step{step}-stderr"), b"exit status: 0\n".to_vec());
        }
        frames
    }

    #[test]
    fn a_score_must_fall_three_times_and_recover() {
        assert!(check("pressure", &frames([95, 70, 50, 20, 90])).is_ok());
        for bad in [
            [95, 95, 50, 20, 90],
            [95, 70, 50, 50, 90],
            [95, 70, 50, 20, 20],
        ] {
            assert!(check("pressure", &frames(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_command_that_failed_is_said() {
        let mut frames = frames([95, 70, 50, 20, 90]);
        frames.insert(
            "step2-stderr".to_owned(),
            b"exit status: 1\nerror: no\n".to_vec(),
        );
        let error = check("pressure", &frames)
            .expect_err("step2 failed")
            .to_string();
        assert!(
            error.contains("step2") && error.contains("error: no"),
            "{error}"
        );
    }
}
