//! Captured trees (`tests/data/proc`) through every command that reads /proc: what a kernel does not tell
//! is `null`, what it tells is exact, and a tree made of rubbish is no reason to fail.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::Scratch;
use crate::support::aiops;
use crate::support::json;

/// A command, and what its JSON `data` must hold of a tree.
struct Command {
    words: &'static str,
    check: fn(&Tree, &Value),
}

/// Every command of the /proc plane that reads one moment.
const COMMANDS: &[Command] = &[
    Command {
        words: "collect memory --duration 0",
        check: collect,
    },
    Command {
        words: "inspect processes",
        check: processes,
    },
    Command {
        words: "inspect memory --maps --pid SUBJECT",
        check: memory,
    },
    Command {
        words: "inspect cache",
        check: cache,
    },
    Command {
        words: "analyze swap --processes",
        check: swap,
    },
    Command {
        words: "analyze cache",
        check: cache,
    },
    Command {
        words: "health memory",
        check: health,
    },
];

/// Keys of the system that a 3.10 kernel does not tell.
const NULL_SINCE_3_10: &[&str] = &[
    "mem_available_kb",
    "kreclaimable_kb",
    "percpu_kb",
    "shmem_huge_pages_kb",
    "file_huge_pages_kb",
    "hugetlb_kb",
    "zswap_kb",
    "zswapped_kb",
    "oom_kill",
    "workingset_refault",
    "workingset_refault_file",
    "psi_some_avg10",
    "psi_full_avg10",
    "psi_io_some_avg10",
    "psi_cpu_some_avg10",
];

/// Keys of a process that it does not tell either.
const PROCESS_NULL_SINCE_3_10: &[&str] = &["pss_kb", "uss_kb", "anon_kb"];

/// A captured tree.
struct Tree {
    name: String,
    root: PathBuf,
}

impl Tree {
    fn old(&self) -> bool {
        self.name.contains("3.10")
    }

    fn text(&self, file: &str) -> String {
        let bytes = fs::read(self.root.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// `KEY: N kB` of a file.
    fn kb(&self, file: &str, key: &str) -> Option<u64> {
        let text = self.text(file);
        let mut lines = text.lines();
        let rest = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        rest.split_whitespace().next()?.parse().ok()
    }

    /// Sum over all mappings of a process.
    fn smaps(&self, pid: u64, key: &str) -> u64 {
        let text = self.text(&format!("proc/{pid}/smaps"));
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(key)?.strip_prefix(':')?;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        });
        values.sum()
    }

    /// Processes with memory, by pid: name.
    fn processes(&self) -> BTreeMap<u64, String> {
        let entries = fs::read_dir(self.root.join("proc")).expect("a tree");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| self.kb(&format!("proc/{pid}/status"), "VmRSS").is_some())
            .map(|pid: u64| {
                (
                    pid,
                    self.text(&format!("proc/{pid}/comm")).trim().to_owned(),
                )
            })
            .collect()
    }

    /// Resident pages by `stat`.
    fn resident_pages(&self, pid: u64) -> Option<u64> {
        let stat = self.text(&format!("proc/{pid}/stat"));
        let fields = stat.rsplit(") ").next()?;
        fields.split(' ').nth(21)?.parse().ok()
    }

    fn subject(&self) -> u64 {
        let mut found = self.processes().into_iter();
        let found = found.find(|(_, name)| name == "subject");
        found.expect("every tree has a subject").0
    }
}

/// The trees there must be, and no others.
const TREES: [&str; 4] = ["linux-3.10-shaped", "linux-6.1", "linux-6.12", "linux-6.18"];

fn trees() -> Vec<Tree> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/proc");
    TREES
        .iter()
        .map(|name| {
            let root = folder.join(name);
            assert!(root.join("proc/meminfo").is_file(), "no tree {name}");
            let name = (*name).to_owned();
            Tree { name, root }
        })
        .collect()
}

/// Runs a command on a tree; its standard output.
fn on(root: &Path, words: &str, more: &[&str]) -> String {
    let output = aiops(&["--root"])
        .arg(root)
        .args(words.split(' '))
        .args(more)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{words} {more:?} on {}: {said}",
        root.display()
    );
    assert!(!said.contains("panicked"), "{words}: {said}");
    String::from_utf8(output.stdout).expect("stdout is UTF-8")
}

fn each_tree(words: &str, check: fn(&Tree, &Value)) {
    for tree in trees() {
        let words = words.replace("SUBJECT", &tree.subject().to_string());
        let report = json(&on(&tree.root, &words, &["-o", "json"]));
        eprintln_on_panic(&tree.name, &words);
        assert_eq!(report["host"]["hostname"], "captured");
        no_rates(&report["data"]);
        check(&tree, &report["data"]);
        for lang in ["zh", "en"] {
            let text = on(&tree.root, &words, &["--lang", lang]);
            assert!(text.lines().count() > 2, "{words} in {lang}: {text}");
            assert!(
                !text.contains('\u{1b}'),
                "{words}: colours without a terminal"
            );
        }
    }
}

/// Which tree an assertion is about: captured by the test harness, shown when it fails.
fn eprintln_on_panic(tree: &str, words: &str) {
    println!("{tree}: {words}");
}

/// One moment has no rates: they are unknown, not 0.
fn no_rates(value: &Value) {
    match value {
        Value::Object(keys) => {
            for (key, value) in keys {
                assert!(
                    !key.ends_with("_per_s") || value.is_null(),
                    "{key} is {value}"
                );
                no_rates(value);
            }
        }
        Value::Array(rows) => rows.iter().for_each(no_rates),
        _ => {}
    }
}

fn rows<'a>(data: &'a Value, key: &str) -> &'a Vec<Value> {
    data[key]
        .as_array()
        .unwrap_or_else(|| panic!("no {key}: {data}"))
}

/// Every process with memory is a row, with the figures of its files.
fn process_rows(tree: &Tree, data: &Value) {
    let rows = rows(data, "processes");
    let wanted = tree.processes();
    assert_eq!(rows.len(), wanted.len(), "{rows:?}");
    for (pid, name) in wanted {
        let row = rows.iter().find(|row| row["pid"].as_u64() == Some(pid));
        let row = row.unwrap_or_else(|| panic!("no row of {pid}"));
        let status = format!("proc/{pid}/status");
        assert_eq!(row["comm"], name.as_str());
        let pages = tree.resident_pages(pid);
        let rss = row["rss_kb"].as_u64();
        assert!(
            rss == tree.kb(&status, "VmRSS") || rss == pages.map(|pages| pages * 4),
            "rss_kb of {pid} is {rss:?}"
        );
        assert_eq!(
            row["swap_kb"].as_u64(),
            tree.kb(&status, "VmSwap"),
            "swap_kb of {pid}"
        );
        if tree.old() {
            for key in PROCESS_NULL_SINCE_3_10 {
                assert!(row[key].is_null(), "{key} of {pid} is {}", row[key]);
            }
        }
    }
}

fn collect(tree: &Tree, data: &Value) {
    let system = &data["system"];
    for (key, source) in [
        ("mem_total_kb", "MemTotal"),
        ("mem_free_kb", "MemFree"),
        ("mem_available_kb", "MemAvailable"),
        ("swap_total_kb", "SwapTotal"),
        ("slab_kb", "Slab"),
        ("shmem_kb", "Shmem"),
        ("percpu_kb", "Percpu"),
    ] {
        let wanted = tree.kb("proc/meminfo", source);
        assert_eq!(system[key].as_u64(), wanted, "{key}");
    }
    if tree.old() {
        for key in NULL_SINCE_3_10 {
            assert!(system[key].is_null(), "{key} is {}", system[key]);
        }
    }
    process_rows(tree, data);
}

fn processes(tree: &Tree, data: &Value) {
    process_rows(tree, data);
}

fn memory(tree: &Tree, data: &Value) {
    let pid = tree.subject();
    for (key, source) in [("rss_kb", "Rss"), ("pss_kb", "Pss"), ("swap_kb", "Swap")] {
        let found = data["totals"][key].as_u64();
        let sum = tree.smaps(pid, source);
        // smaps rounds each mapping down, smaps_rollup the sum.
        let whole = tree.kb(&format!("proc/{pid}/smaps_rollup"), source);
        assert!(
            found == Some(sum) || found == whole,
            "{key} is {found:?}, not {sum}"
        );
    }
    let text = tree.text(&format!("proc/{pid}/smaps"));
    let headings = text
        .lines()
        .filter(|line| line.contains(':') && !line.ends_with("kB"));
    let headings = headings.filter(|line| {
        line.split(' ')
            .next()
            .is_some_and(|word| word.contains('-'))
    });
    let mappings = rows(data, "mappings");
    assert_eq!(mappings.len(), headings.count());
    assert!(!rows(data, "by_kind").is_empty());
    let named = |path: &str| {
        mappings.iter().any(|row| {
            row["path"]
                .as_str()
                .is_some_and(|found| found.contains(path))
        })
    };
    for path in ["/SYSV", "/memfd:subject", "subject-gone"] {
        assert!(named(path), "no mapping of {path}");
    }
    if tree.old() {
        assert!(!named("[anon:"), "3.10 names no anonymous memory");
    }
}

/// Figures of a report that must be those of meminfo, null where it has none.
fn like_meminfo(tree: &Tree, found: &Value, figures: &[(&str, &str)]) {
    for (key, source) in figures {
        let wanted = tree.kb("proc/meminfo", source);
        assert!(found.get(key).is_some(), "no {key}: {found}");
        assert_eq!(found[key].as_u64(), wanted, "{key}");
    }
}

fn cache(tree: &Tree, data: &Value) {
    let figures = [
        ("mem_total_kb", "MemTotal"),
        ("mem_available_kb", "MemAvailable"),
        ("cached_kb", "Cached"),
        ("buffers_kb", "Buffers"),
        ("active_file_kb", "Active(file)"),
        ("inactive_file_kb", "Inactive(file)"),
        ("mapped_kb", "Mapped"),
        ("shmem_kb", "Shmem"),
        ("dirty_kb", "Dirty"),
        ("writeback_kb", "Writeback"),
        ("swap_cached_kb", "SwapCached"),
        ("unevictable_kb", "Unevictable"),
    ];
    like_meminfo(tree, &data["page_cache"], &figures);
    assert!(data["hit_ratio"].is_null());
    let text = tree.text("proc/slabinfo");
    let caches: Vec<Vec<&str>> = text
        .lines()
        .skip(2)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(caches.len() > 50, "{}", tree.name);
    let rows = rows(data, "slab");
    assert_eq!(rows.len(), caches.len());
    for words in caches {
        let row = rows.iter().find(|row| row["name"] == words[0]);
        let row = row.unwrap_or_else(|| panic!("no cache {}", words[0]));
        // name, active objects, objects, size, objects and pages of a slab … active slabs, slabs, 0
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let slabs = number(words.len() - 2);
        assert_eq!(row["active_objects"], number(1), "{row}");
        assert_eq!(row["objects"], number(2), "{row}");
        assert_eq!(row["object_bytes"], number(3), "{row}");
        assert_eq!(row["slabs"], slabs, "{row}");
        assert_eq!(row["size_kb"], slabs * number(5) * 4, "{row}");
    }
}

fn swap(tree: &Tree, data: &Value) {
    let totals = &data["totals"];
    let figures = [
        ("swap_total_kb", "SwapTotal"),
        ("swap_free_kb", "SwapFree"),
        ("swap_cached_kb", "SwapCached"),
        ("mem_total_kb", "MemTotal"),
        ("mem_available_kb", "MemAvailable"),
    ];
    like_meminfo(tree, totals, &figures);
    let kb = |key| tree.kb("proc/meminfo", key).expect(key);
    assert_eq!(totals["swap_used_kb"], kb("SwapTotal") - kb("SwapFree"));
    let devices = tree.text("proc/swaps").lines().count().saturating_sub(1);
    assert_eq!(rows(data, "devices").len(), devices);
    let (mut known, mut sum) = (0, 0);
    for (pid, name) in tree.processes() {
        let status = format!("proc/{pid}/status");
        let swap = tree.kb(&status, "VmSwap");
        known += u64::from(swap.is_some());
        sum += swap.unwrap_or(0);
        let all = rows(data, "processes");
        let row = all.iter().find(|row| row["pid"].as_u64() == Some(pid));
        let row = row.unwrap_or_else(|| panic!("no row of {pid}"));
        assert_eq!(row["comm"], name.as_str());
        assert_eq!(row["swap_kb"].as_u64(), swap, "{row}");
        let (rss, pages) = (row["rss_kb"].as_u64(), tree.resident_pages(pid));
        assert!(
            rss == tree.kb(&status, "VmRSS") || rss == pages.map(|pages| pages * 4),
            "{row}"
        );
    }
    assert_eq!(totals["processes_known"], known);
    assert_eq!(totals["processes_swap_kb"], sum);
}

fn health(tree: &Tree, data: &Value) {
    let score = data["score"].as_f64().expect("a score");
    assert!((0.0..=100.0).contains(&score), "{score}");
    assert!(data["level"].is_string());
    let factors = rows(data, "factors");
    assert_eq!(factors.len(), 5);
    // What a kernel does not tell takes no part.
    let missing = |id: &str| {
        let factor = factors.iter().find(|factor| factor["id"] == id);
        factor.unwrap_or_else(|| panic!("no factor {id}"))["score"].is_null()
    };
    let pressure = tree.root.join("proc/pressure/memory").exists();
    assert_eq!(missing("psi"), !pressure);
    assert!(!missing("usage") && !missing("fragmentation"));
    for (pid, _) in tree.processes() {
        let all = rows(data, "processes");
        let row = all.iter().find(|row| row["pid"].as_u64() == Some(pid));
        let row = row.unwrap_or_else(|| panic!("no row of {pid}"));
        let wanted = tree.kb(&format!("proc/{pid}/status"), "VmSwap");
        assert_eq!(row["swap_kb"].as_u64(), wanted, "{row}");
    }
}

macro_rules! each_command {
    ($($name:ident: $index:literal,)*) => {
        $(#[test]
        fn $name() {
            let Command { words, check } = &COMMANDS[$index];
            each_tree(words, *check);
        })*

        #[test]
        fn every_command_is_run() {
            assert_eq!([$($index),*].len(), COMMANDS.len());
        }
    };
}

each_command! {
    collect_memory_on_trees: 0,
    inspect_processes_on_trees: 1,
    inspect_memory_on_trees: 2,
    inspect_cache_on_trees: 3,
    analyze_swap_on_trees: 4,
    analyze_cache_on_trees: 5,
    health_memory_on_trees: 6,
}

#[test]
fn trees_of_four_kernels_are_small_and_anonymous() {
    let trees = trees();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/proc");
    for entry in fs::read_dir(folder).expect("captured trees") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_str().expect("UTF-8");
        assert!(
            name == "README.md" || TREES.contains(&name),
            "{name} is in no test"
        );
    }
    for tree in &trees {
        assert!(tree.processes().len() <= 8, "{}", tree.name);
        assert_eq!(tree.text("proc/sys/kernel/hostname"), "captured\n");
        assert!(tree.text("etc/passwd").lines().count() == 2);
        assert_eq!(
            tree.old(),
            tree.kb("proc/meminfo", "MemAvailable").is_none()
        );
    }
}

/// Copies a tree, links as links.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a tree") {
        let entry = entry.expect("an entry");
        let place = to.join(entry.file_name());
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            copy(&entry.path(), &place);
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path()).expect("a link");
            std::os::unix::fs::symlink(target, place).expect("a link");
        } else {
            fs::copy(entry.path(), place).expect("a copy");
        }
    }
}

/// A captured tree in which everything that can be wrong is: names, numbers, ends, kinds of files.
fn hostile(place: &Scratch) -> Tree {
    let trees = trees();
    let good = trees.iter().find(|tree| tree.name == "linux-6.18");
    let root = place.0.join("tree");
    copy(&good.expect("it is there").root, &root);
    let write = |name: &str, bytes: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    };
    let name = b"a\n) S 1\x1b[2J\xff";
    let mut stat = b"70001 (".to_vec();
    stat.extend_from_slice(name);
    stat.extend_from_slice(b") S 1 1 1 0 -1 4194304 ");
    stat.extend_from_slice("18446744073709551615 ".repeat(40).as_bytes());
    write("proc/70001/stat", &stat);
    write("proc/70001/status", b"Name:\ta\\n\x1b\nUid:\t99999999999\t0\t0\t0\nVmRSS:\t18446744073709551615 kB\nVmSwap:\t-1 kB\n");
    write("proc/70001/comm", name);
    write("proc/70001/cmdline", b"\x1b]0;owned\x07\0\xfe\xff\0\n\n\0");
    write("proc/70001/cgroup", b"4:memory:/../../etc\n0::/\x1b[31m\n");
    write("proc/70001/smaps", b"ffffffffffffffff-0 rwxp 99999999999999999999 00:00 0 \xff\nRss: 18446744073709551615 kB\nPss: x\n00");
    write("proc/70002/stat", b"70002 (cut) S 1");
    write("proc/70003/stat", b"");
    write("proc/70004/stat", &[0xff; 5000]);
    fs::create_dir_all(root.join("proc/70005/stat")).expect("a folder for a file");
    fs::create_dir_all(root.join("proc/4294967296")).expect("no pid");
    let gone = root.join("proc/vmstat");
    fs::remove_file(&gone).expect("it was there");
    fs::create_dir(&gone).expect("a folder for a file");
    write("proc/meminfo", b"MemTotal: 18446744073709551615 kB\nMemFree: 99999999999999999999999 kB\nMemAvailable: -5 kB\nSwapTotal: 1 kB\nSwapFree: 18446744073709551615 kB\nCached\nSlab: \xff kB\n:::\n");
    write("proc/slabinfo", b"slabinfo - version: 2.1\n# name\nx 18446744073709551615 0 0 0 0 : tunables\n\xff\xff 1 2 3\ndentry 1");
    write(
        "proc/swaps",
        b"Filename Type Size Used Priority\n/a\\040\\0\\999 file 18446744073709551615 1 -2\nx\n",
    );
    write(
        "proc/zoneinfo",
        b"Node 99999999999, zone X\nNode 0, zone\n pages free -1\n",
    );
    write(
        "proc/buddyinfo",
        b"Node 0, zone Normal 18446744073709551615 18446744073709551615 x\n",
    );
    write(
        "proc/pressure/memory",
        b"some avg10=999999999999999999999.99 avg60=x total=\nfull",
    );
    write(
        "proc/stat",
        b"cpu 18446744073709551615 18446744073709551615 x\ncpu0\n",
    );
    write("proc/uptime", b"1e400 nan\n");
    write("proc/self/mountinfo", b"rubbish\n1 2 3\n\xff\n");
    write("etc/passwd", b"::::\nroot\n\xff:x:0\n");
    write(
        "sys/devices/system/node/node0/meminfo",
        b"Node 0 MemTotal:\nNode x\n",
    );
    let hostile_name = root
        .join("sys/block")
        .join(OsStr::from_bytes(b"zram\xff\n"));
    fs::create_dir_all(hostile_name).expect("a name");
    Tree {
        name: "hostile".to_owned(),
        root,
    }
}

#[test]
fn a_hostile_tree_is_no_reason_to_fail() {
    let place = Scratch::new();
    let tree = hostile(&place);
    for command in COMMANDS {
        // Its subject is whole: one bad process does not spoil another's report.
        let words = command
            .words
            .replace("SUBJECT", &tree.subject().to_string());
        let report = json(&on(&tree.root, &words, &["-o", "json"]));
        assert!(report["data"].is_object(), "{words}");
        for lang in ["zh", "en"] {
            let text = on(&tree.root, &words, &["--lang", lang]);
            assert!(
                !text.contains('\u{1b}') && !text.contains('\u{7}'),
                "{words}: {text:?}"
            );
        }
    }
    let report = json(&on(
        &tree.root,
        "collect memory --duration 0",
        &["-o", "json"],
    ));
    let sane = tree.processes().len();
    assert!(rows(&report["data"], "processes").len() <= sane);
    assert!(report["data"]["system"]["mem_free_kb"].is_null());
}

#[test]
fn an_empty_tree_is_one_error_or_an_empty_report() {
    let place = Scratch::new();
    for command in COMMANDS {
        let words = command.words.replace("SUBJECT", "1");
        let output = aiops(&["--root"])
            .arg(&place.0)
            .args(words.split(' '))
            .output()
            .expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}: {said}");
        assert!(
            said.starts_with("error: ") && said.lines().count() <= 2,
            "{words}: {said}"
        );
    }
}
