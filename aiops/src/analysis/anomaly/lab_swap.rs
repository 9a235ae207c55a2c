//! Hosts with known events of swap, made from mechanisms, and how often [`super::swap`] is right about them. The
//! table of docs/accuracy.md is what the test prints (`--nocapture`).

use std::collections::BTreeMap;

use super::lab_tests::Score;
use super::lab_tests::seeds;
use super::random::Random;
use super::swap;
use super::swap::Kind;
use super::swap::Moment;

const MIB: f64 = 1024.0;
const GIB: f64 = 1024.0 * MIB;
const PAGE_KB: f64 = 4.0;
/// Hosts of a seed.
const HOSTS: u64 = 120;
/// Steps without anything between two events.
const APART: usize = 25;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
struct Label {
    kind: Kind,
    from_s: f64,
    to_s: f64,
    /// KiB an hour, of sustained growth.
    rate: f64,
}

/// A host and what is to be found.
#[derive(Clone, Debug, Default)]
struct Host {
    moments: Vec<Moment>,
    labels: Vec<Label>,
    step_s: f64,
    /// What its swap does when nothing happens.
    family: &'static str,
}

/// What goes on during a step, a second: pages in, pages out, refaults, share of time that all wait.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    into: f64,
    out: f64,
    refaults: f64,
    full: f64,
    /// What more lies in swap at its end, KiB.
    kept_kb: f64,
}

/// Places for events: each has the steps for itself.
struct Places {
    taken: Vec<(usize, usize)>,
    steps: usize,
}

impl Places {
    fn find(&mut self, random: &mut Random, length: usize) -> Option<usize> {
        let room = self.steps.checked_sub(length + 2 * APART)?;
        for _ in 0..20 {
            let at = APART + random.below(room);
            let free = |(from, to): &(usize, usize)| at + length + APART < *from || to + APART < at;
            if self.taken.iter().all(free) {
                self.taken.push((at, at + length));
                return Some(at);
            }
        }
        None
    }
}

/// The quiet traffic of a host: none, a trickle, or a compressed swap that always works (KiB a second).
fn background(random: &mut Random) -> (f64, f64) {
    match random.below(5) {
        0 | 1 => (0.0, 0.0),
        2 | 3 => (0.1, random.lognormal(40.0, 0.6)),
        _ => (1.0, random.lognormal(800.0, 0.8).clamp(100.0, 4000.0)),
    }
}

/// A host of this seed.
#[expect(clippy::too_many_lines, reason = "one mechanism after the other")]
fn host(seed: u64) -> Host {
    let random = &mut Random::new(seed);
    let (step_s, hours) =
        [(10.0, 8.0), (30.0, 24.0), (60.0, 24.0), (300.0, 168.0)][random.below(4)];
    let steps = super::whole(hours * 3600.0 / step_s);
    let begin = 1_709_251_200.0;
    let capacity = random.between(16.0, 128.0) * GIB;
    let (share, usual) = background(random);
    let mut flows = vec![Flow::default(); steps];
    let mut places = Places {
        taken: Vec::new(),
        steps,
    };
    let mut labels = Vec::new();
    let label = |kind, from: usize, to: usize| Label {
        kind,
        from_s: begin + from as f64 * step_s,
        to_s: begin + to as f64 * step_s,
        rate: 0.0,
    };
    for flow in &mut flows {
        if random.chance(share) {
            let pages = usual * random.lognormal(1.0, 0.4) / PAGE_KB;
            flow.into = pages * 0.5;
            flow.out = pages * 0.5;
            flow.refaults = pages * 0.3;
            flow.full = random.lognormal(0.0008, 0.5).min(0.004);
        }
    }

    // Thrashing: what goes out comes back, and everybody waits.
    let always = random.chance(0.04);
    let phases = if always { 1 } else { random.below(3) };
    for _ in 0..phases {
        let most = if always { steps } else { 4 + random.below(120) };
        let at = if always {
            Some(0)
        } else {
            places.find(random, most)
        };
        let Some(at) = at else { continue };
        if always {
            places.taken.push((0, steps));
        }
        let pages = random.lognormal(3000.0, 1.0).clamp(400.0, 30_000.0);
        let back = random.between(0.7, 0.98);
        let waits = random.lognormal(0.15, 0.7).clamp(0.04, 0.7);
        for flow in &mut flows[at..at + most] {
            // Now and then the disk, or the one who wants memory, makes a pause.
            let much = if random.chance(0.08) {
                0.03
            } else {
                random.lognormal(1.0, 0.5)
            };
            flow.into += pages * much;
            flow.out += pages * much * random.between(0.9, 1.1);
            flow.refaults += pages * much * back;
            flow.full += (waits * much).min(0.95);
        }
        labels.push(label(Kind::Thrash, at, at + most));
    }
    // Much traffic for a while: cold memory goes out once, or comes back without anybody waiting for long.
    for _ in 0..random.below(4) {
        let kb = random
            .lognormal(3.0 * GIB, 0.9)
            .clamp(0.2 * GIB, 12.0 * GIB);
        let least = (4.0 * MIB).max(12.0 * usual * share);
        let longest = super::whole(kb / (least * step_s)).min(60);
        if longest < 5 {
            continue;
        }
        let length = 5 + random.below(longest - 4);
        let Some(at) = places.find(random, length) else {
            continue;
        };
        let pages = kb / (length as f64 * step_s) / PAGE_KB;
        let returns = random.chance(0.35);
        for flow in &mut flows[at..at + length] {
            let much = pages * random.lognormal(1.0, 0.4);
            if returns {
                flow.into += much;
                flow.kept_kb -= much * step_s * PAGE_KB;
                flow.refaults += much * random.between(0.6, 0.95);
                flow.full += random.lognormal(0.002, 0.5).min(0.006);
            } else {
                flow.out += much;
                flow.kept_kb += much * step_s * PAGE_KB;
                flow.full += random.lognormal(0.001, 0.8).min(0.006);
            }
        }
        labels.push(label(Kind::Surge, at, at + length));
    }
    // Normal: one or two samples of traffic, files that thrash without swap, processes that end.
    for _ in 0..random.below(5) {
        let length = 1 + random.below(2);
        let Some(at) = places.find(random, length) else {
            continue;
        };
        for flow in &mut flows[at..at + length] {
            flow.out += random.between(2.0, 50.0) * MIB / PAGE_KB;
        }
    }
    if random.chance(0.25) {
        let length = 10 + random.below(60);
        if let Some(at) = places.find(random, length) {
            let waits = random.between(0.05, 0.4);
            for flow in &mut flows[at..at + length] {
                flow.full += waits * random.lognormal(1.0, 0.3);
            }
        }
    }

    // What lies in swap, and whether it grows.
    let idle = random.between(0.0, 0.2) * capacity;
    let noise = random.lognormal(2.0 * MIB, 1.0).min(20.0 * MIB);
    let span_h = steps as f64 * step_s / 3600.0;
    let course = random.below(10);
    let onset = random.between(0.0, 0.4);
    let grows = random.lognormal(150.0, 1.0) * MIB;
    let size_kb = (grows * span_h).clamp((15.0 * noise).max(100.0 * MIB), 0.3 * capacity);
    let grows = size_kb / span_h;
    let family = match course {
        0..3 if !always => {
            labels.push(Label {
                rate: grows,
                ..label(Kind::Sustained, super::whole(onset * steps as f64), steps)
            });
            "grows"
        }
        3 => "levels off",
        4 => "comes and goes",
        5 => "ends",
        _ => "idle",
    };
    let gap = random.chance(0.2).then(|| {
        let from = random.below(steps * 3 / 4);
        from..from + steps / 40
    });
    let reboot = (random.chance(0.1) && family != "grows").then(|| random.below(steps));
    let ends = (family == "ends").then(|| random.below(steps));
    let turns = random.between(3.0, 6.0);
    let warm = random.between(0.04, 0.12);

    // Reclaim works by batches: what grows is moved when it has become some.
    let batch = grows * random.between(0.05, 0.4);
    let (mut sums, mut left, mut moved, mut bumpy) = ([0.0; 4], 0.0, 0.0, 0.0);
    let mut host = Host {
        step_s,
        family,
        labels,
        moments: Vec::new(),
    };
    for (at, flow) in flows.iter_mut().enumerate() {
        let part = at as f64 / steps as f64;
        let mut level = idle;
        let mut owed = moved;
        match family {
            "grows" => owed = (part - onset).max(0.0) * size_kb,
            "levels off" => level += size_kb * (1.0 - (-part / warm).exp()),
            "comes and goes" => {
                level += size_kb * (0.5 - 0.5 * (std::f64::consts::TAU * part * turns).cos());
            }
            _ => {}
        }
        if owed - moved > batch * random.between(0.5, 1.5) {
            flow.out += (owed - moved) / PAGE_KB / step_s * random.between(1.0, 1.3);
            moved = owed;
        }
        // Processes end: what they had in swap is free, and no traffic tells of it.
        let freed = if ends == Some(at) {
            left + 0.5 * idle
        } else {
            0.0
        };
        left = (left + flow.kept_kb - freed).max(-level);
        bumpy = 0.8 * bumpy + 0.6 * noise * random.heavy();
        let rates = [flow.into, flow.out, flow.refaults, flow.full * 1e6];
        if reboot == Some(at) {
            (sums, left) = ([0.0; 4], -level);
        }
        for (sum, rate) in sums.iter_mut().zip(rates) {
            *sum += (rate * step_s).round();
        }
        if gap.as_ref().is_some_and(|gap| gap.contains(&at)) {
            continue;
        }
        let in_swap = level + moved + left + bumpy;
        host.moments.push(Moment {
            time_s: begin + at as f64 * step_s + random.between(-0.02, 0.02) * step_s,
            total_kb: Some(64.0 * GIB),
            used_kb: Some(32.0 * GIB),
            swap_kb: Some(in_swap.clamp(0.0, capacity)),
            swapped_in: Some(sums[0]),
            swapped_out: Some(sums[1]),
            refaults: Some(sums[2]),
            full_us: Some(sums[3]),
        });
    }
    host
}

/// Samples that a beginning may be off, or this share of the length of an event.
const OFF: f64 = 5.0;
const OFF_SHARE: f64 = 0.25;

/// What was found of one kind: each label once; a second part of the same event is wrong.
fn judge(host: &Host, found: &[swap::SwapAnomaly], kind: Kind) -> (Score, Vec<f64>) {
    let mut open: Vec<&swap::SwapAnomaly> = found.iter().filter(|one| one.kind == kind).collect();
    let (mut score, mut rates) = (Score::default(), Vec::new());
    for label in host.labels.iter().filter(|one| one.kind == kind) {
        let length = label.to_s - label.from_s;
        let off = (OFF * host.step_s).max(OFF_SHARE * length);
        let same = |one: &&swap::SwapAnomaly| {
            // When growth began is seen only after a while.
            kind == Kind::Sustained
                || (one.from_s - label.from_s).abs() <= off && one.from_s < label.to_s
        };
        match open.iter().position(same) {
            Some(place) => {
                rates.push(open.remove(place).value / label.rate.max(1.0));
                score.right += 1.0;
            }
            None => score.missed += 1.0,
        }
    }
    score.wrong = open.len() as f64;
    let ends = host.moments.first().zip(host.moments.last());
    score.days = ends.map_or(0.0, |(first, last)| (last.time_s - first.time_s) / 86_400.0);
    (score, rates)
}

#[test]
fn events_of_swap_are_found() {
    let mut all: BTreeMap<&str, Score> = BTreeMap::new();
    let mut rates: Vec<f64> = Vec::new();
    for seed in seeds("1") {
        for at in 0..HOSTS {
            let host = host(seed * 1000 + at);
            let found = swap::anomalies(&host.moments, PAGE_KB);
            for (name, kind) in [
                ("surge", Kind::Surge),
                ("sustained", Kind::Sustained),
                ("thrash", Kind::Thrash),
            ] {
                let (score, ratio) = judge(&host, &found, kind);
                all.entry(name).or_default().add(score);
                if kind == Kind::Sustained {
                    rates.extend(ratio);
                }
                if std::env::var_os("AIOPS_LAB_SHOW").is_some()
                    && (score.wrong > 0.0 || score.missed > 0.0)
                {
                    let begin = host.moments[0].time_s;
                    let show = |from: f64, to: f64| {
                        ((from - begin) / host.step_s, (to - begin) / host.step_s)
                    };
                    println!("{seed} {at} {name} {} step {}", host.family, host.step_s);
                    for one in &host.labels {
                        println!(
                            "   label {:?} {:?} {:.0}",
                            one.kind,
                            show(one.from_s, one.to_s),
                            one.rate
                        );
                    }
                    for one in &found {
                        println!(
                            "   found {:?} {:?} {one:?}",
                            one.kind,
                            show(one.from_s, one.to_s)
                        );
                    }
                }
            }
        }
    }
    println!("| kind | events | precision | recall | false a day |\n|---|---:|---:|---:|---:|");
    for (name, score) in &all {
        println!(
            "| {name} | {} | {:.2} | {:.2} | {:.3} |",
            score.right + score.missed,
            score.precision(),
            score.recall(),
            score.wrong / score.days
        );
    }
    let near = rates
        .iter()
        .filter(|ratio| (**ratio - 1.0).abs() <= 0.25)
        .count();
    println!("rates within 25 %: {near} of {}", rates.len());
    for (name, score) in &all {
        assert!(
            score.precision() >= 0.9 && score.recall() >= 0.8,
            "{name}: {score:?}"
        );
    }
}
