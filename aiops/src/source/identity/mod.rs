//! Who every process is, also when it is already gone.
//!
//! At the moment of a kill /proc/PID is emptied within microseconds, so a table is kept: filled by a
//! scan at the start, kept up by the kernel's fork, exec and exit hooks ([`Life`]), refreshed on
//! request while the process still lives. One thread owns the table; requests go before the reading
//! of new programs, so that a storm of forks does not delay them.

mod read;
mod table;
#[cfg(test)]
mod tests;
mod users;

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use self::table::Table;
pub use self::users::Users;
pub use self::users::identify;
pub use self::users::identify_mapped;
pub use self::users::identify_open;
use super::Life;
use super::LifeKind;
use super::Sink;
use super::buildid;
use super::clock::mono_ns;
use crate::model::Identity;
use crate::model::Item;

/// How often the table is compared with /proc, for hooks may lose records.
const SWEEP: Duration = Duration::from_secs(30);
/// How often the feeding thread looks whether it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(250);
/// Processes that wait for being read; more than these are read when they are asked for.
const MAX_WAITING: usize = 4096;
/// Identities remembered as sent.
const MAX_SENT: usize = 4096;

/// Kernel's `start_boottime` (ns) as clock ticks, rounded down as in /proc/PID/stat (`nsec_to_clock_t`).
#[must_use]
pub fn start_ticks(start_ns: u64) -> u64 {
    let per_second = u128::from(rustix::param::clock_ticks_per_second());
    u64::try_from(u128::from(start_ns) * per_second / 1_000_000_000).unwrap_or(u64::MAX)
}

enum Message {
    Life(Life),
    /// An answer is always sent.
    Request(u32, Option<u64>),
    /// An answer is sent when it says something new.
    Refresh(u32, Option<u64>),
    Stop,
}

/// The running table: send requests, get [`Item::Identity`] in the sink.
#[derive(Debug)]
pub struct IdentityTable {
    sender: mpsc::Sender<Message>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl IdentityTable {
    /// Starts the table over ROOT/proc; `lives` come from the kernel hooks.
    ///
    /// # Panics
    /// When the system has no thread left, as `std::thread::spawn`.
    #[must_use]
    pub fn spawn(root: PathBuf, lives: mpsc::Receiver<Life>, sink: Sink) -> Self {
        let (sender, messages) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (feeder, feeder_stop) = (sender.clone(), Arc::clone(&stop));
        let threads = vec![
            std::thread::spawn(move || feed(&lives, &feeder, &feeder_stop)),
            std::thread::spawn(move || Worker::new(root, sink).run(&messages)),
        ];
        Self {
            sender,
            stop,
            threads,
        }
    }

    /// Asks for a process: `start_ns` of the process or of any of its threads, ns since boot. The answer
    /// is an [`Item::Identity`], unless the process is not known.
    pub fn request(&self, pid: u32, start_ns: Option<u64>) {
        // A closed channel means that the table has stopped.
        let _ = self.sender.send(Message::Request(pid, start_ns));
    }

    /// Reads a process that may be killed soon, so that it is known afterwards. What was sent before is
    /// not sent again.
    pub fn refresh(&self, pid: u32, start_ns: Option<u64>) {
        let _ = self.sender.send(Message::Refresh(pid, start_ns));
    }

    /// Answers what was asked, then ends the threads.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.sender.send(Message::Stop);
        for thread in self.threads {
            // A panic there was reported by itself already.
            let _ = thread.join();
        }
    }
}

fn feed(lives: &mpsc::Receiver<Life>, sender: &mpsc::Sender<Message>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match lives.recv_timeout(STOP_CHECK) {
            Ok(life) => {
                if sender.send(Message::Life(life)).is_err() {
                    return;
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Worker {
    root: PathBuf,
    sink: Sink,
    table: Table,
    build_ids: buildid::Cache,
    waiting: VecDeque<u32>,
    sent: HashMap<(u32, Option<u64>), u64>,
    swept: Instant,
}

impl Worker {
    fn new(root: PathBuf, sink: Sink) -> Self {
        Self {
            root,
            sink,
            table: Table::default(),
            build_ids: buildid::Cache::default(),
            waiting: VecDeque::new(),
            sent: HashMap::new(),
            swept: Instant::now(),
        }
    }

    fn run(mut self, messages: &mpsc::Receiver<Message>) {
        // The scan takes 0.1 ms per process: requests are served in between.
        self.waiting = self.pids().unwrap_or_default().into_iter().collect();
        loop {
            let next = if self.waiting.is_empty() {
                messages.recv_timeout(SWEEP)
            } else {
                messages.try_recv().map_err(|error| match error {
                    mpsc::TryRecvError::Empty => mpsc::RecvTimeoutError::Timeout,
                    mpsc::TryRecvError::Disconnected => mpsc::RecvTimeoutError::Disconnected,
                })
            };
            match next {
                Ok(Message::Life(life)) => self.live(&life),
                Ok(Message::Request(pid, start_ns)) => self.answer(pid, start_ns, true),
                Ok(Message::Refresh(pid, start_ns)) => self.answer(pid, start_ns, false),
                Ok(Message::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => self.read_one(),
            }
            if self.swept.elapsed() >= SWEEP {
                self.sweep();
            }
        }
    }

    fn live(&mut self, life: &Life) {
        let ticks = life.start_ns.map(start_ticks);
        let comm = life.comm.as_bytes();
        match life.kind {
            LifeKind::Fork { parent } => {
                if !self.table.knows(parent) {
                    self.wait_for(life.pid);
                }
                self.table.fork(life.pid, parent, ticks, comm, mono_ns());
            }
            LifeKind::Exec => {
                self.table.exec(life.pid, ticks, comm);
                self.wait_for(life.pid);
            }
            LifeKind::Exit => self.table.end(life.pid, mono_ns()),
        }
    }

    fn wait_for(&mut self, pid: u32) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(pid);
        }
    }

    fn read_one(&mut self) {
        if let Some(pid) = self.waiting.pop_front()
            && let Ok(facts) = read::facts(&self.root, pid, None)
            && !facts.exiting
        {
            self.table.learn(pid, facts, mono_ns());
        }
    }

    fn answer(&mut self, pid: u32, start_ns: Option<u64>, always: bool) {
        let ticks = start_ns.map(start_ticks);
        let read = read::facts(&self.root, pid, Some(&mut self.build_ids));
        let now = mono_ns();
        if let Ok(facts) = read
            // Else the pid belongs to a newer process.
            && ticks.is_none_or(|thread| facts.start_ticks <= thread)
        {
            let ended = self.table.find(pid, Some(facts.start_ticks));
            let ended = ended.is_some_and(|entry| entry.has_ended(facts.start_ticks));
            if !(facts.exiting && ended) {
                self.table.learn(pid, facts, now);
            }
        }
        if let Some(entry) = self.table.find(pid, ticks) {
            let identity = entry.identity(now);
            self.send(identity, always);
        }
    }

    fn send(&mut self, identity: Identity, always: bool) {
        let key = (identity.pid, identity.start_ticks);
        let print = fingerprint(&identity);
        if self.sent.len() >= MAX_SENT {
            self.sent.clear();
        }
        if self.sent.insert(key, print) != Some(print) || always {
            // A closed sink means that the session is over.
            let _ = self.sink.send(Item::Identity(identity));
        }
    }

    fn sweep(&mut self) {
        self.swept = Instant::now();
        let pids = self.pids();
        self.table.sweep(mono_ns(), pids.as_ref());
        // Born without a word: a fork record was lost.
        for pid in pids.unwrap_or_default() {
            if !self.table.knows(pid) {
                self.wait_for(pid);
            }
        }
    }

    /// Process ids in ROOT/proc; `None` when it cannot be listed.
    fn pids(&self) -> Option<HashSet<u32>> {
        let folder = std::fs::read_dir(self.root.join("proc")).ok()?;
        let names = folder.flatten().map(|entry| entry.file_name());
        Some(
            names
                .filter_map(|name| name.to_str()?.parse().ok())
                .collect(),
        )
    }
}

/// Everything but the time of reading.
fn fingerprint(identity: &Identity) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Identity {
        ppid,
        comm,
        cmdline,
        exe,
        uid,
        cgroup,
        mappings,
        ..
    } = identity;
    (ppid, comm, cmdline, exe, uid, cgroup, mappings).hash(&mut hasher);
    hasher.finish()
}
