//! `cargo xtask deb [--profile dist|ci] [--check]`: the Debian package, target/deb/aiops_VERSION_amd64.deb.
//!
//! It holds the static program, its manual pages and completions (made by the program itself), the unit, the
//! settings and the licences, and depends on nothing. The same commit gives the same bytes: times are those of
//! `SOURCE_DATE_EPOCH`, or of the last commit. `--check` also installs it into a root of its own (`deb/check.rs`).

mod check;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::util::{self, Tally};

/// What goes where as it is: path below the repository's root, path in the package.
const FILES: &[(&str, &str)] = &[
    (
        "packaging/aiops.service",
        "usr/lib/systemd/system/aiops.service",
    ),
    ("packaging/config.toml", "etc/aiops/config.toml"),
    (
        "packaging/debian/copyright",
        "usr/share/doc/aiops/copyright",
    ),
    ("LICENSE-MIT", "usr/share/doc/aiops/LICENSE-MIT"),
    ("LICENSE-APACHE", "usr/share/doc/aiops/LICENSE-APACHE"),
    ("README.md", "usr/share/doc/aiops/README.md"),
    ("README.zh.md", "usr/share/doc/aiops/README.zh.md"),
];
/// Scripts of the package: beside `control` and `conffiles`.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];
/// Completions: the shell as the program names it, the path in the package.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/aiops"),
    ("zsh", "usr/share/zsh/vendor-completions/_aiops"),
    ("fish", "usr/share/fish/vendor_completions.d/aiops.fish"),
];

/// The chore.
pub(crate) fn run(args: &[String]) -> Result<Tally> {
    let mut profile = "dist";
    let mut check = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--check" => check = true,
            "--profile" => profile = args.next().context("--profile: which one?")?,
            unknown => bail!("unknown argument {unknown}: deb [--profile dist|ci] [--check]"),
        }
    }
    if let Some(missing) = ["dpkg-deb", "md5sum", "gzip"]
        .into_iter()
        .find(|tool| util::tool(tool).is_none())
    {
        println!("SKIPPED: deb needs {missing}");
        return Ok(Tally::SKIPPED);
    }
    ensure!(
        cfg!(target_arch = "x86_64"),
        "only x86_64 machines build the program that is installed"
    );
    let program = util::build("aiops", profile)?;
    let epoch = epoch()?;
    let package = build(&program, &epoch)?;
    let root = util::root()?;
    let shown = package.strip_prefix(&root).unwrap_or(&package);
    println!(
        "{}: {} bytes",
        shown.display(),
        fs::metadata(&package)?.len()
    );
    if !check {
        return Ok(Tally::PASSED);
    }
    let first = fs::read(&package)?;
    let same = first == fs::read(build(&program, &epoch)?)?;
    println!(
        "{}: the same commit gives the same bytes",
        if same { "ok" } else { "FAILED" }
    );
    let mut tally = if same { Tally::PASSED } else { Tally::FAILED };
    tally.add(check::run(&package)?);
    Ok(tally)
}

/// Version of the workspace.
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Seconds since 1970 that every file of the package shows.
fn epoch() -> Result<String> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut log = Command::new("git");
    log.args(["log", "-1", "--format=%ct"])
        .current_dir(util::root()?);
    // Sources without git have no time of their own.
    Ok(util::output(&mut log).map_or_else(|_| "0".to_owned(), |said| said.trim().to_owned()))
}

/// Makes the package of a program.
fn build(program: &Path, epoch: &str) -> Result<PathBuf> {
    let folder = util::target_dir()?.join("deb");
    let stage = folder.join("stage");
    // Left by a run that was stopped.
    let _ = fs::remove_dir_all(&stage);
    fs::create_dir_all(&stage).with_context(|| stage.display().to_string())?;
    let mut tree = Tree { stage };
    tree.fill(program, epoch)?;
    let size = tree.size_kb(&tree.stage)?;
    tree.control(size)?;
    let package = folder.join(format!("aiops_{}_amd64.deb", version()));
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"])
        .args([&tree.stage, &package])
        .env("SOURCE_DATE_EPOCH", epoch);
    util::output(&mut pack)?;
    fs::remove_dir_all(&tree.stage)?;
    Ok(package)
}

/// The tree that becomes the package.
struct Tree {
    stage: PathBuf,
}

impl Tree {
    fn fill(&mut self, program: &Path, epoch: &str) -> Result<()> {
        let bytes = fs::read(program).with_context(|| program.display().to_string())?;
        self.put("usr/bin/aiops", &bytes, 0o755)?;
        let root = util::root()?;
        for (from, to) in FILES {
            let bytes = fs::read(root.join(from)).with_context(|| (*from).to_owned())?;
            self.put(to, &bytes, 0o644)?;
        }
        let changes = fs::read_to_string(root.join("CHANGELOG.md")).context("CHANGELOG.md")?;
        self.put("usr/share/doc/aiops/changelog", changes.as_bytes(), 0o644)?;
        for (shell, to) in COMPLETIONS {
            let script = util::output(Command::new(program).args(["completions", shell]))?;
            self.put(to, script.as_bytes(), 0o644)?;
        }
        let man = self.stage.join("usr/share/man/man1");
        fs::create_dir_all(&man)?;
        util::run(
            Command::new(program)
                .args(["man", "--out"])
                .arg(&man)
                .env("SOURCE_DATE_EPOCH", epoch),
        )?;
        let mut pages = vec![self.stage.join("usr/share/doc/aiops/changelog")];
        for page in fs::read_dir(&man)? {
            pages.push(page?.path());
        }
        util::run(Command::new("gzip").args(["-9", "-n"]).args(pages))?;
        self.modes(&self.stage)
    }

    fn put(&self, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.stage.join(to);
        fs::create_dir_all(path.parent().context("a file at the root")?)?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Modes that do not depend on the umask: 755 for folders and programs, 644 for the rest.
    fn modes(&self, folder: &Path) -> Result<()> {
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.modes(&path)?;
                continue;
            }
            let program = path.parent().is_some_and(|folder| folder.ends_with("bin"));
            let mode = if program { 0o755 } else { 0o644 };
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// KiB as Debian's policy counts them: each file rounded up, each folder one.
    fn size_kb(&self, folder: &Path) -> Result<u64> {
        let mut sum = 1;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            sum += if path.is_dir() {
                self.size_kb(&path)?
            } else {
                fs::metadata(&path)?.len().div_ceil(1024)
            };
        }
        Ok(sum)
    }

    fn control(&self, size_kb: u64) -> Result<()> {
        let root = util::root()?.join("packaging/debian");
        let control = fs::read_to_string(root.join("control")).context("control")?;
        let control = control
            .replace("@VERSION@", version())
            .replace("@SIZE@", &size_kb.to_string());
        let files = util::output(
            Command::new("find")
                .args(["usr", "-type", "f"])
                .current_dir(&self.stage),
        )?;
        let mut files: Vec<&str> = files.lines().collect();
        files.sort_unstable();
        let sums = util::output(Command::new("md5sum").args(files).current_dir(&self.stage))?;
        self.put("DEBIAN/control", control.as_bytes(), 0o644)?;
        self.put("DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
        let conffiles = fs::read(root.join("conffiles")).context("conffiles")?;
        self.put("DEBIAN/conffiles", &conffiles, 0o644)?;
        for script in SCRIPTS {
            let text = fs::read(root.join(script)).with_context(|| (*script).to_owned())?;
            self.put(&format!("DEBIAN/{script}"), &text, 0o755)?;
        }
        fs::set_permissions(self.stage.join("DEBIAN"), Permissions::from_mode(0o755))?;
        Ok(())
    }
}
