//! Which host this is.

use std::path::Path;

use crate::model::Host;
use crate::model::RawText;
use crate::time;

use super::cgroup::Controller;
use super::procfs;

fn line(root: &Path, file: &str) -> Option<Vec<u8>> {
    let bytes = std::fs::read(root.join(file)).ok()?;
    Some(bytes.trim_ascii().to_vec())
}

/// Reads who the host below `root` is. What a captured tree does not tell stays unknown.
#[must_use]
pub fn read(root: &Path) -> Host {
    let text = |file| RawText::new(line(root, file).unwrap_or_default());
    let now = time::now_ns();
    Host {
        hostname: text("proc/sys/kernel/hostname"),
        kernel: text("proc/sys/kernel/osrelease"),
        arch: std::env::consts::ARCH.to_owned(),
        boot_id: line(root, "proc/sys/kernel/random/boot_id")
            .and_then(|id| String::from_utf8(id).ok()),
        mem_total_kb: procfs::read_system(root, procfs::Scope::Memory).mem_total_kb,
        page_size: u64::try_from(rustix::param::page_size()).ok(),
        ticks_per_s: Some(rustix::param::clock_ticks_per_second()),
        cpus: cpus(root),
        memory_cgroup: Controller::detect(root).map(|controller| controller.hierarchy()),
        utc_offset_s: Some(time::local_offset_s(now)),
    }
}

/// Online CPUs: the `cpuN` lines of /proc/stat.
fn cpus(root: &Path) -> Option<u32> {
    let stat = std::fs::read(root.join("proc/stat")).ok()?;
    let lines = stat.split(|byte| *byte == b'\n');
    let count = lines
        .filter(|line| line.starts_with(b"cpu") && line.get(3).is_some_and(u8::is_ascii_digit))
        .count();
    u32::try_from(count).ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_known() {
        let host = read(Path::new("/"));
        assert!(!host.kernel.is_empty());
        assert!(host.mem_total_kb.is_some_and(|kb| kb > 0));
        assert!(host.cpus.is_some());
        assert_eq!(host.boot_id.map(|id| id.len()), Some(36));
    }

    #[test]
    fn an_empty_tree_is_an_unknown_host() {
        let host = read(Path::new("/nonexistent"));
        assert_eq!(
            (host.mem_total_kb, host.cpus, host.boot_id),
            (None, None, None)
        );
    }
}
