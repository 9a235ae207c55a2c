//! `aiops detect memory-leak`: is it a leak, how fast, until when.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::leak_input;
use super::leak_judge;
use super::leak_judge::Judge;
use super::leak_plot::Plot;
use super::leak_sources;
use super::leak_sources::Asked;
use super::leak_sources::Taken;
use super::options;
use super::options::FilterArgs;
use crate::analysis::leak;
use crate::analysis::leak_report;
use crate::analysis::leak_shared;
use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::model::Filter;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::leak::LeakData;
use crate::report::leak::LeaksData;
use crate::source::host;
use crate::time;

/// Name and version of the report.
const SCHEMA: &str = "aiops.detect-memory-leak/1";
/// How far back, unless asked for.
const HISTORY: Duration = Duration::from_secs(24 * 3600);
/// How long is sampled, unless asked for.
const WINDOW: Duration = Duration::from_secs(600);

/// Options of `detect memory-leak`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --history, --window, --recording: the last 24h of the store, and where it knows nothing of the process,
samples taken now, for 10m. Judged is what a process alone holds: anonymous memory, resident or swapped out.

A file: a header and a row for each sample, in the order in which they were taken.
  ts               seconds (or milliseconds) since 1970, or RFC 3339
  bytes | kb | mb  size of the memory; kb and mb are 2^10 and 2^20 bytes
  load             requests/s or any other load, if it is known
  start            start of the process, as ts: it changes at a restart

Examples:
  aiops detect memory-leak --pid 1234 --history 24h
      a verdict, the rate, and when the limit is met, from what the daemon remembers
  aiops detect memory-leak --all
      every process and memory cgroup of the host, leaks first
  aiops detect memory-leak --pid 1234 --window 10m
      samples it now; the report says what so short a time can decide
  aiops detect memory-leak --recording trace.aiops --comm java
      what `aiops collect memory --output` recorded, on any host
  aiops detect memory-leak --input rss.csv --memory-limit 2GiB
      a verdict on a file, and when 2 GiB are met
  aiops detect memory-leak --pid 1234 --plot leak.html
      the report, and a page with the drawing: series, shape, change points, forecast (or leak.svg)
  aiops detect memory-leak --all --exit-code -o json
      for scripts: 10 for a leak, 20 when a limit is less than a day away")]
pub struct Args {
    /// Samples of processes: a file for each.
    #[arg(long, value_name = "FILE.csv", num_args = 1..)]
    input: Vec<PathBuf>,
    /// Every process, and every memory cgroup.
    #[arg(long)]
    all: bool,
    /// So far back in the history of the store [default: 24h].
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    history: Option<Duration>,
    /// End of the history [default: now].
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    end: Option<String>,
    /// Sample so long, now. Ctrl-C ends it earlier: what there is is judged.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    window: Option<Duration>,
    /// What a recording holds.
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// What the process dies at: 2GiB, or bytes.
    #[arg(long, value_name = "SIZE", value_parser = options::bytes)]
    memory_limit: Option<u64>,
    /// Rows of the text where several are judged, 0: all. JSON holds all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Draw the series, its shape and the forecast: a file that ends in .svg or .html.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Replace the drawing that is there.
    #[arg(long, requires = "plot")]
    force: bool,
    /// Exit with 10 for a leak, with 20 when its limit is less than a day away.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs the command.
///
/// # Errors
/// What is asked for cannot be read or is not there, with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if let Some(text) = wrong(args) {
        return Ok(super::usage(text));
    }
    let asked = match asked(args) {
        Ok(asked) => asked,
        Err(text) => return Ok(super::usage(&text)),
    };
    let plot = args.plot.as_ref();
    let plot = plot.map(|path| Plot::new(path, args.force)).transpose();
    let plot = match plot {
        Ok(Some(_)) if !asked.single() && args.input.len() != 1 => {
            return Ok(super::usage(
                "--plot draws one process: name it by --pid, or give one --input",
            ));
        }
        Ok(plot) => plot,
        Err(text) => return Ok(super::usage(&text)),
    };
    if let Some(plot) = &plot {
        plot.check()?;
    }
    if !args.input.is_empty() {
        return files(args, plot.as_ref(), context);
    }
    let taken = leak_sources::take(&asked, context)?;
    let judge = Judge {
        taken: &taken,
        limit: args.memory_limit,
    };
    if asked.single() {
        let mut data = judge.newest()?;
        compete(&mut data, &asked, context);
        let findings = leak_judge::findings(&data);
        return one(
            data,
            findings,
            &taken,
            plot.as_ref(),
            context,
            args.exit_code,
        );
    }
    let data = judge.every(args.top);
    if data.processes.is_empty() && data.cgroups.is_empty() {
        return Err(leak_sources::nobody(&asked, &taken));
    }
    let findings = leak_judge::findings_of_all(&data);
    print(data, findings, &taken, context, args.exit_code)
}

/// Looks for others who leak towards the limit of a leak: a limit of a cgroup or of the host is met together.
fn compete(data: &mut LeakData, asked: &Asked, context: &Context) {
    let Some(oom) = &data.oom else {
        return;
    };
    let sampled = asked.recording.is_none() && data.window.source != Some("history");
    if sampled || !["cgroup", "host"].contains(&oom.limit_source) {
        return;
    }
    // All of them: history knows the cgroup in which a process was first seen, and it may have been moved.
    let others = Asked {
        filter: Filter::default(),
        all: true,
        ..asked.clone()
    };
    // What is there was read a moment ago; without the others the verdict is what it is.
    if let Ok(taken) = leak_sources::take(&others, context) {
        let judge = Judge {
            taken: &taken,
            limit: None,
        };
        leak_shared::compete(data, judge.every(0).processes.iter());
    }
}

/// What does not go together.
fn wrong(args: &Args) -> Option<&'static str> {
    let chosen = args.all || !args.filter.filter().is_empty();
    let sources = [
        args.history.is_some() || args.end.is_some(),
        args.window.is_some(),
        args.recording.is_some(),
        !args.input.is_empty(),
    ];
    if sources.iter().filter(|given| **given).count() > 1 {
        return Some(
            "one source at a time: --input, --history (with --end), --window or --recording",
        );
    }
    if !args.input.is_empty() && chosen {
        return Some(
            "a file is about one process: --input goes without --pid, --comm, --cgroup, --all",
        );
    }
    if args.all && !args.filter.filter().is_empty() {
        return Some("--all is every process: leave it out, or the filters");
    }
    if args.input.is_empty() && !chosen && args.recording.is_none() {
        return Some(
            "whose memory? --pid, --comm, --cgroup, --container, --user, --all, or --input FILE.csv",
        );
    }
    let zero = |length: Option<Duration>| length.is_some_and(|length| length.is_zero());
    if zero(args.history) || zero(args.window) {
        return Some("--history and --window must be more than 0");
    }
    None
}

fn asked(args: &Args) -> Result<Asked, String> {
    let now = time::now_ns();
    let end_ns = match &args.end {
        Some(text) => time::moment(text, now, true).map_err(|why| format!("--end: {why}"))?,
        None => now,
    };
    Ok(Asked {
        filter: args.filter.filter(),
        all: args.all,
        history: args.history.unwrap_or(HISTORY),
        history_only: args.history.is_some() || args.end.is_some(),
        end_ms: end_ns.div_euclid(1_000_000),
        window: args.window,
        window_default: WINDOW,
        recording: args.recording.clone(),
    })
}

/// One file is reported as it is, several as a list.
fn files(args: &Args, plot: Option<&Plot>, context: &Context) -> anyhow::Result<Exit> {
    let limit = args.memory_limit;
    let mut taken = Taken {
        source: "files",
        host: HostInfo::from(&host::read(Path::new("/"))),
        ..Taken::default()
    };
    let (mut samples, mut odd) = (0, 0);
    let mut all = Vec::new();
    for path in &args.input {
        let input = leak_input::read(path)?;
        let found = leak::assess(&input.series, limit.map(|bytes| bytes as f64));
        let limit = limit.map(|bytes| (bytes, "option"));
        let mut data = leak_report::data(&input.series, &found, limit);
        data.process.input = Some(path.display().to_string());
        data.window.missing = input.missing;
        data.notes.extend(input.notes);
        samples += data.window.samples;
        odd += input.not_understood;
        all.push(data);
    }
    taken.accounting = Accounting {
        seen: [("samples".to_owned(), samples as u64)].into(),
        decode_errors: odd,
        complete: odd == 0,
        ..Accounting::default()
    };
    if args.input.len() > 1 {
        let data = leak_judge::ranked(all, Vec::new(), &taken, args.top);
        let findings = leak_judge::findings_of_all(&data);
        return print(data, findings, &taken, context, args.exit_code);
    }
    let Some(data) = all.pop() else {
        return Err(diag::hint(anyhow::anyhow!("no file"), "--input FILE.csv"));
    };
    let findings = leak_report::findings(&data);
    one(data, findings, &taken, plot, context, args.exit_code)
}

/// What both kinds of data can be: printed.
trait Data: serde::Serialize + crate::render::TextReport {}
impl Data for LeakData {}
impl Data for LeaksData {}

fn print<D: Data>(
    data: D,
    findings: Vec<Finding>,
    taken: &Taken,
    context: &Context,
    exit_code: bool,
) -> anyhow::Result<Exit> {
    let report = enveloped(data, findings, taken);
    super::print(&report, context, exit_code)
}

/// Prints one process, and draws it where that is asked for.
fn one(
    data: LeakData,
    findings: Vec<Finding>,
    taken: &Taken,
    plot: Option<&Plot>,
    context: &Context,
    exit_code: bool,
) -> anyhow::Result<Exit> {
    let report = enveloped(data, findings, taken);
    if let Some(plot) = plot {
        plot.write(&report, context.style.lang)?;
    }
    super::print(&report, context, exit_code)
}

fn enveloped<D>(data: D, findings: Vec<Finding>, taken: &Taken) -> Report<D> {
    let now = time::now_ns();
    Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: taken.host.clone(),
        findings,
        data,
        accounting: taken.accounting.clone(),
    }
}
