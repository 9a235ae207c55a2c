//! Who a process is, and what its instruction pointers mean.

use serde::Deserialize;
use serde::Serialize;

use super::Nanos;
use super::RawText;

/// A process: (pid, start) is its identity, for pids are used again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// When this was read.
    pub ts_ns: Nanos,
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot (/proc/PID/stat field 22).
    pub start_ticks: Option<u64>,
    /// Parent's process id.
    pub ppid: Option<u32>,
    /// Name.
    pub comm: RawText,
    /// Arguments; empty for kernel threads.
    pub cmdline: Vec<RawText>,
    /// The program's path.
    pub exe: Option<RawText>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Name of that user, where the host knows one.
    #[serde(default)]
    pub user: Option<String>,
    /// The systemd unit, as the cgroup's path tells: the deepest `.service`, `.scope` or `.slice`.
    #[serde(default)]
    pub unit: Option<String>,
    /// Path in the memory controller's hierarchy, as the kernel prints it.
    pub cgroup: Option<RawText>,
    /// The container that the cgroup's name tells.
    pub container: Option<Container>,
    /// Executable mappings, for stacks.
    #[serde(default)]
    pub mappings: Vec<Mapping>,
}

/// A container, as its cgroup's name tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// docker, containerd, cri-o, podman, kubernetes (runtime unknown), lxc, nspawn.
    pub runtime: String,
    /// The runtime's id, whole.
    pub id: String,
    /// Kubernetes pod uid, with dashes.
    pub pod: Option<String>,
}

/// An executable mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// File, or a name in brackets such as `[vdso]`.
    pub path: RawText,
    /// Build id of the file, lower-case hexadecimal.
    pub build_id: Option<String>,
}

/// Whose addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SymbolSpace {
    /// The kernel.
    Kernel,
    /// A process, by its id and start.
    Process {
        /// Process id.
        pid: u32,
        /// Start in clock ticks since boot.
        start_ticks: Option<u64>,
    },
}

/// Names for some addresses of one space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SymbolSet {
    /// Whose addresses.
    pub space: SymbolSpace,
    /// One entry per address.
    pub symbols: Vec<Symbolized>,
}

/// An address and what stands there, innermost inlined function first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Symbolized {
    /// The address.
    pub ip: u64,
    /// Never empty: an address without a name has one frame with its module, or nothing but the address.
    pub frames: Vec<Frame>,
}

/// One function at an address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Demangled name.
    pub function: Option<RawText>,
    /// Offset into the function, bytes.
    pub offset: Option<u64>,
    /// File that holds the code, or `[kernel]`, or a kernel module in brackets.
    pub module: Option<RawText>,
    /// Offset in that file, bytes.
    pub module_offset: Option<u64>,
    /// Build id of that file.
    pub build_id: Option<String>,
    /// Source file.
    pub file: Option<RawText>,
    /// Source line.
    pub line: Option<u32>,
    /// Whether it was inlined into the next frame.
    #[serde(default)]
    pub inlined: bool,
}
