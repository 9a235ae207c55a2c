//! Which file systems are safe to touch, by /proc/PID/mountinfo: known before a path of them is used.

use std::collections::HashMap;
use std::collections::HashSet;

use crate::model::RawText;

/// What a file system waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A disk or memory.
    Local,
    /// Another host or program: a call may never come back.
    Remote,
    /// The kernel itself: its files are no storage.
    Kernel,
}

/// Mounts of the namespaces that were seen.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// By mount id, unique on the host.
    remote_ids: HashSet<u64>,
    /// Devices of remote and kernel file systems.
    avoided: HashSet<(u32, u32)>,
    /// Mount points of the own namespace, to what they are; a later mount covers an earlier one.
    own: HashMap<Vec<u8>, bool>,
    namespaces: HashSet<Vec<u8>>,
}

impl Mounts {
    /// Learns the mounts that a process sees; `self` is this one.
    pub(super) fn learn(&mut self, pid: &str) {
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/mnt"));
        if let Ok(namespace) = namespace
            && !self
                .namespaces
                .insert(namespace.as_os_str().as_encoded_bytes().to_vec())
        {
            return;
        }
        let text = std::fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        self.add(&text, pid == "self");
    }

    fn add(&mut self, text: &[u8], own: bool) {
        for mount in text.split(|byte| *byte == b'\n').filter_map(parse) {
            let avoided = mount.kind != Kind::Local;
            if avoided {
                self.remote_ids.insert(mount.id);
                self.avoided.insert(mount.device);
            }
            if own {
                self.own.insert(mount.point, avoided);
            }
        }
    }

    /// Whether an open file is on a mount that is left alone.
    pub(super) fn avoids_id(&self, id: u64) -> bool {
        self.remote_ids.contains(&id)
    }

    /// Whether a device is one that is left alone.
    pub(super) fn avoids_device(&self, major: u32, minor: u32) -> bool {
        self.avoided.contains(&(major, minor))
    }

    /// Whether a path (absolute, without links) lies on a mount that is left alone.
    pub(super) fn avoids_path(&self, path: &[u8]) -> bool {
        let mut path = path;
        loop {
            let key: &[u8] = if path.is_empty() { b"/" } else { path };
            if let Some(avoided) = self.own.get(key) {
                return *avoided;
            }
            match path.iter().rposition(|byte| *byte == b'/') {
                Some(slash) if !path.is_empty() => path = &path[..slash],
                _ => return false,
            }
        }
    }
}

struct Mount {
    id: u64,
    device: (u32, u32),
    point: Vec<u8>,
    kind: Kind,
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw` (proc_pid_mountinfo(5)).
fn parse(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = words.iter().position(|word| *word == b"-")?;
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u64>().ok();
    let device = std::str::from_utf8(words.get(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    Some(Mount {
        id: number(words.first()?)?,
        device: (major.parse().ok()?, minor.parse().ok()?),
        point: unescape(words.get(4)?),
        kind: kind(&RawText::new(*words.get(dash + 1)?).lossy()),
    })
}

/// Blank, tab, newline and backslash are written `\040`, `\011`, `\012`, `\134`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(code) = code {
            out.push(code);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

fn kind(name: &str) -> Kind {
    match name {
        "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "ceph" | "9p" | "afs" | "lustre" | "gpfs"
        | "beegfs" | "glusterfs" | "coda" | "orangefs" | "pvfs2" | "ncpfs" | "virtiofs"
        | "autofs" | "fuse" | "fuseblk" | "gfs2" | "ocfs2" => Kind::Remote,
        _ if name.starts_with("fuse.") => Kind::Remote,
        "proc" | "sysfs" | "cgroup" | "cgroup2" | "debugfs" | "tracefs" | "securityfs" | "bpf"
        | "configfs" | "devpts" | "pstore" | "efivarfs" | "mqueue" | "fusectl" | "binfmt_misc"
        | "selinuxfs" | "nsfs" | "rpc_pipefs" | "nfsd" | "binder" => Kind::Kernel,
        _ => Kind::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_mounts_are_known_before_they_are_touched() {
        let mut mounts = Mounts::default();
        mounts.add(
            b"22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
              30 22 0:45 / /mnt/dead\\040nfs rw shared:3 - nfs4 srv:/x rw\n\
              31 30 254:3 / /mnt/dead\\040nfs/disk rw - xfs /dev/vdb rw\n\
              32 22 0:4 / /proc rw - proc proc rw\n33 22 0:50 / /s rw - fuse.sshfs x rw\ngarbage\n34 - -\n",
            true,
        );
        assert!(mounts.avoids_path(b"/mnt/dead nfs/a/b"));
        assert!(mounts.avoids_path(b"/mnt/dead nfs"));
        assert!(!mounts.avoids_path(b"/mnt/dead nfs/disk/x"));
        assert!(!mounts.avoids_path(b"/mnt/dead") && !mounts.avoids_path(b"/"));
        assert!(mounts.avoids_path(b"/proc/1/fd") && mounts.avoids_path(b"/s/x"));
        assert!(mounts.avoids_id(30) && !mounts.avoids_id(31));
        assert!(mounts.avoids_device(0, 45) && !mounts.avoids_device(254, 3));
    }
}
