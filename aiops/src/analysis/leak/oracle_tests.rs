//! The numerics against scipy, statsmodels and ruptures: fixtures of our own (tests/data/numerics), and the
//! shared ones where they are (`AIOPS_SHARED`, else `shared` beside the workspace).

use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use super::gls;
use super::gls::Design;
use super::gls::Term;
use super::gls::Whitened;
use super::pelt::pelt;
use super::robust;
use super::trend;

fn read(path: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

fn fixtures() -> Vec<Value> {
    with_shared("fixtures.json")
}

/// Our fixtures of this name, and the shared ones; said aloud when those are not there.
pub(in crate::analysis) fn with_shared(name: &str) -> Vec<Value> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = read(&here.join("../tests/data/numerics").join(name));
    let mut all = vec![own.expect("the committed fixtures")];
    let shared = std::env::var_os("AIOPS_SHARED").map_or(here.join("../../shared"), PathBuf::from);
    let path = shared.join("leaklab/oracles.json");
    match read(&path) {
        Some(oracles) => all.push(oracles),
        None => println!("SKIPPED: {} is not there", path.display()),
    }
    all
}

pub(in crate::analysis) fn numbers(value: &Value) -> Vec<f64> {
    let array = value.as_array().expect("an array");
    array.iter().map(number).collect()
}

pub(in crate::analysis) fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

pub(in crate::analysis) fn near(ours: f64, theirs: f64, tolerance: f64) {
    let scale = theirs.abs().max(1.0);
    assert!(
        (ours - theirs).abs() <= tolerance * scale,
        "{ours} is not {theirs}"
    );
}

#[test]
fn theil_sen_is_scipys() {
    for all in fixtures() {
        let one = &all["theilslopes"];
        let found = robust::theil_sen(&numbers(&one["x"]), &numbers(&one["y"]));
        let found = found.expect("a slope");
        near(found.slope, number(&one["slope"]), 1e-12);
        near(found.intercept, number(&one["intercept"]), 1e-12);
        near(found.low, number(&one["low"]), 1e-12);
        near(found.high, number(&one["high"]), 1e-12);
    }
}

#[test]
fn mad_and_opening_are_scipys() {
    for all in fixtures() {
        let one = &all["mad"];
        near(robust::mad(&numbers(&one["x"])), number(&one["mad"]), 1e-12);
        let one = &all["grey_opening"];
        let size = one["size"].as_u64().unwrap_or(5);
        let size = usize::try_from(size).expect("a size");
        let opened = robust::opening(&numbers(&one["x"]), size);
        assert_eq!(opened, numbers(&one["y"]));
    }
}

#[test]
fn least_squares_under_ar1_noise_are_statsmodels() {
    for all in fixtures() {
        let one = &all["gls_ar1"];
        let y = numbers(&one["y"]);
        let rows: Vec<Vec<f64>> = one["X"]
            .as_array()
            .expect("rows")
            .iter()
            .map(numbers)
            .collect();
        let width = rows[0].len();
        let n = y.len();
        let times: Vec<f64> = (0..n).map(|i| i as f64).collect();
        let mut first = vec![false; n];
        first[0] = true;
        let design = Design {
            columns: (0..width)
                .map(|k| rows.iter().map(|row| row[k]).collect())
                .collect(),
            base: 1,
            gaps: gls::gaps(&times, &first),
            y,
        };
        let mut white = Whitened::new(&design, number(&one["phi"]));
        let terms: Vec<Term> = (1..width).map(|plus| Term { plus, minus: None }).collect();
        let fit = white.fit(&terms, 1);
        let mut ours = white.base_coefficients(&terms, &fit, 1);
        ours.extend(&fit.coefficients);
        for (ours, theirs) in ours.iter().zip(numbers(&one["params"])) {
            near(*ours, theirs, 1e-9);
        }
        near(fit.rss, number(&one["rss_white"]), 1e-9);
        // The likelihood that BIC is made of.
        let count = n as f64;
        let likelihood = -0.5 * count * ((std::f64::consts::TAU * fit.rss / count).ln() + 1.0)
            - 0.5 * white.log_det;
        near(likelihood, number(&one["llf"]), 1e-9);
        let bic = -2.0 * likelihood + count.ln() * width as f64;
        near(bic, number(&one["bic"]), 1e-9);
    }
}

#[test]
fn change_points_are_ruptures() {
    for all in fixtures() {
        let one = &all["pelt_l2"];
        let penalty = one["pen"].as_f64().unwrap_or(10.0);
        let ends = pelt(&numbers(&one["y"]), penalty, 2);
        let ends: Vec<f64> = ends.into_iter().map(|end| end as f64).collect();
        assert_eq!(ends, numbers(&one["bkps"]));
    }
}

#[test]
fn lines_are_scipys() {
    for all in fixtures() {
        let one = &all["linregress"];
        let found = trend::ols(&numbers(&one["x"]), &numbers(&one["y"])).expect("a line");
        near(found.slope, number(&one["slope"]), 1e-10);
        near(found.intercept, number(&one["intercept"]), 1e-10);
        near(found.r2, number(&one["r"]).powi(2), 1e-10);
        near(found.stderr, number(&one["stderr"]), 1e-10);
        near(found.p, number(&one["p"]), 1e-10);
        relative(found.p, number(&one["p"]), 1e-8);
    }
}

/// Small probabilities are compared by their own size.
fn relative(ours: f64, theirs: f64, tolerance: f64) {
    assert!(
        (ours - theirs).abs() <= tolerance * theirs.abs(),
        "{ours} is not {theirs}"
    );
}

#[test]
fn rank_correlations_are_scipys() {
    for all in fixtures() {
        for name in ["kendalltau_exact", "kendalltau_asymptotic"] {
            let one = &all[name];
            let found = trend::kendall(&numbers(&one["x"]), &numbers(&one["y"]));
            let found = found.expect("both vary");
            near(found.tau, number(&one["tau"]), 1e-12);
            near(found.p, number(&one["p"]), 1e-12);
        }
    }
}

#[test]
fn trend_tests_are_pymannkendalls() {
    for all in fixtures() {
        let one = &all["mann_kendall"];
        let y = numbers(&one["y"]);
        let found = trend::mann_kendall(&y);
        near(found.s, number(&one["s"]), 1e-9);
        near(found.variance, number(&one["var_s"]), 1e-9);
        near(found.z, number(&one["z"]), 1e-9);
        near(found.p, number(&one["p"]), 1e-9);
        let found = trend::hamed_rao(&y);
        near(found.z, number(&one["hamed_rao_z"]), 1e-9);
        near(found.p, number(&one["hamed_rao_p"]), 1e-9);
    }
}
