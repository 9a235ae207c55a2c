//! A tree as a 3.10 kernel (that of the RHEL 7 age, without its backports) would have shown it: what came
//! later is taken out, what was named otherwise is renamed. Shaped, not captured; the version in which each
//! thing appeared is from the kernel's history.

use super::tree::{Entry, Tree};

/// Keys of /proc/meminfo that came after 3.10.
const MEMINFO: &[&str] = &[
    "MemAvailable",    // 3.14
    "Zswap",           // 5.19
    "Zswapped",        // 5.19
    "KReclaimable",    // 4.20
    "ShadowCallStack", // 5.10
    "SecPageTables",   // 6.1
    "Percpu",          // 4.19
    "ShmemHugePages",  // 4.8
    "ShmemPmdMapped",  // 4.8
    "FileHugePages",   // 5.4
    "FilePmdMapped",   // 5.4
    "CmaTotal",        // 3.19
    "CmaFree",         // 3.19
    "Unaccepted",      // 6.5
    "Balloon",         // 6.12
    "GPUActive",       // 6.18
    "GPUReclaim",      // 6.18
    "Hugetlb",         // 4.16
];

/// Lines of /proc/PID/status that came after 3.10.
const STATUS: &[&str] = &[
    "Umask",                      // 4.7
    "Ngid",                       // 3.13
    "NStgid",                     // 4.1
    "NSpid",                      // 4.1
    "NSpgid",                     // 4.1
    "NSsid",                      // 4.1
    "Kthread",                    // 6.10
    "RssAnon",                    // 4.5
    "RssFile",                    // 4.5
    "RssShmem",                   // 4.5
    "VmPMD",                      // 4.0
    "HugetlbPages",               // 4.4
    "CoreDumping",                // 4.15
    "THP_enabled",                // 5.0
    "untag_mask",                 // 6.4
    "CapAmb",                     // 4.3
    "NoNewPrivs",                 // 4.10
    "Seccomp_filters",            // 5.9
    "Speculation_Store_Bypass",   // 4.17
    "SpeculationIndirectBranch",  // 5.16
    "x86_Thread_features",        // 6.4
    "x86_Thread_features_locked", // 6.4
];

/// Lines of smaps that came after 3.10.
const SMAPS: &[&str] = &[
    "Pss_Dirty",       // 6.0
    "LazyFree",        // 4.12
    "KSM",             // 6.8
    "ShmemPmdMapped",  // 4.8
    "FilePmdMapped",   // 5.4
    "Shared_Hugetlb",  // 4.4
    "Private_Hugetlb", // 4.4
    "SwapPss",         // 4.3
    "THPeligible",     // 5.0
    "ProtectionKey",   // 4.9
];

/// Figures of /proc/vmstat that a 3.10 kernel had under the same name.
const VMSTAT: &[&str] = &[
    "nr_free_pages",
    "nr_inactive_anon",
    "nr_active_anon",
    "nr_inactive_file",
    "nr_active_file",
    "nr_unevictable",
    "nr_mlock",
    "nr_anon_pages",
    "nr_mapped",
    "nr_file_pages",
    "nr_dirty",
    "nr_writeback",
    "nr_shmem",
    "nr_dirtied",
    "nr_written",
    "nr_vmscan_write",
    "nr_dirty_threshold",
    "nr_dirty_background_threshold",
    "numa_hit",
    "numa_miss",
    "numa_foreign",
    "numa_interleave",
    "numa_local",
    "numa_other",
    "pgpgin",
    "pgpgout",
    "pswpin",
    "pswpout",
    "pgfree",
    "pgactivate",
    "pgdeactivate",
    "pgfault",
    "pgmajfault",
    "pginodesteal",
    "slabs_scanned",
    "kswapd_inodesteal",
    "pageoutrun",
    "pgrotate",
    "compact_stall",
    "compact_fail",
    "compact_success",
    "thp_fault_alloc",
    "thp_fault_fallback",
];

/// Counters of 3.10 that have one line for each zone instead of one in all.
const PER_ZONE: &[(&str, &str)] = &[
    ("pgsteal_kswapd", "pgsteal_kswapd_normal"),
    ("pgsteal_direct", "pgsteal_direct_normal"),
    ("pgscan_kswapd", "pgscan_kswapd_normal"),
    ("pgscan_direct", "pgscan_direct_normal"),
];

/// Files that no 3.10 kernel has, by the beginning or the end of their path.
const GONE: &[&str] = &[
    "proc/pressure/",
    "sys/block/zram",
    "sys/class/block/zram",
    "sys/module/zswap/",
    "proc/sys/kernel/numa_balancing", // 3.13
    "sys/kernel/mm/lru_gen/",
    "sys/kernel/mm/transparent_hugepage/shmem_enabled",
    "proc/sys/vm/watermark_scale_factor",
    "/smaps_rollup",
    "/memory.pressure_level",
    "sys/fs/cgroup/cgroup.controllers",
];

/// Shapes a captured tree.
pub(super) fn shaped(tree: Tree) -> Tree {
    let is_gone = |name: &str| {
        GONE.iter()
            .any(|gone| name.starts_with(gone) || name.ends_with(gone))
    };
    let kept = tree.into_iter().filter(|(name, _)| !is_gone(name));
    kept.map(|(name, entry)| match entry {
        Entry::File(content) => {
            let content = file(&name, content);
            (name, Entry::File(content))
        }
        link @ Entry::Link(_) => (name, link),
    })
    .collect()
}

fn file(name: &str, content: Vec<u8>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&content) else {
        return content;
    };
    let base = name.rsplit('/').next().unwrap_or_default();
    let shaped = match (name, base) {
        ("proc/meminfo", _) => without(text, MEMINFO),
        ("proc/vmstat", _) => vmstat(text),
        ("proc/sys/kernel/osrelease", _) => "3.10.108\n".to_owned(),
        ("proc/stat", _) => text.to_owned(),
        (_, "status") => without(text, STATUS),
        (_, "smaps") => without(text, SMAPS),
        // The name of anonymous memory is of 5.17.
        (_, "memory.oom_control") => without_words(text, &["oom_kill "]),
        // Of the dirty and workingset lines only writeback was there.
        (_, "memory.stat") => without_words(
            text,
            &[
                "dirty ",
                "total_dirty ",
                "workingset",
                "total_workingset",
                "shmem ",
                "total_shmem ",
            ],
        ),
        _ => return content,
    };
    let shaped = if base == "smaps" {
        unnamed(&shaped)
    } else {
        shaped
    };
    shaped.into_bytes()
}

/// Without the lines `KEY:…` of these keys.
fn without(text: &str, keys: &[&str]) -> String {
    let keep = |line: &&str| {
        let key = line.split(':').next().unwrap_or_default();
        !keys.contains(&key)
    };
    lines(text.lines().filter(keep))
}

fn without_words(text: &str, starts: &[&str]) -> String {
    lines(
        text.lines()
            .filter(|line| !starts.iter().any(|start| line.starts_with(start))),
    )
}

/// `[anon:name]` and `[anon_shmem:name]` were plain anonymous memory.
fn unnamed(text: &str) -> String {
    lines(text.lines().map(|line| {
        let at = line.find("[anon:").filter(|_| !line.contains(" kB"));
        at.map_or(line, |at| line[..at].trim_end())
    }))
}

fn vmstat(text: &str) -> String {
    let shaped = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        if VMSTAT.contains(&key) {
            return Some(line.to_owned());
        }
        let (_, zone) = PER_ZONE.iter().find(|(whole, _)| *whole == key)?;
        let other = zone.trim_end_matches("normal");
        Some(format!(
            "{other}dma 0\n{other}dma32 0\n{zone} {value}\n{other}movable 0"
        ))
    });
    let shaped: Vec<String> = shaped.collect();
    lines(shaped.iter().map(String::as_str)) + "allocstall 0\n"
}

fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_later_is_gone_and_the_rest_stays() {
        let shape = |name: &str, text: &str| {
            let bytes = file(name, text.as_bytes().to_vec());
            String::from_utf8(bytes).expect("text")
        };
        let meminfo = "MemTotal: 9 kB\nMemAvailable: 3 kB\n";
        assert_eq!(shape("proc/meminfo", meminfo), "MemTotal: 9 kB\n");
        let status = "VmRSS:\t9 kB\nRssAnon:\t9 kB\nVmSwap:\t1 kB\n";
        assert_eq!(
            shape("proc/7/status", status),
            "VmRSS:\t9 kB\nVmSwap:\t1 kB\n"
        );
        let smaps = "00-10 rw-p 0 00:00 0      [anon:x]\nRss: 4 kB\nTHPeligible: 0\n";
        assert_eq!(
            shape("proc/7/smaps", smaps),
            "00-10 rw-p 0 00:00 0\nRss: 4 kB\n"
        );
        let vmstat = shape("proc/vmstat", "pgscan_kswapd 7\noom_kill 1\n");
        assert!(vmstat.contains("pgscan_kswapd_normal 7\n") && !vmstat.contains("oom_kill"));
        let tree: Tree = ["proc/7/smaps_rollup", "proc/pressure/io", "proc/swaps"]
            .map(|name| (name.to_owned(), Entry::File(Vec::new())))
            .into();
        let left: Vec<String> = shaped(tree).into_iter().map(|entry| entry.0).collect();
        assert_eq!(left, ["proc/swaps"]);
    }
}
