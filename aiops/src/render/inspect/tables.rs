//! The lists: kinds, modules, mappings, processes, changes.

use super::super::lang::Group;
use super::super::lang::term;
use super::mappings as count;
use super::signed;
use super::size;
use super::sums;
use crate::msg;
use crate::render::text::Column;
use crate::render::text::Out;
use crate::render::text::Paint;
use crate::render::text::Table;
use crate::render::text::clock;
use crate::render::units;
use crate::render::width;
use crate::report::inspect::Change;
use crate::report::inspect::InspectData;
use crate::report::inspect::Reading;

/// Columns of a bar.
const BAR: u64 = 10;

/// A bar of `part` in `whole`.
fn bar(part: u64, whole: u64, unicode: bool) -> String {
    if whole == 0 || part == 0 {
        return String::new();
    }
    let eighths = u128::from(part) * u128::from(BAR * 8) / u128::from(whole);
    let eighths = usize::try_from(eighths).unwrap_or(0).clamp(1, 80);
    if !unicode {
        return "#".repeat((eighths / 8).max(1));
    }
    let rest = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((eighths % 8).checked_sub(1).and_then(|at| rest.get(at)));
    bar
}

/// A column of kinds: a word that is cut is another kind's as well.
fn kind_column(out: &Out, drop: u8) -> Column {
    Column {
        least: None,
        ..Column::text(out.lang().pick("Kind", "类型"), 0, drop)
    }
}

fn shown(top: usize) -> usize {
    if top == 0 { usize::MAX } else { top }
}

/// Says how many rows there are beyond those shown.
fn rest(all: usize, top: usize, out: &mut Out) {
    if let Some(more) = all.checked_sub(shown(top)).filter(|more| *more > 0) {
        let text = msg!(
            "… and {more} more (--top 0: all; JSON is whole)",
            "… 另有 {more} 行（--top 0 显示全部；JSON 完整）"
        );
        let text = out.lang().of(&text).to_owned();
        out.line(2, Paint::Dim, &text);
    }
}

pub(super) fn kinds(data: &InspectData, out: &mut Out) {
    let lang = out.lang();
    let whole = &data.totals.metrics;
    let whole = whole.pss_kb.or(whole.rss_kb).unwrap_or(0);
    let mut table = Table {
        columns: vec![
            kind_column(out, 0),
            Column::text("", 4, 5),
            Column::figures(lang.pick("Share", "占比"), 4),
            Column::figures("PSS", 0),
            Column::figures("RSS", 0),
            Column::figures(lang.pick("Private", "独占"), 2),
            Column::figures("Swap", 0),
            Column::figures(lang.pick("Size", "地址空间"), 3),
            Column::figures(lang.pick("Maps", "映射数"), 1),
        ],
        rows: Vec::new(),
    };
    for row in &data.by_kind {
        let metrics = &row.figures.metrics;
        let part = metrics.pss_kb.or(metrics.rss_kb);
        let huge = [metrics.private_hugetlb_kb, metrics.shared_hugetlb_kb];
        let huge: u64 = huge.into_iter().flatten().fold(0, u64::saturating_add);
        // hugetlb pages are no part of RSS: what is held is told in its place.
        let rss = if huge > 0 {
            format!("({})", units::size_kb(huge))
        } else {
            size(metrics.rss_kb, lang)
        };
        table.rows.push((
            Paint::Plain,
            vec![
                term(Group::Region, row.kind.id(), lang).into_owned(),
                bar(part.unwrap_or(0), whole, out.unicode()),
                part.and_then(|part| units::share(part, whole))
                    .unwrap_or_default(),
                size(metrics.pss_kb, lang),
                rss,
                size(row.figures.private_kb, lang),
                size(metrics.swap_kb, lang),
                size(metrics.size_kb, lang),
                row.mappings.to_string(),
            ],
        ));
    }
    out.heading("🧩", lang.pick("By kind", "按类型"));
    out.table(&table);
}

pub(super) fn modules(data: &InspectData, out: &mut Out) {
    let lang = out.lang();
    let room = width::room(out.inner());
    let mut table = Table {
        columns: vec![
            Column::text(lang.pick("File or name", "文件或名称"), room, 0),
            kind_column(out, 3),
            Column::figures("PSS", 0),
            Column::figures("RSS", 0),
            Column::figures(lang.pick("Private", "独占"), 2),
            Column::figures("Swap", 1),
            Column::figures(lang.pick("Code", "代码"), 4),
            Column::figures(lang.pick("Data", "数据"), 4),
            Column::figures(lang.pick("Maps", "映射数"), 5),
        ],
        rows: Vec::new(),
    };
    for row in data.modules.iter().take(shown(data.view.top)) {
        let metrics = &row.figures.metrics;
        let mark = if row.deleted {
            lang.pick(" (deleted)", "（已删除）")
        } else {
            ""
        };
        table.rows.push((
            if row.deleted {
                Paint::Warn
            } else {
                Paint::Plain
            },
            vec![
                width::middle(&format!("{}{mark}", row.path), room, out.ellipsis()),
                term(Group::Region, row.kind.id(), lang).into_owned(),
                size(metrics.pss_kb, lang),
                size(metrics.rss_kb, lang),
                size(row.figures.private_kb, lang),
                size(metrics.swap_kb, lang),
                size(row.text_kb, lang),
                size(row.data_kb, lang),
                row.mappings.to_string(),
            ],
        ));
    }
    out.heading("📚", lang.pick("Libraries and modules", "库与模块"));
    out.table(&table);
    rest(data.modules.len(), data.view.top, out);
}

pub(super) fn mappings(data: &InspectData, out: &mut Out) {
    let lang = out.lang();
    out.heading("📍", lang.pick("Mappings", "映射"));
    let rows = data.mappings.iter().take(shown(data.view.top));
    let several = data.processes.len() > 1;
    if data.view.detail {
        for row in rows {
            let (path, deleted) = row.name();
            let (start, end) = row.range();
            let pid = several.then(|| format!("{} ", row.pid));
            let mark = if deleted {
                lang.pick(" (deleted)", "（已删除）")
            } else {
                ""
            };
            let text = format!(
                "{}{start}-{end} {} {} {path}{mark}",
                pid.unwrap_or_default(),
                row.sample.perms,
                term(Group::Region, row.sample.kind.id(), lang).into_owned()
            );
            out.hang(2, 4, Paint::Bold, text.trim_end());
            let figures: Vec<String> = row
                .figures()
                .iter()
                .map(|(name, kb)| {
                    let name = name.strip_suffix("_kb").unwrap_or(name);
                    format!("{name} {}", units::size_kb(*kb))
                })
                .collect();
            out.line(4, Paint::Plain, &figures.join(", "));
            if !row.sample.vm_flags.is_empty() {
                let flags = row.sample.vm_flags.join(" ");
                out.line(4, Paint::Dim, &format!("VmFlags: {flags}"));
            }
        }
    } else {
        let room = width::room(out.inner());
        let mut table = Table {
            columns: vec![
                Column::figures("PID", 0),
                Column::text(lang.pick("Address", "地址"), 12, 0),
                Column::text(lang.pick("Perm", "权限"), 4, 0),
                kind_column(out, 4),
                Column::figures(lang.pick("Size", "大小"), 3),
                Column::figures("RSS", 0),
                Column::figures("PSS", 0),
                Column::figures("Swap", 1),
                Column::figures(lang.pick("Dirty", "脏页"), 5),
                Column::text(lang.pick("File or name", "文件或名称"), room, 0),
            ],
            rows: Vec::new(),
        };
        for row in rows {
            let metrics = &row.sample.metrics;
            let (path, deleted) = row.name();
            let mark = if deleted {
                lang.pick(" (deleted)", "（已删除）")
            } else {
                ""
            };
            let none = lang.pick("[anonymous]", "[匿名]").to_owned();
            let path = if path.is_empty() { none } else { path };
            table.rows.push((
                Paint::Plain,
                vec![
                    if several {
                        row.pid.to_string()
                    } else {
                        String::new()
                    },
                    row.range().0,
                    row.sample.perms.clone(),
                    term(Group::Region, row.sample.kind.id(), lang).into_owned(),
                    size(metrics.size_kb, lang),
                    size(metrics.rss_kb, lang),
                    size(metrics.pss_kb, lang),
                    size(metrics.swap_kb, lang),
                    size(metrics.dirty_kb(), lang),
                    width::middle(&format!("{path}{mark}"), room, out.ellipsis()),
                ],
            ));
        }
        out.table(&table);
    }
    rest(data.mappings.len(), data.view.top, out);
}

pub(super) fn processes(data: &InspectData, out: &mut Out) {
    let lang = out.lang();
    let mut table = Table {
        columns: vec![
            Column::figures("PID", 0),
            Column::text(lang.pick("Process", "进程"), 10, 0),
            Column::figures("PSS", 0),
            Column::figures("RSS", 0),
            Column::figures("USS", 1),
            Column::figures("Swap", 0),
            Column::figures(lang.pick("Maps", "映射数"), 2),
            Column::text(lang.pick("User", "用户"), 4, 3),
        ],
        rows: Vec::new(),
    };
    for row in data.processes.iter().take(shown(data.view.top)) {
        let metrics = &row.totals.metrics;
        let indent = usize::try_from(row.depth).unwrap_or(0).min(20) * 2;
        let comm = row.info.who.comm.clone().unwrap_or_default();
        table.rows.push((
            Paint::Plain,
            vec![
                row.info.who.pid.unwrap_or(0).to_string(),
                format!("{}{comm}", " ".repeat(indent)),
                size(metrics.pss_kb, lang),
                size(metrics.rss_kb, lang),
                size(row.totals.uss_kb, lang),
                size(metrics.swap_kb, lang),
                row.mappings.to_string(),
                row.info.who.user.clone().unwrap_or_default(),
            ],
        ));
    }
    out.heading("🌳", lang.pick("Processes", "进程"));
    out.table(&table);
    rest(data.processes.len(), data.view.top, out);
}

/// What changed: one line of sums, then kinds and mappings.
pub(super) fn watch(reading: &Reading, quiet: bool, top: usize, out: &mut Out) {
    let lang = out.lang();
    let time = reading.time.as_deref().map(clock).unwrap_or_default();
    let text = msg!(
        "{time} reading {}: {} · {}",
        "{time} 第 {} 次读取：{} · {}",
        reading.readings,
        sums(&reading.totals, lang),
        count(reading.mappings, lang)
    );
    let mut text = lang.of(&text).trim().to_owned();
    if quiet {
        text.push_str(lang.pick(" · no change", " · 无变化"));
    }
    out.heading("🕒", &text);
    if reading.ended {
        let text = lang.pick(
            "The process has ended: these are its last figures",
            "进程已结束：以下为其最后一次读数",
        );
        out.line(2, Paint::Warn, text);
    }
    let (Some(last), Some(start)) = (&reading.since_last, &reading.since_start) else {
        return;
    };
    if quiet {
        return;
    }
    let since = |change: &Change| {
        let of = |kb: Option<i64>| kb.map_or_else(|| lang.unknown().to_owned(), signed);
        format!(
            "RSS {} · PSS {} · swap {} · {:+} maps",
            of(change.rss_kb),
            of(change.pss_kb),
            of(change.swap_kb),
            change.mappings
        )
    };
    for (change, label) in [
        (last, lang.pick("since the last reading", "较上次")),
        (start, lang.pick("since the start", "较开始")),
    ] {
        let label = format!("{label} ({})", units::span(change.seconds));
        out.pair(2, &label, &since(change));
    }
    let mut table = Table {
        columns: vec![
            kind_column(out, 0),
            Column::figures(lang.pick("RSS, last", "RSS 较上次"), 0),
            Column::figures(lang.pick("RSS, start", "RSS 较开始"), 0),
            Column::figures(lang.pick("Swap, start", "swap 较开始"), 2),
            Column::figures(lang.pick("Maps, start", "映射 较开始"), 3),
        ],
        rows: Vec::new(),
    };
    let none = || lang.unknown().to_owned();
    for row in start.by_kind.iter().take(shown(top)) {
        let mut recent = last.by_kind.iter();
        let recent = recent.find(|one| one.kind == row.kind);
        let moved = [
            recent.and_then(|one| one.rss_kb),
            row.rss_kb,
            row.swap_kb,
            Some(row.mappings),
        ];
        if moved.into_iter().flatten().all(|figure| figure == 0) {
            continue;
        }
        table.rows.push((
            Paint::Plain,
            vec![
                term(Group::Region, row.kind.id(), lang).into_owned(),
                signed(recent.and_then(|one| one.rss_kb).unwrap_or(0)),
                row.rss_kb.map_or_else(none, signed),
                row.swap_kb.map_or_else(none, signed),
                format!("{:+}", row.mappings),
            ],
        ));
    }
    if !table.rows.is_empty() {
        out.table(&table);
    }
    for row in start.grown.iter().take(shown(top).min(5)) {
        let new = if row.new {
            lang.pick(" (new)", "（新）")
        } else {
            ""
        };
        let text = format!(
            "{} {} {} {}{new}",
            signed(row.grown_kb),
            row.start,
            term(Group::Region, row.kind.id(), lang).into_owned(),
            row.path.as_deref().unwrap_or_default()
        );
        out.hang(4, 6, Paint::Plain, text.trim_end());
    }
}
