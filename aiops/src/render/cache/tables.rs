//! Tables of the cache reports.

use super::super::units::size;
use crate::msg;
use crate::render::Lang;
use crate::render::text::Column;
use crate::render::text::Out;
use crate::render::text::Paint;
use crate::render::text::Table;
use crate::render::units;
use crate::render::width;
use crate::report::cache::CacheData;
use crate::report::cache::PageTypeRow;

fn bytes(bytes: u64) -> String {
    units::size_kb(bytes.div_ceil(1024))
}

/// KiB per second.
fn speed(kb_per_s: Option<f64>, lang: Lang) -> String {
    kb_per_s.map_or_else(
        || lang.unknown().to_owned(),
        |rate| {
            let kb = std::time::Duration::try_from_secs_f64(rate.max(0.0).round());
            let kb = kb.map_or(0, |kb| kb.as_secs());
            format!("{}/s", units::size_kb(kb))
        },
    )
}

fn rate(per_s: Option<f64>, lang: Lang) -> String {
    per_s.map_or_else(|| lang.unknown().to_owned(), |rate| format!("{rate:.1}"))
}

fn percent(share: Option<f64>, lang: Lang) -> String {
    share.map_or_else(
        || lang.unknown().to_owned(),
        |share| format!("{:.1}%", share * 100.0),
    )
}

/// A signed size: `+12 KiB`.
fn change(kb: i64) -> String {
    let size = units::size_kb(kb.unsigned_abs());
    match kb {
        0 => "0".to_owned(),
        1.. => format!("+{size}"),
        _ => format!("-{size}"),
    }
}

/// Page cache in three lines.
pub(super) fn overview(data: &CacheData, out: &mut Out) {
    let lang = out.lang();
    let cache = &data.page_cache;
    out.heading("📦", lang.pick("Page cache", "页缓存"));
    let (cached, buffers) = (size(cache.cached_kb, lang), size(cache.buffers_kb, lang));
    let (active, inactive) = (
        size(cache.active_file_kb, lang),
        size(cache.inactive_file_kb, lang),
    );
    let (shmem, mapped) = (size(cache.shmem_kb, lang), size(cache.mapped_kb, lang));
    let text = msg!(
        "{cached} cached + {buffers} buffers; file pages {active} active, {inactive} inactive; mapped {mapped}; shared memory {shmem}",
        "缓存 {cached} + 缓冲 {buffers}；文件页活跃 {active}、不活跃 {inactive}；已映射 {mapped}；共享内存 {shmem}"
    );
    out.line(2, Paint::Plain, lang.of(&text));
    let (now, boot) = (
        percent(data.reclaim.efficiency, lang),
        percent(data.reclaim.efficiency_since_boot, lang),
    );
    let refaults = rate(data.rates.refault_file_per_s, lang);
    let faults = rate(data.rates.major_faults_per_s, lang);
    let text = msg!(
        "refaults {refaults}/s, major faults {faults}/s; reclaim efficiency {now} (since boot {boot})",
        "refault {refaults} 次/秒，主缺页 {faults} 次/秒；回收效率 {now}（启动以来 {boot}）"
    );
    out.line(2, Paint::Plain, lang.of(&text));
}

/// Dirty pages against their limits.
pub(super) fn dirty(data: &CacheData, out: &mut Out) {
    let lang = out.lang();
    let dirty = &data.dirty;
    out.heading("✍", lang.pick("Dirty pages", "脏页"));
    let (now, writing) = (size(dirty.dirty_kb, lang), size(dirty.writeback_kb, lang));
    let (limit, background) = (
        size(dirty.threshold_kb, lang),
        size(dirty.background_threshold_kb, lang),
    );
    let share = percent(dirty.share_of_threshold, lang);
    let text = msg!(
        "{now} dirty, {writing} being written: {share} of the limit {limit} (flushers begin at {background})",
        "脏页 {now}，回写中 {writing}：为上限 {limit} 的 {share}（后台回写起点 {background}）"
    );
    out.line(2, Paint::Plain, lang.of(&text));
    let (made, written) = (
        speed(dirty.dirtied_kb_per_s, lang),
        speed(dirty.written_kb_per_s, lang),
    );
    let time = dirty
        .time_to_write_back_s
        .map_or_else(|| lang.unknown().to_owned(), units::span);
    let text = msg!(
        "made dirty {made}, written back {written}; to write all of it: {time}",
        "产生 {made}，写回 {written}；全部写完约需：{time}"
    );
    out.line(2, Paint::Plain, lang.of(&text));
    let settings: Vec<String> = data
        .settings
        .iter()
        .filter(|(name, value)| name.starts_with("vm.dirty") && *value != "0")
        .map(|(name, value)| format!("{}={value}", name.trim_start_matches("vm.")))
        .collect();
    if !settings.is_empty() {
        out.line(2, Paint::Dim, &settings.join("  "));
    }
}

/// What the page cache is made of.
pub(super) fn composition(data: &CacheData, out: &mut Out) {
    let lang = out.lang();
    let cache = &data.page_cache;
    out.heading("📦", lang.pick("Page cache", "页缓存"));
    let rows = [
        (
            lang.pick("Cached", "缓存"),
            cache.cached_kb,
            lang.pick("files, shared memory included", "文件与共享内存"),
        ),
        (
            lang.pick("  Active file", "  活跃文件页"),
            cache.active_file_kb,
            lang.pick("used again: kept longest", "被再次使用，最后回收"),
        ),
        (
            lang.pick("  Inactive file", "  不活跃文件页"),
            cache.inactive_file_kb,
            lang.pick("read once: reclaimed first", "仅用过一次，最先回收"),
        ),
        (
            lang.pick("  Shared memory", "  共享内存"),
            cache.shmem_kb,
            lang.pick(
                "tmpfs, shm: only to be freed through swap",
                "tmpfs/shm，只能换出，不能丢弃",
            ),
        ),
        (
            lang.pick("  Mapped", "  已映射"),
            cache.mapped_kb,
            lang.pick(
                "in address spaces: programs, libraries, mmap",
                "映射进进程：程序、库、mmap",
            ),
        ),
        (
            lang.pick("  Huge file pages", "  文件大页"),
            cache.file_huge_pages_kb,
            "THP",
        ),
        (
            lang.pick("  Huge shared memory", "  共享内存大页"),
            cache.shmem_huge_pages_kb,
            "THP",
        ),
        (
            lang.pick("Buffers", "缓冲"),
            cache.buffers_kb,
            lang.pick(
                "block devices, metadata of file systems",
                "块设备与文件系统元数据",
            ),
        ),
        (
            lang.pick("Dirty", "脏页"),
            cache.dirty_kb,
            lang.pick("waiting to be written", "等待写回"),
        ),
        (
            lang.pick("Write-back", "回写中"),
            cache.writeback_kb,
            lang.pick("being written", "正在写入磁盘"),
        ),
        (
            lang.pick("Swap cache", "交换缓存"),
            cache.swap_cached_kb,
            lang.pick("in memory and in swap", "同时在内存与 swap 中"),
        ),
    ];
    let rows = rows
        .into_iter()
        .filter(|(_, kb, _)| *kb != Some(0) && kb.is_some())
        .map(|(name, kb, what)| {
            let share = kb.and_then(|kb| units::share(kb, cache.mem_total_kb?));
            let cells = vec![
                name.to_owned(),
                size(kb, lang),
                share.unwrap_or_default(),
                what.to_owned(),
            ];
            (Paint::Plain, cells)
        });
    out.table(&Table {
        columns: vec![
            Column::text(lang.pick("Part", "组成"), 16, 0),
            Column::figures(lang.pick("Size", "大小"), 0),
            Column::figures(lang.pick("of memory", "占内存"), 1),
            Column::text(lang.pick("What it is", "说明"), 10, 2),
        ],
        rows: rows.collect(),
    });
}

/// Events per second.
pub(super) fn rates(data: &CacheData, out: &mut Out) {
    let lang = out.lang();
    let rates = &data.rates;
    // Unknown rates are told as such.
    let span = rates
        .interval_s
        .map_or_else(|| lang.unknown().to_owned(), units::span);
    let title = msg!("Events per second, over {span}", "每秒事件数（{span} 内）");
    out.heading("📈", lang.of(&title));
    let all = [
        (
            lang.pick("Refaults, file", "文件页 refault"),
            rates.refault_file_per_s,
            lang.pick("reclaimed, then read again", "回收后又被读回"),
        ),
        (
            lang.pick("  activated at once", "  直接激活"),
            rates.activate_file_per_s,
            lang.pick("missed by the working set", "属于工作集"),
        ),
        (
            lang.pick("  restored", "  恢复活跃"),
            rates.restore_file_per_s,
            lang.pick("was active before: thrashing", "此前已活跃：抖动"),
        ),
        (
            lang.pick("Refaults, anonymous", "匿名页 refault"),
            rates.refault_anon_per_s,
            lang.pick("came back from swap", "从 swap 读回"),
        ),
        (
            lang.pick("Major faults", "主缺页"),
            rates.major_faults_per_s,
            lang.pick("had to wait for a disk", "需等待磁盘"),
        ),
        (
            lang.pick("Scanned by kswapd", "kswapd 扫描"),
            rates.scan_kswapd_per_s,
            lang.pick("in the background", "后台"),
        ),
        (
            lang.pick("Reclaimed by kswapd", "kswapd 回收"),
            rates.steal_kswapd_per_s,
            "",
        ),
        (
            lang.pick("Scanned directly", "直接扫描"),
            rates.scan_direct_per_s,
            lang.pick("programs waited for it", "程序为此等待"),
        ),
        (
            lang.pick("Reclaimed directly", "直接回收"),
            rates.steal_direct_per_s,
            "",
        ),
        (
            lang.pick("Stalled allocations", "分配阻塞"),
            rates.allocstall_per_s,
            "",
        ),
        (
            lang.pick("Inodes' pages freed", "随 inode 释放的页"),
            rates.inodesteal_per_s,
            "",
        ),
        (
            lang.pick("Slab objects scanned", "slab 对象扫描"),
            rates.slabs_scanned_per_s,
            "",
        ),
    ];
    out.table(&Table {
        columns: vec![
            Column::text(lang.pick("Event", "事件"), 16, 0),
            Column::figures(lang.pick("per second", "每秒"), 0),
            Column::text(lang.pick("Meaning", "含义"), 8, 1),
        ],
        rows: all
            .into_iter()
            .map(|(name, value, what)| {
                let cells = vec![name.to_owned(), rate(value, lang), what.to_owned()];
                (Paint::Plain, cells)
            })
            .collect(),
    });
}

/// The largest slab caches.
pub(super) fn slab(data: &CacheData, top: usize, out: &mut Out) {
    let lang = out.lang();
    let totals = &data.slab_totals;
    out.heading("🧱", lang.pick("Slab caches", "Slab 缓存"));
    let (all, yes, no) = (
        size(totals.slab_kb, lang),
        size(totals.reclaimable_kb, lang),
        size(totals.unreclaimable_kb, lang),
    );
    let (waste, growth) = (
        size(totals.waste_kb, lang),
        totals
            .growth_kb
            .map_or_else(|| lang.unknown().to_owned(), change),
    );
    let text = msg!(
        "{all}: {yes} reclaimable, {no} not; unused objects {waste}; growth {growth}",
        "{all}：可回收 {yes}，不可回收 {no}；空闲对象 {waste}；增长 {growth}"
    );
    out.line(2, Paint::Plain, lang.of(&text));
    let Some(rows) = &data.slab else { return };
    let shown = rows.iter().filter(|row| row.size_kb > 0).take(top);
    let cells = shown.clone().map(|row| {
        let reclaimable = row.reclaimable.map_or(lang.unknown(), |yes| {
            if yes {
                lang.pick("yes", "是")
            } else {
                lang.pick("no", "否")
            }
        });
        let cells = vec![
            row.name.clone(),
            units::size_kb(row.size_kb),
            row.objects.to_string(),
            row.object_bytes.to_string(),
            percent(row.active_share, lang),
            units::size_kb(row.waste_kb),
            row.growth_kb.map_or_else(String::new, change),
            reclaimable.to_owned(),
        ];
        (Paint::Plain, cells)
    });
    out.table(&Table {
        columns: vec![
            Column::text(lang.pick("Cache", "缓存"), 12, 0),
            Column::figures(lang.pick("Size", "大小"), 0),
            Column::figures(lang.pick("Objects", "对象数"), 1),
            Column::figures(lang.pick("Bytes", "字节"), 4),
            Column::figures(lang.pick("Active", "使用率"), 2),
            Column::figures(lang.pick("Unused", "空闲"), 1),
            Column::figures(lang.pick("Growth", "增长"), 3),
            Column::text(lang.pick("Reclaimable", "可回收"), 4, 3),
        ],
        rows: cells.collect(),
    });
    // Dentries and inodes are what people ask about; the first of each.
    let explained = |name: &str| name == "dentry" || name.ends_with("inode_cache");
    for row in shown.filter(|row| explained(&row.name)).take(2) {
        if let Some(what) = &row.what {
            let text = format!("{}{}{}", row.name, out.colon(), lang.of(what));
            out.hang(2, 4, Paint::Dim, &text);
        }
    }
}

/// Cgroups with the largest file cache.
pub(super) fn cgroups(data: &CacheData, out: &mut Out) {
    let lang = out.lang();
    let below = data.cgroups.iter().filter(|cgroup| cgroup.path != "/");
    let rows = below.take(5).map(|cgroup| {
        let cells = vec![
            cgroup.path.clone(),
            units::size_kb(cgroup.file_kb),
            percent(cgroup.share, lang),
            size(cgroup.inactive_file_kb, lang),
            cgroup
                .high_kb
                .into_iter()
                .chain(cgroup.limit_kb)
                .min()
                .map_or_else(|| lang.pick("none", "无").to_owned(), units::size_kb),
            rate(cgroup.limit_hits_per_s, lang),
        ];
        (Paint::Plain, cells)
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    out.heading(
        "👥",
        lang.pick("File cache by cgroup", "各 cgroup 文件缓存"),
    );
    out.table(&Table {
        columns: vec![
            Column::text("Cgroup", 16, 0),
            Column::figures(lang.pick("File cache", "文件缓存"), 0),
            Column::figures(lang.pick("of the host's", "占整机缓存"), 3),
            Column::figures(lang.pick("Inactive", "不活跃"), 4),
            Column::figures(lang.pick("Limit", "限额"), 1),
            Column::figures(lang.pick("Limit met/s", "触限/秒"), 2),
        ],
        rows,
    });
}

/// Free blocks by order.
pub(super) fn fragmentation(data: &CacheData, out: &mut Out) {
    let lang = out.lang();
    out.heading("🧩", lang.pick("Free memory by block size", "空闲内存碎片"));
    let Some(found) = &data.fragmentation else {
        out.line(2, Paint::Dim, lang.unknown());
        return;
    };
    let rows = found
        .zones
        .iter()
        .filter(|zone| zone.free_kb > 0)
        .map(|zone| {
            // The curve shows how much memory stands in blocks of each order.
            let points: Vec<(f64, u64)> = zone
                .free_by_order
                .iter()
                .enumerate()
                .map(|(order, blocks)| {
                    let shift = u32::try_from(order).unwrap_or(0);
                    let pages = blocks.saturating_mul(1u64.checked_shl(shift).unwrap_or(0));
                    (order as f64, pages)
                })
                .collect();
            let curve = units::sparkline(&points, 16, out.unicode()).unwrap_or_default();
            let cells = vec![
                zone.node.to_string(),
                zone.zone.clone(),
                units::size_kb(zone.free_kb),
                curve,
                percent(zone.unusable_index_order_3, lang),
                percent(zone.unusable_index_order_9, lang),
            ];
            (Paint::Plain, cells)
        });
    out.table(&Table {
        columns: vec![
            Column::figures(lang.pick("Node", "节点"), 1),
            Column::text(lang.pick("Zone", "区域"), 6, 0),
            Column::figures(lang.pick("Free", "空闲"), 0),
            Column::text(lang.pick("order 0 … 10", "阶 0 … 10"), 11, 2),
            Column::figures(lang.pick("useless, 8 pages", "8 页不可用"), 0),
            Column::figures(lang.pick("useless, 512", "512 页不可用"), 0),
        ],
        rows: rows.collect(),
    });
    if let Some(types) = found.types.as_deref().filter(|_| data.view.contents) {
        page_types(types, out);
    }
    let text = msg!(
        "useless: the share of free memory in blocks too small for a request of 8 or 512 pages in a row",
        "不可用：空闲内存中因块太小而无法满足连续 8 页或 512 页请求的比例"
    );
    out.hang(2, 4, Paint::Dim, lang.of(&text));
}

/// Free memory by migration type: what is free among unmovable pages is of no use to a huge page.
fn page_types(types: &[PageTypeRow], out: &mut Out) {
    let lang = out.lang();
    let rows = types.iter().filter(|row| row.free_kb > 0).map(|row| {
        let largest = row.free_by_order.iter().rposition(|blocks| *blocks > 0);
        let huge = row
            .free_by_order
            .iter()
            .skip(9)
            .fold(0, |sum: u64, one| sum.saturating_add(*one));
        let cells = vec![
            row.node.to_string(),
            row.zone.clone(),
            row.migrate_type.clone(),
            units::size_kb(row.free_kb),
            largest.map_or_else(String::new, |order| order.to_string()),
            huge.to_string(),
        ];
        (Paint::Plain, cells)
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    out.table(&Table {
        columns: vec![
            Column::figures(lang.pick("Node", "节点"), 2),
            Column::text(lang.pick("Zone", "区域"), 6, 0),
            Column::text(lang.pick("Migration type", "迁移类型"), 11, 0),
            Column::figures(lang.pick("Free", "空闲"), 0),
            Column::figures(lang.pick("largest order", "最大阶"), 1),
            Column::figures(lang.pick("blocks of 512 pages", "512 页及以上块数"), 1),
        ],
        rows,
    });
}

/// Columns that the other figures of a file take.
const OTHERS: usize = 44;

/// A long path without its middle: its beginning and the name of the file stay.
fn shorten(path: &str, room: usize, gap: &str) -> String {
    if width::width(path) <= room {
        return path.to_owned();
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let tail = format!("{gap}/{name}");
    let left = room.saturating_sub(width::width(&tail));
    let mut head = String::new();
    for c in path.chars() {
        head.push(c);
        if width::width(&head) > left {
            head.pop();
            break;
        }
    }
    format!("{head}{tail}")
}

/// Files by what of them is in memory.
pub(super) fn files(data: &CacheData, out: &mut Out) {
    let lang = out.lang();
    out.heading("📄", lang.pick("Files in memory", "内存中的文件"));
    let Some(files) = &data.files else {
        return;
    };
    // One file that was asked for is told in any case; of many, those of which nothing is here are counted.
    let shown = files
        .iter()
        .filter(|file| file.resident_bytes > 0 || files.len() == 1);
    let room = out.inner().saturating_sub(OTHERS).max(24);
    let rows = shown.take(data.view.top).map(|file| {
        let mut path = shorten(&file.path, room, if out.unicode() { "…" } else { "..." });
        if file.deleted {
            path.push_str(lang.pick(" (deleted)", "（已删除）"));
        } else if file.path.starts_with("/dev/zero") || file.path.starts_with("/SYSV") {
            path.push_str(lang.pick(" (shared memory)", "（共享内存）"));
        }
        let first = file.holders.first();
        let who = first.map_or_else(String::new, |holder| {
            let more = file.holder_count.saturating_sub(1);
            let more = if more > 0 {
                format!(" +{more}")
            } else {
                String::new()
            };
            format!("{}({}){more}", holder.comm, holder.pid)
        });
        let cells = vec![
            path,
            bytes(file.resident_bytes),
            percent(file.resident_share, lang),
            bytes(file.size_bytes),
            file.dirty_bytes
                .filter(|dirty| *dirty > 0)
                .map_or_else(String::new, bytes),
            who,
        ];
        (Paint::Plain, cells)
    });
    out.table(&Table {
        columns: vec![
            Column::text(lang.pick("File", "文件"), 20, 0),
            Column::figures(lang.pick("In memory", "驻留"), 0),
            Column::figures(lang.pick("Share", "比例"), 1),
            Column::figures(lang.pick("Size", "大小"), 1),
            Column::figures(lang.pick("Dirty", "脏"), 2),
            Column::text(lang.pick("Held by", "持有者"), 10, 2),
        ],
        rows: rows.collect(),
    });
    let Some(account) = &data.files_accounting else {
        return;
    };
    let (looked, found) = (account.looked, account.found);
    let (resident, span) = (
        bytes(account.resident_bytes),
        units::span(account.elapsed_s),
    );
    let method = account.method.unwrap_or("–");
    let text = msg!(
        "{looked} of {found} files looked at in {span} ({method}): {resident} in memory",
        "{span} 内查看 {looked}/{found} 个文件（{method}）：驻留 {resident}"
    );
    out.hang(2, 4, Paint::Plain, lang.of(&text));
    if account.not_cached > 0 {
        let n = account.not_cached;
        let text = msg!(
            "{n} of them have nothing in memory",
            "其中 {n} 个文件未驻留内存"
        );
        out.hang(2, 4, Paint::Dim, lang.of(&text));
    }
    let missed = [
        (
            u64::from(account.interrupted),
            lang.pick(
                "signal ended it: more was not looked at",
                "次信号中断：其余未查看",
            ),
        ),
        (
            account.not_reached,
            lang.pick("not reached in time", "超时未查看"),
        ),
        (
            account.not_listed,
            lang.pick(
                "directories or processes not listed in time",
                "目录或进程超时未列出",
            ),
        ),
        (
            account.network,
            lang.pick(
                "on network or kernel file systems, left alone",
                "位于网络或内核文件系统，已跳过",
            ),
        ),
        (account.denied, lang.pick("not permitted", "无权限")),
        (
            account.denied_processes,
            lang.pick(
                "processes not permitted (run as root)",
                "个进程无权限（请以 root 运行）",
            ),
        ),
        (account.vanished, lang.pick("gone meanwhile", "期间消失")),
        (account.failed, lang.pick("failed", "失败")),
        (
            account.not_kept,
            lang.pick("beyond what is kept", "超出保留上限"),
        ),
        (
            u64::from(account.stalled),
            lang.pick("call did not come back", "次调用未返回"),
        ),
    ];
    let missed: Vec<String> = missed
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    if !missed.is_empty() {
        let text = missed.join(lang.pick("; ", "；"));
        out.hang(2, 4, Paint::Warn, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn the_name_of_a_file_stays() {
        let path = "/var/lib/containers/storage/overlay/abc/diff/usr/lib/libexample.so.1";
        let short = shorten(path, 40, "…");
        assert!(short.ends_with("…/libexample.so.1"), "{short}");
        assert!(short.starts_with("/var/lib/") && short.chars().count() <= 40);
        assert_eq!(shorten("/a/b", 40, "…"), "/a/b");
    }
}
