//! Writes the history of a small host, for `cargo xtask interop`: `lake STORE HOSTNAME SEED`.
//!
//! Thirty hours of 40 processes every 30 s, over two days of UTC; the last hours stay in logs. The same
//! arguments make the same figures.

use std::path::Path;

use aiops::model::ClockPair;
use aiops::model::Host;
use aiops::model::Identity;
use aiops::model::ProcessMetrics;
use aiops::model::ProcessSample;
use aiops::model::RawText;
use aiops::model::Sample;
use aiops::model::SystemMetrics;
use aiops::store::Event;
use aiops::store::Recorder;
use aiops::store::Store;
use aiops::store::Tick;
use anyhow::Context as _;

/// 2026-11-18 20:00 UTC.
const BEGIN_S: u64 = 1_795_032_000;
const STEP_S: u64 = 30;
const TICKS: u64 = 30 * 3600 / STEP_S;
const PROCESSES: u32 = 40;

/// A number that looks like chance: xorshift of what it is asked for.
fn chance(seed: u64, of: u64) -> u64 {
    let mut x = (seed << 32 ^ of).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for shift in [13, 7, 17] {
        x ^= if shift == 7 { x >> shift } else { x << shift };
    }
    x >> 11
}

fn process(pid: u32, tick: u64, seed: u64) -> ProcessSample {
    let own = u64::from(pid);
    // A third of them changes every few samples, one leaks, some are not known to the kernel's accounts.
    let step = if pid.is_multiple_of(3) {
        tick / 3
    } else {
        tick / 200
    };
    let leak = if pid == 7 { tick * 64 } else { 0 };
    let rss_kb = 10_000 + chance(seed, own << 20 | step) % 500_000 + leak;
    ProcessSample {
        pid,
        start_ticks: 100 + own,
        comm: RawText::from(
            ["nginx", "postgres", "java, \"big\"", "worker", "日志"][pid as usize % 5],
        ),
        metrics: ProcessMetrics {
            rss_kb: (pid != 11).then_some(rss_kb),
            swap_kb: Some(chance(seed, own) % 1000),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    }
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, hostname, seed] = args.as_slice() else {
        anyhow::bail!("usage: lake STORE HOSTNAME SEED");
    };
    let seed: u64 = seed.parse().context("SEED")?;
    let folder = Path::new(folder);
    let store = Store::at(folder).with_tails(&folder.join("tails"));
    let host = Host {
        hostname: RawText::from(hostname.as_str()),
        boot_id: Some(format!("{seed:08x}-0000-4000-8000-000000000001")),
        ..Host::default()
    };
    let mut recorder = Recorder::open(store.clone(), host)?;
    for number in 0..TICKS {
        let mono_ns = (number + 1) * STEP_S * 1_000_000_000;
        let real_ms = i64::try_from((BEGIN_S + number * STEP_S) * 1000)?;
        let identity = |pid| Identity {
            pid,
            start_ticks: Some(100 + u64::from(pid)),
            user: Some("www-data".to_owned()),
            ..Identity::default()
        };
        let tick = Tick {
            clock: ClockPair {
                mono_ns,
                boot_ns: mono_ns,
                real_ns: real_ms * 1_000_000,
            },
            sample: Sample {
                system: Some(SystemMetrics {
                    mem_total_kb: Some(16 << 20),
                    mem_available_kb: Some(8_000_000 + chance(seed, number) % 1_000_000),
                    ..SystemMetrics::default()
                }),
                processes: (1..=PROCESSES)
                    .map(|pid| process(pid, number, seed))
                    .collect(),
                ..Sample::default()
            },
            identities: if number == 0 {
                (1..=PROCESSES).map(identity).collect()
            } else {
                Vec::new()
            },
        };
        recorder.push(&tick, false)?;
        if recorder.turned() && number < TICKS * 9 / 10 {
            store.compact()?;
        }
        if number % 1000 == 500 {
            recorder.event(&Event {
                ts_ms: real_ms,
                kind: "oom".to_owned(),
                id: format!("{seed}-{number}"),
                severity: "critical".to_owned(),
                title: "a process was killed".to_owned(),
                body: "{}".to_owned(),
                ..Event::default()
            })?;
        }
    }
    recorder.close()?;
    Ok(())
}
