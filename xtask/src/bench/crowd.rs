//! The processes that a recorder looks at: a crowd of which some change all the time, and ones that begin and end.
//!
//! All of the crowd read one pipe of ours. A byte wakes one of them, in turn, and it takes or gives back a piece of
//! memory; so the rate of bytes is the rate of changes. When this chore ends, however it ends, they end, too.

use std::fs;
use std::io::{PipeWriter, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::interrupt;

/// Hidden chore that a crowd consists of: `stir NAME`.
pub(crate) const STIR: &str = "stir";

/// What a process takes and gives back: more than allocators keep for themselves.
const PIECE: usize = 256 << 10;

/// The hidden chore: one byte, one change.
pub(crate) fn stir(args: &[String]) -> anyhow::Result<()> {
    let [name] = args else {
        anyhow::bail!("expected: {STIR} NAME");
    };
    // A name of its own, as programs of a host have.
    fs::write("/proc/self/comm", name)?;
    let mut held = Vec::new();
    // Not through std's buffer: that would take the others' bytes.
    while rustix::io::read(rustix::stdio::stdin(), &mut [0_u8; 1])? > 0 {
        held = if held.is_empty() {
            vec![1_u8; PIECE]
        } else {
            Vec::new()
        };
        std::hint::black_box(&held);
    }
    Ok(())
}

/// The crowd.
pub(super) struct Crowd {
    children: Vec<Child>,
    rate: Arc<AtomicU32>,
    stirring: Option<(Arc<AtomicBool>, thread::JoinHandle<PipeWriter>)>,
}

impl Crowd {
    /// So many processes, that stand still at first.
    pub(super) fn start(count: u32) -> anyhow::Result<Self> {
        // This very file, also when another was built in its place meanwhile.
        let program = "/proc/self/exe";
        let (reader, writer) = std::io::pipe()?;
        // The writer's thread comes first, so that a drop half-way closes the pipe.
        let (rate, stop) = (
            Arc::new(AtomicU32::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let stirring = thread::spawn({
            let (rate, stop) = (Arc::clone(&rate), Arc::clone(&stop));
            move || paced(&rate, &stop, writer)
        });
        let mut crowd = Self {
            children: Vec::new(),
            rate,
            stirring: Some((stop, stirring)),
        };
        for number in 0..count {
            interrupt::check()?;
            let child = Command::new(program)
                .args([STIR, &format!("work-{number}")])
                .stdin(reader.try_clone()?)
                .stdout(Stdio::null())
                .spawn()
                .context("a process of the crowd")?;
            crowd.children.push(child);
        }
        Ok(crowd)
    }

    /// How many thousandths of one change in a second.
    pub(super) fn stir(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// All of them are there.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for child in &mut self.children {
            ensure!(child.try_wait()?.is_none(), "one of the crowd has ended");
        }
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.stirring.take() {
            stop.store(true, Ordering::Relaxed);
            drop(thread.join());
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// Writes bytes at the rate, a tenth of a second's at a time.
fn paced(rate: &AtomicU32, stop: &AtomicBool, mut writer: PipeWriter) -> PipeWriter {
    const STEPS: u32 = 10;
    let step = Duration::from_secs(1) / STEPS;
    let mut next = Instant::now();
    // In thousandths.
    let mut owed = 0;
    while !stop.load(Ordering::Relaxed) {
        owed += rate.load(Ordering::Relaxed) / STEPS;
        let whole = owed / 1000;
        owed %= 1000;
        // Without readers there is nobody to stir.
        if whole > 0 && writer.write_all(&vec![0; whole as usize]).is_err() {
            break;
        }
        next += step;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    writer
}

/// Processes that begin and end.
pub(super) struct Churn {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<u64>>,
    began: Instant,
}

impl Churn {
    /// So many in a second; none without.
    pub(super) fn start(per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = (per_second > 0).then(|| {
            thread::spawn(move || {
                let pause = Duration::from_secs(1) / per_second;
                let mut next = Instant::now();
                let mut begun = 0;
                while !told.load(Ordering::Relaxed) {
                    // One that cannot be started is one less.
                    begun += u64::from(Command::new("true").status().is_ok());
                    next += pause;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                begun
            })
        });
        Self {
            stop,
            thread,
            began: Instant::now(),
        }
    }

    /// Ends it, and says how many there were in a second.
    pub(super) fn stop(mut self) -> Option<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let begun = self.thread.take()?.join().ok()?;
        Some(begun as f64 / self.began.elapsed().as_secs_f64())
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_at_the_rate() {
        use std::io::Read as _;
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let (rate, stop) = (
            Arc::new(AtomicU32::new(50_000)),
            Arc::new(AtomicBool::new(false)),
        );
        let thread = thread::spawn({
            let (rate, stop) = (Arc::clone(&rate), Arc::clone(&stop));
            move || paced(&rate, &stop, writer)
        });
        // Two steps of five each.
        reader.read_exact(&mut [0; 10]).expect("bytes");
        stop.store(true, Ordering::Relaxed);
        drop(thread.join().expect("ended"));
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).expect("the end");
        assert_eq!(rest.len() % 5, 0);
    }
}
