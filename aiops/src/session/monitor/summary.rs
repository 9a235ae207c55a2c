//! The line on a terminal: how long, how much memory is left, who is largest.

use crate::model::Sample;
use crate::render::units;

/// The moment of a sample in one line.
pub(super) fn line(uptime_s: f64, sample: &Sample, kills: u64) -> String {
    let mut parts = vec![units::span(uptime_s.round().max(1.0))];
    if let Some(system) = &sample.system {
        let sizes = [
            ("available", system.mem_available_kb),
            ("swap free", system.swap_free_kb),
        ];
        let known = sizes.into_iter();
        parts
            .extend(known.filter_map(|(name, kb)| Some(format!("{name} {}", units::size_kb(kb?)))));
        if let Some(psi) = system.psi_some_avg10 {
            parts.push(format!("PSI {:.2}%", psi as f64 / 100.0));
        }
    }
    let largest = sample.processes.iter().max_by_key(|one| one.metrics.rss_kb);
    if let Some(process) = largest
        && let Some(rss) = process.metrics.rss_kb
    {
        let (comm, pid) = (process.comm.lossy(), process.pid);
        parts.push(format!("{comm} ({pid}) {}", units::size_kb(rss)));
    }
    let processes = sample.processes.len();
    parts.push(format!("{processes} processes, {kills} OOM kills"));
    parts.join("  ")
}
