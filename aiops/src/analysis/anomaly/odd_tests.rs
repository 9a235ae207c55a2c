//! Odd histories never make nonsense: whatever is found has its time, its size and its rarity, and no figure is
//! anything but a number.

use super::even::Gather;
use super::gather::Cgroup;
use super::gather::Process;
use super::host;
use super::host::Found;
use super::host::Input;
use super::host::Scope;
use super::random::Random;
use super::swap::Moment;
use crate::report::anomaly::AnomalyPoint;

/// Every figure is a number, every anomaly says when, what, how large, how rare.
fn check(input: &Input, what: &str) -> Found {
    let mut last = Found::default();
    for scope in [Scope::System, Scope::Chosen, Scope::All] {
        let found = host::find(input, scope);
        for one in &found.anomalies {
            let known = |figure: Option<f64>| figure.is_none_or(f64::is_finite);
            let rare = [one.rarity.expected_per_day, one.rarity.p];
            assert!(one.value.is_finite(), "{what}: {one:?}");
            assert!(
                one.size_sigmas.is_some_and(f64::is_finite),
                "{what}: {one:?}"
            );
            assert!(rare.iter().any(Option::is_some), "{what}: {one:?}");
            assert!(rare.into_iter().all(known), "{what}: {one:?}");
            assert!(
                known(one.residual_sigmas) && known(one.score),
                "{what}: {one:?}"
            );
            assert!(one.at.len() >= 20, "{what}: {one:?}");
            assert!(
                !one.why.en.is_empty() && !one.why.zh.is_empty(),
                "{what}: {one:?}"
            );
            for moved in &one.also_moved {
                assert!(
                    moved.change_kb.is_finite() && known(moved.size_sigmas),
                    "{what}: {one:?}"
                );
            }
        }
        for series in &found.series {
            assert!(series.points.len() <= 241, "{what}");
            let finite = |pair: &[AnomalyPoint]| {
                pair[0].ts < pair[1].ts && pair.iter().all(|one| one.value.is_finite())
            };
            assert!(series.points.windows(2).all(finite), "{what}: {series:?}");
        }
        last = found;
    }
    last
}

/// A host with these figures at each sample: used, swap, pages each way.
fn moments(times: &[f64], value: impl Fn(usize) -> [f64; 3]) -> Vec<Moment> {
    let mut pages = 0.0;
    let of = |(at, time): (usize, &f64)| {
        let [used, swap, rate] = value(at);
        pages += rate;
        Moment {
            time_s: *time,
            total_kb: Some(32e6),
            used_kb: Some(used),
            swap_kb: Some(swap),
            swapped_in: Some(pages),
            swapped_out: Some(pages),
            refaults: Some(pages),
            full_us: Some(pages * 100.0),
        }
    };
    times.iter().enumerate().map(of).collect()
}

fn process(pid: u32, start: u64, times: &[f64], kb: impl Fn(usize) -> f64) -> Process {
    let span = times[times.len() - 1] - times[0];
    let mut rss = Gather::new(times[0], host::process_step_s(span, 10.0));
    for (at, time) in times.iter().enumerate() {
        rss.add(*time, kb(at));
    }
    let end = kb(times.len() - 1);
    Process {
        pid,
        start,
        comm: "one".to_owned(),
        cgroup: Some("/a/b".to_owned()),
        wanted: true,
        rss: rss.even().expect("samples"),
        span_s: (times[0], times[times.len() - 1]),
        figures: [end, 0.0, 0.0, 0.0],
    }
}

fn input(times: &[f64], moments: Vec<Moment>, processes: Vec<Process>) -> Input {
    Input {
        moments,
        processes,
        start_s: times.first().copied().unwrap_or(0.0),
        page_kb: 4.0,
        interval_s: 10.0,
        ..Input::default()
    }
}

fn every(step: f64, count: u32) -> Vec<f64> {
    (0..count).map(|at| 1.7e9 + f64::from(at) * step).collect()
}

#[test]
fn what_never_moves_is_nothing() {
    let times = every(10.0, 2000);
    let calm = moments(&times, |_| [8e6, 0.0, 0.0]);
    let found = check(
        &input(&times, calm, vec![process(1, 1, &times, |_| 5e5)]),
        "constant",
    );
    assert_eq!(found.anomalies.len(), 0, "{:?}", found.anomalies);
    let zero = moments(&times, |_| [0.0; 3]);
    let found = check(
        &input(&times, zero, vec![process(1, 1, &times, |_| 0.0)]),
        "zero",
    );
    assert_eq!(found.anomalies.len(), 0, "{:?}", found.anomalies);
    // Days of it, so that seasons are looked for.
    let days = every(300.0, 2016);
    let found = check(
        &input(&days, moments(&days, |_| [8e6, 1e6, 0.0]), Vec::new()),
        "days",
    );
    assert_eq!(found.anomalies.len(), 0, "{:?}", found.anomalies);
    // A step between two levels without any noise has a size all the same.
    let step = moments(&days, |at| [if at < 1000 { 8e6 } else { 12e6 }, 0.0, 0.0]);
    let found = check(&input(&days, step, Vec::new()), "step");
    assert_eq!(found.anomalies.len(), 1, "{:?}", found.anomalies);
    assert_eq!(found.anomalies[0].kind, "growth-point");
}

#[test]
fn a_few_samples_are_too_few() {
    for count in [0, 1, 2, 3, 7, 59] {
        let times = every(10.0, count);
        let mut processes = Vec::new();
        if count > 0 {
            processes.push(process(1, 1, &times, |at| at as f64 * 1e5));
        }
        let jump = moments(&times, |at| [if at < 4 { 8e6 } else { 20e6 }, 0.0, 0.0]);
        let found = check(&input(&times, jump, processes), "few");
        assert!(
            found.level_s.is_none() && found.anomalies.is_empty(),
            "{count}: {found:?}"
        );
    }
}

#[test]
fn what_is_unknown_is_left_out() {
    let times = every(10.0, 500);
    let mut some = moments(&times, |at| [8e6 + at as f64, 0.0, 50.0]);
    for (at, one) in some.iter_mut().enumerate() {
        (one.refaults, one.full_us) = (None, None);
        if at % 3 == 0 {
            (one.used_kb, one.swap_kb, one.swapped_in) = (None, None, None);
        }
    }
    check(&input(&times, some.clone(), Vec::new()), "holes");
    for one in &mut some {
        one.total_kb = None;
    }
    check(
        &input(&times, some, vec![process(1, 1, &times, |_| 5e5)]),
        "no total",
    );
}

#[test]
fn restarts_gaps_and_clock_steps_are_borne() {
    let mut random = Random::new(17);
    for round in 0..20 {
        let count = 60 + random.below(700);
        let step = [0.2, 1.0, 10.0, 60.0, 300.0][random.below(5)];
        let mut time = 1.7e9;
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(time);
            time += match random.below(200) {
                0 => step * 400.0,
                1 => -step * 50.0,
                2 => 0.0,
                // A clock that was not set before: years.
                3 if round % 5 == 0 => 1e8,
                _ => step * random.between(0.5, 1.5),
            };
        }
        // As the command does it.
        times.sort_by(f64::total_cmp);
        let (jump, size) = (random.below(count), random.lognormal(2e6, 2.0));
        let noise: Vec<f64> = (0..count).map(|_| random.heavy() * 2e4).collect();
        let busy = random.below(count);
        let value = |at: usize| {
            let grown = if at >= jump { size } else { 0.0 };
            let rate = if at.abs_diff(busy) < 10 { 1e5 } else { 0.0 };
            [
                (8e6 + grown + noise[at]).clamp(0.0, 32e6),
                (noise[at] + 1e5).max(0.0),
                rate,
            ]
        };
        let mut host = moments(&times, value);
        // A reboot sets counters back.
        let reboot = random.below(count);
        for one in &mut host[reboot..] {
            (one.swapped_in, one.swapped_out) = (Some(0.0), Some(0.0));
        }
        let cut = 1 + random.below(count - 1);
        let processes = vec![
            process(7, 1, &times[..cut], |at| 4e5 + noise[at].abs()),
            process(7, 2, &times[cut..], |at| 1e5 + at as f64 * 900.0),
            process(8, 1, &times, |at| if at > jump { 9e5 } else { 2e5 }),
        ];
        let mut input = input(&times, host, processes);
        for (at, measure) in ["anon+swap", "usage"].into_iter().enumerate() {
            let sizes = input.processes[2 * at].rss.clone();
            input.cgroups.push(Cgroup {
                path: "/a".to_owned(),
                measure,
                sizes,
                span_s: (times[0], times[count - 1]),
            });
        }
        check(&input, &format!("round {round}"));
    }
}

#[test]
fn a_cgroup_tells_a_change_once_and_whose_it_is() {
    let times = every(10.0, 2000);
    let mut random = Random::new(4);
    let noise: Vec<f64> = times.iter().map(|_| random.between(0.0, 2e3)).collect();
    let jumped = |at: usize| 4e5 + noise[at] + if at >= 1200 { 6e5 } else { 0.0 };
    let mut outside = process(9, 1, &times, jumped);
    outside.cgroup = Some("/c".to_owned());
    let processes = vec![process(7, 1, &times, jumped), outside];
    let calm = moments(&times, |at| [8e6 + noise[at], 0.0, 0.0]);
    let mut input = input(&times, calm, processes);
    let cache = |at: usize| jumped(at) + if (400..800).contains(&at) { 9e5 } else { 0.0 };
    for (measure, sizes) in [
        ("anon+swap", process(1, 1, &times, jumped).rss),
        ("usage", process(1, 1, &times, cache).rss),
    ] {
        input.cgroups.push(Cgroup {
            path: "/a".to_owned(),
            measure,
            sizes,
            span_s: (times[0], times[1999]),
        });
    }
    let found = check(&input, "cgroup");
    let groups = found
        .anomalies
        .iter()
        .filter(|one| one.subject.what == "cgroup");
    let mut told: Vec<(&str, &str)> = groups
        .clone()
        .map(|one| (one.kind, one.subject.measure.unwrap_or_default()))
        .collect();
    told.sort_unstable();
    // The page cache comes and goes; what the processes hold is told as theirs.
    assert_eq!(
        told,
        [("growth-point", "anon+swap"), ("growth-point", "usage")]
    );
    for one in groups.filter(|one| one.subject.measure == Some("anon+swap")) {
        let pids: Vec<Option<u32>> = one.also_moved.iter().map(|one| one.subject.pid).collect();
        assert_eq!(pids, [Some(7)], "{one:?}");
    }
}
