//! A store over hours, with one writer.

use super::super::Range;
use super::super::Scan;
use super::*;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::Sample;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiops-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> Store {
        Store::at(&self.0.join("store")).with_tails(&self.0.join("tails"))
    }

    fn recorder(&self) -> Recorder {
        Recorder::open(self.store(), Host::default()).unwrap()
    }

    fn everything(&self) -> (u64, i128) {
        let range = Range {
            start_ms: 0,
            end_ms: i64::MAX,
        };
        let mut scan = Scan::new(range, &["rss_kb"]);
        for segment in self.store().segments().unwrap() {
            scan.segment(&segment).unwrap();
        }
        let damages = self
            .store()
            .fresh(|entry| {
                if let Entry::Tick(tick) = entry {
                    scan.tick(&tick);
                }
            })
            .unwrap();
        assert_eq!(damages, []);
        let sums = scan.processes.values();
        sums.fold((0, 0), |(n, sum), one| (n + one.n, sum + one.sums[0].sum))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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

#[test]
fn two_hours_are_the_same_before_and_after_compaction() {
    let folder = Folder::new("hours");
    let mut recorder = folder.recorder();
    let mut turns = 0;
    let seconds = (0..2 * HOUR_S + 300).step_by(5).skip(1);
    for second in seconds.clone() {
        turns += u32::from(recorder.push(&tick(second), false).unwrap());
    }
    assert_eq!(turns, 2);
    let count = seconds.clone().count() as u64;
    let sum: u64 = seconds.map(|second| 100 + second).sum();
    let expected = (2 * count, i128::from(sum));
    assert_eq!(folder.everything(), expected);
    let damages = folder.store().compact().unwrap();
    assert_eq!(damages, []);
    assert_eq!(folder.store().segments().unwrap().len(), 2);
    assert_eq!(
        folder.store().logs().unwrap().len(),
        1,
        "the log being written stays"
    );
    assert_eq!(folder.everything(), expected);
    recorder.close().unwrap();
    folder.store().compact().unwrap();
    assert_eq!(folder.store().segments().unwrap().len(), 3);
    assert_eq!(folder.everything(), expected);
    assert_eq!(
        folder
            .store()
            .retain(HOUR_S.cast_signed() * 1000, u64::MAX)
            .unwrap(),
        1
    );
    assert_eq!(folder.store().retain(0, 0).unwrap(), 2);
}

#[test]
fn one_writer_and_one_owner() {
    let folder = Folder::new("one");
    let recorder = folder.recorder();
    let second = Recorder::open(folder.store(), Host::default());
    assert!(matches!(second, Err(StoreError::Busy { .. })));
    drop(recorder);
    use std::os::unix::fs::PermissionsExt as _;
    let open = fs::Permissions::from_mode(0o770);
    fs::set_permissions(folder.store().folder(), open).unwrap();
    let other = Recorder::open(folder.store(), Host::default());
    assert!(matches!(other, Err(StoreError::Unsafe { .. })));
}

#[test]
fn a_calendar_that_is_set_back_begins_another_log() {
    let folder = Folder::new("back");
    let mut recorder = folder.recorder();
    recorder.push(&tick(5000), false).unwrap();
    let mut back = tick(5005);
    back.clock.real_ns -= 600_000_000_000;
    assert!(recorder.push(&back, false).unwrap());
    let mut suspended = tick(5010);
    suspended.clock.real_ns -= 590_000_000_000;
    suspended.clock.boot_ns += 10_000_000_000;
    assert!(
        !recorder.push(&suspended, true).unwrap(),
        "a suspend is no step"
    );
    recorder.close().unwrap();
    assert_eq!(folder.everything().0, 6);
}

#[test]
fn what_a_killed_writer_left_is_read_and_compacted() {
    let folder = Folder::new("killed");
    let mut recorder = folder.recorder();
    for second in (100..200).step_by(5) {
        recorder.push(&tick(second), false).unwrap();
    }
    // As a kill would: nothing is closed, the locks are gone.
    let before = folder.everything();
    drop(recorder);
    assert_eq!(folder.everything(), before);
    folder.store().compact().unwrap();
    assert_eq!(folder.everything(), before);
    assert_eq!(before.0, 40);
}
