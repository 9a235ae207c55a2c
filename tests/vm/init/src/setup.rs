//! The machine around the scenarios: file systems, the kernel's log, cgroups, the end.

use std::ffi::CStr;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use rustix::mount::MountFlags;

/// Where the memory controller's hierarchy is, whichever version.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";
/// tracefs, where it is mounted.
const TRACEFS: &str = "/sys/kernel/tracing";

/// What every scenario needs before it can even report.
pub(crate) fn basics() -> anyhow::Result<()> {
    mount(c"devtmpfs", "/dev").or_else(already_mounted)?;
    mount(c"proc", "/proc")?;
    mount(c"sysfs", "/sys")?;
    fs::create_dir_all("/tmp")?;
    quiet_console();
    Ok(())
}

/// Debian's kernels mount devtmpfs themselves only without an initramfs.
fn already_mounted(error: anyhow::Error) -> anyhow::Result<()> {
    if Path::new("/dev/kmsg").exists() {
        return Ok(());
    }
    Err(error)
}

/// tracefs at its usual place.
pub(crate) fn tracefs() -> anyhow::Result<()> {
    mount(c"tracefs", TRACEFS)
}

/// The unified hierarchy, with the memory controller for the groups in it.
pub(crate) fn cgroup2() -> anyhow::Result<()> {
    mount(c"cgroup2", CGROUPS)?;
    let control = format!("{CGROUPS}/cgroup.subtree_control");
    fs::write(&control, "+memory").with_context(|| format!("cannot write {control}"))
}

/// The old hierarchy of the memory controller, where old distributions and containers have it. `false`
/// when the kernel was built without it (possible since 6.11, and so in Debian's 6.12).
pub(crate) fn cgroup1_memory() -> anyhow::Result<bool> {
    mount(c"tmpfs", CGROUPS)?;
    let memory = format!("{CGROUPS}/memory");
    fs::create_dir(&memory)?;
    match rustix::mount::mount(
        c"cgroup",
        &memory,
        c"cgroup",
        MountFlags::empty(),
        c"memory",
    ) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(error) => Err(error).context("cannot mount the memory controller's cgroups"),
    }
}

fn mount(kind: &CStr, place: &str) -> anyhow::Result<()> {
    rustix::mount::mount(kind, place, kind, MountFlags::empty(), None)
        .with_context(|| format!("cannot mount {} on {place}", kind.to_string_lossy()))
}

/// The log keeps everything, the emulated console shows emergencies alone: an OOM report on it would
/// cost seconds.
fn quiet_console() {
    let _ = fs::write("/proc/sys/kernel/printk", "1 4 1 7");
}

/// All records of the kernel's log, as /dev/kmsg has them.
pub(crate) fn kernel_log() -> String {
    let Ok(mut log) = open_nonblocking("/dev/kmsg") else {
        return String::new();
    };
    let mut text = String::new();
    let mut record = vec![0_u8; 8192];
    let mut skipped = 0;
    // One read is one record. EPIPE tells of records that were overwritten: a note, then go on.
    loop {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => text.push_str(&String::from_utf8_lossy(&record[..length])),
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) && skipped < 100 => {
                skipped += 1;
                text.push_str("(records overwritten)\n");
            }
            Err(_) => break,
        }
    }
    text
}

fn open_nonblocking(path: &str) -> std::io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// Ends the machine. QEMU runs with `-no-reboot`, where a restart ends it without any power management.
pub(crate) fn leave() {
    rustix::fs::sync();
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
}
