//! Everything that is said on stderr, and the exit code: one place for prefix, hints and quiet mode.
//!
//! An error is one line `error: what, which thing` and, where a remedy is known, one line `hint: what to
//! do`. Texts may hold names that another program chose, so they are escaped here.

use std::fmt;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use crate::render::escape;
use crate::render::width;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: wrong usage.
    Usage,
    /// 3: done, but incomplete (`--strict`).
    Incomplete,
    /// 10: findings of severity warning (`--exit-code`).
    Warning,
    /// 20: findings of severity critical (`--exit-code`).
    Critical,
}

impl Exit {
    /// The process' exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Warning => 10,
            Self::Critical => 20,
        }
    }
}

/// An error with what to do about it. Built by [`hint`]; carried in an error chain.
#[derive(Debug)]
pub struct Hint {
    remedy: String,
    source: anyhow::Error,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)
    }
}

impl std::error::Error for Hint {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

/// Adds what to do about it to an error.
pub fn hint(error: impl Into<anyhow::Error>, remedy: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Hint {
        remedy: remedy.into(),
        source: error.into(),
    })
}

/// A failed write to stdout.
#[derive(Debug)]
struct Stdout(std::io::Error);

impl fmt::Display for Stdout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write to stdout: {}", self.0)
    }
}

impl std::error::Error for Stdout {}

/// Says of a failed write that it was to stdout; its kind (a broken pipe) stays.
pub fn stdout_error(error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), Stdout(error))
}

fn is_stdout(cause: &(dyn std::error::Error + 'static)) -> bool {
    let io = cause.downcast_ref::<std::io::Error>();
    io.and_then(std::io::Error::get_ref)
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Stdout>)
}

static QUIET: AtomicBool = AtomicBool::new(false);
static VERBOSE: AtomicU8 = AtomicU8::new(0);

/// Sets `-q` and the number of `-v`. With `-v`, what the BPF programs say through the `log` crate is shown.
pub fn set_verbosity(quiet: bool, verbose: u8) {
    QUIET.store(quiet, Ordering::Relaxed);
    VERBOSE.store(verbose, Ordering::Relaxed);
    if verbose > 0 && log::set_logger(&KernelSide).is_ok() {
        log::set_max_level(if verbose > 1 {
            log::LevelFilter::Trace
        } else {
            log::LevelFilter::Debug
        });
    }
}

/// Where the `log` crate's messages go.
struct KernelSide;

impl log::Log for KernelSide {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        line("bpf: ", &record.args().to_string());
    }

    fn flush(&self) {}
}

/// How many `-v` were given.
pub fn verbosity() -> u8 {
    VERBOSE.load(Ordering::Relaxed)
}

/// A line of [`progress`] stands on the terminal.
static PROGRESS: AtomicBool = AtomicBool::new(false);

fn line(prefix: &str, text: &str) {
    let wipe = if PROGRESS.swap(false, Ordering::Relaxed) {
        WIPE
    } else {
        ""
    };
    // Nobody can be told when stderr is gone.
    let _ = writeln!(
        std::io::stderr().lock(),
        "{wipe}{prefix}{}",
        escape::plain(text)
    );
}

/// To the beginning of the line, and nothing behind it.
const WIPE: &str = "\r\x1b[K";

/// Whether [`progress`] shows anything: stderr is a terminal, and not quiet.
#[must_use]
pub fn shows_progress() -> bool {
    std::io::stderr().is_terminal() && !QUIET.load(Ordering::Relaxed)
}

/// One line on the terminal that the next one replaces; an empty text removes it.
pub fn progress(text: &str) {
    if !shows_progress() {
        return;
    }
    let columns = rustix::termios::tcgetwinsize(std::io::stderr())
        .map_or(0, |size| usize::from(size.ws_col))
        .max(40);
    let text = width::truncate(&escape::plain(text), columns - 1, "");
    PROGRESS.store(!text.is_empty(), Ordering::Relaxed);
    let mut stderr = std::io::stderr().lock();
    // Nobody can be told when stderr is gone.
    let _ = write!(stderr, "{WIPE}{text}").and_then(|()| stderr.flush());
}

/// Tells what is going on; silent under `-q`.
pub fn note(text: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        line("", text);
    }
}

/// Tells what a process of ours said, which chose its own prefix; `-q` does not silence it.
pub fn forward(text: &str) {
    line("", text);
}

/// Tells what only `-v` wants to know.
pub fn detail(text: &str) {
    if verbosity() > 0 {
        line("", text);
    }
}

/// Warns; `-q` does not silence it.
pub fn warn(text: &str) {
    line("warning: ", text);
}

/// Prints an error with its chain and its hint, and says how the program ends. A broken pipe is silent.
#[must_use]
pub fn report_error(error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        return Exit::Done;
    }
    line("error: ", &format!("{error:#}"));
    let hints = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<Hint>());
    if let Some(hint) = hints.last() {
        line("hint: ", &hint.remedy);
    } else if error.chain().any(is_stdout) {
        line(
            "hint: ",
            "make room where the output goes, or send it to another file",
        );
    }
    Exit::Failed
}

/// Whether the reader of stdout has gone away.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let inner = cause
            .downcast_ref::<Hint>()
            .and_then(|hint| hint.source.downcast_ref());
        let io: Option<&std::io::Error> = inner.or_else(|| cause.downcast_ref());
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_broken_pipe_is_found_below_context_and_hint() {
        let pipe = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let deep = Err::<(), _>(hint(pipe(), "none"))
            .context("printing")
            .unwrap_err();
        assert!(is_broken_pipe(&deep));
        assert_eq!(report_error(&deep), Exit::Done);
        let other = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert!(!is_broken_pipe(&hint(other, "none")));
    }
}
