//! `cargo xtask kernels [5.10] [6.1] [6.12]`: Debian's kernels for the virtual machines.
//!
//! Each series comes from the Debian release that carries it, through an apt configuration of its own
//! under `target/kernels/apt`: the host's package lists, cache and sources are left alone. The mirror is
//! whatever the host's own sources name. Nothing is installed: the package is unpacked and its kernel
//! kept in `target/kernels/<series>/`, where later runs find it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore talks to its user"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::util::Tally;

/// A kernel series and the Debian suite that has it.
struct Series {
    name: &'static str,
    suite: &'static str,
}

const SERIES: &[Series] = &[
    Series {
        name: "5.10",
        suite: "bullseye",
    },
    Series {
        name: "6.1",
        suite: "bookworm",
    },
    Series {
        name: "6.12",
        suite: "bookworm-backports",
    },
];

/// Series that are taken when none is named: those that every feature is promised on.
pub(crate) const DEFAULT: &[&str] = &["6.1", "6.12"];

/// Keyring that Debian's own package installs.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// `6.12`.
    pub series: String,
    /// The bootable file.
    pub image: PathBuf,
}

/// Is this word one of the series?
pub(crate) fn is_series(word: &str) -> bool {
    SERIES.iter().any(|series| series.name == word)
}

/// The chore.
pub(crate) fn run(args: &[String]) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for name in wanted(args)? {
        match obtain(&name) {
            Ok(Some(kernel)) => {
                println!("{name}: {}", kernel.image.display());
                tally.passed += 1;
            }
            Ok(None) => tally.skipped += 1,
            Err(error) => {
                eprintln!("{name}: {error:#}");
                tally.failed += 1;
            }
        }
    }
    Ok(tally)
}

fn wanted(args: &[String]) -> anyhow::Result<Vec<String>> {
    if let Some(unknown) = args.iter().find(|word| !is_series(word)) {
        bail!("unknown kernel series {unknown}: there are 5.10, 6.1 and 6.12");
    }
    if args.is_empty() {
        return Ok(DEFAULT.iter().map(ToString::to_string).collect());
    }
    Ok(args.to_vec())
}

/// The kernel of a series, fetched when it is not there yet. `None` (and the reason on stderr) when this
/// machine cannot fetch it.
pub(crate) fn obtain(name: &str) -> anyhow::Result<Option<Kernel>> {
    let Some(series) = SERIES.iter().find(|series| series.name == name) else {
        bail!("unknown kernel series {name}");
    };
    let home = crate::util::target_dir()?.join("kernels");
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    // Two chores may want the same kernel at once: the second waits and finds it.
    let lock = fs::File::create(home.join("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
    let folder = home.join(series.name);
    if let Some(image) = image_in(&folder) {
        return Ok(Some(kernel(series, image)));
    }
    if let Some(reason) = cannot_fetch() {
        eprintln!("SKIPPED: kernel {name}: {reason}");
        return Ok(None);
    }
    let apt = Apt::new(&home.join("apt").join(series.suite), series.suite)?;
    fetch(&apt, series, &folder)?;
    let image = image_in(&folder).context("the package holds no kernel")?;
    Ok(Some(kernel(series, image)))
}

fn kernel(series: &Series, image: PathBuf) -> Kernel {
    Kernel {
        series: series.name.to_owned(),
        image,
    }
}

fn image_in(folder: &Path) -> Option<PathBuf> {
    let mut images: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with("vmlinuz-"))
        })
        .collect();
    images.sort();
    images.pop()
}

fn cannot_fetch() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("fetching kernels with apt needs root");
    }
    if !Path::new("/etc/debian_version").exists() || !Path::new(KEYRING).exists() {
        return Some("fetching kernels needs Debian (apt and its archive keyring)");
    }
    if !Path::new("/usr/bin/dpkg-deb").exists() {
        return Some("dpkg-deb is missing");
    }
    None
}

fn fetch(apt: &Apt, series: &Series, folder: &Path) -> anyhow::Result<()> {
    apt.update()?;
    let candidates = apt.kernels(series.name)?;
    if candidates.is_empty() {
        bail!("{} has no kernel {}", series.suite, series.name);
    }
    let mut errors = String::new();
    // An index can name packages that the pool has dropped: the next older one will do.
    for package in candidates.iter().take(4) {
        match apt.download(package).and_then(|deb| unpack(&deb, folder)) {
            Ok(()) => return Ok(()),
            Err(error) => errors.push_str(&format!("\n{package}: {error:#}")),
        }
    }
    bail!("no package could be fetched:{errors}")
}

/// Keeps the kernel alone; its modules are not needed and large.
fn unpack(deb: &Path, folder: &Path) -> anyhow::Result<()> {
    let scratch = folder.with_extension("unpack");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    run_quietly(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&scratch))?;
    let image = image_in(&scratch.join("boot")).context("no boot/vmlinuz-* in the package")?;
    let name = image.file_name().context("a kernel without a name")?;
    fs::create_dir_all(folder)?;
    // Renamed when whole: an interrupted run leaves no half kernel behind.
    fs::rename(&image, folder.join(name))?;
    fs::remove_dir_all(&scratch)?;
    fs::remove_file(deb)?;
    Ok(())
}

/// apt with state of its own.
struct Apt {
    home: PathBuf,
}

impl Apt {
    fn new(home: &Path, suite: &str) -> anyhow::Result<Self> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(home.join(folder))?;
        }
        let mirror = debian_mirror().context("no Debian mirror in this machine's apt sources")?;
        let line = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(home.join("sources.list"), line)?;
        Ok(Self {
            home: home.to_owned(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let dir = self.home.display();
        for option in [
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::Cache={dir}/cache"),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.current_dir(&self.home);
        command
    }

    fn update(&self) -> anyhow::Result<()> {
        run_quietly(self.command("apt-get").arg("update")).map(drop)
    }

    /// Cloud kernels of a series, newest first; a signed one before its unsigned twin.
    fn kernels(&self, series: &str) -> anyhow::Result<Vec<String>> {
        let names = run_quietly(
            self.command("apt-cache")
                .arg("pkgnames")
                .arg("linux-image-"),
        )?;
        Ok(newest_first(&names, series))
    }

    fn download(&self, package: &str) -> anyhow::Result<PathBuf> {
        println!("fetching {package}");
        run_quietly(self.command("apt-get").arg("download").arg(package))?;
        let deb = fs::read_dir(&self.home)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"));
        deb.context("apt-get download left no package")
    }
}

fn newest_first(names: &str, series: &str) -> Vec<String> {
    let prefix = format!("linux-image-{series}.");
    let mut found: Vec<&str> = names
        .lines()
        .filter(|name| name.starts_with(&prefix))
        .filter(|name| name.ends_with("-cloud-amd64") || name.ends_with("-cloud-amd64-unsigned"))
        .collect();
    found.sort_by_key(|name| {
        (
            std::cmp::Reverse(numbers(name)),
            name.ends_with("-unsigned"),
        )
    });
    found.into_iter().map(str::to_owned).collect()
}

/// The numbers of a package name, in order: `6.12.95+deb12` sorts after `6.12.9+deb12`.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|run| run.parse().ok())
        .collect()
}

/// Mirror of the main archive, from the host's own sources (both formats).
fn debian_mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let parts = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    files.extend(parts.filter_map(|entry| Some(entry.ok()?.path())));
    files.sort();
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| mirror_in(&text))
}

/// First address that ends in `/debian`, as every mirror of the main archive does.
fn mirror_in(text: &str) -> Option<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .filter(|word| word.contains("://"))
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.ends_with("/debian"))
        .map(str::to_owned)
}

/// stdout of a program that must succeed.
fn run_quietly(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed: {}",
            command.get_program().display(),
            error.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_signed_kernel_comes_first() {
        let names = "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-10-cloud-amd64-unsigned\n\
                     linux-image-6.1.0-10-cloud-amd64\nlinux-image-6.1.0-11-cloud-amd64-dbg\n\
                     linux-image-6.12.9+deb12-cloud-amd64\nlinux-image-6.1.0-11-amd64\n";
        assert_eq!(
            newest_first(names, "6.1"),
            [
                "linux-image-6.1.0-10-cloud-amd64",
                "linux-image-6.1.0-10-cloud-amd64-unsigned",
                "linux-image-6.1.0-9-cloud-amd64",
            ]
        );
    }

    #[test]
    fn the_mirror_is_read_from_both_formats_and_not_from_comments() {
        let deb822 =
            "Types: deb\n# https://old.example/debian\nURIs: https://mirror.example/debian/\n";
        assert_eq!(
            mirror_in(deb822).as_deref(),
            Some("https://mirror.example/debian")
        );
        let one_line = "deb https://mirror.example/debian-security bookworm-security main\n\
                        deb [signed-by=/k.gpg] https://mirror.example/debian bookworm main\n";
        assert_eq!(
            mirror_in(one_line).as_deref(),
            Some("https://mirror.example/debian")
        );
    }
}
