//! History as lines of text: CSV (RFC 4180) and JSON lines, one file for each table.
//!
//! Times are RFC 3339 in UTC. Texts of processes may hold anything: what could drive a terminal is escaped in
//! both. A file appears whole, by a rename.

use std::fs;
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
use crate::render::Lang;
use crate::render::escape;
use crate::store::Batch;
use crate::store::Cell;
use crate::store::Part;
use crate::time;

/// Writes one line.
type Line = fn(&Open, &Batch, usize) -> io::Result<String>;

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
    tmp: PathBuf,
    path: PathBuf,
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

    /// Whether nothing is there that must stay.
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
        let write = |open: &mut Open| -> io::Result<()> {
            for row in 0..batch.rows() {
                let line = (self.line)(open, batch, row)?;
                open.file.write_all(line.as_bytes())?;
                open.rows += 1;
            }
            Ok(())
        };
        write(open).map_err(|error| unwritten(&open.tmp, error))
    }

    fn begin(&self, batch: &Batch) -> anyhow::Result<Open> {
        let path = self.path(batch.table);
        let tmp = self
            .folder
            .join(format!(".tmp-{}.{}", batch.table, self.end));
        // Left by an export that was killed.
        let _ = fs::remove_file(&tmp);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&tmp)
            .map_err(|error| unwritten(&tmp, error))?;
        let mut open = Open {
            table: batch.table,
            path,
            file: BufWriter::with_capacity(1 << 16, file),
            names: batch.names().map(str::to_owned).collect(),
            rows: 0,
            tmp,
        };
        if self.header {
            let header = open.names.join(",") + "\r\n";
            let wrote = open.file.write_all(header.as_bytes());
            wrote.map_err(|error| unwritten(&open.tmp, error))?;
        }
        Ok(open)
    }

    /// Ends all files and gives them their names.
    pub(super) fn publish(&mut self) -> anyhow::Result<Vec<Part>> {
        let mut done = Vec::new();
        for open in &mut self.open {
            let end = |open: &mut Open| {
                open.file.flush()?;
                open.file.get_ref().sync_all()?;
                let bytes = open.file.get_ref().metadata()?.len();
                fs::rename(&open.tmp, &open.path).map(|()| bytes)
            };
            let bytes = end(open).map_err(|error| unwritten(&open.tmp, error))?;
            done.push(Part {
                path: open.path.clone(),
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

impl Drop for Texts {
    /// What was not published goes away.
    fn drop(&mut self) {
        for open in &self.open {
            let _ = fs::remove_file(&open.tmp);
        }
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

/// A row as CSV. Rows of another version of the columns go by their names.
fn csv(open: &Open, batch: &Batch, row: usize) -> io::Result<String> {
    let same = batch.names().eq(open.names.iter().map(String::as_str));
    let cells: Vec<Cell<'_>> = if same {
        batch.row(row).collect()
    } else {
        let place = |name: &String| batch.names().position(|one| one == name);
        let cell = |name| place(name).and_then(|at| batch.row(row).nth(at));
        (open.names.iter())
            .map(|name| cell(name).unwrap_or(Cell::Unknown))
            .collect()
    };
    let mut line = String::with_capacity(256);
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            line.push(',');
        }
        match cell {
            Cell::Unknown => {}
            Cell::Int(value) => line.push_str(&value.to_string()),
            Cell::Time(ms) => line.push_str(&moment(ms)),
            Cell::Text(text) => line.push_str(&quoted(text)),
        }
    }
    line.push_str("\r\n");
    Ok(line)
}

/// A text as a field: quoted where it must be. One that is empty is quoted, too: nothing at all is unknown.
fn quoted(text: &str) -> String {
    let text = escape::plain(text);
    let plain = !text.is_empty() && !text.contains(['"', ',', '\r', '\n']);
    if plain && text.trim() == text {
        return text.into_owned();
    }
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A row as an object: unknown is null.
fn json(_: &Open, batch: &Batch, row: usize) -> io::Result<String> {
    let mut object = serde_json::Map::new();
    for (name, cell) in batch.names().zip(batch.row(row)) {
        let value = match cell {
            Cell::Unknown => serde_json::Value::Null,
            Cell::Int(value) => value.into(),
            Cell::Time(ms) => moment(ms).into(),
            Cell::Text(text) => text.into(),
        };
        object.insert(name.to_owned(), value);
    }
    render::record_line(batch.table, &object, Lang::En).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_and_harmless() {
        assert_eq!(quoted("nginx: worker"), "nginx: worker");
        assert_eq!(quoted("a,b \"c\""), "\"a,b \"\"c\"\"\"");
        assert_eq!(quoted("a\nb\x1b[2J"), r"a\nb\x1b[2J");
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted(" x"), "\" x\"");
        assert_eq!(moment(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
    }
}
