//! `aiops inspect memory`: one process by region kind and mapping.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use crate::analysis::inspect::Changes;
use crate::analysis::inspect::Sort;
use crate::analysis::inspect::Taken;
use crate::analysis::inspect::accounting;
use crate::analysis::inspect::inspect;
use crate::analysis::inspect::select;
use crate::analysis::readings;
use crate::analysis::readings::Readings;
use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::model::Filter;
use crate::model::Item;
use crate::model::MappingSample;
use crate::model::ProcessMappings;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::RegionKind;
use crate::render;
use crate::render::Format;
use crate::report::inspect::FailReason;
use crate::report::inspect::FailedProcess;
use crate::report::inspect::Reading;
use crate::report::inspect::View;
use crate::report::inspect::marked;
use crate::session;
use crate::session::plane::Observe;
use crate::source::plane::Plane;
use crate::source::plane::Wants;
use crate::time;

use super::options::FilterArgs;

/// Schema of the report.
const SCHEMA: &str = "aiops.inspect-memory/1";

/// Shortest time between two readings.
const SHORTEST: Duration = Duration::from_millis(100);

/// Options of `inspect memory`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["pid", "comm", "cgroup", "container", "user"]))]
#[command(after_help = "\
Processes by --pid and --comm add up; --cgroup, --container and --user choose among them, or alone.

Examples:
  aiops inspect memory --pid 4711 --maps --detail
      every mapping with its figures and flags
  aiops inspect memory --comm nginx --children --sort pss --top 30
      all processes of that name and their children, merged")]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Children of those, and theirs, as well.
    #[arg(long)]
    children: bool,
    /// List the mappings.
    #[arg(long)]
    maps: bool,
    /// All figures and flags of each mapping.
    #[arg(long)]
    detail: bool,
    /// Order of mappings and modules.
    #[arg(long, value_enum, default_value = "pss")]
    sort: SortArg,
    /// Rows of each list in the text report; JSON is whole. 0: all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Read again and again, until Ctrl-C, and show what changed.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    watch: Option<Duration>,
    /// Exit with 10 for findings of severity warning, 20 for critical.
    #[arg(long)]
    exit_code: bool,
}

/// Orders of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SortArg {
    /// Address.
    Address,
    /// Address space.
    Size,
    /// Resident memory.
    Rss,
    /// Proportional share.
    Pss,
    /// Swapped out.
    Swap,
    /// Dirty memory.
    Dirty,
}

impl From<SortArg> for Sort {
    fn from(sort: SortArg) -> Self {
        match sort {
            SortArg::Address => Self::Address,
            SortArg::Size => Self::Size,
            SortArg::Rss => Self::Rss,
            SortArg::Pss => Self::Pss,
            SortArg::Swap => Self::Swap,
            SortArg::Dirty => Self::Dirty,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// There is no /proc, or what was asked for cannot be read; each with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    // Ids and names add up (`select`); the rest of the filter chooses among them.
    let mut filter = args.filter.filter();
    let pids = std::mem::take(&mut filter.pids);
    let comms = std::mem::take(&mut filter.comms);
    // Names, children and what they belong to need every process.
    let all = args.children || !comms.is_empty() || !filter.is_empty();
    let options = Observe {
        command: "inspect memory".to_owned(),
        root: context.root.clone(),
        wants: Wants {
            pids: (!all).then(|| pids.clone()),
            // The process' oom_score is shown.
            all: !all,
            ..Wants::default()
        },
        // Each reading walks the page tables of the process.
        interval: args.watch.unwrap_or_default().max(SHORTEST),
        // Until a signal: no clock holds so much time.
        duration: args.watch.map_or(Duration::ZERO, |_| Duration::MAX),
        ..Observe::default()
    };
    let mut rounds = Rounds {
        args,
        context,
        pids,
        comms,
        filter,
        plane: session::plane::open(&context.root)?,
        readings: Readings::default(),
        changes: Changes::default(),
        reading: None,
        taken: Taken::default(),
        starts: HashMap::new(),
        error: None,
        ended: false,
    };
    let observed = session::plane::observe(&options, &mut |item| rounds.take(item));
    if let Some(error) = rounds.error.take() {
        return Err(error);
    }
    if !rounds.ended {
        observed?;
    }
    rounds.finish()
}

/// Readings, one after the other.
struct Rounds<'a> {
    args: &'a Args,
    context: &'a Context,
    pids: Vec<u32>,
    comms: Vec<String>,
    /// What else a process has to be.
    filter: Filter,
    plane: Plane,
    readings: Readings,
    changes: Changes,
    reading: Option<Reading>,
    taken: Taken,
    /// Start of each process that was asked for by its id: another one may get it.
    starts: HashMap<u32, u64>,
    error: Option<anyhow::Error>,
    /// Every process has ended under `--watch`.
    ended: bool,
}

impl Rounds<'_> {
    fn take(&mut self, item: &Item) -> io::Result<()> {
        let Item::Sample(sample) = item else {
            self.readings.push(item.clone());
            return Ok(());
        };
        let wanted = |process: &ProcessSample| {
            let identity = self.readings.identity(readings::key(process));
            self.filter.wants(process, identity)
        };
        let pids = select(
            &sample.processes,
            &self.pids,
            &self.comms,
            self.args.children,
            &wanted,
        );
        let mut chosen = sample.clone();
        chosen.processes.retain(|one| pids.contains(&one.pid));
        self.readings.push(Item::Sample(chosen));
        let starts = sample.processes.iter();
        let starts = starts.map(|one| (one.pid, one.start_ticks)).collect();
        let taken = self.read(&pids, &starts);
        if taken.processes.is_empty() {
            // After the first reading this is the end of what was watched.
            self.ended = !self.taken.processes.is_empty();
            if !self.ended {
                let named = self.filter.is_empty();
                self.error = Some(nothing(&taken.failed, named.then_some(&self.comms)));
            }
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.args.watch.is_none() || self.taken.processes.is_empty() {
            warn(&taken);
        }
        self.taken = taken;
        if self.args.watch.is_some() {
            let moment = self.readings.moment();
            let time = moment.and_then(|(ns, offset)| time::rfc3339(ns, offset));
            let reading = self.changes.push(&self.taken.processes, time);
            self.show(&reading)?;
            self.reading = Some(reading);
        }
        Ok(())
    }

    /// The mappings of these processes. `sampled` are starts of this round's sample, by which names and
    /// children were chosen: another process may have the id by now.
    fn read(&mut self, pids: &[u32], sampled: &HashMap<u32, u64>) -> Taken {
        let mut taken = Taken::default();
        for pid in pids {
            let asked = self.pids.contains(pid);
            let read = self.plane.mappings(*pid).and_then(|one| {
                let start = one.process.start_ticks;
                let chosen = sampled.get(pid).is_none_or(|sampled| *sampled == start);
                let same = chosen && (!asked || *self.starts.entry(*pid).or_insert(start) == start);
                // Without any mapping it has ended, but for being waited for.
                if same && !one.mappings.is_empty() {
                    Ok(one)
                } else {
                    Err(io::ErrorKind::NotFound.into())
                }
            });
            match read {
                Ok(mut one) => {
                    if self.plane.live() {
                        look_up(&self.context.root, &mut one);
                    }
                    taken.processes.push(one);
                }
                Err(error) => {
                    let reason = self.reason(*pid, &error);
                    // Names and children that ended meanwhile were not asked for.
                    if asked || reason == FailReason::Denied || reason == FailReason::Failed {
                        taken.failed.push(FailedProcess { pid: *pid, reason });
                    }
                }
            }
        }
        taken
    }

    fn reason(&mut self, pid: u32, error: &io::Error) -> FailReason {
        match error.kind() {
            io::ErrorKind::NotFound => FailReason::Gone,
            io::ErrorKind::PermissionDenied => FailReason::Denied,
            io::ErrorKind::Unsupported => {
                let wants = Wants {
                    pids: Some(vec![pid]),
                    ..Wants::default()
                };
                if self.plane.sample(&wants).skipped.kernel_threads > 0 {
                    FailReason::KernelThread
                } else {
                    FailReason::Zombie
                }
            }
            _ if error.raw_os_error() == Some(libc::ESRCH) => FailReason::Gone,
            _ => FailReason::Failed,
        }
    }

    /// Shows a reading: over the last one on a terminal, else behind it.
    fn show(&self, reading: &Reading) -> io::Result<()> {
        match self.context.format {
            Format::Json | Format::Csv => Ok(()),
            Format::Jsonl => {
                let line = render::inspect_reading_line(reading, self.context.style.lang);
                super::out(&line.map_err(io::Error::other)?)
            }
            Format::Text => {
                let text = render::inspect_reading(reading, self.args.top, &self.context.style);
                // One line where nothing changed: it goes below what is there.
                let clear = if io::stdout().is_terminal() && !reading.unchanged() {
                    "\x1b[H\x1b[2J"
                } else {
                    ""
                };
                super::out(&format!("{clear}{text}"))
            }
        }
    }

    /// The report on the last reading.
    fn finish(mut self) -> anyhow::Result<Exit> {
        if self.ended {
            diag::note("the process has ended: the report shows its last figures");
        }
        let settings = self.plane.detail(false).settings;
        let most = settings.iter().find(|one| one.name == "vm.max_map_count");
        let most = most.and_then(|one| one.value.trim().parse().ok());
        let count = self.readings.samples.saturating_sub(self.ended.into());
        let sort = self.args.sort.into();
        let (mut data, findings) = inspect(&self.readings, self.taken, sort, most);
        if let Some(reading) = &mut self.reading {
            reading.ended = self.ended;
        }
        data.watch = self.reading;
        if !self.plane.live() && data.mappings.iter().any(|row| marked(&row.sample)) {
            data.notes.push(
                "removed files are known by their names alone: one that is really called \"… (deleted)\" is taken for removed"
                    .to_owned(),
            );
        }
        data.view = View {
            maps: self.args.maps,
            detail: self.args.detail,
            top: self.args.top,
        };
        let accounting = accounting(&data, count);
        let mut report = session::plane::report(SCHEMA, &self.readings, &[], data, findings, None);
        report.accounting = accounting;
        if self.context.format == Format::Text {
            return super::print(&report, self.context, self.args.exit_code);
        }
        let exit = super::ending(&report, self.context, self.args.exit_code);
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        let (format, style) = (self.context.format, &self.context.style);
        render::inspect_json(report, format, style, &mut |piece| {
            stdout
                .write_all(piece.as_bytes())
                .map_err(diag::stdout_error)
        })?;
        stdout.flush().map_err(diag::stdout_error)?;
        Ok(exit)
    }
}

/// Looks up of every file that seems to be removed whether it is: a file may be called `x (deleted)`.
fn look_up(root: &Path, process: &mut ProcessMappings) {
    let place = root.join("proc").join(process.process.pid.to_string());
    let mut known: HashMap<(RawText, u64), Option<bool>> = HashMap::new();
    for mapping in &mut process.mappings {
        let file = matches!(
            mapping.kind,
            RegionKind::Executable | RegionKind::Library | RegionKind::File | RegionKind::Shm
        );
        if file && marked(mapping) {
            let key = (mapping.path.clone(), mapping.inode);
            mapping.deleted = *known.entry(key).or_insert_with(|| removed(&place, mapping));
        }
    }
}

/// Whether a mapped file is not at its place any more; `None`: it may not be looked up.
fn removed(place: &Path, mapping: &MappingSample) -> Option<bool> {
    let path = mapping.path.as_bytes().strip_prefix(b"/")?;
    let there = place.join("root").join(OsStr::from_bytes(path));
    let there = match there.metadata() {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(true),
        Err(_) => return None,
    };
    // The link leads to the mapped file itself, wherever its name is; it needs a capability.
    let range = format!("{:x}-{:x}", mapping.start, mapping.end);
    let same = match place.join("map_files").join(range).metadata() {
        Ok(mapped) => (mapped.dev(), mapped.ino()) == (there.dev(), there.ino()),
        Err(_) => {
            let dev = there.dev();
            let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
            there.ino() == mapping.inode && mapping.device == format!("{major:02x}:{minor:02x}")
        }
    };
    Some(!same)
}

/// Says which processes are missing from the report, or known only by half.
fn warn(taken: &Taken) {
    for failed in &taken.failed {
        let why = render::inspect_reason(failed.reason).en;
        diag::warn(&format!("process {}: {why}", failed.pid));
    }
    for process in taken.processes.iter().filter(|one| one.maps_only) {
        diag::warn(&format!(
            "process {}: smaps may not be read, figures are unknown: run as root or with CAP_SYS_PTRACE",
            process.process.pid
        ));
    }
}

/// Why there is nothing to report.
fn nothing(failed: &[FailedProcess], comms: Option<&Vec<String>>) -> anyhow::Error {
    let Some(first) = failed.first() else {
        let Some(comms) = comms else {
            let error = anyhow::anyhow!("no process matches the filter");
            return diag::hint(
                error,
                "`aiops inspect processes` lists those that run, with cgroup, container and user",
            );
        };
        let error = anyhow::anyhow!("no process is called {}", comms.join(" or "));
        return diag::hint(
            error,
            "names are those of `ps -eo pid,comm`: exact, at most 15 bytes",
        );
    };
    let why = render::inspect_reason(first.reason).en;
    let error = anyhow::anyhow!("process {}: {why}", first.pid);
    let remedy = match first.reason {
        FailReason::Gone => "`aiops inspect processes` lists those that run",
        FailReason::Denied => "run as root or with CAP_SYS_PTRACE, or as the user of the process",
        FailReason::KernelThread => {
            "kernel memory is in the report of `aiops analyze cache`; name a process of user space"
        }
        FailReason::Zombie => "its parent has to wait for it; look at the parent instead",
        FailReason::Failed => "check that --root names a whole tree, or report this as a bug",
    };
    diag::hint(error, remedy)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::render::Lang;
    use crate::render::Style;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn another_process_with_the_id_of_a_child_is_not_taken_for_it() {
        let root = Path::new("/");
        let line = <Line as clap::Parser>::try_parse_from(["x", "--comm", "x"]).unwrap();
        let context = Context {
            format: Format::Json,
            style: Style {
                lang: Lang::En,
                color: false,
                width: 80,
                unicode: true,
            },
            root: root.to_path_buf(),
            store: root.to_path_buf(),
            strict: false,
        };
        let mut rounds = Rounds {
            args: &line.args,
            context: &context,
            filter: Filter::default(),
            pids: Vec::new(),
            comms: vec!["x".to_owned()],
            plane: session::plane::open(root).unwrap(),
            readings: Readings::default(),
            changes: Changes::default(),
            reading: None,
            taken: Taken::default(),
            starts: HashMap::new(),
            error: None,
            ended: false,
        };
        let pid = std::process::id();
        let wants = Wants {
            pids: Some(vec![pid]),
            ..Wants::default()
        };
        let start = rounds.plane.sample(&wants).processes[0].start_ticks;
        let mut read = |start| rounds.read(&[pid], &HashMap::from([(pid, start)]));
        assert_eq!(read(start).processes.len(), 1);
        let other = read(start - 1);
        assert!(other.processes.is_empty() && other.failed.is_empty());
    }

    /// A folder of its own, removed at the end.
    struct Folder(std::path::PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_that_is_called_deleted_is_not() {
        let name = format!("aiops-removed-{}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir(&folder.0).unwrap();
        let path = folder.0.join("x (deleted)");
        std::fs::write(&path, "here").unwrap();
        let meta = path.metadata().unwrap();
        let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
        let mut mapping = MappingSample {
            path: RawText::new(path.as_os_str().as_bytes()),
            inode: meta.ino(),
            device: format!("{major:02x}:{minor:02x}"),
            kind: RegionKind::File,
            ..MappingSample::default()
        };
        let own = Path::new("/proc/self");
        assert_eq!(removed(own, &mapping), Some(false));
        mapping.inode += 1;
        assert_eq!(removed(own, &mapping), Some(true), "another file's name");
        std::fs::remove_file(&path).unwrap();
        mapping.inode -= 1;
        assert_eq!(removed(own, &mapping), Some(true));
        mapping.path = RawText::from("[heap]");
        assert_eq!(removed(own, &mapping), None);
    }
}
