//! What changed from reading to reading.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::Hash as _;
use std::hash::Hasher as _;

use crate::model::MappingMetrics;
use crate::model::MappingSample;
use crate::model::Nanos;
use crate::model::ProcessMappings;
use crate::model::RegionKind;
use crate::report::inspect::Change;
use crate::report::inspect::Figures;
use crate::report::inspect::GrownMapping;
use crate::report::inspect::KindChange;
use crate::report::inspect::Reading;
use crate::report::inspect::address;
use crate::report::inspect::name;

/// Most grown mappings that are told.
const GROWN: usize = 20;

/// Remembers the first and the last reading, no more.
#[derive(Debug, Default)]
pub struct Changes {
    first: Option<Moment>,
    last: Option<Moment>,
    readings: u64,
}

/// What mappings are compared within: pid, start of the process, file or name. A heap grows at its end, a stack
/// downwards, and neighbours become one: so those that overlap are the same.
type Place = (u32, u64, u64);

/// A mapping: first address, end, resident and swapped memory together.
type Span = (u64, u64, u64);

fn place(process: &ProcessMappings, mapping: &MappingSample) -> Place {
    let mut hasher = std::hash::DefaultHasher::new();
    (mapping.path.as_bytes(), mapping.inode).hash(&mut hasher);
    let process = &process.process;
    (process.pid, process.start_ticks, hasher.finish())
}

#[derive(Clone, Debug, Default)]
struct Moment {
    ts_ns: Nanos,
    totals: Sum,
    kinds: BTreeMap<RegionKind, Sum>,
    /// In the order of addresses.
    places: HashMap<Place, Vec<Span>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    mappings: u64,
    rss_kb: Option<u64>,
    pss_kb: Option<u64>,
    swap_kb: Option<u64>,
}

impl Sum {
    fn add(&mut self, metrics: &MappingMetrics) {
        let add = |sum: &mut Option<u64>, more: Option<u64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        };
        self.mappings += 1;
        add(&mut self.rss_kb, metrics.rss_kb);
        add(&mut self.pss_kb, metrics.pss_kb);
        add(&mut self.swap_kb, metrics.swap_kb);
    }
}

fn held(mapping: &MappingSample) -> Option<u64> {
    let metrics = &mapping.metrics;
    Some(metrics.rss_kb?.saturating_add(metrics.swap_kb.unwrap_or(0)))
}

impl Changes {
    /// Takes a reading and says what changed.
    pub fn push(&mut self, processes: &[ProcessMappings], time: Option<String>) -> Reading {
        let mut now = Moment::default();
        let mut totals = MappingMetrics::default();
        for process in processes {
            now.ts_ns = now.ts_ns.max(process.ts_ns);
            for mapping in &process.mappings {
                totals.add(&mapping.metrics);
                now.totals.add(&mapping.metrics);
                now.kinds
                    .entry(mapping.kind)
                    .or_default()
                    .add(&mapping.metrics);
                if let Some(held) = held(mapping) {
                    let span = (mapping.start, mapping.end, held);
                    let place = place(process, mapping);
                    now.places.entry(place).or_default().push(span);
                }
            }
        }
        for spans in now.places.values_mut() {
            spans.sort_unstable();
        }
        self.readings += 1;
        let since = |then: &Option<Moment>| Some(change(then.as_ref()?, &now, processes));
        let reading = Reading {
            time,
            readings: self.readings,
            processes: processes.len() as u64,
            elapsed_s: self
                .first
                .as_ref()
                .map_or(0.0, |first| seconds(first, &now)),
            ended: false,
            totals: Figures::from(totals),
            mappings: now.totals.mappings,
            since_last: since(&self.last),
            since_start: since(&self.first),
        };
        if self.first.is_none() {
            self.first = Some(now.clone());
        }
        self.last = Some(now);
        reading
    }
}

fn seconds(from: &Moment, to: &Moment) -> f64 {
    to.ts_ns.saturating_sub(from.ts_ns) as f64 / 1e9
}

/// Signed difference.
fn minus(to: u64, from: u64) -> i64 {
    i64::try_from(i128::from(to) - i128::from(from)).unwrap_or(i64::MAX)
}

fn grown(to: Option<u64>, from: Option<u64>) -> Option<i64> {
    // A kind that is new grew from nothing.
    (to.is_some() || from.is_some()).then(|| minus(to.unwrap_or(0), from.unwrap_or(0)))
}

fn change(then: &Moment, now: &Moment, processes: &[ProcessMappings]) -> Change {
    let kinds: std::collections::BTreeSet<RegionKind> =
        then.kinds.keys().chain(now.kinds.keys()).copied().collect();
    let mut by_kind: Vec<KindChange> = kinds
        .into_iter()
        .map(|kind| {
            let from = then.kinds.get(&kind).copied().unwrap_or_default();
            let to = now.kinds.get(&kind).copied().unwrap_or_default();
            KindChange {
                kind,
                rss_kb: grown(to.rss_kb, from.rss_kb),
                pss_kb: grown(to.pss_kb, from.pss_kb),
                swap_kb: grown(to.swap_kb, from.swap_kb),
                mappings: minus(to.mappings, from.mappings),
            }
        })
        .filter(|row| {
            let figures = [row.rss_kb, row.pss_kb, row.swap_kb, Some(row.mappings)];
            figures.into_iter().flatten().any(|figure| figure != 0)
        })
        .collect();
    by_kind.sort_by_key(|row| {
        let moved = row.rss_kb.unwrap_or(0).unsigned_abs();
        std::cmp::Reverse(moved.saturating_add(row.swap_kb.unwrap_or(0).unsigned_abs()))
    });
    Change {
        seconds: seconds(then, now),
        rss_kb: grown(now.totals.rss_kb, then.totals.rss_kb),
        pss_kb: grown(now.totals.pss_kb, then.totals.pss_kb),
        swap_kb: grown(now.totals.swap_kb, then.totals.swap_kb),
        mappings: minus(now.totals.mappings, then.totals.mappings),
        by_kind,
        grown: mappings(then, processes),
    }
}

/// Growth of mappings that overlap, together: told of the one that holds most; and whether nothing was there.
fn compare<'a>(
    before: &[Span],
    now: &[(Span, &'a MappingSample)],
) -> Vec<(i64, bool, &'a MappingSample)> {
    let (mut old, mut new) = (before.iter().peekable(), now.iter().peekable());
    let mut found = Vec::new();
    while let Some(((start, end, held), mapping)) = new.next() {
        let (mut to, mut largest, mut sum) = (*end, (*held, *mapping), *held);
        let (mut from_sum, mut fresh) = (0_u64, true);
        // Those that ended below it are gone.
        while old.next_if(|(_, ends, _)| ends <= start).is_some() {}
        loop {
            if let Some((_, ends, held)) = old.next_if(|(begins, ..)| *begins < to) {
                from_sum = from_sum.saturating_add(*held);
                fresh = false;
                to = to.max(*ends);
            } else if let Some(((_, ends, held), mapping)) =
                new.next_if(|((begins, ..), _)| *begins < to)
            {
                sum = sum.saturating_add(*held);
                if *held > largest.0 {
                    largest = (*held, *mapping);
                }
                to = to.max(*ends);
            } else {
                break;
            }
        }
        found.push((minus(sum, from_sum), fresh, largest.1));
    }
    found
}

/// The mappings that grew most.
fn mappings(then: &Moment, processes: &[ProcessMappings]) -> Vec<GrownMapping> {
    let mut found: Vec<(i64, bool, u32, &MappingSample)> = Vec::new();
    for process in processes {
        let mut here: HashMap<Place, Vec<(Span, &MappingSample)>> = HashMap::new();
        for mapping in &process.mappings {
            if let Some(held) = held(mapping) {
                let span = (mapping.start, mapping.end, held);
                let of = here.entry(place(process, mapping)).or_default();
                of.push((span, mapping));
            }
        }
        for (place, mut now) in here {
            now.sort_by_key(|(span, _)| *span);
            let before = then.places.get(&place).map_or(&[][..], |spans| spans);
            for (more, new, mapping) in compare(before, &now) {
                if more > 0 {
                    found.push((more, new, place.0, mapping));
                }
            }
        }
    }
    found.sort_by_key(|(more, _, pid, mapping)| (std::cmp::Reverse(*more), *pid, mapping.start));
    found.truncate(GROWN);
    let tell = |(grown_kb, new, pid, mapping): (i64, bool, u32, &MappingSample)| {
        let (path, _) = name(mapping);
        GrownMapping {
            pid,
            start: address(mapping.start),
            kind: mapping.kind,
            path: (!path.is_empty()).then_some(path),
            new,
            grown_kb,
            rss_kb: mapping.metrics.rss_kb,
            swap_kb: mapping.metrics.swap_kb,
        }
    };
    found.into_iter().map(tell).collect()
}
