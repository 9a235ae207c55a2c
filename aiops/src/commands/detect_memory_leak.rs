//! `aiops detect memory-leak`: is it a leak, how fast, until when.

use std::path::Path;
use std::path::PathBuf;

use super::leak_input;
use super::options;
use crate::analysis::leak;
use crate::analysis::leak_report;
use crate::cli::Context;
use crate::diag::Exit;
use crate::report::Accounting;
use crate::report::HostInfo;
use crate::report::Report;
use crate::source::host;
use crate::time;

/// Name and version of the report.
const SCHEMA: &str = "aiops.detect-memory-leak/1";

/// Options of `detect memory-leak`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file: a header and a row for each sample, in the order in which they were taken.
  ts               seconds (or milliseconds) since 1970, or RFC 3339
  bytes | kb | mb  size of the memory; kb and mb are 2^10 and 2^20 bytes
  load             requests/s or any other load, if it is known
  start            start of the process, as ts: it changes at a restart

Examples:
  aiops detect memory-leak --input rss.csv --memory-limit 2GiB
      a verdict, the rate, and when 2 GiB are met
  aiops detect memory-leak --input rss.csv --exit-code -o json
      for scripts: 10 for a leak, 20 when its limit is less than a day away")]
pub struct Args {
    /// Samples of one process.
    #[arg(long, value_name = "FILE.csv")]
    input: PathBuf,
    /// What the process dies at: 2GiB, or bytes.
    #[arg(long, value_name = "SIZE", value_parser = options::bytes)]
    memory_limit: Option<u64>,
    /// Exit with 10 for a leak, with 20 when its limit is less than a day away.
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
///
/// # Errors
/// The file cannot be read or is no series, with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let input = leak_input::read(&args.input)?;
    let limit = args.memory_limit;
    let found = leak::assess(&input.series, limit.map(|bytes| bytes as f64));
    let mut data = leak_report::data(&input.series, &found, limit.map(|bytes| (bytes, "option")));
    data.process.input = Some(args.input.display().to_string());
    data.window.missing = input.missing;
    data.notes.extend(input.notes);
    let seen = u64::try_from(data.window.samples).unwrap_or(u64::MAX);
    let now = time::now_ns();
    let report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: HostInfo::from(&host::read(Path::new("/"))),
        findings: leak_report::findings(&data),
        data,
        accounting: Accounting {
            seen: [("samples".to_owned(), seen)].into(),
            decode_errors: input.not_understood,
            complete: input.not_understood == 0,
            ..Accounting::default()
        },
    };
    super::print(&report, context, args.exit_code)
}
