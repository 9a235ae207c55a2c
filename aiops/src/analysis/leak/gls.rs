//! Least squares under AR(1) noise, for many models over the same columns.
//!
//! The columns are whitened once for each autocorrelation. The leading columns (intercept, load, seasons) stand
//! in every model: they are taken out of all others through one Cholesky factor, whose prefixes are the factors
//! of the shorter sets, so that a model costs no more than its own one to three columns.

use super::robust::median;

/// Autocorrelations at the median distance of two samples that are tried.
pub const PHIS: [f64; 8] = [0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.992];

/// Solves a symmetric positive definite system in place of its lower triangle: the Cholesky factor, row by
/// row. A pivot that vanishes (a column that others make up) is made large, which takes the column out.
fn cholesky(matrix: &mut [f64], n: usize) {
    for i in 0..n {
        let whole = matrix[i * n + i];
        for j in 0..=i {
            let mut sum = matrix[i * n + j];
            for k in 0..j {
                sum -= matrix[i * n + k] * matrix[j * n + k];
            }
            matrix[i * n + j] = if i == j {
                if sum > 1e-9 * whole.max(1e-12) {
                    sum.sqrt()
                } else {
                    1e12
                }
            } else {
                sum / matrix[j * n + j]
            };
        }
    }
}

/// Solves L z = b.
fn forward(factor: &[f64], n: usize, b: &mut [f64]) {
    for i in 0..n {
        for k in 0..i {
            b[i] -= factor[i * n + k] * b[k];
        }
        b[i] /= factor[i * n + i];
    }
}

/// Solves Lᵀ z = b.
fn backward(factor: &[f64], n: usize, b: &mut [f64]) {
    for i in (0..n).rev() {
        for k in i + 1..n {
            b[i] -= factor[k * n + i] * b[k];
        }
        b[i] /= factor[i * n + i];
    }
}

/// What the models are made of. Column 0 to `base` stand in every model (or a prefix of them does).
#[derive(Debug)]
pub struct Design {
    /// Columns, each as long as `y`.
    pub columns: Vec<Vec<f64>>,
    /// Leading columns that models share.
    pub base: usize,
    /// The observed values.
    pub y: Vec<f64>,
    /// Distance to the value before in median distances; `None`: the noise starts anew (another life).
    pub gaps: Vec<Option<f64>>,
}

/// A column, or the difference of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// This column.
    pub plus: usize,
    /// Less this one.
    pub minus: Option<usize>,
}

/// A fitted model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fit {
    /// Coefficients of its own terms.
    pub coefficients: Vec<f64>,
    /// Sum of the squares of the whitened residuals.
    pub rss: f64,
}

/// Distances in units of the median one. `first` marks values before which nothing is known.
#[must_use]
pub fn gaps(times: &[f64], first: &[bool]) -> Vec<Option<f64>> {
    let steps: Vec<f64> = (1..times.len())
        .filter(|&i| !first[i])
        .map(|i| times[i] - times[i - 1])
        .collect();
    let unit = median(&steps).max(1e-9);
    (0..times.len())
        .map(|i| (i > 0 && !first[i]).then(|| ((times[i] - times[i - 1]) / unit).max(1e-3)))
        .collect()
}

/// A [`Design`] with the autocorrelation taken out.
#[derive(Debug)]
pub struct Whitened {
    columns: Vec<Vec<f64>>,
    /// For each column and, last, for y: its part in the base, as the Cholesky factor sees it.
    parts: Vec<Vec<f64>>,
    factor: Vec<f64>,
    base: usize,
    dots: Vec<f64>,
    /// Space for the equations of one model.
    space: (Vec<f64>, Vec<f64>),
    /// Sum of the logarithms of the variances.
    pub log_det: f64,
    /// Mean of the inverse variances.
    pub mean_inverse: f64,
}

/// Sum of the products.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Four sums, so that additions do not wait for each other.
    let mut sums = [0.0; 4];
    let (a4, a1) = a.as_chunks::<4>();
    let (b4, b1) = b.as_chunks::<4>();
    for (x, y) in a4.iter().zip(b4) {
        for k in 0..4 {
            sums[k] += x[k] * y[k];
        }
    }
    let rest: f64 = a1.iter().zip(b1).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

/// A design under each of [`PHIS`], whitened when it is first asked for.
#[derive(Debug)]
pub struct Whitenings<'a> {
    design: &'a Design,
    known: [Option<Whitened>; PHIS.len()],
}

impl<'a> Whitenings<'a> {
    /// Nothing is computed yet.
    #[must_use]
    pub fn new(design: &'a Design) -> Self {
        Self {
            design,
            known: [const { None }; PHIS.len()],
        }
    }

    /// The design under the autocorrelation with this number.
    pub fn at(&mut self, phi: usize) -> &mut Whitened {
        self.known[phi].get_or_insert_with(|| Whitened::new(self.design, PHIS[phi]))
    }
}

impl Whitened {
    /// Whitens every column for this autocorrelation.
    #[must_use]
    pub fn new(design: &Design, phi: f64) -> Self {
        let n = design.y.len();
        let follow: Vec<f64> = design
            .gaps
            .iter()
            .map(|gap| gap.map_or(0.0, |gap| if phi > 0.0 { phi.powf(gap) } else { 0.0 }))
            .collect();
        let scale: Vec<f64> = follow.iter().map(|f| 1.0 / (1.0 - f * f).sqrt()).collect();
        let whiten = |column: &Vec<f64>| -> Vec<f64> {
            let mut out = Vec::with_capacity(n);
            let mut before = 0.0;
            for i in 0..n {
                out.push((column[i] - follow[i] * before) * scale[i]);
                before = column[i];
            }
            out
        };
        let mut columns: Vec<Vec<f64>> = design.columns.iter().map(whiten).collect();
        columns.push(whiten(&design.y));
        let base = design.base;
        let mut factor = vec![0.0; base * base];
        for i in 0..base {
            for j in 0..=i {
                factor[i * base + j] = dot(&columns[i], &columns[j]);
            }
        }
        cholesky(&mut factor, base);
        let parts = columns
            .iter()
            .map(|column| {
                let mut part: Vec<f64> = (0..base).map(|j| dot(column, &columns[j])).collect();
                forward(&factor, base, &mut part);
                part
            })
            .collect();
        Self {
            dots: vec![f64::NAN; columns.len() * columns.len()],
            columns,
            parts,
            factor,
            base,
            space: (Vec::new(), Vec::new()),
            log_det: scale.iter().map(|s| -2.0 * s.ln()).sum(),
            mean_inverse: scale.iter().map(|s| s * s).sum::<f64>() / n.max(1) as f64,
        }
    }

    /// Product of two columns after the first `base` ones are taken out of both.
    fn cleaned(&mut self, a: usize, b: usize, base: usize) -> f64 {
        let (a, b) = (a.min(b), a.max(b));
        let place = a * self.columns.len() + b;
        if self.dots[place].is_nan() {
            self.dots[place] = dot(&self.columns[a], &self.columns[b]);
        }
        self.dots[place] - dot(&self.parts[a][..base], &self.parts[b][..base])
    }

    fn product(&mut self, a: Term, b: Term, base: usize) -> f64 {
        let mut sum = self.cleaned(a.plus, b.plus, base);
        if let Some(minus) = a.minus {
            sum -= self.cleaned(minus, b.plus, base);
        }
        if let Some(minus) = b.minus {
            sum -= self.cleaned(a.plus, minus, base);
        }
        if let (Some(a), Some(b)) = (a.minus, b.minus) {
            sum += self.cleaned(a, b, base);
        }
        sum
    }

    /// The factor of a model's own normal equations, and their right side.
    fn normal(&mut self, terms: &[Term], base: usize) -> (Vec<f64>, Vec<f64>) {
        let n = terms.len();
        let y = self.target();
        let (mut matrix, mut right) = std::mem::take(&mut self.space);
        matrix.clear();
        matrix.resize(n * n, 0.0);
        right.clear();
        for i in 0..n {
            for j in 0..=i {
                matrix[i * n + j] = self.product(terms[i], terms[j], base);
            }
            matrix[i * n + i] *= 1.0 + 1e-13;
            right.push(self.product(terms[i], y, base));
        }
        cholesky(&mut matrix, n);
        (matrix, right)
    }

    fn target(&self) -> Term {
        Term {
            plus: self.columns.len() - 1,
            minus: None,
        }
    }

    /// Fits the first `base` columns and these terms.
    pub fn fit(&mut self, terms: &[Term], base: usize) -> Fit {
        let n = terms.len();
        let (factor, mut right) = self.normal(terms, base);
        let y = self.target();
        let total = self.product(y, y, base);
        forward(&factor, n, &mut right);
        let explained: f64 = right.iter().map(|part| part * part).sum();
        backward(&factor, n, &mut right);
        let coefficients = right.clone();
        self.space = (factor, right);
        Fit {
            coefficients,
            rss: (total - explained).max(0.0),
        }
    }

    /// Variance of a weighted sum of the coefficients, for noise of variance 1.
    pub fn variance(&mut self, terms: &[Term], base: usize, weights: &[f64]) -> f64 {
        let (factor, _) = self.normal(terms, base);
        let mut weights = weights.to_vec();
        forward(&factor, terms.len(), &mut weights);
        weights.iter().map(|part| part * part).sum()
    }

    /// Coefficients of the first `base` columns beside a fit of these terms.
    #[must_use]
    pub fn base_coefficients(&self, terms: &[Term], fit: &Fit, base: usize) -> Vec<f64> {
        let mut right = self.parts[self.columns.len() - 1][..base].to_vec();
        for (term, coefficient) in terms.iter().zip(&fit.coefficients) {
            for (k, right) in right.iter_mut().enumerate() {
                let minus = term.minus.map_or(0.0, |minus| self.parts[minus][k]);
                *right -= coefficient * (self.parts[term.plus][k] - minus);
            }
        }
        // The prefix of the factor, tightly packed.
        let factor: Vec<f64> = (0..base)
            .flat_map(|i| self.factor[i * self.base..i * self.base + base].to_vec())
            .collect();
        backward(&factor, base, &mut right);
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn design(y: Vec<f64>) -> Design {
        let n = y.len();
        let x: Vec<f64> = (0..n).map(|i| i as f64 / n as f64).collect();
        let mut first = vec![false; n];
        first[0] = true;
        Design {
            columns: vec![vec![1.0; n], x.clone(), x.iter().map(|x| x * x).collect()],
            base: 1,
            gaps: gaps(&x, &first),
            y,
        }
    }

    const LINE: Term = Term {
        plus: 1,
        minus: None,
    };
    const SQUARE: Term = Term {
        plus: 2,
        minus: None,
    };

    #[test]
    fn a_parabola_is_found_whatever_the_noise_is_thought_to_be() {
        let y = (0..40).map(|i| f64::from(i) / 40.0);
        let design = design(y.map(|x| 5.0 + 2.0 * x - 3.0 * x * x).collect());
        for phi in PHIS {
            let mut white = Whitened::new(&design, phi);
            let fit = white.fit(&[LINE, SQUARE], 1);
            assert!((fit.coefficients[0] - 2.0).abs() < 1e-3, "{phi} {fit:?}");
            assert!((fit.coefficients[1] + 3.0).abs() < 1e-3, "{phi} {fit:?}");
            assert!(fit.rss < 1e-6, "{phi} {fit:?}");
            let base = white.base_coefficients(&[LINE, SQUARE], &fit, 1);
            assert!((base[0] - 5.0).abs() < 1e-3, "{phi} {base:?}");
        }
    }

    #[test]
    fn a_difference_of_columns_is_a_column() {
        let mut design = design((0..30).map(|i| f64::from(i % 7)).collect());
        let both = design.columns[1].iter().zip(&design.columns[2]);
        let difference = both.map(|(a, b)| a - b).collect();
        design.columns.push(difference);
        let mut white = Whitened::new(&design, 0.6);
        let term = Term {
            plus: 1,
            minus: Some(2),
        };
        let column = Term {
            plus: 3,
            minus: None,
        };
        let (made, given) = (white.fit(&[term], 1), white.fit(&[column], 1));
        assert!((made.rss - given.rss).abs() < 1e-9, "{made:?} {given:?}");
    }
}
