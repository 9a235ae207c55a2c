//! What the incidents mean and what to do: each finding from figures of the report, nothing else.

use crate::msg;
use crate::report::Accounting;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::oom::Incident;
use crate::report::oom::OomData;

/// Growth over at least this many samples is called steady.
const STEADY_SAMPLES: u64 = 5;

/// Findings of a report, incidents in order, then those over all of them.
pub(super) fn findings(data: &OomData, accounting: &Accounting) -> Vec<Finding> {
    let mut out = Vec::new();
    for i in &data.incidents {
        if i.outcome == "no-killable-process" {
            out.push(finding(
                "oom-no-killable",
                Severity::Critical,
                msg!(
                    "memory ran out and no process could be killed",
                    "内存耗尽且没有可杀的进程"
                ),
                i.cause.evidence.clone(),
                vec![protect()],
            ));
        }
        if i.outcome == "killed" {
            out.push(kill(i));
            out.extend(
                [leak(i), low_limit(i), swap(i), unfair(i), group(i)]
                    .into_iter()
                    .flatten(),
            );
        }
    }
    out.extend(repeated(data));
    out.extend(incomplete(data, accounting));
    out
}

fn finding(
    id: &'static str,
    severity: Severity,
    title: Msg,
    evidence: Vec<Msg>,
    advice: Vec<Msg>,
) -> Finding {
    Finding {
        id,
        severity,
        title,
        evidence,
        advice,
    }
}

fn protect() -> Msg {
    msg!(
        "lower oom_score_adj of the processes that must live, raise it for those that may go",
        "为必须存活的进程调低 oom_score_adj，为可牺牲的进程调高"
    )
}

fn name(i: &Incident) -> (String, u32) {
    i.kills
        .first()
        .map_or((String::new(), 0), |kill| (kill.comm.clone(), kill.pid))
}

fn kill(i: &Incident) -> Finding {
    let (comm, pid) = name(i);
    let mut evidence = i.cause.evidence.clone();
    evidence.extend(i.why.summary.first().cloned());
    let path = i.oom_memcg.clone().unwrap_or_default();
    let (id, title, first) = match i.cause.class {
        "cgroup-limit" => (
            "oom-cgroup-limit",
            msg!(
                "{comm} (pid {pid}) was killed because {path} met its memory limit",
                "{comm}（pid {pid}）被杀：{path} 达到内存上限"
            ),
            msg!(
                "raise memory.max (cgroup v1: memory.limit_in_bytes) of {path}, or make {comm} use less",
                "提高 {path} 的 memory.max（cgroup v1：memory.limit_in_bytes），或降低 {comm} 的内存用量"
            ),
        ),
        "cpuset-policy" => (
            "oom-cpuset-policy",
            msg!(
                "{comm} (pid {pid}) was killed because the memory nodes it may use were full",
                "{comm}（pid {pid}）被杀：允许使用的内存节点已满"
            ),
            msg!(
                "widen cpuset.mems or the memory policy",
                "放宽 cpuset.mems 或内存策略"
            ),
        ),
        "fragmentation" => (
            "oom-fragmentation",
            msg!(
                "{comm} (pid {pid}) was killed for contiguous memory while memory was free",
                "{comm}（pid {pid}）被杀：仍有内存，但缺少连续页"
            ),
            msg!(
                "raise vm.min_free_kbytes, or find who asks for such large blocks in the trigger's stack",
                "提高 vm.min_free_kbytes，或从触发者的栈找出谁在申请大块连续内存"
            ),
        ),
        "global-exhaustion" | "swap-full" => (
            "oom-global",
            msg!(
                "{comm} (pid {pid}) was killed because the host ran out of memory",
                "{comm}（pid {pid}）被杀：主机内存耗尽"
            ),
            msg!(
                "give the host more memory or swap, or limit the largest consumers with memory.max",
                "增加物理内存或交换空间，或用 memory.max 限制占用最大的进程"
            ),
        ),
        _ => (
            "oom-kill",
            msg!(
                "{comm} (pid {pid}) was killed by the OOM killer",
                "{comm}（pid {pid}）被 OOM killer 杀死"
            ),
            msg!(
                "run `aiops doctor` to see what this host could not tell",
                "运行 `aiops doctor` 查看此主机缺少哪些信息"
            ),
        ),
    };
    finding(
        id,
        Severity::Critical,
        title,
        evidence,
        vec![first, protect()],
    )
}

fn leak(i: &Incident) -> Option<Finding> {
    let g = i.growth.as_ref()?;
    let (comm, pid) = name(i);
    let (first, last, span, n) = (g.first_rss_kb, g.last_rss_kb, g.span_s, g.samples);
    let rate = g.rate_kb_per_s.filter(|rate| *rate > 0.0)?;
    if !matches!(g.shape, "growing" | "stairs") || n < STEADY_SAMPLES {
        return None;
    }
    Some(finding(
        "oom-victim-grew",
        Severity::Warning,
        msg!(
            "{comm} (pid {pid}) grew until it was killed: a leak is possible",
            "{comm}（pid {pid}）持续增长直至被杀：可能存在泄漏"
        ),
        vec![msg!(
            "resident memory from {first} to {last} KiB in {span:.1} s over {n} samples, {rate:.0} KiB/s",
            "常驻内存 {span:.1} 秒内从 {first} 增至 {last} KiB（{n} 个样本），{rate:.0} KiB/s"
        )],
        vec![
            msg!(
                "look at the trigger's user stack: it is the code that asked for more",
                "查看触发者的用户栈：即申请更多内存的代码"
            ),
            msg!(
                "record the next one with `aiops trace oom --record FILE` and compare by `aiops replay FILE`",
                "用 `aiops trace oom --record FILE` 记录下一次，并用 `aiops replay FILE` 对比"
            ),
        ],
    ))
}

fn low_limit(i: &Incident) -> Option<Finding> {
    let (limit, available, path) = (
        i.memcg_limit_kb?,
        i.mem_available_kb?,
        i.oom_memcg.as_ref()?,
    );
    if i.cause.class != "cgroup-limit" || available <= limit {
        return None;
    }
    Some(finding(
        "oom-limit-low",
        Severity::Info,
        msg!(
            "the host had more memory available than the whole limit of {path}",
            "主机可用内存超过 {path} 的整个上限"
        ),
        vec![msg!(
            "limit {limit} KiB, available on the host {available} KiB",
            "上限 {limit} KiB，主机可用 {available} KiB"
        )],
        vec![msg!(
            "memory.max of {path} can be raised if this load is meant",
            "若该负载符合预期，可提高 {path} 的 memory.max"
        )],
    ))
}

fn swap(i: &Incident) -> Option<Finding> {
    if i.scope.as_deref() != Some("global") {
        return None;
    }
    let (total, free) = (i.swap_total_kb?, i.swap_free_kb?);
    let (id, title) = if total == 0 {
        (
            "oom-no-swap",
            msg!("the host has no swap", "主机没有交换空间"),
        )
    } else if free < total / 50 {
        ("oom-swap-full", msg!("swap was used up", "交换空间已用尽"))
    } else {
        return None;
    };
    Some(finding(
        id,
        Severity::Warning,
        title,
        vec![msg!(
            "{free} KiB of {total} KiB free",
            "剩余 {free} KiB，共 {total} KiB"
        )],
        vec![msg!(
            "add swap, or move load away",
            "增加交换空间，或迁走部分负载"
        )],
    ))
}

fn unfair(i: &Incident) -> Option<Finding> {
    let victim = i.why.candidates.iter().find(|one| one.victim)?;
    let size = victim.rss_kb? + victim.swap_kb? + victim.pgtables_kb?;
    let adj = victim.oom_score_adj.unwrap_or(0);
    let large = |one: &&crate::report::oom::Candidate| {
        let other =
            one.rss_kb.unwrap_or(0) + one.swap_kb.unwrap_or(0) + one.pgtables_kb.unwrap_or(0);
        !one.victim && other > size && one.oom_score_adj.is_some_and(|a| a < adj)
    };
    let other = i
        .why
        .candidates
        .iter()
        .filter(large)
        .max_by_key(|one| one.rss_kb)?;
    let (comm, pid, ocomm, opid) = (&victim.comm, victim.pid, &other.comm, other.pid);
    let (ours, theirs) = (victim.rss_kb?, other.rss_kb?);
    let oadj = other.oom_score_adj.unwrap_or(0);
    Some(finding(
        "oom-larger-spared",
        Severity::Warning,
        msg!(
            "{ocomm} (pid {opid}) is larger than {comm} (pid {pid}) and was spared by oom_score_adj",
            "{ocomm}（pid {opid}）比 {comm}（pid {pid}）更大，因 oom_score_adj 而幸免"
        ),
        vec![msg!(
            "{ours} KiB at oom_score_adj {adj} against {theirs} KiB at {oadj}",
            "{ours} KiB（oom_score_adj {adj}）对 {theirs} KiB（{oadj}）"
        )],
        i.why.would_change.iter().take(2).cloned().collect(),
    ))
}

fn group(i: &Incident) -> Option<Finding> {
    let n = i.kills.len();
    let path = i.task_memcg.clone().unwrap_or_default();
    (i.group_kill == Some(true)).then(|| {
        finding(
            "oom-group-kill",
            Severity::Info,
            msg!(
                "the whole cgroup {path} was killed: {n} processes",
                "整个 cgroup {path} 被杀：{n} 个进程"
            ),
            i.kills
                .iter()
                .take(20)
                .map(|kill| {
                    let (pid, comm) = (kill.pid, &kill.comm);
                    msg!("{comm} (pid {pid})", "{comm}（pid {pid}）")
                })
                .collect(),
            vec![msg!(
                "set memory.oom.group to 0 when the members can live without each other",
                "若各进程可独立存活，将 memory.oom.group 设为 0"
            )],
        )
    })
}

fn repeated(data: &OomData) -> Vec<Finding> {
    let mut counts: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for i in data.incidents.iter().filter(|i| i.outcome == "killed") {
        *counts
            .entry(i.oom_memcg.as_deref().unwrap_or("/"))
            .or_default() += 1;
    }
    let many = counts.into_iter().filter(|(_, n)| *n >= 3);
    many.map(|(path, n)| finding(
        "oom-repeated",
        Severity::Critical,
        msg!("{n} kills for the memory of {path}", "{path} 的内存已触发 {n} 次 OOM"),
        vec![msg!("{n} incidents in this observation", "本次观察中共 {n} 起")],
        vec![msg!("stop what restarts the load, or raise the limit first: each restart meets the same end", "先停止自动重启或提高上限：每次重启都会重复同样的结局")],
    )).collect()
}

fn incomplete(data: &OomData, accounting: &Accounting) -> Option<Finding> {
    let r = &data.reconciliation;
    if r.missed == 0 && accounting.complete {
        return None;
    }
    let mut evidence = r.notes.clone();
    for (name, n) in &accounting.lost {
        evidence.push(msg!("{n} lost: {name}", "丢失 {n}：{name}"));
    }
    for hook in &accounting.missing_hooks {
        evidence.push(msg!("{hook} does not run", "{hook} 未能运行"));
    }
    let severity = if r.missed > 0 {
        Severity::Warning
    } else {
        Severity::Info
    };
    let missed = r.missed;
    Some(finding(
        "oom-incomplete",
        severity,
        msg!(
            "the observation is not complete: {missed} kills were not captured",
            "观察不完整：{missed} 次 OOM 未被捕获"
        ),
        evidence,
        vec![msg!(
            "run `aiops doctor` to see which hooks work here",
            "运行 `aiops doctor` 查看哪些钩子可用"
        )],
    ))
}
