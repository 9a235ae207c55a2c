//! What is linked into the program of a process itself (/proc/PID/exe), where no mapped library tells it: a static Go
//! program, Node.js under another name, a jemalloc of its own.

use std::io;
use std::os::unix::fs::FileExt as _;

use super::super::procdir::ProcDir;

/// More sections than this no program has that is looked at.
const MOST_SECTIONS: usize = 1024;
/// No more of a section is read.
const MOST_BYTES: u64 = 32 << 20;
/// Size of a header of a section in a file of 64 bits.
const HEADER: usize = 64;
const CHUNK: usize = 1 << 20;

/// Names that a program exports, and what it then is: Node.js for its addons, CPython for its modules.
const EXPORTED: &[(&[u8], &str)] = &[
    (b"\0node_module_register\0", "[linked: node]"),
    (b"\0PyObject_Call\0", "[linked: python]"),
];
/// Words before each message of an allocator, which stay when symbols are stripped.
const MESSAGES: &[(&[u8], &str)] = &[(b"<jemalloc>: ", "[linked: jemalloc]")];

/// A section of a file: where its name stands among the names, and its content in the file.
struct Section {
    name: usize,
    offset: u64,
    size: u64,
}

/// What is linked into the program of this process, as a name beside those of its maps. `None`: nothing that is known,
/// or it cannot be read.
pub(super) fn linked(dir: &ProcDir) -> Option<&'static str> {
    let file = dir.file(b"exe").ok()?;
    of_file(&|bytes, at| file.read_exact_at(bytes, at))
        .ok()
        .flatten()
}

/// Fills the bytes from there in the file.
type Read<'a> = &'a dyn Fn(&mut [u8], u64) -> io::Result<()>;

fn of_file(read: Read<'_>) -> io::Result<Option<&'static str>> {
    let mut head = [0_u8; HEADER];
    read(&mut head, 0)?;
    // 64 bits, little-endian.
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Ok(None);
    }
    let count = usize::from(number(&head, 60)).min(MOST_SECTIONS);
    let (table, names) = (long(&head, 40), usize::from(number(&head, 62)));
    if usize::from(number(&head, 58)) != HEADER || names >= count {
        return Ok(None);
    }
    let mut headers = vec![0_u8; count * HEADER];
    read(&mut headers, table)?;
    let sections: Vec<Section> = headers
        .chunks_exact(HEADER)
        .map(|header| Section {
            name: usize::from(number(header, 0)) | usize::from(number(header, 2)) << 16,
            offset: long(header, 24),
            size: long(header, 32),
        })
        .collect();
    let mut texts = vec![0_u8; usize::try_from(sections[names].size.min(1 << 16)).unwrap_or(0)];
    read(&mut texts, sections[names].offset)?;
    let named = |wanted: &[u8]| {
        sections.iter().find(|section| {
            let name = texts.get(section.name..).unwrap_or_default();
            name.split(|byte| *byte == 0).next() == Some(wanted)
        })
    };
    if named(b".go.buildinfo").is_some() {
        return Ok(Some("[linked: go]"));
    }
    for (section, marks) in [(&b".dynstr"[..], EXPORTED), (b".rodata", MESSAGES)] {
        if let Some(section) = named(section)
            && let Some(found) = first(read, section, marks)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    (0..8).fold(0, |all, i| all | u64::from(bytes[at + i]) << (8 * i))
}

/// The first of the marks that stands in a section.
fn first(
    read: Read<'_>,
    section: &Section,
    marks: &[(&[u8], &'static str)],
) -> io::Result<Option<&'static str>> {
    let longest = marks.iter().map(|(mark, _)| mark.len()).max().unwrap_or(0);
    let end = section.size.min(MOST_BYTES);
    let mut chunk = vec![0_u8; CHUNK];
    let mut at = 0;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        let chunk = &mut chunk[..wanted];
        read(chunk, section.offset.saturating_add(at))?;
        let found = marks.iter().find(|(mark, _)| holds(chunk, mark));
        if let Some((_, what)) = found {
            return Ok(Some(what));
        }
        if wanted < CHUNK {
            break;
        }
        // A mark may lie across two chunks.
        at += (CHUNK - longest) as u64;
    }
    Ok(None)
}

fn holds(bytes: &[u8], mark: &[u8]) -> bool {
    let Some((first, rest)) = mark.split_first() else {
        return false;
    };
    let places = bytes.iter().enumerate().filter(|(_, byte)| *byte == first);
    let mut rests = places.map(|(at, _)| &bytes[at + 1..]);
    rests.any(|after| after.starts_with(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of sections with these names and contents, and the names of all in the last one.
    fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut names = vec![0_u8];
        let (mut body, mut headers) = (Vec::new(), vec![0_u8; HEADER]);
        let mut add = |name: &str, content: &[u8], names: &mut Vec<u8>, body: &mut Vec<u8>| {
            let mut header = [0_u8; HEADER];
            header[..4].copy_from_slice(&u32::try_from(names.len()).unwrap().to_le_bytes());
            header[24..32].copy_from_slice(&((HEADER + body.len()) as u64).to_le_bytes());
            names.extend(name.bytes().chain([0]));
            let content = if name == ".shstrtab" {
                names.clone()
            } else {
                content.to_vec()
            };
            header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
            body.extend(content);
            headers.extend(header);
        };
        for (name, content) in sections {
            add(name, content, &mut names, &mut body);
        }
        add(".shstrtab", &[], &mut names, &mut body);
        let mut head = [0_u8; HEADER];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[40..48].copy_from_slice(&((HEADER + body.len()) as u64).to_le_bytes());
        let count = u16::try_from(sections.len() + 2).unwrap();
        for (at, value) in [(58, 64), (60, count), (62, count - 1)] {
            head[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        [&head[..], &body, &headers].concat()
    }

    fn told(file: &[u8]) -> io::Result<Option<&'static str>> {
        of_file(&|bytes, at| {
            let from = file.get(usize::try_from(at).unwrap_or(usize::MAX)..);
            let from = from.and_then(|from| from.get(..bytes.len()));
            bytes.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    #[test]
    fn a_program_is_told_by_its_sections() {
        let plain: (&str, &[u8]) = (".rodata", b"hello");
        let mut across = vec![b'<'; CHUNK - 5];
        across.extend(b"<jemalloc>: out of memory");
        for (sections, expected) in [
            (
                &[plain, (".go.buildinfo", b"\xff")][..],
                Some("[linked: go]"),
            ),
            (
                &[(".dynstr", b"\0a\0node_module_register\0"), plain],
                Some("[linked: node]"),
            ),
            (
                &[(".dynstr", b"\0PyObject_Call\0"), plain],
                Some("[linked: python]"),
            ),
            (&[(".rodata", &across)], Some("[linked: jemalloc]")),
            // A part of a name is another name.
            (&[(".dynstr", b"\0PyObject_CallMethod\0"), plain], None),
            (&[plain], None),
        ] {
            assert_eq!(told(&elf(sections)).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_program_is_nothing() {
        assert!(told(b"#!/bin/sh").is_err());
        assert_eq!(told(&[b'x'; 200]).unwrap(), None);
        // A table of sections beyond the end.
        let mut cut = [0_u8; HEADER];
        cut[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (cut[58], cut[60], cut[62]) = (64, 9, 2);
        cut[44] = 1;
        assert!(told(&cut).is_err());
        cut[62] = 200;
        assert_eq!(told(&cut).unwrap(), None);
    }
}
