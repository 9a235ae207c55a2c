//! `doctor` for people: one check after the other, then the commands.

use super::TextReport;
use super::lang::Group;
use super::lang::Lang;
use super::lang::Word;
use super::lang::term;
use super::text::Out;
use super::text::Paint;
use super::units;
use crate::report::Report;
use crate::report::doctor::Check;
use crate::report::doctor::CheckState;
use crate::report::doctor::CommandState;
use crate::report::doctor::DoctorData;

impl TextReport for DoctorData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        out.title(
            Word::DoctorTitle.text(lang),
            &super::text::clock(&report.generated_at),
        );
        let host = &report.host;
        let memory = host
            .mem_total_kb
            .map_or_else(|| lang.unknown().to_owned(), units::size_kb);
        let text = format!("{}, Linux {}, {memory}", host.hostname, host.kernel);
        out.pair(0, Word::Host.text(lang), &text);
        out.rule();
        for check in &report.data.checks {
            write_check(check, out);
        }
        if !report.data.commands.is_empty() {
            out.rule();
            out.heading("🧭", Word::Commands.text(lang));
            for command in &report.data.commands {
                write_command(command, out);
            }
        }
    }
}

/// Mark, name and colour of a state.
fn state(state: CheckState, out: &Out) -> (String, Paint) {
    let (id, mark, ascii, paint) = match state {
        CheckState::Ok => ("ok", '✓', '+', Paint::Good),
        CheckState::Degraded => ("degraded", '!', '!', Paint::Warn),
        CheckState::Failed => ("failed", '✗', 'x', Paint::Bad),
        CheckState::Absent => ("absent", '–', '-', Paint::Dim),
    };
    let mark = if out.unicode() { mark } else { ascii };
    let name = term(Group::State, id, out.lang());
    (
        format!(
            "{mark} {}",
            super::width::pad(&name, name_width(out.lang()), false)
        ),
        paint,
    )
}

/// Columns of the longest name of a state.
fn name_width(lang: Lang) -> usize {
    let names = ["ok", "degraded", "failed", "absent"]
        .map(|id| super::width::width(&term(Group::State, id, lang)));
    names.into_iter().max().unwrap_or(0)
}

fn write_check(check: &Check, out: &mut Out) {
    let lang = out.lang();
    let (mark, paint) = state(check.state, out);
    let indent = name_width(lang) + 3;
    let colon = out.colon();
    let mut text = format!("{mark} {} – {}", check.id, lang.of(&check.what));
    if let Some(detail) = &check.detail {
        text.push_str(&format!("{colon}{detail}"));
    }
    out.hang(0, indent, paint, &text);
    let messages = [
        (Word::Lost, &check.lost),
        (Word::Fallback, &check.fallback),
        (Word::Remedy, &check.remedy),
    ];
    // A check that works has nothing to say about what would be without it.
    if check.state == CheckState::Ok {
        return;
    }
    for (word, message) in messages {
        if let Some(message) = message {
            out.pair(indent, word.text(lang), lang.of(message));
        }
    }
    let since = check.since.map(|kernel| match lang {
        Lang::En => format!("Linux {kernel} or later (oldest seen)"),
        Lang::Zh => format!("Linux {kernel} 或更新（已见最旧版本）"),
    });
    let needs: Vec<String> = check
        .privilege
        .map(str::to_owned)
        .into_iter()
        .chain(since)
        .collect();
    if !needs.is_empty() {
        out.pair(indent, Word::Needs.text(lang), &needs.join(", "));
    }
}

fn write_command(command: &CommandState, out: &mut Out) {
    let (mark, paint) = state(command.state, out);
    let mut text = format!("{mark} aiops {}", command.command);
    if let Some(reason) = &command.reason {
        text.push_str(&format!(" – {}", out.lang().of(reason)));
    }
    out.hang(0, name_width(out.lang()) + 3, paint, &text);
}

#[cfg(test)]
mod tests;
