//! Reports for people and programs: text in two languages, JSON, JSON lines.
//!
//! [`report`] turns one [`Report`] into one of three formats. Text goes through [`text::Out`] alone,
//! which escapes every character that could drive a terminal and keeps every line inside the
//! terminal's width; JSON goes through [`json`], which escapes the same characters. So whatever a traced
//! program calls itself, no renderer has to think of it.

mod account;
mod alloc;
mod anomaly;
mod cache;
mod collect;
pub mod csv;
mod curve;
mod diff;
mod doctor;
pub mod escape;
mod export;
mod findings;
mod frames;
mod health;
mod inspect;
mod json;
pub mod lang;
mod leak;
mod leaks;
mod monitor;
mod oom;
pub mod plot;
mod processes;
mod query;
mod risk;
mod stalls;
mod store;
pub mod style;
mod swap;
mod swapping;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;
pub mod units;
pub mod width;

pub use inspect::reading as inspect_reading;
pub use inspect::reading_line as inspect_reading_line;
pub use inspect::reason as inspect_reason;
pub use inspect::write_json as inspect_json;
pub use lang::Lang;
pub use oom::live as incident_live;
pub use query::history;
pub use style::Color;
pub use style::Style;

use serde::Serialize;

use crate::report::Report;
use crate::report::oom::Incident;

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object, indented.
    Json,
    /// One object per line, as things happen; the last has `"type":"report"`.
    Jsonl,
    /// One table, for spreadsheets: only what has one.
    Csv,
}

/// A report could not be written as JSON: its data has a map with keys that are no strings.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the report as JSON")]
pub struct Error(#[from] serde_json::Error);

/// Result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Data that can be shown to people.
pub trait TextReport: Sized {
    /// Writes the whole report.
    fn text(report: &Report<Self>, out: &mut text::Out);

    /// Its one table as CSV; `None`: it has none.
    fn csv(_: &Report<Self>) -> Option<String> {
        None
    }
}

/// A whole report, with the newline at its end. Texts in JSON are in the style's language.
pub fn report<D: Serialize + TextReport>(
    report: &Report<D>,
    format: Format,
    style: &Style,
) -> Result<String> {
    match format {
        Format::Text => {
            let mut out = text::Out::framed(style);
            D::text(report, &mut out);
            Ok(out.finish())
        }
        Format::Json => Ok(json::pretty(&json::value(report, style.lang)?)),
        Format::Jsonl => json::line("report", report, style.lang),
        Format::Csv => Ok(D::csv(report).unwrap_or_default()),
    }
}

/// A record of a live command as one line of JSON, `{"type":kind,…}`, with its newline.
pub fn record_line<T: Serialize>(kind: &str, record: &T, lang: Lang) -> Result<String> {
    json::line(kind, record, lang)
}

/// A text as JSON, quoted and harmless, behind what `out` holds.
pub fn json_text(text: &str, out: &mut String) {
    json::string(text, out);
}

/// An incident as one line of JSON, `{"type":"incident",…}`, with its newline.
pub fn incident_line(incident: &Incident, lang: Lang) -> Result<String> {
    json::line("incident", incident, lang)
}
