//! Families with a leak.

use super::heap::Heap;
use super::heap::Trim;
use super::maker::Maker;
use super::maker::boxed;
use super::maker::losing;
use super::observe::Plant;
use super::observe::Restarts;
use super::observe::Truth;
use super::parts::Arenas;
use super::parts::Cache;
use super::parts::Events;
use super::parts::Follows;
use super::parts::Forget;
use super::parts::HOUR;
use super::parts::Independent;
use super::parts::Loss;
use super::parts::MIB;
use super::parts::Source;
use super::parts::Traffic;
use super::parts::Warm;
use super::runtime::Seen;
use super::runtime::Trigger;

pub(super) fn leak_request(m: &mut Maker) -> Plant {
    let live = m.of_base(0.1, 0.4);
    let mut usage = m.heap(live, Trim::Always);
    let rate = m.rate(0.0, 1.5 * live);
    let flow = 40.0 / m.frame.step * Heap::mean_size(usage.unit);
    usage.lost = (rate / flow).min(0.3);
    usage.lost_from = f64::MIN;
    let rate = usage.lost * flow;
    let mut plant = m.plant(
        vec![boxed(Heap::new(usage))],
        Truth::Leak(rate, f64::MIN),
        "some objects of the requests are never freed",
    );
    plant.age = 0.4 * m.frame.span;
    plant
}

pub(super) fn leak_daily(m: &mut Maker) -> Plant {
    let rate = m.rate(0.0, 0.0);
    let traffic = m.daily();
    let mean = if let Traffic::Daily(_, _, weekend) = traffic {
        1.0 - weekend * 2.0 / 7.0
    } else {
        1.0
    };
    let mut loss = Loss::steady(rate / mean, 0.002 * m.base);
    loss.piece = loss.piece.min(rate * m.frame.step);
    let mut plant = losing(
        m,
        loss,
        Vec::new(),
        f64::MIN,
        "a leak for each request under a daily load",
    );
    plant.truth = Truth::Leak(rate, f64::MIN);
    plant.shows_load = m.random.chance(0.5);
    plant.source = Source::new(traffic);
    plant
}

pub(super) fn leak_bursty(m: &mut Maker) -> Plant {
    let rate = m.rate(0.0, 0.0);
    let traffic = m.bursty();
    let loss = Loss::steady(rate, rate * m.frame.step);
    let mut plant = losing(
        m,
        loss,
        Vec::new(),
        f64::MIN,
        "a leak for each request under bursts",
    );
    plant.truth = Truth::Seen;
    plant.source = Source::new(traffic);
    plant
}

pub(super) fn leak_stop_go(m: &mut Maker) -> Plant {
    let rate = m.rate(0.0, 0.0);
    let mut loss = Loss::steady(rate, rate * m.frame.step);
    let phases = m.random.between(4.5, 12.0);
    loss.every = m.frame.span / phases;
    loss.on = loss.every * m.random.between(0.25, 0.6);
    losing(
        m,
        loss,
        Vec::new(),
        f64::MIN,
        "leaks while a certain task works, which pauses: at least four times",
    )
}

pub(super) fn leak_jobs(m: &mut Maker) -> Plant {
    let (runs, duty) = (m.random.scale(10.0, 50.0), m.random.between(0.05, 0.2));
    let mut jobs = m.jobs(runs, duty);
    let rate = m.rate(0.0, 0.3 * jobs.bytes);
    (jobs.loses, jobs.from) = (rate * jobs.every, f64::MIN);
    m.plant(
        vec![boxed(jobs)],
        Truth::Leak(rate, f64::MIN),
        "each job loses a part of what it took",
    )
}

pub(super) fn leak_jobs_wide(m: &mut Maker) -> Plant {
    let (runs, duty) = (m.random.scale(7.0, 16.0), m.random.between(0.3, 0.6));
    let mut jobs = m.jobs(runs, duty);
    jobs.bytes = m.of_base(0.1, 0.4);
    jobs.spread = 0.05;
    let rate = m.rate(0.0, jobs.bytes);
    (jobs.loses, jobs.from) = (rate * jobs.every, f64::MIN);
    m.plant(
        vec![boxed(jobs)],
        Truth::Leak(rate, f64::MIN),
        "long jobs, each loses a part of what it took",
    )
}

pub(super) fn leak_arenas(m: &mut Maker) -> Plant {
    let rate = m.rate(0.0, 0.0);
    let blocks = m.random.scale(7.0, 40.0);
    let arenas = Arenas {
        block: rate * m.frame.span / blocks,
        rate,
        from: f64::MIN,
        most: f64::MAX,
        used: 0.0,
    };
    m.plant(
        vec![boxed(arenas)],
        Truth::Leak(rate, f64::MIN),
        "a leak that is seen when the next arena is taken",
    )
}

pub(super) fn leak_threads(m: &mut Maker) -> Plant {
    let rate = m.rate(0.0, 0.0);
    let loss = Loss::steady(rate, rate * m.frame.span / m.random.scale(30.0, 80.0));
    let mut plant = losing(
        m,
        loss,
        Vec::new(),
        f64::MIN,
        "threads that never end, each with its stack and arena, at random times",
    );
    plant.truth = Truth::Seen;
    plant
}

pub(super) fn gc_leak(m: &mut Maker, cycles: f64, why: &'static str) -> Plant {
    let mut heap = m.collected(cycles);
    let tooth = match heap.trigger {
        Trigger::Full(full) => full - heap.live.1,
        Trigger::Grown(_) => heap.live.1,
    };
    let rate = m.rate(0.0, 0.6 * tooth);
    (heap.leaks, heap.from) = (rate, f64::MIN);
    // The heap is large enough for all that is lost; the collector starts at a multiple of what lives.
    heap.trigger = Trigger::Grown(1.0 + tooth / heap.live.1);
    m.plant(vec![boxed(heap)], Truth::Leak(rate, f64::MIN), why)
}

pub(super) fn leak_gc(m: &mut Maker) -> Plant {
    let cycles = m.random.scale(14.0, 80.0);
    gc_leak(m, cycles, "live data of a collected heap grow")
}

pub(super) fn leak_gc_few(m: &mut Maker) -> Plant {
    let cycles = m.random.between(7.0, 13.0);
    gc_leak(
        m,
        cycles,
        "live data of a collected heap grow, few full collections",
    )
}

pub(super) fn leak_gc_growing(m: &mut Maker) -> Plant {
    let cycles = m.random.scale(20.0, 80.0);
    let mut heap = m.collected(cycles);
    heap.trigger = Trigger::Grown(m.random.between(1.5, 2.0));
    let rate = m.rate(0.0, 0.5 * heap.live.1);
    (heap.leaks, heap.from) = (rate, f64::MIN);
    m.plant(
        vec![boxed(heap)],
        Truth::Leak(rate, f64::MIN),
        "collected at a multiple of the live data, which grow: so do the teeth",
    )
}

pub(super) fn leak_gc_committed(m: &mut Maker) -> Plant {
    let cycles = m.random.scale(25.0, 80.0);
    let mut heap = m.collected(cycles);
    let tooth = match heap.trigger {
        Trigger::Full(full) => full - heap.live.1,
        Trigger::Grown(_) => heap.live.1,
    };
    let rate = m.rate(0.0, tooth);
    (heap.leaks, heap.from) = (rate, f64::MIN);
    // The young part is fixed: what is committed is what lives and one tooth.
    let room = 1.0 + 0.3 * tooth / heap.live.1;
    heap.trigger = Trigger::Grown(room);
    let region = rate * m.frame.span / m.random.scale(14.0, 60.0);
    heap.seen = Seen::Committed(region.min(m.random.pick(&[1.0, 4.0]) * MIB));
    let mut plant = m.plant(
        vec![boxed(heap)],
        Truth::Leak(room * rate, f64::MIN),
        "a heap that is never given back, and live data that grow",
    );
    plant.age = 0.1 * m.frame.span;
    plant
}

pub(super) fn leak_killed(m: &mut Maker) -> Plant {
    let lives = m.random.between(1.4, 6.8);
    let whole = lives.floor();
    let lives = whole + (lives - whole).clamp(0.35, 0.85);
    let most = m.of_base(0.3, 2.0).max(30.0 * m.noise * m.base);
    let rate = most * lives / m.frame.span;
    let loss = Loss::steady(rate, rate * m.frame.step);
    let mut plant = losing(
        m,
        loss,
        Vec::new(),
        0.0,
        "leaks until it is killed, starts anew, leaks again",
    );
    plant.restarts = Restarts::Killed(most);
    plant
}

pub(super) fn leak_through(m: &mut Maker) -> Plant {
    let rate = m.rate(0.0, 0.0);
    let mut loss = Loss::steady(rate, rate * m.frame.step);
    loss.persists = true;
    let count = m.random.count(1, 5);
    let mut plant = losing(
        m,
        loss,
        Vec::new(),
        0.0,
        "what is lost is state that is loaded again after each restart",
    );
    plant.restarts = Restarts::At(m.cuts(count, 0.1, 0.95));
    plant
}

pub(super) fn leak_lives(m: &mut Maker) -> Plant {
    let lives = m.random.count(3, 8);
    let rate = m.rate(0.0, 0.0) * lives as f64 * 0.6;
    let loss = Loss::steady(rate, rate * m.frame.step);
    let cuts: Vec<f64> = (1..lives)
        .map(|k| m.frame.span * (k as f64 + m.random.between(-0.1, 0.1)) / lives as f64)
        .collect();
    let mut plant = losing(
        m,
        loss,
        Vec::new(),
        0.0,
        "restarted from time to time, leaks in each life",
    );
    plant.restarts = Restarts::At(cuts);
    plant
}

pub(super) fn leak_deploy(m: &mut Maker) -> Plant {
    let at = m.part(0.2, 0.65);
    let rate = m.rate(at, 0.0);
    let mut loss = Loss::steady(rate, rate * m.frame.step);
    loss.from = at;
    let step = Events(vec![(
        at,
        m.of_base(0.05, 0.4),
        m.frame.step * m.random.between(0.0, 3.0),
    )]);
    let mut plant = losing(
        m,
        loss,
        vec![boxed(step)],
        at,
        "a new version takes more at once, and leaks from then on",
    );
    if m.random.chance(0.4) {
        plant.restarts = Restarts::At(vec![at]);
    }
    plant
}

pub(super) fn leak_midway(m: &mut Maker) -> Plant {
    let at = m.part(0.3, 0.75);
    let rate = m.rate(at, 0.0);
    let mut loss = Loss::steady(rate, rate * m.frame.step);
    loss.from = at;
    losing(
        m,
        loss,
        Vec::new(),
        at,
        "level, until a feature is switched on that leaks",
    )
}

pub(super) fn leak_warm(m: &mut Maker) -> Plant {
    let warm = Warm {
        bytes: m.of_base(0.2, 1.5),
        tau: m.part(0.02, 0.09),
        age: 0.0,
    };
    let rate = m.rate(0.0, 0.4 * warm.bytes);
    let loss = Loss::steady(rate, rate * m.frame.step);
    losing(
        m,
        loss,
        vec![boxed(warm)],
        0.0,
        "warms up, and leaks all the time",
    )
}

pub(super) fn leak_cache(m: &mut Maker) -> Plant {
    let steps = m.frame.span / m.frame.step;
    let fresh = m.random.between(0.1, 0.4);
    let rate = m.rate(0.0, 0.0);
    let entry = rate * m.frame.step / (40.0 * fresh);
    // The others are soon all there.
    let keys = (steps * 0.2).min(400.0);
    let cache = Cache::new(keys, 0.6, entry, 1.0, Forget::Never).with_fresh(fresh);
    m.plant(
        vec![boxed(cache)],
        Truth::Leak(rate, 0.0),
        "a cache without bound whose keys hold an id",
    )
}

pub(super) fn leak_pool(m: &mut Maker) -> Plant {
    let idle = m.random.between(0.1, 0.6) * HOUR;
    let pool = m.pool(idle);
    let traffic = m.daily();
    let rate = m.rate(0.0, 0.6 * pool.each * pool.busy);
    let loss = Loss::steady(rate, rate * m.frame.step);
    let mut plant = losing(
        m,
        loss,
        vec![boxed(pool)],
        f64::MIN,
        "a pool that follows the day, and a leak that does too",
    );
    if let Traffic::Daily(_, _, weekend) = traffic {
        plant.truth = Truth::Leak(rate * (1.0 - weekend * 2.0 / 7.0), f64::MIN);
    }
    plant.source = Source::new(traffic);
    plant
}

pub(super) fn leak_connections(m: &mut Maker) -> Plant {
    let idle = m.part(0.01, 0.03);
    let mut pool = m.pool(idle);
    let rate = m.rate(0.0, 0.3 * pool.each * pool.busy);
    pool.lost = rate / pool.each;
    let mut plant = m.plant(
        vec![boxed(pool)],
        Truth::Leak(rate, f64::MIN),
        "connections that are never closed",
    );
    plant.age = 0.1 * m.frame.span;
    plant
}

pub(super) fn leak_swapped(m: &mut Maker) -> Plant {
    let rate = m.rate(0.0, 0.2 * m.base);
    let loss = Loss::steady(rate, rate * m.frame.step);
    let mut plant = losing(
        m,
        loss,
        Vec::new(),
        f64::MIN,
        "cold pages are swapped out now and then, and the leak goes on",
    );
    let count = m.random.count(1, 2);
    plant.swapped = m
        .cuts(count, 0.1, 0.6)
        .into_iter()
        .map(|at| (at, m.random.between(0.05, 0.2), 50.0 * m.frame.span))
        .collect();
    plant
}

pub(super) fn leak_accelerating(m: &mut Maker) -> Plant {
    let first = m.rate(0.0, 0.0) * 0.6;
    let mut loss = Loss::steady(first, first * m.frame.step);
    loss.from = 0.0;
    loss.grows = m.random.between(1.0, 4.0) / m.frame.span;
    let now = first * (1.0 + loss.grows * m.frame.span);
    let mut plant = losing(
        m,
        loss,
        Vec::new(),
        0.0,
        "each lost entry makes more work: faster and faster",
    );
    plant.truth = Truth::Leak(now, 0.0);
    plant
}

pub(super) fn leak_beside(m: &mut Maker) -> Plant {
    let follows = Follows {
        bytes: m.of_base(0.1, 0.4),
        lag: m.part(0.001, 0.005),
        level: 1.0,
    };
    let rate = m.rate(0.0, 0.4 * follows.bytes);
    let traffic = m.wander();
    let constant = Independent(Loss::steady(rate, rate * m.frame.step));
    let mut plant = m.plant(
        vec![boxed(follows), boxed(constant)],
        Truth::Leak(rate, f64::MIN),
        "memory follows the load, which is known, and a timer leaks",
    );
    plant.source = Source::new(traffic);
    plant.shows_load = true;
    plant
}

pub(super) fn leak_untrimmed(m: &mut Maker) -> Plant {
    let live = m.of_base(0.1, 0.3);
    let usage = m.heap(live, Trim::Never);
    let rate = m.rate(0.0, live);
    let loss = Loss::steady(rate, rate * m.frame.step);
    let mut plant = losing(
        m,
        loss,
        vec![boxed(Heap::new(usage))],
        f64::MIN,
        "malloc gives nothing back, and a leak goes on",
    );
    plant.source = Source::new(Traffic::Steady);
    plant.age = 0.5 * m.frame.span;
    plant
}

pub(super) fn leak_tide(m: &mut Maker) -> Plant {
    let (traffic, follows) = super::healthy::tidal(m);
    let rate = m.rate(0.0, 0.7 * follows.bytes);
    let loss = Independent(Loss::steady(rate, 4096.0));
    let mut plant = m.plant(
        vec![boxed(follows), boxed(loss)],
        Truth::Leak(rate, 0.0),
        "a leak beside a load that comes every few hours",
    );
    plant.source = Source::new(traffic);
    plant.age = m.frame.span;
    plant
}

pub(super) fn leak_large(m: &mut Maker) -> Plant {
    m.base = m.random.scale(4096.0, 32_768.0) * MIB;
    m.noise = 0.0001;
    let grown = m.random.scale(0.002, 0.01) * m.base;
    let rate = grown.max(12.0 * MIB) / m.frame.span;
    let loss = Loss::steady(rate, 4096.0);
    let mut plant = losing(m, loss, Vec::new(), 0.0, "a small leak of a large process");
    plant.age = 4.0 * m.frame.span;
    plant
}
