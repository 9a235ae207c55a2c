//! How much this process may be in the way of others.

/// `ioprio_set`: of this process (linux/ioprio.h).
const WHO_PROCESS: libc::c_int = 1;
/// Class 3, idle: the disk serves it when nobody else asks.
const IDLE: libc::c_int = 3 << 13;

/// Steps back behind everybody else: nice 19, and the disk only when nobody else asks. What the system refuses stays as
/// it was: the work is the same, only less modest.
pub fn step_back() {
    let _ = rustix::process::setpriority_process(None, 19);
    // SAFETY: the call takes three numbers and touches no memory of ours.
    let _ = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, IDLE) };
}
