//! The input of an import: a file or a table, read some rows at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::spawn_blocking;

use super::columns::{Columns, Field};
use super::commit::insist;
use super::file::FileRows;
use super::options::{ImportInput, ImportOptions};
use super::row::{InputRow, Position};
use crate::admin::{AdminError, Dependencies};
use crate::domain::{ResourceType, ResourceTypes};
use crate::store::{SourceColumn, SourceColumns, SourceTable, Store};

/// An opened input, at a position.
pub(super) enum Input {
    /// Threads for blocking work read it.
    File(Arc<Mutex<FileRows>>),
    Table {
        table: Box<SourceTable>,
        named_type: Option<ResourceType>,
        position: Position,
        size: u64,
    },
}

impl Input {
    pub(super) fn position(&self) -> Position {
        match self {
            Self::File(file) => lock(file).position(),
            Self::Table { position, .. } => position.clone(),
        }
    }

    /// Returns the type that the name of the resource's column tells.
    pub(super) fn named_type(&self) -> Option<ResourceType> {
        match self {
            Self::File(file) => lock(file).columns()?.named_type,
            Self::Table { named_type, .. } => *named_type,
        }
    }

    /// Goes to a position. A file goes there by [`read`](Self::read) alone.
    pub(super) fn go_to(&mut self, to: &Position) {
        if let Self::Table { position, .. } = self {
            position.clone_from(to);
        }
    }

    /// Reads the next rows, fewer than `most` at the end of the input, and passes them on to `check` with the position
    /// after them. A file is read and checked beside the caller's thread.
    pub(super) async fn read<T: Send + 'static>(
        &mut self,
        store: &Store,
        most: usize,
        check: impl FnOnce(Vec<InputRow>, Position) -> T + Send + 'static,
    ) -> Result<T, AdminError> {
        match self {
            Self::File(file) => {
                let file = Arc::clone(file);
                let read = spawn_blocking(move || {
                    let mut file = lock(&file);
                    let rows = file.read(most)?;
                    Ok(check(rows, file.position()))
                });
                read.await
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
            }
            Self::Table {
                table,
                named_type,
                position,
                ..
            } => {
                let found = insist(async || store.source_rows(table, &position.place, most).await);
                let found = found.await?;
                position.rows += found.len() as u64;
                if let Some(last) = found.last() {
                    position.place.clone_from(&last.key);
                }
                let row = |row: crate::store::SourceRow| InputRow {
                    place: format!("row {}", row.key.join(", ")),
                    named_type: *named_type,
                    row: Ok(row.row),
                };
                Ok(check(
                    found.into_iter().map(row).collect(),
                    position.clone(),
                ))
            }
        }
    }

    /// About how many rows there are; zero if unknown.
    pub(super) fn total(&self) -> u64 {
        match self {
            Self::File(file) => lock(file).total(),
            Self::Table { size, .. } => *size,
        }
    }
}

fn lock(file: &Mutex<FileRows>) -> MutexGuard<'_, FileRows> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the input at its first row.
pub(super) async fn open(
    dependencies: &Dependencies,
    options: &ImportOptions,
) -> Result<Input, AdminError> {
    let store = &dependencies.store;
    // With a given type, the column of another type's id is not the resource.
    let types: ResourceTypes = match options.resource_type {
        Some(one) => one.as_str().parse().map_err(AdminError::Invalid)?,
        None => store.resource_types().clone(),
    };
    let (input, named_type, has_type) = match &options.input {
        ImportInput::File { path, format } => {
            let file = FileRows::open(path, *format, &options.columns, &types)?;
            let columns = file.columns();
            let named = columns.and_then(|columns| columns.named_type);
            let has_type = columns.is_none_or(|columns| columns.place(Field::Type).is_some());
            (Input::File(Arc::new(Mutex::new(file))), named, has_type)
        }
        ImportInput::Table { name, key } => {
            let found = store.source_columns(name).await?;
            if found.is_empty() {
                return Err(AdminError::NotFound(format!("there is no table {name}")));
            }
            let names: Vec<&str> = found.iter().map(|column| column.name.as_str()).collect();
            let columns = options.columns.resolve(&names, &types);
            let columns = columns.map_err(AdminError::Invalid)?;
            let key = key_columns(name, key, &found)?;
            let table = SourceTable::new(name, &found, source_columns(&columns, &found), &key)
                .map_err(AdminError::Invalid)?;
            let named_type = columns.named_type;
            let input = Input::Table {
                size: store.source_size(&table).await?,
                table: Box::new(table),
                named_type,
                position: Position::default(),
            };
            (input, named_type, columns.place(Field::Type).is_some())
        }
    };
    if options.resource_type.or(named_type).is_none() && !has_type {
        let types = store.resource_types();
        return Err(AdminError::Invalid(format!(
            "no column tells the type of the resources; name it with --type: one of {types}"
        )));
    }
    Ok(input)
}

/// Finds the columns of a key by their names.
fn key_columns(
    table: &str,
    key: &[String],
    all: &[SourceColumn],
) -> Result<Vec<SourceColumn>, AdminError> {
    key.iter()
        .map(|name| {
            let column = all.iter().find(|one| one.name.eq_ignore_ascii_case(name));
            column.cloned().ok_or_else(|| {
                AdminError::Invalid(format!("the table {table} has no column '{name}'"))
            })
        })
        .collect()
}

fn source_columns(columns: &Columns, all: &[SourceColumn]) -> SourceColumns {
    let column = |field| columns.place(field).map(|place| all[place].clone());
    let needed = |field| column(field).unwrap_or_else(|| all[0].clone());
    SourceColumns {
        user: needed(Field::User),
        resource: needed(Field::Resource),
        resource_type: column(Field::Type),
        time: column(Field::Time),
        action: column(Field::Action),
        deleted: column(Field::Deleted),
    }
}
