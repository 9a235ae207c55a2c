//! What programs held before: an hour of them (or a shorter step) is a point. Hours that the store has summed up
//! already cost next to nothing.

use std::collections::HashMap;
use std::collections::HashSet;

use super::Figures;
use super::Measure;
use super::Subject;
use super::judged;
use super::program;
use crate::analysis::leak_past::Course;
use crate::model::Owner;
use crate::model::Piece;
use crate::model::Range;
use crate::model::Sums;
use crate::store::Ask;
use crate::store::Store;
use crate::store::StoreError;

/// What makes the judged memory.
const FIELDS: [&str; 3] = ["rss_kb", "anon_kb", "swap_kb"];
/// An hour is what a store sums up.
const HOUR_MS: i64 = 3_600_000;

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Whose past.
    pub subject: &'a Subject,
    /// Lives in the window that are known to be of the same program.
    pub earlier: &'a [&'a Subject],
}

/// Boot, pid, start.
type Key = (Option<String>, u32, u64);

/// A life while it is read.
struct Track {
    comm: Option<String>,
    cgroup: Option<String>,
    user: Option<String>,
    measure: Measure,
    /// Number of the step, sum, and samples.
    steps: Vec<(i64, f64, f64)>,
}

fn text(name: Option<crate::model::Name<'_>>) -> Option<String> {
    name.map(|name| name.text.to_owned())
}

fn key(who: &Owner<'_>) -> Key {
    (text(who.boot), who.pid, who.start)
}

fn key_of(subject: &Subject) -> Key {
    let who = &subject.who;
    (who.boot.clone(), who.pid, who.start_ticks)
}

impl Track {
    fn add(&mut self, step: i64, sum: f64, n: f64) {
        match self.steps.last_mut() {
            Some(last) if last.0 == step => {
                last.1 += sum;
                last.2 += n;
            }
            _ => self.steps.push((step, sum, n)),
        }
    }

    /// The means of all steps, at their middle.
    fn course(&mut self, step_s: f64) -> Course {
        self.steps.sort_by_key(|(step, ..)| *step);
        let mut points: Vec<(f64, f64)> = Vec::with_capacity(self.steps.len());
        for together in self.steps.chunk_by(|one, other| one.0 == other.0) {
            let (sum, n) = together
                .iter()
                .fold((0.0, 0.0), |(sum, n), one| (sum + one.1, n + one.2));
            let step = together.first().map_or(0, |one| one.0);
            points.push(((step as f64 + 0.5) * step_s, sum / n));
        }
        Course { points }
    }
}

fn figures(value: impl Fn(usize) -> Option<u64>) -> Figures {
    Figures {
        rss_kb: value(0),
        anon_kb: value(1),
        swap_kb: value(2),
        ..Figures::default()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes in KiB are not below 0, and far below the largest integer"
)]
fn average(sums: &Sums) -> Option<u64> {
    sums.avg().filter(|kb| *kb >= 0.0).map(|kb| kb as u64)
}

/// Earlier courses of each program, its own among them, in steps of `step_ms`. The courses of others are of lives that
/// had ended when it began: what runs beside it is no past.
///
/// # Errors
/// The store is not there, or may not be read.
pub fn past(
    store: &Store,
    range: Range,
    step_ms: i64,
    looks: &[Look<'_>],
) -> Result<Vec<Vec<Course>>, StoreError> {
    let wanted: HashSet<&str> = (looks.iter())
        .filter_map(|look| look.subject.who.comm.as_deref())
        .collect();
    let pids: HashSet<u32> = looks.iter().map(|look| look.subject.who.pid).collect();
    let ask = Ask {
        range,
        fields: &FIELDS,
        pids: &[],
        programs: false,
    };
    let mut tracks: HashMap<Key, Track> = HashMap::new();
    let keep = |who: &Owner<'_>| {
        who.comm.is_some_and(|comm| wanted.contains(comm.text)) || pids.contains(&who.pid)
    };
    store.pieces(&ask, step_ms >= HOUR_MS, &mut |piece| {
        let (who, found) = match piece {
            Piece::Hour(hour) => (
                &hour.who,
                judged(&figures(|at| hour.sums.get(at).and_then(average)), false),
            ),
            Piece::Run(run) => {
                let value = |at: usize| u64::try_from(run.values.get(at).copied().flatten()?).ok();
                (&run.who, judged(&figures(value), false))
            }
        };
        let Some((kb, measure)) = found.filter(|_| keep(who)) else {
            return;
        };
        let track = tracks.entry(key(who)).or_insert_with(|| Track {
            comm: text(who.comm),
            cgroup: text(who.cgroup),
            user: text(who.user),
            measure,
            steps: Vec::new(),
        });
        if track.measure != measure {
            return;
        }
        let kb = kb as f64;
        match piece {
            Piece::Hour(hour) => {
                let n = hour.n as f64;
                track.add(hour.ts.div_euclid(step_ms), kb * n, n);
            }
            Piece::Run(run) => {
                for ts in run.samples() {
                    track.add(ts.div_euclid(step_ms), kb, 1.0);
                }
            }
        }
    })?;
    let step_s = step_ms as f64 / 1000.0;
    let mut courses: HashMap<Key, Course> = HashMap::new();
    for (key, track) in &mut tracks {
        courses.insert(key.clone(), track.course(step_s));
    }
    Ok(looks
        .iter()
        .map(|look| of(look, &tracks, &courses, step_s))
        .collect())
}

/// The courses that are of one program.
fn of(
    look: &Look<'_>,
    tracks: &HashMap<Key, Track>,
    courses: &HashMap<Key, Course>,
    step_s: f64,
) -> Vec<Course> {
    let (subject, who) = (look.subject, &look.subject.who);
    let own = key_of(subject);
    let known: HashSet<Key> = look.earlier.iter().map(|one| key_of(one)).collect();
    // Hours do not tell which script an interpreter ran.
    let by_name = !program::is_interpreter(who);
    let same = |one: &Option<String>, other: &Option<String>| {
        one.is_none() || other.is_none() || one == other
    };
    let mut out: Vec<Course> = Vec::new();
    for (key, track) in tracks {
        let (Some(course), true) = (courses.get(key), track.measure == subject.measure) else {
            continue;
        };
        if *key == own {
            let before = |point: &&(f64, f64)| point.0 + 0.5 * step_s <= subject.first_s;
            let points: Vec<(f64, f64)> = course.points.iter().filter(before).copied().collect();
            out.push(Course { points });
            continue;
        }
        let ended = course
            .points
            .last()
            .is_some_and(|(last, _)| last - 0.5 * step_s <= subject.started_s);
        let alike = known.contains(key)
            || by_name
                && track.comm == who.comm
                && who.comm.is_some()
                && same(&track.cgroup, &who.cgroup)
                && same(&track.user, &who.user);
        if ended && alike {
            out.push(course.clone());
        }
    }
    out.retain(|course| !course.points.is_empty());
    out.sort_by(|one, other| {
        let first = |course: &Course| course.points.first().map_or(0.0, |point| point.0);
        first(one).total_cmp(&first(other))
    });
    out
}
