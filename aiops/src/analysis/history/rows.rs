//! The rows of a history in their order, made one by one.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::Agg;
use super::Found;
use super::HOUR_MS;
use super::Options;
use super::course::Course;
use super::figures;
use super::stamp;
use crate::report::query::Figures;
use crate::report::query::Row;

/// The rows of a history, one after the other: there may be more of them than should be in memory as such.
#[derive(Debug)]
pub struct Rows {
    options: Options,
    names: HashMap<u32, Box<str>>,
    found: Vec<Found>,
    p95: HashMap<u32, i64>,
    order: Vec<u32>,
    /// First and last tick of the range.
    ends: Option<(i64, i64)>,
    unit: &'static str,
    next: usize,
}

impl Rows {
    pub(super) fn new(
        options: Options,
        names: HashMap<u32, Box<str>>,
        found: Vec<Found>,
        ends: Option<(i64, i64)>,
        unit: &'static str,
    ) -> Self {
        let mut rows = Self {
            ends,
            p95: HashMap::new(),
            order: (0..).take(found.len()).collect(),
            found,
            names,
            options,
            unit,
            next: 0,
        };
        rows.sort();
        rows
    }

    /// How many are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.order.len() - self.next
    }

    fn found(&self, at: u32) -> Option<&Found> {
        self.found.get(usize::try_from(at).ok()?)
    }

    fn figures(&self, at: u32) -> Option<Figures> {
        let row = self.found(at)?;
        let mut figures = figures(&row.sums, self.p95.get(&at).copied());
        // A group is 0 before its first member came, and after the last one went.
        if let (Err(_), Some((first, last)), true) = (row.key, self.ends, row.sums.n > 0) {
            let value = |end: i64, own: i64, known: (i64, i64)| match known {
                (ts, value) if ts == end => Some(value),
                _ => (own != end).then_some(0),
            };
            figures.first = value(first, row.from, row.sums.first);
            figures.last = value(last, row.to, row.sums.last);
            let ends = figures.first.zip(figures.last);
            figures.growth = ends.map(|(first, last)| last.saturating_sub(first));
            let hours = (last - first) as f64 / HOUR_MS as f64;
            let growth = figures.growth.filter(|_| hours > 0.0);
            figures.growth_per_hour = growth.map(|growth| growth as f64 / hours);
        }
        Some(figures)
    }

    fn sort(&mut self) {
        if self.options.counts() {
            for (at, row) in (0..).zip(&mut self.found) {
                let p95 = row.detail.as_mut();
                if let Some(p95) = p95.and_then(|detail| detail.counts.share(0.95)) {
                    self.p95.insert(at, p95);
                }
            }
        }
        let sort = self.options.sort;
        let keys: Vec<f64> = self
            .order
            .iter()
            .map(|at| {
                let figures = self.figures(*at).unwrap_or_default();
                sort.of(&figures, self.found(*at).map_or(0, |row| row.n))
            })
            .collect();
        let key = |at: u32| usize::try_from(at).ok().and_then(|at| keys.get(at));
        let title = |at: u32| {
            self.found(at)
                .map(|row| self.title(row).unwrap_or_default())
        };
        let pid = |at: u32| {
            let key = self.found(at)?.key.ok()?;
            Some((key.pid, key.start))
        };
        let mut order = self.order.clone();
        order.sort_by(|a, b| {
            let first = match sort {
                Agg::Name => title(*a).cmp(&title(*b)),
                Agg::Pid => pid(*a).cmp(&pid(*b)),
                _ => match (key(*a), key(*b)) {
                    (Some(a), Some(b)) => b.total_cmp(a),
                    _ => Ordering::Equal,
                },
            };
            first
                .then_with(|| title(*a).cmp(&title(*b)))
                .then_with(|| pid(*a).cmp(&pid(*b)))
        });
        self.order = order;
    }

    fn title(&self, row: &Found) -> Option<&str> {
        self.name(row.key.map_or_else(|group| group, |_| row.comm))
    }

    fn name(&self, id: u32) -> Option<&str> {
        self.names.get(&id).map(|name| &**name)
    }

    fn row(&self, at: u32) -> Option<Row> {
        let row = self.found(at)?;
        let text = |id: u32| self.name(id).map(str::to_owned);
        let key = row.key.ok();
        let course = row.detail.as_ref().map(|detail| &detail.course);
        let step = self.options.step_ms;
        Some(Row {
            unit: self.unit,
            name: self.title(row).map(str::to_owned),
            pid: key.map(|key| key.pid),
            start: key.map(|key| key.start),
            boot_id: key.and_then(|key| text(key.boot)),
            user: text(row.user),
            cgroup: text(row.cgroup),
            container: text(row.container),
            processes: u64::from(row.members),
            from: stamp(row.from),
            to: stamp(row.to),
            samples: row.n,
            figures: self.figures(at)?,
            series: step
                .and(course)
                .map(|course| course.series(self.options.agg)),
            trend: course.map(Course::trend).unwrap_or_default(),
        })
    }
}

impl Iterator for Rows {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        let row = self.row(*self.order.get(self.next)?)?;
        self.next += 1;
        Some(row)
    }
}
