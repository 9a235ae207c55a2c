//! What the families share: windows, sizes, and the usual parts of a process.

use super::heap::Heap;
use super::heap::Trim;
use super::heap::Use;
use super::observe::Frame;
use super::observe::Plant;
use super::observe::Restarts;
use super::observe::Truth;
use super::parts::DAY;
use super::parts::HOUR;
use super::parts::JobState;
use super::parts::Jobs;
use super::parts::Loss;
use super::parts::MIB;
use super::parts::Part;
use super::parts::Pool;
use super::parts::Source;
use super::parts::Traffic;
use super::random::Random;
use super::runtime::Collected;
use super::runtime::Seen;
use super::runtime::State;
use super::runtime::Trigger;

/// A family: its name, the windows that suit it, and the process.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) frames: &'static [Frame],
    pub(super) make: fn(&mut Maker) -> Plant,
}

pub(super) const fn frame(span: f64, step: f64) -> Frame {
    Frame { span, step }
}

pub(super) const ANY: &[Frame] = &[
    frame(600.0, 1.0),
    frame(HOUR, 5.0),
    frame(HOUR, 15.0),
    frame(6.0 * HOUR, 30.0),
    frame(12.0 * HOUR, 60.0),
    frame(DAY, 60.0),
    frame(DAY, 300.0),
    frame(3.0 * DAY, 300.0),
    frame(7.0 * DAY, 600.0),
];
pub(super) const DAYS: &[Frame] = &[
    frame(3.0 * DAY, 300.0),
    frame(5.0 * DAY, 300.0),
    frame(7.0 * DAY, 300.0),
    frame(14.0 * DAY, 600.0),
    frame(7.0 * DAY, 60.0),
];
/// One day is seen, and a part of the next.
pub(super) const ONE_DAY: &[Frame] = &[
    frame(24.0 * HOUR, 60.0),
    frame(30.0 * HOUR, 120.0),
    frame(36.0 * HOUR, 120.0),
    frame(44.0 * HOUR, 300.0),
];

/// What makes a process.
pub(super) struct Maker<'a> {
    pub(super) random: &'a mut Random,
    pub(super) frame: Frame,
    pub(super) base: f64,
    pub(super) noise: f64,
}

impl<'a> Maker<'a> {
    pub(super) fn new(random: &'a mut Random, frame: Frame) -> Self {
        let base = random.scale(25.0, 3000.0) * MIB;
        let noise = random.pick(&[0.0003, 0.001, 0.003, 0.01]);
        Self {
            random,
            frame,
            base,
            noise,
        }
    }

    pub(super) fn part(&mut self, low: f64, high: f64) -> f64 {
        self.random.between(low, high) * self.frame.span
    }

    /// Bytes as a share of the base.
    pub(super) fn of_base(&mut self, low: f64, high: f64) -> f64 {
        self.random.scale(low, high) * self.base
    }

    /// Bytes a second of a leak that can be seen from `onset` on, beside other motion of so many bytes.
    pub(super) fn rate(&mut self, onset: f64, beside: f64) -> f64 {
        let least = (14.0 * self.noise * self.base).max(0.5 * beside);
        let grown = self.of_base(0.06, 1.5).max(least).max(2.0 * MIB);
        grown / (self.frame.span - onset.max(0.0))
    }

    pub(super) fn plant(
        &mut self,
        parts: Vec<Box<dyn Part>>,
        truth: Truth,
        why: &'static str,
    ) -> Plant {
        let lasts = self.random.pick(&[0.0, 0.0, 3.0]) * self.frame.step;
        Plant {
            base: self.base,
            parts,
            source: Source::new(Traffic::Steady),
            requests: 40.0,
            shows_load: false,
            noise: (self.noise * self.base, lasts),
            spiky: self.random.chance(0.3),
            restarts: Restarts::Never,
            age: 0.0,
            swapped: Vec::new(),
            truth,
            why,
        }
    }

    pub(super) fn daily(&mut self) -> Traffic {
        let weekend = if self.random.chance(0.3) { 0.35 } else { 0.0 };
        Traffic::Daily(
            self.random.between(0.35, 0.85),
            self.random.between(0.0, std::f64::consts::TAU),
            weekend,
        )
    }

    pub(super) fn bursty(&mut self) -> Traffic {
        let low = self.random.between(0.1, 0.5);
        let (in_low, in_high) = (self.part(0.01, 0.04), self.part(0.005, 0.02));
        let high = (in_low + in_high - low * in_low) / in_high;
        Traffic::Bursty(low, high, in_low, in_high)
    }

    pub(super) fn wander(&mut self) -> Traffic {
        let wave = |random: &mut Random, span: f64| {
            (
                random.between(0.08, 0.22),
                random.between(2.0, 9.0) / span,
                random.between(0.0, std::f64::consts::TAU),
            )
        };
        let span = self.frame.span;
        Traffic::Wander((0..4).map(|_| wave(self.random, span)).collect())
    }

    /// A heap with this much live memory, `old` of it long-lived.
    pub(super) fn heap(&mut self, live: f64, trim: Trim) -> Use {
        let (step, span) = (self.frame.step, self.frame.span);
        let long = self.random.between(0.02, 0.06) * span;
        let lives = vec![(2.0 * step, 0.8), (12.0 * step, 0.17), (long, 0.03)];
        let mean = lives.iter().map(|(life, share)| life * share).sum::<f64>();
        // 40 requests a step, an object each.
        let objects = 40.0 * mean / step;
        Use {
            unit: live / objects / Heap::mean_size(1.0),
            per_request: 1.0,
            lives,
            lost: 0.0,
            lost_from: f64::MAX,
            trim,
        }
    }

    pub(super) fn collected(&mut self, cycles: f64) -> Collected {
        let span = self.frame.span;
        let live = self.base * self.random.between(0.3, 1.0);
        let tooth = self.base * self.random.between(0.2, 1.0);
        // Garbage of a whole tooth is promoted in each cycle.
        let survive = self.random.between(0.05, 0.2);
        Collected {
            allocates: tooth * cycles / span / survive,
            nursery: tooth * self.random.between(0.01, 0.05),
            survive,
            trigger: Trigger::Full(live + tooth),
            live: (live, live, 1.0),
            follows: 0.0,
            leaks: 0.0,
            from: f64::MAX,
            seen: Seen::Used,
            state: State::default(),
        }
    }

    pub(super) fn jobs(&mut self, runs: f64, duty: f64) -> Jobs {
        let every = self.frame.span / runs;
        Jobs {
            every,
            vary: self.random.pick(&[0.0, 0.3]),
            lasts: every * duty,
            bytes: self.of_base(0.15, 1.2),
            spread: self.random.pick(&[0.02, 0.2]),
            keeps: 0.0,
            loses: 0.0,
            from: f64::MAX,
            state: JobState::default(),
        }
    }

    pub(super) fn pool(&mut self, idle: f64) -> Pool {
        let busy = self.random.between(30.0, 200.0);
        Pool {
            each: self.of_base(0.1, 0.5) / busy,
            busy,
            most: busy * 4.0,
            idle_s: idle,
            lost: 0.0,
            open: 0.0,
            gone: 0.0,
        }
    }

    pub(super) fn cuts(&mut self, count: usize, low: f64, high: f64) -> Vec<f64> {
        let mut cuts: Vec<f64> = (0..count).map(|_| self.part(low, high)).collect();
        cuts.sort_unstable_by(f64::total_cmp);
        cuts
    }
}

pub(super) fn boxed(part: impl Part + 'static) -> Box<dyn Part> {
    Box::new(part)
}

/// A service that loses, and nothing else.
pub(super) fn losing(
    m: &mut Maker,
    loss: Loss,
    beside: Vec<Box<dyn Part>>,
    onset: f64,
    why: &'static str,
) -> Plant {
    let rate = loss.rate;
    let mut parts = beside;
    parts.push(boxed(loss));
    m.plant(parts, Truth::Leak(rate, onset), why)
}
