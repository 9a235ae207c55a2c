//! History by several keys, and two ranges beside each other: the data of `query memory` with more than one key
//! in `--group-by`, and of `--compare`.

use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap as _;

/// What a group is: the keys with their values, in the order they were asked for; `null`: not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupName(pub Vec<(String, Option<String>)>);

impl Serialize for GroupName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// A range of time, as the reports have it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Span {
    /// First moment, RFC 3339.
    pub start: Option<String>,
    /// First moment behind it, RFC 3339.
    pub end: Option<String>,
    /// Samples of the host in it: what averages are over.
    pub ticks: u64,
    /// Moment of the first one, RFC 3339.
    pub first: Option<String>,
    /// Moment of the last one, RFC 3339.
    pub last: Option<String>,
}

/// The total of a group over a range, in the unit of the report's `field`. On a tick without a process of the
/// group it is 0; ticks on which the figure is known of none of its processes do not count.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Different processes.
    pub processes: u64,
    /// Samples of them.
    pub samples: u64,
    /// Samples that do not know the figure.
    pub unknown_samples: u64,
    /// The average of all ticks.
    pub avg: Option<f64>,
    /// The largest.
    pub max: Option<i64>,
    /// The least that 95 % of the ticks do not exceed.
    pub p95: Option<i64>,
    /// On the first tick.
    pub first: Option<i64>,
    /// On the last tick.
    pub last: Option<i64>,
    /// `last` − `first`.
    pub growth: Option<i64>,
}

/// What the text view shows; JSON is whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct FramesView {
    /// Rows, 0: all.
    pub top: usize,
}

/// Data of `aiops.query-memory-groups/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupsData {
    /// When.
    pub range: Span,
    /// What the rows are grouped by.
    pub by: Vec<String>,
    /// The figure, with its unit in its name.
    pub field: String,
    /// What the rows are sorted by, largest first.
    pub sort: &'static str,
    /// First moments of the steps of `rows[].steps`, RFC 3339; empty: without steps.
    pub steps: Vec<Option<String>>,
    /// The groups.
    pub rows: Vec<GroupRow>,
    /// For the text.
    #[serde(skip)]
    pub view: FramesView,
}

/// A group.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupRow {
    /// What it is.
    pub group: GroupName,
    /// Its total.
    #[serde(flatten)]
    pub totals: Totals,
    /// The average of the total in each step; `null`: no tick in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Option<f64>>,
}

/// Data of `aiops.query-memory-compare/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CompareData {
    /// The earlier range.
    pub before: Span,
    /// The later range.
    pub after: Span,
    /// What the rows are grouped by.
    pub by: Vec<String>,
    /// The figure, with its unit in its name.
    pub field: String,
    /// The groups of either range: what grew most comes first, what is not known last.
    pub rows: Vec<CompareRow>,
    /// For the text.
    #[serde(skip)]
    pub view: FramesView,
}

/// A group in two ranges.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CompareRow {
    /// What it is.
    pub group: GroupName,
    /// In the earlier range; `null`: no process of it was there.
    pub before: Option<Totals>,
    /// In the later range; `null`: no process of it was there.
    pub after: Option<Totals>,
    /// How much larger its average is in the later range; where it is not there it has 0.
    pub growth: Option<f64>,
    /// Of the growth of all groups that grew, percent; `null`: it did not grow.
    pub share_pct: Option<f64>,
}
