//! From verdicts, limits and processes to the rows of `detect oom-risk`.

mod findings;
#[cfg(test)]
mod tests;

pub use findings::findings;

use std::cmp::Ordering;

use crate::model::CgroupSample;
use crate::model::SystemMetrics;
use crate::report::risk::Competitor;
use crate::report::risk::EarlyWarning;
use crate::report::risk::HostRoom;
use crate::report::risk::Risk;
use crate::report::risk::RiskData;
use crate::report::risk::RiskVictim;
use crate::report::risk::RiskWindow;
use crate::time;

use super::leak::Assessment;
use super::leak::Class;
use super::limits;
use super::limits::Bound;
use super::limits::Effect;
use super::limits::Limit;
use super::limits::chain;
use super::memory::NEAR_PCT;
use super::risk;
use super::risk::Grower;
use super::risk::Meeting;
use super::risk::Scene;
use super::risk::WIDE;
use super::risk::Who;
use super::risk::whole;

const MIB: f64 = 1_048_576.0;
const HOUR: f64 = 3600.0;
/// Beyond this no date is given, hours.
const TEN_YEARS_H: f64 = 10.0 * 365.25 * 24.0;
/// Growth that may level off is told when it would meet a limit within this time, hours.
const UNDECIDED_H: f64 = 30.0 * 24.0;
/// And when it is this share of all that grows towards that limit: less decides nothing.
const UNDECIDED_SHARE: f64 = 0.1;
/// A process that lived for less than this is young, seconds: it may be at work, and end.
const YOUNG_S: f64 = 300.0;
/// What a young process does foretells no more than this many times the time it was seen.
pub(super) const FORESIGHT: f64 = 5.0;
/// Room that is given to a verdict to see where its peaks stand: any size does.
const FAR: f64 = 1_099_511_627_776.0;

/// Whose series it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A process.
    Process {
        /// Process id.
        pid: u32,
        /// Start, clock ticks since boot.
        start_ticks: u64,
    },
    /// A cgroup, with everything below it.
    Cgroup(String),
    /// The host.
    Host,
}

/// A verdict on a series.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Whose.
    pub who: Named,
    /// The verdict, for a limit as [`limit_for`] says.
    pub found: Assessment,
    /// Last sample of the series, bytes.
    pub last: f64,
}

/// The limit that a series is judged with, so that the verdict tells where its peaks stand.
#[must_use]
pub fn limit_for(last: f64) -> f64 {
    last + FAR
}

/// Everything that the rows are made from.
#[derive(Debug)]
pub struct Input<'a> {
    /// Limits and processes; its growers come from the verdicts.
    pub scene: Scene,
    /// Verdicts.
    pub judged: Vec<Judged>,
    /// The host now.
    pub system: Option<&'a SystemMetrics>,
    /// Cgroups now.
    pub cgroups: &'a [CgroupSample],
    /// Now: ns since 1970, and the offset of the host's zone in seconds.
    pub now: (i64, i32),
    /// The samples.
    pub window: RiskWindow,
}

/// The rows.
#[must_use]
pub fn data(input: Input<'_>) -> RiskData {
    let mut table = Table {
        input,
        sources: Vec::new(),
        meetings: Vec::new(),
    };
    table.forecast();
    let mut risks = table.processes();
    risks.extend(table.groups());
    risks.extend(table.host());
    risks.extend(table.undecided());
    let near = table.near(&risks);
    risks.extend(near);
    risks.sort_by(order);
    let host = table.room();
    let count = |class: Class| {
        let judged = table.input.judged.iter();
        judged.filter(|one| one.found.class == class).count()
    };
    let (leaks, undecided) = (count(Class::Leak), count(Class::Ambiguous));
    let mut window = table.input.window;
    (window.leaks, window.undecided) = (leaks, undecided);
    RiskData {
        window,
        host,
        risks,
        ..RiskData::default()
    }
}

/// Soonest first, then nearest to the limit. Of equal ones the cause before what it leads to, and the largest first.
fn order(a: &Risk, b: &Risk) -> Ordering {
    let hours = |risk: &Risk| risk.hours.unwrap_or(f64::INFINITY);
    let share = |risk: &Risk| risk.used_share.unwrap_or(0.0);
    let rate = |risk: &Risk| risk.rate_mib_per_hour.unwrap_or(0.0);
    let rank = |risk: &Risk| match (risk.reason, risk.kind) {
        ("growth", "process") => 0,
        ("growth", "cgroup") => 1,
        ("growth", _) => 2,
        _ => 3,
    };
    let by_time = hours(a).total_cmp(&hours(b));
    let by_share = share(b).total_cmp(&share(a));
    by_time
        .then(by_share)
        .then_with(|| rank(a).cmp(&rank(b)))
        .then_with(|| rate(b).total_cmp(&rate(a)))
        .then_with(|| (a.pid, &a.cgroup).cmp(&(b.pid, &b.cgroup)))
}

fn per_hour(rate: f64) -> f64 {
    rate * HOUR / MIB
}

fn interval(rate: f64, error: f64) -> [f64; 2] {
    [per_hour(rate - WIDE * error), per_hour(rate + WIDE * error)]
}

fn hard(meeting: &Meeting) -> bool {
    meeting.bound.limit.effect() != Effect::Throttle
}

/// The growth that a verdict tells: rate, error, bend, and how far peaks stand above the last sample.
fn growth(judged: &Judged) -> Option<(f64, f64, f64, f64)> {
    let found = &judged.found;
    let rate = found.rate.filter(|rate| *rate > 0.0)?;
    let error = found
        .rate_interval
        .map_or(0.0, |(low, high)| ((high - low) / (2.0 * WIDE)).max(0.0));
    let bend = found.shape.as_ref().map_or(0.0, |shape| shape.acceleration);
    let bend = bend.max(0.0);
    let above = found.hit.map_or(0.0, |hit| {
        let room = rate * hit.after_s + bend * hit.after_s * hit.after_s / 2.0;
        // Noise apart, a peak is no more than its memory once more.
        (FAR - room).clamp(-0.5 * judged.last, judged.last)
    });
    Some((rate, error, bend, above))
}

struct Table<'a> {
    input: Input<'a>,
    /// Which verdict each grower comes from.
    sources: Vec<usize>,
    meetings: Vec<Meeting>,
}

impl Table<'_> {
    fn member(&self, who: &Named) -> Option<usize> {
        let Named::Process { pid, start_ticks } = who else {
            return None;
        };
        let members = &self.input.scene.members;
        members
            .iter()
            .position(|one| (one.pid, one.start_ticks) == (*pid, *start_ticks))
    }

    /// Turns verdicts into growers: processes, then what grows besides them, the deepest cgroup first.
    fn grow(&mut self) {
        let mut order: Vec<usize> = (0..self.input.judged.len()).collect();
        order.sort_by_key(|&at| match &self.input.judged[at].who {
            Named::Process { .. } => (0, 0),
            Named::Cgroup(path) => (1, usize::MAX - chain(path).count()),
            Named::Host => (2, 0),
        });
        for at in order {
            let judged = &self.input.judged[at];
            if judged.found.class != Class::Leak {
                continue;
            }
            let Some(grower) = self.grower(judged) else {
                continue;
            };
            self.input.scene.growers.push(grower);
            self.sources.push(at);
        }
    }

    /// Runs the leaks forward; those that were seen for too short a time to say so much are undecided, and the rest
    /// is run again without them.
    fn forecast(&mut self) {
        loop {
            self.input.scene.growers.clear();
            self.sources.clear();
            self.grow();
            self.meetings = self.input.scene.meetings();
            let growers = 0..self.sources.len();
            let young: Vec<usize> = growers.filter(|at| self.too_young(*at)).collect();
            if young.is_empty() {
                return;
            }
            for at in young {
                self.input.judged[self.sources[at]].found.class = Class::Ambiguous;
            }
        }
    }

    /// Whether a process was seen for too short a time to say that it meets its limit: by then a job is done.
    fn too_young(&self, grower: usize) -> bool {
        let found = &self.input.judged[self.sources[grower]].found;
        let process = matches!(self.input.scene.growers[grower].who, Who::Process(_));
        let young = found.span_s < YOUNG_S && !found.from_all_lives;
        let meets = risk::first(&self.meetings, grower);
        process && young && meets.is_none_or(|(one, _)| one.after_s > FORESIGHT * found.span_s)
    }

    fn grower(&self, judged: &Judged) -> Option<Grower> {
        let (mut rate, mut error, mut bend, mut above) = growth(judged)?;
        let growers = &self.input.scene.growers;
        let (who, cgroup) = match &judged.who {
            Named::Process { .. } => {
                let member = self.member(&judged.who)?;
                let cgroup = self.input.scene.members[member].cgroup.clone();
                (Who::Process(member), cgroup)
            }
            Named::Cgroup(path) => {
                let inside: Vec<(f64, f64)> = self
                    .inside(path)
                    .map(|at| (growers[at].rate, growers[at].error))
                    .collect();
                (rate, error) = risk::rest((rate, error), &inside)?;
                if !inside.is_empty() {
                    (bend, above) = (0.0, 0.0);
                }
                (Who::Cgroup(path.clone()), Some(path.clone()))
            }
            Named::Host => {
                let all: Vec<(f64, f64)> =
                    growers.iter().map(|one| (one.rate, one.error)).collect();
                (rate, error) = risk::rest((rate, error), &all)?;
                if !all.is_empty() {
                    (bend, above) = (0.0, 0.0);
                }
                (Who::Host, None)
            }
        };
        Some(Grower {
            who,
            cgroup,
            rate,
            error,
            bend,
            above,
        })
    }

    /// Growers in a cgroup or below it.
    fn inside(&self, path: &str) -> impl Iterator<Item = usize> + Clone {
        let growers = self.input.scene.growers.iter().enumerate();
        growers
            .filter(|(_, one)| {
                let cgroup = one.cgroup.as_deref();
                cgroup.is_some_and(|cgroup| chain(cgroup).any(|one| one == path))
            })
            .map(|(at, _)| at)
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn stamp(&self, after_s: f64) -> Option<String> {
        let ns = after_s * 1e9;
        if after_s / HOUR > TEN_YEARS_H || !ns.is_finite() {
            return None;
        }
        let at = self
            .input
            .now
            .0
            .checked_add(i64::try_from(whole(ns)).ok()?)?;
        time::rfc3339(at, time::local_offset_s(at))
    }

    fn processes(&self) -> Vec<Risk> {
        let growers = self.input.scene.growers.iter().enumerate();
        growers
            .filter_map(|(at, grower)| {
                let Who::Process(member) = grower.who else {
                    return None;
                };
                let found = risk::first(&self.meetings, at)?;
                let judged = &self.input.judged[*self.sources.get(at)?];
                let mut row = self.of_member(member);
                row.reason = "growth";
                row.seen_hours = Some(judged.found.span_s / HOUR);
                self.rates(&mut row, &[at]);
                self.meets(&mut row, found, &[at]);
                Some(row)
            })
            .collect()
    }

    fn of_member(&self, member: usize) -> Risk {
        let member = &self.input.scene.members[member];
        Risk {
            kind: "process",
            pid: Some(member.pid),
            start: Some(member.start_ticks),
            comm: Some(member.comm.clone()),
            cgroup: member.cgroup.clone(),
            own_bytes: Some(member.bytes),
            ..Risk::default()
        }
    }

    fn of_cgroup(&self, path: &str) -> Risk {
        let all = self.input.cgroups.iter();
        let sample = all.clone().find(|one| one.path.lossy() == path);
        let metrics = sample.map(|one| &one.metrics);
        Risk {
            kind: "cgroup",
            cgroup: Some(path.to_owned()),
            own_bytes: metrics.and_then(limits::held),
            psi_some_avg10_pct: metrics
                .and_then(|metrics| metrics.psi_some_avg10)
                .map(|hundredths| hundredths as f64 / 100.0),
            ..Risk::default()
        }
    }

    /// Cgroups whose limit is met, and those that grow by more than their leaking processes.
    fn groups(&self) -> Vec<Risk> {
        let met = self.meetings.iter().filter(|one| hard(one));
        let met = met.filter_map(|one| one.bound.limit.path());
        let growers = self.input.scene.growers.iter();
        let grown = growers.filter_map(|one| match &one.who {
            Who::Cgroup(path) => Some(path.as_str()),
            _ => None,
        });
        let mut paths: Vec<&str> = met.chain(grown).collect();
        paths.sort_unstable();
        paths.dedup();
        let row = |path: &str| {
            let inside: Vec<usize> = self.inside(path).collect();
            let above: Vec<&str> = chain(path).collect();
            let bounds = |one: &&Meeting| {
                let limit = &one.bound.limit;
                let here = match limit {
                    Limit::Host => true,
                    Limit::Cgroup { path, .. } => above.contains(&path.as_str()),
                    _ => false,
                };
                here && hard(one) && one.growers.iter().any(|at| inside.contains(at))
            };
            let found = risk::soonest(self.meetings.iter().filter(bounds))?;
            let mut row = self.of_cgroup(path);
            row.reason = "growth";
            self.rates(&mut row, &inside);
            self.meets(&mut row, found, &inside);
            Some(row)
        };
        paths.into_iter().filter_map(row).collect()
    }

    fn host(&self) -> Option<Risk> {
        let all: Vec<usize> = (0..self.input.scene.growers.len()).collect();
        let is_host = |one: &&Meeting| one.bound.limit == Limit::Host;
        let found = risk::soonest(self.meetings.iter().filter(is_host))?;
        let mut row = self.of_host();
        row.reason = "growth";
        self.rates(&mut row, &all);
        self.meets(&mut row, found, &all);
        Some(row)
    }

    fn of_host(&self) -> Risk {
        let psi = self.input.system.and_then(|system| system.psi_some_avg10);
        Risk {
            kind: "host",
            own_bytes: self
                .input
                .scene
                .surroundings
                .host()
                .map(|one| one.used_bytes),
            psi_some_avg10_pct: psi.map(|hundredths| hundredths as f64 / 100.0),
            ..Risk::default()
        }
    }

    /// Growth that may level off: each run forward beside the leaks, as if it went on.
    fn undecided(&self) -> Vec<Risk> {
        let rows = self.input.judged.iter().filter_map(|judged| {
            if judged.found.class != Class::Ambiguous {
                return None;
            }
            let grower = self.grower(judged)?;
            let mut scene = self.input.scene.clone();
            let (at, rate) = (scene.growers.len(), grower.rate);
            let mut row = match &grower.who {
                Who::Process(member) => self.of_member(*member),
                Who::Cgroup(path) => self.of_cgroup(path),
                Who::Host => self.of_host(),
            };
            scene.growers.push(grower);
            let meetings = scene.meetings();
            let (meeting, _) = risk::first(&meetings, at)?;
            if meeting.after_s / HOUR > UNDECIDED_H || rate < UNDECIDED_SHARE * meeting.rate {
                return None;
            }
            row.reason = "undecided";
            row.seen_hours = Some(judged.found.span_s / HOUR);
            row.rate_mib_per_hour = Some(per_hour(rate));
            row.leak_probability = Some(judged.found.probability);
            limit(&mut row, &meeting.bound);
            let hours = meeting.after_s / HOUR;
            row.hours = Some(hours);
            row.at = self.stamp(meeting.after_s);
            row.total_rate_mib_per_hour = Some(per_hour(meeting.rate));
            row.competing = self.competing(&meeting.growers, &[at], meeting.rate);
            row.victim = self.victim(meeting);
            Some(row)
        });
        rows.collect()
    }

    /// Rate and probability of some growers together.
    fn rates(&self, row: &mut Risk, growers: &[usize]) {
        let all = &self.input.scene.growers;
        let rate: f64 = growers.iter().map(|&at| all[at].rate).sum();
        let square: f64 = growers.iter().map(|&at| all[at].error.powi(2)).sum();
        row.rate_mib_per_hour = Some(per_hour(rate));
        row.rate_interval = Some(interval(rate, square.sqrt()));
        let verdicts = || {
            let verdicts = growers.iter().map(|&at| self.sources[at]);
            verdicts.map(|at| &self.input.judged[at].found)
        };
        let harmless: f64 = verdicts().map(|found| 1.0 - found.probability).product();
        row.leak_probability = Some(1.0 - harmless);
        let onset = verdicts()
            .filter_map(|found| found.onset_s)
            .reduce(f64::min);
        row.onset = onset.and_then(|onset| {
            let since = self.input.now.0 as f64 / 1e9 - onset;
            let ns = i64::try_from(whole((since * 1e9).max(0.0))).ok()?;
            let at = self.input.now.0.checked_sub(ns)?;
            time::rfc3339(at, time::local_offset_s(at))
        });
    }

    /// When which limit is met, who competes, who dies.
    fn meets(
        &self,
        row: &mut Risk,
        (meeting, (soonest, latest)): (&Meeting, (f64, Option<f64>)),
        own: &[usize],
    ) {
        limit(row, &meeting.bound);
        row.hours = Some(meeting.after_s / HOUR);
        row.interval = Some((soonest / HOUR, latest.map(|latest| latest / HOUR)));
        row.at = self.stamp(meeting.after_s);
        row.total_rate_mib_per_hour = Some(per_hour(meeting.rate));
        row.competing = self.competing(&meeting.growers, own, meeting.rate);
        row.victim = self.victim(meeting);
        let warns = |one: &&Meeting| {
            one.bound.limit.effect() == Effect::Throttle
                && one.after_s <= meeting.after_s
                && one.growers.iter().any(|at| own.contains(at))
        };
        let warning = self.meetings.iter().find(warns);
        row.early_warning = warning.map(|one| EarlyWarning {
            cgroup: one.bound.limit.path().map(str::to_owned),
            limit_bytes: one.bound.limit_bytes,
            at: self.stamp(one.after_s),
            hours: one.after_s / HOUR,
        });
    }

    fn competing(&self, growers: &[usize], own: &[usize], rate: f64) -> Vec<Competitor> {
        let all = &self.input.scene.growers;
        let others = growers.iter().filter(|at| !own.contains(at));
        let mut rows: Vec<Competitor> = others
            .filter_map(|&at| all.get(at))
            .map(|grower| {
                let (kind, member) = match grower.who {
                    Who::Process(member) => ("process", Some(&self.input.scene.members[member])),
                    Who::Cgroup(_) => ("cgroup", None),
                    Who::Host => ("host", None),
                };
                Competitor {
                    kind,
                    pid: member.map(|one| one.pid),
                    comm: member.map(|one| one.comm.clone()),
                    cgroup: grower.cgroup.clone(),
                    rate_mib_per_hour: per_hour(grower.rate),
                    share: if rate > 0.0 { grower.rate / rate } else { 0.0 },
                }
            })
            .collect();
        rows.sort_by(|a, b| b.rate_mib_per_hour.total_cmp(&a.rate_mib_per_hour));
        rows
    }

    fn victim(&self, meeting: &Meeting) -> Option<RiskVictim> {
        let victim = meeting.victim.as_ref()?;
        let member = &self.input.scene.members[victim.member];
        let total = meeting.bound.scale_bytes / self.input.scene.page_bytes.max(1);
        let total = i64::try_from(total).unwrap_or(i64::MAX).max(1);
        let growers = self.input.scene.growers.iter();
        Some(RiskVictim {
            pid: member.pid,
            comm: member.comm.clone(),
            cgroup: member.cgroup.clone(),
            oom_score_adj: member.oom_score_adj,
            bytes: whole(victim.bytes),
            badness_pages: victim.badness_pages,
            score: victim.badness_pages.saturating_mul(1000) / total,
            leaks: growers
                .map(|one| &one.who)
                .any(|who| *who == Who::Process(victim.member)),
            with: victim.with,
        })
    }

    /// What stands near a limit and has no row yet.
    fn near(&self, rows: &[Risk]) -> Vec<Risk> {
        let near = |bound: &&Bound| bound.share() * 100.0 >= NEAR_PCT;
        let nearest = |bounds: &[Bound]| {
            let near = bounds.iter().filter(near);
            let hard = near.filter(|bound| {
                // At memory.high only who stands above it already is slowed down.
                bound.limit.effect() != Effect::Throttle || bound.left_bytes == 0
            });
            hard.max_by(|a, b| a.share().total_cmp(&b.share())).cloned()
        };
        let surroundings = &self.input.scene.surroundings;
        let mut found = Vec::new();
        let mut push = |mut row: Risk, bound: Option<Bound>| {
            if let Some(bound) = bound {
                row.reason = "near-limit";
                limit(&mut row, &bound);
                found.push(row);
            }
        };
        let has = |kind: &str, same: &dyn Fn(&Risk) -> bool| {
            rows.iter().any(|row| row.kind == kind && same(row))
        };
        let host: Vec<Bound> = surroundings.host().cloned().into_iter().collect();
        if !has("host", &|_| true) {
            push(self.of_host(), nearest(&host));
        }
        for cgroup in self.input.cgroups {
            let path = cgroup.path.lossy();
            if !has("cgroup", &|row| row.cgroup.as_deref() == Some(&*path)) {
                push(self.of_cgroup(&path), nearest(surroundings.own(&path)));
            }
        }
        for (at, member) in self.input.scene.members.iter().enumerate() {
            let key = (Some(member.pid), Some(member.start_ticks));
            if !has("process", &|row| (row.pid, row.start) == key) {
                push(self.of_member(at), nearest(&member.own));
            }
        }
        found
    }

    fn room(&self) -> HostRoom {
        let bound = self.input.scene.surroundings.host();
        let growers = &self.input.scene.growers;
        let rate: f64 = growers.iter().map(|one| one.rate).sum();
        let square: f64 = growers.iter().map(|one| one.error.powi(2)).sum();
        let psi = |get: fn(&SystemMetrics) -> Option<u64>| {
            let hundredths = self.input.system.and_then(get)?;
            Some(hundredths as f64 / 100.0)
        };
        HostRoom {
            limit_bytes: bound.map(|one| one.limit_bytes),
            used_bytes: bound.map(|one| one.used_bytes),
            left_bytes: bound.map(|one| one.left_bytes),
            rate_mib_per_hour: per_hour(rate),
            rate_interval: interval(rate, square.sqrt()),
            psi_some_avg10_pct: psi(|system| system.psi_some_avg10),
            psi_full_avg10_pct: psi(|system| system.psi_full_avg10),
        }
    }
}

/// The limit of a row.
fn limit(row: &mut Risk, bound: &Bound) {
    row.limit_source = Some(bound.limit.source());
    row.limit_cgroup = bound.limit.path().map(str::to_owned);
    row.limit_name = Some(bound.limit.name());
    row.outcome = Some(match bound.limit.effect() {
        Effect::Kill => "oom-kill",
        Effect::Fail => "allocation-fails",
        Effect::Throttle => "throttled",
    });
    row.limit_bytes = Some(bound.limit_bytes);
    row.used_bytes = Some(bound.used_bytes);
    row.left_bytes = Some(bound.left_bytes);
    row.used_share = Some(bound.share());
}
