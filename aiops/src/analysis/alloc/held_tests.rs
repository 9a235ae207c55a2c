//! Places that hold, places that give back, and what grows.

use super::*;
use crate::model::AllocKind;
use crate::model::Allocs;
use crate::model::End;
use crate::model::EndReason;
use crate::model::Frame;
use crate::model::RawText;
use crate::model::Session;
use crate::model::StackEnd;
use crate::model::SymbolSet;
use crate::model::SymbolSpace;
use crate::model::Symbolized;

const SECOND: u64 = 1_000_000_000;

fn stack(site: u64) -> AllocStack {
    AllocStack {
        pid: 3,
        start_ticks: Some(1),
        comm: RawText::from("server"),
        kind: AllocKind::Pages,
        bytes: 4096,
        kernel: Vec::new(),
        user: vec![site, 9],
        end: StackEnd::Root,
    }
}

/// 100 s; `cache_insert` takes 6 samples a second and keeps them, `handle` gives each back after half a second, `warm`
/// takes 60 in the first second and keeps them.
fn items() -> Vec<Item> {
    let mut options = BTreeMap::from([("mode".to_owned(), "sample".to_owned())]);
    options.insert("mean_bytes".to_owned(), "524288".to_owned());
    options.insert(MIN_AGE.to_owned(), "10".to_owned());
    let mut all = vec![Item::Session(Session {
        started_ns: SECOND,
        options,
        ..Session::default()
    })];
    let mut number = 0;
    for second in 1..101 {
        let mut allocs = Allocs {
            ts_ns: second * SECOND,
            ..Allocs::default()
        };
        let warm = if second == 1 { 60 } else { 0 };
        for (site, count) in [(1, 6), (2, 20), (3, warm)] {
            for one in 0..count {
                number += 1;
                let at = second * SECOND + one * SECOND / 64;
                allocs.taken.push((number, at, stack(site)));
                if site == 2 {
                    allocs.freed.push((number, at + SECOND / 2));
                }
            }
        }
        all.push(Item::Allocs(Box::new(allocs)));
    }
    let name = |(ip, name): (u64, &str)| Symbolized {
        ip,
        frames: vec![Frame {
            function: Some(RawText::from(name)),
            ..Frame::default()
        }],
    };
    let names = [(1, "cache_insert"), (2, "handle"), (3, "warm"), (9, "main")];
    all.push(Item::Symbols(SymbolSet {
        space: SymbolSpace::Process {
            pid: 3,
            start_ticks: Some(1),
        },
        symbols: names.map(name).to_vec(),
    }));
    all.push(Item::End(End {
        ts_ns: 101 * SECOND,
        reason: EndReason::Duration,
    }));
    all
}

#[test]
fn the_leaking_place_is_first_and_the_others_are_no_leaks() {
    let mut holdings = Holdings::default();
    items().iter().for_each(|item| holdings.push(item));
    let (data, findings, accounting) = holdings.finish();
    let names: Vec<&str> = data
        .stacks
        .iter()
        .map(|row| row.user[0].function.as_deref().unwrap())
        .collect();
    assert_eq!(
        names,
        ["cache_insert", "warm"],
        "what was given back is not held"
    );
    let leak = &data.stacks[0];
    assert_eq!(leak.verdict, Some("leak"));
    // 6 samples a second of about 514 KiB: those of the last ten seconds are too young, but for the very first of them.
    let one = Sum::of(4096, 1, Some(524_288)).bytes;
    assert_eq!(leak.held.samples, 6 * 90 + 1);
    assert!((leak.held.bytes - 541.0 * one).abs() < 1.0);
    let rate = leak.growth.as_ref().unwrap();
    let truth = 6.0 * one * 3600.0 / 1_048_576.0;
    let (low, high) = rate.rate_interval.unwrap();
    assert!(
        low < truth && truth < high && (rate.rate_mib_per_hour.unwrap() / truth - 1.0).abs() < 0.05
    );
    assert_eq!(leak.oldest_s, Some(100.0));
    assert_ne!(data.stacks[1].verdict, Some("leak"));
    assert_eq!(findings.len(), 1);
    assert!(
        findings[0]
            .title
            .en
            .contains("100% from cache_insert < main"),
        "{:?}",
        findings[0].title
    );
    assert!(accounting.complete);
}

#[test]
fn few_samples_and_caches_are_not_judged() {
    let mut holdings = Holdings::default();
    for item in items() {
        let Item::Allocs(mut allocs) = item else {
            holdings.push(&item);
            continue;
        };
        allocs
            .taken
            .retain(|(number, _, stack)| stack.user[0] == 1 && number % 97 == 0);
        holdings.push(&Item::Allocs(allocs));
    }
    let (data, findings, _) = holdings.finish();
    assert!(data.stacks.len() == 1 && data.stacks[0].verdict.is_none());
    assert!(findings.is_empty());
}
