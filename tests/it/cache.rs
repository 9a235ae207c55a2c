//! `analyze cache` and `inspect cache` against the kernel's own files and files of our own making.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;

use rustix::fs::Advice;
use serde_json::Value;

use crate::support::Scratch;
use crate::support::field;
use crate::support::json;
use crate::support::no_swap;
use crate::support::settle;
use crate::support::stdout;
use crate::support::want;

const MIB: u64 = 1 << 20;

fn report(args: &[&str]) -> Value {
    json(&stdout(&[args, &["-q", "-o", "json"]].concat()))
}

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: needs root");
    }
    root
}

/// Residency of one file of ours.
fn residency(path: &str) -> Value {
    let report = report(&["inspect", "cache", "--interval", "0", "--path", path]);
    let files = report["data"]["files"].as_array().expect("files");
    assert_eq!(files.len(), 1, "{path}: {report:#}");
    files[0].clone()
}

#[test]
fn figures_equal_the_kernels() {
    let _no_swap = no_swap();
    // Other programs run meanwhile: within 1% and 4 MiB of what the kernel says before and after.
    let report = settle("/proc/meminfo", || {
        let kernel = |key| field("/proc/meminfo", key).unwrap_or_else(|| panic!("{key}"));
        let figures = [
            ("cached_kb", "Cached"),
            ("active_file_kb", "Active(file)"),
            ("inactive_file_kb", "Inactive(file)"),
            ("shmem_kb", "Shmem"),
            ("buffers_kb", "Buffers"),
        ];
        let before = figures.map(|(_, name)| kernel(name));
        let report = report(&["inspect", "cache", "--interval", "0"]);
        for ((key, name), before) in figures.into_iter().zip(before) {
            let ours = report["data"]["page_cache"][key].as_u64().expect(key);
            let after = kernel(name);
            let off = 4096.max(before / 100);
            let (low, high) = (before.min(after), before.max(after));
            want!(
                ours + off >= low && ours <= high + off,
                "{key}: {ours}, the kernel {before} and {after}"
            );
        }
        Ok(report)
    });
    let data = &report["data"];
    assert_eq!(data["hit_ratio"], Value::Null);
    assert!(data["hit_ratio_note"].is_string());
    assert_eq!(data["rates"]["refault_file_per_s"], Value::Null);
    let zones = data["fragmentation"]["zones"].as_array().expect("zones");
    for zone in zones {
        let index = zone["unusable_index_order_3"].as_f64().expect("an index");
        assert!((0.0..=1.0).contains(&index), "{zone}");
    }
}

#[test]
fn slab_caches_equal_slabinfo() {
    if !root() {
        return;
    }
    let _no_swap = no_swap();
    settle("/proc/slabinfo", || {
        let report = report(&["inspect", "cache", "--interval", "0"]);
        let text = fs::read_to_string("/proc/slabinfo").expect("slabinfo");
        let theirs: HashMap<&str, Vec<u64>> = text
            .lines()
            .skip(2)
            .filter_map(|line| {
                let (head, tail) = line.split_once(" : tunables ")?;
                let slabs = tail.split_whitespace().rev().nth(1)?.parse().ok()?;
                let mut words = head.split_whitespace();
                let name = words.next()?;
                let mut figures: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
                figures.push(slabs);
                Some((name, figures))
            })
            .collect();
        let ours = report["data"]["slab"].as_array().expect("slab");
        want!(
            ours.len() == theirs.len(),
            "{} {}",
            ours.len(),
            theirs.len()
        );
        for name in ["dentry", "task_struct", "radix_tree_node"] {
            let (row, figures) = (
                ours.iter().find(|row| row["name"] == name).expect(name),
                &theirs[name],
            );
            assert_eq!(row["object_bytes"], figures[2], "{name}");
            let size = figures[5] * figures[4] * rustix::param::page_size() as u64 / 1024;
            let off = row["size_kb"].as_u64().expect("size").abs_diff(size);
            want!(off <= 1024.max(size / 20), "{name}: {row} against {size}");
        }
        let sizes: Vec<_> = ours.iter().map(|row| row["size_kb"].as_u64()).collect();
        assert!(sizes.is_sorted_by(|a, b| a >= b), "largest first");
        Ok(())
    });
}

/// A folder on a disk: a tmpfs keeps all that is written to it, whatever it is told.
fn on_disk() -> Option<Scratch> {
    let tmpfs = 0x0102_1994;
    for base in [std::env::temp_dir(), "/var/tmp".into()] {
        let kind = rustix::fs::statfs(&base).map(|stat| stat.f_type);
        if kind.is_ok_and(|kind| kind != tmpfs)
            && let Ok(scratch) = Scratch::at(&base, "it")
        {
            return Some(scratch);
        }
    }
    println!("SKIPPED: all folders for temporary files are in memory");
    None
}

#[test]
fn half_of_a_file_is_half_of_a_file() {
    let _no_swap = no_swap();
    let Some(scratch) = on_disk() else { return };
    let path = scratch.path("half");
    // The kernel writes back and drops when it wants to: each attempt is a file of its own.
    settle("half of a file", || half(&path));
}

fn half(path: &str) -> Result<(), String> {
    let mut file = File::create(path).expect("a file");
    file.write_all(&vec![7; 64 << 20]).expect("written");
    let written = residency(path);
    want!(written["resident_bytes"] == 64 * MIB, "written: {written}");
    // Unknown on kernels without cachestat (2).
    want!(
        written["dirty_bytes"].is_null() || written["dirty_bytes"].as_u64() > Some(0),
        "not yet written back: {written}"
    );
    file.sync_all().expect("synced");
    drop(file);
    let mut file = File::open(path).expect("the file");
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).expect("dropped");
    let none = residency(path);
    // What a per-CPU batch of the kernel still holds stays.
    want!(none["resident_bytes"].as_u64() < Some(2 * MIB), "{none}");
    rustix::fs::fadvise(&file, 0, None, Advice::Random).expect("no readahead");
    let mut half = vec![0; 32 << 20];
    file.read_exact(&mut half).expect("read");
    let now = residency(path);
    let share = now["resident_share"].as_f64().expect("a share");
    want!((0.48..0.56).contains(&share), "{now}");
    assert_eq!(now["size_bytes"], 64 * MIB);
    // Looking changes nothing.
    let again = residency(path);
    want!(
        now["resident_bytes"] == again["resident_bytes"],
        "{now} {again}"
    );
    let holders = again["holders"].as_array().expect("holders");
    assert!(
        holders.iter().any(|one| one["pid"] == std::process::id()),
        "{again}"
    );
    Ok(())
}

#[test]
fn a_sparse_file_holds_nothing() {
    let scratch = Scratch::new();
    let path = scratch.path("sparse");
    let file = File::create(&path).expect("a file");
    file.set_len(1 << 30).expect("long");
    let found = residency(&path);
    assert_eq!(
        (&found["size_bytes"], &found["resident_bytes"]),
        (&Value::from(1u64 << 30), &Value::from(0))
    );
}

#[test]
fn a_deleted_file_is_found_at_who_holds_it() {
    let scratch = Scratch::new();
    let path = scratch.path("gone");
    let mut file = File::create(&path).expect("a file");
    file.write_all(&vec![7; 16 << 20]).expect("written");
    fs::remove_file(&path).expect("removed");
    let args = [
        "inspect",
        "cache",
        "--detail",
        "--interval",
        "0",
        "--limit",
        "60s",
    ];
    let report = report(&args);
    let files = report["data"]["files"].as_array().expect("files");
    let found = files.iter().find(|file| file["path"] == path.as_str());
    let found = found.unwrap_or_else(|| panic!("{path} is not there"));
    assert_eq!(found["deleted"], true);
    // Under pressure the kernel may have taken back some of it, once it was written.
    assert!(
        found["resident_bytes"].as_u64() <= Some(16 * MIB),
        "{found}"
    );
    assert_eq!(found["size_bytes"], 16 * MIB);
    assert_eq!(found["holders"][0]["pid"], std::process::id());
    drop(file);
}

#[test]
fn folders_hold_files_links_and_fifos() {
    let scratch = Scratch::new();
    for number in 0..10_000 {
        fs::write(scratch.path(&format!("{number}")), "x").expect("a file");
    }
    fs::hard_link(scratch.path("1"), scratch.path("one")).expect("a name");
    std::os::unix::fs::symlink("/", scratch.path("out")).expect("a link");
    let fifo = scratch.path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo").success());
    let folder = scratch.0.to_str().expect("UTF-8");
    let args = |limit| {
        let fixed = ["inspect", "cache", "--interval", "0", "--path", folder];
        report(&[&fixed[..], &["--limit", limit]].concat())
    };
    let whole = args("100s");
    let account = &whole["data"]["files_accounting"];
    assert_eq!(account["found"], 10_000);
    assert_eq!(account["looked"], 10_000);
    assert_eq!(
        (&account["symlinks"], &account["not_regular"]),
        (&Value::from(1), &Value::from(1))
    );
    assert_eq!(account["complete"], true);
    // No time at all: nothing is looked at, and that is said.
    let none = args("0");
    let account = &none["data"]["files_accounting"];
    assert_eq!(account["looked"], 0);
    assert_eq!(account["not_listed"], 1, "{account}");
    assert_eq!(none["accounting"]["complete"], false);
}

#[test]
fn both_languages_begin_with_the_answer() {
    let args = ["analyze", "cache", "--efficiency", "--interval", "200ms"];
    let english = stdout(&args);
    assert!(english.contains("Part by part"), "{english}");
    let chinese = stdout(&[&args[..], &["--lang", "zh"]].concat());
    assert!(chinese.contains("缓存效率分析") && chinese.contains("分项评估"));
    let short = stdout(&["analyze", "cache", "--interval", "0"]);
    assert!(!short.contains("Part by part"), "{short}");
    let rates = report(&args);
    let seconds = rates["data"]["rates"]["interval_s"].as_f64();
    assert!(seconds > Some(0.1), "{seconds:?}");
    assert!(rates["data"]["rates"]["faults_per_s"].is_number());
}
