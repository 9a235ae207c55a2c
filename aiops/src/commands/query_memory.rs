//! `aiops query memory`: what memory was like at any time that history remembers.

mod read;

use std::time::Duration;

use serde_json::Value;

use self::read::Query;
use self::read::RowsBox;
use super::frames;
use super::options::FilterArgs;
use crate::analysis::history;
use crate::analysis::history::Agg;
use crate::analysis::history::By;
use crate::analysis::history::Host;
use crate::analysis::history::Options;
use crate::analysis::history::SYSTEM_FIELDS;
use crate::analysis::history::stamp;
use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::model::Filter;
use crate::model::Range;
use crate::msg;
use crate::render;
use crate::render::Format;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::Severity;
use crate::report::query::Axis;
use crate::report::query::Incident;
use crate::report::query::QueryData;
use crate::session::store_error;
use crate::source;
use crate::store::Coverage;
use crate::store::Event;
use crate::time;

const SCHEMA: &str = "aiops.query-memory/1";
/// Steps of the host, where none are asked for.
const STEPS: i64 = 24;
/// The range, where no start is given.
const HOUR_MS: i64 = 3_600_000;
/// Rows of the text report.
const TOP: usize = 20;
/// Most steps of a series.
const MOST_STEPS: i64 = 100_000;
/// Points of all series together, unless --top asks for more: about 30 MB.
const POINTS: i64 = 250_000;

/// What frames answer is in the help of builds that have them.
#[cfg(feature = "frames")]
macro_rules! frames_example {
    () => {
        "
  aiops query memory --start -1h --group-by comm,user --compare 24h
      what is larger than in the same hour yesterday"
    };
}
#[cfg(not(feature = "frames"))]
macro_rules! frames_example {
    () => {
        ""
    };
}

/// Options of `query memory`.
#[derive(Debug, clap::Args)]
#[command(after_help = concat!("\
Times: 2024-01-01, '2024-01-01 10:00', 2024-01-01T10:00:00+08:00, today, yesterday, now, -2h, -7d.
A day as --end is meant whole; another end is not part of the range.

Examples:
  aiops query memory --start yesterday --end yesterday
      the largest processes of yesterday
  aiops query memory --start -7d --group-by container --agg growth
      which container grew most in a week
  aiops query memory --start -2h --system --incidents --step 5m
      the host every five minutes, and what happened
  aiops query memory --start 2024-01-01 --end 2024-01-31 --comm java -o csv
      a month of one program, for a spreadsheet", frames_example!()))]
pub struct Args {
    /// First moment [default: an hour before --end].
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    start: Option<String>,
    /// End [default: now].
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    end: Option<String>,
    /// Processes, or groups of them: what is shown unless another is asked for.
    #[arg(long)]
    processes: bool,
    /// The host by steps: memory, swap, pressure, CPU, disks, network.
    #[arg(long)]
    system: bool,
    /// Memory cgroups with their limits.
    #[arg(long)]
    cgroups: bool,
    /// OOM incidents and findings.
    #[arg(long)]
    incidents: bool,
    /// Put processes together: figures are then of the total of all members at each sample.
    #[cfg_attr(feature = "frames", doc = "")]
    #[cfg_attr(
        feature = "frames",
        doc = "Several keys make a group of each combination."
    )]
    #[arg(
        long,
        alias = "by",
        value_name = if cfg!(feature = "frames") { "KEY,KEY" } else { "KEY" },
        value_enum,
        value_delimiter = ',',
        default_value = "pid"
    )]
    group_by: Vec<ByArg>,
    /// Compare with the same range so long before: what grew by how much.
    #[arg(long, value_name = "TIME", value_parser = cli::duration, hide = cfg!(not(feature = "frames")))]
    compare: Option<Duration>,
    /// The figure to look at.
    #[arg(long, value_enum, default_value = "rss")]
    field: FieldArg,
    /// Which value of it matters: the default order, and that of steps.
    #[arg(long, value_enum, default_value = "max")]
    agg: AggArg,
    /// Order of rows [default: --agg].
    #[arg(long, value_name = "FIELD", value_enum)]
    sort: Option<AggArg>,
    /// Rows of the text, and rows with steps in all formats, 0 for all [default: 20, fewer where steps are many].
    /// Other formats hold all rows.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Values by steps of this length.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    step: Option<Duration>,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ByArg {
    /// Each process alone.
    #[value(alias = "process")]
    Pid,
    /// Name.
    Comm,
    /// Memory cgroup.
    Cgroup,
    /// Container.
    Container,
    /// User.
    User,
}

impl From<ByArg> for By {
    fn from(by: ByArg) -> Self {
        match by {
            ByArg::Pid => Self::Process,
            ByArg::Comm => Self::Comm,
            ByArg::Cgroup => Self::Cgroup,
            ByArg::Container => Self::Container,
            ByArg::User => Self::User,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FieldArg {
    /// Resident memory.
    Rss,
    /// Anonymous memory.
    Anon,
    /// File memory.
    File,
    /// Shared memory.
    Shmem,
    /// Swapped out.
    Swap,
    /// Proportional share.
    Pss,
    /// Memory of its own.
    Uss,
    /// Address space.
    Vms,
    /// Page tables.
    Pgtables,
    /// Huge pages of the pool.
    Hugetlb,
    /// Threads.
    Threads,
}

impl FieldArg {
    /// Its name in the store.
    fn field(self) -> &'static str {
        match self {
            Self::Rss => "rss_kb",
            Self::Anon => "anon_kb",
            Self::File => "file_kb",
            Self::Shmem => "shmem_kb",
            Self::Swap => "swap_kb",
            Self::Pss => "pss_kb",
            Self::Uss => "uss_kb",
            Self::Vms => "vm_size_kb",
            Self::Pgtables => "pgtables_kb",
            Self::Hugetlb => "hugetlb_kb",
            Self::Threads => "threads",
        }
    }

    fn unit(self) -> &'static str {
        if self == Self::Threads { "" } else { "_kb" }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum AggArg {
    /// The most.
    Max,
    /// The average.
    Avg,
    /// 95 % of samples have no more.
    P95,
    /// The last.
    Last,
    /// From the first to the last.
    Growth,
    /// The least.
    Min,
    /// The first.
    First,
    /// Samples.
    Samples,
    /// Name.
    Name,
    /// Process id.
    Pid,
}

impl From<AggArg> for Agg {
    fn from(agg: AggArg) -> Self {
        match agg {
            AggArg::Max => Self::Max,
            AggArg::Avg => Self::Avg,
            AggArg::P95 => Self::P95,
            AggArg::Last => Self::Last,
            AggArg::Growth => Self::Growth,
            AggArg::Min => Self::Min,
            AggArg::First => Self::First,
            AggArg::Samples => Self::Samples,
            AggArg::Name => Self::Name,
            AggArg::Pid => Self::Pid,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// The store is not there or cannot be read.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let range = match range(args, time::now_ns()) {
        Ok(range) => range,
        Err(text) => return Ok(super::usage(&text)),
    };
    let others = args.system || args.cgroups || args.incidents;
    let processes = args.processes || !others;
    if context.format == Format::Csv
        && [processes, args.system, args.cgroups, args.incidents]
            .iter()
            .filter(|asked| **asked)
            .count()
            > 1
    {
        let text =
            "csv holds one table: ask for one of --processes, --system, --cgroups, --incidents";
        return Ok(super::usage(text));
    }
    let step_ms = match args.step.map(|step| i64::try_from(step.as_millis())) {
        None => None,
        Some(Ok(step)) if step > 0 && (range.end_ms - range.start_ms) / step <= MOST_STEPS => {
            Some(step)
        }
        Some(_) => {
            return Ok(super::usage(
                "--step must be more than 0, and the range have no more than 100,000 of them",
            ));
        }
    };
    if args.group_by.len() > 1 || args.compare.is_some() {
        return by_frames(args, range, step_ms, context);
    }
    if let Some(text) = unfiltered(args, processes) {
        return Ok(super::usage(&text));
    }
    let text = context.format == Format::Text;
    let sort: Agg = args.sort.unwrap_or(args.agg).into();
    let options = Options {
        range,
        by: args.group_by.first().copied().unwrap_or(ByArg::Pid).into(),
        filter: args.filter.filter(),
        agg: args.agg.into(),
        sort,
        step_ms,
        trend: text,
    };
    let steps = step_ms.map_or(1, |step| (range.end_ms - range.start_ms - 1) / step + 1);
    let fit = usize::try_from(POINTS / steps.max(1)).unwrap_or(TOP);
    let top = match args.top {
        // The text says how many there are, and not what they are.
        None if text => TOP,
        None => TOP.min(fit).max(1),
        Some(0) => usize::MAX,
        Some(top) => top,
    };
    let store = super::store_at(context);
    let query = Query {
        store: &store,
        options: &options,
        field: args.field,
        top,
    };
    let mut data = QueryData {
        field: args.field.field().to_owned(),
        group_by: options.by.id(),
        agg: options.agg.id(),
        sort: sort.id(),
        step_s: step_ms.map(|step| step as f64 / 1000.0),
        series_rows: step_ms
            .map(|_| top as u64)
            .filter(|_| processes || args.cgroups),
        processes,
        axis: Axis {
            start_ms: range.start_ms as f64,
            end_ms: range.end_ms as f64,
            steps: step_ms.map_or(STEPS, |_| steps).try_into().unwrap_or(1),
        },
        top: if top == usize::MAX { 0 } else { top },
        ..QueryData::default()
    };
    let meta = store.meta().map_err(store_error)?;
    let mut coverage = None;
    let mut rows: RowsBox = Box::new(std::iter::empty());
    if processes {
        let (all, total, found) = query.rows().map_err(store_error)?;
        data.rows_total = total;
        if text {
            data.rows = all.take(top).collect();
        } else {
            rows = all;
        }
        coverage = Some(found);
    }
    if args.system {
        let length = range.end_ms - range.start_ms;
        let mut host = Host::new(range.start_ms, step_ms.unwrap_or(length / STEPS));
        let ask = query.ask(&SYSTEM_FIELDS, &options.filter.pids);
        let found = store
            .system(&ask, &mut |ts, values| host.take(ts, values))
            .map_err(store_error)?;
        data.system = Some(host.steps());
        coverage = Some(found);
    }
    if args.cgroups {
        let (list, found) = query.cgroups().map_err(store_error)?;
        data.cgroups = Some(list);
        coverage = Some(found);
    }
    if args.incidents {
        let (events, found) = store.events(range).map_err(store_error)?;
        data.incidents = Some(incidents(events, &options.filter));
        coverage = Some(found);
    }
    let coverage = coverage.unwrap_or_default();
    if meta.is_none() && coverage.known.is_none() {
        let error = anyhow::anyhow!("{}: no history there", context.store.display());
        let remedy =
            "`aiops monitor memory` writes it; --store DIR or AIOPS_STORE name another one";
        return Err(diag::hint(error, remedy));
    }
    data.range = history::covered(range, &coverage.times, coverage.known);
    let findings = findings(&data, &coverage);
    let report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: stamp(time::now_ns() / 1_000_000),
        host: host_info(context, meta.as_ref().map(|meta| meta.hostname.as_str())),
        accounting: accounting(&data, &coverage),
        data,
        findings,
    };
    if text {
        return super::print(&report, context, false);
    }
    let ending = super::ending(&report, context, false);
    super::stream(|out| {
        render::history(report, &mut rows, context.format, context.style.lang, out)
    })?;
    Ok(ending)
}

/// What is asked for that the filters do not know.
fn unfiltered(args: &Args, processes: bool) -> Option<String> {
    let filter = &args.filter;
    let given = [
        ("--pid", !filter.pid.is_empty()),
        ("--cgroup", !filter.cgroup.is_empty()),
        ("--comm", !filter.comm.is_empty()),
        ("--container", !filter.container.is_empty()),
        ("--user", !filter.user.is_empty()),
    ];
    for (what, asked, known) in [
        ("--system", args.system && !processes, &[][..]),
        ("--cgroups", args.cgroups, &["--cgroup"]),
        ("--incidents", args.incidents, &["--pid", "--cgroup"]),
    ] {
        let odd = |(name, is): &&(&str, bool)| *is && !known.contains(name);
        if let Some((name, _)) = given.iter().find(odd).filter(|_| asked) {
            return Some(format!(
                "{name} is about processes: {what} cannot be filtered by it; ask for them apart"
            ));
        }
    }
    None
}

/// Several keys, or two ranges: frames answer.
fn by_frames(
    args: &Args,
    range: Range,
    step_ms: Option<i64>,
    context: &Context,
) -> anyhow::Result<Exit> {
    if args.system || args.cgroups || args.incidents {
        let text = "several keys and --compare are about processes alone: leave out --system, --cgroups, --incidents";
        return Ok(super::usage(text));
    }
    let sort = match args.sort.unwrap_or(args.agg) {
        AggArg::Max => frames::Sort::Max,
        AggArg::Avg => frames::Sort::Avg,
        AggArg::P95 => frames::Sort::P95,
        AggArg::Last => frames::Sort::Last,
        AggArg::Growth => frames::Sort::Growth,
        AggArg::Min | AggArg::First | AggArg::Samples | AggArg::Name | AggArg::Pid => {
            let text = "several keys and --compare are sorted by max, avg, p95, last or growth";
            return Ok(super::usage(text));
        }
    };
    let mut by: Vec<frames::By> = Vec::new();
    for key in &args.group_by {
        let key = match key {
            ByArg::Pid => frames::By::Pid,
            ByArg::Comm => frames::By::Comm,
            ByArg::Cgroup => frames::By::Cgroup,
            ByArg::Container => frames::By::Container,
            ByArg::User => frames::By::User,
        };
        if !by.contains(&key) {
            by.push(key);
        }
    }
    let filter = args.filter.filter();
    let question = frames::Question {
        range,
        keep: &|who| filter.is_empty() || filter.wants_owner(who),
        by: &by,
        field: args.field.field(),
        sort,
        step_ms,
        compare_ms: args
            .compare
            .map(|ago| i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        top: args.top.unwrap_or(TOP),
    };
    frames::run(&super::store_at(context), &question, context)
}

/// The range that is asked for.
fn range(args: &Args, now_ns: i64) -> Result<Range, String> {
    let end = args.end.as_deref().unwrap_or("now");
    let ms = |text: &str, name: &str, end: bool| {
        let ns = time::moment(text, now_ns, end).map_err(|why| format!("{name}: {why}"))?;
        Ok::<i64, String>(ns.div_euclid(1_000_000))
    };
    let end_ms = ms(end, "--end", true)?;
    let range = Range {
        start_ms: match &args.start {
            Some(start) => ms(start, "--start", false)?,
            None => end_ms.saturating_sub(HOUR_MS),
        },
        end_ms,
    };
    if range.start_ms >= range.end_ms {
        return Err(format!(
            "--start {} ({}) is not before --end {end} ({})\nhint: swap them; without --end the range goes on until now",
            args.start.as_deref().unwrap_or_default(),
            stamp(range.start_ms),
            stamp(range.end_ms)
        ));
    }
    Ok(range)
}

/// OOM incidents and findings among what happened.
fn incidents(events: Vec<Event>, filter: &Filter) -> Vec<Incident<Value>> {
    let wanted = |event: &Event| {
        let below = |path: &String| {
            let cgroup = event.cgroup.as_deref().unwrap_or_default();
            let rest = cgroup.strip_prefix(path.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        matches!(event.kind.as_str(), "oom" | "finding")
            && (filter.pids.is_empty() || event.pid.is_some_and(|pid| filter.pids.contains(&pid)))
            && (filter.cgroups.is_empty() || filter.cgroups.iter().any(below))
    };
    let events = events.into_iter().filter(wanted);
    let incident = |event: Event| Incident {
        time: stamp(event.ts_ms),
        kind: event.kind,
        id: event.id,
        severity: event.severity,
        title: event.title,
        pid: event.pid,
        cgroup: event.cgroup,
        body: serde_json::from_str(&event.body).unwrap_or(Value::String(event.body)),
    };
    events.map(incident).collect()
}

/// The host whose store it is: of another one, its name is all that is known.
pub(super) fn host_info(context: &Context, owner: Option<&str>) -> HostInfo {
    let here = HostInfo::from(&source::host::read(&context.root));
    match owner {
        Some(name) if name != here.hostname => HostInfo {
            hostname: name.to_owned(),
            ..HostInfo::default()
        },
        _ => here,
    }
}

fn accounting(data: &QueryData<Value>, coverage: &Coverage) -> Accounting {
    let mut accounting = Accounting {
        complete: coverage.damages.is_empty(),
        ..Accounting::default()
    };
    accounting.seen.insert("ticks".to_owned(), data.range.ticks);
    let lost = [
        (
            "ticks",
            coverage
                .damages
                .iter()
                .map(|one| one.lost_ticks)
                .sum::<u64>(),
        ),
        (
            "events",
            coverage.damages.iter().map(|one| one.lost_events).sum(),
        ),
        (
            "bytes",
            coverage.damages.iter().map(|one| one.lost_bytes).sum(),
        ),
    ];
    for (name, count) in lost {
        if count > 0 {
            accounting.lost.insert(name.to_owned(), count);
        }
    }
    for damage in &coverage.damages {
        let why = damage.error.as_deref().unwrap_or("damaged");
        let text = format!("{} ({why})", damage.path.display());
        accounting.unread.push(text);
    }
    accounting
}

/// What is said of a range without samples; `known`: first and last time that the store holds.
pub(super) fn empty_range(known: Option<(i64, i64)>) -> Finding {
    let whole = match known.map(|(first, last)| (stamp(first), stamp(last))) {
        Some((first, last)) => msg!(
            "the store holds {first} to {last}",
            "该存储的数据范围是 {first} 至 {last}"
        ),
        None => msg!("the store holds nothing yet", "该存储中还没有数据"),
    };
    Finding {
        id: "history-empty-range",
        severity: Severity::Info,
        title: msg!("No sample was taken in this range", "该时段内没有采样"),
        evidence: vec![whole],
        advice: vec![msg!(
            "ask for a range inside of it; `aiops monitor memory` writes new samples",
            "请查询其中的时段；`aiops monitor memory` 写入新的采样"
        )],
    }
}

fn findings(data: &QueryData<Value>, coverage: &Coverage) -> Vec<Finding> {
    let mut findings = Vec::new();
    if data.range.ticks == 0 {
        findings.push(empty_range(coverage.known));
    } else if data.processes && data.rows_total == 0 {
        findings.push(Finding {
            id: "history-nobody",
            severity: Severity::Info,
            title: msg!("No process matches", "没有匹配的进程"),
            evidence: Vec::new(),
            advice: vec![msg!(
                "widen the filters or the range",
                "请放宽过滤条件或时间范围"
            )],
        });
    }
    if !coverage.damages.is_empty() {
        let n = coverage.damages.len();
        let evidence = coverage.damages.iter().map(|damage| {
            let path = damage.path.display();
            let why = damage.error.as_deref().unwrap_or("lost frames");
            msg!("{path}: {why}", "{path}：{why}")
        });
        findings.push(Finding {
            id: "history-damaged",
            severity: Severity::Warning,
            title: msg!(
                "{n} files of the store are damaged: figures miss what they held",
                "存储中有 {n} 个文件损坏：数值缺少其中的内容"
            ),
            evidence: evidence.collect(),
            advice: vec![msg!(
                "`aiops store repair` puts them aside",
                "`aiops store repair` 可将其隔离"
            )],
        });
    }
    findings
}
