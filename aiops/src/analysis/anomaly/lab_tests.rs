//! How often the detectors are right: precision and recall on the data of [`super::lab`]. The tables of
//! docs/accuracy.md are what these tests print (`--nocapture`).

use std::collections::BTreeMap;

use super::even::Even;
use super::jump::Course;
use super::lab;
use super::lab::LabSeries;
use super::outlier;

/// What was found, right or wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Score {
    pub(super) right: f64,
    pub(super) wrong: f64,
    pub(super) missed: f64,
    pub(super) days: f64,
}

impl Score {
    pub(super) fn add(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.missed += other.missed;
        self.days += other.days;
    }

    pub(super) fn precision(self) -> f64 {
        self.right / (self.right + self.wrong).max(1.0)
    }

    pub(super) fn recall(self) -> f64 {
        self.right / (self.right + self.missed).max(1.0)
    }
}

/// Matches found times with the labels, each once.
fn judge(series: &LabSeries, found: &[f64], window_s: f64) -> Score {
    let mut open: Vec<f64> = found.to_vec();
    let mut score = Score::default();
    for one in &series.growth {
        let near = |at: &f64| (at - one.at_s).abs() <= window_s.max(one.rise_s);
        match open.iter().position(near) {
            Some(place) => {
                open.remove(place);
                score.right += 1.0;
            }
            None => score.missed += 1.0,
        }
    }
    score.wrong = open.len() as f64;
    let ends = series.samples.first().zip(series.samples.last());
    score.days = ends.map_or(0.0, |(first, last)| (last.0 - first.0) / 86_400.0);
    score
}

fn course(series: &LabSeries) -> Option<Course> {
    let even = Even::of(&series.samples, super::SYSTEM_STEPS)?;
    Course::of(even, super::system_least(series.total_kb))
}

fn window_s(course: &Course) -> f64 {
    course.window as f64 * course.even.step_s
}

/// 60 series: 40 of a week, 10 of three weeks, 10 of a day.
fn set(seed: u64, wild: bool) -> Vec<(&'static str, LabSeries)> {
    let of = |at: u64| match at {
        0..40 => ("7 days", lab::series(seed * 1000 + at, 7.0, 300.0, wild)),
        40..50 => ("21 days", lab::series(seed * 1000 + at, 21.0, 300.0, wild)),
        _ => ("1 day", lab::series(seed * 1000 + at, 1.0, 60.0, wild)),
    };
    (0..60).map(of).collect()
}

#[test]
fn growth_points_are_found() {
    growth_points(false);
}

#[test]
fn growth_points_are_found_where_no_two_days_are_alike() {
    growth_points(true);
}

fn growth_points(wild: bool) {
    let mut all = Score::default();
    let mut rows: BTreeMap<String, Score> = BTreeMap::new();
    let mut textbook = Score::default();
    let mut changes: BTreeMap<u32, Score> = BTreeMap::new();
    for seed in seeds("1") {
        for (length, series) in set(seed, wild) {
            let course = course(&series).expect("long enough");
            let least = super::system_least(series.total_kb);
            let times = |sigmas: f64| -> Vec<f64> {
                let up = course
                    .jumps(sigmas, least)
                    .into_iter()
                    .filter(|jump| jump.size > 0.0);
                up.map(|jump| course.even.time(jump.at)).collect()
            };
            let score = judge(&series, &times(super::JUMP_SIGMAS), window_s(&course));
            if std::env::var_os("AIOPS_LAB_SHOW").is_some()
                && (score.wrong > 0.0 || score.missed > 0.0)
            {
                println!(
                    "{seed} {length} {}: {score:?} season {}",
                    series.family, course.seasonal
                );
                let begin = series.samples[0].0;
                for one in &series.growth {
                    let at = course.even.place(one.at_s).unwrap_or(0);
                    println!(
                        "   label {:.2} h size {:.2}% rise {:.0} z {:?}",
                        (one.at_s - begin) / 3600.0,
                        100.0 * one.size_kb / series.total_kb,
                        one.rise_s,
                        course.change(at)
                    );
                }
                for one in course.jumps(super::JUMP_SIGMAS, least) {
                    println!(
                        "   found {:.2} h size {:.2}% z {:.1}",
                        (course.even.time(one.at) - begin) / 3600.0,
                        100.0 * one.size / series.total_kb,
                        one.sigmas
                    );
                }
            }
            all.add(score);
            rows.entry(length.to_owned()).or_default().add(score);
            rows.entry(series.family.to_owned()).or_default().add(score);
            for sigmas in [4, 5, 6, 7, 8, 10, 12, 15] {
                let score = judge(&series, &times(f64::from(sigmas)), window_s(&course));
                changes.entry(sigmas).or_default().add(score);
            }
            if course.residual.is_some() {
                let peaks = course.peaks(super::PEAK_SIGMAS, least);
                let at: Vec<f64> = peaks
                    .iter()
                    .map(|peak| course.even.time(peak.from))
                    .collect();
                textbook.add(judge(&series, &at, window_s(&course)));
            }
        }
    }
    let line = |name: &str, score: Score| {
        println!(
            "| {name} | {} | {:.2} | {:.2} | {:.3} |",
            score.right + score.missed,
            score.precision(),
            score.recall(),
            score.wrong / score.days
        );
    };
    println!(
        "| series | growth points | precision | recall | false a day |\n|---|---|---|---|---|"
    );
    for (name, score) in rows {
        line(&name, score);
    }
    line("all", all);
    for (sigmas, score) in changes {
        line(&format!("all, z > {sigmas}"), score);
    }
    line("residual of STL alone", textbook);
    assert!(all.precision() >= 0.9 && all.recall() >= 0.8, "{all:?}");
}

#[test]
fn outliers_are_found() {
    let mut all: BTreeMap<String, Score> = BTreeMap::new();
    for seed in seeds("1") {
        for at in 0..150 {
            let host = lab::host(seed * 1000 + at);
            let names: Vec<&str> = host.processes.iter().map(|one| one.0.as_str()).collect();
            let figures: Vec<outlier::Figures> = host.processes.iter().map(|one| one.1).collect();
            let every = outlier::of_host(&names, &figures, host.total_kb, 3.0);
            for sigmas in [3.0, 3.5, 4.0, 5.0, 6.0] {
                let found = every.iter().filter(|one| one.sigmas > sigmas);
                let found: Vec<outlier::Outlier> = found.copied().collect();
                let score = all.entry(format!("z > {sigmas}")).or_default();
                score.days += 1.0;
                for one in &found {
                    if host.outliers.iter().any(|(place, _)| *place == one.at) {
                        score.right += 1.0;
                    } else {
                        score.wrong += 1.0;
                        if std::env::var_os("AIOPS_LAB_SHOW").is_some() && sigmas == 4.0 {
                            println!("false {} {one:?} {:?}", names[one.at], figures[one.at]);
                        }
                    }
                }
                for (place, feature) in &host.outliers {
                    if found.iter().all(|one| one.at != *place) {
                        score.missed += 1.0;
                        if std::env::var_os("AIOPS_LAB_SHOW").is_some() && sigmas == 4.0 {
                            println!("missed {} {feature:?} {:?}", names[*place], figures[*place]);
                        }
                    }
                }
            }
        }
    }
    println!("| threshold | outliers | precision | recall | false a host |\n|---|---|---|---|---|");
    for (name, score) in &all {
        println!(
            "| {name} | {} | {:.2} | {:.2} | {:.3} |",
            score.right + score.missed,
            score.precision(),
            score.recall(),
            score.wrong / score.days
        );
    }
    let score = all[&format!("z > {}", super::OUTLIER_SIGMAS)];
    assert!(
        score.precision() >= 0.9 && score.recall() >= 0.7,
        "{score:?}"
    );
}

/// Seeds of the data: this one, unless `AIOPS_LAB_SEEDS=1,2` chooses others.
pub(super) fn seeds(usual: &str) -> Vec<u64> {
    let text = std::env::var("AIOPS_LAB_SEEDS").unwrap_or_else(|_| usual.to_owned());
    text.split(',')
        .map(|seed| seed.parse().expect("a seed"))
        .collect()
}
