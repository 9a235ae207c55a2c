//! Runs, summed-up hours and the samples themselves say the same, wherever a range is cut.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::rows::Rows;
use super::*;
use crate::model::ClockPair;
use crate::model::Piece;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::Sample;
use crate::model::Sums;

/// Removed at the end, whatever happens.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

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
        let folder = Folder(std::env::temp_dir().join(format!("aiops-series-{}", std::process::id())));
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
            let times: Vec<i64> = inside().map(time).collect();
            prop_assert_eq!(coverage.times, times);
        }
    }
}
