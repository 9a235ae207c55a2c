//! What else moved at the time of an anomaly: who took the memory, who gave it back.

use super::gather::Process;
use super::host::Bare;
use super::host::Watched;
use super::host::subject;
use super::median;
use crate::report::anomaly::Moved;

/// Things that moved at the same time, at most.
const MOVED: usize = 5;
/// What moved by less is left out, KiB, or by less than this share of the anomaly.
const MOVED_KB: f64 = 4096.0;
const MOVED_SHARE: f64 = 0.1;

/// What else moved around an anomaly.
pub(super) fn moved(one: &Bare, watched: &[Watched], processes: &[Process]) -> Vec<Moved> {
    // An outlier is one of all the time, and not of a moment.
    if one.anomaly.kind == "outlier-process" {
        return Vec::new();
    }
    let begin = processes.iter().map(|one| one.span_s.0);
    let end = processes.iter().map(|one| one.span_s.1);
    let history = (
        begin.fold(f64::INFINITY, f64::min),
        end.fold(f64::NEG_INFINITY, f64::max),
    );
    let least = match one.anomaly.unit {
        "kb" => MOVED_KB.max(MOVED_SHARE * one.anomaly.value.abs()),
        _ => MOVED_KB * 4.0,
    };
    let courses = watched.iter().filter(|other| {
        other.subject != one.anomaly.subject && other.subject.what.starts_with("system")
    });
    let of_host = courses.filter_map(|other| {
        let (change_kb, sigmas) = other
            .course
            .change(other.course.even.place(one.around_s)?)?;
        Some(Moved {
            subject: other.subject.clone(),
            change_kb,
            size_sigmas: Some(sigmas),
            status: "moved",
        })
    });
    let of_processes = processes
        .iter()
        .filter(|process| one.anomaly.subject.pid != Some(process.pid))
        // Of a cgroup it is its own processes that tell why.
        .filter(|process| {
            let group = one.anomaly.subject.cgroup.as_deref();
            group.is_none_or(|group| {
                process
                    .cgroup
                    .as_deref()
                    .is_some_and(|path| below(path, group))
            })
        })
        .filter_map(|process| {
            let (change_kb, status) = change(process, one.around_s, one.window_s, history)?;
            let same = |other: &&Watched| {
                other.subject.pid == Some(process.pid) && other.subject.start == Some(process.start)
            };
            let course = watched.iter().find(same).map(|other| &other.course);
            let sigmas = course.and_then(|course| course.change(course.even.place(one.around_s)?));
            Some(Moved {
                subject: subject(process),
                change_kb,
                size_sigmas: sigmas
                    .map(|(_, sigmas)| sigmas)
                    .filter(|_| status == "moved"),
                status,
            })
        });
    let mut all: Vec<Moved> = of_host.chain(of_processes).collect();
    all.retain(|other| other.change_kb.abs() >= least);
    all.sort_by(|a, b| b.change_kb.abs().total_cmp(&a.change_kb.abs()));
    all.truncate(MOVED);
    all
}

/// Whether a cgroup is this one or below it.
fn below(path: &str, group: &str) -> bool {
    let rest = path.strip_prefix(group.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How much a process changed from the window before a moment to the one after.
fn change(
    process: &Process,
    at_s: f64,
    window_s: f64,
    history: (f64, f64),
) -> Option<(f64, &'static str)> {
    let rss = &process.rss;
    let inside = |from_s: f64, to_s: f64| {
        let values = (0..rss.values.len()).filter(|&at| {
            let time = rss.time(at);
            rss.known[at] && time >= from_s && time < to_s
        });
        let values: Vec<f64> = values.map(|at| rss.values[at]).collect();
        (!values.is_empty()).then(|| median(&values))
    };
    match (inside(at_s - window_s, at_s), inside(at_s, at_s + window_s)) {
        (Some(before), Some(after)) => Some((after - before, "moved")),
        // Not because the history begins or ends there.
        (None, Some(after)) if process.span_s.0 > history.0 => Some((after, "started")),
        (Some(before), None) if process.span_s.1 < history.1 => Some((-before, "ended")),
        _ => None,
    }
}
