use super::*;

fn figures(time_s: f64, anon_kb: u64, swap_kb: u64) -> Figures {
    Figures {
        time_s,
        rss_kb: Some(anon_kb + 10),
        anon_kb: Some(anon_kb),
        swap_kb: Some(swap_kb),
        ..Figures::default()
    }
}

fn who(pid: u32, start_ticks: u64, comm: &str) -> Who {
    Who {
        pid,
        start_ticks,
        comm: Some(comm.to_owned()),
        ..Who::default()
    }
}

/// A process at every tick from `first` on: 10 s apart, one KiB more each.
fn grown(builder: &mut Builder, pid: u32, start: u64, ticks: std::ops::Range<u32>) {
    for tick in ticks {
        let values = figures(f64::from(tick) * 10.0, u64::from(tick), 0);
        builder.samples((0, pid, start), tick, 1, &values, || who(pid, start, "a"));
    }
}

#[test]
fn runs_become_samples_and_swap_counts() {
    let mut builder = Builder::new(1000);
    let first = builder.ticks((0..6).map(f64::from));
    assert_eq!(first, 0);
    builder.samples((0, 7, 50), 1, 3, &figures(1.0, 100, 20), || who(7, 50, "a"));
    builder.samples((0, 7, 50), 4, 2, &figures(4.0, 100, 20), || who(7, 50, "a"));
    let subjects = builder.finish(&|_| Some(0.25));
    let series = subjects[0].series();
    assert_eq!(series.time_s, [1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(series.bytes, [122_880.0; 5]);
    // 50 ticks after the beginning of its boot.
    assert_eq!(series.start_s, Some(vec![0.75; 5]));
    assert_eq!(subjects[0].measure, Measure::AnonSwap);
    assert_eq!((subjects[0].samples, subjects[0].at_end), (5, true));
    assert_eq!(subjects[0].judged_kb(), Some((120, 120)));
    assert_eq!(subjects[0].ends().map(|(_, last)| last.time_s), Some(5.0));
}

#[test]
fn too_many_samples_are_thinned_evenly_however_they_come() {
    let series = |step: u32| {
        let mut builder = Builder::new(100);
        for begin in (0..1000).step_by(place(step)) {
            builder.ticks((begin..begin + step).map(|tick| f64::from(tick) * 10.0));
            grown(&mut builder, 1, 1, begin..begin + step);
        }
        let subjects = builder.finish(&|_| None);
        assert_eq!(subjects[0].samples, 1000);
        assert_eq!(subjects[0].stride(), 16);
        subjects[0].series()
    };
    let (one, all) = (series(1), series(1000));
    assert_eq!(one.bytes, all.bytes);
    assert_eq!(one.time_s, all.time_s);
    assert_eq!(one.bytes.len(), 63);
    assert!(one.time_s.windows(2).all(|pair| pair[1] - pair[0] == 160.0));
}

#[test]
fn anonymous_memory_stands_before_resident_memory() {
    let mut builder = Builder::new(100);
    builder.ticks((0..3).map(f64::from));
    let old = Figures {
        rss_kb: Some(900),
        ..Figures::default()
    };
    for (tick, values) in [(0, old), (1, figures(1.0, 50, 0)), (2, old)] {
        builder.samples((0, 1, 1), tick, 1, &values, || who(1, 1, "a"));
    }
    let subjects = builder.finish(&|_| None);
    assert_eq!(subjects[0].series().bytes, [51_200.0]);
    assert_eq!(
        (subjects[0].samples, subjects[0].measure.id()),
        (1, "anon+swap")
    );
    assert!(!subjects[0].at_end);
}

#[test]
fn the_first_and_the_last_figures_are_kept() {
    let mut builder = Builder::new(100_000);
    builder.ticks((0..5000).map(|tick| f64::from(tick) * 10.0));
    grown(&mut builder, 1, 1, 0..5000);
    let subjects = builder.finish(&|_| None);
    let kept = &subjects[0].figures;
    assert!(
        kept.len() <= 2 * FIGURES + 1 && kept.len() > FIGURES,
        "{}",
        kept.len()
    );
    let (first, last) = subjects[0].ends().expect("figures");
    assert_eq!((first.time_s, last.time_s), (0.0, 49_990.0));
    assert_eq!(last.anon_kb, Some(4999));
}

#[test]
fn lives_follow_one_another_and_siblings_do_not() {
    let mut builder = Builder::new(1000);
    builder.ticks((0..400).map(|tick| f64::from(tick) * 10.0));
    grown(&mut builder, 10, 1000, 0..100);
    grown(&mut builder, 20, 102_000, 102..200);
    grown(&mut builder, 30, 205_000, 205..400);
    let all = builder.finish(&|_| None);
    let pids = |list: &[&Subject]| list.iter().map(|one| one.who.pid).collect::<Vec<_>>();
    let all: Vec<&Subject> = all.iter().collect();
    let last = *all.last().expect("a subject");
    let before = earlier(&all, last);
    assert_eq!(pids(&before), [10, 20]);
    assert!(siblings(&all, last).is_empty());
    let series = joined(&before, last);
    assert_eq!(crate::analysis::leak::prepare::lives(&series).len(), 3);

    // One that ran beside them all the time: none is the successor of another.
    let mut builder = Builder::new(1000);
    builder.ticks((0..400).map(|tick| f64::from(tick) * 10.0));
    grown(&mut builder, 10, 1000, 0..100);
    grown(&mut builder, 30, 205_000, 205..400);
    grown(&mut builder, 40, 1001, 0..400);
    let all = builder.finish(&|_| None);
    let all: Vec<&Subject> = all.iter().collect();
    let last = *all.iter().find(|one| one.who.pid == 30).expect("it");
    assert!(earlier(&all, last).is_empty());
    assert_eq!(pids(&siblings(&all, last)), [40]);
}
