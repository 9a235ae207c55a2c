//! `health memory` for people: the score first, then what lowers it, who is behind it, what to do.

use super::TextReport;
use super::account;
use super::findings;
use super::lang::Lang;
use super::lang::Word;
use super::text::Column;
use super::text::Out;
use super::text::Paint;
use super::text::Table;
use super::units;
use crate::msg;
use crate::report::Report;
use crate::report::health::Cause;
use crate::report::health::Factor;
use crate::report::health::HealthData;
use crate::report::health::Input;
use crate::report::shown;

/// Columns of the bar of the score.
const BAR: usize = 30;
/// Columns of the bar of a factor.
const SMALL_BAR: usize = 10;

impl TextReport for HealthData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let lang = out.lang();
        let data = &report.data;
        let at = data.at.as_deref().unwrap_or(&report.generated_at);
        out.title(
            lang.pick("Memory health", "内存健康评分"),
            &super::text::clock(at),
        );
        answer(data, out);
        let host = format!("{}, Linux {}", report.host.hostname, report.host.kernel);
        out.pair(0, Word::Host.text(lang), &host);
        out.rule();
        factors(data, out);
        if !data.view.brief {
            causes(data, out);
            processes(data, out);
        }
        for note in &data.notes {
            out.hang(0, 2, Paint::Dim, &format!("- {}", lang.of(note)));
        }
        if !data.view.brief {
            findings::write(&report.findings, out);
        }
        out.rule();
        account::write(&report.accounting, out);
    }
}

/// Score, level and bar; then what lowers it most.
fn answer(data: &HealthData, out: &mut Out) {
    let lang = out.lang();
    let level = data.level;
    let Some(score) = data.score else {
        let text = msg!(
            "No score (level unknown): too little could be read",
            "无法评分（级别未知）：可读数据不足"
        );
        out.line(0, Paint::Warn, lang.of(&text));
        return;
    };
    let name = level_name(level, lang);
    let bar = bar(score, BAR, out.unicode());
    out.line(
        0,
        level_paint(level),
        &format!("{score:.1} / 100  {name}  {bar}"),
    );
    let lowers = data
        .factors
        .iter()
        .filter(|factor| factor.lost_points >= 0.1);
    let parts: Vec<String> = lowers
        .take(3)
        .map(|factor| {
            let name = factor_name(factor.id, lang);
            format!("{name} −{:.1}", factor.lost_points)
        })
        .collect();
    if !parts.is_empty() {
        let parts = parts.join(lang.pick(", ", "、"));
        out.pair(0, lang.pick("Lowered most by", "主要扣分项"), &parts);
    }
    for cap in data.caps.iter().filter(|cap| cap.applied) {
        let (reason, most) = (lang.of(&cap.reason), cap.at_most);
        let text = match lang {
            Lang::En => format!("Held at {most} at most: {reason}"),
            Lang::Zh => format!("评分上限 {most}：{reason}"),
        };
        out.hang(0, 2, Paint::Bad, &text);
    }
}

fn factors(data: &HealthData, out: &mut Out) {
    let lang = out.lang();
    out.heading("📊", lang.pick("Factors", "评分因子"));
    let rows = data.factors.iter().map(|factor| {
        let paint = match factor.score {
            None => Paint::Dim,
            Some(score) if score >= 75.0 => Paint::Plain,
            Some(score) if score >= 40.0 => Paint::Warn,
            Some(_) => Paint::Bad,
        };
        let unknown = lang.unknown().to_owned();
        (
            paint,
            vec![
                factor_name(factor.id, lang).to_owned(),
                factor
                    .score
                    .map_or(unknown.clone(), |score| format!("{score:.0}")),
                factor
                    .score
                    .map_or_else(String::new, |score| bar(score, SMALL_BAR, out.unicode())),
                format!("{:.0}%", factor.effective_weight * 100.0),
                format!("{:.1}", -factor.lost_points + 0.0),
                deciding(factor, lang),
            ],
        )
    });
    let table = Table {
        columns: vec![
            Column::text(lang.pick("Factor", "因子"), 8, 0),
            Column::figures(lang.pick("Score", "得分"), 0),
            Column::text("", 4, 3),
            Column::figures(lang.pick("Weight", "权重"), 4),
            Column::figures(lang.pick("Points", "扣分"), 2),
            Column::text(lang.pick("Decided by", "决定因素"), 20, 0),
        ],
        rows: rows.collect(),
    };
    out.table(&table);
    for factor in &data.factors {
        if let Some(missing) = &factor.missing {
            let name = factor_name(factor.id, lang);
            let text = format!("- {name}{}{}", out.colon(), lang.of(missing));
            out.hang(2, 4, Paint::Dim, &text);
        } else {
            rule(factor, out);
        }
    }
}

/// What decides a factor, from which value on it costs what, and where it comes from.
fn rule(factor: &Factor, out: &mut Out) {
    let lang = out.lang();
    let (name, colon) = (factor_name(factor.id, lang), out.colon());
    let product = factor.id == "swap";
    let chosen = |input: &&Input| product || Some(input.id) == factor.decided_by;
    let open = lang.pick(" (", "（");
    let close = lang.pick(")", "）");
    let inputs = factor.inputs.iter().filter(chosen).filter_map(|input| {
        let value = figure(input, lang)?;
        let (what, scores) = (input_name(input.id, lang), lang.of(&input.thresholds));
        let (rule, source) = (lang.pick("scores", "评分阈值"), input.source);
        let stop = lang.pick("; ", "；");
        Some(format!(
            "{what} {value}{stop}{rule} {scores}{open}{source}{close}"
        ))
    });
    let inputs = inputs.collect::<Vec<_>>().join(lang.pick(" × ", " × "));
    out.hang(2, 4, Paint::Dim, &format!("- {name}{colon}{inputs}"));
}

/// The deciding figure with its name; for swap, both.
fn deciding(factor: &Factor, lang: Lang) -> String {
    let one = |input: &Input| {
        Some(format!(
            "{} {}",
            input_name(input.id, lang),
            figure(input, lang)?
        ))
    };
    let chosen = |input: &&Input| factor.id == "swap" || Some(input.id) == factor.decided_by;
    let parts = factor.inputs.iter().filter(chosen).filter_map(one);
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() {
        return lang.pick("missing", "缺失").to_owned();
    }
    parts.join(lang.pick(", ", "，"))
}

fn figure(input: &Input, lang: Lang) -> Option<String> {
    let value = input.value?;
    let about = if input.estimated { "≈" } else { "" };
    Some(match input.unit {
        "percent" => format!("{about}{value:.1}%"),
        unit if value >= 100.0 => format!("{about}{value:.0} {}", unit_name(unit, lang)),
        unit => format!("{about}{value:.1} {}", unit_name(unit, lang)),
    })
}

fn unit_name(unit: &str, lang: Lang) -> &str {
    match unit {
        "pages/s" => lang.pick("pages/s", "页/秒"),
        "events/s" => lang.pick("events/s", "次/秒"),
        "MiB/s" => lang.pick("MiB/s", "MiB/秒"),
        other => other,
    }
}

fn causes(data: &HealthData, out: &mut Out) {
    let lang = out.lang();
    if data.causes.is_empty() {
        return;
    }
    out.heading("🔍", lang.pick("Who is behind it", "主要来源"));
    let mut rows = Vec::new();
    // A few of each factor, so that one factor's list does not hide the others'.
    let mut seen: Vec<(&str, &str, usize)> = Vec::new();
    let each = shown(data.view.top, data.causes.len()).div_ceil(2).max(1);
    for cause in &data.causes {
        let count = match seen
            .iter_mut()
            .find(|(factor, measure, _)| *factor == cause.factor && *measure == cause.measure)
        {
            Some((_, _, count)) => count,
            None => {
                seen.push((cause.factor, cause.measure, 0));
                match seen.last_mut() {
                    Some((_, _, count)) => count,
                    None => continue,
                }
            }
        };
        *count += 1;
        if *count > each {
            continue;
        }
        let pid = cause.pid.map_or_else(String::new, |pid| pid.to_string());
        rows.push((
            Paint::Plain,
            vec![
                factor_name(cause.factor, lang).to_owned(),
                cause.name.clone(),
                pid,
                amount(cause, lang),
                share(cause, lang),
            ],
        ));
    }
    out.table(&Table {
        columns: vec![
            Column::text(lang.pick("Factor", "因子"), 6, 0),
            Column::text(lang.pick("Name", "名称"), 12, 0),
            Column::figures("PID", 1),
            Column::text(lang.pick("Figure", "数值"), 16, 0),
            Column::text(lang.pick("Share", "占比"), 6, 2),
        ],
        rows,
    });
}

/// A share, and what it is of.
fn share(cause: &Cause, lang: Lang) -> String {
    let Some(share) = cause.share_pct else {
        return String::new();
    };
    let of = match cause.share_of {
        Some("mem_total") => lang.pick("of RAM", "占物理内存"),
        Some("swap_used") => lang.pick("of used swap", "占已用 Swap"),
        _ => lang.pick("of all processes'", "占全部进程"),
    };
    match lang {
        Lang::En => format!("{share:.0}% {of}"),
        Lang::Zh => format!("{of} {share:.0}%"),
    }
}

fn amount(cause: &Cause, lang: Lang) -> String {
    let value = cause.value;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "causes are above 0 and came from u64 KiB"
    )]
    let size = || units::size_kb(value as u64);
    match cause.measure {
        "rss_kb" => format!("RSS {}", size()),
        "swap_kb" => format!("{} {}", lang.pick("in swap", "已换出"), size()),
        "swap_change_kb" => format!("{} +{}", lang.pick("swap", "Swap 增长"), size()),
        "rss_change_kb" => format!("RSS +{}", size()),
        "majflt_per_s" => format!("{value:.0} {}", lang.pick("major faults/s", "次主缺页/秒")),
        "psi_some_avg10_pct" => format!("{} {value:.1}%", lang.pick("own pressure", "自身压力")),
        "refaults_per_s" => {
            let text = lang.pick("refaulted pages/s", "页被读回/秒");
            format!("{value:.0} {text}")
        }
        _ => format!("{value:.1} {}", lang.pick("limit hits/s", "次触限/秒")),
    }
}

/// The largest processes: on a calm host too, the question is who has the memory.
fn processes(data: &HealthData, out: &mut Out) {
    let lang = out.lang();
    if data.processes.is_empty() {
        return;
    }
    out.heading("📋", lang.pick("Largest processes", "最大的进程"));
    let size = |kb: Option<u64>| kb.map_or_else(|| lang.unknown().to_owned(), units::size_kb);
    let most = shown(data.view.top, data.processes.len());
    let rows = data.processes.iter().take(most).map(|process| {
        let faults = process.majflt_per_s;
        (
            Paint::Plain,
            vec![
                process.pid.to_string(),
                process.comm.clone(),
                size(process.rss_kb),
                process
                    .rss_share_pct
                    .map_or_else(String::new, |share| format!("{share:.1}%")),
                size(process.swap_kb),
                faults.map_or_else(
                    || lang.unknown().to_owned(),
                    |faults| format!("{faults:.1}"),
                ),
                process.cgroup.clone().unwrap_or_default(),
            ],
        )
    });
    let table = Table {
        columns: vec![
            Column::figures("PID", 0),
            Column::text(lang.pick("Name", "进程名"), 8, 0),
            Column::figures("RSS", 0),
            Column::figures(lang.pick("Of RAM", "占内存"), 3),
            Column::figures("Swap", 1),
            Column::figures(lang.pick("Major faults/s", "主缺页/秒"), 4),
            Column::text("Cgroup", 8, 5),
        ],
        rows: rows.collect(),
    };
    out.table(&table);
}

/// A bar of `columns` for 0 to 100.
fn bar(score: f64, columns: usize, unicode: bool) -> String {
    let (full, empty) = if unicode { ('█', '░') } else { ('#', '.') };
    (0..columns)
        .map(|column| {
            let middle = (column as f64 + 0.5) * 100.0 / columns as f64;
            if score >= middle { full } else { empty }
        })
        .collect()
}

fn level_paint(level: &str) -> Paint {
    match level {
        "excellent" | "good" => Paint::Good,
        "fair" => Paint::Warn,
        _ => Paint::Bad,
    }
}

fn level_name(level: &str, lang: Lang) -> &str {
    match level {
        "excellent" => lang.pick("excellent", "优秀（低风险）"),
        "good" => lang.pick("good", "良好（低风险）"),
        "fair" => lang.pick("fair", "一般（中风险）"),
        "poor" => lang.pick("poor", "较差（高风险）"),
        "critical" => lang.pick("critical", "危险（极高风险）"),
        other => other,
    }
}

fn factor_name(id: &'static str, lang: Lang) -> &'static str {
    match id {
        "psi" => lang.pick("Pressure (PSI)", "内存压力 PSI"),
        "usage" => lang.pick("Usage", "内存使用率"),
        "swap" => lang.pick("Swap", "Swap"),
        "cache" => lang.pick("Cache", "缓存效率"),
        "fragmentation" => lang.pick("Fragmentation", "碎片化"),
        other => other,
    }
}

fn input_name(id: &'static str, lang: Lang) -> &'static str {
    match id {
        "psi_full_avg10_pct" => lang.pick("full avg10", "full avg10"),
        "psi_full_interval_pct" => lang.pick("full now", "full 当前"),
        "psi_some_avg10_pct" => lang.pick("some avg10", "some avg10"),
        "psi_some_interval_pct" => lang.pick("some now", "some 当前"),
        "psi_full_avg60_pct" => lang.pick("full avg60", "full avg60"),
        "psi_some_avg60_pct" => lang.pick("some avg60", "some avg60"),
        "mem_used_pct" => lang.pick("used", "已用"),
        "swap_used_pct" => lang.pick("used", "已用"),
        "swap_in_and_half_out_mib_per_s" => lang.pick("in + out/2", "换入+换出/2"),
        "refault_file_mib_per_s" => lang.pick("file refaults", "文件页重读"),
        "majfault_per_s" => lang.pick("major faults", "主缺页"),
        "scanned_in_vain_per_s" => lang.pick("scanned in vain", "无效扫描"),
        "direct_reclaim_per_s" => lang.pick("direct reclaim", "直接回收"),
        "unusable_free_order9_pct" => {
            lang.pick("free but too small for huge pages", "空闲但不足大页")
        }
        "compact_stall_per_s" => lang.pick("compaction stalls", "规整停顿"),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::testing::text_of;
    use crate::report::health::Cap;
    use crate::report::health::HealthView;

    fn pressed() -> HealthData {
        let input = Input {
            id: "psi_full_avg10_pct",
            value: Some(30.0),
            unit: "percent",
            score: Some(4.4),
            thresholds: msg!("0% → 100", "0% → 100"),
            source: "/proc/pressure/memory",
            estimated: false,
        };
        HealthData {
            score: Some(18.1),
            level: "critical",
            factors: vec![Factor {
                id: "psi",
                score: Some(4.4),
                weight: 0.35,
                effective_weight: 0.4375,
                lost_points: 70.0,
                value: Some(30.0),
                unit: Some("percent"),
                decided_by: Some("psi_full_avg10_pct"),
                inputs: vec![input],
                thresholds: msg!("0% → 100", "0% → 100"),
                source: "/proc/pressure/memory",
                explanation: msg!("", ""),
                missing: None,
            }],
            caps: vec![Cap {
                id: "psi-full",
                at_most: 18.1,
                applied: true,
                value: 30.0,
                unit: "percent",
                reason: msg!("all tasks waited", "全部任务都在等内存"),
            }],
            causes: vec![Cause {
                factor: "psi",
                kind: "process",
                name: "java\x1b[2J".to_owned(),
                pid: Some(7),
                start: Some(1),
                measure: "majflt_per_s",
                value: 512.0,
                share_pct: Some(90.0),
                share_of: Some("processes"),
            }],
            view: HealthView {
                brief: false,
                top: 5,
            },
            ..HealthData::default()
        }
    }

    #[test]
    fn the_answer_stands_first_in_both_languages_and_every_line_fits() {
        for width in [40, 80, 100] {
            let english = text_of(pressed(), Lang::En, width);
            assert!(english.contains("18.1 / 100  critical"), "{english}");
            assert!(!english.contains('\x1b'));
            let chinese = text_of(pressed(), Lang::Zh, width);
            assert!(
                chinese.contains("18.1 / 100  危险（极高风险）"),
                "{chinese}"
            );
        }
        let text = text_of(pressed(), Lang::En, 100);
        assert!(text.contains("Held at 18.1 at most: all tasks waited"));
        assert!(text.contains("512 major faults/s") && text.contains("full avg10 30.0%"));
        assert!(text.contains("90% of all processes'"), "{text}");
        assert!(
            text.contains("full avg10 30.0%; scores 0% → 100 (/proc/pressure/memory)"),
            "{text}"
        );
        assert!(text_of(HealthData::default(), Lang::Zh, 80).contains("无法评分"));
    }

    #[test]
    fn bars_are_empty_at_0_and_full_at_100() {
        assert_eq!(bar(0.0, 4, false), "....");
        assert_eq!(bar(50.0, 4, false), "##..");
        assert_eq!(bar(100.0, 4, false), "####");
    }
}
