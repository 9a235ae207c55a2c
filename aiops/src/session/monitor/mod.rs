//! The daemon: figures at an interval into the store, OOM kills as they happen, its own cost.

mod latest;
mod metrics;
