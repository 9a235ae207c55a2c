//! The judgement: what aiops said against what the kernel said and what was done.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::boot::Frames;
use super::kmsg::{self, KilledLine};

/// All scenarios (tests/vm/README.md).
pub(super) const SCENARIOS: &[&str] = &["global", "group", "other", "v1", "nobtf"];
/// Scenarios of the /proc plane, and the one kernel on which each runs when none is named.
pub(super) const PLANE: &[(&str, &str)] = &[
    ("numa", "6.12"),
    ("pressure", "6.1"),
    ("plane", "6.12"),
    ("risk", "6.12"),
    ("stalls", "6.1"),
];

/// Whether a scenario is of the /proc plane.
pub(super) fn is_plane(scenario: &str) -> bool {
    PLANE.iter().any(|(name, _)| *name == scenario)
}

/// Figures of a victim that was still running come from per-CPU counters, which the kernel reads a
/// moment later than aiops: up to 64 pages of 4 KiB on each of the machine's two CPUs.
const APPROXIMATE_KB: i64 = 64 * 4 * 2;
/// design.md's budget of a tracer's memory; its peak is reported, and marked when it is above.
const RSS_BUDGET_KB: u64 = 20 << 10;

/// What is particular to a scenario.
struct Expected {
    kills: usize,
    scope: &'static str,
    /// Who runs first into the limit; in a global OOM it may be anybody.
    trigger_is_victim: Option<bool>,
    group_kill: bool,
    has_btf: bool,
}

fn expected(scenario: &str) -> Expected {
    Expected {
        kills: if scenario == "group" { 3 } else { 1 },
        scope: if scenario == "global" {
            "global"
        } else {
            "memcg"
        },
        trigger_is_victim: (scenario != "global").then_some(scenario != "other"),
        group_kill: scenario == "group",
        has_btf: scenario != "nobtf",
    }
}

/// Why a scenario cannot run on this kernel at all, when process 1 found so.
pub(super) fn skipped(frames: &Frames) -> Option<String> {
    frames.contains_key("skip").then(|| text(frames, "skip"))
}

/// Judges what a machine sent. `Ok` holds notes for the log, `Err` the first thing that is wrong, with
/// what aiops said to people.
pub(super) fn check(scenario: &str, frames: &Frames) -> anyhow::Result<String> {
    if scenario == "boot" {
        ensure!(frames.contains_key("facts"), "no facts");
        return Ok(String::new());
    }
    if is_plane(scenario) {
        return plane::check(scenario, frames);
    }
    judge(scenario, frames).map_err(|error| {
        let talk = text(frames, "live-stderr");
        anyhow::anyhow!("{error:#}\n  aiops said: {}", talk.trim())
    })
}

fn judge(scenario: &str, frames: &Frames) -> anyhow::Result<String> {
    if frames.contains_key("error") {
        bail!("inside the machine: {}", text(frames, "error"));
    }
    let facts = text(frames, "facts");
    ensure!(
        facts.contains("live_exit exit status: 0\n"),
        "aiops did not end well: {facts}"
    );
    let live = json(frames, "live")?;
    let expected = expected(scenario);
    let incident = one_incident(&live)?;
    let lines = kmsg::killed_lines(&text(frames, "kmsg"));
    check_victims(incident, &victims(frames), &lines, &expected)?;
    check_incident(incident, &expected)?;
    // Where the whole machine is short, the freed pages may come too late for the next who asks, and the kernel
    // kills once more: then aiops must have seen all of it.
    let kills = match scenario {
        "global" => lines.len().max(expected.kills),
        _ => expected.kills,
    };
    check_reconciliation(&live["data"]["reconciliation"], kills, lines.len())?;
    check_replay(frames, &facts, &live)?;
    Ok(notes(&facts, incident))
}

fn one_incident(live: &Value) -> anyhow::Result<&Value> {
    let incidents = live["data"]["incidents"]
        .as_array()
        .context("no data.incidents")?;
    ensure!(
        incidents.len() == 1,
        "{} incidents instead of one",
        incidents.len()
    );
    Ok(&incidents[0])
}

/// Who had to die, by process id and name.
fn victims(frames: &Frames) -> Vec<(u64, String)> {
    text(frames, "victims")
        .lines()
        .filter_map(|line| {
            let (pid, name) = line.split_once(' ')?;
            Some((pid.parse().ok()?, name.to_owned()))
        })
        .collect()
}

fn check_victims(
    incident: &Value,
    victims: &[(u64, String)],
    lines: &[KilledLine],
    expected: &Expected,
) -> anyhow::Result<()> {
    let kills = incident["kills"].as_array().context("no kills")?;
    ensure!(
        victims.len() == expected.kills,
        "{} victims died",
        victims.len()
    );
    ensure!(
        kills.len() == expected.kills,
        "{} kills instead of {}",
        kills.len(),
        expected.kills
    );
    for (pid, name) in victims {
        let kill = kills
            .iter()
            .find(|kill| kill["pid"].as_u64() == Some(*pid))
            .with_context(|| format!("{name} ({pid}) is not among the kills"))?;
        let own: Vec<&KilledLine> = lines.iter().filter(|line| line.pid == *pid).collect();
        ensure!(!own.is_empty(), "the kernel has no line on {name} ({pid})");
        let is_trigger = incident["trigger"]["pid"].as_u64() == Some(*pid);
        let comparison = Comparison {
            kill,
            exact: is_trigger,
            nulls: !expected.has_btf,
        };
        // A group kill has two lines for its first victim: one of them is what aiops saw.
        let verdicts: Vec<_> = own.iter().map(|line| comparison.with(line)).collect();
        if verdicts.iter().all(Result::is_err) {
            for verdict in verdicts {
                verdict.with_context(|| format!("{name} ({pid})"))?;
            }
        }
    }
    Ok(())
}

/// A captured kill against a line of the kernel.
struct Comparison<'a> {
    kill: &'a Value,
    exact: bool,
    nulls: bool,
}

impl Comparison<'_> {
    fn with(&self, line: &KilledLine) -> anyhow::Result<()> {
        let comm = self.kill["comm"].as_str().unwrap_or_default();
        ensure!(
            comm == line.comm,
            "comm {comm}, the kernel says {}",
            line.comm
        );
        for (name, theirs) in &line.figures {
            self.figure(name, *theirs)?;
        }
        Ok(())
    }

    fn figure(&self, name: &str, theirs: i64) -> anyhow::Result<()> {
        let Some(ours) = self.kill[name].as_i64() else {
            ensure!(self.nulls, "{name} is unknown, the kernel says {theirs}");
            return Ok(());
        };
        if ours == theirs {
            return Ok(());
        }
        let may_differ = !self.exact && name != "oom_score_adj";
        let difference = (ours - theirs).abs();
        ensure!(
            may_differ && difference <= APPROXIMATE_KB,
            "{name} is {ours}, the kernel says {theirs}"
        );
        let kept = self.kill["kernel"][name].as_i64();
        ensure!(
            kept == Some(theirs),
            "{name} {ours}: the kernel's {theirs} was not kept"
        );
        Ok(())
    }
}

fn check_incident(incident: &Value, expected: &Expected) -> anyhow::Result<()> {
    let is = |name: &str, wanted: &str| {
        let found = incident[name].as_str();
        // Without BTF some of it cannot be known; but what is said has to be right.
        let unknown = found.is_none() && !expected.has_btf;
        ensure!(
            unknown || found == Some(wanted),
            "{name} is {found:?} instead of {wanted}"
        );
        Ok(())
    };
    is("scope", expected.scope)?;
    is(
        "constraint",
        if expected.scope == "global" {
            "none"
        } else {
            "memcg"
        },
    )?;
    is("killer", "kernel")?;
    is("outcome", "killed")?;
    let trigger = incident["trigger"]["is_victim"].as_bool();
    let unknown = trigger.is_none() && !expected.has_btf;
    ensure!(
        unknown
            || expected
                .trigger_is_victim
                .is_none_or(|is| trigger == Some(is)),
        "trigger.is_victim is {trigger:?}"
    );
    let group = incident["group_kill"].as_bool();
    // One kill alone may leave it unknown; three at once may not.
    let unknown = group.is_none() && !expected.group_kill;
    ensure!(
        unknown || group == Some(expected.group_kill),
        "group_kill is {group:?}"
    );
    Ok(())
}

/// Of a group kill the kernel marks, logs and counts the first victim twice (`oom_kill_process` kills it
/// alone, then `mem_cgroup_scan_tasks` comes upon it again): 4 counted for 3 killed. `logged` is the
/// number of its lines.
fn check_reconciliation(reconciliation: &Value, kills: usize, logged: usize) -> anyhow::Result<()> {
    let (kills, logged) = (u64::try_from(kills)?, u64::try_from(logged)?);
    let number = |name: &str| reconciliation[name].as_u64();
    ensure!(
        number("captured") == Some(kills),
        "captured: {reconciliation}"
    );
    let counted = number("counted");
    ensure!(
        counted == Some(kills) || counted == Some(logged),
        "counted: {reconciliation}"
    );
    ensure!(number("missed") == Some(0), "missed: {reconciliation}");
    ensure!(
        reconciliation["agrees"].as_bool() == Some(true),
        "does not agree: {reconciliation}"
    );
    Ok(())
}

fn check_replay(frames: &Frames, facts: &str, live: &Value) -> anyhow::Result<()> {
    ensure!(
        facts.contains("replay_exit exit status: 0\n"),
        "aiops replay did not end well: {}",
        text(frames, "replay-stderr")
    );
    let replayed = json(frames, "replay")?;
    match difference("", live, &replayed) {
        Some(place) => bail!("the replay differs {place}"),
        None => Ok(()),
    }
}

/// The first place where two reports differ, `generated_at` apart.
pub(crate) fn difference(path: &str, live: &Value, replayed: &Value) -> Option<String> {
    match (live, replayed) {
        (Value::Object(left), Value::Object(right)) => {
            left.keys().chain(right.keys()).find_map(|key| {
                let inner = format!("{path}/{key}");
                match (left.get(key), right.get(key)) {
                    _ if inner == "/generated_at" => None,
                    (Some(left), Some(right)) => difference(&inner, left, right),
                    _ => Some(format!("at {inner}: only one of them has it")),
                }
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .enumerate()
            .find_map(|(index, (left, right))| difference(&format!("{path}/{index}"), left, right)),
        _ if live == replayed => None,
        _ => Some(format!("at {path}: live {live}, replayed {replayed}")),
    }
}

fn notes(facts: &str, incident: &Value) -> String {
    let fact = |name: &str| {
        let line = facts.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let mut notes = String::new();
    if let Some(peak) = fact("vm_hwm_kb") {
        let mark = if peak > RSS_BUDGET_KB {
            " (OVER 20 MiB)"
        } else {
            ""
        };
        notes.push_str(&format!(", tracer's peak {peak} kB{mark}"));
    }
    if let Some(size) = fact("recording_bytes") {
        notes.push_str(&format!(", recording {size} bytes"));
    }
    if let Some(latency) = incident["capture_latency_us"].as_f64() {
        notes.push_str(&format!(", capture {latency:.0} us"));
    }
    notes
}

fn text(frames: &Frames, name: &str) -> String {
    frames.get(name).map_or_else(String::new, |bytes| {
        String::from_utf8_lossy(bytes).into_owned()
    })
}

fn json(frames: &Frames, name: &str) -> anyhow::Result<Value> {
    let bytes = frames
        .get(name)
        .with_context(|| format!("no frame {name}"))?;
    serde_json::from_slice(bytes).with_context(|| {
        let text = String::from_utf8_lossy(bytes);
        let start: String = text.chars().take(200).collect();
        format!("{name} is no JSON: {start}")
    })
}

mod plane;
#[cfg(test)]
mod tests;
