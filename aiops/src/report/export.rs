//! What was written elsewhere: the data of `export`.

use serde::Serialize;

/// Data of `aiops.export/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ExportData {
    /// Form of the files: parquet, csv, jsonl.
    pub to: &'static str,
    /// Folder that they are in.
    pub out: String,
    /// What was asked for.
    pub range: ExportRange,
    /// Every file, in the order in which it was published.
    pub files: Vec<ExportFile>,
    /// Rows of all files.
    pub rows: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// A range of time; the end is not part of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ExportRange {
    /// RFC 3339; `null`: from the oldest sample on.
    pub start: Option<String>,
    /// RFC 3339.
    pub end: Option<String>,
}

/// A file.
#[derive(Clone, Debug, Serialize)]
pub struct ExportFile {
    /// Where it is.
    pub path: String,
    /// Whose rows: process, system, cgroup, event.
    pub table: &'static str,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}
