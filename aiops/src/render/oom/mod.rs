//! OOM incidents for people: all of them as a table, the last kill in full.

mod detail;
mod incident;
mod reconcile;

pub(super) use self::detail::name as frame_name;

use super::TextReport;
use super::account;
use super::lang::Group;
use super::lang::Lang;
use super::lang::Word;
use super::lang::term;
use super::style::Style;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::text::clock;
use super::units;
use crate::msg;
use crate::report::Msg;
use crate::report::Report;
use crate::report::oom::Incident;
use crate::report::oom::Kill;
use crate::report::oom::OomData;

impl TextReport for OomData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        out.title(Word::OomTitle.text(lang), &clock(&report.generated_at));
        let host = format!("{}, Linux {}", report.host.hostname, report.host.kernel);
        match shown(&data.incidents) {
            None => {
                out.pair(0, Word::Host.text(lang), &host);
                nothing(data, out);
                out.rule();
            }
            Some((index, incident)) => {
                if data.incidents.len() > 1 {
                    watched(data, out);
                    incidents(&data.incidents, index, out);
                    out.rule();
                }
                incident::write(incident, report, &host, out);
            }
        }
        reconcile::write(&data.reconciliation, out);
        if !data.notes.is_empty() {
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

/// The incident that is shown in full: the last kill, or else the last.
fn shown(incidents: &[Incident]) -> Option<(usize, &Incident)> {
    let mut newest = incidents.iter().enumerate().rev();
    let killed = newest
        .clone()
        .find(|(_, incident)| incident.outcome == "killed");
    killed.or_else(|| newest.next())
}

/// How long it was watched.
fn watched(data: &OomData, out: &mut Out) {
    let unknown = out.lang().unknown();
    let span = data
        .duration_s
        .map_or_else(|| unknown.to_owned(), units::span);
    let from = data
        .started_at
        .as_deref()
        .map_or_else(|| unknown.to_owned(), clock);
    let to = data
        .ended_at
        .as_deref()
        .map_or_else(|| unknown.to_owned(), clock);
    let text = msg!(
        "Watched for {span} ({from} to {to})",
        "观察时长 {span}（{from} 至 {to}）"
    );
    out.hang(0, 2, Paint::Plain, out.lang().of(&text));
}

fn nothing(data: &OomData, out: &mut Out) {
    watched(data, out);
    let filtered = data.reconciliation.filtered;
    let text = if filtered > 0 {
        msg!(
            "No OOM kill matches the filter ({filtered} others seen).",
            "没有符合过滤条件的 OOM（另有 {filtered} 次不符合）。"
        )
    } else if data.reconciliation.missed > 0 {
        msg!("No OOM kill was captured.", "没有捕获到 OOM。")
    } else {
        msg!("No OOM kill.", "没有发生 OOM。")
    };
    let paint = if data.reconciliation.agrees {
        Paint::Good
    } else {
        Paint::Warn
    };
    out.line(0, paint, out.lang().of(&text));
}

fn incidents(incidents: &[Incident], shown: usize, out: &mut Out) {
    let lang = out.lang();
    let total = incidents.len();
    out.heading("📋", &format!("{} ({total})", Word::Incidents.text(lang)));
    let rows = incidents.iter().map(|incident| {
        let kill = incident.kills.first();
        let more = incident.kills.len().saturating_sub(1);
        let name = kill.map_or_else(|| lang.unknown().to_owned(), |kill| kill.comm.clone());
        let name = if more > 0 {
            format!("{name} +{more}")
        } else {
            name
        };
        let paint = if incident.outcome == "killed" {
            Paint::Plain
        } else {
            Paint::Dim
        };
        (
            paint,
            vec![
                time(incident, lang),
                kill.map_or_else(|| lang.unknown().to_owned(), |kill| kill.pid.to_string()),
                name,
                kill.map_or_else(|| lang.unknown().to_owned(), |kill| rss(kill, lang)),
                place(incident, lang),
                term(Group::Outcome, incident.outcome, lang).into_owned(),
            ],
        )
    });
    let table = Table {
        columns: vec![
            Column::text(Word::Time.text(lang), 12, 2),
            Column::figures(Word::Pid.text(lang), 0),
            Column::text(Word::Name.text(lang), 8, 0),
            Column::figures(Word::Rss.text(lang), 1),
            Column::text(Word::Constraint.text(lang), 8, 4),
            Column::text(Word::Outcome.text(lang), 8, 3),
        ],
        rows: rows.collect(),
    };
    out.table(&table);
    let number = shown + 1;
    let text = msg!(
        "Number {number} of {total} in full:",
        "以下是第 {number} 个（共 {total} 个）的详情："
    );
    out.line(0, Paint::Bold, lang.of(&text));
}

/// When it happened, as well as it is known.
fn time(incident: &Incident, lang: Lang) -> String {
    let at = incident
        .time
        .clone()
        .or_else(|| incident.at.as_deref().map(clock));
    at.unwrap_or_else(|| lang.unknown().to_owned())
}

/// Where memory was short.
fn place(incident: &Incident, lang: Lang) -> String {
    match (&incident.oom_memcg, incident.constraint.as_deref()) {
        (Some(cgroup), _) => cgroup.clone(),
        (None, Some(constraint)) => term(Group::Constraint, constraint, lang).into_owned(),
        (None, None) => lang.unknown().to_owned(),
    }
}

/// Resident memory of a victim, when every part is known.
fn rss_kb(kill: &Kill) -> Option<u64> {
    let parts = [kill.anon_rss_kb?, kill.file_rss_kb?, kill.shmem_rss_kb?];
    Some(
        parts
            .iter()
            .fold(0, |sum: u64, part| sum.saturating_add(*part)),
    )
}

/// A size that may be unknown; `~` marks figures that are approximate.
fn size(kb: Option<u64>, approximate: bool, lang: Lang) -> String {
    let mark = if approximate { "~" } else { "" };
    kb.map_or_else(
        || lang.unknown().to_owned(),
        |kb| format!("{mark}{}", units::size_kb(kb)),
    )
}

fn rss(kill: &Kill, lang: Lang) -> String {
    size(rss_kb(kill), kill.rss_approximate, lang)
}

/// A number that may be unknown.
fn number(value: Option<impl ToString>, lang: Lang) -> String {
    value.map_or_else(|| lang.unknown().to_owned(), |value| value.to_string())
}

/// What to say while it happens: a few lines without a frame.
#[must_use]
pub fn live(incident: &Incident, style: &Style) -> String {
    let mut out = Out::bare(style);
    let lang = out.lang();
    let paint = if incident.outcome == "killed" {
        Paint::Bad
    } else {
        Paint::Warn
    };
    let when = time(incident, lang);
    let outcome = term(Group::Outcome, incident.outcome, lang);
    if incident.kills.is_empty() {
        out.hang(0, 4, paint, &format!("{when} OOM{}{outcome}", out.colon()));
    }
    for kill in &incident.kills {
        let (name, pid, rss) = (&kill.comm, kill.pid, rss(kill, lang));
        let (adj, score) = (number(kill.oom_score_adj, lang), number(kill.score, lang));
        let text = msg!(
            "{when} OOM: {name} (PID {pid}) {outcome}, RSS {rss}, oom_score {score}, oom_score_adj {adj}",
            "{when} OOM：{name} (PID {pid}) {outcome}，RSS {rss}，oom_score {score}，oom_score_adj {adj}"
        );
        out.hang(0, 4, paint, lang.of(&text));
    }
    for line in live_context(incident, lang) {
        out.hang(4, 6, Paint::Plain, lang.of(&line));
    }
    out.finish()
}

fn live_context(incident: &Incident, lang: Lang) -> Vec<Msg> {
    let place = place(incident, lang);
    let (usage, limit) = (
        size(incident.memcg_usage_kb, false, lang),
        size(incident.memcg_limit_kb, false, lang),
    );
    let mut lines = vec![if incident.oom_memcg.is_some() {
        msg!(
            "memory cgroup {place}: {usage} of {limit}",
            "内存 cgroup {place}：{usage} / {limit}"
        )
    } else {
        let available = size(incident.mem_available_kb, false, lang);
        msg!(
            "constraint: {place}; available {available}",
            "约束：{place}；可用 {available}"
        )
    }];
    if let (Some(comm), Some(pid)) = (&incident.trigger.comm, incident.trigger.pid) {
        lines.push(match incident.trigger.is_victim {
            Some(true) => msg!("triggered by itself", "由其自身触发"),
            _ => msg!("triggered by {comm} ({pid})", "触发者 {comm} ({pid})"),
        });
    }
    lines
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
