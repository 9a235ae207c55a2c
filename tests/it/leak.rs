//! `detect memory-leak`: verdicts on files, and files with everything wrong that a file can have.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::process::Stdio;
use std::thread;

use serde_json::Value;

use crate::support;
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
    for words in [
        "内存泄漏检测报告",
        "检测到内存泄漏（置信度：",
        "增长速率",
        "线性拟合: R² = ",
        "OOM 预测",
        "其他可能",
        "[已排除] 会结束的预热：拟合差 ",
        "MiB = 2^20",
    ] {
        assert!(chinese.contains(words), "{words}: {chinese}");
    }
    let code = run(&["detect", "memory-leak", "--input", &file, "--exit-code"]);
    assert_eq!(code.status.code(), Some(10));
}

#[test]
fn a_drawing_is_whole_and_never_replaces_a_file_unasked() {
    let place = Scratch::new();
    let file = place.path("series.csv");
    fs::write(&file, day(|hour| 100.0 + 5.0 * hour)).expect("a file");
    let ask = |plot: &str, more: &[&str]| {
        let mut args = vec!["detect", "memory-leak", "--input", &file, "--plot", plot];
        args.extend(more);
        run(&args)
    };
    let svg = place.path("leak.svg");
    let made = ask(&svg, &["--memory-limit", "300MiB", "--lang", "zh"]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let text = fs::read_to_string(&svg).expect("a drawing");
    assert!(
        text.starts_with("<svg ") && text.ends_with("</svg>\n"),
        "{text}"
    );
    assert!(
        text.contains("上限 300 MiB") && text.contains("检测到内存泄漏"),
        "{text}"
    );

    fs::write(&svg, "mine").expect("a file");
    let refused = ask(&svg, &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("already exists") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&svg).expect("it"), "mine");
    assert_eq!(ask(&svg, &["--force"]).status.code(), Some(0));
    assert!(fs::read_to_string(&svg).expect("it").starts_with("<svg "));

    let page = place.path("leak.html");
    assert_eq!(ask(&page, &[]).status.code(), Some(0));
    let text = fs::read_to_string(&page).expect("a page");
    assert!(
        text.contains("<svg ") && text.contains("Memory leak report"),
        "{text}"
    );

    assert_eq!(ask(&place.path("leak.png"), &[]).status.code(), Some(2));
    assert_eq!(
        ask(&place.path("none/leak.svg"), &[]).status.code(),
        Some(1)
    );
    assert_eq!(
        ask(&svg, &["--input", &file, "--force"]).status.code(),
        Some(2)
    );
    let folder = fs::read_dir(place.path("")).expect("a folder");
    let mut names: Vec<String> = folder
        .map(|entry| {
            entry
                .expect("a file")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["leak.html", "leak.svg", "series.csv"]);
}

#[test]
fn standard_input_and_pipes_are_read_and_folders_refused() {
    let place = Scratch::new();
    let text = day(|hour| 100.0 + 5.0 * hour);
    let args = ["detect", "memory-leak", "--input", "-", "-o", "json"];
    let mut child = support::aiops(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let made = child.wait_with_output().expect("an end");
    let report = json(&String::from_utf8_lossy(&made.stdout));
    assert_eq!(report["data"]["verdict"], "leak");

    let pipe = place.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let writer = {
        let pipe = pipe.clone();
        thread::spawn(move || fs::write(pipe, text))
    };
    let text = stdout(&["detect", "memory-leak", "--input", &pipe, "-o", "json"]);
    writer.join().expect("no panic").expect("it is read");
    assert_eq!(json(&text)["data"]["verdict"], "leak");

    let made = run(&["detect", "memory-leak", "--input", &place.path("")]);
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert_eq!(made.status.code(), Some(1));
    assert!(
        said.contains("a folder, not a file") && said.contains("hint:"),
        "{said}"
    );
}

#[test]
fn random_bytes_give_a_report_or_an_error_with_a_remedy() {
    let place = Scratch::new();
    let file = place.path("random.csv");
    let mut state = 88_172_645_463_325_252_u64;
    let mut roll = |sides: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % sides
    };
    for round in 0..40 {
        let heads = ["", "ts,bytes\n", "ts,kb,load,start\r\n", "\u{feff}ts,mb\n"];
        let mut text = heads[round % heads.len()].as_bytes().to_vec();
        for _ in 0..roll(60) {
            let cell = match roll(5) {
                0 => format!("{},{}\n", roll(u64::MAX), roll(u64::MAX)),
                1 => format!("{},1e{}\n", roll(1 << 33), roll(400)),
                2 => "NaN,inf\n".to_owned(),
                _ => format!("{},{},\n", 1_700_000_000 + roll(100_000), roll(1 << 40)),
            };
            text.extend(cell.into_bytes());
            if roll(8) == 0 {
                text.extend((0..roll(50)).map(|_| roll(256).to_le_bytes()[0]));
            }
        }
        fs::write(&file, &text).expect("a file");
        for form in ["json", "text"] {
            let made = run(&["detect", "memory-leak", "--input", &file, "-o", form]);
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            let text = String::from_utf8_lossy(&made.stdout).into_owned();
            match made.status.code() {
                Some(0) => {
                    for word in ["NaN", "inf,", "inf ", "-inf"] {
                        let notes = text.matches("NaN,inf").count();
                        let found = text.matches(word).count();
                        assert!(found == 0 || notes > 0, "round {round}, {word}: {text}");
                    }
                    if form == "json" {
                        assert!(json(&text)["data"]["confidence"].is_number(), "{text}");
                    }
                }
                Some(1) => assert!(said.contains("hint:"), "round {round}: {said}"),
                other => panic!("round {round}: {other:?} {said}"),
            }
        }
    }
}
