//! Processes as series of memory sizes, wherever those come from: history ([`from_store`]), a recording
//! ([`from_recording`]), samples taken now ([`live`]).
//!
//! A [`Subject`] is one life of one process. Its memory is what it alone holds: anonymous memory with what of it is
//! in swap. Page cache never counts; where a kernel does not tell anonymous memory, resident memory stands for it,
//! and [`Measure`] says so. Sizes are kept as runs of equal samples over ticks that all processes share; the other
//! figures are kept at fewer moments.

mod history;
mod live;
mod lives;
mod past;
mod program;

use std::collections::HashMap;
use std::sync::Arc;

use crate::analysis::leak::Series;
use crate::model::Host;
use crate::model::ProcessMetrics;

pub use crate::analysis::leak_evidence::Figures;
pub use history::Read;
pub use history::cgroups_from_store;
pub use history::from_recording;
pub use history::from_store;
pub use live::Window;
pub use live::live;
pub use lives::alike;
pub use lives::earlier;
pub use lives::joined;
pub use lives::siblings;
pub use past::Look;
pub use past::past;

/// Ticks per second of `start_ticks` where nobody says it: what every Linux tells user space (USER_HZ).
const TICKS_PER_S: f64 = 100.0;
/// No host runs for longer than 50 years: a start beyond that is damaged.
const LONGEST: u64 = 50 * 366 * 86_400 * 100;
/// A process that is younger, seconds, is starting: its growth says nothing yet.
const STARTING_S: f64 = 60.0;
/// Moments at which the other figures are kept: at most twice as many.
const FIGURES: usize = 400;

/// Which memory is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// Anonymous memory, resident or in swap.
    #[default]
    AnonSwap,
    /// The same and shared memory: what a cgroup cannot drop.
    AnonShmemSwap,
    /// Resident memory and what is in swap: anonymous memory is not told (kernels before 4.5).
    RssSwap,
    /// Resident memory: nothing else is known.
    Rss,
}

impl Measure {
    /// Its name in reports.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::AnonSwap => "anon+swap",
            Self::AnonShmemSwap => "anon+shmem+swap",
            Self::RssSwap => "rss+swap",
            Self::Rss => "rss",
        }
    }
}

/// Who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Process id.
    pub pid: u32,
    /// Start, clock ticks since boot: with the pid and the boot, the identity.
    pub start_ticks: u64,
    /// Beginning of the boot's id (8 characters), where it is known.
    pub boot: Option<String>,
    /// Name.
    pub comm: Option<String>,
    /// The program's path.
    pub exe: Option<String>,
    /// Arguments, with blanks between.
    pub cmdline: Option<String>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Name of that user.
    pub user: Option<String>,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// `runtime:id` of the container.
    pub container: Option<String>,
}

/// Names of [`Figures`] in tables of metrics, in the order of [`figures_of`].
pub(super) const FIELDS: [&str; 8] = [
    "rss_kb",
    "anon_kb",
    "file_kb",
    "shmem_kb",
    "swap_kb",
    "vm_size_kb",
    "threads",
    "cpu_ticks",
];

/// From values in the order of [`FIELDS`].
fn figures_of(time_s: f64, values: &[Option<i64>]) -> Figures {
    let value = |at: usize| values.get(at).copied().flatten();
    let value = |at: usize| u64::try_from(value(at)?).ok();
    Figures {
        time_s,
        rss_kb: value(0),
        anon_kb: value(1),
        file_kb: value(2),
        shmem_kb: value(3),
        swap_kb: value(4),
        vms_kb: value(5),
        threads: value(6),
        cpu_ticks: value(7),
        ..Figures::default()
    }
}

/// From a sample.
fn figures_sampled(time_s: f64, metrics: &ProcessMetrics) -> Figures {
    Figures {
        time_s,
        rss_kb: metrics.rss_kb,
        anon_kb: metrics.anon_kb,
        file_kb: metrics.file_kb,
        shmem_kb: metrics.shmem_kb,
        swap_kb: metrics.swap_kb,
        vms_kb: metrics.vm_size_kb,
        threads: metrics.threads,
        cpu_ticks: metrics.cpu_ticks,
        ..Figures::default()
    }
}

/// The memory that is judged: of a cgroup with its shared memory, for a tmpfs of its own is as lost as a heap.
fn judged(figures: &Figures, of_cgroup: bool) -> Option<(u64, Measure)> {
    let swap = figures.swap_kb.unwrap_or(0);
    if let Some(anon) = figures.anon_kb {
        let held = anon.saturating_add(swap);
        return Some(match figures.shmem_kb.filter(|_| of_cgroup) {
            Some(shmem) => (held.saturating_add(shmem), Measure::AnonShmemSwap),
            None => (held, Measure::AnonSwap),
        });
    }
    let measure = if figures.swap_kb.is_some() {
        Measure::RssSwap
    } else {
        Measure::Rss
    };
    Some((figures.rss_kb?.saturating_add(swap), measure))
}

/// Samples on every `stride`-th tick that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Equal {
    tick: u32,
    n: u32,
    kb: u64,
}

/// One life of one process.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Who it is.
    pub who: Who,
    /// When it started, seconds since 1970: never behind its first sample.
    pub started_s: f64,
    /// Which memory is judged.
    pub measure: Measure,
    /// Samples that were seen, those that were thinned out as well.
    pub samples: usize,
    /// Time of its first sample, seconds since 1970.
    pub first_s: f64,
    /// Time of its last one.
    pub last_s: f64,
    /// It was there at the last tick of all.
    pub at_end: bool,
    /// The other figures at some moments, the first and the last sample always.
    pub figures: Vec<Figures>,
    runs: Vec<Equal>,
    stride: u32,
    times: Arc<Vec<f64>>,
}

impl Subject {
    /// Its memory over time: one life, its start in every row.
    #[must_use]
    pub fn series(&self) -> Series {
        let mut series = Series::default();
        let n: usize = self.runs.iter().map(|run| place(run.n)).sum();
        series.time_s.reserve(n);
        series.bytes.reserve(n);
        for run in &self.runs {
            for step in 0..run.n {
                let tick = place(run.tick + step * self.stride);
                series
                    .time_s
                    .push(self.times.get(tick).copied().unwrap_or(0.0));
                series.bytes.push(run.kb as f64 * 1024.0);
            }
        }
        series.start_s = Some(vec![self.started_s; series.bytes.len()]);
        series
    }

    /// Largest and last size of the judged memory, KiB; `None`: not one sample.
    #[must_use]
    pub fn judged_kb(&self) -> Option<(u64, u64)> {
        let most = self.runs.iter().map(|run| run.kb).max()?;
        Some((most, self.runs.last()?.kb))
    }

    /// First and last size of the judged memory, KiB.
    #[must_use]
    pub fn sizes_kb(&self) -> Option<(u64, u64)> {
        Some((self.runs.first()?.kb, self.runs.last()?.kb))
    }

    /// Least and largest size of the judged memory, KiB: what does not differ needs no judge.
    #[must_use]
    pub fn range_kb(&self) -> Option<(u64, u64)> {
        let least = self.runs.iter().map(|run| run.kb).min()?;
        Some((least, self.runs.iter().map(|run| run.kb).max()?))
    }

    /// Its age at its last sample, seconds.
    #[must_use]
    pub fn age_s(&self) -> f64 {
        (self.last_s - self.started_s).max(0.0)
    }

    /// Whether it had only just started when its samples end. Where the samples of all are hardly longer than that,
    /// nobody is told to be older.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        let seen = self.times.last().zip(self.times.first());
        let seen = seen.map_or(0.0, |(last, first)| last - first);
        self.age_s() < STARTING_S && seen > 2.0 * self.age_s()
    }

    /// How often its sizes are kept: every so many-th tick.
    #[must_use]
    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// Its figures at its first and its last sample.
    #[must_use]
    pub fn ends(&self) -> Option<(&Figures, &Figures)> {
        Some((self.figures.first()?, self.figures.last()?))
    }
}

fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

/// Whether a start, in clock ticks, can be one.
fn is_sane(start_ticks: u64) -> bool {
    (1..LONGEST).contains(&start_ticks)
}

/// A process while it is read.
#[derive(Debug, Default)]
struct Track {
    who: Who,
    measure: Option<Measure>,
    samples: usize,
    first: u32,
    last: u32,
    runs: Vec<Equal>,
    figures: Vec<Figures>,
    /// The next tick at which the other figures are kept, and the distance of two of those.
    next: u32,
    apart: u32,
    /// The newest figures, kept or not.
    newest: Figures,
}

/// Number of a boot, pid, start.
type Key = (u32, u32, u64);

/// Puts samples together.
#[derive(Debug)]
pub(super) struct Builder {
    times: Vec<f64>,
    tracks: Vec<Track>,
    places: HashMap<Key, usize>,
    /// Rows of a process come together: the last one is mostly the next one.
    hint: Option<(Key, usize)>,
    stride: u32,
    most: usize,
}

impl Builder {
    /// Keeps no more sizes of a process than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self {
            times: Vec::new(),
            tracks: Vec::new(),
            places: HashMap::new(),
            hint: None,
            stride: 1,
            most: most.max(2),
        }
    }

    /// Takes the times of the next ticks, seconds since 1970; returns the number of the first one.
    pub(super) fn ticks(&mut self, times: impl Iterator<Item = f64>) -> u32 {
        let first = index(self.times.len());
        self.times.extend(times);
        let before = self.stride;
        while self.times.len().div_ceil(place(self.stride)) >= self.most {
            self.stride *= 2;
        }
        if self.stride != before {
            for track in &mut self.tracks {
                thin(&mut track.runs, before, self.stride);
            }
        }
        first
    }

    /// Takes `n` equal samples of a process from this tick on. `who` is asked where it is new.
    pub(super) fn samples(
        &mut self,
        key: Key,
        tick: u32,
        n: u32,
        values: &Figures,
        who: impl FnOnce() -> Who,
    ) -> &mut Who {
        let at = match self.hint {
            Some((last, at)) if last == key => at,
            _ => *self.places.entry(key).or_insert(self.tracks.len()),
        };
        self.hint = Some((key, at));
        if at == self.tracks.len() {
            self.tracks.push(Track {
                who: who(),
                first: tick,
                apart: 1,
                ..Track::default()
            });
        }
        let track = &mut self.tracks[at];
        track.take(tick, n, values, &self.times, self.stride);
        &mut track.who
    }

    /// Every process. `epoch`: when a boot began, seconds since 1970, where that is known by its short id.
    pub(super) fn finish(self, epoch: &dyn Fn(Option<&str>) -> Option<f64>) -> Vec<Subject> {
        let times = Arc::new(self.times);
        let end = index(times.len()).saturating_sub(1);
        let at = |tick: u32| times.get(place(tick)).copied().unwrap_or(0.0);
        // No process is seen before its start, so a boot began no later than this.
        let mut began: HashMap<Option<String>, f64> = HashMap::new();
        for track in self
            .tracks
            .iter()
            .filter(|track| is_sane(track.who.start_ticks))
        {
            let boot = at(track.first) - track.who.start_ticks as f64 / TICKS_PER_S;
            let least = began.entry(track.who.boot.clone()).or_insert(f64::MAX);
            *least = least.min(boot);
        }
        for (boot, least) in &mut began {
            *least = epoch(boot.as_deref()).unwrap_or(*least);
        }
        let mut subjects: Vec<Subject> = Vec::with_capacity(self.tracks.len());
        for mut track in self.tracks {
            if track.samples == 0 {
                continue;
            }
            if track.figures.last() != Some(&track.newest) {
                track.figures.push(track.newest);
            }
            let first_s = at(track.first);
            let boot = began.get(&track.who.boot).copied().unwrap_or(first_s);
            let started = boot + track.who.start_ticks as f64 / TICKS_PER_S;
            subjects.push(Subject {
                started_s: if is_sane(track.who.start_ticks) {
                    started.min(first_s)
                } else {
                    first_s
                },
                measure: track.measure.unwrap_or_default(),
                samples: track.samples,
                first_s,
                last_s: at(track.last),
                at_end: track.last == end,
                figures: track.figures,
                runs: track.runs,
                stride: self.stride,
                times: Arc::clone(&times),
                who: track.who,
            });
        }
        subjects.sort_by(|a, b| {
            let by_time = a.first_s.total_cmp(&b.first_s);
            by_time
                .then_with(|| (a.who.pid, a.who.start_ticks).cmp(&(b.who.pid, b.who.start_ticks)))
        });
        subjects
    }
}

impl Track {
    fn take(&mut self, tick: u32, n: u32, values: &Figures, times: &[f64], stride: u32) {
        // Every process has a pid, and no cgroup has.
        let Some((kb, measure)) = judged(values, self.who.pid == 0).filter(|_| n > 0) else {
            return;
        };
        let told = |measure| matches!(measure, Measure::AnonSwap | Measure::AnonShmemSwap);
        match (self.measure, measure) {
            // Anonymous memory was told once: what tells less is not the same figure.
            (Some(before), Measure::RssSwap | Measure::Rss) if told(before) => return,
            (Some(Measure::RssSwap | Measure::Rss), now) if told(now) => {
                self.runs.clear();
                self.figures.clear();
                (self.samples, self.first) = (0, tick);
            }
            (None, _) => self.first = tick,
            _ => {}
        }
        self.measure = Some(measure);
        self.samples += place(n);
        self.last = tick + (n - 1);
        let end = Figures {
            time_s: times
                .get(place(self.last))
                .copied()
                .unwrap_or(values.time_s),
            ..*values
        };
        if self.figures.is_empty() || tick >= self.next {
            self.keep(*values, tick);
        }
        if n > 1 && self.last >= self.next {
            self.keep(end, self.last);
        }
        self.newest = end;
        let from = tick.next_multiple_of(stride);
        if from > self.last {
            return;
        }
        let count = (self.last - from) / stride + 1;
        match self.runs.last_mut() {
            Some(run) if run.kb == kb && run.tick + run.n * stride == from => run.n += count,
            _ => self.runs.push(Equal {
                tick: from,
                n: count,
                kb,
            }),
        }
    }

    /// Keeps figures; when there are too many, every second one goes.
    fn keep(&mut self, figures: Figures, tick: u32) {
        self.figures.push(figures);
        if self.figures.len() >= 2 * FIGURES {
            let mut keep = false;
            self.figures.retain(|_| {
                keep = !keep;
                keep
            });
            self.apart = self.apart.saturating_mul(2);
        }
        self.next = tick.saturating_add(self.apart);
    }
}

/// Keeps the samples on every `after`-th tick of those on every `before`-th.
fn thin(runs: &mut Vec<Equal>, before: u32, after: u32) {
    let mut out: Vec<Equal> = Vec::with_capacity(runs.len() / 2);
    for run in runs.iter() {
        let from = run.tick.next_multiple_of(after);
        let last = run.tick + (run.n - 1) * before;
        if from > last {
            continue;
        }
        let n = (last - from) / after + 1;
        match out.last_mut() {
            Some(one) if one.kb == run.kb && one.tick + one.n * after == from => one.n += n,
            _ => out.push(Equal {
                tick: from,
                n,
                kb: run.kb,
            }),
        }
    }
    *runs = out;
}

/// What rows of history call a boot.
fn short_boot(host: &Host) -> Option<String> {
    let id = host.boot_id.as_deref()?;
    Some(id.chars().take(8).collect())
}

#[cfg(test)]
mod tests;
