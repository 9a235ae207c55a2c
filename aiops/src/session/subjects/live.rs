//! Subjects from samples that are taken now.

use std::path::Path;
use std::time::Duration;

use super::Read;
use super::history::Collector;
use crate::model::Filter;
use crate::model::Item;
use crate::session::plane;
use crate::session::plane::Observe;
use crate::source::plane::Wants;
use crate::source::procfs::read_handles;

/// Samples of a window, unless those would be closer than [`LEAST`].
const SAMPLES: u32 = 300;
/// Nothing is sampled more often.
const LEAST: Duration = Duration::from_millis(100);
/// Nor more seldom.
const MOST: Duration = Duration::from_secs(10);

/// Most processes of which is read what they have open.
const MOST_OPENED: usize = 16;

/// What to sample.
#[derive(Clone, Debug)]
pub struct Window<'a> {
    /// Where `proc` and `sys` stand.
    pub root: &'a Path,
    /// How long.
    pub length: Duration,
    /// Which processes.
    pub filter: Filter,
    /// Every memory cgroup as well.
    pub cgroups: bool,
}

impl Window<'_> {
    /// Between two samples.
    #[must_use]
    pub fn interval(&self) -> Duration {
        (self.length / SAMPLES).clamp(LEAST, MOST)
    }
}

/// Samples processes for a while; a signal ends it earlier, and what there is is handed over. `tick` hears of each
/// sample: how many there are, and how much time has passed.
///
/// # Errors
/// There is no /proc.
pub fn live(window: &Window<'_>, tick: &mut dyn FnMut(usize, Duration)) -> anyhow::Result<Read> {
    let filter = window.filter.clone();
    let mut collector = Collector::new(filter.clone(), usize::MAX);
    let observe = Observe {
        command: "detect memory-leak".to_owned(),
        root: window.root.to_path_buf(),
        wants: Wants {
            pids: (!filter.pids.is_empty()).then(|| filter.pids.clone()),
            cgroups: window.cgroups,
            ..Wants::default()
        },
        filter,
        interval: window.interval(),
        duration: window.length,
        ..Observe::default()
    };
    // What is open is read of those that are asked for, never of a whole host.
    let named = !window.filter.is_empty();
    let (mut samples, mut first) = (0, None);
    plane::observe(&observe, &mut |item| {
        if let Item::Sample(sample) = item
            && named
        {
            let wanted = sample.processes.iter().take(MOST_OPENED);
            let read = wanted.filter_map(|one| {
                let open = read_handles(window.root, one.pid, one.start_ticks).ok()?;
                Some(((one.pid, one.start_ticks), open))
            });
            collector.handles = read.collect();
        }
        collector.push(item);
        if let Item::Sample(sample) = item {
            samples += 1;
            let first = *first.get_or_insert(sample.ts_ns);
            tick(samples, Duration::from_nanos(sample.ts_ns - first));
        }
        Ok(())
    })?;
    Ok(collector.finish())
}
