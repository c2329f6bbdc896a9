//! Everything that differs between databases: the one place to look when another is added.

use super::source_dialect::SourceDialect;
use crate::domain::{IdKind, Priority};

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
    /// A moment, as [`time_text`](super::session::time_text) writes it.
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

    /// What keeps the database from merging a derived table into the query around it.
    fn fence(&self) -> &'static str;

    /// About how many rows a table has, by the database's own statistics: a row `(label, total)`. Costs the
    /// same whatever the table's size. A total of zero or less stands for an unknown number.
    fn estimate(&self, table: &str) -> String;

    /// What follows a query whose rows of this alias the transaction goes on to change.
    fn for_update(&self, alias: &str) -> String;

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

/// SQLite 3.51 or newer; the one that is compiled in.
#[derive(Debug)]
pub(super) struct Sqlite;

impl Dialect for Sqlite {
    fn name(&self) -> &'static str {
        "SQLite"
    }

    fn in_process(&self) -> bool {
        true
    }

    fn clock_micros(&self) -> &'static str {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    }

    fn rows(&self, param: &str, columns: &[Column]) -> String {
        let columns = spell(columns, |index, column| {
            format!("value ->> {index} AS {}", column.name())
        });
        format!("(SELECT {columns} FROM jsonb_each({param})) AS r")
    }

    fn id_column(&self, kind: IdKind) -> &'static str {
        match kind {
            IdKind::Number => "BIGINT",
            IdKind::Uuid | IdKind::Text => "TEXT",
        }
    }

    fn join(&self) -> &'static str {
        "CROSS JOIN"
    }

    fn time(&self, param: &str) -> String {
        param.to_owned()
    }

    // The text of the seconds alone: a fraction would be rounded to milliseconds.
    fn micros(&self, column: &str) -> String {
        format!(
            "(unixepoch(substr({column}, 1, 19)) * 1000000 \
             + CAST(substr({column}, 21, 6) AS INTEGER))"
        )
    }

    fn clock(&self, seconds: i64) -> String {
        format!("strftime('%Y-%m-%d %H:%M:%f', 'now', '{seconds} seconds')")
    }

    fn open_rows(&self) -> String {
        "(SELECT * FROM sync_events INDEXED BY sync_events_due_by_priority \
         WHERE next_attempt_at IS NOT NULL) AS e"
            .to_owned()
    }

    fn tables(&self) -> &'static str {
        "SELECT name AS id FROM sqlite_schema"
    }

    fn fence(&self) -> &'static str {
        " LIMIT -1"
    }

    // SQLite counts no rows. An id is given to each behavior, so the ids tell about how many there were.
    fn estimate(&self, table: &str) -> String {
        let total = match table {
            "likewise_like_counts" | "likewise_behavior_counts" => "0",
            _ => {
                "COALESCE((SELECT MAX(user_behavior_id) FROM user_behaviors) \
                 - (SELECT MIN(user_behavior_id) FROM user_behaviors) + 1, 0)"
            }
        };
        format!("SELECT '{table}' AS label, {total} AS total")
    }

    // One writer at a time, with the write lock taken at BEGIN IMMEDIATE: no row needs its own.
    fn for_update(&self, _: &str) -> String {
        String::new()
    }

    fn skip_locked(&self, _: &str) -> String {
        String::new()
    }

    fn number(&self, expression: &str) -> String {
        expression.to_owned()
    }

    fn unhex(&self, text: &str) -> String {
        format!("unhex({text})")
    }

    fn hex(&self, bytes: &str) -> String {
        format!("hex({bytes})")
    }
}

/// PostgreSQL 14 or newer.
#[derive(Debug)]
pub(super) struct Postgres;

impl Dialect for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn clock_micros(&self) -> &'static str {
        "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint"
    }

    fn rows(&self, param: &str, columns: &[Column]) -> String {
        let columns = spell(columns, |index, column| {
            let (name, cast) = match column {
                Column::Number(name) => (name, "::bigint"),
                Column::Uuid(name) => (name, "::uuid"),
                Column::User(name)
                | Column::ResourceId(name)
                | Column::Key(name)
                | Column::Word(name)
                | Column::Text(name) => (name, ""),
                Column::Time(name) => (name, "::timestamp"),
                Column::Skipped => (&"", ""),
            };
            format!("(value ->> {index}){cast} AS {name}")
        });
        format!("(SELECT {columns} FROM json_array_elements({param}::json)) AS r")
    }

    fn id(&self, kind: IdKind, param: &str) -> String {
        match kind {
            IdKind::Uuid => format!("{param}::uuid"),
            IdKind::Number | IdKind::Text => param.to_owned(),
        }
    }

    fn id_column(&self, kind: IdKind) -> &'static str {
        match kind {
            IdKind::Number => "BIGINT",
            IdKind::Uuid => "UUID",
            IdKind::Text => "TEXT COLLATE \"C\"",
        }
    }

    fn join(&self) -> &'static str {
        "JOIN"
    }

    fn time(&self, param: &str) -> String {
        format!("{param}::timestamp")
    }

    // Without the fence, PostgreSQL may read rows by their age and hope to meet open ones soon.
    fn open_rows(&self) -> String {
        format!(
            "(SELECT * FROM sync_events WHERE next_attempt_at IS NOT NULL{}) AS e",
            self.fence()
        )
    }

    fn tables(&self) -> &'static str {
        "SELECT table_name::text AS id FROM information_schema.tables \
         WHERE table_schema = current_schema()"
    }

    fn fence(&self) -> &'static str {
        " OFFSET 0"
    }

    fn estimate(&self, table: &str) -> String {
        format!(
            "SELECT '{table}' AS label, reltuples::bigint AS total FROM pg_class \
             WHERE oid = '{table}'::regclass"
        )
    }

    fn micros(&self, column: &str) -> String {
        format!("(EXTRACT(EPOCH FROM {column}) * 1000000)::bigint")
    }

    fn clock(&self, seconds: i64) -> String {
        format!("(clock_timestamp() AT TIME ZONE 'UTC' + INTERVAL '{seconds} seconds')")
    }

    fn for_update(&self, alias: &str) -> String {
        format!(" FOR UPDATE OF {alias}")
    }

    fn skip_locked(&self, alias: &str) -> String {
        format!(" FOR UPDATE OF {alias} SKIP LOCKED")
    }

    // A row lock would write the row at each batch. The number names this use of advisory locks, the object id the
    // tables of this deployment.
    fn share_marks(&self) -> Option<&'static str> {
        Some(
            "SELECT pg_advisory_xact_lock_shared(1818982765, 'likewise_erasure_epoch'::regclass::oid::int)",
        )
    }

    fn lock_marks(&self) -> Option<&'static str> {
        Some(
            "SELECT pg_advisory_xact_lock(1818982765, 'likewise_erasure_epoch'::regclass::oid::int)",
        )
    }

    fn number(&self, expression: &str) -> String {
        format!("({expression})::bigint")
    }

    fn unhex(&self, text: &str) -> String {
        format!("decode({text}, 'hex')")
    }

    fn hex(&self, bytes: &str) -> String {
        format!("encode({bytes}, 'hex')")
    }
}

/// MySQL 8 and MariaDB 10.6, or newer: the first versions with both `JSON_TABLE` and `SKIP LOCKED`.
#[derive(Debug)]
pub(super) struct Mysql;

impl Mysql {
    /// MySQL has no type of UUIDs, and MariaDB orders its own otherwise than their text.
    const UUID: &'static str = "CHAR(36) CHARACTER SET ascii COLLATE ascii_bin";

    const KEY: &'static str = "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
}

impl Dialect for Mysql {
    fn name(&self) -> &'static str {
        "MySQL"
    }

    fn clock_micros(&self) -> &'static str {
        "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
    }

    // The client asks for the rows that were found, and so for those that `ON DUPLICATE KEY UPDATE` meets.
    fn counts_only_new_rows(&self) -> bool {
        false
    }

    fn rows(&self, param: &str, columns: &[Column]) -> String {
        let columns = spell(columns, |index, column| {
            // The character set is that of the tables' columns, so that joins can use their keys.
            let (name, r#type) = match column {
                Column::Number(name) => (name, "BIGINT"),
                Column::User(name) | Column::ResourceId(name) | Column::Key(name) => {
                    (name, Self::KEY)
                }
                Column::Uuid(name) => (name, Self::UUID),
                Column::Word(name) => (name, "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin"),
                Column::Text(name) => (name, "LONGTEXT CHARACTER SET utf8mb4"),
                Column::Time(name) => (name, "DATETIME(6)"),
                Column::Skipped => (&"", ""),
            };
            format!("{name} {type} PATH '$[{index}]'")
        });
        format!("JSON_TABLE({param}, '$[*]' COLUMNS ({columns})) AS r")
    }

    // The batch first, row by row: the optimizer cannot know how long it is.
    fn id_column(&self, kind: IdKind) -> &'static str {
        match kind {
            IdKind::Number => "BIGINT",
            IdKind::Uuid => Self::UUID,
            IdKind::Text => Self::KEY,
        }
    }

    fn join(&self) -> &'static str {
        "STRAIGHT_JOIN"
    }

    fn time(&self, param: &str) -> String {
        format!("CAST({param} AS DATETIME(6))")
    }

    fn open_rows(&self) -> String {
        // The index begins with the priority, of which there are few.
        let priorities = join(&Priority::DESCENDING, |priority| {
            priority.as_number().to_string()
        });
        format!(
            "(SELECT * FROM sync_events FORCE INDEX (sync_events_due_by_priority) \
             WHERE priority IN ({priorities}) AND next_attempt_at IS NOT NULL) AS e"
        )
    }

    fn failure_status(&self) -> &'static str {
        "e.failure_status"
    }

    fn walks(&self) -> &'static [&'static str] {
        &[
            "e.failure_status IS NULL",
            "e.failure_status = 'failed'",
            "e.failure_status = 'dead'",
        ]
    }

    fn walk_of_completed(&self) -> &'static str {
        "e.failure_status IS NULL"
    }

    // No partial indexes: the column is NULL for behaviors that are not counted.
    fn counted_resource(&self) -> &'static str {
        "b.counted_resource_id"
    }

    fn tables(&self) -> &'static str {
        "SELECT table_name AS id FROM information_schema.tables WHERE table_schema = DATABASE()"
    }

    fn fence(&self) -> &'static str {
        ""
    }

    fn estimate(&self, table: &str) -> String {
        format!(
            "SELECT '{table}' AS label, CAST(COALESCE(MAX(table_rows), 0) AS SIGNED) AS total \
             FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = '{table}'"
        )
    }

    fn micros(&self, column: &str) -> String {
        format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {column})")
    }

    fn clock(&self, seconds: i64) -> String {
        format!("(UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND)")
    }

    // MariaDB knows no FOR UPDATE OF; a batch has no rows to lock.
    fn for_update(&self, _: &str) -> String {
        " FOR UPDATE".to_owned()
    }

    fn skip_locked(&self, _: &str) -> String {
        " FOR UPDATE SKIP LOCKED".to_owned()
    }

    // MariaDB knows no FOR SHARE.
    fn for_share(&self) -> &'static str {
        " LOCK IN SHARE MODE"
    }

    fn on_conflict(&self, table: &str, key: &[&str], set: &[(&str, String)]) -> String {
        if set.is_empty() {
            // IGNORE would let pass whatever else is wrong with the row.
            let column = key[0];
            return format!("ON DUPLICATE KEY UPDATE {column} = {table}.{column}");
        }
        let set = join(set, |(column, value)| format!("{column} = {value}"));
        format!("ON DUPLICATE KEY UPDATE {set}")
    }

    // The statement counts rows that it finds like those that it inserts.
    fn on_unexpected(&self, _: &str) -> String {
        String::new()
    }

    // MySQL 8.0.20 prefers an alias, which MariaDB does not know.
    fn incoming(&self, column: &str) -> String {
        format!("VALUES({column})")
    }

    fn number(&self, expression: &str) -> String {
        format!("CAST({expression} AS SIGNED)")
    }

    fn unhex(&self, text: &str) -> String {
        format!("UNHEX({text})")
    }

    fn hex(&self, bytes: &str) -> String {
        format!("HEX({bytes})")
    }

    fn update(&self, table: &str, rows: &str, on: &str, set: &[(&str, &str)]) -> String {
        let set = join(set, |(column, value)| format!("e.{column} = {value}"));
        format!("UPDATE {rows} STRAIGHT_JOIN {table} AS e ON {on} SET {set}")
    }

    fn delete(&self, table: &str, rows: &str, key: &[(&str, &str)]) -> String {
        let on: Vec<_> = key
            .iter()
            .map(|(column, value)| format!("e.{column} = {value}"))
            .collect();
        let on = on.join(" AND ");
        format!("DELETE e FROM {rows} STRAIGHT_JOIN {table} AS e ON {on}")
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
