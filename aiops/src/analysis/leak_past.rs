//! The past of a program as the null of its own leak: did it rise as much before, over as long a time, and was that
//! given back while it ran? What is given back is no leak; a restart gives nothing back. Pure functions over
//! earlier sizes, an hour (or another step) each.

use super::leak::Assessment;
use super::leak::shapes::Kind;
use super::leak_evidence::length;
use super::leak_report::stamp;
use crate::msg;
use crate::report::Msg;
use crate::report::leak::Alternative;
use crate::report::leak::LeakData;
use crate::report::leak::Past;
use crate::report::leak::PastRise;
use crate::report::size_kb;

/// A rise of this share of the growth that is judged is about as large.
const ALIKE: f64 = 0.75;
/// A rise of which this share was lost again was given back.
const BACK: f64 = 0.6;
/// A level that is above the highest one before by this share of the growth is new.
const NEW: f64 = 0.25;
/// A collection gives back what it gives back: rises must be larger by this.
const COLLECTION: f64 = 1.5;
/// Growth over fewer steps than this cannot be compared.
const FEWEST_STEPS: f64 = 3.0;
/// From here on the time of day may be known to the verdict, and must be the same where sizes are compared.
const WHOLE_DAY_S: f64 = 20.0 * 3600.0;
const DAY_S: f64 = 86_400.0;
/// How far from the same time of day.
const SAME_HOUR_S: f64 = 3.0 * 3600.0;
/// After so many times the length of a rise it is kept.
const KEPT: f64 = 2.0;
/// So many rises that were all given back are an answer, fewer are a doubt.
const ENOUGH: usize = 5;
/// A rise is steady when this share of all windows rose at half the rate or faster.
const STEADY: f64 = 0.9;
/// And they cover so many times the length.
const STEADY_SPAN: f64 = 3.0;
const KIB: f64 = 1024.0;

/// Sizes of one life before the growth that is judged, in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Course {
    /// Seconds since 1970, and KiB.
    pub points: Vec<(f64, f64)>,
}

/// The growth that is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// How much, KiB.
    pub kb: f64,
    /// In what time, seconds.
    pub over_s: f64,
    /// The level that it came to, KiB.
    pub level_kb: f64,
    /// What a collection gives back, KiB; 0: there are none.
    pub collection_kb: f64,
}

impl Growth {
    /// Of a verdict and its report, at the end of the series; `None`: it is no leak, or does not tell.
    #[must_use]
    pub fn of(found: &Assessment, data: &LeakData, end_s: f64) -> Option<Self> {
        let rate = data.rate_mib_per_hour.filter(|_| data.verdict == "leak")?;
        let onset_s = match found.shape.as_ref()?.kind {
            // The rate is that of the last piece.
            Kind::Broken { at } | Kind::Polyline { at, .. } => {
                end_s - (1.0 - at) * found.grid_span_s
            }
            _ => found.onset_s?,
        };
        let (over_s, held) = (end_s - onset_s, data.judged.as_ref()?);
        let (first_kb, level_kb) = (held.first_kb as f64, held.last_kb as f64);
        let fitted = rate * KIB * over_s / 3600.0;
        // Of steps and cycles the rate tells more than what was seen of one life.
        let kb = if found.from_all_lives {
            fitted
        } else {
            (level_kb - first_kb).max(0.5 * fitted).min(fitted)
        };
        Some(Self {
            kb,
            over_s,
            level_kb,
            collection_kb: data.collections_kb.unwrap_or(0.0),
        })
        .filter(|growth| growth.kb > 0.0 && over_s > 0.0)
    }

    /// The distances at which sizes are compared, seconds, the longest first.
    fn distances(&self, step_s: f64) -> Vec<f64> {
        let shares: &[f64] = if self.over_s < WHOLE_DAY_S {
            &[1.0, 0.75, 0.5]
        } else {
            &[1.0]
        };
        let mut out: Vec<f64> = shares.iter().map(|share| share * self.over_s).collect();
        // From day to day is as far as needed to leave the time of day out.
        if self.over_s > DAY_S + 2.0 * step_s {
            out.push(DAY_S);
        }
        out.retain(|distance| *distance >= 2.0 * step_s);
        out
    }
}

/// What one life adds.
#[derive(Debug, Default)]
struct Found {
    windows: usize,
    rising: usize,
    rises: usize,
    given_back: usize,
    kept: usize,
    last: Option<(f64, f64, f64, f64)>,
}

/// Place of the size at a time, at most half a step away.
fn at(points: &[(f64, f64)], time_s: f64, step_s: f64) -> Option<usize> {
    let place = points.partition_point(|(time, _)| *time < time_s - 0.5 * step_s);
    let (time, _) = points.get(place)?;
    ((time - time_s).abs() <= 0.75 * step_s).then_some(place)
}

/// Whether two moments are at about the same time of day.
fn same_time_of_day(one: f64, other: f64) -> bool {
    let apart = (one - other).abs() % DAY_S;
    apart.min(DAY_S - apart) <= SAME_HOUR_S
}

fn life(points: &[(f64, f64)], growth: &Growth, step_s: f64, found: &mut Found) {
    let least = (ALIKE * growth.kb).max(COLLECTION * growth.collection_kb);
    let distances = growth.distances(step_s);
    let by_day = growth.over_s >= WHOLE_DAY_S;
    // Every window: did it rise as now?
    for (time, kb) in points {
        let ends = distances.iter().find_map(|distance| {
            let place = at(points, time + distance, step_s)?;
            Some((points[place].1, distance / growth.over_s))
        });
        if let Some((end, share)) = ends {
            found.windows += 1;
            found.rising += usize::from(end - kb >= 0.5 * growth.kb * share);
        }
    }
    // Rises as large, one after the other.
    let mut from = 0;
    while let Some(&(begin_s, base)) = points.get(from) {
        let risen = distances.iter().rev().find_map(|distance| {
            let place = at(points, begin_s + distance, step_s)?;
            (points[place].1 - base >= least).then_some(place)
        });
        let Some(risen) = risen else {
            from += 1;
            continue;
        };
        found.rises += 1;
        let mut top = (begin_s, base);
        for point in &points[from..=risen] {
            if point.1 > top.1 {
                top = *point;
            }
        }
        let mut back = None;
        for (place, point) in points.iter().enumerate().skip(risen) {
            if point.1 > top.1 {
                top = *point;
            }
            let lost = point.1 <= top.1 - BACK * (top.1 - base);
            if lost && (!by_day || same_time_of_day(point.0, begin_s)) {
                back = Some(place);
                break;
            }
        }
        let Some(back) = back else {
            let left = points.last().map_or(0.0, |(end, _)| end - points[risen].0);
            found.kept += usize::from(left >= KEPT * growth.over_s);
            return;
        };
        found.given_back += 1;
        let back_s = points[back].0;
        if found.last.is_none_or(|last| last.3 < back_s) {
            found.last = Some((begin_s, top.0, top.1 - base, back_s));
        }
        from = back;
    }
}

/// What earlier courses say of a growth. `step_s`: distance of their points. `None`: nothing can be compared.
#[must_use]
pub fn past(growth: &Growth, courses: &[Course], step_s: f64) -> Option<Past> {
    if growth.over_s < FEWEST_STEPS * step_s {
        return None;
    }
    let mut found = Found::default();
    let (mut begin, mut most, mut seen_s) = (f64::INFINITY, 0.0_f64, 0.0);
    for course in courses {
        let points = &course.points;
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            continue;
        };
        begin = begin.min(first.0);
        seen_s += last.0 - first.0 + step_s;
        most = points.iter().fold(most, |most, (_, kb)| most.max(*kb));
        life(points, growth, step_s, &mut found);
    }
    let steady = found.given_back == 0
        && seen_s >= STEADY_SPAN * growth.over_s
        && found.rising as f64 >= STEADY * found.windows as f64;
    (found.windows > 0).then(|| Past {
        start: stamp(begin),
        seen_s,
        lives: courses.len(),
        rise_kb: kb(growth.kb),
        over_s: growth.over_s,
        windows: found.windows,
        rising: found.rising,
        rises: found.rises,
        given_back: found.given_back,
        kept: found.kept,
        last_given_back: found.last.map(|(begin_s, top_s, rise, back_s)| PastRise {
            start: stamp(begin_s),
            top: stamp(top_s),
            back: stamp(back_s),
            rise_kb: kb(rise),
        }),
        max_kb: kb(most),
        steady,
        verdict_alone: None,
    })
}

fn kb(value: f64) -> u64 {
    super::leak_report::kb(value * KIB)
}

/// Whether what was found takes the leak back: it rose as much before and gave it back at least as often as not, and
/// is not above what it held then.
fn takes_back(past: &Past, level_kb: f64) -> bool {
    let new = past.max_kb as f64 + NEW * past.rise_kb as f64;
    past.given_back > 0 && past.given_back >= past.kept && level_kb <= new
}

/// Lets the past speak: a leak that is like earlier rises that were given back is none that can be told, or none; one
/// that all the past shows is surer.
pub fn revise(data: &mut LeakData, growth: &Growth, mut past: Past) {
    if takes_back(&past, growth.level_kb) {
        let sure = past.given_back >= ENOUGH
            && past.given_back >= 4 * past.kept
            && growth.level_kb <= past.max_kb as f64;
        past.verdict_alone = Some(data.verdict);
        let chance = 1.0 / (past.given_back as f64 + 2.0);
        if sure {
            data.verdict = "no-leak";
            data.leak_probability = chance;
            data.confidence = 1.0 - chance;
            data.rate_mib_per_hour = Some(0.0);
        } else {
            data.verdict = "inconclusive";
            data.leak_probability = 0.5;
            data.confidence = 0.5;
        }
        data.rate_interval = None;
        data.onset = None;
        data.oom = None;
        let (en, zh) = (&data.reason.en, &data.reason.zh);
        let (times, words) = (past.given_back, times(past.given_back));
        data.reason = Msg::new(
            format!("{en}; but it rose as much {words} before and gave it back while it ran"),
            format!("{zh}；但此前有 {times} 次同样幅度的上升都在运行中回落"),
        );
    } else if past.steady {
        // Half of the doubt goes: it was seen before.
        data.confidence = 1.0 - 0.5 * (1.0 - data.confidence);
    }
    data.alternatives.push(alternative(&past));
    if let Some(evidence) = &mut data.evidence {
        evidence.past = Some(past);
    }
}

fn times(n: usize) -> String {
    match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

fn alternative(past: &Past) -> Alternative {
    let (seen, given) = (length(past.seen_s), past.given_back);
    let text = if given > 0 {
        msg!(
            "rise that is given back: {given} of {} in {seen} of its past",
            "会回落的上升：过去 {seen} 中 {} 次里有 {given} 次回落",
            past.rises
        )
    } else {
        msg!(
            "rise that is given back: none in {seen} of its past",
            "会回落的上升：过去 {seen} 中没有"
        )
    };
    Alternative {
        id: "past",
        ruled_out: Some(given == 0),
        bic_margin: None,
        r2: None,
        text,
    }
}

/// The past in words.
#[must_use]
pub fn lines(past: &Past) -> Vec<Msg> {
    let (over, seen) = (length(past.over_s), length(past.seen_s));
    let (rises, given, rise) = (past.rises, past.given_back, size_kb(past.rise_kb));
    let words = times(rises);
    let mut out = Vec::new();
    if past.steady {
        let windows = past.windows;
        out.push(msg!(
            "{} of {windows} earlier windows of {over} rose like this one: it has grown so for {seen} of its past",
            "此前 {windows} 个 {over} 的窗口中有 {} 个同样上升：在过去 {seen} 中一直如此增长",
            past.rising
        ));
    } else if rises == 0 {
        out.push(msg!(
            "in {seen} of its past it never rose by {rise} within {over}: this is new",
            "在过去 {seen} 中从未在 {over} 内上升 {rise}：这是新情况"
        ));
    } else {
        out.push(msg!(
            "in {seen} of its past it rose by about {rise} within {over} {words} and gave it back {given} of these times while it ran",
            "在过去 {seen} 中有 {rises} 次在 {over} 内上升约 {rise}，其中 {given} 次在运行中回落"
        ));
    }
    if let Some(last) = &past.last_given_back {
        let when = |time: &Option<String>| -> String {
            let text = time.as_deref().unwrap_or("?");
            text.chars().take(16).collect::<String>().replace('T', " ")
        };
        let (top, back) = (when(&last.top), when(&last.back));
        let rise = size_kb(last.rise_kb);
        out.push(msg!(
            "the last such rise: +{rise} up to {top}, given back by {back}",
            "最近一次：至 {top} 上升 {rise}，到 {back} 已回落"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::leak;
    use crate::analysis::leak::Series;
    use crate::analysis::leak_report;
    use crate::report::leak::Change;
    use crate::report::leak::Evidence;

    const HOUR: f64 = 3600.0;

    fn course(first_h: u32, hours: u32, mib: impl Fn(f64) -> f64) -> Course {
        let point = |hour: u32| {
            let hour = f64::from(hour);
            (hour * HOUR, mib(hour) * 1024.0)
        };
        Course {
            points: (first_h..first_h + hours).map(point).collect(),
        }
    }

    /// 10 MiB in 10 hours, up to a level.
    fn growth(level_mib: f64) -> Growth {
        Growth {
            kb: 10.0 * 1024.0,
            over_s: 10.0 * HOUR,
            level_kb: level_mib * 1024.0,
            collection_kb: 0.0,
        }
    }

    /// Up by 12 MiB and down again, every 30 hours.
    fn tide(hour: f64) -> f64 {
        106.0 - 6.0 * (hour / 30.0 * std::f64::consts::TAU).cos()
    }

    #[test]
    fn rises_that_were_given_back_are_counted_with_the_last_one() {
        let past = past(&growth(110.0), &[course(0, 120, tide)], HOUR).expect("a past");
        assert_eq!(
            (past.rises, past.given_back, past.kept),
            (4, 4, 0),
            "{past:?}"
        );
        assert_eq!((past.max_kb / 1024, past.steady), (112, false));
        let last = past.last_given_back.as_ref().expect("the last one");
        assert!(last.rise_kb >= 9 * 1024 && last.back > last.top && last.top > last.start);
        assert!(takes_back(&past, growth(110.0).level_kb));
        // Above all that it held before: that is new.
        assert!(!takes_back(&past, 116.0 * 1024.0));
        let said = lines(&past);
        assert!(
            said[0].en.contains("4 times and gave it back 4"),
            "{said:?}"
        );
        assert!(said[1].zh.contains("已回落"), "{said:?}");
    }

    #[test]
    fn a_leak_of_all_the_past_is_steady_and_a_restart_gives_nothing_back() {
        let leak = |hour: f64| 100.0 + hour % 40.0;
        let lives = [0, 40, 80].map(|first| course(first, 40, leak));
        let past = past(&growth(110.0), &lives, HOUR).expect("a past");
        assert_eq!(past.given_back, 0, "{past:?}");
        assert!(past.steady && past.rises == 3, "{past:?}");
        assert!(!takes_back(&past, growth(110.0).level_kb));
        assert!(lines(&past)[0].en.contains("rose like this one"));
    }

    #[test]
    fn a_leak_that_has_just_begun_stays_one() {
        // Level for days, with a wobble that is much smaller than the growth.
        let level = |hour: f64| 100.0 + (hour / 3.0).sin();
        let past = past(&growth(110.0), &[course(0, 120, level)], HOUR).expect("a past");
        assert_eq!((past.rises, past.steady), (0, false));
        assert!(!takes_back(&past, growth(110.0).level_kb));
        assert!(lines(&past)[0].zh.contains("新情况"));
    }

    #[test]
    fn the_time_of_day_is_left_out_where_a_day_is_judged() {
        // Every day up and down by 20 MiB; the growth that is judged took a day, and is beside that.
        let day = |hour: f64| 110.0 + 10.0 * (hour / 24.0 * std::f64::consts::TAU).sin();
        let growth = Growth {
            kb: 8.0 * 1024.0,
            over_s: 24.0 * HOUR,
            level_kb: 108.0 * 1024.0,
            collection_kb: 0.0,
        };
        let found = past(&growth, &[course(0, 240, day)], HOUR).expect("a past");
        assert_eq!((found.rises, found.given_back), (0, 0), "{found:?}");
        // Over half a day the same course is an answer.
        let half = Growth {
            over_s: 12.0 * HOUR,
            ..growth
        };
        let found = past(&half, &[course(0, 240, day)], HOUR).expect("a past");
        assert!(found.given_back >= 9 && takes_back(&found, half.level_kb));
    }

    #[test]
    fn what_collections_give_back_is_no_rise() {
        // Teeth of 12 MiB every 8 hours.
        let teeth = |hour: f64| 100.0 + 1.5 * (hour % 8.0);
        let plain = growth(108.0);
        let found = past(&plain, &[course(0, 120, teeth)], HOUR).expect("a past");
        assert!(found.given_back > 3, "{found:?}");
        let collected = Growth {
            collection_kb: 12.0 * 1024.0,
            ..plain
        };
        let found = past(&collected, &[course(0, 120, teeth)], HOUR).expect("a past");
        assert_eq!(found.rises, 0, "{found:?}");
    }

    #[test]
    fn too_coarse_or_too_short_a_past_says_nothing() {
        let brief = Growth {
            over_s: 2.5 * HOUR,
            ..growth(110.0)
        };
        assert_eq!(past(&brief, &[course(0, 120, tide)], HOUR), None);
        assert_eq!(past(&growth(110.0), &[course(0, 4, tide)], HOUR), None);
        assert_eq!(past(&growth(110.0), &[], HOUR), None);
    }

    fn judged() -> (LeakData, Growth) {
        let wobble = |i: u32| f64::from(i * 7919 % 13) * 4096.0;
        let series = Series {
            time_s: (0..600).map(|i| 1e6 + f64::from(i) * 60.0).collect(),
            bytes: (0..600)
                .map(|i| 1e8 + 17_476.0 * f64::from(i) + wobble(i))
                .collect(),
            ..Series::default()
        };
        let found = leak::assess(&series, None);
        let mut data = leak_report::data(&series, &found, None);
        data.judged = Some(Change {
            first_kb: 97_656,
            last_kb: 110 * 1024,
            change_pct: None,
        });
        data.evidence = Some(Evidence::default());
        let growth = Growth::of(&found, &data, 1e6 + 35_940.0).expect("it grows");
        (data, growth)
    }

    #[test]
    fn a_verdict_is_taken_back_with_its_reason_or_made_surer() {
        let (mut data, growth) = judged();
        assert!((growth.kb / 1024.0 - 10.0).abs() < 0.5, "{growth:?}");
        let sure = data.confidence;
        let doubt = past(&growth, &[course(0, 75, tide)], HOUR).expect("a past");
        revise(&mut data, &growth, doubt);
        assert_eq!((data.verdict, data.leak_probability), ("inconclusive", 0.5));
        assert!(data.reason.en.contains("rose as much"), "{:?}", data.reason);
        assert!(data.reason.zh.contains("回落"), "{:?}", data.reason);
        let past_of = |data: &LeakData| data.evidence.as_ref().and_then(|one| one.past.clone());
        let told = past_of(&data).expect("it is told");
        assert_eq!(told.verdict_alone, Some("leak"));
        assert!(data.oom.is_none() && data.onset.is_none());

        let (mut data, growth) = judged();
        let answer = past(&growth, &[course(0, 240, tide)], HOUR).expect("a past");
        revise(&mut data, &growth, answer);
        assert_eq!(
            (data.verdict, data.rate_mib_per_hour),
            ("no-leak", Some(0.0))
        );
        assert!(data.leak_probability < 0.15 && data.confidence > 0.85);

        let (mut data, growth) = judged();
        let steady = past(&growth, &[course(0, 100, |hour| 10.0 + hour)], HOUR);
        revise(&mut data, &growth, steady.expect("a past"));
        assert_eq!(data.verdict, "leak");
        assert!(data.confidence > sure, "{} {sure}", data.confidence);
        assert!(past_of(&data).is_some_and(|past| past.steady));
    }
}
