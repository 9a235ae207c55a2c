//! A store over hours, with one writer.

use super::super::Range;
use super::super::Segment;
use super::super::crash_tests::samples;
use super::super::merge;
use super::super::rows::Rows;
use super::super::table;
use super::super::table::Column;
use super::super::table::Values;
use super::*;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::Sample;
use crate::testing::Folder;

#[path = "figures_tests.rs"]
mod figures;
#[path = "repair_tests.rs"]
mod repair;

fn store(folder: &Folder) -> Store {
    Store::at(&folder.file("store")).with_tails(&folder.file("tails"))
}

fn recorder(folder: &Folder) -> Recorder {
    Recorder::open(store(folder), Host::default()).unwrap()
}

fn everything(folder: &Folder) -> (u64, i128) {
    sums(folder, 0, i64::MAX)
}

/// Samples in a range and the sum of their memory, of a store that is whole.
fn sums(folder: &Folder, start_ms: i64, end_ms: i64) -> (u64, i128) {
    let range = Range { start_ms, end_ms };
    let found = [false, true].map(|hours| samples(&store(folder), range, hours));
    let [exact, summed] = found.map(|(n, sum, damages)| {
        assert_eq!(damages, []);
        (n, sum)
    });
    assert_eq!(exact, summed);
    exact
}

const HOUR_S: u64 = 3600;

/// Two processes; the second one changes all the time.
fn tick(second: u64) -> Tick {
    let process = |pid, rss_kb| ProcessSample {
        pid,
        start_ticks: 5,
        metrics: ProcessMetrics {
            rss_kb: Some(rss_kb),
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
            processes: vec![process(1, 100), process(2, second)],
            ..Sample::default()
        },
        identities: Vec::new(),
    }
}

const DAY_S: u64 = 24 * HOUR_S;
const DAY_MS: i64 = 24 * 3_600_000;

/// Ticks from one second to another, every five minutes.
fn fill(recorder: &mut Recorder, seconds: std::ops::Range<u64>) {
    for second in seconds.step_by(300) {
        recorder.push(&tick(second), false).unwrap();
    }
}

fn column_sum(segment: &Segment, table: &str, name: &str) -> (usize, i64) {
    let table = segment.table(table).unwrap();
    let mut found = (0, 0);
    for group in 0..table.groups() {
        for value in table.ints(group, name).unwrap() {
            found.0 += 1;
            found.1 += value.unwrap_or(0);
        }
    }
    found
}

/// Copies a folder with its files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_finished_day_becomes_one_segment_that_says_the_same() {
    let folder = Folder::new("store-day");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..DAY_S + 7300);
    let store = store(&folder);
    store.compact_at(0).unwrap();
    let hours = store.segments().unwrap();
    assert_eq!(hours.len(), 26, "no day is finished: hours stay");
    let noon = DAY_MS / 2;
    let ranges = [
        (0, i64::MAX),
        (noon, noon + 1),
        (noon + 1000, noon + 5_000_000),
        (DAY_MS - 4_000_000, DAY_MS + 900_000),
    ];
    let before = ranges.map(|(from, to)| sums(&folder, from, to));
    let of = |table, name: &str| -> i64 {
        let segments = store.segments().unwrap();
        segments
            .iter()
            .map(|one| column_sum(one, table, name).1)
            .sum()
    };
    let totals = || {
        [
            of("process", "n"),
            of("rollup", "n"),
            of("rollup", "rss_kb_sum"),
            of("system", "mono_ms"),
        ]
    };
    let known = totals();
    assert_eq!(known[0], known[1]);
    store.compact_at(DAY_MS + 1).unwrap();
    let merged = store.segments().unwrap();
    assert_eq!(merged.len(), 3, "a day and two hours");
    assert_eq!(
        (merged[0].from_ms, merged[0].to_ms),
        (300_000, DAY_MS - 300_000)
    );
    assert_eq!(ranges.map(|(from, to)| sums(&folder, from, to)), before);
    assert_eq!(totals(), known);
    let entries = fs::read_dir(store.segments_folder()).unwrap().count();
    assert_eq!(entries, 3, "nothing else is left");
    // In the order of the rows: by process, then by time.
    let table = merged[0].table("process").unwrap();
    let (pid, ts) = (table.ints(0, "pid").unwrap(), table.ints(0, "ts").unwrap());
    assert!(pid.iter().zip(&ts).is_sorted());
    store.compact_at(DAY_MS + 1).unwrap();
    assert_eq!(
        store.segments().unwrap(),
        merged,
        "a second run has nothing to do"
    );
    recorder.close().unwrap();
}

#[test]
fn a_merge_that_is_killed_counts_everything_once() {
    let folder = Folder::new("store-merge-killed");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..DAY_S);
    recorder.close().unwrap();
    let store = store(&folder);
    store.compact_at(0).unwrap();
    let hours = store.segments().unwrap();
    let before = everything(&folder);
    let kept = folder.0.join("kept");
    for hour in &hours {
        copy(&hour.path, &kept.join(hour.path.file_name().unwrap()));
    }
    // Killed while it wrote: a folder with some of the tables.
    let half = store.segments_folder().join("tmp-300000-1-many-2-0");
    fs::create_dir(&half).unwrap();
    fs::copy(
        hours[0].path.join("process.parquet"),
        half.join("process.parquet"),
    )
    .unwrap();
    assert_eq!(everything(&folder), before);
    // Killed when it had published, and then when it had removed some of the hours.
    merge::publish(&store.segments_folder(), &hours).unwrap();
    assert_eq!(everything(&folder), before);
    fs::remove_dir_all(&hours[3].path).unwrap();
    fs::remove_file(hours[4].path.join("system.parquet")).unwrap();
    assert_eq!(everything(&folder), before);
    store.compact_at(DAY_MS).unwrap();
    assert_eq!(everything(&folder), before);
    assert_eq!(fs::read_dir(store.segments_folder()).unwrap().count(), 1);
    // A power cut that undid the removals.
    for hour in &hours {
        copy(&kept.join(hour.path.file_name().unwrap()), &hour.path);
    }
    assert_eq!(everything(&folder), before);
    store.retain(0, u64::MAX).unwrap();
    assert_eq!(fs::read_dir(store.segments_folder()).unwrap().count(), 1);
    assert_eq!(everything(&folder), before);
}

#[test]
fn hours_that_overlap_are_left_as_they_are() {
    let folder = Folder::new("store-overlap");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..5 * HOUR_S);
    // Back to the second hour, and on from there.
    for second in (5 * HOUR_S..7 * HOUR_S).step_by(100) {
        let mut back = tick(second);
        back.clock.real_ns -= 4 * 3_600_000_000_000 - 7_000_000_000;
        recorder.push(&back, false).unwrap();
    }
    recorder.close().unwrap();
    let store = store(&folder);
    store.compact_at(0).unwrap();
    let hour = 3_600_000;
    let ranges = [
        (0, i64::MAX),
        (hour, 2 * hour),
        (hour + 20_000, hour + 900_000),
    ];
    let before = ranges.map(|(from, to)| sums(&folder, from, to));
    assert_eq!(store.segments().unwrap().len(), 7);
    store.compact_at(DAY_MS).unwrap();
    let merged = store.segments().unwrap();
    assert_eq!(merged.len(), 3, "{merged:?}");
    assert_eq!(ranges.map(|(from, to)| sums(&folder, from, to)), before);
    store.compact_at(DAY_MS).unwrap();
    assert_eq!(store.segments().unwrap(), merged);
}

#[test]
fn a_writer_that_begins_again_and_again_leaves_one_segment_an_hour() {
    let folder = Folder::new("store-restarts");
    let store = store(&folder);
    let mut count = 0;
    for second in (300..HOUR_S + 700).step_by(25) {
        let mut recorder = recorder(&folder);
        recorder.push(&tick(second), false).unwrap();
        recorder.close().unwrap();
        count += 1;
    }
    store.compact_at(0).unwrap();
    assert_eq!(store.segments().unwrap().len(), count);
    assert!(count > 150, "more than are merged at once");
    let before = everything(&folder);
    store.compact_at(HOUR_MS).unwrap();
    let merged = store.segments().unwrap();
    assert_eq!(merged.len(), 29, "an hour, and what is of the next one");
    assert_eq!(everything(&folder), before);
    store.compact_at(2 * HOUR_MS).unwrap();
    assert_eq!(store.segments().unwrap().len(), 2);
    store.compact_at(DAY_MS).unwrap();
    assert_eq!(store.segments().unwrap().len(), 1);
    assert_eq!(everything(&folder), before);
}

#[test]
fn a_column_that_an_older_segment_lacks_is_unknown_there() {
    let folder = Folder::new("store-layouts");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..2 * HOUR_S);
    recorder.close().unwrap();
    let store = store(&folder);
    store.compact_at(0).unwrap();
    let hours = store.segments().unwrap();
    let path = hours[0].path.join("process.parquet");
    fs::remove_file(&path).unwrap();
    let ints = |value| Values::Int(vec![Some(value); 2]);
    let columns = [
        Column::new("pid", Values::Int(vec![Some(1), Some(2)])),
        Column::new("start", ints(5)),
        Column::new("ts", Values::Time(vec![300_000; 2])),
        Column::new("n", ints(1)),
        Column::new("of_old", ints(77)),
    ];
    table::write(&path, &columns, &[]).unwrap();
    // As of a version that wrote no checksums.
    let _ = fs::remove_file(hours[0].path.join("_sums"));
    store.compact_at(DAY_MS).unwrap();
    let day = store.segments().unwrap();
    assert_eq!(day.len(), 1);
    let table = day[0].table("process").unwrap();
    let (ts, rss) = (
        table.ints(0, "ts").unwrap(),
        table.ints(0, "rss_kb").unwrap(),
    );
    let old = table.ints(0, "of_old").unwrap();
    assert!(table.texts(0, "comm").unwrap().iter().any(Option::is_none));
    let mut olds = 0;
    for ((ts, rss), old) in ts.iter().zip(rss).zip(old) {
        let is_old = *ts == Some(300_000);
        assert_eq!(rss.is_none(), is_old);
        assert_eq!(old, is_old.then_some(77));
        olds += usize::from(is_old);
    }
    assert_eq!(olds, 2);
}

#[test]
fn a_damaged_segment_keeps_its_day_from_being_merged_and_is_told() {
    let folder = Folder::new("store-damaged");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..2 * HOUR_S);
    recorder.close().unwrap();
    let store = store(&folder);
    store.compact_at(0).unwrap();
    let hours = store.segments().unwrap();
    fs::write(hours[1].path.join("process.parquet"), b"PAR1").unwrap();
    let damages = store.compact_at(DAY_MS).unwrap();
    assert_eq!(damages.len(), 1);
    assert!(damages[0].path.starts_with(&hours[1].path) && damages[0].error.is_some());
    assert_eq!(store.segments().unwrap(), hours);
    assert_eq!(fs::read_dir(store.segments_folder()).unwrap().count(), 2);
}

#[test]
fn whole_segments_go_the_oldest_first_and_never_the_newest_day() {
    let folder = Folder::new("store-retain");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..3 * DAY_S + 7300);
    let store = store(&folder);
    store.compact_at(3 * DAY_MS + 1).unwrap();
    let all = store.segments().unwrap();
    assert_eq!(all.len(), 5, "three days and two hours");
    let bytes = store.bytes().unwrap();
    let of_segments: u64 = all.iter().map(Segment::bytes).sum();
    assert!(bytes > of_segments, "the log that is written counts, too");
    assert_eq!(store.retain(0, u64::MAX).unwrap(), Default::default());
    let aside = store.folder().join("damaged");
    place::own_folder(&aside).unwrap();
    fs::write(aside.join("old.wal"), vec![1; 1 << 20]).unwrap();
    assert_eq!(
        store.retain(0, bytes).unwrap(),
        Default::default(),
        "what was put aside costs no segment"
    );
    fs::remove_file(aside.join("old.wal")).unwrap();
    let removed = store.retain(DAY_MS, u64::MAX).unwrap();
    assert_eq!(removed.segments, all[..1]);
    assert_eq!(removed.bytes, bytes - store.bytes().unwrap());
    let removed = store.retain(0, store.bytes().unwrap() - 1).unwrap();
    assert_eq!(removed.segments, all[1..2]);
    let removed = store.retain(i64::MAX, 0).unwrap();
    assert_eq!(removed.segments, all[2..3], "the newest day stays");
    assert_eq!(store.segments().unwrap(), all[3..]);
    recorder.close().unwrap();
}

#[test]
fn two_never_compact_at_once() {
    let folder = Folder::new("store-busy");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..2 * HOUR_S);
    let store = store(&folder);
    // As repair does.
    let lock = store.upkeep(false).unwrap();
    let busy = StoreError::Upkeep {
        path: store.folder().to_path_buf(),
    };
    let said = |error: StoreError| (error.to_string(), error.remedy());
    assert_eq!(said(store.compact().unwrap_err()), said(busy));
    let retained = store.retain(0, 0);
    assert!(matches!(retained, Err(StoreError::Upkeep { .. })));
    drop(lock);
    store.compact().unwrap();
    recorder.close().unwrap();
    let locks = fs::read_dir(store.folder()).unwrap().flatten();
    let locks = locks.filter(|entry| entry.file_name().to_string_lossy().contains("lock"));
    assert_eq!(locks.count(), 2, "the writer's, and that of upkeep");
}

#[test]
fn what_stands_for_nothing_goes_and_what_cannot_be_read_stays() {
    let folder = Folder::new("store-orphans");
    let mut recorder = recorder(&folder);
    fill(&mut recorder, 300..1200);
    let tails = folder.0.join("tails");
    let own = fs::read_dir(&tails).unwrap().count();
    assert_eq!(own, 1);
    fs::write(tails.join("000000000000001-0-1.tail"), b"left").unwrap();
    fs::write(tails.join("notes.txt"), b"of somebody").unwrap();
    let store = store(&folder);
    let strange = store.wals().join("000000000000001-0-2.wal");
    fs::write(&strange, b"not a log").unwrap();
    let damages = store.compact().unwrap();
    assert_eq!(damages.len(), 1);
    assert!(damages[0].path == strange && damages[0].error.is_some());
    assert!(strange.exists());
    let left = fs::read_dir(&tails).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().path()).collect();
    left.retain(|path| path.extension().is_some_and(|end| end == "tail"));
    assert_eq!(left.len(), 1, "the writer's own stays");
    assert!(tails.join("notes.txt").exists());
    recorder.close().unwrap();
}

#[test]
fn who_a_process_is_and_of_which_boot_stands_in_each_segment() {
    let folder = Folder::new("store-who");
    let host = Host {
        hostname: "web-1".into(),
        boot_id: Some("0123456789abcdef".to_owned()),
        ..Host::default()
    };
    let mut recorder = Recorder::open(store(&folder), host).unwrap();
    for second in (300..3 * HOUR_S).step_by(300) {
        let mut tick = tick(second);
        if second == 300 {
            tick.identities.push(Identity {
                pid: 1,
                start_ticks: Some(5),
                user: Some("root".to_owned()),
                cgroup: Some("/init".into()),
                ..Identity::default()
            });
        }
        recorder.push(&tick, false).unwrap();
    }
    recorder.close().unwrap();
    let store = store(&folder);
    let mut fresh = 0;
    let damages = store.fresh_of_hosts(|host, _| {
        assert_eq!(host.boot_id.as_deref(), Some("0123456789abcdef"));
        fresh += 1;
    });
    assert_eq!((damages.unwrap(), fresh), (Vec::new(), 35));
    store.compact_at(0).unwrap();
    let segments = store.segments().unwrap();
    assert_eq!(segments.len(), 3);
    for segment in segments {
        for name in ["process", "rollup"] {
            let table = segment.table(name).unwrap();
            let texts = |name| table.texts(0, name).unwrap();
            let (user, cgroup) = (texts("user"), texts("cgroup"));
            for (row, pid) in table.ints(0, "pid").unwrap().into_iter().enumerate() {
                let of_init = |text: &str| (pid == Some(1)).then(|| text.to_owned());
                assert_eq!(user[row], of_init("root"));
                assert_eq!(cgroup[row], of_init("/init"));
            }
        }
        for name in ["process", "rollup", "system"] {
            let table = segment.table(name).unwrap();
            for (column, text) in [("host", "web-1"), ("boot_id", "01234567")] {
                let texts = table.texts(0, column).unwrap();
                assert!(texts.iter().all(|one| one.as_deref() == Some(text)));
            }
        }
    }
}

#[test]
fn two_hours_are_the_same_before_and_after_compaction() {
    let folder = Folder::new("store-hours");
    let mut recorder = recorder(&folder);
    let mut turns = 0;
    let seconds = (0..2 * HOUR_S + 300).step_by(5).skip(1);
    for second in seconds.clone() {
        recorder.push(&tick(second), false).unwrap();
        turns += u32::from(recorder.turned());
    }
    assert_eq!(turns, 2);
    let count = seconds.clone().count() as u64;
    let sum: u64 = seconds.map(|second| 100 + second).sum();
    let expected = (2 * count, i128::from(sum));
    assert_eq!(everything(&folder), expected);
    let damages = store(&folder).compact().unwrap();
    assert_eq!(damages, []);
    assert_eq!(store(&folder).segments().unwrap().len(), 2);
    assert_eq!(
        store(&folder).logs().unwrap().len(),
        1,
        "the log being written stays"
    );
    assert_eq!(everything(&folder), expected);
    recorder.close().unwrap();
    store(&folder).compact_at(DAY_MS - 1).unwrap();
    assert_eq!(store(&folder).segments().unwrap().len(), 3);
    assert_eq!(everything(&folder), expected);
    store(&folder).compact().unwrap();
    assert_eq!(store(&folder).segments().unwrap().len(), 1);
    assert_eq!(everything(&folder), expected);
}

#[test]
fn one_writer_and_one_owner() {
    let folder = Folder::new("store-one");
    let recorder = recorder(&folder);
    let second = Recorder::open(store(&folder), Host::default());
    assert!(matches!(second, Err(StoreError::Busy { .. })));
    drop(recorder);
    use std::os::unix::fs::PermissionsExt as _;
    let open = fs::Permissions::from_mode(0o770);
    fs::set_permissions(store(&folder).folder(), open).unwrap();
    let other = Recorder::open(store(&folder), Host::default());
    assert!(matches!(other, Err(StoreError::Unsafe { .. })));
}

#[test]
fn a_calendar_that_is_set_back_begins_another_log() {
    let folder = Folder::new("store-back");
    let mut recorder = recorder(&folder);
    recorder.push(&tick(5000), false).unwrap();
    let mut back = tick(5005);
    back.clock.real_ns -= 600_000_000_000;
    recorder.push(&back, false).unwrap();
    assert!(recorder.turned());
    let mut suspended = tick(5010);
    suspended.clock.real_ns -= 590_000_000_000;
    suspended.clock.boot_ns += 10_000_000_000;
    recorder.push(&suspended, true).unwrap();
    assert!(!recorder.turned(), "a suspend is no step");
    recorder.close().unwrap();
    assert_eq!(everything(&folder).0, 6);
}

#[test]
fn ticks_that_stand_in_memory_only_are_counted_when_their_log_ends() {
    let folder = Folder::new("untold");
    let mut recorder = recorder(&folder);
    for second in 10..14 {
        recorder.push(&tick(second), false).unwrap();
    }
    let log = recorder.log.as_mut().unwrap();
    log.writer.break_disk();
    for second in 14..17 {
        let pushed = recorder.push(&tick(second), false).unwrap();
        assert!(pushed.unsynced.is_some());
    }
    assert_eq!(recorder.dropped(), 0, "they wait");
    let pushed = recorder.push(&tick(HOUR_S + 1), false).unwrap();
    assert!(recorder.turned() && pushed.unsynced.is_some());
    assert_eq!(recorder.dropped(), 3);
    recorder.close().unwrap();
    let mut read = 0;
    let damages = store(&folder).fresh(|_| read += 1).unwrap();
    assert_eq!((damages, read), (Vec::new(), 5));
}

#[test]
fn what_a_killed_writer_left_is_read_and_compacted() {
    let folder = Folder::new("store-killed");
    let mut recorder = recorder(&folder);
    for second in (100..200).step_by(5) {
        recorder.push(&tick(second), false).unwrap();
    }
    // As a kill would: nothing is closed, the locks are gone.
    let before = everything(&folder);
    drop(recorder);
    assert_eq!(everything(&folder), before);
    store(&folder).compact().unwrap();
    assert_eq!(everything(&folder), before);
    assert_eq!(before.0, 40);
}

#[test]
fn a_log_is_locked_before_it_can_be_seen_and_half_of_one_is_swept() {
    let folder = Folder::new("store-seen");
    let wals = store(&folder).wals();
    let half = wals.join("000000000000001-0-1.new");
    drop(recorder(&folder));
    fs::write(&half, b"AIOPSWAL").unwrap();
    assert_eq!(store(&folder).compact().unwrap(), [], "no log yet");
    let mut recorder = recorder(&folder);
    assert!(!half.exists());
    recorder.push(&tick(5), false).unwrap();
    assert_eq!(fs::read_dir(&wals).unwrap().count(), 1);
    // The writer itself holds the lock, from before its log had a name.
    let path = wals.join("000000000000009-0-9.wal");
    let writer = WalWriter::create(&WalOptions {
        path: path.clone(),
        tail: None,
        id: "000000000000009-0-9".to_owned(),
        host: Host::default(),
    });
    let writer = writer.unwrap();
    let found = File::open(&path).unwrap();
    let lock = || flock(&found, FlockOperation::NonBlockingLockExclusive);
    assert!(lock().is_err());
    store(&folder).compact().unwrap();
    assert!(path.exists() && store(&folder).logs().unwrap().len() == 2);
    drop(writer);
    lock().unwrap();
}

#[test]
fn frames_in_a_tail_go_along_when_the_folder_of_tails_is_another_one() {
    let folder = Folder::new("store-moved");
    let mut recorder = recorder(&folder);
    for second in 1..20 {
        recorder.push(&tick(second), false).unwrap();
    }
    // As a kill would.
    drop(recorder);
    let store = Store::at(store(&folder).folder()).with_tails(&folder.0.join("elsewhere"));
    let mut recorder = Recorder::open(store.clone(), Host::default()).unwrap();
    recorder.push(&tick(20), false).unwrap();
    let mut read = 0;
    assert_eq!(store.fresh(|_| read += 1).unwrap(), []);
    assert_eq!(read, 20);
    assert_eq!(fs::read_dir(folder.0.join("tails")).unwrap().count(), 0);
}

#[test]
fn what_a_segment_was_made_from_does_not_count_twice() {
    let folder = Folder::new("store-twice");
    let publish = |id: &str, sources: &[String], count: u64| {
        let mut rows = Rows::default();
        (0..count).for_each(|second| rows.push(&tick(second)));
        segments::publish(&folder.0, id, sources, rows).unwrap();
    };
    publish("hour", &["log".to_owned()], 3);
    publish("day", &["hour".to_owned()], 4);
    fs::create_dir_all(folder.file("tmp-1-2-x")).unwrap();
    let (segments, made) = segments::list(&folder.0).unwrap();
    assert_eq!(segments.len(), 1);
    assert_eq!(segments[0].id, "day");
    assert!(made.contains("hour") && made.contains("log"));
}

#[test]
fn tails_that_somebody_removes_are_made_again_and_a_removed_store_is_told() {
    let folder = Folder::new("store-gone");
    let mut recorder = recorder(&folder);
    let push = |recorder: &mut Recorder, second| recorder.push(&tick(second), false).map(drop);
    // Also before there is a log that could miss its tail.
    fs::remove_dir_all(folder.file("tails")).unwrap();
    (1..10).for_each(|second| push(&mut recorder, second).unwrap());
    fs::remove_dir_all(folder.file("tails")).unwrap();
    (11..20).for_each(|second| push(&mut recorder, second).unwrap());
    // A kill would lose nothing now.
    assert_eq!(everything(&folder).0, 2 * (9 + 9));
    fs::remove_dir_all(folder.file("store")).unwrap();
    assert!(push(&mut recorder, 20).is_err());
    assert_eq!(recorder.dropped(), 1);
}
