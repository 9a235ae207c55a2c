//! Checksums of a segment's files, beside them: a flipped bit is found before a number is made from it.
//!
//! `_sums` has a line for each file: CRC32C (8 hex digits), bytes, name; the last line is the CRC32C of those before, and
//! `_sums`. Where that one is wrong the tables are not judged by it: its own damage costs nothing. Older segments have no
//! such line. Readers of Parquet pass over names that begin with an underscore.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::place;
use super::segments::TABLES;

/// The file.
pub(super) const SUMS: &str = "_sums";

/// The checksum of a file and its length, read in pieces from its beginning, wherever its reader stands.
fn sum(file: &File) -> io::Result<(u32, u64)> {
    let mut piece = vec![0; 128 << 10];
    let (mut sum, mut bytes) = (0, 0);
    loop {
        let read = file.read_at(&mut piece, bytes)?;
        if read == 0 {
            return Ok((sum, bytes));
        }
        sum = crc32c::crc32c_append(sum, &piece[..read]);
        bytes += read as u64;
    }
}

/// A file's line.
fn line(path: &Path) -> io::Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (sum, bytes) = sum(&place::open(path)?)?;
    Ok(format!("{sum:08x} {bytes} {name}"))
}

/// The last line: the checksum of the others.
fn seal(lines: &str) -> String {
    format!("{:08x} {SUMS}\n", crc32c::crc32c(lines.as_bytes()))
}

/// The file that a line is of, its checksum and its length.
fn parse(line: &str) -> Option<(&str, (u32, u64))> {
    let mut parts = line.splitn(3, ' ');
    let sum = u32::from_str_radix(parts.next()?, 16).ok()?;
    let bytes = parts.next()?.parse().ok()?;
    Some((parts.next()?, (sum, bytes)))
}

/// Whether a file of checksums is as it was written, as far as it can tell itself.
fn is_whole(text: &str) -> bool {
    let end = text
        .trim_end_matches('\n')
        .rfind('\n')
        .map_or(0, |at| at + 1);
    let (lines, last) = text.split_at(end);
    if last.trim_end().ends_with(SUMS) {
        return last == seal(lines);
    }
    // Of an older version.
    let is_said = |name: &str| {
        let mut said = text.lines().filter_map(|line| Some(parse(line)?.0));
        said.any(|said| said.strip_suffix(".parquet") == Some(name))
    };
    text.ends_with('\n')
        && text.lines().all(|line| parse(line).is_some())
        && TABLES.into_iter().all(is_said)
}

/// Writes the checksums of every table of a folder, whole or not at all, and syncs them.
///
/// # Errors
/// The system refuses.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    let mut text = String::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "parquet") {
            text.push_str(&line(&path)?);
            text.push('\n');
        }
    }
    text.push_str(&seal(&text));
    let new = folder.join("_sums.new");
    let mut file = place::private_file(&new)?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, folder.join(SUMS))
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What a segment says of its files; `None`: nothing, as of an older version, or nothing to believe.
#[derive(Debug)]
pub(super) struct Said(Option<String>);

impl Said {
    /// Reads it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        match place::read(&folder.join(SUMS)) {
            // Names of tables are ASCII; a damaged byte stays one letter.
            Ok(text) => {
                let text: String = text.into_iter().map(char::from).collect();
                Ok(Self(is_whole(&text).then_some(text)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }

    /// Whether it is there and whole.
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a file's line differs from what is said in one byte at the most: then the file is right. A damaged file
    /// has quite another checksum.
    pub(super) fn nearly(&self, path: &Path) -> bool {
        let (Some(text), Ok(line)) = (&self.0, line(path)) else {
            return false;
        };
        let near = |said: &str| {
            let pairs = said.chars().zip(line.chars());
            said.chars().count() == line.chars().count()
                && pairs.filter(|(a, b)| a != b).count() <= 1
        };
        text.lines().any(near)
    }

    /// Compares a file with its checksum; returns its length. Without any it is not judged.
    ///
    /// # Errors
    /// They differ, or the file cannot be read.
    pub(super) fn check(&self, name: &str, file: &File) -> io::Result<u64> {
        let Some(text) = &self.0 else {
            return Ok(file.metadata()?.len());
        };
        let mut lines = text.lines().filter_map(parse);
        let line = lines.find_map(|(said, sum)| (said == name).then_some(sum));
        let said =
            line.ok_or_else(|| damaged("it has no checksum in _sums, or that is damaged"))?;
        let found = sum(file)?;
        if said == found {
            Ok(found.1)
        } else {
            Err(damaged("its checksum is another one: the file was damaged"))
        }
    }
}

/// Compares a file with its checksum. A segment without any is not judged.
///
/// # Errors
/// They differ, or a file cannot be read.
pub(super) fn check(path: &Path) -> io::Result<u64> {
    let parts = path.parent().zip(path.file_name());
    let (folder, name) = parts.ok_or_else(|| damaged("no file of a segment"))?;
    let file = place::open(path)?;
    Said::of(folder)?.check(&name.to_string_lossy(), &file)
}
