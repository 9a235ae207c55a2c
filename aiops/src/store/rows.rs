//! Rows of a segment, made of ticks.
//!
//! The host has a row for every tick, so its column of times says when every sample was taken. Processes
//! and cgroups have run-length rows: `ts` of the first sample, `n` samples on consecutive ticks that are all
//! alike. Averages weighted by `n` are exact in any engine, and with the host's times the edges of a range are
//! exact to the sample. A run ends with the hour (UTC), at the latest.

use std::collections::HashMap;

use super::event::Event;
use super::rollup;
use super::table::Column;
use super::table::Values;
use super::tick::PROCESS_FIELDS;
use super::tick::Tick;
use super::tick::kept;
use crate::model::CgroupMetrics;
use crate::model::Host;
use crate::model::Identity;
use crate::model::Metric;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::SystemMetrics;

/// Milliseconds of an hour.
pub(super) const HOUR_MS: i64 = 3_600_000;

pub(super) type Key = (u32, u64);
type Figures = Vec<Option<u64>>;

/// What else a row of a process says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    ppid: u32,
    pub(super) comm: RawText,
    uid: Option<u32>,
    oom_score_adj: Option<i32>,
}

impl Head {
    /// Of which only the name is known.
    pub(super) fn named(comm: &str) -> Self {
        Self {
            comm: comm.into(),
            ..Self::default()
        }
    }
}

/// Consecutive samples that are alike.
#[derive(Clone, Debug)]
pub(super) struct Run<H> {
    pub(super) ts: i64,
    pub(super) n: i64,
    /// The tick of its last sample.
    pub(super) last: usize,
    pub(super) head: H,
    pub(super) figures: Figures,
}

impl<H: PartialEq> Run<H> {
    fn goes_on(&self, tick: usize, ts: i64, head: &H, figures: &Figures) -> bool {
        self.last + 1 == tick
            && self.ts.div_euclid(HOUR_MS) == ts.div_euclid(HOUR_MS)
            && self.head == *head
            && self.figures == *figures
    }
}

/// Runs by what they are about.
#[derive(Debug)]
struct Runs<K, H> {
    open: HashMap<K, Run<H>>,
    done: Vec<(K, Run<H>)>,
}

impl<K, H> Default for Runs<K, H> {
    fn default() -> Self {
        Self {
            open: HashMap::new(),
            done: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Ord + std::hash::Hash, H: PartialEq> Runs<K, H> {
    fn push(&mut self, key: K, tick: usize, ts: i64, head: H, figures: Figures) {
        if let Some(run) = self.open.get_mut(&key)
            && run.goes_on(tick, ts, &head, &figures)
        {
            run.n += 1;
            run.last = tick;
            return;
        }
        let run = Run {
            ts,
            n: 1,
            last: tick,
            head,
            figures,
        };
        if let Some(before) = self.open.insert(key.clone(), run) {
            self.done.push((key, before));
        }
    }

    /// All runs, by what they are about and then by time.
    fn finish(mut self) -> Vec<(K, Run<H>)> {
        self.done.extend(self.open);
        self.done
            .sort_by(|(a, x), (b, y)| a.cmp(b).then(x.ts.cmp(&y.ts)));
        self.done
    }
}

/// Rows in the making.
#[derive(Debug, Default)]
pub(super) struct Rows {
    host: Option<String>,
    boot: Option<String>,
    times: Vec<i64>,
    mono: Vec<Option<i64>>,
    system: Vec<Figures>,
    processes: Runs<Key, Head>,
    cgroups: Runs<RawText, u64>,
    who: HashMap<Key, Identity>,
    events: Vec<Event>,
}

fn figures<T: 'static>(metrics: &'static [Metric<T>], set: &T) -> Figures {
    metrics.iter().map(|metric| (metric.get)(set)).collect()
}

/// The part of a boot's id that rows have.
pub(super) fn short_boot(id: &str) -> String {
    id.chars().take(8).collect()
}

/// A figure as Parquet has it.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Rows {
    /// Whose rows they are, and of which of its boots: pid and start say who a process is within one.
    pub(super) fn of(&mut self, host: &Host) {
        let name = host.hostname.lossy();
        self.host = (!name.is_empty()).then(|| name.into_owned());
        self.boot = host.boot_id.as_deref().map(short_boot);
    }

    /// The same, as rows say it.
    pub(super) fn of_rows(&mut self, host: Option<String>, boot: Option<String>) {
        (self.host, self.boot) = (host, boot);
    }

    /// Takes the next tick; its time must be behind the one before.
    pub(super) fn push(&mut self, tick: &Tick) {
        let ts = tick.clock.real_ns.div_euclid(1_000_000);
        let index = self.times.len();
        self.times.push(ts);
        self.mono.push(Some(int(tick.clock.mono_ns / 1_000_000)));
        let unknown = SystemMetrics::default();
        let system = tick.sample.system.as_ref().unwrap_or(&unknown);
        self.system.push(figures(SystemMetrics::METRICS, system));
        for identity in &tick.identities {
            let key = (identity.pid, identity.start_ticks.unwrap_or(0));
            self.who.insert(key, identity.clone());
        }
        for process in &tick.sample.processes {
            self.process(process, index, ts);
        }
        for cgroup in &tick.sample.cgroups {
            let figures = figures(CgroupMetrics::METRICS, &cgroup.metrics);
            self.cgroups
                .push(cgroup.path.clone(), index, ts, cgroup.id, figures);
        }
    }

    /// Takes what happened.
    pub(super) fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    fn process(&mut self, process: &ProcessSample, index: usize, ts: i64) {
        let head = Head {
            ppid: process.ppid,
            comm: process.comm.clone(),
            uid: process.uid,
            oom_score_adj: process.oom_score_adj,
        };
        let key = (process.pid, process.start_ticks);
        self.processes
            .push(key, index, ts, head, kept(&process.metrics));
    }

    /// Times of the first and the last tick; without any, those of the events.
    pub(super) fn range(&self) -> Option<(i64, i64)> {
        let events = || self.events.iter().map(|event| event.ts_ms);
        match (self.times.first(), self.times.last()) {
            (Some(first), Some(last)) => Some((*first, *last)),
            _ => Some((events().min()?, events().max()?)),
        }
    }

    /// Hands over the tables with their names, one at a time.
    pub(super) fn tables<E>(
        self,
        mut take: impl FnMut(&'static str, Vec<Column>) -> Result<(), E>,
    ) -> Result<(), E> {
        let of = (self.host, self.boot);
        let mut put = |name, columns: Vec<Column>| take(name, labelled(columns, &of));
        let runs = self.processes.finish();
        put("process", processes(&runs, &self.who))?;
        put("rollup", rollup::columns(&runs, &self.times, &self.who))?;
        drop((runs, self.who));
        put("cgroup", cgroups(&self.cgroups.finish()))?;
        put("event", events(self.events))?;
        let mut system = vec![
            Column::new("ts", Values::Time(self.times)),
            Column::new("mono_ms", Values::Int(self.mono)),
        ];
        for (at, metric) in SystemMetrics::METRICS.iter().enumerate() {
            let values = self.system.iter().map(|row| row[at].map(int));
            system.push(Column::new(metric.name, Values::Int(values.collect())));
        }
        put("system", system)
    }

    /// All tables at once.
    #[cfg(test)]
    pub(super) fn all_tables(self) -> Vec<(&'static str, Vec<Column>)> {
        let mut tables = Vec::new();
        let done: Result<(), std::convert::Infallible> = self.tables(|name, columns| {
            tables.push((name, columns));
            Ok(())
        });
        match done {
            Ok(()) => tables,
        }
    }
}

/// Columns with their host and its boot behind them.
pub(super) fn labelled(
    mut columns: Vec<Column>,
    (host, boot): &(Option<String>, Option<String>),
) -> Vec<Column> {
    let rows = columns.first().map_or(0, |column| column.values.len());
    for (name, text) in [("host", host), ("boot_id", boot)] {
        columns.push(Column::new(name, Values::Text(vec![text.clone(); rows])));
    }
    columns
}

/// Texts of a process, as its rows have them.
pub(super) mod text_of {
    use super::Identity;
    use super::RawText;

    pub(in super::super) fn lossy(text: &Option<RawText>) -> Option<String> {
        text.as_ref().map(|text| text.lossy().into_owned())
    }

    pub(in super::super) fn cgroup(one: &Identity) -> Option<String> {
        lossy(&one.cgroup)
    }

    pub(in super::super) fn container(one: &Identity) -> Option<String> {
        let container = one.container.as_ref()?;
        Some(format!("{}:{}", container.runtime, container.id))
    }

    pub(in super::super) fn cmdline(one: &Identity) -> Option<String> {
        let arguments: Vec<_> = one.cmdline.iter().map(RawText::lossy).collect();
        (!arguments.is_empty()).then(|| arguments.join(" "))
    }

    pub(in super::super) fn user(one: &Identity) -> Option<String> {
        one.user.clone()
    }
}

fn processes(runs: &[(Key, Run<Head>)], who: &HashMap<Key, Identity>) -> Vec<Column> {
    let ints = |get: &dyn Fn(&Key, &Run<Head>) -> Option<i64>| {
        Values::Int(runs.iter().map(|(key, run)| get(key, run)).collect())
    };
    let texts = |get: &dyn Fn(&Identity) -> Option<String>| {
        Values::Text(runs.iter().map(|(key, _)| get(who.get(key)?)).collect())
    };
    let comm = runs
        .iter()
        .map(|(_, run)| Some(run.head.comm.lossy().into_owned()));
    let column = Column::new::<&'static str>;
    let mut columns = vec![
        column("pid", ints(&|key, _| Some(i64::from(key.0)))),
        column("start", ints(&|key, _| Some(int(key.1)))),
        column(
            "ts",
            Values::Time(runs.iter().map(|(_, run)| run.ts).collect()),
        ),
        column("n", ints(&|_, run| Some(run.n))),
        column("comm", Values::Text(comm.collect())),
        column("ppid", ints(&|_, run| Some(i64::from(run.head.ppid)))),
        column("uid", ints(&|_, run| run.head.uid.map(i64::from))),
        column(
            "oom_score_adj",
            ints(&|_, run| run.head.oom_score_adj.map(i64::from)),
        ),
        column("cgroup", texts(&text_of::cgroup)),
        column("container", texts(&text_of::container)),
        column("user", texts(&text_of::user)),
        column("unit", texts(&|one| one.unit.clone())),
        column("exe", texts(&|one| text_of::lossy(&one.exe))),
        column("cmdline", texts(&text_of::cmdline)),
    ];
    for (at, name) in PROCESS_FIELDS.iter().enumerate() {
        columns.push(column(name, ints(&|_, run| run.figures[at].map(int))));
    }
    columns
}

fn events(mut events: Vec<Event>) -> Vec<Column> {
    events.sort_by(|a, b| a.ts_ms.cmp(&b.ts_ms).then_with(|| a.id.cmp(&b.id)));
    let texts =
        |get: &dyn Fn(&Event) -> Option<String>| Values::Text(events.iter().map(get).collect());
    let column = Column::new::<&'static str>;
    vec![
        column(
            "ts",
            Values::Time(events.iter().map(|event| event.ts_ms).collect()),
        ),
        column("kind", texts(&|event| Some(event.kind.clone()))),
        column("id", texts(&|event| Some(event.id.clone()))),
        column("severity", texts(&|event| Some(event.severity.clone()))),
        column("title", texts(&|event| Some(event.title.clone()))),
        column(
            "pid",
            Values::Int(
                events
                    .iter()
                    .map(|event| event.pid.map(i64::from))
                    .collect(),
            ),
        ),
        column("cgroup", texts(&|event| event.cgroup.clone())),
        column("body", texts(&|event| Some(event.body.clone()))),
    ]
}

fn cgroups(runs: &[(RawText, Run<u64>)]) -> Vec<Column> {
    let path = runs.iter().map(|(path, _)| Some(path.lossy().into_owned()));
    let column = Column::new::<&'static str>;
    let mut columns = vec![
        column("path", Values::Text(path.collect())),
        column(
            "ts",
            Values::Time(runs.iter().map(|(_, run)| run.ts).collect()),
        ),
        column(
            "n",
            Values::Int(runs.iter().map(|(_, run)| Some(run.n)).collect()),
        ),
        column(
            "id",
            Values::Int(runs.iter().map(|(_, run)| Some(int(run.head))).collect()),
        ),
    ];
    for (at, metric) in CgroupMetrics::METRICS.iter().enumerate() {
        let values = runs.iter().map(|(_, run)| run.figures[at].map(int));
        columns.push(column(metric.name, Values::Int(values.collect())));
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ClockPair;
    use crate::model::ProcessMetrics;
    use crate::model::Sample;

    fn tick(ts: i64, rss: &[(u32, u64)]) -> Tick {
        let process = |(pid, rss_kb): &(u32, u64)| ProcessSample {
            pid: *pid,
            start_ticks: 1,
            metrics: ProcessMetrics {
                rss_kb: Some(*rss_kb),
                ..ProcessMetrics::default()
            },
            ..ProcessSample::default()
        };
        Tick {
            clock: ClockPair {
                real_ns: ts * 1_000_000,
                ..ClockPair::default()
            },
            sample: Sample {
                processes: rss.iter().map(process).collect(),
                ..Sample::default()
            },
            identities: Vec::new(),
        }
    }

    fn runs(ticks: &[Tick]) -> Vec<(i64, i64, i64, i64)> {
        let mut rows = Rows::default();
        ticks.iter().for_each(|tick| rows.push(tick));
        let tables = rows.all_tables();
        let (_, columns) = &tables[0];
        let ints = |name: &str| -> Vec<i64> {
            let column = columns.iter().find(|column| column.name == name).unwrap();
            match &column.values {
                Values::Int(values) => values.iter().map(|value| value.unwrap()).collect(),
                Values::Time(values) => values.clone(),
                Values::Text(_) => panic!("{name}"),
            }
        };
        let (pid, ts, n, rss) = (ints("pid"), ints("ts"), ints("n"), ints("rss_kb"));
        (0..pid.len())
            .map(|row| (pid[row], ts[row], n[row], rss[row]))
            .collect()
    }

    #[test]
    fn runs_end_with_a_change_a_gap_and_the_hour() {
        let ticks = [
            tick(HOUR_MS - 15_000, &[(1, 5), (2, 7)]),
            tick(HOUR_MS - 10_000, &[(1, 5)]),
            tick(HOUR_MS - 5_000, &[(1, 5), (2, 7)]),
            tick(HOUR_MS, &[(1, 5), (2, 7)]),
            tick(HOUR_MS + 5_000, &[(1, 6), (2, 7)]),
        ];
        let expected = [
            (1, HOUR_MS - 15_000, 3, 5),
            (1, HOUR_MS, 1, 5),
            (1, HOUR_MS + 5_000, 1, 6),
            (2, HOUR_MS - 15_000, 1, 7),
            (2, HOUR_MS - 5_000, 1, 7),
            (2, HOUR_MS, 2, 7),
        ];
        assert_eq!(runs(&ticks), expected);
    }
}
