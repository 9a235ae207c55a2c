//! Which tasks are wanted: decided in the kernel, so that others cost nothing more than the question.

/// How many entries each list of the filter has; an empty list wants all. The lists are hash maps of the
/// same names in capitals (`PIDS`, `COMMS`, `USERS`, `CGROUPS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Wanted {
    /// Process ids.
    pub pids: u32,
    /// Names of threads.
    pub comms: u32,
    /// Real user ids.
    pub users: u32,
    /// Memory cgroups: the cgroup itself and everything below it.
    pub cgroups: u32,
    /// Offset of `cgroup_subsys_state.parent`, the way from a cgroup to the one above it.
    pub css_parent: u32,
}

impl Wanted {
    /// As the words of the global `WANTED`.
    #[must_use]
    pub const fn words(&self) -> [u32; 5] {
        [
            self.pids,
            self.comms,
            self.users,
            self.cgroups,
            self.css_parent,
        ]
    }
}

/// Most entries of one list.
pub const MOST: u32 = 1024;

/// Levels of cgroups that are looked at, from the task's own upwards.
pub const LEVELS: u32 = 16;
