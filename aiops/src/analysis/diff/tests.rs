use super::*;
use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::ClockPair;
use crate::model::Detail;
use crate::model::Host;
use crate::model::Identity;
use crate::model::Item;
use crate::model::MappingMetrics;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::RegionKind;
use crate::model::RegionSum;
use crate::model::Regions;
use crate::model::Sample;
use crate::model::Session;
use crate::model::Slab;
use crate::report::Severity;

/// (pid, start, name, arguments, MiB resident)
type Row = (u32, u64, &'static str, &'static str, u64);

const S: u64 = 1_000_000_000;

/// A snapshot `at` seconds after boot, booted at `booted` seconds.
fn snapshot(boot: &str, booted: i64, at: u64, used_mib: u64, rows: &[Row]) -> Readings {
    let mut readings = Readings::default();
    readings.push(Item::Session(Session {
        command: "collect memory".to_owned(),
        host: Host {
            hostname: RawText::from("web1"),
            boot_id: Some(boot.to_owned()),
            page_size: Some(4096),
            ..Host::default()
        },
        ..Session::default()
    }));
    readings.push(Item::Clock(ClockPair {
        mono_ns: at * S,
        boot_ns: at * S,
        real_ns: (booted + i64::try_from(at).unwrap()) * 1_000_000_000,
    }));
    let process = |row: &Row| ProcessSample {
        pid: row.0,
        start_ticks: row.1,
        comm: RawText::from(row.2),
        metrics: ProcessMetrics {
            rss_kb: Some(row.4 << 10),
            swap_kb: Some(0),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    };
    for row in rows {
        readings.push(Item::Identity(Identity {
            pid: row.0,
            start_ticks: Some(row.1),
            comm: RawText::from(row.2),
            cmdline: row.3.split(' ').map(RawText::from).collect(),
            cgroup: Some(RawText::from("/app")),
            ..Identity::default()
        }));
    }
    readings.push(Item::Sample(Sample {
        ts_ns: at * S,
        system: Some(SystemMetrics {
            mem_total_kb: Some(8 << 20),
            mem_available_kb: Some((8 << 20) - (used_mib << 10)),
            oom_kill: Some(at / 1000),
            ..SystemMetrics::default()
        }),
        processes: rows.iter().map(process).collect(),
        cgroups: vec![CgroupSample {
            path: RawText::from("/app"),
            id: 9,
            metrics: CgroupMetrics {
                usage_kb: Some(used_mib << 10),
                failcnt: Some(at),
                ..CgroupMetrics::default()
            },
            ..CgroupSample::default()
        }],
        all_processes: true,
        ..Sample::default()
    }));
    readings
}

fn row<'a>(data: &'a DiffData, comm: &str) -> &'a ProcessChange {
    data.processes.iter().find(|one| one.comm == comm).unwrap()
}

fn metric(data: &DiffData, id: &str) -> Metric {
    let found = data.system.iter().find(|metric| metric.id == id);
    found.unwrap().clone()
}

#[test]
fn processes_are_matched_and_growth_is_shared_out() {
    let first = snapshot(
        "b",
        0,
        100,
        1000,
        &[
            (10, 1, "java", "java -jar a", 500),
            (11, 1, "nginx", "nginx: worker", 50),
            (12, 1, "nginx", "nginx: worker", 60),
            (13, 1, "old", "old", 70),
        ],
    );
    let second = snapshot(
        "b",
        0,
        100 + 7200,
        2000,
        &[
            (10, 1, "java", "java -jar a", 1100),
            // Restarted, and one more than before.
            (21, 500, "nginx", "nginx: worker", 55),
            (22, 500, "nginx", "nginx: worker", 65),
            (23, 500, "nginx", "nginx: worker", 5),
            // The pid of `old` again, another process.
            (13, 700, "fresh", "fresh", 200),
        ],
    );
    let (data, findings) = diff(&first, &second, Sort::Delta);
    assert!(data.same_boot && data.all_processes);
    assert_eq!(
        (data.elapsed_s, data.elapsed_by),
        (Some(7200.0), Some("boottime"))
    );
    let java = row(&data, "java");
    assert_eq!(java.status, Status::Same);
    assert_eq!(java.rss_kb.delta, Some(600 << 10));
    assert_eq!(java.rate_kb_per_hour, Some(f64::from(300 << 10)));
    // 600 of 600 + 5 + 5 + 5 + 200 MiB.
    assert_eq!(java.share_pct, Some(73.6));
    assert_eq!(data.processes[0].comm, "java");
    let fresh = row(&data, "fresh");
    assert_eq!(
        (fresh.status, fresh.rss_kb.from, fresh.growth_kb),
        (Status::New, Some(0), Some(200 << 10))
    );
    assert_eq!(row(&data, "old").growth_kb, Some(-(70 << 10)));
    // The largest stands for the largest.
    let large = data.processes.iter().find(|one| one.pid == 22).unwrap();
    assert_eq!(
        (large.status, large.from_pid, large.rate_kb_per_hour),
        (Status::Restarted, Some(12), None)
    );
    assert_eq!(
        data.counts,
        StatusCounts {
            same: 1,
            restarted: 2,
            new: 2,
            gone: 1
        }
    );
    assert_eq!(metric(&data, "mem_used_kb").change.delta, Some(1000 << 10));
    assert_eq!(
        metric(&data, "mem_used_kb").rate_per_hour,
        Some(f64::from(500 << 10))
    );
    assert_eq!(data.cgroups[0].failcnt.delta, Some(7200));
    let ids: Vec<&str> = findings.iter().map(|finding| finding.id).collect();
    assert_eq!(
        ids,
        [
            "diff-oom-kills",
            "diff-process-growth",
            "diff-new-large-process"
        ]
    );
    assert_eq!(findings[1].severity, Severity::Warning);
}

#[test]
fn orders_are_by_the_second_snapshot() {
    let first = snapshot("b", 0, 1, 0, &[(1, 1, "a", "a", 900), (2, 1, "b", "b", 10)]);
    let second = snapshot(
        "b",
        0,
        9,
        0,
        &[(1, 1, "a", "a", 901), (2, 1, "b", "b", 100)],
    );
    let names = |sort| {
        let (data, _) = diff(&first, &second, sort);
        let names: Vec<String> = data.processes.iter().map(|one| one.comm.clone()).collect();
        names
    };
    assert_eq!(names(Sort::Delta), ["b", "a"]);
    assert_eq!(names(Sort::Rss), ["a", "b"]);
}

#[test]
fn pids_mean_nothing_across_boots() {
    let rows = [(10, 1, "java", "java", 500), (11, 1, "cron", "cron", 5)];
    let first = snapshot("b1", 0, 5000, 1000, &rows);
    let swapped = [(11, 1, "java", "java", 300), (10, 1, "cron", "cron", 6)];
    let second = snapshot("b2", 9000, 100, 800, &swapped);
    let (data, findings) = diff(&first, &second, Sort::Delta);
    assert!(data.same_host && !data.same_boot);
    assert_eq!(
        (data.elapsed_s, data.elapsed_by),
        (Some(4100.0), Some("realtime"))
    );
    let java = row(&data, "java");
    assert_eq!(
        (java.status, java.pid, java.from_pid),
        (Status::Restarted, 11, Some(10))
    );
    assert_eq!(java.growth_kb, Some(-(200 << 10)));
    assert_eq!(data.counts.restarted, 2);
    assert_eq!(
        metric(&data, "oom_kill").change.delta,
        None,
        "counts since boot begin anew"
    );
    assert_eq!(data.cgroups[0].failcnt.delta, None);
    assert_eq!(
        (findings[0].id, findings[0].severity),
        ("diff-different-boot", Severity::Warning)
    );
}

#[test]
fn another_host_is_said() {
    let first = snapshot("b1", 0, 10, 10, &[(1, 1, "a", "a", 1)]);
    let mut second = snapshot("b2", 0, 20, 10, &[(1, 1, "a", "a", 1)]);
    second.session.as_mut().unwrap().host.hostname = RawText::from("web2");
    let (data, findings) = diff(&first, &second, Sort::Delta);
    assert!(!data.same_host && !data.same_boot);
    assert_eq!(findings[0].id, "diff-different-host");
    assert_eq!(data.counts.restarted, 1);
}

#[test]
fn the_wrong_order_and_no_time_have_no_rates() {
    let early = snapshot("b", 0, 100, 10, &[(1, 1, "a", "a", 1)]);
    let late = snapshot("b", 0, 200, 90, &[(1, 1, "a", "a", 9)]);
    let (data, findings) = diff(&late, &early, Sort::Delta);
    assert_eq!(data.elapsed_s, Some(-100.0));
    assert_eq!(row(&data, "a").growth_kb, Some(-(8 << 10)));
    assert_eq!(row(&data, "a").rate_kb_per_hour, None);
    assert_eq!(findings[0].id, "diff-order");
    let (data, findings) = diff(&early, &early, Sort::Delta);
    assert_eq!(data.elapsed_s, Some(0.0));
    assert!(
        data.system
            .iter()
            .all(|metric| metric.rate_per_hour.is_none())
    );
    assert!(data.processes.iter().all(|one| one.growth_kb == Some(0)));
    assert_eq!(findings[0].id, "diff-too-near");
}

#[test]
fn unequal_numbers_without_equal_arguments_are_not_guessed() {
    let first = snapshot(
        "b",
        0,
        1,
        0,
        &[(1, 1, "sh", "sh a", 1), (2, 1, "java", "java -Xmx1g", 9)],
    );
    let second = snapshot(
        "b",
        0,
        9,
        0,
        &[
            (3, 9, "sh", "sh b", 1),
            (4, 9, "sh", "sh c", 1),
            (5, 9, "java", "java -Xmx2g", 19),
        ],
    );
    let (data, _) = diff(&first, &second, Sort::Delta);
    assert_eq!(
        data.counts,
        StatusCounts {
            same: 0,
            restarted: 1,
            new: 2,
            gone: 1
        }
    );
    assert_eq!(row(&data, "java").from_pid, Some(2));
}

#[test]
fn who_took_the_snapshots_is_no_part_of_them() {
    let own = "/usr/bin/aiops collect memory --duration 0";
    let first = snapshot(
        "b",
        0,
        1,
        0,
        &[(1, 1, "aiops", own, 9), (5, 1, "a", "a", 1)],
    );
    let second = snapshot(
        "b",
        0,
        9,
        0,
        &[(2, 2, "aiops", own, 90), (5, 1, "a", "a", 2)],
    );
    let (data, _) = diff(&first, &second, Sort::Delta);
    let names: Vec<&str> = data.processes.iter().map(|one| one.comm.as_str()).collect();
    assert_eq!(names, ["a"]);
    // A script of the same interpreter is another program.
    let first = snapshot("b", 0, 1, 0, &[(1, 1, "python3", "python3 a.py", 9)]);
    let second = snapshot("b", 0, 9, 0, &[(2, 2, "python3", "python3 b.py", 9)]);
    let (data, _) = diff(&first, &second, Sort::Delta);
    assert_eq!((data.counts.new, data.counts.gone), (1, 1));
}

#[test]
fn what_may_not_have_been_read_is_not_known() {
    let first = snapshot("b", 0, 1, 0, &[(1, 1, "a", "a", 1)]);
    let mut second = snapshot("b", 0, 9, 0, &[(2, 2, "b", "b", 100)]);
    second.first.as_mut().unwrap().all_processes = false;
    let (data, findings) = diff(&first, &second, Sort::Delta);
    assert!(!data.all_processes);
    assert_eq!(
        (row(&data, "b").rss_kb.from, row(&data, "b").growth_kb),
        (None, None)
    );
    assert_eq!(data.growth_kb, 0);
    assert_eq!(findings[0].id, "diff-partial");
}

fn regions(readings: &mut Readings, key: (u32, u64), heap_kb: u64, extra: Option<&str>) {
    let sum = |kind, path: Option<&str>, kb| RegionSum {
        kind,
        path: path.map(RawText::from),
        mappings: 1,
        metrics: MappingMetrics {
            rss_kb: Some(kb),
            pss_kb: Some(kb),
            ..MappingMetrics::default()
        },
    };
    let mut all = vec![
        sum(RegionKind::Heap, Some("[heap]"), heap_kb),
        sum(RegionKind::Library, Some("/libc.so"), 500),
    ];
    all.extend(extra.map(|path| sum(RegionKind::File, Some(path), 300)));
    readings.push(Item::Regions(Regions {
        pid: key.0,
        start_ticks: key.1,
        regions: all,
        ..Regions::default()
    }));
}

#[test]
fn regions_are_compared_when_both_have_them() {
    let rows = [(1, 1, "a", "a", 1), (2, 1, "b", "b", 1)];
    let mut first = snapshot("b", 0, 1, 0, &rows);
    let mut second = snapshot("b", 0, 9, 0, &rows);
    regions(&mut first, (1, 1), 1000, None);
    let (data, _) = diff(&first, &second, Sort::Delta);
    assert!(data.regions.is_none() && data.process_regions.is_none());
    regions(&mut second, (1, 1), 5000, Some("/data"));
    // Read in the second alone: that is not growth.
    regions(&mut second, (2, 1), 90_000, None);
    let (data, _) = diff(&first, &second, Sort::Delta);
    let kinds = data.regions.unwrap();
    assert_eq!(
        (kinds[0].kind, kinds[0].rss_kb.delta),
        (RegionKind::Heap, Some(4000))
    );
    assert_eq!(
        (kinds[1].kind, kinds[1].rss_kb.delta),
        (RegionKind::File, Some(300))
    );
    assert_eq!(kinds[2].rss_kb.delta, Some(0));
    let hot = data.process_regions.unwrap();
    assert_eq!(hot.len(), 2);
    assert_eq!(
        (hot[0].pid, hot[0].path.as_deref()),
        (Some(1), Some("[heap]"))
    );
    assert_eq!(hot[1].mappings, Change::new(Some(0), Some(1)));
}

#[test]
fn slab_caches_are_compared_by_name() {
    let detail = |slabs: &[(&str, u64)]| {
        let slab = |(name, slabs): &(&str, u64)| Slab {
            name: RawText::from(*name),
            active_objects: 10 * slabs,
            pages_per_slab: 2,
            slabs: *slabs,
            ..Slab::default()
        };
        Item::Detail(Box::new(Detail {
            slabs: Some(slabs.iter().map(slab).collect()),
            ..Detail::default()
        }))
    };
    let mut first = snapshot("b", 0, 1, 0, &[]);
    let mut second = snapshot("b", 0, 3601, 0, &[]);
    assert!(diff(&first, &second, Sort::Delta).0.slab.is_none());
    first.push(detail(&[("dentry", 10), ("gone", 5)]));
    second.push(detail(&[("dentry", 110), ("new", 1)]));
    let slab = diff(&first, &second, Sort::Delta).0.slab.unwrap();
    let rows: Vec<_> = slab
        .iter()
        .map(|one| (one.name.as_str(), one.size_kb.delta))
        .collect();
    assert_eq!(
        rows,
        [("dentry", Some(800)), ("gone", Some(-40)), ("new", Some(8))]
    );
    assert_eq!(slab[0].rate_kb_per_hour, Some(800.0));
    assert_eq!(slab[0].active_objects.delta, Some(1000));
}

#[test]
fn nothing_at_all_is_no_panic() {
    let (data, _) = diff(&Readings::default(), &Readings::default(), Sort::Swap);
    assert!(data.processes.is_empty() && data.elapsed_s.is_none());
}

#[test]
fn cgroups_are_new_only_where_every_one_was_sampled() {
    let limited = |path: &str, limit| CgroupSample {
        path: RawText::from(path),
        id: 5,
        metrics: CgroupMetrics {
            usage_kb: Some(10),
            limit_kb: limit,
            ..CgroupMetrics::default()
        },
        ..CgroupSample::default()
    };
    let with = |cgroups: Vec<CgroupSample>| {
        let mut readings = snapshot("b", 0, 100, 1000, &[]);
        readings.first.as_mut().unwrap().cgroups = cgroups;
        readings
    };
    let some = with(vec![limited("/pod", Some(99))]);
    let all = with(vec![
        limited("/pod", Some(99)),
        limited("/web", None),
        limited("/db", Some(5)),
    ]);
    let status = |a: &Readings, b: &Readings, path: &str| {
        let (data, _) = diff(a, b, Sort::Delta);
        let found = data.cgroups.iter().find(|one| one.path == path);
        found.unwrap().status
    };
    assert_eq!(status(&some, &all, "/pod"), Some(Status::Same));
    assert_eq!(status(&some, &all, "/web"), None);
    assert_eq!(status(&all, &some, "/db"), None);
    let fewer = with(vec![limited("/web", None)]);
    assert_eq!(status(&all, &fewer, "/pod"), Some(Status::Gone));
    assert_eq!(status(&fewer, &all, "/pod"), Some(Status::New));
}

#[test]
fn a_snapshot_whose_filter_matched_nobody_says_so() {
    let first = snapshot("b", 0, 100, 1000, &[(10, 1, "java", "java", 5)]);
    let mut second = snapshot("b", 0, 200, 1000, &[]);
    second.session.as_mut().unwrap().filter.comms = vec!["jaba".to_owned()];
    let (_, findings) = diff(&first, &second, Sort::Delta);
    let mut ids = findings.iter().map(|finding| finding.id);
    assert!(ids.any(|id| id == "no-process-matches"));
}
