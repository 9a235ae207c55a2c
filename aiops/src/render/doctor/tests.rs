//! A whole doctor report.

use super::super::Format;
use super::super::Style;
use super::*;
use crate::msg;
use crate::report::Accounting;
use crate::report::HostInfo;

fn check(id: &str, state: CheckState) -> Check {
    Check {
        id: id.to_owned(),
        state,
        what: msg!("types of the kernel", "内核类型信息"),
        detail: Some("/sys/kernel/btf/vmlinux\x1b[2J".to_owned()),
        fallback: Some(msg!("classic tracepoints", "经典 tracepoint")),
        lost: Some(msg!("memory of the victim", "受害者内存数值")),
        remedy: Some(msg!(
            "boot a kernel with CONFIG_DEBUG_INFO_BTF",
            "使用启用 CONFIG_DEBUG_INFO_BTF 的内核"
        )),
        privilege: Some("CAP_BPF"),
        since: Some("5.10"),
    }
}

fn text(lang: Lang, unicode: bool) -> String {
    let report = Report {
        schema: "aiops.doctor/1".to_owned(),
        version: "0.1.0".to_owned(),
        generated_at: "2026-11-23T14:30:25.000+08:00".to_owned(),
        host: HostInfo {
            hostname: "db-1".to_owned(),
            kernel: "6.12.0".to_owned(),
            mem_total_kb: Some(8 << 20),
            ..HostInfo::default()
        },
        data: DoctorData {
            checks: vec![
                check("btf", CheckState::Ok),
                check("hook:oom/mark_victim", CheckState::Degraded),
            ],
            commands: vec![CommandState {
                command: "trace oom",
                state: CheckState::Failed,
                reason: Some(msg!("no permission", "没有权限")),
            }],
        },
        findings: Vec::new(),
        accounting: Accounting::default(),
    };
    super::super::report(
        &report,
        Format::Text,
        &Style {
            lang,
            color: false,
            width: 60,
            unicode,
        },
    )
    .unwrap()
}

#[test]
fn checks_say_what_is_lost_and_what_to_do() {
    let expected = "\
+==========================================================+
| What works on this host              2026-11-23 14:30:25 |
+==========================================================+
| Host: db-1, Linux 6.12.0, 8 GiB                          |
+----------------------------------------------------------+
| + ok       btf - types of the kernel:                    |
|            /sys/kernel/btf/vmlinux\\x1b[2J                |
| ! degraded hook:oom/mark_victim - types of the kernel:   |
|            /sys/kernel/btf/vmlinux\\x1b[2J                |
|            lost without it: memory of the victim         |
|            stands in: classic tracepoints                |
|            do: boot a kernel with CONFIG_DEBUG_INFO_BTF  |
|            needs: CAP_BPF, Linux 5.10 or later (oldest   |
|                seen)                                     |
+----------------------------------------------------------+
| Commands                                                 |
| x failed   aiops trace oom - no permission               |
+----------------------------------------------------------+
";
    assert_eq!(text(Lang::En, false), expected);
    let zh = text(Lang::Zh, true);
    assert!(
        zh.contains("! 降级 hook:oom/mark_victim")
            && zh.contains("✗ 失败 aiops trace oom – 没有权限"),
        "{zh}"
    );
    assert!(
        zh.lines()
            .all(|line| super::super::width::width(line) == 60),
        "{zh}"
    );
}
