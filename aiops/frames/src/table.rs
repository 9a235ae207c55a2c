//! A wide table: a row for each group, a column for each step of time.

use std::collections::HashMap;
use std::ops::Range;

use crate::FrameError;
use crate::GroupRow;
use crate::Runs;
use crate::sweep;
use crate::sweep::Member;
use crate::sweep::Stretch;
use crate::sweep::Visit;

/// Average totals of some groups, step by step, in the making.
#[derive(Debug)]
pub struct Table {
    rows: HashMap<Vec<Option<String>>, Vec<Cell>>,
    /// First ticks of the steps.
    starts: Vec<u32>,
    /// Ticks that were seen of each step.
    ticks: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    sum: i128,
    unknown: u64,
}

impl Table {
    /// For these groups; `starts` are the first ticks of the steps, in order. The last step goes on to the
    /// end of the range.
    #[must_use]
    pub fn new(wanted: &[GroupRow], starts: Vec<u32>) -> Self {
        let cells = vec![Cell::default(); starts.len()];
        let rows = wanted.iter().map(|row| (row.keys.clone(), cells.clone()));
        Self {
            rows: rows.collect(),
            ticks: vec![0; starts.len()],
            starts,
        }
    }

    /// Takes a piece.
    ///
    /// # Errors
    /// It makes no sense, or a total is too large.
    pub fn add(&mut self, runs: &Runs) -> Result<(), FrameError> {
        self.add_in(runs, sweep::MOST_ROWS)
    }

    fn add_in(&mut self, runs: &Runs, most_rows: usize) -> Result<(), FrameError> {
        for (at, part) in parts(&self.starts, runs.ticks.clone()) {
            self.ticks[at] += u64::from(part);
        }
        let mut piece = Piece {
            runs,
            into: self,
            found: HashMap::new(),
        };
        sweep::sweep(runs, most_rows, &mut piece)
    }

    /// Adds ticks to a step on which no process was there.
    pub fn nobody(&mut self, step: usize, ticks: u64) {
        if let Some(of) = self.ticks.get_mut(step) {
            *of += ticks;
        }
    }

    /// The averages of a group, one for each step. `None`: no tick of that step was seen, or the figure was
    /// not known on any of them.
    #[must_use]
    pub fn row(&self, keys: &[Option<String>]) -> Option<Vec<Option<f64>>> {
        let cells = self.rows.get(keys)?.iter().zip(&self.ticks);
        let averages = cells.map(|(cell, ticks)| {
            let known = ticks.saturating_sub(cell.unknown);
            (known > 0).then(|| cell.sum as f64 / known as f64)
        });
        Some(averages.collect())
    }
}

/// How many of some ticks are in which step.
fn parts(starts: &[u32], ticks: Range<u32>) -> impl Iterator<Item = (usize, u32)> + '_ {
    let first = starts.partition_point(|start| *start <= ticks.start);
    (first.saturating_sub(1)..starts.len())
        .map(move |at| {
            let end = starts.get(at + 1).copied().unwrap_or(u32::MAX);
            let from = ticks.start.max(starts[at]);
            (at, ticks.end.min(end).saturating_sub(from))
        })
        .take_while(move |(at, _)| starts[*at] < ticks.end)
        .filter(|(_, part)| *part > 0)
}

struct Piece<'a> {
    runs: &'a Runs,
    into: &'a mut Table,
    /// Names of groups, by their codes.
    found: HashMap<Vec<u32>, Vec<Option<String>>>,
}

impl Visit for Piece<'_> {
    fn stretch(&mut self, codes: &[u32], stretch: Stretch) {
        if !self.found.contains_key(codes) {
            self.found.insert(codes.to_vec(), self.runs.labels(codes));
        }
        let keys = &self.found[codes];
        let Some(cells) = self.into.rows.get_mut(keys) else {
            return;
        };
        for (at, ticks) in parts(&self.into.starts, stretch.from..stretch.to) {
            let cell = &mut cells[at];
            match stretch.total {
                Some(total) => cell.sum += i128::from(total) * i128::from(ticks),
                None => cell.unknown += u64::from(ticks),
            }
        }
    }

    fn member(&mut self, _: &[u32], _: Member) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive::samples;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Cells are averages over the ticks of their step.
        #[test]
        fn cells_are_averages_of_their_ticks(
            samples in samples(),
            width in 1..20_u32,
            pieces in 1..4_u32,
            most_rows in 1..40_usize,
        ) {
            let starts: Vec<u32> = (0..samples.ticks).step_by(width as usize).collect();
            let totals = samples.totals();
            let wanted: Vec<GroupRow> = totals
                .keys()
                .skip(1)
                .map(|keys| GroupRow { keys: keys.clone(), ..GroupRow::default() })
                .collect();
            let mut table = Table::new(&wanted, starts);
            for runs in samples.pieces(pieces) {
                table.add_in(&runs, most_rows).unwrap();
            }
            for (at, (keys, totals)) in totals.into_iter().enumerate() {
                let average = |ticks: &[Option<i64>]| {
                    let known: Vec<i64> = ticks.iter().copied().flatten().collect();
                    let sum: i64 = known.iter().sum();
                    (!known.is_empty()).then(|| sum as f64 / known.len() as f64)
                };
                let cells: Vec<_> = totals.chunks(width as usize).map(average).collect();
                prop_assert_eq!(table.row(&keys), (at > 0).then_some(cells));
            }
        }
    }

    #[test]
    fn a_step_that_nobody_saw_has_no_average() {
        let row = GroupRow::default();
        let mut table = Table::new(std::slice::from_ref(&row), vec![0, 10, 20]);
        let runs = Runs {
            ticks: 0..10,
            process: vec![1],
            first_tick: vec![5],
            n: vec![5],
            values: vec![Some(4)],
            ..Runs::default()
        };
        table.add(&runs).unwrap();
        assert_eq!(table.row(&[]), Some(vec![Some(2.0), None, None]));
        table.nobody(0, 10);
        table.nobody(1, 10);
        assert_eq!(table.row(&[]), Some(vec![Some(1.0), Some(0.0), None]));
    }
}
