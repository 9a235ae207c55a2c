//! What the facts mean: pure functions over items; the time comes from the data.

pub mod oom;
