//! The store as a whole: a folder with logs and segments, its writer, its reader, its upkeep.
//!
//! ```text
//! STORE/lock                       held by the writer (flock)
//! STORE/wal/<ms>-<sequence>.wal    one an hour; the newest is being written, and locked
//! STORE/segments/…                 made of finished logs by `compact`
//! ```

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use bytes::BytesMut;
use rustix::fs::FlockOperation;
use rustix::fs::flock;

use super::Encoder;
use super::StoreError;
use super::Tick;
use super::WalOptions;
use super::WalWriter;
use super::read_wal;
use super::rows::HOUR_MS;
use super::rows::Rows;
use super::segments;
use super::segments::Segment;
use crate::model::ClockPair;
use crate::model::Host;

/// Frames of this kind are ticks.
const TICK: u8 = 1;
/// Between two key frames.
const KEY_EVERY_MS: u64 = 20 * 60 * 1000;
/// Between two syncs, unless something urgent happens.
const SYNC_EVERY_MS: u64 = 30_000;
/// A calendar that moved more than this against the monotonic clock was set: a new log begins.
const STEP_MS: i64 = 1000;
/// Most bytes of a log.
const WAL_MOST: u64 = 256 << 20;

fn io_error(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Io { path, what, source }
}

/// Where the parts of a store are.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// A store below `folder`; nothing is touched.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn wals(&self) -> PathBuf {
        self.folder.join("wal")
    }

    fn segments_folder(&self) -> PathBuf {
        self.folder.join("segments")
    }

    /// Makes its folders, or checks that nobody else can write there.
    ///
    /// # Errors
    /// It belongs to somebody else, others may write, or the system refuses.
    fn prepare(&self) -> Result<(), StoreError> {
        for folder in [self.folder.clone(), self.wals(), self.segments_folder()] {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder
                .create(&folder)
                .map_err(io_error(&folder, "create"))?;
            let meta = fs::symlink_metadata(&folder).map_err(io_error(&folder, "look at"))?;
            let own = meta.uid() == rustix::process::geteuid().as_raw();
            if !meta.is_dir() || !own || meta.mode() & 0o022 != 0 {
                return Err(StoreError::Unsafe { path: folder });
            }
        }
        Ok(())
    }

    /// Logs, oldest first.
    fn logs(&self) -> Result<Vec<PathBuf>, StoreError> {
        let folder = self.wals();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error(&folder, "read")(error)),
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut logs: Vec<PathBuf> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "wal"))
            .collect();
        logs.sort();
        Ok(logs)
    }

    /// Segments that count, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn segments(&self) -> Result<Vec<Segment>, StoreError> {
        Ok(segments::list(&self.segments_folder())?.0)
    }

    /// Hands over every tick that is in no segment yet, oldest log first; says what was damaged.
    ///
    /// # Errors
    /// A folder cannot be read. A damaged log is reported, not an error.
    pub fn fresh(
        &self,
        tails: &Path,
        mut take: impl FnMut(Tick),
    ) -> Result<Vec<Damage>, StoreError> {
        let (_, made) = segments::list(&self.segments_folder())?;
        let mut damages = Vec::new();
        for log in self.logs()? {
            if !made.contains(&id_of(&log)) {
                damages.extend(ticks(&log, tails, &mut take));
            }
        }
        Ok(damages)
    }

    /// Makes segments of finished logs, and removes those logs. A log that is being written is left alone.
    ///
    /// # Errors
    /// The system refuses; what was published stays, and the next run goes on.
    pub fn compact(&self, tails: &Path) -> Result<Vec<Damage>, StoreError> {
        let folder = self.segments_folder();
        let (_, made) = segments::list(&folder)?;
        let mut damages = Vec::new();
        for log in self.logs()? {
            let id = id_of(&log);
            let file = File::open(&log).map_err(io_error(&log, "open"))?;
            // The writer holds a lock on what it writes.
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            if !made.contains(&id) {
                let mut rows = Rows::default();
                damages.extend(ticks(&log, tails, &mut |tick| rows.push(&tick)));
                segments::publish(&folder, &format!("of-{id}"), std::slice::from_ref(&id), rows)?;
            }
            fs::remove_file(&log).map_err(io_error(&log, "remove"))?;
            let _ = fs::remove_file(tail(tails, &id));
        }
        Ok(damages)
    }

    /// Removes segments that end before a moment, and then the oldest ones until the rest is no larger than
    /// `most_bytes`; returns how many.
    ///
    /// # Errors
    /// A segment cannot be removed.
    pub fn retain(&self, since_ms: i64, most_bytes: u64) -> Result<usize, StoreError> {
        let segments = self.segments()?;
        let mut left: u64 = segments.iter().map(Segment::bytes).sum();
        let mut removed = 0;
        for segment in segments {
            if segment.to_ms >= since_ms && left <= most_bytes {
                continue;
            }
            left = left.saturating_sub(segment.bytes());
            fs::remove_dir_all(&segment.path).map_err(io_error(&segment.path, "remove"))?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// What was lost of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The log.
    pub path: PathBuf,
    /// Bytes that made no sense.
    pub lost_bytes: u64,
    /// Frames that stand on lost ones, and cannot be read.
    pub lost_ticks: u64,
    /// Nothing of it could be read, and why.
    pub error: Option<String>,
}

fn id_of(log: &Path) -> String {
    let stem = log.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

fn tail(tails: &Path, id: &str) -> PathBuf {
    tails.join(format!("{id}.tail"))
}

/// Hands over the ticks of a log.
fn ticks(log: &Path, tails: &Path, take: &mut dyn FnMut(Tick)) -> Option<Damage> {
    let mut damage = Damage {
        path: log.to_path_buf(),
        lost_bytes: 0,
        lost_ticks: 0,
        error: None,
    };
    let found = match read_wal(log, Some(&tail(tails, &id_of(log)))) {
        Ok(found) => found,
        Err(error) => {
            damage.error = Some(error.to_string());
            return Some(damage);
        }
    };
    damage.lost_bytes = found.lost_bytes;
    let mut decoder = found.decoder();
    for (index, (kind, payload)) in found.frames.iter().enumerate() {
        if found.gaps.contains(&index) {
            decoder.lost();
        }
        if *kind != TICK {
            continue;
        }
        match decoder.decode(payload) {
            Ok(Some(tick)) => take(tick),
            Ok(None) => damage.lost_ticks += 1,
            Err(_) => {
                damage.lost_ticks += 1;
                decoder.lost();
            }
        }
    }
    (damage.lost_bytes + damage.lost_ticks > 0).then_some(damage)
}

/// Writes ticks into a store: one at a time, held by a lock.
#[derive(Debug)]
pub struct Recorder {
    store: Store,
    tails: PathBuf,
    host: Host,
    _lock: File,
    log: Option<Log>,
    sequence: u64,
}

#[derive(Debug)]
struct Log {
    writer: WalWriter,
    _lock: File,
    encoder: Encoder,
    began: ClockPair,
    last: ClockPair,
    key_ms: u64,
    sync_ms: u64,
}

fn mono_ms(clock: &ClockPair) -> u64 {
    clock.mono_ns / 1_000_000
}

fn real_ms(clock: &ClockPair) -> i64 {
    clock.real_ns.div_euclid(1_000_000)
}

impl Recorder {
    /// Opens a store for writing; `tails` is a folder on a tmpfs.
    ///
    /// # Errors
    /// Another writer has it, it is not safe, or the system refuses.
    pub fn open(store: Store, tails: &Path, host: Host) -> Result<Self, StoreError> {
        store.prepare()?;
        let path = store.folder.join("lock");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error(&path, "open the lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StoreError::Busy {
                path: store.folder.clone(),
            });
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(tails)
            .map_err(io_error(tails, "create"))?;
        Ok(Self {
            store,
            tails: tails.to_path_buf(),
            host,
            _lock: lock,
            log: None,
            sequence: 0,
        })
    }

    /// Whether the log that is written cannot take this moment: another hour, or a calendar that was set.
    fn turns(&self, clock: &ClockPair) -> bool {
        let Some(log) = &self.log else {
            return true;
        };
        let mono = mono_ms(clock).cast_signed() - mono_ms(&log.last).cast_signed();
        let real = real_ms(clock) - real_ms(&log.last);
        let suspended = clock.boot_ns.saturating_sub(clock.mono_ns) / 1_000_000;
        let before = log.last.boot_ns.saturating_sub(log.last.mono_ns) / 1_000_000;
        let suspend = suspended.saturating_sub(before).cast_signed();
        real_ms(clock).div_euclid(HOUR_MS) != real_ms(&log.began).div_euclid(HOUR_MS)
            || (real - mono - suspend).abs() > STEP_MS
            || real <= 0
            || log.writer.len() > WAL_MOST
    }

    /// Appends a tick; `urgent` ones are durable at once. Returns whether a log was finished, so that there is
    /// something to compact.
    ///
    /// # Errors
    /// The system refuses. The store stays valid, and the next tick tries again.
    pub fn push(&mut self, tick: &Tick, urgent: bool) -> Result<bool, StoreError> {
        let mut turned = false;
        if self.turns(&tick.clock) {
            if let Some(log) = self.log.take() {
                log.writer.finish()?;
                turned = true;
            }
            self.log = Some(self.begin(&tick.clock)?);
        }
        let Some(log) = self.log.as_mut() else {
            return Ok(turned);
        };
        let now = mono_ms(&tick.clock);
        let key = now.saturating_sub(log.key_ms) >= KEY_EVERY_MS;
        if key {
            log.key_ms = now;
        }
        let mut frame = BytesMut::new();
        log.encoder.encode(tick, key, &mut frame);
        log.last = tick.clock;
        log.writer.push(TICK, &frame)?;
        if urgent || now.saturating_sub(log.sync_ms) >= SYNC_EVERY_MS {
            log.sync_ms = now;
            log.writer.sync()?;
        }
        Ok(turned)
    }

    fn begin(&mut self, clock: &ClockPair) -> Result<Log, StoreError> {
        self.sequence += 1;
        // Two logs of one millisecond, or of a calendar that was set back to it, still differ.
        let id = loop {
            let id = format!(
                "{:015}-{:x}-{}",
                real_ms(clock).max(0),
                clock.mono_ns,
                self.sequence
            );
            if !self.store.wals().join(format!("{id}.wal")).exists() {
                break id;
            }
            self.sequence += 1;
        };
        let path = self.store.wals().join(format!("{id}.wal"));
        let writer = WalWriter::create(&WalOptions {
            path: path.clone(),
            tail: Some(tail(&self.tails, &id)),
            id,
            host: self.host.clone(),
        })?;
        let lock = File::open(&path).map_err(io_error(&path, "open"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| io_error(&path, "lock")(error.into()))?;
        Ok(Log {
            writer,
            _lock: lock,
            encoder: Encoder::default(),
            began: *clock,
            last: *clock,
            key_ms: mono_ms(clock),
            sync_ms: mono_ms(clock),
        })
    }

    /// Makes everything durable, and ends.
    ///
    /// # Errors
    /// The system refuses.
    pub fn close(mut self) -> Result<(), StoreError> {
        match self.log.take() {
            Some(log) => log.writer.finish(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Range;
    use super::super::Scan;
    use super::*;
    use crate::model::ProcessMetrics;
    use crate::model::ProcessSample;
    use crate::model::Sample;

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("aiops-store-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn store(&self) -> Store {
            Store::at(&self.0.join("store"))
        }

        fn tails(&self) -> PathBuf {
            self.0.join("tails")
        }

        fn recorder(&self) -> Recorder {
            Recorder::open(self.store(), &self.tails(), Host::default()).unwrap()
        }

        fn everything(&self) -> (u64, i128) {
            let range = Range {
                start_ms: 0,
                end_ms: i64::MAX,
            };
            let mut scan = Scan::new(range, &["rss_kb"]);
            for segment in self.store().segments().unwrap() {
                scan.segment(&segment).unwrap();
            }
            let damages = self
                .store()
                .fresh(&self.tails(), |tick| scan.tick(&tick))
                .unwrap();
            assert_eq!(damages, []);
            let sums = scan.processes.values();
            sums.fold((0, 0), |(n, sum), one| (n + one.n, sum + one.sums[0].sum))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const HOUR_S: u64 = 3600;

    /// Two processes; the second one changes all the time.
    fn tick(second: u64) -> Tick {
        let process = |pid, rss_kb| ProcessSample {
            pid,
            start_ticks: 5,
            metrics: ProcessMetrics {
                rss_kb: Some(rss_kb),
                ..ProcessMetrics::default()
            },
            ..ProcessSample::default()
        };
        let mono_ns = second * 1_000_000_000;
        Tick {
            clock: ClockPair {
                mono_ns,
                boot_ns: mono_ns,
                real_ns: i64::try_from(mono_ns).unwrap(),
            },
            sample: Sample {
                processes: vec![process(1, 100), process(2, second)],
                ..Sample::default()
            },
            identities: Vec::new(),
        }
    }

    #[test]
    fn two_hours_are_the_same_before_and_after_compaction() {
        let folder = Folder::new("hours");
        let mut recorder = folder.recorder();
        let mut turns = 0;
        let seconds = (0..2 * HOUR_S + 300).step_by(5).skip(1);
        for second in seconds.clone() {
            turns += u32::from(recorder.push(&tick(second), false).unwrap());
        }
        assert_eq!(turns, 2);
        let count = seconds.clone().count() as u64;
        let sum: u64 = seconds.map(|second| 100 + second).sum();
        let expected = (2 * count, i128::from(sum));
        assert_eq!(folder.everything(), expected);
        let damages = folder.store().compact(&folder.tails()).unwrap();
        assert_eq!(damages, []);
        assert_eq!(folder.store().segments().unwrap().len(), 2);
        assert_eq!(
            folder.store().logs().unwrap().len(),
            1,
            "the log being written stays"
        );
        assert_eq!(folder.everything(), expected);
        recorder.close().unwrap();
        folder.store().compact(&folder.tails()).unwrap();
        assert_eq!(folder.store().segments().unwrap().len(), 3);
        assert_eq!(folder.everything(), expected);
        assert_eq!(
            folder
                .store()
                .retain(HOUR_S.cast_signed() * 1000, u64::MAX)
                .unwrap(),
            1
        );
        assert_eq!(folder.store().retain(0, 0).unwrap(), 2);
    }

    #[test]
    fn one_writer_and_one_owner() {
        let folder = Folder::new("one");
        let recorder = folder.recorder();
        let second = Recorder::open(folder.store(), &folder.tails(), Host::default());
        assert!(matches!(second, Err(StoreError::Busy { .. })));
        drop(recorder);
        use std::os::unix::fs::PermissionsExt as _;
        let open = fs::Permissions::from_mode(0o770);
        fs::set_permissions(folder.store().folder(), open).unwrap();
        let other = Recorder::open(folder.store(), &folder.tails(), Host::default());
        assert!(matches!(other, Err(StoreError::Unsafe { .. })));
    }

    #[test]
    fn a_calendar_that_is_set_back_begins_another_log() {
        let folder = Folder::new("back");
        let mut recorder = folder.recorder();
        recorder.push(&tick(5000), false).unwrap();
        let mut back = tick(5005);
        back.clock.real_ns -= 600_000_000_000;
        assert!(recorder.push(&back, false).unwrap());
        let mut suspended = tick(5010);
        suspended.clock.real_ns -= 590_000_000_000;
        suspended.clock.boot_ns += 10_000_000_000;
        assert!(
            !recorder.push(&suspended, true).unwrap(),
            "a suspend is no step"
        );
        recorder.close().unwrap();
        assert_eq!(folder.everything().0, 6);
    }

    #[test]
    fn what_a_killed_writer_left_is_read_and_compacted() {
        let folder = Folder::new("killed");
        let mut recorder = folder.recorder();
        for second in (100..200).step_by(5) {
            recorder.push(&tick(second), false).unwrap();
        }
        // As a kill would: nothing is closed, the locks are gone.
        let before = folder.everything();
        drop(recorder);
        assert_eq!(folder.everything(), before);
        folder.store().compact(&folder.tails()).unwrap();
        assert_eq!(folder.everything(), before);
        assert_eq!(before.0, 40);
    }
}
