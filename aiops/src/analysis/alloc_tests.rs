//! Estimates against known totals, and places against known stacks.

use super::*;
use crate::model::Allocs;
use crate::model::End;
use crate::model::EndReason;
use crate::model::LossCount;
use crate::model::Symbolized;

const MEAN_BYTES: u64 = 524_288;

fn session(mode: &str) -> Item {
    let mut options = BTreeMap::from([(MODE.to_owned(), mode.to_owned())]);
    if mode == "sample" {
        options.insert(MEAN.to_owned(), MEAN_BYTES.to_string());
    }
    Item::Session(Session {
        command: "trace alloc".to_owned(),
        started_ns: 1_000_000_000,
        options,
        ..Session::default()
    })
}

fn stack(pid: u32, bytes: u64, user: &[u64], kernel: &[u64]) -> AllocStack {
    AllocStack {
        pid,
        start_ticks: Some(7),
        comm: RawText::from("maker"),
        kind: AllocKind::Pages,
        bytes,
        kernel: kernel.to_vec(),
        user: user.to_vec(),
        end: StackEnd::Root,
    }
}

fn names(space: SymbolSpace, names: &[(u64, &str)]) -> Item {
    let symbol = |(ip, name): &(u64, &str)| Symbolized {
        ip: *ip,
        frames: vec![Frame {
            function: Some(RawText::from(*name)),
            ..Frame::default()
        }],
    };
    Item::Symbols(SymbolSet {
        space,
        symbols: names.iter().map(symbol).collect(),
    })
}

fn of(items: &[Item]) -> (AllocData, Vec<Finding>, Accounting) {
    let mut all = Allocations::default();
    for item in items {
        all.push(item);
    }
    all.push(&Item::End(End {
        ts_ns: 11_000_000_000,
        reason: EndReason::Duration,
    }));
    all.finish()
}

fn window(stacks: Vec<(AllocStack, u64)>) -> Item {
    Item::Allocs(Box::new(Allocs {
        ts_ns: 2,
        span_ns: 1,
        stacks,
        ..Allocs::default()
    }))
}

/// A generator with a known course, so that the test is the same every time.
fn random(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    ((*state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

#[test]
fn estimates_are_right_and_their_errors_too() {
    // 400 times the same allocations are sampled: 20,000 pages, 60 huge ones.
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let sizes = [(4096_u64, 20_000_u64), (2 << 20, 60)];
    let truth: f64 = sizes.iter().map(|(size, n)| (size * n) as f64).sum();
    let (mut bias, mut squares, mut within) = (0.0, 0.0, 0);
    let rounds = 400;
    for _ in 0..rounds {
        let mut found = Vec::new();
        for (size, n) in sizes {
            let mut left = -random(&mut state).ln() * MEAN_BYTES as f64;
            let mut hits = 0;
            for _ in 0..n {
                if left > size as f64 {
                    left -= size as f64;
                } else {
                    hits += 1;
                    left = -random(&mut state).ln() * MEAN_BYTES as f64;
                }
            }
            found.push((stack(1, size, &[size], &[]), hits));
        }
        let (data, _, _) = of(&[session("sample"), window(found)]);
        let error = data.total.bytes - truth;
        bias += error / rounds as f64;
        squares += (error / data.total.bytes_se).powi(2) / rounds as f64;
        within += u32::from(error.abs() < 2.0 * data.total.bytes_se);
    }
    assert!((bias / truth).abs() < 0.01, "bias {bias} of {truth}");
    assert!(
        (0.8..1.25).contains(&squares),
        "errors are {squares} of the stated"
    );
    assert!(
        (365..=395).contains(&within),
        "{within} of 400 within two errors"
    );
}

#[test]
fn stacks_of_the_same_functions_are_one_place() {
    let space = SymbolSpace::Process {
        pid: 4,
        start_ticks: Some(7),
    };
    let items = [
        session("whole"),
        window(vec![
            (stack(4, 4096, &[10, 20], &[]), 5),
            (stack(4, 4096, &[11, 20], &[]), 3),
            (stack(4, 8192, &[11, 21], &[]), 1),
            (stack(5, 4096, &[10, 20], &[]), 2),
        ]),
        window(vec![(stack(4, 4096, &[10, 20], &[]), 1)]),
        names(
            space,
            &[(10, "memset"), (11, "memset"), (20, "fill"), (21, "spill")],
        ),
    ];
    let (data, findings, accounting) = of(&items);
    let bytes: Vec<f64> = data.stacks.iter().map(|row| row.amount.bytes).collect();
    assert_eq!(bytes, [9.0 * 4096.0, 8192.0, 8192.0]);
    let top = &data.stacks[0];
    assert_eq!(top.user[1].function.as_deref(), Some("fill"));
    assert_eq!((top.amount.samples, top.amount.bytes_se), (9, 0.0));
    assert_eq!(data.total.bytes_per_s, Some(13.0 * 4096.0 / 10.0));
    assert_eq!(data.processes[0].pid, 4);
    assert_eq!(data.processes[0].amount.share, Some(11.0 / 13.0));
    // The frames of process 5 have no names.
    assert_eq!(accounting.unresolved_frames, 2);
    assert!(accounting.complete);
    assert!(
        findings.is_empty(),
        "nine samples prove nothing: {findings:?}"
    );
}

#[test]
fn the_kernels_stack_tells_the_purpose_and_interrupts_blame_nobody() {
    let kernel = names(
        SymbolSpace::Kernel,
        &[
            (1, "vma_alloc_folio_noprof"),
            (2, "asm_exc_page_fault"),
            (3, "new_slab"),
            (4, "handle_softirqs"),
            (5, "page_cache_ra_unbounded.constprop.0"),
            (6, "do_anonymous_page"),
        ],
    );
    let items = [
        session("whole"),
        window(vec![
            (stack(1, 4096, &[50], &[1, 6, 2]), 4),
            (stack(1, 4096, &[51], &[5, 2]), 3),
            (stack(1, 4096, &[52], &[3, 6]), 2),
            (stack(1, 4096, &[53], &[3, 4, 2]), 1),
        ]),
        kernel,
    ];
    let (data, _, _) = of(&items);
    let purposes: Vec<_> = data.stacks.iter().map(|row| row.purpose.unwrap()).collect();
    assert_eq!(purposes, ["anonymous", "page-cache", "slab", "interrupt"]);
    assert!(data.stacks[3].user.is_empty() && !data.stacks[2].user.is_empty());
}

#[test]
fn exact_counts_are_exact_and_the_last_ones_count() {
    let counts = |pages: u64| {
        Item::Allocs(Box::new(Allocs {
            ts_ns: 5,
            counts: vec![AllocCount {
                pid: 9,
                start_ticks: None,
                comm: RawText::from("x"),
                allocations: pages,
                bytes: pages * 4096,
            }],
            ..Allocs::default()
        }))
    };
    let (data, _, accounting) = of(&[session("exact"), counts(3), counts(8)]);
    assert_eq!((data.total.bytes, data.total.bytes_se), (8.0 * 4096.0, 0.0));
    assert_eq!((data.mode, data.processes.len()), ("exact", 1));
    assert_eq!(accounting.sampling.unwrap().mode, "none");
}

#[test]
fn what_was_lost_is_said() {
    let lost = Item::Losses(Losses {
        ts_ns: 3,
        seen: vec![LossCount {
            name: "alloc_sample".to_owned(),
            count: 100,
        }],
        lost: vec![LossCount {
            name: "alloc_ring".to_owned(),
            count: 40,
        }],
    });
    let cut = AllocStack {
        end: StackEnd::Copy,
        ..stack(1, 4096, &[1], &[])
    };
    let (_, findings, accounting) = of(&[session("sample"), window(vec![(cut, 100)]), lost]);
    assert_eq!(accounting.lost["alloc_ring"], 40);
    assert_eq!(
        (accounting.stack_truncated, accounting.complete),
        (100, false)
    );
    assert_eq!(findings[0].id, "alloc-samples-lost");
    assert!(accounting.sampling.unwrap().scale > 128.0);
}
