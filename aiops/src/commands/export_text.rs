//! History as lines of text: CSV (RFC 4180) and JSON lines, one file for each table.
//!
//! Times are RFC 3339 in UTC. Texts of processes may hold anything: what could drive a terminal is escaped in
//! both, and no field of CSV is a formula. A file appears whole, by a rename.

use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::diag;
use crate::render;
use crate::store::Batch;
use crate::store::Cell;
use crate::store::Part;
use crate::store::TABLES;
use crate::store::Unpublished;
use crate::store::sweep_unpublished;
use crate::time;

/// Writes one line: the table, its columns, and the row.
type Line = fn(&str, &[String], &[Cell<'_>], &mut String);

/// Files that are being written.
pub(super) struct Texts {
    folder: PathBuf,
    force: bool,
    /// End of their names.
    end: &'static str,
    header: bool,
    line: Line,
    open: Vec<Open>,
}

struct Open {
    table: &'static str,
    name: Unpublished,
    file: BufWriter<File>,
    /// Columns, as the first rows have them.
    names: Vec<String>,
    rows: u64,
}

impl Texts {
    pub(super) fn csv(folder: &Path, force: bool) -> Self {
        Self::new(folder, force, "csv", csv)
    }

    pub(super) fn jsonl(folder: &Path, force: bool) -> Self {
        Self::new(folder, force, "jsonl", json)
    }

    fn new(folder: &Path, force: bool, end: &'static str, line: Line) -> Self {
        Self {
            folder: folder.to_path_buf(),
            force,
            end,
            header: end == "csv",
            line,
            open: Vec::new(),
        }
    }

    fn path(&self, table: &str) -> PathBuf {
        self.folder.join(format!("{table}.{}", self.end))
    }

    /// Whether nothing is there that must stay. What killed exports left goes.
    pub(super) fn check(&self, tables: &[&'static str]) -> anyhow::Result<()> {
        for path in tables.iter().map(|table| self.path(table)) {
            if path.exists() && !self.force {
                let error = anyhow::anyhow!("{}: this file is there already", path.display());
                return Err(diag::hint(
                    error,
                    "choose another --out, or replace it: --force",
                ));
            }
        }
        sweep_unpublished(&self.folder, |name| {
            let table = name.strip_suffix(".csv").or(name.strip_suffix(".jsonl"));
            table.is_some_and(|table| TABLES.contains(&table))
        });
        Ok(())
    }

    pub(super) fn write(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let at = match self.open.iter().position(|open| open.table == batch.table) {
            Some(at) => at,
            None => {
                let open = self.begin(batch)?;
                self.open.push(open);
                self.open.len() - 1
            }
        };
        let open = &mut self.open[at];
        // Rows of another version of the columns go by their names.
        let place = |name: &String| batch.names().position(|one| one == name);
        let places: Vec<Option<usize>> = open.names.iter().map(place).collect();
        let mut line = String::new();
        let mut cells = Vec::new();
        let mut write = |open: &mut Open| -> io::Result<()> {
            for row in 0..batch.rows() {
                let all: Vec<Cell<'_>> = batch.row(row).collect();
                cells.clear();
                cells.extend((places.iter()).map(|at| at.map_or(Cell::Unknown, |at| all[at])));
                line.clear();
                (self.line)(open.table, &open.names, &cells, &mut line);
                open.file.write_all(line.as_bytes())?;
                open.rows += 1;
            }
            Ok(())
        };
        write(open).map_err(|error| unwritten(open.name.tmp(), error))
    }

    fn begin(&self, batch: &Batch) -> anyhow::Result<Open> {
        let name = Unpublished::new(self.path(batch.table));
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(name.tmp())
            .map_err(|error| unwritten(name.tmp(), error))?;
        let mut open = Open {
            table: batch.table,
            name,
            file: BufWriter::with_capacity(1 << 16, file),
            names: batch.names().map(str::to_owned).collect(),
            rows: 0,
        };
        if self.header {
            let header = open.names.join(",") + "\r\n";
            let wrote = open.file.write_all(header.as_bytes());
            wrote.map_err(|error| unwritten(open.name.tmp(), error))?;
        }
        Ok(open)
    }

    /// Ends all files and gives them their names: all are whole before the first one appears.
    pub(super) fn publish(&mut self) -> anyhow::Result<Vec<Part>> {
        let mut done = Vec::new();
        let end = |open: &mut Open| {
            open.file.flush()?;
            open.file.get_ref().sync_all()?;
            Ok(open.file.get_ref().metadata()?.len())
        };
        let mut bytes = Vec::new();
        for open in &mut self.open {
            bytes.push(end(open).map_err(|error| unwritten(open.name.tmp(), error))?);
        }
        for (open, bytes) in self.open.iter().zip(bytes) {
            let path = open.name.publish();
            done.push(Part {
                path: path.map_err(|error| unwritten(open.name.tmp(), error))?,
                table: open.table,
                rows: open.rows,
                bytes,
            });
        }
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.with_context(|| format!("{}: cannot sync", self.folder.display()))?;
        Ok(done)
    }
}

fn unwritten(path: &Path, error: io::Error) -> anyhow::Error {
    let error = anyhow::Error::new(error).context(format!("{}: cannot write", path.display()));
    diag::hint(
        error,
        "--out names a folder with room that you can write to",
    )
}

fn moment(ms: i64) -> String {
    let text = time::rfc3339(ms.saturating_mul(1_000_000), 0).unwrap_or_default();
    text.replace("+00:00", "Z")
}

/// A row as CSV.
fn csv(_: &str, _: &[String], cells: &[Cell<'_>], line: &mut String) {
    for (at, cell) in cells.iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        match cell {
            Cell::Unknown => {}
            Cell::Int(value) => line.push_str(&value.to_string()),
            Cell::Time(ms) => line.push_str(&moment(*ms)),
            Cell::Text(text) => line.push_str(&render::csv::text(text)),
        }
    }
    line.push_str("\r\n");
}

/// A row as an object: unknown is null.
fn json(table: &str, names: &[String], cells: &[Cell<'_>], line: &mut String) {
    line.push_str("{\"type\":");
    render::json_text(table, line);
    for (name, cell) in names.iter().zip(cells) {
        line.push(',');
        render::json_text(name, line);
        line.push(':');
        match cell {
            Cell::Unknown => line.push_str("null"),
            Cell::Int(value) => line.push_str(&value.to_string()),
            Cell::Time(ms) => render::json_text(&moment(*ms), line),
            Cell::Text(text) => render::json_text(text, line),
        }
    }
    line.push_str("}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_of_utc() {
        assert_eq!(moment(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
