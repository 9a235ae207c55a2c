use super::*;
use crate::model::CgroupMetrics;
use crate::model::Item;
use crate::model::RawText;

fn process(pid: u32, metrics: ProcessMetrics) -> ProcessSample {
    ProcessSample {
        pid,
        start_ticks: 3,
        comm: RawText::from("web"),
        metrics,
        ..ProcessSample::default()
    }
}

fn sample(seconds: u64, processes: Vec<ProcessSample>, system: SystemMetrics) -> Item {
    Item::Sample(Sample {
        ts_ns: seconds * 1_000_000_000,
        system: Some(system),
        processes,
        ..Sample::default()
    })
}

#[test]
fn old_kernels_tell_less_and_it_is_said() {
    let old = ProcessMetrics {
        rss_kb: Some(100),
        shared_kb: Some(30),
        ..ProcessMetrics::default()
    };
    let known = makeup(&old);
    assert_eq!(known.source, Some(MakeupSource::Statm));
    assert_eq!(
        (known.anon_kb, known.file_kb, known.shmem_kb),
        (Some(70), Some(30), None)
    );
    assert_eq!(makeup(&ProcessMetrics::default()), Makeup::default());
    let new = ProcessMetrics {
        anon_kb: Some(1),
        file_kb: Some(2),
        shmem_kb: Some(3),
        ..old.clone()
    };
    let (a, b) = (process(1, old), process(2, new));
    let both = sum(&[&a, &b]);
    assert_eq!(
        (both.source, both.anon_kb),
        (Some(MakeupSource::Mixed), Some(71))
    );
}

#[test]
fn every_page_counts_once() {
    let system = SystemMetrics {
        mem_total_kb: Some(1000),
        mem_free_kb: Some(100),
        buffers_kb: Some(10),
        cached_kb: Some(200),
        shmem_kb: Some(50),
        anon_pages_kb: Some(300),
        active_kb: Some(300),
        inactive_kb: Some(225),
        swap_cached_kb: Some(40),
        sreclaimable_kb: Some(20),
        sunreclaim_kb: Some(30),
        kernel_stack_kb: Some(5),
        vmalloc_used_kb: Some(12),
        percpu_kb: Some(3),
        ..SystemMetrics::default()
    };
    let totals = account(&system, None);
    assert_eq!(totals.file_cache_kb, Some(160));
    assert_eq!(totals.swap_cache_kb, Some(15), "the rest of it is mapped");
    assert_eq!(totals.vmalloc_kb, Some(7), "stacks are in it");
    let parts = totals.parts();
    let known: u64 = parts.iter().filter_map(|(_, kb)| *kb).sum();
    assert_eq!(known + totals.unaccounted_kb.unwrap(), 1000);
    assert_eq!(totals.hugetlb_kb, None);
    let old = SystemMetrics {
        percpu_kb: None,
        anon_pages_kb: None,
        vmalloc_used_kb: Some(34_359_738_367),
        ..system
    };
    let totals = account(&old, None);
    assert_eq!((totals.vmalloc_kb, totals.unaccounted_kb), (None, None));
}

#[test]
fn rows_are_in_order_and_unknown_comes_last() {
    let metrics = |rss, pss, swap| ProcessMetrics {
        rss_kb: Some(rss),
        pss_kb: pss,
        swap_kb: swap,
        ..ProcessMetrics::default()
    };
    let mut readings = Readings::default();
    let system = SystemMetrics {
        mem_total_kb: Some(1000),
        ..SystemMetrics::default()
    };
    readings.push(sample(
        1,
        vec![process(2, metrics(50, None, None))],
        system.clone(),
    ));
    let last = vec![
        process(1, metrics(100, Some(10), None)),
        process(2, metrics(80, Some(70), Some(9))),
        process(3, metrics(90, None, Some(1))),
    ];
    readings.push(sample(3, last, system));
    let pids = |sort| {
        let options = Options {
            sort,
            ..Options::default()
        };
        let data = analyze(&readings, &options);
        data.processes
            .iter()
            .map(|row| row.who.pid.unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(pids(Sort::Rss), [1, 3, 2]);
    assert_eq!(pids(Sort::Pss), [2, 1, 3]);
    assert_eq!(pids(Sort::Swap), [2, 3, 1]);
    let data = analyze(
        &readings,
        &Options {
            by: By::Comm,
            ..Options::default()
        },
    );
    assert_eq!((data.groups.len(), data.groups[0].pss_processes), (1, 2));
    assert_eq!(data.groups[0].metrics.rss_kb, Some(270));
    assert_eq!(data.totals.processes_pss_read, 2);
    let two = data
        .processes
        .iter()
        .find(|row| row.who.pid == Some(2))
        .unwrap();
    assert_eq!(two.rss_change_kb, Some(30));
    assert_eq!(two.node_kb, None);
}

#[test]
fn findings_follow_from_figures() {
    let mut readings = Readings::default();
    assert!(findings(&readings, &analyze(&readings, &Options::default())).is_empty());
    let gib = 1 << 20;
    let cgroup = |path: &str, usage, limit, inactive, kills| CgroupSample {
        path: RawText::from(path),
        metrics: CgroupMetrics {
            usage_kb: Some(usage),
            limit_kb: limit,
            inactive_file_kb: Some(inactive),
            oom_kill: Some(kills),
            ..CgroupMetrics::default()
        },
        ..CgroupSample::default()
    };
    readings.push(Item::Sample(Sample {
        system: Some(SystemMetrics {
            mem_total_kb: Some(16 * gib),
            mem_free_kb: Some(2 * gib),
            mem_available_kb: Some(2 * gib),
            cached_kb: Some(gib),
            anon_pages_kb: Some(9 * gib),
            ..SystemMetrics::default()
        }),
        processes: vec![process(
            7,
            ProcessMetrics {
                rss_kb: Some(9 * gib),
                ..ProcessMetrics::default()
            },
        )],
        cgroups: vec![
            cgroup("/", 9, None, 0, 3),
            cgroup("/a", 98, Some(100), 0, 3),
            cgroup("/cache", 100, Some(100), 60, 0),
        ],
        ..Sample::default()
    }));
    let found = findings(&readings, &analyze(&readings, &Options::default()));
    let ids: Vec<&str> = found.iter().map(|finding| finding.id).collect();
    assert_eq!(
        ids,
        [
            "cgroup-near-limit",
            "memory-unaccounted",
            "process-dominates",
            "cgroup-oom-kills"
        ]
    );
    assert_eq!(
        found[0].evidence.len(),
        1,
        "page cache that can go is no danger"
    );
    assert!(
        found[3].evidence[0].en.starts_with("/a: 3"),
        "the deepest is told"
    );
}
