//! What `detect anomaly` looks at: the host, its processes and the wanted cgroups, from history or a recording.

use std::collections::HashMap;
use std::path::Path;

use crate::analysis::anomaly;
use crate::analysis::anomaly::gather;
use crate::analysis::anomaly::host;
use crate::cli::Context;
use crate::diag;
use crate::model::CgroupRun;
use crate::model::ClockPair;
use crate::model::Filter;
use crate::model::Identity;
use crate::model::Item;
use crate::model::Metric;
use crate::model::Name;
use crate::model::Owner;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::Range;
use crate::model::RawText;
use crate::model::Run;
use crate::model::Sample;
use crate::model::SystemMetrics;
use crate::report::Accounting;
use crate::report::HostInfo;
use crate::session::plane;
use crate::session::store_error;
use crate::source;
use crate::store::Ask;
use crate::store::Coverage;

/// History of the host that is read at least, so that a week of days says what is usual.
const BASELINE_MS: i64 = 8 * 86_400_000;
/// KiB of a page where the host does not say it.
const PAGE_KB: f64 = 4.0;

/// What was taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) source: &'static str,
    pub(super) input: host::Input,
    /// Samples in the window, ms since 1970.
    pub(super) times: Vec<i64>,
    /// First and last sample of the store.
    pub(super) known: Option<(i64, i64)>,
    pub(super) host: HostInfo,
    pub(super) accounting: Accounting,
}

/// Cgroups are wanted by their paths alone: of processes nobody knows which cgroup is theirs alone.
fn wants_cgroup(filter: &Filter, path: &str) -> bool {
    let below = |wanted: &String| {
        let rest = path.strip_prefix(wanted.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let alone = Filter {
        cgroups: filter.cgroups.clone(),
        ..Filter::default()
    };
    *filter == alone && filter.cgroups.iter().any(below)
}

/// Usual distance of two samples and the length of the steps of processes, seconds.
fn steps(times: &[i64]) -> (f64, f64) {
    let interval_s = anomaly::interval_s(times).unwrap_or(0.0);
    let span_s = match (times.first(), times.last()) {
        (Some(first), Some(last)) => (last - first) as f64 / 1000.0,
        _ => 0.0,
    };
    (interval_s, host::process_step_s(span_s, interval_s))
}

/// History in a range, and that of the host before it.
///
/// # Errors
/// There is no store, or it cannot be read.
pub(super) fn stored(window: Range, filter: &Filter, context: &Context) -> anyhow::Result<Taken> {
    let store = super::store_at(context);
    let meta = store.meta().map_err(store_error)?;
    let baseline = Range {
        start_ms: (window.start_ms).min(window.end_ms.saturating_sub(BASELINE_MS)),
        ..window
    };
    let mut input = host::Input {
        start_s: window.start_ms as f64 / 1000.0,
        page_kb: PAGE_KB,
        ..host::Input::default()
    };
    let here = HostInfo::from(&source::host::read(&context.root));
    let own = meta
        .as_ref()
        .is_none_or(|meta| meta.hostname == here.hostname);
    if let Some(bytes) = here.page_size.filter(|_| own) {
        input.page_kb = bytes as f64 / 1024.0;
    }
    let ask = Ask {
        range: baseline,
        fields: &gather::SYSTEM_FIELDS,
        pids: &[],
        programs: false,
    };
    let coverage = store
        .system(&ask, &mut |ts, values| {
            input.moments.push(gather::moment(ts, values));
        })
        .map_err(store_error)?;
    if meta.is_none() && coverage.known.is_none() {
        let error = anyhow::anyhow!("{}: no history there", context.store.display());
        let remedy = "`aiops monitor memory` writes it; --store DIR or AIOPS_STORE name another one, --recording FILE looks at a recording";
        return Err(diag::hint(error, remedy));
    }
    // A clock that was set back makes no series.
    input.moments.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
    let times: Vec<i64> = (coverage.times.iter().copied())
        .filter(|ts| window.holds(*ts))
        .collect();
    let (interval_s, step_s) = steps(&times);
    input.interval_s = interval_s;
    // Other processes are read in any case: what else moved is told.
    let mut processes = gather::Processes::new(step_s);
    let ask = Ask {
        range: window,
        fields: &gather::PROCESS_FIELDS,
        pids: &[],
        programs: false,
    };
    let of_processes = store
        .runs(&ask, &mut |run| {
            processes.take(run, filter.wants_owner(&run.who));
        })
        .map_err(store_error)?;
    input.processes = processes.lives();
    let mut readings = vec![&coverage, &of_processes];
    let of_cgroups;
    if !filter.cgroups.is_empty() {
        let mut cgroups = gather::Cgroups::new(step_s);
        let ask = Ask {
            fields: &gather::CGROUP_FIELDS,
            ..ask
        };
        of_cgroups = store
            .cgroup_runs(&ask, &mut |run| {
                if wants_cgroup(filter, run.path.text) {
                    cgroups.take(run);
                }
            })
            .map_err(store_error)?;
        input.cgroups = cgroups.series();
        readings.push(&of_cgroups);
    }
    Ok(Taken {
        source: "history",
        known: coverage.known,
        accounting: accounting(&times, &readings),
        host: match meta {
            Some(meta) if !own => HostInfo {
                hostname: meta.hostname,
                ..HostInfo::default()
            },
            _ => here,
        },
        input,
        times,
    })
}

fn accounting(times: &[i64], readings: &[&Coverage]) -> Accounting {
    let mut damages: Vec<_> = readings.iter().flat_map(|one| &one.damages).collect();
    damages.dedup_by(|a, b| a.path == b.path);
    let unread = damages.iter().map(|damage| {
        let why = damage.error.as_deref().unwrap_or("damaged");
        format!("{} ({why})", damage.path.display())
    });
    let lost: u64 = damages.iter().map(|damage| damage.lost_ticks).sum();
    let mut accounting = Accounting {
        seen: [("ticks".to_owned(), times.len() as u64)].into(),
        unread: unread.collect(),
        complete: damages.is_empty(),
        ..Accounting::default()
    };
    if lost > 0 {
        accounting.lost.insert("ticks".to_owned(), lost);
    }
    accounting
}

/// The wanted figures of a set, as a store has them.
fn figures<S>(metrics: &[Metric<S>], fields: &[&str], set: &S) -> Vec<Option<i64>> {
    let value = |field: &&str| {
        let metric = metrics.iter().find(|metric| metric.name == *field)?;
        i64::try_from((metric.get)(set)?).ok()
    };
    fields.iter().map(value).collect()
}

/// When a sample was taken, ms since 1970. The clock counts as it was at the end: one that was set meanwhile makes
/// no jumps.
fn ms(clock: &ClockPair, sample: &Sample) -> i64 {
    let since = i128::from(sample.ts_ns) - i128::from(clock.mono_ns);
    let ns = i128::from(clock.real_ns) + since;
    i64::try_from(ns.div_euclid(1_000_000)).unwrap_or(i64::MAX)
}

/// What a recording of samples holds.
///
/// # Errors
/// The file is no recording, or no sample in it can be read.
pub(super) fn recorded(file: &Path, filter: &Filter) -> anyhow::Result<Taken> {
    let mut clock = ClockPair::default();
    let (mut host, mut samples) = (HostInfo::default(), 0_u64);
    let damage = plane::read(file, &mut |item| {
        match item {
            Item::Session(session) => host = HostInfo::from(&session.host),
            Item::Clock(now) => clock = *now,
            Item::Sample(_) => samples += 1,
            _ => {}
        }
        Ok(())
    })?;
    let mut input = host::Input {
        page_kb: host
            .page_size
            .map_or(PAGE_KB, |bytes| bytes as f64 / 1024.0),
        ..host::Input::default()
    };
    let mut times = Vec::new();
    plane::read(file, &mut |item| {
        if let Item::Sample(sample) = item {
            let ts = ms(&clock, sample);
            times.push(ts);
            if let Some(system) = &sample.system {
                let fields = &gather::SYSTEM_FIELDS;
                let values = figures(SystemMetrics::METRICS, fields, system);
                input.moments.push(gather::moment(ts, &values));
            }
        }
        Ok(())
    })?;
    let first = times.first().copied().unwrap_or_default();
    input.start_s = first as f64 / 1000.0;
    let (interval_s, step_s) = steps(&times);
    input.interval_s = interval_s;
    let mut tables = Tables {
        filter,
        clock,
        who: HashMap::new(),
        processes: gather::Processes::new(step_s),
        cgroups: gather::Cgroups::new(step_s),
    };
    plane::read(file, &mut |item| {
        tables.push(item);
        Ok(())
    })?;
    input.processes = tables.processes.lives();
    input.cgroups = tables.cgroups.series();
    Ok(Taken {
        source: "recording",
        input,
        times,
        known: None,
        host,
        accounting: Accounting {
            seen: [("samples".to_owned(), samples)].into(),
            complete: damage.is_none(),
            damage,
            ..Accounting::default()
        },
    })
}

/// Processes and cgroups of a recording in the making.
struct Tables<'a> {
    filter: &'a Filter,
    clock: ClockPair,
    who: HashMap<(u32, u64), Identity>,
    processes: gather::Processes,
    cgroups: gather::Cgroups,
}

impl Tables<'_> {
    fn push(&mut self, item: &Item) {
        match item {
            Item::Identity(identity) => {
                let key = (identity.pid, identity.start_ticks.unwrap_or(0));
                self.who.insert(key, identity.clone());
            }
            Item::Sample(sample) => {
                let times = [ms(&self.clock, sample)];
                for process in &sample.processes {
                    self.process(process, &times);
                }
                self.groups(sample, &times);
            }
            _ => {}
        }
    }

    fn process(&mut self, process: &ProcessSample, times: &[i64]) {
        let identity = self.who.get(&(process.pid, process.start_ticks));
        let wanted = self.filter.wants(process, identity);
        let comm = process.comm.lossy();
        let cgroup = identity.and_then(|one| one.cgroup.as_ref().map(RawText::lossy));
        let name = |text| Name { id: 0, text };
        let values = figures(
            ProcessMetrics::METRICS,
            &gather::PROCESS_FIELDS,
            &process.metrics,
        );
        let run = Run {
            who: Owner {
                boot: None,
                pid: process.pid,
                start: process.start_ticks,
                comm: Some(name(&comm)),
                uid: process.uid,
                user: None,
                cgroup: cgroup.as_deref().map(name),
                container: None,
                exe: None,
                cmdline: None,
            },
            part: 0,
            times,
            first: 0,
            n: 1,
            values: &values,
        };
        self.processes.take(&run, wanted);
    }

    fn groups(&mut self, sample: &Sample, times: &[i64]) {
        for cgroup in &sample.cgroups {
            let path = cgroup.path.lossy();
            if !wants_cgroup(self.filter, &path) {
                continue;
            }
            let metrics = &cgroup.metrics;
            let known = [metrics.usage_kb, metrics.anon_kb, metrics.swap_kb];
            let values = known.map(|kb| i64::try_from(kb?).ok());
            self.cgroups.take(&CgroupRun {
                path: Name { id: 0, text: &path },
                id: cgroup.id,
                part: 0,
                times,
                first: 0,
                n: 1,
                values: &values,
            });
        }
    }
}
