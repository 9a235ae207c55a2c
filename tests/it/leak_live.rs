//! `detect memory-leak` on a process that runs now, and on a recording of it.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::support::Scratch;
use crate::support::aiops;
use crate::support::json;
use crate::support::run;
use crate::support::until;

/// A process that grows, ended with its test.
struct Grower(Child);

impl Grower {
    fn start() -> Self {
        Self::of("leak_live::grow_child")
    }

    fn of(test: &str) -> Self {
        let exe = std::env::current_exe().expect("the test binary");
        let child = Command::new(exe)
            .args(["--exact", test, "--nocapture"])
            .env("AIOPS_TEST_LEAK", "40")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Grower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: a process that grows by 64 KiB every 25 ms, 9000 MiB/h, to this many MiB, and stays.
#[test]
fn grow_child() {
    let Ok(most) = std::env::var("AIOPS_TEST_LEAK") else {
        return;
    };
    let most: usize = most.parse().expect("a number");
    let mut kept = Vec::new();
    let mut next = Instant::now();
    while kept.len() < most * 16 {
        kept.push(vec![7_u8; 64 << 10]);
        next += Duration::from_millis(25);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    thread::sleep(Duration::from_secs(60));
    std::hint::black_box(&kept);
}

/// Not a test: a process that keeps 64 KiB for each socket that it forgets to close, one every 25 ms.
#[test]
fn connect_child() {
    if std::env::var_os("AIOPS_TEST_LEAK").is_none() {
        return;
    }
    let mut kept = Vec::new();
    let mut next = Instant::now();
    while kept.len() < 640 {
        let socket = UnixDatagram::unbound().expect("a socket");
        kept.push((socket, vec![7_u8; 64 << 10]));
        next += Duration::from_millis(25);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    thread::sleep(Duration::from_secs(60));
    std::hint::black_box(&kept);
}

#[test]
fn connections_that_grow_with_memory_are_named() {
    let place = Scratch::new();
    let child = Grower::of("leak_live::connect_child");
    let (pid, store) = (child.pid(), place.path("store"));
    let output = run(&[
        "detect",
        "memory-leak",
        "--pid",
        &pid,
        "--store",
        &store,
        "--window",
        "6s",
        "-o",
        "json",
    ]);
    let report = json(&String::from_utf8_lossy(&output.stdout));
    let data = &report["data"];
    let evidence = &data["evidence"];
    for key in ["fds", "sockets"] {
        let count = |end: &str| evidence[key][end].as_u64().expect("a count");
        assert!(count("last") > count("first") + 50, "{}", evidence[key]);
        let r2 = evidence[key]["r2"].as_f64().expect("both move");
        assert!(r2 > 0.9, "{}", evidence[key]);
        // 64 KiB for each; the first and the last tenth are medians, so it is about that.
        let each = evidence[key]["kb_each"].as_f64().expect("it grew");
        assert!((40.0..100.0).contains(&each), "{}", evidence[key]);
    }
    let now = evidence["open_now"]["sockets"].as_u64().expect("it runs");
    assert!(now >= evidence["sockets"]["last"].as_u64().unwrap_or(u64::MAX) / 2);
    assert!(data["components"]["heap_kb"].is_i64() || data["components"]["heap_kb"].is_null());
    let lines = evidence["lines"].to_string();
    assert!(lines.contains("connections grew from"), "{lines}");
}

fn is_fast_leak(data: &Value) {
    assert_eq!(data["verdict"], "leak", "{}", data["reason"]);
    let rate = data["rate_mib_per_hour"].as_f64().expect("a rate");
    assert!((rate / 9000.0 - 1.0).abs() < 0.3, "{rate}");
}

#[test]
fn a_process_without_history_is_sampled_now_and_a_recording_of_it_says_the_same() {
    let place = Scratch::new();
    let file = place.path("growing.aiops");
    let child = Grower::start();
    let pid = child.pid();
    let store = place.path("store");
    let args = [
        "detect",
        "memory-leak",
        "--pid",
        &pid,
        "--store",
        &store,
        "--window",
        "6s",
        "-o",
        "json",
    ];
    let live = aiops(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let recorded = aiops(&[
        "collect",
        "memory",
        "--pid",
        &pid,
        "--duration",
        "6s",
        "--interval",
        "100ms",
        "--output",
        &file,
    ])
    .output()
    .expect("it starts");
    assert!(
        recorded.status.success(),
        "{}",
        String::from_utf8_lossy(&recorded.stderr)
    );
    let live = live.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&live.stderr).into_owned();
    assert!(
        live.status.success() && said.contains("sampling for 6 s"),
        "{said}"
    );
    let live = json(&String::from_utf8_lossy(&live.stdout))["data"].clone();
    is_fast_leak(&live);
    assert_eq!(live["window"]["source"], "live");
    assert!(
        live["notes"].to_string().contains("a window of"),
        "{}",
        live["notes"]
    );
    assert!(live["available_kb"].is_u64() && live["process"]["exe"].is_string());

    let args = [
        "detect",
        "memory-leak",
        "--recording",
        &file,
        "--pid",
        &pid,
        "-o",
        "json",
    ];
    let output = run(&args);
    let recording = json(&String::from_utf8_lossy(&output.stdout))["data"].clone();
    is_fast_leak(&recording);
    assert_eq!(recording["window"]["source"], "recording");
    // All of it, as a list.
    let output = run(&["detect", "memory-leak", "--recording", &file, "-o", "json"]);
    let list = json(&String::from_utf8_lossy(&output.stdout))["data"].clone();
    assert_eq!(list["processes"][0]["verdict"], "leak");
    assert_eq!(list["source"], "recording");
}

#[test]
fn without_a_store_it_says_that_it_samples_and_a_signal_judges_what_there_is() {
    let place = Scratch::new();
    let child = Grower::start();
    let pid = child.pid();
    let store: PathBuf = place.0.join("none");
    let store = store.to_str().expect("UTF-8");
    let live = aiops(&[
        "detect",
        "memory-leak",
        "--pid",
        &pid,
        "--store",
        store,
        "-o",
        "json",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("it starts");
    thread::sleep(Duration::from_secs(5));
    let id = i32::try_from(live.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("an id");
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("a signal");
    let output = live.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.contains("sampling for 10m"),
        "{said}"
    );
    let data = json(&String::from_utf8_lossy(&output.stdout))["data"].clone();
    // An interval of two seconds: too few samples to tell, and that is what it says.
    assert_eq!(data["verdict"], "inconclusive", "{data}");
    assert!(
        data["notes"].to_string().contains("no history"),
        "{}",
        data["notes"]
    );
}

/// A program that maps 256 KiB more of shared memory every 25 ms, 36,000 MiB/h, to 120 MiB.
const SHARED: &str = "
import mmap, time
kept = []
for i in range(480):
    area = mmap.mmap(-1, 256 << 10)
    for at in range(0, 256 << 10, 4096): area[at] = 1
    kept.append(area)
    time.sleep(0.025)
time.sleep(60)
";

#[test]
fn shared_memory_that_is_mapped_again_and_again_is_a_leak() {
    let child = Command::new("python3")
        .args(["-c", SHARED])
        .stdin(Stdio::null())
        .spawn();
    let Ok(child) = child.map(Grower) else {
        println!("SKIPPED: python3 is not there");
        return;
    };
    let place = Scratch::new();
    let ran = run(&[
        "detect",
        "memory-leak",
        "--pid",
        &child.pid(),
        "--store",
        &place.path("store"),
        "--window",
        "6s",
        "-o",
        "json",
    ]);
    let data = json(&String::from_utf8_lossy(&ran.stdout))["data"].clone();
    assert_eq!(data["verdict"], "leak", "{}", data["reason"]);
    assert_eq!(data["measure"], "shmem");
    assert_eq!(data["evidence"]["main_component"], "shmem");
    assert!(
        data["judged"]["last_kb"].as_u64() > data["judged"]["first_kb"].as_u64(),
        "{}",
        data["judged"]
    );
}

/// The runtime that is told of a program, once it has mapped what tells it; and the first advice.
fn runtime_of(command: &mut Command, mapped: &str) -> (Value, String) {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = Grower(child.expect("a child"));
    until("the runtime is mapped", || {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.pid()));
        maps.is_ok_and(|maps| maps.contains(mapped))
    });
    let place = Scratch::new();
    let (pid, store) = (child.pid(), place.path("store"));
    let output = run(&[
        "detect",
        "memory-leak",
        "--pid",
        &pid,
        "--store",
        &store,
        "--window",
        "1s",
        "-o",
        "json",
    ]);
    let report = json(&String::from_utf8_lossy(&output.stdout));
    (
        report["data"]["process"]["runtime"].clone(),
        report.to_string(),
    )
}

#[test]
fn runtimes_are_told_whatever_the_process_is_called() {
    let place = Scratch::new();
    let python = ["-c", "import sys; print(sys.executable)"];
    let found = Command::new("python3").args(python).output();
    if let Some(found) = found.ok().filter(|found| found.status.success()) {
        let python = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        // As in a virtual environment: a link of another name, and a name of its own.
        let link = place.path("worker");
        std::os::unix::fs::symlink(&python, &link).expect("a link");
        let mut command = Command::new(&link);
        command.args(["-c", "import time; time.sleep(60)"]);
        assert_eq!(runtime_of(&mut command, "python").0, "python");
    } else {
        println!("SKIPPED: there is no python3");
    }
    let source = place.path("Wait.java");
    let text = "class Wait { public static void main(String[] a) throws Exception { Thread.sleep(60_000); } }";
    std::fs::write(&source, text).expect("a file");
    let compiled = Command::new("javac").arg(&source).output();
    if compiled.is_ok_and(|done| done.status.success()) {
        let mut command = Command::new("java");
        command
            .arg0("service")
            .args(["-Xmx32m", "-cp", &place.path(""), "Wait"]);
        let (runtime, report) = runtime_of(&mut command, "libjvm.so");
        assert_eq!(runtime, "jvm", "{report}");
    } else {
        println!("SKIPPED: there is no JDK");
    }
    let mut command = Command::new("sleep");
    command.arg("60");
    let (runtime, report) = runtime_of(&mut command, "libc.so.6");
    assert_eq!(runtime, "glibc", "{report}");
}
