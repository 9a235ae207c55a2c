//! How well the host's memory does, from the first and the last figures of an observation.
//!
//! [`score`] owns the formula, [`curve`] what a figure is worth, [`causes`] who is behind it, [`findings`] what to do about it.

mod causes;
mod curve;
mod findings;
pub mod score;
#[cfg(test)]
mod tests;

use crate::model::Detail;
use crate::model::SystemMetrics;
use crate::msg;
use crate::report::Finding;
use crate::report::Msg;
use crate::report::health::HealthData;
use crate::time;

use super::memory;
use super::pressure::stalled;
use super::readings::Readings;

use score::Figures;

/// KiB in a MiB.
const MIB: f64 = 1024.0;
/// Free blocks of this order and above can be huge pages.
const HUGE_ORDER: usize = 9;

/// What an observation knows of /proc/pressure/memory beyond its figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PsiFile {
    /// Nothing: a recording.
    #[default]
    Unknown,
    /// The kernel has none, or PSI is off.
    Absent,
    /// It is there: without figures, it could not be read or was not understood.
    There,
}

/// Scores the newest moment of an observation.
#[must_use]
pub fn assess(readings: &Readings, psi: PsiFile) -> (HealthData, Vec<Finding>) {
    let mut figures = figures(readings);
    figures.psi_expected |= psi == PsiFile::There;
    let scored = score::score(&figures);
    let lowers = scored
        .factors
        .iter()
        .filter(|factor| factor.lost_points >= 0.1);
    let top_factors = lowers.map(|factor| factor.id).collect();
    let processes = causes::processes(readings);
    let uses = memory::cgroups(readings);
    let system = newest(readings);
    let wholes = causes::Wholes {
        mem_total_kb: system.and_then(|system| system.mem_total_kb),
        swap_used_kb: system.and_then(memory::swap_used),
    };
    let missing = missing(readings, psi);
    let mut factors = scored.factors;
    if missing.contains(&PRESSURE) {
        for factor in factors.iter_mut().filter(|factor| factor.id == "psi") {
            factor.missing = factor.missing.as_ref().map(|_| {
                msg!(
                    "/proc/pressure/memory is there, but could not be read or was not understood",
                    "/proc/pressure/memory 存在，但无法读取或无法解析"
                )
            });
        }
    }
    let data = HealthData {
        score: scored.score,
        level: scored.score.map_or("unknown", score::level),
        uncapped_score: scored.uncapped,
        at: readings
            .moment()
            .and_then(|(real_ns, offset_s)| time::rfc3339(real_ns, offset_s)),
        interval_s: readings.span().map(|(_, _, seconds)| seconds),
        top_factors,
        causes: causes::causes(&factors, &processes, &uses, wholes),
        factors,
        caps: scored.caps,
        processes,
        cgroups: causes::cgroups(readings),
        notes: notes(readings, &figures),
        view: crate::report::health::HealthView::default(),
    };
    let findings = findings::findings(&data, readings, &uses, &missing);
    (data, findings)
}

/// The pressure file.
const PRESSURE: &str = "/proc/pressure/memory";

/// Files that every kernel has, or this one has, and that told nothing: the report is not complete.
#[must_use]
pub fn missing(readings: &Readings, psi: PsiFile) -> Vec<&'static str> {
    let none = SystemMetrics::default();
    let system = newest(readings).unwrap_or(&none);
    let told = |file: &str| {
        let mut of = SystemMetrics::METRICS
            .iter()
            .filter(|metric| metric.source.starts_with(file));
        of.any(|metric| (metric.get)(system).is_some())
    };
    let mut files = Vec::new();
    if !told("meminfo:") {
        files.push("/proc/meminfo");
    }
    if !told("vmstat:") {
        files.push("/proc/vmstat");
    }
    // Who has pressure of other things has this one too.
    let psi = psi == PsiFile::There || told("psi_io:") || told("psi_cpu:");
    if psi && !told("psi:") {
        files.push(PRESSURE);
    }
    files
}

/// What the score depends on.
#[must_use]
pub fn figures(readings: &Readings) -> Figures {
    let Some(system) = newest(readings) else {
        return Figures::default();
    };
    let page_mib = readings.page_kb() as f64 / MIB;
    let hundredths = |value: Option<u64>| value.map(|value| value as f64 / 100.0);
    let mib_s = |get| readings.rate(get).map(|pages| pages * page_mib);
    let (available, estimated) = available(system, readings.detail(), readings.page_kb());
    let swap_total = system.swap_total_kb;
    let swap_used = memory::swap_used(system);
    Figures {
        available_pct: available.and_then(|kb| percent(kb, system.mem_total_kb?)),
        available_estimated: estimated,
        psi_some_now: stalled(readings, |system| system.psi_some_total_us),
        psi_some_avg10: hundredths(system.psi_some_avg10),
        psi_some_avg60: hundredths(system.psi_some_avg60),
        psi_full_now: stalled(readings, |system| system.psi_full_total_us),
        psi_full_avg10: hundredths(system.psi_full_avg10),
        psi_full_avg60: hundredths(system.psi_full_avg60),
        psi_expected: system.psi_some_total_us.is_some()
            || missing(readings, PsiFile::Unknown).contains(&PRESSURE),
        swap_present: swap_total.map(|total| total > 0),
        swap_used_pct: swap_used.and_then(|used| percent(used, swap_total?)),
        swap_in_mib_s: mib_s(|system| system.pswpin),
        swap_out_mib_s: mib_s(|system| system.pswpout),
        refault_anon_mib_s: mib_s(|system| system.workingset_refault_anon),
        // Before 5.9 there was one counter, of file pages.
        refault_file_mib_s: mib_s(|system| {
            let file = system.workingset_refault_file;
            let split = system.workingset_refault_anon.is_some();
            file.or(system.workingset_refault.filter(|_| !split))
        }),
        majfault_per_s: readings.rate(|system| system.pgmajfault),
        scanned_in_vain_per_s: in_vain(readings),
        allocstall_per_s: readings.rate(|system| system.allocstall),
        unusable_free_pct: readings.detail().and_then(unusable),
        compact_stall_per_s: readings.rate(|system| system.compact_stall),
    }
}

fn newest(readings: &Readings) -> Option<&SystemMetrics> {
    readings.newest()?.system.as_ref()
}

fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}

/// Pages that reclaim looked at and did not free, per second.
fn in_vain(readings: &Readings) -> Option<f64> {
    let scan = [
        readings.rate(|system| system.pgscan_kswapd),
        readings.rate(|system| system.pgscan_direct),
    ];
    let steal = [
        readings.rate(|system| system.pgsteal_kswapd),
        readings.rate(|system| system.pgsteal_direct),
    ];
    let sum = |rates: [Option<f64>; 2]| rates.into_iter().flatten().reduce(|a, b| a + b);
    Some((sum(scan)? - sum(steal)?).max(0.0))
}

/// MemAvailable in KiB, and whether it is an estimate: the kernel's own formula of 3.14
/// (`si_mem_available`) from what older ones tell.
fn available(system: &SystemMetrics, detail: Option<&Detail>, page_kb: u64) -> (Option<u64>, bool) {
    if system.mem_available_kb.is_some() {
        return (system.mem_available_kb, false);
    }
    let Some(free) = system.mem_free_kb else {
        return (None, false);
    };
    let zones = detail.and_then(|detail| detail.zones.as_deref());
    let low: u64 = zones
        .unwrap_or_default()
        .iter()
        .filter_map(|zone| zone.low)
        .fold(0, u64::saturating_add)
        .saturating_mul(page_kb);
    let lists = system.active_file_kb.zip(system.inactive_file_kb);
    let cache = lists.map_or_else(
        || {
            let cache = system
                .buffers_kb
                .unwrap_or(0)
                .saturating_add(system.cached_kb.unwrap_or(0));
            cache.saturating_sub(system.shmem_kb.unwrap_or(0))
        },
        |(active, inactive)| active.saturating_add(inactive),
    );
    // Half of it, or the low watermark, stays: a system cannot live without any cache.
    let usable = |kb: u64| kb - (kb / 2).min(low);
    let sum = free
        .saturating_sub(low)
        .saturating_add(usable(cache))
        .saturating_add(usable(system.sreclaimable_kb.unwrap_or(0)));
    (Some(sum), true)
}

/// Free memory that lies in blocks smaller than a huge page, percent (the unusable-free index).
fn unusable(detail: &Detail) -> Option<f64> {
    let all = super::cache::all_free_blocks(detail.zones.as_ref()?);
    Some(super::cache::unusable_index(&all, HUGE_ORDER)? * 100.0)
}

fn notes(readings: &Readings, figures: &Figures) -> Vec<Msg> {
    let session = readings.session.as_ref();
    let said = session.into_iter().flat_map(|session| &session.notes);
    let mut notes: Vec<Msg> = said.map(|note| crate::report::note(note)).collect();
    if figures.available_estimated {
        notes.push(msg!(
            "this kernel has no MemAvailable (Linux 3.14): it is estimated from free pages, file pages, reclaimable slab and watermarks",
            "该内核没有 MemAvailable（Linux 3.14 起）：由空闲页、文件页、可回收 slab 与水位线估算"
        ));
    }
    if readings.span().is_none() {
        notes.push(msg!(
            "one reading only: rates are unknown, and the score rests on the rest",
            "只有一次读数：速率未知，评分仅依据其余数值"
        ));
    }
    notes
}
