//! Where the level of a series changes, however long that takes: PELT proposes, and what is a part of a slow
//! change, or of a steady slope, is told apart from levels by least squares.
//!
//! PELT knows levels alone: a rise of some hours becomes a few of them, and a leak a staircase. So its edges that
//! follow each other upward (or downward) are fitted by one ramp with levels at both ends, unless the steps fit
//! better; and of all of these only those stay that a straight line through the whole series does not explain.

use super::super::leak::pelt::pelt;
use super::jump::apart;
use super::median;

/// A change from one level to another; places are blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// Where the old level ends.
    pub from: usize,
    /// Where the new level begins, behind `from`.
    pub to: usize,
    /// New level less old level.
    pub size: f64,
}

/// Fewest blocks of a level.
const LEAST: usize = 3;
/// Blocks that are so far apart have nothing to do with each other.
const FAR: usize = 9;
/// Places that an end of a ramp is looked for at.
const PLACES: usize = 14;
/// A ramp is longer than it must be only where that makes the squared error less by so many blocks' worth.
const SLACK: f64 = 8.0;
/// Changes that are kept, at most.
const MOST: usize = 30;

impl Ramp {
    /// Share of the change that is done at a block.
    fn at(&self, block: usize) -> f64 {
        let wide = (self.to - self.from) as f64;
        ((block as f64 - self.from as f64 + 0.5) / wide).clamp(0.0, 1.0)
    }
}

/// Directions that a series was freed from, each of length 1 and square to the others.
struct Basis(Vec<Vec<f64>>);

impl Basis {
    /// A level for this many blocks, and a slope.
    fn line(count: usize, slope: bool) -> Self {
        let mut basis = Self(Vec::new());
        basis.add(vec![1.0; count]);
        if slope {
            basis.add((0..count).map(|at| at as f64).collect());
        }
        basis
    }

    fn free(&self, mut values: Vec<f64>) -> Vec<f64> {
        for one in &self.0 {
            let part = dot(one, &values);
            for (value, one) in values.iter_mut().zip(one) {
                *value -= part * one;
            }
        }
        values
    }

    /// `false`: it is nothing new.
    fn add(&mut self, values: Vec<f64>) -> bool {
        let before = dot(&values, &values);
        let mut new = self.free(values);
        let length = dot(&new, &new).sqrt();
        if length * length <= before * 1e-9 || length <= 0.0 {
            return false;
        }
        for value in &mut new {
            *value /= length;
        }
        self.0.push(new);
        true
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Squared error of the values around their mean.
fn spread(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

/// Changes of level in order of time. `least`: smaller ones are of no interest. `longest`: edges of PELT that are
/// further apart than so many blocks are no single change.
#[must_use]
pub fn ramps(blocks: &[f64], least: f64, longest: usize) -> Vec<Ramp> {
    let ways = |lag: usize| apart(blocks, lag);
    // A slope moves all differences alike, and a level few of them.
    let (step, all) = (ways(1), ways(FAR) / std::f64::consts::SQRT_2);
    if spread(blocks) <= 0.0 {
        return Vec::new();
    }
    // Noise that remembers makes levels of its own: each change costs more by what AR(1) noise needs.
    let phi = if all > 0.0 {
        (1.0 - step * step / (2.0 * all * all)).clamp(0.0, 0.9)
    } else {
        0.0
    };
    let variance = (step * step / 2.0 / (1.0 - phi)).max(least * least / 100.0);
    let penalty = 4.0 * (blocks.len() as f64).ln() * variance * (1.0 + phi) / (1.0 - phi);
    let open = |blocks: &[f64]| {
        let ends = pelt(blocks, penalty, LEAST);
        candidates(blocks, &ends, longest, penalty)
    };
    let first = open(blocks);
    let level = chosen(blocks, first.clone(), penalty, false);
    let slope = chosen(blocks, first, penalty, true);
    if slope.1 + penalty >= level.1 {
        return level.0;
    }
    // On a slope PELT saw a staircase. Without it there are levels again.
    let flat = without_slope(blocks, &slope.0);
    let again = open(&flat);
    chosen(&flat, again, penalty, true).0
}

/// The blocks without the slope that they have beside these changes.
fn without_slope(blocks: &[f64], changes: &[Ramp]) -> Vec<f64> {
    let count = blocks.len();
    let mut others = Basis::line(count, false);
    for change in changes {
        others.add((0..count).map(|block| change.at(block)).collect());
    }
    let free = others.free((0..count).map(|at| at as f64).collect());
    let wide = dot(&free, &free);
    let slope = if wide <= 1e-9 {
        0.0
    } else {
        dot(&free, blocks) / wide
    };
    let values = blocks.iter().enumerate();
    values
        .map(|(at, value)| value - slope * at as f64)
        .collect()
}

/// A ramp for each group of edges that follow each other, or for each edge alone.
fn candidates(blocks: &[f64], ends: &[usize], longest: usize, penalty: f64) -> Vec<Ramp> {
    let edges = &ends[..ends.len().saturating_sub(1)];
    let start = |nth: usize| nth.checked_sub(1).map_or(0, |before| ends[before]);
    let levels: Vec<f64> = (0..ends.len())
        .map(|nth| median(&blocks[start(nth)..ends[nth]]))
        .collect();
    let up = |nth: usize| levels[nth + 1] > levels[nth];
    let mut found = Vec::new();
    let mut first = 0;
    while first < edges.len() {
        let mut last = first;
        while last + 1 < edges.len()
            && up(last + 1) == up(first)
            && edges[last + 1] - edges[last] <= longest
        {
            last += 1;
        }
        let (low, high) = (start(first), ends[last + 1]);
        let steps: f64 = (first..=last + 1)
            .map(|nth| spread(&blocks[start(nth)..ends[nth]]))
            .sum();
        match fit(blocks, (low, high), (edges[first], edges[last]), longest) {
            Some((ramp, error))
                if error < steps + penalty * (last - first) as f64 || first == last =>
            {
                found.push(ramp);
            }
            _ => {
                for nth in first..=last {
                    let span = (start(nth), ends[nth + 1]);
                    let one = fit(blocks, span, (edges[nth], edges[nth]), longest);
                    found.extend(one.map(|(ramp, _)| ramp));
                }
            }
        }
        first = last + 1;
    }
    found
}

/// The ramp between two levels that fits best around these edges, and its squared error.
fn fit(
    blocks: &[f64],
    (low, high): (usize, usize),
    (first, last): (usize, usize),
    longest: usize,
) -> Option<(Ramp, f64)> {
    let values = &blocks[low..high];
    // The levels around it keep a few blocks of their own.
    let earliest = (low + LEAST).max(first.saturating_sub(longest)).min(first);
    let latest = high.saturating_sub(LEAST).min(last + longest).max(last);
    let places = |from: usize, to: usize| {
        let hop = ((to - from) / PLACES).max(1);
        (from..=to).step_by(hop)
    };
    let middle = first.midpoint(last);
    let begins = || places(earliest, middle).chain([first]);
    let mut fits: Vec<(Ramp, f64)> = Vec::new();
    for from in begins() {
        for to in places(middle.max(from + 1), latest.max(from + 1)).chain([last.max(from + 1)]) {
            let mut ramp = Ramp {
                from,
                to,
                size: 0.0,
            };
            let shape: Vec<f64> = (low..high).map(|block| ramp.at(block)).collect();
            let mean = shape.iter().sum::<f64>() / shape.len() as f64;
            let shape: Vec<f64> = shape.iter().map(|part| part - mean).collect();
            let wide = dot(&shape, &shape);
            if wide <= 0.0 {
                continue;
            }
            ramp.size = dot(&shape, values) / wide;
            let error = spread(values) - ramp.size * ramp.size * wide;
            fits.push((ramp, error.max(0.0)));
        }
    }
    // Of those that fit equally well the shortest.
    let least = fits.iter().map(|fit| fit.1).fold(f64::INFINITY, f64::min);
    let good = least * (1.0 + SLACK / values.len() as f64);
    let equal = fits.into_iter().filter(|fit| fit.1 <= good);
    equal.min_by(|a, b| {
        (a.0.to - a.0.from)
            .cmp(&(b.0.to - b.0.from))
            .then(a.1.total_cmp(&b.1))
    })
}

/// Those that are needed beside a level, or a straight line through everything, with their sizes beside each other;
/// and what that costs: the squared error, and the penalty for each.
fn chosen(blocks: &[f64], mut open: Vec<Ramp>, penalty: f64, slope: bool) -> (Vec<Ramp>, f64) {
    let count = blocks.len();
    let shape = |ramp: &Ramp| -> Vec<f64> { (0..count).map(|block| ramp.at(block)).collect() };
    let mut basis = Basis::line(count, slope);
    let mut rest = basis.free(blocks.to_vec());
    let mut found: Vec<Ramp> = Vec::new();
    while found.len() < MOST {
        let gain = |ramp: &Ramp| {
            let free = basis.free(shape(ramp));
            let wide = dot(&free, &free);
            if wide <= 1e-9 {
                0.0
            } else {
                dot(&free, &rest).powi(2) / wide
            }
        };
        let best = (open.iter().map(gain).enumerate()).max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((place, gained)) = best else { break };
        if gained <= penalty {
            break;
        }
        let ramp = open.swap_remove(place);
        if basis.add(shape(&ramp)) {
            rest = basis.free(rest);
            found.push(ramp);
        }
    }
    // Each size beside all others: what is left of its shape without them tells it.
    let sized = |nth: usize| {
        let mut others = Basis::line(count, slope);
        for (at, other) in found.iter().enumerate() {
            if at != nth {
                others.add(shape(other));
            }
        }
        let free = others.free(shape(&found[nth]));
        let wide = dot(&free, &free);
        Ramp {
            size: if wide <= 1e-9 {
                0.0
            } else {
                dot(&free, blocks) / wide
            },
            ..found[nth]
        }
    };
    let mut sized: Vec<Ramp> = (0..found.len()).map(sized).collect();
    sized.sort_by_key(|ramp| ramp.from);
    let cost = dot(&rest, &rest) + penalty * sized.len() as f64;
    (sized, cost)
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    fn noisy(course: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut random = Random::new(11);
        (0..300)
            .map(|at| course(f64::from(at)) + random.normal())
            .collect()
    }

    #[test]
    fn a_leak_is_no_staircase() {
        assert_eq!(ramps(&noisy(|at| at * 0.5), 5.0, 24), []);
        assert_eq!(ramps(&[7.0; 300], 5.0, 24), []);
        assert_eq!(ramps(&[7.0], 5.0, 24), []);
        assert_eq!(ramps(&[], 5.0, 24), []);
    }

    #[test]
    fn a_slow_rise_is_one_change_and_two_jumps_are_two() {
        let slow = ramps(&noisy(|at| (at - 100.0).clamp(0.0, 20.0) * 3.0), 5.0, 24);
        assert_eq!(slow.len(), 1, "{slow:?}");
        assert!(
            slow[0].from.abs_diff(100) <= 4 && slow[0].to.abs_diff(120) <= 4,
            "{slow:?}"
        );
        assert!((slow[0].size - 60.0).abs() < 6.0, "{slow:?}");
        let jump = |at: f64, place: f64| if at >= place { 30.0 } else { 0.0 };
        let two = ramps(&noisy(|at| jump(at, 100.0) + jump(at, 118.0)), 5.0, 24);
        assert_eq!(two.len(), 2, "{two:?}");
        assert!(two.iter().all(|one| one.to - one.from <= 3), "{two:?}");
        let leaks = ramps(
            &noisy(|at| at * 0.4 + (at - 150.0).clamp(0.0, 15.0) * 3.0),
            5.0,
            24,
        );
        assert_eq!(leaks.len(), 1, "{leaks:?}");
        assert!((leaks[0].size - 45.0).abs() < 9.0, "{leaks:?}");
        // On a slope, and down.
        let slope = ramps(
            &noisy(|at| at * 0.3 - (at - 200.0).clamp(0.0, 15.0) * 4.0),
            5.0,
            24,
        );
        assert_eq!(slope.len(), 1, "{slope:?}");
        assert!((slope[0].size + 60.0).abs() < 12.0, "{slope:?}");
    }
}
