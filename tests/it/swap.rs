//! `analyze swap` on real swap: a file of our own, a cgroup that does not have enough memory, and the
//! kernel's own figures beside the report's.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
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
use crate::support::field;
use crate::support::json;
use crate::support::leftovers;
use crate::support::peer;
use crate::support::settle;
use crate::support::state;
use crate::support::stdout;
use crate::support::swapping;
use crate::support::until;
use crate::support::want;

const FILE_MIB: u64 = 256;
pub(crate) const TOUCH_MIB: usize = 160;
pub(crate) const LIMIT_MIB: u64 = 48;
const TMPFS_MIB: usize = 80;

/// Folders that may be on a disk.
fn places() -> Vec<PathBuf> {
    let mut places = vec![std::env::temp_dir(), PathBuf::from("/var/tmp")];
    let exe = std::env::current_exe().expect("the test binary");
    places.extend(exe.parent().map(Path::to_path_buf));
    places
}

/// A tmpfs holds no swap file, and a full disk is not ours to fill.
fn takes_swap(place: &Path) -> bool {
    let Ok(kind) = rustix::fs::statfs(place) else {
        return false;
    };
    let Ok(room) = rustix::fs::statvfs(place) else {
        return false;
    };
    let tmpfs = 0x0102_1994;
    kind.f_type != tmpfs && room.f_bavail.saturating_mul(room.f_frsize) > (2 * FILE_MIB) << 20
}

/// What a killed test has left: its children are gone, for they end with it; its file and its cgroup are not.
fn clean() {
    Cgroup::remove_leftovers();
    for folder in places().iter().flat_map(|place| leftovers(place, "swap")) {
        let _ = Command::new("swapoff")
            .arg(folder.join("swap"))
            .stderr(Stdio::null())
            .status();
        let _ = fs::remove_dir_all(folder);
    }
    for file in leftovers(Path::new("/dev/shm"), "swap") {
        let _ = fs::remove_file(file);
    }
}

/// A swap file of our own, switched off and removed at the end.
pub(crate) struct SwapFile {
    path: String,
    on: bool,
    _place: Scratch,
}

impl SwapFile {
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: a swap file needs root");
            return None;
        }
        clean();
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        if swaps.lines().count() > 1 {
            println!(
                "SKIPPED: this host swaps already, and its figures are not ours alone: {swaps}"
            );
            return None;
        }
        let mut why = Vec::new();
        for place in places().iter().filter(|place| takes_swap(place)) {
            match Self::at(place) {
                Ok(swap) => return Some(swap),
                Err(error) => why.push(format!("{}: {error}", place.display())),
            }
        }
        println!("SKIPPED: no place for a swap file: {why:?}");
        None
    }

    fn at(place: &Path) -> Result<Self, String> {
        let place = Scratch::at(place, "swap").map_err(|error| error.to_string())?;
        let mut swap = Self {
            path: place.path("swap"),
            on: false,
            _place: place,
        };
        swap.write().map_err(|error| error.to_string())?;
        for program in ["mkswap", "swapon"] {
            let done = Command::new(program)
                .arg(&swap.path)
                .stdin(Stdio::null())
                .output();
            match done {
                Ok(done) if done.status.success() => {}
                other => return Err(format!("{program}: {other:?}")),
            }
            swap.on |= program == "swapon";
        }
        Ok(swap)
    }

    /// Written, not allocated: holes and unwritten extents are refused by some file systems.
    fn write(&self) -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&self.path)?;
        let block = vec![0; 1 << 20];
        for _ in 0..FILE_MIB {
            file.write_all(&block)?;
        }
        file.sync_all()
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
pub(crate) struct Own(pub(crate) Child);

impl Own {
    pub(crate) fn start(cgroup: &Cgroup, plan: &str) -> Self {
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
    pub(crate) fn ready(&mut self) {
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
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        until("it stops", || state(self.0.id()) == Some('T'));
        // Pages on their way to the device when it stopped still arrive there.
        let swap = || field(&format!("/proc/{}/status", self.0.id()), "VmSwap");
        let mut last = swap();
        let mut same = 0;
        let end = Instant::now() + Duration::from_secs(60);
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
    // It never ends by itself: it ends with the one who started it, however that one ends.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).expect("a death signal");
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    });
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
            loop {
                thread::park();
            }
        }
        _ => panic!("{plan}"),
    }
}

pub(crate) fn vmstat(key: &str) -> u64 {
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

/// The parts are the whole, always; what is left unexplained is little once nothing moves.
fn check_sum(report: &Value) -> Result<(), String> {
    let totals = &report["data"]["totals"];
    let used = number(&totals["swap_used_kb"]);
    let mut sum = number(&totals["processes_swap_kb"]) + number(&totals["unexplained_kb"]);
    for part in totals["explained"].as_array().expect("parts") {
        sum += part["kb"].as_f64().unwrap_or(0.0);
    }
    assert_eq!(sum, used, "the parts add up: {totals}");
    let rest = number(&totals["unexplained_kb"]).abs();
    want!(rest <= used * 0.05, "within 5%: {totals}");
    Ok(())
}

/// One test, for swap belongs to the whole host; no other whose figures it moves runs beside it.
#[test]
fn real_swap_is_told_exactly() {
    let _alone = swapping();
    let Some(_swap) = SwapFile::new() else {
        return;
    };
    afresh("a process that moves", moving);
    afresh("shared memory", shared);
}

/// A stopped process does not mend what others did to it once (the host's own reclaim takes pages that nobody
/// touches): each attempt has a process of its own.
fn afresh(what: &str, attempt: impl Fn() -> Result<(), String>) {
    let mut why = Vec::new();
    for _ in 0..4 {
        match attempt() {
            Ok(()) => return,
            Err(reason) => why.push(reason),
        }
    }
    panic!("{what}: {}", why.join("\n"));
}

fn moving() -> Result<(), String> {
    let Some(cgroup) = Cgroup::with_swap(LIMIT_MIB << 20) else {
        return Ok(());
    };
    let before = (vmstat("pswpin"), vmstat("pswpout"));
    let mut child = Own::start(&cgroup, &format!("anon {TOUCH_MIB}"));
    child.ready();
    settle("rates", rates);
    settle("vmstat (8)", like_vmstat);

    // Until 100 MiB went out and came in.
    let page_kb = rustix::param::page_size() as f64 / 1024.0;
    let pages = |now: u64, then: u64| (now - then) as f64 * page_kb / 1024.0;
    let end = Instant::now() + Duration::from_secs(300);
    while pages(vmstat("pswpin"), before.0) < 100.0 || pages(vmstat("pswpout"), before.1) < 100.0 {
        assert!(Instant::now() < end, "100 MiB in and out");
        thread::sleep(Duration::from_millis(50));
    }

    // While it stands: exact.
    child.stop();
    patient(|| standing(&child, &cgroup))?;
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
    Ok(())
}

/// A few times, for what passes by itself.
fn patient(attempt: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let mut last = attempt();
    for _ in 0..20 {
        if last.is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(250));
        last = attempt();
    }
    last
}

/// While it moves: the rates are within what the kernel counted around the run.
fn rates() -> Result<(), String> {
    let from = (vmstat("pswpin"), vmstat("pswpout"));
    let report = analyze("2s");
    let until = (vmstat("pswpin"), vmstat("pswpout"));
    let rates = &report["data"]["rates"];
    let (inward, outward) = (number(&rates["pswpin"]), number(&rates["pswpout"]));
    assert!(inward <= (until.0 - from.0) as f64, "{rates}");
    assert!(outward <= (until.1 - from.1) as f64, "{rates}");
    let seconds = number(&rates["interval_s"]);
    let rate = number(&rates["pswpin_per_s"]);
    assert!((rate - inward / seconds).abs() < 0.5, "{rates}");
    let kb = number(&rates["pswpout_per_s"]) * rustix::param::page_size() as f64 / 1024.0;
    assert!(
        (number(&rates["swap_out_kb_per_s"]) - kb).abs() < 1.0,
        "{rates}"
    );
    want!(inward > 0.0 && outward > 0.0, "nothing moved: {rates}");
    Ok(())
}

/// `si` and `so` of vmstat (8), in KiB a second, over about the same seconds: not another unit.
fn like_vmstat() -> Result<(), String> {
    let other = thread::spawn(|| peer("vmstat", &["-n", "1", "4"]));
    let report = analyze("3s");
    let Some(text) = other.join().expect("it ends") else {
        return Ok(());
    };
    let mut lines = text.lines().skip(1);
    let heading: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    // The first row is since boot.
    let rows: Vec<Vec<f64>> = lines
        .skip(1)
        .map(|line| {
            line.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect()
        })
        .collect();
    assert_eq!(rows.len(), 3, "{text}");
    for (name, key) in [("si", "swap_in_kb_per_s"), ("so", "swap_out_kb_per_s")] {
        let at = heading
            .iter()
            .position(|word| *word == name)
            .expect("a column");
        let theirs = rows.iter().map(|row| row[at]).sum::<f64>() / 3.0;
        let ours = number(&report["data"]["rates"][key]);
        want!(
            ours > theirs * 0.5 && ours < theirs * 2.0,
            "{key}: {ours}, vmstat {theirs}"
        );
    }
    Ok(())
}

/// VmSwap of every process that has one, in KiB.
fn swapped() -> HashMap<u64, u64> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u64| Some((pid, field(&format!("/proc/{pid}/status"), "VmSwap")?)))
        .collect()
}

/// A stopped process with swap: its figures, where they lie, and why.
fn standing(child: &Own, cgroup: &Cgroup) -> Result<(), String> {
    let swapped = swapped();
    let report = analyze("0");
    let data = &report["data"];
    let status = |pid: &Value| field(&format!("/proc/{pid}/status"), "VmSwap");
    let rows = data["processes"].as_array().expect("processes");
    let sizes: Vec<u64> = rows
        .iter()
        .filter_map(|row| row["swap_kb"].as_u64())
        .collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b), "most first: {sizes:?}");
    let own = rows.iter().find(|row| row["pid"] == child.0.id());
    let own = own.expect("the child is a row");
    let now = status(&own["pid"]);
    want!(own["swap_kb"].as_u64() == now, "{own}: {now:?}");
    want!(own["swap_kb"].as_u64() > Some(100 << 10), "{own}");
    // Nobody else on a host without swap could swap so much, unless it has no memory left.
    want!(rows[0] == *own, "the culprit comes first: {}", rows[0]);
    assert_eq!(own["listed"], true);
    // Who had the same before and after the run is told so. The program itself is a row too, and has ended.
    for row in rows {
        let before = row["pid"].as_u64().and_then(|pid| swapped.get(&pid));
        if before.is_some() && status(&row["pid"]).as_ref() == before {
            want!(
                row["swap_kb"].as_u64().as_ref() == before,
                "{row}: {before:?}"
            );
        }
    }
    let region = &own["regions"][0];
    assert!(
        ["anon", "heap", "arena"].contains(&region["kind"].as_str().expect("a kind")),
        "{region}"
    );
    assert!(region["swap_kb"].as_u64() > Some(100 << 10), "{region}");
    check_sum(&report)?;
    assert_eq!(data["rates"]["pswpin_per_s"], Value::Null);
    let paths = data["cgroups"].as_array().expect("cgroups");
    let group = paths.iter().find(|row| row["path"] == cgroup.path.as_str());
    assert!(
        group.is_some_and(|row| row["swap_kb"].as_u64() > Some(100 << 10)),
        "{paths:?}"
    );
    let ids: Vec<&str> = report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter_map(|finding| finding["id"].as_str())
        .collect();
    let totals = &data["totals"];
    if number(&totals["mem_available_kb"]) * 8.0 > number(&totals["mem_total_kb"]) {
        want!(ids.contains(&"swap-cgroup-limit"), "{ids:?}: {group:?}");
    } else {
        println!("SKIPPED: swap-cgroup-limit: the host itself is short of memory");
    }
    Ok(())
}

/// A tmpfs file in swap belongs to no process: the shared memory part explains it.
fn shared() -> Result<(), String> {
    let Some(cgroup) = Cgroup::with_swap((LIMIT_MIB / 2) << 20) else {
        return Ok(());
    };
    let file = Gone(PathBuf::from(format!(
        "/dev/shm/aiops-swap-{}",
        std::process::id()
    )));
    let plan = format!("file {} {TMPFS_MIB}", file.0.display());
    let mut child = Own::start(&cgroup, &plan);
    child.ready();
    patient(|| {
        let report = analyze("0");
        check_sum(&report)?;
        let parts = &report["data"]["totals"]["explained"];
        let shmem: f64 = parts
            .as_array()
            .expect("parts")
            .iter()
            .filter(|part| part["part"] == "shmem")
            .map(|part| number(&part["kb"]))
            .sum();
        want!(shmem > (40 << 10) as f64, "{parts}");
        Ok(())
    })
}
