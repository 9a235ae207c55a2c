//! The numerics against statsmodels and scikit-learn: fixtures of our own (tests/data/numerics), and the shared
//! ones where they are.

use serde_json::Value;

use super::super::leak::oracle_tests::near;
use super::super::leak::oracle_tests::number;
use super::super::leak::oracle_tests::numbers;
use super::super::leak::oracle_tests::with_shared;
use super::dbscan::dbscan;
use super::iforest::Forest;
use super::iforest::Node;
use super::iforest::Tree;
use super::season;
use super::season::Parts;
use super::season::Work;
use super::whole;

fn fixtures() -> Vec<Value> {
    with_shared("anomaly.json")
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    let array = value.as_array().expect("rows");
    array.iter().map(numbers).collect()
}

fn same_parts(ours: &Parts, seasonal: &[f64], one: &Value) {
    let pairs = [
        (&ours.seasonal[..], seasonal.to_vec()),
        (&ours.trend[..], numbers(&one["trend"])),
        (&ours.residual[..], numbers(&one["resid"])),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            near(*ours, theirs, 1e-9);
        }
    }
}

#[test]
fn seasons_are_statsmodels() {
    for all in fixtures() {
        for (name, robust) in [("stl", false), ("stl_robust", true)] {
            let one = &all[name];
            let parts = season::stl(&numbers(&one["y"]), 12, 7, robust, Work::Exact);
            same_parts(
                &parts.expect("two periods"),
                &numbers(&one["seasonal"]),
                one,
            );
        }
        let one = &all["mstl"];
        let parts = season::mstl(&numbers(&one["y"]), &[24, 84], false, Work::Exact);
        let seasons = rows(&one["seasonal"]);
        let sum: Vec<f64> = if seasons.len() == 2 {
            seasons[0]
                .iter()
                .zip(&seasons[1])
                .map(|(a, b)| a + b)
                .collect()
        } else {
            seasons.iter().map(|row| row.iter().sum()).collect()
        };
        same_parts(&parts.expect("two periods"), &sum, one);
    }
}

#[test]
fn clusters_are_scikit_learns() {
    for all in fixtures() {
        let one = &all["dbscan"];
        let eps = one["eps"].as_f64().unwrap_or(0.5);
        let found = dbscan(&rows(&one["X"]), eps, 4);
        let labels: Vec<f64> = found
            .labels
            .iter()
            .map(|label| label.map_or(-1.0, |label| label as f64))
            .collect();
        assert_eq!(labels, numbers(&one["labels"]));
        let core: Vec<f64> = (0..found.core.len())
            .filter(|&at| found.core[at])
            .map(|at| at as f64)
            .collect();
        assert_eq!(core, numbers(&one["core"]));
    }
}

/// A tree as scikit-learn keeps it: arrays over the nodes, with feature -2 at the leaves.
fn tree(value: &Value) -> Tree {
    let column = |name: &str| numbers(&value[name]);
    let (feature, threshold) = (column("feature"), column("threshold"));
    let (left, right) = (column("left"), column("right"));
    let samples = column("n");
    let node = |at: usize| {
        if feature[at] < 0.0 {
            Node::Leaf(whole(samples[at]))
        } else {
            Node::Cut {
                feature: whole(feature[at]),
                threshold: threshold[at],
                left: whole(left[at]),
                right: whole(right[at]),
            }
        }
    };
    Tree((0..feature.len()).map(node).collect())
}

#[test]
fn paths_and_scores_are_scikit_learns() {
    for all in fixtures() {
        let one = &all["isolation_forest"];
        let trees = one["trees"].as_array().expect("trees");
        let forest = Forest {
            trees: trees.iter().map(tree).collect(),
            sample: whole(number(&one["max_samples"])),
        };
        let theirs = numbers(&one["score_samples"]);
        for (point, theirs) in rows(&one["X"]).iter().zip(theirs) {
            // scikit-learn keeps points in single precision.
            #[expect(clippy::cast_possible_truncation, reason = "that is what it does")]
            let point: Vec<f64> = point.iter().map(|x| f64::from(*x as f32)).collect();
            near(-forest.score(&point), theirs, 1e-9);
        }
    }
}

/// Our own trees are not scikit-learn's, but they find the same points unusual.
#[test]
fn forests_of_our_own_put_the_same_points_first() {
    for all in fixtures() {
        let one = &all["isolation_forest"];
        let points = rows(&one["X"]);
        let theirs = numbers(&one["score_samples"]);
        let forest = Forest::grow(&points, 400, 7);
        let ours: Vec<f64> = points.iter().map(|point| forest.score(point)).collect();
        // Share of the pairs that scikit-learn clearly tells apart, and that we order alike.
        let (mut alike, mut pairs) = (0.0, 0.0);
        for i in 0..points.len() {
            for j in 0..i {
                let apart = theirs[j] - theirs[i];
                if apart.abs() > 0.1 {
                    pairs += 1.0;
                    alike += f64::from(u8::from((ours[i] - ours[j]) * apart > 0.0));
                }
            }
        }
        assert!(pairs > 20.0 && alike / pairs > 0.97, "{alike} of {pairs}");
    }
}
