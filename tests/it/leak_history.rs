//! `detect memory-leak` on history: the same samples give the same verdict wherever they come from.

use std::fmt::Write as _;
use std::fs;

use aiops::model::CgroupMetrics;
use aiops::model::CgroupSample;
use aiops::model::ClockPair;
use aiops::model::Host;
use aiops::model::Identity;
use aiops::model::ProcessMetrics;
use aiops::model::ProcessSample;
use aiops::model::RawText;
use aiops::model::Sample;
use aiops::model::SystemMetrics;
use aiops::store::Recorder;
use aiops::store::Store;
use aiops::store::Tick;
use serde_json::Value;

use crate::support::Scratch;
use crate::support::json;
use crate::support::run;

/// 2023-11-14 22:13:20 UTC: ten hours after the host was booted.
const BEGIN: u64 = 1_700_000_000;
const BOOTED: u64 = BEGIN - 36_000;
/// A sample a minute for 20 hours.
const TICKS: u64 = 1200;
const END: &str = "2023-11-15T18:13:20Z";

/// A size that wobbles by up to 512 KiB.
fn kb(mib: f64, tick: u64) -> u64 {
    let mixed = (tick + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55;
    let whole: u64 = format!("{:.0}", mib * 1024.0).parse().expect("a size");
    whole + mixed
}

fn process(pid: u32, started_s: u64, comm: &str, mut metrics: ProcessMetrics) -> ProcessSample {
    let file = metrics.file_kb.unwrap_or(0);
    metrics.rss_kb = metrics.anon_kb.map(|anon| anon + file);
    metrics.vm_size_kb = Some(900_000);
    ProcessSample {
        pid,
        start_ticks: (started_s - BOOTED) * 100,
        comm: RawText::from(comm),
        metrics,
        ..ProcessSample::default()
    }
}

fn anon(mib: f64, tick: u64) -> ProcessMetrics {
    ProcessMetrics {
        anon_kb: Some(kb(mib, tick)),
        file_kb: Some(8000),
        swap_kb: Some(0),
        ..ProcessMetrics::default()
    }
}

/// Every process of a tick.
fn processes(tick: u64) -> Vec<ProcessSample> {
    let hour = tick as f64 / 60.0;
    let leaky = ProcessMetrics {
        threads: Some(4 + tick / 100),
        cpu_ticks: Some(tick * 300 + tick % 7),
        ..anon(100.0 + 5.0 * hour, tick)
    };
    let cache = ProcessMetrics {
        file_kb: Some(kb(50.0 + 30.0 * hour, tick)),
        ..anon(60.0, tick)
    };
    // What grows is swapped out.
    let pushed = ProcessMetrics {
        swap_kb: Some(kb(10.0 + 16.0 * hour, tick)),
        ..anon(300.0 - 10.0 * hour, tick * 3)
    };
    let mut all = vec![
        process(10, BEGIN - 60, "leaky", leaky),
        process(20, BEGIN - 120, "steady", anon(80.0, tick)),
        process(30, BEGIN - 180, "cache", cache),
        process(40, BEGIN - 240, "pushed", pushed),
    ];
    // A service that is restarted every three hours under another id, and leaks: the last life is an hour old.
    let (life, minute) = ((tick + 120) / 180, (tick + 120) % 180);
    if minute < 178 {
        let begun = BEGIN + life * 180 * 60 - 7200;
        let size = anon(50.0 + 0.5 * minute as f64, tick);
        let pid = 100 + u32::try_from(life).expect("few lives");
        all.push(process(pid, begun - 60, "service", size));
    }
    // An id that is used again, by another program.
    if tick < 400 {
        all.push(process(
            70,
            BEGIN - 300,
            "before",
            anon(40.0 + 5.0 * hour, tick),
        ));
    } else if tick > 410 {
        all.push(process(70, BEGIN + 411 * 60, "after", anon(40.0, tick)));
    }
    // Workers of one program: two leak, one does not.
    for (pid, rate) in [(81, 4.0), (82, 4.0), (83, 0.0)] {
        let start = BEGIN - 400 - u64::from(pid);
        all.push(process(
            pid,
            start,
            "worker",
            anon(30.0 + rate * hour, tick * 5),
        ));
    }
    // It was there for five minutes.
    if (500..505).contains(&tick) {
        all.push(process(90, BEGIN + 500 * 60, "task", anon(5.0, tick)));
    }
    all.sort_by_key(|process| process.pid);
    all
}

fn tick(number: u64) -> Tick {
    let since_boot = (BEGIN - BOOTED + number * 60) * 1_000_000_000;
    let real = i64::try_from((BEGIN + number * 60) * 1_000_000_000).expect("a moment");
    let mut all = processes(number);
    let identities = all
        .iter()
        .filter(|_| number.is_multiple_of(10))
        .map(|one| Identity {
            pid: one.pid,
            start_ticks: Some(one.start_ticks),
            comm: one.comm.clone(),
            exe: Some(RawText::from(format!("/srv/{}", one.comm.lossy()).as_str())),
            cgroup: Some(RawText::from("/shop")),
            ..Identity::default()
        });
    let identities = identities.collect();
    let sum = all.iter().filter_map(|one| one.metrics.anon_kb).sum();
    all.sort_by_key(|one| one.pid);
    Tick {
        clock: ClockPair {
            mono_ns: since_boot,
            boot_ns: since_boot,
            real_ns: real,
        },
        sample: Sample {
            system: Some(SystemMetrics {
                mem_total_kb: Some(8 << 20),
                mem_available_kb: Some(1 << 20),
                ..SystemMetrics::default()
            }),
            cgroups: vec![CgroupSample {
                path: RawText::from("/shop"),
                id: 5,
                metrics: CgroupMetrics {
                    usage_kb: Some(sum),
                    anon_kb: Some(sum),
                    swap_kb: Some(0),
                    ..CgroupMetrics::default()
                },
                ..CgroupSample::default()
            }],
            processes: all,
            ..Sample::default()
        },
        identities,
    }
}

/// A store of its own, half of it in segments and half in logs; removed at the end.
struct History(Scratch);

impl History {
    fn new() -> Self {
        let place = Scratch::new();
        let store = Store::at(&place.0.join("store")).with_tails(&place.0.join("tails"));
        let name = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        let host = Host {
            hostname: RawText::from(name.trim()),
            boot_id: Some("5eed0005-0000-4000-8000-000000000000".to_owned()),
            ..Host::default()
        };
        let mut recorder = Recorder::open(store.clone(), host).expect("a store");
        for number in 0..TICKS {
            recorder.push(&tick(number), false).expect("a tick");
            if recorder.turned() && number < TICKS / 2 {
                store.compact().expect("a segment");
            }
        }
        Self(place)
    }

    fn run(&self, args: &[&str]) -> std::process::Output {
        let mut all = vec!["detect", "memory-leak", "--store"];
        let folder = self.0.path("store");
        all.push(&folder);
        all.extend(args);
        all.extend(["--end", END]);
        run(&all)
    }

    fn report(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["--format", "json"]);
        let output = self.run(&all);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(!text.contains("NaN") && !text.contains("inf,"), "{text}");
        json(&text)
    }

    fn data(&self, args: &[&str]) -> Value {
        self.report(args)["data"].clone()
    }
}

/// The report on the same samples from a file, with the beginnings of lives.
fn from_file(comm: &str, since: u64) -> Value {
    let mut text = "ts,kb,start\n".to_owned();
    for number in since..TICKS {
        let all = processes(number);
        let Some(one) = all.iter().find(|one| one.comm.lossy() == comm) else {
            continue;
        };
        let size = one.metrics.anon_kb.expect("anon") + one.metrics.swap_kb.expect("swap");
        let began = BOOTED + one.start_ticks / 100;
        writeln!(text, "{},{size},{began}", BEGIN + number * 60).expect("memory");
    }
    let place = Scratch::new();
    let file = place.path("series.csv");
    fs::write(&file, text).expect("a file");
    let output = run(&[
        "detect",
        "memory-leak",
        "--input",
        &file,
        "--format",
        "json",
    ]);
    json(&String::from_utf8_lossy(&output.stdout))["data"].clone()
}

/// The same verdict with the same figures, to a millionth.
fn same(one: &Value, other: &Value) {
    for key in ["verdict", "shape", "lives", "from_all_lives"] {
        assert_eq!(
            one[key], other[key],
            "{key}: {} {}",
            one["reason"], other["reason"]
        );
    }
    for key in [
        "leak_probability",
        "confidence",
        "rate_mib_per_hour",
        "r2",
        "detection_limit_mib_per_hour",
    ] {
        let (a, b) = (one[key].as_f64(), other[key].as_f64());
        let near = match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1e-6),
            (a, b) => a == b,
        };
        assert!(near, "{key}: {a:?} {b:?}");
    }
    assert_eq!(one["window"]["samples"], other["window"]["samples"]);
}

#[test]
fn history_gives_the_verdict_of_a_file_with_the_same_samples() {
    let store = History::new();
    for (pid, comm) in [
        ("10", "leaky"),
        ("20", "steady"),
        ("30", "cache"),
        ("40", "pushed"),
    ] {
        let data = store.data(&["--pid", pid, "--history", "24h"]);
        same(&data, &from_file(comm, 0));
        assert_eq!(data["process"]["comm"], comm);
        assert_eq!(data["process"]["exe"], format!("/srv/{comm}"));
        assert_eq!(
            (&data["measure"], &data["window"]["source"]),
            (&"anon+swap".into(), &"history".into())
        );
    }
    // A part of it.
    let data = store.data(&["--pid", "10", "--history", "10h"]);
    same(&data, &from_file("leaky", 600));
    // The hours before it speak for the leak; they are too few to make it surer.
    let past = &data["evidence"]["past"];
    assert_eq!(
        (&past["given_back"], &past["rising"]),
        (&0.into(), &past["windows"])
    );

    let leaky = store.report(&["--pid", "10"]);
    let data = &leaky["data"];
    assert_eq!(data["verdict"], "leak");
    let rate = data["rate_mib_per_hour"].as_f64().expect("a rate");
    assert!((rate - 5.0).abs() < 0.1, "{rate}");
    assert_eq!(data["available_kb"], 1 << 20);
    assert_eq!(data["vms"]["first_kb"], 900_000);
    assert_eq!(data["evidence"]["main_component"], "anon");
    assert_eq!(data["evidence"]["threads"]["first"], 4);
    assert_eq!(data["oom"]["limit_source"], "host");
    let evidence = leaky["findings"][0]["evidence"].to_string();
    assert!(
        evidence.contains("most of the growth is anonymous memory"),
        "{evidence}"
    );
    assert!(evidence.contains("threads grew from 4"), "{evidence}");

    // Page cache grows by 30 MiB/h, and is no leak; what is swapped out is one.
    let cache = store.data(&["--pid", "30"]);
    assert_eq!(
        (&cache["verdict"], &cache["evidence"]["main_component"]),
        (&"no-leak".into(), &"file".into())
    );
    let pushed = store.data(&["--pid", "40"]);
    assert_eq!(pushed["verdict"], "leak");
    assert_eq!(pushed["evidence"]["rss_falls_into_swap"], true);
    assert!(
        pushed["rss"]["change_pct"]
            .as_f64()
            .is_some_and(|change| change < 0.0),
        "{}",
        pushed["rss"]
    );
}

#[test]
fn restarts_part_lives_and_an_id_that_is_used_again_does_not_join_two_programs() {
    let store = History::new();
    // The newest life is an hour old; it began under another id than the six before it.
    let data = store.data(&["--pid", "107"]);
    let file = from_file("service", 0);
    same(&data, &file);
    assert_eq!(
        (&data["verdict"], &data["lives"]),
        (&"leak".into(), &8.into())
    );
    assert_eq!(data["from_all_lives"], true);
    assert_eq!(
        data["evidence"]["earlier_lives"].as_array().map(Vec::len),
        Some(7)
    );
    let same_age = &data["evidence"]["same_age"];
    assert!(
        same_age["lives"].as_u64().is_some_and(|lives| lives >= 6),
        "{same_age}"
    );

    let data = store.data(&["--pid", "70"]);
    assert_eq!(
        (&data["process"]["comm"], &data["verdict"]),
        (&"after".into(), &"no-leak".into())
    );
    assert_eq!(data["lives"], 1);
    assert!(
        data["notes"].to_string().contains("was before until"),
        "{}",
        data["notes"]
    );

    // An earlier life, asked for by its own id, has ended.
    let data = store.data(&["--pid", "105"]);
    assert_eq!(data["process"]["alive"], false);
    assert!(
        data["notes"].to_string().contains("not there any more"),
        "{}",
        data["notes"]
    );

    let data = store.data(&["--pid", "81"]);
    let siblings = &data["evidence"]["siblings"];
    assert_eq!(
        (&siblings["count"], &siblings["leaking"]),
        (&2.into(), &1.into()),
        "{siblings}"
    );
    assert!(
        data["evidence"]["earlier_lives"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
}

#[test]
fn everyone_is_ranked_and_the_whole_cgroup_too() {
    let store = History::new();
    let report = store.report(&["--all"]);
    let data = &report["data"];
    let processes = data["processes"].as_array().expect("processes");
    let names: Vec<&str> = processes
        .iter()
        .filter_map(|one| one["process"]["comm"].as_str())
        .collect();
    // By rate: the service 30, then pushed 6, leaky 5, two workers 4 MiB/h.
    assert_eq!(
        names[..5],
        ["service", "pushed", "leaky", "worker", "worker"],
        "{names:?}"
    );
    assert!(processes[..5].iter().all(|one| one["verdict"] == "leak"));
    let quiet = ["steady", "cache", "after"]
        .map(|name| processes.iter().find(|one| one["process"]["comm"] == name));
    assert!(
        quiet
            .iter()
            .all(|one| one.is_some_and(|one| one["verdict"] == "no-leak"))
    );
    // One row for a service with all its lives, none for a task of five minutes.
    assert_eq!(names.iter().filter(|name| **name == "service").count(), 1);
    assert_eq!(data["too_brief"], 1);
    assert_eq!(
        data["verdicts"]["leak"].as_u64(),
        Some(
            processes
                .iter()
                .filter(|one| one["verdict"] == "leak")
                .count() as u64
        )
    );
    assert_eq!(data["cgroups"][0]["process"]["cgroup"], "/shop");
    // Each is what it is when it is asked for alone.
    let alone = store.data(&["--pid", "10"]);
    let listed = processes
        .iter()
        .find(|one| one["process"]["pid"] == 10)
        .expect("it");
    same(listed, &alone);
    let workers = store.data(&["--comm", "worker"]);
    assert_eq!(workers["processes"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        workers["processes"][0]["evidence"]["siblings"]["leaking"],
        1
    );
    assert_eq!(
        store.data(&["--pid", "10,20"])["processes"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let shop = store.data(&["--cgroup", "/shop"]);
    assert_eq!(shop["cgroups"].as_array().map(Vec::len), Some(1));

    let text = store.run(&["--all", "--top", "3"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("service") && text.contains("more: --top 0"),
        "{text}"
    );
    let code = store.run(&["--all", "--exit-code"]);
    assert!(
        matches!(code.status.code(), Some(10 | 20)),
        "{:?}",
        code.status
    );
}

#[test]
fn what_is_not_there_is_an_error_with_a_remedy() {
    let store = History::new();
    let nothing = Scratch::new();
    let empty = nothing.path("none");
    let cases: [(&[&str], i32, &str); 8] = [
        (
            &["--pid", "4000000", "--history", "24h", "--end", END],
            1,
            "no sample of process 4000000",
        ),
        (
            &["--all", "--history", "1h", "--end", "2020-01-01"],
            1,
            "it holds 2023-11-",
        ),
        (&["--all", "--history", "1h", "--store", &empty], 1, "none"),
        (
            &["--pid", "4000000", "--window", "1s"],
            1,
            "process 4000000 is not there",
        ),
        (
            &["--input", "x.csv", "--pid", "1"],
            2,
            "--input goes without",
        ),
        (
            &["--pid", "1", "--window", "1s", "--history", "1h"],
            2,
            "one source at a time",
        ),
        (&["--all", "--comm", "x"], 2, "--all is every process"),
        (&[], 2, "whose memory?"),
    ];
    let folder = store.0.path("store");
    for (args, code, text) in cases {
        let mut all = vec!["detect", "memory-leak"];
        all.extend(args);
        if !args.contains(&"--store") {
            all.extend(["--store", &folder]);
        }
        let output = run(&all);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(text), "{args:?}: {said}");
        assert!(code == 2 || said.contains("hint:"), "{args:?}: {said}");
    }
}

#[test]
fn several_files_are_a_list_and_people_read_it_in_both_languages() {
    let place = Scratch::new();
    let files = [("a.csv", 0.0), ("b.csv", 5.0)].map(|(name, rate)| {
        let mut text = "ts,kb\n".to_owned();
        for number in 0..600_u64 {
            let size = kb(100.0 + rate * number as f64 / 60.0, number);
            writeln!(text, "{},{size}", BEGIN + number * 60).expect("memory");
        }
        let file = place.path(name);
        fs::write(&file, text).expect("a file");
        file
    });
    let [a, b] = &files;
    let output = run(&["detect", "memory-leak", "--input", a, b, "-o", "json"]);
    let data = json(&String::from_utf8_lossy(&output.stdout))["data"].clone();
    assert_eq!(
        (&data["source"], &data["verdicts"]["leak"]),
        (&"files".into(), &1.into())
    );
    assert_eq!(
        data["processes"][0]["process"]["input"].as_str(),
        Some(b.as_str())
    );
    assert!(
        data["processes"][0].get("evidence").is_none(),
        "a file has none"
    );
    for (lang, words) in [("en", "cannot be told yet"), ("zh", "尚不能判断")] {
        let output = run(&[
            "detect",
            "memory-leak",
            "--input",
            a,
            "--input",
            b,
            "--lang",
            lang,
        ]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(words) && text.contains("b.csv"), "{text}");
    }
}
