//! `trace reclaim`: stalls become latencies by kind, process, cgroup, order and flags; the longest are kept
//! with their stacks, and the kernel's own counts stand beside ours.
//!
//! Memory is bounded: processes, cgroups, orders and masks beyond [`MOST`] of each are put together.

mod build;
mod findings;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

use super::latency::Latencies;
use crate::model::CgroupSample;
use crate::model::ClockPair;
use crate::model::End;
use crate::model::Event;
use crate::model::EventKind;
use crate::model::Frame;
use crate::model::Identity;
use crate::model::Item;
use crate::model::Losses;
use crate::model::Nanos;
use crate::model::RawText;
use crate::model::Session;
use crate::model::Stall;
use crate::model::StallKind;
use crate::model::SymbolSpace;
use crate::model::SystemMetrics;

/// Most processes, cgroups, orders and masks each.
const MOST: usize = 1024;
/// Long stalls that are kept.
const LONGEST: usize = 20;
/// `COMPACT_SUCCESS` (include/linux/compaction.h); what is less made no block, but for what was not tried.
const COMPACT_SUCCESS: i32 = 8;
/// `COMPACT_COMPLETE`: the whole zone, and no block. `COMPACT_PARTIAL_SKIPPED` is 6.
const COMPACT_COMPLETE: i32 = 5;

/// Latencies and what they brought.
#[derive(Clone, Debug, Default)]
struct Tally {
    latencies: Latencies,
    scanned: Option<u64>,
    reclaimed: Option<u64>,
    /// Compactions that ended without a block.
    failed: u64,
}

impl Tally {
    fn add(&mut self, ns: Nanos, stall: &Stall) {
        self.latencies.add(ns);
        let sum = |sum: &mut Option<u64>, more: Option<u64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        };
        sum(&mut self.scanned, stall.scanned);
        sum(&mut self.reclaimed, stall.reclaimed);
        self.failed += u64::from(failed(stall));
    }
}

/// Whether a compaction looked at a zone to no avail.
fn failed(stall: &Stall) -> bool {
    stall.kind == StallKind::Compaction
        && stall
            .status
            .is_some_and(|status| (COMPACT_COMPLETE..COMPACT_SUCCESS).contains(&status))
}

#[derive(Clone, Debug, Default)]
struct Process {
    comm: RawText,
    memcg: Option<u64>,
    tally: Tally,
    by_kind: BTreeMap<StallKind, Nanos>,
}

#[derive(Clone, Debug, Default)]
struct Cgroup {
    tally: Tally,
    memcg_ns: Nanos,
    pids: BTreeSet<u32>,
}

/// A cgroup's figures at the first and the last look.
#[derive(Clone, Debug)]
struct Limited {
    id: u64,
    first_hits: Option<u64>,
    hits: Option<u64>,
    limit_kb: Option<u64>,
}

/// Takes items, gives the report.
#[derive(Clone, Debug, Default)]
pub struct Stalls {
    session: Session,
    clock: Option<ClockPair>,
    kinds: BTreeMap<(StallKind, bool), Tally>,
    processes: HashMap<u32, Process>,
    cgroups: HashMap<u64, Cgroup>,
    orders: BTreeMap<(StallKind, i32), Tally>,
    masks: HashMap<u32, (u64, Nanos)>,
    longest: Vec<(Nanos, Stall)>,
    identities: HashMap<u32, Identity>,
    kernel: BTreeMap<u64, Vec<Frame>>,
    paths: HashMap<u64, RawText>,
    limited: HashMap<RawText, Limited>,
    /// The first and the last sample of the host.
    system: Option<((Nanos, SystemMetrics), (Nanos, SystemMetrics))>,
    /// Direct stalls and compactions of tasks, by their beginning: for the comparison.
    direct: u64,
    compactions: u64,
    direct_scanned: u64,
    losses: Losses,
    end: Option<End>,
    /// Stalls whose process found no place of its own.
    beyond: u64,
    last_ns: Nanos,
}

impl Stalls {
    /// Takes the next item.
    pub fn push(&mut self, item: &Item) {
        match item {
            Item::Session(session) => self.session = session.clone(),
            Item::Clock(pair) => {
                self.clock.get_or_insert(*pair);
            }
            Item::Event(Event {
                ts_ns,
                kind: EventKind::Stall(stall),
                ..
            }) => self.stall(*ts_ns, stall),
            Item::Sample(sample) => {
                if let Some(system) = &sample.system {
                    let this = (sample.ts_ns, system.clone());
                    self.system = Some(match self.system.take() {
                        Some((first, last)) if last.0 <= this.0 => (first, this),
                        Some(both) => both,
                        None => (this.clone(), this),
                    });
                }
                sample.cgroups.iter().for_each(|one| self.cgroup(one));
            }
            Item::Identity(identity) => {
                let mut identity = identity.clone();
                identity.mappings = Vec::new();
                if self.identities.len() < 4 * MOST || self.identities.contains_key(&identity.pid) {
                    self.identities.insert(identity.pid, identity);
                }
            }
            Item::Symbols(set) if set.space == SymbolSpace::Kernel => {
                for symbol in &set.symbols {
                    self.kernel.insert(symbol.ip, symbol.frames.clone());
                }
            }
            Item::Losses(losses) => self.losses = losses.clone(),
            Item::End(end) => self.end = Some(end.clone()),
            _ => {}
        }
    }

    /// How it goes, in one line.
    #[must_use]
    pub fn now(&self) -> String {
        let waits = self.kinds.iter().filter(|((_, background), _)| !background);
        let (count, ns) = waits.fold((0, 0), |(count, ns), (_, tally)| {
            let latencies = &tally.latencies;
            (count + latencies.count(), ns + latencies.total_ns())
        });
        let worst = self.processes.iter().max_by_key(|(pid, process)| {
            (process.tally.latencies.total_ns(), std::cmp::Reverse(**pid))
        });
        let worst = worst.map_or_else(String::new, |(pid, process)| {
            let ms = process.tally.latencies.total_ns() / 1_000_000;
            let comm = process.comm.lossy();
            format!("; most: {comm} (pid {pid}) {ms} ms")
        });
        let ms = ns / 1_000_000;
        format!("{count} stalls, {ms} ms{worst}")
    }

    fn cgroup(&mut self, sample: &CgroupSample) {
        if self.paths.len() < 16 * MOST {
            self.paths.insert(sample.id, sample.path.clone());
        }
        let (hits, limit_kb) = (sample.metrics.failcnt, sample.metrics.limit_kb);
        if limit_kb.is_none() && sample.metrics.high_kb.is_none() {
            return;
        }
        let known = self.limited.entry(sample.path.clone()).or_insert(Limited {
            id: sample.id,
            first_hits: hits,
            hits,
            limit_kb,
        });
        if known.id == sample.id {
            (known.hits, known.limit_kb) = (hits, limit_kb);
        }
    }

    fn stall(&mut self, end_ns: Nanos, stall: &Stall) {
        let ns = end_ns.saturating_sub(stall.begin_ns);
        self.last_ns = self.last_ns.max(end_ns);
        let background = is_background(stall);
        self.kinds
            .entry((stall.kind, background))
            .or_default()
            .add(ns, stall);
        let begun = (self.system.as_ref()).is_none_or(|(first, _)| stall.begin_ns >= first.0);
        match stall.kind {
            StallKind::Direct if begun => {
                self.direct += 1;
                self.direct_scanned += stall.scanned.unwrap_or(0);
            }
            StallKind::Compaction if begun && !background => self.compactions += 1,
            _ => {}
        }
        if let Some(order) = stall.order {
            let rows = &mut self.orders;
            if rows.len() < MOST || rows.contains_key(&(stall.kind, order)) {
                rows.entry((stall.kind, order)).or_default().add(ns, stall);
            }
        }
        if background {
            return;
        }
        if let Some(mask) = stall.gfp_mask
            && (self.masks.len() < MOST || self.masks.contains_key(&mask))
        {
            let row = self.masks.entry(mask).or_default();
            *row = (row.0 + 1, row.1 + ns);
        }
        self.long(ns, stall);
        let pid = stall.task.pid;
        if self.processes.len() >= MOST && !self.processes.contains_key(&pid) {
            self.beyond += 1;
        } else {
            let process = self.processes.entry(pid).or_default();
            if process.comm.as_bytes().is_empty() {
                process.comm = stall.task.comm.clone();
            }
            process.memcg = stall.task.memcg_id.or(process.memcg);
            *process.by_kind.entry(stall.kind).or_default() += ns;
            // A throttled task sleeps inside of a reclaim that is counted as a whole.
            if stall.kind != StallKind::Throttled {
                process.tally.add(ns, stall);
            }
        }
        if let Some(id) = stall.task.memcg_id
            && stall.kind != StallKind::Throttled
            && (self.cgroups.len() < MOST || self.cgroups.contains_key(&id))
        {
            let cgroup = self.cgroups.entry(id).or_default();
            cgroup.tally.add(ns, stall);
            if stall.kind == StallKind::Memcg {
                cgroup.memcg_ns += ns;
            }
            if cgroup.pids.len() < MOST {
                cgroup.pids.insert(pid);
            }
        }
    }

    fn long(&mut self, ns: Nanos, stall: &Stall) {
        let full = self.longest.len() >= LONGEST;
        if full && self.longest.last().is_some_and(|last| last.0 >= ns) {
            return;
        }
        let at = self.longest.partition_point(|one| one.0 >= ns);
        self.longest.insert(at, (ns, stall.clone()));
        self.longest.truncate(LONGEST);
    }
}

/// Work of a kernel thread: nobody waits for it.
fn is_background(stall: &Stall) -> bool {
    let comm = stall.task.comm.as_bytes();
    stall.kind == StallKind::Kswapd || comm.starts_with(b"kcompactd") || comm.starts_with(b"kswapd")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TaskRef;

    fn stall(kind: StallKind, pid: u32, begin_ms: u64, ms: u64) -> Item {
        Item::Event(Event {
            ts_ns: (begin_ms + ms) * 1_000_000,
            received_ns: None,
            cpu: 0,
            kind: EventKind::Stall(Box::new(Stall {
                task: TaskRef {
                    pid,
                    tid: pid,
                    comm: RawText::from("worker"),
                    start_ns: None,
                    memcg_id: Some(u64::from(pid)),
                },
                kind,
                begin_ns: begin_ms * 1_000_000,
                reclaimed: Some(32),
                scanned: Some(64),
                gfp_mask: Some(0xcc0),
                order: Some(4),
                status: (kind == StallKind::Compaction).then_some(COMPACT_COMPLETE),
                node: None,
                stack: Vec::new(),
            })),
        })
    }

    fn hits(ts_ms: u64, counts: &[(u64, &str, u64)]) -> Item {
        let cgroups = counts.iter().map(|(id, path, hits)| CgroupSample {
            path: RawText::from(*path),
            id: *id,
            metrics: crate::model::CgroupMetrics {
                limit_kb: Some(1024),
                failcnt: Some(*hits),
                ..Default::default()
            },
            ..CgroupSample::default()
        });
        Item::Sample(crate::model::Sample {
            ts_ns: ts_ms * 1_000_000,
            cgroups: cgroups.collect(),
            ..Default::default()
        })
    }

    #[test]
    fn waits_are_summed_and_sleeps_inside_of_them_are_not() {
        let mut stalls = Stalls::default();
        for item in [
            stall(StallKind::Direct, 1, 0, 10),
            stall(StallKind::Throttled, 1, 5, 5),
            stall(StallKind::Compaction, 1, 20, 2),
            stall(StallKind::Memcg, 2, 30, 150),
        ] {
            stalls.push(&item);
        }
        let data = stalls.finish().data;
        let rows: Vec<_> = data
            .processes
            .iter()
            .map(|row| (row.pid, row.latency.count))
            .collect();
        assert_eq!(rows, [(2, 1), (1, 2)]);
        assert_eq!(data.processes[1].latency.total_ms, 12.0);
        assert_eq!(data.processes[1].by_kind_ms["throttled"], 5.0);
        assert_eq!(data.processes[1].pages.efficiency, Some(0.5));
        let longest: Vec<f64> = data.longest.iter().map(|row| row.ms).collect();
        assert_eq!(longest, [150.0, 10.0, 5.0, 2.0]);
        assert_eq!(data.gfp[0].count, 4);
    }

    #[test]
    fn a_wait_is_laid_at_the_limit_that_was_hit() {
        let mut stalls = Stalls::default();
        let paths = [(7, "/pods", 5), (2, "/pods/web", 3), (9, "/podsother", 0)];
        stalls.push(&hits(0, &paths));
        stalls.push(&stall(StallKind::Memcg, 2, 1, 200));
        stalls.push(&hits(
            500,
            &[(7, "/pods", 50), (2, "/pods/web", 3), (9, "/podsother", 99)],
        ));
        let outcome = stalls.finish();
        let row = &outcome.data.cgroups[0];
        assert_eq!(row.cgroup.as_deref(), Some("/pods/web"));
        assert_eq!(row.limited_by.as_deref(), Some("/pods"));
        assert_eq!((row.limit_kb, row.limit_hits), (Some(1024), Some(45)));
        let ids: Vec<_> = outcome.findings.iter().map(|one| one.id).collect();
        assert!(ids.contains(&"reclaim-cgroup-limit"), "{ids:?}");
        assert!(ids.contains(&"reclaim-long-stall"), "{ids:?}");
    }

    #[test]
    fn failed_compactions_of_a_high_order_are_told() {
        let mut stalls = Stalls::default();
        stalls.push(&stall(StallKind::Compaction, 1, 0, 1));
        let outcome = stalls.finish();
        assert_eq!(outcome.data.orders[0].failed, Some(1));
        assert!(
            outcome
                .findings
                .iter()
                .any(|one| one.id == "reclaim-fragmented")
        );
        assert!(!outcome.accounting.complete, "no end was seen");
    }
}
