//! Least squares under AR(1) noise, for many models over the same columns.
//!
//! The columns are whitened once for each autocorrelation. The leading columns (intercept, load, seasons) stand
//! in every model: they are taken out of all others through one Cholesky factor, whose prefixes are the factors
//! of the shorter sets, so that a model costs no more than its own one to three columns. Nothing is computed
//! before a model asks for it: few models want every autocorrelation, and not every series has seasons.

use super::robust::median;

/// Autocorrelations at the median distance of two samples that are tried.
pub const PHIS: [f64; 8] = [0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.992];

/// Solves a symmetric positive definite system in place of its lower triangle: the Cholesky factor, row by
/// row. A pivot that vanishes (a column that others make up) is made large, which takes the column out.
fn cholesky(matrix: &mut [f64], n: usize) {
    for i in 0..n {
        cholesky_row(matrix, n, i);
    }
}

/// One row of it, when those before are done.
fn cholesky_row(matrix: &mut [f64], n: usize, i: usize) {
    let whole = matrix[i * n + i];
    let (above, row) = matrix.split_at_mut(i * n);
    for j in 0..=i {
        let mut sum = row[j];
        if j == i {
            for done in &row[..i] {
                sum -= done * done;
            }
            row[i] = if sum > 1e-9 * whole.max(1e-12) {
                sum.sqrt()
            } else {
                1e12
            };
        } else {
            let other = &above[j * n..=j * n + j];
            for (done, other) in row.iter().zip(&other[..j]) {
                sum -= done * other;
            }
            row[j] = sum / other[j];
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

/// A number for each pair of columns, in any order, the last column being y; NaN: not known.
#[derive(Debug)]
struct Pairs {
    count: usize,
    own: Vec<f64>,
    with_y: Vec<f64>,
    /// By the first column of the pair, from the one after it; few columns are the first of any.
    others: Vec<Vec<f64>>,
}

impl Pairs {
    fn new(count: usize) -> Self {
        Self {
            count,
            own: vec![f64::NAN; count],
            with_y: vec![f64::NAN; count],
            others: vec![Vec::new(); count],
        }
    }

    fn at(&mut self, a: usize, b: usize) -> &mut f64 {
        let (a, b) = (a.min(b), a.max(b));
        if a == b {
            return &mut self.own[a];
        }
        if b + 1 == self.count {
            return &mut self.with_y[a];
        }
        let row = &mut self.others[a];
        if row.is_empty() {
            row.resize(self.count - a - 2, f64::NAN);
        }
        &mut row[b - a - 1]
    }

    fn forget(&mut self) {
        self.own.fill(f64::NAN);
        self.with_y.fill(f64::NAN);
        for row in &mut self.others {
            row.fill(f64::NAN);
        }
    }
}

/// A [`Design`] with the autocorrelation taken out.
#[derive(Debug)]
pub struct Whitened<'a> {
    design: &'a Design,
    /// What of each value follows from the one before, and the inverse standard deviation of the rest.
    follow: Vec<f64>,
    scale: Vec<f64>,
    /// The columns and, last, y, one behind the other, and which of them are there.
    columns: Vec<f64>,
    there: Vec<bool>,
    /// For each of them its part in the base, as the Cholesky factor sees it, and how much of that is there.
    parts: Vec<f64>,
    known: Vec<usize>,
    factor: Vec<f64>,
    /// The same by columns.
    turned: Vec<f64>,
    /// Rows of the factor that are there.
    rows: usize,
    /// Products of two columns.
    dots: Pairs,
    /// The same after the first `cleaned_of` columns are taken out of both.
    cleaned: Pairs,
    cleaned_of: usize,
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

/// The same for a column and three others at once: to the last bit what [`dot`] gives, but the column is read once.
fn dot_three(a: &[f64], others: [&[f64]; 3]) -> [f64; 3] {
    let (a4, a1) = a.as_chunks::<4>();
    let [(b4, b1), (c4, c1), (d4, d1)] = others.map(<[f64]>::as_chunks::<4>);
    let mut sums = [[0.0; 4]; 3];
    for (x, ((b, c), d)) in a4.iter().zip(b4.iter().zip(c4).zip(d4)) {
        for k in 0..4 {
            sums[0][k] += x[k] * b[k];
            sums[1][k] += x[k] * c[k];
            sums[2][k] += x[k] * d[k];
        }
    }
    let rests = [b1, c1, d1].map(|b1| -> f64 { a1.iter().zip(b1).map(|(x, y)| x * y).sum() });
    [0, 1, 2].map(|k| sums[k].iter().sum::<f64>() + rests[k])
}

/// A design under each of [`PHIS`], whitened when it is first asked for.
#[derive(Debug)]
pub struct Whitenings<'a> {
    design: &'a Design,
    known: [Option<Whitened<'a>>; PHIS.len()],
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
    pub fn at(&mut self, phi: usize) -> &mut Whitened<'a> {
        self.known[phi].get_or_insert_with(|| Whitened::new(self.design, PHIS[phi]))
    }
}

impl<'a> Whitened<'a> {
    /// Ready to whiten columns for this autocorrelation.
    #[must_use]
    pub fn new(design: &'a Design, phi: f64) -> Self {
        let n = design.y.len();
        let mut last = (f64::NAN, f64::NAN);
        let mut power = |gap: f64| {
            // Most distances are the same.
            if gap.to_bits() != last.0.to_bits() {
                last = (gap, phi.powf(gap));
            }
            last.1
        };
        let follow: Vec<f64> = design
            .gaps
            .iter()
            .map(|gap| gap.map_or(0.0, |gap| if phi > 0.0 { power(gap) } else { 0.0 }))
            .collect();
        let scale: Vec<f64> = follow.iter().map(|f| 1.0 / (1.0 - f * f).sqrt()).collect();
        let count = design.columns.len() + 1;
        Self {
            design,
            columns: vec![0.0; count * n],
            there: vec![false; count],
            parts: vec![0.0; count * design.base],
            known: vec![0; count],
            factor: vec![0.0; design.base * design.base],
            turned: vec![0.0; design.base * design.base],
            rows: 0,
            dots: Pairs::new(count),
            cleaned: Pairs::new(count),
            cleaned_of: usize::MAX,
            space: (Vec::new(), Vec::new()),
            log_det: scale.iter().map(|s| -2.0 * s.ln()).sum(),
            mean_inverse: scale.iter().map(|s| s * s).sum::<f64>() / n.max(1) as f64,
            follow,
            scale,
        }
    }

    /// A whitened column.
    fn column(&self, number: usize) -> &[f64] {
        let n = self.follow.len();
        &self.columns[number * n..(number + 1) * n]
    }

    /// Its part in the first `base` columns.
    fn part(&self, number: usize, base: usize) -> &[f64] {
        let from = number * self.design.base;
        &self.parts[from..from + base]
    }

    fn whiten(&mut self, number: usize) {
        if std::mem::replace(&mut self.there[number], true) {
            return;
        }
        let n = self.follow.len();
        let column = self.design.columns.get(number).unwrap_or(&self.design.y);
        let out = &mut self.columns[number * n..(number + 1) * n];
        out[0] = column[0] * self.scale[0];
        let noise = self.follow[1..].iter().zip(&self.scale[1..]);
        for ((out, pair), (follow, scale)) in out[1..].iter_mut().zip(column.windows(2)).zip(noise)
        {
            *out = (pair[1] - follow * pair[0]) * scale;
        }
    }

    /// The next row of the factor of the base.
    fn add_row(&mut self) {
        let (i, base) = (self.rows, self.design.base);
        self.whiten(i);
        for j in 0..=i {
            self.factor[i * base + j] = dot(self.column(i), self.column(j));
        }
        cholesky_row(&mut self.factor, base, i);
        for j in 0..=i {
            self.turned[j * base + i] = self.factor[i * base + j];
        }
        self.rows += 1;
    }

    /// Whitens a column, and finds its part in the first `base` ones.
    fn prepare(&mut self, number: usize, base: usize) {
        self.whiten(number);
        let from = self.known[number];
        if from >= base {
            return;
        }
        while self.rows < base {
            self.add_row();
        }
        let all = self.design.base;
        let mut parts = std::mem::take(&mut self.parts);
        let part = &mut parts[number * all..number * all + base];
        let column = self.column(number);
        let mut k = from;
        while k + 3 <= base {
            let others = [k, k + 1, k + 2].map(|k| self.column(k));
            part[k..k + 3].copy_from_slice(&dot_three(column, others));
            k += 3;
        }
        for (k, part) in part.iter_mut().enumerate().skip(k) {
            *part = dot(column, self.column(k));
        }
        // As `forward` does it, but by columns: subtractions do not wait for each other.
        for k in 0..base {
            let below = &self.turned[k * all..k * all + base];
            if k >= from {
                part[k] /= below[k];
            }
            let (done, first) = (part[k], from.max(k + 1));
            for (part, factor) in part[first..].iter_mut().zip(&below[first..]) {
                *part -= factor * done;
            }
        }
        self.parts = parts;
        self.known[number] = base;
    }

    /// Product of two columns after the first `base` ones are taken out of both.
    fn cleaned(&mut self, a: usize, b: usize, base: usize) -> f64 {
        if self.cleaned_of != base {
            self.cleaned.forget();
            self.cleaned_of = base;
        }
        let known = *self.cleaned.at(a, b);
        if !known.is_nan() {
            return known;
        }
        self.prepare(a, base);
        self.prepare(b, base);
        let whole = self.dots.at(a, b);
        if whole.is_nan() {
            let n = self.follow.len();
            let (a, b) = (a * n, b * n);
            *whole = dot(&self.columns[a..a + n], &self.columns[b..b + n]);
        }
        let whole = *whole;
        let cleaned = whole - dot(self.part(a, base), self.part(b, base));
        *self.cleaned.at(a, b) = cleaned;
        cleaned
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
            plus: self.there.len() - 1,
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

    /// What such a fit leaves.
    pub fn rss(&mut self, terms: &[Term], base: usize) -> f64 {
        let (factor, mut right) = self.normal(terms, base);
        let y = self.target();
        let total = self.product(y, y, base);
        forward(&factor, terms.len(), &mut right);
        let explained: f64 = right.iter().map(|part| part * part).sum();
        self.space = (factor, right);
        (total - explained).max(0.0)
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
    pub fn base_coefficients(&mut self, terms: &[Term], fit: &Fit, base: usize) -> Vec<f64> {
        self.prepare(self.there.len() - 1, base);
        for term in terms {
            self.prepare(term.plus, base);
            term.minus
                .into_iter()
                .for_each(|minus| self.prepare(minus, base));
        }
        let mut right = self.part(self.there.len() - 1, base).to_vec();
        for (term, coefficient) in terms.iter().zip(&fit.coefficients) {
            for (k, right) in right.iter_mut().enumerate() {
                let minus = term.minus.map_or(0.0, |minus| self.part(minus, base)[k]);
                *right -= coefficient * (self.part(term.plus, base)[k] - minus);
            }
        }
        // The prefix of the factor, tightly packed.
        let factor: Vec<f64> = (0..base)
            .flat_map(|i| self.factor[i * self.design.base..i * self.design.base + base].to_vec())
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
