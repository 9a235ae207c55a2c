//! What a day of history costs: bytes and memory, for a host of 300 processes.

use super::super::super::tick::PROCESS_FIELDS;
use super::*;
use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::SystemMetrics;

/// A day of a made-up host: numbers that wander, without a clock or a seed from outside.
struct Host300 {
    state: u64,
    processes: Vec<ProcessSample>,
    next: u32,
    system: SystemMetrics,
    cgroups: Vec<CgroupSample>,
}

impl Host300 {
    fn new() -> Self {
        let mut host = Self {
            state: 7,
            processes: Vec::new(),
            next: 1,
            system: SystemMetrics::default(),
            cgroups: Vec::new(),
        };
        for _ in 0..300 {
            host.born();
        }
        for metric in SystemMetrics::METRICS {
            (metric.set)(&mut host.system, Some(host.state % 10_000_000));
            host.random(2);
        }
        for number in 0..40 {
            host.cgroups.push(CgroupSample {
                path: format!("/system.slice/service-{number}.service").into(),
                id: number,
                metrics: CgroupMetrics {
                    usage_kb: Some(number * 1000),
                    ..CgroupMetrics::default()
                },
                ..CgroupSample::default()
            });
        }
        host
    }

    fn random(&mut self, below: u64) -> u64 {
        let factor = 6_364_136_223_846_793_005;
        self.state = self
            .state
            .wrapping_mul(factor)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn born(&mut self) {
        let pid = self.next;
        self.next += 1;
        let rss = 1000 + self.random(200_000);
        self.processes.push(ProcessSample {
            pid,
            ppid: 1,
            start_ticks: u64::from(pid) * 100,
            comm: format!("worker-{}", pid % 40).as_str().into(),
            uid: Some(1000),
            oom_score_adj: Some(0),
            metrics: ProcessMetrics {
                rss_kb: Some(rss),
                anon_kb: Some(rss / 2),
                file_kb: Some(rss - rss / 2),
                shmem_kb: Some(0),
                swap_kb: Some(0),
                vm_size_kb: Some(rss * 4),
                pss_kb: Some(rss * 3 / 4),
                uss_kb: Some(rss / 2),
                threads: Some(4),
                minflt: Some(rss),
                majflt: Some(0),
                cpu_ticks: Some(1),
                pgtables_kb: Some(rss / 100),
                hugetlb_kb: Some(0),
                ..ProcessMetrics::default()
            },
            ..ProcessSample::default()
        });
    }

    /// Moves on: of a hundred samples, 18 differ from the one before; one tick in two makes a new process.
    fn tick(&mut self, second: u64) -> Tick {
        let before = self.processes.len();
        if self.random(100) < 86 {
            let at = usize::try_from(250 + self.random(50)).unwrap();
            self.processes.remove(at);
            self.born();
        }
        assert_eq!(before, self.processes.len());
        for at in 0..self.processes.len() {
            if self.random(1000) >= 177 {
                continue;
            }
            let step = self.random(64) * 4;
            let ticks = self.random(20);
            let up = self.random(2) == 0;
            let metrics = &mut self.processes[at].metrics;
            let wander = |value: &mut Option<u64>, step: u64| {
                *value = value.map(|value| match up {
                    true => value + step,
                    false => value.saturating_sub(step),
                });
            };
            wander(&mut metrics.rss_kb, step);
            wander(&mut metrics.anon_kb, step);
            if second.is_multiple_of(60) {
                wander(&mut metrics.pss_kb, step);
                wander(&mut metrics.uss_kb, step);
            }
            metrics.minflt = metrics.minflt.map(|value| value + step / 4);
            metrics.cpu_ticks = metrics.cpu_ticks.map(|value| value + ticks);
        }
        for metric in SystemMetrics::METRICS.iter().step_by(2) {
            let step = self.random(1000);
            let value = (metric.get)(&self.system).map(|value| value + step);
            (metric.set)(&mut self.system, value);
        }
        for at in 0..self.cgroups.len() {
            let step = self.random(300);
            let usage = &mut self.cgroups[at].metrics.usage_kb;
            *usage = usage.map(|value| (value + step).saturating_sub(150));
        }
        let born = self
            .processes
            .iter()
            .filter(|_| second == 10 || before == 0);
        let identities = born.map(|one| Identity {
            pid: one.pid,
            start_ticks: Some(one.start_ticks),
            user: Some("app".to_owned()),
            cgroup: Some(format!("/system.slice/service-{}.service", one.pid % 40).into()),
            cmdline: vec!["/usr/bin/worker".into(), format!("--id={}", one.pid).into()],
            ..Identity::default()
        });
        let identities = identities.collect();
        Tick {
            clock: tick(second).clock,
            sample: Sample {
                system: Some(self.system.clone()),
                processes: self.processes.clone(),
                cgroups: self.cgroups.clone(),
                ..Sample::default()
            },
            identities,
        }
    }
}

/// A line of /proc/self/status in KiB.
fn own_kb(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Names the store that a child compacts, and until when.
const CHILD: &str = "AIOPS_FIGURES_STORE";

/// Compacts in a process of its own, as `aiops store compact` does; says what memory that one had at most.
fn compact_in_child(folder: &Folder, now_ms: i64) -> u64 {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("store::history::tests::figures::one_compaction")
        .env(CHILD, format!("{now_ms} {}", folder.0.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("most KiB: "));
    line.expect("the child's figure").parse().unwrap()
}

#[test]
#[ignore = "the child of figures_of_a_day"]
fn one_compaction() {
    let Ok(wanted) = std::env::var(CHILD) else {
        return;
    };
    let (now_ms, path) = wanted.split_once(' ').unwrap();
    let path = Path::new(path);
    let store = Store::at(&path.join("store")).with_tails(&path.join("tails"));
    store.compact_at(now_ms.parse().unwrap()).unwrap();
    println!("most KiB: {}", own_kb("VmHWM"));
}

/// What a day of 300 processes costs. Run it to see the figures: `cargo test --lib figures -- --ignored --nocapture`.
#[test]
#[ignore = "minutes of work, for its figures"]
fn figures_of_a_day() {
    let folder = Folder::new("store-figures");
    let store = store(&folder);
    let mut recorder = recorder(&folder);
    let mut host = Host300::new();
    let (mut samples, mut wal, mut hour_kb) = (0, 0, 0);
    for second in (10..DAY_S).step_by(10) {
        let tick = host.tick(second);
        samples += tick.sample.processes.len() as u64;
        recorder.push(&tick, false).unwrap();
        if recorder.turned() {
            let bytes = fs::read_dir(store.wals())
                .unwrap()
                .map(|one| one.unwrap().metadata().unwrap().len());
            // The one that was begun has its first step of zeros.
            wal += bytes.sum::<u64>() - (256 << 10);
            hour_kb = hour_kb.max(compact_in_child(&folder, 0));
        }
    }
    recorder.close().unwrap();
    store.compact_at(0).unwrap();
    let hours: u64 = store.segments().unwrap().iter().map(Segment::bytes).sum();
    let before = everything(&folder);
    let began = std::time::Instant::now();
    let day_kb = compact_in_child(&folder, DAY_MS);
    let took = began.elapsed();
    let day = store.segments().unwrap();
    assert_eq!(day.len(), 1);
    assert_eq!(everything(&folder), before);
    let size = |name: &str| {
        let path = day[0].path.join(format!("{name}.parquet"));
        (
            fs::metadata(path).unwrap().len(),
            day[0].table(name).unwrap().rows(),
        )
    };
    println!(
        "{samples} samples of {} fields; logs {wal} B",
        PROCESS_FIELDS.len()
    );
    println!("24 hours {hours} B; a day {} B", day[0].bytes());
    println!(
        "a sample: log {:.2} B, hours {:.2} B, day {:.2} B",
        wal as f64 / samples as f64,
        hours as f64 / samples as f64,
        day[0].bytes() as f64 / samples as f64
    );
    for name in ["process", "rollup", "cgroup", "event", "system"] {
        let (bytes, rows) = size(name);
        println!("{name}: {bytes} B, {rows} rows");
    }
    println!("at most: an hour's compaction {hour_kb} KiB, a day's {day_kb} KiB in {took:?}");
}
