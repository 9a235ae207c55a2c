//! `aiops health memory`: one score for the memory of the host, and what lowers it.

use std::path::Path;
use std::time::Duration;

use crate::analysis::health;
use crate::analysis::health::PsiFile;
use crate::cli;
use crate::cli::Context;
use crate::diag::Exit;
use crate::report::Accounting;
use crate::report::health::HealthView;
use crate::session::plane;
use crate::session::plane::Observe;

/// Name and version of the report.
const SCHEMA: &str = "aiops.health-memory/1";
/// What the score reads of the memory manager's inner state: that /proc/slabinfo is for root makes it no
/// less complete.
const SOURCES: [&str; 2] = ["/proc/zoneinfo", "/proc/buddyinfo"];

/// Options of `health memory`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops health memory --score
      0 to 100, the level, and the factors behind it
  aiops health memory --interval 5s --exit-code -o json
      for a monitoring script: 10 for the level poor, 20 for critical")]
pub struct Args {
    /// Only the score, its level and the factors, without processes and advice.
    #[arg(long)]
    score: bool,
    /// Between the two readings that rates are made from; the kernel counts pressure every 2s. 0 reads once and knows no rates.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = cli::duration)]
    interval: Duration,
    /// Rows of the text report, 0: all; JSON is whole.
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
///
/// # Errors
/// There is no /proc, with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let observe = Observe {
        command: "health memory".to_owned(),
        root: context.root.clone(),
        detail: true,
        interval: args.interval,
        duration: args.interval,
        ..Observe::default()
    };
    let readings = plane::readings(&observe)?;
    let psi = psi_file(&context.root);
    let (mut data, findings) = health::assess(&readings, psi);
    data.view = HealthView {
        brief: args.score,
        top: args.top,
    };
    let mut report = plane::report(SCHEMA, &readings, &SOURCES, data, findings, None);
    account(&mut report.accounting, &health::missing(&readings, psi));
    super::print(&report, context, args.exit_code)
}

/// The score of a recording.
///
/// # Errors
/// The file is no recording, or nothing in it can be read.
pub(super) fn replay(
    file: &Path,
    top: usize,
    exit_code: bool,
    context: &Context,
) -> anyhow::Result<Exit> {
    let (readings, damage) = plane::replay(file)?;
    let (mut data, findings) = health::assess(&readings, PsiFile::Unknown);
    data.view = HealthView { brief: false, top };
    let mut report = plane::report(SCHEMA, &readings, &SOURCES, data, findings, damage);
    let missing = health::missing(&readings, PsiFile::Unknown);
    account(&mut report.accounting, &missing);
    super::print(&report, context, exit_code)
}

/// Files that told nothing make the report incomplete.
fn account(accounting: &mut Accounting, missing: &[&str]) {
    accounting.complete &= missing.is_empty();
    let unread = &mut accounting.unread;
    unread.extend(missing.iter().map(|file| (*file).to_owned()));
    unread.sort();
    unread.dedup();
}

/// Whether the pressure file is there; older kernels show it with PSI off, and fail when it is read.
fn psi_file(root: &Path) -> PsiFile {
    match std::fs::read(root.join("proc/pressure/memory")) {
        Ok(_) => PsiFile::There,
        Err(error) => {
            let off = [rustix::io::Errno::OPNOTSUPP, rustix::io::Errno::NOENT];
            let off = off.map(|errno| Some(errno.raw_os_error()));
            if off.contains(&error.raw_os_error()) {
                PsiFile::Absent
            } else {
                PsiFile::There
            }
        }
    }
}
