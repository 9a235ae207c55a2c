//! One incident in full: facts, victims, memory, growth, root cause and advice.

use super::super::units::change;
use super::super::units::share;
use super::*;
use crate::report::Finding;
use crate::report::Severity;
use crate::report::oom::BeforeSystem;

/// Writes everything about an incident.
pub(super) fn write(incident: &Incident, report: &Report<OomData>, host: &str, out: &mut Out) {
    facts(incident, host, report.host.page_size, out);
    out.rule();
    victims(incident, out);
    out.rule();
    system(incident, out);
    growth(incident, out);
    out.rule();
    root_cause(incident, &report.findings, out);
    advice(&report.findings, out);
    out.rule();
    detail::write(incident, report.host.page_size, out);
    out.rule();
}

fn facts(incident: &Incident, host: &str, page_size: Option<u64>, out: &mut Out) {
    let lang = out.lang();
    out.pair(0, Word::OomTime.text(lang), &time(incident, lang));
    let constraint = incident.constraint.as_deref();
    let name = constraint.map_or_else(
        || lang.unknown().into(),
        |id| term(Group::Constraint, id, lang),
    );
    let killer = term(Group::Killer, incident.killer, lang);
    out.pair(
        0,
        Word::TriggerType.text(lang),
        &format!("{killer} ({name})"),
    );
    trigger(incident, page_size, out);
    let mut text = constraint.map_or_else(
        || lang.unknown().to_owned(),
        |id| format!("CONSTRAINT_{}", id.to_uppercase()),
    );
    if let Some(cgroup) = &incident.oom_memcg {
        text.push_str(&format!(", {cgroup}"));
    }
    if incident.constraint_source == Some("stack") {
        text.push_str(&format!(" ({})", term(Group::From, "stack", lang)));
    }
    out.pair(0, Word::Constraint.text(lang), &text);
    if incident.oom_memcg.is_some() || incident.memcg_limit_kb.is_some() {
        limit(incident, out);
    }
    out.pair(0, Word::Host.text(lang), host);
    out.pair(0, Word::Incident.text(lang), &incident.id);
    if incident.outcome != "killed" {
        out.pair(
            0,
            Word::Outcome.text(lang),
            &term(Group::Outcome, incident.outcome, lang),
        );
    }
}

fn limit(incident: &Incident, out: &mut Out) {
    let lang = out.lang();
    let (limit, usage) = (
        size(incident.memcg_limit_kb, false, lang),
        size(incident.memcg_usage_kb, false, lang),
    );
    let share = incident
        .memcg_usage_kb
        .zip(incident.memcg_limit_kb)
        .and_then(|(usage, limit)| share(usage, limit));
    let share = share.map_or_else(String::new, |share| format!(" ({share})"));
    let text = msg!(
        "{limit}, in use {usage}{share}",
        "{limit}，已用 {usage}{share}"
    );
    out.pair(0, Word::Limit.text(lang), lang.of(&text));
}

fn trigger(incident: &Incident, page_size: Option<u64>, out: &mut Out) {
    let lang = out.lang();
    let trigger = &incident.trigger;
    let name = trigger.comm.as_deref().unwrap_or(lang.unknown());
    let pid = number(trigger.tgid.or(trigger.pid), lang);
    let mut text = format!("{name} (PID {pid}");
    if let Some(tid) = trigger
        .pid
        .filter(|tid| trigger.tgid.is_some_and(|tgid| tgid != *tid))
    {
        text.push_str(lang.of(&msg!(", thread {tid}", "，线程 {tid}")));
    }
    text.push(')');
    if trigger.is_victim == Some(true) {
        text.push_str(lang.pick(", the victim itself", "，即受害者自身"));
    }
    out.pair(0, Word::TriggeredBy.text(lang), &text);
    let mut asked = Vec::new();
    if let Some(order) = trigger.order {
        let pages = u32::try_from(order)
            .ok()
            .and_then(|order| 1u64.checked_shl(order));
        let size = pages
            .and_then(|pages| units::size_pages(pages, page_size))
            .unwrap_or_else(|| lang.unknown().to_owned());
        asked.push(
            lang.of(&msg!(
                "asked for {size} (order {order})",
                "请求 {size}（order {order}）"
            ))
            .to_owned(),
        );
    }
    let gfp = [&trigger.gfp_flags, &trigger.gfp_mask]
        .into_iter()
        .find_map(Clone::clone);
    if let Some(gfp) = gfp {
        let source = trigger.gfp_source.filter(|source| *source == "reclaim");
        let source = source.map_or_else(String::new, |id| {
            format!(" ({})", term(Group::From, id, lang))
        });
        asked.push(format!("{gfp}{source}"));
    }
    asked.extend(
        trigger
            .oom_score_adj
            .map(|adj| format!("oom_score_adj {adj}")),
    );
    if !asked.is_empty() {
        out.hang(2, 4, Paint::Plain, &asked.join(lang.pick(", ", "，")));
    }
    if trigger.is_victim != Some(true) {
        let more = [
            (Word::Command, &trigger.cmdline),
            (Word::Cgroup, &trigger.cgroup),
        ];
        for (word, text) in more {
            if let Some(text) = text {
                limited_pair(word, text, out);
            }
        }
    }
}

/// A pair whose value may be very long.
fn limited_pair(word: Word, value: &str, out: &mut Out) {
    let text = format!("{}{}{value}", word.text(out.lang()), out.colon());
    out.limited(2, 6, Paint::Plain, &text, 3);
}

fn victims(incident: &Incident, out: &mut Out) {
    let lang = out.lang();
    let word = match (incident.outcome, incident.kills.len()) {
        ("already-exiting", _) => Word::Marked,
        (_, 0 | 1) => Word::Killed,
        _ => Word::GroupKilled,
    };
    let heading = match incident.kills.len() {
        0 | 1 => word.text(lang).to_owned(),
        count => format!("{} ({count})", word.text(lang)),
    };
    out.heading("🚨", &format!("{heading}:"));
    match incident.kills.as_slice() {
        [] => {
            let outcome = term(Group::Outcome, incident.outcome, lang);
            let cgroup = incident
                .killed_cgroup
                .as_deref()
                .map_or_else(String::new, |path| format!(" ({path})"));
            out.line(2, Paint::Plain, &format!("{outcome}{cgroup}"));
        }
        [kill] => victim(kill, out),
        kills => group(incident, kills, out),
    }
}

fn victim(kill: &Kill, out: &mut Out) {
    let lang = out.lang();
    let approximate = kill.rss_approximate;
    let kb = |kb| size(kb, approximate, lang);
    let pair = |out: &mut Out, word: Word, text: &str| out.pair(2, word.text(lang), text);
    out.hang(
        2,
        6,
        Paint::Bad,
        &format!("{}{}{}", Word::Name.text(lang), out.colon(), kill.comm),
    );
    let ppid = number(kill.ppid, lang);
    let pid = kill.pid;
    pair(
        out,
        Word::Pid,
        lang.of(&msg!("{pid} (parent {ppid})", "{pid}（父进程 {ppid}）")),
    );
    let (anon, file, shmem) = (
        kb(kill.anon_rss_kb),
        kb(kill.file_rss_kb),
        kb(kill.shmem_rss_kb),
    );
    pair(
        out,
        Word::Memory,
        &format!(
            "{} (RSS) = anon {anon} + file {file} + shmem {shmem}",
            rss(kill, lang)
        ),
    );
    let exact = |kb| size(kb, false, lang);
    let (swap, tables, total) = (
        exact(kill.swap_kb),
        exact(kill.pgtables_kb),
        exact(kill.total_vm_kb),
    );
    let (table_word, total_word) = (Word::PageTables.text(lang), Word::Virtual.text(lang));
    let colon = out.colon();
    pair(
        out,
        Word::Swap,
        &format!("{swap}, {table_word}{colon}{tables}, {total_word}{colon}{total}"),
    );
    let (score, adj) = (number(kill.score, lang), number(kill.oom_score_adj, lang));
    pair(
        out,
        Word::OomScore,
        &format!("{score} (oom_score_adj {adj})"),
    );
    pair(out, Word::User, &format!("uid {}", number(kill.uid, lang)));
    limited_pair(
        Word::Command,
        kill.cmdline.as_deref().unwrap_or(lang.unknown()),
        out,
    );
    let more = [(Word::Program, &kill.exe), (Word::Cgroup, &kill.cgroup)];
    for (word, text) in more {
        if let Some(text) = text {
            limited_pair(word, text, out);
        }
    }
    container(kill, out);
    kernel_figures(kill, out);
}

fn container(kill: &Kill, out: &mut Out) {
    if let Some(container) = &kill.container {
        let pod = container
            .pod
            .as_deref()
            .map_or_else(String::new, |pod| format!(", pod {pod}"));
        limited_pair(
            Word::Container,
            &format!("{} {}{pod}", container.runtime, container.id),
            out,
        );
    }
}

fn kernel_figures(kill: &Kill, out: &mut Out) {
    let lang = out.lang();
    let Some(kernel) = &kill.kernel else { return };
    let figures = [
        ("total-vm", kernel.total_vm_kb),
        ("anon-rss", kernel.anon_rss_kb),
        ("file-rss", kernel.file_rss_kb),
        ("shmem-rss", kernel.shmem_rss_kb),
        ("pgtables", kernel.pgtables_kb),
    ];
    let known = figures
        .iter()
        .filter_map(|(name, kb)| Some(format!("{name} {}", units::size_kb((*kb)?))));
    let adj = kernel
        .oom_score_adj
        .map(|adj| format!("oom_score_adj {adj}"));
    let text: Vec<String> = known.chain(adj).collect();
    out.pair(2, Word::KernelSays.text(lang), &text.join(", "));
}

/// Victims of a group kill.
fn group(incident: &Incident, kills: &[Kill], out: &mut Out) {
    let lang = out.lang();
    let row = |kill: &Kill| {
        (
            Paint::Plain,
            vec![
                kill.pid.to_string(),
                kill.comm.clone(),
                rss(kill, lang),
                size(kill.swap_kb, false, lang),
                number(kill.oom_score_adj, lang),
                number(kill.score, lang),
                kill.cmdline
                    .clone()
                    .unwrap_or_else(|| lang.unknown().to_owned()),
            ],
        )
    };
    let table = Table {
        columns: vec![
            Column::figures(Word::Pid.text(lang), 0),
            Column::text(Word::Name.text(lang), 8, 0),
            Column::figures(Word::Rss.text(lang), 0),
            Column::figures(Word::Swap.text(lang), 2),
            Column::figures("oom_score_adj", 1),
            Column::figures(Word::OomScore.text(lang), 3),
            Column::text(Word::Command.text(lang), 12, 4),
        ],
        rows: kills.iter().map(row).collect(),
    };
    out.table(&table);
    if incident.group_kill == Some(true) {
        let text = lang.pick(
            "The kernel killed the whole cgroup (memory.oom.group).",
            "内核杀死了整个 cgroup (memory.oom.group)。",
        );
        out.line(2, Paint::Plain, text);
    }
    if let Some(kill) = kills.first() {
        if let Some(cgroup) = &kill.cgroup {
            limited_pair(Word::Cgroup, cgroup, out);
        }
        container(kill, out);
        for kill in kills {
            kernel_figures(kill, out);
        }
    }
}

fn system(incident: &Incident, out: &mut Out) {
    let lang = out.lang();
    let heading = Word::System.text(lang);
    let age = incident.sample_age_ms.map_or_else(String::new, |ms| {
        let age = units::span(ms / 1000.0);
        lang.of(&msg!(", sampled {age} before", "，{age} 前采样"))
            .to_owned()
    });
    out.heading("📊", &format!("{heading}{age}:"));
    let total = incident.mem_total_kb;
    let part = |kb: Option<u64>| {
        let share = kb.zip(total).and_then(|(kb, total)| share(kb, total));
        let share = share.map_or_else(String::new, |share| format!(" ({share})"));
        format!("{}{share}", size(kb, false, lang))
    };
    out.pair(2, "Total", &size(total, false, lang));
    out.pair(2, "Free", &part(incident.mem_free_kb));
    out.pair(2, "Available", &part(incident.mem_available_kb));
    out.pair(2, "Cached", &size(incident.cached_kb, false, lang));
    out.pair(2, Word::Swap.text(lang), &swap(incident, lang));
    let pressure = incident.before.iter().rev().find_map(|before| {
        before
            .system
            .as_ref()?
            .psi_some_avg10
            .map(|_| &before.system)
    });
    if let Some(Some(system)) = pressure {
        out.pair(2, Word::Pressure.text(lang), &psi(system, lang));
    }
}

fn psi(system: &BeforeSystem, lang: Lang) -> String {
    let percent = |value: Option<f64>| {
        value.map_or_else(|| lang.unknown().to_owned(), |value| format!("{value:.2}%"))
    };
    format!(
        "some {}, full {}",
        percent(system.psi_some_avg10),
        percent(system.psi_full_avg10)
    )
}

/// Used / total (share).
fn swap(incident: &Incident, lang: Lang) -> String {
    if incident.swap_total_kb == Some(0) {
        return lang.pick("none on this host", "本机没有 Swap").to_owned();
    }
    let total = incident.swap_total_kb;
    let used = total
        .zip(incident.swap_free_kb)
        .map(|(total, free)| total.saturating_sub(free));
    let share = used.zip(total).and_then(|(used, total)| share(used, total));
    let share = share.map_or_else(String::new, |share| format!(" ({share})"));
    format!(
        "{} / {}{share}",
        size(used, false, lang),
        size(total, false, lang)
    )
}

fn growth(incident: &Incident, out: &mut Out) {
    let lang = out.lang();
    let rows = &incident.before;
    let points = |get: &dyn Fn(&crate::report::oom::Before) -> Option<u64>| -> Vec<(f64, u64)> {
        rows.iter()
            .filter_map(|row| Some((row.t_ms, get(row)?)))
            .collect()
    };
    let name = incident
        .kills
        .first()
        .map_or(lang.unknown(), |kill| kill.comm.as_str());
    let curves = [
        (
            format!("{name} RSS"),
            points(&|row| row.victim.as_ref()?.rss_kb),
        ),
        (
            lang.pick("cgroup usage", "cgroup 用量").to_owned(),
            points(&|row| row.cgroup.as_ref()?.usage_kb),
        ),
        (
            lang.pick("host available", "整机可用").to_owned(),
            points(&|row| row.system.as_ref()?.mem_available_kb),
        ),
    ];
    out.rule();
    let span = rows.first().map(|row| units::span(-row.t_ms / 1000.0));
    let count = rows.len();
    let span = span.map_or_else(
        || lang.pick(" (no samples)", "（没有采样）").to_owned(),
        |span| {
            lang.of(&msg!(
                " ({count} samples over {span})",
                "（{span} 内 {count} 次采样）"
            ))
            .to_owned()
        },
    );
    out.heading("📈", &format!("{}{span}:", Word::Growth.text(lang)));
    for (label, points) in curves {
        curve(&label, &points, out);
    }
    if let Some(growth) = &incident.growth {
        let shape = term(Group::Shape, growth.shape, lang);
        let (first, last) = (
            units::size_kb(growth.first_rss_kb),
            units::size_kb(growth.last_rss_kb),
        );
        let change = change(growth.first_rss_kb, growth.last_rss_kb)
            .map_or_else(String::new, |text| format!(" ({text})"));
        let span = units::span(growth.span_s);
        let rate = growth
            .rate_kb_per_s
            .map_or_else(|| lang.unknown().to_owned(), rate);
        let text = msg!(
            "{name}: {first} → {last}{change} in {span}, {rate}, {shape}",
            "{name}：{span} 内 {first} → {last}{change}，{rate}，{shape}"
        );
        out.hang(2, 4, Paint::Plain, lang.of(&text));
    }
}

/// KiB per second as a rate a person can use.
fn rate(kb_per_s: f64) -> String {
    let (value, unit) = if kb_per_s.abs() >= 1024.0 {
        (kb_per_s / 1024.0, "MiB/s")
    } else {
        (kb_per_s * 60.0 / 1024.0, "MiB/min")
    };
    format!("{value:+.1} {unit}")
}

fn curve(label: &str, points: &[(f64, u64)], out: &mut Out) {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return;
    };
    let label = super::super::width::truncate(label, 20, "…");
    let figures = format!("{} → {}", units::size_kb(first.1), units::size_kb(last.1));
    let used = 2
        + super::super::width::width(&label).max(14)
        + 2
        + super::super::width::width(&figures)
        + 2;
    let columns = out.inner().saturating_sub(used).clamp(8, 40);
    let label = super::super::width::pad(&label, 14, false);
    if let Some(line) = units::sparkline(points, columns, out.unicode()) {
        out.hang(2, 4, Paint::Plain, &format!("{label} {line}  {figures}"));
    }
}

fn root_cause(incident: &Incident, findings: &[Finding], out: &mut Out) {
    let lang = out.lang();
    out.heading("🔍", &format!("{}:", Word::RootCause.text(lang)));
    let class = term(Group::Cause, incident.cause.class, lang).into_owned();
    let mut texts = vec![class];
    texts.extend(
        incident
            .cause
            .evidence
            .iter()
            .map(|msg| lang.of(msg).to_owned()),
    );
    for finding in findings {
        let evidence = finding.evidence.iter().map(|msg| lang.of(msg).to_owned());
        let new: Vec<String> = evidence.filter(|text| !texts.contains(text)).collect();
        let mut text = lang.of(&finding.title).to_owned();
        if finding.severity == Severity::Critical {
            text = format!("[{}] {text}", lang.pick("critical", "严重"));
        }
        if !new.is_empty() {
            text.push_str(&format!(
                "{}{}",
                lang.pick(": ", "："),
                new.join(lang.pick("; ", "；"))
            ));
        }
        texts.push(text);
    }
    out.numbered(texts.iter().map(String::as_str));
}

fn advice(findings: &[Finding], out: &mut Out) {
    let lang = out.lang();
    let mut texts: Vec<&str> = Vec::new();
    for text in findings
        .iter()
        .flat_map(|finding| &finding.advice)
        .map(|msg| lang.of(msg))
    {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    if texts.is_empty() {
        return;
    }
    out.blank();
    out.heading("💡", &format!("{}:", Word::Advice.text(lang)));
    out.numbered(texts);
}
