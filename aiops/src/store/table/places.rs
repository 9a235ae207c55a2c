//! Texts of a column that has a dictionary, as numbers: rows are runs of places in the dictionary, so that none
//! of them becomes a text of its own. Columns that are stored otherwise are left to the usual reader.

use parquet::basic::Encoding;
use parquet::column::page::Page;
use parquet::column::page::PageReader;
use parquet::errors::ParquetError;

/// Stretches of rows that are alike.
type Runs = Vec<(u32, usize)>;

/// Rows of a column as the numbers that `learn` gives the texts of its dictionaries, `none` where there is no text;
/// `None`: it is not stored so. `optional`: rows may have no text.
pub(super) fn names(
    mut pages: Box<dyn PageReader>,
    rows: usize,
    optional: bool,
    none: u32,
    learn: &mut dyn FnMut(&str) -> u32,
) -> Result<Option<Vec<u32>>, ParquetError> {
    let mut dictionary = Vec::new();
    let mut all = Vec::with_capacity(rows);
    while let Some(page) = pages.get_next_page()? {
        let read = match page {
            Page::DictionaryPage {
                buf,
                num_values,
                encoding: Encoding::PLAIN | Encoding::PLAIN_DICTIONARY,
                ..
            } => match texts(&buf, num_values, learn) {
                Some(texts) => {
                    dictionary = texts;
                    Some(())
                }
                None => None,
            },
            Page::DataPage {
                buf,
                num_values,
                encoding: Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY,
                def_level_encoding: Encoding::RLE,
                ..
            } => usize::try_from(num_values)
                .ok()
                .filter(|count| *count <= rows - all.len())
                .and_then(|count| data(&buf, count, optional, none, &dictionary, &mut all)),
            _ => None,
        };
        if read.is_none() {
            return Ok(None);
        }
    }
    Ok((all.len() == rows).then_some(all))
}

/// A dictionary: texts with their lengths before them.
fn texts(mut bytes: &[u8], count: u32, learn: &mut dyn FnMut(&str) -> u32) -> Option<Vec<u32>> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let text = counted(&mut bytes)?;
        ids.push(learn(&String::from_utf8_lossy(text)));
    }
    Some(ids)
}

/// Bytes with their length before them.
fn counted<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (part, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

/// A page of rows: which of them have a text, and the places of those.
fn data(
    mut bytes: &[u8],
    count: usize,
    optional: bool,
    none: u32,
    dictionary: &[u32],
    all: &mut Vec<u32>,
) -> Option<()> {
    let levels = if optional {
        runs(counted(&mut bytes)?, 1, count)?
    } else {
        vec![(1, count)]
    };
    let known = levels.iter().filter(|(level, _)| *level > 0);
    let known = known.map(|(_, n)| n).sum();
    let mut places = match bytes.split_first() {
        Some((width, rest)) => runs(rest, u32::from(*width), known)?.into_iter(),
        None => Vec::new().into_iter(),
    };
    let mut left = (none, 0);
    for (level, mut n) in levels {
        if level == 0 {
            all.resize(all.len() + n, none);
            continue;
        }
        while n > 0 {
            if left.1 == 0 {
                let (place, count) = places.next()?;
                left = (*dictionary.get(usize::try_from(place).ok()?)?, count);
            }
            let part = n.min(left.1);
            all.resize(all.len() + part, left.0);
            (n, left.1) = (n - part, left.1 - part);
        }
    }
    Some(())
}

/// Numbers of `width` bits, as runs of one number and as packed ones (Parquet's RLE/bit-packing hybrid).
fn runs(mut bytes: &[u8], width: u32, count: usize) -> Option<Runs> {
    if width > 32 {
        return None;
    }
    let mut found: Runs = Vec::new();
    let mut left = count;
    while left > 0 {
        let head = varint(&mut bytes)?;
        if head & 1 == 0 {
            let (value, rest) = bytes.split_at_checked(usize::try_from(width.div_ceil(8)).ok()?)?;
            bytes = rest;
            let value = value.iter().rev();
            let value = value.fold(0, |value, byte| (value << 8) | u32::from(*byte));
            let n = usize::try_from(head >> 1).ok()?.min(left);
            if n == 0 {
                return None;
            }
            found.push((value, n));
            left -= n;
            continue;
        }
        let packed = usize::try_from(head >> 1).ok()?;
        let size = packed.checked_mul(usize::try_from(width).ok()?)?;
        let (part, rest) = bytes.split_at_checked(size)?;
        bytes = rest;
        let n = packed.checked_mul(8)?.min(left);
        if n == 0 {
            return None;
        }
        unpack(part, width, n, &mut found);
        left -= n;
    }
    Some(found)
}

/// Numbers of `width` bits, the lowest bit first.
fn unpack(bytes: &[u8], width: u32, n: usize, found: &mut Runs) {
    let mut bytes = bytes.iter();
    let (mut bits, mut held) = (0_u64, 0_u32);
    let mask = (1_u64 << width) - 1;
    for _ in 0..n {
        while held < width {
            bits |= u64::from(bytes.next().copied().unwrap_or(0)) << held;
            held += 8;
        }
        let value = u32::try_from(bits & mask).unwrap_or(u32::MAX);
        (bits, held) = (bits >> width, held - width);
        match found.last_mut() {
            Some(last) if last.0 == value => last.1 += 1,
            _ => found.push((value, 1)),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_packed_numbers_are_read() {
        // The example of the format: 0 to 7 in three bits; then five times 9, in four.
        assert_eq!(
            runs(&[0b11, 0b1000_1000, 0b1100_0110, 0b1111_1010], 3, 8),
            Some((0..8).map(|value| (value, 1)).collect())
        );
        assert_eq!(runs(&[10, 9], 4, 5), Some(vec![(9, 5)]));
        // No more than is wanted; numbers of no bits.
        assert_eq!(runs(&[0x80, 0x01, 9], 4, 3), Some(vec![(9, 3)]));
        assert_eq!(runs(&[3], 0, 8), Some(vec![(0, 8)]));
        // Cut, or endless.
        assert_eq!(runs(&[10], 4, 5), None);
        assert_eq!(runs(&[3, 1], 3, 8), None);
        assert_eq!(runs(&[0, 9], 4, 5), None);
        assert_eq!(runs(&[0xff; 12], 4, 5), None);
    }

    #[test]
    fn a_page_has_texts_where_its_levels_say_so() {
        // Levels: two there, one not, one there; places: 1, 0, 0.
        let page = [2, 0, 0, 0, 3, 0b1011, 1, 3, 0b001];
        let mut all = Vec::new();
        data(&page, 4, true, 9, &[50, 60], &mut all).unwrap();
        assert_eq!(all, [60, 50, 9, 50]);
        // A place that the dictionary does not have.
        assert_eq!(data(&page, 4, true, 9, &[50], &mut all), None);
    }
}
