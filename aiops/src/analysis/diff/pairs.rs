//! Who is who in both snapshots: by pid and start within a boot, else by name, cgroup and arguments.

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::analysis::readings::ProcessKey;
use crate::analysis::readings::Readings;
use crate::analysis::readings::key;
use crate::model::Identity;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::report::diff::Change;
use crate::report::diff::ProcessChange;
use crate::report::diff::Status;

use super::Elapsed;

/// A process in the first, in the second, or in both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matched<'a> {
    pub(super) old: Option<&'a ProcessSample>,
    pub(super) new: Option<&'a ProcessSample>,
    pub(super) status: Status,
}

/// What tells processes of a service apart from those of others.
type Name<'a> = (&'a RawText, Option<&'a RawText>, Vec<&'a RawText>);

/// Every process of either, once.
pub(super) fn pairs<'a>(
    first: &'a Readings,
    second: &'a Readings,
    same_boot: bool,
) -> Vec<Matched<'a>> {
    let list = |readings: &'a Readings| -> Vec<&'a ProcessSample> {
        let sample = readings.newest();
        let all = sample.map_or(&[][..], |sample| sample.processes.as_slice());
        let theirs = all.iter().filter(|one| !is_recorder(readings, one));
        theirs.collect()
    };
    let mut old: BTreeMap<ProcessKey, &ProcessSample> =
        list(first).into_iter().map(|one| (key(one), one)).collect();
    let mut found = Vec::new();
    let mut rest: BTreeMap<ProcessKey, &ProcessSample> = BTreeMap::new();
    for new in list(second) {
        match old.remove(&key(new)).filter(|_| same_boot) {
            Some(old) => found.push(Matched {
                old: Some(old),
                new: Some(new),
                status: Status::Same,
            }),
            None => {
                rest.insert(key(new), new);
            }
        }
    }
    if !same_boot {
        // What was taken out by an accident of pids goes back.
        old = list(first).into_iter().map(|one| (key(one), one)).collect();
    }
    // With the same arguments as many as there are; else only where the numbers leave no doubt.
    for exact in [true, false] {
        by_name(&mut old, &mut rest, (first, second), exact, &mut found);
    }
    found.extend(rest.into_values().map(|new| Matched {
        old: None,
        new: Some(new),
        status: Status::New,
    }));
    found.extend(old.into_values().map(|old| Matched {
        old: Some(old),
        new: None,
        status: Status::Gone,
    }));
    found
}

/// Whether a process is the program that took the snapshot: it is in both, and says nothing of the host.
fn is_recorder(readings: &Readings, process: &ProcessSample) -> bool {
    let identity = readings.identity(key(process));
    let words = identity.map_or(&[][..], |identity| identity.cmdline.as_slice());
    let named = |word: &str| words.iter().any(|one| one.as_bytes() == word.as_bytes());
    let program = words
        .first()
        .is_some_and(|path| path.as_bytes().ends_with(b"aiops"));
    program && named("collect") && named("memory")
}

fn by_name<'a>(
    old: &mut BTreeMap<ProcessKey, &'a ProcessSample>,
    new: &mut BTreeMap<ProcessKey, &'a ProcessSample>,
    (first, second): (&'a Readings, &'a Readings),
    exact: bool,
    found: &mut Vec<Matched<'a>>,
) {
    let name = |readings: &'a Readings, process: &'a ProcessSample| -> Name<'a> {
        let identity = readings.identity(key(process));
        let cgroup = identity.and_then(|identity| identity.cgroup.as_ref());
        let all = identity.map_or(&[][..], |identity| identity.cmdline.as_slice());
        // What an interpreter runs is its first argument that is no option; options may change.
        let option = |word: &&RawText| word.as_bytes().starts_with(b"-");
        let arguments: Vec<&RawText> = if exact {
            all.iter().collect()
        } else {
            let program = all.first().into_iter();
            let script = all.iter().skip(1).find(|word| !option(word));
            program.chain(script).collect()
        };
        (&process.comm, cgroup, arguments)
    };
    let mut groups: HashMap<Name<'a>, Vec<&'a ProcessSample>> = HashMap::new();
    for process in old.values() {
        groups
            .entry(name(first, process))
            .or_default()
            .push(process);
    }
    let mut wanted: BTreeMap<Name<'a>, Vec<&'a ProcessSample>> = BTreeMap::new();
    for process in new.values() {
        wanted
            .entry(name(second, process))
            .or_default()
            .push(process);
    }
    for (name, mut news) in wanted {
        let Some(mut olds) = groups.remove(&name) else {
            continue;
        };
        if !exact && olds.len() != news.len() {
            continue;
        }
        // The largest stands for the largest: workers of a pool have no other names.
        for list in [&mut olds, &mut news] {
            list.sort_by_key(|one| (std::cmp::Reverse(one.metrics.rss_kb), one.pid));
        }
        for (before, after) in olds.into_iter().zip(news) {
            old.remove(&key(before));
            new.remove(&key(after));
            found.push(Matched {
                old: Some(before),
                new: Some(after),
                status: Status::Restarted,
            });
        }
    }
}

/// The row of a process.
pub(super) fn change(
    pair: &Matched<'_>,
    first: &Readings,
    second: &Readings,
    all_processes: bool,
    elapsed: Elapsed,
) -> ProcessChange {
    let (one, readings) = match (pair.new, pair.old) {
        (Some(new), _) => (Some(new), second),
        (None, old) => (old, first),
    };
    let Some(one) = one else {
        return ProcessChange::default();
    };
    let identity: Option<&Identity> = readings.identity(key(one));
    let figure = |get: fn(&ProcessMetrics) -> Option<u64>| {
        let of = |process: Option<&ProcessSample>| process.and_then(|one| get(&one.metrics));
        let (from, to) = (of(pair.old), of(pair.new));
        // What was not there had nothing; what may not have been read is not known.
        let absent = |known: Option<u64>| known.filter(|_| all_processes).map(|_| 0);
        match pair.status {
            Status::New => Change::new(absent(to), to),
            Status::Gone => Change::new(from, absent(from)),
            Status::Same | Status::Restarted => Change::new(from, to),
        }
    };
    let rss_kb = figure(|metrics| metrics.rss_kb);
    let swap_kb = figure(|metrics| metrics.swap_kb);
    // An old kernel does not tell what is in swap.
    let growth_kb = rss_kb
        .delta
        .map(|rss| rss.saturating_add(swap_kb.delta.unwrap_or(0)));
    let restarted = pair.old.filter(|_| pair.status == Status::Restarted);
    let container = identity.and_then(|identity| identity.container.as_ref());
    ProcessChange {
        pid: one.pid,
        start: one.start_ticks,
        from_pid: restarted.map(|old| old.pid),
        from_start: restarted.map(|old| old.start_ticks),
        comm: one.comm.lossy().into_owned(),
        cmdline: identity
            .filter(|identity| !identity.cmdline.is_empty())
            .map(|identity| {
                let words: Vec<_> = identity.cmdline.iter().map(RawText::lossy).collect();
                words.join(" ")
            }),
        cgroup: identity
            .and_then(|identity| identity.cgroup.as_ref())
            .map(|path| path.lossy().into_owned()),
        container: container.map(|one| format!("{}:{}", one.runtime, one.id)),
        status: pair.status,
        anon_kb: figure(|metrics| metrics.anon_kb),
        file_kb: figure(|metrics| metrics.file_kb),
        shmem_kb: figure(|metrics| metrics.shmem_kb),
        pss_kb: figure(|metrics| metrics.pss_kb),
        uss_kb: figure(|metrics| metrics.uss_kb),
        vm_size_kb: figure(|metrics| metrics.vm_size_kb),
        threads: figure(|metrics| metrics.threads),
        rss_kb,
        swap_kb,
        growth_kb,
        share_pct: None,
        rate_kb_per_hour: elapsed
            .per_hour(growth_kb)
            .filter(|_| pair.status == Status::Same),
    }
}
