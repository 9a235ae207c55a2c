//! `aiops doctor`: what works on this host, with which privilege, and why not.

use std::path::Path;

use crate::cli::Context;
use crate::diag::Exit;
use crate::model::HookState;
use crate::msg;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::HostInfo;
use crate::report::Msg;
use crate::report::Report;
use crate::report::Severity;
use crate::report::doctor::Check;
use crate::report::doctor::CheckState;
use crate::report::doctor::CommandState;
use crate::report::doctor::DoctorData;
use crate::session::plane;
use crate::source::bpf;
use crate::source::bpf::hooks;
use crate::source::cgroup::Controller;
use crate::source::host;
use crate::source::kmsg::Kmsg;
use crate::source::procfs::Scope;
use crate::source::procfs::read_system;
use crate::time;

/// Options of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops doctor
  aiops doctor -o json | jq '.data.checks[] | select(.state != \"ok\")'")]
pub struct Args {
    /// Exit with 10 when something is degraded, 20 when a command does not work.
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command: each hook is attached for a moment, nothing is changed.
///
/// # Errors
/// There is no /proc, or the report cannot be printed.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    let root = &context.root;
    // A root without /proc is a mistake of the caller, not a host where nothing works.
    plane::open(root)?;
    let mut checks = vec![
        privilege(),
        btf(root),
        memory_cgroup(root),
        swap(root),
        psi(root),
        kmsg(),
    ];
    let (states, tracer_error) = if root == Path::new("/") {
        probe()
    } else {
        (Vec::new(), None)
    };
    checks.extend(hooks::all().filter_map(|hook| hook_check(hook, &states)));
    if let Some(check) = tracer_error {
        checks.insert(1, check);
    }
    let commands = commands(&checks, root);
    let findings = findings(&checks, &commands);
    let now = time::now_ns();
    let report = Report {
        schema: "aiops.doctor/1".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generated_at: time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default(),
        host: HostInfo::from(&host::read(root)),
        data: DoctorData { checks, commands },
        findings,
        accounting: Accounting {
            complete: true,
            ..Accounting::default()
        },
    };
    super::print(&report, context, args.exit_code)
}

fn check(id: &str, state: CheckState, what: Msg, detail: Option<String>) -> Check {
    Check {
        id: id.to_owned(),
        state,
        what,
        detail,
        fallback: None,
        lost: None,
        remedy: None,
        privilege: None,
        since: None,
    }
}

fn privilege() -> Check {
    let uid = rustix::process::geteuid().as_raw();
    let state = if uid == 0 {
        CheckState::Ok
    } else {
        CheckState::Failed
    };
    Check {
        remedy: (uid != 0).then(|| {
            msg!(
                "run as root, or give the program CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE",
                "以 root 运行，或授予 CAP_BPF、CAP_PERFMON 和 CAP_SYS_PTRACE"
            )
        }),
        lost: (uid != 0).then(|| {
            msg!(
                "live tracing; replay works for everyone",
                "实时跟踪；回放无需特权"
            )
        }),
        ..check(
            "privilege",
            state,
            msg!("privilege for live tracing", "实时跟踪所需的权限"),
            Some(format!("uid {uid}")),
        )
    }
}

fn btf(root: &Path) -> Check {
    let path = root.join("sys/kernel/btf/vmlinux");
    let size = std::fs::metadata(&path).map(|meta| meta.len());
    let state = if size.is_ok() {
        CheckState::Ok
    } else {
        CheckState::Degraded
    };
    let missing = size.is_err();
    Check {
        fallback: missing.then(|| {
            msg!(
                "the tracepoint's own fields",
                "仅使用 tracepoint 自带的字段"
            )
        }),
        lost: missing.then(|| {
            msg!(
                "swap, cgroup and gfp of a kill where the kernel's log is silent",
                "内核日志缺失时，无法得知 swap、cgroup 与 gfp"
            )
        }),
        remedy: missing.then(|| {
            msg!(
                "use a kernel with CONFIG_DEBUG_INFO_BTF=y",
                "使用启用 CONFIG_DEBUG_INFO_BTF=y 的内核"
            )
        }),
        since: Some("5.4"),
        ..check(
            "btf",
            state,
            msg!(
                "types of the running kernel (BTF)",
                "当前内核的类型信息 (BTF)"
            ),
            Some(size.map_or_else(
                |error| format!("{}: {error}", path.display()),
                |size| format!("{size} bytes"),
            )),
        )
    }
}

fn memory_cgroup(root: &Path) -> Check {
    let controller = Controller::detect(root);
    let state = if controller.is_some() {
        CheckState::Ok
    } else {
        CheckState::Degraded
    };
    let missing = controller.is_none();
    Check {
        lost: missing.then(|| {
            msg!(
                "limits, use and names of cgroups",
                "cgroup 的限额、用量与名称"
            )
        }),
        remedy: missing.then(|| {
            msg!(
                "mount cgroup2, or start the kernel without cgroup_disable=memory",
                "挂载 cgroup2，或去掉内核参数 cgroup_disable=memory"
            )
        }),
        ..check(
            "memory-cgroup",
            state,
            msg!("memory controller of cgroups", "cgroup 内存控制器"),
            controller.map(|controller| format!("cgroup v{}", controller.hierarchy())),
        )
    }
}

fn swap(root: &Path) -> Check {
    let total = read_system(root, Scope::Memory).swap_total_kb;
    let state = if total.unwrap_or(0) > 0 {
        CheckState::Ok
    } else {
        CheckState::Absent
    };
    check(
        "swap",
        state,
        msg!("swap space", "交换空间"),
        total.map(|total| format!("{total} KiB")),
    )
}

fn psi(root: &Path) -> Check {
    let known = read_system(root, Scope::Memory).psi_some_total_us.is_some();
    let state = if known {
        CheckState::Ok
    } else {
        CheckState::Degraded
    };
    Check {
        lost: (!known).then(|| msg!("how long tasks waited for memory", "任务等待内存的时间")),
        remedy: (!known).then(|| {
            msg!(
                "start the kernel with psi=1 (Linux 4.20 and later)",
                "使用内核参数 psi=1 启动（Linux 4.20 及以上）"
            )
        }),
        since: Some("4.20"),
        ..check(
            "psi",
            state,
            msg!("pressure stall information", "压力停顿信息 (PSI)"),
            None,
        )
    }
}

fn kmsg() -> Check {
    let opened = Kmsg::open();
    let state = if opened.is_ok() {
        CheckState::Ok
    } else {
        CheckState::Degraded
    };
    let missing = opened.is_err();
    Check {
        lost: missing.then(|| {
            msg!(
                "the kernel's own text of a kill: task table, exact gfp mask, limit",
                "内核的 OOM 原文：任务表、准确的 gfp、限额"
            )
        }),
        remedy: missing.then(|| {
            msg!(
                "run as root, or give CAP_SYSLOG; in a container, mount /dev/kmsg",
                "以 root 运行或授予 CAP_SYSLOG；容器内需挂载 /dev/kmsg"
            )
        }),
        privilege: Some("CAP_SYSLOG"),
        since: Some("3.5"),
        ..check(
            "kmsg",
            state,
            msg!("the kernel's log", "内核日志"),
            Some(opened.map_or_else(
                |error| format!("/dev/kmsg: {error}"),
                |_| "/dev/kmsg".to_owned(),
            )),
        )
    }
}

/// Attaches every hook for a moment.
fn probe() -> (Vec<HookState>, Option<Check>) {
    match bpf::probe() {
        Ok(hooks) => (hooks, None),
        Err(error) => {
            let remedy = error.remedy();
            let failed = Check {
                remedy: Some(Msg::new(remedy, remedy)),
                lost: Some(msg!("live tracing", "实时跟踪")),
                privilege: Some("CAP_BPF, CAP_PERFMON"),
                ..check(
                    "bpf",
                    CheckState::Failed,
                    msg!("BPF programs", "BPF 程序"),
                    Some(error.to_string()),
                )
            };
            (Vec::new(), Some(failed))
        }
    }
}

fn hook_check(hook: &hooks::Hook, states: &[HookState]) -> Option<Check> {
    let state = states.iter().find(|state| state.name == hook.name)?;
    let attached = state.attached;
    let outcome = match (attached, hook.required) {
        (true, _) => CheckState::Ok,
        (false, true) => CheckState::Failed,
        (false, false) => CheckState::Degraded,
    };
    Some(Check {
        fallback: hook
            .fallback
            .filter(|_| !attached)
            .map(|text| Msg::new(text, text)),
        lost: (!attached).then(|| Msg::new(hook.lost_en, hook.lost_zh)),
        privilege: Some(hook.privilege),
        since: Some(hook.oldest),
        ..check(
            &format!("hook:{}", hook.name),
            outcome,
            Msg::new(
                format!("kernel hook {}", hook.attach.label()),
                format!("内核挂钩 {}", hook.attach.label()),
            ),
            state.error.clone(),
        )
    })
}

fn commands(checks: &[Check], root: &Path) -> Vec<CommandState> {
    let is = |id: &str, state: CheckState| {
        checks
            .iter()
            .any(|check| check.id == id && check.state == state)
    };
    let failed =
        checks.iter().any(|check| check.state == CheckState::Failed) || root != Path::new("/");
    let degraded = checks
        .iter()
        .any(|check| check.state == CheckState::Degraded);
    let trace = match (failed, degraded) {
        (true, _) => CheckState::Failed,
        (false, true) => CheckState::Degraded,
        (false, false) => CheckState::Ok,
    };
    let reason = match trace {
        CheckState::Failed if is("privilege", CheckState::Failed) => {
            Some(msg!("needs root", "需要 root"))
        }
        CheckState::Failed => Some(msg!("a check above failed", "上面有检查未通过")),
        CheckState::Degraded => Some(msg!(
            "works, without what is marked above",
            "可用，但缺少上面标出的部分"
        )),
        CheckState::Ok | CheckState::Absent => None,
    };
    vec![
        CommandState {
            command: "trace oom",
            state: trace,
            reason,
        },
        CommandState {
            command: "replay",
            state: CheckState::Ok,
            reason: None,
        },
    ]
}

fn findings(checks: &[Check], commands: &[CommandState]) -> Vec<Finding> {
    let broken = commands
        .iter()
        .any(|command| command.state == CheckState::Failed);
    let bad = |check: &&Check| matches!(check.state, CheckState::Failed | CheckState::Degraded);
    let evidence: Vec<Msg> = checks
        .iter()
        .filter(bad)
        .map(|check| check.what.clone())
        .collect();
    if evidence.is_empty() {
        return Vec::new();
    }
    let title = if broken {
        msg!("live tracing does not work here", "本机无法实时跟踪")
    } else {
        msg!("live tracing works with gaps", "可以实时跟踪，但信息不完整")
    };
    vec![Finding {
        id: "doctor-gaps",
        severity: if broken {
            Severity::Critical
        } else {
            Severity::Warning
        },
        title,
        evidence,
        advice: checks
            .iter()
            .filter(bad)
            .filter_map(|check| check.remedy.clone())
            .collect(),
    }]
}
