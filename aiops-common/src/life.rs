//! The life family: which processes exist, for the shadow table of identities.

use crate::{Header, Task};

/// `sched/sched_process_fork` of a new process (threads are left out).
pub const LIFE_FORK: u32 = 1;
/// `sched/sched_process_exec`.
pub const LIFE_EXEC: u32 = 2;
/// `sched/sched_process_exit` of a process (its leader, or its last thread).
pub const LIFE_EXIT: u32 = 3;

/// A process is born, becomes another program, or ends.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Life {
    /// The beginning of every record.
    pub header: Header,
    /// The process; for `LIFE_FORK` the child, with the parent's `comm`.
    pub task: Task,
    /// `LIFE_*`.
    pub life: u32,
    /// Parent's process id (`LIFE_FORK`), else 0.
    pub parent: u32,
}

const _: () = assert!(size_of::<Life>() == 24 + 40 + 8);
