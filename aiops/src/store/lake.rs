//! A folder of Parquet files that any engine reads: `TABLE/date=YYYY-MM-DD/host=NAME/part-…`.
//!
//! A part's name says its boot and which piece of the day it holds (`hhmmssmmm`, UTC), so the same export makes
//! the same files. A part appears whole, by a rename. One that covers earlier ones replaces them; one
//! that would hold some rows a second time is refused.
//!
//! The host is in the path alone: engines make a column of it, and some refuse files that have the same one.

use std::collections::BTreeSet;
use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;

use super::Range;
use super::StoreError;
use super::error::io_error;
use super::export::Batch;
use super::export::DAY_MS;
use super::export::boots;
use super::export::of_boot;
use super::rows::HOUR_MS;
use super::table;
use super::table::Column;
use super::table::Kind;
use super::table::ParquetError;
use super::table::Writer;

/// Beginning of the name of a file that is being written: engines pass over names with a dot.
const TMP: &str = ".tmp-";
/// Its end: those that do not pass over it look for another one.
const TMP_END: &str = ".new";

/// Beginning of the name of a part.
const PART: &str = "part-";

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its path.
    pub path: PathBuf,
    /// Its table.
    pub table: &'static str,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A file under a name that does not count, which goes away unless it is published.
#[derive(Debug)]
pub struct Unpublished {
    tmp: PathBuf,
    path: PathBuf,
}

impl Unpublished {
    /// For a file that will be `path`. Nothing is written yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            // Engines that look into the folder meanwhile want another end.
            tmp: path.with_file_name(format!("{TMP}{name}{TMP_END}")),
            path,
        }
    }

    /// Where to write it.
    #[must_use]
    pub fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// Gives it its name, in place of what has that name.
    ///
    /// # Errors
    /// The system refuses.
    pub fn publish(&self) -> io::Result<PathBuf> {
        fs::rename(&self.tmp, &self.path).map(|()| self.path.clone())
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.tmp);
    }
}

/// Removes what exports that were killed left in a folder, of the files that `ours` tells by their names.
pub fn sweep(folder: &Path, ours: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_str().and_then(|name| name.strip_prefix(TMP));
        if name
            .and_then(|name| name.strip_suffix(TMP_END))
            .is_some_and(&ours)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Parts of a day that are being written.
struct Open {
    table: &'static str,
    boot: Option<String>,
    shape: Vec<(String, Kind)>,
    writer: Writer,
    file: Unpublished,
    day: Range,
    rows: u64,
}

/// Writes a lake.
pub struct Lake {
    folder: PathBuf,
    hostname: String,
    force: bool,
    open: Vec<Open>,
    /// Folders that were made, or were there, for what is written.
    begun: BTreeSet<PathBuf>,
}

impl std::fmt::Debug for Lake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lake")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl Lake {
    /// Writes below a folder, for a host. `force`: parts that overlap are replaced, though they hold more.
    #[must_use]
    pub fn new(folder: &Path, host: &str, force: bool) -> Self {
        Self {
            folder: folder.to_path_buf(),
            hostname: host.to_owned(),
            force,
            open: Vec::new(),
            begun: BTreeSet::new(),
        }
    }

    /// The folder of a table's day.
    fn place(&self, table: &str, day: Range) -> PathBuf {
        // Process rows are what most ask for: they have the short name.
        let table = if table == "process" { "mem" } else { table };
        self.folder
            .join(table)
            .join(format!("date={}", date(day.start_ms)))
            .join(format!("host={}", hive(&self.hostname)))
    }

    /// Whether a day can be written: no part of this host holds some of it and something else too.
    ///
    /// # Errors
    /// One does, or the folder cannot be read.
    pub fn check(&self, tables: &[&'static str], day: Range) -> Result<(), StoreError> {
        for table in tables {
            let folder = self.place(table, day);
            for (path, piece) in parts(&folder)? {
                let wider =
                    piece.start_ms < in_day(day).start_ms || piece.end_ms > in_day(day).end_ms;
                if wider && overlaps(piece, in_day(day)) && !self.force {
                    let exists = io::ErrorKind::AlreadyExists.into();
                    return Err(io_error(
                        &path,
                        "write beside a part that holds some of the same range",
                    )(exists));
                }
            }
        }
        Ok(())
    }

    /// Appends rows.
    ///
    /// # Errors
    /// The system refuses.
    pub fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let boots = boots(batch);
        for boot in &boots {
            let mut columns = if boots.len() == 1 {
                batch.columns.clone()
            } else {
                of_boot(batch, *boot)
            };
            columns.retain(|column| column.name != "host");
            self.rows(batch, *boot, &columns)?;
        }
        Ok(())
    }

    fn rows(
        &mut self,
        batch: &Batch,
        boot: Option<&str>,
        columns: &[Column],
    ) -> Result<(), StoreError> {
        let shape = table::shape(columns);
        let same = |open: &Open| open.table == batch.table && open.boot.as_deref() == boot;
        let found = self
            .open
            .iter()
            .position(|open| same(open) && open.shape == shape);
        let at = match found {
            Some(at) => at,
            None => {
                // Rows of another version have other columns: a part of their own.
                let others = self.open.iter().filter(|open| same(open)).count();
                self.begin(batch, boot, shape, others)?;
                self.open.len() - 1
            }
        };
        let open = &mut self.open[at];
        open.writer
            .rows(columns)
            .map_err(|error| unwritten(open.file.tmp(), error))?;
        open.rows += columns.first().map_or(0, |column| column.values.len()) as u64;
        Ok(())
    }

    fn begin(
        &mut self,
        batch: &Batch,
        boot: Option<&str>,
        shape: Vec<(String, Kind)>,
        others: usize,
    ) -> Result<(), StoreError> {
        let folder = self.place(batch.table, batch.day);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(io_error(&folder, "create"))?;
        self.begun.insert(folder.clone());
        let piece = in_day(batch.day);
        let mut name = format!(
            "{PART}{}-{}-{}",
            short(boot),
            clock(piece.start_ms),
            clock(piece.end_ms)
        );
        if others > 0 {
            name.push_str(&format!("-{others}"));
        }
        name.push_str(".parquet");
        let file = Unpublished::new(folder.join(name));
        if !self
            .open
            .iter()
            .any(|open| open.file.path.parent() == Some(&folder))
        {
            sweep(&folder, |name| name.starts_with(PART));
        }
        let notes = [
            ("aiops.schema", "1".to_owned()),
            ("aiops.table", batch.table.to_owned()),
            ("aiops.host", self.hostname.clone()),
        ];
        let writer = Writer::create(file.tmp(), &shape, &notes)
            .map_err(|error| unwritten(file.tmp(), error))?;
        self.open.push(Open {
            table: batch.table,
            boot: boot.map(str::to_owned),
            shape,
            writer,
            file,
            day: batch.day,
            rows: 0,
        });
        Ok(())
    }

    /// Publishes what was written since the last call, and removes earlier parts of the same time.
    ///
    /// # Errors
    /// The system refuses.
    pub fn publish(&mut self) -> Result<Vec<Part>, StoreError> {
        let (mut whole, mut done) = (Vec::new(), Vec::new());
        let mut places: Vec<(PathBuf, Range)> = Vec::new();
        // All files are whole before the first one appears.
        for open in self.open.drain(..) {
            let tmp = open.file.tmp();
            open.writer
                .finish()
                .map_err(|error| unwritten(tmp, error))?;
            let bytes = fs::metadata(tmp).map_err(io_error(tmp, "look at"))?.len();
            if let Some(folder) = open.file.path.parent() {
                places.push((folder.to_path_buf(), in_day(open.day)));
            }
            whole.push((open.file, open.table, open.rows, bytes));
        }
        for (file, table, rows, bytes) in whole {
            let path = file.publish().map_err(io_error(&file.path, "publish"))?;
            done.push(Part {
                path,
                table,
                rows,
                bytes,
            });
        }
        places.dedup();
        for (folder, piece) in places {
            for (path, old) in parts(&folder)? {
                let ours = done.iter().any(|part| part.path == path);
                if !ours && overlaps(old, piece) {
                    fs::remove_file(&path).map_err(io_error(&path, "remove"))?;
                }
            }
            let file = File::open(&folder).map_err(io_error(&folder, "open"))?;
            file.sync_all().map_err(io_error(&folder, "sync"))?;
        }
        Ok(done)
    }
}

impl Drop for Lake {
    /// What was not published goes away, and so do folders in which nothing is.
    fn drop(&mut self) {
        self.open.clear();
        for folder in &self.begun {
            // `TABLE/date=…/host=…`: a folder that holds anything stays.
            for folder in folder.ancestors().take(3) {
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

/// A file that cannot be written is not damaged: what the system said is told.
fn unwritten(path: &Path, error: ParquetError) -> StoreError {
    let error = match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    };
    io_error(path, "write")(error)
}

fn overlaps(a: Range, b: Range) -> bool {
    a.start_ms < b.end_ms && b.start_ms < a.end_ms
}

/// The same range in milliseconds of its day.
fn in_day(day: Range) -> Range {
    let start_ms = day.start_ms.rem_euclid(DAY_MS);
    Range {
        start_ms,
        end_ms: start_ms + (day.end_ms - day.start_ms),
    }
}

/// Parts in a folder, with the piece of the day that each holds.
fn parts(folder: &Path) -> Result<Vec<(PathBuf, Range)>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(folder, "read")(error)),
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_prefix(PART)?;
            let mut words = name.strip_suffix(".parquet")?.split('-').skip(1);
            let start_ms = unclock(words.next()?)?;
            let end_ms = unclock(words.next()?)?;
            Some((path, Range { start_ms, end_ms }))
        })
        .collect())
}

/// A moment of a day as `hhmmssmmm`; its end is `240000000`.
fn clock(ms: i64) -> String {
    let (hours, rest) = (ms / HOUR_MS, ms % HOUR_MS);
    let (minutes, rest) = (rest / 60_000, rest % 60_000);
    format!("{hours:02}{minutes:02}{:02}{:03}", rest / 1000, rest % 1000)
}

fn unclock(text: &str) -> Option<i64> {
    if text.len() != 9 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    Some(part(0..2)? * HOUR_MS + part(2..4)? * 60_000 + part(4..6)? * 1000 + part(6..9)?)
}

/// The date (UTC) of a moment, by the civil calendar: Howard Hinnant's `civil_from_days`.
fn date(ms: i64) -> String {
    let z = ms.div_euclid(DAY_MS) + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The first digits of a boot id.
fn short(boot: Option<&str>) -> String {
    let digits = boot.unwrap_or_default().chars();
    let mut short: String = digits.filter(char::is_ascii_hexdigit).take(8).collect();
    while short.len() < 8 {
        short.push('0');
    }
    short.to_ascii_lowercase()
}

/// A name as Hive writes it into a path: what could leave the folder or be read as something else is `%XX`.
fn hive(name: &str) -> String {
    if name.is_empty() {
        return "__HIVE_DEFAULT_PARTITION__".to_owned();
    }
    let mut out = String::new();
    for byte in name.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match plain {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_parts() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400_000), "2000-02-29");
        assert_eq!(date(4_107_542_399_999), "2100-02-28");
        assert_eq!(date(1_795_392_000_000 - 1), "2026-11-22");
        assert_eq!(clock(DAY_MS), "240000000");
        assert_eq!(short(Some("3F2a-9c1e77")), "3f2a9c1e");
        assert_eq!(short(None), "00000000");
        assert_eq!(hive("web-1.example"), "web-1.example");
        assert_eq!(hive("../a b=网"), "..%2Fa%20b%3D%E7%BD%91");
        assert_eq!(hive(""), "__HIVE_DEFAULT_PARTITION__");
    }

    proptest! {
        #[test]
        fn clocks_come_back(ms in 0..=DAY_MS) {
            prop_assert_eq!(unclock(&clock(ms)), Some(ms));
        }
    }
}
