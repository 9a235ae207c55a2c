//! `health memory`: this host, captured trees, exit codes.

use std::fs;

use crate::support::Scratch;
use crate::support::json;
use crate::support::no_swap;
use crate::support::run;
use crate::support::stdout;

#[test]
fn this_host_has_a_score_with_its_factors() {
    let _no_swap = no_swap();
    let report = json(&stdout(&[
        "health",
        "memory",
        "--interval",
        "200ms",
        "-o",
        "json",
    ]));
    assert_eq!(report["schema"], "aiops.health-memory/1");
    let data = &report["data"];
    let score = data["score"].as_f64().expect("a score");
    assert!((0.0..=100.0).contains(&score), "{score}");
    assert!(data["interval_s"].as_f64() > Some(0.19), "{data}");
    let factors = data["factors"].as_array().expect("factors");
    assert_eq!(factors.len(), 5);
    let mut weights = 0.0;
    for factor in factors {
        weights += factor["effective_weight"].as_f64().expect("a weight");
        assert_eq!(
            factor["missing"].is_null(),
            factor["score"].is_number(),
            "{factor}"
        );
        for key in ["thresholds", "source", "explanation"] {
            assert!(
                !factor[key].as_str().unwrap_or_default().is_empty(),
                "{key}: {factor}"
            );
        }
    }
    assert!((weights - 1.0).abs() < 0.01, "{weights}");
    let own = std::process::id();
    let processes = data["processes"].as_array().expect("processes");
    assert!(
        processes.iter().any(|process| process["pid"] == own),
        "the test itself runs"
    );
}

#[test]
fn the_short_form_leaves_processes_out_in_both_languages() {
    let _no_swap = no_swap();
    let long = stdout(&["health", "memory", "--interval", "0"]);
    let short = stdout(&["health", "memory", "--interval", "0", "--score"]);
    assert!(long.contains("Largest processes") && !short.contains("Largest processes"));
    assert!(short.contains("/ 100"), "{short}");
    let chinese = stdout(&[
        "health",
        "memory",
        "--interval",
        "0",
        "--score",
        "--lang",
        "zh",
    ]);
    assert!(
        chinese.contains("内存健康评分") && chinese.contains("/ 100"),
        "{chinese}"
    );
}

/// A captured tree with this meminfo and pressure; `None`: a kernel without the file.
fn tree(meminfo: &str, pressure: Option<&str>) -> Scratch {
    let place = Scratch::new();
    fs::create_dir_all(place.path("proc/pressure")).expect("folders");
    fs::write(place.path("proc/meminfo"), meminfo).expect("meminfo");
    if let Some(text) = pressure {
        fs::write(place.path("proc/pressure/memory"), text).expect("pressure");
    }
    place
}

const CALM: &str = "MemTotal: 8000000 kB\nMemFree: 6000000 kB\nMemAvailable: 7000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";

fn psi(full: u32) -> String {
    let line = |kind| format!("{kind} avg10={full}.00 avg60={full}.00 avg300=0.00 total=1\n");
    line("some") + &line("full")
}

#[test]
fn exit_codes_follow_the_level() {
    let short = "MemTotal: 8000000 kB\nMemFree: 90000 kB\nMemAvailable: 100000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
    for (meminfo, full, level, code) in [
        (CALM, 0, "excellent", 0),
        (CALM, 15, "poor", 10),
        (CALM, 30, "critical", 20),
        (short, 0, "critical", 20),
    ] {
        let place = tree(meminfo, Some(&psi(full)));
        let root = place.path("");
        let args = ["health", "memory", "--root", &root, "-o", "json"];
        let report = json(&stdout(&args));
        assert_eq!(report["data"]["level"], level, "{full}: {}", report["data"]);
        let output = run(&[&args[..], &["--exit-code"]].concat());
        assert_eq!(output.status.code(), Some(code), "{full} {level}");
    }
}

#[test]
fn an_old_kernel_has_a_score_of_what_it_tells() {
    let place = tree(
        "MemTotal: 8000000 kB\nMemFree: 4000000 kB\nActive(file): 1000000 kB\nInactive(file): 1000000 kB\nSwapTotal: 1000 kB\nSwapFree: 1000 kB\n",
        None,
    );
    let report = json(&stdout(&[
        "health",
        "memory",
        "--root",
        &place.path(""),
        "-o",
        "json",
    ]));
    let data = &report["data"];
    assert!(data["score"].as_f64() > Some(90.0), "{data}");
    let factor = |id: &str| {
        let factors = data["factors"].as_array().expect("factors");
        let found = factors.iter().find(|factor| factor["id"] == id);
        found.expect("every factor is listed").clone()
    };
    assert!(factor("psi")["score"].is_null() && factor("psi")["missing"].is_string());
    assert_eq!(factor("usage")["inputs"][0]["estimated"], true);
    assert!(data["interval_s"].is_null());
}
