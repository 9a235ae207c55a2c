//! One file per command: its options and its `run`. This file is only the list.

mod analyze_cache;
mod analyze_swap;
mod anomaly_sources;
mod collect_memory;
mod completions;
mod detect_anomaly;
mod detect_memory_leak;
mod detect_oom_risk;
mod diff_memory;
mod doctor;
mod export;
mod export_text;
mod frames;
mod health_memory;
mod inspect_cache;
mod inspect_memory;
mod inspect_processes;
mod leak_input;
mod leak_judge;
mod leak_past;
mod leak_plot;
#[cfg(test)]
mod leak_shown_tests;
mod leak_sources;
mod man;
mod monitor_memory;
mod monitor_status;
mod options;
mod query_memory;
mod replay;
mod store;
pub mod symbolize;
mod trace_alloc;
mod trace_leak;
mod trace_oom;
mod trace_reclaim;
mod trace_swap;

use std::io::Write as _;

use serde::Serialize;

use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::render;
use crate::render::Format;
use crate::report::Finding;
use crate::report::Report;
use crate::report::Severity;
use crate::report::oom::Incident;
use crate::store::Store;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Watch live what the kernel does with memory.
    #[command(subcommand)]
    Trace(Trace),
    /// Sample the system and its processes.
    #[command(subcommand)]
    Collect(Collect),
    /// Look into one process, the processes, or the caches.
    #[command(subcommand)]
    Inspect(Inspect),
    /// Say what swap or the caches do, and what to do about it.
    #[command(subcommand)]
    Analyze(Analyze),
    /// Score the host.
    #[command(subcommand)]
    Health(Health),
    /// Find leaks, and who will be out of memory when.
    #[command(subcommand)]
    Detect(Detect),
    /// Compare two moments.
    #[command(subcommand)]
    Diff(Diff),
    /// Ask what history remembers.
    #[command(subcommand)]
    Query(Query),
    /// Keep history: a daemon that samples, and how it is doing.
    #[command(subcommand)]
    Monitor(Monitor),
    /// Look after the history: what it holds, whether it is whole, its upkeep.
    #[command(subcommand)]
    Store(store::Store),
    /// Make the same reports from a recording: no root, any host.
    Replay(replay::Args),
    /// Write a range of the history in another format: Parquet for engines, CSV, JSON lines.
    Export(export::Args),
    /// Say what works on this host, with which privilege, and why not.
    Doctor(doctor::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
    /// Print or install manual pages.
    Man(man::Args),
}

/// What to sample.
#[derive(Debug, clap::Subcommand)]
pub enum Collect {
    /// The memory of the system and of its processes.
    Memory(collect_memory::Args),
}

/// What to look into.
#[derive(Debug, clap::Subcommand)]
pub enum Inspect {
    /// One process by region kind and mapping.
    Memory(inspect_memory::Args),
    /// Page cache and slab, and which files they hold.
    Cache(inspect_cache::Args),
    /// The largest processes and what their memory is made of.
    Processes(inspect_processes::Args),
}

/// What to analyse.
#[derive(Debug, clap::Subcommand)]
pub enum Analyze {
    /// Who is in swap, how fast pages go in and out.
    Swap(analyze_swap::Args),
    /// How well page cache and slab caches serve.
    Cache(analyze_cache::Args),
}

/// What to score.
#[derive(Debug, clap::Subcommand)]
pub enum Health {
    /// Memory: usage, pressure, swap, fragmentation, cache.
    Memory(health_memory::Args),
}

/// What to find.
#[derive(Debug, clap::Subcommand)]
pub enum Detect {
    /// Tell a leak from growth that ends: verdict, rate, when the limit is met.
    MemoryLeak(detect_memory_leak::Args),
    /// Rank processes and cgroups by the time until a limit is met.
    OomRisk(detect_oom_risk::Args),
    /// Find what was out of the ordinary: growth points, swap, processes unlike the others.
    Anomaly(detect_anomaly::Args),
}

/// What to compare.
#[derive(Debug, clap::Subcommand)]
pub enum Diff {
    /// Two snapshots or recordings.
    Memory(diff_memory::Args),
}

/// What to ask.
#[derive(Debug, clap::Subcommand)]
pub enum Query {
    /// Memory: processes, groups, cgroups, the host, incidents.
    Memory(query_memory::Args),
}

/// What history is kept of.
#[derive(Debug, clap::Subcommand)]
pub enum Monitor {
    /// Sample the memory of the host and its processes, and catch OOM kills, all the time.
    Memory(monitor_memory::Args),
    /// Say whether the daemon runs, what it costs and what its store holds.
    Status(monitor_status::Args),
}

/// What to watch.
#[derive(Debug, clap::Subcommand)]
pub enum Trace {
    /// Catch every OOM kill: who was killed, why, at whose request.
    Oom(trace_oom::Args),
    /// Tell who allocates memory: by process and by the code that asks for it.
    Alloc(trace_alloc::Args),
    /// Tell which code takes memory and does not give it back.
    Leak(trace_leak::Args),
    /// Measure who waits while the kernel looks for memory, how long, and for whose limit.
    Reclaim(trace_reclaim::Args),
    /// Count whose pages go to swap and come back.
    Swap(trace_swap::Args),
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    /// What could not be done, with its remedy.
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        if context.format == Format::Csv && !matches!(self, Self::Query(_)) {
            return Ok(usage(
                "-o csv is for queries of history: `aiops query memory`; here: text, json, jsonl",
            ));
        }
        match self {
            Self::Query(Query::Memory(args)) => query_memory::run(args, context),
            Self::Trace(Trace::Oom(args)) => trace_oom::run(args, context),
            Self::Trace(Trace::Alloc(args)) => trace_alloc::run(args, context),
            Self::Trace(Trace::Leak(args)) => trace_leak::run(args, context),
            Self::Trace(Trace::Reclaim(args)) => trace_reclaim::run(args, context),
            Self::Trace(Trace::Swap(args)) => trace_swap::run(args, context),
            Self::Collect(Collect::Memory(args)) => collect_memory::run(args, context),
            Self::Inspect(Inspect::Memory(args)) => inspect_memory::run(args, context),
            Self::Inspect(Inspect::Cache(args)) => inspect_cache::run(args, context),
            Self::Inspect(Inspect::Processes(args)) => inspect_processes::run(args, context),
            Self::Analyze(Analyze::Swap(args)) => analyze_swap::run(args, context),
            Self::Analyze(Analyze::Cache(args)) => analyze_cache::run(args, context),
            Self::Health(Health::Memory(args)) => health_memory::run(args, context),
            Self::Detect(Detect::MemoryLeak(args)) => detect_memory_leak::run(args, context),
            Self::Detect(Detect::OomRisk(args)) => detect_oom_risk::run(args, context),
            Self::Detect(Detect::Anomaly(args)) => detect_anomaly::run(args, context),
            Self::Diff(Diff::Memory(args)) => diff_memory::run(args, context),
            Self::Monitor(Monitor::Memory(args)) => monitor_memory::run(args, context),
            Self::Monitor(Monitor::Status(args)) => monitor_status::run(args, context),
            Self::Store(store) => store::run(store, context),
            Self::Replay(args) => replay::run(args, context),
            Self::Export(args) => export::run(args, context),
            Self::Doctor(args) => doctor::run(args, context),
            Self::Completions(args) => completions::run(args),
            Self::Man(args) => man::run(args),
        }
    }
}

/// Says what is wrong with the options.
fn usage(text: &str) -> Exit {
    // Nobody can be told when the output is gone.
    let _ = clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{text}\n")).print();
    Exit::Usage
}

/// Prints a report and says how the program ends.
fn print<D: Serialize + render::TextReport>(
    report: &Report<D>,
    context: &Context,
    exit_code: bool,
) -> anyhow::Result<Exit> {
    let text = render::report(report, context.format, &context.style)?;
    if context.format == Format::Csv {
        tell(&report.findings);
    }
    out(&text)?;
    Ok(ending(report, context, exit_code))
}

/// Says findings on stderr: a table has no place for them.
fn tell(findings: &[Finding]) {
    for finding in findings {
        let texts = std::iter::once(&finding.title).chain(&finding.evidence);
        let texts: Vec<&str> = texts
            .chain(&finding.advice)
            .map(|text| text.en.as_str())
            .collect();
        match finding.severity {
            Severity::Info => diag::note(&texts.join("; ")),
            Severity::Warning | Severity::Critical => diag::warn(&texts.join("; ")),
        }
    }
}

/// How the program ends after this report.
fn ending<D>(report: &Report<D>, context: &Context, exit_code: bool) -> Exit {
    let worst = report.findings.iter().map(|finding| finding.severity).max();
    match worst {
        _ if context.strict && !report.accounting.complete => Exit::Incomplete,
        Some(Severity::Critical) if exit_code => Exit::Critical,
        Some(Severity::Warning) if exit_code => Exit::Warning,
        _ => Exit::Done,
    }
}

/// The store that is named; says so where others can read it.
fn store_at(context: &Context) -> Store {
    let store = Store::at(&context.store);
    if let Some(exposed) = store.exposed() {
        diag::warn(&exposed);
    }
    store
}

/// Writes an incident to stdout as one line of JSON.
fn out_incident(incident: &Incident, context: &Context) -> std::io::Result<()> {
    let line = render::incident_line(incident, context.style.lang);
    out(&line.map_err(std::io::Error::other)?)
}

/// Writes data to stdout, whole.
fn out(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(diag::stdout_error)
}

/// Writes data to stdout as it is made.
fn stream(
    write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut stdout = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let written = write(&mut stdout).and_then(|()| stdout.flush());
    written.map_err(diag::stdout_error)
}
