//! JSON: objects, one language of every message, strings that cannot drive a terminal.
//!
//! Members whose rows are many and small ([`ROWS`]) stand one row to a line, so that a report can be read
//! and compared with `diff`.

use std::fmt::Write as _;
use std::io;
use std::io::Write;

use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use super::Lang;
use super::Result;
use super::escape;
use crate::report::MSG_EN;
use crate::report::MSG_ZH;

/// Lists whose elements stand on one line each, however long.
const ROWS: [&str; 8] = [
    "before",
    "candidates",
    "timeline",
    "trigger_kernel",
    "trigger_user",
    "victim_user",
    "victim_kernel",
    "cgroups",
];
/// What is shorter than this stands on one line.
const SHORT: usize = 90;

/// Anything as JSON, its messages in one language.
pub(super) fn value<T: Serialize>(data: &T, lang: Lang) -> Result<Value> {
    let mut value = serde_json::to_value(data)?;
    choose(&mut value, lang);
    Ok(value)
}

/// One line, `{"type":kind,…}`, with its newline.
pub(super) fn line<T: Serialize>(kind: &str, data: &T, lang: Lang) -> Result<String> {
    let mut object = Map::new();
    object.insert("type".to_owned(), Value::String(kind.to_owned()));
    match value(data, lang)? {
        Value::Object(members) => object.extend(members),
        other => drop(object.insert("data".to_owned(), other)),
    }
    let mut out = String::new();
    compact(&Value::Object(object), "", &mut out);
    out.push('\n');
    Ok(out)
}

/// Indented, with its newline.
pub(super) fn pretty(value: &Value) -> String {
    let mut out = String::new();
    indented(value, 0, &mut out);
    out.push('\n');
    out
}

/// Rows of a list, made one by one.
pub(super) type List<'a> = (&'static str, Box<dyn Iterator<Item = Result<Value>> + 'a>);

/// Indented, with rows of lists that are empty in `whole`, in their order: a row a line, written as it is made.
pub(super) fn streamed(whole: &Value, lists: Vec<List<'_>>, out: &mut dyn Write) -> io::Result<()> {
    let text = pretty(whole);
    let mut rest = text.as_str();
    for (name, rows) in lists {
        // A key: in a string, quotes are escaped.
        let key = format!("\"{name}\": [");
        let Some((before, behind)) = rest.split_once(&format!("{key}]")) else {
            continue;
        };
        write!(out, "{before}{key}")?;
        let mut line = String::new();
        for (at, row) in rows.enumerate() {
            line.clear();
            line.push_str(if at == 0 { "\n      " } else { ",\n      " });
            compact(&row.map_err(io::Error::other)?, " ", &mut line);
            out.write_all(line.as_bytes())?;
        }
        out.write_all(if line.is_empty() { b"]" } else { b"\n    ]" })?;
        rest = behind;
    }
    out.write_all(rest.as_bytes())
}

/// Replaces every message by its text in one language.
fn choose(value: &mut Value, lang: Lang) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| choose(item, lang)),
        Value::Object(members) => {
            let key = match lang {
                Lang::En => MSG_EN,
                Lang::Zh => MSG_ZH,
            };
            let is_message =
                members.len() == 2 && members.contains_key(MSG_EN) && members.contains_key(MSG_ZH);
            if is_message {
                *value = members.remove(key).unwrap_or_default();
            } else {
                members.values_mut().for_each(|member| choose(member, lang));
            }
        }
        _ => {}
    }
}

/// A text, quoted.
pub(super) fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if escape::is_hostile(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// On one line; `gap` stands after `:` and `,`.
pub(super) fn compact(value: &Value, gap: &str, out: &mut String) {
    let _whole = within(value, gap, usize::MAX, out);
}

/// On one line, unless `out` grows beyond `most` bytes: then false, and what was written is of no use.
fn within(value: &Value, gap: &str, most: usize, out: &mut String) -> bool {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => {
            // Writing into a string cannot fail.
            let _ = write!(out, "{number}");
        }
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(index, gap, out);
                if !within(item, gap, most, out) {
                    return false;
                }
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                separate(index, gap, out);
                string(key, out);
                out.push(':');
                out.push_str(gap);
                if !within(member, gap, most, out) {
                    return false;
                }
            }
            out.push('}');
        }
    }
    out.len() <= most
}

fn separate(index: usize, gap: &str, out: &mut String) {
    if index > 0 {
        out.push(',');
        out.push_str(gap);
    }
}

fn indented(value: &Value, depth: usize, out: &mut String) {
    if !(value.is_array() || value.is_object()) {
        compact(value, " ", out);
        return;
    }
    let begin = out.len();
    if within(value, " ", begin + SHORT.saturating_sub(2 * depth), out) {
        return;
    }
    out.truncate(begin);
    match value {
        Value::Array(items) => block('[', ']', depth, items, out, |item, out| {
            indented(item, depth + 1, out);
        }),
        Value::Object(members) => block('{', '}', depth, members, out, |(key, member), out| {
            string(key, out);
            out.push_str(": ");
            match member {
                Value::Array(rows) if ROWS.contains(&key.as_str()) && !rows.is_empty() => {
                    block('[', ']', depth + 1, rows, out, |row, out| {
                        compact(row, " ", out);
                    });
                }
                _ => indented(member, depth + 1, out),
            }
        }),
        _ => {}
    }
}

/// One element per line between brackets.
fn block<T>(
    open: char,
    close: char,
    depth: usize,
    items: impl IntoIterator<Item = T>,
    out: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        out.push_str(&"  ".repeat(depth + 1));
        write(item, out);
    }
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
    out.push(close);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::msg;

    #[test]
    fn messages_come_in_one_language() {
        #[derive(Serialize)]
        struct Data {
            title: crate::report::Msg,
            all: Vec<crate::report::Msg>,
        }
        let n = 3;
        let data = Data {
            title: msg!("{n} kills", "{n} 次"),
            all: vec![msg!("a", "甲")],
        };
        assert_eq!(
            value(&data, Lang::En).unwrap(),
            json!({"title": "3 kills", "all": ["a"]})
        );
        assert_eq!(
            value(&data, Lang::Zh).unwrap(),
            json!({"title": "3 次", "all": ["甲"]})
        );
    }

    #[test]
    fn rows_stand_on_one_line_each() {
        let long = "x".repeat(60);
        let value = json!({"a": 1, "before": [{"t_ms": -1.5, "top": [{"comm": long}, {"comm": long}]}, {}], "none": [], "list": [long, long]});
        let expected = format!(
            "{{\n  \"a\": 1,\n  \"before\": [\n    {{\"t_ms\": -1.5, \"top\": [{{\"comm\": \"{long}\"}}, {{\"comm\": \"{long}\"}}]}},\n    {{}}\n  ],\n  \"none\": [],\n  \"list\": [\n    \"{long}\",\n    \"{long}\"\n  ]\n}}\n"
        );
        assert_eq!(pretty(&value), expected);
    }

    #[test]
    fn hostile_text_is_escaped_and_comes_back() {
        let name = "\x1b[2J\u{9b}\u{202e}\u{e0041}\n\"\\\u{7f}";
        let text = line("t", &json!({"name": name}), Lang::En).unwrap();
        assert_eq!(
            text,
            "{\"type\":\"t\",\"name\":\"\\u001b[2J\\u009b\\u202e\\udb40\\udc41\\n\\\"\\\\\\u007f\"}\n"
        );
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["name"], name);
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let value = json!({"before": [text.clone()], text.clone(): text});
            let back: Value = serde_json::from_str(&pretty(&value)).unwrap();
            prop_assert_eq!(&back, &value);
            let line = line("t", &json!({"v": value}), Lang::En).unwrap();
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert!(!line.trim_end().chars().any(escape::is_hostile));
            let back: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&back["v"], &value);
        }
    }
}
