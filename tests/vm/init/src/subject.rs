//! A process with one of everything that a reader of smaps meets: threads, System V and POSIX shared
//! memory, a memfd, named anonymous memory, a deleted file, a zombie child.
//!
//! Started as `NAME subject [CGROUP.PROCS]`; says `ready ZOMBIE` when all of it is there, and then stays.

use std::ffi::c_void;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use rustix::mm::{MapFlags, ProtFlags};

const MIB: usize = 1 << 20;

/// A started subject and its zombie.
#[derive(Debug)]
pub(crate) struct Subject {
    /// The process; killed at the end.
    pub child: Child,
    /// Process id of its dead child.
    pub zombie: u32,
}

impl Subject {
    /// Starts `program` as one, in this group if there is any, and waits until it is complete.
    pub(crate) fn start(program: &str, procs: Option<&str>) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg("subject")
            .args(procs)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let out = child.stdout.take().context("no pipe")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let zombie = line.trim().strip_prefix("ready ");
        let Some(zombie) = zombie.and_then(|pid| pid.parse().ok()) else {
            let _ = child.kill();
            let _ = child.wait();
            bail!("the subject ended before it was ready");
        };
        Ok(Self { child, zombie })
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The subject's side.
pub(crate) fn run(procs: Option<&str>) -> anyhow::Result<()> {
    if let Some(procs) = procs.filter(|procs| !procs.is_empty()) {
        fs::write(procs, std::process::id().to_string())
            .with_context(|| format!("cannot enter {procs}"))?;
    }
    for _ in 0..3 {
        std::thread::spawn(|| {
            let on_stack = std::hint::black_box([1_u8; 64 << 10]);
            loop {
                std::thread::park();
                std::hint::black_box(&on_stack);
            }
        });
    }
    let heap = std::hint::black_box(vec![1_u8; 3 * MIB]);
    named(2 * MIB)?;
    system_v(4 * MIB)?;
    let memfd = rustix::fs::memfd_create("subject", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&memfd, 2 * MIB as u64)?;
    shared(&memfd, 2 * MIB, MIB)?;
    let _ = fs::create_dir_all("/dev/shm");
    for path in ["/dev/shm/subject-gone", "/tmp/subject-gone"] {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path);
        let file = file.with_context(|| format!("cannot make {path}"))?;
        let mapped = file
            .set_len(MIB as u64)
            .map_err(Into::into)
            .and_then(|()| shared(&file, MIB, MIB / 2));
        fs::remove_file(path)?;
        mapped?;
    }
    // Dead at once and never waited for.
    let zombie = Command::new("/proc/self/exe").arg("leave").spawn()?;
    await_zombie(zombie.id())?;
    let mut out = std::io::stdout();
    writeln!(out, "ready {}", zombie.id())?;
    out.flush()?;
    loop {
        std::thread::park();
        std::hint::black_box((&heap, &zombie));
    }
}

fn await_zombie(pid: u32) -> anyhow::Result<()> {
    for _ in 0..1000 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        if stat.contains(") Z ") {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    bail!("{pid} does not die")
}

/// Writes into every page of the first `touched` bytes.
fn touch(start: *mut c_void, touched: usize) {
    for at in (0..touched).step_by(4096) {
        // SAFETY: the callers mapped at least `touched` bytes there, for reading and writing, for good.
        let page = unsafe { start.cast::<u8>().add(at) };
        // SAFETY: as above; nobody else knows the mapping.
        unsafe { page.write_volatile(1) };
    }
}

/// Anonymous memory with a name, where the kernel knows names (since 5.17).
fn named(size: usize) -> anyhow::Result<()> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at a place that the kernel chooses.
    let start = unsafe {
        rustix::mm::mmap_anonymous(std::ptr::null_mut(), size, protection, MapFlags::PRIVATE)
    }?;
    touch(start, size / 2);
    // SAFETY: the name is a string that ends with NUL; a kernel without names answers EINVAL.
    unsafe {
        libc::prctl(
            libc::PR_SET_VMA,
            libc::PR_SET_VMA_ANON_NAME,
            start,
            size,
            c"subject arena".as_ptr(),
        );
    }
    Ok(())
}

fn shared(file: impl AsFd, size: usize, touched: usize) -> anyhow::Result<()> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at a place that the kernel chooses, of a file that nobody truncates.
    let start = unsafe {
        rustix::mm::mmap(
            std::ptr::null_mut(),
            size,
            protection,
            MapFlags::SHARED,
            file,
            0,
        )
    }?;
    touch(start, touched);
    Ok(())
}

/// A segment that goes with its last process.
fn system_v(size: usize) -> anyhow::Result<()> {
    // SAFETY: no memory of ours is involved.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, size, libc::IPC_CREAT | 0o600) };
    ensure!(id >= 0, "shmget: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel chooses the place.
    let start = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    // SAFETY: the segment is ours; it stays until it is detached.
    unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    ensure!(
        start.addr() != usize::MAX,
        "shmat: {}",
        std::io::Error::last_os_error()
    );
    touch(start, MIB);
    Ok(())
}
