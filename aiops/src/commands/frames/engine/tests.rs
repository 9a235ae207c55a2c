//! A store over hours, half of it compacted, against sums over the same samples.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::model::ClockPair;
use crate::model::Host;
use crate::model::Identity;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::Sample;
use crate::store::Recorder;
use crate::store::Tick;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiops-frames-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> Store {
        Store::at(&self.0.join("store")).with_tails(&self.0.join("tails"))
    }
}

const STEP_S: u64 = 60;
const TICKS: u64 = 200;

/// Who process `pid` is: two names, and two users of which one has no name.
fn who(pid: u32) -> (&'static str, Option<&'static str>, u32) {
    match pid % 4 {
        0 => ("java", Some("root"), 0),
        1 => ("java", None, 7),
        2 => ("nginx", Some("root"), 0),
        _ => ("nginx", None, 7),
    }
}

/// What a process has on a tick, KiB: they come late and go early, and one of them is not known at times.
fn rss(pid: u32, tick: u64) -> Option<Option<u64>> {
    let pid64 = u64::from(pid);
    if tick < pid64 * 5 || tick > TICKS - pid64 * 3 {
        return None;
    }
    if pid == 3 && tick.is_multiple_of(7) {
        return Some(None);
    }
    Some(Some(1000 * pid64 + tick / 10 * pid64))
}

fn tick(at: u64) -> Tick {
    let here = (1..9_u32).filter_map(|pid| Some((pid, rss(pid, at)?)));
    let mono_ns = (at + 1) * STEP_S * 1_000_000_000;
    Tick {
        clock: ClockPair {
            mono_ns,
            boot_ns: mono_ns,
            real_ns: i64::try_from(mono_ns).unwrap(),
        },
        identities: here
            .clone()
            .map(|(pid, _)| {
                let (comm, user, uid) = who(pid);
                Identity {
                    pid,
                    start_ticks: Some(5),
                    comm: RawText::from(comm),
                    uid: Some(uid),
                    user: user.map(str::to_owned),
                    ..Identity::default()
                }
            })
            .collect(),
        sample: Sample {
            processes: here
                .map(|(pid, rss_kb)| {
                    let (comm, _, uid) = who(pid);
                    ProcessSample {
                        pid,
                        start_ticks: 5,
                        comm: RawText::from(comm),
                        uid: Some(uid),
                        metrics: ProcessMetrics {
                            rss_kb,
                            ..ProcessMetrics::default()
                        },
                        ..ProcessSample::default()
                    }
                })
                .collect(),
            ..Sample::default()
        },
    }
}

fn filled(name: &str) -> Folder {
    let folder = Folder::new(name);
    let mut recorder = Recorder::open(folder.store(), Host::default()).unwrap();
    for at in 0..TICKS {
        recorder.push(&tick(at), false).unwrap();
    }
    // The hours that are over; the log being written stays as it is.
    folder.store().compact().unwrap();
    assert!(!folder.store().segments().unwrap().is_empty());
    folder
}

fn ms(tick: u64) -> i64 {
    i64::try_from((tick + 1) * STEP_S * 1000).unwrap()
}

fn ask<'a>(by: &'a [By], from: u64, to: u64) -> Question<'a> {
    Question {
        range: Range {
            start_ms: ms(from),
            end_ms: ms(to),
        },
        keep: &|_| true,
        by,
        field: "rss_kb",
        sort: Sort::Max,
        step_ms: None,
        compare_ms: None,
        top: 0,
    }
}

/// The total of each group on each tick.
fn totals_of(from: u64, to: u64) -> BTreeMap<(&'static str, String), Vec<Option<u64>>> {
    let mut groups = BTreeMap::new();
    let all: BTreeSet<(&str, String)> = (from..to)
        .flat_map(|at| (1..9).filter(move |pid| rss(*pid, at).is_some()))
        .map(key)
        .collect();
    for group in all {
        let total = |at| {
            let here: Vec<Option<u64>> = (1..9)
                .filter(|pid| key(*pid) == group)
                .filter_map(|pid| rss(pid, at))
                .collect();
            let unknown = !here.is_empty() && here.iter().all(Option::is_none);
            (!unknown).then(|| here.into_iter().flatten().sum())
        };
        let totals = (from..to).map(total).collect();
        groups.insert(group, totals);
    }
    groups
}

fn key(pid: u32) -> (&'static str, String) {
    let (comm, user, uid) = who(pid);
    (comm, user.map_or_else(|| uid.to_string(), str::to_owned))
}

fn name(group: &GroupName) -> (String, String) {
    let text = |at: usize| group.0[at].1.clone().unwrap();
    assert_eq!(
        (group.0[0].0.as_str(), group.0[1].0.as_str()),
        ("comm", "user")
    );
    (text(0), text(1))
}

fn average(totals: &[Option<u64>]) -> Option<f64> {
    let known: Vec<u64> = totals.iter().copied().flatten().collect();
    let sum: u64 = known.iter().sum();
    (!known.is_empty()).then(|| sum as f64 / known.len() as f64)
}

#[test]
fn frames_groups_by_two_keys_are_those_of_the_samples() {
    let folder = filled("groups");
    for (from, to) in [(0, TICKS), (17, 150), (58, 61), (190, 200)] {
        let mut question = ask(&[By::Comm, By::User], from, to);
        question.step_ms = Some(600_000);
        let report = groups(&folder.store(), &question).unwrap();
        assert!(report.accounting.complete);
        assert_eq!(report.data.range.ticks, to - from);
        let expected = totals_of(from, to);
        assert_eq!(report.data.rows.len(), expected.len(), "{from}..{to}");
        let max = |row: &GroupRow| row.totals.max;
        assert!(
            report
                .data
                .rows
                .is_sorted_by_key(|row| std::cmp::Reverse(max(row)))
        );
        for row in &report.data.rows {
            let (comm, user) = name(&row.group);
            let (_, totals) = (expected.iter())
                .find(|((known, of), _)| *known == comm && *of == user)
                .unwrap();
            assert_eq!(row.totals.avg, average(totals), "{comm} {user}");
            let most = totals.iter().copied().flatten().max();
            assert_eq!(row.totals.max, most.map(|max| i64::try_from(max).unwrap()));
            let last = totals.last().copied().flatten();
            assert_eq!(
                row.totals.last,
                last.map(|last| i64::try_from(last).unwrap())
            );
            let begin = ms(from).div_euclid(600_000) * 600_000;
            let step_of = |at: usize| (ms(from + at as u64) - begin) / 600_000;
            for (at, cell) in row.steps.iter().enumerate() {
                let inside: Vec<Option<u64>> = (totals.iter().enumerate())
                    .filter(|(tick, _)| step_of(*tick) == i64::try_from(at).unwrap())
                    .map(|(_, total)| *total)
                    .collect();
                assert_eq!(*cell, average(&inside), "{comm} {user} step {at}");
            }
        }
    }
}

/// A boot counts its processes anew: the same id and start are somebody else.
#[test]
fn frames_tell_processes_of_two_boots_apart() {
    let folder = Folder::new("boots");
    for boot in 0..2 {
        let host = Host {
            boot_id: Some(format!("{boot}0000000-0000-4000-8000-000000000000")),
            ..Host::default()
        };
        let mut recorder = Recorder::open(folder.store(), host).unwrap();
        for at in 30..40 {
            recorder.push(&tick(boot * 60 + at), false).unwrap();
        }
        recorder.close().unwrap();
    }
    let report = groups(&folder.store(), &ask(&[By::Comm, By::User], 0, TICKS)).unwrap();
    let java = report.data.rows.iter();
    let mut java = java.filter(|row| name(&row.group) == ("java".to_owned(), "root".to_owned()));
    let row = java.next().unwrap();
    // Processes 4 and 8, of which 8 comes late: 4 in the first boot, both in the second one.
    let here = |from: u64| (from..from + 10).flat_map(|at| [rss(4, at), rss(8, at)]);
    let samples = here(30).chain(here(90)).flatten().count();
    assert_eq!(row.totals.samples, u64::try_from(samples).unwrap());
    assert_eq!(row.totals.processes, 3);
}

#[test]
fn frames_of_two_ranges_say_what_grew() {
    let folder = filled("compare");
    let mut question = ask(&[By::Comm, By::User], 120, 160);
    question.compare_ms = Some(ms(120) - ms(20));
    let report = compare(&folder.store(), &question, ms(120) - ms(20)).unwrap();
    let (before, after) = (totals_of(20, 60), totals_of(120, 160));
    assert_eq!(report.data.rows.len(), 4);
    for row in &report.data.rows {
        let (comm, user) = name(&row.group);
        let of = |all: &BTreeMap<(&str, String), Vec<Option<u64>>>| {
            let found = all
                .iter()
                .find(|((known, of), _)| *known == comm && *of == user);
            found.map_or(Some(0.0), |(_, totals)| average(totals))
        };
        let growth = of(&after)
            .zip(of(&before))
            .map(|(after, before)| after - before);
        assert_eq!(row.growth, growth, "{comm} {user}");
    }
    let shares: f64 = report
        .data
        .rows
        .iter()
        .filter_map(|row| row.share_pct)
        .sum();
    assert!((shares - 100.0).abs() < 1e-6, "{shares}");
}

#[test]
fn frames_keep_to_the_filter_and_say_when_there_is_nothing() {
    let folder = filled("filter");
    let mut question = ask(&[By::Pid], 0, TICKS);
    let keep = |who: &Owner<'_>| who.comm.is_some_and(|comm| comm.text == "java");
    question.keep = &keep;
    let report = groups(&folder.store(), &question).unwrap();
    assert_eq!(report.data.rows.len(), 4);
    assert!(report.data.rows.iter().all(|row| row.totals.processes == 1));
    question.range.start_ms += 1_000_000_000;
    question.range.end_ms += 1_000_000_000;
    // As the query by one key has it: an answer without rows, which says so.
    let report = groups(&folder.store(), &question).unwrap();
    assert!(report.data.rows.is_empty());
    assert_eq!(report.findings[0].id, "history-empty-range");
    let error = compare(&folder.store(), &question, 1).unwrap_err();
    assert!(
        format!("{error:#}").contains("no history from"),
        "{error:#}"
    );
}
