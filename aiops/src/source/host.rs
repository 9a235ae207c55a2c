//! Which host this is.

use std::path::Path;

use crate::model::Host;
use crate::model::RawText;
use crate::time;

use super::cgroup::Controller;
use super::files;
use super::procdir::ProcDir;
use super::procfs;

fn line(root: &Path, file: &str) -> Option<Vec<u8>> {
    let bytes = files::read(&root.join(file)).ok()?;
    Some(bytes.trim_ascii().to_vec())
}

/// Ticks of /proc a second (`USER_HZ`): every architecture but alpha and ia64 has this many.
const USER_HZ: u64 = 100;

/// Reads who the host below `root` is. What a captured tree does not tell stays unknown: its architecture
/// and its zone; the size of a page is derived ([`page_size`]), and clock ticks are the common 100 a second.
#[must_use]
pub fn read(root: &Path) -> Host {
    let text = |file| RawText::new(line(root, file).unwrap_or_default());
    let live = super::live(root);
    Host {
        hostname: text("proc/sys/kernel/hostname"),
        kernel: text("proc/sys/kernel/osrelease"),
        arch: if live { std::env::consts::ARCH } else { "" }.to_owned(),
        boot_id: line(root, "proc/sys/kernel/random/boot_id")
            .and_then(|id| String::from_utf8(id).ok()),
        mem_total_kb: procfs::read_system(root, procfs::Scope::Memory).mem_total_kb,
        page_size: page_size(root),
        ticks_per_s: Some(if live {
            rustix::param::clock_ticks_per_second()
        } else {
            USER_HZ
        }),
        cpus: cpus(root),
        memory_cgroup: Controller::detect(root).map(|controller| controller.hierarchy()),
        utc_offset_s: live.then(|| time::local_offset_s(time::now_ns())),
    }
}

/// Processes of a captured tree that are asked for the size of a page.
const MOST_ASKED: usize = 64;

/// Bytes of a page of the host below `root`. A captured tree tells it by the smallest `KernelPageSize` of a
/// process' smaps, or by resident memory that is there in pages (stat) and in KiB (status).
#[must_use]
pub fn page_size(root: &Path) -> Option<u64> {
    if super::live(root) {
        return u64::try_from(rustix::param::page_size()).ok();
    }
    let entries = std::fs::read_dir(root.join("proc")).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut pids: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    let folders = || {
        let pids = pids.iter().take(MOST_ASKED);
        pids.filter_map(|pid| ProcDir::open(root, *pid).ok())
    };
    let kb = folders()
        .find_map(|dir| kernel_page_kb(&dir))
        .or_else(|| folders().find_map(|dir| page_kb_by_size(&dir)))?;
    kb.checked_mul(1024)
}

fn kernel_page_kb(dir: &ProcDir) -> Option<u64> {
    let text = dir.read("smaps", 64 << 10).ok()?;
    let lines = text.split(|byte| *byte == b'\n');
    let sizes = lines.filter_map(|line| kb(line.strip_prefix(b"KernelPageSize:")?));
    sizes.min().filter(|kb| *kb > 0)
}

/// Both figures are of nearly the same moment, so their quotient is nearly a power of two.
fn page_kb_by_size(dir: &ProcDir) -> Option<u64> {
    let status = dir.read("status", 16 << 10).ok()?;
    let mut lines = status.split(|byte| *byte == b'\n');
    let size = lines.find_map(|line| kb(line.strip_prefix(b"VmRSS:")?))?;
    let stat = dir.read("stat", 4096).ok()?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let mut words = stat.get(close + 2..)?.split(u8::is_ascii_whitespace);
    // Field 24; behind the name comes field 3.
    let pages = procfs::number(words.nth(21)?)?;
    let near = |kb: &u64| {
        let whole = pages.saturating_mul(*kb);
        whole.abs_diff(size) <= whole / 10
    };
    [4, 8, 16, 64]
        .into_iter()
        .find(|kb| pages >= 100 && near(kb))
}

/// `   123 kB`.
fn kb(rest: &[u8]) -> Option<u64> {
    let mut words = rest.split(u8::is_ascii_whitespace);
    procfs::number(words.find(|word| !word.is_empty())?)
}

/// Online CPUs: the `cpuN` lines of /proc/stat.
fn cpus(root: &Path) -> Option<u32> {
    let stat = files::read(&root.join("proc/stat")).ok()?;
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
    fn a_captured_tree_tells_its_own_page_size_or_none() {
        let root = std::env::temp_dir().join(format!("aiops-host-{}", std::process::id()));
        let process = root.join("proc/7");
        std::fs::create_dir_all(&process).unwrap();
        let put = |name: &str, text: &str| std::fs::write(process.join(name), text).unwrap();
        put(
            "stat",
            "7 (a) b) S 1 1 1 0 -1 4194304 9 0 1 0 5 6 0 0 20 0 1 0 9 8192000 300 0\n",
        );
        put("status", "VmRSS:\t   19264 kB\n");
        let by_size = page_size(&root);
        put("status", "VmRSS:\t   99999 kB\n");
        let neither = page_size(&root);
        put(
            "smaps",
            "0-1 r 0 0 0\nKernelPageSize:   2048 kB\n1-2 r 0 0 0\nKernelPageSize:   16 kB\n",
        );
        let host = read(&root);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!((by_size, neither), (Some(64 << 10), None));
        assert_eq!(
            (host.page_size, host.ticks_per_s),
            (Some(16 << 10), Some(100))
        );
        assert_eq!((host.arch.as_str(), host.utc_offset_s), ("", None));
    }

    #[test]
    fn an_empty_tree_is_an_unknown_host() {
        let host = read(Path::new("/nonexistent"));
        assert_eq!(host.page_size, None);
        assert_eq!(
            (host.mem_total_kb, host.cpus, host.boot_id),
            (None, None, None)
        );
    }
}
