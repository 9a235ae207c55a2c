//! Tables as Parquet files: the one home of the `parquet` crate.
//!
//! Numbers are 64-bit, signed (Spark has no unsigned ones), delta-packed and without dictionaries; texts are
//! UTF-8 with dictionaries; everything is compressed with zstd. Rows are sorted by the caller, and groups
//! of rows carry the least and most of each column, so that a reader can pass over them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::basic::Encoding;
use parquet::basic::Type as Physical;
use parquet::basic::ZstdLevel;
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::data_type::ByteArrayType;
use parquet::data_type::Int64Type;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::EnabledStatistics;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

/// Rows of a group.
const GROUP: usize = 64 << 10;

/// A number that is not known, where a column has no options: no figure is this small.
pub(super) const UNKNOWN: i64 = i64::MIN;
/// A text that is not there, where texts are numbers.
pub(super) const NO_NAME: u32 = u32::MAX;

/// Values of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    /// Numbers; `None`: unknown.
    Int(Vec<Option<i64>>),
    /// Milliseconds since 1970 UTC, always known.
    Time(Vec<i64>),
    /// Texts.
    Text(Vec<Option<String>>),
}

impl Values {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Int(values) => values.len(),
            Self::Time(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }
}

/// A column with its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) name: Cow<'static, str>,
    pub(super) values: Values,
}

impl Column {
    pub(super) fn new<N: Into<Cow<'static, str>>>(name: N, values: Values) -> Self {
        Self {
            name: name.into(),
            values,
        }
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// [`Values::Int`].
    Int,
    /// [`Values::Time`].
    Time,
    /// [`Values::Text`].
    Text,
}

impl Column {
    pub(super) fn kind(&self) -> Kind {
        match &self.values {
            Values::Int(_) => Kind::Int,
            Values::Time(_) => Kind::Time,
            Values::Text(_) => Kind::Text,
        }
    }
}

/// Writes a table; `notes` go into the file's key-value metadata. The file is synced.
pub(super) fn write(
    path: &Path,
    columns: &[Column],
    notes: &[(&str, String)],
) -> Result<(), ParquetError> {
    let mut writer = Writer::create(path, columns, notes)?;
    writer.rows(columns)?;
    writer.finish()
}

/// A table that is being written, one batch of rows after the other.
pub(super) struct Writer {
    file: SerializedFileWriter<File>,
}

impl Writer {
    /// Begins a file with the names and kinds of these columns; it must not be there yet.
    pub(super) fn create(
        path: &Path,
        columns: &[Column],
        notes: &[(&str, String)],
    ) -> Result<Self, ParquetError> {
        let mut message = String::from("message aiops {\n");
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(concat!("aiops ", env!("CARGO_PKG_VERSION")).to_owned());
        for column in columns {
            let (name, path) = (&column.name, ColumnPath::from(column.name.as_ref()));
            let (kind, meaning) = match column.kind() {
                Kind::Int => ("OPTIONAL INT64", ""),
                Kind::Time => ("REQUIRED INT64", " (TIMESTAMP(MILLIS,true))"),
                Kind::Text => ("OPTIONAL BYTE_ARRAY", " (STRING)"),
            };
            message.push_str(&format!("  {kind} {name}{meaning};\n"));
            properties = match column.kind() {
                Kind::Text => properties.set_column_dictionary_enabled(path, true),
                _ => properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            };
        }
        message.push('}');
        let notes = notes
            .iter()
            .map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone()));
        let properties = properties
            .set_key_value_metadata(Some(notes.collect()))
            .build();
        let schema = Arc::new(parse_message_type(&message)?);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| ParquetError::External(Box::new(error)))?;
        Ok(Self {
            file: SerializedFileWriter::new(file, schema, Arc::new(properties))?,
        })
    }

    /// Appends rows: columns of the same names and kinds, in the same order.
    pub(super) fn rows(&mut self, columns: &[Column]) -> Result<(), ParquetError> {
        let rows = columns.first().map_or(0, |column| column.values.len());
        let mut begin = 0;
        while begin < rows {
            let end = (begin + GROUP).min(rows);
            let mut group = self.file.next_row_group()?;
            for Column { values, .. } in columns {
                let Some(mut column) = group.next_column()? else {
                    return Err(ParquetError::General("a column too many".to_owned()));
                };
                match values {
                    Values::Int(values) => {
                        let (levels, known) = split(&values[begin..end], |value| *value);
                        column
                            .typed::<Int64Type>()
                            .write_batch(&known, Some(&levels), None)?;
                    }
                    Values::Time(values) => {
                        column
                            .typed::<Int64Type>()
                            .write_batch(&values[begin..end], None, None)?;
                    }
                    Values::Text(values) => {
                        let (levels, known) =
                            split(&values[begin..end], |text| ByteArray::from(text.as_str()));
                        column
                            .typed::<ByteArrayType>()
                            .write_batch(&known, Some(&levels), None)?;
                    }
                }
                column.close()?;
            }
            group.close()?;
            begin = end;
        }
        Ok(())
    }

    /// Ends the file and syncs it.
    pub(super) fn finish(self) -> Result<(), ParquetError> {
        let file = self.file.into_inner()?;
        file.sync_all()
            .map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// Which rows have a value, and the values.
fn split<T, U>(values: &[Option<T>], take: impl Fn(&T) -> U) -> (Vec<i16>, Vec<U>) {
    let levels = values
        .iter()
        .map(|value| i16::from(value.is_some()))
        .collect();
    (levels, values.iter().flatten().map(take).collect())
}

/// A table on disk.
pub(super) struct Table {
    reader: SerializedFileReader<File>,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self, ParquetError> {
        let file = File::open(path).map_err(|error| ParquetError::External(Box::new(error)))?;
        Self::of(file)
    }

    /// A table whose file is open already: it stays readable when somebody removes it.
    pub(super) fn of(file: File) -> Result<Self, ParquetError> {
        Ok(Self {
            reader: SerializedFileReader::new(file)?,
        })
    }

    /// What the writer noted.
    pub(super) fn note(&self, key: &str) -> Option<String> {
        let notes = self
            .reader
            .metadata()
            .file_metadata()
            .key_value_metadata()?;
        let found = notes.iter().find(|note| note.key == key);
        found.and_then(|note| note.value.clone())
    }

    pub(super) fn rows(&self) -> u64 {
        u64::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    pub(super) fn groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    fn index(&self, name: &str) -> Option<usize> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        schema
            .columns()
            .iter()
            .position(|column| column.name() == name)
    }

    /// A group of rows, all columns of it.
    pub(super) fn group(&self, group: usize) -> Result<Vec<Column>, ParquetError> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let mut columns = Vec::with_capacity(schema.num_columns());
        for column in schema.columns() {
            let name = column.name();
            let values = match (column.physical_type(), column.max_def_level()) {
                (Physical::INT64, 0) => {
                    Values::Time(self.ints(group, name)?.into_iter().flatten().collect())
                }
                (Physical::INT64, _) => Values::Int(self.ints(group, name)?),
                (Physical::BYTE_ARRAY, _) => Values::Text(self.texts(group, name)?),
                // A later version's: the columns that we know are still right.
                _ => continue,
            };
            columns.push(Column::new(name.to_owned(), values));
        }
        Ok(columns)
    }

    /// Least and most of a column of numbers in a group of rows.
    pub(super) fn range(&self, group: usize, name: &str) -> Option<(i64, i64)> {
        let column = self
            .reader
            .metadata()
            .row_group(group)
            .column(self.index(name)?);
        match column.statistics()? {
            Statistics::Int64(range) => Some((*range.min_opt()?, *range.max_opt()?)),
            _ => None,
        }
    }

    /// A column of numbers of a group; a column that the file does not have is unknown throughout.
    pub(super) fn ints(&self, group: usize, name: &str) -> Result<Vec<Option<i64>>, ParquetError> {
        let rows = self.group_rows(group);
        let Some(index) = self.index(name) else {
            return Ok(vec![None; rows]);
        };
        let reader = self.reader.get_row_group(group)?.get_column_reader(index)?;
        let ColumnReader::Int64ColumnReader(mut reader) = reader else {
            return Err(ParquetError::General(format!("{name} holds no numbers")));
        };
        let (mut levels, mut values) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        read_all(rows, |left| {
            reader.read_records(left, Some(&mut levels), None, &mut values)
        })?;
        Ok(join(&levels, values, rows))
    }

    /// A column of texts of a group.
    pub(super) fn texts(
        &self,
        group: usize,
        name: &str,
    ) -> Result<Vec<Option<String>>, ParquetError> {
        let rows = self.group_rows(group);
        let Some(index) = self.index(name) else {
            return Ok(vec![None; rows]);
        };
        let reader = self.reader.get_row_group(group)?.get_column_reader(index)?;
        let ColumnReader::ByteArrayColumnReader(mut reader) = reader else {
            return Err(ParquetError::General(format!("{name} holds no texts")));
        };
        let (mut levels, mut values) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        read_all(rows, |left| {
            reader.read_records(left, Some(&mut levels), None, &mut values)
        })?;
        let texts = values
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes.data()).into_owned());
        Ok(join(&levels, texts.collect(), rows))
    }

    /// A column of numbers of a group, [`UNKNOWN`] where there is none: half the memory of options.
    pub(super) fn numbers(&self, group: usize, name: &str) -> Result<Vec<i64>, ParquetError> {
        let rows = self.group_rows(group);
        let Some(index) = self.index(name) else {
            return Ok(vec![UNKNOWN; rows]);
        };
        let reader = self.reader.get_row_group(group)?.get_column_reader(index)?;
        let ColumnReader::Int64ColumnReader(mut reader) = reader else {
            return Err(ParquetError::General(format!("{name} holds no numbers")));
        };
        let (mut levels, mut values) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        read_all(rows, |left| {
            reader.read_records(left, Some(&mut levels), None, &mut values)
        })?;
        Ok(spread(&levels, values, UNKNOWN))
    }

    /// A column of texts of a group as numbers that `learn` gives; it is asked once for each text of a
    /// dictionary. [`NO_NAME`] where there is none.
    pub(super) fn names(
        &self,
        group: usize,
        name: &str,
        learn: &mut dyn FnMut(&str) -> u32,
    ) -> Result<Vec<u32>, ParquetError> {
        let rows = self.group_rows(group);
        let Some(index) = self.index(name) else {
            return Ok(vec![NO_NAME; rows]);
        };
        let reader = self.reader.get_row_group(group)?.get_column_reader(index)?;
        let ColumnReader::ByteArrayColumnReader(mut reader) = reader else {
            return Err(ParquetError::General(format!("{name} holds no texts")));
        };
        let (mut levels, mut values) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        read_all(rows, |left| {
            reader.read_records(left, Some(&mut levels), None, &mut values)
        })?;
        // Values from a dictionary share its bytes, and all of them are alive here: an address is a text.
        let mut known: HashMap<(usize, usize), u32> = HashMap::new();
        let mut before = ((0, 0), NO_NAME);
        let mut ids = Vec::with_capacity(values.len());
        for value in &values {
            let bytes = value.data();
            let place = (bytes.as_ptr().addr(), bytes.len());
            if place != before.0 || before.1 == NO_NAME {
                let id = *known
                    .entry(place)
                    .or_insert_with(|| learn(&String::from_utf8_lossy(bytes)));
                before = (place, id);
            }
            ids.push(before.1);
        }
        Ok(spread(&levels, ids, NO_NAME))
    }

    fn group_rows(&self, group: usize) -> usize {
        let rows = self.reader.metadata().row_group(group).num_rows();
        usize::try_from(rows).unwrap_or(0)
    }
}

/// Reads until every row is there, or no more comes.
fn read_all(
    rows: usize,
    mut read: impl FnMut(usize) -> Result<(usize, usize, usize), ParquetError>,
) -> Result<(), ParquetError> {
    let mut done = 0;
    while done < rows {
        let (records, ..) = read(rows - done)?;
        if records == 0 {
            return Err(ParquetError::EOF(
                "fewer rows than the file says".to_owned(),
            ));
        }
        done += records;
    }
    Ok(())
}

/// Values at the rows that have one, `none` at the others.
fn spread<T: Copy>(levels: &[i16], values: Vec<T>, none: T) -> Vec<T> {
    // A required column has no levels; most others have a value in every row.
    if levels.is_empty() || levels.len() == values.len() {
        return values;
    }
    let mut values = values.into_iter();
    let row = |level: &i16| {
        let value = if *level > 0 { values.next() } else { None };
        value.unwrap_or(none)
    };
    levels.iter().map(row).collect()
}

/// Values at the rows that have one; a required column has no levels.
fn join<T>(levels: &[i16], values: Vec<T>, rows: usize) -> Vec<Option<T>> {
    let mut values = values.into_iter();
    if levels.is_empty() {
        return values.map(Some).collect();
    }
    let row = |level: &i16| if *level > 0 { values.next() } else { None };
    levels.iter().take(rows).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_back() {
        let path = std::env::temp_dir().join(format!("aiops-table-{}.parquet", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let rows = GROUP + 1000;
        let count = i64::try_from(rows).unwrap();
        let ints: Vec<Option<i64>> = (0..count)
            .map(|row| (row % 3 > 0).then_some(row * 7))
            .collect();
        let texts: Vec<Option<String>> = (0..rows)
            .map(|row| (row % 5 > 0).then(|| format!("名 {}", row % 4)))
            .collect();
        let columns = [
            Column::new("ts", Values::Time((0..count).collect())),
            Column::new("rss_kb", Values::Int(ints.clone())),
            Column::new("comm", Values::Text(texts.clone())),
        ];
        write(&path, &columns, &[("aiops.schema", "1".to_owned())]).unwrap();
        let table = Table::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((table.rows(), table.groups()), (rows as u64, 2));
        assert_eq!(table.note("aiops.schema").as_deref(), Some("1"));
        let tail = i64::try_from(GROUP).unwrap();
        assert_eq!(table.range(1, "ts"), Some((tail, count - 1)));
        assert_eq!(table.ints(0, "ts").unwrap()[5], Some(5));
        assert_eq!(table.ints(0, "rss_kb").unwrap(), ints[..GROUP]);
        assert_eq!(table.texts(1, "comm").unwrap(), texts[GROUP..]);
        assert_eq!(table.ints(1, "not_there").unwrap(), vec![None; 1000]);
        assert!(table.texts(0, "rss_kb").is_err());
    }
}
