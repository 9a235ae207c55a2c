//! What stalls mean: signs that come before an OOM kill, and what to do.

use crate::msg;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::Severity;
use crate::report::stalls::CgroupRow;
use crate::report::stalls::ReclaimData;

/// A stall that users feel, ms.
const LONG_MS: f64 = 100.0;
/// A stall after which a service has missed its deadline, ms.
const VERY_LONG_MS: f64 = 1000.0;
/// Share of the time that a process may wait.
const SHARE: f64 = 0.05;
/// Reclaim that keeps less than this of what it scans finds nothing to take.
const POOR: f64 = 0.1;
/// Pages that must have been scanned before a share of them says something.
const ENOUGH_PAGES: u64 = 10_000;
/// `PAGE_ALLOC_COSTLY_ORDER`: beyond it allocations may fail.
const COSTLY: i32 = 3;

/// The findings, worst first.
pub(super) fn findings(data: &ReclaimData, accounting: &Accounting) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    found.extend(poor(data));
    found.extend(data.cgroups.iter().filter_map(limit).take(3));
    found.extend(long(data));
    found.extend(share(data));
    found.extend(compaction(data));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    if found.is_empty() && accounting.complete {
        found.push(Finding {
            id: "reclaim-calm",
            severity: Severity::Info,
            title: msg!(
                "Nothing waited long for memory",
                "没有任务因等待内存而长时间停顿"
            ),
            evidence: Vec::new(),
            advice: Vec::new(),
        });
    }
    found
}

fn poor(data: &ReclaimData) -> Option<Finding> {
    let row = data.kinds.iter().find(|row| {
        let enough = row
            .pages
            .scanned_pages
            .is_some_and(|pages| pages >= ENOUGH_PAGES);
        enough && row.pages.efficiency.is_some_and(|share| share < POOR)
    })?;
    let (kind, scanned) = (row.kind, row.pages.scanned_pages?);
    let (kept, percent) = (row.pages.reclaimed_pages?, row.pages.efficiency? * 100.0);
    Some(Finding {
        id: "reclaim-inefficient",
        severity: Severity::Critical,
        title: msg!(
            "Reclaim finds hardly anything to take: an OOM kill may follow",
            "回收几乎找不到可回收的页：可能即将触发 OOM"
        ),
        evidence: vec![msg!(
            "{kind}: {kept} of {scanned} scanned pages reclaimed ({percent:.1} %)",
            "{kind}：扫描 {scanned} 页，仅回收 {kept} 页（{percent:.1}%）"
        )],
        advice: vec![
            msg!(
                "see who holds the memory: `aiops inspect processes`, and who runs out when: `aiops detect oom-risk`",
                "查看内存占用者：`aiops inspect processes`；预测耗尽时间：`aiops detect oom-risk`"
            ),
            msg!(
                "keep `aiops trace oom` running, so that a kill is explained",
                "保持 `aiops trace oom` 运行，以便解释可能发生的终止"
            ),
        ],
    })
}

fn limit(row: &CgroupRow) -> Option<Finding> {
    let p99 = row.latency.p99_us?;
    let by = row.limited_by.as_deref()?;
    if row.memcg_ms < LONG_MS {
        return None;
    }
    let (count, memcg_ms) = (row.latency.count, row.memcg_ms);
    let name = row.cgroup.as_deref().unwrap_or("?");
    let limit = row
        .limit_kb
        .map_or_else(|| "?".to_owned(), crate::report::size_kb);
    let hits = row.limit_hits.unwrap_or(0);
    Some(Finding {
        id: "reclaim-cgroup-limit",
        severity: Severity::Warning,
        title: msg!(
            "Tasks of {name} wait for memory at the limit of {by} ({limit})",
            "{name} 的任务在 {by} 的上限（{limit}）处等待内存"
        ),
        evidence: vec![msg!(
            "{count} waits, {memcg_ms:.0} ms in all, p99 {p99:.0} µs; the limit was hit {hits} times",
            "等待 {count} 次，共 {memcg_ms:.0} ms，p99 {p99:.0} µs；触及上限 {hits} 次"
        )],
        advice: vec![msg!(
            "raise the limit of {by}, or let it hold less: `aiops inspect cache` shows whether it is page cache",
            "提高 {by} 的上限或减少其占用：`aiops inspect cache` 可查看是否为页缓存"
        )],
    })
}

fn long(data: &ReclaimData) -> Option<Finding> {
    let first = data.longest.first().filter(|row| row.ms >= LONG_MS)?;
    let (ms, comm, pid, kind) = (first.ms, &first.comm, first.pid, first.kind);
    Some(Finding {
        id: "reclaim-long-stall",
        severity: if ms >= VERY_LONG_MS {
            Severity::Critical
        } else {
            Severity::Warning
        },
        title: msg!(
            "{comm} (pid {pid}) waited {ms:.0} ms for memory at once",
            "{comm}（pid {pid}）单次等待内存 {ms:.0} ms"
        ),
        evidence: vec![msg!(
            "kind {kind}, stack: {}",
            "类型 {kind}，调用栈：{}",
            first
                .stack
                .iter()
                .take(6)
                .cloned()
                .collect::<Vec<_>>()
                .join(" < ")
        )],
        advice: vec![msg!(
            "give kswapd a head start: raise vm.watermark_scale_factor, or vm.min_free_kbytes",
            "让 kswapd 更早开始工作：提高 vm.watermark_scale_factor 或 vm.min_free_kbytes"
        )],
    })
}

fn share(data: &ReclaimData) -> Option<Finding> {
    let first = data
        .processes
        .iter()
        .find(|row| row.stalled_share.is_some_and(|share| share >= SHARE))?;
    let (comm, pid, share) = (&first.comm, first.pid, first.stalled_share? * 100.0);
    let ms = first.latency.total_ms;
    Some(Finding {
        id: "reclaim-stalled-process",
        severity: Severity::Warning,
        title: msg!(
            "{comm} (pid {pid}) waited for memory {share:.1} % of the time",
            "{comm}（pid {pid}）有 {share:.1}% 的时间在等待内存"
        ),
        evidence: vec![msg!("{ms:.0} ms in all", "共 {ms:.0} ms")],
        advice: vec![msg!(
            "see what it allocates, or give it more memory: `aiops inspect memory --pid {pid}`",
            "查看其分配内容或增加内存：`aiops inspect memory --pid {pid}`"
        )],
    })
}

fn compaction(data: &ReclaimData) -> Option<Finding> {
    let row = data.orders.iter().find(|row| {
        row.kind == "compaction" && row.order > COSTLY && row.failed.is_some_and(|n| n > 0)
    })?;
    let (order, failed, count) = (row.order, row.failed?, row.latency.count);
    Some(Finding {
        id: "reclaim-fragmented",
        severity: Severity::Warning,
        title: msg!(
            "Compaction for order {order} fails: memory is fragmented",
            "{order} 阶内存规整失败：内存碎片化"
        ),
        evidence: vec![msg!(
            "{failed} of {count} compactions made no free block",
            "{count} 次规整中 {failed} 次未得到空闲块"
        )],
        advice: vec![msg!(
            "if huge pages cause it, set /sys/kernel/mm/transparent_hugepage/defrag to defer+madvise",
            "若由大页引起，将 /sys/kernel/mm/transparent_hugepage/defrag 设为 defer+madvise"
        )],
    })
}
