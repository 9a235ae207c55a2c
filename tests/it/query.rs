//! `query memory` on stores that the test writes: every figure is known beforehand.

use std::fs;
use std::path::PathBuf;

use aiops::model::CgroupMetrics;
use aiops::model::CgroupSample;
use aiops::model::ClockPair;
use aiops::model::Container;
use aiops::model::Host;
use aiops::model::Identity;
use aiops::model::ProcessMetrics;
use aiops::model::ProcessSample;
use aiops::model::RawText;
use aiops::model::Sample;
use aiops::model::SystemMetrics;
use aiops::store::Event;
use aiops::store::Recorder;
use aiops::store::Store;
use aiops::store::Tick;
use serde_json::Value;

use crate::support::aiops;
use crate::support::json;

/// 2024-03-01 10:00:00 UTC.
const BEGIN: u64 = 1_709_287_200;

/// A store of its own, removed at the end.
pub(crate) struct History(PathBuf);

impl Drop for History {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Memory of `web` (pid 10), `db` (pid 20) and of the second `web` (pid 11), which lives from 60 s to 120 s of
/// each hour.
pub(crate) fn rss(pid: u32, second: u64) -> Option<u64> {
    match pid {
        10 => Some(1000 + second / 60),
        11 => (60..=120).contains(&(second % 3600)).then_some(500),
        _ => Some(if second.is_multiple_of(20) {
            4000
        } else {
            2000
        }),
    }
}

fn process(pid: u32, rss_kb: u64) -> ProcessSample {
    ProcessSample {
        pid,
        start_ticks: 7,
        comm: RawText::from(if pid == 20 { "db" } else { "web" }),
        uid: Some(if pid == 20 { 999 } else { 33 }),
        metrics: ProcessMetrics {
            rss_kb: Some(rss_kb),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    }
}

fn identity(pid: u32) -> Identity {
    Identity {
        pid,
        start_ticks: Some(7),
        comm: process(pid, 0).comm,
        user: Some(if pid == 20 { "postgres" } else { "www" }.to_owned()),
        cgroup: Some(RawText::from(if pid == 20 { "/db" } else { "/shop/web" })),
        container: (pid != 20).then(|| Container {
            runtime: "docker".to_owned(),
            id: "0123456789abcdef".to_owned(),
            pod: None,
        }),
        ..Identity::default()
    }
}

fn tick(second: u64) -> Tick {
    let mono_ns = (BEGIN + second) * 1_000_000_000;
    let pids = [10, 11, 20];
    let processes = pids
        .into_iter()
        .filter_map(|pid| Some(process(pid, rss(pid, second)?)));
    Tick {
        clock: ClockPair {
            mono_ns,
            boot_ns: mono_ns,
            real_ns: i64::try_from(mono_ns).expect("a moment"),
        },
        sample: Sample {
            system: Some(SystemMetrics {
                mem_total_kb: Some(10_000),
                mem_available_kb: Some(if second < 1800 { 6000 } else { 4000 }),
                swap_total_kb: Some(2000),
                swap_free_kb: Some(1500),
                psi_some_total_us: Some(second * 20_000),
                disk_read_kb: Some(second * 3),
                net_rx_bytes: Some(second * 1000),
                oom_kill: Some(second / 1800),
                cpu_user_ticks: Some(second * 30),
                cpu_system_ticks: Some(second * 10),
                cpu_idle_ticks: Some(second * 160),
                ..SystemMetrics::default()
            }),
            cgroups: vec![CgroupSample {
                path: RawText::from("/shop/web"),
                id: 5,
                metrics: CgroupMetrics {
                    usage_kb: Some(1500 + second / 3600),
                    limit_kb: Some(3000),
                    oom_kill: Some(second / 3600),
                    ..CgroupMetrics::default()
                },
                ..CgroupSample::default()
            }],
            processes: processes.collect(),
            all_processes: true,
            ..Sample::default()
        },
        identities: pids.into_iter().map(identity).collect(),
    }
}

impl History {
    /// Hours of ticks every 10 s; all but the last one are compacted. `gap` seconds are left out.
    pub(crate) fn new(name: &str, hours: u64, gap: std::ops::Range<u64>) -> Self {
        let path = std::env::temp_dir().join(format!("aiops-query-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        let history = Self(path);
        let store = || Store::at(&history.0.join("store")).with_tails(&history.0.join("tails"));
        let host = Host {
            hostname: RawText::from("node-7"),
            ..Host::default()
        };
        let mut recorder = Recorder::open(store(), host).expect("a store");
        for second in (0..hours * 3600).step_by(10) {
            if !gap.contains(&second) {
                recorder.push(&tick(second), false).expect("a tick");
            }
            if second == 1800 {
                let event = |kind: &str, body: &str| Event {
                    ts_ms: i64::try_from(BEGIN * 1000 + 1_800_000).expect("a moment"),
                    kind: kind.to_owned(),
                    id: format!("{kind}-1"),
                    severity: "critical".to_owned(),
                    title: "db was killed".to_owned(),
                    pid: Some(20),
                    cgroup: Some("/db".to_owned()),
                    body: body.to_owned(),
                };
                let incident = r#"{"kills":[{"pid":20}]}"#;
                recorder.event(&event("oom", incident)).expect("an event");
                recorder.event(&event("monitor", "{}")).expect("an event");
            }
        }
        store().compact().expect("compacted");
        // As a kill leaves it: the last hour is in the log alone.
        drop(recorder);
        history
    }

    pub(crate) fn command(&self, args: &[&str]) -> std::process::Command {
        let store = self.0.join("store");
        let store = store.to_str().expect("a plain path");
        let mut command = aiops(&[&["query", "memory", "--store", store], args].concat());
        command.env("TZ", "UTC");
        command
    }

    pub(crate) fn text(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("the program starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).expect("stdout is UTF-8")
    }

    pub(crate) fn report(&self, args: &[&str]) -> Value {
        json(&self.text(&[&["-o", "json"], args].concat()))
    }
}

fn row<'a>(report: &'a Value, key: &str, wanted: impl Into<Value>) -> &'a Value {
    let rows = report["data"]["rows"].as_array().expect("rows");
    let wanted = wanted.into();
    rows.iter()
        .find(|row| row[key] == wanted)
        .unwrap_or_else(|| panic!("{key} {wanted} of {rows:?}"))
}

pub(crate) fn time(second: u64) -> String {
    let (minutes, seconds) = (second / 60, second % 60);
    format!(
        "2024-03-01T{:02}:{:02}:{seconds:02}Z",
        10 + minutes / 60,
        minutes % 60
    )
}

/// Average of a function over the seconds of ticks.
fn average(seconds: impl Iterator<Item = u64> + Clone, value: impl Fn(u64) -> u64) -> f64 {
    let n = seconds.clone().count() as f64;
    seconds.map(value).sum::<u64>() as f64 / n
}

/// Equal but for the last digit, which a reader of JSON may round.
fn close(value: &Value, wanted: f64) {
    let value = value.as_f64().expect("a number");
    assert!(
        (value - wanted).abs() <= wanted.abs() * 1e-12,
        "{value} is not {wanted}"
    );
}

#[test]
fn averages_are_exact_and_edges_to_the_sample() {
    let history = History::new("exact", 3, 0..0);
    // Whole hours (summed up), edges (runs), and the log: any range gives the figures of its samples.
    for (from, to) in [
        (0, 10_800),
        (0, 3600),
        (5, 3606),
        (1795, 9005),
        (3600, 7200),
        (9000, 10_790),
        (40, 50),
    ] {
        let report = history.report(&["--start", &time(from), "--end", &time(to)]);
        let seconds = || {
            (0..10_800_u64)
                .step_by(10)
                .filter(|at| (from..to).contains(at))
        };
        let (first, last) = (
            seconds().next().expect("one"),
            seconds().last().expect("one"),
        );
        let samples = seconds().count() as u64;
        assert_eq!(report["data"]["range"]["ticks"], samples);
        for pid in [10, 20] {
            let value = |at| rss(pid, at).expect("always there");
            let own = row(&report, "pid", pid);
            assert_eq!(own["samples"], samples, "{pid} {from} {to}");
            assert_eq!(own["first_kb"], value(first));
            assert_eq!(own["last_kb"], value(last));
            assert_eq!(own["min_kb"], Value::from(seconds().map(value).min()));
            assert_eq!(own["max_kb"], Value::from(seconds().map(value).max()));
            close(&own["avg_kb"], average(seconds(), value));
            let growth = value(last).cast_signed() - value(first).cast_signed();
            assert_eq!(own["growth_kb"], growth);
            assert!(
                own["from"]
                    .as_str()
                    .expect("a time")
                    .starts_with(&time(first)[..19])
            );
            assert!(
                own["to"]
                    .as_str()
                    .expect("a time")
                    .starts_with(&time(last)[..19])
            );
        }
    }
}

#[test]
fn groups_are_totals_at_each_moment() {
    let history = History::new("groups", 2, 0..0);
    let all = ["--start", &time(0), "--end", &time(7200)];
    let report = history.report(&[&all[..], &["--group-by", "comm", "--agg", "p95"]].concat());
    let web = row(&report, "name", "web");
    let total = |at| rss(10, at).unwrap_or(0) + rss(11, at).unwrap_or(0);
    let seconds = || (0..7200_u64).step_by(10);
    assert_eq!(web["processes"], 2);
    assert_eq!(web["samples"], 720);
    assert_eq!(web["max_kb"], Value::from(seconds().map(total).max()));
    assert_eq!(web["min_kb"], Value::from(seconds().map(total).min()));
    close(&web["avg_kb"], average(seconds(), total));
    let mut sorted: Vec<u64> = seconds().map(total).collect();
    sorted.sort_unstable();
    assert_eq!(web["p95_kb"], sorted[720 * 95 / 100 - 1]);
    for (by, name) in [
        ("cgroup", "/shop/web"),
        ("container", "docker:0123456789abcdef"),
        ("user", "www"),
    ] {
        let report = history.report(&[&all[..], &["--group-by", by]].concat());
        assert_eq!(row(&report, "name", name)["avg_kb"], web["avg_kb"], "{by}");
        assert_eq!(report["data"]["rows"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn a_group_is_nothing_where_nobody_of_it_is() {
    let history = History::new("absent", 2, 600..660);
    let figures = |from: u64, to: u64| {
        let all = ["--start", &time(from), "--end", &time(to), "--pid", "11"];
        let more = ["--group-by", "comm", "--agg", "p95", "--step", "30s"];
        history.report(&[&all[..], &more].concat())["data"]["rows"][0].clone()
    };
    // There from 60 s to 120 s of each hour: 14 of 714 ticks, 7 of 10.
    let web = figures(0, 7200);
    assert_eq!(
        (&web["samples"], &web["processes"]),
        (&14.into(), &1.into())
    );
    close(&web["avg_kb"], 500.0 * 14.0 / 714.0);
    for (key, value) in [
        ("first_kb", 0),
        ("last_kb", 0),
        ("min_kb", 0),
        ("p95_kb", 0),
    ] {
        assert_eq!(web[key], value, "{key}");
    }
    assert_eq!(web["max_kb"], 500);
    let web = figures(40, 140);
    close(&web["avg_kb"], 500.0 * 7.0 / 10.0);
    assert_eq!(
        (&web["first_kb"], &web["growth_kb"]),
        (&0.into(), &0.into())
    );
    // Steps from 40, 70 and 100 s: of the first, one tick of three is its own.
    let series = web["series"].as_array().expect("steps");
    let values: Vec<&Value> = series.iter().map(|point| &point["samples"]).collect();
    assert_eq!(values, [3, 3, 3]);
    assert_eq!(
        (&series[0]["min"], &series[1]["min"]),
        (&0.into(), &500.into())
    );
    let web = figures(60, 100);
    assert_eq!(
        (&web["min_kb"], &web["last_kb"]),
        (&500.into(), &500.into())
    );
    // From the middle of it to where it is gone.
    let web = figures(100, 300);
    assert_eq!(
        (&web["first_kb"], &web["growth_kb"]),
        (&500.into(), &(-500).into())
    );
}

#[test]
fn steps_are_of_the_first_rows() {
    let history = History::new("series", 2, 0..0);
    let all = ["--start", &time(0), "--end", &time(7200), "--step", "30m"];
    for by in ["pid", "comm"] {
        let more = ["--group-by", by, "--agg", "avg", "--top", "1"];
        let report = history.report(&[&all[..], &more].concat());
        let rows = report["data"]["rows"].as_array().expect("rows");
        assert_eq!(report["data"]["series_rows"], 1);
        assert!(rows.len() > 1, "{by}");
        assert_eq!(rows[0]["name"], "db");
        assert_eq!(rows[0]["series"].as_array().map(Vec::len), Some(4));
        assert_eq!(rows[0]["series"][0]["value"], 3000.0);
        assert!(rows[1..].iter().all(|row| row.get("series").is_none()));
        let more = ["--group-by", by, "--top", "0"];
        let report = history.report(&[&all[..], &more].concat());
        let rows = report["data"]["rows"].as_array().expect("rows");
        assert!(rows.iter().all(|row| row["series"].is_array()), "{by}");
    }
}

#[test]
fn courses_stand_on_one_axis() {
    let history = History::new("axis", 2, 0..0);
    let all = ["--start", &time(0), "--end", &time(7200), "--step", "5m"];
    let text = history.text(&[&all[..], &["--group-by", "pid"]].concat());
    // The second web: in the first five minutes of each hour.
    let curve = format!("█{0}█{0}", "·".repeat(11));
    assert!(text.contains(&curve), "{text}");
}

#[test]
fn filters_sort_and_top() {
    let history = History::new("filters", 2, 0..0);
    let all = ["--start", &time(0), "--end", &time(7200)];
    let pids = |more: &[&str]| -> Vec<u64> {
        let report = history.report(&[&all[..], more].concat());
        let rows = report["data"]["rows"].as_array().expect("rows").clone();
        rows.iter().filter_map(|row| row["pid"].as_u64()).collect()
    };
    assert_eq!(pids(&[]), [20, 10, 11]);
    assert_eq!(pids(&["--sort", "growth"]), [10, 11, 20]);
    // The text alone is cut.
    assert_eq!(pids(&["--sort", "pid", "--top", "2"]), [10, 11, 20]);
    let text = history.text(&[&all[..], &["--sort", "pid", "--top", "2"]].concat());
    assert!(text.contains("1 more (--top 0)"), "{text}");
    assert_eq!(pids(&["--pid", "11,20"]), [20, 11]);
    assert_eq!(pids(&["--comm", "web"]), [10, 11]);
    assert_eq!(pids(&["--cgroup", "/shop"]), [10, 11]);
    assert_eq!(pids(&["--cgroup", "/sho"]), [0; 0]);
    for id in ["docker:0123456789abcdef", "0123456789abcdef", "0123456"] {
        assert_eq!(pids(&["--container", id]), [10, 11], "{id}");
    }
    for id in ["podman:0123456789abcdef", "012345", "1234567"] {
        assert_eq!(pids(&["--container", id]), [0; 0], "{id}");
    }
    assert_eq!(pids(&["--user", "postgres"]), [20]);
    assert_eq!(pids(&["--user", "33"]), [10, 11]);
}

#[test]
fn steps_hold_what_was_between_them() {
    let history = History::new("steps", 2, 0..0);
    let all = [
        "--start",
        &time(0),
        "--end",
        &time(7200),
        "--pid",
        "10",
        "--agg",
        "avg",
    ];
    for (step, length) in [("5m", 300_u64), ("1h", 3600)] {
        let report = history.report(&[&all[..], &["--step", step]].concat());
        let series = row(&report, "pid", 10)["series"]
            .as_array()
            .expect("steps")
            .clone();
        assert_eq!(series.len() as u64, 7200 / length);
        for (at, point) in (0_u64..).zip(&series) {
            let begin = at * length;
            let seconds = (begin..begin + length).step_by(10);
            let value = |second| rss(10, second).unwrap_or(0);
            assert_eq!(point["ts_ms"], (BEGIN + begin) * 1000);
            assert_eq!(point["samples"], length / 10);
            close(&point["value"], average(seconds, value));
        }
    }
}

#[test]
fn the_host_its_cgroups_and_what_happened() {
    let history = History::new("host", 2, 0..0);
    let all = ["--start", &time(0), "--end", &time(7200), "--step", "30m"];
    let report = history.report(&[&all[..], &["--system", "--cgroups", "--incidents"]].concat());
    assert_eq!(report["data"]["rows"], Value::Array(Vec::new()));
    assert_eq!(report["host"]["hostname"], "node-7");
    let steps = report["data"]["system"].as_array().expect("steps");
    assert_eq!(steps.len(), 4);
    assert_eq!(steps[0]["mem_available_kb"], 6000.0);
    assert_eq!(steps[1]["mem_used_max_kb"], 6000);
    assert_eq!(steps[1]["swap_used_kb"], 500.0);
    assert_eq!(steps[1]["oom_kills"], 1);
    for (key, value) in [
        ("psi_some_percent", 2.0),
        ("cpu_percent", 20.0),
        ("disk_read_kb_per_s", 3.0),
        ("net_rx_bytes_per_s", 1000.0),
    ] {
        assert_eq!(steps[2][key], value, "{key}");
    }
    assert_eq!(steps[2]["net_tx_bytes_per_s"], Value::Null);
    let cgroup = &report["data"]["cgroups"][0];
    assert_eq!(cgroup["path"], "/shop/web");
    assert_eq!(cgroup["max_kb"], 1501);
    assert_eq!(cgroup["avg_kb"], 1500.5);
    assert_eq!(cgroup["limit_kb"], 3000);
    assert_eq!(cgroup["oom_kills"], 1);
    let incidents = report["data"]["incidents"].as_array().expect("incidents");
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0]["id"], "oom-1");
    assert_eq!(incidents[0]["body"]["kills"][0]["pid"], 20);
}

#[test]
fn gaps_are_named() {
    let history = History::new("gaps", 1, 600..900);
    let report = history.report(&["--start", &time(0), "--end", &time(3600)]);
    let range = &report["data"]["range"];
    assert_eq!(
        (&range["ticks"], &range["interval_ms"]),
        (&330.into(), &10_000.into())
    );
    let gaps = range["gaps"].as_array().expect("gaps");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["seconds"], 310.0);
    let empty = history.report(&["--start", "2023-01-01", "--end", "2023-01-02"]);
    assert_eq!(empty["findings"][0]["id"], "history-empty-range");
    let evidence = empty["findings"][0]["evidence"][0]
        .as_str()
        .expect("a text");
    assert!(
        evidence.contains("2024-03-01T10:00:00") && evidence.contains("10:59:50"),
        "{evidence}"
    );
}

#[test]
fn damage_is_told_and_the_rest_is_read() {
    let history = History::new("damage", 3, 0..0);
    let segments = history.0.join("store/segments");
    let mut folders: Vec<PathBuf> = fs::read_dir(segments)
        .expect("segments")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    folders.sort();
    fs::write(folders[0].join("process.parquet"), b"no table").expect("damage");
    fs::write(folders[0].join("rollup.parquet"), b"no table").expect("damage");
    let all = ["--start", &time(0), "--end", &time(10_800)];
    let report = history.report(&all);
    assert_eq!(report["accounting"]["complete"], false);
    assert_eq!(report["findings"][0]["id"], "history-damaged");
    assert_eq!(row(&report, "pid", 10)["samples"], 720);
    let strict = history
        .command(&[&["--strict"], &all[..]].concat())
        .output()
        .expect("it starts");
    assert_eq!(strict.status.code(), Some(3));
    // Whatever else is asked for and is whole.
    let several = [&all[..], &["--processes", "--system", "--incidents"]].concat();
    let report = history.report(&several);
    assert_eq!(report["accounting"]["complete"], false);
    assert_eq!(report["findings"][0]["id"], "history-damaged");
    assert_eq!(report["data"]["range"]["ticks"], 1080);
    // Samples were taken, and somebody was there: neither can be denied.
    let first = ["--start", &time(0), "--end", &time(3600)];
    for more in [&[][..], &["--processes", "--incidents"]] {
        let report = history.report(&[&first[..], more].concat());
        let findings = report["findings"].as_array().expect("findings");
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0]["id"], "history-damaged");
    }
    // A table of csv has no place for it.
    let csv = history
        .command(&[&first[..], &["-o", "csv"]].concat())
        .output()
        .expect("it starts");
    assert_eq!(csv.status.code(), Some(0));
    let said = String::from_utf8_lossy(&csv.stderr);
    assert!(
        said.starts_with("warning: ") && said.contains("process.parquet"),
        "{said}"
    );
}

#[test]
fn a_table_without_rows_says_why() {
    let history = History::new("csv-empty", 1, 0..0);
    let empty = ["--start", "2023-01-01", "--end", "2023-01-02", "-o", "csv"];
    let output = history.command(&empty).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("No sample was taken in this range"), "{said}");
    assert!(said.contains("2024-03-01T10:00:00"), "{said}");
    let text = String::from_utf8(output.stdout).expect("a text");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn every_format_says_the_same() {
    let history = History::new("formats", 2, 0..0);
    let all = ["--start", &time(0), "--end", &time(7200)];
    let csv = history.text(&[&all[..], &["-o", "csv"]].concat());
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next().expect("names").split(',').collect();
    let first: Vec<&str> = lines.next().expect("a row").split(',').collect();
    assert_eq!(head.len(), first.len());
    let cell = |name: &str| first[head.iter().position(|one| *one == name).expect("a column")];
    assert_eq!(
        (cell("name"), cell("pid"), cell("max_kb")),
        ("db", "20", "4000")
    );
    assert_eq!((cell("avg_kb"), cell("p95_kb")), ("3000", ""));
    assert_eq!(csv.lines().count(), 4);
    let jsonl = history.text(&[&all[..], &["-o", "jsonl"]].concat());
    let lines: Vec<Value> = jsonl.lines().map(json).collect();
    assert_eq!(lines.len(), 4);
    let (last, rows) = lines.split_last().expect("a line");
    assert_eq!(last["type"], "report");
    assert_eq!(last["data"]["rows_total"], 3);
    assert!(rows.iter().all(|row| row["type"] == "row"));
    assert_eq!(
        (&rows[0]["pid"], &rows[0]["avg_kb"]),
        (&20.into(), &3000.0.into())
    );
    // JSON holds the same rows, in the same order.
    let report = history.report(&all);
    let whole = report["data"]["rows"].as_array().expect("rows");
    for (row, line) in whole.iter().zip(rows) {
        let mut line = line.clone();
        line.as_object_mut().expect("an object").remove("type");
        assert_eq!(*row, line);
    }
    let both = ["--system", "--cgroups", "--incidents", "-o", "jsonl"];
    let kinds = history.text(&[&all[..], &both].concat());
    let mut kinds: Vec<String> = kinds
        .lines()
        .map(|line| json(line)["type"].as_str().expect("a type").to_owned())
        .collect();
    kinds.dedup();
    assert_eq!(kinds, ["system", "cgroup", "incident", "report"]);
    let steps = ["--cgroups", "--step", "30m", "-o", "csv"];
    let csv = history.text(&[&all[..], &steps].concat());
    let second: Vec<&str> = csv.lines().nth(1).expect("a step").split(',').collect();
    assert_eq!(csv.lines().count(), 5);
    assert_eq!(
        (second[0], second[3], second[5]),
        ("/shop/web", "1500", "1500")
    );
    let text = history.text(&[&all[..], &["--step", "10m"]].concat());
    assert!(
        text.contains("Memory history") && text.contains("3 processes, rss_kb"),
        "{text}"
    );
    assert!(text.contains('▇') || text.contains('█'), "{text}");
    let chinese = history.text(&[&all[..], &["--lang", "zh", "--system", "--cgroups"]].concat());
    assert!(
        chinese.contains("内存历史查询") && chinese.contains("限额"),
        "{chinese}"
    );
    let ascii = history
        .command(&[&all[..], &["--step", "10m"]].concat())
        .env("LC_ALL", "C")
        .output()
        .expect("the program starts");
    assert!(
        ascii.stdout.is_ascii(),
        "{}",
        String::from_utf8_lossy(&ascii.stdout)
    );
}

#[test]
fn what_makes_no_sense_is_said() {
    let history = History::new("sense", 1, 0..0);
    let fails = |args: &[&str], code: i32, says: &str| {
        let output = history.command(args).output().expect("the program starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(says), "{args:?}: {error}");
        assert!(output.stdout.is_empty());
    };
    fails(
        &["--start", "2024-03-02", "--end", "2024-03-01 10:00"],
        2,
        "--start 2024-03-02",
    );
    fails(
        &["--start", "2024-03-02", "--end", "2024-03-01 10:00"],
        2,
        "--end 2024-03-01 10:00",
    );
    fails(&["--start", "soon"], 2, "'soon' is no time");
    fails(&["--step", "0"], 2, "--step");
    fails(
        &["--system", "--cgroups", "-o", "csv"],
        2,
        "csv holds one table",
    );
    for args in [
        ["--incidents", "--comm", "db"],
        ["--cgroups", "--pid", "10"],
        ["--system", "--user", "www"],
    ] {
        fails(&args, 2, "is about processes");
    }
    let report = history.report(&["--end", "2024-03-01 11:00"]);
    let start = report["data"]["range"]["start"].as_str().expect("a time");
    assert!(start.starts_with("2024-03-01T10:00:00"), "{start}");
    let empty = history.0.join("empty");
    fs::create_dir_all(&empty).expect("a folder");
    for (store, says) in [
        ("/nowhere/at/all", "hint: `aiops monitor memory`"),
        (empty.to_str().expect("a path"), "no history there"),
    ] {
        let output = aiops(&["query", "memory", "--store", store]).output();
        let output = output.expect("the program starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(says), "{error}");
    }
    let other = aiops(&["doctor", "-o", "csv"]).output().expect("it starts");
    assert_eq!(other.status.code(), Some(2));
}
