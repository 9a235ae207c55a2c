//! Processes that are unlike the others of their host: noise of DBSCAN that also exceeds the others upward in a
//! figure that can be named. The isolation forest orders them.

use std::collections::BTreeMap;

use super::super::leak::robust::quantile;
use super::dbscan::dbscan;
use super::dbscan::radius;
use super::iforest::Forest;
use super::mad;
use super::median;

/// Neighbours of a core, itself one of them.
const NEIGHBOURS: usize = 4;
/// Fewest processes that are compared.
pub const FEWEST: usize = 12;
/// Trees of the forest, and its seed.
const TREES: usize = 200;
const SEED: u64 = 0x5EED;
/// Standard deviations of a normal distribution above which a tenth lies.
const TENTH: f64 = 1.281_551_565_544_600_4;
/// Scaled figures beyond this are as far away as can be.
const FAR: f64 = 40.0;

/// What processes are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Resident memory.
    Rss,
    /// Swapped out.
    Swap,
    /// Growth of resident memory.
    Growth,
    /// Major faults.
    Faults,
}

/// All of them, in the order of [`Figures`]; with the least spread that counts, on the scale of [`scaled`].
const FEATURES: [(Feature, f64); 4] = [
    (Feature::Rss, 0.25),
    (Feature::Swap, 0.5),
    (Feature::Growth, 0.4),
    (Feature::Faults, 0.4),
];

/// Figures of one process: resident KiB, swapped KiB, KiB an hour, major faults a second. Unknown is 0: it is
/// never a reason.
pub type Figures = [f64; 4];

/// A process that stands out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// Its place among those that were compared.
    pub at: usize,
    /// The figure in which it exceeds most.
    pub feature: Feature,
    /// The figure.
    pub value: f64,
    /// Median of all.
    pub usual: f64,
    /// How far above, in standard deviations (MAD) on a logarithmic scale.
    pub sigmas: f64,
    /// Score of the isolation forest, 0 to 1.
    pub score: f64,
    /// It was compared with so many processes of its name, itself one of them; `None`: with all of the host.
    pub siblings: Option<usize>,
}

/// What a figure must reach to be a reason, whatever the others have: 16 MiB, 64 MiB, 16 MiB/h, 20 a second.
const WORTH: Figures = [16_384.0, 65_536.0, 16_384.0, 20.0];
/// Siblings are alike in size: where they differ by more (MAD of the logarithm), one name has several programs.
const ALIKE: f64 = 0.5;
/// Size alone is a reason among all processes of a host from this share of its memory on. What is large by
/// design is not told from what is bloated by its size: siblings, growth, swap and faults do that.
const SHARE: f64 = 0.05;

/// Figures on scales that are logarithmic where a figure is large, as processes differ by factors.
fn scaled(figures: &Figures) -> [f64; 4] {
    [
        (figures[0].max(0.0) + 256.0).ln(),
        (figures[1].max(0.0) / 65_536.0).ln_1p(),
        (figures[2] / 16_384.0).asinh(),
        (figures[3].max(0.0) / 2.0).ln_1p(),
    ]
}

/// Finds those that stand out by more than `sigmas` in a figure of at least `worth`, the most unusual first.
fn outliers(all: &[Figures], sigmas: f64, worth: &Figures) -> Vec<Outlier> {
    if all.len() < FEWEST {
        return Vec::new();
    }
    let scales: Vec<[f64; 4]> = all.iter().map(scaled).collect();
    let mut points = vec![Vec::with_capacity(FEATURES.len()); all.len()];
    for (k, (_, least)) in FEATURES.iter().enumerate() {
        let column: Vec<f64> = scales.iter().map(|one| one[k]).collect();
        let (middle, mut wide) = (median(&column), mad(&column));
        if wide < *least {
            // Most have nothing, in swap for one: then the upper tenth says what is usual.
            wide = ((quantile(&column, 0.9) - middle) / TENTH).max(*least);
        }
        for (point, value) in points.iter_mut().zip(column) {
            point.push(((value - middle) / wide).clamp(-FAR, FAR));
        }
    }
    let eps = radius(&points, NEIGHBOURS, EPS_QUANTILE).clamp(EPS_LEAST, EPS_MOST);
    let labels = dbscan(&points, eps, NEIGHBOURS).labels;
    let reason = |at: usize| {
        let named = (0..FEATURES.len()).filter(|&k| all[at][k] >= worth[k]);
        let most = named.max_by(|&a, &b| points[at][a].total_cmp(&points[at][b]))?;
        (points[at][most] > sigmas).then_some(most)
    };
    let found: Vec<(usize, usize)> = (0..all.len())
        .filter(|&at| labels[at].is_none())
        .filter_map(|at| Some((at, reason(at)?)))
        .collect();
    if found.is_empty() {
        return Vec::new();
    }
    let forest = Forest::grow(&points, TREES, SEED);
    let mut found: Vec<Outlier> = found
        .into_iter()
        .map(|(at, k)| Outlier {
            at,
            feature: FEATURES[k].0,
            value: all[at][k],
            usual: median(&all.iter().map(|one| one[k]).collect::<Vec<_>>()),
            sigmas: points[at][k],
            score: forest.score(&points[at]),
            siblings: None,
        })
        .collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.at.cmp(&b.at)));
    found
}

/// The same for a host: all processes are compared with each other, and those of one name among themselves.
/// Each is told once, for the larger reason.
#[must_use]
pub fn of_host(names: &[&str], all: &[Figures], total_kb: f64, sigmas: f64) -> Vec<Outlier> {
    let mut worth = WORTH;
    worth[0] = worth[0].max(SHARE * total_kb);
    let mut found = outliers(all, sigmas, &worth);
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        groups.entry(name).or_default().push(at);
    }
    for (_, members) in groups
        .into_iter()
        .filter(|(_, members)| members.len() >= FEWEST)
    {
        let figures: Vec<Figures> = members.iter().map(|&at| all[at]).collect();
        let sizes: Vec<f64> = figures.iter().map(|one| scaled(one)[0]).collect();
        if mad(&sizes) > ALIKE {
            continue;
        }
        for one in outliers(&figures, sigmas, &WORTH) {
            let one = Outlier {
                at: members[one.at],
                siblings: Some(members.len()),
                ..one
            };
            match found.iter_mut().find(|other| other.at == one.at) {
                Some(other) if other.sigmas < one.sigmas => *other = one,
                Some(_) => {}
                None => found.push(one),
            }
        }
    }
    found.sort_by(|a, b| b.sigmas.total_cmp(&a.sigmas).then(a.at.cmp(&b.at)));
    found
}

/// The radius: this quantile of the distances to the 4th neighbour, within bounds.
const EPS_QUANTILE: f64 = 0.98;
const EPS_LEAST: f64 = 0.8;
const EPS_MOST: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_figure_that_exceeds() {
        let mut all: Vec<Figures> = (0..60)
            .map(|i| [20_000.0 + f64::from(i) * 300.0, 0.0, 0.0, 0.0])
            .collect();
        assert_eq!(outliers(&all, 4.0, &WORTH), []);
        all.push([25_000.0, 900_000.0, 0.0, 0.0]);
        let found = outliers(&all, 4.0, &WORTH);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].at, found[0].feature), (60, Feature::Swap));
        // Small is no reason.
        all[60] = [200.0, 0.0, 0.0, 0.0];
        assert_eq!(outliers(&all, 4.0, &WORTH), []);
        // A worker of four times the size of its siblings is one, whatever else the host has.
        let names = ["worker"; 61];
        all[60] = [100_000.0, 0.0, 0.0, 0.0];
        let found = of_host(&names, &all, 64e6, 4.0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].at, found[0].feature, found[0].siblings),
            (60, Feature::Rss, Some(61))
        );
        assert_eq!(outliers(&all[..5], 4.0, &WORTH), []);
    }
}
