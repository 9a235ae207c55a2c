//! The hooks of `trace reclaim` and `trace swap`.

use super::Attach;
use super::Hook;
use super::TYPED;
use super::classic;

/// A row whose oldest kernel seen is that of this family.
const fn hook(
    program: &'static str,
    category: &'static str,
    name: &'static str,
    lost: (&'static str, &'static str),
) -> Hook {
    Hook {
        oldest: "6.1",
        ..classic(program, category, name, lost)
    }
}

/// Ends come before beginnings: whatever is seen to begin is seen to end.
pub const RECLAIM: &[Hook] = &[
    hook(
        "direct_end",
        "vmscan",
        "mm_vmscan_direct_reclaim_end",
        (
            "direct reclaim: how long allocations wait for the host's memory",
            "直接回收：分配等待全局内存的时长",
        ),
    ),
    hook(
        "memcg_end",
        "vmscan",
        "mm_vmscan_memcg_reclaim_end",
        (
            "reclaim of memory cgroups: how long their tasks wait at the limit",
            "内存 cgroup 回收：其任务在上限处等待的时长",
        ),
    ),
    hook(
        "node_end",
        "vmscan",
        "mm_vmscan_node_reclaim_end",
        (
            "reclaim of one NUMA node (zone_reclaim_mode)",
            "单个 NUMA 节点的回收（zone_reclaim_mode）",
        ),
    ),
    hook(
        "kswapd_sleep",
        "vmscan",
        "mm_vmscan_kswapd_sleep",
        ("how long kswapd works", "kswapd 的工作时长"),
    ),
    hook(
        "compaction_end",
        "compaction",
        "mm_compaction_end",
        ("compaction: its time and result", "内存规整的时长与结果"),
    ),
    hook(
        "shrink_inactive",
        "vmscan",
        "mm_vmscan_lru_shrink_inactive",
        (
            "pages scanned, and so the efficiency of reclaim",
            "扫描的页数，因而也缺少回收效率",
        ),
    ),
    hook(
        "throttled",
        "vmscan",
        "mm_vmscan_throttled",
        (
            "sleeps of reclaim for want of progress (Linux 5.16 and later)",
            "回收因无进展而睡眠（Linux 5.16 起）",
        ),
    ),
    hook(
        "compaction_asked",
        "compaction",
        "mm_compaction_try_to_compact_pages",
        (
            "order and mask of direct compaction",
            "直接规整的阶数与掩码",
        ),
    ),
    hook(
        "kcompactd_wake",
        "compaction",
        "mm_compaction_kcompactd_wake",
        ("order of compaction in the background", "后台规整的阶数"),
    ),
    hook(
        "direct_begin",
        "vmscan",
        "mm_vmscan_direct_reclaim_begin",
        (
            "direct reclaim: its beginning, order and mask",
            "直接回收的开始、阶数与掩码",
        ),
    ),
    hook(
        "memcg_begin",
        "vmscan",
        "mm_vmscan_memcg_reclaim_begin",
        (
            "reclaim of memory cgroups: its beginning, order and mask",
            "内存 cgroup 回收的开始、阶数与掩码",
        ),
    ),
    hook(
        "node_begin",
        "vmscan",
        "mm_vmscan_node_reclaim_begin",
        (
            "reclaim of one NUMA node: its beginning",
            "单个 NUMA 节点回收的开始",
        ),
    ),
    hook(
        "kswapd_wake",
        "vmscan",
        "mm_vmscan_kswapd_wake",
        ("when kswapd begins to work", "kswapd 开始工作的时间"),
    ),
    hook(
        "compaction_begin",
        "compaction",
        "mm_compaction_begin",
        (
            "when the compaction of a zone begins",
            "内存域规整开始的时间",
        ),
    ),
];

/// One hook tells both directions.
pub const SWAP: &[Hook] = &[Hook {
    attach: Attach::RawTracepoint { name: "rss_stat" },
    required: true,
    privilege: TYPED,
    ..hook(
        "swap_entries",
        "kmem",
        "rss_stat",
        (
            "everything: nothing else tells whose pages are swapped",
            "全部：没有其他途径得知被交换页面的归属",
        ),
    )
}];
