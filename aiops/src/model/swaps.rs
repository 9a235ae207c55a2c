//! Swap by process, as kernel maps have counted it.

use serde::Deserialize;
use serde::Serialize;

use super::Nanos;
use super::TaskRef;

/// What every process had to do with swap since tracing began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Swaps {
    /// When it was read.
    pub ts_ns: Nanos,
    /// By process: the owner of the pages, not who reclaimed them. Only what changed since the item before.
    pub rows: Vec<SwapRow>,
    /// Of all processes, also of those that no table had room for.
    pub total: SwapWays,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SwapRow {
    /// Who, when its first page was seen.
    pub task: TaskRef,
    /// Since tracing began.
    pub ways: SwapWays,
}

/// Changes of swap entries by their way. One change is one page, but where a batch is freed or inherited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapWays {
    /// Pages that reclaim moved to swap.
    pub swap_out: u64,
    /// Pages that a fault brought back.
    pub swap_in: u64,
    /// Batches of entries given up: unmapped, or the process ended.
    pub freed: u64,
    /// Batches of entries that a child inherited.
    pub forked: u64,
    /// Pages that swapoff brought back.
    pub swapoff: u64,
    /// By a way that is not known.
    pub other: u64,
}
