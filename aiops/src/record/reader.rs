//! Reads a recording, whole or damaged, block by block.
//!
//! A block counts only when both of its checksums hold. Where none is found, the reader goes on to
//! the next sync marker and says how much it passed over.

use std::fs::FileType;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Buf;
use bytes::BytesMut;

use crate::model::Item;

use super::batch;
use super::batch::Bodies;
use super::error::RecordError;
use super::format;
use super::format::BlockHeader;
use super::format::FileHeader;
use super::format::Found;
use super::schema::Budget;
use super::tables;
use super::wire::Malformed;

/// How much is read at once.
const CHUNK: usize = 256 << 10;
/// How far into a file whose header is not ours a block is looked for.
const PROBE: usize = 64 << 10;

/// What could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Blocks of items that were read.
    pub blocks_read: u64,
    /// Places where something is missing, broken or foreign.
    pub places: u64,
    /// Bytes at these places that were passed over.
    pub lost_bytes: u64,
    /// The end is missing: the writer was killed, or the file was cut.
    pub truncated: bool,
    /// Items of kinds and values that only a later version knows.
    pub unknown_items: u64,
    /// Items that the writer could not write (full disk, too large), as it says at the end.
    pub dropped: u64,
    /// Why reading stopped before the end.
    pub read_error: Option<String>,
}

impl Damage {
    /// Whether everything that was recorded was read.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let whole = Self {
            blocks_read: self.blocks_read,
            ..Self::default()
        };
        *self == whole
    }
}

/// A recording being read: an iterator of its items. [`Reader::damage`] is complete after the last one.
pub struct Reader {
    input: Box<dyn Read + Send>,
    window: BytesMut,
    at_end: bool,
    header: FileHeader,
    damage: Damage,
    /// Within a place of damage.
    in_damage: bool,
    next_seq: u32,
    zstd: zstd::bulk::Decompressor<'static>,
    unpacked: Vec<u8>,
    items: std::vec::IntoIter<Item>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("header", &self.header)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a recording: a regular file, for a pipe would be waited for without end.
    ///
    /// # Errors
    /// [`RecordError::Io`], [`RecordError::NotRegular`], [`RecordError::NotARecording`],
    /// [`RecordError::TooNew`].
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let io = |what| {
            move |source| RecordError::Io {
                path: path.into(),
                what,
                source,
            }
        };
        let mut open = OpenOptions::new();
        open.read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = open.open(path).map_err(io("open"))?;
        let kind = file.metadata().map_err(io("open"))?.file_type();
        if !kind.is_file() {
            return Err(RecordError::NotRegular {
                path: path.into(),
                what: called(kind),
                reading: true,
            });
        }
        Self::new(Box::new(file), path)
    }

    pub(super) fn new(input: Box<dyn Read + Send>, path: &Path) -> Result<Self, RecordError> {
        let mut reader = Self {
            input,
            window: BytesMut::new(),
            at_end: false,
            header: FileHeader::default(),
            damage: Damage {
                truncated: true,
                ..Damage::default()
            },
            in_damage: false,
            next_seq: 0,
            zstd: zstd::bulk::Decompressor::new().map_err(|source| RecordError::Io {
                path: path.into(),
                what: "read",
                source,
            })?,
            unpacked: Vec::new(),
            items: Vec::new().into_iter(),
        };
        reader.read_header(path)?;
        Ok(reader)
    }

    /// What the file header says; empty when it is damaged.
    #[must_use]
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// What could not be read so far.
    #[must_use]
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    fn read_header(&mut self, path: &Path) -> Result<(), RecordError> {
        self.fill(format::FILE_HEADER);
        if let (Some(error), true) = (&self.damage.read_error, self.window.is_empty()) {
            let source = std::io::Error::other(error.clone());
            return Err(RecordError::Io {
                path: path.into(),
                what: "read",
                source,
            });
        }
        if let Some(header) = self.window.first_chunk().and_then(FileHeader::decode) {
            if header.version > format::VERSION {
                return Err(RecordError::TooNew {
                    path: path.into(),
                    found: header.version,
                });
            }
            self.header = header;
            self.window.advance(format::FILE_HEADER);
            return Ok(());
        }
        let beginning = self.window.len().min(format::MAGIC.len());
        let ours = beginning > 0 && self.window[..beginning] == format::MAGIC[..beginning];
        if ours || self.holds_a_block() {
            return Ok(());
        }
        Err(RecordError::NotARecording {
            path: path.into(),
            empty: self.window.is_empty(),
        })
    }

    fn holds_a_block(&mut self) -> bool {
        self.fill(PROBE);
        let places = 0..self.window.len().min(PROBE);
        places.into_iter().any(|at| {
            self.window[at..].starts_with(&format::SYNC)
                && matches!(BlockHeader::find(&self.window[at..]), Found::Header(_))
        })
    }

    /// Reads until `len` bytes are in the window; whether they are.
    fn fill(&mut self, len: usize) -> bool {
        while self.window.len() < len && !self.at_end {
            let start = self.window.len();
            self.window.resize(start + CHUNK, 0);
            let read = loop {
                match self.input.read(&mut self.window[start..]) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.damage.read_error = Some(error.to_string());
                        break 0;
                    }
                    Ok(read) => break read,
                }
            };
            self.window.truncate(start + read);
            self.at_end = read == 0;
        }
        self.window.len() >= len
    }

    /// Passes over bytes that belong to no block.
    fn lose(&mut self, len: usize) {
        if !self.in_damage {
            self.damage.places += 1;
            self.in_damage = true;
        }
        self.damage.lost_bytes += len as u64;
        self.window.advance(len);
    }

    /// Finds the next block whose checksums hold. It begins at the window's first byte.
    fn next_block(&mut self) -> Option<BlockHeader> {
        loop {
            self.fill(format::BLOCK_HEADER);
            if self.window.is_empty() {
                return None;
            }
            match self.block_here() {
                Some(header) => return Some(header),
                None => self.seek_sync(),
            }
        }
    }

    fn block_here(&mut self) -> Option<BlockHeader> {
        let header = match BlockHeader::find(&self.window) {
            Found::Need(len) if self.fill(len) => match BlockHeader::find(&self.window) {
                Found::Header(header) => header,
                _ => return None,
            },
            Found::Header(header) => header,
            _ => return None,
        };
        if !self.fill(header.len + header.stored_len) {
            return None;
        }
        let payload = &self.window[header.len..header.len + header.stored_len];
        (crc32c::crc32c(payload) == header.payload_crc).then_some(header)
    }

    /// Passes over at least one byte, up to what may be the next sync marker.
    fn seek_sync(&mut self) {
        let markers = self.window[1..].windows(format::SYNC.len());
        let found = markers.into_iter().position(|bytes| bytes == format::SYNC);
        let len = match found {
            Some(at) => at + 1,
            // The marker may begin in the last bytes.
            None if self.at_end => self.window.len(),
            None => self
                .window
                .len()
                .saturating_sub(format::SYNC.len() - 1)
                .max(1),
        };
        self.lose(len);
    }

    /// Reads the next block; `false` at the end of the file.
    fn advance(&mut self) -> bool {
        let Some(header) = self.next_block() else {
            return false;
        };
        let len = header.len + header.stored_len;
        if header.seq < self.next_seq {
            // A copy of an earlier block, or of another recording's.
            self.lose(len);
            return true;
        }
        if header.seq > self.next_seq && !self.in_damage {
            self.damage.places += 1;
        }
        self.next_seq = header.seq.saturating_add(1);
        self.in_damage = false;
        match self.read_block(&header) {
            Ok(()) => self.window.advance(len),
            Err(Malformed(_)) => self.lose(len),
        }
        true
    }

    fn read_block(&mut self, header: &BlockHeader) -> Result<(), Malformed> {
        let stored = &self.window[header.len..header.len + header.stored_len];
        let payload = match header.codec {
            format::CODEC_NONE => stored,
            format::CODEC_ZSTD => {
                // The vector's capacity is the limit that the decoder keeps.
                self.unpacked.clear();
                self.unpacked.reserve(header.raw_len);
                let done = self.zstd.decompress_to_buffer(stored, &mut self.unpacked);
                if done.ok() != Some(header.raw_len) {
                    return Err(Malformed("zstd"));
                }
                &self.unpacked[..]
            }
            _ => return Err(Malformed("unknown codec")),
        };
        match header.kind {
            format::TYPE_ITEMS => {
                let unpacked = batch::unpack(payload)?;
                self.damage.unknown_items += unpacked.unknown;
                self.damage.blocks_read += 1;
                self.items = unpacked.items.into_iter();
            }
            format::TYPE_INDEX => {
                let mut totals =
                    Bodies::read(payload)?.rows(&tables::TOTALS, &mut Budget::new())?;
                self.damage.dropped = totals.next().flatten().map_or(0, |totals| totals.dropped);
            }
            format::TYPE_END => {
                self.damage.truncated = false;
            }
            _ => {}
        }
        Ok(())
    }
}

/// What stands in the place of a file.
pub(super) fn called(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_symlink() => "a symlink",
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

impl Iterator for Reader {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(item);
            }
            if !self.advance() {
                return None;
            }
        }
    }
}
