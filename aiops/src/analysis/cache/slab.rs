//! Slab caches: size, waste, growth, and what the well-known ones are.

use std::collections::HashMap;

use crate::analysis::readings::Readings;
use crate::model::Slab;
use crate::model::SystemMetrics;
use crate::msg;
use crate::report::Msg;
use crate::report::cache::SlabRow;
use crate::report::cache::SlabTotals;

/// Rows, the largest first, and the totals.
pub(super) fn read(
    readings: &Readings,
    system: &SystemMetrics,
    page_kb: u64,
) -> (Option<Vec<SlabRow>>, SlabTotals) {
    let rows = rows(readings, page_kb);
    let grown = |get: super::Get| {
        let (first, last, _) = readings.span()?;
        let (from, to) = (get(first.system.as_ref()?)?, get(last.system.as_ref()?)?);
        difference(from, to)
    };
    let sum = |wanted: &dyn Fn(&SlabRow) -> bool, size: fn(&SlabRow) -> u64| {
        let rows = rows.as_ref()?.iter().filter(|row| wanted(row));
        Some(rows.map(size).fold(0, u64::saturating_add))
    };
    let totals = SlabTotals {
        slab_kb: system.slab_kb,
        reclaimable_kb: system.sreclaimable_kb,
        unreclaimable_kb: system.sunreclaim_kb,
        growth_kb: grown(|system| system.slab_kb),
        unreclaimable_growth_kb: grown(|system| system.sunreclaim_kb),
        caches: rows.as_ref().map(|rows| rows.len() as u64),
        listed_kb: sum(&|_| true, |row| row.size_kb),
        waste_kb: sum(&|_| true, |row| row.waste_kb),
        dentry_kb: sum(&|row| row.name == "dentry", |row| row.size_kb),
        inode_kb: sum(&|row| is_inode(&row.name), |row| row.size_kb),
    };
    (rows, totals)
}

/// Whether a cache holds inodes: `inode_cache`, `ext4_inode_cache`, `xfs_inode`, `nfs_inode_cache`.
fn is_inode(name: &str) -> bool {
    name.ends_with("inode_cache") || name.ends_with("_inode")
}

fn size_kb(slab: &Slab, page_kb: u64) -> u64 {
    let pages = slab.slabs.saturating_mul(slab.pages_per_slab);
    pages.saturating_mul(page_kb)
}

fn difference(from: u64, to: u64) -> Option<i64> {
    i64::try_from(i128::from(to) - i128::from(from)).ok()
}

fn rows(readings: &Readings, page_kb: u64) -> Option<Vec<SlabRow>> {
    let slabs = readings.detail()?.slabs.as_ref()?;
    let seconds = readings.span().map(|(_, _, seconds)| seconds);
    let first = readings
        .last_detail
        .as_ref()
        .and(readings.first_detail.as_ref());
    let first = first.and_then(|detail| detail.slabs.as_ref());
    let before: Option<HashMap<&[u8], u64>> = first.map(|slabs| {
        let sizes = slabs
            .iter()
            .map(|slab| (slab.name.as_bytes(), size_kb(slab, page_kb)));
        sizes.collect()
    });
    let mut rows: Vec<SlabRow> = slabs
        .iter()
        .map(|slab| {
            let size = size_kb(slab, page_kb);
            // A cache that is new since the first reading has grown from nothing.
            let growth = before.as_ref().and_then(|before| {
                let from = before.get(slab.name.as_bytes()).copied().unwrap_or(0);
                difference(from, size)
            });
            let unused = slab.objects.saturating_sub(slab.active_objects);
            let name = slab.name.lossy().into_owned();
            SlabRow {
                what: what(&name),
                name,
                active_objects: slab.active_objects,
                objects: slab.objects,
                object_bytes: slab.object_bytes,
                slabs: slab.slabs,
                active_share: super::ratio(slab.active_objects as f64, slab.objects as f64),
                size_kb: size,
                waste_kb: unused.saturating_mul(slab.object_bytes) / 1024,
                growth_kb: growth,
                growth_kb_per_s: growth.and_then(|growth| super::ratio(growth as f64, seconds?)),
                reclaimable: slab.reclaimable,
            }
        })
        .collect();
    rows.sort_by(|a, b| b.size_kb.cmp(&a.size_kb).then_with(|| a.name.cmp(&b.name)));
    Some(rows)
}

/// What a well-known cache is, and what fills it.
fn what(name: &str) -> Option<Msg> {
    Some(match name {
        "dentry" => msg!(
            "names of files and directories, also of files that do not exist; filled by every path lookup (find, backups, many small files, programs that look for missing files); reclaimed by memory pressure, the faster the higher vm.vfs_cache_pressure is",
            "目录项缓存：文件与目录名（包括不存在的文件）；每次路径查找都会填充（find、备份、海量小文件、反复查找不存在的文件）；内存紧张时回收，vm.vfs_cache_pressure 越大回收越快"
        ),
        name if is_inode(name) => msg!(
            "attributes of files; filled by every file that is opened or looked at (stat), kept as long as its directory entry or its page cache is; reclaimed under pressure by vm.vfs_cache_pressure",
            "inode 缓存：文件属性；打开或 stat 文件时填充，随目录项与页缓存保留；内存紧张时按 vm.vfs_cache_pressure 回收"
        ),
        "buffer_head" => msg!(
            "state of disk blocks behind the page cache (ext4, block devices); goes with the page cache",
            "页缓存背后的磁盘块状态（ext4、块设备）；随页缓存释放"
        ),
        "radix_tree_node" => msg!(
            "index of the page cache and of shared memory; grows with the number of cached pages and leaves with them",
            "页缓存与共享内存的索引；随缓存页数增减"
        ),
        "vm_area_struct" | "maple_node" => msg!(
            "mappings of processes: grows with processes, threads and mmap calls",
            "进程的内存映射：随进程、线程与 mmap 次数增长"
        ),
        "filp" => msg!("open files", "已打开的文件"),
        "task_struct" => msg!("processes and threads", "进程与线程"),
        "anon_vma" | "anon_vma_chain" => msg!(
            "reverse mapping of anonymous memory: grows with fork",
            "匿名内存的反向映射：随 fork 增长"
        ),
        "kernfs_node_cache" => msg!(
            "files of sysfs and of cgroups: grows with devices and cgroups",
            "sysfs 与 cgroup 的文件：随设备与 cgroup 数量增长"
        ),
        "TCP" | "TCPv6" | "sock_inode_cache" => msg!("sockets", "套接字"),
        "skbuff_head_cache" | "skbuff_small_head" | "skbuff_fclone_cache" => {
            msg!("network packets in flight", "在途网络数据包")
        }
        "nf_conntrack" => msg!("connections that the firewall tracks", "防火墙跟踪的连接"),
        name if name.starts_with("kmalloc-") => msg!(
            "kernel allocations of this size without a cache of their own",
            "内核中没有专用缓存的该大小分配"
        ),
        _ => return None,
    })
}
