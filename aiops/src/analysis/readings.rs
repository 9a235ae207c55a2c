//! What an observation of the /proc plane holds: its first and last figures, and who is who.
//!
//! Live commands and replays push the same items. Memory is bounded by the number of processes, not by
//! the length of the observation: what lies between the first and the last sample is for accumulators
//! of their own (`collect`).

use std::collections::HashMap;
use std::collections::HashSet;

use crate::model::ClockPair;
use crate::model::Detail;
use crate::model::Identity;
use crate::model::Item;
use crate::model::Nanos;
use crate::model::ProcessSample;
use crate::model::Regions;
use crate::model::Sample;
use crate::model::Session;
use crate::model::Skipped;
use crate::model::UnreadReason;
use crate::report::Accounting;
use crate::report::SkippedProcesses;

/// Identity of a process: pid and start in clock ticks, for pids are used again.
pub type ProcessKey = (u32, u64);

/// Identities of ended processes that are kept before they are looked through: not at every sample.
const SPARE_IDENTITIES: usize = 1024;

/// The identity of a sample's process.
#[must_use]
pub fn key(process: &ProcessSample) -> ProcessKey {
    (process.pid, process.start_ticks)
}

/// First and last figures of an observation.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// Who observed what.
    pub session: Option<Session>,
    /// The first and the last clock pair.
    pub clocks: Option<(ClockPair, ClockPair)>,
    /// The first sample.
    pub first: Option<Sample>,
    /// The last one; `None` when there is only one.
    pub last: Option<Sample>,
    /// Samples in all.
    pub samples: u64,
    /// The first inner state of the memory manager.
    pub first_detail: Option<Box<Detail>>,
    /// The last one; `None` when there is only one.
    pub last_detail: Option<Box<Detail>>,
    /// Who the processes are.
    pub identities: HashMap<ProcessKey, Identity>,
    /// Mappings of processes, summed: the last of each.
    pub regions: HashMap<ProcessKey, Regions>,
    /// What could not be had, summed over samples for `vanished`, else of the last sample.
    pub skipped: Skipped,
    /// When it ended; `None` when it was cut off.
    pub ended_ns: Option<Nanos>,
}

impl Readings {
    /// Takes the next item.
    pub fn push(&mut self, item: Item) {
        match item {
            Item::Session(session) => self.session = Some(session),
            Item::Clock(pair) => {
                let first = self.clocks.map_or(pair, |(first, _)| first);
                self.clocks = Some((first, pair));
            }
            Item::Sample(sample) => self.sample(sample),
            Item::Detail(detail) => {
                if self.first_detail.is_none() {
                    self.first_detail = Some(detail);
                } else {
                    self.last_detail = Some(detail);
                }
            }
            Item::Identity(identity) => {
                let start = identity.start_ticks.unwrap_or(0);
                self.identities.insert((identity.pid, start), identity);
            }
            Item::Regions(regions) => {
                let key = (regions.pid, regions.start_ticks);
                self.regions.insert(key, regions);
            }
            Item::End(end) => self.ended_ns = Some(end.ts_ns),
            Item::Event(_)
            | Item::Kmsg(_)
            | Item::Symbols(_)
            | Item::Allocs(_)
            | Item::Counters(_)
            | Item::Swaps(_)
            | Item::Losses(_) => {}
        }
    }

    fn sample(&mut self, sample: Sample) {
        self.samples += 1;
        let vanished = self
            .skipped
            .vanished
            .saturating_add(sample.skipped.vanished);
        self.skipped = Skipped {
            vanished,
            ..sample.skipped
        };
        if self.first.is_none() {
            self.first = Some(sample);
        } else {
            self.last = Some(sample);
        }
        self.forget();
    }

    /// Forgets who was in neither the first nor the newest sample, when these have become many.
    fn forget(&mut self) {
        let count = |sample: &Option<Sample>| sample.as_ref().map_or(0, |one| one.processes.len());
        let known = count(&self.first) + count(&self.last);
        if self.identities.len() > known * 2 + SPARE_IDENTITIES {
            let samples = [&self.first, &self.last].into_iter().flatten();
            let here: HashSet<ProcessKey> = samples
                .flat_map(|sample| sample.processes.iter().map(key))
                .collect();
            self.identities.retain(|known, _| here.contains(known));
            self.regions.retain(|known, _| here.contains(known));
        }
    }

    /// The newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<&Sample> {
        self.last.as_ref().or(self.first.as_ref())
    }

    /// The newest inner state.
    #[must_use]
    pub fn detail(&self) -> Option<&Detail> {
        self.last_detail.as_deref().or(self.first_detail.as_deref())
    }

    /// First and last sample with the seconds between them; `None` when there is only one, or no time
    /// between them: then no rate is known.
    #[must_use]
    pub fn span(&self) -> Option<(&Sample, &Sample, f64)> {
        let (first, last) = (self.first.as_ref()?, self.last.as_ref()?);
        let seconds = last.ts_ns.checked_sub(first.ts_ns)? as f64 / 1e9;
        (seconds > 0.0).then_some((first, last, seconds))
    }

    /// A counter's growth per second between the first and the last sample; a counter that went backwards
    /// has no rate.
    #[must_use]
    pub fn rate(&self, get: fn(&crate::model::SystemMetrics) -> Option<u64>) -> Option<f64> {
        let (first, last, seconds) = self.span()?;
        let (from, to) = (get(first.system.as_ref()?)?, get(last.system.as_ref()?)?);
        Some(to.checked_sub(from)? as f64 / seconds)
    }

    /// Who this process is.
    #[must_use]
    pub fn identity(&self, key: ProcessKey) -> Option<&Identity> {
        self.identities.get(&key)
    }

    /// KiB of a page on the observed host.
    #[must_use]
    pub fn page_kb(&self) -> u64 {
        let size = self
            .session
            .as_ref()
            .and_then(|session| session.host.page_size);
        size.map_or(4, |bytes| bytes / 1024)
    }

    /// The newest moment as (UTC ns since 1970, offset of the host's zone in seconds).
    #[must_use]
    pub fn moment(&self) -> Option<(i64, i32)> {
        let (_, pair) = self.clocks?;
        let ts_ns = self.newest().map_or(pair.mono_ns, |sample| sample.ts_ns);
        let since = i64::try_from(i128::from(ts_ns) - i128::from(pair.mono_ns)).ok()?;
        let offset = self
            .session
            .as_ref()
            .and_then(|session| session.host.utc_offset_s);
        Some((pair.real_ns.checked_add(since)?, offset.unwrap_or(0)))
    }

    /// Age of a process at the newest moment, seconds.
    #[must_use]
    pub fn age_s(&self, key: ProcessKey) -> Option<f64> {
        let (_, pair) = self.clocks?;
        let per_second = self
            .session
            .as_ref()?
            .host
            .ticks_per_s
            .filter(|ticks| *ticks > 0)?;
        let start_s = key.1 as f64 / per_second as f64;
        Some((pair.boot_ns as f64 / 1e9 - start_s).max(0.0))
    }

    /// What was seen and what could not be had. `needs` are the files of the inner state that the report is
    /// made from: that another one is for root alone makes it no less complete.
    #[must_use]
    pub fn accounting(&self, needs: &[&str]) -> Accounting {
        let skipped = self.skipped;
        let left_cgroups = u64::from(skipped.cgroups);
        let denied = self.detail().into_iter().flat_map(|detail| &detail.unread);
        let mut unread: Vec<String> = denied
            .filter(|unread| unread.reason != UnreadReason::Absent)
            .filter(|unread| needs.contains(&unread.source.as_str()))
            .map(|unread| unread.source.clone())
            .collect();
        // Only a report on all processes misses those that are hidden.
        if self.newest().is_some_and(|sample| sample.all_processes) {
            let session = self.session.iter();
            unread.extend(session.flat_map(|session| session.unread.iter().cloned()));
        }
        unread.sort();
        unread.dedup();
        let processes = self.newest().map_or(0, |sample| sample.processes.len());
        let seen = [
            ("samples".to_owned(), self.samples),
            ("processes".to_owned(), processes as u64),
        ];
        Accounting {
            seen: seen.into_iter().collect(),
            skipped_processes: SkippedProcesses {
                vanished: skipped.vanished.into(),
                denied: skipped.denied.into(),
                failed: skipped.failed.into(),
                kernel_threads: skipped.kernel_threads.into(),
                zombies: skipped.zombies.into(),
                denied_smaps: skipped.denied_smaps.into(),
            },
            lost: (left_cgroups > 0)
                .then(|| ("cgroups".to_owned(), left_cgroups))
                .into_iter()
                .collect(),
            complete: skipped.denied == 0
                && skipped.denied_smaps == 0
                && left_cgroups == 0
                && skipped.failed == 0
                && unread.is_empty()
                && self.samples > 0,
            unread,
            ..Accounting::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SystemMetrics;

    fn sample(seconds: u64, pswpin: u64) -> Item {
        Item::Sample(Sample {
            ts_ns: seconds * 1_000_000_000,
            system: Some(SystemMetrics {
                pswpin: Some(pswpin),
                ..SystemMetrics::default()
            }),
            ..Sample::default()
        })
    }

    #[test]
    fn rates_need_two_samples_and_a_counter_that_grows() {
        let mut readings = Readings::default();
        readings.push(sample(10, 100));
        assert_eq!(readings.rate(|system| system.pswpin), None);
        readings.push(sample(12, 130));
        readings.push(sample(14, 140));
        assert_eq!(readings.rate(|system| system.pswpin), Some(10.0));
        assert_eq!(readings.rate(|system| system.pswpout), None);
        readings.push(sample(16, 1));
        assert_eq!(readings.rate(|system| system.pswpin), None);
        assert_eq!(
            (readings.samples, readings.accounting(&[]).complete),
            (4, true)
        );
    }

    #[test]
    fn what_is_hidden_or_refused_is_not_complete() {
        let session = |all_processes: bool, skipped: Skipped| {
            let mut readings = Readings::default();
            readings.push(Item::Session(Session {
                unread: vec!["/proc (hidepid)".to_owned()],
                ..Session::default()
            }));
            readings.push(Item::Sample(Sample {
                all_processes,
                skipped,
                ..Sample::default()
            }));
            readings.accounting(&[])
        };
        let hidden = session(true, Skipped::default());
        assert!(!hidden.complete);
        assert_eq!(hidden.unread, ["/proc (hidepid)"]);
        assert!(session(false, Skipped::default()).complete);
        let refused = session(
            false,
            Skipped {
                denied_smaps: 3,
                cgroups: 2,
                ..Skipped::default()
            },
        );
        assert!(!refused.complete);
        assert_eq!(refused.skipped_processes.denied_smaps, 3);
        assert_eq!(refused.lost.get("cgroups"), Some(&2));
    }

    #[test]
    fn processes_that_come_and_go_are_forgotten() {
        let mut readings = Readings::default();
        for pid in 1..10_000u32 {
            readings.push(Item::Identity(Identity {
                pid,
                start_ticks: Some(1),
                ..Identity::default()
            }));
            readings.push(Item::Sample(Sample {
                ts_ns: u64::from(pid),
                processes: vec![ProcessSample {
                    pid,
                    start_ticks: 1,
                    ..ProcessSample::default()
                }],
                ..Sample::default()
            }));
        }
        assert!(readings.identities.len() <= SPARE_IDENTITIES + 8);
        for pid in [1, 9_999] {
            assert!(readings.identity((pid, 1)).is_some(), "{pid}");
        }
    }
}
