//! Exact times of leaks that compete, and their intervals against a simulation.

use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::SystemMetrics;

use super::*;

const MIB: f64 = 1_048_576.0;
const HOUR: f64 = 3600.0;
/// 1 MiB/h.
const SLOW: f64 = MIB / HOUR;

/// A host of 8 GiB without swap that has so many MiB left, and cgroups of version 2 with limit and use, MiB.
fn surroundings(left_mib: u64, cgroups: &[(&str, u64, u64)]) -> Surroundings {
    let system = SystemMetrics {
        mem_total_kb: Some(8 << 20),
        mem_available_kb: Some(left_mib << 10),
        ..SystemMetrics::default()
    };
    let sample = |&(path, limit, usage): &(&str, u64, u64)| CgroupSample {
        path: path.into(),
        metrics: CgroupMetrics {
            usage_kb: Some(usage << 10),
            limit_kb: Some(limit << 10),
            ..CgroupMetrics::default()
        },
        ..CgroupSample::default()
    };
    let cgroups: Vec<CgroupSample> = cgroups.iter().map(sample).collect();
    Surroundings::new(Some(&system), &cgroups, Some(2), false)
}

fn member(pid: u32, cgroup: &str, mib: u64) -> Member {
    Member {
        pid,
        comm: format!("p{pid}"),
        cgroup: Some(cgroup.to_owned()),
        bytes: mib << 20,
        oom_score_adj: Some(0),
        ..Member::default()
    }
}

/// A leak of a process, MiB/h.
fn leak(scene: &Scene, member: usize, rate: f64, error: f64) -> Grower {
    Grower {
        who: Who::Process(member),
        cgroup: scene.members[member].cgroup.clone(),
        rate: rate * SLOW,
        error: error * SLOW,
        bend: 0.0,
        above: 0.0,
    }
}

fn scene(surroundings: Surroundings, members: Vec<Member>) -> Scene {
    Scene {
        surroundings,
        members,
        page_bytes: 4096,
        ..Scene::default()
    }
}

/// Source, path and hours of every meeting.
fn hours(meetings: &[Meeting]) -> Vec<(&'static str, Option<&str>, f64)> {
    let mut rows = Vec::new();
    for one in meetings {
        let limit = &one.bound.limit;
        let hours = (one.after_s / HOUR * 1e6).round() / 1e6;
        rows.push((limit.source(), limit.path(), hours));
    }
    rows
}

#[test]
fn two_leaks_meet_the_hosts_limit_in_half_the_time() {
    let mut scene = scene(
        surroundings(240, &[]),
        vec![member(10, "/a", 100), member(11, "/b", 300)],
    );
    scene.growers = vec![leak(&scene, 0, 10.0, 1.0)];
    assert_eq!(hours(&scene.meetings()), [("host", None, 24.0)]);
    scene.growers.push(leak(&scene, 1, 10.0, 1.0));
    let meetings = scene.meetings();
    assert_eq!(hours(&meetings), [("host", None, 12.0)]);
    let both = &meetings[0];
    // Errors add in squares: 20 ± 1.96 √2 MiB/h.
    let wide = 1.96 * 2.0_f64.sqrt();
    let (soonest, latest) = both.interval_s;
    assert!((soonest / HOUR - 240.0 / (20.0 + wide)).abs() < 1e-9);
    assert!((latest.unwrap() / HOUR - 240.0 / (20.0 - wide)).abs() < 1e-9);
    let victim = both.victim.as_ref().unwrap();
    // The larger one: 300 + 120 MiB in pages.
    assert_eq!((victim.member, victim.badness_pages), (1, 420 * 256));
    assert_eq!(both.growers, [0, 1]);
    assert!((both.rate / SLOW - 20.0).abs() < 1e-9);
}

#[test]
fn a_rate_that_may_be_nothing_may_never_get_there() {
    let mut scene = scene(surroundings(240, &[]), vec![member(10, "/a", 100)]);
    scene.growers = vec![leak(&scene, 0, 10.0, 6.0)];
    let meetings = scene.meetings();
    let (soonest, latest) = meetings[0].interval_s;
    assert!((soonest / HOUR - 240.0 / (10.0 + 1.96 * 6.0)).abs() < 1e-9);
    assert_eq!(latest, None);
}

#[test]
fn a_leak_that_dies_at_its_own_limit_gives_its_memory_back() {
    let mut scene = scene(
        surroundings(240, &[("/a", 110, 100)]),
        vec![member(10, "/a/x", 100), member(11, "/b", 50)],
    );
    scene.growers = vec![leak(&scene, 0, 10.0, 0.0), leak(&scene, 1, 10.0, 0.0)];
    let meetings = scene.meetings();
    // After 1 h 220 MiB are left and 110 return; 330 MiB last 33 h more.
    assert_eq!(
        hours(&meetings),
        [("cgroup", Some("/a"), 1.0), ("host", None, 34.0)]
    );
    let (mine, _) = first(&meetings, 0).unwrap();
    assert_eq!(mine.bound.limit.path(), Some("/a"));
    let (other, _) = first(&meetings, 1).unwrap();
    assert_eq!(other.bound.limit, Limit::Host);
    assert_eq!(other.victim.as_ref().unwrap().member, 1);
    assert_eq!(first(&meetings, 2), None);
}

#[test]
fn the_kernels_choice_is_not_always_the_leak() {
    let mut scene = scene(
        surroundings(4000, &[("/a", 1000, 900)]),
        vec![
            member(10, "/a", 100),
            member(11, "/a", 700),
            member(12, "/a", 100),
            member(1, "/a", 2000),
        ],
    );
    scene.growers = vec![leak(&scene, 0, 10.0, 0.0)];
    let first = |scene: &Scene| scene.meetings()[0].victim.clone().unwrap();
    // The large neighbour dies, not the one that leaks; init never does.
    assert_eq!(first(&scene).member, 1);
    // 500 ‰ of the limit, 500 MiB, on top of 100 MiB; and 700 MiB may not be chosen.
    scene.members[2].oom_score_adj = Some(500);
    scene.members[1].oom_score_adj = Some(-1000);
    let step = 1000 * 256 / 1000;
    let victim = first(&scene);
    assert_eq!(
        (victim.member, victim.badness_pages),
        (2, 100 * 256 + 500 * step)
    );
    scene.together.insert("/a".to_owned());
    // All but the one that is exempt.
    assert_eq!(first(&scene).with, 2);
    // Once the neighbour is dead, the leak goes on until it meets the limit again.
    scene.together.clear();
    let meetings = scene.meetings();
    assert_eq!(hours(&meetings)[0], ("cgroup", Some("/a"), 10.0));
}

#[test]
fn an_rlimit_stops_a_process_and_keeps_its_memory() {
    let mut scene = scene(
        surroundings(240, &[]),
        vec![member(10, "/", 100), member(11, "/", 100)],
    );
    scene.members[0].own = vec![Bound {
        limit: Limit::AddressSpace,
        limit_bytes: 200 << 20,
        used_bytes: 160 << 20,
        left_bytes: 40 << 20,
        scale_bytes: 200 << 20,
    }];
    scene.growers = vec![leak(&scene, 0, 10.0, 0.0), leak(&scene, 1, 10.0, 0.0)];
    // 4 h of both take 80 MiB, the other 160 last 16 h.
    assert_eq!(
        hours(&scene.meetings()),
        [("rlimit", None, 4.0), ("host", None, 20.0)]
    );
}

#[test]
fn nested_limits_and_growth_without_a_process() {
    let mut scene = scene(
        surroundings(4000, &[("/pod", 1000, 700), ("/pod/app", 500, 450)]),
        vec![],
    );
    let files = |cgroup: &str, rate: f64| Grower {
        who: Who::Cgroup(cgroup.to_owned()),
        cgroup: Some(cgroup.to_owned()),
        rate: rate * SLOW,
        error: 0.0,
        bend: 0.0,
        above: 0.0,
    };
    scene.growers = vec![files("/pod/app", 10.0), files("/pod", 10.0)];
    // 5 h to the inner limit take 100 MiB of the outer 300; there is nobody to kill, so that one grows no more.
    assert_eq!(
        hours(&scene.meetings()),
        [
            ("cgroup", Some("/pod/app"), 5.0),
            ("cgroup", Some("/pod"), 25.0)
        ]
    );
    assert!(scene.meetings().iter().all(|one| one.victim.is_none()));
}

#[test]
fn a_bend_and_peaks_come_sooner() {
    let mut scene = scene(surroundings(240, &[]), vec![member(10, "/a", 100)]);
    let mut grower = leak(&scene, 0, 10.0, 0.0);
    // 10 t + t² = 200 with 40 MiB of the room for its peaks: t = −5 + 15.
    grower.bend = 2.0 * SLOW / HOUR;
    grower.above = 40.0 * MIB;
    scene.growers = vec![grower];
    assert_eq!(hours(&scene.meetings()), [("host", None, 10.0)]);
}

#[test]
fn at_the_limit_already_is_now() {
    let mut scene = scene(
        surroundings(4000, &[("/a", 100, 100)]),
        vec![member(10, "/a", 100)],
    );
    scene.growers = vec![leak(&scene, 0, 1.0, 0.1)];
    assert_eq!(hours(&scene.meetings())[0], ("cgroup", Some("/a"), 0.0));
    scene.growers.clear();
    assert!(scene.meetings().is_empty());
}

#[test]
fn what_leaks_inside_is_not_counted_twice() {
    assert_eq!(rest((20.0, 1.0), &[(19.0, 1.0)]), None);
    assert_eq!(rest((20.0, 3.0), &[(10.0, 4.0)]), Some((10.0, 5.0)));
    assert_eq!(rest((100.0, 0.0), &[(90.0, 0.0)]), None);
    assert_eq!(rest((5.0, 1.0), &[]), Some((5.0, 1.0)));
}

/// Uniform in (0, 1): SplitMix64.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 12) as f64 / (1_u64 << 52) as f64 + 1e-17
}

fn normal(state: &mut u64) -> f64 {
    let (a, b) = (uniform(state), uniform(state));
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

#[test]
fn intervals_hold_95_of_100_simulated_rates() {
    let mut scene = scene(
        surroundings(600, &[("/a", 160, 100)]),
        vec![
            member(10, "/a", 100),
            member(11, "/b", 50),
            member(12, "/c", 50),
        ],
    );
    scene.growers = vec![
        leak(&scene, 0, 12.0, 1.5),
        leak(&scene, 1, 10.0, 1.0),
        leak(&scene, 2, 6.0, 0.8),
    ];
    let meetings = scene.meetings();
    let pools = scene.pools();
    let mut state = 7;
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); pools.len()];
    for _ in 0..4000 {
        let draw = |one: &Grower| one.rate + one.error * normal(&mut state);
        let rates: Vec<f64> = scene.growers.iter().map(draw).collect();
        for (event, times) in scene.run(&pools, &rates).iter().zip(&mut times) {
            times.push(event.as_ref().map_or(f64::INFINITY, |event| event.after_s));
        }
    }
    assert_eq!(meetings.len(), 2);
    for meeting in &meetings {
        let pool = pools
            .iter()
            .position(|pool| pool.bound == meeting.bound)
            .unwrap();
        let (low, high) = meeting.interval_s;
        let high = high.unwrap();
        let inside = times[pool].iter().filter(|t| (low..=high).contains(t));
        let share = inside.count() as f64 / 4000.0;
        assert!(
            (0.935..0.965).contains(&share),
            "{:?}: {share}",
            meeting.bound.limit
        );
    }
}
