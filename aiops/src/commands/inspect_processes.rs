//! `aiops inspect processes`: the largest processes, and what their memory is made of.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use super::options::ByArg;
use super::options::FilterArgs;
use super::options::share;
use crate::analysis::grouping::By;
use crate::analysis::processes;
use crate::analysis::processes::Options;
use crate::analysis::processes::Sort;
use crate::analysis::processes::analyze;
use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;
use crate::report::processes::ProcessRow;
use crate::report::processes::ProcessesData;
use crate::report::processes::View;
use crate::session::plane;
use crate::session::plane::Observe;
use crate::source::plane::Rollup;
use crate::source::plane::Wants;
use crate::source::procfs::read_placement;

const SCHEMA: &str = "aiops.inspect-processes/1";

/// Options of `inspect processes`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops inspect processes --sort pss
      the largest processes: anonymous, file, shared, swapped
  aiops inspect processes --by container
      containers with their limits and use")]
pub struct Args {
    /// Order of rows.
    #[arg(long, value_enum, default_value = "rss")]
    sort: SortArg,
    /// Most of one CPU that reading PSS may take in its second; 0 reads none [default: 10%, and all that is needed with --sort pss or uss].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    budget: Option<f64>,
    /// Put processes together.
    #[arg(long, alias = "group-by", value_enum, default_value = "process")]
    by: ByArg,
    /// Read twice, this far apart: growth of processes, kills and NUMA misses in between; 0 reads once.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = cli::duration)]
    interval: Duration,
    /// Rows of the text report; JSON has all rows. 0: all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Orders of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SortArg {
    /// Resident memory.
    Rss,
    /// Proportional share.
    Pss,
    /// Memory of its own.
    Uss,
    /// Anonymous memory.
    Anon,
    /// File memory.
    File,
    /// Shared memory.
    Shmem,
    /// Swapped out.
    Swap,
}

impl From<SortArg> for Sort {
    fn from(sort: SortArg) -> Self {
        match sort {
            SortArg::Rss => Self::Rss,
            SortArg::Pss => Self::Pss,
            SortArg::Uss => Self::Uss,
            SortArg::Anon => Self::Anon,
            SortArg::File => Self::File,
            SortArg::Shmem => Self::Shmem,
            SortArg::Swap => Self::Swap,
        }
    }
}

/// Processes whose placement on NUMA nodes is read: the largest.
const PLACED: usize = 20;
/// Longest that reading the placement of processes on NUMA nodes may take.
const PLACEMENT: Duration = Duration::from_secs(2);

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let filter = args.filter.filter();
    let filtered = !filter.is_empty();
    let observe = Observe {
        command: "inspect processes".to_owned(),
        root: context.root.clone(),
        wants: Wants {
            pids: (!filter.pids.is_empty()).then(|| filter.pids.clone()),
            rollup: rollup(args),
            cgroups: true,
            // They are shown once: files of their own for each process cost little.
            all: true,
        },
        filter,
        detail: true,
        interval: args.interval,
        duration: args.interval,
        ..Observe::default()
    };
    let readings = plane::readings(&observe)?;
    let options = Options {
        by: args.by.into(),
        sort: args.sort.into(),
        view: View {
            top: args.top,
            filtered,
        },
    };
    let mut data = analyze(&readings, &options);
    if data.nodes.len() > 1 {
        place_all(&mut data, &context.root);
    }
    let findings = processes::findings(&readings, &data);
    let session = readings.session.as_ref();
    let wanted = session.map_or(&[][..], |session| &session.filter.pids);
    let seen = |pid: &u32| {
        let samples = [&readings.first, &readings.last].into_iter().flatten();
        samples
            .flat_map(|sample| &sample.processes)
            .any(|process| process.pid == *pid)
    };
    let missing = wanted.iter().filter(|pid| !seen(pid)).count() as u64;
    let mut report = plane::report(SCHEMA, &readings, &[], data, findings, None);
    let times = missing.saturating_mul(readings.samples);
    super::collect_memory::never_there(&mut report.accounting, times);
    super::print(&report, context, args.exit_code)
}

/// How PSS is read: an order by it needs that of every process.
fn rollup(args: &Args) -> Rollup {
    match args.budget {
        Some(budget) if budget > 0.0 => Rollup::Budget(budget),
        Some(_) => Rollup::None,
        None if matches!(args.sort, SortArg::Pss | SortArg::Uss) => Rollup::All,
        None => Rollup::Budget(0.1),
    }
}

/// Reads where the memory of the largest lies; those that may not be read stay unknown.
fn place_all(data: &mut ProcessesData, root: &Path) {
    let begin = Instant::now();
    let mut largest: Vec<&ProcessRow> = data.processes.iter().collect();
    largest.sort_by_key(|row| std::cmp::Reverse(row.metrics.rss_kb));
    let keys: Vec<(u32, u64)> = largest
        .into_iter()
        .take(PLACED)
        .filter_map(|row| Some((row.who.pid?, row.who.start?)))
        .collect();
    for (pid, start) in keys {
        if begin.elapsed() > PLACEMENT {
            break;
        }
        if let Ok(placement) = read_placement(root, pid)
            && placement.start_ticks == start
        {
            let cpus = placement.cpus.as_deref();
            processes::place(data, (pid, start), placement.node_kb, cpus);
        }
    }
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
    let (readings, damage) = plane::replay(file)?;
    let session = readings.session.as_ref();
    let options = Options {
        by: by.unwrap_or_default(),
        sort: Sort::Rss,
        view: View {
            top,
            filtered: session.is_some_and(|session| !session.filter.is_empty()),
        },
    };
    let data = analyze(&readings, &options);
    let findings = processes::findings(&readings, &data);
    let report = plane::report(SCHEMA, &readings, &[], data, findings, damage);
    super::print(&report, context, exit_code)
}
