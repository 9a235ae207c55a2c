//! What the facts mean: pure functions over items; the time comes from the data.

pub mod alloc;
pub mod anomaly;
pub mod anomaly_report;
pub mod cache;
pub mod collect;
pub mod diff;
pub mod gfp;
pub mod grouping;
pub mod health;
pub mod history;
pub mod inspect;
pub mod latency;
pub mod leak;
mod leak_changes;
pub mod leak_evidence;
pub mod leak_past;
pub mod leak_report;
pub mod leak_shared;
mod leak_words;
pub mod limits;
pub mod memory;
pub mod numa;
pub mod oom;
pub mod pressure;
pub mod processes;

pub mod readings;
pub mod risk;
pub mod risk_report;
pub mod runtime;
pub mod shell;
pub mod stalls;
pub mod swap;
pub mod swapping;
pub mod traced;
