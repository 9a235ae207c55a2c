//! Figures beside their budgets.

use std::fmt;

use crate::util::Tally;

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    /// A promise that was broken: the chore fails.
    Broken,
    /// A budget that depends on the machine and was not met on this one.
    Over,
    /// A figure without a budget, or one that was not taken.
    Plain,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<(String, String, String, Verdict)>,
}

impl Table {
    /// A figure that has to hold on every machine.
    pub(super) fn promise(&mut self, what: &str, figure: String, budget: &str, kept: bool) {
        let verdict = if kept { Verdict::Kept } else { Verdict::Broken };
        self.row(what, figure, budget, verdict);
    }

    /// A figure whose budget depends on the machine.
    pub(super) fn budget(&mut self, what: &str, figure: String, budget: &str, kept: bool) {
        let verdict = if kept { Verdict::Kept } else { Verdict::Over };
        self.row(what, figure, budget, verdict);
    }

    /// A figure alone.
    pub(super) fn figure(&mut self, what: &str, figure: String) {
        self.row(what, figure, "", Verdict::Plain);
    }

    fn row(&mut self, what: &str, figure: String, budget: &str, verdict: Verdict) {
        self.rows
            .push((what.to_owned(), figure, budget.to_owned(), verdict));
    }

    /// Promises kept and broken.
    pub(super) fn tally(&self) -> Tally {
        let count = |wanted: Verdict| {
            let rows = self.rows.iter().filter(|row| row.3 == wanted).count();
            u32::try_from(rows).unwrap_or(u32::MAX)
        };
        Tally {
            passed: count(Verdict::Kept),
            failed: count(Verdict::Broken),
            skipped: 0,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | measured | budget | |\n|---|---|---|---|")?;
        for (what, figure, budget, verdict) in &self.rows {
            let mark = match verdict {
                Verdict::Kept => "ok",
                Verdict::Broken => "**BROKEN**",
                Verdict::Over => "over on this machine",
                Verdict::Plain => "",
            };
            let figure = figure.replace('\n', " ").replace('|', "/");
            writeln!(f, "| {what} | {figure} | {budget} | {mark} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_broken_promises_fail() {
        let mut table = Table::default();
        table.promise("captured", "10 of 10".to_owned(), "all", true);
        table.budget("latency", "2 ms".to_owned(), "<1 ms", false);
        table.figure("size", "3 kB".to_owned());
        assert_eq!(table.tally().failed, 0);
        table.promise("lost", "1".to_owned(), "0", false);
        assert_eq!((table.tally().passed, table.tally().failed), (1, 1));
        assert!(table.to_string().contains("| lost | 1 | 0 | **BROKEN** |"));
    }
}
