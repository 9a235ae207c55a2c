//! A column of a table as bytes.
//!
//! Numbers take whichever of four codings is the shortest for the column; texts and lists are numbers
//! into a dictionary that stands before them. Rows without a value are bits of a bitmap.

use std::collections::HashMap;

use bytes::BufMut;
use bytes::BytesMut;

use super::wire::Cursor;
use super::wire::Malformed;
use super::wire::put_counted;
use super::wire::put_varint;
use super::wire::unzigzag;
use super::wire::zigzag;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Numbers.
    Int = 0,
    /// Byte strings.
    Text = 1,
    /// Lists of numbers.
    List = 2,
    /// How many rows back the same thing stands (0: nowhere); later columns may refer to it.
    Ref = 3,
}

/// How numbers follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As varints.
    Plain = 0,
    /// Difference to the value before.
    Delta = 1,
    /// Length of a run, and its value.
    Runs = 2,
    /// Difference to the value that the table's reference column names, else to the value before.
    ByRef = 3,
}

impl Coding {
    const ALL: [Self; 4] = [Self::Plain, Self::Delta, Self::Runs, Self::ByRef];
}

/// All rows have a value.
const NULLS_NONE: u8 = 0;
/// A bitmap tells which rows have one.
const NULLS_BITMAP: u8 = 1;

fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

fn difference(value: u64, base: u64) -> u64 {
    zigzag(value.wrapping_sub(base).cast_signed())
}

fn sum(base: u64, difference: u64) -> u64 {
    base.wrapping_add(unzigzag(difference).cast_unsigned())
}

/// A list as one text: each number is the difference to the one before.
pub(super) fn encode_list(list: &[u64], out: &mut BytesMut) {
    let mut last = 0;
    for value in list {
        put_varint(out, difference(*value, last));
        last = *value;
    }
}

pub(super) fn decode_list(bytes: &[u8]) -> Result<Vec<u64>, Malformed> {
    let mut cursor = Cursor(bytes);
    let mut list = Vec::new();
    let mut last = 0;
    while !cursor.0.is_empty() {
        last = sum(last, cursor.varint()?);
        list.push(last);
    }
    Ok(list)
}

/// A column that grows; kept and emptied from block to block.
#[derive(Debug)]
pub(super) struct Column {
    name: &'static str,
    kind: Kind,
    /// One per row; 0 where there is no value.
    values: Vec<u64>,
    present: Vec<bool>,
    absent: usize,
    dictionary: HashMap<Vec<u8>, u64>,
    /// The dictionary in the order of its numbers, as it is written.
    entries: BytesMut,
}

impl Column {
    pub(super) fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            values: Vec::new(),
            present: Vec::new(),
            absent: 0,
            dictionary: HashMap::new(),
            entries: BytesMut::new(),
        }
    }

    pub(super) fn push(&mut self, value: Option<u64>) {
        self.values.push(value.unwrap_or(0));
        self.present.push(value.is_some());
        self.absent += usize::from(value.is_none());
    }

    pub(super) fn push_bytes(&mut self, bytes: Option<&[u8]>) {
        let number = bytes.map(|bytes| self.intern(bytes));
        self.push(number);
    }

    fn intern(&mut self, bytes: &[u8]) -> u64 {
        if let Some(number) = self.dictionary.get(bytes) {
            return *number;
        }
        let number = self.dictionary.len() as u64;
        self.dictionary.insert(bytes.to_vec(), number);
        put_counted(&mut self.entries, bytes);
        number
    }

    /// No row has a value: the column is left out.
    pub(super) fn is_blank(&self) -> bool {
        self.absent == self.values.len()
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.present.clear();
        self.absent = 0;
        self.dictionary.clear();
        self.entries.clear();
    }

    pub(super) fn values(&self) -> &[u64] {
        &self.values
    }

    /// Appends the column to `out`; `refs` is the table's reference column.
    pub(super) fn encode(&self, refs: Option<&[u64]>, out: &mut BytesMut) {
        let refs = refs.filter(|_| self.kind == Kind::Int);
        let (coding, ints) = self.shortest(refs);
        let bitmap = if self.absent == 0 {
            Vec::new()
        } else {
            pack(&self.present)
        };
        let mut head = BytesMut::new();
        if self.kind == Kind::Text || self.kind == Kind::List {
            put_varint(&mut head, self.dictionary.len() as u64);
            put_varint(&mut head, self.entries.len() as u64);
        }
        put_counted(out, self.name.as_bytes());
        out.put_u8(self.kind as u8);
        out.put_u8(if self.absent == 0 {
            NULLS_NONE
        } else {
            NULLS_BITMAP
        });
        out.put_u8(coding as u8);
        let len = bitmap.len() + head.len() + self.entries.len() + ints;
        put_varint(out, len as u64);
        out.put_slice(&bitmap);
        out.put_slice(&head);
        out.put_slice(&self.entries);
        self.each(coding, refs, |number| put_varint(out, number));
    }

    fn shortest(&self, refs: Option<&[u64]>) -> (Coding, usize) {
        let mut best = (Coding::Plain, usize::MAX);
        for coding in Coding::ALL {
            if coding == Coding::ByRef && refs.is_none() {
                continue;
            }
            let mut len = 0;
            self.each(coding, refs, |number| len += varint_len(number));
            if len < best.1 {
                best = (coding, len);
            }
        }
        best
    }

    /// The numbers of this coding, in order.
    fn each(&self, coding: Coding, refs: Option<&[u64]>, mut emit: impl FnMut(u64)) {
        let rows = self.present.iter().enumerate().filter(|(_, here)| **here);
        let mut last = 0;
        let mut run = 0_u64;
        for (row, _) in rows {
            let value = self.values[row];
            match coding {
                Coding::Plain => emit(value),
                Coding::Delta => emit(difference(value, last)),
                Coding::ByRef => emit(difference(value, base(&self.values, refs, row, last))),
                Coding::Runs => {
                    if run > 0 && value != last {
                        emit(run);
                        emit(last);
                        run = 0;
                    }
                    run += 1;
                }
            }
            last = value;
        }
        if run > 0 {
            emit(run);
            emit(last);
        }
    }
}

/// What the value of `row` is a difference to.
fn base(values: &[u64], refs: Option<&[u64]>, row: usize, last: u64) -> u64 {
    let back = refs.map_or(0, |refs| refs[row]);
    if back == 0 {
        return last;
    }
    let row = usize::try_from(back)
        .ok()
        .and_then(|back| row.checked_sub(back));
    row.map_or(last, |row| values[row])
}

fn pack(bits: &[bool]) -> Vec<u8> {
    let mut bytes = vec![0; bits.len().div_ceil(8)];
    for (at, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
        bytes[at / 8] |= 1 << (at % 8);
    }
    bytes
}

/// A column's frame: its name and its bytes, not yet decoded.
#[derive(Debug)]
pub(super) struct RawColumn<'a> {
    pub(super) name: &'a [u8],
    kind: u8,
    nulls: u8,
    coding: u8,
    body: Cursor<'a>,
}

/// A decoded column: `values[row]` counts only where `has(row)`.
#[derive(Debug)]
pub(super) struct Decoded<'a> {
    pub(super) kind: Kind,
    pub(super) values: Vec<u64>,
    bitmap: Option<&'a [u8]>,
    /// The dictionary of texts and lists.
    pub(super) entries: Vec<&'a [u8]>,
}

impl Decoded<'_> {
    pub(super) fn has(&self, row: usize) -> bool {
        self.bitmap
            .is_none_or(|bits| bits[row / 8] & (1 << (row % 8)) != 0)
    }
}

impl<'a> RawColumn<'a> {
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        Ok(Self {
            name: cursor.counted()?,
            kind: cursor.byte()?,
            nulls: cursor.byte()?,
            coding: cursor.byte()?,
            body: Cursor(cursor.counted()?),
        })
    }

    pub(super) fn is_ref(&self) -> bool {
        self.kind == Kind::Ref as u8
    }

    /// `None`: the column is of a kind that this reader does not know.
    pub(super) fn decode(
        mut self,
        rows: usize,
        refs: Option<&[u64]>,
    ) -> Result<Option<Decoded<'a>>, Malformed> {
        let kinds = [Kind::Int, Kind::Text, Kind::List, Kind::Ref];
        let kind = kinds.into_iter().find(|kind| *kind as u8 == self.kind);
        let coding = Coding::ALL
            .into_iter()
            .find(|one| *one as u8 == self.coding);
        let (Some(kind), Some(coding), NULLS_NONE | NULLS_BITMAP) = (kind, coding, self.nulls)
        else {
            return Ok(None);
        };
        let bitmap = match self.nulls {
            NULLS_NONE => None,
            _ => Some(self.body.take(rows.div_ceil(8))?),
        };
        let entries = match kind {
            Kind::Int | Kind::Ref => Vec::new(),
            Kind::Text | Kind::List => self.entries()?,
        };
        let mut column = Decoded {
            kind,
            values: vec![0; rows],
            bitmap,
            entries,
        };
        decode_ints(&mut column, coding, &mut self.body, refs)?;
        Ok(Some(column))
    }

    fn entries(&mut self) -> Result<Vec<&'a [u8]>, Malformed> {
        let count = self.body.length()?;
        let mut bytes = Cursor(self.body.counted()?);
        if count > bytes.0.len() {
            return Err(Malformed("dictionary too short"));
        }
        (0..count).map(|_| bytes.counted()).collect()
    }
}

fn decode_ints(
    column: &mut Decoded<'_>,
    coding: Coding,
    body: &mut Cursor<'_>,
    refs: Option<&[u64]>,
) -> Result<(), Malformed> {
    let mut last = 0;
    let mut run = 0;
    for row in 0..column.values.len() {
        if !column.has(row) {
            continue;
        }
        let value = match coding {
            Coding::Plain => body.varint()?,
            Coding::Delta => sum(last, body.varint()?),
            Coding::ByRef => sum(base(&column.values, refs, row, last), body.varint()?),
            Coding::Runs => {
                if run == 0 {
                    run = body.varint()?;
                    last = body.varint()?;
                }
                run = run.checked_sub(1).ok_or(Malformed("empty run"))?;
                last
            }
        };
        column.values[row] = value;
        last = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[Option<u64>], refs: Option<&[u64]>) -> Vec<Option<u64>> {
        let mut column = Column::new("x", Kind::Int);
        for value in values {
            column.push(*value);
        }
        let mut out = BytesMut::new();
        column.encode(refs, &mut out);
        let mut cursor = Cursor(&out);
        let raw = RawColumn::read(&mut cursor).unwrap();
        assert!(cursor.0.is_empty());
        let decoded = raw.decode(values.len(), refs).unwrap().unwrap();
        let has = |row: usize| decoded.has(row).then_some(decoded.values[row]);
        (0..values.len()).map(has).collect()
    }

    proptest! {
        #[test]
        fn numbers_come_back(values in proptest::collection::vec(
            proptest::option::of(prop_oneof![any::<u64>(), 0..4_u64, Just(u64::MAX)]), 0..200)) {
            prop_assert_eq!(round_trip(&values, None), values.clone());
            let refs: Vec<u64> = (0..values.len() as u64).map(|row| row.min(3)).collect();
            prop_assert_eq!(round_trip(&values, Some(&refs)), values);
        }

        #[test]
        fn lists_come_back(list in proptest::collection::vec(any::<u64>(), 0..70)) {
            let mut out = BytesMut::new();
            encode_list(&list, &mut out);
            prop_assert_eq!(decode_list(&out).unwrap(), list);
        }

        #[test]
        fn varint_lengths_are_right(value: u64, shift in 0..64_u32) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value >> shift);
            prop_assert_eq!(out.len(), varint_len(value >> shift));
            prop_assert_eq!(Cursor(&out).varint(), Ok(value >> shift));
        }

        #[test]
        fn noise_is_no_panic(noise in proptest::collection::vec(any::<u8>(), 0..80), rows in 0..500_usize) {
            if let Ok(raw) = RawColumn::read(&mut Cursor(&noise)) {
                let _ = raw.decode(rows, None);
            }
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        assert!(Cursor(&[0xff; 12]).varint().is_err());
        let over = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2];
        assert!(Cursor(&over).varint().is_err());
    }
}
