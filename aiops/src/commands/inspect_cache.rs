//! `aiops inspect cache`: what the page cache and the slab hold, and which files.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::analysis::cache;
use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::msg;
use crate::render::units;
use crate::report::Msg;
use crate::report::cache::FileHolder;
use crate::report::cache::FileRow;
use crate::report::cache::FilesAccounting;
use crate::report::cache::View;
use crate::session;
use crate::session::plane;
use crate::source;
use crate::source::residency;
use crate::source::residency::Counts;
use crate::source::residency::FileResidency;
use crate::source::residency::Request;

/// Options of `inspect cache`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops inspect cache
      page cache, slab caches, fragmentation
  aiops inspect cache --detail --path /var/lib/mysql
      how much of each file there is in memory")]
pub struct Args {
    /// Residency of files: those that processes hold open or mapped, or those below --path.
    #[arg(long)]
    detail: bool,
    /// Files below this directory, or this file.
    #[arg(long, value_name = "DIR")]
    path: Vec<PathBuf>,
    /// Most time that looking at files may take.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = cli::duration)]
    limit: Duration,
    /// Between the two readings that rates are made from; 0 reads once and knows no rates.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = cli::duration)]
    interval: Duration,
    /// Rows of the text report, 0 for all; JSON is whole.
    #[arg(long, value_name = "N", default_value_t = 15)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let wanted = args.detail || !args.path.is_empty();
    // A captured tree has no page cache of its own: residency would be this host's.
    let here = context.root == Path::new("/") && source::live(&context.root);
    // Before the readings, so that the rates are not of this work.
    let stop = if wanted && here {
        session::stop_flag()?
    } else {
        Arc::default()
    };
    let looked = if wanted && here {
        Some(look(args, &stop)?)
    } else {
        None
    };
    // Whoever ended the search waits for no rates.
    let interval = if stop.load(Ordering::Relaxed) {
        Duration::ZERO
    } else {
        args.interval
    };
    let readings = super::analyze_cache::observe("inspect cache", interval, args.detail, context)?;
    let (mut data, findings) = cache::analyze(&readings);
    data.view = View {
        contents: true,
        efficiency: false,
        top: super::analyze_cache::rows(args.top),
    };
    let mut whole = true;
    if let Some((files, counts)) = looked {
        let account = account(&counts, &files, args);
        whole = account.complete;
        data.files = Some(files.iter().map(row).collect());
        data.files_accounting = Some(account);
    } else if wanted {
        whole = false;
        data.notes.push(no_residency(&context.root));
    }
    let mut report = plane::report(
        "aiops.inspect-cache/1",
        &readings,
        &super::analyze_cache::NEEDS,
        data,
        findings,
        None,
    );
    report.accounting.complete &= whole;
    super::print(&report, context, args.exit_code)
}

/// Why there is no residency below a root.
fn no_residency(root: &Path) -> Msg {
    let boot = |root: &Path| std::fs::read(root.join("proc/sys/kernel/random/boot_id")).ok();
    let same = boot(root).is_some_and(|id| boot(Path::new("/")) == Some(id));
    let root_text = root.display();
    if source::live(root) && same {
        msg!(
            "residency of files is not looked at below --root: {root_text}/proc is this kernel's, but its paths belong to other mounts than this program sees; run without --root in the host's namespaces (nsenter --target 1 --mount --pid)",
            "--root 下不查看文件驻留：{root_text}/proc 属于本内核，但其路径属于本程序看不到的挂载；请不带 --root 在主机命名空间中运行（nsenter --target 1 --mount --pid）"
        )
    } else {
        msg!(
            "residency of files is not available below --root: only the running kernel knows it",
            "--root 下无法得知文件驻留情况：只有运行中的内核知道"
        )
    }
}

fn look(args: &Args, stop: &Arc<AtomicBool>) -> anyhow::Result<(Vec<FileResidency>, Counts)> {
    let request = Request {
        paths: args.path.clone(),
        limit: args.limit,
        stop: Arc::clone(stop),
    };
    let limit = units::span(args.limit.as_secs_f64());
    diag::note(&format!(
        "looking at files for at most {limit}; Ctrl-C ends it with what was seen"
    ));
    let progress = |counts: &Counts| {
        let looked = counts.looked;
        diag::note(&if looked == 0 {
            "listing what processes hold".to_owned()
        } else {
            format!("{looked} files looked at so far")
        });
    };
    residency::look(&request, progress)
        .map_err(|error| diag::hint(error, "--path wants a directory or file that exists"))
}

fn account(counts: &Counts, files: &[FileResidency], args: &Args) -> FilesAccounting {
    let missed = [
        counts.not_reached,
        counts.not_listed,
        counts.denied,
        counts.denied_processes,
        counts.failed,
        counts.not_kept,
    ];
    let resident = files.iter().map(|file| file.resident_bytes);
    FilesAccounting {
        method: counts.method,
        scope: if args.path.is_empty() {
            "processes"
        } else {
            "paths"
        },
        elapsed_s: counts.elapsed_s,
        limit_s: args.limit.as_secs_f64(),
        found: counts.found,
        looked: counts.looked,
        not_cached: counts.not_cached,
        not_reached: counts.not_reached,
        not_listed: counts.not_listed,
        not_regular: counts.not_regular,
        network: counts.network,
        symlinks: counts.symlinks,
        denied: counts.denied,
        denied_processes: counts.denied_processes,
        vanished: counts.vanished,
        failed: counts.failed,
        not_kept: counts.not_kept,
        interrupted: counts.stopped,
        stalled: counts.stalled,
        resident_bytes: resident.fold(0, u64::saturating_add),
        complete: !counts.stalled && !counts.stopped && missed.iter().all(|count| *count == 0),
    }
}

fn row(file: &FileResidency) -> FileRow {
    let share = file.resident_bytes as f64 / file.size_bytes as f64;
    FileRow {
        path: file.path.lossy().into_owned(),
        dev: file.key.0,
        inode: file.key.1,
        size_bytes: file.size_bytes,
        resident_bytes: file.resident_bytes,
        resident_share: (file.size_bytes > 0).then_some(share),
        dirty_bytes: file.dirty_bytes,
        writeback_bytes: file.writeback_bytes,
        recently_evicted_bytes: file.recently_evicted_bytes,
        deleted: file.deleted,
        holders: file
            .holders
            .iter()
            .map(|holder| FileHolder {
                pid: holder.pid,
                comm: holder.comm.lossy().into_owned(),
            })
            .collect(),
        holder_count: file.holder_count,
    }
}
