//! Rows from verdicts with exact rates.

use crate::analysis::leak;
use crate::analysis::leak::Series;
use crate::analysis::limits::Surroundings;
use crate::analysis::risk::Member;
use crate::model::CgroupMetrics;
use crate::report::Severity;

use super::*;

/// 2026-01-01 00:00:30 UTC.
const NOW_NS: i64 = 1_767_225_630_000_000_000;

/// A verdict with this growth, MiB/h.
fn verdict(class: Class, rate: f64, error: f64) -> Assessment {
    let mut found = leak::assess(&Series::default(), None);
    found.class = class;
    found.probability = match class {
        Class::Leak => 0.9,
        Class::NoLeak => 0.1,
        Class::Ambiguous => 0.5,
    };
    let slow = MIB / HOUR;
    found.rate = Some(rate * slow);
    let wide = WIDE * error * slow;
    found.rate_interval = Some((rate * slow - wide, rate * slow + wide));
    found.span_s = 86_400.0;
    found.onset_s = Some(NOW_NS as f64 / 1e9 - 7200.0);
    found
}

fn process(pid: u32, class: Class, rate: f64) -> Judged {
    Judged {
        who: Named::Process {
            pid,
            start_ticks: u64::from(pid),
        },
        found: verdict(class, rate, 1.0),
        last: 100.0 * MIB,
    }
}

fn cgroup(path: &str, rate: f64, error: f64) -> Judged {
    Judged {
        who: Named::Cgroup(path.to_owned()),
        found: verdict(Class::Leak, rate, error),
        last: 100.0 * MIB,
    }
}

fn member(pid: u32, cgroup: &str, mib: u64) -> Member {
    Member {
        pid,
        start_ticks: u64::from(pid),
        comm: format!("p{pid}"),
        cgroup: Some(cgroup.to_owned()),
        bytes: mib << 20,
        oom_score_adj: Some(0),
        ..Member::default()
    }
}

/// A host of 8 GiB with `left` MiB, and cgroups of version 2: path, limit, memory.high, use in MiB.
fn rows(
    left: u64,
    cgroups: &[(&str, u64, Option<u64>, u64)],
    members: Vec<Member>,
    judged: Vec<Judged>,
) -> RiskData {
    let system = SystemMetrics {
        mem_total_kb: Some(8 << 20),
        mem_available_kb: Some(left << 10),
        ..SystemMetrics::default()
    };
    let sample = |(path, limit, high, usage): &(&str, u64, Option<u64>, u64)| CgroupSample {
        path: (*path).into(),
        metrics: CgroupMetrics {
            usage_kb: Some(usage << 10),
            limit_kb: Some(limit << 10),
            high_kb: high.map(|mib| mib << 10),
            psi_some_avg10: Some(250),
            ..CgroupMetrics::default()
        },
        ..CgroupSample::default()
    };
    let cgroups: Vec<CgroupSample> = cgroups.iter().map(sample).collect();
    let scene = Scene {
        surroundings: Surroundings::new(Some(&system), &cgroups, Some(2), false),
        members,
        page_bytes: 4096,
        ..Scene::default()
    };
    data(Input {
        scene,
        judged,
        system: Some(&system),
        cgroups: &cgroups,
        now: (NOW_NS, 0),
        window: RiskWindow {
            processes: 2,
            ..RiskWindow::default()
        },
    })
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn two_leaks_share_a_limit_and_neither_is_counted_twice() {
    let data = rows(
        4000,
        &[("/app", 600, Some(550), 500)],
        vec![member(10, "/app", 100), member(11, "/app/w", 200)],
        vec![
            process(10, Class::Leak, 10.0),
            process(11, Class::Leak, 30.0),
            cgroup("/app", 41.0, 1.0),
        ],
    );
    let kinds: Vec<(&str, Option<u32>, f64)> = data
        .risks
        .iter()
        .map(|risk| {
            (
                risk.kind,
                risk.pid,
                (risk.hours.unwrap() * 1e6).round() / 1e6,
            )
        })
        .collect();
    // 100 MiB at 40 MiB/h. The larger dies then with its 275 MiB; the other goes on: 275 MiB more at 10 MiB/h.
    assert_eq!(
        kinds[..3],
        [
            ("process", Some(11), 2.5),
            ("process", Some(10), 2.5),
            ("cgroup", None, 2.5)
        ]
    );
    let first = &data.risks[1];
    let at = NOW_NS + 9_000_000_000_000;
    let expected = time::rfc3339(at, time::local_offset_s(at)).unwrap();
    assert_eq!(first.at.as_ref().unwrap()[..16], expected[..16]);
    assert_eq!(first.limit_source, Some("cgroup"));
    assert_eq!(
        (first.limit_cgroup.as_deref(), first.limit_name),
        (Some("/app"), Some("memory.max"))
    );
    assert_eq!(first.left_bytes, Some(100 << 20));
    assert!(near(first.total_rate_mib_per_hour.unwrap(), 40.0));
    let (low, high) = first.interval.unwrap();
    let wide = 1.96 * 2.0_f64.sqrt();
    assert!(near(low, 100.0 / (40.0 + wide)) && near(high.unwrap(), 100.0 / (40.0 - wide)));
    assert_eq!(first.competing.len(), 1);
    let other = &first.competing[0];
    assert_eq!((other.pid, other.kind), (Some(11), "process"));
    assert!(near(other.share, 0.75));
    let victim = first.victim.as_ref().unwrap();
    assert_eq!(
        (victim.pid, victim.bytes, victim.leaks),
        (11, 275 << 20, true)
    );
    let warning = first.early_warning.as_ref().unwrap();
    assert!(near(warning.hours, 1.25));
    let group = &data.risks[2];
    assert!(near(group.rate_mib_per_hour.unwrap(), 40.0) && group.competing.is_empty());
    assert!(near(group.leak_probability.unwrap(), 0.99));
    let findings = findings(&data);
    assert_eq!(
        (findings[0].id, findings[0].severity),
        ("oom-risk", Severity::Critical)
    );
    // One limit is one finding.
    let app = findings.iter().filter(|one| one.title.en.contains("/app"));
    assert_eq!(app.count(), 1);
}

#[test]
fn a_cgroup_may_grow_without_a_leaking_process() {
    let data = rows(
        4000,
        &[("/tmpfs", 200, None, 150)],
        vec![],
        vec![cgroup("/tmpfs", 5.0, 0.5)],
    );
    let row = &data.risks[0];
    assert_eq!((row.kind, row.reason), ("cgroup", "growth"));
    assert!(near(row.hours.unwrap(), 10.0) && row.victim.is_none());
    let found = &findings(&data)[0];
    assert!(
        found.advice[0].en.contains("no single process leaks"),
        "{found:?}"
    );
}

#[test]
fn what_stands_near_a_limit_without_growth_has_no_time() {
    let mut bound = member(12, "/", 10);
    bound.own = vec![Bound {
        limit: Limit::AddressSpace,
        limit_bytes: 100 << 20,
        used_bytes: 93 << 20,
        left_bytes: 7 << 20,
        scale_bytes: 100 << 20,
    }];
    let data = rows(
        4000,
        &[("/full", 100, None, 96), ("/half", 100, None, 50)],
        vec![member(10, "/full", 90), bound],
        vec![process(10, Class::NoLeak, 0.0)],
    );
    let told: Vec<(&str, &str, Option<f64>)> = data
        .risks
        .iter()
        .map(|risk| (risk.kind, risk.reason, risk.hours))
        .collect();
    assert_eq!(
        told,
        [
            ("cgroup", "near-limit", None),
            ("process", "near-limit", None)
        ]
    );
    assert!(
        data.risks
            .iter()
            .all(|risk| risk.at.is_none() && risk.interval.is_none())
    );
    let findings = findings(&data);
    assert_eq!(findings.len(), 2);
    assert_eq!(
        (findings[0].id, findings[0].severity),
        ("oom-risk-near-limit", Severity::Warning)
    );
    assert!(
        findings[0]
            .title
            .en
            .starts_with("96 % of 100 MiB of cgroup /full")
    );
    assert_eq!(findings[1].severity, Severity::Info);
}

#[test]
fn what_cannot_be_decided_is_told_apart_and_hastens_nobody() {
    let mut young = process(11, Class::Ambiguous, 90.0);
    young.found.rate_interval = None;
    let data = rows(
        1000,
        &[],
        vec![member(10, "/a", 100), member(11, "/b", 300)],
        vec![process(10, Class::Leak, 10.0), young],
    );
    let hours = |pid: u32| {
        let row = data.risks.iter().find(|risk| risk.pid == Some(pid));
        row.map(|row| (row.reason, (row.hours.unwrap() * 1e6).round() / 1e6))
    };
    assert_eq!(hours(10), Some(("growth", 100.0)));
    assert_eq!(hours(11), Some(("undecided", 10.0)));
    assert_eq!((data.window.leaks, data.window.undecided), (1, 1));
    let told: Vec<(&str, Severity)> = findings(&data)
        .iter()
        .map(|one| (one.id, one.severity))
        .collect();
    assert_eq!(
        told,
        [
            ("oom-risk", Severity::Warning),
            ("oom-risk-undecided", Severity::Warning)
        ]
    );
    assert!(near(data.host.rate_mib_per_hour, 10.0));
}

#[test]
fn a_victim_that_does_not_leak_is_said_so() {
    let data = rows(
        4000,
        &[("/app", 1000, None, 900)],
        vec![member(10, "/app", 100), member(11, "/app", 700)],
        vec![process(10, Class::Leak, 10.0)],
    );
    let victim = data.risks[0].victim.as_ref().unwrap();
    assert_eq!((victim.pid, victim.leaks), (11, false));
    // 700 of 1000 MiB.
    assert_eq!((victim.badness_pages, victim.score), (700 * 256, 700));
    let found = &findings(&data)[0];
    assert!(
        found.advice[0].en.contains("/proc/10/oom_score_adj"),
        "{found:?}"
    );
}

#[test]
fn peaks_of_collections_meet_the_limit_sooner() {
    let mut judged = process(10, Class::Leak, 10.0);
    // The verdict says that a limit FAR away is met as if 20 MiB were gone already.
    let rate = judged.found.rate.unwrap();
    judged.found.hit = Some(leak::Hit {
        after_s: (FAR - 20.0 * MIB) / rate,
        interval_s: (0.0, None),
    });
    let data = rows(120, &[], vec![member(10, "/a", 100)], vec![judged]);
    assert!(
        (data.risks[0].hours.unwrap() - 10.0).abs() < 1e-3,
        "{:?}",
        data.risks[0]
    );
}

#[test]
fn two_minutes_of_a_job_foretell_no_day() {
    let young = |seen_s: f64| {
        let mut judged = process(10, Class::Leak, 100.0);
        judged.found.span_s = seen_s;
        // 1000 MiB at 100 MiB/h: 10 h.
        let data = rows(1000, &[], vec![member(10, "/a", 100)], vec![judged]);
        let row = &data.risks[0];
        assert!(near(row.hours.unwrap(), 10.0) && near(row.seen_hours.unwrap(), seen_s / HOUR));
        (row.reason, findings(&data)[0].severity, data.window.leaks)
    };
    assert_eq!(young(120.0), ("undecided", Severity::Info, 0));
    assert_eq!(young(301.0), ("growth", Severity::Critical, 1));
    // What is near is told even so: 36 s ahead after 8 s.
    let mut judged = process(10, Class::Leak, 100_000.0);
    judged.found.span_s = 8.0;
    let data = rows(1000, &[], vec![member(10, "/a", 100)], vec![judged]);
    assert_eq!(data.risks[0].reason, "growth");
}
