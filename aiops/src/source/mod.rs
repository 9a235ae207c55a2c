//! Where facts come from: kernel hooks, /proc, cgroups, the kernel's log.
//!
//! Each source runs on a thread of its own and sends [`Item`]s into the session's [`Sink`]. Readers of
//! files take the root directory under which `proc` and `sys` stand, so that a captured tree or a
//! container's host mount reads like the live host.

pub mod bpf;
pub mod buildid;
pub mod cgroup;
pub mod clock;
pub mod container;
pub mod counters;
pub mod elf;
mod files;
pub mod guard;
pub mod host;
pub mod identity;
pub mod kmsg;
pub mod mapped;
pub mod maps;
mod mounts;
pub mod plane;
pub mod priority;
pub mod procdir;
pub mod procfs;
pub mod residency;
pub mod sampler;
pub mod symbols;
pub mod unwind;

use std::path::Path;

use crate::model::Item;
use crate::model::Nanos;
use crate::model::RawText;

/// Where every source sends what it learns. A closed sink means that the session is over.
pub type Sink = tokio::sync::mpsc::UnboundedSender<Item>;

/// Whether `root` has a running kernel's /proc; a captured tree has plain files, which never change.
#[must_use]
pub fn live(root: &Path) -> bool {
    /// Linux: include/uapi/linux/magic.h, `PROC_SUPER_MAGIC`.
    const PROC: i128 = 0x9fa0;
    rustix::fs::statfs(root.join("proc")).is_ok_and(|stat| i128::from(stat.f_type) == PROC)
}

/// A process is born, becomes another program, or ends: from the kernel hooks to the table of identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// When.
    pub ts_ns: Nanos,
    /// Process id.
    pub pid: u32,
    /// Start of the process, ns since boot.
    pub start_ns: Option<u64>,
    /// Name at that moment.
    pub comm: RawText,
    /// What happened.
    pub kind: LifeKind,
}

/// Kinds of [`Life`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeKind {
    /// A new process, not a thread.
    Fork {
        /// Parent's process id.
        parent: u32,
    },
    /// It runs another program now.
    Exec,
    /// It has ended.
    Exit,
}
