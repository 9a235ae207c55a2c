//! Swap that is out of the ordinary: a surge of traffic, growth that goes on, thrashing. Pages that lie in
//! swap and are left alone are none.

use super::super::leak;
use super::mad;
use super::median;

/// Traffic below this is no surge.
const SURGE_KB_PER_S: f64 = 1024.0;
/// And it exceeds the median by so many MAD.
const SURGE_SIGMAS: f64 = 8.0;
/// Least spread of traffic that counts.
const QUIET_KB_PER_S: f64 = 64.0;
/// Samples that a state lasts at least.
const LASTS: usize = 3;
/// Samples without it that do not end it.
const PAUSE: usize = 2;
/// Share of time that all tasks waited for memory.
const THRASH_FULL: f64 = 0.01;
/// Pages that come back a second.
const THRASH_PAGES_PER_S: f64 = 32.0;
/// One in so many samples without waiting says what is usual without it.
const CALM: usize = 10;
/// Growth below this is none, KiB an hour.
const SUSTAINED_KB_PER_H: f64 = 1024.0;
/// Standard errors beyond this are as many as can be.
const SIGMAS: f64 = 1000.0;
/// Samples that growth is judged by.
const JUDGED: usize = 2000;

/// A moment of the host; counters since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Seconds since 1970.
    pub time_s: f64,
    /// MemTotal.
    pub total_kb: Option<f64>,
    /// MemTotal less MemAvailable.
    pub used_kb: Option<f64>,
    /// SwapTotal less SwapFree.
    pub swap_kb: Option<f64>,
    /// Pages swapped in.
    pub swapped_in: Option<f64>,
    /// Pages swapped out.
    pub swapped_out: Option<f64>,
    /// Anonymous pages that came back after reclaim.
    pub refaults: Option<f64>,
    /// Time that all tasks waited for memory, µs.
    pub full_us: Option<f64>,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Much more traffic than usual.
    Surge,
    /// What is in swap grows and grows.
    Sustained,
    /// What is swapped out comes back at once, and everybody waits.
    Thrash,
}

/// Something unusual about swap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SwapAnomaly {
    /// Which.
    pub kind: Kind,
    /// First sample, seconds since 1970.
    pub from_s: f64,
    /// Last sample.
    pub to_s: f64,
    /// KiB a second at its height; of sustained growth KiB an hour.
    pub value: f64,
    /// Above the median of the history, in standard deviations (MAD); of sustained growth: the rate in standard
    /// errors. `None`: not known.
    pub sigmas: Option<f64>,
    /// Most of the time that all waited, 0 to 1; `None`: not known.
    pub full: Option<f64>,
    /// Probability that the growth is none; of sustained growth only.
    pub p: Option<f64>,
}

/// How fast counters ran between two moments; `None`: not known, or a reboot.
#[derive(Clone, Copy, Debug)]
struct Rate {
    time_s: f64,
    traffic_kb: Option<f64>,
    swapped_in: Option<f64>,
    refaults: Option<f64>,
    full: Option<f64>,
}

fn rates(moments: &[Moment], page_kb: f64) -> Vec<Rate> {
    let rate = |pair: &[Moment]| {
        let (a, b) = (&pair[0], &pair[1]);
        let seconds = b.time_s - a.time_s;
        let way = |old: Option<f64>, new: Option<f64>| {
            let way = new? - old?;
            (way >= 0.0 && seconds > 0.0).then(|| way / seconds)
        };
        let (into, out) = (
            way(a.swapped_in, b.swapped_in),
            way(a.swapped_out, b.swapped_out),
        );
        Rate {
            time_s: b.time_s,
            traffic_kb: into.zip(out).map(|(into, out)| (into + out) * page_kb),
            swapped_in: into,
            refaults: way(a.refaults, b.refaults),
            full: way(a.full_us, b.full_us).map(|us| us / 1e6),
        }
    };
    moments.windows(2).map(rate).collect()
}

/// Swap traffic, KiB a second, where it is known: time and rate.
#[must_use]
pub fn traffic(moments: &[Moment], page_kb: f64) -> Vec<(f64, f64)> {
    let known = |rate: &Rate| Some((rate.time_s, rate.traffic_kb?));
    rates(moments, page_kb).iter().filter_map(known).collect()
}

/// Ranges of rates that are all of a kind, short pauses included.
fn stretches(rates: &[Rate], is: impl Fn(&Rate) -> bool) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<(std::ops::Range<usize>, usize)> = Vec::new();
    for at in (0..rates.len()).filter(|&at| is(&rates[at])) {
        match found.last_mut() {
            Some((range, count)) if at - range.end <= PAUSE => {
                range.end = at + 1;
                *count += 1;
            }
            _ => found.push((at..at + 1, 1)),
        }
    }
    let long = found.into_iter().filter(|(_, count)| *count >= LASTS);
    // What lasts long may make a longer pause.
    let mut whole: Vec<std::ops::Range<usize>> = Vec::new();
    for (range, _) in long {
        match whole.last_mut() {
            Some(last) if range.start - last.end <= PAUSE + last.len().min(range.len()) / 5 => {
                last.end = range.end;
            }
            _ => whole.push(range),
        }
    }
    whole
}

/// Everything unusual about the swap of a host, in order of kind and time.
#[must_use]
pub fn anomalies(moments: &[Moment], page_kb: f64) -> Vec<SwapAnomaly> {
    let rates = rates(moments, page_kb);
    let traffic: Vec<f64> = rates.iter().filter_map(|rate| rate.traffic_kb).collect();
    let (middle, wide) = (median(&traffic), mad(&traffic).max(QUIET_KB_PER_S));
    let most = |range: &std::ops::Range<usize>, value: &dyn Fn(&Rate) -> Option<f64>| {
        let values = rates[range.clone()].iter().filter_map(value);
        values.fold(None, |most: Option<f64>, value| {
            Some(most.map_or(value, |most| most.max(value)))
        })
    };
    let made = |kind: Kind, range: std::ops::Range<usize>| {
        let value = most(&range, &|rate| rate.traffic_kb).unwrap_or(0.0);
        SwapAnomaly {
            kind,
            from_s: rates[range.start].time_s,
            to_s: rates[range.end - 1].time_s,
            value,
            sigmas: Some((value - middle) / wide),
            full: most(&range, &|rate| rate.full),
            p: None,
        }
    };
    let unusual = |rate: &Rate| {
        let high = |kb: f64| kb > SURGE_KB_PER_S && kb > middle + SURGE_SIGMAS * wide;
        rate.traffic_kb.is_some_and(high)
    };
    let waits = |rate: &Rate| rate.full.is_some_and(|full| full > THRASH_FULL);
    // What comes back while nobody waits is usual; a host that always thrashes has no such time.
    let calm = || rates.iter().filter(|rate| !waits(rate));
    let compared = calm().count() * CALM >= rates.len();
    let column = |value: fn(&Rate) -> Option<f64>| {
        let all: Vec<f64> = calm().filter_map(value).collect();
        let usual = median(&all) + SURGE_SIGMAS * mad(&all);
        if compared {
            usual.max(THRASH_PAGES_PER_S)
        } else {
            THRASH_PAGES_PER_S
        }
    };
    let up = |value: Option<f64>, usual: f64| value.is_some_and(|pages| pages > usual);
    let (into, back) = (column(|rate| rate.swapped_in), column(|rate| rate.refaults));
    let thrashes =
        |rate: &Rate| waits(rate) && up(rate.swapped_in, into) && up(rate.refaults, back);
    let thrash = stretches(&rates, thrashes);
    let surges = stretches(&rates, unusual)
        .into_iter()
        // The same traffic is told once, as what it is.
        .filter(|one| {
            thrash
                .iter()
                .all(|other| one.end <= other.start || other.end <= one.start)
        });
    let mut found: Vec<SwapAnomaly> = surges.map(|range| made(Kind::Surge, range)).collect();
    found.extend(thrash.iter().map(|range| made(Kind::Thrash, range.clone())));
    found.extend(sustained(moments));
    found
}

/// What is in swap grows, by the rules of leaks, and pages went out meanwhile.
fn sustained(moments: &[Moment]) -> Option<SwapAnomaly> {
    let known = moments
        .iter()
        .filter_map(|moment| Some((moment.time_s, moment.swap_kb?, moment.swapped_out?)));
    let known: Vec<(f64, f64, f64)> = known.collect();
    let (first, last) = (known.first()?, known.last()?);
    if last.2 <= first.2 || last.1 <= first.1 {
        return None;
    }
    let every = known.len().div_ceil(JUDGED).max(1);
    let picked = || known.iter().step_by(every);
    let series = leak::Series {
        time_s: picked().map(|one| one.0).collect(),
        bytes: picked().map(|one| one.1 * 1024.0).collect(),
        ..leak::Series::default()
    };
    let found = leak::assess(&series, None);
    let rate = found.rate? * 3600.0 / 1024.0;
    // Of its 95 % interval: how far the rate is from none.
    let sigmas = found.rate_interval.and_then(|(low, high)| {
        let sigma = (high - low) / (2.0 * 1.96) * 3600.0 / 1024.0;
        (sigma > 0.0).then(|| (rate / sigma).min(SIGMAS))
    });
    (found.class == leak::Class::Leak && rate >= SUSTAINED_KB_PER_H).then(|| SwapAnomaly {
        kind: Kind::Sustained,
        from_s: found.onset_s.unwrap_or(first.0),
        to_s: last.0,
        value: rate,
        sigmas,
        full: None,
        p: Some(1.0 - found.probability),
    })
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    /// Six hours of samples, one in 30 s, with these rates (pages in, pages out, refaults, share of waiting).
    fn host(rate: impl Fn(usize) -> [f64; 4], swap_kb: impl Fn(usize) -> f64) -> Vec<Moment> {
        let mut sums = [0.0; 4];
        (0..720)
            .map(|at| {
                for (sum, rate) in sums.iter_mut().zip(rate(at)) {
                    *sum += rate * 30.0;
                }
                Moment {
                    time_s: 1.7e9 + at as f64 * 30.0,
                    swap_kb: Some(swap_kb(at)),
                    swapped_in: Some(sums[0]),
                    swapped_out: Some(sums[1]),
                    refaults: Some(sums[2]),
                    full_us: Some(sums[3] * 1e6),
                    ..Moment::default()
                }
            })
            .collect()
    }

    #[test]
    fn idle_swap_is_no_anomaly() {
        assert_eq!(anomalies(&host(|_| [0.0; 4], |_| 4e6), 4.0), []);
        // Two samples are too short.
        let short = |at| {
            [
                0.0,
                if (300..302).contains(&at) {
                    5000.0
                } else {
                    0.0
                },
                0.0,
                0.0,
            ]
        };
        assert_eq!(anomalies(&host(short, |_| 4e6), 4.0), []);
        assert_eq!(anomalies(&[], 4.0), []);
    }

    #[test]
    fn a_surge_has_its_time_and_height() {
        let rate = |at| {
            [
                0.0,
                if (300..310).contains(&at) {
                    2560.0
                } else {
                    1.0
                },
                0.0,
                0.0,
            ]
        };
        let found = anomalies(&host(rate, |_| 4e6), 4.0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].kind, Kind::Surge);
        assert!((found[0].value - 10_240.0).abs() < 1.0, "{found:?}");
        assert!(
            (found[0].from_s - (1.7e9 + 9000.0)).abs() < 1.0,
            "{found:?}"
        );
    }

    #[test]
    fn thrashing_needs_pages_that_come_back_and_waiting() {
        let busy = |full: f64| {
            move |at: usize| {
                if (300..400).contains(&at) {
                    [900.0, 900.0, 800.0, full]
                } else {
                    [0.0; 4]
                }
            }
        };
        let found = anomalies(&host(busy(0.2), |_| 4e6), 4.0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].kind, Kind::Thrash);
        assert!(found[0].full.is_some_and(|full| (full - 0.2).abs() < 0.01));
        let calm = anomalies(&host(busy(0.001), |_| 4e6), 4.0);
        assert!(calm.iter().all(|one| one.kind == Kind::Surge), "{calm:?}");
    }

    #[test]
    fn growth_that_goes_on_has_its_rate() {
        let mut random = Random::new(3);
        let noise: Vec<f64> = (0..720).map(|_| random.between(-900.0, 900.0)).collect();
        let grows = |at: usize| 100_000.0 + at as f64 * 500.0 + noise[at];
        let found = anomalies(&host(|_| [0.0, 20.0, 0.0, 0.0], grows), 4.0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].kind, Kind::Sustained);
        assert!((found[0].value / 60_000.0 - 1.0).abs() < 0.1, "{found:?}");
        // Nothing goes out: SwapFree shrinks for another reason.
        assert_eq!(anomalies(&host(|_| [0.0; 4], grows), 4.0), []);
    }
}
