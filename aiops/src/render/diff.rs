//! `diff memory` for people: what grew by how much and who it was; then the tables.

use super::TextReport;
use super::account;
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
use crate::msg;
use crate::report::Report;
use crate::report::diff::Change;
use crate::report::diff::DiffData;
use crate::report::diff::Metric;
use crate::report::diff::ProcessChange;
use crate::report::diff::RegionChange;
use crate::report::diff::Snapshot;
use crate::report::diff::Status;
use crate::report::plural;
use crate::report::shown;

/// Most rows of the lists beside processes.
const ROWS: usize = 8;
/// Changes below this are left out of the small tables.
const NOISE_KB: u64 = 64;
/// Least time from which rates are shown; JSON has them from a second on.
const TELLING_SECONDS: f64 = 60.0;

/// The host's figures that are shown, with their names.
const SHOWN: [(&str, &str, &str); 13] = [
    ("mem_used_kb", "used", "已用"),
    ("mem_available_kb", "available", "可用"),
    ("mem_free_kb", "free", "空闲"),
    ("buff_cache_kb", "buff/cache", "缓冲/缓存"),
    ("anon_pages_kb", "anonymous", "匿名页"),
    ("shmem_kb", "shared memory", "共享内存"),
    ("sreclaimable_kb", "slab, reclaimable", "slab（可回收）"),
    ("sunreclaim_kb", "slab, not reclaimable", "slab（不可回收）"),
    ("page_tables_kb", "page tables", "页表"),
    ("kernel_stack_kb", "kernel stacks", "内核栈"),
    ("dirty_kb", "dirty", "脏页"),
    ("swap_used_kb", "swap used", "Swap 已用"),
    ("committed_as_kb", "committed", "已承诺"),
];

impl TextReport for DiffData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        let title = lang.pick("Memory comparison", "内存对比分析");
        out.title(title, &super::text::clock(&report.generated_at));
        answer(data, out);
        out.pair(0, "A", &moment(&data.snapshots.first, lang));
        out.pair(0, "B", &moment(&data.snapshots.second, lang));
        out.rule();
        system(data, out);
        processes(data, out);
        regions(data, out);
        cgroups(data, out);
        slab(data, out);
        swap_devices(data, out);
        settings(data, out);
        findings::write(&report.findings, out);
        out.rule();
        account::write(&report.accounting, out);
    }
}

/// Rows of a list beside processes: few, unless all are asked for.
fn few(data: &DiffData, len: usize) -> usize {
    match data.view.top {
        0 => len,
        top => top.min(ROWS),
    }
}

/// A size with its sign.
fn signed(delta: Option<i64>, lang: Lang) -> String {
    let Some(delta) = delta else {
        return lang.unknown().to_owned();
    };
    let size = units::size_kb(delta.unsigned_abs());
    match delta.signum() {
        0 => "0".to_owned(),
        1 => format!("+{size}"),
        _ => format!("−{size}"),
    }
}

/// Per hour; a moment of growth says nothing about an hour.
fn rate(kb_per_hour: Option<f64>, data: &DiffData, lang: Lang) -> String {
    let kb_per_hour = kb_per_hour.filter(|_| data.elapsed_s >= Some(TELLING_SECONDS));
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a rate beyond i64 saturates"
    )]
    let whole = kb_per_hour.map(|rate| rate.round() as i64);
    whole.map_or_else(String::new, |_| signed(whole, lang))
}

/// The answer in one or two lines.
fn answer(data: &DiffData, out: &mut Out) {
    let lang = out.lang();
    let used = data.system.iter().find(|metric| metric.id == "mem_used_kb");
    let used = signed(used.and_then(|metric| metric.change.delta), lang);
    let span = data.elapsed_s.map_or_else(
        || lang.unknown().to_owned(),
        |seconds| units::span(seconds.abs()),
    );
    let counts = data.counts;
    let first = msg!("used {used} in {span}", "{span} 内已用内存 {used}");
    let first = if data.elapsed_s < Some(0.0) {
        msg!(
            "used {used} ({span} back: A is the later one)",
            "已用内存 {used}（时间倒退 {span}：A 更晚）"
        )
    } else {
        first
    };
    let mut grown: Vec<&ProcessChange> = data
        .processes
        .iter()
        .filter(|one| one.share_pct.is_some())
        .collect();
    grown.sort_by_key(|one| (std::cmp::Reverse(one.growth_kb), one.pid));
    let mut text = lang.of(&first).to_owned();
    if let Some(one) = grown.first() {
        let (name, growth) = (&one.comm, signed(one.growth_kb, lang));
        let share = one.share_pct.unwrap_or(0.0);
        let most = msg!(
            "; {name} {growth} is {share:.0}% of what processes grew by",
            "；{name} {growth}，占进程增长量的 {share:.0}%"
        );
        text.push_str(lang.of(&most));
    }
    let (new, gone, restarted) = (counts.new, counts.gone, counts.restarted);
    let moved = if data.all_processes {
        msg!(
            "; {new} new, {gone} gone, {restarted} restarted",
            "；新增 {new} 个，消失 {gone} 个，重启 {restarted} 个"
        )
    } else {
        msg!(
            "; one of the two holds only some processes: who is new or gone is not known",
            "；其中一个快照只含部分进程：无法判断新增与消失"
        )
    };
    text.push_str(lang.of(&moved));
    out.hang(0, 2, Paint::Bold, &text);
}

fn moment(snapshot: &Snapshot, lang: Lang) -> String {
    let unknown = || lang.unknown().to_owned();
    let at = snapshot
        .at
        .as_deref()
        .map_or_else(unknown, super::text::clock);
    let host = snapshot.host.clone().unwrap_or_else(unknown);
    let (file, samples, processes) = (&snapshot.file, snapshot.samples, snapshot.processes);
    match lang {
        Lang::En => {
            let (s, es) = (plural(samples), if processes == 1 { "" } else { "es" });
            format!("{at}  {host}  {file} ({samples} sample{s}, {processes} process{es})")
        }
        Lang::Zh => format!("{at}  {host}  {file}（{samples} 个样本，{processes} 个进程）"),
    }
}

fn paint(delta: Option<i64>) -> Paint {
    match delta {
        Some(delta) if delta >= 64 << 10 => Paint::Warn,
        _ => Paint::Plain,
    }
}

fn change_columns(lang: Lang) -> [Column; 3] {
    [
        Column::figures("A", 2),
        Column::figures("B", 1),
        Column::figures(lang.pick("Change", "变化"), 0),
    ]
}

fn cells(change: Change, lang: Lang) -> [String; 3] {
    [
        size(change.from, lang),
        size(change.to, lang),
        signed(change.delta, lang),
    ]
}

fn system(data: &DiffData, out: &mut Out) {
    let lang = out.lang();
    out.heading("📊", lang.pick("System", "系统"));
    let find = |id: &str| data.system.iter().find(|metric| metric.id == id);
    let row = |(id, en, zh): &(&str, &str, &str)| {
        let metric: &Metric = find(id)?;
        let change = metric.change;
        // Small figures that did not move say nothing; the first four always stand.
        let always = SHOWN.iter().take(4).any(|(shown, _, _)| shown == id);
        if !always
            && change
                .delta
                .is_some_and(|delta| delta.unsigned_abs() < NOISE_KB)
        {
            return None;
        }
        let mut row = vec![lang.pick(en, zh).to_owned()];
        row.extend(cells(change, lang));
        row.push(rate(metric.rate_per_hour, data, lang));
        Some((Paint::Plain, row))
    };
    let mut columns = vec![Column::text(lang.pick("Figure", "指标"), 8, 0)];
    columns.extend(change_columns(lang));
    columns.push(Column::figures(lang.pick("Per hour", "每小时"), 3));
    out.table(&Table {
        columns,
        rows: SHOWN.iter().filter_map(row).collect(),
    });
}

fn status(one: &ProcessChange, lang: Lang) -> &'static str {
    match one.status {
        Status::Same => "",
        Status::Restarted => lang.pick("restarted", "重启"),
        Status::New => lang.pick("new", "新增"),
        Status::Gone => lang.pick("gone", "消失"),
    }
}

fn processes(data: &DiffData, out: &mut Out) {
    let lang = out.lang();
    let changed = data
        .processes
        .iter()
        .filter(|one| one.growth_kb.is_none_or(|growth| growth != 0) || one.status != Status::Same);
    let total = changed.clone().count();
    out.heading(
        "📋",
        &format!(
            "{} ({total})",
            lang.pick("Processes that changed", "有变化的进程")
        ),
    );
    let pss = data.processes.iter().any(|one| one.pss_kb.delta.is_some());
    let rows = changed.take(shown(data.view.top, total)).map(|one| {
        let mut row = vec![
            one.pid.to_string(),
            one.comm.clone(),
            status(one, lang).to_owned(),
        ];
        row.extend(cells(one.rss_kb, lang));
        row.push(if pss {
            signed(one.pss_kb.delta, lang)
        } else {
            String::new()
        });
        row.push(match one.swap_kb.delta {
            Some(0) | None => String::new(),
            delta => signed(delta, lang),
        });
        row.push(
            one.share_pct
                .map_or_else(String::new, |share| format!("{share:.1}%")),
        );
        row.push(rate(one.rate_kb_per_hour, data, lang));
        row.push(one.cgroup.clone().unwrap_or_default());
        (paint(one.growth_kb), row)
    });
    let rows: Vec<_> = rows.collect();
    let listed = rows.len();
    if total == 0 {
        let text = lang.pick("none", "无");
        out.line(2, Paint::Dim, text);
        return;
    }
    out.table(&Table {
        columns: vec![
            Column::figures("PID", 0),
            Column::text(lang.pick("Name", "进程名"), 8, 0),
            Column::text(lang.pick("State", "状态"), 4, 0),
            Column::figures("RSS A", 3),
            Column::figures("RSS B", 2),
            Column::figures(lang.pick("Change", "变化"), 0),
            Column::figures("PSS", 4),
            Column::figures("Swap", 1),
            Column::figures(lang.pick("Share", "占增长"), 1),
            Column::figures(lang.pick("Per hour", "每小时"), 5),
            Column::text("Cgroup", 8, 6),
        ],
        rows,
    });
    if total > listed {
        let more = total - listed;
        let text = msg!(
            "… {more} more: --top 0, or -o json for all",
            "……另有 {more} 个：用 --top 0，或 -o json 查看全部"
        );
        out.line(2, Paint::Dim, lang.of(&text));
    }
}

fn regions(data: &DiffData, out: &mut Out) {
    let lang = out.lang();
    let (Some(kinds), Some(processes)) = (&data.regions, &data.process_regions) else {
        if data.regions_in_one {
            let text = lang.pick(
                "Mappings are in one of the two only: take both snapshots with --smaps",
                "只有一个快照含内存映射：两次都需使用 --smaps",
            );
            out.line(2, Paint::Dim, text);
        }
        return;
    };
    let moves = |row: &&RegionChange| {
        let delta = |change: Change| change.delta.map_or(0, i64::unsigned_abs);
        delta(row.rss_kb).max(delta(row.swap_kb)) >= NOISE_KB
    };
    let mut change: Vec<Column> = change_columns(lang).into();
    change.push(Column::figures("PSS", 3));
    change.push(Column::figures("Swap", 3));
    let figures = |row: &RegionChange| {
        let mut figures: Vec<String> = cells(row.rss_kb, lang).into();
        figures.push(signed(row.pss_kb.delta, lang));
        figures.push(signed(row.swap_kb.delta, lang));
        figures
    };
    let rows = kinds.iter().filter(moves).take(ROWS).map(|row| {
        let mut cells = vec![term(Group::Region, row.kind.id(), lang).into_owned()];
        cells.extend(figures(row));
        (paint(row.rss_kb.delta), cells)
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        out.heading(
            "🧩",
            lang.pick("By kind of region (RSS)", "按区域类型（RSS）"),
        );
        let mut columns = vec![Column::text(lang.pick("Kind", "类型"), 8, 0)];
        columns.extend(change.iter().cloned());
        out.table(&Table { columns, rows });
    }
    let most = few(data, processes.len());
    let rows = processes.iter().filter(moves).take(most).map(|row| {
        let mut cells = vec![
            row.pid.map_or_else(String::new, |pid| pid.to_string()),
            row.comm.clone().unwrap_or_default(),
            term(Group::Region, row.kind.id(), lang).into_owned(),
            row.path.clone().unwrap_or_default(),
        ];
        cells.extend(figures(row));
        (paint(row.rss_kb.delta), cells)
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        out.heading(
            "🔥",
            lang.pick("Hot regions: what changed most", "内存热区变化"),
        );
        let mut columns = vec![
            Column::figures("PID", 0),
            Column::text(lang.pick("Name", "进程名"), 8, 0),
            Column::text(lang.pick("Kind", "类型"), 6, 0),
            Column::text(lang.pick("File", "文件"), 8, 4),
        ];
        columns.extend(change);
        out.table(&Table { columns, rows });
    }
}

fn cgroups(data: &DiffData, out: &mut Out) {
    let lang = out.lang();
    let moves = |delta: Option<i64>| delta.is_some_and(|delta| delta.unsigned_abs() >= NOISE_KB);
    let changed = data.cgroups.iter().filter(|one| {
        moves(one.usage_kb.delta) || matches!(one.status, Some(Status::New | Status::Gone))
    });
    let rows = changed.take(few(data, data.cgroups.len())).map(|one| {
        let state = match one.status {
            Some(Status::Same) => "",
            Some(Status::Restarted) => lang.pick("made again", "重建"),
            Some(Status::New) => lang.pick("new", "新增"),
            Some(Status::Gone) => lang.pick("gone", "消失"),
            None => lang.pick("not sampled", "未采样"),
        };
        let mut row = vec![one.path.clone(), state.to_owned()];
        row.extend(cells(one.usage_kb, lang));
        row.push(signed(one.anon_kb.delta, lang));
        row.push(signed(one.file_kb.delta, lang));
        row.push(one.limit_kb.to.map_or_else(String::new, units::size_kb));
        let kills = one.oom_kill.delta.filter(|kills| *kills > 0);
        row.push(kills.map_or_else(String::new, |kills| format!("+{kills}")));
        (Paint::Plain, row)
    });
    let rows: Vec<_> = rows.collect();
    let unsure = data.cgroups.iter().filter(|one| one.status.is_none());
    let unsure = unsure.count();
    if rows.is_empty() && unsure == 0 {
        return;
    }
    out.heading("📦", "Cgroup");
    if unsure > 0 {
        let text = msg!(
            "not sampled in one of the two: {unsure} (it did not take every cgroup: new or gone is not known)",
            "其中一个快照未采样：{unsure} 个（该快照未包含全部 cgroup，无法判断新增或消失）"
        );
        out.hang(2, 4, Paint::Dim, lang.of(&text));
    }
    if rows.is_empty() {
        return;
    }
    let mut columns = vec![
        Column::text(lang.pick("Path", "路径"), 12, 0),
        Column::text(lang.pick("State", "状态"), 4, 0),
    ];
    columns.extend(change_columns(lang));
    columns.push(Column::figures(lang.pick("Anon", "匿名"), 4));
    columns.push(Column::figures(lang.pick("Cache", "缓存"), 4));
    columns.push(Column::figures(lang.pick("Limit", "限额"), 3));
    columns.push(Column::figures("OOM", 0));
    out.table(&Table { columns, rows });
}

fn slab(data: &DiffData, out: &mut Out) {
    let lang = out.lang();
    let caches = data.slab.iter().flatten();
    let moved = caches.filter(|one| {
        one.size_kb
            .delta
            .is_some_and(|delta| delta.unsigned_abs() >= NOISE_KB)
    });
    let rows: Vec<_> = moved
        .take(few(data, usize::MAX))
        .map(|one| {
            let mut row = vec![one.name.clone()];
            row.extend(cells(one.size_kb, lang));
            row.push(
                one.active_objects
                    .delta
                    .map_or_else(String::new, |delta| format!("{delta:+}")),
            );
            (Paint::Plain, row)
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    out.heading("🧱", lang.pick("Slab caches", "slab 缓存"));
    let mut columns = vec![Column::text(lang.pick("Name", "名称"), 8, 0)];
    columns.extend(change_columns(lang));
    columns.push(Column::figures(lang.pick("Objects", "对象数"), 3));
    out.table(&Table { columns, rows });
}

fn swap_devices(data: &DiffData, out: &mut Out) {
    let lang = out.lang();
    let devices = data.swap_devices.iter().flatten();
    let moved = devices.filter(|one| one.used_kb.delta != Some(0) || one.size_kb.delta != Some(0));
    let rows: Vec<_> = moved
        .map(|one| {
            let mut row = vec![one.path.clone()];
            row.extend(cells(one.used_kb, lang));
            row.push(size(one.size_kb.to, lang));
            (Paint::Plain, row)
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    out.heading(
        "💾",
        lang.pick("Swap devices (in use)", "Swap 设备（已用）"),
    );
    let mut columns = vec![Column::text(lang.pick("Device", "设备"), 8, 0)];
    columns.extend(change_columns(lang));
    columns.push(Column::figures(lang.pick("Size", "容量"), 3));
    out.table(&Table { columns, rows });
}

fn settings(data: &DiffData, out: &mut Out) {
    let lang = out.lang();
    if data.settings.is_empty() {
        return;
    }
    out.heading("🔧", lang.pick("Settings that changed", "有变化的设置"));
    for one in &data.settings {
        let text =
            |value: &Option<String>| value.clone().unwrap_or_else(|| lang.unknown().to_owned());
        let value = format!("{} → {}", text(&one.from), text(&one.to));
        out.pair(2, &one.name, &value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::testing::text_of;
    use crate::report::diff::DiffView;

    fn grown(seconds: f64) -> DiffData {
        let process = ProcessChange {
            pid: 42,
            comm: "java".to_owned(),
            rss_kb: Change::new(Some(100 << 10), Some(1000 << 10)),
            growth_kb: Some(900 << 10),
            share_pct: Some(73.0),
            rate_kb_per_hour: Some(300.0 * 1024.0),
            ..ProcessChange::default()
        };
        DiffData {
            elapsed_s: Some(seconds),
            system: vec![Metric {
                id: "mem_used_kb",
                kind: "gauge",
                change: Change::new(Some(1 << 20), Some(2 << 20)),
                rate_per_hour: None,
            }],
            processes: vec![process],
            all_processes: true,
            view: DiffView { top: 5 },
            ..DiffData::default()
        }
    }

    #[test]
    fn the_answer_stands_first_in_both_languages_and_every_line_fits() {
        for width in [40, 80, 100] {
            text_of(grown(11_220.0), Lang::En, width);
            text_of(grown(11_220.0), Lang::Zh, width);
        }
        let text = text_of(grown(11_220.0), Lang::En, 100);
        let answer = "used +1 GiB in 3h 07m; java +900 MiB is 73% of what processes grew by; 0 new";
        assert!(text.contains(answer), "{text}");
        assert!(text.contains("+300 MiB"), "{text}");
        let text = text_of(grown(11_220.0), Lang::Zh, 100);
        assert!(
            text.contains("3h 07m 内已用内存 +1 GiB；java +900 MiB，占进程增长量的 73%"),
            "{text}"
        );
        // A few seconds tell nothing about an hour.
        assert!(!text_of(grown(5.0), Lang::En, 100).contains("+300 MiB"));
    }

    #[test]
    fn sizes_have_their_sign() {
        assert_eq!(signed(Some(1024), Lang::En), "+1 MiB");
        assert_eq!(signed(Some(-1024), Lang::En), "−1 MiB");
        assert_eq!(signed(Some(0), Lang::En), "0");
        assert_eq!(signed(None, Lang::En), "–");
        assert_eq!(signed(Some(i64::MIN), Lang::En), "−8589934592 TiB");
    }
}
