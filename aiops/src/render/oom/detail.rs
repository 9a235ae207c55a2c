//! The proof: why this process, the timeline, stacks, the kernel's own lines, who saw it.

use super::*;
use crate::report::oom::Candidate;
use crate::report::oom::FrameInfo;

/// Candidates that are shown; JSON has all.
const CANDIDATES: usize = 8;
/// Frames of a stack that are shown; JSON has all.
const FRAMES: usize = 8;

/// Writes the details of an incident.
pub(super) fn write(incident: &Incident, page_size: Option<u64>, out: &mut Out) {
    why(incident, page_size, out);
    timeline(incident, out);
    stacks(incident, out);
    kernel_log(incident, out);
    sources(incident, out);
}

fn why(incident: &Incident, page_size: Option<u64>, out: &mut Out) {
    let lang = out.lang();
    let why = &incident.why;
    if why.candidates.is_empty() && why.summary.is_empty() {
        return;
    }
    out.heading("🧮", &format!("{}:", Word::Why.text(lang)));
    for text in &why.summary {
        out.hang(2, 4, Paint::Plain, lang.of(text));
    }
    candidates(&why.candidates, page_size, out);
    if let Some(total) = why.total_pages {
        let size = units::size_pages(total, page_size).unwrap_or_else(|| lang.unknown().to_owned());
        let text = msg!(
            "Score: (RSS + swap + page tables) ‰ of {size} ({total} pages) + oom_score_adj",
            "得分：（RSS + Swap + 页表）占 {size}（{total} 页）的千分比 + oom_score_adj"
        );
        out.hang(2, 4, Paint::Dim, lang.of(&text));
    }
    if !why.would_change.is_empty() {
        out.line(
            0,
            Paint::Bold,
            &format!("{}:", Word::WouldChange.text(lang)),
        );
        for text in &why.would_change {
            out.hang(2, 4, Paint::Plain, &format!("- {}", lang.of(text)));
        }
    }
}

fn candidates(candidates: &[Candidate], page_size: Option<u64>, out: &mut Out) {
    let lang = out.lang();
    if candidates.is_empty() {
        return;
    }
    // The victim is always shown, also when others rank before it.
    let (first, rest) = candidates.split_at(candidates.len().min(CANDIDATES));
    let shown = first
        .iter()
        .chain(rest.iter().filter(|candidate| candidate.victim));
    let table = Table {
        columns: vec![
            Column::figures(Word::Pid.text(lang), 0),
            Column::text(Word::Name.text(lang), 8, 0),
            Column::figures(Word::Rss.text(lang), 0),
            Column::figures(Word::Swap.text(lang), 2),
            Column::figures(Word::PageTables.text(lang), 4),
            Column::figures(Word::Adj.text(lang), 0),
            Column::figures(lang.pick("Badness", "badness"), 3),
            Column::figures(Word::Score.text(lang), 0),
            Column::text(Word::Note.text(lang), 8, 0),
        ],
        rows: shown
            .map(|candidate| candidate_row(candidate, page_size, lang))
            .collect(),
    };
    out.table(&table);
    let left = candidates.len() - table.rows.len();
    if left > 0 {
        let text = msg!("and {left} more (in JSON)", "另有 {left} 个（见 JSON）");
        out.line(2, Paint::Dim, lang.of(&text));
    }
}

fn candidate_row(
    candidate: &Candidate,
    page_size: Option<u64>,
    lang: Lang,
) -> (Paint, Vec<String>) {
    let badness = candidate.badness_pages.map(|pages| {
        let size = units::size_pages(pages.unsigned_abs(), page_size);
        let sign = if pages < 0 { "-" } else { "" };
        size.map_or_else(|| pages.to_string(), |size| format!("{sign}{size}"))
    });
    let mut notes = Vec::new();
    if candidate.victim {
        notes.push(lang.pick("chosen", "被选中").to_owned());
    }
    notes.extend(
        candidate
            .unkillable
            .map(|id| term(Group::Unkillable, id, lang).into_owned()),
    );
    if candidate.from == "sample" {
        let age = candidate
            .age_ms
            .map_or_else(|| lang.unknown().to_owned(), |ms| units::span(ms / 1000.0));
        notes.push(lang.of(&msg!("{age} old", "{age} 前")).to_owned());
    } else if !candidate.victim {
        notes.push(term(Group::From, candidate.from, lang).into_owned());
    }
    let paint = match (candidate.victim, candidate.unkillable) {
        (true, _) => Paint::Bad,
        (_, Some(_)) => Paint::Dim,
        _ => Paint::Plain,
    };
    (
        paint,
        vec![
            candidate.pid.to_string(),
            candidate.comm.clone(),
            size(candidate.rss_kb, false, lang),
            size(candidate.swap_kb, false, lang),
            size(candidate.pgtables_kb, false, lang),
            number(candidate.oom_score_adj, lang),
            badness.unwrap_or_else(|| lang.unknown().to_owned()),
            number(candidate.score, lang),
            notes.join(", "),
        ],
    )
}

fn timeline(incident: &Incident, out: &mut Out) {
    let lang = out.lang();
    if incident.timeline.is_empty() {
        return;
    }
    out.blank();
    out.heading("🕒", &format!("{}:", Word::Timeline.text(lang)));
    for entry in &incident.timeline {
        let time = super::super::width::pad(&units::millis(entry.t_ms), 9, true);
        let step = term(Group::Step, entry.step, lang);
        let who = match (&entry.comm, entry.pid) {
            (Some(comm), Some(pid)) => format!("  {comm} ({pid})"),
            (Some(comm), None) => format!("  {comm}"),
            (None, Some(pid)) => format!("  ({pid})"),
            (None, None) => String::new(),
        };
        out.hang(2, 15, Paint::Plain, &format!("{time} ms  {step}{who}"));
    }
    if let Some(latency) = incident.capture_latency_us {
        let text = msg!(
            "captured {latency:.0} µs after the mark",
            "标记后 {latency:.0} µs 被捕获"
        );
        out.line(2, Paint::Dim, lang.of(&text));
    }
}

fn stacks(incident: &Incident, out: &mut Out) {
    let lang = out.lang();
    let stacks = &incident.stacks;
    let all = [
        (Word::TriggerKernel, &stacks.trigger_kernel),
        (Word::TriggerUser, &stacks.trigger_user),
        (Word::VictimUser, &stacks.victim_user),
        (Word::VictimKernel, &stacks.victim_kernel),
    ];
    if all.iter().all(|(_, frames)| frames.is_empty()) {
        return;
    }
    out.blank();
    out.heading("🧵", &format!("{}:", Word::Stacks.text(lang)));
    for (word, frames) in all {
        if frames.is_empty() {
            continue;
        }
        out.line(2, Paint::Bold, &format!("{}:", word.text(lang)));
        for (index, frame) in frames.iter().take(FRAMES).enumerate() {
            let number = format!("#{index}");
            out.limited(
                4,
                8,
                Paint::Plain,
                &format!("{number:<3} {}", name(frame)),
                2,
            );
        }
        let left = frames.len().saturating_sub(FRAMES);
        if left > 0 {
            out.line(
                4,
                Paint::Dim,
                lang.of(&msg!(
                    "and {left} more (in JSON)",
                    "另有 {left} 帧（见 JSON）"
                )),
            );
        }
    }
}

/// `function+0x12 (module) file:line`, or as much as is known.
pub(in crate::render) fn name(frame: &FrameInfo) -> String {
    let module = frame
        .module
        .as_deref()
        .filter(|module| *module != "[kernel]");
    let Some(function) = &frame.function else {
        return match (module, frame.module_offset) {
            (Some(module), Some(offset)) => format!("{module}+0x{offset:x}"),
            (Some(module), None) => format!("{} ({module})", frame.ip),
            _ => frame.ip.clone(),
        };
    };
    let mut text = function.clone();
    if let Some(offset) = frame.offset.filter(|_| !frame.inlined) {
        text.push_str(&format!("+0x{offset:x}"));
    }
    if let Some(module) = module {
        text.push_str(&format!(
            " ({})",
            module.rsplit('/').next().unwrap_or(module)
        ));
    }
    if let Some(file) = &frame.file {
        let file = file.rsplit('/').next().unwrap_or(file);
        text.push_str(&format!(" {file}"));
        if let Some(line) = frame.line {
            text.push_str(&format!(":{line}"));
        }
    }
    if frame.inlined {
        text.push_str(" [inlined]");
    }
    text
}

/// The lines that name the incident; the whole text is in JSON.
fn kernel_log(incident: &Incident, out: &mut Out) {
    const TELLING: [&str; 3] = ["invoked oom-killer", "oom-kill:", "Killed process"];
    let lang = out.lang();
    let total = incident.kernel_text.len();
    let telling = incident
        .kernel_text
        .iter()
        .filter(|line| TELLING.iter().any(|word| line.contains(word)));
    if total == 0 {
        return;
    }
    out.blank();
    let count = lang
        .of(&msg!(
            " ({total} lines, all in JSON)",
            "（共 {total} 行，全文见 JSON）"
        ))
        .to_owned();
    out.heading("📜", &format!("{}{count}:", Word::KernelLog.text(lang)));
    for line in telling {
        out.limited(2, 4, Paint::Dim, line, 4);
    }
}

fn sources(incident: &Incident, out: &mut Out) {
    let lang = out.lang();
    let sources = &incident.sources;
    let seen = [
        ("BPF", Some(sources.bpf)),
        (lang.pick("kernel log", "内核日志"), Some(sources.kmsg)),
        ("vmstat oom_kill", sources.vmstat),
        (
            lang.pick("cgroup count", "cgroup 计数"),
            sources.memory_events,
        ),
    ];
    let texts: Vec<String> = seen
        .iter()
        .map(|(name, seen)| {
            let seen = match seen {
                Some(true) => lang.pick("yes", "是"),
                Some(false) => lang.pick("no", "否"),
                None => lang.unknown(),
            };
            format!("{name} {seen}")
        })
        .collect();
    out.blank();
    out.pair(0, Word::SeenBy.text(lang), &texts.join(", "));
    if !incident.missing.is_empty() {
        let missing: Vec<_> = incident
            .missing
            .iter()
            .map(|id| term(Group::Missing, id, lang))
            .collect();
        out.hang(
            0,
            4,
            Paint::Warn,
            &format!(
                "{}{}{}",
                Word::Missing.text(lang),
                out.colon(),
                missing.join(", ")
            ),
        );
    }
}
