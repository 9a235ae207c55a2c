//! `analyze cache` and `inspect cache` for people: the answer first, then figures.

mod tables;

use super::TextReport;
use super::findings;
use super::text::Out;
use super::text::Paint;
use super::units;
use crate::msg;
use crate::report::Finding;
use crate::report::Report;
use crate::report::Severity;
use crate::report::cache::CacheData;
use crate::report::cache::State;

impl TextReport for CacheData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let data = &report.data;
        let lang = out.lang();
        let title = if data.view.contents {
            lang.pick("What the caches hold", "缓存内容")
        } else {
            lang.pick("Cache efficiency", "缓存效率分析")
        };
        let at = data.at.as_deref().unwrap_or(&report.generated_at);
        out.title(title, &super::text::clock(at));
        answer(data, &report.findings, out);
        findings::write(&report.findings, out);
        out.rule();
        if data.view.contents {
            tables::composition(data, out);
            out.rule();
            tables::slab(data, data.view.top, out);
            out.rule();
            tables::fragmentation(data, out);
            if data.files.is_some() || data.files_accounting.is_some() {
                out.rule();
                tables::files(data, out);
            }
        } else {
            if data.view.efficiency {
                judgements(data, out);
                tables::rates(data, out);
                out.rule();
            }
            tables::overview(data, out);
            tables::dirty(data, out);
            out.rule();
            tables::slab(
                data,
                data.view.top.min(if data.view.efficiency { 15 } else { 5 }),
                out,
            );
            if data.view.efficiency {
                out.rule();
                tables::cgroups(data, out);
                tables::fragmentation(data, out);
            }
        }
        out.rule();
        if let Some(note) = &data.hit_ratio_note {
            let label = lang.pick("Hit ratio", "缓存命中率");
            let text = format!("{label}{}{}", out.colon(), lang.of(note));
            out.hang(0, 2, Paint::Dim, &text);
        }
        for note in &data.notes {
            out.hang(0, 2, Paint::Warn, lang.of(note));
        }
        super::account::write(&report.accounting, out);
    }
}

/// The one sentence that somebody in a hurry reads.
fn answer(data: &CacheData, findings: &[Finding], out: &mut Out) {
    let lang = out.lang();
    if data.view.contents {
        let cache = &data.page_cache;
        let known = |kb: Option<u64>| kb.map_or_else(|| lang.unknown().to_owned(), units::size_kb);
        let share = cache
            .cached_kb
            .and_then(|cached| units::share(cached, cache.mem_total_kb?))
            .unwrap_or_else(|| lang.unknown().to_owned());
        let (cached, slab) = (known(cache.cached_kb), known(data.slab_totals.slab_kb));
        let dirty = known(cache.dirty_kb);
        let text = msg!(
            "Page cache {cached} ({share} of memory), slab {slab}, dirty {dirty}",
            "页缓存 {cached}（占内存 {share}），slab {slab}，脏页 {dirty}"
        );
        out.hang(0, 2, Paint::Bold, lang.of(&text));
        return;
    }
    let worst = findings.iter().map(|finding| finding.severity).max();
    let unknown = data
        .judgements
        .iter()
        .any(|judgement| judgement.state == State::Unknown);
    let n = findings.len();
    let (paint, text) = match worst {
        None if unknown => (
            Paint::Warn,
            msg!(
                "Nothing wrong in what could be measured; some figures are missing (see below)",
                "已测部分未见异常；部分数据缺失（见下文）"
            ),
        ),
        None => (
            Paint::Good,
            msg!(
                "The caches do well: nothing to change",
                "缓存工作正常，无需调整"
            ),
        ),
        Some(Severity::Info) => (
            Paint::Plain,
            msg!(
                "The caches do well; {n} thing(s) worth knowing",
                "缓存基本正常，有 {n} 点值得注意"
            ),
        ),
        Some(Severity::Warning) => (
            Paint::Warn,
            msg!(
                "The caches need attention: {n} finding(s)",
                "缓存需要关注：{n} 项发现"
            ),
        ),
        Some(Severity::Critical) => (
            Paint::Bad,
            msg!(
                "The caches need action now: {n} finding(s)",
                "缓存需立即处理：{n} 项发现"
            ),
        ),
    };
    out.hang(0, 2, paint, lang.of(&text));
}

fn judgements(data: &CacheData, out: &mut Out) {
    let lang = out.lang();
    out.heading("🧭", lang.pick("Part by part", "分项评估"));
    for judgement in &data.judgements {
        let part = match judgement.part {
            "page-cache" => lang.pick("Page cache", "页缓存"),
            "reclaim" => lang.pick("Reclaim", "内存回收"),
            "write-back" => lang.pick("Write-back", "脏页回写"),
            "slab" => lang.pick("Slab", "Slab"),
            _ => lang.pick("Fragmentation", "碎片化"),
        };
        let (mark, ascii, paint) = match judgement.state {
            State::Good => ("✓", "+", Paint::Good),
            State::Bad => ("!", "!", Paint::Warn),
            State::Unknown => ("?", "?", Paint::Dim),
        };
        let mark = if out.unicode() { mark } else { ascii };
        let text = format!("{mark} {part}: {}", lang.of(&judgement.text));
        out.hang(2, 4, paint, &text);
    }
}
