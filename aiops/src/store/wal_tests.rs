//! Frames that come back, and what damage costs.

use proptest::prelude::*;

use rustix::fs::FlockOperation;
use rustix::fs::flock;

use super::live::held;
use super::live::settle;
use super::*;
use crate::testing::Folder;

fn options(folder: &Folder, tail: bool) -> WalOptions {
    WalOptions {
        path: folder.file("log"),
        tail: tail.then(|| folder.file("tail")),
        id: "id".to_owned(),
        host: Host::default(),
    }
}

impl WalWriter {
    /// From now on neither the log nor its tail takes anything.
    pub(crate) fn break_disk(&mut self) {
        self.file = File::open(&self.path).unwrap();
        if let Some((_, tail)) = &mut self.tail {
            *tail = File::options().write(true).open("/dev/full").unwrap();
        }
    }
}

fn payload(index: usize) -> Vec<u8> {
    (0..index * 37 % 900)
        .map(|byte| (byte * index) as u8)
        .collect()
}

fn written(folder: &Folder, frames: usize, every: usize) -> Vec<u8> {
    let options = options(folder, false);
    let mut writer = WalWriter::create(&options).unwrap();
    for index in 0..frames {
        writer.push(1, &payload(index)).unwrap();
        if index % every == 0 {
            writer.sync().unwrap();
        }
    }
    writer.finish().unwrap();
    std::fs::read(&options.path).unwrap()
}

#[test]
fn frames_come_back() {
    let folder = Folder::new("wal-back");
    written(&folder, 300, 7);
    let found = read_wal(&folder.0.join("log"), None).unwrap();
    assert_eq!(found.frames.len(), 300);
    let same = |(index, frame): (usize, &(u8, Vec<u8>))| frame.1 == payload(index);
    assert!(found.frames.iter().enumerate().all(same));
    assert_eq!((found.lost_bytes, found.gaps.len()), (0, 0));
}

#[test]
fn a_kill_loses_nothing_that_was_pushed() {
    let folder = Folder::new("wal-kill");
    let options = options(&folder, true);
    let mut writer = WalWriter::create(&options).unwrap();
    for index in 0..50 {
        writer.push(1, &payload(index)).unwrap();
        if index % 20 == 19 {
            writer.sync().unwrap();
        }
        let found = read_wal(&options.path, options.tail.as_deref()).unwrap();
        assert_eq!(found.frames.len(), index + 1);
        assert_eq!(found.frames[index].1, payload(index));
    }
    // As a kill would: nothing is closed.
    std::mem::forget(writer);
    let found = read_wal(&options.path, options.tail.as_deref()).unwrap();
    assert_eq!(found.frames.len(), 50);
    let durable = read_wal(&options.path, None).unwrap();
    assert_eq!(durable.frames.len(), 40);
}

#[test]
fn a_tail_that_was_not_emptied_counts_once() {
    let folder = Folder::new("wal-twice");
    let options = options(&folder, true);
    let mut writer = WalWriter::create(&options).unwrap();
    writer.push(1, b"a").unwrap();
    writer.push(1, b"b").unwrap();
    let tail = std::fs::read(folder.0.join("tail")).unwrap();
    writer.sync().unwrap();
    std::fs::write(folder.0.join("tail"), &tail).unwrap();
    let found = read_wal(&options.path, options.tail.as_deref()).unwrap();
    assert_eq!(found.frames.len(), 2);
    // Frames may be equal.
    let mut writer = writer;
    for _ in 0..3 {
        writer.push(1, b"b").unwrap();
    }
    let found = read_wal(&options.path, options.tail.as_deref()).unwrap();
    assert_eq!((found.frames.len(), found.lost_bytes), (5, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_cut_keeps_every_frame_before_it(cut in 0..10_000_usize) {
        let folder = Folder::new("wal-cut");
        let bytes = written(&folder, 120, 11);
        let at = bytes.len() * cut / 10_000;
        std::fs::write(folder.0.join("log"), &bytes[..at]).unwrap();
        if let Ok(found) = read_wal(&folder.0.join("log"), None) {
            for (index, frame) in found.frames.iter().enumerate() {
                prop_assert_eq!(&frame.1, &payload(index));
            }
        } else {
            prop_assert!(at < 2 * BLOCK);
        }
    }

    #[test]
    fn a_flipped_bit_costs_one_frame(place in 0..10_000_usize, bit in 0..8_u8) {
        let folder = Folder::new("wal-flip");
        let mut bytes = written(&folder, 120, 11);
        let end = bytes.len() - BLOCK;
        let at = BLOCK + (end - BLOCK) * place / 10_000;
        bytes[at] ^= 1 << bit;
        std::fs::write(folder.0.join("log"), &bytes).unwrap();
        let found = read_wal(&folder.0.join("log"), None).unwrap();
        prop_assert!(found.frames.len() >= 119);
        prop_assert!(found.frames.iter().all(|frame| (0..120).any(|index| frame.1 == payload(index))));
        prop_assert!(found.frames.len() == 120 || found.lost_bytes > 0);
    }
}

#[test]
fn zeros_behind_damage_are_not_lost_and_unknown_kinds_are_not_looked_for() {
    let folder = Folder::new("wal-behind");
    let options = options(&folder, false);
    let mut writer = WalWriter::create(&options).unwrap();
    for (kind, payload) in [(1, b"one"), (9, b"two"), (2, b"six"), (1, b"ten")] {
        writer.push(kind, payload).unwrap();
    }
    writer.sync().unwrap();
    // As a kill leaves it: zeros to the end of what was grown.
    let whole = std::fs::read(&options.path).unwrap();
    drop(writer);
    assert!(whole.len() as u64 >= STEP);
    let size = FRAME + 3;
    let flip = |frame: usize| {
        let mut bytes = whole.clone();
        bytes[BLOCK + frame * size + FRAME] ^= 1;
        std::fs::write(&options.path, &bytes).unwrap();
        let found = read_wal(&options.path, None).unwrap();
        let kinds: Vec<u8> = found.frames.iter().map(|(kind, _)| *kind).collect();
        (kinds, found.lost_bytes)
    };
    assert_eq!(flip(3), (vec![1, 9, 2], size as u64));
    // The search goes by a kind that nobody writes, up to one that is known.
    assert_eq!(flip(0), (vec![2, 1], 2 * size as u64));
    assert_eq!(flip(2), (vec![1, 9, 1], size as u64));
}

#[test]
fn a_sync_between_the_log_and_its_tail_loses_nothing() {
    let folder = Folder::new("wal-between");
    let options = options(&folder, true);
    let tail = options.tail.clone().unwrap();
    let mut writer = WalWriter::create(&options).unwrap();
    for byte in 0..3 {
        writer.push(1, &[byte; 100]).unwrap();
    }
    let mut reads = 0;
    let log = || {
        let bytes = std::fs::read(&options.path).unwrap();
        reads += 1;
        if reads == 1 {
            writer.sync().unwrap();
            writer.push(1, &[3; 100]).unwrap();
        }
        Ok(bytes)
    };
    let found = settle(
        &options.path,
        log,
        || std::fs::read(&tail).unwrap(),
        || true,
    )
    .unwrap();
    let bytes: Vec<u8> = found.frames.iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(
        (bytes, found.gaps, found.lost_bytes),
        (vec![0, 1, 2, 3], vec![], 0)
    );
}

#[test]
fn a_frame_that_is_being_written_is_no_damage() {
    let folder = Folder::new("wal-torn");
    let options = options(&folder, false);
    let mut writer = WalWriter::create(&options).unwrap();
    for byte in 0..3 {
        writer.push(1, &[byte + 1; 100]).unwrap();
    }
    let end = usize::try_from(writer.len()).unwrap();
    let whole = std::fs::read(&options.path).unwrap();
    let read = |held: bool| {
        let mut reads = 0;
        let log = || {
            reads += 1;
            let mut bytes = whole.clone();
            if reads == 1 {
                bytes[end - 50..].fill(0);
            }
            Ok(bytes)
        };
        settle(&options.path, log, Vec::new, || held).unwrap()
    };
    let found = read(true);
    assert_eq!((found.frames.len(), found.lost_bytes), (3, 0));
    // Without a writer it stays as it is.
    let found = read(false);
    assert_eq!(found.frames.len(), 2);
    assert!(found.lost_bytes > 0);
}

#[test]
fn a_writer_is_seen_by_its_lock() {
    let folder = Folder::new("wal-held");
    let path = folder.0.join("log");
    std::fs::write(&path, b"x").unwrap();
    let (ours, theirs) = (File::open(&path).unwrap(), File::open(&path).unwrap());
    assert!(!held(&ours));
    flock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(held(&ours));
}
