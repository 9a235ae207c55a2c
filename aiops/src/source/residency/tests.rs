//! Residency against files of our own.

use std::io::Write as _;

use super::*;

struct Temp(PathBuf);

impl Temp {
    fn new(name: &str) -> Self {
        let name = format!("aiops-residency-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn both_calls_say_the_same() {
    let temp = Temp::new("both");
    let size = 3 * (1 << 20) + 5;
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&temp.0)
        .unwrap();
    file.write_all(&vec![1; size]).unwrap();
    let pages = (size as u64).div_ceil(page_size());
    let counted = mincore(&file, size as u64, None).unwrap();
    assert_eq!(counted.cached, pages);
    assert_eq!(counted.dirty, None);
    match cachestat(&file, size as u64, None) {
        Ok(told) => {
            assert_eq!(told.cached, pages);
            assert!(told.dirty.is_some());
        }
        Err(error) => assert_eq!(error, Errno::NOSYS),
    }
}

#[test]
fn a_sparse_file_has_nothing_in_memory() {
    let temp = Temp::new("sparse");
    let file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&temp.0)
        .unwrap();
    // Larger than both windows.
    let size = CHUNK + WINDOW + 1;
    file.set_len(size).unwrap();
    assert_eq!(mincore(&file, size, None).unwrap().cached, 0);
    if let Ok(told) = cachestat(&file, size, None) {
        assert_eq!(told.cached, 0);
    }
}

#[test]
fn a_missing_path_is_an_error_that_names_it() {
    let request = Request {
        paths: vec![PathBuf::from("/no/such/place")],
        limit: Duration::from_secs(1),
        ..Request::default()
    };
    let error = look(&request, |_| {}).unwrap_err();
    assert!(error.to_string().contains("/no/such/place"), "{error}");
}

/// Refuses one system call on this thread and on those that it starts, as an old filter of a container does.
fn refuse(call: i64) {
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let errno = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            u32::try_from(call).unwrap(),
            0,
            1,
        ),
        step(libc::BPF_RET | libc::BPF_K, errno, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: concerns this thread alone, and takes no pointer.
    let asked = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(asked, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: concerns this thread alone; the filter lives until the call returns.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

#[test]
fn a_filter_that_does_not_know_cachestat_is_gone_around() {
    let temp = Temp::new("filter");
    std::fs::write(&temp.0, vec![1; 300_000]).unwrap();
    let path = temp.0.clone();
    let looked = std::thread::spawn(move || {
        refuse(SYS_CACHESTAT);
        let request = Request {
            paths: vec![path],
            limit: Duration::from_secs(30),
            ..Request::default()
        };
        look(&request, |_| {}).unwrap()
    });
    let (files, counts) = looked.join().unwrap();
    assert_eq!((counts.looked, counts.denied), (1, 0));
    assert_eq!(counts.method, Some("mincore"));
    assert_eq!(files[0].resident_bytes, 300_000);
}

#[test]
fn a_device_is_an_error_that_says_so() {
    let request = Request {
        paths: vec![PathBuf::from("/dev/null")],
        limit: Duration::from_secs(1),
        ..Request::default()
    };
    let error = look(&request, |_| {}).unwrap_err();
    assert!(error.to_string().contains("a device"), "{error}");
}

#[test]
fn whoever_ends_it_gets_what_was_seen() {
    let request = Request {
        paths: vec![std::env::temp_dir()],
        limit: Duration::from_secs(3600),
        stop: Arc::new(AtomicBool::new(true)),
    };
    let (_, counts) = look(&request, |_| {}).unwrap();
    assert!(counts.stopped && !counts.stalled);
    assert!(counts.not_listed > 0, "{counts:?}");
}

#[test]
fn figures_of_a_small_file_end_with_it() {
    let temp = Temp::new("small");
    std::fs::write(&temp.0, "x").unwrap();
    let request = Request {
        paths: vec![temp.0.clone()],
        limit: Duration::from_secs(60),
        ..Request::default()
    };
    let (files, _) = look(&request, |_| {}).unwrap();
    assert_eq!((files[0].size_bytes, files[0].resident_bytes), (1, 1));
    assert!(files[0].dirty_bytes <= Some(1), "{files:?}");
}
