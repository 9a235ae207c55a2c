//! The history on disk: a writer that is killed at random moments, a store that is damaged, and the commands that look
//! after it.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use aiops::model::ClockPair;
use aiops::model::Host;
use aiops::model::ProcessMetrics;
use aiops::model::ProcessSample;
use aiops::model::RawText;
use aiops::model::Sample;
use aiops::store::Ask;
use aiops::store::Range;
use aiops::store::Recorder;
use aiops::store::Store;
use aiops::store::Tick;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::Scratch;
use crate::support::run;

/// This host, as the program sees it.
fn host() -> Host {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    Host {
        hostname: RawText::from(name.trim()),
        ..Host::default()
    }
}

/// One process, whose memory is the number of the tick; no suspend.
pub(crate) fn tick_at(number: u64, mono_ns: u64, real_ns: i64) -> Tick {
    Tick {
        clock: ClockPair {
            mono_ns,
            boot_ns: mono_ns,
            real_ns,
        },
        sample: Sample {
            processes: vec![ProcessSample {
                pid: 1,
                start_ticks: 5,
                comm: RawText::from("one"),
                metrics: ProcessMetrics {
                    rss_kb: Some(number),
                    ..ProcessMetrics::default()
                },
                ..ProcessSample::default()
            }],
            ..Sample::default()
        },
        identities: Vec::new(),
    }
}

/// A sync every few ticks, another log every few hundred.
fn tick(number: u64) -> Tick {
    let mono_ns = number * 7_000_000_000;
    let real_ns = 1_700_000_000_000_000_000 + i64::try_from(mono_ns).expect("a time");
    tick_at(number, mono_ns, real_ns)
}

fn store(place: &Scratch) -> Store {
    Store::at(&place.0.join("store")).with_tails(&place.0.join("tails"))
}

/// Not a test: the writer that is killed. It prints the number of each tick after it was taken, and makes segments of
/// finished logs as it goes.
#[test]
fn recording_child() {
    let Some(folder) = std::env::var_os("AIOPS_TEST_STORE") else {
        return;
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).expect("a death signal");
    let folder = Path::new(&folder);
    let store = Store::at(&folder.join("store")).with_tails(&folder.join("tails"));
    let mut recorder = Recorder::open(store.clone(), host()).expect("a store");
    for number in 1_u64.. {
        let tick = tick(number);
        recorder.push(&tick, number % 11 == 0).expect("a tick");
        println!("PUSHED {number}");
        if recorder.turned() {
            store.compact().expect("a segment");
        }
    }
}

/// Starts a writer, kills it a while after its start or after its first tick, and returns the last number that it
/// printed.
fn killed(place: &Scratch, after: Duration, of_first: bool) -> u64 {
    let exe = std::env::current_exe().expect("the test binary");
    let mut child = Command::new(exe)
        .args(["--exact", "store::recording_child", "--nocapture"])
        .env("AIOPS_TEST_STORE", &place.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let out = BufReader::new(child.stdout.take().expect("its output"));
    let (first, begun) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        let mut last = 0;
        let mut bytes = Vec::new();
        let mut out = out;
        while out.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            // The end of a line says that all of it is there.
            let line = String::from_utf8_lossy(&bytes).into_owned();
            let number = line
                .split_once("PUSHED ")
                .and_then(|(_, rest)| rest.strip_suffix('\n')?.parse().ok());
            last = number.unwrap_or(last);
            if last > 0 {
                // Nobody may wait for it.
                let _ = first.send(());
            }
            bytes.clear();
        }
        last
    });
    if of_first {
        begun.recv().expect("a first tick");
    }
    thread::sleep(after);
    child.kill().expect("a kill");
    child.wait().expect("its end");
    reader.join().expect("its numbers")
}

/// Count and sum of all ticks, in segments and logs.
fn everything(store: &Store) -> (u64, u64) {
    let ask = Ask {
        range: Range {
            start_ms: 0,
            end_ms: i64::MAX,
        },
        fields: &["rss_kb"],
        pids: &[],
        programs: false,
    };
    let (mut n, mut sum) = (0, 0);
    let coverage = store.runs(&ask, &mut |run| {
        let number = run.values[0].expect("a figure").cast_unsigned();
        n += run.n as u64;
        sum += number * run.n as u64;
    });
    let damages = coverage.expect("a store").damages;
    assert_eq!(damages, [], "a kill damages nothing");
    (n, sum)
}

#[test]
fn a_writer_killed_at_random_moments_loses_nothing_that_it_took() {
    let kills = if std::env::var_os("AIOPS_LONG").is_some() {
        500
    } else {
        20
    };
    let (mut seed, mut most, mut some) = (42_u64, 0, 0);
    for kill in 0..kills {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let place = Scratch::new();
        // On a busy host a start takes long: three of four are killed while they write.
        let (after, of_first) = (20_000 + (seed >> 40) % 300_000, kill % 4 != 0);
        let last = killed(&place, Duration::from_micros(after), of_first);
        most = most.max(last);
        some += u64::from(last > 0);
        let store = store(&place);
        if last == 0 && !store.folder().join("wal").exists() {
            continue;
        }
        let (n, sum) = everything(&store);
        assert!(
            n == last || n == last + 1,
            "kill {kill}: {last} taken, {n} there"
        );
        assert_eq!(sum, n * (n + 1) / 2, "kill {kill}: each tick once");
        // The next writer goes on, and upkeep finds nothing wrong.
        store.compact().expect("segments of what was left");
        assert_eq!(everything(&store), (n, sum), "kill {kill}");
        Recorder::open(store, host()).expect("the next writer");
    }
    println!("{kills} of {kills} kills; {some} wrote, up to {most} ticks");
    assert!(
        some > kills / 2 && most > 10,
        "{some} writers wrote, up to {most}"
    );
}

/// What a query says of the store: samples of each process that had pid 1, and the least and most of their memory.
fn asked(place: &Scratch) -> Vec<[u64; 3]> {
    let (start, end) = ("2023-11-01T00:00:00Z", "2023-12-01T00:00:00Z");
    let path = place.path("store");
    let (report, code) = json(&[
        "query", "memory", "--store", &path, "--start", start, "--end", end, "-o", "json",
    ]);
    assert_eq!(code, Some(0), "{report}");
    let rows = report["data"]["rows"].as_array().expect("rows");
    let figures = ["samples", "min_kb", "max_kb"];
    let figures = |row: &Value| figures.map(|name| row[name].as_u64().expect("a figure"));
    let mut rows: Vec<_> = rows.iter().map(figures).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn a_query_counts_every_sample_once_whatever_the_clocks_did() {
    let place = Scratch::new();
    // Pid 1 of three boots, each of which begins its clocks anew; killed each time.
    for (boot, count) in [50_u64, 60, 70].into_iter().enumerate() {
        let host = Host {
            boot_id: Some(format!("{boot}0000000-0000")),
            ..host()
        };
        let store = store(&place);
        let mut recorder = Recorder::open(store.clone(), host).expect("a store");
        for number in 1..=count {
            let mut tick = tick(number);
            // No two boots are at the same nanosecond: logs are told apart by it.
            tick.clock.mono_ns += boot as u64;
            tick.clock.boot_ns += boot as u64;
            let mut move_s = |real: i64, boot: u64| {
                tick.clock.real_ns += real * 1_000_000_000;
                tick.clock.boot_ns += boot * 1_000_000_000;
            };
            match number {
                // Set forward by hours, back to before the first tick, and suspended for an hour.
                11..=20 => move_s(7200, 0),
                21..=30 => move_s(-9000, 0),
                31..=40 => move_s(-5400, 3600),
                // Back to times that are there already, but for the suspend.
                41.. => move_s(-110, 3600),
                _ => {}
            }
            recorder.push(&tick, false).expect("a tick");
            if recorder.turned() && boot == 1 {
                store.compact().expect("a segment");
            }
        }
    }
    let expected = [[50, 1, 50], [60, 1, 60], [70, 1, 70]];
    assert_eq!(asked(&place), expected);
    store(&place).compact().expect("segments of the rest");
    assert_eq!(asked(&place), expected, "from segments");
    let broken = store(&place).verify().expect("a store").broken;
    assert_eq!(broken, []);
}

/// A store with a segment and a log.
fn made(place: &Scratch) -> String {
    let store = store(place);
    let mut recorder = Recorder::open(store.clone(), host()).expect("a store");
    for number in 1..=700 {
        recorder.push(&tick(number), false).expect("a tick");
    }
    store.compact().expect("a segment");
    recorder.close().expect("an end");
    place.path("store")
}

fn json(args: &[&str]) -> (Value, Option<i32>) {
    let output = run(args);
    let value = serde_json::from_slice(&output.stdout);
    let value = value.unwrap_or_else(|error| panic!("{args:?}: {error}: {}", said(&output)));
    (value, output.status.code())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn info_verify_and_compact_agree() {
    let place = Scratch::new();
    let path = made(&place);
    let (before, code) = json(&["store", "info", "--store", &path, "-o", "json"]);
    assert_eq!(
        (&before["schema"], code),
        (&"aiops.store-info/1".into(), Some(0))
    );
    let data = &before["data"];
    assert_eq!(
        (data["ticks"].as_u64(), data["process_samples"].as_u64()),
        (Some(700), Some(700))
    );
    assert_eq!(data["segments"]["count"], 1, "{data}");
    assert_eq!(data["logs"]["count"], 1, "{data}");
    let (verified, code) = json(&[
        "store",
        "verify",
        "--store",
        &path,
        "-o",
        "json",
        "--exit-code",
    ]);
    assert_eq!(
        (verified["data"]["damages"].as_array().map(Vec::len), code),
        (Some(0), Some(0))
    );
    let quiet = run(&["-q", "--store", &path, "store", "compact"]);
    assert!(
        quiet.status.success() && quiet.stdout.is_empty() && quiet.stderr.is_empty(),
        "{quiet:?}"
    );
    let (after, _) = json(&["store", "info", "--store", &path, "-o", "json"]);
    let data = &after["data"];
    assert_eq!(
        (data["logs"]["count"].as_u64(), data["ticks"].as_u64()),
        (Some(0), Some(700))
    );
    assert_eq!(data["from"], before["data"]["from"]);
    // All of it is years old, and of one day: the newest one, which stays.
    let (kept, _) = json(&[
        "store", "compact", "--keep", "30d", "--store", &path, "-o", "json",
    ]);
    assert_eq!(kept["data"]["removed_segments"], 0, "{kept}");
    assert_eq!(kept["data"]["before"], kept["data"]["after"]);
    for lang in ["en", "zh"] {
        for command in ["info", "verify", "compact", "repair"] {
            let shown = run(&["store", command, "--store", &path, "--lang", lang]);
            assert!(shown.status.success(), "{command} {lang}: {}", said(&shown));
            assert!(
                String::from_utf8_lossy(&shown.stdout).contains(&path[..5]),
                "{command}"
            );
        }
    }
}

#[test]
fn damage_is_found_told_and_put_aside() {
    let place = Scratch::new();
    let path = made(&place);
    let segment = store(&place).segments().expect("segments").remove(0);
    let table = segment.path.join("process.parquet");
    let mut bytes = fs::read(&table).expect("a table");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&table, &bytes).expect("damage");
    let (verified, code) = json(&[
        "store",
        "verify",
        "--store",
        &path,
        "-o",
        "json",
        "--exit-code",
    ]);
    assert_eq!(code, Some(20));
    let damage = &verified["data"]["damages"][0];
    assert_eq!(damage["path"], table.to_str().expect("UTF-8"), "{damage}");
    assert_eq!(damage["what"], "segment");
    assert_eq!(verified["findings"][0]["severity"], "critical");
    assert_eq!(verified["accounting"]["complete"], false);
    // A writer is there: it refuses.
    let writer = Recorder::open(store(&place), host()).expect("a writer");
    let refused = run(&["store", "repair", "--store", &path]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("another aiops") && said(&refused).contains("hint: "),
        "{}",
        said(&refused)
    );
    drop(writer);
    let (repaired, code) = json(&["store", "repair", "--store", &path, "-o", "json"]);
    assert_eq!(code, Some(0));
    let moved = repaired["data"]["repairs"][0]["moved_to"]
        .as_str()
        .expect("a place");
    assert_eq!(fs::read(moved).expect("the table"), bytes);
    assert!(moved.ends_with("-process.parquet"), "{moved}");
    let (_, code) = json(&[
        "store",
        "verify",
        "--store",
        &path,
        "-o",
        "json",
        "--exit-code",
    ]);
    assert_eq!(code, Some(0));
}

/// One error, one remedy, exit 1.
fn refused(args: &[&str], words: &[&str]) {
    let output = run(args);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{args:?}: {text}");
    assert!(
        lines[0].starts_with("error: ") && lines[1].starts_with("hint: "),
        "{text}"
    );
    assert!(output.stdout.is_empty(), "{args:?}");
    for word in words {
        assert!(text.contains(word), "{args:?}: no {word} in {text}");
    }
}

/// Whoever reads or writes a store says the same.
fn refused_by_all(place: &Scratch, path: &str, words: &[&str]) {
    for command in ["info", "verify", "compact", "repair"] {
        refused(&["store", command, "--store", path], words);
    }
    let out = place.path("out");
    let day = ["--start", "2023-11-14", "--store", path];
    for command in [
        &["query", "memory"][..],
        &["export", "--to", "csv", "--out", &out],
    ] {
        refused(&[command, &day].concat(), words);
    }
    refused(&["monitor", "status", "--store", path], words);
    refused(&["monitor", "memory", "--no-bpf", "--store", path], words);
}

#[test]
fn what_is_no_store_of_ours_is_one_error_with_a_remedy() {
    let place = Scratch::new();
    let none = place.path("none");
    for command in ["info", "verify", "compact", "repair"] {
        refused(&["store", command, "--store", &none], &[&none]);
    }
    let empty = place.path("empty");
    fs::create_dir(&empty).expect("a folder");
    for command in ["info", "verify", "compact", "repair"] {
        refused(&["store", command, "--store", &empty], &["not a store"]);
    }
    let file = place.path("file");
    fs::write(&file, b"x").expect("a file");
    for command in ["info", "verify", "compact", "repair"] {
        refused(&["store", command, "--store", &file], &[&file]);
    }
    let path = made(&place);
    let meta = place.0.join("store/store.json");
    let text = fs::read_to_string(&meta).expect("store.json");
    fs::write(&meta, text.replace("\"schema\": 1", "\"schema\": 99")).expect("a version");
    for command in ["info", "verify", "compact", "repair"] {
        refused(&["store", command, "--store", &path], &["99", "later"]);
    }
    let mut other: Value = serde_json::from_str(&text).expect("JSON");
    other["hostname"] = "elsewhere".into();
    other["machine_id"] = "00000000000000000000000000000001".into();
    fs::write(&meta, other.to_string()).expect("another host");
    for command in ["compact", "repair"] {
        refused(
            &["store", command, "--store", &path],
            &["elsewhere", "--store"],
        );
    }
    assert!(
        run(&["store", "info", "--store", &path]).status.success(),
        "reading is allowed"
    );
    fs::write(&meta, "{\"schema\"").expect("damage");
    refused(&["store", "info", "--store", &path], &["store.json"]);
    refused(&["store", "compact", "--store", &path], &["store.json"]);
    assert!(run(&["store", "repair", "--store", &path]).status.success());
    assert!(
        run(&["store", "compact", "--store", &path])
            .status
            .success()
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).expect("a mode");
    refused_by_all(&place, &path, &["mode 0770", "chmod 0700"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    let shown = run(&["store", "info", "--store", &path]);
    assert!(
        shown.status.success() && said(&shown).contains("warning: "),
        "{}",
        said(&shown)
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("a mode");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65534), None).expect("another owner");
        refused_by_all(&place, &path, &["user 65534", "chown -R root"]);
    } else {
        println!("SKIPPED: another owner needs root");
    }
}

#[test]
fn what_is_old_goes_where_no_segment_can_be_made() {
    let place = Scratch::new();
    let store = store(&place);
    let mut recorder = Recorder::open(store.clone(), host()).expect("a store");
    let days = [1, 20_000, 40_000];
    for number in days {
        recorder.push(&tick(number), false).expect("a tick");
    }
    recorder.close().expect("an end");
    store.compact().expect("segments");
    assert_eq!(store.segments().expect("segments").len(), 3);
    // A damaged log that cannot be put aside, as a full disk would not take a segment.
    let mut recorder = Recorder::open(store.clone(), host()).expect("a store");
    recorder.push(&tick(40_001), false).expect("a tick");
    recorder.close().expect("an end");
    let log = fs::read_dir(store.folder().join("wal")).expect("logs");
    let log = log.flatten().next().expect("a log").path();
    let mut bytes = fs::read(&log).expect("a log");
    bytes[4096 + 20] ^= 1;
    fs::write(&log, bytes).expect("damage");
    fs::write(store.folder().join("damaged"), b"").expect("a file");
    let path = place.path("store");
    let output = run(&["store", "compact", "--store", &path, "--max-size", "1"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("damaged: ") && said(&output).contains("hint: a folder belongs"),
        "{}",
        said(&output)
    );
    assert_eq!(
        store.segments().expect("segments").len(),
        1,
        "the newest day"
    );
}
