//! The package, installed into a root of its own, looked at, removed and purged.
//!
//! Nothing of this machine changes: dpkg works below a folder that is removed at the end, its scripts know it
//! as `DPKG_ROOT`, and the installed program runs in a chroot that has nothing else.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::util::{self, Tally};

/// Most exposure that `systemd-analyze security` may find, tenths: 0 is a service that can do nothing. What
/// is left is needed: root, /proc of everybody, BPF, the kernel's log, the host's network counters.
const MOST_EXPOSURE: u32 = 35;

/// Files that must be there, with their modes.
const INSTALLED: &[(&str, u32)] = &[
    ("usr/bin/aiops", 0o755),
    ("usr/lib/systemd/system/aiops.service", 0o644),
    ("etc/aiops/config.toml", 0o644),
    ("usr/share/man/man1/aiops.1.gz", 0o644),
    ("usr/share/man/man1/aiops-trace-oom.1.gz", 0o644),
    ("usr/share/bash-completion/completions/aiops", 0o644),
    ("usr/share/zsh/vendor-completions/_aiops", 0o644),
    ("usr/share/fish/vendor_completions.d/aiops.fish", 0o644),
    ("usr/share/doc/aiops/copyright", 0o644),
    ("usr/share/doc/aiops/README.md", 0o644),
    ("usr/share/doc/aiops/changelog.gz", 0o644),
];

/// The capabilities that the service may have, and no others.
const CAPABILITIES: &[&str] = &[
    "CAP_BPF",
    "CAP_DAC_READ_SEARCH",
    "CAP_IPC_LOCK",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_NICE",
    "CAP_SYS_PTRACE",
];

/// A root with an empty dpkg database.
struct Root(PathBuf);

impl Root {
    fn new() -> Result<Self> {
        let folder = util::target_dir()?.join(format!("deb/root-{}", std::process::id()));
        // dpkg refuses relative roots.
        fs::create_dir_all(&folder)?;
        let root = Self(fs::canonicalize(folder)?);
        for made in [
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
        ] {
            fs::create_dir_all(root.0.join(made))?;
        }
        for empty in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
            fs::write(root.0.join(empty), "")?;
        }
        Ok(root)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn dpkg(&self, action: &str, what: &Path) -> Result<String> {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.0.display()))
            .args(["--force-not-root", "--force-depends"])
            .args(["--force-script-chrootless", "--log=/dev/null", action])
            .arg(what);
        util::output(&mut dpkg)
    }

    /// What of ours is left: paths with our name.
    fn left(&self) -> Result<Vec<String>> {
        let mut find = Command::new("find");
        find.args([".", "-name", "*aiops*", "-not", "-path", "./var/lib/dpkg/*"])
            .current_dir(&self.0);
        Ok(util::output(&mut find)?
            .lines()
            .map(str::to_owned)
            .collect())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Checks that are told one by one.
#[derive(Default)]
struct Checks(Tally);

impl Checks {
    fn is(&mut self, what: impl Display, result: Result<()>) {
        match result {
            Ok(()) => {
                println!("ok: {what}");
                self.0.passed += 1;
            }
            Err(error) => {
                println!("FAILED: {what}: {error:#}");
                self.0.failed += 1;
            }
        }
    }

    fn skip(&mut self, what: &str, why: &str) {
        println!("SKIPPED: {what}: {why}");
        self.0.skipped += 1;
    }
}

/// Installs, looks, removes, purges.
pub(super) fn run(package: &Path) -> Result<Tally> {
    let mut checks = Checks::default();
    if !util::is_root() || util::tool("dpkg").is_none() {
        checks.skip("the installed package", "needs root and dpkg");
        return Ok(checks.0);
    }
    let root = Root::new()?;
    checks.is(
        "installs into an empty root",
        root.dpkg("--install", package).map(drop),
    );
    checks.is("files, owners and modes", installed(&root));
    checks.is("its checksums", {
        let mut verify = Command::new("dpkg");
        verify.arg(format!("--root={}", root.0.display()));
        util::output(verify.args(["--verify", "aiops"]))
            .and_then(|said| must(said.is_empty(), said))
    });
    checks.is("the program runs where nothing else is", runs(&root));
    checks.is("the settings are comments", settings(&root));
    unit(&root, &mut checks);
    checks.is("changed settings survive the same version again", {
        let config = root.at("etc/aiops/config.toml");
        fs::write(&config, "interval = \"10s\"\n")?;
        root.dpkg("--install", package).and_then(|_| {
            let kept = fs::read_to_string(&config)?;
            must(
                kept == "interval = \"10s\"
",
                kept,
            )
        })
    });
    let history = root.at("var/lib/aiops");
    fs::create_dir_all(history.join("segments"))?;
    checks.is("a removal keeps settings and history", {
        root.dpkg("--remove", Path::new("aiops")).and_then(|_| {
            ensure!(
                !root.at("usr/bin/aiops").exists(),
                "the program is still there"
            );
            ensure!(history.is_dir(), "the history is gone");
            ensure!(
                root.at("etc/aiops/config.toml").exists(),
                "the settings are gone"
            );
            Ok(())
        })
    });
    checks.is("a purge leaves nothing", {
        root.dpkg("--purge", Path::new("aiops")).and_then(|_| {
            let left = root.left()?;
            ensure!(left.is_empty(), "left: {}", left.join(" "));
            Ok(())
        })
    });
    Ok(checks.0)
}

fn must(condition: bool, why: impl Display) -> Result<()> {
    ensure!(condition, "{why}");
    Ok(())
}

fn installed(root: &Root) -> Result<()> {
    for (path, mode) in INSTALLED {
        let meta = fs::symlink_metadata(root.at(path)).with_context(|| (*path).to_owned())?;
        ensure!(
            meta.is_file() && meta.permissions().mode() & 0o7777 == *mode,
            "{path}: mode {:o}",
            meta.mode()
        );
        ensure!(meta.uid() == 0 && meta.gid() == 0, "{path}: not root's");
    }
    ensure!(
        !root.at("var/lib/aiops").exists(),
        "systemd makes the history's folder"
    );
    Ok(())
}

fn runs(root: &Root) -> Result<()> {
    let aiops = |args: &[&str]| {
        let mut chroot = Command::new("chroot");
        util::output(chroot.arg(&root.0).arg("/usr/bin/aiops").args(args))
    };
    let version = aiops(&["--version"])?;
    ensure!(
        version.trim() == format!("aiops {}", super::version()),
        "{version}"
    );
    // Without /proc it can say nothing else, but it says it.
    let mut doctor = Command::new(root.at("usr/bin/aiops"));
    let doctor = util::output(doctor.args(["doctor", "-o", "json"]))?;
    let doctor: serde_json::Value = serde_json::from_str(&doctor)?;
    ensure!(doctor["schema"] == "aiops.doctor/1", "{}", doctor["schema"]);
    Ok(())
}

fn settings(root: &Root) -> Result<()> {
    let text = fs::read_to_string(root.at("etc/aiops/config.toml"))?;
    for line in text.lines() {
        ensure!(line.is_empty() || line.starts_with('#'), "{line}");
    }
    Ok(())
}

fn unit(root: &Root, checks: &mut Checks) {
    let unit = root.at("usr/lib/systemd/system/aiops.service");
    checks.is("capabilities of the unit", capabilities(&unit));
    if util::tool("systemd-analyze").is_none() {
        checks.skip("the unit", "systemd-analyze is not installed");
        return;
    }
    checks.is("systemd-analyze verify is silent", verify(root, &unit));
    match exposure(&unit) {
        Ok(tenths) => checks.is(
            format!(
                "systemd-analyze security: exposure {}.{}, at most {}.{}",
                tenths / 10,
                tenths % 10,
                MOST_EXPOSURE / 10,
                MOST_EXPOSURE % 10
            ),
            must(tenths <= MOST_EXPOSURE, "too much"),
        ),
        Err(error) => checks.is("systemd-analyze security", Err(error)),
    }
}

fn capabilities(unit: &Path) -> Result<()> {
    let text = fs::read_to_string(unit)?;
    for name in ["CapabilityBoundingSet=", "AmbientCapabilities="] {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let mut found: Vec<&str> = line.context(name)?.split_whitespace().collect();
        found.sort_unstable();
        ensure!(found == CAPABILITIES, "{name}{}", found.join(" "));
    }
    Ok(())
}

/// The unit alone, with a program at its place: a root without systemd has none of the units that every
/// service stands on, so the machine's own are used.
fn verify(root: &Root, unit: &Path) -> Result<()> {
    let folder = root.at("tmp-verify");
    fs::create_dir_all(&folder)?;
    let text = fs::read_to_string(unit)?;
    let program = root.at("usr/bin/aiops");
    let text = text.replace("/usr/bin/aiops", &program.display().to_string());
    let copy = folder.join("aiops.service");
    fs::write(&copy, text)?;
    let mut verify = Command::new("systemd-analyze");
    let done = verify
        .args(["verify", "--man=no"])
        .arg(&copy)
        .output()
        .context("systemd-analyze")?;
    fs::remove_dir_all(&folder)?;
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(
        done.status.success() && said.trim().is_empty(),
        "{}",
        said.trim()
    );
    Ok(())
}

/// Exposure in tenths, from the last line: `→ Overall exposure level for aiops.service: 3.3 OK`.
fn exposure(unit: &Path) -> Result<u32> {
    let mut security = Command::new("systemd-analyze");
    security
        .args(["security", "--no-pager", "--offline=true"])
        .arg(unit);
    let said = util::output(&mut security)?;
    tenths(&said).with_context(|| format!("no exposure in {said}"))
}

fn tenths(said: &str) -> Option<u32> {
    let line = said
        .lines()
        .rev()
        .find(|line| line.contains("exposure level"))?;
    let figure = line.rsplit_once(": ")?.1.split_whitespace().next()?;
    let (whole, part) = figure.split_once('.')?;
    Some(whole.parse::<u32>().ok()? * 10 + part.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposure_is_read() {
        let said = "NAME\n✓ X\n\n→ Overall exposure level for aiops.service: 3.3 OK :-)\n";
        assert_eq!(tenths(said), Some(33));
        assert_eq!(tenths("nothing"), None);
    }

    #[test]
    fn an_open_unit_is_not_taken_for_a_closed_one() {
        let path = std::env::temp_dir().join(format!("aiops-unit-{}", std::process::id()));
        fs::write(&path, "CapabilityBoundingSet=CAP_BPF CAP_SYS_ADMIN\n").expect("a file");
        let result = capabilities(&path);
        fs::remove_file(&path).expect("it was there");
        assert!(result.is_err());
    }
}
