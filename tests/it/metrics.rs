//! The metrics port of the real daemon, read by hand, by promtool and by a real Prometheus.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support;
use crate::support::Scratch;
use crate::support::until;

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon with a port, and where that is.
struct Daemon {
    address: String,
    _running: Running,
    _store: Scratch,
}

impl Daemon {
    fn start() -> Self {
        let store = Scratch::new();
        let folder = store.path("store");
        let args = [
            "monitor",
            "memory",
            "--no-bpf",
            "--interval",
            "500ms",
            "--metrics",
            "127.0.0.1:0",
        ];
        let child = support::aiops(&args)
            .args(["--store", &folder])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut running = Running(child);
        let mut lines = BufReader::new(running.0.stderr.take().expect("stderr")).lines();
        let mut said = Vec::new();
        let address = loop {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("it ended: {said:?}"))
                .expect("text");
            let found = line
                .strip_prefix("metrics at http://")
                .and_then(|rest| rest.strip_suffix("/metrics"));
            if let Some(address) = found {
                break address.to_owned();
            }
            said.push(line);
        };
        // Somebody must read on, or the daemon waits for room.
        thread::spawn(move || lines.for_each(drop));
        let daemon = Self {
            address,
            _running: running,
            _store: store,
        };
        until("a first sample", || daemon.get("/-/healthy", "").0 == 200);
        daemon
    }

    fn get(&self, path: &str, headers: &str) -> (u32, String) {
        get(&self.address, path, headers)
    }
}

/// Status and body of one request.
fn get(address: &str, path: &str, headers: &str) -> (u32, String) {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    let Ok(mut stream) = TcpStream::connect(address) else {
        return (0, String::new());
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("UTF-8");
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return (0, answer);
    };
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    (status.unwrap_or(0), body)
}

fn unchunked(mut rest: &str) -> String {
    let mut out = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
        out.push_str(&tail[..size]);
        rest = tail[size..].trim_start_matches("\r\n");
    }
    out
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

/// Whether a program of Debian's prometheus package is there; says so loudly when not.
fn has(program: &str) -> bool {
    let there = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        println!("SKIPPED: {program} is not installed (Debian's package prometheus)");
    }
    there
}

/// One sample without labels.
fn sample(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn the_daemon_serves_what_it_samples() {
    let daemon = Daemon::start();
    let (status, page) = daemon.get("/metrics", "Accept: application/openmetrics-text\r\n");
    assert_eq!(status, 200);
    assert!(page.ends_with("# EOF\n"), "{page}");
    let total = support::field("/proc/meminfo", "MemTotal").expect("MemTotal");
    assert_eq!(
        sample(&page, "aiops_system_mem_total_bytes"),
        Some((total * 1024) as f64)
    );
    assert!(
        sample(&page, "aiops_self_resident_memory_bytes") > Some(0.0),
        "{page}"
    );
    assert!(page.contains("\naiops_process_rss_bytes{comm=\""), "{page}");
    let first = sample(&page, "aiops_self_samples_total").expect("a count");
    until("another sample", || {
        sample(&daemon.get("/metrics", "").1, "aiops_self_samples_total") > Some(first)
    });
    assert_eq!(daemon.get("/", "").0, 404);
    let other = support::run(&[
        "monitor",
        "memory",
        "--no-bpf",
        "--metrics",
        &daemon.address,
        "--store",
        &Scratch::new().path("s"),
    ]);
    let said = String::from_utf8_lossy(&other.stderr);
    assert_eq!(other.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&daemon.address) && said.contains("hint: `ss -ltnp"),
        "{said}"
    );
}

#[test]
fn only_loopback_unless_it_is_said() {
    let store = Scratch::new();
    let (store, args) = (
        store.path("s"),
        ["monitor", "memory", "--no-bpf", "--metrics"],
    );
    for (address, word) in [
        ("0.0.0.0:9464", "--metrics-public"),
        ("9464", "127.0.0.1:9464"),
    ] {
        let output = support::aiops(&args)
            .args([address, "--store", &store])
            .output()
            .expect("a run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("hint: ") && said.contains(word), "{said}");
    }
}

#[test]
fn promtool_accepts_page_and_rules() {
    if !has("promtool") {
        return;
    }
    let daemon = Daemon::start();
    let (_, page) = daemon.get("/metrics", "");
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(page.as_bytes())
        .expect("the page");
    let output = child.wait_with_output().expect("its end");
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    for (what, file) in [("check", "alerts.yml"), ("test", "alerts_test.yml")] {
        let rules = Command::new("promtool")
            .args([what, "rules"])
            .arg(docs("prometheus").join(file))
            .output()
            .expect("promtool starts");
        let said = [rules.stdout, rules.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(rules.status.success(), "{file}: {said}");
    }
}

/// Every `expr` below a value, with the title of what it stands in.
fn expressions(value: &Value, title: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            let title = map.get("title").and_then(Value::as_str).unwrap_or(title);
            if let Some(expr) = map.get("expr").and_then(Value::as_str) {
                found.push((title.to_owned(), expr.to_owned()));
            }
            for below in map.values() {
                expressions(below, title, found);
            }
        }
        Value::Array(list) => list
            .iter()
            .for_each(|below| expressions(below, title, found)),
        _ => {}
    }
}

/// A query as Grafana would send it.
fn filled(expr: &str) -> String {
    expr.replace("$__rate_interval", "10s")
        .replace("$__range", "1h")
        .replace("$instance", ".*")
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// Series of an answer; a query that Prometheus refuses fails.
fn query(address: &str, expr: &str) -> usize {
    let (status, body) = get(
        address,
        &format!("/api/v1/query?query={}", encoded(expr)),
        "",
    );
    assert_eq!(status, 200, "{expr}: {body}");
    let answer = support::json(&body);
    assert_eq!(answer["status"], "success", "{expr}: {body}");
    answer["data"]["result"].as_array().expect("a list").len()
}

/// A real Prometheus that scrapes the daemon, with our rules.
struct Prometheus {
    address: String,
    _running: Running,
    _folder: Scratch,
}

impl Prometheus {
    fn start(target: &str) -> Self {
        let folder = Scratch::new();
        let rules = fs::canonicalize(docs("prometheus/alerts.yml")).expect("the rules");
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: ['{}']\nscrape_configs:\n  - job_name: aiops\n    static_configs:\n      - targets: ['{target}']\n",
            rules.display()
        );
        fs::write(folder.path("prometheus.yml"), config).expect("a configuration");
        // It cannot choose a free port itself.
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a port");
        let address = port.to_string();
        let log = fs::File::create(folder.path("log")).expect("a log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", folder.path("data")))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        let running = Running(child);
        until("a Prometheus that is ready", || {
            get(&address, "/-/ready", "").0 == 200
        });
        Self {
            address,
            _running: running,
            _folder: folder,
        }
    }
}

/// Panels that may be empty on a host that is well, or has no swap, no limits, no pressure files.
const MAY_BE_EMPTY: &[&str] = &[
    "OOM kills",
    "Largest processes (swap)",
    "Cgroups: share of their limit",
    "Cgroups: memory in use",
    "Cgroups: stalled on memory",
    "Cgroups: limit was hit",
    "Pressure: stalled on memory",
    "Pressure: memory, disk, CPU",
    "Some task waited for memory",
    // Marks on every panel, one for each kill.
    "aiops: memory",
];

#[test]
fn a_real_prometheus_answers_every_query() {
    if !has("prometheus") {
        return;
    }
    let daemon = Daemon::start();
    let prometheus = Prometheus::start(&daemon.address);
    let ask = |expr: &str| query(&prometheus.address, expr);
    until("a scrape", || ask("up{job=\"aiops\"} == 1") == 1);
    until("two scrapes with different samples", || {
        ask("rate(aiops_self_samples_total[30s]) > 0 and rate(aiops_system_pgfault_total[10s])")
            == 1
    });
    let text = fs::read_to_string(docs("grafana/aiops.json")).expect("the dashboard");
    let mut asked = Vec::new();
    expressions(&support::json(&text), "", &mut asked);
    assert!(asked.len() > 30, "{}", asked.len());
    for (title, expr) in &asked {
        let expr = filled(expr);
        assert!(!expr.contains('$'), "{expr}");
        if MAY_BE_EMPTY.contains(&title.as_str()) {
            ask(&expr);
        } else {
            until(&format!("series of {title}: {expr}"), || ask(&expr) >= 1);
        }
    }
    let rules = || support::json(&get(&prometheus.address, "/api/v1/rules", "").1);
    let evaluated = |rule: &Value| rule["health"] == "ok";
    until("every rule evaluated", || {
        let rules = rules();
        let list = rules["data"]["groups"][0]["rules"].as_array();
        list.is_some_and(|list| list.len() == 8 && list.iter().all(evaluated))
    });
    for rule in rules()["data"]["groups"][0]["rules"]
        .as_array()
        .expect("rules")
    {
        let (name, texts) = (&rule["name"], &rule["annotations"]);
        for text in ["summary", "summary_zh", "action"] {
            assert!(
                texts[text].as_str().is_some_and(|text| !text.is_empty()),
                "{name} has no {text}"
            );
        }
        assert_ne!(rule["state"], "firing", "{name}: {rule}");
        // Without its threshold it has data, where this kernel tells them.
        let expr = rule["query"].as_str().expect("a query");
        ask(expr);
    }
    for known in [
        "increase(aiops_system_oom_kills_total[10m])",
        "aiops_system_mem_available_bytes / aiops_system_mem_total_bytes",
        "rate(aiops_system_swap_in_bytes_total[5m])",
        "time() - aiops_last_sample_timestamp_seconds",
        "aiops_store_writable == 1",
    ] {
        until(known, || ask(known) == 1);
    }
}
