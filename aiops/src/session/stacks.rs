//! Which addresses still need names: stacks wait here for the mappings of their process.

use std::collections::HashMap;

use crate::model::Event;
use crate::model::EventKind;
use crate::model::Identity;
use crate::model::Mapping;
use crate::source::symbols::Resolver;

/// Most processes whose mappings or stacks are kept; the oldest give way.
const MOST_PROCESSES: usize = 512;
/// The same when no incident is open: a program of many libraries has 50 KB of mappings.
const MOST_IDLE: usize = 32;

#[derive(Default)]
struct Process {
    start_ticks: Option<u64>,
    mappings: Vec<Mapping>,
    /// The mappings are those of the last mark: older ones may lack what was loaded since, or belong to
    /// another process with the same id.
    fresh: bool,
    waiting: Vec<u64>,
    age: u64,
}

/// Stacks and mappings that have not met yet.
#[derive(Default)]
pub(super) struct Stacks {
    processes: HashMap<u32, Process>,
    clock: u64,
}

impl Stacks {
    /// Asks for the names of an event's stacks, now or when the mappings come: a mark has asked for them.
    pub(super) fn event(&mut self, event: &Event, resolver: &Resolver) {
        match &event.kind {
            EventKind::Mark(mark) => {
                let kernel = mark.trigger_kernel.iter().chain(&mark.victim_kernel);
                let kernel: Vec<u64> = kernel.copied().collect();
                if !kernel.is_empty() {
                    resolver.kernel(kernel);
                }
                self.process(mark.victim.pid).fresh = false;
                self.process(mark.trigger.pid).fresh = false;
                self.user(mark.trigger.pid, &mark.trigger_user, resolver);
            }
            EventKind::Delivery(delivery) => {
                self.user(delivery.victim.pid, &delivery.user, resolver);
            }
            EventKind::Step(_) | EventKind::Reclaim(_) | EventKind::Stall(_) => {}
        }
    }

    /// Learns a process' mappings. One that is gone already has none: then those from before count, when
    /// they are of the same process.
    pub(super) fn identity(&mut self, identity: &Identity, resolver: &Resolver) {
        let process = self.process(identity.pid);
        if !identity.mappings.is_empty() || process.start_ticks != identity.start_ticks {
            process.mappings.clone_from(&identity.mappings);
        }
        process.start_ticks = identity.start_ticks;
        process.fresh = true;
        let waiting = std::mem::take(&mut process.waiting);
        if !waiting.is_empty() {
            let mappings = process.mappings.clone();
            resolver.process(identity.pid, identity.start_ticks, mappings, waiting);
        }
    }

    /// Asks for what still waits, without mappings: it gets at least its place in the report's counts.
    pub(super) fn give_up(&mut self, resolver: &Resolver) {
        for (pid, process) in self.processes.drain() {
            if !process.waiting.is_empty() {
                resolver.process(pid, process.start_ticks, process.mappings, process.waiting);
            }
        }
    }

    /// Keeps the newest processes only: no incident waits for a name.
    pub(super) fn forget(&mut self) {
        if self.processes.len() <= MOST_IDLE {
            return;
        }
        let mut ages: Vec<u64> = self.processes.values().map(|one| one.age).collect();
        ages.sort_unstable();
        let from = ages[ages.len() - MOST_IDLE];
        self.processes.retain(|_, process| process.age >= from);
        self.processes.shrink_to_fit();
    }

    fn user(&mut self, pid: u32, ips: &[u64], resolver: &Resolver) {
        if ips.is_empty() {
            return;
        }
        let process = self.process(pid);
        if process.fresh {
            let mappings = process.mappings.clone();
            resolver.process(pid, process.start_ticks, mappings, ips.to_vec());
        } else {
            process.waiting.extend_from_slice(ips);
        }
    }

    fn process(&mut self, pid: u32) -> &mut Process {
        self.clock += 1;
        let age = self.clock;
        if self.processes.len() >= MOST_PROCESSES && !self.processes.contains_key(&pid) {
            let oldest = self
                .processes
                .iter()
                .min_by_key(|(_, process)| process.age)
                .map(|(pid, _)| *pid);
            oldest.map(|pid| self.processes.remove(&pid));
        }
        let process = self.processes.entry(pid).or_default();
        process.age = age;
        process
    }
}
