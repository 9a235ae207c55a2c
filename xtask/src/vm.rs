//! `cargo xtask vm [5.10] [6.1] [6.12] [SCENARIO…]`: aiops on other kernels, in virtual machines.
//!
//! Every scenario on every kernel is a machine of its own under QEMU without KVM: Debian's kernel, and
//! an initramfs of two files, the static `aiops` and `tests/vm/init`. `tests/vm/README.md` tells what
//! happens inside. Emulation is slow and, on some hosts, dies by itself, so a machine that ends without
//! a verdict is booted again, and so is (once) one whose verdict is bad; both are said loudly.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore talks to its user"
)]

mod boot;
mod check;
mod cpio;
mod image;
mod kmsg;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::bail;

use crate::kernels::{self, Kernel};
use crate::util::Tally;
use boot::Ending;

/// Boots of one scenario that may end without a verdict.
const BOOTS: u32 = 3;

/// How a scenario ended that did not fail.
enum Outcome {
    /// With what is worth knowing about it.
    Passed(String),
    /// This kernel cannot do it, and why.
    Skipped(String),
}

/// What is asked for.
struct Plan {
    kernels: Vec<String>,
    scenarios: Vec<String>,
    everything: bool,
}

impl Plan {
    fn parse(args: &[String]) -> anyhow::Result<Self> {
        let (kernels, scenarios): (Vec<_>, Vec<_>) = args
            .iter()
            .cloned()
            .partition(|word| kernels::is_series(word));
        let known = |name: &String| {
            check::SCENARIOS.contains(&name.as_str()) || check::is_plane(name) || name == "boot"
        };
        if let Some(unknown) = scenarios.iter().find(|name| !known(name)) {
            bail!(
                "unknown scenario {unknown}: there are {}",
                all_names().join(", ")
            );
        }
        let or_default = |given: Vec<String>, all: &[&str]| {
            if given.is_empty() {
                all.iter().map(ToString::to_string).collect()
            } else {
                given
            }
        };
        Ok(Self {
            everything: scenarios.is_empty(),
            kernels: or_default(kernels, kernels::DEFAULT),
            scenarios: or_default(scenarios, check::SCENARIOS),
        })
    }

    /// What runs on one kernel: each scenario of the /proc plane has a kernel of its own unless it is named.
    fn on(&self, series: &str) -> Vec<String> {
        let mut scenarios = self.scenarios.clone();
        if self.everything {
            let own = check::PLANE.iter().filter(|(_, on)| *on == series);
            scenarios.extend(own.map(|(name, _)| (*name).to_owned()));
        }
        scenarios
    }
}

fn all_names() -> Vec<&'static str> {
    let plane = check::PLANE.iter().map(|(name, _)| *name);
    check::SCENARIOS.iter().copied().chain(plane).collect()
}

/// The tree that a machine captured of itself (scenario `capture`): `file NAME LENGTH`, content, and so on.
pub(crate) fn captured(series: &str) -> anyhow::Result<Vec<u8>> {
    let image = image::build()?;
    let done = (|| {
        let Some(kernel) = kernels::obtain(series)? else {
            bail!("there is no kernel {series}");
        };
        for attempt in 0..BOOTS {
            let log = log_path(&kernel, "capture", attempt, false)?;
            match boot::boot(&kernel, &image, "capture", &log)? {
                Ending::NoVerdict(why) => eprintln!("capture {series}: NO VERDICT: {why}"),
                Ending::Frames(mut frames) => {
                    if let Some(tree) = frames.remove("tree") {
                        return Ok(tree);
                    }
                    let why = frames.remove("error").unwrap_or_default();
                    bail!("inside the machine: {}", String::from_utf8_lossy(&why));
                }
            }
        }
        bail!("no tree after {BOOTS} boots");
    })();
    let _ = std::fs::remove_file(&image);
    done
}

/// The chore.
pub(crate) fn run(args: &[String]) -> anyhow::Result<Tally> {
    let plan = Plan::parse(args)?;
    if !boot::has_qemu() {
        eprintln!("SKIPPED: vm: {} is not installed", boot::QEMU);
        return Ok(Tally::SKIPPED);
    }
    let image = image::build()?;
    let mut tally = Tally::default();
    for series in &plan.kernels {
        let scenarios = plan.on(series);
        let count = u32::try_from(scenarios.len())?;
        match kernels::obtain(series) {
            Ok(Some(kernel)) => all_scenarios(&kernel, &image, &scenarios, &mut tally),
            Ok(None) => tally.skipped += count,
            Err(error) => {
                eprintln!("vm {series}: {error:#}");
                tally.failed += count;
            }
        }
    }
    let _ = std::fs::remove_file(&image);
    println!("vm: {tally}");
    Ok(tally)
}

fn all_scenarios(kernel: &Kernel, image: &Path, scenarios: &[String], tally: &mut Tally) {
    for scenario in scenarios {
        let begun = Instant::now();
        let name = format!("vm {} {scenario}", kernel.series);
        match one_scenario(&name, kernel, image, scenario) {
            Ok(Outcome::Passed(how)) => {
                println!("{name}: passed{how} ({} s)", begun.elapsed().as_secs());
                tally.passed += 1;
            }
            Ok(Outcome::Skipped(why)) => {
                println!("SKIPPED: {name}: {why}");
                tally.skipped += 1;
            }
            Err(error) => {
                println!("{name}: FAILED: {error:#}");
                tally.failed += 1;
            }
        }
    }
}

/// Boots until there is a verdict; a bad one is tried once more on a fresh machine.
fn one_scenario(
    name: &str,
    kernel: &Kernel,
    image: &Path,
    scenario: &str,
) -> anyhow::Result<Outcome> {
    let mut lost = 0;
    let mut first_failure: Option<String> = None;
    loop {
        let log = log_path(kernel, scenario, lost, first_failure.is_some())?;
        let bad = match boot::boot(kernel, image, scenario, &log)? {
            Ending::NoVerdict(why) => {
                lost += 1;
                eprintln!("{name}: NO VERDICT (boot {lost} of {BOOTS}): {why}");
                if lost < BOOTS {
                    continue;
                }
                bail!("no verdict after {BOOTS} boots: {why}");
            }
            Ending::Frames(frames) => {
                if let Some(why) = check::skipped(&frames) {
                    return Ok(Outcome::Skipped(why));
                }
                match check::check(scenario, &frames) {
                    Ok(notes) => return Ok(passed(&notes, first_failure.as_deref())),
                    Err(error) => format!("{error:#}\n  all of it: {}", log.display()),
                }
            }
        };
        if let Some(first) = first_failure {
            bail!("twice. First: {first}\n  second: {bad}");
        }
        eprintln!("{name}: failed, once more on a fresh machine: {bad}");
        first_failure = Some(bad);
    }
}

fn passed(notes: &str, first: Option<&str>) -> Outcome {
    Outcome::Passed(first.map_or_else(
        || notes.to_owned(),
        |first| format!(" at the second attempt{notes}; the first failed: {first}"),
    ))
}

/// Stem of the files that a boot leaves: what the machine sent, and its console.
fn log_path(kernel: &Kernel, scenario: &str, lost: u32, again: bool) -> anyhow::Result<PathBuf> {
    let attempt = lost + u32::from(again) + 1;
    let name = format!("{}-{scenario}-{attempt}", kernel.series);
    Ok(crate::util::target_dir()?.join("vm").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(words: &[&str]) -> anyhow::Result<Plan> {
        Plan::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn kernels_and_scenarios_are_told_apart() {
        let plan = plan(&["6.12", "group", "5.10"]).expect("known words");
        assert_eq!(plan.kernels, ["6.12", "5.10"]);
        assert_eq!(plan.scenarios, ["group"]);
    }

    #[test]
    fn nothing_named_is_all_of_both() {
        let plan = plan(&[]).expect("no words");
        assert_eq!(plan.kernels, kernels::DEFAULT);
        assert_eq!(plan.scenarios, check::SCENARIOS);
    }

    #[test]
    fn the_plane_runs_on_one_kernel_each() {
        let both = plan(&[]).expect("no words");
        let mut plane: Vec<String> = kernels::DEFAULT
            .iter()
            .flat_map(|name| both.on(name))
            .collect();
        plane.retain(|name| check::is_plane(name));
        assert_eq!(plane.len(), check::PLANE.len());
        let named = plan(&["numa", "6.1"]).expect("known words");
        assert_eq!(named.on("6.1"), ["numa"]);
    }

    #[test]
    fn a_misspelt_word_is_refused() {
        assert!(plan(&["6.2"]).is_err());
    }
}
