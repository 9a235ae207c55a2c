//! Hosts whose memory goes to other levels at known times, and how often [`super::host`] tells it. The tables of
//! docs/accuracy.md are what the test prints (`--nocapture`).

use std::collections::BTreeMap;

use super::host;
use super::host::Input;
use super::host::Scope;
use super::lab_tests::Score;
use super::lab_tests::seeds;
use super::random::Random;
use super::swap::Moment;

const DAY_S: f64 = 86_400.0;
const HOUR_S: f64 = 3600.0;
/// Hosts of a seed.
const HOSTS: u64 = 60;

/// A change of level.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// Where it begins, seconds since 1970.
    from_s: f64,
    /// Where the new level is reached.
    to_s: f64,
    /// KiB, below 0 where it falls.
    size_kb: f64,
}

/// A host and its changes.
#[derive(Clone, Debug)]
struct Host {
    input: Input,
    changes: Vec<Change>,
    family: &'static str,
    window_s: f64,
}

impl Change {
    fn kind(&self) -> &'static str {
        match (self.to_s - self.from_s > HOUR_S, self.size_kb > 0.0) {
            (false, true) => "sharp rise",
            (false, false) => "sharp fall",
            (true, true) => "slow rise",
            (true, false) => "slow fall",
        }
    }
}

/// A host of this seed: a week in steps of 5 minutes, three weeks in steps of 10, or a day in steps of one.
fn host(seed: u64) -> Host {
    let random = &mut Random::new(seed);
    let (days, step_s) = [(7.0, 300.0), (7.0, 300.0), (21.0, 600.0), (1.0, 60.0)][random.below(4)];
    let begin = 1_709_251_200.0 + random.below(7) as f64 * DAY_S;
    let (span, total) = (days * DAY_S, random.between(8.0, 256.0) * 1024.0 * 1024.0);
    let window_s = (span / 10.0).min(HOUR_S);
    let families = [
        "no season",
        "steady leak",
        "random walk",
        "daily wave",
        "office hours",
    ];
    // In a single day nobody could tell the course of every day from a change.
    let family = families[random.below(if days > 1.0 { 5 } else { 3 })];
    let noise = total * random.lognormal(0.002, 0.7).clamp(0.0004, 0.006);
    let phi = [0.0, 0.5, 0.8, 0.9][random.below(4)];
    let heavy = random.chance(0.6);
    let amplitude = total * random.between(0.02, 0.08);
    let base = total * random.between(0.3, 0.5);
    let leak = total * random.between(0.03, 0.12);
    let phase = random.unit();
    let mut changes: Vec<Change> = Vec::new();
    for _ in 0..random.below(5) {
        let slow = random.chance(0.4) && days > 1.0;
        let lasts = if slow {
            random.between(1.5, 8.0) * HOUR_S
        } else {
            random.between(0.0, 0.3) * window_s
        };
        let from_s = begin + random.between(0.08, 0.9) * span;
        let apart = (12.0 * window_s).min(span / 8.0);
        let near =
            |other: &Change| from_s < other.to_s + apart && other.from_s < from_s + lasts + apart;
        if changes.iter().any(near) || from_s + lasts > begin + 0.93 * span {
            continue;
        }
        let least = (0.025 * total).max(6.0 * noise);
        let size = (total * random.lognormal(0.06, 0.5)).clamp(least, least.max(0.2 * total));
        changes.push(Change {
            from_s,
            to_s: from_s + lasts,
            size_kb: if random.chance(0.5) { size } else { -size },
        });
    }
    changes.sort_by(|a, b| a.from_s.total_cmp(&b.from_s));
    let (mut ar, mut walk) = (0.0, 0.0);
    let mut moments = Vec::new();
    for at in 0..super::whole(span / step_s) {
        let time_s = begin + at as f64 * step_s;
        let shock = if heavy {
            random.heavy()
        } else {
            random.normal()
        };
        ar = phi * ar + shock * (1.0_f64 - phi * phi).sqrt();
        walk += random.normal();
        let day = (time_s / DAY_S + phase).fract();
        let own = match family {
            "daily wave" => amplitude * (0.5 - 0.5 * (std::f64::consts::TAU * day).cos()),
            "office hours" => {
                amplitude * 0.5 * (((day - 0.33) * 30.0).tanh() - ((day - 0.75) * 30.0).tanh())
            }
            "steady leak" => leak * (time_s - begin) / span,
            "random walk" => 0.06 * noise * walk,
            _ => 0.0,
        };
        let levels: f64 = changes
            .iter()
            .map(|one| {
                let part = (time_s - one.from_s) / (one.to_s - one.from_s).max(1e-9);
                one.size_kb * part.clamp(0.0, 1.0)
            })
            .sum();
        let used = (base + own + levels + noise * ar).clamp(0.01 * total, 0.99 * total);
        moments.push(Moment {
            time_s,
            total_kb: Some(total),
            used_kb: Some(used),
            ..Moment::default()
        });
    }
    Host {
        input: Input {
            moments,
            start_s: begin,
            page_kb: 4.0,
            interval_s: step_s,
            ..Input::default()
        },
        changes,
        family,
        window_s,
    }
}

/// Something that was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    kind: &'static str,
    at_s: f64,
    until_s: Option<f64>,
    size_kb: f64,
}

fn told(host: &Host) -> Vec<Told> {
    let seconds = |time: &str| {
        let ns = crate::time::from_rfc3339(time).expect("RFC 3339");
        ns as f64 / 1e9
    };
    let found = host::find(&host.input, Scope::System);
    let levels = found.anomalies.iter().filter(|one| {
        one.subject.what == "system-used" && ["growth-point", "change-point"].contains(&one.kind)
    });
    levels
        .map(|one| Told {
            kind: one.kind,
            at_s: seconds(&one.at),
            until_s: one.until.as_deref().map(seconds),
            size_kb: one.value,
        })
        .collect()
}

#[test]
fn changes_of_level_are_told() {
    let mut rows: BTreeMap<String, Score> = BTreeMap::new();
    let (mut kinds, mut sizes): (BTreeMap<&str, Score>, Vec<f64>) = Default::default();
    for seed in seeds("971") {
        for at in 0..HOSTS {
            let host = host(seed * 1000 + at);
            let found = told(&host);
            let mut open = found.clone();
            let days = host.input.moments.len() as f64 * host.input.interval_s / DAY_S;
            let (mut family, mut show) = (Score::default(), Vec::new());
            for change in &host.changes {
                // A window before and behind it; where a slow one begins is less sharp.
                let off = host.window_s.max((change.to_s - change.from_s) / 2.0);
                let near =
                    |at_s: f64| at_s >= change.from_s - off && at_s <= change.to_s + host.window_s;
                let same =
                    |one: &Told| near(one.at_s) && (one.size_kb > 0.0) == (change.size_kb > 0.0);
                // A fall that ends a growth point is told as its end.
                let ends = |one: &Told| change.size_kb < 0.0 && one.until_s.is_some_and(near);
                let mut score = Score::default();
                if let Some(place) = open.iter().position(same) {
                    let one = open.remove(place);
                    sizes.push(one.size_kb / change.size_kb);
                    kinds.entry(one.kind).or_default().right += 1.0;
                    score.right = 1.0;
                } else if found.iter().any(ends) {
                    continue;
                } else {
                    score.missed = 1.0;
                    show.push(format!("missed {change:?}"));
                }
                family.add(score);
                rows.entry(change.kind().to_owned()).or_default().add(score);
            }
            for one in &open {
                kinds.entry(one.kind).or_default().wrong += 1.0;
                show.push(format!("false {one:?}"));
            }
            family.wrong = open.len() as f64;
            family.days = days;
            rows.entry(format!("({})", host.family))
                .or_default()
                .add(family);
            rows.entry("all".to_owned()).or_default().add(family);
            if std::env::var_os("AIOPS_LAB_SHOW").is_some() && !show.is_empty() {
                println!(
                    "{seed} {at} {} {days} days: {:#?}",
                    host.family, host.changes
                );
                for line in show {
                    println!("   {line}");
                }
            }
        }
    }
    println!(
        "| hosts or changes | changes | precision | recall | false a day |\n|---|---:|---:|---:|---:|"
    );
    for (name, score) in &rows {
        println!(
            "| {name} | {} | {:.2} | {:.2} | {:.3} |",
            score.right + score.missed,
            score.precision(),
            score.recall(),
            score.wrong / score.days.max(1e-9)
        );
    }
    for (name, score) in &kinds {
        println!(
            "{name}: told {}, precision {:.2}",
            score.right + score.wrong,
            score.precision()
        );
    }
    let near = sizes
        .iter()
        .filter(|ratio| (**ratio - 1.0).abs() <= 0.25)
        .count();
    println!("sizes within 25 %: {near} of {}", sizes.len());
    for score in kinds.values() {
        assert!(score.precision() >= 0.9, "{kinds:?}");
    }
    assert!(rows["all"].recall() >= 0.8, "{rows:?}");
}
