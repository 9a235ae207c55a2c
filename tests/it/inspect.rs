//! `inspect memory`: every mapping to the KiB, beside smaps, smaps_rollup and pmap, of processes that
//! stand still; a tree, refusals, old kernels, the most mappings that a process may have.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::Scratch;
use crate::support::aiops;
use crate::support::json;
use crate::support::run;
use crate::support::same;
use crate::support::settle;
use crate::support::state;
use crate::support::stdout;
use crate::support::until;
use crate::support::want;

const MIB: usize = 1 << 20;

/// A process that ends with the test.
struct Target(Child);

impl Target {
    /// Starts this binary as a process with known memory, and stops it.
    fn known(plan: &str, place: &Scratch) -> Self {
        let exe = std::env::current_exe().expect("the test binary");
        let mut child = Command::new(exe)
            .args(["--exact", "inspect::known_child", "--nocapture"])
            .env("AIOPS_TEST_KNOWN", plan)
            .env("AIOPS_TEST_PLACE", &place.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let output = child.stdout.take().expect("stdout");
        let target = Self(child);
        let mut lines = BufReader::new(output).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("READY")));
        assert!(ready, "the child said READY");
        target.stop();
        target
    }

    fn program(program: &str, args: &[&str]) -> Option<Self> {
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let target = Self(child);
        target.loaded();
        target.stop();
        Some(target)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Stops it, so that its figures stand still.
    fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
        until("it stops", || state(self.pid()) == Some('T'));
    }

    /// Waits until its libraries are loaded and it sleeps: no fault and no CPU between several looks.
    fn loaded(&self) {
        let (mut last, mut same) = (Vec::new(), 0);
        until("it sleeps", || {
            let path = format!("/proc/{}/stat", self.pid());
            let stat = fs::read_to_string(path).expect("it runs");
            let rest = stat.rsplit_once(") ").expect("a name").1;
            let words: Vec<String> = rest.split(' ').map(str::to_owned).collect();
            // minflt, majflt, utime, stime (man 5 proc, 10 to 15).
            let now: Vec<String> = [7, 9, 11, 12].map(|at| words[at].clone()).to_vec();
            same = if words[0] == "S" && now == last {
                same + 1
            } else {
                0
            };
            last = now;
            same >= 5
        });
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("it runs");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Maps `length` bytes and touches each page.
fn map(length: usize, prot: i32, flags: i32, fd: i32) -> *mut u8 {
    // SAFETY: a new mapping at an address that the kernel chooses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, prot, flags, fd, 0) };
    assert!(
        at != libc::MAP_FAILED,
        "mmap: {}",
        std::io::Error::last_os_error()
    );
    let at = at.cast::<u8>();
    if prot & libc::PROT_WRITE != 0 {
        for offset in (0..length).step_by(4096) {
            // SAFETY: inside of the mapping.
            unsafe { at.wrapping_add(offset).write(1) };
        }
    }
    at
}

/// Not a test: the process with known memory, when this binary is started by [`Target::known`].
#[test]
fn known_child() {
    let Ok(plan) = std::env::var("AIOPS_TEST_KNOWN") else {
        return;
    };
    let (rw, private, anon) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE,
        libc::MAP_ANONYMOUS,
    );
    if plan == "many" {
        // Mappings that differ from their neighbours are not merged; room for what comes is left.
        let most = fs::read_to_string("/proc/sys/vm/max_map_count").expect("a limit");
        let most: usize = most.trim().parse().expect("a number");
        let count = most.min(65_530) - 200;
        let at = map(count * 4096, libc::PROT_READ, private | anon, -1);
        for page in (0..count).step_by(2) {
            // SAFETY: inside of the mapping.
            let done = unsafe { libc::mprotect(at.wrapping_add(page * 4096).cast(), 4096, rw) };
            assert_eq!(done, 0);
        }
    } else {
        let folder = std::path::PathBuf::from(std::env::var("AIOPS_TEST_PLACE").expect("a place"));
        let anonymous = map(12 * MIB, rw, private | anon, -1);
        // SAFETY: a name for our own mapping; kernels without the option refuse.
        unsafe {
            libc::prctl(
                libc::PR_SET_VMA,
                libc::PR_SET_VMA_ANON_NAME,
                anonymous,
                12 * MIB,
                c"aiops-test".as_ptr(),
            );
        }
        map(7 * MIB, rw, libc::MAP_SHARED | anon, -1);
        // SAFETY: a new descriptor.
        let memfd = unsafe { libc::memfd_create(c"aiops-mem".as_ptr(), 0) };
        assert!(memfd >= 0);
        // SAFETY: our own descriptor.
        assert_eq!(unsafe { libc::ftruncate(memfd, 5 << 20) }, 0);
        map(5 * MIB, rw, libc::MAP_SHARED, memfd);
        let path = folder.join("a file 内存");
        fs::write(&path, vec![7; 20 * MIB]).expect("a file");
        let file = fs::File::open(&path).expect("the file");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        map(20 * MIB, libc::PROT_READ, private, fd);
        fs::remove_file(&path).expect("removed");
        map(MIB, rw | libc::PROT_EXEC, private | anon, -1);
        // SAFETY: the end of the heap is moved; the allocator copes with it (malloc.c, sbrk).
        let heap = unsafe { libc::sbrk(3 << 20) }.cast::<u8>();
        for offset in (0..3 * MIB).step_by(4096) {
            // SAFETY: inside of what sbrk gave.
            unsafe { heap.wrapping_add(offset).write(1) };
        }
        for _ in 0..4 {
            std::thread::spawn(|| std::thread::sleep(Duration::from_secs(600)));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("READY");
    std::thread::sleep(Duration::from_secs(600));
}

/// smaps by range and key.
type Smaps = BTreeMap<String, BTreeMap<String, String>>;

/// smaps as the kernel prints it.
fn smaps(pid: u32) -> Smaps {
    let bytes = fs::read(format!("/proc/{pid}/smaps")).expect("smaps");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut all = BTreeMap::new();
    let mut range = String::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(key) = first.strip_suffix(':') {
            let value: Vec<&str> = words.filter(|word| *word != "kB").collect();
            let entry: &mut BTreeMap<String, String> = all.entry(range.clone()).or_default();
            entry.insert(key.to_owned(), value.join(" "));
        } else {
            range = first.to_owned();
            let entry: &mut BTreeMap<String, String> = all.entry(range.clone()).or_default();
            entry.insert(
                "perms".to_owned(),
                words.next().unwrap_or_default().to_owned(),
            );
            let inode = words.nth(2).unwrap_or_default().to_owned();
            entry.insert("inode".to_owned(), inode);
            entry.insert("path".to_owned(), words.collect::<Vec<_>>().join(" "));
        }
    }
    all
}

const PAIRS: [(&str, &str); 15] = [
    ("size_kb", "Size"),
    ("rss_kb", "Rss"),
    ("pss_kb", "Pss"),
    ("swap_kb", "Swap"),
    ("shared_clean_kb", "Shared_Clean"),
    ("shared_dirty_kb", "Shared_Dirty"),
    ("private_clean_kb", "Private_Clean"),
    ("private_dirty_kb", "Private_Dirty"),
    ("referenced_kb", "Referenced"),
    ("anonymous_kb", "Anonymous"),
    ("lazy_free_kb", "LazyFree"),
    ("anon_huge_kb", "AnonHugePages"),
    ("swap_pss_kb", "SwapPss"),
    ("locked_kb", "Locked"),
    ("page_kb", "KernelPageSize"),
];

/// What the kernel and pmap say of a stopped process around one report on it.
struct Truth {
    smaps: Smaps,
    rollup: Option<String>,
    pmap: Option<String>,
    /// Nothing changed around the report. Else shares of pages that others map as well may be others': their
    /// processes come and go.
    still: bool,
}

/// A report that is the truth of its moment, figure by figure. Other tests start programs of the same libraries, and
/// each changes the shares of all: it is tried again. On a host that starts programs all the time shares may never
/// stand still; after many attempts the ones of pages that others map are only roughly compared.
fn settled(pid: u32, more: &[&str]) -> Value {
    // A program that is not linked statically maps, while it reports, the libraries that it reports on.
    let alone = cfg!(target_feature = "crt-static");
    let mut attempts = 0;
    settle("smaps, smaps_rollup and pmap", || {
        let before = smaps(pid);
        let report = inspect(pid, more);
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
        let output = Command::new("pmap").args(["-X", &pid.to_string()]).output();
        let pmap = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        attempts += 1;
        let patient = alone && attempts < 25;
        let still = before == smaps(pid) && patient;
        let truth = Truth {
            smaps: before,
            rollup,
            pmap: pmap.ok(),
            still,
        };
        compare(&report, pid, &truth)?;
        want!(still || !patient, "it moves");
        Ok(report)
    })
}

/// Whether a figure is a share that depends on who else maps the same pages.
fn is_share(key: &str) -> bool {
    key.contains("pss") || key.starts_with("shared") || key.starts_with("private")
}

/// Compares a report with the kernel's files and pmap, figure by figure.
fn compare(report: &Value, pid: u32, truth: &Truth) -> Result<(), String> {
    let data = &report["data"];
    let kernel = &truth.smaps;
    let certain = |key: &str| truth.still || !is_share(key);
    let mappings = data["mappings"].as_array().expect("mappings");
    same!(mappings.len(), kernel.len(), "every mapping");
    for ours in mappings {
        let text = |key: &str| ours[key].as_str().unwrap_or_default();
        let range = format!("{}-{}", text("start"), text("end"));
        let theirs = kernel
            .get(&range)
            .unwrap_or_else(|| panic!("{range} is not in smaps"));
        for (key, name) in PAIRS {
            let value = theirs.get(name).and_then(|value| value.parse::<u64>().ok());
            if certain(key) || theirs["path"].is_empty() {
                same!(ours[key].as_u64(), value, "{range} {key}");
            }
        }
        same!(text("perms"), theirs["perms"], "{range}");
        same!(
            ours["shared"] == true,
            theirs["perms"].ends_with('s'),
            "{range}"
        );
        let flags: Vec<&str> = ours["vm_flags"]
            .as_array()
            .map(|flags| flags.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        same!(flags.join(" "), theirs["VmFlags"], "{range}");
        let deleted = theirs["path"].ends_with(" (deleted)");
        same!(ours["deleted"] == true, deleted, "{range}");
        // A file is what has an inode and can be opened by its name, or could before it was removed.
        if theirs["path"].starts_with('/') && !theirs["path"].starts_with("/dev/zero") {
            same!(ours["anonymous"], false, "{range}");
        } else if !["[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]"]
            .contains(&&theirs["path"][..])
        {
            same!(ours["anonymous"], true, "{range} {}", theirs["path"]);
        }
    }
    // The sums of the report, from the kernel's own lines.
    for (key, name) in &PAIRS[..PAIRS.len() - 1] {
        let sum: u64 = kernel
            .values()
            .filter_map(|one| one.get(*name)?.parse::<u64>().ok())
            .sum();
        if certain(key) {
            same!(data["totals"][key].as_u64(), Some(sum), "{key}");
        } else if *key == "pss_kb" {
            let ours = data["totals"][key].as_u64().expect(key);
            want!(ours.abs_diff(sum) <= 512 + sum / 2, "{key}: {ours}, {sum}");
        }
    }
    if let Some(rollup) = &truth.rollup {
        if truth.still {
            same!(data["totals_equal_rollup"], true, "{}", data["differences"]);
        }
        for (key, name) in &PAIRS[1..PAIRS.len() - 1] {
            let line = rollup
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name}:")));
            let value = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            if certain(key) {
                same!(data["rollup"][key].as_u64(), value, "{key} of {pid}");
            }
        }
    }
    pmap(data, truth)
}

/// The last line of `pmap -X` has the sums of its columns.
fn pmap(data: &Value, truth: &Truth) -> Result<(), String> {
    let Some(text) = &truth.pmap else {
        println!("SKIPPED: there is no pmap to compare with");
        return Ok(());
    };
    let heading: Vec<&str> = text
        .lines()
        .find(|line| line.trim_start().starts_with("Address"))
        .expect("a heading")
        .split_whitespace()
        .collect();
    let last = text
        .lines()
        .rev()
        .find(|line| line.contains("KB"))
        .expect("sums");
    let sums: Vec<u64> = last
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let from = heading
        .iter()
        .position(|name| *name == "Size")
        .expect("sizes");
    let mut compared = 0;
    for (name, sum) in heading[from..].iter().zip(&sums) {
        if let Some((key, _)) = PAIRS.iter().find(|(_, known)| known == name)
            && *key != "page_kb"
            && (truth.still || !is_share(key))
        {
            same!(data["totals"][key].as_u64(), Some(*sum), "pmap {name}");
            compared += 1;
        }
    }
    assert!(compared >= 3, "{heading:?}");
    Ok(())
}

fn inspect(pid: u32, more: &[&str]) -> Value {
    let pid = pid.to_string();
    let args = [&["inspect", "memory", "--pid", &pid, "-o", "json"], more].concat();
    json(&stdout(&args))
}

fn kind<'a>(report: &'a Value, kind: &str) -> Option<&'a Value> {
    let kinds = report["data"]["by_kind"].as_array().expect("kinds");
    kinds.iter().find(|row| row["kind"] == kind)
}

#[test]
fn every_mapping_of_a_known_process() {
    let place = Scratch::new();
    let target = Target::known("known", &place);
    let report = settled(target.pid(), &["--maps", "--detail"]);
    assert_eq!(report["schema"], "aiops.inspect-memory/1");
    assert_eq!(report["accounting"]["complete"], true);
    let data = &report["data"];
    assert_eq!(data["process"]["pid"], target.pid());
    assert_eq!(data["process"]["state"], "T");
    assert!(data["process"]["threads"].as_u64() >= Some(5));
    let rss = |name: &str| kind(&report, name).and_then(|row| row["rss_kb"].as_u64());
    assert_eq!(rss("shared_anon"), Some(7 << 10));
    assert_eq!(rss("memfd"), Some(5 << 10));
    assert!(rss("heap") >= Some(3 << 10), "{:?}", rss("heap"));
    assert!(rss("stack") > Some(0));
    assert!(kind(&report, "vdso").is_some() && kind(&report, "executable").is_some());
    match rss("named_anon") {
        Some(named) => assert!(named >= 12 << 10),
        None => println!("SKIPPED: this kernel has no names for anonymous memory"),
    }
    let findings = report["findings"].as_array().expect("findings");
    let ids: Vec<&str> = findings
        .iter()
        .filter_map(|one| one["id"].as_str())
        .collect();
    assert_eq!(ids, ["inspect-deleted-file"], "{findings:?}");
    let modules = data["modules"].as_array().expect("modules");
    let file = modules.iter().find(|row| {
        row["path"]
            .as_str()
            .is_some_and(|path| path.ends_with("a file 内存"))
    });
    assert_eq!(file.map(|row| &row["deleted"]), Some(&Value::Bool(true)));
    assert_eq!(file.and_then(|row| row["size_kb"].as_u64()), Some(20 << 10));
}

#[test]
fn every_mapping_of_a_program_with_libraries() {
    let Some(target) = Target::program("sleep", &["600"]) else {
        println!("SKIPPED: there is no sleep");
        return;
    };
    let report = settled(target.pid(), &[]);
    assert!(kind(&report, "library").is_some() && kind(&report, "executable").is_some());
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(0));
    // Every order has every mapping, and text fits into both widths and languages.
    for sort in ["address", "size", "rss", "swap", "dirty"] {
        let sorted = inspect(target.pid(), &["--sort", sort]);
        assert_eq!(
            sorted["data"]["mappings"].as_array().map(Vec::len),
            report["data"]["mappings"].as_array().map(Vec::len)
        );
    }
    let pid = target.pid().to_string();
    for (lang, word) in [("en", "By kind"), ("zh", "按类型")] {
        for columns in ["80", "120"] {
            let args = ["inspect", "memory", "--pid", &pid, "--maps", "--lang", lang];
            let output = aiops(&args)
                .env("COLUMNS", columns)
                .output()
                .expect("it runs");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            assert!(text.contains(word) && text.contains("sleep"), "{text}");
            assert!(text.contains("r-xp"), "{text}");
        }
    }
}

#[test]
fn the_most_mappings_that_a_process_may_have() {
    let place = Scratch::new();
    let target = Target::known("many", &place);
    let report = settled(target.pid(), &["--sort", "address"]);
    let count = report["data"]["mappings"].as_array().map_or(0, Vec::len);
    assert!(count > 60_000, "{count}");
    let findings = report["findings"].as_array().expect("findings");
    let most: u64 = fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .expect("a limit");
    let told = findings.iter().any(|one| one["id"] == "inspect-map-count");
    assert_eq!(told, count as u64 * 100 / most >= 80, "{findings:?}");
    assert!(
        findings
            .iter()
            .any(|one| one["id"] == "inspect-small-mappings")
    );
}

/// A process group that ends with the test.
struct Family(Target);

impl Drop for Family {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.pid()).ok();
        if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn a_tree_of_processes_is_merged() {
    // The shell waits for two children of its own.
    let script = "sleep 600 & sleep 600 & wait";
    let mut command = Command::new("sh");
    command.args(["-c", script]).process_group(0);
    let Ok(child) = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() else {
        println!("SKIPPED: there is no sh");
        return;
    };
    let family = Family(Target(child));
    let mut report = Value::Null;
    until("two children of the shell that sleep", || {
        report = inspect(family.0.pid(), &["--children"]);
        let rows = report["data"]["processes"].as_array().expect("processes");
        rows.len() == 3 && rows[1..].iter().all(|row| row["comm"] == "sleep")
    });
    let data = &report["data"];
    let rows = data["processes"].as_array().expect("processes");
    let depths: Vec<_> = rows
        .iter()
        .filter_map(|row| row["depth"].as_u64())
        .collect();
    assert_eq!(depths, [0, 1, 1], "{rows:?}");
    assert!(data["process"].is_null());
    let sum: u64 = rows
        .iter()
        .filter_map(|row| row["totals"]["pss_kb"].as_u64())
        .sum();
    assert_eq!(data["totals"]["pss_kb"].as_u64(), Some(sum));
    let kinds = data["by_kind"].as_array().expect("kinds");
    let by_kind: u64 = kinds.iter().filter_map(|row| row["rss_kb"].as_u64()).sum();
    assert_eq!(data["totals"]["rss_kb"].as_u64(), Some(by_kind));
}

fn refused(args: &[&str]) -> String {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {errors}");
    assert!(output.stdout.is_empty(), "{args:?}");
    for word in ["error: ", "hint: "] {
        let lines = errors.lines().filter(|line| line.starts_with(word));
        assert_eq!(lines.count(), 1, "{args:?}: {errors}");
    }
    errors
}

#[test]
fn what_cannot_be_read_is_one_error() {
    let none = refused(&["inspect", "memory", "--pid", "4194304"]);
    assert!(none.contains("no such process"), "{none}");
    refused(&["inspect", "memory", "--comm", "no-such-name"]);
    assert_eq!(run(&["inspect", "memory"]).status.code(), Some(2));
    assert_eq!(
        run(&["inspect", "memory", "--pid", "x"]).status.code(),
        Some(2)
    );
    // A zombie of our own: it has ended and nobody waited for it.
    let mut child = Command::new("true").spawn().expect("true");
    until("a zombie", || state(child.id()) == Some('Z'));
    let zombie = refused(&["inspect", "memory", "--pid", &child.id().to_string()]);
    let _ = child.wait();
    assert!(zombie.contains("zombie"), "{zombie}");
    // In a container there may be no kernel thread to see.
    let comm = fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if comm.trim() == "kthreadd" {
        let thread = refused(&["inspect", "memory", "--pid", "2"]);
        assert!(thread.contains("kernel thread"), "{thread}");
    }
    // One of two: the other is reported, the failure counted.
    let own = std::process::id();
    let output = run(&[
        "inspect",
        "memory",
        "--pid",
        &format!("{own},4194304"),
        "-o",
        "json",
    ]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("4194304"));
    let report = json(&String::from_utf8(output.stdout).expect("UTF-8"));
    assert_eq!(report["accounting"]["complete"], false);
    assert_eq!(report["accounting"]["skipped_processes"]["vanished"], 1);
    assert_eq!(report["data"]["failed"][0]["reason"], "gone");
}

/// A tree as of Linux 3.10: smaps with fewer keys, no smaps_rollup, no oom_score_adj of its own.
#[test]
fn a_captured_tree_of_an_old_kernel() {
    let place = Scratch::new();
    let dir = place.0.join("proc/7");
    fs::create_dir_all(&dir).expect("a tree");
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).expect("a file");
    write(
        "stat",
        "7 (old) S 1 7 7 0 -1 4202496 1 0 0 0 1 1 0 0 20 0 1 0 100 4096000 10 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n",
    );
    write(
        "status",
        "Name:\told\nState:\tS (sleeping)\nPid:\t7\nUid:\t0\t0\t0\t0\nVmSize:\t4000 kB\nVmRSS:\t40 kB\nThreads:\t1\n",
    );
    write(
        "smaps",
        "00400000-00401000 r-xp 00000000 fd:00 12  /usr/bin/old\nSize: 4 kB\nRss: 4 kB\nPss: 4 kB\nShared_Clean: 0 kB\nShared_Dirty: 0 kB\nPrivate_Clean: 4 kB\nPrivate_Dirty: 0 kB\nSwap: 0 kB\n",
    );
    fs::write(place.0.join("proc/meminfo"), "MemTotal: 1000 kB\n").expect("a file");
    let root = place.0.to_str().expect("UTF-8");
    let report = json(&stdout(&[
        "--root", root, "inspect", "memory", "--pid", "7", "-o", "json",
    ]));
    let data = &report["data"];
    assert_eq!(data["totals"]["rss_kb"], 4);
    assert!(data["rollup"].is_null() && data["totals_equal_rollup"].is_null());
    assert!(data["mappings"][0]["vm_flags"].is_null());
    assert!(data["mappings"][0]["lazy_free_kb"].is_null());
    // Where smaps is missing, only the mappings are known.
    fs::rename(dir.join("smaps"), dir.join("maps")).expect("renamed");
    fs::write(
        dir.join("maps"),
        "00400000-00401000 r-xp 00000000 fd:00 12  /usr/bin/old\n",
    )
    .expect("maps");
    let output = run(&[
        "--root", root, "inspect", "memory", "--pid", "7", "-o", "json",
    ]);
    if output.status.success() {
        let report = json(&String::from_utf8(output.stdout).expect("UTF-8"));
        assert_eq!(report["data"]["maps_only"], true);
        assert!(report["data"]["totals"]["rss_kb"].is_null());
        assert_eq!(report["accounting"]["complete"], false);
    }
}

#[test]
fn watching_ends_with_the_process_or_a_signal() {
    let Some(target) = Target::program("sleep", &["600"]) else {
        println!("SKIPPED: there is no sleep");
        return;
    };
    for signal in [true, false] {
        let pid = target.pid().to_string();
        let args = [
            "inspect", "memory", "--pid", &pid, "--watch", "100ms", "-o", "jsonl",
        ];
        let mut watcher = aiops(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(watcher.stdout.take().expect("stdout")).lines();
        let mut next = || lines.next().map(|line| json(&line.expect("UTF-8")));
        let first = next().expect("a reading");
        assert_eq!(
            (&first["type"], &first["readings"]),
            (&"reading".into(), &1.into())
        );
        assert!(first["since_last"].is_null());
        let second = next().expect("a reading");
        assert_eq!(second["since_start"]["rss_kb"], 0);
        let ended = if signal {
            let pid = rustix::process::Pid::from_raw(i32::try_from(watcher.id()).expect("a pid"));
            rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::INT)
                .expect("it runs");
            false
        } else {
            target.signal(rustix::process::Signal::KILL);
            true
        };
        let mut last = second;
        while let Some(line) = next() {
            last = line;
        }
        assert!(watcher.wait().expect("it ends").success());
        assert_eq!(last["type"], "report");
        assert_eq!(last["data"]["watch"]["ended"], ended);
        assert!(
            last["data"]["mappings"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
        );
    }
}
