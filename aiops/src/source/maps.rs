//! Executable mappings of a process, from /proc/PID/maps (fs/proc/task_mmu.c, `show_map_vma`).
//!
//! ```text
//! 7f2c8a400000-7f2c8a588000 r-xp 00028000 fe:00 1835   /usr/lib/x86_64-linux-gnu/libc.so.6
//! ```

use crate::model::Mapping;
use crate::model::RawText;

/// No stack needs more; a just-in-time compiler may have hundreds of thousands.
pub const MAX_EXECUTABLE: usize = 4096;

/// An executable mapping and the inode of its file (0: no file).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// As it is recorded, still without a build id.
    pub mapping: Mapping,
    /// Inode number as the kernel prints it.
    pub inode: u64,
}

/// The executable mappings in `text`, the first [`MAX_EXECUTABLE`]. Damaged lines are left out.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Region> {
    text.split(|byte| *byte == b'\n')
        .filter_map(region)
        .take(MAX_EXECUTABLE)
        .collect()
}

fn region(line: &[u8]) -> Option<Region> {
    // Five fields, each followed by one blank; the path is padded and may hold blanks itself.
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut field = || fields.next();
    let (range, perms, offset) = (field()?, field()?, field()?);
    let (_device, inode) = (field()?, field()?);
    if perms.get(2) != Some(&b'x') {
        return None;
    }
    let path = field().unwrap_or_default();
    let dash = range.iter().position(|byte| *byte == b'-')?;
    let (start, end) = (number(&range[..dash], 16)?, number(&range[dash + 1..], 16)?);
    let mapping = Mapping {
        start,
        end,
        offset: number(offset, 16)?,
        path: RawText::new(path_bytes(path.trim_ascii_start())),
        build_id: None,
    };
    (start < end).then_some(Region {
        mapping,
        inode: number(inode, 10)?,
    })
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

/// The kernel escapes nothing but the newline here, as `\012`.
pub(super) fn path_bytes(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\\012") {
            out.push(b'\n');
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_executable_mappings_with_their_paths() {
        let text = b"400000-401000 r--p 00000000 fe:00 7 /bin/a\n\
            401000-402000 r-xp 00001000 fe:00 7                  /opt/my app/a\\012b (deleted)\n\
            7f00-7f10 rwxp 00000000 00:00 0\n\
            7ffd-7fff r-xp 00000000 00:00 0                      [vdso]\n\
            garbage\n9-8 r-xp 0 0 0 x\nzz-8 r-xp 00 fe:00 1 x\n";
        let regions = parse(text);
        let paths: Vec<_> = regions.iter().map(|one| one.mapping.path.lossy()).collect();
        assert_eq!(paths, ["/opt/my app/a\nb (deleted)", "", "[vdso]"]);
        let first = &regions[0];
        assert_eq!(
            (first.mapping.start, first.mapping.end),
            (0x40_1000, 0x40_2000)
        );
        assert_eq!((first.mapping.offset, first.inode), (0x1000, 7));
    }

    #[test]
    fn the_number_of_mappings_is_bounded() {
        let line = "1000-2000 r-xp 0 00:00 0\n".repeat(MAX_EXECUTABLE + 9);
        assert_eq!(parse(line.as_bytes()).len(), MAX_EXECUTABLE);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&text);
        }

        #[test]
        fn damaged_lines_are_read_without_panic(at in 0_usize..70, byte in any::<u8>()) {
            let mut line = b"7f2c8a400000-7f2c8a588000 r-xp 00028000 fe:00 1835 /usr/lib/libc.so.6 ".to_vec();
            line[at] = byte;
            for region in parse(&line) {
                prop_assert!(region.mapping.start < region.mapping.end);
            }
        }
    }
}
