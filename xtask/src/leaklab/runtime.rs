//! A collected heap of two generations, as the runtimes of managed languages have it.

use super::parts::Env;
use super::parts::Part;
use super::random::Random;

/// What of the heap is seen from outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Seen {
    /// All that is in use: the sawtooth.
    Used,
    /// What was ever committed, in regions of so many bytes: nothing is given back.
    Committed(f64),
    /// What is committed; regions that are free go back to the system slowly, within so many seconds.
    Scavenged(f64),
}

/// When the old generation is collected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Trigger {
    /// At this many bytes beside the young generation.
    Full(f64),
    /// At this multiple of what lived after the last collection.
    Grown(f64),
}

/// A collected heap.
#[derive(Clone, Debug)]
pub(super) struct Collected {
    /// Bytes allocated in a second at the mean load.
    pub(super) allocates: f64,
    /// Young generation, bytes, and the share of it that lives on.
    pub(super) nursery: f64,
    pub(super) survive: f64,
    pub(super) trigger: Trigger,
    /// Live data: at the begin, when warmed up, and the seconds that takes.
    pub(super) live: (f64, f64, f64),
    /// Live data that follows the load, bytes.
    pub(super) follows: f64,
    /// Bytes lost in a second at the mean load, from this time on.
    pub(super) leaks: f64,
    pub(super) from: f64,
    pub(super) seen: Seen,
    pub(super) state: State,
}

/// The heap now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    young: f64,
    garbage: f64,
    age: f64,
    lost: f64,
    after_last: f64,
    committed: f64,
}

impl Collected {
    fn living(&self, env: &Env) -> f64 {
        let (begin, end, within) = self.live;
        let warm = 1.0 - (-self.state.age / within.max(1e-9)).exp();
        begin + (end - begin) * warm + self.follows * env.load + self.state.lost
    }
}

impl Part for Collected {
    fn step(&mut self, env: &Env, random: &mut Random) -> f64 {
        self.state.age += env.dt;
        if env.t >= self.from {
            self.state.lost += self.leaks * env.load * env.dt;
        }
        let allocated = self.allocates * env.load * env.dt * (1.0 + 0.05 * random.normal());
        self.state.young += allocated.max(0.0);
        if self.state.young >= self.nursery {
            // Several collections may fall into one step: what is left is anywhere in the nursery.
            let promoted = (self.state.young / self.nursery).floor() * self.nursery;
            self.state.garbage += promoted * self.survive * random.between(0.8, 1.2);
            self.state.young =
                (self.state.young - promoted).max(random.unit() * allocated.min(self.nursery));
        }
        let living = self.living(env);
        let old = living + self.state.garbage;
        if self.state.after_last == 0.0 {
            self.state.after_last = living;
        }
        let full = match self.trigger {
            Trigger::Full(bytes) => old >= bytes.max(living * 1.1),
            Trigger::Grown(times) => old >= times * self.state.after_last,
        };
        if full {
            // A little garbage hides behind what was not traced yet.
            self.state.garbage *= random.between(0.0, 0.04);
            self.state.after_last = living + self.state.garbage;
        }
        let used = self.state.young + living + self.state.garbage;
        match self.seen {
            Seen::Used => used,
            Seen::Committed(region) => {
                let top = (old + self.nursery).max(used);
                self.state.committed = self.state.committed.max((top / region).ceil() * region);
                self.state.committed
            }
            Seen::Scavenged(seconds) => {
                let left = (-env.dt / seconds).exp();
                let kept = used + (self.state.committed - used) * left;
                self.state.committed = used.max(kept);
                self.state.committed
            }
        }
    }

    fn restart(&mut self) {
        self.state = State::default();
    }
}
