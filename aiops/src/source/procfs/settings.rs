//! Settings of the memory manager: /proc/sys/vm and /sys/kernel/mm.

use crate::model::Setting;

use super::detail::Look;
use super::swaps::chosen;

/// Name and file of each.
const SETTINGS: &[(&str, &str)] = &[
    ("vm.swappiness", "proc/sys/vm/swappiness"),
    ("vm.vfs_cache_pressure", "proc/sys/vm/vfs_cache_pressure"),
    ("vm.dirty_ratio", "proc/sys/vm/dirty_ratio"),
    ("vm.dirty_bytes", "proc/sys/vm/dirty_bytes"),
    (
        "vm.dirty_background_ratio",
        "proc/sys/vm/dirty_background_ratio",
    ),
    (
        "vm.dirty_background_bytes",
        "proc/sys/vm/dirty_background_bytes",
    ),
    (
        "vm.dirty_expire_centisecs",
        "proc/sys/vm/dirty_expire_centisecs",
    ),
    (
        "vm.dirty_writeback_centisecs",
        "proc/sys/vm/dirty_writeback_centisecs",
    ),
    ("vm.min_free_kbytes", "proc/sys/vm/min_free_kbytes"),
    (
        "vm.watermark_scale_factor",
        "proc/sys/vm/watermark_scale_factor",
    ),
    ("vm.overcommit_memory", "proc/sys/vm/overcommit_memory"),
    ("vm.overcommit_ratio", "proc/sys/vm/overcommit_ratio"),
    ("vm.overcommit_kbytes", "proc/sys/vm/overcommit_kbytes"),
    ("vm.nr_hugepages", "proc/sys/vm/nr_hugepages"),
    ("vm.page-cluster", "proc/sys/vm/page-cluster"),
    ("vm.zone_reclaim_mode", "proc/sys/vm/zone_reclaim_mode"),
    ("vm.max_map_count", "proc/sys/vm/max_map_count"),
    ("vm.extfrag_threshold", "proc/sys/vm/extfrag_threshold"),
    ("vm.panic_on_oom", "proc/sys/vm/panic_on_oom"),
    ("thp.enabled", "sys/kernel/mm/transparent_hugepage/enabled"),
    ("thp.defrag", "sys/kernel/mm/transparent_hugepage/defrag"),
    (
        "thp.shmem_enabled",
        "sys/kernel/mm/transparent_hugepage/shmem_enabled",
    ),
    ("lru_gen.enabled", "sys/kernel/mm/lru_gen/enabled"),
    ("ksm.run", "sys/kernel/mm/ksm/run"),
    ("numa.balancing", "proc/sys/kernel/numa_balancing"),
];

/// Those that this kernel has.
pub(super) fn read(look: &Look<'_>) -> Vec<Setting> {
    let settings = SETTINGS.iter().filter_map(|(name, file)| {
        Some(Setting {
            name: (*name).to_owned(),
            value: chosen(&look.maybe(file)?),
        })
    });
    settings.collect()
}
