//! `cargo xtask test`: everything that must pass before a change is merged, in order, timed and counted.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::util::{self, LEAN, Tally};
use crate::{bench, bpf, deb, interop, layers, leaks, setup, vm};

/// One step; its name is what `setup` says that a missing tool skips.
struct Step {
    name: &'static str,
    run: fn() -> Result<Tally>,
    /// Whether it takes so long that only `--full` runs it.
    long: bool,
    /// Whether nothing behind it makes sense when it fails.
    stops: bool,
}

const fn step(name: &'static str, run: fn() -> Result<Tally>) -> Step {
    Step {
        name,
        run,
        long: false,
        stops: false,
    }
}

const STEPS: &[Step] = &[
    step("setup", || setup::install().map(|()| Tally::PASSED)),
    step("fmt", || fmt().map(|()| Tally::PASSED)),
    step("layers", || layers::run(&[]).map(|()| Tally::PASSED)),
    step("clippy", || clippy().map(|()| Tally::PASSED)),
    step("bpf", || bpf::run(true).map(|()| Tally::PASSED)),
    Step {
        stops: true,
        ..step("compile", || compile().map(|()| Tally::PASSED))
    },
    step("tests", tests),
    step("package", || {
        deb::run(&words(&["--profile", "ci", "--check"]))
    }),
    step("frames", frames),
    step("interop", || interop::run(&[])),
    step("leaks", || leaks::run(&[])),
    step("kernels", || vm::run(&words(&["6.1", "6.12"]))),
    step("looks", || bench::run(&words(&["proc", "--quick"]))),
    step("storm", || bench::run(&words(&["oom", "--quick"]))),
    Step {
        long: true,
        ..step("bench", || bench::run(&words(&["oom"])))
    },
];

/// How a step ended, for the table at the end.
struct Row {
    name: &'static str,
    took: Duration,
    tally: Tally,
}

/// Whether a step has this name.
#[cfg(test)]
pub(crate) fn is_step(name: &str) -> bool {
    STEPS.iter().any(|step| step.name == name)
}

/// The chore.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let full = match args {
        [] => false,
        [only] if only == "--full" => true,
        _ => bail!("test: the only option is --full"),
    };
    let mut rows = Vec::new();
    let mut stopped = false;
    for step in STEPS.iter().filter(|step| full || !step.long) {
        let started = Instant::now();
        let tally = if stopped { Tally::SKIPPED } else { one(step) };
        stopped |= step.stops && tally.failed > 0;
        rows.push(Row {
            name: step.name,
            took: started.elapsed(),
            tally,
        });
    }
    let mut sum = Tally::default();
    println!(
        "\n{:10}{:>8}{:>8}{:>8}{:>8}",
        "step", "seconds", "passed", "failed", "skipped"
    );
    for Row { name, took, tally } in rows {
        let Tally {
            passed,
            failed,
            skipped,
        } = tally;
        println!(
            "{name:10}{:8.1}{passed:8}{failed:8}{skipped:8}",
            took.as_secs_f64()
        );
        sum.add(tally);
    }
    println!("{sum}");
    sum.verdict()
}

/// Runs one step, unless a tool is missing for it.
fn one(step: &Step) -> Tally {
    println!("== {}", step.name);
    let missing = setup::missing_for(step.name);
    if !missing.is_empty() {
        println!("SKIPPED: {} needs {}", step.name, missing.join(", "));
        return skipped(util::is_ci() && setup::may_install());
    }
    match (step.run)() {
        Ok(tally) => tally,
        Err(error) => {
            println!("FAILED: {}: {error:#}", step.name);
            Tally::FAILED
        }
    }
}

/// Where everything can be installed, nothing may be left out.
fn skipped(must_run: bool) -> Tally {
    if must_run {
        Tally::FAILED
    } else {
        Tally::SKIPPED
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn fmt() -> Result<()> {
    util::run(util::cargo()?.args(["fmt", "--all", "--check"]))?;
    // The kernel side is no member of the workspace, nor are programs that are only looked at.
    let root = util::root()?;
    let mut files = rust_files(&root.join("aiops-ebpf/src"))?;
    files.extend(rust_files(&root.join("tests/leaks/rust"))?);
    if files.is_empty() {
        return Ok(());
    }
    let rustfmt = util::tool("rustfmt").context("rustfmt is not there")?;
    util::run(
        Command::new(rustfmt)
            .args(["--check", "--edition", "2024"])
            .args(files),
    )
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Frames, and the program that has them. Both are named at once, so that cargo gives what they share the
/// same features and compiles it once. The program has been tested optimised before.
const FRAMES: &[&str] = &[
    "--package",
    "aiops-frames",
    "--package",
    "aiops",
    "--locked",
    "--profile",
    "ci",
    "--config",
    "profile.ci.package.aiops.opt-level=0",
];

fn clippy() -> Result<()> {
    for packages in [LEAN, FRAMES] {
        util::run(
            util::static_cargo()?
                .args(["clippy", "--all-targets"])
                .args(packages)
                .args(["--", "-D", "warnings"]),
        )?;
    }
    Ok(())
}

fn compile() -> Result<()> {
    util::run(util::static_cargo()?.args(["test", "--no-run"]).args(LEAN))
}

/// Runs the unit and integration tests.
fn tests() -> Result<Tally> {
    cargo_test(LEAN, &[])
}

/// Runs the tests of frames, and of the program those that use them: the others have been run before.
fn frames() -> Result<Tally> {
    let tested = [
        "analysis::",
        "cli::",
        "diag::",
        "model::",
        "record::",
        "render::",
        "report::",
        "session::",
        "source::",
        "store::",
        "time::",
    ];
    let skip: Vec<&str> = tested.iter().flat_map(|one| ["--skip", *one]).collect();
    let mut tally = cargo_test(&[FRAMES, &["--lib"]].concat(), &skip)?;
    tally.add(cargo_test(
        &[FRAMES, &["--test", "it"]].concat(),
        &["frames"],
    )?);
    Ok(tally)
}

/// Runs tests, some of them by a word of their names, and counts them. A few that failed run once more, alone: what
/// passes then depends on how busy the machine is, which is said aloud and must be mended, but is no wrong program.
fn cargo_test(packages: &[&str], words: &[&str]) -> Result<Tally> {
    const MOST_AGAIN: usize = 3;
    let (mut tally, said) = run_tests(packages, words, "--test-threads=2")?;
    let failed = failed_names(&said);
    if tally.failed as usize == failed.len() && (1..=MOST_AGAIN).contains(&failed.len()) {
        println!("once more, alone: {}", failed.join(", "));
        let (again, _) = run_tests(
            packages,
            &[&["--exact"], &failed[..]].concat(),
            "--test-threads=1",
        )?;
        if again.failed == 0 && again.passed + again.skipped == tally.failed {
            for name in &failed {
                println!(
                    "FLAKY: {name} failed among the others (why stands above) and passed alone"
                );
            }
            tally.failed = 0;
            tally.add(again);
        }
    }
    println!("tests: {tally}");
    Ok(tally)
}

/// Runs tests once: what came of it, and all that the test programs said.
fn run_tests(packages: &[&str], words: &[&str], threads: &str) -> Result<(Tally, String)> {
    let mut command = util::static_cargo()?;
    command
        .args(["test", "--no-fail-fast"])
        .args(packages)
        .arg("--")
        .args(words)
        .args([threads, "--show-output"])
        .stdout(Stdio::piped());
    if util::is_root() {
        command.env("AIOPS_REQUIRE_BPF", "1");
    }
    let child = command.spawn().context("cannot start cargo test")?;
    let done = child.wait_with_output().context("cargo test")?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut tally = count(&said);
    for line in said.lines().filter(|line| line.starts_with("SKIPPED:")) {
        println!("{line}");
    }
    if !done.status.success() {
        // Only why: what passed says nothing that anyone reads, and logs are cut in the middle.
        println!("{}", failures(&said));
        // A test program that dies, or does not build, says nothing about its tests.
        tally.failed = tally.failed.max(1);
    }
    if tally == Tally::default() {
        bail!("no test was run");
    }
    Ok((tally, said))
}

/// Names of the tests that failed: the list that each test program ends with.
fn failed_names(said: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in said.lines() {
        match line.strip_prefix("    ") {
            Some(name) if inside && !name.contains(char::is_whitespace) => names.push(name),
            _ => inside = line == "failures:",
        }
    }
    names
}

/// What the test programs say of the tests that failed, and the last lines of one that says nothing more.
fn failures(said: &str) -> String {
    let mut kept = Vec::new();
    let mut inside = false;
    for line in said.lines() {
        inside |= line == "failures:";
        if inside {
            kept.push(line);
        }
        inside &= !line.starts_with("test result: ");
    }
    if kept.is_empty() {
        let lines: Vec<&str> = said.lines().collect();
        kept = lines[lines.len().saturating_sub(60)..].to_vec();
    }
    kept.join("\n")
}

/// Sums the lines `test result: ok. 16 passed; 0 failed; 1 ignored; …`. A test that printed `SKIPPED:`
/// (in its section of `--show-output`) counts as skipped and not as passed.
fn count(said: &str) -> Tally {
    let mut tally = Tally::default();
    let (mut skips, mut section_skips) = (0, false);
    for line in said.lines() {
        if let Some(counts) = line.strip_prefix("test result: ") {
            for part in counts.split([';', '.']) {
                let mut words = part.split_whitespace();
                let (Some(number), Some(what)) = (words.next(), words.next()) else {
                    continue;
                };
                let number = number.parse().unwrap_or(0);
                match what {
                    "passed" => tally.passed += number,
                    "failed" => tally.failed += number,
                    "ignored" => tally.skipped += number,
                    _ => {}
                }
            }
        } else if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            section_skips = false;
        } else if line.starts_with("SKIPPED:") && !section_skips {
            section_skips = true;
            skips += 1;
        }
    }
    tally.skipped += skips;
    tally.passed = tally.passed.saturating_sub(skips);
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_failed_is_shown() {
        let said = "successes:\n\n---- a stdout ----\nlong\n\nfailures:\n\n---- b stdout ----\nwhy\n\n\
            failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed;\n\nsuccesses:\n    c\n";
        let shown = failures(said);
        assert!(
            shown.contains("why") && !shown.contains("long") && !shown.contains("c\n"),
            "{shown}"
        );
        assert_eq!(failures("one\ntwo\n"), "one\ntwo");
        assert_eq!(failed_names(said), ["b"]);
        assert_eq!(failed_names("successes:\n    c\n"), [""; 0]);
    }

    #[test]
    fn results_are_summed_and_skips_are_taken_off() {
        let said = "running 3 tests\ntest a ... ok\n\nsuccesses:\n\n---- a stdout ----\n\
            SKIPPED: needs root\nSKIPPED: needs BTF\n\n---- b stdout ----\nfine\n\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.07s\n\
            test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s\n";
        assert_eq!(
            count(said),
            Tally {
                passed: 6,
                failed: 2,
                skipped: 2
            }
        );
        assert_eq!(count(""), Tally::default());
    }

    #[test]
    fn a_skip_fails_only_where_everything_can_be_installed() {
        assert_eq!(skipped(true), Tally::FAILED);
        assert_eq!(skipped(false), Tally::SKIPPED);
    }

    #[test]
    fn the_last_line_is_what_others_parse() {
        let tally = Tally {
            passed: 12,
            failed: 0,
            skipped: 3,
        };
        assert_eq!(tally.to_string(), "12 passed, 0 failed, 3 skipped");
    }
}
