//! `detect oom-risk`: the time that it foretells against the time of the kill, leaks that share a limit, growth
//! without a leaking process, and what stands near a limit without growth.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use aiops::store::Store;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use serde_json::Value;

use crate::support::Cgroup;
use crate::support::Scratch;
use crate::support::aiops;
use crate::support::can_trace;
use crate::support::field;
use crate::support::json;
use crate::support::no_swap;
use crate::support::run;
use crate::support::state;
use crate::support::stdout;
use crate::support::until;

const MIB: u64 = 1 << 20;

/// A child that is killed at the end, if it still runs.
struct Own(Child);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that is removed at the end.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A store whose newest frames, which stand elsewhere, go with it.
struct History(Scratch);

impl History {
    fn folder(&self) -> String {
        self.0.path("store")
    }
}

impl Drop for History {
    fn drop(&mut self) {
        let store = Store::at(Path::new(&self.folder()));
        if let Ok(Some(meta)) = store.meta() {
            let _ = fs::remove_dir_all(meta.tails);
        }
    }
}

/// A shell command in a cgroup.
fn shell(cgroup: &Cgroup, script: &str, file: &File) -> Own {
    let child = Command::new("sh")
        .arg("-c")
        .arg(format!("echo $$ > \"$0\"; {script}"))
        .arg(cgroup.procs())
        .arg(&file.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Own(child.expect("a shell"))
}

/// A file of tmpfs of the test's own; `None`, said aloud, where there is none.
fn in_memory(name: &str) -> Option<File> {
    let folder = Path::new("/dev/shm");
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if !mounts.contains(" /dev/shm tmpfs ") {
        println!("SKIPPED: /dev/shm is no tmpfs");
        return None;
    }
    Some(File(
        folder.join(format!("aiops-{name}-{}", std::process::id())),
    ))
}

/// The report of a run with these options.
fn report(args: &[&str]) -> Value {
    let report = json(&stdout(
        &[&["detect", "oom-risk", "-o", "json"][..], args].concat(),
    ));
    assert_eq!(report["schema"], "aiops.detect-oom-risk/1");
    report
}

fn rows(report: &Value) -> &[Value] {
    report["data"]["risks"].as_array().expect("rows")
}

fn of_pid(report: &Value, pid: u32) -> &Value {
    let row = rows(report).iter().find(|row| row["pid"] == pid);
    row.unwrap_or_else(|| panic!("no row of {pid}: {report:#}"))
}

fn of_cgroup<'a>(report: &'a Value, path: &str) -> &'a Value {
    let mut rows = rows(report).iter();
    let row = rows.find(|row| row["kind"] == "cgroup" && row["cgroup"] == path);
    row.unwrap_or_else(|| panic!("no row of {path}: {report:#}"))
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("a number: {value}"))
}

/// Seconds until what is left is gone at the rate of all: what the hours of a straight line must be.
fn seconds_left(row: &Value) -> f64 {
    let rate = number(&row["total_rate_mib_per_hour"]) * MIB as f64 / 3600.0;
    number(&row["left_bytes"]) / rate
}

#[test]
fn the_kill_comes_when_it_is_foretold() {
    if !can_trace() {
        return;
    }
    let _quiet = no_swap();
    let Some(cgroup) = Cgroup::new(320 * MIB) else {
        return;
    };
    // 10 MiB/s: half a minute to the limit.
    let mut leak = Own(cgroup.grow(2000, 512, Duration::from_millis(50)));
    let pid = leak.0.id();
    let history = History(Scratch::new());
    let store = history.folder();
    let kept = run(&[
        "monitor",
        "memory",
        "--no-bpf",
        "--interval",
        "200ms",
        "--duration",
        "12s",
        "--store",
        &store,
    ]);
    let said = String::from_utf8_lossy(&kept.stderr);
    assert!(kept.status.success(), "{said}");
    let asked = Instant::now();
    let report = report(&["--store", &store, "--history", "1h"]);
    let row = of_pid(&report, pid);
    assert_eq!(row["reason"], "growth", "{row:#}");
    assert_eq!(
        (&row["limit_source"], &row["limit_cgroup"]),
        (&Value::from("cgroup"), &Value::from(cgroup.path.as_str()))
    );
    assert_eq!(row["limit_bytes"], 320 * MIB);
    assert_eq!(row["outcome"], "oom-kill");
    assert_eq!(
        (&row["victim"]["pid"], &row["victim"]["leaks"]),
        (&Value::from(pid), &Value::from(true))
    );
    assert!(row["at"].is_string() && number(&row["leak_probability"]) >= 0.8);
    let foretold = number(&row["hours"]) * 3600.0;
    let (soonest, latest) = (&row["interval"][0], &row["interval"][1]);
    assert!(number(soonest) * 3600.0 <= foretold && number(latest) * 3600.0 >= foretold);
    // The cgroup itself, by the same event.
    let group = of_cgroup(&report, &cgroup.path);
    assert!(
        (number(&group["hours"]) * 3600.0 - foretold).abs() < 1e-6,
        "{group:#}"
    );
    // Asked about the process alone, the same limit is what it dies at.
    let pid_text = pid.to_string();
    let alone = stdout(&[
        "detect",
        "memory-leak",
        "--pid",
        &pid_text,
        "--store",
        &store,
        "-o",
        "json",
    ]);
    let oom = &json(&alone)["data"]["oom"];
    assert_eq!(
        (&oom["limit_source"], &oom["limit_cgroup"]),
        (&"cgroup".into(), &Value::from(cgroup.path.as_str())),
        "{oom}"
    );
    let apart = number(&oom["hours"]) * 3600.0 / foretold;
    assert!((0.5..2.0).contains(&apart), "{oom} {foretold}");
    let found = report["findings"].as_array().expect("findings");
    let critical = |one: &&Value| one["id"] == "oom-risk" && one["severity"] == "critical";
    assert!(found.iter().any(|one| critical(&one)), "{found:#?}");
    let status = loop {
        if let Some(status) = leak.0.try_wait().expect("a child") {
            break status;
        }
        assert!(
            asked.elapsed() < Duration::from_secs(180),
            "it was never killed"
        );
        thread::sleep(Duration::from_millis(20));
    };
    let real = asked.elapsed().as_secs_f64();
    assert_eq!(status.signal(), Some(9), "{status}");
    println!("foretold {foretold:.1} s, met after {real:.1} s");
    let ratio = foretold / real;
    assert!(
        (0.5..2.0).contains(&ratio),
        "foretold {foretold}, met {real}"
    );
}

#[test]
fn leaks_that_share_a_limit_meet_it_together() {
    if !can_trace() {
        return;
    }
    let _quiet = no_swap();
    let (Some(shared), Some(full)) = (Cgroup::new(350 * MIB), Cgroup::new(40 * MIB)) else {
        return;
    };
    let Some(file) = in_memory("full") else {
        return;
    };
    // 38 of 40 MiB in tmpfs, which nothing but its removal gives back.
    let fill = "head -c 38M /dev/zero > \"$1\"".replace("$1", &file.0.display().to_string());
    let mut filled = shell(&full, &fill, &file);
    let done = filled.0.wait().expect("a shell");
    assert!(done.success(), "{done}");
    let children: Vec<Own> = [100, 300]
        .into_iter()
        .map(|step| Own(shared.grow(2000, step, Duration::from_millis(50))))
        .collect();
    let [small, large] = [children[0].0.id(), children[1].0.id()];
    let place = Scratch::new();
    let recording = place.path("risk.aiops");
    stdout(&[
        "collect",
        "memory",
        "--duration",
        "10s",
        "--interval",
        "200ms",
        "--output",
        &recording,
    ]);
    let args = ["--recording", &recording];
    let whole = report(&args);
    assert_eq!(whole["data"]["window"]["source"], "recording");
    let row = of_pid(&whole, small);
    let other = of_pid(&whole, large);
    for (row, rival) in [(row, large), (other, small)] {
        assert_eq!(row["limit_cgroup"], shared.path.as_str(), "{row:#}");
        let pids: Vec<&Value> = row["competing"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| &one["pid"])
            .collect();
        assert!(pids.contains(&&Value::from(rival)), "{row:#}");
        // On a busy machine they do not grow in a straight line.
        let ratio = number(&row["hours"]) * 3600.0 / seconds_left(row);
        assert!((0.5..2.0).contains(&ratio), "{ratio}: {row:#}");
    }
    let rate = |row: &Value| number(&row["rate_mib_per_hour"]);
    let sum = rate(row) + rate(other);
    assert!((number(&row["total_rate_mib_per_hour"]) / sum - 1.0).abs() < 0.01);
    let third = rate(other) / rate(row);
    assert!((2.4..3.6).contains(&third), "{third}");
    assert_eq!(row["victim"]["pid"], large, "the larger one: {row:#}");
    let near = of_cgroup(&whole, &full.path);
    assert_eq!(
        (&near["reason"], &near["hours"], &near["at"]),
        (&Value::from("near-limit"), &Value::Null, &Value::Null)
    );
    assert!(number(&near["used_share"]) >= 0.9, "{near:#}");
    // The same file, the same report; and as text in both languages within 80 columns.
    let again = report(&args);
    assert_eq!(whole["data"], again["data"]);
    for (lang, words) in [("en", "OOM risk"), ("zh", "OOM 风险")] {
        let output = aiops(&["--lang", lang, "detect", "oom-risk"])
            .args(args)
            .args(["--top", "3"])
            .env("COLUMNS", "80")
            .output()
            .expect("the program starts");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(
            text.contains(words) && text.contains(&large.to_string()),
            "{text}"
        );
        for line in text.lines() {
            assert_eq!(aiops::render::width::width(line), 80, "{line}");
        }
    }
    let ended = run(&[&["detect", "oom-risk", "--exit-code"][..], &args].concat());
    assert_eq!(ended.status.code(), Some(20));
}

#[test]
fn a_cgroup_fills_with_files_that_no_process_holds() {
    if !can_trace() {
        return;
    }
    let _quiet = no_swap();
    let Some(cgroup) = Cgroup::new(500 * MIB) else {
        return;
    };
    let Some(file) = in_memory("files") else {
        return;
    };
    // At most 400 MiB, however long nobody stops it.
    let script = "i=0; while [ $i -lt 800 ]; do head -c 512K /dev/zero >> \"$1\"; sleep 0.05; i=$((i+1)); done";
    let _writer = shell(&cgroup, script, &file);
    let report = report(&["--window", "8s"]);
    let row = of_cgroup(&report, &cgroup.path);
    assert_eq!(row["reason"], "growth", "{row:#}");
    assert_eq!(row["limit_cgroup"], cgroup.path.as_str());
    // Its pace may have changed: then it is no straight line that is run forward.
    let ratio = number(&row["hours"]) * 3600.0 / seconds_left(row);
    assert!((0.5..2.0).contains(&ratio), "{ratio}: {row:#}");
    let inside = |one: &&Value| one["kind"] == "process" && one["cgroup"] == cgroup.path.as_str();
    assert!(!rows(&report).iter().any(|one| inside(&one)), "{report:#}");
}

#[test]
fn an_rlimit_is_a_limit_too() {
    let Ok(child) = Command::new("sleep").arg("60").spawn() else {
        println!("SKIPPED: no sleep(1)");
        return;
    };
    let child = Own(child);
    let pid = child.0.id();
    let status = format!("/proc/{pid}/status");
    // Asleep in its own program: its address space is whole by then.
    until("its sleep", || {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "sleep" && state(pid) == Some('S')
    });
    let most = field(&status, "VmSize").expect("a size") * 1024 * 20 / 19;
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    let target = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    rustix::process::prlimit(target, Resource::As, limit).expect("a limit");
    let report = report(&["--window", "1s"]);
    let row = of_pid(&report, pid);
    assert_eq!(
        (&row["reason"], &row["limit_source"]),
        (&Value::from("near-limit"), &Value::from("rlimit"))
    );
    assert_eq!(
        (&row["limit_name"], &row["limit_bytes"]),
        (&Value::from("RLIMIT_AS"), &Value::from(most))
    );
    assert_eq!(
        (&row["outcome"], &row["hours"]),
        (&Value::from("allocation-fails"), &Value::Null)
    );
}

#[test]
fn without_history_it_says_what_to_do() {
    let place = Scratch::new();
    let none = place.path("none");
    let output = run(&["detect", "oom-risk", "--history", "1h", "--store", &none]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: ") && said.contains("--window"),
        "{said}"
    );
    let both = run(&["detect", "oom-risk", "--window", "1s", "--history", "1h"]);
    assert_eq!(both.status.code(), Some(2));
    let bad = run(&["detect", "oom-risk", "--recording", "/dev/null"]);
    assert_eq!(bad.status.code(), Some(1));
}
