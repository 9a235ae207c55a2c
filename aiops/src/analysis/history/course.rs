//! A figure by time: equal steps from the beginning of the range.

use super::Agg;
use super::Options;
use crate::model::Sums;
use crate::report::query::Point;

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    /// Which one.
    at: i64,
    /// Samples of which nothing is known.
    unknown: u64,
    sums: Sums,
}

/// A figure by time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    step: i64,
    start: i64,
    steps: Vec<Step>,
}

impl Course {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            step: options.step(),
            start: options.range.start_ms,
            steps: Vec::new(),
        }
    }

    /// Adds equal samples at these times; `None`: unknown ones.
    pub(crate) fn add(&mut self, value: Option<i64>, times: &[i64]) {
        if self.step == 0 {
            return;
        }
        let mut rest = times;
        while let Some(first) = rest.first() {
            let at = (first - self.start).div_euclid(self.step);
            let until = self.start + (at + 1) * self.step;
            // Most runs are short.
            let n = rest.partition_point(|time| *time < until).max(1);
            let last = rest[n - 1];
            let step = self.step(at);
            match value {
                Some(value) => step.sums.add(value, n as u64, *first, last),
                None => step.unknown += n as u64,
            }
            rest = &rest[n..];
        }
    }

    pub(crate) fn join(&mut self, ts: i64, sums: &Sums) {
        if self.step > 0 {
            let at = (ts.max(self.start) - self.start) / self.step;
            self.step(at).sums.join(sums);
        }
    }

    fn step(&mut self, at: i64) -> &mut Step {
        let place = match self.steps.last() {
            Some(last) if last.at == at => self.steps.len() - 1,
            Some(last) if last.at > at => self.steps.partition_point(|step| step.at < at),
            _ => self.steps.len(),
        };
        if self.steps.get(place).is_none_or(|step| step.at != at) {
            // Most processes live in one step alone.
            if self.steps.is_empty() {
                self.steps.reserve_exact(1);
            }
            let step = Step {
                at,
                ..Step::default()
            };
            self.steps.insert(place, step);
        }
        &mut self.steps[place]
    }

    /// At all other ticks of the steps that there are, it was 0: `times` are those of all ticks.
    pub(crate) fn fill(&mut self, times: &[i64]) {
        for step in &mut self.steps {
            let begin = self.start + step.at * self.step;
            let from = times.partition_point(|time| *time < begin);
            let to = times.partition_point(|time| *time < begin + self.step);
            let ticks = times.get(from..to).unwrap_or_default();
            let absent = (ticks.len() as u64).saturating_sub(step.sums.n + step.unknown);
            let (Some(first), Some(last)) = (ticks.first(), ticks.last()) else {
                continue;
            };
            if absent == 0 || step.sums.n == 0 {
                continue;
            }
            // A sum of zeros at the edges where it was not there, and inside of it elsewhere.
            let known = step.sums;
            step.sums.add(0, absent, *first, *last);
            if known.first.0 == *first {
                step.sums.first = known.first;
            }
            if known.last.0 == *last {
                step.sums.last = known.last;
            }
        }
    }

    pub(crate) fn series(&self, agg: Agg) -> Vec<Point> {
        let known = self.steps.iter().filter(|step| step.sums.n > 0);
        let point = |Step { at, sums, .. }: &Step| Point {
            ts_ms: self.start + at * self.step,
            samples: sums.n,
            value: match agg {
                Agg::Max => sums.max as f64,
                Agg::Last => sums.last.1 as f64,
                Agg::Min => sums.min as f64,
                Agg::First => sums.first.1 as f64,
                _ => sums.avg().unwrap_or_default(),
            },
            min: sums.min,
            max: sums.max,
        };
        known.map(point).collect()
    }

    pub(crate) fn trend(&self) -> Vec<(f64, u64)> {
        let known = self.steps.iter().filter(|step| step.sums.n > 0);
        let point = |step: &Step| {
            let value = u64::try_from(step.sums.max).unwrap_or(0);
            ((self.start + step.at * self.step) as f64, value)
        };
        known.map(point).collect()
    }
}
