//! `aiops query memory` with several keys in `--group-by`, and with `--compare`: history through frames.
//!
//! What frames get and give is in `engine`, which is there with the feature `frames` alone; the fast path of queries
//! and the daemon use neither.

#[cfg(feature = "frames")]
mod engine;

use crate::cli::Context;
use crate::diag::Exit;
use crate::model::Owner;
use crate::store::Range;
use crate::store::Store;

/// What is asked.
#[cfg_attr(
    not(feature = "frames"),
    expect(dead_code, reason = "a build without frames answers nothing")
)]
pub(super) struct Question<'a> {
    /// When.
    pub(super) range: Range,
    /// Which processes.
    pub(super) keep: &'a dyn Fn(&Owner<'_>) -> bool,
    /// What to group by.
    pub(super) by: &'a [By],
    /// The figure, by its name in the store.
    pub(super) field: &'a str,
    /// What the rows are sorted by.
    pub(super) sort: Sort,
    /// Length of the steps of a curve, ms.
    pub(super) step_ms: Option<i64>,
    /// The same range so long before, ms, to compare with.
    pub(super) compare_ms: Option<i64>,
    /// Rows of the text report, 0: all; JSON is whole. With steps: rows that have them.
    pub(super) top: usize,
}

/// A key of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Process id.
    Pid,
    /// Name.
    Comm,
    /// Memory cgroup.
    Cgroup,
    /// Container.
    Container,
    /// Real user.
    User,
}

/// An order of groups, largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Average total.
    Avg,
    /// Largest total.
    Max,
    /// 95th percentile of the total.
    P95,
    /// Total at the end.
    Last,
    /// From the beginning to the end.
    Growth,
}

/// Answers with a report.
///
/// # Errors
/// The store cannot be read, or has nothing in the range; each with its remedy.
#[cfg(feature = "frames")]
pub(super) fn run(
    store: &Store,
    question: &Question<'_>,
    context: &Context,
) -> anyhow::Result<Exit> {
    match question.compare_ms {
        Some(earlier) => super::print(&engine::compare(store, question, earlier)?, context, false),
        None => super::print(&engine::groups(store, question)?, context, false),
    }
}

/// Says which build answers.
///
/// # Errors
/// Always.
#[cfg(not(feature = "frames"))]
pub(super) fn run(_: &Store, _: &Question<'_>, _: &Context) -> anyhow::Result<Exit> {
    let error = anyhow::anyhow!(
        "this build of aiops cannot group by several keys, nor compare two ranges: it has no frames"
    );
    let remedy =
        "group by one key, or use a build with the feature `frames`, as released files are";
    Err(crate::diag::hint(error, remedy))
}
