//! `trace swap`: counts of swap entries by process become the report, beside the kernel's own.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashMap;

use super::traced::Traced;
use crate::model::ClockPair;
use crate::model::End;
use crate::model::Identity;
use crate::model::Item;
use crate::model::LossCount;
use crate::model::Losses;
use crate::model::Nanos;
use crate::model::RawText;
use crate::model::Regions;
use crate::model::Session;
use crate::model::SwapRow;
use crate::model::SwapWays;
use crate::model::SystemMetrics;
use crate::msg;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::Severity;
use crate::report::swapping::SwapCgroup;
use crate::report::swapping::SwapProcess;
use crate::report::swapping::SwapRegion;
use crate::report::swapping::SwapTotals;
use crate::report::swapping::SwapTraceData;

/// Most identities that are kept.
const MOST: usize = 8192;
/// Pages in both directions from which a process thrashes, per second.
const THRASH_PER_S: f64 = 1000.0;

/// Takes items, gives the report.
#[derive(Clone, Debug, Default)]
pub struct Swapping {
    session: Session,
    clock: Option<ClockPair>,
    rows: BTreeMap<u32, SwapRow>,
    total: SwapWays,
    identities: HashMap<u32, Identity>,
    paths: HashMap<u64, RawText>,
    /// The first and the last regions of a process.
    regions: HashMap<u32, Vec<Regions>>,
    system: Option<((Nanos, SystemMetrics), (Nanos, SystemMetrics))>,
    losses: Losses,
    end: Option<End>,
    last_ns: Nanos,
}

fn text(raw: &RawText) -> String {
    raw.lossy().into_owned()
}

fn moved(ways: &SwapWays) -> u64 {
    ways.swap_out + ways.swap_in
}

impl Swapping {
    /// Takes the next item.
    pub fn push(&mut self, item: &Item) {
        match item {
            Item::Session(session) => self.session = session.clone(),
            Item::Clock(pair) => {
                self.clock.get_or_insert(*pair);
            }
            Item::Swaps(swaps) => {
                self.total = swaps.total;
                self.last_ns = self.last_ns.max(swaps.ts_ns);
                for row in &swaps.rows {
                    self.rows.insert(row.task.pid, row.clone());
                }
            }
            Item::Sample(sample) => {
                if let Some(system) = &sample.system {
                    let this = (sample.ts_ns, system.clone());
                    self.system = Some(match self.system.take() {
                        Some((first, last)) if last.0 <= this.0 => (first, this),
                        Some(both) => both,
                        None => (this.clone(), this),
                    });
                }
                if self.paths.len() < MOST {
                    let paths = sample.cgroups.iter();
                    self.paths
                        .extend(paths.map(|one| (one.id, one.path.clone())));
                }
            }
            Item::Identity(identity) if self.identities.len() < MOST => {
                let mut identity = identity.clone();
                identity.mappings = Vec::new();
                self.identities.insert(identity.pid, identity);
            }
            Item::Regions(regions) => {
                let both = self.regions.entry(regions.pid).or_default();
                if both.is_empty() {
                    both.push(regions.clone());
                } else if both[0].start_ticks == regions.start_ticks {
                    both.truncate(1);
                    both.push(regions.clone());
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
        let (out, back) = (self.total.swap_out, self.total.swap_in);
        let most = self
            .rows
            .values()
            .max_by_key(|row| (moved(&row.ways), Reverse(row.task.pid)));
        let most = most.map_or_else(String::new, |row| {
            format!("; most: {} (pid {})", row.task.comm.lossy(), row.task.pid)
        });
        format!("{out} pages out, {back} in{most}")
    }

    /// Says what it all came to.
    #[must_use]
    pub fn finish(self) -> Traced<SwapTraceData> {
        let accounting = self.accounting();
        let data = self.data();
        let findings = findings(&data);
        Traced {
            data,
            findings,
            accounting,
            session: self.session,
        }
    }

    fn rfc3339(&self, ts: Nanos) -> Option<String> {
        let pair = self.clock?;
        let offset = i128::from(ts) - i128::from(pair.mono_ns);
        let real = i64::try_from(i128::from(pair.real_ns) + offset).ok()?;
        crate::time::rfc3339(real, self.session.host.utc_offset_s.unwrap_or(0))
    }

    fn data(&self) -> SwapTraceData {
        let end = self.end.as_ref().map_or(self.last_ns, |end| end.ts_ns);
        let ns = end.saturating_sub(self.session.started_ns);
        let seconds = (ns > 0).then_some(ns as f64 / 1e9);
        SwapTraceData {
            start: self.rfc3339(self.session.started_ns),
            duration_s: seconds,
            totals: self.totals(),
            processes: self.processes(seconds),
            cgroups: self.cgroups(),
            notes: self.session.notes.clone(),
            top: 0,
        }
    }

    /// Everything is counted in the kernel; a filter only leaves out rows.
    fn totals(&self) -> SwapTotals {
        let change = |get: fn(&SystemMetrics) -> Option<u64>| {
            let ((from, first), (to, last)) = self.system.as_ref()?;
            if from == to {
                return None;
            }
            Some(get(last)?.saturating_sub(get(first)?))
        };
        let difference = |ours: u64, kernel: Option<u64>| {
            let kernel = kernel.filter(|kernel| *kernel > 0)?;
            Some(ours as f64 / kernel as f64 - 1.0)
        };
        let (pswpout, pswpin) = (change(|set| set.pswpout), change(|set| set.pswpin));
        SwapTotals {
            swap_out_pages: self.total.swap_out,
            swap_in_pages: self.total.swap_in,
            pswpout,
            pswpin,
            swap_ra: change(|set| set.swap_ra),
            out_difference: difference(self.total.swap_out, pswpout),
            in_difference: difference(self.total.swap_in, pswpin),
            other: self.total.other,
            swapoff_pages: self.total.swapoff,
            zswpout: change(|set| set.zswpout),
            zswpin: change(|set| set.zswpin),
            refaults_anon: change(|set| set.workingset_refault_anon),
            major_faults: change(|set| set.pgmajfault),
        }
    }

    fn wanted(&self, row: &SwapRow) -> bool {
        let filter = &self.session.filter;
        if filter.is_empty() {
            return true;
        }
        let comm = row.task.comm.lossy();
        let identity = self.identities.get(&row.task.pid);
        let path = self.path(row, identity);
        let below = |wanted: &String| {
            let wanted = wanted.trim_end_matches('/');
            path.as_ref().is_some_and(|path| {
                let rest = path.as_bytes().strip_prefix(wanted.as_bytes());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            })
        };
        let owned = |wanted: &String| {
            let uid = identity.and_then(|identity| identity.uid);
            uid.is_some() && wanted.parse().ok() == uid
        };
        (filter.pids.is_empty() || filter.pids.contains(&row.task.pid))
            && (filter.comms.is_empty() || filter.comms.iter().any(|one| *one == comm))
            && (filter.cgroups.is_empty() || filter.cgroups.iter().any(below))
            && (filter.users.is_empty() || filter.users.iter().any(owned))
    }

    fn path<'a>(&'a self, row: &SwapRow, identity: Option<&'a Identity>) -> Option<&'a RawText> {
        let path = row.task.memcg_id.and_then(|id| self.paths.get(&id));
        path.or(identity.and_then(|identity| identity.cgroup.as_ref()))
    }

    fn processes(&self, seconds: Option<f64>) -> Vec<SwapProcess> {
        let page_kb = self.session.host.page_size.unwrap_or(4096) as f64 / 1024.0;
        let rate = |pages: u64| Some(pages as f64 * page_kb / seconds?);
        let all = moved(&self.total);
        let rows = self.rows.values().filter(|row| moved(&row.ways) > 0);
        let rows = rows.filter(|row| self.wanted(row)).map(|row| {
            let identity = self.identities.get(&row.task.pid);
            let cmdline = identity.map(|identity| {
                let words: Vec<String> = identity.cmdline.iter().map(text).collect();
                words.join(" ")
            });
            SwapProcess {
                pid: row.task.pid,
                start: identity.and_then(|identity| identity.start_ticks),
                comm: text(&row.task.comm),
                cmdline: cmdline.filter(|line| !line.is_empty()),
                cgroup: self.path(row, identity).map(text),
                container: identity
                    .and_then(|identity| identity.container.as_ref())
                    .map(|container| format!("{}:{}", container.runtime, container.id)),
                swap_out_pages: row.ways.swap_out,
                swap_in_pages: row.ways.swap_in,
                swap_out_kb_per_s: rate(row.ways.swap_out),
                swap_in_kb_per_s: rate(row.ways.swap_in),
                regions: self.regions(row.task.pid),
                share: (all > 0).then(|| moved(&row.ways) as f64 / all as f64),
            }
        });
        let mut rows: Vec<SwapProcess> = rows.collect();
        rows.sort_by_key(|row| (Reverse(row.swap_out_pages + row.swap_in_pages), row.pid));
        rows
    }

    /// Regions with swap at either end; none of a process that was read once.
    fn regions(&self, pid: u32) -> Vec<SwapRegion> {
        let Some([first, last]) = self.regions.get(&pid).map(Vec::as_slice) else {
            return Vec::new();
        };
        let mut sums: BTreeMap<(&str, Option<String>), (u64, u64)> = BTreeMap::new();
        let add = |regions: &Regions, sums: &mut BTreeMap<_, (u64, u64)>, at_end: bool| {
            for region in &regions.regions {
                let key = (region.kind.id(), region.path.as_ref().map(text));
                let both = sums.entry(key).or_default();
                let kb = region.metrics.swap_kb.unwrap_or(0);
                *(if at_end { &mut both.1 } else { &mut both.0 }) += kb;
            }
        };
        add(first, &mut sums, false);
        add(last, &mut sums, true);
        let rows = sums.into_iter().filter(|(_, both)| *both != (0, 0));
        let rows = rows.map(|((kind, path), (first_kb, last_kb))| SwapRegion {
            kind,
            path,
            first_kb,
            last_kb,
            change_kb: last_kb.cast_signed() - first_kb.cast_signed(),
        });
        let mut rows: Vec<SwapRegion> = rows.collect();
        rows.sort_by_key(|row| Reverse((row.change_kb.abs(), row.last_kb)));
        rows
    }

    fn cgroups(&self) -> Vec<SwapCgroup> {
        let mut groups: BTreeMap<u64, SwapCgroup> = BTreeMap::new();
        for row in self.rows.values() {
            let Some(id) = row.task.memcg_id else {
                continue;
            };
            if moved(&row.ways) == 0 || !self.wanted(row) {
                continue;
            }
            let group = groups.entry(id).or_insert_with(|| SwapCgroup {
                cgroup: self.paths.get(&id).map(text),
                id,
                ..SwapCgroup::default()
            });
            group.processes += 1;
            group.swap_out_pages += row.ways.swap_out;
            group.swap_in_pages += row.ways.swap_in;
        }
        let mut rows: Vec<SwapCgroup> = groups.into_values().collect();
        rows.sort_by_key(|row| (Reverse(row.swap_out_pages + row.swap_in_pages), row.id));
        rows
    }

    fn accounting(&self) -> Accounting {
        let count = |rows: &[LossCount], name: &str| {
            let rows = rows.iter().filter(|one| one.name == name);
            rows.map(|one| one.count).sum::<u64>()
        };
        let hooks = self.session.hooks.iter().filter(|hook| !hook.attached);
        let SwapWays {
            swap_out,
            swap_in,
            freed,
            forked,
            swapoff,
            other,
        } = self.total;
        let seen = [
            ("swap_out", swap_out),
            ("swap_in", swap_in),
            ("freed", freed),
            ("forked", forked),
            ("swapoff", swapoff),
            ("other", other),
        ];
        let seen = seen.into_iter().filter(|(_, count)| *count > 0);
        let mut out = Accounting {
            seen: seen.map(|(name, count)| (name.to_owned(), count)).collect(),
            map_full: count(&self.losses.lost, "process_map"),
            missing_hooks: hooks.map(|hook| hook.name.clone()).collect(),
            ..Accounting::default()
        };
        out.complete = out.map_full == 0 && out.missing_hooks.is_empty() && self.end.is_some();
        out
    }
}

fn findings(data: &SwapTraceData) -> Vec<Finding> {
    let mut found = Vec::new();
    let seconds = data.duration_s.unwrap_or(0.0);
    let thrash = data.processes.iter().find(|row| {
        let both = row.swap_in_pages.min(row.swap_out_pages);
        seconds > 0.0 && both as f64 / seconds >= THRASH_PER_S
    });
    if let Some(row) = thrash {
        let (comm, pid) = (&row.comm, row.pid);
        let (out, back) = (row.swap_out_pages, row.swap_in_pages);
        found.push(Finding {
            id: "swap-thrash",
            severity: Severity::Critical,
            title: msg!(
                "{comm} (pid {pid}) thrashes: its pages go to swap and come straight back",
                "{comm}（pid {pid}）发生颠簸：页面换出后立即换入"
            ),
            evidence: vec![msg!(
                "{out} pages out and {back} in within {seconds:.1} s",
                "{seconds:.1} 秒内换出 {out} 页，换入 {back} 页"
            )],
            advice: vec![
                msg!(
                    "give it more memory, or the cgroup that limits it: `aiops trace reclaim` names it",
                    "为其或限制它的 cgroup 增加内存：`aiops trace reclaim` 可给出名称"
                ),
                msg!(
                    "see what it has in swap: `aiops inspect memory --pid {pid} --detail`",
                    "查看其交换内容：`aiops inspect memory --pid {pid} --detail`"
                ),
            ],
        });
    }
    if data.totals.other > 0 {
        let other = data.totals.other;
        found.push(Finding {
            id: "swap-direction-unknown",
            severity: Severity::Info,
            title: msg!(
                "The direction of {other} changes could not be told",
                "有 {other} 次变化无法判断方向"
            ),
            evidence: Vec::new(),
            advice: vec![msg!(
                "where kernel.kptr_restrict is 2, set it to 1: directions come from kernel addresses",
                "若 kernel.kptr_restrict 为 2，请设为 1：方向由内核地址判断"
            )],
        });
    }
    found
}
