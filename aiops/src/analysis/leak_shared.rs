//! Leaks that eat from the same memory: a limit that several of them stand under is met sooner than one alone would
//! meet it. Pure functions over verdicts; `detect oom-risk` runs such leaks forward with kills between.

use super::leak_report::TEN_YEARS_S;
use super::leak_report::stamp;
use crate::report::leak::Competitor;
use crate::report::leak::LeakData;
use crate::report::leak::Oom;

const HOUR: f64 = 3600.0;
/// Whoever is younger than this, seconds, is starting, and does not count among others.
const STARTING_S: f64 = 60.0;

/// Whether the memory of `who` counts towards the limit that `oom` is about.
fn under(oom: &Oom, who: &LeakData) -> bool {
    match (&oom.limit_cgroup, &who.process.cgroup) {
        (None, _) => oom.limit_source == "host",
        (Some(limit), Some(path)) => {
            let rest = path.strip_prefix(limit.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        (Some(_), None) => false,
    }
}

fn leaks(who: &LeakData) -> Option<Competitor> {
    let rate = who.rate_mib_per_hour.filter(|rate| *rate > 0.0)?;
    let alive = who.verdict == "leak" && who.process.alive == Some(true);
    let old = who.process.age_s.is_some_and(|age| age >= STARTING_S);
    (alive && old).then(|| Competitor {
        pid: who.process.pid,
        comm: who.process.comm.clone(),
        rate_mib_per_hour: rate,
    })
}

/// Brings the time of the OOM forward by what others under the same limit take.
pub fn compete<'a>(data: &mut LeakData, all: impl Iterator<Item = &'a LeakData>) {
    let (Some(rate), Some(mut oom)) = (data.rate_mib_per_hour, data.oom.take()) else {
        return;
    };
    let own = (data.process.pid, data.process.start.clone());
    let others = all.filter(|one| (one.process.pid, one.process.start.clone()) != own);
    let mut competing: Vec<Competitor> = others
        .filter(|one| under(&oom, one))
        .filter_map(leaks)
        .collect();
    competing.sort_by(|a, b| b.rate_mib_per_hour.total_cmp(&a.rate_mib_per_hour));
    let total = rate
        + competing
            .iter()
            .map(|one| one.rate_mib_per_hour)
            .sum::<f64>();
    if rate > 0.0 && !competing.is_empty() {
        let share = rate / total;
        oom.hours *= share;
        oom.interval = (
            oom.interval.0 * share,
            oom.interval.1.map(|latest| latest * share),
        );
        let after = oom.hours * HOUR;
        let end = data
            .series
            .last()
            .map(|last| last.ts)
            .filter(|_| after < TEN_YEARS_S);
        oom.at = end.and_then(|end| stamp(end + after));
        oom.total_rate_mib_per_hour = Some(total);
        oom.competing = competing;
    }
    data.oom = Some(oom);
}

/// Of a list, each with all the others.
pub fn compete_all(list: &mut [LeakData]) {
    let known: Vec<LeakData> = list
        .iter()
        .filter(|one| leaks(one).is_some())
        .cloned()
        .collect();
    if known.len() > 1 {
        list.iter_mut().for_each(|one| compete(one, known.iter()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::leak::LeakProcess;
    use crate::report::leak::Point;

    fn leak(pid: u32, cgroup: &str, rate: f64) -> LeakData {
        let mut data = crate::analysis::leak_report::data(
            &crate::analysis::leak::Series::default(),
            &crate::analysis::leak::assess(&Default::default(), None),
            None,
        );
        data.verdict = "leak";
        data.rate_mib_per_hour = Some(rate);
        data.series = vec![Point { ts: 1.7e9, kb: 1.0 }];
        data.process = LeakProcess {
            pid: Some(pid),
            cgroup: Some(cgroup.to_owned()),
            alive: Some(true),
            age_s: Some(3600.0),
            ..LeakProcess::default()
        };
        data.oom = Some(Oom {
            hours: 10.0,
            interval: (8.0, Some(12.0)),
            limit_source: "cgroup",
            limit_cgroup: Some("/shop".to_owned()),
            ..Oom::default()
        });
        data
    }

    #[test]
    fn leaks_below_one_limit_meet_it_together() {
        let mut one = leak(1, "/shop/web", 10.0);
        let starting = LeakData {
            process: LeakProcess {
                age_s: Some(5.0),
                ..leak(5, "/shop", 900.0).process
            },
            ..leak(5, "/shop", 900.0)
        };
        let others = [
            one.clone(),
            leak(2, "/shop", 30.0),
            leak(3, "/shopping", 90.0),
            starting,
        ];
        compete(&mut one, others.iter());
        let oom = one.oom.expect("a limit");
        assert_eq!((oom.hours, oom.interval), (2.5, (2.0, Some(3.0))));
        assert_eq!(oom.total_rate_mib_per_hour, Some(40.0));
        assert_eq!(oom.competing.len(), 1);
        assert!(oom.at.is_some());
    }

    #[test]
    fn one_alone_keeps_its_time() {
        let mut one = leak(1, "/shop/web", 10.0);
        let others = [leak(3, "/bank", 90.0)];
        compete(&mut one, others.iter());
        let oom = one.oom.expect("a limit");
        assert_eq!((oom.hours, oom.total_rate_mib_per_hour), (10.0, None));
    }
}
