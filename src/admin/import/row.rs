//! Rows of the input, and places between them.

use serde::{Deserialize, Serialize};

use crate::domain::{ImportedRow, ResourceType};

/// A row of the input.
pub(super) struct InputRow {
    pub(super) place: String,
    /// The type that the name of its column tells.
    pub(super) named_type: Option<ResourceType>,
    pub(super) row: Result<ImportedRow, String>,
}

/// A place between two rows of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The number of rows before it.
    pub(super) rows: u64,
    /// Of a file, the digest of these rows; of a table, the key of the last one.
    pub(super) place: Vec<String>,
}
