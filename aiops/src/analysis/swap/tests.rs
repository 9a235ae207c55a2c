//! Synthetic observations: the arithmetic of the sum, and each piece of advice.

use super::*;
use crate::model::Host;
use crate::model::Item;
use crate::model::ProcessMetrics;
use crate::model::RegionKind;
use crate::model::Sample;
use crate::model::Session;
use crate::model::Setting;
use crate::model::ShmSegment;
use crate::model::SwapDevice;
use crate::model::Tmpfs;
use crate::model::Zswap;

const MIB: u64 = 1024;

/// A host with 8 GiB of memory, 4 GiB available, 2 GiB of swap of which `used` is in use.
fn system(used: u64) -> SystemMetrics {
    SystemMetrics {
        mem_total_kb: Some(8192 * MIB),
        mem_available_kb: Some(4096 * MIB),
        swap_total_kb: Some(2048 * MIB),
        swap_free_kb: Some(2048 * MIB - used),
        swap_cached_kb: Some(0),
        shmem_kb: Some(0),
        pswpin: Some(0),
        pswpout: Some(0),
        psi_full_total_us: Some(0),
        workingset_refault_anon: Some(0),
        ..SystemMetrics::default()
    }
}

fn process(pid: u32, swap_kb: u64, rss_kb: u64) -> ProcessSample {
    ProcessSample {
        pid,
        start_ticks: 7,
        comm: RawText::from(format!("p{pid}")),
        metrics: ProcessMetrics {
            swap_kb: Some(swap_kb),
            rss_kb: Some(rss_kb),
            majflt: Some(5),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    }
}

/// Two samples, two seconds apart.
fn readings(first: SystemMetrics, last: SystemMetrics, processes: &[ProcessSample]) -> Readings {
    let mut readings = Readings::default();
    readings.push(Item::Session(Session {
        host: Host {
            kernel: RawText::from("6.1.0-13-amd64"),
            page_size: Some(4096),
            cpus: Some(2),
            memory_cgroup: Some(2),
            ..Host::default()
        },
        ..Session::default()
    }));
    for (ts_ns, system) in [(1_000_000_000, first), (3_000_000_000, last)] {
        readings.push(Item::Sample(Sample {
            ts_ns,
            system: Some(system),
            processes: processes.to_vec(),
            ..Sample::default()
        }));
    }
    readings
}

fn ids(readings: &Readings) -> Vec<&'static str> {
    let (_, findings) = analyze(readings, &Options::default());
    findings.iter().map(|finding| finding.id).collect()
}

fn parts(data: &SwapData) -> Vec<(&'static str, Option<i64>)> {
    let all = data.totals.explained.iter();
    all.map(|part| (part.part, part.kb)).collect()
}

#[test]
fn the_parts_add_up_to_the_difference() {
    let mut sharer = process(2, 20 * MIB, MIB);
    sharer.metrics.swap_pss_kb = Some(10 * MIB);
    let mut last = system(200 * MIB);
    last.swap_cached_kb = Some(8 * MIB);
    last.shmem_kb = Some(30 * MIB);
    let mut readings = readings(system(0), last, &[process(1, 100 * MIB, MIB), sharer]);
    readings.push(Item::Detail(Box::new(Detail {
        tmpfs: Some(vec![Tmpfs {
            used_kb: Some(70 * MIB),
            ..Tmpfs::default()
        }]),
        shm: Some(vec![ShmSegment {
            rss_bytes: Some(10 << 20),
            swap_bytes: Some(25 << 20),
            ..ShmSegment::default()
        }]),
        ..Detail::default()
    })));
    let (data, _) = analyze(&readings, &Options::default());
    let mib = |mib: i64| Some(mib * 1024);
    assert_eq!(data.totals.difference_kb, mib(80));
    assert_eq!(
        parts(&data),
        [
            ("shared_slots", mib(-10)),
            // tmpfs 70 − (Shmem 30 − System V 10), and 25 of System V.
            ("shmem", mib(75)),
            ("cgroup_shared", None),
            ("swap_cached", mib(8)),
            // 128 slots of 4 KiB of 2 CPUs.
            ("slot_caches", mib(1)),
        ]
    );
    assert_eq!(data.totals.unexplained_kb, mib(6));
    assert_eq!(data.totals.unexplained_share, Some(0.03));
}

#[test]
fn what_is_missing_is_unknown() {
    let (data, findings) = analyze(&Readings::default(), &Options::default());
    assert_eq!(data.totals, crate::report::swap::Totals::default());
    assert_eq!(data.rates, Rates::default());
    assert!(findings.is_empty() && data.devices.is_none());
}

#[test]
fn processes_unread_are_a_part_without_a_figure() {
    let mut readings = readings(system(0), system(100 * MIB), &[process(1, 90 * MIB, MIB)]);
    readings.skipped.denied = 3;
    let (data, _) = analyze(&readings, &Options::default());
    assert!(parts(&data).contains(&("unread_processes", None)));
}

#[test]
fn thresholds_order_and_filters() {
    let mut readings = readings(
        system(0),
        system(100 * MIB),
        &[
            process(1, 5 * MIB, 9),
            process(2, 80 * MIB, 1),
            process(3, 10 * MIB, 5),
        ],
    );
    let options = Options {
        threshold: 0.1,
        ..Options::default()
    };
    let (data, _) = analyze(&readings, &options);
    let rows: Vec<_> = data
        .processes
        .iter()
        .map(|row| (row.pid, row.listed))
        .collect();
    assert_eq!(rows, [(2, true), (3, true), (1, false)]);
    assert_eq!(data.processes[0].share, Some(0.8));
    let options = Options {
        sort: Sort::Rss,
        filter: Filter {
            pids: vec![1, 2],
            ..Filter::default()
        },
        ..Options::default()
    };
    let (data, _) = analyze(&readings, &options);
    let rows: Vec<_> = data.processes.iter().map(|row| row.pid).collect();
    assert_eq!(rows, [1, 2]);
    assert_eq!(
        data.totals.processes_swap_kb,
        Some(95 * MIB),
        "sums are over all"
    );
    if let Some(last) = &mut readings.last {
        last.processes[0].metrics.majflt = Some(9);
        last.processes[0].metrics.swap_kb = Some(4 * MIB);
    }
    let (data, _) = analyze(&readings, &Options::default());
    let changed = data.processes.iter().find(|row| row.pid == 1).unwrap();
    assert_eq!(
        (changed.major_faults, changed.swap_change_kb),
        (Some(4), Some(-1024))
    );
}

#[test]
fn no_swap_advises_only_when_memory_is_tight() {
    let none = SystemMetrics {
        swap_total_kb: Some(0),
        swap_free_kb: Some(0),
        ..system(0)
    };
    let (_, findings) = analyze(
        &readings(none.clone(), none.clone(), &[]),
        &Options::default(),
    );
    assert_eq!((findings[0].id, findings[0].advice.len()), ("swap-none", 0));
    let tight = SystemMetrics {
        mem_available_kb: Some(100 * MIB),
        ..none
    };
    let (_, findings) = analyze(&readings(tight.clone(), tight, &[]), &Options::default());
    assert_eq!((findings[0].id, findings[0].advice.len()), ("swap-none", 1));
    assert_eq!(findings[0].severity, crate::report::Severity::Warning);
}

/// 10,000 pages in and out in two seconds, all tasks waiting for a tenth of it.
fn thrashing() -> SystemMetrics {
    SystemMetrics {
        pswpin: Some(10_000),
        pswpout: Some(10_000),
        psi_full_total_us: Some(200_000),
        workingset_refault_anon: Some(9_000),
        ..system(500 * MIB)
    }
}

#[test]
fn thrash_needs_traffic_waiting_and_refaults() {
    let processes = &[process(1, 450 * MIB, MIB)];
    let all = readings(system(500 * MIB), thrashing(), processes);
    let (data, findings) = analyze(&all, &Options::default());
    assert_eq!(findings[0].id, "swap-thrash");
    assert_eq!(data.rates.swap_in_kb_per_s, Some(20_000.0));
    assert_eq!(data.pressure.full_interval, Some(10.0));
    let calm = SystemMetrics {
        psi_full_total_us: Some(0),
        ..thrashing()
    };
    assert!(!ids(&readings(system(500 * MIB), calm, processes)).contains(&"swap-thrash"));
    let outward = SystemMetrics {
        pswpin: Some(0),
        ..thrashing()
    };
    assert!(!ids(&readings(system(500 * MIB), outward, processes)).contains(&"swap-thrash"));
}

#[test]
fn idle_swap_is_normal_and_may_be_emptied_when_it_fits() {
    let one = &[process(1, 500 * MIB, MIB)];
    let mut all = readings(system(500 * MIB), system(500 * MIB), one);
    assert_eq!(ids(&all), ["swap-idle"], "no device is known");
    all.push(Item::Detail(Box::new(Detail {
        swaps: Some(vec![
            SwapDevice {
                path: RawText::from("/dev/sda 2"),
                used_kb: 9,
                priority: 5,
                ..SwapDevice::default()
            },
            SwapDevice {
                path: RawText::from("/swapfile"),
                used_kb: 9,
                priority: -2,
                ..SwapDevice::default()
            },
        ]),
        ..Detail::default()
    })));
    let (_, findings) = analyze(&all, &Options::default());
    let found: Vec<_> = findings.iter().map(|finding| finding.id).collect();
    assert_eq!(found, ["swap-could-be-emptied", "swap-idle"]);
    let commands =
        "swapoff '/dev/sda 2' && swapon -p 5 '/dev/sda 2'; swapoff /swapfile && swapon /swapfile";
    assert!(findings[0].advice[0].en.contains(commands), "{findings:?}");
    let full = SystemMetrics {
        mem_available_kb: Some(1500 * MIB),
        ..system(500 * MIB)
    };
    assert_eq!(ids(&readings(full.clone(), full, one)), ["swap-idle"]);
}

#[test]
fn nearly_full_swap_is_a_warning() {
    let full = system(2000 * MIB);
    let found = ids(&readings(full.clone(), full, &[process(1, 9, 9)]));
    assert!(found.contains(&"swap-nearly-full"), "{found:?}");
}

#[test]
fn a_heap_that_grows_into_swap_and_stays_there_is_suspect() {
    let outward = SystemMetrics {
        pswpout: Some(5000),
        ..system(500 * MIB)
    };
    let grown = |kb| {
        let mut all = readings(
            system(480 * MIB),
            outward.clone(),
            &[process(1, 450 * MIB, MIB)],
        );
        if let Some(first) = &mut all.first {
            first.processes[0].metrics.swap_kb = Some(450 * MIB - kb);
        }
        all
    };
    let mut all = grown(20 * MIB);
    assert!(ids(&all).contains(&"swap-leak-suspect"));
    assert!(!ids(&grown(0)).contains(&"swap-leak-suspect"), "no growth");
    let regions = |kind| crate::model::Regions {
        pid: 1,
        start_ticks: 7,
        regions: vec![crate::model::RegionSum {
            kind,
            metrics: crate::model::MappingMetrics {
                swap_kb: Some(450 * MIB),
                ..Default::default()
            },
            ..Default::default()
        }],
        ..Default::default()
    };
    all.push(Item::Regions(regions(RegionKind::Heap)));
    assert!(ids(&all).contains(&"swap-leak-suspect"));
    all.push(Item::Regions(regions(RegionKind::Shm)));
    assert!(!ids(&all).contains(&"swap-leak-suspect"));
    let mut read = grown(20 * MIB);
    if let Some(system) = read.last.as_mut().and_then(|last| last.system.as_mut()) {
        system.pswpin = Some(4000);
    }
    let found = ids(&read);
    assert!(
        !found.contains(&"swap-leak-suspect"),
        "it is read back: {found:?}"
    );
}

fn cgroup(path: &str, swap_kb: u64, limit_kb: Option<u64>) -> CgroupSample {
    CgroupSample {
        path: RawText::from(path),
        metrics: CgroupMetrics {
            usage_kb: Some(99 * MIB),
            limit_kb,
            swap_kb: Some(swap_kb),
            failcnt: Some(0),
            ..Default::default()
        },
        ..CgroupSample::default()
    }
}

/// Fork-shared swap, a memfd, and resident shared memory of somebody else.
#[test]
fn shared_memory_is_told_by_what_cgroups_are_charged() {
    let mut parent = process(1, 100 * MIB, MIB);
    parent.metrics.swap_pss_kb = Some(50 * MIB);
    let mut child = process(2, 100 * MIB, MIB);
    child.metrics.swap_pss_kb = Some(50 * MIB);
    let mut last = system(180 * MIB);
    last.shmem_kb = Some(900 * MIB);
    let mut all = readings(system(0), last, &[parent, child]);
    for pid in [1, 2] {
        all.push(Item::Identity(crate::model::Identity {
            pid,
            start_ticks: Some(7),
            cgroup: Some(RawText::from("/a")),
            ..Default::default()
        }));
    }
    if let Some(last) = &mut all.last {
        last.cgroups.push(cgroup("/a", 180 * MIB, None));
    }
    all.push(Item::Detail(Box::new(Detail {
        tmpfs: Some(vec![Tmpfs {
            used_kb: Some(30 * MIB),
            ..Tmpfs::default()
        }]),
        ..Detail::default()
    })));
    let (data, findings) = analyze(&all, &Options::default());
    assert_eq!(data.cgroups[0].other_swap_kb, Some(80 * MIB));
    assert_eq!(data.totals.unexplained_kb, Some(0), "{:?}", data.totals);
    let kb = |part: &str| {
        let found = data.totals.explained.iter().find(|one| one.part == part);
        found.and_then(|one| one.kb).map(|kb| kb / 1024)
    };
    assert_eq!(kb("shared_slots"), Some(-100));
    assert_eq!((kb("shmem"), kb("cgroup_shared")), (Some(30), Some(50)));
    assert!(data.processes.iter().all(|row| row.share < Some(0.3)));
    assert!(findings.iter().all(|one| one.id != "swap-unexplained"));
    for part in &data.totals.explained {
        let most = part.at_most_kb.map(|most| i64::try_from(most).unwrap());
        assert!(
            part.kb.zip(most).is_none_or(|(kb, most)| kb <= most),
            "{part:?}"
        );
    }
}

#[test]
fn a_large_rest_is_a_finding() {
    let mut all = readings(system(0), system(200 * MIB), &[process(1, 100 * MIB, MIB)]);
    let mut silent = process(2, 0, 0);
    silent.metrics.swap_kb = None;
    if let Some(last) = &mut all.last {
        last.processes.push(silent);
    }
    let (data, findings) = analyze(&all, &Options::default());
    assert_eq!(data.totals.processes_unread, 1);
    let found = findings.iter().find(|one| one.id == "swap-unexplained");
    assert!(found.unwrap().advice[0].en.contains("as root"));
    let one = &[process(1, 195 * MIB, MIB)];
    let small = readings(system(0), system(200 * MIB), one);
    assert!(!ids(&small).contains(&"swap-unexplained"));
}

#[test]
fn thrash_within_one_limit_names_the_cgroup_and_raises_in_order() {
    let one = &[process(1, 450 * MIB, MIB)];
    let mut all = readings(system(500 * MIB), thrashing(), one);
    if let Some(session) = &mut all.session {
        session.host.memory_cgroup = Some(1);
    }
    let mut before = cgroup("/it's", 450 * MIB, Some(100 * MIB));
    before.metrics.swap_limit_kb = Some(500 * MIB);
    let mut now = before.clone();
    now.metrics.failcnt = Some(70);
    if let (Some(first), Some(last)) = (&mut all.first, &mut all.last) {
        first.cgroups.push(before);
        last.cgroups.push(now);
    }
    all.push(detail("80", "/dev/sda2", None));
    let (_, findings) = analyze(&all, &Options::default());
    let found: Vec<_> = findings.iter().map(|one| one.id).collect();
    assert_eq!(found, ["swap-thrash"]);
    assert_eq!(findings[0].severity, crate::report::Severity::Warning);
    assert!(findings[0].title.en.contains("/it's"));
    let all_advice: Vec<&str> = findings[0].advice.iter().map(|text| &*text.en).collect();
    let all_advice = all_advice.join("\n");
    let both = all_advice
        .find(r"/it'\''s/memory.memsw.limit_in_bytes'")
        .unwrap();
    let one = all_advice.find(r"/it'\''s/memory.limit_in_bytes'").unwrap();
    assert!(both < one, "{all_advice}");
    assert!(!all_advice.contains("OOM-killed"), "{all_advice}");
}

#[test]
fn only_a_host_without_memory_is_critical() {
    let one = &[process(1, 450 * MIB, MIB)];
    let short = SystemMetrics {
        mem_available_kb: Some(100 * MIB),
        ..thrashing()
    };
    let (_, findings) = analyze(
        &readings(system(500 * MIB), short, one),
        &Options::default(),
    );
    assert_eq!(findings[0].severity, crate::report::Severity::Critical);
    let (_, findings) = analyze(
        &readings(system(500 * MIB), thrashing(), one),
        &Options::default(),
    );
    assert_eq!(findings[0].severity, crate::report::Severity::Warning);
}

#[test]
fn groups_share_slots_and_follow_the_order() {
    let mut sharer = process(1, 80 * MIB, 5 * MIB);
    sharer.metrics.swap_pss_kb = Some(10 * MIB);
    let all = readings(
        system(0),
        system(100 * MIB),
        &[sharer, process(2, 20 * MIB, 900 * MIB)],
    );
    let by = |sort| Options {
        by: By::Comm,
        sort,
        ..Options::default()
    };
    let names = |sort| {
        let (data, _) = analyze(&all, &by(sort));
        let groups = data.groups.unwrap();
        groups
            .iter()
            .map(|row| (row.who.name.clone().unwrap(), row.share.unwrap()))
            .collect::<Vec<_>>()
    };
    let (one, two) = (("p1".to_owned(), 0.1), ("p2".to_owned(), 0.2));
    assert_eq!(names(Sort::Swap), [two.clone(), one.clone()]);
    assert_eq!(names(Sort::Share), [one, two]);
}

fn detail(swappiness: &str, device: &str, zswap: Option<bool>) -> Item {
    Item::Detail(Box::new(Detail {
        swaps: Some(vec![SwapDevice {
            path: RawText::from(device),
            ..SwapDevice::default()
        }]),
        zswap: Some(Zswap {
            enabled: zswap,
            ..Zswap::default()
        }),
        settings: vec![Setting {
            name: "vm.swappiness".to_owned(),
            value: swappiness.to_owned(),
        }],
        ..Detail::default()
    }))
}

#[test]
fn swappiness_and_compression_follow_the_load() {
    let with = |last: SystemMetrics, item| {
        let mut all = readings(system(500 * MIB), last, &[process(1, 9, 9)]);
        all.push(item);
        ids(&all)
    };
    let ample = || SystemMetrics {
        mem_available_kb: Some(5000 * MIB),
        ..thrashing()
    };
    let found = with(ample(), detail("80", "/dev/sda2", Some(false)));
    assert!(found.contains(&"swap-swappiness-high"), "{found:?}");
    assert!(found.contains(&"swap-compress"), "{found:?}");
    let found = with(ample(), detail("60", "/dev/sda2", Some(true)));
    assert!(!found.contains(&"swap-swappiness-high") && !found.contains(&"swap-compress"));
    let found = with(ample(), detail("80", "/dev/zram0", Some(false)));
    assert!(!found.contains(&"swap-swappiness-high") && !found.contains(&"swap-compress"));
    let tight = SystemMetrics {
        mem_available_kb: Some(100 * MIB),
        ..thrashing()
    };
    let found = with(tight, detail("10", "/dev/zram0", Some(false)));
    assert!(found.contains(&"swap-swappiness-low"), "{found:?}");
}

#[test]
fn a_cgroup_at_its_limit_is_told_from_a_host_without_memory() {
    let mut all = readings(system(500 * MIB), system(500 * MIB), &[process(1, 9, 9)]);
    let cgroup = CgroupSample {
        path: RawText::from("/a"),
        metrics: CgroupMetrics {
            usage_kb: Some(99 * MIB),
            limit_kb: Some(100 * MIB),
            swap_kb: Some(400 * MIB),
            ..Default::default()
        },
        ..CgroupSample::default()
    };
    if let Some(last) = &mut all.last {
        last.cgroups.push(cgroup);
    }
    let (data, findings) = analyze(&all, &Options::default());
    let found = findings
        .iter()
        .find(|one| one.id == "swap-cgroup-limit")
        .unwrap();
    assert!(
        found.advice[0].en.contains("/sys/fs/cgroup/a/memory.max"),
        "{found:?}"
    );
    assert_eq!(data.cgroups[0].other_swap_kb, Some(400 * MIB));
    if let Some(system) = all.last.as_mut().and_then(|last| last.system.as_mut()) {
        system.mem_available_kb = Some(100 * MIB);
    }
    assert!(!ids(&all).contains(&"swap-cgroup-limit"));
}
