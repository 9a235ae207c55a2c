//! How text looks on this terminal: language, colours, width, which characters it can draw.

use super::lang::Lang;

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set or the terminal is dumb.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How text is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// Language of words and messages.
    pub lang: Lang,
    /// ANSI colours.
    pub color: bool,
    /// Columns that a line may have.
    pub width: usize,
    /// Box-drawing characters, block characters and emoji; else ASCII.
    pub unicode: bool,
}

/// Narrowest layout; narrower terminals wrap by themselves.
const MIN_WIDTH: usize = 40;
/// Widest layout: longer lines are hard to read.
const MAX_WIDTH: usize = 120;
/// Where no terminal says how wide it is.
const DEFAULT_WIDTH: usize = 100;

impl Style {
    /// The style for stdout. `env` looks up environment variables; `columns` is the terminal's width,
    /// `None` when stdout is no terminal or does not say.
    pub fn choose(
        lang: Lang,
        color: Color,
        env: impl Fn(&str) -> Option<String>,
        is_terminal: bool,
        columns: Option<usize>,
    ) -> Self {
        let term = env("TERM").unwrap_or_default();
        let no_color = env("NO_COLOR").is_some_and(|value| !value.is_empty());
        let asked = env("COLUMNS").and_then(|text| text.parse().ok());
        let width = columns.filter(|columns| *columns > 0).or(asked);
        Self {
            lang,
            color: match color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => is_terminal && !no_color && term != "dumb",
            },
            width: width.unwrap_or(DEFAULT_WIDTH).clamp(MIN_WIDTH, MAX_WIDTH),
            // Chinese is never ASCII: whoever asked for it has a terminal that draws boxes too.
            unicode: (super::lang::is_utf8(&env) || lang == Lang::Zh)
                && !(is_terminal && matches!(term.as_str(), "dumb" | "linux")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let on = |color, pairs, tty| Style::choose(Lang::En, color, env(pairs), tty, None).color;
        assert!(on(Color::Auto, &[("TERM", "xterm")], true));
        assert!(!on(Color::Auto, &[("TERM", "xterm")], false));
        assert!(!on(Color::Auto, &[("NO_COLOR", "1")], true));
        assert!(on(Color::Auto, &[("NO_COLOR", "")], true));
        assert!(!on(Color::Auto, &[("TERM", "dumb")], true));
        assert!(on(Color::Always, &[("NO_COLOR", "1")], false));
        assert!(!on(Color::Never, &[], true));
    }

    #[test]
    fn boxes_need_a_terminal_that_draws_them() {
        let boxes = |lang, pairs| Style::choose(lang, Color::Auto, env(pairs), true, None).unicode;
        assert!(boxes(Lang::En, &[("LANG", "en_US.UTF-8")]));
        assert!(boxes(Lang::En, &[("LC_ALL", "C.utf8"), ("LANG", "C")]));
        assert!(!boxes(Lang::En, &[("LANG", "C")]));
        assert!(!boxes(Lang::En, &[]));
        assert!(!boxes(
            Lang::En,
            &[("LC_ALL", "POSIX"), ("LANG", "en_US.UTF-8")]
        ));
        assert!(!boxes(
            Lang::En,
            &[("LANG", "en_US.UTF-8"), ("TERM", "linux")]
        ));
        assert!(boxes(Lang::Zh, &[]));
        assert!(!boxes(Lang::Zh, &[("TERM", "dumb")]));
    }

    #[test]
    fn width_is_bounded() {
        let width =
            |pairs, columns| Style::choose(Lang::En, Color::Auto, env(pairs), true, columns).width;
        assert_eq!(width(&[], None), DEFAULT_WIDTH);
        assert_eq!(width(&[("COLUMNS", "72")], None), 72);
        assert_eq!(width(&[("COLUMNS", "72")], Some(90)), 90);
        assert_eq!(width(&[], Some(0)), DEFAULT_WIDTH);
        assert_eq!(width(&[], Some(3)), MIN_WIDTH);
        assert_eq!(width(&[], Some(400)), MAX_WIDTH);
    }
}
