//! Reads a log: what stands in it, and what of it is lost.

use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::fs::flock;

use super::Event;
use super::Recovered;
use super::StoreError;
use super::Tick;
use super::error::NOT_REGULAR;
use super::error::READ_LOG;
use super::error::io_error;
use super::place;
use super::wal::read_open;
use crate::model::Host;

/// Frames of this kind are ticks.
pub(super) const TICK: u8 = 1;
/// Frames of this kind are events, as JSON.
pub(super) const EVENT: u8 = 2;

/// A log whose files are open: a writer that removes them takes nothing away.
#[derive(Debug)]
pub(super) struct OpenLog {
    pub(super) path: PathBuf,
    /// `None`: something else has its name, a pipe or a link.
    log: Option<File>,
    tail: Option<File>,
}

impl OpenLog {
    pub(super) fn open(path: PathBuf, tails: Option<&Path>) -> Result<Self, StoreError> {
        let log = match place::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            other => Some(other.map_err(io_error(&path, "open"))?),
        };
        let tail = tails.and_then(|tails| place::open(&tail(tails, &id_of(&path))).ok());
        Ok(Self { path, log, tail })
    }

    /// Takes the lock that the writer holds; `false`: it is being written.
    pub(super) fn lock(&self) -> bool {
        let lock = |log| flock(log, FlockOperation::NonBlockingLockExclusive).is_ok();
        self.log.as_ref().is_none_or(lock)
    }

    /// Hands over what it holds, with the host that wrote it.
    pub(super) fn entries(&self, take: &mut dyn FnMut(&Host, Entry)) -> Option<Damage> {
        decode(&self.path, self.read(), take)
    }

    fn read(&self) -> Result<Recovered, StoreError> {
        match &self.log {
            Some(log) => read_open(&self.path, log, self.tail.as_ref()),
            None => {
                let odd = io::Error::new(io::ErrorKind::InvalidData, NOT_REGULAR);
                Err(io_error(&self.path, READ_LOG)(odd))
            }
        }
    }
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Figures of a moment.
    Tick(Box<Tick>),
    /// What happened.
    Event(Event),
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
    /// Events that cannot be read.
    pub lost_events: u64,
    /// Nothing of it could be read, and why.
    pub error: Option<String>,
}

pub(super) fn id_of(log: &Path) -> String {
    let stem = log.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

pub(super) fn tail(tails: &Path, id: &str) -> PathBuf {
    tails.join(format!("{id}.tail"))
}

/// Hands over what a log holds, with the host that wrote it.
///
/// # Errors
/// The system cannot open or read it, or it is of a later aiops; a damaged one is told, not an error.
pub(super) fn entries_of_hosts(
    log: &Path,
    tails: Option<&Path>,
    take: &mut dyn FnMut(&Host, Entry),
) -> Result<Option<Damage>, StoreError> {
    match OpenLog::open(log.to_path_buf(), tails)?.read() {
        Err(error) if error.is_of_log() => Err(error),
        found => Ok(decode(log, found, take)),
    }
}

fn decode(
    log: &Path,
    found: Result<Recovered, StoreError>,
    take: &mut dyn FnMut(&Host, Entry),
) -> Option<Damage> {
    let mut damage = Damage {
        path: log.to_path_buf(),
        lost_bytes: 0,
        lost_ticks: 0,
        lost_events: 0,
        error: None,
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            damage.error = Some(error.reason());
            return Some(damage);
        }
    };
    damage.lost_bytes = found.lost_bytes;
    let mut decoder = found.decoder();
    for (index, (kind, payload)) in found.frames.iter().enumerate() {
        if found.gaps.contains(&index) {
            decoder.lost();
        }
        if *kind == EVENT {
            match serde_json::from_slice(payload) {
                Ok(event) => take(&found.host, Entry::Event(event)),
                Err(_) => damage.lost_events += 1,
            }
            continue;
        }
        if *kind != TICK {
            continue;
        }
        match decoder.decode(payload) {
            Ok(Some(tick)) => take(&found.host, Entry::Tick(Box::new(tick))),
            Ok(None) => damage.lost_ticks += 1,
            Err(_) => {
                damage.lost_ticks += 1;
                decoder.lost();
            }
        }
    }
    (damage.lost_bytes + damage.lost_ticks + damage.lost_events > 0).then_some(damage)
}
