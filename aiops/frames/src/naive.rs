//! For tests: samples as they were taken, one for each process and tick, and what follows from them without
//! any engine.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;

use crate::Key;
use crate::Runs;

/// One process on one tick.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) tick: u32,
    pub(crate) process: u32,
    pub(crate) keys: Vec<Option<String>>,
    pub(crate) value: Option<i64>,
}

/// All samples of a range.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    pub(crate) ticks: u32,
    pub(crate) all: Vec<Sample>,
}

/// Processes that come, change, move to other groups, and go.
pub(crate) fn samples() -> impl Strategy<Value = Samples> {
    let label = proptest::option::weighted(0.8, 0..3_u8);
    let stretch = (
        0..6_u32,
        1..9_u32,
        label.clone(),
        label,
        proptest::option::weighted(0.8, 0..4_i64),
    );
    let process = proptest::collection::vec(stretch, 0..8);
    (1..60_u32, proptest::collection::vec(process, 1..8)).prop_map(|(ticks, processes)| {
        let mut all = Vec::new();
        for (process, stretches) in (0..).zip(processes) {
            let mut tick = 0;
            for (gap, n, comm, user, value) in stretches {
                tick += gap;
                for tick in (tick..tick + n).take_while(|tick| *tick < ticks) {
                    let text = |label: Option<u8>| label.map(|label| format!("x{label}"));
                    all.push(Sample {
                        tick,
                        process,
                        keys: vec![text(comm), text(user)],
                        value,
                    });
                }
                tick += n;
            }
        }
        Samples { ticks, all }
    })
}

impl Samples {
    /// Those of a group.
    pub(crate) fn of(&self, keys: &[Option<String>]) -> Vec<&Sample> {
        let all = self.all.iter();
        all.filter(|sample| sample.keys == keys).collect()
    }

    /// The total of each group on each tick.
    pub(crate) fn totals(&self) -> BTreeMap<Vec<Option<String>>, Vec<Option<i64>>> {
        let mut totals = BTreeMap::new();
        for sample in &self.all {
            totals.entry(sample.keys.clone()).or_insert_with(|| {
                let members = self.of(&sample.keys);
                let on = |tick| members.iter().filter(move |sample| sample.tick == tick);
                let total = |tick| {
                    let known = on(tick).filter_map(|sample| sample.value);
                    let unknown = on(tick).all(|sample| sample.value.is_none());
                    (on(tick).count() == 0 || !unknown).then(|| known.sum())
                };
                (0..self.ticks).map(total).collect()
            });
        }
        totals
    }

    /// As runs, in so many pieces.
    pub(crate) fn pieces(&self, count: u32) -> Vec<Runs> {
        let width = self.ticks.div_ceil(count).max(1);
        let pieces = (0..count).map(|at| {
            let start = (at * width).min(self.ticks);
            self.piece(start..(start + width).min(self.ticks))
        });
        pieces.collect()
    }

    /// Runs as long as the samples allow.
    fn piece(&self, ticks: Range<u32>) -> Runs {
        let names = ["comm", "user"];
        let mut runs = Runs {
            keys: names
                .iter()
                .map(|name| Key {
                    name: (*name).to_owned(),
                    ..Key::default()
                })
                .collect(),
            ticks: ticks.clone(),
            ..Runs::default()
        };
        let mut last: Option<&Sample> = None;
        for sample in self
            .all
            .iter()
            .filter(|sample| ticks.contains(&sample.tick))
        {
            let goes_on = last.is_some_and(|last| {
                last.process == sample.process
                    && last.tick + 1 == sample.tick
                    && last.keys == sample.keys
                    && last.value == sample.value
            });
            last = Some(sample);
            if goes_on {
                *runs.n.last_mut().unwrap() += 1;
                continue;
            }
            runs.process.push(sample.process);
            runs.first_tick.push(sample.tick);
            runs.n.push(1);
            runs.values.push(sample.value);
            for (key, label) in runs.keys.iter_mut().zip(&sample.keys) {
                let at = key.labels.iter().position(|known| known == label);
                let at = at.unwrap_or_else(|| {
                    key.labels.push(label.clone());
                    key.labels.len() - 1
                });
                key.codes.push(u32::try_from(at).unwrap());
            }
        }
        runs
    }
}
