use proptest::prelude::*;

use super::score::Figures;
use super::score::level;
use super::score::score;
use super::*;
use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::Item;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::Sample;
use crate::model::Zone;

/// A figure by its number: the higher, the worse, except the first.
fn slot(figures: &mut Figures, index: usize) -> &mut Option<f64> {
    match index {
        0 => &mut figures.available_pct,
        1 => &mut figures.psi_some_now,
        2 => &mut figures.psi_some_avg10,
        3 => &mut figures.psi_some_avg60,
        4 => &mut figures.psi_full_now,
        5 => &mut figures.psi_full_avg10,
        6 => &mut figures.psi_full_avg60,
        7 => &mut figures.swap_used_pct,
        8 => &mut figures.swap_in_mib_s,
        9 => &mut figures.swap_out_mib_s,
        10 => &mut figures.refault_anon_mib_s,
        11 => &mut figures.refault_file_mib_s,
        12 => &mut figures.majfault_per_s,
        13 => &mut figures.scanned_in_vain_per_s,
        14 => &mut figures.allocstall_per_s,
        15 => &mut figures.unusable_free_pct,
        _ => &mut figures.compact_stall_per_s,
    }
}

const SLOTS: usize = 17;
/// Slots of percentages.
const PERCENT: [usize; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 15];

fn from(values: &[Option<f64>], swap: Option<bool>) -> Figures {
    let mut figures = Figures {
        swap_present: swap,
        ..Figures::default()
    };
    for (index, value) in values.iter().enumerate() {
        let scale = if PERCENT.contains(&index) { 100.0 } else { 1.0 };
        *slot(&mut figures, index) = value.map(|value| {
            if scale > 1.0 {
                value * scale
            } else {
                // Rates from nothing to far beyond every curve.
                (value * 14.0).exp() - 1.0
            }
        });
    }
    figures
}

fn values() -> impl Strategy<Value = Vec<Option<f64>>> {
    proptest::collection::vec(proptest::option::weighted(0.8, 0.0..=1.0_f64), SLOTS)
}

proptest! {
    #[test]
    fn worse_figures_never_score_better(
        values in values(), index in 0..SLOTS, more in 0.0..=1.0_f64, swap in any::<bool>(),
    ) {
        let mut worse = values.clone();
        let Some(old) = values[index] else { return Ok(()) };
        worse[index] = Some(if index == 0 { old.min(more) } else { old.max(more) });
        let before = score(&from(&values, Some(swap))).score;
        let after = score(&from(&worse, Some(swap))).score;
        prop_assert!(after <= before, "{index}: {before:?} -> {after:?}");
    }

    #[test]
    fn every_score_is_a_number_of_0_to_100(values in values(), swap in any::<Option<bool>>()) {
        let figures = from(&values, swap);
        let scored = score(&figures);
        for value in scored.score.iter().chain(scored.factors.iter().filter_map(|f| f.score.as_ref())) {
            prop_assert!((0.0..=100.0).contains(value), "{value}");
        }
        let weights: f64 = scored.factors.iter().map(|factor| factor.effective_weight).sum();
        match scored.score {
            Some(_) => prop_assert!((weights - 1.0).abs() < 0.01, "{weights}"),
            None => prop_assert_eq!(weights, 0.0),
        }
        for factor in &scored.factors {
            prop_assert_eq!(factor.missing.is_some(), factor.score.is_none());
            let counts = factor.score.is_some() && scored.score.is_some();
            prop_assert_eq!(factor.effective_weight == 0.0, !counts);
        }
        let again = score(&figures);
        prop_assert_eq!(again.score, scored.score, "the same figures give the same score");
    }

    #[test]
    fn no_number_is_taken_for_unknown(bad in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1.0)], index in 0..SLOTS) {
        let mut figures = from(&[Some(0.5); SLOTS], Some(true));
        *slot(&mut figures, index) = Some(bad);
        let mut without = figures;
        *slot(&mut without, index) = None;
        prop_assert_eq!(score(&figures).score, score(&without).score);
    }

    #[test]
    fn a_host_that_thrashes_is_never_excellent(full in 1.001..=100.0_f64, which in 4..6_usize) {
        let mut figures = calm();
        *slot(&mut figures, which) = Some(full);
        prop_assert!(score(&figures).score < Some(90.0));
    }

    #[test]
    fn the_caps_hold(values in values(), full in 20.01..=100.0_f64, available in 0.0..2.99_f64) {
        let mut figures = from(&values, Some(true));
        figures.psi_full_avg10 = Some(full);
        prop_assert!(score(&figures).score <= Some(20.0));
        let mut figures = from(&values, Some(true));
        figures.available_pct = Some(available);
        prop_assert!(score(&figures).score <= Some(25.0));
    }
}

/// A host that does nothing.
fn calm() -> Figures {
    let mut figures = from(&[Some(0.0); SLOTS], Some(true));
    figures.available_pct = Some(95.0);
    figures
}

#[test]
fn a_calm_host_has_everything() {
    let scored = score(&calm());
    assert_eq!(scored.score, Some(100.0));
    assert!(scored.caps.is_empty());
    assert!(
        scored
            .factors
            .iter()
            .all(|factor| factor.lost_points == 0.0)
    );
}

#[test]
fn each_figure_alone_lowers_the_score() {
    for index in 0..SLOTS {
        // Anonymous refaults matter together with traffic of swap alone; idle swap is normal.
        if index == 7 || index == 10 {
            continue;
        }
        let mut figures = calm();
        let bad = if PERCENT.contains(&index) {
            97.0
        } else {
            100_000.0
        };
        *slot(&mut figures, index) = Some(if index == 0 { 8.0 } else { bad });
        let scored = score(&figures).score.unwrap();
        assert!(scored < 95.0, "{index}: {scored}");
    }
}

#[test]
fn swap_traffic_with_refaults_is_thrashing() {
    let mut figures = calm();
    figures.swap_out_mib_s = Some(2.0);
    assert!(
        score(&figures).caps.is_empty(),
        "swapping out alone is work"
    );
    figures.refault_anon_mib_s = Some(1.0);
    assert_eq!(score(&figures).caps[0].id, "thrash");
}

#[test]
fn weights_of_missing_parts_go_to_the_others() {
    let mut figures = calm();
    for index in 1..7 {
        *slot(&mut figures, index) = None;
    }
    figures.available_pct = Some(10.0);
    let scored = score(&figures);
    let factor = |id: &str| {
        scored
            .factors
            .iter()
            .find(|factor| factor.id == id)
            .unwrap()
    };
    assert!(factor("psi").missing.is_some());
    assert_eq!(factor("psi").effective_weight, 0.0);
    assert_eq!(factor("usage").effective_weight, 0.385);
    // 100 x 0.5 ^ (.25 / .65)
    assert_eq!(scored.score, Some(76.6));
    figures.swap_present = Some(false);
    let dropped = score(&figures);
    let swap = dropped
        .factors
        .iter()
        .find(|factor| factor.id == "swap")
        .unwrap();
    assert!(swap.missing.is_some() && swap.score.is_none());
    assert_eq!(score(&Figures::default()).score, None);
}

#[test]
fn what_costs_most_stands_first_and_the_points_add_up() {
    let mut figures = calm();
    figures.available_pct = Some(12.0);
    figures.psi_some_avg10 = Some(30.0);
    let scored = score(&figures);
    assert_eq!(scored.factors[0].id, "psi");
    assert_eq!(scored.factors[1].id, "usage");
    let lost: f64 = scored.factors.iter().map(|factor| factor.lost_points).sum();
    assert!(
        (lost + scored.uncapped.unwrap() - 100.0).abs() < 0.3,
        "{lost}"
    );
}

#[test]
fn pressure_that_is_over_is_forgiven_before_its_average_is() {
    let mut figures = calm();
    figures.psi_full_avg10 = Some(40.0);
    figures.psi_full_avg60 = Some(20.0);
    let during = score(&figures).score;
    figures.psi_full_avg10 = Some(2.0);
    figures.psi_full_avg60 = Some(12.0);
    let after = score(&figures).score;
    assert!(
        during <= Some(20.0) && after > Some(60.0),
        "{during:?} {after:?}"
    );
}

#[test]
fn levels_have_no_gaps() {
    let levels = [100.0, 90.0, 89.9, 75.0, 74.9, 50.0, 49.9, 25.1, 25.0, 0.0].map(level);
    assert_eq!(
        levels,
        [
            "excellent",
            "excellent",
            "good",
            "good",
            "fair",
            "fair",
            "poor",
            "poor",
            "critical",
            "critical"
        ]
    );
}

fn sample(seconds: u64, system: SystemMetrics, majflt: u64) -> Item {
    let process = |pid: u32, comm: &str, rss_kb, swap_kb, majflt| ProcessSample {
        pid,
        start_ticks: 1,
        comm: RawText::from(comm),
        metrics: ProcessMetrics {
            rss_kb: Some(rss_kb),
            swap_kb: Some(swap_kb),
            majflt: Some(majflt),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    };
    let cgroup = CgroupSample {
        path: RawText::from("/web"),
        metrics: CgroupMetrics {
            usage_kb: Some(1000),
            inactive_file_kb: Some(50),
            limit_kb: Some(1000),
            ..CgroupMetrics::default()
        },
        ..CgroupSample::default()
    };
    Item::Sample(Sample {
        ts_ns: seconds * 1_000_000_000,
        system: Some(system),
        processes: vec![
            process(7, "java", 700_000, 10, 0),
            process(8, "thrasher", 1000, 90_000, majflt),
        ],
        cgroups: vec![cgroup],
        ..Sample::default()
    })
}

fn pressed(seconds: u64) -> SystemMetrics {
    SystemMetrics {
        mem_total_kb: Some(1_000_000),
        mem_available_kb: Some(20_000),
        swap_total_kb: Some(100_000),
        swap_free_kb: Some(10_000),
        pswpin: Some(25_600 * seconds),
        pswpout: Some(0),
        psi_full_avg10: Some(2500),
        psi_full_total_us: Some(300_000 * seconds),
        pgmajfault: Some(1000 * seconds),
        workingset_refault: Some(512 * seconds),
        ..SystemMetrics::default()
    }
}

#[test]
fn readings_become_figures_causes_and_findings() {
    let mut readings = Readings::default();
    readings.push(sample(10, pressed(0), 0));
    readings.push(sample(14, pressed(4), 4000));
    let figures = figures(&readings);
    assert_eq!(figures.swap_in_mib_s, Some(100.0));
    assert_eq!(figures.psi_full_now, Some(30.0));
    assert_eq!(figures.refault_file_mib_s, Some(2.0));
    assert_eq!(figures.unusable_free_pct, None);
    let (data, findings) = assess(&readings, PsiFile::Unknown);
    assert_eq!(data.level, "critical");
    let cause = |factor: &str| {
        data.causes
            .iter()
            .find(|cause| cause.factor == factor)
            .unwrap()
    };
    assert_eq!(cause("usage").name, "java");
    assert_eq!(cause("swap").name, "thrasher");
    assert_eq!(
        (cause("psi").name.as_str(), cause("psi").value),
        ("thrasher", 1000.0)
    );
    assert_eq!(findings[0].id, "health-memory-critical");
    assert_eq!(findings[0].severity, crate::report::Severity::Critical);
    let near = findings
        .iter()
        .find(|finding| finding.id == "cgroup-near-limit")
        .unwrap();
    assert_eq!(near.severity, crate::report::Severity::Warning);
    assert_eq!(data.cgroups[0].working_set_pct, Some(95.0));
}

#[test]
fn an_old_kernel_is_scored_by_an_estimate() {
    let mut readings = Readings::default();
    let system = SystemMetrics {
        mem_total_kb: Some(100_000),
        mem_free_kb: Some(10_000),
        active_file_kb: Some(20_000),
        inactive_file_kb: Some(20_000),
        sreclaimable_kb: Some(4000),
        swap_total_kb: Some(0),
        ..SystemMetrics::default()
    };
    readings.push(sample(1, system, 0));
    readings.push(Item::Detail(Box::new(Detail {
        zones: Some(vec![Zone {
            low: Some(250),
            free_blocks: vec![488, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            ..Zone::default()
        }]),
        ..Detail::default()
    })));
    let figures = figures(&readings);
    // 10000 - 1000 + 40000 - 1000 + 4000 - 1000
    assert_eq!(
        (figures.available_pct, figures.available_estimated),
        (Some(51.0), true)
    );
    assert_eq!(figures.unusable_free_pct, Some(48.8));
    let (data, findings) = assess(&readings, PsiFile::Unknown);
    assert!(data.score > Some(95.0) && findings.len() == 1, "{data:?}");
    assert_eq!(data.notes.len(), 2);
    let usage = data
        .factors
        .iter()
        .find(|factor| factor.id == "usage")
        .unwrap();
    assert!(usage.inputs[0].estimated);
}

#[test]
fn nothing_read_is_no_score() {
    let (data, findings) = assess(&Readings::default(), PsiFile::Unknown);
    assert_eq!((data.score, data.level), (None, "unknown"));
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].id, "health-memory-unknown");
    assert!(data.factors.iter().all(|factor| factor.missing.is_some()));
}

#[test]
fn idle_swap_costs_next_to_nothing_and_traffic_by_what_is_in_use() {
    let with = |used, rate| {
        let mut figures = calm();
        figures.swap_used_pct = Some(used);
        figures.swap_in_mib_s = Some(rate);
        score(&figures).score.unwrap()
    };
    assert!(with(50.0, 0.0) >= 99.0 && with(90.0, 0.0) >= 99.0);
    let full = with(100.0, 0.0);
    assert!((92.0..98.0).contains(&full), "{full}");
    assert!(with(10.0, 50.0) > with(90.0, 50.0) + 5.0);
    assert!(with(90.0, 50.0) < 80.0);
}

#[test]
fn a_score_needs_usage_or_pressure_and_half_of_what_there_is() {
    // Fragmentation and a rate alone are no score, whatever they say.
    let mut figures = Figures {
        unusable_free_pct: Some(0.0),
        majfault_per_s: Some(0.0),
        ..Figures::default()
    };
    assert_eq!(score(&figures).score, None);
    assert!(
        score(&figures)
            .factors
            .iter()
            .all(|one| one.lost_points == 0.0)
    );
    // Pressure alone: swap may be there.
    let pressure = Figures {
        psi_full_avg10: Some(0.0),
        ..Figures::default()
    };
    assert_eq!(score(&pressure).score, None);
    // A host without PSI and swap has .45 to tell.
    figures = Figures {
        available_pct: Some(95.0),
        swap_present: Some(false),
        ..Figures::default()
    };
    assert_eq!(score(&figures).score, Some(100.0));
    // With PSI that could not be read, that is not half.
    figures.psi_expected = true;
    assert_eq!(score(&figures).score, None);
}

#[test]
fn a_pressure_file_that_is_not_understood_is_no_old_kernel() {
    let mut readings = Readings::default();
    let mut system = pressed(0);
    system.psi_full_avg10 = None;
    system.psi_full_total_us = None;
    readings.push(sample(10, system, 0));
    let told = |psi| missing(&readings, psi);
    assert!(told(PsiFile::Absent).is_empty());
    assert_eq!(told(PsiFile::There), ["/proc/pressure/memory"]);
    let (data, _) = assess(&readings, PsiFile::There);
    let psi = data.factors.iter().find(|one| one.id == "psi").unwrap();
    assert!(psi.missing.as_ref().unwrap().en.contains("not understood"));
    let empty = Readings::default();
    assert_eq!(
        missing(&empty, PsiFile::Unknown),
        ["/proc/meminfo", "/proc/vmstat"]
    );
}

#[test]
fn shares_say_of_what_and_points_are_never_minus_zero() {
    let mut readings = Readings::default();
    readings.push(sample(10, pressed(0), 0));
    readings.push(sample(14, pressed(4), 4000));
    let (data, _) = assess(&readings, PsiFile::Unknown);
    let swap = data.causes.iter().find(|one| one.measure == "swap_kb");
    // 90 000 KiB of the 90 000 KiB in use.
    let swap = swap.unwrap();
    assert_eq!(
        (swap.share_pct, swap.share_of),
        (Some(100.0), Some("swap_used"))
    );
    let rss = data
        .causes
        .iter()
        .find(|one| one.measure == "rss_kb")
        .unwrap();
    assert_eq!(
        (rss.share_pct, rss.share_of),
        (Some(70.0), Some("mem_total"))
    );
    for factor in &score(&calm()).factors {
        assert!(factor.lost_points.is_sign_positive(), "{factor:?}");
    }
}

#[test]
fn a_cgroup_that_thrashes_its_cache_is_a_cause_and_a_warning() {
    let at = |seconds: u64, hits: u64| {
        let cgroup = |path: &str, limit| CgroupSample {
            path: RawText::from(path),
            metrics: CgroupMetrics {
                limit_kb: limit,
                failcnt: Some(hits),
                workingset_refault_file: Some(hits * 3),
                ..CgroupMetrics::default()
            },
            ..CgroupSample::default()
        };
        let system = SystemMetrics {
            workingset_refault_file: Some(hits * 300),
            ..pressed(0)
        };
        Item::Sample(Sample {
            ts_ns: seconds * 1_000_000_000,
            system: Some(system),
            cgroups: vec![cgroup("/pods", None), cgroup("/pods/db", Some(1000))],
            ..Sample::default()
        })
    };
    let mut readings = Readings::default();
    readings.push(at(10, 0));
    readings.push(at(12, 8000));
    let (data, findings) = assess(&readings, PsiFile::Unknown);
    let cache = |measure| {
        let mut of = data.causes.iter();
        of.find(|one| one.factor == "cache" && one.measure == measure)
    };
    let hits = cache("limit_hits_per_s").unwrap();
    assert_eq!((hits.name.as_str(), hits.value), ("/pods/db", 4000.0));
    assert_eq!(cache("refaults_per_s").unwrap().name, "/pods/db");
    let found = findings.iter().find(|one| one.id == "cgroup-limit-thrash");
    assert_eq!(found.unwrap().severity, crate::report::Severity::Warning);
}
