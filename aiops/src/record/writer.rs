//! Writes a recording as it goes: at most 250 ms of items are not in the file yet.
//!
//! Each block goes out in one write, so a killed writer leaves whole blocks and at most one cut one. A
//! write that fails (full disk) is told once; the file is cut back to its last whole block and what
//! comes later is counted as dropped.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use bytes::BufMut;
use bytes::BytesMut;

use crate::model::EventKind;
use crate::model::Item;

use super::batch::Batch;
use super::error::RecordError;
use super::format;
use super::format::BlockHeader;
use super::format::FileHeader;
use super::reader::called;
use super::schema::Table;
use super::tables;
use super::tables::IndexRow;
use super::tables::Totals;

/// Longest time that an item waits for its block.
const FLUSH_AFTER: Duration = Duration::from_millis(250);
/// Most items of a block.
const FLUSH_ITEMS: usize = 16 << 10;
/// About the most memory of a block.
const FLUSH_BYTES: usize = 1 << 20;
/// Least time between two `fdatasync`.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Rows of the index; beyond that neighbours are merged, so that memory stays bounded.
const INDEX_ROWS: usize = 8 << 10;
/// 1 is the level whose speed was measured to be worth it.
const ZSTD_LEVEL: i32 = 1;

/// Whether items still reach the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriterState {
    /// They do.
    Writing,
    /// A write failed: the file ends with its last whole block, later items are dropped.
    Stopped {
        /// Why.
        reason: String,
    },
}

/// What a finished recording holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Items in the file.
    pub items: u64,
    /// Blocks of items.
    pub blocks: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Items that are not in the file.
    pub dropped: u64,
}

/// A recording being written.
pub struct Writer {
    file: File,
    path: PathBuf,
    header: FileHeader,
    header_stale: bool,
    batch: Batch,
    since: Option<Instant>,
    state: WriterState,
    written: Written,
    seq: u32,
    index: Vec<IndexRow>,
    sync_wanted: bool,
    synced: Option<Instant>,
    zstd: zstd::bulk::Compressor<'static>,
    raw: BytesMut,
    packed: Vec<u8>,
    out: BytesMut,
    closed: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.path)
            .field("state", &self.state)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Creates the file with mode 0600. A file that is there is refused, or replaced with `force` when
    /// it is a recording or empty; a symlink at `path` is never followed. On failure no file is left.
    ///
    /// # Errors
    /// [`RecordError::Exists`], [`RecordError::NotRegular`], [`RecordError::NotReplaced`],
    /// [`RecordError::Stdout`], [`RecordError::Io`].
    pub fn create(path: &Path, force: bool) -> Result<Self, RecordError> {
        let io = |source| RecordError::Io {
            path: path.into(),
            what: "create",
            source,
        };
        if path == Path::new("-") {
            return Err(RecordError::Stdout);
        }
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(io)?;
        make_room(path, force)?;
        let mut open = OpenOptions::new();
        open.write(true).create_new(true).mode(0o600);
        open.custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let file = open.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RecordError::Exists { path: path.into() },
            _ => io(error),
        })?;
        let mut writer = Self {
            file,
            path: path.into(),
            header: FileHeader::default(),
            header_stale: false,
            batch: Batch::new(),
            since: None,
            state: WriterState::Writing,
            written: Written::default(),
            seq: 0,
            index: Vec::new(),
            sync_wanted: false,
            synced: None,
            zstd,
            raw: BytesMut::new(),
            packed: Vec::new(),
            out: BytesMut::new(),
            closed: false,
        };
        let header = writer.header.encode();
        if let Err(error) = writer.file.write_all(&header) {
            // Nothing was recorded: there is nothing to close, and an empty file would only stand in the way.
            writer.closed = true;
            let _ = std::fs::remove_file(path);
            return Err(io(error));
        }
        writer.written.bytes = header.len() as u64;
        Ok(writer)
    }

    /// Takes an item. A kill (`Mark`) is in the file when this returns.
    ///
    /// # Errors
    /// The first failed write; afterwards items are counted in [`Self::dropped`] and nothing fails.
    pub fn push(&mut self, item: &Item) -> Result<(), RecordError> {
        if self.state != WriterState::Writing {
            self.written.dropped += 1;
            return Ok(());
        }
        if self.batch.must_flush_before(item) {
            self.flush()?;
        }
        if self.batch.push(item).is_err() {
            self.written.dropped += 1;
            return Ok(());
        }
        self.note_header(item);
        self.since.get_or_insert_with(Instant::now);
        let mark = matches!(item, Item::Event(event) if matches!(event.kind, EventKind::Mark(_)));
        self.sync_wanted |= mark;
        let full = self.batch.items() >= FLUSH_ITEMS || self.batch.bytes() >= FLUSH_BYTES;
        if mark || full {
            self.flush()
        } else {
            self.tick()
        }
    }

    /// Writes what has waited long enough; to be called a few times per second.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn tick(&mut self) -> Result<(), RecordError> {
        match self.since {
            Some(since) if since.elapsed() >= FLUSH_AFTER => self.flush(),
            _ if self.sync_wanted => self.sync(),
            _ => Ok(()),
        }
    }

    /// Whether items still reach the file.
    #[must_use]
    pub fn state(&self) -> &WriterState {
        &self.state
    }

    /// Items that are not in the file: too large, or after a failed write.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.written.dropped
    }

    /// Writes what waits, the index and the end.
    ///
    /// # Errors
    /// A failed write, unless [`Self::push`] or [`Self::tick`] have told it already.
    pub fn finish(mut self) -> Result<Written, RecordError> {
        self.close()
    }

    /// As [`Self::finish`]; [`Self::dropped`] can be asked for afterwards.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn close(&mut self) -> Result<Written, RecordError> {
        if self.closed {
            return Ok(self.written);
        }
        self.closed = true;
        let told = self.state != WriterState::Writing;
        let done = self.flush().and_then(|()| self.write_footer());
        match done {
            Err(error) if !told => Err(error),
            _ => Ok(self.written),
        }
    }

    /// What the first items say about the host goes into the file header, once.
    fn note_header(&mut self, item: &Item) {
        match item {
            Item::Session(session) if self.written.blocks == 0 => {
                let host = &session.host;
                self.header.boot_id = host.boot_id.as_deref().and_then(format::parse_boot_id);
                self.header.page_size = host.page_size.and_then(|size| size.try_into().ok());
                self.header_stale = true;
            }
            Item::Clock(clock) if self.header.clock.is_none() => {
                self.header.clock = Some(*clock);
                self.header_stale = true;
            }
            _ => {}
        }
    }

    fn flush(&mut self) -> Result<(), RecordError> {
        self.since = None;
        if self.batch.items() == 0 {
            return self.sync();
        }
        let items = self.batch.items() as u64;
        let (first_ts, last_ts) = self.batch.span();
        let row = IndexRow {
            offset: self.written.bytes,
            blocks: 1,
            first_ts,
            last_ts,
            items,
            kinds: self.batch.kinds(),
        };
        self.raw.clear();
        self.batch.encode(&mut self.raw);
        let header = BlockHeader {
            kind: format::TYPE_ITEMS,
            first_ts,
            last_ts,
            count: u32::try_from(items).unwrap_or(u32::MAX),
            ..BlockHeader::default()
        };
        if self.raw.len() > format::PAYLOAD_MAX {
            self.written.dropped += items;
            return Ok(());
        }
        if let Err(error) = self.write_block(header) {
            self.written.dropped += items;
            return Err(error);
        }
        self.written.items += items;
        self.written.blocks += 1;
        self.note_block(row);
        self.sync()
    }

    fn note_block(&mut self, row: IndexRow) {
        self.index.push(row);
        if self.index.len() < INDEX_ROWS {
            return;
        }
        let merged = self.index.chunks(2).map(|pair| {
            pair.iter().skip(1).fold(pair[0], |one, next| IndexRow {
                blocks: one.blocks + next.blocks,
                first_ts: one.first_ts.min(next.first_ts),
                last_ts: one.last_ts.max(next.last_ts),
                items: one.items + next.items,
                kinds: one.kinds | next.kinds,
                ..one
            })
        });
        self.index = merged.collect();
    }

    fn write_footer(&mut self) -> Result<(), RecordError> {
        let offset = self.written.bytes;
        let mut index = Table::new(&tables::INDEX);
        for row in &self.index {
            index.push(row);
        }
        let mut totals = Table::new(&tables::TOTALS);
        totals.push(&Totals {
            items: self.written.items,
            dropped: self.written.dropped,
        });
        self.raw.clear();
        totals.encode(&mut self.raw);
        index.encode(&mut self.raw);
        let first_ts = self.index.iter().map(|row| row.first_ts).min();
        let last_ts = self.index.iter().map(|row| row.last_ts).max();
        self.write_block(BlockHeader {
            kind: format::TYPE_INDEX,
            first_ts: first_ts.unwrap_or(0),
            last_ts: last_ts.unwrap_or(0),
            ..BlockHeader::default()
        })?;
        self.raw.clear();
        self.raw.put_u64_le(offset);
        self.write_block(BlockHeader {
            kind: format::TYPE_END,
            ..BlockHeader::default()
        })?;
        self.sync_wanted = true;
        self.synced = None;
        self.sync()
    }

    /// Packs `raw` and writes it behind its header.
    fn write_block(&mut self, header: BlockHeader) -> Result<(), RecordError> {
        self.packed.clear();
        self.packed
            .reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
        let packed = self.zstd.compress_to_buffer(&self.raw, &mut self.packed);
        let (codec, payload) = match packed {
            Ok(len) if len < self.raw.len() => (format::CODEC_ZSTD, &self.packed[..]),
            _ => (format::CODEC_NONE, &self.raw[..]),
        };
        let header = BlockHeader {
            codec,
            raw_len: self.raw.len(),
            stored_len: payload.len(),
            seq: self.seq,
            payload_crc: crc32c::crc32c(payload),
            ..header
        };
        self.out.clear();
        header.encode(&mut self.out);
        self.out.put_slice(payload);
        if self.header_stale {
            self.header_stale = false;
            let done = self.file.write_all_at(&self.header.encode(), 0);
            done.map_err(|error| self.stop(error))?;
        }
        let done = self.file.write_all(&self.out);
        done.map_err(|error| self.stop(error))?;
        self.seq += 1;
        self.written.bytes += self.out.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), RecordError> {
        let due = self
            .synced
            .is_none_or(|synced| synced.elapsed() >= SYNC_EVERY);
        if !self.sync_wanted || !due {
            return Ok(());
        }
        self.sync_wanted = false;
        self.synced = Some(Instant::now());
        match self.file.sync_data() {
            // Some file systems cannot sync; the data is as safe there as it can be.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(self.stop(error)),
            _ => Ok(()),
        }
    }

    /// Cuts the file back to its last whole block; from now on items are dropped.
    fn stop(&mut self, source: io::Error) -> RecordError {
        // Should cutting fail too, readers still find every whole block.
        let _ = self.file.set_len(self.written.bytes);
        let _ = self.file.seek(SeekFrom::Start(self.written.bytes));
        self.state = WriterState::Stopped {
            reason: source.to_string(),
        };
        RecordError::Io {
            path: self.path.clone(),
            what: "write",
            source,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody is left to hear of an error.
        let _ = self.close();
    }
}

/// Takes away what `force` may replace; refuses everything that is not to be written over.
fn make_room(path: &Path, force: bool) -> Result<(), RecordError> {
    let Ok(there) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    let kind = there.file_type();
    let not_regular = |what| {
        Err(RecordError::NotRegular {
            path: path.into(),
            what,
            reading: false,
        })
    };
    if !kind.is_file() {
        return not_regular(called(kind));
    }
    if !force {
        return Err(RecordError::Exists { path: path.into() });
    }
    if there.len() > 0 && !is_ours(path)? {
        return Err(RecordError::NotReplaced { path: path.into() });
    }
    // Removing the name follows nothing, and other names of the old file keep their content.
    std::fs::remove_file(path).map_err(|source| RecordError::Io {
        path: path.into(),
        what: "replace",
        source,
    })
}

/// Whether a file begins as recordings do.
fn is_ours(path: &Path) -> Result<bool, RecordError> {
    let mut open = OpenOptions::new();
    open.read(true);
    open.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let mut beginning = [0; format::MAGIC.len()];
    let read = open
        .open(path)
        .and_then(|file| file.read_at(&mut beginning, 0));
    match read {
        Ok(len) => Ok(beginning[..len] == format::MAGIC),
        Err(source) => Err(RecordError::Io {
            path: path.into(),
            what: "open",
            source,
        }),
    }
}
