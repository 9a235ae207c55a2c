use super::*;
use crate::model::ClockPair;
use crate::model::Filter;
use crate::model::ProcessMetrics;
use crate::model::Session;
use crate::report::Severity;

fn process(pid: u32, rss_kb: u64) -> ProcessSample {
    ProcessSample {
        pid,
        start_ticks: u64::from(pid),
        comm: RawText::from("p"),
        metrics: ProcessMetrics {
            rss_kb: Some(rss_kb),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    }
}

fn sample(seconds: u64, available: Option<u64>, processes: Vec<ProcessSample>) -> Item {
    Item::Sample(Sample {
        ts_ns: seconds * 1_000_000_000,
        system: Some(SystemMetrics {
            mem_total_kb: Some(1_000_000),
            mem_free_kb: Some(300_000),
            mem_available_kb: available,
            buffers_kb: Some(10_000),
            cached_kb: Some(200_000),
            sreclaimable_kb: Some(40_000),
            swap_total_kb: Some(500),
            swap_free_kb: Some(400),
            ..SystemMetrics::default()
        }),
        processes,
        ..Sample::default()
    })
}

#[test]
fn the_figures_are_those_of_free() {
    let mut collector = Collector::new(None, 20);
    collector.push(&sample(0, Some(600_000), Vec::new()));
    let system = collector.finish().0.system.unwrap();
    assert_eq!(system.mem_used_kb, Some(400_000));
    assert_eq!(system.used_formula, Some("total-available"));
    assert_eq!(system.buff_cache_kb, Some(250_000));
    assert_eq!(system.swap_used_kb, Some(100));
    let mut old = Collector::new(None, 20);
    old.push(&sample(0, None, Vec::new()));
    let system = old.finish().0.system.unwrap();
    assert_eq!(system.mem_used_kb, Some(450_000));
    assert_eq!(system.used_formula, Some("total-free-buffers-cache"));
    assert_eq!(system.metrics.mem_available_kb, None);
}

#[test]
fn least_mean_most_and_who_grew() {
    let mut collector = Collector::new(None, 20);
    for second in 0..=60 {
        let mut processes = vec![process(1, 100_000 + second * 1000), process(2, 500)];
        if second == 30 {
            processes.push(process(3, 77));
        }
        collector.push(&sample(second, Some(600_000 - second), processes));
    }
    let (data, findings) = collector.finish();
    let available = data.summary.system.mem_available_kb.unwrap();
    assert_eq!(
        (
            available.first,
            available.min,
            available.max,
            available.last
        ),
        (600_000, 599_940, 600_000, 599_940)
    );
    assert!((available.mean - 599_970.0).abs() < 0.11, "{available:?}");
    assert_eq!((data.summary.appeared, data.summary.ended), (1, 1));
    let first = &data.summary.processes[0];
    assert_eq!((first.pid, first.growth_kb), (1, Some(60_000)));
    assert_eq!(first.linearity, Some(1.0));
    // A minute says nothing about an hour.
    assert_eq!(first.growth_kb_per_hour, None);
    let ids: Vec<_> = findings.iter().map(|finding| finding.id).collect();
    assert_eq!(ids, ["process-growing"]);
}

#[test]
fn memory_does_not_grow_with_the_window() {
    let mut collector = Collector::new(Some(By::Comm), 20);
    for second in 0..5000u32 {
        let mut one = process(second + 10, u64::from(second));
        one.comm = RawText::from(format!("p{second}").as_str());
        collector.push(&sample(u64::from(second), Some(600_000), vec![one]));
    }
    assert!(collector.ended.len() <= ENDED * 2);
    assert!(collector.tracks.len() <= 1);
    assert!(collector.groups.len() <= EMPTY_GROUPS + 2);
    let (data, _) = collector.finish();
    assert!((120..=accumulate::POINTS).contains(&data.series.len()));
    assert_eq!(data.summary.ended, 4999);
    let kept = data.summary.processes.len() as u64 - 1;
    assert_eq!(kept + data.summary.ended_left_out, 4999);
    // Of those that ended, the largest are kept.
    assert!(
        data.summary.processes[..200]
            .iter()
            .all(|one| one.rss_kb.unwrap().max > 4000)
    );
}

#[test]
fn what_is_wrong_is_found_and_shown() {
    let mut collector = Collector::new(None, 20);
    collector.push(&Item::Session(Session {
        filter: Filter {
            pids: vec![9, 1],
            ..Filter::default()
        },
        ..Session::default()
    }));
    collector.push(&Item::Clock(ClockPair::default()));
    for (second, pages) in [(0, 0), (10, 100_000)] {
        let Item::Sample(mut one) = sample(second, Some(40_000), vec![process(1, 5)]) else {
            unreachable!()
        };
        if let Some(system) = &mut one.system {
            system.pswpin = Some(pages);
            system.pswpout = Some(pages);
            system.oom_kill = Some(pages / 50_000);
            system.psi_some_total_us = Some(second * 200_000);
            system.psi_full_total_us = Some(second * 150_000);
        }
        let start_ticks = Some(one.processes[0].start_ticks);
        collector.push(&Item::Identity(crate::model::Identity {
            pid: 1,
            start_ticks,
            cgroup: Some(RawText::from("/a")),
            ..crate::model::Identity::default()
        }));
        one.cgroups.push(crate::model::CgroupSample {
            path: RawText::from("/a"),
            metrics: crate::model::CgroupMetrics {
                usage_kb: Some(95),
                limit_kb: Some(100),
                inactive_file_kb: Some(1),
                ..crate::model::CgroupMetrics::default()
            },
            ..crate::model::CgroupSample::default()
        });
        collector.push(&Item::Sample(one));
    }
    let (data, findings) = collector.finish();
    assert_eq!(data.missing_pids, [9]);
    let ids: Vec<_> = findings.iter().map(|one| (one.id, one.severity)).collect();
    assert_eq!(
        ids,
        [
            ("oom-kills", Severity::Critical),
            ("memory-nearly-used-up", Severity::Critical),
            ("heavy-swapping", Severity::Critical),
            ("memory-pressure", Severity::Critical),
            ("no-such-process", Severity::Warning),
            ("cgroup-near-limit", Severity::Info),
        ]
    );
    assert!(
        findings
            .iter()
            .all(|one| !one.evidence.is_empty() && !one.advice.is_empty())
    );
}
