//! What speaks for a leak or against it beside the one series: earlier lives of the program, others that run it,
//! which kind of memory grew, and whether threads, CPU time or swap tell why. Pure functions; nothing here changes
//! a verdict.

use super::leak;
use super::leak::Reason;
use super::leak::Series;
use super::leak::robust::median;
use super::leak_past;
use super::leak_report::kb;
use super::leak_report::stamp;
use crate::msg;
use crate::report::Msg;
use crate::report::leak::Components;
use crate::report::leak::CountGrowth;
use crate::report::leak::CpuRelation;
use crate::report::leak::Evidence;
use crate::report::leak::LifeSummary;
use crate::report::leak::OpenNow;
use crate::report::leak::SameAge;
use crate::report::leak::Siblings;
use crate::report::size_kb;

/// Growth below this is none, KiB.
const LEAST_KB: f64 = 1024.0;
/// Shared memory that grew by less is not looked at, KiB.
const LEAST_SHARED_KB: f64 = 8.0 * 1024.0;
/// A life whose last quarter grew by less than this share had levelled off.
const LEVEL: f64 = 0.03;
/// Fewest samples of an earlier life that tells something.
const FEWEST: usize = 8;
/// CPU time is looked at as a load from this correlation on.
const RELATED: f64 = 0.7;
/// A count goes with memory from this R² on.
const WITH_MEMORY: f64 = 0.8;
/// Resident memory that falls, and swap that grows, by this share of the memory.
const PUSHED_OUT: f64 = 0.05;

/// What is known of a process at one moment, KiB unless a name says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Seconds since 1970.
    pub time_s: f64,
    /// Resident memory.
    pub rss_kb: Option<u64>,
    /// Anonymous.
    pub anon_kb: Option<u64>,
    /// Of files.
    pub file_kb: Option<u64>,
    /// Shared.
    pub shmem_kb: Option<u64>,
    /// Swapped out.
    pub swap_kb: Option<u64>,
    /// Address space.
    pub vms_kb: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// CPU time since its start, clock ticks.
    pub cpu_ticks: Option<u64>,
    /// Resident memory of the heap (brk), a part of the anonymous memory.
    pub heap_kb: Option<u64>,
    /// Open file descriptors.
    pub fds: Option<u64>,
    /// Of them sockets.
    pub sockets: Option<u64>,
}

/// One life of a program.
#[derive(Clone, Copy, Debug)]
pub struct Life<'a> {
    /// Process id.
    pub pid: u32,
    /// When it started, seconds since 1970.
    pub started_s: f64,
    /// Its memory.
    pub series: &'a Series,
}

impl Life<'_> {
    fn age(&self, row: usize) -> f64 {
        let time = self.series.time_s.get(row).copied();
        time.map_or(0.0, |time| (time - self.started_s).max(0.0))
    }

    fn last_age(&self) -> f64 {
        self.age(self.series.time_s.len().saturating_sub(1))
    }

    fn summary(&self) -> LifeSummary {
        let bytes = &self.series.bytes;
        let (middle, quarter) = (bytes.len() / 2, bytes.len() * 3 / 4);
        let (before, end) = (median(&bytes[middle..quarter]), median(&bytes[quarter..]));
        LifeSummary {
            pid: self.pid,
            start: stamp(self.started_s),
            age_s: self.last_age(),
            end_kb: kb(end),
            max_kb: kb(bytes.iter().copied().fold(0.0, f64::max)),
            level: end - before < (LEVEL * before).max(LEAST_KB * 1024.0),
        }
    }
}

/// What earlier lives came to, and what they held at the age of this one.
#[must_use]
pub fn lives(current: &Life<'_>, earlier: &[Life<'_>]) -> (Vec<LifeSummary>, Option<SameAge>) {
    let telling = || {
        earlier
            .iter()
            .filter(|life| life.series.bytes.len() >= FEWEST)
    };
    let age_s = current.last_age();
    let mut at_age = Vec::new();
    for life in telling().filter(|life| life.last_age() >= age_s) {
        let row = (life.series.time_s).partition_point(|time| time - life.started_s < age_s);
        at_age.extend(life.series.bytes.get(row).copied());
    }
    let now = current.series.bytes.last().copied();
    let same = now.filter(|_| !at_age.is_empty()).map(|now| SameAge {
        age_s,
        now_kb: kb(now),
        earlier_kb: kb(median(&at_age)),
        lives: at_age.len(),
    });
    (telling().map(Life::summary).collect(), same)
}

/// A figure at the beginning and at the end: medians of the first and the last tenth.
fn ends(figures: &[Figures], get: impl Fn(&Figures) -> Option<u64>) -> Option<(f64, f64)> {
    let values: Vec<f64> = figures.iter().filter_map(get).map(|n| n as f64).collect();
    let part = values.len().div_ceil(10);
    (part > 0).then(|| {
        (
            median(&values[..part]),
            median(&values[values.len() - part..]),
        )
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "sizes in KiB are far below the largest integer"
)]
fn growth(ends: Option<(f64, f64)>) -> Option<i64> {
    ends.map(|(first, last)| (last - first).round() as i64)
}

/// Growth by kind of memory, and the kind that grew most.
#[must_use]
pub fn components(figures: &[Figures]) -> (Components, Option<&'static str>) {
    let components = Components {
        heap_kb: growth(ends(figures, |one| one.heap_kb)),
        anon_kb: growth(ends(figures, |one| one.anon_kb)),
        file_kb: growth(ends(figures, |one| one.file_kb)),
        shmem_kb: growth(ends(figures, |one| one.shmem_kb)),
        swap_kb: growth(ends(figures, |one| one.swap_kb)),
    };
    let heap = components.heap_kb.unwrap_or(0).max(0);
    let kinds = [
        ("heap", components.heap_kb),
        ("anon", components.anon_kb.map(|anon| anon - heap)),
        ("file", components.file_kb),
        ("shmem", components.shmem_kb),
        ("swap", components.swap_kb),
    ];
    let known = kinds.into_iter().filter_map(|(name, kb)| Some((name, kb?)));
    let most = known.max_by_key(|(_, kb)| *kb);
    let main = most.filter(|(_, kb)| *kb as f64 >= LEAST_KB);
    (components, main.map(|(name, _)| name))
}

/// The shared memory of a process.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Its resident size over time.
    pub series: Series,
    /// At the beginning.
    pub first_kb: u64,
    /// At the end.
    pub last_kb: u64,
    /// It grew inside mappings of a fixed size, a pool of buffers that processes touch bit by bit: it has an end.
    pub fills: bool,
}

/// The shared memory of a process that started then, if it grew.
#[must_use]
pub fn shared_memory(figures: &[Figures], started_s: f64) -> Option<Shared> {
    let (first, last) = ends(figures, |one| one.shmem_kb)?;
    let grown = last - first;
    let (before, after) = ends(figures, |one| one.vms_kb)?;
    if grown < LEAST_SHARED_KB {
        return None;
    }
    let known = || figures.iter().filter(|one| one.shmem_kb.is_some());
    let sizes: Vec<u64> = known().filter_map(|one| one.shmem_kb).collect();
    Some(Shared {
        first_kb: sizes.first().copied()?,
        last_kb: sizes.last().copied()?,
        fills: after - before < grown / 2.0,
        series: Series {
            time_s: known().map(|one| one.time_s).collect(),
            bytes: sizes.iter().map(|kb| *kb as f64 * 1024.0).collect(),
            start_s: Some(vec![started_s; sizes.len()]),
            ..Series::default()
        },
    })
}

/// Anonymous memory with swap, else resident memory.
fn memory(one: &Figures) -> Option<u64> {
    Some(one.anon_kb.or(one.rss_kb)? + one.swap_kb.unwrap_or(0))
}

/// How a count (threads, open files, connections) grew, and memory with it.
#[must_use]
pub fn count(
    figures: &[Figures],
    get: impl Fn(&Figures) -> Option<u64> + Copy,
) -> Option<CountGrowth> {
    let (first, last) = ends(figures, get)?;
    let grown = ends(figures, memory).map_or(0.0, |(first, last)| last - first);
    let more = last - first;
    let whole = |value: f64| u64::try_from(growth(Some((0.0, value))).unwrap_or(0)).unwrap_or(0);
    let known = || figures.iter().filter(|one| get(one).is_some());
    let seen = known().next_back().zip(known().next());
    let seen_s = seen.map_or(0.0, |(last, first)| last.time_s - first.time_s);
    let both = known().filter_map(|one| Some((get(one)? as f64, memory(one)? as f64)));
    let (counts, sizes): (Vec<f64>, Vec<f64>) = both.unzip();
    Some(CountGrowth {
        first: whole(first),
        last: whole(last),
        kb_each: (more >= 1.0 && grown >= LEAST_KB).then(|| grown / more),
        per_hour: (seen_s > 0.0).then(|| more * 3600.0 / seen_s),
        r2: correlation(&counts, &sizes).map(|r| r * r),
    })
}

/// Resident memory fell while swap grew.
#[must_use]
pub fn falls_into_swap(figures: &[Figures]) -> bool {
    let both = ends(figures, |one| one.rss_kb).zip(ends(figures, |one| one.swap_kb));
    both.is_some_and(|((rss, rss_last), (swap, swap_last))| {
        let least = (PUSHED_OUT * (rss + swap)).max(LEAST_KB);
        rss - rss_last > least && swap_last - swap > least
    })
}

/// Whether memory follows the CPU time that the process takes per second. `judge`: whether that explains the growth
/// is looked at as well.
#[must_use]
pub fn cpu(figures: &[Figures], judge: bool) -> Option<CpuRelation> {
    let mut series = Series::default();
    let mut load = Vec::new();
    for pair in figures.windows(2) {
        let (one, two) = (&pair[0], &pair[1]);
        let time = two.time_s - one.time_s;
        let used = two.cpu_ticks?.saturating_sub(one.cpu_ticks?) as f64;
        let Some(kb) = memory(two).filter(|_| time > 0.0) else {
            continue;
        };
        series.time_s.push(two.time_s);
        series.bytes.push(kb as f64 * 1024.0);
        load.push(used / time);
    }
    let correlation = correlation(&series.bytes, &load)?;
    series.load = Some(load);
    let explains = judge
        && correlation > RELATED
        && matches!(
            leak::assess(&series, None).reason,
            Reason::FollowsLoad { .. }
        );
    Some(CpuRelation {
        correlation,
        explains,
    })
}

/// Pearson's; `None`: one of them does not move.
fn correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    if x.len() < FEWEST {
        return None;
    }
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let mut sums = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x - mx, y - my);
        sums = (sums.0 + x * y, sums.1 + x * x, sums.2 + y * y);
    }
    let both = (sums.1 * sums.2).sqrt();
    (both > 0.0).then(|| (sums.0 / both).clamp(-1.0, 1.0))
}

fn size(kb: u64) -> String {
    size_kb(kb)
}

/// A length of time as people say it.
pub(super) fn length(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// The evidence in words: what tells nothing is left out.
#[must_use]
pub fn lines(evidence: &Evidence, components: &Components, verdict: &str) -> Vec<Msg> {
    let mut out = Vec::new();
    out.extend(life_lines(evidence));
    out.extend(evidence.past.iter().flat_map(leak_past::lines));
    out.extend(evidence.siblings.as_ref().and_then(sibling_line));
    out.extend(component_line(evidence, components));
    if evidence.rss_falls_into_swap {
        out.push(msg!(
            "resident memory fell while swap grew: what grows is being swapped out",
            "常驻内存下降而交换增长：增长的内存正被换出"
        ));
    }
    out.extend(count_lines(evidence));
    out.extend(evidence.open_now.as_ref().and_then(now_line));
    match evidence.cpu {
        Some(cpu) if cpu.explains => out.push(msg!(
            "its CPU time per second explains the growth (correlation {:.2}): memory may follow load, give `load` to be sure",
            "其每秒 CPU 时间可解释增长（相关系数 {:.2}）：内存可能随负载变化，可提供 `load` 列确认",
            cpu.correlation
        )),
        Some(cpu) if verdict == "leak" && cpu.correlation.abs() < 0.3 => out.push(msg!(
            "its CPU time per second does not move with its memory (correlation {:.2}): load does not explain it",
            "其每秒 CPU 时间与内存无关（相关系数 {:.2}）：负载不能解释增长",
            cpu.correlation
        )),
        _ => {}
    }
    out
}

/// What grew with memory: a count that explains most of it.
fn count_lines(evidence: &Evidence) -> Vec<Msg> {
    let mut out = Vec::new();
    let told = |growth: Option<CountGrowth>| {
        let growth = growth.filter(|growth| growth.last > growth.first)?;
        let r2 = growth.r2.filter(|r2| *r2 >= WITH_MEMORY)?;
        let each = size(kb(growth.kb_each? * 1024.0));
        Some((
            growth.first,
            growth.last,
            each,
            r2,
            growth.per_hour.unwrap_or(0.0),
        ))
    };
    if let Some((first, last, each, r2, _)) = told(evidence.threads) {
        out.push(msg!(
            "threads grew from {first} to {last}: {each} more memory for each (R² {r2:.2}), threads may be what leaks",
            "线程从 {first} 增至 {last}：每个线程约增加 {each}（R² {r2:.2}），泄漏的可能是线程"
        ));
    }
    let sockets = told(evidence.sockets);
    if let Some((first, last, each, r2, per_hour)) = &sockets {
        out.push(msg!(
            "connections grew from {first} to {last} ({per_hour:.0}/h): each keeps {each} (R² {r2:.2}), connections may not be closed",
            "连接从 {first} 增至 {last}（每小时 {per_hour:.0} 个）：每个连接占用约 {each}（R² {r2:.2}），连接可能没有关闭"
        ));
    }
    // Sockets are files: where those tell it, files add nothing.
    let more = |growth: Option<CountGrowth>| {
        growth.map_or(0, |growth| growth.last.saturating_sub(growth.first))
    };
    let others = sockets.is_none() || more(evidence.fds) > 2 * more(evidence.sockets);
    if let Some((first, last, each, r2, per_hour)) = told(evidence.fds).filter(|_| others) {
        out.push(msg!(
            "open files grew from {first} to {last} ({per_hour:.0}/h) with memory, {each} for each (R² {r2:.2}): a descriptor leak?",
            "打开的文件从 {first} 增至 {last}（每小时 {per_hour:.0} 个），与内存同步增长，每个约 {each}（R² {r2:.2}）：可能是描述符泄漏"
        ));
    }
    out
}

/// What is open now, as a fact: history does not know what was.
fn now_line(now: &OpenNow) -> Option<Msg> {
    let fds = now.fds?;
    let sockets = now.sockets.map_or(Msg::new("", ""), |n| {
        msg!(", {n} of them sockets", "，其中套接字 {n} 个")
    });
    let heap = now.heap_kb.map_or(Msg::new("", ""), |kb| {
        let kb = size(kb);
        msg!("; its heap is {kb}", "；堆 {kb}")
    });
    Some(Msg::new(
        format!("now it has {fds} files open{}{}", sockets.en, heap.en),
        format!("目前打开文件 {fds} 个{}{}", sockets.zh, heap.zh),
    ))
}

fn life_lines(evidence: &Evidence) -> Vec<Msg> {
    let mut out = Vec::new();
    let lives = &evidence.earlier_lives;
    let level: Vec<f64> = (lives.iter().filter(|life| life.level))
        .map(|life| life.end_kb as f64)
        .collect();
    let n = lives.len();
    if n > 0 && level.len() == n {
        let at = size(kb(median(&level) * 1024.0));
        out.push(msg!(
            "{n} earlier lives of this program levelled off at {at}",
            "该程序此前 {n} 次运行均在 {at} 附近趋于平稳"
        ));
    } else if n > 0 && level.is_empty() {
        out.push(msg!(
            "{n} earlier lives of this program were still growing when they ended",
            "该程序此前 {n} 次运行结束时仍在增长"
        ));
    }
    if let Some(same) = &evidence.same_age {
        let (age, now) = (length(same.age_s), size(same.now_kb));
        let (earlier, lives) = (size(same.earlier_kb), same.lives);
        out.push(msg!(
            "at the age of {age} it holds {now}; {lives} earlier lives held {earlier} (median)",
            "运行 {age} 时占用 {now}；此前 {lives} 次运行同龄时为 {earlier}（中位数）"
        ));
    }
    out
}

fn sibling_line(siblings: &Siblings) -> Option<Msg> {
    let Siblings {
        count,
        leaking,
        not_leaking,
    } = *siblings;
    if count == 0 {
        None
    } else if leaking > 0 {
        Some(msg!(
            "{leaking} of {count} other processes of this program leak as well",
            "同一程序的另外 {count} 个进程中有 {leaking} 个同样泄漏"
        ))
    } else if not_leaking > 0 {
        Some(msg!(
            "none of {count} other processes of this program leaks",
            "同一程序的另外 {count} 个进程均未泄漏"
        ))
    } else {
        None
    }
}

fn component_line(evidence: &Evidence, components: &Components) -> Option<Msg> {
    let main = evidence.main_component?;
    let (grown, what) = match main {
        "heap" => (components.heap_kb?, msg!("the heap (brk)", "堆（brk）")),
        "anon" => (
            components.anon_kb? - components.heap_kb.unwrap_or(0).max(0),
            if components.heap_kb.is_some() {
                msg!(
                    "anonymous memory beside the heap (mmap, stacks)",
                    "堆以外的匿名内存（mmap、栈）"
                )
            } else {
                msg!("anonymous memory (heap, stacks)", "匿名内存（堆、栈）")
            },
        ),
        "file" => (
            components.file_kb?,
            msg!(
                "file pages, which do not count as a leak",
                "文件页（不计入泄漏）"
            ),
        ),
        "shmem" => (components.shmem_kb?, msg!("shared memory", "共享内存")),
        _ => (components.swap_kb?, msg!("swap", "交换区")),
    };
    let grown = size(u64::try_from(grown).ok()?);
    let (en, zh) = (what.en, what.zh);
    Some(Msg::new(
        format!("most of the growth is {en}: +{grown}"),
        format!("增长主要来自{zh}：+{grown}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(begin: f64, n: usize, mib: impl Fn(f64) -> f64) -> Series {
        let time = |i: usize| begin + i as f64 * 60.0;
        Series {
            time_s: (0..n).map(time).collect(),
            bytes: (0..n).map(|i| mib(i as f64) * 1_048_576.0).collect(),
            ..Series::default()
        }
    }

    fn figures(n: u32, of: impl Fn(f64) -> Figures) -> Vec<Figures> {
        let one = |i| Figures {
            time_s: 1e9 + f64::from(i) * 10.0,
            ..of(f64::from(i))
        };
        (0..n).map(one).collect()
    }

    fn mib(value: f64) -> Option<u64> {
        Some(kb(value * 1_048_576.0))
    }

    #[test]
    fn earlier_lives_tell_where_warm_up_ends() {
        let warm = |i: f64| 200.0 - 100.0 * (-i / 20.0).exp();
        let (old, young) = (series(0.0, 200, warm), series(20_000.0, 21, warm));
        let life = |series, started_s| Life {
            pid: 1,
            started_s,
            series,
        };
        let (earlier, same) = lives(&life(&young, 20_000.0), &[life(&old, 0.0)]);
        assert!(earlier[0].level, "{earlier:?}");
        assert_eq!(earlier[0].end_kb / 1024, 199);
        let same = same.expect("it was as old");
        assert_eq!((same.now_kb, same.lives), (same.earlier_kb, 1));
        assert_eq!(same.age_s, 1200.0);
        let growing = series(0.0, 200, |i| 100.0 + i);
        let (earlier, _) = lives(&life(&young, 20_000.0), &[life(&growing, 0.0)]);
        assert!(!earlier[0].level, "{earlier:?}");
        // A life that ended younger tells nothing of this age.
        assert_eq!(lives(&life(&old, 0.0), &[life(&young, 20_000.0)]).1, None);
    }

    #[test]
    fn the_kind_that_grows_is_named_and_page_cache_is_said_to_be_none() {
        let of = |i: f64| Figures {
            anon_kb: mib(50.0 + i),
            file_kb: mib(20.0),
            swap_kb: Some(0),
            ..Figures::default()
        };
        let (found, main) = components(&figures(100, of));
        assert_eq!(
            (main, found.file_kb, found.shmem_kb),
            (Some("anon"), Some(0), None)
        );
        assert_eq!(found.anon_kb.map(|kb| kb / 1024), Some(90));
        let cache = |i: f64| Figures {
            anon_kb: mib(50.0),
            file_kb: mib(20.0 + i),
            ..Figures::default()
        };
        let (found, main) = components(&figures(100, cache));
        let evidence = Evidence {
            main_component: main,
            ..Evidence::default()
        };
        let lines = lines(&evidence, &found, "no-leak");
        assert!(lines[0].en.contains("do not count"), "{lines:?}");
        assert_eq!(components(&[]).1, None);
    }

    #[test]
    fn shared_memory_counts_where_more_of_it_is_mapped() {
        let of = |i: f64| Figures {
            shmem_kb: mib(20.0 + i),
            vms_kb: mib(900.0 + i),
            ..Figures::default()
        };
        let shared = shared_memory(&figures(100, of), 0.0).expect("it grows");
        assert!(!shared.fills);
        assert_eq!((shared.first_kb / 1024, shared.last_kb / 1024), (20, 119));
        assert_eq!(leak::assess(&shared.series, None).class, leak::Class::Leak);
        // A pool of buffers that is there from the beginning, and filled.
        let filled = |i: f64| Figures {
            vms_kb: mib(900.0),
            ..of(i)
        };
        assert!(shared_memory(&figures(100, filled), 0.0).is_some_and(|shared| shared.fills));
        let little = |i: f64| of(i / 50.0);
        assert!(shared_memory(&figures(100, little), 0.0).is_none());
    }

    #[test]
    fn threads_swap_and_cpu_time_tell_why() {
        let of = |i: f64| Figures {
            rss_kb: mib(150.0 - i),
            anon_kb: mib(140.0 - i),
            swap_kb: mib(2.0 * i),
            threads: Some(4 + kb(i * 1024.0)),
            cpu_ticks: Some(kb(i * 1024.0 * 5.0)),
            ..Figures::default()
        };
        let all = figures(100, of);
        assert!(falls_into_swap(&all));
        let threads = count(&all, |one| one.threads).expect("threads");
        assert_eq!((threads.first, threads.last), (9, 99));
        let each = threads.kb_each.expect("they grew");
        assert!((each - 1024.0).abs() < 20.0, "{each}");
        assert!(threads.r2.is_some_and(|r2| r2 > 0.99), "{threads:?}");
        // One more every ten seconds.
        assert!(
            threads
                .per_hour
                .is_some_and(|rate| (rate / 327.0 - 1.0).abs() < 0.02)
        );
        let evidence = Evidence {
            threads: Some(threads),
            ..Evidence::default()
        };
        let said = lines(&evidence, &Components::default(), "leak");
        assert!(
            said[0].en.contains("1 MiB more memory for each"),
            "{said:?}"
        );
        // The same CPU time all the time.
        assert_eq!(cpu(&all, true), None);
        let busy = |i: f64| {
            let sine = (i / 8.0).sin();
            Figures {
                anon_kb: mib(100.0 + 40.0 * sine),
                cpu_ticks: Some(kb(
                    (i * 500.0 - (i / 8.0).cos() * 8.0 * 400.0 + 1e5) * 1024.0
                )),
                ..Figures::default()
            }
        };
        let found = cpu(&figures(300, busy), true).expect("CPU time moves");
        assert!(found.correlation > 0.95, "{found:?}");
        assert!(!falls_into_swap(&figures(100, busy)));
    }

    #[test]
    fn what_is_open_is_told_where_memory_goes_with_it() {
        // A connection every ten seconds that keeps 40 KiB, beside five files.
        let of = |i: f64| Figures {
            anon_kb: mib(50.0 + i * 40.0 / 1024.0),
            heap_kb: mib(20.0 + i * 36.0 / 1024.0),
            fds: Some(8 + kb(i * 1024.0)),
            sockets: Some(3 + kb(i * 1024.0)),
            ..Figures::default()
        };
        let all = figures(200, of);
        let (found, main) = components(&all);
        assert_eq!(main, Some("heap"), "{found:?}");
        let mut evidence = Evidence {
            main_component: main,
            fds: count(&all, |one| one.fds),
            sockets: count(&all, |one| one.sockets),
            ..Evidence::default()
        };
        let said = |evidence: &Evidence| -> Vec<String> {
            let lines = lines(evidence, &found, "leak");
            lines.into_iter().map(|line| line.en + &line.zh).collect()
        };
        let told = said(&evidence);
        assert!(told[0].contains("the heap (brk)"), "{told:?}");
        assert!(told[1].contains("each keeps 40 KiB (R² 1.00)"), "{told:?}");
        assert!(told[1].contains("每个连接占用约 40 KiB"), "{told:?}");
        assert_eq!(told.len(), 2, "{told:?}");
        // Files that are no sockets.
        evidence.sockets = None;
        let told = said(&evidence);
        assert!(told[1].contains("a descriptor leak?"), "{told:?}");
        // They do not go with memory.
        let restless = |i: f64| Figures {
            fds: Some(8 + kb((i * 7.0 % 50.0) * 1024.0) + kb(i * 100.0)),
            ..of(i)
        };
        evidence.fds = count(&figures(200, restless), |one| one.fds);
        let told = said(&evidence);
        assert_eq!(told.len(), 1, "{told:?}");
        evidence.open_now = Some(OpenNow {
            fds: Some(12),
            sockets: Some(4),
            heap_kb: None,
        });
        let told = said(&evidence);
        assert!(
            told[1].contains("12 files open, 4 of them sockets"),
            "{told:?}"
        );
    }
}
