//! Labelled series and hosts, made from mechanisms: what the accuracy of the detectors is measured on.
//! Equal seeds give equal data.

use super::outlier::Feature;
use super::outlier::Figures;
use super::random::Random;

const DAY_S: f64 = 86_400.0;

/// A place where memory grew, and stayed for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// Seconds since 1970: the middle of the rise.
    pub at_s: f64,
    /// KiB.
    pub size_kb: f64,
    /// How long the rise takes.
    pub rise_s: f64,
}

/// A series of a host's used memory.
#[derive(Clone, Debug)]
pub(super) struct LabSeries {
    /// What is special about it.
    pub family: &'static str,
    /// MemTotal.
    pub total_kb: f64,
    /// Seconds since 1970 and KiB.
    pub samples: Vec<(f64, f64)>,
    /// What is to be found.
    pub growth: Vec<Growth>,
}

impl Random {
    /// Standard normal (Box and Muller).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Student's t with 3 degrees of freedom, scaled to variance 1: heavy tails.
    pub(super) fn heavy(&mut self) -> f64 {
        let squares: f64 = (0..3).map(|_| self.normal().powi(2)).sum();
        self.normal() / squares.max(1e-9).sqrt()
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Median and standard deviation of the logarithm.
    pub(super) fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }
}

/// Shape of a day: 0 at night, 1 at its busiest.
struct Day {
    kind: usize,
    phase: f64,
    /// A job that runs at the same time every day: begin, length, height.
    job: Option<(f64, f64, f64)>,
    weekend: f64,
    weekly: bool,
}

impl Day {
    /// `known`: there are several of them. In a single day nobody could tell a job of every day from an event.
    fn new(random: &mut Random, known: bool) -> Self {
        Self {
            kind: random.below(if known { 4 } else { 3 }),
            phase: random.unit(),
            job: (random.chance(0.25) && known).then(|| {
                (
                    random.unit(),
                    random.between(0.03, 0.1),
                    random.between(0.3, 1.0),
                )
            }),
            weekend: random.between(0.3, 1.0),
            weekly: random.chance(0.5),
        }
    }

    fn at(&self, time_s: f64) -> f64 {
        let days = time_s / DAY_S;
        let x = (days + self.phase).fract();
        let wave = |turns: f64| (std::f64::consts::TAU * x * turns).cos();
        let shape = match self.kind {
            0 => 0.0,
            // All are 0 where a day begins: a weekend makes no jumps of its own.
            1 => 0.5 - 0.5 * wave(1.0),
            2 => 0.5 - 0.35 * wave(1.0) - 0.15 * wave(2.0),
            // Office hours, with ramps of about an hour.
            _ => 0.5 * (((x - 0.33) * 40.0).tanh() - ((x - 0.75) * 40.0).tanh()),
        };
        let job = self.job.map_or(0.0, |(begin, length, height)| {
            let since = (x - begin).rem_euclid(1.0);
            if since < length { height } else { 0.0 }
        });
        let weekend = self.weekly && (days + self.phase) % 7.0 >= 5.0;
        (shape + job) * if weekend { self.weekend } else { 1.0 }
    }
}

/// What no two days have alike: the second set has it, which was made when the detectors were ready.
struct Wild {
    /// How busy each day is.
    busy: Vec<f64>,
    /// How late the daily job is, as a share of a day.
    late: Vec<f64>,
    /// Collections of a garbage collector: seconds between two, and KiB that each gives back.
    collects: (f64, f64),
    /// Deploys: time, and for ten minutes half of the memory is gone.
    deploys: Vec<f64>,
}

impl Wild {
    fn new(random: &mut Random, days: f64, begin: f64, total_kb: f64) -> Self {
        let count = super::whole(days) + 3;
        Self {
            busy: (0..count).map(|_| random.lognormal(1.0, 0.15)).collect(),
            late: (0..count).map(|_| 0.004 * random.normal()).collect(),
            collects: (
                random.between(1200.0, 5400.0),
                total_kb * random.between(0.0, 0.03),
            ),
            deploys: (0..random.below(3))
                .map(|_| begin + random.unit() * days * DAY_S)
                .collect(),
        }
    }
}

/// A series: `days` long with a sample every `step_s`; `wild`: no two days are alike.
pub(super) fn series(seed: u64, days: f64, step_s: f64, wild: bool) -> LabSeries {
    let random = &mut Random::new(seed);
    let total_kb = random.between(4.0, 256.0) * 1024.0 * 1024.0;
    let begin = 1_709_251_200.0 + random.below(7) as f64 * DAY_S;
    let span = days * DAY_S;
    let day = Day::new(random, days >= 2.0);
    let amplitude = total_kb * random.between(0.0, 0.10);
    let base = total_kb * random.between(0.25, 0.55);
    let noise_sd = total_kb * random.lognormal(0.002, 0.7).clamp(0.0004, 0.008);
    let phi = [0.0, 0.5, 0.8, 0.9][random.below(4)];
    let heavy = random.chance(0.7);
    let leak = if random.chance(0.2) {
        total_kb * random.between(0.02, 0.10)
    } else {
        0.0
    };
    let walk = if random.chance(0.3) {
        noise_sd * 0.08
    } else {
        0.0
    };
    let spikes = if random.chance(0.5) {
        random.between(0.3, 2.0)
    } else {
        0.0
    };
    let gap = random.chance(0.3).then(|| {
        let length = random.between(0.5, 6.0) * 3600.0;
        (
            begin + random.between(0.2, 0.7) * span,
            length.min(span / 10.0),
        )
    });
    let missing = if random.chance(0.3) { 0.03 } else { 0.0 };

    let wild = wild.then(|| Wild::new(random, days, begin, total_kb));

    // What an expert would call a growth point: 2 % of the memory, well above the noise and what is collected.
    let mut growth: Vec<(Growth, f64)> = Vec::new();
    let window = (span / 10.0).min(3600.0);
    let count = if random.chance(0.25) {
        0
    } else {
        1 + random.below(3)
    };
    for _ in 0..count {
        let at_s = begin + random.between(0.08, 0.92) * span;
        let near = growth
            .iter()
            .any(|(other, _)| (other.at_s - at_s).abs() < 8.0 * window);
        let hidden = gap.is_some_and(|(from, length)| {
            (from - 2.0 * window..from + length + 2.0 * window).contains(&at_s)
        });
        if near || hidden {
            continue;
        }
        let collected = wild.as_ref().map_or(0.0, |wild| wild.collects.1);
        let least = (0.02 * total_kb).max(5.0 * noise_sd).max(1.5 * collected);
        let size_kb =
            (total_kb * random.lognormal(0.05, 0.6)).clamp(least, least.max(0.2 * total_kb));
        let rise_s = if random.chance(0.4) {
            random.between(0.0, 0.6) * window
        } else {
            0.0
        };
        // Half of them are given back, after one and a half to six windows.
        let lasts = if random.chance(0.5) {
            f64::INFINITY
        } else {
            random.between(1.5, 6.0) * window
        };
        growth.push((
            Growth {
                at_s,
                size_kb,
                rise_s,
            },
            lasts,
        ));
    }

    let (mut samples, mut noise, mut wander) = (Vec::new(), 0.0, 0.0);
    for at in 0..super::whole(span / step_s) {
        let time_s = begin + at as f64 * step_s;
        let innovation = if heavy {
            random.heavy()
        } else {
            random.normal()
        };
        noise = phi * noise + innovation * (1.0_f64 - phi * phi).sqrt();
        wander += walk * random.normal();
        let spike = if random.chance(spikes * step_s / DAY_S) {
            total_kb * random.between(0.02, 0.10)
        } else {
            0.0
        };
        let lost = random.chance(missing);
        if lost || gap.is_some_and(|(from, length)| (from..from + length).contains(&time_s)) {
            continue;
        }
        let grown: f64 = growth
            .iter()
            .map(|(one, lasts)| {
                let begin = one.at_s - one.rise_s / 2.0;
                let up = ((time_s - begin) / one.rise_s.max(1e-9)).clamp(0.0, 1.0);
                if time_s > one.at_s + lasts {
                    0.0
                } else {
                    one.size_kb * up
                }
            })
            .sum();
        let mut daily = day.at(time_s);
        let mut extra = 0.0;
        if let Some(wild) = &wild {
            let today = super::whole((time_s - begin) / DAY_S);
            // From one day to the next without a jump.
            let part = ((time_s - begin) / DAY_S).fract();
            let between = |each: &[f64]| each[today] + (each[today + 1] - each[today]) * part;
            daily = day.at(time_s - between(&wild.late) * DAY_S) * between(&wild.busy);
            let (every, kb) = wild.collects;
            extra = kb * (time_s / every).fract();
            if wild
                .deploys
                .iter()
                .any(|at| (0.0..600.0).contains(&(time_s - at)))
            {
                extra -= 0.5 * base;
            }
        }
        let course = base + amplitude * daily + leak * (time_s - begin) / span + wander + extra;
        let kb = course + grown + noise_sd * noise + spike;
        samples.push((time_s, kb.clamp(0.0, total_kb)));
    }
    LabSeries {
        family: match (day.kind, day.job.is_some(), leak > 0.0) {
            (_, _, true) => "leak",
            (_, true, _) => "daily job",
            (0, _, _) => "no season",
            (3, _, _) => "office hours",
            _ => "daily wave",
        },
        total_kb,
        samples,
        growth: growth.into_iter().map(|(one, _)| one).collect(),
    }
}

/// The processes of a host.
#[derive(Clone, Debug)]
pub(super) struct LabHost {
    /// MemTotal.
    pub total_kb: f64,
    /// Name and figures of each.
    pub processes: Vec<(String, Figures)>,
    /// Those that stand out, and a figure in which they do.
    pub outliers: Vec<(usize, Feature)>,
}

/// About 150 processes: small daemons, groups of workers, a data base or two; some swap, growth and faults.
#[must_use]
pub(super) fn host(seed: u64) -> LabHost {
    let random = &mut Random::new(seed);
    let mut processes: Vec<(String, Figures)> = Vec::new();
    let total_kb = random.between(32.0, 256.0) * 1024.0 * 1024.0;
    let swapping = random.chance(0.6);
    let busy = random.lognormal(0.3, 1.0);
    let usual = |random: &mut Random, rss: f64| -> Figures {
        let swapped = swapping && random.chance(0.4);
        let moves = random.chance(0.4);
        [
            rss,
            if swapped {
                rss * random.lognormal(0.15, 1.0).min(1.0)
            } else {
                0.0
            },
            if moves { 2048.0 * random.heavy() } else { 0.0 },
            if random.chance(0.3) {
                busy * random.lognormal(0.2, 1.0)
            } else {
                0.0
            },
        ]
    };
    for _ in 0..60 + random.below(50) {
        let rss = random.lognormal(9000.0, 0.9);
        let figures = usual(random, rss);
        processes.push((format!("daemon{}", processes.len()), figures));
    }
    for group in 0..1 + random.below(3) {
        let level = random.lognormal(60_000.0, 0.8);
        for _ in 0..8 + random.below(40) {
            let rss = random.lognormal(level, 0.12);
            let figures = usual(random, rss);
            processes.push((format!("worker{group}"), figures));
        }
    }
    // Large by nature: no outlier.
    for _ in 0..random.below(3) {
        let rss = random.lognormal(0.015 * total_kb, 0.4);
        let mut figures = usual(random, rss);
        // One with more in swap would stand out indeed.
        figures[1] = figures[1].min(0.1 * rss);
        processes.push(("database".to_owned(), figures));
    }
    let mut outliers: Vec<(usize, Feature)> = Vec::new();
    for _ in 0..random.below(4) {
        let at = random.below(processes.len());
        if outliers.iter().any(|(other, _)| *other == at) {
            continue;
        }
        let feature = match random.below(5) {
            0 => {
                // Many times its siblings: only a worker can be that.
                let Some(worker) = worker(random, &processes) else {
                    continue;
                };
                if outliers.iter().any(|(other, _)| *other == worker) {
                    continue;
                }
                processes[worker].1[0] *= random.between(3.0, 12.0);
                outliers.push((worker, Feature::Rss));
                continue;
            }
            1 => {
                // Far above everything that a host of this kind has.
                let figures = &mut processes[at].1;
                figures[0] = random.between(0.1, 0.5) * total_kb;
                Feature::Rss
            }
            2 => {
                let figures = &mut processes[at].1;
                figures[1] = random.lognormal(3e6, 0.6).max(1e6);
                Feature::Swap
            }
            3 => {
                let figures = &mut processes[at].1;
                figures[2] = random.lognormal(400_000.0, 0.7).max(100_000.0);
                figures[0] += figures[2];
                Feature::Growth
            }
            _ => {
                let figures = &mut processes[at].1;
                figures[3] = random.lognormal(400.0, 0.7).max(100.0) + 20.0 * busy;
                Feature::Faults
            }
        };
        outliers.push((at, feature));
    }
    LabHost {
        total_kb,
        processes,
        outliers,
    }
}

/// One of the workers.
fn worker(random: &mut Random, processes: &[(String, Figures)]) -> Option<usize> {
    let all: Vec<usize> = (0..processes.len())
        .filter(|&at| processes[at].0.starts_with("worker"))
        .collect();
    all.get(random.below(all.len())).copied()
}
