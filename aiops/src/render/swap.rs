//! `analyze swap` for people: the answer, what moves, who has it, the sum, what to do.

use super::TextReport;
use super::findings;
use super::lang::Group;
use super::lang::Lang;
use super::lang::term;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::units;
use super::units::size;
use crate::report::Report;
use crate::report::swap::GroupSwap;
use crate::report::swap::ProcessSwap;
use crate::report::swap::SwapData;

/// Processes that are shown when the list was not asked for.
const SHORT: usize = 5;
/// Columns of a bar.
const BAR: usize = 12;

impl TextReport for SwapData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let data = &report.data;
        out.title(
            out.lang().pick("Swap", "Swap 分析"),
            &super::text::clock(data.at.as_deref().unwrap_or(&report.generated_at)),
        );
        answer(data, out);
        rates(data, out);
        devices(data, out);
        out.rule();
        if data.groups.is_some() {
            groups(data, out);
        } else {
            processes(data, out);
        }
        regions(data, out);
        cgroups(data, out);
        sum(data, out);
        findings::write(&report.findings, out);
        super::account::write(&report.accounting, out);
    }
}

fn speed(kb: f64) -> String {
    format!("{:.1} MiB/s", kb / 1024.0)
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(String::new, |share| format!("{:.1}%", share * 100.0))
}

fn answer(data: &SwapData, out: &mut Out) {
    let lang = out.lang();
    let totals = &data.totals;
    if totals.swap_total_kb == Some(0) {
        let text = lang.pick("No swap is configured.", "未配置交换空间。");
        out.line(0, Paint::Bold, text);
        return;
    }
    let (used, total) = (
        size(totals.swap_used_kb, lang),
        size(totals.swap_total_kb, lang),
    );
    let mut text = match lang {
        Lang::En => format!("{used} of {total} swap in use"),
        Lang::Zh => format!("交换空间已用 {used}，共 {total}"),
    };
    let first = data
        .processes
        .iter()
        .max_by_key(|row| row.swap_pss_kb.or(row.swap_kb));
    let part = totals
        .swap_used_kb
        .and_then(|used| units::share(used, totals.swap_total_kb?));
    if let Some(part) = part {
        text.push_str(&match lang {
            Lang::En => format!(" ({part})"),
            Lang::Zh => format!("（{part}）"),
        });
    }
    let group = data.groups.as_deref().and_then(|groups| {
        let named = groups.iter().filter(|row| row.who.name.is_some());
        named.max_by_key(|row| row.swap_share_kb)
    });
    if data.groups.is_some() {
        if let Some(row) = group.filter(|row| row.swap_share_kb > Some(0)) {
            let (name, share) = (
                row.who.name.as_deref().unwrap_or_default(),
                percent(row.share),
            );
            text.push_str(&match lang {
                Lang::En => format!("; {} {name} has {share} of it", data.view.by),
                Lang::Zh => format!("；{} {name} 占其中 {share}", data.view.by),
            });
        }
    } else if let Some(row) = first.filter(|row| row.swap_kb > Some(0)) {
        let share = percent(row.share);
        text.push_str(&match lang {
            Lang::En => format!("; {} (pid {}) has {share} of it", row.comm, row.pid),
            Lang::Zh => format!("；{} (pid {}) 占其中 {share}", row.comm, row.pid),
        });
    }
    let moved = data
        .rates
        .swap_in_kb_per_s
        .zip(data.rates.swap_out_kb_per_s)
        .map(|(inward, outward)| inward + outward);
    text.push_str(&match (lang, moved) {
        (Lang::En, None) => "; how fast it moves is unknown".to_owned(),
        (Lang::Zh, None) => "；换入换出速率未知".to_owned(),
        (Lang::En, Some(0.0)) => "; nothing moves now".to_owned(),
        (Lang::Zh, Some(0.0)) => "；当前没有换入换出".to_owned(),
        (Lang::En, Some(kb)) => format!("; {} go in and out", speed(kb)),
        (Lang::Zh, Some(kb)) => format!("；换入换出共 {}", speed(kb)),
    });
    out.line(0, Paint::Bold, &text);
}

fn rates(data: &SwapData, out: &mut Out) {
    let lang = out.lang();
    let rates = &data.rates;
    if data.totals.swap_total_kb != Some(0) {
        let unknown = || lang.unknown().to_owned();
        let move_text = |kb: Option<f64>, pages: Option<f64>| match kb.zip(pages) {
            Some((kb, pages)) => format!(
                "{} ({pages:.0} {})",
                speed(kb),
                lang.pick("pages/s", "页/s")
            ),
            None => unknown(),
        };
        let per_s = |rate: Option<f64>| rate.map_or_else(unknown, |rate| format!("{rate:.0}/s"));
        let separator = lang.pick("; ", "；");
        let mut parts = vec![
            format!(
                "{} {}{}{} {}",
                lang.pick("in", "换入"),
                move_text(rates.swap_in_kb_per_s, rates.pswpin_per_s),
                lang.pick(", ", "，"),
                lang.pick("out", "换出"),
                move_text(rates.swap_out_kb_per_s, rates.pswpout_per_s)
            ),
            format!(
                "{} {}",
                lang.pick("major faults", "主缺页"),
                per_s(rates.major_faults_per_s)
            ),
            format!(
                "{} {}",
                lang.pick("refaults", "匿名页 refault"),
                per_s(rates.refault_anon_per_s)
            ),
        ];
        let readahead = [
            (
                rates.readahead_hit_ratio,
                lang.pick("readahead used", "预读命中"),
            ),
            (
                rates
                    .readahead_hit_ratio_since_boot
                    .filter(|_| rates.readahead_hit_ratio.is_none()),
                lang.pick("readahead used since boot", "启动以来预读命中"),
            ),
        ];
        for (ratio, name) in readahead {
            if let Some(ratio) = ratio {
                parts.push(format!("{name} {:.0}%", ratio * 100.0));
            }
        }
        let span = rates.interval_s.map(units::span);
        let label = match (lang, span) {
            (Lang::En, Some(span)) => format!("Over {span}"),
            (Lang::Zh, Some(span)) => format!("{span} 内"),
            (_, None) => lang.pick("Rates", "速率").to_owned(),
        };
        out.pair(0, &label, &parts.join(separator));
    }
    let pressure = &data.pressure;
    let text = pressure.some_avg10.zip(pressure.full_avg10).map_or_else(
        || lang.unknown().to_owned(),
        |(some, full)| format!("some {some:.2}%, full {full:.2}% (avg10)"),
    );
    out.pair(0, lang.pick("Memory pressure", "内存压力 (PSI)"), &text);
}

fn devices(data: &SwapData, out: &mut Out) {
    let lang = out.lang();
    let devices = data.devices.as_deref().unwrap_or_default();
    for device in devices {
        let kind = match device.rotating {
            Some(true) => lang.pick(", rotating", "，机械盘"),
            Some(false) => lang.pick(", not rotating", "，非机械盘"),
            None => "",
        };
        let (used, total) = (
            units::size_kb(device.used_kb),
            units::size_kb(device.size_kb),
        );
        let text = format!(
            "{} ({}{kind}) {used} / {total}, {} {}",
            device.path,
            device.kind,
            lang.pick("priority", "优先级"),
            device.priority
        );
        out.pair(0, lang.pick("Device", "设备"), &text);
    }
    for zram in data.zram.iter().filter(|zram| zram.stored_kb > Some(0)) {
        let ratio = zram
            .ratio
            .map_or_else(String::new, |ratio| format!(" ({ratio:.1}×)"));
        let text = format!(
            "{} → {}{ratio} {}",
            size(zram.stored_kb, lang),
            size(zram.pool_kb, lang),
            zram.algorithm.as_deref().unwrap_or_default()
        );
        out.pair(0, &zram.name, text.trim_end());
    }
    if let Some(zswap) = data
        .zswap
        .as_ref()
        .filter(|zswap| zswap.enabled == Some(true))
    {
        let ratio = zswap
            .ratio
            .map_or_else(String::new, |ratio| format!(" ({ratio:.1}×)"));
        let text = format!(
            "{} → {}{ratio} {}",
            size(zswap.stored_kb, lang),
            size(zswap.pool_kb, lang),
            zswap.compressor.as_deref().unwrap_or_default()
        );
        out.pair(0, "zswap", text.trim_end());
    }
}

fn bar(share: Option<f64>, unicode: bool) -> String {
    let Some(share) = share.filter(|share| *share > 0.0) else {
        return String::new();
    };
    let filled = (1..=BAR)
        .filter(|step| *step as f64 <= (share * BAR as f64).ceil())
        .count();
    let (on, off) = if unicode { ("█", "░") } else { ("#", ".") };
    format!("{}{}", on.repeat(filled), off.repeat(BAR - filled))
}

fn paint(share: Option<f64>) -> Paint {
    if share >= Some(0.5) {
        Paint::Warn
    } else {
        Paint::Plain
    }
}

fn processes(data: &SwapData, out: &mut Out) {
    let lang = out.lang();
    let listed: Vec<&ProcessSwap> = data.processes.iter().filter(|row| row.listed).collect();
    out.heading("📋", lang.pick("Processes in swap", "换出内存最多的进程"));
    if listed.is_empty() {
        nobody(data, data.processes.is_empty(), out);
        return;
    }
    let top = if data.view.processes {
        data.view.top
    } else {
        data.view.top.min(SHORT)
    };
    let row = |row: &&ProcessSwap| {
        let change = match row.swap_change_kb {
            Some(kb) if kb > 0 => format!("+{}", units::size_kb(kb.unsigned_abs())),
            Some(kb) if kb < 0 => format!("−{}", units::size_kb(kb.unsigned_abs())),
            _ => String::new(),
        };
        let faults = row.major_faults.filter(|faults| *faults > 0);
        let cells = vec![
            row.pid.to_string(),
            row.comm.clone(),
            size(row.swap_kb, lang),
            percent(row.share),
            bar(row.share, out.unicode()),
            change,
            size(row.rss_kb, lang),
            percent(row.swapped_share),
            faults.map_or_else(String::new, |faults| faults.to_string()),
            row.cgroup.clone().unwrap_or_default(),
        ];
        (paint(row.share), cells)
    };
    let table = Table {
        columns: vec![
            Column::figures("PID", 0),
            Column::text(lang.pick("Name", "名称"), 8, 0),
            Column::figures(lang.pick("Swap", "换出"), 0),
            Column::figures(lang.pick("of swap used", "占已用swap"), 0),
            Column {
                title: "",
                figures: false,
                least: None,
                drop: 3,
            },
            Column::figures(lang.pick("Change", "变化"), 2),
            Column::figures("RSS", 1),
            swapped_column(data, lang),
            faults_column(data, lang),
            Column::text("Cgroup", 8, 5),
        ],
        rows: listed.iter().take(top).map(row).collect(),
    };
    out.table(&table);
    let more = listed.len().saturating_sub(top);
    if more > 0 {
        let hint = match (lang, data.view.processes) {
            (Lang::En, true) => format!("and {more} more (--top)"),
            (Lang::En, false) => format!("and {more} more (--processes)"),
            (Lang::Zh, true) => format!("另有 {more} 个 (--top)"),
            (Lang::Zh, false) => format!("另有 {more} 个 (--processes)"),
        };
        out.line(2, Paint::Dim, &hint);
    }
}

/// Why a list is empty.
fn nobody(data: &SwapData, none: bool, out: &mut Out) {
    let lang = out.lang();
    let least = data.view.threshold * 100.0;
    let text = if data.view.filtered && none {
        lang.pick("no process matches", "没有匹配的进程").to_owned()
    } else if least > 0.0 {
        match lang {
            Lang::En => format!("none has {least:.1}% of the swap in use or more"),
            Lang::Zh => format!("没有占已用交换空间 {least:.1}% 及以上者"),
        }
    } else {
        lang.pick("none", "无").to_owned()
    };
    out.line(2, Paint::Dim, &text);
}

/// The row of a process in the table of groups.
fn group_of<'a>(row: &'a ProcessSwap, by: &str) -> Option<&'a str> {
    match by {
        "comm" => Some(&row.comm),
        "cgroup" => row.cgroup.as_deref(),
        "container" => row.container.as_deref(),
        "user" => row.user.as_deref(),
        _ => row.unit.as_deref(),
    }
}

/// Groups that are shown, without `--top`.
fn listed_groups(data: &SwapData) -> Vec<&GroupSwap> {
    let groups = data.groups.iter().flatten();
    groups
        .filter(|row| row.swap_kb > Some(0) && row.share.unwrap_or(0.0) >= data.view.threshold)
        .collect()
}

fn groups(data: &SwapData, out: &mut Out) {
    let lang = out.lang();
    let text = match lang {
        Lang::En => format!("Swap by {}", data.view.by),
        Lang::Zh => format!("按 {} 汇总", data.view.by),
    };
    out.heading("📋", &text);
    let wanted = listed_groups(data);
    if wanted.is_empty() {
        nobody(data, data.processes.is_empty(), out);
        return;
    }
    let rows = wanted.iter().take(data.view.top).map(|row| {
        let none = lang.pick("(none)", "(无)");
        let cells = vec![
            row.who.name.clone().unwrap_or_else(|| none.to_owned()),
            row.who.processes.to_string(),
            size(row.swap_share_kb, lang),
            percent(row.share),
            bar(row.share, out.unicode()),
            size(row.rss_kb, lang),
            percent(row.swapped_share),
            row.major_faults
                .map_or_else(String::new, |faults| faults.to_string()),
        ];
        (paint(row.share), cells)
    });
    let table = Table {
        rows: rows.collect(),
        columns: vec![
            Column::text(lang.pick("Name", "名称"), 10, 0),
            Column::figures(lang.pick("Processes", "进程数"), 2),
            Column::figures(lang.pick("Swap", "换出"), 0),
            Column::figures(lang.pick("of swap used", "占已用swap"), 0),
            Column {
                title: "",
                figures: false,
                least: None,
                drop: 3,
            },
            Column::figures("RSS", 1),
            swapped_column(data, lang),
            faults_column(data, lang),
        ],
    };
    out.table(&table);
    let more = wanted.len().saturating_sub(data.view.top);
    if more > 0 {
        let hint = match lang {
            Lang::En => format!("and {more} more (--top)"),
            Lang::Zh => format!("另有 {more} 个 (--top)"),
        };
        out.line(2, Paint::Dim, &hint);
    }
    let known = data.totals.processes_swap_pss_known;
    let text = match lang {
        Lang::En => format!(
            "Swap counts a slot once that several share (SwapPss of {known} of {} processes)",
            data.totals.processes_in_swap
        ),
        Lang::Zh => format!(
            "多个进程共享的交换槽只计一次（已知 SwapPss 的进程 {known}/{}）",
            data.totals.processes_in_swap
        ),
    };
    out.hang(2, 4, Paint::Dim, &text);
}

/// What rows are sorted by is always shown.
fn swapped_column(data: &SwapData, lang: Lang) -> Column {
    let drop = if data.view.sort == "share" { 0 } else { 6 };
    Column::figures(lang.pick("of it swapped", "自身换出率"), drop)
}

/// As [`swapped_column`].
fn faults_column(data: &SwapData, lang: Lang) -> Column {
    let drop = if data.view.sort == "majflt" { 0 } else { 4 };
    Column::figures(lang.pick("Major faults", "主缺页"), drop)
}

fn regions(data: &SwapData, out: &mut Out) {
    let lang = out.lang();
    let shown = data.groups.is_some().then(|| listed_groups(data));
    let wanted = |row: &ProcessSwap| match &shown {
        None => row.listed,
        Some(groups) => {
            let name = group_of(row, data.view.by);
            groups.iter().any(|group| group.who.name.as_deref() == name)
        }
    };
    let looked: Vec<&ProcessSwap> = data
        .processes
        .iter()
        .filter(|row| wanted(row))
        .filter(|row| {
            let some = row.regions.as_ref().is_some_and(|list| !list.is_empty());
            some || row.regions_denied
        })
        .take(SHORT)
        .collect();
    if looked.is_empty() {
        return;
    }
    out.blank();
    out.heading(
        "🔥",
        lang.pick("What was swapped out", "Swap 热区（换出了什么）"),
    );
    for row in looked {
        let parts = row.regions.iter().flatten().take(3).map(|region| {
            let name = region.path.as_deref();
            let name = name.filter(|name| !name.starts_with('['));
            let name = name.map_or_else(String::new, |name| format!(" {name}"));
            let (kind, kb) = (
                term(Group::Region, region.kind.id(), lang),
                units::size_kb(region.swap_kb),
            );
            format!("{kind}{name} {kb}")
        });
        let parts: Vec<String> = parts.collect();
        let who = format!("{} ({})", row.comm, row.pid);
        let joined = if row.regions_denied {
            lang.pick(
                "unknown: no permission (run as root)",
                "未知：无权限（请以 root 运行）",
            )
            .to_owned()
        } else {
            parts.join(lang.pick(", ", "、"))
        };
        let colon = out.colon();
        out.limited(2, 6, Paint::Plain, &format!("{who}{colon}{joined}"), 2);
    }
}

fn cgroups(data: &SwapData, out: &mut Out) {
    let lang = out.lang();
    let named = |path: &str| !path.trim_matches('/').is_empty();
    let rows = data
        .cgroups
        .iter()
        .filter(|row| named(&row.limits.path))
        .take(data.view.top.min(SHORT));
    let rows: Vec<_> = rows
        .map(|row| {
            let limit = row
                .limits
                .limit_kb
                .into_iter()
                .chain(row.limits.high_kb)
                .min();
            let or_none = |kb: Option<u64>| {
                kb.map_or_else(|| lang.pick("none", "无").to_owned(), units::size_kb)
            };
            let cells = vec![
                row.limits.path.clone(),
                size(row.limits.swap_kb, lang),
                or_none(row.limits.swap_limit_kb),
                size(row.limits.usage_kb, lang),
                or_none(limit),
                row.other_swap_kb
                    .filter(|kb| *kb > 0)
                    .map_or_else(String::new, units::size_kb),
            ];
            (Paint::Plain, cells)
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    out.blank();
    out.heading("📦", lang.pick("Cgroups in swap", "使用交换空间的 cgroup"));
    let swap_limit = if data.v1() {
        lang.pick("Mem+swap limit", "内存+swap 限额")
    } else {
        lang.pick("Swap limit", "swap 限额")
    };
    out.table(&Table {
        columns: vec![
            Column::text("Cgroup", 10, 0),
            Column::figures(lang.pick("Swap", "换出"), 0),
            Column::figures(swap_limit, 3),
            Column::figures(lang.pick("Memory", "内存"), 1),
            Column::figures(lang.pick("Limit", "限额"), 2),
            Column::figures(lang.pick("Shared", "共享"), 4),
        ],
        rows,
    });
}

fn signed(kb: i64) -> String {
    let sign = if kb < 0 { "−" } else { "+" };
    format!("{sign}{}", units::size_kb(kb.unsigned_abs()))
}

fn part(id: &str, lang: Lang) -> &'static str {
    match id {
        "shared_slots" => lang.pick("shared after fork, counted twice", "fork 共享，重复计数"),
        "shmem" => lang.pick("shared memory and tmpfs", "共享内存与 tmpfs"),
        "cgroup_shared" => lang.pick(
            "shared memory without an owner (cgroups)",
            "无归属的共享内存 (cgroup 计费)",
        ),
        "swap_cached" => lang.pick(
            "read back, slot kept (SwapCached)",
            "已读回、保留交换槽 (SwapCached)",
        ),
        "slot_caches" => lang.pick("reserve of CPUs", "CPU 预留交换槽"),
        "unread_processes" => lang.pick("processes that could not be read", "无法读取的进程"),
        _ => lang.pick("other", "其他"),
    }
}

fn sum(data: &SwapData, out: &mut Out) {
    let lang = out.lang();
    let totals = &data.totals;
    let (Some(used), Some(processes), Some(rest)) = (
        totals.swap_used_kb,
        totals.processes_swap_kb,
        totals.unexplained_kb,
    ) else {
        return;
    };
    if totals.swap_total_kb == Some(0) || used == 0 {
        return;
    }
    out.blank();
    out.heading("🧮", lang.pick("The sum", "对账"));
    let known = totals.processes_known;
    let first = match lang {
        Lang::En => format!("VmSwap of {known} processes"),
        Lang::Zh => format!("{known} 个进程的 VmSwap"),
    };
    let plain = |name: String, kb: String| (Paint::Plain, vec![kb, name]);
    let mut rows = vec![plain(first, units::size_kb(processes))];
    for one in &totals.explained {
        let name = part(one.part, lang).to_owned();
        match one.kb {
            Some(0) => {}
            Some(kb) => rows.push(plain(name, signed(kb))),
            None if one.part == "unread_processes" => {
                rows.push(plain(name, lang.unknown().to_owned()));
            }
            None => {}
        }
    }
    if rest != 0 {
        let share = totals.unexplained_share.unwrap_or(0.0) * 100.0;
        let name = lang.pick("not explained", "未解释");
        let paint = if share > 5.0 { Paint::Warn } else { Paint::Dim };
        rows.push((paint, vec![signed(rest), format!("{name} ({share:.1}%)")]));
    }
    let name = lang.pick("= swap in use", "= 已用交换空间");
    rows.push((Paint::Bold, vec![units::size_kb(used), name.to_owned()]));
    out.table(&Table {
        columns: vec![Column::figures("", 0), Column::text("", 10, 0)],
        rows,
    });
}
