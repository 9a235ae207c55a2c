//! The files of one memory cgroup, read as the sources of [`CgroupMetrics::METRICS`] say.

use std::path::Path;

use crate::model::CgroupMetrics;

use crate::source::files;
use crate::source::procfs;

/// Version 1 says "no limit" by a number near `PAGE_COUNTER_MAX` pages (include/linux/page_counter.h).
const V1_NO_LIMIT: u64 = 0x7fff_ffff_0000_0000;

/// Whether it has a limit of memory, of throttling or of swap.
pub(super) fn has_limit(folder: &Path, hierarchy: u8) -> bool {
    let names: &[&str] = if hierarchy == 1 {
        &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    } else {
        &["memory.max", "memory.high", "memory.swap.max"]
    };
    let mut files = Files {
        folder,
        hierarchy,
        read: Vec::new(),
    };
    names.iter().any(|name| files.number(name).is_some())
}

/// The files of one folder, each read once.
struct Files<'a> {
    folder: &'a Path,
    hierarchy: u8,
    read: Vec<(String, Vec<u8>)>,
}

/// Files of `key number` lines; a source names such a key behind a dot.
const FLAT: [&str; 5] = [
    "memory.events.local",
    "memory.events",
    "memory.swap.events",
    "memory.oom_control",
    "memory.stat",
];

impl Files<'_> {
    fn text(&mut self, name: &str) -> &[u8] {
        let known = self.read.iter().position(|(known, _)| known == name);
        let at = known.unwrap_or_else(|| {
            let bytes = files::read(&self.folder.join(name)).unwrap_or_default();
            self.read.push((name.to_owned(), bytes));
            self.read.len() - 1
        });
        &self.read[at].1
    }

    /// `key number` in a file.
    fn flat(&mut self, name: &str, key: &str) -> Option<u64> {
        let mut lines = self.text(name).split(|byte| *byte == b'\n');
        lines.find_map(|line| {
            let rest = line.strip_prefix(key.as_bytes())?.strip_prefix(b" ")?;
            procfs::number(rest.trim_ascii())
        })
    }

    /// A file with one number; `max` and version 1's huge number are none.
    fn number(&mut self, name: &str) -> Option<u64> {
        procfs::number(self.text(name).trim_ascii()).filter(|value| *value < V1_NO_LIMIT)
    }

    /// The value of the first source that is there.
    fn value(&mut self, sources: &str) -> Option<u64> {
        if let Some(key) = sources.strip_prefix("v2:memory.pressure ") {
            return procfs::pressure(self.text("memory.pressure"), key);
        }
        sources.split(' ').find_map(|source| self.one(source))
    }

    fn one(&mut self, source: &str) -> Option<u64> {
        let (prefix, name) = source.split_once(':')?;
        match (prefix, self.hierarchy) {
            // Version 1 has each figure twice: of the cgroup alone, and with everything below it.
            ("stat", 1) if name.starts_with("total_") => self.flat("memory.stat", name),
            ("stat", 1) => self.flat("memory.stat", &format!("total_{name}")),
            ("stat", _) if name.starts_with("total_") => None,
            ("stat", _) => self.flat("memory.stat", name),
            ("v1", 1) | ("v2", 2) => {
                if let Some((both, part)) = name.split_once('-') {
                    return Some(self.number(both)?.saturating_sub(self.number(part)?));
                }
                let (file, key) = name.rsplit_once('.')?;
                if FLAT.contains(&file) {
                    return self.flat(file, key);
                }
                self.number(name)
            }
            _ => None,
        }
    }
}

/// Its figures, by the sources of [`CgroupMetrics::METRICS`], and version 2's `memory.oom.group`.
pub(super) fn read(folder: &Path, hierarchy: u8) -> (CgroupMetrics, Option<bool>) {
    let mut files = Files {
        folder,
        hierarchy,
        read: Vec::new(),
    };
    let mut metrics = CgroupMetrics::default();
    for metric in CgroupMetrics::METRICS {
        let value = files.value(metric.source);
        let in_kb = metric.name.ends_with("_kb");
        (metric.set)(
            &mut metrics,
            value.map(|value| if in_kb { value / 1024 } else { value }),
        );
    }
    let group = (hierarchy == 2)
        .then(|| files.number("memory.oom.group"))
        .flatten();
    (metrics, group.map(|flag| flag == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_of_the_cgroup_itself_where_the_kernel_tells() {
        let folder = std::env::temp_dir().join(format!("aiops-cg2-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        put("memory.max", "max\n");
        put("memory.high", "max\n");
        let mut limited = vec![has_limit(&folder, 2)];
        put("memory.high", "4096\n");
        limited.push(has_limit(&folder, 2));
        put("memory.high", "max\n");
        put("memory.swap.max", "0\n");
        limited.push(has_limit(&folder, 2));
        let events = |high: u32, max: u32, kill: u32| {
            format!("low 0\nhigh {high}\nmax {max}\noom 1\noom_kill {kill}\n")
        };
        put("memory.events", &events(9, 8, 7));
        let (old, _) = read(&folder, 2);
        put("memory.events.local", &events(3, 2, 1));
        let (new, _) = read(&folder, 2);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(limited, [false, true, true]);
        assert_eq!(
            (old.high_events, old.failcnt, old.oom_kill),
            (Some(9), Some(8), Some(7))
        );
        // Kills are counted of the whole tree below: what the reconciliation compares.
        assert_eq!(
            (new.high_events, new.failcnt, new.oom_kill),
            (Some(3), Some(2), Some(7))
        );
    }

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
