//! What the figures mean for somebody who has to act: each finding with the figures that prove it.

use crate::analysis::shell;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::cache::CacheData;
use crate::report::cache::CgroupCache;

/// Everything that follows from the figures; nothing when all is well. The worst first.
pub(super) fn find(data: &CacheData, page_kb: u64) -> Vec<Finding> {
    let checks = [
        thrashing(data, page_kb),
        dirty_throttled(data),
        unreclaimable(data),
        unreclaimable_growth(data),
        dentries(data),
        inefficient(data),
        direct(data),
        fragmented(data),
        cgroup_reclaim(data),
        streaming(data, page_kb),
        waste(data),
    ];
    let mut findings: Vec<Finding> = checks.into_iter().flatten().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// MiB of KiB, one decimal.
fn mib(kb: f64) -> String {
    format!("{:.1} MiB", kb / 1024.0)
}

fn mib_kb(kb: u64) -> String {
    mib(kb as f64)
}

fn share(value: f64) -> String {
    format!("{:.1}%", value * 100.0)
}

/// Little of the host's memory is available.
fn available_short(data: &CacheData) -> Option<Msg> {
    let cache = &data.page_cache;
    let (available, total) = (cache.mem_available_kb?, cache.mem_total_kb?);
    let left = super::ratio(available as f64, total as f64)?;
    let (available, left_text) = (mib_kb(available), share(left));
    (left < 0.1).then(|| {
        msg!(
            "{available} available, {left_text} of memory",
            "可用内存 {available}，占 {left_text}"
        )
    })
}

/// Memory is tight: little is available, or tasks wait for it. The figures that say so.
pub(super) fn tight(data: &CacheData) -> Option<Msg> {
    if let Some(some) = data.pressure.some_avg10.filter(|some| *some >= 1.0) {
        return Some(msg!(
            "tasks waited for memory {some:.2}% of the last 10 s (PSI some)",
            "过去 10 秒有任务等待内存的时间占 {some:.2}%（PSI some）"
        ));
    }
    available_short(data)
}

/// The cgroup that has most of the file cache.
fn reader(data: &CacheData) -> Option<&CgroupCache> {
    // The root and parents hold what their children do: the deepest with half of the cache.
    let large = data
        .cgroups
        .iter()
        .filter(|cgroup| cgroup.path != "/" && cgroup.share.is_some_and(|share| share >= 0.5));
    large.max_by_key(|cgroup| cgroup.path.len())
}

/// The cgroup whose own limit makes it reclaim: pages came back to it (v2 counts them), or it met its limit
/// again and again while its use stands there (v1 has no more). Of nested ones the deepest that accounts for it.
pub(super) fn limited(data: &CacheData) -> Option<&CgroupCache> {
    let at_limit = |cgroup: &CgroupCache| {
        let most = cgroup.limit_kb.into_iter().chain(cgroup.high_kb).min();
        let met = cgroup.limit_hits_per_s > Some(0.0) || cgroup.high_events_per_s > Some(0.0);
        met && cgroup
            .usage_kb
            .zip(most)
            .is_some_and(|(usage, most)| usage as f64 >= most as f64 * 0.9)
    };
    let weight = |cgroup: &CgroupCache| {
        let refaults = cgroup.refault_file_per_s.unwrap_or(0.0);
        let hits = cgroup.limit_hits_per_s.unwrap_or(0.0) + cgroup.high_events_per_s.unwrap_or(0.0);
        (refaults, hits)
    };
    let found = || {
        let below = data.cgroups.iter().filter(|cgroup| cgroup.path != "/");
        below.filter(|cgroup| at_limit(cgroup))
    };
    let most = found().map(weight).reduce(|a, b| {
        if a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).is_ge() {
            a
        } else {
            b
        }
    })?;
    found()
        .filter(|cgroup| {
            let own = weight(cgroup);
            own.0 >= most.0 * 0.8 && (most.0 > 0.0 || own.1 >= most.1 * 0.8)
        })
        .max_by_key(|cgroup| cgroup.path.len())
}

fn limit_evidence(cgroup: &CgroupCache) -> Option<Msg> {
    let path = &cgroup.path;
    let most = cgroup.limit_kb.into_iter().chain(cgroup.high_kb).min()?;
    let part = share(super::ratio(cgroup.usage_kb? as f64, most as f64)?);
    let (usage, most) = (mib_kb(cgroup.usage_kb?), mib_kb(most));
    let hits = cgroup.limit_hits_per_s.unwrap_or(0.0) + cgroup.high_events_per_s.unwrap_or(0.0);
    Some(msg!(
        "cgroup {path} uses {usage} of its limit {most} ({part}) and met it {hits:.0} times/s",
        "cgroup {path} 用量 {usage}，限额 {most}（{part}），每秒触及限额 {hits:.0} 次"
    ))
}

/// Twice the limit, where the host has that much: by how much it has to grow only a try can tell.
fn raise(data: &CacheData, cgroup: &CgroupCache) -> Option<Msg> {
    let most = cgroup.limit_kb.into_iter().chain(cgroup.high_kb).min()?;
    let path = cgroup.path.trim_end_matches('/');
    if data
        .page_cache
        .mem_available_kb
        .is_none_or(|available| available < most.saturating_mul(2))
    {
        return Some(msg!(
            "the host has no room to double the limit of {path}: let the program read less at once, or move it",
            "主机内存不足以将 {path} 的限额加倍：减少程序同时读取的数据，或迁移该程序"
        ));
    }
    let bytes = most.saturating_mul(2048);
    let commands = if data.cgroup_version == Some(1) {
        let folder = format!("/sys/fs/cgroup/memory{path}");
        let limit = shell::quote(&format!("{folder}/memory.limit_in_bytes")).into_owned();
        msg!(
            "echo {bytes} > {limit} (with a limit of memory and swap together, raise memory.memsw.limit_in_bytes first)",
            "echo {bytes} > {limit}（若设置了内存+swap 限额，须先提高 memory.memsw.limit_in_bytes）"
        )
    } else {
        let name = if cgroup.high_kb == Some(most) {
            "memory.high"
        } else {
            "memory.max"
        };
        let file = shell::quote(&format!("/sys/fs/cgroup{path}/{name}")).into_owned();
        msg!("echo {bytes} > {file}", "echo {bytes} > {file}")
    };
    let (en, zh) = (commands.en, commands.zh);
    Some(Msg::new(
        format!("the host has room: double its limit and look again: {en}"),
        format!("主机内存充足：可将其限额加倍后再观察：{zh}"),
    ))
}

fn reader_evidence(cgroup: &CgroupCache) -> Msg {
    let (path, size) = (&cgroup.path, mib_kb(cgroup.file_kb));
    let part = share(cgroup.share.unwrap_or(0.0));
    msg!(
        "most of the cache is held by cgroup {path}: {size}, {part} of the host's (holding it is not reading it again)",
        "缓存主要由 cgroup {path} 持有：{size}，占整机 {part}（持有不等于反复读取）"
    )
}

/// Whether memory is reclaimed for the host: not only for a cgroup's limit.
pub(super) fn host_reclaims(data: &CacheData) -> bool {
    data.reclaim.host_scanned_pages > Some(0)
}

/// Pages that come back soon after they were reclaimed: the cache is smaller than the working set.
fn thrashing(data: &CacheData, page_kb: u64) -> Option<Finding> {
    let refaults = data.rates.refault_file_per_s?;
    let kb_per_s = refaults * page_kb as f64;
    let back = data.reclaim.refaults_per_steal;
    let pressed = tight(data);
    let own = limited(data);
    let counts = back.is_some_and(|back| back >= 0.25) || pressed.is_some() || own.is_some();
    if kb_per_s < 1024.0 || !counts {
        return None;
    }
    let rate = mib(kb_per_s);
    let mut evidence = vec![msg!(
        "{refaults:.0} file pages/s came back after reclaim ({rate}/s)",
        "每秒 {refaults:.0} 个文件页在回收后又被读回（{rate}/s）"
    )];
    if let Some(back) = back {
        evidence.push(msg!(
            "{back:.2} refaults for each file page reclaimed",
            "每回收一个文件页对应 {back:.2} 次 refault"
        ));
    }
    if let Some(faults) = data.rates.major_faults_per_s.filter(|rate| *rate >= 1.0) {
        evidence.push(msg!(
            "{faults:.0} major faults/s",
            "每秒 {faults:.0} 次主缺页"
        ));
    }
    let host = host_reclaims(data) || available_short(data).is_some();
    let mut advice = Vec::new();
    if let Some(cgroup) = own {
        evidence.extend(limit_evidence(cgroup));
        advice.extend(raise(data, cgroup));
    }
    if host {
        evidence.extend(pressed);
        evidence.extend(reader(data).map(reader_evidence));
        advice.push(msg!(
            "give the host more memory, or move a program away: what is read is larger than the cache",
            "为主机增加内存，或迁走部分程序：被读取的数据大于缓存容量"
        ));
    } else {
        evidence.push(msg!(
            "the host itself reclaimed nothing (kswapd and direct reclaim idle): the pages come back within cgroups at their limits",
            "主机自身没有回收内存（kswapd 与直接回收均空闲）：refault 来自已达限额的 cgroup"
        ));
    }
    advice.push(msg!(
        "see which files fill the cache: `aiops inspect cache --detail`",
        "查看缓存被哪些文件占用：`aiops inspect cache --detail`"
    ));
    let critical = host && data.pressure.full_avg10.is_some_and(|full| full >= 10.0);
    let title = match own {
        Some(cgroup) if !host => {
            let path = &cgroup.path;
            msg!(
                "cgroup {path} reads more than its limit lets it keep: pages are reclaimed and read again",
                "cgroup {path} 的读取量超过其限额可缓存的量：页面刚被回收又被读回"
            )
        }
        None if !host => msg!(
            "file pages are reclaimed and read again in a cgroup at its limit; which one is not known",
            "有 cgroup 因自身限额反复回收并读回文件页；无法确定是哪一个"
        ),
        _ => msg!(
            "the page cache is too small: pages are reclaimed and read again",
            "页缓存过小：页面刚被回收又被读回"
        ),
    };
    Some(Finding {
        id: "cache-thrashing",
        severity: if critical {
            Severity::Critical
        } else {
            Severity::Warning
        },
        title,
        evidence,
        advice,
    })
}

/// A cgroup at its own limit reclaims: files that come back are [`thrashing`]'s.
fn cgroup_reclaim(data: &CacheData) -> Option<Finding> {
    let own = limited(data)?;
    let reclaim = &data.reclaim;
    let scanned = reclaim
        .scanned_pages?
        .saturating_sub(reclaim.host_scanned_pages?);
    let rate = super::ratio(scanned as f64, data.rates.interval_s?)?;
    let files = data.rates.refault_file_per_s.unwrap_or(0.0);
    let anon = data.rates.refault_anon_per_s.unwrap_or(0.0);
    if rate < 1000.0 || files >= 256.0 {
        return None;
    }
    let path = &own.path;
    let mut evidence = vec![msg!(
        "{rate:.0} pages/s scanned for cgroups at their limits",
        "每秒为已达限额的 cgroup 扫描 {rate:.0} 页"
    )];
    evidence.extend(limit_evidence(own));
    let mut advice = Vec::new();
    if anon >= 1.0 {
        evidence.push(msg!(
            "{anon:.0} anonymous pages/s came back from swap",
            "每秒 {anon:.0} 个匿名页从 swap 读回"
        ));
        advice.push(msg!(
            "see who swaps: `aiops analyze swap`",
            "查看换出情况：`aiops analyze swap`"
        ));
    }
    advice.extend(raise(data, own).filter(|_| anon >= 1.0));
    Some(Finding {
        id: "cache-cgroup-reclaim",
        severity: if anon >= 256.0 {
            Severity::Warning
        } else {
            Severity::Info
        },
        title: msg!(
            "cgroup {path} reclaims memory at its own limit",
            "cgroup {path} 因自身限额持续回收内存"
        ),
        evidence,
        advice,
    })
}

/// Much is reclaimed and nothing comes back: data is read or written once.
fn streaming(data: &CacheData, page_kb: u64) -> Option<Finding> {
    let stolen = data.rates.steal_file_per_s? * page_kb as f64;
    let back = data.reclaim.refaults_per_steal.unwrap_or(0.0);
    let (inactive, active) = (
        data.page_cache.inactive_file_kb?,
        data.page_cache.active_file_kb?,
    );
    if stolen < 10_240.0 || back >= 0.05 || inactive < active.saturating_mul(2) {
        return None;
    }
    let (rate, back) = (mib(stolen), share(back));
    let (inactive, active) = (mib_kb(inactive), mib_kb(active));
    let mut evidence = vec![
        msg!(
            "{rate}/s of file pages reclaimed, of which {back} came back",
            "每秒回收文件页 {rate}，其中 {back} 又被读回"
        ),
        msg!(
            "{inactive} of the file cache inactive, {active} active",
            "文件缓存中 {inactive} 不活跃，{active} 活跃"
        ),
    ];
    let advice = vec![msg!(
        "let the program drop what it has used: posix_fadvise(POSIX_FADV_DONTNEED), or direct I/O (dd iflag=direct, rsync --drop-cache, O_DIRECT)",
        "让程序用完即弃：posix_fadvise(POSIX_FADV_DONTNEED)，或使用直接 I/O（dd iflag=direct、rsync --drop-cache、O_DIRECT）"
    )];
    if let Some(cgroup) = reader(data) {
        evidence.push(reader_evidence(cgroup));
    }
    Some(Finding {
        id: "cache-streaming",
        severity: Severity::Info,
        title: msg!(
            "data streams through the page cache and is not used again",
            "数据流经页缓存后不再使用（流式读写）"
        ),
        evidence,
        advice,
    })
}

fn inefficient(data: &CacheData) -> Option<Finding> {
    let efficiency = data.reclaim.efficiency?;
    let scanned = data.reclaim.scanned_pages?;
    let rate = super::ratio(scanned as f64, data.rates.interval_s?)?;
    if rate < 1000.0 || efficiency >= 0.3 {
        return None;
    }
    let part = share(efficiency);
    Some(Finding {
        id: "cache-reclaim-inefficient",
        severity: Severity::Warning,
        title: msg!("reclaim scans much and frees little", "回收扫描多、释放少"),
        evidence: [
            Some(msg!(
                "{rate:.0} pages/s scanned, {part} of them reclaimed",
                "每秒扫描 {rate:.0} 页，仅回收 {part}"
            )),
            limited(data).and_then(limit_evidence),
        ]
        .into_iter()
        .flatten()
        .collect(),
        advice: vec![
            msg!(
                "see what cannot be reclaimed: `aiops inspect processes` (anonymous memory), `aiops analyze swap` (full swap)",
                "查看哪些内存无法回收：`aiops inspect processes`（匿名内存）、`aiops analyze swap`（swap 是否已满）"
            ),
            if host_reclaims(data) {
                msg!(
                    "free memory or add some before the OOM killer does it",
                    "在 OOM killer 出手之前释放或增加内存"
                )
            } else {
                msg!(
                    "the host has memory: a cgroup reclaims at its own limit, look at its use and limit",
                    "主机内存充足：是某个 cgroup 因自身限额在回收，请检查其用量与限额"
                )
            },
        ],
    })
}

fn direct(data: &CacheData) -> Option<Finding> {
    let stalls = data.rates.allocstall_per_s?;
    let part = data.reclaim.direct_share?;
    if stalls < 10.0 || part < 0.1 {
        return None;
    }
    let part = share(part);
    Some(Finding {
        id: "cache-direct-reclaim",
        severity: Severity::Warning,
        title: msg!(
            "programs wait while they reclaim memory themselves",
            "程序在分配内存时被迫自行回收（直接回收）并等待"
        ),
        evidence: vec![msg!(
            "{stalls:.0} allocations/s stalled; direct reclaim did {part} of the host's scanning",
            "每秒 {stalls:.0} 次分配被阻塞；直接回收占扫描量的 {part}"
        )],
        advice: vec![msg!(
            "let kswapd begin earlier: raise vm.watermark_scale_factor (sysctl vm.watermark_scale_factor=50)",
            "让 kswapd 更早开始：调大 vm.watermark_scale_factor（sysctl vm.watermark_scale_factor=50）"
        )],
    })
}

/// Settings of the dirty limits as they are, for evidence.
fn limits(data: &CacheData) -> String {
    let named = [
        "vm.dirty_bytes",
        "vm.dirty_ratio",
        "vm.dirty_background_bytes",
        "vm.dirty_background_ratio",
    ];
    let known = named.iter().filter_map(|name| {
        let value = data.settings.get(*name).filter(|value| *value != "0")?;
        Some(format!("{name}={value}"))
    });
    known.collect::<Vec<_>>().join(", ")
}

fn dirty_throttled(data: &CacheData) -> Option<Finding> {
    let dirty = &data.dirty;
    let from = dirty.throttled_from_kb.filter(|from| *from > 0)?;
    let held = dirty
        .dirty_kb?
        .saturating_add(dirty.writeback_kb.unwrap_or(0));
    if held < from {
        return None;
    }
    let (held, from) = (mib_kb(held), mib_kb(from));
    let limits = limits(data);
    let mut evidence = vec![msg!(
        "{held} dirty or being written; writers are slowed down from {from} ({limits})",
        "脏页与回写中共 {held}；超过 {from} 后写入方被限速（{limits}）"
    )];
    if let (Some(in_), Some(out)) = (dirty.dirtied_kb_per_s, dirty.written_kb_per_s) {
        let (in_, out) = (mib(in_), mib(out));
        evidence.push(msg!(
            "{in_}/s made dirty, {out}/s written",
            "产生 {in_}/s，写回 {out}/s"
        ));
    }
    Some(Finding {
        id: "cache-dirty-throttled",
        severity: Severity::Warning,
        title: msg!(
            "writers are slowed down: dirty pages are at their limit",
            "写入被限速：脏页已达上限"
        ),
        evidence,
        advice: vec![
            msg!(
                "find who writes (pidstat -d 1) and whether the disk keeps up (iostat -x 1)",
                "找出写入者（pidstat -d 1），并确认磁盘是否跟得上（iostat -x 1）"
            ),
            msg!(
                "let flushers begin earlier: lower vm.dirty_background_bytes; raise vm.dirty_bytes only for bursts that the disk can catch up with",
                "让回写更早开始：调小 vm.dirty_background_bytes；仅当磁盘能消化突发写入时才调大 vm.dirty_bytes"
            ),
        ],
    })
}

fn dentries(data: &CacheData) -> Option<Finding> {
    let (dentry, inode) = (data.slab_totals.dentry_kb?, data.slab_totals.inode_kb?);
    let part = super::ratio(
        dentry.saturating_add(inode) as f64,
        data.page_cache.mem_total_kb? as f64,
    )?;
    let pressed = tight(data)?;
    if part < 0.15 {
        return None;
    }
    let (dentry, inode, part) = (mib_kb(dentry), mib_kb(inode), share(part));
    let setting = data.settings.get("vm.vfs_cache_pressure");
    let setting = setting.map_or("?", String::as_str);
    Some(Finding {
        id: "cache-dentry-inode",
        severity: Severity::Warning,
        title: msg!(
            "names and attributes of files take much memory, and memory is tight",
            "目录项与 inode 缓存占用大量内存，且内存紧张"
        ),
        evidence: vec![
            msg!(
                "dentry {dentry}, inodes {inode}: {part} of memory; vm.vfs_cache_pressure={setting}",
                "dentry {dentry}，inode {inode}：占内存 {part}；vm.vfs_cache_pressure={setting}"
            ),
            pressed,
        ],
        advice: vec![
            msg!(
                "let the kernel reclaim them sooner: sysctl vm.vfs_cache_pressure=200",
                "让内核更快回收：sysctl vm.vfs_cache_pressure=200"
            ),
            msg!(
                "find what walks over so many files: a backup, an indexer, find",
                "找出遍历海量文件的程序：备份、索引、find"
            ),
        ],
    })
}

/// The largest caches that do not count as reclaimable, as evidence.
fn largest(data: &CacheData, by_growth: bool) -> Option<Msg> {
    let rows = data.slab.as_ref()?.iter();
    let mut rows: Vec<_> = rows
        .filter(|row| row.reclaimable != Some(true))
        .filter(|row| !by_growth || row.growth_kb.is_some_and(|growth| growth > 0))
        .collect();
    if by_growth {
        rows.sort_by_key(|row| std::cmp::Reverse(row.growth_kb));
    }
    let named: Vec<String> = rows
        .iter()
        .take(3)
        .map(|row| {
            let kb = if by_growth {
                u64::try_from(row.growth_kb.unwrap_or(0)).unwrap_or(0)
            } else {
                row.size_kb
            };
            format!("{} {}", row.name, mib_kb(kb))
        })
        .collect();
    let named = (!named.is_empty()).then(|| named.join(", "))?;
    Some(if by_growth {
        msg!("grew most: {named}", "增长最多：{named}")
    } else {
        msg!("largest: {named}", "最大：{named}")
    })
}

/// What to do about kernel memory that does not come back.
fn kernel_advice() -> Vec<Msg> {
    vec![
        msg!(
            "watch the growth over a longer time: `aiops inspect cache --interval 60s`",
            "延长观察时间：`aiops inspect cache --interval 60s`"
        ),
        msg!(
            "a cache that only grows is a kernel or driver leak, or many objects of a program (sockets, cgroups, mappings): what each holds is said beside it",
            "只增不减多为内核/驱动泄漏，或程序对象过多（套接字、cgroup、内存映射）；各缓存含义见表旁说明"
        ),
    ]
}

fn unreclaimable(data: &CacheData) -> Option<Finding> {
    let size = data.slab_totals.unreclaimable_kb?;
    let part = super::ratio(size as f64, data.page_cache.mem_total_kb? as f64)?;
    if part < 0.15 {
        return None;
    }
    let (size, part) = (mib_kb(size), share(part));
    let mut evidence = vec![msg!(
        "SUnreclaim {size}, {part} of memory",
        "SUnreclaim {size}，占内存 {part}"
    )];
    evidence.extend(largest(data, false));
    Some(Finding {
        id: "cache-slab-unreclaimable",
        severity: Severity::Warning,
        title: msg!(
            "the kernel holds much memory that cannot be reclaimed",
            "内核持有大量不可回收的 slab 内存"
        ),
        evidence,
        advice: kernel_advice(),
    })
}

fn unreclaimable_growth(data: &CacheData) -> Option<Finding> {
    let grown = data
        .slab_totals
        .unreclaimable_growth_kb
        .filter(|kb| *kb >= 8192)? as f64;
    let seconds = data.rates.interval_s?;
    let rate = super::ratio(grown, seconds)?;
    if rate < 1024.0 {
        return None;
    }
    let (grown, rate) = (mib(grown), mib(rate));
    let mut evidence = vec![msg!(
        "SUnreclaim grew by {grown} in {seconds:.1} s ({rate}/s)",
        "SUnreclaim 在 {seconds:.1} 秒内增长 {grown}（{rate}/s）"
    )];
    evidence.extend(largest(data, true));
    Some(Finding {
        id: "cache-slab-growth",
        severity: Severity::Warning,
        title: msg!(
            "kernel memory that cannot be reclaimed grows fast",
            "不可回收的 slab 内存快速增长"
        ),
        evidence,
        advice: kernel_advice(),
    })
}

fn waste(data: &CacheData) -> Option<Finding> {
    let waste = data.slab_totals.waste_kb?;
    let total = data.page_cache.mem_total_kb?;
    let listed = data.slab_totals.listed_kb?;
    if waste < total / 20 || waste < listed / 3 {
        return None;
    }
    let rows = data.slab.as_ref()?;
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.waste_kb));
    let named: Vec<String> = rows
        .iter()
        .take(3)
        .map(|row| format!("{} {}", row.name, mib_kb(row.waste_kb)))
        .collect();
    let (named, waste, listed) = (named.join(", "), mib_kb(waste), mib_kb(listed));
    Some(Finding {
        id: "cache-slab-waste",
        severity: Severity::Info,
        title: msg!(
            "much of the slab memory holds no object",
            "slab 内存中有大量空闲对象"
        ),
        evidence: vec![msg!(
            "{waste} of {listed} unused: {named}",
            "{listed} 中 {waste} 未使用：{named}"
        )],
        advice: vec![msg!(
            "after a burst this goes by itself under pressure; to have it back now: echo 1 > /sys/kernel/slab/NAME/shrink",
            "突发之后会随内存压力自行释放；需立即归还可 echo 1 > /sys/kernel/slab/NAME/shrink"
        )],
    })
}

/// Fragmentation that is felt: large blocks are missing, and somebody wanted them.
fn fragmented(data: &CacheData) -> Option<Finding> {
    let index = data.fragmentation.as_ref()?.unusable_index_order_3?;
    let stalls = data.rates.compact_stall_per_s.unwrap_or(0.0);
    let fails = data.rates.compact_fail_per_s.unwrap_or(0.0);
    if index < 0.5 || stalls < 1.0 {
        return None;
    }
    Some(Finding {
        id: "cache-fragmentation",
        severity: Severity::Warning,
        title: msg!(
            "free memory is fragmented, and programs wait for compaction",
            "空闲内存碎片化，程序在等待内存规整"
        ),
        evidence: vec![msg!(
            "unusable-free index for 8 pages {index:.2}; {stalls:.0} stalls/s in compaction, {fails:.0}/s failed",
            "8 页连续块的不可用指数 {index:.2}；每秒 {stalls:.0} 次规整阻塞，{fails:.0} 次失败"
        )],
        advice: vec![
            msg!(
                "compact once, at a quiet time: echo 1 > /proc/sys/vm/compact_memory",
                "在空闲时手动规整一次：echo 1 > /proc/sys/vm/compact_memory"
            ),
            msg!(
                "keep more memory free: raise vm.min_free_kbytes or vm.watermark_scale_factor",
                "保留更多空闲内存：调大 vm.min_free_kbytes 或 vm.watermark_scale_factor"
            ),
        ],
    })
}
