//! What is rare and went wrong once: groups, drifting clocks, storms, counters of unknown past.

use super::*;

#[test]
fn threads_that_exit_with_a_victim_are_part_of_its_incident() {
    let mut s = plain();
    let end = s.0.split_off(s.0.len() - 4);
    for n in 1..4 {
        s.mark(12 * S + n * MS, 20, 20, 11 * S, MarkSource::AlreadyExiting);
    }
    s.0.extend(end);
    s.sample(13 * S, &[]);
    s.mark(13 * S + MS, 20, 20, 11 * S, MarkSource::AlreadyExiting);
    let (out, _) = s.run();
    assert_eq!(out.data.incidents.len(), 1, "{:?}", out.data.incidents);
    let i = &out.data.incidents[0];
    assert_eq!((i.outcome, i.kills.len()), ("killed", 1));
    assert_eq!(i.missing, Vec::<&str>::new(), "the exit is the kill's");
    let r = &out.data.reconciliation;
    assert_eq!((r.captured, r.already_exiting), (1, 4));
}

const GROUP: &str = "Tasks in /box are going to be killed due to memory.oom.group set";

#[test]
fn a_second_group_is_a_second_incident() {
    let mut s = all();
    for first in [20, 30] {
        s.killed(12 * S, first, None);
        s.kmsg(12 * S, None, GROUP);
        s.killed(12 * S, first, None);
        s.killed(12 * S, first + 1, None);
    }
    for pid in [20, 21, 30, 31] {
        s.mark(12 * S, pid / 10, pid, 11 * S, MarkSource::Signal);
    }
    let (out, _) = s.run();
    let pids: Vec<Vec<u32>> = out
        .data
        .incidents
        .iter()
        .map(|i| i.kills.iter().map(|kill| kill.pid).collect())
        .collect();
    assert_eq!(pids, [[20, 21], [30, 31]]);
    assert_eq!(out.data.reconciliation.repeated, 2);
}

#[test]
fn a_kill_of_another_trigger_leaves_the_group() {
    for marks_first in [true, false] {
        let mut s = all();
        let marks = |s: &mut Stream| {
            s.mark(12 * S, 2, 20, 11 * S, MarkSource::Signal);
            s.mark(12 * S, 2, 21, 11 * S, MarkSource::Signal);
            s.mark(12 * S, 5, 50, 11 * S, MarkSource::Signal);
        };
        if marks_first {
            marks(&mut s);
        }
        s.killed(12 * S, 20, None);
        s.kmsg(12 * S, None, GROUP);
        s.killed(12 * S, 50, None);
        s.killed(12 * S, 21, None);
        if !marks_first {
            marks(&mut s);
        }
        let (out, _) = s.run();
        let kills: Vec<_> = out.data.incidents.iter().map(|i| i.kills.len()).collect();
        assert_eq!(kills, [2, 1], "marks first: {marks_first}");
        assert_eq!(out.data.reconciliation.logged, Some(3));
    }
}

#[test]
fn repeated_kills_excuse_only_their_own_cgroup() {
    let count = |id, path: &str, oom_kill| CgroupCount {
        id,
        path: path.into(),
        oom_kill,
    };
    let counters = |ts_ns, at, host, own, other| {
        Item::Counters(Counters {
            ts_ns,
            at,
            oom_kill: Some(host),
            cgroups: vec![count(7, "/box", own), count(8, "/other", other)],
        })
    };
    let mut s = all();
    s.0.push(counters(S, CountersAt::Start, 10, 0, 0));
    s.mark(12 * S, 20, 20, 11 * S, MarkSource::Signal);
    s.mark(12 * S, 20, 21, 11 * S, MarkSource::Signal);
    s.report(12 * S, 20, 20, None, "/box");
    s.kmsg(12 * S, None, GROUP);
    s.killed(12 * S, 20, None);
    s.killed(12 * S, 21, None);
    s.0.push(counters(14 * S, CountersAt::End, 13, 3, 1));
    let (out, _) = s.run();
    let r = &out.data.reconciliation;
    let notes: Vec<_> = r.notes.iter().map(|one| one.en.as_str()).collect();
    assert!(
        !r.agrees
            && notes
                .iter()
                .any(|note| note.starts_with("/other counted 1")),
        "{notes:?}"
    );
    assert!(
        notes.iter().all(|note| !note.starts_with("/box counted")),
        "{notes:?}"
    );
}

#[test]
fn a_group_without_a_log_may_be_counted_once_more() {
    for (counted, missed) in [(2, 0), (3, 0), (4, 1)] {
        let mut s = all();
        s.mark(12 * S, 20, 20, 11 * S, MarkSource::Signal);
        s.mark(12 * S, 20, 21, 11 * S, MarkSource::Signal);
        s.counters(14 * S, CountersAt::End, 10 + counted);
        let (out, _) = s.run();
        let r = &out.data.reconciliation;
        assert_eq!((r.captured, r.missed), (2, missed));
        assert_eq!(
            r.notes.iter().any(|one| one.en.contains("were captured")),
            missed > 0
        );
    }
}

#[test]
fn the_limit_that_was_met_may_stand_above() {
    for (usage_above, expected) in [(99_000, "/top"), (50_000, "/top/box")] {
        let mut s = all();
        let cgroup = |path: &str, id, usage_kb| CgroupSample {
            path: path.into(),
            id,
            oom_group: None,
            metrics: CgroupMetrics {
                usage_kb: Some(usage_kb),
                limit_kb: Some(100_000),
                ..Default::default()
            },
        };
        for (ts, above) in [(11, usage_above), (13, 10)] {
            s.0.push(Item::Sample(Sample {
                ts_ns: ts * S,
                cgroups: vec![cgroup("/top/box", 7, 10_000), cgroup("/top", 8, above)],
                ..Default::default()
            }));
            if ts == 11 {
                s.mark(12 * S, 20, 20, 11 * S, MarkSource::Signal);
                s.symbols(20, "mem_cgroup_out_of_memory.isra.0.cold");
            }
        }
        let (out, _) = s.run();
        assert_eq!(out.data.incidents[0].oom_memcg.as_deref(), Some(expected));
    }
}

#[test]
fn a_kill_line_alone_tells_the_scope() {
    let mut s = all();
    s.mark(12 * S, 20, 20, 11 * S, MarkSource::Signal);
    s.killed(12 * S, 20, None);
    let i = &s.run().0.data.incidents[0];
    assert_eq!(
        (i.scope.as_deref(), i.constraint_source),
        (Some("memcg"), Some("kmsg"))
    );
}

#[test]
fn records_that_were_not_understood_are_counted() {
    let mut s = all();
    s.0.push(Item::Losses(Losses {
        lost: vec![LossCount {
            name: "undecodable".into(),
            count: 3,
        }],
        ..Default::default()
    }));
    let (out, _) = s.run();
    assert_eq!(
        (out.accounting.decode_errors, out.accounting.lost.len()),
        (3, 0)
    );
    assert!(!out.accounting.complete);
}

#[test]
fn the_logs_clock_is_set_by_the_kill_that_both_saw() {
    let mut s = all();
    s.mark(12 * S, 20, 20, 11 * S, MarkSource::Signal);
    s.report(20 * S, 20, 20, None, "/box");
    let i = &s.run().0.data.incidents[0];
    let of = |step| i.timeline.iter().find(|one| one.step == step).unwrap().t_ms;
    assert!(of("kernel-text").abs() < 0.001 && of("kernel-report").abs() < 0.001);
}

#[test]
fn a_cgroup_of_unknown_past_is_not_counted_from_nothing() {
    for (first, counted) in [(None, None), (Some(8), Some((1, 1)))] {
        let mut s = all();
        s.sample(2 * S, &[]);
        if let Some(Item::Sample(sample)) = s.0.last_mut() {
            sample.cgroups[0].metrics.oom_kill = first;
        }
        // One kill before the first sample, which counts it, and one after.
        s.mark(2 * S - MS, 20, 20, S, MarkSource::Signal);
        s.mark(12 * S, 21, 21, 11 * S, MarkSource::Signal);
        s.0.push(Item::Counters(Counters {
            ts_ns: 14 * S,
            at: CountersAt::End,
            oom_kill: Some(11),
            cgroups: vec![CgroupCount {
                id: 7,
                path: "/box".into(),
                oom_kill: 9,
            }],
        }));
        let r = s.run().0.data.reconciliation;
        let seen = r.cgroups.first().map(|one| (one.counted, one.captured));
        assert_eq!(seen, counted);
    }
}

#[test]
fn a_storm_keeps_little_text() {
    let mut s = all();
    for pid in 100..200_u32 {
        let ts = u64::from(pid) * S;
        s.mark(ts, pid, pid, ts - MS, MarkSource::Signal);
        s.report(ts, pid, pid, None, "/box");
    }
    let out = s.run().0;
    let lines: Vec<_> = out
        .data
        .incidents
        .iter()
        .map(|i| i.kernel_text.len())
        .collect();
    assert_eq!((lines[63], lines[64], lines[99]), (4, 1, 1));
}

#[test]
fn nobody_to_kill_again_and_again_is_one_incident() {
    let mut s = all();
    for n in [0, 1, 2, 30] {
        s.kmsg(
            (12 + n) * S,
            None,
            "trig invoked oom-killer: gfp_mask=0xdc0(G), order=0, oom_score_adj=0",
        );
        s.kmsg(
            (12 + n) * S,
            None,
            "Out of memory and no killable processes...",
        );
    }
    let out = s.run().0;
    let lines: Vec<_> = out
        .data
        .incidents
        .iter()
        .map(|i| i.kernel_text.len())
        .collect();
    assert_eq!(lines, [4, 2]);
}
