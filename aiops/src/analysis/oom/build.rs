//! One incident's data from its captures, the kernel's report, samples and identities.

use crate::model::Memory;
use crate::model::Nanos;
use crate::model::StepKind;
use crate::msg;
use crate::report::oom::Cause;
use crate::report::oom::Growth;
use crate::report::oom::Incident;
use crate::report::oom::KernelFigures;
use crate::report::oom::Kill;
use crate::report::oom::Sources;
use crate::report::oom::Stacks;
use crate::report::oom::TimelineEntry;
use crate::report::oom::Trigger;

use super::Assembler;
use super::Capture;
use super::badness;
use super::joiner::KernelReport;
use super::joiner::LoggedLine;
use super::kernel_text::Line;
use super::kernel_text::line;
use super::ms_from;
use super::people::cmdline;
use super::people::container;
use super::people::text;
use super::window::Point;

/// Rows of `before` of the first incidents, and of later ones of a storm: memory and the store stay bounded.
const ROWS: usize = 120;
const ROWS_LATER: usize = 24;
const ROWS_WHOLE: usize = 16;
/// Incidents whose kernel text is kept whole.
const TEXTS_WHOLE: usize = 64;
/// A limit that is this large is none.
const NO_LIMIT_KB: u64 = 1 << 52;

/// Builds the incident of these captures (at least one, oldest first).
pub(super) fn incident(a: &Assembler, mine: &[Capture], report: Option<&KernelReport>) -> Incident {
    let first = &mine[0];
    let zero = first.ts;
    let mut i = Incident {
        trigger: trigger(a, first, report),
        outcome: if mine.iter().any(Capture::killed) {
            "killed"
        } else {
            "already-exiting"
        },
        capture_latency_us: first.latency_ns.map(|ns| ns as f64 / 1000.0),
        ..Incident::default()
    };
    moment(&mut i, a, zero, first.mark.victim.pid);
    i.stacks = stacks(a, first);
    i.task_memcg = report
        .and_then(|r| r.task_memcg.clone())
        .or_else(|| a.cgroup_of(first));
    scope(&mut i, a, report, zero);
    host(&mut i, a, zero);
    memcg(&mut i, a, report);
    let killed: Vec<_> = mine.iter().filter(|one| one.killed()).collect();
    i.kills = killed.iter().map(|one| kill(a, one)).collect();
    i.group_kill = match report {
        Some(report) => Some(report.group || killed.len() > 1),
        None => (killed.len() > 1).then_some(true),
    };
    let page_kb = (a.session.host.page_size.unwrap_or(4096) / 1024).max(1);
    if let Some(total) = badness::total_pages(a, &i, report) {
        for kill in &mut i.kills {
            kill.score = badness::of_kill(kill, total, page_kb).score;
        }
    }
    history(&mut i, a, first);
    i.why = badness::why(a, &i, report, zero);
    i.cause = cause(&i);
    i.timeline = timeline(a, mine, report);
    i.sources = Sources {
        bpf: true,
        kmsg: mine.iter().any(|one| one.logged.is_some()),
        vmstat: None,
        memory_events: None,
    };
    for one in mine {
        for name in a.missing(one) {
            if !i.missing.contains(&name) {
                i.missing.push(name);
            }
        }
    }
    if i.before.is_empty() {
        i.missing.push("before");
    }
    i.kernel_text = report.map(|r| kernel_text(a, r)).unwrap_or_default();
    i
}

/// The kernel's words: whole for the first incidents, of later ones of a storm what was killed.
fn kernel_text(a: &Assembler, report: &KernelReport) -> Vec<String> {
    if a.told.len() < TEXTS_WHOLE {
        return report.lines.clone();
    }
    let tells = |text: &&String| {
        let known = line(text.as_bytes());
        matches!(
            known,
            Some(Line::Killed(_) | Line::Group { .. } | Line::NoKillable)
        )
    };
    report.lines.iter().filter(tells).cloned().collect()
}

/// The incident of a report that found nobody to kill.
pub(super) fn unkillable(a: &Assembler, report: &KernelReport) -> Incident {
    let tid = report
        .caller
        .as_deref()
        .and_then(|c| c.strip_prefix('T'))
        .and_then(|t| t.parse().ok());
    let mut i = Incident {
        outcome: "no-killable-process",
        sources: Sources {
            kmsg: true,
            ..Sources::default()
        },
        trigger: Trigger {
            comm: report.comm.clone(),
            pid: tid,
            ..Trigger::default()
        },
        kernel_text: kernel_text(a, report),
        ..Incident::default()
    };
    own_words(&mut i.trigger, report);
    moment(&mut i, a, report.first, tid.unwrap_or(0));
    scope(&mut i, a, Some(report), report.first);
    host(&mut i, a, report.first);
    memcg(&mut i, a, Some(report));
    i.why = badness::why(a, &i, Some(report), report.first);
    i.cause = cause(&i);
    i
}

fn moment(i: &mut Incident, a: &Assembler, ts: Nanos, pid: u32) {
    let host = &a.session.host;
    let boot: String = host
        .boot_id
        .iter()
        .flat_map(|id| id.chars())
        .take(8)
        .collect();
    i.id = format!("{boot}-{}-{pid}", ts / 1_000_000);
    i.killer = "kernel";
    if let Some(real) = a.real_ns(ts) {
        i.time = crate::time::human(real, host.utc_offset_s.unwrap_or(0));
        i.at = a.rfc3339(ts);
        i.at_source = Some("clock");
    }
}

fn own_words(trigger: &mut Trigger, report: &KernelReport) {
    if let Some(mask) = report.gfp_mask {
        trigger.gfp_mask = Some(format!("{mask:#x}"));
        trigger.gfp_flags.clone_from(&report.gfp_flags);
        trigger.gfp_source = Some("kmsg");
    }
    trigger.order = report.order.or(trigger.order);
    trigger.oom_score_adj = report.trigger_adj.or(trigger.oom_score_adj);
}

fn trigger(a: &Assembler, first: &Capture, report: Option<&KernelReport>) -> Trigger {
    let mark = &first.mark;
    let identity = a.people.of(&mark.trigger);
    let mut trigger = Trigger {
        comm: Some(text(&mark.trigger.comm)),
        pid: Some(mark.trigger.tid),
        tgid: Some(mark.trigger.pid),
        gfp_mask: mark.gfp_mask.map(|mask| format!("{mask:#x}")),
        // Which bit is which differs between kernels: the names are the kernel's, or unknown.
        gfp_flags: None,
        gfp_source: mark.gfp_mask.map(|_| "reclaim"),
        order: mark.order,
        oom_score_adj: mark.trigger_oom_score_adj,
        is_victim: Some(mark.trigger.pid == mark.victim.pid),
        cgroup: identity.and_then(|one| one.cgroup.as_ref()).map(text),
        cmdline: identity.and_then(cmdline),
        container: identity.and_then(container),
    };
    if let Some(report) = report {
        own_words(&mut trigger, report);
    }
    trigger
}

fn scope(i: &mut Incident, a: &Assembler, report: Option<&KernelReport>, at: Nanos) {
    i.oom_memcg = report.and_then(|r| r.oom_memcg.clone());
    if let Some(constraint) = report.and_then(|r| r.constraint.clone()) {
        let scope = match constraint.as_str() {
            "memcg" => "memcg",
            "cpuset" => "cpuset",
            _ => "global",
        };
        i.scope = Some(scope.to_owned());
        i.constraint = Some(constraint);
        i.constraint_source = Some("kmsg");
        return;
    }
    let has = |name: &str| {
        i.stacks
            .trigger_kernel
            .iter()
            .any(|f| f.function.as_deref().map(plain_name) == Some(name))
    };
    if has("mem_cgroup_out_of_memory") {
        i.constraint = Some("memcg".to_owned());
        i.scope = Some("memcg".to_owned());
        i.constraint_source = Some("stack");
        // The cgroup whose limit was met may stand above the victim's: the nearest with a limit that is used up.
        i.oom_memcg = i
            .task_memcg
            .as_deref()
            .and_then(|path| full_above(a, path, at));
    } else if has("out_of_memory") {
        // The stack cannot tell a cpuset or a memory policy from the whole host.
        i.scope = Some("global".to_owned());
        i.constraint_source = Some("stack");
    }
}

/// A function's name without what a compiler appends to a copy of it.
fn plain_name(name: &str) -> &str {
    const MARKS: [&str; 5] = [".isra.", ".constprop.", ".llvm.", ".part.", ".cold"];
    let cuts = MARKS.iter().filter_map(|mark| name.find(mark));
    &name[..cuts.min().unwrap_or(name.len())]
}

/// The nearest cgroup at or above a path that had used 95 % of its limit when it was last sampled before
/// the mark; else the nearest with a limit.
fn full_above(a: &Assembler, path: &str, mark: Nanos) -> Option<String> {
    let (mut at, mut limited) = (path, None);
    loop {
        if let Some((usage, Some(limit))) = a.window.use_of(at, mark) {
            if usage.is_some_and(|usage| usage >= limit - limit / 20) {
                return Some(at.to_owned());
            }
            limited = limited.or_else(|| Some(at.to_owned()));
        }
        match at.rfind('/').filter(|cut| *cut > 0) {
            Some(cut) => at = &at[..cut],
            None => return limited,
        }
    }
}

fn host(i: &mut Incident, a: &Assembler, at: Nanos) {
    i.mem_total_kb = a.session.host.mem_total_kb;
    let Some((ts, system)) = a.window.system(at) else {
        return;
    };
    i.mem_total_kb = system.mem_total_kb.or(i.mem_total_kb);
    i.mem_free_kb = system.mem_free_kb;
    i.mem_available_kb = system.mem_available_kb;
    i.cached_kb = system.cached_kb;
    i.swap_total_kb = system.swap_total_kb;
    i.swap_free_kb = system.swap_free_kb;
    i.sample_age_ms = Some(super::ms(at - ts));
}

fn memcg(i: &mut Incident, a: &Assembler, report: Option<&KernelReport>) {
    if let Some(report) = report {
        i.task_rows = (!report.rows.is_empty()).then_some(report.rows.len() as u64);
        i.memcg_limit_kb = report.limit_kb.filter(|kb| *kb < NO_LIMIT_KB);
        i.memcg_usage_kb = report.usage_kb;
    }
    if i.scope.as_deref() == Some("memcg") {
        let sampled = i
            .oom_memcg
            .as_deref()
            .and_then(|path| a.window.cgroup_metrics(path));
        i.memcg_limit_kb = i.memcg_limit_kb.or(sampled.and_then(|m| m.limit_kb));
    }
}

fn kill(a: &Assembler, one: &Capture) -> Kill {
    let mark = &one.mark;
    let identity = a.people.of(&mark.victim);
    let memory = pick(&mark.memory, &mark.tracepoint);
    let logged = one.logged.as_ref();
    let has_mm = mark.memory.anon_rss_kb.is_some();
    let has_tp = mark.tracepoint.anon_rss_kb.is_some();
    let kernel = logged.map(|line| &line.figures);
    let comm = if mark.victim.comm.is_empty() {
        logged.map(|line| line.comm.clone())
    } else {
        None
    };
    let mut kill = Kill {
        pid: mark.victim.pid,
        comm: comm.unwrap_or_else(|| text(&mark.victim.comm)),
        uid: mark.uid.or(logged.and_then(|line| line.uid)),
        total_vm_kb: memory.total_vm_kb.or(kernel.and_then(|k| k.total_vm_kb)),
        anon_rss_kb: memory.anon_rss_kb.or(kernel.and_then(|k| k.anon_rss_kb)),
        file_rss_kb: memory.file_rss_kb.or(kernel.and_then(|k| k.file_rss_kb)),
        shmem_rss_kb: memory.shmem_rss_kb.or(kernel.and_then(|k| k.shmem_rss_kb)),
        swap_kb: memory.swap_kb,
        pgtables_kb: memory.pgtables_kb.or(kernel.and_then(|k| k.pgtables_kb)),
        oom_score_adj: mark.oom_score_adj.or(kernel.and_then(|k| k.oom_score_adj)),
        cmdline: identity.and_then(cmdline),
        exe: identity.and_then(|one| one.exe.as_ref()).map(text),
        ppid: identity.and_then(|one| one.ppid),
        cgroup: a.cgroup_of(one),
        container: identity.and_then(container),
        rss_approximate: mark.rss_approximate && has_mm,
        figures_from: match (has_mm, has_tp, kernel) {
            (false, false, Some(_)) => "kmsg",
            (false, true, _) => "tracepoint",
            _ if mark.source == crate::model::MarkSource::Tracepoint => "tracepoint",
            _ => "signal",
        },
        ..Kill::default()
    };
    kill.kernel = logged.and_then(|line| differing(&kill, line));
    kill
}

/// The `mm`'s figures, and the tracepoint's where those are missing.
fn pick(mm: &Memory, tracepoint: &Memory) -> Memory {
    Memory {
        total_vm_kb: mm.total_vm_kb.or(tracepoint.total_vm_kb),
        anon_rss_kb: mm.anon_rss_kb.or(tracepoint.anon_rss_kb),
        file_rss_kb: mm.file_rss_kb.or(tracepoint.file_rss_kb),
        shmem_rss_kb: mm.shmem_rss_kb.or(tracepoint.shmem_rss_kb),
        swap_kb: mm.swap_kb.or(tracepoint.swap_kb),
        pgtables_kb: mm.pgtables_kb.or(tracepoint.pgtables_kb),
    }
}

fn differing(kill: &Kill, line: &LoggedLine) -> Option<KernelFigures> {
    let k = &line.figures;
    let differs = |ours: Option<u64>, theirs: Option<u64>| theirs.is_some() && ours != theirs;
    let any = differs(kill.total_vm_kb, k.total_vm_kb)
        || differs(kill.anon_rss_kb, k.anon_rss_kb)
        || differs(kill.file_rss_kb, k.file_rss_kb)
        || differs(kill.shmem_rss_kb, k.shmem_rss_kb)
        || differs(kill.pgtables_kb, k.pgtables_kb)
        || (k.oom_score_adj.is_some() && kill.oom_score_adj != k.oom_score_adj);
    any.then(|| k.clone())
}

fn stacks(a: &Assembler, first: &Capture) -> Stacks {
    let mark = &first.mark;
    let trigger_user = a.people.stack(Some(&mark.trigger), &mark.trigger_user);
    let victim_user = match &first.delivery {
        Some((_, delivery)) if !delivery.user.is_empty() => {
            a.people.stack(Some(&mark.victim), &delivery.user)
        }
        _ if mark.trigger.tid == mark.victim.tid => trigger_user.clone(),
        _ => Vec::new(),
    };
    Stacks {
        trigger_kernel: a.people.stack(None, &mark.trigger_kernel),
        trigger_user,
        victim_user,
        victim_kernel: a.people.stack(None, &mark.victim_kernel),
    }
}

fn history(i: &mut Incident, a: &Assembler, first: &Capture) {
    let victim = &first.mark.victim;
    let start = a.people.of(victim).and_then(|one| one.start_ticks);
    let points = a.window.points(victim.pid, start, first.ts);
    let rows = if a.told.len() < ROWS_WHOLE {
        ROWS
    } else {
        ROWS_LATER
    };
    let comm = text(&victim.comm);
    i.before = a.window.before(
        first.ts,
        (victim.pid, &comm, &points),
        i.oom_memcg.as_deref(),
        rows,
    );
    i.growth = growth(&points, first);
}

/// Over less time than this, s, a difference is noise: the sampler reads other counters than the kernel.
const LEAST_SPAN_S: f64 = 0.5;

fn growth(points: &[Point], first: &Capture) -> Option<Growth> {
    let zero = points.first()?.ts;
    let mut xy: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if let Some(rss) = point.rss_kb {
            xy.push(((point.ts - zero) as f64 / 1e9, rss as f64));
        }
    }
    let samples = xy.len() as u64;
    let first_rss_kb = points.iter().find_map(|point| point.rss_kb)?;
    let sampled = points.iter().rev().find_map(|point| point.rss_kb)?;
    let at_mark = first
        .mark
        .memory
        .rss_kb()
        .or(first.mark.tracepoint.rss_kb());
    if let Some(rss) = at_mark {
        xy.push(((first.ts - zero) as f64 / 1e9, rss as f64));
    }
    let last = at_mark.unwrap_or(sampled);
    let span = xy.last().map_or(0.0, |p| p.0);
    if span < LEAST_SPAN_S {
        return None;
    }
    Some(Growth {
        samples,
        span_s: span,
        first_rss_kb,
        last_rss_kb: last,
        rate_kb_per_s: slope(&xy),
        shape: shape(&xy),
    })
}

/// Least squares.
fn slope(xy: &[(f64, f64)]) -> Option<f64> {
    let n = xy.len() as f64;
    let (mx, my) = (
        xy.iter().map(|p| p.0).sum::<f64>() / n,
        xy.iter().map(|p| p.1).sum::<f64>() / n,
    );
    let sxx: f64 = xy.iter().map(|p| (p.0 - mx).powi(2)).sum();
    let sxy: f64 = xy.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
    (xy.len() >= 2 && sxx > 0.0).then(|| sxy / sxx)
}

/// Steady: it moved by less than a twentieth. Burst: more than half of the rise came in the last tenth
/// of the time. Stairs: at least a third of the steps stood still while others rose.
fn shape(xy: &[(f64, f64)]) -> &'static str {
    let (Some(first), Some(last)) = (xy.first(), xy.last()) else {
        return "steady";
    };
    let (rise, span) = (last.1 - first.1, last.0 - first.0);
    if rise.abs() <= first.1.max(last.1) / 20.0 {
        return "steady";
    }
    if rise < 0.0 {
        return "shrinking";
    }
    let early = xy.iter().rev().find(|p| p.0 <= last.0 - span / 10.0);
    if xy.len() >= 3 && early.is_some_and(|p| last.1 - p.1 > rise / 2.0) {
        return "burst";
    }
    let flat = xy
        .windows(2)
        .filter(|w| w[1].1 - w[0].1 <= rise / 1000.0)
        .count();
    if xy.len() >= 6 && flat * 3 >= xy.len() - 1 {
        "stairs"
    } else {
        "growing"
    }
}

fn cause(i: &Incident) -> Cause {
    let mut cause = Cause {
        class: "unknown",
        evidence: Vec::new(),
    };
    let scope = i.scope.as_deref();
    if scope == Some("memcg") {
        cause.class = "cgroup-limit";
        if let (Some(path), Some(limit)) = (&i.oom_memcg, i.memcg_limit_kb) {
            match i.memcg_usage_kb {
                Some(usage) => cause.evidence.push(msg!(
                    "{path} used {usage} KiB of its limit of {limit} KiB",
                    "{path} 已用 {usage} KiB，上限 {limit} KiB"
                )),
                None => cause.evidence.push(msg!(
                    "{path} met its limit of {limit} KiB",
                    "{path} 达到上限 {limit} KiB"
                )),
            }
        }
    } else if scope == Some("cpuset") || i.constraint.as_deref() == Some("memory_policy") {
        cause.class = "cpuset-policy";
    } else if scope == Some("global") {
        global(i, &mut cause);
    }
    shmem(i, &mut cause);
    cause
}

fn global(i: &Incident, cause: &mut Cause) {
    let order = i.trigger.order.unwrap_or(0);
    cause.class = "global-exhaustion";
    let (Some(total), Some(available)) = (i.mem_total_kb, i.mem_available_kb) else {
        return;
    };
    cause.evidence.push(msg!(
        "{available} KiB of {total} KiB were available",
        "可用 {available} KiB，共 {total} KiB"
    ));
    if let (Some(swap), Some(free)) = (i.swap_total_kb, i.swap_free_kb) {
        cause.evidence.push(msg!(
            "{free} KiB of {swap} KiB of swap were free",
            "交换空间剩余 {free} KiB，共 {swap} KiB"
        ));
        if swap > 0 && free < swap / 50 {
            cause.class = "swap-full";
        }
    }
    if order > 0 && available > total / 10 {
        cause.class = "fragmentation";
        let pages = 1_u64.checked_shl(order.unsigned_abs()).unwrap_or(0);
        cause.evidence.push(msg!(
            "{pages} contiguous pages were asked for (order {order})",
            "需要 {pages} 个连续页（order {order}）"
        ));
    }
}

fn shmem(i: &Incident, cause: &mut Cause) {
    let Some(kill) = i.kills.first() else { return };
    let parts = (kill.anon_rss_kb, kill.file_rss_kb, kill.shmem_rss_kb);
    if let (Some(anon), Some(file), Some(shmem)) = parts
        && shmem > anon + file
    {
        let comm = &kill.comm;
        cause.evidence.push(msg!(
            "{shmem} KiB of {comm}'s resident memory are shared memory or tmpfs: killing it need not free them",
            "{comm} 的常驻内存中有 {shmem} KiB 是共享内存或 tmpfs：杀掉它未必能释放"
        ));
    }
}

/// How far the log's clock runs ahead of the others by the first kill whose line is known, ns; 0 where it
/// is no more than printing takes. The line is printed after the mark (mm/oom_kill.c,
/// `__oom_kill_process`), so a stamp before it is the clock's.
fn log_ahead(mine: &[Capture]) -> i64 {
    const DRIFT_NS: u64 = 50_000_000;
    let pair = mine
        .iter()
        .find_map(|one| Some((one.ts, one.logged.as_ref()?.ts)));
    let ahead =
        pair.and_then(|(mark, line)| i64::try_from(i128::from(line) - i128::from(mark)).ok());
    ahead
        .filter(|ns| *ns < 0 || ns.unsigned_abs() > DRIFT_NS)
        .unwrap_or(0)
}

fn timeline(a: &Assembler, mine: &[Capture], report: Option<&KernelReport>) -> Vec<TimelineEntry> {
    let zero = mine[0].ts;
    let mark = &mine[0].mark;
    let ahead = log_ahead(mine);
    let shifted = |ts: Nanos| ts.saturating_add_signed(ahead.saturating_neg());
    let mut out: Vec<(Nanos, &'static str, Option<u32>, Option<String>)> = Vec::new();
    let near = |ts: &Nanos| *ts <= zero && zero - *ts <= super::WAIT_NS;
    let seen = a
        .reclaims
        .iter()
        .filter(|one| one.1 == mark.trigger.tid)
        .map(|one| one.0);
    let reclaim = seen.chain(mark.reclaim_ns).filter(near).min();
    if let Some(ts) = reclaim {
        out.push((
            ts,
            "reclaim",
            Some(mark.trigger.pid),
            Some(text(&mark.trigger.comm)),
        ));
    }
    for one in mine.iter().filter(|one| !one.folded) {
        let (pid, comm) = (Some(one.mark.victim.pid), Some(text(&one.mark.victim.comm)));
        let mut push = |ts, step| out.push((ts, step, pid, comm.clone()));
        if let Some(ts) = one.mark.signal_ns {
            push(ts, "signal");
        }
        push(one.ts, "mark");
        if let Some((ts, _)) = &one.delivery {
            push(*ts, "sigkill-delivered");
        }
        for (ts, kind) in &one.steps {
            push(*ts, step_name(*kind));
        }
        if let Some(line) = &one.logged {
            push(shifted(line.ts), "kernel-text");
        }
    }
    if let Some(report) = report.filter(|report| report.comm.is_some()) {
        out.push((
            shifted(report.first),
            "kernel-report",
            Some(mark.trigger.tid),
            report.comm.clone(),
        ));
    }
    out.sort_by_key(|one| one.0);
    let entry = |(ts, step, pid, comm)| TimelineEntry {
        t_ms: ms_from(ts, zero),
        step,
        pid,
        comm,
    };
    out.into_iter().map(entry).collect()
}

fn step_name(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Exit => "exit",
        StepKind::WakeReaper => "wake-reaper",
        StepKind::StartReaping => "reaping",
        StepKind::FinishReaping => "reaped",
        StepKind::SkipReaping => "reaping-skipped",
    }
}
