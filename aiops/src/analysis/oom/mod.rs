//! OOM incidents from items: marks, kernel text, samples and identities joined into the report's data.
//!
//! Nothing here reads a clock: time is that of the newest item, so the same items give the same report.

pub(in crate::analysis) mod badness;
mod build;
mod findings;
mod joiner;
pub mod kernel_text;
mod people;
mod reconcile;
mod window;

use std::collections::VecDeque;

use crate::model::ClockPair;
use crate::model::Counters;
use crate::model::CountersAt;
use crate::model::Delivery;
use crate::model::End;
use crate::model::Event;
use crate::model::EventKind;
use crate::model::Host;
use crate::model::Item;
use crate::model::KmsgLine;
use crate::model::Losses;
use crate::model::Mark;
use crate::model::MarkSource;
use crate::model::Nanos;
use crate::model::Session;
use crate::model::Skipped;
use crate::model::Step;
use crate::model::StepKind;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::oom::Incident;
use crate::report::oom::OomData;

use joiner::Joiner;
use joiner::LoggedLine;
use people::People;
use window::Window;

/// An incident that lacks something closes after this long.
const WAIT_NS: u64 = 2_000_000_000;
/// An incident that has everything stays open this long, for more members of a group may follow.
const SETTLE_NS: u64 = 100_000_000;
/// Marks of one decision follow each other within this time when no reclaim tells them apart.
const GROUP_NS: u64 = 50_000_000;

/// Reports of one cgroup that found nobody to kill are one incident within this time of its first.
const MERGE_NS: u64 = 10_000_000_000;
/// Clock pairs that [`Assembler::forget`] leaves: hours, where the calendar is slewed all the time.
const CLOCKS_KEPT: usize = 256;
/// Of a session without an end, incidents of this time count as one storm: the first are told whole, later ones
/// shorter.
const STORM_NS: u64 = 3_600_000_000_000;
/// Most kernel lines of such an incident.
const MERGED_LINES: usize = 500;

/// A captured victim.
#[derive(Clone, Debug)]
struct Capture {
    ts: Nanos,
    latency_ns: Option<u64>,
    mark: Mark,
    delivery: Option<(Nanos, Delivery)>,
    steps: Vec<(Nanos, StepKind)>,
    logged: Option<LoggedLine>,
    report: Option<u64>,
    /// Incident that it belongs to.
    key: u64,
    /// A mark of another thread of a process that was killed: part of that incident, counted only.
    folded: bool,
}

impl Capture {
    fn killed(&self) -> bool {
        self.mark.source != MarkSource::AlreadyExiting
    }

    fn did(&self, kind: StepKind) -> bool {
        self.steps.iter().any(|step| step.1 == kind)
    }

    /// The reaper began and has not said that it is done.
    fn being_reaped(&self) -> bool {
        (self.did(StepKind::WakeReaper) || self.did(StepKind::StartReaping))
            && !self.did(StepKind::FinishReaping)
            && !self.did(StepKind::SkipReaping)
    }
}

/// What the observation came to.
#[derive(Debug)]
pub struct Outcome {
    /// The report's data.
    pub data: OomData,
    /// What it means.
    pub findings: Vec<Finding>,
    /// How complete it is.
    pub accounting: Accounting,
    /// The observed host.
    pub host: Host,
    /// The command that observed, `trace oom`.
    pub command: String,
    /// Version of aiops that observed.
    pub version: String,
}

/// Joins items into incidents.
#[derive(Debug, Default)]
pub struct Assembler {
    session: Session,
    clocks: Vec<ClockPair>,
    people: People,
    window: Window,
    joiner: Joiner,
    captures: Vec<Capture>,
    next_key: u64,
    early: VecDeque<(Nanos, Delivery)>,
    /// Kills of closed incidents: when, and the process.
    closed_kills: VecDeque<(Nanos, u32)>,
    reclaims: VecDeque<(Nanos, u32)>,
    now: Nanos,
    counters: (Option<Counters>, Option<Counters>),
    losses: Losses,
    skipped: [u64; 3],
    end: Option<End>,
    tally: reconcile::Tally,
    listed: Vec<(Nanos, Incident)>,
    /// When the incidents of this session, or of the last hour of one without an end, were.
    told: VecDeque<Nanos>,
    closed: u64,
}

impl Assembler {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next item; returns the incidents that it closed.
    pub fn push(&mut self, item: &Item) -> Vec<Incident> {
        match item {
            // The log's clock may run ahead of the others, and reports wait by the others.
            Item::Kmsg(_) | Item::Symbols(_) | Item::Identity(_) => {}
            other => self.now = self.now.max(other.ts_ns().unwrap_or(0)),
        }
        match item {
            Item::Session(session) => self.session(session),
            Item::Clock(pair) => self.clock(*pair),
            Item::Event(event) => self.event(event),
            Item::Sample(sample) => {
                self.tally.sample(sample);
                let Skipped {
                    vanished,
                    denied,
                    failed,
                    ..
                } = sample.skipped;
                for (sum, more) in self.skipped.iter_mut().zip([vanished, denied, failed]) {
                    *sum += u64::from(more);
                }
                self.window.push(sample);
            }
            Item::Detail(_) | Item::Regions(_) | Item::Allocs(_) | Item::Swaps(_) => {}
            Item::Identity(identity) => self.people.identity(identity),
            Item::Kmsg(line) if line.priority >> 3 == 0 => self.kernel_line(line),
            Item::Kmsg(_) => {}
            Item::Symbols(set) => self.people.symbols(set),
            Item::Counters(counters) => match counters.at {
                CountersAt::Start => self.counters.0 = Some(counters.clone()),
                CountersAt::Tick | CountersAt::End => self.counters.1 = Some(counters.clone()),
            },
            Item::Losses(losses) => self.losses = losses.clone(),
            Item::End(end) => self.end = Some(end.clone()),
        }
        self.join();
        self.close(self.end.is_some())
    }

    /// Number of incidents that still wait for something.
    #[must_use]
    pub fn open(&self) -> usize {
        self.keys().len()
    }

    /// Number of closed incidents with a kill that matches the filter, listed or not.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.closed
    }

    /// Drops what only [`Self::finish`] would need, but for incidents that later reports may join: closed ones
    /// were handed over. A session without an end stays small.
    pub fn forget(&mut self) {
        let from = self.now.saturating_sub(MERGE_NS);
        // Kills are never joined to an incident that is closed.
        self.listed
            .retain(|(ts, one)| *ts >= from && one.kills.is_empty());
        let hour = self.now.saturating_sub(STORM_NS);
        while self.told.front().is_some_and(|ts| *ts < hour) {
            self.told.pop_front();
        }
        self.tally = reconcile::Tally::default();
        let old = self.clocks.len().saturating_sub(CLOCKS_KEPT);
        self.clocks.drain(..old);
    }

    /// Closes what is open and says what it all came to.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        self.close(true);
        self.listed.sort_by_key(|one| one.0);
        reconcile::outcome(self)
    }

    fn kernel_line(&mut self, line: &KmsgLine) {
        let captures = &self.captures;
        let moved = self.joiner.push(line, self.now, &|pid| {
            let mut newest = captures.iter().rev();
            let found = newest.find(|one| one.killed() && one.mark.victim.pid == pid)?;
            Some(found.mark.trigger.tid)
        });
        if let Some((report, pid)) = moved {
            self.unjoin(report, pid);
        }
    }

    /// A line left this report for another one: its capture looks for it anew.
    fn unjoin(&mut self, report: u64, pid: u32) {
        let mine = |one: &&mut Capture| one.report == Some(report) && one.mark.victim.pid == pid;
        for capture in self.captures.iter_mut().filter(mine) {
            capture.logged = None;
            capture.report = None;
        }
    }

    fn session(&mut self, session: &Session) {
        self.session = session.clone();
        self.people.host(&session.host);
        self.window.span(session.history_window_s);
        self.joiner
            .page_size(session.host.page_size.unwrap_or(4096));
    }

    /// Keeps every clock pair that differs from the last by more than a millisecond: steps, not ticks.
    fn clock(&mut self, pair: ClockPair) {
        let shift = |pair: &ClockPair| pair.real_ns.wrapping_sub_unsigned(pair.mono_ns);
        let same = self.clocks.last().is_some_and(|last| {
            shift(last).abs_diff(shift(&pair)) < 1_000_000
                && (last.boot_ns.wrapping_sub(last.mono_ns))
                    .abs_diff(pair.boot_ns.wrapping_sub(pair.mono_ns))
                    < 1_000_000
        });
        if !same {
            self.clocks.push(pair);
        }
    }

    /// Calendar time of a moment by the nearest pair at or before it, else by the first.
    fn real_ns(&self, ts: Nanos) -> Option<i64> {
        let before = self.clocks.iter().rev().find(|pair| pair.mono_ns <= ts);
        let pair = before.or(self.clocks.first())?;
        let offset = i128::from(ts) - i128::from(pair.mono_ns);
        i64::try_from(i128::from(pair.real_ns) + offset).ok()
    }

    fn rfc3339(&self, ts: Nanos) -> Option<String> {
        let offset = self.session.host.utc_offset_s.unwrap_or(0);
        crate::time::rfc3339(self.real_ns(ts)?, offset)
    }

    fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Mark(mark) => self.mark(event, mark),
            EventKind::Delivery(delivery) => {
                let entry = (event.ts_ns, (**delivery).clone());
                match self.victim(delivery.victim.pid, delivery.victim.tid) {
                    Some(capture) if capture.delivery.is_none() => capture.delivery = Some(entry),
                    Some(_) => {}
                    None => self.early.push_back(entry),
                }
                let from = event.ts_ns.saturating_sub(WAIT_NS);
                self.early.retain(|entry| entry.0 >= from);
            }
            EventKind::Step(step) => self.step(event.ts_ns, *step),
            EventKind::Stall(_) => {}
            EventKind::Reclaim(reclaim) => {
                self.reclaims.push_back((event.ts_ns, reclaim.task.tid));
                let from = event.ts_ns.saturating_sub(2 * WAIT_NS);
                while self.reclaims.front().is_some_and(|one| one.0 < from) {
                    self.reclaims.pop_front();
                }
            }
        }
    }

    fn victim(&mut self, pid: u32, tid: u32) -> Option<&mut Capture> {
        let same = |one: &Capture| one.mark.victim.pid == pid || one.mark.victim.tid == tid;
        // Other threads of a killed process are marked as already exiting: what it does is told of the kill.
        let killed = self
            .captures
            .iter()
            .rposition(|one| one.killed() && same(one));
        let at = killed.or_else(|| self.captures.iter().rposition(same))?;
        self.captures.get_mut(at)
    }

    fn step(&mut self, ts: Nanos, step: Step) {
        if let (StepKind::Exit, Some(pid)) = (step.step, step.pid) {
            self.window.exited(pid, ts);
        }
        if let Some(capture) = self.victim(step.pid.unwrap_or(step.tid), step.tid) {
            capture.steps.push((ts, step.step));
        }
    }

    fn mark(&mut self, event: &Event, mark: &Mark) {
        if mark.source == MarkSource::AlreadyExiting {
            let mut closed = self.closed_kills.iter();
            let from = event.ts_ns.saturating_sub(WAIT_NS);
            if closed.any(|(ts, pid)| *ts >= from && *pid == mark.victim.pid) {
                self.tally.already_exiting += 1;
                return;
            }
        }
        let key = self.same_decision(event.ts_ns, mark).unwrap_or_else(|| {
            self.next_key += 1;
            self.next_key
        });
        let pid = mark.victim.pid;
        let early = self.early.iter().position(|one| one.1.victim.pid == pid);
        self.captures.push(Capture {
            ts: event.ts_ns,
            latency_ns: event
                .received_ns
                .and_then(|got| got.checked_sub(event.ts_ns)),
            mark: mark.clone(),
            delivery: early.and_then(|at| self.early.remove(at)),
            steps: Vec::new(),
            logged: None,
            report: None,
            key,
            folded: false,
        });
        self.fold();
    }

    /// Puts marks of threads of a killed process into its incident.
    fn fold(&mut self) {
        for at in 0..self.captures.len() {
            let one = &self.captures[at];
            if one.killed() {
                continue;
            }
            let same = |other: &&Capture| {
                other.killed()
                    && other.mark.victim.pid == one.mark.victim.pid
                    && other.ts.abs_diff(one.ts) <= WAIT_NS
            };
            let found = self.captures.iter().rev().find(same);
            if let Some(key) = found.map(|other| other.key) {
                self.captures[at].key = key;
                self.captures[at].folded = true;
            }
        }
    }

    /// The open incident that a mark seems to belong to; the kernel's text decides later, where it comes.
    fn same_decision(&self, ts: Nanos, mark: &Mark) -> Option<u64> {
        // memory.oom.group is a file of cgroup v2.
        if self.session.host.memory_cgroup == Some(1) || mark.source == MarkSource::AlreadyExiting {
            return None;
        }
        let last = self
            .captures
            .iter()
            .rev()
            .find(|one| one.killed() && one.mark.trigger.tid == mark.trigger.tid)?;
        let path = self.cgroup_of(last);
        if path.is_some_and(|path| self.window.oom_group(&path) == Some(false)) {
            return None;
        }
        let gap = ts.saturating_sub(last.ts);
        let fits = match (last.mark.reclaim_ns, mark.reclaim_ns) {
            (Some(a), Some(b)) => a == b && gap < WAIT_NS / 2,
            _ => gap < GROUP_NS,
        };
        fits.then_some(last.key)
    }

    /// Cgroup of a victim: from its identity, else the folder that has its cgroup's inode.
    fn cgroup_of(&self, capture: &Capture) -> Option<String> {
        let victim = &capture.mark.victim;
        let by_id = victim.memcg_id.and_then(|id| self.window.cgroup_path(id));
        let identity = || self.people.of(victim)?.cgroup.as_ref().map(people::text);
        // The log names one task's cgroup. The table of identities comes last: a process may have moved
        // since it was read.
        let report = self
            .joiner
            .reports
            .iter()
            .find(|one| capture.report == Some(one.id));
        let logged = || {
            report
                .filter(|one| one.kills.len() == 1)?
                .task_memcg
                .clone()
        };
        by_id.map(str::to_owned).or_else(logged).or_else(identity)
    }

    /// Gives each "Killed process" line its capture, and each report one incident.
    fn join(&mut self) {
        self.split();
        for report in &mut self.joiner.reports {
            let by = report.caller.clone();
            let id = report.id;
            for kill in report.kills.iter_mut().filter(|kill| !kill.captured) {
                let found = self.captures.iter_mut().find(|one| {
                    one.logged.is_none()
                        && one.killed()
                        && one.mark.victim.pid == kill.pid
                        && joiner::printed_by(by.as_deref(), one.mark.trigger.tid)
                });
                let Some(capture) = found else { continue };
                kill.captured = true;
                capture.logged = Some(kill.clone());
                capture.report = Some(id);
            }
        }
        let mut owned: Vec<(u64, u64)> = Vec::new();
        for at in 0..self.joiner.reports.len() {
            let id = self.joiner.reports[at].id;
            let mine = |one: &&mut Capture| one.report == Some(id);
            let Some(first) = self.captures.iter().find(|one| one.report == Some(id)) else {
                continue;
            };
            let mut key = self.joiner.reports[at].key.unwrap_or(first.key);
            if owned.iter().any(|(other, _)| *other == key) {
                self.next_key += 1;
                key = self.next_key;
            }
            owned.push((key, id));
            self.joiner.reports[at].key = Some(key);
            for capture in self.captures.iter_mut().filter(mine) {
                capture.key = key;
            }
        }
        self.fold();
    }

    /// Kill lines in one report whose marks are of several triggers are of several decisions.
    fn split(&mut self) {
        loop {
            let captures = &self.captures;
            let trigger = |pid: u32| {
                let found = captures
                    .iter()
                    .find(|one| one.killed() && one.mark.victim.pid == pid)?;
                Some(found.mark.trigger.tid)
            };
            let Some((id, pid)) = self.joiner.split(&trigger) else {
                return;
            };
            self.unjoin(id, pid);
        }
    }

    fn keys(&self) -> Vec<u64> {
        let mut keys: Vec<u64> = Vec::new();
        for capture in &self.captures {
            if !keys.contains(&capture.key) {
                keys.push(capture.key);
            }
        }
        keys
    }

    fn close(&mut self, all: bool) -> Vec<Incident> {
        let mut out = Vec::new();
        for key in self.keys() {
            let mine = || self.captures.iter().filter(|one| one.key == key);
            let age = self
                .now
                .saturating_sub(mine().map(|one| one.ts).max().unwrap_or(0));
            let whole = age >= SETTLE_NS && mine().all(|one| self.missing(one).is_empty());
            if all || whole || age >= WAIT_NS {
                out.extend(self.close_one(key));
            }
        }
        for at in (0..self.joiner.reports.len()).rev() {
            let report = &self.joiner.reports[at];
            let done = report
                .key
                .is_some_and(|key| self.captures.iter().all(|one| one.key != key));
            let late = report.key.is_none() && self.now.saturating_sub(report.heard) >= WAIT_NS;
            if all || late || (done && self.now.saturating_sub(report.heard) >= WAIT_NS) {
                let report = self.joiner.reports.remove(at);
                let path = report.task_memcg.clone().or(report.cgroup.clone());
                self.tally.report(&report, path);
                out.extend(self.unkillable(&report));
            }
        }
        out
    }

    /// What has not come for a victim yet.
    fn missing(&self, one: &Capture) -> Vec<&'static str> {
        let mark = &one.mark;
        let mut out = Vec::new();
        if one.folded {
            return out;
        }
        let mut need = |have: bool, name| {
            if !have {
                out.push(name);
            }
        };
        need(!one.killed() || one.logged.is_some(), "kmsg");
        need(one.did(StepKind::Exit), "exit");
        need(!one.being_reaped(), "reaped");
        need(self.people.of(&mark.victim).is_some(), "identity");
        let delivered = one.delivery.as_ref().map(|(_, delivery)| &delivery.user);
        let resolved = self.people.resolved(None, &mark.trigger_kernel)
            && self.people.resolved(None, &mark.victim_kernel)
            && self
                .people
                .resolved(Some(&mark.trigger), &mark.trigger_user)
            && delivered.is_none_or(|user| self.people.resolved(Some(&mark.victim), user));
        need(resolved, "symbols");
        out
    }

    fn close_one(&mut self, key: u64) -> Option<Incident> {
        let (mut mine, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.captures)
            .into_iter()
            .partition(|one| one.key == key);
        self.captures = rest;
        // The first is the kill, also where a thread of it was marked before.
        mine.sort_by_key(|one| (!one.killed(), one.ts));
        for one in mine.iter().filter(|one| one.killed()) {
            self.closed_kills.push_back((one.ts, one.mark.victim.pid));
        }
        let from = self.now.saturating_sub(2 * WAIT_NS);
        self.closed_kills.retain(|one| one.0 >= from);
        let first = mine.first()?;
        let report = self
            .joiner
            .reports
            .iter()
            .position(|report| report.key == Some(key));
        if let Some(at) = report {
            self.joiner.reports[at].cgroup = self.cgroup_of(first);
        }
        let report = report.map(|at| &self.joiner.reports[at]);
        let wanted = mine
            .iter()
            .any(|one| self.wanted(one, report.and_then(|r| r.task_memcg.clone())));
        let kills = mine.iter().filter(|one| one.killed()).count() as u64;
        let paths: Vec<_> = mine.iter().map(|one| self.cgroup_of(one)).collect();
        self.tally
            .captured(self.session.host.memory_cgroup, &mine, paths);
        if !wanted {
            self.tally.filtered += kills;
            return None;
        }
        if kills > 0 {
            self.closed += 1;
        }
        if self.session.count.is_some_and(|count| self.closed > count) {
            return None;
        }
        let ts = first.ts;
        let incident = build::incident(self, &mine, report);
        self.told.push_back(ts);
        self.listed.push((ts, incident.clone()));
        Some(incident)
    }

    /// The kernel found nobody to kill: an incident without a mark.
    fn unkillable(&mut self, report: &joiner::KernelReport) -> Option<Incident> {
        if !report.no_killable || report.key.is_some() || !self.session.filter.is_empty() {
            return None;
        }
        let incident = build::unkillable(self, report);
        let near = |(ts, other): &&mut (Nanos, Incident)| {
            other.outcome == incident.outcome
                && other.oom_memcg == incident.oom_memcg
                && ts.abs_diff(report.first) <= MERGE_NS
        };
        if let Some((_, other)) = self.listed.iter_mut().rev().find(near) {
            let room = MERGED_LINES.saturating_sub(other.kernel_text.len());
            let said = report
                .lines
                .iter()
                .filter(|line| line.starts_with("Out of memory"));
            other.kernel_text.extend(said.take(room).cloned());
            return None;
        }
        self.told.push_back(report.first);
        self.listed.push((report.first, incident.clone()));
        Some(incident)
    }

    fn wanted(&self, one: &Capture, logged: Option<String>) -> bool {
        let filter = &self.session.filter;
        let victim = &one.mark.victim;
        let comm = people::text(&victim.comm);
        let path = self.cgroup_of(one).or(logged);
        (filter.pids.is_empty() || filter.pids.contains(&victim.pid))
            && (filter.comms.is_empty() || filter.comms.contains(&comm))
            && (filter.cgroups.is_empty()
                || path.is_some_and(|path| {
                    filter.cgroups.iter().any(|root| people::below(&path, root))
                }))
    }
}

/// Milliseconds of nanoseconds, to the microsecond.
fn ms(ns: u64) -> f64 {
    (ns / 1000) as f64 / 1000.0
}

/// Milliseconds from `zero` to `ts`, negative before it.
fn ms_from(ts: Nanos, zero: Nanos) -> f64 {
    if ts >= zero {
        ms(ts - zero)
    } else {
        -ms(zero - ts)
    }
}

#[cfg(test)]
mod tests;
