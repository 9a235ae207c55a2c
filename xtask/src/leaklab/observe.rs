//! From a process to what a monitor saw of it: samples that are late, missing, rounded to pages, on a clock that
//! is set; and the truth, for which the process runs on until it meets its limit.

use std::fmt::Write as _;

use serde::Serialize;

use super::parts::Env;
use super::parts::MIB;
use super::parts::Part;
use super::parts::Source;
use super::random::Random;
use super::random::whole;

const PAGE: f64 = 4096.0;
/// A process runs on for at most this many times the window.
const AFTER: f64 = 4.0;

/// How long is looked and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) span: f64,
    pub(super) step: f64,
}

/// When a process starts anew.
#[derive(Clone, Debug)]
pub(super) enum Restarts {
    Never,
    At(Vec<f64>),
    /// When it holds so many bytes more than at its start; every life as the last.
    Killed(f64),
}

/// What is true of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Truth {
    NoLeak,
    /// Bytes a second that are lost at the end of the window, and since when.
    Leak(f64, f64),
    /// As much as was lost in this window: single events are so few that their mean rate says less.
    Seen,
    /// An expert who has only the series cannot tell.
    Open,
}

/// A process.
pub(super) struct Plant {
    pub(super) base: f64,
    pub(super) parts: Vec<Box<dyn Part>>,
    pub(super) source: Source,
    /// Requests of a step at the mean load.
    pub(super) requests: f64,
    /// The load is known to the monitor.
    pub(super) shows_load: bool,
    /// Standard deviation of what nobody explains, bytes, and seconds that it lasts.
    pub(super) noise: (f64, f64),
    /// Now and then a sample is far off.
    pub(super) spiky: bool,
    pub(super) restarts: Restarts,
    /// Seconds that it had run when the window begins.
    pub(super) age: f64,
    /// Cold pages leave: time, share that leaves, seconds until half is back.
    pub(super) swapped: Vec<(f64, f64, f64)>,
    pub(super) truth: Truth,
    pub(super) why: &'static str,
}

/// A label, in the form of the shared generator.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Label {
    pub(crate) label: &'static str,
    pub(crate) family: &'static str,
    pub(crate) rate_mib_h: f64,
    pub(crate) onset_ts: Option<f64>,
    pub(crate) limit_bytes: u64,
    pub(crate) oom_ts: Option<f64>,
    pub(crate) interval_s: f64,
    pub(crate) duration_s: f64,
    pub(crate) samples: usize,
    pub(crate) n_restarts: usize,
    pub(crate) has_load: bool,
    pub(crate) end_ts: f64,
    pub(crate) why: &'static str,
}

/// A row of the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) ts: f64,
    pub(crate) bytes: f64,
    pub(crate) load: f64,
    pub(crate) start: f64,
}

/// A series with its label.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) rows: Vec<Row>,
    pub(crate) label: Label,
}

impl Observed {
    /// The file.
    pub(crate) fn csv(&self) -> String {
        let mut out = String::from("ts,bytes,load,start\n");
        for row in &self.rows {
            let load = if self.label.has_load {
                format!("{:.4}", row.load)
            } else {
                String::new()
            };
            let _ = writeln!(
                out,
                "{:.3},{:.0},{load},{:.3}",
                row.ts, row.bytes, row.start
            );
        }
        out
    }
}

/// The process as it runs.
struct Running<'a> {
    plant: &'a mut Plant,
    random: &'a mut Random,
    noise: f64,
    start: f64,
    first: Option<f64>,
    last: f64,
    restarts: usize,
}

impl Running<'_> {
    /// One step: bytes held (without noise), load, and with noise.
    fn step(&mut self, t: f64, dt: f64) -> (f64, f64, f64) {
        let killed = match &self.plant.restarts {
            Restarts::At(times) => times.iter().any(|at| *at > t - dt && *at <= t),
            Restarts::Killed(most) => self.first.is_some_and(|first| self.last - first > *most),
            Restarts::Never => false,
        };
        if killed {
            self.restart(t);
        }
        let load = self.plant.source.at(t, self.random);
        let come = self.random.poisson(self.plant.requests * load) as f64;
        let env = Env {
            t,
            dt,
            requests: come,
            load,
        };
        let held = self
            .plant
            .parts
            .iter_mut()
            .map(|part| part.step(&env, self.random));
        let mut held = self.plant.base + held.sum::<f64>();
        self.first.get_or_insert(held);
        self.last = held;
        for (at, share, back) in &self.plant.swapped {
            if t >= *at {
                held -= share * self.plant.base * (-(t - at) / back * std::f64::consts::LN_2).exp();
            }
        }
        let (sigma, lasts) = self.plant.noise;
        let keep = if lasts > 0.0 {
            (-dt / lasts).exp()
        } else {
            0.0
        };
        self.noise = keep * self.noise + (1.0 - keep * keep).sqrt() * sigma * self.random.normal();
        let mut seen = held + self.noise;
        if self.plant.spiky && self.random.chance(0.01) {
            seen += 2.0 * sigma * self.random.pareto(1.4).min(30.0);
        }
        (held, load, seen)
    }

    fn restart(&mut self, t: f64) {
        for part in &mut self.plant.parts {
            part.restart();
        }
        self.start = t;
        self.restarts += 1;
    }
}

/// Runs a process in a window, and on. `other`: what is chance goes on otherwise behind the window, by this number.
pub(super) fn observe(
    mut plant: Plant,
    family: &'static str,
    frame: Frame,
    random: &mut Random,
    other: Option<u64>,
) -> Observed {
    let n = whole(frame.span / frame.step) + 1;
    let dt = frame.step;
    let (truth, why, shows_load) = (plant.truth, plant.why, plant.shows_load);
    let dies = matches!(plant.restarts, Restarts::Killed(_)).then(|| match plant.restarts {
        Restarts::Killed(most) => most,
        _ => 0.0,
    });
    let before = whole(plant.age / dt);
    let start = -(before as f64) * dt;
    let mut running = Running {
        plant: &mut plant,
        random,
        noise: 0.0,
        start,
        first: None,
        last: 0.0,
        restarts: 0,
    };
    for k in 0..before {
        running.step(start + k as f64 * dt, dt);
    }
    running.restarts = 0;
    let mut rows = Vec::with_capacity(n);
    let mut levels = Vec::with_capacity(n);
    for k in 0..n {
        let t = k as f64 * dt;
        let (held, load, seen) = running.step(t, dt);
        levels.push(held);
        rows.push(Row {
            ts: t,
            bytes: (seen.max(4.0 * MIB) / PAGE).floor() * PAGE,
            load,
            start: running.start,
        });
    }
    let restarts = running.restarts;
    let truth = match truth {
        Truth::Seen => Truth::Leak((levels[n - 1] - levels[0]) / frame.span, f64::MIN),
        other => other,
    };
    let top = rows.iter().map(|row| row.bytes).fold(0.0, f64::max);
    let end = (n - 1) as f64 * dt;
    let room = running.random.between(0.3, 2.2);
    let limit = match (truth, dies) {
        (Truth::Leak(..), Some(most)) => running.first.unwrap_or(0.0) + most,
        (Truth::Leak(rate, _), None) => top + (rate * frame.span * room).max(0.01 * top),
        _ => top * running.random.between(1.15, 3.0),
    };
    if let Some(number) = other {
        *running.random = Random::new(&[number, 4711]);
    }
    let mut oom = None;
    if matches!(truth, Truth::Leak(..)) {
        let mut t = end;
        while oom.is_none() && t < end + AFTER * frame.span {
            t += dt;
            let before = running.restarts;
            let held = running.step(t, dt).0;
            oom = (held >= limit || running.restarts > before && dies.is_some()).then_some(t);
        }
    }
    let epoch = 1_700_000_000.0 + (running.random.unit() * 1e7).floor();
    sample(&mut rows, dt, epoch, random);
    let (name, rate, onset) = match truth {
        Truth::NoLeak => ("no-leak", 0.0, None),
        Truth::Leak(rate, onset) => ("leak", rate, Some(onset.max(start))),
        Truth::Open | Truth::Seen => ("inconclusive", 0.0, None),
    };
    let label = Label {
        label: name,
        family,
        rate_mib_h: rate * 3600.0 / MIB,
        onset_ts: onset.map(|onset| epoch + onset),
        limit_bytes: whole(limit) as u64,
        oom_ts: oom.map(|oom| rows.last().map_or(epoch + end, |row| row.ts) + oom - end),
        interval_s: dt,
        duration_s: frame.span,
        samples: rows.len(),
        n_restarts: restarts,
        has_load: shows_load,
        end_ts: rows.last().map_or(0.0, |row| row.ts),
        why,
    };
    Observed { rows, label }
}

/// Late and missing samples, gaps, a clock that is set back.
fn sample(rows: &mut Vec<Row>, dt: f64, epoch: f64, random: &mut Random) {
    let missing = random.pick(&[0.0, 0.0, 0.01, 0.08, 0.3]);
    let gap = random.chance(0.25).then(|| {
        let begin = random.between(0.05, 0.8);
        (begin, begin + random.between(0.02, 0.1))
    });
    let late = random.chance(0.5);
    let n = rows.len();
    let last = n - 1;
    let mut kept = 0;
    for k in 0..n {
        let place = k as f64 / n as f64;
        let gone = gap.is_some_and(|(from, to)| place > from && place < to);
        let keep = k == 0 || k == last || !(gone || random.chance(missing));
        if keep {
            rows[kept] = rows[k];
            if late && k > 0 && k < last {
                rows[kept].ts += random.between(-0.3, 0.3) * dt;
            }
            kept += 1;
        }
    }
    rows.truncate(kept);
    let step = random
        .chance(0.06)
        .then(|| random.count(kept / 5, kept * 4 / 5));
    for (k, row) in rows.iter_mut().enumerate() {
        let back = match step {
            Some(from) if k >= from => 7.0 * dt,
            _ => 0.0,
        };
        row.ts += epoch - back;
        // The start is told by the clock too.
        row.start += epoch;
    }
}
