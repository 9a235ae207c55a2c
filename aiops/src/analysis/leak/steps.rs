//! Stairs: where a series jumps, and whether the jumps go on (a leak seen in arenas or batches) or were events
//! of the past (a deploy, a larger batch than ever).

use std::rc::Rc;

use super::Class;
use super::gls::dot;

/// A jump that is smaller than this share of the largest one does not count.
const SMALL: f64 = 0.12;
/// Most times that all bends are sought again.
const SWEEPS: usize = 4;
/// This many events of any kind are a history; more of them, up and down, are a curve.
const FEW: usize = 6;

/// The rows at which steps explain most of `y`, best first: greedy, after the columns `base` are taken out.
#[must_use]
pub fn find(y: &[f64], base: &[Vec<f64>], most: usize) -> Vec<usize> {
    let nowhere = vec![0.0; y.len()];
    let mut pursuit = Pursuit::new(y, &nowhere, 0, base);
    let mut found: Vec<usize> = Vec::new();
    while found.len() < most {
        let Some((place, share)) = pursuit.best(&found) else {
            break;
        };
        if share < 0.02 {
            break;
        }
        found.push(place);
        pursuit.add(step(y.len(), place), 0);
    }
    found
}

/// The rows at which the slope changes, in order: greedy, and then each is sought again beside the others.
#[must_use]
pub fn bends(y: &[f64], x: &[f64], base: &[Vec<f64>], most: usize) -> Vec<usize> {
    let mut with_line = base.to_vec();
    with_line.push(x.to_vec());
    let begin = Pursuit::new(y, x, 1, &with_line);
    // A bend is sought often: what is left of it beside the base is computed once.
    let mut known: Vec<Option<Vec<f64>>> = vec![None; x.len()];
    let mut add = |pursuit: &mut Pursuit, place: usize| {
        let own = known[place].get_or_insert_with(|| {
            let mut column = hinge(x, place);
            begin.take_base_out(&mut column);
            column
        });
        pursuit.add(own.clone(), begin.basis.len());
    };
    let mut found: Vec<usize> = Vec::new();
    let mut whole = begin.clone();
    while found.len() < most {
        match whole.best(&found) {
            Some((place, share)) if share >= 0.02 => found.push(place),
            _ => break,
        }
        for _ in 0..SWEEPS {
            let before = found.clone();
            // Beside the bends before the one that is sought again.
            let mut beside = begin.clone();
            for k in 0..found.len() {
                let mut pursuit = beside.clone();
                for &later in &found[k + 1..] {
                    add(&mut pursuit, later);
                }
                let mut others = found.clone();
                others.remove(k);
                if let Some((place, _)) = pursuit.best(&others) {
                    found[k] = place;
                }
                add(&mut beside, found[k]);
            }
            whole = beside;
            if found == before {
                break;
            }
        }
    }
    found.sort_unstable();
    found
}

/// A step at a row.
pub(super) fn step(n: usize, place: usize) -> Vec<f64> {
    (0..n).map(|i| f64::from(u8::from(i >= place))).collect()
}

/// A line that begins at a row.
pub(super) fn hinge(x: &[f64], place: usize) -> Vec<f64> {
    x.iter().map(|at| (at - x[place]).max(0.0)).collect()
}

/// What is left of a series after some columns, and of a column for each row: (x − x of the row) to a power from
/// there on, 0 before.
#[derive(Clone)]
struct Pursuit<'a> {
    x: &'a [f64],
    power: u8,
    basis: Vec<Rc<Vec<f64>>>,
    residual: Vec<f64>,
    /// Sum of squares before any column.
    whole: f64,
    /// Squares of the columns of the rows, before the basis is taken out of them and after.
    full: Rc<Vec<f64>>,
    norms: Vec<f64>,
}

impl<'a> Pursuit<'a> {
    fn new(y: &[f64], x: &'a [f64], power: u8, columns: &[Vec<f64>]) -> Self {
        let n = y.len();
        let mut full = vec![0.0; n];
        let (mut count, mut sum, mut square) = (0.0, 0.0, 0.0);
        for k in (0..n).rev() {
            count += 1.0;
            sum += x[k];
            square += x[k] * x[k];
            full[k] = if power == 0 {
                count
            } else {
                square - 2.0 * x[k] * sum + count * x[k] * x[k]
            };
        }
        let mut pursuit = Self {
            x,
            power,
            basis: Vec::new(),
            residual: y.to_vec(),
            whole: y.iter().map(|y| y * y).sum(),
            norms: full.clone(),
            full: Rc::new(full),
        };
        for column in columns {
            pursuit.add(column.clone(), 0);
        }
        pursuit
    }

    fn take_base_out(&self, column: &mut [f64]) {
        for other in &self.basis {
            take_out(column, other);
        }
    }

    /// Takes a column out, of which the first `done` columns of the basis are taken out already.
    fn add(&mut self, mut column: Vec<f64>, done: usize) {
        for other in &self.basis[done..] {
            take_out(&mut column, other);
        }
        if normalise(&mut column) {
            take_out(&mut self.residual, &column);
            let (x, power, norms) = (self.x, self.power, &mut self.norms);
            along(x, power, &column, |k, part| norms[k] -= part * part);
            self.basis.push(Rc::new(column));
        }
    }

    /// The row whose column explains most of the rest, and which share.
    fn best(&self, taken: &[usize]) -> Option<(usize, f64)> {
        let n = self.residual.len();
        let total: f64 = self.residual.iter().map(|r| r * r).sum();
        if n < 6 || total < 1e-12 * self.whole {
            return None;
        }
        let mut products = vec![0.0; n];
        along(self.x, self.power, &self.residual, |k, part| {
            products[k] = part;
        });
        let free = |k: usize| taken.iter().all(|&other| other.abs_diff(k) > 1);
        let least = if self.power == 0 { 0.1 } else { 1e-4 };
        (2..n - 2)
            .filter(|&k| self.norms[k] > (least * self.full[k]).min(0.3) && free(k))
            .map(|k| {
                let product = products[k];
                (k, product * product / self.norms[k] / total.max(1e-300))
            })
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|best| best.1 > 0.0)
    }
}

/// Products of values with the column of each row, from sums of the rows from there on.
fn along(x: &[f64], power: u8, values: &[f64], mut each: impl FnMut(usize, f64)) {
    let (mut plain, mut weighted) = (0.0, 0.0);
    for k in (0..values.len()).rev() {
        plain += values[k];
        weighted += values[k] * x[k];
        let product = if power == 0 {
            plain
        } else {
            weighted - x[k] * plain
        };
        each(k, product);
    }
}

fn take_out(from: &mut [f64], unit: &[f64]) {
    let along = dot(from, unit);
    for (from, unit) in from.iter_mut().zip(unit) {
        *from -= along * unit;
    }
}

fn normalise(column: &mut [f64]) -> bool {
    let norm = dot(column, column).sqrt();
    for value in column.iter_mut() {
        *value /= norm.max(1e-12);
    }
    norm > 1e-9
}

/// What stairs mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stairs {
    /// Whether they go on.
    pub class: Class,
    /// Growth for each unit of x, if they do and are few.
    pub slope: f64,
    /// When they began: one gap before the first.
    pub begin: f64,
    /// Steps up.
    pub ups: usize,
}

impl Stairs {
    const OVER: Self = Self {
        class: Class::NoLeak,
        slope: 0.0,
        begin: 0.0,
        ups: 0,
    };
}

/// Judges steps at `x` in 0..1 (one is now) of these heights. `near`: steps closer than this are one.
///
/// `None`: up and down and up again, which says nothing of where it goes.
#[must_use]
pub fn judge(x: &[f64], heights: &[f64], near: f64) -> Option<Stairs> {
    let mut steps: Vec<(f64, f64)> = x.iter().copied().zip(heights.iter().copied()).collect();
    steps.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut merged: Vec<(f64, f64)> = Vec::new();
    for (at, height) in steps {
        match merged.last_mut() {
            Some(last) if at - last.0 <= near => *last = (at, last.1 + height),
            _ => merged.push((at, height)),
        }
    }
    let largest = merged.iter().map(|step| step.1.abs()).fold(0.0, f64::max);
    merged.retain(|step| step.1.abs() >= SMALL * largest);
    let ups: Vec<(f64, f64)> = merged.iter().copied().filter(|s| s.1 > 0.0).collect();
    let downs = merged.len() - ups.len();
    let growth: f64 = merged.iter().map(|step| step.1).sum();
    let m = ups.len();
    let way: f64 = heights.iter().map(|height| height.abs()).sum();
    if heights.len() > FEW && (downs * 5 > m || growth < 0.5 * way) {
        return None;
    }
    if growth < 0.5 * way || m < 3 || downs * 5 > m {
        return Some(Stairs::OVER);
    }
    let gaps: Vec<f64> = ups.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let sizes: Vec<f64> = ups.iter().map(|step| step.1).collect();
    let open = 1.0 - ups[m - 1].0;
    let mean_gap = mean(&gaps);
    let (uneven_gaps, uneven_sizes) = (variation(&gaps), variation(&sizes));
    let slope = if uneven_gaps < 0.5 || ups[0].0 > 2.0 * mean_gap {
        mean(&sizes) / mean_gap
    } else {
        growth
    };
    let class = if m == 3 {
        let regular = uneven_gaps < 0.15 && uneven_sizes < 0.1;
        if regular && open < 1.2 * mean_gap {
            Class::Ambiguous
        } else {
            Class::NoLeak
        }
    } else {
        let p = odds(&ups, &gaps, uneven_gaps, uneven_sizes);
        if p > 0.8 {
            Class::Leak
        } else if p < 0.25 {
            Class::NoLeak
        } else {
            Class::Ambiguous
        }
    };
    Some(Stairs {
        class,
        slope,
        begin: (ups[0].0 - mean_gap).max(0.0),
        ups: m,
    })
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Standard deviation over mean.
fn variation(values: &[f64]) -> f64 {
    let middle = mean(values);
    let n = values.len().max(2) as f64;
    let square: f64 = values.iter().map(|v| (v - middle) * (v - middle)).sum();
    (square / (n - 1.0)).sqrt() / middle.abs().max(1e-12)
}

/// Probability that the steps go on: equally likely at any time, against a process that stopped somewhere, one
/// that thins out as records do (1/t), and ones that decay. Regular steps of one size are no chance.
fn odds(ups: &[(f64, f64)], gaps: &[f64], uneven_gaps: f64, uneven_sizes: f64) -> f64 {
    let m = ups.len();
    let begin = ups[0].0;
    let since: Vec<f64> = ups[1..]
        .iter()
        .map(|step| (step.0 - begin) / (1.0 - begin).max(1e-9))
        .collect();
    let k = since.len() as f64;
    let last = since.last().copied().unwrap_or(1.0).clamp(1e-3, 1.0);
    // A uniform density has the logarithm 0; the end of a stopped process may be anywhere after the last step.
    let stopped = ((last.powf(1.0 - k) - 1.0) / (k - 1.0)).max(1e-6).ln();
    let earliest = 0.005_f64;
    let records: f64 = ups
        .iter()
        .map(|step| -step.0.max(earliest).ln() - (-earliest.ln()).ln())
        .sum();
    let decay = [0.1, 0.2, 0.35].map(|tau: f64| {
        let scale = (tau * (1.0 - (-1.0 / tau).exp())).ln();
        ups.iter().map(|step| -step.0 / tau - scale).sum::<f64>()
    });
    let open = 1.0 - ups[m - 1].0;
    let longest = gaps.iter().copied().fold(0.0, f64::max);
    let mut going = 1.0_f64.ln();
    if uneven_gaps < 0.4 && uneven_sizes < 0.3 {
        going += if open <= 1.6 * longest {
            m as f64 - 2.0
        } else {
            -3.0
        };
    }
    let mut other = stopped.exp() + records.exp();
    other += decay.iter().map(|d| d.exp()).sum::<f64>() / 3.0;
    let going = going.exp();
    going / (going + 0.5 * other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_where_they_are() {
        let y: Vec<f64> = (0..100)
            .map(|i| f64::from(u8::from(i >= 30)) + 2.0 * f64::from(u8::from(i >= 70)))
            .collect();
        let found = find(&y, &[vec![1.0; 100]], 5);
        assert_eq!(found[..2], [70, 30]);
    }

    #[test]
    fn bends_are_found_where_they_are() {
        let x: Vec<f64> = (0..100).map(|i| f64::from(i) / 100.0).collect();
        let y = x.iter().map(|x| (x - 0.3).max(0.0) - (x - 0.6).max(0.0));
        let found = bends(&y.collect::<Vec<f64>>(), &x, &[vec![1.0; 100]], 4);
        assert_eq!(found[..2], [30, 60], "{found:?}");
    }

    #[test]
    fn stairs_that_go_on_leak_and_those_that_thin_out_do_not() {
        let even: Vec<f64> = (0..8).map(|k| 0.06 + 0.12 * f64::from(k)).collect();
        let judged = judge(&even, &[1.0; 8], 0.01).expect("stairs");
        assert_eq!(judged.class, Class::Leak);
        assert!((judged.slope - 1.0 / 0.12).abs() < 1e-6, "{judged:?}");
        let records = [0.01, 0.02, 0.03, 0.06, 0.1, 0.2, 0.4];
        let class = |x: &[f64]| judge(x, &vec![1.0; x.len()], 0.005).map(|stairs| stairs.class);
        assert_eq!(class(&records), Some(Class::NoLeak));
        assert_eq!(class(&[0.2, 0.5]), Some(Class::NoLeak));
        let stopped: Vec<f64> = (0..8).map(|k| 0.06 + 0.04 * f64::from(k)).collect();
        assert_eq!(class(&stopped), Some(Class::NoLeak));
    }
}
