//! The store as a whole: a folder with logs and segments, its writer, its reader, its upkeep.
//!
//! ```text
//! STORE/store.json                 whose it is, and where its newest frames stand (`place`)
//! STORE/lock                       held by the writer (flock)
//! STORE/wal/<ms>-<sequence>.wal    one an hour; the newest is being written, and locked
//! STORE/segments/…                 made of finished logs by `compact`
//! ```

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use bytes::BytesMut;
use rustix::fs::FlockOperation;
use rustix::fs::flock;

use super::Encoder;
use super::Event;
use super::StoreError;
use super::Tick;
use super::WalOptions;
use super::WalWriter;
use super::error::io_error;
use super::logs::Damage;
use super::logs::EVENT;
use super::logs::Entry;
use super::logs::OpenLog;
use super::logs::TICK;
use super::logs::id_of;
use super::logs::tail;
use super::place;
use super::place::Meta;
use super::rows::HOUR_MS;
use super::segments;
use super::segments::Segment;
use super::wal::NEW;
use crate::model::ClockPair;
use crate::model::Host;
use crate::model::Identity;

/// Between two key frames.
const KEY_EVERY_MS: u64 = 20 * 60 * 1000;
/// Between two syncs, unless something urgent happens.
const SYNC_EVERY_MS: u64 = 30_000;
/// A calendar that moved more than this against the monotonic clock was set: a new log begins.
const STEP_MS: i64 = 1000;
/// Most bytes of a log.
const WAL_MOST: u64 = 256 << 20;

/// Where the parts of a store are.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    /// Where its newest frames stand, unless it says so itself.
    tails: Option<PathBuf>,
}

impl Store {
    /// A store below `folder`; nothing is touched.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            tails: None,
        }
    }

    /// The file that its writer holds a lock on.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// The same store, its newest frames in another folder than it would choose.
    #[must_use]
    pub fn with_tails(mut self, tails: &Path) -> Self {
        self.tails = Some(tails.to_path_buf());
        self
    }

    /// What it says of itself; `None`: nothing was ever written.
    ///
    /// # Errors
    /// It is not there, others could have written it, it cannot be read, or it is of a later aiops.
    pub fn meta(&self) -> Result<Option<Meta>, StoreError> {
        self.trusted()?;
        Meta::read(&self.folder)
    }

    /// Checks that nobody but its owner, who we are or root is, can have written what is in it.
    ///
    /// # Errors
    /// It is not there, no folder, somebody else's, or others may write.
    pub(super) fn trusted(&self) -> Result<(), StoreError> {
        place::check_trust(&self.folder)?;
        for folder in [self.wals(), self.segments_folder()] {
            match place::check_trust(&folder) {
                Err(error) if is_vanished(&error) => {}
                other => other?,
            }
        }
        // Who may not look into it learns that, and not that it is empty.
        fs::read_dir(&self.folder)
            .map(drop)
            .map_err(io_error(&self.folder, "read the store"))
    }

    /// What keeps it from being private, with the remedy.
    #[must_use]
    pub fn exposed(&self) -> Option<String> {
        place::exposed(&self.folder)
    }

    /// Where frames stand that are not durable yet; `None`: nowhere that is known and to be believed.
    #[must_use]
    pub fn tails(&self) -> Option<PathBuf> {
        let said = || Some(Meta::read(&self.folder).ok()??.tails_of(&self.folder));
        let tails = self.tails.clone().or_else(said)?;
        // What others can write to is nothing to believe.
        place::check_trust(&tails).is_ok().then_some(tails)
    }

    /// Where the next writer puts them.
    pub(super) fn next_tails(&self) -> PathBuf {
        (self.tails.clone()).unwrap_or_else(|| place::tails_for(&self.folder))
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn wals(&self) -> PathBuf {
        self.folder.join("wal")
    }

    pub(super) fn segments_folder(&self) -> PathBuf {
        self.folder.join("segments")
    }

    /// Makes its folders, or checks that nobody else can write there; nobody else may read there from now on.
    ///
    /// # Errors
    /// It belongs to somebody else, others may write, or the system refuses.
    fn prepare(&self) -> Result<(), StoreError> {
        for folder in [self.folder.clone(), self.wals(), self.segments_folder()] {
            place::own_folder(&folder)?;
            place::close_folder(&folder)?;
        }
        Ok(())
    }

    /// Logs, oldest first.
    pub(super) fn logs(&self) -> Result<Vec<PathBuf>, StoreError> {
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

    /// Hands over every tick and event that is in no segment yet, oldest log first; says what was damaged.
    ///
    /// # Errors
    /// A folder cannot be read. A damaged log is reported, not an error.
    pub fn fresh(&self, mut take: impl FnMut(Entry)) -> Result<Vec<Damage>, StoreError> {
        self.fresh_of_hosts(|_, entry| take(entry))
    }

    /// As [`Self::fresh`], with the host and boot that each entry is of.
    ///
    /// # Errors
    /// As [`Self::fresh`].
    pub fn fresh_of_hosts(
        &self,
        mut take: impl FnMut(&Host, Entry),
    ) -> Result<Vec<Damage>, StoreError> {
        let (logs, _) = again(|| self.fresh_logs())?;
        let logs = logs.iter();
        Ok(logs.filter_map(|log| log.entries(&mut take)).collect())
    }

    /// Logs that are in no segment yet, oldest first and open, and the segments that count.
    ///
    /// A writer makes segments of logs and removes those, so logs are opened before segments are listed.
    ///
    /// # Errors
    /// A folder cannot be read, or a log vanished meanwhile (`NotFound`): see [`again`].
    pub(super) fn fresh_logs(&self) -> Result<(Vec<OpenLog>, Vec<Segment>), StoreError> {
        let tails = self.tails();
        let open = |log: PathBuf| OpenLog::open(log, tails.as_deref());
        let logs: Result<Vec<OpenLog>, StoreError> = self.logs()?.into_iter().map(open).collect();
        let mut logs = logs?;
        let (segments, made) = segments::list(&self.segments_folder())?;
        logs.retain(|log| !made.contains(&id_of(&log.path)));
        // Its segment may be merged into another one by now, which does not name the log.
        match logs.iter().find(|log| !log.path.exists()) {
            Some(gone) => Err(vanished(&gone.path)),
            None => Ok((logs, segments)),
        }
    }
}

/// Something was there when it was listed, and is not any more.
pub(super) fn vanished(path: &Path) -> StoreError {
    io_error(path, "open")(io::ErrorKind::NotFound.into())
}

pub(super) fn is_vanished(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Looks again when something vanished between its listing and its opening.
pub(super) fn again<T>(mut look: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    const TRIES: usize = 5;
    for _ in 1..TRIES {
        match look() {
            Err(error) if is_vanished(&error) => {}
            other => return other,
        }
    }
    look()
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
    /// Who the processes of the last tick are: a key frame, and so each log, tells them all again.
    who: HashMap<(u32, u64), Identity>,
    dropped: u64,
    turned: bool,
}

/// What became of a tick or an event that was taken: it is never to be handed over again.
#[derive(Debug, Default)]
pub struct Pushed {
    /// It waits, because the disk took nothing; every tick tries again.
    pub unsynced: Option<StoreError>,
}

#[derive(Debug)]
struct Log {
    writer: WalWriter,
    encoder: Encoder,
    began: ClockPair,
    last: ClockPair,
    /// When the last key frame was written; `None`: the next frame is one.
    key_ms: Option<u64>,
    sync_ms: u64,
    /// The disk took nothing the last time: the next tick tries again.
    late: bool,
}

impl Log {
    /// Appends a frame, and makes it durable with `sync`; what kept it from the disk.
    fn push(
        &mut self,
        kind: u8,
        frame: &[u8],
        sync: bool,
    ) -> Result<Option<StoreError>, StoreError> {
        let refused = self.writer.push(kind, frame)?;
        let unsynced = match refused {
            None if sync => self.writer.sync().err(),
            refused => refused,
        };
        self.late = unsynced.is_some() || (self.late && !sync);
        Ok(unsynced)
    }
}

/// Moves the newest frames of logs that another writer left, as long as their old folder is known: nobody would look
/// for them there any more.
fn move_tails(from: &Path, to: &Path) -> Result<(), StoreError> {
    // What others can write to is not ours to believe.
    if place::check_folder(from).is_err() {
        return Ok(());
    }
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && path.extension().is_some_and(|end| end == "tail") {
            move_tail(&path, &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Copies a file; the copy is durable, and ours alone.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = place::open(from)?;
    let mut to = place::private_file(to)?;
    to.set_len(0)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// Moves a tail, mostly to another file system.
pub(super) fn move_tail(from: &Path, to: &Path) -> Result<(), StoreError> {
    let moved = || -> io::Result<()> {
        if fs::rename(from, to).is_err() {
            copy(from, to)?;
            fs::remove_file(from)?;
        }
        Ok(())
    };
    moved().map_err(io_error(from, "move the tail"))
}

/// Removes logs whose creation a kill ended: nothing is in them.
fn sweep_new(wals: &Path) {
    for entry in fs::read_dir(wals).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == NEW) {
            let _ = fs::remove_file(&path);
        }
    }
}

fn mono_ms(clock: &ClockPair) -> u64 {
    clock.mono_ns / 1_000_000
}

fn real_ms(clock: &ClockPair) -> i64 {
    clock.real_ns.div_euclid(1_000_000)
}

impl Recorder {
    /// Opens a store for writing.
    ///
    /// # Errors
    /// Another writer has it, it is another host's, it is not safe, or the system refuses.
    pub fn open(store: Store, host: Host) -> Result<Self, StoreError> {
        store.prepare()?;
        let path = store.lock();
        let lock = place::private_file(&path).map_err(io_error(&path, "open the lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StoreError::Busy {
                path: store.folder.clone(),
            });
        }
        let meta = match Meta::read(&store.folder)? {
            Some(meta) if !meta.is_of(&host) => {
                return Err(StoreError::OtherHost {
                    path: store.folder.clone(),
                    hostname: meta.hostname,
                });
            }
            known => {
                if known.is_none() {
                    store.check_owner(&host)?;
                }
                let meta = Meta::new(&host, &store.folder, store.next_tails());
                place::own_folder(&meta.tails)?;
                let before = known.as_ref().map(|known| known.tails_of(&store.folder));
                if let Some(before) = before.filter(|before| *before != meta.tails) {
                    move_tails(&before, &meta.tails)?;
                }
                if known.as_ref() != Some(&meta) {
                    meta.write(&store.folder)?;
                }
                meta
            }
        };
        sweep_new(&store.wals());
        Ok(Self {
            store,
            tails: meta.tails,
            host,
            _lock: lock,
            log: None,
            sequence: 0,
            who: HashMap::new(),
            dropped: 0,
            turned: false,
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

    /// Appends a tick; `urgent` ones are durable at once.
    ///
    /// # Errors
    /// It was not taken, and counts as [`Self::dropped`]: no log can be begun, or it is too large. The store stays
    /// valid, and the next tick tries again.
    pub fn push(&mut self, tick: &Tick, urgent: bool) -> Result<Pushed, StoreError> {
        let taken = self.take(tick, urgent).inspect_err(|_| self.dropped += 1);
        let unsynced = taken?;
        Ok(Pushed { unsynced })
    }

    fn take(&mut self, tick: &Tick, urgent: bool) -> Result<Option<StoreError>, StoreError> {
        let mut unfinished = None;
        self.learn(tick);
        let gone = self.log.as_ref().is_some_and(|log| log.writer.is_gone());
        if (gone || self.turns(&tick.clock))
            && let Some(log) = self.log.take()
        {
            let mut writer = log.writer;
            unfinished = match writer.sync() {
                Ok(()) => writer.finish().err(),
                Err(error) => {
                    // The others still stand in its tail.
                    self.dropped += writer.untold();
                    Some(error)
                }
            };
            self.turned = true;
        }
        let mut log = match self.log.take() {
            Some(log) => log,
            None => self.begin(&tick.clock)?,
        };
        let now = mono_ms(&tick.clock);
        let dropped = log.writer.relieve(EVENT);
        self.dropped += dropped;
        let key = dropped > 0
            || log.encoder.is_heavy()
            || (log.key_ms).is_none_or(|at| now.saturating_sub(at) >= KEY_EVERY_MS);
        let mut frame = BytesMut::new();
        if key {
            let whole = Tick {
                identities: self.who.values().cloned().collect(),
                ..tick.clone()
            };
            log.encoder.encode(&whole, true, &mut frame);
        } else {
            log.encoder.encode(tick, false, &mut frame);
        }
        log.last = tick.clock;
        let sync = urgent || log.late || now.saturating_sub(log.sync_ms) >= SYNC_EVERY_MS;
        let pushed = log.push(TICK, &frame, sync);
        if sync {
            log.sync_ms = now;
        }
        if pushed.is_err() {
            // The next frame cannot stand on this one.
            log.key_ms = None;
        } else if key {
            log.key_ms = Some(now);
        }
        self.log = Some(log);
        Ok(pushed?.or(unfinished))
    }

    /// Whether a log was finished since this was asked last, also where the tick behind it could not be taken:
    /// there is something to compact.
    pub fn turned(&mut self) -> bool {
        std::mem::take(&mut self.turned)
    }

    /// Remembers who the processes of a tick are, and forgets the others.
    fn learn(&mut self, tick: &Tick) {
        for identity in &tick.identities {
            let key = (identity.pid, identity.start_ticks.unwrap_or(0));
            // Frames have no mappings.
            let identity = Identity {
                mappings: Vec::new(),
                ..identity.clone()
            };
            self.who.insert(key, identity);
        }
        let processes = tick.sample.processes.iter();
        let live: HashSet<_> = processes.map(|one| (one.pid, one.start_ticks)).collect();
        self.who.retain(|key, _| live.contains(key));
        // Who comes and goes leaves marks in the table that count as room.
        if self.who.capacity() > 2 * self.who.len() + 64 {
            self.who.shrink_to_fit();
        }
    }

    /// Ticks that are lost: no log could take them, or they were given up because the disk took none for too long.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Appends an event, durable at once where the disk takes it. It stands in the log of the last tick.
    ///
    /// # Errors
    /// It was not taken: before the first tick there is no log for it, or it is too large.
    pub fn event(&mut self, event: &Event) -> Result<Pushed, StoreError> {
        let path = &self.store.folder;
        let bytes = serde_json::to_vec(event)
            .map_err(|error| io_error(path, "write an event")(error.into()))?;
        let Some(log) = self.log.as_mut() else {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "no tick was written yet");
            return Err(io_error(path, "write an event")(error));
        };
        let unsynced = log.push(EVENT, &bytes, true)?;
        Ok(Pushed { unsynced })
    }

    fn begin(&mut self, clock: &ClockPair) -> Result<Log, StoreError> {
        // Somebody may have removed the tails: they are made again. Without the store itself the log says so.
        place::own_folder(&self.tails)?;
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
            path,
            tail: Some(tail(&self.tails, &id)),
            id,
            host: self.host.clone(),
        })?;
        Ok(Log {
            writer,
            encoder: Encoder::default(),
            began: *clock,
            last: *clock,
            key_ms: None,
            sync_ms: mono_ms(clock),
            late: false,
        })
    }

    /// Makes everything durable, and ends.
    ///
    /// # Errors
    /// The system refuses.
    pub fn close(mut self) -> Result<(), StoreError> {
        if let Some(log) = self.log.take() {
            log.writer.finish()?;
        }
        place::leave(&self.tails);
        Ok(())
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
