//! The initramfs: the static `aiops`, process 1, and the folders that it mounts things on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::cpio::Archive;
use crate::oomlab::{root, target_dir};

/// Old and small root file systems have no libc to share: everything is inside the file.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const FLAGS: (&str, &str) = (
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
    "-Ctarget-feature=+crt-static",
);

/// Builds what is missing and packs it. `AIOPS_BIN` names another `aiops` to test.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("AIOPS_BIN").map(PathBuf::from);
    let mut packages = vec!["vm-init"];
    if given.is_none() {
        packages.push("aiops");
    }
    cargo_build(&packages)?;
    let built = target_dir().join(TARGET).join("ci");
    let aiops = given.unwrap_or_else(|| built.join("aiops"));
    let bytes = pack(&built.join("vm-init"), &aiops)?;
    let folder = target_dir().join("vm");
    fs::create_dir_all(&folder)?;
    let image = folder.join(format!("initramfs-{}.cpio", std::process::id()));
    fs::write(&image, bytes).with_context(|| format!("cannot write {}", image.display()))?;
    Ok(image)
}

fn pack(init: &Path, aiops: &Path) -> anyhow::Result<Vec<u8>> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "tmp", "bin"] {
        archive.folder(folder);
    }
    // The kernel opens it for process 1 before that can mount anything.
    archive.device("dev/console", 5, 1);
    archive.program("init", &read(init)?);
    archive.program("bin/aiops", &read(aiops)?);
    Ok(archive.finish())
}

fn cargo_build(packages: &[&str]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for package in packages {
        let status = Command::new(&cargo)
            .args(["build", "--locked", "--quiet", "--profile", "ci"])
            .args(["--target", TARGET, "--package", package])
            .env(FLAGS.0, FLAGS.1)
            .current_dir(root())
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            bail!("{package} does not build");
        }
    }
    Ok(())
}
