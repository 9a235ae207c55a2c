//! Verdicts as people see them: the report and the drawing.

use crate::analysis::leak::Series;
use crate::analysis::leak::assess;
use crate::analysis::leak_report;
use crate::render::Lang;
use crate::render::plot::html;
use crate::render::plot::svg;
use crate::render::testing::report_of;
use crate::render::testing::text_of;
use crate::report::Report;
use crate::report::leak::Components;
use crate::report::leak::LeakData;

fn java() -> LeakData {
    let mib = 1_048_576.0;
    let minutes = (0..1440).map(f64::from);
    let wobble = |i: f64| (i * 7919.0 % 13.0) * 40_000.0;
    let warm = |i: f64| 1200.0 - 80.0 * (-i / 12.0).exp() + 108.3 * i / 60.0;
    let series = Series {
        time_s: minutes.clone().map(|i| 1.7e9 + i * 60.0).collect(),
        bytes: minutes.map(|i| warm(i) * mib + wobble(i)).collect(),
        ..Series::default()
    };
    let limit = 8 << 30;
    let found = assess(&series, Some(limit as f64));
    let mut data = leak_report::data(&series, &found, Some((limit, "host")));
    data.process.pid = Some(15234);
    data.process.comm = Some("java".to_owned());
    data.process.runtime = Some("jvm");
    data.available_kb = Some(4_404_019);
    data.components = Some(Components {
        heap_kb: Some(2_202_009),
        anon_kb: Some(2_202_009 + 314_572),
        file_kb: None,
        shmem_kb: Some(-209_715),
        swap_kb: None,
    });
    data
}

#[test]
fn the_report_has_all_that_the_contract_shows() {
    let findings = leak_report::findings(&java());
    let advice: Vec<&str> = (findings[0].advice.iter())
        .map(|line| line.zh.as_str())
        .collect();
    let advice = advice.join("\n");
    for line in [
        "jmap -dump:live,format=b,file=/tmp/heap.hprof 15234",
        "MAT",
        "GC 日志",
        "重启",
    ] {
        assert!(advice.contains(line), "{line}: {advice}");
    }
    for width in [80, 100] {
        let text = text_of(java(), Lang::Zh, width);
        for words in [
            "内存泄漏检测报告",
            "进程: java (PID: 15234), JVM",
            "检测时间范围: ",
            "检测算法: ",
            "🔴 检测到内存泄漏（置信度：",
            "预热 τ=",
            "BIC",
            "→ 3.7",
            "增长速率: 108.",
            "95% 区间",
            "线性拟合: R² = ",
            "系统可用内存: 4.20 GiB",
            "OOM 时间估算: 2023-11-1",
            "Heap 内存: +2.10 GiB（主要贡献）",
            "Anonymous mmap: +307 MiB",
            "−205 MiB",
            "[已排除] 会结束的预热",
            "[未知] 负载",
            "MiB = 2^20",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(
            !text.contains("文件映射") && !text.contains("换出"),
            "{text}"
        );
    }
    let text = text_of(java(), Lang::En, 80);
    for words in [
        "Process: java (PID: 15234), JVM",
        "Memory leak (confidence",
        "Growth: 108.",
        "Straight line: R²",
        "Heap: +2.10 GiB (main contributor)",
        "Estimated time: ",
        "[ruled out] a warm-up that ends",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn no_limit_is_said_with_what_names_one() {
    let mut data = java();
    data.oom = None;
    let text = text_of(data.clone(), Lang::En, 80);
    assert!(text.contains("--memory-limit SIZE"), "{text}");
    data.verdict = "no-leak";
    let text = text_of(data, Lang::En, 80);
    assert!(!text.contains("Out of memory"), "{text}");
}

fn leaking(limit: u64) -> Report<LeakData> {
    let times = (0..200).map(|i| 1.7e9 + f64::from(i) * 60.0);
    let series = Series {
        bytes: (0..200).map(|i| 1e8 + f64::from(i) * 2e5).collect(),
        time_s: times.collect(),
        ..Series::default()
    };
    let found = assess(&series, Some(limit as f64));
    report_of(leak_report::data(&series, &found, Some((limit, "option"))))
}

/// Names of opened and closed elements agree, and nothing is left open.
fn well_formed(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in text.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("an end");
        let name = tag.split([' ', '/', '\n']).next().unwrap_or_default();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "{text}");
        } else if !tag.ends_with('/') && !tag.starts_with('!') && name != "meta" {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn series_shape_forecast_and_limit_are_drawn() {
    for (lang, words) in [(Lang::En, "limit 191 MiB"), (Lang::Zh, "上限 191 MiB")] {
        let text = svg(&leaking(200_000_000), lang);
        well_formed(&text);
        assert_eq!(text.matches("<polyline").count(), 2, "{text}");
        assert!(text.contains("stroke-dasharray=\"7 5\""), "{text}");
        assert!(text.contains(words), "{text}");
    }
    // A limit that is years away would press the series flat.
    let text = svg(&leaking(1 << 50), Lang::En);
    assert!(!text.contains(">limit "), "{text}");
    assert!(text.contains("forecast"), "{text}");
}

#[test]
fn names_cannot_break_out_and_nothing_is_loaded() {
    let mut report = leaking(1 << 30);
    report.data.process.comm = Some("</text><script>x('\"&\u{202e}\n".to_owned());
    for lang in [Lang::En, Lang::Zh] {
        let page = html(&report, lang).expect("a page");
        well_formed(&page);
        assert!(
            !page.contains("<script") && !page.contains('\u{202e}'),
            "{page}"
        );
        assert!(page.contains("&lt;script&gt;x(&#39;&quot;&amp;"), "{page}");
        let addresses = page.matches("http").count();
        assert_eq!(
            addresses,
            page.matches("http://www.w3.org/2000/svg").count()
        );
        assert!(!page.contains("src=") && !page.contains("href="), "{page}");
    }
}

#[test]
fn the_page_has_nothing_that_must_stand_below_each_other() {
    let mut report = report_of(java());
    report.findings = leak_report::findings(&report.data);
    let page = html(&report, Lang::Zh).expect("a page");
    let stands = |c: char| ('\u{2500}'..='\u{257f}').contains(&c);
    let braille = |c: char| ('\u{2800}'..='\u{28ff}').contains(&c);
    assert!(!page.contains(|c| stands(c) || braille(c)), "{page}");
    let mut lines = page.lines().filter(|line| line.starts_with("<pre>"));
    assert!(
        lines.all(|line| line.matches('`').count() % 2 == 0),
        "a command is broken: {page}"
    );
    for words in [
        "<pre>内存泄漏检测报告 · ",
        "<pre>🔴 检测到内存泄漏",
        "`jmap -dump:live,format=b,file=/tmp/heap.hprof 15234`",
        "，Mann-Kendall 趋势检验 p &lt; 0.001",
        "Noto Sans CJK SC",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
}

#[test]
fn a_long_reason_and_a_long_name_stay_inside_the_drawing() {
    let mut report = leaking(1 << 30);
    report.data.process.comm = Some("name".repeat(80));
    let long = "it grows by +988.56 MiB/h for 8 s, at another pace than before, or ".repeat(3);
    report.data.reason = crate::report::Msg::new(long.clone(), long);
    let drawing = svg(&report, Lang::En);
    well_formed(&drawing);
    let texts = drawing.split("<text ").skip(1).take(4);
    for text in texts {
        let words = text
            .split_once('>')
            .and_then(|(_, rest)| rest.split_once('<'));
        let (words, _) = words.expect("words");
        assert!(words.chars().count() <= 124, "{words}");
    }
    assert!(drawing.contains("y=\"96.0\""), "{drawing}");
}

#[test]
fn an_undecided_process_is_told_what_decides_it() {
    let mut data = java();
    data.verdict = "inconclusive";
    let advice = &leak_report::findings(&data)[0].advice;
    let said = advice.iter().map(|line| line.en.as_str());
    let said = said.collect::<Vec<_>>().join("\n");
    assert!(
        said.contains("`aiops detect memory-leak --pid 15234 --history 24h`")
            && said.contains("`jcmd 15234 GC.class_histogram`"),
        "{said}"
    );
}

#[test]
fn too_little_to_draw_is_said() {
    let mut report = leaking(1 << 30);
    report.data.series.truncate(1);
    let text = svg(&report, Lang::En);
    well_formed(&text);
    assert!(
        text.contains("too few samples") && !text.contains("NaN"),
        "{text}"
    );
}
