//! Who is wanted. Conditions of different kinds must all hold.

use aiops_common::alloc::Config;
use aiops_common::alloc::FILTER_CGROUP;
use aiops_common::alloc::FILTER_COMM;
use aiops_common::alloc::FILTER_PID;
use aiops_common::alloc::FILTER_UID;
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::bpf_get_current_uid_gid;

use crate::kernel::current;
use crate::kernel::memcg_id;
use crate::maps::CGROUPS;
use crate::maps::COMMS;
use crate::maps::PIDS;
use crate::maps::UIDS;

/// Whether the running task's allocations count.
#[inline(always)]
pub fn wanted(config: &Config, pid: u32) -> bool {
    let filters = config.filters;
    if pid == config.own_pid {
        return false;
    }
    if filters == 0 {
        return true;
    }
    if filters & FILTER_PID != 0 && PIDS.get_ptr(pid).is_none() {
        return false;
    }
    if filters & FILTER_UID != 0 {
        let uid = bpf_get_current_uid_gid() as u32;
        if UIDS.get_ptr(uid).is_none() {
            return false;
        }
    }
    if filters & FILTER_COMM != 0 {
        let Ok(comm) = bpf_get_current_comm() else {
            return false;
        };
        if COMMS.get_ptr(comm).is_none() {
            return false;
        }
    }
    filters & FILTER_CGROUP == 0 || CGROUPS.get_ptr(memcg_id(current())).is_some()
}
