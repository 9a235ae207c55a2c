//! The write-ahead log: frames in a file, durable every 30 seconds.
//!
//! ```text
//! header block (4 KiB): magic, version, length, CRC32C, JSON (host, boot, fields) | frames … | zeros
//! frame: length u32 | kind u8 | CRC32C u32 of kind and payload | payload
//! ```
//!
//! The file grows by 256 KiB of zeros at a time, so that a sync changes no size and needs no journal
//! commit; a length of 0 is the end. Where the file system allows it, blocks are written with `O_DIRECT`
//! and `O_DSYNC`: what the kernel accounts is then what the device gets. Frames that are not yet synced stand
//! in a tail file on a tmpfs: they survive a kill, and a power cut costs what is there: at most the time
//! between two syncs.

mod live;

pub(super) use live::read_open;

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use bytes::BufMut as _;
use bytes::BytesMut;
use rustix::fs::FlockOperation;
use rustix::fs::flock;
use serde::Deserialize;
use serde::Serialize;

use super::error::StoreError;
use super::error::io_error;
use super::place;
use super::tick::Layout;
use crate::model::Host;

/// Kinds of frames that are looked for behind damage: ticks and events.
const KINDS: [u8; 2] = [1, 2];
/// First bytes of a file.
const MAGIC: [u8; 8] = *b"AIOPSWAL";
/// Version of the format.
pub(super) const VERSION: u16 = 1;
/// A device's block, and the header's size.
const BLOCK: usize = 4096;
/// The file grows by this.
const STEP: u64 = 256 << 10;
/// Bytes before a frame's payload.
const FRAME: usize = 9;
/// Most bytes of a frame: a host with 30,000 processes has 3 MB in a key frame.
const MOST: usize = 32 << 20;

/// End of the name of a log that is being created.
pub(super) const NEW: &str = "new";

/// Most bytes that wait for a disk that takes nothing: then they are given up, so that memory stays bounded.
const MOST_WAITING: usize = if cfg!(test) { 64 << 10 } else { 8 << 20 };

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    /// Identifies the file: segments name the logs that they hold.
    id: String,
    /// Version of aiops.
    version: String,
    /// The observed host.
    host: Host,
    /// Names of the fields.
    layout: Layout,
}

/// How a log is written.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// The file.
    pub path: PathBuf,
    /// Where frames stand until they are synced, on a tmpfs; `None`: in the file at once, buffered.
    pub tail: Option<PathBuf>,
    /// Identifies the file.
    pub id: String,
    /// The observed host.
    pub host: Host,
}

/// Writes frames.
#[derive(Debug)]
pub struct WalWriter {
    path: PathBuf,
    file: File,
    direct: bool,
    tail: Option<(PathBuf, File)>,
    /// Bytes of the file that are written and synced, up to the last whole block.
    synced: u64,
    /// What stands behind them: the begun block, and frames that are not synced.
    pending: BytesMut,
    /// Bytes of `pending` that are synced.
    clean: usize,
    /// Frames that stand in memory only: neither in the tail nor in the log.
    untold: u64,
    /// Up to where a write that failed may have left bytes: the next one writes as far, zeros where nothing is.
    tried: u64,
    /// Size of the file.
    size: u64,
    /// A buffer at a block's boundary, for `O_DIRECT`.
    aligned: Vec<u8>,
}

impl WalWriter {
    /// Creates the file, 0600, and syncs its header. Until it is whole and locked it has another name ([`NEW`]): who
    /// compacts never finds an empty log that nobody seems to write.
    ///
    /// # Errors
    /// It exists, or the system refuses.
    pub fn create(options: &WalOptions) -> Result<Self, StoreError> {
        let (path, new) = (&options.path, options.path.with_extension(NEW));
        if path.symlink_metadata().is_ok() {
            let error = io::ErrorKind::AlreadyExists.into();
            return Err(io_error(path, "create the log")(error));
        }
        Self::try_create(options, &new).inspect_err(|_| {
            // Half a log would be reported as damage for ever.
            let _ = std::fs::remove_file(&new);
            let _ = std::fs::remove_file(path);
            let _ = options.tail.as_ref().map(std::fs::remove_file);
        })
    }

    fn try_create(options: &WalOptions, new: &Path) -> Result<Self, StoreError> {
        let path = &options.path;
        let (file, direct) = open(new).map_err(io_error(path, "create the log"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| io_error(path, "lock")(error.into()))?;
        let mut writer = Self {
            path: path.clone(),
            file,
            direct,
            tail: None,
            synced: 0,
            pending: BytesMut::new(),
            clean: 0,
            untold: 0,
            tried: 0,
            size: 0,
            aligned: Vec::new(),
        };
        let header = Header {
            id: options.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: options.host.clone(),
            layout: Layout::own(),
        };
        writer.pending = header_block(&header, path)?;
        writer.sync()?;
        std::fs::rename(new, path).map_err(io_error(path, "create the log"))?;
        // A tail without a log is swept away: it comes second.
        if let Some(tail) = &options.tail {
            let file = private(tail).map_err(io_error(tail, "create the tail"))?;
            writer.tail = Some((tail.clone(), file));
        }
        // Its name must be durable, too.
        if let Some(folder) = path.parent() {
            let sync = || File::open(folder)?.sync_all();
            sync().map_err(io_error(folder, "sync"))?;
        }
        Ok(writer)
    }

    /// Whether blocks go around the page cache.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// Bytes in the file and waiting.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.synced + self.pending.len() as u64
    }

    /// Whether it holds no frame yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() <= BLOCK as u64
    }

    /// Appends a frame: from now on it survives a kill, from the next sync on a power cut. `Some`: it was taken and
    /// waits, but neither its tail nor the log could be written.
    ///
    /// # Errors
    /// The frame is too large: it was not taken.
    pub fn push(&mut self, kind: u8, payload: &[u8]) -> Result<Option<StoreError>, StoreError> {
        if payload.len() > MOST {
            let error = io::Error::new(io::ErrorKind::FileTooLarge, "the frame is too large");
            return Err(io_error(&self.path, "append")(error));
        }
        let begin = self.pending.len();
        put_frame(kind, payload, &mut self.pending);
        let place = self.synced + begin as u64;
        // The first frame of a tail comes behind its own place in the log.
        let first = begin == self.clean;
        let kept = match &mut self.tail {
            Some((_, tail)) => {
                let mut bytes = Vec::new();
                if first {
                    bytes.extend_from_slice(&place.to_le_bytes());
                }
                bytes.extend_from_slice(&self.pending[begin..]);
                tail.write_all(&bytes).is_ok()
            }
            None => false,
        };
        if kept {
            return Ok(None);
        }
        self.untold += 1;
        Ok(self.sync().err())
    }

    /// Frames that are lost when this ends now: neither their tail nor the log could be written.
    pub(super) fn untold(&self) -> u64 {
        self.untold
    }

    /// Gives up the frames that wait when there are too many of them and the disk still takes none; returns how
    /// many. The next frame must be a key frame then. Those of the kind `keep` go on waiting, up to half of the room.
    pub fn relieve(&mut self, keep: u8) -> u64 {
        if self.pending.len() - self.clean < MOST_WAITING || self.sync().is_ok() {
            return 0;
        }
        let waiting = self.pending.split_off(self.clean);
        self.untold = 0;
        if let Some((_, tail)) = &mut self.tail {
            // A tail that cannot be emptied repeats frames that are gone: they are whole, and may stay.
            let _ = tail.set_len(0).and_then(|()| io::Seek::rewind(tail));
        }
        let (mut at, mut given_up) = (0, 0);
        while let Some((kind, payload, len)) = frame(&waiting[at..]) {
            let room = self.pending.len() - self.clean + len <= MOST_WAITING / 2;
            if kind != keep || !room || self.push(kind, payload).is_err() {
                given_up += 1;
            }
            at += len;
        }
        given_up
    }

    /// Makes every frame durable.
    ///
    /// # Errors
    /// The system refuses: the frames stay, and the next sync tries again.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.clean == self.pending.len() {
            return Ok(());
        }
        self.write()
            .map_err(io_error(&self.path, "write the log"))?;
        let whole = self.pending.len() / BLOCK * BLOCK;
        let _written = self.pending.split_to(whole);
        self.synced += whole as u64;
        self.clean = self.pending.len();
        self.untold = 0;
        if let Some((path, tail)) = &mut self.tail {
            // The tail only repeats what is durable now.
            tail.set_len(0)
                .and_then(|()| io::Seek::rewind(tail))
                .map_err(io_error(path, "empty the tail"))?;
        }
        Ok(())
    }

    /// Writes the blocks that changed; the last one is filled with zeros, which are the end.
    fn write(&mut self) -> io::Result<()> {
        let end = self.synced + self.pending.len() as u64;
        // One block more than needed: the end must be zeros on the device, too.
        while self.size < end + BLOCK as u64 {
            self.grow()?;
        }
        let first = self.clean / BLOCK * BLOCK;
        let place = self.synced + first as u64;
        let needed = self.pending[first..].len().div_ceil(BLOCK) * BLOCK;
        let before = usize::try_from(self.tried.saturating_sub(place)).unwrap_or(0);
        let blocks = needed.max(before);
        self.tried = place + blocks as u64;
        let skip = aligned(&mut self.aligned, blocks);
        let buffer = &mut self.aligned[skip..skip + blocks];
        let data = &self.pending[first..];
        buffer[..data.len()].copy_from_slice(data);
        buffer[data.len()..].fill(0);
        self.file.write_all_at(buffer, place)?;
        if !self.direct {
            self.file.sync_data()?;
        }
        self.tried = 0;
        Ok(())
    }

    /// Makes the file longer by zeros that are really there, not a hole.
    fn grow(&mut self) -> io::Result<()> {
        let step = STEP as usize;
        let skip = aligned(&mut self.aligned, step);
        let buffer = &mut self.aligned[skip..skip + step];
        buffer.fill(0);
        self.file.write_all_at(buffer, self.size)?;
        self.file.sync_all()?;
        self.size += STEP;
        self.aligned = Vec::new();
        Ok(())
    }

    /// Whether somebody removed the log or its tail: what is written there now is lost when we end.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let files = [Some(&self.file), self.tail.as_ref().map(|(_, file)| file)];
        let mut files = files.into_iter().flatten();
        files.any(|file| file.metadata().is_ok_and(|meta| meta.nlink() == 0))
    }

    /// Syncs, and gives back what was never used.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.sync()?;
        let end = self.len().div_ceil(BLOCK as u64) * BLOCK as u64;
        let cut = || -> io::Result<()> {
            self.file.set_len(end)?;
            self.file.sync_all()
        };
        cut().map_err(io_error(&self.path, "close the log"))?;
        if let Some((path, _)) = &self.tail {
            std::fs::remove_file(path).map_err(io_error(path, "remove the tail"))?;
        }
        Ok(())
    }
}

/// Makes room for `len` bytes at a block's boundary; returns where that is.
fn aligned(buffer: &mut Vec<u8>, len: usize) -> usize {
    if buffer.len() < len + BLOCK {
        *buffer = vec![0; len + BLOCK];
    }
    buffer.as_ptr().align_offset(BLOCK)
}

fn private(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

/// Opens the file; around the page cache where its file system can do that.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let with = |flags: i32, new: bool| {
        File::options()
            .read(true)
            .write(true)
            .create_new(new)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | flags)
            .open(path)
    };
    let plain = with(0, true)?;
    match with(libc::O_DIRECT | libc::O_DSYNC, false) {
        Ok(file) => {
            // Some file systems take the flag and refuse the write.
            let mut buffer = Vec::new();
            let skip = aligned(&mut buffer, BLOCK);
            match file.write_all_at(&buffer[skip..skip + BLOCK], 0) {
                Ok(()) => Ok((file, true)),
                Err(_) => Ok((plain, false)),
            }
        }
        Err(_) => Ok((plain, false)),
    }
}

fn checksum(kind: u8, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload)
}

fn put_frame(kind: u8, payload: &[u8], out: &mut BytesMut) {
    // One more, so that an empty payload is not the end.
    out.put_u32_le(payload.len() as u32 + 1);
    out.put_u8(kind);
    out.put_u32_le(checksum(kind, payload));
    out.put_slice(payload);
}

fn header_block(header: &Header, path: &Path) -> Result<BytesMut, StoreError> {
    let json = serde_json::to_vec(header)
        .map_err(|error| io_error(path, "write its header")(error.into()))?;
    let mut block = BytesMut::with_capacity(2 * BLOCK);
    block.put_slice(&MAGIC);
    block.put_u16_le(VERSION);
    block.put_u32_le(json.len() as u32);
    block.put_u32_le(crc32c::crc32c(&json));
    block.put_slice(&json);
    let whole = block.len().div_ceil(BLOCK) * BLOCK;
    block.resize(whole, 0);
    Ok(block)
}

/// What was read of a log.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Identifies the file.
    pub id: String,
    /// The observed host.
    pub host: Host,
    /// Kinds and payloads, in order.
    pub frames: Vec<(u8, Vec<u8>)>,
    /// Frames behind which some are missing: indices into `frames`.
    pub gaps: Vec<usize>,
    /// Bytes that made no sense.
    pub lost_bytes: u64,
    layout: Option<Layout>,
    /// Damage reaches an end: a writer may be at work there.
    torn: bool,
}

impl Recovered {
    /// A decoder for its frames.
    #[must_use]
    pub fn decoder(&self) -> super::Decoder {
        match &self.layout {
            Some(layout) => super::Decoder::new(layout),
            None => super::Decoder::own(),
        }
    }
}

/// Reads a log and its tail, whatever is left of them.
///
/// # Errors
/// The file cannot be read, or its header makes no sense.
pub fn read_wal(path: &Path, tail: Option<&Path>) -> Result<Recovered, StoreError> {
    let log = place::open(path).map_err(io_error(path, "read the log"))?;
    let tail = tail.and_then(|tail| place::open(tail).ok());
    read_open(path, &log, tail.as_ref())
}

/// What a log and its tail say together.
fn assemble(path: &Path, bytes: &[u8], tail: &[u8]) -> Result<Recovered, StoreError> {
    let (header, whole) = parse_header(bytes, path)?;
    let begin = whole.min(bytes.len());
    let mut found = Recovered {
        id: header.id,
        host: header.host,
        layout: Some(header.layout),
        // A log was never shorter than its header.
        lost_bytes: (whole - begin) as u64,
        ..Recovered::default()
    };
    let end = begin + frames(&bytes[begin..], &mut found);
    if let Some((place, rest)) = tail.split_first_chunk() {
        // A kill between the sync and the emptying leaves frames in both.
        let place = u64::from_le_bytes(*place);
        let known = usize::try_from((end as u64).saturating_sub(place));
        let known = known.unwrap_or(usize::MAX).min(rest.len());
        if place > end as u64 {
            found.gaps.push(found.frames.len());
            found.torn = true;
        }
        frames(&rest[known..], &mut found);
    }
    Ok(found)
}

fn parse_header(bytes: &[u8], path: &Path) -> Result<(Header, usize), StoreError> {
    let damaged = || StoreError::NotALog {
        path: path.to_path_buf(),
    };
    let word = |at: usize| -> Option<u32> {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if !bytes.starts_with(&MAGIC) {
        return Err(damaged());
    }
    let version = bytes.get(8..10).ok_or_else(damaged)?;
    let version = u16::from_le_bytes([version[0], version[1]]);
    if version > VERSION {
        return Err(StoreError::TooNew {
            path: path.to_path_buf(),
            found: version,
        });
    }
    let len = word(10).ok_or_else(damaged)? as usize;
    let json = bytes
        .get(18..18_usize.saturating_add(len))
        .ok_or_else(damaged)?;
    if word(14) != Some(crc32c::crc32c(json)) {
        return Err(damaged());
    }
    let header = serde_json::from_slice(json).map_err(|_| damaged())?;
    Ok((header, (18 + len).div_ceil(BLOCK) * BLOCK))
}

/// The frame at the beginning of `bytes`, and its length.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let len = len.checked_sub(1).filter(|len| *len <= MOST)?;
    let kind = *bytes.get(4)?;
    let sum = u32::from_le_bytes(bytes.get(5..9)?.try_into().ok()?);
    let payload = bytes.get(FRAME..FRAME + len)?;
    (checksum(kind, payload) == sum).then_some((kind, payload, FRAME + len))
}

/// Whether a frame may begin here: of a kind that is known, so that a checksum of megabytes is not made at every byte.
fn may_begin(bytes: &[u8]) -> bool {
    bytes.get(4).is_some_and(|kind| KINDS.contains(kind))
}

/// Every whole frame; returns where the last one ends. Behind damage the next one is searched for byte by
/// byte.
fn frames(bytes: &[u8], found: &mut Recovered) -> usize {
    let (mut at, mut end) = (0, 0);
    while at < bytes.len() {
        if let Some((kind, payload, len)) = frame(&bytes[at..]) {
            found.frames.push((kind, payload.to_vec()));
            at += len;
            end = at;
            continue;
        }
        // Zeros to the end are the end.
        if bytes[at..].iter().all(|byte| *byte == 0) {
            return end;
        }
        let begins = |at: &usize| may_begin(&bytes[*at..]) && frame(&bytes[*at..]).is_some();
        let next = (at + 1..bytes.len()).find(begins);
        found.gaps.push(found.frames.len());
        found.torn |= next.is_none();
        // Zeros behind the last frame were never anything else.
        let used = || bytes.iter().rposition(|byte| *byte != 0);
        let lost = next.or_else(|| used().map(|last| last + 1));
        found.lost_bytes += lost.unwrap_or(at).saturating_sub(at) as u64;
        at = next.unwrap_or(bytes.len());
    }
    end
}

#[cfg(test)]
#[path = "wal_tests.rs"]
mod tests;
