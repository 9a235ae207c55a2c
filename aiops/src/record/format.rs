//! The fixed parts of a recording: file header and block header. All numbers are little-endian.
//!
//! Compatibility: [`VERSION`] rises only when an old reader could misread a file. Additions (types of
//! blocks, tables, columns, values, bytes at the end of a block header) do not raise it: readers skip
//! what they do not know. The 64 bytes of the file header keep their meaning in every version.

use bytes::Buf;
use bytes::BufMut;
use bytes::BytesMut;

use crate::model::ClockPair;

/// First bytes of every recording.
pub(super) const MAGIC: [u8; 8] = *b"AITRACE1";
/// Newest version of the format that this reader knows, and the one that the writer writes.
pub(super) const VERSION: u16 = 1;
/// Length of the file header.
pub(super) const FILE_HEADER: usize = 64;

/// First bytes of every block header. Not UTF-8, so no text holds it.
pub(super) const SYNC: [u8; 4] = [0xA1, 0x0F, 0x5E, 0xC7];
/// Length of the block header that the writer writes, and the least that a reader takes.
pub(super) const BLOCK_HEADER: usize = 48;
/// Longest block header that a reader takes.
pub(super) const BLOCK_HEADER_MAX: usize = 256;
/// Longest payload, stored or unpacked: larger ones are refused before anything is allocated.
pub(super) const PAYLOAD_MAX: usize = 32 << 20;

/// A block of items.
pub(super) const TYPE_ITEMS: u8 = 1;
/// Where the blocks are.
pub(super) const TYPE_INDEX: u8 = 2;
/// The recording was closed; payload: offset of the index block, u64.
pub(super) const TYPE_END: u8 = 3;

/// The payload is stored as it is.
pub(super) const CODEC_NONE: u8 = 0;
/// The payload is one zstd frame.
pub(super) const CODEC_ZSTD: u8 = 1;

/// What the first 64 bytes say about the observed host; the items say it too, in more detail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileHeader {
    /// Version of the format.
    pub version: u16,
    /// The host's boot id as 16 bytes, when it is known.
    pub boot_id: Option<[u8; 16]>,
    /// A moment on all clocks, when it is known.
    pub clock: Option<ClockPair>,
    /// Bytes of a page, when it is known.
    pub page_size: Option<u32>,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER] {
        let clock = self.clock.unwrap_or_default();
        let mut out = Vec::with_capacity(FILE_HEADER);
        out.put_slice(&MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(0); // flags: none are defined
        out.put_u32_le(FILE_HEADER as u32);
        out.put_slice(&self.boot_id.unwrap_or_default());
        out.put_u64_le(clock.mono_ns);
        out.put_u64_le(clock.boot_ns);
        out.put_i64_le(clock.real_ns);
        out.put_u32_le(self.page_size.unwrap_or(0));
        out.put_u32_le(crc32c::crc32c(&out));
        let mut header = [0; FILE_HEADER];
        header.copy_from_slice(&out);
        header
    }

    /// The header, unless its magic or checksum is wrong.
    pub(super) fn decode(bytes: &[u8; FILE_HEADER]) -> Option<Self> {
        let (body, mut crc) = bytes.split_at(FILE_HEADER - 4);
        let mut rest = body.strip_prefix(MAGIC.as_slice())?;
        if crc.get_u32_le() != crc32c::crc32c(body) {
            return None;
        }
        let version = rest.get_u16_le();
        let _flags = rest.get_u16_le();
        let _length = rest.get_u32_le();
        let mut boot_id = [0; 16];
        rest.copy_to_slice(&mut boot_id);
        let clock = ClockPair {
            mono_ns: rest.get_u64_le(),
            boot_ns: rest.get_u64_le(),
            real_ns: rest.get_i64_le(),
        };
        let page_size = rest.get_u32_le();
        Some(Self {
            version,
            boot_id: (boot_id != [0; 16]).then_some(boot_id),
            clock: (clock != ClockPair::default()).then_some(clock),
            page_size: (page_size != 0).then_some(page_size),
        })
    }
}

/// `0123abcd-…` as bytes.
pub(super) fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let hex: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut id = [0; 16];
    if hex.len() != 32 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) kind: u8,
    pub(super) codec: u8,
    /// Length of this header as found.
    pub(super) len: usize,
    /// Length of the payload when it is unpacked.
    pub(super) raw_len: usize,
    /// Length of the payload in the file.
    pub(super) stored_len: usize,
    pub(super) first_ts: u64,
    pub(super) last_ts: u64,
    /// Items of the block.
    pub(super) count: u32,
    /// Number of the block in the file, from 0: tells removed and repeated blocks.
    pub(super) seq: u32,
    pub(super) payload_crc: u32,
}

/// What stands at a place of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Header(BlockHeader),
    /// This many bytes are needed to tell.
    Need(usize),
    Nothing,
}

impl BlockHeader {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(&SYNC);
        out.put_u8(self.kind);
        out.put_u8(self.codec);
        out.put_u16_le(BLOCK_HEADER as u16);
        out.put_u32_le(self.raw_len as u32);
        out.put_u32_le(self.stored_len as u32);
        out.put_u64_le(self.first_ts);
        out.put_u64_le(self.last_ts);
        out.put_u32_le(self.count);
        out.put_u32_le(self.seq);
        out.put_u32_le(self.payload_crc);
        let crc = crc32c::crc32c(&out[start..]);
        out.put_u32_le(crc);
    }

    /// Looks for a header at the beginning of `bytes`.
    pub(super) fn find(bytes: &[u8]) -> Found {
        if bytes.len() < BLOCK_HEADER {
            return Found::Need(BLOCK_HEADER);
        }
        let len = usize::from(u16::from_le_bytes([bytes[6], bytes[7]]));
        if bytes[..4] != SYNC || !(BLOCK_HEADER..=BLOCK_HEADER_MAX).contains(&len) {
            return Found::Nothing;
        }
        if bytes.len() < len {
            return Found::Need(len);
        }
        let (body, mut crc) = bytes[..len].split_at(len - 4);
        if crc.get_u32_le() != crc32c::crc32c(body) {
            return Found::Nothing;
        }
        let mut rest = &body[8..];
        let header = Self {
            kind: bytes[4],
            codec: bytes[5],
            len,
            raw_len: rest.get_u32_le() as usize,
            stored_len: rest.get_u32_le() as usize,
            first_ts: rest.get_u64_le(),
            last_ts: rest.get_u64_le(),
            count: rest.get_u32_le(),
            seq: rest.get_u32_le(),
            payload_crc: rest.get_u32_le(),
        };
        if header.raw_len > PAYLOAD_MAX || header.stored_len > PAYLOAD_MAX {
            return Found::Nothing;
        }
        Found::Header(header)
    }
}
