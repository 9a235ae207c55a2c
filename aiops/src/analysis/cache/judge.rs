//! One sentence for each part: what the figures say, in words.

use super::findings;
use crate::msg;
use crate::report::Msg;
use crate::report::cache::CacheData;
use crate::report::cache::Judgement;
use crate::report::cache::State;

/// The parts in order.
pub(super) fn judge(data: &CacheData, page_kb: u64) -> Vec<Judgement> {
    let parts = [
        ("page-cache", page_cache(data, page_kb)),
        ("reclaim", reclaim(data)),
        ("write-back", write_back(data)),
        ("slab", slab(data)),
        ("fragmentation", fragmentation(data)),
    ];
    let unknown = || {
        (
            State::Unknown,
            msg!("unknown: figures are missing", "未知：缺少数据"),
        )
    };
    let parts = parts.into_iter().map(|(part, judged)| {
        let (state, text) = judged.unwrap_or_else(unknown);
        Judgement { part, state, text }
    });
    parts.collect()
}

fn state(bad: bool) -> State {
    if bad { State::Bad } else { State::Good }
}

fn page_cache(data: &CacheData, page_kb: u64) -> Option<(State, Msg)> {
    let refaults = data.rates.refault_file_per_s?;
    let mib = refaults * page_kb as f64 / 1024.0;
    let faults = data.rates.major_faults_per_s.unwrap_or(0.0);
    let bad = mib >= 1.0;
    let text = if refaults < 1.0 {
        msg!(
            "large enough: no page came back after reclaim; {faults:.0} major faults/s",
            "容量充足：没有页面在回收后又被读回；主缺页 {faults:.0} 次/秒"
        )
    } else if let Some(cgroup) = findings::limited(data).filter(|_| bad) {
        let path = &cgroup.path;
        msg!(
            "too small within the limit of cgroup {path}: {mib:.1} MiB/s came back after reclaim; {faults:.0} major faults/s",
            "cgroup {path} 的限额内缓存过小：每秒 {mib:.1} MiB 在回收后又被读回；主缺页 {faults:.0} 次/秒"
        )
    } else if bad {
        msg!(
            "too small for what is read: {mib:.1} MiB/s came back after reclaim; {faults:.0} major faults/s",
            "相对读取量过小：每秒 {mib:.1} MiB 在回收后又被读回；主缺页 {faults:.0} 次/秒"
        )
    } else {
        msg!(
            "nearly large enough: {refaults:.0} pages/s came back after reclaim; {faults:.0} major faults/s",
            "基本充足：每秒 {refaults:.0} 页在回收后又被读回；主缺页 {faults:.0} 次/秒"
        )
    };
    Some((state(bad), text))
}

fn reclaim(data: &CacheData) -> Option<(State, Msg)> {
    let scanned = data.reclaim.scanned_pages?;
    if scanned == 0 {
        let boot = data.reclaim.efficiency_since_boot.map(|part| part * 100.0);
        return Some((
            State::Good,
            match boot {
                Some(boot) => msg!(
                    "idle: nothing was scanned (since boot {boot:.0}% of scanned pages were reclaimed)",
                    "空闲：未发生扫描（启动以来扫描页中 {boot:.0}% 被回收）"
                ),
                None if data.reclaim.scanned_pages_since_boot == Some(0) => msg!(
                    "idle: nothing was scanned, and nothing since boot",
                    "空闲：未发生扫描，启动以来也没有"
                ),
                None => msg!("idle: nothing was scanned", "空闲：未发生扫描"),
            },
        ));
    }
    let part = data.reclaim.efficiency? * 100.0;
    let host = data.reclaim.host_scanned_pages.unwrap_or(0);
    if host == 0 {
        let named = findings::limited(data).map(|cgroup| format!(": {}", cgroup.path));
        let named = named.unwrap_or_default();
        return Some((
            state(part < 30.0 || !named.is_empty()),
            msg!(
                "only cgroups at their limits reclaim{named}; {part:.0}% of {scanned} scanned pages were reclaimed",
                "仅已达限额的 cgroup 在回收{named}；扫描 {scanned} 页，回收 {part:.0}%"
            ),
        ));
    }
    let direct = data.reclaim.direct_share.unwrap_or(0.0) * 100.0;
    Some((
        state(part < 30.0 || direct >= 50.0),
        msg!(
            "{part:.0}% of {scanned} scanned pages were reclaimed; programs did {direct:.0}% of the host's scanning themselves",
            "扫描 {scanned} 页，回收 {part:.0}%；主机扫描中 {direct:.0}% 由程序自身完成（直接回收）"
        ),
    ))
}

fn write_back(data: &CacheData) -> Option<(State, Msg)> {
    let dirty = &data.dirty;
    let part = dirty.share_of_threshold? * 100.0;
    let held = dirty
        .dirty_kb?
        .saturating_add(dirty.writeback_kb.unwrap_or(0));
    let bad = dirty.throttled_from_kb.is_some_and(|from| held >= from);
    let end = dirty.time_to_write_back_s.filter(|_| held > 0);
    let text = match end {
        Some(seconds) => msg!(
            "{part:.1}% of the limit is dirty; {seconds:.1} s to write it back at this rate",
            "脏页为上限的 {part:.1}%；按当前速率写完需 {seconds:.1} 秒"
        ),
        None => msg!(
            "{part:.1}% of the limit is dirty",
            "脏页为上限的 {part:.1}%"
        ),
    };
    Some((state(bad), text))
}

fn slab(data: &CacheData) -> Option<(State, Msg)> {
    let total = data.page_cache.mem_total_kb? as f64;
    let slab = super::ratio(data.slab_totals.slab_kb? as f64, total)? * 100.0;
    let fixed = super::ratio(data.slab_totals.unreclaimable_kb? as f64, total)? * 100.0;
    let bad = fixed >= 15.0;
    let text = msg!(
        "{slab:.1}% of memory, {fixed:.1}% not reclaimable",
        "占内存 {slab:.1}%，其中不可回收 {fixed:.1}%"
    );
    Some((state(bad), text))
}

fn fragmentation(data: &CacheData) -> Option<(State, Msg)> {
    let found = data.fragmentation.as_ref()?;
    let small = found.unusable_index_order_3? * 100.0;
    let huge = found.unusable_index_order_9? * 100.0;
    let stalls = data.rates.compact_stall_per_s.unwrap_or(0.0);
    Some((
        state(small >= 50.0 && stalls >= 1.0),
        msg!(
            "{small:.1}% of free memory is of no use for 8 pages in a row, {huge:.1}% for a huge page",
            "空闲内存中 {small:.1}% 无法满足连续 8 页请求，{huge:.1}% 无法满足大页请求"
        ),
    ))
}
