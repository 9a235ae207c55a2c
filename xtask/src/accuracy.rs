//! `cargo xtask accuracy [--seeds A,B] [--per-family N] [--data DIR] [--program FILE] [--latency | --calibrate | --ceiling]`: how often the
//! verdicts of `detect memory-leak` are right, as the tables of docs/accuracy.md.
//!
//! Series are made by [`crate::leaklab`] for each seed, or are read from `--data` (files and labels in the same
//! form). The program is started once for each series. `--latency` instead asks how long a leak goes on until it
//! is called one; `--ceiling` asks how well the time of an OOM can be told by one who knows the process and its state,
//! but not its chances; `--calibrate` fits the confidence in a verdict to how often it is right.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::leaklab;
use crate::util;

/// Processes at a time.
const AT_ONCE: usize = 2;

struct Order {
    seeds: Vec<u64>,
    per_family: u64,
    data: Option<PathBuf>,
    program: PathBuf,
    latency: bool,
    calibrate: bool,
    ceiling: bool,
}

fn parse(args: &[String]) -> Result<Order> {
    let root = util::root()?;
    let mut order = Order {
        seeds: vec![1],
        per_family: 6,
        data: None,
        program: root.join("target").join(util::TARGET).join("ci/aiops"),
        latency: false,
        calibrate: false,
        ceiling: false,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let mut value = || args.next().with_context(|| format!("{name} needs a value"));
        match name.as_str() {
            "--seeds" => {
                let seeds = value()?.split(',').map(str::parse);
                order.seeds = seeds
                    .collect::<Result<_, _>>()
                    .context("--seeds: whole numbers")?;
            }
            "--per-family" => order.per_family = value()?.parse().context("--per-family")?,
            "--data" => order.data = Some(PathBuf::from(value()?)),
            "--program" => order.program = PathBuf::from(value()?),
            "--latency" => order.latency = true,
            "--ceiling" => order.ceiling = true,
            "--calibrate" => order.calibrate = true,
            _ => bail!("unknown option {name}"),
        }
    }
    if !order.ceiling && !order.program.exists() {
        bail!(
            "{} is not there: build it, or name another with --program",
            order.program.display()
        );
    }
    Ok(order)
}

/// The chore.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let order = parse(args)?;
    let work = util::root()?.join("target/accuracy");
    if order.latency {
        return latency(&order.program, &work);
    }
    if order.ceiling {
        ceiling(&order);
        return Ok(());
    }
    let mut answers = Vec::new();
    if let Some(data) = &order.data {
        answers.extend(ask_all(&order.program, data)?);
    } else {
        for seed in &order.seeds {
            let folder = work.join(format!("seed-{seed}"));
            leaklab::write(*seed, order.per_family, &folder, None)?;
            answers.extend(ask_all(&order.program, &folder)?);
            fs::remove_dir_all(&folder).context("the series of a seed")?;
        }
    }
    if order.calibrate {
        calibrate(&answers);
        return Ok(());
    }
    print_families(&answers);
    print_summary(&answers);
    print_calibration(&answers);
    Ok(())
}

/// Futures of a process that are compared.
const FUTURES: u64 = 9;

/// How often the median of other futures of the same process is within 30 % of the time of its OOM.
fn ceiling(order: &Order) {
    let mut families: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for seed in &order.seeds {
        for one in leaklab::futures(*seed, order.per_family, FUTURES) {
            let off = (middle(&one.others) - one.left).abs() / one.left;
            families.entry(one.family).or_default().push(off);
        }
    }
    println!("| family | leaks | OOM within 30 % of the median of {FUTURES} other futures |");
    println!("|---|---:|---:|");
    for (family, of) in &families {
        println!("| {family} | {} | {:.2} |", of.len(), share(of, 0.3));
    }
    let all: Vec<f64> = families.into_values().flatten().collect();
    println!("| **all** | {} | {:.3} |", all.len(), share(&all, 0.3));
}

/// A label and what the program said.
struct Answer {
    leaks: Option<bool>,
    family: String,
    verdict: String,
    probability: f64,
    confidence: f64,
    /// Errors as a share of the truth.
    rate: Option<f64>,
    oom: Option<f64>,
    /// The interval of the time of the OOM holds it.
    held: Option<bool>,
}

/// `data` of the report on one file.
fn ask(program: &Path, file: &Path, limit: Option<u64>) -> Result<Value> {
    let mut command = Command::new(program);
    command
        .args(["detect", "memory-leak", "--format", "json", "--input"])
        .arg(file);
    if let Some(limit) = limit {
        command.args(["--memory-limit", &limit.to_string()]);
    }
    let out = command.output().context("the program")?;
    let mut report: Value = serde_json::from_slice(&out.stdout).with_context(|| {
        format!(
            "{}: {}",
            file.display(),
            String::from_utf8_lossy(&out.stderr)
        )
    })?;
    Ok(report["data"].take())
}

fn ask_all(program: &Path, folder: &Path) -> Result<Vec<Answer>> {
    let path = folder.join("labels.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let labels: BTreeMap<String, Value> = serde_json::from_str(&text).context("labels.json")?;
    let labels: Vec<(String, Value)> = labels.into_iter().collect();
    let each = labels.len().div_ceil(AT_ONCE).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = labels
            .chunks(each)
            .map(|part| {
                scope.spawn(move || {
                    let answers = part.iter().map(|(id, label)| {
                        let file = folder.join(format!("{}.csv", id.trim_end_matches(".csv")));
                        answer(program, &file, label)
                    });
                    answers.collect::<Result<Vec<Answer>>>()
                })
            })
            .collect();
        let mut all = Vec::new();
        for part in parts {
            match part.join() {
                Ok(answers) => all.extend(answers?),
                Err(_) => bail!("a thread failed"),
            }
        }
        Ok(all)
    })
}

fn answer(program: &Path, file: &Path, label: &Value) -> Result<Answer> {
    let limit = label["limit_bytes"].as_f64();
    let data = ask(
        program,
        file,
        limit
            .map(|limit| format!("{limit:.0}").parse())
            .transpose()?,
    )?;
    let leaks = match label["label"].as_str() {
        Some("leak") => Some(true),
        Some("no-leak") => Some(false),
        _ => None,
    };
    let verdict = data["verdict"].as_str().unwrap_or_default().to_owned();
    let found = leaks == Some(true) && verdict == "leak";
    let off = |said: f64, truth: f64| (said - truth).abs() / truth;
    let rate = label["rate_mib_h"]
        .as_f64()
        .filter(|rate| found && *rate > 0.0);
    let text = fs::read_to_string(file)?;
    let end = text
        .lines()
        .last()
        .and_then(|row| row.split(',').next()?.parse::<f64>().ok());
    let left = label["oom_ts"]
        .as_f64()
        .zip(end)
        .map(|(oom, end)| (oom - end) / 3600.0);
    let left = left.filter(|left| found && *left > 0.0);
    Ok(Answer {
        leaks,
        family: label["family"].as_str().unwrap_or("-").to_owned(),
        probability: data["leak_probability"].as_f64().unwrap_or(0.5),
        confidence: data["confidence"].as_f64().unwrap_or(0.5),
        rate: rate.map(|truth| off(data["rate_mib_per_hour"].as_f64().unwrap_or(0.0), truth)),
        oom: left.map(|truth| off(data["oom"]["hours"].as_f64().unwrap_or(0.0), truth)),
        held: left.map(|truth| holds(&data["oom"], truth)),
        verdict,
    })
}

/// Whether the interval that was told holds the hours that are left.
fn holds(oom: &Value, left: f64) -> bool {
    let soonest = oom["interval"][0].as_f64();
    let latest = oom["interval"][1].as_f64();
    soonest.is_some_and(|soonest| soonest <= left) && latest.is_none_or(|latest| left <= latest)
}

fn share(of: &[f64], most: f64) -> f64 {
    of.iter().filter(|one| **one <= most).count() as f64 / of.len().max(1) as f64
}

fn middle(of: &[f64]) -> f64 {
    let mut of = of.to_vec();
    of.sort_unstable_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_families(answers: &[Answer]) {
    let mut families: BTreeMap<(Option<bool>, &str), Vec<&Answer>> = BTreeMap::new();
    for one in answers {
        families
            .entry((one.leaks, &one.family))
            .or_default()
            .push(one);
    }
    println!(
        "| family | truth | series | leak | no leak | inconclusive | rate within 20 % | OOM within 30 % |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for ((leaks, family), of) in families {
        let count = |verdict: &str| of.iter().filter(|one| one.verdict == verdict).count();
        let within = |errors: Vec<f64>, most: f64| {
            if errors.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.2}", share(&errors, most))
            }
        };
        let truth = match leaks {
            Some(true) => "leak",
            Some(false) => "no leak",
            None => "open",
        };
        println!(
            "| {family} | {truth} | {} | {} | {} | {} | {} | {} |",
            of.len(),
            count("leak"),
            count("no-leak"),
            count("inconclusive"),
            within(of.iter().filter_map(|one| one.rate).collect(), 0.2),
            within(of.iter().filter_map(|one| one.oom).collect(), 0.3),
        );
    }
}

fn print_summary(answers: &[Answer]) {
    let count = |leaks: bool, verdict: &str| {
        let of = answers.iter().filter(|one| one.leaks == Some(leaks));
        of.filter(|one| verdict.is_empty() || one.verdict == verdict)
            .count() as f64
    };
    let (leaks, others) = (count(true, ""), count(false, ""));
    let right = count(true, "leak") + count(false, "no-leak");
    let open = count(true, "inconclusive") + count(false, "inconclusive");
    let rates: Vec<f64> = answers.iter().filter_map(|one| one.rate).collect();
    let ooms: Vec<f64> = answers.iter().filter_map(|one| one.oom).collect();
    let brier = answers.iter().filter_map(|one| {
        let truth = f64::from(u8::from(one.leaks?));
        Some((one.probability - truth).powi(2))
    });
    let brier = brier.sum::<f64>() / (leaks + others);
    println!(
        "\n| series | accuracy | recall | precision | false alarms | inconclusive | rate: median error, within 20 % | OOM: within 30 %, in its interval | Brier |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    println!(
        "| {:.0} | {:.4} | {:.4} | {:.4} | {:.4} | {open:.0} | {} | {} | {brier:.4} |",
        leaks + others,
        right / (leaks + others),
        count(true, "leak") / leaks.max(1.0),
        count(true, "leak") / (count(true, "leak") + count(false, "leak")).max(1.0),
        count(false, "leak") / others.max(1.0),
        if rates.is_empty() {
            "-".to_owned()
        } else {
            format!("{:.3}, {:.3}", middle(&rates), share(&rates, 0.2))
        },
        if ooms.is_empty() {
            "-".to_owned()
        } else {
            let held: Vec<bool> = answers.iter().filter_map(|one| one.held).collect();
            let held = held.iter().filter(|held| **held).count() as f64 / held.len().max(1) as f64;
            format!("{:.3}, {held:.3}", share(&ooms, 0.3))
        },
    );
}

/// How often it leaks, by the probability that was told; how often a verdict is right, by its confidence.
fn print_calibration(answers: &[Answer]) {
    const EDGES: [f64; 8] = [0.0, 0.02, 0.1, 0.3, 0.7, 0.9, 0.98, 1.0 + 1e-9];
    println!("\n| probability of a leak | series | mean told | share that leaks |");
    println!("|---|---:|---:|---:|");
    let known: Vec<(f64, bool)> = answers
        .iter()
        .filter_map(|one| Some((one.probability, one.leaks?)))
        .collect();
    print_bins(&EDGES, &known);
    const SURE: [f64; 7] = [0.0, 0.6, 0.8, 0.9, 0.95, 0.98, 1.0 + 1e-9];
    println!("\n| confidence in a verdict | series | mean told | share that is right |");
    println!("|---|---:|---:|---:|");
    let decided: Vec<(f64, bool)> = answers
        .iter()
        .filter(|one| one.verdict != "inconclusive")
        .filter_map(|one| Some((one.confidence, one.leaks? == (one.verdict == "leak"))))
        .collect();
    print_bins(&SURE, &decided);
}

fn print_bins(edges: &[f64], of: &[(f64, bool)]) {
    for pair in edges.windows(2) {
        let bin: Vec<&(f64, bool)> = of
            .iter()
            .filter(|one| one.0 >= pair[0] && one.0 < pair[1])
            .collect();
        if bin.is_empty() {
            continue;
        }
        let n = bin.len() as f64;
        println!(
            "| {:.2}-{:.2} | {n:.0} | {:.3} | {:.3} |",
            pair[0],
            pair[1].min(1.0),
            bin.iter().map(|one| one.0).sum::<f64>() / n,
            bin.iter().filter(|one| one.1).count() as f64 / n,
        );
    }
}

/// Coefficients of the confidence: for each verdict the logistic regression of being right on the log odds that were
/// told, at most [`FAR`].
fn calibrate(answers: &[Answer]) {
    const FAR: f64 = 6.0;
    for verdict in ["leak", "no-leak"] {
        let of: Vec<(f64, f64)> = answers
            .iter()
            .filter(|one| one.verdict == verdict)
            .filter_map(|one| {
                let p = one.probability.clamp(1e-6, 1.0 - 1e-6);
                let odds = (p / (1.0 - p)).ln().abs().min(FAR);
                let right = one.leaks? == (verdict == "leak");
                Some((odds, f64::from(u8::from(right))))
            })
            .collect();
        let (a, b) = logistic(&of);
        let wrong = of.iter().filter(|one| one.1 == 0.0).count();
        println!(
            "{verdict}: confidence = 1 / (1 + exp(-({a:.3} + {b:.3} x odds))), {} verdicts, {wrong} wrong",
            of.len()
        );
    }
}

/// Newton's method, with a weak pull to 0 and 1: few verdicts are wrong.
fn logistic(of: &[(f64, f64)]) -> (f64, f64) {
    let (mut a, mut b) = (0.0, 1.0);
    for _ in 0..50 {
        let pull = 0.1;
        let (mut ga, mut gb) = (-pull * a, -pull * (b - 1.0));
        let (mut haa, mut hab, mut hbb) = (pull, 0.0, pull);
        for (x, y) in of {
            let p = 1.0 / (1.0 + (-(a + b * x)).exp());
            let w = p * (1.0 - p);
            ga += y - p;
            gb += (y - p) * x;
            haa += w;
            hab += w * x;
            hbb += w * x * x;
        }
        let det = haa * hbb - hab * hab;
        a += (hbb * ga - hab * gb) / det;
        b += (haa * gb - hab * ga) / det;
    }
    (a, b)
}

/// Windows that are tried, minutes.
const WINDOWS: [f64; 20] = [
    2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 360.0,
    480.0, 720.0, 1080.0, 1440.0, 2880.0,
];
/// Processes of each kind.
const PROCESSES: u64 = 7;

/// How long a leak goes on until it is called one, and stays called so.
fn latency(program: &Path, work: &Path) -> Result<()> {
    fs::create_dir_all(work).with_context(|| work.display().to_string())?;
    println!("| process | 1 MiB/h | 10 MiB/h | 100 MiB/h | limit told after 1 h | false alarms |");
    println!("|---|---:|---:|---:|---:|---:|");
    for kind in leaklab::STAGES {
        let mut cells = Vec::new();
        let mut limits = Vec::new();
        let mut alarms = 0;
        for rate in [1.0, 10.0, 100.0, 0.0] {
            let mut found: Vec<f64> = Vec::new();
            for number in 0..PROCESSES {
                let file = work.join("latency.csv");
                let mut since: Option<f64> = None;
                for minutes in WINDOWS {
                    let csv = leaklab::stage(kind, rate, number, minutes * 60.0).csv();
                    fs::write(&file, csv).context("a series")?;
                    let data = ask(program, &file, None)?;
                    let leak = data["verdict"] == "leak";
                    since = if leak { since.or(Some(minutes)) } else { None };
                    if rate == 0.0 {
                        alarms += u32::from(leak);
                        if minutes == 60.0 {
                            limits.extend(data["detection_limit_mib_per_hour"].as_f64());
                        }
                    }
                }
                found.push(since.unwrap_or(f64::INFINITY));
            }
            found.sort_unstable_by(f64::total_cmp);
            let told = |minutes: f64| {
                if minutes.is_finite() {
                    format!("{minutes:.0}")
                } else {
                    "> 2880".to_owned()
                }
            };
            let (half, last) = (found[found.len() / 2], found[found.len() - 1]);
            cells.push(format!("{} ({})", told(half), told(last)));
        }
        let asked = WINDOWS.len() as u64 * PROCESSES;
        println!(
            "| {kind} | {} | {} | {} | {:.1} MiB/h | {alarms} of {asked} |",
            cells[0],
            cells[1],
            cells[2],
            middle(&limits)
        );
    }
    let _ = fs::remove_file(work.join("latency.csv"));
    Ok(())
}
