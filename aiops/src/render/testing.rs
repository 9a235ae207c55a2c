//! What tests of reports share.

use super::Format;
use super::Lang;
use super::Style;
use super::TextReport;
use super::width;
use crate::report::Accounting;
use crate::report::HostInfo;
use crate::report::Report;

/// A report of this data and nothing else.
pub(crate) fn report_of<D>(data: D) -> Report<D> {
    Report {
        schema: String::new(),
        version: String::new(),
        generated_at: "2026-11-23T10:00:00.000+00:00".to_owned(),
        host: HostInfo::default(),
        data,
        findings: Vec::new(),
        accounting: Accounting::default(),
    }
}

/// The text of a report; every line of it is as wide as the page.
pub(crate) fn text_of<D: serde::Serialize + TextReport>(
    data: D,
    lang: Lang,
    width: usize,
) -> String {
    let style = Style {
        lang,
        color: false,
        width,
        unicode: true,
    };
    let text = super::report(&report_of(data), Format::Text, &style).unwrap();
    for line in text.lines() {
        assert_eq!(width::width(line), width, "{line}");
    }
    text
}
