//! Everything out of the ordinary on a host: the detectors over its series and its processes, each finding with
//! its time, size, rarity, reason, and what else moved.

use super::OUTLIER_SIGMAS;
use super::PROCESS_STEPS;
use super::SYSTEM_STEPS;
use super::even::Even;
use super::gather::Cgroup;
use super::gather::Process;
use super::jump::Course;
use super::levels;
use super::median;
use super::moved;
use super::outlier;
use super::outlier::Feature;
use super::swap;
use super::swap::Moment;
use super::system_least;
use crate::msg;
use crate::report::anomaly::Anomaly;
use crate::report::anomaly::AnomalyPoint;
use crate::report::anomaly::AnomalySeries;
use crate::report::anomaly::Rarity;
use crate::report::anomaly::Subject;
use crate::report::size_kb;
use crate::time;

/// Processes that never had so much are not looked at for growth, KiB.
const SMALL_KB: f64 = 32_768.0;
/// How far around an anomaly without a window of its own others are looked at, seconds.
const NEAR_S: f64 = 600.0;
/// A process that is younger has nothing that is usual for it, seconds.
const YOUNG_S: f64 = 3600.0;
/// Stretches of a drawn series.
const POINTS: f64 = 240.0;
/// And one that is younger than this is not compared with others.
const NEW_S: f64 = 600.0;

/// A host's history.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The host, in order of time; it may begin long before the window.
    pub moments: Vec<Moment>,
    /// Lives of processes in the window.
    pub processes: Vec<Process>,
    /// Memory cgroups that are asked for.
    pub cgroups: Vec<Cgroup>,
    /// First moment that is told of, seconds since 1970.
    pub start_s: f64,
    /// KiB of a page.
    pub page_kb: f64,
    /// Usual distance of two samples, seconds.
    pub interval_s: f64,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The host and its processes.
    All,
    /// The host.
    System,
    /// The processes that are wanted, and the cgroups.
    Chosen,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The rarest first.
    pub anomalies: Vec<Anomaly>,
    /// Seasons were taken out of the host's memory; `None`: its history is too short for anything.
    pub seasonal: Option<bool>,
    /// How long a change of the host's level lasts at least to be seen, seconds; `None`: there are too few samples.
    pub level_s: Option<f64>,
    /// The series of what was found.
    pub series: Vec<AnomalySeries>,
}

/// A figure of the host.
type Column = fn(&Moment) -> Option<f64>;

/// A series that is looked at.
pub(super) struct Watched {
    pub(super) subject: Subject,
    pub(super) course: Course,
    pub(super) least: f64,
    /// It began before the history did.
    pub(super) grown: bool,
}

impl Input {
    /// Longest without a sample that means nothing, seconds.
    fn slack_s(&self) -> f64 {
        (3.0 * self.interval_s).max(1.0)
    }

    /// Whether the history of a process is long enough to say what is usual for it.
    #[must_use]
    pub fn is_settled(&self, process: &Process) -> bool {
        self.is_old(process.span_s, YOUNG_S)
    }

    /// It lived so long, or was there before the first sample: then it is older than anybody can tell.
    fn is_old(&self, span_s: (f64, f64), least_s: f64) -> bool {
        let processes = self.processes.iter().map(|one| one.span_s.0);
        let cgroups = self.cgroups.iter().map(|one| one.span_s.0);
        let first = processes.chain(cgroups).fold(f64::INFINITY, f64::min);
        span_s.0 <= first + self.slack_s() || span_s.1 - span_s.0 >= least_s
    }

    /// Whether a process is asked for.
    fn wants(&self, scope: Scope, process: &Process) -> bool {
        match scope {
            Scope::All => true,
            Scope::System => false,
            Scope::Chosen => process.wanted,
        }
    }
}

/// What an anomaly is before others are looked at.
pub(super) struct Bare {
    pub(super) anomaly: Anomaly,
    pub(super) at_s: f64,
    /// What else moved is looked for around here, and so far.
    pub(super) around_s: f64,
    pub(super) window_s: f64,
}

pub(super) fn stamp(time_s: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "times of a store are within the calendar"
    )]
    let ns = (time_s.clamp(0.0, 9e9) * 1e3).round() as i64 * 1_000_000;
    time::rfc3339(ns, time::local_offset_s(ns)).unwrap_or_default()
}

pub(super) fn kb(value: f64) -> String {
    size_kb(u64::try_from(super::whole(value.abs().round())).unwrap_or(u64::MAX))
}

/// False outliers for each process at the threshold.
const OUTLIER_P: f64 = 0.0002;

pub(super) fn per_day(expected: f64) -> Rarity {
    Rarity {
        expected_per_day: Some(expected),
        p: None,
    }
}

/// Looks at everything.
#[must_use]
pub fn find(input: &Input, scope: Scope) -> Found {
    let mut found = Found::default();
    let total_kb = input.moments.iter().rev().find_map(|one| one.total_kb);
    let mut watched = of_host(input, total_kb);
    if let Some(used) = watched.iter().find(|one| one.subject.what == "system-used") {
        found.seasonal = Some(used.course.seasonal);
        found.level_s = Some(used.course.window as f64 * used.course.even.step_s);
    }
    let host = watched.len();
    watched.extend(of_processes(input, scope, total_kb.unwrap_or(0.0)));
    watched.extend(of_cgroups(input, total_kb.unwrap_or(0.0)));
    let mut all: Vec<Bare> = Vec::new();
    // The host's are read in any case: what else moved is told.
    let told = if scope == Scope::Chosen { host } else { 0 };
    for one in &watched[told..] {
        all.extend(levels::anomalies(one));
    }
    without_repeats(&mut all);
    if scope != Scope::Chosen {
        all.extend(swap_anomalies(input));
    }
    if scope != Scope::System {
        all.extend(outliers(input, scope, total_kb.unwrap_or(0.0)));
    }
    all.retain(|one| one.at_s >= input.start_s);
    found.anomalies = all
        .into_iter()
        .map(|mut one| {
            one.anomaly.also_moved = moved::moved(&one, &watched, &input.processes);
            one.anomaly
        })
        .collect();
    found.anomalies.sort_by(|a, b| {
        // Of so many processes one or the other is always a bit unusual.
        let count = input.processes.len() as f64;
        let of_all = |one: &Anomaly| match one.kind {
            "outlier-process" => Some(one.rarity.p? * count),
            _ => one.rarity.p,
        };
        let rare = |one: &Anomaly| one.rarity.expected_per_day.or(of_all(one)).unwrap_or(1.0);
        let sigmas = |one: &Anomaly| one.size_sigmas.unwrap_or(0.0).abs();
        (order(a.kind).cmp(&order(b.kind)))
            .then(rare(a).total_cmp(&rare(b)))
            .then(sigmas(b).total_cmp(&sigmas(a)))
            .then(a.at.cmp(&b.at))
            .then(a.subject.pid.cmp(&b.subject.pid))
            .then(a.subject.cgroup.cmp(&b.subject.cgroup))
    });
    found.series = series(input, &watched, &found.anomalies);
    found
}

/// Used memory and swap of the host.
fn of_host(input: &Input, total_kb: Option<f64>) -> Vec<Watched> {
    let Some(total_kb) = total_kb else {
        return Vec::new();
    };
    let columns: [(&str, Column); 2] = [
        ("system-used", |one| one.used_kb),
        ("system-swap", |one| one.swap_kb),
    ];
    let of = |(what, value): (&'static str, Column)| {
        let samples = input.moments.iter();
        let samples = samples.filter_map(|one| Some((one.time_s, value(one)?)));
        let least = system_least(total_kb);
        let even = Even::of(&samples.collect::<Vec<_>>(), SYSTEM_STEPS)?;
        Some(Watched {
            subject: Subject {
                what,
                ..Subject::default()
            },
            course: Course::of(even, least)?,
            least,
            grown: true,
        })
    };
    columns.into_iter().filter_map(of).collect()
}

/// Changes of a size below this are of no interest, KiB.
fn least_kb(sizes: &Even, total_kb: f64) -> f64 {
    SMALL_KB
        .max(total_kb / 200.0)
        .max(median(&sizes.values) / 20.0)
}

fn is_small(sizes: &Even) -> bool {
    sizes.values.iter().copied().fold(0.0, f64::max) < SMALL_KB
}

fn of_processes(input: &Input, scope: Scope, total_kb: f64) -> Vec<Watched> {
    let of = |process: &Process| {
        if !input.wants(scope, process) || is_small(&process.rss) || !input.is_settled(process) {
            return None;
        }
        let least = least_kb(&process.rss, total_kb);
        Some(Watched {
            subject: subject(process),
            course: Course::of(process.rss.clone(), least)?,
            least,
            grown: input.is_old(process.span_s, f64::INFINITY),
        })
    };
    input.processes.iter().filter_map(of).collect()
}

fn of_cgroups(input: &Input, total_kb: f64) -> Vec<Watched> {
    let of = |cgroup: &Cgroup| {
        if is_small(&cgroup.sizes) || !input.is_old(cgroup.span_s, YOUNG_S) {
            return None;
        }
        let least = least_kb(&cgroup.sizes, total_kb);
        Some(Watched {
            subject: Subject {
                what: "cgroup",
                cgroup: Some(cgroup.path.clone()),
                measure: Some(cgroup.measure),
                ..Subject::default()
            },
            course: Course::of(cgroup.sizes.clone(), least)?,
            least,
            grown: input.is_old(cgroup.span_s, f64::INFINITY),
        })
    };
    input.cgroups.iter().filter_map(of).collect()
}

/// What the processes of a cgroup hold is part of its usage: the same change is told once.
fn without_repeats(all: &mut Vec<Bare>) {
    let measure = |one: &Bare| one.anomaly.subject.measure;
    let held = all.iter().filter(|one| measure(one) == Some("anon+swap"));
    let held: Vec<(Option<String>, f64, bool)> = held
        .map(|one| {
            (
                one.anomaly.subject.cgroup.clone(),
                one.at_s,
                one.anomaly.value > 0.0,
            )
        })
        .collect();
    all.retain(|one| {
        let same = |(path, at_s, up): &(Option<String>, f64, bool)| {
            *path == one.anomaly.subject.cgroup
                && (at_s - one.at_s).abs() <= 2.0 * one.window_s
                && *up == (one.anomaly.value > 0.0)
        };
        measure(one) != Some("usage") || !held.iter().any(same)
    });
}

/// The series in which something was found, for a drawing.
fn series(input: &Input, watched: &[Watched], anomalies: &[Anomaly]) -> Vec<AnomalySeries> {
    let told = |subject: &Subject, traffic: bool| {
        anomalies.iter().any(|one| {
            one.subject == *subject
                && one.kind != "outlier-process"
                && traffic == (one.unit == "kb_per_s")
        })
    };
    let course = |one: &Watched| {
        let even = &one.course.even;
        let known = (0..even.values.len()).filter(|&at| even.known[at]);
        known.map(|at| (even.time(at), even.values[at])).collect()
    };
    let mut all = Vec::new();
    let mut add = |subject: &Subject, unit, samples: Vec<(f64, f64)>| {
        let points = points(&samples, input.start_s);
        all.push(AnomalySeries {
            subject: subject.clone(),
            unit,
            points,
        });
    };
    for one in watched.iter().filter(|one| told(&one.subject, false)) {
        add(&one.subject, "kb", course(one));
    }
    let swap = Subject {
        what: "system-swap",
        ..Subject::default()
    };
    // Its history may be too short for levels, and what is in it grows all the same.
    if told(&swap, false) && watched.iter().all(|one| one.subject != swap) {
        let samples = input.moments.iter();
        let samples = samples.filter_map(|one| Some((one.time_s, one.swap_kb?)));
        add(&swap, "kb", samples.collect());
    }
    if told(&swap, true) {
        add(
            &swap,
            "kb_per_s",
            swap::traffic(&input.moments, input.page_kb),
        );
    }
    all
}

/// The highest of each stretch.
fn points(samples: &[(f64, f64)], start_s: f64) -> Vec<AnomalyPoint> {
    let from = samples.partition_point(|one| one.0 < start_s);
    let inside = &samples[from..];
    let (Some(first), Some(last)) = (inside.first(), inside.last()) else {
        return Vec::new();
    };
    let wide = ((last.0 - first.0) / POINTS).max(f64::MIN_POSITIVE);
    let mut points: Vec<AnomalyPoint> = Vec::new();
    let mut newest = None;
    for &(ts, value) in inside {
        let place = super::whole((ts - first.0) / wide);
        match points.last_mut() {
            Some(last) if newest == Some(place) => last.value = last.value.max(value),
            _ => points.push(AnomalyPoint { ts, value }),
        }
        newest = Some(place);
    }
    points
}

/// Residuals alone are the least reliable, and they come last.
fn order(kind: &str) -> u8 {
    u8::from(kind == "residual")
}

pub(super) fn subject(process: &Process) -> Subject {
    Subject {
        what: "process",
        pid: Some(process.pid),
        start: Some(process.start),
        comm: Some(process.comm.clone()),
        ..Subject::default()
    }
}

fn swap_anomalies(input: &Input) -> Vec<Bare> {
    let inside: Vec<Moment> = (input.moments.iter())
        .filter(|one| one.time_s >= input.start_s)
        .copied()
        .collect();
    let (Some(first), Some(last)) = (inside.first(), inside.last()) else {
        return Vec::new();
    };
    let days = ((last.time_s - first.time_s) / 86_400.0).max(1e-9);
    let found = swap::anomalies(&inside, input.page_kb);
    let count = |kind: swap::Kind| found.iter().filter(|one| one.kind == kind).count() as f64;
    let bare = |one: &swap::SwapAnomaly| {
        let rate = kb(one.value);
        let full = one.full.map_or(0.0, |full| full * 100.0);
        let (kind, reason, unit, why) = match one.kind {
            swap::Kind::Surge => (
                "swap-surge",
                "traffic",
                "kb_per_s",
                msg!("swap traffic of up to {rate}/s", "swap 流量最高 {rate}/s"),
            ),
            swap::Kind::Sustained => (
                "swap-sustained",
                "growth",
                "kb_per_h",
                msg!(
                    "what is in swap grows by {rate}/h, and does not stop",
                    "swap 占用以 {rate}/h 持续增长"
                ),
            ),
            swap::Kind::Thrash => (
                "swap-thrash",
                "refault",
                "kb_per_s",
                msg!(
                    "pages come back as fast as they go ({rate}/s), all tasks waited {full:.0}% of the time",
                    "页面换出即换回（{rate}/s），所有任务有 {full:.0}% 的时间在等待内存"
                ),
            ),
        };
        // Growth has no moment: its second half is compared with its first one.
        let (around_s, window_s) = match one.kind {
            swap::Kind::Sustained => (
                f64::midpoint(one.from_s, one.to_s),
                ((one.to_s - one.from_s) / 2.0).max(NEAR_S),
            ),
            _ => (one.from_s, NEAR_S),
        };
        Bare {
            at_s: one.from_s,
            around_s,
            window_s,
            anomaly: Anomaly {
                kind,
                subject: Subject {
                    what: "system-swap",
                    ..Subject::default()
                },
                at: stamp(one.from_s),
                until: Some(stamp(one.to_s)),
                value: one.value,
                unit,
                size_sigmas: one.sigmas,
                rarity: match one.p {
                    Some(p) => Rarity {
                        expected_per_day: None,
                        p: Some(p),
                    },
                    // As often as this history has it.
                    None => per_day(count(one.kind) / days.max(1.0)),
                },
                reason,
                why,
                residual_sigmas: None,
                score: None,
                also_moved: Vec::new(),
            },
        }
    };
    found.iter().map(bare).collect()
}

/// Processes that are there at the end and unlike the others.
fn outliers(input: &Input, scope: Scope, total_kb: f64) -> Vec<Bare> {
    let end = (input.processes.iter())
        .map(|one| one.span_s.1)
        .fold(f64::MIN, f64::max);
    let alive: Vec<&Process> = (input.processes.iter())
        .filter(|one| one.span_s.1 >= end - input.slack_s() && input.is_old(one.span_s, NEW_S))
        .collect();
    let names: Vec<&str> = alive.iter().map(|one| one.comm.as_str()).collect();
    let figures: Vec<outlier::Figures> = alive.iter().map(|one| one.figures).collect();
    let bare = |one: &outlier::Outlier| {
        let process = alive.get(one.at).filter(|one| input.wants(scope, one))?;
        let (reason, unit) = match one.feature {
            Feature::Rss => ("rss", "kb"),
            Feature::Swap => ("swap", "kb"),
            Feature::Growth => ("growth", "kb_per_h"),
            Feature::Faults => ("faults", "per_s"),
        };
        let figure = |value: f64| match one.feature {
            Feature::Faults => format!("{value:.1}"),
            _ => kb(value),
        };
        let (value, usual) = (figure(one.value), figure(one.usual.max(0.0)));
        let (en, zh) = match one.feature {
            Feature::Rss => ("resident", "常驻内存"),
            Feature::Swap => ("in swap", "已换出"),
            Feature::Growth => ("more an hour", "每小时增长"),
            Feature::Faults => ("major faults a second", "每秒主缺页"),
        };
        let why = match one.siblings {
            Some(count) => {
                let comm = &process.comm;
                msg!(
                    "{value} {en}; the median of {count} processes named {comm} is {usual}",
                    "{zh} {value}；{count} 个同名进程（{comm}）的中位数为 {usual}"
                )
            }
            None => {
                let count = alive.len();
                msg!(
                    "{value} {en}; the median of {count} processes is {usual}",
                    "{zh} {value}；{count} 个进程的中位数为 {usual}"
                )
            }
        };
        Some(Bare {
            at_s: process.span_s.1,
            around_s: process.span_s.1,
            window_s: NEAR_S,
            anomaly: Anomaly {
                kind: "outlier-process",
                subject: subject(process),
                at: stamp(process.span_s.1),
                until: None,
                value: one.value,
                unit,
                size_sigmas: Some(one.sigmas),
                rarity: Rarity {
                    expected_per_day: None,
                    p: Some(OUTLIER_P * (OUTLIER_SIGMAS / one.sigmas).powi(3)),
                },
                reason,
                why,
                residual_sigmas: None,
                score: Some(one.score),
                also_moved: Vec::new(),
            },
        })
    };
    let found = outlier::of_host(&names, &figures, total_kb, OUTLIER_SIGMAS);
    found.iter().filter_map(bare).collect()
}

/// Length of the steps of processes for a window of this length.
#[must_use]
pub fn process_step_s(span_s: f64, interval_s: f64) -> f64 {
    super::even::step(interval_s.max(span_s / PROCESS_STEPS as f64))
}

#[cfg(test)]
mod tests {
    use super::super::even::Gather;
    use super::super::random::Random;
    use super::*;

    const MIB: f64 = 1024.0;

    /// A process with a sample every 10 s from `from` to `to` seconds.
    fn process(pid: u32, from: usize, to: usize, kb: impl Fn(usize) -> f64) -> Process {
        let mut rss = Gather::new(from as f64, 10.0);
        for second in (from..to).step_by(10) {
            rss.add(second as f64, kb(second));
        }
        Process {
            pid,
            start: 1,
            comm: format!("p{pid}"),
            cgroup: None,
            wanted: pid == 1,
            rss: rss.even().expect("samples"),
            span_s: (from as f64, (to - 10) as f64),
            figures: [kb(to), 0.0, 0.0, 0.0],
        }
    }

    /// Six hours: a host whose memory rises by 2 GiB at 4 h because a new process takes it, and an old process that
    /// doubles at 2 h.
    fn input() -> Input {
        let mut random = Random::new(9);
        let moments = (0..21_600).step_by(10).map(|second| {
            let taken = if second >= 14_400 { 2048.0 * MIB } else { 0.0 };
            Moment {
                time_s: f64::from(second),
                total_kb: Some(32_768.0 * MIB),
                used_kb: Some(8192.0 * MIB + taken + random.between(0.0, 64.0 * MIB)),
                ..Moment::default()
            }
        });
        Input {
            moments: moments.collect(),
            processes: vec![
                process(1, 0, 21_600, |second| {
                    if second >= 7200 {
                        800.0 * MIB
                    } else {
                        400.0 * MIB
                    }
                }),
                process(2, 14_400, 21_600, |second| {
                    // It begins small, like all.
                    if second < 14_460 { MIB } else { 2048.0 * MIB }
                }),
                process(3, 20_000, 21_600, |second| second as f64 * 100.0),
            ],
            cgroups: Vec::new(),
            start_s: 0.0,
            page_kb: 4.0,
            interval_s: 10.0,
        }
    }

    fn kinds(found: &Found) -> Vec<(&'static str, &'static str, Option<u32>)> {
        let of = |one: &Anomaly| (one.kind, one.subject.what, one.subject.pid);
        found.anomalies.iter().map(of).collect()
    }

    #[test]
    fn a_start_is_no_growth_and_stands_beside_what_it_moved() {
        let input = input();
        let found = find(&input, Scope::All);
        let mut kinds = kinds(&found);
        kinds.sort_unstable();
        let growth = "growth-point";
        assert_eq!(
            kinds,
            [(growth, "process", Some(1)), (growth, "system-used", None)]
        );
        let host = found.anomalies.iter().find(|one| one.subject.pid.is_none());
        let host = host.expect("the host's");
        let first = host.also_moved.first().expect("who took it");
        assert_eq!((first.subject.pid, first.status), (Some(2), "started"));
        assert!((host.value / MIB - 2048.0).abs() < 50.0, "{host:?}");
        // Only what is asked for, and only from its beginning on.
        let one = find(&input, Scope::Chosen);
        assert_eq!(one.anomalies.len(), 1);
        let system = find(&input, Scope::System);
        assert_eq!(system.anomalies.len(), 1);
        let late = Input {
            start_s: 16_000.0,
            ..input
        };
        assert!(find(&late, Scope::System).anomalies.is_empty());
        assert!(find(&Input::default(), Scope::All).anomalies.is_empty());
    }
}
