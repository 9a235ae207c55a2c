//! Processes over a range of time: exact sums from run-length rows.

use std::collections::HashMap;

use super::StoreError;
use super::rows::int;
use super::segments::Segment;
use super::tick::PROCESS_FIELDS;
use super::tick::Tick;
use crate::model::ProcessMetrics;
use crate::model::Range;
use crate::model::Sums;

/// A process over a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessSums {
    /// Name, as of its last sample.
    pub comm: String,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// Container.
    pub container: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Time of its first sample in the range.
    pub from_ms: i64,
    /// Time of its last one.
    pub to_ms: i64,
    /// Samples.
    pub n: u64,
    /// One for each wanted figure, in their order.
    pub sums: Vec<Sums>,
}

/// Sums over a range, by process (pid and start).
#[derive(Debug)]
pub struct Scan {
    range: Range,
    fields: Vec<&'static str>,
    /// What was found.
    pub processes: HashMap<(u32, u64), ProcessSums>,
}

impl Scan {
    /// Over a range, of some of [`PROCESS_FIELDS`]; unknown names are passed over.
    #[must_use]
    pub fn new(range: Range, fields: &[&str]) -> Self {
        let known = PROCESS_FIELDS.iter().filter(|name| fields.contains(name));
        Self {
            range,
            fields: known.copied().collect(),
            processes: HashMap::new(),
        }
    }

    fn entry(&mut self, key: (u32, u64), from: i64, to: i64, n: u64) -> &mut ProcessSums {
        let fields = self.fields.len();
        let found = self.processes.entry(key).or_insert_with(|| ProcessSums {
            from_ms: from,
            to_ms: to,
            sums: vec![Sums::default(); fields],
            ..ProcessSums::default()
        });
        found.n += n;
        found.from_ms = found.from_ms.min(from);
        found.to_ms = found.to_ms.max(to);
        found
    }

    /// Adds a segment.
    ///
    /// # Errors
    /// It is damaged.
    pub fn segment(&mut self, segment: &Segment) -> Result<(), StoreError> {
        if segment.to_ms < self.range.start_ms || segment.from_ms >= self.range.end_ms {
            return Ok(());
        }
        let broken = |error| StoreError::Segment {
            path: segment.path.clone(),
            source: Box::new(error),
        };
        let system = segment.table("system")?;
        let mut times = Vec::new();
        for group in 0..system.groups() {
            times.extend(
                system
                    .ints(group, "ts")
                    .map_err(broken)?
                    .into_iter()
                    .flatten(),
            );
        }
        let table = segment.table("process")?;
        for group in 0..table.groups() {
            let ints = |name: &str| table.ints(group, name).map_err(broken);
            let texts = |name: &str| table.texts(group, name).map_err(broken);
            let (pid, start) = (ints("pid")?, ints("start")?);
            let (ts, n) = (ints("ts")?, ints("n")?);
            let comm = texts("comm")?;
            let (cgroup, container, user) = (texts("cgroup")?, texts("container")?, texts("user")?);
            let columns: Vec<Vec<Option<i64>>> = self
                .fields
                .clone()
                .iter()
                .map(|name| ints(name))
                .collect::<Result<_, _>>()?;
            for row in 0..pid.len() {
                let (Some(pid), Some(start), Some(ts), Some(n)) =
                    (pid[row], start[row], ts[row], n[row])
                else {
                    continue;
                };
                let Some((from, to, n)) = self.clip(&times, ts, n) else {
                    continue;
                };
                let key = (
                    u32::try_from(pid).unwrap_or(0),
                    u64::try_from(start).unwrap_or(0),
                );
                let found = self.entry(key, from, to, n);
                if found.comm.is_empty() || to >= found.to_ms {
                    found.comm = comm[row].clone().unwrap_or_default();
                    found.cgroup.clone_from(&cgroup[row]);
                    found.container.clone_from(&container[row]);
                    found.user.clone_from(&user[row]);
                }
                for (sums, column) in found.sums.iter_mut().zip(&columns) {
                    if let Some(value) = column[row] {
                        sums.add(value, n, from, to);
                    }
                }
            }
        }
        Ok(())
    }

    /// The part of a run that is in the range: times of its first and last sample, and how many.
    fn clip(&self, times: &[i64], ts: i64, n: i64) -> Option<(i64, i64, u64)> {
        let begin = times.partition_point(|time| *time < ts);
        let end = begin
            .saturating_add(usize::try_from(n).ok()?)
            .min(times.len());
        let run = times.get(begin..end)?;
        let from = run.partition_point(|time| *time < self.range.start_ms);
        let to = run.partition_point(|time| *time < self.range.end_ms);
        let inside = run.get(from..to)?;
        Some((*inside.first()?, *inside.last()?, inside.len() as u64))
    }

    /// Adds a tick that is in no segment yet.
    pub fn tick(&mut self, tick: &Tick) {
        let ts = tick.clock.real_ns.div_euclid(1_000_000);
        if !self.range.holds(ts) {
            return;
        }
        for process in &tick.sample.processes {
            let fields = self.fields.clone();
            let found = self.entry((process.pid, process.start_ticks), ts, ts, 1);
            found.comm = process.comm.lossy().into_owned();
            for (sums, name) in found.sums.iter_mut().zip(fields) {
                let mut metrics = ProcessMetrics::METRICS.iter();
                let metric = metrics.find(|metric| metric.name == name);
                if let Some(value) = metric.and_then(|metric| (metric.get)(&process.metrics)) {
                    sums.add(int(value), 1, ts, ts);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::rows::Rows;
    use super::super::segments;
    use super::*;
    use crate::model::ClockPair;
    use crate::model::ProcessSample;
    use crate::model::RawText;
    use crate::model::Sample;
    use proptest::prelude::*;

    fn ticks(levels: &[Vec<Option<u64>>]) -> Vec<Tick> {
        let mut ts = 3_595_000_i64;
        let mut ticks = Vec::new();
        for (index, level) in levels.iter().enumerate() {
            // Irregular, as under pressure.
            ts += [5000, 1000, 7300][index % 3];
            let processes = level.iter().enumerate().filter_map(|(pid, rss)| {
                Some(ProcessSample {
                    pid: u32::try_from(pid).ok()? + 1,
                    start_ticks: 9,
                    comm: RawText::from("x"),
                    metrics: ProcessMetrics {
                        rss_kb: Some((*rss)?),
                        ..ProcessMetrics::default()
                    },
                    ..ProcessSample::default()
                })
            });
            ticks.push(Tick {
                clock: ClockPair {
                    real_ns: ts * 1_000_000,
                    ..ClockPair::default()
                },
                sample: Sample {
                    processes: processes.collect(),
                    ..Sample::default()
                },
                identities: Vec::new(),
            });
        }
        ticks
    }

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("aiops-scan-{name}-{}", std::process::id()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Sums over run-length rows equal sums over the samples themselves, wherever the range is cut.
        #[test]
        fn a_segment_says_what_its_ticks_say(
            levels in proptest::collection::vec(proptest::collection::vec(proptest::option::of(0..3_u64), 1..4), 1..40),
            from in 0..200_i64,
            len in 0..200_i64,
        ) {
            let ticks = ticks(&levels);
            let start_ms = 3_595_000 + from * 1000;
            let range = Range { start_ms, end_ms: start_ms + len * 1000 };
            let folder = folder("same");
            std::fs::create_dir_all(&folder).unwrap();
            let mut rows = Rows::default();
            ticks.iter().for_each(|tick| rows.push(tick));
            let segment = segments::publish(&folder, "a", &[], rows).unwrap().unwrap();
            let mut by_segment = Scan::new(range, &["rss_kb"]);
            let done = by_segment.segment(&segment);
            std::fs::remove_dir_all(&folder).unwrap();
            done.unwrap();
            let mut by_tick = Scan::new(range, &["rss_kb"]);
            ticks.iter().for_each(|tick| by_tick.tick(tick));
            prop_assert_eq!(by_segment.processes, by_tick.processes);
        }
    }

    #[test]
    fn what_a_segment_was_made_from_does_not_count_twice() {
        let folder = folder("twice");
        std::fs::create_dir_all(&folder).unwrap();
        let publish = |id: &str, sources: &[String], count: usize| {
            let mut rows = Rows::default();
            let ticks = ticks(&vec![vec![Some(1)]; count]);
            ticks.iter().for_each(|tick| rows.push(tick));
            segments::publish(&folder, id, sources, rows)
                .unwrap()
                .unwrap()
        };
        publish("hour", &["log".to_owned()], 3);
        publish("day", &["hour".to_owned()], 4);
        std::fs::create_dir_all(folder.join("tmp-1-2-x")).unwrap();
        let (segments, made) = segments::list(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(segments.len(), 1);
        assert_eq!(segments[0].id, "day");
        assert!(made.contains("hour") && made.contains("log"));
    }
}
