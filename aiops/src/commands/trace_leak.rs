//! `aiops trace leak`: what is taken and not given back, and which code takes it.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::session::Record;
use crate::session::alloc;
use crate::source::bpf::alloc::Mode;

use super::options::FilterArgs;
use super::trace_alloc;

/// Options of `trace leak`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops trace leak --pid 4711 --duration 5m
      which code of this process takes memory and does not give it back, how fast
  aiops trace leak --cgroup /kubepods.slice --min-age 2m --duration 30m --record leak.aiops
      everything in a cgroup; `aiops replay leak.aiops` explains it anywhere")]
pub struct Args {
    /// Stop after this time: 90s, 5m, 24h. Without it, until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    duration: Option<Duration>,
    /// Leave out what was taken later than this before the end: it may still be given back.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = cli::duration)]
    min_age: Duration,
    /// Mean distance of samples in bytes allocated.
    #[arg(long, value_name = "SIZE", default_value = "512KiB", value_parser = trace_alloc::distance)]
    sample: u64,
    #[command(flatten)]
    filter: FilterArgs,
    /// Write what is seen to a recording.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Replace an existing recording.
    #[arg(long, requires = "record")]
    force: bool,
    /// Rows of the text report, 0: all; JSON is whole.
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
///
/// # Errors
/// The tracer cannot run here, or the recording cannot be written.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if context.root != std::path::Path::new("/") {
        let error = anyhow::anyhow!(
            "trace leak: --root {} is no running kernel",
            context.root.display()
        );
        return Err(diag::hint(
            error,
            "trace on the host itself, and use `aiops replay` for recordings",
        ));
    }
    let options = alloc::Options {
        mode: Mode::Sample {
            mean_bytes: args.sample,
        },
        kernel: false,
        filter: args.filter.filter(),
        duration: args.duration,
        record: args.record.clone().map(|path| Record {
            path,
            force: args.force,
        }),
        full: false,
        min_age: Some(args.min_age),
        top: args.top,
    };
    let report = alloc::trace_leak(&options)?;
    super::print(&report, context, args.exit_code)
}
