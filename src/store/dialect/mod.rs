//! Everything that differs between databases: the one place to look when another is added.

mod mysql;
mod postgres;
mod source;
mod sqlite;

pub(super) use mysql::Mysql;
pub(super) use postgres::Postgres;
pub(super) use source::SourceDialect;
pub(super) use sqlite::Sqlite;

use crate::domain::IdKind;

/// A column of a batch that is bound as one JSON array of arrays.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    /// A 64-bit integer, or a truth value as 0 and 1.
    Number(&'static str),
    /// The id of a user: the schema replaces it by the column of its kind.
    User(&'static str),
    /// The id of a resource: the schema replaces it by the column of its kind.
    ResourceId(&'static str),
    /// A UUID, as canonical text.
    Uuid(&'static str),
    /// An id that is text, of at most 64 bytes.
    Key(&'static str),
    /// A short ASCII word: an event id, a status, a kind.
    Word(&'static str),
    /// Any text.
    Text(&'static str),
    /// A moment, as [`time_text`](super::statement::time_text) writes it.
    Time(&'static str),
    /// A value that the statement does not read.
    Skipped,
}

impl Column {
    const fn name(&self) -> &'static str {
        match self {
            Self::Number(name)
            | Self::User(name)
            | Self::ResourceId(name)
            | Self::Uuid(name)
            | Self::Key(name)
            | Self::Word(name)
            | Self::Text(name)
            | Self::Time(name) => name,
            Self::Skipped => "",
        }
    }
}

/// How one database says what the others say in other words.
///
/// A batch travels as a single parameter, a JSON array of arrays, that the database turns into rows:
/// one statement text for any number of rows, so it is prepared once, and no limit on placeholders.
pub(super) trait Dialect: SourceDialect {
    /// The name of the database's kind, for people.
    fn name(&self) -> &'static str;

    /// Whether the database runs in this process, so that it cannot fail to answer.
    fn in_process(&self) -> bool {
        false
    }

    /// The database's time as an integer, in microseconds since 1970.
    fn clock_micros(&self) -> &'static str;

    /// Whether an insert that leaves existing rows as they are counts only the rows that are new.
    fn counts_only_new_rows(&self) -> bool {
        true
    }

    /// A derived table named `r` with these columns, fed by this parameter.
    fn rows(&self, param: &str, columns: &[Column]) -> String;

    /// This parameter, read as an id of a kind.
    fn id(&self, _kind: IdKind, param: &str) -> String {
        param.to_owned()
    }

    /// The type of a column of ids, in a table.
    fn id_column(&self, kind: IdKind) -> &'static str;

    /// A join that looks the right-hand table up for each row of the left.
    fn join(&self) -> &'static str;

    /// This parameter, read as a moment.
    fn time(&self, param: &str) -> String;

    /// The moment of `r.version` in a batch, computed. `None` if the statement reads its text instead, as
    /// [`time_text`](super::statement::time_text) writes it, because that costs less.
    fn moment_of_version(&self) -> Option<&'static str> {
        None
    }

    /// The newest rows of the log, as a table named `r`; this parameter is their number. `None` if other transactions may
    /// insert behaviors between those of this one.
    fn newest_behaviors(&self, _number: &str) -> Option<String> {
        None
    }

    /// The moment in this column, in microseconds since 1970.
    fn micros(&self, column: &str) -> String;

    /// The database's own clock, so many seconds from now.
    fn clock(&self, seconds: i64) -> String;

    /// The open rows of the ledger, as `e`, found through the index of due rows.
    fn open_rows(&self) -> String;

    /// The column of the ledger that an index finds failed and dead rows by: it has their status.
    fn failure_status(&self) -> &'static str {
        "e.status"
    }

    /// Conditions on a ledger row `e` under each of which an index has the rows in the order of `created_at`;
    /// together they are all rows.
    fn walks(&self) -> &'static [&'static str] {
        &["true"]
    }

    /// The condition of those of the [`walks`](Self::walks) that completed rows are in.
    fn walk_of_completed(&self) -> &'static str {
        "true"
    }

    /// The column by which an index finds the counted behaviors `b` of a resource: it has the resource's id.
    fn counted_resource(&self) -> &'static str {
        "b.resource_id"
    }

    /// The names of all tables and views, as `id`.
    fn tables(&self) -> &'static str;

    /// Returns the text before the number of a parameter that is a limit.
    fn limit_by_parameter(&self) -> &'static str {
        "LIMIT $"
    }

    /// What keeps the database from merging a derived table into the query around it.
    fn fence(&self) -> &'static str;

    /// About how many rows a table has, by the database's own statistics: a row `(label, total)`. Costs the
    /// same whatever the table's size. A total of zero or less stands for an unknown number.
    fn estimate(&self, table: &str) -> String;

    /// What follows a query whose rows of this alias the transaction goes on to change.
    fn for_update(&self, alias: &str) -> String;

    /// As [`for_update`](Self::for_update), for a query that finds the rows by a [`join`](Self::join) with a batch that is in
    /// this order. Locks them in this order.
    fn for_update_in_order(&self, alias: &str, order: &str) -> String {
        format!(" ORDER BY {order}{}", self.for_update(alias))
    }

    /// As [`for_update`](Self::for_update), passing over rows that another transaction holds.
    fn skip_locked(&self, alias: &str) -> String;

    /// What follows a query whose rows stay as they are until the transaction ends, although others may read them too.
    fn for_share(&self) -> &'static str {
        ""
    }

    /// A statement that locks out [`lock_marks`](Self::lock_marks) until the transaction ends, if that takes a statement
    /// of its own.
    fn share_marks(&self) -> Option<&'static str> {
        None
    }

    /// A statement that waits for the transactions of [`share_marks`](Self::share_marks).
    fn lock_marks(&self) -> Option<&'static str> {
        None
    }

    /// What follows `INSERT INTO table ... SELECT` when a row with this key may be there already: `set`
    /// names the columns to write and with what; empty leaves the row as it is.
    fn on_conflict(&self, _table: &str, key: &[&str], set: &[(&str, String)]) -> String {
        let key = key.join(", ");
        if set.is_empty() {
            return format!("ON CONFLICT ({key}) DO NOTHING");
        }
        let set = join(set, |(column, value)| format!("{column} = {value}"));
        format!("ON CONFLICT ({key}) DO UPDATE SET {set}")
    }

    /// What follows `INSERT INTO table ... SELECT` of rows that are new: a row whose key is there already is not inserted,
    /// or fails the statement.
    fn on_unexpected(&self, key: &str) -> String {
        format!("ON CONFLICT ({key}) DO NOTHING")
    }

    /// In `on_conflict`, the value that the insert brought for a column.
    fn incoming(&self, column: &str) -> String {
        format!("excluded.{column}")
    }

    /// This expression as a 64-bit integer.
    fn number(&self, expression: &str) -> String;

    /// The bytes that this text spells in hexadecimal.
    fn unhex(&self, text: &str) -> String;

    /// These bytes, spelled in hexadecimal.
    fn hex(&self, bytes: &str) -> String;

    /// Changes the rows of a table, under the alias `e`, that match a row of the batch `rows`.
    fn update(&self, table: &str, rows: &str, on: &str, set: &[(&str, &str)]) -> String {
        let set = join(set, |(column, value)| format!("{column} = {value}"));
        format!("UPDATE {table} AS e SET {set} FROM {rows} WHERE {on}")
    }

    /// Deletes the rows of a table whose key, column by column, is in the batch `rows`.
    fn delete(&self, table: &str, rows: &str, key: &[(&str, &str)]) -> String {
        let columns = join(key, |(column, _)| (*column).to_owned());
        let values = join(key, |(_, value)| (*value).to_owned());
        format!("DELETE FROM {table} WHERE ({columns}) IN (SELECT {values} FROM {rows})")
    }
}

/// The columns of a batch, each spelled from its place in the row.
fn spell(columns: &[Column], one: impl Fn(usize, &Column) -> String) -> String {
    let spelled: Vec<_> = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !matches!(column, Column::Skipped))
        .map(|(index, column)| one(index, column))
        .collect();
    spelled.join(", ")
}

fn join<T>(items: &[T], one: impl Fn(&T) -> String) -> String {
    let spelled: Vec<_> = items.iter().map(one).collect();
    spelled.join(", ")
}
