//! The processes that eat memory: this same file, started under a name that tells them apart.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// What a child is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    /// Its `comm`.
    pub name: &'a str,
    /// cgroup.procs of the group it enters before it allocates anything.
    pub procs: Option<&'a str>,
    /// Its oom_score_adj.
    pub adj: i32,
    /// MiB after which it stops and says `ready`; 0: it goes on until it is killed.
    pub mib: u64,
}

/// A started child.
#[derive(Debug)]
pub(crate) struct Eater {
    /// The process.
    pub child: Child,
    /// Its `comm`.
    pub name: String,
}

impl Order<'_> {
    /// Starts the child; one that stops growing is waited for until it has.
    pub(crate) fn start(&self) -> anyhow::Result<Eater> {
        let path = format!("/{}", self.name);
        if fs::symlink_metadata(&path).is_err() {
            std::os::unix::fs::symlink("/init", &path)?;
        }
        let mut child = Command::new(&path)
            .arg(self.procs.unwrap_or(""))
            .arg(self.adj.to_string())
            .arg(self.mib.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {path}"))?;
        if self.mib > 0 {
            let out = child.stdout.take().context("no pipe")?;
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line)?;
            if line.trim() != "ready" {
                bail!("{} ended before it was ready", self.name);
            }
        }
        Ok(Eater {
            child,
            name: self.name.to_owned(),
        })
    }
}

impl Eater {
    /// Waits until the child is dead of SIGKILL.
    pub(crate) fn wait_killed(&mut self, limit: Duration) -> anyhow::Result<()> {
        use std::os::unix::process::ExitStatusExt as _;
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                if status.signal() == Some(libc::SIGKILL) {
                    return Ok(());
                }
                bail!("{} ended with {status} instead of being killed", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} was not killed within {limit:?}", self.name)
    }
}

/// The child's side: `NAME CGROUP.PROCS OOM_SCORE_ADJ MIB`, or another role by its first word.
pub(crate) fn run() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("leave") => return Ok(()),
        Some("subject") => return crate::subject::run(args.get(1).map(String::as_str)),
        Some("thrash") => return crate::plane::thrash(&args[1..]),
        Some(role @ ("leak" | "hold")) => return crate::risk::child(role == "leak", args.get(1)),
        _ => {}
    }
    let [procs, adj, mib] = args.as_slice() else {
        bail!("expected: CGROUP.PROCS OOM_SCORE_ADJ MIB");
    };
    if !procs.is_empty() {
        fs::write(procs, std::process::id().to_string())
            .with_context(|| format!("cannot enter {procs}"))?;
    }
    fs::write("/proc/self/oom_score_adj", adj).context("cannot set oom_score_adj")?;
    eat(mib.parse().context("MIB is no number")?)
}

fn eat(mib: u64) -> anyhow::Result<()> {
    let mut held = Vec::new();
    while mib == 0 || held.len() < usize::try_from(mib)? {
        held.push(vec![1_u8; 1 << 20]);
        // Slow enough that a sampler sees it grow.
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut out = std::io::stdout();
    out.write_all(b"ready\n")?;
    out.flush()?;
    loop {
        std::thread::sleep(Duration::from_secs(3600));
        // Keeps the memory in use, and so from being freed before the end.
        std::hint::black_box(&held);
    }
}
