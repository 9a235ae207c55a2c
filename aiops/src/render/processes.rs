//! `inspect processes` for people: the largest processes or groups, where the memory went, limits, nodes.

use super::TextReport;
use super::findings;
use super::lang::Word;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::units;
use super::width;
use crate::report::Report;
use crate::report::processes::CgroupRow;
use crate::report::processes::Limits;
use crate::report::processes::Makeup;
use crate::report::processes::MakeupSource;
use crate::report::processes::ProcessesData;
use crate::report::processes::Who;
use crate::report::shown;

/// Cells of a bar.
const BAR: u64 = 8;
/// Cgroups that are shown.
const CGROUPS: usize = 8;
/// An age of PSS that is worth a mark.
const STALE_MS: u64 = 1000;

impl TextReport for ProcessesData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        let title = lang.pick("Memory of processes", "进程内存分布");
        let at = data.at.as_ref().unwrap_or(&report.generated_at);
        out.title(title, &super::text::clock(at));
        summary(report, out);
        for note in &data.notes {
            out.hang(0, 2, Paint::Warn, note);
        }
        out.rule();
        if data.processes.is_empty() {
            let text = if data.view.filtered {
                lang.pick("No process matches the filter", "没有符合过滤条件的进程")
            } else {
                lang.pick("No process could be read", "无法读取任何进程")
            };
            out.line(0, Paint::Warn, text);
        } else {
            if data.by == "process" {
                processes(data, out);
            } else {
                groups(data, out);
            }
            legend(data, out);
        }
        out.rule();
        account(data, out);
        cgroups(data, out);
        nodes(data, out);
        findings::write(&report.findings, out);
        out.rule();
        super::account::write(&report.accounting, out);
    }
}

fn size(kb: Option<u64>) -> String {
    kb.map_or_else(String::new, units::size_kb)
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(String::new, |share| format!("{:.1}%", share * 100.0))
}

fn summary(report: &Report<ProcessesData>, out: &mut Out) {
    let lang = out.lang();
    let totals = &report.data.totals;
    let host = format!("{}, Linux {}", report.host.hostname, report.host.kernel);
    out.pair(0, Word::Host.text(lang), &host);
    let unknown = || lang.unknown().to_owned();
    let all = totals.mem_total_kb.map_or_else(unknown, units::size_kb);
    let used = totals.mem_used_kb.map_or_else(unknown, |used| {
        let share = totals.mem_total_kb.and_then(|all| units::share(used, all));
        format!("{} ({})", units::size_kb(used), share.unwrap_or_default())
    });
    let available = totals.mem_available_kb.map_or_else(unknown, units::size_kb);
    let text = match lang {
        super::Lang::En => format!("{used} of {all} used, {available} available"),
        super::Lang::Zh => format!("已用 {used}，共 {all}，可用 {available}"),
    };
    out.pair(0, lang.pick("Memory", "内存"), &text);
    let mut parts = vec![
        totals.processes.to_string(),
        format!(
            "RSS {}",
            totals.processes_rss_kb.map_or_else(unknown, units::size_kb)
        ),
    ];
    if let Some(pss) = totals.processes_pss_kb {
        let (read, count) = (totals.processes_pss_read, totals.processes);
        let of = if read < count {
            match lang {
                super::Lang::En => format!(" (of {read} processes)"),
                super::Lang::Zh => format!("（{read} 个进程）"),
            }
        } else {
            String::new()
        };
        parts.push(format!("PSS {}{of}", units::size_kb(pss)));
    }
    if let Some(swap) = totals.processes_swap_kb.filter(|swap| *swap > 0) {
        parts.push(format!(
            "{} {}",
            lang.pick("swap", "Swap"),
            units::size_kb(swap)
        ));
    }
    let label = if report.data.view.filtered {
        lang.pick("Chosen processes", "所选进程")
    } else {
        lang.pick("Processes", "进程")
    };
    out.pair(0, label, &parts.join(lang.pick(", ", "，")));
}

/// The make-up as a bar: resident parts and swap, each at least one cell when it is a sixteenth of the whole.
fn bar(makeup: &Makeup, unicode: bool) -> String {
    let parts = [
        makeup.anon_kb,
        makeup.file_kb,
        makeup.shmem_kb,
        makeup.swap_kb,
    ];
    let parts = parts.map(|part| u128::from(part.unwrap_or(0)));
    let whole: u128 = parts.iter().sum();
    if whole == 0 {
        return String::new();
    }
    let marks = if unicode {
        ['█', '▓', '▒', '░']
    } else {
        ['A', 'F', 'S', '.']
    };
    let mut text = String::new();
    let (mut done, mut drawn) = (0u128, 0u128);
    for (part, mark) in parts.into_iter().zip(marks) {
        done += part;
        let end = (done * u128::from(BAR) * 2 + whole) / (whole * 2);
        text.extend(std::iter::repeat_n(
            mark,
            usize::try_from(end - drawn).unwrap_or(0),
        ));
        drawn = end;
    }
    text
}

/// Columns of figures and bar that processes and groups share.
struct Figures<'a> {
    rss_kb: Option<u64>,
    pss_kb: Option<u64>,
    uss_kb: Option<u64>,
    age_ms: Option<u64>,
    makeup: &'a Makeup,
    share: Option<f64>,
}

/// `sort`: the column that rows are ordered by stays on the narrowest terminal.
fn figure_columns(sort: &str, out: &Out) -> Vec<Column> {
    let lang = out.lang();
    let mut columns = vec![
        Column::figures("RSS", 0),
        Column::figures(lang.pick("Share", "占比"), 8),
        Column {
            least: None,
            ..Column::text(lang.pick("Make-up", "构成"), 8, 4)
        },
        Column::figures(lang.pick("Anon", "匿名"), 1),
        Column::figures(lang.pick("File", "文件"), 2),
        Column::figures(lang.pick("Shared", "共享"), 5),
        Column::figures("Swap", 3),
        Column::figures("PSS", 7),
        Column::figures("USS", 10),
    ];
    let at = match sort {
        "anon" => 3,
        "file" => 4,
        "shmem" => 5,
        "swap" => 6,
        "pss" => 7,
        "uss" => 8,
        _ => 0,
    };
    if let Some(column) = columns.get_mut(at) {
        column.drop = 0;
    }
    columns
}

fn figures(row: &Figures<'_>, out: &Out) -> Vec<String> {
    let nonzero = |kb: Option<u64>| size(kb.filter(|kb| *kb > 0));
    let stale = row.age_ms > Some(STALE_MS);
    let mark = |kb: Option<u64>| {
        let text = size(kb);
        if stale && !text.is_empty() {
            format!("{text}*")
        } else {
            text
        }
    };
    vec![
        size(row.rss_kb),
        percent(row.share),
        bar(row.makeup, out.unicode()),
        size(row.makeup.anon_kb),
        size(row.makeup.file_kb),
        nonzero(row.makeup.shmem_kb),
        nonzero(row.makeup.swap_kb),
        mark(row.pss_kb),
        mark(row.uss_kb),
    ]
}

/// A container's name with the id as tools show it; another text as it is.
fn short(name: &str) -> String {
    match name.split_once(':') {
        Some((runtime, id)) if id.len() > 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{runtime}:{}", id.get(..12).unwrap_or(id))
        }
        _ => name.to_owned(),
    }
}

/// Where a process or group lives: container, else unit, else cgroup.
fn home(who: &Who) -> String {
    let unit = who.unit.clone().or_else(|| who.cgroup.clone());
    let home = who.container.as_deref().map(short).or(unit);
    home.filter(|home| home != "/").unwrap_or_default()
}

fn rest(count: usize, rows: usize, out: &mut Out) {
    if count < rows {
        let more = rows - count;
        let text = match out.lang() {
            super::Lang::En => format!("… {more} more (--top 0 shows all)"),
            super::Lang::Zh => format!("… 还有 {more} 行（--top 0 显示全部）"),
        };
        out.line(2, Paint::Dim, &text);
    }
}

fn processes(data: &ProcessesData, out: &mut Out) {
    let lang = out.lang();
    let count = shown(data.view.top, data.processes.len());
    out.heading("📊", lang.pick("Largest processes", "内存占用最大的进程"));
    let mut columns = vec![
        Column::figures("PID", 0),
        Column::text(lang.pick("Name", "名称"), 8, 0),
    ];
    columns.extend(figure_columns(data.sort, out));
    columns.extend([
        Column::figures(lang.pick("Change", "变化"), 6),
        Column::figures(lang.pick("Remote", "远端"), 6),
        Column::figures(lang.pick("Threads", "线程"), 13),
        Column::figures(lang.pick("OOM adj", "OOM 调整"), 14),
        Column::text(lang.pick("User", "用户"), 6, 11),
        Column::text(lang.pick("In", "所属"), 10, 12),
        Column::text(lang.pick("Command", "命令"), 12, 9),
    ]);
    let rows = data.processes.iter().take(count).map(|row| {
        let who = &row.who;
        let mut cells = vec![
            who.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            who.comm.clone().unwrap_or_default(),
        ];
        let line = Figures {
            rss_kb: row.metrics.rss_kb,
            pss_kb: row.metrics.pss_kb,
            uss_kb: row.metrics.uss_kb,
            age_ms: row.metrics.rollup_age_ms,
            makeup: &row.makeup,
            share: row.rss_share,
        };
        cells.extend(figures(&line, out));
        let change = row
            .rss_change_kb
            .filter(|change| *change != 0)
            .map(|change| {
                let sign = if change < 0 { '-' } else { '+' };
                format!("{sign}{}", units::size_kb(change.unsigned_abs()))
            });
        cells.extend([
            change.unwrap_or_default(),
            percent(row.remote_share),
            row.metrics
                .threads
                .map(|n| n.to_string())
                .unwrap_or_default(),
            row.oom_score_adj
                .filter(|adj| *adj != 0)
                .map(|adj| adj.to_string())
                .unwrap_or_default(),
            who.user.clone().unwrap_or_default(),
            home(who),
            who.cmdline.clone().unwrap_or_default(),
        ]);
        (Paint::Plain, cells)
    });
    let rows = rows.collect();
    out.table(&Table { columns, rows });
    rest(count, data.processes.len(), out);
}

fn limit_cells(limits: Option<&Limits>) -> [String; 4] {
    let Some(limits) = limits else {
        return Default::default();
    };
    let share = limits
        .usage_kb
        .zip(limits.limit_kb)
        .and_then(|(usage, limit)| units::share(usage, limit));
    let count = |n: Option<u64>| {
        n.filter(|n| *n > 0)
            .map(|n| n.to_string())
            .unwrap_or_default()
    };
    [
        size(limits.usage_kb),
        size(limits.limit_kb),
        share.unwrap_or_default(),
        count(limits.oom_kill),
    ]
}

fn groups(data: &ProcessesData, out: &mut Out) {
    let lang = out.lang();
    let count = shown(data.view.top, data.groups.len());
    let (heading, none) = match data.by {
        "comm" => (lang.pick("Largest programs", "按名称分组"), ""),
        "cgroup" => (
            lang.pick("Largest cgroups", "按 cgroup 分组"),
            lang.pick("(cgroup not known)", "（cgroup 未知）"),
        ),
        "container" => (
            lang.pick("Largest containers", "按容器分组"),
            lang.pick("(in no container)", "（不在容器中）"),
        ),
        "user" => (
            lang.pick("Largest users", "按用户分组"),
            lang.pick("(user not known)", "（用户未知）"),
        ),
        _ => (
            lang.pick("Largest units", "按 systemd 单元分组"),
            lang.pick("(in no unit)", "（不属于任何单元）"),
        ),
    };
    out.heading("📊", heading);
    let room = width::room(out.inner());
    let mut columns = vec![
        Column::text(lang.pick("Name", "名称"), room, 0),
        Column::figures(lang.pick("Procs", "进程数"), 0),
    ];
    columns.extend(figure_columns(data.sort, out));
    columns.extend([
        Column::figures(lang.pick("Cgroup use", "cgroup 用量"), 6),
        Column::figures(lang.pick("Limit", "上限"), 6),
        Column::figures(lang.pick("Used", "已用"), 6),
        Column::figures(lang.pick("OOM kills", "OOM 次数"), 9),
    ]);
    let rows = data.groups.iter().take(count).map(|row| {
        let name = row
            .who
            .name
            .as_deref()
            .map_or_else(|| none.to_owned(), short);
        let name = width::middle(&name, room, out.ellipsis());
        let mut cells = vec![name, row.who.processes.to_string()];
        let line = Figures {
            rss_kb: row.metrics.rss_kb,
            pss_kb: row.metrics.pss_kb,
            uss_kb: row.metrics.uss_kb,
            age_ms: row.metrics.rollup_age_ms,
            makeup: &row.makeup,
            share: row.rss_share,
        };
        cells.extend(figures(&line, out));
        // The one that binds, when there is a limit at all.
        cells.extend(limit_cells(
            row.bound_by.as_ref().or(row.who.limits.as_ref()),
        ));
        (Paint::Plain, cells)
    });
    let rows = rows.collect();
    out.table(&Table { columns, rows });
    rest(count, data.groups.len(), out);
}

fn legend(data: &ProcessesData, out: &mut Out) {
    let lang = out.lang();
    let text = match (lang, out.unicode()) {
        (super::Lang::En, true) => "█ anonymous ▓ file ▒ shared ░ swap",
        (super::Lang::En, false) => "A anonymous F file S shared . swap",
        (super::Lang::Zh, true) => "█ 匿名 ▓ 文件 ▒ 共享 ░ Swap",
        (super::Lang::Zh, false) => "A 匿名 F 文件 S 共享 . Swap",
    };
    out.line(2, Paint::Dim, text);
    let sums = lang.pick(
        "Sums of RSS count a shared page once per process; sums of PSS count it once in all.",
        "RSS 之和对共享页按进程重复计数；PSS 之和每个共享页只计一次。",
    );
    out.line(2, Paint::Dim, sums);
    let statm = |makeup: &Makeup| {
        matches!(
            makeup.source,
            Some(MakeupSource::Statm | MakeupSource::Mixed)
        )
    };
    if data.processes.iter().any(|row| statm(&row.makeup)) {
        let text = lang.pick(
            "This kernel does not tell file from shared memory (statm): File holds both.",
            "该内核无法区分文件与共享内存（statm）：“文件”列为两者之和。",
        );
        out.line(2, Paint::Warn, text);
    }
    let (read, all) = (data.totals.processes_pss_read, data.totals.processes);
    if matches!(data.sort, "pss" | "uss") && read < all {
        let text = match lang {
            super::Lang::En => format!(
                "PSS and USS are known of {read} of {all} processes: the others follow in the order of RSS."
            ),
            super::Lang::Zh => {
                format!("{all} 个进程中仅 {read} 个的 PSS、USS 已知：其余按 RSS 排在其后。")
            }
        };
        out.line(2, Paint::Warn, &text);
    }
    if let Some(age) = data.totals.pss_oldest_ms.filter(|age| *age > STALE_MS) {
        let age = units::span(age as f64 / 1000.0);
        let text = match lang {
            super::Lang::En => format!("* PSS and USS are up to {age} old (--budget)"),
            super::Lang::Zh => format!("* PSS、USS 最旧为 {age} 前（--budget）"),
        };
        out.line(2, Paint::Dim, &text);
    }
    if data.nodes.len() > 1 {
        let text = lang.pick(
            "Remote: share of a process' memory on other nodes than those of the CPUs it is bound to; of an unbound one, than the node that holds most of it.",
            "远端：进程内存位于其绑定 CPU 所在节点之外的比例；未绑定时，以占用最多的节点为准。",
        );
        out.line(2, Paint::Dim, text);
    }
}

fn part(id: &str, out: &Out) -> &'static str {
    let (en, zh) = match id {
        "free" => ("free", "空闲"),
        "file_cache" => ("page cache of files", "文件页缓存"),
        "anon" => ("anonymous memory of processes", "进程匿名内存"),
        "shmem" => ("shared memory and tmpfs", "共享内存与 tmpfs"),
        "swap_cache" => ("swap cache", "Swap 缓存"),
        "slab_reclaimable" => ("slab, reclaimable", "slab（可回收）"),
        "slab_unreclaimable" => ("slab, not reclaimable", "slab（不可回收）"),
        "other_reclaimable" => ("other reclaimable kernel memory", "其他可回收内核内存"),
        "kernel_stack" => ("kernel stacks", "内核栈"),
        "page_tables" => ("page tables", "页表"),
        "percpu" => ("per-CPU", "per-CPU"),
        "vmalloc" => ("vmalloc", "vmalloc"),
        "hugetlb" => ("huge page pools", "大页池"),
        "zswap" => ("zswap", "zswap"),
        _ => ("zram", "zram"),
    };
    out.lang().pick(en, zh)
}

fn account(data: &ProcessesData, out: &mut Out) {
    let lang = out.lang();
    let totals = &data.totals;
    let Some(all) = totals.mem_total_kb else {
        return;
    };
    out.heading("🧮", lang.pick("Where the memory went", "内存去向"));
    let mut rows: Vec<(u64, String, Paint)> = totals
        .parts()
        .into_iter()
        .filter_map(|(id, kb)| Some((kb?, part(id, out).to_owned(), Paint::Plain)))
        .filter(|(kb, ..)| *kb > 0)
        .collect();
    if let Some(kb) = totals.unaccounted_kb.filter(|kb| *kb > 0) {
        let paint = if kb > all / 10 {
            Paint::Warn
        } else {
            Paint::Plain
        };
        let text = lang.pick("not accounted for by the kernel", "内核未说明去向");
        rows.push((kb, text.to_owned(), paint));
    }
    rows.sort_by_key(|(kb, ..)| std::cmp::Reverse(*kb));
    let full = if out.unicode() { "█" } else { "#" };
    let cells = rows.into_iter().map(|(kb, name, paint)| {
        let width = usize::try_from(u128::from(kb) * 20 / u128::from(all.max(1)));
        let bar = full.repeat(width.unwrap_or(0).min(20));
        (
            paint,
            vec![
                name,
                units::size_kb(kb),
                units::share(kb, all).unwrap_or_default(),
                bar,
            ],
        )
    });
    let table = Table {
        columns: vec![
            Column::text(lang.pick("Part", "部分"), 12, 0),
            Column::figures(lang.pick("Size", "大小"), 0),
            Column::figures(lang.pick("Share", "占比"), 1),
            Column::text("", 4, 2),
        ],
        rows: cells.collect(),
    };
    out.table(&table);
}

fn cgroups(data: &ProcessesData, out: &mut Out) {
    let lang = out.lang();
    let telling = |row: &&CgroupRow| {
        let metrics = &row.metrics;
        metrics.limit_kb.is_some()
            || metrics.high_kb.is_some()
            || metrics.oom_kill > Some(0)
            || metrics.failcnt > Some(0)
    };
    let mut rows: Vec<&CgroupRow> = data.cgroups.iter().filter(telling).collect();
    if rows.is_empty() {
        return;
    }
    rows.sort_by(|a, b| {
        let share = |row: &CgroupRow| row.limit_share.unwrap_or(-1.0);
        share(b).total_cmp(&share(a))
    });
    out.rule();
    let heading = lang.pick("Cgroups with limits", "有上限的 cgroup");
    out.heading("📦", heading);
    let count = rows.len().min(CGROUPS);
    let room = width::room(out.inner());
    let counted = |n: Option<u64>| {
        n.filter(|n| *n > 0)
            .map(|n| n.to_string())
            .unwrap_or_default()
    };
    let cells = rows.iter().take(count).map(|row| {
        let metrics = &row.metrics;
        let paint = match row.limit_share {
            Some(share) if share >= 0.9 => Paint::Warn,
            _ => Paint::Plain,
        };
        let cells = vec![
            width::middle(&row.path, room, out.ellipsis()),
            size(metrics.usage_kb),
            size(metrics.limit_kb),
            percent(row.limit_share),
            size(metrics.high_kb),
            row.processes_below.to_string(),
            counted(metrics.failcnt),
            counted(metrics.high_events),
            counted(metrics.oom_kill),
        ];
        (paint, cells)
    });
    let table = Table {
        columns: vec![
            Column::text(lang.pick("Cgroup", "cgroup"), room, 0),
            Column::figures(lang.pick("In use", "用量"), 0),
            Column::figures(lang.pick("Limit", "上限"), 0),
            Column::figures(lang.pick("Used", "已用"), 0),
            Column::figures("memory.high", 4),
            Column::figures(lang.pick("Procs", "进程数"), 3),
            Column::figures(lang.pick("Hits", "触限次数"), 2),
            Column::figures(lang.pick("Throttled", "限速次数"), 5),
            Column::figures(lang.pick("OOM kills", "OOM 次数"), 1),
        ],
        rows: cells.collect(),
    };
    out.table(&table);
    if count < rows.len() {
        let more = rows.len() - count;
        let text = match lang {
            super::Lang::En => format!("… {more} more (-o json has all)"),
            super::Lang::Zh => format!("… 还有 {more} 行（-o json 含全部）"),
        };
        out.line(2, Paint::Dim, &text);
    }
}

fn nodes(data: &ProcessesData, out: &mut Out) {
    if data.nodes.len() < 2 {
        return;
    }
    let lang = out.lang();
    out.rule();
    out.heading("🧭", lang.pick("NUMA nodes", "NUMA 节点"));
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let rate = |n: Option<f64>| n.map(|n| format!("{n:.0}")).unwrap_or_default();
    let cells = data.nodes.iter().map(|node| {
        let cells = vec![
            node.id.to_string(),
            size(node.mem_total_kb),
            size(node.mem_free_kb),
            size(node.file_kb),
            size(node.anon_kb),
            size(node.slab_kb),
            number(node.numa_hit),
            number(node.numa_miss),
            number(node.numa_foreign),
            number(node.other_node),
            rate(node.numa_miss_per_s),
            node.cpus.clone().unwrap_or_default(),
        ];
        (Paint::Plain, cells)
    });
    let table = Table {
        columns: vec![
            Column::figures(lang.pick("Node", "节点"), 0),
            Column::figures(lang.pick("Total", "总量"), 0),
            Column::figures(lang.pick("Free", "空闲"), 0),
            Column::figures(lang.pick("File", "文件"), 3),
            Column::figures(lang.pick("Anon", "匿名"), 2),
            Column::figures("Slab", 7),
            Column::figures(lang.pick("Hits", "命中"), 6),
            Column::figures(lang.pick("Misses", "未命中"), 1),
            Column::figures(lang.pick("Foreign", "被迁走"), 5),
            Column::figures(lang.pick("From afar", "远端 CPU"), 4),
            Column::figures(lang.pick("Misses/s", "未命中/秒"), 1),
            Column::text("CPU", 4, 8),
        ],
        rows: cells.collect(),
    };
    out.table(&table);
}

#[cfg(test)]
mod tests;
