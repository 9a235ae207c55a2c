//! The sampler: figures of the host, of limited cgroups and of processes, as a stream of samples.
//!
//! Every second the host, the limited cgroups and the twenty largest processes; every fifth second all
//! processes. The early trigger makes it ten a second for two seconds, within a tenth of a core.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use crate::model::CgroupSample;
use crate::model::Item;
use crate::model::Sample;

use super::Sink;
use super::cgroup::Controller;
use super::clock;
use super::procfs::ProcessReader;
use super::procfs::Scope;
use super::procfs::Wanted;
use super::procfs::read_system;

/// How often, and how much.
#[derive(Clone, Debug)]
pub struct SamplerOptions {
    /// Where `proc` and `sys` stand.
    pub root: PathBuf,
    /// Between samples.
    pub interval: Duration,
    /// Between samples of all processes.
    pub full: Duration,
    /// Processes in an ordinary sample: the largest ones.
    pub top: usize,
    /// Between samples under pressure.
    pub hurried: Duration,
    /// How long the pressure is believed after its last sign.
    pub hurry_for: Duration,
    /// Samples without pressure as well; `false` where somebody else takes them.
    pub regular: bool,
}

impl SamplerOptions {
    /// The contract's intervals.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            interval: Duration::from_secs(1),
            full: Duration::from_secs(5),
            top: 20,
            hurried: Duration::from_millis(100),
            hurry_for: Duration::from_secs(2),
            regular: true,
        }
    }

    /// Only under pressure: beside a session that takes the other samples itself.
    #[must_use]
    pub fn hurried_only(root: PathBuf) -> Self {
        Self {
            interval: Duration::from_secs(10),
            regular: false,
            ..Self::new(root)
        }
    }
}

/// Between two clock pairs.
const CLOCK_EVERY: Duration = Duration::from_secs(10);
/// Under pressure, between two full samples.
const HURRIED_FULL: Duration = Duration::from_secs(1);
/// Quick samples in a row: a cgroup full of page cache reclaims all day, and is no emergency.
const HURRIED_MOST: u32 = 100;
/// Quick samples that a quiet round gives back.
const HURRIED_BACK: u32 = 10;
/// Between two searches for young cgroups.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Under pressure, a sample may take at most this part of the time until the next one.
const HURRIED_SHARE: u32 = 10;

/// What the sampler is told.
#[derive(Clone, Copy, Debug)]
enum Sign {
    Hurry,
    Cgroup(u64),
}

/// Most signs that wait.
const SIGNS: usize = 64;

/// The running sampler.
#[derive(Debug)]
pub struct Sampler {
    /// Bounded: what finds no place comes too late anyway.
    signs: SyncSender<Sign>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Starts it; the first sample, of everything, is taken at once.
    #[must_use]
    pub fn spawn(options: SamplerOptions, sink: Sink, controller: Option<Arc<Controller>>) -> Self {
        let (sender, signs) = mpsc::sync_channel(SIGNS);
        let thread = std::thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || {
                if let Ok(reader) = ProcessReader::open(&options.root) {
                    Rounds::new(options, sink, controller, reader).run(&signs);
                }
            });
        Self {
            signs: sender,
            thread: thread.ok(),
        }
    }

    /// Tells it that memory is short.
    pub fn hurry(&self) {
        self.sign(Sign::Hurry);
    }

    /// Asks which cgroup has this inode, and for its figures: the answer is a sample of nothing else.
    pub fn cgroup(&self, id: u64) {
        self.sign(Sign::Cgroup(id));
    }

    fn sign(&self, sign: Sign) {
        match self.signs.try_send(sign) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Ends it.
    pub fn stop(self) {
        drop(self.signs);
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

struct Rounds {
    options: SamplerOptions,
    sink: Sink,
    controller: Option<Arc<Controller>>,
    reader: ProcessReader,
    largest: Vec<u32>,
    last_full: Option<Instant>,
    last_clock: Option<Instant>,
    hurried_until: Option<Instant>,
    /// Quick samples that may still be taken.
    hurries: u32,
    /// How long the last round took.
    took: Duration,
    /// When cgroups were looked for out of turn.
    looked: Option<Instant>,
}

impl Rounds {
    fn new(
        options: SamplerOptions,
        sink: Sink,
        controller: Option<Arc<Controller>>,
        reader: ProcessReader,
    ) -> Self {
        let largest = Vec::new();
        Self {
            options,
            sink,
            controller,
            reader,
            largest,
            last_full: None,
            last_clock: None,
            hurried_until: None,
            hurries: HURRIED_MOST,
            took: Duration::ZERO,
            looked: None,
        }
    }

    fn run(&mut self, signs: &mpsc::Receiver<Sign>) {
        loop {
            let begin = Instant::now();
            if !self.round(begin) || !self.rest(begin, signs) {
                return;
            }
        }
    }

    /// Waits for the next round, and listens; false at the end.
    fn rest(&mut self, begin: Instant, signs: &mpsc::Receiver<Sign>) -> bool {
        loop {
            let left = self.pause().saturating_sub(begin.elapsed());
            match signs.recv_timeout(left) {
                Ok(Sign::Cgroup(id)) => {
                    if !self.tell(id) {
                        return false;
                    }
                }
                Ok(Sign::Hurry) if self.hurries == 0 => {}
                Ok(Sign::Hurry) => {
                    let first = !self.hurried(Instant::now());
                    self.hurried_until = Some(Instant::now() + self.options.hurry_for);
                    // The first sign is answered at once, later ones at the hurried pace.
                    if first {
                        self.look_again();
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if !self.hurried(Instant::now()) {
                        self.hurries = (self.hurries + HURRIED_BACK).min(HURRIED_MOST);
                    }
                    return true;
                }
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Lets cgroups that are younger than the last walk be found, at most once a second.
    fn look_again(&mut self) {
        let now = Instant::now();
        if let Some(controller) = &self.controller
            && self
                .looked
                .is_none_or(|at| now.duration_since(at) >= LOOK_EVERY)
        {
            self.looked = Some(now);
            controller.forget();
        }
    }

    /// A sample of one cgroup, by its inode; false when nobody listens any more.
    fn tell(&mut self, id: u64) -> bool {
        let Some(controller) = self.controller.clone() else {
            return true;
        };
        let path = controller.by_id(id).or_else(|| {
            self.look_again();
            controller.by_id(id)
        });
        let Some(cgroup) = path.and_then(|path| controller.sample(&path)) else {
            return true;
        };
        let sample = Sample {
            ts_ns: clock::mono_ns(),
            cgroups: vec![cgroup],
            ..Sample::default()
        };
        self.sink.send(Item::Sample(sample)).is_ok()
    }

    fn hurried(&self, now: Instant) -> bool {
        self.hurries > 0 && self.hurried_until.is_some_and(|until| now < until)
    }

    /// How long after its beginning a round is followed by the next.
    fn pause(&self) -> Duration {
        if self.hurried(Instant::now()) {
            let rest = self.took * HURRIED_SHARE;
            return self.options.hurried.max(rest).min(self.options.interval);
        }
        self.options.interval
    }

    /// One sample; false when nobody listens any more.
    fn round(&mut self, now: Instant) -> bool {
        if !self.options.regular && !self.hurried(now) {
            return !self.sink.is_closed();
        }
        let due = |last: Option<Instant>, every: Duration| {
            last.is_none_or(|last| now.duration_since(last) + Duration::from_millis(5) >= every)
        };
        if due(self.last_clock, CLOCK_EVERY) {
            self.last_clock = Some(now);
            if self.sink.send(Item::Clock(clock::now())).is_err() {
                return false;
            }
        }
        let every = if self.hurried(now) {
            self.hurries -= 1;
            HURRIED_FULL
        } else {
            self.options.full
        };
        let full = due(self.last_full, every);
        if full {
            self.last_full = Some(now);
        }
        let sample = self.sample(full);
        self.took = now.elapsed();
        self.sink.send(Item::Sample(sample)).is_ok()
    }

    fn sample(&mut self, full: bool) -> Sample {
        let ts_ns = clock::mono_ns();
        let system = Some(read_system(&self.options.root, Scope::Memory));
        let cgroups = self.controller.as_deref().map(cgroups).unwrap_or_default();
        let (processes, skipped) = if full {
            self.reader.scan(Wanted::Sizes)
        } else {
            self.reader.read(&self.largest, Wanted::Sizes)
        };
        if full {
            let mut by_size: Vec<(u64, u32)> = processes
                .iter()
                .map(|process| (process.metrics.rss_kb.unwrap_or(0), process.pid))
                .collect();
            by_size.sort_unstable_by(|a, b| b.cmp(a));
            self.largest = by_size
                .into_iter()
                .take(self.options.top)
                .map(|(_, pid)| pid)
                .collect();
            self.largest.sort_unstable();
        }
        Sample {
            ts_ns,
            system,
            cgroups,
            processes,
            all_processes: full,
            skipped,
        }
    }
}

fn cgroups(controller: &Controller) -> Vec<CgroupSample> {
    controller
        .limited()
        .iter()
        .filter_map(|path| controller.sample(path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(hurry: bool, time: Duration) -> Vec<Sample> {
        let (sink, mut items) = tokio::sync::mpsc::unbounded_channel();
        let sampler = Sampler::spawn(SamplerOptions::new(PathBuf::from("/")), sink, None);
        let end = Instant::now() + time;
        while Instant::now() < end {
            if hurry {
                sampler.hurry();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        sampler.stop();
        let mut samples = Vec::new();
        while let Ok(item) = items.try_recv() {
            if let Item::Sample(sample) = item {
                samples.push(sample);
            }
        }
        samples
    }

    #[test]
    fn the_first_sample_is_of_everything_and_the_next_of_the_largest() {
        let samples = collect(false, Duration::from_millis(1500));
        assert!(samples[0].all_processes);
        assert!(
            samples[0]
                .processes
                .iter()
                .any(|process| process.pid == std::process::id())
        );
        assert!(
            samples.len() >= 2 && !samples[1].all_processes && samples[1].processes.len() <= 20
        );
        assert!(samples[1].system.is_some());
    }

    #[test]
    fn pressure_makes_it_quicker_and_no_more_than_that() {
        let samples = collect(true, Duration::from_millis(2000));
        assert!(
            (6..=40).contains(&samples.len()),
            "{} samples in 2 s under pressure",
            samples.len()
        );
    }
}
