//! The score itself: figures in, 0 to 100 out. No clock, no files, no names.
//!
//! Each figure has a curve from good (1) to bad; a factor takes the worst of its figures (swap: the
//! product of use and traffic). The score is the weighted geometric mean of the factors, so that one
//! bad factor cannot be averaged away; weights of missing factors go to the others in proportion.
//! No curve reaches 0 and caps slope on, so that a host in trouble still shows whether it gets worse.
//!
//! | factor | weight | figures |
//! |---|---|---|
//! | psi | .35 | some and full: the worst of the interval, avg10 and half of avg60 |
//! | usage | .25 | 1 − MemAvailable / MemTotal |
//! | swap | .20 | share in use × MiB/s in and out (out counts half); idle swap costs nothing unless it is
//! full: no room is left then; no swap: missing |
//! | cache | .12 | file refaults, major faults, pages scanned in vain, direct reclaim |
//! | fragmentation | .08 | unusable-free index of order 9, compaction stalls |
//!
//! avg60 counts half because it remembers a minute that is over: a host that recovers is to show it
//! within the interval and PSI's ten seconds, yet pressure that comes in bursts is not forgotten.

use crate::msg;
use crate::report::Msg;
use crate::report::health::Cap;
use crate::report::health::Factor;
use crate::report::health::Input;

use super::curve::ALLOCSTALL;
use super::curve::COMPACT;
use super::curve::Curve;
use super::curve::FULL;
use super::curve::IN_VAIN;
use super::curve::MAJFAULT;
use super::curve::REFAULT;
use super::curve::SOME;
use super::curve::SWAP_RATE;
use super::curve::SWAP_USED;
use super::curve::UNUSABLE;
use super::curve::USED;
use super::curve::curve;
use super::curve::tenth;
use super::curve::thousandth;
use super::curve::thresholds;

/// Everything that the score depends on; `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// MemAvailable of MemTotal, percent.
    pub available_pct: Option<f64>,
    /// `available_pct` is an estimate: the kernel has no MemAvailable.
    pub available_estimated: bool,
    /// Some task waited for memory, percent of the interval.
    pub psi_some_now: Option<f64>,
    /// The kernel's average, percent.
    pub psi_some_avg10: Option<f64>,
    /// The kernel's average, percent.
    pub psi_some_avg60: Option<f64>,
    /// All tasks waited, percent of the interval.
    pub psi_full_now: Option<f64>,
    /// The kernel's average, percent.
    pub psi_full_avg10: Option<f64>,
    /// The kernel's average, percent.
    pub psi_full_avg60: Option<f64>,
    /// Whether there is swap; `None`: not known.
    pub swap_present: Option<bool>,
    /// The kernel has PSI, so that figures of it must be there.
    pub psi_expected: bool,
    /// Swap in use, percent.
    pub swap_used_pct: Option<f64>,
    /// Swapped in, MiB/s.
    pub swap_in_mib_s: Option<f64>,
    /// Swapped out, MiB/s.
    pub swap_out_mib_s: Option<f64>,
    /// Anonymous refaults, MiB/s.
    pub refault_anon_mib_s: Option<f64>,
    /// File refaults, MiB/s.
    pub refault_file_mib_s: Option<f64>,
    /// Major faults per second.
    pub majfault_per_s: Option<f64>,
    /// Pages scanned by reclaim and not freed, per second.
    pub scanned_in_vain_per_s: Option<f64>,
    /// Allocations that had to reclaim themselves, per second.
    pub allocstall_per_s: Option<f64>,
    /// Free memory that order 9 cannot have, percent.
    pub unusable_free_pct: Option<f64>,
    /// Allocations that had to compact themselves, per second.
    pub compact_stall_per_s: Option<f64>,
}

/// The score and what it is made of.
#[derive(Clone, Debug)]
pub struct Scored {
    /// 0 to 100, after caps, one decimal.
    pub score: Option<f64>,
    /// Before caps.
    pub uncapped: Option<f64>,
    /// What lowers it most first.
    pub factors: Vec<Factor>,
    /// Upper bounds that hold now.
    pub caps: Vec<Cap>,
}

/// Of the traffic, what counts when next to nothing is in use; with all in use, all of it counts.
const TRAFFIC_COUNTS: f64 = 0.25;
/// PSI full avg10 above which the score is at most [`CAP_FULL`].
const FULL_CAPS_ABOVE: f64 = 20.0;
const CAP_FULL: f64 = 20.0;
/// MemAvailable below which the score is at most [`CAP_AVAILABLE`].
const AVAILABLE_CAPS_BELOW: f64 = 3.0;
const CAP_AVAILABLE: f64 = 25.0;
/// A host that thrashes is at best good.
const CAP_THRASH: f64 = 89.0;
/// All tasks waited longer than this, percent: that is thrashing.
const THRASH_FULL: f64 = 1.0;
/// Swapped in and out, MiB/s, while reclaimed pages come back.
const THRASH_SWAP: f64 = 1.0;
/// avg60 remembers what is over.
const AVG60_COUNTS: f64 = 0.5;
/// Swapping out is work; swapping in is waiting.
const OUT_COUNTS: f64 = 0.5;
/// Of the weight of what there is on a host, what must be known for a score.
const LEAST_KNOWN: f64 = 0.5;

/// Scores the figures.
#[must_use]
pub fn score(figures: &Figures) -> Scored {
    let figures = &figures.clean();
    let mut factors = vec![
        psi(figures),
        usage(figures),
        swap(figures),
        cache(figures),
        fragmentation(figures),
    ];
    let known: f64 = factors
        .iter()
        .filter(|factor| factor.score.is_some())
        .map(|factor| factor.weight)
        .sum();
    let mut log = 0.0;
    for factor in &mut factors {
        if let Some(score) = factor.score {
            factor.effective_weight = factor.weight / known;
            let part = factor.effective_weight * (score / 100.0).max(LEAST).ln();
            log += part;
            factor.lost_points = -part;
        }
    }
    let raw = 100.0 * f64::exp(log);
    for factor in &mut factors {
        // The points that are missing, shared out by what each factor costs.
        let share = if log < 0.0 {
            factor.lost_points / -log
        } else {
            0.0
        };
        factor.lost_points = tenth((100.0 - raw) * share);
        factor.score = factor.score.map(tenth);
        factor.effective_weight = thousandth(factor.effective_weight);
    }
    factors.sort_by(|a, b| b.lost_points.total_cmp(&a.lost_points));
    let mut caps = caps(figures);
    let enough = enough(figures, &factors, known);
    if !enough {
        caps.clear();
        for factor in &mut factors {
            factor.effective_weight = 0.0;
            factor.lost_points = 0.0;
        }
    }
    let uncapped = enough.then_some(raw);
    let lowest = caps.iter().map(|cap| cap.at_most).fold(100.0, f64::min);
    for cap in &mut caps {
        cap.applied = cap.at_most < raw && cap.at_most <= lowest;
    }
    Scored {
        score: uncapped.map(|raw| tenth(raw.min(lowest))),
        uncapped: uncapped.map(tenth),
        factors,
        caps,
    }
}

/// Whether what is known carries a score: usage or pressure, and half of the weight of what there is on
/// this host. No swap and no PSI on this kernel are nothing that is missing.
fn enough(figures: &Figures, factors: &[Factor], known: f64) -> bool {
    let has = |id: &str| {
        let mut of = factors.iter().filter(|factor| factor.id == id);
        of.any(|factor| factor.score.is_some())
    };
    let absent = |factor: &&Factor| match factor.id {
        "swap" => figures.swap_present == Some(false),
        "psi" => factor.score.is_none() && !figures.psi_expected,
        _ => false,
    };
    let there = factors.iter().filter(|factor| !absent(factor));
    let there: f64 = there.map(|factor| factor.weight).sum();
    (has("usage") || has("psi")) && known >= there * LEAST_KNOWN
}

/// The level of a score: its stable id.
#[must_use]
pub fn level(score: f64) -> &'static str {
    match score {
        score if score >= 90.0 => "excellent",
        score if score >= 75.0 => "good",
        score if score >= 50.0 => "fair",
        score if score > 25.0 => "poor",
        _ => "critical",
    }
}

/// No curve is below this.
const LEAST: f64 = 0.001;

impl Figures {
    /// What is no number, or below 0, is not known.
    fn clean(&self) -> Self {
        let mut all = *self;
        for figure in [
            &mut all.available_pct,
            &mut all.psi_some_now,
            &mut all.psi_some_avg10,
            &mut all.psi_some_avg60,
            &mut all.psi_full_now,
            &mut all.psi_full_avg10,
            &mut all.psi_full_avg60,
            &mut all.swap_used_pct,
            &mut all.swap_in_mib_s,
            &mut all.swap_out_mib_s,
            &mut all.refault_anon_mib_s,
            &mut all.refault_file_mib_s,
            &mut all.majfault_per_s,
            &mut all.scanned_in_vain_per_s,
            &mut all.allocstall_per_s,
            &mut all.unusable_free_pct,
            &mut all.compact_stall_per_s,
        ] {
            *figure = figure.filter(|value| value.is_finite() && *value >= 0.0);
        }
        all
    }

    /// Worst share of time in which all tasks waited.
    fn full(&self) -> Option<f64> {
        worst([
            self.psi_full_now,
            self.psi_full_avg10,
            self.psi_full_avg60.map(|avg60| avg60 * AVG60_COUNTS),
        ])
    }

    fn swap_rate(&self) -> Option<f64> {
        match (self.swap_in_mib_s, self.swap_out_mib_s) {
            (None, None) => None,
            (into, out) => Some(into.unwrap_or(0.0) + OUT_COUNTS * out.unwrap_or(0.0)),
        }
    }
}

fn worst<const N: usize>(values: [Option<f64>; N]) -> Option<f64> {
    values.into_iter().flatten().reduce(f64::max)
}

/// A figure with its curve; the score is not rounded yet.
fn input(
    id: &'static str,
    value: Option<f64>,
    unit: &'static str,
    points: Curve,
    source: &'static str,
) -> Input {
    Input {
        id,
        value: value.map(thousandth),
        unit,
        score: value.map(|value| 100.0 * curve(points, value)),
        thresholds: thresholds(points, unit),
        source,
        estimated: false,
    }
}

/// A factor as bad as the worst of its figures.
fn factor(id: &'static str, weight: f64, mut inputs: Vec<Input>, texts: Texts) -> Factor {
    let known = inputs.iter().filter(|input| input.score.is_some());
    let decides = known
        .min_by(|a, b| {
            let score = |input: &Input| input.score.unwrap_or(100.0);
            score(a).total_cmp(&score(b))
        })
        .cloned();
    for input in &mut inputs {
        input.score = input.score.map(tenth);
    }
    Factor {
        id,
        score: decides.as_ref().and_then(|input| input.score),
        weight,
        effective_weight: 0.0,
        lost_points: 0.0,
        value: decides.as_ref().and_then(|input| input.value),
        unit: decides.as_ref().map(|input| input.unit),
        decided_by: decides.as_ref().map(|input| input.id),
        thresholds: decides
            .as_ref()
            .or(inputs.first())
            .map_or_else(|| Msg::new("", ""), |input| input.thresholds.clone()),
        missing: decides.is_none().then_some(texts.missing),
        inputs,
        source: texts.source,
        explanation: texts.explanation,
    }
}

struct Texts {
    source: &'static str,
    explanation: Msg,
    missing: Msg,
}

fn psi(f: &Figures) -> Factor {
    let file = "/proc/pressure/memory";
    let now = "/proc/pressure/memory total";
    let half = |value: Option<f64>| value.map(|value| value * AVG60_COUNTS);
    let mut some60 = input(
        "psi_some_avg60_pct",
        half(f.psi_some_avg60),
        "percent",
        SOME,
        file,
    );
    let mut full60 = input(
        "psi_full_avg60_pct",
        half(f.psi_full_avg60),
        "percent",
        FULL,
        file,
    );
    some60.value = f.psi_some_avg60;
    full60.value = f.psi_full_avg60;
    for input in [&mut some60, &mut full60] {
        let Msg { en, zh } = &input.thresholds;
        input.thresholds = msg!("half of it counts: {en}", "按一半计：{zh}");
    }
    let inputs = vec![
        input(
            "psi_full_avg10_pct",
            f.psi_full_avg10,
            "percent",
            FULL,
            file,
        ),
        input(
            "psi_full_interval_pct",
            f.psi_full_now,
            "percent",
            FULL,
            now,
        ),
        input(
            "psi_some_avg10_pct",
            f.psi_some_avg10,
            "percent",
            SOME,
            file,
        ),
        input(
            "psi_some_interval_pct",
            f.psi_some_now,
            "percent",
            SOME,
            now,
        ),
        full60,
        some60,
    ];
    factor(
        "psi",
        0.35,
        inputs,
        Texts {
            source: file,
            explanation: msg!(
                "share of time in which some or all tasks waited for memory",
                "部分或全部任务等待内存的时间占比"
            ),
            missing: msg!(
                "no figures of /proc/pressure/memory (the kernel has it from Linux 4.20 on with CONFIG_PSI; some need psi=1 at boot)",
                "没有 /proc/pressure/memory 的数据（需要 Linux 4.20 以上且 CONFIG_PSI；有的需要启动参数 psi=1）"
            ),
        },
    )
}

fn usage(f: &Figures) -> Factor {
    let used = f.available_pct.map(|pct| 100.0 - pct.min(100.0));
    let mut used = input(
        "mem_used_pct",
        used,
        "percent",
        USED,
        "/proc/meminfo MemAvailable, MemTotal",
    );
    used.estimated = f.available_estimated;
    factor(
        "usage",
        0.25,
        vec![used],
        Texts {
            source: "/proc/meminfo",
            explanation: msg!(
                "memory that programs cannot have without swapping (1 − MemAvailable / MemTotal)",
                "不换出就无法再分配的内存（1 − MemAvailable / MemTotal）"
            ),
            missing: msg!("/proc/meminfo could not be read", "无法读取 /proc/meminfo"),
        },
    )
}

fn swap(f: &Figures) -> Factor {
    let there = f.swap_present != Some(false);
    let used = f.swap_used_pct.filter(|_| there).map(|pct| pct.min(100.0));
    let rate = f.swap_rate().filter(|_| there);
    let share = used.map_or(1.0, |pct| pct / 100.0);
    let counts = TRAFFIC_COUNTS + (1.0 - TRAFFIC_COUNTS) * share;
    let mut traffic = input(
        "swap_in_and_half_out_mib_per_s",
        rate.map(|rate| rate * counts),
        "MiB/s",
        SWAP_RATE,
        "/proc/vmstat pswpin, pswpout",
    );
    traffic.value = rate.map(thousandth);
    let Msg { en, zh } = &traffic.thresholds;
    traffic.thresholds = msg!(
        "times the share in use (at least {TRAFFIC_COUNTS}): {en}",
        "乘以已用占比（至少 {TRAFFIC_COUNTS}）：{zh}"
    );
    let inputs = vec![
        input(
            "swap_used_pct",
            used,
            "percent",
            SWAP_USED,
            "/proc/meminfo SwapTotal, SwapFree",
        ),
        traffic,
    ];
    let product = inputs
        .iter()
        .filter_map(|input| input.score)
        .reduce(|a, b| a * b / 100.0);
    let mut factor = factor(
        "swap",
        0.20,
        inputs,
        Texts {
            source: "/proc/meminfo, /proc/vmstat",
            explanation: msg!(
                "how fast pages go in and out, times the share in use; occupied but idle swap is normal, a full one has no room left",
                "换入换出速率乘以已用占比；占用但空闲的 Swap 属正常，用满则再无余量"
            ),
            missing: if there {
                msg!("the use of swap is not known", "Swap 使用情况未知")
            } else {
                msg!(
                    "no swap is configured: that is neither good nor bad, the other factors carry its weight",
                    "未配置 Swap：本身不算好坏，权重由其他因子分担"
                )
            },
        },
    );
    factor.score = product;
    factor
}

fn cache(f: &Figures) -> Factor {
    let inputs = vec![
        input(
            "refault_file_mib_per_s",
            f.refault_file_mib_s,
            "MiB/s",
            REFAULT,
            "/proc/vmstat workingset_refault_file",
        ),
        input(
            "majfault_per_s",
            f.majfault_per_s,
            "events/s",
            MAJFAULT,
            "/proc/vmstat pgmajfault",
        ),
        input(
            "scanned_in_vain_per_s",
            f.scanned_in_vain_per_s,
            "pages/s",
            IN_VAIN,
            "/proc/vmstat pgscan_*, pgsteal_*",
        ),
        input(
            "direct_reclaim_per_s",
            f.allocstall_per_s,
            "events/s",
            ALLOCSTALL,
            "/proc/vmstat allocstall*",
        ),
    ];
    factor(
        "cache",
        0.12,
        inputs,
        Texts {
            source: "/proc/vmstat",
            explanation: msg!(
                "file pages that come back right after reclaim, faults that need a disk, reclaim that finds nothing",
                "刚被回收又读回的文件页、需要读盘的缺页、回收扫描的无效部分"
            ),
            missing: msg!(
                "rates need two readings: use an interval above 0 on a live host",
                "速率需要两次读数：请在运行中的主机上使用大于 0 的间隔"
            ),
        },
    )
}

fn fragmentation(f: &Figures) -> Factor {
    let unusable = f.unusable_free_pct.map(|pct| pct.min(100.0));
    let inputs = vec![
        input(
            "unusable_free_order9_pct",
            unusable,
            "percent",
            UNUSABLE,
            "/proc/buddyinfo",
        ),
        input(
            "compact_stall_per_s",
            f.compact_stall_per_s,
            "events/s",
            COMPACT,
            "/proc/vmstat compact_stall",
        ),
    ];
    factor(
        "fragmentation",
        0.08,
        inputs,
        Texts {
            source: "/proc/buddyinfo, /proc/vmstat",
            explanation: msg!(
                "free memory that lies in pieces too small for a huge page (order 9), and allocations that had to compact",
                "空闲内存中碎到无法组成大页（9 阶）的部分，以及被迫做内存规整的分配"
            ),
            missing: msg!(
                "/proc/buddyinfo could not be read",
                "无法读取 /proc/buddyinfo"
            ),
        },
    )
}

/// Upper bounds that hold now.
fn caps(f: &Figures) -> Vec<Cap> {
    let mut caps = Vec::new();
    let mut cap = |id, at_most: f64, value: f64, unit, reason| {
        caps.push(Cap {
            id,
            at_most: tenth(at_most),
            applied: false,
            value: thousandth(value),
            unit,
            reason,
        });
    };
    if let Some(full) = f.psi_full_avg10.filter(|full| *full > FULL_CAPS_ABOVE) {
        // From 20 at 20 % down to 5 at 100 %.
        let beyond = (full.min(100.0) - FULL_CAPS_ABOVE) / (100.0 - FULL_CAPS_ABOVE);
        cap(
            "psi-full",
            CAP_FULL - 15.0 * beyond,
            full,
            "percent",
            msg!(
                "all tasks waited for memory for {full:.1}% of the last 10 s (above {FULL_CAPS_ABOVE}%)",
                "最近 10 秒有 {full:.1}% 的时间全部任务都在等内存（超过 {FULL_CAPS_ABOVE}%）"
            ),
        );
    }
    if let Some(available) = f.available_pct.filter(|pct| *pct < AVAILABLE_CAPS_BELOW) {
        cap(
            "mem-available",
            CAP_AVAILABLE * available / AVAILABLE_CAPS_BELOW,
            available,
            "percent",
            msg!(
                "only {available:.1}% of the memory is available (below {AVAILABLE_CAPS_BELOW}%)",
                "可用内存仅剩 {available:.1}%（低于 {AVAILABLE_CAPS_BELOW}%）"
            ),
        );
    }
    let full = f.full().filter(|full| *full > THRASH_FULL);
    let traffic = f.swap_in_mib_s.unwrap_or(0.0) + f.swap_out_mib_s.unwrap_or(0.0);
    let back = f.refault_anon_mib_s.unwrap_or(0.0) + f.refault_file_mib_s.unwrap_or(0.0);
    if let Some(full) = full {
        cap(
            "thrash",
            CAP_THRASH,
            full,
            "percent",
            msg!(
                "all tasks waited for memory for {full:.1}% of the time (above {THRASH_FULL}%)",
                "有 {full:.1}% 的时间全部任务都在等内存（超过 {THRASH_FULL}%）"
            ),
        );
    } else if traffic > THRASH_SWAP && (back > 0.0 || f.swap_in_mib_s > Some(THRASH_SWAP)) {
        cap(
            "thrash",
            CAP_THRASH,
            traffic,
            "MiB/s",
            msg!(
                "{traffic:.1} MiB/s go in and out of swap while reclaimed pages come back at {back:.1} MiB/s",
                "换入换出 {traffic:.1} MiB/s，同时被回收的页以 {back:.1} MiB/s 读回"
            ),
        );
    }
    caps
}
