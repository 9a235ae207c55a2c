//! One machine, from power on to its verdict.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::kernels::Kernel;

/// The emulator.
pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// A boot with its scenario takes a quarter of a minute on an idle machine. Process 1 gives up on
/// anything that hangs before this, so what reaches it has died.
const LIMIT: Duration = Duration::from_secs(240);

/// Named byte strings that process 1 sent (tests/vm/init/src/frames.rs).
pub(crate) type Frames = BTreeMap<String, Vec<u8>>;

/// How a machine ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// It said all that it had to say.
    Frames(Frames),
    /// It died, or hung, before. The reason, with the end of its console.
    NoVerdict(String),
}

/// Is the emulator there?
pub(crate) fn has_qemu() -> bool {
    let version = Command::new(QEMU)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Boots a machine. `log` is the stem of the files that keep its console and what it sent.
pub(crate) fn boot(
    kernel: &Kernel,
    image: &Path,
    scenario: &str,
    log: &Path,
) -> anyhow::Result<Ending> {
    let console = with_suffix(log, "console");
    let sent = with_suffix(log, "frames");
    let _ = fs::remove_file(&sent);
    let mut machine = Machine(start(kernel, image, scenario, &console, &sent)?);
    let begun = Instant::now();
    let ended = loop {
        if let Some(status) = machine.0.try_wait()? {
            break format!("QEMU ended ({status})");
        }
        // A machine that has said everything but does not go down need not be waited for.
        if complete(&sent) {
            std::thread::sleep(Duration::from_millis(300));
            break "done".to_owned();
        }
        if begun.elapsed() > LIMIT {
            break format!("nothing after {} s", LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    drop(machine);
    let bytes = fs::read(&sent).unwrap_or_default();
    match parse(&bytes) {
        Some(frames) => Ok(Ending::Frames(frames)),
        None => Ok(Ending::NoVerdict(format!(
            "{ended}; {}",
            last_lines(&console)
        ))),
    }
}

/// A QEMU that does not outlive the chore's interest in it.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(
    kernel: &Kernel,
    image: &Path,
    scenario: &str,
    console: &Path,
    sent: &Path,
) -> anyhow::Result<Child> {
    // QEMU 7.2 has two weak spots: kernel 6.12 dies in CMPXCHG16B, and kernels die while they patch
    // their own text when guest CPUs run on host threads of their own.
    let memory = if scenario == "global" { "384M" } else { "512M" };
    let append = format!(
        "console=ttyS0 loglevel=5 panic=-1 oops=panic log_buf_len=4M \
         scenario={scenario}"
    );
    // Two nodes of one CPU and half of the memory each.
    let nodes: &[&str] = match scenario {
        "numa" => &[
            "-object",
            "memory-backend-ram,id=m0,size=256M",
            "-object",
            "memory-backend-ram,id=m1,size=256M",
            "-numa",
            "node,nodeid=0,cpus=0,memdev=m0",
            "-numa",
            "node,nodeid=1,cpus=1,memdev=m1",
        ],
        _ => &[],
    };
    Command::new(QEMU)
        .args(nodes)
        .args([
            "-cpu",
            "max,-cx16",
            "-accel",
            "tcg,thread=single",
            "-smp",
            "2",
        ])
        .args([
            "-m",
            memory,
            "-display",
            "none",
            "-monitor",
            "none",
            "-no-reboot",
            "-nodefaults",
        ])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", sent.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .arg("-append")
        .arg(append)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(with_suffix(console, "qemu"))?)
        .spawn()
        .context("cannot start QEMU")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn complete(sent: &Path) -> bool {
    fs::read(sent).is_ok_and(|bytes| bytes.ends_with(b"@frame end 0\n\n"))
}

/// All frames, or `None` without the closing one.
fn parse(mut bytes: &[u8]) -> Option<Frames> {
    let mut frames = Frames::new();
    loop {
        let line_end = bytes.iter().position(|&byte| byte == b'\n')?;
        let header = std::str::from_utf8(&bytes[..line_end]).ok()?;
        let mut words = header.strip_prefix("@frame ")?.split(' ');
        let (name, length) = (words.next()?, words.next()?.parse::<usize>().ok()?);
        if name == "end" {
            return Some(frames);
        }
        let content = bytes.get(line_end + 1..line_end + 1 + length)?;
        frames.insert(name.to_owned(), content.to_vec());
        bytes = bytes.get(line_end + 2 + length..)?;
    }
}

/// What the console said of a crash, or else said last.
fn last_lines(console: &Path) -> String {
    const CRASH: &[&str] = &[
        "Kernel panic",
        "BUG:",
        "Oops",
        "RIP: 0010",
        "invalid opcode",
    ];
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let is_crash = |line: &&str| CRASH.iter().any(|word| line.contains(word));
    let crash: Vec<&str> = text.lines().filter(is_crash).take(4).collect();
    if !crash.is_empty() {
        return format!("the kernel crashed: {}", crash.join(" / "));
    }
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(4);
    format!("console ends: {}", lines[start..].join(" / "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_by_their_lengths() {
        let bytes = b"@frame live 9\n{\"a\":\n1}\n\n@frame empty 0\n\n@frame end 0\n\n";
        let frames = parse(bytes).expect("closed");
        assert_eq!(frames["live"], b"{\"a\":\n1}\n");
        assert_eq!(frames["empty"], b"");
    }

    #[test]
    fn a_machine_that_died_half_way_gave_no_verdict() {
        let whole = b"@frame live 4\nabcd\n@frame end 0\n";
        assert!(parse(whole).is_some());
        for cut in 0..whole.len() - 1 {
            assert!(parse(&whole[..cut]).is_none(), "cut at {cut}");
        }
    }
}
