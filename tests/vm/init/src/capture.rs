//! Captured trees: what the /proc plane of aiops reads, as it is at this moment, for `--root DIR`.
//!
//! `xtask/src/capture.rs` uses this same file on the running kernel; process 1 of a virtual machine sends
//! its tree as one frame. Who the machine is does not belong into a tree: its name, its boot id, its users
//! and its mounts are left out.

use std::fs;
use std::path::Path;

/// Files of the whole system.
const SYSTEM: &[&str] = &[
    "proc/meminfo",
    "proc/vmstat",
    "proc/zoneinfo",
    "proc/buddyinfo",
    "proc/pagetypeinfo",
    "proc/slabinfo",
    "proc/swaps",
    "proc/pressure/memory",
    "proc/pressure/io",
    "proc/pressure/cpu",
    "proc/loadavg",
    "proc/stat",
    "proc/diskstats",
    "proc/net/dev",
    "proc/uptime",
    "proc/cgroups",
    "proc/sysvipc/shm",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/numa_balancing",
    "sys/kernel/mm/transparent_hugepage/enabled",
    "sys/kernel/mm/transparent_hugepage/defrag",
    "sys/kernel/mm/transparent_hugepage/shmem_enabled",
    "sys/kernel/mm/ksm/run",
    "sys/kernel/mm/lru_gen/enabled",
    "sys/module/zswap/parameters/enabled",
    "sys/module/zswap/parameters/compressor",
    "sys/module/zswap/parameters/max_pool_percent",
];

/// Settings below proc/sys/vm.
const SETTINGS: &[&str] = &[
    "swappiness",
    "vfs_cache_pressure",
    "dirty_ratio",
    "dirty_bytes",
    "dirty_background_ratio",
    "dirty_background_bytes",
    "dirty_expire_centisecs",
    "dirty_writeback_centisecs",
    "min_free_kbytes",
    "watermark_scale_factor",
    "overcommit_memory",
    "overcommit_ratio",
    "overcommit_kbytes",
    "zone_reclaim_mode",
    "max_map_count",
    "extfrag_threshold",
    "nr_hugepages",
    "panic_on_oom",
];

/// Files of one process.
const PROCESS: &[&str] = &[
    "stat",
    "statm",
    "status",
    "smaps_rollup",
    "smaps",
    "maps",
    "io",
    "oom_score",
    "oom_score_adj",
    "cgroup",
    "numa_maps",
    "cmdline",
    "comm",
];

/// A file, or where a link points.
pub(crate) enum Entry {
    /// Its content.
    File(Vec<u8>),
    /// Its target.
    Link(Vec<u8>),
}

/// A tree: paths from its root, and what is there.
pub(crate) type Tree = Vec<(String, Entry)>;

/// Takes the system, these processes, and these memory cgroups (`/name`).
pub(crate) fn take(pids: &[u32], cgroups: &[&str]) -> Tree {
    let mut tree = Tree::new();
    // Processes first: they are what changes.
    for pid in pids {
        for name in PROCESS {
            copy(&mut tree, &format!("proc/{pid}/{name}"));
        }
        let exe = format!("proc/{pid}/exe");
        if let Ok(target) = fs::read_link(format!("/{exe}")) {
            let target = target.to_string_lossy().into_owned().into_bytes();
            tree.push((exe, Entry::Link(target)));
        }
    }
    for name in SYSTEM {
        copy(&mut tree, name);
    }
    for name in SETTINGS {
        copy(&mut tree, &format!("proc/sys/vm/{name}"));
    }
    nodes(&mut tree);
    disks(&mut tree);
    memory_cgroups(&mut tree, cgroups);
    masked(&mut tree);
    tree
}

/// Names of a folder's entries, in order.
fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// What cannot be read is not in the tree, as it is not on the machine.
fn copy(tree: &mut Tree, name: &str) {
    if let Ok(bytes) = fs::read(format!("/{name}")) {
        tree.push((name.to_owned(), Entry::File(bytes)));
    }
}

fn nodes(tree: &mut Tree) {
    let folder = "sys/devices/system/node";
    for node in names(&format!("/{folder}")) {
        if node
            .strip_prefix("node")
            .is_some_and(|id| id.parse::<u32>().is_ok())
        {
            for name in ["meminfo", "numastat", "cpulist", "distance"] {
                copy(tree, &format!("{folder}/{node}/{name}"));
            }
        }
    }
}

fn disks(tree: &mut Tree) {
    for disk in names("/sys/block") {
        let own: &[&str] = match disk.starts_with("zram") {
            true => &["disksize", "mm_stat", "bd_stat", "comp_algorithm"],
            // Seven empty ones say as much as none.
            false if disk.starts_with("loop") || disk.starts_with("ram") => continue,
            false => &[],
        };
        for name in own {
            copy(tree, &format!("sys/block/{disk}/{name}"));
        }
        copy(tree, &format!("sys/block/{disk}/queue/rotational"));
        copy(tree, &format!("sys/class/block/{disk}/queue/rotational"));
    }
}

/// The memory controller's hierarchy: its root, and the cgroups of our own.
fn memory_cgroups(tree: &mut Tree, cgroups: &[&str]) {
    let v1 = "sys/fs/cgroup/memory";
    let base = match Path::new("/sys/fs/cgroup/memory/memory.usage_in_bytes").exists() {
        true => v1,
        false => "sys/fs/cgroup",
    };
    copy(tree, &format!("{base}/cgroup.controllers"));
    for group in std::iter::once("").chain(cgroups.iter().copied()) {
        for name in names(&format!("/{base}{group}")) {
            // memory.reclaim and others can only be written; reading pressure_level fails.
            let is_figure = name.starts_with("memory.") && !name.contains("numa");
            if is_figure && name != "memory.force_empty" {
                copy(tree, &format!("{base}{group}/{name}"));
            }
        }
    }
}

/// What a tree says instead of who the machine is.
fn masked(tree: &mut Tree) {
    let mut say = |name: &str, text: String| {
        tree.push((name.to_owned(), Entry::File(text.into_bytes())));
    };
    say("proc/sys/kernel/hostname", "captured\n".to_owned());
    say(
        "proc/sys/kernel/random/boot_id",
        "00000000-0000-4000-8000-000000000000\n".to_owned(),
    );
    say(
        "etc/passwd",
        "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".to_owned(),
    );
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let public = |line: &&str| {
        let place = line.split(' ').nth(4).unwrap_or_default();
        let usual = ["/proc", "/sys", "/dev", "/dev/shm"].contains(&place);
        usual || place.starts_with("/sys/fs/cgroup")
    };
    let mut lines: Vec<&str> = table.lines().filter(public).collect();
    lines.dedup_by_key(|line| line.split(' ').nth(2).unwrap_or_default().to_owned());
    say("proc/self/mountinfo", lines.join("\n") + "\n");
}

/// A tree as bytes: `file NAME LENGTH\n` or `link NAME LENGTH\n`, the content, a line feed.
pub(crate) fn pack(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, entry) in tree {
        let (kind, content) = match entry {
            Entry::File(content) => ("file", content),
            Entry::Link(content) => ("link", content),
        };
        bytes.extend_from_slice(format!("{kind} {name} {}\n", content.len()).as_bytes());
        bytes.extend_from_slice(content);
        bytes.push(b'\n');
    }
    bytes
}
