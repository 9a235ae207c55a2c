//! What may go wrong around a tracer: another tracer, its own death, a full disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::mount::{MountFlags, UnmountFlags};

use super::load::{captures, group, kill_one};
use super::tracer::{self, Tracer};
use super::{Bench, Table};

/// A recording is at most 250 ms behind; a busy machine is given more.
const BEHIND: Duration = Duration::from_secs(1);

/// Two tracers do not disturb each other.
pub(super) fn two_tracers(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let tracers = [
        Tracer::start(bench, "first")?,
        Tracer::start(bench, "second")?,
    ];
    let group = group("two")?;
    let mut killed = BTreeSet::new();
    for _ in 0..20 {
        killed.insert(kill_one(&group)?);
    }
    std::thread::sleep(Duration::from_secs(3));
    for (name, tracer) in ["first of two tracers", "second of two tracers"]
        .iter()
        .zip(tracers)
    {
        captures(table, name, &tracer.finish()?, &killed)?;
    }
    Ok(())
}

/// A tracer that is killed leaves a recording with all that happened until shortly before.
pub(super) fn killed(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let mut tracer = Tracer::start(bench, "killed")?;
    let group = group("killed")?;
    let mut kills = Vec::new();
    let begun = Instant::now();
    // Twice as long as what may be missing, and until there is enough to find.
    while begun.elapsed() < 3 * BEHIND || kills.len() < 20 {
        kills.push((kill_one(&group)?, Instant::now()));
    }
    tracer.end(rustix::process::Signal::KILL)?;
    let died = Instant::now();
    let old: BTreeSet<u32> = kills
        .iter()
        .filter(|(_, at)| died.duration_since(*at) > BEHIND)
        .map(|(pid, _)| *pid)
        .collect();
    let report = tracer::replay(bench, &tracer.recording)?;
    let found = tracer::captured(&report).intersection(&old).count();
    table.promise(
        "tracer killed with SIGKILL: kills older than 1 s in its recording",
        format!("{found} of {}", old.len()),
        "all",
        found == old.len() && !old.is_empty(),
    );
    Ok(())
}

/// A file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&place)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount(c"tmpfs", &place, c"tmpfs", flags, c"size=16m")
            .with_context(|| format!("cannot mount a tmpfs on {}", place.display()))?;
        Ok(Self(place))
    }

    /// Writes until there is no room left.
    fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::create(self.0.join("filler"))?;
        let page = [0_u8; 4096];
        while filler.write_all(&page).is_ok() {}
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// When the disk is full, the live report is whole and the recording is valid as far as it goes.
pub(super) fn full_disk(bench: &Bench, table: &mut Table) -> anyhow::Result<()> {
    let disk = SmallDisk::mount(bench.path("disk"))?;
    let recording = disk.0.join("full.aiops");
    let tracer = Tracer::start_recording(bench, "full", recording.clone())?;
    let group = group("full")?;
    let first = BTreeSet::from([kill_one(&group)?]);
    // The first kill is on the disk before it is full.
    std::thread::sleep(2 * BEHIND);
    disk.fill()?;
    let mut all = first.clone();
    for _ in 0..20 {
        all.insert(kill_one(&group)?);
    }
    std::thread::sleep(Duration::from_secs(3));
    let live = tracer.finish_complaining()?;
    captures(table, "full disk, live report", &live, &all)?;
    let report = tracer::replay(bench, &recording)?;
    let kept = tracer::captured(&report).is_superset(&first);
    table.promise(
        "full disk, recording",
        format!(
            "replays, {} of {} kills",
            tracer::captured(&report).len(),
            all.len()
        ),
        "valid, has what was written before",
        kept,
    );
    Ok(())
}
