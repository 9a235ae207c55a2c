//! `detect memory-leak` on a store that is older than the window: what was given back before is no leak, and scripts
//! of one interpreter are not the same program.

use std::fs;

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

/// 2023-11-14 22:13:20 UTC, and an hour after the host was booted.
const BEGIN: u64 = 1_700_000_000;
const BOOTED: u64 = BEGIN - 3600;
/// A sample every five minutes, for five days.
const STEP_S: u64 = 300;
const TICKS: u64 = 1440;
const END: &str = "2023-11-19T22:13:20Z";

/// A size that wobbles by up to 256 KiB.
fn kb(mib: f64, tick: u64) -> u64 {
    let mixed = (tick + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    let whole: u64 = format!("{:.0}", mib * 1024.0).parse().expect("a size");
    whole + mixed
}

/// Up by 14 MiB in 15 hours and down again; at the end it has been rising for 13.5.
fn tide(hour: f64) -> f64 {
    let place = (hour + 13.5) % 30.0;
    100.0 + 14.0 * (1.0 - (place - 15.0).abs() / 15.0)
}

/// Pid, name, path, arguments, MiB by the hour.
fn programs(hour: f64) -> [(u32, &'static str, &'static str, &'static str, f64); 6] {
    let python = "/usr/bin/python3.12";
    [
        (10, "tide", "/srv/tide", "/srv/tide", tide(hour)),
        // Level until the last twelve hours.
        (
            20,
            "fresh",
            "/srv/fresh",
            "/srv/fresh",
            100.0 + (hour - 108.0).max(0.0),
        ),
        (30, "old", "/srv/old", "/srv/old", 50.0 + hour),
        // Three processes of one interpreter, two of them of one script.
        (
            41,
            "python3",
            python,
            "python3 /srv/a.py --n 1",
            50.0 + hour,
        ),
        (42, "python3", python, "python3 /srv/a.py --n 2", 50.0),
        (43, "python3", python, "python3 /srv/b.py", 50.0),
    ]
}

fn tick(number: u64) -> Tick {
    let since_boot = (BEGIN - BOOTED + number * STEP_S) * 1_000_000_000;
    let real = i64::try_from((BEGIN + number * STEP_S) * 1_000_000_000).expect("a moment");
    let all = programs((number * STEP_S) as f64 / 3600.0);
    let start_ticks = |pid: u32| 100 * u64::from(pid);
    let samples = all.iter().map(|(pid, comm, .., mib)| {
        let anon = kb(*mib, number + u64::from(*pid) * 977);
        ProcessSample {
            pid: *pid,
            start_ticks: start_ticks(*pid),
            comm: RawText::from(*comm),
            metrics: ProcessMetrics {
                rss_kb: Some(anon + 4000),
                anon_kb: Some(anon),
                file_kb: Some(4000),
                swap_kb: Some(0),
                ..ProcessMetrics::default()
            },
            ..ProcessSample::default()
        }
    });
    let told = number.is_multiple_of(10);
    let identities = all.iter().filter(|_| told).map(|one| Identity {
        pid: one.0,
        start_ticks: Some(start_ticks(one.0)),
        comm: RawText::from(one.1),
        exe: Some(RawText::from(one.2)),
        cmdline: one.3.split(' ').map(RawText::from).collect(),
        cgroup: Some(RawText::from("/shop")),
        ..Identity::default()
    });
    Tick {
        identities: identities.collect(),
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
            processes: samples.collect(),
            ..Sample::default()
        },
    }
}

/// A store of its own, removed at the end.
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
            if recorder.turned() && number % 288 < 12 {
                store.compact().expect("a segment");
            }
        }
        Self(place)
    }

    fn report(&self, args: &[&str]) -> Value {
        let folder = self.0.path("store");
        let mut all = vec!["detect", "memory-leak", "--store", &folder, "--end", END];
        all.extend(args);
        all.extend(["--format", "json"]);
        let output = run(&all);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        json(&String::from_utf8_lossy(&output.stdout))
    }
}

fn of(report: &Value, pid: u32) -> Value {
    let list = report["data"]["processes"].as_array().expect("a list");
    let found = list.iter().find(|one| one["process"]["pid"] == pid);
    found.expect("it is there").clone()
}

#[test]
fn what_rose_before_and_was_given_back_is_no_leak_and_what_is_new_is_one() {
    let store = History::new();
    let tide = store.report(&["--pid", "10", "--history", "12h"])["data"].clone();
    let past = &tide["evidence"]["past"];
    assert_eq!(past["verdict_alone"], "leak", "{tide:#}");
    assert_ne!(tide["verdict"], "leak");
    let number = |value: &Value| value.as_u64().expect("a number");
    assert!(number(&past["given_back"]) >= 2, "{past}");
    assert_eq!(number(&past["kept"]), 0, "{past}");
    let last = &past["last_given_back"];
    assert!(number(&last["rise_kb"]) > 8 * 1024, "{last}");
    let texts = ["start", "top", "back"].map(|key| last[key].as_str().expect("a time").to_owned());
    assert!(texts[0] < texts[1] && texts[1] < texts[2], "{texts:?}");
    let reason = tide["reason"].to_string();
    assert!(reason.contains("but it rose as much"), "{reason}");
    assert!(tide["oom"].is_null(), "{}", tide["oom"]);
    let lines = tide["evidence"]["lines"].to_string();
    assert!(lines.contains("the last such rise"), "{lines}");
    let alternatives = tide["alternatives"].as_array().expect("a list");
    let past = alternatives.iter().find(|one| one["id"] == "past");
    assert_eq!(past.map(|one| &one["ruled_out"]), Some(&false.into()));

    // It is told the same in the list of all.
    let all = store.report(&["--all", "--history", "12h"]);
    assert_eq!(of(&all, 10)["verdict"], tide["verdict"]);
    assert_eq!(of(&all, 10)["reason"], tide["reason"]);

    // A leak that began with the window is one, and a leak of all the past too.
    let fresh = of(&all, 20);
    assert_eq!(fresh["verdict"], "leak", "{}", fresh["reason"]);
    let past = &fresh["evidence"]["past"];
    assert_eq!(
        (number(&past["rises"]), number(&past["given_back"])),
        (0, 0)
    );
    assert!(past["verdict_alone"].is_null());
    let lines = fresh["evidence"]["lines"].to_string();
    assert!(lines.contains("this is new"), "{lines}");
    let old = of(&all, 30);
    assert_eq!(
        (&old["verdict"], &old["evidence"]["past"]["steady"]),
        (&"leak".into(), &true.into())
    );
    assert!(old["oom"]["hours"].is_number());

    // Nothing is older than the whole store.
    let whole = store.report(&["--pid", "30", "--history", "6d"])["data"].clone();
    assert_eq!(whole["verdict"], "leak");
    assert!(
        whole["evidence"]["past"].is_null(),
        "{}",
        whole["evidence"]["past"]
    );
}

#[test]
fn scripts_of_one_interpreter_are_not_siblings() {
    let store = History::new();
    let all = store.report(&["--all", "--history", "12h"]);
    for (pid, count, leaking) in [(41, 1, 0), (42, 1, 1)] {
        let alone = store.report(&["--pid", &pid.to_string(), "--history", "12h"]);
        for data in [&alone["data"], &of(&all, pid)] {
            let siblings = &data["evidence"]["siblings"];
            assert_eq!(
                (&siblings["count"], &siblings["leaking"]),
                (&count.into(), &leaking.into()),
                "{siblings}"
            );
        }
    }
    let other = of(&all, 43);
    assert!(
        other["evidence"]["siblings"].is_null(),
        "{}",
        other["evidence"]
    );
}
