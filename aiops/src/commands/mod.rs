//! One file per command: its options and its `run`. This file is only the list.

mod doctor;
mod replay;
pub mod symbolize;
mod trace_oom;

use std::io::Write as _;

use serde::Serialize;

use crate::cli::Context;
use crate::diag::Exit;
use crate::render;
use crate::report::Report;
use crate::report::Severity;
use crate::report::oom::Incident;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Watch live what the kernel does with memory.
    #[command(subcommand)]
    Trace(Trace),
    /// Make the same reports from a recording: no root, any host.
    Replay(replay::Args),
    /// Say what works on this host, with which privilege, and why not.
    Doctor(doctor::Args),
}

/// What to watch.
#[derive(Debug, clap::Subcommand)]
pub enum Trace {
    /// Catch every OOM kill: who was killed, why, at whose request.
    Oom(trace_oom::Args),
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    /// What could not be done, with its remedy.
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Trace(Trace::Oom(args)) => trace_oom::run(args, context),
            Self::Replay(args) => replay::run(args, context),
            Self::Doctor(args) => doctor::run(args, context),
        }
    }
}

/// Prints a report and says how the program ends.
fn print<D: Serialize + render::TextReport>(
    report: &Report<D>,
    context: &Context,
    exit_code: bool,
) -> anyhow::Result<Exit> {
    let text = render::report(report, context.format, &context.style)?;
    out(&text)?;
    let worst = report.findings.iter().map(|finding| finding.severity).max();
    Ok(match worst {
        _ if context.strict && !report.accounting.complete => Exit::Incomplete,
        Some(Severity::Critical) if exit_code => Exit::Critical,
        Some(Severity::Warning) if exit_code => Exit::Warning,
        _ => Exit::Done,
    })
}

/// Writes an incident to stdout as one line of JSON.
fn out_incident(incident: &Incident, context: &Context) -> std::io::Result<()> {
    let line = render::incident_line(incident, context.style.lang);
    out(&line.map_err(std::io::Error::other)?)
}

/// Writes data to stdout, whole.
fn out(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
