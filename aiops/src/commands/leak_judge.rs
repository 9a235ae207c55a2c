//! Subjects judged: one with all that speaks for the verdict, or many, ranked.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use super::leak_past;
use super::leak_past::Held;
use super::leak_sources::Taken;
use crate::analysis::history::stamp;
use crate::analysis::leak;
use crate::analysis::leak::Class;
use crate::analysis::leak::Series;
use crate::analysis::leak_evidence;
use crate::analysis::leak_evidence::Life;
use crate::analysis::leak_past::Growth;
use crate::analysis::leak_report;
use crate::analysis::leak_shared;
use crate::diag;
use crate::msg;
use crate::render::units;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::leak::Change;
use crate::report::leak::Evidence;
use crate::report::leak::LeakData;
use crate::report::leak::LeakProcess;
use crate::report::leak::LeaksData;
use crate::report::leak::OpenNow;
use crate::report::leak::Siblings;
use crate::report::leak::Verdicts;
use crate::session::subjects;
use crate::session::subjects::Figures;
use crate::session::subjects::Subject;
use crate::source;

/// A process with fewer samples is listed only while it lives: a task grows until it is done.
const FEWEST: usize = 100;
/// Younger than this, seconds, a process comes behind the others of a list.
const YOUNG_S: f64 = 600.0;
/// Most siblings that are judged for the sake of one process.
const MOST_SIBLINGS: usize = 16;
/// Findings of a list.
const MOST_FINDINGS: usize = 20;

/// Judges what was taken.
pub(super) struct Judge<'a> {
    pub(super) taken: &'a Taken,
    /// What the process dies at, bytes, where that is given.
    pub(super) limit: Option<u64>,
}

/// What a process dies at: bytes, who says so, and the path of the cgroup that does.
type Dies = (u64, &'static str, Option<String>);

/// A subject and its earlier lives.
struct Case<'a> {
    subject: &'a Subject,
    earlier: Vec<&'a Subject>,
}

fn change(ends: Option<(u64, u64)>) -> Option<Change> {
    let (first, last) = ends?;
    Some(Change {
        first_kb: first,
        last_kb: last,
        change_pct: (first > 0).then(|| (last as f64 - first as f64) / first as f64 * 100.0),
    })
}

fn at_ends(subject: &Subject, get: fn(&Figures) -> Option<u64>) -> Option<Change> {
    let (first, last) = subject.ends()?;
    change(get(first).zip(get(last)))
}

fn time(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "times of samples are within the range of milliseconds"
    )]
    let ms = (seconds * 1000.0).round() as i64;
    stamp(ms)
}

impl<'a> Judge<'a> {
    /// The newest process that is asked for, with all that speaks for its verdict.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn newest(&self) -> anyhow::Result<LeakData> {
        let taken = self.taken;
        let wanted = (taken.processes.iter()).filter(|one| taken.wants(&one.who));
        let newest = wanted.max_by(|a, b| {
            let by_time = a.last_s.total_cmp(&b.last_s);
            by_time.then(a.first_s.total_cmp(&b.first_s))
        });
        let Some(subject) = newest else {
            let error = anyhow::anyhow!("no process to judge");
            return Err(diag::hint(
                error,
                "`aiops inspect processes` shows who is there",
            ));
        };
        let all: Vec<&Subject> = taken.processes.iter().collect();
        let case = Case {
            subject,
            earlier: subjects::earlier(&all, subject),
        };
        let (mut data, growth) = self.judged(&case);
        let held = Held {
            data: &mut data,
            growth,
            subject,
            earlier: &case.earlier,
        };
        leak_past::revise(taken, std::iter::once(held));
        let beside = subjects::siblings(&all, subject);
        let mut siblings = Siblings {
            count: beside.len(),
            ..Siblings::default()
        };
        for one in beside.iter().take(MOST_SIBLINGS) {
            match leak::assess(&one.series(), None).class {
                Class::Leak => siblings.leaking += 1,
                Class::NoLeak => siblings.not_leaking += 1,
                Class::Ambiguous => {}
            }
        }
        if subject.at_end && ["history", "live"].contains(&taken.source) {
            learn_runtime(&mut data, subject);
            learn_open(&mut data, subject);
        }
        tell(&mut data, Some(siblings));
        data.notes.splice(0..0, taken.notes.iter().cloned());
        let before = taken.former.iter().chain(&taken.processes);
        let other = before
            .filter(|one| one.who.pid == subject.who.pid && one.last_s < subject.first_s)
            .filter(|one| !subjects::alike(one, subject))
            .max_by(|a, b| a.last_s.total_cmp(&b.last_s));
        if let Some(other) = other {
            let (comm, until) = (name(other), time(other.last_s));
            let pid = other.who.pid;
            data.notes.push(msg!(
                "process id {pid} was {comm} until {until}: that is another program, and is not judged",
                "进程号 {pid} 在 {until} 之前属于 {comm}：那是另一个程序，不参与判断"
            ));
        }
        Ok(data)
    }

    /// Everyone who is asked for, ranked.
    pub(super) fn every(&self, top: usize) -> LeaksData {
        let taken = self.taken;
        let (cases, too_brief) = self.cases();
        // Those that are gone are nobody's any more, unless they are asked for.
        let named = !taken.filter.cgroups.is_empty();
        let there = (taken.cgroups.iter()).filter(|one| named || one.at_end);
        let groups = there.map(|subject| Case {
            subject,
            earlier: Vec::new(),
        });
        // A cgroup that was made anew has the samples of its last life alone.
        let mut newest: HashMap<Option<&String>, Case<'_>> = HashMap::new();
        for group in groups {
            let path = group.subject.who.cgroup.as_ref();
            let kept = newest.get(&path);
            if kept.is_none_or(|kept| kept.subject.last_s <= group.subject.last_s) {
                newest.insert(path, group);
            }
        }
        let mut groups: Vec<Case<'_>> = newest.into_values().collect();
        groups.sort_by(|a, b| a.subject.who.cgroup.cmp(&b.subject.who.cgroup));
        let count = cases.len();
        let all: Vec<&Case<'_>> = cases.iter().chain(&groups).collect();
        let (mut judged, growths): (Vec<LeakData>, Vec<Option<Growth>>) =
            self.all(&all).into_iter().unzip();
        let mut cgroups = judged.split_off(count);
        let held = judged.iter_mut().zip(growths).zip(&cases);
        let held = held.map(|((data, growth), case)| Held {
            data,
            growth,
            subject: case.subject,
            earlier: &case.earlier,
        });
        leak_past::revise(taken, held);
        let mut siblings: Vec<Option<Siblings>> = Vec::new();
        let heads: Vec<&Subject> = cases.iter().map(|case| case.subject).collect();
        let places: HashMap<*const Subject, usize> = (heads.iter().enumerate())
            .map(|(at, one)| (std::ptr::from_ref::<Subject>(one), at))
            .collect();
        let mut programs: HashMap<_, Vec<&Subject>> = HashMap::new();
        for head in &heads {
            programs.entry(program(head)).or_default().push(head);
        }
        for head in &heads {
            let beside = programs.get(&program(head)).map_or(&[][..], Vec::as_slice);
            let beside = subjects::siblings(beside, head);
            let verdicts = beside.iter().filter_map(|one| {
                let at = places.get(&std::ptr::from_ref::<Subject>(one))?;
                Some(judged.get(*at)?.verdict)
            });
            let verdicts: Vec<&str> = verdicts.collect();
            let of = |verdict: &str| verdicts.iter().filter(|one| **one == verdict).count();
            siblings.push(Some(Siblings {
                count: beside.len(),
                leaking: of("leak"),
                not_leaking: of("no-leak"),
            }));
        }
        for (data, siblings) in judged.iter_mut().zip(siblings) {
            tell(data, siblings);
        }
        for data in &mut cgroups {
            tell(data, None);
        }
        leak_shared::compete_all(&mut judged);
        let mut data = ranked(judged, cgroups, taken, top);
        data.too_brief = too_brief;
        data
    }

    /// Who is judged: the last life of each program that is asked for, and how many were there too briefly.
    fn cases(&self) -> (Vec<Case<'a>>, usize) {
        let taken = self.taken;
        let mut programs: HashMap<_, Vec<&Subject>> = HashMap::new();
        for subject in &taken.processes {
            let comm = subject.who.comm.as_deref();
            programs.entry(comm).or_default().push(subject);
        }
        let mut order: Vec<&Subject> = taken.processes.iter().collect();
        order.sort_by(|a, b| {
            b.last_s
                .total_cmp(&a.last_s)
                .then(b.first_s.total_cmp(&a.first_s))
        });
        let mut former: std::collections::HashSet<*const Subject> = Default::default();
        let (mut cases, mut too_brief) = (Vec::new(), 0);
        for subject in order {
            if former.contains(&std::ptr::from_ref(subject)) || !taken.wants(&subject.who) {
                continue;
            }
            let named = !taken.filter.is_empty() || taken.source == "recording";
            let starting = !named && subject.is_starting();
            if starting || (subject.samples < FEWEST && !subject.at_end) {
                too_brief += 1;
                continue;
            }
            let alike = programs.get(&subject.who.comm.as_deref());
            let alike = alike.map_or(&[][..], Vec::as_slice);
            let earlier = subjects::earlier(alike, subject);
            former.extend(earlier.iter().map(|one| std::ptr::from_ref::<Subject>(one)));
            cases.push(Case { subject, earlier });
        }
        (cases, too_brief)
    }

    /// The verdicts on many, in their order, on every CPU.
    fn all(&self, cases: &[&Case<'_>]) -> Vec<(LeakData, Option<Growth>)> {
        let next = AtomicUsize::new(0);
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(case) = cases.get(at) else {
                    return done;
                };
                done.push((at, self.judged(case)));
            }
        };
        let mut judged: Vec<(usize, (LeakData, Option<Growth>))> = thread::scope(|scope| {
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                done.extend(other.join().unwrap_or_default());
            }
            done
        });
        judged.sort_by_key(|(at, _)| *at);
        judged.into_iter().map(|(_, data)| data).collect()
    }

    /// What a process dies at that holds so much, KiB: bytes, who says so, and the path of the cgroup that does.
    fn limit_of(&self, subject: &Subject, held: u64) -> Option<Dies> {
        if let Some(bytes) = self.limit {
            return Some((bytes, "option", None));
        }
        if let Some(here) = &self.taken.here {
            let (who, bytes) = (&subject.who, held.saturating_mul(1024));
            let nearest = match (who.pid, &who.cgroup) {
                (0, Some(path)) => here.cgroup_dies_at(path, bytes),
                _ => here.dies_at((who.pid, who.start_ticks), bytes),
            };
            if let Some((bytes, limit)) = nearest {
                return Some((bytes, limit.source(), limit.path().map(str::to_owned)));
            }
        }
        let room = self.taken.available_kb?;
        Some((room.saturating_add(held).saturating_mul(1024), "host", None))
    }

    /// One verdict, without its past and its siblings, and the growth of a leak.
    fn judged(&self, case: &Case<'_>) -> (LeakData, Option<Growth>) {
        let (taken, subject) = (self.taken, case.subject);
        let own = subject.series();
        let lives: Vec<_> = case
            .earlier
            .iter()
            .map(|one| (*one, one.series()))
            .collect();
        let held = subject.judged_kb().map(|(_, last)| last);
        let mut limit = held.and_then(|held| self.limit_of(subject, held));
        let most = limit.as_ref().map(|(bytes, ..)| *bytes as f64);
        let mut series = subjects::joined(&case.earlier, subject);
        let mut found = leak::assess(&series, most);
        // A leak of all lives together is one of each alone, as far as they were long enough to tell.
        let alone = found.class == Class::Leak
            && found.from_all_lives
            && contradicted(lives.iter().map(|(_, series)| series));
        if alone {
            series.clone_from(&own);
            found = leak::assess(&series, most);
        }
        let mut fills = false;
        let mut measured = (subject.measure.id(), change(subject.sizes_kb()));
        if found.class != Class::Leak
            && let Some(shared) = leak_evidence::shared_memory(&subject.figures, subject.started_s)
        {
            let ends = (shared.first_kb, shared.last_kb);
            let dies_at = self.limit_of(subject, ends.1);
            let most = dies_at.as_ref().map(|(bytes, ..)| *bytes as f64);
            let judged = leak::assess(&shared.series, most);
            if judged.class == Class::Leak {
                (series, found, limit) = (shared.series, judged, dies_at);
                measured = ("shmem", change(Some(ends)));
                fills = shared.fills;
            }
        }
        let (of, limit_cgroup) = limit
            .map(|(bytes, source, path)| ((bytes, source), path))
            .unzip();
        let mut data = leak_report::data(&series, &found, of);
        if fills {
            leak_report::undecide(&mut data);
        }
        let who = &subject.who;
        data.process = LeakProcess {
            pid: (who.pid > 0).then_some(who.pid),
            comm: who.comm.clone(),
            runtime: leak_report::runtime_name(who.comm.as_deref(), who.exe.as_deref(), &[]),
            start: (who.pid > 0).then(|| time(subject.started_s)),
            age_s: (who.pid > 0).then(|| subject.age_s()),
            alive: Some(subject.at_end),
            exe: who.exe.clone(),
            cmdline: who.cmdline.clone(),
            user: who.user.clone(),
            // It may have been moved since it was first seen.
            cgroup: (taken.here.as_ref())
                .filter(|_| subject.at_end)
                .and_then(|here| here.cgroup((who.pid, who.start_ticks)))
                .or_else(|| who.cgroup.clone()),
            container: who.container.clone(),
            input: None,
        };
        // Who has ended meets no limit any more.
        data.oom = data.oom.filter(|_| subject.at_end);
        if let Some(oom) = &mut data.oom {
            oom.limit_cgroup = limit_cgroup.flatten();
        }
        data.window.source = Some(taken.source);
        (data.measure, data.judged) = (Some(measured.0), measured.1);
        data.rss = at_ends(subject, |one| one.rss_kb).unwrap_or_default();
        data.vms = at_ends(subject, |one| one.vms_kb);
        data.available_kb = taken.available_kb;
        let (components, main) = leak_evidence::components(&subject.figures);
        data.components = Some(components);
        let life = |subject: &Subject, series| Life {
            pid: subject.who.pid,
            started_s: subject.started_s,
            series,
        };
        let earlier: Vec<Life<'_>> = (lives.iter())
            .map(|(subject, series)| Life {
                pid: subject.who.pid,
                started_s: subject.started_s,
                series,
            })
            .collect();
        let (earlier_lives, same_age) = leak_evidence::lives(&life(subject, &own), &earlier);
        data.evidence = Some(Evidence {
            earlier_lives,
            same_age,
            past: None,
            siblings: None,
            main_component: main,
            threads: leak_evidence::count(&subject.figures, |one| one.threads),
            fds: leak_evidence::count(&subject.figures, |one| one.fds),
            sockets: leak_evidence::count(&subject.figures, |one| one.sockets),
            open_now: None,
            cpu: leak_evidence::cpu(&subject.figures, found.class != Class::NoLeak),
            rss_falls_into_swap: leak_evidence::falls_into_swap(&subject.figures),
            lines: Vec::new(),
        });
        if alone {
            data.notes.push(msg!(
                "earlier lives of this program did not all leak: this one is judged alone",
                "该程序此前的运行并非都泄漏：仅判断本次运行"
            ));
        }
        data.notes.extend(self.notes(subject, &data));
        let end = series.time_s.last();
        let growth = end.and_then(|end| Growth::of(&found, &data, *end));
        (data, growth)
    }

    /// What to know about the samples of a process.
    fn notes(&self, subject: &Subject, data: &LeakData) -> Vec<Msg> {
        let mut notes = Vec::new();
        if !subject.at_end {
            let last = time(subject.last_s);
            notes.push(msg!(
                "it is not there any more: its last sample is of {last}",
                "该进程已不存在：最后一次采样在 {last}"
            ));
        }
        let stride = subject.stride();
        if stride > 1 {
            let samples = subject.samples;
            notes.push(msg!(
                "{samples} samples: every {stride}th one is judged",
                "共 {samples} 个样本：每 {stride} 个取一个"
            ));
        }
        if self.taken.source == "live" {
            let window = units::span((subject.last_s - subject.first_s).round());
            notes.push(match data.detection_limit_mib_per_hour {
                Some(limit) if limit > 0.0 => msg!(
                    "a window of {window} shows leaks of {limit:.0} MiB/h and more; a slower one, and a warm-up that takes longer than the window, need history: `aiops monitor memory`",
                    "{window} 的窗口只能发现 {limit:.0} MiB/h 以上的泄漏；更慢的泄漏以及长于窗口的预热需要历史数据：`aiops monitor memory`"
                ),
                _ => msg!(
                    "a window of {window} cannot tell a slow leak, nor a warm-up that takes longer, from memory that stays level: that needs history, `aiops monitor memory`",
                    "{window} 的窗口无法识别缓慢泄漏或长于窗口的预热，需要历史数据：`aiops monitor memory`"
                ),
            });
        }
        notes
    }
}

/// Tells the runtime by the libraries of a process that still runs here.
fn learn_runtime(data: &mut LeakData, subject: &Subject) {
    let who = &subject.who;
    let Ok((start_ticks, libraries)) = source::procfs::read_libraries(Path::new("/"), who.pid)
    else {
        return;
    };
    if start_ticks == who.start_ticks {
        let mapped: Vec<&str> = libraries.iter().map(String::as_str).collect();
        data.process.runtime =
            leak_report::runtime_name(who.comm.as_deref(), who.exe.as_deref(), &mapped);
    }
}

/// What a process that still runs here has open.
fn learn_open(data: &mut LeakData, subject: &Subject) {
    let who = &subject.who;
    let found = source::procfs::read_handles(Path::new("/"), who.pid, who.start_ticks);
    if let (Ok(found), Some(evidence)) = (found, &mut data.evidence) {
        evidence.open_now = Some(OpenNow {
            fds: found.fds,
            sockets: found.sockets,
            heap_kb: found.heap_kb,
        });
    }
}

/// What siblings are found by.
fn program(subject: &Subject) -> (Option<&str>, Option<&str>) {
    (subject.who.comm.as_deref(), subject.who.exe.as_deref())
}

fn name(subject: &Subject) -> &str {
    subject.who.comm.as_deref().unwrap_or("?")
}

/// Puts siblings and the words into the evidence.
fn tell(data: &mut LeakData, siblings: Option<Siblings>) {
    let components = data.components.unwrap_or_default();
    if let Some(evidence) = &mut data.evidence {
        evidence.siblings = siblings.filter(|siblings| siblings.count > 0);
        evidence.lines = leak_evidence::lines(evidence, &components, data.verdict);
    }
}

/// Findings of one process; where there is none, what else speaks for the verdict is a note.
pub(super) fn findings(data: &LeakData) -> Vec<Finding> {
    let mut findings = leak_report::findings(data);
    let lines = data
        .evidence
        .as_ref()
        .map(|evidence| evidence.lines.clone());
    if let Some(finding) = findings.first_mut() {
        finding.evidence.extend(lines.unwrap_or_default());
    }
    findings
}

/// Findings of a list: its leaks, the worst first. Who has ended needs no advice.
pub(super) fn findings_of_all(data: &LeaksData) -> Vec<Finding> {
    let leaking = |one: &&LeakData| one.verdict == "leak" && one.process.alive != Some(false);
    let all = data.processes.iter().chain(&data.cgroups).filter(leaking);
    let mut findings: Vec<Finding> = Vec::new();
    for leak in all.take(MOST_FINDINGS) {
        let who = called(&leak.process);
        for mut finding in self::findings(leak) {
            if is_young(leak) {
                finding.severity = finding.severity.min(Severity::Warning);
                finding.evidence.push(msg!(
                    "it is younger than ten minutes: whatever starts, grows",
                    "进程启动不足十分钟：启动阶段的增长很常见"
                ));
            }
            // How to find the code is said where one process is asked for.
            finding.advice = leak_report::next(&leak.process);
            let title = finding.title;
            finding.title = Msg::new(
                format!("{who}: {}", title.en),
                format!("{who}：{}", title.zh),
            );
            findings.push(finding);
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// What a process, a cgroup or a file is called.
fn called(process: &LeakProcess) -> String {
    match (process, &process.comm) {
        (LeakProcess { pid: Some(pid), .. }, Some(comm)) => format!("{comm} ({pid})"),
        (LeakProcess { pid: Some(pid), .. }, None) => format!("({pid})"),
        (
            LeakProcess {
                input: Some(file), ..
            },
            _,
        ) => file.clone(),
        _ => process.cgroup.clone().unwrap_or_default(),
    }
}

/// A list in its order: leaks, what cannot be told, and the rest; the fastest or likeliest first.
pub(super) fn ranked(
    mut processes: Vec<LeakData>,
    mut cgroups: Vec<LeakData>,
    taken: &Taken,
    top: usize,
) -> LeaksData {
    let order = |list: &mut Vec<LeakData>| {
        list.sort_by(|a, b| {
            let by_class = class(a).cmp(&class(b));
            let by_rate = rate(b).total_cmp(&rate(a));
            let by_chance = b.leak_probability.total_cmp(&a.leak_probability);
            let by_size = b.rss.last_kb.cmp(&a.rss.last_kb);
            let by_rate = if a.verdict == "leak" {
                by_rate
            } else {
                by_chance
            };
            // Who has ended cannot be helped any more.
            let ended = |data: &LeakData| data.process.alive == Some(false);
            let by_life = ended(a).cmp(&ended(b));
            let by_age = is_young(a).cmp(&is_young(b));
            by_class
                .then(by_life)
                .then(by_age)
                .then(by_rate)
                .then(by_size)
        });
        for data in list.iter_mut().filter(|data| data.verdict == "no-leak") {
            data.series = Vec::new();
            data.fitted = Vec::new();
        }
    };
    order(&mut processes);
    order(&mut cgroups);
    let count = |verdict: &str| {
        processes
            .iter()
            .filter(|one| one.verdict == verdict)
            .count()
    };
    let first = taken.processes.iter().map(|one| one.first_s);
    let last = taken.processes.iter().map(|one| one.last_s);
    let (first, last) = (first.reduce(f64::min), last.reduce(f64::max));
    LeaksData {
        source: taken.source,
        start: first.map(time),
        end: last.map(time),
        ticks: taken.ticks,
        verdicts: Verdicts {
            leak: count("leak"),
            no_leak: count("no-leak"),
            inconclusive: count("inconclusive"),
        },
        too_brief: 0,
        processes,
        cgroups,
        notes: taken.notes.clone(),
        top,
    }
}

fn is_young(data: &LeakData) -> bool {
    data.process.age_s.is_some_and(|age| age < YOUNG_S)
}

fn class(data: &LeakData) -> u8 {
    match data.verdict {
        "leak" => 0,
        "inconclusive" => 1,
        _ => 2,
    }
}

fn rate(data: &LeakData) -> f64 {
    data.rate_mib_per_hour.unwrap_or(0.0)
}

/// Whether a third or more of the earlier lives that can be told did not leak.
fn contradicted<'a>(lives: impl Iterator<Item = &'a Series>) -> bool {
    let (mut leaks, mut others) = (0, 0);
    for series in lives {
        match leak::assess(series, None).class {
            Class::Leak => leaks += 1,
            Class::NoLeak => others += 1,
            Class::Ambiguous => {}
        }
    }
    others > 0 && 2 * others >= leaks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_that_stayed_level_contradict_a_leak_of_all() {
        let life = |rate: f64| Series {
            time_s: (0..200).map(|i| f64::from(i) * 60.0).collect(),
            bytes: (0..200_u32)
                .map(|i| 1e8 + rate * f64::from(i) + f64::from(i * 7919 % 13) * 4096.0)
                .collect(),
            ..Series::default()
        };
        let (leak, level) = (life(5e5), life(0.0));
        assert!(!contradicted([&leak, &leak, &leak].into_iter()));
        assert!(!contradicted([&leak, &leak, &leak, &level].into_iter()));
        assert!(contradicted([&leak, &leak, &level].into_iter()));
        assert!(contradicted([&level].into_iter()));
        // Too short to tell: they contradict nothing.
        let short = Series {
            time_s: vec![0.0, 60.0],
            bytes: vec![1e8, 1e8],
            ..Series::default()
        };
        assert!(!contradicted([&short].into_iter()));
    }
}
