//! What a recording costs, printed by a test (`--nocapture`): bytes and time per row.

use std::time::Instant;

use proptest::test_runner::TestRunner;

use crate::model::*;

use super::tests::kmsg;
use super::tests::mark_of;
use super::*;

/// A number without a pattern for each `seed` (the finaliser of splitmix64).
fn noise(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One sample of a host: `tick` changes some of the figures of a few processes.
fn host_sample(tick: u64, processes: u64) -> Sample {
    let system = |at: u64| Some(at * 7919 + tick % 3);
    let mut host = SystemMetrics::default();
    for (at, metric) in (1..).zip(SystemMetrics::METRICS) {
        (metric.set)(&mut host, system(at));
    }
    let process = |n: u64| {
        let mut metrics = ProcessMetrics::default();
        for (at, metric) in (1..).zip(&ProcessMetrics::METRICS[..13]) {
            let changed = if noise(n * 9_973 + tick).is_multiple_of(6) {
                tick * at
            } else {
                0
            };
            let unlike = noise(n * 64 + at) % 500_000 / at;
            (metric.set)(&mut metrics, Some(unlike + changed));
        }
        ProcessSample {
            pid: 100 + n as u32 * 3,
            start_ticks: 1000 + n * 371,
            ppid: 1 + n as u32 % 5,
            comm: RawText::from(format!("worker-{}", n % 60)),
            state: Some('S'),
            uid: Some(n as u32 % 4),
            oom_score_adj: Some(0),
            metrics,
        }
    };
    Sample {
        ts_ns: tick * 1_000_000_000,
        system: Some(host),
        processes: (0..processes).map(process).collect(),
        all_processes: true,
        ..Sample::default()
    }
}

fn reclaim_event(n: u64) -> Item {
    let dice = noise(n);
    let who = dice % 40;
    let task = TaskRef {
        pid: 500 + who as u32,
        tid: 500 + who as u32,
        comm: RawText::from(format!("task-{who}")),
        start_ns: Some(1_000_000 * who),
        memcg_id: Some(77 + who % 4),
    };
    let kind = EventKind::Reclaim(Reclaim {
        task,
        kind: ReclaimKind::Memcg,
        gfp_mask: Some(0xcc0),
        order: Some(0),
    });
    let ts_ns = n * 20_000 + (dice >> 8) % 19_000;
    Item::Event(Event {
        ts_ns,
        received_ns: Some(ts_ns + 20_000 + (dice >> 24) % 60_000),
        cpu: ((dice >> 44) % 8) as u32,
        kind,
    })
}

/// Writes the items and reads them again; prints what that costs. Figures, not limits.
fn measure(name: &str, rows: u64, items: &[Item]) {
    let folder = crate::testing::Folder::new(name);
    let path = folder.file("a.aiops");
    let begin = Instant::now();
    let mut writer = Writer::create(&path, false).unwrap();
    for item in items {
        writer.push(item).unwrap();
    }
    let written = writer.finish().unwrap();
    let write = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let read = Reader::open(&path).unwrap().count();
    let unpack = begin.elapsed().as_secs_f64();
    assert_eq!(read, items.len());
    println!(
        "{name}: {rows} rows, {} blocks, {:.2} B/row, write {:.2} M rows/s, read {:.2} M rows/s",
        written.blocks,
        written.bytes as f64 / rows as f64,
        rows as f64 / write / 1e6,
        rows as f64 / unpack / 1e6,
    );
}

#[test]
fn figures() {
    let samples = |count: u64| (0..count).map(|tick| Item::Sample(host_sample(tick, 300)));
    measure(
        "process samples, many per block",
        300 * 400,
        &samples(400).collect::<Vec<_>>(),
    );
    measure(
        "process samples, one block",
        300,
        &samples(1).collect::<Vec<_>>(),
    );
    let events: Vec<Item> = (0..400_000).map(reclaim_event).collect();
    measure("reclaim events", 400_000, &events);
    let mut runner = TestRunner::deterministic();
    let marks: Vec<Item> = (0..1_000).map(|_| mark_of(&mut runner)).collect();
    measure("kills with random figures, a block each", 1_000, &marks);
    let lines: Vec<Item> = (0..200_000).map(kmsg).collect();
    measure("log lines", 200_000, &lines);
}
