//! The two readers of ring buffers.
//!
//! The OOM ring's reader wakes with every mark: it runs with real-time priority where that is
//! permitted, waits on the ring alone and never touches /proc, which may block behind a dying
//! process. The reader of process lives looks every 50 ms; nothing depends on its speed. Both copy
//! what is there first, so that the ring is free again before anything is decoded.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use aya::maps::MapData;
use aya::maps::RingBuf;
use aya_log::EbpfLogger;
use bytes::BytesMut;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc as tokio_mpsc;

use super::decode::Record;
use super::decode::decode;
use crate::model::Item;
use crate::model::Nanos;
use crate::source::Life;
use crate::source::Sink;

/// Bytes copied out before decoding begins: 30 marks.
const BATCH_BYTES: usize = 64 * 1024;
/// Time between two looks at the ring of process lives.
const LIFE_PERIOD: Duration = Duration::from_millis(50);
/// Low among the real-time priorities: above every ordinary thread, below the kernel's own.
const FIFO_PRIORITY: i32 = 10;
/// How long a caller waits for a reader to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Asks a reader to take everything that is in its ring and to answer.
type Flush = mpsc::Sender<()>;

/// What a reader was asked while it ran, and how it is ended: by dropping the sender.
pub(super) struct Reader<S> {
    commands: S,
    thread: JoinHandle<()>,
}

/// The reader of the OOM ring.
pub(super) type OomReader = Reader<tokio_mpsc::UnboundedSender<Flush>>;
/// The reader of process lives.
pub(super) type LifeReader = Reader<mpsc::Sender<Flush>>;

/// Figures that the readers keep.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Records that could not be decoded.
    pub(super) undecodable: AtomicU64,
}

/// Records copied out of a ring, in memory that is used again.
struct Batch {
    bytes: BytesMut,
    /// End of each record in `bytes`, and when it was taken.
    ends: Vec<(usize, Nanos)>,
}

impl Batch {
    fn new() -> Self {
        Self {
            bytes: BytesMut::with_capacity(BATCH_BYTES),
            ends: Vec::with_capacity(BATCH_BYTES / 64),
        }
    }

    /// Takes records until the ring is empty or the batch is full. Whether it took any.
    fn take(&mut self, ring: &mut RingBuf<MapData>) -> bool {
        self.bytes.clear();
        self.ends.clear();
        while self.bytes.len() < BATCH_BYTES {
            let Some(record) = ring.next() else { break };
            self.bytes.extend_from_slice(&record);
            self.ends.push((self.bytes.len(), monotonic_ns()));
        }
        !self.ends.is_empty()
    }

    /// Decodes what was taken.
    fn decode(&self, counts: &Counts, mut each: impl FnMut(Record)) {
        let mut begin = 0;
        for (end, received_ns) in &self.ends {
            match decode(&self.bytes[begin..*end], *received_ns) {
                Ok(record) => each(record),
                Err(_) => {
                    counts.undecodable.fetch_add(1, Ordering::Relaxed);
                }
            }
            begin = *end;
        }
    }
}

/// CLOCK_MONOTONIC, the clock of `bpf_ktime_get_ns()`.
pub(super) fn monotonic_ns() -> Nanos {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

/// Starts the reader of the OOM ring. It returns when it runs, so that nothing is missed afterwards.
///
/// # Errors
/// When the thread or its event loop cannot be made.
pub(super) fn start_oom(
    ring: RingBuf<MapData>,
    sink: Sink,
    counts: Arc<Counts>,
) -> io::Result<OomReader> {
    let (commands, orders) = tokio_mpsc::unbounded_channel();
    let (started, ready) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("aiops-oom".to_owned())
        .spawn(move || {
            set_real_time();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(oom_loop(ring, &sink, &counts, orders, &started)),
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
    match ready.recv() {
        Ok(Ok(())) => Ok(Reader { commands, thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the reader of the OOM ring ended at once")),
    }
}

async fn oom_loop(
    ring: RingBuf<MapData>,
    sink: &Sink,
    counts: &Counts,
    mut orders: tokio_mpsc::UnboundedReceiver<Flush>,
    started: &mpsc::Sender<io::Result<()>>,
) {
    // SAFETY: the ring keeps its map, and so the same open descriptor, as long as it lives.
    let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    let mut ring = match registered {
        Ok(ring) => ring,
        Err(error) => return drop(started.send(Err(error.into()))),
    };
    let mut batch = Batch::new();
    // Whoever started this may have gone away meanwhile; then `orders` is closed.
    drop(started.send(Ok(())));
    loop {
        tokio::select! {
            biased;
            ready = ring.readable_mut() => {
                let Ok(mut guard) = ready else { return };
                // Cleared first: a record that comes while the ring is read makes it ready again.
                guard.clear_ready();
                drain_oom(ring.get_mut(), &mut batch, sink, counts);
            }
            order = orders.recv() => {
                drain_oom(ring.get_mut(), &mut batch, sink, counts);
                match order {
                    // Who asked may have stopped waiting.
                    Some(answer) => drop(answer.send(())),
                    None => return,
                }
            }
        }
    }
}

fn drain_oom(ring: &mut RingBuf<MapData>, batch: &mut Batch, sink: &Sink, counts: &Counts) {
    while batch.take(ring) {
        batch.decode(counts, |record| {
            if let Record::Event(event) = record {
                // A closed sink means that the session is over.
                drop(sink.send(Item::Event(event)));
            }
        });
    }
}

/// Starts the reader of process lives, which also passes on the programs' own messages.
///
/// # Errors
/// When the thread cannot be made.
pub(super) fn start_life(
    ring: RingBuf<MapData>,
    mut messages: Option<EbpfLogger<&'static dyn log::Log>>,
    lives: mpsc::Sender<Life>,
    counts: Arc<Counts>,
) -> io::Result<LifeReader> {
    let each = move |record| {
        if let Record::Life(life) = record {
            // Nobody keeps a table of identities any more.
            drop(lives.send(life));
        }
    };
    let more = move || {
        if let Some(messages) = &mut messages {
            messages.flush();
        }
    };
    start_poll("aiops-life", ring, counts, each, more)
}

/// Starts a reader of bulk events.
///
/// # Errors
/// When the thread cannot be made.
pub(super) fn start_bulk(
    ring: RingBuf<MapData>,
    sink: Sink,
    counts: Arc<Counts>,
) -> io::Result<LifeReader> {
    let each = move |record| {
        if let Record::Event(event) = record {
            // A closed sink means that the session is over.
            drop(sink.send(Item::Event(event)));
        }
    };
    start_poll("aiops-bulk", ring, counts, each, || {})
}

/// A reader that is not woken: it looks every [`LIFE_PERIOD`], and does `more` each time.
fn start_poll(
    name: &str,
    mut ring: RingBuf<MapData>,
    counts: Arc<Counts>,
    mut each: impl FnMut(Record) + Send + 'static,
    mut more: impl FnMut() + Send + 'static,
) -> io::Result<LifeReader> {
    let (commands, orders) = mpsc::channel::<Flush>();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let mut batch = Batch::new();
            loop {
                let order = orders.recv_timeout(LIFE_PERIOD);
                while batch.take(&mut ring) {
                    batch.decode(&counts, &mut each);
                }
                more();
                match order {
                    Ok(answer) => drop(answer.send(())),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
    Ok(Reader { commands, thread })
}

impl OomReader {
    /// Returns when every record that was in the ring has been sent on.
    pub(super) fn flush(&self) -> bool {
        let (answer, answered) = mpsc::channel();
        self.commands.send(answer).is_ok() && answered.recv_timeout(ANSWER_TIME).is_ok()
    }
}

impl LifeReader {
    /// Returns when every record that was in the ring has been sent on.
    pub(super) fn flush(&self) -> bool {
        let (answer, answered) = mpsc::channel();
        self.commands.send(answer).is_ok() && answered.recv_timeout(ANSWER_TIME).is_ok()
    }
}

impl<S> Reader<S> {
    /// Ends the reader after a last look into its ring. Whether it ended in order.
    pub(super) fn stop(self) -> bool {
        drop(self.commands);
        self.thread.join().is_ok()
    }
}

/// Real-time priority for the calling thread; stays as it is where that is not permitted.
fn set_real_time() -> bool {
    let param = libc::sched_param {
        sched_priority: FIFO_PRIORITY,
    };
    // SAFETY: 0 is the calling thread, and the parameter outlives the call.
    unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const param,
        ) == 0
    }
}
