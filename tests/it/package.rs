//! What is installed beside the program: the program takes its own sample of settings, every line of it.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A folder of its own, removed at the end.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_line_of_the_sample_of_settings_is_taken() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config.toml");
    let sample = fs::read_to_string(sample).expect("packaging/config.toml");
    let is_key =
        |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
    let keys: Vec<&str> = sample.lines().filter(|line| is_key(line)).collect();
    assert!(keys.len() >= 7, "{keys:?}");
    let folder = Folder(std::env::temp_dir().join(format!("aiops-package-{}", std::process::id())));
    fs::create_dir_all(&folder.0).expect("a folder");
    let config = folder.0.join("config.toml");
    let monitor = |text: String| {
        fs::write(&config, text).expect("written");
        Command::new(env!("CARGO_BIN_EXE_aiops"))
            .args([
                "--lang",
                "en",
                "monitor",
                "memory",
                "--no-bpf",
                "--duration",
                "200ms",
            ])
            // A port that is free, whatever else runs here.
            .args(["--metrics", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--store")
            .arg(folder.0.join("store"))
            .output()
            .expect("it starts")
    };
    let text: Vec<&str> = keys
        .iter()
        .map(|line| line.trim_start_matches('#'))
        .collect();
    let done = monitor(text.join("\n"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let done = monitor("intervall = \"5s\"\n".to_owned());
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("intervall"), "{said}");
}

/// A process of the test, ended with it.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the unit grants is enough: with its capabilities and no others, the hooks attach and the share of a process
/// of another user is read.
#[test]
fn the_capabilities_of_the_unit_are_enough() {
    let there = |program: &str| {
        let said = Command::new(program).arg("--version").output();
        said.is_ok_and(|output| output.status.success())
    };
    if !rustix::process::geteuid().is_root() || !there("setpriv") || !there("unshare") {
        println!("SKIPPED: needs root, setpriv and unshare (util-linux)");
        return;
    }
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/aiops.service");
    let unit = fs::read_to_string(unit).expect("packaging/aiops.service");
    let granted = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .expect("the capabilities");
    let mut set = "-all".to_owned();
    for name in granted.split(' ') {
        let name = name.strip_prefix("CAP_").expect("a capability");
        set.push_str(&format!(",+{}", name.to_lowercase()));
    }
    // tracefs is mounted for the service by systemd; here, in a mount namespace that ends with the program.
    let with_them = |args: &[&str]| {
        let script = "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; exec \"$@\"";
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh", "setpriv"])
            .args(["--bounding-set", &set, "--inh-caps", &set])
            .args(["--ambient-caps", &set, "--no-new-privs"])
            .arg(env!("CARGO_BIN_EXE_aiops"))
            .args(["--lang", "en"])
            .args(args)
            .output()
            .expect("unshare starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), said)
    };
    let store = crate::support::Scratch::new();
    let folder = store.path("store");
    let (_, said) = with_them(&["monitor", "memory", "--duration", "1s", "--store", &folder]);
    assert!(
        said.contains("OOM kills with ") && !said.contains("counted, not explained"),
        "{said}"
    );
    let other = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups", "sleep", "1000"])
        .spawn()
        .expect("setpriv starts");
    let other = Running(other);
    let pid = other.0.id();
    crate::support::until("the other user", || {
        crate::support::field(&format!("/proc/{pid}/status"), "Uid") == Some(65534)
            && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
    });
    let pid = pid.to_string();
    let args = ["inspect", "processes", "-o", "json", "--sort", "pss"];
    let (text, _) = with_them(&[&args[..], &["--pid", &pid]].concat());
    // Without CAP_SYS_PTRACE it is null.
    let text: String = text.split_whitespace().collect();
    let share = text.split("\"pss_kb\":").nth(1).unwrap_or_default();
    assert!(share.starts_with(|c: char| c.is_ascii_digit()), "{text}");
}
