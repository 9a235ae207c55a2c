//! Figures of the totals of groups.

use std::collections::HashMap;
use std::collections::HashSet;
use std::ops::Range;

use crate::FrameError;
use crate::Runs;
use crate::sweep;
use crate::sweep::Member;
use crate::sweep::Stretch;
use crate::sweep::Visit;

/// A group over the range: figures of the total of its processes at each tick.
///
/// At a tick without a process of the group the total is 0. Ticks on which the figure is known of none of
/// its processes do not count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupRow {
    /// What it is, one for each key.
    pub keys: Vec<Option<String>>,
    /// Different processes.
    pub members: u64,
    /// Samples of them.
    pub samples: u64,
    /// Samples that do not know the figure.
    pub unknown: u64,
    /// The average total, by tick.
    pub avg: Option<f64>,
    /// The largest total.
    pub max: Option<i64>,
    /// The least total that 95 % of the ticks do not exceed.
    pub p95: Option<i64>,
    /// The total at the first tick of the range.
    pub first: Option<i64>,
    /// The total at the last tick of the range.
    pub last: Option<i64>,
}

impl GroupRow {
    /// From the first tick of the range to the last one.
    #[must_use]
    pub fn growth(&self) -> Option<i64> {
        self.last?.checked_sub(self.first?)
    }
}

/// Totals with the number of ticks that had them.
#[derive(Debug, Default)]
struct Levels {
    pairs: Vec<(i64, u64)>,
    /// How many there were when equal ones were last put together.
    distinct: usize,
}

impl Levels {
    fn push(&mut self, total: i64, ticks: u64) {
        self.pairs.push((total, ticks));
        if self.pairs.len() > 2 * self.distinct + 1024 {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        self.distinct = self.pairs.len();
    }

    /// The least that 95 % of the ticks do not exceed.
    fn p95(&mut self) -> Option<i64> {
        self.settle();
        let ticks: u64 = self.pairs.iter().map(|(_, ticks)| ticks).sum();
        let wanted = (ticks * 95).div_ceil(100);
        let mut seen = 0;
        let reached = |(_, ticks): &&(i64, u64)| {
            seen += ticks;
            seen >= wanted
        };
        self.pairs.iter().find(reached).map(|(total, _)| *total)
    }
}

/// One group in the making.
#[derive(Debug, Default)]
struct Group {
    members: HashSet<u32>,
    samples: u64,
    unknown: u64,
    /// Ticks with a total, and without one.
    known_ticks: u64,
    unknown_ticks: u64,
    sum: i128,
    levels: Levels,
    first: Option<Stretch>,
    last: Option<Stretch>,
}

impl Group {
    fn stretch(&mut self, stretch: Stretch) {
        let ticks = u64::from(stretch.to - stretch.from);
        match stretch.total {
            Some(total) => {
                self.known_ticks += ticks;
                self.sum += i128::from(total) * i128::from(ticks);
                self.levels.push(total, ticks);
            }
            None => self.unknown_ticks += ticks,
        }
        if self.first.is_none_or(|first| stretch.from < first.from) {
            self.first = Some(stretch);
        }
        if self.last.is_none_or(|last| stretch.to > last.to) {
            self.last = Some(stretch);
        }
    }

    fn row(mut self, keys: Vec<Option<String>>, ticks: u64, range: &Range<u32>) -> GroupRow {
        let absent = ticks.saturating_sub(self.known_ticks + self.unknown_ticks);
        if absent > 0 {
            self.levels.push(0, absent);
        }
        let known = self.known_ticks + absent;
        // Unknown on every tick it was there: nothing is known of it, also where it was not there.
        let nothing = self.samples == self.unknown;
        let at = |stretch: Option<Stretch>, edge: bool| match stretch {
            Some(stretch) if edge => stretch.total,
            _ => Some(0),
        };
        let starts = self.first.is_some_and(|first| first.from == range.start);
        let ends = self.last.is_some_and(|last| last.to == range.end);
        let (first, last) = (at(self.first, starts), at(self.last, ends));
        let p95 = self.levels.p95();
        let max = self.levels.pairs.last().map(|(total, _)| *total);
        GroupRow {
            keys,
            members: self.members.len() as u64,
            samples: self.samples,
            unknown: self.unknown,
            avg: (!nothing).then(|| self.sum as f64 / known as f64),
            max: max.filter(|_| !nothing),
            p95: p95.filter(|_| !nothing),
            first: first.filter(|_| !nothing),
            last: last.filter(|_| !nothing),
        }
    }
}

/// Groups in the making: give it the pieces of the range, then ask for the rows.
#[derive(Debug, Default)]
pub struct Groups {
    names: HashMap<Vec<Option<String>>, usize>,
    groups: Vec<Group>,
    ticks: u64,
    range: Option<Range<u32>>,
    nobody_first: bool,
    nobody_last: bool,
}

/// A piece on its way into the groups.
struct Piece<'a> {
    runs: &'a Runs,
    into: &'a mut Groups,
    /// Where the groups of this piece stand, by their codes.
    found: HashMap<Vec<u32>, usize>,
}

impl Piece<'_> {
    fn group(&mut self, codes: &[u32]) -> &mut Group {
        let at = self.found.get(codes).copied();
        let at = at.unwrap_or_else(|| {
            let at = self.into.place(self.runs.labels(codes));
            self.found.insert(codes.to_vec(), at);
            at
        });
        &mut self.into.groups[at]
    }
}

impl Visit for Piece<'_> {
    fn stretch(&mut self, codes: &[u32], stretch: Stretch) {
        self.group(codes).stretch(stretch);
    }

    fn member(&mut self, codes: &[u32], member: Member) {
        let group = self.group(codes);
        group.members.insert(member.process);
        group.samples += member.samples;
        group.unknown += member.unknown;
    }
}

impl Groups {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a piece.
    ///
    /// # Errors
    /// It makes no sense, or a total is too large.
    pub fn add(&mut self, runs: &Runs) -> Result<(), FrameError> {
        self.add_in(runs, sweep::MOST_ROWS)
    }

    fn add_in(&mut self, runs: &Runs, most_rows: usize) -> Result<(), FrameError> {
        let (start, end) = (runs.ticks.start, runs.ticks.end);
        if start >= end {
            return Ok(());
        }
        let mut piece = Piece {
            runs,
            into: self,
            found: HashMap::new(),
        };
        sweep::sweep(runs, most_rows, &mut piece)?;
        self.ticks += u64::from(end - start);
        self.range = Some(match self.range.take() {
            Some(range) => range.start.min(start)..range.end.max(end),
            None => start..end,
        });
        Ok(())
    }

    /// Where the group of these keys stands.
    fn place(&mut self, keys: Vec<Option<String>>) -> usize {
        let next = self.groups.len();
        let at = *self.names.entry(keys).or_insert(next);
        if at == next {
            self.groups.push(Group::default());
        }
        at
    }

    /// Adds ticks on which no process was there; `first`, `last`: the edges of the range are among them.
    pub fn nobody(&mut self, ticks: u64, first: bool, last: bool) {
        self.ticks += ticks;
        self.nobody_first |= first;
        self.nobody_last |= last;
    }

    /// Ticks of all pieces.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// The groups, by their keys.
    #[must_use]
    pub fn rows(self) -> Vec<GroupRow> {
        let mut range = self.range.unwrap_or_default();
        // No run touches these edges.
        if self.nobody_first {
            range.start = u32::MAX;
        }
        if self.nobody_last {
            range.end = 0;
        }
        let mut names: Vec<_> = self.names.into_iter().collect();
        names.sort_by_key(|(_, at)| *at);
        let mut rows: Vec<GroupRow> = names
            .into_iter()
            .zip(self.groups)
            .map(|((keys, _), group)| group.row(keys, self.ticks, &range))
            .collect();
        rows.sort_by(|a, b| a.keys.cmp(&b.keys));
        rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive::Samples;
    use crate::naive::samples;

    /// The figures of the totals, tick by tick.
    fn naive(samples: &Samples) -> Vec<GroupRow> {
        let totals = samples.totals();
        let rows = totals.into_iter().map(|(keys, totals)| {
            let members = samples.of(&keys);
            let processes: HashSet<u32> = members.iter().map(|sample| sample.process).collect();
            let mut known: Vec<i64> = totals.iter().copied().flatten().collect();
            known.sort_unstable();
            let sum: i64 = known.iter().sum();
            // The total is known only where nobody is, and that says nothing.
            let nothing = members.iter().all(|sample| sample.value.is_none());
            let rank = (known.len() * 95).div_ceil(100);
            GroupRow {
                members: processes.len() as u64,
                samples: members.len() as u64,
                unknown: members
                    .iter()
                    .filter(|sample| sample.value.is_none())
                    .count() as u64,
                avg: (!nothing).then(|| sum as f64 / known.len() as f64),
                max: known.last().copied().filter(|_| !nothing),
                p95: known
                    .get(rank.saturating_sub(1))
                    .copied()
                    .filter(|_| !nothing),
                first: totals.first().copied().flatten().filter(|_| !nothing),
                last: totals.last().copied().flatten().filter(|_| !nothing),
                keys,
            }
        });
        rows.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// However the range is cut into pieces and those into windows, figures are those of every sample.
        #[test]
        fn figures_are_those_of_the_samples(
            samples in samples(),
            pieces in 1..4_u32,
            most_rows in 1..40_usize,
        ) {
            let mut groups = Groups::new();
            for runs in samples.pieces(pieces) {
                groups.add_in(&runs, most_rows).unwrap();
            }
            prop_assert_eq!(groups.ticks(), u64::from(samples.ticks));
            prop_assert_eq!(groups.rows(), naive(&samples));
        }
    }

    fn one(values: &[(u32, u32, Option<i64>)], ticks: u32) -> Runs {
        Runs {
            ticks: 0..ticks,
            keys: Vec::new(),
            process: (0..).take(values.len()).collect(),
            first_tick: values.iter().map(|(first, ..)| *first).collect(),
            n: values.iter().map(|(_, n, _)| *n).collect(),
            values: values.iter().map(|(.., value)| *value).collect(),
        }
    }

    #[test]
    fn a_total_that_starts_late_grows_from_nothing() {
        let mut groups = Groups::new();
        groups
            .add(&one(&[(50, 50, Some(10)), (90, 10, Some(5))], 100))
            .unwrap();
        let row = &groups.rows()[0];
        assert_eq!((row.first, row.last), (Some(0), Some(15)));
        assert_eq!(row.growth(), Some(15));
        assert_eq!((row.max, row.p95), (Some(15), Some(15)));
        assert_eq!(row.avg, Some(5.5));
        assert_eq!((row.members, row.samples), (2, 60));
    }

    #[test]
    fn ticks_without_anybody_count() {
        let mut groups = Groups::new();
        groups.add(&one(&[(0, 10, Some(8))], 10)).unwrap();
        groups.nobody(10, false, true);
        let row = &groups.rows()[0];
        assert_eq!(
            (row.first, row.last, row.avg),
            (Some(8), Some(0), Some(4.0))
        );
    }

    #[test]
    fn what_is_not_known_is_not_zero() {
        let mut groups = Groups::new();
        groups.add(&one(&[(0, 10, None)], 20)).unwrap();
        let row = &groups.rows()[0];
        assert_eq!((row.samples, row.unknown), (10, 10));
        assert_eq!((row.avg, row.max, row.first), (None, None, None));
        // Nor between two stays of which nothing is known.
        let mut groups = Groups::new();
        groups.add(&one(&[(0, 1, None), (3, 1, None)], 6)).unwrap();
        assert_eq!(groups.rows()[0].avg, None);
    }

    #[test]
    fn runs_that_make_no_sense_are_refused() {
        let refused = |runs: &Runs| Groups::new().add(runs).unwrap_err().to_string();
        let late = one(&[(15, 6, Some(1))], 20);
        assert!(refused(&late).contains("leaves the ticks"));
        let mut short = one(&[(0, 5, Some(1))], 20);
        short.n.clear();
        assert!(refused(&short).contains("differ in length"));
        let huge = one(&[(0, 5, Some(i64::MAX)), (0, 5, Some(1))], 20);
        assert!(refused(&huge).contains("too large"));
        let mut keyed = one(&[(0, 5, Some(1))], 20);
        keyed.keys = vec![crate::Key {
            name: "user".to_owned(),
            labels: vec![Some("a".to_owned()), Some("a".to_owned())],
            codes: vec![1],
        }];
        assert!(refused(&keyed).contains("twice"));
        keyed.keys[0].labels.clear();
        assert!(refused(&keyed).contains("without a label"));
    }
}
