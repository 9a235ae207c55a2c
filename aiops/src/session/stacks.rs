//! Which addresses still need names: stacks wait here for the mappings of their process.

use std::collections::HashMap;

use crate::model::Event;
use crate::model::EventKind;
use crate::model::Identity;
use crate::model::Mapping;
use crate::source::symbols::Resolver;

/// Most processes whose mappings or stacks are kept; the oldest give way.
const MOST_PROCESSES: usize = 512;

#[derive(Default)]
struct Process {
    start_ticks: Option<u64>,
    mappings: Vec<Mapping>,
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
    /// Asks for the names of an event's stacks, now or when the mappings come.
    pub(super) fn event(&mut self, event: &Event, resolver: &Resolver) {
        match &event.kind {
            EventKind::Mark(mark) => {
                let kernel: Vec<u64> = mark
                    .trigger_kernel
                    .iter()
                    .chain(&mark.victim_kernel)
                    .copied()
                    .collect();
                if !kernel.is_empty() {
                    resolver.kernel(kernel);
                }
                self.user(mark.trigger.pid, &mark.trigger_user, resolver);
            }
            EventKind::Delivery(delivery) => {
                self.user(delivery.victim.pid, &delivery.user, resolver);
            }
            EventKind::Step(_) | EventKind::Reclaim(_) => {}
        }
    }

    /// Learns a process' mappings.
    pub(super) fn identity(&mut self, identity: &Identity, resolver: &Resolver) {
        if identity.mappings.is_empty() {
            return;
        }
        let process = self.process(identity.pid);
        process.start_ticks = identity.start_ticks;
        process.mappings.clone_from(&identity.mappings);
        let waiting = std::mem::take(&mut process.waiting);
        if !waiting.is_empty() {
            resolver.process(
                identity.pid,
                identity.start_ticks,
                identity.mappings.clone(),
                waiting,
            );
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

    fn user(&mut self, pid: u32, ips: &[u64], resolver: &Resolver) {
        if ips.is_empty() {
            return;
        }
        let process = self.process(pid);
        if process.mappings.is_empty() {
            process.waiting.extend_from_slice(ips);
        } else {
            resolver.process(
                pid,
                process.start_ticks,
                process.mappings.clone(),
                ips.to_vec(),
            );
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
