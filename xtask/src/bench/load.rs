//! Many kills at once, the delay of single ones, and the cost of waiting for none.

use std::collections::BTreeSet;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::tracer::{self, Tracer};
use super::{Bench, Table, size};
use crate::oomlab::Group;

/// Limit of the groups that processes are killed in.
const LIMIT_BYTES: u64 = 16 << 20;
/// Kills that run at the same time in a storm.
const AT_ONCE: u32 = 4;
/// For one process to be killed, on a busy machine.
const KILL: Duration = Duration::from_secs(60);
/// `USER_HZ`: the unit of /proc/PID/stat, fixed by the kernel's ABI.
const TICKS_PER_S: f64 = 100.0;
const RSS_BUDGET_KB: u64 = 20 << 10;

/// Kills one process in a group; its process id.
pub(super) fn kill_one(group: &Group) -> anyhow::Result<u32> {
    let mut child = group.grower()?;
    let pid = child.id();
    wait_killed(&mut child)?;
    Ok(pid)
}

fn wait_killed(child: &mut Child) -> anyhow::Result<()> {
    use std::os::unix::process::ExitStatusExt as _;
    let end = Instant::now() + KILL;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.signal() == Some(libc::SIGKILL) {
                return Ok(());
            }
            bail!("a growing process ended with {status} instead of being killed");
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            bail!("a growing process was not killed within {KILL:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A group of the usual limit.
pub(super) fn group(name: &str) -> anyhow::Result<Group> {
    Group::new(name, LIMIT_BYTES)
}

/// `count` kills, [`AT_ONCE`] at a time; their process ids.
fn kill_many(count: u32) -> anyhow::Result<BTreeSet<u32>> {
    let begun = AtomicU32::new(0);
    let worker = |number: u32| -> anyhow::Result<Vec<u32>> {
        let group = group(&format!("storm{number}"))?;
        let mut killed = Vec::new();
        while begun.fetch_add(1, Ordering::Relaxed) < count {
            killed.push(kill_one(&group)?);
        }
        Ok(killed)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|number| scope.spawn(move || worker(number)))
            .collect();
        let mut killed = BTreeSet::new();
        for worker in workers {
            let pids = worker
                .join()
                .map_err(|_| anyhow::anyhow!("a worker died"))?;
            killed.extend(pids?);
        }
        Ok(killed)
    })
}

/// 1,000 kills (100), four at a time: all of them captured, nothing lost, memory bounded.
pub(super) fn storm(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let count = bench.choose(100, 1000);
    let tracer = Tracer::start(bench, "storm")?;
    std::thread::sleep(Duration::from_secs(2));
    let before_kb = tracer.rss_kb().context("no RSS")?;
    let begun = Instant::now();
    let killed = kill_many(count)?;
    let seconds = begun.elapsed().as_secs_f64();
    // Its own deadline for closing an incident is 2 s.
    std::thread::sleep(Duration::from_secs(3));
    let after_kb = tracer.rss_kb().context("no RSS")?;
    let recording = tracer.recording.clone();
    let report = tracer.finish()?;
    let name = format!("{count} kills, {AT_ONCE} at a time");
    table.figure(&format!("{name}: duration"), format!("{seconds:.1} s"));
    captures(table, &name, &report, &killed)?;
    let replayed = tracer::replay(bench, &recording)?;
    let same = tracer::captured(&replayed) == tracer::captured(&report);
    table.promise(
        &format!("{name}: replay"),
        same_or_not(same),
        "the same kills",
        same,
    );
    table.figure(
        &format!("{name}: recording"),
        format!("{} kB", size(&recording) >> 10),
    );
    for (when, kb) in [
        ("after the start", before_kb),
        ("after the kills", after_kb),
    ] {
        let what = format!("RSS {when}");
        table.budget(&what, format!("{kb} kB"), "<20 MB", kb < RSS_BUDGET_KB);
    }
    Ok(())
}

fn same_or_not(same: bool) -> String {
    if same { "the same" } else { "different" }.to_owned()
}

/// The three promises of every run: all captured, none lost, all counts agree.
pub(super) fn captures(
    table: &mut Table,
    name: &str,
    report: &Value,
    killed: &BTreeSet<u32>,
) -> anyhow::Result<()> {
    let captured = tracer::captured(report).intersection(killed).count();
    let figure = format!("{captured} of {}", killed.len());
    table.promise(
        &format!("{name}: captured"),
        figure,
        "all",
        captured == killed.len(),
    );
    let lost = tracer::lost(report)?;
    table.promise(&format!("{name}: lost"), lost.to_string(), "0", lost == 0);
    let reconciliation = &report["data"]["reconciliation"];
    let agrees = reconciliation["agrees"].as_bool() == Some(true)
        && reconciliation["missed"].as_u64() == Some(0);
    let number = |key: &str| {
        let value = reconciliation[key].as_u64();
        value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
    };
    let figure = format!(
        "counted {}, logged {}, captured {}, missed {}",
        number("counted"),
        number("logged"),
        number("captured"),
        number("missed")
    );
    table.promise(&format!("{name}: reconciled"), figure, "agrees", agrees);
    Ok(())
}

/// Keeps the kernel's OOM reports off the console, which costs milliseconds per kill on a serial one and
/// is not what is measured. The log has them all the same. Restored when dropped.
struct QuietConsole(Option<String>);

impl QuietConsole {
    const LEVELS: &str = "/proc/sys/kernel/printk";

    fn new() -> Self {
        let levels = std::fs::read_to_string(Self::LEVELS).ok();
        if levels.is_some() {
            let _ = std::fs::write(Self::LEVELS, "1");
        }
        Self(levels)
    }
}

impl Drop for QuietConsole {
    fn drop(&mut self) {
        if let Some(levels) = &self.0 {
            let _ = std::fs::write(Self::LEVELS, levels);
        }
    }
}

/// The delay from the hook to user space, on a quiet machine and beside two busy loops.
pub(super) fn latency(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let count = bench.choose(40, 200);
    let _quiet = QuietConsole::new();
    for (name, loops) in [("quiet", 0), ("two busy loops", 2)] {
        let stop = AtomicBool::new(false);
        let report = std::thread::scope(|scope| {
            for _ in 0..loops {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let report = singles(bench, &format!("latency{loops}"), count);
            stop.store(true, Ordering::Relaxed);
            report
        })?;
        let mut delays: Vec<f64> = tracer::incidents(&report)
            .filter_map(|incident| incident["capture_latency_us"].as_f64())
            .collect();
        delays.sort_by(f64::total_cmp);
        let what = format!("mark_victim to record, {name} ({} kills)", delays.len());
        let (median, p99) = (quantile(&delays, 50), quantile(&delays, 99));
        let (Some(median), Some(p99)) = (median, p99) else {
            table.promise(&what, "no figure".to_owned(), "measured", false);
            continue;
        };
        let figure = format!("median {median:.0} us, p99 {p99:.0} us");
        let kept = median < 100.0 && p99 < 1000.0;
        table.budget(
            &what,
            figure,
            "median <100 us, p99 <1 ms (quiet console)",
            kept,
        );
    }
    Ok(())
}

/// Single kills with pauses; the report on them.
fn singles(bench: &Bench, name: &str, count: u32) -> anyhow::Result<Value> {
    let tracer = Tracer::start(bench, name)?;
    let group = group("single")?;
    for _ in 0..count {
        kill_one(&group)?;
        std::thread::sleep(Duration::from_millis(30));
    }
    std::thread::sleep(Duration::from_secs(3));
    let recording = tracer.recording.clone();
    let report = tracer.finish();
    let _ = std::fs::remove_file(recording);
    report
}

/// The value that `percent` of the sorted values do not exceed (nearest rank).
fn quantile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// CPU of a tracer with nothing to do, sampler included.
pub(super) fn idle(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let what = "idle CPU over 60 s";
    if bench.quick {
        table.figure(what, "not measured (--quick)".to_owned());
        return Ok(());
    }
    let tracer = Tracer::start(bench, "idle")?;
    // Its first scan of the machine is no idling.
    std::thread::sleep(Duration::from_secs(5));
    let (begun, before) = (Instant::now(), tracer.cpu_ticks()?);
    std::thread::sleep(Duration::from_secs(60));
    let ticks = tracer.cpu_ticks()? - before;
    // Small enough to be exact in f64.
    let share = ticks as f64 / TICKS_PER_S / begun.elapsed().as_secs_f64() * 100.0;
    tracer.finish()?;
    table.budget(
        what,
        format!("{share:.2} % of a core"),
        "<0.5 %",
        share < 0.5,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(quantile(&values, 50), Some(100.0));
        assert_eq!(quantile(&values, 99), Some(198.0));
        assert_eq!(quantile(&values[..1], 99), Some(1.0));
        assert_eq!(quantile(&[], 50), None);
    }
}
