//! From samples to a grid of at most some hundred points: clock repaired, lives apart, peaks and collections
//! taken out.

use std::ops::Range;

use super::Series;
use super::robust::differences;
use super::robust::mad;
use super::robust::median;
use super::robust::median_of;
use super::robust::opening;
use super::robust::quantile;
use super::robust::whole;

/// Points of a grid.
pub const GRID: usize = 300;
/// A life with fewer samples says nothing by itself.
pub const FEWEST: usize = 20;
/// Most sudden changes of level that are events.
const EVENTS: usize = 3;
/// Share of a series that any peak may last, and that one may that has others of its kind.
const PEAK: f64 = 0.035;
const WIDE: f64 = 0.12;
/// Share of a life in which a program is loaded, and of what it holds behind that which it may not hold at first.
const LOADING: f64 = 0.02;
const LOADED: f64 = 0.7;

/// What the shapes are fitted to.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    /// Seconds since the begin of the window, or of each life.
    pub t: Vec<f64>,
    /// Bytes.
    pub y: Vec<f64>,
    /// Number of the life, or of the stretch between sudden changes of level: each has a level of its own.
    pub part: Vec<usize>,
    /// `part` counts lives, and `t` is the age in each.
    pub by_age: bool,
    /// Longest time.
    pub span: f64,
    /// Median of the samples, bytes.
    pub level: f64,
    /// Load and its integral over time.
    pub load: Option<(Vec<f64>, Vec<f64>)>,
    /// How far each collection goes down, when the series is a sawtooth: `y` holds its floors.
    pub collections: Option<f64>,
    /// Time and height of the tops of complete teeth.
    pub tops: Vec<(f64, f64)>,
    /// Peaks were taken out.
    pub peaks: bool,
    /// How much higher the last samples are than the first ones, bytes.
    pub risen: f64,
}

/// Times that go on: after a step back of the clock the median distance is taken to have passed. Returns them
/// and the number of steps.
#[must_use]
pub fn steady_times(times: &[f64]) -> (Vec<f64>, usize) {
    let steps = differences(times);
    let usual = if steps.iter().any(|step| *step < 0.0) {
        median_of(steps.iter().copied().filter(|step| *step > 0.0))
    } else {
        0.0
    };
    let mut at = 0.0;
    let mut backward = 0;
    let mut out = Vec::with_capacity(times.len());
    out.extend(times.first().map(|_| 0.0));
    for step in steps {
        if step < 0.0 {
            backward += 1;
            at += usual;
        } else {
            at += step;
        }
        out.push(at);
    }
    (out, backward)
}

/// Ranges of rows with the same start of the process.
#[must_use]
pub fn lives(series: &Series) -> Vec<Range<usize>> {
    let n = series.bytes.len();
    let Some(start) = &series.start_s else {
        return std::iter::once(0..n).collect();
    };
    let mut out = Vec::new();
    let mut begin = 0;
    for i in 1..n {
        // A start is computed from the clock of the boot, which drifts a little.
        if (start[i] - start[i - 1]).abs() > 1.5 {
            out.push(begin..i);
            begin = i;
        }
    }
    out.push(begin..n);
    out
}

/// Low points of a sawtooth: time, floor, and how high the tooth before the next drop is.
struct Tooth {
    at: usize,
    floor: f64,
    height: f64,
    /// The row of its top, when a drop follows.
    top: Option<usize>,
}

/// The teeth of a series that is collected from time to time, with its differences and their MAD; `None`: it is no
/// sawtooth.
fn teeth(y: &[f64], step: &[f64], mad: f64) -> Option<Vec<Tooth>> {
    let n = y.len();
    if n < FEWEST {
        return None;
    }
    let noise = mad + 1e-9;
    let width = (n / 8).max(8);
    let local: Vec<f64> = (0..n - 4)
        .step_by((n / 16).max(4))
        .map(|i| {
            let part = &y[i..(i + width).min(n)];
            let top = part.iter().copied().fold(f64::MIN, f64::max);
            top - part.iter().copied().fold(f64::MAX, f64::min)
        })
        .collect();
    let deep = 0.3 * median(&local);
    let mut drops: Vec<usize> = Vec::new();
    for (i, step) in step.iter().enumerate() {
        if *step < -6.0 * noise && *step < -deep && drops.last().is_none_or(|last| i - last > 2) {
            drops.push(i);
        }
    }
    // Collections fall at once and rise slowly; noise and peaks do both.
    let rises = step.iter().filter(|s| **s > 6.0 * noise && **s > deep);
    let usual = drops.len() >= 6 && rises.count() * 2 <= drops.len();
    let many = usual.then(|| teeth_between(y, &drops)).flatten();
    many.filter(|teeth| teeth.len() >= 6).or_else(|| {
        let few = teeth_between(y, &own_drops(y, noise))?;
        (few.len() >= 3).then_some(few)
    })
}

/// The teeth after each of these drops.
fn teeth_between(y: &[f64], drops: &[usize]) -> Option<Vec<Tooth>> {
    let n = y.len();
    let lengths: Vec<f64> = drops
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64)
        .collect();
    let usual = median(&lengths);
    let mut out = Vec::new();
    for (k, &drop) in drops.iter().enumerate() {
        let end = drops.get(k + 1).map_or(n, |next| next + 1);
        let part = &y[drop + 1..end];
        if part.len() < 2 || (end == n && (part.len() as f64) < 0.5 * usual) {
            continue;
        }
        let head = &part[..part.len().div_ceil(4)];
        let lowest = (0..head.len()).min_by(|&a, &b| head[a].total_cmp(&head[b]))?;
        let highest = (0..part.len()).max_by(|&a, &b| part[a].total_cmp(&part[b]))?;
        out.push(Tooth {
            at: drop + 1 + lowest,
            floor: head[lowest],
            height: part[highest] - head[lowest],
            top: (end < n).then_some(drop + 1 + highest),
        });
    }
    Some(out)
}

/// Drops that give back most of what came since the last one: the teeth may be few, and grow. None, when the series
/// also jumps up, or rises by fits and starts.
fn own_drops(y: &[f64], noise: f64) -> Vec<usize> {
    let mut drops: Vec<usize> = Vec::new();
    let mut heights = Vec::new();
    let (mut low, mut high, mut since) = (y[0], y[0], 0);
    for i in 0..y.len() - 1 {
        high = high.max(y[i]);
        low = low.min(y[i]);
        let (height, fall) = (high - low, y[i] - y[i + 1]);
        let slow = i - since >= 5;
        if fall > 8.0 * noise && fall > 0.45 * height && height > 20.0 * noise && slow {
            // The first tooth may have begun before the series.
            drops.push(i);
            heights.push(height);
            (low, high, since) = (y[i + 1], y[i + 1], i + 1);
        }
    }
    let usual = median(&heights);
    let jumps = y.windows(2).filter(|pair| pair[1] - pair[0] > 0.35 * usual);
    // Between drops memory must come steadily.
    let even = drops.windows(2).filter(|pair| {
        let part = &y[pair[0] + 1..=pair[1]];
        straight(part) > 0.85
    });
    if even.count() * 3 < drops.len().saturating_sub(1) * 2 || jumps.count() * 3 > drops.len() {
        drops.clear();
    }
    drops
}

/// R² of a straight line through values at equal distances; 0 of a falling one.
fn straight(y: &[f64]) -> f64 {
    let n = y.len() as f64;
    let (mean_x, mean) = ((n - 1.0) / 2.0, y.iter().sum::<f64>() / n);
    let along = |(i, y): (usize, &f64)| (i as f64 - mean_x) * (y - mean);
    let along: f64 = y.iter().enumerate().map(along).sum();
    let total: f64 = y.iter().map(|y| (y - mean) * (y - mean)).sum();
    let square = n * (n * n - 1.0) / 12.0;
    if along <= 0.0 || total <= 0.0 {
        return 0.0;
    }
    along * along / square / total
}

/// How long peaks last that come down again, in samples; `None`: there are not three of them.
fn peaks(y: &[f64], step: &[f64], mad: f64) -> Option<usize> {
    let noise = mad + 1e-9;
    let most = (quantile(y, 0.95) - quantile(y, 0.05)).max(0.0);
    let far = (8.0 * noise).max(0.02 * most);
    let mut widths = Vec::new();
    let mut rose = None;
    let (mut ups, mut downs) = (0, 0);
    for (i, step) in step.iter().enumerate() {
        if *step > far {
            ups += 1;
            rose = rose.or(Some(i));
        } else if *step < -far {
            downs += 1;
            widths.extend(rose.take().map(|begin| (i - begin) as f64));
        }
    }
    (ups >= 3 && downs >= 3).then(|| whole(quantile(&widths, 0.9)))
}

/// The rows that are no part of a peak. The rest keeps its noise, which an opening would turn into stairs.
fn below_peaks(y: &[f64], longest: usize, mad: f64) -> Vec<usize> {
    let n = y.len();
    let least = whole(n as f64 * PEAK);
    let window = (longest + longest / 5).clamp(least, whole(n as f64 * WIDE).max(least)) | 1;
    let low = opening(y, window);
    let above: Vec<f64> = y.iter().zip(&low).map(|(y, low)| y - low).collect();
    let far = (8.0 * mad).max(3.0 * median(&above));
    (0..n).filter(|&i| above[i] <= far).collect()
}

/// Local straight lines through `2 × half + 1` neighbours.
#[must_use]
pub fn smooth(values: &[f64], half: usize) -> Vec<f64> {
    let n = values.len();
    let mut sums = vec![(0.0, 0.0)];
    for (i, value) in values.iter().enumerate() {
        let (plain, weighted) = sums[i];
        sums.push((plain + value, weighted + value * i as f64));
    }
    (0..n)
        .map(|i| {
            let (from, to) = (i.saturating_sub(half), (i + half + 1).min(n));
            let count = (to - from) as f64;
            let middle = (from + to - 1) as f64 / 2.0;
            let spread = (count * count - 1.0) / 12.0;
            let mean = (sums[to].0 - sums[from].0) / count;
            let along = (sums[to].1 - sums[from].1) / count - middle * mean;
            let slope = if spread > 0.0 { along / spread } else { 0.0 };
            mean + slope * (i as f64 - middle)
        })
        .collect()
}

/// Means of at most `most` stretches of equal duration, for each of `columns`.
fn binned(t: &[f64], columns: &[&[f64]], most: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let (Some(&begin), Some(&end)) = (t.first(), t.last()) else {
        return (Vec::new(), vec![Vec::new(); columns.len()]);
    };
    let width = ((end - begin) / most as f64).max(1e-9);
    let mut times = Vec::new();
    let mut out = vec![Vec::new(); columns.len()];
    let mut from = 0;
    while from < t.len() {
        let bin = |i: usize| whole((t[i] - begin) / width).min(most - 1);
        let (own, mut to) = (bin(from), from + 1);
        while to < t.len() && bin(to) == own {
            to += 1;
        }
        let mean = |column: &[f64]| column[from..to].iter().sum::<f64>() / (to - from) as f64;
        times.push(mean(t));
        for (out, column) in out.iter_mut().zip(columns) {
            out.push(mean(column));
        }
        from = to;
    }
    (times, out)
}

/// The integral of the load over time, by trapezes.
fn integral(t: &[f64], load: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let mut out = Vec::with_capacity(t.len());
    for i in 0..t.len() {
        if i > 0 {
            sum += (load[i] + load[i - 1]) / 2.0 * (t[i] - t[i - 1]);
        }
        out.push(sum);
    }
    out
}

/// Samples that stand alone, far from both neighbours, which agree: they take the mean of the neighbours. Also the
/// differences of what comes out, and their MAD.
#[must_use]
pub fn without_outliers(y: &[f64]) -> (Vec<f64>, Vec<f64>, f64) {
    let step = differences(y);
    let usual = mad(&step);
    let far = 5.0 * usual;
    let mut out = y.to_vec();
    let mut any = false;
    for i in 1..y.len().saturating_sub(1) {
        let (before, after) = (y[i] - out[i - 1], y[i] - y[i + 1]);
        let least = before.abs().min(after.abs());
        let agree = (y[i + 1] - out[i - 1]).abs() < 0.4 * least;
        if before * after > 0.0 && least > far && agree {
            out[i] = f64::midpoint(out[i - 1], y[i + 1]);
            any = true;
        }
    }
    if !any {
        return (out, step, usual);
    }
    let step = differences(&out);
    let usual = mad(&step);
    (out, step, usual)
}

/// How many rows at the begin show a program that is being loaded: it takes much of what it needs at once, and that
/// jump would be most of what there is to explain. A warm-up that goes on behind them is none.
fn loading(bytes: &[f64]) -> usize {
    let rows = whole(LOADING * bytes.len() as f64).max(1);
    let (Some(first), Some(then), Some(later)) =
        (bytes.first(), bytes.get(rows), bytes.get(2 * rows))
    else {
        return 0;
    };
    let jump = then - first;
    if *first < LOADED * then && later - then < 0.3 * jump {
        rows
    } else {
        0
    }
}

/// The grid of one life; `t` counts from its first row.
#[must_use]
pub fn grid(t: &[f64], bytes: &[f64], load: Option<&[f64]>, most: usize) -> Grid {
    let skip = loading(bytes);
    let (t, bytes) = (&t[skip..], &bytes[skip..]);
    let load = load.map(|load| &load[skip..]);
    let n = t.len();
    let span = t.last().copied().unwrap_or(0.0);
    let level = median(bytes);
    let (bytes, step, usual) = &without_outliers(bytes);
    let load = load.map(|load| (load.to_vec(), integral(t, load)));
    let few = (n / 20).max(1).min(n);
    let mut grid = Grid {
        span,
        level,
        risen: median(&bytes[n - few..]) - median(&bytes[..few]),
        ..Grid::default()
    };
    let columns_of = |y: &[f64], load: &Option<(Vec<f64>, Vec<f64>)>, t: &[f64]| {
        let mut columns: Vec<&[f64]> = vec![y];
        if let Some((level, integral)) = load {
            columns.extend([level.as_slice(), integral.as_slice()]);
        }
        if t.len() > most {
            binned(t, &columns, most)
        } else {
            (t.to_vec(), columns.iter().map(|c| c.to_vec()).collect())
        }
    };
    let (times, mut columns) = if let Some(teeth) = teeth(bytes, step, *usual) {
        let heights: Vec<f64> = teeth.iter().map(|tooth| tooth.height).collect();
        grid.collections = Some(median(&heights));
        let tops = teeth.iter().filter_map(|tooth| tooth.top);
        grid.tops = tops.map(|row| (t[row], bytes[row])).collect();
        let pick = |values: &[f64]| teeth.iter().map(|tooth| values[tooth.at]).collect();
        let times: Vec<f64> = pick(t);
        let floors: Vec<f64> = teeth.iter().map(|tooth| tooth.floor).collect();
        let load = load.map(|(level, sum)| (pick(&smooth(&level, (n / 40).max(2))), pick(&sum)));
        columns_of(&floors, &load, &times)
    } else if let Some(longest) = peaks(bytes, step, *usual) {
        grid.peaks = true;
        let rows = below_peaks(bytes, longest, *usual);
        let pick = |values: &[f64]| rows.iter().map(|&i| values[i]).collect::<Vec<f64>>();
        let load = load.map(|(level, sum)| (pick(&level), pick(&sum)));
        columns_of(&pick(bytes), &load, &pick(t))
    } else {
        columns_of(bytes, &load, t)
    };
    if columns.len() == 3 {
        let sum = columns.pop().unwrap_or_default();
        grid.load = columns.pop().map(|level| (level, sum));
    }
    grid.y = columns.pop().unwrap_or_default();
    grid.t = times;
    cut_events(&mut grid);
    grid
}

/// Takes the rows out in which the level changes suddenly (a deploy, a cache that is loaded): what is before and
/// after has levels of its own. Noise that follows a trend could else explain the trend for the sake of the jump.
/// More than a few changes are no events, but the way in which this memory moves.
fn cut_events(grid: &mut Grid) {
    let n = grid.y.len();
    grid.part = vec![0; n];
    if n < 2 * FEWEST || grid.collections.is_some() {
        return;
    }
    let step = differences(&grid.y);
    let usual = median(&step);
    let range = quantile(&grid.y, 0.98) - quantile(&grid.y, 0.02);
    let sigma = mad(&step).max(0.0005 * grid.level).max(0.002 * range);
    let mut events: Vec<Range<usize>> = Vec::new();
    let mut i = 0;
    while i < step.len() {
        let sign = (step[i] - usual).signum();
        let begin = i;
        while i < step.len() && (step[i] - usual) * sign > 5.0 * sigma {
            i += 1;
        }
        if i == begin {
            i += 1;
            continue;
        }
        let jump = (grid.y[i] - grid.y[begin]).abs();
        if jump > 20.0 * sigma && jump > 0.03 * grid.level {
            events.push(begin..i);
        }
    }
    let short = |event: &Range<usize>| event.len() <= (n / 20).max(2);
    if let Some(off) = between_pulses(&grid.y, &events) {
        keep_rows(grid, &off);
        grid.part = vec![0; grid.t.len()];
        grid.peaks = true;
        return;
    }
    // What a process takes when it starts, and a jump that is not followed by anything, say nothing of growth.
    let begin = events
        .iter()
        .filter(|event| event.start < 5 && event.end <= 6);
    let begin = begin.map(|event| event.end).max().unwrap_or(0);
    let tail = events.iter().filter(|event| event.end + 5 >= n);
    let tail = tail.map(|event| event.start + 1).min().unwrap_or(n);
    // Memory that falls back to where it has been, or below, was given back: that is no new level. Where it is higher
    // in the end than before, it grows in spite of that.
    let last = median(&grid.y[n - (n / 40).max(3)..]);
    let given_back = |event: &Range<usize>| {
        let before = grid.y[..=event.start]
            .iter()
            .copied()
            .fold(f64::MAX, f64::min);
        let after = grid.y[event.end];
        let top = grid.y[event.start];
        after < top && after - before < 0.1 * range && last < top + 0.1 * (top - after)
    };
    events.retain(|event| event.start >= 5 && event.end + 5 < n);
    if events.len() > EVENTS || !events.iter().all(short) || events.iter().any(given_back) {
        events.clear();
    }
    if events.is_empty() && begin == 0 && tail == n {
        return;
    }
    // The rows between the first and the last of a change belong to neither level.
    let mut keep = vec![true; n];
    keep[..begin].fill(false);
    keep[tail..].fill(false);
    for event in &events {
        keep[event.start + 1..event.end].fill(false);
        for part in &mut grid.part[event.end..] {
            *part += 1;
        }
    }
    keep_rows(grid, &keep);
}

/// Takes out the rows that are not kept.
fn keep_rows(grid: &mut Grid, keep: &[bool]) {
    let filter = |values: &mut Vec<f64>| {
        let mut kept = keep.iter();
        values.retain(|_| kept.next().copied().unwrap_or(true));
    };
    filter(&mut grid.t);
    filter(&mut grid.y);
    if let Some((level, sum)) = &mut grid.load {
        filter(level);
        filter(sum);
    }
    let mut kept = keep.iter();
    grid.part.retain(|_| kept.next().copied().unwrap_or(true));
}

/// Jobs that take memory for a while, and last for a large part of the time: the rows between them. A jump down that
/// is about as large as the last one up ends a job; what it leaves behind stays. `None`: there are not three jobs,
/// or they leave too few rows.
fn between_pulses(y: &[f64], events: &[Range<usize>]) -> Option<Vec<bool>> {
    let n = y.len();
    let mut off = vec![true; n];
    let mut open: Vec<(usize, f64)> = Vec::new();
    let (mut pulses, mut others) = (0, 0);
    for event in events {
        let jump = y[event.end] - y[event.start];
        if jump > 0.0 {
            open.push((event.start + 1, jump));
            continue;
        }
        let fits = |up: f64| (jump + up).abs() < 0.45 * up;
        if let Some(place) = open.iter().rposition(|(_, up)| fits(*up)) {
            let (begin, _) = open.remove(place);
            off[begin..event.end].fill(false);
            pulses += 1;
        } else {
            others += 1;
        }
    }
    // The last job may not have ended; a jump up before that stays is another level.
    if let Some((begin, _)) = open.pop().filter(|(begin, _)| (n - begin) * 8 < n) {
        off[begin..].fill(false);
    }
    let left = off.iter().filter(|off| **off).count();
    let clear = pulses >= 3 && pulses > 2 * (others + open.len());
    (clear && left >= FEWEST.max(n / 6)).then_some(off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_step_does_not_turn_time_back() {
        let (times, steps) = steady_times(&[0.0, 10.0, 20.0, 5.0, 15.0, 25.0]);
        assert_eq!(times, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(steps, 1);
    }

    #[test]
    fn what_a_program_is_loaded_with_is_left_out_and_a_warm_up_is_not() {
        let jump: Vec<f64> = (0..200)
            .map(|i| if i < 3 { 10.0 } else { 100.0 } + 0.1 * f64::from(i))
            .collect();
        assert_eq!(loading(&jump), 4);
        let warm_up: Vec<f64> = (0..200)
            .map(|i| 100.0 * (1.0 - (-f64::from(i) / 20.0).exp()))
            .collect();
        assert_eq!(loading(&warm_up), 0);
        let line: Vec<f64> = (0..200).map(f64::from).collect();
        assert_eq!(loading(&line), 0);
        assert_eq!(loading(&[1.0, 9.0]), 0);
    }

    #[test]
    fn a_sawtooth_gives_its_floors() {
        let y: Vec<f64> = (0..200).map(|i| 100.0 + f64::from(i % 20) * 3.0).collect();
        let t: Vec<f64> = (0..200).map(f64::from).collect();
        let grid = grid(&t, &y, None, GRID);
        assert!(grid.collections.is_some());
        assert!(grid.y.iter().all(|y| *y == 100.0), "{:?}", grid.y);
    }

    #[test]
    fn local_lines_leave_a_line_alone() {
        let line: Vec<f64> = (0..30).map(|i| f64::from(i) * 2.0 + 1.0).collect();
        let smooth = smooth(&line, 4);
        for (a, b) in line.iter().zip(&smooth) {
            assert!((a - b).abs() < 1e-9, "{line:?} {smooth:?}");
        }
    }
}
