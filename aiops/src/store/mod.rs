//! History: what the daemon keeps, and what queries read.
//!
//! ```text
//! tick ─► tail (tmpfs: survives kill -9) ─► WAL (durable every 30 s) ─► Parquet segments
//! ```
//!
//! - `tick`: one moment as bytes: only what changed, as small differences ([`Encoder`], [`Decoder`]);
//! - `wal`: frames with checksums in a file of pre-zeroed blocks ([`WalWriter`], [`read_wal`]).
//!
//! Nothing older than the last sync is lost by a power cut, nothing older than the last tick by a kill;
//! damage costs what it touches, up to the next key frame, and is reported.

#[cfg(test)]
mod crash_tests;
mod error;
mod event;
mod export;
mod history;
mod inventory;
mod lake;
mod logs;
mod merge;
mod place;
mod reading;
mod repair;
mod rollup;
mod rows;
mod segments;
mod series;
mod sums;
mod table;
mod tick;
mod upkeep;
mod verify;
mod wal;

pub use crate::model::Range;
pub use crate::model::Sums;
pub use error::StoreError;
pub use event::Event;
pub use export::Batch;
pub use export::Cell;
pub use export::TABLES;
pub use history::Pushed;
pub use history::Recorder;
pub use history::Store;
pub use inventory::Inventory;
pub use inventory::LogFile;
pub use inventory::Summary;
pub use inventory::Upkeep;
pub use lake::Lake;
pub use lake::Part;
pub use lake::Unpublished;
pub use lake::sweep as sweep_unpublished;
pub use logs::Damage;
pub use logs::Entry;
pub use place::Meta;
pub use place::read;
pub use repair::Repaired;
pub use segments::Segment;
pub use series::Ask;
pub use series::Coverage;
pub use tick::BadFrame;
pub use tick::Decoder;
pub use tick::Encoder;
pub use tick::PROCESS_FIELDS;
pub use tick::Tick;
pub use upkeep::Removed;
pub use verify::Broken;
pub use verify::BrokenPart;
pub use verify::Verified;
pub use wal::Recovered;
pub use wal::WalOptions;
pub use wal::WalWriter;
pub use wal::read_wal;
