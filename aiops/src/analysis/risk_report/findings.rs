//! What the rows mean and what to do, one finding for each limit that is met.

use crate::analysis::memory::PRESSURE_PCT;
use crate::analysis::memory::VERY_NEAR_PCT;
use crate::analysis::risk_report::FORESIGHT;
use crate::analysis::shell;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::risk::Risk;
use crate::report::risk::RiskData;
use crate::report::size_kb;

/// Nearer than this is critical, hours.
const SOON_H: f64 = 24.0;
/// Nearer than this is worth a warning, hours: a month.
const LATER_H: f64 = 30.0 * 24.0;
/// Most findings of a kind; the rows have all.
const MOST: usize = 5;
/// Most processes that are named in one finding.
const NAMED: usize = 4;

/// Every finding, worst first.
#[must_use]
pub fn findings(data: &RiskData) -> Vec<Finding> {
    let mut told: Vec<(Option<&str>, Option<&str>, Option<u32>)> = Vec::new();
    let mut found: Vec<Finding> = Vec::new();
    for risk in data.risks.iter().filter(|risk| risk.reason == "growth") {
        // A limit of its own is each process' own matter.
        let pid = risk.pid.filter(|_| risk.limit_source == Some("rlimit"));
        let limit = (risk.limit_source, risk.limit_cgroup.as_deref(), pid);
        if !told.contains(&limit) && told.len() < MOST {
            told.push(limit);
            found.extend(met(risk, data));
        }
    }
    let near = data.risks.iter().filter(|risk| risk.reason == "near-limit");
    found.extend(near.take(MOST).filter_map(|risk| near_limit(risk, data)));
    found.extend(undecided(data));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

/// A length of time as people say it.
fn length(hours: f64) -> Msg {
    let minutes = hours * 60.0;
    let text = |en: String, zh: String| Msg { en, zh };
    if minutes < 2.0 {
        let seconds = hours * 3600.0;
        text(format!("{seconds:.0} s"), format!("{seconds:.0} 秒"))
    } else if minutes < 120.0 {
        text(format!("{minutes:.0} min"), format!("{minutes:.0} 分钟"))
    } else if hours < 48.0 {
        text(format!("{hours:.1} h"), format!("{hours:.1} 小时"))
    } else {
        let days = hours / 24.0;
        text(format!("{days:.1} days"), format!("{days:.1} 天"))
    }
}

fn bytes(bytes: Option<u64>) -> String {
    size_kb(bytes.unwrap_or(0) / 1024)
}

/// The limit in words.
fn limit_words(risk: &Risk) -> Msg {
    let name = risk.limit_name.unwrap_or_default();
    let size = bytes(risk.limit_bytes);
    match (risk.limit_source, &risk.limit_cgroup) {
        (Some("cgroup"), Some(path)) => msg!(
            "{size} of cgroup {path} ({name})",
            "cgroup {path} 的限额 {size}（{name}）"
        ),
        (Some("host"), _) => msg!(
            "{size} of the host (RAM and swap)",
            "主机的 {size}（内存与交换空间）"
        ),
        _ => {
            let who = whom(risk);
            msg!("{name} {size} of {who}", "{who} 的 {name} {size}")
        }
    }
}

fn whom(risk: &Risk) -> String {
    match (&risk.comm, risk.pid, &risk.cgroup) {
        (Some(comm), Some(pid), _) => format!("{comm} (PID {pid})"),
        (_, _, Some(path)) => path.clone(),
        _ => risk.kind.to_owned(),
    }
}

/// What eats from a limit.
struct Eater {
    /// Its process id; `None`: a cgroup or the host, besides its leaking processes.
    pid: Option<u32>,
    cgroup: Option<String>,
    name: String,
    rate: f64,
    probability: Option<f64>,
}

impl Eater {
    fn of(risk: &Risk) -> Self {
        Self {
            pid: risk.pid,
            cgroup: risk.cgroup.clone(),
            name: whom(risk),
            rate: risk.rate_mib_per_hour.unwrap_or(0.0),
            probability: risk.leak_probability,
        }
    }

    fn line(&self) -> Msg {
        let (name, rate) = (&self.name, mib(self.rate));
        let mut line = if self.pid.is_some() {
            msg!("{name} leaks {rate} MiB/h", "{name} 每小时泄漏 {rate} MiB")
        } else {
            msg!(
                "{name} grows by {rate} MiB/h besides its leaking processes",
                "{name} 除泄漏进程外每小时增长 {rate} MiB"
            )
        };
        if let Some(probability) = self.probability {
            let percent = probability * 100.0;
            line.en.push_str(&format!(" (probability {percent:.0} %)"));
            line.zh.push_str(&format!("（概率 {percent:.0}%）"));
        }
        line
    }
}

/// Everything that eats from the limit of this row, most first.
fn eaters(risk: &Risk, data: &RiskData) -> Vec<Eater> {
    let known = |pid: Option<u32>| {
        let mut rows = data.risks.iter();
        let row = rows.find(|row| row.pid.is_some() && row.pid == pid);
        row.and_then(|row| row.leak_probability)
    };
    let others = risk.competing.iter().map(|one| {
        let name = match (&one.comm, one.pid, &one.cgroup) {
            (Some(comm), Some(pid), _) => format!("{comm} (PID {pid})"),
            (_, _, Some(path)) => path.clone(),
            _ => one.kind.to_owned(),
        };
        Eater {
            pid: one.pid,
            cgroup: one.cgroup.clone(),
            name,
            rate: one.rate_mib_per_hour,
            probability: known(one.pid),
        }
    });
    let mut all: Vec<Eater> = std::iter::once(Eater::of(risk)).chain(others).collect();
    all.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    all
}

/// A rate with the digits that count.
fn mib(rate: f64) -> String {
    if rate.abs() < 100.0 {
        format!("{rate:.2}")
    } else {
        format!("{rate:.0}")
    }
}

/// A limit that growth will meet.
fn met(risk: &Risk, data: &RiskData) -> Option<Finding> {
    let hours = risk.hours?;
    let (soonest, latest) = risk.interval?;
    let severity = match hours {
        h if h < SOON_H => Severity::Critical,
        h if h < LATER_H => Severity::Warning,
        _ => Severity::Info,
    };
    let (what, when) = (limit_words(risk), length(hours));
    let title = Msg {
        en: format!("{} will be used up in about {}", what.en, when.en),
        zh: format!("{}约 {} 后耗尽", what.zh, when.zh),
    };
    let mut evidence = Vec::new();
    let (left, total) = (bytes(risk.left_bytes), risk.total_rate_mib_per_hour?);
    let total = mib(total);
    evidence.push(msg!(
        "{left} are left, and {total} MiB/h go",
        "剩余 {left}，合计每小时增长 {total} MiB"
    ));
    let soonest = length(soonest);
    evidence.push(match latest.map(length) {
        Some(latest) => Msg {
            en: format!("95 % interval: {} to {}", soonest.en, latest.en),
            zh: format!("95% 区间：{} 至 {}", soonest.zh, latest.zh),
        },
        None => Msg {
            en: format!("95 % interval: {} to never", soonest.en),
            zh: format!("95% 区间：最早 {}，也可能不会到达", soonest.zh),
        },
    });
    let eaters = eaters(risk, data);
    for one in eaters.iter().take(NAMED) {
        evidence.push(one.line());
    }
    let more = eaters.len().saturating_sub(NAMED);
    if more > 0 {
        evidence.push(msg!("and {more} more", "另有 {more} 个"));
    }
    if let Some(warning) = &risk.early_warning {
        let (high, when) = (bytes(Some(warning.limit_bytes)), length(warning.hours));
        evidence.push(Msg {
            en: format!("memory.high ({high}) slows it down in about {}", when.en),
            zh: format!("约 {} 后达到 memory.high（{high}），分配开始变慢", when.zh),
        });
    }
    let mut advice = Vec::new();
    if let Some(victim) = &risk.victim {
        let (comm, pid, score) = (&victim.comm, victim.pid, victim.score);
        evidence.push(msg!(
            "the kernel would most likely kill {comm} (PID {pid}): badness {score} ‰",
            "内核最可能终止 {comm}（PID {pid}）：badness {score}‰"
        ));
        if !victim.leaks {
            advice.push(innocent(risk, &eaters));
        }
    } else if risk.outcome == Some("allocation-fails") {
        evidence.push(msg!(
            "nobody is killed there: allocations fail (ENOMEM), which ends most programs",
            "到达后不会触发 OOM 终止：内存分配失败（ENOMEM），多数程序会因此退出"
        ));
    }
    advice.extend(first_steps(risk, &eaters, &soonest));
    Some(Finding {
        id: "oom-risk",
        severity,
        title,
        evidence,
        advice,
    })
}

/// The victim is not the cause.
fn innocent(risk: &Risk, eaters: &[Eater]) -> Msg {
    let victim = risk.victim.as_ref();
    let (comm, pid) = victim.map_or(("", 0), |one| (one.comm.as_str(), one.pid));
    match eaters.iter().find_map(|one| one.pid) {
        Some(leaker) => msg!(
            "{comm} (PID {pid}) does not leak; make the kernel choose the leak instead: echo 1000 > /proc/{leaker}/oom_score_adj",
            "{comm}（PID {pid}）并不泄漏；可让内核优先终止泄漏进程：echo 1000 > /proc/{leaker}/oom_score_adj"
        ),
        None => msg!(
            "{comm} (PID {pid}) does not leak; it can be exempted: echo -1000 > /proc/{pid}/oom_score_adj",
            "{comm}（PID {pid}）并不泄漏；可将其豁免：echo -1000 > /proc/{pid}/oom_score_adj"
        ),
    }
}

/// What to do, first things first.
fn first_steps(risk: &Risk, eaters: &[Eater], soonest: &Msg) -> Vec<Msg> {
    let mut advice = Vec::new();
    let most = eaters.first();
    if let Some(pid) = eaters.iter().find_map(|one| one.pid) {
        advice.push(msg!(
            "see how it grows: `aiops detect memory-leak --pid {pid}`, and where: `aiops inspect memory --pid {pid} --maps`",
            "查看增长过程：`aiops detect memory-leak --pid {pid}`；查看增长位置：`aiops inspect memory --pid {pid} --maps`"
        ));
        advice.push(Msg {
            en: format!("until it is mended, restart it in less than {}", soonest.en),
            zh: format!("修复前，请在 {} 之内重启该进程", soonest.zh),
        });
    }
    match most {
        Some(Eater {
            pid: None,
            cgroup: Some(path),
            ..
        }) => {
            let quoted = shell::quote(path);
            advice.push(msg!(
                "no single process leaks most of it: look for many short-lived ones, files in tmpfs and shared memory: `aiops inspect processes --cgroup {quoted}`, `aiops inspect cache`",
                "主要增长并非来自单个进程：请检查大量短生命周期进程、tmpfs 文件与共享内存：`aiops inspect processes --cgroup {quoted}`、`aiops inspect cache`"
            ));
        }
        Some(Eater { pid: None, .. }) => advice.push(msg!(
            "no single process leaks most of it: look at tmpfs, slab and kernel memory: `aiops inspect cache`",
            "主要增长并非来自单个进程：请检查 tmpfs、slab 与内核内存：`aiops inspect cache`"
        )),
        _ => {}
    }
    let catch = risk.limit_cgroup.as_deref().map_or_else(
        || "aiops trace oom --record oom.aiops".to_owned(),
        |path| {
            let quoted = shell::quote(path);
            format!("aiops trace oom --cgroup {quoted} --record oom.aiops")
        },
    );
    if risk.outcome == Some("oom-kill") {
        advice.push(msg!(
            "keep the evidence of the kill: `{catch}`",
            "保留 OOM 现场：`{catch}`"
        ));
    }
    advice
}

/// Near a limit without growth.
fn near_limit(risk: &Risk, data: &RiskData) -> Option<Finding> {
    let pct = risk.used_share? * 100.0;
    let waits = risk.psi_some_avg10_pct >= Some(PRESSURE_PCT);
    let severity = if pct >= VERY_NEAR_PCT || waits {
        Severity::Warning
    } else {
        Severity::Info
    };
    let what = limit_words(risk);
    let title = Msg {
        en: format!("{pct:.0} % of {} are in use; nothing grows there", what.en),
        zh: format!("{}已使用 {pct:.0}%；未见持续增长", what.zh),
    };
    let (used, left) = (bytes(risk.used_bytes), bytes(risk.left_bytes));
    let mut evidence = vec![msg!(
        "{used} that reclaim cannot take, {left} left: a peak may meet the limit at any time, so there is no date",
        "不可回收的用量为 {used}，剩余 {left}：一次峰值即可能触及上限，因此无法给出时间"
    )];
    if let Some(psi) = risk.psi_some_avg10_pct {
        evidence.push(msg!(
            "tasks wait for memory {psi:.1} % of the time (10 s)",
            "任务等待内存的时间占比 {psi:.1}%（10 秒）"
        ));
    }
    let processes = data.window.processes;
    evidence.push(msg!(
        "{processes} processes were judged, and none that leaks stands here",
        "已判断 {processes} 个进程，此处没有泄漏进程"
    ));
    let advice = match (risk.limit_source, &risk.limit_cgroup, risk.pid) {
        (Some("cgroup"), Some(path), _) => {
            let quoted = shell::quote(path);
            msg!(
                "see what is in it: `aiops inspect processes --cgroup {quoted}`; raise the limit when this is its normal need",
                "查看占用者：`aiops inspect processes --cgroup {quoted}`；若属正常需求则调高限额"
            )
        }
        (Some("rlimit"), _, Some(pid)) => msg!(
            "see what it maps: `aiops inspect memory --pid {pid}`; raise the limit: `prlimit --pid {pid}`",
            "查看其映射：`aiops inspect memory --pid {pid}`；调高限制：`prlimit --pid {pid}`"
        ),
        _ => msg!(
            "see who has the memory: `aiops inspect processes`, and what lowers the score: `aiops health memory`",
            "查看内存占用者：`aiops inspect processes`；查看健康评分：`aiops health memory`"
        ),
    };
    Some(Finding {
        id: "oom-risk-near-limit",
        severity,
        title,
        evidence,
        advice: vec![advice],
    })
}

/// Whether what was seen lasted long enough to say anything about that time.
fn foreseeable(risk: &Risk) -> bool {
    let times = risk.hours.zip(risk.seen_hours);
    times.is_none_or(|(hours, seen)| hours <= FORESIGHT * seen)
}

/// Growth that may level off, and would meet a limit within a day if it does not.
fn undecided(data: &RiskData) -> Option<Finding> {
    let soon = |risk: &&Risk| risk.reason == "undecided" && risk.hours < Some(SOON_H);
    let rows: Vec<&Risk> = data.risks.iter().filter(soon).collect();
    let first = rows.first()?;
    let n = rows.len();
    let title = if n == 1 {
        let who = whom(first);
        msg!(
            "{who} grows towards a limit within a day, and cannot be told from a warm-up",
            "{who} 一天内可能触及上限，尚无法与预热区分"
        )
    } else {
        msg!(
            "{n} grow towards a limit within a day, and cannot be told from a warm-up",
            "{n} 个对象一天内可能触及上限，尚无法与预热区分"
        )
    };
    let watch = match (first.pid, &first.cgroup) {
        (Some(pid), _) => format!("aiops detect memory-leak --pid {pid}"),
        (None, Some(path)) => {
            format!("aiops detect memory-leak --cgroup {}", shell::quote(path))
        }
        (None, None) => "aiops detect oom-risk --history 24h".to_owned(),
    };
    let evidence = rows.iter().map(|one| {
        let (who, rate) = (whom(one), mib(one.rate_mib_per_hour.unwrap_or(0.0)));
        let when = length(one.hours.unwrap_or(0.0));
        Msg {
            en: format!("{who}: {rate} MiB/h, {} if it goes on", when.en),
            zh: format!("{who}：{rate} MiB/h，若持续则约 {}", when.zh),
        }
    });
    Some(Finding {
        id: "oom-risk-undecided",
        severity: if rows.iter().any(|one| foreseeable(one)) {
            Severity::Warning
        } else {
            Severity::Info
        },
        title,
        evidence: evidence.collect(),
        advice: vec![msg!(
            "watch for longer: `{watch}`",
            "延长观测时间：`{watch}`"
        )],
    })
}
