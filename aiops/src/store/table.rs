//! Tables as Parquet files: the one home of the `parquet` crate.
//!
//! Numbers are 64-bit, signed (Spark has no unsigned ones), delta-packed and without dictionaries; texts are
//! UTF-8 with dictionaries; everything is compressed with zstd. Rows are sorted by the caller, and groups
//! of rows carry the least and most of each column, so that a reader can pass over them.

mod places;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::basic::Encoding;
use parquet::basic::Type as PhysicalType;
use parquet::basic::ZstdLevel;
use parquet::column::reader::ColumnReader;
use parquet::column::reader::ColumnReaderImpl;
pub(super) use parquet::data_type::ByteArray;
use parquet::data_type::ByteArrayType;
use parquet::data_type::DataType;
use parquet::data_type::Int64Type;
pub(super) use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::EnabledStatistics;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedColumnWriter;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnDescPtr;
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

impl Column {
    /// Rows behind its own: of a column of the same name and kind.
    pub(super) fn append(&mut self, other: Self) {
        match (&mut self.values, other.values) {
            (Values::Int(all), Values::Int(more)) => all.extend(more),
            (Values::Time(all), Values::Time(more)) => all.extend(more),
            (Values::Text(all), Values::Text(more)) => all.extend(more),
            // Another kind is no more of the same.
            _ => {}
        }
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Numbers, some unknown.
    Int,
    /// Milliseconds since 1970 UTC.
    Time,
    /// Texts, some not there.
    Text,
}

impl Kind {
    fn of(values: &Values) -> Self {
        match values {
            Values::Int(_) => Self::Int,
            Values::Time(_) => Self::Time,
            Values::Text(_) => Self::Text,
        }
    }
}

/// Writes a table; `notes` go into the file's key-value metadata. The file is synced.
pub(super) fn write(
    path: &Path,
    columns: &[Column],
    notes: &[(&str, String)],
) -> Result<(), ParquetError> {
    let mut writer = Writer::create(path, &shape(columns), notes)?;
    writer.rows(columns)?;
    writer.finish()
}

/// Names and kinds of columns.
pub(super) fn shape(columns: &[Column]) -> Vec<(String, Kind)> {
    columns
        .iter()
        .map(|column| (column.name.to_string(), Kind::of(&column.values)))
        .collect()
}

/// Takes the values of a column, a part of its rows at a time.
pub(super) struct Sink<'a, 'b>(&'a mut SerializedColumnWriter<'b>);

impl Sink<'_, '_> {
    pub(super) fn ints(&mut self, values: &[Option<i64>]) -> Result<(), ParquetError> {
        let (levels, known) = split(values, |value| *value);
        let column = self.0.typed::<Int64Type>();
        column.write_batch(&known, Some(&levels), None).map(drop)
    }

    pub(super) fn times(&mut self, values: &[i64]) -> Result<(), ParquetError> {
        let column = self.0.typed::<Int64Type>();
        column.write_batch(values, None, None).map(drop)
    }

    /// Texts: a level of 1 for each row that has one.
    pub(super) fn bytes(
        &mut self,
        levels: &[i16],
        known: &[ByteArray],
    ) -> Result<(), ParquetError> {
        let column = self.0.typed::<ByteArrayType>();
        column.write_batch(known, Some(levels), None).map(drop)
    }
}

/// Writes a table of columns that `fill` hands over when it is asked: by number, a group of rows at a time, so
/// that no more than that is in memory. The file is synced.
pub(super) fn write_parts(
    path: &Path,
    columns: &[(String, Kind)],
    rows: usize,
    notes: &[(&str, String)],
    fill: impl FnMut(usize, Range<usize>, Sink<'_, '_>) -> Result<(), ParquetError>,
) -> Result<(), ParquetError> {
    let mut writer = Writer::create(path, columns, notes)?;
    writer.parts(rows, fill)?;
    writer.finish()
}

/// A table that is being written, one batch of rows after the other.
pub(super) struct Writer {
    file: SerializedFileWriter<File>,
    columns: usize,
}

impl Writer {
    /// Begins a file, which must not be there yet; only its owner can read it.
    pub(super) fn create(
        path: &Path,
        columns: &[(String, Kind)],
        notes: &[(&str, String)],
    ) -> Result<Self, ParquetError> {
        let mut message = String::from("message aiops {\n");
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(concat!("aiops ", env!("CARGO_PKG_VERSION")).to_owned());
        for (name, kind) in columns {
            let path = ColumnPath::from(name.as_str());
            let (physical, meaning) = match kind {
                Kind::Int => ("OPTIONAL INT64", ""),
                Kind::Time => ("REQUIRED INT64", " (TIMESTAMP(MILLIS,true))"),
                Kind::Text => ("OPTIONAL BYTE_ARRAY", " (STRING)"),
            };
            message.push_str(&format!("  {physical} {name}{meaning};\n"));
            properties = match kind {
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
            columns: columns.len(),
        })
    }

    /// Appends rows: columns of the names and kinds of the file, in its order.
    pub(super) fn rows(&mut self, columns: &[Column]) -> Result<(), ParquetError> {
        let rows = columns.first().map_or(0, |column| column.values.len());
        self.parts(rows, |at, part, mut sink| match &columns[at].values {
            Values::Int(values) => sink.ints(&values[part]),
            Values::Time(values) => sink.times(&values[part]),
            Values::Text(values) => {
                let (levels, known) = split(&values[part], |text| ByteArray::from(text.as_str()));
                sink.bytes(&levels, &known)
            }
        })
    }

    fn parts(
        &mut self,
        rows: usize,
        mut fill: impl FnMut(usize, Range<usize>, Sink<'_, '_>) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        for begin in (0..rows).step_by(GROUP) {
            let part = begin..(begin + GROUP).min(rows);
            let mut group = self.file.next_row_group()?;
            for at in 0..self.columns {
                let Some(mut column) = group.next_column()? else {
                    return Err(ParquetError::General("a column too many".to_owned()));
                };
                fill(at, part.clone(), Sink(&mut column))?;
                column.close()?;
            }
            group.close()?;
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

/// Levels of definition, and the values of the rows that have one.
type Raw<T> = (Vec<i16>, Vec<T>);

/// A table on disk.
pub(super) struct Table {
    reader: SerializedFileReader<File>,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self, ParquetError> {
        Self::of(super::place::open(path)?)
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

    /// Whether it has a column.
    pub(super) fn has(&self, name: &str) -> bool {
        self.index(name).is_some()
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

    /// Which rows of a group have a value, and the values; `None`: the file has no such column.
    fn raw_numbers(&self, group: usize, name: &str) -> Result<Option<Raw<i64>>, ParquetError> {
        let Some(index) = self.index(name) else {
            return Ok(None);
        };
        let reader = self.reader.get_row_group(group)?.get_column_reader(index)?;
        let ColumnReader::Int64ColumnReader(mut reader) = reader else {
            return Err(ParquetError::General(format!("{name} holds no numbers")));
        };
        let rows = self.group_rows(group);
        let (mut levels, mut values) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        read_all(rows, |left| {
            reader.read_records(left, Some(&mut levels), None, &mut values)
        })?;
        Ok(Some((levels, values)))
    }

    /// Which rows of a group have a value, and the values; `None`: the file has no such column.
    fn raw_texts(&self, group: usize, name: &str) -> Result<Option<Raw<ByteArray>>, ParquetError> {
        let Some(index) = self.index(name) else {
            return Ok(None);
        };
        let reader = self.reader.get_row_group(group)?.get_column_reader(index)?;
        let ColumnReader::ByteArrayColumnReader(mut reader) = reader else {
            return Err(ParquetError::General(format!("{name} holds no texts")));
        };
        let rows = self.group_rows(group);
        let (mut levels, mut values) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        read_all(rows, |left| {
            reader.read_records(left, Some(&mut levels), None, &mut values)
        })?;
        Ok(Some((levels, values)))
    }

    /// A column of numbers of a group; a column that the file does not have is unknown throughout.
    pub(super) fn ints(&self, group: usize, name: &str) -> Result<Vec<Option<i64>>, ParquetError> {
        let rows = self.group_rows(group);
        let Some((levels, values)) = self.raw_numbers(group, name)? else {
            return Ok(vec![None; rows]);
        };
        Ok(join(&levels, values, rows))
    }

    /// A column of texts of a group.
    pub(super) fn texts(
        &self,
        group: usize,
        name: &str,
    ) -> Result<Vec<Option<String>>, ParquetError> {
        let rows = self.group_rows(group);
        let Some((levels, values)) = self.raw_texts(group, name)? else {
            return Ok(vec![None; rows]);
        };
        let texts = values
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes.data()).into_owned());
        Ok(join(&levels, texts.collect(), rows))
    }

    /// A column of numbers of a group, [`UNKNOWN`] where there is none: half the memory of options.
    pub(super) fn numbers(&self, group: usize, name: &str) -> Result<Vec<i64>, ParquetError> {
        let rows = self.group_rows(group);
        let Some((levels, values)) = self.raw_numbers(group, name)? else {
            return Ok(vec![UNKNOWN; rows]);
        };
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
        if let Some(index) = self.index(name) {
            let pages = self.reader.get_row_group(group)?;
            let schema = self.reader.metadata().file_metadata().schema_descr();
            let optional = schema.column(index).max_def_level() > 0;
            let pages = pages.get_column_page_reader(index)?;
            if let Some(names) = places::names(pages, rows, optional, NO_NAME, learn)? {
                return Ok(names);
            }
        }
        let Some((levels, values)) = self.raw_texts(group, name)? else {
            return Ok(vec![NO_NAME; rows]);
        };
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

    /// Its columns with what they hold; ones of another kind are not ours.
    pub(super) fn columns(&self) -> Vec<(String, Kind)> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let kind = |column: &ColumnDescPtr| {
            let kind = match (column.physical_type(), column.max_def_level()) {
                (PhysicalType::INT64, 0) => Kind::Time,
                (PhysicalType::INT64, _) => Kind::Int,
                (PhysicalType::BYTE_ARRAY, _) => Kind::Text,
                _ => return None,
            };
            Some((column.name().to_owned(), kind))
        };
        schema.columns().iter().filter_map(kind).collect()
    }

    /// A group of rows, all columns of it.
    pub(super) fn group(&self, group: usize) -> Result<Vec<Column>, ParquetError> {
        let column = |(name, kind): (String, Kind)| {
            let values = match kind {
                Kind::Int => Values::Int(self.ints(group, &name)?),
                Kind::Time => {
                    Values::Time(self.ints(group, &name)?.into_iter().flatten().collect())
                }
                Kind::Text => Values::Text(self.texts(group, &name)?),
            };
            Ok(Column::new(name, values))
        };
        self.columns().into_iter().map(column).collect()
    }

    /// Some rows of a column of numbers, wherever they stand.
    pub(super) fn ints_at(
        &self,
        name: &str,
        rows: Range<usize>,
    ) -> Result<Vec<Option<i64>>, ParquetError> {
        self.at(name, rows, |reader, skip, take| {
            let ColumnReader::Int64ColumnReader(reader) = reader else {
                return Err(ParquetError::General(format!("{name} holds no numbers")));
            };
            records(reader, skip, take)
        })
    }

    /// Some rows of a column of texts; equal ones share their bytes.
    pub(super) fn bytes_at(
        &self,
        name: &str,
        rows: Range<usize>,
    ) -> Result<Vec<Option<ByteArray>>, ParquetError> {
        self.at(name, rows, |reader, skip, take| {
            let ColumnReader::ByteArrayColumnReader(reader) = reader else {
                return Err(ParquetError::General(format!("{name} holds no texts")));
            };
            records(reader, skip, take)
        })
    }

    fn at<T: Clone>(
        &self,
        name: &str,
        rows: Range<usize>,
        read: impl Fn(ColumnReader, usize, usize) -> Result<Vec<Option<T>>, ParquetError>,
    ) -> Result<Vec<Option<T>>, ParquetError> {
        let Some(index) = self.index(name) else {
            return Ok(vec![None; rows.len()]);
        };
        let mut found = Vec::with_capacity(rows.len());
        let mut begin = 0;
        for group in 0..self.groups() {
            let end = begin + self.group_rows(group);
            let part = rows.start.max(begin)..rows.end.min(end);
            if !part.is_empty() {
                let reader = self.reader.get_row_group(group)?.get_column_reader(index)?;
                found.extend(read(reader, part.start - begin, part.len())?);
            }
            begin = end;
        }
        if found.len() == rows.len() {
            Ok(found)
        } else {
            Err(ParquetError::EOF("fewer rows than wanted".to_owned()))
        }
    }

    /// Reads every value of every column; returns the rows.
    ///
    /// # Errors
    /// Something cannot be decoded, or a column is shorter than the file says.
    pub(super) fn read_fully(&self) -> Result<u64, ParquetError> {
        let mut all = 0;
        for group in 0..self.groups() {
            let rows = self.group_rows(group);
            let reader = self.reader.get_row_group(group)?;
            for column in 0..reader.num_columns() {
                let mut levels = Vec::new();
                match reader.get_column_reader(column)? {
                    ColumnReader::Int64ColumnReader(mut reader) => {
                        let mut values = Vec::new();
                        read_all(rows, |left| {
                            reader.read_records(left, Some(&mut levels), None, &mut values)
                        })?;
                    }
                    ColumnReader::ByteArrayColumnReader(mut reader) => {
                        let mut values = Vec::new();
                        read_all(rows, |left| {
                            reader.read_records(left, Some(&mut levels), None, &mut values)
                        })?;
                    }
                    _ => return Err(ParquetError::General("a column of another type".to_owned())),
                }
            }
            all += rows as u64;
        }
        if all == self.rows() {
            Ok(all)
        } else {
            let text = "its groups have not the rows that it says";
            Err(ParquetError::General(text.to_owned()))
        }
    }

    fn group_rows(&self, group: usize) -> usize {
        let rows = self.reader.metadata().row_group(group).num_rows();
        usize::try_from(rows).unwrap_or(0)
    }
}

/// Rows of a column behind some others.
fn records<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    skip: usize,
    take: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    if reader.skip_records(skip)? < skip {
        return Err(ParquetError::EOF("fewer rows than wanted".to_owned()));
    }
    let (mut levels, mut values) = (Vec::new(), Vec::with_capacity(take));
    read_all(take, |left| {
        reader.read_records(left, Some(&mut levels), None, &mut values)
    })?;
    Ok(join(&levels, values, take))
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
        let mut known = Vec::new();
        let ids = table.names(1, "comm", &mut |text| {
            known.push(text.to_owned());
            u32::try_from(known.len() - 1).unwrap()
        });
        let name = |id: &u32| known.get(usize::try_from(*id).unwrap()).cloned();
        let names: Vec<Option<String>> = ids.unwrap().iter().map(name).collect();
        assert_eq!(names, texts[GROUP..]);
        // From the dictionary alone.
        assert_eq!(known.len(), 4);
        assert!(table.texts(0, "rss_kb").is_err());
    }
}
