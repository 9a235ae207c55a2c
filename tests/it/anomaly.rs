//! `detect anomaly` on stores that the test writes: what was planted is found at its time, and a calm host has
//! nothing.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use aiops::model::CgroupMetrics;
use aiops::model::CgroupSample;
use aiops::model::ClockPair;
use aiops::model::End;
use aiops::model::EndReason;
use aiops::model::Host;
use aiops::model::Identity;
use aiops::model::Item;
use aiops::model::ProcessMetrics;
use aiops::model::ProcessSample;
use aiops::model::RawText;
use aiops::model::Sample;
use aiops::model::Session;
use aiops::model::SystemMetrics;
use aiops::record::Writer;
use aiops::store::Recorder;
use aiops::store::Store;
use aiops::store::Tick;
use serde_json::Value;

use crate::support::aiops;
use crate::support::json;

/// 2024-03-04 00:00:00 UTC.
const BEGIN: u64 = 1_709_510_400;
/// Seconds between two samples.
const EVERY: u64 = 120;
/// Length of the history: three days.
const SPAN: u64 = 3 * 86_400;
/// When memory jumps: 2024-03-06 13:00:00 UTC.
const JUMP: u64 = 2 * 86_400 + 13 * 3600;
/// When the host thrashes, for ten minutes: 18:00.
const THRASH: u64 = 2 * 86_400 + 18 * 3600;
/// When a process starts, half an hour before the end.
const YOUNG: u64 = SPAN - 1800;
const MIB: u64 = 1024;

/// A store of its own, removed at the end.
struct History(PathBuf);

impl Drop for History {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Noise that is the same in every run, below `most`.
fn noise(seed: u64, most: u64) -> u64 {
    let mixed = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) % most
}

/// What a planted store has: growth by 2 GiB of pid 130, 3 GiB of pid 117 in swap, thrashing.
fn rss(pid: u32, second: u64, planted: bool) -> u64 {
    let own = (u64::from(pid) % 7 + 4) * 10 * MIB + noise(second * 1000 + u64::from(pid), 256);
    if pid == 141 {
        // It fills its caches: nothing that anybody could call unusual for it.
        own + (second - YOUNG) * 64
    } else if planted && pid == 130 && second >= JUMP {
        own + 2048 * MIB
    } else {
        own
    }
}

/// Pages since boot and µs of waiting: nothing, and for ten minutes 2000 a second and half of the time.
fn thrashed(second: u64, planted: bool) -> u64 {
    if planted {
        second.clamp(THRASH, THRASH + 600) - THRASH
    } else {
        0
    }
}

fn tick(second: u64, planted: bool) -> Tick {
    let mono_ns = (BEGIN + second) * 1_000_000_000;
    let day = std::f64::consts::TAU * second as f64 / 86_400.0;
    let wave = 1024.0 * (1.0 + day.sin());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and 2048"
    )]
    let wave = wave as u64 * MIB;
    let jumped = if planted && second >= JUMP {
        2048 * MIB
    } else {
        0
    };
    let busy = thrashed(second, planted);
    // The last one starts half an hour before the end, and grows.
    let last = if second >= YOUNG { 141 } else { 140 };
    let pids = 101..=last;
    let process = |pid: u32| ProcessSample {
        pid,
        start_ticks: 7,
        comm: RawText::from(format!("service{pid}").as_str()),
        metrics: ProcessMetrics {
            rss_kb: Some(rss(pid, second, planted)),
            swap_kb: Some(if planted && pid == 117 { 3072 * MIB } else { 0 }),
            majflt: Some(3),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    };
    Tick {
        clock: ClockPair {
            mono_ns,
            boot_ns: mono_ns,
            real_ns: i64::try_from(mono_ns).expect("a moment"),
        },
        sample: Sample {
            system: Some(SystemMetrics {
                mem_total_kb: Some(32_768 * MIB),
                mem_available_kb: Some(24_000 * MIB - wave - jumped - noise(second, 40 * MIB)),
                swap_total_kb: Some(8192 * MIB),
                swap_free_kb: Some(5120 * MIB),
                pswpin: Some(2000 * busy),
                pswpout: Some(2000 * busy),
                workingset_refault_anon: Some(1900 * busy),
                psi_full_total_us: Some(500_000 * busy),
                ..SystemMetrics::default()
            }),
            ts_ns: mono_ns,
            processes: pids.clone().map(process).collect(),
            all_processes: true,
            cgroups: [("/shop", 101..=141), ("/shop/db", 130..=130)]
                .map(|(path, members)| {
                    let held =
                        members.map(|pid| rss(pid, second.max(YOUNG), planted && second >= JUMP));
                    let held: u64 = held.sum();
                    CgroupSample {
                        path: RawText::from(path),
                        id: 5,
                        metrics: CgroupMetrics {
                            usage_kb: Some(held + 500 * MIB),
                            anon_kb: Some(held),
                            swap_kb: Some(0),
                            ..CgroupMetrics::default()
                        },
                        ..CgroupSample::default()
                    }
                })
                .into(),
            ..Sample::default()
        },
        identities: pids
            .map(|pid| Identity {
                pid,
                start_ticks: Some(7),
                comm: process(pid).comm,
                cgroup: Some(RawText::from(if pid == 130 { "/shop/db" } else { "/shop" })),
                ..Identity::default()
            })
            .collect(),
    }
}

impl History {
    fn new(name: &str, planted: bool) -> Self {
        let path =
            std::env::temp_dir().join(format!("aiops-anomaly-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        let history = Self(path);
        let store = Store::at(&history.0.join("store")).with_tails(&history.0.join("tails"));
        let host = Host {
            hostname: RawText::from("node-7"),
            ..Host::default()
        };
        let mut recorder = Recorder::open(store, host).expect("a store");
        for second in (0..SPAN).step_by(usize::try_from(EVERY).expect("a step")) {
            recorder
                .push(&tick(second, planted), false)
                .expect("a tick");
        }
        recorder.close().expect("a whole store");
        history
    }

    /// The same samples as a recording of so many seconds, up to the end.
    fn recording(&self, name: &str, seconds: u64, planted: bool) -> String {
        let path = self.0.join(name);
        let mut writer = Writer::create(&path, true).expect("a recording");
        let host = Host {
            hostname: RawText::from("node-7"),
            ..Host::default()
        };
        let mut items = vec![Item::Session(Session {
            command: "collect memory".to_owned(),
            host,
            ..Session::default()
        })];
        for second in (SPAN - seconds..SPAN).step_by(usize::try_from(EVERY).expect("a step")) {
            let Tick {
                clock,
                sample,
                identities,
            } = tick(second, planted);
            items.push(Item::Clock(clock));
            items.extend(identities.into_iter().map(Item::Identity));
            items.push(Item::Sample(sample));
        }
        items.push(Item::End(End {
            ts_ns: (BEGIN + SPAN) * 1_000_000_000,
            reason: EndReason::Duration,
        }));
        for item in &items {
            writer.push(item).expect("an item");
        }
        writer.close().expect("a whole recording");
        path.to_str().expect("a path").to_owned()
    }

    fn run(&self, more: &[&str]) -> Output {
        let store = self.0.join("store");
        let store = store.to_str().expect("a path");
        let mut args = vec!["detect", "anomaly", "--end", "2024-03-07T00:00:00Z"];
        args.extend(["--store", store]);
        args.extend(more);
        aiops(&args)
            .env("TZ", "UTC")
            .env("COLUMNS", "80")
            .output()
            .expect("the program")
    }

    fn text(&self, more: &[&str]) -> String {
        let output = self.run(more);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{more:?}: {error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn data(&self, more: &[&str]) -> Value {
        let mut args = vec!["-o", "json"];
        args.extend(more);
        let text = self.text(&args);
        assert!(!text.contains("NaN"), "{text}");
        let report = json(&text);
        assert_eq!(report["schema"], "aiops.detect-anomaly/1");
        report["data"].clone()
    }
}

/// The anomalies of a kind.
fn of<'a>(data: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = data["anomalies"].as_array().expect("anomalies");
    all.iter().filter(|one| one["kind"] == kind).collect()
}

/// Minutes from a moment of the store to a time of the report.
fn minutes_off(at: &Value, second: u64) -> f64 {
    let at = at.as_str().expect("a time");
    let ns = aiops::time::from_rfc3339(at).expect("RFC 3339");
    (ns as f64 / 1e9 - (BEGIN + second) as f64).abs() / 60.0
}

#[test]
fn what_was_planted_is_found_at_its_time() {
    let history = History::new("planted", true);
    let data = history.data(&[]);
    let growth = of(&data, "growth-point");
    let system = growth
        .iter()
        .find(|one| one["subject"]["what"] == "system-used");
    let system = system.expect("the host's memory jumped");
    assert!(minutes_off(&system["at"], JUMP) <= 4.0, "{system}");
    let size = system["value"].as_f64().expect("a size") / 1024.0;
    assert!((size - 2048.0).abs() < 200.0, "{size} MiB");
    assert!(system["size_sigmas"].as_f64() > Some(7.0), "{system}");
    assert!(
        system["rarity"]["expected_per_day"].as_f64() < Some(0.01),
        "{system}"
    );
    // Who it was stands beside it.
    assert_eq!(system["also_moved"][0]["subject"]["pid"], 130, "{system}");
    let process = growth.iter().find(|one| one["subject"]["pid"] == 130);
    let process = process.expect("the process that grew");
    assert!(minutes_off(&process["at"], JUMP) <= 4.0, "{process}");
    assert_eq!(growth.len(), 2, "{growth:#?}");

    let outliers = of(&data, "outlier-process");
    let reasons: Vec<(u64, &str)> = outliers
        .iter()
        .map(|one| {
            let pid = one["subject"]["pid"].as_u64().expect("a pid");
            (pid, one["reason"].as_str().expect("a reason"))
        })
        .collect();
    assert!(reasons.contains(&(117, "swap")), "{reasons:?}");
    assert!(
        reasons.iter().all(|(pid, _)| [117, 130].contains(pid)),
        "{reasons:?}"
    );

    let thrash = of(&data, "swap-thrash");
    assert_eq!(thrash.len(), 1, "{data:#}");
    assert!(minutes_off(&thrash[0]["at"], THRASH) <= 4.0, "{thrash:?}");
    assert!(
        minutes_off(&thrash[0]["until"], THRASH + 600) <= 4.0,
        "{thrash:?}"
    );
    assert_eq!(of(&data, "swap-sustained").len(), 0, "{data:#}");

    // Only what is asked for.
    let system = history.data(&["--system"]);
    assert_eq!(system["scope"], "system");
    assert_eq!(of(&system, "outlier-process").len(), 0);
    assert_eq!(of(&system, "growth-point").len(), 1);
    let one = history.data(&["--pid", "130"]);
    let pids = one["anomalies"].as_array().expect("anomalies").iter();
    assert!(
        pids.clone().all(|one| one["subject"]["pid"] == 130),
        "{one:#}"
    );
    assert!(pids.count() > 0);
    // The jump is before the last hours, whose history still says what is usual.
    let late = history.data(&["--system", "--history", "3h"]);
    assert_eq!(of(&late, "growth-point").len(), 0, "{late:#}");

    assert_eq!(
        history.run(&["--exit-code"]).status.code(),
        Some(20),
        "thrashing is critical"
    );
    let code = history.run(&["--pid", "130", "--exit-code"]).status.code();
    assert_eq!(code, Some(10), "growth is a warning");
    for lang in ["en", "zh"] {
        let text = history.text(&["--lang", lang]);
        let words: &[&str] = if lang == "en" {
            &[
                "Memory anomalies",
                "growth",
                "service130(130)",
                "2024-03-06 13:00",
                "also moved",
                "Course",
                "▲",
            ]
        } else {
            &[
                "内存异常检测",
                "突增",
                "内存颠簸",
                "离群进程",
                "同时变化",
                "变化曲线",
            ]
        };
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
        if std::env::var_os("AIOPS_SHOW").is_some() {
            println!("{text}");
        }
        for line in text.lines() {
            assert!(aiops::render::width::width(line) <= 80, "{line}");
        }
    }
    assert_eq!(data, history.data(&[]), "the same every time");
}

/// The report on a recording.
fn recorded(file: &str, more: &[&str]) -> Output {
    let mut args = vec!["detect", "anomaly", "--recording", file];
    args.extend(more);
    let output = aiops(&args).env("TZ", "UTC").env("COLUMNS", "80").output();
    output.expect("the program")
}

#[test]
fn a_recording_tells_what_history_tells() {
    let history = History::new("recorded", true);
    let whole = history.recording("whole.aiops", SPAN, true);
    let output = recorded(&whole, &["-o", "json"]);
    let report = json(&String::from_utf8_lossy(&output.stdout));
    let known = history.data(&["--history", "73h"]);
    let data = &report["data"];
    assert_eq!(data["source"], "recording", "{data:#}");
    assert_eq!(data["window"]["samples"], known["window"]["samples"]);
    assert!(
        known["anomalies"]
            .as_array()
            .is_some_and(|all| all.len() >= 4)
    );
    assert_eq!(data["anomalies"], known["anomalies"]);
    assert_eq!(data["series"], known["series"]);
    assert_eq!(report["host"]["hostname"], "node-7");
    assert_eq!(report["accounting"]["complete"], true, "{report:#}");

    // An hour and a half is too short for levels, and that is said; the processes are compared all the same.
    let brief = history.recording("brief.aiops", 5400, true);
    let output = recorded(&brief, &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("only 45 samples of the host in 88min"),
        "{text}"
    );
    assert!(text.contains("need 60") && text.contains("(2h)"), "{text}");
    let output = recorded(&brief, &["-o", "json"]);
    let brief = json(&String::from_utf8_lossy(&output.stdout));
    assert!(brief["data"]["window"]["level_s"].is_null(), "{brief:#}");
    assert_eq!(of(&brief["data"], "growth-point").len(), 0);
    assert!(!of(&brief["data"], "outlier-process").is_empty());

    let wrong = recorded("/dev/null", &[]);
    assert_eq!(wrong.status.code(), Some(1));
    let both = recorded(&whole, &["--history", "3h"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn a_cgroup_has_anomalies_of_its_own() {
    let history = History::new("cgroup", true);
    let data = history.data(&["--cgroup", "/shop/db"]);
    assert_eq!(data["scope"], "chosen");
    let growth = of(&data, "growth-point");
    let group: Vec<&&Value> = growth
        .iter()
        .filter(|one| one["subject"]["what"] == "cgroup")
        .collect();
    // What the processes hold is part of the usage: it is told once.
    assert_eq!(group.len(), 1, "{growth:#?}");
    assert_eq!(group[0]["subject"]["cgroup"], "/shop/db");
    assert_eq!(group[0]["subject"]["measure"], "anon+swap");
    assert!(minutes_off(&group[0]["at"], JUMP) <= 4.0, "{group:#?}");
    assert_eq!(
        group[0]["also_moved"][0]["subject"]["pid"], 130,
        "{group:#?}"
    );
    // And its process.
    assert_eq!(growth.len(), 2, "{growth:#?}");
    // The one above has both cgroups and all processes.
    let data = history.data(&["--cgroup", "/shop"]);
    let paths: Vec<&Value> = of(&data, "growth-point")
        .iter()
        .filter_map(|one| one["subject"].get("cgroup").filter(|path| path.is_string()))
        .collect();
    assert_eq!(paths.len(), 2, "{data:#}");
    let text = history.text(&["--cgroup", "/nobody"]);
    assert!(
        text.contains("No sample of these in the window: /nobody"),
        "{text}"
    );
    let wrong = history.run(&["--cgroup", "/shop", "--system"]);
    assert_eq!(wrong.status.code(), Some(2));
    // By name, as elsewhere.
    let data = history.data(&["--comm", "service130"]);
    let all = data["anomalies"].as_array().expect("anomalies").iter();
    assert!(all.clone().count() > 0 && all.clone().all(|one| one["subject"]["pid"] == 130));
}

#[test]
fn a_calm_host_has_nothing() {
    let history = History::new("calm", false);
    let data = history.data(&["--history", "3d"]);
    assert_eq!(data["anomalies"], Value::Array(Vec::new()), "{data:#}");
    assert_eq!(data["window"]["seasonal"], true, "{data:#}");
    let output = history.run(&["--exit-code"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Nothing out of the ordinary"), "{text}");
}

#[test]
fn what_cannot_be_answered_is_said() {
    let history = History::new("asked", false);
    // Before the store begins.
    let output = history.run(&["--end", "2024-02-01"]);
    assert_eq!(output.status.code(), Some(2), "--end twice");
    let store = history.0.join("store");
    let store = store.to_str().expect("a path");
    let early = aiops(&["detect", "anomaly", "--store", store, "--end", "2024-02-01"]).output();
    let early = early.expect("the program");
    assert!(early.status.success());
    let text = String::from_utf8_lossy(&early.stdout);
    assert!(text.contains("No sample was taken in this range"), "{text}");
    let text = history.text(&["--pid", "141"]);
    assert!(
        text.contains("process 141 was seen for 28 minutes"),
        "{text}"
    );
    let text = history.text(&["--pid", "99999"]);
    assert!(text.contains("99999"), "{text}");
    let nowhere = history.0.join("nowhere");
    let nowhere = nowhere.to_str().expect("a path");
    let none = aiops(&["detect", "anomaly", "--store", nowhere])
        .output()
        .expect("the program");
    assert_eq!(none.status.code(), Some(1));
    let error = String::from_utf8_lossy(&none.stderr);
    assert!(
        error.contains("nowhere") && error.contains("hint:"),
        "{error}"
    );
    let wrong = history.run(&["--history", "0"]);
    assert_eq!(wrong.status.code(), Some(2));
}
