//! Programs that record the host all the time, ours and its peers: how each is started, and what it costs.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Bench;
use crate::util;

/// How long one may take to end in good order.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Own,
    OwnMetrics,
    Atop,
    Below,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Own, Self::OwnMetrics, Self::Atop, Self::Below];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Own => "aiops monitor memory",
            Self::OwnMetrics => "aiops monitor memory --metrics",
            Self::Atop => "atop -w",
            Self::Below => "below record --compress",
        }
    }

    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Own | Self::OwnMetrics)
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::OwnMetrics => "own-metrics",
            Self::Atop => "atop",
            Self::Below => "below",
        }
    }

    /// The command, with the interval and its own defaults for the rest.
    fn command(self, bench: &Bench, folder: &Path, interval: &str) -> anyhow::Result<Command> {
        Ok(match self {
            Self::Atop => {
                let mut atop = Command::new(util::tool("atop").context("not installed")?);
                atop.arg("-w").arg(folder.join("raw"));
                atop.arg(interval.trim_end_matches('s'));
                atop
            }
            Self::Below => {
                let mut below = Command::new(below()?);
                below.arg("--config").arg(below_config(folder)?);
                // Without its own BPF program, which does not load on every kernel.
                below.args(["record", "--disable-exitstats", "--compress"]);
                below.args(["--interval-s", interval.trim_end_matches('s')]);
                below
            }
            Self::Own | Self::OwnMetrics => {
                let mut own = Command::new(&bench.aiops);
                own.args(["monitor", "memory", "--config", "/dev/null"]);
                own.args(["--interval", interval, "--store"]);
                own.arg(folder.join("store"));
                if self == Self::OwnMetrics {
                    own.args(["--metrics", "127.0.0.1:0"]);
                }
                own
            }
        })
    }
}

/// `AIOPS_BELOW`, or the one on PATH.
pub(super) fn below() -> anyhow::Result<PathBuf> {
    match std::env::var_os("AIOPS_BELOW") {
        Some(path) => Ok(path.into()),
        None => util::tool("below").context("not installed (nor named by AIOPS_BELOW)"),
    }
}

/// Writes its settings: it reads the unified hierarchy only, wherever that is mounted.
pub(super) fn below_config(folder: &Path) -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let root = unified(&mounts).context("no cgroup2 hierarchy is mounted")?;
    let config = folder.join("below.conf");
    let place = folder.display();
    let text =
        format!("log_dir = \"{place}\"\nstore_dir = \"{place}/store\"\ncgroup_root = \"{root}\"\n");
    fs::write(&config, text)?;
    Ok(config)
}

fn unified(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then_some(place)
    })
}

/// A recorder that runs. It is ended in good order, and what it wrote is removed.
pub(super) struct Recorder {
    pub(super) kind: Kind,
    pub(super) folder: PathBuf,
    child: Child,
    ended: bool,
}

impl Recorder {
    pub(super) fn start(bench: &Bench, kind: Kind, interval: &str) -> anyhow::Result<Self> {
        let folder = bench.path(&format!("{}-{interval}", kind.folder()));
        fs::create_dir_all(&folder)?;
        let child = kind
            .command(bench, &folder, interval)?
            .env("LC_ALL", "C.UTF-8")
            .env_remove("AIOPS_LANG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("said"))?)
            .spawn()
            .context("cannot be started")?;
        Ok(Self {
            kind,
            folder,
            child,
            ended: false,
        })
    }

    pub(super) fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// Fails when it has ended, with what it said.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            self.ended = true;
            let said = fs::read_to_string(self.folder.join("said")).unwrap_or_default();
            bail!(
                "ended with {status}: {}",
                said.lines().next().unwrap_or_default()
            );
        }
        Ok(())
    }

    /// Ends it; what it wrote stays until it is dropped.
    pub(super) fn end(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        if let Some(pid) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it has cost so far.
    pub(super) fn reading(&self) -> anyhow::Result<Reading> {
        let pid = self.child.id();
        let (cpu_s, children_s) = cpu_s(&fs::read_to_string(format!("/proc/{pid}/stat"))?)?;
        Ok(Reading {
            cpu_s,
            children_s,
            written: number(&format!("/proc/{pid}/io"), "write_bytes:")?,
            kept: match self.kind {
                Kind::Atop => super::size(&self.folder.join("raw")),
                _ => super::folder_size(&self.store())?,
            },
        })
    }

    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        let status = format!("/proc/{}/status", self.child.id());
        Ok(Memory {
            rss_kb: number(&status, "VmRSS:")?,
            peak_kb: number(&status, "VmHWM:")?,
            anon_kb: number(&status, "RssAnon:")?,
            file_kb: number(&status, "RssFile:")?,
        })
    }

    /// Reads its metrics page, where it said that it is.
    pub(super) fn scrape(&self) -> anyhow::Result<()> {
        let said = fs::read_to_string(self.folder.join("said"))?;
        let place = said.lines().find_map(|line| {
            let rest = line.strip_prefix("metrics at http://")?;
            rest.strip_suffix("/metrics")
        });
        let mut stream = TcpStream::connect(place.context("no metrics port was told")?)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        anyhow::ensure!(page.contains("aiops_self_samples"), "no page of metrics");
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
        remove_tails(&self.store());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes the newest frames of a store that goes: they stand on a tmpfs, where the store says.
pub(crate) fn remove_tails(store: &Path) {
    let meta = fs::read(store.join("store.json")).unwrap_or_default();
    if let Ok(meta) = serde_json::from_slice::<serde_json::Value>(&meta)
        && let Some(tails) = meta["tails"].as_str()
    {
        let _ = fs::remove_dir_all(tails);
    }
}

/// What grows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// CPU time of the process itself, s.
    pub(super) cpu_s: f64,
    /// That of its children that have ended, s.
    pub(super) children_s: f64,
    /// Bytes that it had a device write.
    pub(super) written: u64,
    /// Bytes of its files.
    pub(super) kept: u64,
}

/// Resident memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    pub(super) rss_kb: u64,
    pub(super) peak_kb: u64,
    pub(super) anon_kb: u64,
    pub(super) file_kb: u64,
}

/// Of a line of /proc/PID/stat: CPU time of the process, and of its children that ended.
fn cpu_s(stat: &str) -> anyhow::Result<(f64, f64)> {
    let (_, rest) = stat.rsplit_once(") ").context("no stat")?;
    // utime, stime, cutime, cstime: fields 14 to 17; the state is field 3.
    let ticks: Vec<u64> = rest
        .split(' ')
        .skip(11)
        .take(4)
        .filter_map(|one| one.parse().ok())
        .collect();
    let [user, system, child_user, child_system] = ticks[..] else {
        bail!("stat is cut");
    };
    let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok((seconds(user + system), seconds(child_user + child_system)))
}

fn number(file: &str, key: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file).context("it has ended")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("no {key}"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_time_and_that_of_children_are_apart() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 2 3 4 100 50 30 20 20 0 1 0 5 6 7";
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let (own, children) = cpu_s(stat).expect("a line");
        assert!((own * per_second - 150.0).abs() < 1e-6, "{own}");
        assert!((children * per_second - 50.0).abs() < 1e-6, "{children}");
        assert!(cpu_s("7 (a) S 1").is_err());
    }

    #[test]
    fn the_unified_hierarchy_is_found() {
        let mounts = "cgroup /c/memory cgroup rw,memory 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n";
        assert_eq!(unified(mounts), Some("/c/unified"));
        assert_eq!(unified("proc /proc proc rw 0 0\n"), None);
    }
}
