//! Which limit is met first, when, and who dies then: leaks that eat from the same memory, run forward together.
//!
//! Every limit is a pool of free bytes. Each leak takes from every pool that it stands in: its own rlimits, its
//! cgroup and those above, the host. The first pool that is empty is an event: at a cgroup's limit the kernel
//! kills who has the largest badness there, and that memory returns to the pools above; at an rlimit the process
//! grows no more. Then the others go on. Pure and deterministic.
//!
//! Intervals: the rates rᵢ are normal and independent with the errors sᵢ. For each limit the time T is taken as a
//! function of the rates; where it grows by gᵢ with rᵢ, the most likely rates that bring it forward by 1.96
//! standard errors are rᵢ − 1.96 sᵢ² gᵢ / √Σ (sᵢ gᵢ)² (first-order reliability). A run at those rates gives the
//! soonest time, one at their mirror image the latest. For leaks that grow in a straight line from one pool this
//! is exact: their sum is R ± 1.96 √Σ sᵢ². With kills before it is near; a test compares it with a simulation.

use std::collections::HashSet;

use super::limits::Bound;
use super::limits::Effect;
use super::limits::Limit;
use super::limits::Surroundings;
use super::limits::chain;
use super::oom::badness::points;

#[cfg(test)]
mod tests;

/// Standard errors of a 95 % interval.
pub const WIDE: f64 = 1.96;
/// What lies beyond is never, seconds: a hundred years.
const NEVER_S: f64 = 100.0 * 365.25 * 86_400.0;
/// Part of a standard error by which a rate is moved to see what follows.
const STEP: f64 = 1e-4;
/// Most events of one run.
const MOST_EVENTS: usize = 1000;
/// What is left of a cgroup's growth when its leaking processes are taken out must be this share of it.
const REST: f64 = 0.2;

/// Whose growth.
#[derive(Clone, Debug, PartialEq)]
pub enum Who {
    /// A process: its place in [`Scene::members`].
    Process(usize),
    /// What grows in a cgroup besides its leaking processes: many short ones, tmpfs, kernel memory.
    Cgroup(String),
    /// What grows on the host besides all others.
    Host,
}

/// Something that leaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Grower {
    /// Whose growth.
    pub who: Who,
    /// The cgroup that its memory is charged to.
    pub cgroup: Option<String>,
    /// Growth now, bytes a second.
    pub rate: f64,
    /// Standard error of it.
    pub error: f64,
    /// Growth of the rate, bytes a second squared; 0 for a straight line.
    pub bend: f64,
    /// How far its peaks (before a garbage collection) stand above its size now, bytes.
    pub above: f64,
}

/// A process: each may be the victim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    /// Process id.
    pub pid: u32,
    /// Start, clock ticks since boot.
    pub start_ticks: u64,
    /// Name.
    pub comm: String,
    /// Memory cgroup.
    pub cgroup: Option<String>,
    /// Resident memory and swap.
    pub bytes: u64,
    /// Page tables.
    pub pgtables_bytes: u64,
    /// −1000 to 1000; `None`: not known, never a victim.
    pub oom_score_adj: Option<i32>,
    /// Its own limits, and strict overcommit: what bounds it besides cgroups and the host.
    pub own: Vec<Bound>,
}

/// Everything that a forecast needs.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// Limits of the host and of cgroups.
    pub surroundings: Surroundings,
    /// Every process.
    pub members: Vec<Member>,
    /// What leaks.
    pub growers: Vec<Grower>,
    /// Cgroups that are killed as a whole (memory.oom.group).
    pub together: HashSet<String>,
    /// Bytes of a page.
    pub page_bytes: u64,
}

/// Who the kernel would kill.
#[derive(Clone, Debug, PartialEq)]
pub struct Victim {
    /// Its place in [`Scene::members`].
    pub member: usize,
    /// Badness at that time, pages.
    pub badness_pages: i64,
    /// Its size at that time, bytes.
    pub bytes: f64,
    /// Processes that die with it.
    pub with: usize,
}

/// A limit that is met.
#[derive(Clone, Debug, PartialEq)]
pub struct Meeting {
    /// The limit.
    pub bound: Bound,
    /// From now, seconds.
    pub after_s: f64,
    /// Soonest and latest (95 %); `None`: perhaps never.
    pub interval_s: (f64, Option<f64>),
    /// Who is killed; `None`: nobody (an rlimit, memory.high), or not known.
    pub victim: Option<Victim>,
    /// What eats from it: places in [`Scene::growers`].
    pub growers: Vec<usize>,
    /// Their growth now, bytes a second.
    pub rate: f64,
    /// Standard error of it.
    pub error: f64,
}

impl Scene {
    /// A pool for every limit that somebody grows towards.
    fn pools(&self) -> Vec<Pool> {
        let mut pools: Vec<Pool> = Vec::new();
        let mut take = |bound: &Bound, grower: usize, own: Option<usize>| {
            let same = |pool: &&mut Pool| pool.bound.limit == bound.limit && pool.own == own;
            if let Some(pool) = pools.iter_mut().find(same) {
                pool.growers.push(grower);
                return;
            }
            pools.push(Pool {
                bound: bound.clone(),
                growers: vec![grower],
                own,
            });
        };
        for (index, grower) in self.growers.iter().enumerate() {
            let paths = grower.cgroup.as_deref().map(chain);
            for path in paths.into_iter().flatten() {
                for bound in self.surroundings.own(path) {
                    take(bound, index, None);
                }
            }
            if let Some(bound) = self.surroundings.host() {
                take(bound, index, None);
            }
            if let Who::Process(member) = grower.who {
                for bound in &self.members[member].own {
                    let own = matches!(bound.limit, Limit::AddressSpace | Limit::Data);
                    take(bound, index, own.then_some(member));
                }
            }
        }
        pools
    }

    /// Every limit that will be met, soonest first.
    #[must_use]
    pub fn meetings(&self) -> Vec<Meeting> {
        let pools = self.pools();
        let rates: Vec<f64> = self.growers.iter().map(|one| one.rate).collect();
        let expected = self.run(&pools, &rates);
        let changes = self.changes(&pools, &rates, &expected);
        let mut meetings: Vec<Meeting> = Vec::new();
        for (index, pool) in pools.iter().enumerate() {
            let Some(event) = &expected[index] else {
                continue;
            };
            let at = |side: f64| {
                let pulls = changes.iter().map(|change| change[index]);
                let length = pulls.clone().map(|pull| pull * pull).sum::<f64>().sqrt();
                let errors = self.growers.iter().map(|one| one.error);
                let moved = rates.iter().zip(errors).zip(pulls);
                let rates: Vec<f64> = moved
                    .map(|((rate, error), pull)| {
                        rate + side * WIDE * error * pull / length.max(f64::MIN_POSITIVE)
                    })
                    .collect();
                let run = self.run(&pools, &rates);
                run[index].as_ref().map(|event| event.after_s)
            };
            let soonest = at(-1.0).unwrap_or(event.after_s).min(event.after_s);
            let latest = at(1.0).map(|latest| latest.max(event.after_s));
            meetings.push(Meeting {
                bound: pool.bound.clone(),
                after_s: event.after_s,
                interval_s: (soonest, latest),
                victim: event.victim.clone(),
                growers: pool.growers.clone(),
                rate: pool.growers.iter().map(|&one| rates[one]).sum(),
                error: self.error(&pool.growers),
            });
        }
        meetings.sort_by(|a, b| a.after_s.total_cmp(&b.after_s));
        meetings
    }

    /// By how much each pool's time moves with one standard error of each rate, for small changes.
    fn changes(&self, pools: &[Pool], rates: &[f64], expected: &[Option<Event>]) -> Vec<Vec<f64>> {
        let one = |grower: usize| {
            let step = self.growers[grower].error * STEP;
            let mut rates = rates.to_vec();
            rates[grower] += step;
            let moved = if step > 0.0 {
                self.run(pools, &rates)
            } else {
                Vec::new()
            };
            let change = |index: usize| {
                let (before, after) = (expected[index].as_ref(), moved.get(index)?.as_ref());
                Some((after?.after_s - before?.after_s) / STEP)
            };
            (0..pools.len())
                .map(|index| change(index).unwrap_or(0.0))
                .collect()
        };
        (0..self.growers.len()).map(one).collect()
    }

    /// Standard error of a sum of rates.
    fn error(&self, growers: &[usize]) -> f64 {
        let square = |&one: &usize| self.growers[one].error.powi(2);
        growers.iter().map(square).sum::<f64>().sqrt()
    }

    /// Runs the leaks forward at these rates: for each pool when it is first empty.
    fn run(&self, pools: &[Pool], rates: &[f64]) -> Vec<Option<Event>> {
        let mut events: Vec<Option<Event>> = vec![None; pools.len()];
        let mut now = Now {
            seconds: 0.0,
            grows: vec![true; self.growers.len()],
            grown: vec![0.0; self.growers.len()],
            alive: vec![true; self.members.len()],
            open: vec![true; pools.len()],
            left: Vec::new(),
        };
        let left = |pool: &Pool| {
            let above: f64 = pool.growers.iter().map(|&g| self.growers[g].above).sum();
            pool.bound.left_bytes as f64 - above
        };
        now.left = pools.iter().map(left).collect();
        for _ in 0..MOST_EVENTS {
            let next = (0..pools.len())
                .filter(|index| now.open[*index])
                .filter_map(|index| Some((now.until(self, &pools[index], index, rates)?, index)))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            let Some((after, index)) = next else { break };
            if now.seconds + after > NEVER_S {
                break;
            }
            now.advance(self, pools, rates, after);
            let victim = now.meet(self, pools, index);
            if events[index].is_none() {
                events[index] = Some(Event {
                    after_s: now.seconds,
                    victim,
                });
            }
        }
        events
    }

    /// Whether a process or a growth in `cgroup` stands in a pool.
    fn inside(pool: &Pool, cgroup: Option<&str>, member: Option<usize>) -> bool {
        match &pool.bound.limit {
            Limit::Cgroup { path, .. } => {
                cgroup.is_some_and(|cgroup| chain(cgroup).any(|one| one == path))
            }
            Limit::Host => true,
            Limit::Commit => member.is_some(),
            Limit::AddressSpace | Limit::Data => member.is_some() && member == pool.own,
        }
    }

    /// Processes that die with this one: all below the topmost cgroup under the limit that is killed as a whole.
    fn fellows(&self, victim: usize, limit: &Limit) -> Vec<usize> {
        let own = self.members[victim].cgroup.as_deref();
        let top = own.into_iter().flat_map(chain);
        let below = top.take_while(|path| limit.path().is_none_or(|top| within(path, top)));
        let Some(group) = below.filter(|path| self.together.contains(*path)).last() else {
            return vec![victim];
        };
        let dies = |member: &Member| {
            let path = member.cgroup.as_deref();
            path.is_some_and(|path| within(path, group)) && member.oom_score_adj != Some(-1000)
        };
        (0..self.members.len())
            .filter(|index| *index == victim || dies(&self.members[*index]))
            .collect()
    }
}

/// Whether `path` is `top` or lies below it.
fn within(path: &str, top: &str) -> bool {
    chain(path).any(|one| one == top)
}

/// A limit with those who grow towards it.
#[derive(Clone, Debug)]
struct Pool {
    bound: Bound,
    growers: Vec<usize>,
    /// The process whose own limit it is.
    own: Option<usize>,
}

#[derive(Clone, Debug)]
struct Event {
    after_s: f64,
    victim: Option<Victim>,
}

/// Where a run stands.
struct Now {
    seconds: f64,
    grows: Vec<bool>,
    grown: Vec<f64>,
    alive: Vec<bool>,
    open: Vec<bool>,
    left: Vec<f64>,
}

impl Now {
    /// Growth now and its own growth.
    fn flow(&self, scene: &Scene, grower: usize, rates: &[f64]) -> (f64, f64) {
        if !self.grows[grower] {
            return (0.0, 0.0);
        }
        let bend = scene.growers[grower].bend.max(0.0);
        (rates[grower] + bend * self.seconds, bend)
    }

    /// Seconds until a pool is empty.
    fn until(&self, scene: &Scene, pool: &Pool, index: usize, rates: &[f64]) -> Option<f64> {
        let flows = pool.growers.iter().map(|&one| self.flow(scene, one, rates));
        let (rate, bend) = flows.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let left = self.left[index];
        if rate <= 0.0 && bend <= 0.0 {
            return None;
        }
        if left <= 0.0 {
            return Some(0.0);
        }
        let after = if bend > 0.0 {
            // The form without a difference of large numbers.
            2.0 * left / (rate + (rate * rate + 2.0 * bend * left).sqrt())
        } else {
            left / rate
        };
        after.is_finite().then_some(after)
    }

    fn advance(&mut self, scene: &Scene, pools: &[Pool], rates: &[f64], after: f64) {
        let grown: Vec<f64> = (0..scene.growers.len())
            .map(|one| {
                let (rate, bend) = self.flow(scene, one, rates);
                rate * after + bend * after * after / 2.0
            })
            .collect();
        for (pool, left) in pools.iter().zip(&mut self.left) {
            *left -= pool.growers.iter().map(|&one| grown[one]).sum::<f64>();
        }
        for (all, more) in self.grown.iter_mut().zip(&grown) {
            *all += more;
        }
        self.seconds += after;
    }

    /// Size of a process now.
    fn bytes(&self, scene: &Scene, member: usize) -> f64 {
        let growers = scene.growers.iter().zip(&self.grown);
        let own = growers.filter(|(grower, _)| grower.who == Who::Process(member));
        scene.members[member].bytes as f64 + own.map(|(_, grown)| *grown).sum::<f64>()
    }

    /// What happens when a pool is empty; who is killed.
    fn meet(&mut self, scene: &Scene, pools: &[Pool], index: usize) -> Option<Victim> {
        let pool = &pools[index];
        match (pool.bound.limit.effect(), &pool.bound.limit) {
            (Effect::Throttle, _) => {
                self.open[index] = false;
                None
            }
            (Effect::Fail, _) => {
                // Of strict overcommit nobody can say who is refused.
                self.open[index] = false;
                for &one in pool.growers.iter().filter(|_| pool.own.is_some()) {
                    self.grows[one] = false;
                }
                None
            }
            (Effect::Kill, Limit::Host) => {
                // Nothing that can be foretold comes after this.
                self.open[index] = false;
                self.victim(scene, pool)
            }
            (Effect::Kill, _) => {
                let victim = self.victim(scene, pool);
                if let Some(victim) = &victim {
                    for one in scene.fellows(victim.member, &pool.bound.limit) {
                        self.kill(scene, pools, one);
                    }
                } else {
                    for &one in &pool.growers {
                        self.grows[one] = false;
                    }
                }
                victim
            }
        }
    }

    /// Who has the largest badness in a pool.
    fn victim(&self, scene: &Scene, pool: &Pool) -> Option<Victim> {
        let page = scene.page_bytes.max(1);
        let total = pool.bound.scale_bytes / page;
        let candidates = scene.members.iter().enumerate().filter(|(index, member)| {
            let inside = Scene::inside(pool, member.cgroup.as_deref(), Some(*index));
            self.alive[*index] && inside && member.pid != 1
        });
        let judged = candidates.filter_map(|(index, member)| {
            let adj = member.oom_score_adj.filter(|adj| *adj > -1000)?;
            let bytes = self.bytes(scene, index);
            let pages = whole(bytes).saturating_add(member.pgtables_bytes) / page;
            Some((points(pages, adj, total), index, bytes))
        });
        let (badness_pages, member, bytes) = judged.max_by_key(|(points, index, _)| {
            // Of equal ones the kernel takes the one it sees first.
            (*points, std::cmp::Reverse(scene.members[*index].pid))
        })?;
        Some(Victim {
            member,
            badness_pages,
            bytes,
            with: scene.fellows(member, &pool.bound.limit).len() - 1,
        })
    }

    /// Takes a process out: its memory returns to every pool that it stood in.
    fn kill(&mut self, scene: &Scene, pools: &[Pool], member: usize) {
        if !std::mem::replace(&mut self.alive[member], false) {
            return;
        }
        let bytes = self.bytes(scene, member);
        let cgroup = scene.members[member].cgroup.as_deref();
        for (pool, left) in pools.iter().zip(&mut self.left) {
            if pool.own.is_none() && Scene::inside(pool, cgroup, Some(member)) {
                *left += bytes;
            }
        }
        for (grower, grows) in scene.growers.iter().zip(&mut self.grows) {
            *grows &= grower.who != Who::Process(member);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that is negative becomes 0, a large one the largest"
)]
pub(super) fn whole(bytes: f64) -> u64 {
    bytes.round() as u64
}

/// What a cgroup (or the host) grows by besides what leaks in it: the rate and its standard error.
/// `None`: what leaks in it explains its growth.
#[must_use]
pub fn rest(own: (f64, f64), inside: &[(f64, f64)]) -> Option<(f64, f64)> {
    let known: f64 = inside.iter().map(|one| one.0).sum();
    let square: f64 = inside.iter().map(|one| one.1 * one.1).sum();
    let rate = own.0 - known;
    let error = (own.1 * own.1 + square).sqrt();
    (rate > WIDE * error && rate > REST * own.0).then_some((rate, error))
}

/// The first meeting that ends the growth of this one, and the interval over all that may.
#[must_use]
pub fn first(meetings: &[Meeting], grower: usize) -> Option<(&Meeting, (f64, Option<f64>))> {
    let ends = |one: &&Meeting| {
        one.growers.contains(&grower) && one.bound.limit.effect() != Effect::Throttle
    };
    soonest(meetings.iter().filter(ends))
}

/// The soonest of some meetings, which are in order, and the interval of the soonest of them.
pub fn soonest<'a>(
    meetings: impl Iterator<Item = &'a Meeting> + Clone,
) -> Option<(&'a Meeting, (f64, Option<f64>))> {
    let first = meetings.clone().next()?;
    let low = meetings.clone().map(|one| one.interval_s.0);
    let high = meetings.filter_map(|one| one.interval_s.1);
    let interval = (low.fold(f64::INFINITY, f64::min), high.reduce(f64::min));
    Some((first, interval))
}
