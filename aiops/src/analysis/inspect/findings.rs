//! What is not as it should be in a process' mappings.
//!
//! Every threshold is a constant here with its reason. They are set so that a web server, an interpreter
//! or a Java machine in good health has no finding.

use std::collections::HashSet;

use crate::model::MappingSample;
use crate::model::ProcessMappings;
use crate::model::RegionKind;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::inspect::name;
use crate::report::inspect::shared;
use crate::report::processes::Who;
use crate::report::size_kb;

const MIB: u64 = 1024;

/// Shared memory is worth a word from here on, when it is also most of the process.
const SHARED: u64 = 256 * MIB;
/// Share of the host's or the cgroup's memory from which shared memory or locked memory is a risk, percent.
const RISK_PERCENT: u64 = 25;
/// Heaps of arenas: glibc makes up to 8 arenas per CPU, so 64 are normal on 8 CPUs, and they cost nothing
/// until they hold memory.
const ARENAS: u64 = 64;
/// Memory that so many arenas must hold.
const ARENAS_HOLD: u64 = 256 * MIB;
/// So many are told whatever they hold: 64 GiB of address space.
const ARENAS_MANY: u64 = 1024;
/// Stacks of ended threads that the C library keeps for new ones (40 MiB, five of 8 MiB, more of small ones).
const SPARE_STACKS: u64 = 32;
/// Compiled code of Java, .NET and JavaScript machines stays below this (Java reserves 240 MiB).
const COMPILED_CODE: u64 = 256 * MIB;
/// From here on writable code is told: regular expressions and foreign calls (libffi, PCRE) need far less.
const WRITABLE_CODE: u64 = 16 * MIB;
/// Programs that compile while they run, by name.
const COMPILERS: [&str; 10] = [
    "java", "node", "nodejs", "deno", "bun", "dotnet", "luajit", "beam.smp", "chrome", "firefox",
];
/// The same, by a library that they map.
const COMPILER_LIBRARIES: [&str; 8] = [
    "libjvm.",
    "libj9jit",
    "libcoreclr.",
    "libclrjit.",
    "libluajit",
    "libv8",
    "libnode.",
    "libmono",
];
/// Heap in swap: below it, cold pages went out, as they should.
const SWAPPED: u64 = 64 * MIB;
/// Share of the heap in swap, percent.
const SWAPPED_PERCENT: u64 = 10;
/// A removed file, or a removed segment in /dev/shm, that is still mapped holds memory or disk space: told
/// from here on, by address space or resident memory. Programs and libraries are told whatever their size.
const DELETED: u64 = 16 * MIB;
/// Share of vm.max_map_count, percent: mmap fails at 100.
const MAPS_PERCENT: u64 = 80;
/// The same, when there is no time left.
const MAPS_CRITICAL_PERCENT: u64 = 95;
/// Small anonymous mappings: each costs a `vm_area_struct` (about 200 bytes) and time in every page fault.
const SMALL_COUNT: u64 = 10_000;
/// What is small.
const SMALL: u64 = 64;
/// Locked memory cannot be reclaimed or swapped.
const LOCKED: u64 = 512 * MIB;
/// Transparent huge pages are worth a word from here on.
const HUGE: u64 = 512 * MIB;
/// Share of memory with huge pages that was used lately, percent, below which they are waste.
const HUGE_USED_PERCENT: u64 = 25;
/// Memory given back with MADV_FREE that still counts as resident.
const LAZY: u64 = 256 * MIB;
/// Its share of resident memory, percent.
const LAZY_PERCENT: u64 = 25;

/// What stands around the process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Around<'a> {
    /// Named in the findings when there are several.
    pub(super) who: Option<&'a Who>,
    /// Limit of its cgroup.
    pub(super) limit_kb: Option<u64>,
    /// MemTotal.
    pub(super) total_kb: Option<u64>,
    /// vm.max_map_count.
    pub(super) max_map_count: Option<u64>,
}

impl Around<'_> {
    /// Memory that it may have.
    fn room_kb(&self) -> Option<u64> {
        let limit = self.limit_kb.unwrap_or(u64::MAX);
        Some(limit.min(self.total_kb?)).filter(|room| *room > 0)
    }
}

/// Sums over some mappings.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    count: u64,
    size: u64,
    rss: u64,
    swap: u64,
}

fn sum(process: &ProcessMappings, wanted: impl Fn(&MappingSample) -> bool) -> Sum {
    let mut sum = Sum::default();
    for mapping in process.mappings.iter().filter(|one| wanted(one)) {
        sum.count += 1;
        let metrics = &mapping.metrics;
        for (sum, more) in [
            (&mut sum.size, metrics.size_kb),
            (&mut sum.rss, metrics.rss_kb),
            (&mut sum.swap, metrics.swap_kb),
        ] {
            *sum = sum.saturating_add(more.unwrap_or(0));
        }
    }
    sum
}

fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

fn finding(
    id: &'static str,
    severity: Severity,
    title: Msg,
    evidence: Vec<Msg>,
    advice: Vec<Msg>,
) -> Finding {
    Finding {
        id,
        severity,
        title,
        evidence,
        advice,
    }
}

/// What is abnormal in one process.
pub(super) fn of(process: &ProcessMappings, around: &Around<'_>) -> Vec<Finding> {
    let rules = [
        map_count,
        locked,
        swapped,
        arenas,
        stacks,
        shared_memory,
        code,
        deleted,
        small,
        huge,
        lazy,
    ];
    let mut found: Vec<Finding> = rules
        .iter()
        .filter_map(|rule| rule(process, around))
        .collect();
    if let Some(who) = around.who {
        let pid = process.process.pid;
        let comm = who.comm.clone().unwrap_or_default();
        for evidence in found.iter_mut().flat_map(|one| &mut one.evidence) {
            evidence.en = format!("{comm} ({pid}): {}", evidence.en);
            evidence.zh = format!("{comm}（{pid}）：{}", evidence.zh);
        }
    }
    found
}

/// The same finding in several processes is one, with the evidence of all; the worst first.
pub(super) fn together(found: Vec<Finding>) -> Vec<Finding> {
    let mut merged: Vec<Finding> = Vec::new();
    for one in found {
        if let Some(known) = merged.iter_mut().find(|known| known.id == one.id) {
            if one.severity > known.severity {
                known.severity = one.severity;
                known.title = one.title;
                known.advice = one.advice;
            }
            known.evidence.extend(one.evidence);
        } else {
            merged.push(one);
        }
    }
    merged.sort_by_key(|one| std::cmp::Reverse(one.severity));
    merged
}

fn map_count(process: &ProcessMappings, around: &Around<'_>) -> Option<Finding> {
    let most = around.max_map_count?;
    let count = process.mappings.len() as u64;
    let share = percent(count, most);
    (share >= MAPS_PERCENT).then(|| {
        let severity = if share >= MAPS_CRITICAL_PERCENT {
            Severity::Critical
        } else {
            Severity::Warning
        };
        finding(
            "inspect-map-count",
            severity,
            msg!(
                "The process is about to run out of mappings: then mmap, malloc and new threads fail with ENOMEM although there is memory",
                "进程的内存映射数即将用尽：届时即使内存充足，mmap、malloc 和创建线程也会以 ENOMEM 失败"
            ),
            vec![msg!(
                "{count} mappings of at most {most} (vm.max_map_count), {share}%",
                "映射数 {count}，上限 {most}（vm.max_map_count），占 {share}%"
            )],
            vec![
                msg!(
                    "Gain time: sysctl -w vm.max_map_count={}",
                    "先争取时间：sysctl -w vm.max_map_count={}",
                    most.saturating_mul(2)
                ),
                msg!(
                    "Find who maps so much in the list of modules and kinds: files that are never unmapped, guard pages, or an allocator that splits its memory",
                    "在模块与类型列表中查找来源：从不解除映射的文件、保护页，或把内存切碎的分配器"
                ),
            ],
        )
    })
}

fn locked(process: &ProcessMappings, around: &Around<'_>) -> Option<Finding> {
    let locked = process
        .mappings
        .iter()
        .filter_map(|mapping| mapping.metrics.locked_kb)
        .fold(0, u64::saturating_add);
    let room = around.room_kb()?;
    let share = percent(locked, room);
    (locked >= LOCKED && share >= RISK_PERCENT).then(|| {
        finding(
            "inspect-locked",
            Severity::Warning,
            msg!(
                "Much memory is locked: the kernel can neither reclaim nor swap it, so others pay under pressure",
                "大量内存被锁定：内核无法回收或换出，内存紧张时由其他进程承担"
            ),
            vec![msg!(
                "{} locked, {share}% of the {} that it may use",
                "锁定 {}，占可用上限 {} 的 {share}%",
                size_kb(locked),
                size_kb(room)
            )],
            vec![msg!(
                "Check whether mlockall is meant (databases: memlock setting) and lower RLIMIT_MEMLOCK where it is not",
                "确认是否有意调用 mlockall（数据库的 memlock 设置）；若非有意，请降低 RLIMIT_MEMLOCK"
            )],
        )
    })
}

/// Memory of the program's own data.
fn is_heap(mapping: &MappingSample) -> bool {
    matches!(
        mapping.kind,
        RegionKind::Heap | RegionKind::Arena | RegionKind::Anon | RegionKind::NamedAnon
    )
}

fn swapped(process: &ProcessMappings, _: &Around<'_>) -> Option<Finding> {
    let heap = sum(process, is_heap);
    let share = percent(heap.swap, heap.rss.saturating_add(heap.swap));
    (heap.swap >= SWAPPED && share >= SWAPPED_PERCENT).then(|| {
        let pid = process.process.pid;
        finding(
            "inspect-swapped-heap",
            Severity::Warning,
            msg!(
                "A good part of the heap is in swap: each use of it waits for the swap device",
                "堆内存有相当一部分在 swap 中：每次访问都要等待交换设备"
            ),
            vec![msg!(
                "{} of heap and anonymous memory in swap, {share}% of it; {} resident",
                "堆与匿名内存有 {} 在 swap 中，占 {share}%；驻留 {}",
                size_kb(heap.swap),
                size_kb(heap.rss)
            )],
            vec![
                msg!(
                    "See whether pages come back: aiops analyze swap --processes --interval 5s; cold pages in swap do no harm",
                    "查看是否仍在换入：aiops analyze swap --processes --interval 5s；冷页留在 swap 中并无害处"
                ),
                msg!(
                    "If they do: protect it (memory.low of its cgroup, or MemoryLow= of its unit), add memory, or lower vm.swappiness. Process {pid}",
                    "若仍在换入：用 cgroup 的 memory.low（或 unit 的 MemoryLow=）保护它、增加内存，或降低 vm.swappiness。进程 {pid}"
                ),
            ],
        )
    })
}

fn arenas(process: &ProcessMappings, _: &Around<'_>) -> Option<Finding> {
    let all = sum(process, |one| one.kind == RegionKind::Arena);
    let held = all.rss.saturating_add(all.swap);
    let heavy = all.count >= ARENAS && held >= ARENAS_HOLD;
    (heavy || all.count >= ARENAS_MANY).then(|| {
        let threads = process.process.metrics.threads;
        let threads = threads.map_or_else(|| "?".to_owned(), |threads| threads.to_string());
        finding(
            "inspect-arenas",
            if heavy {
                Severity::Warning
            } else {
                Severity::Info
            },
            msg!(
                "The C library's allocator has many arenas: memory that one thread freed is of no use to the others",
                "C 库分配器的 arena 过多：一个线程释放的内存无法供其他线程使用"
            ),
            vec![msg!(
                "{} arena heaps of 64 MiB each ({} of address space), {} held, {threads} threads",
                "{} 个 64 MiB 的 arena 堆（地址空间 {}），占用 {}，线程数 {threads}",
                all.count,
                size_kb(all.count.saturating_mul(64 * MIB)),
                size_kb(held)
            )],
            vec![
                msg!(
                    "Start it with MALLOC_ARENA_MAX=2 (or 4) in its environment and compare the resident memory after the same load",
                    "在环境变量中设置 MALLOC_ARENA_MAX=2（或 4）后重启，并在相同负载下对比驻留内存"
                ),
                msg!(
                    "If speed suffers: an allocator that gives memory back (jemalloc, tcmalloc, mimalloc)",
                    "若性能下降：改用会归还内存的分配器（jemalloc、tcmalloc、mimalloc）"
                ),
            ],
        )
    })
}

fn stacks(process: &ProcessMappings, _: &Around<'_>) -> Option<Finding> {
    let threads = process.process.metrics.threads?;
    let all = sum(process, |one| one.kind == RegionKind::ThreadStack);
    // The first thread's stack is `[stack]`.
    let spare = all.count.saturating_sub(threads.saturating_sub(1));
    (spare >= SPARE_STACKS && all.count >= threads.saturating_mul(2)).then(|| {
        finding(
            "inspect-leaked-stacks",
            Severity::Warning,
            msg!(
                "There are many more thread stacks than threads: ended threads were neither joined nor detached",
                "线程栈远多于线程：已结束的线程既未 join 也未 detach"
            ),
            vec![msg!(
                "{} thread stacks ({} of address space, {} resident) for {threads} threads",
                "线程栈 {} 个（地址空间 {}，驻留 {}），线程 {threads} 个",
                all.count,
                size_kb(all.size),
                size_kb(all.rss)
            )],
            vec![
                msg!(
                    "In the program: call pthread_join or pthread_detach for every thread that it makes",
                    "在程序中：对创建的每个线程调用 pthread_join 或 pthread_detach"
                ),
                msg!(
                    "See whether it grows: aiops inspect memory --pid {} --watch 10s",
                    "观察是否持续增长：aiops inspect memory --pid {} --watch 10s",
                    process.process.pid
                ),
            ],
        )
    })
}

fn shared_memory(process: &ProcessMappings, around: &Around<'_>) -> Option<Finding> {
    let is = |one: &MappingSample| {
        let kinds = [RegionKind::Shm, RegionKind::Memfd, RegionKind::SharedAnon];
        kinds.contains(&one.kind) && shared(one)
    };
    let all = sum(process, is);
    let held = all.rss.saturating_add(all.swap);
    let whole = sum(process, |_| true);
    let share = percent(held, whole.rss.saturating_add(whole.swap));
    let room = around.room_kb();
    let of_room = room.map(|room| percent(held, room));
    let risk = of_room.is_some_and(|share| share >= RISK_PERCENT);
    (held >= SHARED && (share >= 50 || risk)).then(|| {
        let largest = process
            .mappings
            .iter()
            .filter(|one| is(one))
            .max_by_key(|one| one.metrics.rss_kb);
        let largest = largest.map(name).unwrap_or_default().0;
        let mut evidence = vec![msg!(
            "{} of shared memory, {share}% of what the process has; the largest is {largest}",
            "共享内存 {}，占进程内存的 {share}%；最大的是 {largest}",
            size_kb(held)
        )];
        if let (Some(of_room), Some(room)) = (of_room, room) {
            evidence.push(msg!(
                "{of_room}% of the {} that it may use",
                "占可用上限 {} 的 {of_room}%",
                size_kb(room)
            ));
        }
        finding(
            "inspect-huge-shared-memory",
            if risk {
                Severity::Warning
            } else {
                Severity::Info
            },
            msg!(
                "Most of the process is shared memory: it stays until it is removed, and it is charged to whoever touched it first",
                "进程内存以共享内存为主：删除前一直存在，并计入首个访问者的 cgroup"
            ),
            evidence,
            vec![
                msg!(
                    "A database's buffer pool is meant to be so: check its setting (shared_buffers, SGA) against the memory that there is",
                    "数据库缓冲池属正常情况：核对其设置（shared_buffers、SGA）与可用内存"
                ),
                msg!(
                    "Else see who else has it and what is left over: ipcs -mp; ls -l /dev/shm",
                    "否则查看还有谁在使用以及遗留的段：ipcs -mp；ls -l /dev/shm"
                ),
            ],
        )
    })
}

/// Whether it compiles while it runs: then writable code is meant.
fn compiles(process: &ProcessMappings) -> bool {
    let comm = process.process.comm.lossy();
    COMPILERS.contains(&comm.as_ref())
        || process.mappings.iter().any(|one| {
            let path = one.path.lossy();
            let file = path.rsplit('/').next().unwrap_or_default();
            COMPILER_LIBRARIES.iter().any(|name| file.starts_with(name))
        })
}

fn code(process: &ProcessMappings, _: &Around<'_>) -> Option<Finding> {
    let is = |one: &MappingSample| one.perms.as_bytes().get(1..3) == Some(b"wx");
    let odd = |one: &MappingSample| {
        let kinds = [
            RegionKind::Heap,
            RegionKind::Stack,
            RegionKind::ThreadStack,
            RegionKind::Library,
            RegionKind::Executable,
        ];
        is(one) && kinds.contains(&one.kind)
    };
    let (all, odd) = (sum(process, is), sum(process, odd));
    let usual = compiles(process) && all.rss < COMPILED_CODE && odd.count == 0;
    (all.rss >= WRITABLE_CODE || odd.count > 0).then(|| {
        let mut evidence = vec![msg!(
            "{} mappings writable and executable, {} resident",
            "可写且可执行的映射 {} 个，驻留 {}",
            all.count,
            size_kb(all.rss)
        )];
        if odd.count > 0 {
            evidence.push(msg!(
                "{} of them are heap, stack or program files, which no just-in-time compiler needs",
                "其中 {} 个是堆、栈或程序文件，即时编译器并不需要",
                odd.count
            ));
        }
        finding(
            "inspect-writable-code",
            if usual {
                Severity::Info
            } else {
                Severity::Warning
            },
            msg!(
                "Memory is writable and executable at once: an attacker who can write there can run code",
                "存在同时可写可执行的内存：能写入的攻击者即可执行代码"
            ),
            evidence,
            vec![
                msg!(
                    "An executable stack comes from an object without .note.GNU-stack: readelf -lW on the program and its libraries shows GNU_STACK with E; link with -z noexecstack",
                    "可执行栈来自缺少 .note.GNU-stack 的目标文件：用 readelf -lW 检查程序及其库的 GNU_STACK 是否带 E；链接时加 -z noexecstack"
                ),
                msg!(
                    "A large code cache of a virtual machine: bound it (-XX:ReservedCodeCacheSize=…)",
                    "若是虚拟机的大代码缓存：为其设置上限（-XX:ReservedCodeCacheSize=…）"
                ),
            ],
        )
    })
}

fn deleted(process: &ProcessMappings, _: &Around<'_>) -> Option<Finding> {
    let gone = |one: &MappingSample| name(one).1;
    let runs = |one: &MappingSample| one.perms.as_bytes().get(2) == Some(&b'x');
    let code: HashSet<&[u8]> = process
        .mappings
        .iter()
        .filter(|one| one.kind == RegionKind::Executable || runs(one))
        .map(|one| one.path.as_bytes())
        .collect();
    // A file that is called like a library, and of which nothing can be run, is data.
    let program = |one: &MappingSample| {
        matches!(one.kind, RegionKind::Executable | RegionKind::Library)
            && code.contains(one.path.as_bytes())
            && gone(one)
    };
    let file = |one: &MappingSample| {
        matches!(one.kind, RegionKind::File | RegionKind::Library) && !program(one) && gone(one)
    };
    // The kernel marks every System V segment so; only /dev/shm has names that can be removed.
    let segment = |one: &MappingSample| {
        one.kind == RegionKind::Shm && one.path.as_bytes().starts_with(b"/dev/shm/") && gone(one)
    };
    let (programs, files) = (sum(process, program), sum(process, file));
    let segments = sum(process, segment);
    let large = files.size.max(files.rss) >= DELETED;
    let shared = segments.size.max(segments.rss) >= DELETED;
    (programs.count > 0 || large || shared).then(|| {
        let first = process
            .mappings
            .iter()
            .filter(|one| match (large, programs.count > 0) {
                (true, _) => file(one),
                (false, true) => program(one),
                (false, false) => segment(one),
            })
            .max_by_key(|one| one.metrics.size_kb);
        let first = first.map(name).unwrap_or_default().0;
        let mut evidence = Vec::new();
        let mut advice = Vec::new();
        if programs.count > 0 {
            evidence.push(msg!(
                "{} mappings of a program or library that was replaced or removed",
                "{} 个映射属于已被替换或删除的程序或库",
                programs.count
            ));
            advice.push(msg!(
                "It still runs the old code, with its bugs: restart it after an upgrade",
                "它仍在运行旧代码（及其缺陷）：升级后请重启"
            ));
        }
        if large {
            evidence.push(msg!(
                "{} mappings of removed files, {} of address space, {} resident",
                "{} 个映射属于已删除的文件，地址空间 {}，驻留 {}",
                files.count,
                size_kb(files.size),
                size_kb(files.rss)
            ));
            advice.push(msg!(
                "The disk space is free again only when the process unmaps them or ends: lsof -p {} +L1",
                "进程解除映射或退出后磁盘空间才会释放：lsof -p {} +L1",
                process.process.pid
            ));
        }
        if shared {
            evidence.push(msg!(
                "{} mappings of removed segments of /dev/shm, {} of address space, {} resident",
                "{} 个映射属于已删除的 /dev/shm 段，地址空间 {}，驻留 {}",
                segments.count,
                size_kb(segments.size),
                size_kb(segments.rss)
            ));
            advice.push(msg!(
                "Nobody finds such a segment by its name any more; its memory is free again when the last process unmaps it. Programs that remove it on purpose (so that it ends with them) are right",
                "该段已无法通过名称找到；最后一个进程解除映射后内存才会释放。若程序有意如此（随进程退出而释放），属正常情况"
            ));
        }
        finding(
            "inspect-deleted-file",
            if large {
                Severity::Warning
            } else {
                Severity::Info
            },
            msg!(
                "Files are mapped that are not on disk any more: {first}",
                "映射了磁盘上已不存在的文件：{first}"
            ),
            evidence,
            advice,
        )
    })
}

fn small(process: &ProcessMappings, _: &Around<'_>) -> Option<Finding> {
    let little = |one: &MappingSample| is_heap(one) && one.metrics.size_kb <= Some(SMALL);
    let little = sum(process, little);
    let count = process.mappings.len() as u64;
    (little.count >= SMALL_COUNT && percent(little.count, count) >= 50).then(|| {
        finding(
            "inspect-small-mappings",
            Severity::Warning,
            msg!(
                "The address space is in small pieces: page faults and forks get slow, and huge pages find no room",
                "地址空间被切成大量小块：缺页与 fork 变慢，且无法使用大页"
            ),
            vec![msg!(
                "{} of {count} mappings are anonymous and at most 64 KiB; together {}",
                "{count} 个映射中有 {} 个是不超过 64 KiB 的匿名映射，共 {}",
                little.count,
                size_kb(little.size)
            )],
            vec![msg!(
                "Look for an allocator that protects or maps each block (MALLOC_MMAP_THRESHOLD_, guard pages, a debugging allocator), or mprotect on single pages",
                "检查是否有逐块映射或加保护的分配器（MALLOC_MMAP_THRESHOLD_、保护页、调试分配器），或对单页调用 mprotect"
            )],
        )
    })
}

fn huge(process: &ProcessMappings, _: &Around<'_>) -> Option<Finding> {
    let with = |one: &&MappingSample| one.metrics.anon_huge_kb.is_some_and(|huge| huge > 0);
    let (mut huge, mut used, mut rss) = (0_u64, 0_u64, 0_u64);
    for one in process.mappings.iter().filter(with) {
        huge = huge.saturating_add(one.metrics.anon_huge_kb.unwrap_or(0));
        used = used.saturating_add(one.metrics.referenced_kb?);
        rss = rss.saturating_add(one.metrics.rss_kb?);
    }
    let share = percent(used, rss);
    (huge >= HUGE && share < HUGE_USED_PERCENT).then(|| {
        finding(
            "inspect-huge-page-waste",
            Severity::Info,
            msg!(
                "Transparent huge pages hold memory that is hardly used",
                "透明大页占用了很少使用的内存"
            ),
            vec![msg!(
                "{} in huge pages; only {share}% of the {} in those mappings was used lately",
                "大页 {}；这些映射驻留 {}，近期仅使用 {share}%",
                size_kb(huge),
                size_kb(rss)
            )],
            vec![msg!(
                "Compare its memory with transparent huge pages on request only: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, then restart it",
                "仅按需启用透明大页后对比内存：echo madvise > /sys/kernel/mm/transparent_hugepage/enabled，然后重启进程"
            )],
        )
    })
}

fn lazy(process: &ProcessMappings, _: &Around<'_>) -> Option<Finding> {
    let lazy = process
        .mappings
        .iter()
        .filter_map(|mapping| mapping.metrics.lazy_free_kb)
        .fold(0, u64::saturating_add);
    let rss = sum(process, |_| true).rss;
    let share = percent(lazy, rss);
    (lazy >= LAZY && share >= LAZY_PERCENT).then(|| {
        finding(
            "inspect-lazy-free",
            Severity::Info,
            msg!(
                "Resident memory looks larger than it is: the process gave part of it back, and the kernel takes it when it is needed",
                "驻留内存看起来偏大：进程已归还其中一部分，内核会在需要时回收"
            ),
            vec![msg!(
                "{} given back with MADV_FREE, {share}% of {} resident",
                "以 MADV_FREE 归还 {}，占驻留 {} 的 {share}%",
                size_kb(lazy),
                size_kb(rss)
            )],
            vec![msg!(
                "Do not count it as a leak. Where resident memory is an alarm: Go GODEBUG=madvdontneed=1, jemalloc muzzy_decay_ms:0",
                "不要将其视为泄漏。若以驻留内存告警：Go 用 GODEBUG=madvdontneed=1，jemalloc 用 muzzy_decay_ms:0"
            )],
        )
    })
}
