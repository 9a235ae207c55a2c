//! What a recording promises: everything comes back, damage costs only what it touches.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::BytesMut;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::model::*;
use crate::testing::Folder;
use crate::testing::on_small_disk;

use super::batch::Batch;
use super::format;
use super::format::BlockHeader;
use super::format::Found;
use super::*;

fn read(bytes: &[u8]) -> (Vec<Item>, Damage) {
    let mut reader = Reader::new(
        Box::new(std::io::Cursor::new(bytes.to_vec())),
        Path::new("x"),
    )
    .unwrap();
    let items = reader.by_ref().collect();
    (items, reader.damage().clone())
}

pub(super) fn kmsg(seq: u64) -> Item {
    Item::Kmsg(KmsgLine {
        ts_ns: seq * 1000,
        seq,
        text: RawText::from(format!("line {seq}")),
        ..KmsgLine::default()
    })
}

/// A block of the file: where it is and what it holds.
#[derive(Clone, Debug)]
struct Block {
    start: usize,
    end: usize,
    items: Vec<Item>,
}

/// Items with a kill now and then, so that the file has many blocks; and these blocks.
fn many_blocks() -> (Vec<u8>, Vec<Block>) {
    let folder = Folder::new(&format!("record-blocks-{:?}", std::thread::current().id()));
    let path = folder.file("a.aiops");
    let mut runner = TestRunner::deterministic();
    let items: Vec<Item> = (0..200)
        .map(|_| strategy::item().new_tree(&mut runner).unwrap().current())
        .collect();
    let mut writer = Writer::create(&path, false).unwrap();
    for item in &items {
        writer.push(item).unwrap();
    }
    writer.finish().unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut rest = items.into_iter();
    let mut blocks = Vec::new();
    let mut start = format::FILE_HEADER;
    while start < bytes.len() {
        let Found::Header(header) = BlockHeader::find(&bytes[start..]) else {
            panic!("no block at {start}");
        };
        let end = start + header.len + header.stored_len;
        let items = rest.by_ref().take(header.count as usize).collect();
        blocks.push(Block { start, end, items });
        start = end;
    }
    assert_eq!(rest.count(), 0);
    assert!(blocks.len() > 10, "{}", blocks.len());
    (bytes, blocks)
}

fn items_where(blocks: &[Block], keep: impl Fn(&Block) -> bool) -> Vec<Item> {
    let kept = blocks.iter().filter(|block| keep(block));
    kept.flat_map(|block| block.items.clone()).collect()
}

/// The same pseudo-random numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_items_come_back(items in proptest::collection::vec(strategy::item(), 0..40)) {
        let mut batch = Batch::new();
        for item in &items {
            batch.push(item).unwrap();
        }
        let mut out = BytesMut::new();
        batch.encode(&mut out);
        let unpacked = batch::unpack(&out).unwrap();
        prop_assert_eq!(unpacked.unknown, 0);
        prop_assert_eq!(unpacked.items, items);
        prop_assert_eq!(batch.items(), 0);
    }

    #[test]
    fn noise_is_no_panic(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = batch::unpack(&noise);
        let mut file = format::MAGIC.to_vec();
        file.extend(noise);
        read(&file);
    }

    #[test]
    fn a_payload_with_wrong_bytes_is_no_panic(
        items in proptest::collection::vec(strategy::item(), 1..6), at: usize, byte: u8) {
        let mut batch = Batch::new();
        for item in &items {
            batch.push(item).unwrap();
        }
        let mut out = BytesMut::new();
        batch.encode(&mut out);
        let at = at % out.len();
        out[at] = byte;
        let _ = batch::unpack(&out);
    }
}

#[test]
fn a_whole_file_has_no_damage() {
    let (bytes, blocks) = many_blocks();
    let (items, damage) = read(&bytes);
    assert_eq!(items, items_where(&blocks, |_| true));
    assert!(damage.is_none(), "{damage:?}");
    assert_eq!(damage.blocks_read as usize, blocks.len() - 2);
}

fn check_cut(bytes: &[u8], blocks: &[Block], cut: usize) {
    let (items, damage) = read(&bytes[..cut]);
    assert_eq!(
        items,
        items_where(blocks, |block| block.end <= cut),
        "cut at {cut}"
    );
    assert_eq!(damage.truncated, cut < bytes.len(), "cut at {cut}");
    let edge = blocks
        .iter()
        .map(|block| block.end)
        .filter(|end| *end <= cut)
        .max();
    let lost = cut
        - edge.unwrap_or(if cut < format::FILE_HEADER {
            0
        } else {
            format::FILE_HEADER
        });
    assert_eq!(damage.lost_bytes as usize, lost, "cut at {cut}");
    assert_eq!(damage.places, u64::from(lost > 0), "cut at {cut}");
}

#[test]
fn a_cut_file_gives_every_whole_block() {
    let (bytes, blocks) = many_blocks();
    for block in &blocks {
        for cut in [block.start, block.start + 1, block.end - 1, block.end] {
            check_cut(&bytes, &blocks, cut);
        }
    }
    let mut dice = Dice(1);
    for _ in 0..200 {
        check_cut(&bytes, &blocks, 1 + dice.below(bytes.len()));
    }
}

#[test]
fn a_flipped_bit_costs_one_block() {
    let (bytes, blocks) = many_blocks();
    let mut dice = Dice(2);
    for _ in 0..200 {
        let (at, bit) = (dice.below(bytes.len()), dice.below(8));
        if at < format::MAGIC.len() {
            continue; // the next test's
        }
        let mut bad = bytes.clone();
        bad[at] ^= 1 << bit;
        let (items, damage) = read(&bad);
        let hit = |block: &Block| (block.start..block.end).contains(&at);
        assert_eq!(
            items,
            items_where(&blocks, |block| !hit(block)),
            "bit {bit} of {at}"
        );
        let lost = blocks.iter().find(|block| hit(block));
        let lost = lost.map_or(format::FILE_HEADER, |block| block.end - block.start);
        assert_eq!(damage.lost_bytes as usize, lost, "bit {bit} of {at}");
        assert_eq!(damage.places, 1);
    }
}

#[test]
fn a_file_with_a_broken_header_is_still_read() {
    let (bytes, blocks) = many_blocks();
    for at in 0..format::FILE_HEADER {
        let mut bad = bytes.clone();
        bad[at] ^= 0xff;
        let (items, damage) = read(&bad);
        assert_eq!(items, items_where(&blocks, |_| true), "byte {at}");
        assert_eq!((damage.places, damage.lost_bytes), (1, 64), "byte {at}");
    }
}

#[test]
fn removed_and_inserted_bytes_cost_what_they_touch() {
    let (bytes, blocks) = many_blocks();
    let mut dice = Dice(3);
    for _ in 0..200 {
        let at = format::FILE_HEADER + dice.below(bytes.len() - format::FILE_HEADER);
        let len = 1 + dice.below(300).min(bytes.len() - at - 1);
        let end = (at + len).min(bytes.len());
        let bad = [&bytes[..at], &bytes[end..]].concat();
        let touched = |block: &Block| block.start < end && at < block.end;
        let (items, damage) = read(&bad);
        assert_eq!(
            items,
            items_where(&blocks, |block| !touched(block)),
            "{at}..{end} removed"
        );
        assert!(
            damage.places == 1 || damage.truncated,
            "{at}..{end}: {damage:?}"
        );

        let noise: Vec<u8> = (0..len).map(|_| dice.below(256) as u8).collect();
        let bad = [&bytes[..at], &noise, &bytes[at..]].concat();
        let split = |block: &Block| block.start < at && at < block.end;
        let (items, damage) = read(&bad);
        assert_eq!(
            items,
            items_where(&blocks, |block| !split(block)),
            "{len} inserted at {at}"
        );
        assert_eq!(damage.places, 1, "{len} inserted at {at}: {damage:?}");
    }
}

#[test]
fn removed_and_repeated_blocks_are_seen() {
    let (bytes, blocks) = many_blocks();
    let Block { start, end, .. } = blocks[3];
    let (items, damage) = read(&[&bytes[..start], &bytes[end..]].concat());
    assert_eq!(items, items_where(&blocks, |block| block.start != start));
    assert_eq!((damage.places, damage.truncated), (1, false));

    let (items, damage) = read(&[&bytes[..end], &bytes[start..]].concat());
    assert_eq!(items, items_where(&blocks, |_| true));
    assert_eq!(
        (damage.places, damage.lost_bytes as usize),
        (1, end - start)
    );
}

/// A file header and one block of items with this payload.
fn forged(header: BlockHeader, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    let header = BlockHeader {
        kind: format::TYPE_ITEMS,
        payload_crc: crc32c::crc32c(payload),
        stored_len: payload.len(),
        ..header
    };
    header.encode(&mut out);
    [&FileHeader::default().encode()[..], &out, payload].concat()
}

#[test]
fn bombs_are_refused() {
    let zeros = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let codec = format::CODEC_ZSTD;
    for raw_len in [1, 1 << 20, format::PAYLOAD_MAX, 64 << 20] {
        let (items, damage) = read(&forged(
            BlockHeader {
                codec,
                raw_len,
                ..BlockHeader::default()
            },
            &zeros,
        ));
        assert_eq!((items.len(), damage.places), (0, 1), "{raw_len}");
    }
    // A header that claims more than the file has allocates no more than the file.
    let mut long = BytesMut::new();
    BlockHeader {
        stored_len: format::PAYLOAD_MAX,
        ..BlockHeader::default()
    }
    .encode(&mut long);
    let (items, damage) = read(&[&FileHeader::default().encode()[..], &long].concat());
    assert_eq!(
        (items.len(), damage.lost_bytes as usize),
        (0, format::BLOCK_HEADER)
    );
    // A few bytes that stand for many rows, and for a long text in many rows.
    for (rows, text) in [(1 << 40, 1), (200_000, 1 << 20)] {
        let mut column = column::Column::new("json", column::Kind::Text);
        let text = vec![b'x'; text];
        column.push_bytes(Some(&text));
        for _ in 1..if rows > ROWS { 1 } else { rows } {
            column.push(Some(0));
        }
        let (mut body, mut payload) = (BytesMut::new(), BytesMut::new());
        wire::put_varint(&mut body, rows);
        wire::put_varint(&mut body, 1);
        column.encode(None, &mut body);
        wire::put_counted(&mut payload, b"meta");
        wire::put_counted(&mut payload, &body);
        assert_eq!(
            batch::unpack(&payload).unwrap_err().0,
            "unpacks to too much"
        );
    }
}

const ROWS: u64 = schema::ROWS_MAX as u64;

#[test]
fn unknown_tables_columns_and_items_are_passed_over() {
    let mut batch = Batch::new();
    batch.push(&kmsg(1)).unwrap();
    let mut payload = BytesMut::new();
    batch.encode(&mut payload);
    wire::put_counted(&mut payload, b"later");
    wire::put_counted(&mut payload, b"whatever");
    assert_eq!(batch::unpack(&payload).unwrap().items, [kmsg(1)]);

    for name in ["text", "order", "kmsg"] {
        let at = payload
            .windows(name.len())
            .position(|bytes| bytes == name.as_bytes())
            .unwrap();
        let mut other = payload.clone();
        other[at] = b'X';
        let unpacked = batch::unpack(&other);
        match (name, unpacked) {
            ("text", Ok(unpacked)) => assert_eq!(unpacked.items.len(), 1),
            ("order", Ok(unpacked)) => assert!(unpacked.items.is_empty()),
            ("kmsg", unpacked) => assert!(unpacked.is_err() || unpacked.unwrap().unknown == 1),
            (_, unpacked) => panic!("{name}: {unpacked:?}"),
        }
    }
}

#[test]
fn other_files_are_refused_with_advice() {
    let folder = Folder::new("record-other");
    let path = folder.file("x");
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Reader::open(&path).unwrap_err()
    };
    for bytes in [&b""[..], b"hello", &[0; 100_000]] {
        let error = open(bytes);
        assert!(
            matches!(error, RecordError::NotARecording { .. }),
            "{error}"
        );
        assert!(error.remedy().is_some());
        assert!(error.to_string().contains("other"), "{error}");
    }
    let mut newer = FileHeader::default().encode();
    newer[8] = 2;
    let crc = crc32c::crc32c(&newer[..60]);
    newer[60..].copy_from_slice(&crc.to_le_bytes());
    let error = open(&newer);
    assert!(
        matches!(error, RecordError::TooNew { found: 2, .. }),
        "{error}"
    );
    assert!(error.remedy().is_some());
    assert!(matches!(
        Reader::open(&folder.0),
        Err(RecordError::NotRegular { .. })
    ));
    let error = Reader::open(&folder.file("none")).unwrap_err();
    assert!(matches!(error, RecordError::Io { .. }));
    assert!(!error.remedy().unwrap().contains("folder"), "{error}");
    // Nobody writes into it: a reader that waits would wait for ever.
    let pipe = folder.file("pipe");
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
    let error = Reader::open(&pipe).unwrap_err();
    assert!(error.to_string().contains("a pipe"), "{error}");
    assert!(error.remedy().unwrap().contains("collect memory"));
    let error = Writer::create(&folder.file("none/a"), false).unwrap_err();
    assert!(error.remedy().unwrap().contains("folder"), "{error}");
}

#[test]
fn only_a_regular_file_is_replaced() {
    let folder = Folder::new("record-create");
    let path = folder.file("a.aiops");
    drop(Writer::create(&path, false).unwrap());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    assert!(matches!(
        Writer::create(&path, false),
        Err(RecordError::Exists { .. })
    ));
    assert!(Writer::create(&path, true).is_ok(), "a recording");
    for (content, ours) in [("old", false), ("AITR", false), ("", true)] {
        fs::write(&path, content).unwrap();
        assert_eq!(Writer::create(&path, true).is_ok(), ours, "{content}");
        if !ours {
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }
    assert!(matches!(
        Writer::create(Path::new("-"), true),
        Err(RecordError::Stdout)
    ));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(Writer::create(&path, true).unwrap());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    assert!(Reader::open(&path).unwrap().next().is_none());

    let (link, target) = (folder.file("link"), folder.file("target"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    for exists in [false, true] {
        if exists {
            fs::write(&target, "precious").unwrap();
        }
        for force in [false, true] {
            let error = Writer::create(&link, force).unwrap_err();
            assert!(matches!(error, RecordError::NotRegular { .. }), "{error}");
        }
    }
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert!(matches!(
        Writer::create(&folder.0, true),
        Err(RecordError::NotRegular { .. })
    ));
}

#[test]
fn kills_are_written_at_once_and_others_in_time() {
    let folder = Folder::new("record-times");
    let path = folder.file("a.aiops");
    let mut writer = Writer::create(&path, false).unwrap();
    let seen = || Reader::open(&path).unwrap().count();
    writer.push(&kmsg(1)).unwrap();
    writer.tick().unwrap();
    assert_eq!(seen(), 0);
    std::thread::sleep(std::time::Duration::from_millis(260));
    writer.tick().unwrap();
    assert_eq!(seen(), 1);
    writer.push(&kmsg(2)).unwrap();
    let kill = mark_of(&mut TestRunner::deterministic());
    writer.push(&kill).unwrap();
    assert_eq!(seen(), 3);
    writer.push(&kmsg(3)).unwrap();
    drop(writer);
    assert_eq!(Reader::open(&path).unwrap().count(), 4);
}

#[test]
fn the_header_tells_the_host() {
    let folder = Folder::new("record-header");
    let path = folder.file("a.aiops");
    let mut writer = Writer::create(&path, false).unwrap();
    let boot_id = Some("01234567-89ab-cdef-0123-456789abcdef".to_owned());
    let host = Host {
        boot_id,
        page_size: Some(4096),
        ..Host::default()
    };
    let clock = ClockPair {
        mono_ns: 1,
        boot_ns: 2,
        real_ns: -3,
    };
    writer
        .push(&Item::Session(Session {
            host,
            ..Session::default()
        }))
        .unwrap();
    writer.push(&Item::Clock(clock)).unwrap();
    writer.finish().unwrap();
    let reader = Reader::open(&path).unwrap();
    let header = reader.header();
    assert_eq!((header.page_size, header.clock), (Some(4096), Some(clock)));
    assert_eq!(header.boot_id.unwrap()[..3], [0x01, 0x23, 0x45]);
}

#[test]
fn an_item_that_is_too_large_is_counted() {
    let folder = Folder::new("record-large");
    let path = folder.file("a.aiops");
    let mut writer = Writer::create(&path, false).unwrap();
    let text = RawText::new(vec![b'x'; 5 << 20]);
    writer.push(&kmsg(1)).unwrap();
    writer
        .push(&Item::Kmsg(KmsgLine {
            text,
            ..KmsgLine::default()
        }))
        .unwrap();
    writer.push(&kmsg(2)).unwrap();
    let written = writer.finish().unwrap();
    assert_eq!((written.items, written.dropped), (2, 1));
    let (items, damage) = read(&fs::read(&path).unwrap());
    assert_eq!(items, [kmsg(1), kmsg(2)]);
    assert_eq!(
        (damage.dropped, damage.truncated, damage.is_none()),
        (1, false, false)
    );
}

pub(super) fn mark_of(runner: &mut TestRunner) -> Item {
    loop {
        let item = strategy::item().new_tree(runner).unwrap().current();
        if matches!(&item, Item::Event(event) if matches!(event.kind, EventKind::Mark(_))) {
            return item;
        }
    }
}

#[test]
fn a_full_disk_leaves_a_valid_file() {
    let test = "record::tests::a_full_disk_leaves_a_valid_file";
    on_small_disk(test, 1, |disk| fill_disk(&disk.join("a.aiops")));
}

fn fill_disk(path: &Path) {
    let mut writer = Writer::create(path, false).unwrap();
    let mut runner = TestRunner::deterministic();
    let (mut pushed, mut told) = (Vec::new(), Vec::new());
    for _ in 0..2_000 {
        let item = mark_of(&mut runner);
        told.extend(writer.push(&item).err());
        pushed.push(item);
    }
    assert_eq!(told.len(), 1, "told once");
    assert!(told[0].remedy().unwrap().contains("room"), "{}", told[0]);
    assert!(matches!(writer.state(), WriterState::Stopped { .. }));
    let dropped = writer.dropped();
    let (items, damage) = read(&fs::read(path).unwrap());
    assert_eq!(items.len() as u64, 2_000 - dropped);
    assert_eq!(items, pushed[..items.len()]);
    assert_eq!(
        (damage.places, damage.lost_bytes, damage.truncated),
        (0, 0, true)
    );
    let written = writer.finish().unwrap();
    assert_eq!(written.items + written.dropped, 2_000);
    let none = path.with_extension("none");
    let error = Writer::create(&none, false).unwrap_err();
    assert!(
        matches!(error, RecordError::Io { .. }) && !none.exists(),
        "{error}"
    );
    let (again, damage) = read(&fs::read(path).unwrap());
    assert_eq!(again.len(), items.len());
    assert!(damage.truncated || damage.dropped == dropped, "{damage:?}");
}
