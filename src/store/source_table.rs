//! Reads an existing table of likes of the product, in chunks by its key. Called by `admin/import/`. The names of the
//! table and its columns come from an operator, so they are checked and quoted, and the prefix of our tables does not
//! apply to them.

use diesel::prelude::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::error::StoreError;
use super::pool::IMPORT_TIMEOUT;
use super::session::Session;
use super::statement::{Param, Statement};
use super::{Store, read};
use crate::domain::ImportedRow;

/// The most columns of a key.
const KEY_COLUMNS: usize = 4;

/// A column of the table.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct SourceColumn {
    /// Its name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Its type, as the database names it, in lower case.
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// Its place in the primary key, from 1; zero if it is not part of it.
    #[diesel(sql_type = BigInt)]
    pub key_place: i64,
}

/// Which column of the table is which.
#[derive(Debug, Clone)]
pub struct SourceColumns {
    /// The user's id.
    pub user: SourceColumn,
    /// The resource's id.
    pub resource: SourceColumn,
    /// The resource's type.
    pub resource_type: Option<SourceColumn>,
    /// The time of the like.
    pub time: Option<SourceColumn>,
    /// The action.
    pub action: Option<SourceColumn>,
    /// When the like was taken back, or whether it was.
    pub deleted: Option<SourceColumn>,
}

/// A table to read.
#[derive(Debug, Clone)]
pub struct SourceTable {
    name: String,
    columns: SourceColumns,
    key: Vec<SourceColumn>,
}

/// A row of the table.
#[derive(Debug, Clone)]
pub struct SourceRow {
    /// Its key, as text.
    pub key: Vec<String>,
    /// What it says.
    pub row: ImportedRow,
}

impl SourceTable {
    /// Reads this table in the order of these columns, which must be unique and not null: by default the primary key.
    ///
    /// # Errors
    /// If there is no key, or none that this code can walk along. The reason is for people.
    pub fn new(
        name: &str,
        all: &[SourceColumn],
        columns: SourceColumns,
        key: &[SourceColumn],
    ) -> Result<Self, String> {
        let mut primary: Vec<_> = all
            .iter()
            .filter(|one| one.key_place > 0)
            .cloned()
            .collect();
        primary.sort_by_key(|one| one.key_place);
        let key = if key.is_empty() {
            primary
        } else {
            key.to_vec()
        };
        match key.len() {
            0 => Err(format!(
                "the table {name} has no primary key to read it by: name the columns of a unique index with --key"
            )),
            1..=KEY_COLUMNS => Ok(Self {
                name: name.to_owned(),
                columns,
                key,
            }),
            more => Err(format!(
                "the key of the table {name} has {more} columns, and an import reads by {KEY_COLUMNS} at most: name \
                 the columns of a shorter unique index with --key"
            )),
        }
    }
}

/// Whether a name can be quoted as it is.
fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Store {
    /// Returns the columns of a table of the product, in its order; empty if there is no such table.
    ///
    /// # Errors
    /// If the name is not usable, or names one of Likewise's tables, or the database cannot be read.
    pub async fn source_columns(&self, table: &str) -> Result<Vec<SourceColumn>, StoreError> {
        if !is_plain(table) {
            return Err(StoreError::Refused(format!(
                "'{table:.80}' is not a table name that an import can read: letters, digits and _ only, without a schema"
            )));
        }
        if self.schema.is_own(table) {
            return Err(StoreError::Refused(format!(
                "the table {table} is Likewise's own; an import reads a table of the product"
            )));
        }
        read!(self, self.inspect_timeout(), |session| columns(
            session, table
        ))
    }

    /// Reads the rows that follow this key, or the first ones; `limit` at most.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn source_rows(
        &self,
        table: &SourceTable,
        after: &[String],
        limit: usize,
    ) -> Result<Vec<SourceRow>, StoreError> {
        read!(self, IMPORT_TIMEOUT, |session| rows(
            session, table, after, limit
        ))
    }

    /// Returns about how many rows the table has; zero if unknown.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn source_size(&self, table: &SourceTable) -> Result<u64, StoreError> {
        read!(self, self.inspect_timeout(), |session| size(session, table))
    }
}

/// Returns the columns of a table, in its order; empty if there is no such table.
pub(super) async fn columns<S: Session>(
    session: &mut S,
    table: &str,
) -> Result<Vec<SourceColumn>, StoreError> {
    let statement = Statement::parse(&session.schema().source_columns(table));
    let found: Vec<SourceColumn> = session.load(&statement, &[]).await?;
    // Columns that cannot be quoted as they are cannot be asked for.
    Ok(found
        .into_iter()
        .filter(|one| is_plain(&one.name))
        .collect())
}

async fn size<S: Session>(session: &mut S, table: &SourceTable) -> Result<u64, StoreError> {
    let statement = Statement::parse(&session.schema().source_size(&table.name));
    let size = session.total(&statement, &[]).await?;
    Ok(u64::try_from(size).unwrap_or_default())
}

async fn rows<S: Session>(
    session: &mut S,
    table: &SourceTable,
    after: &[String],
    limit: usize,
) -> Result<Vec<SourceRow>, StoreError> {
    let d = session.schema();
    let quoted = |column: &SourceColumn| d.quoted(&column.name);
    let text = |column: Option<&SourceColumn>| match column {
        Some(column) => d.source_text(&quoted(column), &column.kind),
        None => "CAST(NULL AS CHAR(1))".to_owned(),
    };
    let columns = &table.columns;
    let mut select = vec![
        format!("{} AS user_id", text(Some(&columns.user))),
        format!("{} AS resource_id", text(Some(&columns.resource))),
        format!("{} AS resource_type", text(columns.resource_type.as_ref())),
        format!("{} AS happened_at", text(columns.time.as_ref())),
        format!("{} AS action_type", text(columns.action.as_ref())),
        format!("{} AS taken_back", text(columns.deleted.as_ref())),
    ];
    for place in 0..KEY_COLUMNS {
        let column = table.key.get(place);
        let key = column.map(|column| d.source_key(&quoted(column), &column.kind));
        let key = key.unwrap_or_else(|| text(None));
        select.push(format!("{key} AS key_{place}"));
    }
    let mut params = Vec::new();
    let mut values = Vec::new();
    if after.len() == table.key.len() {
        for (value, column) in after.iter().zip(&table.key) {
            params.push(match value.parse() {
                Ok(number) if d.is_bound_as_number(&column.kind) => Param::Number(number),
                _ => Param::Text(value.clone()),
            });
            values.push(d.source_param(&format!("${}", params.len()), &column.kind));
        }
    }
    let key: Vec<_> = table.key.iter().map(quoted).collect();
    let sql = format!(
        "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {limit}",
        select.join(", "),
        d.quoted(&table.name),
        beyond(&key, &values),
        key.join(", ")
    );
    let rows: Vec<TableRow> = session.load(&Statement::parse(&sql), &params).await?;
    rows.into_iter()
        .map(|row| row.read(table.key.len()))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            StoreError::Refused(format!(
                "the key of the table {} is null in some row: name the columns of another unique index with --key",
                table.name
            ))
        })
}

/// The condition on rows whose key follows these values. The bound on the first column lets every database use the
/// index.
fn beyond(key: &[String], values: &[String]) -> String {
    let ([first, ..], [value, ..]) = (key, values) else {
        return "1 = 1".to_owned();
    };
    let mut condition = String::new();
    for (column, value) in key.iter().zip(values).rev() {
        condition = match condition.as_str() {
            "" => format!("{column} > {value}"),
            after => format!("({column} > {value} OR ({column} = {value} AND {after}))"),
        };
    }
    format!("{first} >= {value} AND {condition}")
}

#[derive(QueryableByName)]
struct TableRow {
    #[diesel(sql_type = Nullable<Text>)]
    user_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    resource_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    resource_type: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    happened_at: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    action_type: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    taken_back: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    key_0: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    key_1: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    key_2: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    key_3: Option<String>,
}

impl TableRow {
    /// Returns the row; `None` if a column of the key is null.
    fn read(self, key: usize) -> Option<SourceRow> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let keys = [self.key_0, self.key_1, self.key_2, self.key_3];
        Some(SourceRow {
            key: keys.into_iter().take(key).collect::<Option<_>>()?,
            row: ImportedRow {
                user: filled(self.user_id),
                resource: filled(self.resource_id),
                resource_type: filled(self.resource_type),
                time: filled(self.happened_at),
                action: filled(self.action_type),
                deleted: filled(self.taken_back),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composite_key_is_walked_in_order() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|one| (*one).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(beyond(&names(&["a"]), &[]), "1 = 1");
        assert_eq!(
            beyond(&names(&["a"]), &names(&["$1"])),
            "a >= $1 AND a > $1"
        );
        assert_eq!(
            beyond(&names(&["a", "b"]), &names(&["$1", "$2"])),
            "a >= $1 AND (a > $1 OR (a = $1 AND b > $2))"
        );
    }

    #[test]
    fn names_that_need_escaping_are_refused() {
        for name in ["", "a`b", "a\"b", "a.b", "a b", "a;b", "é", &"x".repeat(65)] {
            assert!(!is_plain(name), "{name}");
        }
        assert!(is_plain("old_likes2"));
    }
}
