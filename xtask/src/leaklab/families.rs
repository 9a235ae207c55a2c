//! The families: processes that are alike in how they use memory.

use super::healthy;
use super::leaky;
use super::maker::ANY;
use super::maker::DAYS;
use super::maker::Family;
use super::maker::ONE_DAY;
use super::maker::frame;
use super::open;
use super::parts::HOUR;

/// All families.
#[rustfmt::skip] // one family, one line
pub(super) const FAMILIES: &[Family] = &[
    // Without a leak.
    Family { name: "service", frames: ANY, make: healthy::service },
    Family { name: "service_fresh", frames: ANY, make: healthy::service_fresh },
    Family { name: "heap_untrimmed", frames: ANY, make: healthy::heap_untrimmed },
    Family { name: "buffers_heavy_tail", frames: ANY, make: healthy::buffers },
    Family { name: "queue_backlog", frames: ANY, make: healthy::queue },
    Family { name: "cache_lru", frames: ANY, make: healthy::cache_lru },
    Family { name: "cache_ttl_daily", frames: DAYS, make: healthy::cache_ttl },
    Family { name: "cache_ttl_one_day", frames: ONE_DAY, make: healthy::cache_ttl },
    Family { name: "pool_daily", frames: DAYS, make: healthy::pool_daily },
    Family { name: "pool_one_day", frames: ONE_DAY, make: healthy::pool_daily },
    Family { name: "pool_bursty", frames: ANY, make: healthy::pool_bursty },
    Family { name: "pool_arenas_capped", frames: ANY, make: healthy::arenas_capped },
    Family { name: "gc_used", frames: ANY, make: healthy::gc_used },
    Family { name: "gc_few_cycles", frames: ANY, make: healthy::gc_few },
    Family { name: "gc_warm_up", frames: ANY, make: healthy::gc_warm },
    Family { name: "gc_committed", frames: ANY, make: healthy::gc_committed },
    Family { name: "gc_scavenged_daily", frames: DAYS, make: healthy::gc_scavenged },
    Family { name: "jobs_narrow", frames: ANY, make: healthy::jobs_narrow },
    Family { name: "jobs_wide", frames: ANY, make: healthy::jobs_wide },
    Family { name: "jobs_nightly", frames: DAYS, make: healthy::jobs_nightly },
    Family { name: "jobs_retained", frames: ANY, make: healthy::jobs_retained },
    Family { name: "deploys", frames: ANY, make: healthy::deploys },
    Family { name: "deploys_restart", frames: ANY, make: healthy::deploys_restart },
    Family { name: "one_off_import", frames: ANY, make: healthy::one_off },
    Family { name: "lazy_features", frames: ANY, make: healthy::lazy },
    Family { name: "swap_out", frames: ANY, make: healthy::swap_out },
    Family { name: "crash_loop_warm_up", frames: ANY, make: healthy::crash_loop },
    Family { name: "follows_load", frames: ANY, make: healthy::follows_load },
    Family { name: "level_wanders", frames: ANY, make: healthy::wanders },
    Family { name: "tide", frames: ANY, make: healthy::tide },
    Family { name: "buffer_flushed", frames: ANY, make: healthy::buffer_flushed },
    Family { name: "warm_up_three_constants", frames: ANY, make: healthy::warm_slow },
    // With one.
    Family { name: "leak_per_request", frames: ANY, make: leaky::leak_request },
    Family { name: "leak_per_request_daily", frames: DAYS, make: leaky::leak_daily },
    Family { name: "leak_bursty_traffic", frames: ANY, make: leaky::leak_bursty },
    Family { name: "leak_stop_and_go", frames: ANY, make: leaky::leak_stop_go },
    Family { name: "leak_jobs", frames: ANY, make: leaky::leak_jobs },
    Family { name: "leak_jobs_wide", frames: ANY, make: leaky::leak_jobs_wide },
    Family { name: "leak_arenas", frames: ANY, make: leaky::leak_arenas },
    Family { name: "leak_threads", frames: ANY, make: leaky::leak_threads },
    Family { name: "leak_gc", frames: ANY, make: leaky::leak_gc },
    Family { name: "leak_gc_few_cycles", frames: ANY, make: leaky::leak_gc_few },
    Family { name: "leak_gc_growing_teeth", frames: ANY, make: leaky::leak_gc_growing },
    Family { name: "leak_gc_committed", frames: ANY, make: leaky::leak_gc_committed },
    Family { name: "leak_killed", frames: ANY, make: leaky::leak_killed },
    Family { name: "leak_through_restarts", frames: ANY, make: leaky::leak_through },
    Family { name: "leak_many_lives", frames: ANY, make: leaky::leak_lives },
    Family { name: "leak_after_deploy", frames: ANY, make: leaky::leak_deploy },
    Family { name: "leak_midway", frames: ANY, make: leaky::leak_midway },
    Family { name: "leak_after_warm_up", frames: ANY, make: leaky::leak_warm },
    Family { name: "leak_unbounded_cache", frames: ANY, make: leaky::leak_cache },
    Family { name: "leak_pool_daily", frames: DAYS, make: leaky::leak_pool },
    Family { name: "leak_connections", frames: ANY, make: leaky::leak_connections },
    Family { name: "leak_swapped", frames: ANY, make: leaky::leak_swapped },
    Family { name: "leak_accelerating", frames: ANY, make: leaky::leak_accelerating },
    Family { name: "leak_beside_load", frames: ANY, make: leaky::leak_beside },
    Family { name: "leak_untrimmed_heap", frames: ANY, make: leaky::leak_untrimmed },
    Family { name: "leak_tide", frames: ANY, make: leaky::leak_tide },
    Family { name: "leak_large_process", frames: ANY, make: leaky::leak_large },
    // Not to be told from the series alone.
    Family { name: "open_one_flush", frames: ANY, make: open::open_flush },
    Family { name: "open_zipf_filling", frames: ANY, make: open::open_zipf },
    Family { name: "open_two_jobs_lost", frames: ANY, make: open::open_two },
    Family { name: "open_slow_wandering", frames: ANY, make: open::open_wanders },
    Family { name: "open_rising_flank", frames: &[frame(6.0 * HOUR, 30.0)], make: open::open_flank },
];
