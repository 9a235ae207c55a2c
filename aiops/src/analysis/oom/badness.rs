//! The kernel's choice recomputed: `oom_badness` of mm/oom_kill.c (Linux 4.19 to 6.18).
//!
//! badness = rss + swap entries + page tables (pages) + oom_score_adj × (total / 1000); the task with
//! the most is chosen. total is the limit of the cgroup with its swap, or RAM and swap. Tasks with
//! oom_score_adj −1000, init and kernel threads are never chosen.

use crate::msg;
use crate::report::Msg;
use crate::report::oom::Candidate;
use crate::report::oom::Incident;
use crate::report::oom::Kill;
use crate::report::oom::Why;

use super::Assembler;
use super::joiner::KernelReport;
use super::people::below;
use super::people::text;
use crate::model::Nanos;

/// Candidates shown; the victim is always among them.
const SHOWN: usize = 10;
/// A limit that is this large is none (`PAGE_COUNTER_MAX` is near 2^63 bytes).
const NO_LIMIT_KB: u64 = 1 << 52;

/// Pages that count, `oc->totalpages`.
pub(super) fn total_pages(
    a: &Assembler,
    i: &Incident,
    report: Option<&KernelReport>,
) -> Option<u64> {
    let page_kb = a.session.host.page_size.unwrap_or(4096) / 1024;
    let swap = i.swap_total_kb?;
    let kb = if i.scope.as_deref() == Some("memcg") {
        let limit = i.memcg_limit_kb?;
        let metrics = i
            .oom_memcg
            .as_deref()
            .and_then(|path| a.window.cgroup_metrics(path));
        let sampled = metrics.and_then(|m| m.swap_limit_kb);
        let swap_limit = if a.session.host.memory_cgroup == Some(1) {
            let both = report.and_then(|r| r.memsw_limit_kb).or(sampled);
            both.map(|both| both.saturating_sub(limit))
        } else {
            report.and_then(|r| r.swap_limit_kb).or(sampled)
        };
        limit
            + swap_limit
                .filter(|kb| *kb < NO_LIMIT_KB)
                .unwrap_or(swap)
                .min(swap)
    } else {
        i.mem_total_kb? + swap
    };
    Some(kb / page_kb.max(1))
}

/// Badness of a task of so many pages, where `total` pages count.
#[must_use]
pub(in crate::analysis) fn points(pages: u64, adj: i32, total: u64) -> i64 {
    let step = i64::try_from(total / 1000).unwrap_or(i64::MAX);
    i64::try_from(pages)
        .unwrap_or(i64::MAX)
        .saturating_add(i64::from(adj).saturating_mul(step))
}

fn finish(mut c: Candidate, total: u64, page_kb: u64) -> Candidate {
    c.unkillable = match (c.pid, c.oom_score_adj) {
        (1, _) => Some("init"),
        (_, Some(-1000)) => Some("adj-minus-1000"),
        _ => None,
    };
    let pages = c
        .rss_kb
        .zip(c.swap_kb)
        .zip(c.pgtables_kb)
        .map(|((r, s), p)| (r + s + p) / page_kb);
    if let (Some(pages), Some(adj), None) = (pages, c.oom_score_adj, c.unkillable) {
        let badness = points(pages, adj, total);
        c.badness_pages = Some(badness);
        c.score = (total > 0)
            .then(|| badness.saturating_mul(1000) / i64::try_from(total).unwrap_or(i64::MAX));
    }
    c
}

/// A victim's candidate from its own figures.
pub(super) fn of_kill(kill: &Kill, total: u64, page_kb: u64) -> Candidate {
    let rss = || Some(kill.anon_rss_kb? + kill.file_rss_kb? + kill.shmem_rss_kb?);
    let candidate = Candidate {
        pid: kill.pid,
        comm: kill.comm.clone(),
        rss_kb: rss(),
        swap_kb: kill.swap_kb,
        pgtables_kb: kill.pgtables_kb,
        oom_score_adj: kill.oom_score_adj,
        victim: true,
        from: "mark",
        age_ms: Some(0.0),
        ..Candidate::default()
    };
    finish(candidate, total, page_kb)
}

fn from_table(report: &KernelReport, total: u64, page_kb: u64) -> Vec<Candidate> {
    let row = |row: &super::joiner::TaskRow| {
        let candidate = Candidate {
            pid: row.pid,
            comm: row.comm.clone(),
            rss_kb: Some(row.rss_pages * page_kb),
            swap_kb: Some(row.swap_pages * page_kb),
            pgtables_kb: Some(row.pgtables_pages * page_kb),
            oom_score_adj: Some(row.adj),
            from: "kmsg",
            age_ms: Some(0.0),
            ..Candidate::default()
        };
        finish(candidate, total, page_kb)
    };
    report.rows.iter().map(row).collect()
}

fn from_samples(
    a: &Assembler,
    i: &Incident,
    at: Nanos,
    total: u64,
    page_kb: u64,
) -> Vec<Candidate> {
    let memcg = i
        .oom_memcg
        .as_deref()
        .filter(|_| i.scope.as_deref() == Some("memcg"));
    let inside = |pid: u32| {
        let Some(root) = memcg else {
            return i.scope.as_deref() != Some("memcg");
        };
        let path = a
            .people
            .pid(pid)
            .and_then(|identity| identity.cgroup.as_ref());
        path.is_some_and(|path| below(&text(path), root))
    };
    // A kernel thread has no memory of its own.
    let alive = a
        .window
        .alive(at)
        .filter(|(one, figures)| figures.rss_kb().is_some() && inside(one.pid));
    let make = |(one, figures): (&super::window::Process, &super::window::Figures)| {
        let candidate = Candidate {
            pid: one.pid,
            comm: one.comm.to_string(),
            rss_kb: figures.rss_kb(),
            swap_kb: figures.swap_kb(),
            pgtables_kb: figures.pgtables_kb(),
            oom_score_adj: figures.oom_score_adj,
            from: "sample",
            age_ms: Some(super::ms(at - figures.ts)),
            ..Candidate::default()
        };
        finish(candidate, total, page_kb)
    };
    alive.map(make).collect()
}

/// Why the first victim was chosen.
pub(super) fn why(a: &Assembler, i: &Incident, report: Option<&KernelReport>, at: Nanos) -> Why {
    let page_kb = (a.session.host.page_size.unwrap_or(4096) / 1024).max(1);
    let Some(total) = total_pages(a, i, report) else {
        return Why::default();
    };
    let table = report.filter(|report| !report.rows.is_empty());
    let mut all = match table {
        Some(report) => from_table(report, total, page_kb),
        None => from_samples(a, i, at, total, page_kb),
    };
    let Some(kill) = i.kills.first() else {
        return Why {
            total_pages: Some(total),
            ..Why::default()
        };
    };
    let own = of_kill(kill, total, page_kb);
    match all.iter_mut().find(|one| one.pid == kill.pid) {
        Some(one) if own.badness_pages.is_some() => *one = own,
        Some(one) => one.victim = true,
        None => all.push(own),
    }
    all.sort_by(|a, b| b.victim_first(a));
    let mut why = Why {
        total_pages: Some(total),
        ..Why::default()
    };
    explain(&mut why, &all, i, total, page_kb);
    let at = all.iter().position(|one| one.victim).unwrap_or(0);
    if at >= SHOWN {
        all.swap(at, SHOWN - 1);
    }
    all.truncate(SHOWN);
    why.candidates = all;
    why
}

impl Candidate {
    /// Order by badness; unkillable ones by their size after all others; equal ones with the victim first.
    fn victim_first(&self, other: &Self) -> std::cmp::Ordering {
        (self.badness_pages, self.victim, self.rss_kb, other.pid).cmp(&(
            other.badness_pages,
            other.victim,
            other.rss_kb,
            self.pid,
        ))
    }

    fn size_pages(&self, page_kb: u64) -> Option<i64> {
        let kb = self.rss_kb? + self.swap_kb? + self.pgtables_kb?;
        i64::try_from(kb / page_kb).ok()
    }
}

fn explain(why: &mut Why, all: &[Candidate], i: &Incident, total: u64, page_kb: u64) {
    let Some(victim) = all.iter().find(|one| one.victim) else {
        return;
    };
    let (Some(bad), Some(size)) = (victim.badness_pages, victim.size_pages(page_kb)) else {
        return;
    };
    let step = i64::try_from(total / 1000).unwrap_or(i64::MAX);
    let (pid, comm, adj) = (victim.pid, &victim.comm, victim.oom_score_adj.unwrap_or(0));
    let score = victim.score.unwrap_or(0);
    why.summary.push(msg!(
        "{comm} (pid {pid}) had a badness of {bad} pages ({score} per mille of {total}): {size} pages of memory, oom_score_adj {adj} × {step}",
        "{comm}（pid {pid}）的 badness 为 {bad} 页（{total} 页的 {score}‰）：内存 {size} 页，oom_score_adj {adj} × {step}"
    ));
    let mut others = all.iter().filter(|one| !one.victim);
    if let Some(next) = others.clone().find(|one| one.badness_pages.is_some()) {
        let (npid, ncomm, nbad) = (next.pid, &next.comm, next.badness_pages.unwrap_or(0));
        if nbad > bad {
            let (from, age) = (next.from, next.age_ms.unwrap_or(0.0));
            why.summary.push(msg!(
                "{ncomm} (pid {npid}) comes out higher, {nbad} pages ({from} figures, {age:.0} ms old): the kernel's own figures at that moment, vm.oom_kill_allocating_task, a cpuset or an exiting task decided otherwise",
                "{ncomm}（pid {npid}）算得更高：{nbad} 页（来自 {from}，{age:.0} 毫秒前）：内核当时的数值、vm.oom_kill_allocating_task、cpuset 或正在退出的任务造成了不同的选择"
            ));
        } else {
            why.summary.push(msg!(
                "next: {ncomm} (pid {npid}) with {nbad} pages",
                "其次：{ncomm}（pid {npid}），{nbad} 页"
            ));
            adjust(&mut why.would_change, victim, (bad, size), next, step);
        }
    } else if others.next().is_none() {
        why.summary.push(msg!(
            "no other candidate is known",
            "没有其他已知的候选进程"
        ));
    }
    spared(why, all, (bad, size), page_kb, step);
    limit(&mut why.would_change, i, page_kb);
}

/// The largest oom_score_adj of the victim at which the next one has more.
fn adjust(
    out: &mut Vec<Msg>,
    victim: &Candidate,
    (_, size): (i64, i64),
    next: &Candidate,
    step: i64,
) {
    let gap = next.badness_pages.unwrap_or(0).saturating_sub(size);
    let (comm, pid, ncomm, npid) = (&victim.comm, victim.pid, &next.comm, next.pid);
    let most = if step == 0 {
        -1000
    } else {
        (gap - 1).div_euclid(step).max(-1000)
    };
    out.push(msg!(
        "an oom_score_adj of {most} or less for {comm} (pid {pid}) would have made {ncomm} (pid {npid}) the victim",
        "若 {comm}（pid {pid}）的 oom_score_adj 不大于 {most}，被杀的会是 {ncomm}（pid {npid}）"
    ));
}

/// Larger processes that their oom_score_adj, or what they are, kept alive.
fn spared(why: &mut Why, all: &[Candidate], (bad, size): (i64, i64), page_kb: u64, step: i64) {
    let mut larger: Vec<_> = all
        .iter()
        .filter(|one| !one.victim && one.badness_pages.is_none_or(|other| other <= bad))
        .filter_map(|one| Some((one.size_pages(page_kb)?, one)))
        .filter(|(other, _)| *other > size)
        .collect();
    larger.sort_by_key(|(other, one)| (std::cmp::Reverse(*other), one.pid));
    for (other, one) in larger.into_iter().take(3) {
        let (pid, comm, adj) = (one.pid, &one.comm, one.oom_score_adj.unwrap_or(0));
        if one.unkillable == Some("init") {
            why.summary.push(msg!(
                "{comm} (pid {pid}) is larger ({other} pages) but is init, which is never killed",
                "{comm}（pid {pid}）更大（{other} 页），但它是 init，不会被杀"
            ));
            continue;
        }
        if adj >= 0 {
            let own = all
                .iter()
                .find(|one| one.victim)
                .and_then(|one| one.oom_score_adj)
                .unwrap_or(0);
            why.summary.push(msg!(
                "{comm} (pid {pid}) is larger ({other} pages), but its oom_score_adj of {adj} is below the victim's {own}",
                "{comm}（pid {pid}）更大（{other} 页），但其 oom_score_adj {adj} 低于受害者的 {own}"
            ));
            continue;
        }
        why.summary.push(msg!(
            "{comm} (pid {pid}) is larger ({other} pages) and was spared by its oom_score_adj of {adj}",
            "{comm}（pid {pid}）更大（{other} 页），因 oom_score_adj 为 {adj} 而幸免"
        ));
        if step > 0 {
            let least = (bad - other).div_euclid(step) + 1;
            let least = least.max(-999);
            why.would_change.push(msg!(
                "an oom_score_adj of {least} or more for {comm} (pid {pid}) would have made it the victim",
                "若 {comm}（pid {pid}）的 oom_score_adj 不小于 {least}，被杀的会是它"
            ));
        }
    }
}

fn limit(out: &mut Vec<Msg>, i: &Incident, page_kb: u64) {
    let (Some(limit), Some(usage), Some(order)) =
        (i.memcg_limit_kb, i.memcg_usage_kb, i.trigger.order)
    else {
        return;
    };
    let (Some(path), Ok(order)) = (&i.oom_memcg, u32::try_from(order)) else {
        return;
    };
    let Some(pages) = 1_u64.checked_shl(order) else {
        return;
    };
    let need = usage.saturating_add(pages.saturating_mul(page_kb));
    // The kernel charges in batches, so use may stand below the limit by more than was asked for.
    if usage <= limit && need > limit {
        out.push(msg!(
            "a limit of {path} of at least {need} KiB (now {limit}) would have let this one allocation through",
            "若 {path} 的上限不低于 {need} KiB（现为 {limit}），这一次分配就能成功"
        ));
    }
    if let Some(rate) = i
        .growth
        .as_ref()
        .and_then(|g| g.rate_kb_per_s)
        .filter(|rate| *rate > 0.0 && i.growth.as_ref().is_some_and(|g| g.shape != "steady"))
    {
        let seconds = limit as f64 / rate;
        out.push(msg!(
            "at its growth of {rate:.0} KiB/s the victim would have filled twice that limit {seconds:.0} s later",
            "按其 {rate:.0} KiB/s 的增长速度，两倍的上限也会在 {seconds:.0} 秒后用尽"
        ));
    }
}
