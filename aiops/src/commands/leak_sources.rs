//! Where `detect memory-leak` takes processes from: history, a recording, or samples taken now.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::analysis::history::stamp;
use crate::cli::Context;
use crate::diag;
use crate::model::Filter;
use crate::model::Name;
use crate::model::Owner;
use crate::model::Range;
use crate::msg;
use crate::render::units;
use crate::report::Accounting;
use crate::report::HostInfo;
use crate::report::Msg;
use crate::session::limits;
use crate::session::limits::Here;
use crate::session::plane;
use crate::session::store_error;
use crate::session::subjects;
use crate::session::subjects::Read;
use crate::session::subjects::Subject;
use crate::session::subjects::Who;
use crate::session::subjects::Window;
use crate::store::Ask;
use crate::store::Coverage;
use crate::store::Store;
use crate::store::StoreError;
use crate::time;

/// Most sizes of each process, where few are judged: as many as of a file.
const MOST: usize = 400_000;
/// The same, where many are: a day of samples every 10 s is kept whole.
const MOST_OF_MANY: usize = 20_000;

/// Limits that are read now are those of the end of a history that ends no longer ago than this.
const RECENT_MS: i64 = 600_000;

/// Fewer samples of a process in history are as good as none, where it can be sampled now.
const FEWEST: usize = 20;

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) filter: Filter,
    pub(super) all: bool,
    /// How far back.
    pub(super) history: Duration,
    /// Nothing but history will do.
    pub(super) history_only: bool,
    /// End of the history, ms since 1970.
    pub(super) end_ms: i64,
    /// Sample now, for so long.
    pub(super) window: Option<Duration>,
    /// The same, where there is no history.
    pub(super) window_default: Duration,
    pub(super) recording: Option<PathBuf>,
}

impl Asked {
    /// One process is asked for by its id: its report is whole. Anything else gives a list.
    pub(super) fn single(&self) -> bool {
        self.filter.pids.len() == 1
    }
}

/// What was taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) source: &'static str,
    /// All that was read, wanted or not.
    pub(super) processes: Vec<Subject>,
    pub(super) cgroups: Vec<Subject>,
    /// Others that had one of the wanted ids.
    pub(super) former: Vec<Subject>,
    pub(super) filter: Filter,
    pub(super) ticks: usize,
    pub(super) available_kb: Option<u64>,
    /// The limits at the end; `None`: that is long ago, or of another host.
    pub(super) here: Option<Here>,
    pub(super) host: HostInfo,
    pub(super) accounting: Accounting,
    pub(super) notes: Vec<Msg>,
    /// How long was sampled at most, where that was done now.
    pub(super) window: Option<Duration>,
    /// Where there may be more, and what of it was read.
    pub(super) store: Option<(Store, Range)>,
}

impl Taken {
    /// Whether a subject is asked for, and not only there to be compared with.
    pub(super) fn wants(&self, who: &Who) -> bool {
        wants(&self.filter, who)
    }
}

fn wants(filter: &Filter, who: &Who) -> bool {
    fn name(text: Option<&String>) -> Option<Name<'_>> {
        text.map(|text| Name { id: 0, text })
    }
    filter.is_empty()
        || filter.wants_owner(&Owner {
            boot: None,
            pid: who.pid,
            start: who.start_ticks,
            comm: name(who.comm.as_ref()),
            uid: who.uid,
            user: name(who.user.as_ref()),
            cgroup: name(who.cgroup.as_ref()),
            container: name(who.container.as_ref()),
            exe: None,
            cmdline: None,
        })
}

/// Takes what is asked for, from where it is.
///
/// # Errors
/// It is not there or cannot be read, with the remedy.
pub(super) fn take(asked: &Asked, context: &Context) -> anyhow::Result<Taken> {
    let taken = if let Some(file) = &asked.recording {
        recorded(asked, file)?
    } else if let Some(window) = asked.window {
        live(asked, window, context, None)?
    } else {
        let store = super::store_at(context);
        match history(asked, &store, context) {
            Ok((taken, _)) if found(&taken) && !is_thin(asked, &taken, &context.root) => taken,
            Ok((taken, coverage)) if asked.history_only => {
                return Err(no_history(asked, &taken, &coverage, context));
            }
            Err(error) if asked.history_only => return Err(store_error(error)),
            Ok(_) => {
                let (who, length) = (asked_for(asked), units::span(asked.history.as_secs_f64()));
                let (en, zh) = (
                    format!("no history of {who} in the last {length}, or too little"),
                    format!("最近 {length} 没有 {who} 的足够历史"),
                );
                live(asked, asked.window_default, context, Some(Msg::new(en, zh)))?
            }
            Err(error) => {
                let why = error.to_string();
                let why = Msg::new(format!("no history: {why}"), format!("没有历史：{why}"));
                live(asked, asked.window_default, context, Some(why))?
            }
        }
    };
    if found(&taken) {
        return Ok(taken);
    }
    Err(nobody(asked, &taken))
}

/// Whether anything that is wanted is among what was taken.
fn found(taken: &Taken) -> bool {
    taken.processes.iter().any(|one| taken.wants(&one.who)) || !taken.cgroups.is_empty()
}

/// Whether history knows too little of the one process that is asked for, and it can be sampled now.
fn is_thin(asked: &Asked, taken: &Taken, root: &Path) -> bool {
    let [pid] = asked.filter.pids[..] else {
        return false;
    };
    let wanted = (taken.processes.iter()).filter(|one| taken.wants(&one.who));
    let samples: usize = wanted.map(|one| one.samples).sum();
    !asked.history_only && samples < FEWEST && root.join(format!("proc/{pid}")).exists()
}

/// What was asked for, in a few words.
fn asked_for(asked: &Asked) -> String {
    let filter = &asked.filter;
    let pids: Vec<String> = filter.pids.iter().map(u32::to_string).collect();
    let lists = [
        ("process", &pids),
        ("name", &filter.comms),
        ("cgroup", &filter.cgroups),
        ("container", &filter.containers),
        ("user", &filter.users),
    ];
    let given = lists.iter().filter(|(_, list)| !list.is_empty());
    let parts: Vec<String> = given
        .map(|(name, list)| format!("{name} {}", list.join(",")))
        .collect();
    if parts.is_empty() {
        "any process".to_owned()
    } else {
        parts.join(", ")
    }
}

/// The error where nobody is there who is asked for.
pub(super) fn nobody(asked: &Asked, taken: &Taken) -> anyhow::Error {
    let who = asked_for(asked);
    let (error, remedy) = match taken.source {
        "recording" => (
            anyhow::anyhow!("no sample of {who} in this recording"),
            "`aiops replay FILE` shows who is in it",
        ),
        "history" => (
            anyhow::anyhow!("no sample of {who} in this range"),
            "`aiops query memory --start -24h` shows who was there",
        ),
        _ => (
            anyhow::anyhow!("{who} is not there, neither in history nor now"),
            "`aiops inspect processes` shows who is; --history 7d looks further back",
        ),
    };
    diag::hint(error, remedy)
}

fn no_history(
    asked: &Asked,
    taken: &Taken,
    coverage: &Coverage,
    context: &Context,
) -> anyhow::Error {
    let known = match coverage.known {
        Some((first, last)) => format!("it holds {} to {}", stamp(first), stamp(last)),
        None => "it holds nothing yet; `aiops monitor memory` writes it".to_owned(),
    };
    let (who, store) = (asked_for(asked), context.store.display());
    if taken.ticks > 0 {
        let error = anyhow::anyhow!("{store}: no sample of {who} in this range, but of others");
        return diag::hint(
            error,
            "`aiops query memory --start -24h` shows who was there; --window 10m samples now",
        );
    }
    let error = anyhow::anyhow!("{store}: no sample was taken in this range; {known}");
    diag::hint(
        error,
        "--history 7d looks further back, --end TIME moves the range, --window 10m samples now",
    )
}

fn history(
    asked: &Asked,
    store: &Store,
    context: &Context,
) -> Result<(Taken, Coverage), StoreError> {
    let length = i64::try_from(asked.history.as_millis()).unwrap_or(i64::MAX);
    let range = Range {
        start_ms: asked.end_ms.saturating_sub(length),
        end_ms: asked.end_ms,
    };
    let mut taken = Taken {
        source: "history",
        filter: asked.filter.clone(),
        store: Some((store.clone(), range)),
        ..Taken::default()
    };
    let filter = &asked.filter;
    let named = !filter.pids.is_empty();
    let most = if asked.all { MOST_OF_MANY } else { MOST };
    let read = |pids: &[u32], keep: &dyn Fn(&Owner<'_>) -> bool| {
        subjects::from_store(store, range, pids, keep, most, &context.root)
    };
    let (first, coverage) = read(&filter.pids, &|who| filter.wants_owner(who))?;
    taken.ticks = coverage.times.len();
    if named && !first.is_empty() {
        // Their siblings, and their earlier lives under other ids.
        let comms: HashSet<String> = first
            .iter()
            .filter_map(|one| one.who.comm.clone())
            .collect();
        let alike = |who: &Owner<'_>| who.comm.is_some_and(|comm| comms.contains(comm.text));
        taken.processes = read(&[], &alike)?.0;
        taken.former = first;
    } else {
        taken.processes = first;
    }
    if !named && (asked.all || !filter.cgroups.is_empty()) {
        let below = |path: &str| {
            let under = |wanted: &String| {
                let rest = path.strip_prefix(wanted.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            asked.all || filter.cgroups.iter().any(under)
        };
        taken.cgroups = subjects::cgroups_from_store(store, range, &below, MOST_OF_MANY)?;
    }
    if let Some(last) = coverage.times.last() {
        let ask = Ask {
            range: Range {
                start_ms: *last,
                end_ms: last + 1,
            },
            fields: &["mem_available_kb"],
            pids: &[],
            programs: false,
        };
        store.system(&ask, &mut |_, values| {
            let kb = values.first().copied().flatten();
            taken.available_kb = kb.and_then(|kb| u64::try_from(kb).ok());
        })?;
    }
    let meta = store.meta()?;
    let owner = meta.as_ref().map(|meta| meta.hostname.as_str());
    taken.host = super::query_memory::host_info(context, owner);
    let end_ms = coverage.times.last().copied().unwrap_or(i64::MIN);
    if time::now_ns() / 1_000_000 < end_ms.saturating_add(RECENT_MS) {
        let here = limits::now(&context.root).ok();
        let same = |here: &Here| owner.is_none_or(|name| here.host.hostname.lossy() == name);
        taken.here = here.filter(same);
    }
    taken.accounting = accounting(taken.ticks, &coverage);
    Ok((taken, coverage))
}

fn accounting(ticks: usize, coverage: &Coverage) -> Accounting {
    let mut accounting = Accounting {
        seen: [("ticks".to_owned(), ticks as u64)].into(),
        complete: coverage.damages.is_empty(),
        ..Accounting::default()
    };
    for damage in &coverage.damages {
        let why = damage.error.as_deref().unwrap_or("damaged");
        let text = format!("{} ({why})", damage.path.display());
        accounting.unread.push(text);
        if damage.lost_ticks > 0 {
            let lost = accounting.lost.entry("ticks".to_owned()).or_default();
            *lost += damage.lost_ticks;
        }
    }
    accounting
}

fn of_read(source: &'static str, asked: &Asked, read: Read) -> Taken {
    let whole = asked.all || asked.filter.is_empty();
    let wants_cgroups = whole || (asked.filter.pids.is_empty() && !asked.filter.cgroups.is_empty());
    Taken {
        source,
        ticks: read.ticks,
        available_kb: read.available_kb,
        host: HostInfo::from(&read.host),
        accounting: Accounting {
            seen: [("samples".to_owned(), read.ticks as u64)].into(),
            complete: read.damage.is_none(),
            damage: read.damage,
            ..Accounting::default()
        },
        cgroups: (read.cgroups.into_iter())
            .filter(|one| wants_cgroups && (whole || wants(&asked.filter, &one.who)))
            .collect(),
        processes: read.processes,
        filter: asked.filter.clone(),
        ..Taken::default()
    }
}

fn recorded(asked: &Asked, file: &Path) -> anyhow::Result<Taken> {
    let many = asked.all || asked.filter.is_empty();
    let most = if many { MOST_OF_MANY } else { MOST };
    // Siblings and earlier lives are there as well.
    let read = subjects::from_recording(file, Filter::default(), most)?;
    let mut taken = of_read("recording", asked, read);
    taken.here = Some(Here::left_by(&plane::replay(file)?.0));
    Ok(taken)
}

fn live(
    asked: &Asked,
    length: Duration,
    context: &Context,
    why: Option<Msg>,
) -> anyhow::Result<Taken> {
    let window = Window {
        root: &context.root,
        length,
        filter: asked.filter.clone(),
        cgroups: asked.filter.pids.is_empty() && (asked.all || !asked.filter.cgroups.is_empty()),
    };
    let spans = [length, window.interval()].map(|time| units::span(time.as_secs_f64()));
    let [whole, every] = &spans;
    let because = why
        .as_ref()
        .map_or_else(String::new, |why| format!("{}: ", why.en));
    diag::note(&format!(
        "{because}sampling for {whole}, every {every}; Ctrl-C judges what there is"
    ));
    let read = subjects::live(&window, &mut |samples, since| {
        if diag::shows_progress() {
            let since = units::span(since.as_secs_f64().round());
            diag::progress(&format!("{since} / {whole}  {samples} samples"));
        }
    })?;
    diag::progress("");
    let mut taken = of_read("live", asked, read);
    taken.window = Some(length);
    taken.here = limits::now(&context.root).ok();
    if let Some(why) = why {
        let (en, zh) = (why.en, why.zh);
        taken.notes.push(msg!(
            "{en}: it was sampled for {whole}",
            "{zh}：改为现场采样 {whole}"
        ));
    }
    Ok(taken)
}
