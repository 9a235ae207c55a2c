//! `aiops detect oom-risk`: which limit is met first, when, and who dies then.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::query_memory;
use crate::analysis::leak::Series;
use crate::analysis::risk_report;
use crate::analysis::risk_report::Input;
use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::model::Filter;
use crate::model::Owner;
use crate::model::Range;
use crate::msg;
use crate::report::Accounting;
use crate::report::Damage;
use crate::report::Finding;
use crate::report::HostInfo;
use crate::report::Msg;
use crate::report::Report;
use crate::report::risk::RiskWindow;
use crate::session::limits;
use crate::session::limits::Here;
use crate::session::plane;
use crate::session::risk;
use crate::session::store_error;
use crate::session::subjects;
use crate::session::subjects::Subject;
use crate::session::subjects::Window;
use crate::time;

/// Name and version of the report.
const SCHEMA: &str = "aiops.detect-oom-risk/1";
/// History that is judged when nothing else is asked for.
const HISTORY: Duration = Duration::from_secs(86_400);
/// How long is sampled where there is no history.
const WINDOW: Duration = Duration::from_secs(600);
/// Most sizes of one process.
const MOST: usize = 5000;
/// History that ends longer ago than this is said to be old, seconds.
const OLD_S: f64 = 600.0;

/// Options of `detect oom-risk`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A leak meets the limit of its cgroup or of one above it, the host's RAM and swap, or an rlimit of its own. Leaks
that share a limit meet it together, sooner than each alone. Where nothing leaks, what stands at 90% of a limit is
listed without a time.

Examples:
  aiops detect oom-risk
      the last day of the history (without one, ten minutes of samples), every process and cgroup
  aiops detect oom-risk --window 10m
      without history: sample for ten minutes; that finds fast leaks
  aiops detect oom-risk --history 7d --exit-code -o json
      for scripts: 10 when a limit is met within 30 days, 20 within a day")]
pub struct Args {
    /// How far back the history is judged [default: 24h].
    #[arg(long, value_name = "TIME", value_parser = cli::duration, conflicts_with_all = ["window", "recording"])]
    history: Option<Duration>,
    /// Sample now, for so long, instead of asking history.
    #[arg(long, value_name = "TIME", value_parser = cli::duration, conflicts_with = "recording")]
    window: Option<Duration>,
    /// Judge a recording of `aiops collect memory`, with the limits at its end.
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// Rows of the text report; JSON has all rows. 0: all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// The series, and the limits beside them.
struct Found {
    source: &'static str,
    here: Here,
    processes: Vec<Subject>,
    cgroups: Vec<Subject>,
    host: Option<Series>,
    ticks: usize,
    /// What there is to say of an empty history.
    empty: Option<Finding>,
    unread: Vec<String>,
    damage: Option<Damage>,
    notes: Vec<Msg>,
}

/// Runs the command.
///
/// # Errors
/// There is no history, no such recording, or no /proc; each with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let found = match (&args.recording, args.window) {
        (Some(file), _) => recorded(file)?,
        (None, Some(window)) => sampled(window, context)?,
        (None, None) if args.history.is_none() && !context.store.exists() => {
            let store = context.store.display();
            diag::note(&format!("no history at {store}: sampling for 10 min"));
            sampled(WINDOW, context)?
        }
        (None, None) => remembered(args.history.unwrap_or(HISTORY), context)?,
    };
    let here = &found.here;
    let judged = risk::judge(here, &found.processes, &found.cgroups, found.host);
    let all = found.processes.iter();
    let first = all.clone().map(|one| one.first_s).reduce(f64::min);
    let last = all.map(|one| one.last_s).reduce(f64::max);
    let stamp = |seconds: f64| {
        let ns = ns(seconds)?;
        time::rfc3339(ns, time::local_offset_s(ns))
    };
    let (now_ns, offset) = here.moment;
    let window = RiskWindow {
        source: found.source,
        start: first.and_then(stamp),
        end: last.and_then(stamp),
        now: time::rfc3339(now_ns, offset),
        processes: there(&found.processes),
        cgroups: there(&found.cgroups),
        ..RiskWindow::default()
    };
    let mut data = risk_report::data(Input {
        scene: risk::scene(here),
        judged,
        system: here.sample.system.as_ref(),
        cgroups: &here.sample.cgroups,
        now: here.moment,
        window,
    });
    data.top = args.top;
    data.notes = found.notes;
    let age_s = last.map_or(0.0, |last| now_ns as f64 / 1e9 - last);
    if age_s > OLD_S {
        let minutes = age_s / 60.0;
        data.notes.push(msg!(
            "the history ends {minutes:.0} min ago: growth since then is not known",
            "历史数据止于 {minutes:.0} 分钟前：此后的增长未知"
        ));
    }
    let mut findings = risk_report::findings(&data);
    findings.extend(found.empty);
    let seen = [
        ("ticks", found.ticks),
        ("processes", data.window.processes),
        ("cgroups", data.window.cgroups),
    ];
    let count =
        |(name, count): (&str, usize)| (name.to_owned(), u64::try_from(count).unwrap_or(u64::MAX));
    let now = time::now_ns();
    let report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: HostInfo::from(&here.host),
        findings,
        data,
        accounting: Accounting {
            seen: seen.into_iter().map(count).collect(),
            complete: found.unread.is_empty() && found.damage.is_none(),
            unread: found.unread,
            damage: found.damage,
            ..Accounting::default()
        },
    };
    super::print(&report, context, args.exit_code)
}

/// How many were there at the last sample: only those are judged.
fn there(subjects: &[Subject]) -> usize {
    subjects.iter().filter(|one| one.at_end).count()
}

/// Nanoseconds since 1970.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is within the range of nanoseconds"
)]
fn ns(seconds: f64) -> Option<i64> {
    let ns = seconds * 1e9;
    (ns.abs() < 9e18).then_some(ns as i64)
}

fn recorded(file: &Path) -> anyhow::Result<Found> {
    let read = subjects::from_recording(file, Filter::default(), MOST)?;
    let (readings, _) = plane::replay(file)?;
    Ok(Found {
        source: "recording",
        here: Here::left_by(&readings),
        processes: read.processes,
        cgroups: read.cgroups,
        host: None,
        ticks: read.ticks,
        empty: None,
        unread: Vec::new(),
        damage: read.damage,
        notes: vec![msg!(
            "rlimits of processes are not in a recording",
            "录制文件不含进程的 rlimit"
        )],
    })
}

fn sampled(window: Duration, context: &Context) -> anyhow::Result<Found> {
    let window = Window {
        root: &context.root,
        length: window,
        filter: Filter::default(),
        cgroups: true,
    };
    let read = subjects::live(&window, &mut |_, _| {})?;
    let here = limits::now(&context.root)?;
    let seconds = window.length.as_secs_f64();
    Ok(Found {
        source: "live",
        here,
        processes: read.processes,
        cgroups: read.cgroups,
        host: None,
        ticks: read.ticks,
        empty: None,
        unread: Vec::new(),
        damage: None,
        notes: vec![msg!(
            "{seconds:.0} s of samples show fast leaks only; a warm-up of this length looks the same",
            "{seconds:.0} 秒的采样只能发现快速泄漏；同样长度的预热与之无法区分"
        )],
    })
}

fn remembered(history: Duration, context: &Context) -> anyhow::Result<Found> {
    let store = super::store_at(context);
    let none = || {
        let error = anyhow::anyhow!("{}: no history there", context.store.display());
        let remedy = "`aiops monitor memory` writes it, and --store DIR names another one; without history: --window 10m";
        Err(diag::hint(error, remedy))
    };
    if !context.store.exists() {
        return none();
    }
    let meta = store.meta().map_err(store_error)?;
    let here = limits::now(&context.root)?;
    let now_ms = here.moment.0 / 1_000_000;
    let length = i64::try_from(history.as_millis()).unwrap_or(i64::MAX);
    let range = Range {
        start_ms: now_ms.saturating_sub(length),
        end_ms: now_ms.saturating_add(1),
    };
    let every = |_: &Owner<'_>| true;
    let (mut processes, coverage) =
        subjects::from_store(&store, range, &[], &every, MOST, &context.root)
            .map_err(store_error)?;
    // Whatever starts, grows.
    processes.retain(|one| !one.is_starting());
    if meta.is_none() && coverage.known.is_none() {
        return none();
    }
    let owner = meta.map(|meta| meta.hostname);
    let name = here.host.hostname.lossy();
    if let Some(owner) = owner.filter(|owner| *owner != name) {
        let error = anyhow::anyhow!(
            "{}: history of {owner}, and the limits here are those of {name}",
            context.store.display()
        );
        return Err(diag::hint(
            error,
            "ask on that host, or judge a recording of it: --recording",
        ));
    }
    let cgroups =
        subjects::cgroups_from_store(&store, range, &|_| true, MOST).map_err(store_error)?;
    let host = risk::host_series(&store, range).map_err(store_error)?;
    let unread = coverage.damages.iter().map(|damage| {
        let why = damage.error.as_deref().unwrap_or("damaged");
        format!("{} ({why})", damage.path.display())
    });
    Ok(Found {
        source: "store",
        processes,
        cgroups,
        host: Some(host),
        ticks: coverage.times.len(),
        empty: coverage
            .times
            .is_empty()
            .then(|| query_memory::empty_range(coverage.known)),
        unread: unread.collect(),
        damage: None,
        notes: Vec::new(),
        here,
    })
}
