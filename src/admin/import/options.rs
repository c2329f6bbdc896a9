//! What an import is asked to do, and what it reports.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::columns::ColumnNames;
use crate::domain::{ImportedRow, ResourceType};

/// What to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportInput {
    /// A file, or `-` for the standard input.
    File {
        /// Its path.
        path: String,
        /// Its format, if its name does not tell.
        format: Option<Format>,
    },
    /// A table of the same database.
    Table {
        /// Its name.
        name: String,
        /// The columns of a unique index to read it by; empty for the primary key.
        key: Vec<String>,
    },
}

impl ImportInput {
    /// Returns its name for people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File { path, .. } => path.clone(),
            Self::Table { name, .. } => format!("table {name}"),
        }
    }
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    JsonLines,
}

impl Format {
    /// Returns the format that a file's name tells.
    pub(super) fn of(path: &str) -> Self {
        let name = path.strip_suffix(".gz").unwrap_or(path);
        let is_json = [".jsonl", ".ndjson", ".json"]
            .iter()
            .any(|suffix| name.ends_with(suffix));
        if is_json { Self::JsonLines } else { Self::Csv }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::JsonLines),
            _ => Err("use csv or jsonl".to_owned()),
        }
    }
}

/// The options of an import.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// What to import.
    pub input: ImportInput,
    /// The type of the resources, if no column tells.
    pub resource_type: Option<ResourceType>,
    /// The names of columns.
    pub columns: ColumnNames,
    /// The source of the events.
    pub source: String,
    /// The time of rows that have none; `None` for the start of the import.
    pub default_time: Option<DateTime<Utc>>,
    /// The number of likes and unlikes of one transaction.
    pub batch: usize,
    /// Whether to end at the first invalid row.
    pub strict: bool,
    /// Whether to read and check the rows only.
    pub dry_run: bool,
    /// Whether to begin anew where an earlier run stopped.
    pub restart: bool,
    /// Whether to import although a running process caches in its own memory, and so shows old counts until the end.
    pub stale_caches: bool,
}

impl ImportOptions {
    /// Identifies the input with the options that its events depend on.
    pub(super) fn fingerprint(&self) -> String {
        let input = match &self.input {
            ImportInput::File { path, format } => {
                let full = std::fs::canonicalize(path).map(|full| full.display().to_string());
                format!("file {} {format:?}", full.unwrap_or_else(|_| path.clone()))
            }
            ImportInput::Table { name, key } => format!("table {name} {key:?}"),
        };
        let text = format!(
            "{input} {:?} {} {}",
            self.resource_type, self.columns, self.source
        );
        hex::encode(digest(&SHA256, text.as_bytes()))
    }
}

/// An invalid row.
#[derive(Debug, Clone, Serialize)]
pub struct Rejected {
    /// Its place in the input, such as `line 7`.
    pub place: String,
    /// Why it is invalid.
    pub reason: String,
    /// What was read of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<ImportedRow>,
}

/// The outcome of an import, its earlier runs included.
#[derive(Debug, Clone, Serialize)]
pub struct ImportReport {
    /// The input.
    pub name: String,
    /// The rows read.
    pub rows: i64,
    /// The invalid ones.
    pub rejected: i64,
    /// The events that were recorded; none in a dry run.
    pub new: i64,
    /// The events that were recorded before; none in a dry run.
    pub repeated: i64,
    /// The rows that earlier runs had read.
    pub resumed_at: u64,
    /// The duration of this run.
    pub seconds: f64,
    /// The rows that this run read a second.
    pub rows_per_second: f64,
    /// The first invalid rows of this run.
    pub examples: Vec<Rejected>,
}
