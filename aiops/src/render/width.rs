//! Columns on a terminal: how wide text is, and how it is cut, padded and wrapped.
//!
//! CJK characters and emoji take two columns. Text is expected to be escaped (`escape::plain`) before.

use unicode_width::UnicodeWidthChar as _;

/// Columns of a character. The emoji selector U+FE0F makes a narrow symbol wide, so it counts itself.
fn char_width(c: char) -> usize {
    match c {
        '\u{fe0f}' => 1,
        c => c.width().unwrap_or(1),
    }
}

/// Columns of a text.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// The longest beginning that has at most `columns`, and the rest.
fn split_at(text: &str, columns: usize) -> (&str, &str) {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += char_width(c);
        if used > columns {
            return text.split_at(at);
        }
    }
    (text, "")
}

/// Cuts to at most `columns`; `mark` (`…`) stands for what was cut.
#[must_use]
pub fn truncate(text: &str, columns: usize, mark: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let kept = split_at(text, columns.saturating_sub(width(mark))).0;
    let mark = split_at(mark, columns).0;
    format!("{kept}{mark}")
}

/// Cuts a path in its middle to at most `columns`: its end, which tells most, stays.
#[must_use]
pub fn middle(text: &str, columns: usize, mark: &str) -> String {
    let room = columns.saturating_sub(width(mark));
    if width(text) <= columns || room < 2 {
        return truncate(text, columns, mark);
    }
    // Two thirds for the end.
    let (head, _) = split_at(text, room / 3);
    let end = room - width(head);
    let mut from = text.len();
    let mut used = 0;
    for (at, c) in text.char_indices().rev() {
        used += char_width(c);
        if used > end {
            break;
        }
        from = at;
    }
    format!("{head}{mark}{}", &text[from..])
}

/// Columns for a path in a table of so many.
#[must_use]
pub fn room(inner: usize) -> usize {
    (inner * 2 / 5).clamp(16, 56)
}

/// Fills up with blanks on the right (or on the left, for figures).
#[must_use]
pub fn pad(text: &str, columns: usize, right_aligned: bool) -> String {
    let blanks = " ".repeat(columns.saturating_sub(width(text)));
    if right_aligned {
        format!("{blanks}{text}")
    } else {
        format!("{text}{blanks}")
    }
}

/// Marks that must not begin a line.
const CLOSING: &str = "，。；：、！？）》」』”’,.;:!?)]}%";
/// Marks that must not end a line.
const OPENING: &str = "（《「『“‘([{";

/// Whether a line may be broken between two characters.
fn may_break(before: char, after: char) -> bool {
    if before == ' ' {
        return after != ' ';
    }
    let wide = char_width(before) == 2 || char_width(after) == 2;
    wide && after != ' ' && !CLOSING.contains(after) && !OPENING.contains(before)
}

/// Pieces between which a line may be broken; a blank stays at the end of its piece.
fn pieces(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut before = None;
    for (at, c) in text.char_indices() {
        if before.is_some_and(|before| may_break(before, c)) {
            out.push(&text[start..at]);
            start = at;
        }
        before = Some(c);
    }
    out.push(&text[start..]);
    out
}

/// Breaks into lines of at most `first` columns (the first) and `rest` columns (all others), at blanks
/// and between CJK characters where possible. Never empty; a limit below 2 counts as 2.
#[must_use]
pub fn wrap(text: &str, first: usize, rest: usize) -> Vec<String> {
    let (first, rest) = (first.max(2), rest.max(2));
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut limit = first;
    for piece in pieces(text) {
        let mut piece = piece;
        let fits = |line: &str, piece: &str, limit| width(line) + width(piece.trim_end()) <= limit;
        if !fits(&line, piece, limit) && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
            limit = rest;
        }
        while !fits("", piece, limit) {
            let (head, tail) = split_at(piece, limit);
            lines.push(head.to_owned());
            limit = rest;
            piece = tail;
        }
        line.push_str(piece);
    }
    lines.push(line);
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(width("内存 OOM"), 8);
        assert_eq!(width("🚨"), 2);
        assert_eq!(width("┃━▁█→–"), 6);
        assert_eq!(truncate("内存事件", 5, "…"), "内存…");
        assert_eq!(truncate("abcdef", 6, "…"), "abcdef");
        assert_eq!(truncate("abcdefg", 6, "..."), "abc...");
        assert_eq!(pad("内存", 6, true), "  内存");
    }

    #[test]
    fn lines_break_where_a_reader_expects() {
        assert_eq!(wrap("one two three", 8, 8), ["one two", "three"]);
        assert_eq!(
            wrap("进程内存持续增长，已达上限。", 16, 16),
            ["进程内存持续增", "长，已达上限。"]
        );
        assert_eq!(wrap("abcdefghij", 4, 6), ["abcd", "efghij"]);
        assert_eq!(wrap("", 4, 4), [""]);
        assert_eq!(wrap("a  b", 10, 10), ["a  b"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_too_wide(text in "[ -~内存🚨é/]{0,80}", first in 4usize..30, rest in 4usize..30) {
            let lines = wrap(&text, first, rest);
            for (index, line) in lines.iter().enumerate() {
                let limit = if index == 0 { first } else { rest };
                prop_assert!(UnicodeWidthStr::width(line.as_str()) <= limit, "{line:?}");
            }
            let squeeze = |text: &str| text.replace(' ', "");
            prop_assert_eq!(squeeze(&lines.concat()), squeeze(&text));
        }
    }
}
