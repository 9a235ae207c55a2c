//! Tables made from a list of fields: one line per field serves writing and reading.

use bytes::BufMut;
use bytes::BytesMut;

use crate::model::MarkSource;
use crate::model::RawText;
use crate::model::ReclaimKind;
use crate::model::StallKind;
use crate::model::StepKind;

use super::column::Column;
use super::column::Decoded;
use super::column::Kind;
use super::column::RawColumn;
use super::column::decode_list;
use super::column::encode_list;
use super::wire::Cursor;
use super::wire::Malformed;
use super::wire::put_counted;
use super::wire::put_varint;

/// Rows of all tables of one block: a reader refuses more before it allocates them.
pub(super) const ROWS_MAX: usize = 1 << 18;
/// Bytes of texts and lists that one block may unpack to.
const TEXT_MAX: usize = 64 << 20;

/// Name of the column that tells how far back the same thing stands.
const REF: &str = "ref";

/// Identity of what a row is about.
pub(super) type Key<T> = fn(&T) -> (u64, u64);

type GetInt<T> = Box<dyn Fn(&T) -> Option<u64> + Send + Sync>;
type SetInt<T> = Box<dyn Fn(&mut T, u64) -> bool + Send + Sync>;

/// How a field is reached. A setter answers whether it could take the value.
pub(super) enum Access<T> {
    Int(GetInt<T>, SetInt<T>),
    Text(fn(&T) -> Option<&[u8]>, fn(&mut T, &[u8]) -> bool),
    List(fn(&T) -> &[u64], fn(&mut T, Vec<u64>)),
}

/// A column of a table and how to reach it in a row.
pub(super) struct Field<T> {
    pub(super) name: &'static str,
    pub(super) access: Access<T>,
}

/// What a table is called and made of.
pub(super) struct Schema<T> {
    pub(super) name: &'static str,
    pub(super) fields: Vec<Field<T>>,
    /// A row in which nothing is known.
    pub(super) blank: fn() -> T,
    /// Identity of the thing that a row is about, when later rows are about it again.
    pub(super) key: Option<Key<T>>,
}

/// A value that fits a column of numbers.
pub(super) trait Cell: Sized {
    fn to_cell(&self) -> Option<u64>;
    fn from_cell(cell: u64) -> Option<Self>;
}

macro_rules! cells {
    ($($int:ty),*) => {$(
        impl Cell for $int {
            fn to_cell(&self) -> Option<u64> {
                Some(u64::from(*self))
            }
            fn from_cell(cell: u64) -> Option<Self> {
                cell.try_into().ok()
            }
        }
    )*};
}
cells!(u8, u32, u64);

impl Cell for bool {
    fn to_cell(&self) -> Option<u64> {
        Some(u64::from(*self))
    }
    fn from_cell(cell: u64) -> Option<Self> {
        Some(cell != 0)
    }
}

impl Cell for i32 {
    fn to_cell(&self) -> Option<u64> {
        Some(super::wire::zigzag(i64::from(*self)))
    }
    fn from_cell(cell: u64) -> Option<Self> {
        super::wire::unzigzag(cell).try_into().ok()
    }
}

impl Cell for char {
    fn to_cell(&self) -> Option<u64> {
        Some(u64::from(*self))
    }
    fn from_cell(cell: u64) -> Option<Self> {
        u32::try_from(cell).ok().and_then(Self::from_u32)
    }
}

impl<C: Cell> Cell for Option<C> {
    fn to_cell(&self) -> Option<u64> {
        self.as_ref().and_then(C::to_cell)
    }
    fn from_cell(cell: u64) -> Option<Self> {
        C::from_cell(cell).map(Some)
    }
}

/// A value that fits a column of texts.
pub(super) trait Text: Sized {
    fn to_text(&self) -> Option<&[u8]>;
    fn from_text(text: &[u8]) -> Option<Self>;
}

impl Text for RawText {
    fn to_text(&self) -> Option<&[u8]> {
        Some(self.as_bytes())
    }
    fn from_text(text: &[u8]) -> Option<Self> {
        Some(Self::new(text))
    }
}

impl Text for String {
    fn to_text(&self) -> Option<&[u8]> {
        Some(self.as_bytes())
    }
    fn from_text(text: &[u8]) -> Option<Self> {
        Self::from_utf8(text.to_vec()).ok()
    }
}

impl<C: Text> Text for Option<C> {
    fn to_text(&self) -> Option<&[u8]> {
        self.as_ref().and_then(C::to_text)
    }
    fn from_text(text: &[u8]) -> Option<Self> {
        C::from_text(text).map(Some)
    }
}

/// Names of an enum's values: numbers would tie recordings to the order in the source.
macro_rules! names {
    ($name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        impl Text for $name {
            fn to_text(&self) -> Option<&[u8]> {
                match self {
                    $(Self::$variant => Some($text),)*
                }
            }
            fn from_text(text: &[u8]) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}
names!(MarkSource { Signal = b"signal", AlreadyExiting = b"already_exiting", Tracepoint = b"tracepoint" });
names!(ReclaimKind { Direct = b"direct", Memcg = b"memcg" });
names!(StallKind {
    Direct = b"direct",
    Memcg = b"memcg",
    Node = b"node",
    Kswapd = b"kswapd",
    Compaction = b"compaction",
    Throttled = b"throttled",
});
names!(StepKind {
    Exit = b"exit",
    WakeReaper = b"wake_reaper",
    StartReaping = b"start_reaping",
    FinishReaping = b"finish_reaping",
    SkipReaping = b"skip_reaping",
});

pub(super) fn store<V>(slot: &mut V, value: Option<V>) -> bool {
    value.map(|value| *slot = value).is_some()
}

/// Rows of one table on their way into a block.
pub(super) struct Table<T: 'static> {
    schema: &'static Schema<T>,
    columns: Vec<Column>,
    refs: Column,
    last: std::collections::HashMap<(u64, u64), u64>,
    rows: usize,
    list: BytesMut,
}

impl<T> Table<T> {
    pub(super) fn new(schema: &'static Schema<T>) -> Self {
        let kind = |field: &Field<T>| match field.access {
            Access::Int(..) => Kind::Int,
            Access::Text(..) => Kind::Text,
            Access::List(..) => Kind::List,
        };
        let columns = schema
            .fields
            .iter()
            .map(|field| Column::new(field.name, kind(field)));
        Self {
            schema,
            columns: columns.collect(),
            refs: Column::new(REF, Kind::Ref),
            last: std::collections::HashMap::new(),
            rows: 0,
            list: BytesMut::new(),
        }
    }

    /// Appends a row; returns about how many bytes it takes in memory.
    pub(super) fn push(&mut self, row: &T) -> usize {
        let mut bytes = 0;
        for (field, column) in self.schema.fields.iter().zip(&mut self.columns) {
            bytes += 9;
            match &field.access {
                Access::Int(get, _) => column.push(get(row)),
                Access::Text(get, _) => {
                    let text = get(row);
                    bytes += text.map_or(0, <[u8]>::len);
                    column.push_bytes(text);
                }
                Access::List(get, _) => {
                    self.list.clear();
                    encode_list(get(row), &mut self.list);
                    bytes += self.list.len();
                    column.push_bytes((!self.list.is_empty()).then_some(&self.list[..]));
                }
            }
        }
        if let Some(key) = self.schema.key {
            let here = self.rows as u64;
            let before = self.last.insert(key(row), here);
            self.refs
                .push(Some(before.map_or(0, |before| here - before)));
        }
        self.rows += 1;
        bytes
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn clear(&mut self) {
        self.columns.iter_mut().for_each(Column::clear);
        self.refs.clear();
        self.last.clear();
        self.rows = 0;
    }

    /// Appends the table, unless it has no rows.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        if self.rows == 0 {
            return;
        }
        // A reference column without any reference would only cost room.
        let refs = self.refs.values().iter().any(|back| *back != 0);
        let refs = refs.then(|| self.refs.values());
        let columns: Vec<&Column> = self.columns.iter().filter(|one| !one.is_blank()).collect();
        let mut body = BytesMut::new();
        put_varint(&mut body, self.rows as u64);
        put_varint(
            &mut body,
            (columns.len() + usize::from(refs.is_some())) as u64,
        );
        if refs.is_some() {
            self.refs.encode(None, &mut body);
        }
        for column in columns {
            column.encode(refs, &mut body);
        }
        put_counted(out, self.schema.name.as_bytes());
        put_varint(out, body.len() as u64);
        out.put_slice(&body);
    }
}

/// What a block may still unpack to.
#[derive(Debug)]
pub(super) struct Budget {
    rows: usize,
    text: usize,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            rows: ROWS_MAX,
            text: TEXT_MAX,
        }
    }

    fn spend(left: &mut usize, amount: usize) -> Result<(), Malformed> {
        *left = left
            .checked_sub(amount)
            .ok_or(Malformed("unpacks to too much"))?;
        Ok(())
    }
}

/// Rows as read; `None` stands for a row with a value that this version does not know.
pub(super) type Rows<T> = Vec<Option<T>>;

impl<T> Schema<T> {
    /// Reads the body of a table of this schema. Unknown columns are passed over.
    pub(super) fn decode(&self, body: &[u8], budget: &mut Budget) -> Result<Rows<T>, Malformed> {
        let mut cursor = Cursor(body);
        let count = cursor.length()?;
        let columns = cursor.length()?;
        Budget::spend(&mut budget.rows, count)?;
        let mut rows: Rows<T> = (0..count).map(|_| Some((self.blank)())).collect();
        let mut refs = None;
        for _ in 0..columns {
            let raw = RawColumn::read(&mut cursor)?;
            let field = self
                .fields
                .iter()
                .find(|field| field.name.as_bytes() == raw.name);
            if !raw.is_ref() && field.is_none() {
                continue;
            }
            let is_ref = raw.is_ref();
            let Some(column) = raw.decode(count, refs.as_deref())? else {
                continue;
            };
            if is_ref {
                refs = Some(column.values);
            } else if let Some(field) = field {
                field.fill(&column, &mut rows, budget)?;
            }
        }
        Ok(rows)
    }
}

impl<T> Field<T> {
    fn fill(
        &self,
        column: &Decoded<'_>,
        rows: &mut Rows<T>,
        budget: &mut Budget,
    ) -> Result<(), Malformed> {
        for (number, slot) in rows.iter_mut().enumerate() {
            let Some(row) = slot.as_mut().filter(|_| column.has(number)) else {
                continue;
            };
            let value = column.values[number];
            let known = match (&self.access, column.kind) {
                (Access::Int(_, set), Kind::Int) => set(row, value),
                (Access::Text(_, set), Kind::Text) => {
                    set(row, entry(column, value, 1, &mut budget.text)?)
                }
                (Access::List(_, set), Kind::List) => {
                    set(
                        row,
                        decode_list(entry(column, value, 8, &mut budget.text)?)?,
                    );
                    true
                }
                // Another kind of value under the same name: a later version's.
                _ => return Ok(()),
            };
            if !known {
                *slot = None;
            }
        }
        Ok(())
    }
}

/// An entry of the dictionary; each of its bytes unpacks to at most `cost` bytes.
fn entry<'a>(
    column: &Decoded<'a>,
    number: u64,
    cost: usize,
    left: &mut usize,
) -> Result<&'a [u8], Malformed> {
    let at = usize::try_from(number).ok();
    let entry = at.and_then(|at| column.entries.get(at));
    let entry = entry.ok_or(Malformed("not in the dictionary"))?;
    Budget::spend(left, entry.len() * cost)?;
    Ok(entry)
}
