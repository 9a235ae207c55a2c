//! `trace alloc` for people: processes, then places with their stacks.

use super::TextReport;
use super::account;
use super::findings;
use super::lang::Lang;
use super::oom::frame_name as name;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::units;
use crate::msg;
use crate::report::Report;
use crate::report::alloc::AllocData;
use crate::report::alloc::Amount;
use crate::report::alloc::HeldData;
use crate::report::alloc::StackAllocs;
use crate::report::oom::FrameInfo;
use crate::report::shown;

/// Frames of a user stack that are shown; JSON has all.
const FRAMES: usize = 10;

/// Names of purposes in both languages.
const PURPOSES: [(&str, &str, &str); 11] = [
    ("anonymous", "own memory", "自有内存"),
    ("page-cache", "page cache", "页缓存"),
    ("shared-memory", "shared memory", "共享内存"),
    ("page-table", "page tables", "页表"),
    ("slab", "kernel objects", "内核对象"),
    ("kernel-stack", "kernel stacks", "内核栈"),
    ("swap-in", "swapped in", "换入"),
    ("network", "network", "网络"),
    ("pipe", "pipe", "管道"),
    ("vmalloc", "vmalloc", "vmalloc"),
    ("interrupt", "in an interrupt", "中断中"),
];

fn purpose(purpose: Option<&str>, kind: &'static str, lang: Lang) -> &'static str {
    let found = PURPOSES.iter().find(|one| Some(one.0) == purpose);
    found.map_or(
        match kind {
            "pages" => lang.pick("pages", "页"),
            other => other,
        },
        |(_, en, zh)| lang.pick(en, zh),
    )
}

fn size(bytes: f64) -> String {
    units::size_kb(units::whole(bytes / 1024.0))
}

/// `1.2 GiB ± 40 MiB`; nothing behind it where it was counted.
fn estimate(amount: &Amount) -> String {
    if amount.bytes_se > 0.0 {
        format!("{} ± {}", size(amount.bytes), size(amount.bytes_se))
    } else {
        size(amount.bytes)
    }
}

fn rate(amount: &Amount, lang: Lang) -> String {
    amount.bytes_per_s.map_or_else(
        || lang.unknown().to_owned(),
        |rate| format!("{}/s", size(rate)),
    )
}

fn share(amount: &Amount, lang: Lang) -> String {
    amount.share.map_or_else(
        || lang.unknown().to_owned(),
        |share| format!("{:.1}%", share * 100.0),
    )
}

impl TextReport for AllocData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        let time = data.duration_s.map_or_else(String::new, units::span);
        out.title(
            lang.pick("Who allocates memory", "内存分配者"),
            &format!("{} · {time}", report.host.hostname),
        );
        let (sum, speed) = (estimate(&data.total), rate(&data.total, lang));
        let how = match data.mode {
            "sample" => msg!(
                "estimated from {0} samples; ± is one standard error",
                "由 {0} 个样本估计；± 为一个标准误",
                data.total.samples
            ),
            "whole" => msg!(
                "counted, with stacks by frame pointers",
                "逐次计数，按帧指针取栈"
            ),
            _ => msg!("counted", "逐次计数"),
        };
        out.line(
            0,
            Paint::Plain,
            &format!(
                "{}{} {sum} ({speed}), {}",
                lang.pick("Pages allocated", "分配的页"),
                out.colon(),
                lang.of(&how)
            ),
        );
        processes(data, out);
        let heading = lang.pick("Code that allocates pages", "分配页的代码");
        stacks(&data.stacks, data.top, heading, out);
        let heading = lang.pick(
            "Code that allocates kernel memory (in the pages above)",
            "分配内核内存的代码（已含在上述页中）",
        );
        stacks(&data.kernel, data.top, heading, out);
        for note in &data.notes {
            out.line(0, Paint::Dim, lang.of(note));
        }
        findings::write(&report.findings, out);
        account::write(&report.accounting, out);
    }
}

fn processes(data: &AllocData, out: &mut Out) {
    let lang = out.lang();
    out.heading("", lang.pick("Processes", "进程"));
    let rows = data
        .processes
        .iter()
        .take(shown(data.top, data.processes.len()));
    let rows = rows.map(|row| {
        let cells = vec![
            row.pid.to_string(),
            row.comm.clone(),
            estimate(&row.amount),
            rate(&row.amount, lang),
            share(&row.amount, lang),
            row.cmdline.clone().unwrap_or_default(),
        ];
        (Paint::Plain, cells)
    });
    let table = Table {
        columns: vec![
            Column::figures("PID", 0),
            Column::text(lang.pick("NAME", "名称"), 6, 0),
            Column::figures(lang.pick("ALLOCATED", "分配"), 0),
            Column::figures(lang.pick("RATE", "速率"), 1),
            Column::figures(lang.pick("SHARE", "占比"), 0),
            Column::text(lang.pick("COMMAND", "命令"), 10, 2),
        ],
        rows: rows.collect(),
    };
    if table.rows.is_empty() {
        out.line(
            2,
            Paint::Dim,
            lang.pick("nobody allocated anything", "没有任何分配"),
        );
    } else {
        out.table(&table);
    }
}

fn stacks(all: &[StackAllocs], top: usize, heading: &str, out: &mut Out) {
    if all.is_empty() {
        return;
    }
    let lang = out.lang();
    out.heading("", heading);
    let count = shown(top, all.len());
    for row in all.iter().take(count) {
        let amount = &row.amount;
        let head = format!(
            "{}  {} ({})  {}({})  {}",
            share(amount, lang),
            estimate(amount),
            rate(amount, lang),
            row.comm,
            row.pid,
            purpose(row.purpose, row.kind, lang)
        );
        out.line(2, Paint::Warn, &head);
        frames(&row.user, row.user_end, &row.kernel, out);
    }
    let left = all.len() - count;
    if left > 0 {
        let more = msg!(
            "and {left} more places (in JSON)",
            "另有 {left} 处（见 JSON）"
        );
        out.line(2, Paint::Dim, lang.of(&more));
    }
}

/// A user stack, and the kernel's in one line.
fn frames(user: &[FrameInfo], end: &str, kernel: &[FrameInfo], out: &mut Out) {
    let lang = out.lang();
    for frame in user.iter().take(FRAMES) {
        out.limited(4, 8, Paint::Plain, &name(frame), 2);
    }
    let left = user.len().saturating_sub(FRAMES);
    if left > 0 {
        let more = msg!(
            "and {left} more frames (in JSON)",
            "另有 {left} 帧（见 JSON）"
        );
        out.line(4, Paint::Dim, lang.of(&more));
    }
    if let Some(cut) = cut(end, lang) {
        out.line(4, Paint::Dim, cut);
    }
    let functions = kernel.iter().filter_map(|frame| frame.function.as_deref());
    let path: Vec<&str> = functions.filter(|name| !is_entry(name)).take(6).collect();
    if !path.is_empty() {
        let word = lang.pick("kernel", "内核");
        let text = format!("{word}{} {}", out.colon(), path.join(" < "));
        out.limited(4, 8, Paint::Dim, &text, 2);
    }
}

impl TextReport for HeldData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        let time = data.duration_s.map_or_else(String::new, units::span);
        out.title(
            lang.pick("Memory that is not given back", "未释放的内存"),
            &format!("{} · {time}", report.host.hostname),
        );
        let (sum, error, age) = (size(data.bytes), size(data.bytes_se), data.min_age_s);
        let head = msg!(
            "Taken since the beginning and held for {age} s or longer: {sum} ± {error} (one standard error)",
            "开始后分配且持有 {age} 秒以上：{sum} ± {error}（一个标准误）"
        );
        out.line(0, Paint::Plain, lang.of(&head));
        out.heading("", lang.pick("Code that took it", "分配者"));
        if data.stacks.is_empty() {
            out.line(
                2,
                Paint::Dim,
                lang.pick("nothing is held", "没有持有的内存"),
            );
        }
        let count = shown(data.top, data.stacks.len());
        for row in data.stacks.iter().take(count) {
            let (paint, verdict) = match row.verdict {
                Some("leak") => (Paint::Bad, lang.pick("leak", "泄漏")),
                Some("no-leak") => (Paint::Good, lang.pick("no leak", "无泄漏")),
                Some(_) => (Paint::Warn, lang.pick("undecided", "未定")),
                None => (Paint::Plain, lang.pick("not judged", "未判定")),
            };
            let growth = row
                .growth
                .as_ref()
                .and_then(|growth| growth.rate_mib_per_hour);
            let growth = growth.map_or_else(String::new, |rate| format!(" {rate:+.1} MiB/h"));
            let oldest = row.oldest_s.map_or_else(String::new, units::span);
            let since = msg!("oldest {oldest}", "最久 {oldest}");
            let head = format!(
                "{}  {} ({})  {}({})  {}  {verdict}{growth}",
                share(&row.held, lang),
                estimate(&row.held),
                lang.of(&since),
                row.comm,
                row.pid,
                purpose(row.purpose, "pages", lang)
            );
            out.line(2, paint, &head);
            frames(&row.user, row.user_end, &row.kernel, out);
        }
        let left = data.stacks.len() - count;
        if left > 0 {
            let more = msg!(
                "and {left} more places (in JSON)",
                "另有 {left} 处（见 JSON）"
            );
            out.line(2, Paint::Dim, lang.of(&more));
        }
        for note in &data.notes {
            out.line(0, Paint::Dim, lang.of(note));
        }
        findings::write(&report.findings, out);
        account::write(&report.accounting, out);
    }
}

/// Functions that stand below every allocation, or belong to the tracer.
fn is_entry(name: &str) -> bool {
    [
        "bpf_",
        "__bpf_",
        "__traceiter_",
        "__alloc_",
        "alloc_pages",
        "alloc_frozen_pages",
        "get_page_from",
    ]
    .iter()
    .any(|begin| name.starts_with(begin))
}

/// Why a user stack has no root.
fn cut(end: &str, lang: Lang) -> Option<&'static str> {
    Some(match end {
        "copy" => lang.pick(
            "(deeper than the copied 8 KiB)",
            "（超出所复制的 8 KiB 栈）",
        ),
        "depth" => lang.pick("(deeper than what is kept)", "（超出保留的帧数）"),
        "lost" => lang.pick(
            "(code without unwind tables or frame pointers)",
            "（代码无展开表，也无帧指针）",
        ),
        "gone" => lang.pick(
            "(the process ended before it could be looked at)",
            "（进程在读取前已结束）",
        ),
        _ => return None,
    })
}
