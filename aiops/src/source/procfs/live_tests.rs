//! Mappings of real processes of our own making.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

use super::*;
use crate::model::MappingSample;
use crate::model::ProcessMappings;
use crate::model::RegionKind;

const PAGE: usize = 4096;

/// Memory of our own, given back at the end.
struct Mapped {
    at: *mut libc::c_void,
    bytes: usize,
}

impl Mapped {
    fn new(bytes: usize, flags: i32, fd: i32) -> std::io::Result<Self> {
        Self::with(bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd)
    }

    fn with(bytes: usize, protection: i32, flags: i32, fd: i32) -> std::io::Result<Self> {
        // SAFETY: the kernel chooses the place, so that nothing of ours is replaced.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Self { at, bytes })
    }

    fn fill(&self) {
        // SAFETY: the mapping is ours, writable and that long.
        unsafe { std::ptr::write_bytes(self.at.cast::<u8>(), 7, self.bytes) };
    }

    fn protect(&self, offset: usize, bytes: usize, protection: i32) -> bool {
        assert!(offset + bytes <= self.bytes);
        // SAFETY: within the mapping, as was just checked.
        unsafe { libc::mprotect(self.at.wrapping_byte_add(offset), bytes, protection) == 0 }
    }

    fn advise(&self, offset: usize, bytes: usize, advice: i32) -> bool {
        assert!(offset + bytes <= self.bytes);
        // SAFETY: within the mapping, as was just checked; no reference points into it.
        unsafe { libc::madvise(self.at.wrapping_byte_add(offset), bytes, advice) == 0 }
    }

    fn address(&self) -> u64 {
        self.at.addr() as u64
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing points into it.
        unsafe { libc::munmap(self.at, self.bytes) };
    }
}

const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

fn own() -> ProcessMappings {
    read_mappings(Path::new("/"), std::process::id()).unwrap()
}

fn at(all: &ProcessMappings, address: u64) -> &MappingSample {
    let mut mappings = all.mappings.iter();
    let found = mappings.find(|one| (one.start..one.end).contains(&address));
    found.unwrap_or_else(|| panic!("nothing is mapped at {address:x}"))
}

fn kind_at(address: u64) -> RegionKind {
    at(&own(), address).kind
}

fn address_of<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).addr() as u64
}

#[test]
fn the_program_its_stacks_and_its_heap() {
    let all = own();
    assert_eq!(
        at(&all, own as fn() -> _ as usize as u64).kind,
        RegionKind::Executable
    );
    let named = |name: &str| {
        let mut mappings = all.mappings.iter();
        mappings
            .find(|one| one.path.as_bytes() == name.as_bytes())
            .map(|one| one.kind)
    };
    assert_eq!(named("[heap]"), Some(RegionKind::Heap));
    assert_eq!(named("[stack]"), Some(RegionKind::Stack));
    assert_eq!(named("[vdso]"), Some(RegionKind::Vdso));
    let thread = std::thread::spawn(|| {
        let local = 5_u8;
        let small = Box::new(7_u64);
        (kind_at(address_of(&local)), kind_at(address_of(&*small)))
    });
    let (stack, small) = thread.join().unwrap();
    assert_eq!(stack, RegionKind::ThreadStack);
    // The C library has a bounded number of arenas; other threads of this program may have them all.
    assert!(
        matches!(small, RegionKind::Arena | RegionKind::Heap),
        "{small:?}"
    );
}

#[test]
fn stacks_as_other_libraries_make_them() {
    // musl: everything inaccessible, then all but the guard opened.
    let musl = Mapped::with(128 << 10, libc::PROT_NONE, PRIVATE, -1).unwrap();
    let (guard, rest) = (2 * PAGE, (128 << 10) - 2 * PAGE);
    assert!(musl.protect(guard, rest, libc::PROT_READ | libc::PROT_WRITE));
    assert_eq!(
        kind_at(musl.address() + guard as u64),
        RegionKind::ThreadStack
    );
    // glibc since 2.42: the guard is within, and shows nowhere.
    let glibc = Mapped::new(8 << 20, PRIVATE | libc::MAP_STACK | libc::MAP_NORESERVE, -1).unwrap();
    /// include/uapi/asm-generic/mman-common.h
    const MADV_GUARD_INSTALL: i32 = 102;
    if !glibc.advise(0, PAGE, MADV_GUARD_INSTALL) {
        println!("SKIPPED: this kernel has no MADV_GUARD_INSTALL (6.13)");
        return;
    }
    assert_eq!(
        kind_at(glibc.address() + (4 << 20)),
        RegionKind::ThreadStack
    );
}

#[test]
fn shared_memory_of_every_kind() {
    let anonymous = Mapped::new(PAGE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1).unwrap();
    assert_eq!(kind_at(anonymous.address()), RegionKind::SharedAnon);

    let memfd = rustix::fs::memfd_create("aiops test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memfd, PAGE as u64).unwrap();
    let memfd = Mapped::new(PAGE, libc::MAP_SHARED, memfd.as_raw_fd()).unwrap();
    let all = own();
    let found = at(&all, memfd.address());
    assert_eq!(found.kind, RegionKind::Memfd);
    assert_eq!(found.path.as_bytes(), b"/memfd:aiops test (deleted)");

    let name = std::ffi::CString::new(format!("/aiops-test-{}", std::process::id())).unwrap();
    // SAFETY: the name ends with NUL.
    let fd = unsafe { libc::shm_open(name.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600) };
    if fd < 0 {
        println!("SKIPPED: shm_open: {}", std::io::Error::last_os_error());
    } else {
        // SAFETY: open, and nobody else's.
        let fd: std::os::fd::OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) };
        rustix::fs::ftruncate(&fd, PAGE as u64).unwrap();
        let posix = Mapped::new(PAGE, libc::MAP_SHARED, fd.as_raw_fd()).unwrap();
        let kind = kind_at(posix.address());
        // SAFETY: the name ends with NUL.
        unsafe { libc::shm_unlink(name.as_ptr()) };
        assert_eq!(
            (kind, kind_at(posix.address())),
            (RegionKind::Shm, RegionKind::Shm)
        );
    }

    // SAFETY: no memory is touched.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 3 * PAGE, libc::IPC_CREAT | 0o600) };
    assert!(id >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel chooses the place.
    let place = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    let segments = read_detail(Path::new("/"), false).shm.unwrap();
    // SAFETY: the segment is ours; it goes with its last user.
    unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    assert_ne!(place.addr(), usize::MAX);
    let kind = kind_at(place.addr() as u64);
    // SAFETY: attached above, and nothing points into it.
    unsafe { libc::shmdt(place) };
    assert_eq!(kind, RegionKind::Shm);
    let segment = segments
        .iter()
        .find(|one| one.id == u64::try_from(id).unwrap())
        .unwrap();
    assert_eq!(segment.size_bytes, 3 * PAGE as u64);
    assert_eq!(
        (segment.creator_pid, segment.attached),
        (std::process::id(), 1)
    );
    assert_eq!((segment.rss_bytes, segment.swap_bytes), (Some(0), Some(0)));
}

#[test]
fn files_devices_and_names() {
    let path = std::env::temp_dir().join(format!("aiops mapped\n {}", std::process::id()));
    std::fs::write(&path, vec![1_u8; PAGE]).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let mapped = Mapped::with(PAGE, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let all = own();
    let found = at(&all, mapped.address());
    assert_eq!(found.kind, RegionKind::File);
    let name = [path.as_os_str().as_encoded_bytes(), b" (deleted)"].concat();
    assert_eq!(found.path.as_bytes(), name);

    let zero = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/zero")
        .unwrap();
    let private = Mapped::new(PAGE, libc::MAP_PRIVATE, zero.as_raw_fd()).unwrap();
    assert_eq!(kind_at(private.address()), RegionKind::Anon);
    let shared = Mapped::new(PAGE, libc::MAP_SHARED, zero.as_raw_fd()).unwrap();
    assert_eq!(kind_at(shared.address()), RegionKind::SharedAnon);

    // The kernel's own file, mapped into the program: rings of asynchronous I/O.
    let mut ring = 0_u64;
    // SAFETY: the second argument is where the kernel writes the ring's address.
    let made = unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut ring) };
    if made == 0 {
        let kind = kind_at(ring);
        // SAFETY: made above, and not used.
        unsafe { libc::syscall(libc::SYS_io_destroy, ring) };
        assert_eq!(kind, RegionKind::Device);
    } else {
        println!("SKIPPED: io_setup: {}", std::io::Error::last_os_error());
    }

    let memory = Mapped::new(4 * PAGE, PRIVATE, -1).unwrap();
    memory.fill();
    // SAFETY: names a mapping of our own; the text ends with NUL.
    let done = unsafe {
        libc::prctl(
            libc::PR_SET_VMA,
            libc::PR_SET_VMA_ANON_NAME,
            memory.at,
            memory.bytes,
            c"aiops test".as_ptr(),
        )
    };
    let all = own();
    let found = at(&all, memory.address());
    if done == 0 {
        assert_eq!(found.kind, RegionKind::NamedAnon);
        assert_eq!(found.path.as_bytes(), b"[anon:aiops test]");
        assert_eq!(found.metrics.rss_kb, Some(16));
        assert_eq!(
            (found.metrics.private_dirty_kb, found.metrics.anonymous_kb),
            (Some(16), Some(16))
        );
    } else {
        println!(
            "SKIPPED: names of anonymous memory: {}",
            std::io::Error::last_os_error()
        );
        assert_eq!(found.kind, RegionKind::Anon);
    }
}

/// A few huge pages, where the host has none; given back at the end.
struct Pool(bool);

impl Pool {
    const PAGES: &str = "/proc/sys/vm/nr_hugepages";

    fn new() -> Self {
        let pages = || std::fs::read_to_string(Self::PAGES).unwrap_or_default();
        let made = pages().trim() == "0" && std::fs::write(Self::PAGES, "4").is_ok();
        if made && pages().trim() == "0" {
            println!("no huge page is free");
        }
        Self(made)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.0 {
            let _ = std::fs::write(Self::PAGES, "0");
        }
    }
}

#[test]
fn huge_pages() {
    const HUGE: usize = 2 << 20;
    let _pool = Pool::new();
    match Mapped::new(HUGE, PRIVATE | libc::MAP_HUGETLB, -1) {
        Ok(pool) => {
            pool.fill();
            let all = own();
            let found = at(&all, pool.address());
            assert_eq!(
                (found.kind, found.page_kb),
                (RegionKind::Hugetlb, Some(2048))
            );
            assert_eq!(found.metrics.private_hugetlb_kb, Some(2048));
        }
        Err(error) => println!("SKIPPED: MAP_HUGETLB without a pool: {error}"),
    }
    let memory = Mapped::new(3 * HUGE, PRIVATE, -1).unwrap();
    if !memory.advise(0, 3 * HUGE, libc::MADV_HUGEPAGE) {
        println!(
            "SKIPPED: no transparent huge pages: {}",
            std::io::Error::last_os_error()
        );
        return;
    }
    memory.fill();
    let all = own();
    let found = at(&all, memory.address() + HUGE as u64);
    assert_eq!(found.kind, RegionKind::Anon);
    assert!(found.metrics.rss_kb >= Some(3 * 2048) && found.metrics.anon_huge_kb.is_some());
    let enabled = read_detail(Path::new("/"), false)
        .setting_text("thp.enabled")
        .map(str::to_owned);
    if enabled.is_some_and(|enabled| enabled != "never") {
        println!(
            "transparent huge pages: {:?} KiB",
            found.metrics.anon_huge_kb
        );
    }
}

/// This program once more, as one of the processes below.
struct Other {
    child: Child,
    said: String,
}

impl Other {
    fn start(test: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                &format!("source::procfs::live_tests::{test}"),
                "--nocapture",
                "--test-threads=1",
            ])
            .env("AIOPS_TEST_CHILD", test)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut other = Self {
            child,
            said: String::new(),
        };
        let said = &mut other.said;
        let mut lines = BufReader::new(other.child.stdout.take().unwrap());
        while !said.ends_with("ready\n") {
            assert!(lines.read_line(said).unwrap() > 0, "{test} ended: {said}");
        }
        other
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_child(test: &str) -> bool {
    std::env::var("AIOPS_TEST_CHILD").is_ok_and(|name| name == test)
}

/// Until the one who started us is gone.
fn wait() {
    println!("ready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Mappings that a process may have by default (`vm.max_map_count`).
const MANY: usize = 65_530;

/// Not a test: a process with as many mappings as may be.
#[test]
fn many_child() {
    if !is_child("many_child") {
        return;
    }
    let memory = Mapped::with(MANY * PAGE, libc::PROT_NONE, PRIVATE, -1).unwrap();
    for page in (1..MANY).step_by(2) {
        if !memory.protect(page * PAGE, PAGE, libc::PROT_READ) {
            break;
        }
    }
    wait();
}

#[test]
fn as_many_mappings_as_may_be() {
    let other = Other::start("many_child");
    let begin = Instant::now();
    let all = read_mappings(Path::new("/"), other.child.id()).unwrap();
    println!(
        "{} mappings in {} ms",
        all.mappings.len(),
        begin.elapsed().as_millis()
    );
    assert!(all.mappings.len() > MANY - 100, "{}", all.mappings.len());
    assert!(!all.maps_only && all.rollup.is_some());
    // Every second page is a guard, but none of these is a stack.
    let stacks = all
        .mappings
        .iter()
        .filter(|one| one.kind == RegionKind::ThreadStack);
    assert!(stacks.count() < 10);
    let bytes: usize = all
        .mappings
        .iter()
        .map(|one| {
            let flags = one
                .vm_flags
                .iter()
                .map(|flag| flag.capacity() + size_of::<String>());
            size_of::<MappingSample>()
                + one.perms.capacity()
                + one.device.capacity()
                + flags.sum::<usize>()
        })
        .sum();
    println!("{} MB", bytes >> 20);
    assert!(bytes < 128 << 20);
}

/// Not a test: a process whose first thread has ended, while another one has the memory.
#[test]
fn leader_child() {
    if !is_child("leader_child") {
        return;
    }
    // A test runs on a thread of its own; in a forked process it is the first one.
    // SAFETY: what follows in the child uses nothing that another thread may have locked but the
    // allocator, which the C library makes usable again.
    if unsafe { libc::fork() } > 0 {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        return;
    }
    std::thread::spawn(|| {
        let memory = Mapped::new(8 << 20, PRIVATE, -1).unwrap();
        memory.fill();
        std::thread::sleep(std::time::Duration::from_millis(100));
        println!("pid {}", std::process::id());
        wait();
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    });
    // SAFETY: ends this thread alone, and nothing of it is used by the other one.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

#[test]
fn a_process_whose_first_thread_has_ended_has_memory_all_the_same() {
    let other = Other::start("leader_child");
    let mut lines = other.said.lines();
    let pid = lines.find_map(|line| line.rsplit_once("pid ")?.1.parse().ok());
    let pid: u32 = pid.unwrap();
    let mut reader = ProcessReader::open(Path::new("/")).unwrap();
    let (mut samples, skipped) = reader.read(&[pid], Wanted::All);
    assert_eq!(samples.len(), 1, "{skipped:?}");
    let sample = &mut samples[0];
    assert_eq!((sample.state, sample.pid), (Some('Z'), pid));
    assert!(sample.metrics.rss_kb > Some(8 << 10) && sample.metrics.anon_kb > Some(8 << 10));
    assert_eq!(reader.rollup(sample), Ok(()));
    assert!(sample.metrics.uss_kb > Some(8 << 10));
    let all = read_mappings(Path::new("/"), pid).unwrap();
    let sum: u64 = all
        .mappings
        .iter()
        .filter_map(|one| one.metrics.rss_kb)
        .sum();
    assert_eq!(Some(sum), all.rollup.unwrap().rss_kb);
}

/// CPU time of this process, ms.
fn cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

#[test]
#[ignore = "a measurement: 1,000 processes; -- --ignored --nocapture"]
fn what_a_sample_of_a_thousand_processes_costs() {
    let (reader, writer) = std::io::pipe().unwrap();
    let children: Vec<Child> = (0..1000)
        .map(|_| {
            Command::new("cat")
                .stdin(reader.try_clone().unwrap())
                .spawn()
                .unwrap()
        })
        .collect();
    drop(reader);
    let mut plane = crate::source::plane::Plane::open(Path::new("/")).unwrap();
    let wants = |rollup, all| crate::source::plane::Wants {
        rollup,
        all,
        cgroups: true,
        pids: None,
    };
    use crate::source::plane::Rollup;
    for (what, wants) in [
        ("sizes", wants(Rollup::None, false)),
        ("sizes again", wants(Rollup::None, false)),
        ("sizes, oom_score, io", wants(Rollup::None, true)),
        ("smaps_rollup of all", wants(Rollup::All, false)),
        ("smaps_rollup, 10 %", wants(Rollup::Budget(0.1), false)),
    ] {
        let begin = cpu_ms();
        let sample = plane.sample(&wants);
        let between = cpu_ms();
        let told = plane.identities(&sample.processes);
        let end = cpu_ms();
        println!(
            "{what}: {} processes {:.1} ms, {} identities {:.1} ms",
            sample.processes.len(),
            between - begin,
            told.len(),
            end - between
        );
    }
    let begin = cpu_ms();
    let _ = read_system(Path::new("/"), Scope::All);
    println!("system alone {:.2} ms", cpu_ms() - begin);
    drop(writer);
    for mut child in children {
        let _ = child.wait();
    }
}
