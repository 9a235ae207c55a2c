//! `trace alloc` on a program whose allocations are known.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::support::Scratch;
use crate::support::Tracer;
use crate::support::aiops;
use crate::support::can_trace;
use crate::support::json;
use crate::support::stdout;
use crate::support::timeless;

const SHARES: &str = include_str!("programs/shares.c");

/// What one run of the program takes: 10 rounds of 4 times 8 MiB.
const TAKEN: f64 = 10.0 * 32.0 * 1_048_576.0;

/// A program that waits for a line, works, and waits for another.
struct Shares(Child);

impl Drop for Shares {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds a program without frame pointers; `None` without a compiler.
fn build(place: &Scratch, name: &str, text: &str) -> Option<String> {
    let (source, program) = (place.path(&format!("{name}.c")), place.path(name));
    std::fs::write(&source, text).expect("the source");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-fomit-frame-pointer", "-o", &program, &source]);
    let Ok(done) = gcc.output() else {
        println!("SKIPPED: no gcc");
        return None;
    };
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    Some(program)
}

impl Shares {
    fn start(program: &str) -> Self {
        let mut command = Command::new(program);
        command
            .args(["10", "8"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Self(command.spawn().expect("it runs"))
    }

    fn tell(&mut self) {
        let input = self.0.stdin.as_mut().expect("its input");
        input.write_all(b"\n").expect("it listens");
    }

    /// Lets it work; its page faults so far.
    fn work(&mut self) -> u64 {
        self.tell();
        let mut line = String::new();
        let output = self.0.stdout.take().expect("its output");
        let mut output = BufReader::new(output);
        output.read_line(&mut line).expect("it answers");
        assert_eq!(line, "done\n");
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it lives");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("a name")
            .split_whitespace()
            .collect();
        fields[7].parse().expect("minor faults")
    }
}

/// Runs the program below a tracer with these options; its pid, its faults, the report.
fn traced(program: &str, options: &[&str]) -> (u32, u64, Value) {
    let mut shares = Shares::start(program);
    let pid = shares.0.id();
    let only = pid.to_string();
    let base = ["trace", "alloc", "--pid", &only, "-o", "json"];
    let tracer = Tracer::start(&[&base, options].concat());
    let faults = shares.work();
    // The program still lives: its names can be had.
    tracer.signal(rustix::process::Signal::INT);
    let (code, out, errors) = tracer.finish();
    assert_eq!(code, 0, "{errors}");
    (pid, faults, json(&out))
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// Bytes of the places whose stack has this function, and their standard error.
fn bytes_of(report: &Value, function: &str) -> (f64, f64) {
    let rows = report["data"]["stacks"].as_array().expect("stacks").iter();
    let has = |row: &&Value| {
        let frames = row["user"].as_array().expect("frames");
        let mut names = frames.iter().filter_map(|frame| frame["function"].as_str());
        names.any(|name| name.starts_with(function))
    };
    let found: Vec<&Value> = rows.filter(has).collect();
    let sum = found.iter().map(|row| number(&row["bytes"])).sum();
    let squares: f64 = found
        .iter()
        .map(|row| number(&row["bytes_se"]).powi(2))
        .sum();
    (sum, squares.sqrt())
}

#[test]
fn known_shares_are_found_within_the_stated_error_and_replayed() {
    if !can_trace() {
        return;
    }
    let place = Scratch::new();
    let Some(program) = build(&place, "shares-of-it", SHARES) else {
        return;
    };
    let file = place.path("alloc.aiops");
    let (pid, _, report) = traced(&program, &["--sample", "128KiB", "--record", &file]);
    let total = &report["data"]["total"];
    let (sum, error) = (number(&total["bytes"]), number(&total["bytes_se"]));
    // Five errors: once in a million runs by chance.
    assert!(
        (sum - TAKEN).abs() < 5.0 * error + 0.01 * TAKEN,
        "{sum} ± {error} of {TAKEN}"
    );
    assert!(error < 0.05 * TAKEN, "{error}");
    for (function, share) in [("parse_request", 0.75), ("write_answer", 0.25)] {
        let (bytes, error) = bytes_of(&report, function);
        let truth = share * TAKEN;
        assert!(
            (bytes - truth).abs() < 5.0 * error + 0.01 * TAKEN,
            "{function}: {bytes} ± {error} of {truth}"
        );
    }
    let (main, _) = bytes_of(&report, "main");
    assert!(main > 0.99 * sum, "{main} of {sum} below main: {report:#}");
    let top = &report["data"]["stacks"][0];
    assert_eq!(
        (&top["pid"], &top["user_end"]),
        (&Value::from(pid), &Value::from("root"))
    );
    assert_eq!(top["purpose"], "anonymous", "{top:#}");
    let kernel = top["kernel"].to_string();
    assert!(kernel.contains("page_fault"), "{kernel}");
    let accounting = &report["accounting"];
    assert_eq!(accounting["sampling"]["mode"], "poisson-bytes");
    assert_eq!(accounting["complete"], true, "{accounting:#}");
    assert_eq!(report["data"]["processes"][0]["comm"], "shares-of-it");

    let replayed = json(&stdout(&["replay", &file, "-o", "json"]));
    assert_eq!(timeless(replayed), timeless(report));
    for (lang, word) in [("en", "Who allocates memory"), ("zh", "内存分配者")] {
        let text = stdout(&["replay", &file, "--lang", lang]);
        assert!(
            text.contains(word) && text.contains("parse_request"),
            "{text}"
        );
    }
}

#[test]
fn exact_counts_are_the_programs_own_faults() {
    if !can_trace() {
        return;
    }
    let place = Scratch::new();
    let Some(program) = build(&place, "shares-of-it", SHARES) else {
        return;
    };
    let (_, faults, report) = traced(&program, &["--exact"]);
    let total = &report["data"]["total"];
    let pages = number(&total["allocations"]);
    assert_eq!(number(&total["bytes_se"]), 0.0);
    // Every fault of the program but for those before the tracer came; page tables and stacks of the kernel besides.
    let taken = TAKEN / 4096.0;
    assert!(
        pages >= taken && pages < 1.02 * taken + 200.0,
        "{pages} of {taken}"
    );
    assert!(
        (pages - faults as f64).abs() < 0.02 * pages + 300.0,
        "{pages} pages, {faults} faults"
    );
}

#[test]
fn every_page_with_its_stack() {
    if !can_trace() {
        return;
    }
    let place = Scratch::new();
    let Some(program) = build(&place, "shares-of-it", SHARES) else {
        return;
    };
    let (_, _, report) = traced(&program, &["--sample", "off"]);
    let total = number(&report["data"]["total"]["bytes"]);
    assert!(
        (TAKEN..1.02 * TAKEN + 1e6).contains(&total),
        "{total} of {TAKEN}"
    );
    assert_eq!(report["data"]["mode"], "whole");
    let top = &report["data"]["stacks"][0];
    assert_eq!(top["user_end"], "frame_pointers");
    assert_eq!(report["accounting"]["sampling"]["mode"], "none");
}

#[test]
fn who_is_not_wanted_is_not_seen() {
    if !can_trace() {
        return;
    }
    let place = Scratch::new();
    let Some(program) = build(&place, "shares-of-it", SHARES) else {
        return;
    };
    // Every filter by itself: one that fits, one that does not.
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").expect("own cgroups");
    let own = cgroup
        .lines()
        .find(|line| line.contains(":memory:"))
        .or_else(|| cgroup.lines().find(|line| line.starts_with("0::")))
        .and_then(|line| line.splitn(3, ':').nth(2))
        .expect("a memory cgroup")
        .to_owned();
    let uid = rustix::process::getuid().as_raw().to_string();
    let cases: [(&[&str], bool); 6] = [
        (&["--comm", "shares-of-it"], true),
        (&["--comm", "shares-of-i"], false),
        (&["--user", &uid], true),
        (&["--user", "4000000000"], false),
        (&["--cgroup", &own], true),
        (&["--pid", "1", "--comm", "no-such-name"], false),
    ];
    for (options, there) in cases {
        let mut shares = Shares::start(&program);
        let tracer = Tracer::start(
            &[
                &["trace", "alloc", "--sample", "64KiB", "-o", "json"],
                options,
            ]
            .concat(),
        );
        shares.work();
        tracer.signal(rustix::process::Signal::INT);
        let (code, out, errors) = tracer.finish();
        assert_eq!(code, 0, "{errors}");
        let report = json(&out);
        let pid = Value::from(shares.0.id());
        let rows = report["data"]["processes"].as_array().expect("processes");
        assert_eq!(
            rows.iter().any(|row| row["pid"] == pid),
            there,
            "{options:?}"
        );
    }
}

#[test]
fn wrong_uses_are_refused() {
    let refused = |args: &[&str]| {
        let done = aiops(args).output().expect("it runs");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), said)
    };
    assert_eq!(refused(&["trace", "alloc", "--sample", "1KiB"]).0, Some(2));
    assert_eq!(
        refused(&["trace", "alloc", "--sample", "off", "--kernel"]).0,
        Some(2)
    );
    assert_eq!(
        refused(&["trace", "alloc", "--exact", "--sample", "1MiB"]).0,
        Some(2)
    );
    let (code, said) = refused(&["trace", "alloc", "--root", "/tmp"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("hint"), "{said}");
}

const LEAKY: &str = include_str!("programs/leaky.c");

#[test]
fn the_leaking_code_is_named_and_what_is_given_back_is_not() {
    if !can_trace() {
        return;
    }
    let place = Scratch::new();
    let Some(program) = build(&place, "leaky", LEAKY) else {
        return;
    };
    let mut command = Command::new(&program);
    let leaky = Shares(command.spawn().expect("it runs"));
    let pid = leaky.0.id().to_string();
    let file = place.path("leak.aiops");
    let done = aiops(&[
        "trace",
        "leak",
        "--pid",
        &pid,
        "--sample",
        "64KiB",
        "--min-age",
        "1s",
        "--duration",
        "8s",
        "--record",
        &file,
        "-o",
        "json",
    ])
    .output()
    .expect("it runs");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    let report = json(&String::from_utf8_lossy(&done.stdout));
    let functions = |row: &Value| -> Vec<String> {
        let frames = row["user"].as_array().expect("frames").iter();
        let names = frames.filter_map(|frame| frame["function"].as_str());
        names.map(str::to_owned).collect()
    };
    let top = &report["data"]["stacks"][0];
    let names = functions(top);
    let place_of = |wanted: &str| names.iter().position(|name| name == wanted);
    assert!(
        place_of("cache_insert").is_some() && place_of("cache_insert") < place_of("parse_request"),
        "{top:#}"
    );
    assert!(number(&top["share"]) > 0.9, "{report:#}");
    assert_eq!(top["verdict"], "leak", "{top:#}");
    let title = report["findings"][0]["title"].as_str().unwrap_or_default();
    assert!(
        title.contains("cache_insert < parse_request < main"),
        "{title}"
    );
    let rows = report["data"]["stacks"].as_array().expect("stacks").iter();
    let given_back = rows.filter(|row| functions(row).iter().any(|name| name == "handle_ok"));
    let held: f64 = given_back.map(|row| number(&row["bytes"])).sum();
    assert!(held < 0.1 * number(&report["data"]["bytes"]), "{report:#}");
    let replayed = json(&stdout(&["replay", &file, "-o", "json"]));
    assert_eq!(timeless(replayed), timeless(report));
    for (lang, word) in [("en", "not given back"), ("zh", "未释放")] {
        let text = stdout(&["replay", &file, "--lang", lang]);
        assert!(
            text.contains(word) && text.contains("cache_insert"),
            "{text}"
        );
    }
}

#[test]
fn a_stripped_program_has_places_and_its_fetched_debug_file_has_names() {
    if !can_trace() {
        return;
    }
    let place = Scratch::new();
    let Some(program) = build(&place, "stripped", LEAKY) else {
        return;
    };
    let tool = |words: &[&str]| -> Option<String> {
        let done = Command::new(words[0]).args(&words[1..]).output().ok()?;
        done.status
            .success()
            .then(|| String::from_utf8_lossy(&done.stdout).into_owned())
    };
    let whole = place.path("debuginfo");
    let made = tool(&["objcopy", "--only-keep-debug", &program, &whole])
        .and_then(|_| tool(&["strip", &program]));
    let notes = made.and_then(|_| tool(&["readelf", "-n", &program]));
    let Some(notes) = notes else {
        println!("SKIPPED: no binutils");
        return;
    };
    let id = notes
        .split("Build ID: ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let id = id.expect("gcc writes a build id");
    let cache = place.path("cache");
    std::fs::create_dir_all(format!("{cache}/{id}")).expect("a cache");
    std::fs::rename(&whole, format!("{cache}/{id}/debuginfo")).expect("the debug file");
    let leaky = Shares(Command::new(&program).spawn().expect("it runs"));
    let pid = leaky.0.id().to_string();
    let frames = |fetched: &str| -> Vec<Value> {
        let mut command = aiops(&[
            "trace",
            "alloc",
            "--pid",
            &pid,
            "--sample",
            "64KiB",
            "--duration",
            "2s",
            "-o",
            "json",
        ]);
        let done = command
            .env("DEBUGINFOD_CACHE_PATH", fetched)
            .output()
            .expect("it runs");
        let report = json(&String::from_utf8_lossy(&done.stdout));
        let rows = report["data"]["stacks"].as_array().expect("stacks").iter();
        let frames = rows.flat_map(|row| row["user"].as_array().expect("frames"));
        let own = |frame: &&Value| frame["module"].as_str() == Some(&program);
        frames.filter(own).cloned().collect()
    };
    let has = |all: &[Value], name: &str| all.iter().any(|frame| frame["function"] == name);
    let named = frames(&cache);
    assert!(
        has(&named, "cache_insert") && has(&named, "main"),
        "{named:?}"
    );
    let nameless = frames(&place.path("no-cache"));
    assert!(!nameless.is_empty(), "the stack is as deep without names");
    for frame in &nameless {
        assert_eq!(frame["function"], Value::Null);
        assert!(
            frame["build_id"] == id && frame["module_offset"].is_u64(),
            "{frame}"
        );
    }
}
