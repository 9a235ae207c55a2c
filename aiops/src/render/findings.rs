//! What a report found and advises, the same in every one: severity and title, the figures that prove it,
//! what to do.

use super::text::Out;
use super::text::Paint;
use crate::msg;
use crate::report::Finding;
use crate::report::Severity;

/// Lines of evidence that are shown; JSON has them all.
const EVIDENCE: usize = 6;

/// Writes findings under a heading; nothing without any.
pub(super) fn write(findings: &[Finding], out: &mut Out) {
    if findings.is_empty() {
        return;
    }
    let lang = out.lang();
    out.rule();
    out.heading("💡", lang.pick("Findings and advice", "发现与建议"));
    for finding in findings {
        let (name, paint) = match finding.severity {
            Severity::Critical => (lang.pick("critical", "严重"), Paint::Bad),
            Severity::Warning => (lang.pick("warning", "警告"), Paint::Warn),
            Severity::Info => (lang.pick("info", "提示"), Paint::Bold),
        };
        let title = format!("[{name}] {}", lang.of(&finding.title));
        out.hang(2, 4, paint, &title);
        for text in finding.evidence.iter().take(EVIDENCE) {
            out.hang(4, 6, Paint::Plain, &format!("- {}", lang.of(text)));
        }
        let more = finding.evidence.len().saturating_sub(EVIDENCE);
        if more > 0 {
            let text = msg!("… and {more} more (-o json)", "……另有 {more} 条（-o json）");
            out.line(4, Paint::Dim, lang.of(&text));
        }
        let arrow = if out.unicode() { "→" } else { "->" };
        for text in &finding.advice {
            out.hang(4, 7, Paint::Plain, &format!("{arrow} {}", lang.of(text)));
        }
    }
}
