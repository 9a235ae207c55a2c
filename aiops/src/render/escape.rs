//! Text of other programs, made harmless for a terminal.

use std::borrow::Cow;

/// Escapes control characters, so that a hostile name cannot drive the terminal.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.chars().flat_map(char::escape_default).collect())
    } else {
        Cow::Borrowed(text)
    }
}
