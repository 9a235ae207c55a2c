//! Ticks that come back as they were.

use proptest::prelude::*;

use super::*;

fn process(pid: u32, start: u64, rss_kb: Option<u64>) -> ProcessSample {
    ProcessSample {
        pid,
        start_ticks: start,
        comm: RawText::from(format!("p{}", pid % 3)),
        uid: Some(pid % 2),
        oom_score_adj: Some(-5),
        metrics: ProcessMetrics {
            rss_kb,
            minflt: Some(start),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    }
}

fn tick(at: u64, processes: Vec<ProcessSample>, paths: &[&str], used: Option<u64>) -> Tick {
    let mut processes = processes;
    processes.sort_by_key(|one| (one.pid, one.start_ticks));
    processes.dedup_by_key(|one| (one.pid, one.start_ticks));
    let mono_ns = at * 5_000_000_000;
    let cgroups = paths.iter().map(|path| CgroupSample {
        path: RawText::from(*path),
        id: path.len() as u64,
        metrics: CgroupMetrics {
            usage_kb: used,
            ..CgroupMetrics::default()
        },
        ..CgroupSample::default()
    });
    Tick {
        clock: ClockPair {
            mono_ns,
            boot_ns: mono_ns,
            real_ns: 1_700_000_000_000_000_000 + i64::try_from(mono_ns).unwrap(),
        },
        sample: Sample {
            ts_ns: mono_ns,
            system: Some(SystemMetrics {
                mem_free_kb: used,
                net_tx_bytes: used.map(|used| used.wrapping_mul(3)),
                ..SystemMetrics::default()
            }),
            cgroups: cgroups.collect(),
            processes,
            all_processes: true,
            ..Sample::default()
        },
        identities: Vec::new(),
    }
}

fn round_trip(ticks: &[Tick], keys: &[usize]) {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::own());
    for (index, tick) in ticks.iter().enumerate() {
        let mut frame = BytesMut::new();
        encoder.encode(tick, keys.contains(&index), &mut frame);
        let found = decoder.decode(&frame).unwrap().unwrap();
        assert_eq!(found.clock, tick.clock);
        assert_eq!(found.sample, tick.sample, "tick {index}");
    }
}

proptest! {
    #[test]
    fn ticks_come_back(
        ticks in proptest::collection::vec(
            (
                proptest::collection::vec((1..9_u32, 0..3_u64, any::<Option<u64>>()), 0..6),
                0..3_usize,
                any::<Option<u64>>(),
            ),
            1..12,
        ),
        key in 0..12_usize,
    ) {
        let paths = ["/a", "/bc", "/def"];
        let ticks: Vec<Tick> = ticks
            .into_iter()
            .zip(1..)
            .map(|((processes, cgroups, used), at)| {
                let processes = processes.into_iter().map(|(pid, start, rss)| process(pid, start, rss));
                tick(at, processes.collect(), &paths[..cgroups], used)
            })
            .collect();
        round_trip(&ticks, &[key]);
    }

    #[test]
    fn any_bytes_are_read_without_panic(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = Decoder::own();
        let _ = decoder.decode(&frame);
        let _ = decoder.decode(&[&[1, 0, 0, 0], &frame[..]].concat());
    }
}

#[test]
fn clocks_that_are_set_back_and_suspend() {
    let mut ticks = vec![
        tick(1, Vec::new(), &[], None),
        tick(2, Vec::new(), &[], None),
    ];
    ticks[1].clock.real_ns -= 7_200_000_000_000;
    ticks[1].clock.boot_ns += 60_000_000_000;
    round_trip(&ticks, &[]);
}

#[test]
fn who_is_born_is_told_once() {
    let mut first = tick(1, vec![process(7, 70, Some(1))], &[], None);
    first.identities = vec![Identity {
        pid: 7,
        start_ticks: Some(70),
        cmdline: vec![RawText::from("a"), RawText::new(*b"\xff")],
        unit: Some("x.service".to_owned()),
        container: Some(Container {
            runtime: "docker".to_owned(),
            id: "ab".to_owned(),
            pod: None,
        }),
        ..Identity::default()
    }];
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::own());
    let mut frame = BytesMut::new();
    encoder.encode(&first, false, &mut frame);
    let found = decoder.decode(&frame).unwrap().unwrap();
    assert_eq!(found.identities[0].cmdline, first.identities[0].cmdline);
    assert_eq!(found.identities[0].container, first.identities[0].container);
    frame.clear();
    let second = tick(2, vec![process(7, 70, Some(1))], &[], None);
    encoder.encode(&second, false, &mut frame);
    assert!(
        frame.len() < 30,
        "{} bytes for a tick without a change",
        frame.len()
    );
    assert!(
        decoder
            .decode(&frame)
            .unwrap()
            .unwrap()
            .identities
            .is_empty()
    );
}

#[test]
fn texts_are_not_remembered_without_end() {
    let mut encoder = Encoder::default();
    let mut decoder = Decoder::own();
    let mut frame = BytesMut::new();
    let born = |at: u64| {
        let pid = u32::try_from(at).unwrap();
        let mut born = tick(at, vec![process(pid, at, Some(1))], &[], None);
        born.identities = vec![Identity {
            pid,
            start_ticks: Some(at),
            cmdline: vec![RawText::from(format!("{at:05}").repeat(2000))],
            ..Identity::default()
        }];
        born
    };
    let mut keys = Vec::new();
    for at in 1..200 {
        let key = encoder.is_heavy();
        if key {
            keys.push(at);
        }
        let born = born(at);
        frame.clear();
        encoder.encode(&born, key, &mut frame);
        let found = decoder.decode(&frame).unwrap().unwrap();
        assert_eq!(found.identities[0].cmdline, born.identities[0].cmdline);
    }
    // 10 kB each: half a MiB is 53 of them.
    assert_eq!(keys, [54, 107, 160]);
}

#[test]
fn frames_behind_a_gap_wait_for_a_key() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::own());
    let mut frames = Vec::new();
    for at in 1..6 {
        let mut frame = BytesMut::new();
        encoder.encode(
            &tick(at, vec![process(1, 1, Some(at))], &[], None),
            at == 4,
            &mut frame,
        );
        frames.push(frame);
    }
    assert!(decoder.decode(&frames[0]).unwrap().is_some());
    decoder.lost();
    assert!(decoder.decode(&frames[2]).unwrap().is_none());
    assert!(decoder.decode(&frames[3]).unwrap().is_some());
    let last = decoder.decode(&frames[4]).unwrap().unwrap();
    assert_eq!(last.sample.processes[0].metrics.rss_kb, Some(5));
}
