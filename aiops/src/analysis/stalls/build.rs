//! From what was counted to the report.

use std::cmp::Reverse;

use super::Limited;
use super::Stalls;
use super::Tally;
use super::findings;
use crate::analysis::gfp::GfpNames;
use crate::analysis::traced::Traced;
use crate::model::LossCount;
use crate::model::Nanos;
use crate::model::RawText;
use crate::model::Stall;
use crate::model::StallKind;
use crate::msg;
use crate::report::Accounting;
use crate::report::Counts;
use crate::report::stalls::CgroupRow;
use crate::report::stalls::Compared;
use crate::report::stalls::GfpRow;
use crate::report::stalls::Histogram;
use crate::report::stalls::KindRow;
use crate::report::stalls::LongRow;
use crate::report::stalls::OrderRow;
use crate::report::stalls::Pages;
use crate::report::stalls::ProcessRow;
use crate::report::stalls::ReclaimData;

fn ms(ns: Nanos) -> f64 {
    ns as f64 / 1e6
}

fn text(raw: &RawText) -> String {
    raw.lossy().into_owned()
}

impl Tally {
    fn pages(&self) -> Pages {
        let share = self.reclaimed.zip(self.scanned);
        Pages {
            scanned_pages: self.scanned,
            reclaimed_pages: self.reclaimed,
            efficiency: share
                .filter(|(_, scanned)| *scanned > 0)
                .map(|(reclaimed, scanned)| reclaimed as f64 / scanned as f64),
        }
    }

    fn failed(&self, kind: StallKind) -> Option<u64> {
        (kind == StallKind::Compaction).then_some(self.failed)
    }
}

impl Stalls {
    /// Says what it all came to.
    #[must_use]
    pub fn finish(self) -> Traced<ReclaimData> {
        let accounting = self.accounting();
        let data = self.data();
        let findings = findings::findings(&data, &accounting);
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

    /// How long tracing took; of a cut recording, until the last stall.
    fn duration_ns(&self) -> Nanos {
        let begin = self.session.started_ns;
        let end = self.end.as_ref().map_or(self.last_ns, |end| end.ts_ns);
        end.saturating_sub(begin)
    }

    fn data(&self) -> ReclaimData {
        let names = self.session.options.get("gfp").map(String::as_str);
        let names = GfpNames::parse(names.unwrap_or_default());
        let duration = self.duration_ns();
        let unfinished = self.losses.seen.iter().find(|one| one.name == "unfinished");
        ReclaimData {
            start: self.rfc3339(self.session.started_ns),
            duration_s: (duration > 0).then_some(duration as f64 / 1e9),
            kinds: self.kind_rows(),
            processes: self.process_rows(duration),
            cgroups: self.cgroup_rows(),
            orders: self.order_rows(),
            gfp: self.gfp_rows(&names),
            longest: self.long_rows(&names),
            histograms: self.histograms(),
            kernel: self.compared(),
            unfinished: unfinished.map_or(0, |one| one.count),
            notes: self.session.notes.clone(),
            top: 0,
        }
    }

    fn kind_rows(&self) -> Vec<KindRow> {
        let row = |(&(kind, background), tally): (&(StallKind, bool), &Tally)| KindRow {
            kind: kind.name(),
            background,
            latency: tally.latencies.figures(),
            pages: tally.pages(),
            failed: tally.failed(kind),
        };
        self.kinds.iter().map(row).collect()
    }

    fn histograms(&self) -> Vec<Histogram> {
        let waits = self.kinds.iter().filter(|((_, background), _)| !background);
        let of = |(&(kind, _), tally): (&(StallKind, bool), &Tally)| Histogram {
            kind: kind.name(),
            buckets: tally.latencies.buckets(),
        };
        waits.map(of).collect()
    }

    fn process_rows(&self, duration: Nanos) -> Vec<ProcessRow> {
        let row = |(pid, process): (&u32, &super::Process)| {
            let identity = self.identities.get(pid);
            let path = process.memcg.and_then(|id| self.paths.get(&id));
            let path = path.or(identity.and_then(|identity| identity.cgroup.as_ref()));
            let total = process.tally.latencies.total_ns();
            let memcg = process.by_kind.contains_key(&StallKind::Memcg);
            let limits = path.filter(|_| memcg).and_then(|path| self.limit(path));
            let cmdline = identity.map(|identity| {
                let words: Vec<String> = identity.cmdline.iter().map(text).collect();
                words.join(" ")
            });
            ProcessRow {
                pid: *pid,
                start: identity.and_then(|identity| identity.start_ticks),
                comm: text(&process.comm),
                cmdline: cmdline.filter(|line| !line.is_empty()),
                cgroup: path.map(text),
                container: identity
                    .and_then(|identity| identity.container.as_ref())
                    .map(|container| format!("{}:{}", container.runtime, container.id)),
                latency: process.tally.latencies.figures(),
                stalled_share: (duration > 0).then(|| total as f64 / duration as f64),
                pages: process.tally.pages(),
                by_kind_ms: (process.by_kind.iter())
                    .map(|(kind, ns)| (kind.name(), ms(*ns)))
                    .collect(),
                limited_by: limits.map(|(path, _)| text(path)).into_iter().collect(),
            }
        };
        let mut rows: Vec<(Nanos, ProcessRow)> = (self.processes.iter())
            .map(|one| (one.1.tally.latencies.total_ns(), row(one)))
            .collect();
        rows.sort_by_key(|(ns, row)| (Reverse(*ns), row.pid));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// The cgroup whose limit was met: this one or one above it, with the most hits meanwhile, the nearest of
    /// equals. A process waits for the one that it charges, which only the counts tell.
    fn limit(&self, path: &RawText) -> Option<(&RawText, &Limited)> {
        let below = |limit: &RawText| {
            let (path, limit) = (path.as_bytes(), limit.as_bytes());
            let limit = limit.strip_suffix(b"/").unwrap_or(limit);
            let rest = path.strip_prefix(limit);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let hits = |one: &Limited| Some(one.hits?.saturating_sub(one.first_hits?));
        let found = self.limited.iter().filter(|(limit, _)| below(limit));
        found.max_by_key(|(limit, one)| {
            let limit = limit.as_bytes();
            (hits(one), limit.len(), limit)
        })
    }

    fn cgroup_rows(&self) -> Vec<CgroupRow> {
        let row = |(id, cgroup): (&u64, &super::Cgroup)| {
            let path = self.paths.get(id);
            let limit = path
                .filter(|_| cgroup.memcg_ns > 0)
                .and_then(|path| self.limit(path));
            let hits = limit.and_then(|(_, one)| Some(one.hits?.saturating_sub(one.first_hits?)));
            CgroupRow {
                cgroup: path.map(text),
                id: *id,
                latency: cgroup.tally.latencies.figures(),
                pages: cgroup.tally.pages(),
                processes: cgroup.pids.len() as u64,
                memcg_ms: ms(cgroup.memcg_ns),
                limited_by: limit.map(|(path, _)| text(path)),
                limit_kb: limit.and_then(|(_, one)| one.limit_kb),
                limit_hits: hits,
            }
        };
        let mut rows: Vec<(Nanos, CgroupRow)> = (self.cgroups.iter())
            .map(|one| (one.1.tally.latencies.total_ns(), row(one)))
            .collect();
        rows.sort_by_key(|(ns, row)| (Reverse(*ns), row.id));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn order_rows(&self) -> Vec<OrderRow> {
        let row = |(&(kind, order), tally): (&(StallKind, i32), &Tally)| OrderRow {
            kind: kind.name(),
            order,
            latency: tally.latencies.figures(),
            failed: tally.failed(kind),
        };
        self.orders.iter().map(row).collect()
    }

    fn gfp_rows(&self, names: &GfpNames) -> Vec<GfpRow> {
        let mut masks: Vec<_> = self.masks.iter().collect();
        masks.sort_by_key(|(mask, (_, ns))| (Reverse(*ns), **mask));
        let row = |(mask, (count, ns)): (&u32, &(u64, Nanos))| GfpRow {
            gfp_mask: format!("{mask:#x}"),
            gfp_flags: names.of(*mask),
            count: *count,
            total_ms: ms(*ns),
        };
        masks.into_iter().map(row).collect()
    }

    fn long_rows(&self, names: &GfpNames) -> Vec<LongRow> {
        let row = |(ns, stall): &(Nanos, Stall)| LongRow {
            at: self.rfc3339(stall.begin_ns),
            ms: ms(*ns),
            kind: stall.kind.name(),
            pid: stall.task.pid,
            tid: stall.task.tid,
            comm: text(&stall.task.comm),
            order: stall.order,
            gfp_flags: stall.gfp_mask.and_then(|mask| names.of(mask)),
            reclaimed_pages: stall.reclaimed,
            stack: stall.stack.iter().map(|ip| self.function(*ip)).collect(),
        };
        self.longest.iter().map(row).collect()
    }

    fn function(&self, ip: u64) -> String {
        let frame = self.kernel.get(&ip).and_then(|frames| frames.first());
        let name = frame.and_then(|frame| frame.function.as_ref());
        name.map_or_else(|| format!("{ip:#x}"), text)
    }

    /// Our counts beside the kernel's. A filter leaves others out, which the kernel counts.
    fn compared(&self) -> Vec<Compared> {
        let Some(((from, first), (to, last))) = &self.system else {
            return Vec::new();
        };
        if from == to || !self.session.filter.is_empty() {
            return Vec::new();
        }
        let change = |first: Option<u64>, last: Option<u64>| Some(last?.saturating_sub(first?));
        vec![
            Compared {
                counter: "allocstall",
                kernel: change(first.allocstall, last.allocstall),
                seen: self.direct,
                about: msg!(
                    "direct reclaims that began; the kernel counts each further round of one again",
                    "开始的直接回收次数；同一次回收的后续轮次内核会再次计数"
                ),
            },
            Compared {
                counter: "pgscan_direct",
                kernel: change(first.pgscan_direct, last.pgscan_direct),
                seen: self.direct_scanned,
                about: msg!(
                    "pages scanned by direct reclaim; the hook sees what was isolated",
                    "直接回收扫描的页；钩子看到的是被隔离的页"
                ),
            },
            Compared {
                counter: "compact_stall",
                kernel: change(first.compact_stall, last.compact_stall),
                seen: self.compactions,
                about: msg!(
                    "direct compactions; ours are counted by zone",
                    "直接规整次数；此处按内存域计数"
                ),
            },
        ]
    }

    fn accounting(&self) -> Accounting {
        let count = |name: &str| {
            let rows = self.losses.lost.iter().filter(|one| one.name == name);
            rows.map(|one| one.count).sum::<u64>()
        };
        let own = ["stack_failed", "open_map", "process_map", "undecodable"];
        let map = |rows: &[LossCount]| -> Counts {
            rows.iter()
                .filter(|one| one.count > 0 && !own.contains(&one.name.as_str()))
                .map(|one| (one.name.clone(), one.count))
                .collect()
        };
        let mut seen = map(&self.losses.seen);
        seen.remove("unfinished");
        let nameless = self.longest.iter().flat_map(|(_, stall)| &stall.stack);
        let nameless = nameless.filter(|ip| {
            let frames = self.kernel.get(ip).and_then(|frames| frames.first());
            frames.is_none_or(|frame| frame.function.is_none())
        });
        let hooks = self.session.hooks.iter().filter(|hook| !hook.attached);
        let mut lost = map(&self.losses.lost);
        if self.beyond > 0 {
            lost.insert("processes".to_owned(), self.beyond);
        }
        let mut out = Accounting {
            seen,
            lost,
            map_full: count("open_map"),
            stack_failed: count("stack_failed"),
            unresolved_frames: nameless.count() as u64,
            decode_errors: count("undecodable"),
            missing_hooks: hooks.map(|hook| hook.name.clone()).collect(),
            ..Accounting::default()
        };
        out.complete = out.lost.is_empty()
            && out.map_full == 0
            && out.decode_errors == 0
            && out.missing_hooks.is_empty()
            && self.end.is_some();
        out
    }
}
