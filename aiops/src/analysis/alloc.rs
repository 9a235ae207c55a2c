//! Allocations by process and place, from samples.
//!
//! An allocation of b bytes is sampled with probability p = 1 − exp(−b / mean), each by itself: it stands for
//! b / p bytes, and the variance of a sum is the sum of b² (1 − p) / p² over what was sampled
//! (Horvitz and Thompson 1952). Counted allocations have p = 1.

pub mod held;

use std::collections::BTreeMap;
use std::collections::HashMap;

use crate::model::AllocCount;
use crate::model::AllocKind;
use crate::model::AllocStack;
use crate::model::ClockPair;
use crate::model::Frame;
use crate::model::Identity;
use crate::model::Item;
use crate::model::Losses;
use crate::model::Nanos;
use crate::model::RawText;
use crate::model::Session;
use crate::model::StackEnd;
use crate::model::SymbolSet;
use crate::model::SymbolSpace;
use crate::msg;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::Sampling;
use crate::report::Severity;
use crate::report::alloc::AllocData;
use crate::report::alloc::Amount;
use crate::report::alloc::ProcessAllocs;
use crate::report::alloc::StackAllocs;
use crate::report::oom::FrameInfo;
use crate::time;

/// Option of the session: mean distance of samples in bytes; none: everything was counted.
pub const MEAN: &str = "mean_bytes";
/// Option of the session: sample, whole, exact.
pub const MODE: &str = "mode";

/// What the kernel takes pages for, by the innermost function that tells.
const PURPOSES: &[(&str, &[&str])] = &[
    (
        "page-table",
        &[
            "pte_alloc_one",
            "__pte_alloc",
            "__pmd_alloc",
            "__pud_alloc",
            "__p4d_alloc",
            "pgd_alloc",
        ],
    ),
    (
        "slab",
        &[
            "allocate_slab",
            "new_slab",
            "___slab_alloc",
            "___kmalloc_large_node",
            "__kmalloc_large_node",
        ],
    ),
    (
        "kernel-stack",
        &["alloc_thread_stack_node", "dup_task_struct"],
    ),
    (
        "swap-in",
        &["do_swap_page", "swapin_readahead", "read_swap_cache_async"],
    ),
    (
        "shared-memory",
        &[
            "shmem_get_folio_gfp",
            "shmem_alloc_and_add_folio",
            "shmem_fault",
            "shmem_getpage_gfp",
        ],
    ),
    (
        "page-cache",
        &[
            "page_cache_ra_unbounded",
            "page_cache_ra_order",
            "__filemap_get_folio",
            "filemap_fault",
            "filemap_alloc_folio",
            "force_page_cache_ra",
            "do_read_cache_folio",
            "pagecache_get_page",
            "grow_dev_page",
        ],
    ),
    (
        "anonymous",
        &[
            "do_anonymous_page",
            "do_huge_pmd_anonymous_page",
            "wp_page_copy",
            "do_wp_page",
            "do_cow_fault",
            "vma_alloc_folio",
            "alloc_anon_folio",
        ],
    ),
    ("pipe", &["pipe_write", "anon_pipe_write"]),
    (
        "network",
        &[
            "__alloc_skb",
            "alloc_skb_with_frags",
            "skb_page_frag_refill",
            "__napi_alloc_skb",
            "page_pool_alloc_pages",
        ],
    ),
    (
        "vmalloc",
        &[
            "__vmalloc_node_range",
            "__vmalloc_node_range_noprof",
            "vmalloc",
            "vzalloc",
        ],
    ),
];

/// Functions of interrupts: the process below them only happened to run.
const INTERRUPTS: &[&str] = &[
    "handle_softirqs",
    "__do_softirq",
    "asm_common_interrupt",
    "__common_interrupt",
];

/// One sampled or counted size at one place.
type Names = HashMap<u64, Vec<Frame>>;

/// Takes items, gives the report.
#[derive(Debug, Default)]
pub struct Allocations {
    session: Session,
    clock: Option<ClockPair>,
    seen: HashMap<AllocStack, u64>,
    counts: Vec<AllocCount>,
    identities: HashMap<(u32, Option<u64>), Identity>,
    user: HashMap<(u32, Option<u64>), Names>,
    kernel: Names,
    losses: Losses,
    ended_ns: Option<Nanos>,
    last_ns: Nanos,
}

/// A sum of estimates.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    bytes: f64,
    variance: f64,
    allocations: f64,
    samples: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.variance += other.variance;
        self.allocations += other.allocations;
        self.samples += other.samples;
    }

    /// `n` allocations of `bytes` that were chosen with this mean distance.
    fn of(bytes: u64, n: u64, mean: Option<u64>) -> Self {
        let (size, count) = (bytes as f64, n as f64);
        let p = mean.map_or(1.0, |mean| -(-size / mean as f64).exp_m1());
        Self {
            bytes: count * size / p,
            variance: count * size * size * (1.0 - p) / (p * p),
            allocations: count / p,
            samples: n,
        }
    }

    fn amount(self, seconds: Option<f64>, total: f64) -> Amount {
        Amount {
            bytes: self.bytes,
            bytes_se: self.variance.sqrt(),
            bytes_per_s: seconds.map(|seconds| self.bytes / seconds),
            allocations: self.allocations,
            share: (total > 0.0).then(|| self.bytes / total),
            samples: self.samples,
        }
    }
}

/// What makes two stacks the same place: names of their functions, else module and offset.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct PlaceKey {
    pid: u32,
    start_ticks: Option<u64>,
    kind: AllocKind,
    purpose: Option<&'static str>,
    user: Vec<(RawText, u64)>,
}

/// Stacks of one place.
struct Place<'a> {
    sum: Sum,
    largest: f64,
    example: &'a AllocStack,
}

/// What a session of allocations feeds.
pub trait Analysis: Default {
    /// Takes the next item.
    fn push(&mut self, item: &Item);
}

impl Analysis for Allocations {
    fn push(&mut self, item: &Item) {
        self.last_ns = self.last_ns.max(item.ts_ns().unwrap_or(0));
        match item {
            Item::Session(session) => self.session = session.clone(),
            Item::Clock(clock) => self.clock = self.clock.or(Some(*clock)),
            Item::Allocs(allocs) => {
                for (stack, n) in &allocs.stacks {
                    *self.seen.entry(stack.clone()).or_insert(0) += n;
                }
                if !allocs.counts.is_empty() {
                    self.counts.clone_from(&allocs.counts);
                }
            }
            Item::Identity(identity) => {
                let key = (identity.pid, identity.start_ticks);
                self.identities.insert(key, identity.clone());
            }
            Item::Symbols(set) => self.symbols(set),
            Item::Losses(losses) => self.losses = losses.clone(),
            Item::End(end) => self.ended_ns = Some(end.ts_ns),
            _ => {}
        }
    }
}

impl Allocations {
    fn symbols(&mut self, set: &SymbolSet) {
        let names = match set.space {
            SymbolSpace::Kernel => &mut self.kernel,
            SymbolSpace::Process { pid, start_ticks } => {
                self.user.entry((pid, start_ticks)).or_default()
            }
        };
        for symbol in &set.symbols {
            names.insert(symbol.ip, symbol.frames.clone());
        }
    }

    fn mean(&self) -> Option<u64> {
        self.session.options.get(MEAN)?.parse().ok()
    }

    fn mode(&self) -> &'static str {
        match self.session.options.get(MODE).map(String::as_str) {
            Some("whole") => "whole",
            Some("exact") => "exact",
            _ => "sample",
        }
    }

    /// Length of the observation.
    fn seconds(&self) -> Option<f64> {
        let end = self.ended_ns.unwrap_or(self.last_ns);
        let span = end.checked_sub(self.session.started_ns)?;
        (span > 0).then(|| span as f64 / 1e9)
    }

    /// The data, what it means, and how complete it is.
    #[must_use]
    pub fn finish(&self) -> (AllocData, Vec<Finding>, Accounting) {
        let mean = self.mean();
        let seconds = self.seconds();
        let mut places: HashMap<PlaceKey, Place<'_>> = HashMap::new();
        let mut processes: BTreeMap<(u32, Option<u64>), (Sum, RawText)> = BTreeMap::new();
        let mut total = Sum::default();
        let mut stacks: Vec<(&AllocStack, &u64)> = self.seen.iter().collect();
        // Sums of floating point depend on their order.
        stacks.sort_unstable_by_key(|(stack, _)| {
            (
                stack.pid,
                stack.start_ticks,
                &stack.user,
                &stack.kernel,
                stack.bytes,
                stack.kind,
                &stack.comm,
                stack.end,
            )
        });
        for (stack, n) in stacks {
            let sum = Sum::of(stack.bytes, *n, mean.filter(|_| self.mode() != "whole"));
            if stack.kind == AllocKind::Pages {
                total.add(sum);
                let process = processes
                    .entry((stack.pid, stack.start_ticks))
                    .or_insert_with(|| (Sum::default(), stack.comm.clone()));
                process.0.add(sum);
            }
            let place = places.entry(self.key(stack)).or_insert(Place {
                sum: Sum::default(),
                largest: 0.0,
                example: stack,
            });
            place.sum.add(sum);
            if sum.bytes > place.largest {
                place.largest = sum.bytes;
                place.example = stack;
            }
        }
        for count in &self.counts {
            let sum = Sum {
                bytes: count.bytes as f64,
                variance: 0.0,
                allocations: count.allocations as f64,
                samples: count.allocations,
            };
            total.add(sum);
            let key = (count.pid, count.start_ticks);
            let process = processes
                .entry(key)
                .or_insert_with(|| (Sum::default(), count.comm.clone()));
            process.0.add(sum);
        }
        let mut accounting = self.accounting();
        let mut rows: Vec<(PlaceKey, Place<'_>)> = places.into_iter().collect();
        rows.sort_by(|(left_key, left), (right_key, right)| {
            let by_size = right.sum.bytes.total_cmp(&left.sum.bytes);
            by_size.then_with(|| left_key.cmp(right_key))
        });
        let of = |kinds: &[AllocKind]| -> Vec<StackAllocs> {
            let wanted = rows.iter().filter(|(key, _)| kinds.contains(&key.kind));
            let whole = wanted.clone().map(|(_, place)| place.sum.bytes).sum();
            wanted
                .map(|(key, place)| self.row(key, place, seconds, whole))
                .collect()
        };
        let data = AllocData {
            started_at: self.started_at(),
            duration_s: seconds,
            mode: self.mode(),
            total: total.amount(seconds, total.bytes),
            processes: self.processes(&processes, seconds, total.bytes),
            stacks: of(&[AllocKind::Pages]),
            kernel: of(&[AllocKind::Kmalloc, AllocKind::Cache]),
            notes: Vec::new(),
            top: 0,
        };
        let all = data.stacks.iter().chain(&data.kernel);
        let frames = all.flat_map(|row| row.user.iter().chain(&row.kernel));
        let nameless = frames.filter(|frame| frame.function.is_none()).count();
        accounting.unresolved_frames = u64::try_from(nameless).unwrap_or(u64::MAX);
        let findings = findings(&data, &accounting);
        (data, findings, accounting)
    }

    fn processes(
        &self,
        sums: &BTreeMap<(u32, Option<u64>), (Sum, RawText)>,
        seconds: Option<f64>,
        total: f64,
    ) -> Vec<ProcessAllocs> {
        let row = |(key, (sum, comm)): (&(u32, Option<u64>), &(Sum, RawText))| {
            let identity = self.identities.get(key);
            let text = |raw: &RawText| raw.lossy().into_owned();
            let words = identity.map(|identity| {
                let words: Vec<String> = identity.cmdline.iter().map(text).collect();
                words.join(" ")
            });
            ProcessAllocs {
                pid: key.0,
                start_ticks: key.1,
                comm: identity.map_or_else(|| text(comm), |identity| text(&identity.comm)),
                cmdline: words.filter(|words| !words.is_empty()),
                cgroup: identity.and_then(|identity| identity.cgroup.as_ref().map(text)),
                amount: sum.amount(seconds, total),
            }
        };
        let mut rows: Vec<ProcessAllocs> = sums.iter().map(row).collect();
        rows.sort_by(|left, right| right.amount.bytes.total_cmp(&left.amount.bytes));
        rows
    }

    fn key(&self, stack: &AllocStack) -> PlaceKey {
        let purpose = self.purpose(stack);
        let names = self.user.get(&(stack.pid, stack.start_ticks));
        // The code below an interrupt has nothing to do with it.
        let own = if purpose == Some("interrupt") {
            &[][..]
        } else {
            &stack.user[..]
        };
        let user = own.iter().flat_map(|ip| {
            let frames = names.and_then(|names| names.get(ip));
            let known = frames.map_or(&[][..], Vec::as_slice).iter();
            let mut parts: Vec<(RawText, u64)> = known.map(|frame| place_of(*ip, frame)).collect();
            if parts.is_empty() {
                parts.push((RawText::from(""), *ip));
            }
            parts
        });
        PlaceKey {
            pid: stack.pid,
            start_ticks: stack.start_ticks,
            kind: stack.kind,
            purpose,
            user: user.collect(),
        }
    }

    fn purpose(&self, stack: &AllocStack) -> Option<&'static str> {
        let frames = || stack.kernel.iter().filter_map(|ip| self.kernel.get(ip));
        let functions = || {
            frames()
                .flatten()
                .filter_map(|frame| frame.function.as_ref())
        };
        let is_one = |list: &[&str], name: &RawText| {
            let name = name.lossy();
            // The compiler's clones of a function end in `.isra.0` and the like.
            let plain = name.split('.').next().unwrap_or_default();
            let plain = plain.strip_suffix("_noprof").unwrap_or(plain);
            list.contains(&plain)
        };
        if functions().any(|name| is_one(INTERRUPTS, name)) {
            return Some("interrupt");
        }
        functions().find_map(|name| {
            let found = PURPOSES.iter().find(|(_, list)| is_one(list, name));
            found.map(|(purpose, _)| *purpose)
        })
    }

    fn row(
        &self,
        key: &PlaceKey,
        place: &Place<'_>,
        seconds: Option<f64>,
        whole: f64,
    ) -> StackAllocs {
        let stack = place.example;
        let names = self.user.get(&(stack.pid, stack.start_ticks));
        let user = if key.purpose == Some("interrupt") {
            Vec::new()
        } else {
            frames(&stack.user, names)
        };
        StackAllocs {
            pid: stack.pid,
            start_ticks: stack.start_ticks,
            comm: stack.comm.lossy().into_owned(),
            kind: match stack.kind {
                AllocKind::Pages => "pages",
                AllocKind::Kmalloc => "kmalloc",
                AllocKind::Cache => "cache",
            },
            purpose: key.purpose,
            amount: place.sum.amount(seconds, whole),
            user,
            user_end: end_name(stack.end),
            kernel: frames(&stack.kernel, Some(&self.kernel)),
        }
    }

    fn started_at(&self) -> Option<String> {
        let clock = self.clock?;
        let since =
            i64::try_from(self.session.started_ns).ok()? - i64::try_from(clock.mono_ns).ok()?;
        let at = clock.real_ns.checked_add(since)?;
        time::rfc3339(at, self.session.host.utc_offset_s.unwrap_or(0))
    }

    /// The observed host.
    #[must_use]
    pub fn host(&self) -> &crate::model::Host {
        &self.session.host
    }

    fn accounting(&self) -> Accounting {
        let lost = |name: &str| {
            let row = self.losses.lost.iter().find(|row| row.name == name);
            row.map_or(0, |row| row.count)
        };
        let seen = self.losses.seen.iter();
        let lost_rows = ["alloc_ring", "alloc_spaces"].map(|name| (name.to_owned(), lost(name)));
        let ends = |end: StackEnd| -> u64 {
            let cut = self.seen.iter().filter(|(stack, _)| stack.end == end);
            cut.map(|(_, n)| *n).sum()
        };
        let missing = self.session.hooks.iter().filter(|hook| !hook.attached);
        let mean = self.mean();
        let page = self.session.host.page_size.unwrap_or(4096);
        let mut accounting = Accounting {
            seen: seen.map(|row| (row.name.clone(), row.count)).collect(),
            lost: lost_rows
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect(),
            map_full: lost("alloc_counts") + lost("alloc_places") + lost("alloc_table"),
            stack_truncated: ends(StackEnd::Copy) + ends(StackEnd::Depth) + lost("stack_truncated"),
            stack_failed: ends(StackEnd::Lost) + ends(StackEnd::Gone) + lost("stack_missing"),
            decode_errors: lost("undecodable"),
            missing_hooks: missing.map(|hook| hook.name.clone()).collect(),
            sampling: Some(Sampling {
                mode: if mean.is_some() {
                    "poisson-bytes"
                } else {
                    "none"
                }
                .to_owned(),
                mean_bytes: mean,
                scale: (Sum::of(page, 1, mean).allocations * 100.0).round() / 100.0,
            }),
            ..Accounting::default()
        };
        accounting.complete = accounting.lost.is_empty()
            && accounting.map_full == 0
            && accounting.decode_errors == 0
            && accounting.missing_hooks.is_empty()
            && self.ended_ns.is_some();
        accounting
    }
}

/// As JSON has it.
fn end_name(end: StackEnd) -> &'static str {
    match end {
        StackEnd::None => "none",
        StackEnd::Root => "root",
        StackEnd::Copy => "copy",
        StackEnd::Depth => "depth",
        StackEnd::Lost => "lost",
        StackEnd::Gone => "gone",
        StackEnd::FramePointers => "frame_pointers",
    }
}

/// A function, whatever the offset into it; else a place in a file; else the address.
fn place_of(ip: u64, frame: &Frame) -> (RawText, u64) {
    if let Some(function) = &frame.function {
        return (function.clone(), 0);
    }
    match (&frame.module, frame.module_offset) {
        (Some(module), Some(offset)) => (module.clone(), offset),
        _ => (RawText::from(""), ip),
    }
}

fn frames(ips: &[u64], names: Option<&Names>) -> Vec<FrameInfo> {
    let mut out = Vec::with_capacity(ips.len());
    for ip in ips {
        match names.and_then(|names| names.get(ip)) {
            Some(frames) if !frames.is_empty() => {
                out.extend(frames.iter().map(|frame| FrameInfo::of(*ip, frame)));
            }
            _ => out.push(FrameInfo {
                ip: format!("{ip:#x}"),
                ..FrameInfo::default()
            }),
        }
    }
    out
}

/// One place with most of the memory is worth saying; lost samples too.
fn findings(data: &AllocData, accounting: &Accounting) -> Vec<Finding> {
    let mut found = Vec::new();
    let lost: u64 = accounting.lost.values().sum();
    let seen = accounting.seen.get("alloc_sample").copied().unwrap_or(0);
    if lost > 0 && lost * 20 > seen {
        found.push(Finding {
            id: "alloc-samples-lost",
            severity: Severity::Warning,
            title: msg!(
                "{lost} samples were lost: the figures are too low",
                "丢失 {lost} 个样本：各项数值偏低"
            ),
            evidence: vec![msg!("{seen} samples were read", "读到 {seen} 个样本")],
            advice: vec![msg!(
                "sample less often: `--sample 2MiB`",
                "降低采样频率：`--sample 2MiB`"
            )],
        });
    }
    if let Some(top) = data.stacks.first()
        && let Some(share) = top.amount.share.filter(|share| *share > 0.5)
        && top.amount.samples >= 20
    {
        let percent = (share * 100.0).round();
        let who = format!("{}({})", top.comm, top.pid);
        found.push(Finding {
            id: "alloc-one-place",
            severity: Severity::Info,
            title: msg!(
                "{percent}% of the pages are taken in one place of {who}",
                "{percent}% 的页由 {who} 的同一处代码分配"
            ),
            evidence: Vec::new(),
            advice: vec![msg!(
                "allocating is not leaking: `aiops detect memory-leak --pid {0}` tells whether it grows",
                "分配不等于泄漏：用 `aiops detect memory-leak --pid {0}` 判断是否持续增长",
                top.pid
            )],
        });
    }
    found
}

#[cfg(test)]
#[path = "alloc_tests.rs"]
mod tests;
