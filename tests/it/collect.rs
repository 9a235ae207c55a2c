//! `collect memory`: as exact as the system's own tools, and the same from its recording.

use std::collections::HashMap;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::support::Cgroup;
use crate::support::Scratch;
use crate::support::aiops;
use crate::support::can_trace;
use crate::support::field;
use crate::support::json;
use crate::support::no_swap;
use crate::support::run;
use crate::support::settle;
use crate::support::stdout;
use crate::support::timeless;
use crate::support::want;

/// How many processes of our own.
const PROCESSES: u64 = 200;

/// Not a test: a process that holds some memory until its stdin ends, when this binary is started by
/// [`Holders::start`].
#[test]
fn hold_child() {
    let Ok(kb) = std::env::var("AIOPS_TEST_HOLD") else {
        return;
    };
    if let Ok(procs) = std::env::var("AIOPS_TEST_CGROUP") {
        fs::write(procs, std::process::id().to_string()).expect("joining the cgroup");
    }
    let bytes = kb.parse::<usize>().expect("a number") * 1024;
    let kept: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8 + 1).collect();
    println!("ready");
    let mut end = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut end);
    std::hint::black_box(&kept);
}

/// Processes of known sizes, ended when this is dropped.
pub(crate) struct Holders(pub(crate) Vec<(Child, u64)>);

impl Holders {
    pub(crate) fn start(count: u64, kb: impl Fn(u64) -> u64, cgroup: Option<&Cgroup>) -> Self {
        let exe = std::env::current_exe().expect("the test binary");
        let mut holders = Self(Vec::new());
        for index in 0..count {
            let mut command = Command::new(&exe);
            command
                .args(["--exact", "collect::hold_child", "--nocapture"])
                .env("AIOPS_TEST_HOLD", kb(index).to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            if let Some(cgroup) = cgroup {
                command.env("AIOPS_TEST_CGROUP", cgroup.procs());
            }
            let child = command.spawn().expect("a child");
            holders.0.push((child, kb(index)));
        }
        for (child, _) in &mut holders.0 {
            let out = child.stdout.as_mut().expect("stdout");
            let mut lines = BufReader::new(out).lines();
            let ready = lines.any(|line| line.is_ok_and(|line| line.contains("ready")));
            assert!(ready, "a child did not start");
        }
        holders
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Rows of `free -k`: (total, used, free, buff/cache, available) and (total, used) of swap.
fn free() -> Option<[u64; 7]> {
    let output = Command::new("free").arg("-k").env("LC_ALL", "C").output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    let row = |name: &str| -> Option<Vec<u64>> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(
            line.split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect(),
        )
    };
    let (memory, swap) = (row("Mem:")?, row("Swap:")?);
    let [total, used, free, _, cache, available] = memory[..] else {
        return None;
    };
    Some([
        total,
        used,
        free,
        cache,
        available,
        *swap.first()?,
        *swap.get(1)?,
    ])
}

/// Resident memory of every process, as `ps` has it.
fn ps() -> Option<HashMap<u64, u64>> {
    let output = Command::new("ps")
        .args(["-eo", "pid=,rss="])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let rows = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    });
    Some(rows.collect())
}

/// Whether a figure lies between two readings of another tool, or within a share of one of them.
pub(crate) fn agrees(ours: u64, before: u64, after: u64, share: f64) -> bool {
    let low = before.min(after) as f64 * (1.0 - share);
    let high = before.max(after) as f64 * (1.0 + share);
    (low..=high).contains(&(ours as f64))
}

/// AC 1: the figures of `free` within 1 %, of `ps` within 2 % for each of 200 processes, swap exact.
#[test]
fn the_figures_are_those_of_free_and_ps() {
    if free().is_none() || ps().is_none() {
        println!("SKIPPED: free and ps of procps are not here");
        return;
    }
    let _no_swap = no_swap();
    let size = |index: u64| 512 + index * 16;
    let holders = Holders::start(PROCESSES, size, None);
    // Other programs move the host's figures: a moment in which `free` agrees with itself is waited for, a
    // less still one after many attempts.
    let mut attempts = 0;
    let report = settle("free and ps", || {
        attempts += 1;
        let (free_before, ps_before) = (free().expect("free"), ps().expect("ps"));
        let report = json(&stdout(&[
            "collect",
            "memory",
            "--duration",
            "0",
            "-o",
            "json",
        ]));
        let (free_after, ps_after) = (free().expect("free"), ps().expect("ps"));
        let most = if attempts < 30 { 0.005 } else { 0.05 };
        let mut pairs = free_before.iter().zip(&free_after);
        let still = pairs.all(|(a, b)| agrees(*a, *b, *b, most));
        want!(still, "the host moves: {free_before:?} {free_after:?}");
        like_free(&report, &free_before, &free_after)?;
        like_ps(&report, &holders, &ps_before, &ps_after)?;
        Ok(report)
    });
    assert_eq!(report["schema"], "aiops.collect-memory/1");
    assert_eq!(report["data"]["window"]["samples"], 1);
    let text = stdout(&["collect", "memory", "--duration", "0", "--lang", "zh", "-q"]);
    assert!(text.contains("已用"), "{text}");
}

fn like_free(report: &Value, before: &[u64; 7], after: &[u64; 7]) -> Result<(), String> {
    let system = &report["data"]["system"];
    let keys = [
        ("mem_total_kb", 0.0),
        ("mem_used_kb", 0.01),
        ("mem_free_kb", 0.01),
        ("buff_cache_kb", 0.01),
        ("mem_available_kb", 0.01),
        ("swap_total_kb", 0.0),
        ("swap_used_kb", 0.0),
    ];
    for ((key, share), (before, after)) in keys.into_iter().zip(before.iter().zip(after)) {
        let ours = system[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key}: {system}"));
        want!(
            agrees(ours, *before, *after, share),
            "{key}: {ours}, free {before} {after}"
        );
    }
    Ok(())
}

fn like_ps(
    report: &Value,
    holders: &Holders,
    before: &HashMap<u64, u64>,
    after: &HashMap<u64, u64>,
) -> Result<(), String> {
    let rows = report["data"]["processes"].as_array().expect("processes");
    let ours: HashMap<u64, &Value> = rows
        .iter()
        .map(|row| (row["pid"].as_u64().expect("a pid"), row))
        .collect();
    assert_eq!(holders.0.len() as u64, PROCESSES);
    for (child, kb) in &holders.0 {
        let pid = u64::from(child.id());
        let row = ours.get(&pid).unwrap_or_else(|| panic!("{pid} is missing"));
        let rss = row["rss_kb"].as_u64().expect("RSS");
        // Where the host itself swaps, some of it may be there.
        let swap = row["swap_kb"].as_u64().unwrap_or(0);
        assert!(rss + swap >= *kb, "{pid}: {rss} + {swap} < {kb}");
        let (before, after) = (before[&pid], after[&pid]);
        want!(
            agrees(rss, before, after, 0.02),
            "{pid}: {rss}, ps {before} {after}"
        );
        let kernel = field(&format!("/proc/{pid}/status"), "VmSwap");
        want!(
            row["swap_kb"].as_u64() == kernel,
            "swap of {pid}: {row}, status {kernel:?}"
        );
    }
    Ok(())
}

#[test]
fn a_recording_gives_the_same_report() {
    let place = Scratch::new();
    let Some(cgroup) = cgroup() else { return };
    let holders = Holders::start(3, |index| 1024 * (index + 1), Some(&cgroup));
    let pid = holders.0[2].0.id().to_string();
    for (name, options) in [
        ("snap.db", &["--duration", "0", "--smaps"][..]),
        (
            "by.db",
            &[
                "--duration",
                "300ms",
                "--interval",
                "100ms",
                "--by",
                "cgroup",
            ],
        ),
        (
            "pid.db",
            &[
                "--duration",
                "200ms",
                "--interval",
                "50ms",
                "--pid",
                &pid,
                "--smaps",
            ],
        ),
        (
            "comm.db",
            &["--duration", "0", "--cgroup", &cgroup.path, "--by", "comm"],
        ),
    ] {
        let file = place.path(name);
        let mut args = vec!["collect", "memory", "-o", "json", "--output", &file];
        args.extend(options);
        let live = json(&stdout(&args));
        let replayed = json(&stdout(&["replay", &file, "-o", "json"]));
        assert_eq!(timeless(live.clone()), timeless(replayed), "{name}");
        let same = json(&stdout(&["replay", &file, "--as", "collect", "-o", "json"]));
        assert_eq!(timeless(live.clone()), timeless(same), "{name}");
        let refused = run(&args);
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("--force"),
            "{name}"
        );
        let rows = live["data"]["processes"].as_array().expect("processes");
        match name {
            "pid.db" => {
                assert_eq!(rows.len(), 1);
                assert!(rows[0]["pss_kb"].as_u64() >= Some(3 * 1024), "{live:#}");
                assert!(
                    live["data"]["regions"]
                        .as_array()
                        .is_some_and(|list| list.len() > 3)
                );
            }
            "comm.db" => {
                assert_eq!(rows.len(), 3);
                assert_eq!(live["data"]["groups"][0]["processes"], 3);
                assert_eq!(
                    live["data"]["groups"][0]["limits"]["path"],
                    cgroup.path.as_str()
                );
            }
            "by.db" => {
                let groups = live["data"]["groups"].as_array().expect("groups");
                let own = groups
                    .iter()
                    .find(|group| group["cgroup"] == cgroup.path.as_str());
                let own = own.expect("the cgroup");
                assert_eq!(own["processes"], 3);
                assert!(
                    own["rss_summary"]["min"].as_u64() >= Some(6 * 1024),
                    "{own}"
                );
            }
            _ => assert!(live["data"]["summary"]["rates"]["swap_in_kb_per_s"].is_null()),
        }
        assert!(stdout(&["replay", &file, "--lang", "zh"]).contains("内存采集"));
    }
}

fn cgroup() -> Option<Cgroup> {
    can_trace().then(|| Cgroup::new(256 << 20)).flatten()
}

#[test]
fn a_signal_ends_it_with_the_report() {
    let place = Scratch::new();
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let file = place.path(&format!("{}.db", signal.as_raw()));
        let mut child = aiops(&[
            "collect",
            "memory",
            "--duration",
            "1h",
            "--interval",
            "20ms",
        ])
        .args(["-o", "jsonl", "--output", &file])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        for _ in 0..3 {
            let line = lines.next().expect("a line").expect("UTF-8");
            assert_eq!(json(&line)["type"], "sample");
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).expect("it runs");
        let rest: Vec<String> = lines.map(|line| line.expect("UTF-8")).collect();
        let output = child.wait_with_output().expect("it ends");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{errors}");
        assert!(errors.starts_with("collecting"), "{errors}");
        assert_eq!(errors.lines().count(), 2, "{errors}");
        let mut live = json(rest.last().expect("a report"));
        assert_eq!(live["type"], "report");
        live.as_object_mut().expect("an object").remove("type");
        let replayed = json(&stdout(&["replay", &file, "-o", "json"]));
        assert_eq!(timeless(live), timeless(replayed));
    }
}

#[test]
fn processes_that_come_and_go_are_counted() {
    let mut child = aiops(&[
        "collect",
        "memory",
        "--duration",
        "1h",
        "--interval",
        "20ms",
    ])
    .args(["-o", "jsonl"])
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut next = || json(&lines.next().expect("a line").expect("UTF-8"));
    next();
    let holders = Holders::start(1, |_| 2048, None);
    let pid = holders.0[0].0.id();
    let has = |record: &Value| {
        let rows = record["processes"].as_array().expect("processes");
        rows.iter()
            .any(|row| row["pid"] == pid && row["rss_kb"].as_u64() >= Some(2048))
    };
    while !has(&next()) {}
    drop(holders);
    while has(&next()) {}
    let own = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(own, rustix::process::Signal::TERM).expect("it runs");
    let report = loop {
        let record = next();
        if record["type"] == "report" {
            break record;
        }
    };
    assert!(child.wait().expect("it ends").success());
    let rows = report["data"]["summary"]["processes"]
        .as_array()
        .expect("rows");
    let row = rows
        .iter()
        .find(|row| row["pid"] == pid)
        .expect("the process");
    assert_eq!(
        (&row["appeared"], &row["ended"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
    assert!(row["growth_kb_per_hour"].is_null(), "{row}");
}

#[test]
fn what_cannot_be_is_said() {
    let report = json(&stdout(&[
        "collect",
        "memory",
        "--duration",
        "0",
        "--pid",
        "4194304",
        "-o",
        "json",
    ]));
    assert_eq!(
        report["data"]["missing_pids"],
        serde_json::json!([4_194_304])
    );
    assert_eq!(report["data"]["processes"], serde_json::json!([]));
    assert_eq!(report["findings"][0]["id"], "no-process-matches");
    let own = format!("4194304,{}", std::process::id());
    let some = ["collect", "memory", "--duration", "0", "--pid", &own];
    let warned = run(&[&some[..], &["--exit-code"]].concat());
    assert!(warned.status.code() >= Some(10), "{warned:?}");
}

/// A file system of 32 KiB, gone when this is dropped.
struct Tiny(Scratch);

impl Tiny {
    fn mount() -> Option<Self> {
        let place = Scratch::new();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=32k", "tmpfs"])
            .arg(&place.0)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(place))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0.0).status();
    }
}

#[test]
fn a_full_disk_costs_the_recording_and_not_the_report() {
    let Some(tiny) = Tiny::mount() else {
        println!("SKIPPED: a small disk cannot be mounted");
        return;
    };
    let filler = tiny.0.path("filler");
    fs::write(&filler, vec![1; 16 << 10]).expect("half of the disk");
    let file = tiny.0.path("full.db");
    let args = [
        "--duration",
        "1s",
        "--interval",
        "10ms",
        "--smaps",
        "-o",
        "json",
    ];
    let output = aiops(&["collect", "memory", "--output", &file])
        .args(args)
        .output()
        .expect("the program starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("cannot write"), "{errors}");
    let report = json(&String::from_utf8_lossy(&output.stdout));
    assert!(
        report["data"]["window"]["samples"].as_u64() > Some(2),
        "{errors}"
    );
    // What was written is a recording, which says that its end is missing.
    let replayed = run(&["replay", &file, "-o", "json"]);
    match replayed.status.code() {
        Some(0) => {
            let replayed = json(&String::from_utf8_lossy(&replayed.stdout));
            assert_eq!(replayed["accounting"]["complete"], false);
        }
        code => assert_eq!(code, Some(1), "{replayed:?}"),
    }
}

#[test]
fn another_user_gets_a_report() {
    if !can_trace() {
        return;
    }
    let place = Scratch::new();
    let copy = place.path("aiops");
    crate::support::copy_program(&copy);
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o755)).expect("readable");
    let output = Command::new(&copy)
        .args(["collect", "memory", "--duration", "0", "-o", "json"])
        .env("LC_ALL", "C.UTF-8")
        .uid(65534)
        .gid(65534)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    let report = json(&String::from_utf8_lossy(&output.stdout));
    assert!(
        report["data"]["processes"]
            .as_array()
            .is_some_and(|rows| !rows.is_empty())
    );
    assert!(report["data"]["system"]["mem_used_kb"].as_u64() > Some(0));
}

/// A captured tree of an old kernel: one sample, what is missing is null.
#[test]
fn a_captured_tree_of_an_old_kernel() {
    let place = Scratch::new();
    let one = place.0.join("proc/7");
    fs::create_dir_all(&one).expect("a directory");
    for (file, text) in [
        (
            "proc/meminfo",
            "MemTotal: 1000 kB\nMemFree: 300 kB\nBuffers: 50 kB\nCached: 200 kB\nSwapTotal: 10 kB\nSwapFree: 4 kB\n",
        ),
        ("proc/uptime", "100.00 100.00\n"),
        ("proc/7/comm", "old\n"),
        (
            "proc/7/stat",
            "7 (old) S 1 7 7 0 -1 0 10 0 2 0 1 1 0 0 20 0 1 0 500 4096 10 0 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n",
        ),
        ("proc/7/statm", "100 25 5 1 0 10 0\n"),
        (
            "proc/7/status",
            "Name:\told\nState:\tS\nPid:\t7\nPPid:\t1\nUid:\t0\t0\t0\t0\nVmSize:\t400 kB\nVmRSS:\t100 kB\nVmSwap:\t8 kB\nThreads:\t1\n",
        ),
    ] {
        fs::write(place.0.join(file), text).expect("a file");
    }
    let root = place.0.to_str().expect("UTF-8");
    let report = json(&stdout(&[
        "--root",
        root,
        "collect",
        "memory",
        "--duration",
        "1h",
        "-o",
        "json",
    ]));
    let data = &report["data"];
    assert_eq!(data["window"]["samples"], 1, "{data:#}");
    assert_eq!(data["system"]["mem_used_kb"], 450);
    assert_eq!(data["system"]["used_formula"], "total-free-buffers-cache");
    assert!(data["system"]["mem_available_kb"].is_null());
    assert_eq!(data["system"]["swap_used_kb"], 6);
    assert!(data["summary"]["rates"]["psi_some_pct"].is_null());
    let row = &data["processes"][0];
    assert_eq!(
        (&row["pid"], &row["rss_kb"], &row["swap_kb"]),
        (&7.into(), &100.into(), &8.into())
    );
    assert!(row["pss_kb"].is_null());
}
