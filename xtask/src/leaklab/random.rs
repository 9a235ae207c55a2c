//! Random numbers that are the same on every machine: xoshiro256++, seeded by SplitMix64.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Random([u64; 4]);

/// The whole part of a number; 0 below 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that is negative or not a number becomes 0"
)]
pub(super) fn whole(value: f64) -> usize {
    value as usize
}

impl Random {
    /// The stream of these words: a seed, a family, a number.
    pub(super) fn new(words: &[u64]) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |word: u64| {
            state = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            // The whole word stirs all that follows, else seeds and numbers could make up for each other.
            state ^= z;
            z
        };
        for word in words {
            next(*word);
        }
        Self([next(1), next(2), next(3), next(4)])
    }

    fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// 0 to 1, 1 never.
    pub(super) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// As likely within each factor.
    pub(super) fn scale(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// `low` to `high`, both included.
    pub(super) fn count(&mut self, low: usize, high: usize) -> usize {
        low + whole(self.unit() * (high - low + 1) as f64)
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.count(0, of.len() - 1)]
    }

    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Sizes with a heavy tail, 1 and more; the tail falls with this power.
    pub(super) fn pareto(&mut self, power: f64) -> f64 {
        (1.0 - self.unit()).powf(-1.0 / power)
    }

    /// How many of rare independent events happen.
    pub(super) fn poisson(&mut self, mean: f64) -> usize {
        if mean > 60.0 {
            return whole(mean + mean.sqrt() * self.normal() + 0.5);
        }
        let (mut count, mut left) = (0, (-mean).exp());
        left = self.unit().max(1e-300) / left.max(1e-300);
        while left > 1.0 {
            left *= self.unit();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_all_and_moments_are_right() {
        let (mut a, mut b) = (Random::new(&[1, 2]), Random::new(&[1, 2]));
        assert!((0..100).all(|_| a.bits() == b.bits()));
        assert_ne!(a.bits(), Random::new(&[1, 3]).bits());
        let n = 20_000;
        let mean = |f: &mut dyn FnMut() -> f64| (0..n).map(|_| f()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || a.normal())).abs() < 0.03);
        assert!((mean(&mut || a.normal().powi(2)) - 1.0).abs() < 0.05);
        assert!((mean(&mut || a.exponential(3.0)) - 3.0).abs() < 0.1);
        assert!((mean(&mut || a.poisson(4.0) as f64) - 4.0).abs() < 0.1);
        assert!((mean(&mut || a.poisson(90.0) as f64) - 90.0).abs() < 0.5);
    }
}
