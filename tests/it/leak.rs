//! `detect memory-leak`: verdicts on files, and files with everything wrong that a file can have.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::support::Scratch;
use crate::support::json;
use crate::support::run;
use crate::support::stdout;

const MIB: f64 = 1_048_576.0;

/// Noise that is the same in every run, −1 to 1.
fn noise(i: u32) -> f64 {
    let mixed = (u64::from(i) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
    f64::from(u32::try_from(mixed).expect("24 bits")) / f64::from(1 << 23) - 1.0
}

/// A day of samples, one a minute, of this many MiB by hour.
fn day(mib: impl Fn(f64) -> f64) -> String {
    let mut text = "ts,bytes\n".to_owned();
    for i in 0..1440 {
        let bytes = (mib(f64::from(i) / 60.0) + noise(i)) * MIB;
        writeln!(text, "{},{bytes:.0}", 1_700_000_000 + i * 60).expect("memory");
    }
    text
}

/// The report on this text; every report is free of what is no number.
fn judged(text: &str, more: &[&str]) -> Value {
    let place = Scratch::new();
    let file = place.path("series.csv");
    fs::write(&file, text).expect("a file");
    let mut args = vec![
        "detect",
        "memory-leak",
        "--input",
        &file,
        "--format",
        "json",
    ];
    args.extend(more);
    let text = stdout(&args);
    assert!(!text.contains("NaN") && !text.contains("inf,"), "{text}");
    let report = json(&text);
    assert_eq!(report["schema"], "aiops.detect-memory-leak/1");
    report["data"].clone()
}

#[test]
fn a_leak_has_its_rate_and_the_hour_of_its_end() {
    let limit = (400.0 * MIB).to_string();
    let data = judged(&day(|hour| 100.0 + 5.0 * hour), &["--memory-limit", &limit]);
    assert_eq!(data["verdict"], "leak", "{}", data["reason"]);
    let rate = data["rate_mib_per_hour"].as_f64().expect("a rate");
    assert!((rate - 5.0).abs() < 0.1, "{rate}");
    let hours = data["oom"]["hours"].as_f64().expect("an end");
    assert!((hours - 36.0).abs() < 1.5, "{hours}");
    assert_eq!(data["oom"]["limit_source"], "option");
    assert!(data["oom"]["at"].is_string() && data["onset"].is_string());
    assert!(data["series"].as_array().expect("points").len() <= 240);
}

#[test]
fn growth_that_ends_is_no_leak() {
    let warm = judged(&day(|hour| 200.0 - 100.0 * (-hour / 2.0).exp()), &[]);
    assert_eq!(warm["verdict"], "no-leak", "{}", warm["reason"]);
    let step = judged(&day(|hour| if hour < 8.0 { 100.0 } else { 160.0 }), &[]);
    assert_eq!(step["verdict"], "no-leak", "{}", step["reason"]);
    let level = judged(&day(|_| 100.0), &[]);
    assert_eq!(level["verdict"], "no-leak", "{}", level["reason"]);
    assert!(level["oom"].is_null() && level["detection_limit_mib_per_hour"].is_number());
}

#[test]
fn a_leak_is_seen_through_restarts_when_the_last_life_is_young() {
    let mut text = "ts,mb,start\n".to_owned();
    for i in 0..630 {
        let (life, age) = (i / 120, f64::from(i % 120));
        let mib = 100.0 + 0.5 * age + noise(i);
        let (ts, start) = (1_700_000_000 + i * 60, 1_700_000_000 + life * 7200);
        writeln!(text, "{ts},{mib:.3},{start}").expect("memory");
    }
    let data = judged(&text, &[]);
    assert_eq!(data["verdict"], "leak", "{}", data["reason"]);
    assert_eq!(data["lives"], 6);
    assert_eq!(data["from_all_lives"], true);
    let rate = data["rate_mib_per_hour"].as_f64().expect("a rate");
    assert!((rate - 30.0).abs() < 1.0, "{rate}");
}

#[test]
fn bad_rows_are_counted_and_the_rest_is_judged() {
    let good = day(|hour| 100.0 + 5.0 * hour);
    let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
    lines[100] = "1700005940,NaN".to_owned();
    lines[101] = "1700006000,".to_owned();
    lines[102] = "x,y".to_owned();
    lines[103] = "1700006120,-5".to_owned();
    let twice = lines[200].clone();
    lines.insert(200, twice);
    lines.drain(400..500);
    let data = judged(&lines.join("\n"), &[]);
    assert_eq!(data["verdict"], "leak", "{}", data["reason"]);
    assert_eq!(data["window"]["missing"], 2);

    // The clock is set back by two hours, in the middle.
    let mut back = "ts,bytes\n".to_owned();
    for (i, line) in good.lines().skip(1).enumerate() {
        let (ts, bytes) = line.split_once(',').expect("two cells");
        let ts: u64 = ts.parse().expect("a time");
        writeln!(back, "{},{bytes}", if i < 700 { ts } else { ts - 7200 }).expect("memory");
    }
    let data = judged(&back, &[]);
    assert_eq!(data["verdict"], "leak", "{}", data["reason"]);
    assert_eq!(data["window"]["clock_steps"], 1);
}

#[test]
fn too_little_is_said_to_be_too_little() {
    for text in [
        "ts,bytes\n1,5\n",
        "ts,bytes\n1,5\n2,6\n",
        "ts,kb\n1,5\n1,5\n1,5\n",
    ] {
        let data = judged(text, &["--memory-limit", "1000"]);
        assert_eq!(data["verdict"], "inconclusive", "{text}");
        assert!(data["rate_mib_per_hour"].is_null() && data["oom"].is_null());
    }
    let same_time = format!("ts,bytes\n{}", "7,5000\n".repeat(100));
    assert_eq!(judged(&same_time, &[])["verdict"], "inconclusive");
    let zero: Vec<String> = (0..100).map(|i| format!("{i},0")).collect();
    let data = judged(&format!("ts,bytes\n{}", zero.join("\n")), &[]);
    assert_eq!(data["verdict"], "no-leak");
}

#[test]
fn what_is_no_series_is_an_error_with_a_remedy() {
    let place = Scratch::new();
    let file = place.path("bad.csv");
    for text in ["", "time,size\n1,2\n", "ts,bytes\n", "ts,bytes\nx,y\n"] {
        fs::write(&file, text).expect("a file");
        let made = run(&["detect", "memory-leak", "--input", &file]);
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert_eq!(made.status.code(), Some(1), "{text:?}: {said}");
        assert!(said.contains("hint:") && said.contains("bad.csv"), "{said}");
    }
    let made = run(&["detect", "memory-leak", "--input", &place.path("none.csv")]);
    assert_eq!(made.status.code(), Some(1));
}

#[test]
fn people_read_it_in_two_languages_with_a_curve() {
    let place = Scratch::new();
    let file = place.path("series.csv");
    fs::write(&file, day(|hour| 100.0 + 5.0 * hour)).expect("a file");
    let ask = |lang: &str| {
        let args = [
            "detect",
            "memory-leak",
            "--input",
            &file,
            "--memory-limit",
            "1GiB",
            "--lang",
            lang,
        ];
        stdout(&args)
    };
    let english = ask("en");
    assert!(english.contains("Memory leak (confidence"), "{english}");
    assert!(
        english.contains("MiB/h") && english.contains("1 GiB"),
        "{english}"
    );
    let chinese = ask("zh");
    for words in ["内存泄漏检测报告", "检测到内存泄漏", "增长速率", "OOM 预测"]
    {
        assert!(chinese.contains(words), "{words}: {chinese}");
    }
    let code = run(&["detect", "memory-leak", "--input", &file, "--exit-code"]);
    assert_eq!(code.status.code(), Some(10));
}
