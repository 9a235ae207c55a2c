//! CPU, disks and network of the host: /proc/stat, diskstats and net/dev, through the `procfs` crate.

use std::path::Path;

use ::procfs::FromRead as _;
use ::procfs::FromReadSI as _;

use crate::model::SystemMetrics;
use crate::source::files;

/// A sector in /proc/diskstats has 512 bytes, whatever the disk's own has
/// (Documentation/admin-guide/iostats.rst).
const SECTORS_PER_KB: u64 = 2;

/// Fills the figures of CPU, disks and network; what cannot be read stays unknown.
pub(super) fn read(proc: &Path, root: &Path, set: &mut SystemMetrics) {
    let system = ::procfs::LocalSystemInfo;
    // A file that is not there tells nothing; an empty one would tell zeros.
    let text = |name: &str| files::read(&proc.join(name)).ok();
    let stat = text("stat");
    if let Some(Ok(stat)) = stat.map(|text| ::procfs::KernelStats::from_read(&*text, &system)) {
        let cpu = &stat.total;
        set.cpu_user_ticks = Some(cpu.user.saturating_add(cpu.nice));
        let interrupts = [cpu.irq, cpu.softirq].into_iter().flatten();
        set.cpu_system_ticks = Some(interrupts.fold(cpu.system, u64::saturating_add));
        set.cpu_idle_ticks = Some(cpu.idle);
        set.cpu_iowait_ticks = cpu.iowait;
        set.cpu_steal_ticks = cpu.steal;
        set.forks = Some(stat.processes);
        set.procs_running = stat.procs_running.map(u64::from);
        set.procs_blocked = stat.procs_blocked.map(u64::from);
    }
    let disks = text("diskstats");
    if let Some(Ok(disks)) = disks.map(|text| ::procfs::DiskStats::from_read(&*text)) {
        let whole: Vec<_> = disks
            .0
            .into_iter()
            .filter(|disk| is_whole(root, &disk.name))
            .collect();
        let sum = |get: fn(&::procfs::DiskStat) -> u64| {
            whole.iter().map(get).fold(0, u64::saturating_add)
        };
        set.disk_read_kb = Some(sum(|disk| disk.sectors_read) / SECTORS_PER_KB);
        set.disk_written_kb = Some(sum(|disk| disk.sectors_written) / SECTORS_PER_KB);
        set.disk_busy_ms = Some(sum(|disk| disk.time_in_progress));
    }
    let net = text("net/dev");
    if let Some(Ok(net)) = net.map(|text| ::procfs::net::InterfaceDeviceStatus::from_read(&*text)) {
        let outside = net.0.values().filter(|device| device.name != "lo");
        let (rx, tx) = outside.fold((0_u64, 0_u64), |(rx, tx), device| {
            (
                rx.saturating_add(device.recv_bytes),
                tx.saturating_add(device.sent_bytes),
            )
        });
        (set.net_rx_bytes, set.net_tx_bytes) = (Some(rx), Some(tx));
    }
}

/// Whether a name is a disk of its own: no partition of one, no memory disguised as one, and nothing
/// that is stacked on others, whose transfers would count twice.
fn is_whole(root: &Path, name: &str) -> bool {
    if [
        "loop", "ram", "zram", "dm-", "md", "sr", "fd", "drbd", "bcache", "zd",
    ]
    .iter()
    .any(|virtual_disk| name.starts_with(virtual_disk))
    {
        return false;
    }
    let folder = root.join("sys/block");
    if folder.is_dir() {
        return folder.join(name.replace('/', "!")).exists();
    }
    // A captured tree without /sys: sda1, vda2, nvme0n1p3, mmcblk0p1 are parts.
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match stem.strip_suffix('p') {
        Some(disk) if disk.ends_with(|c: char| c.is_ascii_digit()) => false,
        _ => stem == name || name.starts_with("nvme") || name.starts_with("mmcblk"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_not_counted_twice() {
        let nowhere = Path::new("/nonexistent");
        for disk in ["sda", "vdb", "nvme0n1", "mmcblk0", "xvda"] {
            assert!(is_whole(nowhere, disk), "{disk}");
        }
        for part in ["sda1", "nvme0n1p2", "mmcblk0p1", "loop0", "zram0", "dm-3"] {
            assert!(!is_whole(nowhere, part), "{part}");
        }
    }

    #[test]
    fn this_host() {
        let mut set = SystemMetrics::default();
        read(Path::new("/proc"), Path::new("/"), &mut set);
        assert!(set.cpu_user_ticks > Some(0) && set.cpu_idle_ticks > Some(0));
        assert!(set.disk_read_kb.is_some() && set.net_rx_bytes.is_some());
    }
}
