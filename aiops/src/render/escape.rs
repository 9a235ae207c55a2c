//! Text of other programs, made harmless for a terminal.
//!
//! A process chooses its name, its arguments and its paths, so each may hold codes that move the cursor,
//! start a new line, or (bidirectional overrides, invisible characters) make a line read as another one.

use std::borrow::Cow;

/// Whether a character may drive a terminal or hide or reorder what stands around it.
#[must_use]
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{00ad}' // soft hyphen
            | '\u{061c}' // Arabic letter mark
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers: blank, yet no space
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}' // zero width, left-to-right and right-to-left marks
            | '\u{2028}'..='\u{202e}' // line and paragraph separators, embeddings, overrides
            | '\u{2060}'..='\u{206f}' // word joiner, invisible operators, isolates
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' // interlinear annotation
            | '\u{e0000}'..='\u{e0fff}' // tags, variation selectors supplement
        )
}

/// Escapes hostile characters: `\n`, `\x1b`, `\u{202e}`. Everything else stays as it is.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii() && is_hostile(c) => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_hostile(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_drives_the_terminal() {
        assert_eq!(plain("\x1b[31mred\x07"), r"\x1b[31mred\x07");
        assert_eq!(plain("a\nb\tc\rd\0\x7f"), r"a\nb\tc\rd\x00\x7f");
        assert_eq!(plain("\u{9b}2J"), r"\u{9b}2J");
        assert_eq!(plain("abc\u{202e}txt.exe"), r"abc\u{202e}txt.exe");
        assert_eq!(plain("a\u{200b}b\u{feff}"), r"a\u{200b}b\u{feff}");
        assert!(matches!(plain("数据库 é 🚀"), Cow::Borrowed("数据库 é 🚀")));
    }

    proptest! {
        #[test]
        fn the_result_is_harmless_and_stable(text in any::<String>()) {
            let once = plain(&text).into_owned();
            prop_assert!(!once.chars().any(is_hostile));
            prop_assert_eq!(plain(&once).into_owned(), once.clone());
        }
    }
}
