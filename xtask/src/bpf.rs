//! Builds the BPF objects that the repository holds, and checks that they are what their source says.
//!
//! They are built by another toolchain than the rest: core for the BPF target needs a compiler
//! whose library sources are at hand (Debian: rustc-web, cargo-web, rust-web-src), the linker is
//! bpf-linker and LLVM's objcopy strips the DWARF but leaves BTF. Every path that would reach an
//! object is remapped, so that the bytes depend on the versions in the manifest and on the source alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use anyhow::bail;
use anyhow::ensure;

const TARGET: &str = "bpfel-unknown-none";
/// Binary of `aiops-ebpf`, and the object that is made of it.
const OBJECTS: &[(&str, &str)] = &[
    ("aiops-bpf", "aiops.bpf.o"),
    ("alloc", "alloc.bpf.o"),
    ("reclaim", "reclaim.bpf.o"),
];
const FOLDER: &str = "aiops-ebpf/object";
const MANIFEST: &str = "aiops-ebpf/object/manifest.json";
/// Where `--check` leaves objects of other tools, for the kernel tests.
const FRESH: &str = "target/bpf";

/// The tools whose versions decide the bytes.
struct Tools {
    rustc: PathBuf,
    cargo: PathBuf,
    linker: PathBuf,
    objcopy: PathBuf,
}

/// What the manifest records.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Manifest {
    /// `rustc --version`.
    rustc: String,
    /// `cargo --version`.
    cargo: String,
    /// `bpf-linker --version`.
    bpf_linker: String,
    /// LLVM that rustc was built with, and that of objcopy.
    llvm: String,
    /// Of each object, lower-case hexadecimal.
    sha256: BTreeMap<String, String>,
}

/// Builds the objects into the repository, or, with `check`, compares fresh ones with them.
///
/// # Errors
/// When a tool is missing, the build fails, or the same tools give other bytes.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let root = root()?;
    let tools = Tools::find()?;
    let fresh = build(&root, &tools)?;
    let manifest = tools.manifest(&fresh)?;
    if check {
        return compare(&root, &fresh, &manifest);
    }
    for (_, name) in OBJECTS {
        let object = root.join(FOLDER).join(name);
        copy(&fresh.join(name), &object)?;
        let sum = &manifest.sha256[*name];
        say(&format!("{name}: {} bytes, sha256 {sum}", size(&object)?));
    }
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    let path = root.join(MANIFEST);
    fs::write(&path, text).with_context(|| path.display().to_string())
}

fn compare(root: &Path, fresh: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    let path = root.join(MANIFEST);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let committed: Manifest =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let held = sums(&root.join(FOLDER))?;
    ensure!(
        held == committed.sha256,
        "{FOLDER} has {held:?}, its manifest says {:?}",
        committed.sha256
    );
    if *manifest == committed {
        for (_, name) in OBJECTS {
            let bytes = size(&fresh.join(name))?;
            say(&format!(
                "{name}: a fresh build gives the same {bytes} bytes"
            ));
        }
        return Ok(());
    }
    let same_tools = Manifest {
        sha256: committed.sha256.clone(),
        ..manifest.clone_versions()
    } == committed;
    ensure!(
        !same_tools,
        "the same tools build {:?} from the source, the repository holds {held:?}: run `cargo xtask bpf` and commit",
        manifest.sha256
    );
    let kept = root.join(FRESH);
    for (_, name) in OBJECTS {
        copy(&fresh.join(name), &kept.join(name))?;
    }
    say(&format!(
        "refresh: other tools ({}, {}, {}); run the kernel tests with AIOPS_BPF_OBJECT={}",
        manifest.rustc,
        manifest.bpf_linker,
        manifest.llvm,
        kept.display()
    ));
    Ok(())
}

/// The hash of each object in a folder.
fn sums(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let sum = |name: &str| anyhow::Ok((name.to_owned(), sha256(&folder.join(name))?));
    OBJECTS.iter().map(|(_, name)| sum(name)).collect()
}

impl Manifest {
    fn clone_versions(&self) -> Self {
        Self {
            rustc: self.rustc.clone(),
            cargo: self.cargo.clone(),
            bpf_linker: self.bpf_linker.clone(),
            llvm: self.llvm.clone(),
            sha256: BTreeMap::new(),
        }
    }
}

impl Tools {
    /// Debian's compiler unless `AIOPS_BPF_RUSTC` and `AIOPS_BPF_CARGO` name others; the linker and
    /// objcopy from PATH, cargo's and LLVM's folders.
    fn find() -> anyhow::Result<Self> {
        let chosen = |variable: &str, usual: &str| {
            let path =
                std::env::var_os(variable).map_or_else(|| PathBuf::from(usual), PathBuf::from);
            ensure!(
                path.is_file(),
                "{} is missing: apt-get install rustc-web cargo-web rust-web-src",
                path.display()
            );
            Ok(path)
        };
        let rustc = chosen("AIOPS_BPF_RUSTC", "/usr/bin/rustc")?;
        let cargo = chosen("AIOPS_BPF_CARGO", "/usr/bin/cargo")?;
        let linker = on_path("bpf-linker", &[cargo_home().join("bin")])
            .context("bpf-linker is missing: cargo install bpf-linker --version 0.13.0")?;
        let llvm = llvm_major(&rustc)?;
        let folder = PathBuf::from(format!("/usr/lib/llvm-{llvm}/bin"));
        let objcopy = on_path(&format!("llvm-objcopy-{llvm}"), &[])
            .or_else(|| on_path("llvm-objcopy", &[folder]))
            .with_context(|| {
                format!("llvm-objcopy of LLVM {llvm} is missing: apt-get install llvm-{llvm}")
            })?;
        Ok(Self {
            rustc,
            cargo,
            linker,
            objcopy,
        })
    }

    fn manifest(&self, objects: &Path) -> anyhow::Result<Manifest> {
        let of_rustc = first_line_with(
            &output(Command::new(&self.rustc).arg("-vV"))?,
            "LLVM version",
        )?;
        let of_objcopy = first_line_with(
            &output(Command::new(&self.objcopy).arg("--version"))?,
            "LLVM version",
        )?;
        Ok(Manifest {
            rustc: output(Command::new(&self.rustc).arg("--version"))?,
            cargo: output(Command::new(&self.cargo).arg("--version"))?,
            bpf_linker: output(Command::new(&self.linker).arg("--version"))?,
            llvm: format!("rustc: {of_rustc}; objcopy: {of_objcopy}"),
            sha256: sums(objects)?,
        })
    }
}

/// Builds and strips; gives the folder of the objects.
fn build(root: &Path, tools: &Tools) -> anyhow::Result<PathBuf> {
    let package = root.join("aiops-ebpf");
    let folder = root.join("target/bpf/build");
    let mut cargo = Command::new(&tools.cargo);
    cargo
        .current_dir(&package)
        .args([
            "build",
            "--release",
            "--locked",
            "-Z",
            "build-std=core",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTC", &tools.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, tools)?.join("\x1f"));
    // What the outer cargo and the workspace want of their own target must not reach this one.
    for variable in [
        "CARGO_BUILD_TARGET",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
        "CARGO",
        "CARGO_TARGET_DIR",
    ] {
        cargo.env_remove(variable);
    }
    let status = cargo
        .status()
        .with_context(|| tools.cargo.display().to_string())?;
    ensure!(status.success(), "the BPF programs do not build");
    let stripped = folder.join("stripped");
    fs::create_dir_all(&stripped).with_context(|| stripped.display().to_string())?;
    for (binary, name) in OBJECTS {
        let built = folder.join(TARGET).join("release").join(binary);
        output(
            Command::new(&tools.objcopy)
                .arg("--strip-debug")
                .arg(&built)
                .arg(stripped.join(name)),
        )?;
    }
    Ok(stripped)
}

/// Flags of the compiler; every path is replaced by a name that is the same everywhere.
fn flags(root: &Path, tools: &Tools) -> anyhow::Result<Vec<String>> {
    let sysroot = output(Command::new(&tools.rustc).args(["--print", "sysroot"]))?;
    let version = first_line_with(&output(Command::new(&tools.rustc).arg("-vV"))?, "release")?;
    let release = version.rsplit(' ').next().unwrap_or_default();
    let sources = format!("{sysroot}/lib/rustlib/src/rust");
    let real = fs::canonicalize(&sources).unwrap_or_else(|_| PathBuf::from(&sources));
    let debian = format!("/usr/src/rustc-{release}");
    let home = cargo_home();
    Ok(vec![
        format!("-Clinker={}", tools.linker.display()),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        remap(root, "/aiops"),
        remap(&home, "/cargo"),
        remap(Path::new(&sources), "/rust"),
        remap(&real, "/rust"),
        remap(Path::new(&debian), "/rust"),
    ])
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

fn cargo_home() -> PathBuf {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return PathBuf::from(home);
    }
    PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo")
}

/// The repository: the folder above this package.
fn root() -> anyhow::Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.parent().context("xtask has no parent folder")?;
    Ok(root.to_path_buf())
}

fn on_path(name: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = more.iter().cloned().chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn llvm_major(rustc: &Path) -> anyhow::Result<String> {
    let line = first_line_with(&output(Command::new(rustc).arg("-vV"))?, "LLVM version")?;
    let digits = line
        .chars()
        .filter(|c| c.is_ascii_digit() || *c == '.')
        .collect::<String>();
    digits
        .split('.')
        .next()
        .map(str::to_owned)
        .context("rustc does not tell its LLVM")
}

fn first_line_with(text: &str, what: &str) -> anyhow::Result<String> {
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| line.contains(what));
    line.map(str::to_owned)
        .with_context(|| format!("no `{what}` in: {text}"))
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.output().with_context(|| name.clone())?;
    if !out.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// By coreutils: the one hash that xtask needs is not worth a dependency.
fn sha256(path: &Path) -> anyhow::Result<String> {
    let text = output(Command::new("sha256sum").arg("--binary").arg(path))?;
    let hash = text.split_whitespace().next().unwrap_or_default();
    ensure!(hash.len() == 64, "sha256sum says: {text}");
    Ok(hash.to_owned())
}

fn size(path: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(path)
        .with_context(|| path.display().to_string())?
        .len())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "what a chore has to tell is its output"
)]
fn say(text: &str) {
    println!("{text}");
}
