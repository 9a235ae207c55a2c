//! Writes a store as a busy host would have filled it, under a clock that does not wait.
//!
//! ```text
//! month --out DIR [--days 30] [--processes 300] [--interval 10] [--seed 1] [--end RFC3339|now]
//! ```
//!
//! Long-lived processes of three kinds (idle, steady, busy with the time of day; a few leak), short-lived tasks,
//! restarts, two episodes of swap pressure a day, PSS once a minute, cgroups, containers, users, the host's own
//! figures, some OOM kills and findings. The same options give the same figures. Everything goes through the
//! daemon's own writer and `compact`; what it costs on disk is printed at the end.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of its own, for people and for benchmarks"
)]

mod host;
mod options;
mod random;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use aiops::model::CgroupSample;
use aiops::model::ClockPair;
use aiops::model::Container;
use aiops::model::Identity;
use aiops::model::ProcessSample;
use aiops::model::RawText;
use aiops::model::SystemMetrics;
use aiops::report::oom::Incident;
use aiops::report::oom::Kill;
use aiops::store::Event;
use aiops::store::Recorder;
use aiops::store::Store;
use aiops::store::Tick;
use host::host;
use options::Options;
use random::Random;

const DAY_S: u64 = 86_400;
/// The host's memory, KiB.
const MEMORY_KB: u64 = 64 << 20;
const SWAP_KB: u64 = 16 << 20;
const CGROUPS: usize = 40;
/// Cgroups with these numbers are containers; those behind them belong to users.
const CONTAINERS: std::ops::Range<usize> = 24..34;
/// Busy processes live in the first cgroups and in the containers.
const BUSY_CGROUPS: [usize; 10] = [0, 1, 2, 3, 4, 24, 25, 26, 27, 28];
/// Short-lived tasks a day; with one restart of every long-lived process, 7.4 k new processes for 300.
const TASKS: f64 = 7_100.0;
/// Mean life of a task, s.
const TASK_LIFE_S: f64 = 35.0;
/// Days between two OOM kills.
const KILL_EVERY_DAYS: f64 = 5.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Idle,
    Steady,
    Busy,
    Leak,
    Task,
}

impl Kind {
    /// How likely its figures change between two samples, at a load from 0 to 1.
    fn changes(self, load: f64) -> f64 {
        match self {
            Self::Idle => 0.006,
            Self::Steady => 0.05 + 0.1 * load,
            Self::Busy => 0.5 + 0.5 * load,
            Self::Leak => 0.4,
            Self::Task => 0.9,
        }
    }
}

/// What a process does, beside its figures.
#[derive(Clone, Debug)]
struct Life {
    kind: Kind,
    /// Which long-lived process it is; a task has none.
    place: Option<usize>,
    cgroup: usize,
    /// Anonymous memory that it tends to, KiB.
    base_kb: u64,
    /// Second at which it ends.
    ends_s: u64,
}

/// Counters of the whole host since boot, beyond what the processes have.
#[derive(Clone, Debug, Default)]
struct Counts {
    forks: u64,
    pgfault: u64,
    pgmajfault: u64,
    pswpin: u64,
    pswpout: u64,
    pgscan: u64,
    cpu_user: u64,
    cpu_idle: u64,
    disk_read_kb: u64,
    disk_written_kb: u64,
    net_rx: u64,
    net_tx: u64,
    psi_some_us: u64,
    psi_full_us: u64,
    oom_kill: u64,
}

struct World {
    random: Random,
    lives: Vec<Life>,
    counts: Counts,
    tick: Tick,
    next_pid: u32,
    next_task_s: f64,
    next_kill_s: f64,
    /// Seconds of swap pressure: begin and end.
    pressure: Vec<(u64, u64)>,
    /// Samples, and those that differ from the one before.
    samples: u64,
    changed: u64,
    born: u64,
}

fn cgroup_path(index: usize) -> String {
    if CONTAINERS.contains(&index) {
        format!("/system.slice/docker-{}.scope", container_id(index))
    } else if index < CONTAINERS.start {
        format!("/system.slice/app-{index:02}.service")
    } else {
        format!("/user.slice/user-{}.slice", 1000 + index)
    }
}

fn container_id(index: usize) -> String {
    let mut random = Random(index as u64);
    (0..4).map(|_| format!("{:016x}", random.next())).collect()
}

/// Share of the day's most, by the second of the day (UTC): least at 4, most at 16 o'clock.
fn load(second: u64) -> f64 {
    let hour = (second % DAY_S) as f64 / 3600.0;
    0.5 + 0.45 * ((hour - 10.0) / 24.0 * std::f64::consts::TAU).sin()
}

/// A share of a size, in whole pages. Sizes are far below 2^52.
fn part(kb: u64, share: f64) -> u64 {
    let pages = kb as f64 * share.max(0.0) / 4.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and small"
    )]
    let pages = pages as u64;
    pages * 4
}

fn count(value: f64) -> u64 {
    part(4, value) / 4
}

impl World {
    fn new(options: &Options) -> Self {
        let mut world = Self {
            random: Random(options.seed),
            lives: Vec::new(),
            counts: Counts::default(),
            tick: Tick::default(),
            next_pid: 400,
            next_task_s: 0.0,
            next_kill_s: 0.0,
            pressure: Vec::new(),
            samples: 0,
            changed: 0,
            born: 0,
        };
        world.tick.sample.all_processes = true;
        world.next_kill_s = world.random.wait(KILL_EVERY_DAYS * DAY_S as f64);
        for day in 0..options.days {
            for half in 0..2 {
                let begin = day * DAY_S + half * DAY_S / 2 + world.random.below(DAY_S / 3);
                let end = begin + 1200 + world.random.below(1200);
                world.pressure.push((begin, end));
            }
        }
        for place in 0..options.processes {
            world.long_lived(0, place);
        }
        for index in 0..CGROUPS {
            let mut cgroup = CgroupSample {
                path: RawText::from(cgroup_path(index).as_str()),
                id: 1000 + index as u64,
                ..CgroupSample::default()
            };
            cgroup.metrics.limit_kb = CONTAINERS.contains(&index).then_some(8 << 20);
            cgroup.metrics.oom_kill = Some(0);
            cgroup.metrics.failcnt = Some(0);
            cgroup.metrics.pgmajfault = Some(0);
            world.tick.sample.cgroups.push(cgroup);
        }
        world
    }

    /// Starts the long-lived process of a place, the first time or again.
    fn long_lived(&mut self, second: u64, place: usize) {
        let kind = match place % 20 {
            0..=2 => Kind::Busy,
            3..=6 => Kind::Steady,
            7 if place < 60 => Kind::Leak,
            _ => Kind::Idle,
        };
        let cgroup = match kind {
            Kind::Busy => BUSY_CGROUPS[place / 20 % BUSY_CGROUPS.len()],
            _ => place % CGROUPS,
        };
        let mut size = Random(place as u64 + 7);
        let most = if kind == Kind::Busy { 600_000 } else { 120_000 };
        let life = Life {
            kind,
            place: Some(place),
            cgroup,
            base_kb: 4000 + size.below(most) / 4 * 4,
            ends_s: second + count(self.random.wait(DAY_S as f64)) + 60,
        };
        self.born(second, life, &format!("app{place:03}"));
    }

    fn born(&mut self, second: u64, life: Life, comm: &str) {
        let pid = self.next_pid;
        self.next_pid += 1 + u32::try_from(self.random.below(3)).unwrap_or(0);
        self.born += 1;
        self.counts.forks += 1;
        let start_ticks = (DAY_S + second) * 100 + self.random.below(100);
        let uid = u32::try_from(1000 + life.cgroup).unwrap_or(0);
        let container = CONTAINERS.contains(&life.cgroup).then(|| Container {
            runtime: "docker".to_owned(),
            id: container_id(life.cgroup),
            pod: None,
        });
        let path = cgroup_path(life.cgroup);
        let unit = path.rsplit('/').next().map(str::to_owned);
        self.tick.identities.push(Identity {
            ts_ns: 0,
            pid,
            start_ticks: Some(start_ticks),
            ppid: Some(1),
            comm: RawText::from(comm),
            cmdline: vec![
                RawText::from(format!("/usr/bin/{comm}").as_str()),
                RawText::from("--serve"),
            ],
            exe: Some(RawText::from(format!("/usr/bin/{comm}").as_str())),
            uid: Some(uid),
            user: Some(format!("user{}", life.cgroup % 12)),
            unit,
            cgroup: Some(RawText::from(path.as_str())),
            container,
            mappings: Vec::new(),
        });
        let mut process = ProcessSample {
            pid,
            start_ticks,
            ppid: 1,
            comm: RawText::from(comm),
            state: Some('S'),
            uid: Some(uid),
            oom_score_adj: Some(0),
            ..ProcessSample::default()
        };
        let anon = life.base_kb;
        let file = 2000 + life.base_kb % 30_000;
        let figures = &mut process.metrics;
        figures.anon_kb = Some(anon);
        figures.file_kb = Some(file);
        figures.shmem_kb = Some(life.base_kb % 64 * 4);
        figures.swap_kb = Some(0);
        figures.vm_size_kb = Some(anon * 3 + file * 4);
        figures.threads = Some(1 + life.base_kb % 16);
        figures.minflt = Some(anon / 4);
        figures.majflt = Some(file / 400);
        figures.cpu_ticks = Some(5);
        figures.pgtables_kb = Some(40 + (anon + file) / 512 * 4);
        figures.hugetlb_kb = Some(0);
        sum_up(&mut process);
        shares(&mut process);
        self.tick.sample.processes.push(process);
        self.lives.push(life);
    }

    fn end(&mut self, at: usize) -> Life {
        self.tick.sample.processes.remove(at);
        self.tick.identities.remove(at);
        self.lives.remove(at)
    }

    fn under_pressure(&self, second: u64) -> bool {
        let inside = |(begin, end): &(u64, u64)| (*begin..*end).contains(&second);
        self.pressure.iter().any(inside)
    }

    /// Goes on to a second; returns what happened there.
    fn step(&mut self, second: u64, interval_s: u64, day_second: u64, ts_ms: i64) -> Vec<Event> {
        let mut events = Vec::new();
        let load = load(day_second);
        let pressed = self.under_pressure(second);
        if pressed && !self.under_pressure(second.saturating_sub(interval_s)) {
            events.push(finding(ts_ms));
        }
        // Those that end; long-lived ones start again at once, under another pid.
        let mut at = 0;
        while at < self.lives.len() {
            if self.lives[at].ends_s > second {
                at += 1;
                continue;
            }
            if let Some(place) = self.end(at).place {
                self.long_lived(second, place);
            }
        }
        while self.next_task_s <= second as f64 {
            self.next_task_s += self.random.wait(DAY_S as f64 / TASKS);
            let life = Life {
                kind: Kind::Task,
                place: None,
                cgroup: count(self.random.unit() * CGROUPS as f64) as usize % CGROUPS,
                base_kb: 500 + self.random.below(40_000) / 4 * 4,
                ends_s: second + 1 + count(self.random.wait(TASK_LIFE_S)),
            };
            let comm = format!("task{:02}", self.random.below(60));
            self.born(second, life, &comm);
        }
        if self.next_kill_s <= second as f64 {
            self.next_kill_s += self.random.wait(KILL_EVERY_DAYS * DAY_S as f64);
            events.extend(self.kill(second, ts_ms));
        }
        let minute = second / interval_s % (60 / interval_s).max(1);
        for at in 0..self.lives.len() {
            self.samples += 1;
            let mut changed = self.random.chance(self.lives[at].kind.changes(load));
            if changed {
                self.work(at, load);
            }
            changed |= self.swap(at, pressed);
            let process = &mut self.tick.sample.processes[at];
            if changed {
                sum_up(process);
            }
            // PSS is read in turn: once a minute each.
            if u64::from(process.pid) % (60 / interval_s).max(1) == minute {
                let before = process.metrics.pss_kb;
                shares(process);
                changed |= before != process.metrics.pss_kb;
            }
            self.changed += u64::from(changed);
        }
        self.host(load, pressed, interval_s);
        self.cgroups();
        events
    }

    /// What a process does when it does something.
    fn work(&mut self, at: usize, load: f64) {
        let life = &self.lives[at];
        let figures = &mut self.tick.sample.processes[at].metrics;
        let anon = figures.anon_kb.unwrap_or(0);
        let faults = 1 + self.random.below(200);
        let cpu = 1 + self
            .random
            .below(if life.kind == Kind::Busy { 300 } else { 8 });
        figures.minflt = figures.minflt.map(|count| count + faults);
        figures.cpu_ticks = figures.cpu_ticks.map(|count| count + cpu);
        self.counts.pgfault += faults;
        self.counts.cpu_user += cpu;
        if life.kind == Kind::Leak {
            figures.anon_kb = Some(anon + 4 * self.random.below(40));
            return;
        }
        if self.random.chance(0.4) {
            return;
        }
        let target = part(life.base_kb, 0.75 + 0.5 * load);
        let noise = 4 * self.random.below(64);
        let next = (anon * 15 + target) / 16 / 4 * 4 + noise;
        figures.anon_kb = Some(next.saturating_sub(128).max(400));
    }

    /// Under pressure memory goes out, later it comes back with major faults.
    fn swap(&mut self, at: usize, pressed: bool) -> bool {
        let busy = matches!(self.lives[at].kind, Kind::Busy | Kind::Task);
        let figures = &mut self.tick.sample.processes[at].metrics;
        let (anon, swap) = (figures.anon_kb.unwrap_or(0), figures.swap_kb.unwrap_or(0));
        if pressed && !busy && anon > 2000 && self.random.chance(0.05) {
            let out = part(anon, 0.04) + 4;
            figures.anon_kb = Some(anon - out);
            figures.swap_kb = Some(swap + out);
            self.counts.pswpout += out / 4;
            self.counts.pgscan += out;
            return true;
        }
        if !pressed && swap > 0 && self.random.chance(0.004) {
            let back = (part(swap, 0.2) + 4).min(swap);
            figures.anon_kb = Some(anon + back);
            figures.swap_kb = Some(swap - back);
            figures.majflt = figures.majflt.map(|count| count + back / 32 + 1);
            self.counts.pswpin += back / 4;
            self.counts.pgmajfault += back / 32 + 1;
            return true;
        }
        false
    }

    /// The OOM killer takes the largest process of a container.
    fn kill(&mut self, second: u64, ts_ms: i64) -> Option<Event> {
        let rss = |at: &usize| self.tick.sample.processes[*at].metrics.rss_kb;
        let inside = |at: &usize| CONTAINERS.contains(&self.lives[*at].cgroup);
        let at = (0..self.lives.len()).filter(inside).max_by_key(rss)?;
        let victim = self.tick.sample.processes[at].clone();
        let life = self.end(at);
        if let Some(place) = life.place {
            self.long_lived(second, place);
        }
        self.counts.oom_kill += 1;
        let figures = &mut self.tick.sample.cgroups[life.cgroup].metrics;
        figures.oom_kill = figures.oom_kill.map(|count| count + 1);
        figures.failcnt = figures.failcnt.map(|count| count + 120);
        let path = cgroup_path(life.cgroup);
        let comm = victim.comm.lossy().into_owned();
        let id = format!("5eed0001-{}-{}", (DAY_S + second) * 1000, victim.pid);
        let incident = Incident {
            id: id.clone(),
            killer: "kernel",
            constraint: Some("memcg".to_owned()),
            scope: Some("memcg".to_owned()),
            oom_memcg: Some(path.clone()),
            task_memcg: Some(path.clone()),
            memcg_limit_kb: Some(8 << 20),
            mem_total_kb: Some(MEMORY_KB),
            kills: vec![Kill {
                pid: victim.pid,
                comm: comm.clone(),
                uid: victim.uid,
                anon_rss_kb: victim.metrics.anon_kb,
                file_rss_kb: victim.metrics.file_kb,
                shmem_rss_kb: victim.metrics.shmem_kb,
                swap_kb: victim.metrics.swap_kb,
                cgroup: Some(path.clone()),
                ..Kill::default()
            }],
            outcome: "killed",
            ..Incident::default()
        };
        Some(Event {
            ts_ms,
            kind: "oom".to_owned(),
            id,
            severity: "critical".to_owned(),
            title: format!(
                "{comm} (pid {}) was killed: the limit of {path}",
                victim.pid
            ),
            pid: Some(victim.pid),
            cgroup: Some(path),
            body: serde_json::to_string(&incident).ok()?,
        })
    }

    fn host(&mut self, load: f64, pressed: bool, interval_s: u64) {
        let processes = &self.tick.sample.processes;
        let sum = |get: &dyn Fn(&ProcessSample) -> Option<u64>| -> u64 {
            processes.iter().filter_map(get).sum()
        };
        let anon = sum(&|one| one.metrics.anon_kb);
        let swapped = sum(&|one| one.metrics.swap_kb);
        let tables = sum(&|one| one.metrics.pgtables_kb);
        let random = &mut self.random;
        let counts = &mut self.counts;
        let slab = 900_000 + part(400_000, load) + 4 * random.below(50);
        let cached = if pressed {
            4 << 20
        } else {
            part(24 << 20, 0.6 + 0.4 * load)
        } + 4 * random.below(900);
        let dirty = part(60_000, load) + 4 * random.below(500);
        let used = anon + slab + tables + cached;
        let free = MEMORY_KB.saturating_sub(used).min(MEMORY_KB / 3) + 4 * random.below(300);
        counts.disk_read_kb += random.below(200) * if pressed { 400 } else { 4 };
        counts.disk_written_kb += random.below(4000);
        counts.net_rx += count(load * 2e6) + random.below(90_000);
        counts.net_tx += count(load * 3e6) + random.below(90_000);
        let cpus = 16 * 100 * interval_s;
        counts.cpu_idle += cpus - count(cpus as f64 * 0.6 * load);
        let stalled = if pressed {
            random.below(300_000 * interval_s)
        } else {
            0
        };
        counts.psi_some_us += stalled;
        counts.psi_full_us += stalled / 3;
        let share = stalled / (100 * interval_s);
        self.tick.sample.system = Some(SystemMetrics {
            mem_total_kb: Some(MEMORY_KB),
            mem_free_kb: Some(free),
            mem_available_kb: Some(free + cached * 3 / 4),
            buffers_kb: Some(180_000),
            cached_kb: Some(cached),
            swap_cached_kb: Some(swapped / 20),
            active_anon_kb: Some(anon / 4 * 3),
            inactive_anon_kb: Some(anon - anon / 4 * 3),
            active_file_kb: Some(cached / 2),
            inactive_file_kb: Some(cached / 2),
            swap_total_kb: Some(SWAP_KB),
            swap_free_kb: Some(SWAP_KB.saturating_sub(swapped)),
            dirty_kb: Some(dirty),
            writeback_kb: Some(if pressed { dirty / 10 } else { 0 }),
            anon_pages_kb: Some(anon),
            mapped_kb: Some(800_000),
            shmem_kb: Some(400_000),
            slab_kb: Some(slab),
            sreclaimable_kb: Some(slab / 5 * 3),
            sunreclaim_kb: Some(slab - slab / 5 * 3),
            kernel_stack_kb: Some(16 * processes.len() as u64),
            page_tables_kb: Some(tables),
            commit_limit_kb: Some(SWAP_KB + MEMORY_KB / 2),
            committed_as_kb: Some(anon * 2 + 4 * random.below(1000)),
            huge_pages_total: Some(0),
            huge_page_size_kb: Some(2048),
            oom_kill: Some(counts.oom_kill),
            pswpin: Some(counts.pswpin),
            pswpout: Some(counts.pswpout),
            pgpgin_kb: Some(counts.disk_read_kb),
            pgpgout_kb: Some(counts.disk_written_kb),
            pgfault: Some(counts.pgfault),
            pgmajfault: Some(counts.pgmajfault),
            pgscan_kswapd: Some(counts.pgscan),
            pgsteal_kswapd: Some(counts.pgscan * 4 / 5),
            pgscan_direct: Some(counts.pgscan / 10),
            pgsteal_direct: Some(counts.pgscan / 12),
            psi_some_avg10: Some(share),
            psi_full_avg10: Some(share / 3),
            psi_some_total_us: Some(counts.psi_some_us),
            psi_full_total_us: Some(counts.psi_full_us),
            load1: Some(count(1200.0 * load) + random.below(90)),
            cpu_user_ticks: Some(counts.cpu_user),
            cpu_system_ticks: Some(counts.cpu_user / 4),
            cpu_idle_ticks: Some(counts.cpu_idle),
            forks: Some(counts.forks),
            procs_running: Some(1 + random.below(6)),
            procs_blocked: Some(if pressed { random.below(9) } else { 0 }),
            disk_read_kb: Some(counts.disk_read_kb),
            disk_written_kb: Some(counts.disk_written_kb),
            net_rx_bytes: Some(counts.net_rx),
            net_tx_bytes: Some(counts.net_tx),
            ..SystemMetrics::default()
        });
    }

    fn cgroups(&mut self) {
        let mut sums = [(0, 0, 0, 0); CGROUPS];
        for (life, process) in self.lives.iter().zip(&self.tick.sample.processes) {
            let figures = &process.metrics;
            let sum = &mut sums[life.cgroup];
            sum.0 += figures.anon_kb.unwrap_or(0);
            sum.1 += figures.file_kb.unwrap_or(0);
            sum.2 += figures.shmem_kb.unwrap_or(0);
            sum.3 += figures.swap_kb.unwrap_or(0);
        }
        for (cgroup, (anon, file, shmem, swap)) in self.tick.sample.cgroups.iter_mut().zip(sums) {
            let figures = &mut cgroup.metrics;
            let usage = anon + file + shmem + 9000;
            figures.usage_kb = Some(usage);
            figures.peak_kb = Some(usage.max(figures.peak_kb.unwrap_or(0)));
            figures.swap_kb = Some(swap);
            figures.anon_kb = Some(anon);
            figures.file_kb = Some(file);
            figures.shmem_kb = Some(shmem);
            figures.kernel_kb = Some(9000);
            figures.active_file_kb = Some(file / 3);
            figures.inactive_file_kb = Some(file - file / 3);
        }
    }
}

fn sum_up(process: &mut ProcessSample) {
    let figures = &mut process.metrics;
    let parts = [figures.anon_kb, figures.file_kb, figures.shmem_kb];
    figures.rss_kb = Some(parts.into_iter().flatten().sum());
}

/// What smaps_rollup would say.
fn shares(process: &mut ProcessSample) {
    let figures = &mut process.metrics;
    let anon = figures.anon_kb.unwrap_or(0);
    figures.pss_kb = Some(anon + figures.file_kb.unwrap_or(0) / 3);
    figures.uss_kb = Some(anon / 16 * 15);
}

fn finding(ts_ms: i64) -> Event {
    Event {
        ts_ms,
        kind: "finding".to_owned(),
        id: "swap-thrashing".to_owned(),
        severity: "warning".to_owned(),
        title: "pages go to swap and come back".to_owned(),
        body: "{\"id\":\"swap-thrashing\",\"severity\":\"warning\"}".to_owned(),
        ..Event::default()
    }
}

fn write(options: &Options) -> anyhow::Result<World> {
    let store = Store::at(&options.out);
    let mut recorder = Recorder::open(store.clone(), host())?;
    let mut world = World::new(options);
    let ticks = options.days * DAY_S / options.interval_s;
    let step_ms = i64::try_from(options.interval_s)? * 1000;
    let end_ms = options.end_ms.div_euclid(step_ms) * step_ms;
    let begin_ms = end_ms - step_ms * i64::try_from(ticks)?;
    for index in 0..ticks {
        let second = index * options.interval_s;
        let ts_ms = begin_ms + step_ms * i64::try_from(index)?;
        let since_boot = (DAY_S + second) * 1_000_000_000;
        world.tick.clock = ClockPair {
            mono_ns: since_boot,
            boot_ns: since_boot,
            real_ns: ts_ms * 1_000_000,
        };
        world.tick.sample.ts_ns = since_boot;
        let day_second = u64::try_from(ts_ms.div_euclid(1000))? % DAY_S;
        let events = world.step(second, options.interval_s, day_second, ts_ms);
        recorder.push(&world.tick, false)?;
        if recorder.turned() {
            store.compact()?;
        }
        for event in &events {
            recorder.event(event)?;
        }
    }
    recorder.close()?;
    store.compact()?;
    Ok(world)
}

/// Bytes of the files below a folder, by their names without the end.
fn bytes(folder: &Path, sums: &mut BTreeMap<String, u64>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            bytes(&entry.path(), sums)?;
        } else {
            let path = entry.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            *sums.entry(name.into_owned()).or_default() += entry.metadata()?.len();
        }
    }
    Ok(())
}

fn run() -> anyhow::Result<()> {
    let options = Options::parse()?;
    let began = std::time::Instant::now();
    let world = write(&options)?;
    let (samples, days) = (world.samples as f64, options.days as f64);
    println!("process-samples {}", world.samples);
    println!("changed {:.1} %", world.changed as f64 / samples * 100.0);
    println!("new processes a day {:.0}", world.born as f64 / days);
    let mut sums = BTreeMap::new();
    bytes(&options.out, &mut sums)?;
    sums.insert("everything".to_owned(), sums.values().sum());
    for (name, bytes) in sums.iter().filter(|(_, bytes)| **bytes > 10_000) {
        let bytes = *bytes as f64;
        let (each, day) = (bytes / samples, bytes / days / 1e6);
        println!("{name}: {bytes} B, {each:.2} B/process-sample, {day:.2} MB/day");
    }
    println!("took {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
