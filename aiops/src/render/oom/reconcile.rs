//! Are all kills accounted for: what the kernel counted and logged against what was captured.

use super::*;
use crate::report::oom::Reconciliation;

/// Writes the comparison.
pub(super) fn write(reconciliation: &Reconciliation, out: &mut Out) {
    let lang = out.lang();
    let icon = if reconciliation.agrees { "✅" } else { "🔴" };
    out.heading(icon, Word::Reconciliation.text(lang));
    let (counted, logged) = (
        number(reconciliation.counted, lang),
        number(reconciliation.logged, lang),
    );
    let captured = reconciliation.captured;
    let text = msg!(
        "kills: {counted} counted by the kernel, {logged} logged, {captured} captured",
        "内核计数 {counted} 次，日志记录 {logged} 次，捕获 {captured} 次"
    );
    let verdict = if reconciliation.agrees {
        lang.pick(": all agree", "：全部一致")
    } else if reconciliation.missed > 0 {
        lang.pick(": NOT all captured", "：有遗漏")
    } else {
        lang.pick(": could not be compared wholly", "：无法完全核对")
    };
    let paint = if reconciliation.agrees {
        Paint::Good
    } else {
        Paint::Warn
    };
    out.hang(2, 4, paint, &format!("{}{verdict}", lang.of(&text)));
    let (filtered, exiting, missed, repeated) = (
        reconciliation.filtered,
        reconciliation.already_exiting,
        reconciliation.missed,
        reconciliation.repeated,
    );
    let more = [
        (
            filtered,
            msg!(
                "{filtered} of them left out by the filter",
                "其中 {filtered} 次被过滤条件排除"
            ),
        ),
        (
            exiting,
            msg!(
                "{exiting} marks of tasks that were exiting already (no kills)",
                "另有 {exiting} 次标记的任务本已在退出（不算被杀）"
            ),
        ),
        (
            repeated,
            msg!(
                "{repeated} lines that the kernel logged twice for one victim",
                "内核对同一受害者重复记录 {repeated} 行"
            ),
        ),
        (
            missed,
            msg!(
                "{missed} kills that BPF did not see",
                "BPF 未看到 {missed} 次"
            ),
        ),
    ];
    for (_, text) in more.iter().filter(|(count, _)| *count > 0) {
        out.hang(2, 4, Paint::Plain, lang.of(text));
    }
    for kill in &reconciliation.not_captured {
        let at = kill.at.as_deref().unwrap_or(lang.unknown());
        let (comm, pid) = (&kill.comm, kill.pid);
        let text = msg!(
            "not captured: {comm} (PID {pid}) at {at}",
            "未捕获：{comm} (PID {pid})，时间 {at}"
        );
        out.hang(4, 6, Paint::Bad, lang.of(&text));
    }
    for cgroup in &reconciliation.cgroups {
        let (path, counted, captured) = (&cgroup.path, cgroup.counted, cgroup.captured);
        let text = msg!(
            "cgroup {path}: {counted} counted, {captured} captured",
            "cgroup {path}：计数 {counted} 次，捕获 {captured} 次"
        );
        out.limited(2, 4, Paint::Plain, lang.of(&text), 3);
    }
    for note in &reconciliation.notes {
        out.hang(2, 4, Paint::Plain, &format!("- {}", lang.of(note)));
    }
}
