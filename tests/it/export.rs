//! `aiops export`: a store of known figures, and what comes out of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use aiops::model::ClockPair;
use aiops::model::Host;
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

use crate::support::run;
use crate::support::stdout;

/// 2026-03-01 23:00 UTC: the hours behind it are of two days.
const BEGIN_S: u64 = 1_772_406_000;
const STEP_S: u64 = 10;
const TICKS: u64 = 2 * 3600 / STEP_S;
const HOSTILE: &str = "a,\"b\"\n\u{1b}[2J";

/// A store of its own, removed at the end.
struct Lab(PathBuf);

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Two processes: one never changes, the other one in every sample.
fn tick(number: u64) -> Tick {
    let process = |pid, comm: &str, rss_kb| ProcessSample {
        pid,
        start_ticks: 7,
        comm: RawText::from(comm),
        metrics: ProcessMetrics {
            rss_kb: Some(rss_kb),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    };
    let mono_ns = (number + 1) * STEP_S * 1_000_000_000;
    let real_s = BEGIN_S + number * STEP_S;
    Tick {
        clock: ClockPair {
            mono_ns,
            boot_ns: mono_ns,
            real_ns: i64::try_from(real_s).unwrap() * 1_000_000_000,
        },
        sample: Sample {
            system: Some(SystemMetrics {
                mem_available_kb: Some(1_000_000 + number),
                ..SystemMetrics::default()
            }),
            processes: vec![process(1, HOSTILE, 100), process(2, "busy", number)],
            ..Sample::default()
        },
        identities: Vec::new(),
    }
}

impl Lab {
    /// Two hours: the first is compacted, the second one still stands in logs.
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("aiops-export-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let lab = Self(folder);
        let host = Host {
            hostname: RawText::from("web/1"),
            boot_id: Some("3f2a9c1e-0000-4000-8000-000000000001".to_owned()),
            ..Host::default()
        };
        let store = Store::at(&lab.store()).with_tails(&lab.0.join("tails"));
        let mut recorder = Recorder::open(store.clone(), host).unwrap();
        for number in 0..TICKS {
            recorder.push(&tick(number), false).unwrap();
            if recorder.turned() {
                // A program that another test starts just now may hold the lock of the log for a moment.
                for _ in 0..100 {
                    store.compact().unwrap();
                    if !store.segments().unwrap().is_empty() {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            }
            if number == 5 {
                let event = Event {
                    ts_ms: i64::try_from((BEGIN_S + 50) * 1000).unwrap(),
                    kind: "oom".to_owned(),
                    id: "1".to_owned(),
                    title: "killed".to_owned(),
                    ..Event::default()
                };
                recorder.event(&event).unwrap();
            }
        }
        recorder.close().unwrap();
        assert_eq!(store.segments().unwrap().len(), 1);
        lab
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn args<'a>(
        &self,
        out: &'a str,
        to: &'a str,
        store: &'a str,
        more: &[&'a str],
    ) -> Vec<&'a str> {
        let mut args = vec![
            "export", "--store", store, "--to", to, "--out", out, "-o", "json",
        ];
        args.extend(more);
        args
    }

    fn export(&self, to: &str, out: &str, more: &[&str]) -> Value {
        let (store, out) = (self.path("store"), self.path(out));
        let text = stdout(&self.args(&out, to, &store, more));
        serde_json::from_str(&text).unwrap()
    }

    /// A range without samples is told as a query tells it, and nothing is written.
    fn nothing(&self, out: &str, more: &[&str]) {
        let report = self.export("csv", out, more);
        assert_eq!(report["data"]["files"].as_array().unwrap().len(), 0);
        let store = self.path("store");
        let mut args = vec!["query", "memory", "--store", &store, "-o", "json"];
        args.extend(more);
        let query: Value = serde_json::from_str(&stdout(&args)).unwrap();
        assert_eq!(report["findings"], query["findings"]);
        assert_eq!(report["findings"][0]["id"], "history-empty-range");
        let said = report["findings"][0]["evidence"][0].to_string();
        assert!(said.contains("2026-03-01T23:00:00"), "{said}");
        assert!(!Path::new(&self.path(out)).exists(), "nothing was begun");
    }

    fn refused(&self, to: &str, out: &str, more: &[&str]) -> String {
        let (store, out) = (self.path("store"), self.path(out));
        let output = run(&self.args(&out, to, &store, more));
        assert!(!output.status.success(), "{more:?}");
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("\nhint: "), "{said}");
        said
    }
}

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            found.extend(files(&path));
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Lines of JSON.
fn rows(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Samples of a process and the sum of its rss.
fn sums(rows: &[Value], pid: u64) -> (u64, u64) {
    let own = rows.iter().filter(|row| row["pid"] == pid);
    own.fold((0, 0), |(n, sum), row| {
        let count = row["n"].as_u64().unwrap();
        (n + count, sum + count * row["rss_kb"].as_u64().unwrap())
    })
}

#[test]
fn text_files_hold_the_known_figures() {
    let lab = Lab::new("text");
    let report = lab.export("jsonl", "out", &[]);
    assert_eq!(report["schema"], "aiops.export/1");
    assert_eq!(report["host"]["hostname"], "web/1");
    assert_eq!(report["accounting"]["complete"], true);
    let process = rows(&lab.path("out/process.jsonl"));
    assert_eq!(sums(&process, 1), (TICKS, 100 * TICKS));
    assert_eq!(sums(&process, 2), (TICKS, TICKS * (TICKS - 1) / 2));
    assert_eq!(process[0]["host"], "web/1");
    assert_eq!(process[0]["comm"], HOSTILE);
    assert_eq!(process[0]["ts"], "2026-03-01T23:00:00.000Z");
    assert_eq!(rows(&lab.path("out/event.jsonl"))[0]["title"], "killed");
    let system = rows(&lab.path("out/system.jsonl"));
    assert_eq!(system.len() as u64, TICKS);
    assert_eq!(system[3]["mem_available_kb"], 1_000_003);
    assert_eq!(
        report["data"]["rows"].as_u64().unwrap(),
        (process.len() + system.len() + 1) as u64
    );

    lab.export("csv", "csv", &["--table", "process"]);
    let text = fs::read_to_string(lab.path("csv/process.csv")).unwrap();
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert!(lines[0].starts_with("pid,start,ts,n,comm,"), "{}", lines[0]);
    assert_eq!(lines.len(), process.len() + 1);
    assert!(lines[1].contains(r#""a,""b""\n\x1b[2J""#), "{}", lines[1]);
    let column = |name: &str| lines[0].split(',').position(|one| one == name).unwrap();
    let (n, rss) = (column("n"), column("rss_kb"));
    let busy = lines.iter().filter(|line| line.starts_with("2,"));
    let sum: u64 = busy
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            cells[n].parse::<u64>().unwrap() * cells[rss].parse::<u64>().unwrap()
        })
        .sum();
    assert_eq!(sum, TICKS * (TICKS - 1) / 2);
    assert!(!Path::new(&lab.path("csv/system.csv")).exists());
    files(&lab.0.join("csv"));
}

#[test]
fn edges_are_exact_to_the_sample() {
    let lab = Lab::new("edges");
    // (start, end) as seconds behind the beginning, and the samples that this holds.
    for (case, (start, end)) in [
        (0, 10),
        (5, 25),
        (15, 16),
        (3595, 3605),
        (3600, 3610),
        (7190, 9000),
        (3001, 4002),
    ]
    .into_iter()
    .enumerate()
    {
        let expected: Vec<u64> = (0..TICKS)
            .filter(|number| (start..end).contains(&(number * STEP_S)))
            .collect();
        let time = |s: u64| format!("@{}", BEGIN_S + s).replace('@', "");
        let zoned = |s: &str| {
            let s: i64 = s.parse().unwrap();
            aiops::time::rfc3339(s * 1_000_000_000, 0).unwrap()
        };
        let (from, to) = (zoned(&time(start)), zoned(&time(end)));
        let out = format!("out{case}");
        let more = ["--start", &from, "--end", &to, "--table", "process,system"];
        if expected.is_empty() {
            // The range is inside of what the store holds, but no sample is in it: an empty answer is right.
            assert_eq!(lab.export("jsonl", &out, &more)["data"]["rows"], 0);
            continue;
        }
        lab.export("jsonl", &out, &more);
        let process = rows(&lab.path(&format!("{out}/process.jsonl")));
        let count = expected.len() as u64;
        assert_eq!(sums(&process, 1), (count, 100 * count), "{start} {end}");
        assert_eq!(
            sums(&process, 2),
            (count, expected.iter().sum()),
            "{start} {end}"
        );
        assert_eq!(
            rows(&lab.path(&format!("{out}/system.jsonl"))).len(),
            expected.len()
        );
        let first = zoned(&time(expected[0] * STEP_S)).replace("+00:00", "Z");
        assert_eq!(process[0]["ts"], first.as_str());
    }
}

#[test]
fn a_lake_is_the_same_however_often_it_is_written() {
    let lab = Lab::new("lake");
    let whole = ["--end", "2026-03-02T12:00:00Z"];
    let report = lab.export("parquet", "lake", &whole);
    let first = files(&lab.0.join("lake"));
    let names: Vec<String> = first
        .keys()
        .map(|path| {
            path.strip_prefix(lab.0.join("lake"))
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    // A host's name cannot leave its folder, and times of the day are in the name.
    for table in ["mem", "system"] {
        for (date, piece) in [
            ("2026-03-01", "000000000-240000000"),
            ("2026-03-02", "000000000-120000000"),
        ] {
            let begin = format!("{table}/date={date}/host=web%2F1/part-");
            let end = format!("-{piece}.parquet");
            let found = names
                .iter()
                .filter(|name| name.starts_with(&begin) && name.ends_with(&end));
            assert_eq!(found.count(), 1, "{names:?}");
        }
    }
    assert_eq!(
        report["data"]["files"].as_array().unwrap().len(),
        names.len()
    );
    for bytes in first.values() {
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        // The host is a column of the path: engines refuse to have it twice.
        let footer = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(16 << 10)..]);
        assert!(footer.contains("boot_id") && footer.contains("aiops.host"));
        assert!(!footer.contains("\u{4}host"));
    }
    lab.export("parquet", "lake", &whole);
    assert_eq!(files(&lab.0.join("lake")), first);
    // A part of a day beside the whole day would count its rows twice.
    let piece = [
        "--start",
        "2026-03-01T23:10:00Z",
        "--end",
        "2026-03-01T23:20:00Z",
    ];
    let said = lab.refused("parquet", "lake", &piece);
    assert!(said.contains("--force"), "{said}");
    assert_eq!(files(&lab.0.join("lake")), first);
    // A wider range replaces what it covers.
    let wider = ["--end", "2026-03-03T00:00:00Z"];
    lab.export("parquet", "lake", &wider);
    let names = files(&lab.0.join("lake"));
    assert_eq!(names.len(), first.len());
    assert!(names.keys().all(|path| {
        path.to_str()
            .unwrap()
            .ends_with("-000000000-240000000.parquet")
    }));
}

#[test]
fn what_cannot_be_has_one_error_and_a_remedy() {
    let lab = Lab::new("bad");
    fs::write(lab.path("file"), "x").unwrap();
    let said = lab.refused("csv", "file", &[]);
    assert!(said.contains("cannot make this folder"), "{said}");
    let said = lab.refused(
        "csv",
        "out",
        &["--start", "2026-03-02", "--end", "2026-03-01T00:00:00Z"],
    );
    assert!(said.contains("is not before"), "{said}");
    lab.nothing("out", &["--start", "2020-01-01", "--end", "2020-01-02"]);
    let said = lab.refused("csv", "out", &["--start", "when"]);
    assert!(said.contains("'when' is no time"), "{said}");
    assert!(!Path::new(&lab.path("out")).exists(), "nothing was begun");
    let (store, out) = (lab.path("store"), lab.path("out"));
    let backwards = ["--start", "2026-03-02", "--end", "2026-03-01T00:00:00Z"];
    for more in [&["--table", "thread"][..], &["--start", "when"], &backwards] {
        let output = run(&lab.args(&out, "csv", &store, more));
        assert_eq!(output.status.code(), Some(2), "{more:?}");
    }
    let mut query = vec!["query", "memory", "--store", &store];
    query.extend(backwards);
    let output = run(&query);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("\nhint: swap them"), "{said}");
    let nowhere = lab.path("nowhere");
    let output = run(&lab.args(&out, "csv", &nowhere, &[]));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("hint: "));
    lab.export("csv", "out", &[]);
    let before = files(&lab.0.join("out"));
    let said = lab.refused("csv", "out", &[]);
    assert!(said.contains("there already"), "{said}");
    lab.export("csv", "out", &["--force"]);
    assert_eq!(files(&lab.0.join("out")), before);
}

#[test]
fn damage_is_said_and_the_rest_is_there() {
    let lab = Lab::new("damage");
    let segment = fs::read_dir(lab.store().join("segments"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let table = segment.path().join("process.parquet");
    let bytes = fs::read(&table).unwrap();
    fs::write(&table, &bytes[..bytes.len() / 2]).unwrap();
    let report = lab.export("jsonl", "out", &[]);
    assert_eq!(report["accounting"]["complete"], false);
    assert_eq!(report["accounting"]["damage"]["places"], 1);
    let half = TICKS / 2;
    let process = rows(&lab.path("out/process.jsonl"));
    assert_eq!(sums(&process, 1), (half, 100 * half));
}

/// What a killed export left, and a file of somebody else.
#[test]
fn what_killed_exports_left_goes_and_nothing_else() {
    let lab = Lab::new("left");
    let day = lab.0.join("lake/mem/date=2026-03-01/host=web%2F1");
    fs::create_dir_all(&day).unwrap();
    fs::create_dir(lab.0.join("out")).unwrap();
    let left = [
        day.join(".tmp-part-3f2a9c1e-000000000-120000000.parquet.new"),
        lab.0.join("out/.tmp-system.jsonl.new"),
    ];
    let others = [day.join(".tmp-own.new"), lab.0.join("out/.tmp-own.csv.new")];
    for path in left.iter().chain(&others) {
        fs::write(path, "x").unwrap();
    }
    lab.export("parquet", "lake", &[]);
    lab.export("csv", "out", &["--table", "process"]);
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");
    assert!(others.iter().all(|path| path.exists()), "{others:?}");
}

/// A disk of its own, taken away at the end.
struct Disk(PathBuf);

impl Disk {
    /// `None`: only root may have one.
    fn new(place: &Path, kilobytes: usize) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let size = format!("size={kilobytes}k,nr_inodes=64");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(place)
            .status();
        let mounted = mounted.is_ok_and(|status| status.success());
        mounted.then(|| Self(place.to_path_buf()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_nothing_half_written_stays() {
    let lab = Lab::new("full");
    let Some(disk) = Disk::new(&lab.0.join("disk"), 64) else {
        println!("SKIPPED: a disk of its own needs root");
        return;
    };
    // A page is left: the beginning of a file.
    fs::write(disk.0.join("other"), vec![1; 60 << 10]).unwrap();
    for to in ["parquet", "csv", "jsonl"] {
        let said = lab.refused(to, "disk", &["--table", "process"]);
        assert!(said.contains("No space left on device"), "{to}: {said}");
        assert!(
            said.contains("hint: --out names a folder with room"),
            "{to}: {said}"
        );
        let left: Vec<_> = fs::read_dir(&disk.0).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{to}: {left:?}");
    }
}
