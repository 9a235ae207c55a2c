//! Names of instruction pointers, after the fact and never in the tracer's own memory.
//!
//! Debug information costs tens of MiB, so a child process (`aiops symbolize`) reads it: one JSON line
//! per request on its stdin, one per reply on its stdout. It ends when a second passes without a
//! request. When it fails, addresses still get their module and offset.

mod debugfile;
mod kallsyms;
mod perfmap;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::resolve::Reply;
pub use self::resolve::Request;
pub use self::resolve::fallback;
pub use self::resolve::resolve;
use super::Sink;
use crate::model::Frame;
use crate::model::Item;
use crate::model::Mapping;
use crate::model::SymbolSet;
use crate::model::SymbolSpace;
use crate::model::Symbolized;

/// A child that takes longer is killed.
const PATIENCE: Duration = Duration::from_secs(10);
/// A child without work ends.
const IDLE: Duration = Duration::from_secs(1);
/// Kernel addresses remembered.
const MAX_KNOWN: usize = 4096;

/// Where functions of the running kernel are: name, first address, one past the last. None where addresses are
/// hidden.
#[must_use]
pub fn kernel_ranges(names: &[&str]) -> Vec<(String, u64, u64)> {
    let file = std::fs::File::open("/proc/kallsyms").map(BufReader::new);
    file.map_or_else(|_| Vec::new(), |file| kallsyms::ranges(file, names))
}

/// Answers requests, one JSON line each, until the input ends. A line that is no request ends it too.
///
/// # Errors
/// As reading and writing; `InvalidData` for a damaged request.
pub fn serve(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    for line in input.lines() {
        let request: Request = serde_json::from_str(&line?)?;
        serde_json::to_writer(&mut output, &resolve(&request))?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

/// The child's manners: last for the CPU, and an ordinary victim for the OOM killer, which the tracer
/// itself is not.
pub fn yield_to_others() {
    // Best effort: a child that may not do this still answers.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    let _ = rustix::process::nice(10);
}

/// The running resolver: answers are [`Item::Symbols`] in the sink.
#[derive(Debug)]
pub struct Resolver {
    sender: mpsc::Sender<Request>,
    pending: Arc<AtomicUsize>,
    hasty: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Resolver {
    /// Starts it; children are this program itself.
    #[must_use]
    pub fn spawn(sink: Sink) -> Self {
        Self::spawn_with(sink, || {
            let mut command = Command::new("/proc/self/exe");
            command.arg("symbolize");
            command
        })
    }

    /// Starts it with another child that speaks the protocol of [`serve`].
    pub fn spawn_with(sink: Sink, command: impl Fn() -> Command + Send + 'static) -> Self {
        let (sender, requests) = mpsc::channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let hasty = Arc::new(AtomicBool::new(false));
        let (left, hurry) = (Arc::clone(&pending), Arc::clone(&hasty));
        let thread = std::thread::spawn(move || work(&requests, &sink, (&left, &hurry), &command));
        Self {
            sender,
            pending,
            hasty,
            thread,
        }
    }

    /// Asks for kernel addresses.
    pub fn kernel(&self, ips: Vec<u64>) {
        self.ask(Request {
            space: SymbolSpace::Kernel,
            mappings: Vec::new(),
            ips,
        });
    }

    /// Asks for addresses of a process, which may be dead: its mappings as recorded.
    pub fn process(
        &self,
        pid: u32,
        start_ticks: Option<u64>,
        mappings: Vec<Mapping>,
        ips: Vec<u64>,
    ) {
        let space = SymbolSpace::Process { pid, start_ticks };
        self.ask(Request {
            space,
            mappings,
            ips,
        });
    }

    fn ask(&self, mut request: Request) {
        let used = |one: &Mapping| {
            request
                .ips
                .iter()
                .any(|ip| (one.start..one.end).contains(ip))
        };
        let used: Vec<Mapping> = request
            .mappings
            .iter()
            .filter(|one| used(one))
            .cloned()
            .collect();
        request.mappings = used;
        if request.ips.is_empty() {
            return;
        }
        self.pending.fetch_add(1, Ordering::AcqRel);
        if self.sender.send(request).is_err() {
            self.pending.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Requests that are not answered yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    /// Ends. What is still waiting gets its modules and offsets without a child; only the request that a
    /// child works on may take as long as its patience.
    pub fn stop(self) {
        self.hasty.store(true, Ordering::Relaxed);
        drop(self.sender);
        // A panic there was reported by itself already.
        let _ = self.thread.join();
    }
}

fn work(
    requests: &mpsc::Receiver<Request>,
    sink: &Sink,
    (pending, hasty): (&AtomicUsize, &AtomicBool),
    command: &dyn Fn() -> Command,
) {
    let mut helper: Option<Helper> = None;
    let mut kernel: HashMap<u64, Vec<Frame>> = HashMap::new();
    loop {
        let request = match &helper {
            Some(_) => requests.recv_timeout(IDLE),
            None => requests
                .recv()
                .map_err(|_| mpsc::RecvTimeoutError::Disconnected),
        };
        let request = match request {
            Ok(request) => request,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                helper = None;
                continue;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        let symbols = if hasty.load(Ordering::Relaxed) {
            fallback(&request)
        } else {
            answer(&request, &mut helper, &mut kernel, command)
        };
        // A closed sink means that the session is over.
        let _ = sink.send(Item::Symbols(SymbolSet {
            space: request.space,
            symbols,
        }));
        pending.fetch_sub(1, Ordering::AcqRel);
    }
}

fn answer(
    request: &Request,
    helper: &mut Option<Helper>,
    kernel: &mut HashMap<u64, Vec<Frame>>,
    command: &dyn Fn() -> Command,
) -> Vec<Symbolized> {
    let is_kernel = request.space == SymbolSpace::Kernel;
    if is_kernel && request.ips.iter().all(|ip| kernel.contains_key(ip)) {
        let known = |ip: &u64| Symbolized {
            ip: *ip,
            frames: kernel[ip].clone(),
        };
        return request.ips.iter().map(known).collect();
    }
    if helper.is_none() {
        *helper = Helper::start(command()).ok();
    }
    let reply = helper.as_mut().and_then(|helper| helper.ask(request));
    let Some(reply) = reply.filter(|reply| fits(reply, request)) else {
        *helper = None;
        return fallback(request);
    };
    if is_kernel {
        if kernel.len() > MAX_KNOWN {
            kernel.clear();
        }
        kernel.extend(reply.symbols.iter().map(|one| (one.ip, one.frames.clone())));
    }
    reply.symbols
}

fn fits(reply: &Reply, request: &Request) -> bool {
    let ips = reply.symbols.iter().map(|one| one.ip);
    ips.eq(request.ips.iter().copied()) && reply.symbols.iter().all(|one| !one.frames.is_empty())
}

/// A child and the thread that reads its lines. Dropped, it is killed: between requests it has nothing
/// to lose.
struct Helper {
    child: Child,
    replies: mpsc::Receiver<Reply>,
}

impl Helper {
    fn start(mut command: Command) -> io::Result<Self> {
        // A group of its own: Ctrl-C is for the tracer, which still waits for the last names.
        let kept = debugfile::VARIABLES.map(|name| (name, std::env::var_os(name)));
        let kept = kept
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        command.env_clear().envs(kept).process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let output = child.stdout.take();
        let (sender, replies) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = output
                .into_iter()
                .flat_map(|out| BufReader::new(out).lines());
            for line in lines.map_while(Result::ok) {
                let Ok(reply) = serde_json::from_str(&line) else {
                    return;
                };
                if sender.send(reply).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, replies })
    }

    fn ask(&mut self, request: &Request) -> Option<Reply> {
        let mut line = serde_json::to_vec(request).ok()?;
        line.push(b'\n');
        self.child.stdin.as_mut()?.write_all(&line).ok()?;
        self.replies.recv_timeout(PATIENCE).ok()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended by itself; waiting leaves no zombie in either case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
