//! The one table of kernel hooks: what is attached, since when it is known to work, and what is lost
//! without it. Loading, `aiops doctor` and docs/hooks.md are made from [`FAMILIES`].

mod stall;

pub use stall::RECLAIM;
pub use stall::SWAP;

/// An object of `aiops-ebpf`: programs that share maps and are loaded together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// `aiops.bpf.o`: OOM kills and process lives.
    Oom,
    /// `reclaim.bpf.o`: stalls and swap.
    Reclaim,
}

impl Object {
    /// Its file in `aiops-ebpf/object`.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Oom => "aiops.bpf.o",
            Self::Reclaim => "reclaim.bpf.o",
        }
    }
}

/// What one command attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `trace oom`.
    Oom,
    /// `trace reclaim`.
    Reclaim,
    /// `trace swap`.
    Swap,
}

impl Family {
    /// Its name in recordings and pages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Oom => "oom",
            Self::Reclaim => "reclaim",
            Self::Swap => "swap",
        }
    }

    /// The object that has its programs.
    #[must_use]
    pub fn object(self) -> Object {
        match self {
            Self::Oom => Object::Oom,
            Self::Reclaim | Self::Swap => Object::Reclaim,
        }
    }

    /// Its rows, in the order in which they are attached.
    #[must_use]
    pub fn hooks(self) -> &'static [Hook] {
        let family = FAMILIES.iter().find(|(family, _)| *family == self);
        family.map_or(&[], |(_, hooks)| hooks)
    }
}

/// Every family with its hooks.
pub const FAMILIES: &[(Family, &[Hook])] = &[
    (Family::Oom, HOOKS),
    (Family::Reclaim, RECLAIM),
    (Family::Swap, SWAP),
];

/// Every hook of every family.
pub fn all() -> impl Iterator<Item = &'static Hook> {
    FAMILIES.iter().flat_map(|(_, hooks)| *hooks)
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// Classic tracepoint, by a perf event; needs tracefs to find its number.
    Tracepoint {
        /// Folder below `events`.
        category: &'static str,
        /// Name of the event.
        name: &'static str,
    },
    /// Tracepoint with typed arguments; needs the kernel's BTF.
    BtfTracepoint {
        /// Name of the event.
        name: &'static str,
    },
    /// Raw tracepoint; needs neither.
    RawTracepoint {
        /// Name of the event.
        name: &'static str,
    },
}

impl Attach {
    /// Name for people: `oom/mark_victim`, `tp_btf signal_generate`.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::Tracepoint { category, name } => format!("{category}/{name}"),
            Self::BtfTracepoint { name } => format!("tp_btf {name}"),
            Self::RawTracepoint { name } => format!("raw_tp {name}"),
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// Short name, unique; part of JSON output.
    pub name: &'static str,
    /// Name of the program in the BPF object.
    pub program: &'static str,
    /// Where it is attached.
    pub attach: Attach,
    /// Whether nothing can be captured without it.
    pub required: bool,
    /// What takes its place, if anything does.
    pub fallback: Option<&'static str>,
    /// What is lost without it, in English.
    pub lost_en: &'static str,
    /// The same in Chinese.
    pub lost_zh: &'static str,
    /// Oldest kernel on which it was seen to work.
    pub oldest: &'static str,
    /// Capabilities that attaching needs.
    pub privilege: &'static str,
}

/// Reading tracefs and opening a perf event for a tracepoint, besides loading a program.
const CLASSIC: &str =
    "CAP_BPF, CAP_PERFMON; root to read tracefs, CAP_SYS_ADMIN where it is not mounted";
/// Loading and attaching with BTF; reads kernel memory.
const TYPED: &str = "CAP_BPF, CAP_PERFMON";

const fn classic(
    program: &'static str,
    category: &'static str,
    name: &'static str,
    lost: (&'static str, &'static str),
) -> Hook {
    Hook {
        name: program,
        program,
        attach: Attach::Tracepoint { category, name },
        required: false,
        fallback: None,
        lost_en: lost.0,
        lost_zh: lost.1,
        oldest: "5.10",
        privilege: CLASSIC,
    }
}

/// The hooks of `trace oom`, in the order in which they are attached: what completes a record before what emits it.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "signal_generate",
        program: "signal_generate",
        attach: Attach::BtfTracepoint {
            name: "signal_generate",
        },
        required: false,
        fallback: Some("mark_victim"),
        lost_en: "swap entries, the victim's kernel stack and its cgroup; on kernels whose mark_victim has \
                  only a pid, every size of the victim",
        lost_zh: "交换条目、受害进程的内核栈及其 cgroup；若内核的 mark_victim 只有 pid，则受害进程的全部内存数据",
        oldest: "5.10",
        privilege: TYPED,
    },
    Hook {
        required: true,
        ..classic(
            "mark_victim",
            "oom",
            "mark_victim",
            (
                "every capture by BPF: nothing tells that a kill is an OOM kill",
                "全部 BPF 捕获：无法得知某次终止是否为 OOM",
            ),
        )
    },
    classic(
        "signal_deliver",
        "signal",
        "signal_deliver",
        (
            "the victim's user stack when another process triggered the kill, and the time of delivery",
            "由其他进程触发时受害进程的用户栈，以及信号送达时间",
        ),
    ),
    classic(
        "process_exit",
        "sched",
        "sched_process_exit",
        (
            "the time at which the victim exited; identities end at the next scan",
            "受害进程退出的时间；进程身份在下次扫描时才结束",
        ),
    ),
    classic(
        "process_exec",
        "sched",
        "sched_process_exec",
        (
            "identity of programs started between two scans",
            "两次扫描之间启动的程序的身份",
        ),
    ),
    Hook {
        // The classic record names the child's thread id alone: nothing tells a thread from a process.
        attach: Attach::BtfTracepoint {
            name: "sched_process_fork",
        },
        privilege: TYPED,
        ..classic(
            "process_fork",
            "sched",
            "sched_process_fork",
            (
                "identity of processes born between two scans that run no other program",
                "两次扫描之间产生且未执行其他程序的进程的身份",
            ),
        )
    },
    classic(
        "wake_reaper",
        "oom",
        "wake_reaper",
        ("when the OOM reaper was woken", "OOM 回收线程被唤醒的时间"),
    ),
    classic(
        "start_task_reaping",
        "oom",
        "start_task_reaping",
        ("when the OOM reaper began", "OOM 回收线程开始的时间"),
    ),
    classic(
        "finish_task_reaping",
        "oom",
        "finish_task_reaping",
        ("when the OOM reaper had finished", "OOM 回收线程完成的时间"),
    ),
    classic(
        "skip_task_reaping",
        "oom",
        "skip_task_reaping",
        (
            "that the OOM reaper passed a victim over",
            "OOM 回收线程跳过受害进程这一事实",
        ),
    ),
    classic(
        "direct_reclaim_begin",
        "vmscan",
        "mm_vmscan_direct_reclaim_begin",
        (
            "early warning of a system-wide shortage; allocation mask and order of the trigger until the kernel's text comes",
            "全局内存紧张的预警；内核日志到来之前触发者的分配掩码与阶数",
        ),
    ),
    classic(
        "memcg_reclaim_begin",
        "vmscan",
        "mm_vmscan_memcg_reclaim_begin",
        (
            "early warning of a cgroup at its limit; allocation mask and order of the trigger until the kernel's text comes",
            "cgroup 达到上限的预警；内核日志到来之前触发者的分配掩码与阶数",
        ),
    ),
];

/// The hook of this BPF program.
#[must_use]
pub fn by_program(program: &str) -> Option<&'static Hook> {
    all().find(|hook| hook.program == program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::fmt::Write as _;
    use std::path::Path;

    /// Text of docs/hooks.md.
    fn page() -> String {
        let mut text = String::from(
            "# Kernel hooks\n\nMade from the table in `aiops/src/source/bpf/hooks.rs` by its test with \
             `AIOPS_UPDATE_DOCS=1`; do not edit.\n\n\
             | program | command | hook | required | without it | lost without it | 缺少时失去 | oldest kernel seen | privilege |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for (family, hook) in FAMILIES
            .iter()
            .flat_map(|(family, hooks)| hooks.iter().map(move |hook| (family.name(), hook)))
        {
            let required = if hook.required { "yes" } else { "no" };
            let fallback = hook.fallback.unwrap_or("–");
            let Hook {
                program,
                lost_en,
                lost_zh,
                oldest,
                privilege,
                ..
            } = hook;
            let label = hook.attach.label();
            writeln!(
                text,
                "| {program} | trace {family} | {label} | {required} | {fallback} | {lost_en} | {lost_zh} | {oldest} | {privilege} |"
            )
            .expect("a string takes any text");
        }
        text
    }

    #[test]
    fn names_are_unique_and_texts_are_there_in_both_languages() {
        let names: HashSet<_> = all().map(|hook| hook.name).collect();
        let programs: HashSet<_> = all().map(|hook| hook.program).collect();
        assert_eq!(
            (names.len(), programs.len()),
            (all().count(), all().count())
        );
        for hook in all() {
            assert!(
                hook.lost_en.is_ascii() && !hook.lost_en.is_empty(),
                "{}",
                hook.name
            );
            assert!(!hook.lost_zh.is_ascii(), "{}", hook.name);
            assert!(
                hook.fallback.is_none_or(|name| by_program(name).is_some()),
                "{}",
                hook.name
            );
        }
    }

    #[test]
    fn the_page_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hooks.md");
        if std::env::var_os("AIOPS_UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().expect("it has a folder"))
                .expect("docs can be made");
            std::fs::write(&path, page()).expect("docs/hooks.md can be written");
        }
        let stored = std::fs::read_to_string(&path).expect("docs/hooks.md is there");
        assert!(
            stored == page(),
            "docs/hooks.md is stale: run with AIOPS_UPDATE_DOCS=1"
        );
    }

    #[test]
    fn required_hooks_exist_on_this_kernel() {
        let seen = super::super::tracefs::with_tracefs(|tracefs| {
            all()
                .filter(|hook| hook.required)
                .all(|hook| match hook.attach {
                    Attach::Tracepoint { category, name } => {
                        tracefs.event_id(category, name).is_some()
                    }
                    Attach::BtfTracepoint { .. } | Attach::RawTracepoint { .. } => true,
                })
        });
        match seen {
            Ok(all) => assert!(all),
            Err(error) => super::super::offsets::skip_or_fail(&format!("no tracefs: {error}")),
        }
    }
}
