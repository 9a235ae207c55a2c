//! Segments on disk: folders of Parquet files, published whole.
//!
//! ```text
//! STORE/segments/<from ms>-<to ms>-<id>/{system,process,rollup,cgroup,event}.parquet
//! ```
//!
//! A segment is written into a folder of another name, synced, and renamed into its place, so that it is
//! there whole or not at all. It names the logs or segments that it was made from: until those are removed, a
//! reader passes over them, so nothing counts twice.

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use super::StoreError;
use super::error::damaged;
use super::error::io_error;
use super::rows::Rows;
use super::sums;
use super::table;
use super::table::Table;

/// What a segment was made from, in its host's table: ids with blanks between.
const SOURCES: &str = "aiops.sources";
/// Version of the columns, in each table.
const SCHEMA: &str = "aiops.schema";
/// Its tables, each of which is there, with rows or without.
pub(super) const TABLES: [&str; 5] = ["process", "rollup", "cgroup", "event", "system"];
/// Beginning of the name of a folder that is being written.
const TMP: &str = "tmp-";

/// A published segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its folder.
    pub path: PathBuf,
    /// Its id: the last part of the folder's name.
    pub id: String,
    /// Time of its first tick, ms since 1970 UTC.
    pub from_ms: i64,
    /// Time of its last tick.
    pub to_ms: i64,
}

impl Segment {
    fn parse(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let mut parts = name.splitn(3, '-');
        let (from_ms, to_ms) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let id = parts.next()?.to_owned();
        Some(Self {
            path,
            id,
            from_ms,
            to_ms,
        })
    }

    /// A table of it: `system`, `process`, `rollup`, `cgroup`, `event`.
    pub(super) fn table(&self, name: &str) -> Result<Table, StoreError> {
        let path = self.file(name);
        sums::check(&path).map_err(|error| damaged(&path, error))?;
        Table::open(&path).map_err(|error| damaged(&path, error))
    }

    /// The file of a table.
    pub(super) fn file(&self, table: &str) -> PathBuf {
        self.path.join(format!("{table}.parquet"))
    }

    /// Checks that every table is there.
    ///
    /// # Errors
    /// One is not.
    pub(super) fn complete(&self) -> Result<(), StoreError> {
        let files = TABLES.map(|table| self.file(table));
        match files.into_iter().find(|file| !file.exists()) {
            Some(path) => Err(StoreError::Segment {
                path,
                source: "it is not there".into(),
            }),
            None => Ok(()),
        }
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let entries = fs::read_dir(&self.path).into_iter().flatten();
        let sizes = entries.filter_map(|entry| entry.ok()?.metadata().ok());
        sizes.map(|meta| meta.len()).sum()
    }

    /// Ids of what it was made from. Its footer alone is read: whoever uses the figures checks them.
    pub(super) fn sources(&self) -> Vec<String> {
        let table = Table::open(&self.path.join("system.parquet"));
        let note = table.ok().and_then(|table| table.note(SOURCES));
        let note = note.unwrap_or_default();
        note.split_whitespace().map(str::to_owned).collect()
    }
}

/// Publishes rows as a segment; `None`: there are none. What is there already under that name stays.
///
/// # Errors
/// The system refuses; nothing is published then.
pub(super) fn publish(
    folder: &Path,
    id: &str,
    sources: &[String],
    rows: Rows,
) -> Result<Option<Segment>, StoreError> {
    let Some((from_ms, to_ms)) = rows.range() else {
        return Ok(None);
    };
    let notes = notes(sources);
    publish_with(folder, &format!("{from_ms}-{to_ms}-{id}"), sources, |tmp| {
        rows.tables(|table, columns| {
            let file = tmp.join(format!("{table}.parquet"));
            table::write(&file, &columns, &notes).map_err(|error| damaged(&file, error))
        })
    })
}

/// What a table says of itself.
pub(super) fn notes(sources: &[String]) -> [(&'static str, String); 2] {
    [(SCHEMA, "1".to_owned()), (SOURCES, sources.join(" "))]
}

/// Publishes a folder that `write` fills, whole or not at all. What is there already under that name stays.
///
/// # Errors
/// The system refuses, `write` fails, or what is there is damaged or not made of `sources`; nothing is published then.
pub(super) fn publish_with(
    folder: &Path,
    name: &str,
    sources: &[String],
    write: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<Option<Segment>, StoreError> {
    let path = folder.join(name);
    if !path.exists() {
        let tmp = folder.join(format!("{TMP}{name}"));
        // Left by a writer that was killed.
        let _ = fs::remove_dir_all(&tmp);
        private(&tmp).map_err(io_error(&tmp, "create a segment"))?;
        let written = write(&tmp).and_then(|()| {
            sums::write(&tmp).map_err(io_error(&tmp, "write checksums"))?;
            sync(&tmp)
        });
        if let Err(error) = written {
            let _ = fs::remove_dir_all(&tmp);
            return Err(error);
        }
        fs::rename(&tmp, &path).map_err(io_error(&path, "publish a segment"))?;
        sync(folder)?;
        return Ok(Segment::parse(path));
    }
    let segment = Segment::parse(path);
    if let Some(there) = &segment {
        for table in TABLES {
            there.table(table)?;
        }
        if there.sources() != sources {
            return Err(StoreError::Segment {
                path: there.path.clone(),
                source: "it has the name of another one".into(),
            });
        }
    }
    Ok(segment)
}

/// Removes a segment: readers see it whole or not at all.
///
/// # Errors
/// The system refuses.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let gone = path.with_file_name(format!("{TMP}gone-{name}"));
    fs::rename(path, &gone).map_err(io_error(path, "remove"))?;
    // After a power cut its files may be gone and its old name may not.
    gone.parent().map_or(Ok(()), sync)?;
    fs::remove_dir_all(&gone).map_err(io_error(&gone, "remove"))
}

/// Removes what a killed writer left, and segments that others were made of. Only for who holds the lock.
///
/// # Errors
/// The system refuses.
pub(super) fn sweep(folder: &Path) -> Result<(), StoreError> {
    let (segments, made) = all(folder)?;
    for segment in segments.iter().filter(|one| made.contains(&one.id)) {
        remove(&segment.path)?;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TMP) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(io_error(&path, "remove"))?;
        }
    }
    Ok(())
}

/// A folder that only its owner may enter.
fn private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Makes the entries of a folder durable.
pub(super) fn sync(folder: &Path) -> Result<(), StoreError> {
    let file = File::open(folder).map_err(io_error(folder, "open"))?;
    file.sync_all().map_err(io_error(folder, "sync"))
}

/// Every segment that counts, by time, and the ids of everything that they were made from.
///
/// # Errors
/// The folder cannot be read; one that is not there holds nothing.
pub(super) fn list(folder: &Path) -> Result<(Vec<Segment>, HashSet<String>), StoreError> {
    let (mut segments, made) = all(folder)?;
    segments.retain(|segment| !made.contains(&segment.id));
    Ok((segments, made))
}

/// As [`list`], with the segments that do not count.
fn all(folder: &Path) -> Result<(Vec<Segment>, HashSet<String>), StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(io_error(folder, "read")(error)),
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut segments: Vec<Segment> = paths.filter_map(Segment::parse).collect();
    segments.sort_by(|a, b| a.from_ms.cmp(&b.from_ms).then(a.id.cmp(&b.id)));
    let made: HashSet<String> = segments.iter().flat_map(Segment::sources).collect();
    Ok((segments, made))
}
