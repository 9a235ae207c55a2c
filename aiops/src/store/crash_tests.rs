//! What is left after damage, a full disk and a power cut.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use super::logs::entries_of_hosts;
use super::rows::Rows;
use super::segments;
use super::*;
use crate::model::ClockPair;
use crate::model::Host;
use crate::model::Piece;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::Sample;
use crate::testing::Folder;
use crate::testing::on_small_disk;

fn store(folder: &Folder) -> Store {
    Store::at(&folder.file("store")).with_tails(&folder.file("tails"))
}

/// Samples of processes in a range and the sum of their memory, as queries read them, and what was damaged.
pub(super) fn samples(store: &Store, range: Range, hours: bool) -> (u64, i128, Vec<Damage>) {
    let ask = Ask {
        range,
        fields: &["rss_kb"],
        pids: &[],
        programs: false,
    };
    let (mut n, mut sum) = (0, 0);
    let coverage = store.pieces(&ask, hours, &mut |piece| match piece {
        Piece::Run(run) => {
            n += run.n as u64;
            sum += i128::from(run.values[0].unwrap_or(0)) * run.n as i128;
        }
        Piece::Hour(hour) => {
            n += hour.n;
            sum += hour.sums[0].sum;
        }
    });
    (n, sum, coverage.unwrap().damages)
}

/// Every sample that is there.
fn all(store: &Store) -> (u64, Vec<Damage>) {
    let range = Range {
        start_ms: 0,
        end_ms: i64::MAX,
    };
    let (n, _, damages) = samples(store, range, false);
    (n, damages)
}

/// Numbers that look random and are the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % sides as u64).unwrap()
    }
}

const PROCESSES: u32 = 20;

fn tick(second: u64) -> Tick {
    let process = |pid: u32| ProcessSample {
        pid,
        start_ticks: 5,
        metrics: ProcessMetrics {
            // Some change with each tick, some seldom.
            rss_kb: Some(second / u64::from(1 + pid % 7 * 13) * 977 % 100_003),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    };
    let mono_ns = second * 1_000_000_000;
    Tick {
        clock: ClockPair {
            mono_ns,
            boot_ns: mono_ns,
            real_ns: i64::try_from(mono_ns).unwrap(),
        },
        sample: Sample {
            processes: (1..=PROCESSES).map(process).collect(),
            ..Sample::default()
        },
        identities: Vec::new(),
    }
}

fn ticks_of(log: &Path, tails: Option<&Path>) -> (Vec<Tick>, Option<Damage>) {
    let mut ticks = Vec::new();
    let damage = entries_of_hosts(log, tails, &mut |_, entry| match entry {
        Entry::Tick(tick) => ticks.push(*tick),
        Entry::Event(event) => panic!("{event:?} was never written"),
    })
    .unwrap();
    (ticks, damage)
}

/// A log of ticks from `seconds`, closed.
fn log(folder: &Folder, seconds: impl Iterator<Item = u64>) -> PathBuf {
    let mut recorder = Recorder::open(store(folder), Host::default()).unwrap();
    for second in seconds {
        recorder.push(&tick(second), false).unwrap();
    }
    recorder.close().unwrap();
    store(folder).logs().unwrap().pop().unwrap()
}

const BLOCK: usize = 4096;

/// Where each frame of a whole log ends.
fn ends(log: &Path) -> Vec<usize> {
    let found = read_wal(log, None).unwrap();
    let mut at = BLOCK;
    let lens = found.frames.iter().map(|(_, payload)| {
        at += 9 + payload.len();
        at
    });
    lens.collect()
}

/// What was measured of each process; a frame keeps no more of these ticks.
fn figures(tick: &Tick) -> Vec<(u32, Option<u64>)> {
    let processes = tick.sample.processes.iter();
    processes.map(|one| (one.pid, one.metrics.rss_kb)).collect()
}

fn same(read: &[Tick], written: &[Tick]) -> bool {
    read.iter().all(|tick| {
        let second = usize::try_from(tick.clock.mono_ns / 1_000_000_000).unwrap();
        written[second / 5 - 1].sample == tick.sample
    })
}

/// A damaged log becomes a segment of what could be read of it.
fn check_compacted(log: &[u8], ticks: u64, is_damaged: bool) {
    let folder = Folder::new("crash-compacted");
    let store = store(&folder);
    drop(Recorder::open(store.clone(), Host::default()).unwrap());
    fs::write(store.wals().join("000000000005000-1-1.wal"), log).unwrap();
    let damages = store.compact().unwrap();
    assert_eq!(damages.len(), usize::from(is_damaged), "{damages:?}");
    assert_eq!(all(&store), (ticks * u64::from(PROCESSES), Vec::new()));
    assert_eq!(store.verify().unwrap().broken, []);
}

#[test]
fn five_hundred_flips_and_cuts_of_a_log_cost_only_what_is_behind_them() {
    let folder = Folder::new("crash-log");
    let seconds = || (1..=600_u64).map(|number| number * 5);
    let log = log(&folder, seconds());
    let ends = ends(&log);
    let (written, damage) = ticks_of(&log, None);
    assert_eq!((written.len(), damage), (600, None));
    let whole = fs::read(&log).unwrap();
    let seed = 4;
    println!("seed {seed}");
    let (mut dice, mut told, mut lost) = (Dice(seed), 0, 0);
    for round in 0..1000 {
        let at = dice.roll(whole.len());
        let mut bytes = whole.clone();
        if round % 2 == 0 {
            bytes[at] ^= 1 << dice.roll(8);
        } else {
            bytes.truncate(at);
        }
        fs::write(&log, &bytes).unwrap();
        let (read, damage) = ticks_of(&log, None);
        let before = ends.iter().filter(|end| **end <= at).count();
        let header = damage.as_ref().is_some_and(|damage| damage.error.is_some());
        assert!(!header || at < BLOCK, "round {round}: {damage:?}");
        assert!(header || read.len() >= before, "round {round}, {at}");
        assert!(same(&read, &written), "round {round}: another figure");
        // A cut between two frames cannot be told from a log that is being written.
        let between = bytes.len() == at && (ends.contains(&at) || at == BLOCK);
        if read.len() < written.len() {
            lost += 1;
            assert!(
                damage.is_some() || between,
                "round {round}, {at}: in silence"
            );
        }
        told += u32::from(damage.is_some());
        if round % 50 < 2 && !header {
            check_compacted(&bytes, read.len() as u64, damage.is_some());
        }
        // Key frames are 240 ticks apart: a flip costs no more.
        let flipped = round % 2 == 0 && !header;
        assert!(
            !flipped || read.len() >= written.len() - 240,
            "round {round}"
        );
    }
    println!("1000 places: {told} told, {lost} lost ticks");
    assert!(told > 900, "{told}");
}

fn segment(folder: &Path, id: &str, from: u64) -> Segment {
    let mut rows = Rows::default();
    (from..from + 300).for_each(|number| rows.push(&tick(number * 5)));
    segments::publish(folder, id, &[], rows).unwrap().unwrap()
}

#[test]
fn five_hundred_flips_and_cuts_of_a_segment_are_found_and_the_others_answer() {
    let folder = Folder::new("crash-segment");
    let store = store(&folder);
    let place = store.segments_folder();
    Recorder::open(store.clone(), Host::default()).unwrap();
    let one = segment(&place, "one", 1);
    segment(&place, "two", 1000);
    let each = 300 * u64::from(PROCESSES);
    assert_eq!(all(&store).0, 2 * each);
    assert_eq!(store.verify().unwrap().broken, []);
    let files: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&one.path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let seed = 5;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    for round in 0..500 {
        // Each file as often, however small it is.
        let (path, whole) = &files[round % files.len()];
        let at = dice.roll(whole.len());
        let mut bytes = whole.clone();
        if round % 5 < 4 {
            bytes[at] ^= 1 << dice.roll(8);
        } else {
            bytes.truncate(at);
        }
        fs::write(path, &bytes).unwrap();
        let broken = store.verify().unwrap().broken;
        assert_eq!(broken.len(), 1, "round {round}, {}, {at}", path.display());
        assert!(broken[0].path.starts_with(&one.path), "{broken:?}");
        let (n, errors) = all(&store);
        let name = path.file_stem().unwrap();
        if name == "process" || name == "system" {
            assert_eq!((n, errors.len()), (each, 1), "round {round}, {at}");
            let said = errors[0].error.as_deref().unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(
                errors[0].path == one.path && said.contains(name),
                "{errors:?}"
            );
        } else {
            assert!(
                n == 2 * each || (n == each && !errors.is_empty()),
                "round {round}"
            );
        }
        fs::write(path, whole).unwrap();
    }
    println!("500 of 500 found");
}

#[test]
fn a_reboot_and_clocks_that_jump_lose_nothing() {
    let folder = Folder::new("crash-clocks");
    let mut pushed = 0;
    // Each boot begins at 0 again, with another id; the calendar jumps by hours, both ways.
    for (boot, jump_s) in [0_i64, 7200, -10_000, 86_400, -86_000]
        .into_iter()
        .enumerate()
    {
        let host = Host {
            boot_id: Some(format!("boot-{boot}")),
            ..Host::default()
        };
        let mut recorder = Recorder::open(store(&folder), host).unwrap();
        for number in 1..50 {
            let mut tick = tick(number * 5);
            tick.clock.real_ns += (100_000 + jump_s) * 1_000_000_000;
            if number > 20 {
                tick.clock.real_ns -= 3_000_000_000_000;
            }
            if number > 30 {
                // Suspended for an hour.
                tick.clock.boot_ns += 3_600_000_000_000;
                tick.clock.real_ns += 3_600_000_000_000;
            }
            recorder.push(&tick, false).unwrap();
            pushed += 1;
        }
        // As a kill would.
        drop(recorder);
    }
    let store = store(&folder);
    let mut read = 0;
    assert_eq!(store.fresh(|_| read += 1).unwrap(), []);
    assert_eq!(read, pushed);
    assert_eq!(store.compact().unwrap(), []);
    assert_eq!(all(&store).0, pushed * u64::from(PROCESSES));
    assert_eq!(store.verify().unwrap().broken, []);
}

/// Its tails are on a tmpfs, as ever.
#[test]
fn a_full_disk_costs_what_does_not_fit_and_nothing_before() {
    let test = "store::crash_tests::a_full_disk_costs_what_does_not_fit_and_nothing_before";
    on_small_disk(test, 6, |disk| {
        let tails = Folder::new("crash-crash-full");
        fill(disk, &tails.0);
    });
}

fn fill(disk: &Path, tails: &Path) {
    let store = Store::at(&disk.join("store")).with_tails(tails);
    let mut recorder = Recorder::open(store.clone(), Host::default()).unwrap();
    let mut numbers = 1..;
    let mut push = |recorder: &mut Recorder| {
        let number = numbers.next().unwrap();
        let pushed = recorder.push(&tick(number), false);
        pushed.expect("an open log takes every tick").unsynced
    };
    for _ in 0..40 {
        assert!(push(&mut recorder).is_none());
    }
    // Others fill the disk.
    let filler = disk.join("filler");
    let piece = vec![1; 4096];
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &piece).is_ok() {}
    let (mut refused, mut events) = (Vec::new(), Vec::new());
    let mut pushed = 40_u64;
    while recorder.dropped() == 0 {
        refused.extend(push(&mut recorder));
        pushed += 1;
        // One that is taken and waits is not to be handed over again.
        if pushed.is_multiple_of(25) {
            let size = if refused.is_empty() { 8192 } else { 200 };
            let event = Event {
                id: format!("event-{pushed}"),
                body: "x".repeat(size),
                ..Event::default()
            };
            let taken = recorder.event(&event).expect("an open log takes it");
            refused.extend(taken.unsynced);
            events.push(event.id);
        }
        assert!(pushed < 3600, "memory is not bounded, within one log");
    }
    assert!(refused.len() > 100, "{}", refused.len());
    for error in &refused {
        let StoreError::Io { source, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{error}");
        assert!(error.remedy().unwrap().contains("space"));
    }
    drop(file);
    fs::remove_file(&filler).unwrap();
    for _ in 0..100 {
        assert!(push(&mut recorder).is_none());
        pushed += 1;
    }
    let dropped = recorder.dropped();
    recorder.close().unwrap();
    let (mut read, mut last, mut told) = (Vec::new(), 0, Vec::new());
    let damages = store.fresh(|entry| match entry {
        Entry::Tick(tick) => {
            let second = tick.clock.mono_ns / 1_000_000_000;
            assert!(second > last, "{second} behind {last}");
            last = second;
            read.push(*tick);
        }
        Entry::Event(event) => told.push(event.id),
    });
    assert_eq!(damages.unwrap(), []);
    assert!(
        !events.is_empty() && told == events,
        "{told:?} of {events:?}"
    );
    assert_eq!(read.len() as u64, pushed - dropped);
    assert!(
        read[..40]
            .iter()
            .zip(1..)
            .all(|(read, second)| figures(read) == figures(&tick(second)))
    );
    let tail = read
        .iter()
        .rev()
        .take(100)
        .all(|read| figures(read) == figures(&tick(read.clock.mono_ns / 1_000_000_000)));
    assert!(tail && last == pushed);
}

#[test]
fn repair_saves_what_can_be_read_and_deletes_nothing() {
    let folder = Folder::new("crash-repair");
    let store = store(&folder);
    let path = log(&folder, (1..=600).map(|number| number * 5));
    let place = store.segments_folder();
    let one = segment(&place, "one", 10_000);
    let mut bytes = fs::read(&path).unwrap();
    let middle = ends(&path)[300] + 20;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    fs::write(one.path.join("process.parquet"), b"PAR1").unwrap();
    fs::write(store.folder().join("store.json"), b"{").unwrap();
    let held = Recorder::open(store.clone(), Host::default());
    assert!(held.is_err(), "store.json makes no sense");
    let alone = store.upkeep(true).unwrap();
    assert!(matches!(store.upkeep(true), Err(StoreError::Upkeep { .. })));
    let repaired = store.repair(&Host::default()).unwrap();
    drop(alone);
    assert_eq!(repaired.len(), 3, "{repaired:#?}");
    let moved = |one: &Repaired| one.moved_to.as_ref().is_some_and(|path| path.exists());
    assert!(repaired.iter().all(moved));
    let of_log = |one: &&Repaired| matches!(one.part.part, Broken::Log(_));
    let saved = repaired.iter().find(of_log).unwrap().saved.unwrap();
    // The frame that was hit is the 302nd: lost up to the next key frame.
    assert!((360..600).contains(&saved.0), "{saved:?}");
    assert_eq!(store.verify().unwrap().broken, []);
    let (n, errors) = all(&store);
    assert_eq!((n, errors.len()), (saved.0 * u64::from(PROCESSES), 0));
    Recorder::open(store.clone(), Host::default()).unwrap();
    assert_eq!(store.repair(&Host::default()).unwrap(), []);
}

/// A log of a host, with frames in its tail, damaged in a frame that is synced.
fn damaged_log(folder: &Folder) -> PathBuf {
    let host = Host {
        hostname: "web-1".into(),
        boot_id: Some("0123456789abcdef".to_owned()),
        ..Host::default()
    };
    let mut recorder = Recorder::open(store(folder), host).unwrap();
    for number in 1..=100 {
        recorder.push(&tick(number), false).unwrap();
    }
    // As a kill would.
    drop(recorder);
    let path = store(folder).logs().unwrap().pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = ends(&path)[50] + 20;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    path
}

/// Checks that a segment says whose it is and what is missing, and that the log stands aside.
fn check_aside(folder: &Folder, path: &Path) {
    let store = store(folder);
    let aside = store.folder().join("damaged");
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(!path.exists() && aside.join(name).exists());
    let tail = fs::metadata(aside.join(format!("{name}.tail"))).unwrap();
    assert!(tail.len() > 8, "what was not synced is kept, too");
    assert_eq!(fs::read_dir(folder.0.join("tails")).unwrap().count(), 0);
    let segment = store.segments().unwrap().pop().unwrap();
    for name in ["process", "system", "event"] {
        let table = segment.table(name).unwrap();
        for (column, text) in [("host", "web-1"), ("boot_id", "01234567")] {
            let texts = table.texts(0, column).unwrap();
            assert!(
                texts.iter().all(|one| one.as_deref() == Some(text)),
                "{name}"
            );
        }
    }
    let events = segment.table("event").unwrap();
    let text = |name| events.texts(0, name).unwrap().remove(0).unwrap();
    assert_eq!(
        (text("kind"), text("id")),
        ("finding".into(), "store-damaged".into())
    );
    assert_eq!(text("severity"), "warning");
    let body: serde_json::Value = serde_json::from_str(&text("body")).unwrap();
    assert!(body["lost_ticks"].as_u64() > Some(10), "{body}");
    assert!(body["lost_bytes"].as_u64() > Some(10), "{body}");
    assert_eq!(store.verify().unwrap().broken, []);
}

#[test]
fn compaction_puts_a_damaged_log_aside_and_its_segment_remembers() {
    let folder = Folder::new("crash-aside");
    let path = damaged_log(&folder);
    let damages = store(&folder).compact_at(0).unwrap();
    assert_eq!(damages.len(), 1);
    check_aside(&folder, &path);
    assert_eq!(store(&folder).compact_at(0).unwrap(), []);
}

#[test]
fn repair_says_whose_a_damaged_log_was_and_keeps_its_tail() {
    let folder = Folder::new("crash-whose");
    let path = damaged_log(&folder);
    let repaired = store(&folder).repair(&Host::default()).unwrap();
    assert_eq!(repaired.len(), 1);
    check_aside(&folder, &path);
}

#[test]
fn what_was_put_aside_is_bounded_and_the_oldest_goes_first() {
    let folder = Folder::new("crash-trim");
    let aside = store(&folder).folder().join("damaged");
    let mut rows = Rows::default();
    rows.push(&tick(5));
    let sources = ["1", "2"].map(str::to_owned);
    segments::publish(&store(&folder).segments_folder(), "of", &sources, rows).unwrap();
    fs::create_dir_all(aside.join("segment")).unwrap();
    fs::write(aside.join("segment/process.parquet"), [1; 100]).unwrap();
    // No segment holds what was in the first one.
    for name in ["0.wal", "1.wal", "1.wal.tail", "2.wal"] {
        fs::write(aside.join(name), [1; 10]).unwrap();
    }
    let left = || {
        let entries = fs::read_dir(&aside).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    store(&folder).trim_aside(30);
    let all = ["0.wal", "1.wal", "1.wal.tail", "2.wal", "segment"];
    assert_eq!(left(), all);
    store(&folder).trim_aside(25);
    assert_eq!(left(), ["0.wal", "1.wal.tail", "2.wal", "segment"]);
    store(&folder).trim_aside(0);
    assert_eq!(left(), ["0.wal", "2.wal", "segment"]);
}

#[test]
fn a_log_of_which_no_sample_is_left_is_still_told() {
    let folder = Folder::new("crash-none");
    let path = log(&folder, 10..60);
    let mut bytes = fs::read(&path).unwrap();
    // The only key frame.
    bytes[BLOCK + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let store = store(&folder);
    assert_eq!(store.compact_at(0).unwrap().len(), 1);
    log(&folder, 100..150);
    store.compact_at(0).unwrap();
    assert_eq!(store.segments().unwrap().len(), 2);
    // Among the others of its day, too.
    for now_ms in [0, i64::MAX] {
        assert_eq!(store.compact_at(now_ms).unwrap(), []);
        assert_eq!(store.verify().unwrap().broken, []);
        let (n, errors) = all(&store);
        assert_eq!((n, errors.len()), (50 * u64::from(PROCESSES), 0));
        let events: u64 = store
            .segments()
            .unwrap()
            .iter()
            .map(|segment| segment.table("event").unwrap().rows())
            .sum();
        assert_eq!(events, 1);
    }
}
