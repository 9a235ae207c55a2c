//! The three clocks of the host.

use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::model::ClockPair;
use crate::model::Nanos;

fn nanos(id: ClockId) -> i64 {
    let now = clock_gettime(id);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// CLOCK_MONOTONIC, ns: what BPF stamps events with.
#[must_use]
pub fn mono_ns() -> Nanos {
    nanos(ClockId::Monotonic).unsigned_abs()
}

/// One moment on every clock, read within a microsecond or so.
#[must_use]
pub fn now() -> ClockPair {
    ClockPair {
        mono_ns: mono_ns(),
        boot_ns: nanos(ClockId::Boottime).unsigned_abs(),
        real_ns: nanos(ClockId::Realtime),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_forward_and_boottime_is_never_behind() {
        let (first, second) = (now(), now());
        assert!(second.mono_ns >= first.mono_ns);
        assert!(first.boot_ns + 1_000_000 >= first.mono_ns);
        assert!(first.real_ns > 1_600_000_000_000_000_000);
    }
}
