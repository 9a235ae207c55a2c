//! The files of one memory cgroup.

use std::path::Path;

use crate::model::CgroupMetrics;

use crate::source::procfs;

/// Version 1 says "no limit" by a number near `PAGE_COUNTER_MAX` pages (include/linux/page_counter.h).
const V1_NO_LIMIT: u64 = 0x7fff_ffff_0000_0000;

/// A file with one number, bytes.
fn bytes(folder: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read(folder.join(name)).ok()?;
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

/// A limit, KiB; `max` and version 1's huge number are none.
fn limit(folder: &Path, name: &str) -> Option<u64> {
    bytes(folder, name)
        .filter(|bytes| *bytes < V1_NO_LIMIT)
        .map(|bytes| bytes / 1024)
}

/// A number, KiB.
fn kib(folder: &Path, name: &str) -> Option<u64> {
    bytes(folder, name).map(|bytes| bytes / 1024)
}

/// `key number` lines of a file.
struct Flat(String);

impl Flat {
    fn read(folder: &Path, name: &str) -> Self {
        Self(std::fs::read_to_string(folder.join(name)).unwrap_or_default())
    }

    fn get(&self, key: &str) -> Option<u64> {
        let mut lines = self.0.lines();
        lines.find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
    }

    fn kib(&self, key: &str) -> Option<u64> {
        self.get(key).map(|bytes| bytes / 1024)
    }
}

/// Whether it has a limit of memory.
pub(super) fn has_limit(folder: &Path, hierarchy: u8) -> bool {
    let name = if hierarchy == 1 {
        "memory.limit_in_bytes"
    } else {
        "memory.max"
    };
    limit(folder, name).is_some()
}

/// Its figures, and version 2's `memory.oom.group`.
pub(super) fn read(folder: &Path, hierarchy: u8) -> (CgroupMetrics, Option<bool>) {
    if hierarchy == 1 {
        (version1(folder), None)
    } else {
        version2(folder)
    }
}

fn version1(folder: &Path) -> CgroupMetrics {
    let stat = Flat::read(folder, "memory.stat");
    let control = Flat::read(folder, "memory.oom_control");
    let usage = bytes(folder, "memory.usage_in_bytes");
    let with_swap = bytes(folder, "memory.memsw.usage_in_bytes");
    CgroupMetrics {
        usage_kb: usage.map(|bytes| bytes / 1024),
        limit_kb: limit(folder, "memory.limit_in_bytes"),
        high_kb: None,
        peak_kb: kib(folder, "memory.max_usage_in_bytes"),
        swap_kb: with_swap
            .zip(usage)
            .map(|(both, memory)| both.saturating_sub(memory) / 1024),
        swap_limit_kb: limit(folder, "memory.memsw.limit_in_bytes"),
        anon_kb: stat.kib("total_rss"),
        file_kb: stat.kib("total_cache"),
        shmem_kb: stat.kib("total_shmem"),
        kernel_kb: kib(folder, "memory.kmem.usage_in_bytes"),
        slab_unreclaimable_kb: None,
        failcnt: bytes(folder, "memory.failcnt"),
        oom_kill: control.get("oom_kill"),
        psi_some_avg10: None,
        psi_full_avg10: None,
    }
}

fn version2(folder: &Path) -> (CgroupMetrics, Option<bool>) {
    let stat = Flat::read(folder, "memory.stat");
    let events = Flat::read(folder, "memory.events");
    let pressure = std::fs::read(folder.join("memory.pressure")).unwrap_or_default();
    let metrics = CgroupMetrics {
        usage_kb: kib(folder, "memory.current"),
        limit_kb: limit(folder, "memory.max"),
        high_kb: limit(folder, "memory.high"),
        peak_kb: kib(folder, "memory.peak"),
        swap_kb: kib(folder, "memory.swap.current"),
        swap_limit_kb: limit(folder, "memory.swap.max"),
        anon_kb: stat.kib("anon"),
        file_kb: stat.kib("file"),
        shmem_kb: stat.kib("shmem"),
        kernel_kb: stat.kib("kernel"),
        slab_unreclaimable_kb: stat.kib("slab_unreclaimable"),
        failcnt: events.get("max"),
        oom_kill: events.get("oom_kill"),
        psi_some_avg10: procfs::pressure(&pressure, "some avg10"),
        psi_full_avg10: procfs::pressure(&pressure, "full avg10"),
    };
    (
        metrics,
        bytes(folder, "memory.oom.group").map(|flag| flag == 1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_version_1() {
        let folder = std::env::temp_dir().join(format!("aiops-cg1-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        put("memory.usage_in_bytes", "8192\n");
        put("memory.memsw.usage_in_bytes", "12288\n");
        put("memory.limit_in_bytes", "9223372036854771712\n");
        put(
            "memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        );
        put("memory.stat", "cache 1\ntotal_cache 4096\ntotal_rss 2048\n");
        let limited = has_limit(&folder, 1);
        let (metrics, group) = read(&folder, 1);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(!limited);
        assert_eq!(
            (metrics.usage_kb, metrics.swap_kb, metrics.limit_kb),
            (Some(8), Some(4), None)
        );
        assert_eq!(
            (metrics.oom_kill, metrics.file_kb, metrics.anon_kb),
            (Some(3), Some(4), Some(2))
        );
        assert_eq!((group, metrics.psi_some_avg10), (None, None));
    }
}
