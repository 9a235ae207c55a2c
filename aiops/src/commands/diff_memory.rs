//! `aiops diff memory`: what changed between two snapshots.

use std::path::Path;
use std::path::PathBuf;

use crate::analysis::diff;
use crate::analysis::diff::Sort;
use crate::analysis::readings::Readings;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::report;
use crate::report::Accounting;
use crate::report::diff::DiffView;
use crate::session::plane;

/// Name and version of the report.
const SCHEMA: &str = "aiops.diff-memory/1";

/// Options of `diff memory`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops diff memory --snapshot1 mem_snap1.db --snapshot2 mem_snap2.db
      growth of the system, of processes, cgroups and slab caches
  aiops diff memory --snapshot1 a.db --snapshot2 b.db --sort delta --top 50 -o json")]
pub struct Args {
    /// The earlier one, from `aiops collect memory --output`.
    #[arg(long, value_name = "FILE")]
    snapshot1: PathBuf,
    /// The later one.
    #[arg(long, value_name = "FILE")]
    snapshot2: PathBuf,
    /// Order of processes.
    #[arg(long, value_enum, default_value = "delta")]
    sort: SortArg,
    /// Rows of the text report, 0: all; JSON is whole.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Orders of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SortArg {
    /// Growth of resident memory and swap, up or down.
    Delta,
    /// Resident memory in the later snapshot.
    Rss,
    /// Proportional share in the later snapshot.
    Pss,
    /// Swapped out in the later snapshot.
    Swap,
}

impl From<SortArg> for Sort {
    fn from(sort: SortArg) -> Self {
        match sort {
            SortArg::Delta => Self::Delta,
            SortArg::Rss => Self::Rss,
            SortArg::Pss => Self::Pss,
            SortArg::Swap => Self::Swap,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A file is no recording, or holds no sample; each with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let (first, first_damage) = read(&args.snapshot1)?;
    let (second, second_damage) = read(&args.snapshot2)?;
    let (mut data, findings) = diff::diff(&first, &second, args.sort.into());
    let name = |path: &Path| path.display().to_string();
    data.snapshots.first.file = name(&args.snapshot1);
    data.snapshots.second.file = name(&args.snapshot2);
    data.view = DiffView { top: args.top };
    if !data.same_host {
        diag::warn(
            "the snapshots are of different hosts: processes are matched by name and cgroup",
        );
    } else if !data.same_boot {
        diag::warn("the host was booted in between: processes are matched by name and cgroup");
    }
    if data.elapsed_s.is_some_and(|seconds| seconds < 0.0) {
        diag::warn("the first snapshot is the later one: growth shows as a decrease");
    }
    let damage = both(first_damage, second_damage);
    let mut report = plane::report(SCHEMA, &second, &[], data, findings, damage);
    add(&mut report.accounting, &first.accounting(&[]));
    super::print(&report, context, args.exit_code)
}

/// The readings of a snapshot or recording, and what was damaged of it.
fn read(path: &Path) -> anyhow::Result<(Readings, Option<report::Damage>)> {
    let mut readings = Readings::default();
    let damage = plane::read(path, &mut |item| {
        readings.push(item.clone());
        Ok(())
    })?;
    if readings.newest().is_none() {
        let error = anyhow::anyhow!("{}: no sample in this recording", path.display());
        let remedy = "take one: aiops collect memory --duration 0 --output FILE";
        return Err(diag::hint(error, remedy));
    }
    Ok((readings, damage))
}

fn both(first: Option<report::Damage>, second: Option<report::Damage>) -> Option<report::Damage> {
    let (a, b) = match (first, second) {
        (Some(a), Some(b)) => (a, b),
        (one, other) => return one.or(other),
    };
    Some(report::Damage {
        blocks_read: a.blocks_read.saturating_add(b.blocks_read),
        places: a.places.saturating_add(b.places),
        lost_bytes: a.lost_bytes.saturating_add(b.lost_bytes),
        truncated: a.truncated || b.truncated,
    })
}

/// Adds what the other snapshot saw and could not have.
fn add(sum: &mut Accounting, other: &Accounting) {
    for (name, count) in &other.seen {
        *sum.seen.entry(name.clone()).or_default() += count;
    }
    let (all, more) = (&mut sum.skipped_processes, other.skipped_processes);
    all.vanished += more.vanished;
    all.denied += more.denied;
    all.failed += more.failed;
    all.kernel_threads += more.kernel_threads;
    all.zombies += more.zombies;
    sum.unread.extend(other.unread.iter().cloned());
    sum.unread.sort();
    sum.unread.dedup();
    sum.complete &= other.complete;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Item;
    use crate::record::Writer;
    use crate::session::Record;
    use crate::session::plane::Observe;

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn folder(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("aiops-diff-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    /// Takes a snapshot of this very process.
    fn take(path: &Path) {
        let observe = Observe {
            command: "collect memory".to_owned(),
            root: PathBuf::from("/"),
            filter: crate::model::Filter {
                pids: vec![std::process::id()],
                ..crate::model::Filter::default()
            },
            regions: true,
            detail: true,
            record: Some(Record {
                path: path.to_path_buf(),
                force: false,
            }),
            ..Observe::default()
        };
        plane::readings(&observe).unwrap();
    }

    /// How much a process took is tested where one of its own takes it: `tests/it/diff.rs`. Here other tests
    /// of the same process take and give back memory.
    #[test]
    fn snapshots_of_this_process_are_of_one_process() {
        let folder = folder("take");
        let (a, b) = (folder.0.join("a.db"), folder.0.join("b.db"));
        take(&a);
        take(&b);
        let (first, none) = read(&a).unwrap();
        let (second, _) = read(&b).unwrap();
        assert!(none.is_none());
        let (data, _) = diff::diff(&first, &second, Sort::Delta);
        assert_eq!(data.processes.len(), 1);
        let own = &data.processes[0];
        assert_eq!(own.pid, std::process::id());
        assert_eq!(own.status, report::diff::Status::Same);
        assert!(own.growth_kb.is_some(), "{own:?}");
        assert!(
            own.rss_kb.from > Some(0) && own.rss_kb.to > Some(0),
            "{own:?}"
        );
        assert!(data.same_boot && !data.all_processes);
        assert!(data.process_regions.is_some());
    }

    #[test]
    fn a_cut_snapshot_is_read_and_one_without_a_sample_is_not() {
        let folder = folder("cut");
        let (whole, cut) = (folder.0.join("a.db"), folder.0.join("cut.db"));
        take(&whole);
        let bytes = std::fs::read(&whole).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() - 40]).unwrap();
        let (readings, damage) = read(&cut).unwrap();
        assert!(damage.is_some() && readings.newest().is_some());
        let twice = both(damage.clone(), damage.clone()).unwrap();
        assert_eq!(twice.blocks_read, 2 * damage.unwrap().blocks_read);
        let empty = folder.0.join("empty.db");
        let mut writer = Writer::create(&empty, false).unwrap();
        writer
            .push(&Item::Session(crate::model::Session::default()))
            .unwrap();
        writer.finish().unwrap();
        let error = read(&empty).unwrap_err();
        assert!(format!("{error:#}").contains("no sample"), "{error:#}");
    }
}
