//! Everything that differs between databases: the one place to look when another is added.

/// A column of a batch that is bound as one JSON array of arrays.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    /// A 64-bit integer, or a truth value as 0 and 1.
    Number(&'static str),
    /// A short ASCII word: an event id, a status, a kind.
    Word(&'static str),
    /// Any text.
    Text(&'static str),
    /// A moment, as [`time_text`](super::rows::time_text) writes it.
    Time(&'static str),
}

/// How one database says what the others say in other words.
///
/// A batch travels as a single parameter, a JSON array of arrays, that the database turns into rows:
/// one statement text for any number of rows, so it is prepared once, and no limit on placeholders.
pub(super) trait Dialect: Send + Sync {
    /// A derived table named `r` with these columns, fed by this parameter.
    fn rows(&self, param: &str, columns: &[Column]) -> String;

    /// A join that looks the right-hand table up for each row of the left.
    fn join(&self) -> &'static str;

    /// This parameter, read as a moment.
    fn time(&self, param: &str) -> String;

    /// What follows a query whose rows of this alias the transaction goes on to change.
    fn for_update(&self, alias: &str) -> String;

    /// As [`for_update`](Self::for_update), passing over rows that another transaction holds.
    fn skip_locked(&self, alias: &str) -> String;

    /// What follows `INSERT ... SELECT` when a row with this key may be there already: `set` names
    /// the columns to write and with what; empty leaves the row as it is.
    fn on_conflict(&self, key: &[&str], set: &[(&str, String)]) -> String;

    /// In `on_conflict`, the value that the insert brought for a column.
    fn incoming(&self, column: &str) -> String;

    /// Changes the rows of a table, under the alias `e`, that match a row of the batch `rows`.
    fn update(&self, table: &str, rows: &str, on: &str, set: &[(&str, &str)]) -> String;
}

/// SQLite 3.44 or newer; the one that is compiled in.
#[derive(Debug)]
pub(super) struct Sqlite;

impl Dialect for Sqlite {
    fn rows(&self, param: &str, columns: &[Column]) -> String {
        let columns: Vec<_> = columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let (Column::Number(name)
                | Column::Word(name)
                | Column::Text(name)
                | Column::Time(name)) = column;
                format!("value ->> {index} AS {name}")
            })
            .collect();
        format!(
            "(SELECT {} FROM json_each({param})) AS r",
            columns.join(", ")
        )
    }

    fn join(&self) -> &'static str {
        "CROSS JOIN"
    }

    fn time(&self, param: &str) -> String {
        param.to_owned()
    }

    // One writer at a time, with the write lock taken at BEGIN IMMEDIATE: no row needs its own.
    fn for_update(&self, _: &str) -> String {
        String::new()
    }

    fn skip_locked(&self, _: &str) -> String {
        String::new()
    }

    fn on_conflict(&self, key: &[&str], set: &[(&str, String)]) -> String {
        on_conflict_do(key, set)
    }

    fn incoming(&self, column: &str) -> String {
        format!("excluded.{column}")
    }

    fn update(&self, table: &str, rows: &str, on: &str, set: &[(&str, &str)]) -> String {
        let set: Vec<_> = set
            .iter()
            .map(|(column, value)| format!("{column} = {value}"))
            .collect();
        format!(
            "UPDATE {table} AS e SET {} FROM {rows} WHERE {on}",
            set.join(", ")
        )
    }
}

/// The upsert that SQLite shares with PostgreSQL.
fn on_conflict_do(key: &[&str], set: &[(&str, String)]) -> String {
    let key = key.join(", ");
    if set.is_empty() {
        return format!("ON CONFLICT ({key}) DO NOTHING");
    }
    let set: Vec<_> = set
        .iter()
        .map(|(column, value)| format!("{column} = {value}"))
        .collect();
    format!("ON CONFLICT ({key}) DO UPDATE SET {}", set.join(", "))
}
