//! Reads the rows of a file: CSV with a header, or one JSON object a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use ring::digest::{Context, SHA256};
use serde_json::{Map, Value};

use super::columns::{ColumnNames, Columns, Field};
use super::options::Format;
use super::row::{InputRow, Position};
use crate::admin::AdminError;
use crate::domain::{ImportedRow, ResourceTypes};

/// The rows of a file, or of the standard input.
pub(super) struct FileRows {
    path: String,
    records: Records,
    rows: u64,
    /// Of all records so far, so that a resumed import notices that the file is another one.
    digest: Context,
    /// The bytes read of the file, and its size.
    read: Arc<AtomicU64>,
    size: u64,
}

enum Records {
    Csv {
        reader: csv::Reader<Box<dyn Read + Send>>,
        columns: Columns,
        fields: usize,
        record: csv::ByteRecord,
    },
    JsonLines {
        lines: BufReader<Box<dyn Read + Send>>,
        names: ColumnNames,
        types: ResourceTypes,
        line: Vec<u8>,
        number: u64,
    },
}

impl FileRows {
    /// Opens a file, or the standard input if the path is `-`.
    pub(super) fn open(
        path: &str,
        format: Option<Format>,
        names: &ColumnNames,
        types: &ResourceTypes,
    ) -> Result<Self, AdminError> {
        let failed = |source: io::Error| AdminError::Input {
            path: path.to_owned(),
            source,
        };
        let read = Arc::new(AtomicU64::new(0));
        let (input, size): (Box<dyn Read + Send>, u64) = if path == "-" {
            (Box::new(BufReader::new(io::stdin())), 0)
        } else {
            let file = File::open(Path::new(path)).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            (Box::new(file), size)
        };
        let input = Counted {
            input,
            read: Arc::clone(&read),
        };
        let text: Box<dyn Read + Send> = if path.ends_with(".gz") {
            Box::new(MultiGzDecoder::new(BufReader::new(input)))
        } else {
            Box::new(input)
        };
        let records = match format.unwrap_or_else(|| Format::of(path)) {
            Format::Csv => {
                let mut reader = csv::ReaderBuilder::new()
                    .flexible(true)
                    .buffer_capacity(64 * 1024)
                    .from_reader(text);
                let header = reader.headers().map_err(|error| failed(error.into()))?;
                let header: Vec<&str> = header.iter().map(str::trim).collect();
                let columns = names.resolve(&header, types).map_err(AdminError::Invalid)?;
                Records::Csv {
                    columns,
                    fields: header.len(),
                    reader,
                    record: csv::ByteRecord::new(),
                }
            }
            Format::JsonLines => Records::JsonLines {
                lines: BufReader::with_capacity(64 * 1024, text),
                names: names.clone(),
                types: types.clone(),
                line: Vec::new(),
                number: 0,
            },
        };
        Ok(Self {
            path: path.to_owned(),
            records,
            rows: 0,
            digest: Context::new(&SHA256),
            read,
            size,
        })
    }

    /// Reads the next rows, fewer than `most` at the end.
    pub(super) fn read(&mut self, most: usize) -> Result<Vec<InputRow>, AdminError> {
        let mut rows = Vec::with_capacity(most);
        while rows.len() < most
            && let Some(row) = self.next()?
        {
            rows.push(row);
        }
        Ok(rows)
    }

    /// Reads the next row; `None` after the last one.
    fn next(&mut self) -> Result<Option<InputRow>, AdminError> {
        self.next_row().map_err(|source| AdminError::Input {
            path: self.path.clone(),
            source,
        })
    }

    fn next_row(&mut self) -> io::Result<Option<InputRow>> {
        let row = match &mut self.records {
            Records::Csv {
                reader,
                columns,
                fields,
                record,
            } => {
                if !reader.read_byte_record(record)? {
                    return Ok(None);
                }
                for field in record.iter() {
                    self.digest.update(field);
                    self.digest.update(b"\n");
                }
                let line = record.position().map_or(0, csv::Position::line);
                InputRow {
                    place: format!("line {line}"),
                    named_type: columns.named_type,
                    row: csv_row(record, columns, *fields),
                }
            }
            Records::JsonLines {
                lines,
                names,
                types,
                line,
                number,
            } => {
                loop {
                    line.clear();
                    if lines.read_until(b'\n', line)? == 0 {
                        return Ok(None);
                    }
                    *number += 1;
                    if !line.trim_ascii().is_empty() {
                        break;
                    }
                }
                self.digest.update(line);
                let place = format!("line {number}");
                match json_row(line, names, types) {
                    Ok((row, columns)) => InputRow {
                        place,
                        named_type: columns.named_type,
                        row: Ok(row),
                    },
                    Err(reason) => InputRow {
                        place,
                        named_type: None,
                        row: Err(reason),
                    },
                }
            }
        };
        self.rows += 1;
        Ok(Some(row))
    }

    /// Returns the columns of a file with a header.
    pub(super) const fn columns(&self) -> Option<&Columns> {
        match &self.records {
            Records::Csv { columns, .. } => Some(columns),
            Records::JsonLines { .. } => None,
        }
    }

    /// Returns the position after the last row that was read.
    pub(super) fn position(&self) -> Position {
        Position {
            rows: self.rows,
            place: vec![hex::encode(self.digest.clone().finish())],
        }
    }

    /// Returns about how many rows the file has, from the share of its bytes that was read; zero if unknown.
    pub(super) fn total(&self) -> u64 {
        let read = self.read.load(Ordering::Relaxed);
        if self.size == 0 || read == 0 {
            return 0;
        }
        let total = u128::from(self.rows) * u128::from(self.size) / u128::from(read);
        u64::try_from(total).unwrap_or(u64::MAX).max(self.rows)
    }
}

fn csv_row(
    record: &csv::ByteRecord,
    columns: &Columns,
    fields: usize,
) -> Result<ImportedRow, String> {
    if record.len() != fields {
        return Err(format!(
            "the row has {} fields, and the header has {fields}",
            record.len()
        ));
    }
    let read = |field: Field| -> Result<Option<String>, String> {
        let bytes = columns.place(field).and_then(|place| record.get(place));
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes).map_err(|_| "the row is not UTF-8".to_owned())?;
        let text = text.trim();
        Ok((!text.is_empty()).then(|| text.to_owned()))
    };
    imported(read)
}

fn json_row(
    line: &[u8],
    names: &ColumnNames,
    types: &ResourceTypes,
) -> Result<(ImportedRow, Columns), String> {
    let object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| format!("not a JSON object: {error}"))?;
    let keys: Vec<&str> = object.keys().map(String::as_str).collect();
    // A field that is absent from an object may be in others.
    let columns = names.resolve_some(&keys, types);
    let row = imported(|field| {
        let key = columns.place(field).and_then(|place| keys.get(place));
        match key.and_then(|key| object.get(*key)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
            Some(_) => Err("a field is neither text nor a number".to_owned()),
        }
    })?;
    Ok((row, columns))
}

fn imported(
    mut read: impl FnMut(Field) -> Result<Option<String>, String>,
) -> Result<ImportedRow, String> {
    Ok(ImportedRow {
        user: read(Field::User)?,
        resource: read(Field::Resource)?,
        resource_type: read(Field::Type)?,
        time: read(Field::Time)?,
        action: read(Field::Action)?,
        deleted: read(Field::Deleted)?,
    })
}

/// Counts the bytes that pass.
struct Counted {
    input: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(name: &str, text: &[u8]) -> Vec<Result<ImportedRow, String>> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        let path = path.to_str().expect("text");
        let (names, types) = (ColumnNames::default(), ResourceTypes::default());
        let mut rows = FileRows::open(path, None, &names, &types).expect("opened");
        let mut read = Vec::new();
        while let Some(row) = rows.next().expect("read") {
            read.push(row.row);
        }
        assert_eq!(rows.position().rows, read.len() as u64);
        read
    }

    fn row(user: &str, resource: &str) -> Result<ImportedRow, String> {
        Ok(ImportedRow {
            user: Some(user.to_owned()),
            resource: Some(resource.to_owned()),
            ..ImportedRow::default()
        })
    }

    #[test]
    fn csv_and_json_lines_give_the_same_rows() {
        let csv = rows("a.csv", b"user_id, video_id\r\n1,7\r\n\"2\", 8\r\n");
        let json = rows(
            "a.jsonl",
            b"{\"user_id\":1,\"video_id\":\"7\"}\n{\"user_id\":\"2\",\"video_id\":8,\"x\":[]}\n",
        );
        assert_eq!(csv, [row("1", "7"), row("2", "8")]);
        assert_eq!(json, csv);
    }

    #[test]
    fn broken_rows_stand_alone() {
        let csv = rows("a.csv", b"user_id,video_id\n1\n\xff,7\n3,7\n");
        assert!(
            csv[0]
                .as_ref()
                .is_err_and(|error| error.contains("1 fields"))
        );
        assert!(csv[1].as_ref().is_err_and(|error| error.contains("UTF-8")));
        assert_eq!(csv[2], row("3", "7"));
        let json = rows("a.jsonl", b"[1]\n{\n{\"user_id\":3,\"video_id\":7}\n");
        assert!(json[0].is_err() && json[1].is_err(), "{json:?}");
        assert_eq!(json[2], row("3", "7"));
    }
}
