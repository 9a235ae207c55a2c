//! Families without a leak.

use super::heap::Heap;
use super::heap::Trim;
use super::maker::Maker;
use super::maker::boxed;
use super::observe::Plant;
use super::observe::Restarts;
use super::observe::Truth;
use super::parts::Arenas;
use super::parts::Buffers;
use super::parts::Cache;
use super::parts::DAY;
use super::parts::Events;
use super::parts::Flushed;
use super::parts::Follows;
use super::parts::Forget;
use super::parts::HOUR;
use super::parts::MIB;
use super::parts::Queue;
use super::parts::Source;
use super::parts::Traffic;
use super::parts::Wanders;
use super::parts::Warm;
use super::runtime::Seen;
use super::runtime::Trigger;

pub(super) fn service(m: &mut Maker) -> Plant {
    let live = m.of_base(0.1, 0.6);
    let usage = m.heap(live, Trim::Always);
    let mut plant = m.plant(
        vec![boxed(Heap::new(usage))],
        Truth::NoLeak,
        "a service that has run for long: what it takes it gives back",
    );
    plant.age = 0.4 * m.frame.span;
    plant
}

pub(super) fn service_fresh(m: &mut Maker) -> Plant {
    let live = m.of_base(0.1, 0.6);
    let usage = m.heap(live, Trim::Top);
    let code = Events(
        (0..30)
            .map(|_| {
                let at = m.frame.span * m.random.exponential(0.03);
                (at, 0.01 * m.base, 0.0)
            })
            .collect(),
    );
    m.plant(
        vec![boxed(Heap::new(usage)), boxed(code)],
        Truth::NoLeak,
        "a service from its start: heap and code caches fill, then it is level",
    )
}

pub(super) fn heap_untrimmed(m: &mut Maker) -> Plant {
    let live = m.of_base(0.1, 0.5);
    let usage = m.heap(live, Trim::Never);
    let traffic = m.bursty();
    let mut plant = m.plant(
        vec![boxed(Heap::new(usage))],
        Truth::NoLeak,
        "malloc gives nothing back: the level is that of the largest burst so far",
    );
    plant.source = Source::new(traffic);
    plant.age = m.frame.span;
    plant
}

pub(super) fn buffers(m: &mut Maker) -> Plant {
    let part = Buffers {
        bytes: m.of_base(0.03, 0.2),
        count: 30.0,
        tail: m.random.between(1.5, 2.5),
        lasts: m.random.pick(&[0.0, 4.0]) * m.frame.step,
        level: None,
    };
    m.plant(
        vec![boxed(part)],
        Truth::NoLeak,
        "request buffers of very different sizes",
    )
}

pub(super) fn queue(m: &mut Maker) -> Plant {
    let traffic = m.bursty();
    let part = Queue {
        each: m.of_base(0.1, 0.5) / 400.0,
        busy: 0.55,
        capacity: 40.0 / m.frame.step,
        waiting: 0.0,
    };
    let mut plant = m.plant(
        vec![boxed(part)],
        Truth::NoLeak,
        "a queue that backs up and drains",
    );
    plant.source = Source::new(traffic);
    plant
}

pub(super) fn cache_lru(m: &mut Maker) -> Plant {
    // It is full at the latest after half of the window.
    let steps = m.frame.span / m.frame.step;
    let asked = 40.0 * steps * m.random.between(0.1, 0.5);
    let keys = asked * 4.0;
    let most = m.random.between(0.15, 0.3) * asked;
    let bytes = m.of_base(0.3, 2.0);
    let cache = Cache::new(
        keys,
        m.random.between(0.6, 0.85),
        bytes / most,
        1.0,
        Forget::Lru(super::random::whole(most)),
    );
    m.plant(
        vec![boxed(cache)],
        Truth::NoLeak,
        "an LRU cache of Zipf keys fills to its bound, in at most half of the window",
    )
}

pub(super) fn cache_ttl(m: &mut Maker) -> Plant {
    let traffic = m.daily();
    let ttl = m.random.between(0.5, 2.0) * HOUR;
    let live = 40.0 * ttl / m.frame.step;
    let bytes = m.of_base(0.15, 0.6);
    let cache = Cache::new(live * 3.0, 0.7, bytes / live, 1.0, Forget::Ttl(ttl));
    let mut plant = m.plant(
        vec![boxed(cache)],
        Truth::NoLeak,
        "a TTL cache under a daily load",
    );
    plant.source = Source::new(traffic);
    plant.age = 3.0 * HOUR;
    plant
}

pub(super) fn pool_daily(m: &mut Maker) -> Plant {
    let idle = m.random.between(0.1, 0.6) * HOUR;
    let pool = m.pool(idle);
    let traffic = m.daily();
    let mut plant = m.plant(
        vec![boxed(pool)],
        Truth::NoLeak,
        "a pool that follows the daily load",
    );
    plant.source = Source::new(traffic);
    plant.age = 3.0 * HOUR;
    plant
}

pub(super) fn pool_bursty(m: &mut Maker) -> Plant {
    let idle = m.part(0.005, 0.02);
    let pool = m.pool(idle);
    let traffic = m.bursty();
    let mut plant = m.plant(
        vec![boxed(pool)],
        Truth::NoLeak,
        "a pool under bursts, idle connections are closed",
    );
    plant.source = Source::new(traffic);
    plant.age = 0.2 * m.frame.span;
    plant
}

pub(super) fn arenas_capped(m: &mut Maker) -> Plant {
    let most = m.random.count(3, 10) as f64;
    let block = m.of_base(0.03, 0.15);
    let arenas = Arenas {
        block,
        rate: most * block / m.part(0.05, 0.5),
        from: 0.0,
        most,
        used: 0.0,
    };
    m.plant(
        vec![boxed(arenas)],
        Truth::NoLeak,
        "each thread makes an arena, until there are as many as allowed",
    )
}

pub(super) fn gc_used(m: &mut Maker) -> Plant {
    let cycles = m.random.scale(12.0, 80.0);
    let heap = m.collected(cycles);
    m.plant(
        vec![boxed(heap)],
        Truth::NoLeak,
        "a collected heap, the same live data all the time",
    )
}

pub(super) fn gc_few(m: &mut Maker) -> Plant {
    let cycles = m.random.between(3.6, 8.0);
    let heap = m.collected(cycles);
    m.plant(
        vec![boxed(heap)],
        Truth::NoLeak,
        "a collected heap with few full collections",
    )
}

pub(super) fn gc_warm(m: &mut Maker) -> Plant {
    let cycles = m.random.scale(20.0, 80.0);
    let mut heap = m.collected(cycles);
    heap.live = (0.3 * heap.live.1, heap.live.1, m.part(0.04, 0.16));
    m.plant(
        vec![boxed(heap)],
        Truth::NoLeak,
        "a collected heap, live data warm up",
    )
}

pub(super) fn gc_committed(m: &mut Maker) -> Plant {
    let cycles = m.random.scale(8.0, 60.0);
    let mut heap = m.collected(cycles);
    heap.live = (0.3 * heap.live.1, heap.live.1, m.part(0.03, 0.1));
    heap.seen = Seen::Committed(m.random.pick(&[1.0, 4.0]) * MIB);
    m.plant(
        vec![boxed(heap)],
        Truth::NoLeak,
        "a heap that is never given back: grows until the live data are warm",
    )
}

pub(super) fn gc_scavenged(m: &mut Maker) -> Plant {
    let cycles = m.random.scale(100.0, 400.0);
    let mut heap = m.collected(cycles);
    heap.follows = 0.4 * heap.live.1;
    heap.trigger = Trigger::Grown(2.0);
    heap.seen = Seen::Scavenged(m.random.between(0.5, 3.0) * HOUR);
    let traffic = m.daily();
    let mut plant = m.plant(
        vec![boxed(heap)],
        Truth::NoLeak,
        "collected at twice the live data, which follow the day; free pages go back slowly",
    );
    plant.source = Source::new(traffic);
    plant
}

pub(super) fn jobs_narrow(m: &mut Maker) -> Plant {
    let (runs, duty) = (m.random.scale(6.0, 40.0), m.random.between(0.05, 0.2));
    let jobs = m.jobs(runs, duty);
    m.plant(
        vec![boxed(jobs)],
        Truth::NoLeak,
        "jobs that give their memory back",
    )
}

pub(super) fn jobs_wide(m: &mut Maker) -> Plant {
    let (runs, duty) = (m.random.scale(4.0, 14.0), m.random.between(0.3, 0.6));
    let jobs = m.jobs(runs, duty);
    m.plant(
        vec![boxed(jobs)],
        Truth::NoLeak,
        "long jobs that give their memory back",
    )
}

pub(super) fn jobs_nightly(m: &mut Maker) -> Plant {
    let mut jobs = m.jobs(2.0, 0.1);
    (jobs.every, jobs.vary) = (DAY, 0.01);
    jobs.lasts = m.random.between(0.5, 4.0) * HOUR;
    let pool = m.pool(HOUR);
    let traffic = m.daily();
    let mut plant = m.plant(
        vec![boxed(jobs), boxed(pool)],
        Truth::NoLeak,
        "a job every night beside a pool",
    );
    plant.source = Source::new(traffic);
    plant.age = 2.0 * DAY;
    plant
}

pub(super) fn jobs_retained(m: &mut Maker) -> Plant {
    let mut jobs = m.jobs(
        m.frame.span / (m.frame.step * 12.0).max(m.frame.span / 150.0),
        0.3,
    );
    jobs.keeps = 1.0;
    jobs.spread = 0.25;
    let mut plant = m.plant(
        vec![boxed(jobs)],
        Truth::NoLeak,
        "the allocator keeps what the largest job took: records get rare",
    );
    plant.age = 0.1 * m.frame.span;
    plant
}

pub(super) fn deploys(m: &mut Maker) -> Plant {
    let count = m.random.count(1, 3);
    let cuts = m.cuts(count, 0.1, 0.85);
    let steps = cuts.iter().map(|at| {
        let sign = m.random.pick(&[1.0, 1.0, -0.5]);
        (
            *at,
            sign * m.base * m.random.between(0.06, 0.4),
            m.frame.step * m.random.between(0.0, 4.0),
        )
    });
    let steps = Events(steps.collect());
    m.plant(
        vec![boxed(steps)],
        Truth::NoLeak,
        "configuration changes: another level, no growth between",
    )
}

pub(super) fn deploys_restart(m: &mut Maker) -> Plant {
    let count = m.random.count(1, 3);
    let cuts = m.cuts(count, 0.1, 0.75);
    let warm = Warm {
        bytes: m.of_base(0.2, 1.0),
        tau: m.part(0.008, 0.03),
        age: 0.0,
    };
    let steps = Events(
        cuts.iter()
            .map(|at| (*at, m.base * m.random.between(0.03, 0.3), 0.0))
            .collect(),
    );
    let mut plant = m.plant(
        vec![boxed(warm), boxed(steps)],
        Truth::NoLeak,
        "new versions that need more, each warms up and is level",
    );
    plant.restarts = Restarts::At(cuts);
    plant
}

pub(super) fn one_off(m: &mut Maker) -> Plant {
    let begin = m.part(0.15, 0.6);
    let lasts = m.part(0.01, 0.15);
    let bytes = m.of_base(0.1, 0.8);
    let import = Events(vec![(begin, bytes, lasts)]);
    m.plant(
        vec![boxed(import)],
        Truth::NoLeak,
        "one import whose data stay, level before and after",
    )
}

pub(super) fn lazy(m: &mut Maker) -> Plant {
    let count = m.random.count(8, 40);
    let tau = m.part(0.04, 0.14);
    let each = m.of_base(0.2, 0.8) / count as f64;
    let features = Events(
        (0..count)
            .map(|_| {
                (
                    m.random.exponential(tau),
                    each * m.random.between(0.4, 1.6),
                    0.0,
                )
            })
            .collect(),
    );
    m.plant(
        vec![boxed(features)],
        Truth::NoLeak,
        "features are loaded when first used, all within half of the window",
    )
}

pub(super) fn swap_out(m: &mut Maker) -> Plant {
    let usage = {
        let live = m.of_base(0.1, 0.3);
        m.heap(live, Trim::Always)
    };
    let mut plant = m.plant(
        vec![boxed(Heap::new(usage))],
        Truth::NoLeak,
        "cold pages are swapped out and come back slowly to the old level",
    );
    let count = m.random.count(1, 3);
    plant.swapped = m
        .cuts(count, 0.05, 0.5)
        .into_iter()
        .map(|at| (at, m.random.between(0.05, 0.25), m.part(0.02, 0.06)))
        .collect();
    plant.age = 0.3 * m.frame.span;
    plant
}

pub(super) fn crash_loop(m: &mut Maker) -> Plant {
    let count = m.random.count(2, 6);
    let cuts: Vec<f64> = (1..=count)
        .map(|k| m.frame.span * k as f64 / (count as f64 + m.random.between(0.5, 0.9)))
        .collect();
    let warm = Warm {
        bytes: m.of_base(0.2, 1.5),
        tau: m.frame.span / count as f64 * m.random.between(0.03, 0.15),
        age: 0.0,
    };
    let mut plant = m.plant(
        vec![boxed(warm)],
        Truth::NoLeak,
        "starts anew again and again, warms up each time to the same level",
    );
    plant.restarts = Restarts::At(cuts);
    plant
}

pub(super) fn follows_load(m: &mut Maker) -> Plant {
    let follows = Follows {
        bytes: m.of_base(0.2, 1.0),
        lag: m.part(0.001, 0.005),
        level: 1.0,
    };
    let (at, within) = (m.part(0.2, 0.6), m.part(0.05, 0.3));
    let traffic = if m.random.chance(0.5) {
        m.wander()
    } else {
        Traffic::Shift(at, m.random.between(1.4, 2.5), within)
    };
    let mut plant = m.plant(
        vec![boxed(follows)],
        Truth::NoLeak,
        "memory follows the load, which is known",
    );
    plant.source = Source::new(traffic);
    plant.shows_load = true;
    plant
}

pub(super) fn wanders(m: &mut Maker) -> Plant {
    let level = Wanders {
        bytes: m.of_base(0.01, 0.08),
        lasts: m.random.scale(0.02, 0.15) * m.frame.span,
        level: None,
    };
    m.plant(
        vec![boxed(level)],
        Truth::NoLeak,
        "the level wanders, and comes back several times within the window",
    )
}

/// Traffic that rises and falls so often in the window, and what follows it: bytes at the mean load.
pub(super) fn tidal(m: &mut Maker) -> (Traffic, Follows) {
    let cycles = m.random.between(3.5, 12.0) / m.frame.span;
    let phase = m.random.between(0.0, std::f64::consts::TAU);
    let wave = (m.random.between(0.3, 0.7), cycles, phase);
    let follows = Follows {
        bytes: m.of_base(0.2, 0.8),
        lag: 2.0 * m.frame.step,
        level: 1.0,
    };
    (Traffic::Wander(vec![wave]), follows)
}

pub(super) fn tide(m: &mut Maker) -> Plant {
    let (traffic, follows) = tidal(m);
    let why = "memory follows a load that comes every few hours, and is not told";
    let mut plant = m.plant(vec![boxed(follows)], Truth::NoLeak, why);
    plant.source = Source::new(traffic);
    plant.age = m.frame.span;
    plant
}

/// A buffer that is written out so often in the window.
pub(super) fn flushed(m: &mut Maker, times: f64) -> Flushed {
    let most = m.of_base(0.2, 0.9).max(30.0 * m.noise * m.base);
    Flushed {
        rate: most * times / m.frame.span,
        most,
        held: most * m.random.between(0.0, 0.6),
    }
}

pub(super) fn buffer_flushed(m: &mut Maker) -> Plant {
    let times = m.random.between(5.0, 15.0);
    let part = flushed(m, times);
    let mut plant = m.plant(
        vec![boxed(part)],
        Truth::NoLeak,
        "a buffer that fills and is written out, again and again",
    );
    plant.age = m.frame.span;
    plant
}

pub(super) fn warm_slow(m: &mut Maker) -> Plant {
    let part = Warm {
        bytes: m.of_base(0.3, 1.5),
        tau: m.part(0.25, 0.38),
        age: 0.0,
    };
    m.plant(
        vec![boxed(part)],
        Truth::NoLeak,
        "a warm-up, seen for about three of its time constants",
    )
}
