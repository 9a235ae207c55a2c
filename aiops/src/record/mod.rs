//! Recordings: items in a file, and back.
//!
//! A recording is a file header and then blocks. Each block stands alone: it holds up to 250 ms of
//! items as tables of named columns, with dictionaries of its own and two checksums, so damage costs
//! only the blocks that it touches. `docs/format.md` describes every byte for readers of other makes.
//!
//! | file | owns |
//! |---|---|
//! | `format` | file header and block header |
//! | `wire` | numbers and texts as bytes |
//! | `column` | how a column of numbers, texts or lists becomes bytes |
//! | `schema` | tables of columns made from a list of fields |
//! | `tables` | the fields of each kind of item |
//! | `batch` | items of one block, in their order |
//! | `writer`, `reader` | the file |

mod batch;
mod column;
mod error;
mod format;
mod reader;
mod schema;
mod tables;
pub(crate) mod wire;
mod writer;

#[cfg(test)]
mod figures;
#[cfg(test)]
mod strategy;
#[cfg(test)]
mod tests;

pub use error::RecordError;
pub use format::FileHeader;
pub use reader::Damage;
pub use reader::Reader;
pub use writer::Writer;
pub use writer::WriterState;
pub use writer::Written;
