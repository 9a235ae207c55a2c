//! What several reports say about memory, said once: memory in use, cgroups at their limits, filters that
//! match nobody.

use std::collections::HashSet;

use std::collections::HashMap;

use crate::model::CgroupMetrics;
use crate::model::SystemMetrics;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::Severity;
use crate::report::size_kb;

use super::grouping;
use super::readings::Readings;

/// `used_formula`: MemTotal − MemAvailable, as `free` of procps 4 has it.
pub const TOTAL_AVAILABLE: &str = "total-available";
/// `used_formula`: MemTotal − MemFree − Buffers − Cached − SReclaimable, as `free` of procps 3 has it; for
/// kernels before 3.14, which have no MemAvailable.
pub const TOTAL_FREE_BUFFERS_CACHE: &str = "total-free-buffers-cache";

/// A cgroup whose working set is this much of its limit is near it, percent.
pub const NEAR_PCT: f64 = 90.0;
/// From here on pressure or limit hits are worth a warning, percent.
pub const VERY_NEAR_PCT: f64 = 95.0;
/// Pressure of a cgroup that counts, percent of 10 s in which some task waited.
pub const PRESSURE_PCT: f64 = 1.0;
/// So many hits of the limit per second keep its tasks busy with reclaim.
pub const MANY_HITS_PER_S: f64 = 1000.0;
/// Of an ancestor's hits, what cgroups below it must explain to leave it out.
const EXPLAINED: f64 = 0.9;
/// Of an ancestor's figure, what one cgroup below it must have to stand for it.
const MOSTLY: f64 = 0.5;

/// Memory in use, KiB, and the formula it was made with ([`TOTAL_AVAILABLE`] or
/// [`TOTAL_FREE_BUFFERS_CACHE`]); both `None` when neither can be made.
#[must_use]
pub fn used(system: &SystemMetrics) -> (Option<u64>, Option<&'static str>) {
    let by_available = || system.mem_total_kb?.checked_sub(system.mem_available_kb?);
    if let Some(used) = by_available() {
        return (Some(used), Some(TOTAL_AVAILABLE));
    }
    let by_free = || {
        let beyond_free = system.mem_total_kb?.saturating_sub(system.mem_free_kb?);
        Some(beyond_free.saturating_sub(buff_cache(system)?))
    };
    let used = by_free();
    (used, used.map(|_| TOTAL_FREE_BUFFERS_CACHE))
}

/// Buffers, page cache and reclaimable slab, KiB: `buff/cache` of `free`.
#[must_use]
pub fn buff_cache(system: &SystemMetrics) -> Option<u64> {
    let others = [system.buffers_kb, system.sreclaimable_kb];
    let others = others.into_iter().flatten();
    Some(others.fold(system.cached_kb?, u64::saturating_add))
}

/// Swap in use, KiB: SwapTotal − SwapFree.
#[must_use]
pub fn swap_used(system: &SystemMetrics) -> Option<u64> {
    Some(system.swap_total_kb?.saturating_sub(system.swap_free_kb?))
}

/// A memory cgroup and how it stands to its limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupUse {
    /// Path as the kernel prints it.
    pub path: String,
    /// Memory in use.
    pub usage_kb: Option<u64>,
    /// Use without inactive file pages, which reclaim takes first.
    pub working_set_kb: Option<u64>,
    /// Its own limit: the hard one, else the throttling one (v2 `memory.high`).
    pub limit_kb: Option<u64>,
    /// Hits of the hard limit per second over the observation. In cgroup v2 they count those below too.
    pub hits_per_s: Option<f64>,
    /// File and anonymous pages that came back after reclaim, per second.
    pub refaults_per_s: Option<f64>,
    /// Major faults per second.
    pub majflt_per_s: Option<f64>,
    /// Some task of it waited for memory: 10 s average, percent (v2).
    pub psi_some_avg10_pct: Option<f64>,
    /// All of its tasks waited: 10 s average, percent (v2).
    pub psi_full_avg10_pct: Option<f64>,
}

impl CgroupUse {
    /// Working set of the limit, percent.
    #[must_use]
    pub fn pct(&self) -> Option<f64> {
        let limit = self.limit_kb.filter(|limit| *limit > 0)?;
        Some(self.working_set_kb? as f64 * 100.0 / limit as f64)
    }

    fn hits(&self) -> bool {
        self.hits_per_s > Some(0.0)
    }

    /// Whether its figures say that nobody waits there; one reading of an old kernel cannot.
    fn quiet(&self) -> bool {
        let known = self.hits_per_s.is_some() || self.psi_some_avg10_pct.is_some();
        known && !self.hits() && !self.waits()
    }

    fn waits(&self) -> bool {
        self.psi_some_avg10_pct >= Some(PRESSURE_PCT)
    }
}

/// Every memory cgroup of the newest sample; rates are over the whole observation.
#[must_use]
pub fn cgroups(readings: &Readings) -> Vec<CgroupUse> {
    let Some(sample) = readings.newest() else {
        return Vec::new();
    };
    let span = readings.span();
    // One that was made again under the same path begins to count anew.
    let before: HashMap<(&[u8], u64), &CgroupMetrics> = span
        .iter()
        .flat_map(|(first, _, _)| &first.cgroups)
        .map(|cgroup| ((cgroup.path.as_bytes(), cgroup.id), &cgroup.metrics))
        .collect();
    let row = |cgroup: &crate::model::CgroupSample| {
        let new = &cgroup.metrics;
        let old = before.get(&(cgroup.path.as_bytes(), cgroup.id)).copied();
        let rate = |get: fn(&CgroupMetrics) -> Option<u64>| {
            let (_, _, seconds) = span?;
            Some(get(new)?.checked_sub(get(old?)?)? as f64 / seconds)
        };
        let percent = |hundredths: Option<u64>| hundredths.map(|value| value as f64 / 100.0);
        let usage = new.usage_kb;
        CgroupUse {
            path: cgroup.path.lossy().into_owned(),
            usage_kb: usage,
            working_set_kb: usage
                .map(|usage| usage.saturating_sub(new.inactive_file_kb.unwrap_or(0))),
            limit_kb: new.limit_kb.or(new.high_kb),
            hits_per_s: rate(|metrics| metrics.failcnt),
            refaults_per_s: rate(|metrics| {
                let both = [
                    metrics.workingset_refault_file,
                    metrics.workingset_refault_anon,
                ];
                both.into_iter().flatten().reduce(u64::saturating_add)
            }),
            majflt_per_s: rate(|metrics| metrics.pgmajfault),
            psi_some_avg10_pct: percent(new.psi_some_avg10),
            psi_full_avg10_pct: percent(new.psi_full_avg10),
        }
    };
    sample.cgroups.iter().map(row).collect()
}

/// Whether `path` lies below `above`.
fn below(path: &str, above: &str) -> bool {
    let above = above.trim_end_matches('/');
    path.len() > above.len()
        && path.starts_with(above)
        && path.as_bytes().get(above.len()) == Some(&b'/')
        && path != "/"
}

/// Cgroups near a limit of their own, nearest first; of a line of ancestors, the deepest one.
#[must_use]
pub fn near(cgroups: &[CgroupUse]) -> Vec<&CgroupUse> {
    let near: Vec<&CgroupUse> = cgroups
        .iter()
        .filter(|one| one.pct() >= Some(NEAR_PCT))
        .collect();
    let mut deepest: Vec<&CgroupUse> = near
        .iter()
        .filter(|one| !near.iter().any(|other| below(&other.path, &one.path)))
        .copied()
        .collect();
    deepest.sort_by(|a, b| {
        let pct = |one: &CgroupUse| one.pct().unwrap_or(0.0);
        pct(b).total_cmp(&pct(a)).then_with(|| a.path.cmp(&b.path))
    });
    deepest
}

/// Cgroups with at least `least` of a figure that counts for those above them too, most first: one whose
/// figure lies in cgroups below it is left out, and the root, which is the host.
#[must_use]
pub fn deepest<'a>(
    cgroups: &'a [CgroupUse],
    value: &dyn Fn(&CgroupUse) -> f64,
    least: f64,
) -> Vec<&'a CgroupUse> {
    let rows: Vec<&CgroupUse> = cgroups
        .iter()
        .filter(|one| one.path != "/" && value(one) >= least)
        .collect();
    let inside = |one: &CgroupUse| {
        rows.iter()
            .any(|other| below(&other.path, &one.path) && value(other) >= value(one) * MOSTLY)
    };
    let mut found: Vec<&CgroupUse> = rows.iter().filter(|one| !inside(one)).copied().collect();
    found.sort_by(|a, b| {
        value(b)
            .total_cmp(&value(a))
            .then_with(|| a.path.cmp(&b.path))
    });
    found
}

/// Cgroups that meet a limit of their own, most often first. Events of cgroup v2 count for every ancestor
/// too: one whose hits lie below it is left out.
#[must_use]
pub fn hitting(cgroups: &[CgroupUse]) -> Vec<&CgroupUse> {
    let limited: Vec<&CgroupUse> = cgroups
        .iter()
        .filter(|one| one.limit_kb.is_some() && one.hits())
        .collect();
    let mut found: Vec<&CgroupUse> = limited
        .iter()
        .filter(|one| {
            let hits = one.hits_per_s.unwrap_or(0.0);
            let under: Vec<&&CgroupUse> = limited
                .iter()
                .filter(|other| below(&other.path, &one.path))
                .collect();
            // Only the topmost of those below count, for they have their own descendants' hits in them.
            let topmost = under
                .iter()
                .filter(|other| !under.iter().any(|above| below(&other.path, &above.path)));
            let explained: f64 = topmost.filter_map(|other| other.hits_per_s).sum();
            explained < hits * EXPLAINED
        })
        .copied()
        .collect();
    found.sort_by(|a, b| {
        let hits = |one: &CgroupUse| one.hits_per_s.unwrap_or(0.0);
        hits(b)
            .total_cmp(&hits(a))
            .then_with(|| a.path.cmp(&b.path))
    });
    found
}

/// Cgroups near their own limit: a warning from [`VERY_NEAR_PCT`] on, unless it is known that no task waits and
/// the limit is not met: a working set may be warm and quiet there.
#[must_use]
pub fn near_limit(cgroups: &[CgroupUse]) -> Option<Finding> {
    let near = near(cgroups);
    let first = near.first()?;
    let pressed = |one: &&CgroupUse| one.pct() >= Some(VERY_NEAR_PCT) && !one.quiet();
    let worst = near.iter().find(|one| pressed(one));
    let path = &worst.unwrap_or(first).path;
    let severity = match worst {
        Some(_) => Severity::Warning,
        None => Severity::Info,
    };
    let count = near.len();
    Some(Finding {
        id: "cgroup-near-limit",
        severity,
        title: if count == 1 {
            msg!(
                "memory cgroup {path} is near its limit",
                "内存 cgroup {path} 接近限额"
            )
        } else {
            msg!(
                "{count} memory cgroups are near their limits",
                "{count} 个内存 cgroup 接近限额"
            )
        },
        evidence: near.iter().map(|one| near_line(one)).collect(),
        advice: vec![
            msg!(
                "see what is in it: `aiops inspect processes --cgroup {path}`",
                "查看其中的进程：`aiops inspect processes --cgroup {path}`"
            ),
            msg!(
                "raise the limit when this is its normal need; else see whether it grows: `aiops collect memory --cgroup {path} --duration 10m`",
                "若属正常需求则调高限额；否则观察是否增长：`aiops collect memory --cgroup {path} --duration 10m`"
            ),
        ],
    })
}

/// As [`near_limit`], of the cgroups that the filter wants.
#[must_use]
pub fn near_wanted_limit(readings: &Readings) -> Option<Finding> {
    let wanted: HashSet<String> = grouping::wanted_cgroups(readings)
        .into_iter()
        .map(|cgroup| cgroup.path.lossy().into_owned())
        .collect();
    let mut uses = cgroups(readings);
    uses.retain(|one| wanted.contains(&one.path));
    near_limit(&uses)
}

fn near_line(one: &CgroupUse) -> Msg {
    let path = &one.path;
    let used = size_kb(one.working_set_kb.unwrap_or(0));
    let limit = size_kb(one.limit_kb.unwrap_or(0));
    let pct = one.pct().unwrap_or(0.0);
    let mut line = msg!(
        "{path}: {used} of {limit} ({pct:.1}%), inactive file pages not counted",
        "{path}：已用 {used}，限额 {limit}（{pct:.1}%，不含不活跃文件页）"
    );
    if let Some(hits) = one.hits_per_s.filter(|hits| *hits > 0.0) {
        line.en.push_str(&format!("; meets it {hits:.1} times/s"));
        line.zh.push_str(&format!("；每秒触限 {hits:.1} 次"));
    }
    if let Some(psi) = one.psi_some_avg10_pct.filter(|_| one.waits()) {
        line.en.push_str(&format!("; tasks wait {psi:.1}%"));
        line.zh.push_str(&format!("；任务等待 {psi:.1}%"));
    }
    line
}

/// Cgroups that meet their limit so often ([`MANY_HITS_PER_S`]) that their tasks reclaim all the time.
#[must_use]
pub fn limit_thrash(cgroups: &[CgroupUse]) -> Option<Finding> {
    let many: Vec<&CgroupUse> = hitting(cgroups)
        .into_iter()
        .filter(|one| one.hits_per_s >= Some(MANY_HITS_PER_S))
        .collect();
    let first = many.first()?;
    let (path, hits) = (&first.path, first.hits_per_s.unwrap_or(0.0));
    let evidence = many.iter().map(|one| {
        let (path, hits) = (&one.path, one.hits_per_s.unwrap_or(0.0));
        let limit = size_kb(one.limit_kb.unwrap_or(0));
        let mut line = msg!(
            "{path}: {hits:.0} times/s at its limit of {limit}",
            "{path}：每秒 {hits:.0} 次触及限额 {limit}"
        );
        if let Some(back) = one.refaults_per_s.filter(|back| *back >= 1.0) {
            line.en
                .push_str(&format!("; {back:.0} reclaimed pages/s come back"));
            line.zh
                .push_str(&format!("；每秒 {back:.0} 个刚回收的页被读回"));
        }
        if let Some(faults) = one.majflt_per_s.filter(|faults| *faults >= 1.0) {
            line.en.push_str(&format!("; {faults:.0} major faults/s"));
            line.zh.push_str(&format!("；每秒 {faults:.0} 次主缺页"));
        }
        line
    });
    Some(Finding {
        id: "cgroup-limit-thrash",
        severity: Severity::Warning,
        title: msg!(
            "cgroup {path} meets its memory limit {hits:.0} times per second: its tasks reclaim instead of working",
            "cgroup {path} 每秒 {hits:.0} 次触及内存限额：其任务忙于回收"
        ),
        evidence: evidence.collect(),
        advice: vec![
            msg!(
                "see who is in it: `aiops inspect processes --cgroup {path}`",
                "查看其中的进程：`aiops inspect processes --cgroup {path}`"
            ),
            msg!(
                "raise its limit, or let it read less through the page cache; a stream that is read once needs neither",
                "调高其限额，或减少经页缓存的读取；若只是一次性顺序读写，则无需处理"
            ),
        ],
    })
}

/// A filter was given and no process matched it at either end of the observation.
#[must_use]
pub fn no_process_matches(readings: &Readings) -> Option<Finding> {
    let session = readings.session.as_ref()?;
    let ends = [readings.first.as_ref(), readings.last.as_ref()];
    let mut ends = ends.into_iter().flatten().peekable();
    ends.peek()?;
    if session.filter.is_empty() || ends.any(|sample| !sample.processes.is_empty()) {
        return None;
    }
    let filter = &session.filter;
    let join = |list: &[String]| list.join(",");
    let pids: Vec<String> = filter.pids.iter().map(u32::to_string).collect();
    let parts = [
        ("--pid", join(&pids)),
        ("--comm", join(&filter.comms)),
        ("--cgroup", join(&filter.cgroups)),
        ("--container", join(&filter.containers)),
        ("--user", join(&filter.users)),
    ];
    let given = parts
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(option, value)| msg!("{option} {value}", "{option} {value}"));
    let mut evidence: Vec<Msg> = given.collect();
    let hidden = u64::from(readings.skipped.denied) + u64::from(readings.skipped.failed);
    if hidden > 0 {
        evidence.push(msg!(
            "processes that could not be read, and may match: {hidden}",
            "无法读取、可能匹配的进程：{hidden}"
        ));
    }
    Some(Finding {
        id: "no-process-matches",
        severity: Severity::Info,
        title: msg!("no process matches the filter", "没有进程匹配过滤条件"),
        evidence,
        advice: vec![msg!(
            "see names, cgroups and users as the kernel has them: `aiops inspect processes`; kernel threads are left out",
            "查看内核记录的名称、cgroup 与用户：`aiops inspect processes`；内核线程不在其中"
        )],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Filter;
    use crate::model::Item;
    use crate::model::ProcessSample;
    use crate::model::Sample;
    use crate::model::Session;

    fn cgroup(path: &str, used: u64, limit: Option<u64>, hits: Option<f64>) -> CgroupUse {
        CgroupUse {
            path: path.to_owned(),
            working_set_kb: Some(used),
            limit_kb: limit,
            hits_per_s: hits,
            ..CgroupUse::default()
        }
    }

    #[test]
    fn used_memory_has_one_meaning_and_says_which() {
        let mut system = SystemMetrics {
            mem_total_kb: Some(1000),
            mem_free_kb: Some(100),
            mem_available_kb: Some(600),
            buffers_kb: Some(10),
            cached_kb: Some(300),
            sreclaimable_kb: Some(90),
            swap_total_kb: Some(50),
            swap_free_kb: Some(20),
            ..SystemMetrics::default()
        };
        assert_eq!(used(&system), (Some(400), Some("total-available")));
        assert_eq!(buff_cache(&system), Some(400));
        assert_eq!(swap_used(&system), Some(30));
        system.mem_available_kb = None;
        assert_eq!(used(&system), (Some(500), Some("total-free-buffers-cache")));
        system.cached_kb = None;
        assert_eq!(used(&system), (None, None));
    }

    #[test]
    fn the_deepest_cgroup_that_meets_its_own_limit_is_named() {
        let rows = [
            cgroup("/", 0, None, Some(5000.0)),
            cgroup("/pods", 50, Some(400), Some(5000.0)),
            cgroup("/pods/a", 50, Some(50), Some(4990.0)),
            cgroup("/pods/a/inner", 50, None, Some(0.0)),
            cgroup("/pods-b", 1, Some(400), Some(3.0)),
        ];
        let paths: Vec<&str> = hitting(&rows).iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["/pods/a", "/pods-b"]);
        let finding = limit_thrash(&rows).unwrap();
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(finding.evidence.len(), 1);
        assert!(
            finding.title.en.contains("/pods/a "),
            "{}",
            finding.title.en
        );
        // Hits of its own, beside those below it.
        let rows = [
            cgroup("/pods", 50, Some(400), Some(5000.0)),
            cgroup("/pods/a", 50, Some(50), Some(2000.0)),
        ];
        assert_eq!(hitting(&rows).len(), 2);
        assert!(limit_thrash(&[cgroup("/a", 1, Some(2), Some(10.0))]).is_none());
    }

    #[test]
    fn near_a_limit_is_a_warning_unless_nobody_waits() {
        let quiet = [
            cgroup("/a", 96, Some(100), Some(0.0)),
            cgroup("/a/b", 97, Some(100), Some(0.0)),
            cgroup("/c", 80, Some(100), Some(9.0)),
        ];
        let finding = near_limit(&quiet).unwrap();
        assert_eq!(finding.severity, Severity::Info);
        assert_eq!(finding.evidence.len(), 1, "the deepest only");
        assert!(
            finding.evidence[0]
                .en
                .starts_with("/a/b: 97 KiB of 100 KiB")
        );
        let mut pressed = quiet.to_vec();
        pressed[1].hits_per_s = Some(3.0);
        assert_eq!(near_limit(&pressed).unwrap().severity, Severity::Warning);
        pressed[1].hits_per_s = None;
        let unknown = near_limit(&pressed).unwrap();
        assert_eq!(unknown.severity, Severity::Warning);
        pressed[1].psi_some_avg10_pct = Some(2.0);
        assert_eq!(near_limit(&pressed).unwrap().severity, Severity::Warning);
        pressed[1].working_set_kb = Some(92);
        pressed[0].working_set_kb = Some(1);
        assert_eq!(near_limit(&pressed).unwrap().severity, Severity::Info);
        assert!(near_limit(&[]).is_none());
    }

    #[test]
    fn a_filter_that_matches_nobody_is_said() {
        let session = |comms: Vec<String>| {
            Item::Session(Session {
                filter: Filter {
                    comms,
                    ..Filter::default()
                },
                ..Session::default()
            })
        };
        let mut readings = Readings::default();
        readings.push(session(vec!["nosuch".to_owned()]));
        assert!(no_process_matches(&readings).is_none(), "nothing was read");
        readings.push(Item::Sample(Sample::default()));
        let finding = no_process_matches(&readings).unwrap();
        assert_eq!(finding.evidence[0].en, "--comm nosuch");
        readings.push(Item::Sample(Sample {
            processes: vec![ProcessSample::default()],
            ..Sample::default()
        }));
        assert!(no_process_matches(&readings).is_none());
        let mut readings = Readings::default();
        readings.push(session(Vec::new()));
        readings.push(Item::Sample(Sample::default()));
        assert!(no_process_matches(&readings).is_none(), "no filter");
    }
}
