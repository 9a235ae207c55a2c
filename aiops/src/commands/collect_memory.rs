//! `aiops collect memory`: sample the system and its processes, and sum up what was seen.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use super::options::ByArg;
use super::options::FilterArgs;
use super::options::share;
use crate::analysis::collect;
use crate::analysis::collect::Collector;
use crate::analysis::collect::OPTION_BY;
use crate::analysis::collect::OPTION_INTERVAL;
use crate::analysis::collect::OPTION_SMAPS;
use crate::analysis::collect::sample_row;
use crate::analysis::collect::system_row;
use crate::analysis::grouping::By;
use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::model::Item;
use crate::model::Sample;
use crate::render;
use crate::render::Format;
use crate::render::units;
use crate::report::Accounting;
use crate::session::Record;
use crate::session::plane;
use crate::session::plane::Observe;
use crate::source::plane::Rollup;
use crate::source::plane::Wants;

/// Schema of the report.
const SCHEMA: &str = "aiops.collect-memory/1";
/// Nothing is sampled more often: the samples would only measure each other.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// Options of `collect memory`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops collect memory --duration 60s --interval 1s
      what the system and the largest processes used: least, mean, most, last
  aiops collect memory --duration 0 --smaps --output mem_snap1.db
      a snapshot, for `aiops diff memory`")]
pub struct Args {
    /// How long; 0 takes one sample. Ctrl-C ends it earlier, with the report.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = cli::duration)]
    duration: Duration,
    /// Between samples, at least 10ms.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = cli::duration)]
    interval: Duration,
    /// Write every sample to a recording, for `aiops replay` and `aiops diff memory`.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing recording.
    #[arg(long, requires = "output")]
    force: bool,
    /// Read smaps as well: PSS and USS within the budget, and regions of every process with the last sample.
    #[arg(long)]
    smaps: bool,
    /// Most of one CPU that reading PSS may take; processes take turns. The regions at the end are beyond it.
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    budget: f64,
    /// Put processes together.
    #[arg(long, value_enum, default_value = "process")]
    by: ByArg,
    /// Rows of the text report; JSON is whole. 0: all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if args.interval.is_zero() && !args.duration.is_zero() {
        let text = "--interval 0 would sample without a pause: give at least 10ms, or take one sample with --duration 0\n";
        // Nobody can be told when stderr is gone.
        let _ = clap::Error::raw(clap::error::ErrorKind::ValueValidation, text).print();
        return Ok(Exit::Usage);
    }
    if args.interval < LEAST_INTERVAL && !args.duration.is_zero() {
        diag::note("the interval is raised to 10 ms: shorter ones would only measure aiops");
    }
    let observe = observe(args, context);
    let mut collector = Collector::new(None, args.top);
    let observed = plane::observe(&observe, &mut |item| {
        collector.push(item);
        match item {
            // Everything is ready: signals are caught, the recording is open.
            Item::Session(_) => start(args, observe.interval),
            Item::Sample(sample) => {
                progress(&collector, sample, args);
                stream(&collector, sample, context)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    diag::progress("");
    let (data, mut findings) = collector.finish();
    let (samples, span) = (data.window.samples, units::span(data.window.seconds));
    diag::note(&match samples {
        1 => "collected one sample".to_owned(),
        _ => format!("collected {samples} samples in {span}"),
    });
    findings.extend(observed.lacks.map(collect::lacks));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let missing = data.missing_pids.len() as u64;
    let mut report = plane::report(SCHEMA, collector.readings(), &[], data, findings, None);
    if let Some(items) = observed.lacks {
        report.accounting.complete = false;
        report.accounting.lost.insert("recording".to_owned(), items);
    }
    never_there(&mut report.accounting, missing.saturating_mul(samples));
    super::print(&report, context, args.exit_code)
}

/// A process id that was never there did not end before it could be read.
pub(super) fn never_there(accounting: &mut Accounting, times: u64) {
    let vanished = &mut accounting.skipped_processes.vanished;
    *vanished = vanished.saturating_sub(times);
}

/// The same report from a recording.
///
/// # Errors
/// The file is no recording, or nothing in it can be read.
pub(super) fn replay(
    file: &Path,
    by: Option<By>,
    top: usize,
    exit_code: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    let mut collector = Collector::new(by, top);
    let damage = plane::read(file, &mut |item| {
        collector.push(item);
        match item {
            Item::Sample(sample) => stream(&collector, sample, context),
            _ => Ok(()),
        }
    })?;
    let (data, findings) = collector.finish();
    let missing = data.missing_pids.len() as u64;
    let times = missing.saturating_mul(data.window.samples);
    let mut report = plane::report(SCHEMA, collector.readings(), &[], data, findings, damage);
    never_there(&mut report.accounting, times);
    super::print(&report, context, exit_code)
}

fn observe(args: &Args, context: &Context) -> Observe {
    let filter = args.filter.filter();
    let by = By::from(args.by);
    let snapshot = args.duration.is_zero() || args.budget >= 1.0;
    let mut options = BTreeMap::from([
        (
            OPTION_INTERVAL.to_owned(),
            args.interval.max(LEAST_INTERVAL).as_secs_f64().to_string(),
        ),
        (OPTION_BY.to_owned(), by.id().to_owned()),
    ]);
    if args.smaps {
        options.insert(OPTION_SMAPS.to_owned(), "true".to_owned());
    }
    Observe {
        command: "collect memory".to_owned(),
        root: context.root.clone(),
        wants: Wants {
            pids: (!filter.pids.is_empty()).then(|| filter.pids.clone()),
            rollup: match (args.smaps, snapshot) {
                (false, _) => Rollup::None,
                // A single sample reads every mapping anyway.
                (true, true) => Rollup::All,
                (true, false) => Rollup::Budget(args.budget),
            },
            cgroups: matches!(by, By::Cgroup | By::Container | By::Unit),
            // Files of their own for each process: not at every sample.
            all: args.duration.is_zero(),
        },
        filter,
        detail: true,
        page_types: false,
        regions: args.smaps,
        interval: args.interval.max(LEAST_INTERVAL),
        duration: args.duration,
        record: args.output.clone().map(|path| Record {
            path,
            force: args.force,
        }),
        options,
    }
}

/// Says that it begins: one line, also where stderr is no terminal.
fn start(args: &Args, interval: Duration) {
    diag::note(&if args.duration.is_zero() {
        "collecting one sample".to_owned()
    } else {
        format!(
            "collecting for {}, a sample every {}; Ctrl-C ends it with the report",
            units::span(args.duration.as_secs_f64()),
            units::span(interval.as_secs_f64())
        )
    });
}

/// The line on the terminal: where we are, the host, the largest process.
fn progress(collector: &Collector, sample: &Sample, args: &Args) {
    if args.duration.is_zero() || !diag::shows_progress() {
        return;
    }
    let first = collector.readings().first.as_ref();
    let since = sample.ts_ns - first.map_or(sample.ts_ns, |one| one.ts_ns.min(sample.ts_ns));
    let mut parts = vec![format!(
        "{} / {}",
        units::span((since as f64 / 1e9).round().max(1.0)),
        units::span(args.duration.as_secs_f64())
    )];
    if let Some(metrics) = &sample.system {
        let row = system_row(metrics);
        let sizes = [
            ("used", row.mem_used_kb),
            ("available", metrics.mem_available_kb),
            ("swap", row.swap_used_kb),
        ];
        let known = sizes.into_iter();
        parts
            .extend(known.filter_map(|(name, kb)| Some(format!("{name} {}", units::size_kb(kb?)))));
        if let Some(psi) = metrics.psi_some_avg10 {
            parts.push(format!("PSI {:.2}%", psi as f64 / 100.0));
        }
    }
    let largest = sample.processes.iter().max_by_key(|one| one.metrics.rss_kb);
    if let Some(process) = largest
        && let Some(rss) = process.metrics.rss_kb
    {
        let (comm, pid) = (process.comm.lossy(), process.pid);
        parts.push(format!("{comm} ({pid}) {}", units::size_kb(rss)));
    }
    diag::progress(&parts.join("  "));
}

/// The sample as a line of JSON, where lines were asked for.
fn stream(collector: &Collector, sample: &Sample, context: &Context) -> std::io::Result<()> {
    if context.format != Format::Jsonl {
        return Ok(());
    }
    let row = sample_row(collector.readings(), sample);
    let line = render::record_line("sample", &row, context.style.lang);
    super::out(&line.map_err(std::io::Error::other)?)
}
