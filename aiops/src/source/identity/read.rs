//! What /proc says of a process, with every read bounded.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::table::MAX_CMDLINE;
use crate::model::Mapping;
use crate::model::ProcessSample;
use crate::source::buildid;
use crate::source::maps;
use crate::source::procdir::ProcDir;

/// Bytes of /proc/PID/maps read: some 40,000 mappings.
const MAX_MAPS: u64 = 4 << 20;

/// What /proc says of a process. Missing parts are `None`.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) start_ticks: u64,
    pub(super) ppid: u32,
    /// It is ending: its other files say less, or the root cgroup.
    pub(super) exiting: bool,
    pub(super) comm: Vec<u8>,
    pub(super) cmdline: Option<Vec<u8>>,
    pub(super) exe: Option<Vec<u8>>,
    pub(super) uid: Option<u32>,
    pub(super) cgroup: Option<Vec<u8>>,
    pub(super) unit: Option<String>,
    pub(super) mappings: Option<Vec<Mapping>>,
}

/// Reads ROOT/proc/PID; with a cache of build ids also its executable mappings.
pub(super) fn facts(
    root: &Path,
    pid: u32,
    build_ids: Option<&mut buildid::Cache>,
) -> io::Result<Facts> {
    let dir = ProcDir::open(root, pid)?;
    // What vanishes first is read first: an exiting process loses its mm before its other parts.
    let cmdline = dir.read("cmdline", MAX_CMDLINE);
    let exe = dir.link("exe");
    let cgroup = dir.read("cgroup", 64 << 10);
    let mappings = build_ids.and_then(|cache| mappings(&dir, cache));
    let stat = dir.stat()?;
    let status = dir.read("status", 16 << 10).unwrap_or_default();
    Ok(Facts {
        start_ticks: stat.start_ticks,
        ppid: stat.ppid,
        exiting: stat.exiting,
        comm: stat.comm,
        cmdline: cmdline.ok().filter(|bytes| !bytes.is_empty()),
        exe: exe.ok(),
        uid: real_uid(&status),
        unit: cgroup.as_deref().ok().and_then(systemd_unit),
        cgroup: cgroup.ok().and_then(|text| memory_cgroup(&text)),
        mappings,
    })
}

/// What the folder of a sampled process says beside the sample.
pub(super) fn facts_of(dir: &ProcDir, process: &ProcessSample) -> Facts {
    let cmdline = dir.read("cmdline", MAX_CMDLINE);
    let exe = dir.link("exe");
    let cgroup = dir.read("cgroup", 64 << 10);
    Facts {
        start_ticks: process.start_ticks,
        ppid: process.ppid,
        exiting: false,
        comm: process.comm.as_bytes().to_vec(),
        cmdline: cmdline.ok().filter(|bytes| !bytes.is_empty()),
        exe: exe.ok(),
        uid: process.uid,
        unit: cgroup.as_deref().ok().and_then(systemd_unit),
        cgroup: cgroup.ok().and_then(|text| memory_cgroup(&text)),
        mappings: None,
    }
}

/// `Uid: REAL EFFECTIVE SAVED FILESYSTEM` (tabs between) of /proc/PID/status.
fn real_uid(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let rest = lines.find_map(|line| line.strip_prefix(b"Uid:\t"))?;
    let first = rest.split(|byte| *byte == b'\t').next()?;
    std::str::from_utf8(first).ok()?.parse().ok()
}

/// The path in the memory controller's hierarchy: `N:…,memory,…:PATH` (v1), else `0::PATH` (v2).
fn memory_cgroup(text: &[u8]) -> Option<Vec<u8>> {
    let mut unified = None;
    for line in text.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (Some(_), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if names
            .split(|byte| *byte == b',')
            .any(|name| name == b"memory")
        {
            return Some(path.to_vec());
        }
        if names.is_empty() {
            unified = Some(path.to_vec());
        }
    }
    unified
}

/// The systemd unit that a cgroup path names: its deepest `.service` or `.scope`, else `.slice`.
pub(super) fn unit_of(path: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(path).ok()?;
    let parts = || text.split('/').rev();
    let deepest = |ends: &[&str]| parts().find(|part| ends.iter().any(|end| part.ends_with(end)));
    deepest(&[".service", ".scope"])
        .or_else(|| deepest(&[".slice"]))
        .map(str::to_owned)
}

/// The unit by systemd's own hierarchy (`N:name=systemd:PATH`), else by the unified one.
fn systemd_unit(text: &[u8]) -> Option<String> {
    let mut unified = None;
    for line in text.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (Some(_), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if names == b"name=systemd" {
            return unit_of(path);
        }
        if names.is_empty() {
            unified = unit_of(path);
        }
    }
    unified
}

/// Executable mappings with build ids; none when the process has none or hides them.
fn mappings(dir: &ProcDir, cache: &mut buildid::Cache) -> Option<Vec<Mapping>> {
    let text = dir.read("maps", MAX_MAPS).ok()?;
    let regions = maps::parse(&text).into_iter();
    let found: Vec<Mapping> = regions
        .map(|region| {
            let build_id = open(dir, &region).and_then(|file| cache.get(&file));
            Mapping {
                build_id,
                ..region.mapping
            }
        })
        .collect();
    (!found.is_empty()).then_some(found)
}

/// The mapped file itself (needs privilege), else the file of that name in the process' own root if
/// it is still the same one.
fn open(dir: &ProcDir, region: &maps::Region) -> Option<File> {
    let mapping = &region.mapping;
    let path = mapping.path.as_bytes();
    if region.inode == 0 || !path.starts_with(b"/") {
        return None;
    }
    let exact = format!("map_files/{:x}-{:x}", mapping.start, mapping.end);
    if let Ok(file) = dir.file(exact.as_bytes()) {
        return Some(file);
    }
    let file = dir.file(&[b"root", path].concat()).ok()?;
    let same = file.metadata().is_ok_and(|meta| meta.ino() == region.inode);
    same.then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_controller_wins_over_the_unified_hierarchy() {
        let v1 = b"0::/unified\n9:cpu,memory:/a:b\n4:pids:/p\n";
        assert_eq!(memory_cgroup(v1).unwrap(), b"/a:b");
        assert_eq!(memory_cgroup(b"4:pids:/p\n0::/u\n").unwrap(), b"/u");
        assert_eq!(memory_cgroup(b"garbage"), None);
        assert_eq!(real_uid(b"Name:\tx\nUid:\t1000\t0\t0\t0\n"), Some(1000));
    }

    #[test]
    fn units_are_the_deepest_names() {
        let unit = |path: &str| unit_of(path.as_bytes());
        assert_eq!(
            unit("/system.slice/mysql.service").unwrap(),
            "mysql.service"
        );
        assert_eq!(unit("/user.slice/user-0.slice").unwrap(), "user-0.slice");
        assert_eq!(unit("/docker/3f2a"), None);
        let hybrid = b"1:name=systemd:/system.slice/ssh.service\n0::/other.scope\n";
        assert_eq!(systemd_unit(hybrid).unwrap(), "ssh.service");
        assert_eq!(systemd_unit(b"0::/other.scope\n").unwrap(), "other.scope");
    }

    #[test]
    fn this_process_has_mappings_with_build_ids() {
        let mut cache = buildid::Cache::default();
        let facts = facts(Path::new("/"), std::process::id(), Some(&mut cache)).unwrap();
        let exe = facts.exe.unwrap();
        let mappings = facts.mappings.unwrap();
        let own = mappings
            .iter()
            .find(|one| one.path.as_bytes() == exe)
            .unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        assert_eq!(own.build_id, buildid::read(&file));
        assert_eq!(facts.uid, Some(rustix::process::getuid().as_raw()));
        assert!(!facts.cmdline.unwrap().is_empty() && facts.cgroup.is_some());
    }
}
