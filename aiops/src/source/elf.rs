//! The parts of an ELF file that stacks need: where it is loaded, where its unwind tables are (elf(5)).
//!
//! Files belong to other people and may be damaged or hostile: every read is bounded, every sum is
//! checked, and what is not understood gives `None`. 64-bit little-endian files only: those of the
//! machines that stacks are taken on.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// Program headers looked at; linkers write about ten.
const MAX_HEADERS: u64 = 64;
/// Section headers looked at; linkers write about forty, with a section per function more.
const MAX_SECTIONS: u64 = 4096;
/// Bytes of section names looked at.
const MAX_NAMES: u64 = 1 << 20;

const PT_LOAD: u64 = 1;
const PT_GNU_EH_FRAME: u64 = 0x6474_e550;
const PF_X: u64 = 1;
const SHT_NOBITS: u64 = 8;

/// `EM_X86_64`.
pub const X86_64: u64 = 62;
/// `EM_AARCH64`.
pub const AARCH64: u64 = 183;

/// Reads `len` bytes at an offset, all or nothing.
pub type Read<'a> = &'a dyn Fn(u64, usize) -> Option<Vec<u8>>;

/// A part of the file and where it is to stand in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name of the section; empty for a segment.
    pub name: String,
    /// Offset in the file.
    pub offset: u64,
    /// Address as the file states it.
    pub address: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Whether it holds code (segments).
    pub executable: bool,
}

impl Part {
    /// Its addresses.
    #[must_use]
    pub fn addresses(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.size)
    }

    /// Its bytes, when they are at most `limit`.
    #[must_use]
    pub fn bytes(&self, read: Read<'_>, limit: u64) -> Option<Vec<u8>> {
        if self.size == 0 || self.size > limit {
            return None;
        }
        read(self.offset, usize::try_from(self.size).ok()?)
    }
}

/// What the headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `e_machine`.
    pub machine: u64,
    /// Segments that are loaded.
    pub loads: Vec<Part>,
    /// `PT_GNU_EH_FRAME`: the table that leads into `.eh_frame`.
    pub eh_frame_hdr: Option<Part>,
    /// Sections with bytes in the file; none when the section headers were stripped.
    pub sections: Vec<Part>,
}

/// Reads a file, as [`Image::parse`] wants it.
pub fn reader(file: &File) -> impl Fn(u64, usize) -> Option<Vec<u8>> + '_ {
    move |offset, len| {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }
}

/// Reads from memory, as [`Image::parse`] wants it.
pub fn memory(bytes: &[u8]) -> impl Fn(u64, usize) -> Option<Vec<u8>> + '_ {
    move |offset, len| {
        let at = usize::try_from(offset).ok()?;
        Some(bytes.get(at..at.checked_add(len)?)?.to_vec())
    }
}

impl Image {
    /// The headers of a file.
    #[must_use]
    pub fn parse(read: Read<'_>) -> Option<Self> {
        let head = read(0, 64)?;
        // Magic, 64 bits, little-endian.
        if !head.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let mut image = Self {
            machine: number(&head, 18, 2)?,
            ..Self::default()
        };
        let (at, size) = (number(&head, 32, 8)?, number(&head, 54, 2)?);
        for index in 0..number(&head, 56, 2)?.min(MAX_HEADERS) {
            let header = read(at.checked_add(index.checked_mul(size)?)?, 56)?;
            let part = Part {
                name: String::new(),
                offset: number(&header, 8, 8)?,
                address: number(&header, 16, 8)?,
                size: number(&header, 32, 8)?,
                executable: number(&header, 4, 4)? & PF_X != 0,
            };
            match number(&header, 0, 4)? {
                PT_LOAD => image.loads.push(part),
                PT_GNU_EH_FRAME => image.eh_frame_hdr = Some(part),
                _ => {}
            }
        }
        image.sections = sections(&head, read).unwrap_or_default();
        Some(image)
    }

    /// The section of this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Part> {
        self.sections.iter().find(|part| part.name == name)
    }

    /// The address, as the file states it, of a byte of the file that is loaded.
    #[must_use]
    pub fn address(&self, offset: u64) -> Option<u64> {
        // The loader maps whole pages: a mapping may begin before its segment.
        let within = |load: &&Part| {
            let begin = load.offset & !0xfff;
            offset >= begin && offset < load.offset.saturating_add(load.size)
        };
        // Code comes first: pages at the border of two segments are mapped by both.
        let code = self
            .loads
            .iter()
            .filter(|load| load.executable)
            .find(within);
        let load = code.or_else(|| self.loads.iter().find(within))?;
        load.address
            .checked_add(offset)
            .map(|sum| sum.wrapping_sub(load.offset))
    }

    /// `.eh_frame`: by its section, else from where the header table points to, up to the segment's end.
    #[must_use]
    pub fn eh_frame(&self, read: Read<'_>) -> Option<Part> {
        if let Some(part) = self.section(".eh_frame") {
            return Some(part.clone());
        }
        let header = self.eh_frame_hdr.as_ref()?;
        let bytes = read(header.offset, 8)?;
        // Version 1, `DW_EH_PE_pcrel | DW_EH_PE_sdata4`: what every linker writes.
        if bytes[..2] != [1, 0x1b] {
            return None;
        }
        let distance = i32::from_le_bytes(bytes[4..8].try_into().ok()?);
        let address = header
            .address
            .checked_add(4)?
            .checked_add_signed(i64::from(distance))?;
        let load = self
            .loads
            .iter()
            .find(|load| load.addresses().contains(&address))?;
        let within = address - load.address;
        Some(Part {
            name: ".eh_frame".to_owned(),
            offset: load.offset.checked_add(within)?,
            address,
            size: load.size - within,
            executable: false,
        })
    }
}

fn sections(head: &[u8], read: Read<'_>) -> Option<Vec<Part>> {
    let (at, size) = (number(head, 40, 8)?, number(head, 58, 2)?);
    let (count, names) = (number(head, 60, 2)?.min(MAX_SECTIONS), number(head, 62, 2)?);
    if at == 0 || size < 64 {
        return None;
    }
    let table = read(at, usize::try_from(count.checked_mul(size)?).ok()?)?;
    let size = usize::try_from(size).ok()?;
    let header = |index: u64| {
        let from = usize::try_from(index).ok()?.checked_mul(size)?;
        table.get(from..from + 64)
    };
    let strings = header(names)?;
    let (from, len) = (
        number(strings, 24, 8)?,
        number(strings, 32, 8)?.min(MAX_NAMES),
    );
    let strings = read(from, usize::try_from(len).ok()?)?;
    let name = |at: u64| {
        let rest = strings.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        String::from_utf8(rest[..end].to_vec()).ok()
    };
    let mut parts = Vec::new();
    for index in 0..count {
        let header = header(index)?;
        if number(header, 4, 4)? == SHT_NOBITS {
            continue;
        }
        let Some(name) = name(number(header, 0, 4)?) else {
            continue;
        };
        parts.push(Part {
            name,
            offset: number(header, 24, 8)?,
            address: number(header, 16, 8)?,
            size: number(header, 32, 8)?,
            executable: false,
        });
    }
    Some(parts)
}

/// A little-endian number of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(len)?)?;
    Some(
        field
            .iter()
            .rev()
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
    )
}

/// The code that the kernel maps into every process of this machine, as an ELF file.
#[must_use]
pub fn vdso() -> Option<Vec<u8>> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let regions = super::maps::parse(&maps);
    let found = regions
        .iter()
        .find(|one| one.mapping.path.as_bytes() == b"[vdso]")?;
    let (start, end) = (found.mapping.start, found.mapping.end);
    let mut bytes = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
    File::open("/proc/self/mem")
        .ok()?
        .read_exact_at(&mut bytes, start)
        .ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_program_has_segments_and_unwind_tables() {
        let file = File::open("/proc/self/exe").unwrap();
        let read = reader(&file);
        let image = Image::parse(&read).unwrap();
        let table = image.section(".eh_frame").unwrap();
        assert_eq!(image.eh_frame(&read).as_ref(), Some(table));
        assert_eq!(image.address(table.offset), Some(table.address));
        // Without section headers the header table leads to the same place.
        let stripped = Image {
            sections: Vec::new(),
            ..image.clone()
        };
        let found = stripped.eh_frame(&read).unwrap();
        assert_eq!((found.offset, found.address), (table.offset, table.address));
        assert!(found.size >= table.size);
        let code = image.loads.iter().find(|load| load.executable).unwrap();
        assert_eq!(image.address(code.offset + 1), Some(code.address + 1));
    }

    #[test]
    fn the_vdso_is_an_elf_file() {
        let bytes = vdso().unwrap();
        let image = Image::parse(&memory(&bytes)).unwrap();
        assert!(image.loads.iter().any(|load| load.executable));
        assert!(image.eh_frame(&memory(&bytes)).is_some());
    }

    proptest! {
        #[test]
        fn damaged_files_are_read_without_panic(
            hits in proptest::collection::vec((6_usize..4096, any::<u8>()), 1..12),
        ) {
            let mut bytes = vdso().unwrap();
            for (at, byte) in hits {
                bytes[at] = byte;
            }
            let read = memory(&bytes);
            if let Some(image) = Image::parse(&read) {
                let _ = image.address(0x1000);
                let _ = image.eh_frame(&read).and_then(|part| part.bytes(&read, 1 << 20));
            }
        }
    }
}
