//! `analyze swap` on real swap: a file of our own, a cgroup that does not have enough memory, and the
//! kernel's own figures beside the report's.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::Cgroup;
use crate::support::Scratch;
use crate::support::json;
use crate::support::stdout;

const FILE_MIB: u64 = 256;
const TOUCH_MIB: usize = 160;
const LIMIT_MIB: u64 = 48;
const TMPFS_MIB: usize = 80;

/// A swap file of our own, switched off and removed at the end.
struct SwapFile {
    path: String,
    on: bool,
    _place: Scratch,
}

impl SwapFile {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: a swap file needs root");
            return None;
        }
        let place = Scratch::new();
        let mut swap = Self {
            path: place.path("swap"),
            on: false,
            _place: place,
        };
        // Written, not allocated: holes and unwritten extents are refused by some file systems.
        let mut file = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&swap.path)
            .expect("a swap file");
        let block = vec![0; 1 << 20];
        for _ in 0..FILE_MIB {
            file.write_all(&block).expect("room for a swap file");
        }
        file.sync_all().expect("a swap file on disk");
        for program in ["mkswap", "swapon"] {
            let done = Command::new(program)
                .arg(&swap.path)
                .stdin(Stdio::null())
                .output();
            match done {
                Ok(done) if done.status.success() => {}
                other => {
                    println!("SKIPPED: {program} does not work here: {other:?}");
                    return None;
                }
            }
            swap.on |= program == "swapon";
        }
        Some(swap)
    }
}

impl Drop for SwapFile {
    fn drop(&mut self) {
        if self.on {
            let _ = Command::new("swapoff").arg(&self.path).status();
        }
    }
}

/// A child of ours that is killed at the end.
struct Own(Child);

impl Own {
    fn start(cgroup: &Cgroup, plan: &str) -> Self {
        let exe = std::env::current_exe().expect("the test binary");
        let procs = PathBuf::from("/sys/fs/cgroup")
            .join(if cgroup.is_v2() { "" } else { "memory" })
            .join(cgroup.path.trim_start_matches('/'))
            .join("cgroup.procs");
        let child = Command::new(exe)
            .args(["--exact", "swap::swapped_child", "--nocapture"])
            .env("AIOPS_TEST_SWAP", plan)
            .env("AIOPS_TEST_CGROUP", procs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        Self(child)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).expect("a pid")).expect("a pid")
    }

    /// Waits until it says that it is ready.
    fn ready(&mut self) {
        let out = self.0.stdout.as_mut().expect("stdout");
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(b"READY\n") {
            let read = out.read(&mut byte).expect("the child speaks");
            assert!(
                read > 0,
                "the child ended: {}",
                String::from_utf8_lossy(&said)
            );
            said.push(byte[0]);
        }
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the child runs");
    }

    /// Stops it, and waits until it stands.
    fn stop(&self) {
        self.signal(Signal::STOP);
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("stat");
            if stat
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim().starts_with('T'))
            {
                break;
            }
            assert!(Instant::now() < end, "it does not stop: {stat}");
            thread::sleep(Duration::from_millis(10));
        }
        // Pages on their way to the device when it stopped still arrive there.
        let swap = || field(&format!("/proc/{}/status", self.0.id()), "VmSwap");
        let mut last = swap();
        let mut same = 0;
        while same < 10 && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
            let now = swap();
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that is removed at the end.
struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Not a test: the process that is swapped. `anon MIB` touches memory and then goes over it again and
/// again; `file PATH MIB` writes a file.
#[test]
fn swapped_child() {
    let Ok(plan) = std::env::var("AIOPS_TEST_SWAP") else {
        return;
    };
    let procs = std::env::var("AIOPS_TEST_CGROUP").expect("a cgroup");
    fs::write(procs, std::process::id().to_string()).expect("joining the cgroup");
    let words: Vec<&str> = plan.split(' ').collect();
    match words[..] {
        ["anon", mib] => {
            let mut memory = vec![0u8; mib.parse::<usize>().expect("a size") << 20];
            for round in 0.. {
                for page in memory.chunks_mut(4096) {
                    page[0] = page[0].wrapping_add(1);
                }
                if round == 0 {
                    println!("READY");
                }
            }
        }
        ["file", path, mib] => {
            let mut file = fs::File::create(path).expect("a file");
            let block = vec![7; 1 << 20];
            for _ in 0..mib.parse().expect("a size") {
                file.write_all(&block).expect("room");
            }
            println!("READY");
            let _ = std::io::stdin().read(&mut [0]);
        }
        _ => panic!("{plan}"),
    }
}

fn field(file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| {
        let name = line.split_whitespace().next();
        name.is_some_and(|name| name.trim_end_matches(':') == key)
    })?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn vmstat(key: &str) -> u64 {
    field("/proc/vmstat", key).expect("vmstat")
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

fn analyze(interval: &str) -> Value {
    json(&stdout(&[
        "analyze",
        "swap",
        "--interval",
        interval,
        "-o",
        "json",
    ]))
}

fn check_sum(report: &Value) {
    let totals = &report["data"]["totals"];
    let used = number(&totals["swap_used_kb"]);
    let mut sum = number(&totals["processes_swap_kb"]) + number(&totals["unexplained_kb"]);
    for part in totals["explained"].as_array().expect("parts") {
        sum += part["kb"].as_f64().unwrap_or(0.0);
    }
    assert_eq!(sum, used, "the parts add up: {totals}");
    let rest = number(&totals["unexplained_kb"]).abs();
    assert!(rest <= used * 0.05, "within 5%: {totals}");
}

/// One test, for swap belongs to the whole host.
#[test]
fn real_swap_is_told_exactly() {
    let Some(_swap) = SwapFile::new() else {
        return;
    };
    moving();
    shared();
}

fn moving() {
    let Some(cgroup) = Cgroup::new(LIMIT_MIB << 20) else {
        return;
    };
    let before = (vmstat("pswpin"), vmstat("pswpout"));
    let mut child = Own::start(&cgroup, &format!("anon {TOUCH_MIB}"));
    child.ready();
    // While it moves: the rates are within what the kernel counted around the run.
    let from = (vmstat("pswpin"), vmstat("pswpout"));
    let report = analyze("2s");
    let until = (vmstat("pswpin"), vmstat("pswpout"));
    let rates = &report["data"]["rates"];
    let (inward, outward) = (number(&rates["pswpin"]), number(&rates["pswpout"]));
    assert!(
        inward > 0.0 && inward <= (until.0 - from.0) as f64,
        "{rates}"
    );
    assert!(
        outward > 0.0 && outward <= (until.1 - from.1) as f64,
        "{rates}"
    );
    let seconds = number(&rates["interval_s"]);
    assert!(
        (number(&rates["pswpin_per_s"]) - inward / seconds).abs() < 0.5,
        "{rates}"
    );
    let page_kb = rustix::param::page_size() as f64 / 1024.0;
    let kb = number(&rates["pswpout_per_s"]) * page_kb;
    assert!(
        (number(&rates["swap_out_kb_per_s"]) - kb).abs() < 1.0,
        "{rates}"
    );

    // Until 100 MiB went out and came in.
    let pages = |now: u64, then: u64| (now - then) as f64 * page_kb / 1024.0;
    let end = Instant::now() + Duration::from_secs(120);
    while pages(vmstat("pswpin"), before.0) < 100.0 || pages(vmstat("pswpout"), before.1) < 100.0 {
        assert!(Instant::now() < end, "100 MiB in and out");
        thread::sleep(Duration::from_millis(50));
    }

    // While it stands: exact.
    child.stop();
    let report = analyze("0");
    let data = &report["data"];
    let status = |pid: &Value| field(&format!("/proc/{pid}/status"), "VmSwap");
    let rows = data["processes"].as_array().expect("processes");
    let first = &rows[0];
    assert_eq!(
        first["pid"],
        child.0.id(),
        "the culprit comes first: {first}"
    );
    assert_eq!(first["swap_kb"].as_u64(), status(&first["pid"]));
    assert!(first["swap_kb"].as_u64() > Some(100 << 10), "{first}");
    assert_eq!(first["listed"], true);
    let told: HashMap<u64, u64> = rows
        .iter()
        .filter_map(|row| Some((row["pid"].as_u64()?, row["swap_kb"].as_u64()?)))
        .collect();
    let mut compared = 0;
    for (pid, kb) in &told {
        // Others may move on: only the ones that do not are compared, and the child is one of them.
        if let Some(now) = status(&Value::from(*pid)) {
            compared += u32::from(now == *kb);
        }
    }
    assert!(
        compared as usize * 10 >= told.len() * 9,
        "{compared} of {}",
        told.len()
    );
    let region = &first["regions"][0];
    assert!(
        ["anon", "heap", "arena"].contains(&region["kind"].as_str().expect("a kind")),
        "{region}"
    );
    assert!(region["swap_kb"].as_u64() > Some(100 << 10), "{region}");
    check_sum(&report);
    assert_eq!(data["rates"]["pswpin_per_s"], Value::Null);
    let paths = data["cgroups"].as_array().expect("cgroups");
    let own = paths.iter().find(|row| row["path"] == cgroup.path.as_str());
    assert!(
        own.is_some_and(|row| row["swap_kb"].as_u64() > Some(100 << 10)),
        "{paths:?}"
    );
    let ids: Vec<&str> = report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter_map(|finding| finding["id"].as_str())
        .collect();
    assert!(ids.contains(&"swap-cgroup-limit"), "{ids:?}");
    for lang in ["en", "zh"] {
        let text = stdout(&[
            "--lang",
            lang,
            "analyze",
            "swap",
            "--processes",
            "--interval",
            "0",
        ]);
        assert!(text.contains(&child.0.id().to_string()), "{text}");
    }
    child.signal(Signal::CONT);
}

/// A tmpfs file in swap belongs to no process: the shared memory part explains it.
fn shared() {
    let Some(cgroup) = Cgroup::new((LIMIT_MIB / 2) << 20) else {
        return;
    };
    let file = Gone(PathBuf::from(format!(
        "/dev/shm/aiops-swap-{}",
        std::process::id()
    )));
    let plan = format!("file {} {TMPFS_MIB}", file.0.display());
    let mut child = Own::start(&cgroup, &plan);
    child.ready();
    let report = analyze("0");
    check_sum(&report);
    let parts = &report["data"]["totals"]["explained"];
    let shmem: f64 = parts
        .as_array()
        .expect("parts")
        .iter()
        .filter(|part| part["part"] == "shmem")
        .map(|part| number(&part["kb"]))
        .sum();
    assert!(shmem > (40 << 10) as f64, "{parts}");
}
