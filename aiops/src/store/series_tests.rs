//! Runs, summed-up hours and the samples themselves say the same, wherever a range is cut.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::Encoder;
use super::super::WalOptions;
use super::super::WalWriter;
use super::super::logs::tail;
use super::super::rows::Rows;
use super::super::segments;
use super::*;
use crate::model::ClockPair;
use crate::model::Piece;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::Sample;
use crate::model::Sums;
use crate::testing::Folder;

/// Before a full hour (UTC), so that ranges hold whole hours and parts of them.
const BEGIN: i64 = 3_000_000;

fn ticks(levels: &[Vec<Option<u64>>]) -> Vec<Tick> {
    let mut ts = BEGIN;
    let tick = |(index, level): (usize, &Vec<Option<u64>>)| {
        // Irregular, with a gap now and then.
        ts += [300_000, 100_000, 173_000, 900_000][index % 4];
        let process = |(pid, rss_kb): (usize, &Option<u64>)| {
            Some(ProcessSample {
                pid: u32::try_from(pid).ok()? + 1,
                start_ticks: 9,
                comm: RawText::from(if pid % 2 == 0 { "even" } else { "odd" }),
                metrics: ProcessMetrics {
                    rss_kb: Some((*rss_kb)?),
                    ..ProcessMetrics::default()
                },
                ..ProcessSample::default()
            })
        };
        Tick {
            clock: ClockPair {
                real_ns: ts * 1_000_000,
                ..ClockPair::default()
            },
            sample: Sample {
                processes: level.iter().enumerate().filter_map(process).collect(),
                ..Sample::default()
            },
            identities: Vec::new(),
        }
    };
    levels.iter().enumerate().map(tick).collect()
}

type Found = BTreeMap<u32, (u64, i128, i64, i64, i64, i64)>;

fn short(sums: &Sums) -> (u64, i128, i64, i64, i64, i64) {
    let ends = (sums.first.1, sums.last.1);
    (sums.n, sums.sum, sums.min, sums.max, ends.0, ends.1)
}

fn found(store: &Store, range: Range, hours: bool) -> (Found, Coverage) {
    let ask = Ask {
        range,
        fields: &["rss_kb"],
        pids: &[],
        programs: false,
    };
    let mut sums: BTreeMap<u32, Sums> = BTreeMap::new();
    let coverage = store.pieces(&ask, hours, &mut |piece| match piece {
        Piece::Run(run) => {
            assert_eq!(run.samples().len(), run.n);
            let (from, to) = run.span();
            let own = sums.entry(run.who.pid).or_default();
            own.add(run.values[0].unwrap(), run.n as u64, from, to);
        }
        Piece::Hour(hour) => sums.entry(hour.who.pid).or_default().join(&hour.sums[0]),
    });
    let sums = sums.iter().map(|(pid, sums)| (*pid, short(sums)));
    (sums.collect(), coverage.unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn runs_and_hours_say_what_the_samples_say(
        levels in proptest::collection::vec(proptest::collection::vec(proptest::option::of(0..3_u64), 1..4), 1..60),
        from in -10..400_i64,
        len in 1..400_i64,
    ) {
        let ticks = ticks(&levels);
        let start_ms = BEGIN + from * 50_000;
        let range = Range { start_ms, end_ms: start_ms + len * 50_000 };
        let folder = Folder::new("series");
        let segments = folder.0.join("segments");
        std::fs::create_dir_all(&segments).unwrap();
        // Two segments, the second one from the middle of an hour on.
        let (first, second) = ticks.split_at(ticks.len() / 2);
        for (id, ticks) in [("a", first), ("b", second)] {
            let mut rows = Rows::default();
            ticks.iter().for_each(|tick| rows.push(tick));
            segments::publish(&segments, id, &[], rows).unwrap();
        }
        let mut expected: BTreeMap<u32, Sums> = BTreeMap::new();
        let inside = || ticks.iter().filter(|tick| range.holds(time(tick)));
        for tick in inside() {
            for process in &tick.sample.processes {
                let value = int(process.metrics.rss_kb.unwrap());
                expected.entry(process.pid).or_default().add(value, 1, time(tick), time(tick));
            }
        }
        let expected: Found = expected.iter().map(|(pid, sums)| (*pid, short(sums))).collect();
        let store = Store::at(&folder.0);
        for hours in [false, true] {
            let (sums, coverage) = found(&store, range, hours);
            prop_assert_eq!(&sums, &expected, "hours {}", hours);
            prop_assert_eq!(coverage.damages, []);
            // Nothing is known of who was there where a segment has no process at all.
            let has = |ticks: &[Tick]| ticks.iter().any(|tick| !tick.sample.processes.is_empty());
            let parts = [first, second];
            let told: Vec<_> = parts.iter().filter(|part| has(part) || !has(&ticks)).collect();
            let told = told.iter().flat_map(|part| part.iter()).map(time);
            let times: Vec<i64> = told.filter(|ts| range.holds(*ts)).collect();
            prop_assert_eq!(coverage.times, times);
        }
    }
}

/// A store of its own for a test.
fn empty(name: &str) -> (Folder, Store) {
    let folder = Folder::new(&format!("series-{name}"));
    for part in ["segments", "wal", "tails"] {
        std::fs::create_dir_all(folder.0.join(part)).unwrap();
    }
    let store = Store::at(&folder.0).with_tails(&folder.0.join("tails"));
    (folder, store)
}

fn host() -> Host {
    Host {
        boot_id: Some("3f0c9a52-6a1e-4d53-9d0e-0f6f5b7f1c11".to_owned()),
        ..Host::default()
    }
}

fn segment(store: &Store, ticks: &[Tick], events: Vec<Event>) -> Segment {
    let mut rows = Rows::default();
    rows.of(&host());
    ticks.iter().for_each(|tick| rows.push(tick));
    events.into_iter().for_each(|event| rows.event(event));
    let made = segments::publish(&store.segments_folder(), "a", &[], rows);
    made.unwrap().unwrap()
}

/// A log that is being written: the last tick stands in its tail.
fn live(store: &Store, id: &str, ticks: &[Tick]) -> WalWriter {
    let mut writer = WalWriter::create(&WalOptions {
        path: store.wals().join(format!("{id}.wal")),
        tail: Some(tail(&store.tails().unwrap(), id)),
        id: id.to_owned(),
        host: host(),
    })
    .unwrap();
    let mut encoder = Encoder::default();
    for (index, tick) in ticks.iter().enumerate() {
        let mut frame = bytes::BytesMut::new();
        encoder.encode(tick, index == 0, &mut frame);
        if index + 1 == ticks.len() {
            writer.sync().unwrap();
        }
        writer.push(1, &frame).unwrap();
    }
    writer
}

const ALWAYS: Range = Range {
    start_ms: 0,
    end_ms: i64::MAX,
};

#[test]
fn a_process_of_a_segment_and_of_a_log_is_one() {
    let (_folder, store) = empty("boot");
    let ticks = ticks(&vec![vec![Some(1)]; 4]);
    segment(&store, &ticks[..2], Vec::new());
    let _writer = live(&store, "b", &ticks[2..]);
    let ask = Ask {
        range: ALWAYS,
        fields: &["rss_kb"],
        pids: &[],
        programs: false,
    };
    let (mut who, mut samples) = (BTreeSet::new(), 0);
    let take = &mut |run: &Run<'_>| {
        let boot = run.who.boot.map(|boot| (boot.id, boot.text.to_owned()));
        who.insert((boot, run.who.pid, run.who.start));
        samples += run.n;
    };
    store.runs(&ask, take).unwrap();
    assert_eq!(who.len(), 1, "{who:?}");
    assert_eq!(samples, 4);
}

#[test]
fn a_log_that_is_removed_while_it_is_read_costs_nothing() {
    let (folder, store) = empty("removed");
    let ticks = ticks(&vec![vec![Some(1)]; 3]);
    let _writer = live(&store, "b", &ticks);
    let (logs, _) = store.fresh_logs().unwrap();
    std::fs::remove_dir_all(folder.0.join("wal")).unwrap();
    std::fs::remove_dir_all(folder.0.join("tails")).unwrap();
    let mut found = 0;
    assert_eq!(logs[0].entries(&mut |_, _| found += 1), None);
    assert_eq!(found, ticks.len());
}

#[test]
fn what_vanishes_before_it_is_opened_is_looked_for_again() {
    let (folder, store) = empty("vanished");
    let made = segment(&store, &ticks(&[vec![Some(1)]]), Vec::new());
    assert!(Opened::open(made.clone(), &["process"]).is_ok());
    // As a merge does it, between two files.
    std::fs::rename(&made.path, folder.0.join("segments/tmp-gone-a")).unwrap();
    assert!(Opened::open(made.clone(), &["process"]).is_err_and(|error| is_vanished(&error)));
    assert!(OpenLog::open(made.path.clone(), None).is_err_and(|error| is_vanished(&error)));
    let mut tries = 0;
    let found = again(|| {
        tries += 1;
        if tries < 3 {
            Err(vanished(&made.path))
        } else {
            Ok(tries)
        }
    });
    assert_eq!(found.unwrap(), 3);
}

/// Flips a bit in the first column of a table.
fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[40] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_flipped_bit_is_found_by_who_reads_that_table() {
    let (_folder, store) = empty("flip");
    let made = segment(&store, &ticks(&vec![vec![Some(1)]; 3]), Vec::new());
    flip(&made.path.join("process.parquet"));
    let (sums, coverage) = found(&store, ALWAYS, false);
    assert_eq!(sums, Found::new());
    let error = coverage.damages[0].error.as_deref().unwrap();
    assert!(error.contains("process.parquet: its checksum"), "{error}");
    // A tick whose rows cannot be read is no tick at which nobody was there.
    assert!(coverage.times.is_empty());
    let (_, coverage) = found(&store, ALWAYS, true);
    assert_eq!((coverage.damages.len(), coverage.times.len()), (0, 3));
    let cut = Range {
        start_ms: 0,
        end_ms: BEGIN + 450_000,
    };
    let (_, coverage) = found(&store, cut, true);
    assert_eq!((coverage.damages.len(), coverage.times), (1, Vec::new()));
    let ask = Ask {
        range: ALWAYS,
        fields: &[],
        pids: &[],
        programs: false,
    };
    let coverage = store.system(&ask, &mut |_, _| {}).unwrap();
    assert_eq!((coverage.damages, coverage.times.len()), (Vec::new(), 3));
    flip(&made.path.join("system.parquet"));
    assert_eq!(store.system(&ask, &mut |_, _| {}).unwrap().damages.len(), 1);
}

#[test]
fn a_damaged_rollup_hides_no_rows() {
    let (_folder, store) = empty("rollup");
    let made = segment(&store, &ticks(&vec![vec![Some(1)]; 3]), Vec::new());
    let whole = found(&store, ALWAYS, true).0;
    let rollup = made.path.join("rollup.parquet");
    flip(&rollup);
    for _ in 0..2 {
        let (sums, coverage) = found(&store, ALWAYS, true);
        assert_eq!((&sums, coverage.times.len()), (&whole, 3));
        assert_eq!(coverage.damages.len(), 1);
        assert_eq!(found(&store, ALWAYS, false).1.damages, []);
        // The second time it is no file.
        std::fs::remove_file(&rollup).unwrap();
        std::os::unix::fs::symlink("/dev/null", &rollup).unwrap();
    }
    std::fs::remove_file(&rollup).unwrap();
    assert_eq!(found(&store, ALWAYS, true).0, whole);
}

#[test]
fn a_segment_without_a_process_counts_nobody_as_absent() {
    let (_folder, store) = empty("bare");
    let ticks = ticks(&[vec![None], vec![None], vec![Some(1)]]);
    segment(&store, &ticks[..2], Vec::new());
    let (_, coverage) = found(&store, ALWAYS, false);
    assert_eq!(coverage.times.len(), 2, "nobody is there to be absent");
    let _writer = live(&store, "b", &ticks[2..]);
    for hours in [false, true] {
        let (_, coverage) = found(&store, ALWAYS, hours);
        assert_eq!(coverage.times, [time(&ticks[2])]);
    }
}

#[test]
fn a_table_that_cannot_be_read_costs_no_other_one_in_an_export() {
    let (_folder, store) = empty("export");
    let made = segment(&store, &ticks(&vec![vec![Some(1)]; 3]), Vec::new());
    // As of an older version, which said no checksums: the damage shows when the rows are read.
    std::fs::remove_file(made.path.join("_sums")).unwrap();
    let process = made.path.join("process.parquet");
    let mut bytes = std::fs::read(&process).unwrap();
    bytes[4..40].fill(0xff);
    std::fs::write(&process, bytes).unwrap();
    let mut rows = Vec::new();
    let tables = ["process", "system"];
    let damages = store.rows::<StoreError>(ALWAYS, &tables, &mut |batch| {
        rows.extend(batch.map(|batch| (batch.table, batch.rows())));
        Ok(())
    });
    assert_eq!(rows, [("system", 3)]);
    assert_eq!(damages.unwrap().len(), 1);
}

#[test]
fn what_a_damaged_segment_was_made_from_does_not_count_again() {
    let (_folder, store) = empty("sources");
    let mut rows = Rows::default();
    ticks(&vec![vec![Some(1)]; 3])
        .iter()
        .for_each(|tick| rows.push(tick));
    let sources = ["log".to_owned()];
    let made = segments::publish(&store.segments_folder(), "a", &sources, rows);
    let made = made.unwrap().unwrap();
    flip(&made.path.join("system.parquet"));
    assert_eq!(made.sources(), sources);
}

#[test]
fn an_event_behind_the_last_tick_is_found() {
    let (_folder, store) = empty("event");
    let ticks = ticks(&vec![vec![Some(1)]; 3]);
    let ts_ms = time(&ticks[2]) + 600_000;
    let event = Event {
        ts_ms,
        kind: "oom".to_owned(),
        id: "oom-1".to_owned(),
        severity: "critical".to_owned(),
        title: String::new(),
        pid: None,
        cgroup: None,
        body: "{}".to_owned(),
    };
    segment(&store, &ticks, vec![event]);
    let range = Range {
        start_ms: ts_ms - 1000,
        end_ms: ts_ms + 1000,
    };
    let (events, coverage) = store.events(range).unwrap();
    assert_eq!(
        events.iter().map(|one| one.ts_ms).collect::<Vec<_>>(),
        [ts_ms]
    );
    assert!(coverage.times.is_empty());
    let mut rows = 0;
    let damages = store.rows::<StoreError>(range, &["event"], &mut |batch| {
        rows += batch.map_or(0, super::super::Batch::rows);
        Ok(())
    });
    assert_eq!((rows, damages.unwrap()), (1, Vec::new()));
}
