//! What is asked about: run-length rows of one figure.

use std::collections::HashSet;
use std::ops::Range;

/// A column to group by; texts are kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// What it can be, each once; `None`: unknown.
    pub labels: Vec<Option<String>>,
    /// For each run, which of the labels.
    pub codes: Vec<u32>,
}

/// A piece of a range, usually one segment of the store: runs of equal samples on consecutive ticks.
///
/// Ticks are counted from the beginning of the whole range. Pieces share no tick. All columns are of one
/// length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// The ticks of this piece.
    pub ticks: Range<u32>,
    /// What to group by.
    pub keys: Vec<Key>,
    /// Whose the run is: a number that stands for one process in all pieces.
    pub process: Vec<u32>,
    /// Its first tick.
    pub first_tick: Vec<u32>,
    /// Its samples, one on each tick.
    pub n: Vec<u32>,
    /// The figure; `None`: not known.
    pub values: Vec<Option<i64>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Columns do not fit each other.
    #[error("runs make no sense: {0}")]
    Shape(&'static str),
    /// A total is no number of 64 bits.
    #[error("a total is too large for 64 bits")]
    TooLarge,
    /// The engine of frames refused.
    #[error("the engine of frames failed: {0}")]
    Engine(#[from] polars::error::PolarsError),
}

impl Runs {
    /// How many runs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first_tick.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first_tick.is_empty()
    }

    /// Whether its columns fit each other.
    pub(crate) fn check(&self) -> Result<(), FrameError> {
        let rows = self.len();
        let mut lengths = vec![self.process.len(), self.n.len(), self.values.len()];
        lengths.extend(self.keys.iter().map(|key| key.codes.len()));
        if lengths.iter().any(|length| *length != rows) {
            return Err(FrameError::Shape("columns differ in length"));
        }
        for key in &self.keys {
            let labels = key.labels.len();
            if key.codes.iter().any(|code| *code as usize >= labels) {
                return Err(FrameError::Shape("a key has a code without a label"));
            }
            let different: HashSet<&Option<String>> = key.labels.iter().collect();
            if different.len() != labels {
                return Err(FrameError::Shape("a key has a label twice"));
            }
        }
        let inside = |(first, n): (&u32, &u32)| {
            *first >= self.ticks.start
                && first
                    .checked_add(*n)
                    .is_some_and(|end| end <= self.ticks.end)
        };
        if !self.first_tick.iter().zip(&self.n).all(inside) {
            return Err(FrameError::Shape("a run leaves the ticks of its piece"));
        }
        Ok(())
    }

    /// The labels behind the codes of a group.
    pub(crate) fn labels(&self, codes: &[u32]) -> Vec<Option<String>> {
        let pairs = self.keys.iter().zip(codes);
        pairs
            .map(|(key, code)| key.labels.get(*code as usize).cloned().flatten())
            .collect()
    }
}
