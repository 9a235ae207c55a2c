//! Samples on even steps: seasons and windows need them.

/// Lengths of steps, seconds: each divides a day, so that a day is a whole number of them.
const STEPS: [f64; 22] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 900.0,
    1200.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0,
];

/// The shortest step that is no shorter than this; a day at most.
#[must_use]
pub fn step(least_s: f64) -> f64 {
    // Intervals of samples are never exact.
    let fits = |step: &&f64| **step >= least_s * 0.98;
    STEPS.iter().find(fits).copied().unwrap_or(86_400.0)
}

/// A series with one value for each step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Even {
    /// Seconds since 1970: beginning of the first step.
    pub begin_s: f64,
    /// Length of a step.
    pub step_s: f64,
    /// Mean of the samples of each step; where there are none, on the line between its neighbours.
    pub values: Vec<f64>,
    /// Whether a step has samples.
    pub known: Vec<bool>,
}

impl Even {
    /// Puts samples in order of time, (seconds, value), on steps: as short as the interval of the samples
    /// allows, and no more than about `most` of them. `None`: no time passes.
    #[must_use]
    pub fn of(samples: &[(f64, f64)], most: usize) -> Option<Self> {
        let (first, last) = (samples.first()?.0, samples.last()?.0);
        let ways = samples.windows(2).map(|pair| pair[1].0 - pair[0].0);
        let ways: Vec<f64> = ways.filter(|way| *way > 0.0).collect();
        let interval = super::median(&ways);
        if interval <= 0.0 || most == 0 {
            return None;
        }
        let step_s = step(interval.max((last - first) / most as f64));
        let begin_s = (first / step_s).floor() * step_s;
        let mut gather = Gather::new(begin_s, step_s);
        for (time, value) in samples {
            gather.add(*time, *value);
        }
        gather.even()
    }

    /// Beginning of a step, seconds since 1970.
    #[must_use]
    pub fn time(&self, at: usize) -> f64 {
        self.begin_s + at as f64 * self.step_s
    }

    /// The step that a moment belongs to; `None`: it is before the first.
    #[must_use]
    pub fn place(&self, time_s: f64) -> Option<usize> {
        let at = (time_s - self.begin_s) / self.step_s;
        (at >= 0.0).then(|| super::whole(at))
    }

    /// Seconds from the first to the last step.
    #[must_use]
    pub fn span_s(&self) -> f64 {
        self.values.len() as f64 * self.step_s
    }
}

/// Steps in the making.
#[derive(Clone, Debug)]
pub struct Gather {
    begin_s: f64,
    step_s: f64,
    sums: Vec<(f64, u32)>,
}

impl Gather {
    /// Nothing yet.
    #[must_use]
    pub fn new(begin_s: f64, step_s: f64) -> Self {
        Self {
            begin_s,
            step_s,
            sums: Vec::new(),
        }
    }

    /// Adds a sample; one before the beginning is left out.
    pub fn add(&mut self, time_s: f64, value: f64) {
        let at = (time_s - self.begin_s) / self.step_s;
        if at < 0.0 || !value.is_finite() || at > 1e7 {
            return;
        }
        let at = super::whole(at);
        if at >= self.sums.len() {
            self.sums.resize(at + 1, (0.0, 0));
        }
        let (sum, count) = &mut self.sums[at];
        *sum += value;
        *count += 1;
    }

    /// The series, from the first step with a sample on. `None`: there is none.
    #[must_use]
    pub fn even(self) -> Option<Even> {
        let first = self.sums.iter().position(|(_, count)| *count > 0)?;
        let cells = &self.sums[first..];
        let known: Vec<bool> = cells.iter().map(|(_, count)| *count > 0).collect();
        let mean = |&(sum, count): &(f64, u32)| sum / f64::from(count.max(1));
        let mut values: Vec<f64> = cells.iter().map(mean).collect();
        let mut before = 0;
        for at in 1..values.len() {
            if !known[at] {
                continue;
            }
            let (low, high) = (values[before], values[at]);
            let steps = (at - before) as f64;
            for (passed, value) in values[before + 1..at].iter_mut().enumerate() {
                *value = low + (high - low) * (passed + 1) as f64 / steps;
            }
            before = at;
        }
        Some(Even {
            begin_s: self.begin_s + first as f64 * self.step_s,
            step_s: self.step_s,
            values,
            known,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_divide_a_day_and_gaps_are_bridged() {
        for step in STEPS {
            let count = 86_400.0 / step;
            assert!((count - count.round()).abs() < 1e-6, "{step}");
        }
        let samples = [
            (600.0, 1.0),
            (660.0, 3.0),
            (720.0, 5.0),
            (900.0, 11.0),
            (960.4, 13.0),
        ];
        let even = Even::of(&samples, 100).expect("a series");
        assert_eq!(even.values, [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0]);
        assert_eq!(even.known, [true, true, true, false, false, true, true]);
        assert_eq!((even.time(2), even.place(725.0)), (720.0, Some(2)));
        assert_eq!(Even::of(&samples, 3).expect("a series").step_s, 120.0);
        assert!(Even::of(&samples[..1], 100).is_none());
    }
}
