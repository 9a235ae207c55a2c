//! The families: processes that are alike in how they use memory, with what is true of them.

use super::heap::Heap;
use super::heap::Trim;
use super::heap::Use;
use super::observe::Frame;
use super::observe::Plant;
use super::observe::Restarts;
use super::observe::Truth;
use super::parts::Arenas;
use super::parts::Buffers;
use super::parts::Cache;
use super::parts::DAY;
use super::parts::Events;
use super::parts::Follows;
use super::parts::Forget;
use super::parts::HOUR;
use super::parts::JobState;
use super::parts::Jobs;
use super::parts::Loss;
use super::parts::MIB;
use super::parts::Part;
use super::parts::Pool;
use super::parts::Queue;
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

const fn frame(span: f64, step: f64) -> Frame {
    Frame { span, step }
}

const ANY: &[Frame] = &[
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
const DAYS: &[Frame] = &[
    frame(3.0 * DAY, 300.0),
    frame(5.0 * DAY, 300.0),
    frame(7.0 * DAY, 300.0),
    frame(14.0 * DAY, 600.0),
    frame(7.0 * DAY, 60.0),
];
/// One day is seen, and a part of the next.
const ONE_DAY: &[Frame] = &[
    frame(24.0 * HOUR, 60.0),
    frame(30.0 * HOUR, 120.0),
    frame(36.0 * HOUR, 120.0),
    frame(44.0 * HOUR, 300.0),
];

/// What makes a process.
pub(super) struct Maker<'a> {
    pub(super) random: &'a mut Random,
    pub(super) frame: Frame,
    base: f64,
    noise: f64,
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

    fn part(&mut self, low: f64, high: f64) -> f64 {
        self.random.between(low, high) * self.frame.span
    }

    /// Bytes as a share of the base.
    fn of_base(&mut self, low: f64, high: f64) -> f64 {
        self.random.scale(low, high) * self.base
    }

    /// Bytes a second of a leak that can be seen from `onset` on, beside other motion of so many bytes.
    fn rate(&mut self, onset: f64, beside: f64) -> f64 {
        let least = (14.0 * self.noise * self.base).max(0.5 * beside);
        let grown = self.of_base(0.06, 1.5).max(least).max(2.0 * MIB);
        grown / (self.frame.span - onset.max(0.0))
    }

    fn plant(&mut self, parts: Vec<Box<dyn Part>>, truth: Truth, why: &'static str) -> Plant {
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

    fn daily(&mut self) -> Traffic {
        let weekend = if self.random.chance(0.3) { 0.35 } else { 0.0 };
        Traffic::Daily(
            self.random.between(0.35, 0.85),
            self.random.between(0.0, std::f64::consts::TAU),
            weekend,
        )
    }

    fn bursty(&mut self) -> Traffic {
        let low = self.random.between(0.1, 0.5);
        let (in_low, in_high) = (self.part(0.01, 0.04), self.part(0.005, 0.02));
        let high = (in_low + in_high - low * in_low) / in_high;
        Traffic::Bursty(low, high, in_low, in_high)
    }

    fn wander(&mut self) -> Traffic {
        let wave = |random: &mut Random, span: f64| {
            (
                random.between(0.08, 0.22),
                random.between(2.0, 9.0) / span,
                random.between(0.0, 6.28),
            )
        };
        let span = self.frame.span;
        Traffic::Wander((0..4).map(|_| wave(self.random, span)).collect())
    }

    /// A heap with this much live memory, `old` of it long-lived.
    fn heap(&mut self, live: f64, trim: Trim) -> Use {
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

    fn collected(&mut self, cycles: f64) -> Collected {
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

    fn jobs(&mut self, runs: f64, duty: f64) -> Jobs {
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

    fn pool(&mut self, idle: f64) -> Pool {
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

    fn cuts(&mut self, count: usize, low: f64, high: f64) -> Vec<f64> {
        let mut cuts: Vec<f64> = (0..count).map(|_| self.part(low, high)).collect();
        cuts.sort_unstable_by(f64::total_cmp);
        cuts
    }
}

fn boxed(part: impl Part + 'static) -> Box<dyn Part> {
    Box::new(part)
}

/// All families.
pub(super) const FAMILIES: &[Family] = &[
    // Without a leak.
    Family {
        name: "service",
        frames: ANY,
        make: service,
    },
    Family {
        name: "service_fresh",
        frames: ANY,
        make: service_fresh,
    },
    Family {
        name: "heap_untrimmed",
        frames: ANY,
        make: heap_untrimmed,
    },
    Family {
        name: "buffers_heavy_tail",
        frames: ANY,
        make: buffers,
    },
    Family {
        name: "queue_backlog",
        frames: ANY,
        make: queue,
    },
    Family {
        name: "cache_lru",
        frames: ANY,
        make: cache_lru,
    },
    Family {
        name: "cache_ttl_daily",
        frames: DAYS,
        make: cache_ttl,
    },
    Family {
        name: "cache_ttl_one_day",
        frames: ONE_DAY,
        make: cache_ttl,
    },
    Family {
        name: "pool_daily",
        frames: DAYS,
        make: pool_daily,
    },
    Family {
        name: "pool_one_day",
        frames: ONE_DAY,
        make: pool_daily,
    },
    Family {
        name: "pool_bursty",
        frames: ANY,
        make: pool_bursty,
    },
    Family {
        name: "pool_arenas_capped",
        frames: ANY,
        make: arenas_capped,
    },
    Family {
        name: "gc_used",
        frames: ANY,
        make: gc_used,
    },
    Family {
        name: "gc_few_cycles",
        frames: ANY,
        make: gc_few,
    },
    Family {
        name: "gc_warm_up",
        frames: ANY,
        make: gc_warm,
    },
    Family {
        name: "gc_committed",
        frames: ANY,
        make: gc_committed,
    },
    Family {
        name: "gc_scavenged_daily",
        frames: DAYS,
        make: gc_scavenged,
    },
    Family {
        name: "jobs_narrow",
        frames: ANY,
        make: jobs_narrow,
    },
    Family {
        name: "jobs_wide",
        frames: ANY,
        make: jobs_wide,
    },
    Family {
        name: "jobs_nightly",
        frames: DAYS,
        make: jobs_nightly,
    },
    Family {
        name: "jobs_retained",
        frames: ANY,
        make: jobs_retained,
    },
    Family {
        name: "deploys",
        frames: ANY,
        make: deploys,
    },
    Family {
        name: "deploys_restart",
        frames: ANY,
        make: deploys_restart,
    },
    Family {
        name: "one_off_import",
        frames: ANY,
        make: one_off,
    },
    Family {
        name: "lazy_features",
        frames: ANY,
        make: lazy,
    },
    Family {
        name: "swap_out",
        frames: ANY,
        make: swap_out,
    },
    Family {
        name: "crash_loop_warm_up",
        frames: ANY,
        make: crash_loop,
    },
    Family {
        name: "follows_load",
        frames: ANY,
        make: follows_load,
    },
    // With one.
    Family {
        name: "leak_per_request",
        frames: ANY,
        make: leak_request,
    },
    Family {
        name: "leak_per_request_daily",
        frames: DAYS,
        make: leak_daily,
    },
    Family {
        name: "leak_bursty_traffic",
        frames: ANY,
        make: leak_bursty,
    },
    Family {
        name: "leak_stop_and_go",
        frames: ANY,
        make: leak_stop_go,
    },
    Family {
        name: "leak_jobs",
        frames: ANY,
        make: leak_jobs,
    },
    Family {
        name: "leak_jobs_wide",
        frames: ANY,
        make: leak_jobs_wide,
    },
    Family {
        name: "leak_arenas",
        frames: ANY,
        make: leak_arenas,
    },
    Family {
        name: "leak_threads",
        frames: ANY,
        make: leak_threads,
    },
    Family {
        name: "leak_gc",
        frames: ANY,
        make: leak_gc,
    },
    Family {
        name: "leak_gc_few_cycles",
        frames: ANY,
        make: leak_gc_few,
    },
    Family {
        name: "leak_gc_growing_teeth",
        frames: ANY,
        make: leak_gc_growing,
    },
    Family {
        name: "leak_gc_committed",
        frames: ANY,
        make: leak_gc_committed,
    },
    Family {
        name: "leak_killed",
        frames: ANY,
        make: leak_killed,
    },
    Family {
        name: "leak_through_restarts",
        frames: ANY,
        make: leak_through,
    },
    Family {
        name: "leak_many_lives",
        frames: ANY,
        make: leak_lives,
    },
    Family {
        name: "leak_after_deploy",
        frames: ANY,
        make: leak_deploy,
    },
    Family {
        name: "leak_midway",
        frames: ANY,
        make: leak_midway,
    },
    Family {
        name: "leak_after_warm_up",
        frames: ANY,
        make: leak_warm,
    },
    Family {
        name: "leak_unbounded_cache",
        frames: ANY,
        make: leak_cache,
    },
    Family {
        name: "leak_pool_daily",
        frames: DAYS,
        make: leak_pool,
    },
    Family {
        name: "leak_connections",
        frames: ANY,
        make: leak_connections,
    },
    Family {
        name: "leak_swapped",
        frames: ANY,
        make: leak_swapped,
    },
    Family {
        name: "leak_accelerating",
        frames: ANY,
        make: leak_accelerating,
    },
    Family {
        name: "leak_beside_load",
        frames: ANY,
        make: leak_beside,
    },
    Family {
        name: "leak_untrimmed_heap",
        frames: ANY,
        make: leak_untrimmed,
    },
    // Not to be told from the series alone.
    Family {
        name: "open_zipf_filling",
        frames: ANY,
        make: open_zipf,
    },
    Family {
        name: "open_two_jobs_lost",
        frames: ANY,
        make: open_two,
    },
    Family {
        name: "open_rising_flank",
        frames: &[frame(6.0 * HOUR, 30.0)],
        make: open_flank,
    },
];

// ---- without a leak

fn service(m: &mut Maker) -> Plant {
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

fn service_fresh(m: &mut Maker) -> Plant {
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

fn heap_untrimmed(m: &mut Maker) -> Plant {
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

fn buffers(m: &mut Maker) -> Plant {
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

fn queue(m: &mut Maker) -> Plant {
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

fn cache_lru(m: &mut Maker) -> Plant {
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

fn cache_ttl(m: &mut Maker) -> Plant {
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

fn pool_daily(m: &mut Maker) -> Plant {
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

fn pool_bursty(m: &mut Maker) -> Plant {
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

fn arenas_capped(m: &mut Maker) -> Plant {
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

fn gc_used(m: &mut Maker) -> Plant {
    let cycles = m.random.scale(12.0, 80.0);
    let heap = m.collected(cycles);
    m.plant(
        vec![boxed(heap)],
        Truth::NoLeak,
        "a collected heap, the same live data all the time",
    )
}

fn gc_few(m: &mut Maker) -> Plant {
    let cycles = m.random.between(3.6, 8.0);
    let heap = m.collected(cycles);
    m.plant(
        vec![boxed(heap)],
        Truth::NoLeak,
        "a collected heap with few full collections",
    )
}

fn gc_warm(m: &mut Maker) -> Plant {
    let cycles = m.random.scale(20.0, 80.0);
    let mut heap = m.collected(cycles);
    heap.live = (0.3 * heap.live.1, heap.live.1, m.part(0.04, 0.16));
    m.plant(
        vec![boxed(heap)],
        Truth::NoLeak,
        "a collected heap, live data warm up",
    )
}

fn gc_committed(m: &mut Maker) -> Plant {
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

fn gc_scavenged(m: &mut Maker) -> Plant {
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

fn jobs_narrow(m: &mut Maker) -> Plant {
    let (runs, duty) = (m.random.scale(6.0, 40.0), m.random.between(0.05, 0.2));
    let jobs = m.jobs(runs, duty);
    m.plant(
        vec![boxed(jobs)],
        Truth::NoLeak,
        "jobs that give their memory back",
    )
}

fn jobs_wide(m: &mut Maker) -> Plant {
    let (runs, duty) = (m.random.scale(4.0, 14.0), m.random.between(0.3, 0.6));
    let jobs = m.jobs(runs, duty);
    m.plant(
        vec![boxed(jobs)],
        Truth::NoLeak,
        "long jobs that give their memory back",
    )
}

fn jobs_nightly(m: &mut Maker) -> Plant {
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

fn jobs_retained(m: &mut Maker) -> Plant {
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

fn deploys(m: &mut Maker) -> Plant {
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

fn deploys_restart(m: &mut Maker) -> Plant {
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

fn one_off(m: &mut Maker) -> Plant {
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

fn lazy(m: &mut Maker) -> Plant {
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

fn swap_out(m: &mut Maker) -> Plant {
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

/// Warms up in each life.
struct Warm {
    bytes: f64,
    tau: f64,
    age: f64,
}

impl Part for Warm {
    fn step(&mut self, env: &super::parts::Env, _: &mut Random) -> f64 {
        self.age += env.dt;
        self.bytes * (1.0 - (-self.age / self.tau).exp())
    }

    fn restart(&mut self) {
        self.age = 0.0;
    }
}

fn crash_loop(m: &mut Maker) -> Plant {
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

fn follows_load(m: &mut Maker) -> Plant {
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

// ---- with a leak

/// A service that loses, and nothing else.
fn losing(
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

fn leak_request(m: &mut Maker) -> Plant {
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

fn leak_daily(m: &mut Maker) -> Plant {
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

fn leak_bursty(m: &mut Maker) -> Plant {
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
    plant.source = Source::new(traffic);
    plant
}

fn leak_stop_go(m: &mut Maker) -> Plant {
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

fn leak_jobs(m: &mut Maker) -> Plant {
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

fn leak_jobs_wide(m: &mut Maker) -> Plant {
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

fn leak_arenas(m: &mut Maker) -> Plant {
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

fn leak_threads(m: &mut Maker) -> Plant {
    let rate = m.rate(0.0, 0.0);
    let loss = Loss::steady(rate, rate * m.frame.span / m.random.scale(20.0, 60.0));
    losing(
        m,
        loss,
        Vec::new(),
        f64::MIN,
        "threads that never end, each with its stack and arena, at random times",
    )
}

fn gc_leak(m: &mut Maker, cycles: f64, why: &'static str) -> Plant {
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

fn leak_gc(m: &mut Maker) -> Plant {
    let cycles = m.random.scale(14.0, 80.0);
    gc_leak(m, cycles, "live data of a collected heap grow")
}

fn leak_gc_few(m: &mut Maker) -> Plant {
    let cycles = m.random.between(7.0, 13.0);
    gc_leak(
        m,
        cycles,
        "live data of a collected heap grow, few full collections",
    )
}

fn leak_gc_growing(m: &mut Maker) -> Plant {
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

fn leak_gc_committed(m: &mut Maker) -> Plant {
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

fn leak_killed(m: &mut Maker) -> Plant {
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

fn leak_through(m: &mut Maker) -> Plant {
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

fn leak_lives(m: &mut Maker) -> Plant {
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

fn leak_deploy(m: &mut Maker) -> Plant {
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

fn leak_midway(m: &mut Maker) -> Plant {
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

fn leak_warm(m: &mut Maker) -> Plant {
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

fn leak_cache(m: &mut Maker) -> Plant {
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

fn leak_pool(m: &mut Maker) -> Plant {
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

fn leak_connections(m: &mut Maker) -> Plant {
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

fn leak_swapped(m: &mut Maker) -> Plant {
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

fn leak_accelerating(m: &mut Maker) -> Plant {
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

fn leak_beside(m: &mut Maker) -> Plant {
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

/// A leak that the load does not drive.
struct Independent(Loss);

impl Part for Independent {
    fn step(&mut self, env: &super::parts::Env, random: &mut Random) -> f64 {
        self.0
            .step(&super::parts::Env { load: 1.0, ..*env }, random)
    }
}

fn leak_untrimmed(m: &mut Maker) -> Plant {
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

// ---- not to be told

fn open_zipf(m: &mut Maker) -> Plant {
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

fn open_two(m: &mut Maker) -> Plant {
    let cuts = m.cuts(2, 0.15, 0.85);
    let each = m.of_base(0.1, 0.3);
    let steps = Events(cuts.into_iter().map(|at| (at, each, 0.0)).collect());
    m.plant(
        vec![boxed(steps)],
        Truth::Open,
        "two equal steps and nothing since",
    )
}

fn open_flank(m: &mut Maker) -> Plant {
    let pool = m.pool(0.2 * HOUR);
    let mut plant = m.plant(vec![boxed(pool)], Truth::Open, "a quarter of a day, rising");
    plant.source = Source::new(Traffic::Daily(0.7, -0.8, 0.0));
    plant
}
