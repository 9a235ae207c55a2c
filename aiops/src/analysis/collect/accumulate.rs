//! Accumulators: figures over a window, in memory that does not grow with it.

use crate::analysis::readings::ProcessKey;
use crate::model::ProcessMetrics;
use crate::model::RawText;
use crate::report::collect::Point;
use crate::report::collect::ProcessSummary;
use crate::report::collect::Stat;
use crate::report::collect::SystemRow;

/// Shortest span that says something about an hour, seconds.
const HOURLY_S: f64 = 600.0;
/// Fewest samples that a straight line is put through.
const LINE_SAMPLES: u64 = 10;
/// Most points of a course.
pub(super) const POINTS: usize = 240;

/// First, least, mean, most and last of a figure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figure {
    count: u64,
    sum: u128,
    first: u64,
    min: u64,
    max: u64,
    last: u64,
}

impl Figure {
    /// Takes the next value; an unknown one is left out.
    pub(super) fn push(&mut self, value: Option<u64>) {
        let Some(value) = value else { return };
        if self.count == 0 {
            (self.first, self.min) = (value, value);
        }
        self.count += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
    }

    /// What came together; `None`: nothing.
    pub(super) fn stat(&self) -> Option<Stat> {
        (self.count > 0).then(|| Stat {
            first: self.first,
            min: self.min,
            mean: (self.sum as f64 / self.count as f64 * 10.0).round() / 10.0,
            max: self.max,
            last: self.last,
        })
    }

    /// The most; 0 when nothing is known.
    pub(super) fn most(&self) -> u64 {
        self.max
    }
}

/// A straight line through points, by sums alone.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Line {
    fn push(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    /// Coefficient of determination; `None` where nothing changes.
    fn r2(&self) -> Option<f64> {
        let xx = self.n * self.xx - self.x * self.x;
        let yy = self.n * self.yy - self.y * self.y;
        let xy = self.n * self.xy - self.x * self.y;
        (xx > 0.0 && yy > 0.0).then(|| (xy * xy / (xx * yy)).clamp(0.0, 1.0))
    }
}

/// A process or a group over the window.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    pub(super) comm: RawText,
    pub(super) rss: Figure,
    swap: Figure,
    pss: Figure,
    /// Resident and swapped memory together.
    both: Figure,
    line: Line,
    appeared: bool,
    samples: u64,
    from_s: f64,
    to_s: f64,
}

impl Track {
    /// Begins; `appeared`: within the window.
    pub(super) fn new(appeared: bool) -> Self {
        Self {
            appeared,
            ..Self::default()
        }
    }

    /// Takes the next sample.
    pub(super) fn push(&mut self, at_s: f64, metrics: &ProcessMetrics) {
        if self.samples == 0 {
            self.from_s = at_s;
        }
        self.samples += 1;
        self.to_s = at_s;
        self.rss.push(metrics.rss_kb);
        self.swap.push(metrics.swap_kb);
        self.pss.push(metrics.pss_kb);
        if let Some(rss) = metrics.rss_kb {
            let both = rss.saturating_add(metrics.swap_kb.unwrap_or(0));
            self.both.push(Some(both));
            // Near 0, so that the squares stay exact.
            let above = both as f64 - self.both.first as f64;
            self.line.push(at_s - self.from_s, above);
        }
    }

    /// Growth of resident and swapped memory together, first to last.
    pub(super) fn growth_kb(&self) -> Option<i64> {
        let stat = self.both.stat()?;
        i64::try_from(i128::from(stat.last) - i128::from(stat.first)).ok()
    }

    /// For the report.
    pub(super) fn summary(&self, (pid, start): ProcessKey, ended: bool) -> ProcessSummary {
        let seconds = self.to_s - self.from_s;
        let growth_kb = self.growth_kb().filter(|_| self.samples > 1);
        let hourly = |growth: i64| growth as f64 * 3600.0 / seconds;
        ProcessSummary {
            pid,
            start,
            comm: self.comm.lossy().into_owned(),
            appeared: self.appeared,
            ended,
            samples: self.samples,
            seconds,
            rss_kb: self.rss.stat(),
            swap_kb: self.swap.stat(),
            pss_kb: self.pss.stat(),
            growth_kb,
            growth_kb_per_hour: growth_kb
                .filter(|_| seconds >= HOURLY_S)
                .map(|growth| hourly(growth).round()),
            linearity: self
                .line
                .r2()
                .filter(|_| self.samples >= LINE_SAMPLES)
                .map(|r2| (r2 * 1000.0).round() / 1000.0),
        }
    }
}

/// The course of the system: when it becomes too long, neighbours are put together.
#[derive(Clone, Debug)]
pub(super) struct Course {
    points: Vec<Point>,
    /// Samples in a point.
    stride: u64,
    /// Samples in the last point.
    filled: u64,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            stride: 1,
            filled: 1,
        }
    }
}

impl Course {
    /// Takes the next sample.
    pub(super) fn push(&mut self, at_s: f64, row: &SystemRow) {
        let point = Point {
            at_s: (at_s * 1000.0).round() / 1000.0,
            mem_used_kb: row.mem_used_kb,
            mem_available_kb: row.metrics.mem_available_kb,
            swap_used_kb: row.swap_used_kb,
            psi_some_avg10: row.metrics.psi_some_avg10,
        };
        if self.filled < self.stride
            && let Some(last) = self.points.last_mut()
        {
            *last = together(last, &point);
            self.filled += 1;
            return;
        }
        if self.points.len() >= POINTS {
            let pairs = self.points.chunks(2);
            self.points = pairs
                .map(|pair| match pair {
                    [one, other, ..] => together(one, other),
                    rest => rest.first().copied().unwrap_or_default(),
                })
                .collect();
            self.stride = self.stride.saturating_mul(2);
        }
        self.points.push(point);
        self.filled = 1;
    }

    /// The course so far.
    pub(super) fn points(&self) -> Vec<Point> {
        self.points.clone()
    }
}

fn together(one: &Point, other: &Point) -> Point {
    let least = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (known, None) | (None, known) => known,
    };
    Point {
        at_s: one.at_s,
        mem_used_kb: one.mem_used_kb.max(other.mem_used_kb),
        mem_available_kb: least(one.mem_available_kb, other.mem_available_kb),
        swap_used_kb: one.swap_used_kb.max(other.swap_used_kb),
        psi_some_avg10: one.psi_some_avg10.max(other.psi_some_avg10),
    }
}
