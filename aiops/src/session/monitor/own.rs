//! What the daemon costs, read from its own files in /proc.

use std::collections::VecDeque;
use std::fs;
use std::time::Duration;
use std::time::Instant;

use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::report::monitor::OwnCost;
use crate::time;

/// The window of `cpu_percent_10m`.
const RECENT: Duration = Duration::from_secs(600);

/// The account.
#[derive(Debug)]
pub(super) struct Own {
    began: Instant,
    /// CPU time at moments of the last ten minutes, oldest first.
    recent: VecDeque<(Instant, f64)>,
    /// As of the last [`Self::measure`]; counts are kept up by the loop.
    pub(super) cost: OwnCost,
}

impl Own {
    /// Begins now.
    pub(super) fn new() -> Self {
        let now = time::now_ns();
        Self {
            began: Instant::now(),
            recent: VecDeque::new(),
            cost: OwnCost {
                pid: std::process::id(),
                started_at: time::rfc3339(now, time::local_offset_s(now)),
                ..OwnCost::default()
            },
        }
    }

    /// Notes how long a sample took.
    pub(super) fn ticked(&mut self, took: Duration) {
        let ms = took.as_secs_f64() * 1e3;
        self.cost.ticks += 1;
        self.cost.tick_ms = Some(ms);
        self.cost.tick_ms_max = Some(self.cost.tick_ms_max.map_or(ms, |most| most.max(ms)));
    }

    /// Reads the figures.
    pub(super) fn measure(&mut self) {
        let now = Instant::now();
        let cpu = cpu_s();
        let uptime = now.duration_since(self.began).as_secs_f64();
        self.cost.uptime_s = uptime;
        self.cost.cpu_s = cpu;
        // The start is paid for once: over less than a second its share means nothing.
        self.cost.cpu_percent = (uptime >= 1.0).then(|| cpu * 100.0 / uptime);
        while let Some((at, _)) = self.recent.front()
            && self.recent.len() > 1
            && now.duration_since(*at) > RECENT
        {
            self.recent.pop_front();
        }
        self.cost.cpu_percent_10m = self.recent.front().and_then(|(at, before)| {
            let seconds = now.duration_since(*at).as_secs_f64();
            (seconds >= 1.0).then(|| (cpu - before).max(0.0) * 100.0 / seconds)
        });
        self.recent.push_back((now, cpu));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.cost.rss_kb = field(&status, "VmRSS:");
        self.cost.rss_peak_kb = field(&status, "VmHWM:");
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        self.cost.written_bytes = field(&io, "write_bytes:");
    }
}

fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// CPU time of this process, and of its children that ended (fields 16 and 17 of /proc/self/stat, ticks).
fn cpu_s() -> f64 {
    let own = clock_gettime(ClockId::ProcessCPUTime);
    let own = own.tv_sec as f64 + own.tv_nsec as f64 / 1e9;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    // The state is field 3.
    let children = fields.split(' ').skip(13).take(2);
    let ticks: u64 = children.filter_map(|one| one.parse::<u64>().ok()).sum();
    own + ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// When a process started, in ticks since boot; with its pid, who it is. `None`: it is gone.
pub(super) fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    // A zombie has ended.
    if matches!(fields.next(), Some("Z" | "X") | None) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let mut own = Own::new();
        own.ticked(Duration::from_millis(3));
        own.ticked(Duration::from_millis(1));
        own.measure();
        assert!(own.cost.rss_kb > Some(100) && own.cost.rss_peak_kb >= own.cost.rss_kb);
        assert!(own.cost.cpu_s > 0.0);
        assert_eq!((own.cost.ticks, own.cost.tick_ms_max), (2, Some(3.0)));
        assert_eq!(own.cost.cpu_percent, None, "no share of nothing");
    }

    #[test]
    fn a_process_is_its_start() {
        let own = start_ticks(std::process::id());
        assert!(own > Some(0));
        assert_eq!(own, start_ticks(std::process::id()));
        assert_eq!(start_ticks(0), None);
    }
}
