//! What memory is used for: each part of a process says how many bytes it holds after each step of time.

use std::collections::BTreeMap;
use std::collections::HashMap;

use super::random::Random;
use super::random::whole;

pub(super) const HOUR: f64 = 3600.0;
pub(super) const DAY: f64 = 86_400.0;
pub(super) const MIB: f64 = 1_048_576.0;

/// One step of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Env {
    /// End of the step, seconds; 0 is the first sample, and a process may begin before.
    pub(super) t: f64,
    /// Length of the step.
    pub(super) dt: f64,
    /// Requests that came in the step, as counted in units that the parts agree on.
    pub(super) requests: f64,
    /// Expected requests in a second over the usual ones.
    pub(super) load: f64,
}

/// A user of memory.
pub(super) trait Part {
    /// Bytes held after this step.
    fn step(&mut self, env: &Env, random: &mut Random) -> f64;
    /// The process starts anew. What is persisted stays.
    fn restart(&mut self) {}
}

/// Load over time, 1 on average.
#[derive(Clone, Debug)]
pub(super) enum Traffic {
    Steady,
    /// Amplitude, phase, share that is missing at weekends.
    Daily(f64, f64, f64),
    /// Between two levels, after times that are exponential: low, high, mean seconds in each.
    Bursty(f64, f64, f64, f64),
    /// Another level from this time on, reached within the seconds: time, factor, seconds.
    Shift(f64, f64, f64),
    /// Sines: amplitude, cycles for each second, phase.
    Wander(Vec<(f64, f64, f64)>),
}

/// Traffic with its state.
#[derive(Clone, Debug)]
pub(super) struct Source {
    kind: Traffic,
    high: bool,
    until: f64,
}

impl Source {
    pub(super) fn new(kind: Traffic) -> Self {
        Self {
            kind,
            high: false,
            until: f64::MIN,
        }
    }

    pub(super) fn at(&mut self, t: f64, random: &mut Random) -> f64 {
        match &self.kind {
            Traffic::Steady => 1.0,
            Traffic::Daily(amplitude, phase, weekend) => {
                let turn = std::f64::consts::TAU * t / DAY + phase;
                let day = 1.0 + amplitude * (0.85 * turn.sin() + 0.15 * (2.0 * turn + 1.0).sin());
                let weekday = (t / DAY + phase).floor().rem_euclid(7.0);
                day * if weekday >= 5.0 { 1.0 - weekend } else { 1.0 }
            }
            Traffic::Bursty(low, high, in_low, in_high) => {
                let (low, high, in_low, in_high) = (*low, *high, *in_low, *in_high);
                if self.until == f64::MIN {
                    self.until = t;
                }
                while t >= self.until {
                    self.high = !self.high;
                    let mean = if self.high { in_high } else { in_low };
                    self.until += random.exponential(mean).max(0.2 * mean);
                }
                if self.high { high } else { low }
            }
            Traffic::Shift(at, factor, within) => {
                let part = ((t - at) / within.max(1e-9)).clamp(0.0, 1.0);
                1.0 + (factor - 1.0) * part
            }
            Traffic::Wander(waves) => {
                let sum = waves.iter().map(|(amplitude, cycles, phase)| {
                    amplitude * (std::f64::consts::TAU * cycles * t + phase).sin()
                });
                (1.0 + sum.sum::<f64>()).max(0.05)
            }
        }
    }
}

/// Memory that comes (or goes) at known times: time, bytes, seconds that it takes.
#[derive(Clone, Debug)]
pub(super) struct Events(pub(super) Vec<(f64, f64, f64)>);

impl Part for Events {
    fn step(&mut self, env: &Env, _: &mut Random) -> f64 {
        let held = self.0.iter().map(|(at, bytes, within)| {
            let part = if *within > 0.0 {
                ((env.t - at) / within).clamp(0.0, 1.0)
            } else {
                f64::from(u8::from(env.t >= *at))
            };
            bytes * part
        });
        held.sum()
    }
}

/// A buffer that fills with the requests and is written out and freed whole: a memtable, a log, an arena per batch.
#[derive(Clone, Debug)]
pub(super) struct Flushed {
    /// Bytes for each second at the mean load.
    pub(super) rate: f64,
    /// Written out at this size.
    pub(super) most: f64,
    pub(super) held: f64,
}

impl Part for Flushed {
    fn step(&mut self, env: &Env, _: &mut Random) -> f64 {
        self.held += self.rate * env.load * env.dt;
        if self.held > self.most {
            self.held = 0.0;
        }
        self.held
    }

    fn restart(&mut self) {
        self.held = 0.0;
    }
}

/// Memory that is proportional to the load, a moment late.
#[derive(Clone, Debug)]
pub(super) struct Follows {
    pub(super) bytes: f64,
    /// Seconds.
    pub(super) lag: f64,
    pub(super) level: f64,
}

impl Part for Follows {
    fn step(&mut self, env: &Env, _: &mut Random) -> f64 {
        let part = 1.0 - (-env.dt / self.lag.max(1e-9)).exp();
        self.level += (env.load - self.level) * part;
        self.bytes * self.level
    }
}

/// A level that wanders around its mean: an Ornstein-Uhlenbeck process.
#[derive(Clone, Debug)]
pub(super) struct Wanders {
    /// Standard deviation, bytes.
    pub(super) bytes: f64,
    /// Seconds after which 1/e of a departure is left.
    pub(super) lasts: f64,
    /// Standard deviations from the mean.
    pub(super) level: Option<f64>,
}

impl Part for Wanders {
    fn step(&mut self, env: &Env, random: &mut Random) -> f64 {
        let keep = (-env.dt / self.lasts).exp();
        let before = self.level.unwrap_or_else(|| random.normal());
        let level = keep * before + (1.0 - keep * keep).sqrt() * random.normal();
        self.level = Some(level);
        // Below the mean there is room for four deviations.
        self.bytes * (4.0 + level).max(0.0)
    }
}

/// Requests under way, each with a buffer of its own size: noise with a heavy tail.
#[derive(Clone, Debug)]
pub(super) struct Buffers {
    pub(super) bytes: f64,
    /// Mean number at once.
    pub(super) count: f64,
    /// Power of the tail.
    pub(super) tail: f64,
    /// Seconds that a level lasts.
    pub(super) lasts: f64,
    pub(super) level: Option<f64>,
}

impl Part for Buffers {
    fn step(&mut self, env: &Env, random: &mut Random) -> f64 {
        let mean = self.count * env.load;
        let count = random.poisson(mean).min(400);
        let each = self.bytes / self.count * (self.tail - 1.0) / self.tail;
        let now: f64 = (0..count)
            .map(|_| each * random.pareto(self.tail).min(60.0))
            .sum();
        let keep = if self.lasts > 0.0 {
            (-env.dt / self.lasts).exp()
        } else {
            0.0
        };
        let level = self
            .level
            .map_or(now, |level| keep * level + (1.0 - keep) * now);
        self.level = Some(level);
        level
    }

    fn restart(&mut self) {
        self.level = None;
    }
}

/// How a cache forgets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Forget {
    /// The least recently used, beyond so many entries.
    Lru(usize),
    /// Each after so many seconds without use.
    Ttl(f64),
    /// Never.
    Never,
}

/// A cache of keys with Zipf popularity.
#[derive(Debug)]
pub(super) struct Cache {
    keys: f64,
    power: f64,
    entry: f64,
    per_request: f64,
    forget: Forget,
    /// Share of the requests that ask for what nobody asked for before.
    fresh: f64,
    used: HashMap<u64, (u64, f64)>,
    order: BTreeMap<u64, u64>,
    tick: u64,
    next: u64,
    owed: f64,
}

impl Cache {
    /// `keys` keys whose popularity falls with `power`, `entry` bytes each.
    pub(super) fn new(keys: f64, power: f64, entry: f64, per_request: f64, forget: Forget) -> Self {
        Self {
            keys,
            power,
            entry,
            per_request,
            forget,
            fresh: 0.0,
            used: HashMap::new(),
            order: BTreeMap::new(),
            tick: 0,
            next: 1 << 40,
            owed: 0.0,
        }
    }

    /// This share of the requests brings a key of its own.
    pub(super) fn with_fresh(mut self, share: f64) -> Self {
        self.fresh = share;
        self
    }

    fn key(&mut self, random: &mut Random) -> u64 {
        if random.chance(self.fresh) {
            self.next += 1;
            return self.next;
        }
        // The inverse of the integral of rank^-power.
        let (n, s, u) = (self.keys, self.power, random.unit());
        let rank = if (s - 1.0).abs() < 1e-6 {
            n.powf(u)
        } else {
            ((n.powf(1.0 - s) - 1.0) * u + 1.0).powf(1.0 / (1.0 - s))
        };
        whole(rank) as u64
    }

    fn drop_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
            self.used.remove(&key);
        }
    }
}

impl Part for Cache {
    fn step(&mut self, env: &Env, random: &mut Random) -> f64 {
        self.owed += env.requests * self.per_request;
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            let key = self.key(random);
            self.tick += 1;
            if let Some((before, _)) = self.used.insert(key, (self.tick, env.t)) {
                self.order.remove(&before);
            }
            self.order.insert(self.tick, key);
            if let Forget::Lru(most) = self.forget
                && self.used.len() > most
            {
                self.drop_oldest();
            }
        }
        if let Forget::Ttl(seconds) = self.forget {
            while let Some((_, key)) = self.order.first_key_value()
                && self
                    .used
                    .get(key)
                    .is_some_and(|used| used.1 < env.t - seconds)
            {
                self.drop_oldest();
            }
        }
        self.used.len() as f64 * self.entry
    }

    fn restart(&mut self) {
        self.used.clear();
        self.order.clear();
    }
}

/// A pool of connections (or threads): opened when all are busy, closed after idle time, lost sometimes.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) each: f64,
    /// Busy at the mean load.
    pub(super) busy: f64,
    pub(super) most: f64,
    /// Seconds after which idle ones are closed; infinite: never.
    pub(super) idle_s: f64,
    /// Lost for each second at the mean load.
    pub(super) lost: f64,
    pub(super) open: f64,
    pub(super) gone: f64,
}

impl Part for Pool {
    fn step(&mut self, env: &Env, random: &mut Random) -> f64 {
        let busy = (random.poisson(self.busy * env.load) as f64).min(self.most);
        let idle = (self.open - busy).max(0.0);
        let closed = idle * (1.0 - (-env.dt / self.idle_s).exp());
        self.open = self.open.max(busy) - closed;
        self.gone += random.poisson(self.lost * env.load * env.dt) as f64;
        (self.open.round() + self.gone) * self.each
    }

    fn restart(&mut self) {
        (self.open, self.gone) = (0.0, 0.0);
    }
}

/// Jobs that take memory for a while: what they give back, keep as a high-water mark, or lose.
#[derive(Clone, Debug)]
pub(super) struct Jobs {
    /// Seconds between the begins, and how much that varies, as a share.
    pub(super) every: f64,
    pub(super) vary: f64,
    /// Mean seconds of a run.
    pub(super) lasts: f64,
    pub(super) bytes: f64,
    /// Spread of the logarithm of the size.
    pub(super) spread: f64,
    /// Share of the largest run that stays.
    pub(super) keeps: f64,
    /// Bytes lost by each run, from this time on.
    pub(super) loses: f64,
    pub(super) from: f64,
    pub(super) state: JobState,
}

/// The run that is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JobState {
    next: Option<f64>,
    begin: f64,
    end: f64,
    size: f64,
    largest: f64,
    lost: f64,
}

impl Part for Jobs {
    fn step(&mut self, env: &Env, random: &mut Random) -> f64 {
        let s = &mut self.state;
        let first = env.t + random.unit() * self.every;
        let mut next = *s.next.get_or_insert(first);
        while env.t >= next {
            s.begin = next;
            s.end = next + self.lasts * random.between(0.7, 1.3);
            s.size = self.bytes * (self.spread * random.normal()).exp();
            s.largest = s.largest.max(s.size);
            if next >= self.from {
                s.lost += self.loses * random.between(0.8, 1.2);
            }
            next += self.every * (1.0 + self.vary * random.between(-1.0, 1.0));
        }
        s.next = Some(next);
        let running = if env.t < s.end {
            s.size * ((env.t - s.begin) / (0.15 * self.lasts)).clamp(0.1, 1.0)
        } else {
            0.0
        };
        running.max(self.keeps * s.largest) + s.lost
    }
}

/// Blocks of one size, reserved and touched whole when the ones before are full: arenas, stacks, segments.
#[derive(Clone, Debug)]
pub(super) struct Arenas {
    pub(super) block: f64,
    /// Bytes used up in a second at the mean load.
    pub(super) rate: f64,
    /// From and until when; never more blocks than these.
    pub(super) from: f64,
    pub(super) most: f64,
    pub(super) used: f64,
}

impl Part for Arenas {
    fn step(&mut self, env: &Env, _: &mut Random) -> f64 {
        if env.t >= self.from {
            self.used += self.rate * env.load * env.dt;
        }
        ((self.used / self.block).floor() + 1.0).min(self.most) * self.block
    }

    fn restart(&mut self) {
        self.used = 0.0;
    }
}

/// A leak whose rate is given: nothing but what is lost, in pieces at random.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    /// Bytes for each second at the mean load.
    pub(super) rate: f64,
    /// Bytes of a piece.
    pub(super) piece: f64,
    pub(super) from: f64,
    /// Works for `on` seconds of each `every`, all the time when `every` is 0.
    pub(super) on: f64,
    pub(super) every: f64,
    /// How much the rate grows for each second.
    pub(super) grows: f64,
    /// Survives restarts.
    pub(super) persists: bool,
    pub(super) lost: f64,
}

impl Loss {
    pub(super) fn steady(rate: f64, piece: f64) -> Self {
        Self {
            rate,
            piece,
            from: f64::MIN,
            on: 0.0,
            every: 0.0,
            grows: 0.0,
            persists: false,
            lost: 0.0,
        }
    }
}

impl Part for Loss {
    fn step(&mut self, env: &Env, random: &mut Random) -> f64 {
        let working = self.every == 0.0 || env.t.rem_euclid(self.every) < self.on;
        if env.t >= self.from && working {
            let duty = if self.every > 0.0 {
                self.every / self.on
            } else {
                1.0
            };
            let since = (env.t - self.from.max(0.0)).max(0.0);
            let rate = self.rate * (1.0 + self.grows * since) * duty;
            let pieces = random.poisson(rate * env.load * env.dt / self.piece);
            self.lost += pieces as f64 * self.piece;
        }
        self.lost
    }

    fn restart(&mut self) {
        if !self.persists {
            self.lost = 0.0;
        }
    }
}

/// Work that waits in a queue: more at the door than can be done, for a while.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) each: f64,
    /// Share of the capacity that the mean load takes.
    pub(super) busy: f64,
    /// Items done in a second.
    pub(super) capacity: f64,
    pub(super) waiting: f64,
}

impl Part for Queue {
    fn step(&mut self, env: &Env, random: &mut Random) -> f64 {
        let come = random.poisson(self.capacity * self.busy * env.load * env.dt) as f64;
        self.waiting = (self.waiting + come - self.capacity * env.dt).max(0.0);
        self.waiting * self.each
    }
}

/// Warms up in each life.
#[derive(Clone, Debug)]
pub(super) struct Warm {
    pub(super) bytes: f64,
    pub(super) tau: f64,
    pub(super) age: f64,
}

impl Part for Warm {
    fn step(&mut self, env: &Env, _: &mut Random) -> f64 {
        self.age += env.dt;
        self.bytes * (1.0 - (-self.age / self.tau).exp())
    }

    fn restart(&mut self) {
        self.age = 0.0;
    }
}

/// A leak that the load does not drive.
#[derive(Clone, Debug)]
pub(super) struct Independent(pub(super) Loss);

impl Part for Independent {
    fn step(&mut self, env: &Env, random: &mut Random) -> f64 {
        self.0.step(&Env { load: 1.0, ..*env }, random)
    }
}
