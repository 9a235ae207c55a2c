//! On which NUMA nodes a process' memory lies (/proc/PID/numa_maps) and where it may run (status,
//! `Cpus_allowed_list`). The kernel walks the page tables for it: for a few processes, never for all.

use std::io;
use std::io::BufReader;
use std::path::Path;

use crate::source::procdir::ProcDir;

/// Where a process' memory lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Start in clock ticks since boot: whether it is still the same process.
    pub start_ticks: u64,
    /// Memory by node, KiB, node 0 first.
    pub node_kb: Vec<u64>,
    /// CPUs that it may run on, as the kernel lists them, `0-3,8`.
    pub cpus: Option<String>,
}

/// Reads the placement of a process.
///
/// # Errors
/// It is gone, may not be read, or the kernel has no numa_maps.
pub fn read_placement(root: &Path, pid: u32) -> io::Result<Placement> {
    let dir = ProcDir::open(root, pid)?;
    let start_ticks = dir.stat()?.start_ticks;
    let mut text = BufReader::new(dir.file(b"numa_maps")?);
    let node_kb = super::smaps::numa(&mut text, super::smaps::page_kb(root))?;
    let status = dir.read("status", 64 << 10).unwrap_or_default();
    Ok(Placement {
        start_ticks,
        node_kb,
        cpus: allowed(&status),
    })
}

fn allowed(status: &[u8]) -> Option<String> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let list = lines.find_map(|line| line.strip_prefix(b"Cpus_allowed_list:"))?;
    let list = std::str::from_utf8(list.trim_ascii()).ok()?;
    (!list.is_empty()).then(|| list.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_of_status() {
        let status = b"Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3,8\nMems_allowed:\t1\n";
        assert_eq!(allowed(status).as_deref(), Some("0-3,8"));
        assert_eq!(allowed(b"Name:\tx\n"), None);
    }

    #[test]
    fn this_process_lies_somewhere() {
        match read_placement(Path::new("/"), std::process::id()) {
            Ok(placement) => {
                assert!(placement.start_ticks > 0);
                assert!(placement.node_kb.iter().sum::<u64>() > 100);
                assert!(placement.cpus.is_some());
            }
            // A kernel without CONFIG_NUMA has no such file.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
        }
        let error = read_placement(Path::new("/"), u32::MAX - 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
