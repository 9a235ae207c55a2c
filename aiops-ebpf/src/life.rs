//! Processes that come and go, for the table of identities; and the end of a victim.

use aiops_common::EventKind;
use aiops_common::Loss;
use aiops_common::NO_VALUE;
use aiops_common::life::LIFE_EXEC;
use aiops_common::life::LIFE_EXIT;
use aiops_common::life::LIFE_FORK;
use aiops_common::life::Life;
use aiops_common::oom::STEP_EXIT;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_ebpf::programs::TracePointContext;

use crate::emit::NO_WAKEUP;
use crate::emit::header;
use crate::emit::reserve;
use crate::emit::submit;
use crate::kernel::Address;
use crate::kernel::current;
use crate::kernel::current_ids;
use crate::kernel::fill_current;
use crate::kernel::fill_task;
use crate::kernel::offset;
use crate::kernel::read;
use crate::maps::DELIVERED;
use crate::maps::LIFE;
use crate::maps::VICTIMS;
use crate::oom::step;

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`.
#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let child: Address = ctx.arg(1);
    let tid = read::<u32>(child, offset!(task_pid));
    let pid = read::<u32>(child, offset!(task_tgid));
    if pid.is_some() && tid == pid {
        let (parent, _) = current_ids();
        emit(LIFE_FORK, parent, Some(child));
    }
    0
}

/// `sched/sched_process_exec`.
#[tracepoint(category = "sched", name = "sched_process_exec")]
pub fn process_exec(_ctx: TracePointContext) -> u32 {
    emit(LIFE_EXEC, 0, None);
    0
}

/// `sched/sched_process_exit`.
#[tracepoint(category = "sched", name = "sched_process_exit")]
pub fn process_exit(_ctx: TracePointContext) -> u32 {
    let (pid, tid) = current_ids();
    if !is_last_thread(pid, tid) {
        return 0;
    }
    // Two last threads may both think so; only one of them finds the entry.
    if VICTIMS.remove(pid).is_ok() {
        let _ = DELIVERED.remove(pid);
        step(STEP_EXIT, pid, tid);
    }
    emit(LIFE_EXIT, 0, None);
    0
}

/// `signal->live` has been counted down before this hook (kernel/exit.c, `do_exit`).
#[inline(always)]
fn is_last_thread(pid: u32, tid: u32) -> bool {
    read::<Address>(current(), offset!(task_signal))
        .and_then(|signal| read::<i32>(signal, offset!(signal_live)))
        .map_or(tid == pid, |live| live == 0)
}

/// Emits the life of the running task, or of a new one.
#[inline(always)]
fn emit(life: u32, parent: u32, child: Option<Address>) {
    let Some(mut entry) = reserve::<Life>(&LIFE, Loss::LifeRingFull) else {
        return;
    };
    let out = entry.as_mut_ptr();
    // SAFETY: the ring gave room for one record; all of it is written here.
    unsafe {
        (*out).header = header::<Life>(EventKind::Life, bpf_ktime_get_ns());
        match child {
            Some(child) => fill_task(&raw mut (*out).task, child),
            None => {
                fill_current(&raw mut (*out).task);
                // The process began with its leader, whichever thread is the last.
                let leader = read::<Address>(current(), offset!(task_leader));
                let start = leader.and_then(|leader| read(leader, offset!(task_start)));
                (*out).task.start_ns = start.unwrap_or(NO_VALUE);
            }
        }
        (*out).life = life;
        (*out).parent = parent;
    }
    submit(entry, EventKind::Life, NO_WAKEUP);
}
