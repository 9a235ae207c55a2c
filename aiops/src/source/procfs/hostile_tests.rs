//! A /proc that is damaged, hides things, or changes while it is read: never an error, everything counted.

use std::collections::HashSet;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use super::*;
use crate::model::Skipped;
use crate::source::plane::Plane;
use crate::source::plane::Rollup;
use crate::source::plane::Wants;

/// A tree of our own, removed at the end.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("aiops-hostile-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("proc")).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join("proc").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A process with this name and start.
    fn process(&self, pid: u32, comm: &[u8], state: char, start: u64) {
        let head = format!("{pid} (");
        let tail = format!(
            ") {state} 1 1 1 0 -1 4194304 9 0 1 0 5 6 0 0 20 0 1 0 {start} 8192000 300 18446744073709551615\n"
        );
        let stat = [head.as_bytes(), comm, tail.as_bytes()].concat();
        self.put(&format!("{pid}/stat"), stat);
        let status = "Name:\tx\nUid:\t7\t0\t0\t0\nVmSize:\t8000 kB\nVmRSS:\t1200 kB\nRssAnon:\t1000 kB\nRssFile:\t200 kB\nRssShmem:\t0 kB\nVmSwap:\t40 kB\nThreads:\t1\n";
        self.put(&format!("{pid}/status"), status);
        self.put(&format!("{pid}/oom_score_adj"), "-500\n");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_kind_of_damage_is_counted() {
    let tree = Tree::new("damage");
    let names: [&[u8]; 4] = [b"a b", b") (x", b"new\nline) S 9", b"\xff\xfe\x00"];
    for (pid, name) in (10..).zip(names) {
        tree.process(pid, name, 'S', 5);
    }
    // Gone while it was listed.
    std::fs::create_dir_all(tree.0.join("proc/20")).unwrap();
    tree.process(21, b"zombie", 'Z', 5);
    tree.put(
        "22/stat",
        "22 (kthread) S 2 0 0 0 -1 2097152 0 0 0 0 0 0 0 0 20 0 1 0 9 0 0 0\n",
    );
    tree.put("23/stat", "23 (cut) S 1");
    tree.put("24/stat", b"\x00\xff garbage");
    tree.put("25/stat", vec![b'('; 3 << 20]);
    // Ending: no memory any more, not yet a zombie.
    tree.put(
        "26/stat",
        "26 (ending) S 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 9 0 0 0\n",
    );
    tree.put(
        "26/status",
        "Name:\tending\nUid:\t7\t0\t0\t0\nThreads:\t1\n",
    );
    // Its status is garbage, its other files are missing: what stat tells is kept.
    tree.put(
        "27/stat",
        "27 (half) S 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 3 0 9 8192 1 0\n",
    );
    tree.put(
        "27/status",
        b"VmRSS\nVmRSS: \nVmSwap:\tmany kB\n\xff:\xff\n: 5\nUid:\t99999999999\n",
    );
    // Numbers that no u64 holds.
    tree.put(
        "28/stat",
        "28 (big) S 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 99999999999999999999999 8192 1 0\n",
    );
    // No process ids.
    for name in ["self", "+5", "5x", "99999999999"] {
        std::fs::create_dir_all(tree.0.join("proc").join(name)).unwrap();
    }
    let mut reader = ProcessReader::open(&tree.0).unwrap();
    let (samples, skipped) = reader.scan(Wanted::All);
    let found: Vec<&[u8]> = samples
        .iter()
        .map(|sample| sample.comm.as_bytes())
        .collect();
    assert_eq!(found, [&names[..], &[b"half"]].concat());
    assert_eq!(
        skipped,
        Skipped {
            vanished: 2,
            failed: 4,
            kernel_threads: 1,
            zombies: 1,
            ..Skipped::default()
        }
    );
    let (first, half) = (&samples[0], &samples[4]);
    assert_eq!(
        (first.uid, first.oom_score_adj, first.start_ticks),
        (Some(7), Some(-500), 5)
    );
    assert_eq!(
        (first.metrics.rss_kb, first.metrics.swap_kb),
        (Some(1200), Some(40))
    );
    assert_eq!(
        (first.metrics.oom_score, first.metrics.read_bytes),
        (None, None)
    );
    assert_eq!(
        (half.metrics.rss_kb, half.metrics.threads),
        (Some(4), Some(3))
    );
    assert_eq!(
        (half.metrics.anon_kb, half.metrics.swap_kb, half.uid),
        (None, None, None)
    );
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let tree = Tree::new("reuse");
    tree.process(30, b"first", 'S', 100);
    let rollup = "0-1 ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss: 800 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\n";
    tree.put("30/smaps_rollup", rollup);
    let mut reader = ProcessReader::open(&tree.0).unwrap();
    let (mut samples, _) = reader.scan(Wanted::Sizes);
    assert_eq!(reader.rollup(&mut samples[0]), Ok(()));
    assert_eq!(
        (samples[0].metrics.pss_kb, samples[0].metrics.uss_kb),
        (Some(800), Some(3))
    );
    let mut old = samples.remove(0);
    old.metrics.pss_kb = None;
    tree.process(30, b"second", 'S', 200);
    assert_eq!(
        reader.rollup(&mut old),
        Err(Failure::Vanished),
        "the second one's figures are not the first one's"
    );
    assert_eq!(old.metrics.pss_kb, None);
    // The plane tells who it is once each, and keeps no figures of the first for the second.
    tree.process(30, b"first", 'S', 100);
    let mut plane = Plane::open(&tree.0).unwrap();
    let all = Wants {
        rollup: Rollup::All,
        ..Wants::default()
    };
    let none = Wants {
        rollup: Rollup::Budget(0.0),
        ..Wants::default()
    };
    let sample = plane.sample(&all);
    assert_eq!(plane.identities(&sample.processes).len(), 1);
    tree.process(30, b"second", 'S', 200);
    let sample = plane.sample(&none);
    assert_eq!(sample.processes[0].metrics.pss_kb, None);
    let told = plane.identities(&sample.processes);
    assert_eq!((told.len(), told[0].start_ticks), (1, Some(200)));
    // A sample of the first, asked about when it is the second by now.
    let mut stale = sample.processes;
    stale[0].start_ticks = 100;
    assert!(plane.identities(&stale).is_empty());
}

#[test]
fn an_old_kernel_leaves_gaps() {
    // Shaped like 3.10: no MemAvailable, no RssAnon, no smaps_rollup, no PSI.
    let tree = Tree::new("old");
    tree.put(
        "meminfo",
        "MemTotal:  1000 kB\nMemFree:  400 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
    );
    tree.put(
        "vmstat",
        "pgscan_direct_dma 1\npgscan_direct_normal 2\npgscan_direct_throttle 9\n",
    );
    tree.put("stat", "cpu  1 2 3 4\nprocesses");
    tree.put("diskstats", "garbage\n");
    tree.put("swaps", "Filename Type Size Used Priority\n");
    tree.put(
        "40/stat",
        "40 (a) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 9 8192000 300 0\n",
    );
    tree.put(
        "40/status",
        "Uid:\t0\t0\t0\t0\nVmSize:\t8000 kB\nVmRSS:\t1200 kB\nVmSwap:\t0 kB\n",
    );
    tree.put("40/statm", "2000 300 50 1 0 100 0\n");
    tree.put(
        "40/smaps",
        "00400000-00401000 r-xp 00000000 08:01 7 /bin/a\nSize: 4 kB\nRss: 4 kB\nPss: 4 kB\n\
         zz-damaged r-xp\nRss: 99 kB\n\
         00601000-00602000 rw-p 00000000 00:00 0 \nRss: 8 kB\nSwap: 0 kB\nKernelPageSize: 4 kB\nVmFlags",
    );
    let mut plane = Plane::open(&tree.0).unwrap();
    let sample = plane.sample(&Wants {
        rollup: Rollup::All,
        cgroups: true,
        all: true,
        pids: None,
    });
    let system = sample.system.unwrap();
    assert_eq!(
        (system.mem_total_kb, system.mem_available_kb),
        (Some(1000), None)
    );
    assert_eq!(
        (system.pgscan_direct, system.pgsteal_direct),
        (Some(3), None)
    );
    assert_eq!(
        (system.psi_some_avg10, system.load1, system.forks),
        (None, None, None)
    );
    assert_eq!((system.disk_read_kb, system.net_rx_bytes), (None, None));
    let metrics = &sample.processes[0].metrics;
    assert_eq!(
        (metrics.anon_kb, metrics.shared_kb),
        (None, Some(50 * (metrics.rss_kb.unwrap() / 300)))
    );
    assert_eq!((metrics.pss_kb, metrics.rollup_age_ms), (None, None));
    let mappings = plane.mappings(40).unwrap();
    assert_eq!(mappings.mappings.len(), 2, "the damaged one is left out");
    let rss: Vec<_> = mappings
        .mappings
        .iter()
        .map(|one| one.metrics.rss_kb)
        .collect();
    assert_eq!(rss, [Some(4), Some(8)], "and its figures are nobody's");
    assert_eq!(mappings.mappings[0].metrics.swap_kb, None);
    assert!(mappings.rollup.is_none() && mappings.node_kb.is_none() && !mappings.maps_only);
    let detail = plane.detail(false);
    assert_eq!(detail.swaps, Some(Vec::new()));
    assert!(detail.slabs.is_none() && detail.zones.is_none() && detail.shm.is_none());
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let tree = Tree::new("line");
    tree.process(50, b"x", 'S', 1);
    tree.put("50/smaps", vec![b'7'; 40 << 20]);
    tree.put("50/numa_maps", vec![b'N'; 1 << 20]);
    let mappings = read_mappings(&tree.0, 50).unwrap();
    assert!(mappings.mappings.is_empty() && mappings.node_kb.is_none());
}

/// Set in the run as nobody.
const CHILD: &str = "AIOPS_TEST_NOBODY";

/// This program as a path that nobody may start, whatever folders it lies in: its open file.
fn own_program() -> String {
    use std::os::fd::AsRawFd as _;
    let exe = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let copy = rustix::io::fcntl_dupfd_cloexec(&exe, 100).unwrap();
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
    let number = copy.as_raw_fd();
    std::mem::forget(copy);
    format!("/proc/self/fd/{number}")
}

/// Starts this test once more as nobody. True: we are root, and it went well; or this is not root's run.
fn as_nobody(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return false;
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can become nobody");
        return true;
    }
    let output = Command::new(own_program())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("1 passed"), "{said}");
    true
}

#[test]
fn without_permission_sizes_are_known_and_the_rest_is_not() {
    if as_nobody(
        "source::procfs::hostile_tests::without_permission_sizes_are_known_and_the_rest_is_not",
    ) {
        return;
    }
    let mut plane = Plane::open(Path::new("/")).unwrap();
    let wants = Wants {
        rollup: Rollup::All,
        all: true,
        cgroups: true,
        pids: None,
    };
    let sample = plane.sample(&wants);
    let first = sample
        .processes
        .iter()
        .find(|process| process.pid == 1)
        .unwrap();
    assert!(first.metrics.rss_kb > Some(0) && first.metrics.anon_kb.is_some());
    assert_eq!((first.metrics.pss_kb, first.metrics.uss_kb), (None, None));
    assert_eq!(first.metrics.read_bytes, None);
    let own = sample
        .processes
        .iter()
        .find(|process| process.pid == std::process::id())
        .unwrap();
    // Since it became another user, its own files are root's until it runs a program of nobody's.
    assert!(own.metrics.rss_kb > Some(0));
    assert_eq!(sample.skipped.failed, 0);
    // Whose shares are unknown is counted, and not asked again at once.
    let first = (1, first.start_ticks);
    assert!(sample.skipped.denied_smaps > 0 && plane.refused(first));
    let again = plane.sample(&Wants {
        rollup: Rollup::Budget(0.0),
        ..wants.clone()
    });
    assert!(again.skipped.denied_smaps > 0 && plane.refused(first));
    let none = plane.sample(&Wants {
        rollup: Rollup::None,
        ..wants
    });
    assert_eq!(none.skipped.denied_smaps, 0, "nobody asked");
    let error = plane.mappings(1).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    let told = plane.identities(&sample.processes);
    let first = told.iter().find(|identity| identity.pid == 1).unwrap();
    assert!(first.exe.is_none() && !first.comm.is_empty());
    let detail = plane.detail(true);
    assert!(detail.slabs.is_none() && detail.page_types.is_none());
    let denied = |source: &str| {
        let mut unread = detail.unread.iter();
        unread.any(|one| one.source == source && one.reason == crate::model::UnreadReason::Denied)
    };
    assert!(
        denied("/proc/slabinfo") && denied("/proc/pagetypeinfo"),
        "{:?}",
        detail.unread
    );
}

#[test]
fn hidden_processes_are_missed() {
    if std::env::var_os(CHILD).is_some() {
        let mut plane = Plane::open(Path::new("/")).unwrap();
        let session = plane.session("test", crate::model::Filter::default());
        assert_eq!(session.unread, [crate::source::plane::HIDDEN]);
        assert_eq!(session.notes.len(), 1);
        let sample = plane.sample(&Wants::default());
        assert!(sample.processes.iter().all(|one| one.uid == Some(65_534)));
        assert_eq!((sample.processes.len(), sample.skipped.denied), (1, 0));
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can mount /proc");
        return;
    }
    let session = Plane::open(Path::new("/"))
        .unwrap()
        .session("test", crate::model::Filter::default());
    assert!(session.unread.is_empty(), "root sees everything");
    // Namespaces of its own: before 5.8 the option holds for every /proc of the same processes.
    let script = "mount -t proc -o hidepid=2 proc /proc || exit 77\nsleep 60 &\n\
        exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(own_program())
        .args([
            "--exact",
            "source::procfs::hostile_tests::hidden_processes_are_missed",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .current_dir("/")
        .output();
    let Ok(output) = output else {
        println!("SKIPPED: no unshare here");
        return;
    };
    if matches!(output.status.code(), Some(77 | 127)) {
        println!("SKIPPED: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}{errors}");
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let tree = Tree::new("fifo");
    tree.process(60, b"x", 'S', 5);
    let proc = tree.0.join("proc");
    for name in [
        "meminfo",
        "zoneinfo",
        "stat",
        "uptime",
        "swaps",
        "60/smaps",
        "60/cgroup",
    ] {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            proc.join(name),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
    }
    for name in ["vmstat", "slabinfo", "diskstats", "self/mountinfo"] {
        std::fs::create_dir_all(proc.join(name)).unwrap();
    }
    let huge = std::fs::File::create(proc.join("buddyinfo")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let mut plane = Plane::open(&tree.0).unwrap();
    let session = plane.session("test", crate::model::Filter::default());
    assert_eq!((session.host.mem_total_kb, session.host.cpus), (None, None));
    let sample = plane.sample(&Wants {
        rollup: Rollup::All,
        cgroups: true,
        all: true,
        pids: None,
    });
    assert_eq!(sample.processes.len(), 1);
    let detail = plane.detail(true);
    assert!(detail.zones.is_none() && detail.slabs.is_none() && detail.tmpfs.is_none());
    for source in ["/proc/zoneinfo", "/proc/buddyinfo", "/proc/slabinfo"] {
        let mut unread = detail.unread.iter();
        let found = unread.find(|one| one.source == source).unwrap();
        assert_eq!(
            found.reason,
            crate::model::UnreadReason::Malformed,
            "{source}"
        );
    }
}

#[test]
fn who_a_process_is_may_change() {
    let tree = Tree::new("change");
    tree.process(70, b"x", 'S', 5);
    tree.put("70/cgroup", "0::/before\n");
    tree.put("70/cmdline", "x\0");
    let mut plane = Plane::open(&tree.0).unwrap();
    let mut told = || {
        let sample = plane.sample(&Wants::default());
        plane.identities(&sample.processes)
    };
    assert_eq!(told().len(), 1);
    assert!((0..60).all(|_| told().is_empty()), "nothing has changed");
    tree.put("70/cgroup", "0::/after\n");
    let news: Vec<_> = (0..60).flat_map(|_| told()).collect();
    assert_eq!(news.len(), 1);
    let cgroup = news[0].cgroup.as_ref().unwrap();
    assert_eq!(cgroup.as_bytes(), b"/after");
    // Another user is seen in the sample itself.
    tree.put("70/status", "Uid:\t8\t0\t0\t0\nVmSize:\t8000 kB\n");
    assert_eq!(told()[0].uid, Some(8));
    // One that is ending tells less: that is no news.
    tree.put("70/cmdline", "");
    assert!((0..60).all(|_| told().is_empty()));
}

#[test]
fn processes_that_come_and_go_while_they_are_read() {
    // 2,000 processes, each a moment long, while samples are taken; none of them is an error.
    let churn = std::thread::spawn(|| {
        for _ in 0..500 {
            let children: Vec<_> = (0..4)
                .filter_map(|_| {
                    Command::new("true")
                        .stdin(Stdio::null())
                        .stdout(Stdio::null())
                        .spawn()
                        .ok()
                })
                .collect();
            for mut child in children {
                let _ = child.wait();
            }
        }
    });
    let mut plane = Plane::open(Path::new("/")).unwrap();
    let wants = Wants {
        rollup: Rollup::All,
        ..Wants::default()
    };
    let mut total = Skipped::default();
    let (mut samples, mut seen) = (0, HashSet::new());
    while !churn.is_finished() {
        let sample = plane.sample(&wants);
        samples += 1;
        let keys: HashSet<_> = sample
            .processes
            .iter()
            .map(|one| (one.pid, one.start_ticks))
            .collect();
        assert_eq!(keys.len(), sample.processes.len(), "no process twice");
        assert!(keys.iter().any(|(pid, _)| *pid == std::process::id()));
        for process in &sample.processes {
            assert!(process.metrics.rss_kb.is_some(), "{process:?}");
        }
        for identity in plane.identities(&sample.processes) {
            assert!(keys.contains(&(identity.pid, identity.start_ticks.unwrap())));
        }
        seen.extend(keys);
        total.vanished += sample.skipped.vanished;
        total.zombies += sample.skipped.zombies;
        total.failed += sample.skipped.failed;
    }
    churn.join().unwrap();
    println!(
        "{samples} samples, {} processes seen, {total:?}",
        seen.len()
    );
    assert_eq!(total.failed, 0);
}
