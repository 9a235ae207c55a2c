//! For tests of several modules: a folder of their own, and a small disk.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// A folder of its own, removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// Below the temporary folder; names differ from test to test.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("aiops-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a test that runs on a small disk finds it.
const DISK: &str = "AIOPS_TEST_DISK";

/// Runs `work` on an empty ext4 of some MiB. The test of this name starts itself again, in a view of mounts of its own:
/// however that process ends, the kernel takes the mount and the loop device away.
pub(crate) fn on_small_disk(test: &str, mib: u32, work: impl FnOnce(&Path)) {
    if let Some(disk) = std::env::var_os(DISK) {
        work(Path::new(&disk));
        return;
    }
    /// The disk could not be made.
    const NO_DISK: i32 = 77;
    let folder = Folder::new(&format!("disk-{}", test.replace(':', "-")));
    let (image, disk) = (folder.file("image"), folder.file("disk"));
    fs::create_dir(&disk).unwrap();
    let script = "truncate -s \"$1\" \"$2\" && mkfs.ext4 -q -F -m 0 \"$2\" && mount -o loop \"$2\" \"$3\" || exit 77
        shift 3; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", &format!("{mib}M")])
        .arg(&image)
        .arg(&disk)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DISK, &disk)
        .output();
    let why = match output {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            let is_made = !said.starts_with("unshare:") && output.status.code() != Some(NO_DISK);
            assert!(!is_made || output.status.success(), "{said}");
            assert!(
                !is_made || said.contains("1 passed"),
                "no test {test}: {said}"
            );
            println!("{said}");
            if is_made {
                return;
            }
            said
        }
        Err(error) => format!("unshare: {error}"),
    };
    let required = std::env::var_os("AIOPS_REQUIRE_BPF").is_some_and(|value| value == "1");
    assert!(!required, "{why}");
    println!("SKIPPED: no small disk: {why}");
}
