//! `cargo xtask leaklab --seed S --out DIR [--per-family N] [--families A,B] [--samples N]`: labelled memory series
//! of processes that are simulated: allocators, collectors, caches, pools, jobs, restarts. A mechanism makes the
//! curve, and says what is true of it. With `--samples`, every window is cut into so many samples.
//!
//! `DIR/<id>.csv` holds `ts,bytes,load,start`; `DIR/labels.json` says for each id whether it leaks, how fast at
//! the end, since when, and when it meets its limit. Ids are shuffled: they do not tell the family.

mod families;
mod healthy;
mod heap;
mod leaky;
mod maker;
mod observe;
mod open;
mod parts;
mod random;
mod runtime;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use families::FAMILIES;
use maker::Family;
use maker::Maker;
pub(crate) use observe::Label;
pub(crate) use observe::Observed;
pub(crate) use open::STAGES;
use random::Random;

/// What is made.
#[derive(Clone, Debug)]
struct Order {
    seed: u64,
    per_family: u64,
    out: PathBuf,
    families: Vec<String>,
    samples: Option<usize>,
}

fn parse(args: &[String]) -> Result<Order> {
    let mut order = Order {
        seed: 0,
        per_family: 6,
        out: PathBuf::new(),
        families: Vec::new(),
        samples: None,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let mut value = || args.next().with_context(|| format!("{name} needs a value"));
        match name.as_str() {
            "--seed" => order.seed = value()?.parse().context("--seed: a whole number")?,
            "--per-family" => {
                order.per_family = value()?.parse().context("--per-family: a whole number")?;
            }
            "--out" => order.out = PathBuf::from(value()?),
            "--families" => order.families = value()?.split(',').map(str::to_owned).collect(),
            "--samples" => {
                let samples: usize = value()?.parse().context("--samples: a whole number")?;
                ensure!(samples >= 100, "--samples: at least 100");
                order.samples = Some(samples);
            }
            _ => {
                bail!(
                    "unknown option {name}: --seed S --out DIR [--per-family N] [--families A,B] [--samples N]"
                )
            }
        }
    }
    ensure!(order.out != PathBuf::new(), "--out DIR is missing");
    for name in &order.families {
        ensure!(
            FAMILIES.iter().any(|family| family.name == name),
            "no such family: {name}"
        );
    }
    Ok(order)
}

/// The chore.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let order = parse(args)?;
    let made = make_all(&order)?;
    println!("{} series in {}", made.len(), order.out.display());
    Ok(())
}

/// Writes the series of a seed, each window with so many samples if that is given; returns their labels.
pub(crate) fn write(
    seed: u64,
    per_family: u64,
    out: &Path,
    samples: Option<usize>,
) -> Result<BTreeMap<String, Label>> {
    make_all(&Order {
        seed,
        per_family,
        out: out.to_owned(),
        families: Vec::new(),
        samples,
    })
}

fn make_all(order: &Order) -> Result<BTreeMap<String, Label>> {
    let (seed, per_family, only, out) = (
        order.seed,
        order.per_family,
        &order.families,
        order.out.as_path(),
    );
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let wanted = |family: &&Family| only.is_empty() || only.iter().any(|name| name == family.name);
    let mut all: Vec<(&Family, u64)> = FAMILIES
        .iter()
        .filter(wanted)
        .flat_map(|family| (0..per_family).map(move |k| (family, k)))
        .collect();
    let mut random = Random::new(&[seed, 777]);
    for i in (1..all.len()).rev() {
        all.swap(i, random.count(0, i));
    }
    let mut labels = BTreeMap::new();
    for (place, (family, k)) in all.into_iter().enumerate() {
        let id = format!("m{place:05}");
        let series = make(family, seed, k, order.samples, None);
        let path = out.join(format!("{id}.csv"));
        std::fs::write(&path, series.csv()).with_context(|| path.display().to_string())?;
        labels.insert(id, series.label);
    }
    let path = out.join("labels.json");
    let text = serde_json::to_string_pretty(&labels).context("labels")?;
    std::fs::write(&path, text + "\n").with_context(|| path.display().to_string())?;
    Ok(labels)
}

/// A leak that meets its limit: its family, seconds from the window to then, and the same of other futures of the same
/// process, whose chances fall otherwise. Infinite: not within four windows.
pub(crate) struct Futures {
    pub(crate) family: &'static str,
    pub(crate) left: f64,
    pub(crate) others: Vec<f64>,
}

/// The futures of all leaks of a seed.
pub(crate) fn futures(seed: u64, per_family: u64, count: u64) -> Vec<Futures> {
    let left = |label: &Label| label.oom_ts.map(|oom| oom - label.end_ts);
    let leaks = FAMILIES
        .iter()
        .filter(|family| family.name.starts_with("leak"));
    let all = leaks.flat_map(|family| (0..per_family).map(move |number| (family, number)));
    all.filter_map(|(family, number)| {
        let truth = left(&make(family, seed, number, None, None).label)?;
        let other =
            |k| left(&make(family, seed, number, None, Some(k)).label).unwrap_or(f64::INFINITY);
        Some(Futures {
            family: family.name,
            left: truth,
            others: (1..=count).map(other).collect(),
        })
    })
    .collect()
}

/// One series. The name is part of its random numbers: new families leave the others as they are.
fn make(
    family: &Family,
    seed: u64,
    number: u64,
    samples: Option<usize>,
    other: Option<u64>,
) -> Observed {
    let mut words = vec![seed, number];
    words.extend(family.name.bytes().map(u64::from));
    let mut random = Random::new(&words);
    let mut frame = random.pick(family.frames);
    if let Some(samples) = samples {
        frame.step = frame.span / (samples - 1) as f64;
    }
    let plant = (family.make)(&mut Maker::new(&mut random, frame));
    observe::observe(plant, family.name, frame, &mut random, other)
}

/// A process of a kind of [`STAGES`] that leaks so many MiB an hour, seen for so long every ten seconds. Longer
/// looks at a process go on where shorter ones end.
pub(crate) fn stage(kind: &str, mib_per_hour: f64, number: u64, seconds: f64) -> Observed {
    let mut words = vec![number];
    words.extend(kind.bytes().map(u64::from));
    let mut random = Random::new(&words);
    let plant = open::stage(kind, mib_per_hour, &mut random);
    let frame = observe::Frame {
        span: seconds,
        step: 10.0,
    };
    observe::observe(plant, "latency", frame, &mut random, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_the_same_again_and_keeps_its_promises() {
        for family in FAMILIES
            .iter()
            .filter(|family| family.name.contains("jobs"))
        {
            let one = make(family, 5, 1, None, None);
            assert_eq!(
                one.csv(),
                make(family, 5, 1, None, None).csv(),
                "{}",
                family.name
            );
            assert!(one.rows.len() > 100, "{}", family.name);
            let dense = make(family, 5, 1, Some(2000), None);
            assert_eq!(dense.label.duration_s, one.label.duration_s);
            assert!((1000..=2000).contains(&dense.rows.len()));
            let leaks = family.name.starts_with("leak");
            assert_eq!(one.label.label == "leak", leaks, "{}", family.name);
            assert_eq!(one.label.rate_mib_h > 0.0, leaks, "{}", family.name);
            if let Some(oom) = one.label.oom_ts {
                assert!(oom > one.label.end_ts, "{}", family.name);
            }
        }
    }
}
