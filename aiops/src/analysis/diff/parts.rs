//! Regions, cgroups, slab caches, swap devices and settings of both snapshots.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::analysis::readings::Readings;
use crate::analysis::readings::key;
use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::Detail;
use crate::model::RegionKind;
use crate::model::RegionSum;
use crate::model::Slab;
use crate::report::diff::CgroupChange;
use crate::report::diff::Change;
use crate::report::diff::RegionChange;
use crate::report::diff::SettingChange;
use crate::report::diff::SlabChange;
use crate::report::diff::Status;
use crate::report::diff::SwapChange;

use super::Elapsed;
use super::pairs::Matched;

/// A region row between two sums; one that is not there has nothing.
fn region(kind: RegionKind, from: &RegionSum, to: &RegionSum) -> RegionChange {
    let figure = |get: fn(&crate::model::MappingMetrics) -> Option<u64>| {
        let (a, b) = (get(&from.metrics), get(&to.metrics));
        let absent =
            |sum: &RegionSum, other: Option<u64>| other.filter(|_| sum.mappings == 0).map(|_| 0);
        Change::new(a.or(absent(from, b)), b.or(absent(to, a)))
    };
    RegionChange {
        kind,
        mappings: Change::new(Some(from.mappings), Some(to.mappings)),
        size_kb: figure(|metrics| metrics.size_kb),
        rss_kb: figure(|metrics| metrics.rss_kb),
        pss_kb: figure(|metrics| metrics.pss_kb),
        swap_kb: figure(|metrics| metrics.swap_kb),
        ..RegionChange::default()
    }
}

fn add(sum: &mut RegionSum, more: &RegionSum) {
    sum.mappings = sum.mappings.saturating_add(more.mappings);
    sum.metrics.add(&more.metrics);
}

fn moved(row: &RegionChange) -> u64 {
    let delta = |change: Change| change.delta.map_or(0, i64::unsigned_abs);
    delta(row.rss_kb).max(delta(row.swap_kb))
}

/// By kind over all processes of either, and by file of each process that is in both; `None`: mappings
/// were not taken in both.
pub(super) fn regions(
    first: &Readings,
    second: &Readings,
    pairs: &[Matched<'_>],
) -> Option<(Vec<RegionChange>, Vec<RegionChange>)> {
    if first.regions.is_empty() || second.regions.is_empty() {
        return None;
    }
    let mut kinds: BTreeMap<RegionKind, (RegionSum, RegionSum)> = BTreeMap::new();
    let mut rows = Vec::new();
    for pair in pairs {
        let of = |readings: &Readings, process: Option<&crate::model::ProcessSample>| {
            let regions = readings.regions.get(&key(process?))?;
            Some(regions.regions.clone())
        };
        let (from, to) = (of(first, pair.old), of(second, pair.new));
        // One whose mappings could be read only once would look like growth.
        if from.is_none() && pair.old.is_some() || to.is_none() && pair.new.is_some() {
            continue;
        }
        let mut sums: BTreeMap<_, (RegionSum, RegionSum)> = BTreeMap::new();
        for sum in from.unwrap_or_default() {
            add(&mut kinds.entry(sum.kind).or_default().0, &sum);
            add(
                &mut sums.entry((sum.kind, sum.path.clone())).or_default().0,
                &sum,
            );
        }
        for sum in to.unwrap_or_default() {
            add(&mut kinds.entry(sum.kind).or_default().1, &sum);
            add(
                &mut sums.entry((sum.kind, sum.path.clone())).or_default().1,
                &sum,
            );
        }
        // A process that is new or gone has its regions, too: else the kinds would not add up to the rows.
        let Some(new) = pair.new.or(pair.old) else {
            continue;
        };
        for ((kind, path), (from, to)) in &sums {
            let row = RegionChange {
                pid: Some(new.pid),
                start: Some(new.start_ticks),
                comm: Some(new.comm.lossy().into_owned()),
                path: path.as_ref().map(|path| path.lossy().into_owned()),
                ..region(*kind, from, to)
            };
            if moved(&row) > 0 || row.mappings.delta != Some(0) {
                rows.push(row);
            }
        }
    }
    let mut kinds: Vec<RegionChange> = kinds
        .iter()
        .map(|(kind, (from, to))| region(*kind, from, to))
        .collect();
    kinds.sort_by_key(|row| std::cmp::Reverse(moved(row)));
    rows.sort_by_key(|row| (std::cmp::Reverse(moved(row)), row.pid));
    Some((kinds, rows))
}

/// Every memory cgroup of either, by path.
pub(super) fn cgroups(
    first: &Readings,
    second: &Readings,
    same_boot: bool,
    elapsed: Elapsed,
) -> Vec<CgroupChange> {
    type Rows<'a> = BTreeMap<&'a [u8], &'a CgroupSample>;
    let list = |readings| -> Rows<'_> {
        let readings: &Readings = readings;
        let samples = readings.newest().map(|sample| &sample.cgroups);
        let samples = samples.into_iter().flatten();
        samples.map(|one| (one.path.as_bytes(), one)).collect()
    };
    let (old, new) = (list(first), list(second));
    // The tracer samples limited cgroups only: what such a sample does not hold may be there all the same.
    let whole = |rows: &Rows<'_>| {
        let unlimited =
            |one: &CgroupSample| one.metrics.limit_kb.is_none() && one.metrics.high_kb.is_none();
        let mut rows = rows.values().filter(|one| one.path.as_bytes() != b"/");
        rows.any(|one| unlimited(one))
    };
    let paths: BTreeSet<&[u8]> = old.keys().chain(new.keys()).copied().collect();
    let row = |path: &[u8]| {
        let (from, to) = (old.get(path).copied(), new.get(path).copied());
        let one = to.or(from)?;
        let status = match (from, to) {
            (Some(from), Some(to)) if same_boot && from.id != to.id => Some(Status::Restarted),
            (Some(_), Some(_)) => Some(Status::Same),
            (None, _) => whole(&old).then_some(Status::New),
            (_, None) => whole(&new).then_some(Status::Gone),
        };
        let figure = |get: fn(&CgroupMetrics) -> Option<u64>| {
            let of = |one: Option<&CgroupSample>| one.and_then(|one| get(&one.metrics));
            Change::new(of(from), of(to))
        };
        // Counts of a cgroup that was made again, or of another boot, begin anew.
        let counter = |get| {
            let mut change = figure(get);
            change.delta = change
                .delta
                .filter(|_| status == Some(Status::Same) && same_boot);
            change
        };
        let usage_kb = figure(|metrics| metrics.usage_kb);
        Some(CgroupChange {
            path: one.path.lossy().into_owned(),
            status,
            usage_kb,
            anon_kb: figure(|metrics| metrics.anon_kb),
            file_kb: figure(|metrics| metrics.file_kb),
            swap_kb: figure(|metrics| metrics.swap_kb),
            limit_kb: figure(|metrics| metrics.limit_kb),
            failcnt: counter(|metrics| metrics.failcnt),
            oom_kill: counter(|metrics| metrics.oom_kill),
            rate_kb_per_hour: elapsed
                .per_hour(usage_kb.delta)
                .filter(|_| status == Some(Status::Same)),
        })
    };
    let mut rows: Vec<CgroupChange> = paths.into_iter().filter_map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.usage_kb.delta.map(i64::unsigned_abs)));
    rows
}

fn details<'a>(first: &'a Readings, second: &'a Readings) -> Option<(&'a Detail, &'a Detail)> {
    first.detail().zip(second.detail())
}

/// Every slab cache of either.
pub(super) fn slab(
    first: &Readings,
    second: &Readings,
    elapsed: Elapsed,
) -> Option<Vec<SlabChange>> {
    let (a, b) = details(first, second)?;
    let (a, b) = a.slabs.as_ref().zip(b.slabs.as_ref())?;
    let mut rows: BTreeMap<&[u8], (Option<&Slab>, Option<&Slab>)> = BTreeMap::new();
    for slab in a {
        rows.entry(slab.name.as_bytes()).or_default().0 = Some(slab);
    }
    for slab in b {
        rows.entry(slab.name.as_bytes()).or_default().1 = Some(slab);
    }
    let size = |slab: Option<&Slab>, page_kb: u64| {
        // A cache that is not there has no memory.
        let slab = slab.map(|slab| slab.slabs.saturating_mul(slab.pages_per_slab));
        Some(slab.map_or(0, |pages| pages.saturating_mul(page_kb)))
    };
    let objects = |slab: Option<&Slab>| Some(slab.map_or(0, |slab| slab.active_objects));
    let row = |(from, to): &(Option<&Slab>, Option<&Slab>)| {
        let one = to.or(*from)?;
        let size_kb = Change::new(size(*from, first.page_kb()), size(*to, second.page_kb()));
        Some(SlabChange {
            name: one.name.lossy().into_owned(),
            active_objects: Change::new(objects(*from), objects(*to)),
            reclaimable: one.reclaimable,
            rate_kb_per_hour: elapsed.per_hour(size_kb.delta),
            size_kb,
        })
    };
    let mut rows: Vec<SlabChange> = rows.values().filter_map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.size_kb.delta.map(i64::unsigned_abs)));
    Some(rows)
}

/// Every swap device of either.
pub(super) fn swap_devices(first: &Readings, second: &Readings) -> Option<Vec<SwapChange>> {
    let (a, b) = details(first, second)?;
    let (a, b) = a.swaps.as_ref().zip(b.swaps.as_ref())?;
    let mut rows: BTreeMap<&[u8], SwapChange> = BTreeMap::new();
    for device in a.iter().chain(b) {
        let of = |list: &[crate::model::SwapDevice]| {
            let found = list.iter().find(|one| one.path == device.path);
            found.map_or((0, 0), |one| (one.size_kb, one.used_kb))
        };
        let (from, to) = (of(a), of(b));
        rows.insert(
            device.path.as_bytes(),
            SwapChange {
                path: device.path.lossy().into_owned(),
                size_kb: Change::new(Some(from.0), Some(to.0)),
                used_kb: Change::new(Some(from.1), Some(to.1)),
            },
        );
    }
    Some(rows.into_values().collect())
}

/// Settings that are not the same.
pub(super) fn settings(first: &Readings, second: &Readings) -> Vec<SettingChange> {
    let Some((a, b)) = details(first, second) else {
        return Vec::new();
    };
    let names = a.settings.iter().chain(&b.settings);
    let names: BTreeSet<&str> = names.map(|setting| setting.name.as_str()).collect();
    let rows = names.into_iter().map(|name| SettingChange {
        name: name.to_owned(),
        from: a.setting_text(name).map(str::to_owned),
        to: b.setting_text(name).map(str::to_owned),
    });
    rows.filter(|row| row.from != row.to).collect()
}
