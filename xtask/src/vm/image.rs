//! The initramfs: the static `aiops`, process 1, and the folders that it mounts things on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::cpio::Archive;
use crate::oomlab;

/// Builds what is missing and packs it.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let init = crate::util::build("vm-init", "ci")?;
    let bytes = pack(&init, &oomlab::aiops()?)?;
    let folder = crate::util::target_dir()?.join("vm");
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
