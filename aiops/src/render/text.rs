//! The page: a frame, headings, pairs, lists and tables, none wider than the terminal.
//!
//! Every text that is printed passes [`Out::clean`], the one place where it is made harmless.

use super::escape;
use super::lang::Lang;
use super::style::Style;
use super::width;

/// How a line stands out. Without colours all are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paint {
    /// Not at all.
    #[default]
    Plain,
    /// Headings.
    Bold,
    /// Of less weight.
    Dim,
    /// All is well.
    Good,
    /// Look here.
    Warn,
    /// Bad.
    Bad,
}

impl Paint {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("\x1b[1m"),
            Self::Dim => Some("\x1b[2m"),
            Self::Good => Some("\x1b[32m"),
            Self::Warn => Some("\x1b[33m"),
            Self::Bad => Some("\x1b[1;31m"),
        }
    }
}

/// A column of a [`Table`].
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading.
    pub title: &'static str,
    /// Figures stand on the right.
    pub figures: bool,
    /// May be cut to this many columns; `None`: never cut.
    pub least: Option<usize>,
    /// Left out on a narrow terminal: highest first; 0 stays.
    pub drop: u8,
}

impl Column {
    /// A column of figures.
    #[must_use]
    pub fn figures(title: &'static str, drop: u8) -> Self {
        Self {
            title,
            figures: true,
            least: None,
            drop,
        }
    }

    /// A column of text that may be cut.
    #[must_use]
    pub fn text(title: &'static str, least: usize, drop: u8) -> Self {
        Self {
            title,
            figures: false,
            least: Some(least),
            drop,
        }
    }
}

/// Rows under headings.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Columns.
    pub columns: Vec<Column>,
    /// Cells, one for each column.
    pub rows: Vec<(Paint, Vec<String>)>,
}

/// A text being laid out.
#[derive(Debug)]
pub struct Out {
    style: Style,
    framed: bool,
    text: String,
}

/// Blanks between the columns of a table.
const GAP: usize = 2;

impl Out {
    /// A page with a frame around it: first [`Self::title`], then lines.
    #[must_use]
    pub fn framed(style: &Style) -> Self {
        Self {
            style: style.clone(),
            framed: true,
            text: String::new(),
        }
    }

    /// Lines without a frame.
    #[must_use]
    pub fn bare(style: &Style) -> Self {
        Self {
            style: style.clone(),
            framed: false,
            text: String::new(),
        }
    }

    /// Language of this page.
    #[must_use]
    pub fn lang(&self) -> Lang {
        self.style.lang
    }

    /// Whether characters beyond ASCII may be drawn.
    #[must_use]
    pub fn unicode(&self) -> bool {
        self.style.unicode
    }

    /// Columns inside the frame.
    #[must_use]
    pub fn inner(&self) -> usize {
        self.style
            .width
            .saturating_sub(if self.framed { 4 } else { 0 })
    }

    /// Closes the frame.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.framed {
            self.edge(if self.style.unicode {
                "└─┘"
            } else {
                "+-+"
            });
        }
        self.text
    }

    /// The heavy title with a text at its right end.
    pub fn title(&mut self, left: &str, right: &str) {
        let (top, bar, bottom) = if self.style.unicode {
            ("┏━┓", "┃", "┡━┩")
        } else {
            ("+=+", "|", "+=+")
        };
        let (left, right) = (self.clean(left), self.clean(right));
        let room = self.inner().saturating_sub(width::width(&right) + 2);
        let left = width::truncate(&left, room, self.ellipsis());
        let right = width::pad(&right, self.inner() - width::width(&left), true);
        self.edge(top);
        let line = format!("{}{right}", self.painted(Paint::Bold, &left));
        self.text.push_str(&format!("{bar} {line} {bar}\n"));
        self.edge(bottom);
    }

    /// A line across; nothing without a frame.
    pub fn rule(&mut self) {
        if self.framed {
            self.edge(if self.style.unicode {
                "├─┤"
            } else {
                "+-+"
            });
        }
    }

    /// An empty line.
    pub fn blank(&mut self) {
        self.row(Paint::Plain, "");
    }

    /// A heading; the icon only where it can be drawn.
    pub fn heading(&mut self, icon: &str, text: &str) {
        let text = if self.style.unicode {
            format!("{icon} {text}")
        } else {
            text.to_owned()
        };
        self.hang(0, 3, Paint::Bold, &text);
    }

    /// A line, wrapped under its own beginning.
    pub fn line(&mut self, indent: usize, paint: Paint, text: &str) {
        self.hang(indent, indent, paint, text);
    }

    /// A line, wrapped at another indent.
    pub fn hang(&mut self, indent: usize, rest: usize, paint: Paint, text: &str) {
        self.limited(indent, rest, paint, text, usize::MAX);
    }

    /// A line of which at most `lines` are shown.
    pub fn limited(&mut self, indent: usize, rest: usize, paint: Paint, text: &str, lines: usize) {
        let text = self.clean(text);
        let inner = self.inner();
        let mut wrapped = width::wrap(
            &text,
            inner.saturating_sub(indent),
            inner.saturating_sub(rest),
        );
        if wrapped.len() > lines {
            wrapped.truncate(lines);
            if let Some(last) = wrapped.last_mut() {
                let room = inner.saturating_sub(rest.max(indent) + width::width(self.ellipsis()));
                *last = width::truncate(last, room, "") + self.ellipsis();
            }
        }
        for (index, line) in wrapped.iter().enumerate() {
            let indent = if index == 0 { indent } else { rest };
            self.row(paint, &format!("{}{line}", " ".repeat(indent)));
        }
    }

    /// `  label: value`.
    pub fn pair(&mut self, indent: usize, label: &str, value: &str) {
        let colon = self.colon();
        self.hang(
            indent,
            indent + 4,
            Paint::Plain,
            &format!("{label}{colon}{value}"),
        );
    }

    /// `  1. text` for each text.
    pub fn numbered<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        for (index, text) in texts.into_iter().enumerate() {
            let number = format!("{}. ", index + 1);
            let rest = 2 + number.len();
            self.hang(2, rest, Paint::Plain, &format!("{number}{text}"));
        }
    }

    /// A table, indented by 2. Columns are cut and left out until it fits.
    pub fn table(&mut self, table: &Table) {
        let cells: Vec<(Paint, Vec<String>)> = table
            .rows
            .iter()
            .map(|(paint, row)| (*paint, row.iter().map(|cell| self.clean(cell)).collect()))
            .collect();
        let shown = fit(&table.columns, &cells, self.inner().saturating_sub(2));
        let titles: Vec<String> = table
            .columns
            .iter()
            .map(|column| column.title.to_owned())
            .collect();
        self.table_row(Paint::Dim, &titles, &table.columns, &shown);
        for (paint, row) in &cells {
            self.table_row(*paint, row, &table.columns, &shown);
        }
    }

    fn table_row(
        &mut self,
        paint: Paint,
        row: &[String],
        columns: &[Column],
        shown: &[Option<usize>],
    ) {
        let mut line = String::from("  ");
        let mut first = true;
        for ((cell, column), columns) in row.iter().zip(columns).zip(shown) {
            let Some(columns) = *columns else { continue };
            if !std::mem::take(&mut first) {
                line.push_str(&" ".repeat(GAP));
            }
            let cell = width::truncate(cell, columns, self.ellipsis());
            line.push_str(&width::pad(&cell, columns, column.figures));
        }
        self.row(paint, line.trim_end());
    }

    /// A separator between a label and its value.
    #[must_use]
    pub fn colon(&self) -> &'static str {
        ": "
    }

    /// Stands for what was cut.
    #[must_use]
    pub fn ellipsis(&self) -> &'static str {
        if self.style.unicode { "…" } else { "..." }
    }

    /// Harmless, and in ASCII where only that can be drawn.
    fn clean(&self, text: &str) -> String {
        let text = escape::plain(text);
        if self.style.unicode {
            return text.into_owned();
        }
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '–' | '—' | '−' => out.push('-'),
                '×' => out.push('x'),
                'µ' | 'μ' => out.push('u'),
                '→' => out.push_str("->"),
                '…' => out.push_str("..."),
                '‰' => out.push_str("/1000"),
                '≥' => out.push_str(">="),
                '≤' => out.push_str("<="),
                '≈' => out.push('~'),
                '·' => out.push('|'),
                '“' | '”' => out.push('"'),
                '‘' | '’' => out.push('\''),
                c => out.push(c),
            }
        }
        out
    }

    fn painted(&self, paint: Paint, text: &str) -> String {
        match paint.code() {
            Some(code) if self.style.color && !text.is_empty() => format!("{code}{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }

    /// One line of the page; `text` is clean and fits.
    fn row(&mut self, paint: Paint, text: &str) {
        let line = self.painted(paint, text);
        if self.framed {
            let bar = if self.style.unicode { "│" } else { "|" };
            let blanks = " ".repeat(self.inner().saturating_sub(width::width(text)));
            self.text.push_str(&format!("{bar} {line}{blanks} {bar}\n"));
        } else {
            self.text.push_str(&line);
            self.text.push('\n');
        }
    }

    /// A line of the frame: left end, middle, right end.
    fn edge(&mut self, marks: &str) {
        let mut marks = marks.chars();
        let mut next = || marks.next().unwrap_or('-');
        let (left, middle, right) = (next(), next(), next());
        self.text.push(left);
        self.text.extend(std::iter::repeat_n(
            middle,
            self.style.width.saturating_sub(2),
        ));
        self.text.push(right);
        self.text.push('\n');
    }
}

/// An RFC 3339 time for people, to the second: `2026-11-23 10:00:00`. Another text stays as it is.
pub(super) fn clock(time: &str) -> String {
    match (time.get(..10), time.get(11..19), time.as_bytes().get(10)) {
        (Some(date), Some(clock), Some(b'T')) => format!("{date} {clock}"),
        _ => time.to_owned(),
    }
}

/// Width of each column, `None` for those left out, so that all fit into `room`.
fn fit(columns: &[Column], rows: &[(Paint, Vec<String>)], room: usize) -> Vec<Option<usize>> {
    let widest = |index: usize| {
        rows.iter()
            .filter_map(|(_, row)| row.get(index))
            .map(|cell| width::width(cell))
            .max()
    };
    // A column that is empty in every row says nothing.
    let mut natural: Vec<Option<usize>> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = widest(index).unwrap_or(0);
            (cells > 0).then(|| cells.max(width::width(column.title)))
        })
        .collect();
    let mut widths = natural.clone();
    let total = |widths: &[Option<usize>]| {
        let shown = widths.iter().flatten();
        shown.clone().sum::<usize>() + GAP * shown.count().saturating_sub(1)
    };
    loop {
        let excess = total(&widths).saturating_sub(room);
        if excess == 0 {
            return widths;
        }
        let slack = |index: usize, width: Option<usize>| {
            Some(width?.saturating_sub(columns[index].least?.max(2)))
        };
        let widest = (0..widths.len()).max_by_key(|index| slack(*index, widths[*index]));
        if let Some((index, spare)) =
            widest.and_then(|index| Some((index, slack(index, widths[index])?)))
            && spare > 0
        {
            widths[index] = widths[index].map(|width| width - spare.min(excess));
            continue;
        }
        let candidates =
            (0..widths.len()).filter(|index| widths[*index].is_some() && columns[*index].drop > 0);
        let Some(index) = candidates.max_by_key(|index| columns[*index].drop) else {
            // Nothing may be cut or left out any more: cut the last column that is shown.
            if let Some(width) = widths.iter_mut().flatten().rfind(|width| **width > 2) {
                *width = width.saturating_sub(excess).max(2);
                continue;
            }
            return widths;
        };
        // The others may have their whole width again.
        natural[index] = None;
        widths.clone_from(&natural);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(width: usize) -> Style {
        Style {
            lang: Lang::En,
            color: false,
            width,
            unicode: true,
        }
    }

    fn table() -> Table {
        let row = |name: &str| {
            vec![
                "1234".to_owned(),
                name.to_owned(),
                "64 MiB".to_owned(),
                "note".to_owned(),
            ]
        };
        Table {
            columns: vec![
                Column::figures("PID", 0),
                Column::text("Name", 6, 0),
                Column::figures("RSS", 1),
                Column::text("Note", 4, 2),
            ],
            rows: vec![
                (Paint::Plain, row("postgres: writer")),
                (Paint::Bad, row("a\x1b[0mb")),
            ],
        }
    }

    #[test]
    fn tables_cut_first_and_leave_out_last() {
        let print = |width| {
            let mut out = Out::bare(&style(width));
            out.table(&table());
            out.finish()
        };
        assert_eq!(
            print(60),
            "   PID  Name                 RSS  Note\n  1234  postgres: writer  64 MiB  note\n  1234  a\\x1b[0mb         64 MiB  note\n"
        );
        assert_eq!(
            print(32),
            "   PID  Name           RSS  Note\n  1234  postgres:…  64 MiB  note\n  1234  a\\x1b[0mb   64 MiB  note\n"
        );
        assert_eq!(
            print(18),
            "   PID  Name\n  1234  postgres:…\n  1234  a\\x1b[0mb\n"
        );
    }

    #[test]
    fn colours_are_around_the_same_text() {
        let mut plain = Out::framed(&style(60));
        let mut colored = Out::framed(&Style {
            color: true,
            ..style(60)
        });
        for out in [&mut plain, &mut colored] {
            out.title("Title", "now");
            out.heading("🚨", "Killed");
            out.line(2, Paint::Bad, "bad");
            out.table(&table());
        }
        let mut text = colored.finish();
        assert!(text.contains("\x1b[1;31m"));
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[1;31m"] {
            text = text.replace(code, "");
        }
        assert_eq!(text, plain.finish());
    }

    #[test]
    fn long_lines_are_cut_where_asked() {
        let mut out = Out::bare(&style(40));
        out.limited(2, 4, Paint::Plain, &"word ".repeat(40), 2);
        let text = out.finish();
        assert_eq!(text.lines().count(), 2);
        assert!(text.trim_end().ends_with('…'), "{text}");
        assert!(text.lines().all(|line| width::width(line) <= 40), "{text}");
    }
}
