//! What the daemon stores beside figures: OOM incidents, kills that were only counted, its own start, stop and gaps.

use std::collections::VecDeque;

use crate::model::ClockPair;
use crate::render;
use crate::render::Lang;
use crate::report::oom::Incident;
use crate::store::Event;
use crate::store::Recorder;
use crate::store::StoreError;
use crate::time;

fn ms(clock: &ClockPair) -> i64 {
    clock.real_ns.div_euclid(1_000_000)
}

/// Stores what waits, the oldest first, until the store takes none; how many it can never take, which are gone, and
/// what was wrong the last time.
pub(super) fn store(
    waiting: &mut VecDeque<Event>,
    recorder: &mut Recorder,
) -> (u64, Option<StoreError>) {
    let (mut lost, mut wrong) = (0, None);
    while let Some(event) = waiting.front() {
        match recorder.event(event) {
            Ok(pushed) => wrong = pushed.unsynced.or(wrong),
            Err(error) if error.is_too_large() => {
                lost += 1;
                wrong = Some(error);
            }
            Err(error) => return (lost, Some(error)),
        }
        waiting.pop_front();
    }
    (lost, wrong)
}

/// An OOM incident; its body is the record that `trace oom -o jsonl` prints.
pub(super) fn oom(incident: &Incident, clock: &ClockPair) -> Event {
    let at = incident.at.as_deref().and_then(time::from_rfc3339);
    let killed = incident.outcome == "killed";
    let kill = incident.kills.first();
    let who = kill.map_or_else(String::new, |kill| {
        let comm = &kill.comm;
        format!("{comm} ({})", kill.pid)
    });
    let whose = match (&incident.oom_memcg, incident.scope.as_deref()) {
        (Some(path), Some("memcg")) => format!("the limit of {path} was met"),
        (_, Some("global")) => "the host was out of memory".to_owned(),
        (_, Some("cpuset")) => "the nodes of a cpuset were out of memory".to_owned(),
        _ => "memory ran out".to_owned(),
    };
    let title = match (killed, incident.kills.len()) {
        (true, 0 | 1) => format!("{who} was killed: {whose}"),
        (true, more) => format!("{who} and {} more were killed: {whose}", more - 1),
        (false, _) => format!("OOM without a kill ({}): {whose}", incident.outcome),
    };
    let body = render::incident_line(incident, Lang::En).unwrap_or_default();
    Event {
        ts_ms: at.map_or_else(|| ms(clock), |ns| ns.div_euclid(1_000_000)),
        kind: "oom".to_owned(),
        id: incident.id.clone(),
        severity: if killed { "critical" } else { "warning" }.to_owned(),
        title,
        pid: kill.map(|kill| kill.pid),
        cgroup: incident
            .oom_memcg
            .clone()
            .or_else(|| incident.task_memcg.clone()),
        body: body.trim_end().to_owned(),
    }
}

/// Kills that the kernel counted and no hook told of.
pub(super) fn counted(kills: u64, since: &ClockPair, clock: &ClockPair) -> Event {
    let seconds = clock.mono_ns.saturating_sub(since.mono_ns) as f64 / 1e9;
    let title = format!(
        "{kills} OOM {} within {}",
        if kills == 1 { "kill" } else { "kills" },
        render::units::span(seconds)
    );
    finding(
        "oom-kills-counted",
        "critical",
        &title,
        clock,
        &serde_json::json!({
            "id": "oom-kills-counted",
            "severity": "critical",
            "title": title,
            "evidence": [format!("vmstat oom_kill rose by {kills}")],
            "advice": ["the kernel log says who it was: journalctl -k | grep -i oom", "hooks tell more: run the daemon as root, without --no-bpf"],
        }),
    )
}

fn finding(
    id: &str,
    severity: &str,
    title: &str,
    clock: &ClockPair,
    body: &serde_json::Value,
) -> Event {
    Event {
        ts_ms: ms(clock),
        kind: "finding".to_owned(),
        id: id.to_owned(),
        severity: severity.to_owned(),
        title: title.to_owned(),
        body: body.to_string(),
        ..Event::default()
    }
}

/// What the daemon did: `start`, `stop`, `gap`.
pub(super) fn own(id: &str, title: &str, clock: &ClockPair, body: &serde_json::Value) -> Event {
    Event {
        kind: "monitor".to_owned(),
        ..finding(
            id,
            if id == "gap" { "warning" } else { "info" },
            title,
            clock,
            body,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Host;
    use crate::report::oom::Kill;
    use crate::store::Entry;
    use crate::store::Store;
    use crate::store::Tick;
    use crate::testing::Folder;

    #[test]
    fn an_event_that_is_too_large_keeps_no_other_one_waiting() {
        let folder = Folder::new("events");
        let made = Store::at(&folder.file("store")).with_tails(&folder.file("tails"));
        let mut recorder = Recorder::open(made.clone(), Host::default()).unwrap();
        let clock = ClockPair {
            real_ns: 1_795_399_200_123_000_000,
            ..ClockPair::default()
        };
        let event = |body: String| Event {
            body,
            ..own("start", "", &clock, &serde_json::Value::Null)
        };
        let large = "x".repeat(33 << 20);
        let mut waiting = VecDeque::from([event(large), event("small".to_owned())]);
        let (lost, error) = store(&mut waiting, &mut recorder);
        assert_eq!((lost, waiting.len()), (0, 2), "there is no log yet");
        assert!(error.is_some());
        let tick = Tick {
            clock,
            ..Tick::default()
        };
        recorder.push(&tick, false).unwrap();
        let (lost, error) = store(&mut waiting, &mut recorder);
        assert_eq!((lost, waiting.len()), (1, 0));
        assert!(error.is_some_and(|error| error.is_too_large()));
        recorder.close().unwrap();
        let mut bodies = Vec::new();
        let damages = made.fresh(|entry| {
            if let Entry::Event(event) = entry {
                bodies.push(event.body);
            }
        });
        assert_eq!(
            (damages.unwrap(), bodies),
            (Vec::new(), vec!["small".to_owned()])
        );
    }

    #[test]
    fn an_incident_is_an_event_with_its_whole_report() {
        let incident = Incident {
            id: "x-1-7".to_owned(),
            at: Some("2026-11-23T10:00:00.123+08:00".to_owned()),
            outcome: "killed",
            scope: Some("memcg".to_owned()),
            oom_memcg: Some("/db".to_owned()),
            kills: vec![Kill {
                pid: 7,
                comm: "postgres".to_owned(),
                ..Kill::default()
            }],
            ..Incident::default()
        };
        let event = oom(&incident, &ClockPair::default());
        assert_eq!(
            event.title,
            "postgres (7) was killed: the limit of /db was met"
        );
        assert_eq!((event.pid, event.cgroup.as_deref()), (Some(7), Some("/db")));
        assert_eq!(event.ts_ms, 1_795_399_200_123);
        let body: serde_json::Value = serde_json::from_str(&event.body).unwrap();
        assert_eq!(body["kills"][0]["pid"], 7);
    }
}
