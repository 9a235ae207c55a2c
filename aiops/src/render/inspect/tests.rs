use super::*;
use crate::report::inspect::MappingRow;
use crate::report::inspect::ProcessRow;

fn report(rows: usize) -> Report<InspectData> {
    let data = InspectData {
        process: Some(ProcessInfo::default()),
        processes: vec![ProcessRow::default()],
        mappings: (0..rows)
            .map(|_| MappingRow {
                pid: 7,
                ..MappingRow::default()
            })
            .collect(),
        ..InspectData::default()
    };
    Report {
        schema: "aiops.inspect-memory/1".to_owned(),
        version: String::new(),
        generated_at: String::new(),
        host: crate::report::HostInfo::default(),
        data,
        findings: Vec::new(),
        accounting: crate::report::Accounting::default(),
    }
}

fn style(lang: Lang, width: usize) -> Style {
    Style {
        lang,
        color: false,
        width,
        unicode: true,
    }
}

#[test]
fn json_in_pieces_is_the_same_as_whole() {
    for rows in [0, 1, 3] {
        for format in [Format::Json, Format::Jsonl] {
            let style = style(Lang::En, 80);
            let whole = super::super::report(&report(rows), format, &style).unwrap();
            let mut pieces = String::new();
            write_json(report(rows), format, &style, &mut |piece| {
                pieces.push_str(piece);
                Ok(())
            })
            .unwrap();
            let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(parse(&pieces), parse(&whole));
            if format == Format::Jsonl {
                assert_eq!(pieces, whole);
            }
        }
    }
}

#[test]
fn a_report_without_figures_says_so_in_both_languages() {
    for (lang, word) in [
        (Lang::En, "smaps could not be read"),
        (Lang::Zh, "无法读取 smaps"),
    ] {
        let mut report = report(2);
        report.data.maps_only = true;
        report.data.view.maps = true;
        for width in [80, 120] {
            let mut out = Out::framed(&style(lang, width));
            InspectData::text(&report, &mut out);
            let text = out.finish();
            assert!(text.contains(word), "{text}");
            let wide = text.lines().map(super::super::width::width).max();
            assert_eq!(wide, Some(width), "{text}");
        }
    }
}

#[test]
fn changes_have_a_sign() {
    assert_eq!(signed(2048), "+2 MiB");
    assert_eq!(signed(-4), "-4 KiB");
    assert_eq!(signed(0), "0 KiB");
}
