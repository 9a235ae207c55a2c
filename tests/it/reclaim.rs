//! `trace reclaim` beside the kernel's own counts, over a cgroup at its limit that the test made.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::Cgroup;
use crate::support::Scratch;
use crate::support::Tracer;
use crate::support::can_trace;
use crate::support::json;
use crate::support::no_swap;
use crate::support::run;
use crate::support::stdout;
use crate::support::timeless;

const LIMIT: u64 = 24 << 20;

/// Hits of the cgroup's limit since it was made.
fn hits(cgroup: &Cgroup) -> u64 {
    let folder = cgroup.procs();
    let folder = folder.parent().expect("a folder");
    if cgroup.is_v2() {
        let text = fs::read_to_string(folder.join("memory.events")).expect("memory.events");
        let line = text.lines().find_map(|line| line.strip_prefix("max "));
        return line.and_then(|n| n.parse().ok()).expect("max");
    }
    let text = fs::read_to_string(folder.join("memory.failcnt")).expect("memory.failcnt");
    text.trim().parse().expect("a count")
}

/// Writes `mib` MiB of page cache from inside the cgroup; the pid that did.
fn write_cache(cgroup: &Cgroup, file: &Path, mib: u64) -> u32 {
    let procs = cgroup.procs();
    // Written through: a cgroup full of dirty pages would be an OOM kill, not a wait.
    let script = format!(
        "echo $$ > '{}'; exec dd if=/dev/zero of='{}' bs=1M count={mib} oflag=dsync status=none",
        procs.display(),
        file.display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let pid = child.id();
    assert!(child.wait().expect("waiting").success(), "dd");
    pid
}

fn process(report: &Value, pid: u32) -> Option<&Value> {
    let rows = report["data"]["processes"].as_array().expect("processes");
    rows.iter().find(|row| row["pid"] == pid)
}

#[test]
fn who_waits_at_a_limit_is_measured_recorded_and_replayed() {
    if !can_trace() {
        return;
    }
    let _no_swap = no_swap();
    let Some(cgroup) = Cgroup::new(LIMIT) else {
        return;
    };
    // A file on a disk: tmpfs would be memory that cannot be reclaimed.
    let place = Scratch::at(Path::new(env!("CARGO_TARGET_TMPDIR")), "it").expect("a folder");
    let file = place.path("stalls.aiops");
    let tracer = Tracer::start(&["trace", "reclaim", "--record", &file, "-o", "json"]);
    let before = hits(&cgroup);
    let pid = write_cache(&cgroup, &place.0.join("cache"), 160);
    let hits = hits(&cgroup) - before;
    tracer.signal(Signal::INT);
    let (code, live, errors) = tracer.finish();
    assert_eq!(code, 0, "{errors}");
    let report = json(&live);
    assert_eq!(report["schema"], "aiops.trace-reclaim/1");
    let lost = report["accounting"]["lost"].as_object().expect("lost");
    assert!(lost.is_empty(), "{}", report["accounting"]);
    let row = process(&report, pid).unwrap_or_else(|| panic!("{pid}: {report:#}"));
    assert_eq!(row["cgroup"], cgroup.path.as_str(), "{row:#}");
    assert_eq!(row["limited_by"][0], cgroup.path.as_str(), "{row:#}");
    // Each hit of the limit by a task that may wait is one reclaim; a charge that is tried once more after
    // the per-CPU stocks were drained hits twice.
    let count = row["count"].as_u64().expect("a count");
    assert!(hits > 100, "{hits}");
    assert!(
        count <= hits && count * 2 >= hits,
        "{count} reclaims, {hits} hits"
    );
    let figure = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row}"));
    let order = ["p50_us", "p90_us", "p99_us"].map(figure);
    assert!(order.is_sorted() && order[0] > 0.0, "{order:?}");
    assert!(figure("max_us") * 1.01 >= order[2], "{row}");
    assert!(figure("total_ms") * 1000.0 >= figure("max_us"), "{row}");
    let (scanned, reclaimed) = (figure("scanned_pages"), figure("reclaimed_pages"));
    // What does not fit was taken back: 160 MiB less the limit, in pages of 4 KiB.
    assert!(reclaimed >= 30_000.0, "{row}");
    assert!(scanned >= reclaimed * 0.9, "{row}");
    let groups = report["data"]["cgroups"].as_array().expect("cgroups");
    let group = groups
        .iter()
        .find(|row| row["cgroup"] == cgroup.path.as_str());
    let group = group.expect("the cgroup");
    assert_eq!(group["limit_kb"], LIMIT >> 10, "{group}");
    assert!(group["limit_hits"].as_u64() > Some(0), "{group}");
    let flags = report["data"]["gfp"][0]["gfp_flags"]
        .as_str()
        .unwrap_or_default();
    assert!(flags.contains("GFP"), "{report:#}");
    let buckets: u64 = (report["data"]["histograms"].as_array().expect("histograms"))
        .iter()
        .filter(|row| row["kind"] == "memcg")
        .flat_map(|row| row["buckets"].as_array().expect("buckets"))
        .map(|bucket| bucket["count"].as_u64().expect("a count"))
        .sum();
    let kinds = report["data"]["kinds"].as_array().expect("kinds");
    let memcg = kinds
        .iter()
        .find(|row| row["kind"] == "memcg")
        .expect("memcg");
    assert_eq!(memcg["count"], buckets);
    let replayed = json(&stdout(&["replay", &file, "-o", "json"]));
    assert_eq!(timeless(report.clone()), timeless(replayed));
    let text = stdout(&["replay", &file, "--lang", "zh"]);
    assert!(
        text.contains("内存回收停顿") && text.contains(&pid.to_string()),
        "{text}"
    );
    let other = run(&["replay", &file, "--as", "oom"]);
    assert_eq!(other.status.code(), Some(1));
}

#[test]
fn a_filter_of_cgroups_is_decided_in_the_kernel() {
    if !can_trace() {
        return;
    }
    let _no_swap = no_swap();
    let (Some(wanted), Some(other)) = (Cgroup::new(LIMIT), Cgroup::new(LIMIT)) else {
        return;
    };
    let place = Scratch::at(Path::new(env!("CARGO_TARGET_TMPDIR")), "it").expect("a folder");
    let tracer = Tracer::start(&["trace", "reclaim", "--cgroup", &wanted.path, "-o", "json"]);
    let seen = write_cache(&wanted, &place.0.join("one"), 80);
    let unseen = write_cache(&other, &place.0.join("two"), 80);
    tracer.signal(Signal::TERM);
    let (code, live, errors) = tracer.finish();
    assert_eq!(code, 0, "{errors}");
    let report = json(&live);
    assert!(process(&report, seen).is_some(), "{report:#}");
    assert!(process(&report, unseen).is_none(), "{report:#}");
    let count = report["accounting"]["seen"]["stall"].as_u64();
    let rows = report["data"]["kinds"].as_array().expect("kinds");
    let shown: u64 = rows.iter().filter_map(|row| row["count"].as_u64()).sum();
    assert_eq!(
        count,
        Some(shown),
        "nothing else left the kernel: {report:#}"
    );
}

#[test]
fn what_cannot_be_traced_is_said_with_a_remedy() {
    if !can_trace() {
        return;
    }
    let nothing = run(&["trace", "reclaim", "--cgroup", "/no-such-cgroup"]);
    assert_eq!(nothing.status.code(), Some(1));
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(
        said.contains("no such memory cgroup") && said.contains("hint:"),
        "{said}"
    );
    let root = run(&["--root", "/tmp", "trace", "reclaim"]);
    assert_eq!(root.status.code(), Some(1));
}
