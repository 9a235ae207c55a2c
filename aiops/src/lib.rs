//! aiops, the memory flight recorder for Linux.
//!
//! One direction, one type per stage; a live command and a replay differ only in where the items come
//! from:
//!
//! ```text
//! kernel: aiops-ebpf ── ring buffers ─┐
//! /proc /sys cgroups ─────────────────┼─► source ─► model::Item ─► record::Writer ─► trace.aiops
//! /dev/kmsg ──────────────────────────┘                │    ▲                          │
//!                                                      │    └──── record::Reader ◄─────┘ (replay)
//!                                                      ▼
//!                             analysis (pure; time taken from the items) ─► report::Report
//!                                                      ▼
//!                              render (text zh|en, json, jsonl) ─► stdout      diag ─► stderr, exit code
//! ```
//!
//! `session` runs the live sources, writes the recording beside the analysis and decides when to stop;
//! `commands` holds one file per command, and clap goes no further than `cli` and `commands`.
//!
//! The commands without hooks (collect, inspect, analyze, health, diff) stand on the /proc plane: `source::plane`
//! reads, `session::plane` samples and records, `analysis::readings` keeps the first and the last figures.
//!
//! History: `session::monitor` samples at an interval and pushes ticks and incidents into `store`, which keeps
//! them in a log (safe from kill -9 at once, from power cuts every 30 s) and later in Parquet segments; `query`,
//! `export` and the engines of others read those. polars stands in the nested crate `aiops-frames` alone,
//! behind the feature `frames`, for questions by several keys.
//!
//! Leaks: `analysis::leak` judges one series of memory sizes by pure functions, `analysis::leak_evidence` says what
//! else speaks for it or against it; `session::subjects` makes the series of processes and cgroups, from the store,
//! a recording or samples taken now; `detect memory-leak` hands them over, or a file.
//!
//! Risk: `analysis::limits` says what bounds a process or a cgroup, `analysis::risk` runs leaks forward until a limit is
//! met; `session::limits` and `session::risk` read what both need.
//!
//! Anomalies: `analysis::anomaly` finds what was out of the ordinary in the series of a host and of its processes,
//! which `detect anomaly` reads from history or a recording.
//!
//! Attribution: `session::trace` runs one family of hooks (`source::bpf`) beside an analysis: `analysis::stalls` for reclaim,
//! `analysis::swapping` for swap; `session::alloc` samples page allocations, whose stacks `source::unwind` makes whole and
//! `source::symbols` names, and `analysis::alloc` says who takes memory and who keeps it.
//!
//! Who may use whom (`cargo xtask layers` reads this table and fails on anything else):
//!
//! | module | may use |
//! |---|---|
//! | model | |
//! | time | |
//! | testing | |
//! | report | model |
//! | source | model, time |
//! | record | model, testing |
//! | store | model, record, testing |
//! | analysis | model, report, time |
//! | render | report, time |
//! | diag | render |
//! | session | model, source, record, store, analysis, report, render, diag, time, testing |
//! | commands | model, source, record, store, analysis, report, render, diag, time, session, cli |
//! | cli | commands, diag, render, time |

pub mod analysis;
pub mod cli;
pub mod commands;
pub mod diag;
pub mod model;
pub mod record;
pub mod render;
pub mod report;
pub mod session;
pub mod source;
pub mod store;
pub mod time;

#[cfg(test)]
mod testing;
