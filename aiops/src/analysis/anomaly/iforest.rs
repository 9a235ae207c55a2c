//! Isolation forest (Liu, Ting, Zhou 2008): what few random cuts part from the rest is unusual. Used for the
//! order of processes only: its score has no natural threshold.

use super::random::Random;

/// A node: a cut, or a leaf.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node {
    /// Points with no more than `threshold` in `feature` go left.
    Cut {
        /// Number of the coordinate.
        feature: usize,
        /// The cut.
        threshold: f64,
        /// Place of the left child.
        left: usize,
        /// Place of the right child.
        right: usize,
    },
    /// So many points of the sample ended here.
    Leaf(usize),
}

/// A tree: the root is the first node.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree(pub Vec<Node>);

/// Trees, and how many points each was grown from.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    /// The trees.
    pub trees: Vec<Tree>,
    /// Points of the sample of one tree.
    pub sample: usize,
}

/// Mean path length of an unsuccessful search in a binary search tree of so many points.
#[must_use]
pub fn usual_path(points: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match points {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let less = (points - 1) as f64;
            2.0 * (less.ln() + EULER) - 2.0 * less / points as f64
        }
    }
}

impl Tree {
    /// Cuts until this point is alone, and what the leaf's other points would still need.
    #[must_use]
    pub fn path(&self, point: &[f64]) -> f64 {
        let (mut at, mut depth) = (0, 0.0);
        loop {
            match self.0.get(at) {
                Some(&Node::Cut {
                    feature,
                    threshold,
                    left,
                    right,
                }) => {
                    let value = point.get(feature).copied().unwrap_or(0.0);
                    at = if value <= threshold { left } else { right };
                    depth += 1.0;
                }
                Some(&Node::Leaf(points)) => return depth + usual_path(points),
                None => return depth,
            }
        }
    }

    fn grow(points: &[Vec<f64>], mut chosen: Vec<usize>, most: u32, random: &mut Random) -> Self {
        let mut tree = Self(Vec::new());
        tree.add(points, &mut chosen, most, random);
        tree
    }

    fn add(
        &mut self,
        points: &[Vec<f64>],
        chosen: &mut [usize],
        depth: u32,
        random: &mut Random,
    ) -> usize {
        let at = self.0.len();
        self.0.push(Node::Leaf(chosen.len()));
        let Some((feature, low, high)) = cut_of(points, chosen, random).filter(|_| depth > 0)
        else {
            return at;
        };
        // Below the highest value, so that both sides have points.
        let threshold = random.between(low, high).min(high.next_down());
        let mut kept = 0;
        for place in 0..chosen.len() {
            if points[chosen[place]][feature] <= threshold {
                chosen.swap(place, kept);
                kept += 1;
            }
        }
        let (less, more) = chosen.split_at_mut(kept);
        let left = self.add(points, less, depth - 1, random);
        let right = self.add(points, more, depth - 1, random);
        self.0[at] = Node::Cut {
            feature,
            threshold,
            left,
            right,
        };
        at
    }
}

/// One of the coordinates in which the points differ, with its range.
fn cut_of(points: &[Vec<f64>], chosen: &[usize], random: &mut Random) -> Option<(usize, f64, f64)> {
    let wide = points.first()?.len();
    let ranges = (0..wide).filter_map(|feature| {
        let values = || chosen.iter().map(|&at| points[at][feature]);
        let (low, high) = (
            values().fold(f64::INFINITY, f64::min),
            values().fold(f64::NEG_INFINITY, f64::max),
        );
        (low < high).then_some((feature, low, high))
    });
    let ranges: Vec<_> = ranges.collect();
    ranges.get(random.below(ranges.len())).copied()
}

impl Forest {
    /// Grows `trees` trees, each from a sample of at most 256 points, as the paper has it.
    #[must_use]
    pub fn grow(points: &[Vec<f64>], trees: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let sample = points.len().min(256);
        let most = sample.max(2).ilog2() + 1;
        let tree = |_| {
            let mut all: Vec<usize> = (0..points.len()).collect();
            for place in 0..sample {
                let other = place + random.below(all.len() - place);
                all.swap(place, other);
            }
            all.truncate(sample);
            Tree::grow(points, all, most, &mut random)
        };
        Self {
            trees: (0..trees).map(tree).collect(),
            sample,
        }
    }

    /// 0 to 1: about 0.5 is usual, towards 1 is unusual.
    #[must_use]
    pub fn score(&self, point: &[f64]) -> f64 {
        let usual = usual_path(self.sample) * self.trees.len() as f64;
        if usual <= 0.0 {
            return 0.5;
        }
        let path: f64 = self.trees.iter().map(|tree| tree.path(point)).sum();
        (-path / usual).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_far_away_scores_highest_in_every_run() {
        let mut random = Random::new(1);
        let mut points: Vec<Vec<f64>> = (0..300)
            .map(|_| vec![random.unit(), random.unit(), 0.0])
            .collect();
        points.push(vec![5.0, 5.0, 0.0]);
        let forest = Forest::grow(&points, 100, 7);
        assert_eq!(forest, Forest::grow(&points, 100, 7));
        let scores: Vec<f64> = points.iter().map(|point| forest.score(point)).collect();
        let highest = scores[..300].iter().copied().fold(0.0, f64::max);
        assert!(scores[300] > highest + 0.05, "{} {highest}", scores[300]);
        assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
        // Equal points cannot be parted.
        let same = Forest::grow(&[vec![1.0], vec![1.0]], 10, 7);
        assert!((same.score(&[1.0]) - 0.5).abs() < 1e-12);
        assert!((Forest::grow(&[], 10, 7).score(&[1.0]) - 0.5).abs() < 1e-12);
    }
}
