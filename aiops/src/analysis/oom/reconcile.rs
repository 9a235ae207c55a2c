//! Are all kills accounted for, and how complete was the observation?

use std::collections::BTreeMap;

use crate::model::Counters;
use crate::model::LossCount;
use crate::model::Nanos;
use crate::model::Sample;
use crate::msg;
use crate::report::Accounting;
use crate::report::oom::CgroupKills;
use crate::report::oom::Incident;
use crate::report::oom::LoggedKill;
use crate::report::oom::OomData;
use crate::report::oom::Reconciliation;

use super::Assembler;
use super::Capture;
use super::Outcome;
use super::findings;
use super::joiner::KernelReport;
use super::joiner::LoggedLine;
use super::people::below;
use super::people::text;

/// How far a cgroup's first reading may be from the stamp of its sample.
const ABOUT_NS: Nanos = 1_000_000_000;

/// Counts over the whole observation, also of kills that are not listed.
#[derive(Debug, Default)]
pub(super) struct Tally {
    captured: Vec<(Nanos, Option<u64>, Option<String>)>,
    pub(super) already_exiting: u64,
    pub(super) filtered: u64,
    logged: Vec<LoggedLine>,
    /// Repeated kill lines: when, how many, in which cgroup.
    repeated: Vec<(Nanos, u64, Option<String>)>,
    /// Captured groups without a log, which would name the kills that the kernel counts twice.
    silent: Vec<(Nanos, Option<String>)>,
    v2: bool,
    /// The first oom_kill count of each sampled cgroup, and when it was had.
    first: BTreeMap<u64, (Nanos, u64)>,
}

impl Tally {
    pub(super) fn captured(
        &mut self,
        hierarchy: Option<u8>,
        mine: &[Capture],
        paths: Vec<Option<String>>,
    ) {
        self.v2 = hierarchy == Some(2);
        let kills = mine.iter().filter(|one| one.killed()).count();
        if kills > 1 && mine.iter().all(|one| one.logged.is_none()) {
            self.silent
                .push((mine[0].ts, paths.first().cloned().flatten()));
        }
        for (one, path) in mine.iter().zip(paths) {
            if one.killed() {
                self.captured.push((one.ts, one.mark.victim.memcg_id, path));
            } else {
                self.already_exiting += 1;
            }
        }
    }

    pub(super) fn sample(&mut self, sample: &Sample) {
        for one in &sample.cgroups {
            if let Some(count) = one.metrics.oom_kill {
                self.first.entry(one.id).or_insert((sample.ts_ns, count));
            }
        }
    }

    pub(super) fn report(&mut self, report: &KernelReport, path: Option<String>) {
        self.logged.extend(report.kills.iter().cloned());
        if report.repeated > 0 {
            self.repeated.push((report.heard, report.repeated, path));
        }
    }

    /// Repeated kills, and those that may be, of victims in or below a cgroup; of the host where it is none.
    fn doubles(&self, from: Nanos, to: Nanos, path: Option<&str>) -> (u64, u64) {
        let inside = |ts: Nanos, victim: Option<&str>| {
            let fits = path.is_none_or(|path| {
                victim.is_some_and(|victim| victim == path || (self.v2 && below(victim, path)))
            });
            fits && ts >= from && ts <= to
        };
        let repeated = self.repeated.iter();
        let repeated = repeated.filter(|one| inside(one.0, one.2.as_deref()));
        let silent = self.silent.iter();
        let silent = silent.filter(|one| inside(one.0, one.1.as_deref()));
        (repeated.map(|one| one.1).sum(), silent.count() as u64)
    }

    fn cgroups(&self, start: &Counters, end: &Counters) -> Vec<CgroupKills> {
        let mut out = Vec::new();
        for count in &end.cgroups {
            let before = start.cgroups.iter().find(|one| one.id == count.id);
            // One that was not read at the start may be old: it is counted from its first sample on.
            let sampled = || self.first.get(&count.id).copied();
            let Some((since, before)) = before.map(|one| (0, one.oom_kill)).or_else(sampled) else {
                continue;
            };
            let counted = count.oom_kill.saturating_sub(before);
            let path = text(&count.path);
            let inside = |one: &&(Nanos, Option<u64>, Option<String>)| {
                one.1 == Some(count.id)
                    || (self.v2 && one.2.as_deref().is_some_and(|victim| below(victim, &path)))
            };
            // A sample is stamped before its cgroups are read, and so are the last counts: what was killed
            // about then is in the count, or not, as the kernel says.
            let about = match since {
                0 => 0,
                first => first + ABOUT_NS,
            };
            let mine = self.captured.iter().filter(inside);
            let mine = mine.filter(|one| one.0 + ABOUT_NS >= since);
            let (sure, maybe): (Vec<_>, Vec<_>) =
                mine.partition(|one| one.0 >= about && one.0 <= end.ts_ns);
            let least = sure.len() as u64;
            let captured = counted.clamp(least, least + maybe.len() as u64);
            if counted > 0 || captured > 0 {
                out.push(CgroupKills {
                    path,
                    counted,
                    captured,
                });
            }
        }
        out.sort_by(|a, b| a.path.cmp(&b.path));
        out
    }
}

/// Closes the books.
pub(super) fn outcome(mut a: Assembler) -> Outcome {
    let reconciliation = reconcile(&a);
    let listed = std::mem::take(&mut a.listed);
    let mut incidents: Vec<Incident> = listed.into_iter().map(|one| one.1).collect();
    for incident in &mut incidents {
        counters_saw(incident, &reconciliation);
    }
    let accounting = accounting(&a, &incidents);
    let began = a
        .counters
        .0
        .as_ref()
        .map_or(a.session.started_ns, |c| c.ts_ns);
    let ended = a.end.as_ref().map_or(a.now, |end| end.ts_ns);
    let data = OomData {
        started_at: a.rfc3339(began),
        ended_at: a.rfc3339(ended),
        duration_s: Some(super::ms(ended.saturating_sub(began)) / 1000.0),
        incidents,
        reconciliation,
        notes: a.session.notes.clone(),
    };
    let findings = findings::findings(&data, &accounting);
    Outcome {
        data,
        findings,
        accounting,
        host: a.session.host,
        command: a.session.command,
        version: a.session.version,
    }
}

/// Whether the kernel's counters saw this incident: certain when they rose by all captured kills, or not at
/// all; else it cannot be told for one incident.
fn counters_saw(incident: &mut Incident, counts: &Reconciliation) {
    if incident.outcome != "killed" || !incident.sources.bpf {
        return;
    }
    let saw = |counted: u64, captured: u64| match counted {
        0 => Some(false),
        counted if counted >= captured => Some(true),
        _ => None,
    };
    incident.sources.vmstat = counts
        .counted
        .and_then(|counted| saw(counted, counts.captured));
    let path = incident.kills.first().and_then(|kill| kill.cgroup.as_ref());
    let own = path.and_then(|path| counts.cgroups.iter().find(|one| one.path == *path));
    incident.sources.memory_events = own.and_then(|own| saw(own.counted, own.captured));
}

fn reconcile(a: &Assembler) -> Reconciliation {
    let tally = &a.tally;
    let (start, end) = (a.counters.0.as_ref(), a.counters.1.as_ref());
    let from = start.map_or(a.session.started_ns, |c| c.ts_ns);
    let to = end.map_or(a.now, |c| c.ts_ns);
    // The log may have been read from before the hooks ran, or a little longer than they did.
    let logged: Vec<_> = tally
        .logged
        .iter()
        .filter(|line| line.captured || (line.heard >= from && line.heard <= to))
        .collect();
    let (repeated, silent) = tally.doubles(from, to, None);
    let not_captured: Vec<_> = logged
        .iter()
        .filter(|line| !line.captured)
        .map(|line| LoggedKill {
            pid: line.pid,
            comm: line.comm.clone(),
            at: a.rfc3339(line.ts),
        })
        .collect();
    let counted = start
        .zip(end)
        .and_then(|(s, e)| e.oom_kill?.checked_sub(s.oom_kill?));
    let captured = tally.captured.len() as u64;
    // The counter was read while kills went on: only those of its span can be in it.
    let within = tally
        .captured
        .iter()
        .filter(|one| one.0 >= from && one.0 <= to)
        .count() as u64;
    let beyond = counted.map_or(0, |n| n.saturating_sub(within + repeated + silent));
    let mut r = Reconciliation {
        counted,
        logged: (!logged.is_empty()).then_some(logged.len() as u64),
        repeated,
        captured,
        filtered: tally.filtered,
        already_exiting: tally.already_exiting,
        missed: beyond.max(not_captured.len() as u64),
        not_captured,
        cgroups: start
            .zip(end)
            .map(|(s, e)| tally.cgroups(s, e))
            .unwrap_or_default(),
        agrees: false,
        notes: Vec::new(),
    };
    if r.logged.is_none() && captured == 0 {
        r.logged = Some(0);
    }
    judge(&mut r, within, &|path| tally.doubles(from, to, path));
    r
}

/// `doubles` tells the repeated kills, and those that may be, of a cgroup or of the host.
fn judge(r: &mut Reconciliation, within: u64, doubles: &dyn Fn(Option<&str>) -> (u64, u64)) {
    let (captured, (repeated, silent)) = (r.captured, doubles(None));
    let fits = |counted: u64, captured: u64, (repeated, silent): (u64, u64)| {
        let most = captured + repeated + silent;
        counted == captured || (captured + repeated..=most).contains(&counted)
    };
    let mut agrees = r.missed == 0;
    match r.counted {
        None => r.notes.push(msg!(
            "the kernel's counter oom_kill could not be compared",
            "无法与内核计数器 oom_kill 对照"
        )),
        Some(counted) if !fits(counted, within, (repeated, silent)) => {
            agrees = false;
            r.notes.push(msg!(
                "the kernel counted {counted} kills, {within} were captured",
                "内核计数 {counted} 次，捕获 {within} 次"
            ));
        }
        Some(_) if repeated > 0 => r.notes.push(msg!(
            "the kernel counts or logs the first victim of a group twice: {repeated} repeated",
            "内核把一组中的首个进程计数或记录了两次：重复 {repeated} 次"
        )),
        Some(_) => {}
    }
    match r.logged {
        Some(logged) if logged != captured => {
            agrees = false;
            r.notes.push(msg!("the kernel's log names {logged} kills, {captured} were captured", "内核日志记录 {logged} 次，捕获 {captured} 次"));
        }
        None => r.notes.push(msg!("the kernel's log names no kill: it could not be read, or its console level drops such lines", "内核日志中没有相应记录：可能无法读取")),
        Some(_) => {}
    }
    for one in &r.cgroups {
        let (path, counted, captured) = (&one.path, one.counted, one.captured);
        if !fits(counted, captured, doubles(Some(path))) {
            agrees = false;
            r.notes.push(msg!(
                "{path} counted {counted} kills, {captured} were captured in it",
                "{path} 计数 {counted} 次，其中捕获 {captured} 次"
            ));
        }
    }
    r.agrees = agrees;
}

fn accounting(a: &Assembler, incidents: &[Incident]) -> Accounting {
    let map = |counts: &[LossCount]| {
        counts
            .iter()
            .filter(|one| one.count > 0)
            .map(|one| (one.name.clone(), one.count))
            .collect()
    };
    let lost = |name: &str| {
        a.losses
            .lost
            .iter()
            .filter(|one| one.name == name)
            .map(|one| one.count)
            .sum::<u64>()
    };
    let mut all: crate::report::Counts = map(&a.losses.lost);
    // These have fields of their own.
    for name in [
        "stack_truncated",
        "stack_failed",
        "pending_map",
        "decode_errors",
        "undecodable",
    ] {
        all.remove(name);
    }
    let frames = |i: &Incident| {
        let s = &i.stacks;
        let same = s.victim_user == s.trigger_user;
        let user = if same {
            [].as_slice()
        } else {
            s.victim_user.as_slice()
        };
        let stacks = [
            s.trigger_kernel.as_slice(),
            &s.trigger_user,
            user,
            &s.victim_kernel,
        ];
        stacks
            .iter()
            .flat_map(|stack| stack.iter())
            .filter(|frame| frame.function.is_none())
            .count() as u64
    };
    let hooks = a.session.hooks.iter().filter(|hook| !hook.attached);
    let mut out = Accounting {
        seen: map(&a.losses.seen),
        lost: all,
        map_full: lost("pending_map"),
        stack_truncated: lost("stack_truncated"),
        stack_failed: lost("stack_failed"),
        unresolved_frames: incidents.iter().map(frames).sum(),
        // The kernel side's name is the second.
        decode_errors: lost("decode_errors") + lost("undecodable"),
        missing_hooks: hooks.map(|hook| hook.name.clone()).collect(),
        ..Accounting::default()
    };
    [
        out.skipped_processes.vanished,
        out.skipped_processes.denied,
        out.skipped_processes.failed,
    ] = a.skipped;
    out.complete = out.lost.is_empty()
        && out.map_full == 0
        && out.decode_errors == 0
        && out.missing_hooks.is_empty();
    out
}
