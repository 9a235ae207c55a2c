//! Which file systems are safe to touch, by /proc/PID/mountinfo: known before a path of them is used.

use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;

use crate::source::files;
use crate::source::mounts;

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
        let text = files::read(Path::new(&format!("/proc/{pid}/mountinfo"))).unwrap_or_default();
        self.add(&text, pid == "self");
    }

    fn add(&mut self, text: &[u8], own: bool) {
        for mount in mounts::parse(text) {
            let avoided = kind(&mount) != Kind::Local;
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

/// What a file system waits for, by its type.
fn kind(mount: &mounts::Mount) -> Kind {
    if mount.is_remote() {
        return Kind::Remote;
    }
    match mount.fs_type.as_slice() {
        b"proc" | b"sysfs" | b"cgroup" | b"cgroup2" | b"debugfs" | b"tracefs" | b"securityfs"
        | b"bpf" | b"configfs" | b"devpts" | b"pstore" | b"efivarfs" | b"mqueue" | b"fusectl"
        | b"binfmt_misc" | b"selinuxfs" | b"nsfs" | b"rpc_pipefs" | b"nfsd" | b"binder" => {
            Kind::Kernel
        }
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
