//! Checksums of a segment's files, beside them: a flipped bit is found before a number is made from it.
//!
//! `_sums` has a line for each file: CRC32C (8 hex digits), bytes, name. Readers of Parquet pass over names that begin
//! with an underscore.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;

use super::place;

/// The file.
const SUMS: &str = "_sums";

/// The checksum of a file and its length, read in pieces.
fn sum(path: &Path) -> io::Result<(u32, u64)> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; 128 << 10];
    let (mut sum, mut bytes) = (0, 0);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((sum, bytes));
        }
        sum = crc32c::crc32c_append(sum, &piece[..read]);
        bytes += read as u64;
    }
}

/// Writes the checksums of every file of a folder, and syncs them.
///
/// # Errors
/// The system refuses.
pub(super) fn write(folder: &Path) -> io::Result<()> {
    let mut text = String::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (sum, bytes) = sum(&entry.path())?;
        text.push_str(&format!("{sum:08x} {bytes} {name}\n"));
    }
    let mut file = place::private_file(&folder.join(SUMS))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Compares a file with its checksum. A segment without any is not judged.
///
/// # Errors
/// They differ, or a file cannot be read.
pub(super) fn check(path: &Path) -> io::Result<u64> {
    let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let parts = path.parent().zip(path.file_name());
    let (folder, name) = parts.ok_or_else(|| damaged("no file of a segment"))?;
    let name = name.to_string_lossy();
    let found = sum(path)?;
    let text = match fs::read(folder.join(SUMS)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found.1),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ' ');
        let sum = u32::from_str_radix(parts.next()?, 16).ok()?;
        let bytes = parts.next()?.parse().ok()?;
        (parts.next()? == name).then_some((sum, bytes))
    });
    match line {
        Some(said) if said == found => Ok(found.1),
        Some(_) => Err(damaged("its checksum is another one: the file was damaged")),
        None => Err(damaged("it has no checksum in _sums, or that is damaged")),
    }
}
