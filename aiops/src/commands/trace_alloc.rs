//! `aiops trace alloc`: who allocates memory, and which code.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::session::Record;
use crate::session::alloc;
use crate::source::bpf::alloc::Mode;

use super::options;
use super::options::FilterArgs;

/// Options of `trace alloc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops trace alloc --duration 30s
      who takes pages from the kernel, and which code asks for them
  aiops trace alloc --pid 4711 --sample 64KiB --record alloc.aiops
      one process, looked at closer; `aiops replay alloc.aiops` explains it anywhere
  aiops trace alloc --cgroup /kubepods.slice --kernel
      with kmalloc and slab caches
  aiops trace alloc --exact --duration 10s -o json | jq '.data.processes[0]'
      counted one by one, without stacks")]
pub struct Args {
    /// Stop after this time: 90s, 5m, 24h; 0 looks once. Without it, until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    duration: Option<Duration>,
    /// Mean distance of samples in bytes allocated; off: every page, with stacks by frame pointers, which
    /// makes allocating about twice as slow.
    #[arg(long, value_name = "SIZE", default_value = "512KiB", value_parser = sample, conflicts_with = "exact")]
    sample: Mode,
    /// Count every page by process, without stacks.
    #[arg(long)]
    exact: bool,
    /// Also what the kernel's own allocators hand out: kmalloc and slab caches.
    #[arg(long)]
    kernel: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Write what is seen to a recording.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Record every sample with its time, not sums.
    #[arg(long, requires = "record")]
    full: bool,
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

/// `512KiB` or `off`.
fn sample(text: &str) -> Result<Mode, String> {
    if text == "off" {
        return Ok(Mode::Whole);
    }
    distance(text).map(|mean_bytes| Mode::Sample { mean_bytes })
}

/// A size that samples may lie apart.
pub(super) fn distance(text: &str) -> Result<u64, String> {
    match options::bytes(text)? {
        bytes @ 4096..=0x1_0000_0000 => Ok(bytes),
        _ => Err(format!("'{text}' is not between 4KiB and 4GiB")),
    }
}

/// Runs the command.
///
/// # Errors
/// The tracer cannot run here, or the recording cannot be written.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    if context.root != std::path::Path::new("/") {
        let error = anyhow::anyhow!(
            "trace alloc: --root {} is no running kernel",
            context.root.display()
        );
        return Err(diag::hint(
            error,
            "trace on the host itself, and use `aiops replay` for recordings",
        ));
    }
    if args.kernel && (args.exact || args.sample == Mode::Whole) {
        return Ok(super::usage(
            "--kernel samples: leave --exact and --sample off out",
        ));
    }
    let options = alloc::Options {
        mode: if args.exact { Mode::Exact } else { args.sample },
        kernel: args.kernel,
        filter: args.filter.filter(),
        duration: args.duration,
        record: args.record.clone().map(|path| Record {
            path,
            force: args.force,
        }),
        full: args.full,
        min_age: None,
        top: args.top,
    };
    let report = alloc::trace(&options)?;
    super::print(&report, context, args.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_sizes_or_off() {
        assert_eq!(
            sample("512KiB"),
            Ok(Mode::Sample {
                mean_bytes: 524_288
            })
        );
        assert_eq!(sample("off"), Ok(Mode::Whole));
        for bad in ["0", "1KiB", "8GiB", "x", ""] {
            assert!(sample(bad).is_err(), "{bad}");
        }
    }
}
