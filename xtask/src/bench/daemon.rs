//! `cargo xtask bench daemon [--quick] [--markdown]`: what the daemon costs, beside `atop -w` and `below record`
//! on the same processes.
//!
//! Each is started with its own defaults but for the interval of 5 s, left alone for a while, and then looked at
//! over a minute (`--quick`) or ten: CPU from /proc/PID/stat, the largest resident memory, and what it had the
//! device write (/proc/PID/io). The device's own count is shown beside it; others write there, too.
//!
//! What comes once an hour is in no such window, so it is measured apart and added: `store compact` of a log of as many
//! samples as an hour has, made by a daemon that takes them faster. A day of segments is merged into one later, which
//! reads and writes each hour once more: that is taken for as much work again.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::proc::{self, Crowd};
use super::{Bench, Table};
use crate::util::{self, Tally};

/// How long the start may take to be paid for.
const WARM: Duration = Duration::from_secs(15);

/// Samples of an hour, and how many of them a second the daemon takes for the measure of its hourly work.
const HOUR_SAMPLES: u64 = 720;
const HURRIED: &str = "100ms";
/// How long they may take to be taken.
const HURRY: Duration = Duration::from_secs(300);
/// As Prometheus asks.
const SCRAPE_EVERY: Duration = Duration::from_secs(15);
const OWN: &str = "aiops monitor memory";
const OWN_METRICS: &str = "aiops monitor memory --metrics";

/// A crowd, and what the daemon may cost beside it.
struct Case {
    name: &'static str,
    processes: usize,
    /// Processes that begin and end, per second.
    churn: u32,
    rss_mb: f64,
    cpu_percent: f64,
    /// Written to the device, MB/h.
    written: Option<f64>,
}

const CASES: &[Case] = &[
    Case {
        name: "300 processes",
        processes: 300,
        churn: 0,
        rss_mb: 15.0,
        cpu_percent: 0.5,
        written: Some(2.0),
    },
    Case {
        name: "2,000 processes, 50 new ones a second",
        processes: 2000,
        churn: 50,
        rss_mb: 40.0,
        cpu_percent: 3.0,
        written: None,
    },
];

/// The chore.
pub(super) fn run(bench: &Bench) -> anyhow::Result<Tally> {
    let mut table = Table::default();
    for case in CASES {
        bench.say(case.name);
        let crowd = match Crowd::start(case.processes) {
            Ok(crowd) => crowd,
            // A limit on processes is this machine's, not ours.
            Err(error) => {
                table.figure(case.name, format!("not run: {error:#}"));
                continue;
            }
        };
        let churn = Churn::start(case.churn);
        let hour = hour(bench);
        if let Err(error) = &hour {
            table.promise(
                &format!("{}: store compact", case.name),
                format!("{error:#}"),
                "runs",
                false,
            );
        }
        for subject in [OWN, OWN_METRICS, "atop -w", "below record"] {
            bench.say(subject);
            let name = format!("{}: {subject}", case.name);
            match (subject, measure(bench, subject)) {
                (OWN | OWN_METRICS, Ok(mut cost)) => {
                    if let Ok(hour) = &hour {
                        cost.cpu_percent += hour.cpu_percent;
                        cost.written += hour.written;
                    }
                    judge(case, &cost, &name, &mut table);
                }
                (_, Ok(cost)) => table.figure(&name, cost.text()),
                (OWN | OWN_METRICS, Err(error)) => {
                    table.promise(&name, format!("{error:#}"), "runs", false);
                }
                (_, Err(error)) => table.figure(&name, format!("not run: {error:#}")),
            }
        }
        if let Ok(hour) = hour {
            table.figure(
                &format!("{}: of that once an hour, by a child of its own", case.name),
                hour.text(),
            );
        }
        drop(churn);
        drop(crowd);
    }
    print!("{table}");
    Ok(table.tally())
}

fn judge(case: &Case, cost: &Cost, name: &str, table: &mut Table) {
    table.budget(
        &format!("{name}, RSS"),
        format!("{:.1} MB", cost.rss_mb),
        &format!("<{:.0} MB", case.rss_mb),
        cost.rss_mb < case.rss_mb,
    );
    table.budget(
        &format!("{name}, CPU"),
        format!("{:.2} % of a core", cost.cpu_percent),
        &format!("<{} %", case.cpu_percent),
        cost.cpu_percent < case.cpu_percent,
    );
    let written = format!("{:.2} MB/h", cost.written);
    let name = format!("{name}, written");
    match case.written {
        Some(most) => {
            table.budget(
                &name,
                written,
                &format!("<{most:.0} MB/h"),
                cost.written < most,
            );
        }
        None => table.figure(&name, written),
    }
    if let Some(device) = cost.device {
        table.figure(
            &format!("{name} to the whole device, by everybody"),
            format!("{device:.2} MB/h"),
        );
    }
}

/// What a recorder cost.
struct Cost {
    rss_mb: f64,
    cpu_percent: f64,
    written: f64,
    device: Option<f64>,
}

impl Cost {
    fn text(&self) -> String {
        format!(
            "{:.1} MB, {:.2} % of a core, {:.2} MB/h",
            self.rss_mb, self.cpu_percent, self.written
        )
    }
}

/// A running recorder, ended in good order.
struct Recorder(Child);

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(bench: &Bench, subject: &str, folder: &Path, interval: &str) -> anyhow::Result<Recorder> {
    let said = File::create(folder.join("said"))?;
    let mut command = match subject {
        "atop -w" => {
            let mut atop = Command::new(util::tool("atop").context("not installed")?);
            atop.arg("-w").arg(folder.join("raw")).arg("5");
            atop
        }
        "below record" => {
            let mut below = Command::new(util::tool("below").context("not installed")?);
            let config = folder.join("below.conf");
            let place = folder.display();
            let text = format!("log_dir = \"{place}\"\nstore_dir = \"{place}/store\"\n");
            fs::write(&config, text)?;
            below.arg("--config").arg(&config);
            below.args(["record", "--interval-s", "5"]);
            below
        }
        _ => {
            let mut own = Command::new(&bench.aiops);
            own.args([
                "monitor",
                "memory",
                "--interval",
                interval,
                "--config",
                "/dev/null",
            ]);
            own.arg("--store").arg(folder.join("store"));
            if subject == OWN_METRICS {
                own.args(["--metrics", "127.0.0.1:0"]);
            }
            own
        }
    };
    let child = command
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said)
        .spawn()
        .context("cannot be started")?;
    Ok(Recorder(child))
}

/// What is done once an hour, spread over it.
fn hour(bench: &Bench) -> anyhow::Result<Cost> {
    bench.say("the work of an hour");
    let folder = bench.path("daemon-hour");
    fs::create_dir_all(&folder)?;
    let recorder = start(bench, OWN, &folder, HURRIED)?;
    let store = folder.join("store");
    let end = Instant::now() + HURRY;
    loop {
        thread::sleep(Duration::from_secs(2));
        if samples(bench, &store).is_some_and(|samples| samples >= HOUR_SAMPLES) {
            break;
        }
        anyhow::ensure!(Instant::now() < end, "no {HOUR_SAMPLES} samples in time");
    }
    drop(recorder);
    let log = fs::read_dir(store.join("wal"))?;
    anyhow::ensure!(log.count() > 0, "no log is left to compact");
    let compact = Command::new(&bench.aiops)
        .args(["-q", "store", "compact", "--store"])
        .arg(&store)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let cost = proc::wait(compact)?;
    anyhow::ensure!(cost.status == 0, "store compact: status {}", cost.status);
    forget(&folder)?;
    // And once more for the day that it becomes part of.
    Ok(Cost {
        rss_mb: cost.rss_kb as f64 * 1024.0 / 1e6,
        cpu_percent: 2.0 * cost.cpu_ms / 3_600_000.0 * 100.0,
        written: 2.0 * cost.written as f64 / 1e6,
        device: None,
    })
}

/// Samples that the daemon says it has taken.
fn samples(bench: &Bench, store: &Path) -> Option<u64> {
    let output = Command::new(&bench.aiops)
        .args(["monitor", "status", "-o", "json", "--store"])
        .arg(store)
        .output()
        .ok()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    report["data"]["state"]["own"]["ticks"].as_u64()
}

/// Removes a store, with its newest frames: these stand on a tmpfs, where the store says.
fn forget(folder: &Path) -> anyhow::Result<()> {
    let meta = fs::read(folder.join("store/store.json")).unwrap_or_default();
    if let Ok(meta) = serde_json::from_slice::<serde_json::Value>(&meta)
        && let Some(tails) = meta["tails"].as_str()
    {
        let _ = fs::remove_dir_all(tails);
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// Reads the metrics page, as the daemon said where.
fn scrape(said: &Path) -> anyhow::Result<()> {
    let said = fs::read_to_string(said)?;
    let place = said.lines().find_map(|line| {
        let rest = line.strip_prefix("metrics at http://")?;
        rest.strip_suffix("/metrics")
    });
    let mut stream = TcpStream::connect(place.context("no metrics port was told")?)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    anyhow::ensure!(page.contains("aiops_self_samples"), "no page of metrics");
    Ok(())
}

fn measure(bench: &Bench, subject: &str) -> anyhow::Result<Cost> {
    let folder = bench.path(&format!(
        "daemon-{}",
        subject.split(' ').next().unwrap_or("x")
    ));
    fs::create_dir_all(&folder)?;
    let mut recorder = start(bench, subject, &folder, "5s")?;
    thread::sleep(WARM);
    if let Some(status) = recorder.0.try_wait()? {
        let said = fs::read_to_string(folder.join("said")).unwrap_or_default();
        bail!(
            "ended with {status}: {}",
            said.lines().next().unwrap_or_default()
        );
    }
    let pid = recorder.0.id();
    let device = block_device(&folder);
    let begun = Instant::now();
    let before = (
        cpu_s(pid)?,
        written(pid)?,
        device.as_deref().and_then(sectors),
    );
    let span = Duration::from_secs(bench.choose(60, 600));
    let mut rss_kb = 0;
    let mut scraped = None::<Instant>;
    while begun.elapsed() < span {
        if subject == OWN_METRICS && scraped.is_none_or(|at| at.elapsed() >= SCRAPE_EVERY) {
            scrape(&folder.join("said"))?;
            scraped = Some(Instant::now());
        }
        thread::sleep(Duration::from_secs(1));
        rss_kb = rss_kb.max(field(&format!("/proc/{pid}/status"), "VmRSS:")?);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let hourly = |bytes: u64| bytes as f64 / 1e6 / seconds * 3600.0;
    let after = device.as_deref().and_then(sectors);
    let cost = Cost {
        rss_mb: rss_kb as f64 * 1024.0 / 1e6,
        cpu_percent: (cpu_s(pid)? - before.0) * 100.0 / seconds,
        written: hourly(written(pid)?.saturating_sub(before.1)),
        device: after
            .zip(before.2)
            .map(|(after, before)| hourly(after.saturating_sub(before) * 512)),
    };
    drop(recorder);
    forget(&folder)?;
    Ok(cost)
}

/// CPU time of a process, with its children that ended, s.
fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("no stat")?;
    // utime, stime, cutime, cstime: fields 14 to 17; the state is field 3.
    let ticks = rest.split(' ').skip(11).take(4);
    let ticks: u64 = ticks.filter_map(|one| one.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn written(pid: u32) -> anyhow::Result<u64> {
    field(&format!("/proc/{pid}/io"), "write_bytes:")
}

fn field(file: &str, key: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file).context("it has ended")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("no {key}"))?.parse()?)
}

/// The file that counts what the device below a folder did; `None`: it has none of its own.
fn block_device(folder: &Path) -> Option<PathBuf> {
    let dev = fs::metadata(folder).ok()?.dev();
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let stat = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
    stat.exists().then_some(stat)
}

/// Sectors of 512 bytes that were written.
fn sectors(stat: &Path) -> Option<u64> {
    let text = fs::read_to_string(stat).ok()?;
    text.split_whitespace().nth(6)?.parse().ok()
}

/// Processes that begin and end.
struct Churn {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Churn {
    fn start(per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = (per_second > 0).then(|| {
            thread::spawn(move || {
                let pause = Duration::from_secs(1) / per_second;
                let mut next = Instant::now();
                while !told.load(Ordering::Relaxed) {
                    // One that cannot be started is one less.
                    let _ = Command::new("true").status();
                    next += pause;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            })
        });
        Self { stop, thread }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
