//! Fields and lines of CSV (RFC 4180, but that lines end as the host's do).
//!
//! Texts are those of other programs: what could drive a terminal is escaped, and what a spreadsheet would take
//! for a formula has an apostrophe before it. Numbers stay as they are.

use std::borrow::Cow;

use super::escape;

/// A text as a field. One that is empty is quoted, too: nothing at all is unknown.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    let mut field = escape::plain(text);
    if field.starts_with(['=', '+', '-', '@']) {
        field = Cow::Owned(format!("'{field}"));
    }
    let plain = !field.is_empty() && !field.contains(['"', ',']);
    if plain && field.trim() == field {
        return field;
    }
    Cow::Owned(format!("\"{}\"", field.replace('"', "\"\"")))
}

/// A text that may not be there.
pub(super) fn maybe(field: Option<&str>) -> String {
    field.map_or_else(String::new, |field| text(field).into_owned())
}

/// A number that may not be known.
pub(super) fn number<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// A line of fields.
pub(super) fn line<T: AsRef<str>>(cells: impl IntoIterator<Item = T>, text: &mut String) {
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(cell.as_ref());
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_and_harmless() {
        assert_eq!(text("nginx: worker"), "nginx: worker");
        assert_eq!(text("a,b \"c\""), "\"a,b \"\"c\"\"\"");
        assert_eq!(text("a\nb\x1b[2J"), r"a\nb\x1b[2J");
        assert_eq!(text(""), "\"\"");
        assert_eq!(text(" x"), "\" x\"");
        assert_eq!(text("=1+1"), "'=1+1");
        assert_eq!(text("@a,b"), "\"'@a,b\"");
        assert_eq!(text("-bash"), "'-bash");
        assert_eq!(maybe(None), "");
        assert_eq!(number(Some(-5)), "-5");
    }
}
