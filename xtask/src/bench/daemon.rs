//! `cargo xtask bench daemon [--quick] [--minutes N] [--hour] [--markdown]`: what the daemon costs, beside `atop -w`
//! and `below record`, at the same time on the same processes.
//!
//! Each is started with its own defaults but for the interval of 5 s. When the daemon's memory has settled, all are
//! looked at over ten minutes (`--quick`: one): CPU from /proc/PID/stat, resident memory, what it had the device
//! write (/proc/PID/io), and how its files grew. The device's own count is shown beside it; others write there, too.
//!
//! What comes once an hour is in no such window, so it is measured apart and added: `store compact` of a log of as many
//! samples as an hour has, made by a daemon that takes them faster, of processes that change as much faster. A day of
//! segments is merged into one later, which reads and writes each hour once more: that is taken for as much work again.
//! `--hour` looks for an hour, so that the daemon does it by itself; that is shown apart and not added twice.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::crowd::{Churn, Crowd};
use super::recorder::{Kind, Memory, Reading, Recorder};
use super::{Bench, Table, interrupt, proc};
use crate::util::{self, Tally};

const INTERVAL: &str = "5s";
const INTERVAL_S: f64 = 5.0;
/// Recorders start one after the other, so that their samples do not fall together.
const APART: Duration = Duration::from_millis(1200);
/// The memory of the daemon has settled when it stands still so long, within a twentieth.
const STILL: Duration = Duration::from_secs(30);
/// The first sync of its log comes after 30 s.
const SETTLE_LEAST: Duration = Duration::from_secs(40);
const SETTLE_MOST: Duration = Duration::from_secs(150);
/// A quick run only lets the start pass.
const SETTLE_QUICK: Duration = Duration::from_secs(20);

/// Samples of an hour, and how much faster the daemon takes them for the measure of its hourly work.
const HOUR_SAMPLES: u64 = 720;
const HURRIED: &str = "100ms";
const HURRY: u32 = 50;
/// How long that may take. A crowd that is too large for the pace gives fewer samples, and the cost is scaled.
const HURRY_MOST: Duration = Duration::from_secs(80);
/// As Prometheus asks.
const SCRAPE_EVERY: Duration = Duration::from_secs(15);

/// A crowd, and what the daemon may cost beside it.
struct Case {
    name: &'static str,
    processes: u32,
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

impl Case {
    /// Changes in a second, in thousandths: 17 % of the processes between two samples, as the store's goal was set for.
    fn changes(&self) -> u32 {
        self.processes * 170 / 5
    }
}

/// The chore.
pub(super) fn run(bench: &Bench) -> anyhow::Result<Tally> {
    let span = match (bench.span, bench.quick) {
        (Some(span), _) => span,
        (None, true) => Duration::from_secs(60),
        (None, false) => Duration::from_secs(600),
    };
    let mut table = Table::default();
    table.figure("program that is measured", program(bench)?);
    for case in CASES {
        if let Err(error) = measure(bench, case, span, &mut table) {
            table.promise(case.name, format!("{error:#}"), "runs", false);
        }
        if interrupt::check().is_err() {
            // What was measured before is shown.
            break;
        }
    }
    print!("{table}");
    Ok(table.tally())
}

/// Which program: what is installed has more pages than what tests build.
fn program(bench: &Bench) -> anyhow::Result<String> {
    let version = util::output(Command::new(&bench.aiops).arg("--version"))?;
    let size = super::size(&bench.aiops) as f64 / 1e6;
    let from = if std::env::var_os("AIOPS_BIN").is_some() {
        "named by AIOPS_BIN"
    } else if bench.quick {
        "as tests build it, without frames (--quick)"
    } else {
        "as `cargo xtask dist` builds it"
    };
    Ok(format!("{}, {size:.1} MB, {from}", version.trim()))
}

fn measure(bench: &Bench, case: &Case, span: Duration, table: &mut Table) -> anyhow::Result<()> {
    bench.say(case.name);
    let mut crowd = match Crowd::start(case.processes) {
        Ok(crowd) => crowd,
        // A limit on processes is this machine's, not ours.
        Err(error) => {
            interrupt::check()?;
            table.figure(case.name, format!("not run: {error:#}"));
            return Ok(());
        }
    };
    let churn = Churn::start(case.churn);
    let hour = hour(bench, case, &crowd)?;
    crowd.stir(case.changes());
    let mut subjects = Vec::new();
    for kind in Kind::ALL {
        match Recorder::start(bench, kind, INTERVAL) {
            Ok(recorder) => subjects.push(Subject::new(recorder)),
            Err(error) => unable(table, case, kind, &error),
        }
        interrupt::sleep(APART)?;
    }
    settle(bench, &mut subjects)?;
    subjects.retain_mut(|subject| match subject.begin() {
        Ok(()) => true,
        Err(error) => {
            unable(table, case, subject.recorder.kind, &error);
            false
        }
    });
    let device = block_device(&bench.folder);
    let sectors_before = device.as_deref().and_then(sectors);
    bench.say(&format!("looking for {} s", span.as_secs()));
    let begun = Instant::now();
    let mut scraped = None::<Instant>;
    while begun.elapsed() < span {
        let ask = scraped.is_none_or(|at| at.elapsed() >= SCRAPE_EVERY);
        if ask {
            scraped = Some(Instant::now());
        }
        for subject in &mut subjects {
            subject.look(ask);
        }
        interrupt::sleep(Duration::from_secs(1))?;
    }
    crowd.check()?;
    let processes = processes()?;
    let seconds = begun.elapsed().as_secs_f64();
    for subject in subjects {
        let kind = subject.recorder.kind;
        match subject.end(seconds) {
            Ok(cost) => report(case, kind, &cost, &hour, processes, table),
            Err(error) => unable(table, case, kind, &error),
        }
    }
    hour.report(case, table);
    let after = device.as_deref().and_then(sectors);
    if let Some((after, before)) = after.zip(sectors_before) {
        let hourly = after.saturating_sub(before) as f64 * 512.0 / 1e6 / seconds * 3600.0;
        table.figure(
            &format!(
                "{}: the whole device, written by everybody in that time",
                case.name
            ),
            format!("{hourly:.2} MB/h"),
        );
    }
    let mut host = format!("{processes} processes, load {}", load()?);
    if let Some(rate) = churn.stop() {
        host.push_str(&format!(", {rate:.0} new ones a second"));
    }
    table.figure(&format!("{}: the host", case.name), host);
    Ok(())
}

/// Ours must run; a peer may be missing.
fn unable(table: &mut Table, case: &Case, kind: Kind, error: &anyhow::Error) {
    let name = format!("{}: {}", case.name, kind.name());
    if kind.is_ours() {
        table.promise(&name, format!("{error:#}"), "runs", false);
    } else {
        table.figure(&name, format!("not run: {error:#}"));
    }
}

/// Waits until the memory of the daemon stands still.
fn settle(bench: &Bench, subjects: &mut [Subject]) -> anyhow::Result<()> {
    if bench.quick {
        return interrupt::sleep(SETTLE_QUICK);
    }
    bench.say("waiting for a settled state");
    let begun = Instant::now();
    let (mut since, mut level) = (begun, 0);
    while begun.elapsed() < SETTLE_MOST {
        interrupt::sleep(Duration::from_secs(2))?;
        let own = subjects
            .iter_mut()
            .find(|subject| subject.recorder.kind == Kind::Own);
        let Some(rss_kb) = own.and_then(|own| own.recorder.memory().ok()) else {
            return Ok(());
        };
        let rss_kb = rss_kb.rss_kb;
        if rss_kb.abs_diff(level) * 20 > level {
            (since, level) = (Instant::now(), rss_kb);
        }
        if since.elapsed() >= STILL && begun.elapsed() >= SETTLE_LEAST {
            break;
        }
    }
    bench.say(&format!("settled after {} s", begun.elapsed().as_secs()));
    Ok(())
}

/// A recorder that is looked at.
struct Subject {
    recorder: Recorder,
    before: Option<Reading>,
    most: Memory,
    failed: Option<anyhow::Error>,
}

/// What a recorder cost in the window.
struct Cost {
    memory: Memory,
    cpu_percent: f64,
    children_s: f64,
    written_mb: f64,
    kept: u64,
    samples: f64,
}

impl Subject {
    fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            before: None,
            most: Memory::default(),
            failed: None,
        }
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.recorder.check()?;
        self.before = Some(self.recorder.reading()?);
        Ok(())
    }

    fn look(&mut self, ask: bool) {
        if self.failed.is_none() {
            self.failed = self.try_look(ask).err();
        }
    }

    fn try_look(&mut self, ask: bool) -> anyhow::Result<()> {
        self.recorder.check()?;
        if ask && self.recorder.kind == Kind::OwnMetrics {
            self.recorder.scrape()?;
        }
        let memory = self.recorder.memory()?;
        if memory.rss_kb >= self.most.rss_kb {
            self.most = memory;
        }
        self.most.peak_kb = memory.peak_kb;
        Ok(())
    }

    fn end(mut self, seconds: f64) -> anyhow::Result<Cost> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let before = self.before.context("was not looked at")?;
        let after = self.recorder.reading()?;
        Ok(Cost {
            memory: self.most,
            cpu_percent: (after.cpu_s - before.cpu_s) * 100.0 / seconds,
            children_s: after.children_s - before.children_s,
            written_mb: after.written.saturating_sub(before.written) as f64 / 1e6 / seconds
                * 3600.0,
            kept: after.kept.saturating_sub(before.kept),
            samples: seconds / INTERVAL_S,
        })
    }
}

fn report(case: &Case, kind: Kind, cost: &Cost, hour: &Hour, processes: usize, table: &mut Table) {
    let name = format!("{}: {}", case.name, kind.name());
    let mb = |kb: u64| kb as f64 * 1024.0 / 1e6;
    let memory = &cost.memory;
    let memory = format!(
        "{:.1} MB (own {:.1}, of files {:.1}; peak {:.1})",
        mb(memory.rss_kb),
        mb(memory.anon_kb),
        mb(memory.file_kb),
        mb(memory.peak_kb)
    );
    let (cpu, written) = (format!("{name}, CPU"), format!("{name}, written"));
    if kind.is_ours() {
        let rss_mb = mb(cost.memory.rss_kb);
        let budget = format!("<{:.0} MB", case.rss_mb);
        table.budget(
            &format!("{name}, RSS"),
            memory,
            &budget,
            rss_mb < case.rss_mb,
        );
        let all = cost.cpu_percent + hour.cpu_percent;
        let figure = format!(
            "{all:.2} % of a core, of that {:.3} for compaction",
            hour.cpu_percent
        );
        let budget = format!("<{} %", case.cpu_percent);
        table.budget(&cpu, figure, &budget, all < case.cpu_percent);
        let all = cost.written_mb + hour.written_mb;
        let figure = format!(
            "{all:.2} MB/h, of that {:.2} by compaction",
            hour.written_mb
        );
        match case.written {
            Some(most) => table.budget(&written, figure, &format!("<{most:.0} MB/h"), all < most),
            None => table.figure(&written, figure),
        }
        if cost.children_s > 0.0 {
            table.figure(
                &format!("{name}, its children in the window (not added)"),
                format!("{:.2} s CPU", cost.children_s),
            );
        }
    } else {
        let per_sample = cost.kept as f64 / (cost.samples * processes as f64);
        table.figure(&format!("{name}, RSS"), memory);
        table.figure(&cpu, format!("{:.2} % of a core", cost.cpu_percent));
        table.figure(&written, format!("{:.2} MB/h", cost.written_mb));
        table.figure(
            &format!("{name}, on disk"),
            format!("{per_sample:.2} B a process-sample"),
        );
    }
}

/// What is done once an hour, spread over it.
struct Hour {
    samples: u64,
    rss_mb: f64,
    ms: f64,
    cpu_percent: f64,
    written_mb: f64,
    bytes_per_sample: f64,
    kinds: Vec<(String, f64)>,
}

impl Hour {
    fn report(&self, case: &Case, table: &mut Table) {
        let name = format!("{}: `store compact`", case.name);
        table.figure(
            &format!("{name} of {} samples, a child of its own", self.samples),
            format!("{:.0} ms CPU, peak {:.1} MB", self.ms, self.rss_mb),
        );
        let kinds: Vec<_> = self
            .kinds
            .iter()
            .map(|(kind, bytes)| format!("{kind} {bytes:.2}"))
            .collect();
        table.figure(
            &format!("{name}, on disk then"),
            format!(
                "{:.2} B a process-sample ({})",
                self.bytes_per_sample,
                kinds.join(", ")
            ),
        );
    }
}

fn hour(bench: &Bench, case: &Case, crowd: &Crowd) -> anyhow::Result<Hour> {
    bench.say("the work of an hour");
    crowd.stir(case.changes() * HURRY);
    let mut recorder = Recorder::start(bench, Kind::Own, HURRIED)?;
    let store = recorder.store();
    let begun = Instant::now();
    loop {
        interrupt::sleep(Duration::from_secs(1))?;
        recorder.check()?;
        let taken = samples(bench, &store).unwrap_or(0);
        if taken >= HOUR_SAMPLES || begun.elapsed() >= HURRY_MOST {
            break;
        }
    }
    recorder.end();
    let compact = Command::new(&bench.aiops)
        .args(["-q", "store", "compact", "--store"])
        .arg(&store)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let cost = proc::wait(compact)?;
    anyhow::ensure!(cost.status == 0, "store compact: status {}", cost.status);
    let info = util::output(
        Command::new(&bench.aiops)
            .args(["store", "info", "-o", "json", "--store"])
            .arg(&store),
    )?;
    let info: serde_json::Value = serde_json::from_str(&info)?;
    let data = &info["data"];
    let samples = data["ticks"].as_u64().filter(|&ticks| ticks > 0);
    let samples = samples.context("no samples were taken")?;
    let rows = data["process_samples"].as_f64().context("no processes")?;
    let scale = HOUR_SAMPLES as f64 / samples as f64;
    let kinds = data["kinds"].as_array().context("no kinds")?.iter();
    // And once more for the day that it becomes part of.
    Ok(Hour {
        samples,
        rss_mb: cost.rss_kb as f64 * 1024.0 / 1e6,
        ms: cost.cpu_ms,
        cpu_percent: 2.0 * scale * cost.cpu_ms / 3_600_000.0 * 100.0,
        written_mb: 2.0 * scale * cost.written as f64 / 1e6,
        bytes_per_sample: data["bytes"].as_f64().context("no bytes")? / rows,
        kinds: kinds
            .filter_map(|kind| {
                let bytes = kind["bytes"].as_f64().filter(|&bytes| bytes > 0.0)?;
                Some((kind["name"].as_str()?.to_owned(), bytes / rows))
            })
            .collect(),
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

/// Processes of the host.
fn processes() -> anyhow::Result<usize> {
    let names = fs::read_dir("/proc")?.filter_map(Result::ok);
    let is_pid = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    Ok(names.filter(|entry| is_pid(&entry.file_name())).count())
}

/// The load of the machine: figures of a busy one say so.
fn load() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
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
