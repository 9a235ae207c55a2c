//! Unwind tables of files, read once and shared by every process that runs them.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use framehop::ExplicitModuleSectionInfo;

use super::arch::Bytes;
use super::arch::MACHINE;
use crate::source::elf;
use crate::source::elf::Image;
use crate::source::elf::Part;
use crate::source::elf::Read;

/// Largest table read; that of a browser engine has 20 MB.
const MAX_TABLE: u64 = 48 << 20;
/// Files remembered, also those without tables.
const MAX_FILES: usize = 2048;

/// A file's tables, with the segments that say where they belong.
#[derive(Debug)]
pub(super) struct Tables {
    image: Image,
    eh_frame: Option<(Part, Bytes)>,
    eh_frame_hdr: Option<(Part, Bytes)>,
    debug_frame: Option<Bytes>,
}

impl Tables {
    fn parse(read: Read<'_>) -> Option<Self> {
        let image = Image::parse(read).filter(|image| image.machine == MACHINE)?;
        let load = |part: Part| {
            let bytes = part.bytes(read, MAX_TABLE)?;
            Some((part, Bytes::from(bytes)))
        };
        let eh_frame = image.eh_frame(read).and_then(load);
        let header = image.eh_frame_hdr.clone().filter(|_| eh_frame.is_some());
        let debug_frame = image
            .section(".debug_frame")
            .filter(|_| eh_frame.is_none())
            .and_then(|part| load(part.clone()));
        Some(Self {
            eh_frame_hdr: header.and_then(load),
            eh_frame,
            debug_frame: debug_frame.map(|(_, bytes)| bytes),
            image,
        })
    }

    /// Bytes that it keeps.
    pub(super) fn size(&self) -> u64 {
        let parts = [&self.eh_frame, &self.eh_frame_hdr].into_iter().flatten();
        let all = parts.map(|(_, bytes)| bytes).chain(&self.debug_frame);
        all.map(|bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            .sum()
    }

    /// The address, as the file states it, of a byte of the file.
    pub(super) fn address(&self, offset: u64) -> Option<u64> {
        self.image.address(offset)
    }

    /// The lowest address that the file states.
    pub(super) fn base(&self) -> u64 {
        let lowest = self.image.loads.iter().map(|load| load.address).min();
        lowest.unwrap_or(0) & !0xfff
    }

    /// As the unwinder takes it; the bytes stay shared.
    pub(super) fn sections(&self) -> ExplicitModuleSectionInfo<Bytes> {
        let addresses = |name| self.image.section(name).map(Part::addresses);
        let range =
            |found: &Option<(Part, Bytes)>| found.as_ref().map(|(part, _)| part.addresses());
        let bytes = |found: &Option<(Part, Bytes)>| found.as_ref().map(|(_, bytes)| bytes.clone());
        ExplicitModuleSectionInfo {
            base_svma: self.base(),
            text_svma: addresses(".text"),
            got_svma: addresses(".got"),
            eh_frame_svma: range(&self.eh_frame),
            eh_frame: bytes(&self.eh_frame),
            eh_frame_hdr_svma: range(&self.eh_frame_hdr),
            eh_frame_hdr: bytes(&self.eh_frame_hdr),
            debug_frame: self.debug_frame.clone(),
            ..ExplicitModuleSectionInfo::default()
        }
    }
}

/// Which file: its build id, else device, inode and time of change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum FileKey {
    BuildId(String),
    Inode(u64, u64, i64, i64),
    Vdso,
}

impl FileKey {
    pub(super) fn of(file: &File, build_id: Option<&String>) -> Option<Self> {
        if let Some(id) = build_id {
            return Some(Self::BuildId(id.clone()));
        }
        let meta = file.metadata().ok()?;
        Some(Self::Inode(
            meta.dev(),
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
        ))
    }
}

/// Tables by file; the least used give way when their bytes are too many.
#[derive(Debug)]
pub(super) struct Store {
    known: HashMap<FileKey, (u64, Option<std::sync::Arc<Tables>>)>,
    clock: u64,
    most_bytes: u64,
}

impl Store {
    pub(super) fn new(most_bytes: u64) -> Self {
        Self {
            known: HashMap::new(),
            clock: 0,
            most_bytes,
        }
    }

    /// What is known of a file: `None` when it was never read, `Some(None)` when it has no tables.
    #[expect(clippy::option_option, reason = "not read, read without result, read")]
    pub(super) fn known(&mut self, key: &FileKey) -> Option<Option<std::sync::Arc<Tables>>> {
        self.clock += 1;
        let (used, tables) = self.known.get_mut(key)?;
        *used = self.clock;
        Some(tables.clone())
    }

    /// Reads a file and remembers it.
    pub(super) fn file(&mut self, key: FileKey, file: &File) -> Option<std::sync::Arc<Tables>> {
        let read = elf::reader(file);
        self.insert(key, Tables::parse(&read))
    }

    /// The vDSO's tables.
    pub(super) fn vdso(&mut self) -> Option<std::sync::Arc<Tables>> {
        if let Some(known) = self.known(&FileKey::Vdso) {
            return known;
        }
        let bytes = elf::vdso().unwrap_or_default();
        self.insert(FileKey::Vdso, Tables::parse(&elf::memory(&bytes)))
    }

    fn insert(&mut self, key: FileKey, tables: Option<Tables>) -> Option<std::sync::Arc<Tables>> {
        let tables = tables.map(std::sync::Arc::new);
        self.known.insert(key, (self.clock, tables.clone()));
        while self.known.len() > 1
            && (self.known.len() > MAX_FILES || self.bytes() > self.most_bytes)
        {
            let oldest = self.known.iter().min_by_key(|(_, (used, _))| *used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.known.remove(&oldest);
        }
        tables
    }

    /// Bytes of all tables that it keeps.
    pub(super) fn bytes(&self) -> u64 {
        let all = self.known.values();
        all.filter_map(|(_, tables)| tables.as_ref())
            .map(|tables| tables.size())
            .sum()
    }
}
