//! `diff memory`: two snapshots of this host with a process that grows in between.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use crate::support::Scratch;
use crate::support::json;
use crate::support::no_swap;
use crate::support::run;
use crate::support::stdout;

/// Memory that the grower takes, MiB.
const GROWTH: u64 = 96;

/// Not a test: a process that takes memory when it is told to, when this binary is started by [`Grower`].
#[test]
fn diff_child() {
    if std::env::var_os("AIOPS_TEST_DIFF").is_none() {
        return;
    }
    let mut lines = BufReader::new(std::io::stdin()).lines();
    let mut kept = Vec::new();
    while let Some(Ok(_)) = lines.next() {
        let bytes = usize::try_from(GROWTH << 20).expect("a size");
        kept.push((0..bytes).map(|at| (at % 251) as u8).collect::<Vec<u8>>());
        eprintln!("grown");
    }
    std::hint::black_box(&kept);
}

/// Killed at the end, whatever happens.
struct Grower(Child);

impl Grower {
    fn start() -> Self {
        let exe = std::env::current_exe().expect("the test binary");
        let child = Command::new(exe)
            .args([
                "diff::diff_child",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("AIOPS_TEST_DIFF", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the grower starts");
        Self(child)
    }

    /// Returns when the memory is taken.
    fn grow(&mut self) {
        let stdin = self.0.stdin.as_mut().expect("stdin");
        stdin.write_all(b"\n").expect("the grower listens");
        let stderr = self.0.stderr.take().expect("stderr");
        let mut said = BufReader::new(stderr).lines();
        assert!(
            said.any(|line| line.is_ok_and(|line| line.contains("grown"))),
            "the grower ended"
        );
    }
}

impl Drop for Grower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn snapshot(path: &str, more: &[&str]) {
    let args = ["collect", "memory", "--duration", "0", "--output", path];
    stdout(&[&args[..], more].concat());
}

#[test]
fn a_process_that_grew_is_found_with_its_regions() {
    let _no_swap = no_swap();
    let place = Scratch::new();
    let (a, b) = (place.path("a.db"), place.path("b.db"));
    let mut grower = Grower::start();
    snapshot(&a, &["--smaps"]);
    grower.grow();
    let fresh = Grower::start();
    snapshot(&b, &["--smaps"]);
    let args = ["diff", "memory", "--snapshot1", &a, "--snapshot2", &b];
    let report = json(&stdout(&[&args[..], &["-o", "json"]].concat()));
    assert_eq!(report["schema"], "aiops.diff-memory/1");
    let data = &report["data"];
    assert_eq!(data["same_boot"], true, "{}", data["snapshots"]);
    let processes = data["processes"].as_array().expect("processes");
    let row = |pid: u32| {
        let found = processes.iter().find(|process| process["pid"] == pid);
        found.unwrap_or_else(|| panic!("no process {pid}"))
    };
    let own = row(grower.0.id());
    assert_eq!(own["status"], "same");
    let grown = own["rss_kb"]["delta"].as_i64().expect("a delta");
    let most = i64::try_from(GROWTH << 10).expect("a size");
    assert!((most..most + (16 << 10)).contains(&grown), "{own}");
    assert_eq!(row(fresh.0.id())["status"], "new");
    let regions = data["process_regions"].as_array().expect("regions");
    let hot = regions.iter().find(|region| region["pid"] == grower.0.id());
    let hot = hot.expect("its regions changed")["rss_kb"]["delta"].as_i64();
    assert!(hot >= Some(most), "{hot:?}");
    assert!(!data["regions"].as_array().expect("kinds").is_empty());
    let text = stdout(&args);
    assert!(text.contains(&grower.0.id().to_string()), "{text}");
    let chinese = stdout(&[&args[..], &["--lang", "zh"]].concat());
    assert!(
        chinese.contains("内存对比分析") && chinese.contains("内存热区变化"),
        "{chinese}"
    );
}

#[test]
fn the_wrong_order_is_said_and_works() {
    let place = Scratch::new();
    let (a, b) = (place.path("a.db"), place.path("b.db"));
    snapshot(&a, &[]);
    snapshot(&b, &[]);
    let output = run(&[
        "diff",
        "memory",
        "--snapshot1",
        &b,
        "--snapshot2",
        &a,
        "-o",
        "json",
    ]);
    assert!(output.status.success());
    let report = json(&String::from_utf8(output.stdout).expect("UTF-8"));
    assert!(
        report["data"]["elapsed_s"].as_f64() < Some(0.0),
        "{}",
        report["data"]
    );
    assert_eq!(report["findings"][0]["id"], "diff-order");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("warning: "), "{errors}");
}

#[test]
fn damaged_and_foreign_files_are_told_apart() {
    let place = Scratch::new();
    let (a, cut, text) = (place.path("a.db"), place.path("cut.db"), place.path("text"));
    snapshot(&a, &[]);
    let bytes = std::fs::read(&a).expect("a snapshot");
    std::fs::write(&cut, &bytes[..bytes.len() - 30]).expect("a cut one");
    std::fs::write(&text, "no recording").expect("a text");
    let report = json(&stdout(&[
        "diff",
        "memory",
        "--snapshot1",
        &a,
        "--snapshot2",
        &cut,
        "-o",
        "json",
    ]));
    assert_eq!(
        report["accounting"]["complete"], false,
        "{}",
        report["accounting"]
    );
    assert!(report["accounting"]["damage"].is_object());
    let output = run(&["diff", "memory", "--snapshot1", &a, "--snapshot2", &text]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "));
}
