use super::*;
use crate::analysis::leak::assess;

fn series(rate: f64) -> Series {
    let time_s: Vec<f64> = (0..200).map(|i| 1.7e9 + f64::from(i) * 60.0).collect();
    let wobble = |i: usize| f64::from(u32::try_from(i * 7919 % 13).unwrap_or(0)) * 4096.0;
    Series {
        bytes: (0..200)
            .map(|i| 1e8 + rate * i as f64 * 60.0 + wobble(i))
            .collect(),
        time_s,
        ..Series::default()
    }
}

#[test]
fn a_leak_is_told_with_rate_and_end() {
    let rate = 10.0 * MIB / HOUR;
    let series = series(rate);
    let found = assess(&series, Some(1e9));
    let data = data(&series, &found, Some((1_000_000_000, "option")));
    assert_eq!(data.verdict, "leak", "{:?}", data.reason);
    let told = data.rate_mib_per_hour.expect("a rate");
    assert!((told - 10.0).abs() < 0.2, "{told}");
    let oom = data.oom.as_ref().expect("an end");
    let hours = (1e9 - 1e8) / MIB / 10.0 - 199.0 / 60.0;
    assert!((oom.hours / hours - 1.0).abs() < 0.05, "{oom:?} {hours}");
    assert!(oom.at.is_some());
    assert_eq!(findings(&data).len(), 1);
}

#[test]
fn level_memory_is_no_finding() {
    let series = series(0.0);
    let data = data(&series, &assess(&series, None), None);
    assert_eq!(data.verdict, "no-leak", "{:?}", data.reason);
    assert!(data.oom.is_none() && findings(&data).is_empty());
}
