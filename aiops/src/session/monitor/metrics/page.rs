//! How a metric is written: OpenMetrics 1.0, or the text format 0.0.4 that came before it.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::render::escape;

/// The media type of OpenMetrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text";

/// Which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Text,
}

impl Form {
    /// Value of the Content-Type header.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    /// Its samples end with `_total`.
    Counter,
    /// Always 1, what matters is in the labels; its sample ends with `_info`.
    Info,
}

/// Metrics of one name.
#[derive(Debug)]
pub(super) struct Family {
    /// With the unit, without `_total` and `_info`.
    pub(super) name: Cow<'static, str>,
    pub(super) kind: Kind,
    pub(super) help: Cow<'static, str>,
    pub(super) samples: Vec<(Labels, Number)>,
}

/// A value as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(u64),
    Part(f64),
}

/// Labels with their values, escaped, without the braces.
pub(super) type Labels = String;

pub(super) fn labels(pairs: &[(&str, &str)]) -> Labels {
    let mut out = String::new();
    for (name, value) in pairs {
        let comma = if out.is_empty() { "" } else { "," };
        // First harmless for a terminal, which leaves no line break; then the format's own escapes.
        let value = escape::plain(value)
            .replace('\\', "\\\\")
            .replace('"', "\\\"");
        let _ = write!(out, "{comma}{name}=\"{value}\"");
    }
    out
}

/// Adds families in order; those without a sample are left out.
pub(super) struct Page<'a> {
    pub(super) form: Form,
    pub(super) out: &'a mut String,
}

impl Page<'_> {
    pub(super) fn add(&mut self, family: &Family) {
        let sound = |number: Number| !matches!(number, Number::Part(part) if !part.is_finite());
        let mut samples = family
            .samples
            .iter()
            .filter(|(_, number)| sound(*number))
            .peekable();
        if samples.peek().is_none() {
            return;
        }
        let end = match family.kind {
            Kind::Gauge => "",
            Kind::Counter => "_total",
            Kind::Info => "_info",
        };
        let name = &family.name;
        let (head_end, kind) = match (self.form, family.kind) {
            (_, Kind::Gauge) => ("", "gauge"),
            (Form::OpenMetrics, Kind::Counter) => ("", "counter"),
            (Form::OpenMetrics, Kind::Info) => ("", "info"),
            (Form::Text, Kind::Counter) => (end, "counter"),
            (Form::Text, Kind::Info) => (end, "gauge"),
        };
        let units = ["bytes", "seconds", "ratio"];
        let unit = units.iter().find(|unit| name.ends_with(**unit));
        // A string takes any text, so that no write below can fail.
        let _ = writeln!(self.out, "# TYPE {name}{head_end} {kind}");
        if let (Form::OpenMetrics, Some(unit)) = (self.form, unit) {
            let _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.out, "# HELP {name}{head_end} {}", family.help);
        for (labels, number) in samples {
            let _ = write!(self.out, "{name}{end}");
            if !labels.is_empty() {
                let _ = write!(self.out, "{{{labels}}}");
            }
            let _ = match number {
                Number::Whole(whole) => writeln!(self.out, " {whole}"),
                Number::Part(part) => writeln!(self.out, " {part}"),
            };
        }
    }

    /// A family with one sample, if its value is known.
    pub(super) fn one(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        value: Option<Number>,
    ) {
        let samples = value.map(|value| (Labels::new(), value));
        self.add(&Family {
            name: name.into(),
            kind,
            help: help.into(),
            samples: samples.into_iter().collect(),
        });
    }
}
