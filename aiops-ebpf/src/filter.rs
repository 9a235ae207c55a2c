//! Whether the running task is wanted: lists of process ids, names, users and memory cgroups.

use aiops_common::COMM_LEN;
use aiops_common::filter::LEVELS;
use aiops_common::filter::MOST;
use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;

use crate::kernel::Address;
use crate::kernel::current;
use crate::kernel::current_ids;
use crate::kernel::offset;
use crate::kernel::read;

/// `aiops_common::filter::Wanted` as its words; set by user space before loading.
#[unsafe(no_mangle)]
pub static WANTED: Global<[u32; 5]> = Global::new([0, 0, 0, 0, u32::MAX]);

/// Wanted process ids.
#[map]
pub static PIDS: HashMap<u32, u32> = HashMap::with_max_entries(MOST, 0);

/// Wanted names, padded with NUL.
#[map]
pub static COMMS: HashMap<[u8; COMM_LEN], u32> = HashMap::with_max_entries(MOST, 0);

/// Wanted real user ids.
#[map]
pub static USERS: HashMap<u32, u32> = HashMap::with_max_entries(MOST, 0);

/// Wanted memory cgroups, by `kernfs_node.id`.
#[map]
pub static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(MOST, 0);

/// A word of `WANTED`. The map is frozen: the verifier knows the value.
#[inline(always)]
fn wanted(index: usize) -> u32 {
    // SAFETY: in bounds of the global; volatile keeps the compiler from taking the value of the build.
    unsafe { core::ptr::read_volatile((&raw const WANTED).cast::<u32>().add(index)) }
}

/// Whether the running task is wanted.
#[inline(always)]
pub fn wants_current() -> bool {
    if wanted(0) > 0 {
        let (pid, _) = current_ids();
        // SAFETY: entries are never removed while programs run.
        if unsafe { PIDS.get(pid) }.is_none() {
            return false;
        }
    }
    if wanted(1) > 0 {
        let Ok(comm) = bpf_get_current_comm() else {
            return false;
        };
        // SAFETY: as above.
        if unsafe { COMMS.get(comm) }.is_none() {
            return false;
        }
    }
    if wanted(2) > 0 {
        let uid = bpf_get_current_uid_gid() as u32;
        // SAFETY: as above.
        if unsafe { USERS.get(uid) }.is_none() {
            return false;
        }
    }
    wanted(3) == 0 || in_cgroup(current())
}

/// Whether a task's memory cgroup, or one above it, is wanted.
#[inline(always)]
fn in_cgroup(task: Address) -> bool {
    let Some(css_set) = read::<Address>(task, offset!(task_cgroups)) else {
        return false;
    };
    let Some(mut css) = read::<Address>(css_set, offset!(css_set_memory)) else {
        return false;
    };
    for _ in 0..LEVELS {
        let id = read::<Address>(css, offset!(css_cgroup))
            .and_then(|cgroup| read::<Address>(cgroup, offset!(cgroup_kn)))
            .and_then(|node| read::<u64>(node, offset!(kn_id)));
        let Some(id) = id else {
            return false;
        };
        // SAFETY: as in `wants_current`.
        if unsafe { CGROUPS.get(id) }.is_some() {
            return true;
        }
        let Some(parent) = read::<Address>(css, wanted(4)) else {
            return false;
        };
        css = parent;
    }
    false
}
