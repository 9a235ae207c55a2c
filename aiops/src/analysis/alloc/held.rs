//! What was taken and not given back, by place: sampled pages that are followed from allocation to release.
//!
//! A sampled page stands for as many as in [`Allocations`]; it is given back when the kernel frees it, whoever
//! does. The course of what a place holds is judged like every series of memory sizes ([`leak::assess`]); the
//! error of sampling widens its rate.

use std::collections::BTreeMap;
use std::collections::HashMap;

use super::Allocations;
use super::Analysis;
use super::PlaceKey;
use super::Sum;
use super::frames;
use crate::analysis::leak;
use crate::analysis::leak::Class;
use crate::model::AllocStack;
use crate::model::Host;
use crate::model::Item;
use crate::model::Nanos;
use crate::msg;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::Severity;
use crate::report::alloc::HeldData;
use crate::report::alloc::Rate;
use crate::report::alloc::StackHeld;

/// Option of the session: seconds that memory has to be held to count.
pub const MIN_AGE: &str = "min_age_s";

/// Points of a course.
const POINTS: u32 = 240;
/// Places that are judged, the largest first.
const JUDGED: usize = 40;
/// Samples below which a course says nothing.
const FEW: u64 = 12;

/// Takes items, gives the report.
#[derive(Debug, Default)]
pub struct Holdings {
    base: Allocations,
    /// When each was taken, and where: an index into `stacks`.
    taken: BTreeMap<u64, (Nanos, usize)>,
    /// The same code takes memory again and again: kept once.
    stacks: Vec<AllocStack>,
    indexes: HashMap<AllocStack, usize>,
    freed: HashMap<u64, Nanos>,
}

impl Analysis for Holdings {
    fn push(&mut self, item: &Item) {
        if let Item::Allocs(allocs) = item {
            for (number, ts_ns, stack) in &allocs.taken {
                let index = self.indexes.get(stack).copied().unwrap_or_else(|| {
                    self.stacks.push(stack.clone());
                    self.indexes.insert(stack.clone(), self.stacks.len() - 1);
                    self.stacks.len() - 1
                });
                self.taken.insert(*number, (*ts_ns, index));
            }
            self.freed.extend(allocs.freed.iter().copied());
        }
        self.base.push(item);
    }
}

/// What one place has done.
#[derive(Default)]
struct Course<'a> {
    /// Held at the end, and older than the least age.
    held: Sum,
    taken: Sum,
    /// Changes in the order of time: when, bytes.
    changes: Vec<(Nanos, f64)>,
    /// When what is held was taken.
    since: Vec<Nanos>,
    example: Option<&'a AllocStack>,
}

impl Holdings {
    fn min_age_s(&self) -> u64 {
        let text = self.base.session.options.get(MIN_AGE);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The observed host.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.base.host()
    }

    fn end_ns(&self) -> Nanos {
        self.base.ended_ns.unwrap_or(self.base.last_ns)
    }

    fn courses(&self) -> Vec<(PlaceKey, Course<'_>)> {
        let mean = self.base.mean();
        let last = self
            .end_ns()
            .saturating_sub(self.min_age_s() * 1_000_000_000);
        let mut keys: BTreeMap<PlaceKey, usize> = BTreeMap::new();
        let place = |stack: &AllocStack| {
            let next = keys.len();
            *keys.entry(self.base.key(stack)).or_insert(next)
        };
        let places: Vec<usize> = self.stacks.iter().map(place).collect();
        let mut all: Vec<Course<'_>> = keys.iter().map(|_| Course::default()).collect();
        for (number, (ts_ns, index)) in &self.taken {
            let stack = &self.stacks[*index];
            let sum = Sum::of(stack.bytes, 1, mean);
            let course = &mut all[places[*index]];
            course.example.get_or_insert(stack);
            course.taken.add(sum);
            course.changes.push((*ts_ns, sum.bytes));
            match self.freed.get(number) {
                Some(freed_ns) => course.changes.push((*freed_ns, -sum.bytes)),
                None if *ts_ns <= last => {
                    course.held.add(sum);
                    course.since.push(*ts_ns);
                }
                None => {}
            }
        }
        let rows = keys.into_iter();
        let mut rows: Vec<(PlaceKey, Course<'_>)> = rows
            .map(|(key, at)| (key, std::mem::take(&mut all[at])))
            .collect();
        rows.retain(|(_, course)| course.held.samples > 0);
        // Equal sizes stay in the order of their names.
        rows.sort_by(|(_, left), (_, right)| right.held.bytes.total_cmp(&left.held.bytes));
        for (_, course) in &mut rows {
            course.changes.sort_unstable_by(|left, right| {
                left.0.cmp(&right.0).then(left.1.total_cmp(&right.1))
            });
            course.since.sort_unstable();
        }
        rows
    }

    /// The data, what it means, and how complete it is.
    #[must_use]
    pub fn finish(&self) -> (HeldData, Vec<Finding>, Accounting) {
        let rows = self.courses();
        let seconds = self.base.seconds();
        let total: f64 = rows.iter().map(|(_, course)| course.held.bytes).sum();
        let variance: f64 = rows.iter().map(|(_, course)| course.held.variance).sum();
        let row = |(at, (key, course)): (usize, &(PlaceKey, Course<'_>))| {
            let example = course.example?;
            let names = self.base.user.get(&(key.pid, key.start_ticks));
            let age = |since: &Nanos| self.end_ns().saturating_sub(*since) as f64 / 1e9;
            let judged = (at < JUDGED && judge_it(key, course)).then(|| self.judge(course));
            Some(StackHeld {
                pid: key.pid,
                start_ticks: key.start_ticks,
                comm: example.comm.lossy().into_owned(),
                purpose: key.purpose,
                held: course.held.amount(None, total),
                taken_bytes: course.taken.bytes,
                oldest_s: course.since.first().map(age),
                median_age_s: course.since.get(course.since.len() / 2).map(age),
                verdict: judged.as_ref().map(|rate| rate.verdict),
                growth: judged,
                user: frames(&example.user, names),
                user_end: super::end_name(example.end),
                kernel: frames(&example.kernel, Some(&self.base.kernel)),
            })
        };
        let mut accounting = self.base.accounting();
        let lost = |name: &str| {
            let row = self.base.losses.lost.iter().find(|row| row.name == name);
            row.map_or(0, |row| row.count)
        };
        for name in ["freed_ring", "alloc_held"] {
            if lost(name) > 0 {
                accounting.lost.insert(name.to_owned(), lost(name));
                accounting.complete = false;
            }
        }
        let data = HeldData {
            started_at: self.base.started_at(),
            duration_s: seconds,
            min_age_s: self.min_age_s(),
            bytes: total,
            bytes_se: variance.sqrt(),
            stacks: rows.iter().enumerate().filter_map(row).collect(),
            notes: vec![
                msg!(
                    "memory that was taken before tracing began is not seen: only what has grown since",
                    "看不到开始跟踪之前已分配的内存：仅反映其后的增长"
                ),
                msg!(
                    "a page counts for the code that touched it first, also when the program's allocator has handed it on to other code",
                    "每页计入最先访问它的代码，即使程序的分配器后来又把它交给了其他代码"
                ),
            ],
            top: 0,
        };
        let all = data
            .stacks
            .iter()
            .flat_map(|row| row.user.iter().chain(&row.kernel));
        let nameless = all.filter(|frame| frame.function.is_none()).count();
        accounting.unresolved_frames = u64::try_from(nameless).unwrap_or(u64::MAX);
        let findings = findings(&data);
        (data, findings, accounting)
    }

    /// Judges what a place held over time.
    fn judge(&self, course: &Course<'_>) -> Rate {
        let (start, end) = (self.base.session.started_ns, self.end_ns());
        let step = end.saturating_sub(start) / u64::from(POINTS);
        let mut series = leak::Series::default();
        let (mut at, mut level) = (0, 0.0);
        for point in 1..=u64::from(POINTS) {
            let now = start + point * step;
            while let Some((ts_ns, bytes)) =
                course.changes.get(at).filter(|(ts_ns, _)| *ts_ns <= now)
            {
                let _ = ts_ns;
                level += bytes;
                at += 1;
            }
            series.time_s.push(now as f64 / 1e9);
            series.bytes.push(level);
        }
        let found = leak::assess(&series, None);
        let hours = end.saturating_sub(start) as f64 / 3.6e12;
        // 95 % of what sampling alone may do to a slope over the whole time.
        let sampling = 1.96 * course.held.variance.sqrt() / hours / 1_048_576.0;
        let per_hour = |bytes: f64| bytes * 3600.0 / 1_048_576.0;
        let rate = found.rate.map(per_hour);
        let interval = found.rate_interval.zip(rate).map(|((low, high), rate)| {
            let wider = |edge: f64| (per_hour(edge) - rate).hypot(sampling);
            (rate - wider(low), rate + wider(high))
        });
        Rate {
            verdict: match found.class {
                Class::Leak => "leak",
                Class::NoLeak => "no-leak",
                Class::Ambiguous => "inconclusive",
            },
            leak_probability: found.probability,
            rate_mib_per_hour: rate,
            rate_interval: interval,
        }
    }
}

/// Caches are given back when memory is short: they hold, and leak nothing.
fn judge_it(key: &PlaceKey, course: &Course<'_>) -> bool {
    course.held.samples >= FEW && !matches!(key.purpose, Some("page-cache" | "interrupt"))
}

/// Who leaks, and where.
fn findings(data: &HeldData) -> Vec<Finding> {
    let mut by_process: BTreeMap<u32, Vec<&StackHeld>> = BTreeMap::new();
    for row in data.stacks.iter().filter(|row| row.verdict == Some("leak")) {
        by_process.entry(row.pid).or_default().push(row);
    }
    let one = |(pid, rows): (u32, Vec<&StackHeld>)| {
        let of = |row: &StackHeld| {
            row.growth
                .as_ref()
                .and_then(|growth| growth.rate_mib_per_hour)
        };
        let sum: f64 = rows.iter().filter_map(|row| of(row)).sum();
        let top = rows
            .iter()
            .max_by(|left, right| of(left).unwrap_or(0.0).total_cmp(&of(right).unwrap_or(0.0)))?;
        let rate = of(top)?;
        let percent = (100.0 * rate / sum).round();
        let path = site(top);
        let comm = &top.comm;
        let error = top.growth.as_ref().and_then(|growth| growth.rate_interval);
        let error = error.map_or(0.0, |(low, high)| (high - low) / 4.0);
        Some(Finding {
            id: "held-memory-grows",
            severity: Severity::Warning,
            title: msg!(
                "{comm}({pid}) leaks {sum:.1} ± {error:.1} MiB/h; {percent}% from {path}",
                "{comm}({pid}) 泄漏 {sum:.1} ± {error:.1} MiB/h；{percent}% 来自 {path}"
            ),
            evidence: vec![msg!(
                "what this code takes is not given back: {0:.1} MiB are held, the oldest for {1:.0} s",
                "该处分配的内存未释放：仍持有 {0:.1} MiB，最久已 {1:.0} 秒",
                top.held.bytes / 1_048_576.0,
                top.oldest_s.unwrap_or(0.0)
            )],
            advice: vec![msg!(
                "trace longer to tell a leak from a cache that fills: `aiops trace leak --pid {pid} --duration 10m`",
                "延长跟踪以区分泄漏与正在填充的缓存：`aiops trace leak --pid {pid} --duration 10m`"
            )],
        })
    };
    by_process.into_iter().filter_map(one).collect()
}

/// The innermost functions of the program's own: those of the C library say nothing.
fn site(row: &StackHeld) -> String {
    let is_own = |module: &Option<String>| {
        let name = module
            .as_deref()
            .unwrap_or_default()
            .rsplit('/')
            .next()
            .unwrap_or_default();
        ![
            "libc.so",
            "libc-",
            "ld-linux",
            "libstdc++",
            "libjemalloc",
            "libtcmalloc",
            "[vdso]",
        ]
        .iter()
        .any(|begin| name.starts_with(begin))
    };
    let own = row.user.iter().filter(|frame| is_own(&frame.module));
    let name = |frame: &crate::report::oom::FrameInfo| match (
        &frame.function,
        &frame.module,
        frame.module_offset,
    ) {
        (Some(function), ..) => function.clone(),
        (None, Some(module), Some(offset)) => format!(
            "{}+{offset:#x}",
            module.rsplit('/').next().unwrap_or(module)
        ),
        _ => frame.ip.clone(),
    };
    let names: Vec<String> = own.take(3).map(name).collect();
    names.join(" < ")
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
