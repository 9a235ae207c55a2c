//! `collect memory` for people: the host first, then who holds the memory, then what it means.

use super::TextReport;
use super::account;
use super::findings;
use super::lang::Group;
use super::lang::Word;
use super::lang::term;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::text::clock;
use super::units;
use super::units::size;
use super::width;
use crate::msg;
use crate::report::Report;
use crate::report::collect::CollectData;
use crate::report::collect::Percent;
use crate::report::collect::Point;
use crate::report::collect::ProcessRow;
use crate::report::collect::ProcessSummary;
use crate::report::collect::Stat;
use crate::report::processes::Limits;

/// Columns of a curve.
const CURVE: usize = 24;
/// Rows of the tables beside the processes.
const FEW: usize = 5;

impl TextReport for CollectData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        let ended = data.window.ended_at.as_deref();
        out.title(
            lang.pick("Memory over a window of time", "内存采集"),
            &clock(ended.unwrap_or(&report.generated_at)),
        );
        let host = format!("{}, Linux {}", report.host.hostname, report.host.kernel);
        out.pair(0, Word::Host.text(lang), &host);
        window(data, out);
        now(data, out);
        out.rule();
        system(data, out);
        out.rule();
        if data.groups.is_some() {
            groups(data, out);
        } else {
            processes(data, out);
        }
        changes(data, out);
        cgroups(&data.cgroups, out);
        regions(data, out);
        findings::write(&report.findings, out);
        if !data.notes.is_empty() {
            out.rule();
            out.heading("📝", Word::Notes.text(lang));
            for note in &data.notes {
                let note = crate::report::note(note);
                out.hang(2, 4, Paint::Warn, &format!("- {}", lang.of(&note)));
            }
        }
        out.rule();
        account::write(&report.accounting, out);
    }
}

/// A figure of a point.
type Get = fn(&Point) -> Option<u64>;

fn signed(kb: i64) -> String {
    let sign = if kb < 0 { "-" } else { "+" };
    format!("{sign}{}", units::size_kb(kb.unsigned_abs()))
}

fn window(data: &CollectData, out: &mut Out) {
    let window = &data.window;
    let lang = out.lang();
    let unknown = lang.unknown();
    let from = window
        .started_at
        .as_deref()
        .map_or(unknown.to_owned(), clock);
    let to = window.ended_at.as_deref().map_or(unknown.to_owned(), clock);
    let (samples, span) = (window.samples, units::span(window.seconds));
    let every = window.interval_s.map(units::span);
    let every = every.as_deref().unwrap_or(unknown);
    let text = match samples {
        0 => msg!("no sample", "没有采样"),
        1 => msg!("one sample, {to}", "一次采样，{to}"),
        _ => msg!(
            "{samples} samples in {span}, every {every} ({from} to {to})",
            "{span} 内 {samples} 次采样，间隔 {every}（{from} 至 {to}）"
        ),
    };
    let text = lang.of(&text).to_owned();
    out.pair(0, lang.pick("Window", "采集时段"), &text);
}

/// The answer in one line.
fn now(data: &CollectData, out: &mut Out) {
    let lang = out.lang();
    let Some(system) = &data.system else { return };
    let of = |kb: Option<u64>, total: Option<u64>| {
        let share = kb
            .zip(total)
            .and_then(|(kb, total)| units::share(kb, total));
        let share = share.map_or_else(String::new, |share| format!(" ({share})"));
        format!("{}{share}", size(kb, lang))
    };
    let metrics = &system.metrics;
    let total = size(metrics.mem_total_kb, lang);
    let used = of(system.mem_used_kb, metrics.mem_total_kb);
    let available = of(metrics.mem_available_kb, metrics.mem_total_kb);
    let mut text = lang
        .of(&msg!(
            "used {used} of {total}, available {available}",
            "共 {total}，已用 {used}，可用 {available}"
        ))
        .to_owned();
    text.push_str(&match metrics.swap_total_kb {
        Some(0) => lang.pick(", no swap", "，无 Swap").to_owned(),
        total => {
            let (used, all) = (of(system.swap_used_kb, total), size(total, lang));
            let swap = msg!(", swap {used} of {all}", "，Swap 已用 {used}，共 {all}");
            lang.of(&swap).to_owned()
        }
    });
    if system.used_formula == Some("total-free-buffers-cache") {
        text.push_str(lang.pick(
            " (this kernel tells no MemAvailable: used = total - free - buffers - cache)",
            "（此内核没有 MemAvailable：已用 = 总量 - 空闲 - 缓冲 - 缓存）",
        ));
    }
    out.pair(0, Word::Memory.text(lang), &text);
}

fn system(data: &CollectData, out: &mut Out) {
    let lang = out.lang();
    out.heading("📊", lang.pick("System", "系统"));
    let figures = &data.summary.system;
    let kb: [(&str, Option<Stat>, Option<Get>); 9] = [
        (
            lang.pick("Used", "已用"),
            figures.mem_used_kb,
            Some(|point| point.mem_used_kb),
        ),
        (
            lang.pick("Available", "可用"),
            figures.mem_available_kb,
            Some(|point| point.mem_available_kb),
        ),
        (lang.pick("Free", "空闲"), figures.mem_free_kb, None),
        (
            lang.pick("Buffers/cache", "缓冲/缓存"),
            figures.buff_cache_kb,
            None,
        ),
        (
            lang.pick("Swap used", "已用 Swap"),
            figures.swap_used_kb,
            Some(|point| point.swap_used_kb),
        ),
        (
            lang.pick("Anonymous", "匿名内存"),
            figures.anon_pages_kb,
            None,
        ),
        (
            lang.pick("Shared (tmpfs)", "共享 (tmpfs)"),
            figures.shmem_kb,
            None,
        ),
        (lang.pick("Slab", "Slab"), figures.slab_kb, None),
        (lang.pick("Dirty", "脏页"), figures.dirty_kb, None),
    ];
    let alone = data.window.samples < 2;
    let mut rows = Vec::new();
    // Least, mean, most, last.
    let mut add = |name: &str, [min, mean, max, last]: [String; 4], curve: String| {
        let cells = if alone {
            vec![
                name.to_owned(),
                String::new(),
                String::new(),
                String::new(),
                last,
                String::new(),
            ]
        } else {
            vec![name.to_owned(), min, mean, max, last, curve]
        };
        rows.push((Paint::Plain, cells));
    };
    for (name, stat, get) in kb {
        // Without swap there is nothing to tell of it.
        let Some(stat) = stat else { continue };
        let curve = get.map_or_else(String::new, |get| curve(&data.series, get, out.unicode()));
        let figures = [stat.min, whole(stat.mean), stat.max, stat.last];
        add(name, figures.map(units::size_kb), curve);
    }
    let percents = |stat: Percent| {
        [stat.min, stat.mean, stat.max, stat.last].map(|percent| format!("{percent:.2}%"))
    };
    if let Some(stat) = figures.psi_some_avg10 {
        let curve = curve(&data.series, |point| point.psi_some_avg10, out.unicode());
        add("PSI some avg10", percents(stat), curve);
    }
    if let Some(stat) = figures.psi_full_avg10 {
        add("PSI full avg10", percents(stat), String::new());
    }
    out.table(&Table {
        columns: vec![
            Column::text("", 8, 0),
            Column::figures(lang.pick("Min", "最小"), 2),
            Column::figures(lang.pick("Mean", "平均"), 1),
            Column::figures(lang.pick("Max", "最大"), 2),
            Column::figures(lang.pick("Last", "最后"), 0),
            Column::text(lang.pick("Course (from 0)", "变化（自 0 起）"), CURVE, 3),
        ],
        rows,
    });
    rates(data, out);
}

/// A mean of KiB, as whole KiB.
#[expect(clippy::cast_sign_loss, reason = "sizes are never below 0")]
fn whole(kb: f64) -> u64 {
    kb.max(0.0).round() as u64
}

fn curve(series: &[Point], get: Get, unicode: bool) -> String {
    let points: Vec<(f64, u64)> = series
        .iter()
        .filter_map(|point| Some((point.at_s, get(point)?)))
        .collect();
    units::sparkline(&points, CURVE, unicode).unwrap_or_default()
}

fn rates(data: &CollectData, out: &mut Out) {
    let lang = out.lang();
    let rates = &data.summary.rates;
    let mut parts = Vec::new();
    let speed = |kb: f64| format!("{}/s", units::size_kb(whole(kb)));
    if let (Some(into), Some(from)) = (rates.swap_in_kb_per_s, rates.swap_out_kb_per_s) {
        let (into, from) = (speed(into), speed(from));
        parts.push(msg!(
            "swap in {into}, out {from}",
            "换入 {into}，换出 {from}"
        ));
    }
    if let Some(faults) = rates.major_faults_per_s {
        parts.push(msg!("major faults {faults:.1}/s", "主缺页 {faults:.1}/s"));
    }
    if let Some(pages) = rates.reclaim_scanned_pages_per_s {
        parts.push(msg!(
            "reclaim scanned {pages:.0} pages/s",
            "回收扫描 {pages:.0} 页/s"
        ));
    }
    if let Some(some) = rates.psi_some_pct {
        parts.push(msg!(
            "stalled {some:.2}% of the time",
            "停顿时间 {some:.2}%"
        ));
    }
    if let Some(kills) = rates.oom_kills {
        parts.push(msg!("OOM kills {kills}", "OOM {kills} 次"));
    }
    if !parts.is_empty() {
        let texts: Vec<&str> = parts.iter().map(|part| lang.of(part)).collect();
        let text = texts.join(lang.pick(", ", "，"));
        out.pair(2, lang.pick("Over the window", "期间"), &text);
    }
}

/// One line where a table would be empty.
fn nobody(filtered: bool, out: &mut Out) {
    let lang = out.lang();
    let text = if filtered {
        lang.pick("No process matches the filter", "没有符合过滤条件的进程")
    } else {
        lang.pick("No process in the last sample", "最后一次采样中没有进程")
    };
    out.line(0, Paint::Warn, text);
}

fn processes(data: &CollectData, out: &mut Out) {
    let lang = out.lang();
    let total = data.processes.len();
    if total == 0 {
        let filtered = data.summary.processes.is_empty();
        return nobody(filtered, out);
    }
    out.heading(
        "📋",
        &format!(
            "{} ({total})",
            lang.pick("Largest processes", "内存占用最大的进程")
        ),
    );
    let known: std::collections::HashMap<(u32, u64), &ProcessSummary> = data
        .summary
        .processes
        .iter()
        .map(|one| ((one.pid, one.start), one))
        .collect();
    let alone = data.window.samples < 2;
    let row = |process: &ProcessRow| {
        let metrics = &process.metrics;
        let summary = known.get(&(process.pid, process.start));
        let rss = summary.and_then(|one| one.rss_kb).filter(|_| !alone);
        let growth = summary.and_then(|one| one.growth_kb).filter(|kb| *kb != 0);
        let new = summary.is_some_and(|one| one.appeared);
        let swap = metrics.swap_kb.filter(|kb| *kb > 0);
        let some = |kb: Option<u64>| kb.map_or_else(String::new, units::size_kb);
        vec![
            process.pid.to_string(),
            process.comm.clone(),
            process.user.clone().unwrap_or_default(),
            size(metrics.rss_kb, lang),
            some(metrics.pss_kb),
            some(swap),
            some(rss.map(|rss| rss.min)),
            some(rss.map(|rss| whole(rss.mean))),
            some(rss.map(|rss| rss.max)),
            growth.map_or_else(String::new, signed),
            if new { lang.pick("new", "新") } else { "" }.to_owned(),
        ]
    };
    let count = data.view.rows(total);
    let shown = data.processes.iter().take(count);
    out.table(&Table {
        columns: vec![
            Column::figures(Word::Pid.text(lang), 0),
            Column::text(Word::Name.text(lang), 8, 0),
            Column::text(Word::User.text(lang), 6, 6),
            Column::figures("RSS", 0),
            Column::figures("PSS", 1),
            Column::figures("Swap", 1),
            Column::figures(lang.pick("Min", "最小"), 4),
            Column::figures(lang.pick("Mean", "平均"), 5),
            Column::figures(lang.pick("Max", "最大"), 3),
            Column::figures(lang.pick("Change", "变化"), 0),
            Column::text("", 2, 2),
        ],
        rows: shown.map(|process| (Paint::Plain, row(process))).collect(),
    });
    more(total, count, out);
}

fn more(total: usize, shown: usize, out: &mut Out) {
    let rest = total.saturating_sub(shown);
    if rest > 0 {
        let text = msg!(
            "… {rest} more: --top 0 shows all, -o json has all",
            "… 另有 {rest} 项：用 --top 0 显示全部，-o json 含全部"
        );
        out.line(2, Paint::Dim, out.lang().of(&text));
    }
}

fn groups(data: &CollectData, out: &mut Out) {
    let lang = out.lang();
    let Some(groups) = &data.groups else { return };
    if groups.is_empty() {
        return nobody(data.summary.processes.is_empty(), out);
    }
    let by = data.by;
    out.heading(
        "📋",
        &format!(
            "{} {by} ({})",
            lang.pick("Processes by", "进程分组："),
            groups.len()
        ),
    );
    let alone = data.window.samples < 2;
    let count = data.view.rows(groups.len());
    let room = width::room(out.inner());
    let rows = groups.iter().take(count).map(|group| {
        let some = |kb: Option<u64>| kb.map_or_else(String::new, units::size_kb);
        let rss = group.rss_summary.filter(|_| !alone);
        let name = group.who.name.clone();
        let limits = group.who.limits.as_ref();
        let kb = |get: fn(&Limits) -> Option<u64>| some(limits.and_then(get));
        let counted = |get: fn(&Limits) -> Option<u64>| {
            let count = limits.and_then(get).filter(|count| *count > 0);
            count.map_or_else(String::new, |count| count.to_string())
        };
        let name = name.unwrap_or_else(|| lang.pick("(none)", "（无）").to_owned());
        let cells = vec![
            width::middle(&name, room, out.ellipsis()),
            group.who.processes.to_string(),
            size(group.metrics.rss_kb, lang),
            some(group.metrics.pss_kb),
            some(group.metrics.swap_kb.filter(|kb| *kb > 0)),
            some(rss.map(|rss| rss.min)),
            some(rss.map(|rss| whole(rss.mean))),
            some(rss.map(|rss| rss.max)),
            group
                .growth_kb
                .filter(|kb| *kb != 0)
                .map_or_else(String::new, signed),
            kb(|limits| limits.usage_kb),
            kb(|limits| limits.limit_kb),
            kb(|limits| limits.high_kb),
            counted(|limits| limits.high_events),
            counted(|limits| limits.oom_kill),
        ];
        (Paint::Plain, cells)
    });
    out.table(&Table {
        columns: vec![
            Column::text(lang.pick("Group", "分组"), room, 0),
            Column::figures(lang.pick("Count", "进程数"), 1),
            Column::figures("RSS", 0),
            Column::figures("PSS", 1),
            Column::figures("Swap", 1),
            Column::figures(lang.pick("Min", "最小"), 4),
            Column::figures(lang.pick("Mean", "平均"), 5),
            Column::figures(lang.pick("Max", "最大"), 3),
            Column::figures(lang.pick("Change", "变化"), 0),
            Column::figures(lang.pick("Cgroup use", "Cgroup 用量"), 3),
            Column::figures(Word::Limit.text(lang), 2),
            Column::figures("memory.high", 6),
            Column::figures(lang.pick("Throttled", "限速次数"), 7),
            Column::figures(lang.pick("OOM kills", "OOM 次数"), 2),
        ],
        rows: rows.collect(),
    });
    more(groups.len(), count, out);
}

/// Who grew most, and who came and went.
fn changes(data: &CollectData, out: &mut Out) {
    let lang = out.lang();
    let summary = &data.summary;
    if data.window.samples < 2 {
        return;
    }
    let mut grown: Vec<(&ProcessSummary, i64)> = summary
        .processes
        .iter()
        .filter_map(|one| Some((one, one.growth_kb.filter(|kb| *kb >= 1024)?)))
        .collect();
    grown.sort_by_key(|(_, growth)| std::cmp::Reverse(*growth));
    if !grown.is_empty() {
        out.blank();
        out.heading(
            "📈",
            lang.pick("Grew most (RSS + swap)", "增长最多（RSS + Swap）"),
        );
    }
    for (process, growth) in grown.iter().take(FEW) {
        let (comm, pid, growth) = (&process.comm, process.pid, signed(*growth));
        let span = units::span(process.seconds);
        let mut text = lang
            .of(&msg!(
                "{comm} ({pid}) {growth} in {span}",
                "{comm} ({pid}) {span} 内 {growth}"
            ))
            .to_owned();
        if let Some(hourly) = process.growth_kb_per_hour {
            let hourly = units::size_kb(whole(hourly));
            let per_hour = msg!(", {hourly} an hour at this pace", "，折合每小时 {hourly}");
            text.push_str(lang.of(&per_hour));
        }
        if process.ended {
            text.push_str(lang.pick(", ended since", "，已结束"));
        }
        out.hang(2, 4, Paint::Plain, &format!("- {text}"));
    }
    if summary.appeared + summary.ended > 0 {
        let (new, gone) = (summary.appeared, summary.ended);
        let text = match new {
            1 => msg!(
                "1 process began, {gone} ended",
                "新出现 1 个进程，结束 {gone} 个"
            ),
            _ => msg!(
                "{new} processes began, {gone} ended",
                "新出现 {new} 个进程，结束 {gone} 个"
            ),
        };
        let mut text = lang.of(&text).to_owned();
        if let Some(largest) = summary.processes.iter().find(|one| one.ended)
            && let Some(rss) = largest.rss_kb
        {
            let (comm, pid, most) = (&largest.comm, largest.pid, units::size_kb(rss.max));
            let largest = msg!(
                "; the largest that ended: {comm} ({pid}), {most}",
                "；其中最大的是 {comm} ({pid})，{most}"
            );
            text.push_str(lang.of(&largest));
        }
        out.hang(2, 4, Paint::Dim, &text);
    }
}

fn cgroups(cgroups: &[Limits], out: &mut Out) {
    let lang = out.lang();
    let room = width::room(out.inner());
    let limited = cgroups.iter().filter(|one| one.limit_kb.is_some());
    let rows: Vec<_> = limited
        .take(FEW)
        .map(|one| {
            let share = one.usage_kb.zip(one.limit_kb);
            let share = share.and_then(|(usage, limit)| units::share(usage, limit));
            let count = |count: Option<u64>| {
                let count = count.filter(|count| *count > 0);
                count.map_or_else(String::new, |count| count.to_string())
            };
            let cells = vec![
                width::middle(&one.path, room, out.ellipsis()),
                size(one.usage_kb, lang),
                size(one.limit_kb, lang),
                share.unwrap_or_default(),
                count(one.failcnt),
                count(one.oom_kill),
            ];
            (Paint::Plain, cells)
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    out.blank();
    out.heading(
        "📦",
        lang.pick("Fullest memory cgroups", "最接近限额的内存 Cgroup"),
    );
    out.table(&Table {
        columns: vec![
            Column::text(Word::Cgroup.text(lang), room, 0),
            Column::figures(lang.pick("Used", "已用"), 1),
            Column::figures(Word::Limit.text(lang), 1),
            Column::figures(lang.pick("Share", "占比"), 0),
            Column::figures(lang.pick("Limit hit", "触限次数"), 3),
            Column::figures(lang.pick("OOM kills", "OOM 次数"), 2),
        ],
        rows,
    });
}

fn regions(data: &CollectData, out: &mut Out) {
    let lang = out.lang();
    let Some(regions) = &data.regions else { return };
    out.blank();
    let (read, all) = (data.regions_processes.unwrap_or(0), data.processes.len());
    let title = msg!(
        "Mappings by kind, of {read} of {all} processes",
        "内存映射（按类型，{all} 个进程中的 {read} 个）"
    );
    out.heading("🧩", lang.of(&title));
    if let Some(took) = data.regions_s.map(units::span) {
        let text = msg!(
            "read once with the last sample, outside of --budget: {took}",
            "随最后一次采样读取一次，不受 --budget 限制：耗时 {took}"
        );
        out.line(2, Paint::Dim, lang.of(&text));
    }
    if regions.is_empty() {
        out.line(
            2,
            Paint::Warn,
            lang.pick("none could be read", "均无法读取"),
        );
        return;
    }
    let rows = regions.iter().map(|region| {
        let metrics = &region.metrics;
        let cells = vec![
            term(Group::Region, region.kind, lang).into_owned(),
            region.mappings.to_string(),
            size(metrics.rss_kb, lang),
            size(metrics.pss_kb, lang),
            size(metrics.swap_kb, lang),
        ];
        (Paint::Plain, cells)
    });
    out.table(&Table {
        columns: vec![
            Column {
                least: None,
                ..Column::text(lang.pick("Kind", "类型"), 10, 0)
            },
            Column::figures(lang.pick("Mappings", "映射数"), 2),
            Column::figures("RSS", 1),
            Column::figures("PSS", 0),
            Column::figures("Swap", 1),
        ],
        rows: rows.collect(),
    });
}
