//! OOM kills of our own making, captured by the real program on the real kernel.

use std::time::Duration;

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
use crate::support::until;

fn captured(report: &Value) -> &Value {
    let incidents = report["data"]["incidents"].as_array().expect("incidents");
    assert_eq!(incidents.len(), 1, "{report:#}");
    &incidents[0]
}

#[test]
fn a_kill_is_explained_recorded_and_replayed() {
    if !can_trace() {
        return;
    }
    let _no_swap = no_swap();
    let Some(cgroup) = Cgroup::new(32 << 20) else {
        return;
    };
    let place = Scratch::new();
    let file = place.path("oom.aiops");
    let tracer = Tracer::start(&[
        "trace",
        "oom",
        "--cgroup",
        &cgroup.path,
        "--count",
        "1",
        "--record",
        &file,
        "-o",
        "json",
    ]);
    let mut child = cgroup.grow(64, 1024, Duration::from_millis(60));
    let pid = child.id();
    let _ = child.wait();
    let (code, live, errors) = tracer.finish();
    assert_eq!(code, 0, "{errors}");
    let report = json(&live);
    let incident = captured(&report);
    let kill = &incident["kills"][0];
    assert_eq!(kill["pid"], pid);
    assert_eq!(kill["oom_score_adj"], 0);
    assert_eq!(kill["uid"], 0);
    assert!(
        kill["anon_rss_kb"]
            .as_u64()
            .is_some_and(|kb| (16 << 10..=34 << 10).contains(&kb)),
        "{kill}"
    );
    assert!(
        kill["cmdline"]
            .as_str()
            .is_some_and(|line| line.contains("support::grow_child")),
        "{kill}"
    );
    assert_eq!(kill["cgroup"], cgroup.path.as_str());
    assert_eq!(incident["outcome"], "killed");
    assert_eq!(incident["constraint"], "memcg");
    assert_eq!(incident["scope"], "memcg");
    assert_eq!(incident["oom_memcg"], cgroup.path.as_str());
    assert_eq!(incident["memcg_limit_kb"], 32 << 10);
    assert_eq!(incident["cause"]["class"], "cgroup-limit");
    assert_eq!(incident["sources"]["bpf"], true);
    assert_ne!(incident["sources"]["vmstat"], false);
    assert_ne!(incident["sources"]["memory_events"], false);
    kernel_agrees(incident, pid);
    let why = incident["why"]["candidates"]
        .as_array()
        .expect("candidates");
    assert!(
        why.iter()
            .any(|candidate| candidate["victim"] == true && candidate["pid"] == pid),
        "{why:?}"
    );
    let stack = incident["stacks"]["trigger_kernel"].to_string();
    assert!(stack.contains("mem_cgroup_out_of_memory"), "{stack}");
    assert!(
        incident["timeline"]
            .as_array()
            .is_some_and(|steps| steps.len() >= 3),
        "{incident}"
    );
    let replayed = json(&stdout(&["replay", &file, "-o", "json"]));
    assert_eq!(timeless(report.clone()), timeless(replayed));
    assert!(stdout(&["replay", &file, "--lang", "zh"]).contains("OOM"));
}

/// The kernel's own line, where its log has it (the kernel limits its rate).
fn kernel_agrees(incident: &Value, pid: u32) {
    let lines: Vec<&str> = incident["kernel_text"]
        .as_array()
        .expect("lines")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let Some(line) = lines
        .iter()
        .find(|line| line.contains(&format!("Killed process {pid} ")))
    else {
        let missing = incident["missing"].as_array().expect("a list");
        assert!(missing.iter().any(|part| part == "kmsg"), "{incident:#}");
        return;
    };
    let figure = |key: &str| -> u64 {
        let at = line.find(key).unwrap_or_else(|| panic!("{key} in {line}")) + key.len();
        line[at..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .expect("a number")
    };
    let kill = &incident["kills"][0];
    let own = |key: &str| kill[key].as_u64().expect("a figure");
    assert_eq!(own("total_vm_kb"), figure("total-vm:"));
    assert_eq!(own("pgtables_kb"), figure("pgtables:"));
    // Linux 6.2 and later read per-CPU counters: up to 64 pages per CPU off when the victim runs elsewhere.
    for (key, word) in [
        ("anon_rss_kb", "anon-rss:"),
        ("file_rss_kb", "file-rss:"),
        ("shmem_rss_kb", "shmem-rss:"),
    ] {
        assert!(
            own(key).abs_diff(figure(word)) <= 64 * 4 * 2,
            "{key}: {kill} {line}"
        );
    }
}

#[test]
fn a_minute_of_growth_is_on_record() {
    if !can_trace() {
        return;
    }
    let _no_swap = no_swap();
    let Some(cgroup) = Cgroup::new(68 << 20) else {
        return;
    };
    let tracer = Tracer::start(&[
        "trace",
        "oom",
        "--cgroup",
        &cgroup.path,
        "--count",
        "1",
        "-o",
        "json",
    ]);
    // One MiB a second: at 68 MiB it is killed after more than a minute.
    let _ = cgroup.grow(128, 1024, Duration::from_secs(1)).wait();
    let (code, live, errors) = tracer.finish();
    assert_eq!(code, 0, "{errors}");
    let report = json(&live);
    let incident = captured(&report);
    let before = incident["before"].as_array().expect("before");
    let first = before
        .iter()
        .filter_map(|row| row["t_ms"].as_f64())
        .fold(0.0, f64::min);
    assert!(
        first <= -60_000.0,
        "samples begin {first} ms before the kill"
    );
    let curve: Vec<(f64, f64)> = before
        .iter()
        .filter_map(|row| {
            Some((
                row["t_ms"].as_f64()? / 1000.0,
                row["victim"]["rss_kb"].as_f64()?,
            ))
        })
        // Before it runs its program, a child has its parent's memory.
        .skip_while(|(_, rss_kb)| *rss_kb > 131_072.0)
        .collect();
    let (begin, end) = (
        curve.first().expect("samples"),
        curve.last().expect("samples"),
    );
    assert!(
        end.0 - begin.0 >= 55.0,
        "the victim was seen over {} s",
        end.0 - begin.0
    );
    let rate = (end.1 - begin.1) / (end.0 - begin.0);
    assert!(
        (850.0..1200.0).contains(&rate),
        "{rate} KiB/s, and the program grows by 1024: {curve:?}"
    );
    let said = incident["growth"]["rate_kb_per_s"]
        .as_f64()
        .expect("a rate");
    assert!((850.0..1200.0).contains(&said), "{said}");
    // Samples in between the steps of a second see them as stairs.
    let shape = &incident["growth"]["shape"];
    assert!(shape == "growing" || shape == "stairs", "{shape}");
}

#[test]
fn ctrl_c_ends_with_a_report_and_a_whole_recording() {
    if !can_trace() {
        return;
    }
    let _no_swap = no_swap();
    let place = Scratch::new();
    for signal in [Signal::INT, Signal::TERM] {
        let file = place.path(&format!("{}.aiops", signal.as_raw()));
        let tracer = Tracer::start(&[
            "trace",
            "oom",
            "--record",
            &file,
            "-o",
            "json",
            "--comm",
            "nobody-has-this",
        ]);
        std::thread::sleep(Duration::from_millis(700));
        tracer.signal(signal);
        let (code, live, errors) = tracer.finish();
        assert_eq!(code, 0, "{errors}");
        let replayed = json(&stdout(&["replay", &file, "-o", "json", "--strict"]));
        assert_eq!(timeless(json(&live)), timeless(replayed));
    }
}

#[test]
fn a_killed_tracer_leaves_what_it_saw() {
    if !can_trace() {
        return;
    }
    let _no_swap = no_swap();
    let Some(cgroup) = Cgroup::new(16 << 20) else {
        return;
    };
    let place = Scratch::new();
    let file = place.path("oom.aiops");
    let tracer = Tracer::start(&["trace", "oom", "--cgroup", &cgroup.path, "--record", &file]);
    let mut child = cgroup.grow(64, 1024, Duration::from_millis(5));
    let pid = child.id();
    let _ = child.wait();
    // A recording can be read while it grows.
    until("the kill is on record", || {
        let output = run(&["replay", &file, "-o", "json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&text).unwrap_or_default();
        report["data"]["incidents"][0]["kills"][0]["pid"] == pid
    });
    tracer.signal(Signal::KILL);
    assert_eq!(tracer.finish().0, -9);
    let report = json(&stdout(&["replay", &file, "-o", "json"]));
    assert_eq!(captured(&report)["kills"][0]["pid"], pid);
    assert_eq!(report["accounting"]["damage"]["truncated"], true);
}

#[test]
fn kills_of_others_are_counted_and_not_listed() {
    if !can_trace() {
        return;
    }
    let _no_swap = no_swap();
    let Some(cgroup) = Cgroup::new(16 << 20) else {
        return;
    };
    let tracer = Tracer::start(&["trace", "oom", "--comm", "nobody-has-this", "-o", "jsonl"]);
    let _ = cgroup.grow(64, 1024, Duration::from_millis(5)).wait();
    std::thread::sleep(Duration::from_secs(1));
    tracer.signal(Signal::INT);
    let (code, text, errors) = tracer.finish();
    assert_eq!(code, 0, "{errors}");
    let lines: Vec<Value> = text.lines().map(json).collect();
    assert!(
        lines.iter().all(|line| line["type"] != "incident"),
        "{text}"
    );
    let report = lines.last().expect("a report");
    assert_eq!(report["type"], "report");
    let counts = &report["data"]["reconciliation"];
    assert!(
        counts["captured"].as_u64().is_some_and(|kills| kills >= 1),
        "{counts}"
    );
    assert_eq!(counts["captured"], counts["filtered"], "{counts}");
    assert_eq!(counts["missed"], 0, "{counts}");
}

#[test]
fn a_whole_group_is_one_incident() {
    if !can_trace() {
        return;
    }
    let _no_swap = no_swap();
    let Some(cgroup) = Cgroup::new(32 << 20) else {
        return;
    };
    if !cgroup.is_v2() {
        println!("SKIPPED: memory.oom.group needs cgroup v2 (the virtual machines run it)");
        return;
    }
    cgroup.set("memory.oom.group", "1");
    let tracer = Tracer::start(&[
        "trace",
        "oom",
        "--cgroup",
        &cgroup.path,
        "--count",
        "1",
        "-o",
        "json",
    ]);
    let mut children: Vec<_> = (0..3)
        .map(|_| cgroup.grow(64, 512, Duration::from_millis(50)))
        .collect();
    for child in &mut children {
        let _ = child.wait();
    }
    let (code, live, errors) = tracer.finish();
    assert_eq!(code, 0, "{errors}");
    let report = json(&live);
    let incident = captured(&report);
    assert_eq!(incident["group_kill"], true);
    assert_eq!(
        incident["kills"].as_array().map(Vec::len),
        Some(3),
        "{incident:#}"
    );
}
