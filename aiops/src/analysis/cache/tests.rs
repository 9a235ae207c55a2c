//! Each advice follows from its figures, and nothing follows from a quiet host.

use super::*;
use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::Detail;
use crate::model::Item;
use crate::model::RawText;
use crate::model::Setting;
use crate::model::Slab;

fn quiet() -> SystemMetrics {
    let mut system = SystemMetrics::default();
    for metric in SystemMetrics::METRICS {
        if metric.source.starts_with("vmstat:") {
            (metric.set)(&mut system, Some(0));
        }
    }
    SystemMetrics {
        mem_total_kb: Some(8 << 20),
        mem_available_kb: Some(6 << 20),
        cached_kb: Some(2 << 20),
        shmem_kb: Some(1024),
        active_file_kb: Some(1 << 20),
        inactive_file_kb: Some(1 << 20),
        dirty_kb: Some(100),
        writeback_kb: Some(0),
        slab_kb: Some(200_000),
        sreclaimable_kb: Some(150_000),
        sunreclaim_kb: Some(50_000),
        nr_dirty_threshold: Some(300_000),
        nr_dirty_background_threshold: Some(150_000),
        psi_some_avg10: Some(0),
        psi_full_avg10: Some(0),
        disk_busy_ms: Some(0),
        ..system
    }
}

fn dentry(slabs: u64) -> Slab {
    Slab {
        name: RawText::new("dentry"),
        active_objects: slabs * 20,
        objects: slabs * 21,
        object_bytes: 192,
        objects_per_slab: 21,
        pages_per_slab: 1,
        active_slabs: slabs,
        slabs,
        reclaimable: Some(true),
    }
}

/// Two readings a second apart; `change` makes the second from the first.
fn read(change: impl Fn(&mut SystemMetrics), slabs: u64) -> Readings {
    let mut readings = Readings::default();
    for second in [10, 11] {
        let mut system = quiet();
        let mut detail = Detail {
            slabs: Some(vec![dentry(100)]),
            settings: vec![Setting {
                name: "vm.dirty_ratio".to_owned(),
                value: "20".to_owned(),
            }],
            ..Detail::default()
        };
        if second == 11 {
            change(&mut system);
            detail.slabs = Some(vec![dentry(slabs)]);
        }
        readings.push(Item::Sample(Sample {
            ts_ns: second * 1_000_000_000,
            system: Some(system),
            cgroups: vec![CgroupSample {
                path: RawText::new("/batch"),
                id: 7,
                metrics: CgroupMetrics {
                    file_kb: Some(3 << 19),
                    usage_kb: Some(2 << 20),
                    ..CgroupMetrics::default()
                },
                ..CgroupSample::default()
            }],
            ..Sample::default()
        }));
        readings.push(Item::Detail(Box::new(detail)));
    }
    readings
}

fn ids(change: impl Fn(&mut SystemMetrics), slabs: u64) -> Vec<&'static str> {
    let (_, findings) = analyze(&read(change, slabs));
    findings.iter().map(|finding| finding.id).collect()
}

#[test]
fn nothing_is_advised_on_a_quiet_host() {
    assert!(ids(|_| {}, 100).is_empty());
    assert!(analyze(&Readings::default()).1.is_empty());
}

#[test]
fn refaults_say_that_the_cache_is_too_small_and_who_fills_it() {
    let thrash = |system: &mut SystemMetrics| {
        system.workingset_refault_file = Some(5000);
        system.pgsteal_file = Some(6000);
        system.pgsteal_kswapd = Some(6000);
        system.pgscan_kswapd = Some(7000);
    };
    let (data, findings) = analyze(&read(thrash, 100));
    assert_eq!(findings[0].id, "cache-thrashing");
    assert!(
        findings[0]
            .evidence
            .iter()
            .any(|text| text.en.contains("/batch"))
    );
    assert!(
        findings[0].advice[0]
            .en
            .contains("give the host more memory")
    );
    let advice = findings[0].advice.iter();
    assert!(
        advice.clone().all(|text| !text.en.contains("memory.high")),
        "who holds it is not who rereads it"
    );
    assert_eq!(data.rates.refault_file_per_s, Some(5000.0));
    assert!((data.reclaim.efficiency.unwrap() - 6.0 / 7.0).abs() < 1e-9);
    assert!((data.reclaim.refaults_per_steal.unwrap() - 5.0 / 6.0).abs() < 1e-9);
}

#[test]
fn what_is_reclaimed_and_never_comes_back_is_a_stream() {
    let found = ids(
        |system| {
            system.pgsteal_file = Some(50_000);
            system.pgsteal_kswapd = Some(50_000);
            system.pgscan_kswapd = Some(50_000);
            system.inactive_file_kb = Some(4 << 20);
        },
        100,
    );
    assert_eq!(found, ["cache-streaming"]);
}

#[test]
fn dirty_pages_at_their_limit() {
    // Half way between 600,000 and 1,200,000 KiB writers are slowed down.
    assert!(ids(|system| system.dirty_kb = Some(899_999), 100).is_empty());
    let found = ids(|system| system.dirty_kb = Some(900_000), 100);
    assert_eq!(found, ["cache-dirty-throttled"]);
    let slow = |system: &mut SystemMetrics| {
        system.dirty_kb = Some(700_000);
        system.nr_written = Some(2500);
        system.nr_dirtied = Some(5000);
        system.disk_busy_ms = Some(950);
    };
    let (data, findings) = analyze(&read(slow, 100));
    assert!(
        findings.is_empty(),
        "disks are known in sum only: {findings:?}"
    );
    assert_eq!(data.dirty.written_kb_per_s, Some(10_000.0));
    assert_eq!(data.dirty.time_to_write_back_s, Some(70.0));
    assert_eq!(data.dirty.time_to_threshold_s, Some(50.0));
}

#[test]
fn pages_that_go_to_swap_are_not_written_back() {
    let (data, _) = analyze(&read(
        |system| {
            system.nr_written = Some(3000);
            system.pswpout = Some(2500);
        },
        100,
    ));
    assert_eq!(data.dirty.written_kb_per_s, Some(2000.0));
}

/// A reader in a small cgroup at its limit, next to the large holder `/batch`.
#[test]
fn the_cgroup_at_its_limit_is_named_not_the_largest() {
    let thrash = |system: &mut SystemMetrics| {
        system.workingset_refault_file = Some(20_000);
        system.pgsteal_file = Some(20_000);
        system.pgscan_file = Some(21_000);
    };
    let mut readings = read(thrash, 100);
    let small = |failcnt| CgroupSample {
        path: RawText::new("/reader $x"),
        id: 9,
        metrics: CgroupMetrics {
            file_kb: Some(47 << 10),
            usage_kb: Some(48 << 10),
            limit_kb: Some(48 << 10),
            failcnt: Some(failcnt),
            ..CgroupMetrics::default()
        },
        ..CgroupSample::default()
    };
    if let (Some(first), Some(last)) = (&mut readings.first, &mut readings.last) {
        first.cgroups.push(small(10));
        last.cgroups.push(small(500));
    }
    let (data, findings) = analyze(&readings);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].id, "cache-thrashing");
    assert!(findings[0].title.en.contains("/reader $x"));
    assert!(
        findings[0].advice[0]
            .en
            .contains("'/sys/fs/cgroup/reader $x/memory.max'")
    );
    for text in findings[0].advice.iter().chain(&findings[0].evidence) {
        assert!(
            !text.en.contains("/batch") && !text.en.contains("give the host"),
            "{text:?}"
        );
    }
    assert!(data.judgements[0].text.en.contains("/reader $x"));
    assert!(
        data.judgements[1]
            .text
            .en
            .contains("only cgroups at their limits reclaim")
    );
    assert_eq!(data.reclaim.scanned_pages, Some(21_000));
    assert_eq!(data.reclaim.efficiency, Some(20_000.0 / 21_000.0));
    assert_eq!(data.reclaim.host_scanned_pages, Some(0));
    // The host reclaims as well: then its memory is a matter too.
    if let Some(system) = readings.last.as_mut().and_then(|last| last.system.as_mut()) {
        system.pgscan_kswapd = Some(5000);
    }
    let (_, findings) = analyze(&readings);
    let advice: Vec<&str> = findings[0].advice.iter().map(|text| &*text.en).collect();
    assert!(
        advice.iter().any(|text| text.contains("give the host")),
        "{advice:?}"
    );
}

#[test]
fn swapping_within_a_limit_is_no_quiet_host() {
    let swap = |system: &mut SystemMetrics| {
        system.workingset_refault_anon = Some(20_000);
        system.pgsteal_anon = Some(20_000);
        system.pgscan_anon = Some(30_000);
    };
    let mut readings = read(swap, 100);
    for (sample, failcnt) in [(&mut readings.first, 0), (&mut readings.last, 900)] {
        if let Some(sample) = sample {
            sample.cgroups.push(CgroupSample {
                path: RawText::new("/swapper"),
                id: 9,
                metrics: CgroupMetrics {
                    file_kb: Some(0),
                    usage_kb: Some(48 << 10),
                    limit_kb: Some(48 << 10),
                    failcnt: Some(failcnt),
                    ..CgroupMetrics::default()
                },
                ..CgroupSample::default()
            });
        }
    }
    let (data, findings) = analyze(&readings);
    assert_eq!(findings[0].id, "cache-cgroup-reclaim");
    assert!(findings[0].title.en.contains("/swapper"));
    assert_eq!(data.judgements[1].state, crate::report::cache::State::Bad);
}

#[test]
fn ratios_need_figures_that_are_counted_alike() {
    let mut now = quiet();
    now.workingset_refault_file = Some(100);
    now.pgsteal_file = Some(50);
    let readings = read(|_| {}, 100);
    let ratio = |now: &SystemMetrics| reclaim(&readings, now).refaults_per_steal_since_boot;
    assert_eq!(ratio(&now), None, "more came back than went");
    now.pgsteal_file = Some(200);
    assert_eq!(ratio(&now), Some(0.5));
    now.pgsteal_file = None;
    now.pgsteal_kswapd = Some(200);
    assert_eq!(ratio(&now), None);
}

#[test]
fn slab_findings_need_their_figures() {
    let growth = ids(|system| system.sunreclaim_kb = Some(60_000), 100);
    assert_eq!(growth, ["cache-slab-growth"]);
    let large = ids(|system| system.sunreclaim_kb = Some(2 << 20), 100);
    assert!(large.contains(&"cache-slab-unreclaimable"));
    let tight = |system: &mut SystemMetrics| system.mem_available_kb = Some(100_000);
    // 400,000 slabs of 4 KiB are 19% of memory.
    let (data, findings) = analyze(&read(tight, 400_000));
    assert_eq!(findings[0].id, "cache-dentry-inode");
    let row = &data.slab.as_ref().unwrap()[0];
    assert_eq!((row.size_kb, row.growth_kb), (1_600_000, Some(1_599_600)));
    assert_eq!(row.waste_kb, 400_000 * 192 / 1024);
    assert!(ids(|_| {}, 400_000).is_empty(), "memory is not tight");
}

#[test]
fn reclaim_that_does_not_pay() {
    let found = ids(
        |system| {
            system.pgscan_direct = Some(10_000);
            system.pgsteal_direct = Some(500);
            system.allocstall = Some(50);
        },
        100,
    );
    assert_eq!(found, ["cache-reclaim-inefficient", "cache-direct-reclaim"]);
}

#[test]
fn the_unusable_index_has_known_values() {
    // One block of each order 0 to 10: 2047 pages, of which 7 are below order 3.
    let one = [1; 11];
    assert!((unusable_index(&one, 3).unwrap() - 7.0 / 2047.0).abs() < 1e-12);
    assert!((unusable_index(&one, 9).unwrap() - 511.0 / 2047.0).abs() < 1e-12);
    assert_eq!(unusable_index(&[100, 0, 0, 0], 3), Some(1.0));
    assert_eq!(unusable_index(&[0, 0, 0, 5], 3), Some(0.0));
    assert_eq!(unusable_index(&[0; 11], 3), None, "nothing is free");
    assert_eq!(unusable_index(&[], 3), None);
    assert!(unusable_index(&[u64::MAX; 200], 9).is_some());
    let wide = Zone {
        free_blocks: vec![u64::MAX; 66],
        ..Zone::default()
    };
    let all = fragmentation(&[wide.clone(), wide], None, 4);
    assert_eq!(all.zones[0].free_kb, u64::MAX);
}

#[test]
fn one_reading_knows_no_rates() {
    let mut readings = Readings::default();
    readings.push(Item::Sample(Sample {
        ts_ns: 1,
        system: Some(quiet()),
        ..Sample::default()
    }));
    let (data, findings) = analyze(&readings);
    assert!(findings.is_empty());
    assert_eq!(data.rates.interval_s, None);
    assert_eq!(data.rates.refault_file_per_s, None);
    assert!(data.slab.is_none() && data.hit_ratio.is_none());
    assert_eq!(data.notes.len(), 2);
}
