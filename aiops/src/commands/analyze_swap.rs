//! `aiops analyze swap`: who is in swap, how fast pages go in and out, and what to do.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use super::analyze_cache::rows;
use super::options::ByArg;
use super::options::FilterArgs;
use super::options::share;
use crate::analysis::grouping::By;
use crate::analysis::readings::ProcessKey;
use crate::analysis::readings::Readings;
use crate::analysis::readings::key;
use crate::analysis::swap as analysis;
use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;
use crate::model::Filter;
use crate::model::Item;
use crate::model::Regions;
use crate::report::Damage;
use crate::report::Finding;
use crate::report::Report;
use crate::report::swap::SwapData;
use crate::report::swap::View;
use crate::session;
use crate::session::plane::Observe;
use crate::source::plane::Rollup;
use crate::source::plane::Wants;

const SCHEMA: &str = "aiops.analyze-swap/1";
/// What the report reads of the memory manager's inner state.
const NEEDS: [&str; 1] = ["/proc/swaps"];

/// Options of `analyze swap`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops analyze swap --processes --threshold 10%
      the processes that have a tenth or more of the swap in use
  aiops analyze swap --interval 5s --by cgroup -o json")]
pub struct Args {
    /// List the processes; without it, only the top 5 are shown. JSON always has all.
    #[arg(long)]
    processes: bool,
    /// Least share of the swap in use that a listed process has.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    threshold: f64,
    /// Order of processes.
    #[arg(long, value_enum, default_value = "swap")]
    sort: SortArg,
    /// Between the two readings that rates are made from; 0 reads once and knows no rates.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = cli::duration)]
    interval: Duration,
    /// Put processes together.
    #[arg(long, value_enum, default_value = "process")]
    by: ByArg,
    /// Rows of the text report, 0 for all; JSON is whole.
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
    /// Swapped out.
    Swap,
    /// Resident memory.
    Rss,
    /// Share of the process that is swapped out.
    Share,
    /// Major faults in the interval.
    Majflt,
    /// Process id.
    Pid,
}

impl From<SortArg> for analysis::Sort {
    fn from(sort: SortArg) -> Self {
        match sort {
            SortArg::Swap => Self::Swap,
            SortArg::Rss => Self::Rss,
            SortArg::Share => Self::Share,
            SortArg::Majflt => Self::MajorFaults,
            SortArg::Pid => Self::Pid,
        }
    }
}

/// Processes whose mappings are looked into.
const LOOK_INTO: usize = 5;
/// No more mappings are read after this time; the process that is being read is finished.
const LOOK_TIME: Duration = Duration::from_secs(2);
/// Share of a second for the processes' proportional swap.
const ROLLUP_SHARE: f64 = 0.5;

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    // The sum over processes needs all of them: the filter only chooses what is listed.
    let observe = Observe {
        command: "analyze swap".to_owned(),
        root: context.root.clone(),
        wants: Wants {
            cgroups: true,
            ..Wants::default()
        },
        detail: true,
        interval: args.interval,
        duration: args.interval,
        ..Observe::default()
    };
    let filter = args.filter.filter();
    let mut readings = session::plane::readings(&observe)?;
    let looked = look_into(&mut readings, &filter, &context.root)?;
    if let Some(session) = &mut readings.session {
        session.filter = filter.clone();
    }
    let options = analysis::Options {
        filter,
        by: args.by.into(),
        sort: args.sort.into(),
        threshold: args.threshold,
        denied_regions: looked.denied,
    };
    let (mut data, findings) = analysis::analyze(&readings, &options);
    data.view = View {
        processes: args.processes,
        top: rows(args.top),
        threshold: args.threshold,
        by: options.by.id(),
        sort: options.sort.id(),
        filtered: !options.filter.is_empty(),
    };
    let whole = looked.whole && options.denied_regions.is_empty();
    let mut report = report(&readings, data, findings, None);
    report.accounting.complete &= whole;
    super::print(&report, context, args.exit_code)
}

/// The report; a process whose swap is not known makes it incomplete.
fn report(
    readings: &Readings,
    data: SwapData,
    findings: Vec<Finding>,
    damage: Option<Damage>,
) -> Report<SwapData> {
    let unread = data.totals.processes_unread > 0;
    let mut report = session::plane::report(SCHEMA, readings, &NEEDS, data, findings, damage);
    report.accounting.complete &= !unread;
    report
}

/// What could not be looked into.
#[derive(Default)]
struct Looked {
    /// Processes whose mappings may not be read.
    denied: HashSet<ProcessKey>,
    /// The proportional swap of every process in swap was read.
    whole: bool,
}

/// Reads what costs too much for every process: the proportional swap of those in swap, and the mappings
/// of the largest.
fn look_into(readings: &mut Readings, filter: &Filter, root: &Path) -> anyhow::Result<Looked> {
    let mut looked = Looked {
        whole: true,
        ..Looked::default()
    };
    let Some(sample) = readings.newest() else {
        return Ok(looked);
    };
    let mut swapped: Vec<_> = sample
        .processes
        .iter()
        .filter(|process| process.metrics.swap_kb > Some(0))
        .collect();
    if swapped.is_empty() {
        return Ok(looked);
    }
    swapped.sort_by_key(|process| Reverse(process.metrics.swap_kb));
    let pids: Vec<u32> = swapped.iter().map(|process| process.pid).collect();
    let wanted = swapped
        .iter()
        .filter(|process| filter.wants(process, readings.identity(key(process))));
    let top: Vec<_> = wanted.take(LOOK_INTO).map(|process| key(process)).collect();
    let mut plane = session::plane::open(root)?;
    let begin = Instant::now();
    for (pid, start) in top {
        match plane.mappings(pid) {
            Ok(mappings) if mappings.process.start_ticks != start => {}
            Ok(mappings) if mappings.maps_only => {
                looked.denied.insert((pid, start));
            }
            Ok(mappings) => readings.push(Item::Regions(Regions::of(&mappings))),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                looked.denied.insert((pid, start));
            }
            // One that is gone has no regions.
            Err(_) => {}
        }
        if begin.elapsed() > LOOK_TIME {
            break;
        }
    }
    let rollups = plane.sample(&Wants {
        pids: Some(pids),
        rollup: Rollup::Budget(ROLLUP_SHARE),
        ..Wants::default()
    });
    // Both figures of one reading: while pages move, the swap of the sample is another one.
    let shares: HashMap<_, _> = rollups
        .processes
        .iter()
        .map(|process| {
            let both = process.metrics.swap_kb.zip(process.metrics.swap_pss_kb);
            (key(process), both)
        })
        .collect();
    // Before Linux 4.14 nobody has the file: nothing is kept from this user.
    let told = root.join("proc/self/smaps_rollup").exists();
    looked.whole = !told || shares.values().all(Option::is_some);
    if let Some(sample) = readings.last.as_mut().or(readings.first.as_mut()) {
        for process in &mut sample.processes {
            let metrics = &mut process.metrics;
            if let Some(Some(both)) = shares.get(&(process.pid, process.start_ticks)) {
                metrics.swap_pss_kb = metrics.swap_kb.map(|swap| share_of(swap, *both));
            }
        }
    }
    Ok(looked)
}

/// The proportional share of `swap` when it was `then.1` of `then.0` a moment later.
fn share_of(swap: u64, then: (u64, u64)) -> u64 {
    let (whole, part) = (u128::from(then.0), u128::from(then.1.min(then.0)));
    let share = (u128::from(swap) * part).checked_div(whole);
    share
        .and_then(|share| u64::try_from(share).ok())
        .unwrap_or(swap)
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
    let (readings, damage) = session::plane::replay(file)?;
    let filter = readings.session.as_ref();
    let options = analysis::Options {
        filter: filter
            .map(|session| session.filter.clone())
            .unwrap_or_default(),
        by: by.unwrap_or_default(),
        ..analysis::Options::default()
    };
    let (mut data, findings) = analysis::analyze(&readings, &options);
    data.view = View {
        processes: true,
        top: rows(top),
        threshold: 0.0,
        by: options.by.id(),
        sort: options.sort.id(),
        filtered: !options.filter.is_empty(),
    };
    let report = report(&readings, data, findings, damage);
    super::print(&report, context, exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_swap_of_the_sample() {
        assert_eq!(share_of(100, (50, 25)), 50);
        assert_eq!(share_of(100, (100, 100)), 100);
        assert_eq!(share_of(100, (0, 0)), 100);
        assert_eq!(share_of(u64::MAX, (4, 9)), u64::MAX);
    }
}
