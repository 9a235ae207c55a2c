//! A report for tests, as the analysis makes them: a MySQL server in a container that met its limit.

use crate::msg;
use crate::report::Accounting;
use crate::report::Counts;
use crate::report::Finding;
use crate::report::HostInfo;
use crate::report::Report;
use crate::report::Severity;
use crate::report::oom::*;

const CGROUP: &str = "/docker/3f2a9c1b7d5e4a60918273645546372819a0b1c2d3e4f5061728394a5b6c7d8e";
const FLAGS: &str = "GFP_KERNEL";

fn before(index: u32) -> Before {
    let step = u64::from(index);
    let process = |pid, comm: &str, rss_kb| BeforeProcess {
        pid,
        comm: comm.to_owned(),
        rss_kb: Some(rss_kb),
        swap_kb: Some(0),
    };
    Before {
        t_ms: -120_250.5 + f64::from(index) * 5000.0,
        system: Some(BeforeSystem {
            mem_free_kb: Some(2_400_000 - step * 60_000),
            mem_available_kb: Some(4_200_000 - step * 90_000),
            psi_some_avg10: Some(f64::from(index) * 1.5),
            psi_full_avg10: Some(f64::from(index)),
            ..BeforeSystem::default()
        }),
        cgroup: Some(BeforeCgroup {
            path: CGROUP.to_owned(),
            usage_kb: Some((1_300_000 + step * 120_000).min(4_194_304)),
            limit_kb: Some(4_194_304),
            ..BeforeCgroup::default()
        }),
        victim: Some(process(2891, "mysqld", 1_258_291 + step * 120_000)),
        top: vec![
            process(2891, "mysqld", 1_258_291 + step * 120_000),
            process(3100, "java", 900_000),
        ],
    }
}

fn frame(function: &str, offset: u64, module: &str) -> FrameInfo {
    FrameInfo {
        ip: format!("0xffffffff8123{offset:04x}"),
        function: Some(function.to_owned()),
        offset: Some(offset),
        module: Some(module.to_owned()),
        ..FrameInfo::default()
    }
}

fn kernel_stack() -> Vec<FrameInfo> {
    let names = [
        "oom_kill_process",
        "out_of_memory",
        "mem_cgroup_out_of_memory",
        "try_charge_memcg",
        "charge_memcg",
        "__mem_cgroup_charge",
        "do_anonymous_page",
        "__handle_mm_fault",
        "handle_mm_fault",
        "do_user_addr_fault",
    ];
    names
        .iter()
        .zip(0x40..)
        .map(|(name, offset)| frame(name, offset, "[kernel]"))
        .collect()
}

fn user_stack() -> Vec<FrameInfo> {
    vec![
        frame(
            "__memset_avx2_unaligned_erms",
            0x12,
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
        ),
        FrameInfo {
            file: Some("/build/mysql/sql/sql_cache.cc".to_owned()),
            line: Some(1482),
            ..frame(
                "Query_cache::allocate_block(unsigned long, bool)",
                0x1f3,
                "/usr/sbin/mysqld",
            )
        },
        FrameInfo {
            ip: "0x55d0c0ffee00".to_owned(),
            module: Some("/usr/sbin/mysqld".to_owned()),
            module_offset: Some(0xffee00),
            ..FrameInfo::default()
        },
        FrameInfo {
            ip: "0x7f00deadbeef".to_owned(),
            ..FrameInfo::default()
        },
    ]
}

/// The victim.
pub(super) fn kill() -> Kill {
    Kill {
        pid: 2891,
        comm: "mysqld".to_owned(),
        uid: Some(999),
        total_vm_kb: Some(6_291_456),
        anon_rss_kb: Some(4_128_768),
        file_rss_kb: Some(20_480),
        shmem_rss_kb: Some(0),
        swap_kb: Some(0),
        pgtables_kb: Some(8_960),
        oom_score_adj: Some(0),
        score: Some(991),
        cmdline: Some(
            "/usr/sbin/mysqld --defaults-file=/etc/mysql/my.cnf --innodb-buffer-pool-size=4G"
                .to_owned(),
        ),
        exe: Some("/usr/sbin/mysqld".to_owned()),
        ppid: Some(2870),
        cgroup: Some(CGROUP.to_owned()),
        container: Some(ContainerInfo {
            runtime: "docker".to_owned(),
            id: CGROUP.trim_start_matches("/docker/").to_owned(),
            pod: None,
        }),
        kernel: Some(KernelFigures {
            anon_rss_kb: Some(4_128_900),
            ..KernelFigures::default()
        }),
        rss_approximate: true,
        figures_from: "signal",
    }
}

fn candidate(pid: u32, comm: &str, rss_kb: u64, score: Option<i64>) -> Candidate {
    Candidate {
        pid,
        comm: comm.to_owned(),
        rss_kb: Some(rss_kb),
        swap_kb: Some(0),
        pgtables_kb: Some(400),
        oom_score_adj: Some(0),
        badness_pages: score.map(|score| score * 1049),
        score,
        victim: false,
        unkillable: None,
        from: "sample",
        age_ms: Some(740.0),
    }
}

fn why() -> Why {
    Why {
        total_pages: Some(1_048_576),
        candidates: vec![
            Candidate {
                victim: true,
                from: "mark",
                age_ms: Some(0.0),
                pgtables_kb: Some(8960),
                ..candidate(2891, "mysqld", 4_149_248, Some(991))
            },
            candidate(2950, "mysqld_exporter", 18_000, Some(4)),
            Candidate {
                oom_score_adj: Some(-1000),
                unkillable: Some("adj-minus-1000"),
                ..candidate(2870, "supervisor", 12_000, None)
            },
        ],
        summary: vec![msg!(
            "mysqld has the highest badness of the cgroup: 991 ‰, next is mysqld_exporter with 4 ‰",
            "mysqld 的 badness 在该 cgroup 中最高：991‰，其次是 mysqld_exporter，为 4‰"
        )],
        would_change: vec![msg!("a limit above 4.1 GiB", "限额高于 4.1 GiB")],
    }
}

fn step(t_ms: f64, step: &'static str) -> TimelineEntry {
    TimelineEntry {
        t_ms,
        step,
        pid: Some(2891),
        comm: Some("mysqld".to_owned()),
    }
}

/// One incident with every part.
pub(super) fn incident() -> Incident {
    Incident {
        id: "0f1e2d3c-86400123-2891".to_owned(),
        killer: "kernel",
        time: Some("2026-11-23 10:23:45.123".to_owned()),
        at: Some("2026-11-23T10:23:45.123+08:00".to_owned()),
        at_source: Some("clock"),
        trigger: Trigger {
            comm: Some("connection".to_owned()),
            pid: Some(2999),
            tgid: Some(2891),
            gfp_mask: Some("0xcc0".to_owned()),
            gfp_flags: Some(FLAGS.to_owned()),
            gfp_source: Some("kmsg"),
            order: Some(0),
            oom_score_adj: Some(0),
            is_victim: Some(true),
            ..Trigger::default()
        },
        constraint: Some("memcg".to_owned()),
        scope: Some("memcg".to_owned()),
        constraint_source: Some("kmsg"),
        oom_memcg: Some(CGROUP.to_owned()),
        task_memcg: Some(CGROUP.to_owned()),
        memcg_limit_kb: Some(4_194_304),
        memcg_usage_kb: Some(4_194_304),
        mem_total_kb: Some(8_388_608),
        mem_free_kb: Some(960_000),
        mem_available_kb: Some(2_040_000),
        cached_kb: Some(262_144),
        swap_total_kb: Some(8_388_608),
        swap_free_kb: Some(3_040_870),
        sample_age_ms: Some(250.5),
        task_rows: Some(3),
        kills: vec![kill()],
        group_kill: Some(false),
        killed_cgroup: None,
        outcome: "killed",
        cause: Cause {
            class: "cgroup-limit",
            evidence: vec![msg!("usage 4 GiB of the limit 4 GiB (100%)", "用量 4 GiB，限额 4 GiB (100%)")],
        },
        why: why(),
        stacks: Stacks {
            trigger_kernel: kernel_stack(),
            trigger_user: user_stack(),
            victim_user: user_stack()[1..].to_vec(),
            victim_kernel: Vec::new(),
        },
        before: (0..25).map(before).collect(),
        growth: Some(Growth {
            samples: 25,
            span_s: 120.25,
            first_rss_kb: 1_258_291,
            last_rss_kb: 4_149_248,
            rate_kb_per_s: Some(24_041.0),
            shape: "growing",
        }),
        timeline: vec![
            step(-38.214, "reclaim"),
            step(-0.021, "signal"),
            step(0.0, "mark"),
            step(0.412, "sigkill-delivered"),
            step(152.7, "exit"),
            TimelineEntry { t_ms: 1203.4, step: "reaped", pid: Some(2891), comm: None },
        ],
        capture_latency_us: Some(41.7),
        sources: Sources { bpf: true, kmsg: true, vmstat: Some(true), memory_events: None },
        missing: vec!["wake-reaper"],
        kernel_text: vec![
            "connection invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0".to_owned(),
            "CPU: 1 PID: 2999 Comm: connection Not tainted 6.12.0-1-amd64 #1".to_owned(),
            "Memory cgroup out of memory: Killed process 2891 (mysqld) total-vm:6291456kB, anon-rss:4128900kB".to_owned(),
        ],
    }
}

/// What the analysis found.
fn finding() -> Finding {
    Finding {
        id: "oom-cgroup-limit",
        severity: Severity::Critical,
        title: msg!(
            "mysqld grew until its cgroup reached the limit",
            "mysqld 内存持续增长，直到其 cgroup 达到限额"
        ),
        evidence: vec![
            msg!(
                "usage 4 GiB of the limit 4 GiB (100%)",
                "用量 4 GiB，限额 4 GiB (100%)"
            ),
            msg!("RSS +230% in 2m 00s", "2m 00s 内 RSS +230%"),
        ],
        advice: vec![
            msg!(
                "Raise the limit of the container (docker update --memory)",
                "提高容器限额 (docker update --memory)"
            ),
            msg!(
                "Lower innodb_buffer_pool_size below the limit",
                "把 innodb_buffer_pool_size 调到限额以下"
            ),
        ],
    }
}

/// The host.
pub(super) fn host() -> HostInfo {
    HostInfo {
        hostname: "db-1".to_owned(),
        kernel: "6.12.0-1-amd64".to_owned(),
        boot_id: Some("0f1e2d3c-aaaa-bbbb-cccc-0123456789ab".to_owned()),
        mem_total_kb: Some(8_388_608),
        page_size: Some(4096),
    }
}

/// A report of these incidents.
pub(super) fn report(incidents: Vec<Incident>) -> Report<OomData> {
    let kills = incidents
        .iter()
        .filter(|incident| incident.outcome == "killed")
        .count() as u64;
    Report {
        schema: "aiops.trace-oom/1".to_owned(),
        version: "0.1.0".to_owned(),
        generated_at: "2026-11-23T14:30:25.000+08:00".to_owned(),
        host: host(),
        findings: if incidents.is_empty() {
            Vec::new()
        } else {
            vec![finding()]
        },
        data: OomData {
            started_at: Some("2026-11-23T10:20:00.000+08:00".to_owned()),
            ended_at: Some("2026-11-23T10:25:00.000+08:00".to_owned()),
            duration_s: Some(300.0),
            incidents,
            reconciliation: Reconciliation {
                counted: Some(kills),
                logged: Some(kills),
                captured: kills,
                agrees: true,
                ..Reconciliation::default()
            },
            notes: Vec::new(),
        },
        accounting: Accounting {
            seen: Counts::from([("mark".to_owned(), kills), ("reclaim".to_owned(), 212)]),
            complete: true,
            ..Accounting::default()
        },
    }
}
