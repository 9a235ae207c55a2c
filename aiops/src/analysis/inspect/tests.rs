use crate::model::Item;
use crate::model::ProcessMetrics;
use crate::model::Sample;
use crate::report::Severity;

use super::*;

fn mapping(at: u64, kind: RegionKind, rss_kb: u64) -> MappingSample {
    MappingSample {
        start: at << 12,
        end: (at + 1) << 12,
        perms: "rw-p".to_owned(),
        kind,
        metrics: MappingMetrics {
            size_kb: Some(rss_kb),
            rss_kb: Some(rss_kb),
            pss_kb: Some(rss_kb),
            swap_kb: Some(0),
            ..MappingMetrics::default()
        },
        ..MappingSample::default()
    }
}

fn process(pid: u32, ppid: u32, mappings: Vec<MappingSample>) -> ProcessMappings {
    ProcessMappings {
        process: ProcessSample {
            pid,
            ppid,
            comm: RawText::from("prog"),
            metrics: ProcessMetrics {
                threads: Some(2),
                ..ProcessMetrics::default()
            },
            ..ProcessSample::default()
        },
        mappings,
        ..ProcessMappings::default()
    }
}

fn run(processes: Vec<ProcessMappings>) -> (InspectData, Vec<Finding>) {
    let mut readings = Readings::default();
    readings.push(Item::Sample(Sample {
        processes: processes.iter().map(|one| one.process.clone()).collect(),
        ..Sample::default()
    }));
    let taken = Taken {
        processes,
        ..Taken::default()
    };
    inspect(&readings, taken, Sort::Pss, Some(20_000))
}

fn found(mappings: Vec<MappingSample>) -> Vec<(&'static str, Severity)> {
    let (_, findings) = run(vec![process(1, 0, mappings)]);
    findings.iter().map(|one| (one.id, one.severity)).collect()
}

fn many(count: u64, kind: RegionKind, rss_kb: u64) -> Vec<MappingSample> {
    (0..count).map(|at| mapping(at, kind, rss_kb)).collect()
}

/// Mappings, and the findings that they give.
type Case = (Vec<MappingSample>, Vec<(&'static str, Severity)>);

#[test]
fn every_rule_has_a_case_and_its_opposite() {
    use RegionKind::*;
    use Severity::*;
    let with = |kind, rss, change: fn(&mut MappingSample)| {
        let mut one = mapping(1, kind, rss);
        change(&mut one);
        vec![one]
    };
    let table: Vec<Case> = vec![
        (many(80, Arena, 4096), vec![("inspect-arenas", Warning)]),
        (many(1024, Arena, 1), vec![("inspect-arenas", Info)]),
        (many(63, Arena, 10_000), vec![]),
        (
            many(40, ThreadStack, 8),
            vec![("inspect-leaked-stacks", Warning)],
        ),
        (many(20, ThreadStack, 8), vec![]),
        (many(19_900, File, 4), vec![("inspect-map-count", Critical)]),
        (many(16_500, File, 4), vec![("inspect-map-count", Warning)]),
        (
            many(12_000, Anon, 4),
            vec![("inspect-small-mappings", Warning)],
        ),
        (many(9_000, Anon, 4), vec![]),
        (
            with(Memfd, 300 << 10, |one| one.perms = "rw-s".to_owned()),
            vec![("inspect-huge-shared-memory", Info)],
        ),
        (
            with(Anon, 300 << 10, |one| one.perms = "rwxp".to_owned()),
            vec![("inspect-writable-code", Warning)],
        ),
        (
            with(Anon, 100 << 10, |one| one.perms = "rwxp".to_owned()),
            vec![("inspect-writable-code", Warning)],
        ),
        (
            with(Anon, 15 << 10, |one| one.perms = "rwxp".to_owned()),
            vec![],
        ),
        (
            with(File, 20 << 10, |one| {
                one.path = RawText::from("/f (deleted)");
                one.deleted = Some(false);
            }),
            vec![],
        ),
        (
            with(Shm, 20 << 10, |one| {
                one.path = RawText::from("/dev/shm/f (deleted)");
            }),
            vec![("inspect-deleted-file", Info)],
        ),
        (
            with(Library, 20 << 10, |one| {
                one.path = RawText::from("/data.so (deleted)");
            }),
            vec![("inspect-deleted-file", Warning)],
        ),
        (
            with(Stack, 100, |one| one.perms = "rwxp".to_owned()),
            vec![("inspect-writable-code", Warning)],
        ),
        (
            with(Heap, 100 << 10, |one| one.metrics.swap_kb = Some(70 << 10)),
            vec![("inspect-swapped-heap", Warning)],
        ),
        (
            with(Heap, 100 << 10, |one| one.metrics.swap_kb = Some(5 << 10)),
            vec![],
        ),
        (
            with(Library, 9, |one| {
                one.path = RawText::from("/l.so (deleted)");
                one.perms = "r-xp".to_owned();
            }),
            vec![("inspect-deleted-file", Info)],
        ),
        (
            with(File, 20 << 10, |one| {
                one.path = RawText::from("/f (deleted)");
            }),
            vec![("inspect-deleted-file", Warning)],
        ),
        (
            with(File, 20, |one| one.path = RawText::from("/f (deleted)")),
            vec![],
        ),
        (
            with(Anon, 600 << 10, |one| {
                one.metrics.anon_huge_kb = Some(600 << 10);
                one.metrics.referenced_kb = Some(10 << 10);
            }),
            vec![("inspect-huge-page-waste", Info)],
        ),
        (
            with(Anon, 600 << 10, |one| {
                one.metrics.lazy_free_kb = Some(300 << 10);
            }),
            vec![("inspect-lazy-free", Info)],
        ),
    ];
    for (at, (mappings, expected)) in table.into_iter().enumerate() {
        assert_eq!(found(mappings), expected, "case {at}");
    }
}

#[test]
fn locked_memory_needs_a_share_of_what_there_is() {
    let mut one = mapping(1, RegionKind::Anon, 1 << 20);
    one.metrics.locked_kb = Some(1 << 20);
    let all = process(1, 0, vec![one]);
    let around = |total_kb| findings::Around {
        total_kb: Some(total_kb),
        ..findings::Around::default()
    };
    assert_eq!(findings::of(&all, &around(2 << 20)).len(), 1);
    assert_eq!(findings::of(&all, &around(64 << 20)).len(), 0);
}

#[test]
fn a_tree_is_merged_and_in_order() {
    let one = |pid, ppid| process(pid, ppid, vec![mapping(1, RegionKind::Heap, 100)]);
    let (data, _) = run(vec![one(9, 5), one(5, 1), one(7, 5), one(3, 9), one(4, 1)]);
    let rows: Vec<_> = data
        .processes
        .iter()
        .map(|row| (row.info.who.pid, row.depth))
        .collect();
    assert_eq!(
        rows,
        [
            (Some(4), 0),
            (Some(5), 0),
            (Some(7), 1),
            (Some(9), 1),
            (Some(3), 2)
        ]
    );
    assert!(data.process.is_none());
    assert_eq!(data.totals.metrics.pss_kb, Some(500));
    assert_eq!(data.by_kind.len(), 1);
    assert_eq!(data.totals_equal_rollup, None);
    // Parents in a circle are not lost.
    assert_eq!(run(vec![one(1, 2), one(2, 1)]).0.processes.len(), 2);
}

#[test]
fn rounding_is_told_from_a_difference() {
    let sums = MappingMetrics {
        rss_kb: Some(10),
        pss_kb: Some(10),
        swap_pss_kb: Some(10),
        ..MappingMetrics::default()
    };
    let rollup = MappingMetrics {
        rss_kb: Some(11),
        pss_kb: Some(12),
        swap_pss_kb: Some(9),
        ..MappingMetrics::default()
    };
    let all: Vec<_> = compare(1, &sums, &rollup, 2)
        .into_iter()
        .map(|one| (one.figure, one.rounding))
        .collect();
    assert_eq!(
        all,
        [("rss_kb", false), ("pss_kb", true), ("swap_pss_kb", false)]
    );
}

#[test]
fn descendants_are_selected() {
    let all: Vec<ProcessSample> = [
        (1, 0, "init"),
        (5, 1, "a"),
        (6, 5, "b"),
        (7, 6, "a"),
        (8, 1, "c"),
    ]
    .into_iter()
    .map(|(pid, ppid, comm)| ProcessSample {
        pid,
        ppid,
        comm: RawText::from(comm),
        ..ProcessSample::default()
    })
    .collect();
    assert_eq!(select(&all, &[5], &[], true, &|_| true), [5, 6, 7]);
    assert_eq!(
        select(&all, &[99], &["a".to_owned()], false, &|_| true),
        [5, 7, 99]
    );
    let odd = |one: &ProcessSample| one.pid % 2 == 1 && one.pid > 5;
    assert_eq!(select(&all, &[5], &["a".to_owned()], false, &odd), [7]);
    assert_eq!(select(&all, &[], &[], false, &|one| one.pid == 6), [6]);
}

#[test]
fn changes_are_by_kind_and_mapping() {
    let mut changes = Changes::default();
    let at = |ts_ns, heap, extra| {
        let mut mappings = vec![
            mapping(1, RegionKind::Heap, heap),
            mapping(2, RegionKind::Anon, 8),
        ];
        mappings.extend(many(extra, RegionKind::Shm, 50));
        let mut one = process(1, 0, mappings);
        one.ts_ns = ts_ns;
        // Other addresses than those of the first two.
        for mapping in one.mappings.iter_mut().skip(2) {
            mapping.start += 100 << 12;
        }
        vec![one]
    };
    let first = changes.push(&at(0, 100, 0), None);
    assert!(first.since_last.is_none() && first.since_start.is_none());
    changes.push(&at(2_000_000_000, 150, 0), None);
    let third = changes.push(&at(4_000_000_000, 140, 1), None);
    let last = third.since_last.unwrap();
    assert_eq!(
        (last.seconds, last.rss_kb, last.mappings),
        (2.0, Some(40), 1)
    );
    assert_eq!(last.by_kind[0].rss_kb, Some(50));
    assert_eq!((last.grown.len(), last.grown[0].new), (1, true));
    let start = third.since_start.unwrap();
    assert_eq!((start.rss_kb, start.grown.len()), (Some(90), 2));
    assert_eq!(start.by_kind.len(), 2, "what did not change is left out");
}

#[test]
fn compilers_may_write_code_of_a_usual_size() {
    let with = |comm: &str, path: &str, mib: u64| {
        let mut cache = mapping(1, RegionKind::Anon, mib << 10);
        cache.perms = "rwxp".to_owned();
        let mut library = mapping(3, RegionKind::Library, 8);
        library.path = RawText::from(path);
        let mut one = process(1, 0, vec![cache, library]);
        one.process.comm = RawText::from(comm);
        let (_, findings) = run(vec![one]);
        findings.first().map(|one| (one.id, one.severity))
    };
    let id = "inspect-writable-code";
    assert_eq!(with("java", "", 100), Some((id, Severity::Info)));
    let server = "/usr/lib/jvm/lib/server/libjvm.so";
    assert_eq!(with("server", server, 100), Some((id, Severity::Info)));
    assert_eq!(with("java", server, 300), Some((id, Severity::Warning)));
    assert_eq!(with("prog", "", 100), Some((id, Severity::Warning)));
    assert_eq!(with("java", server, 10), None);
}

#[test]
fn a_mapping_that_grows_downwards_or_takes_in_others_invents_nothing() {
    let at = |ts_ns, places: &[(u64, u64, u64)]| {
        let mappings = places.iter().map(|(start, end, rss)| MappingSample {
            end: *end << 12,
            ..mapping(*start, RegionKind::Anon, *rss)
        });
        let mut one = process(1, 0, mappings.collect());
        one.ts_ns = ts_ns;
        vec![one]
    };
    let mut changes = Changes::default();
    changes.push(&at(1, &[(100, 200, 400), (210, 300, 80)]), None);
    // Down to 90, and both become one.
    let next = changes.push(&at(2, &[(90, 300, 500)]), None);
    let grown = next.since_last.unwrap().grown;
    assert_eq!(
        (grown.len(), grown[0].new, grown[0].grown_kb),
        (1, false, 20)
    );
    // In two again, without growth; and one elsewhere.
    let next = changes.push(
        &at(3, &[(90, 150, 300), (150, 300, 200), (400, 401, 7)]),
        None,
    );
    let grown = next.since_last.unwrap().grown;
    assert_eq!((grown.len(), grown[0].new, grown[0].grown_kb), (1, true, 7));
}
