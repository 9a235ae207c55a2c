//! The tracer's own survival: it must outlive the OOM that it records, and be small.

use std::fs;

use procfs::process::MMPermissions;
use procfs::process::MMapPath;
use procfs::process::Process;
use rustix::mm::Advice;
use rustix::mm::MlockFlags;
use rustix::mm::madvise;

/// Most protected first. A container without CAP_SYS_RESOURCE may raise the value but not lower it.
const ADJUSTMENTS: [&str; 3] = ["-1000", "-999", "-500"];

/// Arenas of the allocator: with one for each thread, memory that one gave back is of no use to another.
const ARENAS: libc::c_int = 2;

/// Protects this process from the OOM killer; says what could not be had. Comes before any thread.
#[must_use]
pub fn protect() -> Vec<String> {
    // SAFETY: a setting of the allocator, before other threads exist.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    let set = ADJUSTMENTS
        .iter()
        .any(|value| fs::write("/proc/self/oom_score_adj", value).is_ok());
    if set {
        return Vec::new();
    }
    vec![
        "oom_score_adj cannot be lowered (CAP_SYS_RESOURCE): the tracer may be killed too"
            .to_owned(),
    ]
}

/// Gives free pages of the allocator back to the kernel: after work that needed much for a moment.
pub fn trim() {
    // SAFETY: no memory is handed over; the allocator returns free pages to the kernel.
    unsafe { libc::malloc_trim(0) };
}

/// Gives back what loading needed, then keeps the program's own code in memory, so that reading an event
/// never waits for a disk that is busy with swap. Says what could not be had.
#[must_use]
pub fn settle() -> Vec<String> {
    trim();
    release_code();
    if lock_code().is_some() {
        return Vec::new();
    }
    vec![
        "code cannot be locked in memory (RLIMIT_MEMLOCK): reading events may stall under pressure"
            .to_owned(),
    ]
}

/// Lets go of the pages of the program's file that the start needed: parsing options and kernel types is never
/// needed again. What is used again comes back from the page cache.
fn release_code() {
    let Ok(maps) = Process::myself().and_then(|me| me.smaps()) else {
        return;
    };
    // Only what was never written to: relocated pages exist nowhere else.
    let clean = maps.iter().filter(|map| {
        let figures = &map.extension.map;
        !map.perms.contains(MMPermissions::WRITE)
            // What is shared may be a ring of the kernel, which cannot be read again.
            && map.perms.contains(MMPermissions::PRIVATE)
            && figures.get("Anonymous") == Some(&0)
            && figures.get("Private_Dirty") == Some(&0)
            && figures.get("Swap").is_none_or(|bytes| *bytes == 0)
    });
    for map in clean.filter(|map| matches!(map.pathname, MMapPath::Path(_))) {
        let (begin, end) = map.address;
        let (Ok(length), Ok(begin)) = (usize::try_from(end - begin), usize::try_from(begin)) else {
            continue;
        };
        let address = std::ptr::with_exposed_provenance_mut(begin);
        // SAFETY: the range is a mapping of a file that nothing was written to: its pages are read again from there.
        let _ = unsafe { madvise(address, length, Advice::LinuxDontNeed) };
    }
}

fn lock_code() -> Option<()> {
    let maps = Process::myself().ok()?.maps().ok()?;
    let code = maps.iter().filter(|map| {
        map.perms
            .contains(MMPermissions::EXECUTE | MMPermissions::PRIVATE)
    });
    for map in code.filter(|map| matches!(map.pathname, MMapPath::Path(_))) {
        let (begin, end) = map.address;
        let length = usize::try_from(end - begin).ok()?;
        let address = std::ptr::with_exposed_provenance_mut(usize::try_from(begin).ok()?);
        // ONFAULT: what is never used is not brought in.
        // SAFETY: the range is a mapping of this process, and locking changes no contents.
        unsafe { rustix::mm::mlock_with(address, length, MlockFlags::ONFAULT) }.ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_locked_and_little_else() {
        let notes = settle();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let locked = status
            .lines()
            .find_map(|line| line.strip_prefix("VmLck:"))
            .unwrap();
        let locked: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
        assert_eq!(locked > 0, notes.is_empty(), "{notes:?}");
        assert!(locked < 64 << 10, "{locked} kB");
    }
}
