//! What cannot be told from a series alone, and the processes of the table of latencies.

use super::maker::Maker;
use super::maker::boxed;
use super::maker::frame;
use super::observe::Plant;
use super::observe::Truth;
use super::parts::Buffers;
use super::parts::Cache;
use super::parts::DAY;
use super::parts::Events;
use super::parts::Forget;
use super::parts::HOUR;
use super::parts::Independent;
use super::parts::Loss;
use super::parts::MIB;
use super::parts::Part;
use super::parts::Pool;
use super::parts::Source;
use super::parts::Traffic;
use super::parts::Wanders;
use super::random::Random;

pub(super) fn open_zipf(m: &mut Maker) -> Plant {
    let steps = m.frame.span / m.frame.step;
    let bytes = m.of_base(0.3, 1.5);
    let cache = Cache::new(
        steps * 400.0,
        0.95,
        bytes / (steps * 15.0),
        1.0,
        Forget::Never,
    );
    m.plant(
        vec![boxed(cache)],
        Truth::Open,
        "a cache of Zipf keys that is far from all of them",
    )
}

pub(super) fn open_two(m: &mut Maker) -> Plant {
    let cuts = m.cuts(2, 0.15, 0.85);
    let each = m.of_base(0.1, 0.3);
    let steps = Events(cuts.into_iter().map(|at| (at, each, 0.0)).collect());
    m.plant(
        vec![boxed(steps)],
        Truth::Open,
        "two equal steps and nothing since",
    )
}

pub(super) fn open_flush(m: &mut Maker) -> Plant {
    let times = m.random.between(1.3, 2.0);
    let part = super::healthy::flushed(m, times);
    m.plant(
        vec![boxed(part)],
        Truth::Open,
        "a climb that was given back once: a buffer, or a leak and a restart that nobody told",
    )
}

pub(super) fn open_flank(m: &mut Maker) -> Plant {
    let pool = m.pool(0.2 * HOUR);
    let mut plant = m.plant(vec![boxed(pool)], Truth::Open, "a quarter of a day, rising");
    plant.source = Source::new(Traffic::Daily(0.7, -0.8, 0.0));
    plant
}

pub(super) fn open_wanders(m: &mut Maker) -> Plant {
    let level = Wanders {
        bytes: m.of_base(0.01, 0.08),
        lasts: m.random.scale(0.3, 1.0) * m.frame.span,
        level: None,
    };
    m.plant(
        vec![boxed(level)],
        Truth::Open,
        "the level wanders as slowly as the window is long",
    )
}

/// Processes for the table of latencies.
pub(crate) const STAGES: [&str; 3] = ["quiet", "ordinary", "noisy"];

/// A process of 256 MiB: quiet (a daemon that does little), ordinary (a service with a heap and request buffers) or
/// noisy (a pool under bursts, large buffers).
pub(super) fn stage(kind: &str, mib_per_hour: f64, random: &mut Random) -> Plant {
    let mut m = Maker::new(random, frame(DAY, 10.0));
    (m.base, m.noise) = (256.0 * MIB, 0.0002);
    let rate = mib_per_hour * MIB / HOUR;
    let mut parts: Vec<Box<dyn Part>> = Vec::new();
    let buffers = |bytes: f64, tail: f64| Buffers {
        bytes: bytes * MIB,
        count: 30.0,
        tail,
        lasts: 30.0,
        level: None,
    };
    match kind {
        "quiet" => {}
        "ordinary" => {
            m.noise = 0.001;
            parts.push(boxed(buffers(8.0, 2.0)));
        }
        _ => {
            m.noise = 0.003;
            parts.push(boxed(buffers(30.0, 1.7)));
            parts.push(boxed(Pool {
                each: 0.25 * MIB,
                busy: 120.0,
                most: 500.0,
                idle_s: 300.0,
                lost: 0.0,
                open: 0.0,
                gone: 0.0,
            }));
        }
    }
    let truth = if rate > 0.0 {
        parts.push(boxed(Independent(Loss::steady(rate, 65_536.0))));
        Truth::Leak(rate, 0.0)
    } else {
        Truth::NoLeak
    };
    let mut plant = m.plant(parts, truth, "for the table of latencies");
    if kind == "noisy" {
        plant.source = Source::new(Traffic::Bursty(0.6, 1.8, 600.0, 300.0));
    }
    plant.spiky = false;
    plant.age = 1800.0;
    plant
}
