//! A malloc heap: size classes in slabs of pages, objects that live for some time or for ever. A slab is given
//! back when it is empty, and only then: what stays is fragmentation.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::collections::BinaryHeap;

use super::parts::Env;
use super::parts::Part;
use super::random::Random;
use super::random::whole;

/// Objects of one slab.
const SLOTS: u32 = 16;
/// Sizes of the classes, in units, and how often each is asked for.
const CLASSES: [(f64, f64); 6] = [
    (0.25, 0.3),
    (0.5, 0.25),
    (1.0, 0.2),
    (2.0, 0.13),
    (4.0, 0.08),
    (8.0, 0.04),
];

/// When empty slabs are given back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Trim {
    /// At once.
    Always,
    /// Only at the end of the heap, as brk does it.
    Top,
    /// Never: they are kept for later.
    Never,
}

/// How a heap is used.
#[derive(Clone, Debug)]
pub(super) struct Use {
    /// Bytes of a unit.
    pub(super) unit: f64,
    /// Objects asked for by each request.
    pub(super) per_request: f64,
    /// Mean life and share of each kind of object, seconds.
    pub(super) lives: Vec<(f64, f64)>,
    /// Share of the objects that is never freed, from this time on.
    pub(super) lost: f64,
    pub(super) lost_from: f64,
    pub(super) trim: Trim,
}

#[derive(Debug, Default)]
struct Class {
    /// Objects in each slab; `None`: it was given back.
    slabs: Vec<Option<u32>>,
    room: BTreeSet<usize>,
    gone: BTreeSet<usize>,
    resident: usize,
}

impl Class {
    fn take(&mut self) -> usize {
        let slab = match self.room.first() {
            Some(&slab) => slab,
            None => {
                self.resident += 1;
                let slab = self.gone.pop_first().unwrap_or(self.slabs.len());
                if slab == self.slabs.len() {
                    self.slabs.push(None);
                }
                self.slabs[slab] = Some(0);
                self.room.insert(slab);
                slab
            }
        };
        let used = self.slabs[slab].unwrap_or(0) + 1;
        self.slabs[slab] = Some(used);
        if used == SLOTS {
            self.room.remove(&slab);
        }
        slab
    }

    fn give(&mut self, slab: usize, trim: Trim) {
        let used = self.slabs[slab].unwrap_or(1) - 1;
        self.slabs[slab] = Some(used);
        self.room.insert(slab);
        let release = |class: &mut Self, slab: usize| {
            class.slabs[slab] = None;
            class.room.remove(&slab);
            class.gone.insert(slab);
            class.resident -= 1;
        };
        match trim {
            Trim::Always if used == 0 => release(self, slab),
            Trim::Top => {
                while self
                    .slabs
                    .last()
                    .is_some_and(|last| *last == Some(0) || last.is_none())
                {
                    let last = self.slabs.len() - 1;
                    if self.slabs[last].is_some() {
                        release(self, last);
                    }
                    self.gone.remove(&last);
                    self.slabs.pop();
                }
            }
            _ => {}
        }
    }
}

/// The heap of one process.
#[derive(Debug)]
pub(super) struct Heap {
    usage: Use,
    classes: Vec<Class>,
    /// When which object is freed: time in microseconds, class, slab.
    frees: BinaryHeap<Reverse<(u64, usize, usize)>>,
    owed: f64,
}

impl Heap {
    pub(super) fn new(usage: Use) -> Self {
        Self {
            usage,
            classes: CLASSES.iter().map(|_| Class::default()).collect(),
            frees: BinaryHeap::new(),
            owed: 0.0,
        }
    }

    /// Mean bytes of an object.
    pub(super) fn mean_size(unit: f64) -> f64 {
        unit * CLASSES
            .iter()
            .map(|(size, share)| size * share)
            .sum::<f64>()
    }
}

fn micros(seconds: f64) -> u64 {
    whole((seconds + 1e7).max(0.0) * 1e6) as u64
}

impl Part for Heap {
    fn step(&mut self, env: &Env, random: &mut Random) -> f64 {
        let now = micros(env.t);
        while let Some(&Reverse((at, class, slab))) = self.frees.peek() {
            if at > now {
                break;
            }
            self.frees.pop();
            self.classes[class].give(slab, self.usage.trim);
        }
        self.owed += env.requests * self.usage.per_request;
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            let mut place = random.unit();
            let class = CLASSES
                .iter()
                .position(|(_, share)| {
                    place -= share;
                    place < 0.0
                })
                .unwrap_or(0);
            let slab = self.classes[class].take();
            let lost = env.t >= self.usage.lost_from && random.chance(self.usage.lost);
            if lost {
                continue;
            }
            let mut kind = random.unit();
            let lives = &self.usage.lives;
            let life = lives.iter().find(|(_, share)| {
                kind -= share;
                kind < 0.0
            });
            let mean = life.or(lives.first()).map_or(1.0, |life| life.0);
            let until = micros(env.t + random.exponential(mean));
            self.frees.push(Reverse((until, class, slab)));
        }
        let sizes = self.classes.iter().zip(CLASSES);
        sizes
            .map(|(class, (size, _))| {
                let slab = size * self.usage.unit * f64::from(SLOTS);
                class.resident as f64 * slab
            })
            .sum()
    }

    fn restart(&mut self) {
        *self = Self::new(self.usage.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_given_back_when_they_are_empty() {
        let mut class = Class::default();
        let taken: Vec<usize> = (0..40).map(|_| class.take()).collect();
        assert_eq!((taken[15], taken[16], class.resident), (0, 1, 3));
        for slab in taken.iter().copied().filter(|slab| *slab == 1) {
            class.give(slab, Trim::Top);
        }
        assert_eq!(class.resident, 3, "not at the end");
        for _ in 0..8 {
            class.give(2, Trim::Top);
        }
        assert_eq!((class.resident, class.slabs.len()), (1, 1));
    }
}
