//! Two ranges beside each other.

use std::collections::BTreeMap;

use crate::GroupRow;

/// A group in two ranges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiffRow {
    /// What it is, one for each key.
    pub keys: Vec<Option<String>>,
    /// In the earlier range; `None`: no process of it was there.
    pub before: Option<GroupRow>,
    /// In the later range; `None`: no process of it was there.
    pub after: Option<GroupRow>,
    /// How much larger its average total is in the later range; a group that is not there has 0. `None`: an
    /// average is not known.
    pub growth: Option<f64>,
    /// Its part of the growth of all groups that grew, 0 to 1; `None`: it did not grow.
    pub share: Option<f64>,
}

/// Puts the groups of two ranges together: what grew most comes first, what is not known last.
#[must_use]
pub fn diff(before: Vec<GroupRow>, after: Vec<GroupRow>) -> Vec<DiffRow> {
    let mut pairs: BTreeMap<Vec<Option<String>>, DiffRow> = BTreeMap::new();
    for row in before {
        let pair = pairs.entry(row.keys.clone()).or_default();
        pair.before = Some(row);
    }
    for row in after {
        let pair = pairs.entry(row.keys.clone()).or_default();
        pair.after = Some(row);
    }
    let mut rows: Vec<DiffRow> = pairs
        .into_iter()
        .map(|(keys, pair)| {
            let avg = |row: &Option<GroupRow>| row.as_ref().map_or(Some(0.0), |row| row.avg);
            let growth = avg(&pair.after).zip(avg(&pair.before));
            DiffRow {
                keys,
                growth: growth.map(|(after, before)| after - before),
                ..pair
            }
        })
        .collect();
    let grown = |row: &DiffRow| row.growth.filter(|growth| *growth > 0.0);
    let all: f64 = rows.iter().filter_map(grown).sum();
    for row in &mut rows {
        row.share = grown(row).map(|growth| growth / all);
    }
    let order = |row: &DiffRow| row.growth.unwrap_or(f64::NEG_INFINITY);
    rows.sort_by(|a, b| order(b).total_cmp(&order(a)));
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Groups;
    use crate::naive::Samples;
    use crate::naive::samples;

    fn rows(samples: &Samples) -> Vec<GroupRow> {
        let mut groups = Groups::new();
        for runs in samples.pieces(1) {
            groups.add(&runs).unwrap();
        }
        groups.rows()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        /// Every group of either range is there once, and its growth is that of the samples.
        #[test]
        fn nothing_is_lost_between_two_ranges(earlier in samples(), later in samples()) {
            let averages = |samples: &Samples| -> BTreeMap<Vec<Option<String>>, Option<f64>> {
                let average = |(keys, totals): (Vec<Option<String>>, Vec<Option<i64>>)| {
                    let known: Vec<i64> = totals.iter().copied().flatten().collect();
                    let nothing = samples.of(&keys).iter().all(|sample| sample.value.is_none());
                    let sum: i64 = known.iter().sum();
                    (keys, (!nothing).then(|| sum as f64 / known.len() as f64))
                };
                samples.totals().into_iter().map(average).collect()
            };
            let (old, new) = (averages(&earlier), averages(&later));
            let found = diff(rows(&earlier), rows(&later));
            let mut all: Vec<_> = old.keys().chain(new.keys()).cloned().collect();
            all.sort();
            all.dedup();
            let mut keys: Vec<_> = found.iter().map(|row| row.keys.clone()).collect();
            keys.sort();
            prop_assert_eq!(keys, all);
            for row in &found {
                let before = old.get(&row.keys).copied().unwrap_or(Some(0.0));
                let after = new.get(&row.keys).copied().unwrap_or(Some(0.0));
                let growth = after.zip(before).map(|(after, before)| after - before);
                prop_assert_eq!(row.growth, growth);
                prop_assert_eq!(row.before.is_some(), old.contains_key(&row.keys));
                prop_assert_eq!(row.share.is_some(), growth.is_some_and(|growth| growth > 0.0));
            }
            let shares: Vec<f64> = found.iter().filter_map(|row| row.share).collect();
            prop_assert!(shares.is_empty() || (shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(found.is_sorted_by_key(|row| -row.growth.unwrap_or(f64::NEG_INFINITY)));
        }
    }
}
