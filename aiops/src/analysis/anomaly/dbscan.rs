//! DBSCAN (Ester et al. 1996): points that are close to enough others are clusters, the rest is noise.
//! Every pair is looked at, so it is for a few thousand points.

use super::super::leak::robust::quantile;

/// Euclidean distance.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt()
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clusters {
    /// The cluster of each point, numbered by their first core points; `None`: noise.
    pub labels: Vec<Option<usize>>,
    /// Whether it has enough neighbours.
    pub core: Vec<bool>,
}

/// Clusters of points. A point with at least `least` points no further than `eps`, itself one of them, is a
/// core; what is that near to a core belongs to its cluster.
#[must_use]
pub fn dbscan(points: &[Vec<f64>], eps: f64, least: usize) -> Clusters {
    let near = |at: usize| {
        let here = &points[at];
        (0..points.len()).filter(move |&other| distance(here, &points[other]) <= eps)
    };
    let core: Vec<bool> = (0..points.len())
        .map(|at| near(at).count() >= least)
        .collect();
    let mut labels = vec![None; points.len()];
    let mut next = 0;
    for first in 0..points.len() {
        if labels[first].is_some() || !core[first] {
            continue;
        }
        labels[first] = Some(next);
        let mut open = vec![first];
        while let Some(at) = open.pop() {
            for other in near(at) {
                if labels[other].is_none() {
                    labels[other] = Some(next);
                    if core[other] {
                        open.push(other);
                    }
                }
            }
        }
        next += 1;
    }
    Clusters { labels, core }
}

/// Distance of each point to its `k`-th nearest other one; that of the furthest where there are fewer.
#[must_use]
pub fn neighbour_distances(points: &[Vec<f64>], k: usize) -> Vec<f64> {
    let of = |at: usize| {
        let others = (0..points.len()).filter(|&other| other != at);
        let mut all: Vec<f64> = others
            .map(|other| distance(&points[at], &points[other]))
            .collect();
        if all.is_empty() {
            return 0.0;
        }
        let place = k.clamp(1, all.len()) - 1;
        *all.select_nth_unstable_by(place, f64::total_cmp).1
    };
    (0..points.len()).map(of).collect()
}

/// A radius that fits the data: this quantile of the distances to the `k`-th nearest other point.
#[must_use]
pub fn radius(points: &[Vec<f64>], k: usize, share: f64) -> f64 {
    quantile(&neighbour_distances(points, k), share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_heaps_and_what_is_far_from_both() {
        let mut points: Vec<Vec<f64>> = (0..5).map(|i| vec![f64::from(i) * 0.1, 0.0]).collect();
        points.extend((0..5).map(|i| vec![10.0 + f64::from(i) * 0.1, 0.0]));
        points.push(vec![5.0, 5.0]);
        let found = dbscan(&points, 0.25, 3);
        assert_eq!(found.labels[0], Some(0));
        assert_eq!(found.labels[4], Some(0));
        assert_eq!(found.labels[5..10], [Some(1); 5]);
        assert_eq!(found.labels[10], None);
        assert!(dbscan(&[], 1.0, 3).labels.is_empty());
        assert!((neighbour_distances(&points, 1)[0] - 0.1).abs() < 1e-12);
    }
}
