//! Limits that a process has of its own, and strict overcommit, which is one of the whole host.

use std::path::Path;

use crate::model::Rlimits;
use crate::source::files;
use crate::source::procdir::ProcDir;

use super::number;

/// The soft limits of /proc/PID/limits; what cannot be read is `None`, as is no limit.
#[must_use]
pub fn read_rlimits(root: &Path, pid: u32) -> Rlimits {
    let text = ProcDir::open(root, pid).and_then(|dir| dir.read("limits", 8192));
    text.map(|text| parse(&text)).unwrap_or_default()
}

/// `Max address space  4294967296  unlimited  bytes`: name, soft limit, hard limit, unit (fs/proc/base.c).
fn parse(text: &[u8]) -> Rlimits {
    let soft = |name: &[u8]| {
        let mut lines = text.split(|byte| *byte == b'\n');
        let rest = lines.find_map(|line| line.strip_prefix(name))?;
        let word = rest.trim_ascii_start().split(|byte| *byte == b' ').next()?;
        number(word)
    };
    Rlimits {
        address_space: soft(b"Max address space "),
        data: soft(b"Max data size "),
    }
}

/// Whether the kernel commits no more than `CommitLimit` (vm.overcommit_memory = 2).
#[must_use]
pub fn strict_overcommit(root: &Path) -> bool {
    let text = files::read(&root.join("proc/sys/vm/overcommit_memory"));
    text.is_ok_and(|text| text.trim_ascii() == b"2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limits_count() {
        let text =
            b"Limit                     Soft Limit           Hard Limit           Units     \n\
            Max cpu time              unlimited            unlimited            seconds   \n\
            Max data size             unlimited            unlimited            bytes     \n\
            Max address space         4294967296           unlimited            bytes     \n";
        let found = parse(text);
        assert_eq!((found.address_space, found.data), (Some(4 << 30), None));
        assert_eq!(parse(b"Max data size\n\xff"), Rlimits::default());
        assert_eq!(
            read_rlimits(Path::new("/nonexistent"), 1),
            Rlimits::default()
        );
    }
}
