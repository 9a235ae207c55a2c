//! /proc/PID/mountinfo (proc_pid_mountinfo(5)), a line at a time: names hold any bytes, and a line that is
//! not understood costs no other.

use std::collections::HashMap;
use std::path::Path;

use super::files;

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    /// Unique on the host while it is there.
    pub(super) id: u64,
    /// What it is mounted on.
    pub(super) parent: u64,
    /// Major and minor number of the file system.
    pub(super) device: (u32, u32),
    /// Where.
    pub(super) point: Vec<u8>,
    /// Type of the file system.
    pub(super) fs_type: Vec<u8>,
    /// Options of the file system, with commas between.
    options: Vec<u8>,
}

impl Mount {
    /// Whether the file system has an option, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut options = self.options.split(|byte| *byte == b',');
        options.any(|option| option == name.as_bytes())
    }

    /// The value of `name=value`.
    pub(super) fn option(&self, name: &str) -> Option<&[u8]> {
        let mut options = self.options.split(|byte| *byte == b',');
        options.find_map(|option| option.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }

    /// Whether a call may wait for another host or program, and never come back.
    pub(super) fn is_remote(&self) -> bool {
        let name = self.fs_type.as_slice();
        name.starts_with(b"fuse.")
            || matches!(
                name,
                b"nfs"
                    | b"nfs4"
                    | b"cifs"
                    | b"smb3"
                    | b"smbfs"
                    | b"ceph"
                    | b"9p"
                    | b"afs"
                    | b"lustre"
                    | b"gpfs"
                    | b"beegfs"
                    | b"glusterfs"
                    | b"coda"
                    | b"orangefs"
                    | b"pvfs2"
                    | b"ncpfs"
                    | b"virtiofs"
                    | b"autofs"
                    | b"fuse"
                    | b"fuseblk"
                    | b"gfs2"
                    | b"ocfs2"
            )
    }
}

/// The mounts that ROOT's own process sees; none where that cannot be told.
pub(super) fn own(root: &Path) -> Vec<Mount> {
    parse(&files::read(&root.join("proc/self/mountinfo")).unwrap_or_default())
}

/// The mounts of a mountinfo, in its order; damaged lines are left out.
pub(super) fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`.
fn line(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = words.iter().skip(6).position(|word| *word == b"-")? + 6;
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u64>().ok();
    let device = std::str::from_utf8(words.get(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    Some(Mount {
        id: number(words.first()?)?,
        parent: number(words.get(1)?)?,
        device: (major.parse().ok()?, minor.parse().ok()?),
        point: unescape(words.get(4)?),
        fs_type: words.get(dash + 1)?.to_vec(),
        options: words.get(dash + 3).copied().unwrap_or_default().to_vec(),
    })
}

/// The octal escapes of the kernel's `mangle_path`: blank, tab, newline and backslash are written `\040`,
/// `\011`, `\012`, `\134`.
pub(super) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let code = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_digit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
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

/// Which mounts a path really leads to.
pub(super) struct Tree<'a> {
    by_id: HashMap<u64, &'a Mount>,
    children: HashMap<u64, Vec<&'a Mount>>,
}

/// Mounts above one another; a damaged table may have a circle.
const DEEPEST: usize = 256;

impl<'a> Tree<'a> {
    pub(super) fn new(mounts: &'a [Mount]) -> Self {
        let mut children: HashMap<u64, Vec<&Mount>> = HashMap::new();
        for mount in mounts {
            children.entry(mount.parent).or_default().push(mount);
        }
        Self {
            by_id: mounts.iter().map(|mount| (mount.id, mount)).collect(),
            children,
        }
    }

    /// Whether the way to a mount point ends at this mount, and asks no other host or program: no other
    /// mount lies over it or over a folder above it.
    pub(super) fn is_open(&self, mount: &Mount) -> bool {
        let (mut at, mut next) = (mount, None);
        for _ in 0..DEEPEST {
            let parent = self.by_id.get(&at.parent).filter(|one| one.id != at.id);
            // A root of that kind answers, or nothing would run here.
            if parent.is_some() && at.is_remote() {
                return false;
            }
            let mut above = self.children.get(&at.id).into_iter().flatten();
            // The way goes on through `next`; another one on that way was mounted over it later.
            if above.any(|one| {
                Some(one.id) != next && one.id != at.id && is_above(&one.point, &mount.point)
            }) {
                return false;
            }
            next = Some(at.id);
            match parent {
                Some(parent) => at = parent,
                // The root's parent is of another namespace, or it is its own.
                None => return true,
            }
        }
        false
    }
}

/// Whether a path is another one or a folder above it.
fn is_above(folder: &[u8], path: &[u8]) -> bool {
    folder == b"/"
        || path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_that_are_not_understood_cost_no_other() {
        let mounts = parse(
            b"22 1 254:0 / / rw - ext4 /dev/vda rw\n23 x 0:1\ngarbage\n24 22 0:9 / /\xff\\040b rw shared:1 master:2 - tmpfs  rw,size=4k\n25 22 0:4 / /proc rw - proc proc rw,gid=7,hidepid=invisible\n",
        );
        let points: Vec<&[u8]> = mounts.iter().map(|mount| mount.point.as_slice()).collect();
        assert_eq!(points, [&b"/"[..], b"/\xff b", b"/proc"]);
        let (tmpfs, proc) = (&mounts[1], &mounts[2]);
        assert_eq!(
            (tmpfs.device, tmpfs.option("size")),
            ((0, 9), Some(&b"4k"[..]))
        );
        assert_eq!(proc.option("hidepid"), Some(&b"invisible"[..]));
        assert!(tmpfs.has("rw") && !tmpfs.has("size") && proc.option("rw").is_none());
        assert_eq!(unescape(b"a\\134b\\9\\+12\\"), b"a\\b\\9\\+12\\");
    }

    #[test]
    fn what_lies_under_another_mount_is_not_asked() {
        let mounts = parse(
            b"1 0 254:0 / / rw - ext4 a rw\n\
              2 1 0:1 / /run rw - tmpfs t rw\n\
              3 2 0:2 / /run/lock rw - tmpfs t rw\n\
              4 1 0:3 / /under rw - tmpfs t rw\n5 4 0:4 / /under rw - nfs4 srv:/ rw\n\
              6 1 0:5 / /deep/in rw - tmpfs t rw\n7 1 0:6 / /deep rw - ext4 b rw\n\
              8 1 0:7 / /mnt rw - nfs srv:/ rw\n9 8 0:8 / /mnt/t rw - tmpfs t rw\n\
              10 1 0:9 / /deeper rw - tmpfs t rw\n",
        );
        let tree = Tree::new(&mounts);
        let open = mounts.iter().filter(|mount| tree.is_open(mount));
        let open: Vec<u64> = open.map(|mount| mount.id).collect();
        assert_eq!(open, [1, 2, 3, 7, 10]);
        // A circle has an end.
        let circle = parse(b"1 2 0:1 / /a rw - tmpfs t rw\n2 1 0:2 / /b rw - tmpfs t rw\n");
        assert!(!Tree::new(&circle).is_open(&circle[0]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
            let _ = parse(&[b"1 0 0:1 / ", &text[..], b" rw - tmpfs t rw"].concat());
            let _ = unescape(&text);
        }
    }
}
