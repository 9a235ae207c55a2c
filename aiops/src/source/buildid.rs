//! The build id of an ELF file: the `NT_GNU_BUILD_ID` note in a `PT_NOTE` segment (elf(5)).
//!
//! Files belong to other people and may be damaged or hostile: every read is bounded, every sum is
//! checked, and what is not understood gives `None`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;

/// Program headers looked at; linkers write about ten.
const MAX_HEADERS: u64 = 64;
/// Bytes of notes looked at per segment.
const MAX_NOTES: u64 = 4096;
/// Longest build id; SHA-1 has 20 bytes, SHA-256 has 32.
const MAX_ID: usize = 64;
/// Files remembered.
const MAX_CACHED: usize = 2048;

const PT_NOTE: u64 = 4;
const NT_GNU_BUILD_ID: u64 = 3;

/// The build id of an open file, lower-case hexadecimal.
#[must_use]
pub fn read(file: &File) -> Option<String> {
    parse(&|offset, len| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    })
}

/// Width and byte order of an ELF file.
#[derive(Clone, Copy)]
struct Layout {
    wide: bool,
    big: bool,
}

impl Layout {
    /// An unsigned number of `len` bytes at `at`.
    fn number(self, bytes: &[u8], at: usize, len: usize) -> Option<u64> {
        let field = bytes.get(at..at.checked_add(len)?)?;
        let join = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
        Some(if self.big {
            field.iter().fold(0, join)
        } else {
            field.iter().rev().fold(0, join)
        })
    }

    /// A field that is elsewhere, and wider, in 64-bit files.
    fn word(self, bytes: &[u8], narrow: usize, wide: usize) -> Option<u64> {
        if self.wide {
            self.number(bytes, wide, 8)
        } else {
            self.number(bytes, narrow, 4)
        }
    }
}

fn parse(read: &dyn Fn(u64, usize) -> Option<Vec<u8>>) -> Option<String> {
    let ident = read(0, 16)?;
    if !ident.starts_with(b"\x7fELF") {
        return None;
    }
    let layout = Layout {
        wide: ident[4] == 2,
        big: ident[5] == 2,
    };
    let head = read(0, if layout.wide { 64 } else { 52 })?;
    let table = layout.word(&head, 28, 32)?;
    let (size_at, count_at) = if layout.wide { (54, 56) } else { (42, 44) };
    let size = layout.number(&head, size_at, 2)?;
    let count = layout.number(&head, count_at, 2)?.min(MAX_HEADERS);
    let len = if layout.wide { 56 } else { 32 };
    (0..count).find_map(|index| {
        let at = table.checked_add(index.checked_mul(size)?)?;
        let header = read(at, len)?;
        if layout.number(&header, 0, 4)? != PT_NOTE {
            return None;
        }
        let offset = layout.word(&header, 4, 8)?;
        let bytes = layout.word(&header, 16, 32)?.min(MAX_NOTES);
        let align = layout.word(&header, 28, 48)?;
        let notes = read(offset, usize::try_from(bytes).ok()?)?;
        find_note(layout, &notes, if align == 8 { 8 } else { 4 })
    })
}

/// Walks notes: name size, descriptor size, type, then both, each padded.
fn find_note(layout: Layout, notes: &[u8], align: usize) -> Option<String> {
    let mut at = 0_usize;
    loop {
        let name_len = usize::try_from(layout.number(notes, at, 4)?).ok()?;
        let desc_len = usize::try_from(layout.number(notes, at + 4, 4)?).ok()?;
        let kind = layout.number(notes, at + 8, 4)?;
        let name_at = at + 12;
        let name_end = name_at.checked_add(name_len)?;
        let desc_at = name_end.checked_next_multiple_of(align)?;
        let desc_end = desc_at.checked_add(desc_len)?;
        let name = notes.get(name_at..name_end)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            let id = notes.get(desc_at..desc_end)?;
            return (!id.is_empty() && id.len() <= MAX_ID).then(|| hex(id));
        }
        at = desc_end.checked_next_multiple_of(align)?;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Build ids by file, so that a library is read once and not once per process.
#[derive(Debug, Default)]
pub struct Cache {
    known: HashMap<Key, Option<String>>,
}

/// Device, inode and time of change (s, ns): a file that is written again is read again.
type Key = (u64, u64, i64, i64);

impl Cache {
    /// The build id of an open regular file.
    pub fn get(&mut self, file: &File) -> Option<String> {
        let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let key = (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        if self.known.len() >= MAX_CACHED {
            self.known.clear();
        }
        let id = read(file);
        self.known.insert(key, id.clone());
        id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(bytes: &[u8]) -> Option<String> {
        parse(&|offset, len| {
            let at = usize::try_from(offset).ok()?;
            Some(bytes.get(at..at.checked_add(len)?)?.to_vec())
        })
    }

    /// The smallest file with a foreign note before the build id.
    fn elf(wide: bool, big: bool) -> Vec<u8> {
        let mut out = vec![0; 256];
        let mut put = |at: usize, len: usize, value: u64| {
            let bytes = value.to_le_bytes();
            for i in 0..len {
                out[if big { at + len - 1 - i } else { at + i }] = bytes[i];
            }
        };
        let (word, table) = if wide { (8, 64) } else { (4, 52) };
        put(if wide { 32 } else { 28 }, word, table);
        put(if wide { 54 } else { 42 }, 2, if wide { 56 } else { 32 });
        put(if wide { 56 } else { 44 }, 2, 1);
        let header = usize::try_from(table).unwrap();
        put(header, 4, PT_NOTE);
        put(header + if wide { 8 } else { 4 }, word, 128);
        put(header + if wide { 32 } else { 16 }, word, 48);
        put(header + if wide { 48 } else { 28 }, word, 4);
        for (at, kind, len) in [(128, 1, 2), (148, 3, 5)] {
            put(at, 4, 4);
            put(at + 4, 4, len);
            put(at + 8, 4, kind);
        }
        for at in [140, 160] {
            out[at..at + 4].copy_from_slice(b"GNU\0");
        }
        out[164..169].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef, 1]);
        out[..6].copy_from_slice(&[
            0x7f,
            b'E',
            b'L',
            b'F',
            1 + u8::from(wide),
            1 + u8::from(big),
        ]);
        out
    }

    #[test]
    fn both_widths_and_byte_orders() {
        for (wide, big) in [(false, false), (false, true), (true, false), (true, true)] {
            let found = of(&elf(wide, big));
            assert_eq!(
                found.as_deref(),
                Some("deadbeef01"),
                "wide {wide} big {big}"
            );
        }
    }

    #[test]
    fn a_cut_file_has_none() {
        let whole = elf(true, false);
        for len in 0..169 {
            assert_eq!(of(&whole[..len]), None, "{len}");
        }
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_without_panic(
            hits in proptest::collection::vec((6_usize..256, any::<u8>()), 1..12),
            wide in any::<bool>(),
        ) {
            let mut bytes = elf(wide, false);
            for (at, byte) in hits {
                bytes[at] = byte;
            }
            let _ = of(&bytes);
        }
    }

    #[test]
    fn libraries_and_programs_agree_with_readelf() {
        let mut compared = 0;
        for path in [
            "/proc/self/exe",
            "/bin/sh",
            "/lib/x86_64-linux-gnu/libc.so.6",
        ] {
            let Ok(file) = File::open(path) else { continue };
            let Ok(out) = std::process::Command::new("readelf")
                .args(["-n", path])
                .output()
            else {
                println!("SKIPPED: no readelf");
                return;
            };
            // readelf runs as another process: /proc/self/exe is its own program there.
            let real = std::fs::canonicalize(path).unwrap();
            let out = if path == "/proc/self/exe" {
                std::process::Command::new("readelf")
                    .arg("-n")
                    .arg(real)
                    .output()
                    .unwrap()
            } else {
                out
            };
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            let theirs = text
                .split("Build ID: ")
                .nth(1)
                .and_then(|rest| rest.split_whitespace().next());
            let mut cache = Cache::default();
            assert_eq!(cache.get(&file).as_deref(), theirs, "{path}");
            assert_eq!(cache.get(&file).as_deref(), theirs, "{path} from the cache");
            compared += usize::from(theirs.is_some());
        }
        assert!(compared > 0, "no file with a build id");
    }
}
