//! History as data: what a store hands over, and what queries count.

/// A range of time, ms since 1970 UTC: the end is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First moment.
    pub start_ms: i64,
    /// First moment behind it.
    pub end_ms: i64,
}

impl Range {
    /// Whether a moment is part of it.
    #[must_use]
    pub fn holds(self, ts: i64) -> bool {
        (self.start_ms..self.end_ms).contains(&ts)
    }
}

/// A text that comes again and again: equal ids are equal texts, within one reading of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// Its number.
    pub id: u32,
    /// Itself.
    pub text: &'a str,
}

/// Who a row of history is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The boot (boot_id), where it is known: pids and starts come again after it.
    pub boot: Option<Name<'a>>,
    /// Process id.
    pub pid: u32,
    /// Start, clock ticks since boot.
    pub start: u64,
    /// Name.
    pub comm: Option<Name<'a>>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Name of that user.
    pub user: Option<Name<'a>>,
    /// Memory cgroup.
    pub cgroup: Option<Name<'a>>,
    /// `runtime:id` of the container.
    pub container: Option<Name<'a>>,
    /// The program's path, where it was asked for.
    pub exe: Option<Name<'a>>,
    /// Its arguments, where they were asked for.
    pub cmdline: Option<Name<'a>>,
}

/// Consecutive samples of a process that are all alike, cut to the wanted range.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Whose.
    pub who: Owner<'a>,
    /// Number of the part of the store that it is from; parts follow one another.
    pub part: u64,
    /// Times of all ticks of that part in the range, whoever was there.
    pub times: &'a [i64],
    /// Its first sample's place in `times`.
    pub first: usize,
    /// How many samples: the next `n` of `times`.
    pub n: usize,
    /// One for each wanted figure, in their order.
    pub values: &'a [Option<i64>],
}

impl super::Filter {
    /// Whether a row of history is wanted. It does not know the uid of a pod.
    #[must_use]
    pub fn wants_owner<'a>(&self, who: &Owner<'a>) -> bool {
        let any = |list: &[String], is: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|one| is(one))
        };
        let text = |name: Option<Name<'a>>| name.map_or("", |name| name.text);
        let (comm, cgroup, user) = (text(who.comm), text(who.cgroup), text(who.user));
        let container = text(who.container);
        let id = container.split_once(':').map_or("", |(_, id)| id);
        let below = |path: &str| {
            let rest = cgroup.strip_prefix(path.trim_end_matches('/'));
            who.cgroup.is_some()
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // `runtime:id`, as rows have it, or the beginning of an id that people copy.
        let inside = |name: &str| {
            !id.is_empty()
                && (id == name
                    || container == name
                    || (name.len() >= super::SHORT_ID && id.starts_with(name)))
        };
        let owned = |name: &str| {
            (who.user.is_some() && user == name)
                || name.parse().is_ok_and(|uid: u32| who.uid == Some(uid))
        };
        (self.pids.is_empty() || self.pids.contains(&who.pid))
            && any(&self.comms, &|name| comm == name)
            && any(&self.cgroups, &below)
            && any(&self.containers, &inside)
            && any(&self.users, &owned)
    }
}

impl<'a> Run<'a> {
    /// Times of its samples: at least one.
    #[must_use]
    pub fn samples(&self) -> &'a [i64] {
        self.times
            .get(self.first..self.first + self.n)
            .unwrap_or_default()
    }

    /// Times of the first and the last sample.
    #[must_use]
    pub fn span(&self) -> (i64, i64) {
        let samples = self.samples();
        let first = samples.first().copied().unwrap_or_default();
        (first, samples.last().copied().unwrap_or(first))
    }
}

/// Consecutive samples of a memory cgroup that are all alike, cut to the wanted range.
#[derive(Clone, Copy, Debug)]
pub struct CgroupRun<'a> {
    /// Its path.
    pub path: Name<'a>,
    /// Its id (inode), which changes when it is made anew.
    pub id: u64,
    /// As with [`Run::part`].
    pub part: u64,
    /// As with [`Run::times`].
    pub times: &'a [i64],
    /// Its first sample's place in `times`.
    pub first: usize,
    /// How many samples.
    pub n: usize,
    /// One for each wanted figure, in their order.
    pub values: &'a [Option<i64>],
}

/// An hour of a process, summed up.
#[derive(Clone, Copy, Debug)]
pub struct Hour<'a> {
    /// Whose.
    pub who: Owner<'a>,
    /// Beginning of the hour (UTC).
    pub ts: i64,
    /// Samples.
    pub n: u64,
    /// Time of the first one.
    pub from_ms: i64,
    /// Time of the last one.
    pub to_ms: i64,
    /// One for each wanted figure, in their order; `n == 0`: unknown.
    pub sums: &'a [Sums],
}

/// A piece of what processes did.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Samples that are alike.
    Run(Run<'a>),
    /// A whole hour, summed up.
    Hour(Hour<'a>),
}

/// A figure over a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Samples that knew it.
    pub n: u64,
    /// Their sum: an average is `sum / n`.
    pub sum: i128,
    /// The least.
    pub min: i64,
    /// The most.
    pub max: i64,
    /// The first: its time, the value.
    pub first: (i64, i64),
    /// The last: its time, the value.
    pub last: (i64, i64),
}

impl Sums {
    /// Adds `n` equal samples from `from` to `to`.
    pub fn add(&mut self, value: i64, n: u64, from: i64, to: i64) {
        self.join(&Self {
            n,
            sum: i128::from(value) * i128::from(n),
            min: value,
            max: value,
            first: (from, value),
            last: (to, value),
        });
    }

    /// Adds another stretch of the same figure.
    pub fn join(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        if self.n == 0 {
            *self = *other;
            return;
        }
        self.n += other.n;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.first.0 < self.first.0 {
            self.first = other.first;
        }
        if other.last.0 >= self.last.0 {
            self.last = other.last;
        }
    }

    /// The average.
    #[must_use]
    pub fn avg(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum as f64 / self.n as f64)
    }
}
